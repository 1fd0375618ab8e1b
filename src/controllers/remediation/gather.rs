//! What a remediation's decision looks at: from the caches, and from the API servers where the decision asked for it.
//!
//! What was read live stands until the cache has something newer.

use std::collections::BTreeMap;
use std::sync::Arc;

use capm3_api::foreign::{BareMetalHost, Cluster, HostTenure, Machine, Pod, VolumeAttachment};
use capm3_api::infra::v1beta2::{Metal3Machine, Metal3Remediation};
use capm3_api::k8s::Timestamp;
use capm3_core::cluster::infrastructure;
use capm3_core::machine::host_name;
use capm3_core::remediation::{
    self, Answers, Drain, Fact, Left, Mode, Observed, Problem, Question, Target, cluster_name, find, power_off_key,
};
use capm3_remote::{Outcome, Reason, Workload};
use capm3_runtime::{Key, ListOptions, Object, ReadError, Store, chain, key_of};

use super::{Remediations, routes};
use crate::look::Look;

type Found = (Arc<Machine>, Arc<Metal3Machine>, Arc<BareMetalHost>);

/// Everything around one remediation, for the length of one pass.
pub(super) struct World {
    pub(super) key: Key,
    pub(super) remediation: Arc<Metal3Remediation>,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) target: Result<Found, Problem>,
    kept_off: Option<Arc<BareMetalHost>>,
    pub(super) workload: Option<Workload>,
    pub(super) answers: Answers,
    live: Live,
}

/// What was read past the caches, by name; none: it is not there.
#[derive(Default)]
struct Live {
    remediation: Option<Look<Metal3Remediation>>,
    machines: Names<Machine>,
    metal3_machines: Names<Metal3Machine>,
    hosts: Names<BareMetalHost>,
}

type Names<K> = BTreeMap<String, Look<K>>;

impl World {
    pub(super) fn observed(&self, now: Timestamp) -> Observed<'_> {
        let target = self.target.as_ref();
        Observed {
            now,
            remediation: &self.remediation,
            cluster: self.cluster.as_deref(),
            target: target.map(|(machine, metal3_machine, host)| Target { machine, metal3_machine, host }),
            kept_off: self.kept_off.as_deref(),
            answers: &self.answers,
        }
    }

    pub(super) fn machine(&self) -> Option<&Arc<Machine>> {
        self.target.as_ref().ok().map(|(machine, ..)| machine)
    }

    /// The host of this name, as it was looked at.
    pub(super) fn host(&self, name: &str) -> Option<&Arc<BareMetalHost>> {
        let target = self.target.as_ref().ok().map(|(.., host)| host);
        target.into_iter().chain(&self.kept_off).find(|host| host.metadata.name.as_deref() == Some(name))
    }

    fn node_name(&self) -> Option<&str> {
        Some(&self.machine()?.status.as_ref()?.node_ref.as_ref()?.name)
    }

    /// What of the Node is known is looked at again, from the cache that knows of our own writes.
    pub(super) fn look_at_node(&mut self) {
        if self.answers.node.is_none() {
            return;
        }
        if let (Some(workload), Some(name)) = (&self.workload, self.node_name()) {
            self.answers.node = Some(workload.node(name).map_or(Fact::Absent, Fact::There));
        }
    }
}

fn near<K: Object>(store: &Store<K>, live: &Names<K>, key: &Key, name: &str) -> Option<Arc<K>> {
    live.get(name).map_or_else(|| store.get(&key.sibling(name)), |look| look.now(store))
}

impl Remediations {
    pub(super) fn gather(&self, key: &Key) -> Option<World> {
        let remediation = self.stores.remediations.get(key)?;
        let mut world = World {
            key: key.clone(),
            remediation,
            cluster: None,
            target: Err(Problem::NoOwner),
            kept_off: None,
            workload: None,
            answers: Answers::default(),
            live: Live::default(),
        };
        self.refresh(&mut world);
        Some(world)
    }

