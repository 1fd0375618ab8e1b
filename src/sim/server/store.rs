//! What etcd is to the real server: objects under ordered keys, one revision for everything, a log of the changes.
//!
//! Every accepted write takes the next revision, and a delete takes one too. The log serves watches and lists at an older revision,
//! up to the compaction horizon; what is older has expired.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

/// One accepted write.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub revision: u64,
    /// `plural.group`.
    pub resource: Arc<str>,
    pub path: String,
    pub old: Option<Arc<Value>>,
    /// `None`: it was deleted; then `old` carries the revision of the deletion, as the real server shows it.
    pub new: Option<Arc<Value>>,
}

#[derive(Clone, Debug)]
pub(super) struct Store {
    revision: u64,
    /// Changes up to here are forgotten.
    compacted: u64,
    tables: BTreeMap<Arc<str>, BTreeMap<String, Arc<Value>>>,
    log: VecDeque<Event>,
    /// Changes remembered at most.
    history: usize,
}

impl Store {
    pub(super) fn new(history: usize) -> Self {
        Self { revision: 1, compacted: 0, tables: BTreeMap::new(), log: VecDeque::new(), history }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn get(&self, resource: &str, path: &str) -> Option<&Arc<Value>> {
        self.tables.get(resource)?.get(path)
    }

    /// Objects of one kind in the order of their paths.
    pub(super) fn table(&self, resource: &str) -> impl Iterator<Item = (&String, &Arc<Value>)> {
        self.tables.get(resource).into_iter().flatten()
    }

    /// As [`Self::table`], from one path on.
    pub(super) fn table_from(&self, resource: &str, start: &str) -> impl Iterator<Item = (&String, &Arc<Value>)> {
        let table = self.tables.get(resource);
        table.into_iter().flat_map(move |table| table.range::<str, _>((Bound::Included(start), Bound::Unbounded)))
    }

    pub(super) fn resources(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tables.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    /// Stores the object under the next revision.
    pub(super) fn put(&mut self, resource: &Arc<str>, path: &str, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        stamp(&mut object, self.revision);
        let new = Arc::new(object);
        let table = self.tables.entry(resource.clone()).or_default();
        let old = table.insert(path.to_owned(), new.clone());
        self.remember(resource, path, old, Some(new.clone()));
        new
    }

    /// Takes the object out; its last state comes back with the revision of its end.
    pub(super) fn remove(&mut self, resource: &Arc<str>, path: &str) -> Option<Arc<Value>> {
        let mut last = Value::clone(self.tables.get_mut(resource)?.remove(path)?.as_ref());
        self.revision += 1;
        stamp(&mut last, self.revision);
        let last = Arc::new(last);
        self.remember(resource, path, Some(last.clone()), None);
        Some(last)
    }

    fn remember(&mut self, resource: &Arc<str>, path: &str, old: Option<Arc<Value>>, new: Option<Arc<Value>>) {
        let (resource, path) = (resource.clone(), path.to_owned());
        self.log.push_back(Event { revision: self.revision, resource, path, old, new });
        if self.log.len() > self.history
            && let Some(forgotten) = self.log.pop_front()
        {
            self.compacted = forgotten.revision;
        }
    }

    /// Forgets every change up to and including `revision`.
    pub(super) fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        while self.log.front().is_some_and(|event| event.revision <= self.compacted) {
            self.log.pop_front();
        }
    }

    /// The changes of one kind after `revision`; `None` when some of them are forgotten.
    pub(super) fn since(&self, resource: &str, revision: u64) -> Option<impl Iterator<Item = &Event>> {
        if revision < self.compacted {
            return None;
        }
        let first = self.log.partition_point(|event| event.revision <= revision);
        Some(self.log.range(first..).filter(move |event| *event.resource == *resource))
    }

    /// The objects of one kind as they were at `revision`; `None` when that is forgotten.
    pub(super) fn at(&self, resource: &str, revision: u64) -> Option<BTreeMap<String, Arc<Value>>> {
        let mut table = self.tables.get(resource).cloned().unwrap_or_default();
        let later: Vec<_> = self.since(resource, revision)?.collect();
        for event in later.into_iter().rev() {
            match &event.old {
                Some(old) if event.new.is_some() => table.insert(event.path.clone(), old.clone()),
                Some(old) => table.insert(event.path.clone(), self.before(event, old)),
                None => table.remove(&event.path),
            };
        }
        Some(table)
    }

    /// The object as it was before its deletion, with the revision it had then.
    fn before(&self, deletion: &Event, last: &Arc<Value>) -> Arc<Value> {
        let written = self.log.iter().rev().find(|event| {
            event.revision < deletion.revision && event.resource == deletion.resource && event.path == deletion.path
        });
        written.and_then(|event| event.new.clone()).unwrap_or_else(|| last.clone())
    }

    /// As if restored from a backup: the content of another time under a revision of now.
    pub(super) fn restore(&mut self, older: &Self) {
        self.tables.clone_from(&older.tables);
        self.revision = older.revision;
        self.compacted = older.revision;
        self.log.clear();
    }
}

fn stamp(object: &mut Value, revision: u64) {
    object["metadata"]["resourceVersion"] = revision.to_string().into();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lamp(name: &str, watts: u32) -> Value {
        json!({"metadata": {"name": name}, "watts": watts})
    }

    #[test]
    fn an_older_state_is_read_back_from_the_log() {
        let (mut store, lamps): (_, Arc<str>) = (Store::new(100), "lamps".into());
        store.put(&lamps, "ns/a", lamp("a", 1)); // 2
        store.put(&lamps, "ns/b", lamp("b", 1)); // 3
        store.put(&lamps, "ns/a", lamp("a", 2)); // 4
        let last = store.remove(&lamps, "ns/b").unwrap(); // 5
        assert_eq!(last["metadata"]["resourceVersion"], "5");
        let then = store.at("lamps", 3).unwrap();
        let seen: Vec<_> = then.values().map(|o| (&o["watts"], &o["metadata"]["resourceVersion"])).collect();
        assert_eq!(seen, [(&json!(1), &json!("2")), (&json!(1), &json!("3"))]);
        assert_eq!(store.since("lamps", 3).unwrap().count(), 2);
        store.compact(4);
        assert!(store.at("lamps", 3).is_none());
        assert_eq!(store.since("lamps", 4).unwrap().count(), 1);
    }

    #[test]
    fn the_log_is_bounded() {
        let (mut store, lamps): (_, Arc<str>) = (Store::new(3), "lamps".into());
        for watts in 0..9 {
            store.put(&lamps, "ns/a", lamp("a", watts));
        }
        assert_eq!((store.revision(), store.compacted()), (10, 7));
        assert!(store.since("lamps", 6).is_none());
        assert_eq!(store.since("lamps", 7).unwrap().count(), 3);
    }
}
