//! Metal3Cluster, pass by pass (C-1 to C-16).

use capm3_api::foreign::ContractRef;
use capm3_api::infra::v1beta2::{ApiEndpoint, FailureDomain};

use super::*;

fn metal3_cluster() -> Metal3Cluster {
    let mut cluster = Metal3Cluster::named("ns", "prod");
    cluster.metadata.generation = Some(1);
    cluster.metadata.finalizers = Some(vec![finalizer::CLUSTER.to_owned()]);
    cluster.spec.control_plane_endpoint = Some(ApiEndpoint { host: Some("192.0.2.1".to_owned()), port: Some(6443) });
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
        assert_eq!(infrastructure(cluster.as_ref()), expected, "A-X-14 {cluster:?}");
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
fn a_cc_11_an_endpoint_without_its_parts_is_invalid() {
    let cases = [
        (None, "host and no port"),
        (Some(("", 0)), "host and no port"),
        (Some(("", 6443)), "host"),
        (Some(("a", 0)), "port"),
    ];
    for (endpoint, missing) in cases {
        let mut cluster = metal3_cluster();
        cluster.spec.control_plane_endpoint =
            endpoint.map(|(host, port)| ApiEndpoint { host: Some(host.to_owned()), port: Some(port) });
        let (step, status) = pass(&cluster, Owner::Cluster(&Cluster::named("ns", "prod")));
        assert_eq!(step, Step::Rest(Next::Failed(Problem::Endpoint(missing))), "A-CM-8");
        let message = format!("spec.controlPlaneEndpoint has no {missing}");
        assert_eq!(shown(&status, INFRASTRUCTURE_READY), ("False", "InvalidConfiguration", message.as_str()));
        assert_eq!(status.initialization, None);
        let failure = status.deprecated.and_then(|d| d.v1beta1).unwrap();
        assert_eq!(failure.failure_reason.as_deref(), Some("InvalidConfiguration"));
        assert!(failure.conditions.iter().all(|c| c.type_ != "BaremetalInfrastructureReady"), "A-CC-2: no status step");
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
fn a_cc_13_pause_by_cluster_or_annotation() {
    let mut owner = Cluster::named("ns", "prod");
    owner.spec.paused = Some(true);
    let mut cluster = metal3_cluster();
    let (step, status) = pass(&cluster, Owner::Cluster(&owner));
    assert!(matches!(step, Step::Rest(Next::After(_))));
    assert_eq!(shown(&status, "Paused"), ("True", "Paused", "Cluster spec.paused is set to true"));

    cluster.metadata.annotations = Some([(annotation::PAUSED.to_owned(), String::new())].into());
    let (step, status) = pass(&cluster, Owner::Cluster(&Cluster::named("ns", "prod")));
    assert!(matches!(step, Step::Rest(Next::After(_))), "A-CC-14");
    let cause = "Metal3Cluster has the cluster.x-k8s.io/paused annotation";
    assert_eq!(shown(&status, "Paused"), ("True", "Paused", cause), "A-CC-14");
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
fn a_cc_4_the_finalizer_outlives_the_machines() {
    let cluster = deleted(metal3_cluster());
    let owner = Cluster::named("ns", "prod");
    let with = |machines| {
        let observed = Observed { machines, ..observed(&cluster, Owner::Cluster(&owner)) };
        decide(&observed).step
    };
    assert!(matches!(with(Machines::Cached(1)), Step::Rest(Next::After(_))), "A-CC-5");
    assert_eq!(with(Machines::Cached(0)), Step::CountMachines);
    assert!(matches!(with(Machines::Live(1)), Step::Rest(Next::After(_))), "A-CC-5");
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

#[test]
fn a_cc_15_and_16_deletion_with_and_without_machines() {
    let owner = Cluster::named("ns", "prod");
    let decided = |cluster: &Metal3Cluster, machines| {
        let decision = decide(&Observed { machines, ..observed(cluster, Owner::Cluster(&owner)) });
        (decision.step, decision.report.status(cluster, Timestamp::UNIX_EPOCH))
    };
    let mut cluster = deleted(metal3_cluster());
    let (step, told) = decided(&cluster, Machines::Live(1));
    assert!(matches!(step, Step::Rest(Next::After(_))), "A-CC-16");
    assert_eq!(shown(&told, "Paused").0, "False");
    cluster.status = Some(told);
    let (step, _) = decided(&cluster, Machines::Live(0));
    assert_eq!(step, Step::Patch(json!({ "metadata": { "finalizers": [] } })), "A-CC-15");
}

#[test]
fn a_cm_4_the_finalizer_is_there_once_and_goes_alone() {
    let owner = Cluster::named("ns", "prod");
    let finalizers = |step: Step| match step {
        Step::Patch(patch) => serde_json::from_value::<Vec<String>>(patch["metadata"]["finalizers"].clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    for others in [&[] as &[&str], &["other"]] {
        let mut cluster = metal3_cluster();
        let others: Vec<_> = others.iter().map(|f| (*f).to_owned()).collect();
        cluster.metadata.finalizers = Some(others.clone());
        let with_ours = finalizers(pass(&cluster, Owner::Cluster(&owner)).0);
        assert_eq!(with_ours.iter().filter(|f| *f == finalizer::CLUSTER).count(), 1);
        cluster.metadata.finalizers = Some(with_ours);
        assert_eq!(pass(&cluster, Owner::Cluster(&owner)).0, Step::Rest(Next::Done), "not twice");
        let cluster = deleted(cluster);
        let observed = Observed { machines: Machines::Live(0), ..observed(&cluster, Owner::Cluster(&owner)) };
        assert_eq!(finalizers(decide(&observed).step), others);
    }
}

#[test]
fn a_cm_5_a_failure_replaces_the_one_before() {
    let owner = Cluster::named("ns", "prod");
    for before in [None, Some("an older message")] {
        let mut cluster = metal3_cluster();
        cluster.spec.control_plane_endpoint = None;
        cluster.status = before.map(|message| {
            serde_json::from_value(json!({ "deprecated": { "v1beta1": {
                "failureReason": "CreateError", "failureMessage": message,
            }}}))
            .unwrap()
        });
        let failure = pass(&cluster, Owner::Cluster(&owner)).1.deprecated.and_then(|d| d.v1beta1).unwrap();
        assert_eq!(failure.failure_reason.as_deref(), Some("InvalidConfiguration"));
        assert_eq!(failure.failure_message.as_deref(), Some("spec.controlPlaneEndpoint has no host and no port"));
    }
}

#[test]
fn a_cm_7_to_10_host_and_port_are_all_that_is_asked_of_a_cluster() {
    let owner = Cluster::default();
    let named = Cluster::named("ns", "prod");
    let valid = metal3_cluster();
    let provisioned = |status: Metal3ClusterStatus| status.initialization.and_then(|i| i.provisioned) == Some(true);
    for owner in [&owner, &named] {
        let (step, status) = pass(&valid, Owner::Cluster(owner));
        assert_eq!(step, Step::Rest(Next::Done), "A-CM-7");
        assert!(provisioned(status), "A-CM-9");
    }
    // Nothing is wrong with it while its owner is awaited either, and nothing is vouched for (K-18).
    let (step, status) = pass(&valid, Owner::None);
    assert_eq!((step, provisioned(status)), (Step::Rest(Next::Done), false), "A-CM-7");

    for endpoint in [None, Some(ApiEndpoint { host: Some(String::new()), port: Some(0) })] {
        let mut invalid = metal3_cluster();
        invalid.spec.control_plane_endpoint = endpoint;
        let (step, status) = pass(&invalid, Owner::Cluster(&named));
        assert!(matches!(step, Step::Rest(Next::Failed(Problem::Endpoint(_)))), "A-CM-10");
        assert!(!provisioned(status), "A-CM-10");
    }
}

#[test]
fn k_13_and_14_the_endpoint_is_there_before_it_is_vouched_for_and_the_word_stands() {
    let owner = Cluster::named("ns", "prod");
    let mut cluster = metal3_cluster();
    cluster.spec.control_plane_endpoint = None;
    let (_, status) = pass(&cluster, Owner::Cluster(&owner));
    assert_eq!(status.initialization, None, "K-13");
    cluster.spec.control_plane_endpoint = metal3_cluster().spec.control_plane_endpoint;
    cluster.status = Some(pass(&cluster, Owner::Cluster(&owner)).1);
    assert_eq!(
        cluster.status.as_ref().unwrap().initialization,
        Some(Initialization { provisioned: Some(true) }),
        "K-14"
    );
    cluster.spec.control_plane_endpoint = None;
    let (_, status) = pass(&cluster, Owner::Cluster(&owner));
    assert_eq!(status.initialization, Some(Initialization { provisioned: Some(true) }), "K-14: never taken back");
    assert_eq!(shown(&status, "Ready").0, "False");
}

#[test]
fn k_15_failure_domains_come_and_go_with_the_spec() {
    let owner = Cluster::named("ns", "prod");
    let mut cluster = metal3_cluster();
    let domain =
        |name: &str, control_plane| FailureDomain { name: name.to_owned(), control_plane, ..FailureDomain::default() };
    cluster.spec.failure_domains = vec![domain("b", Some(true)), domain("a", None)];
    cluster.status = Some(pass(&cluster, Owner::Cluster(&owner)).1);
    assert_eq!(cluster.status.as_ref().unwrap().failure_domains, cluster.spec.failure_domains);
    cluster.spec.failure_domains.clear();
    let status = pass(&cluster, Owner::Cluster(&owner)).1;
    assert_eq!(serde_json::to_value(&status).unwrap().get("failureDomains"), None, "absent, not empty");
}

#[test]
fn k_16_ready_is_always_a_whole_condition() {
    let owner = Cluster::named("ns", "prod");
    let mut invalid = metal3_cluster();
    invalid.spec.control_plane_endpoint = None;
    for cluster in [metal3_cluster(), invalid] {
        let (_, status) = pass(&cluster, Owner::Cluster(&owner));
        let (state, reason, _) = shown(&status, "Ready");
        assert!(["True", "False", "Unknown"].contains(&state) && !reason.is_empty());
    }
}

#[test]
fn k_18_without_an_owner_nothing_outside_the_status_happens() {
    let mut cluster = metal3_cluster();
    cluster.metadata.finalizers = None;
    let (step, status) = pass(&cluster, Owner::None);
    assert_eq!((step, status.initialization, status.conditions.len()), (Step::Rest(Next::Done), None, 0));
}

#[test]
fn k_20_and_k_147_deletion_ends_when_what_depends_on_it_has_gone_but_not_for_a_move() {
    let mut cluster = deleted(metal3_cluster());
    let step = |cluster: &Metal3Cluster, machines| {
        decide(&Observed { machines, ..observed(cluster, Owner::Missing("prod")) }).step
    };
    assert!(matches!(step(&cluster, Machines::Live(1)), Step::Rest(Next::After(_))), "K-20");
    assert!(matches!(step(&cluster, Machines::Live(0)), Step::Patch(_)), "K-147");
    cluster.metadata.annotations = Some([(annotation::DELETE_FOR_MOVE.to_owned(), String::new())].into());
    assert_eq!(step(&cluster, Machines::Live(0)), Step::Rest(Next::Done), "K-147");
}

#[test]
fn k_57_the_pause_says_what_caused_it_and_when() {
    let mut paused = Cluster::named("ns", "prod");
    paused.spec.paused = Some(true);
    let mut cluster = metal3_cluster();
    cluster.metadata.annotations = Some([(annotation::PAUSED.to_owned(), "any".to_owned())].into());
    let (_, status) = pass(&cluster, Owner::Cluster(&paused));
    let both = "Cluster spec.paused is set to true, Metal3Cluster has the cluster.x-k8s.io/paused annotation";
    assert_eq!(shown(&status, "Paused"), ("True", "Paused", both));
    assert_eq!(conditions::get(&status.conditions, "Paused").unwrap().observed_generation, Some(1));
    let (_, status) = pass(&metal3_cluster(), Owner::Cluster(&Cluster::named("ns", "prod")));
    assert_eq!(shown(&status, "Paused"), ("False", "NotPaused", ""));
    assert_eq!(conditions::get(&status.conditions, "Paused").unwrap().observed_generation, Some(1));
}
