//! Whose host it is, and what it is made to run: I1, I7 to I10.

use capm3_api::names::{CAPI_GROUP, annotation, finalizer, host_state, label};
use serde_json::Value;

use super::memory::{Memory, holder};
use super::seen::{Seen, What, path};
use super::view::{
    annotation, at, has_finalizer, has_image, is_annotated, is_leaving, label, owner, provider_id, state, text,
};

/// What decides about a disk.
const DISK: [&str; 5] = ["image", "customDeploy", "userData", "metaData", "networkData"];

/// A host goes from one machine to another only by way of a release, and is not taken from a machine that lives.
pub(super) fn i1_one_consumer(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (before, after) = (at(seen.before(), &["spec", "consumerRef"]), at(seen.after(), &["spec", "consumerRef"]));
    if before == after || before.is_null() {
        return None;
    }
    let (from, to) = (holder(seen.before()), holder(seen.after()));
    if from == to && from.is_some() {
        return None; // the same machine in another version
    }
    let Some(from) = from else {
        // Kept by a cluster for its next machine.
        return (!is_cluster(before)).then(|| format!("{} was taken from {before}", seen.path));
    };
    if let Some(to) = to {
        return Some(format!("{} went from {from} to {to} without a release", seen.path));
    }
    let lives = memory.get(What::Machine, &from).is_some_and(|machine| !is_leaving(machine));
    lives.then(|| format!("{} was taken from {from}, which lives", seen.path))
}

/// What a host runs is decided by the machine that holds it, and by no other: one that goes for it gives, one that leaves takes.
pub(super) fn i7_exact_consumer(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (&seen.before()["spec"], &seen.after()["spec"]);
    let changed = |field: &&str| old[*field] != new[*field];
    let disk: Vec<&str> = DISK.into_iter().filter(changed).collect();
    if disk.is_empty() && !changed(&"online") {
        return None;
    }
    let host = &seen.path;
    let Some(path) = holder(seen.after()) else {
        return Some(format!("{host} has no machine and was given {}", new["image"]));
    };
    if path.split('/').next() != Some(seen.namespace()) {
        return Some(format!("{host} is decided about for {path} of another namespace"));
    }
    let Some(machine) = memory.get(What::Machine, &path) else {
        // Somebody took the finalizer off while the write was on its way: nothing on the host tells of it.
        return (!memory.is_abandoned(What::Machine, &path))
            .then(|| format!("{host} is decided about for {path}, which is gone"));
    };
    let goes_for_it = annotation(machine, annotation::HOST) == host;
    if goes_for_it || is_leaving(machine) {
        let taken = disk.iter().any(|field| new[*field].is_null());
        if taken && !is_leaving(machine) {
            return Some(format!("{host} was cleared of {disk:?} while {path} lives"));
        }
        let image = &new["image"];
        let foreign = disk.contains(&"image") && !image.is_null() && !memory.has_asked_for(machine, image);
        return foreign.then(|| format!("{host} was given an image that {path} never asked for: {image}"));
    }
    (!memory.is_abandoned(What::Machine, &path))
        .then(|| format!("{host} is decided about for {path}, which does not go for it"))
}

/// A machine has one host at most.
pub(super) fn i8_one_host(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let machine = holder(seen.after())?;
    if holder(seen.before()).as_ref() == Some(&machine) {
        return None;
    }
    let other = memory.held_by(&machine).find(|host| **host != seen.path)?;
    Some(format!("{machine} has {other} and took {} as well", seen.path))
}

/// A host is claimed only by a machine that lives and said so before, and only while it is free, well, available and selected.
/// A machine that had it before may have back what somebody took from it.
pub(super) fn i9_claimable(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let path = holder(seen.after())?;
    let host = seen.before();
    if holder(host).as_ref() == Some(&path) {
        return None;
    }
    let Some(machine) = memory.get(What::Machine, &path) else {
        return Some(format!("{} was claimed for {path}, which does not exist", seen.path));
    };
    let what = if is_leaving(machine) {
        "for a machine that leaves"
    } else if annotation(machine, annotation::HOST) != seen.path {
        "without having been named by the machine"
    } else if was_its_own(machine, host) {
        return None;
    } else {
        why_not(memory, machine, host)?
    };
    Some(format!("{} was claimed for {path} {what}", seen.path))
}

/// An earlier pass handed something to this host, and nobody else has it now.
fn was_its_own(machine: &Value, host: &Value) -> bool {
    let had = !provider_id(machine).is_empty()
        || !machine["status"]["userData"].is_null()
        || super::view::condition(machine, "AssociateBareMetalHost") == "True";
    had && host["spec"]["consumerRef"].is_null()
}

