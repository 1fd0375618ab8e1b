//! An API server in the process, well enough that a provider cannot tell.
//!
//! A [`Server`] is state behind one lock and a [`tower::Service`](Connection) in front of it; a [`kube::Client`] is built over that, so
//! hub, writers and controllers run unchanged. It follows kube-apiserver 1.36, and the conformance suite in `tests/` asks both the
//! same questions. One thread and one seed give the same answers: maps are ordered, uids and generated names come from the seed, time
//! from a [`Clock`] and from tokio, which tests pause.
//!
//! Faults are not in here. They come in at a [`Seam`] around every request and at every event of a watch. What controllers of a
//! real cluster do by themselves (garbage collection, the end of namespaces) is done when [`Server::settle`] says so.
//!
//! The parts: [`store`] keeps objects and their history, [`kinds`] says what is served, [`call`] reads a request, [`object`] brings what was
//! sent into form, `write`, `delete`, `read` and `watch` carry it out, `admission` asks webhooks, `rbac` says no.
//!
//! Missing on purpose or for now:
//! - managed fields that a client sends: they are dropped on arrival; tables, protobuf, YAML (but for applies) and CBOR bodies
//! - schemas with `oneOf`, `anyOf`, `allOf`, `not`, `multipleOf`, embedded resources or CEL rules are refused when they are defined; defaults are put in
//!   when an object is written, not when it is read
//! - `fieldValidation=Strict` of patches, the warnings about unknown fields, deprecated versions and odd finalizers
//! - strategic merge patches of lists other than metadata's and those of Nodes; `$retainKeys` and `$setElementOrder` are ignored
//! - `matchConditions` and reinvocation of webhooks; nobody is asked when the collector or the end of a namespace deletes
//! - kinds of the core beyond what providers and their tests touch; `scale`, `finalize`, `token` and `approval` subresources; Pods, and with
//!   them deletes that wait for a grace period
//! - authentication: a client is who it says it is, and administrators may impersonate; access reviews; aggregated ClusterRoles
//! - a definition is served at once and its objects go at once with it, without the finalizer of the real server; a changed storage
//!   version is not migrated
//! - request timeouts, priority and fairness, audit

mod admission;
mod builtin;
mod call;
mod clock;
mod delete;
mod discovery;
mod gc;
mod install;
mod kinds;
mod listen;
mod managed;
mod meta;
mod names;
mod object;
mod patch;
mod rbac;
mod read;
mod schema;
mod seam;
mod selector;
mod service;
mod status;
mod store;
mod trace;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use capm3_runtime::Clock;
use kube::Client;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::Notify;

pub use admission::{Hooks, NoHooks};
pub use call::{Call, Fence, User, Verb};
pub use clock::VirtualClock;
pub use install::{Routers, cluster_api, definitions, hosts, manifests, providers};
pub use kinds::Service;
pub use rbac::{Right, Rights};
pub use seam::{Calm, EventFate, Fate, Outcome, Passing, Seam};
pub use service::Connection;
pub use status::Refusal;

use kinds::{Kinds, View};
use store::{Object, Store};
use trace::Trace;

/// What a server is made with.
pub struct Options {
    /// Makes uids, generated names and the length of watches.
    pub seed: u64,
    pub clock: Arc<dyn Clock>,
    pub hooks: Arc<dyn Hooks>,
    /// Changes remembered for watches and continued lists.
    pub history: usize,
    /// Keep the trace as text, not only its hash.
    pub keep_trace: bool,
    /// Who owns a field is counted from an object's creation on, as in every real cluster, and not only from its first apply on. Costs
    /// time and memory at every write.
    pub track_on_create: bool,
}

impl Options {
    pub fn new(seed: u64, clock: Arc<dyn Clock>) -> Self {
        Self { seed, clock, hooks: Arc::new(NoHooks), history: 100_000, keep_trace: false, track_on_create: false }
    }
}

/// One accepted write, as observers see it.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    pub revision: u64,
    /// Who wrote; its `resource` and `verb` say what.
    pub call: &'a Call,
    pub old: Option<&'a Arc<Value>>,
    /// `None`: it is gone.
    pub new: Option<&'a Arc<Value>>,
}

