//! The figures of a run, printed at its end and kept in `target/bed/summary.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::audit::Requests;
use crate::console::Console;
use crate::managers::{self, Manager};
use crate::paths::Paths;

/// Fields keep the order in which a run learns them.
#[derive(Default)]
pub struct Summary {
    fields: Map<String, Value>,
    phases: Map<String, Value>,
    requests: Map<String, Value>,
}

impl Summary {
    /// How long a part of the run took.
    pub fn phase(&mut self, name: &str, time: Duration) {
        self.phases.insert(name.to_owned(), tenths(time.as_secs_f64()));
    }

    /// From the first Machine's creation until all were Running.
    pub fn created(&mut self, requests: &Requests, machines: usize) {
        self.fields.insert("requests_per_machine".to_owned(), per(requests.total(), machines));
        self.fields.insert("events_per_machine".to_owned(), per(requests.events, machines));
        self.detail("created", requests);
    }

    /// From the deletion until the last host was free.
    pub fn deleted(&mut self, requests: &Requests, machines: usize) {
        self.fields.insert("requests_per_machine_deleted".to_owned(), per(requests.total(), machines));
        self.detail("deleted", requests);
    }

    /// While nothing changed.
    pub fn idle(&mut self, requests: &Requests, time: Duration) {
        let per_minute = (requests.total() + requests.events) as f64 * 60.0 / time.as_secs_f64();
        self.fields.insert("requests_idle_minute".to_owned(), tenths(per_minute));
        self.detail("idle", requests);
    }

    fn detail(&mut self, phase: &str, requests: &Requests) {
        self.requests.insert(
            phase.to_owned(),
            json!({"counted": requests.counted, "left_out": requests.left_out, "events": requests.events}),
        );
    }

    /// Memory and CPU time of the managers as they are now.
    pub fn usage(&mut self) -> Result<()> {
        let usage = managers::usage()?;
        let of = |value: fn(&managers::Usage) -> f64| -> BTreeMap<Manager, Value> {
            usage.iter().map(|(manager, usage)| (*manager, hundredths(value(usage)))).collect()
        };
        self.fields.insert("rss_mib".to_owned(), json!(of(|usage| usage.rss_mib)));
        self.fields.insert("cpu_seconds".to_owned(), json!(of(|usage| usage.cpu_seconds)));
        Ok(())
    }

    pub fn write(&self, paths: &Paths) -> Result<()> {
        let mut all = self.fields.clone();
        all.insert("phases".to_owned(), self.phases.clone().into());
        all.insert("requests".to_owned(), self.requests.clone().into());
        let built = fs::read(build_file(paths)).context("build times")?;
        all.insert("build_seconds".to_owned(), serde_json::from_slice(&built)?);
        fs::write(paths.summary(), serde_json::to_string_pretty(&all)? + "\n")?;
        Ok(())
    }

    /// The figures for a person; detail stays in the file.
    pub fn print(&self, console: &Console) {
        for (name, value) in &self.fields {
            console.line(format_args!("  {name:<30} {value}"));
        }
        for (name, seconds) in &self.phases {
            console.line(format_args!("  {name:<30} {seconds} s"));
        }
    }
}

/// What building cost: Go programs when each was built, the same look-up this time, and our own programs this time.
#[derive(Serialize)]
pub struct BuildTimes {
    pub cold: f64,
    pub warm: f64,
    pub ours: f64,
}

impl BuildTimes {
    /// Left for the process inside the namespaces, which writes the summary.
    pub fn write(&self, paths: &Paths) -> Result<()> {
        let rounded = json!({"cold": tenths(self.cold), "warm": hundredths(self.warm), "ours": tenths(self.ours)});
        Ok(fs::write(build_file(paths), serde_json::to_vec(&rounded)?)?)
    }
}

fn build_file(paths: &Paths) -> impl AsRef<Path> {
    paths.state.join("build.json")
}

fn per(count: u64, machines: usize) -> Value {
    tenths(count as f64 / machines.max(1) as f64)
}

fn tenths(value: f64) -> Value {
    ((value * 10.0).round() / 10.0).into()
}

fn hundredths(value: f64) -> Value {
    ((value * 100.0).round() / 100.0).into()
}
