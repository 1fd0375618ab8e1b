//! Addresses as numbers and ranges as one closed interval of them.
//!
//! Text is parsed once, here. Everything behind this border compares numbers, so `2001:db8::5` and `2001:0db8:0::0005` are one
//! address, and whether a range holds an address is two comparisons and never a walk, however wide the range is.
//!
//! Rules: spec/ipam.md I-27, I-32 to I-34, I-46, with hazards HI-8, HI-10, HI-15 and HI-16 adopted.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An address of either family as one number: IPv4 is counted as `::ffff:a.b.c.d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(u128);

const V4_FIRST: u128 = 0xffff_0000_0000;
const V4_LAST: u128 = 0xffff_ffff_ffff;

/// The text is not an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid IP address")]
pub struct NotAnAddress;

impl Address {
    /// The address `n` further on, as long as it stays inside the family.
    pub fn plus(self, n: u128) -> Option<Self> {
        self.0.checked_add(n).filter(|sum| *sum <= self.family_end().0).map(Self)
    }

    pub fn is_v4(self) -> bool {
        (V4_FIRST..=V4_LAST).contains(&self.0)
    }

    fn family_end(self) -> Self {
        Self(if self.is_v4() { V4_LAST } else { u128::MAX })
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
            IpAddr::V6(ip) => ip.into(),
        })
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        text.parse::<IpAddr>().map(Self::from).map_err(|_| NotAnAddress)
    }
}

/// Canonical text (I-33): dotted quad, or RFC 5952.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv6Addr::from(self.0).to_canonical().fmt(f)
    }
}

impl Address {
    /// How many addresses there are from here to `last`, both counted.
    pub fn count_to(self, last: Self) -> u128 {
        last.0.saturating_sub(self.0).saturating_add(1)
    }
}

/// Name of the address object (I-27). Folding can make two addresses of a mixed pool share a name; the allocator looks at names too.
pub fn object_name(prefix: &str, address: Address) -> String {
    let folded = address.to_string().replace([':', '.'], "-");
    format!("{prefix}-{folded}").trim_end_matches('-').to_owned()
}

/// The bounds of a range as written in a pool.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds<'a> {
    pub start: Option<&'a str>,
    pub end: Option<&'a str>,
    pub subnet: Option<&'a str>,
}

/// A range that holds at least one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub first: Address,
    pub last: Address,
    /// Something other than the end of the family ends it.
    bounded: bool,
}

impl Interval {
    /// The addresses of a range, or `None` when it has none: no bound to start from, an unparsable bound, or bounds that
    /// exclude each other.
    pub fn of(bounds: Bounds<'_>) -> Option<Self> {
        let start = parse::<Address>(bounds.start)?;
        let end = parse::<Address>(bounds.end)?;
        let subnet = parse::<IpNet>(bounds.subnet)?;

        // Without `start` the address written in the subnet counts, host bits and all (I-32, HI-16).
        let first = match (start, subnet) {
            (Some(start), _) => start,
            (None, Some(subnet)) => Address::from(subnet.addr()).plus(1)?,
            (None, None) => return None,
        };
        let mut last = first.family_end();
        if let Some(end) = end {
            last = last.min(end);
        }
        if let Some(subnet) = subnet {
            if first < Address::from(subnet.network()) {
                return None;
            }
            last = last.min(Address::from(subnet.broadcast()));
        }
        (first <= last).then_some(Self { first, last, bounded: end.is_some() || subnet.is_some() })
    }

    pub fn contains(&self, address: Address) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// How many addresses there are (I-34); `None` when nothing bounds the range or a signed 64-bit integer cannot hold it.
    pub fn size(&self) -> Option<u64> {
        let size = (self.last.0 - self.first.0).checked_add(1)?;
        i64::try_from(size).ok().filter(|_| self.bounded).map(i64::unsigned_abs)
    }

    /// The address at a position counted from 0.
    pub fn nth(&self, index: u128) -> Option<Address> {
        self.first.plus(index).filter(|address| *address <= self.last)
    }
}

