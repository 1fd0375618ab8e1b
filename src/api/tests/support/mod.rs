//! Random objects of a schema, and a check of an object against one.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its own part; a test may fail")]

use capm3_api::crds;
use serde_json::{Map, Value, json};

/// A small generator of numbers that a seed repeats.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub(crate) fn kinds() -> Vec<String> {
    crds::infrastructure().into_iter().map(|crd| crd.spec.names.kind).collect()
}

pub(crate) fn schema(kind: &str, version: &str) -> Value {
    let crds = crds::infrastructure().into_iter().chain(crds::ipam());
    let crd = crds.into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let version = crd.spec.versions.into_iter().find(|v| v.name == version).unwrap();
    serde_json::to_value(version.schema.unwrap().open_api_v3_schema.unwrap()).unwrap()
}

/// A random object of a kind that its schema accepts, lists and maps with several elements.
pub(crate) fn object(dice: &mut Dice, kind: &str, version: &str, schema: &Value) -> Value {
    let mut object = any(dice, schema);
    object["apiVersion"] = format!("infrastructure.cluster.x-k8s.io/{version}").into();
    object["kind"] = kind.into();
    object["metadata"] = json!({"name": "some", "namespace": "there", "labels": {"a": "b"}});
    object
}

fn any(dice: &mut Dice, schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("object") if schema["additionalProperties"].is_object() => {
            let entries = (0..dice.below(7)).map(|_| (text(dice), any(dice, &schema["additionalProperties"])));
            Value::Object(entries.collect::<Vec<_>>().into_iter().collect())
        }
        Some("object") => {
            let mut object = Map::new();
            let required = |name: &str| schema["required"].as_array().is_some_and(|r| r.iter().any(|r| r == name));
            for (name, below) in schema["properties"].as_object().into_iter().flatten() {
                if required(name) || !dice.one_in(4) {
                    object.insert(name.clone(), any(dice, below));
                }
            }
            if object.is_empty() && schema["minProperties"] == 1 {
                let (name, below) = schema["properties"].as_object().unwrap().iter().next().unwrap();
                object.insert(name.clone(), any(dice, below));
            }
            object.into()
        }
        Some("array") => {
            let least = schema["minItems"].as_u64().unwrap_or(0);
            let mut list: Vec<Value> = (0..least + dice.below(6)).map(|_| any(dice, &schema["items"])).collect();
            let mut seen = Vec::new();
            let keys: Vec<_> = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            list.retain(|item| {
                let mark =
                    if keys.is_empty() { json!(item) } else { keys.iter().map(|key| item[key].clone()).collect() };
                let new = schema["x-kubernetes-list-type"] == "atomic" || !seen.contains(&mark);
                seen.push(mark);
                new
            });
            list.into()
        }
        Some("boolean") => dice.one_in(2).into(),
        Some("integer") => {
            let least = schema["minimum"].as_f64().unwrap_or(0.0) as u64;
            let most = schema["maximum"].as_f64().unwrap_or(70_000.0) as u64;
            (least + dice.below(4).min(dice.below(most - least + 1) + dice.below(2)) * ((most - least) / 4)).into()
        }
        Some("string") => string(dice, schema),
        _ => [json!(100), json!("fast"), json!({"a": [1, null]}), json!(true), json!(null)][dice.below(5) as usize]
            .clone(),
    }
}

fn string(dice: &mut Dice, schema: &Value) -> Value {
    if let Some(words) = schema["enum"].as_array() {
        return words[dice.below(words.len() as u64) as usize].clone();
    }
    let n = dice.below(200);
    match (schema["format"].as_str(), schema["pattern"].as_str().unwrap_or_default()) {
        (Some("date-time"), _) => "2026-01-02T03:04:05Z".into(),
        (Some("uri"), _) => format!("http://images.example/{n}").into(),
        (_, pattern) if pattern.contains("25[0-5]") => format!("10.0.0.{n}").into(),
        (_, pattern) if pattern.contains("fA-F") => format!("fd00::{n}").into(),
        (_, pattern) if pattern.starts_with("^[a-zA-Z]([-a-zA-Z0-9]*") => format!("Kind{n}").into(),
        (_, "") if schema["minLength"].is_null() && dice.one_in(6) => "".into(),
        _ => text(dice).into(),
    }
}

fn text(dice: &mut Dice) -> String {
    ["yes", "on", "eth", "pool", "x-y.z", "a"][dice.below(6) as usize].to_owned() + &dice.below(1_000_000).to_string()
}

/// What is wrong with `value` under `schema`; patterns aside.
pub(crate) fn faults(path: &str, schema: &Value, value: &Value, into: &mut Vec<String>) {
    if schema["type"].is_null() {
        return;
    }
    let right_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        _ => value.is_string(),
    };
    if !right_type {
        return into.push(format!("{path}: {value} is no {}", schema["type"]));
    }
    let size = match value {
        Value::Object(object) => Some((object.len() as f64, "minProperties", "maxProperties")),
        Value::Array(list) => Some((list.len() as f64, "minItems", "maxItems")),
        Value::String(text) => Some((text.chars().count() as f64, "minLength", "maxLength")),
        Value::Number(number) => Some((number.as_f64().unwrap(), "minimum", "maximum")),
        _ => None,
    };
    let out = |(size, least, most): (f64, &str, &str)| {
        schema[least].as_f64().is_some_and(|least| size < least)
            || schema[most].as_f64().is_some_and(|most| size > most)
    };
    if size.is_some_and(out) {
        into.push(format!("{path}: {value} is out of bounds"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        into.push(format!("{path}: {value} is not one of {}", schema["enum"]));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value[name].is_null() {
            into.push(format!("{path}.{name}: missing"));
        }
    }
    for (name, below) in value.as_object().into_iter().flatten() {
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Null) if path.is_empty() || schema["properties"].is_null() => {}
            (Value::Null, Value::Null) => into.push(format!("{path}.{name}: unknown")),
            (Value::Null, below_schema) | (below_schema, _) => {
                faults(&format!("{path}.{name}"), below_schema, below, into)
            }
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        faults(&format!("{path}[{i}]"), &schema["items"], item, into);
    }
}

/// Where two objects differ first, for a message that can be read.
pub(crate) fn difference(path: &str, a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let at = |object: &Map<String, Value>, key: &str| object.get(key).cloned().unwrap_or_default();
            keys.into_iter().find_map(|key| difference(&format!("{path}.{key}"), &at(a, key), &at(b, key)))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(&format!("{path}[{i}]"), a, b))
        }
        _ => (a != b).then(|| format!("{path}: {a} instead of {b}")),
    }
}
