//! One pass over a pool: claims of both kinds are released, recovered, served or told why not.
//!
//! The order of a plan is the order of safety. Addresses of finished claims go first. Then one write of the pool's status reserves
//! what the pass gives out, under the resourceVersion the choice was made on: two passes that chose the same address cannot both
//! get past it. Then come the address objects and last the claims. A crash anywhere leaves either a reservation, which the next
//! pass fills for the same claim, or an object, which it finds.
//!
//! Claims are independent of each other: one that cannot be served costs the others nothing (HI-7).
//!
//! Rules: spec/ipam.md I-18 to I-31, with hazards HI-1 to HI-7, HI-11, HI-12 and HI-19 to HI-26 adopted.

mod absent;
mod needs;
mod pass;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use capm3_api::ipam::v1alpha1::IPAddressCounts;
use capm3_api::k8s::{ObjectMeta, OwnerReference, Time};
use capm3_api::names::{CAPI_GROUP, IPAM_PROVIDER, annotation, finalizer, label, reason};
use jiff::Timestamp;

pub use self::absent::{Unserved, without_pool};
pub use self::needs::{Confirmed, Needs, needs};
use self::pass::Pass;
#[cfg(test)]
pub(crate) use self::pass::mix;
use super::allocate::{Failure, Grant, Offer};
use super::objects::cluster_owner;
use super::table::{ClaimKey, Kind};
use crate::conditions::Summary;

/// Safety net behind waits that an event ends: a Cluster that appears or is resumed, an address that is released.
const WAIT: Duration = Duration::from_secs(300);

/// What this young a pool waits for comes any moment.
const JUST_CREATED: Duration = Duration::from_secs(5);

/// What a claim is told whose address object the API server refuses (I-42).
pub const CREATE_FAILED: &str = "Failed to create associated IPAddress object";

/// Everything a pass looks at.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub pool: Pool,
    /// The Cluster that `spec.clusterName` names, if it names one.
    pub cluster: Option<Cluster>,
    /// Claims of both kinds that refer to this pool, in any order.
    pub claims: Vec<Claim>,
    /// Address objects of both kinds that refer to this pool, in any order.
    pub addresses: Vec<AddressObject>,
    /// Names of address objects of other pools in the namespace.
    pub foreign_names: BTreeSet<(Kind, String)>,
    /// Answers to [`needs`], from live reads.
    pub confirmed: Confirmed,
    pub now: Timestamp,
    /// Any number; the random strategy starts from it.
    pub seed: u64,
}

/// The pool as this module reads it.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    pub metadata: ObjectMeta,
    pub cluster_name: Option<String>,
    pub name_prefix: String,
    pub offer: Offer,
    pub indexes: BTreeMap<String, String>,
    pub last_updated: Option<Time>,
    /// Counts that an earlier pass told.
    pub counts: Option<IPAddressCounts>,
}

/// A Cluster by name: ours, or that of a Cluster API claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cluster {
    Missing,
    Found { name: String, uid: String, paused: bool },
}

/// A claim of either kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub key: ClaimKey,
    pub uid: String,
    pub resource_version: Option<String>,
    pub created: Option<Timestamp>,
    pub deleting: bool,
    pub finalizers: Vec<String>,
    /// It carries the pause annotation.
    pub paused: bool,
    /// The Cluster a Cluster API claim belongs to (HI-24); `None` where it names none, and for the other kind.
    pub cluster: Option<Cluster>,
    /// The annotation that asks for an address.
    pub requested: Option<String>,
    pub answer: Option<Answer>,
}

/// What a claim's status says, or is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Name of the address object.
    Address(String),
    Failed {
        reason: Reason,
        message: String,
    },
    /// An address without the condition that belongs to it, or with an error beside it: to be written again.
    Incomplete,
}

/// Reasons of the Ready condition of a Cluster API claim (I-42).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    AllocationFailed,
    PoolExhausted,
    PoolNotReady,
}

/// An address object of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressObject {
    pub kind: Kind,
    pub name: String,
    pub uid: String,
    pub resource_version: Option<String>,
    pub finalizers: Vec<String>,
    pub deleting: bool,
    pub address: String,
    pub claim: String,
    /// From its owner references.
    pub claim_uid: Option<String>,
}

/// What a pass does, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The pool's labels, owner and finalizer, when they change.
    pub metadata: Option<ObjectMeta>,
    /// Address objects whose claim is gone.
    pub orphans: Vec<AddressObject>,
    pub releases: Vec<Release>,
    /// `status.indexes` and `status.lastUpdated`, when they change: the reservation.
    pub status: Option<Status>,
    pub served: Vec<Serve>,
    /// What the pool says of itself; none when nobody has looked at it.
    pub ready: Option<Summary>,
    /// Nothing holds the pool any more: take the finalizer off.
    pub finalize: bool,
    /// How long to wait at most for the events that go on from here.
    pub after: Option<Duration>,
}

/// A finished claim: its address objects go, then its finalizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    pub claim: ClaimKey,
    pub uid: String,
    pub resource_version: Option<String>,
    pub addresses: Vec<AddressObject>,
    /// Its entries of `status.indexes`, which stay if the release fails.
    pub entries: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub indexes: BTreeMap<String, String>,
    pub last_updated: Option<Time>,
    pub counts: Option<IPAddressCounts>,
}

/// A claim that gets an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Serve {
    pub claim: ClaimKey,
    /// All finalizers it is to have, when ours has to be added.
    pub finalizers: Option<Vec<String>>,
    /// Create this address object first.
    pub create: Option<NewAddress>,
    pub answer: Option<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    pub name: String,
    pub grant: Grant,
}

