//! The claims of a pool that does not exist: nobody is served, and nobody is kept from going.
//!
//! Rules: docs/spec/ipam.md I-30 and I-31.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::super::table::ClaimKey;
use super::{AddressObject, Claim, JUST_CREATED, Release, is_young};

/// What becomes of the claims on a pool that does not exist.
#[derive(Debug, Default, PartialEq)]
pub struct Unserved {
    /// What is being deleted is let go.
    pub releases: Vec<Release>,
    /// The others are told what they wait for, unless it may come any moment.
    pub told: Vec<ClaimKey>,
    /// Address objects that are being deleted for claims nobody sees: once those and the pool are looked for live, our finalizer goes.
    pub orphans: Vec<AddressObject>,
    pub after: Option<Duration>,
}

/// The claims of a pool that does not exist: nothing is served.
pub fn without_pool(claims: &[Claim], addresses: &[AddressObject], now: Timestamp) -> Unserved {
    let of = |claim: &Claim| addresses.iter().filter(|object| object.claim_key() == claim.key).cloned().collect();
    let finished = claims.iter().filter(|claim| claim.is_leaving());
    let releases = finished.map(|claim| claim.release(of(claim), BTreeMap::new())).collect();
    let open = |claim: &&Claim| !claim.deleting && claim.answer.is_none() && !claim.is_held_back();
    let (young, waiting): (Vec<_>, Vec<_>) =
        claims.iter().filter(open).partition(|claim| claim.created.is_some_and(|created| is_young(created, now)));
    let told = waiting.into_iter().map(|claim| claim.key.clone()).collect();
    // One that nobody deletes may have come before its claim, out of a backup.
    let known =
        |object: &AddressObject| claims.iter().any(|claim| claim.key == object.claim_key() && object.is_of(&claim.uid));
    let orphans = addresses.iter().filter(|object| object.deleting && !known(object)).cloned().collect();
    Unserved { releases, told, orphans, after: young.first().map(|_| JUST_CREATED) }
}
