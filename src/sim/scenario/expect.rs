//! What goals are made of: each says what is not as it should be.

use std::collections::BTreeSet;
use std::sync::Arc;

use capm3_api::names::{annotation, label};
use serde_json::Value;

use crate::world::kinds::*;
use crate::world::{SITE, World};

pub(super) type Found = Result<(), String>;

pub(super) fn all(world: &World, kind: Kind) -> Vec<Arc<Value>> {
    world.server.all(&kind.filed())
}

pub(super) fn there_are(world: &World, kind: Kind, wanted: usize) -> Found {
    let names: Vec<String> = all(world, kind).iter().map(|object| name(object).to_owned()).collect();
    holds(names.len() == wanted, || format!("{wanted} {} are wanted, there are {names:?}", kind.plural))
}

pub(super) fn holds(true_: bool, what: impl FnOnce() -> String) -> Found {
    if true_ { Ok(()) } else { Err(what()) }
}

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The status of a condition.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == kind).and_then(|found| found["status"].as_str()).unwrap_or_default()
}

pub(super) fn hosts_of<'a>(hosts: &'a [Arc<Value>], machine: &str) -> Vec<&'a Value> {
    let its = |host: &&Value| {
        let consumer = &host["spec"]["consumerRef"];
        consumer["kind"] == METAL3_MACHINE.kind && consumer["name"] == machine
    };
    hosts.iter().map(|host| &**host).filter(its).collect()
}

/// It has exactly one host, which is provisioned, its Node carries its name, and everybody has been told.
pub(super) fn is_running(world: &World, machine: &str) -> Found {
    let hand = world.hand();
    let (capi, metal3) = (hand.get(MACHINE, machine), hand.get(METAL3_MACHINE, machine));
    holds(capi["status"]["phase"] == "Running", || format!("Machine {machine} does not run: {}", capi["status"]))?;
    holds(condition(&metal3, "Ready") == "True", || format!("{machine} is not ready: {}", metal3["status"]))?;
    let hosts = all(world, HOST);
    let [host] = hosts_of(&hosts, machine)[..] else {
        return Err(format!("{machine} has {} hosts", hosts_of(&hosts, machine).len()));
    };
    let state = &host["status"]["provisioning"]["state"];
    holds(state == "provisioned", || format!("the host of {machine} is {state}"))?;
    let id = format!("metal3://{SITE}/{}/{machine}", name(host));
    holds(metal3["spec"]["providerID"] == id.as_str(), || format!("{machine} is {}", metal3["spec"]["providerID"]))?;
    let nodes = world.workload.all(&NODE.filed());
    let named = nodes.iter().filter(|node| node["spec"]["providerID"] == id.as_str()).count();
    holds(named == 1, || format!("{named} Nodes have the providerID {id}"))?;
    let annotated = metal3["metadata"]["annotations"][annotation::HOST] == format!("{SITE}/{}", name(host)).as_str();
    holds(annotated, || format!("{machine} does not name its host"))
}

/// All Machines run, there are so many, and each has its own data and an address of its own of so many pools.
pub(super) fn are_running(world: &World, machines: usize, pools: usize) -> Found {
    there_are(world, MACHINE, machines)?;
    there_are(world, METAL3_MACHINE, machines)?;
    all(world, MACHINE).iter().try_for_each(|machine| is_running(world, name(machine)))?;
    let hosts = all(world, HOST);
    let busy = hosts.iter().filter(|host| host["spec"]["consumerRef"].is_object()).count();
    holds(busy == machines, || format!("{busy} hosts have a consumer, not {machines}"))?;
    for host in hosts.iter().filter(|host| host["spec"]["consumerRef"].is_null()) {
        is_free(host)?;
    }
    let with_data = if pools > 0 { machines } else { 0 };
    have_data(world, with_data, pools)
}

