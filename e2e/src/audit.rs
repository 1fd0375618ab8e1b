//! What the managers asked of the API server, counted from its audit log.
//!
//! The rule of counting: every request of a manager's ServiceAccount, except leases, watches and the LISTs that fill a
//! cache before its watch, discovery, TokenReview and SubjectAccessReview. Writes of Events are counted apart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;

use crate::managers::{self, Manager};

/// The bed's clock, which is the API server's too.
#[expect(clippy::disallowed_methods, reason = "the audit log has wall-clock times of this machine")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// By manager, then by `verb resource`, with the code where it is an error: `patch metal3machines/status 409`.
pub type Detail = BTreeMap<Manager, BTreeMap<String, u64>>;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub counted: Detail,
    /// What the rule leaves out, to be looked at when a figure surprises.
    pub left_out: Detail,
    pub events: u64,
}

impl Requests {
    pub fn total(&self) -> u64 {
        self.counted.values().flat_map(BTreeMap::values).sum()
    }

    /// Neither a request that counts nor an Event.
    pub fn is_empty(&self) -> bool {
        self.total() + self.events == 0
    }
}

/// Counts what was received between two instants.
pub fn requests(log: &Path, from: Timestamp, to: Timestamp) -> Result<Requests> {
    let file = File::open(log).with_context(|| format!("open {}", log.display()))?;
    let mut entries = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line?;
        let ours = managers::ALL.into_iter().find(|manager| line.contains(manager.user()));
        // The last line may be half written.
        if let (Some(manager), Ok(entry)) = (ours, serde_json::from_str::<Entry>(&line))
            && entry.user.username == manager.user()
        {
            entries.push((manager, entry));
        }
    }
    Ok(count(entries, from, to))
}

/// When the first object of a resource was created after an instant, by whomever.
pub fn first_creation(log: &Path, resource: &str, after: Timestamp) -> Result<Option<Timestamp>> {
    let file = File::open(log).with_context(|| format!("open {}", log.display()))?;
    for line in BufReader::new(file).lines() {
        let line = line?;
        if let (true, Ok(entry)) = (line.contains(resource), serde_json::from_str::<Entry>(&line))
            && entry.creates(resource)
            && entry.request_received_timestamp >= after
        {
            return Ok(Some(entry.request_received_timestamp));
        }
    }
    Ok(None)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "requestURI")]
    uri: String,
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    resource: String,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Counted,
    Event,
    LeftOut,
}

/// Entries of all times, because whether a LIST fills a cache is seen from what follows it.
fn count(mut entries: Vec<(Manager, Entry)>, from: Timestamp, to: Timestamp) -> Requests {
    entries.sort_by_key(|(_, entry)| entry.request_received_timestamp);
    let fills = cache_fills(&entries);
    let mut requests = Requests::default();
    for (n, (manager, entry)) in entries.iter().enumerate() {
        let received = entry.request_received_timestamp;
        if received < from || received >= to || (entry.verb == "watch" && entry.stage != "ResponseStarted") {
            continue;
        }
        let counts = match if fills.contains(&n) { Class::LeftOut } else { class(entry) } {
            Class::Event => {
                requests.events += 1;
                continue;
            }
            Class::Counted => &mut requests.counted,
            Class::LeftOut => &mut requests.left_out,
        };
        *counts.entry(*manager).or_default().entry(entry.name()).or_default() += 1;
    }
    requests
}

fn class(entry: &Entry) -> Class {
    let Some(object) = &entry.object_ref else { return Class::LeftOut }; // discovery, version, health
    match (entry.verb.as_str(), object.resource.as_str()) {
        ("watch", _) | (_, "leases" | "tokenreviews" | "subjectaccessreviews") => Class::LeftOut,
        (_, "events") => Class::Event,
        _ => Class::Counted,
    }
}

