//! Label sync: keeps the labels of Nodes as those of their hosts, as far as [`capm3_core::labels`] says.
//!
//! | watched | wakes |
//! |---|---|
//! | BareMetalHost | itself, when its labels, its consumer or its pause changes |
//! | Metal3Machine, Machine | the host, when the way between it and the Node changes |
//! | Cluster, Metal3Cluster | the hosts of all its machines, when pause or prefixes change |
//! | Node of a workload cluster | its host, when its labels change, it comes or goes |
//!
//! A label that somebody takes off the Node comes back by the Node's own event. Where nothing is asked for, nobody is connected to.

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine, Node};
use capm3_api::infra::v1beta2::{Metal3Cluster, Metal3Machine};
use capm3_api::names::{annotation, label};
use capm3_core::cluster;
use capm3_core::labels::{self, Fact, Next as Rest, Observed, Problem, Step};
use capm3_core::machine::host_name;
use capm3_remote::{News, Outcome, Workload, Workloads};
use capm3_runtime::{
    Change, Controller, Hub, Key, Next, Preconditions, Queue, Reconcile, ReconcileError, Recorder, Retry, Setup, Store,
    WatchOptions, WriteError, key_of,
};

use crate::machine::{awaited, owner};

pub const NAME: &str = "metal3labelsync";

const AFTER_A_RACE: Duration = Duration::from_millis(500);
/// Somebody has to put it right; the change wakes us.
const SAFETY_NET: Duration = Duration::from_secs(300);
/// Machines by `<namespace>/<cluster>`.
const BY_CLUSTER: &str = "metal3labelsync.cluster";
/// Machines by `<namespace>/<cluster>/<node>`.
const BY_NODE: &str = "metal3labelsync.node";

pub(crate) fn register(setup: &mut Setup, workloads: &Workloads) {
    let hub = &setup.hub;
    let stores = Stores {
        hosts: hub.store(WatchOptions::default()),
        metal3_machines: hub.store(WatchOptions::default()),
        machines: hub.store(WatchOptions::default()),
        clusters: hub.store(WatchOptions::default()),
        metal3_clusters: hub.store(WatchOptions::default()),
    };
    stores.machines.index(BY_CLUSTER, |machine| labelled(machine).iter().map(Key::to_string).collect());
    stores.machines.index(BY_NODE, |machine| {
        let node = node_of(machine);
        node.map(|node| format!("{}/{node}", key_of(machine).sibling(&machine.spec.cluster_name))).into_iter().collect()
    });
    let queue = setup.queue(NAME);
    connect(hub, &stores, workloads, &queue);
    let hosts = Hosts { stores, workloads: workloads.clone(), recorder: setup.recorder.clone() };
    setup.add(Controller::new(NAME, queue, hosts, setup.workers(NAME)));
}

/// The cluster of a Machine by its label.
fn labelled(machine: &Machine) -> Option<Key> {
    let name = machine.metadata.labels.as_ref()?.get(label::CLUSTER_NAME)?;
    Some(key_of(machine).sibling(name))
}

fn node_of(machine: &Machine) -> Option<&str> {
    machine.status.as_ref()?.node_ref.as_ref().map(|node| node.name.as_str())
}

#[derive(Clone)]
struct Stores {
    hosts: Store<BareMetalHost>,
    metal3_machines: Store<Metal3Machine>,
    machines: Store<Machine>,
    clusters: Store<Cluster>,
    metal3_clusters: Store<Metal3Cluster>,
}

impl Stores {
    /// The hosts that these Machines of one namespace stand on (L-12).
    fn hosts_of(&self, machines: &[Arc<Machine>]) -> Vec<Key> {
        let Some(near) = machines.first().map(|machine| key_of(&**machine)) else { return Vec::new() };
        let metal3 = |name: &str| self.metal3_machines.get(&near.sibling(name));
        let names = labels::hosts_of(machines.iter().map(Arc::as_ref), metal3);
        names.into_iter().map(|name| near.sibling(name)).collect()
    }

    fn hosts_of_cluster(&self, cluster: &Key) -> Vec<Key> {
        self.hosts_of(&self.machines.by_index(BY_CLUSTER, &cluster.to_string()))
    }

    fn metal3_cluster(&self, cluster: &Cluster) -> Option<Arc<Metal3Cluster>> {
        let name = cluster::infrastructure(Some(cluster))?;
        self.metal3_clusters.get(&key_of(cluster).sibling(name))
    }

    /// Whether anything is to be synced in this cluster.
    fn is_asked_for(&self, cluster: &Key) -> bool {
        let infrastructure = self.clusters.get(cluster).and_then(|cluster| self.metal3_cluster(&cluster));
        infrastructure.is_some_and(|infrastructure| labels::configured(&infrastructure).is_some())
    }
}

