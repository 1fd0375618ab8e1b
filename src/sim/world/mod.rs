//! A management cluster with its hosts, its workload cluster and its managers, in one thread and in virtual time.
//!
//! A [`World`] begins from a [`Snapshot`], so that what every scenario needs (definitions, hosts that are available, a cluster that
//! is provisioned) is made once and not in every run. All chance comes from its seed and all time from tokio's paused clock: the
//! same seed gives the same trace, byte for byte.

pub mod kinds;

mod hand;
mod process;
mod weather;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capm3_runtime::{Clock, Dice, SeededDice, Tasks};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

pub use hand::{Deed, Hand, Refused, Stuck};
pub use process::{Process, Provider, Surroundings};
pub use weather::Webhooks;

use weather::Fickle;

use crate::host::{Operator, Options as OperatorOptions};
use crate::room::Shelf;
use crate::server::{Backup, Options, Routers, Server, User, VirtualClock, cluster_api, hosts, providers};

/// The namespace in which everything happens unless a scenario wants more.
pub const SITE: &str = "site";

/// When time begins, in seconds since 1970: 2026-08-01T00:00:00Z.
const EPOCH: i64 = 1_785_542_400;

/// A state from which worlds begin. Cheap to begin from: objects are shared until they change.
pub struct Snapshot {
    management: Backup,
    /// Of another management cluster, where there is one.
    second: Option<Backup>,
    workload: Backup,
    now: Timestamp,
}

/// How a world is made.
#[derive(Clone, Default)]
pub struct Settings {
    pub seed: u64,
    pub keep_trace: bool,
    /// How long the host operator's steps take.
    pub timings: crate::host::Timings,
    pub flags: capm3_runtime::Options,
}

pub struct World {
    pub server: Server,
    /// The workload cluster.
    pub workload: Server,
    pub clock: Arc<dyn Clock>,
    pub room: Arc<Shelf>,
    settings: Settings,
    around: Surroundings,
    webhooks: Arc<Mutex<Webhooks>>,
    /// In the order in which they were started; the dead ones too.
    processes: Mutex<Vec<Arc<Process>>>,
    /// The host operators that run.
    operators: Mutex<Vec<Tasks>>,
    second: Option<Box<World>>,
}

impl World {
    /// Everything installed and nothing in it but the namespace [`SITE`]. Must be called in a runtime whose time is paused.
    pub async fn empty(settings: Settings) -> Result<Self, Stuck> {
        let world = Self::with(settings, Timestamp::new(EPOCH, 0).unwrap_or_default(), None);
        let broken = |what: &str, why: String| Stuck::Broken(format!("{what} cannot be installed: {why}"));
        let installed = [("providers", providers()), ("hosts", hosts()), ("Cluster API", Ok(cluster_api()))];
        for (what, objects) in installed {
            let objects = objects.map_err(|error| broken(what, error.to_string()))?;
            world.server.install(objects).await.map_err(|error| broken(what, format!("{error:?}")))?;
        }
        world.hand().create(kinds::NAMESPACE, serde_json::json!({"metadata": {"name": SITE}})).await?;
        Ok(world)
    }

    /// As it was when the snapshot was taken, but that nothing runs yet.
    pub fn begin(snapshot: &Snapshot, settings: Settings) -> Self {
        Self::with(settings, snapshot.now, Some(snapshot))
    }

