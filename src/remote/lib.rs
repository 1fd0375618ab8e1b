//! Connections to workload clusters: one per Cluster, made when first asked for, kept by a task of its own.
//!
//! [`Workloads::connect`] answers at once: with the connection, or with why there is none. Meanwhile the cluster's task reads
//! the kubeconfig, probes the API server and watches its Nodes; when it succeeds, and at every change of a Node, it puts
//! the keys that were asked for into their queues, so nobody has to ask again to find out. "Not connected" is an outcome and never
//! an error, and nothing that deletes may depend on a connection (K-174 to K-176).
//!
//! Kubeconfigs are given by whoever may write a Secret: those that would run a program or read a file of ours are refused.

mod kubeconfig;
mod workload;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::Node;
use capm3_runtime::{Change, Dice, Hub, HubOptions, Key, Metrics, Queue, Reader, Tasks, Trouble, WatchOptions, chain};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use kubeconfig::Kubeconfig;
pub use workload::Workload;

const PROBE_DEADLINE: Duration = Duration::from_secs(5);
const PROBE_PERIOD: Duration = Duration::from_secs(60);
const SYNC_DEADLINE: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// While the API server cannot be reached, the Secret is looked at again this often.
const REREAD_AFTER: Duration = Duration::from_secs(60);
/// A watch that failed this often in a row has lost its server.
const FAILURES_LOST: u32 = 3;

/// Whether there is a connection now.
#[derive(Clone)]
pub enum Outcome {
    Connected(Workload),
    NotConnected(Reason),
}

/// Why there is no connection (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The first attempt is under way.
    Connecting,
    NoKubeconfig,
    /// The kubeconfig is there and cannot or must not be used.
    Refused(String),
    Unreachable(String),
    Unauthorized,
    /// The credentials are accepted and do not allow to look at Nodes.
    Forbidden,
    /// The Secret could not be read.
    Unreadable(String),
}

impl Reason {
    /// Safety net for who waits: the connection itself wakes its routes.
    pub const RETRY: Duration = Duration::from_secs(30);
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting to the workload cluster"),
            Self::NoKubeconfig => f.write_str("the kubeconfig Secret does not exist yet"),
            Self::Refused(why) => write!(f, "the kubeconfig is refused: {why}"),
            Self::Unreachable(why) => write!(f, "the workload cluster cannot be reached: {why}"),
            Self::Unauthorized => f.write_str("the workload cluster does not accept the kubeconfig's credentials"),
            Self::Forbidden => f.write_str("the kubeconfig's credentials do not allow to look at Nodes"),
            Self::Unreadable(why) => write!(f, "the kubeconfig Secret cannot be read: {why}"),
        }
    }
}

/// What routes are told about a workload cluster.
pub enum News<'a> {
    Connected,
    Node(&'a Change<Node>),
}

/// How a client is made of a kubeconfig: by a simulation whose clusters are in the process.
pub type Dial = Arc<dyn Fn(&kube::Config) -> kube::Client + Send + Sync>;

