//! What is wrong with an object, in the API server's words.
//!
//! What an update leaves as it was is not judged again: a value that a later schema would refuse may stay.

use serde_json::{Value, json};

use super::super::status::FieldError;
use super::{ListType, Place, Schema};

/// All errors of an object under its schema.
pub(in super::super) fn validate(object: &Value, old: Option<&Value>, schema: &Schema) -> Vec<FieldError> {
    validate_at("", object, old, schema)
}

/// As [`validate`], of a part that the server names by `prefix` only in the field.
pub(in super::super) fn validate_at(
    prefix: &str,
    value: &Value,
    old: Option<&Value>,
    schema: &Schema,
) -> Vec<FieldError> {
    let mut judge = Judge { prefix, errors: Vec::new() };
    judge.node(Place::Root, value, old, schema);
    judge.lists(Place::Root, value, old, schema);
    judge.errors
}

struct Judge<'a> {
    prefix: &'a str,
    errors: Vec<FieldError>,
}

impl Judge<'_> {
    fn field(&self, place: Place<'_>) -> String {
        let path = place.to_string();
        let path = path.strip_prefix('.').unwrap_or(&path);
        match (self.prefix.is_empty(), path.is_empty()) {
            (true, true) => String::new(),
            (true, false) => path.to_owned(),
            (false, true) => self.prefix.to_owned(),
            (false, false) => format!("{}.{path}", self.prefix),
        }
    }

    fn invalid(&mut self, path: Place<'_>, value: &Value, rule: &str) {
        let error = FieldError::invalid(self.field(path), value, &format!("{path} in body {rule}"));
        self.errors.push(error);
    }

    fn wrong_type(&mut self, path: Place<'_>, wanted: &str, shown: &str) {
        let detail = format!("{path} in body must be of type {wanted}: {shown:?}");
        let error = FieldError::type_invalid(self.field(path), &json!(shown), &detail);
        self.errors.push(error);
    }

    fn node(&mut self, path: Place<'_>, value: &Value, old: Option<&Value>, schema: &Schema) {
        if old == Some(value) {
            return;
        }
        // The server goes on to the other rules after a wrong type.
        self.type_of(path, value, schema);
        match value {
            Value::String(text) => self.string(path, text, schema),
            Value::Number(number) => self.number(path, value, number, schema),
            Value::Array(items) => self.array(path, items, old, schema),
            Value::Null | Value::Bool(_) | Value::Object(_) => {}
        }
        if let Some(allowed) = &schema.allowed
            && !allowed.contains(value)
            && !(value.is_null() && schema.nullable)
        {
            let valid: Vec<_> =
                allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
            let error = FieldError::not_supported(self.field(path), value, &valid);
            self.errors.push(error);
        }
        if let Value::Object(fields) = value {
            self.object(path, fields, old, schema);
        }
    }

    fn type_of(&mut self, path: Place<'_>, value: &Value, schema: &Schema) {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if schema.int_or_string {
            if !matches!(found, "integer" | "string") {
                self.wrong_type(path, "integer,string", found);
            }
            return;
        }
        let whole = |value: &Value| value.as_f64().is_some_and(|number| number.fract() == 0.0);
        let fits = match schema.kind.as_str() {
            "" => true,
            _ if value.is_null() => schema.nullable,
            "number" => matches!(found, "number" | "integer"),
            "integer" => found == "integer" || found == "number" && whole(value),
            kind => kind == found,
        };
        if !fits {
            self.wrong_type(path, &schema.kind, found);
        }
    }

    /// The first rule that is broken is the one that is told.
    fn string(&mut self, path: Place<'_>, text: &str, schema: &Schema) {
        let length = text.chars().count() as u64;
        let value = || json!(text);
        if let Some(most) = schema.length.most.filter(|most| length > *most) {
            let error = FieldError::too_long(self.field(path), most);
            self.errors.push(error);
        } else if let Some(least) = schema.length.least.filter(|least| length < *least) {
            self.invalid(path, &value(), &format!("should be at least {least} chars long"));
        } else if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            self.invalid(path, &value(), &format!("should match '{pattern}'"));
        }
        if !fits_format(&schema.format, text) {
            self.wrong_type(path, &schema.format, text);
        }
    }

    fn number(&mut self, path: Place<'_>, value: &Value, number: &serde_json::Number, schema: &Schema) {
        let Some(n) = number.as_f64() else { return };
        let fits = match schema.format.as_str() {
            _ if schema.kind != "integer" => true,
            "int32" => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            _ => n.fract() == 0.0,
        };
        if !fits {
            let format = match schema.format.as_str() {
                "" => "(default format)".to_owned(),
                format => format!("with format {format}"),
            };
            let detail = format!("Checked value must be of type integer {format} in {path}");
            let error = FieldError::invalid("<nil>", &json!(""), &detail);
            self.errors.push(error);
        }
        if let Some(limit) = schema.minimum.filter(|l| n < l.value || l.exclusive && n <= l.value) {
            let rule = if limit.exclusive { "greater than" } else { "greater than or equal to" };
            self.invalid(path, value, &format!("should be {rule} {}", limit.value));
        }
        if let Some(limit) = schema.maximum.filter(|l| n > l.value || l.exclusive && n >= l.value) {
            let rule = if limit.exclusive { "less than" } else { "less than or equal to" };
            self.invalid(path, value, &format!("should be {rule} {}", limit.value));
        }
    }

    fn array(&mut self, path: Place<'_>, items: &[Value], old: Option<&Value>, schema: &Schema) {
        if let Some(of) = &schema.items {
            for (i, item) in items.iter().enumerate() {
                let before = old.and_then(|old| Self::counterpart(old, item, schema));
                self.node(Place::Item(&path, i), item, before, of);
            }
        }
        let size = items.len();
        if let Some(least) = schema.item_count.least.filter(|least| (size as u64) < *least) {
            self.invalid(path, &json!(size), &format!("should have at least {least} items"));
        }
        if let Some(most) = schema.item_count.most.filter(|most| size as u64 > *most) {
            let error = FieldError::too_many(self.field(path), size, most);
            self.errors.push(error);
        }
    }

    /// The item of the old list that this one was: by key in a map, by place nowhere else.
    fn counterpart<'v>(old: &'v Value, item: &Value, schema: &Schema) -> Option<&'v Value> {
        let ListType::Map(keys) = &schema.list else { return None };
        old.as_array()?.iter().find(|before| keys.iter().all(|key| before[key.as_str()] == item[key.as_str()]))
    }

    fn object(
        &mut self,
        path: Place<'_>,
        fields: &serde_json::Map<String, Value>,
        old: Option<&Value>,
        schema: &Schema,
    ) {
        let size = fields.len();
        if let Some(least) = schema.property_count.least.filter(|least| (size as u64) < *least) {
            self.invalid(path, &json!(size), &format!("should have at least {least} properties"));
        }
        if let Some(most) = schema.property_count.most.filter(|most| size as u64 > *most) {
            let error = FieldError::too_many(self.field(path), size, most);
            self.errors.push(error);
        }
        let before = |key: &str| old.and_then(|old| old.get(key));
        if let Some(additional) = &schema.additional {
            for (key, value) in fields.iter().filter(|(key, _)| !schema.properties.contains_key(*key)) {
                self.node(Place::Member(&path, key), value, before(key), additional);
            }
        }
        // In the order of the properties, which is that of their names.
        let mut present: Vec<_> =
            fields.iter().filter_map(|(name, value)| Some((name, value, schema.properties.get(name)?))).collect();
        present.sort_unstable_by_key(|(name, ..)| *name);
        for (name, value, property) in present {
            self.node(Place::Property(&path, name), value, before(name), property);
        }
        for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
            let error = FieldError::required(self.field(Place::Property(&path, name)), "");
            self.errors.push(error);
        }
    }

    /// Lists that are sets or maps name nothing twice.
    fn lists(&mut self, path: Place<'_>, value: &Value, old: Option<&Value>, schema: &Schema) {
        if old == Some(value) {
            return;
        }
        match value {
            Value::Array(items) => {
                let keys: Vec<Value> = match &schema.list {
                    ListType::Atomic => Vec::new(),
                    ListType::Set => items.clone(),
                    ListType::Map(keys) => items.iter().map(|item| key_of(item, keys)).collect(),
                };
                for i in second_appearances(&keys) {
                    let error = FieldError::duplicate(self.field(Place::Item(&path, i)), &keys[i]);
                    self.errors.push(error);
                }
                if let Some(of) = &schema.items {
                    for (i, item) in items.iter().enumerate() {
                        self.lists(Place::Item(&path, i), item, None, of);
                    }
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let before = old.and_then(|old| old.get(name));
                    if let Some(property) = schema.properties.get(name) {
                        self.lists(Place::Property(&path, name), value, before, property);
                    } else if let Some(additional) = &schema.additional {
                        self.lists(Place::Keyed(&path, name), value, before, additional);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn key_of(item: &Value, keys: &[String]) -> Value {
    let present = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(present.collect())
}

/// Where a value stands for the second time.
fn second_appearances(values: &[Value]) -> Vec<usize> {
    let times_before = |i: usize| values[..i].iter().filter(|value| **value == values[i]).count();
    (0..values.len()).filter(|&i| times_before(i) == 1).collect()
}

/// Formats the server checks; others are only words.
fn fits_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uri" => text.starts_with('/') || text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some()),
        _ => true,
    }
}
