//! One pass over the claims of a pool that may be served: who is released, what each claim gets, and what the pool says then.
//!
//! The table of who holds what comes from the address objects; entries of the status without an object are honoured as
//! reservations, or kept from others until it is certain that nobody stands behind them.
//!
//! Rules: spec/ipam.md I-21 to I-31, with hazards HI-1 to HI-7, HI-11, HI-12 and HI-19 to HI-25 adopted.

use std::collections::BTreeSet;

use capm3_api::k8s::Time;
use capm3_api::names::reason;
use jiff::Timestamp;

use super::super::allocate::{Failure, Grant, allocate, describe};
use super::super::range::{Address, object_name};
use super::super::table::{ClaimKey, Kind, Table};
use super::needs::{has_gone, is_gone, is_there};
use super::view::View;
use super::{Answer, Claim, Cluster, NewAddress, Observed, Plan, Serve, Status, WAIT};
use crate::conditions::Summary;
use crate::planted::{Defect, sown};

/// More addresses than this make every write of the pool's status a heavy one (HI-29).
pub(super) const MANY: usize = 5_000;

/// How many claims a message names.
const NAMED: usize = 3;

pub(super) const TOO_MANY: &str =
    "more than 5000 addresses are held: every write of this status is large, consider several pools";

/// The second half of [`decide`]: the table, and every claim against it.
pub(super) struct Pass<'a> {
    seen: &'a Observed,
    view: View<'a>,
    table: Table,
    plan: Plan,
    /// Claims that there is no address for.
    exhausted: usize,
}

impl<'a> Pass<'a> {
    pub(super) fn new(seen: &'a Observed, plan: Plan) -> Self {
        let table = Table::new(&seen.pool.name_prefix);
        let mut pass = Self { seen, view: View::of(seen), table, plan, exhausted: 0 };
        pass.fill_table();
        pass
    }

    pub(super) fn run(mut self) -> Plan {
        let mut claims: Vec<&Claim> = self.seen.claims.iter().collect();
        claims.sort_by_key(|claim| (claim.created, &claim.key));
        for claim in claims.iter().filter(|claim| claim.deleting) {
            self.end(claim);
        }
        for claim in claims.iter().filter(|claim| !claim.deleting) {
            self.serve(claim);
            if sown(Defect::OneClaimStopsAll) && self.plan.after.is_some() {
                break;
            }
        }
        self.conclude()
    }

    /// Serves nobody: what leaves goes, and the rest of the plan stands.
    pub(super) fn release(mut self) -> Plan {
        let leaving = self.seen.claims.iter().filter(|claim| claim.is_leaving());
        leaving.for_each(|claim| self.end(claim));
        if self.plan.releases.is_empty() && self.plan.orphans.is_empty() {
            return self.plan;
        }
        let (ready, after) = (self.plan.ready.take(), self.plan.after);
        Plan { ready, after, ..self.conclude() }
    }

    /// I-22: objects first, then reservations, then what the pool keeps. What a leaving claim holds is free for others once its
    /// object is seen to be gone, not before.
    fn fill_table(&mut self) {
        let (seen, offer) = (self.seen, &self.seen.pool.offer);
        for (kind, name) in &seen.foreign_names {
            self.table.occupy_name(*kind, name);
        }
        for object in &seen.addresses {
            let leaves = self.view.claims.get(&object.claim_key()).is_none_or(|claim| claim.deleting);
            let apart = sown(Defect::KindsCountedApart) && object.kind == Kind::ClusterApi;
            if apart || (leaves && sown(Defect::FreeWhileHeld)) {
                continue;
            }
            self.table.occupy_name(object.kind, &object.name);
            let Ok(address) = object.address.parse::<Address>() else { continue };
            match self.view.claims.get(&object.claim_key()) {
                Some(claim) if object.is_of(&claim.uid) && !claim.is_leaving() => self.table.take(address, &claim.key),
                // Not cached yet, and there: its entry is another manager's, who would write it again, and so on.
                None if is_there(&seen.confirmed, object) => self.table.take(address, &object.claim_key()),
                Some(_) | None => self.table.unsettle(address),
            }
        }
        for (key, text, claim) in self.view.unbacked_entries() {
            let Ok(address) = text.parse::<Address>() else { continue };
            let usable = |claim: &Claim| {
                !claim.is_leaving()
                    && !self.table.is_taken(claim.key.kind, address)
                    && !self.table.name_is_taken(claim.key.kind, address)
                    && describe(offer, address).is_some()
            };
            let confirmed = |claim: &ClaimKey| seen.confirmed.claims.get(claim);
            let possible = ClaimKey::of_index(key);
            let alive = possible.iter().find(|claim| matches!(confirmed(claim), Some(Some(_))));
            match (claim, alive) {
                (Some(claim), _) if usable(claim) => self.table.take(address, &claim.key),
                // Another manager's, for a claim that is not cached here yet: without the entry nothing would keep the address
                // from a third claim until the object is created.
                (None, Some(claim)) if !self.table.is_taken(claim.kind, address) => self.table.take(address, claim),
                (None, None) if possible.iter().all(|claim| confirmed(claim) == Some(&None)) => {}
                (_, _) => self.table.unsettle(address),
            }
        }
        if !seen.pool.is_deleting() {
            offer.pre_allocations.values().flatten().for_each(|address| self.table.block(*address));
        }
        let orphans = self.view.suspects.iter().filter(|object| is_gone(&seen.confirmed, object));
        self.plan.orphans = orphans.map(|object| (*object).clone()).collect();
    }

