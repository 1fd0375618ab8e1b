//! API objects of both kinds as the allocator sees them, and what it decided as API objects.
//!
//! Which claims and addresses belong to a pool is decided here too: by name, kind and group, inside one namespace (HI-3, HI-4).
//! Names of kinds and versions are constants, never copied from an object (I-48).
//!
//! Rules: spec/ipam.md I-6 to I-9, I-28, I-29, I-40, I-42, with hazards HI-3, HI-4, HI-22, HI-23 and HI-24 adopted.

use capm3_api::foreign::{self, ContractRef, IPAddressClaim, IPAddressClaimStatus, NameRef};
use capm3_api::ipam::v1alpha1::{IPAddress, IPAddressSpec, IPClaim, IPClaimStatus, IPPool, IPPoolStatus};
use capm3_api::k8s::{Condition, ObjectMeta, ObjectReference, OwnerReference, Time, Timestamp};
use capm3_api::names::{
    CAPI_API_VERSION, CAPI_IPAM_API_VERSION, IPAM_API_VERSION, IPAM_GROUP, STRATEGY_RANDOM, annotation, condition,
    label, reason,
};

use super::allocate::{Failure, Offer, Range};
use super::pool::{AddressObject, Answer, Claim, Cluster, NewAddress, Pool, Reason, Status};
use super::range::{Address, Bounds, Interval};
use super::table::{ClaimKey, Kind};
use crate::conditions::Summary;
use crate::planted::{Defect, sown};
use crate::ready::{self, Told};

/// Name of the pool that an IPClaim asks. A pool of another namespace is none of ours to serve (HI-4).
pub fn pool_of_claim(claim: &IPClaim) -> Option<&str> {
    local(&claim.metadata, &claim.spec.pool)
}

/// Name of the pool that a Cluster API claim asks, if it is one of our kind (HI-3).
pub fn pool_of_capi_claim(claim: &IPAddressClaim) -> Option<&str> {
    our_pool(claim.spec.pool_ref.as_ref())
}

pub fn pool_of_address(address: &IPAddress) -> Option<&str> {
    local(&address.metadata, &address.spec.pool)
}

pub fn pool_of_capi_address(address: &foreign::IPAddress) -> Option<&str> {
    our_pool(address.spec.pool_ref.as_ref())
}

/// The Cluster whose pause a Cluster API claim obeys (HI-24).
pub fn cluster_of_claim(claim: &IPAddressClaim) -> Option<&str> {
    let named = claim.spec.cluster_name.as_deref();
    let labelled = || claim.metadata.labels.as_ref()?.get(label::CLUSTER_NAME).map(String::as_str);
    named.or_else(labelled).filter(|name| !name.is_empty())
}

fn local<'a>(meta: &ObjectMeta, pool: &'a ObjectReference) -> Option<&'a str> {
    let namespace = pool.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let here = namespace.is_none_or(|namespace| Some(namespace) == meta.namespace.as_deref());
    pool.name.as_deref().filter(|name| here && !name.is_empty())
}

fn our_pool(pool: Option<&ContractRef>) -> Option<&str> {
    let ours = |pool: &&ContractRef| {
        (pool.api_group.as_deref() == Some(IPAM_GROUP) && pool.kind == IPPool::KIND) || sown(Defect::AnyPoolIsOurs)
    };
    pool.filter(ours).map(|pool| pool.name.as_str()).filter(|name| !name.is_empty())
}

impl From<&IPPool> for Pool {
    fn from(pool: &IPPool) -> Self {
        let status = pool.status.as_ref();
        Self {
            metadata: pool.metadata.clone(),
            cluster_name: pool.spec.cluster_name.clone().filter(|name| !name.is_empty()),
            name_prefix: pool.spec.name_prefix.clone(),
            offer: offer(pool),
            indexes: status.map(|status| status.indexes.clone()).unwrap_or_default(),
            last_updated: status.and_then(|status| status.last_updated.clone()),
            counts: status.and_then(|status| status.ip_addresses.clone()),
        }
    }
}

