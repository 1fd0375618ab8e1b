//! Passes over a small pool whose plans are played into it, whole and cut off anywhere.

use super::pass::{MANY, TOO_MANY};
use super::*;
use crate::ipam::allocate::Range;
use crate::ipam::range::{Bounds, Interval, object_name};

/// A small world that a plan can be played into.
struct World(Observed);

fn at(text: &str) -> String {
    if text.starts_with('.') { format!("192.168.0{text}") } else { text.to_owned() }
}

fn pool(ranges: &[(&str, &str)]) -> World {
    let ranges = ranges.iter().map(|(start, end)| {
        let (start, end) = (at(start), at(end));
        let bounds = Bounds { start: Some(&start), end: Some(&end), subnet: None };
        Range { interval: Interval::of(bounds).unwrap(), prefix: 24, gateway: None, dns_servers: Vec::new() }
    });
    let metadata = ObjectMeta {
        name: Some("abc".into()),
        namespace: Some("myns".into()),
        creation_timestamp: Some(Time(Timestamp::from_second(1000).unwrap())),
        finalizers: Some(vec![finalizer::IP_POOL.into()]),
        ..ObjectMeta::default()
    };
    let last_updated = Some(Time(Timestamp::from_second(1000).unwrap()));
    let offer = Offer { ranges: ranges.collect(), ..Offer::default() };
    let pool = Pool { metadata, name_prefix: "abcpref".into(), offer, last_updated, ..Pool::default() };
    World(Observed { pool, now: Timestamp::from_second(2000).unwrap(), ..Observed::default() })
}

fn claim(kind: Kind, name: &str) -> Claim {
    Claim {
        key: ClaimKey::new(kind, name),
        uid: format!("{kind:?}-{name}"),
        resource_version: None,
        created: None,
        deleting: false,
        finalizers: Vec::new(),
        paused: false,
        cluster: None,
        requested: None,
        answer: None,
    }
}

fn m3(name: &str) -> Claim {
    claim(Kind::Metal3, name)
}

fn capi(name: &str) -> Claim {
    claim(Kind::ClusterApi, name)
}

fn asking(claim: Claim, address: &str) -> Claim {
    Claim { requested: Some(at(address)), ..claim }
}

fn failed(claim: Claim, failure: &Failure) -> Claim {
    let ours = claim.key.kind.claim_finalizer().to_owned();
    Claim { answer: Some(Answer::from(failure)), finalizers: vec![ours], ..claim }
}

/// Being deleted, with our finalizer and perhaps others.
fn leaving(claim: Claim, others: &[&str]) -> Claim {
    let ours = claim.key.kind.claim_finalizer().to_owned();
    let finalizers = [ours].into_iter().chain(others.iter().map(|other| (*other).to_owned())).collect();
    Claim { deleting: true, finalizers, ..claim }
}

impl World {
    fn with(mut self, claim: Claim) -> Self {
        self.0.claims.push(claim);
        self
    }

    /// The claim with an address object, as an earlier pass left them.
    fn holding(mut self, claim: Claim, address: &str) -> Self {
        let object = object(&claim, address);
        self.0.pool.indexes.insert(claim.key.name.clone(), at(address));
        let mut finalizers = claim.finalizers.clone();
        let ours = claim.key.kind.claim_finalizer().to_owned();
        if !finalizers.contains(&ours) {
            finalizers.push(ours);
        }
        self.0.claims.push(Claim { answer: Some(Answer::Address(object.name.clone())), finalizers, ..claim });
        self.0.addresses.push(object);
        self
    }

    fn kept(mut self, claim: &str, address: &str) -> Self {
        self.0.pool.offer.pre_allocations.insert(claim.into(), Some(at(address).parse().unwrap()));
        self
    }

    fn deleting(mut self) -> Self {
        self.0.pool.metadata.deletion_timestamp = Some(Time(self.0.now));
        self
    }

    fn decide(&self) -> Plan {
        decide(&self.0)
    }

