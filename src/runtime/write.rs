//! Every change we make to the API server, and what its answer means.
//!
//! Changes are merge patches of a difference, so that fields we do not know survive. A write that depends on what was read
//! carries the `resourceVersion` (and `uid`) it was decided on; losing that race is an answer, not a failure. The reply
//! enters the caches at once, so that the next pass reads its own writes. Nothing is retried here: a lost answer is
//! [`WriteError::Unknown`], and the caller looks before it writes again.

use std::fmt;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::core::params::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, Request, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::controller::{ReconcileError, Retry};
use crate::hub::Hub;
use crate::object::{Key, Kind, Object};
use crate::read::is_missing_object;

const DEADLINE: Duration = Duration::from_secs(15);

/// What must still be true of the object for the write to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub resource_version: Option<String>,
    pub uid: Option<String>,
}

impl Preconditions {
    /// The write does not depend on what was read.
    pub fn none() -> Self {
        Self::default()
    }

    /// Exactly the object that was read, unchanged.
    pub fn unchanged<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self { resource_version: meta.resource_version.clone(), uid: meta.uid.clone() }
    }

    /// The same object, however it has changed, and not another of its name.
    pub fn same<K: kube::Resource>(object: &K) -> Self {
        Self { resource_version: None, uid: object.meta().uid.clone() }
    }
}

/// A patch of a kind known at run time; what must hold is said in it.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataPatch {
    Merge(Value),
    /// A list of operations.
    Json(Value),
}

/// Which write failed, and what the API server said.
#[derive(Debug)]
pub struct Failure {
    pub verb: &'static str,
    pub kind: String,
    pub key: Key,
    /// The API server's own words; empty when it did not answer.
    pub message: String,
    pub reason: String,
    pub code: u16,
    source: Option<Box<kube::Error>>,
}

#[derive(Debug)]
pub enum WriteError {
    /// The object is no longer the one the write was decided on.
    Conflict(Box<Failure>),
    NotFound(Box<Failure>),
    AlreadyExists(Box<Failure>),
    /// The API server or an admission webhook refuses the content.
    Invalid(Box<Failure>),
    Forbidden(Box<Failure>),
    /// It may or may not have happened: read live before writing again.
    Unknown(Box<Failure>),
    /// It did not happen.
    Failed(Box<Failure>),
    /// What was to be written is not JSON.
    Encode(serde_json::Error),
}

impl WriteError {
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Conflict(f)
            | Self::NotFound(f)
            | Self::AlreadyExists(f)
            | Self::Invalid(f)
            | Self::Forbidden(f)
            | Self::Unknown(f)
            | Self::Failed(f) => Some(f),
            Self::Encode(_) => None,
        }
    }

    /// A create was refused because its namespace is going away: there is nothing left to do in it.
    pub fn is_namespace_terminating(&self) -> bool {
        matches!(self, Self::Forbidden(failure) if failure.message.contains("because it is being terminated"))
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, failure) = match self {
            Self::Conflict(failure) => ("changed meanwhile", failure),
            Self::NotFound(failure) => ("is gone", failure),
            Self::AlreadyExists(failure) => ("exists already", failure),
            Self::Invalid(failure) => ("was refused as invalid", failure),
            Self::Forbidden(failure) => ("is forbidden", failure),
            Self::Unknown(failure) => ("has an unknown outcome", failure),
            Self::Failed(failure) => ("failed", failure),
            Self::Encode(_) => return f.write_str("what was to be written is not JSON"),
        };
        write!(f, "{} of {} {}: {what}", failure.verb, failure.kind, failure.key)
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(source) => Some(source),
            _ => Some(self.failure()?.source.as_deref()?),
        }
    }
}

impl ReconcileError for WriteError {
    fn category(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "Conflict",
            Self::NotFound(_) => "NotFound",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::Invalid(_) => "Invalid",
            Self::Forbidden(_) => "Forbidden",
            Self::Unknown(_) => "OutcomeUnknown",
            Self::Failed(_) => "WriteFailed",
            Self::Encode(_) => "Encode",
        }
    }

    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

/// Clones share the client and the caches.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    hub: Option<Hub>,
    deadline: Duration,
}

impl Writer {
    pub fn new(hub: &Hub) -> Self {
        Self { client: hub.client().clone(), hub: Some(hub.clone()), deadline: DEADLINE }
    }

