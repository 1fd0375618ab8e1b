//! One run from its beginning to its rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use crate::fault::{Injector, Plan, Recording};
use crate::invariant::{Violation, Watchtower};
use crate::scenario::{Scenario, Stage, raise};
use crate::world::{Settings, Snapshot, Stuck, World};

/// After the last fault the goal is reached within this.
pub const CONVERGES: Duration = Duration::from_secs(60);
/// A scenario that still asks for things after this is stuck.
const DRIVEN: Duration = Duration::from_secs(3 * 3600);
/// How often the goal is looked for.
const LOOK: Duration = Duration::from_millis(500);
/// At rest nothing was written for this long.
const REST: Duration = Duration::from_secs(10);
/// And then nothing is for this long.
const QUIET: Duration = Duration::from_secs(3600);
/// The same after faults, by which every pause and every safety net of the managers (five minutes at most, I21) has ended twice.
const QUIET_AGAIN: Duration = Duration::from_secs(660);

/// How a line of the story begins that tells what did not hold.
const BROKEN: &str = "!!! ";

/// Makes the runtimes that runs live in: of one thread, with paused time.
pub type Runtimes = fn() -> std::io::Result<Runtime>;

/// What came of one run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub scenario: &'static str,
    pub plan: Plan,
    pub seed: u64,
    pub violations: Vec<Violation>,
    /// Which of the plan's faults happened.
    pub struck: Vec<bool>,
    /// Over every request of both servers and its outcome.
    pub trace_hash: u64,
    /// Every write, failure and fault, when it was asked for.
    pub story: Vec<String>,
    pub writes: u64,
    /// What the managers asked.
    pub requests: u64,
    /// How often an invariant was checked.
    pub checks: u64,
    pub reconciles: u64,
    pub recording: Recording,
}

/// Plays runs one after another, each in a runtime of its own, from stages that it builds once.
pub struct Player {
    runtimes: Runtimes,
    stages: BTreeMap<Stage, Snapshot>,
}

impl Player {
    pub fn new(runtimes: Runtimes) -> Self {
        Self { runtimes, stages: BTreeMap::new() }
    }

    /// An error is one of the machine's own: no run came about.
    pub fn play(&mut self, scenario: &dyn Scenario, plan: &Plan, settings: Settings) -> Result<Report, Stuck> {
        let broken = |error: std::io::Error| Stuck::Broken(error.to_string());
        let stage = scenario.stage();
        if !self.stages.contains_key(&stage) {
            let built = (self.runtimes)().map_err(broken)?.block_on(Box::pin(stage.build()))?;
            self.stages.insert(stage, built);
        }
        let runtime = (self.runtimes)().map_err(broken)?;
        let snapshot = &self.stages[&stage];
        Ok(runtime.block_on(Box::pin(run(scenario, snapshot, plan, settings))))
    }
}

/// Must be called in a runtime of its own.
pub async fn run(scenario: &dyn Scenario, snapshot: &Snapshot, plan: &Plan, settings: Settings) -> Report {
    let (seed, keep_story) = (settings.seed, settings.keep_trace);
    let world = Arc::new(World::begin(snapshot, settings));
    let tower = Watchtower::over(&world);
    let injector = Injector::over(&world, tower.clone(), plan, keep_story);
    let begun = world.server.revision() + world.workload.revision();
    raise(scenario, &world).await;
    let mut liveness = Box::pin(live(scenario, &world, &injector, plan)).await;
    let mut violations = tower.violations();
    let safe = violations.len();
    if liveness.is_empty() {
        violations.extend(tower.at_rest(&world));
    }
    violations.append(&mut liveness);
    violations.extend(failures(&world));
    for violation in &violations[safe..] {
        injector.tell(&format!("!!! {}: {} @{}", violation.invariant, violation.what, violation.revision));
    }
    let mut story = injector.story();
    if let Some(broken) = story.iter().position(|line| line.contains(BROKEN)) {
        story.truncate(broken + 1); // what follows from it is not worth reading
    }
    let (management, workload) = (world.server.trace_hash(), world.workload.trace_hash());
    Report {
        scenario: scenario.name(),
        plan: plan.clone(),
        seed,
        violations,
        struck: injector.struck(),
        trace_hash: management.rotate_left(1) ^ workload,
        story,
        writes: world.server.revision() + world.workload.revision() - begun,
        requests: injector.requests(),
        checks: tower.checks(),
        reconciles: reconciles(&world),
        recording: injector.recording(),
    }
}

