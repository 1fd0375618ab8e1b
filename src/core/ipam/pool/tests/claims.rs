//! What claims get, are told, and give back.

use super::*;
use crate::ipam::table::Table;

/// Who holds what in a world without reservations.
fn table_of(world: &World) -> Table {
    let mut table = Table::new("abcpref");
    world.0.addresses.iter().for_each(|object| table.take(object.address.parse().unwrap(), &object.claim_key()));
    table
}

#[test]
fn i_30_finished_claims_of_both_kinds_are_released() {
    let world = ten()
        .holding(m3("abc"), ".11")
        .holding(m3("abce"), ".12")
        .holding(leaving(m3("abcf"), &[]), ".13")
        .holding(capi("cabce"), ".15")
        .holding(leaving(capi("cabcf"), &[]), ".16");
    let plan = world.decide();
    assert_eq!(plan.releases.len(), 2);
    assert_eq!(plan.status.as_ref().unwrap().last_updated, Some(Time(world.0.now)));
    world.settle().has(&[("abc", ".11"), ("abce", ".12"), ("cabce", ".15")]);
}

#[test]
fn ti_46_a_failed_claim_stays_failed_while_its_request_is_impossible() {
    let created = |claim: Claim, second| Claim { created: Timestamp::from_second(second).ok(), ..claim };
    ten()
        .with(created(failed(asking(m3("abcd"), "10.0.0.1"), &Failure::NotAvailable), 1))
        .with(created(m3("abce"), 2))
        .with(created(failed(asking(capi("cabcd"), "10.0.0.1"), &Failure::NotAvailable), 3))
        .with(created(capi("cabce"), 4))
        .settle()
        .has(&[("abce", ".11"), ("cabce", ".12")])
        .says(Kind::Metal3, "abcd", &Failure::NotAvailable)
        .says(Kind::ClusterApi, "cabcd", &Failure::NotAvailable);
}

#[test]
fn ti_47_a_failed_claim_that_is_in_use_is_left_alone() {
    let failed = |claim| leaving(failed(claim, &Failure::NotAvailable), &[DATA]);
    let (old, capi_old) = (failed(m3("abcd")), failed(capi("cabcd")));
    let world = ten().with(old.clone()).with(m3("abce")).with(capi_old.clone()).with(capi("cabce")).settle();
    assert_eq!([&world.0.claims[0], &world.0.claims[2]], [&old, &capi_old]);
    world.has(&[("abce", ".11"), ("cabce", ".12")]);
}

#[test]
fn ti_48_a_claim_that_is_in_use_keeps_its_address() {
    let world = ten().holding(leaving(m3("inUseClaim"), &[DATA]), ".11");
    let counts = none_reserved(9, 10, 1);
    assert_eq!(world.0.pool.offer.count(&table_of(&world)), counts);
    assert_eq!(world.decide(), settled());
    let world = world.with(m3("abce")).settle().has(&[("inUseClaim", ".11"), ("abce", ".12")]);
    assert_eq!(world.0.claims.len(), 2);
}

#[test]
fn ti_49_random_gives_different_addresses() {
    let mut given = BTreeSet::new();
    for seed in 0..20 {
        let mut world = ten().with(m3("a")).with(m3("b")).with(capi("c"));
        world.0.seed = seed;
        world.0.pool.offer.random = true;
        let world = world.settle(); // which asserts that they differ
        assert_eq!(world.0.addresses.len(), 3);
        for object in &world.0.addresses {
            let address = object.address.parse().unwrap();
            assert!(world.0.pool.offer.ranges[0].interval.contains(address), "{address}");
            given.insert(address);
        }
    }
    assert!(given.len() > 5, "the seed decides: {given:?}");
}

#[test]
fn ti_52_a_pre_allocated_address() {
    let world = ten().kept("abc", ".15").with(m3("abc")).settle().has(&[("abc", ".15")]);
    assert_eq!(world.answer(Kind::Metal3, "abc"), Some(&Answer::Address("abcpref-192-168-0-15".into())));
}

#[test]
fn ti_53_the_lowest_that_is_left() {
    let world = ten().holding(m3("bcd"), ".11").with(m3("abc")).with(capi("c"));
    let world = world.settle().has(&[("bcd", ".11"), ("abc", ".12"), ("c", ".13")]);
    assert_eq!(world.answer(Kind::Metal3, "abc"), Some(&Answer::Address("abcpref-192-168-0-12".into())));
    assert_eq!(world.answer(Kind::ClusterApi, "c"), Some(&Answer::Address("abcpref-192-168-0-13".into())));
}

#[test]
fn ti_55_an_empty_pool_is_said_and_the_finalizer_added() {
    let world = pool(&[(".11", ".11")]).holding(m3("bcd"), ".11").with(m3("abc")).settle();
    let claim = world.0.claims.iter().find(|claim| claim.key.name == "abc").unwrap();
    assert_eq!(claim.finalizers, [finalizer::IP_CLAIM]);
    world.says(Kind::Metal3, "abc", &Failure::Exhausted).has(&[("bcd", ".11")]);
}

