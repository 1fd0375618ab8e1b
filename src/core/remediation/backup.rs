//! What a Node carried before it was deleted, kept on the remediation and given back to the Node that comes after it.
//!
//! The encoding is the Go provider's to the byte, so that either can finish what the other began: keys in order, `<`, `>`, `&` and
//! the two line separators of Unicode escaped, no text at all for a map that is not there.
//!
//! Rules: remediation, RH-11, RH-14.

use std::collections::BTreeMap;

use capm3_api::foreign::Node;
use capm3_api::infra::v1beta2::Metal3Remediation;
use capm3_api::names::annotation::{NODE_ANNOTATIONS_BACKUP, NODE_LABELS_BACKUP};
use serde_json::{Map, Value, json};

type Marks = BTreeMap<String, String>;

/// Both texts, as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    pub annotations: String,
    pub labels: String,
}

/// A map as text.
pub fn encode(marks: Option<&Marks>) -> String {
    let Some(marks) = marks else { return String::new() };
    let text =
        Value::Object(marks.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()).to_string();
    // These stand in strings only, so that the text can be taken as it is.
    let escapes =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    escapes.iter().fold(text, |text, (plain, escaped)| text.replace(*plain, escaped))
}

/// The map that a text stands for.
pub fn decode(text: &str) -> Result<Marks, serde_json::Error> {
    if text.is_empty() { Ok(Marks::new()) } else { serde_json::from_str(text) }
}

impl Backup {
    /// That is stored on a remediation; what is not there is empty.
    pub fn stored(remediation: &Metal3Remediation) -> Self {
        let text = |key| remediation.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
        Self {
            annotations: text(NODE_ANNOTATIONS_BACKUP).unwrap_or_default(),
            labels: text(NODE_LABELS_BACKUP).unwrap_or_default(),
        }
    }

    /// With what a Node that is about to go carries under keys that are not kept yet; none when nothing is to be added.
    /// What does not read stays as it is.
    pub fn completed(&self, node: &Node) -> Option<Self> {
        let with = |saved: &String, there: Option<&Marks>| {
            let mut marks = decode(saved).ok()?;
            let known = marks.len();
            marks.extend(there.cloned().unwrap_or_default());
            (marks.len() > known).then(|| encode(Some(&marks)))
        };
        let meta = &node.metadata;
        let annotations = with(&self.annotations, meta.annotations.as_ref());
        let labels = with(&self.labels, meta.labels.as_ref());
        (annotations.is_some() || labels.is_some()).then(|| Self {
            annotations: annotations.unwrap_or_else(|| self.annotations.clone()),
            labels: labels.unwrap_or_else(|| self.labels.clone()),
        })
    }

    /// The annotations of a remediation that keep it, as a merge patch.
    pub fn patch(&self) -> Value {
        json!({ NODE_ANNOTATIONS_BACKUP: self.annotations, NODE_LABELS_BACKUP: self.labels })
    }

    /// The merge patch of what the Node lacks; none when it lacks nothing. What does not read is not given back.
    pub fn restore(&self, node: &Node) -> Option<Value> {
        let meta = &node.metadata;
        let parts = [
            ("annotations", &self.annotations, meta.annotations.as_ref()),
            ("labels", &self.labels, meta.labels.as_ref()),
        ];
        let mut lacking = Map::new();
        for (part, saved, there) in parts {
            let saved = decode(saved).unwrap_or_default().into_iter();
            let missing: Map<_, _> = saved
                .filter(|(key, _)| !there.is_some_and(|there| there.contains_key(key)))
                .map(|(key, value)| (key, value.into()))
                .collect();
            if !missing.is_empty() {
                lacking.insert(part.to_owned(), missing.into());
            }
        }
        (!lacking.is_empty()).then(|| json!({ "metadata": lacking }))
    }
}

/// Whether an attempt has stored one.
pub(super) fn is_stored(remediation: &Metal3Remediation) -> bool {
    let annotations = remediation.metadata.annotations.as_ref();
    annotations
        .is_some_and(|all| [NODE_ANNOTATIONS_BACKUP, NODE_LABELS_BACKUP].iter().any(|key| all.contains_key(*key)))
}

/// What takes both texts off a remediation, as a merge patch of its annotations; none when there are none.
pub(super) fn dropped(remediation: &Metal3Remediation) -> Option<Value> {
    is_stored(remediation).then(|| json!({ NODE_ANNOTATIONS_BACKUP: null, NODE_LABELS_BACKUP: null }))
}
