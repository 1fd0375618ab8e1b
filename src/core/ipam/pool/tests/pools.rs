//! What a pool is to its Cluster, what it says of itself, and when it goes.

use super::*;

/// A pool of Cluster prod with a claim that waits.
fn in_cluster(cluster: Cluster) -> World {
    let mut world = ten().with(m3("abc"));
    world.0.pool.cluster_name = Some("prod".into());
    world.0.cluster = Some(cluster);
    world
}

fn found(paused: bool) -> Cluster {
    Cluster::Found { name: "prod".into(), uid: "u1".into(), paused }
}

/// The owner references that a plan leaves a pool with, whose labels it sets.
#[track_caller]
fn owners_once_labelled(plan: &Plan) -> Vec<OwnerReference> {
    let metadata = plan.metadata.as_ref().unwrap();
    let labels = metadata.labels.as_ref().unwrap();
    assert_eq!((labels[label::CLUSTER_NAME].as_str(), labels[label::PROVIDER].as_str()), ("prod", "ipam-metal3"));
    metadata.owner_references.clone().unwrap_or_default()
}

/// The Cluster's event wakes the pool; the timer is the safety net behind it (TI-91, TI-93: 30 s).
#[test]
fn ti_91_a_pool_waits_for_its_cluster() {
    let plan = in_cluster(Cluster::Missing).decide();
    assert_eq!(owners_once_labelled(&plan), []);
    assert!(plan.served.is_empty() && plan.status.is_none());
    assert_eq!(plan.after, Some(WAIT));
}

#[test]
fn ti_93_a_pool_of_a_paused_cluster_has_its_owner_and_waits() {
    let plan = in_cluster(found(true)).decide();
    assert_eq!(owners_once_labelled(&plan), [cluster_owner("prod", "u1")]);
    assert!(plan.served.is_empty() && plan.status.is_none());
    assert_eq!(plan.after, Some(WAIT));
}

#[test]
fn ti_94_a_pool_of_a_cluster_is_served() {
    let mut world = in_cluster(found(false));
    world.0.pool.metadata.finalizers = None;
    let plan = world.decide();
    let owners = owners_once_labelled(&plan);
    let of = OwnerReference {
        api_version: "cluster.x-k8s.io/v1beta2".into(),
        kind: "Cluster".into(),
        name: "prod".into(),
        uid: "u1".into(),
        controller: Some(false),
        block_owner_deletion: None,
    };
    assert_eq!(owners, [of]);
    assert_eq!(plan.metadata.as_ref().unwrap().finalizers, Some(vec![finalizer::IP_POOL.to_owned()]));
    assert_eq!((plan.served.len(), plan.after), (1, None));
    world.settle().has(&[("abc", ".11")]);
}

#[test]
fn ti_95_an_owner_of_another_version_is_not_doubled() {
    let mut world = in_cluster(found(false));
    let old = OwnerReference {
        api_version: "cluster.x-k8s.io/v1beta1".into(),
        uid: "u0".into(),
        ..cluster_owner("prod", "u1")
    };
    world.0.pool.metadata.owner_references = Some(vec![old.clone()]);
    assert_eq!(owners_once_labelled(&world.decide()), [old]);
}

#[test]
fn hi_25_a_pool_whose_cluster_is_gone_lets_go_and_serves_nobody() {
    let mut world = ten().with(m3("new")).holding(m3("kept"), ".11").holding(leaving(m3("done"), &[]), ".12");
    world = world.holding(leaving(capi("done too"), &[]), ".13").holding(leaving(m3("in use"), &[DATA]), ".14");
    world.0.pool.cluster_name = Some("prod".into());
    world.0.cluster = Some(Cluster::Missing);
    let plan = world.decide();
    let released: Vec<_> = plan.releases.iter().map(|release| release.claim.name.as_str()).collect();
    assert_eq!((released, plan.served.len()), (vec!["done", "done too"], 0));
    assert_eq!(plan.ready.as_ref().unwrap().reason, "WaitingForCluster");
    let world = world.settle().has(&[("kept", ".11"), ("in use", ".14")]);
    assert_eq!(world.0.claims.len(), 3);
}

