//! From the first look to the machine's return: R-7 to R-36.

use super::*;

#[test]
fn ar_6_a_host_that_its_user_switched_off_ends_in_failed() {
    let mut world = World::new(Mode::Taint);
    world.host.as_mut().unwrap().spec.online = Some(false);
    assert_eq!(world.pass(), Next::Done);
    assert_eq!((world.phase(), world.writes.as_slice()), ("Failed", &["Fail(SwitchedOff)".to_owned()][..]));
}

#[test]
fn ar_7_another_strategy_is_nobodys_business() {
    for kind in [None, Some(""), Some("Dance")] {
        let mut world = World::new(Mode::Taint);
        world.strategy().type_ = kind.map(str::to_owned);
        assert_eq!(world.pass(), Next::Done);
        assert!(world.writes.is_empty() && world.phase().is_empty());
    }
    let mut world = World::new(Mode::Taint);
    world.remediation.spec.strategy = None;
    assert_eq!((world.pass(), world.writes.len()), (Next::Done, 0));
}

#[test]
fn ar_8_a_new_one_begins_and_is_dated() {
    let world = World::new(Mode::Taint);
    let Step::Do(Action::Status { purpose: Purpose::Start, status }) = world.decide(&Answers::default()) else {
        panic!("it does not begin");
    };
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.last_remediated, Some(Time(world.now)));
    assert_eq!(status.retry_count, None);
}

#[test]
fn ar_9_the_finalizer_comes_before_anything_outside() {
    let mut world = World::in_phase("Running", Mode::Taint, 0);
    world.remediation.metadata.finalizers = None;
    world.pass();
    assert_eq!(world.writes, ["Finalizer", "PowerOff"]);
}

#[test]
fn ar_10_the_host_is_asked_to_go_off_once_it_is_certain_that_it_is_wanted() {
    let mut world = World::in_phase("Running", Mode::Taint, 0);
    assert_eq!(world.pass(), secs(300));
    assert_eq!(
        (world.asked.as_slice(), world.writes.as_slice()),
        (&[Question::Live][..], &["PowerOff".to_owned()][..])
    );
    assert!(world.is_kept_off() && world.phase() == "Running");
}

#[test]
fn ar_11_its_going_off_is_waited_for() {
    let mut world = World::kept_off("Running", Mode::Taint, 595);
    world.power(true);
    assert_eq!(world.pass(), secs(6), "until its time is over");
    assert!(world.writes.is_empty());
}

/// A host's status is lost with a move or a restore: what ran on it may still run.
#[test]
fn a_host_whose_power_nobody_knows_is_not_taken_for_off() {
    for status in [None, Some(BareMetalHostStatus::default())] {
        let mut world = World::kept_off("Running", Mode::Taint, 595);
        world.host.as_mut().unwrap().status = status;
        assert_eq!(world.pass(), secs(6));
        assert!(world.writes.is_empty(), "{:?}", world.writes);
    }
}

