//! Both runners: every single fault of every scenario, and faults by seed. `make sim` runs this in a release build.
//!
//! ```text
//! prove all|plans|seeds [--seeds N] [--first SEED] [--slice K/N] [--threads N] [--seconds N] [--scenario NAME] [--summary FILE]
//! prove planted [--most N] [--threads N]
//! prove replay SCENARIO SEED [PLAN]
//! ```
//!
//! `planted` hunts each defect of `capm3_core::planted` with the cases of both runners, and fails when one is not found. It needs the
//! feature of that name; with it `all` hunts them too.
//!
//! `--slice K/N` plays every N-th of the plans, from the K-th on (modulo N): N runs in a row play all of them.
//! The number of seeds says how much is run, not the time. `--seconds` is for machines that are too slow for that: it ends the runners
//! early, which the summary says. Without it fewer than were asked for are a failure, as are fewer than [`PLANS`] plans of all scenarios.
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use capm3_sim::fault::Plan;
use capm3_sim::proof::{Case, Deck, Failure, Player, Report, Share, Tally, Team, exhaustive, play, shrink};
use capm3_sim::scenario::script::{self, Script};
use capm3_sim::scenario::{self, Scenario};
use mimalloc::MiMalloc;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// A run makes and drops some hundred thousand small objects.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const USAGE: &str = "usage: prove all|plans|seeds [--seeds N] [--first SEED] [--slice K/N] [--threads N] [--seconds N] [--scenario NAME] \
    [--summary FILE]
       prove planted [--most N] [--threads N]
       prove replay SCENARIO SEED [PLAN]";
const OPTIONS: [&str; 8] =
    ["--seeds", "--first", "--slice", "--threads", "--seconds", "--scenario", "--summary", "--most"];

/// Fewer are not every single fault of every scenario.
const PLANS: usize = 10_000;
const SEEDS: usize = 100_000;

/// So many kinds of failures are made as small as they get, in this time; the others are told as they were found.
const SHRUNK: usize = 6;
const SHRINKING: Duration = Duration::from_secs(60);

/// When the runner at work is to end.
static END: Mutex<Option<Instant>> = Mutex::new(None);

fn is_over() -> bool {
    END.lock().is_some_and(|end| Instant::now() >= end)
}

/// What each thread plays, and since when.
static PLAYED: Mutex<BTreeMap<String, (Instant, Case)>> = Mutex::new(BTreeMap::new());
/// A case that takes longer never comes to an end: virtual time stands still in it.
const ENDLESS: Duration = Duration::from_secs(120);

fn plays(case: Case) -> Case {
    let thread = format!("{:?}", std::thread::current().id());
    PLAYED.lock().insert(thread, (Instant::now(), case.clone()));
    case
}

/// Ends the program with the case that does not end.
fn watch_for_endless() {
    std::thread::spawn(|| {
        loop {
            std::thread::park_timeout(ENDLESS / 4);
            let endless = PLAYED.lock().values().find(|(since, _)| since.elapsed() > ENDLESS).cloned();
            if let Some((_, case)) = endless {
                println!("still running after {} s: {case}", ENDLESS.as_secs());
                #[expect(clippy::disallowed_methods, reason = "the thread that is to end the program does not answer")]
                std::process::exit(1);
            }
        }
    });
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_time().start_paused(true).build()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["all" | "plans" | "seeds" | "planted", options @ ..] if check(options).is_err() => {
            check(options).map(|()| false)
        }
        ["replay", scenario, seed, plan @ ..] => replay(&format!("{scenario} | {seed} | {}", plan.join(" "))),
        [what @ ("all" | "plans" | "seeds"), options @ ..] => prove(what, options),
        #[cfg(feature = "planted")]
        ["planted", options @ ..] => planted(options).map(|hunted| hunted.all_found()),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn replay(text: &str) -> Result<bool, String> {
    let case: Case = text.parse().map_err(|error| format!("{error}"))?;
    let report = play(&mut Player::new(runtime), &scenario::all(), &case, true).map_err(|stuck| stuck.to_string())?;
    tell(&report);
    Ok(report.violations.is_empty())
}

/// What is misspelt would be a run of something else.
fn check(options: &[&str]) -> Result<(), String> {
    options.chunks(2).try_for_each(|option| match option {
        [name, _] if OPTIONS.contains(name) => Ok(()),
        [name] if OPTIONS.contains(name) => Err(format!("{name} what?\n{USAGE}")),
        _ => Err(format!("{}?\n{USAGE}", option[0])),
    })
}

/// The word after `name`.
fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    options.iter().position(|word| *word == name).and_then(|at| options.get(at + 1)).copied()
}

