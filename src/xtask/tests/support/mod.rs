//! What the tests of released files share: reading them, substituting variables as clusterctl does, and judging an object by a
//! structural schema.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]
#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

pub type Variables = BTreeMap<String, String>;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The folder of a provider's newest release.
pub fn release(provider: &str) -> PathBuf {
    root().join("clusterctl").join(provider).join(concat!("v", env!("CARGO_PKG_VERSION")))
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn documents(yaml: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    all.into_iter().filter(|document| !document.is_null()).collect()
}

/// One `${NAME}` of a text: its name and its default, if it has one.
fn variable(inside: &str) -> (&str, Option<&str>) {
    let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    if rest.is_empty() {
        return (name, None);
    }
    let default = [":=", ":-", "="].iter().find_map(|operator| rest.strip_prefix(operator));
    (name, Some(default.unwrap_or_else(|| panic!("${{{inside}}}: not a form that is used here"))))
}

/// Every occurrence of a variable, in order.
pub fn variables(text: &str) -> Vec<(String, Option<String>)> {
    let pieces = text.split("${").skip(1);
    let all = pieces.map(|piece| variable(piece.split_once('}').unwrap_or_else(|| panic!("open: {piece}")).0));
    all.map(|(name, default)| (name.to_owned(), default.map(str::to_owned))).collect()
}

/// Substitution by the rules of clusterctl (K-106): a default counts when the variable is unset or empty; what has neither is missing.
pub fn render(text: &str, given: &Variables) -> Result<String, Vec<String>> {
    let mut pieces = text.split("${");
    let mut rendered = pieces.next().unwrap().to_owned();
    let mut missing = Vec::new();
    for piece in pieces {
        let (inside, rest) = piece.split_once('}').unwrap();
        let (name, default) = variable(inside);
        match given.get(name).map(String::as_str).filter(|value| !value.is_empty()).or(default) {
            Some(value) => rendered.push_str(value),
            None => missing.push(name.to_owned()),
        }
        rendered.push_str(rest);
    }
    missing.sort();
    missing.dedup();
    if missing.is_empty() { Ok(rendered) } else { Err(missing) }
}

/// Everything about `value` that `schema` refuses. Fields it does not know are refused too, though a server would drop them.
pub fn refused(schema: &Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    judge(schema, value, "", &mut wrong);
    wrong
}

fn judge(schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
    let mut say = |what: String| wrong.push(format!("{path}: {what}"));
    if schema["x-kubernetes-preserve-unknown-fields"] == true && schema["type"].is_null() {
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let either = schema["x-kubernetes-int-or-string"] == true && matches!(kind, "integer" | "string");
    if schema["type"].as_str() != Some(kind) && !either {
        return say(format!("{kind} where {} is wanted", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        say(format!("{value} is none of {}", schema["enum"]));
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|least| number < least) {
            say(format!("{value} is below {}", schema["minimum"]));
        }
        if schema["maximum"].as_f64().is_some_and(|most| number > most) {
            say(format!("{value} is above {}", schema["maximum"]));
        }
    }
    let outside = |least: &str, most: &str, length: usize| {
        let least = schema[least].as_u64().is_some_and(|least| (length as u64) < least);
        least || schema[most].as_u64().is_some_and(|most| (length as u64) > most)
    };
    match value {
        Value::String(text) => {
            if outside("minLength", "maxLength", text.chars().count()) {
                say(format!("{value} is too short or too long"));
            }
            if schema["pattern"].as_str().is_some_and(|pattern| !Regex::new(pattern).unwrap().is_match(text)) {
                say(format!("{value} does not match {}", schema["pattern"]));
            }
        }
        Value::Array(items) => {
            if outside("minItems", "maxItems", items.len()) {
                say("too few or too many".to_owned());
            }
            for (i, item) in items.iter().enumerate() {
                judge(&schema["items"], item, &format!("{path}[{i}]"), wrong);
            }
        }
        Value::Object(fields) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    say(format!("{name} is required"));
                }
            }
            for (name, field) in fields {
                let (below, path) = (&schema["properties"][name], format!("{path}.{name}"));
                // The server knows the fields of metadata by itself.
                if path == ".metadata" || schema["x-kubernetes-preserve-unknown-fields"] == true && below.is_null() {
                    continue;
                }
                match (below.is_object(), &schema["additionalProperties"]) {
                    (true, _) => judge(below, field, &path, wrong),
                    (false, any @ Value::Object(_)) => judge(any, field, &path, wrong),
                    (false, _) => wrong.push(format!("{path}: unknown field")),
                }
            }
        }
        _ => {}
    }
}
