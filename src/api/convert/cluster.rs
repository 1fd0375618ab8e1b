//! Metal3Cluster and Metal3ClusterTemplate (C-20 to C-31), and the status dialects they share with machines.

use serde_json::{Value, json};

use super::Object;
use super::json::{default, drop_each_empty, drop_empty, list_to_map, map_to_list, object, object_or_new};

pub(super) fn up(cluster: &mut Object, preserved: Option<&Value>) {
    if let Some(spec) = object(cluster, "spec") {
        spec_up(spec, preserved.map(|p| &p["spec"]));
    }
    if let Some(status) = object(cluster, "status") {
        status_up(status, preserved);
        failure_domains_up(status, preserved.map(|p| &p["status"]));
    }
}

pub(super) fn down(cluster: &mut Object) {
    if let Some(spec) = object(cluster, "spec") {
        spec_down(spec);
    }
    if let Some(status) = object(cluster, "status") {
        status_down(status);
        failure_domains_down(status);
    }
}

pub(super) fn template_up(template: &mut Object, preserved: Option<&Value>) {
    template_metadata_up(template, preserved);
    if let Some(spec) = template_spec(template) {
        spec_up(spec, preserved.and_then(|p| p.pointer("/spec/template/spec")));
    }
}

pub(super) fn template_down(template: &mut Object) {
    template_metadata_down(template);
    if let Some(spec) = template_spec(template) {
        spec_down(spec);
    }
}

fn spec_up(spec: &mut Object, preserved: Option<&Value>) {
    if let Some(endpoint) = object(spec, "controlPlaneEndpoint") {
        drop_each_empty(endpoint, &["host", "port"]);
    }
    drop_empty(spec, "controlPlaneEndpoint");
    // The older of two spellings speaks only where the newer is silent (C-22, CH-2): were the one that was edited last to
    // win, a manifest that contradicts itself would mean another thing each time it is applied.
    if let Some(Value::Bool(without)) = spec.remove("noCloudProvider") {
        default(spec, "cloudProviderEnabled", !without);
    }
    failure_domains_up(spec, preserved);
}

fn spec_down(spec: &mut Object) {
    let endpoint = object_or_new(spec, "controlPlaneEndpoint");
    default(endpoint, "host", "");
    default(endpoint, "port", 0);
    if let Some(Value::Bool(enabled)) = spec.get("cloudProviderEnabled") {
        let without = !enabled;
        spec.insert("noCloudProvider".into(), without.into());
    }
    failure_domains_down(spec);
}

/// A map becomes a list in name order, or in the order it had while it was stored if it is still the same list (CH-8).
fn failure_domains_up(parent: &mut Object, preserved: Option<&Value>) {
    map_to_list(parent, "failureDomains", |name, domain| {
        let mut entry = json!({"name": name});
        if domain["controlPlane"] == true {
            entry["controlPlane"] = true.into();
        }
        if domain["attributes"].as_object().is_some_and(|attributes| !attributes.is_empty()) {
            entry["attributes"] = domain["attributes"].clone();
        }
        entry.as_object().cloned().unwrap_or_default()
    });
    let Some(before) = preserved.map(|p| &p["failureDomains"]).filter(|list| list.is_array()) else { return };
    let mut through_v1beta1 = Object::from_iter([("failureDomains".to_owned(), before.clone())]);
    failure_domains_down(&mut through_v1beta1);
    failure_domains_up(&mut through_v1beta1, None);
    let same_length = |list: &Value| list.as_array().map(Vec::len) == before.as_array().map(Vec::len);
    if through_v1beta1.get("failureDomains").is_some_and(same_length)
        && through_v1beta1.get("failureDomains") == parent.get("failureDomains")
    {
        parent.insert("failureDomains".into(), before.clone());
    }
}

fn failure_domains_down(parent: &mut Object) {
    list_to_map(parent, "failureDomains", |mut domain| {
        default(&mut domain, "controlPlane", false);
        Some(Value::Object(domain))
    });
}

const LEGACY: [&str; 3] = ["conditions", "failureReason", "failureMessage"];

/// Both dialects change places and never mix (C-10, C-24 to C-27, C-50 to C-53).
pub(super) fn status_up(status: &mut Object, preserved: Option<&Value>) {
    let was_false =
        preserved.and_then(|p| p.pointer("/status/initialization/provisioned")) == Some(&Value::Bool(false));
    match status.remove("ready") {
        Some(Value::Bool(true)) => _ = status.insert("initialization".into(), json!({"provisioned": true})),
        _ if was_false => _ = status.insert("initialization".into(), json!({"provisioned": false})),
        _ => {}
    }
    let mut legacy = Object::new();
    for key in LEGACY {
        if let Some(value) = status.remove(key) {
            legacy.insert(key.into(), value);
        }
    }
    drop_empty(&mut legacy, "conditions");
    if !legacy.is_empty() {
        status.insert("deprecated".into(), json!({"v1beta1": legacy}));
    }
    if let Some(Value::Object(mut newer)) = status.remove("v1beta2")
        && let Some(conditions) = newer.remove("conditions")
    {
        status.insert("conditions".into(), conditions);
        drop_empty(status, "conditions");
    }
}

pub(super) fn status_down(status: &mut Object) {
    let provisioned = status.remove("initialization").is_some_and(|block| block["provisioned"] == true);
    status.insert("ready".into(), provisioned.into());
    let newer = status.remove("conditions");
    if let Some(Value::Object(mut deprecated)) = status.remove("deprecated")
        && let Some(Value::Object(legacy)) = deprecated.remove("v1beta1")
    {
        status.extend(legacy.into_iter().filter(|(key, _)| LEGACY.contains(&key.as_str())));
        drop_empty(status, "conditions");
    }
    if let Some(conditions) = newer.filter(|list| list.as_array().is_some_and(|list| !list.is_empty())) {
        status.insert("v1beta2".into(), json!({"conditions": conditions}));
    }
}

pub(super) fn template_spec(template: &mut Object) -> Option<&mut Object> {
    object(object(object(template, "spec")?, "template")?, "spec")
}

/// v1beta1 has no metadata in templates: it travels in the annotation alone (C-31, C-62).
pub(super) fn template_metadata_up(template: &mut Object, preserved: Option<&Value>) {
    let metadata = preserved.and_then(|p| p.pointer("/spec/template/metadata"));
    let Some(mut metadata) = metadata.and_then(Value::as_object).cloned() else { return };
    metadata.retain(|key, texts| {
        let texts = texts.as_object().filter(|_| matches!(key.as_str(), "labels" | "annotations"));
        texts.is_some_and(|texts| !texts.is_empty() && texts.values().all(Value::is_string))
    });
    if let Some(resource) = object(template, "spec").and_then(|spec| object(spec, "template")) {
        resource.insert("metadata".into(), metadata.into());
        drop_empty(resource, "metadata");
    }
}

pub(super) fn template_metadata_down(template: &mut Object) {
    if let Some(resource) = object(template, "spec").and_then(|spec| object(spec, "template")) {
        resource.remove("metadata");
    }
}
