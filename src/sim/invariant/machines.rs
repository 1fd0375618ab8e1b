//! What a machine says of itself and of its Node: I12, I13.

use capm3_api::names::{PROVIDER_ID_SCHEME, label};

use super::memory::Memory;
use super::seen::{Seen, What};
use super::view::{is_leaving, label, provider_id, text, uid};

/// A providerID is given once, to one machine, names its host, and is the Node's.
pub(super) fn i12_one_provider_id(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (before, after) = (provider_id(seen.before()), provider_id(seen.after()));
    if before == after || seen.new.is_none() {
        return None;
    }
    let path = &seen.path;
    if !before.is_empty() {
        return Some(format!("the providerID of {path} went from {before:?} to {after:?}"));
    }
    let parts: Vec<_> = after.strip_prefix(PROVIDER_ID_SCHEME).unwrap_or_default().split('/').collect();
    let [namespace, host, name] = parts[..] else {
        return Some(format!("{path} was given the providerID {after:?}"));
    };
    let (host, machine) = (format!("{namespace}/{host}"), format!("{namespace}/{name}"));
    if !memory.held_by(&machine).any(|held| *held == host) {
        return Some(format!("{path} was given the providerID {after:?}, and {machine} does not have {host}"));
    }
    if seen.what == What::Node {
        return None;
    }
    if machine != *path {
        return Some(format!("{path} was given the providerID of another machine: {after:?}"));
    }
    if let Some(other) = memory.identified(after).find(|other| *other != path) {
        return Some(format!("{path} was given the providerID of {other}: {after:?}"));
    }
    let host = memory.get(What::Host, &host)?;
    let node = memory.all(What::Node).find(|(_, node)| label(node, label::HOST_UUID) == uid(host))?;
    let id = provider_id(node.1);
    (id != after).then(|| format!("{path} was given the providerID {after:?}, and Node {} has {id:?}", node.0))
}

/// What a machine or a cluster has reached it does not lose, and no status is of a generation that is older than the one before.
pub(super) fn i13_never_back(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (seen.before(), seen.after());
    if seen.old.is_none() || seen.new.is_none() {
        return None;
    }
    let path = &seen.path;
    let provisioned = |object: &serde_json::Value| object["status"]["initialization"]["provisioned"] == true;
    if provisioned(old) && !provisioned(new) {
        return Some(format!("{path} was provisioned and is no more"));
    }
    if seen.what == What::Data && old["status"]["ready"] == true && new["status"]["ready"] != true {
        let named = ["metaData", "networkData"].map(|part| text(new, &["spec", part, "name"]));
        let lost = named.into_iter().filter(|name| !name.is_empty()).any(|name| {
            memory.get(What::Secret, &seen.sibling(name)).is_none_or(|secret| is_leaving(secret) || !is_of(secret, new))
        });
        return (!lost).then(|| format!("{path} was ready and is no more, with all its Secrets there"));
    }
    let observed = |object: &serde_json::Value| object["status"]["observedGeneration"].as_i64();
    let (before, after) = (observed(old), observed(new));
    if after < before {
        return Some(format!("the observed generation of {path} went from {before:?} to {after:?}"));
    }
    let generation = new["metadata"]["generation"].as_i64();
    (after > generation).then(|| format!("{path} has observed generation {after:?} of {generation:?}"))
}

fn is_of(secret: &serde_json::Value, data: &serde_json::Value) -> bool {
    super::view::owner(secret, "Metal3Data").is_none_or(|(_, owner)| owner == uid(data))
}
