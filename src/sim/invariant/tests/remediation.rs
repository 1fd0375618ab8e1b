//! Whom a remediation may switch off and fence, and what it owes the Node: I27.

use capm3_api::names::label;

use super::*;

const OFF: &str = "reboot.metal3.io/metal3-remediation-uid-r1";

fn remediation(phase: &str) -> Value {
    let mut remediation = object("r1", json!({"status": {"phase": phase}}));
    remediation["spec"] = json!({"strategy": {"type": "Reboot", "retryLimit": 1}});
    remediation["metadata"]["finalizers"] = json!([finalizer::REMEDIATION]);
    remediation["metadata"]["ownerReferences"] = owner("Machine", "m1");
    remediation
}

fn node() -> Value {
    json!({"metadata": {"name": "n1", "uid": "uid-n1", "labels": {label::HOST_UUID: "uid-h1"}}})
}

fn switch_off(host: &mut Value) {
    host["metadata"]["annotations"][OFF] = "{}".into();
}

fn goes_off(host: &mut Value) {
    host["status"]["poweredOn"] = false.into();
}

fn let_on(host: &mut Value) {
    host["metadata"]["annotations"].as_object_mut().unwrap().shift_remove(OFF);
}

/// A machine with its host, a Node, and a remediation that runs.
fn remediated() -> Scene {
    let mut scene = running();
    scene.given(What::Remediation, remediation("Running")).given(What::Node, node());
    scene.change(Who::Other, What::Host, "h1", |host| host["status"]["poweredOn"] = true.into());
    scene
}

/// The same with the host off.
fn off() -> Scene {
    let mut scene = remediated();
    scene.change(Who::Infra, What::Host, "h1", switch_off).change(Who::Other, What::Host, "h1", goes_off).holds();
    scene
}

fn of_node(scene: &mut Scene, change: impl FnOnce(&mut Value)) -> &mut Scene {
    let mut node = Value::clone(scene.state.memory.get(What::Node, "n1").unwrap());
    change(&mut node);
    scene.by(Who::Infra, What::Node, node)
}

fn taint(node: &mut Value) {
    node["spec"]["taints"] = json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
}

#[test]
fn i27_only_the_own_host_is_switched_off_and_only_while_that_is_wanted() {
    remediated().change(Who::Infra, What::Host, "h1", switch_off).holds();
    running().change(Who::Infra, What::Host, "h1", switch_off).breaks("i27_own_host");
    let mut scene = running();
    scene.given(What::Remediation, remediation("Waiting"));
    scene.change(Who::Infra, What::Host, "h1", switch_off).breaks("i27_own_host");
    let mut scene = remediated();
    scene.given(What::Machine, machine("m2", "h2")).given(What::Host, claimed("h2", "m2"));
    scene.change(Who::Infra, What::Host, "h2", switch_off).breaks("i27_own_host");
}

#[test]
fn i27_a_host_is_switched_off_no_more_often_than_allowed() {
    let mut scene = off();
    for _ in 0..2 {
        scene.change(Who::Infra, What::Host, "h1", let_on).holds();
        scene.change(Who::Infra, What::Host, "h1", switch_off);
    }
    scene.breaks("i27_counted");
}

#[test]
fn i27_a_node_is_fenced_only_while_its_host_is_off() {
    of_node(&mut off(), taint).holds();
    of_node(&mut remediated(), taint).breaks("i27_fenced");
    let mut scene = remediated();
    scene.change(Who::Infra, What::Host, "h1", switch_off).holds();
    of_node(&mut scene, taint).breaks("i27_fenced");
    let mut scene = remediated();
    scene.see(Who::Infra, Fence::Version, Verb::Delete, What::Node, "n1", None).breaks("i27_fenced");
    let mut scene = off();
    scene.see(Who::Infra, Fence::Version, Verb::Delete, What::Node, "n1", None).breaks("i27_fenced");
    let mut scene = off();
    scene.change(Who::Infra, What::Remediation, "r1", |remediation| {
        remediation["metadata"]["annotations"] = json!({annotation::NODE_LABELS_BACKUP: "{}"});
    });
    scene.see(Who::Infra, Fence::Version, Verb::Delete, What::Node, "n1", None).holds();
}

#[test]
fn i27_a_node_carries_what_its_host_says_and_what_it_had() {
    let labelled =
        |value: &'static str| move |object: &mut Value| object["metadata"]["labels"]["x.io/a"] = value.into();
    let mut scene = remediated();
    of_node(&mut scene, labelled("1")).breaks("i27_node_as_it_was");
    let mut scene = remediated();
    scene.change(Who::Other, What::Host, "h1", labelled("1"));
    of_node(&mut scene, labelled("1")).holds();
    of_node(&mut scene, labelled("2")).breaks("i27_node_as_it_was");
    let mut scene = remediated();
    scene.change(Who::Infra, What::Remediation, "r1", |remediation| {
        remediation["metadata"]["annotations"] = json!({annotation::NODE_LABELS_BACKUP: "{\"x.io/a\":\"1\"}"});
    });
    of_node(&mut scene, labelled("1")).holds();
    of_node(&mut scene, labelled("2")).breaks("i27_node_as_it_was");
}

#[test]
fn i11_a_remediation_goes_when_its_host_is_let_on() {
    off().change(Who::Infra, What::Remediation, "r1", without_finalizers).breaks("i11_undone_first");
    let mut scene = off();
    scene.change(Who::Infra, What::Host, "h1", let_on);
    scene.change(Who::Infra, What::Remediation, "r1", without_finalizers).holds();
}

#[test]
fn i4_nobody_is_off_for_nobody() {
    let mut scene = off();
    scene.ends(Who::Other, Verb::Delete, What::Remediation, "r1").rests_badly("i4_nothing_left");
    let mut scene = off();
    of_node(&mut scene, taint).holds();
    scene.change(Who::Infra, What::Host, "h1", let_on);
    scene.change(Who::Infra, What::Remediation, "r1", without_finalizers).rests_badly("i4_nothing_left");
}

#[test]
fn i18_of_a_machine_only_that_it_is_handed_over() {
    let given = || {
        let mut scene = Scene::new();
        let ready = json!({"type": "Ready", "status": "False"});
        scene.given(What::CapiMachine, object("m1", json!({"status": {"phase": "Running", "conditions": [ready]}})));
        scene
    };
    let hand_over = |machine: &mut Value| {
        let said = json!({"type": "OwnerRemediated", "status": "False"});
        machine["status"]["conditions"].as_array_mut().unwrap().push(said.clone());
        machine["status"]["deprecated"]["v1beta1"]["conditions"] = json!([said]);
    };
    given().change(Who::Infra, What::CapiMachine, "m1", hand_over).holds();
    given()
        .change(Who::Infra, What::CapiMachine, "m1", |machine| machine["status"]["phase"] = "Failed".into())
        .breaks("i18_only_our_own");
}
