//! What a pass over a pool looks at: caches, and live reads where an absence would be acted on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use capm3_api::foreign::{self, IPAddressClaim};
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_core::ipam::objects::{capi_claim, cluster_of_claim, pool_of_address, pool_of_capi_address};
use capm3_core::ipam::pool::{AddressObject, Claim, Cluster, Needs, Observed, Pool, needs};
use capm3_core::ipam::table::{ClaimKey, Kind};
use capm3_core::planted::{Defect, sown};
use capm3_runtime::{Key, ListOptions, Object};

use super::{POOL, PoolError, Pools};

/// A claim as it was read; writes are differences to it.
pub(super) enum ClaimObject {
    Metal3(Arc<IPClaim>),
    ClusterApi(Arc<IPAddressClaim>),
}

/// What the decision sees, and the objects it was made from.
pub(super) struct Gathered {
    pub(super) observed: Observed,
    pub(super) pool: Arc<IPPool>,
    pub(super) claims: BTreeMap<ClaimKey, ClaimObject>,
}

impl Pools {
    pub(super) async fn gather(&self, key: &Key, pool: Arc<IPPool>) -> Result<Gathered, PoolError> {
        let (claims, objects) = self.claims_of(key);
        let cluster_name = pool.spec.cluster_name.as_deref().filter(|name| !name.is_empty());
        let mut observed = Observed {
            cluster: cluster_name.map(|name| self.cluster(&key.sibling(name))),
            addresses: self.addresses_of(key),
            foreign_names: BTreeSet::new(),
            pool: Pool::from(&*pool),
            claims,
            now: self.clock.now(),
            seed: self.dice.roll(),
            ..Observed::default()
        };
        if observed.wants_addresses() && !sown(Defect::TakenNameChosen) {
            observed.foreign_names = self.foreign_names(key, &pool.spec.name_prefix);
        }
        let needs = needs(&observed);
        if needs != Needs::default() {
            self.confirm(key, &needs, &mut observed).await?;
        }
        Ok(Gathered { observed, pool, claims: objects })
    }

    /// The claims of both kinds that ask this pool.
    pub(super) fn claims_of(&self, pool: &Key) -> (Vec<Claim>, BTreeMap<ClaimKey, ClaimObject>) {
        let mut claims = Vec::new();
        let mut objects = BTreeMap::new();
        for object in self.stores.claims.by_index(POOL, &pool.to_string()) {
            let claim = Claim::from(&*object);
            objects.insert(claim.key.clone(), ClaimObject::Metal3(object));
            claims.push(claim);
        }
        for object in self.stores.capi_claims.by_index(POOL, &pool.to_string()) {
            let cluster = cluster_of_claim(&object).map(|name| self.cluster(&pool.sibling(name)));
            let claim = capi_claim(&object, cluster);
            objects.insert(claim.key.clone(), ClaimObject::ClusterApi(object));
            claims.push(claim);
        }
        (claims, objects)
    }

    pub(super) fn addresses_of(&self, pool: &Key) -> Vec<AddressObject> {
        let m3 = self.stores.addresses.by_index(POOL, &pool.to_string());
        let capi = self.stores.capi_addresses.by_index(POOL, &pool.to_string());
        let m3 = m3.iter().map(|object| AddressObject::from(&**object));
        m3.chain(capi.iter().map(|object| AddressObject::from(&**object))).collect()
    }

    fn cluster(&self, key: &Key) -> Cluster {
        let Some(cluster) = self.stores.clusters.get(key) else { return Cluster::Missing };
        Cluster::Found {
            name: key.name.clone(),
            uid: cluster.metadata.uid.clone().unwrap_or_default(),
            paused: cluster.spec.paused.unwrap_or_default(),
        }
    }

    /// HI-12: names of address objects of other pools that this pool might want to use.
    fn foreign_names(&self, pool: &Key, prefix: &str) -> BTreeSet<(Kind, String)> {
        let m3 = self.stores.addresses.list(&pool.namespace).into_iter();
        let m3 = m3.filter(|object| pool_of_address(object) != Some(&pool.name));
        let capi = self.stores.capi_addresses.list(&pool.namespace).into_iter();
        let capi = capi.filter(|object| pool_of_capi_address(object) != Some(&pool.name));
        let m3 = m3.filter_map(|object| Some((Kind::Metal3, object.metadata.name.clone()?)));
        let capi = capi.filter_map(|object| Some((Kind::ClusterApi, object.metadata.name.clone()?)));
        m3.chain(capi).filter(|(_, name)| name.starts_with(prefix)).collect()
    }

    async fn confirm(&self, pool: &Key, needs: &Needs, observed: &mut Observed) -> Result<(), PoolError> {
        for claim in &needs.claims {
            let uid = self.claim_uid_live(pool, claim).await?;
            observed.confirmed.claims.insert(claim.clone(), uid);
        }
        for (kind, name) in &needs.addresses {
            let key = pool.sibling(name);
            let found = match kind {
                Kind::Metal3 => {
                    let object = self.live::<IPAddress>(&key).await?;
                    object
                        .filter(|object| pool_of_address(object) == Some(&pool.name))
                        .as_ref()
                        .map(AddressObject::from)
                }
                Kind::ClusterApi => {
                    let object = self.live::<foreign::IPAddress>(&key).await?;
                    let object = object.filter(|object| pool_of_capi_address(object) == Some(&pool.name));
                    object.as_ref().map(AddressObject::from)
                }
            };
            observed.addresses.extend(found);
        }
        if needs.emptiness {
            let m3 = self.live_list::<IPAddress>(&pool.namespace).await?;
            let capi = self.live_list::<foreign::IPAddress>(&pool.namespace).await?;
            let none_of_m3 = !m3.iter().any(|object| pool_of_address(object) == Some(&pool.name));
            observed.confirmed.empty =
                none_of_m3 && !capi.iter().any(|object| pool_of_capi_address(object) == Some(&pool.name));
        }
        Ok(())
    }

    /// A kind that the API server does not serve has no objects.
    /// The uid of a claim, past the caches; none when there is no such claim.
    pub(super) async fn claim_uid_live(&self, pool: &Key, claim: &ClaimKey) -> Result<Option<String>, PoolError> {
        let key = pool.sibling(&claim.name);
        let uid = match claim.kind {
            Kind::Metal3 => self.live::<IPClaim>(&key).await?.map(|claim| claim.metadata.uid),
            Kind::ClusterApi => self.live::<IPAddressClaim>(&key).await?.map(|claim| claim.metadata.uid),
        };
        Ok(uid.map(Option::unwrap_or_default))
    }

    pub(super) async fn live<K: Object>(&self, key: &Key) -> Result<Option<K>, PoolError> {
        match self.reader.get(key).await {
            Err(capm3_runtime::ReadError::NoSuchKind { .. }) => Ok(None),
            other => other.map_err(PoolError::Read),
        }
    }

    async fn live_list<K: Object>(&self, namespace: &str) -> Result<Vec<K>, PoolError> {
        match self.reader.list(&ListOptions::namespace(namespace)).await {
            Err(capm3_runtime::ReadError::NoSuchKind { .. }) => Ok(Vec::new()),
            other => other.map_err(PoolError::Read),
        }
    }
}
