//! The annotation `cluster.x-k8s.io/conversion-data` between this provider and the Go one: what either writes, the other
//! reads, so that a management cluster can change from one to the other and back (C-4, C-5, K-5).
//!
//! The Go side's texts follow from its rules: keys in order, unset values left out or `null`, on the way down empty texts
//! and objects where ours leaves out (api-types 8, CH-3 to CH-6).

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "objects are written in place; a test may fail")]

mod support;

use std::collections::BTreeMap;

use capm3_api::convert::convert;
use serde_json::{Value, json};
use support::{Dice, object, schema};

const OLD: &str = "infrastructure.cluster.x-k8s.io/v1beta1";
const NEW: &str = "infrastructure.cluster.x-k8s.io/v1beta2";
const ANNOTATION: &str = "cluster.x-k8s.io/conversion-data";
const FIELDS: &str = include_str!("../../xtask/data/crd-fields.tsv");

/// A v1beta1 object as the Go provider's converter hands it out.
fn of_go(kind: &str, body: Value, remembered: &str) -> Value {
    let mut object = json!({
        "apiVersion": OLD, "kind": kind,
        "metadata": {"name": "n", "creationTimestamp": null, "annotations": {ANNOTATION: remembered}},
    });
    object.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    object
}

#[track_caller]
fn reads(kind: &str, body: Value, remembered: &str, expected: Value) {
    let hub = convert(of_go(kind, body, remembered), NEW).unwrap();
    assert_eq!(hub["metadata"], json!({"name": "n", "creationTimestamp": null}));
    for part in ["spec", "status"] {
        assert_eq!(hub.get(part), expected.get(part), "{part} of {kind}");
    }
}

#[test]
fn a_cluster_of_the_go_provider_is_understood() {
    reads(
        "Metal3Cluster",
        json!({
            "spec": {
                "cloudProviderEnabled": true, "noCloudProvider": false,
                "controlPlaneEndpoint": {"host": "192.168.111.249", "port": 6443},
                "failureDomains": {"rack-a": {"controlPlane": true, "attributes": {"row": "1"}}, "rack-b": {}},
            },
            "status": {
                "ready": false, "lastUpdated": "2026-01-02T03:04:05Z",
                "failureDomains": {"rack-a": {"controlPlane": true, "attributes": {"row": "1"}}, "rack-b": {}},
                "conditions": [{"type": "Ready", "status": "False", "severity": "Info", "lastTransitionTime": "2026-01-02T03:04:05Z"}],
                "v1beta2": {"conditions": [
                    {"type": "Ready", "status": "False", "reason": "NotReady", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"},
                ]},
            },
        }),
        concat!(
            r#"{"apiVersion":"infrastructure.cluster.x-k8s.io/v1beta2","kind":"Metal3Cluster","#,
            r#""spec":{"cloudProviderEnabled":true,"controlPlaneEndpoint":{"host":"192.168.111.249","port":6443},"#,
            r#""failureDomains":[{"controlPlane":false,"name":"rack-b"},{"attributes":{"row":"1"},"controlPlane":true,"name":"rack-a"}]},"#,
            r#""status":{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:05Z","message":"","reason":"NotReady","status":"False","type":"Ready"}],"#,
            r#""deprecated":{"v1beta1":{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:05Z","severity":"Info","status":"False","type":"Ready"}]}},"#,
            r#""failureDomains":[{"attributes":{"row":"1"},"controlPlane":true,"name":"rack-a"},{"name":"rack-b"}],"#,
            r#""initialization":{"provisioned":false},"lastUpdated":"2026-01-02T03:04:05Z"}}"#,
        ),
        json!({
            "spec": {
                "cloudProviderEnabled": true,
                "controlPlaneEndpoint": {"host": "192.168.111.249", "port": 6443},
                "failureDomains": [
                    {"name": "rack-b", "controlPlane": false}, {"name": "rack-a", "controlPlane": true, "attributes": {"row": "1"}},
                ],
            },
            "status": {
                "initialization": {"provisioned": false}, "lastUpdated": "2026-01-02T03:04:05Z",
                "failureDomains": [{"name": "rack-a", "controlPlane": true, "attributes": {"row": "1"}}, {"name": "rack-b"}],
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "NotReady", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"},
                ],
                "deprecated": {"v1beta1": {"conditions": [
                    {"type": "Ready", "status": "False", "severity": "Info", "lastTransitionTime": "2026-01-02T03:04:05Z"},
                ]}},
            },
        }),
    );
}

