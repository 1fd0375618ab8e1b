//! How the providers behave towards others and towards the API server: I5, I17 to I20, I22, I30.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capm3_api::names::{annotation, condition, label};
use serde_json::{Map, Value};

use super::memory::Memory;
use super::seen::{Seen, What, Who};
use super::view::{annotation, at, finalizers, is_annotated, is_leaving, is_ours, label, owner, text};
use crate::server::{Fence, Verb};

/// What the values of a scenario's Secrets contain, so that it is noticed where it does not belong.
pub const MARKER: &str = "for-no-other-eyes";

/// So long after a pause what was under way before may still arrive: a manager may have been paused too.
const UNDER_WAY: Duration = Duration::from_secs(15 * 60);

/// So many writes to one object without anybody else having done anything are a busy loop.
const MANY_WRITES: u32 = 24;

/// The longest note of an event.
const NOTE_MAX: usize = 1024;

/// The marker in every spelling that it can have.
static SPELLINGS: LazyLock<[String; 4]> = LazyLock::new(|| {
    // Of base64, what stays the same whatever comes before and after.
    let shifted = |by: usize| {
        let text = STANDARD.encode(format!("{}{MARKER}", &"   "[..by]));
        text[4 * by.div_ceil(3)..text.len() - 4].to_owned()
    };
    [MARKER.to_owned(), shifted(0), shifted(1), shifted(2)]
});

/// What is in a Secret is nowhere else.
pub(super) fn i5_no_secret_content(_: &Memory, seen: &Seen<'_>) -> Option<String> {
    let tells = contains_secret(seen.after());
    tells.then(|| format!("{} {} contains what is in a Secret", seen.resource, seen.path))
}

fn contains_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() >= 16 && SPELLINGS.iter().any(|secret| text.contains(secret)),
        Value::Array(items) => items.iter().any(contains_secret),
        Value::Object(members) => members.values().any(contains_secret),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What is paused is left alone: what carries the annotation, at once; what belongs to a paused Cluster, once everybody knows of it.
/// And nobody's pause is lifted but our own.
pub(super) fn i17_paused_is_quiet(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (seen.before(), seen.after());
    if seen.new.is_some() && is_annotated(old, annotation::PAUSED) && !is_annotated(new, annotation::PAUSED) {
        return Some(format!("the pause of {} was lifted", seen.path));
    }
    if seen.what == What::Host {
        let pause = |host| at(host, &["metadata", "annotations", annotation::HOST_PAUSED]);
        let foreign = pause(old).as_str().is_some_and(|pause| pause != annotation::HOST_PAUSED_BY_US);
        let changed = seen.new.is_some() && pause(new) != pause(old);
        return (foreign && changed).then(|| format!("the pause of {} is not ours and was changed", seen.path));
    }
    if seen.on_status && tells_of_pauses(seen.what) || seen.old.is_none() || is_leaving(old) && held_by_name(seen.what)
    {
        return None;
    }
    // A write under the version that carries the annotation was decided on in its sight.
    if is_annotated(old, annotation::PAUSED) && seen.fence == Fence::Version {
        return Some(format!("{} is paused and was written", seen.path));
    }
    let cluster = label(old, label::CLUSTER_NAME);
    let since = memory.paused_since(&seen.sibling(cluster))?;
    let long_ago = seen.now.duration_since(since).unsigned_abs() > UNDER_WAY;
    long_ago.then(|| format!("{} of the paused Cluster {cluster} was written", seen.path))
}

/// Kinds whose status says that they are paused.
fn tells_of_pauses(what: What) -> bool {
    matches!(what, What::Machine | What::Metal3Cluster | What::Claim | What::CapiClaim | What::DataClaim)
}

/// Claims for data that leave are let go, paused or not (D-31).
fn held_by_name(what: What) -> bool {
    what == What::DataClaim
}

/// Nothing of others is changed or deleted: only kinds and fields that are ours to write, and no object whose owner wants it.
pub(super) fn i18_only_our_own(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    if seen.verb == Verb::Delete {
        return wanted(memory, seen);
    }
    if seen.old.is_none() || seen.new.is_none() {
        return None;
    }
    let (old, new) = (seen.before(), seen.after());
    let changed = |what: &str| Some(format!("{what} of {} {} was changed", seen.resource, seen.path));
    let keys = [("label", "labels", &LABELS[..]), ("annotation", "annotations", &ANNOTATIONS[..])];
    for (what, part, ours) in keys {
        let (old, new) = (&old["metadata"][part], &new["metadata"][part]);
        if let Some(key) = differing(old, new).find(|key| !ours.contains(key) && !is_marked(seen.what, key)) {
            return changed(&format!("{what} {key}"));
        }
    }
    let gone = finalizers(old).find(|name| !is_ours(name) && !finalizers(new).any(|kept| kept == *name));
    if let Some(name) = gone {
        return changed(&format!("finalizer {name}"));
    }
    let owners = |object: &'_ Value| object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let left = owners(new);
    let lost = owners(old)
        .into_iter()
        .find(|owner| !left.iter().any(|kept| kept["name"] == owner["name"] && kept["kind"] == owner["kind"]));
    if let Some(owner) = lost {
        return changed(&format!("owner {}", owner["name"]));
    }
    let field = differing(&old["spec"], &new["spec"]).find(|field| !fields(seen.what).contains(field));
    if let Some(field) = field {
        return changed(&format!("spec.{field}"));
    }
    let has_status = !matches!(seen.what, What::Host | What::Cluster | What::MachineSet | What::Node)
        && (seen.what != What::CapiMachine || only_handed_over(old, new));
    (!has_status && old["status"] != new["status"]).then(|| format!("status of {} was changed", seen.path))
}

