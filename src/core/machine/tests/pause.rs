//! Pausing ends with the move allowed; a user's pause and other people's hosts are left alone (M-20 to M-23).

use super::*;

#[test]
fn a_p_4_pausing_is_three_writes_that_end_with_the_move_allowed() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.writes, ["BlockMove host-0", "PauseHost host-0", "UnblockMove host-0", "status"]);
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
    assert_eq!(world.host_annotation(annotation::HOST_STATUS), Some("{\"poweredOn\":true}"));
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
    world.writes.clear();
    world.pass();
    assert_eq!(world.writes, [""; 0]);
}

#[test]
fn a_p_5_and_6_and_8_an_interrupted_pause_goes_on_where_it_stopped() {
    for crash in 0..3 {
        let mut world = World::running();
        world.pause(true);
        world.pass_until(crash);
        world.pass();
        assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
        assert!(world.host_annotation(annotation::HOST_STATUS).is_some());
        assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
    }
}

#[test]
fn a_p_2_a_p_3_and_n_15_a_users_pause_keeps_its_value_and_gets_the_status() {
    let mut world = World::running();
    world.annotate_host(annotation::HOST_PAUSED, "");
    world.annotate_host(annotation::BLOCK_MOVE, "");
    world.pause(true);
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some(""));
    assert!(world.host_annotation(annotation::HOST_STATUS).is_some());
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
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
fn a_p_16_and_a_p_12_a_users_pause_stays_and_blocks_no_move() {
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
fn a_p_10_a_p_13_and_h_54_only_our_own_host_is_touched() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.pass();
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), Some(""));

    for owner in [None, consumer("m2")] {
        let mut world = World::running();
        world.host().metadata.annotations = None;
        world.host().spec.consumer_ref = owner;
        world.pause(true);
        world.pass();
        assert_eq!(world.hosts[0].metadata.annotations, None);
    }
}
