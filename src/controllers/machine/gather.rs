//! What a machine's decision looks at, from the caches, and from the API server where the decision asked for it.
//!
//! What was read live stands until the cache has something newer: a cache that lags behind a lost race would lose it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use capm3_api::foreign::{BareMetalHost, BareMetalHostRecord, Cluster, HostTenure, Machine, MachineSet, SecretMeta};
use capm3_api::infra::v1beta2::{Metal3Cluster, Metal3Data, Metal3DataClaim, Metal3Machine, Metal3MachineTemplate};
use capm3_api::k8s::{OwnerReference, Timestamp};
use capm3_api::names::{CAPI_GROUP, annotation, label};
use capm3_core::cluster::infrastructure;
use capm3_core::host::{self, MachineName};
use capm3_core::machine::waiting::Wish;
use capm3_core::machine::{
    self, Action, Answers, Candidates, Credentials, Node, Nodes, Observed, Owner, Purpose, Question,
};
use capm3_core::placement;
use capm3_remote::{Outcome, Reason};
use capm3_runtime::{Key, ListOptions, ReadError, key_of};
use kube::core::ApiResource;
use serde_json::Value;

use super::{Error, Machines, routes};
use crate::look::Look;

/// So many free hosts are enough to find one that fits most machines.
const SOME: usize = 64;

/// Everything around one machine, for the length of one pass.
pub(super) struct World {
    pub(super) key: Key,
    pub(super) machine: Arc<Metal3Machine>,
    owner_name: Option<String>,
    owner: Option<Arc<Machine>>,
    pub(super) cluster: Option<Arc<Cluster>>,
    infrastructure: Option<Arc<Metal3Cluster>>,
    machine_set: Option<Arc<MachineSet>>,
    host: Option<Arc<BareMetalHost>>,
    held: Vec<Arc<BareMetalHost>>,
    pub(super) claim: Option<Arc<Metal3DataClaim>>,
    data: Option<Arc<Metal3Data>>,
    candidates: Option<(Vec<Arc<BareMetalHost>>, BTreeSet<String>)>,
    pick: usize,
    pub(super) answers: Answers,
    live: Live,
}

/// What was read past the caches; none: it is not there.
#[derive(Default)]
struct Live {
    machine: Option<Look<Metal3Machine>>,
    hosts: BTreeMap<String, Look<BareMetalHost>>,
    claim: Option<Look<Metal3DataClaim>>,
    machine_set: Option<Arc<MachineSet>>,
}

impl World {
    pub(super) fn observed(&self, now: Timestamp, fast_track: bool) -> Observed<'_> {
        Observed {
            now,
            machine: &self.machine,
            owner: match (&self.owner, &self.owner_name) {
                (Some(owner), _) => Owner::Machine(owner),
                (None, Some(name)) => Owner::Missing(name),
                (None, None) => Owner::None,
            },
            cluster: self.cluster.as_deref(),
            infrastructure: self.infrastructure.as_deref(),
            machine_set: self.machine_set.as_deref(),
            host: self.host.as_deref(),
            held: self.held.iter().map(Arc::as_ref).collect(),
            claim: self.claim.as_deref(),
            data: self.data.as_deref(),
            fast_track,
            pick: self.pick,
            candidates: self
                .candidates
                .as_ref()
                .map(|(hosts, sought)| Candidates { hosts: hosts.iter().map(Arc::as_ref).collect(), sought }),
            answers: &self.answers,
        }
    }

    /// Answers that a write of ours has changed.
    pub(super) fn done(&mut self, action: &Action) {
        match action {
            Action::Machine { .. } => {
                self.live.machine = None;
                self.answers.machine_is_live = true;
            }
            Action::Host { purpose, name, .. } => {
                self.live.hosts.remove(name);
                self.answers.host_status = None;
                match purpose {
                    Purpose::Claim { reused } => self.answers.reused = *reused,
                    // A claim starts with the annotation: who releases the host it names can hold no other that is not cached.
                    Purpose::Release { .. } if machine::host_name(&self.machine) == Ok(Some(name)) => {
                        self.answers.hosts_are_live = true;
                    }
                    _ => {}
                }
            }
            Action::LabelCredentials { cluster, .. } => {
                self.answers.credentials = Some(Credentials::Labelled(Some(cluster.clone())));
            }
            Action::UnlabelCredentials { .. } => self.answers.credentials = Some(Credentials::Labelled(None)),
            Action::CreateClaim(_) | Action::DropClaim { .. } => self.live.claim = None,
            Action::DeleteClaim { .. } => {
                self.live.claim = None;
                self.answers.claim_is_live = true;
            }
            Action::NameNode { .. } => self.answers.nodes = None, // the reply is among the Nodes, if it was sent at all
        }
    }
}

