//! What belongs together: claims, their address objects and the entries of `status.indexes`, and what has lost its other half.

use std::collections::{BTreeMap, BTreeSet};

use super::super::table::ClaimKey;
use super::{AddressObject, Claim, Observed};

/// Claims and address objects by what joins them.
pub(super) struct View<'a> {
    seen: &'a Observed,
    pub(super) claims: BTreeMap<&'a ClaimKey, &'a Claim>,
    /// Address objects by claim, without those whose claim is another one of the same name.
    pub(super) objects: BTreeMap<ClaimKey, Vec<&'a AddressObject>>,
    /// Address objects without a known claim.
    pub(super) suspects: Vec<&'a AddressObject>,
}

impl<'a> View<'a> {
    pub(super) fn of(seen: &'a Observed) -> Self {
        let claims: BTreeMap<_, _> = seen.claims.iter().map(|claim| (&claim.key, claim)).collect();
        let mut objects = BTreeMap::<_, Vec<_>>::new();
        let mut suspects = Vec::new();
        for object in &seen.addresses {
            let key = object.claim_key();
            if claims.get(&key).is_some_and(|claim| object.is_of(&claim.uid)) {
                objects.entry(key).or_default().push(object);
            } else {
                suspects.push(object);
            }
        }
        Self { seen, claims, objects, suspects }
    }

    /// The claim that an entry of `status.indexes` stands for, as far as one is known.
    pub(super) fn claim_of_entry(&self, key: &str) -> Option<&'a Claim> {
        ClaimKey::of_index(key).iter().find_map(|claim| self.claims.get(claim).copied())
    }

    /// Entries of `status.indexes` that no object stands behind, with the claim they reserve for. Where the claim has an object
    /// the object is the truth.
    pub(super) fn unbacked_entries(&self) -> Vec<(&'a str, &'a str, Option<&'a Claim>)> {
        let suspected: BTreeSet<_> = self.suspects.iter().map(|object| object.claim_key()).collect();
        let entries =
            self.seen.pool.indexes.iter().map(|(key, text)| (key.as_str(), text.as_str(), self.claim_of_entry(key)));
        let unbacked = entries.filter(|(key, _, claim)| match claim {
            Some(claim) => !self.objects.contains_key(&claim.key),
            None => !ClaimKey::of_index(key).iter().any(|claim| suspected.contains(claim)),
        });
        unbacked.collect()
    }
}
