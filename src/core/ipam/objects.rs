//! API objects of both kinds as the allocator sees them, and what it decided as API objects.
//!
//! Which claims and addresses belong to a pool is decided here too: by name, kind and group, inside one namespace (HI-3, HI-4).
//! Names of kinds and versions are constants, never copied from an object (I-48).
//!
//! Rules: spec/ipam.md I-6 to I-9, I-28, I-29, I-40, I-42, with hazards HI-3, HI-4, HI-22, HI-23 and HI-24 adopted.

#[cfg(test)]
mod tests;

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
