//! IPPool, IPClaim and IPAddress (I-11 to I-16, with HI-4, HI-11, HI-13 to HI-18).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Admission, Verdict, is_blank, namespace};
use crate::ipam::v1alpha1::{IPAddress, IPClaim, IPPool, IPPoolSpec, Range};
use crate::k8s::{ObjectMeta, ObjectReference};
use crate::names::{STRATEGY_RANDOM, STRATEGY_SEQUENTIAL, annotation};

const MAX_NAME_PREFIX: usize = 200;
const MAX_NAME: usize = 253;
/// Entries of `status.indexes` from which the pool is near the size that an API server stores (HI-29).
const MANY_ADDRESSES: usize = 5000;
const ADDRESS: &str = "must be an IPv4 or IPv6 address";
const ADDRESS_OBJECT: &str = "an address belongs to one claim on one pool";
const POOL: &str = "make a new pool";

impl Admission for IPPool {
    fn default(&mut self) {
        if is_blank(self.spec.allocation_strategy.as_ref()) {
            self.spec.allocation_strategy = Some(STRATEGY_SEQUENTIAL.to_owned());
        }
    }

    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        if old.is_some_and(|old| self.same_spec(old)) {
            return;
        }
        let spec = &self.spec;
        let ranges: Vec<_> = spec.pools.iter().map(Bounds::of).collect();
        if let Some(old) = old {
            if old.spec.name_prefix != spec.name_prefix {
                verdict.immutable("spec.namePrefix", &spec.name_prefix, &old.spec.name_prefix, POOL);
            }
            if strategy(&old.spec) != strategy(spec) {
                verdict.immutable("spec.allocationStrategy", strategy(spec), strategy(&old.spec), POOL);
            }
        } else if !spec.name_prefix.is_empty() && !makes_names(&spec.name_prefix) {
            let wanted = format!(
                "must begin the names of objects: at most {MAX_NAME_PREFIX} lower case letters, digits, '-' and '.', \
                 and a letter or digit first"
            );
            verdict.invalid("spec.namePrefix", &spec.name_prefix, wanted);
        }
        let set_aside = judge_addresses(spec, verdict);
        let text = |range: &Range| serde_json::to_string(range).unwrap_or_default();
        let known: BTreeSet<String> = old.iter().flat_map(|old| &old.spec.pools).map(text).collect();
        for (i, (range, bounds)) in spec.pools.iter().zip(&ranges).enumerate() {
            let is_new = !known.contains(&text(range));
            judge_range(&format!("spec.pools[{i}]"), range, bounds, strategy(spec), is_new, verdict);
        }
        if old.is_none_or(|old| old.spec.prefix != spec.prefix || old.spec.pools != spec.pools) {
            judge_prefixes(spec, &ranges, verdict);
            warn_about_ranges(spec, &ranges, verdict);
        }
        let covered = Covered::by(ranges.iter().filter_map(Bounds::interval));
        let given_out = Covered::by(ranges.iter().filter_map(Bounds::given_out));
        let is_new = |claim: &str, address: &str| {
            old.is_none_or(|old| {
                old.spec.pools != spec.pools || old.spec.pre_allocations.get(claim).map(String::as_str) != Some(address)
            })
        };
        let mut out = spec.pre_allocations.iter().filter(|(claim, address)| {
            let within = if is_new(claim, address) { &given_out } else { &covered };
            !within.contains(address)
        });
        if let Some((claim, address)) = out.next() {
            let wanted = format!("the address of {claim:?} must lie in one of spec.pools");
            verdict.invalid("spec.preAllocations", address, wanted);
        }
        let in_use = old.and_then(|old| old.status.as_ref()).map(|status| &status.indexes);
        if let Some(many) = in_use.map(BTreeMap::len).filter(|count| *count > MANY_ADDRESSES) {
            verdict.warn(format!(
                "status.indexes: {many} addresses are much for one pool, more than {MANY_ADDRESSES}: add a second pool"
            )); // HI-29
        }
        for (claim, address) in in_use.into_iter().flatten() {
            if !covered.contains(address) {
                let wanted = format!("must keep {address} in a range while {claim:?} uses it");
                verdict.invalid("spec.pools", &spec.pools, wanted);
            }
            let wanted_by = parse(address).and_then(|address| set_aside.get(&address));
            if let Some(name) = wanted_by.filter(|name| *name != claim) {
                verdict.warn(format!("spec.preAllocations: {address} for {name:?} is in use by {claim:?}")); // HI-11
            }
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

fn strategy(spec: &IPPoolSpec) -> &str {
    spec.allocation_strategy.as_deref().filter(|s| !s.is_empty()).unwrap_or(STRATEGY_SEQUENTIAL)
}

/// Whether `<prefix>-0` is a DNS-1123 subdomain, as names of objects are (HI-13).
fn makes_names(prefix: &str) -> bool {
    let name = format!("{prefix}-0");
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    prefix.len() <= MAX_NAME_PREFIX && name.len() <= MAX_NAME && name.split('.').all(label)
}

fn parse(address: &str) -> Option<IpAddr> {
    address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Empty text passes here: the schema's pattern refuses it first.
fn judge_address(path: impl Into<String>, address: &str, verdict: &mut Verdict) {
    if !address.is_empty() && parse(address).is_none() {
        verdict.invalid(path, address, ADDRESS);
    }
}

/// Judges what stands for itself; says which claim each address is set aside for.
fn judge_addresses<'a>(spec: &'a IPPoolSpec, verdict: &mut Verdict) -> BTreeMap<IpAddr, &'a str> {
    judge_address("spec.gateway", spec.gateway.as_deref().unwrap_or_default(), verdict);
    for (i, server) in spec.dns_servers.iter().enumerate() {
        judge_address(format!("spec.dnsServers[{i}]"), server, verdict);
    }
    let mut claims: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for (claim, address) in &spec.pre_allocations {
        let path = format!("spec.preAllocations.{claim}");
        match parse(address) {
            None => verdict.invalid(path, address, ADDRESS),
            Some(address) => {
                if let Some(other) = claims.insert(address, claim) {
                    verdict.invalid(path, address, format!("must be another address: {other:?} has this one"));
                }
            }
        }
    }
    claims
}

/// The bounds of a range as far as they can be read.
struct Bounds {
    start: Option<IpAddr>,
    end: Option<IpAddr>,
    subnet: Option<IpNet>,
    given: bool,
    readable: bool,
}

impl Bounds {
    fn of(range: &Range) -> Self {
        let [start, end, subnet] =
            [&range.start, &range.end, &range.subnet].map(|text| text.as_deref().filter(|t| !t.is_empty()));
        let bounds = Self {
            start: start.and_then(parse),
            end: end.and_then(parse),
            subnet: subnet.and_then(|text| text.parse().ok()),
            given: start.or(end).or(subnet).is_some(),
            readable: true,
        };
        let unread = (start.is_some() && bounds.start.is_none())
            || (end.is_some() && bounds.end.is_none())
            || (subnet.is_some() && bounds.subnet.is_none());
        Self { readable: !unread, ..bounds }
    }

