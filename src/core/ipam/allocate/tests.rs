//! Pools in the notation of the acceptance rows, asked for one claim of each kind.

use super::*;
use crate::ipam::range::Bounds;
use crate::ipam::table::effort;

/// A pool, who has what of it, and what its ranges say.
#[derive(Clone, Default)]
struct Given {
    /// Prefix, gateway and DNS server of the pool.
    pool: (i64, &'static str, &'static str),
    /// Range, then prefix, gateway and DNS server of its own.
    ranges: Vec<(&'static str, i64, &'static str, &'static str)>,
    kept: Vec<(&'static str, &'static str)>,
    used: Vec<&'static str>,
    random: bool,
}

/// `.7` is `192.168.0.7`.
fn full(tail: &str) -> String {
    if tail.starts_with('.') { format!("192.168.0{tail}") } else { tail.to_owned() }
}

fn text(first: &str, second: &str) -> Option<String> {
    [first, second].into_iter().find(|text| !text.is_empty()).map(full)
}

const REF: &str = "TestRef";

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

    /// For a claim of either kind, which makes no difference.
    fn asked(&self, requested: &str, pick: u64) -> Result<Grant, Failure> {
        let [m3, capi] = [Kind::Metal3, Kind::ClusterApi]
            .map(|kind| allocate(&self.offer(), &mut self.table(), &ClaimKey::new(kind, REF), Some(requested), pick));
        assert_eq!(m3, capi, "the two kinds differ");
        m3
    }

    #[track_caller]
    fn gives(&self, row: &str, requested: &str, address: &str, prefix: i64, gateway: &str, dns: &str) {
        let expected = Grant {
            address: full(address).parse().unwrap(),
            prefix,
            gateway: text(gateway, ""),
            dns_servers: text(dns, "").into_iter().collect(),
        };
        for pick in [0, 7] {
            assert_eq!(self.asked(&full(requested), pick), Ok(expected.clone()), "{row}");
        }
    }

    #[track_caller]
    fn refuses(&self, row: &str, requested: &str, words: &str) {
        for pick in [0, 7] {
            let refused = self.asked(&full(requested), pick).map_err(|failure| failure.to_string());
            assert_eq!(refused, Err(words.to_owned()), "{row}");
        }
    }
}

/// `[.11-.20]`, prefix 24, gateway .1
fn ten() -> Given {
    Given { pool: (24, ".1", ""), ranges: vec![(".11...20", 0, "", "")], ..Given::default() }
}

/// One range and nothing else.
fn only(range: &'static str) -> Given {
    Given { ranges: vec![(range, 0, "", "")], ..Given::default() }
}

const EXHAUSTED: &str = "Exhausted IP Pools";
const NOT_AVAILABLE: &str = "Requested IP not available";

#[test]
fn i_38_pre_allocations() {
    Given::default().refuses("TI-61", "", EXHAUSTED);

    let own = (".11...20", 26, "192.168.1.1", "8.8.8.8");
    let two = vec![own, (".21...30", 0, "", "")];
    let given = Given { pool: (24, ".1", "8.8.4.4"), ranges: two, kept: vec![(REF, ".21")], ..ten() };
    given.gives("TI-62", "", ".21", 24, ".1", "8.8.4.4");

    let v6 = Given {
        pool: (64, "2001:db8::ffff", "2001:4860:4860::8888"),
        kept: vec![(REF, "2001:db8::0005")],
        ..only("2001:db8::1..2001:db8::a")
    };
    v6.gives("TI-63", "", "2001:db8::5", 64, "2001:db8::ffff", "2001:4860:4860::8888");

    let given = Given { pool: (24, "", ""), ranges: vec![own], kept: vec![(REF, ".15")], ..ten() };
    given.gives("TI-64", "", ".15", 26, "192.168.1.1", "8.8.8.8");
    Given { kept: vec![(REF, ".21")], ..ten() }.refuses("TI-65", "", "Pre-allocated IP out of bounds");
}

