//! What bytes say is done to pools, and the rules hold; `corpus.txt` has the inputs that are worth keeping.

use std::net::IpAddr;

use capm3_api::ipam::v1alpha1::{IPPool, IPPoolSpec, Range as PoolRange};
use capm3_api::validate::validate_create;

use super::*;
use crate::fuzz::{Bytes, run};
use crate::ipam::allocate::describe;
use crate::ipam::table::Table;

const CORPUS: &str = include_str!("corpus.txt");

#[test]
fn fuzz_pools() {
    run(CORPUS, "pools", pools);
}

#[test]
fn fuzz_allocations() {
    run(CORPUS, "allocations", allocations);
}

const ADDRESSES: [&str; 22] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.5",
    "10.0.0.9",
    "10.0.0.255",
    "10.0.1.0",
    "0.0.0.0",
    "255.255.255.254",
    "255.255.255.255",
    "2001:db8::",
    "2001:db8::1",
    "2001:0DB8:0::0005",
    "2001:db8::ff",
    "2001:db8:0:0:ffff::",
    "::",
    "::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "::ffff:10.0.0.5",
    "10.0.0.01",
    "10.0.0",
    "nonsense",
    " 10.0.0.1",
];

fn some_address(input: &mut Bytes<'_>) -> Option<String> {
    (input.below(3) > 0).then(|| input.one_of(&ADDRESSES).to_owned())
}

fn some_prefix(input: &mut Bytes<'_>) -> Option<i64> {
    [None, None, Some(0), Some(24), Some(32), Some(33), Some(64), Some(128), Some(129), Some(-1)][input.below(10)]
}

fn some_pool(input: &mut Bytes<'_>) -> IPPool {
    let range = |input: &mut Bytes<'_>| PoolRange {
        start: some_address(input),
        end: some_address(input),
        subnet: (input.below(2) > 0).then(|| {
            let address = input.one_of(&ADDRESSES[..18]); // that no other is in a subnet is the schema's business
            format!(
                "{address}/{}",
                input.one_of(&["24", "30", "31", "32", "8", "0", "64", "120", "126", "128", "129", "x"])
            )
        }),
        prefix: some_prefix(input),
        gateway: some_address(input),
        dns_servers: some_address(input).into_iter().collect(),
    };
    let spec = IPPoolSpec {
        name_prefix: input.one_of(&["abcpref", "p-", "a.b", "Bad_Prefix", ""]).to_owned(),
        allocation_strategy: Some(input.one_of(&["sequential", "random", ""]).to_owned()),
        prefix: some_prefix(input),
        gateway: some_address(input),
        pre_allocations: ["a", "b"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), some_address(input)?)))
            .collect(),
        pools: (0..=input.below(3)).map(|_| range(input)).collect(),
        ..IPPoolSpec::default()
    };
    IPPool { spec, ..IPPool::named("myns", "abc") }
}

/// Whether a range yields an address, by the words of I-32 and HI-15, with an arithmetic of its own.
fn yields(range: &PoolRange, address: IpAddr) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let read = |text: &Option<String>| text.as_deref().map(|text| text.parse::<IpAddr>().map(number));
    let (Ok(start), Ok(end)) = (read(&range.start).transpose(), read(&range.end).transpose()) else { return false };
    let subnet = range.subnet.as_deref().map(|text| {
        let (address, bits) = text.split_once('/')?;
        let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (bits <= longest).then(|| (number(address), bits + 128 - longest))
    });
    let subnet = match subnet {
        Some(None) => return false,
        Some(read) => read,
        None => None,
    };
    let inside =
        |at: u128| subnet.is_none_or(|(net, bits)| (at ^ net).checked_shr(128 - bits).unwrap_or_default() == 0);
    let Some(base) = start.or_else(|| subnet?.0.checked_add(1)) else { return false };
    let at = number(address);
    let v4 = |at: u128| at >> 32 == 0xffff;
    // The address before the first may be the last of IPv4.
    let first_of_family = start.is_some() || subnet.is_none_or(|(net, _)| v4(net) == v4(base));
    let same_family = v4(at) == v4(base);
    first_of_family && base <= at && end.is_none_or(|end| at <= end) && inside(base) && inside(at) && same_family
}

