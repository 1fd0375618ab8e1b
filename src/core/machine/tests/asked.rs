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
fn a_i_5_and_n_22_infrastructure_must_be_ready() {
    let mut world = World::new();
    let ready = world.cluster.as_mut().unwrap().status.take();
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForClusterInfrastructureReady");
    world.says("Ready", "False", "NotReady");

    world.cluster.as_mut().unwrap().status = ready; // the deprecated condition is not needed
    world.pass();
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
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
fn a_i_7_a_mf_2_and_a_s_8_no_bootstrap_data_no_host() {
    let mut world = World::new();
    world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForBootstrapData");
    assert_eq!(world.message(ASSOCIATE), "waiting for the bootstrap data of Machine m1");
    assert_eq!(world.legacy("AssociateBMH").unwrap().1.as_deref(), Some("WaitingForBootstrapReady"));
    world.says("Ready", "False", "NotReady");
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_i_8_and_9_paused_by_cluster_or_by_annotation() {
    let mut world = World::new();
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    world.says("Paused", "True", "Paused");
    world.says("Ready", "False", "NotReady");
    assert_eq!(world.hosts[0].spec.consumer_ref, None);

    let mut world = World::new();
    world.annotate(annotation::PAUSED, "");
    assert_eq!(world.pass(), WAIT);
    world.says(ASSOCIATE, "False", "Paused");
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
    for (paused, reason) in
        [(false, "BareMetalHostPauseAnnotationRemoveFailed"), (true, "BareMetalHostPauseAnnotationSetFailed")]
    {
        let mut world = World::new();
        world.pause(paused);
        world.annotate(annotation::HOST, "a/b/c");
        assert_eq!(world.pass(), WAIT);
        world.says("Paused", "False", reason);
        world.says("Ready", "False", "NotReady");
        assert!(world.message(ASSOCIATE).contains("a/b/c"));
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
    world.machine.as_mut().unwrap().metadata.creation_timestamp = Some(Time(Timestamp::from_second(3598).unwrap()));
    assert_eq!(world.pass(), End::Rest(Next::After(JUST_CREATED)));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}