#[test]
fn ti_57_a_release_needs_no_entry() {
    let world = ten().holding(m3("other"), ".12").with(leaving(m3("never-served"), &[]));
    let status = world.decide().status.unwrap();
    assert_eq!(status.last_updated, Some(Time(world.0.now)));
    assert_eq!(status.indexes, world.0.pool.indexes, "what is used stays as it is");
    assert_eq!(world.settle().has(&[("other", ".12")]).0.claims.len(), 1);
}

#[test]
fn ti_58_a_release_needs_no_object() {
    let mut gone = pool(&[(".1", ".1")]).holding(leaving(m3("TestRef"), &[]), ".1");
    gone.0.addresses.clear();
    assert_eq!(gone.decide().status.unwrap().indexes, BTreeMap::new());
    gone.with(m3("next")).settle().has(&[("next", ".1")]);
}

#[test]
fn ti_59_a_release_takes_the_object_along() {
    let mut world = ten();
    world.0.pool.name_prefix = "abc".into();
    let mut world = world.holding(leaving(m3("TestRef"), &[]), "192.168.0.1");
    world.0.addresses[0].name = "abc-192-168-0-1".into();
    let plan = world.decide();
    assert_eq!(plan.releases[0].addresses, world.0.addresses);
    assert_eq!(plan.status.unwrap().indexes, BTreeMap::new());
    world.settle().has(&[]);
}

#[test]
fn ti_60_a_pre_allocated_address_stays_reserved_after_its_release() {
    let world = ten().kept("abc", ".11").holding(leaving(m3("abc"), &[]), ".11").settle().has(&[]);
    world.with(m3("other")).settle().has(&[("other", ".12")]);
}

fn exhausted() -> World {
    let world = pool(&[(".11", ".11")]).holding(m3("a"), ".11");
    world.with(failed(m3("b"), &Failure::Exhausted)).with(failed(capi("c"), &Failure::Exhausted))
}

#[test]
fn ti_133_a_failed_claim_is_served_when_the_pool_grows() {
    let mut grown = exhausted();
    grown.0.pool.offer.ranges.push(ten().0.pool.offer.ranges[0].clone());
    let grown = grown.settle().has(&[("a", ".11"), ("b", ".12"), ("c", ".13")]);
    for (kind, name, address) in [(Kind::Metal3, "b", ".12"), (Kind::ClusterApi, "c", ".13")] {
        let name_of = object_name("abcpref", at(address).parse().unwrap());
        assert_eq!(grown.answer(kind, name), Some(&Answer::Address(name_of)), "the error is cleared");
    }
}

#[test]
fn ti_134_a_failed_claim_is_served_when_another_is_released() {
    let mut freed = exhausted();
    freed.0.claims[0].deleting = true;
    let freed = freed.settle().has(&[("b", ".11")]);
    assert_eq!(freed.answer(Kind::Metal3, "b"), Some(&Answer::Address("abcpref-192-168-0-11".into())));
    freed.says(Kind::ClusterApi, "c", &Failure::Exhausted);
}

#[test]
fn ti_135_one_impossible_claim_does_not_stop_the_others() {
    let world = ten().with(asking(m3("a"), "10.0.0.1")).with(m3("b")).with(m3("c"));
    assert_eq!(world.decide().served.len(), 3);
    world.settle().has(&[("b", ".11"), ("c", ".12")]).says(Kind::Metal3, "a", &Failure::NotAvailable);
}

#[test]
fn ti_136_a_pre_allocation_that_is_held_by_another_waits_for_its_release() {
    let mut world = ten().kept("n", ".11").holding(m3("m"), ".11").with(m3("n")).settle();
    world = world.says(Kind::Metal3, "n", &Failure::NotAvailable);
    of(&mut world.0, &ClaimKey::new(Kind::Metal3, "m")).deleting = true;
    world.settle().has(&[("n", ".11")]);
}

#[test]
fn ti_51_a_claim_that_lost_its_status_in_a_move_gets_it_back() {
    for kind in [Kind::Metal3, Kind::ClusterApi] {
        let mut world = ten().holding(claim(kind, "abc"), ".14");
        world.0.pool.indexes.clear();
        world.0.claims[0].answer = None;
        world.0.claims[0].finalizers.clear();
        let plan = world.decide();
        assert_eq!(plan.served[0].create, None);
        assert_eq!(plan.served[0].finalizers, Some(vec![kind.claim_finalizer().to_owned()]));
        let answer = Answer::Address("abcpref-192-168-0-14".into());
        assert_eq!(plan.served[0].answer, Some(answer), "TI-147: with the condition that belongs to it");
        world.settle().has(&[("abc", ".14")]);
    }
}