#[test]
fn i_39_requests() {
    let same = Given { used: vec![".11", ".12"], ..ten() };
    let kept = |claim, address| Given { kept: vec![(claim, address)], ..same.clone() };
    same.gives("TI-66", "", ".13", 24, ".1", "");
    same.gives("TI-67", ".16", ".16", 24, ".1", "");
    same.refuses("TI-68", ".11", NOT_AVAILABLE);
    kept(REF, ".15").refuses("TI-69", ".16", "PreAllocation and requested ip address are conflicting");
    kept(REF, ".16").gives("TI-70", ".16", ".16", 24, ".1", "");
    kept("Other", ".16").refuses("TI-71", ".16", NOT_AVAILABLE);
    let quoted = "Invalid ipAddress annotation \"not-a-valid-ip\": not a valid IP address";
    same.refuses("TI-72", "not-a-valid-ip", quoted);
    same.refuses("TI-73", "10.0.0.1", NOT_AVAILABLE); // HI-27
}

#[test]
fn i_40_the_range_overrides_the_pool() {
    let pool = (26, "192.168.1.1", "8.8.4.4");
    let ranges = vec![(".11...20", 24, ".1", "8.8.8.8")];
    let given = Given { pool, ranges, used: vec![".11", ".12"], ..Given::default() };
    given.gives("TI-74", "", ".13", 24, ".1", "8.8.8.8");

    let pool = (26, "192.168.2.1", "8.8.4.4");
    let used = vec![".10", "192.168.1.11"];
    let ranges = vec![(".10...10", 24, "192.168.1.1", "8.8.8.8"), ("192.168.1.10/24", 0, "", "")];
    let given = Given { pool, ranges, used: used.clone(), ..Given::default() };
    given.gives("TI-75", "", "192.168.1.12", 26, "192.168.2.1", "8.8.4.4");

    let ranges = vec![(".10...10", 0, "", ""), ("192.168.1.10/24", 24, "192.168.1.1", "8.8.8.8")];
    let given = Given { pool: (26, "", ""), ranges, used, ..Given::default() };
    given.gives("TI-76", "", "192.168.1.12", 24, "192.168.1.1", "8.8.8.8");
}

#[test]
fn i_36_exhaustion_and_addresses_kept_for_others() {
    Given { used: vec![".10"], ..only(".10...10") }.refuses("TI-77", "", EXHAUSTED);
    Given { used: vec![".1", ".2", ".3"], ..only("192.168.0.0/30") }.refuses("TI-78", "", EXHAUSTED);
    Given { kept: vec![("Other", ".11")], ..ten() }.gives("TI-79", "", ".12", 24, ".1", "");
    // HI-10: by value, not by text.
    let given = Given { kept: vec![("Other", "2001:db8::0001")], ..only("2001:db8::1..2001:db8::a") };
    given.gives("TI-80", "", "2001:db8::2", 0, "", "");
}

/// HI-8: what is looked up does not grow with how far away an address is, or with how many there are.
#[test]
fn i_46_an_address_far_into_a_range_is_found_at_once() {
    let given = only("2001:db8::/64");
    given.gives("TI-81", "2001:db8:0:0:ffff::", "2001:db8:0:0:ffff::", 0, "", "");
    given.refuses("TI-82", "2001:db9::1", NOT_AVAILABLE);
    let far = Given { kept: vec![(REF, "2001:db8:0:0:ffff::")], ..given.clone() };
    far.gives("HI-8", "", "2001:db8:0:0:ffff::", 0, "", "");
    let (offer, mut table) = (given.offer(), given.table());
    for (row, asked) in [("TI-81", "2001:db8:0:0:ffff::"), ("TI-82", "2001:db9::1")] {
        let claim = ClaimKey::new(Kind::Metal3, REF);
        let (_, spent) = effort::of(|| allocate(&offer, &mut table, &claim, Some(asked), 0));
        assert!(spent <= 2, "{row}: {spent} look-ups");
    }
}

#[test]
fn ti_83_cluster_api_has_no_such_prefix() {
    for prefix in [-1, 129] {
        let (offer, mut table) = (Given { pool: (prefix, "", ""), ..ten() }.offer(), Table::new("p"));
        let claim = ClaimKey::new(Kind::ClusterApi, "c");
        let refused = allocate(&offer, &mut table, &claim, None, 0).map_err(|failure| failure.to_string());
        assert_eq!(refused, Err("Invalid prefix value, it must be between 0 and 128".to_owned()));
        assert!(allocate(&offer, &mut table, &claim.of_kind(Kind::Metal3), None, 0).is_ok());
    }
}

