//! Parts of objects by name.

use capm3_api::names::{annotation, finalizer};
use serde_json::Value;

pub(super) const HOST_ANNOTATION: &str = annotation::HOST;

/// What is at the end of a path of members; null when it is not there.
pub(super) fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(object, |value, member| &value[*member])
}

/// The same as text, empty when it is none.
pub(super) fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).as_str().unwrap_or_default()
}

pub(super) fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    text(object, &["metadata", "annotations", key])
}

pub(super) fn is_annotated(object: &Value, key: &str) -> bool {
    object["metadata"]["annotations"][key].is_string()
}

pub(super) fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    text(object, &["metadata", "labels", key])
}

pub(super) fn is_leaving(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(super) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

pub(super) fn has_finalizer(object: &Value, name: &str) -> bool {
    finalizers(object).any(|held| held == name)
}

/// Whether a finalizer is one of the two providers'.
pub(super) fn is_ours(name: &str) -> bool {
    use finalizer::{CAPI_IP_ADDRESS, CAPI_IP_CLAIM, CLUSTER, DATA, DATA_CLAIM, DATA_TEMPLATE, IP_ADDRESS, IP_CLAIM};
    [CLUSTER, finalizer::MACHINE, DATA, DATA_CLAIM, DATA_TEMPLATE, finalizer::REMEDIATION, finalizer::IP_POOL]
        .into_iter()
        .chain([IP_CLAIM, IP_ADDRESS, CAPI_IP_CLAIM, CAPI_IP_ADDRESS])
        .any(|ours| ours == name)
}

/// Name and uid of the owner of this kind.
pub(super) fn owner<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["kind"] == kind)?;
    Some((text(owner, &["name"]), text(owner, &["uid"])))
}

/// Of a Metal3Machine or a Node.
pub(super) fn provider_id(object: &Value) -> &str {
    text(object, &["spec", "providerID"])
}

pub(super) fn has_image(host: &Value) -> bool {
    !host["spec"]["image"].is_null() || !host["spec"]["customDeploy"].is_null()
}

pub(super) fn state(host: &Value) -> &str {
    text(host, &["status", "provisioning", "state"])
}

/// Of a condition of the current dialect.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.map_or("", |condition| text(condition, &["status"]))
}
