//! Metal3MachineTemplate: the cleaning mode reaches the machines, and a failure is tried again.

use std::time::Duration;

use capm3_sim::server::Verb;
use capm3_sim::world::kinds::{HOST, METAL3_MACHINE, METAL3_MACHINE_TEMPLATE};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::site::{Site, image, is};

const CONTROLLER: &str = "metal3machinetemplate";

fn template(mode: &str) -> Value {
    let spec = json!({"image": image(), "automatedCleaningMode": mode});
    json!({"metadata": {"name": "workers"}, "spec": {"template": {"spec": spec}}})
}

fn cloned() -> Value {
    json!({
        "metadata": {"annotations": {
            "cluster.x-k8s.io/cloned-from-name": "workers",
            "cluster.x-k8s.io/cloned-from-groupkind": "Metal3MachineTemplate.infrastructure.cluster.x-k8s.io",
        }},
        "spec": {"automatedCleaningMode": "metadata"},
    })
}

#[tokio::test(start_paused = true)]
async fn a_t_3_a_template_that_is_not_there_is_nothing_to_do() {
    let site = Site::new().await;
    site.add_machine("m1", "prod", cloned()).await; // it wakes the template that it was cloned from
    sleep(Duration::from_secs(5)).await;
    assert!(site.reconciles(CONTROLLER) > 0);
    assert_eq!(site.errors(CONTROLLER), 0);
}

#[tokio::test(start_paused = true)]
async fn a_t_6_a_mode_that_cannot_be_passed_on_is_an_error_and_is_passed_on_later() {
    let site = Site::new().await;
    for name in ["m1", "m2"] {
        site.add_machine(name, "prod", cloned()).await;
    }
    site.rest().await;
    // One of two: the other does not wait for it (H-45).
    site.refuse(|call| is(call, Verb::Patch, "metal3machines") && call.subresource.is_empty() && call.name == "m1");
    site.create(METAL3_MACHINE_TEMPLATE, template("disabled")).await;
    let follows = |machine: &Value| machine["spec"]["automatedCleaningMode"] == "disabled";
    site.until(METAL3_MACHINE, "m2", "the mode", follows).await;
    sleep(Duration::from_secs(1)).await;
    assert!(site.errors(CONTROLLER) > 0);
    assert!(!follows(&site.hand.get(METAL3_MACHINE, "m1")));
    site.refuse_nothing();
    site.until(METAL3_MACHINE, "m1", "the mode", follows).await;
}

/// A paused template changes nothing, which is no error; that it goes on is its own event.
#[tokio::test(start_paused = true)]
async fn a_t_5_a_paused_template_goes_on_when_it_is_not_paused_any_more() {
    let site = Site::new().await;
    site.add_machine("m1", "prod", cloned()).await;
    let mut paused = template("disabled");
    paused["metadata"]["annotations"] = json!({"cluster.x-k8s.io/paused": ""});
    site.create(METAL3_MACHINE_TEMPLATE, paused).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(site.hand.get(METAL3_MACHINE, "m1")["spec"]["automatedCleaningMode"], "metadata");
    assert_eq!(site.errors(CONTROLLER), 0);
    let annotations = json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": null}}});
    site.patch(METAL3_MACHINE_TEMPLATE, "workers", annotations).await;
    site.until(METAL3_MACHINE, "m1", "the mode", |m| m["spec"]["automatedCleaningMode"] == "disabled").await;
}

/// From template to machine to host, also when the host is provisioned (T-7).
#[tokio::test(start_paused = true)]
async fn t_7_a_cleaning_mode_reaches_a_provisioned_host() {
    let site = Site::deployed().await;
    site.patch(METAL3_MACHINE, "m1", cloned()).await;
    site.create(METAL3_MACHINE_TEMPLATE, template("disabled")).await;
    site.until(HOST, "host-0", "the mode", |host| host["spec"]["automatedCleaningMode"] == "disabled").await;
}