    /// Without caches to refresh.
    pub fn uncached(client: Client) -> Self {
        Self { client, hub: None, deadline: DEADLINE }
    }

    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Creates the object; `AlreadyExists` is an answer when its name is deterministic.
    pub async fn create<K: Object + Serialize>(&self, object: &K) -> Result<K, WriteError> {
        let body = serde_json::to_value(object).map_err(WriteError::Encode)?;
        self.create_kind(&Kind::of::<K>(), body).await
    }

    /// Creates from JSON; for kinds known at run time, or of which we only have a view.
    pub async fn create_dynamic(&self, resource: &ApiResource, body: Value) -> Result<DynamicObject, WriteError> {
        self.create_kind(&Kind::dynamic(resource), body).await
    }

    /// Sends a merge patch.
    pub async fn patch<K: Object>(&self, key: &Key, patch: Value, only_if: &Preconditions) -> Result<K, WriteError> {
        self.patch_kind(&Kind::of::<K>(), None, key, patch, only_if).await
    }

    /// Sends a merge patch to the status subresource; the body is rooted at the object, as in `{"status": …}`.
    pub async fn patch_status<K: Object>(
        &self,
        key: &Key,
        patch: Value,
        only_if: &Preconditions,
    ) -> Result<K, WriteError> {
        self.patch_kind(&Kind::of::<K>(), Some("status"), key, patch, only_if).await
    }

    pub async fn patch_dynamic(
        &self,
        resource: &ApiResource,
        key: &Key,
        patch: Value,
        only_if: &Preconditions,
    ) -> Result<DynamicObject, WriteError> {
        self.patch_kind(&Kind::dynamic(resource), None, key, patch, only_if).await
    }

    /// Sends a strategic merge patch, which only built-in kinds understand.
    pub async fn patch_strategic<K: Object>(
        &self,
        key: &Key,
        mut patch: Value,
        only_if: &Preconditions,
    ) -> Result<K, WriteError> {
        let kind = Kind::of::<K>();
        add_preconditions(&mut patch, only_if);
        let path = Request::new(kind.path(key.scope()));
        let request = path.patch(&key.name, &PatchParams::default(), &Patch::Strategic(patch));
        self.send_for_object(&Call { verb: "patch", kind: &kind, key }, request).await
    }

    /// Sends a patch whose answer is the metadata alone. That is not the object, so no cache is told: the watch will be.
    pub async fn patch_metadata(
        &self,
        resource: &ApiResource,
        subresource: Option<&str>,
        key: &Key,
        patch: &MetadataPatch,
    ) -> Result<ObjectMeta, WriteError> {
        #[derive(serde::Deserialize)]
        struct Partial {
            metadata: ObjectMeta,
        }
        let kind = Kind::dynamic(resource);
        let call = Call { verb: "patch", kind: &kind, key };
        let subresource = subresource.map(|name| format!("/{name}")).unwrap_or_default();
        let (format, body) = match patch {
            MetadataPatch::Merge(body) => ("application/merge-patch+json", body),
            MetadataPatch::Json(body) => ("application/json-patch+json", body),
        };
        let request = http::Request::patch(format!("{}/{}{subresource}", kind.path(key.scope()), key.name))
            .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
            .header(http::header::CONTENT_TYPE, format)
            .body(serde_json::to_vec(body).map_err(WriteError::Encode)?)
            .map_err(kube::core::request::Error::BuildRequest);
        let answer = self.send(&call, request).await?;
        let answer: Result<Partial, _> = serde_json::from_str(&answer);
        let unknown = |source| WriteError::Unknown(call.failure(None, Some(kube::Error::SerdeError(source))));
        answer.map(|Partial { metadata }| metadata).map_err(unknown)
    }

    /// Replaces the whole object, which must carry its resourceVersion: only for objects that are wholly ours.
    pub async fn replace<K: Object + Serialize>(&self, object: &K) -> Result<K, WriteError> {
        let (kind, key) = (Kind::of::<K>(), crate::object::key_of(object));
        let call = Call { verb: "update", kind: &kind, key: &key };
        let mut body = serde_json::to_value(object).map_err(WriteError::Encode)?;
        set_type(&mut body, &kind);
        let body = serde_json::to_vec(&body).map_err(WriteError::Encode)?;
        let request = Request::new(kind.path(key.scope())).replace(&key.name, &PostParams::default(), body);
        self.send_for_object(&call, request).await
    }

    /// Asks for deletion; finalizers may keep the object for a while.
    pub async fn delete<K: Object>(&self, key: &Key, only_if: &Preconditions) -> Result<(), WriteError> {
        self.delete_kind(&Kind::of::<K>(), key, only_if).await
    }

