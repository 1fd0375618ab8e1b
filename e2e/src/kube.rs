//! Talking to a cluster from the outside: a client, applying manifests, and waiting for states with a bound.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

/// A client that fails fast: a bed that does not answer should be seen, not retried out of sight.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).with_context(|| format!("read {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Applies every document of a YAML text in order, server-side, as field manager `bed`.
pub async fn apply(client: &Client, yaml: &str) -> Result<Vec<DynamicObject>> {
    apply_with(client, yaml, &PatchParams::apply("bed").force()).await
}

/// As [`apply`], up to admission and conversion; nothing is stored.
pub async fn dry_run(client: &Client, yaml: &str) -> Result<()> {
    apply_with(client, yaml, &PatchParams::apply("bed").force().dry_run()).await.map(|_| ())
}

/// The documents of a YAML text that hold something.
pub fn documents(yaml: &str) -> Result<impl Iterator<Item = Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    Ok(all.into_iter().filter(|document| !document.is_null()))
}

async fn apply_with(client: &Client, yaml: &str, how: &PatchParams) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for document in documents(yaml)? {
        applied.push(apply_one(client, document, how).await?);
    }
    Ok(applied)
}

/// Applies one object server-side.
pub async fn apply_one(client: &Client, document: Value, how: &PatchParams) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(document)?;
    let (api, name) = api_of(client, &object).await?;
    let result = api.patch(&name, how, &Patch::Apply(&object)).await;
    result.with_context(|| format!("apply {} {name}", object.types.unwrap_or_default().kind))
}

/// What the server has of the object that a document describes.
pub async fn live(client: &Client, document: &Value) -> Result<Option<Value>> {
    let object: DynamicObject = serde_json::from_value(document.clone())?;
    let (api, name) = api_of(client, &object).await?;
    let found = api.get_opt(&name).await.with_context(|| format!("get {} {name}", document["kind"]))?;
    found.map(|object| serde_json::to_value(object).context("an object as JSON")).transpose()
}

async fn api_of(client: &Client, object: &DynamicObject) -> Result<(Api<DynamicObject>, String)> {
    let (name, kind) = match (&object.metadata.name, &object.types) {
        (Some(name), Some(types)) => (name.clone(), GroupVersionKind::try_from(types)?),
        _ => bail!("a document without kind or name"),
    };
    let (resource, capabilities) = pinned_kind(client, &kind).await.with_context(|| format!("kind {}", kind.kind))?;
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => namespaced(client, object.metadata.namespace.as_deref(), &resource),
    };
    Ok((api, name))
}

fn namespaced(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), resource)
}

/// The first place where `live` does not have what `wanted` says; what `live` has beyond it does not matter.
pub fn lacking(wanted: &Value, live: &Value) -> Option<String> {
    let below = |key: &str, wanted: &Value, live: &Value| Some(format!("/{key}{}", lacking(wanted, live)?));
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().find_map(|(key, wanted)| below(key, wanted, live.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            wanted.iter().zip(live).enumerate().find_map(|(at, (wanted, live))| below(&at.to_string(), wanted, live))
        }
        (wanted, live) => (wanted != live).then(|| format!(": {wanted} is {live}")),
    }
}

/// What a look at the world found.
pub enum Seen<T> {
    Done(T),
    /// Not yet, and what was seen instead.
    Not(String),
}

/// Looks again and again until `look` finds what it waits for. Past the bound the error says what was seen last.
/// An error of `look` counts as "not yet": the API server may not serve the kind so far.
pub async fn wait_for<T>(
    what: impl Display,
    bound: Duration,
    mut look: impl AsyncFnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let deadline = Instant::now() + bound;
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = match look().await {
            Ok(Seen::Done(found)) => return Ok(found),
            Ok(Seen::Not(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}; last seen: {seen}", bound.as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_lacks_is_named_by_its_place() {
        let live = json!({"a": [{"b": 1, "more": 2}], "more": 3});
        assert_eq!(lacking(&json!({"a": [{"b": 1}]}), &live), None);
        assert_eq!(lacking(&json!({"a": [{"b": 2}]}), &live).unwrap(), "/a/0/b: 2 is 1");
        assert_eq!(lacking(&json!({"a": []}), &live).unwrap(), r#"/a: [] is [{"b":1,"more":2}]"#);
        assert_eq!(lacking(&json!({"c": true}), &live).unwrap(), "/c: true is null");
    }
}