    /// Carries out the first `steps` writes of the plan, as the controller would, and forgets about the rest.
    fn play(&mut self, plan: &Plan, steps: usize) {
        type Write = Box<dyn FnOnce(&mut Observed)>;
        let mut writes: Vec<Write> = Vec::new();
        if let Some(metadata) = plan.metadata.clone() {
            writes.push(Box::new(|seen| seen.pool.metadata = metadata));
        }
        for gone in plan.orphans.iter().chain(plan.releases.iter().flat_map(|release| &release.addresses)).cloned() {
            writes.push(Box::new(move |seen| seen.addresses.retain(|object| *object != gone)));
        }
        for release in plan.releases.clone() {
            writes.push(Box::new(move |seen| seen.claims.retain(|claim| claim.key != release.claim)));
        }
        if let Some(status) = plan.status.clone() {
            writes.push(Box::new(|seen| {
                seen.pool.indexes = status.indexes;
                seen.pool.last_updated = status.last_updated;
                seen.pool.counts = status.counts;
            }));
        }
        for serve in plan.served.clone() {
            let key = serve.claim.clone();
            if let Some(finalizers) = serve.finalizers {
                let key = key.clone();
                writes.push(Box::new(move |seen| of(seen, &key).finalizers = finalizers));
            }
            if let Some(new) = serve.create {
                let key = key.clone();
                writes.push(Box::new(move |seen| {
                    let object = object(of(seen, &key), &new.grant.address.to_string());
                    assert_eq!(object.name, new.name);
                    assert!(!seen.addresses.iter().any(|o| (o.kind, &o.name) == (object.kind, &object.name)));
                    seen.addresses.push(object);
                }));
            }
            if let Some(answer) = serve.answer {
                writes.push(Box::new(move |seen| of(seen, &key).answer = Some(answer)));
            }
        }
        writes.into_iter().take(steps).for_each(|write| write(&mut self.0));
    }

    /// Answers what the decision needs from the world as it is, which is what a live read does.
    fn confirm(&mut self) {
        let needs = needs(&self.0);
        let uid = |key: &ClaimKey| self.0.claims.iter().find(|claim| claim.key == *key).map(|claim| claim.uid.clone());
        let claims = needs.claims.iter().map(|key| (key.clone(), uid(key))).collect();
        self.0.confirmed = Confirmed { claims, empty: needs.emptiness };
    }

    /// Passes until nothing changes; every address is held once.
    #[track_caller]
    fn settle(mut self) -> Self {
        for _ in 0..10 {
            self.confirm();
            let plan = self.decide();
            self.play(&plan, usize::MAX);
            let addresses: BTreeSet<_> = self.0.addresses.iter().map(|object| object.address.clone()).collect();
            assert_eq!(addresses.len(), self.0.addresses.len(), "an address is held twice");
            if (Plan { after: None, finalize: false, ready: None, ..plan }) == Plan::default() {
                return self;
            }
        }
        panic!("does not settle: {:?}", self.decide());
    }

    #[track_caller]
    fn has(self, expected: &[(&str, &str)]) -> Self {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(claim, address)| ((*claim).to_owned(), at(address))).collect();
        assert_eq!(self.0.pool.indexes, expected);
        assert_eq!(self.0.addresses.len(), expected.len());
        self
    }

    fn answer(&self, kind: Kind, name: &str) -> Option<&Answer> {
        self.0.claims.iter().find(|claim| claim.key == ClaimKey::new(kind, name))?.answer.as_ref()
    }

    #[track_caller]
    fn says(self, kind: Kind, name: &str, failure: &Failure) -> Self {
        assert_eq!(self.answer(kind, name), Some(&Answer::from(failure)));
        self
    }
}

fn of<'a>(seen: &'a mut Observed, key: &ClaimKey) -> &'a mut Claim {
    seen.claims.iter_mut().find(|claim| claim.key == *key).unwrap()
}

fn object(claim: &Claim, address: &str) -> AddressObject {
    let address = at(address);
    AddressObject {
        deleting: false,
        kind: claim.key.kind,
        name: object_name("abcpref", address.parse().unwrap()),
        uid: format!("uid-{address}"),
        resource_version: None,
        finalizers: vec![claim.key.kind.address_finalizer().to_owned()],
        address,
        claim: claim.key.name.clone(),
        claim_uid: Some(claim.uid.clone()),
    }
}

fn ten() -> World {
    pool(&[(".11", ".20")])
}

/// Nothing to do, and the pool is ready.
fn settled() -> Plan {
    Plan { ready: Some(Summary::ready()), ..Plan::default() }
}

const DATA: &str = finalizer::DATA;