impl Observed {
    /// Some claim has no address object yet.
    pub fn wants_addresses(&self) -> bool {
        let held: BTreeSet<_> = self.addresses.iter().map(AddressObject::claim_key).collect();
        self.claims.iter().any(|claim| !claim.deleting && !held.contains(&claim.key))
    }

    fn is_young(&self) -> bool {
        let created = self.pool.metadata.creation_timestamp.as_ref();
        created.is_some_and(|created| is_young(created.0, self.now))
    }
}

impl Plan {
    /// The status to write when some releases failed: what they hold stays held.
    pub fn status_keeping(&self, failed: &BTreeSet<ClaimKey>) -> Option<Status> {
        let mut status = self.status.clone()?;
        let kept = self.releases.iter().filter(|release| failed.contains(&release.claim));
        status.indexes.extend(kept.flat_map(|release| release.entries.clone()));
        Some(status)
    }
}

/// The whole pass.
pub fn decide(seen: &Observed) -> Plan {
    let pool = &seen.pool;
    let mut plan = Plan::default();
    if pool.is_paused() {
        return plan; // before anything else (HI-26)
    }
    let mut metadata = pool.metadata.clone();
    let may_go_on = adopt(pool, seen.cluster.as_ref(), &mut metadata);
    if may_go_on && !pool.is_deleting() && !pool.has_finalizer() {
        metadata.finalizers.get_or_insert_default().push(finalizer::IP_POOL.to_owned());
    }
    plan.metadata = (metadata != pool.metadata).then_some(metadata);
    if !may_go_on {
        plan.after = Some(WAIT);
        if let (Some(name), Some(Cluster::Missing) | None) = (&pool.cluster_name, &seen.cluster) {
            if seen.is_young() {
                // They are often created together: labels and owner go there in one write, and nothing is worth a word yet.
                return Plan { after: Some(JUST_CREATED), ..Plan::default() };
            }
            plan.ready = Some(Summary::not_ready(
                reason::WAITING_FOR_CLUSTER,
                format!("waits for Cluster {name}, which does not exist"),
            ));
            // What a Cluster that is gone, or not there yet, has nothing to say about: claims that are done with their addresses.
            return Pass::new(seen, plan).release();
        }
        return plan;
    }
    Pass::new(seen, plan).run()
}

fn is_young(created: Timestamp, now: Timestamp) -> bool {
    now.duration_since(created).unsigned_abs() < JUST_CREATED
}

/// I-19, steps 2 to 4: the pool's labels and its owner. Says whether the Cluster lets the pass go on.
fn adopt(pool: &Pool, cluster: Option<&Cluster>, metadata: &mut ObjectMeta) -> bool {
    let Some(name) = &pool.cluster_name else { return true };
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(label::CLUSTER_NAME.to_owned(), name.clone());
    labels.insert(label::PROVIDER.to_owned(), IPAM_PROVIDER.to_owned());
    match cluster {
        Some(Cluster::Found { name, uid, paused }) => {
            let owners = metadata.owner_references.get_or_insert_default();
            if !owners.iter().any(|owner| is_cluster(owner, name)) {
                owners.push(cluster_owner(name, uid));
            }
            !paused
        }
        Some(Cluster::Missing) | None => pool.is_deleting(),
    }
}

/// Version and uid are not compared: they change over upgrades and moves.
fn is_cluster(owner: &OwnerReference, name: &str) -> bool {
    owner.name == name && owner.kind == "Cluster" && owner.api_version.split('/').next() == Some(CAPI_GROUP)
}

impl Pool {
    fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn is_paused(&self) -> bool {
        self.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotation::PAUSED))
    }

    fn has_finalizer(&self) -> bool {
        self.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == finalizer::IP_POOL)
    }
}

impl Claim {
    /// Being deleted, used by nobody else, and free to go.
    fn is_leaving(&self) -> bool {
        let ours = self.key.kind.claim_finalizer();
        self.deleting && !self.is_held_back() && self.finalizers.iter().all(|finalizer| finalizer == ours)
    }

    fn is_held_back(&self) -> bool {
        self.paused || matches!(self.cluster, Some(Cluster::Found { paused: true, .. }))
    }

    fn release(&self, addresses: Vec<AddressObject>, entries: BTreeMap<String, String>) -> Release {
        let (claim, uid, resource_version) = (self.key.clone(), self.uid.clone(), self.resource_version.clone());
        Release { claim, uid, resource_version, addresses, entries }
    }
}

impl AddressObject {
    pub fn claim_key(&self) -> ClaimKey {
        ClaimKey::new(self.kind, self.claim.clone())
    }

    /// Its finalizers without ours, when ours is there.
    pub fn without_our_finalizer(&self) -> Option<Vec<String>> {
        let ours = self.kind.address_finalizer();
        let others: Vec<_> = self.finalizers.iter().filter(|finalizer| *finalizer != ours).cloned().collect();
        (others.len() != self.finalizers.len()).then_some(others)
    }

    pub fn is_of(&self, claim_uid: &str) -> bool {
        self.claim_uid.as_deref().is_none_or(|uid| uid == claim_uid)
    }
}

impl From<&Failure> for Answer {
    fn from(failure: &Failure) -> Self {
        let reason = match failure {
            Failure::Exhausted => Reason::PoolExhausted,
            Failure::PoolDeleting => Reason::PoolNotReady,
            Failure::Invalid(_)
            | Failure::Conflict
            | Failure::NotAvailable
            | Failure::OutOfBounds
            | Failure::InvalidPrefix => Reason::AllocationFailed,
        };
        Self::Failed { reason, message: failure.to_string() }
    }
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllocationFailed => reason::ALLOCATION_FAILED,
            Self::PoolExhausted => reason::POOL_EXHAUSTED,
            Self::PoolNotReady => reason::POOL_NOT_READY,
        }
    }
}
