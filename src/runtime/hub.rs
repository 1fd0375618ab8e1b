//! One watch per kind, and who is told about what.
//!
//! kube's `watcher` lists and watches; everything after it is ours: objects are parsed behind an error boundary (one that does
//! not parse is logged, counted and left out, and the watch goes on), pruned on arrival, put into an ordered [`Store`], and
//! their changes routed to the queues that asked. A kind that the API server does not serve yet is asked for again every ten
//! seconds while all others go on (P-12, K-96).

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::{Dice, SystemDice};
use crate::controller::chain;
use crate::metrics::Metrics;
use crate::object::{Key, Kind, Object};
use crate::queue::Queue;
use crate::read::Reader;
use crate::store::{Change, Standing, Store};
use crate::tasks::Tasks;

const PAGE: u32 = 500;
const MISSING_RETRY: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What one watch asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// Narrower than the hub's own namespace, if any.
    pub namespace: Option<String>,
    /// The kind may be absent for good: nobody waits for it.
    pub optional: bool,
    /// All namespaces, or none: what the hub is restricted to does not apply.
    pub everywhere: bool,
    /// Nobody waits for this watch, whatever keeps it from its first list.
    pub in_background: bool,
}

impl WatchOptions {
    pub fn optional() -> Self {
        Self { optional: true, ..Self::default() }
    }

    fn selects_as(&self, other: &Self) -> bool {
        let selection =
            |o: &Self| (o.label_selector.clone(), o.field_selector.clone(), o.namespace.clone(), o.everywhere);
        selection(self) == selection(other)
    }
}

#[derive(Clone)]
pub struct HubOptions {
    /// Restricts every watch to one namespace, except those that are for everywhere.
    pub namespace: Option<String>,
    pub metrics: Metrics,
    pub dice: Arc<dyn Dice>,
    /// Told about every error of a watch, for who must give up a connection.
    pub on_trouble: Option<Arc<dyn Fn(Trouble) + Send + Sync>>,
}

/// A watch that does not get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The status code, when the server answered.
    pub code: Option<u16>,
    /// Errors in a row, this one included.
    pub failures: u32,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self { namespace: None, metrics: Metrics::new(), dice: Arc::new(SystemDice), on_trouble: None }
    }
}

/// Clones share the hub.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    options: HubOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watches: Vec<Watch>,
    tasks: Option<Tasks>,
}

struct Watch {
    kind: Kind,
    options: WatchOptions,
    store: Box<dyn Any + Send + Sync>,
    face: Arc<dyn Face>,
}

impl Watch {
    fn is_needed(&self) -> bool {
        !self.options.optional && !self.options.in_background
    }
}

/// What the hub does with a store whose type it has forgotten.
trait Face: Send + Sync {
    fn reply(&self, object: &str);
    fn deleted(&self, key: &Key, uid: Option<&str>);
    fn standing(&self) -> tokio::sync::watch::Receiver<Standing>;
    fn resync(&self);
    fn start(&self, client: &Client, options: &HubOptions, tasks: &Tasks);
}

struct Informer<K> {
    store: Store<K>,
    kind: Kind,
    options: WatchOptions,
}

impl Hub {
    pub fn new(client: Client, options: HubOptions) -> Self {
        Self { shared: Arc::new(Shared { client, options, state: Mutex::default() }) }
    }

