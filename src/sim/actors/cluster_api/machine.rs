//! A Machine: what it refers to is adopted, what comes of it is copied, and it leaves last (T6 to T8, T12, T15, K-161, K-192).

use std::sync::Arc;

use capm3_api::names::{annotation, label};
use serde_json::{Value, json};

use super::super::{Act, View, delete, finalized, has_finalizer, is_deleting, name, patch, patch_status, push, put};
use super::{controller_of, is_owned_by, is_paused, owner_of};
use crate::world::Deed;
use crate::world::kinds::*;

const FINALIZER: &str = "machine.cluster.x-k8s.io";
const HOOKS: [&str; 2] =
    ["pre-drain.delete.hook.machine.cluster.x-k8s.io/", "pre-terminate.delete.hook.machine.cluster.x-k8s.io/"];

pub(super) fn decide(view: &dyn View, machine: &Value) -> Vec<Act> {
    let cluster = view.get(CLUSTER, machine["spec"]["clusterName"].as_str().unwrap_or_default());
    if is_paused(&cluster, machine) {
        return Vec::new();
    }
    let referred = |kind: Kind, reference: &Value| view.get(kind, reference["name"].as_str().unwrap_or_default());
    let infra = referred(METAL3_MACHINE, &machine["spec"]["infrastructureRef"]);
    let config = referred(BOOTSTRAP, &machine["spec"]["bootstrap"]["configRef"]);
    if is_deleting(machine) {
        return leave(view, &cluster, machine, &infra, &config);
    }
    if cluster.is_null() {
        return Vec::new();
    }
    let (mut acts, mut wanted) = (Vec::new(), machine.clone());
    push(&mut wanted["metadata"]["finalizers"], FINALIZER.into());
    put(&mut wanted, &["metadata", "labels", label::CLUSTER_NAME], name(&cluster));
    if super::owners(machine).next().is_none() {
        push(&mut wanted["metadata"]["ownerReferences"], owner_of(CLUSTER, &cluster));
    }
    acts.extend(adopt(BOOTSTRAP, &config, machine, &cluster));
    acts.extend(adopt(METAL3_MACHINE, &infra, machine, &cluster));
    acts.extend(bootstrap(view, &cluster, machine, &config));
    if let Some(secret) = config["status"]["dataSecretName"].as_str() {
        put(&mut wanted, &["spec", "bootstrap", "dataSecretName"], secret);
    }
    if wanted["spec"]["bootstrap"]["dataSecretName"].is_string() {
        put(&mut wanted, &["status", "initialization", "bootstrapDataSecretCreated"], true);
    }
    if infra["status"]["initialization"]["provisioned"] == true && infra["spec"]["providerID"].is_string() {
        wanted["spec"]["providerID"] = infra["spec"]["providerID"].clone();
        put(&mut wanted, &["status", "initialization", "infrastructureProvisioned"], true);
        wanted["status"]["addresses"] = infra["status"]["addresses"].clone();
        if infra["spec"]["failureDomain"].is_string() {
            wanted["spec"]["failureDomain"] = infra["spec"]["failureDomain"].clone();
        }
    }
    if let Some(ready) = mirrored(&infra) {
        // Others say other things of it.
        let known = machine["status"]["conditions"].as_array();
        let others = known.into_iter().flatten().filter(|known| known["type"] != ready["type"]).cloned();
        wanted["status"]["conditions"] = std::iter::once(ready.clone()).chain(others).collect();
    }
    acts.extend(patch(MACHINE, machine, &wanted));
    if let Some(node) = the_node(view, &wanted["spec"]["providerID"]) {
        put(&mut wanted, &["status", "nodeRef", "name"], name(&node));
        let mut tagged = Value::clone(&node);
        for (key, value) in [("cluster-name", name(&cluster)), ("machine", name(machine))] {
            put(&mut tagged, &["metadata", "annotations", &format!("cluster.x-k8s.io/{key}")], value);
        }
        acts.extend(patch(NODE, &node, &tagged));
    }
    wanted["status"]["phase"] = phase(&wanted).into();
    acts.extend(patch_status(MACHINE, machine, &wanted));
    acts
}

