//! Pieces of schemas that a derive cannot say, and the way from what it says to what an API server accepts.
//!
//! The types of this crate carry their limits as attributes. Three of these are ours and mean: `x-default`, a default that
//! the API server fills in (the derive's own defaults only say what is absent); `x-keyed-by`, a list whose entries are
//! told apart by that field or those fields; `x-format`, a format that is really meant.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// Patterns as the published CRDs have them.
pub(crate) mod patterns {
    pub(crate) const REASON: &str = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
    pub(crate) const CONDITION_TYPE: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
    pub(crate) const INTERFACE: &str = r"^[a-zA-Z][a-zA-Z0-9._-]*$";
    pub(crate) const IPV4: &str =
        r"^((([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\.){3}([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))$";
    pub(crate) const IPV6: &str = r"^(([0-9a-fA-F]{1,4}:){7,7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,7}:|([0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,5}(:[0-9a-fA-F]{1,4}){1,2}|([0-9a-fA-F]{1,4}:){1,4}(:[0-9a-fA-F]{1,4}){1,3}|([0-9a-fA-F]{1,4}:){1,3}(:[0-9a-fA-F]{1,4}){1,4}|([0-9a-fA-F]{1,4}:){1,2}(:[0-9a-fA-F]{1,4}){1,5}|[0-9a-fA-F]{1,4}:((:[0-9a-fA-F]{1,4}){1,6})|:((:[0-9a-fA-F]{1,4}){1,7}|:))$";
    pub(crate) const IP: &str = r"((^((([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\.){3}([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))$)|(^(([0-9a-fA-F]{1,4}:){7,7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,7}:|([0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,5}(:[0-9a-fA-F]{1,4}){1,2}|([0-9a-fA-F]{1,4}:){1,4}(:[0-9a-fA-F]{1,4}){1,3}|([0-9a-fA-F]{1,4}:){1,3}(:[0-9a-fA-F]{1,4}){1,4}|([0-9a-fA-F]{1,4}:){1,2}(:[0-9a-fA-F]{1,4}){1,5}|[0-9a-fA-F]{1,4}:((:[0-9a-fA-F]{1,4}){1,6})|:((:[0-9a-fA-F]{1,4}){1,7}|:))$))";
    pub(crate) const DNS1123: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    pub(crate) const KIND: &str = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$";
    pub(crate) const SUBNET: &str = r"((^((([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\.){3}([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))/([0-9]|[1-2][0-9]|3[0-2])$)|(^(([0-9a-fA-F]{1,4}:){7,7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,7}:|([0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,5}(:[0-9a-fA-F]{1,4}){1,2}|([0-9a-fA-F]{1,4}:){1,4}(:[0-9a-fA-F]{1,4}){1,3}|([0-9a-fA-F]{1,4}:){1,3}(:[0-9a-fA-F]{1,4}){1,4}|([0-9a-fA-F]{1,4}:){1,2}(:[0-9a-fA-F]{1,4}){1,5}|[0-9a-fA-F]{1,4}:((:[0-9a-fA-F]{1,4}){1,6})|:((:[0-9a-fA-F]{1,4}){1,7}|:))/([0-9]|[0-9][0-9]|1[0-1][0-9]|12[0-8])$))";
}

/// A long pattern in words.
pub fn in_words(pattern: &str) -> Option<&'static str> {
    let words = [
        (patterns::IPV4, "an IPv4 address"),
        (patterns::IPV6, "an IPv6 address"),
        (patterns::IP, "an IP address"),
        (patterns::SUBNET, "a network, as address/prefix length"),
        (patterns::CONDITION_TYPE, "a qualified name"),
        (patterns::DNS1123, "a DNS name"),
    ];
    words.into_iter().find(|(known, _)| *known == pattern).map(|(_, words)| words)
}

/// Any JSON at all.
pub(crate) fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// Any JSON, by name.
pub(crate) fn anything_by_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true}})
}

const CHANGED: &str = "When the status last changed.";
const MESSAGE: &str = "Why, for people.";
const REASON: &str = "Why, as one word that programs can rely on.";
const TYPE: &str = "What the condition is about.";

/// metav1 conditions.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-keyed-by": "type",
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": CHANGED},
                "message": {"type": "string", "maxLength": 32768, "description": MESSAGE},
                "observedGeneration": {
                    "type": "integer", "x-format": "int64", "minimum": 0,
                    "description": "The generation of the object that the condition is about.",
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024, "pattern": patterns::REASON, "description": REASON,
                },
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is so."},
                "type": {"type": "string", "maxLength": 316, "pattern": patterns::CONDITION_TYPE, "description": TYPE},
            },
        },
    })
}

/// The generation a status is about.
pub(crate) fn observed_generation(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "x-format": "int64"})
}

pub(crate) fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "x-format": "int64", "minimum": 0})
}

