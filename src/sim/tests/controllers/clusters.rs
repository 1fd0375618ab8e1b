//! Metal3Cluster: what a failing request leaves behind, and how it goes.

use std::sync::Arc;
use std::time::Duration;

use capm3_sim::server::{Call, EventFate, Passing, Seam, Verb};
use capm3_sim::world::kinds::{CLUSTER, HOST, MACHINE, METAL3_CLUSTER};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::site::{HERE, Site, is, owner};

const CONTROLLER: &str = "metal3cluster";
const FINALIZER: &str = "metal3cluster.infrastructure.cluster.x-k8s.io";

fn has_finalizer(cluster: &Value) -> bool {
    cluster["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|f| f == FINALIZER))
}

#[tokio::test(start_paused = true)]
async fn a_cc_3_a_status_that_cannot_be_stored_is_an_error_and_is_stored_later() {
    let site = Site::new().await;
    site.refuse(|call| is(call, Verb::Patch, "metal3clusters") && call.subresource == "status");
    let cluster = site.add_cluster("prod").await;
    site.add_metal3_cluster("prod", json!([owner(CLUSTER, &cluster)])).await;
    site.until(METAL3_CLUSTER, "prod", "the finalizer", has_finalizer).await;
    sleep(Duration::from_secs(5)).await;
    assert!(site.errors(CONTROLLER) > 0);
    assert_eq!(site.hand.get(METAL3_CLUSTER, "prod")["status"]["initialization"], Value::Null);
    site.refuse_nothing();
    site.until(METAL3_CLUSTER, "prod", "provisioned", |c| c["status"]["initialization"]["provisioned"] == true).await;
}

/// A cluster whose deletion has been asked for while the server refuses something.
async fn leaving(refused: fn(&Call) -> bool, kept: bool) -> Site {
    let site = Site::new().await;
    site.add_prod().await;
    if kept {
        let consumer = json!({"apiVersion": CLUSTER.api_version, "kind": "Cluster", "namespace": HERE, "name": "prod"});
        let labels = json!({"infrastructure.cluster.x-k8s.io/node-reuse": "md-test1"});
        let host = json!({"metadata": {"labels": labels}, "spec": {"consumerRef": consumer}});
        site.add_host("host-0", "available", host).await;
    }
    site.refuse(refused);
    site.hand.delete(METAL3_CLUSTER, "prod").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    site
}

#[tokio::test(start_paused = true)]
async fn a_cc_6_machines_that_cannot_be_counted_hold_the_cluster() {
    let site = leaving(|call| is(call, Verb::List, "machines"), false).await;
    assert!(site.errors(CONTROLLER) > 0);
    assert!(has_finalizer(&site.hand.get(METAL3_CLUSTER, "prod")));
    site.refuse_nothing();
    site.gone(METAL3_CLUSTER, "prod").await;
}

/// What there is to clean up are hosts that were kept for machines of the cluster (H-11).
#[tokio::test(start_paused = true)]
async fn a_cc_7_a_clean_up_that_fails_holds_the_cluster() {
    let site = leaving(|call| is(call, Verb::Patch, "baremetalhosts"), true).await;
    assert!(site.errors(CONTROLLER) > 0);
    assert!(has_finalizer(&site.hand.get(METAL3_CLUSTER, "prod")));
    site.refuse_nothing();
    site.gone(METAL3_CLUSTER, "prod").await;
    let host = site.hand.get(HOST, "host-0");
    assert_eq!(host["spec"]["consumerRef"], Value::Null);
    assert_eq!(host["metadata"]["labels"]["infrastructure.cluster.x-k8s.io/node-reuse"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_cc_8_a_cluster_that_is_not_there_is_nothing_to_do() {
    let site = Site::new().await;
    site.add_metal3_cluster("lone", json!([])).await; // without an owner it gets no finalizer
    site.rest().await;
    let before = site.reconciles(CONTROLLER);
    site.hand.delete(METAL3_CLUSTER, "lone").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!((site.reconciles(CONTROLLER), site.errors(CONTROLLER)), (before + 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cm_11_and_12_each_machine_of_the_cluster_holds_it() {
    let site = Site::new().await;
    site.add_prod().await;
    site.add_owner("other", "staging", json!({})).await;
    site.hand.delete(METAL3_CLUSTER, "prod").await.unwrap();
    site.gone(METAL3_CLUSTER, "prod").await;

    let site = Site::new().await;
    site.add_prod().await;
    site.add_owner("m1", "prod", json!({})).await;
    site.hand.delete(METAL3_CLUSTER, "prod").await.unwrap();
    sleep(Duration::from_secs(3600)).await;
    assert!(has_finalizer(&site.hand.get(METAL3_CLUSTER, "prod")), "A-CM-12");
    assert_eq!(site.errors(CONTROLLER), 0, "A-CM-12");
    site.hand.delete(MACHINE, "m1").await.unwrap();
    site.gone(METAL3_CLUSTER, "prod").await; // its end wakes the cluster
}

/// The watch of hosts does not arrive any more.
struct NoNewsOfHosts;

impl Seam for NoNewsOfHosts {
    fn event(&self, watch: &Call, _: &Passing<'_>) -> EventFate {
        if watch.resource == "baremetalhosts" { EventFate::Lose } else { EventFate::Deliver }
    }
}

/// The last machine released its host a moment ago and kept it; the cluster's own view of hosts does not know yet.
#[tokio::test(start_paused = true)]
async fn h_11_a_host_that_was_kept_a_moment_ago_is_freed_too() {
    let site = Site::new().await;
    site.add_prod().await;
    site.add_host("host-0", "available", json!({})).await;
    site.rest().await;
    site.world.server.set_seam(Arc::new(NoNewsOfHosts));
    let consumer = json!({"apiVersion": CLUSTER.api_version, "kind": "Cluster", "namespace": HERE, "name": "prod"});
    let labels = json!({"infrastructure.cluster.x-k8s.io/node-reuse": "md-test1"});
    site.patch(HOST, "host-0", json!({"metadata": {"labels": labels}, "spec": {"consumerRef": consumer}})).await;
    site.hand.delete(METAL3_CLUSTER, "prod").await.unwrap();
    site.gone(METAL3_CLUSTER, "prod").await;
    assert_eq!(site.hand.get(HOST, "host-0")["spec"]["consumerRef"], Value::Null);
}
