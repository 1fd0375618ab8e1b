//! What a person sees of the bed: one line per step with the time since the start.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
pub struct Console {
    start: Instant,
    pub terminal: bool,
}

impl Console {
    pub fn new() -> Console {
        Console { start: Instant::now(), terminal: io::stdout().is_terminal() }
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// `[ 12.3s] what happened`
    pub fn step(&self, what: impl fmt::Display) {
        let seconds = self.elapsed().as_secs_f64();
        self.line(format_args!("[{seconds:6.1}s] {what}"));
    }

    /// A line without a time. A closed standard output is no reason to stop.
    pub fn line(&self, what: impl fmt::Display) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{what}").and_then(|()| out.flush());
    }
}

/// `45 s`, `3 min`, `1 min 20 s`: as one would say it.
pub fn spoken(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, _) => format!("{} s", time.as_secs()),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) if minutes < 5 => format!("{minutes} min {seconds} s"),
        (minutes, _) => format!("{minutes} min"),
    }
}
