//! What users write, and how they wait for what comes of it.

use std::time::Duration;

use capm3_api::names::label;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::expect::{Found, holds};
use crate::world::kinds::*;
use crate::world::{Hand, Stuck, World};

/// Virtual time in which what is waited for comes, faults or not.
pub(super) const BOUND: Duration = Duration::from_secs(2 * 3600);

pub(super) const CLUSTER_NAME: &str = "prod";

pub(super) fn infra_ref(kind: Kind, name: &str) -> Value {
    json!({"apiGroup": kind.group(), "kind": kind.kind, "name": name})
}

pub(super) fn owner(kind: Kind, object: &Value) -> Value {
    let meta = &object["metadata"];
    json!({"apiVersion": kind.api_version, "kind": kind.kind, "name": meta["name"], "uid": meta["uid"]})
}

pub(super) fn of_cluster() -> Value {
    json!({label::CLUSTER_NAME: CLUSTER_NAME})
}

/// `<net>.10` to `<net>.<last>`.
pub(super) fn pool(name: &str, net: &str, last: u8) -> Value {
    let range = json!([{"start": format!("{net}.10"), "end": format!("{net}.{last}")}]);
    json!({
        "metadata": {"name": name},
        "spec": {"namePrefix": name, "prefix": 24, "gateway": format!("{net}.1"), "pools": range},
    })
}

pub(super) fn claim(name: &str, pool: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"pool": {"name": pool}}})
}

/// Cluster API's claim.
pub(super) fn capi_claim(name: &str, pool: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"poolRef": infra_ref(POOL, pool)}})
}

pub(super) fn data_template(name: &str, pools: &[&str]) -> Value {
    let from_pool = |(i, pool): (usize, &&str)| json!({"id": format!("net{i}"), "link": "eth0", "fromPoolRef": infra_ref(POOL, pool)});
    let networks: Vec<Value> = pools.iter().enumerate().map(from_pool).collect();
    let link = json!({"type": "phy", "id": "eth0", "mtu": 1500, "macAddress": {"string": "52:54:00:00:00:01"}});
    json!({
        "metadata": {"name": name},
        "spec": {
            "clusterName": CLUSTER_NAME,
            "metaData": {"objectNames": [{"key": "name", "object": "machine"}]},
            "networkData": {"links": {"ethernets": [link]}, "networks": {"ipv4": networks}},
        },
    })
}

/// The spec of a Metal3Machine.
pub(super) fn metal3(data_template: Option<&str>) -> Value {
    let image = json!({"url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw"});
    match data_template {
        Some(template) => json!({"image": image, "dataTemplate": {"name": template}}),
        None => json!({"image": image}),
    }
}

pub(super) fn machine_template(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"template": {"spec": spec}}})
}

/// A MachineDeployment of Machines from this template.
pub(super) fn deployment(name: &str, template: &str, replicas: u8) -> Value {
    let config = json!({"configRef": infra_ref(BOOTSTRAP, "workers")});
    let spec = json!({
        "clusterName": CLUSTER_NAME, "bootstrap": config,
        "infrastructureRef": infra_ref(METAL3_MACHINE_TEMPLATE, template),
    });
    json!({
        "metadata": {"name": name},
        "spec": {"clusterName": CLUSTER_NAME, "replicas": replicas, "template": {"metadata": {"labels": {}}, "spec": spec}},
    })
}

/// A host and its credentials.
pub(super) async fn add_host(hand: &Hand, name: &str) -> Result<(), Stuck> {
    let secret = json!({
        "metadata": {"name": format!("{name}-bmc")}, "stringData": {"username": "u", "password": "p"},
    });
    hand.create(SECRET, secret).await?;
    let bmc = json!({"address": "ipmi://192.0.2.1", "credentialsName": format!("{name}-bmc")});
    let labels = json!({"rack": name});
    let host = json!({"metadata": {"name": name, "labels": labels}, "spec": {"online": true, "bmc": bmc}});
    hand.create(HOST, host).await.map(drop)
}

pub(super) async fn available(hand: &Hand, name: &str) -> Result<Value, Stuck> {
    in_state(hand, name, "available").await
}

