//! What addresses are given to whom: I2, I15.

use std::net::IpAddr;

use capm3_api::names::annotation;
use serde_json::Value;

use super::memory::{Memory, place, pool_of};
use super::seen::{Seen, What};
use super::view::{annotation, at, owner, text, uid};

/// How the pool's list names a Cluster API claim whose plain name an IPClaim has.
const CLASH: &str = " (IPAddressClaim)";

/// An address of a pool is held by one object of either kind.
pub(super) fn i2_one_holder(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let place = place(seen.what, seen.after())?;
    let (what, other) = memory.holding(&place).find(|(what, path)| (*what, path) != (seen.what, &seen.path))?;
    Some(format!("{} of {} is held by {what:?} {other} and by {:?} {}", place.1, place.0, seen.what, seen.path))
}

/// A claim is answered with an address that was made for it.
pub(super) fn i2_own_address(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let answered = |object: &Value| match seen.what {
        What::Claim => text(object, &["status", "address", "name"]).to_owned(),
        _ => text(object, &["status", "addressRef", "name"]).to_owned(),
    };
    let name = answered(seen.after());
    if name.is_empty() || name == answered(seen.before()) {
        return None;
    }
    let (what, kind) = address_of(seen.what);
    let object = memory.get(what, &seen.sibling(&name))?; // gone again already: it comes back, or at rest it is missed
    let (_, claim) = owner(object, kind)?;
    (claim != uid(seen.after())).then(|| format!("{} was answered with {name}, which was made for another", seen.path))
}

/// The kind of the addresses that answer claims of a kind, and what they call their owner.
pub(super) fn address_of(claim: What) -> (What, &'static str) {
    if claim == What::Claim { (What::Address, "IPClaim") } else { (What::CapiAddress, "IPAddressClaim") }
}

/// What a pool reserves is its to give: in a range, not the gateway unless that was wished for, kept for nobody else, as requested.
pub(super) fn i15_reservable(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let pool = seen.after();
    let (before, after) = (&seen.before()["status"]["indexes"], pool["status"]["indexes"].as_object()?);
    let new = after.iter().filter(|(claim, address)| before[claim.as_str()] != **address);
    new.into_iter().find_map(|(key, text)| {
        let why = why_not(memory, seen, pool, key, text.as_str().unwrap_or_default())?;
        Some(format!("{} reserved {text} for {key}: {why}", seen.path))
    })
}

fn why_not(memory: &Memory, seen: &Seen<'_>, pool: &Value, key: &str, address: &str) -> Option<String> {
    let Ok(address) = address.parse::<IpAddr>().map(|address| address.to_canonical()) else {
        return Some("it is no address".to_owned());
    };
    if memory.holding(&(seen.path.clone(), address)).next().is_some() {
        return None; // it was given before; the list follows
    }
    let spec = &pool["spec"];
    let ranges = spec["pools"].as_array();
    let Some(range) = ranges.into_iter().flatten().find(|range| is_within(range, address)) else {
        return Some("no range holds it".to_owned());
    };
    let name = key.strip_suffix(CLASH).unwrap_or(key);
    let wish = claim_of(memory, seen, key).map_or("", |claim| annotation(claim, annotation::REQUESTED_ADDRESS));
    let wish = wish.parse::<IpAddr>().ok().map(|wish| wish.to_canonical());
    let kept = spec["preAllocations"].as_object();
    let parsed = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok()).map(|a| a.to_canonical());
    let for_others = kept.into_iter().flatten().find(|(of, at)| *of != name && parsed(at) == Some(address));
    if let Some((other, _)) = for_others {
        return Some(format!("it is kept for {other}"));
    }
    let own = kept.and_then(|kept| kept.get(name)).and_then(parsed);
    if let Some(own) = own.filter(|own| *own != address) {
        return Some(format!("{own} is kept for it"));
    }
    if let Some(wish) = wish.filter(|wish| *wish != address) {
        return Some(format!("it asked for {wish}"));
    }
    let gateway = [range, spec].into_iter().map(|of| &of["gateway"]).find(|gateway| !gateway.is_null());
    let is_gateway = gateway.and_then(parsed) == Some(address);
    (is_gateway && own.is_none() && wish.is_none()).then(|| "it is the gateway".to_owned())
}

/// The claim that an entry of the pool's list stands for.
fn claim_of<'a>(memory: &'a Memory, seen: &Seen<'_>, key: &str) -> Option<&'a Value> {
    let find = |what, name: &str| {
        let claim = memory.get(what, &seen.sibling(name))?;
        (pool_of(what, claim) == seen.path).then_some(&**claim)
    };
    match key.strip_suffix(CLASH) {
        Some(name) => find(What::CapiClaim, name),
        None => find(What::Claim, key).or_else(|| find(What::CapiClaim, key)),
    }
}

/// Whether a range gives this address out (I-32, HI-15), by an arithmetic of its own.
fn is_within(range: &Value, address: IpAddr) -> bool {
    let bound = |name: &str| range[name].as_str().map(|text| text.parse::<IpAddr>().ok());
    let (start, end) = (bound("start"), bound("end"));
    let subnet = range["subnet"].as_str().map(Subnet::parse);
    if [start, end].contains(&Some(None)) || matches!(subnet, Some(None)) {
        return false;
    }
    let (start, end, subnet) = (start.flatten(), end.flatten(), subnet.flatten());
    let first = match (start, &subnet) {
        (Some(start), _) => number(start),
        (None, Some(subnet)) => number(subnet.written).saturating_add(1),
        (None, None) => return false,
    };
    let at = number(address);
    first <= at
        && end.is_none_or(|end| at <= number(end))
        && subnet.is_none_or(|subnet| subnet.holds(address))
        && start.is_none_or(|start| start.to_canonical().is_ipv4() == address.is_ipv4())
}

/// An address as one number, IPv4 as mapped.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

struct Subnet {
    written: IpAddr,
    /// Of 128.
    bits: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (written, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
        Some(Self { written, bits: if written.is_ipv4() { bits + 96 } else { bits } })
    }

    fn holds(&self, address: IpAddr) -> bool {
        let unlike = number(self.written) ^ number(address);
        unlike.checked_shr(128 - self.bits).unwrap_or_default() == 0
    }
}

/// An address is made only of what the pool's list, under its version, has reserved for the claim.
pub(super) fn i15_reserved_first(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    if seen.old.is_some() {
        return None;
    }
    let (path, address) = place(seen.what, seen.after())?;
    let (claim, kind, claims) = match seen.what {
        What::Address => (text(seen.after(), &["spec", "claim", "name"]), "IPClaim", What::Claim),
        _ => (text(seen.after(), &["spec", "claimRef", "name"]), "IPAddressClaim", What::CapiClaim),
    };
    // A create cannot insist on a version: one of a replica that stood still arrives after its claim is gone. The name of the address is
    // what makes it harmless (I20, I24), and that nothing of it is left is looked at at rest (I4).
    let known = memory.get(claims, &super::seen::path(seen.namespace(), claim));
    if owner(seen.after(), kind).is_some_and(|(_, id)| known.is_none_or(|claim| uid(claim) != id)) {
        return None;
    }
    let pool = memory.get(What::Pool, &path).map_or(&Value::Null, |pool| pool);
    let list = at(pool, &["status", "indexes"]);
    let keys = [claim.to_owned(), format!("{claim}{CLASH}")];
    let reserved = keys.iter().any(|key| list[key].as_str().and_then(|text| text.parse().ok()) == Some(address));
    (!reserved).then(|| format!("{} was made without {path} having reserved {address} for {claim}", seen.path))
}