/// Any pool can be read; it gives out what its ranges say, and what admission accepts can be served.
fn pools(input: &mut Bytes<'_>) {
    let object = some_pool(input);
    let pool = Pool::from(&object);
    let spec = &object.spec;
    let mut points: BTreeSet<u128> = BTreeSet::new();
    let mut near = |address: Address| {
        let IpAddr::V6(at) = to_v6(address) else { return };
        points.extend(
            [at.to_bits().checked_sub(1), Some(at.to_bits()), at.to_bits().checked_add(1)].into_iter().flatten(),
        );
    };
    ADDRESSES.iter().filter_map(|text| text.parse().ok()).for_each(&mut near);
    for range in &pool.offer.ranges {
        assert!(range.interval.first <= range.interval.last);
        [range.interval.first, range.interval.last].into_iter().for_each(&mut near);
    }
    for at in points {
        let ip = IpAddr::from(at.to_be_bytes());
        let expected = spec.pools.iter().any(|range| yields(range, ip));
        assert_eq!(describe(&pool.offer, ip.into()).is_some(), expected, "{ip} of {:?}", spec.pools);
    }

    let counts = pool.offer.count(&Table::new(""));
    assert!(counts.used == 0 && counts.reserved >= 0 && (0..=counts.total).contains(&counts.free), "{counts:?}");
    assert!(counts.total == i64::MAX || counts.free + counts.reserved == counts.total, "{counts:?}");

    if !validate_create(&object).errors.is_empty() {
        return;
    }
    for (claim, address) in &pool.offer.pre_allocations {
        let kept = address.unwrap();
        let grant = describe(&pool.offer, kept).unwrap_or_else(|| panic!("{kept} is kept for {claim} and in no range"));
        assert!((0..=if kept.is_v4() { 32 } else { 128 }).contains(&grant.prefix), "{grant:?}");
        let name = object_name(&spec.name_prefix, kept);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        assert!(name.len() <= 253 && name.chars().all(plain) && !name.ends_with('-'), "{name}");
    }
}

fn to_v6(address: Address) -> IpAddr {
    let ip: IpAddr = address.to_string().parse().unwrap();
    match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(_) => ip,
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// `.10` to `.10 + n`, or of another net.
fn some_ranges(input: &mut Bytes<'_>) -> Vec<Range> {
    let range = |input: &mut Bytes<'_>| {
        let (start, more) = (10 + input.below(6), input.below(4));
        let net = input.one_of(&["192.168.0.", "192.168.0.", "2001:db8::"]);
        let (start, end) = (format!("{net}{start}"), format!("{net}{}", start + more));
        let bounds = Bounds { start: Some(&start), end: Some(&end), subnet: None };
        let gateway = (input.below(3) == 0).then(|| start.clone());
        Range { interval: Interval::of(bounds).unwrap(), prefix: 24, gateway, dns_servers: Vec::new() }
    };
    (0..=input.below(3)).map(|_| range(input)).collect()
}

fn some_text(input: &mut Bytes<'_>) -> String {
    match input.below(8) {
        0 => "192.168.0.99".to_owned(),
        1 => "nonsense".to_owned(),
        2 => format!("2001:db8::{}", 10 + input.below(8)),
        _ => format!("192.168.0.{}", 10 + input.below(8)),
    }
}

/// All addresses of a small range.
fn every(range: &Range) -> impl Iterator<Item = Address> {
    (0..).map_while(|n| range.interval.nth(n))
}

