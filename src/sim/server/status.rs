//! Refusals in the words of the API server.
//!
//! Clients of ours read `code`, `reason`, `details` and now and then the message ("because it is being terminated"), so all four are
//! the real server's; the conformance suite compares them.

use serde_json::{Map, Value, json};

/// Why a request is not carried out: the body of a `Status`.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: u16,
    pub reason: String,
    pub message: String,
    /// `Null` when there are none.
    pub details: Box<Value>,
    /// Sent as it is instead of a `Status`, as the server does for paths it does not know.
    pub plain: bool,
}

/// `plural.group` with its parts, as messages and details name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub group: &'a str,
    /// The plural, or the kind where the server names that.
    pub what: &'a str,
    pub name: &'a str,
}

impl Named<'_> {
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.what.to_owned() } else { format!("{}.{}", self.what, self.group) }
    }

    fn details(&self) -> Value {
        let mut details = Map::new();
        for (key, value) in [("name", self.name), ("group", self.group), ("kind", self.what)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), value.into());
            }
        }
        details.into()
    }
}

impl Refusal {
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: Box::default(), plain: false }
    }

    pub fn with_details(mut self, details: Value) -> Self {
        *self.details = details;
        self
    }

    pub(super) fn unknown_path() -> Self {
        Self { plain: true, ..Self::new(404, "", "404 page not found\n") }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn not_found(named: Named<'_>) -> Self {
        let message = format!("{} {:?} not found", named.qualified(), named.name);
        Self::new(404, "NotFound", message).with_details(named.details())
    }

    pub(super) fn already_exists(named: Named<'_>) -> Self {
        let message = format!("{} {:?} already exists", named.qualified(), named.name);
        Self::new(409, "AlreadyExists", message).with_details(named.details())
    }

    pub(super) fn conflict(named: Named<'_>, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {:?}: {why}", named.qualified(), named.name);
        Self::new(409, "Conflict", message).with_details(named.details())
    }

    /// The resourceVersion that came with the request is not the stored one.
    pub(super) fn modified(named: Named<'_>) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(named, why)
    }

    pub(super) fn forbidden(named: Named<'_>, why: &str) -> Self {
        let what = named.qualified();
        let message = if named.name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} {:?} is forbidden: {why}", named.name)
        };
        Self::new(403, "Forbidden", message).with_details(named.details())
    }

    pub(super) fn terminating(named: Named<'_>, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut refusal = Self::forbidden(named, &why);
        refusal.details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        refusal
    }

    /// All errors of one object together.
    pub(super) fn invalid(named: Named<'_>, errors: &[FieldError]) -> Self {
        let mut said: Vec<String> = Vec::new();
        for error in errors {
            let text = error.to_string();
            if !said.contains(&text) {
                said.push(text);
            }
        }
        let all = if let [one] = said.as_slice() { one.clone() } else { format!("[{}]", said.join(", ")) };
        let message = format!("{} {:?} is invalid: {all}", named.qualified(), named.name);
        let cause =
            |error: &FieldError| json!({"reason": error.kind.reason(), "message": error.body, "field": error.field});
        let mut details = named.details();
        details["causes"] = errors.iter().map(cause).collect();
        Self::new(422, "Invalid", message).with_details(details)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message).with_details(json!({}))
    }

    pub(super) fn not_deletable(named: Named<'_>) -> Self {
        let message = format!("delete is not supported on resources of kind {:?}", named.qualified());
        Self::new(405, "MethodNotAllowed", message).with_details(named.details())
    }

    /// A patch that reads and cannot be applied.
    pub(super) fn unfit_patch() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", message).with_details(json!({}))
    }

    pub(super) fn unsupported_media_type(accepted: &[&str]) -> Self {
        let accepted = accepted.join(", ");
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub fn internal(message: &str) -> Self {
        let details = json!({"causes": [{"message": message}]});
        Self::new(500, "InternalError", format!("Internal error occurred: {message}")).with_details(details)
    }

    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A resourceVersion that this server has not reached.
    pub(super) fn too_large_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        Self::new(504, "Timeout", message).with_details(details)
    }

    /// What a throttling server says; `retry_after` also goes into the header.
    pub fn too_many_requests(retry_after: u32) -> Self {
        let message = "Too many requests, please try again later.";
        Self::new(429, "TooManyRequests", message).with_details(json!({"retryAfterSeconds": retry_after}))
    }

    pub(super) fn retry_after(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds")?.as_u64()
    }

    pub(super) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
        });
        if !self.reason.is_empty() {
            body["reason"] = self.reason.clone().into();
        }
        if !self.details.is_null() {
            body["details"] = Value::clone(&self.details);
        }
        body["code"] = self.code.into();
        body
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    Required,
    Duplicate,
    Invalid,
    TypeInvalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
}

impl ErrorKind {
    fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FieldError {
    pub kind: ErrorKind,
    pub field: String,
    /// The message without the field.
    pub body: String,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body)
    }
}

impl FieldError {
    fn new(kind: ErrorKind, field: impl Into<String>, head: String, detail: &str) -> Self {
        let body = if detail.is_empty() { head } else { format!("{head}: {detail}") };
        Self { kind, field: field.into(), body }
    }

    pub(super) fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::new(ErrorKind::Required, field, "Required value".into(), detail)
    }

    pub(super) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new(ErrorKind::Duplicate, field, format!("Duplicate value: {value}"), "")
    }

    pub(super) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new(ErrorKind::Invalid, field, format!("Invalid value: {value}"), detail)
    }

    pub(super) fn type_invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new(ErrorKind::TypeInvalid, field, format!("Invalid value: {value}"), detail)
    }

    pub(super) fn not_supported(field: impl Into<String>, value: &Value, valid: &[String]) -> Self {
        let valid: Vec<_> = valid.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("supported values: {}", valid.join(", "));
        Self::new(ErrorKind::NotSupported, field, format!("Unsupported value: {value}"), &detail)
    }

    pub(super) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::new(ErrorKind::Forbidden, field, "Forbidden".into(), detail)
    }

    pub(super) fn too_long(field: impl Into<String>, most: u64) -> Self {
        Self::new(ErrorKind::TooLong, field, "Too long".into(), &format!("may not be more than {most} bytes"))
    }

    pub(super) fn too_many(field: impl Into<String>, size: usize, most: u64) -> Self {
        let detail = format!("must have at most {most} items");
        Self::new(ErrorKind::TooMany, field, format!("Too many: {size}"), &detail)
    }
}
