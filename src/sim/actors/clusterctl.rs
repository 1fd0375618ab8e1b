//! `clusterctl move` (F23): a cluster goes from one management cluster to another (K-133 to K-142).
//!
//! The Cluster is paused; once no consumed host blocks the move any more, everything is created on the target in the order of owners,
//! without status and with the new uids, and deleted at the source in the reverse order: the annotations are replaced, the object is
//! deleted, its finalizers are taken off (K-138). What has an owner that is not moved stays behind (K-130).
//! The host operator of the source is stopped before that, as K-140 demands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use capm3_api::names::{annotation, label};
use serde_json::{Value, json};

use super::{name, owners, uid};
use crate::world::kinds::*;
use crate::world::{Deed, Hand, Stuck, World};

/// What is discovered: definitions labelled for it, Secrets, and hosts, whose definition the e2e suite labels (K-128, K-137).
const MOVED: [Kind; 18] = [
    CLUSTER,
    METAL3_CLUSTER,
    CONTROL_PLANE,
    MACHINE_DEPLOYMENT,
    MACHINE_SET,
    METAL3_MACHINE_TEMPLATE,
    MACHINE,
    BOOTSTRAP,
    METAL3_MACHINE,
    DATA_TEMPLATE,
    DATA_CLAIM,
    DATA,
    POOL,
    IP_CLAIM,
    IP_ADDRESS,
    CAPI_IP_CLAIM,
    CAPI_IP_ADDRESS,
    HOST,
];
/// Moved although nobody owns them (K-129, K-131).
const UNOWNED: [Kind; 3] = [CLUSTER, DATA_TEMPLATE, HOST];

const BOUND: Duration = Duration::from_secs(3600);

pub async fn move_to(from: &World, to: &World, cluster: &str) -> Result<(), Stuck> {
    let (source, target) = (from.hand(), to.hand());
    let paused = |paused: bool| json!({"spec": {"paused": paused}});
    source.patch(CLUSTER, cluster, paused(true)).await?;
    from.until(BOUND, |world| {
        let blocks = |host: &Arc<Value>| !host["metadata"]["annotations"][annotation::BLOCK_MOVE].is_null();
        match world.server.all(&HOST.filed()).iter().find(|host| blocks(host)) {
            Some(host) => Err(format!("{} blocks the move", name(host))),
            None => Ok(()),
        }
    })
    .await?;
    from.stop_operator();
    let moved = in_order(from, cluster);
    let mut uids: BTreeMap<String, Value> = BTreeMap::new();
    for (kind, object) in &moved {
        let created = create(&target, *kind, object, &uids).await?;
        uids.insert(uid(object).to_owned(), created["metadata"]["uid"].clone());
    }
    for (kind, object) in moved.iter().rev() {
        remove(&source, *kind, object).await?;
    }
    target.patch(CLUSTER, cluster, paused(false)).await
}

/// Owners before what they own.
fn in_order(world: &World, cluster: &str) -> Vec<(Kind, Arc<Value>)> {
    let mut waiting: Vec<(Kind, Arc<Value>)> = MOVED
        .iter()
        .chain([&SECRET])
        .flat_map(|kind| world.server.all(&kind.filed()).into_iter().map(|object| (*kind, object)))
        .collect();
    let mut ordered = Vec::new();
    let mut admitted = BTreeSet::new();
    loop {
        let before = ordered.len();
        waiting.retain(|(kind, object)| {
            let mut all = owners(object).peekable();
            let alone =
                UNOWNED.contains(kind) || *kind == SECRET && is_kubeconfig(object, cluster) || is_labelled(object);
            let ready = if all.peek().is_none() {
                alone
            } else {
                all.all(|owner| admitted.contains(owner["uid"].as_str().unwrap_or_default()))
            };
            if ready {
                admitted.insert(uid(object).to_owned());
                ordered.push((*kind, object.clone()));
            }
            !ready
        });
        if ordered.len() == before {
            return ordered;
        }
    }
}

fn is_kubeconfig(secret: &Value, cluster: &str) -> bool {
    name(secret) == format!("{cluster}-kubeconfig")
}

fn is_labelled(object: &Value) -> bool {
    !object["metadata"]["labels"][label::MOVE].is_null()
}

async fn create(hand: &Hand, kind: Kind, object: &Value, uids: &BTreeMap<String, Value>) -> Result<Value, Stuck> {
    let mut copy = object.clone();
    if let Some(body) = copy.as_object_mut() {
        body.remove("status");
    }
    if let Some(metadata) = copy["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"] {
            metadata.remove(field);
        }
    }
    for owner in copy["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
        if let Some(new) = owner["uid"].as_str().and_then(|old| uids.get(old)) {
            owner["uid"] = new.clone();
        }
    }
    if kind == CLUSTER {
        copy["spec"]["paused"] = true.into();
    }
    hand.create(kind, copy).await
}

async fn remove(hand: &Hand, kind: Kind, object: &Value) -> Result<(), Stuck> {
    let marks = json!([{"op": "add", "path": "/metadata/annotations", "value": {annotation::DELETE_FOR_MOVE: ""}}]);
    let end = json!({"metadata": {"finalizers": null}});
    for deed in [Deed::JsonPatch(marks), Deed::Delete(json!({})), Deed::Patch(end)] {
        match hand.insist(kind, name(object), deed).await {
            Err(Stuck::Refused { source, .. }) if source.code == 404 => return Ok(()),
            done => done?,
        };
    }
    Ok(())
}