/// `Some(None)` is absent, `None` is present and unparsable.
fn parse<T: FromStr>(text: Option<&str>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => text.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str, subnet: &str) -> Option<Interval> {
        let given = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        let (start, end, subnet) = (given(start), given(end), given(subnet));
        Interval::of(Bounds { start: start.as_deref(), end: end.as_deref(), subnet: subnet.as_deref() })
    }

    #[track_caller]
    fn nth(start: &str, end: &str, subnet: &str, index: u128, expected: Option<&str>) {
        let found = range(start, end, subnet).and_then(|range| range.nth(index)).map(|address| address.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[track_caller]
    fn size(start: &str, end: &str, subnet: &str, expected: Option<u64>) {
        assert_eq!(range(start, end, subnet).and_then(|range| range.size()), expected);
    }

    #[test]
    fn ti_1_to_12_positions_in_a_range() {
        nth("", "", "", 1, None);
        nth("192.168.0.10", "", "", 1, Some("192.168.0.11"));
        nth("192.168.0.10", "192.168.0.100", "", 1, Some("192.168.0.11"));
        nth("192.168.0.10", "192.168.0.100", "", 100, None);
        nth("192.168.0.10", "", "192.168.0.0/24", 1, Some("192.168.0.11"));
        nth("192.168.0.10", "", "192.168.0.0/24", 250, None);
        nth("", "", "192.168.0.10/24", 1, Some("192.168.0.12"));
        nth("", "", "192.168.0.10/24", 250, None);
        for (index, expected) in
            [(0, Some("192.168.0.1")), (1, Some("192.168.0.2")), (2, Some("192.168.0.3")), (3, None)]
        {
            nth("", "", "192.168.0.0/30", index, expected);
        }
        nth("", "", "2001:db8::/64", 0, Some("2001:db8::1"));
        nth("", "", "2001:db8::/64", 65535, Some("2001:db8::1:0"));
        nth("2001:db8::1", "2001:db8::a", "", 4, Some("2001:db8::5"));
    }

    #[test]
    fn ti_9_an_empty_subnet_is_no_subnet_anyone_can_use() {
        for start in [None, Some("192.168.0.10")] {
            assert_eq!(Interval::of(Bounds { start, end: None, subnet: Some("") }), None);
        }
    }

    #[test]
    fn ti_13_to_17_offsets_in_ipv4_end_with_the_family() {
        nth("192.168.0.10", "192.168.0.200", "", 10, Some("192.168.0.20"));
        nth("192.168.0.10", "", "", 1000, Some("192.168.3.242"));
        nth("192.168.0.10", "192.168.0.200", "", 1000, None);
        nth("255.255.255.250", "", "", 10, None);
        nth("255.255.255.255", "", "", 1, None);
        nth("255.255.255.0", "", "", 256, None);
        nth("255.255.255.254", "", "", 1, Some("255.255.255.255"));
        nth("0.0.0.0", "", "", 1, Some("0.0.0.1"));
        nth("10.0.0.1", "", "", 0, Some("10.0.0.1"));
    }

    #[test]
    fn ti_18_to_24_offsets_in_ipv6() {
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        nth("2001::10", "2001::fff0", "", 10, Some("2001::1a"));
        nth("2001::10", "", "", 10000, Some("2001::2720"));
        nth("2001::10", "2001::f0", "", 10000, None);
        nth("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0", "", "", 100, None);
        nth(last, "", "", 1, None);
        nth("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "", "", 1, Some(last));
        nth("::", "", "", 1, Some("::1"));
        nth("fe80::1", "", "", 0, Some("fe80::1"));
        nth("2001:db8::1", "", "", 255, Some("2001:db8::100"));
        nth("2001:db8::ffff:ffff", "", "", 1, Some("2001:db8::1:0:0"));
        nth("2001:db8::1", "2001:db8::ff", "", 10, Some("2001:db8::b"));
        nth("2001:db8::1", "2001:db8::ff", "", 1000, None);
    }

    #[test]
    fn ti_25_to_30_sizes() {
        size("", "", "", None);
        size("192.168.0.10", "", "", None);
        size("", "192.168.0.10", "", None);
        size("192.168.0.10", "192.168.0.20", "", Some(11));
        size("192.168.0.10", "192.168.0.10", "", Some(1));
        size("192.168.0.20", "192.168.0.10", "", None);
        size("192.168.0.10", "", "192.168.0.0/24", Some(246));
        size("", "", "192.168.0.0/24", Some(255));
        // HI-16: the size is that of the addresses handed out, which begin after the host address as written.
        size("", "", "192.168.0.10/24", Some(245));
        for (start, end, subnet) in [("x", "", "10.0.0.0/8"), ("10.0.0.1", "x", ""), ("10.0.0.1", "", "x")] {
            size(start, end, subnet, None);
        }
        size("", "", "2001:db8::/32", None);
        nth("", "", "2001:db8::/32", 0, Some("2001:db8::1"));
    }

    #[test]
    fn ti_31_to_35_names() {
        for (prefix, address, expected) in [
            ("abcpref", "192.168.0.15", "abcpref-192-168-0-15"),
            ("p6", "2001:db8::5", "p6-2001-db8--5"),
            ("p6", "2001:db8::", "p6-2001-db8"),
            ("p6", "::1", "p6---1"),
            ("pool-", "10.0.0.1", "pool--10-0-0-1"),
        ] {
            assert_eq!(object_name(prefix, address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn i_33_a_mapped_start_is_ipv4() {
        nth("::ffff:c0a8:1", "", "", 1, Some("192.168.0.2"));
        assert_eq!("2001:DB8:0:0:1:0:0:1".parse::<Address>().unwrap().to_string(), "2001:db8::1:0:0:1");
    }

    #[test]
    fn hi_15_end_counts_with_a_subnet_too() {
        size("", "192.168.0.2", "192.168.0.0/24", Some(2));
        nth("", "192.168.0.2", "192.168.0.0/24", 2, None);
    }

    #[test]
    fn i_32_a_start_outside_the_subnet_yields_nothing() {
        for start in ["10.0.0.1", "192.169.0.0", "2001:db8::1"] {
            assert_eq!(range(start, "", "192.168.0.0/24"), None);
        }
    }

    #[test]
    fn i_32_the_start_may_be_the_first_address_of_the_subnet_and_none_before() {
        nth("10.0.1.0", "", "10.0.1.0/24", 0, Some("10.0.1.0"));
        nth("10.0.0.255", "", "10.0.1.0/24", 0, None);
    }
}
