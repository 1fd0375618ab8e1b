//! The router, called as the API server calls it (AW-70 to AW-72, W-4, W-5, C-2).

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "objects are written in place; a test may fail")]

use axum::body::Body;
use axum::http::{Request, StatusCode};
use capm3_webhook::{Which, router};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

const COMPONENTS: [(Which, &str); 2] = [
    (Which::Infra, include_str!("../../../clusterctl/infrastructure-metal3/v1.14.100/infrastructure-components.yaml")),
    (Which::Ipam, include_str!("../../../clusterctl/ipam-metal3/v1.14.100/ipam-components.yaml")),
];

async fn send(which: Which, path: &str, body: impl Into<Body>) -> (StatusCode, Vec<u8>) {
    let request = Request::post(path).header("content-type", "application/json").body(body.into()).unwrap();
    let reply = router(which).oneshot(request).await.unwrap();
    let status = reply.status();
    (status, reply.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn review(path: &str, operation: &str, old: Value, object: Value) -> Value {
    let request = json!({"uid": "u-1", "operation": operation, "object": object, "oldObject": old, "name": "n"});
    let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let (status, body) = send(Which::Both, path, body.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&reply["apiVersion"], &reply["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    assert_eq!(reply["response"]["uid"], "u-1");
    reply["response"].clone()
}

fn infra(verb: &str, kind: &str) -> String {
    format!("/{verb}-infrastructure-cluster-x-k8s-io-v1beta2-{kind}")
}

/// The patch of a mutating reply.
fn patch(response: &Value) -> Value {
    use base64::Engine;
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let bytes = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The paths of W-2, and of IPAM's webhooks.
fn expected(which: Which) -> Vec<String> {
    let both = ["metal3cluster", "metal3remediationtemplate"];
    let checked = [
        "metal3clustertemplate",
        "metal3data",
        "metal3dataclaim",
        "metal3datatemplate",
        "metal3machine",
        "metal3machinetemplate",
        "metal3remediation",
    ];
    let ipam = |verb: &str, kind: &str| format!("/{verb}-ipam-metal3-io-v1alpha1-{kind}");
    let mut paths = vec!["/convert".to_owned()];
    if which == Which::Infra {
        paths.extend(both.iter().chain(&checked).map(|kind| infra("validate", kind)));
        paths.extend(both.iter().map(|kind| infra("mutate", kind)));
    } else {
        for kind in ["ipaddress", "ipclaim", "ippool"] {
            paths.extend([ipam("mutate", kind), ipam("validate", kind)]);
        }
    }
    paths.sort_unstable();
    paths
}

#[tokio::test]
async fn aw_72_every_path_of_the_shipped_manifests_answers_a_review() {
    for (which, manifests) in COMPONENTS {
        let mut paths: Vec<_> = manifests
            .lines()
            .filter_map(|line| line.trim().strip_prefix("path: "))
            .filter(|path| ["/convert", "/mutate-", "/validate-"].iter().any(|start| path.starts_with(start)))
            .collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths, expected(which), "W-2");
        for path in paths {
            let request = json!({"uid": "u", "operation": "DELETE", "desiredAPIVersion": "x", "objects": []});
            let (status, body) = send(which, path, json!({"apiVersion": "v", "request": request}).to_string()).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            let reply: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(reply["response"]["uid"], "u", "{path}");
            assert!(reply["response"]["allowed"].as_bool().unwrap_or(true), "W-3 {path}");
        }
    }
    for (which, other) in [(Which::Infra, Which::Ipam), (Which::Ipam, Which::Infra)] {
        for path in expected(other).iter().filter(|path| *path != "/convert") {
            assert_eq!(send(which, path, "{}").await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }
}

#[tokio::test]
async fn w_4_field_errors_come_together_as_422() {
    let machine = json!({"metadata": {"name": "m", "namespace": "foo"}, "spec": {"image": {"url": "x"}, "userData": {"name": "s", "namespace": "bar"}}});
    let response = review(&infra("validate", "metal3machine"), "CREATE", Value::Null, machine).await;
    assert_eq!(response["allowed"], false);
    let status = &response["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(422), &json!("Invalid")));
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            r#"Metal3Machine.infrastructure.cluster.x-k8s.io "m" is invalid: [spec.image.url: Invalid value"#
        ),
        "{message}"
    );
    let fields: Vec<_> =
        status["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["spec.image.url", "spec.image.checksum", "spec.userData.namespace"]);
}

#[tokio::test]
async fn aw_70_absent_parts_are_refused_and_never_500() {
    let claim = json!({"metadata": {"name": "n", "namespace": "foo"}});
    let path = infra("validate", "metal3dataclaim");
    assert_eq!(review(&path, "CREATE", Value::Null, claim.clone()).await["status"]["code"], 422);
    assert_eq!(review(&path, "UPDATE", claim.clone(), claim).await["allowed"], true);

    for template in [json!({}), json!({"spec": {}}), json!({"spec": {"template": {"spec": {}}}})] {
        let response = review(&infra("mutate", "metal3remediationtemplate"), "CREATE", Value::Null, template).await;
        assert!(patch(&response).to_string().contains("Reboot"));
    }
}

#[tokio::test]
async fn w_5_a_default_adds_and_keeps_what_it_does_not_know() {
    let path = infra("mutate", "metal3cluster");
    let cluster =
        json!({"metadata": {"name": "c"}, "spec": {"unknown": 1, "controlPlaneEndpoint": {"host": "h", "more": 2}}});
    let mut operations = patch(&review(&path, "CREATE", Value::Null, cluster).await);
    operations.as_array_mut().unwrap().sort_by_key(|op| op["path"].to_string());
    let expected = json!([
        {"op": "add", "path": "/spec/cloudProviderEnabled", "value": false},
        {"op": "add", "path": "/spec/controlPlaneEndpoint/port", "value": 6443},
    ]);
    assert_eq!(operations, expected);
    let whole = json!({"spec": {"cloudProviderEnabled": true, "controlPlaneEndpoint": {"host": "h", "port": 1}}});
    let response = review(&path, "UPDATE", whole.clone(), whole).await;
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));

    let path = "/mutate-ipam-metal3-io-v1alpha1-ippool";
    let pool = json!({"spec": {"namePrefix": "p", "prefix": 0}});
    let expected = json!([{"op": "add", "path": "/spec/allocationStrategy", "value": "sequential"}]);
    assert_eq!(patch(&review(path, "CREATE", Value::Null, pool).await), expected);
}

#[tokio::test]
async fn aw_56_warnings_are_passed_on() {
    let template = json!({"metadata": {"name": "t"}, "spec": {"clusterName": "c"}});
    let response = review(&infra("validate", "metal3datatemplate"), "CREATE", Value::Null, template).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("spec.clusterName is deprecated"));
}

#[tokio::test]
async fn w_4_what_cannot_be_read_is_400() {
    let path = infra("validate", "metal3data");
    let unreadable = json!({"spec": {"index": "one"}});
    assert_eq!(review(&path, "CREATE", Value::Null, unreadable).await["status"]["code"], 400);
    assert_eq!(review(&path, "CREATE", Value::Null, Value::Null).await["status"]["code"], 400);
    assert_eq!(review(&path, "UPDATE", Value::Null, json!({})).await["status"]["code"], 400);
    for garbage in ["", "{", "[]", "null", "{}", r#"{"request": 1}"#, "\u{0}\u{ff}"] {
        assert_eq!(send(Which::Both, &path, garbage).await.0, StatusCode::BAD_REQUEST, "{garbage:?}");
        assert_eq!(send(Which::Both, "/convert", garbage).await.0, StatusCode::BAD_REQUEST, "{garbage:?}");
    }
}

async fn convert(desired: &str, objects: Value) -> Value {
    let request = json!({"uid": "u-2", "desiredAPIVersion": desired, "objects": objects});
    let body = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request});
    let (status, body) = send(Which::Infra, "/convert", body.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&reply["apiVersion"], &reply["kind"]), (&json!("apiextensions.k8s.io/v1"), &json!("ConversionReview")));
    assert_eq!(reply["response"]["uid"], "u-2");
    reply["response"].clone()
}