/// The only Node of this provider ID (K-25).
fn the_node(view: &dyn View, id: &Value) -> Option<Arc<Value>> {
    let mut mine = view.all(NODE).into_iter().filter(|node| id.is_string() && node["spec"]["providerID"] == *id);
    let node = mine.next()?;
    mine.next().is_none().then_some(node)
}

/// The controller owner and the cluster's label; whoever made it is no owner any more (K-31).
fn adopt(kind: Kind, object: &Value, machine: &Value, cluster: &Value) -> Option<Act> {
    if object.is_null() || is_deleting(object) {
        return None;
    }
    let mut adopted = object.clone();
    if !is_owned_by(object, machine) {
        let makers = ["MachineSet", "KubeadmControlPlane"];
        let stays = |owner: &&Value| !makers.iter().any(|maker| owner["kind"] == *maker);
        let mut owners = vec![controller_of(MACHINE, machine)];
        owners.extend(super::owners(object).filter(stays).cloned());
        adopted["metadata"]["ownerReferences"] = owners.into();
    }
    put(&mut adopted, &["metadata", "labels", label::CLUSTER_NAME], name(cluster));
    patch(kind, object, &adopted)
}

/// The bootstrap provider: writes the data once the cluster can be joined (T7, T16, K-165).
fn bootstrap(view: &dyn View, cluster: &Value, machine: &Value, config: &Value) -> Vec<Act> {
    let done = |what: &str| cluster["status"]["initialization"][what] == true;
    let first = !machine["metadata"]["labels"][label::CONTROL_PLANE].is_null();
    let can_join = done("infrastructureProvisioned") && (first || done("controlPlaneInitialized"));
    if config.is_null() || is_deleting(config) || !is_owned_by(config, machine) || !can_join {
        return Vec::new();
    }
    if config["status"]["dataSecretName"].is_string() {
        return Vec::new();
    }
    let mut acts = Vec::new();
    let (secret, owner) = (name(config), controller_of(BOOTSTRAP, config));
    let there = view.get(SECRET, secret);
    if there.is_null() {
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
            "metadata": {
                "name": secret, "namespace": config["metadata"]["namespace"],
                "labels": {label::CLUSTER_NAME: name(cluster)}, "ownerReferences": [owner],
            },
            "stringData": {"value": "#cloud-config\n", "format": "cloud-config"},
        });
        acts.push(Act(SECRET, secret.to_owned(), Deed::Create(body)));
    } else if !is_owned_by(&there, config) {
        // Of an earlier config of this name: it is taken over, as the real one does.
        let mut taken = Value::clone(&there);
        taken["metadata"]["ownerReferences"] = json!([owner]);
        acts.extend(patch(SECRET, &there, &taken));
    }
    let mut ready = config.clone();
    put(&mut ready, &["status", "dataSecretName"], secret);
    put(&mut ready, &["status", "initialization", "dataSecretCreated"], true);
    acts.extend(patch_status(BOOTSTRAP, config, &ready));
    acts
}

/// The infrastructure's readiness as the Machine shows it (K-16, K-29).
fn mirrored(infra: &Value) -> Option<Value> {
    let mut conditions = infra["status"]["conditions"].as_array()?.iter();
    let ready = conditions.find(|condition| condition["type"] == "Ready")?;
    let mut mirrored = ready.clone();
    mirrored["type"] = "InfrastructureReady".into();
    mirrored.as_object_mut()?.remove("observedGeneration");
    Some(mirrored)
}

fn phase(machine: &Value) -> &'static str {
    let status = &machine["status"];
    let provisioned = status["initialization"]["infrastructureProvisioned"] == true;
    match () {
        () if provisioned && status["nodeRef"]["name"].is_string() => "Running",
        () if provisioned => "Provisioned",
        () if machine["spec"]["bootstrap"]["dataSecretName"].is_string() => "Provisioning",
        () => "Pending",
    }
}