/// Conditions in the v1beta1 dialect.
pub(crate) fn v1beta1_conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "status", "type"],
            "properties": {
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": CHANGED},
                "message": {"type": "string", "minLength": 1, "maxLength": 10240, "description": MESSAGE},
                "reason": {"type": "string", "minLength": 1, "maxLength": 256, "description": REASON},
                "severity": {
                    "type": "string", "maxLength": 32,
                    "description": "`Error`, `Warning` or `Info`; only when the status is not `True`.",
                },
                "status": {"type": "string", "description": "Whether it is so: `True`, `False` or `Unknown`."},
                "type": {"type": "string", "minLength": 1, "maxLength": 256, "description": TYPE},
            },
        },
    })
}

/// A core ObjectReference, replaced as a whole.
pub(crate) fn object_reference(_: &mut SchemaGenerator) -> Schema {
    let fields = [
        ("apiVersion", "API group and version of the object."),
        ("fieldPath", "Nothing reads it."),
        ("kind", "Kind of the object."),
        ("name", "Name of the object."),
        ("namespace", "Namespace of the object; the referrer's own when absent."),
        ("resourceVersion", "Nothing reads it."),
        ("uid", "Identity of the object when it was referred to."),
    ];
    let text = |(field, about): (&str, &str)| (field.to_owned(), json!({"type": "string", "description": about}));
    let properties: Map<String, Value> = fields.into_iter().map(text).collect();
    json_schema!({"type": "object", "properties": properties, "x-kubernetes-map-type": "atomic"})
}

/// Addresses by the name of who holds them.
pub(crate) fn addresses_by_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"type": "string", "pattern": patterns::IP}})
}

/// Makes the routes and name servers below a list of networks IPv4.
pub(crate) fn ipv4(schema: &mut Schema) {
    edit(schema, |value| of_family(value, patterns::IPV4, 32));
}

/// Makes the routes and name servers below a list of networks IPv6.
pub(crate) fn ipv6(schema: &mut Schema) {
    edit(schema, |value| of_family(value, patterns::IPV6, 128));
}

/// Makes name servers addresses of either family.
pub(crate) fn any_family(schema: &mut Schema) {
    edit(schema, |value| of_family(value, patterns::IP, 128));
}

fn edit(schema: &mut Schema, with: impl FnOnce(&mut Value)) {
    let mut value = std::mem::take(schema).to_value();
    with(&mut value);
    if let Ok(edited) = Schema::try_from(value) {
        *schema = edited;
    }
}

fn of_family(value: &mut Value, pattern: &str, longest: u8) {
    match value {
        Value::Object(schema) => {
            for (name, field) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
                let Value::Object(field) = field else { continue };
                match name.as_str() {
                    "network" | "string" => _ = field.insert("pattern".into(), pattern.into()),
                    "prefix" => _ = field.insert("maximum".into(), longest.into()),
                    "dns" => {
                        if let Some(Value::Object(items)) = field.get_mut("items") {
                            items.insert("pattern".into(), pattern.into());
                        }
                    }
                    _ => {}
                }
            }
            schema.values_mut().for_each(|value| of_family(value, pattern, longest));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| of_family(value, pattern, longest)),
        _ => {}
    }
}

/// The structural schema of a type, as a CustomResourceDefinition carries it.
///
/// Required is what the type always writes: a field without a rule for leaving it out.
pub(crate) fn structural<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft07().for_serialize();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    normalise(&mut schema);
    schema
}

/// Takes out what a derive adds and an API server refuses or reads differently: `null` as a type, formats of Rust's
/// integers, defaults that only say "absent".
fn normalise(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    for noise in ["$schema", "title", "default", "nullable"] {
        schema.remove(noise);
    }
    if let Some(Value::Array(choices)) = schema.remove("anyOf") {
        let some = choices.into_iter().find(|choice| choice["type"] != "null");
        for (keyword, value) in some.as_ref().and_then(Value::as_object).into_iter().flatten() {
            schema.entry(keyword).or_insert_with(|| value.clone());
        }
        schema.remove("title");
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get("type") {
        let some = types.iter().find(|name| *name != "null").cloned();
        schema.insert("type".into(), some.unwrap_or_default());
    }
    if schema.get("format").is_some_and(|format| !matches!(format.as_str(), Some("int32" | "date-time" | "uri"))) {
        schema.remove("format");
    }
    for (ours, theirs) in [("x-default", "default"), ("x-format", "format")] {
        if let Some(value) = schema.remove(ours) {
            schema.insert(theirs.into(), value);
        }
    }
    if let Some(key) = schema.remove("x-keyed-by") {
        schema.insert("x-kubernetes-list-type".into(), "map".into());
        let keys = if key.is_array() { key } else { json!([key]) };
        schema.insert("x-kubernetes-list-map-keys".into(), keys);
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(normalise);
    }
    for below in ["items", "additionalProperties"] {
        schema.get_mut(below).map(normalise);
    }
}