/// So many data, ready, each with an address of its own of so many pools.
pub(super) fn have_data(world: &World, data: usize, pools: usize) -> Found {
    for kind in [DATA, DATA_CLAIM] {
        there_are(world, kind, data)?;
    }
    for one in all(world, DATA) {
        holds(one["status"]["ready"] == true, || format!("{} is not ready", name(&one)))?;
    }
    for kind in [IP_CLAIM, IP_ADDRESS] {
        there_are(world, kind, data * pools)?;
    }
    are_distinct(world)?;
    for template in all(world, DATA_TEMPLATE) {
        let of_it = |one: &&Arc<Value>| one["spec"]["template"]["name"] == template["metadata"]["name"];
        let listed = template["status"]["indexes"].as_array().map_or(0, Vec::len);
        let there = all(world, DATA).iter().filter(of_it).count();
        holds(listed == there, || format!("{} lists {listed} data of {there}", name(&template)))?;
    }
    all(world, POOL).iter().try_for_each(|pool| lists_its_addresses(world, pool))
}

/// The pool's list of addresses is what the addresses say.
pub(super) fn lists_its_addresses(world: &World, pool: &Value) -> Found {
    let listed = pool["status"]["indexes"].as_object();
    let listed: BTreeSet<&str> = listed.into_iter().flatten().filter_map(|(_, address)| address.as_str()).collect();
    let (own, capi) = (all(world, IP_ADDRESS), all(world, CAPI_IP_ADDRESS));
    let own = own.iter().filter(|address| address["spec"]["pool"]["name"] == pool["metadata"]["name"]);
    let capi = capi.iter().filter(|address| {
        address["spec"]["poolRef"]["name"] == pool["metadata"]["name"]
            && address["spec"]["poolRef"]["apiGroup"] == POOL.group()
    });
    let there: BTreeSet<&str> = own.chain(capi).filter_map(|address| address["spec"]["address"].as_str()).collect();
    let reserved = pool["spec"]["preAllocations"].as_object();
    let reserved: BTreeSet<&str> = reserved.into_iter().flatten().filter_map(|(_, address)| address.as_str()).collect();
    let unknown: Vec<_> =
        there.difference(&listed).chain(listed.difference(&there)).filter(|one| !reserved.contains(**one)).collect();
    holds(unknown.is_empty(), || format!("{} and its list differ in {unknown:?}", name(pool)))
}

/// No two addresses are the same.
pub(super) fn are_distinct(world: &World) -> Found {
    let mut seen = BTreeSet::new();
    let addresses = [all(world, IP_ADDRESS), all(world, CAPI_IP_ADDRESS)].concat();
    addresses.iter().try_for_each(|one| {
        let address = one["spec"]["address"].as_str().unwrap_or_default().to_owned();
        holds(seen.insert(address.clone()), || format!("{address} is there twice"))
    })
}

/// Nothing of ours is on the host.
pub(super) fn is_free(host: &Value) -> Found {
    let (spec, metadata) = (&host["spec"], &host["metadata"]);
    let left = ["consumerRef", "image", "userData", "metaData", "networkData", "customDeploy"];
    let left: Vec<&str> = left.into_iter().filter(|field| !spec[*field].is_null()).collect();
    holds(left.is_empty(), || format!("{} still has {left:?}", name(host)))?;
    let labelled = !metadata["labels"][label::CLUSTER_NAME].is_null();
    holds(!labelled, || format!("{} still has the cluster's label", name(host)))?;
    let blocked = !metadata["annotations"][annotation::BLOCK_MOVE].is_null();
    holds(!blocked, || format!("{} still blocks a move", name(host)))?;
    let state = &host["status"]["provisioning"]["state"];
    holds(state == "available", || format!("{} is {state}", name(host)))
}

