//! The life of a workload cluster, in the steps that demo and tests share: hosts on the rack, a cluster from our template, its
//! growth and its end. A step returns when the state it names is there, or says what it saw instead.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::flavours::generate;
use crate::hardware::boot_mac;
use crate::kube::{Seen, apply, client, wait_for};
use crate::site::*;
use crate::view::{self, World, condition};

/// Networks of the machines: provisioning on the first NIC, nodes on the second. Both end at the bed's bridge.
pub const ENDPOINT: &str = "198.51.100.100";
pub const PROVISIONING: (&str, &str) = ("203.0.113.100", "203.0.113.199");
pub const NODES: (&str, &str) = ("192.0.2.100", "192.0.2.199");
pub const GATEWAY: &str = "192.0.2.1";

/// The bound of every wait: what takes this long is stuck. It is more than ten times what the longest wait takes on two cores,
/// because a machine may be slower or shared, and a run in which all is well never comes near it.
pub const BOUND: Duration = Duration::from_secs(900);

/// The timers below the controllers' waits take 300 s. What takes this long after the last machine may have waited for one of them,
/// instead of the event that should end the wait; they may be Cluster API's, so it is said and not failed for.
const NET: u64 = 200;

pub struct Life<'a> {
    pub bed: &'a Bed,
    pub site: Site,
}

/// What the rack's hosts are created with.
pub fn host(name: &str, annotations: &Value) -> [(Kind, Value); 2] {
    let secret = format!("{name}-bmc");
    [
        (
            SECRET,
            json!({"metadata": {"name": secret}, "type": "Opaque", "stringData": {"username": "admin", "password": "admin"}}),
        ),
        (
            HOST,
            json!({
                "metadata": {"name": name, "annotations": annotations},
                "spec": {
                    "online": true,
                    "bootMACAddress": boot_mac(name),
                    "bootMode": "UEFI",
                    "bmc": {"address": format!("redfish://198.51.100.5/redfish/v1/Systems/{name}"), "credentialsName": secret},
                },
            }),
        ),
    ]
}

pub fn image(version: &str) -> String {
    format!("http://198.51.100.5/images/node-{version}.raw")
}

