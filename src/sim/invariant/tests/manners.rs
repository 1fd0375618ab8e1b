//! How anything is written: I5, I17 to I20, I22, I30.

use super::*;

#[test]
fn i5_what_is_in_a_secret_is_nowhere_else() {
    use base64::Engine;
    let encoded = |before: &str| base64::engine::general_purpose::STANDARD.encode(format!("{before}{MARKER} and more"));
    for leak in [format!("cannot parse {MARKER}!"), encoded(""), encoded("a"), encoded("ab"), encoded("abc")] {
        let status = json!({"status": {"errorMessage": leak}});
        Scene::new()
            .given(What::Claim, object("c", json!({})))
            .by(Who::Ipam, What::Claim, object("c", status))
            .breaks("i5_no_secret_content");
        let event = json!({"reason": "R", "message": leak, "involvedObject": {"namespace": "ns", "name": "x"}});
        Scene::new().by(Who::Infra, What::Event, object("e", event)).breaks("i5_no_secret_content");
    }
    let secret = object(
        "s",
        json!({"data": {"value": encoded("")}, "metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}),
    );
    Scene::new().by(Who::Infra, What::Secret, secret).holds();
}

#[test]
fn i17_what_is_paused_is_left_alone() {
    let paused = |mut object: Value| {
        object["metadata"]["annotations"][annotation::PAUSED] = "".into();
        object
    };
    let mut scene = Scene::new();
    scene.given(What::Pool, paused(pool()));
    scene.change(Who::Ipam, What::Pool, "p", |pool| {
        pool["metadata"]["labels"] = json!({"cluster.x-k8s.io/cluster-name": "x"})
    });
    scene.breaks("i17_paused_is_quiet");
    let mut scene = Scene::new();
    scene.given(What::Machine, paused(machine("m1", "h1")));
    scene.change(Who::Infra, What::Machine, "m1", |machine| machine["status"]["ready"] = false.into()).holds();
    scene
        .change(Who::Infra, What::Machine, "m1", |machine| machine["metadata"]["annotations"] = json!({}))
        .breaks("i17_paused_is_quiet");

    let mut pool = pool();
    pool["metadata"]["labels"] = json!({"cluster.x-k8s.io/cluster-name": "prod"});
    let mut scene = Scene::new();
    scene.given(What::Pool, pool).given(What::Cluster, object("prod", json!({"spec": {"paused": true}})));
    let reserve = |at: &'static str| move |pool: &mut Value| pool["status"]["indexes"]["a"] = at.into();
    scene.change(Who::Ipam, What::Pool, "p", reserve("192.0.2.10")).holds(); // it was under way
    scene.now = 3600;
    scene.change(Who::Ipam, What::Pool, "p", reserve("192.0.2.11")).breaks("i17_paused_is_quiet");
    scene.given(What::Cluster, object("prod", json!({})));
    scene.change(Who::Ipam, What::Pool, "p", reserve("192.0.2.10")).holds();
}

#[test]
fn i17_a_pause_of_somebody_else_stays() {
    for (value, wrong) in [("", true), ("metal3.io/capm3", false)] {
        let mut host = claimed("h1", "m1");
        host["metadata"]["annotations"] = json!({annotation::HOST_PAUSED: value});
        let mut scene = Scene::new();
        scene.given(What::Host, host);
        scene.change(Who::Infra, What::Host, "h1", |host| host["metadata"]["annotations"] = json!({}));
        if wrong {
            scene.breaks("i17_paused_is_quiet")
        } else {
            scene.holds();
        }
    }
}

#[test]
fn i18_what_is_not_ours_stays_as_it_is() {
    let change = |what, object: Value, change: fn(&mut Value)| {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut scene = Scene::new();
        scene.given(what, object).change(Who::Infra, what, &name, change);
        scene
    };
    let full = || {
        let metadata = json!({
            "labels": {"rack": "1"}, "annotations": {"note": "x"}, "finalizers": ["foreign/one"],
            "ownerReferences": owner("Thing", "x"),
        });
        let mut host = claimed("h1", "m1");
        merge(&mut host, json!({"metadata": metadata, "spec": {"bootMACAddress": "02:00:00:00:00:01"}}));
        host
    };
    for wrong in [
        |host: &mut Value| host["metadata"]["labels"] = json!({}),
        |host: &mut Value| host["metadata"]["annotations"]["note"] = "y".into(),
        |host: &mut Value| host["metadata"]["finalizers"] = json!([]),
        |host: &mut Value| host["metadata"]["ownerReferences"] = json!([]),
        |host: &mut Value| host["spec"]["bootMACAddress"] = "02:00:00:00:00:02".into(),
        |host: &mut Value| host["status"]["provisioning"]["state"] = "ready".into(),
    ] {
        change(What::Host, full(), wrong).breaks("i18_only_our_own");
    }
    change(What::Cluster, object("prod", json!({"spec": {}})), |cluster| cluster["spec"]["paused"] = true.into())
        .breaks("i18_only_our_own");
    change(What::Host, full(), |host| host["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] = "prod".into())
        .holds();
    Scene::new().by(Who::Infra, What::Other, object("x", json!({}))).breaks("i18_other_kinds");
}

#[test]
fn i18_nothing_is_deleted_that_is_wanted() {
    let mut scene = Scene::new();
    scene.given(What::Host, host("h1")).ends(Who::Infra, Verb::Delete, What::Host, "h1").breaks("i18_only_our_own");
    let mut scene = Scene::new();
    scene.given(What::DataClaim, data_claim("m1")).given(What::Data, answering(0, "m1"));
    scene.ends(Who::Infra, Verb::Delete, What::Data, "t-0").breaks("i18_only_our_own");
    let mut scene = Scene::new();
    scene
        .given(What::DataClaim, data_claim("m1"))
        .change(Who::Other, What::DataClaim, "m1", leaves)
        .given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::Data, "t-0", without_finalizers);
    scene.state.violations.clear();
    scene.ends(Who::Infra, Verb::Delete, What::Data, "t-0").holds();
}

#[test]
fn i18_what_somebody_took_the_owner_from_is_still_ours() {
    let claim = || object("c", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}));
    let strip = |claim: &mut Value| claim["metadata"]["ownerReferences"] = json!([]);
    let mut scene = Scene::new();
    scene.given(What::Claim, claim()).change(Who::Other, What::Claim, "c", strip);
    scene.ends(Who::Infra, Verb::Delete, What::Claim, "c").holds();
    Scene::new()
        .given(What::Claim, object("c", json!({})))
        .ends(Who::Infra, Verb::Delete, What::Claim, "c")
        .breaks("i18_only_our_own");
}

#[test]
fn i19_nothing_leads_into_another_namespace() {
    let mut scene = running();
    scene.change(Who::Infra, What::Host, "h1", |host| {
        host["spec"]["networkData"] = json!({"name": "x", "namespace": "far"})
    });
    scene.breaks("i19_own_namespace");
    let mut scene = running();
    scene.change(Who::Infra, What::Machine, "m1", |machine| {
        machine["metadata"]["annotations"][annotation::HOST] = "far/h1".into()
    });
    scene.breaks("i19_own_namespace");
    running()
        .change(Who::Infra, What::Host, "h1", |host| {
            host["spec"]["networkData"] = json!({"name": "x", "namespace": "ns"})
        })
        .holds();
}

#[test]
fn i20_what_decides_is_fenced() {
    let loose = |fence, what, before: Value, after: Value| {
        let mut scene = Scene::new();
        scene.given(What::Machine, machine("m1", "h1")).given(what, before).write(Who::Infra, fence, what, after);
        scene
    };
    for fence in [Fence::None, Fence::Uid] {
        loose(fence, What::Host, host("h1"), claimed("h1", "m1")).breaks("i20_fenced");
        loose(
            fence,
            What::Claim,
            object("c", json!({})),
            object("c", json!({"metadata": {"finalizers": [finalizer::DATA]}})),
        )
        .breaks("i20_fenced");
    }
    loose(Fence::Version, What::Host, host("h1"), claimed("h1", "m1")).holds();
    let told = object("c", json!({"status": {"errorMessage": "x"}}));
    loose(Fence::None, What::Claim, object("c", json!({})), told.clone()).breaks("i20_fenced");
    loose(Fence::Uid, What::Claim, object("c", json!({})), told).holds();
    let mut scene = Scene::new();
    let claim = object("c", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}));
    scene
        .given(What::Claim, claim)
        .see(Who::Infra, Fence::None, Verb::Delete, What::Claim, "ns/c", None)
        .breaks("i20_fenced");
    Scene::new()
        .by(Who::Infra, What::DataClaim, object("m1-x2", json!({"metadata": {"generateName": "m1-"}})))
        .breaks("i20_fenced");
}

