//! Which address a claim gets.
//!
//! In this order: the address kept for the claim's name, the one its annotation asks for, or one the strategy picks. What comes
//! out depends on the table alone, so a claim that failed is simply asked again on the next pass (HI-6).
//!
//! Rules: spec/ipam.md I-35 to I-42, with hazards HI-8, HI-9, HI-11, HI-12, HI-14 and HI-27 adopted.

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
/// The table is not changed: whoever accepts the grant records it.
pub fn allocate(
    offer: &Offer,
    table: &Table,
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
    if claim.kind == Kind::ClusterApi && !(0..=128).contains(&range.prefix) {
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
    let elsewhere = table.holder(address).is_some_and(|holder| holder != claim);
    if elsewhere || table.name_is_taken(claim.kind, address) {
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
    if table.is_taken(asked) || table.name_is_taken(claim.kind, asked) {
        return Err(Failure::NotAvailable);
    }
    Ok((asked, range))
}

/// I-35 to I-37: range after range; within one from its start, or from a position the dice chose and then around.
fn chosen<'a>(offer: &'a Offer, table: &Table, claim: &ClaimKey, pick: u64) -> Option<(Address, &'a Range)> {
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
        let kept = self.pre_allocations.values().copied().flatten();
        let others = kept.chain(self.ranges.iter().filter_map(Range::gateway_address));
        let gone: BTreeSet<_> = table.held().chain(others).filter(within).collect();
        let whole = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
        IPAddressCounts {
            free: whole(total.saturating_sub(gone.len() as u128)),
            total: whole(total),
            used: whole(table.len() as u128),
        }
    }

    fn holding(&self, address: Address) -> Option<&Range> {
        self.ranges.iter().find(|range| range.interval.contains(address))
    }
}

impl Range {
    /// The lowest address from `at` on that can be given: not taken, not the gateway (HI-14), its object's name free (HI-12).
    fn free_from(&self, table: &Table, kind: Kind, mut at: Address) -> Option<Address> {
        let gateway = self.gateway_address();
        loop {
            at = table.free_from(at).filter(|found| *found <= self.interval.last)?;
            let reserved = Some(at) == gateway && !sown(Defect::GatewayGivenOut);
            if !reserved && !table.name_is_taken(kind, at) {
                return Some(at);
            }
            at = at.plus(1)?;
        }
    }

    fn gateway_address(&self) -> Option<Address> {
        self.gateway.as_deref()?.parse().ok()
    }

