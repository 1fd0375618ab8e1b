//! Metal3Machine: what of its acceptance rows needs namespaces, Secrets and a workload cluster.

use std::time::Duration;

use capm3_sim::world::Deed;
use capm3_sim::world::kinds::{CLUSTER, DATA_CLAIM, DATA_TEMPLATE, HOST, METAL3_MACHINE, NAMESPACE, NODE, SECRET};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::site::{KUBECONFIG, Site, condition, image, in_state, of_cluster, with};

const CONTROLLER: &str = "metal3machine";

#[tokio::test(start_paused = true)]
async fn a_i_1_a_machine_that_is_not_there_is_nothing_to_do() {
    let site = Site::new().await;
    site.create(METAL3_MACHINE, json!({"metadata": {"name": "lone"}, "spec": {"image": image()}})).await;
    site.rest().await;
    let before = site.reconciles(CONTROLLER);
    site.hand.delete(METAL3_MACHINE, "lone").await.unwrap(); // without an owner it got no finalizer
    sleep(Duration::from_secs(60)).await;
    assert!(site.reconciles(CONTROLLER) > before);
    assert_eq!(site.errors(CONTROLLER), 0);
}

/// The namespace in the annotation is not looked at; hosts of other namespaces are never ours.
#[tokio::test(start_paused = true)]
async fn a_s_15_a_host_of_another_namespace_is_not_the_one_that_is_named() {
    let site = Site::new().await;
    site.add_prod().await;
    site.create(NAMESPACE, json!({"metadata": {"name": "elsewhere"}})).await;
    let far = site.hand_in("elsewhere");
    far.create(HOST, json!({"metadata": {"name": "host-0"}, "spec": {"online": true}})).await.unwrap();
    far.patch_status(HOST, "host-0", in_state("available")).await.unwrap();
    let before = far.get(HOST, "host-0");
    let named = json!({"metadata": {"annotations": {"metal3.io/BareMetalHost": "elsewhere/host-0"}}});
    site.add_machine("m1", "prod", named).await;
    let machine = site.says("m1", "AssociateBareMetalHost", "AssociateBareMetalHostFailed").await;
    assert_eq!(condition(&machine, "AssociateBareMetalHost")["message"], "no BareMetalHost in this namespace");
    site.rest().await;
    assert_eq!(far.get(HOST, "host-0"), before);
    // One of that name in the own namespace is meant.
    site.add_host("host-0", "available", json!({})).await;
    site.says("m1", "AssociateBareMetalHost", "AssociateBareMetalHostSuccess").await;
    assert_eq!(far.get(HOST, "host-0"), before);
}

#[tokio::test(start_paused = true)]
async fn a_d_10_only_the_label_of_the_cluster_goes() {
    let site = Site::deployed().await;
    site.create(SECRET, json!({"metadata": {"name": "m1"}, "stringData": {"value": "#cloud-config\n"}})).await;
    site.patch(HOST, "host-0", json!({"metadata": {"labels": {"other": "stays"}}})).await;
    let labels = |kind, name| site.hand.get(kind, name)["metadata"]["labels"].clone();
    let both = with(of_cluster("prod"), json!({"other": "stays"}));
    assert_eq!((labels(HOST, "host-0"), labels(SECRET, "host-0-bmc")), (both.clone(), both));
    let bootstrap = site.hand.get(SECRET, "m1");

    site.hand.delete(METAL3_MACHINE, "m1").await.unwrap();
    site.until(HOST, "host-0", "no image", |host| host["spec"]["image"].is_null()).await;
    site.host_is("host-0", "available").await;
    site.gone(METAL3_MACHINE, "m1").await;
    let other = json!({"other": "stays"});
    assert_eq!((labels(HOST, "host-0"), labels(SECRET, "host-0-bmc")), (other.clone(), other));
    assert_eq!(site.hand.get(SECRET, "m1"), bootstrap, "A-D-21");
}