/// Places of the LISTs, with their further pages, that the same user follows up with a watch of the same collection.
fn cache_fills(entries: &[(Manager, Entry)]) -> Vec<usize> {
    let mut fills = Vec::new();
    let mut open: BTreeMap<(Manager, &str), Vec<usize>> = BTreeMap::new();
    for (n, (manager, entry)) in entries.iter().enumerate() {
        let (path, query) = entry.uri.split_once('?').unwrap_or((&entry.uri, ""));
        let pages = open.entry((*manager, path)).or_default();
        match entry.verb.as_str() {
            "list" if query.contains("continue=") => pages.push(n),
            "list" => *pages = vec![n],
            "watch" => fills.append(pages),
            _ => {}
        }
    }
    fills
}

impl Entry {
    /// Whether it has made an object: one that was applied and not there before is made with code 201, too.
    fn creates(&self, resource: &str) -> bool {
        let made = self.response_status.as_ref().is_some_and(|status| status.code == 201);
        let object = self.object_ref.as_ref().filter(|object| object.subresource.is_none());
        made && object.is_some_and(|object| object.resource == resource)
    }

    fn name(&self) -> String {
        let mut name = match &self.object_ref {
            Some(Object { resource, subresource: Some(sub) }) => format!("{} {resource}/{sub}", self.verb),
            Some(Object { resource, subresource: None }) => format!("{} {resource}", self.verb),
            None => format!("{} {}", self.verb, self.uri.split('?').next().unwrap_or_default()),
        };
        if let Some(Status { code: code @ 400.. }) = self.response_status {
            name += &format!(" {code}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(second: i8, verb: &str, uri: &str, resource: &str, code: u16) -> (Manager, Entry) {
        let json = serde_json::json!({
            "requestURI": uri, "stage": "ResponseComplete", "verb": verb,
            "user": {"username": Manager::Ipam.user()},
            "objectRef": {"resource": resource},
            "responseStatus": {"code": code},
            "requestReceivedTimestamp": format!("2026-01-01T00:00:{second:02}.5Z"),
        });
        (Manager::Ipam, serde_json::from_value(json).unwrap())
    }

    fn counted(entries: Vec<(Manager, Entry)>) -> Requests {
        count(entries, "2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T00:00:10Z".parse().unwrap())
    }

    #[test]
    fn reads_and_writes_count_by_verb_resource_and_error() {
        let requests = counted(vec![
            entry(1, "get", "/api/v1/namespaces/a/secrets/x", "secrets", 200),
            entry(2, "patch", "/apis/ipam.metal3.io/v1alpha1/namespaces/a/ippools/p", "ippools", 409),
            entry(11, "get", "/api/v1/namespaces/a/secrets/x", "secrets", 200),
        ]);
        let expected = BTreeMap::from([("get secrets".to_owned(), 1), ("patch ippools 409".to_owned(), 1)]);
        assert_eq!(requests.counted[&Manager::Ipam], expected);
        assert_eq!(requests.total(), 2);
    }

    #[test]
    fn an_object_is_made_by_create_or_by_apply() {
        let creates = |verb: &str, resource: &str, code: u16| entry(1, verb, "/", resource, code).1.creates("machines");
        assert!(creates("create", "machines", 201) && creates("patch", "machines", 201));
        assert!(!creates("patch", "machines", 200) && !creates("create", "machines", 409));
        assert!(!creates("create", "machinesets", 201));
    }

    #[test]
    fn leases_watches_and_reviews_are_left_out_and_events_apart() {
        let requests = counted(vec![
            entry(1, "patch", "/l", "leases", 200),
            entry(1, "create", "/t", "tokenreviews", 201),
            entry(1, "create", "/e", "events", 201),
        ]);
        assert_eq!((requests.total(), requests.events), (0, 1));
    }

    #[test]
    fn a_list_counts_unless_a_watch_of_the_same_collection_follows() {
        let requests = counted(vec![
            entry(1, "list", "/apis/x/pools?limit=500", "pools", 200),
            entry(2, "list", "/apis/x/pools?limit=500&continue=abc", "pools", 200),
            entry(3, "list", "/apis/x/namespaces/a/pools", "pools", 200),
            entry(4, "watch", "/apis/x/pools?watch=true", "pools", 200),
        ]);
        assert_eq!(requests.counted[&Manager::Ipam], BTreeMap::from([("list pools".to_owned(), 1)]));
    }
}
