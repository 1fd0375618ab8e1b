//! How a scenario or an actor does something in a world, and waits for what comes of it.

use std::time::Duration;

use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tower::Service;

use super::kinds::Kind;
use crate::server::{Server, User};

/// How often a wait looks, in virtual time.
const LOOK: Duration = Duration::from_millis(100);
/// How long a person tries again what a server that is not well refuses.
const PATIENCE: Duration = Duration::from_secs(600);

const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Why a scenario cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Stuck {
    #[error("{what} was refused: {source}")]
    Refused { what: String, source: Refused },
    #[error("{what} never came; there is {there}")]
    NeverCame { what: String, there: String },
    #[error("{0}")]
    Broken(String),
}

/// The answer to a request that was not carried out, as far as its sender knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Refused {
    /// 0 when there was no answer.
    pub code: u16,
    pub reason: String,
    pub message: String,
}

impl Refused {
    /// Worth trying again without looking.
    pub fn passes(&self) -> bool {
        matches!(self.code, 0 | 429 | 500..)
    }
}

/// What is done to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    Create(Value),
    /// A merge patch.
    Patch(Value),
    PatchStatus(Value),
    JsonPatch(Value),
    /// Server-side apply, with force, as this field manager.
    Apply(String, Value),
    Delete(Value),
}

/// Writes as one user in one namespace. Clones share the connection.
#[derive(Clone)]
pub struct Hand {
    server: Server,
    user: User,
    namespace: String,
}

impl Hand {
    pub fn new(server: Server, user: User, namespace: &str) -> Self {
        Self { server, user, namespace: namespace.to_owned() }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// One request; the answer's object.
    pub async fn send(&self, kind: Kind, name: &str, deed: Deed) -> Result<Value, Refused> {
        let (root, namespace) = (if kind.group().is_empty() { "api" } else { "apis" }, &self.namespace);
        let within = if kind.is_namespaced() { format!("namespaces/{namespace}/") } else { String::new() };
        let all = format!("/{root}/{}/{within}{}", kind.api_version, kind.plural);
        let one = format!("{all}/{name}");
        let (method, path, form, body) = match deed {
            Deed::Create(body) => (Method::POST, all, "application/json", body),
            Deed::Patch(body) => (Method::PATCH, one, MERGE, body),
            Deed::PatchStatus(body) => (Method::PATCH, format!("{one}/status"), MERGE, body),
            Deed::JsonPatch(body) => (Method::PATCH, one, "application/json-patch+json", body),
            Deed::Apply(manager, body) => {
                (Method::PATCH, format!("{one}?fieldManager={manager}&force=true"), APPLY, body)
            }
            Deed::Delete(options) => (Method::DELETE, one, "application/json", options),
        };
        let unanswered = |why: String| Refused { code: 0, reason: "Unanswered".into(), message: why };
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, form);
        let request = request.body(Body::from(body.to_string().into_bytes()));
        let request = request.map_err(|error| unanswered(error.to_string()))?;
        let answer = self.server.connection(self.user.clone()).call(request).await;
        let answer = answer.map_err(|error| unanswered(error.to_string()))?;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| unanswered(error.to_string()))?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if code < 400 {
            return Ok(body);
        }
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        Err(Refused { code, reason: text("reason"), message: text("message") })
    }

    /// Tries again while the server is not well.
    pub async fn insist(&self, kind: Kind, name: &str, deed: Deed) -> Result<Value, Stuck> {
        let end = Instant::now() + PATIENCE;
        let mut again = false;
        loop {
            match self.send(kind, name, deed.clone()).await {
                Ok(object) => return Ok(object),
                Err(refused) if refused.passes() && Instant::now() < end => sleep(Duration::from_secs(1)).await,
                // The answer to an earlier try was lost.
                Err(refused) if again && refused.reason == "AlreadyExists" => return Ok(self.get(kind, name)),
                Err(source) => return Err(Stuck::Refused { what: format!("{} {name}", kind.kind), source }),
            }
            again = true;
        }
    }

    /// The kind's apiVersion and the namespace are put in where the body has none.
    pub async fn create(&self, kind: Kind, body: Value) -> Result<Value, Stuck> {
        let body = self.whole(kind, body);
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.insist(kind, &name, Deed::Create(body)).await
    }

    /// The body with its type and its place.
    pub fn whole(&self, kind: Kind, mut body: Value) -> Value {
        body["apiVersion"] = kind.api_version.into();
        body["kind"] = kind.kind.into();
        let metadata = &mut body["metadata"];
        if metadata["namespace"].is_null() && kind.is_namespaced() {
            metadata["namespace"] = self.namespace.clone().into();
        }
        body
    }

    pub async fn patch(&self, kind: Kind, name: &str, patch: Value) -> Result<(), Stuck> {
        self.insist(kind, name, Deed::Patch(patch)).await.map(drop)
    }

    pub async fn patch_status(&self, kind: Kind, name: &str, status: Value) -> Result<(), Stuck> {
        self.insist(kind, name, Deed::PatchStatus(json!({"status": status}))).await.map(drop)
    }

    /// What is gone already counts as deleted.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<(), Stuck> {
        match self.insist(kind, name, Deed::Delete(json!({}))).await {
            Ok(_) => Ok(()),
            Err(Stuck::Refused { source, .. }) if source.code == 404 => Ok(()),
            Err(stuck) => Err(stuck),
        }
    }

    /// Null when it is not there. Looks at what is stored: no request.
    pub fn get(&self, kind: Kind, name: &str) -> Value {
        let namespace = if kind.is_namespaced() { self.namespace.as_str() } else { "" };
        self.server.get(&kind.filed(), namespace, name).map(|object| Value::clone(&object)).unwrap_or_default()
    }

    /// Waits until the object, null when it is not there, is as wanted.
    pub async fn until(
        &self,
        bound: Duration,
        (kind, name): (Kind, &str),
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Stuck> {
        let what = || format!("{what} ({} {name})", kind.kind);
        let is_there = || wanted(&self.get(kind, name));
        until(&self.server, bound, what, is_there, || self.get(kind, name).to_string()).await?;
        Ok(self.get(kind, name))
    }
}

/// Looks whenever something has been written.
pub(super) async fn until(
    server: &Server,
    bound: Duration,
    what: impl Fn() -> String,
    is_there: impl Fn() -> bool,
    there: impl Fn() -> String,
) -> Result<(), Stuck> {
    let wait = async {
        let mut seen = None;
        loop {
            let now = server.revision();
            if seen.replace(now) != Some(now) && is_there() {
                return;
            }
            sleep(LOOK).await;
        }
    };
    timeout(bound, wait).await.map_err(|_| Stuck::NeverCame { what: what(), there: there() })
}