    /// Declares the watch of a kind and returns its cache. The same kind with the same options is watched once.
    pub fn store<K: Object>(&self, options: WatchOptions) -> Store<K> {
        let kind = Kind::of::<K>();
        let mut state = self.shared.state.lock();
        for watch in state.watches.iter_mut().filter(|watch| watch.options.selects_as(&options)) {
            if let Some(store) = watch.store.downcast_ref::<Store<K>>() {
                watch.options.optional &= options.optional; // needed if anyone needs it
                watch.options.in_background &= options.in_background;
                return store.clone();
            }
        }
        if state.watches.iter().any(|watch| watch.kind.same_objects(&kind) && watch.options.selects_as(&options)) {
            tracing::warn!(%kind, "a kind is watched twice through different views");
        }
        let selective = options.label_selector.is_some() || options.field_selector.is_some();
        let namespace = options.namespace.clone().or_else(|| self.shared.options.namespace.clone());
        let namespace = namespace.filter(|_| !options.everywhere);
        let store = Store::new(selective, namespace);
        let informer = Informer { store: store.clone(), kind: kind.clone(), options: options.clone() };
        let face: Arc<dyn Face> = Arc::new(informer);
        let watch = Watch { kind, options, store: Box::new(store.clone()), face: face.clone() };
        state.watches.push(watch);
        if let Some(tasks) = &state.tasks {
            face.start(&self.shared.client, &self.shared.options, tasks);
        }
        store
    }

    /// Sends the keys that `keys` makes of each change to the queue, and of every object that is known already.
    pub fn route<K: Object>(
        &self,
        store: &Store<K>,
        queue: &Queue,
        keys: impl Fn(&Change<K>) -> Vec<Key> + Send + Sync + 'static,
    ) {
        let queue = queue.clone();
        store.subscribe(move |change, resync| {
            for key in keys(change) {
                if resync { queue.add_resync(key) } else { queue.add(key) }
            }
        });
    }

    /// Calls `observer` for every change, and now for everything that is known already.
    pub fn observe<K: Object>(&self, store: &Store<K>, observer: impl Fn(&Change<K>) + Send + Sync + 'static) {
        store.subscribe(move |change, _| observer(change));
    }

    /// Starts every declared watch; those declared later start at once.
    pub fn start(&self, tasks: &Tasks) {
        let mut state = self.shared.state.lock();
        if state.tasks.is_some() {
            return;
        }
        state.tasks = Some(tasks.clone());
        for watch in &state.watches {
            watch.face.start(&self.shared.client, &self.shared.options, tasks);
        }
    }

    /// Shows every cached object to its routes again, every `period`: the safety net under the watches.
    pub fn spawn_resync(&self, period: Duration, tasks: &Tasks) {
        let (hub, stop) = (self.clone(), tasks.stopping());
        tasks.spawn("resync", async move {
            while stop.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
                for face in hub.faces() {
                    face.resync();
                }
            }
        });
    }

    /// Ends when every watch has read its first list; optional kinds may be missing instead.
    pub async fn wait_synced(&self) {
        let state: Vec<_> = {
            let state = self.shared.state.lock();
            let awaited = state.watches.iter().filter(|watch| !watch.options.in_background);
            awaited.map(|watch| (watch.options.optional, watch.face.standing())).collect()
        };
        for (optional, mut standing) in state {
            let enough = |s: &Standing| *s == Standing::Synced || optional && *s == Standing::Missing;
            if standing.wait_for(enough).await.is_err() {
                return;
            }
        }
    }

    pub fn is_synced(&self) -> bool {
        let state = self.shared.state.lock();
        state.watches.iter().all(|w| {
            let standing = *w.face.standing().borrow();
            standing == Standing::Synced
                || w.options.in_background
                || w.options.optional && standing == Standing::Missing
        })
    }

    /// The kinds the API server does not serve, as `Kind.group/version`, in order.
    pub fn missing(&self) -> Vec<String> {
        self.kinds_where(|watch, standing| standing == Standing::Missing && watch.is_needed())
    }

    /// The kinds that [`Hub::wait_synced`] still waits for.
    pub fn waiting_for(&self) -> Vec<String> {
        self.kinds_where(|watch, standing| standing != Standing::Synced && watch.is_needed())
    }

    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    fn kinds_where(&self, pick: impl Fn(&Watch, Standing) -> bool) -> Vec<String> {
        let state = self.shared.state.lock();
        let picked = state.watches.iter().filter(|watch| pick(watch, *watch.face.standing().borrow()));
        let mut kinds: Vec<_> = picked.map(|watch| watch.kind.to_string()).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    fn faces(&self) -> Vec<Arc<dyn Face>> {
        self.shared.state.lock().watches.iter().map(|w| w.face.clone()).collect()
    }

    fn faces_of(&self, kind: &Kind) -> Vec<Arc<dyn Face>> {
        let state = self.shared.state.lock();
        state.watches.iter().filter(|w| w.kind == *kind).map(|w| w.face.clone()).collect()
    }

    /// A write was answered with this object.
    pub(crate) fn reply(&self, kind: &Kind, object: &str) {
        for face in self.faces_of(kind) {
            face.reply(object);
        }
    }

    /// A delete was answered with success.
    pub(crate) fn deleted(&self, kind: &Kind, key: &Key, uid: Option<&str>) {
        for face in self.faces_of(kind) {
            face.deleted(key, uid);
        }
    }
}

