//! Where faults come in: around every request, and at every event of a watch.
//!
//! The server itself is always well. What goes wrong (a crash before or after a write, a lost answer, a conflict, a watch that
//! skips an event) is decided by a [`Seam`], outside, so that a plan of faults can be written down and replayed.

use std::time::Duration;

use futures::future::BoxFuture;

use super::call::Call;
use super::status::Refusal;

/// What becomes of a request, or of its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It goes its way.
    Pass,
    /// The client is told this instead. After the request was carried out this is an answer that lies.
    Answer(Refusal),
    /// The connection breaks: the client cannot know what happened.
    Break,
    /// Nothing comes back any more, as for a process that is about to be killed.
    Hang,
}

/// What becomes of an event on its way to one watch.
pub enum EventFate {
    Deliver,
    /// It never arrives; later ones do.
    Lose,
    Twice,
    /// It and everything behind it waits.
    Delay(Duration),
    /// The same, until this is over.
    Hold(BoxFuture<'static, ()>),
    /// The next one comes before it, if one comes within a second.
    Swap,
    /// Of everything that happens in this time only the last state of each object is told.
    Burst(Duration),
    /// The stream ends before it.
    Close,
    /// The server says that the watch has fallen behind.
    Expire,
}

/// The outcome of a call, for who decides on the fate of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: u16,
    /// The revision that the write made, if it made one.
    pub wrote: Option<u64>,
}

/// An event as a seam sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing<'a> {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: &'static str,
    pub revision: u64,
    /// `namespace/name`, or the name.
    pub path: &'a str,
}

/// Decides the fate of requests, answers and events. The methods may wait: time in a request is time on the wire.
pub trait Seam: Send + Sync + 'static {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Fate> {
        let _ = call;
        Box::pin(std::future::ready(Fate::Pass))
    }

    fn after<'a>(&'a self, call: &'a Call, outcome: Outcome) -> BoxFuture<'a, Fate> {
        let _ = (call, outcome);
        Box::pin(std::future::ready(Fate::Pass))
    }

    /// How many revisions the cache lags behind from which lists at resourceVersion 0 are answered.
    fn lag(&self, list: &Call) -> u64 {
        let _ = list;
        0
    }

    fn event(&self, watch: &Call, event: &Passing<'_>) -> EventFate {
        let _ = (watch, event);
        EventFate::Deliver
    }
}

/// Nothing goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calm;

impl Seam for Calm {}
