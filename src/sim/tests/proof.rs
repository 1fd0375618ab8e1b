//! The proof machine in small: everything that was found once, the same case twice, and that it sees what it is for.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use capm3_runtime::Clock;
use capm3_sim::fault::Plan;
use capm3_sim::proof::{Case, Deck, Player, Team, play};
use capm3_sim::scenario::{self, Scenario, Stage};
use capm3_sim::world::kinds::{IP_ADDRESS, IP_CLAIM, POOL};
use capm3_sim::world::{Provider, Settings, Stuck, World};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_time().start_paused(true).build()
}

fn team(threads: usize) -> Team {
    Team { runtimes: runtime, threads, enough: || false }
}

fn player() -> Player {
    Player::new(runtime)
}

fn case(text: &str) -> Case {
    text.parse().unwrap()
}

/// Every line of the table holds today.
#[test]
fn what_was_found_once_stays_mended() {
    let scenarios = scenario::all();
    let mut player = player();
    let mut names = BTreeSet::new();
    for line in include_str!("regressions.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, text) = line.split_once('|').unwrap();
        assert!(names.insert(name.trim()), "{name} is there twice");
        let case = case(text);
        let report = play(&mut player, &scenarios, &case, true).unwrap();
        assert_eq!(report.violations, [], "{name}: {}", report.story.join("\n"));
        assert!(report.struck.iter().all(|struck| *struck), "{name}: {:?} of {} happened", report.struck, case.plan);
    }
}

#[test]
fn the_same_case_gives_the_same_trace() {
    let scenarios = scenario::all();
    let mut player = player();
    for text in [
        "claims | 5 | ipam write 2: crash landed; ipam request 4: overlaps resumed 10s",
        "claims | 6 | 1s: restored 500ms; ipam request 3: lost timeout",
        "machine_with_data | 7 | infra request 5: overlaps; infra write 9: crash answered; ipam request 2: busy 4",
        "machine_with_data | 3 | 200ms: clock -3600; infra baremetalhosts.metal3.io event 2: watch expired",
    ] {
        let case = case(text);
        // The second player builds its stages anew.
        let one = play(&mut player, &scenarios, &case, true).unwrap();
        let other = play(&mut Player::new(runtime), &scenarios, &case, true).unwrap();
        let difference = one.story.iter().zip(&other.story).find(|(one, other)| one != other);
        assert_eq!(difference, None, "{text}");
        assert_eq!(
            (one.trace_hash, one.writes, one.requests, one.checks),
            (other.trace_hash, other.writes, other.requests, other.checks),
            "{text}"
        );
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let scenarios: Vec<_> = scenario::all().into_iter().filter(|scenario| scenario.name() == "claims").collect();
    let recordings: BTreeMap<_, _> =
        team(1).record(&scenarios).unwrap().into_iter().map(|report| (report.scenario, report.recording)).collect();
    let deck = Deck { scenarios: &scenarios, recordings: &recordings };
    let of = |threads| {
        let tally = team(threads).run(20, &|i| deck.deal(i as u64));
        (tally.cases, tally.struck, tally.writes, tally.requests, tally.checks, tally.reconciles, tally.broken)
    };
    assert_eq!(of(1), of(3));
}

/// Claims that go wrong in a way of their own.
struct Odd {
    name: &'static str,
    drive: for<'a> fn(&'a World) -> BoxFuture<'a, Result<(), Stuck>>,
    goal: fn(&World) -> Result<(), String>,
}

impl Scenario for Odd {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stage(&self) -> Stage {
        Stage::Pools
    }

    fn providers(&self) -> &'static [Provider] {
        &[Provider::Ipam]
    }

    fn actors(&self) -> &'static [capm3_sim::actors::Actor] {
        &[]
    }

    fn weight(&self) -> u32 {
        1
    }

    fn drive<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<(), Stuck>> {
        (self.drive)(world)
    }

    fn goal(&self, world: &World) -> Result<(), String> {
        (self.goal)(world)
    }
}