/// Hooks, infrastructure, bootstrap, Node, itself.
fn leave(view: &dyn View, cluster: &Value, machine: &Value, infra: &Value, config: &Value) -> Vec<Act> {
    let mut leaving = machine.clone();
    leaving["status"]["phase"] = "Deleting".into();
    // A Node that came too late for the reference is looked up once more, by what the infrastructure says.
    let id = [machine, infra].map(|object| &object["spec"]["providerID"]).into_iter().find(|id| id.is_string());
    let known = machine["status"]["nodeRef"]["name"].is_string();
    if let Some(node) = id.filter(|_| !known).and_then(|id| the_node(view, id)) {
        put(&mut leaving, &["status", "nodeRef", "name"], name(&node));
    }
    let mut acts: Vec<Act> = patch_status(MACHINE, machine, &leaving).into_iter().collect();
    let annotations = machine["metadata"]["annotations"].as_object();
    if annotations.is_some_and(|all| all.keys().any(|key| HOOKS.iter().any(|hook| key.starts_with(hook)))) {
        return acts;
    }
    for (kind, object) in [(METAL3_MACHINE, infra), (BOOTSTRAP, config)] {
        if !object.is_null() {
            if !is_deleting(object) {
                acts.push(delete(kind, object));
            }
            return acts;
        }
    }
    let node = machine["status"]["nodeRef"]["name"].as_str().unwrap_or_default();
    let node = view.get(NODE, node);
    if !node.is_null() && !is_deleting(cluster) && !cluster.is_null() {
        acts.push(delete(NODE, &node));
    }
    if has_finalizer(machine, FINALIZER) {
        acts.extend(finalized(MACHINE, machine, FINALIZER));
    }
    acts
}

/// What a controller of Machines puts on what it makes: the clone of a template under the Machine's name (K-31, K-32).
pub(super) struct Making<'a> {
    pub name: &'a str,
    pub cluster: &'a str,
    pub owner: Value,
    pub labels: Value,
    pub annotations: Value,
    /// The spec of a Machine without references.
    pub spec: &'a Value,
    pub template: &'a Value,
}

impl Making<'_> {
    pub(super) fn acts(&self) -> Vec<Act> {
        let template = &self.template["spec"]["template"];
        let metadata = |labels: &Value, annotations: &Value| {
            let mut metadata = json!({
                "name": self.name, "namespace": self.template["metadata"]["namespace"], "ownerReferences": [self.owner],
                "labels": labels, "annotations": annotations,
            });
            metadata["labels"][label::CLUSTER_NAME] = self.cluster.into();
            metadata
        };
        let config = json!({
            "apiVersion": BOOTSTRAP.api_version, "kind": BOOTSTRAP.kind,
            "metadata": metadata(&self.labels, &json!({})), "spec": {},
        });
        let mut cloned = template["metadata"]["annotations"].clone();
        cloned[annotation::CLONED_FROM_NAME] = self.template["metadata"]["name"].clone();
        cloned[annotation::CLONED_FROM_GROUP_KIND] = annotation::CLONED_FROM_MACHINE_TEMPLATE.into();
        let infra = json!({
            "apiVersion": METAL3_MACHINE.api_version, "kind": METAL3_MACHINE.kind,
            "metadata": metadata(&self.labels, &cloned), "spec": template["spec"],
        });
        let mut spec = self.spec.clone();
        spec["clusterName"] = self.cluster.into();
        let reference = |group: &str, kind: Kind| json!({"apiGroup": group, "kind": kind.kind, "name": self.name});
        spec["bootstrap"] = json!({"configRef": reference(BOOTSTRAP.group(), BOOTSTRAP)});
        spec["infrastructureRef"] = reference(METAL3_MACHINE.group(), METAL3_MACHINE);
        let mut owned = metadata(&self.labels, &self.annotations);
        owned["ownerReferences"][0]["controller"] = true.into();
        owned["ownerReferences"][0]["blockOwnerDeletion"] = true.into();
        let machine = json!({
            "apiVersion": MACHINE.api_version, "kind": MACHINE.kind, "metadata": owned, "spec": spec,
        });
        let create = |kind: Kind, body: Value| Act(kind, self.name.to_owned(), Deed::Create(body));
        vec![create(BOOTSTRAP, config), create(METAL3_MACHINE, infra), create(MACHINE, machine)]
    }
}
