//! Who holds what: the table from objects, reservations and what is certain, and passes that are cut off.

use super::*;
use crate::ipam::table::effort;

#[test]
fn ti_36_a_pool_without_objects_has_an_empty_table() {
    let mut world = ten();
    world.0.pool.last_updated = None;
    let plan = world.decide();
    let created = world.0.pool.metadata.creation_timestamp;
    let counts = Some(none_reserved(10, 10, 0));
    // The table itself has no date; a pass that finds none takes that of the pool's creation (I-23).
    let status = Status { indexes: BTreeMap::new(), last_updated: created, counts };
    assert_eq!(plan, Plan { status: Some(status), ..settled() }, "TI-42");
}

#[test]
fn i_22_the_table_comes_from_the_objects_of_both_kinds() {
    let mut world = ten().kept("bcd", ".15").holding(m3("abc"), ".12").holding(capi("cabc"), ".13");
    world.0.pool.indexes.clear();
    let held = BTreeMap::from([("abc".to_owned(), at(".12")), ("cabc".to_owned(), at(".13"))]);
    assert_eq!(world.decide().status.unwrap().indexes, held);
}

#[test]
fn ti_40_a_settled_pool_gets_no_write() {
    assert_eq!(ten().holding(m3("abc"), ".11").holding(capi("c"), ".12").decide(), settled());
}

#[test]
fn hi_2_claims_of_both_kinds_share_one_table() {
    let first = ten().with(m3("a")).with(capi("b")).decide();
    let both = BTreeMap::from([("a".to_owned(), at(".11")), ("b".to_owned(), at(".12"))]);
    assert_eq!(first.status.unwrap().indexes, both, "TI-129: both in the first pass");

    let mut world = pool(&[(".1", ".254")]);
    for n in 0..100 {
        world = world.with(m3(&format!("c{n}"))).with(capi(&format!("c{n}")));
    }
    let first = world.decide();
    assert_eq!(first.status.as_ref().unwrap().indexes.len(), 200);
    assert_eq!(world.settle().0.addresses.len(), 200);
}

#[test]
fn ti_132_releasing_one_of_two_equal_names_keeps_the_other() {
    let world = ten().with(m3("n")).with(capi("n")).settle();
    let both = [("n", ".11"), ("n (IPAddressClaim)", ".12")];
    let mut world = world.has(&both);
    for kind in [Kind::Metal3, Kind::ClusterApi] {
        let mut seen = World(world.0.clone());
        of(&mut seen.0, &ClaimKey::new(kind, "n")).deleting = true;
        let left = if kind == Kind::Metal3 { ".12" } else { ".11" };
        seen.settle().has(&[("n", left)]);
    }
    world.confirm();
    assert_eq!(world.decide(), settled());
}

#[test]
fn ti_143_an_address_that_the_cache_has_not_shown_is_asked_for() {
    let stored = ten().holding(leaving(m3("quick"), &[]), ".11");
    for remembered in [true, false] {
        let mut world = World(stored.0.clone());
        world.0.addresses.clear();
        if !remembered {
            world.0.pool.indexes.clear(); // the reference alone leads there too
        }
        assert_eq!(needs(&world.0).addresses, [(Kind::Metal3, "abcpref-192-168-0-11".to_owned())].into());
        world.0.addresses.clone_from(&stored.0.addresses); // which the live read finds
        let plan = world.decide();
        assert_eq!(plan.releases[0].addresses, stored.0.addresses, "the claim goes after its address");
        let world = world.settle().has(&[]);
        assert!(world.0.claims.is_empty());
    }
}

#[test]
fn ti_144_a_missing_object_of_a_live_claim_is_made_again() {
    let mut world = ten().holding(m3("abc"), ".14").with(m3("new"));
    world.0.addresses.clear();
    world.settle().has(&[("abc", ".14"), ("new", ".11")]);
}

/// Found by the search of two managers' interleavings: the one that did not know the claim yet dropped the other's reservation.
#[test]
fn hi_1_a_reservation_outlives_a_pass_that_does_not_know_its_claim() {
    for kind in [Kind::Metal3, Kind::ClusterApi] {
        let mut world = ten().with(m3("new"));
        world.0.pool.indexes.insert("abc".into(), at(".11"));
        let possible = ClaimKey::of_index("abc").into_iter();
        world.0.confirmed.claims = possible.map(|key| (key.clone(), (key.kind == kind).then(|| "u".into()))).collect();
        let plan = world.decide();
        let reserved = BTreeMap::from([("abc".to_owned(), at(".11")), ("new".to_owned(), at(".12"))]);
        assert_eq!(plan.status.unwrap().indexes, reserved);
    }
}

