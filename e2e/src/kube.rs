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
pub fn documents(yaml: &str) -> Result<impl Iterator<Item = serde_json::Value>> {
    let all: Vec<serde_json::Value> = serde_saphyr::from_multiple(yaml)?;
    Ok(all.into_iter().filter(|document| !document.is_null()))
}

async fn apply_with(client: &Client, yaml: &str, how: &PatchParams) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for document in documents(yaml)? {
        let object: DynamicObject = serde_json::from_value(document)?;
        let (name, kind) = match (&object.metadata.name, &object.types) {
            (Some(name), Some(types)) => (name.clone(), GroupVersionKind::try_from(types)?),
            _ => bail!("a document without kind or name"),
        };
        let (resource, capabilities) =
            pinned_kind(client, &kind).await.with_context(|| format!("kind {}", kind.kind))?;
        let api = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => namespaced(client, object.metadata.namespace.as_deref(), &resource),
        };
        let result = api.patch(&name, how, &Patch::Apply(&object)).await;
        applied.push(result.with_context(|| format!("apply {} {name}", kind.kind))?);
    }
    Ok(applied)
}

fn namespaced(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), resource)
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
