//! Every task belongs to a set that shutdown waits for; one that ends before its time ends the process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A tracked set of tasks under one stop signal. Clones share the set.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failure: Arc<Mutex<Option<String>>>,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of its own that stops no later than this one.
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), stop: self.stop.child_token(), failure: Arc::default() }
    }

    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Starts a task that is expected to run until the stop signal: its end before that is a failure of the whole set.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let set = self.clone();
        let running = self.tracker.spawn(task);
        self.tracker.spawn(async move {
            let ended = running.await;
            if !set.stop.is_cancelled() {
                let how = if ended.is_err() { "panicked" } else { "ended" };
                set.fail(format!("task {name} {how} unexpectedly"));
            }
        });
    }

    /// Starts a task that may end whenever it is done.
    pub fn spawn_finite(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Remembers the first failure and stops the set.
    pub fn fail(&self, why: String) {
        self.failure.lock().get_or_insert(why);
        self.stop.cancel();
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Waits, after a stop, until every task has ended; false when some are still running at the end of `grace`.
    pub async fn drained(&self, grace: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_early_stops_the_set_and_is_named() {
        let tasks = Tasks::new();
        tasks.spawn("lamp", async {});
        tasks.stopping().cancelled().await;
        assert_eq!(tasks.failure().as_deref(), Some("task lamp ended unexpectedly"));
        assert!(tasks.drained(Duration::from_secs(120)).await);
    }

    #[tokio::test]
    async fn a_task_that_stops_when_told_is_no_failure() {
        let tasks = Tasks::new();
        let stop = tasks.stopping();
        tasks.spawn("lamp", async move { stop.cancelled().await });
        tasks.stop();
        assert!(tasks.drained(Duration::from_secs(120)).await);
        assert_eq!(tasks.failure(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_bounded() {
        let tasks = Tasks::new();
        tasks.spawn_finite(std::future::pending());
        tasks.stop();
        assert!(!tasks.drained(Duration::from_secs(8)).await);
    }
}