    /// Looks at the caches again: the replies to our own writes are in them.
    pub(super) fn refresh(&self, world: &mut World) {
        let (stores, key) = (&self.stores, world.key.clone());
        let look = world.live.remediation.as_ref();
        let remediation = look.map_or_else(|| stores.remediations.get(&key), |look| look.now(&stores.remediations));
        if let Some(remediation) = remediation {
            world.remediation = remediation;
        }
        let live = &world.live;
        let machine = |name: &str| near(&stores.machines, &live.machines, &key, name);
        let owner = remediation::owner(&world.remediation).ok().and_then(machine);
        let cluster = cluster_name(&world.remediation, owner.as_deref());
        world.cluster = cluster.and_then(|name| stores.clusters.get(&key.sibling(name)));
        world.target = find(
            &world.remediation,
            machine,
            |name| near(&stores.metal3_machines, &live.metal3_machines, &key, name),
            |name| near(&stores.hosts, &live.hosts, &key, name),
        );
        let uid = world.remediation.metadata.uid.clone().unwrap_or_default();
        let marked = power_off_key(&uid);
        let mut names: Vec<_> = world.target.iter().map(|(.., host)| key_of(&**host).name).collect();
        names.extend(routes::kept_off(&stores.hosts, &key.namespace, &uid).iter().map(|host| key_of(&**host).name));
        names.extend(live.hosts.keys().cloned());
        let hosts = names.iter().filter_map(|name| near(&stores.hosts, &live.hosts, &key, name));
        world.kept_off = hosts.into_iter().find(|host| capm3_core::host::annotated(host, &marked).is_some());
    }

    /// Finds out what the decision wants to know. False: the remediation itself is gone.
    pub(super) async fn answer(&self, world: &mut World, question: Question) -> Result<bool, ReadError> {
        match question {
            Question::Live => {
                let look = Look::at(&self.reader, &self.stores.remediations, &world.key).await?;
                if look.found().is_none_or(|live| live.metadata.uid != world.remediation.metadata.uid) {
                    return Ok(false);
                }
                world.live.remediation = Some(look);
                world.answers.is_live = true;
            }
            Question::Target => {
                self.read_target(world).await?;
                world.answers.target_is_live = true;
            }
            Question::Host => {
                for name in self.hosts_to_see(world).await? {
                    self.read_host(world, name).await?;
                }
                world.answers.host_is_live = true;
            }
            Question::Node => self.find_node(world),
            Question::Mode => match self.mode(world).await {
                Ok(mode) => world.answers.mode = Some(mode),
                Err(error) => world.answers.node = Some(Fact::Unreachable(chain(&error))),
            },
            Question::Drain => world.answers.drain = Some(drain(world).await),
        }
        self.refresh(world);
        Ok(true)
    }

    async fn read_target(&self, world: &mut World) -> Result<(), ReadError> {
        let key = world.key.clone();
        let Ok(name) = remediation::owner(&world.remediation).map(str::to_owned) else { return Ok(()) };
        let look = Look::at(&self.reader, &self.stores.machines, &key.sibling(&name)).await?;
        let machine = look.found().cloned();
        world.live.machines.insert(name, look);
        let Some(name) = machine.as_deref().and_then(remediation::infrastructure) else { return Ok(()) };
        let look = Look::at(&self.reader, &self.stores.metal3_machines, &key.sibling(name)).await?;
        let metal3 = look.found().cloned();
        world.live.metal3_machines.insert(name.to_owned(), look);
        let Some(name) = metal3.as_deref().and_then(|metal3| host_name(metal3).ok().flatten()) else { return Ok(()) };
        self.read_host(world, name.to_owned()).await
    }

    /// Reads a host past the cache.
    pub(super) async fn read_host(&self, world: &mut World, name: String) -> Result<(), ReadError> {
        let look = Look::at(&self.reader, &self.stores.hosts, &world.key.sibling(&name)).await?;
        world.live.hosts.insert(name, look);
        Ok(())
    }

