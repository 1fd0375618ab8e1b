//! What can be wrong with the surroundings of a manager without anything being wrong with its requests: its clock and its webhooks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use capm3_runtime::Clock;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::sleep;

use crate::server::{Hooks, Service};

/// A clock that can be set wrong.
pub(super) struct Skewed {
    right: Arc<dyn Clock>,
    seconds: AtomicI64,
}

impl Skewed {
    pub(super) fn new(right: Arc<dyn Clock>) -> Self {
        Self { right, seconds: AtomicI64::new(0) }
    }

    pub(super) fn set(&self, seconds: i64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        let right = self.right.now();
        right.checked_add(SignedDuration::from_secs(self.seconds.load(Ordering::Relaxed))).unwrap_or(right)
    }
}

/// How the providers' webhooks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Webhooks {
    #[default]
    Well,
    /// Nothing listens.
    Down,
    /// Each answer takes this long.
    Slow(Duration),
}

/// Webhooks that are not always well.
pub(super) struct Fickle<H> {
    pub(super) hooks: H,
    pub(super) state: Arc<Mutex<Webhooks>>,
}

impl<H: Hooks> Hooks for Fickle<H> {
    fn call<'a>(&'a self, service: &'a Service, review: Value) -> BoxFuture<'a, Result<Value, String>> {
        let state = *self.state.lock();
        match state {
            Webhooks::Well => self.hooks.call(service, review),
            Webhooks::Down => Box::pin(std::future::ready(Err("connection refused".to_owned()))),
            Webhooks::Slow(time) => Box::pin(async move {
                sleep(time).await;
                self.hooks.call(service, review).await
            }),
        }
    }
}
