//! Scripts of raw requests, and where they are played.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use capm3_runtime::{ClientOptions, connect};
use capm3_sim::server::{Options, Server, User, VirtualClock};
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::definitions;
use crate::normal::Normal;

/// How long a watch is listened to before it is taken to have said everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A short story of requests in a namespace of its own, which paths call `NS`.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Step>,
}

/// One request. Strings such as `$0/metadata/uid` stand for what an earlier answer has there.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
    /// Sent as it is instead of the body.
    pub(crate) raw: Option<String>,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    /// Events to wait for, of a watch.
    pub(crate) events: usize,
    /// Whom the administrator speaks for.
    pub(crate) user: Option<&'static str>,
    /// Asked again while it is forbidden: a new role takes its time in the real server.
    pub(crate) patient: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method, self.path, self.raw.clone().unwrap_or_else(|| self.body.to_string()))
    }
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const PATCH: &str = "application/json-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
pub(crate) const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

impl Step {
    pub(crate) fn new(method: &'static str, path: impl Into<String>, body: Value) -> Self {
        let (path, raw) = (path.into(), None);
        Self { method, path, body, raw, content_type: JSON, accept: JSON, events: 0, user: None, patient: false }
    }
}

impl Case {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, steps: Vec::new() }
    }

    pub(crate) fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(crate) fn get(self, path: &str) -> Self {
        self.step(Step::new("GET", path, Value::Null))
    }

    pub(crate) fn post(self, path: &str, body: Value) -> Self {
        self.step(Step::new("POST", path, body))
    }

    pub(crate) fn put(self, path: &str, body: Value) -> Self {
        self.step(Step::new("PUT", path, body))
    }

    pub(crate) fn merge(self, path: &str, body: Value) -> Self {
        self.step(Step { content_type: MERGE, ..Step::new("PATCH", path, body) })
    }

    pub(crate) fn patch(self, path: &str, body: Value) -> Self {
        self.step(Step { content_type: PATCH, ..Step::new("PATCH", path, body) })
    }

    pub(crate) fn strategic(self, path: &str, body: Value) -> Self {
        self.step(Step { content_type: STRATEGIC, ..Step::new("PATCH", path, body) })
    }

    pub(crate) fn delete(self, path: &str, body: Value) -> Self {
        self.step(Step::new("DELETE", path, body))
    }

    /// The same as another user.
    pub(crate) fn by(mut self, user: &'static str) -> Self {
        self.steps.last_mut().unwrap().user = Some(user);
        self
    }

    pub(crate) fn patient(mut self) -> Self {
        self.steps.last_mut().unwrap().patient = true;
        self
    }

    /// Listens until so many events have come.
    pub(crate) fn watch(self, path: &str, events: usize) -> Self {
        self.step(Step { events, ..Step::new("WATCH", path, Value::Null) })
    }

    pub(crate) fn accept(self, accept: &'static str, method: &'static str, path: &str, body: Value) -> Self {
        let content_type = if method == "PATCH" { MERGE } else { JSON };
        self.step(Step { accept, content_type, ..Step::new(method, path, body) })
    }

    pub(crate) fn raw(self, method: &'static str, content_type: &'static str, path: &str, text: &str) -> Self {
        self.step(Step { raw: Some(text.to_owned()), content_type, ..Step::new(method, path, Value::Null) })
    }
}

/// A server with the definitions of the suite.
pub(crate) struct Site {
    client: Client,
    run: String,
}

impl Site {
    pub(crate) async fn simulated(seed: u64) -> Self {
        let clock = VirtualClock::starting_at("2026-08-01T00:00:00Z".parse().unwrap());
        let server = Server::new(Options { track_on_create: true, ..Options::new(seed, Arc::new(clock)) });
        let site = Self { client: server.client(User::admin()), run: "sim".into() };
        site.define().await;
        server.compact(); // the real server has forgotten its first versions too
        site
    }

    pub(crate) async fn live() -> Self {
        let kubeconfig = std::env::var("CAPM3_TEST_KUBECONFIG").unwrap();
        let client = connect(Some(kubeconfig.into()), &ClientOptions::default()).await.unwrap();
        let site = Self { client, run: format!("{:x}", std::process::id()) };
        site.define().await;
        site
    }

