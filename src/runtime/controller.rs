//! Workers: keys from a queue through a reconciler, whatever it does.
//!
//! A panic is caught, counted and retried; a reconcile that hangs is cut off; an error is logged once, here, with its whole
//! chain of sources. Waiting is not an error: a reconciler that waits says [`Next::After`] or relies on its routes.

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument;

use crate::metrics::{Counter, Gauge, Histogram, Metrics};
use crate::object::Key;
use crate::queue::Queue;
use crate::tasks::Tasks;

const TIME_LIMIT: Duration = Duration::from_secs(180);

/// One pass over one object.
pub trait Reconcile: Send + Sync + 'static {
    type Error: ReconcileError;

    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<Next, Self::Error>> + Send;
}

/// What an error says to the worker.
pub trait ReconcileError: Error + Send + Sync + 'static {
    /// Stable PascalCase word for metrics, events and conditions.
    fn category(&self) -> &'static str;

    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

/// When a key comes back after a pass that went well; a change of what it watches brings it back in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Done,
    After(Duration),
}

/// When a key comes back after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Backoff,
    After(Duration),
    OnChange,
}

trait Pass: Send + Sync {
    fn pass<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Next, Box<dyn ReconcileError>>>;
}

impl<R: Reconcile> Pass for R {
    fn pass<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Next, Box<dyn ReconcileError>>> {
        let result = self.reconcile(key);
        async move { result.await.map_err(|error| Box::new(error) as Box<dyn ReconcileError>) }.boxed()
    }
}

/// A reconciler with its queue and the number of its workers, ready to be run.
pub struct Controller {
    name: &'static str,
    queue: Queue,
    pass: Arc<dyn Pass>,
    workers: usize,
    time_limit: Duration,
}

impl Controller {
    pub fn new(name: &'static str, queue: Queue, reconciler: impl Reconcile, workers: usize) -> Self {
        Self { name, queue, pass: Arc::new(reconciler), workers: workers.max(1), time_limit: TIME_LIMIT }
    }

    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Starts the workers. On the stop signal they take no more keys and end with the one in hand.
    pub fn spawn(self, metrics: &Metrics, tasks: &Tasks) {
        let series = Series::new(self.name, self.workers, metrics);
        let (queue, stop) = (self.queue.clone(), tasks.stopping());
        tasks.spawn("queue closer", async move {
            stop.cancelled().await;
            queue.close();
        });
        let passes = Arc::new(AtomicU64::new(0));
        for _ in 0..self.workers {
            let worker = Worker {
                name: self.name,
                queue: self.queue.clone(),
                pass: self.pass.clone(),
                time_limit: self.time_limit,
                series: series.clone(),
                passes: passes.clone(),
            };
            tasks.spawn("worker", worker.run());
        }
    }
}

#[derive(Clone)]
struct Series {
    success: Counter,
    after: Counter,
    error: Counter,
    errors: Counter,
    panics: Counter,
    timeouts: Counter,
    took: Histogram,
    active: Gauge,
}

impl Series {
    fn new(name: &'static str, workers: usize, metrics: &Metrics) -> Self {
        const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        let own = [("controller", name)];
        let total = |result| {
            let help = "Total number of reconciliations per controller.";
            metrics.counter("controller_runtime_reconcile_total", help, &[("controller", name), ("result", result)])
        };
        let counter = |family, help| metrics.counter(family, help, &own);
        metrics
            .gauge("controller_runtime_max_concurrent_reconciles", "Maximum number of concurrent reconciles.", &own)
            .set(workers as f64);
        Self {
            success: total("success"),
            after: total("requeue_after"),
            error: total("error"),
            errors: counter("controller_runtime_reconcile_errors_total", "Total number of reconciliation errors."),
            panics: counter("controller_runtime_reconcile_panics_total", "Total number of reconciliation panics."),
            timeouts: counter(
                "controller_runtime_reconcile_timeouts_total",
                "Total number of reconciliation timeouts.",
            ),
            took: metrics.histogram(
                "controller_runtime_reconcile_time_seconds",
                "Length of time per reconciliation.",
                SECONDS,
                &own,
            ),
            active: metrics.gauge("controller_runtime_active_workers", "Number of currently used workers.", &own),
        }
    }
}

