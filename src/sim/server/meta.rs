//! `metadata`: what a client may say in it, what the server puts there, and when it refuses.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::names::{NameRule, label_value, qualified};
use super::status::FieldError;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";
const ANNOTATIONS_LIMIT: usize = 256 << 10;

pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "name")
}

pub(super) fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub(super) fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub(super) fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub(super) fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

pub(super) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(super) fn owners(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Sets a member of `metadata`; `Null` takes it out.
pub(super) fn set(object: &mut Value, field: &str, value: Value) {
    let metadata = &mut object["metadata"];
    if value.is_null() {
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.shift_remove(field);
        }
    } else {
        metadata[field] = value;
    }
}

/// Copies a member of `metadata` as it is in `from`, absent included.
pub(super) fn keep(object: &mut Value, from: &Value, field: &str) {
    set(object, field, from["metadata"][field].clone());
}

/// Brings `metadata` into the server's form: known fields only, nothing empty. Managed fields are not kept (see [`super`]).
pub(super) fn coerce(object: &mut Value) -> Result<(), String> {
    if !object["metadata"].is_object() {
        if !object["metadata"].is_null() {
            return Err("json: cannot unmarshal into Go struct field .metadata of type v1.ObjectMeta".into());
        }
        object["metadata"] = json!({});
    }
    if object["metadata"].as_object().is_some_and(in_form) {
        return Ok(());
    }
    let taken = object["metadata"].take();
    let mut meta: ObjectMeta = serde_json::from_value(taken).map_err(|error| format!("json: {error}"))?;
    meta.managed_fields = None;
    meta.self_link = None;
    let mut value = serde_json::to_value(meta).map_err(|error| error.to_string())?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|field, value| !is_empty(value) && (field != "generation" || *value != 0));
        if let Some(owners) = fields.get_mut("ownerReferences").and_then(Value::as_array_mut) {
            dedup(owners);
        }
    }
    object["metadata"] = value;
    Ok(())
}

/// Whether metadata is as [`coerce`] would make it, told without taking it apart: most of what comes by is.
fn in_form(metadata: &Map<String, Value>) -> bool {
    let texts =
        |value: &Value| value.as_object().is_some_and(|map| !map.is_empty() && map.values().all(Value::is_string));
    metadata.iter().all(|(field, value)| match field.as_str() {
        "name" | "generateName" | "namespace" | "uid" | "resourceVersion" => {
            value.as_str().is_some_and(|text| !text.is_empty())
        }
        "generation" => value.as_i64().is_some_and(|generation| generation != 0),
        "deletionGracePeriodSeconds" => value.is_i64(),
        "creationTimestamp" | "deletionTimestamp" => value.as_str().is_some_and(is_plain_time),
        "labels" | "annotations" => texts(value),
        "finalizers" => value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_string)),
        "ownerReferences" => value.as_array().is_some_and(|all| {
            !all.is_empty() && all.iter().all(is_plain_owner) && (1..all.len()).all(|i| !all[..i].contains(&all[i]))
        }),
        _ => false,
    })
}

/// In the form in which the server writes times.
fn is_plain_time(text: &str) -> bool {
    text.len() == "2026-08-01T00:00:00Z".len() && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_plain_owner(owner: &Value) -> bool {
    const TEXTS: [&str; 4] = ["apiVersion", "kind", "name", "uid"];
    let Some(fields) = owner.as_object() else { return false };
    TEXTS.iter().all(|field| fields.get(*field).is_some_and(Value::is_string))
        && fields.iter().all(|(field, value)| {
            TEXTS.contains(&field.as_str())
                || matches!(field.as_str(), "controller" | "blockOwnerDeletion") && value.is_boolean()
        })
}

fn dedup(owners: &mut Vec<Value>) {
    let mut seen: Vec<Value> = Vec::new();
    owners.retain(|owner| {
        let new = !seen.contains(owner);
        if new {
            seen.push(owner.clone());
        }
        new
    });
}

pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What must hold of the metadata of every object. The namespace was set from the request before.
pub(super) fn validate(object: &Value, namespaced: bool, rule: NameRule) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let prefix = text(object, "generateName");
    if !prefix.is_empty() {
        let wrong = rule.errors(prefix, true);
        errors.extend(wrong.iter().map(|e| FieldError::invalid("metadata.generateName", &json!(prefix), e)));
    }
    let name = name(object);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        let wrong = rule.errors(name, false);
        errors.extend(wrong.iter().map(|e| FieldError::invalid("metadata.name", &json!(name), e)));
    }
    if namespaced {
        let namespace = namespace(object);
        let wrong = NameRule::Label.errors(namespace, false);
        errors.extend(wrong.iter().map(|e| FieldError::invalid("metadata.namespace", &json!(namespace), e)));
    }
    errors.extend(common(object));
    errors.extend(validate_finalizers(object));
    errors
}