#[test]
fn hi_28_a_pool_says_whether_it_can_serve() {
    let said = |plan: Plan| plan.ready.map(|ready| (ready.reason, ready.message));
    assert_eq!(said(ten().with(m3("abc")).decide()), Some(("Ready", String::new())));
    let full = pool(&[(".11", ".11")]).holding(m3("a"), ".11").with(m3("b")).with(capi("c"));
    let expected = ("PoolExhausted", "no address is left for 2 claims".to_owned());
    assert_eq!(said(full.decide()), Some(expected));
    let refused = ten().with(asking(m3("abc"), "10.0.0.1"));
    assert_eq!(said(refused.decide()), Some(("Ready", String::new())), "the claim's mistake is not the pool's");

    let mut early = ten();
    early.0.pool.cluster_name = Some("prod".into());
    early.0.cluster = Some(Cluster::Missing);
    let expected = ("WaitingForCluster", "waits for Cluster prod, which does not exist".to_owned());
    assert_eq!(said(early.decide()), Some(expected));
    early.0.now = Timestamp::from_second(1001).unwrap();
    assert_eq!(early.decide(), Plan { after: Some(JUST_CREATED), ..Plan::default() }, "created together");
}

#[test]
fn ti_92_a_pool_whose_cluster_is_gone_goes_when_nothing_is_held() {
    let mut world = ten().deleting();
    world.0.pool.cluster_name = Some("prod".into());
    world.0.cluster = Some(Cluster::Missing);
    assert!(needs(&world.0).emptiness);
    assert!(!world.decide().finalize, "not before the live read");
    world.0.confirmed.empty = true;
    assert!(world.decide().finalize);
}

#[test]
fn ti_96_a_pool_stays_while_addresses_are_left() {
    for held in [m3("abc"), capi("abc"), leaving(m3("abc"), &[DATA])] {
        let held = ten().holding(held, ".11").deleting();
        let plan = held.decide();
        assert!(!needs(&held.0).emptiness && !plan.finalize);
        assert_eq!((plan.metadata, plan.after), (None, None), "the event of the claim wakes it");
    }
}

#[test]
fn ti_97_a_pool_goes_with_its_pre_allocations() {
    let mut world = ten().kept("x", ".15").deleting();
    assert!(needs(&world.0).emptiness);
    world.0.confirmed.empty = true;
    assert!(world.decide().finalize);
}

#[test]
fn ti_99_a_paused_pool_does_nothing_at_all() {
    let mut world = ten().with(m3("abc")).holding(leaving(m3("x"), &[]), ".11");
    world.0.pool.metadata.annotations = Some([(annotation::PAUSED.to_owned(), String::new())].into());
    assert_eq!(world.decide(), Plan::default());
    assert_eq!(needs(&world.0), Needs::default());
}

#[test]
fn ti_146_a_pool_that_is_going_serves_nobody() {
    let world = ten().deleting().with(m3("a")).with(capi("b")).holding(m3("c"), ".11").settle();
    let message = Failure::PoolDeleting;
    let world = world.says(Kind::Metal3, "a", &message).says(Kind::ClusterApi, "b", &message).has(&[("c", ".11")]);
    let Some(Answer::Failed { reason, .. }) = world.answer(Kind::ClusterApi, "b") else { panic!("no answer") };
    assert_eq!(reason.as_str(), "PoolNotReady");
}

#[test]
fn hi_28_an_address_on_its_way_back_counts_as_free() {
    let world = ten().holding(m3("a"), ".11").holding(leaving(m3("b"), &[]), ".12");
    let counts = world.decide().status.unwrap().counts;
    assert_eq!(counts, Some(none_reserved(9, 10, 1)));
    assert_eq!(world.settle().0.pool.counts, counts, "and is told once");
}

#[test]
fn hi_28_other_ranges_are_counted_anew() {
    let mut world = ten().with(m3("a")).settle();
    assert_eq!(world.0.pool.counts, Some(none_reserved(9, 10, 1)));
    world.0.pool.offer = pool(&[(".11", ".30")]).0.pool.offer;
    world.confirm();
    let status = world.decide().status.unwrap();
    assert_eq!(status.counts, Some(none_reserved(19, 20, 1)));
    assert_eq!(status.last_updated, world.0.pool.last_updated);
    world.settle().has(&[("a", ".11")]);
}