/// Cluster API's admission refuses the object; an IPAddress of our own kind may have it.
#[test]
fn i_9_a_prefix_of_the_other_family_is_not_asked_for() {
    for (prefix, range, fits) in [(33, ".11...20", false), (32, ".11...20", true), (64, "2001:db8::/64", true)] {
        let (offer, mut table) = (Given { pool: (prefix, "", ""), ..only(range) }.offer(), Table::new("p"));
        let claim = ClaimKey::new(Kind::ClusterApi, "c");
        assert_eq!(allocate(&offer, &mut table, &claim, None, 0).is_ok(), fits, "{range} with {prefix}");
        assert!(allocate(&offer, &mut table, &claim.of_kind(Kind::Metal3), None, 0).is_ok());
    }
}

#[test]
fn i_37_random() {
    let given = |range| Given { ranges: vec![(range, 0, "", "")], random: true, ..ten() };
    let mut chosen = BTreeSet::new();
    for pick in 0..100 {
        let eleven = given(".10...20");
        let grant = eleven.asked("", pick).unwrap();
        assert!(eleven.offer().ranges[0].interval.contains(grant.address), "TI-84: {}", grant.address);
        assert_eq!((grant.prefix, grant.gateway.as_deref()), (24, Some("192.168.0.1")), "TI-84");
        chosen.insert(grant.address);
        let one_left = Given { used: vec![".10", ".11", ".13", ".14"], ..given(".10...14") };
        assert_eq!(one_left.asked("", pick).unwrap().address.to_string(), "192.168.0.12", "TI-85");
    }
    assert_eq!(chosen.len(), 11, "the dice decide");
    Given { used: vec![".10", ".11", ".12"], ..given(".10...12") }.refuses("TI-86", "", EXHAUSTED);
    Given { kept: vec![(REF, ".15")], ..given(".10...20") }.gives("TI-87", "", ".15", 24, ".1", "");
    given(".10...20").gives("TI-87", ".16", ".16", 24, ".1", "");
    let ranges = vec![(".10...10", 0, "", ""), (".30...30", 0, "", "")];
    Given { random: true, ranges, used: vec![".10"], ..ten() }.gives("TI-89", "", ".30", 24, ".1", "");

    for seed in 0..20 {
        let (offer, mut table) = (given(".10...20").offer(), Table::new("p"));
        for n in 0..11 {
            let kind = if n % 2 == 0 { Kind::Metal3 } else { Kind::ClusterApi };
            let claim = ClaimKey::new(kind, format!("c{n}"));
            let grant = allocate(&offer, &mut table, &claim, None, seed * 31 + n).unwrap();
            assert!(!table.is_taken(kind, grant.address), "TI-88: {} is given twice", grant.address);
            table.take(grant.address, &claim);
        }
        assert_eq!(table.len(), 11, "TI-88");
    }
}

#[test]
fn ti_139_the_gateway_is_never_chosen_but_served_on_request() {
    let given = Given { pool: (0, ".1", ""), ..only("192.168.0.0/30") };
    given.gives("TI-139", "", ".2", 0, ".1", "");
    Given { used: vec![".2"], ..given.clone() }.gives("TI-139", "", ".3", 0, ".1", "");
    given.gives("HI-14", ".1", ".1", 0, ".1", "");
    Given { kept: vec![(REF, ".1")], ..given.clone() }.gives("HI-14", "", ".1", 0, ".1", "");
    Given { used: vec![".2", ".3"], ..given }.refuses("HI-14", "", EXHAUSTED);
    Given { pool: (0, ".3", ""), used: vec![".1", ".2"], ..only("192.168.0.0/30") }.refuses("HI-14", "", EXHAUSTED);
}