#[tokio::test]
async fn c_2_objects_come_back_in_order() {
    let (old, new) = ("infrastructure.cluster.x-k8s.io/v1beta1", "infrastructure.cluster.x-k8s.io/v1beta2");
    let objects: Vec<_> = (0..5).map(|i| json!({"apiVersion": old, "kind": "Metal3Data", "metadata": {"name": i.to_string()}, "spec": {"index": i}})).collect();
    let response = convert(new, objects.into()).await;
    assert_eq!(response["result"], json!({"status": "Success"}));
    let converted = response["convertedObjects"].as_array().unwrap();
    assert_eq!(converted.len(), 5);
    for (i, object) in converted.iter().enumerate() {
        let expected =
            json!({"apiVersion": new, "kind": "Metal3Data", "metadata": {"name": i.to_string()}, "spec": {"index": i}});
        assert_eq!(object, &expected);
    }
}

#[tokio::test]
async fn c_2_a_failure_names_its_reason_and_converts_nothing() {
    let old = "infrastructure.cluster.x-k8s.io/v1beta1";
    let broken = json!({"apiVersion": old, "kind": "Metal3Pod"});
    let fine = json!({"apiVersion": old, "kind": "Metal3Machine"});
    let response = convert("infrastructure.cluster.x-k8s.io/v1beta2", json!([fine, broken])).await;
    assert_eq!((&response["result"]["status"], &response["convertedObjects"]), (&json!("Failure"), &json!([])));
    assert!(response["result"]["message"].as_str().unwrap().contains("Metal3Pod"));
}
