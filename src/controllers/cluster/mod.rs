//! Metal3Cluster: takes the steps that [`capm3_core::cluster`] decides.
//!
//! | watched | wakes |
//! |---|---|
//! | Metal3Cluster | itself |
//! | Cluster | the Metal3Cluster it names, when pause or existence changes |
//! | Machine that goes away | the Metal3Cluster of its cluster: it may have been the last |

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, HostTenure, Machine};
use capm3_api::infra::v1beta2::Metal3Cluster;
use capm3_api::k8s::ObjectReference;
use capm3_api::names::label;
use capm3_core::cluster::{self, Machines, Next as Rest, Observed, Owner, Problem, Report, Step};
use capm3_core::host::is_cluster;
use capm3_remote::Workloads;
use capm3_runtime::{
    Change, Clock, Controller, Hub, Key, ListOptions, Next, Preconditions, Queue, ReadError, Reader, Reconcile,
    ReconcileError, Recorder, Retry, Setup, Store, WatchOptions, WriteError, Writer, key_of, merge_diff,
};
use serde_json::json;

use crate::machine::owner;

pub const NAME: &str = "metal3cluster";

/// Steps in one pass: a finalizer, a count, and the hosts that were kept.
const STEPS: usize = 64;
const AFTER_A_RACE: Duration = Duration::from_millis(500);
const MACHINES_BY_CLUSTER: &str = "metal3cluster.machines";

pub(crate) fn register(setup: &mut Setup, workloads: &Workloads) {
    let hub = &setup.hub;
    let stores = Stores {
        clusters: hub.store(WatchOptions::default()),
        owners: hub.store(WatchOptions::default()),
        machines: hub.store(WatchOptions::default()),
    };
    stores
        .machines
        .index(MACHINES_BY_CLUSTER, |machine| cluster_of(machine).map(|key| key.to_string()).into_iter().collect());
    let queue = setup.queue(NAME);
    connect(hub, &stores, workloads, &queue);
    let clusters = Clusters {
        stores,
        reader: setup.reader.clone(),
        writer: setup.writer.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        watch_filter: setup.options.watch_filter.clone(),
    };
    setup.add(Controller::new(NAME, queue, clusters, setup.workers(NAME)));
}

#[derive(Clone)]
struct Stores {
    clusters: Store<Metal3Cluster>,
    owners: Store<Cluster>,
    machines: Store<Machine>,
}

/// What of a cluster there is when its Metal3Cluster is to go.
#[derive(Default)]
struct Left {
    machines: usize,
    /// Hosts that are kept for its machines, in name order.
    kept: Vec<BareMetalHost>,
}

fn connect(hub: &Hub, stores: &Stores, workloads: &Workloads, queue: &Queue) {
    hub.route(&stores.clusters, queue, |change| vec![change.key()]);
    let workloads = workloads.clone();
    hub.route(&stores.owners, queue, move |change: &Change<Cluster>| {
        if change.new.is_none() {
            workloads.forget(&change.key());
        }
        let news = match (&change.old, &change.new) {
            (Some(old), Some(new)) => {
                Arc::ptr_eq(old, new)
                    || old.spec.paused != new.spec.paused
                    || old.spec.infrastructure_ref != new.spec.infrastructure_ref
            }
            _ => true,
        };
        if news { change.sides().filter_map(|cluster| infrastructure_of(cluster)).collect() } else { Vec::new() }
    });
    let owners = stores.owners.clone();
    hub.route(&stores.machines, queue, move |change: &Change<Machine>| {
        let gone = change.old.as_ref().filter(|_| change.new.is_none());
        let cluster = gone.and_then(|machine| owners.get(&cluster_of(machine)?));
        cluster.and_then(|cluster| infrastructure_of(&cluster)).into_iter().collect()
    });
}

fn cluster_of(machine: &Machine) -> Option<Key> {
    let name = machine.metadata.labels.as_ref()?.get(label::CLUSTER_NAME)?;
    Some(key_of(machine).sibling(name))
}

fn infrastructure_of(cluster: &Cluster) -> Option<Key> {
    cluster::infrastructure(Some(cluster)).map(|name| key_of(cluster).sibling(name))
}

struct Clusters {
    stores: Stores,
    reader: Reader,
    writer: Writer,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    watch_filter: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{purpose}")]
    Write { purpose: &'static str, source: WriteError },
    #[error("{purpose}")]
    Read { purpose: &'static str, source: ReadError },
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl ReconcileError for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Write { source, .. } => source.category(),
            Self::Read { source, .. } => source.category(),
            Self::Problem(Problem::OwnerMissing(_)) => "OwnerMissing",
            Self::Problem(Problem::Endpoint(_)) => "InvalidConfiguration",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Write { source, .. } => source.retry(),
            Self::Read { source, .. } => source.retry(),
            Self::Problem(_) => Retry::OnChange,
        }
    }
}

