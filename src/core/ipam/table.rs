//! Who holds which address of a pool.
//!
//! The table is rebuilt on every pass from the address objects of both kinds, which are the truth (I-22). Entries of
//! `status.indexes` without an object count as well, for the claim they name: a pass writes them before it creates the objects, so
//! they are what another process, or this one before a crash, is about to create.
//!
//! Taken addresses are kept as closed intervals that never touch: the lowest free address from any point is one look-up, and a
//! pool filled from empty costs O(n log n) (I-46, I-47).
//!
//! Rules: spec/ipam.md I-22, I-46, with hazards HI-2, HI-3, HI-5, HI-10 and HI-12 adopted.

use std::collections::{BTreeMap, BTreeSet};

use capm3_api::names::finalizer;

use super::range::{Address, object_name};

/// Which of the two APIs a claim or an address object belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `ipam.metal3.io`
    Metal3,
    /// `ipam.cluster.x-k8s.io`
    ClusterApi,
}

/// A claim of the pool's namespace. Claims of the two kinds may share a name (HI-5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimKey {
    pub kind: Kind,
    pub name: String,
}

/// The state of a pool's addresses, and what a pass has given out on top of it.
#[derive(Debug, Default)]
pub struct Table {
    name_prefix: String,
    /// First to last of each run of addresses that must not be chosen.
    taken: BTreeMap<Address, Address>,
    holders: BTreeMap<Address, ClaimKey>,
    held: BTreeMap<ClaimKey, Address>,
    /// Names of address objects in the namespace, whichever pool they are of.
    names: BTreeSet<(Kind, String)>,
}

/// Suffix under which `status.indexes` shows a Cluster API claim whose plain name an IPClaim has (HI-5).
const CLASH: &str = " (IPAddressClaim)";

impl Table {
    /// An empty table whose address objects will be called `<name_prefix>-<address>`.
    pub fn new(name_prefix: &str) -> Self {
        Self { name_prefix: name_prefix.to_owned(), ..Self::default() }
    }

    /// Records that a claim holds an address. The first holder stays: two objects of one address are a mistake somebody else made.
    pub fn take(&mut self, address: Address, claim: &ClaimKey) {
        self.block(address);
        self.holders.entry(address).or_insert_with(|| claim.clone());
        self.held.entry(claim.clone()).or_insert(address);
        self.names.insert((claim.kind, object_name(&self.name_prefix, address)));
    }

    /// Nobody may choose it, for a reason other than a holder: the pool keeps it for a name, or it is on its way back.
    pub fn block(&mut self, address: Address) {
        if self.is_taken(address) {
            return;
        }
        let after = address.plus(1).and_then(|next| self.taken.remove(&next));
        let last = after.unwrap_or(address);
        let before = self.taken.range(..address).next_back().filter(|(_, end)| end.plus(1) == Some(address));
        let first = before.map_or(address, |(first, _)| *first);
        self.taken.insert(first, last);
    }

    /// An address object of this name stands in the namespace already, of another pool or by folding (HI-12).
    pub fn occupy_name(&mut self, kind: Kind, name: &str) {
        self.names.insert((kind, name.to_owned()));
    }

    pub fn is_taken(&self, address: Address) -> bool {
        self.taken.range(..=address).next_back().is_some_and(|(_, last)| *last >= address)
    }

    /// The lowest address from `at` on that is not taken, in the same family.
    pub fn free_from(&self, at: Address) -> Option<Address> {
        match self.taken.range(..=at).next_back() {
            Some((_, last)) if *last >= at => last.plus(1),
            _ => Some(at),
        }
    }

    /// The addresses that claims hold, in order.
    pub fn held(&self) -> impl Iterator<Item = Address> {
        self.holders.keys().copied()
    }

    pub fn name_is_taken(&self, kind: Kind, address: Address) -> bool {
        self.names.contains(&(kind, object_name(&self.name_prefix, address)))
    }

    pub fn holder(&self, address: Address) -> Option<&ClaimKey> {
        self.holders.get(&address)
    }

    pub fn held_by(&self, claim: &ClaimKey) -> Option<Address> {
        self.held.get(claim).copied()
    }

    /// How many addresses are held; pre-allocations alone do not count.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// `status.indexes` (I-22, HI-5).
    pub fn indexes(&self) -> BTreeMap<String, String> {
        let entry = |(claim, address): (&ClaimKey, &Address)| {
            let clash = claim.kind == Kind::ClusterApi && self.held.contains_key(&claim.of_kind(Kind::Metal3));
            let key = if clash { format!("{}{CLASH}", claim.name) } else { claim.name.clone() };
            (key, address.to_string())
        };
        self.held.iter().map(entry).collect()
    }
}

impl Kind {
    pub fn claim_finalizer(self) -> &'static str {
        match self {
            Self::Metal3 => finalizer::IP_CLAIM,
            Self::ClusterApi => finalizer::CAPI_IP_CLAIM,
        }
    }

    pub fn address_finalizer(self) -> &'static str {
        match self {
            Self::Metal3 => finalizer::IP_ADDRESS,
            Self::ClusterApi => finalizer::CAPI_IP_ADDRESS,
        }
    }
}

impl ClaimKey {
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    pub fn of_kind(&self, kind: Kind) -> Self {
        Self { kind, name: self.name.clone() }
    }

    /// The claims that a key of `status.indexes` may stand for, the likelier first.
    pub fn of_index(key: &str) -> Vec<Self> {
        match key.strip_suffix(CLASH) {
            Some(name) => vec![Self::new(Kind::ClusterApi, name)],
            None => vec![Self::new(Kind::Metal3, key), Self::new(Kind::ClusterApi, key)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn m3(name: &str) -> ClaimKey {
        ClaimKey::new(Kind::Metal3, name)
    }

    #[test]
    fn i_46_runs_of_taken_addresses_merge_into_one() {
        let mut table = Table::new("p");
        for last in [3, 1, 5, 4, 2] {
            table.take(at(&format!("10.0.0.{last}")), &m3(&format!("c{last}")));
        }
        assert_eq!(table.taken, BTreeMap::from([(at("10.0.0.1"), at("10.0.0.5"))]));
        assert_eq!(table.free_from(at("10.0.0.2")), Some(at("10.0.0.6")));
        assert_eq!(table.free_from(at("10.0.0.0")), Some(at("10.0.0.0")));
    }

    #[test]
    fn ti_150_a_full_run_stays_one_interval_whatever_the_order() {
        let mut table = Table::new("p");
        for n in 0..1000_u128 {
            table.take(at("10.0.0.0").plus(n * 617 % 1000).unwrap(), &m3(&n.to_string()));
        }
        assert_eq!(table.taken.len(), 1);
        assert_eq!(table.free_from(at("10.0.0.0")), Some(at("10.0.3.232")));
    }

    #[test]
    fn the_last_address_of_a_family_has_no_next() {
        let mut table = Table::new("p");
        table.block(at("255.255.255.255"));
        assert_eq!(table.free_from(at("255.255.255.255")), None);
    }

    #[test]
    fn ti_132_equal_names_of_both_kinds_have_an_entry_each() {
        let mut table = Table::new("p");
        table.take(at("10.0.0.1"), &ClaimKey::new(Kind::ClusterApi, "n"));
        assert_eq!(table.indexes(), BTreeMap::from([("n".into(), "10.0.0.1".into())]));
        table.take(at("10.0.0.2"), &m3("n"));
        let both = BTreeMap::from([("n".into(), "10.0.0.2".into()), ("n (IPAddressClaim)".into(), "10.0.0.1".into())]);
        assert_eq!(table.indexes(), both);
    }
}