/// The liveness half of it: what never came, or did not stay.
async fn live(scenario: &dyn Scenario, world: &Arc<World>, injector: &Arc<Injector>, plan: &Plan) -> Vec<Violation> {
    let (patience, forgotten) = (plan.patience(), plan.forgets());
    let wrong = |invariant, what: String| vec![Violation { invariant, what, revision: world.server.revision() }];
    let driven = scenario.drive(world);
    match timeout(DRIVEN, collecting(world, driven)).await {
        Ok(Ok(())) => {}
        _ if forgotten => {}
        Ok(Err(stuck)) => return wrong("i6_progress", stuck.to_string()),
        Err(_) => {
            return wrong("i6_progress", format!("{} still asks for things after three hours", scenario.name()));
        }
    }
    injector.tell("everything was asked for");
    let _ = reached(scenario, world, CONVERGES, || injector.all_struck()).await;
    while injector.is_busy() {
        sleep(LOOK).await;
    }
    injector.calm();
    match reached(scenario, world, CONVERGES + patience, || false).await {
        Ok(()) => injector.tell("the goal is reached"),
        // What is left of it still has to come to rest, with nothing stuck.
        Err(why) if forgotten => injector.tell(&format!("part of what was asked for is forgotten: {why}")),
        Err(why) => return wrong("i6_converges", why),
    }
    sleep(patience).await; // what is tried again this late may still write
    if !world.settles(REST, CONVERGES).await {
        return wrong("i6_quiet", "it never comes to rest".into());
    }
    let at_rest = (world.server.revision(), world.workload.revision());
    let quiet = if plan.0.is_empty() { QUIET } else { QUIET_AGAIN };
    sleep(quiet).await;
    let later = (world.server.revision(), world.workload.revision());
    // The others of the world may find out late what is forgotten.
    if later != at_rest && !forgotten {
        return wrong("i6_quiet", format!("{at_rest:?} became {later:?} in {quiet:?} at rest"));
    }
    match scenario.goal(world) {
        Err(why) if !forgotten => wrong("i6_stays", why),
        Ok(()) | Err(_) => Vec::new(),
    }
}

/// Does the rounds of a cluster's own controllers while something else goes on.
async fn collecting<T>(world: &World, work: BoxFuture<'_, T>) -> T {
    let rounds = async {
        loop {
            sleep(LOOK * 4).await;
            world.server.settle();
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        never = rounds => never,
    }
}

/// Waits for the goal, at most until `bound` or until it is enough.
async fn reached(
    scenario: &dyn Scenario,
    world: &World,
    bound: Duration,
    enough: impl Fn() -> bool,
) -> Result<(), String> {
    let end = Instant::now() + bound;
    loop {
        let found = scenario.goal(world);
        if found.is_ok() || enough() || Instant::now() >= end {
            return found;
        }
        sleep(LOOK).await;
        world.server.settle();
    }
}

/// What ended before its time, and what panicked.
fn failures(world: &World) -> Vec<Violation> {
    let revision = world.server.revision();
    let mut found = Vec::new();
    for process in world.processes() {
        let who = format!("{:?} {}", process.provider, process.id);
        if let Some(failure) = process.failure() {
            found.push(Violation { invariant: "i23_no_panic", what: format!("{who}: {failure}"), revision });
        }
        let panics = sum(&process.metrics().render(), "controller_runtime_reconcile_panics_total");
        if panics > 0 {
            found.push(Violation {
                invariant: "i23_no_panic",
                what: format!("{who} panicked {panics} times"),
                revision,
            });
        }
    }
    found
}

fn reconciles(world: &World) -> u64 {
    let pages = world.processes();
    pages.iter().map(|process| sum(&process.metrics().render(), "controller_runtime_reconcile_total")).sum()
}

/// Over all series of a metric.
fn sum(page: &str, metric: &str) -> u64 {
    let series = page.lines().filter(|line| line.starts_with(metric));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