#[test]
fn a_machine_of_the_go_provider_is_understood() {
    // A live image without a checksum: the empty texts are the Go converter's, not the user's.
    let image = json!({"url": "http://x/live.iso", "checksum": "", "checksumType": "", "format": "live-iso"});
    let remembered = concat!(
        r#"{"apiVersion":"infrastructure.cluster.x-k8s.io/v1beta2","kind":"Metal3Machine","#,
        r#""spec":{"dataTemplate":{"name":"t"},"image":{"diskFormat":"live-iso","url":"http://x/live.iso"},"#,
        r#""providerID":"metal3://ns/host/n"},"status":{"initialization":{"provisioned":true}}}"#,
    );
    let spec =
        json!({"providerID": "metal3://ns/host/n", "image": image, "hostSelector": {}, "dataTemplate": {"name": "t"}});
    let expected = json!({
        "spec": {
            "providerID": "metal3://ns/host/n", "dataTemplate": {"name": "t"},
            "image": {"url": "http://x/live.iso", "diskFormat": "live-iso"},
        },
        "status": {"initialization": {"provisioned": true}},
    });
    reads("Metal3Machine", json!({"spec": spec, "status": {"ready": true}}), remembered, expected);

    // No image at all, which the Go converter writes as an empty one.
    let spec = json!({"image": {"url": ""}, "customDeploy": {"method": "install"}, "hostSelector": {}});
    let expected = json!({"spec": {"customDeploy": {"method": "install"}}});
    let remembered = r#"{"kind":"Metal3Machine","apiVersion":"infrastructure.cluster.x-k8s.io/v1beta2","spec":{"customDeploy":{"method":"install"}},"status":{}}"#;
    reads("Metal3Machine", json!({"spec": spec, "status": {"ready": false}}), remembered, expected);
}

#[test]
fn templates_of_the_go_provider_are_understood() {
    let metadata = json!({"labels": {"a": "b"}, "annotations": {"c": "d"}});
    let remembered = concat!(
        r#"{"apiVersion":"infrastructure.cluster.x-k8s.io/v1beta2","kind":"Metal3MachineTemplate","spec":{"nodeReuse":true,"#,
        r#""template":{"metadata":{"annotations":{"c":"d"},"labels":{"a":"b"}},"spec":{"image":{"checksum":"","url":"oci://x"}}}}}"#,
    );
    let spec =
        json!({"image": {"url": "oci://x", "checksum": "", "checksumType": "", "format": ""}, "hostSelector": {}});
    reads(
        "Metal3MachineTemplate",
        json!({"spec": {"nodeReuse": true, "template": {"spec": spec}}}),
        remembered,
        json!({"spec": {"nodeReuse": true, "template": {"metadata": metadata, "spec": {"image": {"url": "oci://x", "checksum": ""}}}}}),
    );
    // Type and version are not always there; nulls and unknown fields may be.
    let remembered = r#"{"spec":{"template":{"metadata":{"annotations":null,"labels":{"a":"b"},"later":1},"spec":{"failureDomains":null}}},"status":null}"#;
    reads(
        "Metal3ClusterTemplate",
        json!({"spec": {"template": {"spec": {"controlPlaneEndpoint": {"host": "", "port": 0}}}}}),
        remembered,
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {}}}}),
    );
}

#[test]
fn what_was_remembered_of_something_else_is_not_restored() {
    let template = json!({"spec": {"template": {"spec": {}}}});
    for remembered in [
        r#"{"kind":"Metal3ClusterTemplate","spec":{"template":{"metadata":{"labels":{"a":"b"}}}}}"#,
        r#"{"spec":{"template":{"metadata":"text"}}}"#,
        r#"{"spec":{"template":{"metadata":{"labels":{"a":5}}}}}"#,
        r#"{"spec":{"template":{"metadata":{"labels":["a"],"annotations":{}}}}}"#,
    ] {
        reads("Metal3MachineTemplate", template.clone(), remembered, template.clone());
    }
}

