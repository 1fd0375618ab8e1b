//! Watches: what happened since a revision, and from then on what happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::Shared;
use super::call::{Call, Form, Query};
use super::kinds::View;
use super::object::present;
use super::read::{check_options, lies_in, version_of};
use super::seam::{EventFate, Passing};
use super::selector::Selector;
use super::status::Refusal;
use super::store::Object;

/// How long a watch lasts when the client does not say; up to twice that, as the real server spreads them.
const LONG: u64 = 1800;
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// One event of one watch before it is written down.
struct Pending {
    kind: &'static str,
    object: Object,
    revision: u64,
    path: Arc<str>,
    /// Its fate is decided.
    decided: bool,
}

struct Watching {
    shared: Arc<Shared>,
    call: Call,
    view: View,
    form: Form,
    selector: Selector,
    bookmarks: bool,
    /// Everything up to here was looked at.
    seen: u64,
    /// The server's restarts; a stream does not outlive one.
    epoch: u64,
    pending: VecDeque<Pending>,
    lines: VecDeque<Bytes>,
    /// The bookmark that ends the initial events, if it is still to come.
    initial_end: bool,
    news: Arc<Notify>,
    ends: Instant,
    next_bookmark: Instant,
    over: bool,
}

impl Shared {
    pub(super) fn watch(
        self: &Arc<Self>,
        call: &Call,
        view: &View,
        query: &Query,
        form: Form,
    ) -> Result<impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static, Refusal> {
        let selector = Selector::parse(query.text("labelSelector"), query.text("fieldSelector"), view)?;
        check_options(query)?;
        let asked = version_of(query)?;
        let initial = query.flag("sendInitialEvents");
        let from_now = initial || asked == 0 && !query.has("sendInitialEvents");
        let mut world = self.world.lock();
        let lasts = query.number("timeoutSeconds").filter(|seconds| *seconds > 0);
        let lasts = lasts.unwrap_or_else(|| LONG + world.rng.u64(..LONG));
        let now = Instant::now();
        let mut watching = Watching {
            shared: self.clone(),
            call: call.clone(),
            view: view.clone(),
            form,
            selector,
            bookmarks: query.flag("allowWatchBookmarks"),
            seen: if from_now { world.store.revision() } else { asked },
            epoch: world.epoch,
            pending: VecDeque::new(),
            lines: VecDeque::new(),
            initial_end: initial,
            news: self.news_of(view),
            ends: now + Duration::from_secs(lasts),
            next_bookmark: now + BOOKMARK_EVERY,
            over: false,
        };
        if from_now {
            for (path, object) in world.store.table(&view.kind.id) {
                if watching.concerns(object) {
                    let (kind, object, path) = ("ADDED", object.clone(), path.clone());
                    let revision = object.revision();
                    watching.pending.push_back(Pending { kind, object, revision, path, decided: false });
                }
            }
        }
        drop(world);
        Ok(futures::stream::unfold(watching, |mut watching| async move {
            let line = watching.next().await?;
            Some((Ok(line), watching))
        }))
    }
}

