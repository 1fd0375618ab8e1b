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

/// So many cases a failure may cost until it is as small as it gets.
const TRIES: usize = 60;

/// A case that broke something, as small as it got.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its number among the cases.
    pub at: usize,
    /// How many cases broke the same in the same scenario.
    pub cases: u64,
    pub found: Case,
    pub report: Report,
}

/// How a scenario fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub cases: u64,
    pub broken: u64,
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
    pub scenarios: BTreeMap<String, Share>,
    /// The first of each kind, by scenario and by what broke first.
    pub failures: BTreeMap<(String, &'static str), Failure>,
    /// What went wrong with the machine itself.
    pub stuck: Option<String>,
    /// Stopped before all cases were run.
    pub cut: bool,
}

impl Tally {
    fn add(&mut self, at: usize, case: Case, report: Report) {
        let broken = u64::from(!report.violations.is_empty());
        self.cases += 1;
        self.struck += u64::from(report.struck.iter().all(|struck| *struck));
        self.writes += report.writes;
        self.requests += report.requests;
        self.checks += report.checks;
        self.reconciles += report.reconciles;
        self.broken += broken;
        let share = self.scenarios.entry(case.scenario.clone()).or_default();
        share.cases += 1;
        share.broken += broken;
        if let Some(violation) = report.violations.first() {
            let kind = (case.scenario.clone(), violation.invariant);
            self.failed(kind, Failure { at, cases: 1, found: case, report });
        }
    }

    fn failed(&mut self, kind: (String, &'static str), failure: Failure) {
        match self.failures.get_mut(&kind) {
            Some(known) => {
                let cases = known.cases + failure.cases;
                if failure.at < known.at {
                    *known = failure;
                }
                known.cases = cases;
            }
            None => drop(self.failures.insert(kind, failure)),
        }
    }

    fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.struck += other.struck;
        self.writes += other.writes;
        self.requests += other.requests;
        self.checks += other.checks;
        self.reconciles += other.reconciles;
        self.broken += other.broken;
        for (scenario, Share { cases, broken }) in other.scenarios {
            let share = self.scenarios.entry(scenario).or_default();
            share.cases += cases;
            share.broken += broken;
        }
        for (kind, failure) in other.failures {
            self.failed(kind, failure);
        }
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
        total.into_inner()
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
                Ok(report) => tally.add(i, case, report),
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
        let calm = |scenario: &dyn Scenario| {
            let case = Case { scenario: scenario.name().to_owned(), seed: 0, plan: Plan::calm() };
            player.play(scenario, &case.plan, case.settings(false))
        };
        scenarios.iter().map(AsRef::as_ref).map(calm).collect()
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

/// The smallest case that breaks the first invariant which this one broke, with its story; what is smallest when there is no more time.
pub fn shrink(player: &mut Player, failure: &Failure, enough: &dyn Fn() -> bool) -> Option<Failure> {
    let invariant = failure.report.violations.first()?.invariant;
    let scenarios = scenario::all();
    let mut tries = 0;
    let smallest = shortest(failure.found.clone(), |case| {
        tries += 1;
        let report = (tries <= TRIES && !enough()).then(|| play(player, &scenarios, case, false).ok()).flatten();
        report.is_some_and(|report| report.violations.iter().any(|violation| violation.invariant == invariant))
    });
    let report = play(player, &scenarios, &smallest, true).ok()?;
    Some(Failure { found: smallest, report, ..*failure })
}
