//! The cache of one watch: ordered, indexed, and never moved backwards but by the API server itself.
//!
//! Two sources feed it, the watch and the replies of our own writes, in any order. The resourceVersion decides: what is not
//! newer than what is cached changes nothing and is not reported. A deletion that the watch reported is final for that uid,
//! also for a reply that was under way. A relist reports what vanished, with the last known object. It is a consistent read, so
//! what it shows stands, older or risen from the dead, unless a reply came while it ran: a server restored from a backup is so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::object::{Key, Object, key_of};

/// A reply cannot come later than the deadline of its call; the graves are kept well beyond that.
const GRAVES_KEPT: Duration = Duration::from_secs(120);

/// What happened to one object: `old` is gone or replaced, `new` is what is cached now.
#[derive(Clone, Debug)]
pub struct Change<K> {
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

impl<K: Object> Change<K> {
    /// The object's key, whichever side knows it.
    pub fn key(&self) -> Key {
        self.object().map(|object| key_of(&**object)).unwrap_or_default()
    }

    /// The newest known object.
    pub fn object(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// Both sides, for mappings that look at where a reference pointed and where it points now.
    pub fn sides(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(self.new.iter())
    }
}

/// A read-only view of the cache; clones share it.
pub struct Store<K> {
    pub(crate) shared: Arc<Shared<K>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

type Route<K> = Arc<dyn Fn(&Change<K>, bool) + Send + Sync>;

pub(crate) struct Shared<K> {
    cache: RwLock<Cache<K>>,
    routes: RwLock<Vec<Route<K>>>,
    standing: watch::Sender<Standing>,
    /// A selector hides objects for other reasons than their end, and replies do not say whether it still matches.
    pub(crate) selective: bool,
    pub(crate) namespace: Option<String>,
}

/// How far the watch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Listing,
    /// The API server does not know the kind.
    Missing,
    Synced,
}

struct Cache<K> {
    objects: BTreeMap<Key, Entry<K>>,
    indexes: BTreeMap<&'static str, Index<K>>,
    graves: VecDeque<(Instant, String)>,
    buried: BTreeSet<String>,
    relist: Option<Relist>,
}

struct Entry<K> {
    object: Arc<K>,
    version: Option<u64>,
}

type ValuesOf<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

struct Index<K> {
    values: ValuesOf<K>,
    keys: BTreeMap<String, BTreeSet<Key>>,
}

/// Keys that a relist has shown, and those that replies brought while it ran: it may have been read before them.
#[derive(Default)]
struct Relist {
    seen: BTreeSet<Key>,
    replied: BTreeSet<Key>,
}

impl<K: Object> Store<K> {
    pub(crate) fn new(selective: bool, namespace: Option<String>) -> Self {
        let cache = Cache {
            objects: BTreeMap::new(),
            indexes: BTreeMap::new(),
            graves: VecDeque::new(),
            buried: BTreeSet::new(),
            relist: None,
        };
        let shared = Shared {
            cache: RwLock::new(cache),
            routes: RwLock::default(),
            standing: watch::Sender::new(Standing::Listing),
            selective,
            namespace,
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.shared.cache.read().objects.get(key).map(|entry| entry.object.clone())
    }

    /// The objects of a namespace, in name order.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        let cache = self.shared.cache.read();
        let from = Key::new(namespace, "");
        let of_namespace = cache.objects.range(from..).take_while(|(key, _)| key.namespace == namespace);
        of_namespace.map(|(_, entry)| entry.object.clone()).collect()
    }

    /// Everything, in the order of keys.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.shared.cache.read().objects.values().map(|entry| entry.object.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.shared.cache.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Declares an index: every object is found under each of the values. Declaring it again replaces it.
    pub fn index(&self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        let mut cache = self.shared.cache.write();
        let mut index = Index { values: Box::new(values), keys: BTreeMap::new() };
        for (key, entry) in &cache.objects {
            index.add(key, &entry.object);
        }
        cache.indexes.insert(name, index);
    }