    pub async fn delete_dynamic(
        &self,
        resource: &ApiResource,
        key: &Key,
        only_if: &Preconditions,
    ) -> Result<(), WriteError> {
        self.delete_kind(&Kind::dynamic(resource), key, only_if).await
    }

    async fn create_kind<T: DeserializeOwned>(&self, kind: &Kind, mut body: Value) -> Result<T, WriteError> {
        set_type(&mut body, kind);
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let key = Key::new(text("/metadata/namespace"), text("/metadata/name"));
        let call = Call { verb: "create", kind, key: &key };
        let body = serde_json::to_vec(&body).map_err(WriteError::Encode)?;
        let request = Request::new(kind.path(key.scope())).create(&PostParams::default(), body);
        self.send_for_object(&call, request).await
    }

    async fn patch_kind<T: DeserializeOwned>(
        &self,
        kind: &Kind,
        subresource: Option<&str>,
        key: &Key,
        mut patch: Value,
        only_if: &Preconditions,
    ) -> Result<T, WriteError> {
        let call = Call { verb: "patch", kind, key };
        add_preconditions(&mut patch, only_if);
        let (path, params, patch) = (Request::new(kind.path(key.scope())), PatchParams::default(), Patch::Merge(patch));
        let request = match subresource {
            None => path.patch(&key.name, &params, &patch),
            Some(subresource) => path.patch_subresource(subresource, &key.name, &params, &patch),
        };
        let answered = self.send_for_object(&call, request).await;
        answered.inspect_err(|error| self.note_gone(&call, only_if, error))
    }

    /// The API server says that the very object is gone: a cache that is behind need not make others ask for it again.
    fn note_gone(&self, call: &Call<'_>, only_if: &Preconditions, error: &WriteError) {
        if let (WriteError::NotFound(_), Some(uid), Some(hub)) = (error, &only_if.uid, &self.hub) {
            hub.deleted(call.kind, call.key, Some(uid));
        }
    }

    async fn delete_kind(&self, kind: &Kind, key: &Key, only_if: &Preconditions) -> Result<(), WriteError> {
        let call = Call { verb: "delete", kind, key };
        let preconditions = kube::core::params::Preconditions {
            resource_version: only_if.resource_version.clone(),
            uid: only_if.uid.clone(),
        };
        let params = DeleteParams {
            preconditions: (*only_if != Preconditions::none()).then_some(preconditions),
            ..DeleteParams::default()
        };
        let answer = self.send(&call, Request::new(kind.path(key.scope())).delete(&key.name, &params)).await;
        let answer = answer.inspect_err(|error| self.note_gone(&call, only_if, error))?;
        let Some(hub) = &self.hub else { return Ok(()) };
        match serde_json::from_str::<Status>(&answer) {
            // Status: it is gone. Anything else is the object that finalizers keep.
            Ok(status) if status.status.is_some() => {
                let uid = status.details.map(|details| details.uid).filter(|uid| !uid.is_empty());
                hub.deleted(kind, key, uid.as_deref().or(only_if.uid.as_deref()));
            }
            _ => hub.reply(kind, &answer),
        }
        Ok(())
    }

    async fn send_for_object<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, WriteError> {
        let answer = self.send(call, request).await?;
        if let Some(hub) = &self.hub {
            hub.reply(call.kind, &answer);
        }
        // It happened, but we cannot say what is there now.
        serde_json::from_str(&answer)
            .map_err(|source| WriteError::Unknown(call.failure(None, Some(kube::Error::SerdeError(source)))))
    }

    async fn send(
        &self,
        call: &Call<'_>,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<String, WriteError> {
        let request = match request {
            Ok(request) => request,
            Err(error) => return Err(WriteError::Failed(call.failure(None, Some(kube::Error::BuildRequest(error))))),
        };
        match tokio::time::timeout(self.deadline, self.client.request_text(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(call.classify(error)),
            Err(_) => Err(WriteError::Unknown(call.failure(None, None))),
        }
    }
}

struct Call<'a> {
    verb: &'static str,
    kind: &'a Kind,
    key: &'a Key,
}

