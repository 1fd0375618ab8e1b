//! Answers without what differs from run to run: uids, times, versions, generated names, and the words of Go's decoders.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

static UID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap());
static TIME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z").unwrap());
/// Versions in messages.
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(resource version: |for the provided \S+ is too old: |ResourceVersion in the precondition \(|ResourceVersion in record \(|current: |version: rv \()[0-9]+")
        .unwrap()
});

/// Where messages end up in words of Go's own decoders and of its JSON patch library.
const WORDS_OF_GO: &[&str] = &[
    "cannot be handled as a ",
    "error decoding patch",
    "json parse error",
    "json: cannot unmarshal",
    "Object 'Kind' is missing in",
    "is invalid: patch: Invalid value: ",
    "continue key is not valid",
];

/// The memory of one case: the same uid or version gets the same name.
pub(crate) struct Normal {
    namespace: String,
    uids: Vec<String>,
    versions: Vec<String>,
    /// Whether the owners of fields are looked at.
    owned: bool,
}

impl Normal {
    pub(crate) fn new(namespace: &str, owned: bool) -> Self {
        Self { namespace: namespace.to_owned(), uids: Vec::new(), versions: Vec::new(), owned }
    }

    /// One line for one answer; a watch is the list of its events.
    pub(crate) fn line(&mut self, code: u16, body: &str) -> String {
        let mut values: Vec<Value> = match serde_json::from_str(body) {
            Ok(one) => vec![one],
            Err(_) => body.lines().map_while(|line| serde_json::from_str(line).ok()).collect(),
        };
        let mut value = match values.len() {
            0 => Value::String(body.trim_end().to_owned()),
            1 if values[0]["type"].is_null() || !values[0]["object"].is_object() => values.remove(0),
            _ => values.into(),
        };
        self.walk(&mut value);
        let text = sorted(value).to_string().replace(&self.namespace, "NS");
        let text = UID.replace_all(&text, |found: &Captures<'_>| named("uid", &mut self.uids, &found[0])).into_owned();
        let text = TIME.replace_all(&text, "time");
        let text = VERSION.replace_all(&text, "${1}rv");
        format!("{code} {}", VERSION.replace_all(&text, "${1}rv"))
    }

    fn walk(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("storageVersionHash");
                let list = fields.contains_key("items") || fields.get("type").is_some_and(|kind| kind == "BOOKMARK");
                if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                    self.metadata(metadata, list);
                }
                if fields.get("kind").is_some_and(|kind| kind == "Status") {
                    status(fields);
                }
                if list && let Some(Value::Object(object)) = fields.get_mut("object") {
                    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
                        metadata.insert("resourceVersion".into(), "any".into());
                    }
                    // Typed bookmarks carry empty parts of their kind.
                    object.retain(|field, _| matches!(field.as_str(), "kind" | "apiVersion" | "metadata"));
                }
                fields.values_mut().for_each(|value| self.walk(value));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            _ => {}
        }
    }

    fn metadata(&mut self, metadata: &mut Map<String, Value>, list: bool) {
        match metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            // In an order of their own: the server goes by their times, which may be the same or not.
            Some(managers) if self.owned => managers.sort_by_key(|one| {
                let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
                ["operation", "manager", "apiVersion", "subresource"].map(text)
            }),
            _ => _ = metadata.remove("managedFields"),
        }
        if let Some(token) = metadata.get_mut("continue")
            && *token != ""
        {
            *token = "more".into();
        }
        if let Some(Value::String(version)) = metadata.get_mut("resourceVersion")
            && version != "any"
        {
            // A list's version moves with everything else that happens in the server.
            *version = if list { "any".into() } else { named("rv", &mut self.versions, version) };
        }
        let prefix = metadata.get("generateName").and_then(Value::as_str).map(str::to_owned);
        if let (Some(prefix), Some(Value::String(name))) = (prefix, metadata.get_mut("name"))
            && name.starts_with(&prefix)
            && name.len() == prefix.len() + 5
        {
            *name = format!("{prefix}xxxxx");
        }
    }
}

fn named(what: &str, known: &mut Vec<String>, found: &str) -> String {
    let at = known.iter().position(|one| one == found).unwrap_or_else(|| {
        known.push(found.to_owned());
        known.len() - 1
    });
    format!("{what}{at}")
}

/// Causes in an order, and the message cut where it lists them or where Go speaks.
fn status(fields: &mut Map<String, Value>) {
    let mut several = false;
    if let Some(Value::Array(causes)) = fields.get_mut("details").and_then(|details| details.get_mut("causes")) {
        for cause in causes.iter_mut().filter(|cause| cause["field"] == "patch") {
            cause["message"] = "Invalid value".into();
        }
        causes.sort_by_key(Value::to_string);
        several = causes.len() > 1;
    }
    if let Some(Value::String(message)) = fields.get_mut("message") {
        if several && let Some((head, _)) = message.split_once(" is invalid: ") {
            *message = format!("{head} is invalid: several");
        }
        for words in WORDS_OF_GO {
            if let Some(at) = message.find(words) {
                message.truncate(at + words.len());
            }
        }
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(fields.into_iter().map(|(field, value)| (field, sorted(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}