fn number(options: &[&str], name: &str) -> Result<Option<usize>, String> {
    option(options, name).map(|text| text.parse::<usize>().map_err(|_| format!("{name} {text}?"))).transpose()
}

fn threads(options: &[&str]) -> Result<usize, String> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Ok(number(options, "--threads")?.unwrap_or(cores))
}

/// What became of the hunts for planted defects.
#[derive(Default)]
struct Hunted {
    planted: usize,
    found: usize,
}

impl Hunted {
    fn all_found(&self) -> bool {
        self.found == self.planted
    }
}

#[cfg(feature = "planted")]
fn planted(options: &[&str]) -> Result<Hunted, String> {
    use capm3_core::planted::Defect;
    use capm3_sim::proof::{Hunt, hunt};

    /// So many cases may pass before a defect counts as not found; most are found within a hundred.
    const MOST: usize = 4_000;
    let most = number(options, "--most")?.unwrap_or(MOST);
    let begun = Instant::now();
    let told = |hunt: &Hunt| {
        let Hunt { defect, cases, took, found } = hunt;
        match found {
            Some((case, invariant)) => {
                println!("{defect:?} found after {cases} cases, {:.1} s: {invariant} by {case}", took.as_secs_f64());
            }
            None => println!("{defect:?} NOT FOUND in {cases} cases, {:.1} s", took.as_secs_f64()),
        }
    };
    let hunts = hunt(runtime, threads(options)?, &Defect::ALL, most, &told).map_err(|stuck| stuck.to_string())?;
    let found = hunts.iter().filter(|hunt| hunt.found.is_some()).count();
    println!("{found} of {} planted defects found in {:.1} s", hunts.len(), begun.elapsed().as_secs_f64());
    Ok(Hunted { planted: hunts.len(), found })
}

#[cfg(not(feature = "planted"))]
#[expect(clippy::unnecessary_wraps, reason = "so it is with the feature")]
fn planted(_: &[&str]) -> Result<Hunted, String> {
    println!("no defect can be planted in this build");
    Ok(Hunted::default())
}

