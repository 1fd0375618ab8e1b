//! The story: what changed, when, and by whose hand. Writes that change nothing that a reader would care about are left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::sentence::{kind_name, moment};
use crate::server::Change;
use crate::world::World;

/// More of one kind in a second are told together.
const TOGETHER: usize = 8;

/// Listens, and writes down.
pub(super) struct Teller {
    begun: Instant,
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    at: Duration,
    who: String,
    /// Empty: `what` is the whole line.
    kind: &'static str,
    name: String,
    what: String,
    detail: String,
}

impl Teller {
    /// Hears of every write from now on.
    pub(super) fn over(world: &World) -> Arc<Self> {
        let teller = Arc::new(Self { begun: Instant::now(), entries: Mutex::default() });
        for server in [&world.server, &world.workload] {
            let teller = Arc::downgrade(&teller);
            server.observe(move |change| {
                if let Some(teller) = teller.upgrade() {
                    teller.hear(change);
                }
            });
        }
        teller
    }

    pub(super) fn since(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Something that is no write.
    pub(super) fn say(&self, who: &str, what: String) {
        let (at, who) = (self.since(), who.to_owned());
        self.entries.lock().push(Entry { at, who, kind: "", name: String::new(), what, detail: String::new() });
    }

    fn hear(&self, change: &Change<'_>) {
        let Some(kind) = kind_name(&change.call.resource, &change.call.group) else { return };
        let news = news(kind, change.old.map(|old| &**old), change.new.map(|new| &**new));
        let (at, who, name) = (self.since(), who(&change.call.user, change.call.process), change.call.name.clone());
        let line = |detail: String| detail.split_whitespace().collect::<Vec<_>>().join(" ");
        let entry =
            |(what, detail)| Entry { at, who: who.clone(), kind, name: name.clone(), what, detail: line(detail) };
        self.entries.lock().extend(news.into_iter().map(entry));
    }

    /// The story so far, in lines, with what else is known to have happened.
    pub(super) fn lines(&self, others: Vec<(Duration, String)>) -> Vec<String> {
        let entries = self.entries.lock();
        let mut groups: Vec<Vec<&Entry>> = Vec::new();
        let mut places: BTreeMap<(u64, &str, &str, &str), usize> = BTreeMap::new();
        for entry in entries.iter() {
            if entry.kind.is_empty() {
                groups.push(vec![entry]);
                continue;
            }
            let key = (entry.at.as_secs(), entry.who.as_str(), entry.kind, entry.what.as_str());
            let place = *places.entry(key).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(entry),
                None => groups.push(vec![entry]),
            }
        }
        // What is not told together keeps its moment.
        let mut lines: Vec<(Duration, String)> = Vec::new();
        for group in groups {
            let line =
                |entry: &Entry, text: String| (entry.at, format!("{}  {:<13} {text}", moment(entry.at), entry.who));
            match group[..] {
                [first, ..] if group.len() > TOGETHER => {
                    let of = |entry: &Entry| format!("{}{}", entry.name, bracketed(&entry.detail));
                    let some = group.iter().take(2).map(|entry| of(entry)).collect::<Vec<_>>().join(", ");
                    let text = format!("{} {}s {}: {some}, …", group.len(), first.kind, plural(&first.what));
                    lines.push(line(first, text));
                }
                _ => lines.extend(group.iter().map(|entry| {
                    let space = if entry.kind.is_empty() { "" } else { " " };
                    let detail = if entry.detail.is_empty() { String::new() } else { format!(" {}", entry.detail) };
                    line(entry, format!("{}{space}{}{space}{}{detail}", entry.kind, entry.name, entry.what))
                })),
            }
        }
        // A fault comes after what it strikes, a start before what comes of it; else what happened in one moment stays in its order.
        let mut ranked: Vec<_> = lines.into_iter().map(|(at, line)| (at.as_millis(), 1, line)).collect();
        ranked.extend(others.into_iter().map(|(at, what)| {
            let rank = if what.contains(" starts") { 0 } else { 2 };
            (at.as_millis(), rank, format!("{}  {what}", moment(at)))
        }));
        ranked.sort_by_key(|(at, rank, _)| (*at, *rank));
        ranked.into_iter().map(|(.., line)| line).collect()
    }
}