#[test]
fn ti_36_ti_42_a_new_pool_gets_a_date_and_nothing_else() {
    let mut world = ten();
    world.0.pool.last_updated = None;
    let plan = world.decide();
    let created = world.0.pool.metadata.creation_timestamp;
    let counts = Some(IPAddressCounts { free: 10, total: 10, used: 0 });
    let status = Status { indexes: BTreeMap::new(), last_updated: created, counts };
    assert_eq!(plan, Plan { status: Some(status), ..settled() });
}

#[test]
fn ti_37_38_the_table_comes_from_the_objects_of_both_kinds() {
    let mut world = ten().kept("bcd", ".15").holding(m3("abc"), ".12").holding(capi("cabc"), ".13");
    world.0.pool.indexes.clear();
    assert_eq!(
        world.decide().status.unwrap().indexes,
        BTreeMap::from([("abc".to_owned(), at(".12")), ("cabc".to_owned(), at(".13")),])
    );
}

#[test]
fn ti_40_a_settled_pool_gets_no_write() {
    assert_eq!(ten().holding(m3("abc"), ".11").holding(capi("c"), ".12").decide(), settled());
}

#[test]
fn ti_43_44_45_finished_claims_of_both_kinds_are_released() {
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
    ten()
        .with(failed(asking(m3("abcd"), "10.0.0.1"), &Failure::NotAvailable))
        .with(m3("abce"))
        .with(failed(asking(capi("cabcd"), "10.0.0.1"), &Failure::NotAvailable))
        .with(capi("cabce"))
        .settle()
        .has(&[("abce", ".11"), ("cabce", ".12")])
        .says(Kind::Metal3, "abcd", &Failure::NotAvailable)
        .says(Kind::ClusterApi, "cabcd", &Failure::NotAvailable);
}

#[test]
fn ti_47_48_a_claim_that_is_in_use_keeps_its_address() {
    let world = ten()
        .holding(leaving(m3("inUseClaim"), &[DATA]), ".11")
        .with(leaving(failed(m3("abcd"), &Failure::Exhausted), &[DATA]))
        .with(m3("abce"))
        .settle()
        .has(&[("inUseClaim", ".11"), ("abce", ".12")]);
    assert_eq!(world.0.claims.len(), 3);
}

#[test]
fn ti_49_ti_88_random_gives_different_addresses() {
    for seed in 0..20 {
        let mut world = pool(&[(".10", ".20")]);
        world.0.seed = seed;
        world.0.pool.offer.random = true;
        for n in 0..11 {
            world = world.with(claim(if n % 2 == 0 { Kind::Metal3 } else { Kind::ClusterApi }, &format!("c{n:02}")));
        }
        assert_eq!(world.settle().0.addresses.len(), 11); // `settle` asserts that they differ
    }
}

#[test]
fn ti_52_53_ti_56_pre_allocated_and_lowest() {
    let world = ten().kept("abc", ".15").with(m3("abc")).with(capi("c")).settle().has(&[("abc", ".15"), ("c", ".11")]);
    assert_eq!(world.answer(Kind::Metal3, "abc"), Some(&Answer::Address("abcpref-192-168-0-15".into())));
    assert_eq!(world.answer(Kind::ClusterApi, "c"), Some(&Answer::Address("abcpref-192-168-0-11".into())));
}

#[test]
fn ti_55_an_empty_pool_is_said_and_the_finalizer_added() {
    let world = pool(&[(".11", ".11")]).holding(m3("bcd"), ".11").with(m3("abc")).settle();
    let claim = world.0.claims.iter().find(|claim| claim.key.name == "abc").unwrap();
    assert_eq!(claim.finalizers, [finalizer::IP_CLAIM]);
    world.says(Kind::Metal3, "abc", &Failure::Exhausted).has(&[("bcd", ".11")]);
}

#[test]
fn ti_57_58_59_a_release_needs_no_object_and_no_entry() {
    let world = ten().with(leaving(m3("never-served"), &[]));
    assert!(world.decide().status.unwrap().last_updated == Some(Time(world.0.now)));
    assert!(world.settle().0.claims.is_empty());

    let mut gone = ten().holding(leaving(m3("TestRef"), &[]), ".11");
    gone.0.addresses.clear();
    assert_eq!(gone.decide().status.unwrap().indexes, BTreeMap::new());
    gone.settle().has(&[]);
    ten().holding(leaving(m3("TestRef"), &[]), ".11").settle().has(&[]);
}