pub(super) async fn in_state(hand: &Hand, name: &str, state: &str) -> Result<Value, Stuck> {
    hand.until(BOUND, (HOST, name), state, |host| host["status"]["provisioning"]["state"] == state).await
}

pub(super) async fn gone(hand: &Hand, kind: Kind, name: &str) -> Result<(), Stuck> {
    hand.until(BOUND, (kind, name), "its end", Value::is_null).await.map(drop)
}

pub(super) async fn until(world: &World, wanted: impl Fn(&World) -> Found) -> Result<(), Stuck> {
    world.until(BOUND, wanted).await
}

/// Waits until an object has this in some place.
pub(super) async fn shows(hand: &Hand, kind: Kind, name: &str, path: &str, value: Value) -> Result<(), Stuck> {
    let what = format!("{path} = {value}");
    let wanted = |object: &Value| object.pointer(path).unwrap_or(&Value::Null) == &value;
    hand.until(BOUND, (kind, name), &what, wanted).await.map(drop)
}

/// Some time up to this, by the world's dice.
pub(super) async fn a_while(world: &World, most: Duration) {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
    sleep(Duration::from_millis(world.dice().roll() % most)).await;
}

/// A Cluster with its Metal3Cluster, as `clusterctl generate` writes them; waits until Cluster API has it up.
pub(super) async fn cluster(hand: &Hand) -> Result<(), Stuck> {
    let spec = json!({"infrastructureRef": infra_ref(METAL3_CLUSTER, CLUSTER_NAME)});
    hand.create(CLUSTER, json!({"metadata": {"name": CLUSTER_NAME}, "spec": spec})).await?;
    let spec = json!({"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}});
    hand.create(METAL3_CLUSTER, json!({"metadata": {"name": CLUSTER_NAME}, "spec": spec})).await?;
    let up = "/status/initialization/controlPlaneInitialized";
    shows(hand, CLUSTER, CLUSTER_NAME, up, true.into()).await
}

/// A Machine with what it refers to, as a user writes one without a set.
pub(super) async fn machine(hand: &Hand, name: &str, spec: Value) -> Result<(), Stuck> {
    let metadata = json!({"name": name, "labels": of_cluster()});
    hand.create(BOOTSTRAP, json!({"metadata": metadata, "spec": {}})).await?;
    hand.create(METAL3_MACHINE, json!({"metadata": metadata, "spec": spec})).await?;
    let spec = json!({
        "clusterName": CLUSTER_NAME,
        "bootstrap": {"configRef": infra_ref(BOOTSTRAP, name)},
        "infrastructureRef": infra_ref(METAL3_MACHINE, name),
    });
    hand.create(MACHINE, json!({"metadata": metadata, "spec": spec})).await.map(drop)
}

/// Waits until Cluster API knows whose the Metal3Machine is: before, its end has nothing to do with its Machine's.
pub(super) async fn adopted(hand: &Hand, name: &str) -> Result<(), Stuck> {
    let owned = |machine: &Value| machine["metadata"]["ownerReferences"].is_array();
    hand.until(BOUND, (METAL3_MACHINE, name), "its owner", owned).await.map(drop)
}

pub(super) async fn runs(hand: &Hand, machine: &str) -> Result<(), Stuck> {
    shows(hand, MACHINE, machine, "/status/phase", "Running".into()).await
}

pub(super) async fn pause(hand: &Hand, paused: bool) -> Result<(), Stuck> {
    hand.patch(CLUSTER, CLUSTER_NAME, json!({"spec": {"paused": paused}})).await
}

/// Waits until so many Machines run.
pub(super) async fn run(world: &World, wanted: usize) -> Result<(), Stuck> {
    until(world, |world| {
        let machines = super::expect::all(world, MACHINE);
        let running = machines.iter().filter(|machine| machine["status"]["phase"] == "Running").count();
        holds(running == wanted && machines.len() == wanted, || {
            format!("{wanted} Machines are wanted, {running} of {} run", machines.len())
        })
    })
    .await
}
