//! Pools: one controller over IPPools that serves the claims of both kinds.
//!
//! | change of | wakes |
//! |---|---|
//! | IPPool | itself |
//! | IPClaim, IPAddressClaim | the pool it asks; a new IPClaim a moment later, with those that come together with it |
//! | IPAddress of either kind | the pool it is of: an address that is gone is free for a claim that waits |
//! | Cluster (appears, goes, is paused or resumed) | pools and Cluster API claims that name it |
//!
//! The kinds of Cluster API's IPAM may be missing; they are served from the moment they appear (I-49).

mod apply;
mod gather;

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{self, Cluster, IPAddressClaim};
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_api::k8s::ObjectMeta;
use capm3_api::names::label;
use capm3_core::ipam::objects::{
    cluster_of_claim, pool_of_address, pool_of_capi_address, pool_of_capi_claim, pool_of_claim,
};
use capm3_core::ipam::pool;
use capm3_runtime::{
    Change, Clock, Controller, Dice, Key, Next, ReadError, Reader, Reconcile, ReconcileError, Recorder, Retry, Setup,
    Store, WatchOptions, WriteError, Writer, key_of,
};

const NAME: &str = "ippool";
/// Machines come in bursts: new claims of one moment share a pass, and its write of the pool's status.
const GATHERING: Duration = Duration::from_millis(100);
/// Index of claims and addresses by `<namespace>/<pool>`.
const POOL: &str = "pool";
/// Index of pools and Cluster API claims by `<namespace>/<cluster>`.
const CLUSTER: &str = "cluster";

/// Declares what the pool controller watches and leaves it to be run.
pub fn register(setup: &mut Setup) {
    let queue = setup.queue(NAME);
    let stores = Stores {
        pools: setup.hub.store(WatchOptions::default()),
        claims: setup.hub.store(WatchOptions::default()),
        addresses: setup.hub.store(WatchOptions::default()),
        clusters: setup.hub.store(WatchOptions::default()),
        capi_claims: setup.hub.store(WatchOptions::optional()),
        capi_addresses: setup.hub.store(WatchOptions::optional()),
    };
    stores.pools.index(CLUSTER, |pool| in_namespace(&pool.metadata, pool.spec.cluster_name.as_deref()));
    stores.claims.index(POOL, |claim| in_namespace(&claim.metadata, pool_of_claim(claim)));
    stores.addresses.index(POOL, |address| in_namespace(&address.metadata, pool_of_address(address)));
    stores.capi_claims.index(POOL, |claim| in_namespace(&claim.metadata, pool_of_capi_claim(claim)));
    stores.capi_claims.index(CLUSTER, |claim| in_namespace(&claim.metadata, cluster_of_claim(claim)));
    stores.capi_addresses.index(POOL, |address| in_namespace(&address.metadata, pool_of_capi_address(address)));

    let filter = setup.options.watch_filter.clone();
    let wanted = {
        let filter = filter.clone();
        move |meta: &ObjectMeta| passes(filter.as_deref(), meta)
    };
    let hub = setup.hub.clone();
    {
        let wanted = wanted.clone();
        hub.route(&stores.pools, &queue, move |change: &Change<IPPool>| {
            change.sides().filter(|pool| wanted(&pool.metadata)).map(|pool| key_of(&**pool)).take(1).collect()
        });
    }
    {
        let (wanted, later) = (wanted.clone(), queue.clone());
        hub.route(&stores.claims, &queue, move |change: &Change<IPClaim>| {
            let claims = change.sides().filter(|claim| wanted(&claim.metadata));
            let pools = claims.filter_map(|claim| sibling(&**claim, pool_of_claim(claim)));
            if change.old.is_some() {
                return pools.collect();
            }
            pools.for_each(|pool| later.add_after(pool, GATHERING));
            Vec::new()
        });
    }
    hub.route(&stores.capi_claims, &queue, move |change: &Change<IPAddressClaim>| {
        let claims = change.sides().filter(|claim| wanted(&claim.metadata));
        claims.filter_map(|claim| sibling(&**claim, pool_of_capi_claim(claim))).collect()
    });
    hub.route(&stores.addresses, &queue, |change: &Change<IPAddress>| {
        change.sides().filter_map(|address| sibling(&**address, pool_of_address(address))).collect()
    });
    hub.route(&stores.capi_addresses, &queue, |change: &Change<foreign::IPAddress>| {
        change.sides().filter_map(|address| sibling(&**address, pool_of_capi_address(address))).collect()
    });
    {
        let (pools, claims) = (stores.pools.clone(), stores.capi_claims.clone());
        hub.route(&stores.clusters, &queue, move |change: &Change<Cluster>| {
            if !matters(change) {
                return Vec::new();
            }
            let cluster = change.key().to_string();
            let of_pools = pools.by_index(CLUSTER, &cluster).into_iter().map(|pool| key_of(&*pool));
            let of_claims = claims.by_index(CLUSTER, &cluster).into_iter();
            of_pools.chain(of_claims.filter_map(|claim| sibling(&*claim, pool_of_capi_claim(&claim)))).collect()
        });
    }

    let pools = Pools {
        stores,
        reader: setup.reader.clone(),
        writer: setup.writer.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        dice: setup.dice.clone(),
        filter,
    };
    setup.add(Controller::new(NAME, queue, pools, setup.workers(NAME)));
}