/// Whatever happens in whatever order: no address twice, none from outside, no claim forgotten.
fn allocations(input: &mut Bytes<'_>) {
    let mut world = ten();
    world.0.pool.offer.ranges = some_ranges(input);
    world.0.pool.offer.random = input.below(3) == 0;
    if input.below(4) == 0 {
        let other = object_name("abcpref", format!("192.168.0.{}", 10 + input.below(6)).parse().unwrap());
        world.0.foreign_names.insert((Kind::Metal3, other));
    }
    let mut born = 0;
    while !input.0.is_empty() {
        let name = input.one_of(&NAMES);
        let key = ClaimKey::new(if input.below(2) == 0 { Kind::Metal3 } else { Kind::ClusterApi }, name);
        let known = world.0.claims.iter_mut().find(|claim| claim.key == key);
        match (input.below(9), known) {
            (0..=2, None) => {
                born += 1;
                let requested = (input.below(4) == 0).then(|| some_text(input));
                let (uid, created) = (format!("uid-{born}"), Timestamp::from_second(born).ok());
                world.0.claims.push(Claim { uid, created, requested, ..claim(key.kind, name) });
            }
            (0..=1, Some(claim)) => {
                claim.deleting = true;
                if input.below(3) == 0 {
                    claim.finalizers.push(DATA.to_owned());
                }
            }
            (2, Some(claim)) => claim.finalizers.retain(|finalizer| finalizer != DATA),
            (3 | 4, _) => pass(&mut world, usize::MAX),
            (5, _) => pass(&mut world, input.below(8)),
            (6, _) if !world.0.addresses.is_empty() => {
                let gone = input.below(world.0.addresses.len());
                world.0.addresses.remove(gone);
            }
            (7, _) => {
                let ranges = some_ranges(input);
                let in_use = world.0.pool.indexes.values().filter_map(|text| text.parse::<Address>().ok());
                let covered = |address: Address| ranges.iter().any(|range| range.interval.contains(address));
                if in_use.into_iter().all(covered) {
                    world.0.pool.offer.ranges = ranges; // what admission lets through
                }
            }
            (8, _) => {
                let kept = some_text(input).parse().ok();
                world.0.pool.offer.pre_allocations.retain(|_, address| *address != kept);
                world.0.pool.offer.pre_allocations.insert(name.to_owned(), kept);
            }
            (_, _) => {}
        }
    }
    let mut world = world.settle();
    nobody_is_forgotten(&world);
    if !world.0.pool.offer.random {
        the_lowest_is_next(&mut world);
    }
}

/// One pass, cut off after some writes.
fn pass(world: &mut World, steps: usize) {
    world.confirm();
    let plan = world.decide();
    for serve in &plan.served {
        let Some(new) = &serve.create else { continue };
        let claim = world.0.claims.iter().find(|claim| claim.key == serve.claim).unwrap();
        let address = new.grant.address;
        assert!(!claim.deleting, "{address} for {claim:?}, which goes");
        assert!(describe(&world.0.pool.offer, address).is_some(), "{address} lies outside");
        let held = world.0.addresses.iter().find(|object| object.address == address.to_string());
        assert!(held.is_none(), "{address} is given again: {held:?}");
    }
    world.play(&plan, steps);
    let distinct: BTreeSet<_> = world.0.addresses.iter().map(|object| &object.address).collect();
    assert_eq!(distinct.len(), world.0.addresses.len(), "an address is there twice");
}

/// By an object, or listed for a claim that lost it.
fn is_held(world: &World, address: Address) -> bool {
    let text = address.to_string();
    world.0.addresses.iter().any(|object| object.address == text) || world.0.pool.indexes.values().any(|at| *at == text)
}

/// Whether a claim without wishes could get it.
fn is_open(world: &World, range: &Range, kind: Kind, address: Address) -> bool {
    let kept = world.0.pool.offer.pre_allocations.values().any(|kept| *kept == Some(address));
    let gateway = range.gateway.as_deref().and_then(|text| text.parse().ok()) == Some(address);
    let named = world.0.foreign_names.contains(&(kind, object_name("abcpref", address)));
    !is_held(world, address) && !kept && !gateway && !named
}

