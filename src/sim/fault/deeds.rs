//! What users do at a bad moment (F21), by the name under which a plan asks for it. Nothing of it changes what is wanted in the end.

use std::time::Duration;

use capm3_api::names::annotation;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::kinds::{
    CAPI_IP_CLAIM, CLUSTER, DATA, DATA_CLAIM, DATA_TEMPLATE, HOST, IP_ADDRESS, IP_CLAIM, Kind, METAL3_CLUSTER,
    METAL3_MACHINE, POOL,
};
use crate::world::{Deed, World};

pub const PAUSE: &str = "pause the cluster";

type Doing = for<'a> fn(&'a World) -> BoxFuture<'a, ()>;

/// Everything that plans may name.
const DEEDS: [(&str, Doing); 4] = [
    ("touch everything", |world| Box::pin(touch_everything(world))),
    ("label hosts", |world| Box::pin(label_hosts(world))),
    (PAUSE, |world| Box::pin(pause_the_cluster(world))),
    ("forget hosts", |world| Box::pin(forget_hosts(world))),
];

/// How long a cluster is paused.
const PAUSED: Duration = Duration::from_secs(20);

/// The names of all deeds.
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    DEEDS.iter().map(|(name, _)| *name)
}

/// A name that is none does nothing.
pub(super) async fn does(world: &World, name: &str) {
    if let Some((_, deed)) = DEEDS.iter().find(|(known, _)| *known == name) {
        deed(world).await;
    }
}

async fn patch_all(world: &World, kind: Kind, patch: &Value) {
    let hand = world.hand();
    for object in world.server.all(&kind.filed()) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        // Somebody who is refused shrugs.
        let _ = hand.send(kind, name, Deed::Patch(patch.clone())).await;
    }
}

/// An annotation that means nothing on every object.
async fn touch_everything(world: &World) {
    let touched = json!({"metadata": {"annotations": {"example.com/touched": "now"}}});
    for kind in [
        CLUSTER,
        METAL3_CLUSTER,
        METAL3_MACHINE,
        DATA_TEMPLATE,
        DATA_CLAIM,
        DATA,
        HOST,
        POOL,
        IP_CLAIM,
        IP_ADDRESS,
        CAPI_IP_CLAIM,
    ] {
        patch_all(world, kind, &touched).await;
    }
}

async fn label_hosts(world: &World) {
    patch_all(world, HOST, &json!({"metadata": {"labels": {"example.com/rack": "r9"}}})).await;
}

async fn pause_the_cluster(world: &World) {
    patch_all(world, CLUSTER, &json!({"spec": {"paused": true}})).await;
    sleep(PAUSED).await;
    patch_all(world, CLUSTER, &json!({"spec": {"paused": false}})).await;
}

/// Machines lose the annotation that names their host. One that nobody has yet is a wish, and stays.
async fn forget_hosts(world: &World) {
    let hand = world.hand();
    for host in world.server.all(&HOST.filed()) {
        let consumer = &host["spec"]["consumerRef"];
        if consumer["kind"] == "Metal3Machine" {
            let forgotten = json!({"metadata": {"annotations": {annotation::HOST: null}}});
            let machine = consumer["name"].as_str().unwrap_or_default();
            let _ = hand.send(METAL3_MACHINE, machine, Deed::Patch(forgotten)).await;
        }
    }
}