fn connect(hub: &Hub, stores: &Stores, workloads: &Workloads, queue: &Queue) {
    hub.route(&stores.hosts, queue, |change: &Change<BareMetalHost>| {
        let part = |host: &BareMetalHost| {
            let mark = |key| capm3_core::host::annotated(host, key).is_some();
            let paused = (mark(annotation::HOST_PAUSED), mark(annotation::PAUSED));
            (host.metadata.labels.clone(), host.spec.consumer_ref.clone(), paused)
        };
        let used = change.object().is_some_and(|host| host.spec.consumer_ref.is_some());
        if used && awaited(change, part) { vec![change.key()] } else { Vec::new() }
    });
    hub.route(&stores.metal3_machines, queue, |change: &Change<Metal3Machine>| {
        let part = |machine: &Metal3Machine| {
            (host_name(machine).ok().flatten().map(str::to_owned), machine.metadata.owner_references.clone())
        };
        if !awaited(change, part) {
            return Vec::new();
        }
        let named = |machine: &Arc<Metal3Machine>| {
            host_name(machine).ok().flatten().map(|name| key_of(&**machine).sibling(name))
        };
        change.sides().filter_map(named).collect()
    });
    let known = stores.clone();
    hub.route(&stores.machines, queue, move |change: &Change<Machine>| {
        let part = |machine: &Machine| (node_of(machine).map(str::to_owned), machine.spec.infrastructure_ref.clone());
        if awaited(change, part) {
            known.hosts_of(&change.new.clone().into_iter().collect::<Vec<_>>())
        } else {
            Vec::new()
        }
    });
    let known = stores.clone();
    hub.route(&stores.clusters, queue, move |change: &Change<Cluster>| {
        let part = |cluster: &Cluster| (cluster.spec.paused, cluster.spec.infrastructure_ref.clone());
        if awaited(change, part) { known.hosts_of_cluster(&change.key()) } else { Vec::new() }
    });
    let known = stores.clone();
    hub.route(&stores.metal3_clusters, queue, move |change: &Change<Metal3Cluster>| {
        let part = |cluster: &Metal3Cluster| {
            let annotations = cluster.metadata.annotations.as_ref();
            let paused = annotations.is_some_and(|all| all.contains_key(annotation::PAUSED));
            (labels::configured(cluster).map(str::to_owned), paused)
        };
        let Some(cluster) = change.new.as_deref().filter(|_| awaited(change, part)) else { return Vec::new() };
        let owner = owner(cluster.metadata.owner_references.as_deref(), Cluster::KIND);
        owner.map(|owner| known.hosts_of_cluster(&key_of(cluster).sibling(&owner.name))).unwrap_or_default()
    });
    let known = stores.clone();
    workloads.route(queue, move |cluster, news| {
        if !known.is_asked_for(cluster) {
            return Vec::new();
        }
        match news {
            News::Connected => known.hosts_of_cluster(cluster),
            News::Node(change) => {
                if !awaited(change, |node: &Node| (node.metadata.labels.clone(), node.metadata.uid.clone())) {
                    return Vec::new();
                }
                let node = change.key().name;
                known.hosts_of(&known.machines.by_index(BY_NODE, &format!("{cluster}/{node}")))
            }
        }
    });
}

struct Hosts {
    stores: Stores,
    workloads: Workloads,
    recorder: Recorder,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot label the Node")]
    Write(#[source] WriteError),
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl ReconcileError for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Write(source) => source.category(),
            Self::Problem(problem) => problem.category(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Write(source) => source.retry(),
            Self::Problem(_) => Retry::After(SAFETY_NET),
        }
    }
}

impl Reconcile for Hosts {
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let near = |name: &str| key.sibling(name);
        let host = self.stores.hosts.get(key);
        let consumer = host.as_deref().and_then(|host| labels::consumer(host).ok().flatten());
        let metal3_machine = consumer.and_then(|name| self.stores.metal3_machines.get(&near(name)));
        let owners = metal3_machine.as_ref().and_then(|machine| machine.metadata.owner_references.as_deref());
        let owner = owner(owners, Machine::KIND).map(|owner| owner.name.as_str());
        let machine = owner.and_then(|name| self.stores.machines.get(&near(name)));
        let cluster = machine.as_ref().and_then(|machine| self.stores.clusters.get(&near(&machine.spec.cluster_name)));
        let metal3_cluster = cluster.as_ref().and_then(|cluster| self.stores.metal3_cluster(cluster));

        let mut workload = None;
        let mut node = None;
        loop {
            let step = labels::decide(&Observed {
                host: host.as_deref(),
                metal3_machine: metal3_machine.as_deref(),
                owner,
                machine: machine.as_deref(),
                cluster: cluster.as_deref(),
                metal3_cluster: metal3_cluster.as_deref(),
                node: node.as_ref(),
            });
            match step {
                Step::Ask => {
                    let cluster = cluster.as_deref().map(key_of).unwrap_or_default();
                    let name = machine.as_deref().and_then(node_of).unwrap_or_default();
                    (workload, node) = self.look(&cluster, name);
                }
                Step::Label(patch) => {
                    let (Some(workload), Some(Fact::There(seen))) = (&workload, &node) else { return Ok(Next::Done) };
                    let only_if = Preconditions::unchanged(&**seen);
                    return match workload.writer().patch::<Node>(&key_of(&**seen), patch, &only_if).await {
                        Ok(labelled) => {
                            node = Some(Fact::There(Arc::new(labelled)));
                            continue;
                        }
                        Err(WriteError::Conflict(_) | WriteError::Unknown(_)) => Ok(Next::After(AFTER_A_RACE)),
                        Err(WriteError::NotFound(_)) => Ok(Next::Done), // its coming back wakes us
                        Err(error) => Err(Error::Write(error)),
                    };
                }
                Step::Rest(Rest::Done) => return Ok(Next::Done),
                Step::Rest(Rest::After(delay)) => return Ok(Next::After(delay)),
                Step::Rest(Rest::Failed(problem)) => {
                    if let Some(host) = &host {
                        self.recorder.warning(&**host, problem.category(), problem.to_string());
                    }
                    return Err(problem.into());
                }
            }
        }
    }
}

impl Hosts {
    fn look(&self, cluster: &Key, node: &str) -> (Option<Workload>, Option<Fact>) {
        match self.workloads.connect(cluster) {
            Outcome::Connected(workload) => {
                let node = workload.node(node).map_or(Fact::Absent, Fact::There);
                (Some(workload), Some(node))
            }
            Outcome::NotConnected(reason) => (None, Some(Fact::Unreachable(reason.to_string()))),
        }
    }
}
