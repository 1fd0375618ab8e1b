//! One index, one data and one rendering: I3, I14.

use super::*;

#[test]
fn i3_an_index_has_one_data() {
    let mut scene = Scene::new();
    scene.by(Who::Infra, What::Data, answering(0, "c1")).by(Who::Infra, What::Data, answering(1, "c2")).holds();
    let mut twin = answering(1, "c3");
    twin["metadata"]["name"] = "other-1".into();
    scene.by(Who::Infra, What::Data, twin).breaks("i3_one_index");
}

#[test]
fn i3_a_claim_has_one_data_that_counts() {
    let ready = |data: &mut Value| data["status"]["ready"] = true.into();
    let two = |named: Option<&str>| {
        let mut claim = data_claim("m1");
        claim["status"]["renderedData"] = named.map_or(Value::Null, |name| json!({"name": name}));
        let mut scene = Scene::new();
        scene.given(What::Machine, machine("m1", "h1")).given(What::DataClaim, claim);
        scene.by(Who::Infra, What::Data, answering(0, "m1")).by(Who::Infra, What::Data, answering(1, "m1"));
        scene
    };
    two(None).holds().rests_badly("i3_one_data_left");
    two(Some("t-0")).change(Who::Infra, What::Data, "t-1", ready).breaks("i3_one_data");
    let mut scene = two(None);
    scene.change(Who::Infra, What::Data, "t-0", ready).holds();
    scene.change(Who::Infra, What::Data, "t-1", ready).breaks("i3_one_data");
    let mut scene = two(Some("t-0"));
    scene.change(Who::Infra, What::Data, "t-0", ready).change(Who::Infra, What::Data, "t-1", leaves);
    scene.ends(Who::Infra, Verb::Patch, What::Data, "t-1");
    scene.state.violations.clear();
    scene.rests();
}

#[test]
fn i14_a_secret_is_rendered_once() {
    let secret = |content: &str| {
        let metadata = json!({"ownerReferences": owner("Metal3Data", "t-0")});
        object("m1-metadata", json!({"metadata": metadata, "data": {"metaData": content}}))
    };
    let mut scene = Scene::new();
    scene.given(What::Data, answering(0, "m1")).by(Who::Infra, What::Secret, secret("one")).holds();
    scene.by(Who::Infra, What::Secret, secret("two")).breaks("i14_rendered_once");
    scene.ends(Who::Infra, Verb::Delete, What::Secret, "m1-metadata").breaks("i14_rendered_once");
    scene.by(Who::Infra, What::Secret, secret("three")).breaks("i14_rendered_once"); // from the same sources
    scene.ends(Who::Other, Verb::Delete, What::Secret, "m1-metadata");
    scene.by(Who::Infra, What::Secret, secret("three")).holds();
    Scene::new().by(Who::Infra, What::Secret, object("stray", json!({}))).breaks("i14_rendered_once");
    let labelled = object(
        "bmc",
        json!({"metadata": {"labels": {"cluster.x-k8s.io/cluster-name": "prod"}}, "data": {"password": "x"}}),
    );
    let plain = object("bmc", json!({"data": {"password": "x"}}));
    Scene::new().given(What::Secret, plain).by(Who::Infra, What::Secret, labelled).holds();
}