    /// First and last address. All IPv4 addresses come before all IPv6 addresses (I-14).
    fn interval(&self) -> Option<(IpAddr, IpAddr)> {
        let lowest = || IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let highest = || IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));
        let (low, high) = self.subnet.map_or_else(|| (lowest(), highest()), |net| (net.network(), net.broadcast()));
        let (first, last) =
            (self.start.map_or(low, |start| start.max(low)), self.end.map_or(high, |end| end.min(high)));
        (self.given && self.readable && first <= last).then_some((first, last))
    }

    /// First and last address that claims can get: the allocator's own interval (I-32, HI-15, HI-16).
    fn given_out(&self) -> Option<(IpAddr, IpAddr)> {
        let first = match (self.start, self.subnet) {
            (Some(start), _) => start,
            (None, Some(subnet)) => next(subnet.addr())?,
            (None, None) => return None,
        };
        let last =
            if first.is_ipv4() { IpAddr::V4(Ipv4Addr::BROADCAST) } else { IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)) };
        let (low, high) = self.interval()?;
        (low <= first && first <= high.min(last)).then_some((first, high.min(last)))
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.interval().is_some_and(|(first, last)| first <= address && address <= last)
    }

    /// How many addresses a random choice would be made among (I-34).
    fn size(&self) -> Option<i64> {
        let (first, last) = match (self.start, self.end, self.subnet) {
            (Some(start), Some(end), _) => (number(start), number(end).checked_add(1)?),
            (Some(start), None, Some(subnet)) => (number(start), number(subnet.broadcast()).checked_add(1)?),
            (None, _, Some(subnet)) => (number(subnet.network()), number(subnet.broadcast())),
            _ => return None,
        };
        i64::try_from(last.checked_sub(first)?).ok()
    }

    fn is_ipv4(&self) -> bool {
        let of_subnet = self.subnet.map(|subnet| subnet.addr().to_canonical());
        self.start.or(self.end).or(of_subnet).is_some_and(|address| address.is_ipv4())
    }
}

