//! Which address a claim gets.
//!
//! In this order: the address kept for the claim's name, the one its annotation asks for, or one the strategy picks. What comes
//! out depends on the table alone, so a claim that failed is simply asked again on the next pass (HI-6).
//!
//! Rules: spec/ipam.md I-9, I-35 to I-42, with hazards HI-8, HI-9, HI-11, HI-12, HI-14 and HI-27 adopted.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use capm3_api::ipam::v1alpha1::IPAddressCounts;

use super::range::{Address, Interval};
use super::table::{ClaimKey, Kind, Table};
use crate::planted::{Defect, sown};

/// What a pool has to give, parsed once per pass.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// In the order of the pool; those without any address are left out.
    pub ranges: Vec<Range>,
    pub random: bool,
    /// By claim name; `None` where the text is no address.
    pub pre_allocations: BTreeMap<String, Option<Address>>,
}

/// A range and what an address of it is configured with: the range's own values, else the pool's (I-40).
#[derive(Debug, Clone)]
pub struct Range {
    pub interval: Interval,
    pub prefix: i64,
    pub gateway: Option<String>,
    pub dns_servers: Vec<String>,
}

/// An address given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub address: Address,
    /// 0 when neither pool nor range sets one.
    pub prefix: i64,
    pub gateway: Option<String>,
    pub dns_servers: Vec<String>,
}

/// Why a claim has no address (I-42). The texts are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Invalid(String),
    Conflict,
    NotAvailable,
    OutOfBounds,
    Exhausted,
    InvalidPrefix,
    PoolDeleting,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid(text) => return write!(f, "Invalid ipAddress annotation {text:?}: not a valid IP address"),
            Self::Conflict => "PreAllocation and requested ip address are conflicting",
            Self::NotAvailable => "Requested IP not available",
            Self::OutOfBounds => "Pre-allocated IP out of bounds",
            Self::Exhausted => "Exhausted IP Pools",
            Self::InvalidPrefix => "Invalid prefix value, it must be between 0 and 128",
            Self::PoolDeleting => "IPPool is being deleted",
        })
    }
}

/// Finds an address for `claim`; `requested` is its annotation. `pick` is any number, used only by the random strategy.
///
/// Nothing is taken: whoever accepts the grant records it in the table.
pub fn allocate(
    offer: &Offer,
    table: &mut Table,
    claim: &ClaimKey,
    requested: Option<&str>,
    pick: u64,
) -> Result<Grant, Failure> {
    let requested = match requested.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(text.parse::<Address>().map_err(|_| Failure::Invalid(text.to_owned()))?),
    };
    let (address, range) = match (offer.pre_allocations.get(&claim.name), requested) {
        (Some(kept), None) => pre_allocated(offer, table, claim, *kept)?,
        (Some(kept), Some(asked)) if *kept == Some(asked) => pre_allocated(offer, table, claim, *kept)?,
        (Some(_), Some(_)) => return Err(Failure::Conflict),
        (None, Some(asked)) => on_request(offer, table, claim, asked)?,
        (None, None) => chosen(offer, table, claim, pick).ok_or(Failure::Exhausted)?,
    };
    let longest = if address.is_v4() { 32 } else { 128 };
    if claim.kind == Kind::ClusterApi && !(0..=longest).contains(&range.prefix) {
        return Err(Failure::InvalidPrefix);
    }
    Ok(range.grant(address))
}

/// What an address is configured with when it is the claim's already, wherever it came from: the first range that holds it.
pub fn describe(offer: &Offer, address: Address) -> Option<Grant> {
    offer.holding(address).map(|range| range.grant(address))
}

/// I-38, HI-11: kept for the name, unless it was given to somebody else before it was kept.
fn pre_allocated<'a>(
    offer: &'a Offer,
    table: &Table,
    claim: &ClaimKey,
    kept: Option<Address>,
) -> Result<(Address, &'a Range), Failure> {
    let address = kept.ok_or(Failure::OutOfBounds)?;
    let range = offer.holding(address).ok_or(Failure::OutOfBounds)?;
    if !table.is_open_to(claim, address) {
        return Err(Failure::NotAvailable);
    }
    Ok((address, range))
}

