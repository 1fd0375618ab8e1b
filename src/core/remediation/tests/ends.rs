//! How it ends otherwise: given up, failed, deleted on the way, paused; and what nobody can be waited for for ever.

use super::*;

#[test]
fn ar_25_without_another_attempt_the_machine_is_handed_to_its_owner() {
    let mut world = World::in_phase("Waiting", Mode::Delete, 601);
    world.remediation.status.as_mut().unwrap().retry_count = Some(1);
    world.node = None;
    assert_eq!(world.pass(), Next::Done);
    assert_eq!(world.writes, ["MarkUnhealthy", "HandOver", "GiveUp"]);
    assert_eq!(world.phase(), "Deleting machine");
    let marked = world.host.unwrap().metadata.annotations.unwrap();
    assert_eq!(marked["capm3.metal3.io/unhealthy"], "capm3/UnhealthyNode");
    let conditions = world.machine.unwrap().status.unwrap().conditions;
    let said = crate::conditions::get(&conditions, "OwnerRemediated").unwrap();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "WaitingForRemediation"));
}

/// interrupted after each of its writes, the hand-over goes on where it stopped.
#[test]
fn r_40_a_hand_over_is_repeatable() {
    let mut world = World::in_phase("Waiting", Mode::Delete, 601);
    world.strategy().retry_limit = None;
    world.node = None;
    for expected in ["MarkUnhealthy", "HandOver", "GiveUp"] {
        let answers = Answers { node: Some(Fact::Absent), ..Answers::default() };
        let Step::Do(action) = world.decide(&answers) else { panic!("{expected} is missing") };
        world.apply(action);
        world.later(1);
        assert_eq!(world.writes.last().map(String::as_str), Some(expected));
    }
    assert_eq!(world.pass(), Next::Done);
}

#[test]
fn ar_26_in_a_terminal_phase_nothing_is_done() {
    for phase in ["Deleting machine", "Failed"] {
        let mut world = World::in_phase(phase, Mode::Taint, 9999);
        world.host.as_mut().unwrap().spec.online = Some(false); // R-7 does not come here (RH-3)
        assert_eq!((world.pass(), world.writes.len(), world.asked.len()), (Next::Done, 0, 0));
    }
    let mut world = World::in_phase("Somewhere else", Mode::Taint, 9999);
    assert_eq!((world.pass(), world.writes.len()), (Next::Done, 0), "R-39");
}

#[test]
fn rh_1_a_terminal_phase_keeps_no_host_off() {
    for phase in ["Deleting machine", "Failed"] {
        let mut world = World::kept_off(phase, Mode::Taint, 9999);
        assert_eq!((world.pass(), world.writes.as_slice()), (Next::Done, &["PowerOn".to_owned()][..]));
    }
}

/// AR-70: what nobody can be found for does not stay for ever, and lets its host on.
#[test]
fn rh_1_deleted_without_a_machine_it_goes() {
    let broken: [fn(&mut World); 3] = [
        |world| world.machine = None,
        |world| world.metal3_machine = None,
        |world| world.machine.as_mut().unwrap().spec.infrastructure_ref = None,
    ];
    for breaks in broken {
        let mut world = World::kept_off("Running", Mode::Delete, 0);
        breaks(&mut world);
        assert!(matches!(world.pass(), Next::Failed(_)), "while it is wanted, somebody has to put it right");
        assert!(world.writes.is_empty());
        world.delete();
        assert_eq!(world.pass(), Next::Done);
        assert_eq!(world.writes, ["PowerOn", "Release"]);
        assert_eq!(world.asked, [Question::Target, Question::Host]);
    }
    let mut world = World::in_phase("Running", Mode::Delete, 0);
    world.host = None;
    world.delete();
    assert_eq!((world.pass(), world.writes.as_slice()), (Next::Done, &["Release".to_owned()][..]));
}

#[test]
fn rh_1_deleted_in_a_terminal_phase_it_goes() {
    for phase in ["Deleting machine", "Failed"] {
        let mut world = World::kept_off(phase, Mode::Delete, 0);
        world.delete();
        assert_eq!(
            (world.pass(), world.writes.as_slice()),
            (Next::Done, &["PowerOn".to_owned(), "Release".to_owned()][..])
        );
    }
}

/// AR-71
#[test]
fn rh_2_deleted_before_the_host_was_asked_to_go_off_it_leaves_it_alone() {
    for phase in ["", "Running"] {
        let mut world = World::in_phase(phase, Mode::Delete, 0);
        world.delete();
        assert_eq!((world.pass(), world.writes.as_slice()), (Next::Done, &["Release".to_owned()][..]));
        assert_eq!(world.asked, [Question::Host], "the host is looked at once more");
    }
}