/// Another scenario, of whose world nothing may be left once it is over: what holds it keeps all of it.
struct Passing<'a> {
    inner: &'a dyn Scenario,
    clock: Mutex<Weak<dyn Clock>>,
}

impl Scenario for Passing<'_> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn stage(&self) -> Stage {
        self.inner.stage()
    }

    fn providers(&self) -> &'static [Provider] {
        self.inner.providers()
    }

    fn actors(&self) -> &'static [capm3_sim::actors::Actor] {
        self.inner.actors()
    }

    fn weight(&self) -> u32 {
        self.inner.weight()
    }

    fn drive<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<(), Stuck>> {
        // Both servers, every process and every actor share it.
        *self.clock.lock() = Arc::downgrade(&world.clock);
        self.inner.drive(world)
    }

    fn goal(&self, world: &World) -> Result<(), String> {
        self.inner.goal(world)
    }
}

#[test]
fn a_world_that_is_over_is_gone() {
    let mut player = player();
    for text in ["claims | 0 | calm", "machine_with_data | 0 | infra write 3: crash landed; 1s: restored 500ms"] {
        let case = case(text);
        let scenarios = scenario::all();
        let inner = scenarios.iter().find(|scenario| scenario.name() == case.scenario).unwrap().as_ref();
        let passing = Passing { inner, clock: Mutex::new(Weak::<capm3_runtime::SystemClock>::new()) };
        player.play(&passing, &case.plan, case.settings(false)).unwrap();
        assert_eq!(passing.clock.lock().strong_count(), 0, "{text}: something of its world is still held");
    }
}

fn a_claim(world: &World) -> BoxFuture<'_, Result<(), Stuck>> {
    Box::pin(async move {
        let pool = json!({"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": "provisioning"});
        world.hand().create(IP_CLAIM, json!({"metadata": {"name": "a"}, "spec": {"pool": pool}})).await.map(drop)
    })
}

/// Somebody writes every ten minutes.
fn a_restless_user(world: &World) -> BoxFuture<'_, Result<(), Stuck>> {
    let hand = world.hand();
    world.tasks().spawn_finite(async move {
        for n in 0_u32.. {
            tokio::time::sleep(Duration::from_secs(600)).await;
            let patch = json!({"metadata": {"annotations": {"n": n.to_string()}}});
            hand.patch(POOL, "provisioning", patch).await.unwrap();
        }
    });
    a_claim(world)
}

/// Somebody takes the claim away when everything seems well.
fn a_late_deletion(world: &World) -> BoxFuture<'_, Result<(), Stuck>> {
    let hand = world.hand();
    world.tasks().spawn_finite(async move {
        tokio::time::sleep(Duration::from_secs(600)).await;
        hand.delete(IP_CLAIM, "a").await.unwrap();
    });
    a_claim(world)
}

/// A second hold on an address that is given out.
fn a_thief(world: &World) -> BoxFuture<'_, Result<(), Stuck>> {
    Box::pin(async move {
        a_claim(world).await?;
        let manager = Provider::Ipam.user(9);
        let hand = capm3_sim::world::Hand::new(world.server.clone(), manager, capm3_sim::world::SITE);
        let bound = Duration::from_secs(60);
        let claim =
            hand.until(bound, (IP_CLAIM, "a"), "an address", |claim| claim["status"]["address"].is_object()).await?;
        let name = claim["status"]["address"]["name"].as_str().unwrap_or_default();
        let mut double = hand.get(IP_ADDRESS, name);
        double["metadata"] = json!({"name": "double"});
        hand.create(IP_ADDRESS, double).await.map(drop)
    })
}

fn one_address(world: &World) -> Result<(), String> {
    let addresses = world.server.all(&IP_ADDRESS.filed()).len();
    if addresses == 0 { Err("no address".into()) } else { Ok(()) }
}

