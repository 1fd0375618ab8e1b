//! The life of a Metal3Cluster: it owns no infrastructure, it vouches for the endpoint and outlives its machines.
//!
//! As with machines, [`decide`] returns one step; the caller takes it and looks again.
//! Rules: cluster-and-machine.md C-1 to C-16, H-11, H-25 to H-29; capi-contract.md K-13 to K-21.

use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster};
use capm3_api::infra::v1beta2::{Initialization, Metal3Cluster, Metal3ClusterStatus};
use capm3_api::k8s::{Time, Timestamp};
use capm3_api::names::condition::INFRASTRUCTURE_READY;
use capm3_api::names::{INFRA_GROUP, annotation, finalizer, label, reason, v1beta1};
use serde_json::{Value, json};

use crate::conditions::{self, Board, Findings, Legacy, PAUSED, Row, Severity, cut};
use crate::ready;

pub const PARTS: [&str; 1] = [INFRASTRUCTURE_READY];
pub const LEGACY_PARTS: [&str; 1] = [v1beta1::INFRASTRUCTURE_READY];

const SAFETY_NET: Duration = Duration::from_secs(300);
/// What the schema admits (H-53).
const FAILURE_MESSAGE_MAX: usize = 1024;

pub const READY: Row = Row::yes(INFRASTRUCTURE_READY, reason::READY, Legacy::True(v1beta1::INFRASTRUCTURE_READY));
pub const INVALID: Row = Row::no(INFRASTRUCTURE_READY, reason::INVALID_CONFIGURATION, Legacy::Silent);
pub const OWNER_MISSING: Row = Row::no(
    INFRASTRUCTURE_READY,
    reason::FAILED_TO_GET_OWNER_CLUSTER,
    Legacy::False(v1beta1::INFRASTRUCTURE_READY, Severity::Error, v1beta1::INTERNAL_FAILURE),
);
const PAUSED_TRUE: Row = Row::yes(PAUSED, reason::PAUSED, Legacy::Silent);
const NOT_PAUSED: Row = Row::no(PAUSED, reason::NOT_PAUSED, Legacy::Silent);

pub struct Observed<'a> {
    pub metal3_cluster: &'a Metal3Cluster,
    pub owner: Owner<'a>,
    /// Machines of the cluster that are left; only looked at when the Metal3Cluster is being deleted.
    pub machines: Machines,
    /// Hosts of the namespace that are kept for machines of this cluster, in name order.
    pub kept: Vec<&'a BareMetalHost>,
}

#[derive(Clone, Copy)]
pub enum Owner<'a> {
    None,
    Missing(&'a str),
    Cluster(&'a Cluster),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machines {
    Cached(usize),
    Live(usize),
}

#[derive(Debug)]
pub struct Decision {
    pub step: Step,
    pub report: Report,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A merge patch of the Metal3Cluster on condition of the version that was looked at.
    Patch(Value),
    /// The same of a host: nobody is left that it is kept for (H-11).
    FreeHost {
        name: String,
        patch: Value,
    },
    /// Count the machines, and look for hosts that are kept for them, live before the finalizer goes.
    CountMachines,
    Rest(Next),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Done,
    After(Duration),
    Failed(Problem),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("owner Cluster {0} does not exist")]
    OwnerMissing(String),
    #[error("spec.controlPlaneEndpoint has no {0}")]
    Endpoint(&'static str),
}

/// What the cluster says about itself at the end of a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub findings: Findings,
    pub status: Metal3ClusterStatus,
    failure: Option<String>,
}

/// Another system takes care of it and we keep our hands off (K-21).
pub fn is_externally_managed(cluster: &Metal3Cluster) -> bool {
    cluster.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(annotation::MANAGED_BY))
}

/// The name that machines of the cluster carry as a label; without an owner the label of the object itself (H-28).
pub fn cluster_name<'a>(cluster: &'a Metal3Cluster, owner: Owner<'a>) -> Option<&'a str> {
    match owner {
        Owner::Cluster(owner) => owner.metadata.name.as_deref(),
        Owner::Missing(name) => Some(name),
        Owner::None => cluster.metadata.labels.as_ref()?.get(label::CLUSTER_NAME).map(String::as_str),
    }
}

/// The name of the Metal3Cluster that stands for a Cluster's infrastructure, if that is of our kind. Nobody connects to the
/// workload clusters of other providers (P-10).
pub fn infrastructure(cluster: Option<&Cluster>) -> Option<&str> {
    let reference = cluster?.spec.infrastructure_ref.as_ref()?;
    let group = reference.api_group.as_deref().unwrap_or(INFRA_GROUP);
    let ours = reference.kind == Metal3Cluster::KIND && group == INFRA_GROUP && !reference.name.is_empty();
    ours.then_some(reference.name.as_str())
}

pub fn decide(o: &Observed<'_>) -> Decision {
    let before = o.metal3_cluster.status.clone().unwrap_or_default();
    let mut report = Report { status: before, ..Report::default() };
    let step = if is_externally_managed(o.metal3_cluster) {
        let status = &mut report.status;
        // Who vouches for it knows nothing of the mark that nobody has looked yet, which our schema has put there.
        if status.initialization.as_ref().and_then(|i| i.provisioned) == Some(true) {
            status.observed_generation.take_if(|generation| *generation < 0);
        }
        Step::Rest(Next::Done)
    } else {
        life(o, &mut report)
    };
    Decision { step, report }
}