fn bracketed(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

fn plural(what: &str) -> String {
    match what.split_once(' ') {
        Some(("is", rest)) => format!("are {rest}"),
        Some(("goes", rest)) => format!("go {rest}"),
        Some(("gets", rest)) => format!("get {rest}"),
        Some(("loses", rest)) => format!("lose {rest}"),
        _ => what.to_owned(),
    }
}

fn who(user: &str, process: u32) -> String {
    let (name, replicated) = match user.rsplit(':').next().unwrap_or_default() {
        "capm3-manager" => ("infra", true),
        "ipam-manager" => ("ipam", true),
        "operator" => ("host operator", false),
        "capi-manager" => ("Cluster API", false),
        "node" => ("kubelet", false),
        "admin" if process > 0 => ("infra", true), // in the workload cluster, with the kubeconfig's user
        "admin" => ("user", false),
        "generic-garbage-collector" | "namespace-controller" => ("collector", false),
        other => (other, false),
    };
    if replicated { format!("{name} #{process}") } else { name.to_owned() }
}

/// What is new about an object: in words that do not depend on it, and what does.
fn news(kind: &str, old: Option<&Value>, new: Option<&Value>) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let mut tell = |what: &str, detail: String| told.push((what.to_owned(), detail));
    let (before, after) = (old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null));
    if new.is_none() {
        tell("is gone", String::new());
        return told;
    }
    if old.is_none() {
        let detail = match kind {
            "address" => format!("for {}", text(after, "/spec/claim/name")),
            "capi-address" => format!("for {}", text(after, "/spec/claimRef/name")),
            _ => String::new(),
        };
        tell("is made", detail);
    }
    let changed = |path: &str| {
        let (from, to) = (text(before, path), text(after, path));
        (from != to).then_some((from, to))
    };
    if let Some((_, to)) = changed("/metadata/deletionTimestamp")
        && !to.is_empty()
    {
        tell("is to go", String::new());
    }
    match kind {
        "host" => {
            if let Some((from, to)) = changed("/spec/consumerRef/name") {
                match (from.is_empty(), to.is_empty()) {
                    (_, true) => tell("is free again", String::new()),
                    (true, false) => tell("is claimed", format!("for {to}")),
                    (false, false) => tell("changes hands", format!("from {from} to {to}")),
                }
            }
            if let Some((from, to)) = changed("/spec/image/url") {
                if to.is_empty() {
                    tell("loses its image", String::new());
                } else if from.is_empty() {
                    tell("gets an image", String::new());
                }
            }
            if let Some((_, to)) = changed("/status/provisioning/state").filter(|(_, to)| !to.is_empty()) {
                tell(&format!("is {to}"), String::new());
            }
            if let Some((_, to)) = changed("/status/errorMessage") {
                let what = if to.is_empty() { "is well again" } else { "is in error" };
                if !(to.is_empty() && old.is_none()) {
                    tell(what, to);
                }
            }
            if let Some((from, to)) = changed("/metadata/annotations/baremetalhost.metal3.io~1paused") {
                let paused =
                    from.is_empty() && after.pointer("/metadata/annotations/baremetalhost.metal3.io~1paused").is_some();
                if paused || to.is_empty() {
                    tell(if paused { "is paused" } else { "is resumed" }, String::new());
                }
            }
        }
        "machine" => {
            if let Some((_, to)) = changed("/status/phase").filter(|(_, to)| !to.is_empty()) {
                tell(&format!("is {to}"), String::new());
            }
        }
        "metal3machine" => {
            if let Some((_, to)) =
                changed("/metadata/annotations/metal3.io~1BareMetalHost").filter(|(_, to)| !to.is_empty())
            {
                tell("goes for", to);
            }
            if let Some((_, to)) = changed("/spec/providerID").filter(|(_, to)| !to.is_empty()) {
                tell("is known as", to);
            }
            ready(before, after, &mut tell);
        }
        "data" => {
            if after["status"]["ready"] == true && before["status"]["ready"] != true {
                tell("is rendered", String::new());
            }
            if let Some((_, to)) = changed("/status/errorMessage").filter(|(_, to)| !to.is_empty()) {
                tell("cannot be rendered:", to);
            }
        }
        "claim" | "capi-claim" => {
            let path = if kind == "claim" { "/status/address/name" } else { "/status/addressRef/name" };
            if let Some((_, to)) = changed(path).filter(|(_, to)| !to.is_empty()) {
                tell("gets address", to);
            }
            if let Some((_, to)) = changed("/status/errorMessage").filter(|(_, to)| !to.is_empty()) {
                tell("gets none:", to);
            }
        }
        "cluster" => {
            let (from, to) = (before["spec"]["paused"] == true, after["spec"]["paused"] == true);
            if from != to {
                tell(if to { "is paused" } else { "is resumed" }, String::new());
            }
        }
        "pool" => ready(before, after, &mut tell),
        "node" => {
            if let Some((_, to)) = changed("/spec/providerID").filter(|(_, to)| !to.is_empty() && old.is_some()) {
                tell("is known as", to);
            }
        }
        "machinedeployment" | "control-plane" => {
            if let Some((from, to)) = changed("/spec/replicas").filter(|(from, _)| !from.is_empty()) {
                tell("is scaled", format!("from {from} to {to}"));
            }
        }
        _ => {}
    }
    told
}

/// What the Ready condition says now, when it says something else.
fn ready(before: &Value, after: &Value, tell: &mut impl FnMut(&str, String)) {
    let of = |object: &Value| -> Option<(String, String, String)> {
        let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
        let ready = all.find(|condition| condition["type"] == "Ready")?;
        Some((text(ready, "/status"), text(ready, "/reason"), text(ready, "/message")))
    };
    let Some((status, reason, message)) = of(after) else { return };
    if of(before).is_some_and(|said| said == (status.clone(), reason.clone(), message.clone())) {
        return;
    }
    match status.as_str() {
        "True" => tell("is ready", String::new()),
        _ if reason == "NotReady" => tell("is not ready:", message.trim_start_matches("* ").to_owned()),
        _ => tell(&format!("is not ready: {reason}:"), message),
    }
}

/// Text or number at a place; empty when there is none.
fn text(object: &Value, path: &str) -> String {
    match object.pointer(path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
