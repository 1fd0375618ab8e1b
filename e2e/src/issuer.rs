//! A stand-in for the two things that provider components need of cert-manager.
//!
//! Every Certificate gets its Secret (self-signed for its DNS names), and every CRD and webhook configuration that names
//! a Certificate in `cert-manager.io/inject-ca-from` gets that certificate as `caBundle`. Watches wake it; a pass looks at
//! everything that is known and writes only what differs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The CRDs that stand for cert-manager.
pub const CRDS: &str = include_str!("../manifests/cert-manager-crds.yaml");

const INJECT: &str = "cert-manager.io/inject-ca-from";

/// Runs until a watch ends, which it should not. [`CRDS`] must be served.
pub async fn run(client: Client) -> Result<()> {
    let woken = Arc::new(Notify::new());
    let mut watches = JoinSet::new();
    let kind = kube::core::GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate");
    let certificates = watch(&client, &ApiResource::from_gvk(&kind), &woken, &mut watches);
    let targets = [
        ApiResource::erase::<CustomResourceDefinition>(&()),
        ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
    ]
    .map(|resource| {
        let store = watch(&client, &resource, &woken, &mut watches);
        (resource, store)
    });

    let mut issued = BTreeMap::new();
    loop {
        let retry = match pass(&client, &certificates, &targets, &mut issued).await {
            Ok(()) => Duration::MAX,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the issuer's pass failed");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = woken.notified() => {}
            () = tokio::time::sleep(retry) => {}
            ended = watches.join_next() => { ended.transpose()?; return Ok(()); }
        }
    }
}

fn watch(
    client: &Client,
    resource: &ApiResource,
    woken: &Arc<Notify>,
    watches: &mut JoinSet<()>,
) -> Store<DynamicObject> {
    let writer = reflector::store::Writer::new(resource.clone());
    let store = writer.as_reader();
    let api = Api::<DynamicObject>::all_with(client.clone(), resource);
    let woken = Arc::clone(woken);
    watches.spawn(async move {
        let changes = reflector::reflector(writer, watcher(api, watcher::Config::default()).default_backoff());
        changes.for_each(async |_| woken.notify_one()).await;
    });
    store
}

/// Certificates by `namespace/name`, with the Secret's CA in base64; a Certificate made anew is issued anew.
type Issued = BTreeMap<String, (Option<String>, String)>;

async fn pass(
    client: &Client,
    certificates: &Store<DynamicObject>,
    targets: &[(ApiResource, Store<DynamicObject>)],
    issued: &mut Issued,
) -> Result<()> {
    let known = certificates.state();
    issued.retain(|name, (uid, _)| {
        known.iter().any(|certificate| full_name(certificate) == *name && certificate.uid() == *uid)
    });
    let mut failed = Ok(());
    for certificate in &known {
        let name = full_name(certificate);
        if certificate.metadata.deletion_timestamp.is_none() && !issued.contains_key(&name) {
            match issue(client, certificate).await {
                Ok(authority) => {
                    tracing::info!(certificate = name, "issued");
                    issued.insert(name, (certificate.uid(), authority));
                }
                // Its namespace may be going; the others do not wait for it.
                Err(error) => failed = Err(error.context(format!("Certificate {name}"))),
            }
        }
    }
    for (resource, store) in targets {
        for target in store.state() {
            let Some((_, authority)) = target.annotations().get(INJECT).and_then(|name| issued.get(name)) else {
                continue;
            };
            let Some(patch) = injection(&target.data, authority) else { continue };
            let api = Api::<DynamicObject>::all_with(client.clone(), resource);
            let name = target.name_any();
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .with_context(|| format!("caBundle of {name}"))?;
            tracing::info!(kind = resource.kind, name, "injected");
        }
    }
    failed
}

fn full_name(certificate: &DynamicObject) -> String {
    format!("{}/{}", certificate.namespace().unwrap_or_default(), certificate.name_any())
}

/// Writes the Certificate's Secret unless it is there, says so in its status, and returns the CA in base64.
async fn issue(client: &Client, certificate: &DynamicObject) -> Result<String> {
    let namespace = certificate.namespace().context("a Certificate has a namespace")?;
    let name =
        certificate.data.pointer("/spec/secretName").and_then(Value::as_str).context("spec.secretName is empty")?;
    let names = certificate.data.pointer("/spec/dnsNames").and_then(Value::as_array);
    let names: Vec<String> = names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect();

    let api = Api::<Secret>::namespaced(client.clone(), &namespace);
    let secret = match api.get_opt(name).await? {
        Some(secret) => secret,
        None => api.create(&Default::default(), &secret(name, &certificate.name_any(), names)?).await?,
    };
    let authority = secret
        .data
        .as_ref()
        .and_then(|data| data.get("ca.crt"))
        .with_context(|| format!("Secret {name} has no ca.crt"))?;

    let ready =
        json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Issued", "message": ""}]}});
    let kind = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &kind);
    api.patch_status(&certificate.name_any(), &PatchParams::default(), &Patch::Merge(&ready)).await?;
    Ok(BASE64.encode(&authority.0))
}

fn secret(name: &str, certificate: &str, names: Vec<String>) -> Result<Secret> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, certificate);
    let pem = ByteString(params.self_signed(&key)?.pem().into_bytes());
    let key = ByteString(key.serialize_pem().into_bytes());
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(BTreeMap::from([(
                "cert-manager.io/certificate-name".to_owned(),
                certificate.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from([
            ("ca.crt".to_owned(), pem.clone()),
            ("tls.crt".to_owned(), pem),
            ("tls.key".to_owned(), key),
        ])),
        ..Secret::default()
    })
}

/// The merge patch that puts the CA everywhere in a CRD or a webhook configuration, if it is not there already.
fn injection(target: &Value, authority: &str) -> Option<Value> {
    let current = |config: &Value| config.get("caBundle").and_then(Value::as_str) == Some(authority);
    if let Some(webhooks) = target.get("webhooks").and_then(Value::as_array) {
        if webhooks.iter().all(|webhook| webhook.get("clientConfig").is_none_or(current)) {
            return None;
        }
        let mut webhooks = webhooks.clone(); // a merge patch replaces lists whole
        for config in webhooks.iter_mut().filter_map(|webhook| webhook.get_mut("clientConfig")) {
            config["caBundle"] = authority.into();
        }
        return Some(json!({"webhooks": webhooks}));
    }
    let config = target.pointer("/spec/conversion/webhook/clientConfig")?;
    (!current(config)).then(|| json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": authority}}}}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crd_without_a_conversion_webhook_is_left_alone() {
        assert_eq!(injection(&json!({"spec": {"conversion": {"strategy": "None"}}}), "Q0E="), None);
    }

    #[test]
    fn a_bundle_that_is_there_is_not_written_again() {
        let before =
            json!({"webhooks": [{"name": "a", "clientConfig": {"service": {}}}, {"name": "b", "clientConfig": {}}]});
        let patch = injection(&before, "Q0E=").unwrap();
        assert_eq!(patch["webhooks"][0], json!({"name": "a", "clientConfig": {"service": {}, "caBundle": "Q0E="}}));
        assert_eq!(injection(&patch, "Q0E="), None);
        assert!(injection(&patch, "b3RoZXI=").is_some());
    }
}