/// I-40: what a range does not say, the pool says.
fn offer(pool: &IPPool) -> Offer {
    let spec = &pool.spec;
    let ranges = spec.pools.iter().filter_map(|range| {
        let bounds =
            Bounds { start: range.start.as_deref(), end: range.end.as_deref(), subnet: range.subnet.as_deref() };
        let prefix = range.prefix.filter(|prefix| *prefix != 0).or(spec.prefix).unwrap_or(0);
        let dns_servers = if range.dns_servers.is_empty() { &spec.dns_servers } else { &range.dns_servers };
        Some(Range {
            interval: Interval::of(bounds)?,
            prefix,
            gateway: range.gateway.clone().or_else(|| spec.gateway.clone()),
            dns_servers: dns_servers.clone(),
        })
    });
    let kept = spec.pre_allocations.iter().map(|(claim, text)| (claim.clone(), text.parse::<Address>().ok()));
    Offer {
        ranges: ranges.collect(),
        random: spec.allocation_strategy.as_deref() == Some(STRATEGY_RANDOM),
        pre_allocations: kept.collect(),
    }
}

impl From<&IPClaim> for Claim {
    fn from(claim: &IPClaim) -> Self {
        let status = claim.status.clone().unwrap_or_default();
        let address = status.address.and_then(|address| address.name).filter(|name| !name.is_empty());
        let error = status.error_message.filter(|message| !message.is_empty());
        let answer = match (address, error) {
            (None, None) => None,
            (Some(name), None) => Some(Answer::Address(name)),
            (None, Some(message)) => Some(Answer::Failed { reason: Reason::of_message(&message), message }),
            (Some(_), Some(_)) => Some(Answer::Incomplete),
        };
        let stale = ready::is_stale(&claim.metadata, status.observed_generation);
        let answer = answer.map(|answer| if stale { Answer::Incomplete } else { answer });
        Self { answer, ..common(Kind::Metal3, &claim.metadata) }
    }
}

/// `cluster` is the one that [`cluster_of_claim`] names.
pub fn capi_claim(claim: &IPAddressClaim, cluster: Option<Cluster>) -> Claim {
    let status = claim.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|found| found.type_ == condition::READY);
    let failed = |ready: &Condition| {
        let reason = [Reason::AllocationFailed, Reason::PoolExhausted, Reason::PoolNotReady]
            .into_iter()
            .find(|reason| reason.as_str() == ready.reason && ready.status == "False")?;
        Some(Answer::Failed { reason, message: ready.message.clone() })
    };
    let answer = match (status.address_ref.map(|address| address.name), ready) {
        (None, None) => None,
        (None, Some(ready)) => Some(failed(ready).unwrap_or(Answer::Incomplete)),
        (Some(name), Some(ready)) if ready.status == "True" => Some(Answer::Address(name)),
        (Some(_), _) => Some(Answer::Incomplete), // HI-23
    };
    Claim { answer, cluster, ..common(Kind::ClusterApi, &claim.metadata) }
}

fn common(kind: Kind, meta: &ObjectMeta) -> Claim {
    let annotations = meta.annotations.as_ref();
    Claim {
        key: ClaimKey::new(kind, meta.name.clone().unwrap_or_default()),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone(),
        created: meta.creation_timestamp.as_ref().map(|at| at.0),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        paused: annotations.is_some_and(|all| all.contains_key(annotation::PAUSED)),
        cluster: None,
        requested: annotations.and_then(|all| all.get(annotation::REQUESTED_ADDRESS).cloned()),
        answer: None,
    }
}

impl From<&IPAddress> for AddressObject {
    fn from(address: &IPAddress) -> Self {
        let claim = address.spec.claim.name.as_deref().unwrap_or_default();
        object(Kind::Metal3, &address.metadata, &address.spec.address, claim)
    }
}

impl From<&foreign::IPAddress> for AddressObject {
    fn from(address: &foreign::IPAddress) -> Self {
        let claim = address.spec.claim_ref.as_ref().map_or("", |claim| claim.name.as_str());
        object(Kind::ClusterApi, &address.metadata, &address.spec.address, claim)
    }
}