    /// The objects under a value of a declared index, in the order of keys.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let cache = self.shared.cache.read();
        let Some(index) = cache.indexes.get(name) else {
            tracing::error!(index = name, kind = %K::kind(&()), "index was never declared");
            return Vec::new();
        };
        let keys = index.keys.get(value).into_iter().flatten();
        keys.filter_map(|key| cache.objects.get(key)).map(|entry| entry.object.clone()).collect()
    }

    /// How many objects are under a value of a declared index.
    pub fn count(&self, name: &str, value: &str) -> usize {
        let cache = self.shared.cache.read();
        cache.indexes.get(name).and_then(|index| index.keys.get(value)).map_or(0, BTreeSet::len)
    }

    /// At most so many of [`Self::by_index`], in a row that begins anywhere (`from` is any number) and goes round.
    pub fn some_by_index(&self, name: &str, value: &str, from: usize, most: usize) -> Vec<Arc<K>> {
        let cache = self.shared.cache.read();
        let Some(keys) = cache.indexes.get(name).and_then(|index| index.keys.get(value)) else { return Vec::new() };
        let from = from % keys.len().max(1);
        let row = keys.iter().skip(from).chain(keys.iter().take(from)).take(most);
        row.filter_map(|key| cache.objects.get(key)).map(|entry| entry.object.clone()).collect()
    }

    /// The first list has been read.
    pub fn is_synced(&self) -> bool {
        *self.shared.standing.borrow() == Standing::Synced
    }

    /// The API server does not serve the kind (yet).
    pub fn is_missing(&self) -> bool {
        *self.shared.standing.borrow() == Standing::Missing
    }

    /// Calls `route` for every change, and now for everything that is there already. The flag tells a resync from news.
    pub(crate) fn subscribe(&self, route: impl Fn(&Change<K>, bool) + Send + Sync + 'static) {
        let route: Route<K> = Arc::new(route);
        self.shared.routes.write().push(route.clone());
        for object in self.all() {
            route(&Change { old: None, new: Some(object) }, false);
        }
    }

    /// Tells nobody any more. Routes hold other stores, which hold routes to this one: what nobody feeds must not keep them all.
    pub(crate) fn unsubscribe(&self) {
        let routes = std::mem::take(&mut *self.shared.routes.write());
        drop(routes); // with no lock held: the last holder of another store may be among them
    }