#[test]
fn ar_12_what_the_node_carries_is_stored_to_the_byte() {
    let mut world = World::kept_off("Running", Mode::Delete, 0);
    world.node_refuses = true;
    world.pass();
    assert_eq!(world.writes, ["Backup"]);
    let stored = world.remediation.metadata.annotations.clone().unwrap();
    assert_eq!(stored["remediation.metal3.io/node-annotations-backup"], r#"{"foo":"bar"}"#);
    assert_eq!(stored["remediation.metal3.io/node-labels-backup"], r#"{"answer":"42"}"#);
}

fn with_backup(phase: &str, seconds: i64) -> World {
    let mut world = World::kept_off(phase, Mode::Delete, seconds);
    let stored = Backup::default().completed(&node()).unwrap().patch();
    world.remediation = patched(&world.remediation, &json!({ "metadata": { "annotations": stored } }));
    world
}

#[test]
fn ar_13_with_a_backup_the_node_is_deleted() {
    let mut world = with_backup("Running", 0);
    let node = Some(Fact::There(Arc::new(node())));
    let answers = Answers { node, host_is_live: true, ..Answers::default() };
    assert_eq!(world.decide(&answers), Step::Do(Action::DeleteNode));
    // Changes of the Node meanwhile are not waited for (RH-14), and one that is going already is not deleted again (R-59).
    world.node.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(world.now));
    assert_eq!((world.pass(), world.phase()), (secs(300), "Running"));
    assert!(world.writes.is_empty());
}

/// The cache showed an older Node when the backup was made: what the Node has got since is kept as well before it goes.
#[test]
fn a_backup_of_an_older_node_is_completed() {
    let mut world = with_backup("Running", 0);
    let node = world.node.as_mut().unwrap();
    node.metadata.labels = Some(marks(&[("answer", "43"), ("new", "yes")]));
    node.metadata.annotations = None;
    world.pass();
    assert_eq!(world.writes[..2], ["Backup", "DeleteNode"]);
    let stored = world.remediation.metadata.annotations.clone().unwrap();
    assert_eq!(stored["remediation.metal3.io/node-annotations-backup"], r#"{"foo":"bar"}"#);
    assert_eq!(stored["remediation.metal3.io/node-labels-backup"], r#"{"answer":"43","new":"yes"}"#);
}

#[test]
fn r_59_nobody_relies_on_a_cached_host_to_be_off() {
    for mode in [Mode::Delete, Mode::Taint] {
        let world = World::kept_off("Running", mode, 0);
        let node = Some(Fact::There(Arc::new(node())));
        let answers = Answers { node, mode: Some(mode), ..Answers::default() };
        assert_eq!(world.decide(&answers), Step::Ask(Question::Host));
    }
}

#[test]
fn ar_14_without_a_node_it_goes_on() {
    let mut world = World::kept_off("Running", Mode::Delete, 0);
    world.node = None;
    assert!(matches!(world.decide(&answered(&world)), Step::Do(Action::Status { purpose: Purpose::Fenced, status })
        if status.phase.as_deref() == Some("Waiting")));
    world.forbidden = true;
    assert!(matches!(world.decide(&answered(&world)), Step::Do(Action::Status { purpose: Purpose::Fenced, .. })));
}

fn answered(world: &World) -> Answers {
    Answers { node: Some(world.look()), ..Answers::default() }
}

#[test]
fn ar_15_the_node_is_tainted() {
    let mut world = World::kept_off("Running", Mode::Taint, 0);
    world.left.running = 1;
    assert_eq!(world.pass(), secs(5));
    assert_eq!(world.writes, ["Taint"]);
    let taints = serde_json::to_value(&world.node.as_ref().unwrap().spec.taints).unwrap();
    let added = world.now.to_string();
    let expected = json!([{ "key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute", "timeAdded": added }]);
    assert_eq!(taints, expected);
}

fn tainted(phase: &str, seconds: i64) -> World {
    let mut world = World::kept_off(phase, Mode::Taint, seconds);
    let other = json!({ "spec": { "taints": [{ "key": "other", "effect": "NoSchedule" }] } });
    let node = patched(&node(), &other);
    world.node = Some(patched(&node, &taint(&node, world.now)));
    world
}

#[test]
fn ar_16_until_it_is_drained_it_is_looked_at_again() {
    for left in [
        Left { leaving: 1, ..Left::default() },
        Left { running: 1, ..Left::default() },
        Left { volumes: 1, ..Left::default() },
    ] {
        let mut world = tainted("Running", 0);
        world.left = left;
        assert_eq!((world.pass(), world.writes.len()), (secs(5), 0));
    }
    let world = tainted("Running", 0);
    let drain = Some(Drain::Unknown("no answer".to_owned()));
    let answers = Answers { drain, ..answered(&world) };
    assert_eq!(world.decide(&answers), Step::Rest(secs(5)));
}

#[test]
fn ar_17_drained_it_goes_on() {
    let world = tainted("Running", 0);
    let answers = Answers { drain: Some(Drain::Left(Left::default())), ..answered(&world) };
    assert!(matches!(world.decide(&answers), Step::Do(Action::Status { purpose: Purpose::Fenced, status })
        if status.phase.as_deref() == Some("Waiting")));
}

#[test]
fn rh_9_an_attempt_goes_on_as_it_began() {
    let mut world = tainted("Running", 0);
    world.mode = Mode::Delete;
    world.left.running = 1;
    world.pass();
    assert!(world.writes.is_empty() && !world.asked.contains(&Question::Mode));
    let mut world = with_backup("Running", 0);
    world.mode = Mode::Taint;
    world.node_refuses = true;
    world.pass();
    assert!(world.asked.contains(&Question::Host) && !world.asked.contains(&Question::Mode));
}

#[test]
fn ar_18_the_host_is_let_on_and_other_peoples_annotations_stay() {
    let mut world = World::kept_off("Waiting", Mode::Taint, 0);
    world.annotate_host("reboot.metal3.io/somebody");
    assert_eq!((world.pass(), world.writes.as_slice()), (secs(300), &["PowerOn".to_owned()][..]));
    assert!(world.host.unwrap().metadata.annotations.unwrap().contains_key("reboot.metal3.io/somebody"), "R-44");
}

#[test]
fn ar_19_its_going_on_is_waited_for() {
    let mut world = World::in_phase("Waiting", Mode::Taint, 0);
    world.power(false);
    assert_eq!((world.pass(), world.writes.len(), world.asked.len()), (secs(300), 0, 0));
}

#[test]
fn ar_20_the_node_is_waited_for() {
    let mut world = World::in_phase("Waiting", Mode::Delete, 0);
    world.node = None;
    assert_eq!((world.pass(), world.writes.len()), (secs(300), 0));
    assert!(world.has_finalizer());
}

#[test]
fn ar_21_taint_and_finalizer_go() {
    let mut world = tainted("Waiting", 0);
    world.host = Some(host());
    world.pass();
    assert_eq!(world.writes, ["Untaint", "Release"]);
    assert!(!world.has_finalizer() && world.phase() == "Waiting");
    let taints = &world.node.unwrap().spec.taints;
    assert_eq!((taints.len(), taints[0].key.as_str()), (1, "other"));
}

#[test]
fn ar_22_the_node_gets_back_what_it_lacks() {
    let mut world = with_backup("Waiting", 0);
    world.host = Some(host());
    let mut fresh = Node::named("", "n");
    fresh.metadata.labels = Some(marks(&[("answer", "43"), ("new", "1")]));
    world.node = Some(fresh);
    world.pass();
    assert_eq!(world.writes, ["Restore", "Release"]);
    let meta = world.node.unwrap().metadata;
    assert_eq!(meta.labels, Some(marks(&[("answer", "43"), ("new", "1")])), "what is there stays");
    assert_eq!(meta.annotations, Some(marks(&[("foo", "bar")])));
    assert!(!backup::is_stored(&world.remediation));
}

/// Nobody else would give it back: the machine has been provisioned long since.
#[test]
fn a_node_that_was_deleted_is_given_its_identity_again() {
    for (there, left) in
        [(None, Some("metal3://ns/h/m3")), (Some(""), Some("metal3://ns/h/m3")), (Some("own"), Some("own"))]
    {
        let mut world = with_backup("Waiting", 0);
        world.host = Some(host());
        world.metal3_machine.as_mut().unwrap().spec.provider_id = Some("metal3://ns/h/m3".to_owned());
        world.node = Some(node());
        world.node.as_mut().unwrap().spec.provider_id = there.map(str::to_owned);
        world.pass();
        assert_eq!(world.node.unwrap().spec.provider_id.as_deref(), left);
        assert_eq!(world.writes.last().map(String::as_str), Some("Release"));
    }
    let mut world = World::in_phase("Waiting", Mode::Taint, 0);
    world.metal3_machine.as_mut().unwrap().spec.provider_id = Some("metal3://ns/h/m3".to_owned());
    world.pass();
    assert_eq!(world.writes, ["Release"], "a Node that we did not delete is the machine's business");
}

#[test]
fn ar_23_where_we_may_not_look_the_finalizer_goes_all_the_same() {
    let mut world = with_backup("Waiting", 0);
    world.host = Some(host());
    world.forbidden = true;
    world.pass();
    assert_eq!(world.writes, ["Release"]);
    assert!(backup::is_stored(&world.remediation), "nothing was given back");
}

#[test]
fn ar_24_what_takes_too_long_is_tried_again() {
    let mut world = World::in_phase("Waiting", Mode::Delete, 601);
    world.node = None;
    let Step::Do(Action::Status { purpose: Purpose::Retry, status }) = world.decide(&answered(&world)) else {
        panic!("it is not tried again");
    };
    assert_eq!((status.phase.as_deref(), status.retry_count), (Some("Running"), Some(1)));
    assert_eq!(status.last_remediated, Some(Time(world.now)));
}

/// R-42: one attempt and its retries, each of which switches the host off once.
#[test]
fn r_42_as_many_power_cycles_as_retries_and_one() {
    for (mode, limit) in [(Mode::Taint, 1), (Mode::Delete, 3)] {
        let mut world = World::new(mode);
        world.strategy().retry_limit = Some(limit);
        let mut cycles = 0;
        for _ in 0..100 {
            world.pass();
            let off = world.is_kept_off();
            if off && world.host.as_ref().is_some_and(is_on) {
                cycles += 1;
            }
            world.power(!off);
            world.later(100);
            // The Node never returns.
            if world.phase() == "Waiting" {
                world.node = None;
            }
        }
        assert_eq!((world.phase(), cycles), ("Deleting machine", limit + 1));
        assert_eq!(retries(&world.remediation), limit);
        assert!(!world.is_kept_off());
    }
}

/// Both ways whole: each write once and in this order, whatever the pass is interrupted by.
#[test]
fn a_remediation_from_beginning_to_end() {
    let taint = ["Start", "Finalizer", "PowerOff", "Taint", "Fenced", "PowerOn", "Untaint", "Release"];
    let delete = ["Start", "Finalizer", "PowerOff", "Backup", "DeleteNode", "Fenced", "PowerOn", "Restore", "Release"];
    for (mode, expected) in [(Mode::Taint, &taint[..]), (Mode::Delete, &delete)] {
        let mut world = World::new(mode);
        for _ in 0..4 {
            world.pass();
            let off = world.is_kept_off();
            world.power(!off);
            if !off && world.node.is_none() {
                world.node = Some(Node::named("", "n"));
            }
            world.later(10);
        }
        assert_eq!(world.writes, expected);
        assert_eq!(world.node.unwrap().metadata.labels, Some(marks(&[("answer", "42")])));
        assert_eq!(
            (world.remediation.metadata.finalizers, kept_off_by(&world.host.unwrap()).count()),
            (Some(Vec::new()), 0)
        );
    }
}
