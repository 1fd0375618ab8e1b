//! Who is asked and whether anything may be done (M-10 to M-19), and which words are worth a write of the status.

use super::*;

#[test]
fn a_i_2_without_an_owner_it_waits() {
    let mut world = World::new();
    world.m3m().metadata.owner_references = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForMetal3MachineOwnerRef");
    assert_eq!(world.message(ASSOCIATE), "waiting for the Machine that owns it");
    assert_eq!(world.legacy("AssociateBMH").unwrap().1.as_deref(), Some("WaitingForM3MachineOwnerRef"));
}

#[test]
fn an_owner_that_is_about_to_come_is_not_worth_a_write() {
    let mut world = World::new();
    world.m3m().metadata.owner_references = None;
    world.m3m().metadata.creation_timestamp = Some(Time(Timestamp::from_second(3598).unwrap()));
    assert_eq!(world.pass(), End::Rest(Next::After(JUST_CREATED)));
    assert!(world.writes.is_empty());
}

#[test]
fn a_i_3_a_missing_owner_is_an_error() {
    let mut world = World::new();
    world.owner = None;
    assert_eq!(world.pass(), End::Rest(Next::Failed(Problem::OwnerMissing("m1".to_owned()))));
    assert!(world.writes.is_empty());
}

/// The row expects empty failure fields; with H-24 they stay unset.
#[test]
fn a_i_4_a_missing_cluster_is_waited_for() {
    let mut world = World::new();
    world.cluster = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForClusterInfrastructureReady");
    assert_eq!(world.message(ASSOCIATE), "Cluster prod does not exist");
    assert_eq!(world.status().deprecated, None);
}

#[test]
fn a_i_5_infrastructure_must_be_ready() {
    let mut world = World::new();
    let ready = world.cluster.as_mut().unwrap().status.take();
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForClusterInfrastructureReady");
    world.says("Ready", "False", "NotReady");

    world.cluster.as_mut().unwrap().status = ready; // the deprecated condition is not needed
    world.pass();
    assert_eq!(world.condition(ASSOCIATE).unwrap().0, "True", "N-22");
}

#[test]
fn m_14_the_deprecated_condition_will_do() {
    let mut world = World::new();
    let condition = json!({ "type": "InfrastructureReady", "status": "True" });
    world.cluster.as_mut().unwrap().status =
        Some(from(json!({ "deprecated": { "v1beta1": { "conditions": [condition] } } })));
    world.pass();
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_i_6_the_metal3_cluster_must_be_there() {
    let mut world = World::new();
    world.infrastructure = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingforMetal3Cluster");
}

/// The row also expects the finalizer; by 9.4 it comes with the intent, before which there is nothing to undo.
#[test]
fn a_i_7_no_bootstrap_data_no_host() {
    let mut world = World::with_template();
    world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForBootstrapData");
    assert_eq!(world.message(ASSOCIATE), "waiting for the bootstrap data of Machine m1");
    assert_eq!(world.legacy("AssociateBMH").unwrap().1.as_deref(), Some("WaitingForBootstrapReady"));
    world.says("Ready", "False", "NotReady");
    assert_eq!((&world.hosts[0], &world.claim), (&World::new().hosts[0], &None), "A-MF-2");
    assert_eq!(world.writes, ["status"], "A-MF-2");
}

/// Only the name of the Secret makes bootstrap data, whatever a condition says of it (H-17, H-33).
#[test]
fn a_s_5_to_8_when_bootstrap_data_is_ready() {
    let config = ContractRef { kind: "KubeadmConfig".to_owned(), name: "m1".to_owned(), api_group: None };
    let bootstrap = |config: Option<&ContractRef>, secret: Option<&str>| Bootstrap {
        config_ref: config.cloned(),
        data_secret_name: secret.map(str::to_owned),
    };
    let rows = [
        ("A-S-5", Some(bootstrap(Some(&config), Some("m1-bootstrap"))), true),
        ("A-S-5", Some(bootstrap(Some(&config), None)), false),
        ("A-S-6", Some(bootstrap(Some(&config), Some(""))), false),
        ("A-S-7", Some(bootstrap(None, Some("m1-bootstrap"))), true),
        ("A-S-8", Some(bootstrap(None, None)), false),
        ("A-S-8", None, false),
    ];
    for (row, bootstrap, ready) in rows {
        let mut world = World::new();
        world.owner().spec.bootstrap = bootstrap;
        let conditions = json!([{ "type": "BootstrapReady", "status": if row == "A-S-6" { "False" } else { "True" } }]);
        world.owner().status = Some(from(json!({ "deprecated": { "v1beta1": { "conditions": conditions } } })));
        assert_eq!(world.pass(), DONE);
        assert_eq!(world.hosts[0].spec.consumer_ref.is_some(), ready, "{row}");
        let reason = world.condition(ASSOCIATE).map(|(_, reason, _)| reason);
        assert_eq!(reason.as_deref() == Some("WaitingForBootstrapData"), !ready, "{row}");
    }
}

#[test]
fn a_i_8_paused_by_cluster_or_by_annotation() {
    let mut world = World::new();
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    world.says("Paused", "True", "Paused");
    world.says("Ready", "False", "NotReady");
    assert_eq!(world.hosts[0].spec.consumer_ref, None);

    let mut world = World::new();
    world.annotate(annotation::PAUSED, "");
    assert_eq!(world.pass(), WAIT, "A-I-9");
    world.says(ASSOCIATE, "False", "Paused");
    world.says("Paused", "True", "Paused");
}

#[test]
fn a_i_10_a_provisioned_machine_without_bootstrap_data_stays_provisioned() {
    let mut world = World::new();
    world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
    world.m3m().status = Some(from(json!({ "initialization": { "provisioned": true } })));
    world.owner().spec.bootstrap = None;
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.status().initialization.unwrap().provisioned, Some(true));
}