impl<'a> Life<'a> {
    pub fn new(bed: &'a Bed, namespace: &str) -> Life<'a> {
        Life { bed, site: Site { client: bed.client.clone(), namespace: namespace.to_owned() } }
    }

    /// New hosts, named `node-<n>`, until the operator has inspected them.
    pub async fn rack(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        apply(
            &self.site.client,
            &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n", self.site.namespace),
        )
        .await?;
        let count = numbers.end;
        for number in numbers {
            for (kind, object) in host(&format!("node-{number}"), &json!({})) {
                self.site.create(kind, object).await?;
            }
        }
        self.hosts_in("available", count).await
    }

    /// Waits until exactly `count` hosts are in `state` (e2e-scenarios E-0.1).
    pub async fn hosts_in(&self, state: &str, count: usize) -> Result<()> {
        wait_for(format_args!("{count} hosts {state}"), BOUND, async || {
            let hosts = self.site.list(HOST).await?;
            let states: Vec<_> =
                hosts.iter().map(|h| format!("{} {}", name(h), text(h, "/status/provisioning/state"))).collect();
            let there = hosts.iter().filter(|h| text(h, "/status/provisioning/state") == state).count();
            Ok(if there == count { Seen::Done(()) } else { Seen::Not(states.join(", ")) })
        })
        .await
    }

    /// Creates a cluster of the development flavour.
    pub async fn create(&self, cluster: &str, control_planes: usize, workers: usize) -> Result<()> {
        self.create_as("development", cluster, control_planes, workers).await
    }

    pub async fn create_as(&self, flavor: &str, cluster: &str, control_planes: usize, workers: usize) -> Result<()> {
        let whole = (cluster, self.site.namespace.as_str());
        let rendered = generate(self.bed, whole, flavor, (control_planes, workers), &[]).await?;
        apply(&self.site.client, &rendered).await.map(|_| ())
    }

    /// Waits until the Cluster is Available and each of `machines` Machines runs with a Node.
    pub async fn running(&self, cluster: &str, machines: usize) -> Result<()> {
        wait_for(format_args!("cluster {cluster} Available with {machines} running machines"), BOUND, async || {
            let world = self.site.world().await;
            let found = world.clusters.iter().find(|object| name(object) == cluster).context("no such Cluster yet")?;
            let available = condition(found, "Available").is_some_and(|(status, _)| status == "True");
            let ready = world.machines.iter().filter(|m| is_running(m)).count();
            let settled = available && ready == machines && world.machines.len() == machines;
            Ok(if settled { Seen::Done(()) } else { Seen::Not(view::tree(&world).join("\n  ")) })
        })
        .await
    }

    pub async fn scale(&self, kind: Kind, object: &str, replicas: usize) -> Result<()> {
        self.site.patch(kind, object, json!({"spec": {"replicas": replicas}})).await
    }

    /// Deletes the cluster and what the template put beside it, and waits until nothing of it is left.
    pub async fn delete(&self, cluster: &str) -> Result<()> {
        self.site.delete(CLUSTER, cluster).await?;
        let mut last = None;
        wait_for(format_args!("cluster {cluster} gone"), BOUND, async || {
            let world = self.site.world().await;
            if !world.metal3_machines.is_empty() || last.is_none() {
                last = Some(Instant::now());
            }
            Ok(match self.site.get(CLUSTER, cluster).await? {
                None => Seen::Done(()),
                Some(left) => {
                    Seen::Not(format!("{}\n  {}", view::tree(&world).join("\n  "), left["status"]["conditions"]))
                }
            })
        })
        .await?;
        let gone = Instant::now();
        for kind in [CLUSTER_CLASS, METAL3_REMEDIATION_TEMPLATE] {
            for object in self.site.list(kind).await? {
                self.site.delete(kind, name(&object)).await?; // nobody owns it
            }
        }
        for template in ["controlplane-template", "workers-template"] {
            self.site.delete(METAL3_DATA_TEMPLATE, &format!("{cluster}-{template}")).await?;
        }
        self.nothing_left().await?;
        let after = |from: Instant| from.elapsed().as_secs();
        let (machines, whole) = (last.map_or(0, after), after(gone));
        if machines >= NET {
            let took = format_args!("{machines} s after the last machine, {whole} s after the Cluster").to_string();
            self.bed.console.step(format_args!("nothing was left {took}: look who waited for a timer (audit.json)"));
        }
        Ok(())
    }

    /// Nothing of ours remains (proof I4; e2e-scenarios E-0.10), and each host is free again.
    async fn nothing_left(&self) -> Result<()> {
        wait_for("everything of the cluster to be gone", BOUND, async || {
            let mut left = Vec::new();
            for kind in OURS {
                left.extend(self.site.list(kind).await?.iter().map(|o| format!("{} {}", text(o, "/kind"), name(o))));
            }
            for secret in self.site.list(SECRET).await? {
                let rendered = text(&secret, "/type") == "infrastructure.cluster.x-k8s.io/secret";
                let labelled = secret["metadata"]["labels"].get("cluster.x-k8s.io/cluster-name").is_some();
                if rendered || labelled {
                    left.push(format!("Secret {}", name(&secret)));
                }
            }
            for host in self.site.list(HOST).await? {
                let spec = &host["spec"];
                let taken = ["consumerRef", "image", "userData", "metaData", "networkData"];
                let kept: Vec<_> = taken.iter().filter(|field| spec.get(**field).is_some()).collect();
                let annotations = host["metadata"].get("annotations").cloned().unwrap_or_default();
                let blocked = annotations.get("clusterctl.cluster.x-k8s.io/block-move").is_some();
                let state = text(&host, "/status/provisioning/state");
                if !kept.is_empty() || blocked || state != "available" {
                    left.push(format!("host {} {state} with {kept:?}", name(&host)));
                }
            }
            Ok(if left.is_empty() { Seen::Done(()) } else { Seen::Not(left.join(", ")) })
        })
        .await
    }

    /// The workload cluster, reached through the kubeconfig that Cluster API made for it.
    pub async fn workload(&self, cluster: &str) -> Result<kube::Client> {
        let secret = self.site.get(SECRET, &format!("{cluster}-kubeconfig")).await?.context("no kubeconfig Secret")?;
        let encoded = text(&secret, "/data/value");
        let path = self.bed.paths.state.join(format!("{cluster}.kubeconfig"));
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded)?;
        std::fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
        client(&path).await
    }

    /// What must hold at any moment: one consumer per host and one host per machine, no address and no index held twice.
    pub async fn consistent(&self) -> Result<World> {
        let world = self.site.world().await;
        unique("a machine with two hosts", world.hosts.iter().filter_map(consumer))?;
        unique("an address twice", world.addresses.iter().map(|a| text(a, "/spec/address").to_owned()))?;
        unique("a claim with two addresses", world.addresses.iter().map(|a| text(a, "/spec/claim/name").to_owned()))?;
        let index = |data: &Value| format!("{} {}", text(data, "/spec/template/name"), data["spec"]["index"]);
        unique("an index twice", world.datas.iter().map(index))?;
        Ok(world)
    }

