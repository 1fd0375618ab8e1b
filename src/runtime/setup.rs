//! What a set of controllers is given to stand on, and where it leaves what it wants to have run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::{Clock, Dice};
use crate::controller::Controller;
use crate::events::Recorder;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::read::Reader;
use crate::tasks::Tasks;
use crate::write::Writer;

/// The flags that controllers look at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Value of the label `cluster.x-k8s.io/watch-filter` that an object must carry.
    pub watch_filter: Option<String>,
    /// `CAPM3_FAST_TRACK`.
    pub fast_track: bool,
    /// `--enable-bmh-name-based-preallocation`.
    pub name_based_preallocation: bool,
    /// Parallel reconciles by controller name; see [`Setup::workers`].
    pub workers: BTreeMap<&'static str, usize>,
}

const WORKERS: usize = 10;

/// Handed to `register` functions.
pub struct Setup {
    pub hub: Hub,
    pub reader: Reader,
    pub writer: Writer,
    pub recorder: Recorder,
    pub clock: Arc<dyn Clock>,
    pub dice: Arc<dyn Dice>,
    pub metrics: Metrics,
    /// For tasks a controller needs beside its workers, such as workload-cluster connections.
    pub tasks: Tasks,
    pub options: Options,
    controllers: Vec<Controller>,
}

/// The parts of a [`Setup`] that come from outside.
pub struct Parts {
    pub hub: Hub,
    pub recorder: Recorder,
    pub clock: Arc<dyn Clock>,
    pub dice: Arc<dyn Dice>,
    pub metrics: Metrics,
    pub tasks: Tasks,
}

impl Setup {
    pub fn new(parts: Parts, options: Options) -> Self {
        let Parts { hub, recorder, clock, dice, metrics, tasks } = parts;
        Self {
            reader: Reader::new(hub.client().clone()),
            writer: Writer::new(&hub),
            hub,
            recorder,
            clock,
            dice,
            metrics,
            tasks,
            options,
            controllers: Vec::new(),
        }
    }

    /// A queue with its metrics; `name` is also the controller's.
    pub fn queue(&self, name: &'static str) -> Queue {
        Queue::with_metrics(name, &self.metrics)
    }

    /// How many workers the flags give this controller (`--<name>-concurrency`).
    pub fn workers(&self, name: &str) -> usize {
        self.options.workers.get(name).copied().unwrap_or(WORKERS)
    }

    /// Leaves a controller to be run once the caches are synced and, where it writes, the lease is held.
    pub fn add(&mut self, controller: Controller) {
        self.controllers.push(controller);
    }

    pub fn into_controllers(self) -> Vec<Controller> {
        self.controllers
    }
}
