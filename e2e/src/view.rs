//! What a person sees of a cluster that comes up: a tree of machines, hosts and addresses with state and reason.
//!
//! [`World`] is read from the API as it is; [`tree`] and [`changes`] only format it, so that what is shown can be tested without one.

use std::collections::BTreeMap;

use serde_json::Value;

/// The objects of one namespace that the tree is made of, as the API serves them.
#[derive(Default, Clone)]
pub struct World {
    pub clusters: Vec<Value>,
    pub control_planes: Vec<Value>,
    pub deployments: Vec<Value>,
    pub machines: Vec<Value>,
    pub metal3_machines: Vec<Value>,
    pub hosts: Vec<Value>,
    /// IPClaims, to show which address a machine got.
    pub addresses: Vec<Value>,
    pub datas: Vec<Value>,
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, path: &str) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or_default()
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Status and message of a condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| text(condition, "/type") == kind)?;
    let message = [text(found, "/message"), text(found, "/reason")].into_iter().find(|text| !text.is_empty());
    Some((text(found, "/status"), message.unwrap_or_default()))
}

fn owned_by<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| text(owner, "/kind") == kind).map(|owner| text(owner, "/name"))
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"].get(key).and_then(Value::as_str)
}

impl World {
    fn metal3_machine(&self, machine: &Value) -> Option<&Value> {
        let wanted = text(machine, "/spec/infrastructureRef/name");
        self.metal3_machines.iter().find(|candidate| name(candidate) == wanted)
    }

    fn host_of(&self, metal3_machine: &Value) -> Option<&Value> {
        let wanted = name(metal3_machine);
        self.hosts.iter().find(|host| {
            text(host, "/spec/consumerRef/kind") == "Metal3Machine" && text(host, "/spec/consumerRef/name") == wanted
        })
    }

    fn addresses_of(&self, metal3_machine: &Value) -> Vec<&str> {
        let datas = self.datas.iter().filter(|data| owned_by(data, "Metal3Machine") == Some(name(metal3_machine)));
        let owners: Vec<&str> = datas.map(name).collect();
        let ours = |address: &&Value| {
            let claim = text(address, "/spec/claim/name");
            owners.iter().any(|data| claim.strip_prefix(data).is_some_and(|rest| rest.starts_with('-')))
        };
        self.addresses.iter().filter(ours).map(|address| text(address, "/spec/address")).collect()
    }

    /// One machine in a few words: phase, host and its state, addresses, and what it waits for.
    fn describe(&self, machine: &Value) -> String {
        let mut parts = vec![format!("{:<13}", text(machine, "/status/phase"))];
        let metal3_machine = self.metal3_machine(machine);
        if let Some(metal3_machine) = metal3_machine {
            if let Some(host) = self.host_of(metal3_machine) {
                let power = if host.pointer("/status/poweredOn") == Some(&Value::Bool(true)) { ", on" } else { "" };
                parts.push(format!("{} ({}{power})", name(host), text(host, "/status/provisioning/state")));
                let error = text(host, "/status/errorMessage");
                if !error.is_empty() {
                    parts.push(format!("host error: {error}"));
                }
            }
            parts.extend(Some(self.addresses_of(metal3_machine).join(" ")).filter(|addresses| !addresses.is_empty()));
        }
        let node = text(machine, "/status/nodeRef/name");
        if !node.is_empty() {
            let ready = condition(machine, "NodeReady").is_some_and(|(status, _)| status == "True");
            parts.push(format!("Node {}", if ready { "ready" } else { "registered" }));
        } else if let Some(("False" | "Unknown", message)) = metal3_machine.and_then(|m| condition(m, "Ready")) {
            parts.push(message.lines().map(|line| line.trim_start_matches("* ")).collect::<Vec<_>>().join("; "));
        }
        parts.join("  ")
    }
}

