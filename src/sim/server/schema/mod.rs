//! Structural schemas of CustomResourceDefinitions: parsed once, then pruning, defaulting and validation walk the tree.
//!
//! Own code, because no library words its errors as the API server does, and the three walks are short. Only what the definitions we
//! install use is understood: not `oneOf`, `anyOf`, `allOf`, `not`, `multipleOf`, embedded resources, or rules in CEL; a definition with one of
//! them is refused, so that none is silently not kept.

mod prune;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regex::Regex;
use serde_json::Value;

pub(super) use prune::{default, prune};
pub(super) use validate::{validate, validate_at};

/// Where in an object something is. Written out only when there is something to say about it.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root,
    Property(&'a Place<'a>, &'a str),
    /// Of a map: written with its dot even at the top.
    Member(&'a Place<'a>, &'a str),
    Keyed(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Property(Self::Root, name) => f.write_str(name),
            Self::Property(above, name) | Self::Member(above, name) => write!(f, "{above}.{name}"),
            Self::Keyed(above, name) => write!(f, "{above}[{name}]"),
            Self::Item(above, i) => write!(f, "{above}[{i}]"),
        }
    }
}

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty is any.
    pub kind: String,
    /// In the order of their names, so that errors are too.
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<String>,
    pub nullable: bool,
    pub preserve: bool,
    pub int_or_string: bool,
    pub default: Option<Value>,
    /// Whether this or anything below has a default.
    pub fills: bool,
    pub allowed: Option<Vec<Value>>,
    pub pattern: Option<Regex>,
    pub format: String,
    pub length: Bounds,
    pub item_count: Bounds,
    pub property_count: Bounds,
    pub minimum: Option<Limit>,
    pub maximum: Option<Limit>,
    pub list: ListType,
    /// A map that has one owner.
    pub atomic_map: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub least: Option<u64>,
    pub most: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub value: f64,
    pub exclusive: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

const UNDERSTOOD: &[&str] = &[
    "additionalProperties",
    "default",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
];

impl Schema {
    /// Lets everything through.
    pub(super) fn open() -> Self {
        Self { kind: "object".into(), preserve: true, ..Self::default() }
    }

    pub(super) fn parse(schema: &Value) -> Result<Self, String> {
        let fields = schema.as_object().ok_or("a schema that is no object")?;
        let known: BTreeSet<_> = UNDERSTOOD.iter().copied().collect();
        if let Some(unknown) = fields.keys().find(|key| !known.contains(key.as_str())) {
            return Err(format!("the simulator does not understand {unknown} in a schema"));
        }
        let text = |key: &str| schema[key].as_str().unwrap_or_default().to_owned();
        let flag = |key: &str| schema[key] == true;
        let bounds = |least: &str, most: &str| Bounds { least: schema[least].as_u64(), most: schema[most].as_u64() };
        let limit =
            |key: &str, exclusive: &str| schema[key].as_f64().map(|value| Limit { value, exclusive: flag(exclusive) });
        let strings = |key: &str| {
            let all = schema[key].as_array().into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut properties = BTreeMap::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            properties.insert(name.clone(), Self::parse(property)?);
        }
        let child = |key: &str| match fields.get(key) {
            Some(child) if child.is_object() => Self::parse(child).map(Box::new).map(Some),
            Some(Value::Bool(true)) => Ok(Some(Box::new(Self { preserve: true, ..Self::default() }))),
            Some(_) | None => Ok(None),
        };
        let pattern = fields.get("pattern").and_then(Value::as_str);
        let pattern = pattern.map(Regex::new).transpose().map_err(|error| error.to_string())?;
        let list = match fields.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(strings("x-kubernetes-list-map-keys")),
            Some(_) | None => ListType::Atomic,
        };
        let (additional, items) = (child("additionalProperties")?, child("items")?);
        let mut below = properties.values().chain(additional.as_deref()).chain(items.as_deref());
        let fills = fields.contains_key("default") || below.any(|schema| schema.fills);
        Ok(Self {
            kind: text("type"),
            fills,
            properties,
            additional,
            items,
            required: strings("required"),
            nullable: flag("nullable"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            default: fields.get("default").cloned(),
            allowed: fields.get("enum").and_then(Value::as_array).cloned(),
            pattern,
            format: text("format"),
            length: bounds("minLength", "maxLength"),
            item_count: bounds("minItems", "maxItems"),
            property_count: bounds("minProperties", "maxProperties"),
            minimum: limit("minimum", "exclusiveMinimum"),
            maximum: limit("maximum", "exclusiveMaximum"),
            list,
            atomic_map: fields.get("x-kubernetes-map-type").is_some_and(|kind| kind == "atomic"),
        })
    }
}
