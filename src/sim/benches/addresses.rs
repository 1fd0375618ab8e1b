//! A /16 pool, filled by the address manager alone against the API server in the process, and what its addresses take in the cache.
//!
//! Requests are counted and held against their bound, the same for every size. Time is for comparing sizes: three times the claims in
//! much more than three times the time would be something that grows with what is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench may fail, and its lines are its output"
)]

#[path = "../../api/benches/figures/mod.rs"]
mod figures;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim};
use capm3_runtime::{Hub, HubOptions, Object, Store, Tasks, WatchOptions, key_of};
use capm3_sim::server::{Call, Fate, Seam, User, Verb};
use capm3_sim::world::kinds::{EVENT, IP_CLAIM, POOL};
use capm3_sim::world::{Provider, Settings, World};
use figures::{Bound, count, micros_each, title};
use futures::future::BoxFuture;
use serde_json::json;

/// All of a /16 but its first and its last address.
const SIZES: [usize; 3] = [4_096, 16_384, 65_534];
/// Longer than any of it takes in virtual time.
const BOUND: Duration = Duration::from_secs(24 * 3600);

fn main() {
    title("Filling a pool");
    for claims in SIZES {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(fill(claims));
    }
}

/// Requests of the manager that cost an API server something for each claim.
#[derive(Default)]
struct Counted {
    of_claims: AtomicUsize,
    of_pool: AtomicUsize,
}

impl Seam for Counted {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Fate> {
        let background = matches!(call.verb, Verb::List | Verb::Watch) || call.resource == EVENT.plural;
        if call.user == Provider::Ipam.user(1).name && !background {
            let counter = if call.resource == POOL.plural { &self.of_pool } else { &self.of_claims };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Box::pin(std::future::ready(Fate::Pass))
    }
}

async fn fill(claims: usize) {
    let world = World::empty(Settings::default()).await.unwrap();
    let hand = world.hand();
    let ranges = json!([{"start": "10.0.0.1", "end": "10.0.255.254"}]);
    hand.create(
        POOL,
        json!({"metadata": {"name": "prov"}, "spec": {"namePrefix": "prov", "prefix": 16, "pools": ranges}}),
    )
    .await
    .unwrap();
    for n in 0..claims {
        let metadata =
            json!({"name": format!("prod-workers-{n}-prov"), "labels": {"cluster.x-k8s.io/cluster-name": "prod"}});
        hand.create(IP_CLAIM, json!({"metadata": metadata, "spec": {"pool": {"name": "prov"}}})).await.unwrap();
    }
    let counted = Arc::<Counted>::default();
    world.server.set_seam(counted.clone());
    let start = Instant::now();
    world.start(Provider::Ipam);
    let used = |pool: &serde_json::Value| pool["status"]["ipAddresses"]["used"] == claims;
    hand.until(BOUND, (POOL, "prov"), "it is full", used).await.unwrap();
    assert!(world.settles(Duration::from_secs(30), BOUND).await, "it never rests");
    let time = start.elapsed();
    micros_each(&format!("{claims} claims on one /16, server and all"), claims, time, "claim", Bound::None);
    let (of_claims, of_pool) = (counted.of_claims.load(Ordering::Relaxed), counted.of_pool.load(Ordering::Relaxed));
    count(&format!("requests for {claims} claims"), of_claims as f64 / claims as f64, "a claim", Bound::AtMost(3.0));
    count(&format!("requests for the pool of {claims} claims"), of_pool as f64, "requests", Bound::None);
    assert!(of_claims <= 3 * claims, "{of_claims} requests for {claims} claims");
    if Some(&claims) == SIZES.last() {
        title("Kept in the cache");
        cached::<IPAddress>(&world, claims, "an address").await;
        cached::<IPClaim>(&world, claims, "its claim").await;
    }
}

/// By how much this process grows when somebody watches a kind, with the index that the controller has.
async fn cached<K: Object>(world: &World, count: usize, what: &str) {
    let tasks = Tasks::new();
    let hub = Hub::new(world.server.client(User::admin()), HubOptions::default());
    let before = resident();
    let store: Store<K> = hub.store(WatchOptions::default());
    store.index("namespace", |object| vec![key_of(object).namespace]);
    hub.start(&tasks);
    hub.wait_synced().await;
    assert_eq!(store.len(), count);
    let bound = if what == "an address" { Bound::AtMost(300.0) } else { Bound::None };
    figures::count(&format!("{what}, as it is cached"), (resident() - before) / count as f64, "bytes", bound);
    tasks.stop();
}

/// Bytes of this process in memory; 0 where nobody tells.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}