impl Machines {
    pub(super) fn gather(&self, key: &Key) -> Option<World> {
        let machine = self.stores.machines.get(key)?;
        let mut world = World {
            key: key.clone(),
            machine,
            owner_name: None,
            owner: None,
            cluster: None,
            infrastructure: None,
            machine_set: None,
            host: None,
            held: Vec::new(),
            claim: None,
            data: None,
            candidates: None,
            pick: self.dice.roll() as usize,
            answers: Answers::default(),
            live: Live::default(),
        };
        self.refresh(&mut world);
        Some(world)
    }

    /// Looks at the caches again: the replies to our own writes are in them.
    pub(super) fn refresh(&self, world: &mut World) {
        let stores = &self.stores;
        let key = &world.key;
        let look = world.live.machine.as_ref();
        if let Some(machine) = look.map_or_else(|| stores.machines.get(key), |look| look.now(&stores.machines)) {
            world.machine = machine;
        }
        let meta = &world.machine.metadata;
        world.owner_name = owner(meta.owner_references.as_deref(), "Machine").map(|owner| owner.name.clone());
        world.owner = world.owner_name.as_ref().and_then(|name| stores.owners.get(&key.sibling(name)));
        let cluster = |labels: Option<&BTreeMap<String, String>>| labels?.get(label::CLUSTER_NAME).cloned();
        let cluster = match &world.owner {
            Some(owner) => cluster(owner.metadata.labels.as_ref()),
            None => cluster(meta.labels.as_ref()),
        };
        world.cluster = cluster.and_then(|name| stores.clusters.get(&key.sibling(name)));
        let reference = world.cluster.as_ref().and_then(|cluster| cluster.spec.infrastructure_ref.as_ref());
        world.infrastructure = reference
            .filter(|reference| reference.kind == Metal3Cluster::KIND)
            .and_then(|reference| stores.infrastructure.get(&key.sibling(&reference.name)));
        world.machine_set = world.owner.as_ref().and_then(|owner| {
            let reference = machine::machine_set(owner)?;
            let set = world.live.machine_set.clone().or_else(|| stores.sets.get(&key.sibling(&reference.name)))?;
            let same = reference.uid.is_empty() || set.metadata.uid.as_deref() == Some(&reference.uid);
            same.then_some(set)
        });

        let name = machine::host_name(&world.machine).ok().flatten();
        world.host = name.and_then(|name| self.host(world, name));
        let mut held: BTreeSet<_> =
            routes::held_by(&stores.hosts, key).iter().map(|host| key_of(&**host).name).collect();
        held.extend(name.map(str::to_owned));
        held.extend(world.live.hosts.keys().cloned());
        let ours = MachineName { namespace: &key.namespace, name: &key.name };
        world.held =
            held.iter().filter_map(|name| self.host(world, name)).filter(|host| host::is_held_by(host, ours)).collect();
        world.candidates = None; // asked for again where they are still needed

        let look = world.live.claim.as_ref();
        world.claim = look.map_or_else(|| stores.claims.get(key), |look| look.now(&stores.claims));
        let data = machine::rendered_name(&world.machine, world.claim.as_deref());
        world.data = data.and_then(|name| stores.data.get(&key.sibling(name)));
    }

