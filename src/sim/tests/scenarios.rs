//! Every scenario on a calm day: it reaches its goal, then nothing happens for an hour, and the same seed gives the same trace.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test and say why")]

use std::sync::OnceLock;
use std::time::Duration;

use capm3_sim::scenario::{self, Scenario, Stage};
use capm3_sim::world::{Settings, Snapshot, World};
use tokio::time::sleep;

/// Virtual time from the last wish to its fulfilment.
const BOUND: Duration = Duration::from_secs(60);

fn blocking<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(Box::pin(future))
}

fn snapshot(stage: Stage) -> &'static Snapshot {
    static BUILT: [OnceLock<Snapshot>; Stage::ALL.len()] = [const { OnceLock::new() }; Stage::ALL.len()];
    let index = Stage::ALL.iter().position(|one| *one == stage).unwrap();
    BUILT[index].get_or_init(|| blocking(stage.build()).unwrap())
}

/// The hashes of both clusters' traces.
async fn calm(scenario: &dyn Scenario, begin: &Snapshot, seed: u64) -> (u64, u64) {
    let name = scenario.name();
    let settings = Settings { seed, keep_trace: true, ..Settings::default() };
    let world = World::begin(begin, settings);
    let story = || world.server.trace().join("\n");
    scenario::raise(scenario, &world).await;
    if let Err(stuck) = scenario.drive(&world).await {
        panic!("{name}: {stuck}\n{}", story());
    }
    let mut waited = Duration::ZERO;
    while let Err(missing) = scenario.goal(&world) {
        assert!(waited < BOUND, "{name}: {missing}\n{}", story());
        sleep(Duration::from_secs(1)).await;
        world.server.settle();
        waited += Duration::from_secs(1);
    }
    assert!(world.settles(Duration::from_secs(30), Duration::from_secs(600)).await, "{name} never rests\n{}", story());
    let before = (world.server.revision(), world.workload.revision(), world.server.trace().len());
    sleep(Duration::from_secs(3600)).await;
    world.server.settle();
    let after = (world.server.revision(), world.workload.revision());
    assert_eq!((before.0, before.1), after, "{name} is not quiet: {:#?}", &world.server.trace()[before.2..]);
    scenario.goal(&world).unwrap_or_else(|missing| panic!("{name}, an hour later: {missing}\n{}", story()));
    let forbidden: Vec<_> = world.server.trace().into_iter().filter(|line| line.ends_with(" 403")).collect();
    assert!(forbidden.is_empty(), "{name}: {forbidden:#?}");
    for process in world.processes() {
        assert_eq!(process.failure(), None, "{name}");
    }
    (world.server.trace_hash(), world.workload.trace_hash())
}

fn play(name: &str) {
    let all = scenario::all();
    let scenario = all.iter().find(|scenario| scenario.name() == name).unwrap();
    let begin = snapshot(scenario.stage());
    let run = || blocking(calm(&**scenario, begin, 7));
    assert_eq!(run(), run(), "the same seed, another trace");
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { play(stringify!($name)); })*

        #[test]
        fn no_scenario_is_left_out() {
            let all: Vec<_> = scenario::all().iter().map(|scenario| scenario.name()).collect();
            assert_eq!(all, [$(stringify!($name)),*]);
        }
    };
}

scenarios! {
    claims,
    capi_claims,
    both_kinds_one_pool,
    preallocated_address,
    requested_address,
    requested_address_freed,
    pool_enlarged,
    pool_shrunk,
    claims_come_and_go,
    claim_made_again,
    claims_before_their_pool,
    pool_deleted_while_used,
    pool_of_another_provider,
    pool_paused,
    pools_overlap,
    address_removed_by_force,
    ipam_restarted,
    machine_without_data,
    machine_with_data,
    machine_comes_and_goes,
    machine_deleted_at_some_moment,
    bare_machine_deleted_at_some_moment,
    machine_made_again,
    two_machines_one_host,
    host_comes_later,
    host_selected_by_label,
    host_fails_to_provision,
    host_fails_while_running,
    host_detached_while_running,
    host_deleted_under_a_machine,
    host_kept_by_somebody,
    paused_on_the_way,
    deleted_while_paused,
    machine_paused_alone,
    data_template_edited,
    data_template_deleted,
    data_template_late,
    pool_exhausted_under_a_machine,
    kubeconfig_late,
    workload_cluster_away,
    node_deleted,
    managers_restarted,
    host_claimed_without_annotation,
    annotation_without_claim,
    cluster_deleted,
    scaled_up_to_three,
    scaled_in,
    marked_machine_goes_first,
    rolled_out,
    rolled_out_on_the_same_hosts,
    control_plane_rolled_out,
    deployment_deleted,
    more_machines_than_hosts,
    gitops_applies_again,
    user_deletes_what_is_used,
    user_deletes_rendered_secrets,
    user_strips_marks,
    user_strips_owners,
    user_strips_finalizers,
    hosts_suffer,
    claims_orphaned,
    moved_to_another_cluster,
    remediated_out_of_service,
    remediated_by_deletion,
    given_up_and_replaced,
    remediation_deleted_on_the_way,
    remediation_removed_by_force,
    labels_follow_the_host,
}
