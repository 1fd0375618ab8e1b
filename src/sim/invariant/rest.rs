//! What is looked at once nothing happens any more: I4, I16, and whether conditions tell the facts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use capm3_api::names::{CAPI_GROUP, annotation, finalizer, host_state, label};
use serde_json::Value;

use super::addresses::address_of;
use super::memory::{Memory, holder, pool_of};
use super::seen::{What, path};
use super::view::{
    condition, finalizers, has_finalizer, is_annotated, is_leaving, is_ours, label, owner, state, text, uid,
};

/// An invariant of the whole world: everything that is wrong.
pub(super) type RestCheck = fn(&Memory) -> Vec<String>;

/// The longest list of indexes that the schema allows.
const LISTED_MAX: usize = 512;

/// Whether nobody may touch it.
fn is_paused(memory: &Memory, object: &Value) -> bool {
    let cluster = path(text(object, &["metadata", "namespace"]), label(object, label::CLUSTER_NAME));
    is_annotated(object, annotation::PAUSED) || memory.paused_since(&cluster).is_some()
}

/// The object of that name near another one.
fn near<'a>(memory: &'a Memory, object: &Value, what: What, name: &str) -> Option<&'a Value> {
    memory.get(what, &path(text(object, &["metadata", "namespace"]), name)).map(|object| &**object)
}

/// Nothing of ours is left of what is gone.
pub(super) fn i4_nothing_left(memory: &Memory) -> Vec<String> {
    let mut left = Vec::new();
    for (path, host) in memory.all(What::Host).filter(|(_, host)| !is_leaving(host)) {
        let consumer = &host["spec"]["consumerRef"];
        if let Some(machine) = holder(host) {
            let gone = memory.get(What::Machine, &machine).is_none();
            if gone && !memory.is_abandoned(What::Machine, &machine) && !memory.is_abandoned(What::Host, path) {
                left.push(format!("host {path} is held by {machine}, which is gone"));
            }
        } else if consumer["kind"] == "Cluster" && text(consumer, &["apiVersion"]).starts_with(CAPI_GROUP) {
            let name = text(consumer, &["name"]);
            let gone = near(memory, host, What::Cluster, name).is_none();
            if gone && !memory.is_abandoned(What::Host, path) {
                left.push(format!("host {path} is kept for Cluster {name}, which is gone"));
            }
        }
    }
    for (what, path, marks) in memory.marks() {
        let Some(object) = memory.get(what, path) else { continue };
        let used = match what {
            What::Host => holder(object).is_some() || memory.is_abandoned(What::Host, path),
            _ => memory.all(What::Host).any(|(_, host)| is_credentials_of(host, object) && holder(host).is_some()),
        };
        if !used && !is_leaving(object) {
            left.push(format!("{what:?} {path}, which nobody uses, still has {marks:?}"));
        }
    }
    left.extend(super::remediation::left_behind(memory));
    let owners = [
        (What::DataClaim, "Metal3Machine", What::Machine),
        (What::Data, "Metal3DataClaim", What::DataClaim),
        (What::Claim, "Metal3Data", What::Data),
        (What::CapiClaim, "Metal3Data", What::Data),
        (What::Secret, "Metal3Data", What::Data),
        (What::Address, "IPClaim", What::Claim),
        (What::CapiAddress, "IPAddressClaim", What::CapiClaim),
    ];
    for (what, kind, owners) in owners {
        for (path, object) in memory.all(what).filter(|(_, object)| !is_paused(memory, object)) {
            let Some((name, uid)) = owner(object, kind) else { continue };
            if near(memory, object, owners, name).is_none_or(|owner| super::view::uid(owner) != uid) {
                let owner = super::seen::path(text(object, &["metadata", "namespace"]), name);
                let abandoned = memory.is_abandoned(owners, &owner) && matches!(what, What::DataClaim | What::Secret);
                if !abandoned {
                    left.push(format!("{what:?} {path} is left of {name}, which is gone"));
                }
            }
        }
    }
    left
}

fn is_credentials_of(host: &Value, secret: &Value) -> bool {
    text(host, &["spec", "bmc", "credentialsName"]) == text(secret, &["metadata", "name"])
        && host["metadata"]["namespace"] == secret["metadata"]["namespace"]
}

/// What is to go goes, unless somebody still holds it.
pub(super) fn i4_nothing_stuck(memory: &Memory) -> Vec<String> {
    let mut stuck = Vec::new();
    for what in [
        What::Machine,
        What::Metal3Cluster,
        What::Remediation,
        What::Data,
        What::DataClaim,
        What::DataTemplate,
        What::Pool,
        What::Claim,
        What::CapiClaim,
        What::Address,
        What::CapiAddress,
    ] {
        for (path, object) in memory.all(what) {
            let held_by_us = is_leaving(object) && finalizers(object).any(is_ours) && !is_paused(memory, object);
            if held_by_us && !has_reason_to_stay(memory, what, path, object) {
                let finalizers: Vec<_> = finalizers(object).collect();
                stuck.push(format!("{what:?} {path} does not go: {finalizers:?}"));
            }
        }
    }
    stuck
}