type Route = Arc<dyn Fn(&Key, &News<'_>) + Send + Sync>;

/// All connections; clones share them.
#[derive(Clone)]
pub struct Workloads {
    shared: Arc<Shared>,
}

struct Shared {
    reader: Reader,
    tasks: Tasks,
    metrics: Metrics,
    dice: Arc<dyn Dice>,
    user_agent: String,
    dial: Option<Dial>,
    clusters: Mutex<BTreeMap<Key, Cluster>>,
    routes: RwLock<Vec<Route>>,
}

struct Cluster {
    state: State,
    tasks: Tasks,
}

#[derive(Clone)]
enum State {
    Connected(Workload),
    /// A task is trying.
    Trying(Reason),
    /// No task is left; the next question starts one.
    Ended(Reason),
}

impl Workloads {
    pub fn new(reader: Reader, user_agent: String, dice: Arc<dyn Dice>, metrics: Metrics, tasks: Tasks) -> Self {
        Self::dialling(reader, user_agent, dice, metrics, tasks, None)
    }

    /// As [`Self::new`], with another way to make clients.
    pub fn dialling(
        reader: Reader,
        user_agent: String,
        dice: Arc<dyn Dice>,
        metrics: Metrics,
        tasks: Tasks,
        dial: Option<Dial>,
    ) -> Self {
        let (clusters, routes) = (Mutex::default(), RwLock::default());
        Self { shared: Arc::new(Shared { reader, tasks, metrics, dice, user_agent, dial, clusters, routes }) }
    }

    /// Sends the keys that `keys` makes of news about any cluster (named by the first argument) to the queue. News of a Node
    /// is a change of its labels, providerID, uid, readiness or existence; heartbeats are not.
    pub fn route(&self, queue: &Queue, keys: impl Fn(&Key, &News<'_>) -> Vec<Key> + Send + Sync + 'static) {
        let queue = queue.clone();
        self.shared.routes.write().push(Arc::new(move |cluster, news| {
            for key in keys(cluster, news) {
                queue.add(key);
            }
        }));
    }

    /// The connection to the cluster of this key, or why there is none; asking is what makes it.
    pub fn connect(&self, cluster: &Key) -> Outcome {
        let mut clusters = self.shared.clusters.lock();
        match clusters.get(cluster).map(|known| known.state.clone()) {
            Some(State::Connected(workload)) => Outcome::Connected(workload),
            Some(State::Trying(reason)) => Outcome::NotConnected(reason),
            Some(State::Ended(reason)) => {
                self.start(&mut clusters, cluster, reason.clone());
                Outcome::NotConnected(reason)
            }
            None => {
                self.start(&mut clusters, cluster, Reason::Connecting);
                Outcome::NotConnected(Reason::Connecting)
            }
        }
    }

    /// Ends the connection of a cluster that is gone.
    pub fn forget(&self, cluster: &Key) {
        if let Some(known) = self.shared.clusters.lock().remove(cluster) {
            known.tasks.stop();
        }
    }

    fn start(&self, clusters: &mut BTreeMap<Key, Cluster>, key: &Key, reason: Reason) {
        let tasks = self.shared.tasks.child();
        clusters.insert(key.clone(), Cluster { state: State::Trying(reason), tasks: tasks.clone() });
        let keeper = Keeper {
            shared: self.shared.clone(),
            cluster: key.clone(),
            tasks: tasks.clone(),
            nodes: Vec::new(),
            pause: FIRST_RETRY,
        };
        self.shared.tasks.spawn_finite(async move {
            let stop = tasks.stopping();
            stop.run_until_cancelled(keeper.run()).await;
            tasks.stop();
            tasks.drained(PROBE_DEADLINE).await;
        });
    }
}

impl Shared {
    fn tell(&self, cluster: &Key, news: &News<'_>) {
        let routes = self.routes.read().clone();
        for route in routes {
            route(cluster, news);
        }
    }

    /// Unless the cluster was forgotten, and perhaps asked for again, meanwhile.
    fn set(&self, cluster: &Key, tasks: &Tasks, state: State) {
        if tasks.stopping().is_cancelled() {
            return;
        }
        if let Some(known) = self.clusters.lock().get_mut(cluster) {
            let up = f64::from(u8::from(matches!(state, State::Connected(_))));
            let help = "Whether the connection to a workload cluster is up.";
            let labels = [("cluster_namespace", cluster.namespace.as_str()), ("cluster_name", cluster.name.as_str())];
            self.metrics.gauge("capi_cluster_cache_connection_up", help, &labels).set(up);
            known.state = state;
        }
    }
}

/// The task of one cluster.
struct Keeper {
    shared: Arc<Shared>,
    cluster: Key,
    tasks: Tasks,
    /// The Nodes of the connection before: what a new one does not show is reported as deleted.
    nodes: Vec<Arc<Node>>,
    pause: Duration,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let kubeconfig = match Kubeconfig::read(&self.shared.reader, &self.cluster).await {
                Ok(kubeconfig) => kubeconfig,
                Err(reason) => {
                    tracing::debug!(cluster = %self.cluster, %reason, "no connection to the workload cluster");
                    return self.shared.set(&self.cluster, &self.tasks, State::Ended(reason));
                }
            };
            self.with(kubeconfig).await;
        }
    }

    /// Connects with this kubeconfig and keeps the connection; returns when the Secret should be read again.
    async fn with(&mut self, kubeconfig: Kubeconfig) {
        let read = Instant::now();
        while read.elapsed() < REREAD_AFTER {
            match self.attempt(&kubeconfig).await {
                Ok((workload, tasks, trouble)) => {
                    self.pause = FIRST_RETRY;
                    self.keep(workload, &trouble).await;
                    tasks.stop();
                    return;
                }
                Err(reason) => {
                    let renewed = reason == Reason::Unauthorized; // probably: then the Secret has other credentials
                    self.lost(reason);
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_RETRY);
                    if renewed {
                        return;
                    }
                }
            }
        }
    }

    async fn attempt(&mut self, kubeconfig: &Kubeconfig) -> Result<(Workload, Tasks, Arc<Mutex<Fault>>), Reason> {
        let client =
            kubeconfig.client(&self.shared.user_agent, &self.shared.metrics, self.shared.dial.as_ref()).await?;
        workload::probe(&client, PROBE_DEADLINE).await?;

        let fault = Arc::new(Mutex::new(Fault::default()));
        let told = fault.clone();
        let on_trouble = move |trouble: Trouble| {
            let mut fault = told.lock();
            if matches!(trouble.code, Some(401 | 403)) || trouble.failures >= FAILURES_LOST {
                fault.seen = Some(trouble);
                fault.bell.notify_one();
            }
        };
        let options = HubOptions {
            namespace: None,
            metrics: self.shared.metrics.clone(),
            dice: self.shared.dice.clone(),
            on_trouble: Some(Arc::new(on_trouble)),
        };
        let hub = Hub::new(client, options);
        let store = hub.store::<Node>(WatchOptions::default());
        workload::index(&store);
        // The connections hold this hub: held by it in turn, neither would ever go.
        let (shared, cluster) = (Arc::downgrade(&self.shared), self.cluster.clone());
        hub.observe(&store, move |change| {
            if workload::is_news(change)
                && let Some(shared) = shared.upgrade()
            {
                shared.tell(&cluster, &News::Node(change));
            }
        });
        let tasks = self.tasks.child();
        hub.start(&tasks);
        if tokio::time::timeout(SYNC_DEADLINE, listed(&hub, &fault)).await != Ok(true) {
            tasks.stop();
            let forbidden = fault.lock().seen.is_some_and(|trouble| trouble.code == Some(403));
            let unreachable = || Reason::Unreachable("its Nodes cannot be listed".into());
            return Err(if forbidden { Reason::Forbidden } else { unreachable() });
        }
        Ok((Workload::new(&hub, store), tasks, fault))
    }

    /// Holds the connection until the watch or the probe loses its server.
    async fn keep(&mut self, workload: Workload, fault: &Mutex<Fault>) {
        tracing::info!(cluster = %self.cluster, "connected to the workload cluster");
        self.shared.set(&self.cluster, &self.tasks, State::Connected(workload.clone()));
        for gone in std::mem::take(&mut self.nodes) {
            let key = capm3_runtime::key_of(&*gone);
            if workload.nodes().get(&key).is_none() {
                self.shared.tell(&self.cluster, &News::Node(&Change { old: Some(gone), new: None }));
            }
        }
        self.shared.tell(&self.cluster, &News::Connected);

        let bell = fault.lock().bell.clone();
        let mut failures = 0;
        let reason = loop {
            tokio::select! {
                biased; // so that a run can be repeated
                () = bell.notified() => {
                    break match fault.lock().seen.and_then(|trouble| trouble.code) {
                        Some(401) => Reason::Unauthorized,
                        Some(403) => Reason::Forbidden,
                        _ => Reason::Unreachable("the watch broke".into()),
                    };
                }
                () = tokio::time::sleep(PROBE_PERIOD) => {
                    match workload::probe(workload.client(), PROBE_DEADLINE).await {
                        Ok(()) => failures = 0,
                        Err(Reason::Unauthorized) => break Reason::Unauthorized,
                        Err(reason) => {
                            failures += 1;
                            if failures >= FAILURES_LOST {
                                break reason;
                            }
                        }
                    }
                }
            }
        };
        self.nodes = workload.nodes().all();
        tracing::info!(cluster = %self.cluster, %reason, "lost the workload cluster");
        self.lost(reason);
    }

    fn lost(&self, reason: Reason) {
        tracing::debug!(cluster = %self.cluster, %reason, "no connection to the workload cluster");
        self.shared.set(&self.cluster, &self.tasks, State::Trying(reason));
    }
}

/// Whether the first list came; false as soon as it will not.
async fn listed(hub: &Hub, fault: &Mutex<Fault>) -> bool {
    let bell = fault.lock().bell.clone();
    tokio::select! {
        biased;
        () = hub.wait_synced() => true,
        () = bell.notified() => false,
    }
}

#[derive(Default)]
struct Fault {
    seen: Option<Trouble>,
    bell: Arc<Notify>,
}

/// The words of an error that may be shown: kube's errors name no credentials.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error)
}