    fn host(&self, world: &World, name: &str) -> Option<Arc<BareMetalHost>> {
        let hosts = &self.stores.hosts;
        let look = world.live.hosts.get(name);
        look.map_or_else(|| hosts.get(&world.key.sibling(name)), |look| look.now(hosts))
    }

    /// The hosts to choose from. Where many are free, some of those do: a claim costs the same among ten thousand as among a thousand.
    fn candidates(&self, world: &World) -> (Vec<Arc<BareMetalHost>>, BTreeSet<String>) {
        if let Some(some) = self.some_candidates(world) {
            return some;
        }
        let hosts = self.stores.hosts.list(&world.key.namespace);
        let hosts = if world.live.hosts.is_empty() {
            hosts
        } else {
            hosts.iter().filter_map(|host| self.host(world, host.metadata.name.as_deref()?)).collect()
        };
        let sought = self.sought(world, &hosts);
        (hosts, sought)
    }

    fn some_candidates(&self, world: &World) -> Option<(Vec<Arc<BareMetalHost>>, BTreeSet<String>)> {
        let (hosts, namespace) = (&self.stores.hosts, &world.key.namespace);
        if !world.live.hosts.is_empty() || hosts.count(routes::FREE, namespace) <= SOME {
            return None;
        }
        let wish = Wish::of(&world.machine, world.owner.as_deref()?, world.machine_set.as_deref()).ok()?;
        if routes::are_kept_for(hosts, namespace, &wish) {
            return None;
        }
        let mut some = hosts.some_by_index(routes::FREE, namespace, world.pick, SOME);
        some.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        let sought = self.sought(world, &some);
        let judged = some.iter().map(|host| {
            let name = host.metadata.name.as_deref().unwrap_or_default();
            host::candidate(host, sought.contains(name))
        });
        placement::suffices(&wish.wanted(), judged).then_some((some, sought))
    }

    /// The names of those hosts that other machines go for.
    fn sought(&self, world: &World, hosts: &[Arc<BareMetalHost>]) -> BTreeSet<String> {
        let names = hosts.iter().filter(|host| routes::is_free(host)).filter_map(|host| host.metadata.name.as_ref());
        let others = |name: &&String| {
            routes::go_for(&self.stores.machines, &world.key.sibling(*name)).any(|other| other != world.key)
        };
        names.filter(others).cloned().collect()
    }