struct Worker {
    name: &'static str,
    queue: Queue,
    pass: Arc<dyn Pass>,
    time_limit: Duration,
    series: Series,
    passes: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self) {
        while let Some(key) = self.queue.take().await {
            let id = self.passes.fetch_add(1, Ordering::Relaxed);
            let span = tracing::info_span!(
                "reconcile",
                controller = self.name,
                namespace = key.namespace,
                name = key.name,
                reconcile_id = id,
            );
            self.series.active.add(1.0);
            let start = Instant::now();
            let retry = self.one(&key).instrument(span).await;
            self.series.took.observe(start.elapsed());
            self.series.active.add(-1.0);
            match retry {
                None | Some(Retry::OnChange) => self.queue.forget(&key),
                Some(Retry::After(delay)) => {
                    self.queue.forget(&key);
                    self.queue.add_after(key.clone(), delay);
                }
                Some(Retry::Backoff) => self.queue.add_backoff(key.clone()),
            }
            self.queue.done(&key);
        }
    }

    async fn one(&self, key: &Key) -> Option<Retry> {
        let pass = AssertUnwindSafe(async { self.pass.pass(key).await }).catch_unwind();
        match tokio::time::timeout(self.time_limit, pass).await {
            Ok(Ok(Ok(Next::Done))) => {
                self.series.success.inc();
                None
            }
            Ok(Ok(Ok(Next::After(delay)))) => {
                self.series.after.inc();
                Some(Retry::After(delay))
            }
            Ok(Ok(Err(error))) => {
                self.count_error();
                let (category, retry) = (error.category(), error.retry());
                tracing::error!(category, ?retry, error = chain(&*error), "reconcile failed");
                Some(retry)
            }
            Ok(Err(panic)) => {
                self.count_error();
                self.series.panics.inc();
                let what = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let what = what.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                tracing::error!(category = "Panic", error = what, "reconcile panicked");
                Some(Retry::Backoff)
            }
            Err(_) => {
                self.count_error();
                self.series.timeouts.inc();
                tracing::error!(category = "Timeout", limit = ?self.time_limit, "reconcile cut off");
                Some(Retry::Backoff)
            }
        }
    }

    fn count_error(&self) {
        self.series.error.inc();
        self.series.errors.inc();
    }
}

/// An error and its sources, outermost first, without repeating what a message already says.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            let _ = write!(text, ": {message}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the lamp")]
    struct Dark {
        retry: Retry,
        #[source]
        source: std::fmt::Error,
    }

    impl ReconcileError for Dark {
        fn category(&self) -> &'static str {
            "Dark"
        }

        fn retry(&self) -> Retry {
            self.retry
        }
    }

    /// Plays one answer per pass, then is done.
    struct Script(Mutex<Vec<Answer>>, Mutex<Vec<Instant>>);

    enum Answer {
        Fail(Retry),
        Panic,
        Hang,
        Say(Next),
    }

    impl Reconcile for Arc<Script> {
        type Error = Dark;

        async fn reconcile(&self, _: &Key) -> Result<Next, Dark> {
            self.1.lock().push(Instant::now());
            let answer = self.0.lock().pop();
            match answer {
                Some(Answer::Fail(retry)) => Err(Dark { retry, source: std::fmt::Error }),
                Some(Answer::Panic) => panic!("lamp"),
                Some(Answer::Hang) => std::future::pending().await,
                Some(Answer::Say(next)) => Ok(next),
                None => Ok(Next::Done),
            }
        }
    }

    /// The times of the passes, in milliseconds since the key was added.
    async fn play(mut answers: Vec<Answer>) -> (Vec<u128>, String) {
        answers.reverse();
        let script = Arc::new(Script(Mutex::new(answers), Mutex::default()));
        let (queue, metrics, tasks) = (Queue::new("test"), Metrics::new(), Tasks::new());
        Controller::new("test", queue.clone(), script.clone(), 2)
            .time_limit(Duration::from_secs(7))
            .spawn(&metrics, &tasks);
        let start = Instant::now();
        queue.add(Key::new("ns", "a"));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        tasks.stop();
        assert!(tasks.drained(Duration::from_secs(1)).await);
        let times = script.1.lock().iter().map(|at| at.duration_since(start).as_millis()).collect();
        (times, metrics.render())
    }

    #[tokio::test(start_paused = true)]
    async fn errors_back_off_and_success_ends_it() {
        let (times, page) =
            play(vec![Answer::Fail(Retry::Backoff), Answer::Fail(Retry::Backoff), Answer::Say(Next::Done)]).await;
        assert_eq!(times, [0, 5, 10]);
        assert!(page.contains("controller_runtime_reconcile_errors_total{controller=\"test\"} 2"));
        assert!(page.contains("controller_runtime_reconcile_total{controller=\"test\",result=\"success\"} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_caught_and_retried() {
        let (times, page) = play(vec![Answer::Panic]).await;
        assert_eq!(times, [0, 5]);
        assert!(page.contains("controller_runtime_reconcile_panics_total{controller=\"test\"} 1"));
        assert!(page.contains("controller_runtime_active_workers{controller=\"test\"} 0"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_pass_is_cut_off() {
        let (times, _) = play(vec![Answer::Hang]).await;
        assert_eq!(times, [0, 7005]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_and_asking_for_a_delay_are_not_errors() {
        let (times, page) = play(vec![Answer::Say(Next::After(Duration::from_secs(30)))]).await;
        assert_eq!(times, [0, 30_000]);
        assert!(page.contains("controller_runtime_reconcile_errors_total{controller=\"test\"} 0"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_waits_for_a_change_is_not_retried() {
        let (times, _) = play(vec![Answer::Fail(Retry::OnChange)]).await;
        assert_eq!(times, [0]);
    }

    #[test]
    fn the_chain_names_every_cause_once() {
        let error = Dark { retry: Retry::Backoff, source: std::fmt::Error };
        assert_eq!(chain(&error), "cannot read the lamp: an error occurred when formatting an argument");
    }
}