fn common(object: &Value) -> Vec<FieldError> {
    let empty = Map::new();
    let map = |field: &str| object["metadata"][field].as_object().unwrap_or(&empty);
    let mut errors = Vec::new();
    for (key, value) in map("labels") {
        errors.extend(qualified(key).iter().map(|e| FieldError::invalid("metadata.labels", &json!(key), e)));
        let wrong = label_value(value.as_str().unwrap_or_default());
        errors.extend(wrong.iter().map(|e| FieldError::invalid("metadata.labels", value, e)));
    }
    let mut size = 0;
    for (key, value) in map("annotations") {
        size += key.len() + value.as_str().map(str::len).unwrap_or_default();
        let wrong = qualified(&key.to_lowercase());
        errors.extend(wrong.iter().map(|e| FieldError::invalid("metadata.annotations", &json!(key), e)));
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_LIMIT as u64));
    }
    errors.extend(validate_owners(owners(object)));
    errors
}

fn validate_owners(owners: &[Value]) -> Vec<FieldError> {
    const FIELD: &str = "metadata.ownerReferences";
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for owner in owners {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let version = text("apiVersion");
        if version.is_empty() || version.ends_with('/') {
            let detail = "version must not be empty";
            errors.push(FieldError::invalid(format!("{FIELD}.apiVersion"), &json!(version), detail));
        }
        for field in ["kind", "name", "uid"] {
            if text(field).is_empty() {
                errors.push(FieldError::invalid(format!("{FIELD}.{field}"), &json!(""), "must not be empty"));
            }
        }
        if (version, text("kind")) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(FIELD, owner, detail));
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.push(FieldError::invalid(FIELD, &owners.iter().map(in_field_order).collect(), &detail));
                }
                None => controller = Some(this),
            }
        }
    }
    errors
}

/// An owner reference as the server writes it down in a message.
fn in_field_order(owner: &Value) -> Value {
    let fields = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let present = fields.into_iter().filter_map(|field| Some((field.to_owned(), owner.get(field)?.clone())));
    Value::Object(present.collect())
}

fn validate_finalizers(object: &Value) -> Vec<FieldError> {
    const FIELD: &str = "metadata.finalizers";
    let all = finalizers(object);
    let mut errors: Vec<_> = all
        .iter()
        .flat_map(|one| qualified(one).into_iter().map(move |e| FieldError::invalid(FIELD, &json!(one), &e)))
        .collect();
    if all.contains(&ORPHAN) && all.contains(&FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(FIELD, &json!(all), &detail));
    }
    errors
}

/// Kinds of the core want finalizers with a domain.
pub(super) fn validate_core_finalizers(object: &Value) -> Vec<FieldError> {
    let plain = |one: &str| !one.contains('/') && !matches!(one, ORPHAN | FOREGROUND | "kubernetes");
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    let all = finalizers(object).into_iter().enumerate().filter(|(_, one)| plain(one));
    all.map(|(i, one)| FieldError::invalid(format!("metadata.finalizers[{i}]"), &json!(one), detail)).collect()
}

/// What must hold between two states of one object.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if is_deleting(old) {
        let known: BTreeSet<_> = finalizers(old).into_iter().collect();
        let extra: BTreeSet<_> = finalizers(new).into_iter().filter(|one| !known.contains(one)).collect();
        if !extra.is_empty() {
            let list: Vec<_> = extra.iter().map(|one| format!("{one:?}")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &detail));
        }
    }
    if resource_version(new).is_empty() {
        let detail = "must be specified for an update";
        errors.push(FieldError::invalid("metadata.resourceVersion", &json!(""), detail));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (after, before) = (&new["metadata"][field], &old["metadata"][field]);
        if after != before {
            let shown = if after.is_null() && field != "deletionGracePeriodSeconds" && !field.ends_with("stamp") {
                json!("")
            } else {
                after.clone()
            };
            errors.push(FieldError::invalid(format!("metadata.{field}"), &shown, "field is immutable"));
        }
    }
    errors.extend(common(new));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_brought_into_the_servers_form() {
        let mut object = json!({"metadata": {
            "name": "a", "labels": {}, "finalizers": [], "unknown": 1, "managedFields": [{"manager": "m"}],
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u"},
                                {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u"}],
        }});
        coerce(&mut object).unwrap();
        let owner = json!({"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u"});
        assert_eq!(object, json!({"metadata": {"name": "a", "ownerReferences": [&owner]}}));
        for plain in [
            json!({"metadata": {"name": "a", "generation": 2, "labels": {"a": "b"}, "creationTimestamp": "2026-08-01T00:00:00Z"}}),
            json!({"metadata": {"ownerReferences": [owner, {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "v", "controller": true}]}}),
        ] {
            let mut same = plain.clone();
            assert!(in_form(plain["metadata"].as_object().unwrap()), "{plain}");
            coerce(&mut same).unwrap();
            assert_eq!(same, plain);
        }
        let mut time = json!({"metadata": {"creationTimestamp": "2026-08-01t00:00:00z"}});
        coerce(&mut time).unwrap();
        assert_eq!(time["metadata"]["creationTimestamp"], "2026-08-01T00:00:00Z");
        assert!(coerce(&mut json!({"metadata": {"labels": 1}})).is_err());
        assert!(coerce(&mut json!({"metadata": []})).is_err());
    }

    #[test]
    fn a_deleted_object_takes_no_new_finalizer() {
        let old = json!({"metadata": {"resourceVersion": "1", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/a"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["x/a", "x/b"]);
        let errors = validate_update(&new, &old);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].body.ends_with(r#"found new finalizers []string{"x/b"}"#));
    }
}