#[test]
fn ti_145_an_object_without_its_claim_goes_once_that_is_certain() {
    let mut world = ten().holding(m3("abc"), ".11");
    world.0.claims.clear();
    assert!(world.decide().orphans.is_empty(), "the cache alone is not certain");
    let world = world.settle().has(&[]);
    // A claim of the same name that came later is another claim.
    let mut again = ten().holding(m3("abc"), ".11");
    of(&mut again.0, &ClaimKey::new(Kind::Metal3, "abc")).uid = "another".into();
    again.settle().has(&[("abc", ".12")]);
    assert!(world.0.claims.is_empty());
}

#[test]
fn an_address_is_not_given_on_before_its_object_is_seen_gone() {
    let world = pool(&[(".11", ".11")]).holding(leaving(m3("old"), &[]), ".11").with(m3("new"));
    let plan = world.decide();
    assert_eq!(plan.served[0].create, None);
    assert_eq!(plan.status_keeping(&[ClaimKey::new(Kind::Metal3, "old")].into()).unwrap().indexes.len(), 1);
    world.settle().has(&[("new", ".11")]);
}

/// Wherever a pass is cut off, the next ones finish its work, and nobody's address changes.
#[test]
fn every_prefix_of_a_plan_converges() {
    let start = || {
        ten()
            .holding(m3("a"), ".11")
            .holding(leaving(m3("b"), &[]), ".12")
            .holding(leaving(capi("c"), &[]), ".13")
            .with(m3("d"))
            .with(capi("e"))
            .with(asking(m3("f"), ".18"))
    };
    let mut whole = start();
    whole.confirm();
    let plan = whole.decide();
    for steps in 0..20 {
        let mut world = start();
        world.play(&plan, steps);
        let reserved: BTreeMap<_, _> = world
            .0
            .pool
            .indexes
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .filter(|(k, _)| k != "b" && k != "c")
            .collect();
        let world = world.settle();
        for (claim, address) in &reserved {
            assert_eq!(world.0.pool.indexes.get(claim), Some(address), "{claim} moved after {steps} steps");
        }
        assert_eq!(world.0.addresses.len(), 4);
        assert_eq!(world.0.pool.indexes["a"], at(".11"));
    }
}

/// HI-9: each claim costs the same few look-ups, however many there are and whatever stands in the way.
#[test]
fn ti_150_a_thousand_claims_in_one_pass() {
    let wide = |claims: usize| {
        let mut world = pool(&[("10.0.0.0", "10.0.255.255")]);
        world.0.claims = (0..claims).map(|n| m3(&format!("c{n:04}"))).collect();
        world
    };
    let random = |mut world: World| {
        world.0.pool.offer.random = true;
        world
    };
    let beside_another = |mut world: World| {
        let name = |n: u128| object_name("abcpref", "10.0.0.0".parse::<Address>().unwrap().plus(n).unwrap());
        world.0.foreign_names = (0..world.0.claims.len() as u128).map(|n| (Kind::Metal3, name(n))).collect();
        world
    };
    for (how, set) in [
        ("in order", &(|world| world) as &dyn Fn(World) -> World),
        ("random", &random),
        ("behind a pool of the same prefix", &beside_another),
    ] {
        for claims in [1_000, 4_000] {
            let world = set(wide(claims));
            let (plan, spent) = effort::of(|| world.decide());
            assert_eq!(plan.served.iter().filter(|serve| serve.create.is_some()).count(), claims, "{how}");
            assert!(spent <= 12 * claims as u64, "{how}: {spent} look-ups for {claims} claims");
        }
    }
    assert_eq!(wide(1_000).decide().status.unwrap().indexes["c0999"], "10.0.3.231");
}

/// The same for those that leave.
#[test]
fn i_47_a_thousand_claims_leave_in_one_pass() {
    let mut world = pool(&[("10.0.0.0", "10.0.255.255")]);
    for n in 0..1_000 {
        let claim = leaving(claim(if n % 2 == 0 { Kind::Metal3 } else { Kind::ClusterApi }, &format!("c{n}")), &[]);
        world = world.holding(claim, &format!("10.0.{}.{}", n / 256, n % 256));
    }
    let plan = world.decide();
    assert!(plan.releases.iter().all(|release| release.entries.len() == 1 && release.addresses.len() == 1));
    assert_eq!(plan.releases.len(), 1_000);
    assert_eq!(plan.status.unwrap().indexes, BTreeMap::new());
}

#[test]
fn names_of_other_pools_matter_only_to_who_wants_an_address() {
    for (world, wanted) in [
        (ten(), false),
        (ten().with(m3("a")), true),
        (ten().holding(m3("a"), ".11"), false),
        (ten().holding(m3("a"), ".11").with(capi("a")), true),
        (ten().with(leaving(m3("a"), &[])), false),
    ] {
        assert_eq!(world.0.wants_addresses(), wanted, "{:?}", world.0.claims);
    }
}