fn prove(what: &str, options: &[&str]) -> Result<bool, String> {
    let option = |name: &str| option(options, name);
    let start = Instant::now();
    let cap = number(options, "--seconds")?;
    // A quarter of the time is for the plans, the rest for the seeds.
    let end_at = |part: u32| {
        *END.lock() = cap.map(|seconds| start + Duration::from_secs(seconds as u64) * part / 4);
    };
    watch_for_endless();
    let threads = threads(options)?;
    let seeds = number(options, "--seeds")?.unwrap_or(SEEDS);
    let slice = slice(option("--slice").unwrap_or("0/1"))?;
    let team = Team { runtimes: runtime, threads, enough: is_over };
    let mut scenarios = scenario::all();
    if let Some(name) = option("--scenario") {
        scenarios.retain(|scenario| scenario.name() == name);
    }
    let memory = if what == "all" { largest_world()? } else { 0 };
    let calm = team.record(&scenarios).map_err(|stuck| stuck.to_string())?;
    println!("{} scenarios recorded in {:.1} s", calm.len(), start.elapsed().as_secs_f64());

    let mut well = true;
    let mut tallies = Vec::new();
    if what != "seeds" {
        let cases = in_turn(&calm.iter().map(single).collect::<Vec<_>>());
        let cases: Vec<_> = cases.into_iter().skip(slice.0).step_by(slice.1).collect();
        let begun = Instant::now();
        end_at(if what == "all" { 1 } else { 4 });
        let tally = team.run(cases.len(), &|i| plays(cases[i].clone()));
        well &= show("plans", &tally, begun.elapsed(), threads);
        if option("--scenario").is_none() && cases.len() < PLANS {
            println!("fewer than {PLANS} plans: there are too few scenarios");
            well = false;
        }
        tallies.push(("plans", tally, begun.elapsed()));
    }
    if what != "plans" {
        let recordings = calm.into_iter().map(|report| (report.scenario, report.recording)).collect();
        let deck = Deck { scenarios: &scenarios, recordings: &recordings };
        let begun = Instant::now();
        end_at(4);
        let first = number(options, "--first")?.unwrap_or_default();
        let tally = team.run(seeds, &|i| plays(deck.deal((first + i) as u64)));
        well &= show("seeds", &tally, begun.elapsed(), threads);
        tallies.push(("seeds", tally, begun.elapsed()));
    }
    let hunted = if what == "all" { planted(options)? } else { Hunted::default() };
    well &= hunted.all_found();
    let mut summary = summary(&tallies, &hunted, threads, start.elapsed());
    summary["world_of_10000_hosts_mib"] = memory.into();
    println!("{summary:#}");
    if let Some(file) = option("--summary") {
        if let Some(folder) = Path::new(file).parent() {
            std::fs::create_dir_all(folder).map_err(|error| format!("{file}: {error}"))?;
        }
        std::fs::write(file, format!("{summary:#}\n")).map_err(|error| format!("{file}: {error}"))?;
    }
    if cap.is_some() && tallies.iter().any(|(_, tally, _)| tally.cut) {
        println!("CUT SHORT after {} s, as --seconds says: not everything was run", start.elapsed().as_secs());
    }
    result(&scenarios, &tallies, &hunted, start.elapsed());
    Ok(well)
}

/// How much memory the largest of the scenario files takes. To be asked before anything else has run in this process.
fn largest_world() -> Result<u64, String> {
    let script =
        Script::read(include_str!("../../../docs/sim/ten-thousand-hosts.yaml")).map_err(|error| error.to_string())?;
    let runtime = runtime().map_err(|error| error.to_string())?;
    let told = runtime.block_on(Box::pin(script::play(&script, script.seed, &Plan::calm())));
    let told = told.map_err(|error| error.to_string())?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let mib = peak.unwrap_or_default() / 1024;
    println!("a world of 10 000 hosts and its managers: {mib} MiB, {} objects in the end", told.objects);
    if told.failures.is_empty() { Ok(mib) } else { Err(format!("a world of 10 000 hosts: {:?}", told.failures)) }
}

/// Where to begin and how far to go each time.
fn slice(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(at, of)| Some((at.parse::<usize>().ok()?, of.parse::<usize>().ok()?)));
    let (at, of) = parts.filter(|(_, of)| *of > 0).ok_or_else(|| format!("--slice {text}? It is K/N, as in 2/3"))?;
    Ok((at % of, of))
}

fn single(calm: &Report) -> Vec<Case> {
    let of = |plan| Case { scenario: calm.scenario.to_owned(), seed: 0, plan };
    exhaustive::plans(&calm.recording).into_iter().map(of).collect()
}

/// A first one of each scenario, then a second: whoever stops early has seen something of all.
fn in_turn(scenarios: &[Vec<Case>]) -> Vec<Case> {
    let longest = scenarios.iter().map(Vec::len).max().unwrap_or_default();
    (0..longest).flat_map(|n| scenarios.iter().filter_map(move |cases| cases.get(n).cloned())).collect()
}