fn nobody_is_forgotten(world: &World) {
    let offer = &world.0.pool.offer;
    for object in &world.0.addresses {
        let owner = world.0.claims.iter().find(|claim| claim.key == object.claim_key());
        assert!(owner.is_some_and(|claim| Some(&claim.uid) == object.claim_uid.as_ref()), "orphan: {object:?}");
    }
    let there: BTreeSet<_> = world.0.addresses.iter().map(|object| &object.address).collect();
    let listed: BTreeSet<_> = world.0.pool.indexes.values().collect();
    assert!(there.is_subset(&listed), "{there:?} are there, {listed:?} are listed");
    for (key, address) in world.0.pool.indexes.iter().filter(|(_, address)| !there.contains(address)) {
        // Lost by force while its claim, which is being deleted, is in use: kept from others, and not made again.
        let of = |claim: &&Claim| claim.deleting && claim.key.index_keys().contains(key);
        assert!(world.0.claims.iter().any(|claim| of(&claim)), "{key} = {address} is listed for nobody");
    }
    for claim in &world.0.claims {
        let own: Vec<_> = world.0.addresses.iter().filter(|object| object.claim_key() == claim.key).collect();
        if claim.deleting {
            assert!(claim.finalizers.iter().any(|finalizer| finalizer == DATA), "left behind: {claim:?}");
            continue;
        }
        let kept = offer.pre_allocations.get(&claim.key.name).copied();
        let asked = claim.requested.as_deref().map(str::parse::<Address>);
        let wish = kept.flatten().or(asked.as_ref().and_then(|asked| asked.as_ref().ok().copied()));
        match &claim.answer {
            Some(Answer::Address(name)) => {
                assert!(matches!(own[..], [object] if object.name == *name), "{claim:?} has {own:?}");
            }
            Some(Answer::Failed { message, .. }) => {
                assert!(own.is_empty(), "{claim:?} has {own:?}");
                let taken = |address: Address| {
                    let for_another =
                        offer.pre_allocations.iter().any(|(of, kept)| *kept == Some(address) && *of != claim.key.name);
                    let named = world.0.foreign_names.contains(&(claim.key.kind, object_name("abcpref", address)));
                    is_held(world, address) || for_another || named
                };
                let outside = |address: Address| describe(offer, address).is_none();
                let is_true = match message.as_str() {
                    "Exhausted IP Pools" => offer
                        .ranges
                        .iter()
                        .all(|range| every(range).all(|address| !is_open(world, range, claim.key.kind, address))),
                    "Requested IP not available" => wish.is_some_and(|wish| taken(wish) || outside(wish)),
                    "Pre-allocated IP out of bounds" => kept.is_some_and(|kept| kept.is_none_or(outside)),
                    "PreAllocation and requested ip address are conflicting" => {
                        kept.is_some_and(|kept| asked.is_some_and(|asked| asked.ok() != kept))
                    }
                    other => other.starts_with("Invalid") && asked.is_some_and(|asked| asked.is_err()),
                };
                assert!(is_true, "{message} is not true of {claim:?}");
            }
            other => panic!("{claim:?} has no answer: {other:?}"),
        }
    }
}

fn the_lowest_is_next(world: &mut World) {
    for kind in [Kind::Metal3, Kind::ClusterApi] {
        let open = world
            .0
            .pool
            .offer
            .ranges
            .iter()
            .find_map(|range| every(range).find(|address| is_open(world, range, kind, *address)));
        let mut next = World(world.0.clone());
        next.0.claims.push(claim(kind, "next")); // without a date it comes first
        next.confirm();
        let plan = next.decide();
        let serve = plan.served.iter().find(|serve| serve.claim.name == "next").unwrap();
        assert_eq!(serve.create.as_ref().map(|new| new.grant.address), open);
    }
}