#[test]
fn rh_2_deleted_later_it_puts_everything_back() {
    for mode in [Mode::Taint, Mode::Delete] {
        let mut world = World::kept_off("Running", mode, 0);
        world.left.running = 1;
        world.pass(); // tainted, or deleted and on the way back
        world.delete();
        assert_eq!(world.pass(), secs(300), "until the host is on");
        assert!(!world.is_kept_off() && world.phase() == "Waiting");
        world.power(true);
        if mode == Mode::Delete {
            assert_eq!(world.pass(), secs(300), "the Node is given the time of the attempt");
            world.node = Some(Node::named("", "n"));
        }
        assert_eq!(world.pass(), Next::Done);
        let last = if mode == Mode::Taint { ["Untaint", "Release"] } else { ["Restore", "Release"] };
        assert_eq!(world.writes[world.writes.len() - 2..], last);
    }
}

/// Between two attempts the Node may still carry what the first one did to it.
#[test]
fn rh_2_deleted_in_a_later_attempt_the_node_is_put_back_too() {
    let mut world = World::in_phase("Running", Mode::Taint, 0);
    world.remediation.status.as_mut().unwrap().retry_count = Some(1);
    let node = world.node.as_mut().unwrap();
    *node = patched(node, &taint(node, world.now));
    world.delete();
    assert_eq!(world.pass(), Next::Done);
    assert_eq!(world.writes, ["Fenced", "Untaint", "Release"]);
}

/// K-87: whoever deletes it does not wait longer than the attempt would have taken.
#[test]
fn deleted_it_goes_when_its_time_is_over() {
    let cases: [fn(&mut World); 3] = [
        |world| world.power(false),
        |world| world.unreachable = true,
        |world| {
            world.node = None;
            world.remediation = patched(
                &world.remediation,
                &json!({ "metadata": { "annotations": Backup::default().completed(&node()).unwrap().patch() } }),
            );
        },
    ];
    for case in cases {
        let mut world = World::in_phase("Waiting", Mode::Delete, 0);
        world.delete();
        case(&mut world);
        assert!(matches!(world.pass(), Next::After(_)));
        assert!(world.writes.is_empty());
        world.later(601);
        assert_eq!((world.pass(), world.writes.as_slice()), (Next::Done, &["Release".to_owned()][..]));
    }
    let mut world = World::in_phase("Waiting", Mode::Taint, 0);
    world.node = None;
    world.delete();
    assert_eq!(
        (world.pass(), world.writes.as_slice()),
        (Next::Done, &["Release".to_owned()][..]),
        "nothing to give back"
    );
}

/// AR-72
#[test]
fn rh_3_failed_leaves_nothing_behind() {
    let mut world = World::kept_off("Running", Mode::Taint, 0);
    world.left.running = 1;
    world.pass();
    world.host.as_mut().unwrap().spec.online = Some(false);
    assert_eq!(world.pass(), Next::Done);
    assert_eq!(world.writes, ["Taint", "PowerOn", "Untaint", "Release", "Fail(SwitchedOff)"]);
    // While nobody can say whether the Node is tainted, there is time until the attempt's is over.
    let mut world = World::kept_off("Waiting", Mode::Taint, 0);
    world.host.as_mut().unwrap().spec.online = Some(false);
    world.unreachable = true;
    assert_eq!((world.pass(), world.phase()), (secs(30), "Waiting"));
    world.later(601);
    assert_eq!((world.pass(), world.phase()), (Next::Done, "Failed"));
}

/// AR-73
#[test]
fn rh_4_the_host_goes_off_and_on_without_the_workload_cluster() {
    let mut world = World::in_phase("Running", Mode::Taint, 0);
    world.unreachable = true;
    world.pass();
    assert!(world.is_kept_off() && !world.asked.contains(&Question::Node));
    let mut world = World::kept_off("Waiting", Mode::Taint, 0);
    world.unreachable = true;
    world.pass();
    assert!(!world.is_kept_off() && !world.asked.contains(&Question::Node));
    world.power(true);
    world.later(9999);
    assert_eq!(
        (world.pass(), world.phase()),
        (secs(30), "Waiting"),
        "a machine nobody can see is not switched off again"
    );
}

/// The workload API may have run on the very host that is off: it must not wait for itself.
#[test]
fn rh_4_a_control_plane_does_not_wait_for_itself() {
    let mut world = World::kept_off("Running", Mode::Taint, 0);
    world.unreachable = true;
    world
        .machine
        .as_mut()
        .unwrap()
        .metadata
        .labels
        .as_mut()
        .unwrap()
        .insert(label::CONTROL_PLANE.to_owned(), String::new());
    assert_eq!((world.pass(), world.phase()), (secs(30), "Running"), "others of it may come in its place");
    world.later(301);
    world.pass();
    assert_eq!((world.phase(), world.is_kept_off()), ("Waiting", false));
    let mut world = World::kept_off("Running", Mode::Taint, 301);
    world.unreachable = true;
    assert_eq!((world.pass(), world.phase()), (secs(30), "Running"), "a worker stays off until its time is over");
}

