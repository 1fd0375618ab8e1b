//! An API server that is nothing but objects with versions, small enough to be part of a state.
//!
//! What an object says is kept once, in [`Contents`]; a state only says which content, version and uid. Of an object's versions only
//! their order counts, so they are renumbered after each step, over everybody who knows one: the store, the views, and what is on
//! the wire. A uid is told from others of the same name alone, and by whom it is still known.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::explore::Memo;

/// One version of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seen {
    pub(super) content: Content,
    pub(super) version: u8,
    pub(super) uid: u8,
}

/// What an object says, but for its version and uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Content(NonZeroU32);

/// A change of an object: a merge patch, or the whole of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Change(NonZeroU32);

/// On which condition a write is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Fence {
    pub(super) version: Option<u8>,
    pub(super) uid: Option<u8>,
}

/// What the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Answer {
    Done(Seen),
    /// Done, and with that the object was gone.
    Gone,
    Conflict,
    NotFound,
    AlreadyExists,
}

impl Fence {
    /// As a decision names it; what it does not name is not looked at.
    pub(super) fn read(version: Option<&str>, uid: Option<&str>) -> Self {
        let number = |text: &str| text.rsplit('-').next().and_then(|n| n.parse().ok());
        Self { version: version.and_then(number), uid: uid.and_then(number) }
    }

    pub(super) fn unchanged(seen: Seen) -> Self {
        Self { version: Some(seen.version), uid: Some(seen.uid) }
    }

    pub(super) fn same(seen: Seen) -> Self {
        Self { version: None, uid: Some(seen.uid) }
    }

    fn holds(self, seen: Seen) -> bool {
        self.version.is_none_or(|version| version == seen.version) && self.uid.is_none_or(|uid| uid == seen.uid)
    }
}

/// The uid of an object in text, as references to it have it.
pub(super) fn uid_text(name: &str, uid: u8) -> String {
    format!("uid-of-{name}-{uid}")
}

/// Everything that any object ever said.
#[derive(Default)]
pub(super) struct Contents {
    values: Vec<Value>,
    ids: Memo<String, NonZeroU32>,
    changes: Vec<Value>,
    change_ids: Memo<String, NonZeroU32>,
    changed: Memo<(Content, Change), Content>,
}

impl Contents {
    pub(super) fn content(&mut self, mut value: Value) -> Content {
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
            metadata.remove("uid");
        }
        Content(intern(&mut self.ids, &mut self.values, value))
    }

    pub(super) fn change(&mut self, patch: Value) -> Change {
        Change(intern(&mut self.change_ids, &mut self.changes, patch))
    }

    pub(super) fn value(&self, content: Content) -> &Value {
        &self.values[content.0.get() as usize - 1]
    }

    pub(super) fn what(&self, change: Change) -> &Value {
        &self.changes[change.0.get() as usize - 1]
    }

    /// The content as a typed object of this version.
    pub(super) fn typed<K: DeserializeOwned>(&self, seen: Seen) -> Option<K> {
        let mut value = self.value(seen.content).clone();
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        value["metadata"]["resourceVersion"] = json!(seen.version.to_string());
        value["metadata"]["uid"] = json!(uid_text(&name, seen.uid));
        serde_json::from_value(value).ok()
    }

    /// After a merge patch.
    pub(super) fn patched(&mut self, content: Content, change: Change) -> Content {
        if let Some(known) = self.changed.get(&(content, change)) {
            return *known;
        }
        let mut value = self.value(content).clone();
        json_patch::merge(&mut value, self.what(change));
        tidy(&mut value);
        let after = self.content(value);
        self.changed.insert((content, change), after);
        after
    }

    /// An object of ours as the server stores it.
    pub(super) fn stored(&mut self, object: &impl Serialize) -> Content {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        tidy(&mut value);
        self.content(value)
    }

    pub(super) fn is_deleting(&self, content: Content) -> bool {
        self.value(content)["metadata"]["deletionTimestamp"].is_string()
    }

    fn has_finalizers(&self, content: Content) -> bool {
        self.value(content)["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
    }

    /// A merge patch reaches the server.
    pub(super) fn patch(&mut self, stored: &mut Option<Seen>, change: Change, fence: Fence, next: u8) -> Answer {
        let Some(found) = *stored else { return Answer::NotFound };
        if !fence.holds(found) {
            return Answer::Conflict;
        }
        let content = self.patched(found.content, change);
        if content == found.content {
            return Answer::Done(found);
        }
        if self.is_deleting(content) && !self.has_finalizers(content) {
            *stored = None;
            return Answer::Gone;
        }
        let seen = Seen { content, version: next, uid: found.uid };
        *stored = Some(seen);
        Answer::Done(seen)
    }

    /// A delete reaches the server.
    pub(super) fn delete(&mut self, stored: &mut Option<Seen>, fence: Fence, next: u8) -> Answer {
        let Some(found) = *stored else { return Answer::NotFound };
        if !fence.holds(found) {
            return Answer::Conflict;
        }
        if !self.has_finalizers(found.content) {
            *stored = None;
            return Answer::Gone;
        }
        let mark = self.change(json!({"metadata": {"deletionTimestamp": LATER}}));
        let seen = Seen { content: self.patched(found.content, mark), version: next, uid: found.uid };
        if self.is_deleting(found.content) {
            return Answer::Done(found);
        }
        *stored = Some(seen);
        Answer::Done(seen)
    }
}

/// When everything is made, and when everything is looked at: what waits for time to pass does not wait.
pub(super) const EARLIER: &str = "2026-01-01T00:00:00Z";
pub(super) const LATER: &str = "2026-01-02T00:00:00Z";

fn intern(ids: &mut Memo<String, NonZeroU32>, values: &mut Vec<Value>, value: Value) -> NonZeroU32 {
    let text = value.to_string();
    if let Some(id) = ids.get(&text) {
        return *id;
    }
    values.push(value);
    let id = u32::try_from(values.len()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
    ids.insert(text, id);
    id
}

/// The same whatever the order in which it was said: no empty lists and maps in metadata, keys sorted.
fn tidy(value: &mut Value) {
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.retain(|_, field| {
            !(field.is_null()
                || field.as_array().is_some_and(Vec::is_empty)
                || field.as_object().is_some_and(serde_json::Map::is_empty))
        });
    }
    value.sort_all_objects();
}

/// The versions of one object by their order, everybody's together.
#[derive(Default)]
pub(super) struct Ranks(BTreeSet<u8>);

impl Ranks {
    pub(super) fn note(&mut self, version: u8) {
        self.0.insert(version);
    }

    pub(super) fn of(&self, version: u8) -> u8 {
        u8::try_from(self.0.range(..version).count()).unwrap_or(u8::MAX)
    }

    /// Newer than all of them.
    pub(super) fn next(&self) -> u8 {
        self.0.last().map_or(0, |last| last.saturating_add(1))
    }
}

/// The later of two views, or of two objects of one name.
pub(super) fn newer(cached: Option<Seen>, live: Option<Seen>) -> Option<Seen> {
    match (cached, live) {
        (Some(cached), Some(live)) => Some(if cached.version > live.version { cached } else { live }),
        (cached, live) => live.or(cached),
    }
}