fn object(kind: Kind, meta: &ObjectMeta, address: &str, claim: &str) -> AddressObject {
    let of_claim = |owner: &&OwnerReference| owner.kind == kind.claim_kind() && owner.name == claim;
    AddressObject {
        kind,
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        address: address.to_owned(),
        claim: claim.to_owned(),
        claim_uid: meta.owner_references.iter().flatten().find(of_claim).map(|owner| owner.uid.clone()),
    }
}

/// I-28.
pub fn new_address(pool: &ObjectMeta, claim: &IPClaim, new: &NewAddress) -> IPAddress {
    let reference = |name: Option<&String>| ObjectReference {
        name: name.cloned(),
        namespace: pool.namespace.clone(),
        ..ObjectReference::default()
    };
    let owner = |kind: &str, meta: &ObjectMeta| OwnerReference {
        api_version: IPAM_API_VERSION.to_owned(),
        kind: kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let owners = vec![owner(IPPool::KIND, pool), owner(IPClaim::KIND, &claim.metadata)];
    IPAddress {
        metadata: address_meta(Kind::Metal3, pool, &claim.metadata, &new.name, owners),
        spec: IPAddressSpec {
            address: new.grant.address.to_string(),
            claim: reference(claim.metadata.name.as_ref()),
            dns_servers: new.grant.dns_servers.clone(),
            gateway: new.grant.gateway.clone(),
            pool: reference(pool.name.as_ref()),
            prefix: Some(new.grant.prefix).filter(|prefix| *prefix != 0),
        },
    }
}

/// I-29, with the owner references that the contract asks for (HI-24).
pub fn new_capi_address(pool: &ObjectMeta, claim: &IPAddressClaim, new: &NewAddress) -> foreign::IPAddress {
    let owner = |api_version: &str, kind: &str, meta: &ObjectMeta, controller| OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(controller),
        block_owner_deletion: Some(true),
    };
    let owners = vec![
        owner(IPAM_API_VERSION, IPPool::KIND, pool, false),
        owner(CAPI_IPAM_API_VERSION, IPAddressClaim::KIND, &claim.metadata, true),
    ];
    foreign::IPAddress {
        metadata: address_meta(Kind::ClusterApi, pool, &claim.metadata, &new.name, owners),
        spec: foreign::IPAddressSpec {
            address: new.grant.address.to_string(),
            claim_ref: claim.metadata.name.clone().map(|name| NameRef { name }),
            gateway: new.grant.gateway.clone(),
            pool_ref: Some(ContractRef {
                api_group: Some(IPAM_GROUP.to_owned()),
                kind: IPPool::KIND.to_owned(),
                name: pool.name.clone().unwrap_or_default(),
            }),
            prefix: i32::try_from(new.grant.prefix).ok(),
        },
    }
}

fn address_meta(
    kind: Kind,
    pool: &ObjectMeta,
    claim: &ObjectMeta,
    name: &str,
    owners: Vec<OwnerReference>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: pool.namespace.clone(),
        labels: claim.labels.clone(),
        finalizers: Some(vec![kind.address_finalizer().to_owned()]),
        owner_references: Some(owners),
        ..ObjectMeta::default()
    }
}

/// I-19: the Cluster as an owner of its pool, not the controller of it.
pub fn cluster_owner(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: CAPI_API_VERSION.to_owned(),
        kind: "Cluster".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(false),
        block_owner_deletion: None,
    }
}

/// Status of a pool after a pass: what the pass reserves, and `Ready` (HI-28). `reserves` is none when nothing of it changes.
pub fn pool_status(
    pool: &IPPool,
    reserves: Option<Status>,
    ready: Option<&Summary>,
    now: Timestamp,
) -> Option<IPPoolStatus> {
    let before = pool.status.as_ref();
    let bare = match reserves {
        Some(Status { indexes, last_updated, counts }) => {
            IPPoolStatus { indexes, ip_addresses: counts, last_updated, ..IPPoolStatus::default() }
        }
        None => before.map(Told::bare).unwrap_or_default(),
    };
    let after = match ready {
        Some(ready) => ready::tell(&pool.metadata, before, bare, ready, now),
        None => return None,
    };
    (before != Some(&after)).then_some(after)
}