#[tokio::test(start_paused = true)]
async fn a_x_13_a_workload_cluster_without_with_a_broken_and_with_a_good_kubeconfig() {
    let site = Site::deployed().await;
    let uid = site.hand.get(HOST, "host-0")["metadata"]["uid"].clone();
    site.hand.delete(SECRET, "prod-kubeconfig").await.unwrap();
    site.manager.kill(); // the old connection goes with it
    let manager = site.world.start(capm3_sim::world::Provider::Infra);
    let site = Site { manager, ..site };

    // It may be the machine that brings the cluster up: said after five minutes.
    sleep(Duration::from_secs(400)).await;
    let message = |site: &Site| {
        let machine = site.hand.get(METAL3_MACHINE, "m1");
        condition(&machine, "AssociateMetal3MachineMetaData")["message"].as_str().unwrap_or_default().to_owned()
    };
    assert!(message(&site).ends_with("the kubeconfig Secret does not exist yet"), "{}", message(&site));
    let broken = json!({"metadata": {"name": "prod-kubeconfig"}, "stringData": {"value": "nonsense"}});
    site.create(SECRET, broken).await;
    sleep(Duration::from_secs(120)).await;
    assert!(message(&site).contains("the kubeconfig is refused"), "{}", message(&site));
    assert_eq!(site.errors(CONTROLLER), 0, "waiting is no failure");

    let good = json!({"stringData": {"value": KUBECONFIG}});
    site.patch(SECRET, "prod-kubeconfig", good).await;
    let node = json!({"metadata": {"name": "node-0", "labels": {"metal3.io/uuid": uid}}});
    let remote = site.world.remote_hand();
    remote.create(NODE, node).await.unwrap();
    remote
        .until(Duration::from_secs(120), (NODE, "node-0"), "its name", |n| n["spec"]["providerID"].is_string())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_x_9_a_data_template_that_is_missing_is_waited_for() {
    let site = Site::new().await;
    site.add_prod().await;
    site.add_host("host-0", "available", json!({})).await;
    site.add_host("host-1", "available", json!({})).await;
    site.add_machine("bare", "prod", json!({})).await;
    site.says("bare", "AssociateBareMetalHost", "AssociateBareMetalHostSuccess").await;
    assert_eq!(site.hand.get(DATA_CLAIM, "bare"), Value::Null, "none is named: nothing");
    site.add_machine("m1", "prod", json!({"spec": {"dataTemplate": {"name": "late"}}})).await;
    site.until(DATA_CLAIM, "m1", "the claim", Value::is_object).await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(site.hand.get(DATA_CLAIM, "m1")["status"]["renderedData"], Value::Null);
    assert_eq!((site.errors(CONTROLLER), site.errors("metal3datatemplate")), (0, 0), "missing is no failure");
    site.create(DATA_TEMPLATE, json!({"metadata": {"name": "late"}, "spec": {"clusterName": "prod"}})).await;
    site.until(DATA_CLAIM, "m1", "its data", |claim| claim["status"]["renderedData"]["name"] == "late-0").await;

    // One without a name is refused where it is written; what came there without us is an error (TemplateUnnamed).
    let nameless = json!({"spec": {"image": image(), "dataTemplate": {"name": ""}}});
    let nameless = site.hand.whole(METAL3_MACHINE, with(nameless, json!({"metadata": {"name": "m2"}})));
    let refused = site.hand.send(METAL3_MACHINE, "m2", Deed::Create(nameless)).await.unwrap_err();
    assert!(refused.message.contains("spec.dataTemplate.name"), "{refused}");
}

/// Its kubelet knows no providerID; what it registered first was deleted before Cluster API had looked.
#[tokio::test(start_paused = true)]
async fn m_38_a_node_that_registers_anew_is_named_again_at_once() {
    let site = Site::deployed().await;
    let uid = site.hand.get(HOST, "host-0")["metadata"]["uid"].clone();
    let node = json!({"metadata": {"name": "node-0", "labels": {"metal3.io/uuid": uid}}});
    let remote = site.world.remote_hand();
    for _ in 0..2 {
        remote.create(NODE, node.clone()).await.unwrap();
        let named = |node: &Value| node["spec"]["providerID"] == "metal3://site/host-0/m1";
        remote.until(Duration::from_secs(60), (NODE, "node-0"), "its name", named).await.unwrap();
        site.rest().await;
        remote.delete(NODE, "node-0").await.unwrap();
        site.rest().await;
    }
}

/// What becomes of a machine is told as events, each once.
#[tokio::test(start_paused = true)]
async fn events_tell_what_becomes_of_a_machine() {
    let site = Site::deployed().await;
    let uid = site.hand.get(HOST, "host-0")["metadata"]["uid"].clone();
    let node = json!({"metadata": {"name": "node-0", "labels": {"metal3.io/uuid": uid}}});
    site.world.remote_hand().create(NODE, node).await.unwrap();
    site.until(METAL3_MACHINE, "m1", "provisioned", |m| m["status"]["initialization"]["provisioned"] == true).await;
    site.hand.delete(METAL3_MACHINE, "m1").await.unwrap();
    site.until(HOST, "host-0", "no image", |host| host["spec"]["image"].is_null()).await;
    site.host_is("host-0", "available").await;
    site.gone(METAL3_MACHINE, "m1").await;
    site.add_machine("m2", "prod", json!({"spec": {"hostSelector": {"matchLabels": {"rack": "7"}}}})).await;
    site.says("m2", "AssociateBareMetalHost", "AssociateBareMetalHostFailed").await;
    site.rest().await;
    let events = site.world.server.all("events");
    let mut told: Vec<_> = events
        .iter()
        .map(|e| {
            format!(
                "{} {}",
                e["regarding"]["name"].as_str().or(e["involvedObject"]["name"].as_str()).unwrap(),
                e["reason"].as_str().unwrap()
            )
        })
        .collect();
    told.sort_unstable();
    let expected = [
        "m1 HostClaimed",
        "m1 HostDeprovisioning",
        "m1 HostReleased",
        "m1 NodeFound",
        "m1 Provisioned",
        "m2 AssociateBareMetalHostFailed",
        "prod Ready",
    ];
    for event in expected {
        assert_eq!(told.iter().filter(|one| *one == event).count(), 1, "{event} among {told:#?}");
    }
    assert_eq!(site.hand.get(CLUSTER, "prod")["spec"]["paused"], Value::Null);
}
