//! A finalizer goes only when what it stands for is undone: I11.

use capm3_api::names::{finalizer, label};
use serde_json::Value;

use super::addresses::address_of;
use super::memory::Memory;
use super::seen::{Seen, What};
use super::view::{has_finalizer, has_image, is_leaving, label, owner, text, uid};

/// Whatever a finalizer of ours stands for is undone in the very state in which it is taken away.
pub(super) fn i11_undone_first(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let left = seen.finalizers_taken().find_map(|taken| left_behind(memory, seen, taken))?;
    Some(format!("{} lost its finalizer while {left}", seen.path))
}

fn left_behind(memory: &Memory, seen: &Seen<'_>, taken: &str) -> Option<String> {
    let object = seen.before();
    match (seen.what, taken) {
        (What::Machine, finalizer::MACHINE) => of_machine(memory, seen, object),
        (What::DataClaim, finalizer::MACHINE) => of_claim_in_use(memory, seen, object),
        (What::DataClaim, finalizer::DATA_CLAIM) => {
            let mut answers =
                memory.owned_by(uid(object)).filter(|(what, _, data)| *what == What::Data && !is_leaving(data));
            answers.next().map(|(_, data, _)| format!("{data} answers it"))
        }
        (What::Data, finalizer::DATA_CLAIM) => {
            let (name, uid) = owner(object, "Metal3DataClaim")?;
            let claim = memory.same(What::DataClaim, &seen.sibling(name), uid)?;
            (!is_leaving(claim)).then(|| format!("claim {name} wants it"))
        }
        (What::Data, finalizer::DATA) => of_data(memory, seen, object),
        (What::Claim | What::CapiClaim, finalizer::DATA) => {
            let (name, uid) = owner(object, "Metal3Data")?;
            let data = memory.same(What::Data, &seen.sibling(name), uid)?;
            (!is_leaving(data)).then(|| format!("{name} uses its address"))
        }
        (What::Claim, finalizer::IP_CLAIM) | (What::CapiClaim, finalizer::CAPI_IP_CLAIM) => {
            of_address_claim(memory, seen, object)
        }
        (What::Address, finalizer::IP_ADDRESS) | (What::CapiAddress, finalizer::CAPI_IP_ADDRESS) => {
            of_address(memory, seen, object)
        }
        (What::Pool, finalizer::IP_POOL) => {
            let (address, (_, name)) = memory.addresses_of(&seen.path).next()?;
            Some(format!("{name} holds {address} of it"))
        }
        (What::DataTemplate, finalizer::DATA_TEMPLATE) => {
            let (index, data) = memory.datas_of(&seen.path).next()?;
            Some(format!("{data} has index {index} of it"))
        }
        (What::Remediation, finalizer::REMEDIATION) => {
            super::remediation::kept_off(memory, uid(object)).map(|host| format!("{host} is kept off for it"))
        }
        (What::Metal3Cluster, finalizer::CLUSTER) => of_cluster(memory, seen, object),
        _ => None,
    }
}

fn of_machine(memory: &Memory, seen: &Seen<'_>, machine: &Value) -> Option<String> {
    if !is_leaving(machine) {
        return Some("it lives".to_owned());
    }
    if let Some(host) = memory.held_by(&seen.path).find(|host| !memory.is_abandoned(What::Host, host)) {
        return Some(format!("it has {host}"));
    }
    let claims = memory.owned_by(uid(machine)).filter(|(what, ..)| *what == What::DataClaim);
    let mut kept = claims.filter(|(_, _, claim)| has_finalizer(claim, finalizer::MACHINE) || !is_leaving(claim));
    kept.next().map(|(_, claim, _)| format!("its claim {claim} is not dismissed"))
}

/// The addresses are in use until the machine is off its disk (H-32).
fn of_claim_in_use(memory: &Memory, seen: &Seen<'_>, claim: &Value) -> Option<String> {
    let (name, uid) = owner(claim, "Metal3Machine")?;
    let machine = memory.same(What::Machine, &seen.sibling(name), uid)?;
    if !is_leaving(machine) {
        return Some(format!("machine {name} lives"));
    }
    let mut hosts = memory.held_by(&seen.path).filter_map(|host| memory.get(What::Host, host));
    let runs = hosts.any(|host| has_image(host));
    runs.then(|| format!("the host of {name} has its image"))
}

fn of_data(memory: &Memory, seen: &Seen<'_>, data: &Value) -> Option<String> {
    if !is_leaving(data) {
        return Some("it is wanted".to_owned());
    }
    if let Some((name, uid)) = owner(data, "Metal3DataClaim")
        && memory.same(What::DataClaim, &seen.sibling(name), uid).is_some()
    {
        return Some(format!("claim {name} is there"));
    }
    let claims = memory.owned_by(uid(data)).filter(|(what, ..)| matches!(what, What::Claim | What::CapiClaim));
    let mut kept = claims.filter(|(_, _, claim)| has_finalizer(claim, finalizer::DATA) || !is_leaving(claim));
    kept.next().map(|(_, claim, _)| format!("{claim} is not given back"))
}

fn of_address_claim(memory: &Memory, seen: &Seen<'_>, claim: &Value) -> Option<String> {
    if !is_leaving(claim) {
        return Some("it is wanted".to_owned());
    }
    if has_finalizer(claim, finalizer::DATA) {
        return Some("a Metal3Data uses it".to_owned());
    }
    let (addresses, _) = address_of(seen.what);
    let mut kept = memory.owned_by(uid(claim)).filter(|(what, _, address)| *what == addresses && !is_leaving(address));
    kept.next().map(|(_, address, _)| format!("{address} is not given back"))
}

fn of_address(memory: &Memory, seen: &Seen<'_>, address: &Value) -> Option<String> {
    let (what, kind) =
        if seen.what == What::Address { (What::Claim, "IPClaim") } else { (What::CapiClaim, "IPAddressClaim") };
    let (name, uid) = owner(address, kind)?;
    let claim = memory.same(what, &seen.sibling(name), uid)?;
    if !is_leaving(claim) {
        return Some(format!("claim {name} wants it"));
    }
    has_finalizer(claim, finalizer::DATA).then(|| format!("claim {name} is in use")) // I-31
}

fn of_cluster(memory: &Memory, seen: &Seen<'_>, cluster: &Value) -> Option<String> {
    if !is_leaving(cluster) {
        return Some("it is wanted".to_owned());
    }
    let named = owner(cluster, "Cluster").map_or_else(|| label(cluster, label::CLUSTER_NAME), |(name, _)| name);
    let near = |path: &str| path.split_once('/').is_some_and(|(namespace, _)| namespace == seen.namespace());
    let mut machines = memory.all(What::CapiMachine).filter(|(path, _)| near(path));
    if let Some((path, _)) = machines.find(|(_, machine)| label(machine, label::CLUSTER_NAME) == named) {
        return Some(format!("Machine {path} is there"));
    }
    let mut hosts = memory.all(What::Host).filter(|(path, _)| near(path));
    let kept = hosts.find(|(_, host)| {
        let consumer = &host["spec"]["consumerRef"];
        consumer["kind"] == "Cluster" && text(consumer, &["name"]) == named
    });
    kept.map(|(host, _)| format!("{host} is kept for it"))
}
