//! Whatever a crash leaves: the next pass ends where an undisturbed one would have.

use super::*;

/// Everything that outlives a pass, without the versions.
fn remains(world: &World) -> String {
    let mut world = world.clone();
    for meta in world.hosts.iter_mut().map(|h| &mut h.metadata).chain(world.machine.as_mut().map(|m| &mut m.metadata)) {
        meta.resource_version = None;
    }
    // Who finds the host released already cannot know that nothing is on its way to it.
    world.host().metadata.annotations.get_or_insert_default().remove(annotation::LET_GO_BY);
    format!("{:?} {:?} {:?} {:?} {:?}", world.machine, world.hosts, world.claim, world.credentials, world.nodes)
}

/// For every number of writes after which a pass may die: the next one ends where an undisturbed one would have.
#[track_caller]
fn check_crashes(start: &World) {
    let mut whole = start.clone();
    let end = whole.pass();
    for crash in 0.. {
        let mut world = start.clone();
        let crashed = world.pass_until(crash) == End::Crash;
        let again = world.pass();
        assert_eq!(again, end, "after {crash} writes");
        assert_eq!(remains(&world), remains(&whole), "after {crash} writes");
        if !crashed {
            return;
        }
    }
}

#[test]
fn a_crash_anywhere_in_claiming_changes_nothing_in_the_end() {
    let mut world = World::new();
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    check_crashes(&world);
    let mut world = World::with_template();
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    check_crashes(&world);
    world.pass();
    world.render();
    check_crashes(&world);
}

#[test]
fn a_crash_anywhere_in_joining_changes_nothing_in_the_end() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    check_crashes(&world);
}

#[test]
fn a_crash_anywhere_in_letting_go_changes_nothing_in_the_end() {
    check_crashes(&World::leaving());
    check_crashes(&World::cleared(host_state::AVAILABLE));
    check_crashes(&reusing(true));
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.delete();
    world.set_state(host_state::AVAILABLE);
    check_crashes(&world);
}

#[test]
fn a_crash_anywhere_in_pausing_changes_nothing_in_the_end() {
    let mut world = World::running();
    world.pause(true);
    check_crashes(&world);
}