    async fn define(&self) {
        for definition in definitions::all() {
            let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            let (code, body) = self.send(&Step::new("POST", path, definition)).await;
            assert!(matches!(code, 201 | 409), "{name}: {code} {body}");
            let established = async {
                loop {
                    let (_, body) = self.send(&Step::new("GET", format!("{path}/{name}"), Value::Null)).await;
                    let body: Value = serde_json::from_str(&body).unwrap();
                    let mut conditions = body["status"]["conditions"].as_array().into_iter().flatten();
                    let (group, plural) = (&body["spec"]["group"], &body["spec"]["names"]["plural"]);
                    let (group, plural) = (group.as_str().unwrap(), plural.as_str().unwrap());
                    let served = self.send(&Step::new("GET", format!("/apis/{group}/v1/{plural}"), Value::Null)).await;
                    if served.0 == 200 && conditions.any(|c| c["type"] == "Established" && c["status"] == "True") {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            timeout(PATIENCE, established).await.unwrap_or_else(|_| panic!("{name} is not served"));
        }
    }

    async fn send(&self, step: &Step) -> (u16, String) {
        let body = match &step.raw {
            Some(raw) => raw.clone(),
            None if step.body.is_null() => String::new(),
            None => step.body.to_string(),
        };
        let method = if step.method == "WATCH" { "GET" } else { step.method };
        let request = Request::builder().method(method).uri(&step.path).header("accept", step.accept);
        let request = match step.user {
            Some(user) => request.header("impersonate-user", user),
            None => request,
        };
        let request = request.header("user-agent", "capm3");
        let request = request.header("content-type", step.content_type).body(Body::from(body.into_bytes())).unwrap();
        let answer = self.client.send(request).await.unwrap();
        let code = answer.status().as_u16();
        if step.method == "WATCH" && code == 200 {
            let wait = async {
                let (mut text, mut stream) = (String::new(), answer.into_body().into_data_stream());
                while text.lines().count() < step.events
                    && let Some(bytes) = stream.next().await
                {
                    text.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
                }
                text
            };
            return (code, timeout(PATIENCE, wait).await.unwrap_or_else(|_| format!("too few events: {step}")));
        }
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The answers, without what differs from run to run.
    pub(crate) async fn run(&self, case: &Case) -> Vec<String> {
        let owned = case.name.starts_with("apply_") || case.name.starts_with("updates_");
        let mut normal = Normal::new(&self.namespace(case), owned);
        self.run_raw(case).await.iter().map(|(code, body)| normal.line(*code, body)).collect()
    }

    fn namespace(&self, case: &Case) -> String {
        format!("{}-{}", case.name.replace('_', "-"), self.run)
    }

    pub(crate) async fn run_raw(&self, case: &Case) -> Vec<(u16, String)> {
        let namespace = self.namespace(case);
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let (code, body) = self.send(&Step::new("POST", "/api/v1/namespaces", body)).await;
        assert_eq!(code, 201, "{body}");
        let mut answers: Vec<(u16, String)> = Vec::new();
        for step in &case.steps {
            let mut step = step.clone();
            step.path = resolved(&step.path.replace("NS", &namespace), &answers);
            fill(&mut step.body, &namespace, &answers);
            step.raw = step.raw.map(|raw| raw.replace("NS", &namespace));
            let mut answer = self.send(&step).await;
            for _ in 0..100 {
                if !step.patient || answer.0 != 403 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                answer = self.send(&step).await;
            }
            answers.push(answer);
        }
        answers
    }
}

/// Replaces `$0/metadata/uid` up to the end of its path.
fn resolved(text: &str, answers: &[(u16, String)]) -> String {
    let Some((head, rest)) = text.split_once('$') else { return text.to_owned() };
    let end = rest.find(['&', '?']).unwrap_or(rest.len());
    format!("{head}{}{}", pointed(&rest[..end], answers), &rest[end..])
}

fn pointed(reference: &str, answers: &[(u16, String)]) -> String {
    let (at, pointer) = reference.split_once('/').unwrap();
    let answer = answers.get(at.parse::<usize>().unwrap()).map(|(_, body)| body.as_str()).unwrap_or_default();
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    match answer.pointer(&format!("/{pointer}")) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "7".into(), // an old resourceVersion, an unknown uid
    }
}

fn fill(value: &mut Value, namespace: &str, answers: &[(u16, String)]) {
    match value {
        Value::String(text) if text.starts_with('$') => *value = pointed(&text[1..], answers).into(),
        Value::String(text) if text.contains("NS") => *value = text.replace("NS", namespace).into(),
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, namespace, answers)),
        Value::Object(fields) => fields.values_mut().for_each(|value| fill(value, namespace, answers)),
        _ => {}
    }
}
