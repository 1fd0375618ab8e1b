//! Who holds which address, and which are given: I2, I15.

use super::*;

#[test]
fn i2_an_address_is_held_once_whatever_the_kind() {
    let capi = json!({"spec": {"address": "192.0.2.10", "claimRef": {"name": "b"},
                               "poolRef": {"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": "p"}}});
    let mut scene = pool_with(&[("a", "192.0.2.10"), ("b", "192.0.2.10")]);
    scene.by(Who::Ipam, What::Address, address("a", "192.0.2.10")).holds();
    scene.by(Who::Ipam, What::CapiAddress, object("p-10", capi.clone())).breaks("i2_one_holder");
    let mut scene = pool_with(&[("a", "192.0.2.10"), ("b", "192.0.2.10")]);
    let mut other = capi;
    other["spec"]["poolRef"]["kind"] = "OtherPool".into();
    scene.by(Who::Ipam, What::Address, address("a", "192.0.2.10"));
    scene.by(Who::Infra, What::CapiAddress, object("p-10", other)).holds();
}

#[test]
fn i2_a_claim_is_answered_with_its_own_address() {
    let answer = |claim: &mut Value| claim["status"]["address"] = json!({"name": "p-192.0.2.10", "namespace": "ns"});
    for (claim, wrong) in [("b", true), ("a", false)] {
        let mut scene = pool_with(&[("a", "192.0.2.10")]);
        scene.given(What::Claim, object(claim, json!({"spec": {"pool": {"name": "p"}}})));
        scene.by(Who::Ipam, What::Address, address("a", "192.0.2.10"));
        scene.change(Who::Ipam, What::Claim, claim, answer);
        if wrong {
            scene.breaks("i2_own_address")
        } else {
            scene.holds();
        }
    }
}

#[test]
fn i15_a_pool_gives_what_is_its_to_give() {
    let reserve = |claim: &str, at: &str| {
        let mut scene = Scene::new();
        scene.given(What::Pool, pool());
        let wish = object(
            "wish",
            json!({"metadata": {"annotations": {"ipAddress": "192.0.2.19"}}, "spec": {"pool": {"name": "p"}}}),
        );
        scene.given(What::Claim, wish);
        scene.change(Who::Ipam, What::Pool, "p", |pool| pool["status"]["indexes"][claim] = at.into());
        scene
    };
    for (claim, at) in [
        ("a", "192.0.2.9"),
        ("a", "192.0.2.15"),
        ("a", "192.0.2.12"),
        ("kept", "192.0.2.10"),
        ("wish", "192.0.2.10"),
        ("a", "x"),
    ] {
        reserve(claim, at).breaks("i15_reservable");
    }
    for (claim, at) in [("a", "192.0.2.10"), ("a", "192.0.2.20"), ("kept", "192.0.2.12"), ("wish", "192.0.2.19")] {
        reserve(claim, at).holds();
    }
    let of_range = |range: Value, at: &str| {
        let mut scene = Scene::new();
        let mut pool = pool();
        pool["spec"]["pools"] = json!([range]);
        scene.given(What::Pool, pool);
        scene.change(Who::Ipam, What::Pool, "p", |pool| pool["status"]["indexes"]["a"] = at.into());
        scene.state.violations.is_empty()
    };
    let subnet = || json!({"subnet": "192.0.2.64/28"});
    assert!(of_range(subnet(), "192.0.2.65") && of_range(subnet(), "192.0.2.79"));
    assert!(
        !of_range(subnet(), "192.0.2.64") && !of_range(subnet(), "192.0.2.80") && !of_range(subnet(), "2001:db8::1")
    );
    assert!(of_range(json!({"subnet": "2001:db8::/32"}), "2001:db8:ffff::1"));
    assert!(!of_range(json!({"subnet": "192.0.2.64/28", "end": "192.0.2.66"}), "192.0.2.67"));
    assert!(!of_range(json!({"end": "192.0.2.66"}), "192.0.2.65"));
}

#[test]
fn i15_an_address_is_reserved_before_it_is_made() {
    let made = |reserved: &[(&str, &str)], claimed: bool| {
        let mut scene = pool_with(reserved);
        if claimed {
            scene.given(What::Claim, object("a", json!({"spec": {"pool": {"name": "p"}}})));
        }
        scene.by(Who::Ipam, What::Address, address("a", "192.0.2.10"));
        scene
    };
    made(&[], true).breaks("i15_reserved_first");
    made(&[("b", "192.0.2.10")], true).breaks("i15_reserved_first");
    made(&[("a", "192.0.2.10")], true).holds();
    made(&[], false).holds(); // its claim is gone, and so will it be
}