type Observer = Arc<dyn Fn(&Change<'_>) + Send + Sync>;

/// Clones share the server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    clock: Arc<dyn Clock>,
    hooks: Arc<dyn Hooks>,
    track_on_create: bool,
    seam: RwLock<Arc<dyn Seam>>,
    observers: Mutex<Vec<Observer>>,
    /// Of the version that it says it has.
    minor: Mutex<String>,
    /// Wakes the watches of a kind in the order in which they wait: tokio's other channels wake in an order of chance.
    news: Mutex<BTreeMap<Arc<str>, Arc<Notify>>>,
}

/// Everything that changes.
struct World {
    store: Store,
    kinds: Kinds,
    /// What roles and bindings say, as far as anybody has asked.
    access: rbac::Access,
    /// What the stored configurations say, once anybody has asked.
    webhooks: Option<Arc<Vec<admission::Webhook>>>,
    rng: fastrand::Rng,
    calls: u64,
    /// Counts restarts: watches do not outlive one.
    epoch: u64,
    trace: Trace,
}

/// A saved state, to be restored later.
pub struct Backup {
    store: Store,
    kinds: Kinds,
}

/// How far a restored server goes ahead of what anybody knows of.
const BUMP: u64 = 1_000;

impl Server {
    /// With the namespaces that every cluster has.
    pub fn new(options: Options) -> Self {
        let Options { seed, clock, hooks, history, keep_trace, track_on_create } = options;
        let world = World {
            store: Store::new(history),
            kinds: Kinds::default(),
            access: rbac::Access::default(),
            webhooks: None,
            rng: fastrand::Rng::with_seed(seed),
            calls: 0,
            epoch: 0,
            trace: Trace::new(keep_trace),
        };
        let shared = Shared {
            world: Mutex::new(world),
            clock,
            hooks,
            track_on_create,
            seam: RwLock::new(Arc::new(Calm)),
            observers: Mutex::default(),
            minor: Mutex::new("36".to_owned()),
            news: Mutex::default(),
        };
        let server = Self { shared: Arc::new(shared) };
        server.bootstrap();
        server
    }

    /// A server that begins with what another had saved: everything installed, without the time that takes.
    pub fn from_backup(options: Options, backup: &Backup) -> Self {
        // The same seed may have made what was saved: no uid of it is given again.
        let seed = options.seed ^ backup.store.revision().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let server = Self::new(Options { seed, ..options });
        server.restore(backup);
        server
    }