#[test]
fn ti_149_a_cluster_api_claim_waits_for_its_cluster() {
    let found = |paused| Some(Cluster::Found { name: "c".into(), uid: "u".into(), paused });
    for cluster in [found(true), Some(Cluster::Missing)] {
        let world = ten().with(Claim { cluster, ..capi("a") });
        let plan = world.decide();
        assert!(plan.served.is_empty() && plan.after.is_some());
    }
    ten().with(Claim { cluster: found(false), ..capi("a") }).settle().has(&[("a", ".11")]);
    // The Cluster that went first does not keep the claim from going.
    let orphaned = Claim { cluster: Some(Cluster::Missing), ..leaving(capi("a"), &[]) };
    assert_eq!(ten().holding(orphaned, ".11").decide().releases.len(), 1);
}

#[test]
fn a_pool_that_does_not_exist_still_lets_its_claims_go() {
    let going = leaving(m3("going"), &[]);
    let claims = [going.clone(), m3("waiting"), leaving(m3("used"), &[DATA])];
    let at = |second| Timestamp::from_second(second).unwrap();
    let unserved = without_pool(&claims, &[object(&going, ".11")], at(2000));
    assert_eq!((unserved.releases.len(), unserved.releases[0].addresses.len()), (1, 1));
    assert_eq!((unserved.told, unserved.after), (vec![ClaimKey::new(Kind::Metal3, "waiting")], None));
    let aged = |second| Claim { created: Some(at(second)), ..m3("young") };
    assert_eq!(without_pool(&[aged(1995)], &[], at(2000)).told.len(), 1);
    let unserved = without_pool(&[aged(1999)], &[], at(2000));
    assert_eq!(unserved, Unserved { after: Some(JUST_CREATED), ..Unserved::default() }, "its pool may be on the way");
}

#[test]
fn an_address_that_arrives_after_its_pool_and_claim_are_gone_goes_too() {
    let now = Timestamp::from_second(2000).unwrap();
    let gone = m3("gone");
    let late = AddressObject { deleting: true, ..object(&gone, ".11") };
    let orphans =
        |claims: &[Claim], object: &AddressObject| without_pool(claims, std::slice::from_ref(object), now).orphans;
    assert_eq!(orphans(&[], &late), std::slice::from_ref(&late));
    assert_eq!(orphans(&[gone], &late), [], "it is the claim's to release");
    let restored = AddressObject { deleting: false, ..late };
    assert_eq!(orphans(&[], &restored), [], "its claim may be on the way");
}

#[test]
fn an_address_loses_our_finalizer_and_no_other() {
    for (of, foreign) in [(m3("a"), capi("a")), (capi("a"), m3("a"))] {
        let ours = of.key.kind.address_finalizer().to_owned();
        let others = vec!["x".to_owned(), foreign.key.kind.address_finalizer().to_owned()];
        let held = |finalizers: Vec<String>| AddressObject { finalizers, ..object(&of, ".11") }.without_our_finalizer();
        assert_eq!(held([others.clone(), vec![ours.clone()]].concat()), Some(others.clone()));
        assert_eq!(held(vec![ours]), Some(Vec::new()));
        assert_eq!(held(others), None);
    }
}

/// Found by fuzzing: the object of a claim that leaves, or that is not cached yet, has no holder in the table, and a claim of the
/// other kind has other names.
#[test]
fn hi_11_a_pre_allocation_waits_until_its_address_is_seen_to_be_free() {
    let leaves = pool(&[(".11", ".11")]).holding(leaving(m3("m"), &[]), ".11");
    let mut unknown = pool(&[(".11", ".11")]).holding(m3("m"), ".11");
    unknown.0.claims.clear();
    let mut listed = pool(&[(".11", ".11")]);
    listed.0.pool.indexes.insert("m".into(), at(".11"));
    for world in [leaves, unknown, listed] {
        let world = world.kept("n", ".11").with(capi("n"));
        let plan = world.decide();
        let serve = plan.served.iter().find(|serve| serve.claim.name == "n").unwrap();
        assert_eq!(serve.create, None);
        assert_eq!(serve.answer, Some(Answer::from(&Failure::NotAvailable)));
        world.settle().has(&[("n", ".11")]);
    }
}

#[test]
fn hi_11_a_pre_allocation_that_is_reserved_or_named_by_another_waits() {
    let mut reserved = ten().kept("n", ".11").with(m3("m")).with(m3("n"));
    reserved.0.pool.indexes.insert("m".into(), at(".11"));
    reserved.settle().says(Kind::Metal3, "n", &Failure::NotAvailable).has(&[("m", ".11")]);
    let mut named = ten().kept("n", ".11").with(m3("n"));
    named.0.foreign_names.insert((Kind::Metal3, "abcpref-192-168-0-11".into()));
    named.settle().says(Kind::Metal3, "n", &Failure::NotAvailable).has(&[]);
}