fn has_reason_to_stay(memory: &Memory, what: What, path: &str, object: &Value) -> bool {
    let lives = |what, kind| {
        let owner = owner(object, kind);
        owner.is_some_and(|(name, uid)| near(memory, object, what, name).is_some_and(|o| super::view::uid(o) == uid))
    };
    match what {
        What::Machine => {
            let mut hosts = memory.held_by(path).filter_map(|host| memory.get(What::Host, host));
            hosts.any(|host| !matches!(state(host), host_state::AVAILABLE | host_state::READY))
        }
        What::Metal3Cluster => {
            let name = owner(object, "Cluster").map_or_else(|| label(object, label::CLUSTER_NAME), |(name, _)| name);
            memory.all(What::CapiMachine).any(|(_, machine)| label(machine, label::CLUSTER_NAME) == name)
        }
        What::DataClaim => has_finalizer(object, finalizer::MACHINE) && lives(What::Machine, "Metal3Machine"),
        What::Data => lives(What::DataClaim, "Metal3DataClaim"),
        What::DataTemplate => {
            let of =
                |claim: &Value| near(memory, claim, What::DataTemplate, text(claim, &["spec", "template", "name"]));
            memory.datas_of(path).next().is_some()
                || memory
                    .all(What::DataClaim)
                    .any(|(_, claim)| of(claim).is_some_and(|found| uid(found) == uid(object)))
        }
        What::Pool => memory.addresses_of(path).next().is_some(),
        What::Claim | What::CapiClaim => {
            let in_use = has_finalizer(object, finalizer::DATA) && lives(What::Data, "Metal3Data");
            let pool = memory.get(What::Pool, &pool_of(what, object));
            in_use || pool.is_some_and(|pool| is_paused(memory, pool))
        }
        What::Remediation => false,
        What::Address => lives(What::Claim, "IPClaim"),
        What::CapiAddress => lives(What::CapiClaim, "IPAddressClaim"),
        _ => true,
    }
}

/// A claim has one Metal3Data.
pub(super) fn i3_one_data_left(memory: &Memory) -> Vec<String> {
    let live = memory.all(What::Data).filter(|(_, data)| !is_leaving(data) && !is_paused(memory, data));
    let mut answered = BTreeMap::new();
    let twins = live.filter_map(|(path, data)| {
        let (claim, uid) = owner(data, "Metal3DataClaim")?;
        let other = answered.insert(uid, path)?;
        Some(format!("claim {claim} has {other} and {path}"))
    });
    twins.collect()
}

/// Lists and counts say what the objects say.
pub(super) fn i16_counted(memory: &Memory) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, pool) in memory.all(What::Pool).filter(|(_, pool)| !is_paused(memory, pool) && !is_leaving(pool)) {
        let there: BTreeSet<IpAddr> = memory.addresses_of(path).map(|(address, _)| *address).collect();
        let list = pool["status"]["indexes"].as_object();
        let listed: BTreeSet<IpAddr> =
            list.into_iter().flatten().filter_map(|(_, text)| text.as_str()?.parse().ok()).collect();
        if there != listed {
            wrong.push(format!("pool {path} lists {listed:?}, and there are {there:?}"));
        }
        let used = &pool["status"]["ipAddresses"]["used"];
        if used.as_u64().is_some_and(|used| used != there.len() as u64) {
            wrong.push(format!("pool {path} counts {used} addresses, and there are {}", there.len()));
        }
    }
    for (path, template) in memory.all(What::DataTemplate).filter(|(_, one)| !is_paused(memory, one)) {
        let there: BTreeMap<i64, ()> = memory.datas_of(path).map(|(index, _)| (index, ())).take(LISTED_MAX).collect();
        let list = template["status"]["indexes"].as_array();
        let listed: BTreeMap<i64, ()> =
            list.into_iter().flatten().filter_map(|entry| Some((entry["index"].as_i64()?, ()))).collect();
        if there != listed {
            wrong.push(format!("template {path} lists {:?}, and there are {:?}", listed.keys(), there.keys()));
        }
    }
    wrong
}

/// Conditions and references tell what is so.
pub(super) fn i13_conditions_tell_facts(memory: &Memory) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, machine) in memory.all(What::Machine).filter(|(_, one)| !is_paused(memory, one) && !is_leaving(one)) {
        let has_host = memory.held_by(path).next().is_some();
        if condition(machine, "AssociateBareMetalHost") == "True" && !has_host {
            wrong.push(format!("machine {path} says that it has a host, and has none"));
        }
        let provisioned = machine["status"]["initialization"]["provisioned"] == true;
        if condition(machine, "Ready") == "True" && !(has_host && provisioned) {
            wrong.push(format!("machine {path} says that it is ready, and is not"));
        }
    }
    for (what, at) in
        [(What::Claim, &["status", "address", "name"]), (What::CapiClaim, &["status", "addressRef", "name"])]
    {
        for (path, claim) in memory.all(what).filter(|(_, claim)| !is_leaving(claim) && !is_paused(memory, claim)) {
            let pool = pool_of(what, claim);
            let served =
                memory.get(What::Pool, &pool).is_some_and(|pool| !is_paused(memory, pool) && !is_leaving(pool));
            let name = text(claim, at);
            if !served || name.is_empty() {
                continue;
            }
            let (addresses, kind) = address_of(what);
            let address = near(memory, claim, addresses, name);
            let made_for = address.and_then(|address| owner(address, kind)).map(|(_, uid)| uid);
            if made_for != Some(uid(claim)) {
                let own = uid(claim);
                wrong.push(format!("{what:?} {path} ({own}) is answered with {name}, which is there for {made_for:?}"));
            }
        }
    }
    wrong
}
