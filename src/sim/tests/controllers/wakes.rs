//! Which Metal3Machines an event of another object wakes (M-2): counted, since a machine that is woken for nothing says nothing.

use std::time::Duration;

use capm3_sim::world::kinds::{CLUSTER, HOST, MACHINE, METAL3_CLUSTER, METAL3_MACHINE};
use serde_json::json;
use tokio::time::sleep;

use crate::site::{HERE, Site, owner};

const CONTROLLER: &str = "metal3machine";

/// How many reconciles the deed costs.
async fn woken(site: &Site, deed: impl AsyncFnOnce()) -> u64 {
    site.rest().await;
    let before = site.reconciles(CONTROLLER);
    deed().await;
    sleep(Duration::from_secs(5)).await;
    site.reconciles(CONTROLLER) - before
}

#[tokio::test(start_paused = true)]
async fn a_mp_1_to_3_a_metal3_cluster_wakes_the_machines_of_its_cluster() {
    let site = Site::new().await;
    site.add_prod().await;
    for name in ["m1", "m2"] {
        site.add_machine(name, "prod", json!({})).await;
    }
    site.add_owner("m3", "prod", json!({"spec": {"infrastructureRef": {"kind": "Other"}}})).await;
    site.add_machine("m4", "gone", json!({})).await; // of a Cluster that does not exist
    let cloud = json!({"spec": {"cloudProviderEnabled": true}});
    assert_eq!(woken(&site, async || site.patch(METAL3_CLUSTER, "prod", cloud.clone()).await).await, 2, "A-MP-1");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(
        woken(&site, async || site.patch(METAL3_CLUSTER, "prod", label.clone()).await).await,
        0,
        "nothing they look at"
    );

    let gone = json!([{"apiVersion": CLUSTER.api_version, "kind": "Cluster", "name": "gone", "uid": "u"}]);
    assert_eq!(woken(&site, async || site.add_metal3_cluster("gone", gone).await).await, 0, "A-MP-2");
    assert_eq!(woken(&site, async || site.add_metal3_cluster("lone", json!([])).await).await, 0, "A-MP-3");
}

/// Its owner reference follows in a second write, which is the one that tells whose machines wait for it.
#[tokio::test(start_paused = true)]
async fn k_159_a_metal3_cluster_that_comes_last_wakes_the_machines_that_wait_for_it() {
    let site = Site::new().await;
    let cluster = site.add_cluster("prod").await;
    site.add_host("host-0", "available", json!({})).await;
    site.add_machine("m1", "prod", json!({})).await;
    site.says("m1", "AssociateBareMetalHost", "WaitingforMetal3Cluster").await;
    site.add_metal3_cluster("prod", json!([])).await;
    site.rest().await;
    let owners = json!({"metadata": {"ownerReferences": [owner(CLUSTER, &cluster)]}});
    site.patch(METAL3_CLUSTER, "prod", owners).await;
    site.says("m1", "AssociateBareMetalHost", "AssociateBareMetalHostSuccess").await;
}

#[tokio::test(start_paused = true)]
async fn a_mp_4_and_5_a_host_wakes_its_consumer_and_nobody_else() {
    let site = Site::new().await;
    site.add_prod().await;
    site.add_machine("m1", "prod", json!({})).await;
    let consumer = |name: &str| {
        json!({"spec": {"consumerRef": {
            "apiVersion": METAL3_MACHINE.api_version, "kind": METAL3_MACHINE.kind, "namespace": HERE, "name": name,
        }}})
    };
    let held = woken(&site, async || drop(site.add_host("held", "", consumer("somebody")).await)).await;
    assert_eq!(held, 1, "A-MP-4");
    let free = woken(&site, async || drop(site.add_host("free", "", json!({})).await)).await;
    assert_eq!(free, 0, "A-MP-5");
}