/// The address behind this one, in its family.
fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().checked_add(1)?).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().checked_add(1)?).into(),
    })
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Every address that lies in some range (I-14): intervals in order, none touching the next, so that neither many ranges
/// nor many addresses make a request slow.
struct Covered(Vec<(IpAddr, IpAddr)>);

impl Covered {
    fn by(intervals: impl Iterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut intervals: Vec<_> = intervals.collect();
        intervals.sort_unstable();
        let mut covered: Vec<(IpAddr, IpAddr)> = Vec::new();
        for (first, last) in intervals {
            match covered.last_mut().filter(|before| first <= before.1) {
                Some(before) => before.1 = before.1.max(last),
                None => covered.push((first, last)),
            }
        }
        Self(covered)
    }

    fn contains(&self, address: &str) -> bool {
        let Some(address) = parse(address) else { return false };
        let after = self.0.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).is_some_and(|i| address <= self.0[i].1)
    }
}

fn judge_range(path: &str, range: &Range, bounds: &Bounds, strategy: &str, is_new: bool, verdict: &mut Verdict) {
    if !bounds.given {
        return verdict.required(path, "give a start, an end or a subnet");
    }
    let before = verdict.errors.len();
    for (name, text) in [("start", &range.start), ("end", &range.end)] {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty() && parse(text).is_none()) {
            verdict.invalid(path, text, format!("{name} {ADDRESS}"));
        }
    }
    if let Some(text) = range.subnet.as_deref().filter(|text| !text.is_empty() && text.parse::<IpNet>().is_err()) {
        verdict.invalid(path, text, "subnet must be a network in CIDR notation, such as 192.0.2.0/24 or 2001:db8::/64");
    }
    if let (Some(start), Some(end)) = (bounds.start, bounds.end)
        && start > end
    {
        verdict.invalid(path, range, format!("start {start} must not come after end {end}"));
    }
    judge_address(format!("{path}.gateway"), range.gateway.as_deref().unwrap_or_default(), verdict);
    for (j, server) in range.dns_servers.iter().enumerate() {
        judge_address(format!("{path}.dnsServers[{j}]"), server, verdict);
    }
    if is_new && verdict.errors.len() == before {
        judge_new_range(path, range, bounds, verdict);
    }
    if strategy == STRATEGY_RANDOM && verdict.errors.len() == before && bounds.size().is_none() {
        verdict.invalid(path, range, "must have two ends and at most 2^63-1 addresses for a random choice");
    }
}

/// Ranges that never gave the addresses they seem to promise: refused where they are new (HI-15, HI-17).
fn judge_new_range(path: &str, range: &Range, bounds: &Bounds, verdict: &mut Verdict) {
    let family = |address: IpAddr| address.is_ipv4();
    let wanted = match (bounds.start, bounds.end, bounds.subnet) {
        (None, Some(end), None) => format!("end {end} must come with a start or a subnet"),
        (Some(start), Some(end), _) if family(start) != family(end) => {
            format!("start {start} and end {end} must be of one family")
        }
        (Some(start), _, Some(subnet)) if !subnet.contains(&start) => {
            format!("start {start} must lie in subnet {subnet}")
        }
        (_, Some(end), Some(subnet)) if family(end) != family(subnet.addr()) => {
            format!("end {end} and subnet {subnet} must be of one family")
        }
        _ => return,
    };
    verdict.invalid(path, range, wanted);
}

