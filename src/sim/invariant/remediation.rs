//! Whom a remediation may switch off and fence, how often, and what it owes the Node: I27. Label sync is judged here as well, since both
//! write what Nodes carry.

use capm3_api::names::{annotation, label, out_of_service, remediation_phase};
use serde_json::Value;

use super::memory::{Memory, holder};
use super::seen::{Seen, What};
use super::view::{annotation as annotated, at, is_annotated, is_leaving, label as labelled, owner, text, uid};

/// The uids of the remediations for which a host is kept off.
fn keepers(host: &Value) -> impl Iterator<Item = &str> {
    let annotations = host["metadata"]["annotations"].as_object().into_iter().flatten();
    annotations.filter_map(|(key, _)| key.strip_prefix(annotation::REBOOT_PREFIX))
}

/// Those for which this write has a host switched off.
pub(super) fn switched_off<'a>(seen: &Seen<'a>) -> impl Iterator<Item = &'a str> {
    let before = seen.before();
    keepers(seen.after()).filter(move |uid| !keepers(before).any(|known| known == *uid))
}

fn by_uid<'a>(memory: &'a Memory, what: What, wanted: &str) -> Option<&'a Value> {
    memory.all(what).map(|(_, object)| &**object).find(|object| uid(object) == wanted)
}

/// The host that is kept off for the remediation of this uid.
pub(super) fn kept_off<'a>(memory: &'a Memory, remediation: &str) -> Option<&'a String> {
    memory.all(What::Host).find(|(_, host)| keepers(host).any(|uid| uid == remediation)).map(|(path, _)| path)
}

/// A host is switched off only for a remediation that is wanted, and only the one of its own machine.
pub(super) fn i27_own_host(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let host = &seen.path;
    switched_off(seen).find_map(|uid| {
        let Some(remediation) = by_uid(memory, What::Remediation, uid) else {
            return Some(format!("{host} is switched off for {uid}, which does not exist"));
        };
        let machine = holder(seen.after()).and_then(|path| memory.get(What::Machine, &path));
        let owner_of = |object| owner(object, "Machine").map(|(name, _)| name);
        if machine.is_none_or(|machine| owner_of(machine) != owner_of(remediation)) {
            return Some(format!("{host} is switched off for the machine of another"));
        }
        let phase = text(remediation, &["status", "phase"]);
        (phase != remediation_phase::RUNNING).then(|| format!("{host} is switched off in phase {phase:?}"))
    })
}

/// A host is switched off as often as there are retries, and once more.
pub(super) fn i27_counted(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    switched_off(seen).find_map(|uid| {
        let limit = by_uid(memory, What::Remediation, uid)?["spec"]["strategy"]["retryLimit"].as_u64()?;
        let before = u64::from(memory.cycles_of(uid));
        (before > limit).then(|| format!("{} is switched off again after {before} times", seen.path))
    })
}

fn is_out_of_service(node: &Value) -> bool {
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.any(|taint| taint["key"] == out_of_service::KEY && taint["effect"] == out_of_service::EFFECT)
}

fn host_of<'a>(memory: &'a Memory, node: &Value) -> Option<&'a Value> {
    by_uid(memory, What::Host, labelled(node, label::HOST_UUID))
}

/// A Node is told to be out of service, or deleted, only while its host is off on our behalf; what it carries is stored before.
pub(super) fn i27_fenced(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (seen.before(), seen.after());
    let deleted = seen.old.is_some() && (seen.new.is_none() || is_leaving(new) && !is_leaving(old));
    if !deleted && (is_out_of_service(old) || !is_out_of_service(new)) {
        return None;
    }
    let node = &seen.path;
    let Some(host) = host_of(memory, old) else { return Some(format!("{node} is fenced, and its host is not known")) };
    let off = host["status"]["poweredOn"] != true && keepers(host).next().is_some();
    if !off {
        return Some(format!("{node} is fenced while its host is on"));
    }
    let stored = |uid: &str| {
        by_uid(memory, What::Remediation, uid)
            .is_some_and(|remediation| is_annotated(remediation, annotation::NODE_LABELS_BACKUP))
    };
    (deleted && !keepers(host).any(stored)).then(|| format!("{node} is deleted, and what it carried is not stored"))
}

/// What is written on a Node is what its host says, or what was stored of the Node before and is missing now.
pub(super) fn i27_node_as_it_was(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    seen.new?;
    let parts = [("labels", annotation::NODE_LABELS_BACKUP), ("annotations", annotation::NODE_ANNOTATIONS_BACKUP)];
    parts.into_iter().find_map(|(part, backup)| {
        let map = |object: &'_ Value| object["metadata"][part].as_object().cloned().unwrap_or_default();
        let (old, new) = (map(seen.before()), map(seen.after()));
        let said = host_of(memory, seen.after()).map(map).unwrap_or_default();
        let synced = |key: &str| part == "labels" && said.get(key) == new.get(key);
        let stored = |key: &str| {
            !old.contains_key(key)
                && memory.all(What::Remediation).any(|(_, remediation)| {
                    let saved: Value = serde_json::from_str(annotated(remediation, backup)).unwrap_or_default();
                    saved.get(key) == new.get(key)
                })
        };
        let mut changed = old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key));
        let wrong = changed.find(|key| !synced(key) && !stored(key))?;
        Some(format!("{} has {part} {wrong} from nowhere", seen.path))
    })
}

/// At rest no host is off, and no Node out of service, for nobody.
pub(super) fn left_behind(memory: &Memory) -> Vec<String> {
    let mut left = Vec::new();
    for (path, host) in memory.all(What::Host) {
        let cluster = super::seen::path(text(host, &["metadata", "namespace"]), labelled(host, label::CLUSTER_NAME));
        let paused = is_annotated(host, annotation::HOST_PAUSED) || memory.paused_since(&cluster).is_some();
        let wanted = |uid: &str| {
            let phase = by_uid(memory, What::Remediation, uid).map(|found| text(found, &["status", "phase"]));
            phase == Some(remediation_phase::RUNNING)
        };
        if let Some(uid) = keepers(host).find(|uid| !paused && !wanted(uid)) {
            left.push(format!("host {path} is kept off for {uid}, which does not want it"));
        }
    }
    let fencing = |remediation: &Value| {
        !at(remediation, &["metadata", "finalizers"]).as_array().is_none_or(Vec::is_empty)
            && text(remediation, &["status", "phase"]) != remediation_phase::FAILED
    };
    let wanted = memory.all(What::Remediation).any(|(_, remediation)| fencing(remediation));
    let out = memory.all(What::Node).filter(|(_, node)| is_out_of_service(node) && !wanted);
    left.extend(out.map(|(path, _)| format!("Node {path} is out of service for nobody")));
    left
}