    fn bootstrap(&self) {
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            self.shared.bootstrap_namespace(name);
        }
    }

    /// The server as this user sees it, for who needs the service itself.
    pub fn connection(&self, user: User) -> Connection {
        Connection { shared: self.shared.clone(), user: Arc::new(user) }
    }

    /// A client that speaks as this user. Must be called in a runtime.
    pub fn client(&self, user: User) -> Client {
        Client::new(self.connection(user), "default")
    }

    /// From now on faults come from here.
    pub fn set_seam(&self, seam: Arc<dyn Seam>) {
        *self.shared.seam.write() = seam;
    }

    /// Calls `observer` after every accepted write, before the answer leaves. It may read the server and must not write.
    pub fn observe(&self, observer: impl Fn(&Change<'_>) + Send + Sync + 'static) {
        self.shared.observers.lock().push(Arc::new(observer));
    }

    /// What is stored, in the order of kinds and names. `resource` is `plural.group`, or the plural of a core kind.
    pub fn all(&self, resource: &str) -> Vec<Arc<Value>> {
        self.shared.world.lock().store.table(resource).map(|(_, object)| object.value().clone()).collect()
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.shared
            .world
            .lock()
            .store
            .get(resource, &object::path(namespace, name))
            .map(|object| object.value().clone())
    }

    /// Every resource that has or had objects.
    pub fn resources(&self) -> Vec<Arc<str>> {
        self.shared.world.lock().store.resources().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.shared.world.lock().store.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn revision(&self) -> u64 {
        self.shared.world.lock().store.revision()
    }

    /// Forgets all history: watches that are behind and continued lists expire.
    pub fn compact(&self) {
        let mut world = self.shared.world.lock();
        let now = world.store.revision();
        world.store.compact(now);
    }

    /// As [`Self::compact`], after a write that concerns nobody: whoever watches is behind, however much it has seen.
    pub fn expire(&self) {
        {
            let mut world = self.shared.world.lock();
            let next = world.store.revision() + 1;
            world.store.skip_to(next);
        }
        self.compact();
        self.restart();
    }

    /// From now on it says that it is of this minor version.
    pub fn says_version(&self, minor: &str) {
        minor.clone_into(&mut self.shared.minor.lock());
    }

    /// Ends every watch, as a restart of the server does.
    pub fn restart(&self) {
        self.shared.world.lock().epoch += 1;
        self.shared.news.lock().values().for_each(|news| news.notify_waiters());
    }

    pub fn backup(&self) -> Backup {
        let world = self.shared.world.lock();
        Backup { store: world.store.backup(), kinds: world.kinds.clone() }
    }

    /// Back to what was. The revision goes on far ahead and history is gone, as `etcdutl snapshot restore` has it with
    /// `--bump-revision` and `--mark-compacted`: without those every watcher would have to be restarted by hand.
    pub fn restore(&self, backup: &Backup) {
        {
            let mut world = self.shared.world.lock();
            let ahead = world.store.revision().max(backup.store.revision()) + BUMP;
            world.store.restore(&backup.store);
            world.store.skip_to(ahead);
            world.store.compact(ahead);
            world.kinds = backup.kinds.clone();
            world.access.forget();
            world.webhooks = None;
        }
        self.restart();
    }

    /// A hash over every request and its outcome so far.
    pub fn trace_hash(&self) -> u64 {
        self.shared.world.lock().trace.hash()
    }

    /// The requests so far, one a line, when they are kept.
    pub fn trace(&self) -> Vec<String> {
        self.shared.world.lock().trace.lines().to_vec()
    }
}

impl Shared {
    fn seam(&self) -> Arc<dyn Seam> {
        self.seam.read().clone()
    }

    fn next_call(&self) -> u64 {
        let mut world = self.world.lock();
        world.calls += 1;
        world.calls
    }

    fn note(&self, call: &Call, code: u16, wrote: Option<u64>) {
        self.world.lock().trace.note(call, code, wrote);
    }

    /// Tells watches and observers of a write, and what its revision is.
    fn announce(&self, call: &Call, view: &View, old: Option<&Object>, new: Option<&Object>) -> u64 {
        let last = new.or(old);
        let revision = last.map(|object| object.revision()).unwrap_or_default();
        self.news_of(view).notify_waiters();
        let observers = self.observers.lock().clone();
        if observers.is_empty() {
            return revision;
        }
        let (old, new) = (old.map(|object| object.value()), new.map(|object| object.value()));
        let mut call = call.clone();
        // What a create or a collection was about is known only now.
        if let Some(object) = last {
            call.name = meta::name(object).to_owned();
            call.namespace = meta::namespace(object).to_owned();
            call.resource.clone_from(&view.kind.plural);
            call.group.clone_from(&view.kind.group);
        }
        for observer in observers {
            observer(&Change { revision, call: &call, old, new });
        }
        revision
    }

    fn news_of(&self, view: &View) -> Arc<Notify> {
        self.news.lock().entry(view.kind.id.clone()).or_default().clone()
    }

    fn bootstrap_namespace(&self, name: &str) {
        let now = write::stamp(self.clock.now());
        let mut world = self.world.lock();
        let uid = world.next_uid();
        let Some(view) = world.kinds.stored("namespaces") else { return };
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": name, "uid": uid, "creationTimestamp": now,
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        world.put(&view, name, object);
    }
}

impl World {
    /// In the form of a random UUID.
    fn next_uid(&mut self) -> String {
        let random = self.rng.u128(..);
        let hex = format!("{random:032x}");
        let variant = ["8", "9", "a", "b"][self.rng.usize(..4)];
        format!("{}-{}-4{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }

    /// A definition is gone, and all objects of its kind with it.
    fn undefine(&mut self, resource: &str) -> Vec<(View, Object)> {
        let Some(view) = self.kinds.stored(resource) else { return Vec::new() };
        let keys: Vec<Arc<str>> = self.store.table(resource).map(|(key, _)| key.clone()).collect();
        let gone = keys.iter().filter_map(|key| self.store.remove(&view.kind.id, key)).collect::<Vec<_>>();
        self.kinds.remove(resource);
        gone.into_iter().map(|last| (view.clone(), last)).collect()
    }
}
