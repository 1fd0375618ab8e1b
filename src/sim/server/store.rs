//! What etcd is to the real server: objects under ordered keys, one revision for everything, a log of the changes.
//!
//! Every accepted write takes the next revision, and a delete takes one too. The log serves watches and lists at an older revision,
//! up to the compaction horizon; what is older has expired. Objects are shared by whoever has seen them, and whole tables by
//! everything that began from the same backup, until one of them writes.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Deref};
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use serde_json::{Value, json};

use super::call::Form;
use super::managed::Managers;

/// An object as it is stored. Its text is made once, for all who read it as it is.
#[derive(Debug)]
pub(super) struct Stored {
    value: Arc<Value>,
    revision: u64,
    managers: Managers,
    whole: OnceLock<Bytes>,
    metadata: OnceLock<Bytes>,
}

pub(super) type Object = Arc<Stored>;

impl Stored {
    fn new(mut object: Value, revision: u64, managers: Managers) -> Object {
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let (whole, metadata) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { value: Arc::new(object), revision, managers, whole, metadata })
    }

    pub(super) fn value(&self) -> &Arc<Value> {
        &self.value
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Under another revision, as a watch shows the end of an object.
    pub(super) fn at(&self, revision: u64) -> Object {
        Self::new(Value::clone(&self.value), revision, self.managers.clone())
    }

    pub(super) fn managers(&self) -> &Managers {
        &self.managers
    }

    pub(super) fn text(&self, form: Form) -> &Bytes {
        match form {
            Form::Whole => self.whole.get_or_init(|| self.shown().to_string().into()),
            Form::Metadata => self.metadata.get_or_init(|| partial(&self.shown()).to_string().into()),
        }
    }

    /// With its managed fields, which are kept beside it.
    pub(super) fn shown(&self) -> Cow<'_, Value> {
        with_managers(&self.value, &self.managers)
    }
}

pub(super) fn with_managers<'a>(object: &'a Value, managers: &Managers) -> Cow<'a, Value> {
    if managers.is_empty() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    object["metadata"]["managedFields"] = managers.json();
    Cow::Owned(object)
}

/// `PartialObjectMetadata` of an object.
pub(super) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

impl Deref for Stored {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// One accepted write.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub revision: u64,
    pub path: Arc<str>,
    pub old: Option<Object>,
    /// `None`: it was deleted; then `old` carries the revision of the deletion, as the real server shows it.
    pub new: Option<Object>,
}

/// The objects of one kind, by path.
pub(super) type Objects = BTreeMap<Arc<str>, Object>;

#[derive(Clone, Debug, Default)]
struct Table {
    objects: Arc<Objects>,
    log: VecDeque<Event>,
}

#[derive(Debug)]
pub(super) struct Store {
    revision: u64,
    /// Changes up to here are forgotten.
    compacted: u64,
    /// By `plural.group`.
    tables: BTreeMap<Arc<str>, Table>,
    /// Whose log has the next change, oldest first: forgetting is for all kinds together.
    order: VecDeque<Arc<str>>,
    /// Changes remembered at most.
    history: usize,
}

