//! What is looked at once nothing happens any more: I4, I16.

use super::*;

#[test]
fn i4_what_is_left_of_what_is_gone_is_found() {
    let mut scene = running();
    scene.rests().ends(Who::Infra, Verb::Patch, What::Machine, "m1").rests_badly("i4_nothing_left");
    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", without_finalizers).ends(
        Who::Other,
        Verb::Delete,
        What::Machine,
        "m1",
    );
    scene.rests(); // somebody took the finalizer off

    let mut scene = running();
    scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = Value::Null);
    scene.rests_badly("i4_nothing_left"); // with the image on it

    for (what, object) in [
        (What::Data, answering(0, "c1")),
        (What::DataClaim, data_claim("m9")),
        (What::Address, address("a", "192.0.2.10")),
        (What::Claim, object("c", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}))),
        (What::Secret, object("s", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}))),
    ] {
        Scene::new().by(Who::Infra, what, object).rests_badly("i4_nothing_left");
    }
    let mut scene = Scene::new();
    scene.given(What::DataClaim, data_claim("m1")).given(What::Machine, machine("m1", "h1")).rests();
}

#[test]
fn i4_what_does_not_go_is_found() {
    let going = |mut object: Value| {
        leaves(&mut object);
        object
    };
    for (what, object) in [
        (What::Machine, machine("m1", "h1")),
        (What::Pool, pool()),
        (What::Claim, object("c", json!({"metadata": {"finalizers": [finalizer::IP_CLAIM]}}))),
        (What::DataTemplate, object("t", json!({"metadata": {"finalizers": [finalizer::DATA_TEMPLATE]}}))),
        (What::Metal3Cluster, object("k", json!({"metadata": {"finalizers": [finalizer::CLUSTER]}}))),
    ] {
        Scene::new().given(what, going(object)).rests_badly("i4_nothing_stuck");
    }
    let mut busy = claimed("h1", "m1");
    busy["status"]["provisioning"]["state"] = "deprovisioning".into();
    Scene::new().given(What::Machine, going(machine("m1", "h1"))).given(What::Host, busy).rests();
    let mut paused = going(pool());
    paused["metadata"]["annotations"] = json!({annotation::PAUSED: ""});
    Scene::new().given(What::Pool, paused).rests();
}

#[test]
fn i16_lists_say_what_there_is() {
    let mut scene = pool_with(&[("a", "192.0.2.10")]);
    scene.rests_badly("i16_counted");
    scene.given(What::Address, address("a", "192.0.2.10"));
    scene.given(What::Claim, object("a", json!({"spec": {"pool": {"name": "p"}}}))).rests();
    scene
        .change(Who::Other, What::Pool, "p", |pool| pool["status"]["ipAddresses"] = json!({"used": 2}))
        .rests_badly("i16_counted");
    let mut scene = Scene::new();
    scene
        .given(What::DataTemplate, object("t", json!({"status": {"indexes": [{"index": 0, "name": "m1"}]}})))
        .rests_badly("i16_counted");
    scene
        .given(What::Data, answering(0, "m1"))
        .given(What::DataClaim, data_claim("m1"))
        .given(What::Machine, machine("m1", "h1"))
        .rests();
}