    fn grant(&self, address: Address) -> Grant {
        Grant { address, prefix: self.prefix, gateway: self.gateway.clone(), dns_servers: self.dns_servers.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::range::Bounds;

    #[test]
    fn hi_28_addresses_are_counted_once() {
        let count = |given: Given| {
            let IPAddressCounts { free, total, used } = given.offer().count(&given.table());
            (total, used, free)
        };
        let (inside, outside) = ((24, ".12", ""), (24, ".1", ""));
        let ranges = || vec![(".10...19", 0, "", ""), (".15...24", 0, "", "")];
        assert_eq!(count(Given { pool: outside, ranges: ranges(), ..Given::default() }), (15, 0, 15));
        assert_eq!(count(Given { pool: inside, ranges: ranges(), ..Given::default() }), (15, 0, 14));
        let taken =
            Given { ranges: ranges(), used: vec![".10", ".16", ".99"], kept: vec![("x", ".11")], ..Given::default() };
        assert_eq!(count(taken), (15, 3, 12));
        let huge = Given { ranges: vec![("2001:db8::/32", 0, "", "")], ..Given::default() };
        assert_eq!(count(huge), (i64::MAX, 0, i64::MAX));
    }

    /// A pool in the notation of the acceptance rows.
    #[derive(Default)]
    struct Given {
        pool: (i64, &'static str, &'static str),
        /// Range, then prefix, gateway and DNS server of its own.
        ranges: Vec<(&'static str, i64, &'static str, &'static str)>,
        kept: Vec<(&'static str, &'static str)>,
        used: Vec<&'static str>,
        random: bool,
    }

    fn full(tail: &str) -> String {
        if tail.starts_with('.') { format!("192.168.0{tail}") } else { tail.to_owned() }
    }

    fn text(first: &str, second: &str) -> Option<String> {
        [first, second].into_iter().find(|text| !text.is_empty()).map(full)
    }

    impl Given {
        fn offer(&self) -> Offer {
            let ranges = self.ranges.iter().filter_map(|(range, prefix, gateway, dns)| {
                let (start, end, subnet) = match range.split_once("..") {
                    Some((start, end)) => (Some(full(start)), Some(full(end)), None),
                    None => (None, None, Some((*range).to_owned())),
                };
                let bounds = Bounds { start: start.as_deref(), end: end.as_deref(), subnet: subnet.as_deref() };
                Some(Range {
                    interval: Interval::of(bounds)?,
                    prefix: if *prefix == 0 { self.pool.0 } else { *prefix },
                    gateway: text(gateway, self.pool.1),
                    dns_servers: text(dns, self.pool.2).into_iter().collect(),
                })
            });
            let kept = self.kept.iter().map(|(claim, at)| ((*claim).to_owned(), full(at).parse().ok()));
            Offer { ranges: ranges.collect(), random: self.random, pre_allocations: kept.collect() }
        }

        fn table(&self) -> Table {
            let mut table = Table::new("abcpref");
            for used in &self.used {
                table.take(full(used).parse().unwrap(), &ClaimKey::new(Kind::Metal3, format!("bcd{used}")));
            }
            self.offer().pre_allocations.values().flatten().for_each(|address| table.block(*address));
            table
        }

        fn asked(&self, requested: &str) -> Result<Grant, Failure> {
            [Kind::Metal3, Kind::ClusterApi]
                .map(|kind| {
                    let claim = ClaimKey::new(kind, "TestRef");
                    allocate(&self.offer(), &self.table(), &claim, Some(requested), 7)
                })
                .into_iter()
                .reduce(|m3, capi| {
                    assert_eq!(m3, capi, "the two kinds differ");
                    m3
                })
                .unwrap()
        }

        #[track_caller]
        fn gives(&self, requested: &str, address: &str, prefix: i64, gateway: &str, dns: &str) {
            let expected = Grant {
                address: full(address).parse().unwrap(),
                prefix,
                gateway: text(gateway, ""),
                dns_servers: text(dns, "").into_iter().collect(),
            };
            assert_eq!(self.asked(requested), Ok(expected));
        }

        #[track_caller]
        fn refuses(&self, requested: &str, failure: Failure) {
            assert_eq!(self.asked(requested), Err(failure));
        }
    }

    /// `[.11-.20]`, prefix 24, gateway .1
    fn ten() -> Given {
        Given { pool: (24, ".1", ""), ranges: vec![(".11...20", 0, "", "")], ..Given::default() }
    }

    #[test]
    fn ti_61_no_ranges_is_exhausted() {
        Given::default().refuses("", Failure::Exhausted);
    }

    #[test]
    fn ti_62_to_65_pre_allocations() {
        let two = vec![(".11...20", 26, "192.168.1.1", "8.8.8.8"), (".21...30", 0, "", "")];
        let given = Given { pool: (24, ".1", "8.8.4.4"), ranges: two, kept: vec![("TestRef", ".21")], ..ten() };
        given.gives("", ".21", 24, ".1", "8.8.4.4");

        let v6 = Given {
            pool: (64, "2001:db8::ffff", "2001:4860:4860::8888"),
            ranges: vec![("2001:db8::1..2001:db8::a", 0, "", "")],
            kept: vec![("TestRef", "2001:db8::0005")],
            ..Given::default()
        };
        v6.gives("", "2001:db8::5", 64, "2001:db8::ffff", "2001:4860:4860::8888");

        let own = vec![(".11...20", 26, "192.168.1.1", "8.8.8.8")];
        Given { pool: (24, "", ""), ranges: own, kept: vec![("TestRef", ".15")], ..ten() }.gives(
            "",
            ".15",
            26,
            "192.168.1.1",
            "8.8.8.8",
        );
        Given { kept: vec![("TestRef", ".21")], ..ten() }.refuses("", Failure::OutOfBounds);
    }

    #[test]
    fn ti_66_to_73_requests() {
        let given = Given { used: vec![".11", ".12"], ..ten() };
        given.gives("", ".13", 24, ".1", "");
        given.gives("192.168.0.16", ".16", 24, ".1", "");
        given.refuses("192.168.0.11", Failure::NotAvailable);
        Given { kept: vec![("TestRef", ".15")], ..ten() }.refuses("192.168.0.16", Failure::Conflict);
        Given { kept: vec![("TestRef", ".16")], ..ten() }.gives("192.168.0.16", ".16", 24, ".1", "");
        Given { kept: vec![("Other", ".16")], ..ten() }.refuses("192.168.0.16", Failure::NotAvailable);
        given.refuses("not-a-valid-ip", Failure::Invalid("not-a-valid-ip".into()));
        assert_eq!(
            Failure::Invalid("not-a-valid-ip".into()).to_string(),
            "Invalid ipAddress annotation \"not-a-valid-ip\": not a valid IP address"
        );
        given.refuses("10.0.0.1", Failure::NotAvailable); // HI-27
    }

    #[test]
    fn ti_74_to_76_the_range_overrides_the_pool() {
        let used = vec![".11", ".12"];
        let pool = (26, "192.168.1.1", "8.8.4.4");
        Given { pool, ranges: vec![(".11...20", 24, ".1", "8.8.8.8")], used, ..Given::default() }
            .gives("", ".13", 24, ".1", "8.8.8.8");
        let used = vec!["192.168.1.10", "192.168.1.11"];
        let first = ("192.168.1.10..192.168.1.10", 24, "192.168.1.1", "8.8.8.8");
        let pool = (26, "192.168.2.1", "8.8.4.4");
        let ranges = vec![first, ("192.168.1.10/24", 0, "", "")];
        Given { pool, ranges, used: used.clone(), ..Given::default() }.gives(
            "",
            "192.168.1.12",
            26,
            "192.168.2.1",
            "8.8.4.4",
        );
        let ranges = vec![(first.0, 0, "", ""), ("192.168.1.10/24", 24, "192.168.1.1", "8.8.8.8")];
        Given { pool, ranges, used, ..Given::default() }.gives("", "192.168.1.12", 24, "192.168.1.1", "8.8.8.8");
    }

    #[test]
    fn ti_77_to_80_exhaustion_and_addresses_kept_for_others() {
        Given { ranges: vec![(".10...10", 0, "", "")], used: vec![".10"], ..ten() }.refuses("", Failure::Exhausted);
        let used = vec![".1", ".2", ".3"];
        Given { ranges: vec![("192.168.0.0/30", 0, "", "")], used, ..Given::default() }.refuses("", Failure::Exhausted);
        Given { kept: vec![("Other", ".11")], ..ten() }.gives("", ".12", 24, ".1", "");
        // HI-10: by value, not by text.
        let ranges = vec![("2001:db8::1..2001:db8::a", 0, "", "")];
        Given { ranges, kept: vec![("Other", "2001:db8::0001")], ..Given::default() }.gives(
            "",
            "2001:db8::2",
            0,
            "",
            "",
        );
    }

    #[test]
    fn ti_81_82_an_address_far_into_a_range_is_found_at_once() {
        let given = Given { ranges: vec![("2001:db8::/64", 0, "", "")], ..Given::default() };
        given.gives("2001:db8:0:0:ffff::", "2001:db8:0:0:ffff::", 0, "", "");
        given.refuses("2001:db9::1", Failure::NotAvailable);
    }

    #[test]
    fn ti_83_cluster_api_has_no_such_prefix() {
        for prefix in [-1, 129] {
            let offer = Given { pool: (prefix, "", ""), ..ten() }.offer();
            let claim = ClaimKey::new(Kind::ClusterApi, "c");
            assert_eq!(allocate(&offer, &Table::new("p"), &claim, None, 0), Err(Failure::InvalidPrefix));
            assert!(allocate(&offer, &Table::new("p"), &claim.of_kind(Kind::Metal3), None, 0).is_ok());
        }
    }

    #[test]
    fn ti_84_to_89_random() {
        let given = |range, used: &[&'static str]| Given {
            ranges: vec![(range, 0, "", "")],
            used: used.to_vec(),
            random: true,
            ..ten()
        };
        for pick in 0..100 {
            let claim = ClaimKey::new(Kind::Metal3, "TestRef");
            let eleven = given(".10...20", &[]);
            let grant = allocate(&eleven.offer(), &eleven.table(), &claim, None, pick).unwrap();
            assert!(eleven.offer().ranges[0].interval.contains(grant.address));
            assert_eq!((grant.prefix, grant.gateway.as_deref()), (24, Some("192.168.0.1")));
            let one_left = given(".10...14", &[".10", ".11", ".13", ".14"]);
            let grant = allocate(&one_left.offer(), &one_left.table(), &claim, None, pick).unwrap();
            assert_eq!(grant.address.to_string(), "192.168.0.12");
        }
        given(".10...12", &[".10", ".11", ".12"]).refuses("", Failure::Exhausted);
        Given { random: true, kept: vec![("TestRef", ".15")], ..ten() }.gives("", ".15", 24, ".1", "");
        Given { random: true, ..ten() }.gives("192.168.0.16", ".16", 24, ".1", "");
        let ranges = vec![(".10...10", 0, "", ""), (".30...30", 0, "", "")];
        Given { random: true, ranges, used: vec![".10"], ..ten() }.gives("", ".30", 24, ".1", "");
    }

    #[test]
    fn ti_139_the_gateway_is_never_chosen_but_served_on_request() {
        let given = Given { pool: (0, ".1", ""), ranges: vec![("192.168.0.0/30", 0, "", "")], ..Given::default() };
        given.gives("", ".2", 0, ".1", "");
        Given { used: vec![".2"], ..Given { ranges: given.ranges.clone(), ..ten() } }.gives("", ".3", 24, ".1", "");
        given.gives("192.168.0.1", ".1", 0, ".1", "");
    }

    #[test]
    fn ti_54_ti_137_a_name_that_another_pool_took_moves_the_choice_on() {
        let mut table = ten().table();
        table.occupy_name(Kind::Metal3, "abcpref-192-168-0-11");
        let claim = ClaimKey::new(Kind::Metal3, "c");
        let grant = allocate(&ten().offer(), &table, &claim, None, 0).unwrap();
        assert_eq!(grant.address.to_string(), "192.168.0.12");
        let requested = allocate(&ten().offer(), &table, &claim, Some("192.168.0.11"), 0);
        assert_eq!(requested, Err(Failure::NotAvailable));
        // The names of the two kinds do not collide.
        let other = allocate(&ten().offer(), &table, &claim.of_kind(Kind::ClusterApi), None, 0).unwrap();
        assert_eq!(other.address.to_string(), "192.168.0.11");
    }
}