    /// Finds out what the decision wants to know. False: the machine itself is gone.
    pub(super) async fn answer(&self, world: &mut World, question: &Question) -> Result<bool, ReadError> {
        let key = world.key.clone();
        match question {
            Question::MachineLive => return self.read_machine(world).await,
            Question::Candidates => world.candidates = Some(self.candidates(world)),
            Question::HostsLive => {
                for name in self.held_live(&key).await? {
                    let look = Look::at(&self.reader, &self.stores.hosts, &key.sibling(&name)).await?;
                    world.live.hosts.insert(name, look);
                }
                world.answers.hosts_are_live = true;
                self.refresh(world);
            }
            Question::ClaimLive => {
                world.live.claim = Some(Look::at(&self.reader, &self.stores.claims, &key).await?);
                world.answers.claim_is_live = true;
                self.refresh(world);
            }
            Question::Credentials { name } => {
                let secret: Option<SecretMeta> = self.reader.get(&key.sibling(name)).await?;
                world.answers.credentials_version =
                    secret.as_ref().and_then(|secret| secret.metadata.resource_version.clone());
                world.answers.credentials = Some(match secret {
                    None => Credentials::Missing,
                    Some(secret) => {
                        let labels = secret.metadata.labels.unwrap_or_default();
                        Credentials::Labelled(labels.get(label::CLUSTER_NAME).cloned())
                    }
                });
            }
            Question::Secret { name } => {
                let secret: Option<SecretMeta> = self.reader.get(&key.sibling(name)).await?;
                world.answers.secrets.insert(name.clone(), secret.is_some());
            }
            Question::HostStatus { host } => {
                let record: Option<BareMetalHostRecord> = self.reader.get(&key.sibling(host)).await?;
                world.answers.host_status = Some(recorded(record.and_then(|record| record.status)));
            }
            Question::Nodes => world.answers.nodes = Some(self.nodes(world)),
            Question::ControlPlane { api_version, kind, name } => {
                let resource = ApiResource::from_gvk(&gvk(api_version, kind));
                // Other control planes than kubeadm's may be out of our reach: then nothing is kept (H-12).
                let plane = match self.reader.get_dynamic(&resource, &key.sibling(name)).await {
                    Err(error @ ReadError::Forbidden { .. }) => {
                        tracing::warn!(kind, name, error = capm3_runtime::chain(&error), "no node reuse");
                        None
                    }
                    plane => plane?,
                };
                let template = plane.and_then(|plane| {
                    let path = "/spec/machineTemplate/spec/infrastructureRef/name";
                    plane.data.pointer(path).and_then(Value::as_str).map(str::to_owned)
                });
                world.answers.control_plane = Some(template);
            }
            Question::NodeReuse { template } => {
                let key = key.sibling(template);
                let template = match self.stores.templates.get(&key) {
                    None => self.reader.get::<Metal3MachineTemplate>(&key).await?.map(Arc::new), // or just made
                    known => known,
                };
                world.answers.node_reuse = Some(template.map(|template| template.spec.node_reuse == Some(true)));
            }
            Question::MachineSet { name } => {
                world.live.machine_set = self.reader.get(&key.sibling(name)).await?.map(Arc::new);
                world.answers.machine_set_is_live = true;
                self.refresh(world);
            }
        }
        Ok(true)
    }

    fn nodes(&self, world: &World) -> Nodes {
        let Some(cluster) = world.cluster.as_deref().map(key_of) else {
            return Nodes::Unreachable("the Cluster does not exist".to_owned());
        };
        if infrastructure(world.cluster.as_deref()).is_none() {
            return Nodes::Unreachable(format!(
                "Cluster {cluster} does not name a Metal3Cluster as its infrastructure"
            ));
        }
        match self.workloads.connect(&cluster) {
            Outcome::Connected(workload) => {
                let view = |node: &Arc<capm3_api::foreign::Node>| Node {
                    name: key_of(&**node).name,
                    labels: node.metadata.labels.clone().unwrap_or_default(),
                    provider_id: node.spec.provider_id.clone(),
                };
                Nodes::Listed(workload.nodes().all().iter().map(view).collect())
            }
            Outcome::NotConnected(Reason::Connecting) => Nodes::Connecting,
            Outcome::NotConnected(reason) => Nodes::Unreachable(format!("Cluster {cluster}: {reason}")),
        }
    }

    /// Reads live what a write has lost to. False: the machine itself is gone.
    pub(super) async fn look_again(&self, world: &mut World, action: &Action) -> Result<bool, Error> {
        let key = world.key.clone();
        let failed = |source| Error::Read { purpose: "look again after a lost race", source };
        match action {
            Action::Machine { .. } => {}
            Action::Host { name, .. } => {
                let look = Look::at(&self.reader, &self.stores.hosts, &key.sibling(name)).await.map_err(failed)?;
                world.live.hosts.insert(name.clone(), look);
                world.answers.host_status = None;
            }
            Action::LabelCredentials { name, .. } | Action::UnlabelCredentials { name, .. } => {
                let question = Question::Credentials { name: name.clone() };
                self.answer(world, &question).await.map_err(failed)?;
            }
            Action::CreateClaim(_) | Action::DropClaim { .. } | Action::DeleteClaim { .. } => {
                let look = Look::at(&self.reader, &self.stores.claims, &key).await.map_err(failed)?;
                world.live.claim = Some(look);
                world.answers.claim_is_live = true;
            }
            Action::NameNode { .. } => world.answers.nodes = None,
        }
        // The intent may have changed hands as well: a host is only claimed for a machine that still wants it.
        if matches!(
            action,
            Action::Machine { .. }
                | Action::Host { .. }
                | Action::LabelCredentials { .. }
                | Action::UnlabelCredentials { .. }
        ) {
            return self.read_machine(world).await.map_err(failed);
        }
        self.refresh(world);
        Ok(true)
    }