/// Status of an IPClaim that got this answer. `Ready` says the same as on a claim of Cluster API (K-74).
pub fn claim_status(claim: &IPClaim, answer: &Answer, now: Timestamp) -> IPClaimStatus {
    let reference = |name: &String| ObjectReference {
        name: Some(name.clone()),
        namespace: claim.metadata.namespace.clone(),
        ..ObjectReference::default()
    };
    let (bare, ready) = match answer {
        Answer::Address(name) => {
            let address = Some(reference(name));
            (IPClaimStatus { address, ..IPClaimStatus::default() }, Summary::ready())
        }
        Answer::Failed { reason, message } => {
            let error_message = Some(message.clone());
            let ready = Summary::not_ready(reason.as_str(), message);
            (IPClaimStatus { error_message, ..IPClaimStatus::default() }, ready)
        }
        Answer::Incomplete => return claim.status.clone().unwrap_or_default(),
    };
    ready::tell(&claim.metadata, claim.status.as_ref(), bare, &ready, now)
}

/// What claims on a pool are told that does not exist. No error is recorded: nothing was tried.
pub fn awaiting_pool(claim: &IPClaim, now: Timestamp) -> IPClaimStatus {
    let bare = claim.status.as_ref().map(Told::bare).unwrap_or_default();
    let ready = Summary::not_ready(reason::POOL_NOT_READY, no_pool(pool_of_claim(claim).unwrap_or_default()));
    ready::tell(&claim.metadata, claim.status.as_ref(), bare, &ready, now)
}

/// The same for a claim of Cluster API.
pub fn capi_awaiting_pool(claim: &IPAddressClaim, now: &Time) -> IPAddressClaimStatus {
    let message = no_pool(pool_of_capi_claim(claim).unwrap_or_default());
    capi_claim_status(claim, &Answer::Failed { reason: Reason::PoolNotReady, message }, now)
}

fn no_pool(name: &str) -> String {
    format!("waits for IPPool {name}, which does not exist")
}

/// Status of a Cluster API claim that got this answer: the Ready condition replaces whatever conditions there were (I-42).
pub fn capi_claim_status(claim: &IPAddressClaim, answer: &Answer, now: &Time) -> IPAddressClaimStatus {
    let before = claim.status.clone().unwrap_or_default();
    let ready = |status: &str, reason: &str, message: &str| {
        let since = before.conditions.iter().find(|c| c.type_ == condition::READY && c.status == status);
        vec![Condition {
            type_: condition::READY.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
            observed_generation: claim.metadata.generation,
        }]
    };
    let (address_ref, conditions) = match answer {
        Answer::Address(name) => (Some(NameRef { name: name.clone() }), ready("True", reason::READY, "")),
        Answer::Failed { reason, message } => (None, ready("False", reason.as_str(), message)),
        Answer::Incomplete => return before,
    };
    IPAddressClaimStatus { address_ref, conditions, ..before }
}

impl Kind {
    fn claim_kind(self) -> &'static str {
        match self {
            Self::Metal3 => IPClaim::KIND,
            Self::ClusterApi => IPAddressClaim::KIND,
        }
    }
}