/// Labels that are ours to write, whatever the object.
const LABELS: [&str; 5] = [label::CLUSTER_NAME, label::PROVIDER, label::NODE_REUSE, label::DATA_NAME, label::POOL_NAME];

const ANNOTATIONS: [&str; 10] = [
    annotation::LET_GO_BY,
    annotation::NODE_ANNOTATIONS_BACKUP,
    annotation::NODE_LABELS_BACKUP,
    annotation::HOST,
    annotation::NODE_REUSE,
    annotation::HOST_PAUSED,
    annotation::HOST_STATUS,
    annotation::BLOCK_MOVE,
    annotation::CONVERSION_DATA,
    annotation::MIGRATED_GENERATION,
];

/// Marks of remediation on a host; those of a Node have an invariant of their own.
fn is_marked(what: What, key: &str) -> bool {
    match what {
        What::Host => key == annotation::UNHEALTHY || key.starts_with(annotation::REBOOT_PREFIX),
        What::Node => true,
        _ => false,
    }
}

/// Of a Machine's status nothing is ours but that its owner is to replace it (K-88).
fn only_handed_over(old: &Value, new: &Value) -> bool {
    let without = |object: &Value| {
        let mut status = object["status"].clone();
        for path in ["/conditions", "/deprecated/v1beta1/conditions"] {
            if let Some(conditions) = status.pointer_mut(path).and_then(Value::as_array_mut) {
                conditions.retain(|condition| condition["type"] != condition::OWNER_REMEDIATED);
            }
        }
        let legacy = status["deprecated"]["v1beta1"]["conditions"].as_array().cloned().unwrap_or_default();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        if let Some(status) = status.as_object_mut() {
            status.retain(|key, _| !matches!(key.as_str(), "conditions" | "deprecated"));
        }
        (status, conditions, legacy)
    };
    without(old) == without(new)
}

/// Fields of a spec that are ours to write.
fn fields(what: What) -> &'static [&'static str] {
    match what {
        What::Host => &[
            "consumerRef",
            "image",
            "customDeploy",
            "userData",
            "metaData",
            "networkData",
            "online",
            "automatedCleaningMode",
        ],
        What::Machine => &["providerID", "failureDomain", "dataTemplate", "automatedCleaningMode"],
        What::Data => &["metaData", "networkData"],
        What::Node => &["providerID", "taints"],
        _ => &[],
    }
}

/// A deleted object that its owner still wants.
fn wanted(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let object = seen.before();
    let (what, kind) = match seen.what {
        What::Data => (What::DataClaim, "Metal3DataClaim"),
        What::DataClaim => (What::Machine, "Metal3Machine"),
        What::Claim | What::CapiClaim => (What::Data, "Metal3Data"),
        What::Address => (What::Claim, "IPClaim"),
        What::CapiAddress => (What::CapiClaim, "IPAddressClaim"),
        What::Node => return None, // I27
        _ => return Some(format!("{} {} was deleted, and is not ours to delete", seen.resource, seen.path)),
    };
    let Some((name, uid)) = owner(object, kind) else {
        let known = memory.is_disowned(seen.what, &seen.path); // by its name, or by the labels it has
        return (!known).then(|| format!("{} was deleted, and is not known to be ours", seen.path));
    };
    let owner = memory.same(what, &seen.sibling(name), uid).filter(|owner| !is_leaving(owner))?;
    // Of two that answer one claim the one goes that the claim does not name.
    let named = text(owner, &["status", "renderedData", "name"]);
    let surplus = seen.what == What::Data && !named.is_empty() && seen.sibling(named) != seen.path;
    (!surplus).then(|| format!("{} was deleted while {name} wants it", seen.path))
}

/// The members in which two objects differ.
fn differing<'a>(one: &'a Value, other: &'a Value) -> impl Iterator<Item = &'a str> {
    static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    let (one, other) = (one.as_object().unwrap_or(&NOTHING), other.as_object().unwrap_or(&NOTHING));
    let gone = one.iter().filter(move |(key, value)| other.get(*key) != Some(value));
    let come = other.keys().filter(move |key| !one.contains_key(*key));
    gone.map(|(key, _)| key.as_str()).chain(come.map(String::as_str))
}