/// Of three that wait, one does not want the host and one is younger: neither is woken, so neither says anything new.
#[tokio::test(start_paused = true)]
async fn h_35_a_host_that_becomes_free_wakes_the_best_of_those_it_fits() {
    let site = Site::new().await;
    site.add_prod().await;
    let on = |rack: &str| json!({"spec": {"hostSelector": {"matchLabels": {"rack": rack}}}});
    for (name, rack) in [("other", "1"), ("first", "2"), ("second", "2")] {
        site.add_machine(name, "prod", on(rack)).await;
        site.says(name, "AssociateBareMetalHost", "AssociateBareMetalHostFailed").await;
        sleep(Duration::from_secs(2)).await;
    }
    site.rest().await;
    let told = |name: &str| site.hand.get(METAL3_MACHINE, name)["metadata"]["resourceVersion"].clone();
    let before = ["other", "second"].map(told);
    let rack = json!({"metadata": {"labels": {"rack": "2"}}});
    site.add_host("h-1", "available", rack.clone()).await;
    site.until(HOST, "h-1", "a claim", |host| host["spec"]["consumerRef"]["name"] == "first").await;
    site.rest().await;
    assert_eq!(["other", "second"].map(told), before);
    site.add_host("h-2", "available", rack).await;
    site.until(HOST, "h-2", "a claim", |host| host["spec"]["consumerRef"]["name"] == "second").await;
}

/// Long before its timer.
#[tokio::test(start_paused = true)]
async fn h_35_a_host_that_the_best_cannot_take_goes_to_the_next() {
    let site = Site::new().await;
    site.add_prod().await;
    site.add_machine("m1", "prod", json!({"spec": {"metaData": {"name": "nowhere"}}})).await;
    site.add_machine("m2", "prod", json!({})).await;
    site.rest().await;
    site.add_host("h", "available", json!({})).await;
    site.until(HOST, "h", "a claim", |host| host["spec"]["consumerRef"]["name"] == "m2").await;
}

#[tokio::test(start_paused = true)]
async fn a_mp_8_and_9_a_cluster_wakes_the_machines_that_have_infrastructure_of_ours() {
    let site = Site::new().await;
    site.add_prod().await;
    site.add_machine("m1", "prod", json!({})).await;
    site.add_owner("m2", "prod", json!({"spec": {"infrastructureRef": {"kind": "Other"}}})).await;
    let up = json!({"initialization": {"infrastructureProvisioned": true, "controlPlaneInitialized": true}});
    assert_eq!(woken(&site, async || site.status(CLUSTER, "prod", up.clone()).await).await, 1, "A-MP-8");

    site.add_cluster("bare").await;
    site.add_owner("m3", "bare", json!({"spec": {"infrastructureRef": {"kind": "Other"}}})).await;
    assert_eq!(woken(&site, async || site.status(CLUSTER, "bare", up.clone()).await).await, 0, "A-MP-9");
}

/// Also one that waits with a timer of minutes, and one that has a host.
#[tokio::test(start_paused = true)]
async fn k_58_the_end_of_a_pause_wakes_all_that_stood_still() {
    let site = Site::deployed().await;
    site.patch(CLUSTER, "prod", json!({"spec": {"paused": true}})).await;
    site.add_host("host-1", "available", json!({})).await;
    site.add_machine("m2", "prod", json!({})).await;
    for machine in ["m1", "m2"] {
        site.says(machine, "Paused", "Paused").await;
    }
    site.until(METAL3_CLUSTER, "prod", "its pause", |c| c["status"]["conditions"].to_string().contains("\"Paused\""))
        .await;
    site.rest().await;
    site.patch(CLUSTER, "prod", json!({"spec": {"paused": false}})).await;
    for machine in ["m1", "m2"] {
        site.says(machine, "Paused", "NotPaused").await;
        site.says(machine, "AssociateBareMetalHost", "AssociateBareMetalHostSuccess").await;
    }
    let resumed = |cluster: &serde_json::Value| crate::site::condition(cluster, "Paused")["status"] == "False";
    site.until(METAL3_CLUSTER, "prod", "the end of its pause", resumed).await;
    assert_eq!(site.hand.get(MACHINE, "m1")["spec"]["clusterName"], "prod");
    assert_eq!(site.hand.get(HOST, "host-1")["spec"]["consumerRef"]["name"], "m2");
}