impl Reason {
    /// An IPClaim's status has the message alone.
    fn of_message(message: &str) -> Self {
        if message == Failure::Exhausted.to_string() {
            Self::PoolExhausted
        } else if message == Failure::PoolDeleting.to_string() {
            Self::PoolNotReady
        } else {
            Self::AllocationFailed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::pool::{Observed, decide};
    use capm3_api::foreign::IPAddressClaimSpec;
    use capm3_api::ipam::v1alpha1::{IPAddressCounts, IPClaimSpec, IPPoolSpec, Range as PoolRange};
    use serde_json::json;

    fn claim(namespace: &str, pool_namespace: &str) -> IPClaim {
        let pool = ObjectReference {
            name: Some("abc".into()),
            namespace: Some(pool_namespace.into()),
            ..ObjectReference::default()
        };
        IPClaim { spec: IPClaimSpec { pool }, ..IPClaim::named(namespace, "c") }
    }

    fn capi(group: &str, kind: &str) -> IPAddressClaim {
        let pool_ref = ContractRef { api_group: Some(group.into()), kind: kind.into(), name: "abc".into() };
        let spec = IPAddressClaimSpec { pool_ref: Some(pool_ref), ..IPAddressClaimSpec::default() };
        let mut claim = IPAddressClaim { spec, ..IPAddressClaim::named("x", "c") };
        claim.metadata.uid = Some("claim-uid".into());
        claim
    }

    fn new() -> NewAddress {
        let offer = Offer {
            ranges: vec![Range {
                interval: Interval::of(Bounds { start: Some("10.0.0.7"), end: None, subnet: None }).unwrap(),
                prefix: 24,
                gateway: Some("10.0.0.1".into()),
                dns_servers: vec!["10.0.0.2".into()],
            }],
            ..Offer::default()
        };
        let grant = super::super::allocate::describe(&offer, "10.0.0.7".parse().unwrap()).unwrap();
        NewAddress { name: "p-10-0-0-7".into(), grant }
    }

    fn pool_meta() -> ObjectMeta {
        ObjectMeta { uid: Some("pool-uid".into()), ..IPPool::named("x", "abc").metadata }
    }

    #[test]
    fn ti_50_ti_100_ti_131_claims_ask_pools_of_their_own_namespace() {
        assert_eq!(pool_of_claim(&claim("x", "")), Some("abc"));
        assert_eq!(pool_of_claim(&claim("x", "x")), Some("abc"));
        assert_eq!(pool_of_claim(&claim("x", "y")), None);
        assert_eq!(pool_of_claim(&IPClaim::named("x", "c")), None);
    }

    #[test]
    fn ti_41_ti_101_ti_130_pools_of_other_providers_are_not_ours() {
        assert_eq!(pool_of_capi_claim(&capi("ipam.metal3.io", "IPPool")), Some("abc"));
        assert_eq!(pool_of_capi_claim(&capi("ipam.cluster.x-k8s.io", "IPPool")), None);
        assert_eq!(pool_of_capi_claim(&capi("ipam.metal3.io", "InClusterIPPool")), None);
    }

    #[test]
    fn k_69_i_28_an_address_of_our_own_kind_has_its_claim_s_labels() {
        let mut claim = claim("x", "");
        claim.metadata.uid = Some("claim-uid".into());
        claim.metadata.labels = Some([("l".to_owned(), "v".to_owned())].into());
        assert_eq!(
            serde_json::to_value(new_address(&pool_meta(), &claim, &new())).unwrap(),
            json!({
                "apiVersion": "ipam.metal3.io/v1alpha1",
                "kind": "IPAddress",
                "metadata": {
                    "name": "p-10-0-0-7",
                    "namespace": "x",
                    "labels": {"l": "v"},
                    "finalizers": ["ipaddress.ipam.metal3.io"],
                    "ownerReferences": [
                        {"apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPPool", "name": "abc", "uid": "pool-uid"},
                        {"apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPClaim", "name": "c", "uid": "claim-uid"},
                    ],
                },
                "spec": {
                    "address": "10.0.0.7",
                    "claim": {"name": "c", "namespace": "x"},
                    "dnsServers": ["10.0.0.2"],
                    "gateway": "10.0.0.1",
                    "pool": {"name": "abc", "namespace": "x"},
                    "prefix": 24,
                },
            })
        );
    }

    #[test]
    fn ti_148_an_address_of_cluster_apis_kind() {
        let mut without_prefix = new();
        without_prefix.grant.prefix = 0;
        let claim = capi("ipam.metal3.io", "IPPool");
        assert_eq!(
            serde_json::to_value(new_capi_address(&pool_meta(), &claim, &without_prefix)).unwrap(),
            json!({
                "apiVersion": "ipam.cluster.x-k8s.io/v1beta2",
                "kind": "IPAddress",
                "metadata": {
                    "name": "p-10-0-0-7",
                    "namespace": "x",
                    "finalizers": ["ipam.metal3.io/ipaddress"],
                    "ownerReferences": [
                        {"apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPPool", "name": "abc", "uid": "pool-uid",
                         "controller": false, "blockOwnerDeletion": true},
                        {"apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddressClaim", "name": "c",
                         "uid": "claim-uid", "controller": true, "blockOwnerDeletion": true},
                    ],
                },
                "spec": {
                    "address": "10.0.0.7",
                    "claimRef": {"name": "c"},
                    "gateway": "10.0.0.1",
                    "poolRef": {"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": "abc"},
                    "prefix": 0,
                },
            })
        );
    }

    #[test]
    fn ti_56_hi_22_answers_are_read_back_as_written() {
        let now = Time(jiff::Timestamp::from_second(7).unwrap());
        for answer in [
            Answer::Address("p-10-0-0-7".into()),
            Answer::from(&Failure::Exhausted),
            Answer::from(&Failure::PoolDeleting),
            Answer::from(&Failure::NotAvailable),
        ] {
            let mut m3 = claim("x", "");
            m3.status = Some(claim_status(&m3, &answer, now.0));
            let address = m3.status.as_ref().unwrap().address.as_ref();
            assert!(address.is_none_or(|address| address.namespace.as_deref() == Some("x")));
            assert_eq!(Claim::from(&m3).answer.as_ref(), Some(&answer));
            let mut c = capi("ipam.metal3.io", "IPPool");
            c.status = Some(capi_claim_status(&c, &answer, &now));
            assert_eq!(capi_claim(&c, None).answer.as_ref(), Some(&answer));
            let conditions = &c.status.as_ref().unwrap().conditions;
            assert!(conditions.len() == 1 && !conditions[0].reason.is_empty());
            // Written again later it is the same.
            let later = Time(jiff::Timestamp::from_second(9).unwrap());
            assert_eq!(c.status, Some(capi_claim_status(&c, &answer, &later)));
        }
    }

    #[test]
    fn hi_28_a_settled_pool_of_another_provider_is_not_written() {
        let now = jiff::Timestamp::from_second(7).unwrap();
        let mut pool = IPPool::named("x", "abc");
        pool.metadata.generation = Some(1);
        pool.status = Some(IPPoolStatus { last_updated: Some(Time(now)), ..IPPoolStatus::default() });
        assert_eq!(pool_status(&pool, None, Some(&Summary::ready()), now), None);
        assert_eq!(pool_status(&pool, None, None, now), None);
        let counts = Some(IPAddressCounts { free: 9, total: 10, used: 1 });
        let indexes = [("c".to_owned(), "10.0.0.7".to_owned())].into();
        let reserves = Status { indexes, last_updated: Some(Time(now)), counts };
        pool.status = pool_status(&pool, Some(reserves), Some(&Summary::ready()), now);
        let written = pool.status.as_ref().unwrap();
        assert_eq!(written.observed_generation, Some(1));
        assert_eq!(
            (&written.ip_addresses, &written.last_updated),
            (&Some(IPAddressCounts { free: 9, total: 10, used: 1 }), &Some(Time(now)))
        );
        assert_eq!(pool_status(&pool, None, Some(&Summary::ready()), now), None, "the same again is no write");
        pool.metadata.generation = Some(2);
        let told = pool_status(&pool, None, Some(&Summary::ready()), now).unwrap();
        assert_eq!((told.observed_generation, told.indexes.len()), (Some(2), 1));
    }

    #[test]
    fn k_74_a_claim_tells_of_its_generation() {
        let now = jiff::Timestamp::from_second(7).unwrap();
        let mut claim = claim("x", "");
        claim.metadata.generation = Some(1);
        claim.status = Some(claim_status(&claim, &Answer::Address("p".into()), now));
        assert_eq!(Claim::from(&claim).answer, Some(Answer::Address("p".into())));
        claim.status.as_mut().unwrap().observed_generation = Some(-1); // as a manager that knows of none leaves it
        assert_eq!(Claim::from(&claim).answer, Some(Answer::Incomplete));
        claim.status = Some(claim_status(&claim, &Answer::from(&Failure::Exhausted), now));
        let ready = &claim.status.as_ref().unwrap().conditions[0];
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "PoolExhausted"));
    }

