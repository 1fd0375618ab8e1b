//! What others really do to objects behind a manager's back.

use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tower::Service;

use crate::server::{Call, Server, User};
use crate::world::kinds::SECRET;
use crate::world::{SITE, World};

/// Where the object of a request is.
fn path(call: &Call) -> String {
    let root =
        if call.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/{}", call.group, call.version) };
    let within = if call.namespace.is_empty() { String::new() } else { format!("/namespaces/{}", call.namespace) };
    format!("{root}{within}/{}/{}", call.resource, call.name)
}

async fn ask(server: &Server, method: Method, path: &str, body: &Value) -> Option<Value> {
    let form = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, form);
    let request = request.body(Body::from(body.to_string().into_bytes())).ok()?;
    let answer = server.connection(User::admin()).call(request).await.ok()?;
    let found = answer.status().is_success();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    serde_json::from_slice(&body).ok().filter(|_| found)
}

/// Somebody writes the object in a way that means nothing.
pub(super) async fn touch(server: &Option<Server>, call: &Call) {
    let Some(server) = server.as_ref().filter(|_| !call.name.is_empty()) else { return };
    let patch = json!({"metadata": {"annotations": {"example.com/touched": call.number.to_string()}}});
    ask(server, Method::PATCH, &path(call), &patch).await;
}

/// Somebody takes the object's finalizers and deletes it.
pub(super) async fn remove(server: &Option<Server>, call: &Call) -> Option<Value> {
    let server = server.as_ref().filter(|_| !call.name.is_empty())?;
    let path = path(call);
    let was = ask(server, Method::GET, &path, &Value::Null).await?;
    ask(server, Method::PATCH, &path, &json!({"metadata": {"finalizers": null}})).await;
    ask(server, Method::DELETE, &path, &json!({"propagationPolicy": "Background"})).await;
    Some(was)
}

/// The same, and it is made again from what somebody had written down: without its status and its finalizers.
pub(super) async fn recreate(server: &Option<Server>, call: &Call) {
    let Some(was) = remove(server, call).await else { return };
    let Some(server) = server else { return };
    let path = path(call);
    let all = path.rsplit_once('/').map_or(path.as_str(), |(all, _)| all);
    ask(server, Method::POST, all, &written_down(&was)).await;
}

fn written_down(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| {
            matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations" | "ownerReferences")
        });
    }
    object
}

/// Deletes the Secrets with kubeconfigs; what they were.
pub(super) async fn hide_kubeconfigs(world: &World) -> Vec<Value> {
    let secrets = world.server.all(&SECRET.filed());
    let name = |secret: &Value| secret["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let hidden: Vec<_> = secrets.iter().filter(|secret| name(secret).ends_with("-kubeconfig")).collect();
    for secret in &hidden {
        let path = format!("/api/v1/namespaces/{SITE}/secrets/{}", name(secret));
        ask(&world.server, Method::DELETE, &path, &Value::Null).await;
    }
    hidden.into_iter().map(|secret| written_down(secret)).collect()
}

pub(super) async fn put_back(world: &World, secrets: Vec<Value>) {
    for secret in secrets {
        ask(&world.server, Method::POST, &format!("/api/v1/namespaces/{SITE}/secrets"), &secret).await;
    }
}
