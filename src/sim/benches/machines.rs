//! The figures of whole machines, at full size: requests, which are held to their bounds, and time, which is only told.
//!
//! One thread plays everybody, in virtual time, so what is told as time is work, the simulated API server's included.

#![allow(clippy::print_stdout, reason = "the lines are its output")]

#[path = "scale/mod.rs"]
mod scale;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use scale::{Fleet, burst, offers, p99};

/// Prints a figure; whether it keeps its bound.
fn line(name: &str, value: f64, unit: &str, most: Option<f64>) -> bool {
    let kept = most.is_none_or(|most| value <= most);
    let bound = most.map(|most| format!("at most {most}")).unwrap_or_default();
    let missed = if kept { "" } else { ", missed" };
    println!("{}", format!("  {name:<66}{value:>12.2} {unit:<14}{bound}{missed}").trim_end());
    kept
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let scale = std::env::var("BENCH_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1_000);
    if runtime.block_on(Box::pin(all(scale))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn all(scale: usize) -> bool {
    let mut kept = true;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("\nMachines: data template and two pools");
    let begun = Instant::now();
    let fleet = Box::pin(Fleet::of(scale, true)).await;
    let each = fleet.created.requests as f64 / scale as f64;
    kept &= line(&format!("one of {scale}, created to Running"), each, "requests", Some(26.0));
    line("the same, with everybody's work", ms(begun.elapsed()) / scale as f64, "ms", None);
    let rest = fleet.rest(Duration::from_secs(600)).await;
    kept &= line(&format!("{scale} at rest for 10 minutes"), rest.requests as f64, "requests", Some(0.0));
    let restart = fleet.restart().await;
    kept &= line(&format!("restart of both managers over {scale}"), restart.writes as f64, "writes", Some(0.0));
    line("the same, lists", restart.requests as f64, "requests", None);
    drop(fleet);

    println!("\nMachines: many");
    let many = scale * 10;
    let fleet = Box::pin(Fleet::of(many, false)).await;
    let restart = fleet.restart().await;
    kept &= line(&format!("restart of both managers over {many}"), restart.writes as f64, "writes", Some(0.0));
    drop(fleet);

    println!("\nHosts: claims");
    for hosts in [scale, scale * 10] {
        let (asked, took) = Box::pin(burst(hosts, scale)).await;
        let each = asked.requests as f64 / scale as f64;
        // Four, and about as many again for each race that is lost where hosts are as few as machines.
        kept &= line(&format!("a claim, {scale} at once among {hosts} hosts"), each, "requests", Some(7.0));
        line("the same, with the API server's work", ms(took) / scale as f64, "ms", None);
    }
    for (how, pause) in [("one a second", Some(Duration::from_secs(1))), ("all at once", None)] {
        let waits = Box::pin(offers(scale, pause)).await;
        println!("  {scale} machines wait, {scale} hosts become available {how}");
        kept &= line("  available to claimed, p99, timers", ms(p99(&waits.virtual_time)), "ms", Some(1_000.0));
        line("  available to claimed, p99, work", ms(p99(&waits.computed)), "ms", None);
        let each = waits.asked.requests as f64 / scale as f64;
        kept &= line("  a claim", each, "requests", Some(6.0));
    }
    kept
}