    /// The names of the hosts that name this machine as their consumer, past the cache. Hosts of others that cannot be read are in
    /// nobody's way.
    pub(super) async fn held_live(&self, machine: &Key) -> Result<Vec<String>, ReadError> {
        let hosts: Vec<HostTenure> = self.reader.list(&ListOptions::namespace(&machine.namespace)).await?;
        let ours = Some(MachineName { namespace: &machine.namespace, name: &machine.name });
        let is_held = |host: &&HostTenure| host.consumer().as_ref().and_then(host::machine_of) == ours;
        Ok(hosts.iter().filter(is_held).map(|host| key_of(host).name).collect())
    }

    /// Reads the machine past the cache. False: it is gone, and what has its name now is another.
    pub(super) async fn read_machine(&self, world: &mut World) -> Result<bool, ReadError> {
        let look = Look::at(&self.reader, &self.stores.machines, &world.key).await?;
        if look.found().is_none_or(|machine| machine.metadata.uid != world.machine.metadata.uid) {
            return Ok(false);
        }
        world.live.machine = Some(look);
        world.answers.machine_is_live = true;
        self.refresh(world);
        Ok(true)
    }
}

pub(super) fn purpose(question: &Question) -> &'static str {
    match question {
        Question::MachineLive => "cannot look whether the machine is still there",
        Question::Candidates => "cannot look at hosts",
        Question::HostsLive => "cannot look for hosts that are still held",
        Question::ClaimLive => "cannot look for the data claim",
        Question::Credentials { .. } => "cannot read the host's credentials Secret",
        Question::Secret { .. } => "cannot look for a Secret that the machine names",
        Question::HostStatus { .. } => "cannot read the host's status",
        Question::Nodes => "cannot look at Nodes",
        Question::ControlPlane { .. } => "cannot read the control plane",
        Question::NodeReuse { .. } => "cannot read the machine template",
        Question::MachineSet { .. } => "cannot read the MachineSet",
    }
}

/// The first owner of this kind of Cluster API, in any version (S-15).
pub(crate) fn owner<'a>(owners: Option<&'a [OwnerReference]>, kind: &str) -> Option<&'a OwnerReference> {
    owners?.iter().find(|o| o.kind == kind && host::group_of(&o.api_version) == Some(CAPI_GROUP))
}

/// The status as it travels with a move: without the hardware, keys sorted (M-21).
fn recorded(status: Option<Value>) -> String {
    let mut sorted: BTreeMap<String, Value> = match status {
        Some(Value::Object(fields)) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    sorted.remove("hardware");
    Value::Object(sorted.into_iter().map(|(name, value)| (name, in_order(value))).collect()).to_string()
}

fn in_order(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.into_iter().map(|(name, value)| (name, in_order(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(in_order).collect()),
        other => other,
    }
}

fn gvk(api_version: &str, kind: &str) -> kube::core::GroupVersionKind {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    kube::core::GroupVersionKind::gvk(group, version, kind)
}

/// The namespaced name in the annotation of a machine that goes for a host.
pub(super) fn sought_host(machine: &Metal3Machine) -> Option<String> {
    machine.metadata.annotations.as_ref()?.get(annotation::HOST)?;
    let name = machine::host_name(machine).ok().flatten()?;
    Some(format!("{}/{name}", machine.metadata.namespace.as_deref().unwrap_or_default()))
}