    /// A claim that is being deleted: released when nobody uses it any more (I-25, I-31).
    fn end(&mut self, claim: &'a Claim) {
        if claim.is_held_back() {
            self.plan.after = Some(WAIT);
        } else if claim.is_leaving() {
            let addresses = self.view.objects.get(&claim.key).into_iter().flatten().map(|o| (*o).clone()).collect();
            let keys = claim.key.index_keys().into_iter();
            let own = keys.filter(|key| self.view.claim_of_entry(key).is_some_and(|of| of.key == claim.key));
            let entries = own.filter_map(|key| self.seen.pool.indexes.get(&key).cloned().map(|address| (key, address)));
            let entries = entries.collect();
            self.plan.releases.push(claim.release(addresses, entries));
        }
    }

    fn serve(&mut self, claim: &'a Claim) {
        if claim.is_held_back() || claim.cluster == Some(Cluster::Missing) {
            self.plan.after = Some(WAIT);
            return;
        }
        let object = self.view.objects.get(&claim.key).and_then(|objects| objects.first());
        let (create, answer) = match object {
            None if has_gone(&self.seen.confirmed, claim) => return, // its event is on the way
            Some(object) => (None, Answer::Address(object.name.clone())),
            None => match self.grant(claim) {
                Ok(grant) => {
                    self.table.take(grant.address, &claim.key);
                    let name = object_name(&self.seen.pool.name_prefix, grant.address);
                    (Some(NewAddress { name: name.clone(), grant }), Answer::Address(name))
                }
                Err(failure) => {
                    self.plan.after = Some(WAIT);
                    self.exhausted += usize::from(failure == Failure::Exhausted);
                    (None, Answer::from(&failure))
                }
            },
        };
        let finalizer = claim.key.kind.claim_finalizer();
        let finalizers = (!claim.finalizers.iter().any(|f| f == finalizer))
            .then(|| claim.finalizers.iter().cloned().chain([finalizer.to_owned()]).collect());
        let answer = (claim.answer.as_ref() != Some(&answer)).then_some(answer);
        if finalizers.is_some() || create.is_some() || answer.is_some() {
            self.plan.served.push(Serve { claim: claim.key.clone(), finalizers, create, answer });
        }
    }

    /// An address for a claim without an object: the one reserved for it, or a new one.
    fn grant(&mut self, claim: &Claim) -> Result<Grant, Failure> {
        let pool = &self.seen.pool;
        if pool.is_deleting() {
            return Err(Failure::PoolDeleting); // HI-21
        }
        let twin = |kind| self.table.held_by(&claim.key.of_kind(kind)).filter(|_| sown(Defect::ReservationByName));
        let held = self.table.held_by(&claim.key).or(twin(Kind::Metal3)).or(twin(Kind::ClusterApi));
        let reserved = held.and_then(|address| describe(&pool.offer, address));
        if let Some(grant) = reserved {
            return Ok(grant);
        }
        let pick = mix(self.seen.seed, self.table.len() as u64);
        allocate(&pool.offer, &mut self.table, &claim.key, claim.requested.as_deref(), pick)
    }

    fn readiness(&self) -> Summary {
        match self.exhausted {
            0 if self.table.len() > MANY => Summary { message: TOO_MANY.to_owned(), ..Summary::ready() },
            0 => Summary::ready(),
            waiting => Summary::not_ready(reason::POOL_EXHAUSTED, format!("no address is left for {waiting} claims")),
        }
    }

    /// What a pool says that is being deleted: who holds it still.
    fn leave(&self) -> Option<Summary> {
        let released = self.plan.releases.iter().flat_map(|release| &release.addresses);
        let going: BTreeSet<_> = released.chain(&self.plan.orphans).map(|object| &object.uid).collect();
        let left = self.seen.addresses.iter().filter(|object| !going.contains(&object.uid));
        let left: BTreeSet<_> = left.map(|object| object.claim.as_str()).collect();
        let written = self.plan.status.is_some();
        match left.is_empty() {
            false => Some(Summary::not_ready(reason::DELETING, held_by(&left))),
            // It is gone in a moment: not worth a write of its own.
            true => written.then(|| Summary::not_ready(reason::DELETING, "is being deleted; no address is held")),
        }
    }

    /// I-22, I-23: status, and whether the pool can go.
    fn conclude(mut self) -> Plan {
        let pool = &self.seen.pool;
        let indexes = self.table.indexes();
        let now = || Some(Time(whole_seconds(self.seen.now)));
        let last_updated = if indexes != pool.indexes || !self.plan.releases.is_empty() {
            now()
        } else {
            pool.last_updated.clone().or_else(|| pool.metadata.creation_timestamp.clone()).or_else(now)
        };
        let counts = Some(pool.offer.count(&self.table));
        let other_ranges = pool.counts.is_some() && pool.counts != counts && !pool.is_deleting();
        if indexes != pool.indexes || last_updated != pool.last_updated || other_ranges {
            self.plan.status = Some(Status { indexes, last_updated, counts });
        }
        self.plan.ready = if pool.is_deleting() { self.leave() } else { Some(self.readiness()) };
        self.plan.finalize =
            pool.is_deleting() && pool.has_finalizer() && self.seen.addresses.is_empty() && self.seen.confirmed.empty;
        self.plan
    }
}

/// In the order of their names, so that the same situation has the same words.
fn held_by(claims: &BTreeSet<&str>) -> String {
    let named: Vec<_> = claims.iter().take(NAMED).copied().collect();
    let more = claims.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("is being deleted; addresses are held by {}{more}", named.join(", "))
}

/// Times in a status have second precision.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Spreads a seed over the claims of a pass (the finalizer of SplitMix64).
pub(crate) fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
