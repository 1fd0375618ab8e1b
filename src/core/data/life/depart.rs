//! The way out: addresses are given back, and the finalizer goes, once the claim that the data answers is gone.
//!
//! Neither Cluster nor template is needed for that, only that nothing is paused and that no claim of ours is overlooked.
//!
//! Rules: docs/spec/data-rendering.md D-47 with hazard HD-16 adopted.

use capm3_api::infra::v1beta2::Metal3DataClaim;
use capm3_api::names::{INFRA_GROUP, finalizer};

use super::super::claims::{self, Release};
use super::super::objects::Objects;
use super::super::pools::{Pools, pools};
use super::{Observed, Waiting, owner_of_kind, paused};
use crate::planted::{Defect, sown};

/// What to do for a Metal3Data that is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Departure {
    Wait(Waiting),
    /// An address claim may be under way, or a data claim be there, that no cache shows: look at all of them live and decide again.
    LookLive,
    /// Give all these back, then take the finalizer away.
    Leave(Vec<Release>),
    Gone,
}

/// What a Metal3Data that is being deleted does next. `live` says that `claim` and `known` were read from the API server just now.
#[must_use]
pub fn depart(observed: &Observed<'_>, live: bool) -> Departure {
    let data = observed.data;
    if paused(observed) {
        return Departure::Wait(Waiting::Resume);
    }
    if claim_holds(observed) {
        return Departure::Wait(Waiting::ClaimGone);
    }
    if !data.metadata.finalizers.iter().flatten().any(|held| held == finalizer::DATA) {
        return Departure::Gone;
    }
    // A data that became ready has seen all its claims; before that the answer to a create may have been lost.
    let saw_all = data.status.as_ref().is_some_and(|status| status.ready == Some(true));
    let looks = !saw_all && !sown(Defect::CachedClaimsReleased) || is_claim_unseen(observed);
    if !live && looks {
        return Departure::LookLive;
    }
    // The names help to find claims that lost their owner; a template that is gone or confused names none (HD-23).
    let pools = observed
        .template
        .map_or_else(Pools::new, |template| pools(&template.spec, &Objects::default()).unwrap_or_default());
    Departure::Leave(claims::release(data, &pools, observed.known))
}

/// A user deletes what a machine uses, and the cache does not know the claim: it may lag behind. Who let go of the data has seen that
/// the claim is on its way.
fn is_claim_unseen(observed: &Observed<'_>) -> bool {
    let held = observed.data.metadata.finalizers.iter().flatten().any(|held| held == finalizer::DATA_CLAIM);
    held && observed.claim.is_none()
}

/// Whether the claim that this data answers is still there. A later claim of the same name, made for the next machine of
/// that name, holds only what it was answered with.
fn claim_holds(observed: &Observed<'_>) -> bool {
    let (data, Some(claim)) = (&observed.data.metadata, observed.claim) else { return false };
    let answered = owner_of_kind(data, INFRA_GROUP, Metal3DataClaim::KIND);
    let same = answered.is_none_or(|owner| Some(&owner.uid) == claim.metadata.uid.as_ref());
    let rendered = claim.status.as_ref().and_then(|status| status.rendered_data.as_ref());
    // One that was answered with another has never used this.
    rendered.map_or(same, |rendered| Some(&rendered.name) == data.name.as_ref())
}
