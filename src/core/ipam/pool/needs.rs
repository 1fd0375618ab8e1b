//! What is certain: an absence counts only when a live read confirms it.
//!
//! A cache may be behind. Before an address is taken back because its claim looks gone, or a pool goes because nobody seems to
//! hold it, [`needs`] names what the caller has to read live; the answers come back as [`Confirmed`].
//!
//! Rules: spec/ipam.md I-21 and I-30 with hazards HI-19 and HI-20 adopted.

use std::collections::{BTreeMap, BTreeSet};

use super::super::range::object_name;
use super::super::table::{ClaimKey, Kind};
use super::view::View;
use super::{AddressObject, Answer, Claim, Observed};
use crate::planted::{Defect, sown};

/// What has to be read live before [`decide`] may act on an absence (HI-19, HI-20, I-21).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Claims that look gone while something is kept for them.
    pub claims: BTreeSet<ClaimKey>,
    /// Address objects that should be there and are not cached. Those found belong into [`Observed::addresses`].
    pub addresses: BTreeSet<(Kind, String)>,
    /// Whether the namespace still has any address object of the pool.
    pub emptiness: bool,
}

/// What the live reads said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The uid of each claim of [`Needs::claims`]; `None` for one that does not exist.
    pub claims: BTreeMap<ClaimKey, Option<String>>,
    pub empty: bool,
}

/// What must be known for sure before [`decide`] is asked.
pub fn needs(seen: &Observed) -> Needs {
    let mut needs = Needs::default();
    if seen.pool.is_paused() {
        return needs;
    }
    let view = View::of(seen);
    needs.claims.extend(view.suspects.iter().map(|object| object.claim_key()));
    for (key, text, claim) in view.unbacked_entries() {
        match claim {
            None => needs.claims.extend(ClaimKey::of_index(key)),
            Some(claim) if claim.is_leaving() => {
                let name = text.parse().ok().map(|address| object_name(&seen.pool.name_prefix, address));
                needs.addresses.extend(name.map(|name| (claim.key.kind, name)));
            }
            Some(_) => {}
        }
    }
    for claim in seen.claims.iter().filter(|claim| claim.is_leaving() && !view.objects.contains_key(&claim.key)) {
        if let Some(Answer::Address(name)) = &claim.answer {
            needs.addresses.insert((claim.key.kind, name.clone()));
        }
    }
    // An address object that is gone again is made anew for a claim that is really there.
    let lost = |claim: &&Claim| !claim.deleting && matches!(claim.answer, Some(Answer::Address(_)));
    let lost = seen.claims.iter().filter(lost).filter(|claim| !view.objects.contains_key(&claim.key));
    needs.claims.extend(lost.map(|claim| claim.key.clone()));
    needs.emptiness = seen.pool.is_deleting() && seen.pool.has_finalizer() && seen.addresses.is_empty();
    needs
}

/// HI-20: the live read found no claim of that uid.
pub(super) fn is_gone(confirmed: &Confirmed, object: &AddressObject) -> bool {
    match confirmed.claims.get(&object.claim_key()) {
        None => false,
        _ if sown(Defect::OrphanUnconfirmed) => true,
        Some(None) => true,
        Some(Some(uid)) => !object.is_of(uid),
    }
}

/// The live read found that a claim which the cache shows is gone, or is another by now.
pub(super) fn has_gone(confirmed: &Confirmed, claim: &Claim) -> bool {
    confirmed.claims.get(&claim.key).is_some_and(|uid| uid.as_ref() != Some(&claim.uid))
}

/// The live read found the very claim.
pub(super) fn is_there(confirmed: &Confirmed, object: &AddressObject) -> bool {
    matches!(confirmed.claims.get(&object.claim_key()), Some(Some(uid)) if object.is_of(uid))
}
