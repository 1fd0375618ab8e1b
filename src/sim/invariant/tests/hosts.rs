//! Who has a host, who may have it, and what it is told to run: I1, I7 to I10.

use super::*;

#[test]
fn i1_a_host_changes_hands_only_by_a_release() {
    running()
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = consumer("m2"))
        .breaks("i1_one_consumer");
    running()
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = Value::Null)
        .breaks("i1_one_consumer");
    let foreign = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "HostClaim", "namespace": "ns", "name": "x"});
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1"));
    scene.given(What::Host, object("h1", json!({"spec": {"consumerRef": foreign}})));
    scene.by(Who::Infra, What::Host, claimed("h1", "m1")).breaks("i1_one_consumer");

    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", leaves);
    scene.change(Who::Infra, What::Host, "h1", |host| {
        for field in ["image", "userData"] {
            host["spec"].as_object_mut().unwrap().shift_remove(field);
        }
    });
    scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = Value::Null).holds();
    scene.given(What::Machine, machine("m2", "h1")).by(Who::Infra, What::Host, claimed("h1", "m2")).holds();
}

#[test]
fn i7_only_the_machine_that_has_a_host_decides_about_it() {
    Scene::new().given(What::Host, host("h1")).change(Who::Infra, What::Host, "h1", deploy).breaks("i7_exact_consumer");
    // It lives, and is cleared.
    running()
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["image"] = Value::Null)
        .breaks("i7_exact_consumer");
    // A later machine of that name, which knows nothing of the host.
    let mut scene = running();
    let mut later = machine("m1", "h1");
    later["metadata"]["uid"] = "later".into();
    later["metadata"]["annotations"] = Value::Null;
    scene.ends(Who::Infra, Verb::Patch, What::Machine, "m1");
    scene.state.violations.clear();
    scene
        .given(What::Machine, later)
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["online"] = false.into());
    scene.breaks("i7_exact_consumer");
    let image = json!({"url": "http://elsewhere/image"});
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1")).given(What::Host, claimed("h1", "m1"));
    scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["image"] = image).breaks("i7_exact_consumer");
    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", leaves);
    scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["image"] = Value::Null).holds();
}

#[test]
fn i8_a_machine_has_one_host() {
    let mut scene = running();
    scene.given(What::Host, host("h2")).by(Who::Infra, What::Host, claimed("h2", "m1")).breaks("i8_one_host");
    let mut scene = running();
    scene.given(What::Host, host("h2")).given(What::Machine, machine("m2", "h2"));
    scene.by(Who::Infra, What::Host, claimed("h2", "m2")).holds();
}

#[test]
fn i9_only_a_free_host_that_is_well_is_claimed() {
    let claim = |host: Value, machine: Value| {
        let mut scene = Scene::new();
        scene.given(What::Machine, machine).given(What::Host, host);
        scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = consumer("m1"));
        scene
    };
    let with = |rest: Value| {
        let mut host = host("h1");
        merge(&mut host, rest);
        host
    };
    let annotated = |key: &str| with(json!({"metadata": {"annotations": {key: ""}}}));
    claim(host("h1"), machine("m1", "h1")).holds();
    for host in [
        with(json!({"metadata": {"deletionTimestamp": "2026-08-01T00:00:00Z"}})),
        annotated(annotation::HOST_PAUSED),
        annotated(annotation::HOST_DETACHED),
        annotated(annotation::UNHEALTHY),
        with(json!({"status": {"errorMessage": "broken"}})),
        with(json!({"status": {"provisioning": {"state": "inspecting"}}})),
        with(json!({"spec": {"image": {"url": "x"}}})),
        with(json!({"metadata": {"labels": {"infrastructure.cluster.x-k8s.io/node-reuse": "md-other"}}})),
    ] {
        claim(host, machine("m1", "h1")).breaks("i9_claimable");
    }
    let selecting = |selector: Value| {
        let mut machine = machine("m1", "h1");
        machine["spec"]["hostSelector"] = selector;
        machine
    };
    let gold = || with(json!({"metadata": {"labels": {"rack": "gold"}}}));
    claim(gold(), selecting(json!({"matchLabels": {"rack": "gold"}}))).holds();
    claim(host("h1"), selecting(json!({"matchLabels": {"rack": "gold"}}))).breaks("i9_claimable");
    let expression =
        |operator: &str| json!({"matchExpressions": [{"key": "rack", "operator": operator, "values": ["gold"]}]});
    claim(gold(), selecting(expression("in"))).holds();
    claim(gold(), selecting(expression("NotIn"))).breaks("i9_claimable");
    claim(host("h1"), machine("m1", "h2")).breaks("i9_claimable");
    let mut leaving = machine("m1", "h1");
    leaves(&mut leaving);
    claim(host("h1"), leaving).breaks("i9_claimable");
    // It had the host, and somebody took it away.
    let mut returning = machine("m1", "h1");
    returning["spec"]["providerID"] = "metal3://ns/h1/m1".into();
    claim(with(json!({"status": {"provisioning": {"state": "provisioned"}}})), returning).holds();
}

#[test]
fn i10_what_a_host_is_to_run_comes_last_and_once() {
    let deployed = |mut machine: Value, change: fn(&mut Value)| {
        change(&mut machine);
        let mut scene = Scene::new();
        scene.given(What::Machine, machine).given(What::Host, claimed("h1", "m1"));
        scene.change(Who::Infra, What::Host, "h1", deploy);
        scene
    };
    deployed(machine("m1", "h1"), |_| {}).holds();
    deployed(machine("m1", "h1"), |machine| machine["metadata"]["finalizers"] = json!([])).breaks("i10_durable_first");
    deployed(machine("m1", "h1"), |machine| machine["spec"]["dataTemplate"] = json!({"name": "t"}))
        .breaks("i10_durable_first");
    deployed(machine("m1", "h1"), |machine| machine["status"]["initialization"] = json!({"provisioned": true}))
        .breaks("i10_durable_first");
    running()
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["image"]["checksum"] = "other".into())
        .breaks("i10_durable_first");

    let with_data = |secret: bool| {
        let mut machine = machine("m1", "h1");
        machine["spec"]["dataTemplate"] = json!({"name": "t"});
        machine["status"]["renderedData"] = json!({"name": "t-0"});
        let mut data = answering(0, "m1");
        data["status"] = json!({"ready": true});
        let mut scene = Scene::new();
        scene.given(What::Machine, machine).given(What::Host, claimed("h1", "m1")).given(What::Data, data);
        if secret {
            scene.given(What::Secret, object("m1-metadata", json!({})));
        }
        scene.change(Who::Infra, What::Host, "h1", |host| {
            deploy(host);
            host["spec"]["metaData"] = json!({"name": "m1-metadata", "namespace": "ns"});
        });
        scene
    };
    with_data(true).holds();
    with_data(false).breaks("i10_durable_first");
}
