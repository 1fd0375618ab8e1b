//! Who holds which address of a pool.
//!
//! The table is rebuilt on every pass from the address objects of both kinds, which are the truth (I-22). Entries of
//! `status.indexes` without an object count as well, for the claim they name: a pass writes them before it creates the objects, so
//! they are what another process, or this one before a crash, is about to create.
//!
//! Taken addresses are kept as closed intervals that never touch: the lowest free address from any point is one look-up, and a
//! pool filled from empty costs O(n log n) (I-46, I-47). They are kept for each kind, because the name of an address object can be
//! taken in one and free in the other; an address that was found to have no name left is not looked at again.
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
    /// What must not be chosen for claims of each kind.
    taken: [Runs; 2],
    holders: BTreeMap<Address, ClaimKey>,
    /// On their way back, or of claims that nobody knows of: not even who they are kept for may have them yet.
    unsettled: BTreeSet<Address>,
    held: BTreeMap<ClaimKey, Address>,
    /// Names of address objects in the namespace, whichever pool they are of.
    names: BTreeSet<(Kind, String)>,
}

/// Addresses as first to last of each run of them. Runs never touch.
#[derive(Debug, Default, PartialEq, Eq)]
struct Runs(BTreeMap<Address, Address>);

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

    /// Something stands for it that is no claim's, or of one that leaves: nobody may have it before that is gone.
    pub fn unsettle(&mut self, address: Address) {
        self.block(address);
        self.unsettled.insert(address);
    }

    /// Nobody may choose it: the pool keeps it for a name.
    pub fn block(&mut self, address: Address) {
        self.taken.iter_mut().for_each(|runs| runs.add(address));
    }

    /// An address object of this name stands in the namespace already, of another pool or by folding (HI-12).
    pub fn occupy_name(&mut self, kind: Kind, name: &str) {
        self.names.insert((kind, name.to_owned()));
    }

    pub fn is_taken(&self, kind: Kind, address: Address) -> bool {
        self.taken[kind as usize].holds(address)
    }

    /// The lowest address from `at` on that a claim of this kind can have, in the same family.
    pub fn free_from(&mut self, kind: Kind, mut at: Address) -> Option<Address> {
        loop {
            at = self.taken[kind as usize].free_from(at)?;
            if !self.name_is_taken(kind, at) {
                return Some(at);
            }
            self.taken[kind as usize].add(at);
        }
    }

    /// The addresses that claims hold, in order.
    pub fn held(&self) -> impl Iterator<Item = Address> {
        self.holders.keys().copied()
    }

    pub fn name_is_taken(&self, kind: Kind, address: Address) -> bool {
        effort::note();
        self.names.contains(&(kind, object_name(&self.name_prefix, address)))
    }

    pub fn holder(&self, address: Address) -> Option<&ClaimKey> {
        self.holders.get(&address)
    }

    /// Whether this claim may have what is kept for it.
    pub fn is_open_to(&self, claim: &ClaimKey, address: Address) -> bool {
        let of_another = self.holder(address).is_some_and(|holder| holder != claim);
        !of_another && !self.unsettled.contains(&address) && !self.name_is_taken(claim.kind, address)
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

impl Runs {
    fn add(&mut self, address: Address) {
        if self.holds(address) {
            return;
        }
        let after = address.plus(1).and_then(|next| self.0.remove(&next));
        let last = after.unwrap_or(address);
        let before = self.0.range(..address).next_back().filter(|(_, end)| end.plus(1) == Some(address));
        let first = before.map_or(address, |(first, _)| *first);
        self.0.insert(first, last);
    }

    fn holds(&self, address: Address) -> bool {
        effort::note();
        self.0.range(..=address).next_back().is_some_and(|(_, last)| *last >= address)
    }

    fn free_from(&self, at: Address) -> Option<Address> {
        effort::note();
        match self.0.range(..=at).next_back() {
            Some((_, last)) if *last >= at => last.plus(1),
            _ => Some(at),
        }
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

    /// The keys of `status.indexes` that may stand for it.
    pub fn index_keys(&self) -> Vec<String> {
        let plain = self.name.clone();
        match self.kind {
            Kind::Metal3 => vec![plain],
            Kind::ClusterApi => vec![format!("{plain}{CLASH}"), plain],
        }
    }

    /// The claims that a key of `status.indexes` may stand for, the likelier first.
    pub fn of_index(key: &str) -> Vec<Self> {
        match key.strip_suffix(CLASH) {
            Some(name) => vec![Self::new(Kind::ClusterApi, name)],
            None => vec![Self::new(Kind::Metal3, key), Self::new(Kind::ClusterApi, key)],
        }
    }
}

/// How much was looked up, each time at the cost of one look-up in a sorted map: what tests hold against the number of claims.
pub(super) mod effort {
    #[cfg(test)]
    std::thread_local! {
        static SPENT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    #[inline]
    pub(super) fn note() {
        #[cfg(test)]
        SPENT.set(SPENT.get() + 1);
    }

    #[cfg(test)]
    pub(in crate::ipam) fn of<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = SPENT.get();
        let done = work();
        (done, SPENT.get() - before)
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
        for (kind, runs) in [(Kind::Metal3, 0), (Kind::ClusterApi, 1)] {
            assert_eq!(table.taken[runs], Runs(BTreeMap::from([(at("10.0.0.1"), at("10.0.0.5"))])));
            assert_eq!(table.free_from(kind, at("10.0.0.2")), Some(at("10.0.0.6")));
            assert_eq!(table.free_from(kind, at("10.0.0.0")), Some(at("10.0.0.0")));
        }
    }

    #[test]
    fn i_47_a_full_run_stays_one_interval_whatever_the_order() {
        let mut table = Table::new("p");
        for n in 0..1000_u128 {
            table.take(at("10.0.0.0").plus(n * 617 % 1000).unwrap(), &m3(&n.to_string()));
        }
        assert_eq!(table.taken[0].0.len(), 1);
        assert_eq!(table.free_from(Kind::Metal3, at("10.0.0.0")), Some(at("10.0.3.232")));
    }

    #[test]
    fn the_last_address_of_a_family_has_no_next() {
        let mut table = Table::new("p");
        table.block(at("255.255.255.255"));
        assert_eq!(table.free_from(Kind::Metal3, at("255.255.255.255")), None);
    }

    /// Else two pools of one prefix and one range cost each other the product of their claims.
    #[test]
    fn hi_12_a_name_that_was_found_taken_is_not_looked_at_again() {
        let mut table = Table::new("p");
        for n in 0..100 {
            table.occupy_name(Kind::Metal3, &format!("p-10-0-0-{n}"));
        }
        let first = at("10.0.0.0");
        let (found, spent) = effort::of(|| table.free_from(Kind::Metal3, first));
        assert_eq!(found, Some(at("10.0.0.100")));
        assert!(spent >= 100, "the names are looked at: {spent}");
        let (found, spent) = effort::of(|| table.free_from(Kind::Metal3, first));
        assert_eq!(found, Some(at("10.0.0.100")));
        assert!(spent <= 4, "{spent}");
        assert_eq!(table.free_from(Kind::ClusterApi, first), Some(first), "the other kind's names are its own");
    }

    #[test]
    fn hi_5_a_key_of_the_list_is_one_of_the_claim_s() {
        for claim in [m3("n"), m3("n").of_kind(Kind::ClusterApi)] {
            for key in claim.index_keys() {
                assert!(ClaimKey::of_index(&key).contains(&claim), "{key}");
            }
        }
        assert_eq!((m3("n").index_keys().len(), m3("n").of_kind(Kind::ClusterApi).index_keys().len()), (1, 2));
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