#[test]
fn hi_29_a_pool_that_grows_too_large_says_so() {
    let message = |claims: usize| {
        let mut world = pool(&[("10.0.0.0", "10.0.255.255")]);
        world.0.claims = (0..claims).map(|n| m3(&format!("c{n}"))).collect();
        world.decide().ready.unwrap()
    };
    assert_eq!(message(MANY), Summary::ready());
    assert_eq!(message(MANY + 1), Summary { message: TOO_MANY.to_owned(), ..Summary::ready() });
}

#[test]
fn i_19_a_pool_that_lives_gets_the_finalizer_and_one_that_goes_does_not() {
    let without = |mut world: World| {
        world.0.pool.metadata.finalizers = None;
        world.decide().metadata.and_then(|metadata| metadata.finalizers)
    };
    assert_eq!(without(ten()), Some(vec![finalizer::IP_POOL.to_owned()]));
    assert_eq!(without(ten().deleting()), None);
    let mut waiting = ten();
    waiting.0.pool.cluster_name = Some("prod".into());
    waiting.0.cluster = Some(Cluster::Missing);
    assert_eq!(without(waiting), None, "not before its Cluster is there");
}

#[test]
fn i_19_only_the_cluster_itself_counts_as_owner() {
    let owner = |group: &str, kind: &str, name: &str| OwnerReference {
        api_version: format!("{group}/v1beta2"),
        kind: kind.into(),
        name: name.into(),
        ..OwnerReference::default()
    };
    for (before, added) in [
        (owner("cluster.x-k8s.io", "Cluster", "prod"), 0),
        (owner("cluster.x-k8s.io", "Cluster", "other"), 1),
        (owner("cluster.x-k8s.io", "MachineSet", "prod"), 1),
        (owner("example.com", "Cluster", "prod"), 1),
    ] {
        let mut world = ten();
        world.0.pool.cluster_name = Some("prod".into());
        world.0.cluster = Some(Cluster::Found { name: "prod".into(), uid: "u1".into(), paused: false });
        world.0.pool.metadata.owner_references = Some(vec![before.clone()]);
        let owners = world.decide().metadata.unwrap().owner_references.unwrap();
        assert_eq!(owners.len(), 1 + added, "{before:?}");
    }
}

#[test]
fn hi_28_counts_alone_are_no_write_where_nobody_counted_or_the_pool_goes() {
    let mut uncounted = ten().holding(m3("a"), ".11");
    uncounted.0.pool.counts = None;
    assert_eq!(uncounted.decide().status, None);
    let mut going = ten().holding(m3("a"), ".11").deleting();
    going.0.pool.counts = Some(none_reserved(99, 100, 1));
    assert_eq!(going.decide().status, None);
}

#[test]
fn i_21_a_pool_goes_only_while_it_is_being_deleted_and_ours() {
    let mut world = ten();
    world.0.confirmed.empty = true;
    assert!(!world.decide().finalize);
    let mut world = world.deleting();
    assert!(world.decide().finalize);
    world.0.pool.metadata.finalizers = None;
    assert!(!world.decide().finalize);
}

#[test]
fn a_pool_that_is_being_deleted_says_whom_it_waits_for() {
    let said = |world: &World| {
        let ready = world.decide().ready.unwrap();
        assert_eq!(ready.reason, "Deleting");
        ready.message
    };
    let world = ten().deleting().holding(m3("a"), ".11").holding(leaving(capi("b"), &[DATA]), ".12");
    assert_eq!(said(&world), "is being deleted; addresses are held by a, b");
    let world = world.holding(m3("c"), ".13").holding(m3("d"), ".14").holding(m3("e"), ".15");
    assert_eq!(said(&world), "is being deleted; addresses are held by a, b, c and 2 more");
    let goes = ten().deleting().holding(leaving(m3("a"), &[]), ".11").holding(m3("b"), ".12");
    assert_eq!(said(&goes), "is being deleted; addresses are held by b", "who goes is not waited for");
    let last = ten().deleting().holding(leaving(m3("a"), &[]), ".11");
    assert_eq!(said(&last), "is being deleted; no address is held");
    let mut empty = ten().deleting();
    empty.0.confirmed.empty = true;
    let plan = empty.decide();
    assert_eq!((plan.finalize, plan.status, plan.ready), (true, None, None), "not worth a write");
}
