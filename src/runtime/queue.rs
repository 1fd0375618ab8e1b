//! The work queue: what client-go's does, in an order that depends on nothing but the calls.
//!
//! A key waits at most once and is never handed to two workers at a time; added while it is being worked on, it comes back
//! when that work is done. Delayed adds keep the earliest time. Failures back off per key from 5 ms, doubling up to 5 minutes, and a
//! success forgets them. Keys of a resync stay behind keys that changed. A key that comes back faster than anything real makes it, as
//! when two replicas undo each other's writes, is made to wait, longer each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::{Counter, Gauge, Histogram, Metrics};
use crate::object::Key;

const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5 * 60);
/// More passes over one key within [`WINDOW`] are a quarrel.
const LIVELY: u32 = 32;
const WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(32);
/// Paces that are remembered before those of the past are dropped.
const PACES: usize = 1024;

/// Clones share the queue.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    state: Mutex<State>,
    wake: Notify,
    meters: Option<Meters>,
}

#[derive(Default)]
struct State {
    turn: u64,
    /// In the order of service: urgent before resync, then first come first served.
    ready: BTreeMap<Place, (Key, Instant)>,
    places: BTreeMap<Key, Place>,
    working: BTreeMap<Key, Instant>,
    dirty: BTreeMap<Key, Urgency>,
    delayed: BTreeSet<(Instant, Key)>,
    due: BTreeMap<Key, Instant>,
    /// Since when each key has failed.
    failing: BTreeMap<Key, Instant>,
    paces: BTreeMap<Key, Pace>,
    closed: bool,
}

/// How often a key was worked on lately.
#[derive(Clone, Copy)]
struct Pace {
    since: Instant,
    passes: u32,
    /// From then on as many passes are well again.
    window: Duration,
}

impl Pace {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= self.window
    }
}

type Place = (Urgency, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Change,
    Resync,
}

struct Meters {
    depth: Gauge,
    adds: Counter,
    retries: Counter,
    waited: Histogram,
    worked: Histogram,
}

impl Queue {
    pub fn new(name: &'static str) -> Self {
        Self::build(name, None)
    }

    /// With the `workqueue_*` series of controller-runtime.
    pub fn with_metrics(name: &'static str, metrics: &Metrics) -> Self {
        let labels = [("name", name), ("controller", name)];
        let seconds = &[1e-8, 1e-7, 1e-6, 9.999e-6, 9.999e-5, 9.999e-4, 9.999e-3, 9.999e-2, 0.9999, 9.999];
        let meters = Meters {
            depth: metrics.gauge("workqueue_depth", "Current depth of workqueue.", &labels),
            adds: metrics.counter("workqueue_adds_total", "Total number of adds handled by workqueue.", &labels),
            retries: metrics.counter(
                "workqueue_retries_total",
                "Total number of retries handled by workqueue.",
                &labels,
            ),
            waited: metrics.histogram(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested.",
                seconds,
                &labels,
            ),
            worked: metrics.histogram(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
                seconds,
                &labels,
            ),
        };
        let gauge = |name, help| metrics.gauge(name, help, &labels);
        let unfinished = gauge("workqueue_unfinished_work_seconds", "Seconds of work under way, all items together.");
        let longest = gauge(
            "workqueue_longest_running_processor_seconds",
            "Seconds of work under way on the item that takes longest.",
        );
        let queue = Self::build(name, Some(meters));
        let shared = Arc::downgrade(&queue.shared);
        metrics.before_page(move || {
            let Some(shared) = shared.upgrade() else { return };
            let running: Vec<_> = shared.state.lock().working.values().map(Instant::elapsed).collect();
            unfinished.set(running.iter().sum::<Duration>().as_secs_f64());
            longest.set(running.iter().max().copied().unwrap_or_default().as_secs_f64());
        });
        queue
    }

    fn build(name: &'static str, meters: Option<Meters>) -> Self {
        Self { shared: Arc::new(Shared { name, state: Mutex::default(), wake: Notify::new(), meters }) }
    }

    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    pub fn add(&self, key: Key) {
        self.put(key, Urgency::Change);
    }