impl<K: Object> Face for Informer<K> {
    fn reply(&self, object: &str) {
        match serde_json::from_str::<K>(object) {
            Ok(object) => self.store.reply(pruned(object)),
            Err(error) => tracing::warn!(kind = %self.kind, %error, "reply of a write does not parse"),
        }
    }

    fn deleted(&self, key: &Key, uid: Option<&str>) {
        self.store.deleted(key, uid);
    }

    fn standing(&self) -> tokio::sync::watch::Receiver<Standing> {
        self.store.standing()
    }

    fn resync(&self) {
        self.store.resync();
    }

    fn start(&self, client: &Client, options: &HubOptions, tasks: &Tasks) {
        let watcher = Watcher {
            store: self.store.clone(),
            kind: self.kind.clone(),
            options: self.options.clone(),
            client: client.clone(),
            metrics: options.metrics.clone(),
            dice: options.dice.clone(),
            on_trouble: options.on_trouble.clone(),
        };
        let stop = tasks.stopping();
        tasks.spawn("watch", async move {
            stop.run_until_cancelled(watcher.run()).await;
        });
    }
}

struct Watcher<K: Object> {
    store: Store<K>,
    kind: Kind,
    options: WatchOptions,
    client: Client,
    metrics: Metrics,
    dice: Arc<dyn Dice>,
    on_trouble: Option<Arc<dyn Fn(Trouble) + Send + Sync>>,
}

impl<K: Object> Drop for Watcher<K> {
    fn drop(&mut self) {
        self.store.unsubscribe();
    }
}

