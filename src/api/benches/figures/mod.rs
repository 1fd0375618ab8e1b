//! What `make bench` prints: one line per figure, with the bound it is held against where docs/spec names one.
//!
//! A figure is the fastest of several rounds over the same input, on one thread: whatever else runs on the machine can only add
//! time. Nothing fails here, because time on a shared machine gates nothing; a bound that is missed says so.

#![allow(dead_code, clippy::print_stdout, reason = "each bench uses its own part; the lines are its output")]

use std::hint::black_box;
use std::time::{Duration, Instant};

const BUDGET: Duration = Duration::from_millis(1500);
const ROUNDS_MIN: usize = 5;

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// The shortest time that `run` took for what `prepare` made; making it and dropping the result are not counted.
pub(crate) fn fastest<I, O>(mut prepare: impl FnMut() -> I, mut run: impl FnMut(I) -> O) -> Duration {
    let begin = Instant::now();
    let mut best = Duration::MAX;
    let mut rounds = 0;
    while rounds < ROUNDS_MIN || begin.elapsed() < BUDGET {
        let input = black_box(prepare());
        let start = Instant::now();
        let output = black_box(run(input));
        best = best.min(start.elapsed());
        drop(output);
        rounds += 1;
    }
    best
}

pub(crate) fn title(text: &str) {
    println!("\n{text}");
}

/// `items` of something were done in `time`.
pub(crate) fn per_second(name: &str, items: usize, time: Duration, what: &str, bound: Bound) {
    line(name, items as f64 / time.as_secs_f64(), &format!("{what}/s"), bound);
}

pub(crate) fn micros_each(name: &str, items: usize, time: Duration, what: &str, bound: Bound) {
    line(name, time.as_secs_f64() * 1e6 / items as f64, &format!("µs/{what}"), bound);
}

/// What is counted and not timed.
pub(crate) fn count(name: &str, value: f64, unit: &str, bound: Bound) {
    line(name, value, unit, bound);
}

fn line(name: &str, value: f64, unit: &str, bound: Bound) {
    let (bound, kept) = match bound {
        Bound::None => (String::new(), true),
        Bound::AtMost(most) => (format!("at most {most}"), value <= most),
        Bound::AtLeast(least) => (format!("at least {least}"), value >= least),
    };
    let missed = if kept { "" } else { ", missed" };
    let digits = if value < 100.0 { 2 } else { 0 };
    let line = format!("  {name:<66}{value:>12.digits$} {unit:<14}{bound}{missed}");
    println!("{}", line.trim_end());
}