    /// Waits for a settled cluster. What is deleted (an address, a Node) may still be on its way out when the machines run;
    /// what must hold at any moment is not waited for.
    pub async fn settled(&self, cluster: &str, machines: usize) -> Result<()> {
        let workload = self.workload(cluster).await?;
        wait_for(format_args!("cluster {cluster} settled"), BOUND, async || {
            let world = match self.consistent().await {
                Ok(world) => world,
                Err(broken) => return Ok(Seen::Done(Err(broken))),
            };
            Ok(match self.complete(&world, &workload, machines).await {
                Ok(()) => Seen::Done(Ok(())),
                Err(unsettled) => Seen::Not(format!("{unsettled:#}")),
            })
        })
        .await??;
        match self.bed.readers.get() {
            Some(readers) => readers.settled(&self.site.namespace).await,
            None => Ok(()),
        }
    }

    /// Waits until the managers have asked nothing for a while.
    pub async fn rests(&self, stretch: Duration) -> Result<()> {
        wait_for("the managers to come to rest", BOUND, async || {
            let from = self.bed.audit_mark();
            tokio::time::sleep(stretch).await; // what is waited for is that nothing happens
            let requests = self.bed.requests(from, self.bed.audit_mark())?;
            Ok(if requests.is_empty() { Seen::Done(()) } else { Seen::Not(format!("{requests:?}")) })
        })
        .await
    }

    /// Every Machine has its own host, the providerID of its Node, an address of each pool, and its Secrets.
    async fn complete(&self, world: &World, workload: &kube::Client, machines: usize) -> Result<()> {
        let nodes = everywhere(workload, NODE).await?;
        ensure!(nodes.len() == machines, "{} Nodes, {machines} machines", nodes.len());
        ensure!(world.metal3_machines.len() == machines, "{} Metal3Machines", world.metal3_machines.len());
        for machine in &world.metal3_machines {
            let ours = name(machine);
            let provider_id = text(machine, "/spec/providerID");
            let host = world.hosts.iter().find(|host| consumer(host).as_deref() == Some(ours));
            let host = host.with_context(|| format!("{ours} has no host"))?;
            let expected = format!("metal3://{}/{}/{ours}", self.site.namespace, name(host));
            ensure!(provider_id == expected, "{ours} has providerID {provider_id:?}, expected {expected:?}");
            let node = nodes.iter().find(|node| text(node, "/spec/providerID") == provider_id);
            let node = node.with_context(|| format!("no Node carries {provider_id}"))?;
            ensure!(name(node) == ours, "Node {} of {ours}: its name was not rendered", name(node));
            for (suffix, key) in [("metadata", "metaData"), ("networkdata", "networkData")] {
                let secret = format!("{ours}-{suffix}");
                let found = self.site.get(SECRET, &secret).await?.with_context(|| format!("no Secret {secret}"))?;
                ensure!(!text(&found, &format!("/data/{key}")).is_empty(), "Secret {secret} has no {key}");
            }
            for kind in ["Ready", "AssociateBareMetalHost", "Metal3DataReady"] {
                match condition(machine, kind) {
                    Some(("True", _)) => {}
                    other => bail!("{ours}: condition {kind} is {other:?}"),
                }
            }
        }
        ensure!(world.addresses.len() == 2 * machines, "{} addresses for {machines} machines", world.addresses.len());
        for address in &world.addresses {
            let (value, pool) = (text(address, "/spec/address"), text(address, "/spec/pool/name"));
            let range = if pool.contains("-prov") { PROVISIONING } else { NODES };
            ensure!(within(value, range), "{value} of pool {pool} is outside {range:?}");
        }
        Ok(())
    }
}

pub fn is_running(machine: &Value) -> bool {
    text(machine, "/status/phase") == "Running"
        && !text(machine, "/status/nodeRef/name").is_empty()
        && condition(machine, "NodeReady").is_some_and(|(status, _)| status == "True")
}

pub fn consumer(host: &Value) -> Option<String> {
    Some(text(host, "/spec/consumerRef/name")).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn unique(what: &str, values: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = BTreeMap::<String, usize>::new();
    values.for_each(|value| *seen.entry(value).or_default() += 1);
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).map(|(value, _)| value.as_str()).collect();
    ensure!(twice.is_empty(), "{what}: {}", twice.join(", "));
    Ok(())
}

fn within(address: &str, range: (&str, &str)) -> bool {
    let parse = |text: &str| text.parse::<std::net::Ipv4Addr>().ok();
    match (parse(address), parse(range.0), parse(range.1)) {
        (Some(address), Some(first), Some(last)) => (first..=last).contains(&address),
        _ => false,
    }
}