    fn with(settings: Settings, now: Timestamp, from: Option<&Snapshot>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(now));
        let dice = Arc::new(SeededDice::new(settings.seed));
        let options = |seed| Options { keep_trace: settings.keep_trace, ..Options::new(seed, clock.clone()) };
        let webhooks = Arc::<Mutex<Webhooks>>::default();
        let hooks = Arc::new(Fickle { hooks: Routers::of_providers(), state: webhooks.clone() });
        let (management, workload) =
            (Options { hooks, ..options(settings.seed) }, options(settings.seed.wrapping_add(1)));
        let (server, workload) = match from {
            Some(from) => {
                (Server::from_backup(management, &from.management), Server::from_backup(workload, &from.workload))
            }
            None => (Server::new(management), Server::new(workload)),
        };
        let around = Surroundings {
            server: server.clone(),
            workload: workload.clone(),
            clock: clock.clone(),
            dice,
            flags: settings.flags.clone(),
            line: Arc::new(AtomicBool::new(true)),
            tasks: Tasks::new(),
        };
        let mut world = Self {
            server,
            workload,
            clock,
            room: Arc::default(),
            settings,
            around,
            webhooks,
            processes: Mutex::default(),
            operators: Mutex::default(),
            second: None,
        };
        let second = from.and_then(|from| from.second.as_ref());
        world.second = second.map(|second| Box::new(world.beside(second)));
        world
    }

    pub fn snapshot(&self) -> Snapshot {
        let second = self.second.as_ref().map(|second| second.server.backup());
        Snapshot { management: self.server.backup(), second, workload: self.workload.backup(), now: self.clock.now() }
    }

    /// Adds another management cluster, which is now as this one: with the same workload cluster, hardware, time and chance.
    pub fn add_second(&mut self) {
        self.second = Some(Box::new(self.beside(&self.server.backup())));
    }

    /// The other management cluster.
    pub fn second(&self) -> Result<&Self, Stuck> {
        self.second.as_deref().ok_or_else(|| Stuck::Broken("there is no second management cluster".into()))
    }

    fn beside(&self, from: &Backup) -> Self {
        let webhooks = Arc::<Mutex<Webhooks>>::default();
        let hooks = Arc::new(Fickle { hooks: Routers::of_providers(), state: webhooks.clone() });
        let seed = self.settings.seed.wrapping_add(2);
        let options = Options { keep_trace: self.settings.keep_trace, hooks, ..Options::new(seed, self.clock.clone()) };
        let server = Server::from_backup(options, from);
        Self {
            server: server.clone(),
            workload: self.workload.clone(),
            clock: self.clock.clone(),
            room: self.room.clone(),
            settings: self.settings.clone(),
            around: Surroundings { server, tasks: self.around.tasks.child(), ..self.around.clone() },
            webhooks,
            processes: Mutex::default(),
            operators: Mutex::default(),
            second: None,
        }
    }

    /// An administrator's hand in [`SITE`].
    pub fn hand(&self) -> Hand {
        Hand::new(self.server.clone(), User::admin(), SITE)
    }

    /// The same in the workload cluster.
    pub fn remote_hand(&self) -> Hand {
        Hand::new(self.workload.clone(), User::admin(), "default")
    }

    /// The world's chance: every throw of anybody's comes from its seed.
    pub fn dice(&self) -> Arc<dyn Dice> {
        self.around.dice.clone()
    }

    pub fn tasks(&self) -> &Tasks {
        &self.around.tasks
    }

    /// Starts the host operator. It is always well: what hosts suffer is done to them by actors.
    pub async fn start_operator(&self) {
        let user = User::service_account("baremetal-operator-system", "operator");
        let user = User { groups: User::admin().groups, ..user };
        let options = OperatorOptions {
            timings: self.settings.timings.clone(),
            clock: self.clock.clone(),
            dice: self.around.dice.clone(),
            ..OperatorOptions::default()
        };
        let tasks = self.around.tasks.child();
        self.operators.lock().push(tasks.clone());
        Operator::spawn(self.server.client(user), self.room.clone(), options, &tasks).await;
    }

    /// The Deployment of the host operator is removed.
    pub fn stop_operator(&self) {
        self.operators.lock().drain(..).for_each(|tasks| tasks.stop());
    }

    /// Starts a manager; it is up when its caches are.
    pub fn start(&self, provider: Provider) -> Arc<Process> {
        let mut processes = self.processes.lock();
        let id = u32::try_from(processes.len()).unwrap_or(u32::MAX).saturating_add(1);
        let process = Arc::new(Process::start(id, provider, &self.around));
        processes.push(process.clone());
        process
    }

    /// From now on the providers' webhooks are like this.
    pub fn set_webhooks(&self, webhooks: Webhooks) {
        *self.webhooks.lock() = webhooks;
    }

    /// Every process that was ever started, by the order of its start.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.processes.lock().clone()
    }

    /// Waits until the management cluster is as wanted; else what is missing.
    pub async fn until(&self, bound: Duration, wanted: impl Fn(&Self) -> Result<(), String>) -> Result<(), Stuck> {
        let missing = || wanted(self).err().unwrap_or_default();
        hand::until(&self.server, bound, missing, || wanted(self).is_ok(), String::new).await
    }

    /// Whether managers reach the workload cluster from now on.
    pub fn reach_workload(&self, reached: bool) {
        self.around.line.store(reached, Ordering::Relaxed);
        if !reached {
            self.workload.restart(); // ends the watches
        }
    }

    /// Waits until nothing has been written in either cluster for `quiet`; false when that never was within `bound`.
    pub async fn settles(&self, quiet: Duration, bound: Duration) -> bool {
        let end = Instant::now() + bound;
        let mut last = (self.server.revision(), self.workload.revision());
        loop {
            sleep(quiet).await;
            self.server.settle();
            let now = (self.server.revision(), self.workload.revision());
            if now == last {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            last = now;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.around.tasks.stop();
    }
}
