//! The figures of a run, printed at its end and kept in `target/bed/summary.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::audit::{Detail, Requests};
use crate::managers::{Manager, Usage};
use crate::paths::Paths;

/// A stretch of the run in which something happened to this many machines.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
    pub machines: usize,
}

/// The two stretches in which a cluster comes up.
#[derive(Clone, Copy, Debug)]
pub struct Created {
    /// From its manifest to its first Machine: what a cluster costs by itself, however many machines it gets.
    pub cluster: Window,
    /// From its first Machine until all ran.
    pub machines: Window,
}

/// The requests of a window.
#[derive(Debug)]
pub struct Counted {
    pub window: Window,
    pub requests: Requests,
}

#[derive(Debug)]
pub struct Figures {
    pub cluster: Counted,
    pub created: Counted,
    /// From the deletion until the last host was free.
    pub deleted: Option<Counted>,
    /// While nothing changed.
    pub idle: Option<Counted>,
    pub usage: BTreeMap<Manager, Usage>,
}

impl Figures {
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| _ = fields.insert(name.to_owned(), value);
        put("requests_per_machine", self.created.per_machine(self.created.requests.total()));
        put("requests_before_machines", self.cluster.requests.total().into());
        put("events_per_machine", self.created.per_machine(self.created.requests.events));
        if let Some(deleted) = &self.deleted {
            put("requests_per_machine_deleted", deleted.per_machine(deleted.requests.total()));
        }
        if let Some(idle) = &self.idle {
            let sent = (idle.requests.total() + idle.requests.events) as f64;
            put("requests_idle_minute", rounded(sent * 60.0 / idle.window.seconds()));
        }
        let of = |value: fn(&Usage) -> f64| {
            json!(self.usage.iter().map(|(m, u)| (*m, rounded(value(u)))).collect::<BTreeMap<_, _>>())
        };
        put("rss_mib", of(|usage| usage.rss_mib));
        put("cpu_seconds", of(|usage| usage.cpu_seconds));
        fields
    }

    /// Keeps everything, with the requests in detail, for those who compare runs.
    pub fn write(&self, paths: &Paths, phases: &[(String, Duration)]) -> Result<()> {
        let mut all = self.fields();
        let phases: Map<_, _> = phases.iter().map(|(name, took)| (name.clone(), rounded(took.as_secs_f64()))).collect();
        all.insert("phases".to_owned(), phases.into());
        let windows = [
            ("cluster", Some(&self.cluster)),
            ("created", Some(&self.created)),
            ("deleted", self.deleted.as_ref()),
            ("idle", self.idle.as_ref()),
        ];
        let requests =
            windows.into_iter().filter_map(|(name, counted)| Some((name.to_owned(), counted?.detail()))).collect();
        all.insert("requests".to_owned(), Value::Object(requests));
        let built = fs::read(build_times(paths)).context("build times")?;
        all.insert("build_seconds".to_owned(), serde_json::from_slice(&built)?);
        fs::write(paths.summary(), serde_json::to_string_pretty(&all)? + "\n")?;
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nWhat the two managers cost")?;
        for (name, value) in self.fields() {
            write!(f, "\n  {name:<58} {value}")?;
        }
        for (what, counted) in
            [("before the first machine", &self.cluster), ("while the machines came up", &self.created)]
        {
            write!(f, "\n\nTheir requests {what}")?;
            let mut lines: Vec<_> = flat(&counted.requests.counted).collect();
            lines.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
            for (count, manager, request) in lines {
                write!(f, "\n  {count:>4}  {manager:?} {request}")?;
            }
        }
        Ok(())
    }
}

fn flat(detail: &Detail) -> impl Iterator<Item = (u64, Manager, &str)> {
    detail
        .iter()
        .flat_map(|(manager, requests)| requests.iter().map(|(request, count)| (*count, *manager, request.as_str())))
}

impl Counted {
    fn per_machine(&self, count: u64) -> Value {
        rounded(count as f64 / self.window.machines.max(1) as f64)
    }

    fn detail(&self) -> Value {
        let Requests { counted, left_out, events } = &self.requests;
        json!({"machines": self.window.machines, "counted": counted, "left_out": left_out, "events": events})
    }
}

impl Window {
    fn seconds(&self) -> f64 {
        self.to.duration_since(self.from).as_secs_f64().max(1.0)
    }
}

/// What building took, in seconds: the Go programs when they were built, the look at them this time, our own programs
/// this time. Left for the process inside the namespaces, which writes the summary.
pub fn note_build_times(paths: &Paths, cold: f64, warm: Duration, ours: Duration) -> Result<()> {
    let times =
        json!({"cold": rounded(cold), "warm": rounded(warm.as_secs_f64()), "ours": rounded(ours.as_secs_f64())});
    Ok(fs::write(build_times(paths), times.to_string())?)
}

fn build_times(paths: &Paths) -> PathBuf {
    paths.state.join("build.json")
}

fn rounded(value: f64) -> Value {
    ((value * 100.0).round() / 100.0).into()
}
