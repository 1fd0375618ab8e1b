//! Conversion rule by rule: the directed rows of api-types 10 and the rows of data-rendering 14.13.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "objects are written in place; a test may fail")]

mod support;

use capm3_api::convert::{ConvertError, convert};
use serde_json::{Value, json};
use support::kinds;

const OLD: &str = "infrastructure.cluster.x-k8s.io/v1beta1";
const NEW: &str = "infrastructure.cluster.x-k8s.io/v1beta2";
const ANNOTATION: &str = "cluster.x-k8s.io/conversion-data";

fn up(object: Value) -> Value {
    convert(object, NEW).unwrap()
}

fn down(object: Value) -> Value {
    convert(object, OLD).unwrap()
}

fn old(kind: &str, body: Value) -> Value {
    with(json!({"apiVersion": OLD, "kind": kind, "metadata": {"name": "n"}}), body)
}

fn new(kind: &str, body: Value) -> Value {
    with(json!({"apiVersion": NEW, "kind": kind, "metadata": {"name": "n"}}), body)
}

fn with(mut object: Value, body: Value) -> Value {
    object.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    object
}

fn preserved(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str()
}

#[test]
fn ac_10_and_c_6_objects_without_spec_or_status_convert() {
    for kind in kinds() {
        for body in [json!({}), json!({"spec": {}}), json!({"status": {}}), json!({"spec": null, "status": null})] {
            let hub = up(old(&kind, body.clone()));
            assert_eq!(hub["metadata"], json!({"name": "n"}));
            down(new(&kind, body));
        }
        let only_metadata = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d", ANNOTATION: "{}"}}});
        let hub = up(old(&kind, only_metadata));
        assert_eq!(hub["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(hub["metadata"]["annotations"]["c"], "d");
    }
}

#[test]
fn ac_24_exactly_four_kinds_remember() {
    for kind in kinds() {
        let spoke =
            down(new(&kind, json!({"spec": {}, "metadata": {"annotations": {ANNOTATION: "stale", "keep": "me"}}})));
        let remembers = ["Metal3Cluster", "Metal3ClusterTemplate", "Metal3Machine", "Metal3MachineTemplate"];
        let text = preserved(&spoke).unwrap();
        assert_eq!(text != "stale", remembers.contains(&kind.as_str()), "{kind}");
        assert_eq!(spoke["metadata"]["annotations"]["keep"], "me");
        if text != "stale" {
            let remembered: Value = serde_json::from_str(text).unwrap();
            assert_eq!(remembered, json!({"apiVersion": NEW, "kind": kind, "spec": {}}));
            assert_eq!(up(spoke)["metadata"]["annotations"], json!({"keep": "me"}));
        }
    }
}

/// AC-25 asks for a failure. One object that fails makes every list of its kind unreadable, so what cannot be read counts
/// as not remembered instead: the object converts, and the text is gone.
#[test]
fn ac_25_a_malformed_annotation_counts_as_none() {
    let spec = json!({"image": {"url": "http://x/i", "checksum": "abc"}});
    let bodies =
        ["{", "5", "null", "", "[]", "\"text\"", "{\"spec\": 5, \"status\": []}", "\u{0}\u{7f}", &"[".repeat(100_000)];
    for text in bodies {
        let metadata = json!({"name": "n", "annotations": {ANNOTATION: text, "keep": "me"}});
        let hub = up(old("Metal3Machine", json!({"metadata": metadata, "spec": spec})));
        assert_eq!(hub["metadata"], json!({"name": "n", "annotations": {"keep": "me"}}), "{text:?}");
        assert_eq!(hub["spec"], spec);
    }
}

#[test]
fn c_2_what_is_not_ours_fails_and_what_is_already_there_passes() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod"});
    assert!(matches!(convert(pod, NEW), Err(ConvertError::NotOurs { .. })));
    assert!(matches!(convert(old("Metal3Pod", json!({})), NEW), Err(ConvertError::NotOurs { .. })));
    let later = convert(old("Metal3Machine", json!({})), "infrastructure.cluster.x-k8s.io/v9");
    assert!(matches!(later, Err(ConvertError::UnknownVersion(_))));
    assert_eq!(convert(json!([]), NEW), Err(ConvertError::NotAnObject));
    let same = new("Metal3Machine", json!({"spec": {"unknown": 1}}));
    assert_eq!(up(same.clone()), same);
}

#[test]
fn ac_20_no_cloud_provider_keeps_its_meaning() {
    for (spec, expected) in [
        (json!({"noCloudProvider": true}), json!(false)),
        (json!({"noCloudProvider": false}), json!(true)),
        (json!({"noCloudProvider": true, "cloudProviderEnabled": true}), json!(true)),
        (json!({}), Value::Null),
    ] {
        let hub = up(old("Metal3Cluster", json!({"spec": spec})));
        assert_eq!(hub["spec"]["cloudProviderEnabled"], expected);
        assert_eq!(hub["spec"]["noCloudProvider"], Value::Null);
        let hub = up(old("Metal3ClusterTemplate", json!({"spec": {"template": {"spec": spec}}})));
        assert_eq!(hub["spec"]["template"]["spec"]["cloudProviderEnabled"], expected);
    }
}

#[test]
fn ac_21_a_checksum_written_through_v1beta1_is_kept() {
    let image = json!({"url": "http://x/live.iso", "diskFormat": "live-iso"});
    let mut spoke = down(new("Metal3Machine", json!({"spec": {"image": image}})));
    assert_eq!(spoke["spec"]["image"], json!({"url": "http://x/live.iso", "format": "live-iso"}), "CH-5");
    assert_eq!(up(spoke.clone())["spec"]["image"].get("checksum"), None);
    spoke["spec"]["image"]["checksum"] = "abc".into();
    assert_eq!(up(spoke)["spec"]["image"]["checksum"], "abc");

    let empty = down(new("Metal3Machine", json!({"spec": {"image": {"url": "oci://x", "checksum": ""}}})));
    assert_eq!(up(empty)["spec"]["image"]["checksum"], "", "C-42: empty is not absent");
}

#[test]
fn ac_22_a_custom_deploy_machine_has_no_image_block() {
    for image in [json!({"url": ""}), json!({"url": "", "checksum": "", "checksumType": "", "format": ""})] {
        let machine = old("Metal3Machine", json!({"spec": {"customDeploy": {"method": "install"}, "image": image}}));
        assert_eq!(up(machine)["spec"], json!({"customDeploy": {"method": "install"}}));
    }
}

#[test]
fn c_24_provisioned_false_is_restored_and_true_follows_ready() {
    for (provisioned, ready) in [(Some(true), true), (Some(false), false), (None, false)] {
        for kind in ["Metal3Cluster", "Metal3Machine"] {
            let mut hub = new(kind, json!({"status": {"lastUpdated": "2026-01-01T00:00:00Z"}}));
            if let Some(provisioned) = provisioned {
                hub["status"]["initialization"] = json!({"provisioned": provisioned});
            }
            let spoke = down(hub.clone());
            assert_eq!(spoke["status"]["ready"], ready, "K-12");
            assert_eq!(up(spoke)["status"], hub["status"]);
        }
    }
}

#[test]
fn c_10_conditions_never_change_their_dialect() {
    let newer = json!([{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "observedGeneration": 9_000_000_000_i64}]);
    let legacy = json!([{"type": "Ready", "status": "True"}]);
    let hub = new(
        "Metal3Machine",
        json!({"status": {"conditions": newer, "deprecated": {"v1beta1": {"conditions": legacy}}}}),
    );
    let spoke = down(hub.clone());
    assert_eq!((&spoke["status"]["conditions"], &spoke["status"]["v1beta2"]["conditions"]), (&legacy, &newer));
    assert_eq!(up(spoke)["status"], hub["status"], "observedGeneration is 64-bit in both");
}

#[test]
fn ch_11_the_dead_phase_makes_no_block() {
    assert_eq!(up(old("Metal3Machine", json!({"status": {"phase": "x"}}))).get("status"), None);
}

#[test]
fn ch_8_the_order_of_failure_domains_comes_back_unless_they_changed() {
    let domains = json!([{"name": "z", "controlPlane": false}, {"name": "a", "controlPlane": true}, {"name": "m"}]);
    let hub = new("Metal3Cluster", json!({"spec": {"failureDomains": domains}}));
    let mut spoke = down(hub.clone());
    assert_eq!(up(spoke.clone())["spec"], hub["spec"]);
    spoke["spec"]["failureDomains"]["a"]["controlPlane"] = false.into();
    assert_eq!(up(spoke)["spec"]["failureDomains"], json!([{"name": "a"}, {"name": "m"}, {"name": "z"}]));
}

#[test]
fn ac_28_integers_beyond_32_bits_saturate() {
    let spec = json!({"controlPlaneEndpoint": {"host": "h", "port": 99_999_999_999_i64}});
    assert_eq!(up(old("Metal3Cluster", json!({"spec": spec})))["spec"]["controlPlaneEndpoint"]["port"], i32::MAX);
    let data = up(old("Metal3Data", json!({"spec": {"index": -99_999_999_999_i64}})));
    assert_eq!(data["spec"]["index"], i32::MIN);
}

#[test]
fn c_73_timeouts() {
    let strategy = |strategy: Value| {
        up(old("Metal3Remediation", json!({"spec": {"strategy": strategy}})))["spec"]["strategy"].clone()
    };
    assert_eq!(strategy(json!({"timeout": "5m0s", "retryLimit": 0})), json!({"timeoutSeconds": 300}));
    assert_eq!(strategy(json!({"timeout": "500ms"})), json!({}));
    assert_eq!(strategy(json!({"timeout": "soon"})), json!({}), "conversion is total");
    let spoke = down(new("Metal3Remediation", json!({"spec": {"strategy": {"timeoutSeconds": 600}}})));
    assert_eq!(spoke["spec"]["strategy"], json!({"timeout": "10m0s"}));
    let template = down(new("Metal3RemediationTemplate", json!({"status": {"status": {}}})));
    assert_eq!(template["status"], json!({"status": {}}), "C-75");
}

#[test]
fn td_147_and_ac_26_indexes_become_a_list_in_index_order() {
    let hub = up(old("Metal3DataTemplate", json!({"status": {"indexes": {"b": 2, "a": 0, "d": 1, "c": 1}}})));
    let entry = |name: &str, index: i64| json!({"name": name, "index": index});
    assert_eq!(hub["status"]["indexes"], json!([entry("a", 0), entry("c", 1), entry("d", 1), entry("b", 2)]));
    let odd = json!([{"name": "a", "index": 1}, {"name": "b"}, {"index": 3}, {"name": "a", "index": 4}]);
    let spoke = down(new("Metal3DataTemplate", json!({"status": {"indexes": odd}})));
    assert_eq!(spoke["status"]["indexes"], json!({"a": 4}), "CH-10, last wins");
}

#[test]
fn td_148_bond_parameters() {
    let bonds = json!([{"id": "b", "parameters": {"miimon": 100, "lacp_rate": "fast"}}]);
    let hub = up(old("Metal3DataTemplate", json!({"spec": {"networkData": {"links": {"bonds": bonds}}}})));
    let list = json!([{"name": "lacp_rate", "value": "fast"}, {"name": "miimon", "value": 100}]);
    assert_eq!(hub["spec"]["networkData"]["links"]["bonds"][0]["parameters"], list);
}

#[test]
fn td_149_a_claim_keeps_its_name() {
    let hub = up(old("Metal3Data", json!({"spec": {"claim": {"name": "c", "uid": "u"}, "template": {}}})));
    assert_eq!(hub["spec"], json!({"claim": {"name": "c"}, "index": 0}));
}

#[test]
fn td_150_empty_references_are_absent() {
    let hub = up(old("Metal3Data", json!({"spec": {"claim": {}, "template": {"uid": "u"}}})));
    assert_eq!(hub["spec"], json!({"index": 0}));
    let hub = up(old(
        "Metal3DataClaim",
        json!({"spec": {"template": {}}, "status": {"renderedData": {}, "errorMessage": ""}}),
    ));
    assert_eq!((&hub["spec"], hub.get("status")), (&json!({}), None), "C-91");
}

#[test]
fn td_151_zeros() {
    let spec = json!({
        "metaData": {"indexes": [{"key": "k", "offset": 0}]},
        "networkData": {
            "links": {"vlans": [{"id": "v"}]},
            "networks": {"ipv4": [{"id": "n", "routes": [{"network": "0.0.0.0", "prefix": 0, "services": {}}]}]},
        },
    });
    let hub = up(old("Metal3DataTemplate", json!({"spec": spec})));
    assert_eq!(hub["spec"]["metaData"]["indexes"][0], json!({"key": "k"}));
    assert_eq!(hub["spec"]["networkData"]["links"]["vlans"][0]["vlanID"], 0);
    assert_eq!(hub["spec"]["networkData"]["networks"]["ipv4"][0]["routes"][0], json!({"network": "0.0.0.0"}));
}

#[test]
fn td_152_renames_empty_sections_and_dead_fields() {
    let item = json!({"key": "k", "name": "p", "apiGroup": "g", "kind": "K"});
    let spec = json!({
        "clusterName": "c",
        "templateReference": "x",
        "metaData": {"ipAddressesFromIPPool": [item]},
        "networkData": {"links": {}, "networks": {}, "services": {}},
    });
    let hub = up(old("Metal3DataTemplate", json!({"spec": spec})));
    let spec = &hub["spec"];
    for (row, found, expected) in [
        ("TD-152", &spec["metaData"], json!({"ipAddressesFromPool": [item]})),
        ("TD-153", &spec["networkData"], json!({})),
        ("TD-154", &spec["templateReference"], Value::Null),
    ] {
        assert_eq!(found, &expected, "{row}");
    }
}

#[test]
fn td_155_and_hd_38_no_phantoms_on_the_way_down() {
    let spec = json!({
        "networkData": {
            "links": {"ethernets": [{"id": "e", "macAddress": {"fromHostInterface": "eth0"}}]},
            "networks": {"ipv4": [{"id": "n", "link": "e", "ipAddressFromIPPool": "p"}]},
        },
    });
    let hub = new("Metal3DataTemplate", json!({"spec": spec}));
    let spoke = down(hub.clone());
    let data = &spoke["spec"]["networkData"];
    assert_eq!(data["links"]["ethernets"][0]["macAddress"], json!({"fromHostInterface": "eth0"}));
    assert_eq!(data["networks"]["ipv4"][0].get("fromPoolRef"), None);
    assert_eq!(up(spoke), hub);
}

/// Null is absent, except in the parameters of a bond (TY-14).
#[test]
fn ty_14_nulls_are_absent() {
    let spec =
        json!({"providerID": null, "image": null, "hostSelector": {"matchLabels": null}, "userData": {"name": null}});
    assert_eq!(up(old("Metal3Machine", json!({"spec": spec})))["spec"], json!({"userData": {}}));
}