impl Watching {
    fn concerns(&self, object: &Value) -> bool {
        lies_in(&self.call.namespace, object) && self.selector.matches(object)
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            if let Some(event) = self.pending.pop_front() {
                self.pass(event).await;
                continue;
            }
            if std::mem::take(&mut self.initial_end) {
                let mut bookmark = self.bookmark();
                bookmark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                self.lines.push_back(line(&bookmark));
                continue;
            }
            // Listening begins before looking, so that nothing falls in between.
            let news = self.news.clone();
            let mut written = std::pin::pin!(news.notified());
            written.as_mut().enable();
            if self.collect() {
                continue;
            }
            let wake = if self.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends };
            match timeout_at(wake, written).await {
                Ok(()) => {}
                Err(_) if Instant::now() >= self.ends => return None,
                Err(_) => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    let bookmark = self.bookmark();
                    self.lines.push_back(line(&bookmark));
                }
            }
        }
    }

    /// Looks at what was written since; true when there is something to say.
    fn collect(&mut self) -> bool {
        let world = self.shared.world.lock();
        if world.epoch != self.epoch || world.kinds.stored(&self.view.kind.id).is_none() {
            self.over = true;
            return true;
        }
        let revision = world.store.revision();
        let Some(events) = world.store.since(&self.view.kind.id, self.seen) else {
            let why = format!("too old resource version: {} ({})", self.seen, world.store.compacted());
            self.lines.push_back(line(&json!({"type": "ERROR", "object": Refusal::expired(why).body()})));
            self.over = true;
            return true;
        };
        for event in events {
            let was = event.old.as_ref().filter(|old| self.concerns(old));
            let is = event.new.as_ref().filter(|new| self.concerns(new));
            // What no longer matches is gone for this watch, in its last state that did, under the new revision.
            let (kind, object) = match (was, is) {
                (None, Some(new)) => ("ADDED", new.clone()),
                (Some(_), Some(new)) => ("MODIFIED", new.clone()),
                (Some(old), None) if event.new.is_none() => ("DELETED", old.clone()),
                (Some(old), None) => ("DELETED", old.at(event.revision)),
                (None, None) => continue,
            };
            let (revision, path) = (event.revision, event.path.clone());
            self.pending.push_back(Pending { kind, object, revision, path, decided: false });
        }
        self.seen = self.seen.max(revision);
        !self.pending.is_empty()
    }

    /// Writes an event down, unless the seam has other plans for it.
    async fn pass(&mut self, event: Pending) {
        let passing = Passing { kind: event.kind, revision: event.revision, path: &event.path };
        let fate = if event.decided { EventFate::Deliver } else { self.shared.seam().event(&self.call, &passing) };
        let times = match fate {
            EventFate::Deliver => 1,
            EventFate::Twice => 2,
            EventFate::Lose => return,
            EventFate::Delay(pause) => {
                sleep(pause).await;
                1
            }
            EventFate::Hold(wait) => {
                wait.await;
                1
            }
            EventFate::Swap => return self.swap(event).await,
            EventFate::Burst(time) => {
                sleep(time).await;
                self.pending.push_front(Pending { decided: true, ..event });
                self.collect();
                return self.keep_last_states();
            }
            EventFate::Close => {
                self.over = true;
                return;
            }
            EventFate::Expire => {
                let why = format!("too old resource version: {} ({})", event.revision, event.revision);
                self.lines.push_back(line(&json!({"type": "ERROR", "object": Refusal::expired(why).body()})));
                self.over = true;
                return;
            }
        };
        let line = if self.view.is_stored() {
            event_line(event.kind, event.object.text(self.form))
        } else {
            let stored = self.view.stored();
            match self.shared.convert_one(Value::clone(&event.object), &stored, &self.view).await {
                Ok(object) => event_line(event.kind, present(&object, self.form).to_string().as_bytes()),
                Err(refusal) => {
                    self.over = true;
                    line(&json!({"type": "ERROR", "object": refusal.body()}))
                }
            }
        };
        for _ in 0..times {
            self.lines.push_back(line.clone());
        }
    }

    /// Puts the event behind the next one.
    async fn swap(&mut self, event: Pending) {
        if self.pending.is_empty() {
            sleep(Duration::from_secs(1)).await;
            self.collect();
        }
        let behind = self.pending.len().min(1);
        self.pending.insert(behind, Pending { decided: true, ..event });
    }

    /// Of the events of an object only the last stays; of one that came and went, none.
    fn keep_last_states(&mut self) {
        let mut kept: Vec<Pending> = Vec::new();
        for event in self.pending.drain(..) {
            let Some(known) = kept.iter_mut().find(|known| known.path == event.path) else {
                kept.push(event);
                continue;
            };
            let kind = if (known.kind, event.kind) == ("ADDED", "MODIFIED") { "ADDED" } else { event.kind };
            *known = Pending { kind, decided: true, ..event };
        }
        self.pending = kept.into();
    }

    fn bookmark(&self) -> Value {
        let metadata = json!({"resourceVersion": self.seen.to_string()});
        let (kind, version) = match self.form {
            Form::Whole => (self.view.kind.kind.clone(), self.view.api_version()),
            Form::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        json!({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": version, "metadata": metadata}})
    }
}

/// An event about an object that is written out already.
fn event_line(kind: &str, object: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(object.len() + 32);
    text.extend_from_slice(b"{\"type\":\"");
    text.extend_from_slice(kind.as_bytes());
    text.extend_from_slice(b"\",\"object\":");
    text.extend_from_slice(object);
    text.extend_from_slice(b"}\n");
    text.into()
}

fn line(event: &Value) -> Bytes {
    let mut text = event.to_string();
    text.push('\n');
    text.into()
}
