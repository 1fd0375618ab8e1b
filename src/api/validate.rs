//! Defaults and validation at admission: pure functions from an object, and the one it replaces, to everything that is
//! wrong with it (remediation-webhooks-packaging 3.2, data-rendering 3, ipam 2, with their hazards adopted).
//!
//! Rules of the published API apply on create and update. What we refuse beyond it is refused on create or when the field
//! changes, so that no object that exists becomes impossible to update. An object on its way out is let go as it is.

mod cluster;
mod data;
mod ipam;
mod machine;
mod remediation;
mod url;

use std::fmt;

use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::convert::json::drop_nulls;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub path: String,
    pub kind: ErrorKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Required,
    Invalid,
    Forbidden,
}

impl ErrorKind {
    /// The word that a `Status` uses for it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Forbidden => "FieldValueForbidden",
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ErrorKind::Required => "Required value",
            ErrorKind::Invalid => "Invalid value",
            ErrorKind::Forbidden => "Forbidden",
        };
        write!(f, "{}: {kind}: {}", self.path, self.message)
    }
}

/// What admission says about an object: every error at once, and what is worth a word without being refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub errors: Vec<FieldError>,
    pub warnings: Vec<String>,
}

impl Verdict {
    fn error(&mut self, kind: ErrorKind, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError { path: path.into(), kind, message: message.into() });
    }

    pub(crate) fn required(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.error(ErrorKind::Required, path, message);
    }

    pub(crate) fn invalid(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.error(ErrorKind::Invalid, path, message);
    }

    pub(crate) fn forbidden(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.error(ErrorKind::Forbidden, path, message);
    }

    pub(crate) fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// Refuses a reference that leaves the namespace of the object that makes it.
    pub(crate) fn own_namespace(&mut self, path: &str, namespace: Option<&str>, own: &str) {
        if let Some(other) = namespace.filter(|other| !other.is_empty() && *other != own) {
            self.forbidden(format!("{path}.namespace"), format!("{other:?} is not the namespace of this object"));
        }
    }
}

/// A kind that passes through admission.
pub trait Admission: Resource<DynamicType = ()> + Clone {
    /// Fills in what the schema cannot.
    fn default(&mut self) {}

    /// Judges `self`, which replaces `old` or is new.
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict);

    /// Whether the two ask for the same.
    fn same_spec(&self, other: &Self) -> bool;
}

/// An object as a request carries it, where `null` is absent (TY-14).
pub fn read<K: DeserializeOwned>(mut object: Value) -> Result<K, serde_json::Error> {
    if let Some(object) = object.as_object_mut() {
        ["spec", "status"].iter().for_each(|part| drop_nulls(object, part));
    }
    serde_json::from_value(object)
}

pub fn validate_create<K: Admission>(object: &K) -> Verdict {
    let mut verdict = Verdict::default();
    object.judge(None, &mut verdict);
    verdict
}

/// An object that is being deleted is only losing finalizers: it may be as wrong as it was (WH-2).
pub fn validate_update<K: Admission>(old: &K, new: &K) -> Verdict {
    let mut verdict = Verdict::default();
    if new.meta().deletion_timestamp.is_none() || !new.same_spec(old) {
        new.judge(Some(old), &mut verdict);
    }
    verdict
}

pub(crate) fn namespace<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

fn is_blank(text: Option<&String>) -> bool {
    text.is_none_or(String::is_empty)
}
