//! Both runners: every single fault of every scenario, and faults by seed. `make sim` runs this in a release build.
//!
//! ```text
//! prove all [--seeds N] [--threads N] [--seconds N] [--scenario NAME]
//! prove plans | seeds | replay SCENARIO SEED [PLAN]
//! ```
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use capm3_sim::proof::{Case, Deck, Player, Report, Tally, Team, exhaustive, play};
use capm3_sim::scenario;
use tokio::runtime::{Builder, Runtime};

static END: OnceLock<Instant> = OnceLock::new();

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_time().start_paused(true).build()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let option = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied();
    let number = |name: &str, default: u64| option(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let start = Instant::now();
    if let Some(seconds) = option("--seconds").and_then(|text| text.parse().ok()) {
        END.get_or_init(|| start + Duration::from_secs(seconds));
    }
    let threads = usize::try_from(number("--threads", 2)).unwrap_or(2);
    let team = Team { runtimes: runtime, threads, enough: || END.get().is_some_and(|end| Instant::now() >= *end) };
    match words.as_slice() {
        ["replay", scenario, seed, plan @ ..] => {
            let text = format!("{scenario} | {seed} | {}", plan.join(" "));
            let Ok(case) = text.parse::<Case>() else {
                println!("{text} is no case");
                return ExitCode::FAILURE;
            };
            match play(&mut Player::new(runtime), &scenario::all(), &case, true) {
                Ok(report) => told(&report),
                Err(stuck) => {
                    println!("{stuck}");
                    return ExitCode::FAILURE;
                }
            }
            ExitCode::SUCCESS
        }
        [what, ..] => {
            let mut scenarios = scenario::all();
            if let Some(name) = option("--scenario") {
                scenarios.retain(|scenario| scenario.name() == name);
            }
            let calm = match team.record(&scenarios) {
                Ok(calm) => calm,
                Err(stuck) => {
                    println!("{stuck}");
                    return ExitCode::FAILURE;
                }
            };
            for report in &calm {
                println!("{}: {} writes, {} requests", report.scenario, report.writes, report.requests);
                if !report.violations.is_empty() {
                    println!("{:#?}", report.violations);
                }
            }
            if matches!(*what, "plans" | "all") {
                let mut cases = Vec::new();
                for report in &calm {
                    let plans = exhaustive::plans(&report.recording);
                    println!("{}: {} plans", report.scenario, plans.len());
                    cases.extend(plans.into_iter().map(|plan| Case {
                        scenario: report.scenario.into(),
                        seed: 0,
                        plan,
                    }));
                }
                let begun = Instant::now();
                let tally = team.run(cases.len(), &|i| cases[i].clone());
                show("plans", &tally, begun.elapsed());
            }
            if matches!(*what, "seeds" | "all") {
                let recordings = calm.into_iter().map(|report| (report.scenario, report.recording)).collect();
                let deck = Deck { scenarios: &scenarios, recordings: &recordings };
                let begun = Instant::now();
                let seeds = usize::try_from(number("--seeds", 1000)).unwrap_or(1000);
                let tally = team.run(seeds, &|i| deck.deal(i as u64));
                show("seeds", &tally, begun.elapsed());
            }
            ExitCode::SUCCESS
        }
        [] => ExitCode::FAILURE,
    }
}

fn show(what: &str, tally: &Tally, took: Duration) {
    let rate = |n: u64| n as f64 / took.as_secs_f64();
    println!(
        "{} {what} in {:.1} s ({:.0}/s), {} of them struck by all their faults; {} broke something; {} writes, {} requests, {:.0} reconciles/s, {} checks",
        tally.cases,
        took.as_secs_f64(),
        rate(tally.cases),
        tally.struck,
        tally.broken,
        tally.writes,
        tally.requests,
        rate(tally.reconciles),
        tally.checks,
    );
    if let Some(stuck) = &tally.stuck {
        println!("stuck: {stuck}");
    }
    for failure in tally.failures.values() {
        told(&failure.report);
        println!("again: prove replay {} {} '{}'\n", failure.found.scenario, failure.found.seed, failure.found.plan);
    }
}

fn told(report: &Report) {
    println!("{} | {} | {}", report.scenario, report.seed, report.plan);
    for line in &report.story {
        println!("  {line}");
    }
    for violation in &report.violations {
        println!("{} @{}: {}", violation.invariant, violation.revision, violation.what);
    }
    println!("trace {:016x}", report.trace_hash);
}