impl Reconcile for Clusters {
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let mut live: Option<Left> = None;
        for _ in 0..STEPS {
            let Some(cluster) = self.stores.clusters.get(key).filter(|cluster| self.is_ours(cluster)) else {
                return Ok(Next::Done);
            };
            let decision = self.decide(key, &cluster, live.as_ref());
            let written = match decision.step {
                Step::Rest(rest) => {
                    let stored = self.store_status(key, &cluster, &decision.report).await?;
                    return match rest {
                        Rest::Done => Ok(stored),
                        Rest::After(delay) => Ok(Next::After(delay)),
                        Rest::Failed(problem) => Err(problem.into()),
                    };
                }
                Step::CountMachines => {
                    live = Some(self.what_is_left(key, &cluster).await?);
                    continue;
                }
                Step::Patch(patch) => {
                    let only_if = Preconditions::unchanged(&*cluster);
                    let result = self.writer.patch::<Metal3Cluster>(key, patch, &only_if).await;
                    result.map(drop).map_err(|source| ("cannot change the finalizers", source))
                }
                Step::FreeHost { name, patch } => {
                    let kept = live.as_mut().map(|left| &mut left.kept);
                    let seen = kept.and_then(|kept| {
                        kept.iter().position(|host| key_of(host).name == name).map(|at| kept.remove(at))
                    });
                    let Some(seen) = seen else { continue };
                    let only_if = Preconditions::unchanged(&seen);
                    let result = self.writer.patch::<BareMetalHost>(&key.sibling(&name), patch, &only_if).await;
                    result.map(drop).map_err(|source| ("cannot free a host that was kept", source))
                }
            };
            match written {
                Ok(()) => {}
                Err((_, WriteError::NotFound(_))) => return Ok(Next::Done),
                Err((_, WriteError::Conflict(_))) => return Ok(Next::After(AFTER_A_RACE)), // its event is on the way
                Err((purpose, source)) => return Err(Error::Write { purpose, source }),
            }
        }
        Ok(Next::After(AFTER_A_RACE))
    }
}

impl Clusters {
    fn is_ours(&self, cluster: &Metal3Cluster) -> bool {
        let Some(filter) = &self.watch_filter else { return true };
        cluster.metadata.labels.as_ref().and_then(|labels| labels.get(label::WATCH_FILTER)) == Some(filter)
    }

    fn decide(&self, key: &Key, cluster: &Metal3Cluster, live: Option<&Left>) -> cluster::Decision {
        let reference = owner(cluster.metadata.owner_references.as_deref(), Cluster::KIND);
        let found = reference.and_then(|reference| self.stores.owners.get(&key.sibling(&reference.name)));
        let owner = match (&found, reference) {
            (Some(found), _) => Owner::Cluster(found),
            (None, Some(reference)) => Owner::Missing(&reference.name),
            (None, None) => Owner::None,
        };
        let name = cluster::cluster_name(cluster, owner).unwrap_or_default();
        let left = || self.stores.machines.by_index(MACHINES_BY_CLUSTER, &key.sibling(name).to_string()).len();
        let observed = Observed {
            metal3_cluster: cluster,
            owner,
            machines: live.map_or_else(|| Machines::Cached(left()), |left| Machines::Live(left.machines)),
            kept: live.map(|left| left.kept.iter().collect()).unwrap_or_default(),
        };
        cluster::decide(&observed)
    }

    /// What of the cluster there still is, past the caches: the last machine may have kept its host a moment ago (H-11).
    async fn what_is_left(&self, key: &Key, cluster: &Metal3Cluster) -> Result<Left, Error> {
        let owner = owner(cluster.metadata.owner_references.as_deref(), Cluster::KIND);
        let owner = owner.map_or(Owner::None, |owner| Owner::Missing(&owner.name));
        let Some(name) = cluster::cluster_name(cluster, owner) else { return Ok(Left::default()) };
        let failed = |purpose| move |source| Error::Read { purpose, source };
        let options = ListOptions::namespace(&key.namespace).labels(format!("{}={name}", label::CLUSTER_NAME));
        let machines: Vec<Machine> =
            self.reader.list(&options).await.map_err(failed("cannot count the Machines that are left"))?;
        let mut left = Left { machines: machines.len(), kept: Vec::new() };
        if left.machines > 0 {
            return Ok(left);
        }
        let failed = failed("cannot look for hosts that are kept");
        let hosts: Vec<HostTenure> = self.reader.list(&ListOptions::namespace(&key.namespace)).await.map_err(failed)?;
        let is_kept = |consumer: &ObjectReference| {
            is_cluster(consumer)
                && consumer.namespace.as_ref() == Some(&key.namespace)
                && consumer.name.as_deref() == Some(name)
        };
        for host in hosts.iter().filter(|host| host.consumer().as_ref().is_some_and(is_kept)) {
            let host: Option<BareMetalHost> = self.reader.get(&key_of(host)).await.map_err(failed)?;
            left.kept.extend(host.filter(|host| host.spec.consumer_ref.as_ref().is_some_and(is_kept)));
        }
        Ok(left)
    }

    /// One patch for a real difference, none otherwise. Conditions are lists and replaced whole, hence the precondition.
    async fn store_status(&self, key: &Key, cluster: &Metal3Cluster, report: &Report) -> Result<Next, Error> {
        let failed = |source| Error::Write { purpose: "status is not stored", source };
        let before = cluster.status.clone().unwrap_or_default();
        let after = report.status(cluster, self.clock.now());
        let Some(difference) = merge_diff(&before, &after).map_err(failed)? else { return Ok(Next::Done) };
        let only_if = Preconditions::unchanged(cluster);
        match self.writer.patch_status::<Metal3Cluster>(key, json!({ "status": difference }), &only_if).await {
            Ok(_) => {
                self.tell(cluster, report);
                Ok(Next::Done)
            }
            Err(WriteError::NotFound(_)) => Ok(Next::Done),
            Err(WriteError::Conflict(_)) => Ok(Next::After(AFTER_A_RACE)),
            Err(source) => Err(failed(source)),
        }
    }

    fn tell(&self, cluster: &Metal3Cluster, report: &Report) {
        let Some(finding) = report.findings.get(cluster::READY.kind) else { return };
        if finding.row == cluster::READY {
            self.recorder.normal(cluster, finding.row.reason, "the control plane endpoint is set");
        } else {
            self.recorder.warning(cluster, finding.row.reason, finding.message.clone());
        }
    }
}