    /// Behind every key that changed: nothing is known to have happened to it.
    pub fn add_resync(&self, key: Key) {
        self.put(key, Urgency::Resync);
    }

    /// Adds the key once `delay` has passed; of two delays the earlier end counts.
    pub fn add_after(&self, key: Key, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.shared.state.lock();
        match state.due.get(&key).copied() {
            Some(sooner) if sooner <= at => return,
            Some(later) => {
                state.delayed.remove(&(later, key.clone()));
            }
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.delayed.insert((at, key));
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Adds the key once more as much time has passed as since it first failed, until [`Queue::forget`]: the pauses double, an outage
    /// is over for it at the latest when it has lasted twice as long, and what news make it try in between changes nothing in that.
    pub fn add_backoff(&self, key: Key) {
        let now = Instant::now();
        let since = *self.shared.state.lock().failing.entry(key.clone()).or_insert(now);
        if let Some(meters) = &self.shared.meters {
            meters.retries.inc();
        }
        self.add_after(key, now.duration_since(since).clamp(FIRST_BACKOFF, LONGEST_BACKOFF));
    }

    pub fn forget(&self, key: &Key) {
        self.shared.state.lock().failing.remove(key);
    }

    /// The next key, exclusively the caller's until [`Queue::done`]; none once the queue is closed.
    pub async fn take(&self) -> Option<Key> {
        loop {
            let wake = self.shared.wake.notified();
            let next_due = {
                let mut state = self.shared.state.lock();
                if state.closed {
                    self.shared.wake.notify_one(); // the other workers sleep on the same bell
                    return None;
                }
                state.promote(Instant::now());
                self.gauge_depth(&state);
                if let Some(key) = state.pop(self.shared.meters.as_ref()) {
                    if !state.ready.is_empty() || !state.delayed.is_empty() {
                        self.shared.wake.notify_one();
                    }
                    self.gauge_depth(&state);
                    return Some(key);
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match next_due {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, wake).await;
                }
                None => wake.await,
            }
        }
    }

    /// Ends the caller's hold on the key; if it was added meanwhile it is ready again.
    pub fn done(&self, key: &Key) {
        let mut state = self.shared.state.lock();
        if let (Some(since), Some(meters)) = (state.working.remove(key), &self.shared.meters) {
            meters.worked.observe(since.elapsed());
        }
        if let Some(urgency) = state.dirty.remove(key) {
            state.enqueue(key.clone(), urgency);
            self.gauge_depth(&state);
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// No key is handed out any more.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_one();
    }

    /// Who works long on one key looks here whether it should end.
    pub fn is_closed(&self) -> bool {
        self.shared.state.lock().closed
    }

    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing waits, nothing is worked on; delayed keys do not count.
    pub fn is_idle(&self) -> bool {
        let state = self.shared.state.lock();
        state.ready.is_empty() && state.working.is_empty()
    }

    fn put(&self, key: Key, urgency: Urgency) {
        if let Some(meters) = &self.shared.meters {
            meters.adds.inc();
        }
        let mut state = self.shared.state.lock();
        if state.working.contains_key(&key) {
            let dirty = state.dirty.entry(key).or_insert(urgency);
            *dirty = (*dirty).min(urgency);
            return;
        }
        state.enqueue(key, urgency);
        self.gauge_depth(&state);
        drop(state);
        self.shared.wake.notify_one();
    }

    fn gauge_depth(&self, state: &State) {
        if let Some(meters) = &self.shared.meters {
            meters.depth.set(state.ready.len() as f64);
        }
    }
}

impl State {
    fn enqueue(&mut self, key: Key, urgency: Urgency) {
        let since = match self.places.get(&key).copied() {
            Some(place) if place.0 <= urgency => return,
            Some(place) => {
                self.places.remove(&key);
                self.ready.remove(&place).map_or_else(Instant::now, |(_, since)| since)
            }
            None => Instant::now(),
        };
        if let Some(pace) = self.paces.get(&key).filter(|pace| pace.passes >= LIVELY && !pace.is_over(Instant::now())) {
            let at = pace.since + pace.window;
            if self.due.get(&key).is_none_or(|due| *due > at) {
                if let Some(later) = self.due.insert(key.clone(), at) {
                    self.delayed.remove(&(later, key.clone()));
                }
                self.delayed.insert((at, key));
            }
            return;
        }
        self.turn += 1;
        let place = (urgency, self.turn);
        self.places.insert(key.clone(), place);
        self.ready.insert(place, (key, since));
    }

    fn promote(&mut self, now: Instant) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.delayed.pop_first() else { return };
            self.due.remove(&key);
            if self.working.contains_key(&key) {
                self.dirty.insert(key, Urgency::Change);
            } else {
                self.enqueue(key, Urgency::Change);
            }
        }
    }

    fn count_pass(&mut self, key: &Key, now: Instant) {
        if self.paces.len() >= PACES {
            self.paces.retain(|_, pace| !pace.is_over(now));
        }
        let fresh = Pace { since: now, passes: 0, window: WINDOW };
        let pace = self.paces.entry(key.clone()).or_insert(fresh);
        if pace.is_over(now) {
            let quarrels = pace.passes >= LIVELY && now.duration_since(pace.since) < pace.window * 2;
            let window = if quarrels { (pace.window * 2).min(LONGEST_WINDOW) } else { WINDOW };
            *pace = Pace { window, ..fresh };
        }
        pace.passes += 1;
    }

    fn pop(&mut self, meters: Option<&Meters>) -> Option<Key> {
        let (_, (key, since)) = self.ready.pop_first()?;
        self.places.remove(&key);
        let now = Instant::now();
        self.working.insert(key.clone(), now);
        self.count_pass(&key, now);
        if let Some(meters) = meters {
            meters.waited.observe(since.elapsed());
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    /// What is ready right now, in order; each key is finished at once.
    async fn drain(queue: &Queue) -> Vec<String> {
        let mut names = Vec::new();
        while let Ok(Some(key)) = tokio::time::timeout(Duration::ZERO, queue.take()).await {
            queue.done(&key);
            names.push(key.name);
        }
        names
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_keeps_its_place() {
        let queue = Queue::new("test");
        for name in ["b", "a", "b", "c", "a"] {
            queue.add(key(name));
        }
        assert_eq!(drain(&queue).await, ["b", "a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn p_8_work_under_way_is_measured_when_the_page_is_asked_for() {
        let metrics = Metrics::new();
        let queue = Queue::with_metrics("test", &metrics);
        let shows = |all: &str, longest: &str| {
            let page = metrics.render();
            let line = |family: &str, value: &str| format!("{family}{{name=\"test\",controller=\"test\"}} {value}\n");
            assert!(page.contains(&line("workqueue_unfinished_work_seconds", all)), "{page}");
            assert!(page.contains(&line("workqueue_longest_running_processor_seconds", longest)), "{page}");
        };
        shows("0", "0");
        for name in ["a", "b"] {
            queue.add(key(name));
            queue.take().await.unwrap();
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        shows("6", "4");
        queue.done(&key("a"));
        shows("2", "2");
        drop(queue);
        metrics.render();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_in_work_is_not_handed_out_again_until_done() {
        let queue = Queue::new("test");
        queue.add(key("a"));
        let taken = queue.take().await.unwrap();
        queue.add(key("a"));
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(drain(&queue).await, ["b"]);
        queue.done(&taken);
        assert_eq!(drain(&queue).await, ["a"]);
        assert!(queue.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_adds_keep_the_earliest_time() {
        let queue = Queue::new("test");
        let start = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(30));
        queue.add_after(key("a"), Duration::from_secs(10));
        queue.add_after(key("a"), Duration::from_secs(20));
        let taken = queue.take().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 10);
        queue.done(&taken);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(drain(&queue).await.is_empty(), "one add, one turn");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_that_ends_during_work_comes_after_it() {
        let queue = Queue::new("test");
        queue.add(key("a"));
        let taken = queue.take().await.unwrap();
        queue.add_after(key("a"), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(drain(&queue).await.is_empty());
        queue.done(&taken);
        assert_eq!(drain(&queue).await, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_doubles_per_key_up_to_five_minutes_and_is_forgotten() {
        let queue = Queue::new("test");
        for expected in [5, 5, 10, 20, 40] {
            let start = Instant::now();
            queue.add_backoff(key("a"));
            let taken = queue.take().await.unwrap();
            assert_eq!(start.elapsed().as_millis(), expected);
            queue.done(&taken);
        }
        // News in between fail as well, and make nothing of it longer.
        let (begun, news) = (Instant::now(), 10);
        for _ in 0..news {
            queue.add(key("a"));
            let taken = queue.take().await.unwrap();
            queue.add_backoff(key("a"));
            queue.done(&taken);
        }
        queue.take().await.unwrap();
        assert_eq!(begun.elapsed().as_millis(), 80);
        queue.done(&key("a"));

        tokio::time::advance(Duration::from_secs(3600)).await;
        let start = Instant::now();
        queue.add_backoff(key("a"));
        queue.take().await.unwrap();
        assert_eq!(start.elapsed(), LONGEST_BACKOFF);
        queue.done(&key("a"));
        queue.forget(&key("a"));
        let start = Instant::now();
        queue.add_backoff(key("a"));
        queue.take().await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 5);
    }

    /// As when two replicas undo each other's writes: i22.
    #[tokio::test(start_paused = true)]
    async fn a_key_that_never_rests_is_slowed_down() {
        let queue = Queue::new("test");
        let begun = Instant::now();
        let mut passes = Vec::new();
        for _ in 0..4 * LIVELY {
            queue.add(key("a"));
            let taken = queue.take().await.unwrap();
            passes.push(begun.elapsed().as_secs());
            queue.add(taken.clone()); // while it is worked on
            queue.done(&taken);
        }
        assert_eq!((passes[31], passes[32], passes[63], passes[64], passes[96]), (0, 1, 1, 3, 7));
        // Others do not wait for it, and after a rest it is as quick as they are.
        queue.add(key("b"));
        assert_eq!(queue.take().await.unwrap(), key("b"));
        queue.done(&key("b"));
        tokio::time::advance(Duration::from_secs(60)).await;
        drain(&queue).await;
        let begun = Instant::now();
        for _ in 0..10 {
            queue.add(key("a"));
            let taken = queue.take().await.unwrap();
            queue.done(&taken);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_overtakes_the_keys_of_a_resync() {
        let queue = Queue::new("test");
        for name in ["a", "b", "c"] {
            queue.add_resync(key(name));
        }
        queue.add(key("c"));
        queue.add(key("d"));
        assert_eq!(drain(&queue).await, ["c", "d", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_wakes_every_worker() {
        let queue = Queue::new("test");
        let workers: Vec<_> = (0..3).map(|_| queue.take()).collect();
        let all = futures::future::join_all(workers);
        let close = async {
            tokio::task::yield_now().await;
            queue.close();
        };
        let (ends, ()) = tokio::join!(all, close);
        assert_eq!(ends, [None, None, None]);
    }

    #[tokio::test(start_paused = true)]
    async fn every_sleeping_worker_gets_a_key_of_a_burst() {
        let queue = Queue::new("test");
        let workers: Vec<_> = (0..3).map(|_| queue.take()).collect();
        let all = futures::future::join_all(workers);
        let burst = async {
            tokio::task::yield_now().await;
            for name in ["a", "b", "c"] {
                queue.add(key(name));
            }
        };
        let (taken, ()) = tokio::join!(all, burst);
        let names: BTreeSet<_> = taken.into_iter().flatten().map(|k| k.name).collect();
        assert_eq!(names.len(), 3);
    }
}