#[test]
fn ti_140_an_end_counts_with_a_subnet() {
    let with_end = |used: &[&'static str]| {
        let bounds = Bounds { start: None, end: Some("192.168.0.2"), subnet: Some("192.168.0.0/24") };
        let given = Given { used: used.to_vec(), ..Given::default() };
        let range =
            Range { interval: Interval::of(bounds).unwrap(), prefix: 0, gateway: None, dns_servers: Vec::new() };
        let offer = Offer { ranges: vec![range], ..Offer::default() };
        let claim = ClaimKey::new(Kind::Metal3, REF);
        allocate(&offer, &mut given.table(), &claim, None, 0).map(|grant| grant.address.to_string())
    };
    assert_eq!(with_end(&[]), Ok("192.168.0.1".to_owned()));
    assert_eq!(with_end(&[".1"]), Ok("192.168.0.2".to_owned()));
    assert_eq!(with_end(&[".1", ".2"]), Err(Failure::Exhausted));
}

#[test]
fn ti_54_ti_137_a_name_that_another_pool_took_moves_the_choice_on() {
    let (offer, mut table) = (ten().offer(), ten().table());
    table.occupy_name(Kind::Metal3, "abcpref-192-168-0-11");
    let claim = ClaimKey::new(Kind::Metal3, "c");
    let grant = allocate(&offer, &mut table, &claim, None, 0).unwrap();
    assert_eq!(grant.address.to_string(), "192.168.0.12");
    let requested = allocate(&offer, &mut table, &claim, Some("192.168.0.11"), 0);
    assert_eq!(requested, Err(Failure::NotAvailable));
    // The names of the two kinds do not collide.
    let other = allocate(&offer, &mut table, &claim.of_kind(Kind::ClusterApi), None, 0).unwrap();
    assert_eq!(other.address.to_string(), "192.168.0.11");
}

/// Total, reserved, used, free.
fn counts(given: &Given) -> (i64, i64, i64, i64) {
    let IPAddressCounts { free, reserved, total, used } = given.offer().count(&given.table());
    (total, reserved, used, free)
}

#[test]
fn hi_28_addresses_are_counted_once() {
    let overlapping = Given { ranges: vec![(".10...19", 0, "", ""), (".15...24", 0, "", "")], ..Given::default() };
    let gateway = |gateway| Given { pool: (24, gateway, ""), ..overlapping.clone() };
    assert_eq!(counts(&gateway(".1")), (15, 0, 0, 15));
    assert_eq!(counts(&gateway(".12")), (15, 1, 0, 14), "a gateway that is in a range is nobody's");
    let taken =
        Given { used: vec![".10", ".16", ".99"], kept: vec![("x", ".11"), ("y", ".77")], ..overlapping.clone() };
    assert_eq!(counts(&taken), (15, 1, 3, 12), "what lies outside is held, and is not of the ranges");
    let held = Given { used: vec![".11", ".12"], kept: vec![("x", ".11")], ..gateway(".12") };
    assert_eq!(counts(&held), (15, 0, 2, 13), "who holds it has it, kept or not");
    let twice = Given { kept: vec![("x", ".11"), ("y", ".11"), ("z", ".12")], ..gateway(".12") };
    assert_eq!(counts(&twice), (15, 2, 0, 13));
    assert_eq!(counts(&only("2001:db8::/64")), (i64::MAX, 0, 0, i64::MAX));
}

/// Bad input that admission would refuse: the others are served on.
#[test]
fn i_38_a_pool_that_admission_never_saw() {
    let twice = Given { kept: vec![(REF, ".15"), ("Other", ".15")], ..ten() };
    twice.gives("doubled, free", "", ".15", 24, ".1", "");
    Given { used: vec![".15"], ..twice }.refuses("doubled, held by the other", "", NOT_AVAILABLE);
    Given { kept: vec![(REF, "nonsense")], ..ten() }.refuses("no address", "", "Pre-allocated IP out of bounds");
    Given { kept: vec![("Other", "nonsense")], ..ten() }.gives("another's mistake", "", ".11", 24, ".1", "");
    let broken = vec![("..", 0, "", ""), ("x/y", 0, "", ""), (".20...11", 0, "", ""), (".11...20", 0, "", "")];
    Given { ranges: broken, ..ten() }.gives("broken ranges", "", ".11", 24, ".1", "");
    let overlapping = vec![(".11...12", 0, "", ""), (".11...13", 0, "", "")];
    Given { ranges: overlapping.clone(), used: vec![".11", ".12"], ..ten() }.gives("", "", ".13", 24, ".1", "");
    Given { ranges: overlapping, used: vec![".11", ".12", ".13"], ..ten() }.refuses("", "", EXHAUSTED);
}