    /// Shows every object to the routes again, as unchanged.
    pub(crate) fn resync(&self) {
        for object in self.all() {
            self.tell(&Change { old: Some(object.clone()), new: Some(object) }, true);
        }
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    pub(crate) fn stand(&self, standing: Standing) {
        self.shared.standing.send_if_modified(|now| std::mem::replace(now, standing) != standing);
    }

    /// The watch showed an object, as news or as a part of a list.
    pub(crate) fn apply(&self, object: K) {
        let change = self.shared.cache.write().put(object, Source::Watch { selective: self.shared.selective });
        self.tell_some(change);
    }

    /// The watch reported the end of an object, or that the selector no longer matches it.
    pub(crate) fn delete(&self, object: &K) {
        let change =
            self.shared.cache.write().remove(&key_of(object), object.meta().uid.as_deref(), !self.shared.selective);
        self.tell_some(change);
    }

    /// A write of ours was answered with this object.
    pub(crate) fn reply(&self, object: K) {
        let key = key_of(&object);
        if self.shared.namespace.as_ref().is_some_and(|namespace| *namespace != key.namespace) {
            return;
        }
        let meta = object.meta();
        let finished = meta.deletion_timestamp.is_some()
            && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
            && meta.deletion_grace_period_seconds.unwrap_or_default() == 0;
        let change = {
            let mut cache = self.shared.cache.write();
            if finished {
                // The write took the last finalizer: the API server has removed the object with it.
                cache.replied(&key);
                cache.remove(&key, meta.uid.as_deref(), !self.shared.selective)
            } else {
                cache.put(object, Source::Reply { only_update: self.shared.selective })
            }
        };
        self.tell_some(change);
    }

    /// A delete of ours was answered with success, not with a remaining object.
    pub(crate) fn deleted(&self, key: &Key, uid: Option<&str>) {
        let change = {
            let mut cache = self.shared.cache.write();
            cache.replied(key);
            cache.remove(key, uid, !self.shared.selective)
        };
        self.tell_some(change);
    }

    pub(crate) fn relist_begins(&self) {
        self.shared.cache.write().relist = Some(Relist::default());
    }

    /// Ends a relist: what it did not show is reported as deleted. Returns the keys it cannot judge, because a reply brought them
    /// while the list was being read; they have to be read live.
    pub(crate) fn relist_ends(&self) -> Vec<Key> {
        let (changes, doubtful) = self.shared.cache.write().finish_relist(!self.shared.selective);
        for change in changes {
            self.tell(&change, false);
        }
        doubtful
    }

    fn tell_some(&self, change: Option<Change<K>>) {
        if let Some(change) = change {
            self.tell(&change, false);
        }
    }

    /// Outside the cache's lock, because routes look into this and other stores.
    fn tell(&self, change: &Change<K>, resync: bool) {
        let routes = self.shared.routes.read().clone();
        for route in routes {
            route(change, resync);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Watch { selective: bool },
    Reply { only_update: bool },
}

impl<K: Object> Cache<K> {
    /// A list that is being read may have been read before this.
    fn replied(&mut self, key: &Key) {
        if let Some(relist) = &mut self.relist {
            relist.replied.insert(key.clone());
        }
    }

    fn put(&mut self, object: K, source: Source) -> Option<Change<K>> {
        let key = key_of(&object);
        let meta = object.meta();
        let version = meta.resource_version.as_deref().and_then(|v| v.parse().ok());
        let from_watch = matches!(source, Source::Watch { .. });
        if let Some(relist) = &mut self.relist {
            let set = if from_watch { &mut relist.seen } else { &mut relist.replied };
            set.insert(key.clone());
        }
        let listed = from_watch && self.relist.as_ref().is_some_and(|relist| !relist.replied.contains(&key));
        if let Some(uid) = meta.uid.as_ref().filter(|uid| self.buried.contains(*uid)) {
            if !listed {
                return None;
            }
            self.buried.remove(uid);
            self.graves.retain(|(_, buried)| buried != uid);
        }
        match self.objects.get(&key) {
            Some(cached) if cached.version == version && version.is_some() => return None,
            Some(cached) if !listed && !newer(version, cached.version, from_watch) => return None,
            None if source == (Source::Reply { only_update: true }) => return None,
            Some(_) | None => {}
        }
        let object = Arc::new(object);
        let old = self.objects.insert(key.clone(), Entry { object: object.clone(), version }).map(|entry| entry.object);
        for index in self.indexes.values_mut() {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.add(&key, &object);
        }
        if let Some(old) = old.as_ref().filter(|old| old.meta().uid != object.meta().uid) {
            // Deleted and made anew under the same name while we were not looking.
            self.bury(old.meta().uid.clone());
        }
        Some(Change { old, new: Some(object) })
    }

    /// Removes the object of that key, unless it is a later one of the same name.
    fn remove(&mut self, key: &Key, uid: Option<&str>, is_final: bool) -> Option<Change<K>> {
        if is_final {
            self.bury(uid.map(str::to_owned));
        }
        let cached = self.objects.get(key)?;
        if uid.is_some() && cached.object.meta().uid.as_deref() != uid {
            return None;
        }
        let old = self.objects.remove(key)?.object;
        for index in self.indexes.values_mut() {
            index.remove(key, &old);
        }
        Some(Change { old: Some(old), new: None })
    }

    fn finish_relist(&mut self, is_final: bool) -> (Vec<Change<K>>, Vec<Key>) {
        let Some(Relist { seen, replied }) = self.relist.take() else { return (Vec::new(), Vec::new()) };
        let unseen: Vec<Key> = self.objects.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        let (doubtful, vanished): (Vec<_>, Vec<_>) = unseen.into_iter().partition(|key| replied.contains(key));
        let mut changes = Vec::new();
        for key in vanished {
            let uid = self.objects.get(&key).and_then(|entry| entry.object.meta().uid.clone());
            changes.extend(self.remove(&key, uid.as_deref(), is_final));
        }
        (changes, doubtful)
    }

    fn bury(&mut self, uid: Option<String>) {
        let now = Instant::now();
        while self.graves.front().is_some_and(|(since, _)| now.duration_since(*since) > GRAVES_KEPT) {
            if let Some((_, uid)) = self.graves.pop_front() {
                self.buried.remove(&uid);
            }
        }
        if let Some(uid) = uid
            && self.buried.insert(uid.clone())
        {
            self.graves.push_back((now, uid));
        }
    }
}

impl<K: Object> Index<K> {
    fn add(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

/// Whether a version moves the cache forward. Versions that are not numbers cannot be compared: then the watch is right.
fn newer(version: Option<u64>, cached: Option<u64>, from_watch: bool) -> bool {
    match (version, cached) {
        (Some(version), Some(cached)) => version > cached,
        _ => from_watch,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use parking_lot::Mutex;

    use super::*;

    type Log = Arc<Mutex<Vec<String>>>;

    fn object(name: &str, uid: &str, version: u64) -> ConfigMap {
        let meta = ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            uid: Some(uid.into()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata: meta, ..ConfigMap::default() }
    }

    fn watched() -> (Store<ConfigMap>, Log) {
        let store = Store::new(false, None);
        let log = Log::default();
        let sink = log.clone();
        let version = |o: &Option<Arc<ConfigMap>>| {
            o.as_ref().and_then(|o| o.metadata.resource_version.clone()).unwrap_or_else(|| "-".into())
        };
        store.subscribe(move |change, _| {
            sink.lock().push(format!("{} {}>{}", change.key().name, version(&change.old), version(&change.new)));
        });
        (store, log)
    }

    fn version(store: &Store<ConfigMap>, name: &str) -> Option<String> {
        store.get(&Key::new("ns", name)).and_then(|o| o.metadata.resource_version.clone())
    }

    #[track_caller]
    fn check(log: &Log, expected: &[&str]) {
        assert_eq!(*log.lock(), expected);
    }

    #[tokio::test]
    async fn a_reply_is_read_back_at_once_and_the_watch_repeats_nothing() {
        let (store, log) = watched();
        store.apply(object("a", "u1", 10));
        store.reply(object("a", "u1", 12));
        assert_eq!(version(&store, "a").as_deref(), Some("12"));
        store.apply(object("a", "u1", 11));
        store.apply(object("a", "u1", 12));
        assert_eq!(version(&store, "a").as_deref(), Some("12"));
        store.apply(object("a", "u1", 13));
        check(&log, &["a ->10", "a 10>12", "a 12>13"]);
    }

    #[tokio::test]
    async fn versions_compare_as_numbers() {
        let (store, _) = watched();
        store.apply(object("a", "u1", 9));
        store.reply(object("a", "u1", 10));
        assert_eq!(version(&store, "a").as_deref(), Some("10"));
    }

    #[tokio::test]
    async fn an_old_reply_does_not_move_the_cache_backwards() {
        let (store, log) = watched();
        store.apply(object("a", "u1", 20));
        store.reply(object("a", "u1", 15));
        assert_eq!(version(&store, "a").as_deref(), Some("20"));
        check(&log, &["a ->20"]);
    }

    #[tokio::test]
    async fn a_deletion_is_final_for_its_uid_but_not_for_its_name() {
        let (store, log) = watched();
        store.apply(object("a", "u1", 10));
        store.delete(&object("a", "u1", 12));
        store.reply(object("a", "u1", 11));
        assert_eq!(version(&store, "a"), None);
        store.apply(object("a", "u2", 13));
        store.delete(&object("a", "u1", 12));
        assert_eq!(version(&store, "a").as_deref(), Some("13"));
        check(&log, &["a ->10", "a 10>-", "a ->13"]);
    }

    #[tokio::test]
    async fn the_reply_that_takes_the_last_finalizer_is_the_end() {
        let (store, log) = watched();
        store.apply(object("a", "u1", 10));
        let mut last = object("a", "u1", 11);
        last.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        store.reply(last);
        assert_eq!(version(&store, "a"), None);
        store.delete(&object("a", "u1", 12));
        check(&log, &["a ->10", "a 10>-"]);
    }

    #[tokio::test]
    async fn a_relist_reports_what_vanished_with_the_last_known_object() {
        let (store, log) = watched();
        for (name, uid) in [("a", "u1"), ("b", "u2"), ("c", "u3")] {
            store.apply(object(name, uid, 5));
        }
        store.relist_begins();
        store.apply(object("a", "u1", 5));
        store.apply(object("c", "u4", 9));
        assert!(store.relist_ends().is_empty());
        check(&log, &["a ->5", "b ->5", "c ->5", "c 5>9", "b 5>-"]);
        store.reply(object("b", "u2", 6));
        assert_eq!(version(&store, "b"), None, "vanished is as final as deleted");
    }

    #[tokio::test]
    async fn a_restored_server_moves_the_cache_back_and_raises_what_was_deleted() {
        let (store, log) = watched();
        store.apply(object("a", "u1", 9));
        store.apply(object("b", "u2", 8));
        store.delete(&object("b", "u2", 10));
        store.relist_begins();
        store.apply(object("a", "u1", 5));
        store.apply(object("b", "u2", 4));
        assert!(store.relist_ends().is_empty());
        check(&log, &["a ->9", "b ->8", "b 8>-", "a 9>5", "b ->4"]);
        // What a reply says while the list is read stays: the list may be from before it.
        store.relist_begins();
        store.reply(object("a", "u1", 6));
        store.deleted(&Key::new("ns", "b"), Some("u2"));
        store.apply(object("a", "u1", 5));
        store.apply(object("b", "u2", 4));
        assert!(store.relist_ends().is_empty());
        check(&log, &["a ->9", "b ->8", "b 8>-", "a 9>5", "b ->4", "a 5>6", "b 4>-"]);
    }

    #[tokio::test]
    async fn a_relist_does_not_judge_what_a_reply_brought_meanwhile() {
        let (store, log) = watched();
        store.relist_begins();
        store.reply(object("new", "u1", 7));
        assert_eq!(store.relist_ends(), [Key::new("ns", "new")]);
        assert_eq!(version(&store, "new").as_deref(), Some("7"));
        check(&log, &["new ->7"]);
    }

    #[tokio::test]
    async fn a_selective_store_takes_replies_only_for_what_it_knows() {
        let store: Store<ConfigMap> = Store::new(true, None);
        store.reply(object("a", "u1", 5));
        assert!(store.is_empty());
        store.apply(object("a", "u1", 5));
        store.delete(&object("a", "u1", 6));
        store.apply(object("a", "u1", 7));
        assert_eq!(version(&store, "a").as_deref(), Some("7"), "it left the selection and came back");
    }

    #[tokio::test]
    async fn a_part_of_an_index_goes_round() {
        let (store, _) = watched();
        store.index("all", |_| vec!["all".to_owned()]);
        let some = |from, most| -> String {
            store.some_by_index("all", "all", from, most).iter().filter_map(|o| o.metadata.name.clone()).collect()
        };
        assert_eq!((some(7, 2), store.count("all", "all")), (String::new(), 0));
        for name in ["a", "b", "c", "d"] {
            store.apply(object(name, name, 1));
        }
        assert_eq!([some(0, 2), some(3, 2), some(6, 9), some(1, 0)], ["ab", "da", "cdab", ""]);
        assert_eq!(store.count("all", "all"), 4);
    }

    #[tokio::test]
    async fn indexes_follow_every_change() {
        let (store, _) = watched();
        store.apply(object("early", "u0", 1));
        store.index("uid", |o| o.metadata.uid.iter().cloned().collect());
        let names = |value: &str| -> Vec<_> {
            store.by_index("uid", value).iter().filter_map(|o| o.metadata.name.clone()).collect()
        };
        assert_eq!(names("u0"), ["early"]);
        store.apply(object("a", "u1", 2));
        store.apply(object("a", "u2", 3));
        assert!(names("u1").is_empty());
        assert_eq!(names("u2"), ["a"]);
        store.delete(&object("a", "u2", 4));
        assert!(names("u2").is_empty());
    }
}