#[test]
fn a_i_22_and_23_a_malformed_annotation_says_so() {
    for (row, paused, reason) in [
        ("A-I-22", false, "BareMetalHostPauseAnnotationRemoveFailed"),
        ("A-I-23", true, "BareMetalHostPauseAnnotationSetFailed"),
    ] {
        let mut world = World::new();
        world.pause(paused);
        world.annotate(annotation::HOST, "a/b/c");
        world.host().spec.consumer_ref = consumer("m1");
        let before = world.hosts.clone();
        assert_eq!(world.pass(), WAIT, "{row}");
        assert_eq!(world.hosts, before, "A-P-14: and no move is blocked");
        world.says("Paused", "False", reason);
        world.says("Ready", "False", "NotReady");
        assert!(world.message(ASSOCIATE).contains("a/b/c"));
    }
    for nameless in ["", "ns/"] {
        let mut world = World::new();
        world.annotate(annotation::HOST, nameless);
        assert!(host_name(world.m3m()).is_err(), "{nameless:?}");
    }
}

#[test]
fn s_7_a_status_tells_which_generation_it_is_about() {
    let mut world = World::new();
    let now = Timestamp::from_second(7).unwrap();
    let machine = world.machine.as_mut().unwrap();
    machine.metadata.generation = Some(1);
    machine.status = Some(Metal3MachineStatus { observed_generation: Some(-1), ..Metal3MachineStatus::default() });
    let mut report = Report { status: machine.status.clone().unwrap(), ..Report::default() };
    assert_eq!(report.status(machine, now).observed_generation, Some(-1), "nothing was found out");
    report.say(rows::WAITING_FOR_BOOTSTRAP, "");
    let told = report.status(machine, now);
    assert_eq!(told.observed_generation, Some(1));

    machine.metadata.generation = Some(2);
    report.status = told.clone();
    machine.status = Some(told.clone());
    assert_eq!(report.status(machine, now).observed_generation, Some(2));

    // Another word within the same generation is dated.
    let later = Timestamp::from_second(8).unwrap();
    report.say(rows::WAITING_FOR_BOOTSTRAP, "other words");
    machine.metadata.generation = Some(1);
    report.status = told.clone();
    assert_eq!(report.status(machine, later).last_updated, Some(Time(later)));
    report.findings = Findings::default();

    // As another provider leaves a settled machine: no write for the sake of it.
    machine.metadata.generation = Some(1);
    machine.status = Some(Metal3MachineStatus { observed_generation: None, ..told });
    report.status = machine.status.clone().unwrap();
    assert_eq!(report.status(machine, now), machine.status.clone().unwrap());
}

#[test]
fn what_comes_within_moments_is_not_written_about() {
    let mut world = World::new();
    world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None;
    let created = |world: &mut World, second| {
        world.m3m().metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).unwrap()));
    };
    world.m3m().status = Some(Metal3MachineStatus { observed_generation: Some(-1), ..Metal3MachineStatus::default() });
    created(&mut world, 3598);
    assert_eq!(world.pass(), End::Rest(Next::After(JUST_CREATED)));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
    created(&mut world, 3595);
    world.pass();
    world.says(ASSOCIATE, "False", "WaitingForBootstrapData");
}

#[test]
fn what_cannot_be_found_out_shows_under_its_reason() {
    let name = || "n".to_owned();
    let template = Question::NodeReuse { template: name() };
    let cases = [
        (Question::Candidates, ASSOCIATE, rows::ASSOCIATE_FAILED),
        (Question::HostStatus { host: name() }, "Paused", rows::PAUSE_SET_FAILED[1]),
        (Question::Secret { name: name() }, METADATA, rows::METADATA_FAILED),
        (Question::Nodes, METADATA, rows::CREATE_FAILED),
        (Question::ClaimLive, METADATA, rows::DISASSOCIATE_FAILED),
        (Question::HostsLive, METADATA, rows::DELETION_FAILED),
        (template, METADATA, rows::DELETION_FAILED),
    ];
    for (question, kind, row) in cases {
        let mut report = Report::default();
        report.read_failed(&question, "no");
        assert_eq!(report.findings.get(kind).map(|finding| finding.row), Some(row), "{question:?}");
        assert!(report.trouble);
    }
}

#[test]
fn every_problem_is_counted_under_a_name_of_its_own() {
    let text = String::new;
    let selector = crate::placement::Selector::new([], [("not a key", "in", [].as_slice())]).unwrap_err();
    let problems = [
        Problem::OwnerMissing(text()),
        Problem::Annotation(text()),
        Problem::Selector(selector),
        Problem::ForeignNamespace { field: "", name: text(), namespace: text() },
        Problem::TemplateUnnamed,
        Problem::NothingToDeploy,
        Problem::SharedHostLabel { nodes: text(), uid: text() },
        Problem::OtherProviderId { node: text(), found: text(), expected: text() },
        Problem::SharedProviderId { prefix: text(), nodes: text() },
    ];
    let names: BTreeSet<_> = problems.iter().map(Problem::category).collect();
    assert_eq!(names.len(), problems.len());
}