#[test]
fn i22_a_write_says_something_new() {
    let at = |time: &str| {
        object(
            "t",
            json!({"status": {"lastUpdated": time, "conditions": [{"type": "Ready", "lastTransitionTime": time}]}}),
        )
    };
    let mut scene = Scene::new();
    scene.given(What::DataTemplate, at("1")).by(Who::Infra, What::DataTemplate, at("2")).breaks("i22_no_idle_write");
    let mut other = at("3");
    other["status"]["ready"] = true.into();
    scene.by(Who::Infra, What::DataTemplate, other).holds();
    let mut scene = Scene::new();
    scene
        .given(What::Pool, pool())
        .change(Who::Ipam, What::Pool, "p", |pool| pool["status"]["lastUpdated"] = "1".into());
    scene.holds();
}

#[test]
fn i22_nobody_writes_for_ever() {
    let flap = |scene: &mut Scene, turn: usize| {
        scene.change(Who::Infra, What::Machine, "m1", |machine| {
            machine["status"]["ready"] = turn.is_multiple_of(2).into()
        });
    };
    let mut scene = running();
    (0..20).for_each(|turn| flap(&mut scene, turn));
    scene.given(What::Host, host("h9")).holds(); // somebody did something
    (0..20).for_each(|turn| flap(&mut scene, turn));
    scene.holds();
    (0..9).for_each(|turn| flap(&mut scene, turn));
    scene.breaks("i22_no_busy_loop");
}

#[test]
fn i30_an_event_says_about_what_it_is() {
    let event = |change: fn(&mut Value)| {
        let mut event = object(
            "e",
            json!({"reason": "HostClaimed", "note": "claimed", "regarding": {"namespace": "ns", "name": "m1"}}),
        );
        change(&mut event);
        let mut scene = Scene::new();
        scene.by(Who::Infra, What::Event, event);
        scene
    };
    event(|_| {}).holds();
    event(|event| event["regarding"]["name"] = "".into()).breaks("i30_told");
    event(|event| event["regarding"]["namespace"] = "far".into()).breaks("i30_told");
    event(|event| event["reason"] = "".into()).breaks("i30_told");
    event(|event| event["note"] = "x".repeat(1025).into()).breaks("i30_told");
}
