//! Many cases on several threads, with results that do not depend on how many.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::case::Case;
use super::run::{Player, Report, Runtimes};
use super::shrink::shortest;
use crate::fault::Plan;
use crate::scenario::{self, Scenario};
use crate::world::Stuck;

/// So many failures are shrunk and told; of the rest only the number.
const TOLD: usize = 5;
/// So many cases a failure may cost until it is as small as it gets.
const TRIES: usize = 60;

/// A case that broke something, as small as it got.
#[derive(Clone, Debug)]
pub struct Failure {
    pub found: Case,
    pub report: Report,
}

/// What came of many cases.
#[derive(Debug, Default)]
pub struct Tally {
    pub cases: u64,
    /// Of the cases, those in which every planned fault happened.
    pub struck: u64,
    pub writes: u64,
    pub requests: u64,
    pub checks: u64,
    pub reconciles: u64,
    /// How many cases broke something.
    pub broken: u64,
    /// By scenario.
    pub scenarios: BTreeMap<String, u64>,
    /// The first of them, by the order of the cases.
    pub failures: BTreeMap<usize, Failure>,
    /// What went wrong with the machine itself.
    pub stuck: Option<String>,
    /// Stopped before all cases were run.
    pub cut: bool,
}

impl Tally {
    fn add(&mut self, report: &Report) {
        self.cases += 1;
        self.struck += u64::from(report.struck.iter().all(|struck| *struck));
        self.writes += report.writes;
        self.requests += report.requests;
        self.checks += report.checks;
        self.reconciles += report.reconciles;
        self.broken += u64::from(!report.violations.is_empty());
        *self.scenarios.entry(report.scenario.to_owned()).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.struck += other.struck;
        self.writes += other.writes;
        self.requests += other.requests;
        self.checks += other.checks;
        self.reconciles += other.reconciles;
        self.broken += other.broken;
        for (scenario, cases) in other.scenarios {
            *self.scenarios.entry(scenario).or_default() += cases;
        }
        self.failures.extend(other.failures);
        self.stuck = self.stuck.take().or(other.stuck);
        self.cut |= other.cut;
    }
}

/// Who runs cases.
pub struct Team {
    pub runtimes: Runtimes,
    pub threads: usize,
    /// Asked between cases; no further ones are run once it says so.
    pub enough: fn() -> bool,
}

impl Team {
    /// Runs the cases that `deal` makes of 0 to `cases`.
    pub fn run(&self, cases: usize, deal: &(dyn Fn(usize) -> Case + Sync)) -> Tally {
        let next = AtomicUsize::new(0);
        let total = Mutex::new(Tally::default());
        std::thread::scope(|threads| {
            for _ in 0..self.threads.max(1) {
                threads.spawn(|| {
                    let tally = self.work(cases, deal, &next);
                    total.lock().merge(tally);
                });
            }
        });
        let mut total = total.into_inner();
        let told = total.failures.keys().copied().take(TOLD).collect::<Vec<_>>();
        total.failures.retain(|case, _| told.contains(case));
        let mut player = Player::new(self.runtimes);
        for failure in total.failures.values_mut() {
            if let Some(smallest) = shrink(&mut player, failure) {
                *failure = smallest;
            }
        }
        total
    }

    fn work(&self, cases: usize, deal: &(dyn Fn(usize) -> Case + Sync), next: &AtomicUsize) -> Tally {
        let mut tally = Tally::default();
        let mut player = Player::new(self.runtimes);
        let scenarios = scenario::all();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= cases {
                return tally;
            }
            if (self.enough)() {
                tally.cut = true;
                return tally;
            }
            let case = deal(i);
            match play(&mut player, &scenarios, &case, false) {
                Ok(report) => {
                    tally.add(&report);
                    if !report.violations.is_empty() && tally.failures.len() < TOLD {
                        tally.failures.insert(i, Failure { found: case, report });
                    }
                }
                Err(stuck) => {
                    tally.stuck = Some(format!("{case}: {stuck}"));
                    return tally;
                }
            }
        }
    }

    /// What calm runs of all scenarios ask and hear.
    pub fn record(&self, scenarios: &[Box<dyn Scenario>]) -> Result<Vec<Report>, Stuck> {
        let mut player = Player::new(self.runtimes);
        let calm = |scenario: &Box<dyn Scenario>| {
            let case = Case { scenario: scenario.name().to_owned(), seed: 0, plan: Plan::calm() };
            player.play(scenario.as_ref(), &case.plan, case.settings(false))
        };
        scenarios.iter().map(calm).collect()
    }
}

/// Runs a case by the name of its scenario.
pub fn play(
    player: &mut Player,
    scenarios: &[Box<dyn Scenario>],
    case: &Case,
    keep_story: bool,
) -> Result<Report, Stuck> {
    let scenario = scenarios.iter().find(|scenario| scenario.name() == case.scenario);
    let scenario = scenario.ok_or_else(|| Stuck::Broken(format!("there is no scenario {:?}", case.scenario)))?;
    player.play(scenario.as_ref(), &case.plan, case.settings(keep_story))
}

/// The smallest case that breaks the first invariant which this one broke, with its story.
pub fn shrink(player: &mut Player, failure: &Failure) -> Option<Failure> {
    let invariant = failure.report.violations.first()?.invariant;
    let scenarios = scenario::all();
    let mut tries = 0;
    let smallest = shortest(failure.found.clone(), |case| {
        tries += 1;
        let report = (tries <= TRIES).then(|| play(player, &scenarios, case, false).ok()).flatten();
        report.is_some_and(|report| report.violations.iter().any(|violation| violation.invariant == invariant))
    });
    let report = play(player, &scenarios, &smallest, true).ok()?;
    Some(Failure { found: smallest, report })
}
