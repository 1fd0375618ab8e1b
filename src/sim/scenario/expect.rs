//! What goals are made of: each says what is not as it should be.

use std::sync::Arc;

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

pub(super) fn host_of<'a>(hosts: &'a [Arc<Value>], machine: &str) -> Vec<&'a Value> {
    hosts.iter().map(|host| &**host).filter(|host| host["spec"]["consumerRef"]["name"] == machine).collect()
}

/// It has exactly one host, which is provisioned, and everybody has been told.
pub(super) fn is_provisioned(world: &World, machine: &str) -> Found {
    let hand = world.hand();
    let metal3 = hand.get(METAL3_MACHINE, machine);
    holds(condition(&metal3, "Ready") == "True", || format!("{machine} is not ready: {}", metal3["status"]))?;
    holds(metal3["status"]["initialization"]["provisioned"] == true, || format!("{machine} is not provisioned"))?;
    let hosts = all(world, HOST);
    let [host] = host_of(&hosts, machine)[..] else {
        return Err(format!("{machine} has {} hosts", host_of(&hosts, machine).len()));
    };
    holds(host["status"]["provisioning"]["state"] == "provisioned", || {
        format!("the host of {machine} is not provisioned")
    })?;
    let id = format!("metal3://{SITE}/{}/{machine}", name(host));
    holds(metal3["spec"]["providerID"] == id.as_str(), || {
        format!("{machine} has providerID {}", metal3["spec"]["providerID"])
    })
}

/// The address of a claim of this provider, if it has one that is really its own.
pub(super) fn address_of(world: &World, claim: &str) -> Result<String, String> {
    let found = world.hand().get(IP_CLAIM, claim);
    let address =
        found["status"]["address"]["name"].as_str().ok_or_else(|| format!("{claim} has no address: {found}"))?;
    let address = world.hand().get(IP_ADDRESS, address);
    holds(address["spec"]["claim"]["name"] == claim, || format!("the address of {claim} is {address}"))?;
    Ok(address["spec"]["address"].as_str().unwrap_or_default().to_owned())
}
