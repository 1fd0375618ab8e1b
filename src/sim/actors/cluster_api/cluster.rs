//! The Cluster: its infrastructure is adopted, and gone before it is (T1, T3, T4, K-13, K-14, K-17, K-191).

use std::sync::Arc;

use capm3_api::names::{label, secret};
use serde_json::{Value, json};

use super::super::{Act, View, delete, finalized, has_finalizer, is_deleting, name, patch, patch_status, push, put};
use super::{is_owned_by, owner_of};
use crate::world::Deed;
use crate::world::kinds::*;

const FINALIZER: &str = "cluster.cluster.x-k8s.io";

/// Ours: as long as the Cluster has it, nobody writes its kubeconfig.
pub const NO_KUBECONFIG: &str = "sim.capm3.dev/no-kubeconfig";

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
    contexts: [{name: a, context: {cluster: c, user: u}}]\n\
    clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443'}}]\n\
    users: [{name: u, user: {token: abc}}]\n";

pub(super) fn decide(view: &dyn View, cluster: &Value) -> Vec<Act> {
    if cluster["spec"]["paused"] == true {
        return Vec::new();
    }
    let infra = cluster["spec"]["infrastructureRef"]["name"].as_str().unwrap_or_default();
    let infra = view.get(METAL3_CLUSTER, infra);
    if is_deleting(cluster) {
        return leave(view, cluster, &infra);
    }
    let (mut acts, mut wanted) = (Vec::new(), cluster.clone());
    push(&mut wanted["metadata"]["finalizers"], FINALIZER.into());
    if !infra.is_null() && !is_deleting(&infra) {
        let mut adopted = Value::clone(&infra);
        if !is_owned_by(&infra, cluster) {
            push(&mut adopted["metadata"]["ownerReferences"], owner_of(CLUSTER, cluster));
        }
        put(&mut adopted, &["metadata", "labels", label::CLUSTER_NAME], name(cluster));
        acts.extend(patch(METAL3_CLUSTER, &infra, &adopted));
        if infra["status"]["initialization"]["provisioned"] == true {
            let endpoint = &cluster["spec"]["controlPlaneEndpoint"];
            if endpoint["host"].as_str().is_none_or(str::is_empty) {
                wanted["spec"]["controlPlaneEndpoint"] = infra["spec"]["controlPlaneEndpoint"].clone();
            }
            put(&mut wanted, &["status", "initialization", "infrastructureProvisioned"], true);
            put(&mut wanted, &["status", "phase"], "Provisioned");
            wanted["status"]["failureDomains"] = infra["status"]["failureDomains"].clone();
        }
    }
    acts.extend(patch(CLUSTER, cluster, &wanted));
    let secret = format!("{}{}", name(cluster), secret::KUBECONFIG_SUFFIX);
    let held = !cluster["metadata"]["annotations"][NO_KUBECONFIG].is_null();
    if !view.get(SECRET, &secret).is_null() {
        put(&mut wanted, &["status", "initialization", "controlPlaneInitialized"], true);
    } else if wanted["status"]["initialization"]["infrastructureProvisioned"] == true && !held {
        acts.push(Act(SECRET, secret.clone(), Deed::Create(kubeconfig(cluster, &secret))));
    }
    acts.extend(patch_status(CLUSTER, cluster, &wanted));
    acts
}

fn kubeconfig(cluster: &Value, secret: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
        "metadata": {
            "name": secret, "namespace": cluster["metadata"]["namespace"],
            "labels": {label::CLUSTER_NAME: name(cluster)}, "ownerReferences": [owner_of(CLUSTER, cluster)],
        },
        "stringData": {secret::VALUE_KEY: KUBECONFIG},
    })
}

/// Workers first, the control plane behind them, the infrastructure last (K-191).
fn leave(view: &dyn View, cluster: &Value, infra: &Value) -> Vec<Act> {
    let of_cluster = |object: &Arc<Value>| object["spec"]["clusterName"] == cluster["metadata"]["name"];
    let is_worker = |object: &Arc<Value>| object["metadata"]["labels"][label::CONTROL_PLANE].is_null();
    let end = |kind: Kind, all: &[Arc<Value>]| -> Vec<Act> {
        all.iter().filter(|one| !is_deleting(one)).map(|one| delete(kind, one)).collect()
    };
    let some = |kind: Kind| view.all(kind).into_iter().filter(of_cluster).collect::<Vec<_>>();
    for kind in [MACHINE_DEPLOYMENT, MACHINE_SET] {
        let all = some(kind);
        if !all.is_empty() {
            return end(kind, &all);
        }
    }
    let (workers, others): (Vec<_>, Vec<_>) = some(MACHINE).into_iter().partition(is_worker);
    if !workers.is_empty() {
        return end(MACHINE, &workers);
    }
    let plane = cluster["spec"]["controlPlaneRef"]["name"].as_str().unwrap_or_default();
    let plane = view.get(CONTROL_PLANE, plane);
    if !plane.is_null() {
        return end(CONTROL_PLANE, &[plane]);
    }
    if !others.is_empty() {
        return end(MACHINE, &others);
    }
    if !infra.is_null() {
        return if is_deleting(infra) { Vec::new() } else { vec![delete(METAL3_CLUSTER, infra)] };
    }
    if has_finalizer(cluster, FINALIZER) {
        finalized(CLUSTER, cluster, FINALIZER).into_iter().collect()
    } else {
        Vec::new()
    }
}