/// A Go program reads JSON into types: a field it knows has to hold what it expects there.
#[test]
fn what_we_remember_is_what_the_go_provider_can_read() {
    let published: BTreeMap<(&str, &str), &str> = FIELDS
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|cells| cells[2] == "v1beta2")
        .map(|cells| ((cells[1], cells[3]), cells[4]))
        .collect();
    fn walk(published: &BTreeMap<(&str, &str), &str>, kind: &str, path: &str, value: &Value, known: &mut usize) {
        let Some(wanted) = published.get(&(kind, path)) else { return };
        *known += 1;
        let fits = match *wanted {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64(),
            "string" => value.is_string(),
            _ => true,
        };
        assert!(fits, "{kind} {path}: {value} is no {wanted}");
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                let root = path.trim_end_matches('.');
                walk(published, kind, &format!("{root}.{name}"), value, known);
                walk(published, kind, &format!("{root}{{}}"), value, known);
            }),
            Value::Array(items) => {
                items.iter().for_each(|item| walk(published, kind, &format!("{path}[]"), item, known))
            }
            _ => {}
        }
    }
    for kind in ["Metal3Cluster", "Metal3ClusterTemplate", "Metal3Machine", "Metal3MachineTemplate"] {
        let (schema, mut known) = (schema(kind, "v1beta2"), 0);
        for seed in 1..=100 {
            let stored = object(&mut Dice(seed * 271_828), kind, "v1beta2", &schema);
            let spoke = convert(stored.clone(), OLD).unwrap();
            let text = spoke["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
            let remembered: Value = serde_json::from_str(text).unwrap();
            assert_eq!(
                (&remembered["spec"], &remembered["status"]),
                (&stored["spec"], &stored["status"]),
                "C-4: all of it"
            );
            assert_eq!(remembered.get("metadata"), None);
            assert_eq!((&remembered["apiVersion"], &remembered["kind"]), (&json!(NEW), &json!(kind)));
            walk(&published, kind, ".", &remembered, &mut known);
        }
        assert!(known > 1000, "{kind}: {known}");
    }
}

/// What would not fit into the annotations of an object is left out, save for what cannot be told otherwise; the object can
/// still be written through v1beta1, whose API server counts.
#[test]
fn an_object_too_large_for_its_annotation_keeps_what_would_be_lost() {
    let many = |n: usize| (0..n).map(|i| (format!("k{i}"), json!("v".repeat(1000)))).collect::<serde_json::Map<_, _>>();
    let size = |object: &Value| -> usize {
        let all = object["metadata"]["annotations"].as_object().into_iter().flatten();
        all.map(|(key, value)| key.len() + value.as_str().unwrap().len()).sum()
    };
    let domains: Vec<_> = (0..100).map(|i| json!({"name": format!("d{i:02}"), "attributes": many(4)})).collect();
    let cluster = json!({
        "apiVersion": NEW, "kind": "Metal3Cluster", "metadata": {"name": "n", "annotations": {"own": "x".repeat(1000)}},
        "spec": {"failureDomains": domains}, "status": {"initialization": {"provisioned": false}},
    });
    let spoke = convert(cluster.clone(), OLD).unwrap();
    assert!(size(&spoke) < 256 << 10);
    assert_eq!(convert(spoke, NEW).unwrap(), cluster);

    let selector = json!({"matchLabels": many(300)});
    let image = json!({"url": "http://x/live.iso", "diskFormat": "live-iso"});
    let resource = |metadata: Value| json!({"metadata": metadata, "spec": {"hostSelector": selector, "image": image}});
    let template = json!({
        "apiVersion": NEW, "kind": "Metal3MachineTemplate", "metadata": {"name": "n"},
        "spec": {"template": resource(json!({"labels": {"a": "b"}}))},
    });
    let spoke = convert(template.clone(), OLD).unwrap();
    assert!(size(&spoke) < 256 << 10);
    assert_eq!(convert(spoke, NEW).unwrap(), template);

    // Where even that is too much, there is no annotation: an older one would restore what is no longer true.
    let stale = json!({"name": "n", "annotations": {ANNOTATION: "{}", "own": "x"}});
    let template = json!({
        "apiVersion": NEW, "kind": "Metal3MachineTemplate", "metadata": stale,
        "spec": {"template": resource(json!({"annotations": many(300)}))},
    });
    let spoke = convert(template, OLD).unwrap();
    assert_eq!(spoke["metadata"]["annotations"], json!({"own": "x"}));
}
