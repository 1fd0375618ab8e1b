//! What is undone before a finalizer goes: I11.

use super::*;

#[test]
fn i11_a_finalizer_goes_when_nothing_is_left() {
    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", leaves);
    scene.ends(Who::Infra, Verb::Patch, What::Machine, "m1").breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1")).change(Who::Infra, What::Machine, "m1", without_finalizers);
    scene.breaks("i11_undone_first"); // it lives
    let mut scene = Scene::new();
    scene
        .given(What::Machine, machine("m1", "h1"))
        .change(Who::Other, What::Machine, "m1", leaves)
        .given(What::DataClaim, data_claim("m1"));
    scene.ends(Who::Infra, Verb::Patch, What::Machine, "m1").breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1")).change(Who::Other, What::Machine, "m1", leaves);
    scene.ends(Who::Infra, Verb::Patch, What::Machine, "m1").holds();
}

#[test]
fn i11_data_goes_after_its_claim_and_its_addresses() {
    let leaving = |mut object: Value| {
        leaves(&mut object);
        object
    };
    let without = |name: &'static str| {
        move |object: &mut Value| {
            object["metadata"]["finalizers"].as_array_mut().unwrap().retain(|held| held != name);
        }
    };
    // The claim of a machine whose host still runs.
    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", leaves).given(What::DataClaim, data_claim("m1"));
    scene.change(Who::Infra, What::DataClaim, "m1", without(finalizer::MACHINE)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::DataClaim, leaving(data_claim("m1"))).given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::DataClaim, "m1", without(finalizer::DATA_CLAIM)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::DataClaim, data_claim("m1")).given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::Data, "t-0", without(finalizer::DATA_CLAIM)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::DataClaim, leaving(data_claim("m1"))).given(What::Data, leaving(answering(0, "m1")));
    scene.change(Who::Infra, What::Data, "t-0", without(finalizer::DATA)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    let claim = object(
        "c",
        json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0"), "finalizers": [finalizer::DATA]}}),
    );
    scene.given(What::Claim, claim.clone()).given(What::Data, leaving(answering(0, "m1")));
    scene.change(Who::Infra, What::Data, "t-0", without(finalizer::DATA)).breaks("i11_undone_first");
    scene
        .change(Who::Infra, What::Claim, "c", without(finalizer::DATA))
        .change(Who::Infra, What::Claim, "c", leaves)
        .holds();
    let mut scene = Scene::new();
    scene.given(What::Claim, claim).given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::Claim, "c", without(finalizer::DATA)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene
        .given(What::Data, leaving(answering(0, "m1")))
        .change(Who::Infra, What::Data, "t-0", without(finalizer::DATA))
        .holds();
}

#[test]
fn i11_an_address_goes_before_its_claim_and_not_before_that_leaves() {
    let claim = |held: &[&str], leaving: bool| {
        let mut claim = object("a", json!({"metadata": {"finalizers": held}, "spec": {"pool": {"name": "p"}}}));
        if leaving {
            leaves(&mut claim);
        }
        claim
    };
    let given = |claim: Value| {
        let mut scene = pool_with(&[("a", "192.0.2.10")]);
        scene.given(What::Claim, claim).given(What::Address, address("a", "192.0.2.10"));
        scene
    };
    let take = |scene: &mut Scene, what, name: &str| {
        scene.change(Who::Ipam, what, name, without_finalizers);
    };
    let mut scene = given(claim(&[finalizer::IP_CLAIM], true));
    take(&mut scene, What::Claim, "a");
    scene.breaks("i11_undone_first");
    for claim in [claim(&[finalizer::IP_CLAIM], false), claim(&[finalizer::IP_CLAIM, finalizer::DATA], true)] {
        let mut scene = given(claim);
        take(&mut scene, What::Address, "p-192.0.2.10");
        scene.breaks("i11_undone_first");
    }
    let mut scene = given(claim(&[finalizer::IP_CLAIM], true));
    take(&mut scene, What::Address, "p-192.0.2.10");
    scene.ends(Who::Ipam, Verb::Delete, What::Address, "p-192.0.2.10");
    scene.ends(Who::Ipam, Verb::Patch, What::Claim, "a").holds();
    let mut scene = given(claim(&[], false));
    take(&mut scene, What::Pool, "p");
    scene.breaks("i11_undone_first");
}

#[test]
fn i11_templates_and_clusters_outlive_what_uses_them() {
    let template = object("t", json!({"metadata": {"finalizers": [finalizer::DATA_TEMPLATE]}}));
    let mut scene = Scene::new();
    scene.given(What::DataTemplate, template.clone()).given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::DataTemplate, "t", without_finalizers).breaks("i11_undone_first");
    Scene::new()
        .given(What::DataTemplate, template)
        .change(Who::Infra, What::DataTemplate, "t", without_finalizers)
        .holds();

    let mut cluster = object(
        "k",
        json!({"metadata": {"finalizers": [finalizer::CLUSTER], "ownerReferences": owner("Cluster", "prod")}}),
    );
    leaves(&mut cluster);
    let of_cluster = json!({"metadata": {"labels": {"cluster.x-k8s.io/cluster-name": "prod"}}});
    let kept = json!({"spec": {"consumerRef": {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "namespace": "ns", "name": "prod"}}});
    for (what, held) in [(What::CapiMachine, object("m", of_cluster)), (What::Host, object("h", kept))] {
        let mut scene = Scene::new();
        scene.given(What::Metal3Cluster, cluster.clone()).given(what, held);
        scene.change(Who::Infra, What::Metal3Cluster, "k", without_finalizers).breaks("i11_undone_first");
    }
    Scene::new()
        .given(What::Metal3Cluster, cluster)
        .change(Who::Infra, What::Metal3Cluster, "k", without_finalizers)
        .holds();
}
