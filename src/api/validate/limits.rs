//! Values outside the limits of the stored version.
//!
//! An API server checks what it is sent against the version it is sent in. What came in as v1beta1, whose schema has few
//! limits, may be outside those of v1beta2: it is stored, and refused by the next one who writes it as v1beta2. Such a user
//! is told at once, and not refused (HD-39, CH-9, CH-9a).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Admission, Verdict, shown};
use crate::crds;
use crate::schema::patterns;

pub(super) fn judge<K: Admission>(object: &K, verdict: &mut Verdict) {
    let Some(schema) = crds::stored_schema(&K::kind(&())) else { return };
    let Ok(object) = serde_json::to_value(object) else { return };
    if let Some(spec) = object.get("spec") {
        walk("spec", &schema["properties"]["spec"], spec, verdict);
    }
}

fn walk(path: &str, schema: &Value, value: &Value, verdict: &mut Verdict) {
    if let Some(wanted) = limit(schema, value) {
        verdict.warn(format!("{path}: {} will not be accepted as v1beta2: {wanted}", shown(value)));
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                walk(&format!("{path}.{name}"), below, value, verdict);
            }
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, item)| walk(&format!("{path}[{i}]"), &schema["items"], item, verdict));
        }
        _ => {}
    }
}

/// What would be accepted in place of `value`, if it is not.
fn limit(schema: &Value, value: &Value) -> Option<String> {
    let number = |keyword: &str| schema[keyword].as_f64();
    match value {
        Value::Number(n) => {
            let n = n.as_f64()?;
            (number("minimum").filter(|least| n < *least).map(|least| format!("at least {least}")))
                .or_else(|| number("maximum").filter(|most| n > *most).map(|most| format!("at most {most}")))
        }
        Value::String(text) => {
            let length = text.chars().count() as f64;
            let words = schema["enum"].as_array().filter(|words| !words.contains(value));
            (words.map(|_| format!("one of {}", schema["enum"])))
                .or_else(|| number("minLength").filter(|n| length < *n).map(|n| format!("at least {n} characters")))
                .or_else(|| number("maxLength").filter(|n| length > *n).map(|n| format!("at most {n} characters")))
                .or_else(|| schema["pattern"].as_str().and_then(|pattern| mismatch(pattern, text)).map(str::to_owned))
        }
        Value::Array(items) => {
            let count = items.len() as f64;
            number("maxItems").filter(|n| count > *n).map(|n| format!("at most {n} entries")).or_else(|| {
                schema["x-kubernetes-list-type"].as_str().filter(|kind| matches!(*kind, "map" | "set"))?;
                let keys = schema["x-kubernetes-list-map-keys"].as_array();
                let mark = |item: &Value| match keys {
                    Some(keys) => keys
                        .iter()
                        .filter_map(Value::as_str)
                        .map(|key| format!("{key} {}", shown(&item[key])))
                        .collect(),
                    None => vec![shown(item)],
                };
                let mut seen = BTreeSet::new();
                let again = items.iter().map(mark).find(|mark| !seen.insert(mark.clone()))?;
                Some(format!("one entry with {}", again.join(" and ")))
            })
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

/// The patterns that only v1beta2 has; all others were checked already.
fn mismatch(pattern: &str, text: &str) -> Option<&'static str> {
    let within = |text: &str, inner: &str| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        end(text.chars().next())
            && end(text.chars().last())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || inner.contains(c))
    };
    let lower = |text: &str| !text.contains(|c: char| c.is_ascii_uppercase());
    match pattern {
        patterns::DNS1123 if !(lower(text) && text.split('.').all(|label| within(label, "-"))) => {
            Some("a DNS name: lower case letters, digits, '-' and '.'")
        }
        patterns::KIND if !(within(text, "-") && text.starts_with(|c: char| c.is_ascii_alphabetic())) => {
            Some("a kind: letters, digits and '-', a letter first")
        }
        _ => None,
    }
}