/// The prefix that an address of the range would carry fits its family (HI-18).
fn judge_prefixes(spec: &IPPoolSpec, ranges: &[Bounds], verdict: &mut Verdict) {
    let longest = |ipv4: bool| if ipv4 { 32 } else { 128 };
    let pool = spec.prefix.unwrap_or(0);
    let inherits = |range: &Range| range.prefix.unwrap_or(0) == 0;
    let any_ipv4 = spec.pools.iter().zip(ranges).any(|(range, bounds)| inherits(range) && bounds.is_ipv4());
    if !(0..=longest(any_ipv4)).contains(&pool) {
        verdict.invalid("spec.prefix", pool, format!("must be 0 (unset) to {}", longest(any_ipv4)));
    }
    for (i, (range, bounds)) in spec.pools.iter().zip(ranges).enumerate() {
        let prefix = range.prefix.unwrap_or(0);
        if !(0..=longest(bounds.is_ipv4())).contains(&prefix) {
            let wanted = format!("must be 0 (unset) to {}", longest(bounds.is_ipv4()));
            verdict.invalid(format!("spec.pools[{i}].prefix"), prefix, wanted);
        }
    }
}

/// Addresses that are given out although something else probably has them (HI-14), and subnets that start late (HI-16).
fn warn_about_ranges(spec: &IPPoolSpec, ranges: &[Bounds], verdict: &mut Verdict) {
    for (i, (range, bounds)) in spec.pools.iter().zip(ranges).enumerate() {
        let gateway = range.gateway.as_ref().or(spec.gateway.as_ref()).and_then(|text| parse(text));
        if let Some(gateway) = gateway.filter(|gateway| bounds.contains(*gateway)) {
            verdict.warn(format!("spec.pools[{i}]: gateway {gateway} lies inside and is given out only on request"));
        }
        let servers = if range.dns_servers.is_empty() { &spec.dns_servers } else { &range.dns_servers };
        for server in servers.iter().filter_map(|text| parse(text)).filter(|server| bounds.contains(*server)) {
            verdict.warn(format!("spec.pools[{i}]: name server {server} lies inside and can be given out"));
        }
        let Some(subnet) = bounds.subnet else { continue };
        if bounds.is_ipv4() && subnet.prefix_len() < 31 && bounds.contains(subnet.broadcast()) {
            verdict.warn(format!("spec.pools[{i}]: broadcast address {} can be given out", subnet.broadcast()));
        }
        if bounds.start.is_none() && subnet.addr() != subnet.network() {
            verdict.warn(format!("spec.pools[{i}]: addresses up to {} are never given out", subnet.addr()));
        }
    }
}

fn judge_requested(metadata: &ObjectMeta, verdict: &mut Verdict) {
    let requested = metadata.annotations.as_ref().and_then(|all| all.get(annotation::REQUESTED_ADDRESS));
    judge_address(
        format!("metadata.annotations.{}", annotation::REQUESTED_ADDRESS),
        requested.map_or("", String::as_str),
        verdict,
    );
}

fn identity(reference: &ObjectReference) -> [&str; 3] {
    [&reference.name, &reference.namespace, &reference.kind].map(|part| part.as_deref().unwrap_or_default())
}

impl Admission for IPClaim {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        judge_requested(&self.metadata, verdict);
        let pool = &self.spec.pool;
        match old {
            None => {
                if is_blank(pool.name.as_ref()) {
                    verdict.required("spec.pool.name", "name the IPPool to take an address from");
                }
                verdict.own_namespace("spec.pool", pool.namespace.as_deref(), namespace(self)); // HI-4
            }
            Some(old) if identity(pool) != identity(&old.spec.pool) => {
                verdict.immutable("spec.pool", pool, &old.spec.pool, "make a new claim");
            }
            Some(_) => {}
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Admission for IPAddress {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        judge_requested(&self.metadata, verdict);
        let spec = &self.spec;
        let Some(old) = old else {
            if is_blank(spec.pool.name.as_ref()) {
                verdict.required("spec.pool.name", "name the pool the address comes from");
            }
            if is_blank(spec.claim.name.as_ref()) {
                verdict.required("spec.claim.name", "name the claim that holds the address");
            }
            match spec.address.as_str() {
                "" => verdict.required("spec.address", ADDRESS),
                text if parse(text).is_none() => verdict.invalid("spec.address", text, ADDRESS),
                _ => {}
            }
            return;
        };
        if spec.address != old.spec.address {
            verdict.immutable("spec.address", &spec.address, &old.spec.address, ADDRESS_OBJECT);
        }
        for (path, new, old) in
            [("spec.pool", &spec.pool, &old.spec.pool), ("spec.claim", &spec.claim, &old.spec.claim)]
        {
            if identity(new) != identity(old) {
                verdict.immutable(path, new, old, ADDRESS_OBJECT);
            }
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}
