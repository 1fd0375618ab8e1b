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
    /// Count the machines live before the finalizer goes.
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
    if deleting { leave(o) } else { vouch(o, r) }
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
mod tests {
    use capm3_api::foreign::ContractRef;
    use capm3_api::infra::v1beta2::{ApiEndpoint, FailureDomain};

    use super::*;

    fn metal3_cluster() -> Metal3Cluster {
        let mut cluster = Metal3Cluster::named("ns", "prod");
        cluster.metadata.generation = Some(1);
        cluster.metadata.finalizers = Some(vec![finalizer::CLUSTER.to_owned()]);
        cluster.spec.control_plane_endpoint =
            Some(ApiEndpoint { host: Some("192.0.2.1".to_owned()), port: Some(6443) });
        cluster
    }

    /// What is stored after a pass over the cluster with this owner.
    fn stored(cluster: &Metal3Cluster, owner: Owner<'_>) -> Metal3ClusterStatus {
        let observed = Observed { metal3_cluster: cluster, owner, machines: Machines::Live(0), kept: Vec::new() };
        decide(&observed).report.status(cluster, Timestamp::from_second(7).unwrap())
    }

    #[test]
    fn s_7_a_status_tells_which_generation_it_is_about() {
        let owner = Cluster::named("ns", "prod");
        let mut cluster = metal3_cluster();
        let not_looked_at = Metal3ClusterStatus { observed_generation: Some(-1), ..Metal3ClusterStatus::default() };
        cluster.status = Some(not_looked_at.clone());
        assert_eq!(stored(&cluster, Owner::None), not_looked_at, "without an owner nobody can say");
        cluster.status = Some(stored(&cluster, Owner::Cluster(&owner)));
        assert_eq!(cluster.status.as_ref().unwrap().observed_generation, Some(1));
        cluster.metadata.generation = Some(2);
        assert_eq!(stored(&cluster, Owner::Cluster(&owner)).observed_generation, Some(2));

        let settled = Metal3ClusterStatus { observed_generation: None, ..cluster.status.clone().unwrap() };
        cluster.metadata.generation = Some(1);
        cluster.status = Some(settled.clone());
        assert_eq!(stored(&cluster, Owner::Cluster(&owner)), settled, "what another provider settled is left alone");
    }

    #[test]
    fn k_21_whoever_vouches_for_an_external_cluster_is_believed() {
        let mut cluster = metal3_cluster();
        cluster.metadata.annotations = Some([(annotation::MANAGED_BY.to_owned(), "x".to_owned())].into());
        let mut status = Metal3ClusterStatus { observed_generation: Some(-1), ..Metal3ClusterStatus::default() };
        cluster.status = Some(status.clone());
        assert_eq!(stored(&cluster, Owner::None), status);
        status.initialization = Some(Initialization { provisioned: Some(true) });
        cluster.status = Some(status.clone());
        let expected = Metal3ClusterStatus { observed_generation: None, ..status };
        assert_eq!(stored(&cluster, Owner::None), expected, "and nothing else of it is touched");
    }

    fn deleted(mut cluster: Metal3Cluster) -> Metal3Cluster {
        cluster.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        cluster
    }

    fn observed<'a>(cluster: &'a Metal3Cluster, owner: Owner<'a>) -> Observed<'a> {
        Observed { metal3_cluster: cluster, owner, machines: Machines::Cached(0), kept: Vec::new() }
    }

    /// The step and the status that follow, one hour into time.
    fn pass(cluster: &Metal3Cluster, owner: Owner<'_>) -> (Step, Metal3ClusterStatus) {
        let decision = decide(&observed(cluster, owner));
        (decision.step, decision.report.status(cluster, Timestamp::from_second(3600).unwrap()))
    }

