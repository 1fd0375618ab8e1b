//! Who a machine is, and what it has reached: I12, I13.

use super::*;

#[test]
fn i12_a_provider_id_is_given_once_and_is_the_nodes() {
    let identify = |id: &'static str| move |object: &mut Value| object["spec"]["providerID"] = id.into();
    const ID: &str = "metal3://ns/h1/m1";
    running().change(Who::Infra, What::Machine, "m1", identify(ID)).holds();
    for wrong in ["", "metal3://h1", "metal3://ns/h2/m1", "metal3://ns/h1/m2"] {
        let mut scene = running();
        if wrong.is_empty() {
            scene.change(Who::Other, What::Machine, "m1", identify(ID));
        }
        scene.change(Who::Infra, What::Machine, "m1", identify(wrong)).breaks("i12_one_provider_id");
    }
    let node = |id: &str| json!({"metadata": {"name": "n", "labels": {"metal3.io/uuid": "uid-h1"}}, "spec": {"providerID": id}});
    let mut scene = running();
    scene.given(What::Node, node("metal3://ns/h1/other"));
    scene.change(Who::Infra, What::Machine, "m1", identify(ID)).breaks("i12_one_provider_id");
    let mut scene = running();
    scene.given(What::Node, node("")).by(Who::Infra, What::Node, node(ID)).holds();
    scene.by(Who::Infra, What::Node, node("metal3://ns/h1/m9")).breaks("i12_one_provider_id");
}

#[test]
fn i13_what_was_reached_is_not_lost() {
    let status = |provisioned: bool, observed: i64| {
        move |object: &mut Value| {
            object["status"] = json!({"initialization": {"provisioned": provisioned}, "observedGeneration": observed});
        }
    };
    let mut scene = running();
    scene.change(Who::Infra, What::Machine, "m1", status(true, 1)).holds();
    scene.change(Who::Infra, What::Machine, "m1", status(false, 1)).breaks("i13_never_back");
    let mut scene = running();
    scene.change(Who::Infra, What::Machine, "m1", status(false, 2)).breaks("i13_never_back"); // not there yet
    scene.change(Who::Infra, What::Machine, "m1", status(false, 0)).breaks("i13_never_back");

    let ready = |ready: bool| move |data: &mut Value| data["status"] = json!({"ready": ready});
    let secret = object("m1-metadata", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}));
    for (there, wrong) in [(true, true), (false, false)] {
        let mut data = answering(0, "m1");
        data["spec"]["metaData"] = json!({"name": "m1-metadata"});
        let mut scene = Scene::new();
        scene.given(What::Data, data).change(Who::Infra, What::Data, "t-0", ready(true));
        if there {
            scene.given(What::Secret, secret.clone());
        }
        scene.change(Who::Infra, What::Data, "t-0", ready(false));
        if wrong {
            scene.breaks("i13_never_back")
        } else {
            scene.holds();
        }
    }
}

#[test]
fn i13_conditions_tell_what_is_so() {
    let says = |kind: &str| json!({"conditions": [{"type": kind, "status": "True"}]});
    for kind in ["Ready", "AssociateBareMetalHost"] {
        let mut machine = machine("m1", "h1");
        machine["status"] = says(kind);
        Scene::new().given(What::Machine, machine).rests_badly("i13_conditions_tell_facts");
    }
    let mut scene = running();
    scene.change(Who::Infra, What::Machine, "m1", |machine| {
        machine["status"] = says("Ready");
        machine["status"]["initialization"] = json!({"provisioned": true});
    });
    scene.rests();
    let answered =
        object("a", json!({"spec": {"pool": {"name": "p"}}, "status": {"address": {"name": "p-192.0.2.10"}}}));
    let mut scene = pool_with(&[("a", "192.0.2.10")]);
    scene.given(What::Claim, answered).rests_badly("i13_conditions_tell_facts");
    scene.given(What::Address, address("a", "192.0.2.10")).rests();
}