/// The whole picture, one line each.
pub fn tree(world: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for cluster in &world.clusters {
        let ours = |object: &&Value| label(object, "cluster.x-k8s.io/cluster-name") == Some(name(cluster));
        let available = match condition(cluster, "Available") {
            Some(("True", _)) => "Available".to_owned(),
            Some((_, message)) => format!("not available: {}", message.lines().next().unwrap_or_default()),
            None => String::new(),
        };
        let endpoint = match text(cluster, "/spec/controlPlaneEndpoint/host") {
            "" => String::new(),
            host => format!("https://{host}:{}", number(cluster, "/spec/controlPlaneEndpoint/port")),
        };
        lines.push(format!("Cluster {}  {}  {endpoint}  {available}", name(cluster), text(cluster, "/status/phase")));
        let groups = world.control_planes.iter().filter(ours).map(|object| ("control plane", object));
        let groups: Vec<_> =
            groups.chain(world.deployments.iter().filter(ours).map(|object| ("workers", object))).collect();
        for (index, (title, group)) in groups.iter().enumerate() {
            let last = index + 1 == groups.len();
            let (tee, pipe) = if last { ("└─", "  ") } else { ("├─", "│ ") };
            lines.push(format!(
                "{tee} {title} {}  {}/{} available",
                name(group),
                number(group, "/status/availableReplicas"),
                number(group, "/spec/replicas")
            ));
            let control = *title == "control plane";
            let members: Vec<&Value> = world
                .machines
                .iter()
                .filter(ours)
                .filter(|machine| label(machine, "cluster.x-k8s.io/control-plane").is_some() == control)
                .collect();
            for (index, machine) in members.iter().enumerate() {
                let tee = if index + 1 == members.len() { "└─" } else { "├─" };
                lines.push(format!("{pipe} {tee} {:<24} {}", name(machine), world.describe(machine)));
            }
        }
    }
    let mut states: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for host in world.hosts.iter().filter(|host| text(host, "/spec/consumerRef/name").is_empty()) {
        let state = Some(text(host, "/status/provisioning/state")).filter(|s| !s.is_empty()).unwrap_or("new");
        states.entry(state).or_default().push(name(host));
    }
    let free: Vec<String> = states.iter().map(|(state, hosts)| format!("{state}: {}", hosts.join(" "))).collect();
    if !free.is_empty() {
        lines.push(format!("Free hosts  {}", free.join("  ")));
    }
    lines
}

/// For output that is no terminal: a line for each thing whose description changed.
pub fn changes(before: &World, after: &World) -> Vec<String> {
    let describe = |world: &World| -> BTreeMap<String, String> {
        let machines = world.machines.iter().map(|m| (format!("machine {}", name(m)), world.describe(m)));
        let hosts = world.hosts.iter().map(|host| {
            let consumer = text(host, "/spec/consumerRef/name");
            let holder = if consumer.is_empty() { String::new() } else { format!(" for {consumer}") };
            let state = text(host, "/status/provisioning/state");
            (format!("host {}", name(host)), format!("{state}{holder}"))
        });
        machines.chain(hosts).collect()
    };
    let (before, after) = (describe(before), describe(after));
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| format!("{key} gone"));
    let new = after.iter().filter(|(key, text)| before.get(*key) != Some(text));
    gone.chain(new.map(|(key, text)| format!("{key}  {text}"))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn world() -> World {
        let labels = json!({"cluster.x-k8s.io/cluster-name": "demo"});
        World {
            clusters: vec![json!({
                "metadata": {"name": "demo"},
                "spec": {"controlPlaneEndpoint": {"host": "198.51.100.100", "port": 6443}},
                "status": {"phase": "Provisioned", "conditions": [{"type": "Available", "status": "False", "message": "* waiting"}]},
            })],
            deployments: vec![json!({"metadata": {"name": "demo", "labels": labels}, "spec": {"replicas": 1}})],
            machines: vec![json!({
                "metadata": {"name": "m1", "labels": labels},
                "spec": {"infrastructureRef": {"name": "m1"}},
                "status": {"phase": "Provisioning"},
            })],
            metal3_machines: vec![json!({"metadata": {"name": "m1"}, "status": {"conditions": [
                {"type": "Ready", "status": "False", "message": "* AssociateBareMetalHost: none of 2 hosts fits: 2 claimed"},
            ]}})],
            hosts: vec![json!({"metadata": {"name": "node-1"}, "status": {"provisioning": {"state": "available"}}})],
            ..World::default()
        }
    }

    #[test]
    fn a_machine_without_a_host_shows_why() {
        let lines = tree(&world());
        assert_eq!(lines[0], "Cluster demo  Provisioned  https://198.51.100.100:6443  not available: * waiting");
        assert_eq!(lines[1], "└─ workers demo  0/1 available");
        assert!(lines[2].contains("AssociateBareMetalHost: none of 2 hosts fits: 2 claimed"), "{}", lines[2]);
        assert_eq!(lines[3], "Free hosts  available: node-1");
    }

    #[test]
    fn only_what_changed_is_told() {
        let (before, mut after) = (world(), world());
        assert!(changes(&before, &after).is_empty());
        after.hosts[0]["spec"] = json!({"consumerRef": {"kind": "Metal3Machine", "name": "m1"}});
        let told = changes(&before, &after);
        assert!(told.contains(&"host node-1  available for m1".to_owned()), "{told:?}");
        after.machines.clear();
        assert!(changes(&before, &after).contains(&"machine m1 gone".to_owned()));
    }
}