fn life(o: &Observed<'_>, r: &mut Report) -> Step {
    r.status.failure_domains = o.metal3_cluster.spec.failure_domains.clone();
    let deleting = o.metal3_cluster.metadata.deletion_timestamp.is_some();
    let owner = match o.owner {
        Owner::Cluster(cluster) => Some(cluster),
        Owner::Missing(_) | Owner::None if deleting => None,
        Owner::Missing(name) => return r.fail(OWNER_MISSING, Problem::OwnerMissing(name.to_owned())),
        Owner::None => return Step::Rest(Next::Done),
    };
    if let Some(causes) = pause_causes(o.metal3_cluster, owner) {
        r.findings.say(PAUSED_TRUE, causes);
        return Step::Rest(Next::After(SAFETY_NET));
    }
    r.findings.say(NOT_PAUSED, "");
    if !deleting {
        return vouch(o, r);
    }
    // `clusterctl move` deletes what it has copied; the copy lives on (K-138).
    let moved =
        o.metal3_cluster.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(annotation::DELETE_FOR_MOVE));
    if moved && owner.is_none() { Step::Rest(Next::Done) } else { leave(o) }
}

fn pause_causes(cluster: &Metal3Cluster, owner: Option<&Cluster>) -> Option<String> {
    let own = cluster.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(annotation::PAUSED));
    let causes = [
        (owner.is_some_and(|owner| owner.spec.paused == Some(true)), "Cluster spec.paused is set to true"),
        (own, "Metal3Cluster has the cluster.x-k8s.io/paused annotation"),
    ];
    let causes: Vec<_> = causes.into_iter().filter(|(applies, _)| *applies).map(|(_, cause)| cause).collect();
    (!causes.is_empty()).then(|| causes.join(", "))
}

/// C-9 to C-11.
fn vouch(o: &Observed<'_>, r: &mut Report) -> Step {
    let finalizers = o.metal3_cluster.metadata.finalizers.as_deref().unwrap_or_default();
    if !finalizers.iter().any(|f| f == finalizer::CLUSTER) {
        let all: Vec<_> = finalizers.iter().map(String::as_str).chain([finalizer::CLUSTER]).collect();
        return Step::Patch(json!({ "metadata": { "finalizers": all } }));
    }
    let endpoint = o.metal3_cluster.spec.control_plane_endpoint.as_ref();
    let host = endpoint.and_then(|e| e.host.as_deref()).is_some_and(|host| !host.is_empty());
    let port = endpoint.and_then(|e| e.port).is_some_and(|port| port != 0);
    let missing = match (host, port) {
        (true, true) => None,
        (false, true) => Some("host"),
        (true, false) => Some("port"),
        (false, false) => Some("host and no port"),
    };
    if let Some(missing) = missing {
        return r.fail(INVALID, Problem::Endpoint(missing));
    }
    r.status.initialization = Some(Initialization { provisioned: Some(true) });
    r.findings.say(READY, "");
    Step::Rest(Next::Done)
}

/// C-14: the machines go first; then the hosts that were kept for them are free.
fn leave(o: &Observed<'_>) -> Step {
    let finalizers = o.metal3_cluster.metadata.finalizers.as_deref().unwrap_or_default();
    if !finalizers.iter().any(|f| f == finalizer::CLUSTER) {
        return Step::Rest(Next::Done);
    }
    match o.machines {
        Machines::Cached(0) => return Step::CountMachines,
        Machines::Cached(_) | Machines::Live(1..) => return Step::Rest(Next::After(SAFETY_NET)),
        Machines::Live(0) => {}
    }
    if let Some(host) = o.kept.first() {
        let patch = json!({
            "metadata": { "labels": { label::NODE_REUSE: null } },
            "spec": { "consumerRef": null },
        });
        return Step::FreeHost { name: host.metadata.name.clone().unwrap_or_default(), patch };
    }
    let rest: Vec<_> = finalizers.iter().filter(|f| *f != finalizer::CLUSTER).collect();
    Step::Patch(json!({ "metadata": { "finalizers": rest } }))
}

impl Report {
    fn fail(&mut self, row: Row, problem: Problem) -> Step {
        self.findings.say(row, problem.to_string());
        self.failure = Some(problem.to_string());
        Step::Rest(Next::Failed(problem))
    }

    /// The status to store: equal to the one that is there when nothing but time has passed.
    pub fn status(&self, cluster: &Metal3Cluster, now: Timestamp) -> Metal3ClusterStatus {
        let before = cluster.status.clone().unwrap_or_default();
        let mut status = self.status.clone();
        if self.findings.is_empty() && (status == before || is_externally_managed(cluster)) {
            return status;
        }
        let mut deprecated = status.deprecated.take().unwrap_or_default();
        let v1beta1 = deprecated.v1beta1.get_or_insert_default();
        v1beta1.failure_reason = self.failure.as_ref().map(|_| reason::INVALID_CONFIGURATION.to_owned());
        v1beta1.failure_message = self.failure.as_ref().map(|text| cut(text, FAILURE_MESSAGE_MAX).into_owned());
        let mut board = Board {
            current: &mut status.conditions,
            legacy: &mut v1beta1.conditions,
            generation: cluster.metadata.generation,
            now,
        };
        if !self.findings.is_empty() {
            conditions::write(&mut board, &self.findings, &PARTS, &LEGACY_PARTS);
        }
        let has_legacy = !v1beta1.conditions.is_empty() || v1beta1.failure_message.is_some();
        status.deprecated = has_legacy.then_some(deprecated);
        let told = !self.findings.is_empty(); // otherwise nobody can be told how that generation fares
        if status != before || (told && ready::is_stale(&cluster.metadata, before.observed_generation)) {
            status.observed_generation = if told { cluster.metadata.generation } else { before.observed_generation };
            status.last_updated = Some(Time(conditions::whole_second(now)));
        }
        status
    }
}

#[cfg(test)]
mod tests;