impl<K: Object> Watcher<K> {
    async fn run(self) {
        let resource = ApiResource {
            group: self.kind.group.clone(),
            version: self.kind.version.clone(),
            api_version: self.kind.api_version(),
            kind: self.kind.kind.clone(),
            plural: self.kind.plural.clone(),
        };
        let api: Api<Guarded<K>> = match &self.store.shared.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let config = watcher::Config {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            page_size: Some(PAGE),
            ..watcher::Config::default()
        };
        let unparsed = self.unparsed();
        let mut failures = 0;
        // A kind that is not served is listed anew when it comes (back): where its watch had got to means nothing then.
        loop {
            let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
            let mut served = true;
            while served && let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        if !matches!(event, watcher::Event::Init) {
                            failures = 0; // `Init` announces a list that has not been read yet
                        }
                        self.handle(event, &unparsed).await;
                    }
                    Err(error) => {
                        let pause = self.after_error(&error, failures);
                        failures += 1;
                        served = !self.store.is_missing();
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
    }

    async fn handle(&self, event: watcher::Event<Guarded<K>>, unparsed: &crate::metrics::Counter) {
        match event {
            watcher::Event::Init => self.store.relist_begins(),
            watcher::Event::InitApply(Guarded::Whole(object)) | watcher::Event::Apply(Guarded::Whole(object)) => {
                self.store.apply(*object);
            }
            watcher::Event::Delete(Guarded::Whole(object)) => self.store.delete(&object),
            watcher::Event::InitApply(Guarded::Broken { meta, error })
            | watcher::Event::Apply(Guarded::Broken { meta, error }) => {
                unparsed.inc();
                let (namespace, name) = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
                tracing::warn!(kind = %self.kind, namespace, name, error, "object does not parse and is left out");
            }
            watcher::Event::Delete(Guarded::Broken { meta, error: _ }) => {
                let key = Key::new(meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
                self.store.deleted(&key, meta.uid.as_deref());
            }
            watcher::Event::InitDone => {
                let doubtful = self.store.relist_ends();
                let reader = Reader::new(self.client.clone());
                for key in doubtful {
                    match reader.get::<K>(&key).await {
                        Ok(Some(object)) => self.store.apply(pruned(object)),
                        Ok(None) => self.store.deleted(&key, None),
                        Err(error) => {
                            tracing::warn!(kind = %self.kind, %key, error = chain(&error), "cannot read back")
                        }
                    }
                }
                self.store.stand(Standing::Synced);
            }
        }
    }

    /// How long to wait before the watcher goes on.
    fn after_error(&self, error: &watcher::Error, failures: u32) -> Duration {
        let status = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => Some(status),
            watcher::Error::InitialListFailed(_)
            | watcher::Error::WatchStartFailed(_)
            | watcher::Error::WatchFailed(_)
            | watcher::Error::NoResourceVersion => None,
        };
        let code = status.map(|status| status.code);
        if let Some(on_trouble) = &self.on_trouble {
            on_trouble(Trouble { code, failures: failures.saturating_add(1) });
        }
        match code {
            Some(404) => {
                if !self.store.is_missing() {
                    tracing::debug!(kind = %self.kind, "the API server does not serve this kind");
                }
                self.store.stand(Standing::Missing);
                return MISSING_RETRY;
            }
            Some(410) => tracing::debug!(kind = %self.kind, "watch fell behind, listing again"),
            _ if failures.is_power_of_two() => {
                tracing::warn!(kind = %self.kind, error = chain(error), failures, "watch interrupted");
            }
            _ => tracing::debug!(kind = %self.kind, error = chain(error), "watch interrupted"),
        }
        let pause = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LONGEST_RETRY);
        let jitter = pause.mul_f64((self.dice.roll() % 1000) as f64 / 2000.0);
        (pause + jitter).min(LONGEST_RETRY)
    }

    fn unparsed(&self) -> crate::metrics::Counter {
        let labels = [("kind", self.kind.kind.as_str())];
        self.metrics.counter("capm3_watch_unparsable_objects_total", "Objects left out of a cache.", &labels)
    }
}

/// An object, or what can be said about one that does not parse. A list or a watch never fails because of one object.
#[derive(Clone, Debug)]
enum Guarded<K> {
    Whole(Box<K>),
    Broken { meta: Box<ObjectMeta>, error: String },
}

impl<'de, K: Object> Deserialize<'de> for Guarded<K> {
    /// Through the raw text, so that fields the view does not name are skipped and never built.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Metadata {
            metadata: Box<ObjectMeta>,
        }
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str::<K>(raw.get()) {
            Ok(object) => Ok(Self::Whole(Box::new(pruned(object)))),
            Err(error) => {
                let Metadata { metadata: mut meta } =
                    serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
                meta.managed_fields = None;
                Ok(Self::Broken { meta, error: error.to_string() })
            }
        }
    }
}

fn pruned<K: Object>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

impl<K: Object> kube::Resource for Guarded<K> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.kind)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.group)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.version)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.plural)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Whole(object) => object.meta(),
            Self::Broken { meta, .. } => meta,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Whole(object) => object.meta_mut(),
            Self::Broken { meta, .. } => meta,
        }
    }
}