#[test]
fn what_does_not_hold_is_told() {
    let stuck = |_: &World| -> BoxFuture<'_, Result<(), Stuck>> { Box::pin(std::future::pending()) };
    for (invariant, drive, goal) in [
        ("i6_progress", stuck as fn(&World) -> BoxFuture<'_, Result<(), Stuck>>, one_address as fn(&World) -> _),
        ("i6_converges", a_claim, |_| Err("never".to_owned())),
        ("i6_quiet", a_restless_user, one_address),
        ("i6_quiet", a_late_deletion, one_address),
        ("i2_one_holder", a_thief, one_address),
    ] {
        let odd = Odd { name: "odd", drive, goal };
        let settings = Settings { keep_trace: true, ..Settings::default() };
        let report = player().play(&odd, &Plan::calm(), settings).unwrap();
        let found: BTreeSet<_> = report.violations.iter().map(|violation| violation.invariant).collect();
        assert!(found.contains(invariant), "{invariant} is not in {found:?}");
        let last = report.story.last().unwrap();
        assert!(last.contains("!!! i"), "the story goes on after what it is about: {last}");
    }
    let well = Odd { name: "well", drive: a_claim, goal: one_address };
    let report = player().play(&well, &Plan::calm(), Settings::default()).unwrap();
    assert_eq!(report.violations, []);
}

/// Each fault does what it says: the story has these in this order.
#[test]
fn faults_do_what_they_say() {
    let scenarios = scenario::all();
    let mut player = player();
    for (case_text, told) in [
        (
            "claims | 0 | ipam request 2: crash before",
            &["crash before", "ipam#1 is killed", "ipam#2 starts", "ipam#2 "][..],
        ),
        ("claims | 0 | ipam write 2: crash landed", &["ipam#1 ", "crash landed", "is killed", "ipam#2 starts"]),
        ("claims | 0 | ipam write 1: crash answered", &["crash answered", "ipam#1 is killed", "ipam#2 starts"]),
        (
            "claims | 0 | ipam request 2: conflict",
            &["conflict", "admin patch", "ipam#1 patch ipclaims a: 409", "ipam#1 patch ipclaims a: 200"],
        ),
        ("claims | 0 | ipam request 2: fails 500", &["fails 500", "ipam#1 patch ipclaims a: 200"]),
        ("claims | 0 | ipam request 2: fails timeout", &["fails timeout", "ipam#1 patch ipclaims a: 200"]),
        ("claims | 0 | ipam write 3: lost reset", &["lost reset", "ipam#1 create ipaddresses"]),
        ("claims | 0 | ipam request 2: busy 5", &["busy 5", "ipam#1 patch ipclaims a: 200"]),
        ("claims | 0 | ipam request 2: refused 422", &["refused 422", "ipam#1 patch ipclaims a: 200"]),
        (
            "claims | 0 | ipam request 2: recreated",
            &["recreated", "admin delete ipclaims a", "admin create ipclaims", "ipam#1 patch ipclaims a: 4"],
        ),
        ("claims | 0 | ipam request 2: overlaps", &["overlaps", "ipam#2 starts as well", "ipam#1 is killed"]),
        ("claims | 0 | ipam request 2: stopped", &["ipam#2 starts as well", "ipam#1 is killed"]),
        ("claims | 0 | ipam request 2: paused 10m", &["paused 10m", "ipam#1 patch ipclaims a: 200"]),
        (
            "claims | 0 | 0ms: webhook down 5s",
            &["webhook down 5s", "ipam#1 patch ipclaims a: 500", "ipam#1 patch ipclaims a: 200"],
        ),
    ] {
        let report = play(&mut player, &scenarios, &case(case_text), true).unwrap();
        assert_eq!(report.violations, [], "{case_text}");
        assert_eq!(report.struck, [true], "{case_text}");
        let mut story = report.story.iter();
        for line in told {
            assert!(
                story.any(|there| there.contains(line)),
                "{case_text} tells nothing of {line:?}: {:#?}",
                report.story
            );
        }
    }
}