#[test]
fn i_21_only_what_may_be_wrong_is_read_live() {
    for world in [
        ten(),
        ten().holding(m3("a"), ".11").with(m3("b")),
        ten().holding(leaving(m3("a"), &[]), ".11"),
        ten().holding(m3("a"), ".11").deleting(),
    ] {
        assert_eq!(needs(&world.0), Needs::default());
    }
    let mut unanswered = ten().holding(leaving(m3("a"), &[]), ".11");
    unanswered.0.addresses.clear();
    unanswered.0.claims[0].answer = None;
    assert_eq!(needs(&unanswered.0).addresses, [(Kind::Metal3, "abcpref-192-168-0-11".to_owned())].into());

    let mut unknown = ten().holding(m3("a"), ".11");
    (unknown.0.claims, unknown.0.addresses) = (Vec::new(), Vec::new());
    assert_eq!(needs(&unknown.0).claims, ClaimKey::of_index("a").into_iter().collect());

    let mut unheld = ten().deleting();
    unheld.0.pool.metadata.finalizers = None;
    assert!(!needs(&unheld.0).emptiness);
}

#[test]
fn hi_20_an_object_whose_claim_lives_is_no_orphan() {
    let mut world = ten().holding(m3("abc"), ".11");
    let claim = world.0.claims.remove(0);
    world.0.confirmed.claims = [(claim.key, Some(claim.uid))].into();
    let plan = world.decide();
    assert_eq!(plan.orphans, []);
    let entries = plan.status.map_or_else(|| world.0.pool.indexes.clone(), |status| status.indexes);
    assert_eq!(entries, world.0.pool.indexes, "two managers, one with a late cache, do not undo each other's entries");
    world.0.confirmed.claims.values_mut().for_each(|uid| *uid = Some("another".into()));
    assert_eq!(world.decide().orphans.len(), 1);
}

#[test]
fn an_address_that_vanished_is_made_anew_only_for_a_claim_that_is_there() {
    let mut world = ten().holding(m3("abc"), ".11");
    let object = world.0.addresses.remove(0);
    let claim = world.0.claims[0].clone();
    assert_eq!(needs(&world.0).claims, [claim.key.clone()].into());
    for gone in [None, Some("of-the-next".to_owned())] {
        world.0.confirmed.claims = [(claim.key.clone(), gone)].into();
        assert_eq!(world.decide().served, [], "another manager has released it, and would again");
    }
    world.0.confirmed.claims = [(claim.key, Some(claim.uid))].into();
    let made = world.decide().served.remove(0).create.unwrap();
    assert_eq!(made.name, object.name);
}

#[test]
fn a_reservation_that_cannot_be_filled_gives_way_to_another_address() {
    let reserved = |address: &str| {
        let mut world = ten().with(m3("abc"));
        world.0.pool.indexes.insert("abc".into(), at(address));
        world
    };
    reserved(".14").settle().has(&[("abc", ".14")]);
    reserved(".99").settle().has(&[("abc", ".11")]);
    let mut named = reserved(".14");
    named.0.foreign_names.insert((Kind::Metal3, "abcpref-192-168-0-14".into()));
    named.settle().has(&[("abc", ".11")]);
    reserved(".14").holding(m3("x"), ".14").settle().has(&[("abc", ".11"), ("x", ".14")]);
}

/// The first outputs of the published generator for seed 0.
#[test]
fn the_dice_are_split_mix() {
    let outputs = [0, 1, 2].map(|n| mix(0, n));
    assert_eq!(outputs, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
}

#[test]
fn an_entry_of_a_claim_that_nobody_shows_keeps_its_address_until_that_is_certain() {
    let entry = |uid: Option<Option<&str>>| {
        let mut world = ten().with(m3("new"));
        world.0.pool.indexes.insert("b".into(), at(".11"));
        let confirmed = |key: ClaimKey| Some((key, uid?.map(str::to_owned)));
        world.0.confirmed.claims = ClaimKey::of_index("b").into_iter().filter_map(confirmed).collect();
        world.decide().status.unwrap().indexes["new"].clone()
    };
    assert_eq!(entry(None), at(".12"), "nobody has looked");
    assert_eq!(entry(Some(Some("uid"))), at(".12"), "the claim lives");
    assert_eq!(entry(Some(None)), at(".11"));

    let mut held = ten().holding(m3("a"), ".11");
    held.0.pool.indexes.insert("b".into(), at(".11"));
    held.0.confirmed.claims = [(ClaimKey::new(Kind::Metal3, "b"), Some("uid".to_owned()))].into();
    assert_eq!(held.decide().status.unwrap().indexes, [("a".to_owned(), at(".11"))].into());
}