/// Whether nothing was found.
fn show(what: &str, tally: &Tally, took: Duration, threads: usize) -> bool {
    let seconds = took.as_secs_f64();
    let Tally { cases, struck, writes, requests, checks, reconciles, broken, .. } = tally;
    let each = *cases as f64 / seconds / threads as f64;
    println!(
        "{cases} {what} in {seconds:.1} s, {each:.0} per second and core; all faults of {struck} happened; {writes} writes, {requests} \
         requests, {:.0} reconciles per second, {checks} checks of invariants; {broken} broke something",
        *reconciles as f64 / seconds,
    );
    for (scenario, Share { cases, broken }) in &tally.scenarios {
        println!("  {cases:>7} {scenario}{}", if *broken > 0 { format!(": {broken} BROKEN") } else { String::new() });
    }
    for ((scenario, invariant), Failure { cases, found, report, .. }) in &tally.failures {
        let what = report.violations.first().map(|violation| violation.what.as_str()).unwrap_or_default();
        println!("{invariant} did not hold in {cases} cases of {scenario}; {found}: {what}");
    }
    PLAYED.lock().clear();
    *END.lock() = Some(Instant::now() + SHRINKING);
    let mut player = Player::new(runtime);
    for failure in tally.failures.values().take(SHRUNK) {
        let Some(smallest) = shrink(&mut player, failure, &is_over) else { continue };
        println!("\nthe smallest case:");
        tell(&smallest.report);
        let Case { scenario, seed, plan } = &smallest.found;
        println!(
            "play it again with: cargo run -p capm3-cli -- sim --scenario {scenario} --seed {seed} --plan '{plan}'\n"
        );
    }
    if let Some(stuck) = &tally.stuck {
        println!("the simulator itself is stuck: {stuck}");
    }
    tally.broken == 0 && tally.stuck.is_none()
}

fn tell(report: &Report) {
    println!("{} | {} | {}", report.scenario, report.seed, report.plan);
    for line in &report.story {
        println!("  {line}");
    }
    for violation in &report.violations {
        println!("  {} @{}: {}", violation.invariant, violation.revision, violation.what);
    }
    println!("  trace {:016x}", report.trace_hash);
}

fn summary(tallies: &[(&str, Tally, Duration)], hunted: &Hunted, threads: usize, took: Duration) -> Value {
    let mut summary = json!({"plans": 0, "seeds": 0, "violations": 0});
    summary["planted"] = hunted.planted.into();
    summary["planted_found"] = hunted.found.into();
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(|(_, tally, _)| of(tally)).sum::<u64>();
    for (what, tally, took) in tallies {
        summary[*what] = tally.cases.into();
        let rate = tally.cases as f64 / took.as_secs_f64() / threads as f64;
        summary[format!("{what}_per_second_and_core")] = ((rate * 10.0).round() / 10.0).into();
    }
    let running: Duration = tallies.iter().map(|(_, _, took)| *took).sum();
    let rate = sum(|tally| tally.reconciles) as f64 / running.as_secs_f64().max(0.001);
    summary["violations"] = sum(|tally| tally.broken).into();
    summary["invariant_checks"] = sum(|tally| tally.checks).into();
    summary["reconciles"] = sum(|tally| tally.reconciles).into();
    summary["reconciles_per_second"] = rate.round().into();
    summary["requests"] = sum(|tally| tally.requests).into();
    summary["writes"] = sum(|tally| tally.writes).into();
    summary["seconds"] = took.as_secs().into();
    summary["threads"] = threads.into();
    summary["cut_short"] = tallies.iter().any(|(_, tally, _)| tally.cut).into();
    summary
}

/// In the form of cargo's own test runner: one test for each scenario and runner, and for each planted defect.
fn result(scenarios: &[Box<dyn Scenario>], tallies: &[(&str, Tally, Duration)], hunted: &Hunted, took: Duration) {
    let shares = tallies.iter().flat_map(|(_, tally, _)| {
        scenarios.iter().map(|scenario| tally.scenarios.get(scenario.name()).copied().unwrap_or_default())
    });
    let (passed, failed): (Vec<Share>, Vec<Share>) = shares.partition(|share| share.broken == 0 && share.cases > 0);
    let passed = passed.len() + hunted.found;
    let failed = failed.len() + hunted.planted - hunted.found;
    let ok = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {ok}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        took.as_secs_f64()
    );
}
