//! Whether the proof would find what it looks for: each planted defect is hunted with the cases of both runners.
//!
//! A defect belongs to a thread, so each is hunted by one. The stages and the recordings come from before it was sown: what a
//! defect does is to show in a case, not in how the case was made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use capm3_core::planted::{Defect, sow};
use parking_lot::Mutex;

use super::case::Case;
use super::exhaustive;
use super::random::Deck;
use super::run::{Player, Report, Runtimes};
use super::team::play;
use crate::fault::{Plan, Recording};
use crate::scenario;
use crate::world::Stuck;

/// How far a hunt got.
#[derive(Clone, Debug)]
pub struct Hunt {
    pub defect: Defect,
    /// Cases until it was found, or all that were allowed.
    pub cases: usize,
    pub took: Duration,
    /// What was broken first, by which case.
    pub found: Option<(Case, &'static str)>,
}

/// Hunts every one of `defects` with at most `most` cases each, on `threads` threads. `told` hears of each hunt when it is over.
pub fn hunt(
    runtimes: Runtimes,
    threads: usize,
    defects: &[Defect],
    most: usize,
    told: &(dyn Fn(&Hunt) + Sync),
) -> Result<Vec<Hunt>, Stuck> {
    let next = AtomicUsize::new(0);
    let hunts = Mutex::new(BTreeMap::new());
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut hunter = match Hunter::new(runtimes) {
                    Ok(hunter) => hunter,
                    Err(stuck) => return *failed.lock() = Some(stuck),
                };
                while let Some(defect) = defects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunter.hunt(*defect, most);
                    told(&hunt);
                    hunts.lock().insert(*defect, hunt);
                }
            });
        }
    });
    match failed.into_inner() {
        Some(stuck) => Err(stuck),
        None => Ok(hunts.into_inner().into_values().collect()),
    }
}

struct Hunter {
    player: Player,
    recordings: BTreeMap<&'static str, Recording>,
}

impl Hunter {
    fn new(runtimes: Runtimes) -> Result<Self, Stuck> {
        let mut player = Player::new(runtimes);
        let mut recordings = BTreeMap::new();
        for scenario in scenario::all() {
            let case = Case { scenario: scenario.name().to_owned(), seed: 0, plan: Plan::calm() };
            let report = player.play(scenario.as_ref(), &case.plan, case.settings(false))?;
            recordings.insert(scenario.name(), report.recording);
        }
        Ok(Self { player, recordings })
    }

    /// First what is calm, which many defects do not survive; then single faults of all scenarios in turn, and chance in between.
    fn hunt(&mut self, defect: Defect, most: usize) -> Hunt {
        let scenarios = scenario::all();
        let deck = Deck { scenarios: &scenarios, recordings: &self.recordings };
        let calm = scenarios.iter().map(|scenario| Case { scenario: scenario.name().to_owned(), ..Case::default() });
        let single = self.recordings.iter().flat_map(|(scenario, recording)| {
            exhaustive::plans(recording).into_iter().map(|plan| Case {
                scenario: (*scenario).to_owned(),
                seed: 0,
                plan,
            })
        });
        let mut single: Vec<_> = single.collect();
        fastrand::Rng::with_seed(defect as u64).shuffle(&mut single);
        let chance = (0..).map(|seed| deck.deal(seed));
        let mixed = single.into_iter().zip(chance).flat_map(|(single, chance)| [single, chance]);
        let cases = calm.chain(mixed).take(most).collect::<Vec<_>>();

        sow(Some(defect));
        let begun = Instant::now();
        let mut hunt = Hunt { defect, cases: 0, took: Duration::ZERO, found: None };
        for case in cases {
            hunt.cases += 1;
            // A scenario that does not even begin any more is stuck on the defect.
            let broken = match play(&mut self.player, &scenarios, &case, false) {
                Ok(Report { violations, .. }) => violations.first().map(|violation| violation.invariant),
                Err(_) => Some("i6_progress"),
            };
            if let Some(invariant) = broken {
                hunt.found = Some((case, invariant));
                break;
            }
        }
        sow(None);
        hunt.took = begun.elapsed();
        hunt
    }
}