    fn shown<'a>(status: &'a Metal3ClusterStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
        let c = conditions::get(&status.conditions, kind).unwrap();
        (&c.status, &c.reason, &c.message)
    }

    #[test]
    fn ap_4_clusters_of_other_providers_are_none_of_ours() {
        let naming = |group: &str, kind: &str, name: &str| {
            let [api_group, kind, name] = [group, kind, name].map(str::to_owned);
            let mut cluster = Cluster::named("ns", "prod");
            cluster.spec.infrastructure_ref = Some(ContractRef { api_group: Some(api_group), kind, name });
            cluster
        };
        for (cluster, expected) in [
            (None, None),
            (Some(naming(INFRA_GROUP, "Metal3Cluster", "m3")), Some("m3")),
            (Some(naming("other.cluster.x-k8s.io", "Metal3Cluster", "m3")), None),
            (Some(naming(INFRA_GROUP, "OtherCluster", "m3")), None),
            (Some(naming("", "", "")), None),
            (Some(Cluster::named("ns", "prod")), None),
        ] {
            assert_eq!(infrastructure(cluster.as_ref()), expected, "{cluster:?}");
        }
    }

    #[test]
    fn a_cc_1_the_finalizer_comes_first() {
        let mut cluster = metal3_cluster();
        cluster.metadata.finalizers = Some(vec!["other".to_owned()]);
        let (step, status) = pass(&cluster, Owner::Cluster(&Cluster::named("ns", "prod")));
        assert_eq!(step, Step::Patch(json!({ "metadata": { "finalizers": ["other", finalizer::CLUSTER] } })));
        assert_eq!(status.initialization, None);
    }

    #[test]
    fn a_cc_12_a_valid_cluster_is_provisioned_and_ready() {
        let cluster = metal3_cluster();
        let (step, status) = pass(&cluster, Owner::Cluster(&Cluster::named("ns", "prod")));
        assert_eq!(step, Step::Rest(Next::Done));
        assert_eq!(status.initialization, Some(Initialization { provisioned: Some(true) }));
        assert_eq!(shown(&status, INFRASTRUCTURE_READY), ("True", "Ready", ""));
        assert_eq!(shown(&status, "Ready"), ("True", "Ready", ""));
        assert_eq!(shown(&status, "Paused"), ("False", "NotPaused", ""));
    }

    #[test]
    fn n_21_a_second_pass_writes_nothing() {
        let owner = Cluster::named("ns", "prod");
        let mut cluster = metal3_cluster();
        let first = decide(&observed(&cluster, Owner::Cluster(&owner))).report.status(&cluster, Timestamp::UNIX_EPOCH);
        cluster.status = Some(first.clone());
        assert_eq!(pass(&cluster, Owner::Cluster(&owner)).1, first);
    }

    #[test]
    fn a_cc_11_and_a_cm_8_an_endpoint_without_its_parts_is_invalid() {
        let cases = [(None, "host and no port"), (Some(("", 6443)), "host"), (Some(("a", 0)), "port")];
        for (endpoint, missing) in cases {
            let mut cluster = metal3_cluster();
            cluster.spec.control_plane_endpoint =
                endpoint.map(|(host, port)| ApiEndpoint { host: Some(host.to_owned()), port: Some(port) });
            let (step, status) = pass(&cluster, Owner::Cluster(&Cluster::named("ns", "prod")));
            assert_eq!(step, Step::Rest(Next::Failed(Problem::Endpoint(missing))));
            let message = format!("spec.controlPlaneEndpoint has no {missing}");
            assert_eq!(shown(&status, INFRASTRUCTURE_READY), ("False", "InvalidConfiguration", message.as_str()));
            assert_eq!(status.initialization, None);
            let failure = status.deprecated.and_then(|d| d.v1beta1).unwrap();
            assert_eq!(failure.failure_reason.as_deref(), Some("InvalidConfiguration"));
        }
    }

    #[test]
    fn h_25_a_failure_ends_when_it_is_put_right() {
        let owner = Cluster::named("ns", "prod");
        let mut cluster = metal3_cluster();
        cluster.spec.control_plane_endpoint = None;
        cluster.status = Some(pass(&cluster, Owner::Cluster(&owner)).1);
        cluster.spec.control_plane_endpoint = metal3_cluster().spec.control_plane_endpoint;
        let (_, status) = pass(&cluster, Owner::Cluster(&owner));
        let legacy = status.deprecated.and_then(|d| d.v1beta1).unwrap();
        assert_eq!((legacy.failure_reason, legacy.failure_message), (None, None));
    }

    #[test]
    fn a_cc_9_a_missing_owner_is_an_error_that_says_so() {
        let cluster = metal3_cluster();
        let (step, status) = pass(&cluster, Owner::Missing("prod"));
        assert_eq!(step, Step::Rest(Next::Failed(Problem::OwnerMissing("prod".to_owned()))));
        assert_eq!(shown(&status, "Ready").2, "* BaremetalInfrastructureReady: owner Cluster prod does not exist");
        let legacy = status.deprecated.and_then(|d| d.v1beta1).unwrap();
        assert_eq!(legacy.conditions[0].reason.as_deref(), Some("InternalFailureOccured"));
    }

    #[test]
    fn a_cc_10_without_an_owner_nothing_happens() {
        let cluster = metal3_cluster();
        let (step, status) = pass(&cluster, Owner::None);
        assert_eq!((step, status), (Step::Rest(Next::Done), Metal3ClusterStatus::default()));
    }

    #[test]
    fn a_cc_13_and_14_pause_by_cluster_or_annotation() {
        let mut owner = Cluster::named("ns", "prod");
        owner.spec.paused = Some(true);
        let mut cluster = metal3_cluster();
        let (step, status) = pass(&cluster, Owner::Cluster(&owner));
        assert!(matches!(step, Step::Rest(Next::After(_))));
        assert_eq!(shown(&status, "Paused"), ("True", "Paused", "Cluster spec.paused is set to true"));

        cluster.metadata.annotations = Some([(annotation::PAUSED.to_owned(), String::new())].into());
        cluster.metadata.finalizers = None;
        let (step, _) = pass(&deleted(cluster), Owner::Cluster(&Cluster::named("ns", "prod")));
        assert!(matches!(step, Step::Rest(Next::After(_))), "also while deleting (K-150)");
    }

    #[test]
    fn k_21_an_external_cluster_is_left_alone() {
        let mut cluster = metal3_cluster();
        cluster.metadata.annotations = Some([(annotation::MANAGED_BY.to_owned(), String::new())].into());
        cluster.spec.failure_domains = vec![FailureDomain { name: "a".to_owned(), ..FailureDomain::default() }];
        let (step, status) = pass(&cluster, Owner::Cluster(&Cluster::named("ns", "prod")));
        assert_eq!((step, status), (Step::Rest(Next::Done), Metal3ClusterStatus::default()));
    }

    #[test]
    fn c_5_failure_domains_are_mirrored_even_without_an_owner() {
        let mut cluster = metal3_cluster();
        cluster.spec.failure_domains = vec![FailureDomain { name: "a".to_owned(), ..FailureDomain::default() }];
        assert_eq!(pass(&cluster, Owner::None).1.failure_domains, cluster.spec.failure_domains);
    }

    #[test]
    fn a_cc_4_5_and_15_the_finalizer_outlives_the_machines() {
        let cluster = deleted(metal3_cluster());
        let owner = Cluster::named("ns", "prod");
        let with = |machines| {
            let observed = Observed { machines, ..observed(&cluster, Owner::Cluster(&owner)) };
            decide(&observed).step
        };
        assert!(matches!(with(Machines::Cached(1)), Step::Rest(Next::After(_))));
        assert_eq!(with(Machines::Cached(0)), Step::CountMachines);
        assert!(matches!(with(Machines::Live(1)), Step::Rest(Next::After(_))));
        assert_eq!(with(Machines::Live(0)), Step::Patch(json!({ "metadata": { "finalizers": [] } })));
    }

    #[test]
    fn n_20_deletion_completes_when_the_cluster_is_gone() {
        let cluster = deleted(metal3_cluster());
        for owner in [Owner::Missing("prod"), Owner::None] {
            let observed = Observed { machines: Machines::Live(0), ..observed(&cluster, owner) };
            assert!(matches!(decide(&observed).step, Step::Patch(_)));
        }
    }

    #[test]
    fn h_11_kept_hosts_are_freed_before_the_cluster_goes() {
        let cluster = deleted(metal3_cluster());
        let host = BareMetalHost::named("ns", "kept");
        let observed =
            Observed { machines: Machines::Live(0), kept: vec![&host], ..observed(&cluster, Owner::Missing("prod")) };
        assert!(matches!(decide(&observed).step, Step::FreeHost { name, .. } if name == "kept"));
    }

    #[test]
    fn h_28_the_name_that_machines_carry() {
        let mut cluster = metal3_cluster();
        let owner = Cluster::named("ns", "owner");
        assert_eq!(cluster_name(&cluster, Owner::Cluster(&owner)), Some("owner"));
        assert_eq!(cluster_name(&cluster, Owner::Missing("gone")), Some("gone"));
        assert_eq!(cluster_name(&cluster, Owner::None), None);
        cluster.metadata.labels = Some([(label::CLUSTER_NAME.to_owned(), "labelled".to_owned())].into());
        assert_eq!(cluster_name(&cluster, Owner::None), Some("labelled"));
    }
}
