//! What the tests against a real API server share: the way to the one that `bed api` starts, and patience. Those of other crates take
//! this file in by its path.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test and say why")]
#![allow(dead_code, reason = "each test takes what it needs")]

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use capm3_runtime::{ClientOptions, connect};
use kube::Client;
use tokio::time::{sleep, timeout};

/// Nothing that is waited for takes so long, on a machine several times slower than anybody's.
pub(crate) const SOON: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(25);

pub(crate) fn kubeconfig() -> PathBuf {
    std::env::var_os("CAPM3_TEST_KUBECONFIG").unwrap().into()
}

pub(crate) async fn client() -> Client {
    connect(Some(kubeconfig()), &ClientOptions::default()).await.unwrap()
}

/// Looks again until it is as wanted; says how it was last when that takes too long.
pub(crate) async fn until_as_wanted<T, S: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, S>) -> T {
    let mut last = None;
    let wait = async {
        loop {
            match look().await {
                Ok(wanted) => return wanted,
                Err(seen) => last = Some(seen),
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    let found = timeout(SOON, wait).await;
    found.unwrap_or_else(|_| panic!("not in time: {what}: {last:#?}"))
}

/// Looks again until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    until_as_wanted(what, async || look().await.ok_or("nothing")).await
}

pub(crate) async fn until_true(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    until(what, async || holds().await.then_some(())).await;
}