/// I-39, HI-27.
fn on_request<'a>(
    offer: &'a Offer,
    table: &Table,
    claim: &ClaimKey,
    asked: Address,
) -> Result<(Address, &'a Range), Failure> {
    let range = offer.holding(asked).ok_or(Failure::NotAvailable)?;
    if table.is_taken(claim.kind, asked) || table.name_is_taken(claim.kind, asked) {
        return Err(Failure::NotAvailable);
    }
    Ok((asked, range))
}

/// I-35 to I-37: range after range; within one from its start, or from a position the dice chose and then around.
fn chosen<'a>(offer: &'a Offer, table: &mut Table, claim: &ClaimKey, pick: u64) -> Option<(Address, &'a Range)> {
    offer.ranges.iter().find_map(|range| {
        let first = range.interval.first;
        let address = if offer.random {
            let somewhere = range.interval.nth(u128::from(pick % range.interval.size()?))?;
            range.free_from(table, claim.kind, somewhere).or_else(|| range.free_from(table, claim.kind, first))
        } else {
            range.free_from(table, claim.kind, first)
        };
        address.map(|address| (address, range))
    })
}

impl Offer {
    /// How many addresses the ranges hold, how many are held, and how many are left to choose from.
    pub fn count(&self, table: &Table) -> IPAddressCounts {
        let mut runs = Vec::<(Address, Address)>::new();
        let mut ranges: Vec<_> = self.ranges.iter().map(|range| (range.interval.first, range.interval.last)).collect();
        ranges.sort_unstable();
        for (first, last) in ranges {
            match runs.last_mut().filter(|(_, end)| first <= *end) {
                Some((_, end)) => *end = last.max(*end),
                None => runs.push((first, last)),
            }
        }
        let within = |address: &Address| {
            let after = runs.partition_point(|(first, _)| first <= address);
            after.checked_sub(1).is_some_and(|run| *address <= runs[run].1)
        };
        let total = runs.iter().map(|(first, last)| first.count_to(*last)).fold(0, u128::saturating_add);
        // Not what is only on its way back: it is free in a moment, and telling that would be one more write.
        let held = table.held().filter(within).count() as u128;
        let kept = self.pre_allocations.values().copied().flatten();
        let kept: BTreeSet<_> = kept.chain(self.ranges.iter().filter_map(Range::gateway_address)).collect();
        let reserved =
            kept.iter().filter(|address| within(address) && table.holder(**address).is_none()).count() as u128;
        let whole = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
        IPAddressCounts {
            free: whole(total.saturating_sub(held).saturating_sub(reserved)),
            reserved: whole(reserved),
            total: whole(total),
            used: whole(table.len() as u128),
        }
    }

    fn holding(&self, address: Address) -> Option<&Range> {
        self.ranges.iter().find(|range| range.interval.contains(address))
    }
}

impl Range {
    /// The lowest address from `at` on that can be given: free, its object's name too (HI-12), and not the gateway (HI-14).
    fn free_from(&self, table: &mut Table, kind: Kind, at: Address) -> Option<Address> {
        let mut found = table.free_from(kind, at)?;
        if Some(found) == self.gateway_address() && !sown(Defect::GatewayGivenOut) {
            found = table.free_from(kind, found.plus(1)?)?;
        }
        (found <= self.interval.last).then_some(found)
    }

    fn gateway_address(&self) -> Option<Address> {
        self.gateway.as_deref()?.parse().ok()
    }

    fn grant(&self, address: Address) -> Grant {
        Grant { address, prefix: self.prefix, gateway: self.gateway.clone(), dns_servers: self.dns_servers.clone() }
    }
}