impl Store {
    pub(super) fn new(history: usize) -> Self {
        Self { revision: 1, compacted: 0, tables: BTreeMap::new(), order: VecDeque::new(), history }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn get(&self, resource: &str, path: &str) -> Option<&Object> {
        self.tables.get(resource)?.objects.get(path)
    }

    /// Objects of one kind in the order of their paths.
    pub(super) fn table(&self, resource: &str) -> impl Iterator<Item = (&Arc<str>, &Object)> {
        self.tables.get(resource).into_iter().flat_map(|table| table.objects.iter())
    }

    /// As [`Self::table`], from one path on.
    pub(super) fn table_from(&self, resource: &str, start: &str) -> impl Iterator<Item = (&Arc<str>, &Object)> {
        let table = self.tables.get(resource);
        let range = (Bound::Included(start), Bound::Unbounded);
        table.into_iter().flat_map(move |table| table.objects.range::<str, _>(range))
    }

    pub(super) fn resources(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tables.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.tables.values().map(|table| table.objects.len()).sum()
    }

    fn table_mut(&mut self, resource: &Arc<str>) -> &mut Table {
        self.tables.entry(resource.clone()).or_default()
    }

    /// Stores the object under the next revision.
    pub(super) fn put(&mut self, resource: &Arc<str>, path: &str, object: Value) -> Object {
        let managers = self.get(resource, path).map(|there| there.managers.clone()).unwrap_or_default();
        self.put_managed(resource, path, object, managers)
    }

    /// The same, with the owners of its fields.
    pub(super) fn put_managed(&mut self, resource: &Arc<str>, path: &str, object: Value, managers: Managers) -> Object {
        self.revision += 1;
        let new = Stored::new(object, self.revision, managers);
        let objects = Arc::make_mut(&mut self.table_mut(resource).objects);
        let key: Arc<str> = match objects.get_key_value(path) {
            Some((key, _)) => key.clone(),
            None => path.into(),
        };
        let old = objects.insert(key.clone(), new.clone());
        self.remember(resource, key, old, Some(new.clone()));
        new
    }

    /// Takes the object out; its last state comes back with the revision of its end.
    pub(super) fn remove(&mut self, resource: &Arc<str>, path: &str) -> Option<Object> {
        let objects = Arc::make_mut(&mut self.tables.get_mut(resource)?.objects);
        let (key, last) = objects.remove_entry(path)?;
        self.revision += 1;
        let last = last.at(self.revision);
        self.remember(resource, key, Some(last.clone()), None);
        Some(last)
    }

    fn remember(&mut self, resource: &Arc<str>, path: Arc<str>, old: Option<Object>, new: Option<Object>) {
        let event = Event { revision: self.revision, path, old, new };
        self.table_mut(resource).log.push_back(event);
        self.order.push_back(resource.clone());
        if self.order.len() > self.history {
            self.forget();
        }
    }

    /// Forgets the oldest change.
    fn forget(&mut self) {
        let Some(resource) = self.order.pop_front() else { return };
        if let Some(forgotten) = self.table_mut(&resource).log.pop_front() {
            self.compacted = self.compacted.max(forgotten.revision);
        }
    }

    /// Revisions that nothing is told of.
    pub(super) fn skip_to(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Forgets every change up to and including `revision`.
    pub(super) fn compact(&mut self, revision: u64) {
        let horizon = self.compacted.max(revision.min(self.revision));
        let oldest = |store: &Self| {
            let table = store.tables.get(store.order.front()?)?;
            table.log.front().map(|event| event.revision)
        };
        while oldest(self).is_some_and(|revision| revision <= horizon) {
            self.forget();
        }
        self.compacted = horizon;
    }

    /// The changes of one kind after `revision`; `None` when some of them are forgotten.
    pub(super) fn since(&self, resource: &str, revision: u64) -> Option<impl DoubleEndedIterator<Item = &Event>> {
        if revision < self.compacted {
            return None;
        }
        let events = self.tables.get(resource).map(|table| {
            let first = table.log.partition_point(|event| event.revision <= revision);
            table.log.range(first..)
        });
        Some(events.into_iter().flatten())
    }

    /// The objects of one kind as they were at `revision`; `None` when that is forgotten.
    pub(super) fn at(&self, resource: &str, revision: u64) -> Option<Arc<Objects>> {
        let table = self.tables.get(resource).map(|table| table.objects.clone()).unwrap_or_default();
        let mut later = self.since(resource, revision)?.rev().peekable();
        if later.peek().is_none() {
            return Some(table);
        }
        let mut then = Objects::clone(&table);
        for event in later {
            match &event.old {
                Some(old) if event.new.is_some() => then.insert(event.path.clone(), old.clone()),
                Some(old) => then.insert(event.path.clone(), self.before(resource, event, old)),
                None => then.remove(&event.path),
            };
        }
        Some(Arc::new(then))
    }

    /// The object as it was before its deletion, with the revision it had then.
    fn before(&self, resource: &str, deletion: &Event, last: &Object) -> Object {
        let log = self.tables.get(resource).into_iter().flat_map(|table| table.log.iter().rev());
        let mut written = log.filter(|event| event.revision < deletion.revision && event.path == deletion.path);
        written.next().and_then(|event| event.new.clone()).unwrap_or_else(|| last.clone())
    }

    /// The content without its history. What is in it is shared until it changes.
    pub(super) fn backup(&self) -> Self {
        let mut backup = Self::new(self.history);
        backup.restore(self);
        backup
    }

    /// The content of another store, without its history.
    pub(super) fn restore(&mut self, older: &Self) {
        let shared = |(resource, table): (&Arc<str>, &Table)| {
            (resource.clone(), Table { objects: table.objects.clone(), log: VecDeque::new() })
        };
        self.tables = older.tables.iter().map(shared).collect();
        self.revision = older.revision;
        self.compacted = older.revision;
        self.order.clear();
    }
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