    #[test]
    fn hi_23_an_address_without_its_condition_is_incomplete() {
        let mut c = capi("ipam.metal3.io", "IPPool");
        let address_ref = Some(NameRef { name: "a".into() });
        c.status = Some(IPAddressClaimStatus { address_ref, ..IPAddressClaimStatus::default() });
        assert_eq!(capi_claim(&c, None).answer, Some(Answer::Incomplete));
        let mut failed = capi_claim_status(&c, &Answer::from(&Failure::Exhausted), &Time(jiff::Timestamp::UNIX_EPOCH));
        failed.address_ref = c.status.unwrap().address_ref;
        c.status = Some(failed);
        assert_eq!(capi_claim(&c, None).answer, Some(Answer::Incomplete));
    }

    /// The worked example of the specification, up to the last claim.
    #[test]
    fn the_worked_example() {
        let text = |text: &str| Some(text.to_owned());
        let spec = IPPoolSpec {
            name_prefix: "prod-prov".into(),
            prefix: Some(24),
            gateway: text("172.22.0.1"),
            dns_servers: vec!["172.22.0.2".into()],
            pools: vec![
                PoolRange { start: text("172.22.0.100"), end: text("172.22.0.101"), ..PoolRange::default() },
                PoolRange {
                    subnet: text("172.22.8.0/29"),
                    prefix: Some(29),
                    gateway: text("172.22.8.6"),
                    dns_servers: vec!["172.22.8.6".into()],
                    ..PoolRange::default()
                },
            ],
            pre_allocations: [("node-3-prov".to_owned(), "172.22.0.101".to_owned())].into(),
            ..IPPoolSpec::default()
        };
        let pool = Pool::from(&IPPool { spec, ..IPPool::named("metal3", "prov") });
        let asks = ["a-prov", "node-3-prov", "b-prov", "c", "d-prov"].into_iter().zip(0..).map(|(name, second)| {
            let kind = if name == "c" { Kind::ClusterApi } else { Kind::Metal3 };
            Claim {
                created: jiff::Timestamp::from_second(second).ok(),
                requested: (name == "c").then(|| "172.22.8.5".to_owned()),
                ..common(kind, &IPClaim::named("metal3", name).metadata)
            }
        });
        let plan = decide(&Observed { pool, claims: asks.collect(), ..Observed::default() });
        let made: Vec<_> = plan
            .served
            .iter()
            .filter_map(|serve| serve.create.as_ref())
            .map(|new| (new.name.as_str(), new.grant.prefix, new.grant.gateway.as_deref().unwrap()))
            .collect();
        assert_eq!(
            made,
            [
                ("prod-prov-172-22-0-100", 24, "172.22.0.1"),
                ("prod-prov-172-22-0-101", 24, "172.22.0.1"),
                ("prod-prov-172-22-8-1", 29, "172.22.8.6"),
                ("prod-prov-172-22-8-5", 29, "172.22.8.6"),
                ("prod-prov-172-22-8-2", 29, "172.22.8.6"),
            ]
        );
    }

