//! Label and field selectors.

use serde_json::Value;

use super::kinds::View;
use super::names::{label_value, qualified};
use super::status::Refusal;

/// What a list or a watch is narrowed to.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    pub(super) fn parse(labels: &str, fields: &str, view: &View) -> Result<Self, Refusal> {
        let labels = parse_labels(labels).map_err(Refusal::bad_request)?;
        let fields = parse_fields(fields, view).map_err(Refusal::bad_request)?;
        Ok(Self { labels, fields })
    }

    /// A `LabelSelector` as objects carry it. What does not read matches nothing.
    pub(super) fn of_labels(selector: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let equal = selector["matchLabels"].as_object().into_iter().flatten();
        let mut labels: Vec<_> =
            equal.map(|(key, value)| Requirement { key: key.clone(), rule: Rule::In(vec![text(value)]) }).collect();
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let values = expression["values"].as_array().into_iter().flatten().map(text).collect();
            let rule = match expression["operator"].as_str() {
                Some("In") => Rule::In(values),
                Some("NotIn") => Rule::NotIn(values),
                Some("Exists") => Rule::Exists,
                Some("DoesNotExist") => Rule::Absent,
                Some(_) | None => Rule::In(Vec::new()),
            };
            labels.push(Requirement { key: text(&expression["key"]), rule });
        }
        Self { labels, fields: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|requirement| requirement.holds(object))
            && self.fields.iter().all(|(field, equal, value)| (field_of(object, field) == *value) == *equal)
    }
}

impl Requirement {
    fn holds(&self, object: &Value) -> bool {
        let value = object["metadata"]["labels"][self.key.as_str()].as_str();
        match &self.rule {
            Rule::Exists => value.is_some(),
            Rule::Absent => value.is_none(),
            Rule::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Rule::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
        }
    }
}

fn field_of(object: &Value, field: &str) -> String {
    let field = if field == "name" { "metadata.name" } else { field };
    let mut value = field.split('.').fold(object, |value, part| &value[part]);
    if field == "source" {
        value = &value["component"];
    }
    match value {
        Value::String(text) => text.clone(),
        Value::Null if field == "spec.unschedulable" => "false".into(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Splits at commas that are not in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let parts = parts(text);
    if parts[0].trim().is_empty() {
        return Err("found ',', expected: !, identifier, or 'end of string'".to_owned());
    }
    parts.into_iter().map(|part| requirement(part.trim())).collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let refused = |why: String| format!("unable to parse requirement: {why}");
    let values = |list: &str| -> Option<Vec<String>> {
        let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        let mut values: Vec<_> = list.split(',').map(|value| value.trim().to_owned()).collect();
        values.sort();
        Some(values)
    };
    let word = |text: &str, operator: &str| -> Option<(String, Vec<String>)> {
        let (key, rest) = text.split_once(operator)?;
        if !rest.starts_with([' ', '(']) {
            return None;
        }
        Some((key.trim().to_owned(), values(rest)?))
    };
    let (key, rule) = if let Some((key, values)) = word(text, " notin") {
        (key, Rule::NotIn(values))
    } else if let Some((key, values)) = word(text, " in") {
        (key, Rule::In(values))
    } else if let Some((key, value)) = text.split_once("!=") {
        (key.trim().to_owned(), Rule::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key.trim().to_owned(), Rule::In(vec![value.trim().to_owned()]))
    } else if let Some(key) = text.strip_prefix('!') {
        (key.trim().to_owned(), Rule::Absent)
    } else {
        (text.to_owned(), Rule::Exists)
    };
    if let Some((_, more)) = key.split_once(' ') {
        let operators = "in, notin, =, ==, !=, gt, lt";
        return Err(refused(format!("found '{}', expected: {operators}", more.trim())));
    }
    if key.is_empty() {
        return Err(refused(format!("found '{text}', expected: identifier")));
    }
    if let Some(wrong) = qualified(&key).first() {
        return Err(refused(format!("<nil>: Invalid value: {key:?}: {wrong}")));
    }
    if let Rule::In(values) | Rule::NotIn(values) = &rule {
        for (i, value) in values.iter().enumerate() {
            if let Some(wrong) = label_value(value).first() {
                return Err(refused(format!("values[{i}][{key}]: Invalid value: {value:?}: {wrong}")));
            }
        }
    }
    Ok(Requirement { key, rule })
}

fn parse_fields(text: &str, view: &View) -> Result<Vec<(String, bool, String)>, String> {
    let mut fields = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (field, equal, value) = if let Some((field, value)) = part.split_once("!=") {
            (field, false, value)
        } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (field, true, value)
        } else {
            return Err(format!("invalid selector: '{part}'; can't understand '{part}'"));
        };
        let known = field == "metadata.name"
            || field == "metadata.namespace" && (view.kind.namespaced || view.built_in().is_some())
            || view.version().selectable.iter().any(|one| one == field);
        if !known {
            return Err(unknown_field(field, view));
        }
        fields.push((field.to_owned(), equal, value.to_owned()));
    }
    Ok(fields)
}

fn unknown_field(field: &str, view: &View) -> String {
    if view.built_in().is_some_and(|built_in| built_in.selectable.is_empty()) {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {field}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &Value, expected: bool) {
        let requirements = parse_labels(selector).unwrap();
        let object = json!({"metadata": {"labels": labels}});
        assert_eq!(requirements.iter().all(|r| r.holds(&object)), expected, "{selector}");
    }

    #[test]
    fn labels_are_selected() {
        check("a=b", &json!({"a": "b"}), true);
        check("a==b,c!=d", &json!({"a": "b"}), true);
        check("a=b,c!=d", &json!({"a": "b", "c": "d"}), false);
        check("a in (x, y)", &json!({"a": "y"}), true);
        check("a in (x,y),b", &json!({"a": "y"}), false);
        check("a notin (x,y)", &json!({}), true);
        check("!a", &json!({"a": ""}), false);
        check("a=", &json!({"a": ""}), true);
        check("in", &json!({"in": "1"}), true);
        assert!(parse_labels("a b").is_err());
        assert!(parse_labels("a=b c").is_err());
        assert!(parse_labels(",").is_err());
    }
}
