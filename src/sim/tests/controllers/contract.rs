//! What Cluster API expects of the provider and only shows in what it writes (capi-contract.md 1.8, 4.7 and 6).

use std::collections::BTreeSet;
use std::time::Duration;

use capm3_sim::world::Settings;
use capm3_sim::world::kinds::{CLUSTER, HOST, MACHINE, METAL3_MACHINE, NODE, SECRET};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::site::{Site, condition};

/// The writes of our ServiceAccounts, as `verb resource name`.
fn writes(trace: &[String]) -> BTreeSet<String> {
    let ours = trace.iter().filter(|line| line.contains("system:serviceaccount:capm3-system:"));
    let words = ours.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let verbs = ["create", "patch", "update", "delete", "deletecollection"];
    words
        .filter_map(|words| {
            let at = words.iter().position(|word| verbs.contains(word))?;
            Some(words[at..].iter().take(3).copied().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn k_160_what_belongs_to_cluster_api_is_not_written() {
    let site = Site::deployed().await;
    let uid = site.hand.get(HOST, "host-0")["metadata"]["uid"].clone();
    let node = json!({"metadata": {"name": "node-0", "labels": {"metal3.io/uuid": uid}}});
    site.world.remote_hand().create(NODE, node).await.unwrap();
    site.until(METAL3_MACHINE, "m1", "provisioned", |m| m["status"]["initialization"]["provisioned"] == true).await;
    site.hand.delete(METAL3_MACHINE, "m1").await.unwrap();
    site.until(HOST, "host-0", "no image", |host| host["spec"]["image"].is_null()).await;
    site.host_is("host-0", "available").await;
    site.gone(METAL3_MACHINE, "m1").await;
    let all = writes(&site.world.server.trace());
    assert!(all.iter().any(|write| write.contains("baremetalhosts")), "{all:#?}");
    for write in &all {
        let resource = write.split(' ').nth(1).unwrap();
        assert!(!["machines", "clusters", "machines/status", "clusters/status"].contains(&resource), "{write}");
        assert!(!resource.starts_with("secrets") || write.ends_with("/host-0-bmc"), "{write}");
    }
}

/// The Machine lives on: what it lost is its own affair.
#[tokio::test(start_paused = true)]
async fn k_197_a_metal3_machine_that_is_deleted_alone_gives_its_host_back() {
    let site = Site::deployed().await;
    site.hand.delete(METAL3_MACHINE, "m1").await.unwrap();
    site.until(HOST, "host-0", "no image", |host| host["spec"]["image"].is_null()).await;
    site.host_is("host-0", "available").await;
    site.gone(METAL3_MACHINE, "m1").await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(site.hand.get(HOST, "host-0")["spec"]["consumerRef"], Value::Null);
    assert_eq!(site.hand.get(METAL3_MACHINE, "m1"), Value::Null, "nothing is made anew");
    assert!(site.hand.get(MACHINE, "m1").is_object());
}

#[tokio::test(start_paused = true)]
async fn k_135_and_136_a_pause_puts_the_hosts_status_on_record_and_then_lets_the_move_go() {
    let annotation = |site: &Site, key: &str| site.hand.get(HOST, "host-0")["metadata"]["annotations"][key].clone();
    let (paused, status) = ("baremetalhost.metal3.io/paused", "baremetalhost.metal3.io/status");
    let block = "clusterctl.cluster.x-k8s.io/block-move";
    let site = Site::deployed().await;
    assert_eq!(annotation(&site, block), "", "K-136: while the machine is looked after");
    let before = site.world.server.trace().len();
    site.patch(CLUSTER, "prod", json!({"spec": {"paused": true}})).await;
    site.until(HOST, "host-0", "no block", |host| host["metadata"]["annotations"][block].is_null()).await;
    assert_eq!(annotation(&site, paused), "metal3.io/capm3");
    let recorded = annotation(&site, status).as_str().unwrap().to_owned();
    let mut expected = site.hand.get(HOST, "host-0")["status"].clone();
    expected.as_object_mut().unwrap().remove("hardware").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&recorded).unwrap(), expected);
    let trace = site.world.server.trace();
    let patches = trace[before..].iter().filter(|line| line.contains("patch baremetalhosts")).count();
    assert_eq!(patches, 2, "K-136: the pause with the status, then the way is free");

    site.rest().await;
    site.patch(CLUSTER, "prod", json!({"spec": {"paused": false}})).await;
    site.until(HOST, "host-0", "no pause", |host| host["metadata"]["annotations"][paused].is_null()).await;
    assert_eq!(annotation(&site, block), "");

    // The pause of a user: kept, with the status beside it (H-21), and nothing blocks the move.
    site.rest().await;
    let theirs = json!({"metadata": {"annotations": {paused: "", status: null}}});
    site.patch(HOST, "host-0", theirs).await;
    site.patch(CLUSTER, "prod", json!({"spec": {"paused": true}})).await;
    site.until(HOST, "host-0", "no block", |host| host["metadata"]["annotations"][block].is_null()).await;
    assert_eq!(annotation(&site, paused), "", "K-136");
    site.patch(CLUSTER, "prod", json!({"spec": {"paused": false}})).await;
    site.rest().await;
    assert_eq!(annotation(&site, paused), "", "K-135: only our own pause is lifted");
}

/// The filter is for our objects; what they refer to needs no label (H-36).
#[tokio::test(start_paused = true)]
async fn k_59_a_watch_filter_chooses_our_objects_by_their_label() {
    let mut settings = Settings::default();
    settings.flags.watch_filter = Some("blue".to_owned());
    let site = Site::with_settings(settings).await;
    let cluster = site.add_cluster("prod").await;
    let label = json!({"cluster.x-k8s.io/watch-filter": "blue"});
    site.add_metal3_cluster("prod", json!([crate::site::owner(CLUSTER, &cluster)])).await;
    site.add_host("host-0", "available", json!({})).await;
    site.add_machine("m1", "prod", json!({"metadata": {"labels": {"cluster.x-k8s.io/watch-filter": "red"}}})).await;
    site.add_machine("m2", "prod", json!({"metadata": {"labels": label}})).await;
    site.says("m2", "AssociateBareMetalHost", "AssociateBareMetalHostSuccess").await;
    site.host_is("host-0", "provisioning").await; // the host has no label, and is heard of
    let shown = |machine: &Value| machine["status"]["addresses"].to_string().contains("worker-0");
    site.until(METAL3_MACHINE, "m2", "its addresses", shown).await;
    site.rest().await;
    assert_eq!(condition(&site.hand.get(METAL3_MACHINE, "m1"), "AssociateBareMetalHost"), &Value::Null);
    assert_eq!(site.hand.get(SECRET, "m1"), Value::Null);
    let cluster = site.hand.get(capm3_sim::world::kinds::METAL3_CLUSTER, "prod");
    assert_eq!(cluster["metadata"]["finalizers"], Value::Null);
}
