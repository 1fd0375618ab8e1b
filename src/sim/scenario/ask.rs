//! The objects that users write.

use std::time::Duration;

use capm3_api::names::label;
use serde_json::{Value, json};

use crate::world::kinds::*;
use crate::world::{Hand, Stuck};

/// Virtual time in which what is waited for comes, faults or not.
pub(super) const BOUND: Duration = Duration::from_secs(3600);

pub(super) const CLUSTER_NAME: &str = "prod";

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
    contexts: [{name: a, context: {cluster: c, user: u}}]\n\
    clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443'}}]\n\
    users: [{name: u, user: {token: abc}}]\n";

pub(super) fn infra_ref(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": kind, "name": name})
}

pub(super) fn owner(kind: Kind, object: &Value) -> Value {
    let meta = &object["metadata"];
    json!({"apiVersion": kind.api_version, "kind": kind.kind, "name": meta["name"], "uid": meta["uid"]})
}

pub(super) fn of_cluster() -> Value {
    json!({label::CLUSTER_NAME: CLUSTER_NAME})
}

/// `192.0.2.10` to `192.0.2.<last>` and so on.
pub(super) fn pool(name: &str, net: &str, last: u8) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "namePrefix": name, "prefix": 24, "gateway": format!("{net}.1"),
            "pools": [{"start": format!("{net}.10"), "end": format!("{net}.{last}")}],
        },
    })
}

pub(super) fn claim(name: &str, pool: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"pool": {"name": pool}}})
}

pub(super) fn data_template(name: &str, pools: &[&str]) -> Value {
    let from_pool = |(i, pool): (usize, &&str)| {
        let reference = json!({"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": pool});
        json!({"id": format!("net{i}"), "link": "eth0", "fromPoolRef": reference})
    };
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

/// A host and its credentials.
pub(super) async fn add_host(hand: &Hand, name: &str) -> Result<(), Stuck> {
    let secret = json!({
        "metadata": {"name": format!("{name}-bmc")}, "stringData": {"username": "u", "password": "p"},
    });
    hand.create(SECRET, secret).await?;
    let bmc = json!({"address": "ipmi://192.0.2.1", "credentialsName": format!("{name}-bmc")});
    let host = json!({"metadata": {"name": name}, "spec": {"online": true, "bmc": bmc}});
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

/// The cluster as Cluster API leaves it once it is provisioned.
pub(super) async fn cluster(hand: &Hand) -> Result<(), Stuck> {
    let kubeconfig = json!({
        "metadata": {"name": format!("{CLUSTER_NAME}-kubeconfig"), "labels": of_cluster()},
        "type": "cluster.x-k8s.io/secret", "stringData": {"value": KUBECONFIG},
    });
    hand.create(SECRET, kubeconfig).await?;
    let spec = json!({"infrastructureRef": infra_ref("Metal3Cluster", CLUSTER_NAME)});
    let cluster = hand.create(CLUSTER, json!({"metadata": {"name": CLUSTER_NAME}, "spec": spec})).await?;
    let metadata = json!({"name": CLUSTER_NAME, "labels": of_cluster(), "ownerReferences": [owner(CLUSTER, &cluster)]});
    let spec = json!({"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}});
    hand.create(METAL3_CLUSTER, json!({"metadata": metadata, "spec": spec})).await?;
    let provisioned = |cluster: &Value| cluster["status"]["initialization"]["provisioned"] == true;
    hand.until(BOUND, (METAL3_CLUSTER, CLUSTER_NAME), "that it is provisioned", provisioned).await?;
    let status = json!({"initialization": {"infrastructureProvisioned": true}});
    hand.patch_status(CLUSTER, CLUSTER_NAME, status).await
}

/// A Machine with its Metal3Machine, as a MachineSet makes them, and its bootstrap data.
pub(super) async fn machine(hand: &Hand, name: &str, data_template: Option<&str>) -> Result<(), Stuck> {
    hand.create(SECRET, json!({"metadata": {"name": name}, "stringData": {"value": "#cloud-config\n"}})).await?;
    let config = json!({"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "KubeadmConfig", "name": name});
    let spec = json!({
        "clusterName": CLUSTER_NAME,
        "bootstrap": {"configRef": config, "dataSecretName": name},
        "infrastructureRef": infra_ref("Metal3Machine", name),
    });
    let machine =
        hand.create(MACHINE, json!({"metadata": {"name": name, "labels": of_cluster()}, "spec": spec})).await?;
    let metadata = json!({"name": name, "labels": of_cluster(), "ownerReferences": [owner(MACHINE, &machine)]});
    let image = json!({"url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw"});
    let mut spec = json!({"image": image});
    if let Some(template) = data_template {
        spec["dataTemplate"] = json!({"name": template});
    }
    hand.create(METAL3_MACHINE, json!({"metadata": metadata, "spec": spec})).await.map(drop)
}
