//! Pausing ends with the move allowed; a user's pause and other people's hosts are left alone (M-20 to M-23).

use super::*;

#[test]
fn a_p_4_pausing_is_three_writes_that_end_with_the_move_allowed() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.writes, ["HoldMove host-0", "PauseHost host-0", "UnblockMove host-0", "status"]);
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
    assert_eq!(world.host_annotation(annotation::HOST_STATUS), Some("{\"poweredOn\":true}"));
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
    world.writes.clear();
    world.pass();
    assert_eq!(world.writes, [""; 0]);
}

#[test]
fn a_p_5_an_interrupted_pause_goes_on_where_it_stopped() {
    for crash in 0..3 {
        let mut world = World::running(); // its host is held back from moves already
        world.pause(true);
        world.pass_until(crash);
        world.pass();
        assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
        assert!(world.host_annotation(annotation::HOST_STATUS).is_some());
        assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
    }
}

#[test]
fn a_p_1_a_pause_of_ours_gets_the_status_that_it_lacks() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.annotate_host(annotation::HOST_PAUSED, "metal3.io/capm3");
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
    assert_eq!(world.host_annotation(annotation::HOST_STATUS), Some("{\"poweredOn\":true}"), "H-21");
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
}

fn is(purpose: Purpose) -> impl Fn(&Action) -> bool {
    move |action| matches!(action, Action::Host { purpose: p, .. } if *p == purpose)
}

#[test]
fn a_p_6_and_7_each_write_of_a_pause_that_fails_is_said() {
    for (row, purpose, paused) in [("A-P-6", Purpose::HoldMove, false), ("A-P-7", Purpose::UnblockMove, true)] {
        let mut world = World::running();
        world.host().metadata.annotations = None;
        world.pause(true);
        assert_eq!(world.pass_refusing(is(purpose)), End::Refused, "{row}");
        world.says("Paused", "False", "BareMetalHostPauseAnnotationSetFailed");
        world.says(ASSOCIATE, "False", "BareMetalHostPauseAnnotationSetFailed");
        assert_eq!(world.legacy("AssociateBMH").unwrap().1.as_deref(), Some("PauseAnnotationSetFailedReason"));
        assert_eq!(world.host_annotation(annotation::HOST_PAUSED).is_some(), paused, "{row}");
        assert_eq!(world.pass(), WAIT, "{row}");
        world.says("Paused", "True", "Paused");
        assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None, "{row}");
    }
}

/// The write that meets nothing fails, and the next look finds nothing to pause.
#[test]
fn a_p_8_a_host_that_goes_while_it_is_paused() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.pause(true);
    assert_eq!(world.pass_refusing(is(Purpose::PauseHost)), End::Refused);
    world.says("Paused", "False", "BareMetalHostPauseAnnotationSetFailed");
    world.hosts.clear();
    assert_eq!(world.pass(), WAIT);
    world.says("Paused", "True", "Paused");
}

/// Somebody took the annotation that names the host while it was paused, and then the machine was deleted.
#[test]
fn the_host_of_a_machine_that_leaves_is_resumed_also_without_the_annotation() {
    let mut world = World::running();
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some(annotation::HOST_PAUSED_BY_US));
    world.m3m().metadata.annotations.as_mut().unwrap().remove(annotation::HOST);
    world.delete();
    world.pause(false);
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), None);
    assert_eq!(world.hosts[0].spec.image, None);
}

#[test]
fn m_16_a_host_that_cannot_be_held_back_from_moves_is_looked_after_all_the_same() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass_refusing(is(Purpose::BlockMove)), DONE);
    world.says("Ready", "True", "Ready");
}

#[test]
fn a_p_9_and_11_to_13_which_host_is_held_back_from_moves() {
    let empty = BTreeMap::new();
    let with = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let rows = [
        ("A-P-11", Some(with(annotation::BLOCK_MOVE, "x")), Some("x")),
        ("A-P-12", Some(with(annotation::HOST_PAUSED, "")), None),
        ("A-P-13", Some(empty), Some("")),
        ("A-P-13", None, Some("")),
        ("A-P-17", None, Some("")),
    ];
    for (row, before, after) in rows {
        let mut world = World::running();
        world.host().metadata.annotations = before;
        assert_eq!(world.pass(), WAIT, "{row}"); // its Node is waited for
        assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), after, "{row}");
        world.says("Paused", "False", "NotPaused");
    }
    let mut world = World::running();
    world.hosts.clear();
    assert_eq!(world.pass(), WAIT, "A-P-9");
    world.says("Paused", "False", "NotPaused");
}

#[test]
fn a_p_2_a_users_pause_keeps_its_value_and_gets_the_status() {
    let mut world = World::running();
    world.annotate_host(annotation::HOST_PAUSED, "");
    world.annotate_host(annotation::BLOCK_MOVE, "");
    world.pause(true);
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some(""), "N-15");
    assert!(world.host_annotation(annotation::HOST_STATUS).is_some(), "N-15");
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None, "A-P-3");
}

#[test]
fn a_p_15_our_pause_is_lifted() {
    let mut world = World::running();
    world.pause(true);
    world.pass();
    world.pause(false);
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), None);
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), Some(""));
    world.says("Paused", "False", "NotPaused");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_p_16_a_users_pause_stays_and_blocks_no_move() {
    let mut world = World::running();
    world.host().metadata.annotations = Some([(annotation::HOST_PAUSED.to_owned(), String::new())].into());
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some(""));
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);

    let mut world = World::running(); // ours by value, but another cluster's host
    world.annotate_host(annotation::HOST_PAUSED, "metal3.io/capm3");
    world.host().metadata.labels = None;
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
}

#[test]
fn a_p_10_only_our_own_host_is_touched() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.pass();
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), Some(""));

    for (owner, paused) in [(None, true), (consumer("m2"), true), (consumer("m2"), false)] {
        let mut world = World::running();
        world.host().metadata.annotations = None;
        world.host().spec.consumer_ref = owner;
        world.pause(paused);
        world.pass();
        assert_eq!(world.hosts[0].metadata.annotations, None);
    }
}
