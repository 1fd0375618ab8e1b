//! Events for people: transitions, never passes, and never in the way.
//!
//! A reconcile puts its event into a bounded queue and goes on; a task sends them. The same event of the same object is sent
//! once in ten minutes. When the queue is full the event is dropped and counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::controller::chain;
use crate::metrics::{Counter, Metrics};
use crate::object::{Key, Kind, Object, key_of};
use crate::tasks::Tasks;
use crate::write::Writer;

const WAITING: usize = 1024;
const REPEAT_AFTER: Duration = Duration::from_secs(600);
const REMEMBERED: usize = 4096;
const LONGEST_NOTE: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    Normal,
    Warning,
}

/// Clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
    dropped: Counter,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Note {
    about: ObjectReference,
    kind: EventKind,
    reason: String,
    message: String,
    at: jiff::Timestamp,
}

impl Recorder {
    /// The recorder, with the task that sends what it collects under the name of `component`.
    pub fn spawn(
        client: Client,
        component: &'static str,
        instance: String,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Self {
        let (recorder, notes) = Self::channel(clock, metrics);
        let sender = Sender { writer: Writer::uncached(client), component, instance, sent: BTreeMap::new(), count: 0 };
        let stop = tasks.stopping();
        tasks.spawn("events", async move {
            stop.run_until_cancelled(sender.run(notes)).await;
        });
        recorder
    }

    /// A recorder whose events go nowhere, for tests of reconcilers that do not look at them.
    pub fn void(clock: Arc<dyn Clock>) -> Self {
        Self::channel(clock, &Metrics::new()).0
    }

    fn channel(clock: Arc<dyn Clock>, metrics: &Metrics) -> (Self, mpsc::Receiver<Note>) {
        let (queue, notes) = mpsc::channel(WAITING);
        let dropped = metrics.counter("capm3_events_dropped_total", "Events that were not sent.", &[]);
        (Self { queue, dropped, clock }, notes)
    }

    pub fn normal<K: Object>(&self, about: &K, reason: &str, message: impl Into<String>) {
        self.event(about, EventKind::Normal, reason, message);
    }

    pub fn warning<K: Object>(&self, about: &K, reason: &str, message: impl Into<String>) {
        self.event(about, EventKind::Warning, reason, message);
    }

    /// Puts the event on its way. `reason` is a PascalCase constant, `message` a sentence; what is too long is cut.
    pub fn event<K: Object>(&self, about: &K, kind: EventKind, reason: &str, message: impl Into<String>) {
        let type_of = Kind::of::<K>();
        let Key { namespace, name } = key_of(about);
        let meta = about.meta();
        let about = ObjectReference {
            api_version: Some(type_of.api_version()),
            kind: Some(type_of.kind),
            namespace: Some(namespace).filter(|n| !n.is_empty()),
            name: Some(name),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: None,
        };
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(LONGEST_NOTE));
        let note = Note { about, kind, reason: reason.to_owned(), message, at: self.clock.now() };
        if self.queue.try_send(note).is_err() {
            self.dropped.inc();
        }
    }
}

type Fingerprint = (Option<String>, EventKind, String, String);

struct Sender {
    writer: Writer,
    component: &'static str,
    instance: String,
    sent: BTreeMap<Fingerprint, Instant>,
    count: u64,
}

impl Sender {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        while let Some(note) = notes.recv().await {
            if !self.is_news(&note) {
                continue;
            }
            let event = self.event(note);
            if let Err(error) = self.writer.create(&event).await
                && !error.is_namespace_terminating()
            {
                tracing::warn!(error = chain(&error), reason = event.reason, "event was not recorded");
            }
        }
        std::future::pending::<()>().await; // every recorder is gone: nothing left to do until the end
    }

    fn is_news(&mut self, note: &Note) -> bool {
        let now = Instant::now();
        let fingerprint = (note.about.uid.clone(), note.kind, note.reason.clone(), note.message.clone());
        if self.sent.get(&fingerprint).is_some_and(|at| now.duration_since(*at) < REPEAT_AFTER) {
            return false;
        }
        if self.sent.len() >= REMEMBERED {
            self.sent.retain(|_, at| now.duration_since(*at) < REPEAT_AFTER);
        }
        if self.sent.len() >= REMEMBERED {
            self.sent.clear();
        }
        self.sent.insert(fingerprint, now);
        true
    }

    fn event(&mut self, note: Note) -> Event {
        self.count += 1;
        // As client-go names them: object, then a stamp that no other event of it has.
        let stamp = (note.at.as_nanosecond() as u64).wrapping_add(self.count);
        let name = format!("{}.{stamp:x}", note.about.name.as_deref().unwrap_or_default());
        let at = Some(Time(note.at));
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(note.about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            involved_object: note.about,
            type_: Some(format!("{:?}", note.kind)),
            reason: Some(note.reason),
            message: Some(note.message),
            first_timestamp: at.clone(),
            last_timestamp: at,
            count: Some(1),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}