    /// Reads the Machine past the cache.
    pub(super) async fn read_machine(&self, world: &mut World) -> Result<(), ReadError> {
        let Some(name) = world.machine().map(|machine| key_of(&**machine).name) else { return Ok(()) };
        let look = Look::at(&self.reader, &self.stores.machines, &world.key.sibling(&name)).await?;
        world.live.machines.insert(name, look);
        self.refresh(world);
        Ok(())
    }

    /// The target's host, or without one every host that the API server says is kept off for us.
    async fn hosts_to_see(&self, world: &World) -> Result<Vec<String>, ReadError> {
        let mut names: Vec<_> = world.kept_off.iter().map(|host| key_of(&**host).name).collect();
        match &world.target {
            Ok((.., host)) => names.push(key_of(&**host).name),
            Err(_) => {
                let marked = power_off_key(world.remediation.metadata.uid.as_deref().unwrap_or_default());
                let hosts: Vec<HostTenure> = self.reader.list(&ListOptions::namespace(&world.key.namespace)).await?;
                let is_ours = |host: &&HostTenure| {
                    host.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(&marked))
                };
                names.extend(hosts.iter().filter(is_ours).map(|host| key_of(host).name));
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn find_node(&self, world: &mut World) {
        let Some(cluster) = world.cluster.clone() else {
            world.answers.node = Some(Fact::Unreachable("the Cluster does not exist".to_owned()));
            return;
        };
        if infrastructure(Some(&cluster)).is_none() {
            let why = "the Cluster names no Metal3Cluster as its infrastructure";
            world.answers.node = Some(Fact::Unreachable(why.to_owned()));
            return;
        }
        match self.workloads.connect(&key_of(&*cluster)) {
            Outcome::Connected(workload) => {
                world.workload = Some(workload);
                world.answers.node = Some(Fact::Absent);
                world.look_at_node();
            }
            Outcome::NotConnected(Reason::Forbidden) => world.answers.node = Some(Fact::Forbidden),
            Outcome::NotConnected(reason) => world.answers.node = Some(Fact::Unreachable(reason.to_string())),
        }
    }

    /// As the workload cluster's version says; where that one does not read, as ours does (RH-9).
    async fn mode(&self, world: &World) -> Result<Mode, ReadError> {
        let Some(workload) = &world.workload else { return Ok(Mode::Delete) };
        let theirs = match workload.reader().version().await {
            Ok(version) => Mode::of_version(&version.major, &version.minor),
            Err(ReadError::Forbidden { .. } | ReadError::Unparsable { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(mode) = theirs {
            return Ok(mode);
        }
        let ours = self.reader.version().await.ok();
        Ok(ours.and_then(|version| Mode::of_version(&version.major, &version.minor)).unwrap_or(Mode::Delete))
    }
}

/// What the taint has left to do. What cannot be listed counts as not done.
async fn drain(world: &World) -> Drain {
    let (Some(workload), Some(node)) = (&world.workload, world.node_name()) else {
        return Drain::Unknown("the workload cluster is not connected".to_owned());
    };
    let reader = workload.reader();
    let on_node = ListOptions { field_selector: Some(format!("spec.nodeName={node}")), ..ListOptions::default() };
    let listed = async {
        let pods: Vec<Pod> = reader.list(&on_node).await?;
        let attachments: Vec<VolumeAttachment> = reader.list(&ListOptions::default()).await?;
        Ok::<_, ReadError>(Left::on(node, &pods, &attachments))
    };
    match listed.await {
        Ok(left) => {
            tracing::debug!(node, %left, "how far the Node is drained");
            Drain::Left(left)
        }
        Err(error) => {
            tracing::warn!(node, error = chain(&error), "cannot see whether the Node is drained");
            Drain::Unknown(chain(&error))
        }
    }
}
