//! Defaults and validation at admission: pure functions from an object, and the one it replaces, to everything that is
//! wrong with it (remediation-webhooks-packaging 3.2, data-rendering 3, ipam 2, with their hazards adopted).
//!
//! Rules of the published API apply on create and update. What we refuse beyond it is refused on create or when the field
//! changes, so that no object that exists becomes impossible to update. An object on its way out is let go as it is.

mod cluster;
mod data;
mod ipam;
mod limits;
mod machine;
mod remediation;
mod url;

use std::fmt;

use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::convert::json::drop_nulls;
use crate::names::annotation;

/// How much of a value a message repeats.
const SHOWN: usize = 200;
/// What an API server passes on of a verdict, with room to spare.
const MOST_ERRORS: usize = 200;
const MOST_WARNINGS: usize = 20;

/// One thing that is wrong: where, what stands there, and what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub path: String,
    pub kind: ErrorKind,
    /// What stands there, as JSON; nothing where nothing does.
    pub value: Option<String>,
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
        write!(f, "{}: {kind}: ", self.path)?;
        if let Some(value) = &self.value {
            write!(f, "{value}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// What admission says about an object: every error at once, and what is worth a word without being refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub errors: Vec<FieldError>,
    pub warnings: Vec<String>,
    /// A template may change while the topology controller only asks what an apply would give (K-46).
    may_change: bool,
}

impl Verdict {
    fn error(&mut self, kind: ErrorKind, path: impl Into<String>, value: Option<String>, message: impl Into<String>) {
        self.errors.push(FieldError { path: path.into(), kind, value, message: message.into() });
    }

    pub(crate) fn required(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.error(ErrorKind::Required, path, None, message);
    }

    pub(crate) fn invalid(&mut self, path: impl Into<String>, value: impl Serialize, message: impl Into<String>) {
        self.error(ErrorKind::Invalid, path, Some(shown(&value)), message);
    }

    pub(crate) fn forbidden(&mut self, path: impl Into<String>, value: impl Serialize, message: impl Into<String>) {
        self.error(ErrorKind::Forbidden, path, Some(shown(&value)), message);
    }

    /// Refuses that a field is no longer what it was.
    pub(crate) fn immutable(&mut self, path: impl Into<String>, value: impl Serialize, old: impl Serialize, why: &str) {
        if !self.may_change {
            self.invalid(path, value, format!("must stay {}: {why}", shown(&old)));
        }
    }

    pub(crate) fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// Says what follows from a change that is accepted.
    pub(crate) fn warn_of_change(&mut self, message: impl Into<String>) {
        if !self.may_change {
            self.warn(message);
        }
    }

    /// Refuses a reference that leaves the namespace of the object that makes it.
    pub(crate) fn own_namespace(&mut self, path: &str, namespace: Option<&str>, own: &str) {
        if let Some(other) = namespace.filter(|other| !other.is_empty() && *other != own) {
            let wanted = format!("must be {own:?}, the namespace of this object, or be left out");
            self.forbidden(format!("{path}.namespace"), other, wanted);
        }
    }
}

impl Verdict {
    /// All of it, unless it is more than an API server would pass on.
    fn bounded(mut self) -> Self {
        let more = |all: usize, most: usize| all.checked_sub(most).filter(|more| *more > 0);
        if let Some(more) = more(self.errors.len(), MOST_ERRORS) {
            self.errors.truncate(MOST_ERRORS);
            let wanted = format!("{more} more problems of this kind are not listed");
            self.error(ErrorKind::Invalid, "spec", None, wanted);
        }
        if let Some(more) = more(self.warnings.len(), MOST_WARNINGS) {
            self.warnings.truncate(MOST_WARNINGS);
            self.warnings.push(format!("{more} more warnings are not listed"));
        }
        self
    }
}

/// A value as a message repeats it.
fn shown(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A kind that passes through admission.
pub trait Admission: Resource<DynamicType = ()> + Clone + Serialize {
    /// Fills in what the schema cannot. Done twice it changes nothing more, and what is set it leaves alone (K-48).
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
    limits::judge(object, &mut verdict);
    verdict.bounded()
}

/// Judges what changes. An object that is on its way out, or is only losing finalizers, may be as wrong as it was (WH-2).
pub fn validate_update<K: Admission>(old: &K, new: &K, dry_run: bool) -> Verdict {
    let mut verdict = Verdict { may_change: is_topology_dry_run(new, dry_run), ..Verdict::default() };
    // Defaults come before this. A stored object that only lacks them asks for the same as before.
    let mut defaulted = old.clone();
    defaulted.default();
    let old = if new.same_spec(&defaulted) { &defaulted } else { old };
    let same = new.same_spec(old);
    if same && is_let_go(old, new) {
        return verdict;
    }
    new.judge(Some(old), &mut verdict);
    if !same {
        limits::judge(new, &mut verdict);
    }
    verdict.bounded()
}

fn is_let_go<K: Resource>(old: &K, new: &K) -> bool {
    let (before, after) =
        (old.meta().finalizers.iter().flatten(), new.meta().finalizers.as_deref().unwrap_or_default());
    let fewer = before.clone().count() > after.len() && after.iter().all(|kept| before.clone().any(|f| f == kept));
    new.meta().deletion_timestamp.is_some() || fewer
}

/// Whether the topology controller only wants to see what an apply would give. It says so twice, and either word alone
/// proves nothing: a user can write the annotation, and anyone can ask for a dry run (K-46).
fn is_topology_dry_run<K: Resource<DynamicType = ()>>(object: &K, dry_run: bool) -> bool {
    let marked = object.meta().annotations.as_ref().is_some_and(|all| all.contains_key(annotation::TOPOLOGY_DRY_RUN));
    dry_run && marked && K::kind(&()).ends_with("Template")
}

pub(crate) fn namespace<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

fn is_blank(text: Option<&String>) -> bool {
    text.is_none_or(String::is_empty)
}