/// AR-74
#[test]
fn rh_5_a_machine_that_never_had_a_node_is_remediated_too() {
    let mut world = World::kept_off("Running", Mode::Taint, 0);
    world.machine.as_mut().unwrap().status = None;
    world.pass();
    assert_eq!((world.phase(), world.writes.as_slice()), ("Waiting", &["Fenced".to_owned(), "PowerOn".to_owned()][..]));
    world.power(true);
    world.later(601);
    world.pass();
    assert_eq!((world.phase(), retries(&world.remediation)), ("Running", 1));
    assert!(world.asked.iter().all(|question| *question == Question::Live));
}

/// AR-75: off and on alike; draining and a Node that does not go too.
#[test]
fn rh_6_no_wait_is_without_an_end() {
    let waits: [fn(&mut World); 4] = [
        |world| world.power(true),
        |world| world.left.volumes = 1,
        |world| {
            world.mode = Mode::Delete;
            world.node.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(world.now));
        },
        |world| world.unreachable = true,
    ];
    for wait in waits {
        let mut world = World::kept_off("Running", Mode::Taint, 0);
        wait(&mut world);
        world.pass();
        assert_eq!((world.phase(), retries(&world.remediation)), ("Running", 0));
        world.later(601);
        world.pass();
        assert_eq!((world.phase(), retries(&world.remediation)), ("Running", 1));
        assert!(world.is_kept_off(), "it stays off for the next attempt");
        world.later(601);
        world.pass();
        assert!(!world.is_kept_off());
        assert!(world.phase() == "Waiting" || world.phase() == "Deleting machine", "{}", world.phase());
    }
    // What does not come on is tried again, and is off already.
    let mut world = World::in_phase("Waiting", Mode::Taint, 601);
    world.power(false);
    world.pass();
    assert_eq!(world.writes, ["Retry", "PowerOff", "Taint", "Fenced", "PowerOn"]);
    assert_eq!((world.phase(), retries(&world.remediation)), ("Waiting", 1));
}

/// AR-76
#[test]
fn rh_7_whoever_is_paused_is_left_alone() {
    for phase in ["", "Running", "Waiting", "Failed"] {
        let mut world = World::kept_off(phase, Mode::Taint, 9999);
        world.cluster.spec.paused = Some(true);
        assert_eq!((world.pass(), world.writes.len()), (secs(300), 0));
        world.delete();
        assert_eq!((world.pass(), world.writes.len()), (secs(300), 0));
        world.cluster.spec.paused = None;
        world.remediation.metadata.annotations = Some(marks(&[(annotation::PAUSED, "")]));
        assert_eq!((world.pass(), world.writes.len()), (secs(300), 0));
    }
}

/// AR-77
#[test]
fn rh_8_a_limit_that_was_lowered_ends_it() {
    let mut world = World::in_phase("Waiting", Mode::Delete, 601);
    world.remediation.status.as_mut().unwrap().retry_count = Some(3);
    world.node = None;
    world.pass();
    assert_eq!(world.phase(), "Deleting machine");
}

/// AR-80
#[test]
fn rh_11_what_could_not_be_given_back_is_kept() {
    let mut world = World::in_phase("Waiting", Mode::Delete, 0);
    world.remediation = patched(
        &world.remediation,
        &json!({ "metadata": { "annotations": Backup::default().completed(&node()).unwrap().patch() } }),
    );
    world.node = Some(Node::named("", "n"));
    world.node_refuses = true;
    world.pass();
    assert!(world.has_finalizer() && backup::is_stored(&world.remediation));
    world.node_refuses = false;
    world.pass();
    assert_eq!(world.writes, ["Restore", "Release"]);
}

/// AR-82
#[test]
fn rh_13_a_host_that_cannot_be_switched_off_is_refused() {
    let mut world = World::new(Mode::Taint);
    world.host.as_mut().unwrap().spec.disable_power_off = Some(true);
    assert_eq!(world.pass(), Next::Done);
    assert_eq!(world.writes, ["Start", "Fail(NeverOff)"]);
    let mut world = World::kept_off("Running", Mode::Taint, 0);
    world.host.as_mut().unwrap().spec.disable_power_off = Some(true);
    world.pass();
    assert_eq!(world.writes, ["PowerOn", "Release", "Fail(NeverOff)"]);
}

#[test]
fn a_host_that_is_kept_off_for_nobody_is_let_on() {
    let mut world = World::kept_off("Running", Mode::Taint, 0);
    let host = world.host.clone().unwrap();
    assert_eq!(kept_off_by(&host).collect::<Vec<_>>(), [UID]);
    let patch = let_on(&host, UID).unwrap();
    assert_eq!(kept_off_by(&patched(&host, &patch)).count(), 0);
    assert_eq!(let_on(&host, "another"), None);
    world.annotate_host(annotation::HOST_PAUSED);
    assert_eq!(let_on(&world.host.unwrap(), UID), None, "paused hosts are left alone");
}