/// No machine, and nothing that machines leave: data, claims, addresses, Secrets, Nodes.
pub(super) fn nothing_but_hosts_is_left(world: &World) -> Found {
    let kinds =
        [MACHINE, METAL3_MACHINE, BOOTSTRAP, DATA, DATA_CLAIM, IP_CLAIM, IP_ADDRESS, CAPI_IP_CLAIM, CAPI_IP_ADDRESS];
    kinds.into_iter().try_for_each(|kind| there_are(world, kind, 0))?;
    // One that registered when its Machine was leaving already is nobody's to delete.
    let mut nodes = world.workload.all(&NODE.filed());
    nodes.retain(|node| !node["metadata"]["annotations"]["cluster.x-k8s.io/machine"].is_null());
    holds(nodes.is_empty(), || {
        format!("Nodes are left: {:?}", nodes.iter().map(|node| name(node)).collect::<Vec<_>>())
    })?;
    for secret in all(world, SECRET) {
        let rendered = name(&secret).ends_with("-metadata") || name(&secret).ends_with("-networkdata");
        holds(!rendered, || format!("Secret {} is left", name(&secret)))?;
    }
    have_data(world, 0, 0)
}

/// The same, and no host and no credentials carry a mark.
pub(super) fn nothing_is_left(world: &World) -> Found {
    nothing_but_hosts_is_left(world)?;
    for secret in all(world, SECRET) {
        let marked = name(&secret).ends_with("-bmc") && !secret["metadata"]["labels"][label::CLUSTER_NAME].is_null();
        holds(!marked, || format!("Secret {} still has the cluster's label", name(&secret)))?;
    }
    all(world, HOST).iter().try_for_each(|host| is_free(host))
}

/// The address of a claim of this provider, if it has one that is really its own.
pub(super) fn address_of(world: &World, claim: &str) -> Result<String, String> {
    let found = world.hand().get(IP_CLAIM, claim);
    let Some(address) = found["status"]["address"]["name"].as_str() else {
        return Err(format!("{claim} has no address: {found}"));
    };
    let address = world.hand().get(IP_ADDRESS, address);
    holds(address["spec"]["claim"]["name"] == claim, || format!("the address of {claim} is {address}"))?;
    holds(found["status"]["errorMessage"].is_null(), || format!("{claim} has an address and an error: {found}"))?;
    Ok(address["spec"]["address"].as_str().unwrap_or_default().to_owned())
}

/// The same of Cluster API's claim.
pub(super) fn capi_address_of(world: &World, claim: &str) -> Result<String, String> {
    let found = world.hand().get(CAPI_IP_CLAIM, claim);
    let Some(address) = found["status"]["addressRef"]["name"].as_str() else {
        return Err(format!("{claim} has no address: {found}"));
    };
    let address = world.hand().get(CAPI_IP_ADDRESS, address);
    holds(address["spec"]["claimRef"]["name"] == claim, || format!("the address of {claim} is {address}"))?;
    holds(condition(&found, "Ready") == "True", || format!("{claim} has an address and is not ready: {found}"))?;
    Ok(address["spec"]["address"].as_str().unwrap_or_default().to_owned())
}

/// So many claims of both kinds have an address of their own, and the pools' lists are true.
pub(super) fn are_served(world: &World, own: usize, capi: usize) -> Found {
    let claims = all(world, IP_CLAIM);
    let with_error = claims.iter().filter(|claim| claim["status"]["errorMessage"].is_string()).count();
    for claim in claims.iter().filter(|claim| claim["status"]["errorMessage"].is_null()) {
        address_of(world, name(claim))?;
    }
    holds(claims.len() - with_error == own, || format!("{with_error} of {} claims have errors", claims.len()))?;
    there_are(world, IP_ADDRESS, own)?;
    let claims = all(world, CAPI_IP_CLAIM);
    let served = |claim: &&Arc<Value>| claim["status"]["addressRef"].is_object();
    for claim in claims.iter().filter(served) {
        capi_address_of(world, name(claim))?;
    }
    let there = claims.iter().filter(served).count();
    holds(there == capi, || format!("{there} claims of Cluster API have an address"))?;
    there_are(world, CAPI_IP_ADDRESS, capi)?;
    all(world, POOL).iter().try_for_each(|pool| lists_its_addresses(world, pool))
}