struct Stores {
    pools: Store<IPPool>,
    claims: Store<IPClaim>,
    addresses: Store<IPAddress>,
    clusters: Store<Cluster>,
    capi_claims: Store<IPAddressClaim>,
    capi_addresses: Store<foreign::IPAddress>,
}

struct Pools {
    stores: Stores,
    reader: Reader,
    writer: Writer,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    dice: Arc<dyn Dice>,
    filter: Option<String>,
}

/// What a pass over a pool can fail of.
#[derive(Debug, thiserror::Error)]
enum PoolError {
    #[error("pool pass could not read what it needs")]
    Read(#[source] ReadError),
    #[error("pool pass could not write")]
    Write(#[source] WriteError),
    /// Another object has the name that an address object was to get; the next pass sees it and chooses again (HI-12).
    #[error("{name} exists and is not the address of claim {claim}")]
    NameTaken { name: Key, claim: String },
}

impl ReconcileError for PoolError {
    fn category(&self) -> &'static str {
        match self {
            Self::Read(error) => error.category(),
            Self::Write(error) => error.category(),
            Self::NameTaken { .. } => "AddressNameTaken",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Read(error) => error.retry(),
            Self::Write(error) => error.retry(),
            Self::NameTaken { .. } => Retry::Backoff,
        }
    }
}

impl Reconcile for Pools {
    type Error = PoolError;

    async fn reconcile(&self, key: &Key) -> Result<Next, PoolError> {
        let Some(pool) = self.stores.pools.get(key) else {
            return self.let_go(key).await;
        };
        if !passes(self.filter.as_deref(), &pool.metadata) {
            return Ok(Next::Done);
        }
        let gathered = self.gather(key, pool).await?;
        let plan = pool::decide(&gathered.observed);
        let after = plan.after;
        self.apply(&gathered, plan).await?;
        Ok(after.map_or(Next::Done, Next::After))
    }
}

/// Presence of the filter's value on the label, when there is a filter (I-18).
fn passes(filter: Option<&str>, meta: &ObjectMeta) -> bool {
    filter.is_none_or(|filter| {
        meta.labels.as_ref().and_then(|labels| labels.get(label::WATCH_FILTER)).is_some_and(|value| value == filter)
    })
}

/// A Cluster that changes in nothing but its status does not concern pools.
fn matters(change: &Change<Cluster>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => old.spec.paused != new.spec.paused || old.metadata.uid != new.metadata.uid,
        (_, _) => true,
    }
}

fn in_namespace(meta: &ObjectMeta, name: Option<&str>) -> Vec<String> {
    let key = |name: &str| Key::new(meta.namespace.as_deref().unwrap_or_default(), name).to_string();
    name.map(key).into_iter().collect()
}

fn sibling<K: capm3_runtime::Object>(object: &K, name: Option<&str>) -> Option<Key> {
    name.map(|name| key_of(object).sibling(name))
}
