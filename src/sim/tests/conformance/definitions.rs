//! The kinds of the suite: lamps with everything a schema can say, bulbs in two versions and without a status subresource, grids of the
//! whole cluster.

use serde_json::{Value, json};

pub(crate) const GROUP: &str = "conformance.example.com";

pub(crate) fn all() -> Vec<Value> {
    vec![
        definition("Lamp", "lamps", "Namespaced", json!([version("v1", true, lamp(), true)])),
        definition(
            "Bulb",
            "bulbs",
            "Namespaced",
            json!([
                version("v1beta1", false, older_bulb(), false),
                {
                    "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": bulb()},
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                },
            ]),
        ),
        definition(
            "Grid",
            "grids",
            "Cluster",
            json!([version("v1", true, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}), true)]),
        ),
    ]
}

fn definition(kind: &str, plural: &str, scope: &str, versions: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": scope, "names": {"kind": kind, "plural": plural, "shortNames": [&plural[..2]]},
            "versions": versions,
        },
    })
}

fn version(name: &str, stored: bool, schema: Value, status: bool) -> Value {
    let mut version = json!({"name": name, "served": true, "storage": stored, "schema": {"openAPIV3Schema": schema}});
    if status {
        version["subresources"] = json!({"status": {}});
    }
    version
}

fn bulb() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"color": {"type": "string"}, "size": {"type": "integer", "default": 3}}},
        "status": {"type": "object", "properties": {"on": {"type": "boolean"}}},
    }})
}

/// Schemas that are all the same would be one of the whole definition.
fn older_bulb() -> Value {
    let mut schema = bulb();
    schema["description"] = "As it was.".into();
    schema
}

fn lamp() -> Value {
    let named = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"}, "value": {"type": "string"}, "kept": {"type": "string", "default": "d"},
    }});
    json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["watts"],
                "properties": {
                    "watts": {"type": "integer", "minimum": 1, "maximum": 100},
                    "volts": {"type": "number", "exclusiveMinimum": true, "minimum": 0},
                    "small": {"type": "integer", "format": "int32"},
                    "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                    "label": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
                    "since": {"type": "string", "format": "date-time"},
                    "site": {"type": "string", "format": "uri"},
                    "on": {"type": "boolean", "default": true},
                    "none": {"type": "string", "nullable": true},
                    "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 3, "minItems": 1},
                    "parts": {"type": "array", "items": named, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
                    "map": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2, "minProperties": 1},
                    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "either": {"x-kubernetes-int-or-string": true},
                    "deep": {"type": "object", "default": {}, "properties": {"level": {"type": "integer", "default": 1}}},
                },
            },
            "status": {
                "type": "object",
                "properties": {
                    "phase": {"type": "string", "enum": ["Off", "On"]},
                    "count": {"type": "integer"},
                    "conditions": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                        "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}, "status": {"type": "string"}}}},
                },
            },
        },
    })
}
