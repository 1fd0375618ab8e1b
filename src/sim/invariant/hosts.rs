//! Whose host it is: I1, I8.

use super::memory::{Memory, holder};
use super::seen::{Seen, What};
use super::{at, text};

/// A host goes from one machine to another only by way of a release, and is not taken from a machine that lives.
pub(super) fn i1_one_consumer(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (before, after) = (at(seen.old(), &["spec", "consumerRef"]), at(seen.new(), &["spec", "consumerRef"]));
    if before == after || before.is_null() {
        return None;
    }
    let (from, to) = (holder(seen.old()), holder(seen.new()));
    if from == to && from.is_some() {
        return None; // the same machine in another version
    }
    let Some(from) = from else {
        let kept = before["kind"] == "Cluster"; // for a later machine of that cluster
        return (!kept).then(|| format!("{} was taken from {before}", seen.path));
    };
    if let Some(to) = to {
        return Some(format!("{} went from {from} to {to} without a release", seen.path));
    }
    let lives = memory.get(What::Machine, &from).is_some_and(|machine| !is_leaving(machine));
    lives.then(|| format!("{} was taken from {from}, which lives", seen.path))
}

/// A machine has one host at most.
pub(super) fn i8_one_host(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let machine = holder(seen.new())?;
    if holder(seen.old()).as_ref() == Some(&machine) {
        return None;
    }
    let other = memory.held_by(&machine).find(|host| **host != seen.path)?;
    Some(format!("{machine} has {other} and took {} as well", seen.path))
}

fn is_leaving(object: &serde_json::Value) -> bool {
    !text(object, &["metadata", "deletionTimestamp"]).is_empty()
}
