//! What is dropped from an object before anything looks at it, and what is put in.

use serde_json::Value;

use super::{Place, Schema};

/// Drops what the schema does not name, and nulls where it has no room for them; returns the paths of the unknown fields in order.
///
/// `apiVersion`, `kind` and `metadata` of the object itself stay.
pub(in super::super) fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(object, schema, Place::Root, &mut unknown);
    unknown.sort();
    drop_nulls(object, schema);
    unknown
}

fn walk(value: &mut Value, schema: &Schema, place: Place<'_>, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let root = matches!(place, Place::Root);
            fields.retain(|key, value| {
                let below = Place::Property(&place, key);
                if root && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                if let Some(property) = schema.properties.get(key) {
                    walk(value, property, below, unknown);
                    return true;
                }
                if let Some(additional) = &schema.additional {
                    walk(value, additional, below, unknown);
                    return true;
                }
                if !schema.preserve {
                    unknown.push(below.to_string());
                }
                schema.preserve
            });
        }
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                match &schema.items {
                    Some(of) => walk(item, of, Place::Item(&place, i), unknown),
                    None if schema.preserve => {}
                    None => walk(item, &Schema::default(), Place::Item(&place, i), unknown),
                }
            }
        }
        Value::Number(number) => {
            // Go writes a whole number without its fraction.
            let whole = number.as_f64().filter(|n| number.is_f64() && n.fract() == 0.0 && n.abs() < 1e15);
            if let Some(whole) = whole {
                *value = Value::from(whole as i64);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Takes out nulls that are neither allowed nor replaced by a default.
fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => fields.retain(|key, value| {
            let property = schema.properties.get(key).or(schema.additional.as_deref());
            let Some(property) = property else { return true };
            if value.is_null() {
                return property.nullable || property.default.is_some();
            }
            drop_nulls(value, property);
            true
        }),
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                items.iter_mut().for_each(|item| drop_nulls(item, of));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Puts in the defaults of what is absent, or null where null is not allowed.
pub(in super::super) fn default(value: &mut Value, schema: &Schema) {
    if !schema.fills {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                if fields.get(name).is_none_or(|value| value.is_null() && !property.nullable) {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(property) = schema.properties.get(name).or(schema.additional.as_deref()) {
                    fill(value, property);
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                items.iter_mut().for_each(|item| fill(item, of));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fill(value: &mut Value, schema: &Schema) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
    default(value, schema);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let spec = json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "n": {"type": "string", "nullable": true, "default": "y"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"in": {"type": "object", "properties": {}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "integer", "default": 1}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "integer"}}}},
        }});
        Schema::parse(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
    }

    #[test]
    fn what_the_schema_does_not_name_goes() {
        let mut object = json!({"kind": "K", "metadata": {"x": 1}, "more": 1, "spec": {
            "b": 1, "open": {"z": 1, "in": {"z": 1}}, "map": {"m": {"z": 1}}, "list": [{"k": 1, "z": 2}],
        }});
        let unknown = prune(&mut object, &schema());
        assert_eq!(unknown, ["more", "spec.b", "spec.list[0].z", "spec.map.m.z", "spec.open.in.z"]);
        let left = json!({"kind": "K", "metadata": {"x": 1}, "spec": {
            "open": {"z": 1, "in": {}}, "map": {"m": {}}, "list": [{"k": 1}],
        }});
        assert_eq!(object, left);
    }

    #[test]
    fn nulls_become_defaults_or_go() {
        let mut object = json!({"spec": {"a": null, "n": null, "list": null, "map": {"m": {}}}});
        prune(&mut object, &schema());
        default(&mut object, &schema());
        assert_eq!(object, json!({"spec": {"a": "x", "n": null, "map": {"m": {"k": 1}}}}));
    }
}