impl Call<'_> {
    fn failure(&self, status: Option<&Status>, source: Option<kube::Error>) -> Box<Failure> {
        Box::new(Failure {
            verb: self.verb,
            kind: self.kind.kind.clone(),
            key: self.key.clone(),
            message: status.map(|s| s.message.clone()).unwrap_or_default(),
            reason: status.map(|s| s.reason.clone()).unwrap_or_default(),
            code: status.map(|s| s.code).unwrap_or_default(),
            source: source.map(Box::new),
        })
    }

    fn classify(&self, error: kube::Error) -> WriteError {
        let kube::Error::Api(status) = &error else {
            // The request may have left before the connection broke.
            return WriteError::Unknown(self.failure(None, Some(error)));
        };
        let status = status.clone();
        let missing_object = is_missing_object(&error);
        let failure = self.failure(Some(&status), Some(error));
        match status.code {
            409 if status.reason == "AlreadyExists" => WriteError::AlreadyExists(failure),
            409 => WriteError::Conflict(failure),
            // A merge patch with another uid is refused as a change of an immutable field: it is a different object now.
            422 if concerns_uid(&status) => WriteError::Conflict(failure),
            400 | 413 | 415 | 422 => WriteError::Invalid(failure),
            403 | 401 => WriteError::Forbidden(failure),
            404 if missing_object => WriteError::NotFound(failure),
            // The storage or a proxy gave up waiting.
            500 | 502 | 504 => WriteError::Unknown(failure),
            _ => WriteError::Failed(failure),
        }
    }
}

fn concerns_uid(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.field == "metadata.uid")
}

fn set_type(body: &mut Value, kind: &Kind) {
    if let Value::Object(fields) = body {
        fields.insert("apiVersion".into(), kind.api_version().into());
        fields.insert("kind".into(), kind.kind.clone().into());
    }
}

fn add_preconditions(patch: &mut Value, only_if: &Preconditions) {
    let fields = [("resourceVersion", &only_if.resource_version), ("uid", &only_if.uid)];
    for (name, value) in fields {
        if let (Value::Object(patch), Some(value)) = (&mut *patch, value)
            && let Value::Object(metadata) = patch.entry("metadata").or_insert_with(|| Value::Object(Map::new()))
        {
            metadata.insert(name.to_owned(), value.clone().into());
        }
    }
}

/// The merge patch that turns `before` into `after`; none when they are the same JSON. Lists are replaced whole.
pub fn merge_diff<T: Serialize>(before: &T, after: &T) -> Result<Option<Value>, WriteError> {
    let before = serde_json::to_value(before).map_err(WriteError::Encode)?;
    let after = serde_json::to_value(after).map_err(WriteError::Encode)?;
    Ok(merge_diff_json(&before, &after))
}

/// As [`merge_diff`], of JSON.
pub fn merge_diff_json(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut patch = Map::new();
    for (name, value) in after {
        match before.get(name) {
            None => {
                patch.insert(name.clone(), value.clone());
            }
            Some(old) => {
                if let Some(difference) = merge_diff_json(old, value) {
                    patch.insert(name.clone(), difference);
                }
            }
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(before: &Value, after: &Value, expected: &Value) {
        assert_eq!(merge_diff_json(before, after).unwrap_or_default(), *expected);
    }

    #[test]
    fn equal_objects_make_no_patch() {
        check(&json!({"a": {"b": [1]}}), &json!({"a": {"b": [1]}}), &Value::Null);
        check(&json!({"a": 1, "b": 2}), &json!({"b": 2, "a": 1}), &Value::Null);
    }

    #[test]
    fn a_patch_names_only_what_changed() {
        check(&json!({"a": {"b": 1, "c": 2}}), &json!({"a": {"b": 1, "c": 3}}), &json!({"a": {"c": 3}}));
        check(&json!({"a": 1, "b": 2}), &json!({"a": 1}), &json!({"b": null}));
        check(&json!({}), &json!({"a": {"b": 1}}), &json!({"a": {"b": 1}}));
    }

    #[test]
    fn lists_are_replaced_whole() {
        check(&json!({"a": [1, 2]}), &json!({"a": [1]}), &json!({"a": [1]}));
    }

    #[test]
    fn preconditions_travel_in_the_metadata() {
        let mut patch = json!({"metadata": {"finalizers": []}});
        let only_if = Preconditions { resource_version: Some("7".into()), uid: Some("u".into()) };
        add_preconditions(&mut patch, &only_if);
        assert_eq!(patch, json!({"metadata": {"finalizers": [], "resourceVersion": "7", "uid": "u"}}));
        let mut patch = json!({"status": {}});
        add_preconditions(&mut patch, &Preconditions::none());
        assert_eq!(patch, json!({"status": {}}));
    }
}