fn why_not(memory: &Memory, machine: &Value, host: &Value) -> Option<&'static str> {
    let consumer = &host["spec"]["consumerRef"];
    let kept = label(host, label::NODE_REUSE);
    let cluster = cluster_of(memory, machine);
    let unwell = [annotation::UNHEALTHY, annotation::UNHEALTHY_OLD];
    if is_leaving(host) {
        Some("although it is being deleted")
    } else if !(consumer.is_null() || kept_by(consumer, cluster)) {
        Some("although somebody has it")
    } else if !kept.is_empty() && !reuse_values(memory, machine).iter().any(|value| value == kept) {
        Some("although it is kept for another owner")
    } else if is_annotated(host, annotation::HOST_PAUSED) {
        Some("although it is paused")
    } else if is_annotated(host, annotation::HOST_DETACHED) {
        Some("although it is detached")
    } else if unwell.iter().any(|key| is_annotated(host, key)) {
        Some("although it is unhealthy")
    } else if !text(host, &["status", "errorMessage"]).is_empty() {
        Some("although it has an error")
    } else if !matches!(state(host), host_state::AVAILABLE | host_state::READY) {
        Some("although it is not available")
    } else if has_image(host) {
        Some("although it has an image already")
    } else if !is_selected(machine, host) {
        Some("although it is not selected")
    } else {
        None
    }
}

fn kept_by(consumer: &Value, cluster: &str) -> bool {
    is_cluster(consumer) && text(consumer, &["name"]) == cluster
}

fn is_cluster(consumer: &Value) -> bool {
    consumer["kind"] == "Cluster" && text(consumer, &["apiVersion"]).split('/').next() == Some(CAPI_GROUP)
}

fn cluster_of<'a>(memory: &'a Memory, machine: &'a Value) -> &'a str {
    let namespace = text(machine, &["metadata", "namespace"]);
    let owner = owner(machine, "Machine").and_then(|(name, _)| memory.get(What::CapiMachine, &path(namespace, name)));
    owner.map_or_else(|| label(machine, label::CLUSTER_NAME), |owner| text(owner, &["spec", "clusterName"]))
}

/// The values of the node-reuse label that mean this machine: its control plane, or the MachineDeployment of its MachineSet.
fn reuse_values(memory: &Memory, machine: &Value) -> Vec<String> {
    let near = |what, name: &str| memory.get(what, &path(text(machine, &["metadata", "namespace"]), name));
    let Some(capi) = owner(machine, "Machine").and_then(|(name, _)| near(What::CapiMachine, name)) else {
        return Vec::new();
    };
    let owners = capi["metadata"]["ownerReferences"].as_array();
    let mut values: Vec<_> =
        owners.into_iter().flatten().map(|owner| format!("cp-{}", text(owner, &["name"]))).collect();
    let set = owner(capi, "MachineSet").and_then(|(name, _)| near(What::MachineSet, name));
    values.extend(set.and_then(|set| owner(set, "MachineDeployment")).map(|(name, _)| format!("md-{name}")));
    values
}

fn is_selected(machine: &Value, host: &Value) -> bool {
    let selector = &machine["spec"]["hostSelector"];
    let labels = &host["metadata"]["labels"];
    let equal =
        selector["matchLabels"].as_object().is_none_or(|all| all.iter().all(|(key, value)| labels[key] == *value));
    let expressions = selector["matchExpressions"].as_array();
    equal
        && expressions.into_iter().flatten().all(|one| {
            let has = &labels[text(one, &["key"])];
            let among = || one["values"].as_array().is_some_and(|values| values.contains(has));
            match text(one, &["operator"]).to_ascii_lowercase().as_str() {
                "exists" => !has.is_null(),
                "!" | "doesnotexist" => has.is_null(),
                "notin" | "!=" => !among(),
                _ => among(),
            }
        })
}

/// Finalizer, claim and data are stored before a host is given an image; a host that has one, or whose machine ran, gets no other.
pub(super) fn i10_durable_first(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (seen.before(), seen.after());
    let given: Vec<&str> = DISK
        .into_iter()
        .filter(|field| !new["spec"][*field].is_null() && old["spec"][*field] != new["spec"][*field])
        .collect();
    if given.is_empty() {
        return None;
    }
    let path = holder(new)?;
    let machine = memory.get(What::Machine, &path)?; // without one I7 speaks
    let host = &seen.path;
    if !has_finalizer(machine, finalizer::MACHINE) {
        return Some(format!("{host} was given {given:?} before {path} had its finalizer"));
    }
    let deploys = given.contains(&"image") || given.contains(&"customDeploy");
    let ran = machine["status"]["initialization"]["provisioned"] == true;
    if deploys && (has_image(old) || ran) && !is_leaving(machine) {
        return Some(format!("{host} was given another image while {path} lives"));
    }
    if machine["spec"]["dataTemplate"].is_null() {
        return None;
    }
    if holder(old).as_ref() != Some(&path) {
        return Some(format!("{host} was given {given:?} before it was claimed for {path}"));
    }
    let claim = memory.get(What::DataClaim, &path).map_or(&Value::Null, |claim| claim);
    let answered = [machine, claim].map(|object| text(object, &["status", "renderedData", "name"]));
    let name = answered.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let data = memory.get(What::Data, &seen.sibling(name)).map_or(&Value::Null, |data| data);
    if deploys && data["status"]["ready"] != true {
        return Some(format!("{host} was given {given:?} before the data of {path} ({name:?}) was ready"));
    }
    for field in ["metaData", "networkData"].into_iter().filter(|field| given.contains(field)) {
        let secret = seen.sibling(text(new, &["spec", field, "name"]));
        if !memory.was_secret(&secret) {
            return Some(format!("{host} was given {field} that never was: {secret}"));
        }
    }
    None
}
