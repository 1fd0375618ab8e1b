//! From what a client sends to an object in the server's form, and back into the form the client asked for.

use axum::body::Bytes;
use serde_json::{Value, json};

use super::call::{Call, Form, Query};
use super::kinds::{Kind, View};
use super::schema::{default, prune};
use super::status::Refusal;
use super::store::partial;
use super::{Shared, meta};

/// Where an object is filed: `namespace/name`, or the name.
pub(super) fn path(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// The body as JSON of the kind that the path names.
pub(super) fn read(view: &View, bytes: &[u8]) -> Result<Value, Refusal> {
    let unrecognized = |why: &str| {
        let kind = &view.kind.kind;
        Refusal::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why}"))
    };
    let no_json = |why: &str| unrecognized(&format!("couldn't get version/kind; json parse error: {why}"));
    let object: Value = serde_json::from_slice(bytes).map_err(|error| no_json(&error.to_string()))?;
    if !object.is_object() {
        return Err(no_json("json: cannot unmarshal array into Go value"));
    }
    let (kind, version) =
        (object["kind"].as_str().unwrap_or_default(), object["apiVersion"].as_str().unwrap_or_default());
    if view.built_in().is_none() {
        if kind.is_empty() {
            return Err(unrecognized(&format!("Object 'Kind' is missing in '{object}'")));
        }
        if version != view.api_version() && !version.is_empty() {
            let expected = view.api_version();
            let why =
                format!("the API version in the data ({version}) does not match the expected API version ({expected})");
            return Err(Refusal::bad_request(why));
        }
    } else if !version.is_empty() && version != view.api_version() || !kind.is_empty() && kind != view.kind.kind {
        let expected = view.api_version();
        let why = if version != expected {
            format!("the API version in the data ({version}) does not match the expected API version ({expected})")
        } else {
            format!("{kind} in version {:?} cannot be handled as a {}", view.version().name, view.kind.kind)
        };
        return Err(Refusal::bad_request(why));
    }
    Ok(object)
}

/// Brings an object into the server's form; returns what it dropped.
pub(super) fn shape(view: &View, object: &mut Value) -> Result<Vec<String>, String> {
    meta::coerce(object)?;
    match view.built_in() {
        Some(built_in) => {
            built_in.shape(object)?;
            object["apiVersion"] = view.api_version().into();
            object["kind"] = view.kind.kind.clone().into();
            Ok(Vec::new())
        }
        None => {
            let schema = &view.version().schema;
            let unknown = prune(object, schema);
            default(object, schema);
            Ok(unknown)
        }
    }
}

/// As [`shape`] of a body, with the refusal of one that has no form or, where the client is strict, of one with unknown fields.
pub(super) fn decode(view: &View, object: &mut Value, query: &Query) -> Result<(), Refusal> {
    let (version, kind) = (&view.version().name, &view.kind.kind);
    let unreadable = |why: String| {
        Refusal::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    };
    let unknown = shape(view, object).map_err(unreadable)?;
    if query.text("fieldValidation") == "Strict" && !unknown.is_empty() {
        let fields: Vec<_> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
        return Err(unreadable(format!("strict decoding error: {}", fields.join(", "))));
    }
    Ok(())
}

/// The namespace of the request is the object's; another one is refused.
pub(super) fn settle_namespace(call: &Call, kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    let wanted = if kind.namespaced { call.namespace.as_str() } else { "" };
    let stated = meta::namespace(object);
    if stated == wanted {
        return Ok(());
    }
    if !stated.is_empty() && !wanted.is_empty() {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(why));
    }
    meta::set(object, "namespace", if wanted.is_empty() { Value::Null } else { wanted.into() });
    Ok(())
}

/// The object in the form the client asked for.
pub(super) fn present(object: &Value, form: Form) -> Value {
    match form {
        Form::Whole => object.clone(),
        Form::Metadata => partial(object),
    }
}

/// An item of a list: those of built-in kinds leave it to the list to say their type.
pub(super) fn item_text(view: &View, form: Form, object: &Value) -> String {
    let mut item = present(object, form);
    if form == Form::Whole
        && view.built_in().is_some()
        && let Some(fields) = item.as_object_mut()
    {
        fields.shift_remove("apiVersion");
        fields.shift_remove("kind");
    }
    item.to_string()
}

/// A list of some items, which are written already. Those of kinds that are not built in always say whether more follows.
pub(super) fn list_of(view: &View, form: Form, mut metadata: Value, items: &[Bytes]) -> String {
    if form == Form::Whole && view.built_in().is_none() && metadata["continue"].is_null() {
        metadata["continue"] = "".into();
    }
    let (kind, version) = match form {
        Form::Whole => (view.kind.list_kind.as_str(), view.api_version()),
        Form::Metadata => ("PartialObjectMetadataList", "meta.k8s.io/v1".to_owned()),
    };
    let mut text = json!({"kind": kind, "apiVersion": version, "metadata": metadata}).to_string();
    text.reserve(items.iter().map(|item| item.len() + 1).sum::<usize>() + 12);
    text.pop();
    text.push_str(",\"items\":[");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&String::from_utf8_lossy(item));
    }
    text.push_str("]}");
    text
}

impl Shared {
    /// Objects of one kind brought from one version into another.
    pub(super) async fn convert(&self, objects: Vec<Value>, from: &View, to: &View) -> Result<Vec<Value>, Refusal> {
        if from.version().name == to.version().name || objects.is_empty() {
            return Ok(objects);
        }
        let metadata: Vec<Value> = objects.iter().map(|object| object["metadata"].clone()).collect();
        let mut converted = self.ask_conversion(objects, from, to).await?;
        for (converted, mut metadata) in converted.iter_mut().zip(metadata) {
            // Labels and annotations are the webhook's; the rest of the metadata is nobody's to change.
            for field in ["labels", "annotations"] {
                metadata[field] = converted["metadata"][field].clone();
            }
            converted["metadata"] = metadata;
            shape(to, converted).map_err(|why| Refusal::internal(&why))?;
        }
        Ok(converted)
    }

    pub(super) async fn convert_one(&self, object: Value, from: &View, to: &View) -> Result<Value, Refusal> {
        let converted = self.convert(vec![object], from, to).await?;
        converted.into_iter().next().ok_or_else(|| Refusal::internal("a conversion that returned nothing"))
    }
}