    #[test]
    fn addresses_belong_to_pools_as_claims_do() {
        let reference = |namespace: &str| ObjectReference {
            name: Some("abc".into()),
            namespace: Some(namespace.into()),
            ..ObjectReference::default()
        };
        let mut address = IPAddress::named("x", "a");
        address.spec.pool = reference("x");
        assert_eq!(pool_of_address(&address), Some("abc"));
        address.spec.pool = reference("y");
        assert_eq!(pool_of_address(&address), None);
        let mut address = foreign::IPAddress::named("x", "a");
        address.spec.pool_ref = capi("ipam.metal3.io", "IPPool").spec.pool_ref;
        assert_eq!(pool_of_capi_address(&address), Some("abc"));
        address.spec.pool_ref = capi("ipam.example.com", "IPPool").spec.pool_ref;
        assert_eq!(pool_of_capi_address(&address), None);
    }

    #[test]
    fn k_71_the_cluster_of_a_claim_is_named_or_labelled() {
        let mut claim = capi("ipam.metal3.io", "IPPool");
        assert_eq!(cluster_of_claim(&claim), None);
        claim.metadata.labels = Some([(label::CLUSTER_NAME.to_owned(), "labelled".to_owned())].into());
        assert_eq!(cluster_of_claim(&claim), Some("labelled"));
        claim.spec.cluster_name = Some("named".into());
        assert_eq!(cluster_of_claim(&claim), Some("named"));
        claim.spec.cluster_name = Some(String::new());
        assert_eq!(cluster_of_claim(&claim), None);
        let missing = Some(super::super::pool::Cluster::Missing);
        assert_eq!(capi_claim(&claim, missing.clone()).cluster, missing);
    }

