//! JSON patches, merge patches, and strategic merge patches of the few fields that are sent to us that way.

use serde_json::{Map, Value};

use super::call::Fence;
use super::kinds::View;
use super::status::Refusal;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch that was read.
#[derive(Debug)]
pub(super) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
    /// A list of operations, one of which is none.
    Unfit,
}

impl Patch {
    pub(super) fn read(content_type: &str, body: &[u8], view: &View) -> Result<Self, Refusal> {
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let object = |body: &[u8]| -> Result<Value, Refusal> {
            let value: Value = serde_json::from_slice(body)
                .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
            if !value.is_object() {
                let why = "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}";
                return Err(Refusal::bad_request(why));
            }
            Ok(value)
        };
        match content_type {
            JSON => match serde_json::from_slice(body) {
                Ok(patch) => Ok(Self::Json(patch)),
                Err(_) if serde_json::from_slice::<Vec<Map<String, Value>>>(body).is_ok() => Ok(Self::Unfit),
                Err(error) => Err(Refusal::bad_request(format!("error decoding patch: {error}"))),
            },
            MERGE => object(body).map(Self::Merge),
            STRATEGIC if view.built_in().is_some() => object(body).map(Self::Strategic),
            APPLY => {
                let text = String::from_utf8_lossy(body);
                let stated: Value = serde_saphyr::from_str(&text)
                    .map_err(|error| Refusal::bad_request(format!("error decoding YAML: {error}")))?;
                Ok(Self::Apply(stated))
            }
            _ if view.built_in().is_some() => {
                let message = "415: Unsupported Media Type";
                Err(Refusal::new(415, "UnsupportedMediaType", message).with_details(Map::new().into()))
            }
            _ => Err(Refusal::unsupported_media_type(&[JSON, MERGE, APPLY])),
        }
    }

    /// What the patch insists on.
    pub(super) fn fence(&self) -> Fence {
        match self {
            Self::Merge(patch) | Self::Strategic(patch) | Self::Apply(patch) => Fence::of(patch),
            Self::Json(patch) => {
                let tests = patch.0.iter().filter_map(|operation| match operation {
                    json_patch::PatchOperation::Test(test) => Some(test.path.as_str()),
                    _ => None,
                });
                tests.fold(Fence::None, |fence, path| match path {
                    "/metadata/resourceVersion" => Fence::Version,
                    "/metadata/uid" => fence.max(Fence::Uid),
                    _ => fence,
                })
            }
            Self::Unfit => Fence::None,
        }
    }

    pub(super) fn apply(&self, old: &Value, view: &View) -> Result<Value, Refusal> {
        let mut object = old.clone();
        match self {
            Self::Json(patch) => json_patch::patch(&mut object, patch).map_err(|_| Refusal::unfit_patch())?,
            Self::Unfit => return Err(Refusal::unfit_patch()),
            // An apply is merged where the owners of fields are known.
            Self::Merge(patch) | Self::Apply(patch) => merge(&mut object, patch),
            Self::Strategic(patch) => strategic(&mut object, patch, "", view),
        }
        Ok(object)
    }
}

/// RFC 7386, keeping the order of what stays.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.shift_remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// How the lists of built-in kinds are merged: by a key of their items, or as a set. Everything else is replaced.
fn list_rule(path: &str, view: &View) -> Option<ListRule> {
    Some(match (path, view.kind.plural.as_str()) {
        ("metadata.finalizers", _) | ("spec.podCIDRs", "nodes") => ListRule::Set,
        ("metadata.ownerReferences", _) => ListRule::Keyed("uid"),
        ("status.conditions", "nodes" | "namespaces") | ("status.addresses", "nodes") => ListRule::Keyed("type"),
        ("secrets", "serviceaccounts")
        | ("webhooks", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => ListRule::Keyed("name"),
        _ => return None,
    })
}

enum ListRule {
    Set,
    Keyed(&'static str),
}

fn strategic(target: &mut Value, patch: &Value, path: &str, view: &View) {
    match patch {
        Value::Object(patch) => {
            if patch.get("$patch").is_some_and(|directive| directive == "replace") {
                let mut whole = patch.clone();
                whole.shift_remove("$patch");
                *target = whole.into();
                return;
            }
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Some(fields) = target.as_object_mut() else { return };
            for (name, value) in patch {
                if name.starts_with("$setElementOrder/") || name == "$retainKeys" {
                    continue;
                }
                if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
                    let gone = value.as_array().cloned().unwrap_or_default();
                    if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                        items.retain(|item| !gone.contains(item));
                    }
                    continue;
                }
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if value.is_null() {
                    fields.shift_remove(name);
                } else {
                    strategic(fields.entry(name.clone()).or_insert(Value::Null), value, &below, view);
                }
            }
        }
        Value::Array(items) => merge_list(target, items, list_rule(path, view), path, view),
        _ => *target = patch.clone(),
    }
}

fn merge_list(target: &mut Value, items: &[Value], rule: Option<ListRule>, path: &str, view: &View) {
    let Some(rule) = rule else {
        *target = items.to_vec().into();
        return;
    };
    if items.iter().any(|item| item.get("$patch").is_some_and(|directive| directive == "replace")) {
        *target = items.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
        return;
    }
    let same = |one: &Value, other: &Value| match rule {
        ListRule::Set => one == other,
        ListRule::Keyed(key) => one[key] == other[key],
    };
    let before = target.as_array().cloned().unwrap_or_default();
    let place = |item: &Value| before.iter().position(|one| same(one, item));
    let gone = |item: &Value| item.get("$patch").is_some_and(|directive| directive == "delete");
    let mut rest = before.iter().filter(|one| !items.iter().any(|item| same(item, one))).peekable();
    let mut merged = Vec::new();
    // What only the stored list has comes where it was relative to what the patch names, else behind.
    for item in items.iter().filter(|item| !gone(item)) {
        while let Some(one) = rest.next_if(|one| place(item).is_some_and(|at| place(one) < Some(at))) {
            merged.push(one.clone());
        }
        let mut new = place(item).map_or(Value::Null, |at| before[at].clone());
        strategic(&mut new, item, &format!("{path}[]"), view);
        merged.push(new);
    }
    merged.extend(rest.cloned());
    *target = merged.into();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::kinds::Kinds;

    #[test]
    fn a_merge_patch_takes_out_what_is_null() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut object, &json!({"a": {"b": null, "e": {"f": null}}, "d": [2, 3]}));
        assert_eq!(object, json!({"a": {"c": 2, "e": {}}, "d": [2, 3]}));
    }

    #[test]
    fn lists_with_a_key_are_merged_item_by_item() {
        let view = Kinds::default().find("", "v1", "nodes").unwrap();
        let node = json!({"metadata": {"finalizers": ["a/b"]}, "status": {"conditions": [{"type": "A", "status": "x"}, {"type": "B"}]}});
        let patch = json!({"metadata": {"finalizers": ["c/d"]}, "status": {"conditions": [
            {"type": "A", "status": "y"}, {"type": "B", "$patch": "delete"}, {"type": "C"},
        ]}});
        let patched = Patch::Strategic(patch).apply(&node, &view).unwrap();
        assert_eq!(
            patched,
            json!({"metadata": {"finalizers": ["c/d", "a/b"]}, "status": {"conditions": [{"type": "A", "status": "y"}, {"type": "C"}]}})
        );
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}});
        let patched = Patch::Strategic(patch).apply(&node, &view).unwrap();
        assert_eq!(patched["metadata"]["finalizers"], json!([]));
    }
}
