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

    /// An IPv6 range that spans the numbers of IPv4 does not hold its addresses.
    pub fn contains(&self, address: Address) -> bool {
        address.is_v4() == self.first.is_v4() && (self.first..=self.last).contains(&address)
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

    fn at(start: &str, end: &str, subnet: &str, index: u128) -> Option<String> {
        range(start, end, subnet)?.nth(index).map(|address| address.to_string())
    }

    fn size(start: &str, end: &str, subnet: &str) -> Option<u64> {
        range(start, end, subnet)?.size()
    }

    const LAST: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

    #[test]
    fn i_32_positions_in_a_range() {
        for (row, start, end, subnet, index, expected) in [
            ("TI-1", "", "", "", 1, None),
            ("TI-2", "192.168.0.10", "", "", 1, Some("192.168.0.11")),
            ("TI-3", "192.168.0.10", "192.168.0.100", "", 1, Some("192.168.0.11")),
            ("TI-4", "192.168.0.10", "192.168.0.100", "", 100, None),
            ("TI-5", "192.168.0.10", "", "192.168.0.0/24", 1, Some("192.168.0.11")),
            ("TI-6", "192.168.0.10", "", "192.168.0.0/24", 250, None),
            ("TI-7", "", "", "192.168.0.10/24", 1, Some("192.168.0.12")),
            ("TI-8", "", "", "192.168.0.10/24", 250, None),
            ("TI-10", "", "", "192.168.0.0/30", 0, Some("192.168.0.1")),
            ("TI-10", "", "", "192.168.0.0/30", 1, Some("192.168.0.2")),
            ("TI-10", "", "", "192.168.0.0/30", 2, Some("192.168.0.3")),
            ("TI-10", "", "", "192.168.0.0/30", 3, None),
            ("TI-11", "", "", "2001:db8::/64", 0, Some("2001:db8::1")),
            ("TI-11", "", "", "2001:db8::/64", 65535, Some("2001:db8::1:0")),
            ("TI-12", "2001:db8::1", "2001:db8::a", "", 4, Some("2001:db8::5")),
        ] {
            assert_eq!(at(start, end, subnet, index).as_deref(), expected, "{row}");
        }
    }

    #[test]
    fn ti_9_an_empty_subnet_is_no_subnet_anyone_can_use() {
        for start in [None, Some("192.168.0.10")] {
            assert_eq!(Interval::of(Bounds { start, end: None, subnet: Some("") }), None);
        }
    }

    #[test]
    fn i_32_offsets_end_with_the_family() {
        for (row, start, end, offset, expected) in [
            ("TI-13", "192.168.0.10", "192.168.0.200", 10, Some("192.168.0.20")),
            ("TI-14", "192.168.0.10", "", 1000, Some("192.168.3.242")),
            ("TI-15", "192.168.0.10", "192.168.0.200", 1000, None),
            ("TI-16", "255.255.255.250", "", 10, None),
            ("TI-16", "255.255.255.255", "", 1, None),
            ("TI-16", "255.255.255.0", "", 256, None),
            ("TI-17", "255.255.255.254", "", 1, Some("255.255.255.255")),
            ("TI-17", "0.0.0.0", "", 1, Some("0.0.0.1")),
            ("TI-17", "10.0.0.1", "", 0, Some("10.0.0.1")),
            ("TI-18", "2001::10", "2001::fff0", 10, Some("2001::1a")),
            ("TI-19", "2001::10", "", 10000, Some("2001::2720")),
            ("TI-20", "2001::10", "2001::f0", 10000, None),
            ("TI-21", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0", "", 100, None),
            ("TI-21", LAST, "", 1, None),
            ("TI-22", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "", 1, Some(LAST)),
            ("TI-22", "::", "", 1, Some("::1")),
            ("TI-22", "fe80::1", "", 0, Some("fe80::1")),
            ("TI-23", "2001:db8::1", "", 255, Some("2001:db8::100")),
            ("TI-23", "2001:db8::ffff:ffff", "", 1, Some("2001:db8::1:0:0")),
            ("TI-24", "2001:db8::1", "2001:db8::ff", 10, Some("2001:db8::b")),
            ("TI-24", "2001:db8::1", "2001:db8::ff", 1000, None),
        ] {
            assert_eq!(at(start, end, "", offset).as_deref(), expected, "{row}");
        }
    }

    #[test]
    fn i_34_sizes() {
        for (row, start, end, subnet, expected) in [
            ("TI-25", "", "", "", None),
            ("TI-25", "192.168.0.10", "", "", None),
            ("TI-25", "", "192.168.0.10", "", None),
            ("TI-26", "192.168.0.10", "192.168.0.20", "", Some(11)),
            ("TI-26", "192.168.0.10", "192.168.0.10", "", Some(1)),
            ("TI-26", "192.168.0.20", "192.168.0.10", "", None),
            ("TI-27", "192.168.0.10", "", "192.168.0.0/24", Some(246)),
            ("TI-28", "", "", "192.168.0.0/24", Some(255)),
            // HI-16: the size is that of the addresses handed out, which begin after the host address as written.
            ("TI-28", "", "", "192.168.0.10/24", Some(245)),
            ("TI-29", "x", "", "10.0.0.0/8", None),
            ("TI-29", "10.0.0.1", "x", "", None),
            ("TI-29", "10.0.0.1", "", "x", None),
            ("TI-30", "", "", "2001:db8::/32", None),
        ] {
            assert_eq!(size(start, end, subnet), expected, "{row}");
        }
        let too_large = at("", "", "2001:db8::/32", 0);
        assert_eq!(too_large.as_deref(), Some("2001:db8::1"), "TI-30: counted or not, it is served in order");
    }

    #[test]
    fn i_27_names() {
        for (row, prefix, address, expected) in [
            ("TI-31", "abcpref", "192.168.0.15", "abcpref-192-168-0-15"),
            ("TI-32", "p6", "2001:db8::5", "p6-2001-db8--5"),
            ("TI-33", "p6", "2001:db8::", "p6-2001-db8"),
            ("TI-34", "p6", "::1", "p6---1"),
            ("TI-35", "pool-", "10.0.0.1", "pool--10-0-0-1"),
        ] {
            assert_eq!(object_name(prefix, address.parse().unwrap()), expected, "{row}");
        }
    }

    #[test]
    fn i_33_a_mapped_start_is_ipv4() {
        assert_eq!(at("::ffff:c0a8:1", "", "", 1).as_deref(), Some("192.168.0.2"));
        assert_eq!("2001:DB8:0:0:1:0:0:1".parse::<Address>().unwrap().to_string(), "2001:db8::1:0:0:1");
    }

    #[test]
    fn hi_15_end_counts_with_a_subnet_too() {
        assert_eq!(size("", "192.168.0.2", "192.168.0.0/24"), Some(2));
        assert_eq!(at("", "192.168.0.2", "192.168.0.0/24", 2), None);
    }

    #[test]
    fn i_32_a_start_outside_the_subnet_yields_nothing() {
        for start in ["10.0.0.1", "192.169.0.0", "2001:db8::1"] {
            assert_eq!(range(start, "", "192.168.0.0/24"), None);
        }
    }

    #[test]
    fn i_32_the_start_may_be_the_first_address_of_the_subnet_and_none_before() {
        assert_eq!(at("10.0.1.0", "", "10.0.1.0/24", 0).as_deref(), Some("10.0.1.0"));
        assert_eq!(at("10.0.0.255", "", "10.0.1.0/24", 0), None);
    }
}