    #[test]
    fn a_pool_names_a_cluster_or_none() {
        let named = |name: &str| {
            let spec = IPPoolSpec { cluster_name: Some(name.into()), ..IPPoolSpec::default() };
            Pool::from(&IPPool { spec, ..IPPool::named("x", "abc") }).cluster_name
        };
        assert_eq!((named("prod"), named("")), (Some("prod".to_owned()), None));
    }

    #[test]
    fn the_claim_of_an_address_is_the_owner_of_its_kind_and_name() {
        let owner = |kind: &str, name: &str, uid: &str| OwnerReference {
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            ..OwnerReference::default()
        };
        let mut address = IPAddress::named("x", "a");
        address.spec.claim.name = Some("c".into());
        let others =
            vec![owner("IPPool", "c", "pool"), owner("IPClaim", "d", "d"), owner("IPAddressClaim", "c", "capi")];
        address.metadata.owner_references = Some([others.clone(), vec![owner("IPClaim", "c", "m3")]].concat());
        assert_eq!(AddressObject::from(&address).claim_uid.as_deref(), Some("m3"));
        address.metadata.owner_references = Some(others);
        assert_eq!(AddressObject::from(&address).claim_uid, None);
    }

    #[test]
    fn k_74_who_waits_for_a_pool_is_told_its_name() {
        let now = Time(jiff::Timestamp::from_second(7).unwrap());
        let message = "waits for IPPool abc, which does not exist";
        let m3 = awaiting_pool(&claim("x", ""), now.0);
        assert_eq!((m3.conditions[0].reason.as_str(), m3.conditions[0].message.as_str()), ("PoolNotReady", message));
        assert_eq!(m3.error_message, None);
        let capi = capi_awaiting_pool(&capi("ipam.metal3.io", "IPPool"), &now);
        assert_eq!(
            (capi.conditions[0].reason.as_str(), capi.conditions[0].message.as_str()),
            ("PoolNotReady", message)
        );
    }

    #[test]
    fn i_42_the_date_of_ready_is_its_own() {
        let at = |second| Time(jiff::Timestamp::from_second(second).unwrap());
        let mut claim = capi("ipam.metal3.io", "IPPool");
        claim.status = Some(capi_claim_status(&claim, &Answer::from(&Failure::Exhausted), &at(1)));
        let conditions = &mut claim.status.as_mut().unwrap().conditions;
        conditions.insert(0, Condition { type_: "Other".into(), last_transition_time: at(0), ..conditions[0].clone() });
        let date =
            |answer: &Answer| capi_claim_status(&claim, answer, &at(9)).conditions[0].last_transition_time.clone();
        assert_eq!(date(&Answer::from(&Failure::NotAvailable)), at(1), "still False");
        assert_eq!(date(&Answer::Address("a".into())), at(9));
    }
}