#[test]
fn ti_60_a_pre_allocated_address_stays_reserved_after_its_release() {
    let world = ten().kept("abc", ".11").holding(leaving(m3("abc"), &[]), ".11").settle().has(&[]);
    world.with(m3("other")).settle().has(&[("other", ".12")]);
}

#[test]
fn ti_91_to_95_the_cluster_of_a_pool() {
    let of = |cluster| {
        let mut world = ten().with(m3("abc"));
        world.0.pool.cluster_name = Some("prod".into());
        world.0.cluster = Some(cluster);
        world
    };
    let found = |paused| Cluster::Found { name: "prod".into(), uid: "u1".into(), paused };
    let labelled = |plan: &Plan| {
        let labels = plan.metadata.as_ref().unwrap().labels.as_ref().unwrap();
        assert_eq!(labels[label::CLUSTER_NAME], "prod");
        assert_eq!(labels[label::PROVIDER], "ipam-metal3");
    };
    for cluster in [Cluster::Missing, found(true)] {
        let plan = of(cluster).decide();
        labelled(&plan);
        assert!(plan.served.is_empty() && plan.after.is_some()); // waits for the Cluster's event, no longer 30 s
    }
    let mut world = of(found(false));
    let plan = world.decide();
    labelled(&plan);
    let owners = plan.metadata.as_ref().unwrap().owner_references.clone().unwrap();
    assert_eq!((owners.len(), owners[0].controller), (1, Some(false)));
    assert_eq!(plan.served.len(), 1);
    world.0.pool.metadata.owner_references =
        Some(vec![OwnerReference { api_version: "cluster.x-k8s.io/v1beta1".into(), ..owners[0].clone() }]);
    assert_eq!(world.decide().metadata.unwrap().owner_references.unwrap().len(), 1);
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
fn ti_92_96_97_a_pool_goes_when_nothing_is_held() {
    let mut world = ten().kept("x", ".15").deleting();
    world.0.pool.cluster_name = Some("prod".into());
    assert!(needs(&world.0).emptiness);
    assert!(!world.decide().finalize, "not before the live read");
    world.0.confirmed.empty = true;
    assert!(world.decide().finalize);
    let held = ten().holding(m3("abc"), ".11").deleting();
    assert!(!needs(&held.0).emptiness && !held.decide().finalize);
}

#[test]
fn ti_99_a_paused_pool_does_nothing_at_all() {
    let mut world = ten().with(m3("abc")).holding(leaving(m3("x"), &[]), ".11");
    world.0.pool.metadata.annotations = Some([(annotation::PAUSED.to_owned(), String::new())].into());
    assert_eq!(world.decide(), Plan::default());
    assert_eq!(needs(&world.0), Needs::default());
}

#[test]
fn ti_102_ti_129_claims_of_both_kinds_share_one_table() {
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
fn ti_133_134_a_failed_claim_is_served_when_there_is_room() {
    let full = || pool(&[(".11", ".11")]).holding(m3("a"), ".11").with(failed(m3("b"), &Failure::Exhausted));
    let mut grown = full();
    grown.0.pool.offer.ranges.push(ten().0.pool.offer.ranges[0].clone());
    grown.settle().has(&[("a", ".11"), ("b", ".12")]);
    let mut freed = full();
    freed.0.claims[0].deleting = true;
    let freed = freed.settle().has(&[("b", ".11")]);
    assert_eq!(freed.answer(Kind::Metal3, "b"), Some(&Answer::Address("abcpref-192-168-0-11".into())));
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
fn ti_143_an_address_that_the_cache_has_not_shown_is_asked_for() {
    let mut world = ten().holding(leaving(m3("quick"), &[]), ".11");
    world.0.addresses.clear();
    assert_eq!(needs(&world.0).addresses, [(Kind::Metal3, "abcpref-192-168-0-11".to_owned())].into());
    world.0.pool.indexes.clear(); // the reference alone leads there too
    assert_eq!(needs(&world.0).addresses.len(), 1);
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
fn ti_146_a_pool_that_is_going_serves_nobody() {
    let world = ten().deleting().with(m3("a")).with(capi("b")).holding(m3("c"), ".11").settle();
    let message = Failure::PoolDeleting;
    let world = world.says(Kind::Metal3, "a", &message).says(Kind::ClusterApi, "b", &message).has(&[("c", ".11")]);
    let Some(Answer::Failed { reason, .. }) = world.answer(Kind::ClusterApi, "b") else { panic!("no answer") };
    assert_eq!(reason.as_str(), "PoolNotReady");
}

#[test]
fn ti_51_ti_147_a_claim_that_lost_its_status_in_a_move_gets_it_back() {
    for kind in [Kind::Metal3, Kind::ClusterApi] {
        let mut world = ten().holding(claim(kind, "abc"), ".14");
        world.0.pool.indexes.clear();
        world.0.claims[0].answer = None;
        world.0.claims[0].finalizers.clear();
        let plan = world.decide();
        assert_eq!(plan.served[0].create, None);
        assert_eq!(plan.served[0].answer, Some(Answer::Address("abcpref-192-168-0-14".into())));
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
fn an_address_is_not_given_on_before_its_object_is_seen_gone() {
    let world = pool(&[(".11", ".11")]).holding(leaving(m3("old"), &[]), ".11").with(m3("new"));
    let plan = world.decide();
    assert_eq!(plan.served[0].create, None);
    assert_eq!(plan.status_keeping(&[ClaimKey::new(Kind::Metal3, "old")].into()).unwrap().indexes.len(), 1);
    world.settle().has(&[("new", ".11")]);
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

#[test]
fn hi_28_an_address_on_its_way_back_counts_as_free() {
    let world = ten().holding(m3("a"), ".11").holding(leaving(m3("b"), &[]), ".12");
    let counts = world.decide().status.unwrap().counts;
    assert_eq!(counts, Some(IPAddressCounts { free: 9, total: 10, used: 1 }));
    assert_eq!(world.settle().0.pool.counts, counts, "and is told once");
}

#[test]
fn hi_28_other_ranges_are_counted_anew() {
    let mut world = ten().with(m3("a")).settle();
    assert_eq!(world.0.pool.counts, Some(IPAddressCounts { free: 9, total: 10, used: 1 }));
    world.0.pool.offer = pool(&[(".11", ".30")]).0.pool.offer;
    world.confirm();
    let status = world.decide().status.unwrap();
    assert_eq!(status.counts, Some(IPAddressCounts { free: 19, total: 20, used: 1 }));
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
fn ti_150_a_thousand_claims_in_one_pass() {
    let mut world = pool(&[("10.0.0.0", "10.0.255.255")]);
    for n in 0..1000 {
        world = world.with(m3(&format!("c{n:04}")));
    }
    let plan = world.decide();
    assert_eq!(plan.served.len(), 1000);
    assert_eq!(plan.status.unwrap().indexes["c0999"], "10.0.3.231");
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
    let mut live = ten().holding(m3("a"), ".11");
    live.0.addresses.clear();
    assert_eq!(needs(&live.0), Needs::default(), "it is made again");

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

#[test]
fn hi_11_a_pre_allocation_that_is_reserved_or_named_by_another_waits() {
    let mut reserved = ten().kept("n", ".11").with(m3("m")).with(m3("n"));
    reserved.0.pool.indexes.insert("m".into(), at(".11"));
    reserved.settle().says(Kind::Metal3, "n", &Failure::NotAvailable).has(&[("m", ".11")]);
    let mut named = ten().kept("n", ".11").with(m3("n"));
    named.0.foreign_names.insert((Kind::Metal3, "abcpref-192-168-0-11".into()));
    named.settle().says(Kind::Metal3, "n", &Failure::NotAvailable).has(&[]);
}

#[test]
fn hi_28_counts_alone_are_no_write_where_nobody_counted_or_the_pool_goes() {
    let mut uncounted = ten().holding(m3("a"), ".11");
    uncounted.0.pool.counts = None;
    assert_eq!(uncounted.decide().status, None);
    let mut going = ten().holding(m3("a"), ".11").deleting();
    going.0.pool.counts = Some(IPAddressCounts { free: 99, total: 100, used: 1 });
    assert_eq!(going.decide().status, None);
}

/// The first outputs of the published generator for seed 0.
#[test]
fn the_dice_are_split_mix() {
    let outputs = [0, 1, 2].map(|n| super::pass::mix(0, n));
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