/// No reference that is written leads into another namespace.
pub(super) fn i19_own_namespace(_: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (seen.before(), seen.after());
    let own = seen.namespace();
    let foreign = references(seen.what).iter().find(|path| {
        let namespace = text(new, path);
        !namespace.is_empty() && namespace != own && at(new, path) != at(old, path)
    });
    if let Some(path) = foreign {
        return Some(format!("{} of {} leads to {}", path.join("."), seen.path, text(new, path)));
    }
    let host = annotation(new, annotation::HOST);
    let elsewhere = seen.what == What::Machine
        && host != annotation(old, annotation::HOST)
        && host.split_once('/').is_some_and(|(namespace, _)| namespace != own);
    elsewhere.then(|| format!("{} goes for {host}", seen.path))
}

/// Where references of a kind name their namespace.
fn references(what: What) -> &'static [&'static [&'static str]] {
    match what {
        What::Host => &[
            &["spec", "consumerRef", "namespace"],
            &["spec", "userData", "namespace"],
            &["spec", "metaData", "namespace"],
            &["spec", "networkData", "namespace"],
        ],
        What::Machine => &[
            &["spec", "dataTemplate", "namespace"],
            &["status", "renderedData", "namespace"],
            &["status", "userData", "namespace"],
            &["status", "metaData", "namespace"],
            &["status", "networkData", "namespace"],
        ],
        What::Data => &[
            &["spec", "claim", "namespace"],
            &["spec", "template", "namespace"],
            &["spec", "metaData", "namespace"],
            &["spec", "networkData", "namespace"],
        ],
        What::DataClaim => &[&["spec", "template", "namespace"], &["status", "renderedData", "namespace"]],
        What::Claim => &[&["spec", "pool", "namespace"], &["status", "address", "namespace"]],
        What::Address => &[&["spec", "pool", "namespace"], &["spec", "claim", "namespace"]],
        _ => &[],
    }
}

/// Writes that decide something hold only for the state they were decided on, and what is created has a name that says what it is.
pub(super) fn i20_fenced(_: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (seen.before(), seen.after());
    if seen.old.is_none() {
        let by_chance = seen.verb == Verb::Create && new["metadata"]["generateName"].is_string();
        return by_chance.then(|| format!("{} was created under a name of chance", seen.path));
    }
    let needed = if seen.verb == Verb::Delete || seen.what == What::Node {
        Fence::Uid
    } else if seen.what == What::Host
        || !finalizers(old).eq(finalizers(new))
        || old["status"]["indexes"] != new["status"]["indexes"]
        || old["status"]["renderedData"] != new["status"]["renderedData"]
    {
        Fence::Version
    } else if seen.what == What::Secret {
        Fence::None // one label, whoever else writes
    } else {
        Fence::Uid
    };
    let verb = seen.verb.name();
    (seen.fence < needed)
        .then(|| format!("{verb} of {} {} insisted on {:?}, not on {needed:?}", seen.resource, seen.path, seen.fence))
}

/// No write changes nothing but times. That a claim was released is told by the time alone when it held nothing (I-23, TI-57).
pub(super) fn i22_no_idle_write(_: &Memory, seen: &Seen<'_>) -> Option<String> {
    let released = |pool: &Value| pool["status"]["lastUpdated"].clone();
    if seen.what == What::Pool && released(seen.before()) != released(seen.after()) {
        return None;
    }
    let idle = seen.old.is_some() && seen.new.is_some() && same(seen.before(), seen.after());
    idle.then(|| format!("{} {} was written, and nothing is new but times", seen.resource, seen.path))
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let told =
                |key: &str| !matches!(key, "resourceVersion" | "lastUpdated" | "lastTransitionTime" | "managedFields");
            one.len() == other.len()
                && one
                    .iter()
                    .filter(|(key, _)| told(key))
                    .all(|(key, value)| other.get(key).is_some_and(|o| same(value, o)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        _ => one == other,
    }
}

/// One replica alone does not write an object again and again.
pub(super) fn i22_no_busy_loop(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let writes = memory.writes_to(seen.what, &seen.path);
    (writes >= MANY_WRITES).then(|| format!("{} was written {writes} times with nobody else doing anything", seen.path))
}

/// An event says about what it is and why, in the namespace of what it is about.
pub(super) fn i30_told(_: &Memory, seen: &Seen<'_>) -> Option<String> {
    let event = seen.new?;
    let about = if event["regarding"].is_null() { &event["involvedObject"] } else { &event["regarding"] };
    let namespace = text(about, &["namespace"]);
    let elsewhere = !namespace.is_empty() && namespace != seen.namespace();
    let note = if event["note"].is_null() { text(event, &["message"]) } else { text(event, &["note"]) };
    let wrong = if text(about, &["name"]).is_empty() || elsewhere {
        "is about nothing here"
    } else if text(event, &["reason"]).is_empty() {
        "has no reason"
    } else if note.len() > NOTE_MAX {
        "is too long"
    } else {
        return None;
    };
    Some(format!("event {} {wrong}", seen.path))
}

/// Kinds that nobody remembers: what ours may do with them.
pub(super) fn i18_other_kinds(_: &Memory, seen: &Seen<'_>) -> Option<String> {
    let ours = matches!(seen.resource, "leases" | "customresourcedefinitions") || seen.who == Who::Other;
    (!ours).then(|| format!("{} {} was written", seen.resource, seen.path))
}
