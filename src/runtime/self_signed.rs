//! A manager that is its own cert-manager: signs its certificate, keeps it in a Secret, makes the API server trust it.
//!
//! Every replica does all of it, without a lease, because every replica serves. They agree through the Secret: its creation
//! has one winner, and every change carries the resourceVersion it was decided on. A certificate serves once everything that
//! calls us has its authority, so that a ready replica is one that can be called. Nothing is written to disk, and nothing at
//! all while what is there is right. What to do is decided in [`crate::authority`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ServiceReference, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, WebhookClientConfig as ConversionClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authority::{
    BUNDLE, CERTIFICATE, Change, Held, KEY, NEXT_CERTIFICATE, NEXT_KEY, Observed, data, decide, issue,
};
use crate::clock::Clock;
use crate::controller::{Controller, Next, Reconcile, ReconcileError};
use crate::hub::{Hub, HubOptions, WatchOptions};
use crate::metrics::Metrics;
use crate::object::{Key, Object, key_of};
use crate::queue::Queue;
use crate::store::Store;
use crate::tasks::Tasks;
use crate::tls::{Certificate, Pair, Reads, TlsError, TlsPolicy};
use crate::write::{Preconditions, WriteError, Writer};

/// Somebody else was first; the watch shows what they did, this is only in case it does not.
const LOST: Duration = Duration::from_secs(1);

/// What a manager without cert-manager looks after.
pub struct SelfSigned {
    /// Where the certificate is kept, by every replica the same.
    pub secret: Key,
    /// Labels of the Secret when it is made here.
    pub labels: BTreeMap<String, String>,
    /// Services that lead here. Their DNS names are the certificate's, and only webhooks that call them are touched.
    pub services: Vec<Key>,
    /// CustomResourceDefinitions that may convert here.
    pub definitions: Vec<String>,
    /// Webhook configurations, mutating or validating, that may call here.
    pub configurations: Vec<String>,
}

impl SelfSigned {
    /// Starts looking after it all. The certificate is there as soon as it is trusted.
    pub fn spawn(
        self,
        client: &Client,
        policy: TlsPolicy,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Certificate {
        let hub = Hub::new(client.clone(), HubOptions { metrics: metrics.clone(), ..HubOptions::default() });
        let queue = Queue::with_metrics("selfsigned", metrics);
        let watch = Watch { hub: &hub, queue: &queue, key: &self.secret };
        let certificate = Certificate::default();
        let dns = |service: &Key| {
            let host = format!("{}.{}.svc", service.name, service.namespace);
            [format!("{host}.cluster.local"), host]
        };
        let keeper = Keeper {
            names: self.services.iter().flat_map(dns).collect(),
            held: watch.one(&self.secret.name, Some(&self.secret.namespace)),
            definitions: watch.all(&self.definitions),
            mutating: watch.all(&self.configurations),
            validating: watch.all(&self.configurations),
            writer: Writer::new(&hub),
            certificate: certificate.clone(),
            reads: Reads::of(metrics),
            policy,
            clock,
            memory: Mutex::default(),
            about: self,
        };
        queue.add(keeper.about.secret.clone());
        let controller = Controller::new("selfsigned", queue.clone(), keeper, 1);
        hub.start(tasks);
        let (metrics, stop, set) = (metrics.clone(), tasks.stopping(), tasks.clone());
        tasks.spawn("self-signed certificate", async move {
            if stop.run_until_cancelled(hub.wait_synced()).await.is_some() {
                controller.spawn(&metrics, &set);
            }
            stop.cancelled().await;
        });
        certificate
    }
}

/// One watch per object: so a role can name each of them.
struct Watch<'a> {
    hub: &'a Hub,
    queue: &'a Queue,
    key: &'a Key,
}

impl Watch<'_> {
    fn one<K: Object>(&self, name: &str, namespace: Option<&str>) -> Store<K> {
        let field_selector = Some(format!("metadata.name={name}"));
        let namespace = namespace.map(str::to_owned);
        let store = self.hub.store(WatchOptions { field_selector, namespace, ..WatchOptions::default() });
        let key = self.key.clone();
        self.hub.route(&store, self.queue, move |_| vec![key.clone()]);
        store
    }

    fn all<K: Object>(&self, names: &[String]) -> Vec<Store<K>> {
        names.iter().map(|name| self.one(name, None)).collect()
    }
}

/// Where a definition converts.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = CustomResourceDefinition)]
struct Definition {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: DefinitionSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct DefinitionSpec {
    conversion: Option<Conversion>,
}

#[derive(Clone, Debug, Deserialize)]
struct Conversion {
    webhook: Option<ConversionWebhook>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConversionWebhook {
    client_config: Option<ConversionClientConfig>,
}

/// An object that makes the API server call us, with the bundles it has for that.
struct Caller {
    kind: CallerKind,
    key: Key,
    only_if: Preconditions,
    /// Name of the webhook, empty in a definition, and its bundle.
    bundles: Vec<(String, Option<ByteString>)>,
}

#[derive(Clone, Copy)]
enum CallerKind {
    Definition,
    Mutating,
    Validating,
}

impl Caller {
    fn trusts(&self, bundle: &str) -> bool {
        self.bundles.iter().all(|(_, has)| has.as_ref().is_some_and(|has| has.0 == bundle.as_bytes()))
    }

    /// Nothing but the bundles: a merge patch of a definition, a strategic one of a configuration, whose list goes by name.
    fn patch(&self, bundle: &str) -> Value {
        let config = json!({"caBundle": ByteString(bundle.as_bytes().to_vec())});
        match self.kind {
            CallerKind::Definition => json!({"spec": {"conversion": {"webhook": {"clientConfig": config}}}}),
            CallerKind::Mutating | CallerKind::Validating => {
                let entry = |(name, _): &(String, _)| json!({"name": name, "clientConfig": config});
                json!({"webhooks": self.bundles.iter().map(entry).collect::<Vec<_>>()})
            }
        }
    }
}

struct Keeper {
    about: SelfSigned,
    names: Vec<String>,
    held: Store<Secret>,
    definitions: Vec<Store<Definition>>,
    mutating: Vec<Store<MutatingWebhookConfiguration>>,
    validating: Vec<Store<ValidatingWebhookConfiguration>>,
    writer: Writer,
    certificate: Certificate,
    policy: TlsPolicy,
    reads: Reads,
    clock: Arc<dyn Clock>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    serving: Option<Pair>,
    /// The bundle that every caller has been seen with, and since when.
    trusted: Option<(String, Timestamp)>,
}

#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Write(WriteError),
    #[error("cannot sign a certificate")]
    Sign(#[source] rcgen::Error),
    #[error("cannot serve with the certificate of the Secret")]
    Load(#[source] TlsError),
}

impl ReconcileError for KeepError {
    fn category(&self) -> &'static str {
        match self {
            Self::Write(error) => error.category(),
            Self::Sign(_) => "SigningFailed",
            Self::Load(_) => "CertificateUnusable",
        }
    }
}

impl Reconcile for Keeper {
    type Error = KeepError;

    async fn reconcile(&self, _: &Key) -> Result<Next, KeepError> {
        let secret = self.held.get(&self.about.secret);
        let callers = self.callers();
        let now = self.clock.now();
        let held = self.read(secret.as_deref());
        let trusted = callers.iter().all(|caller| caller.trusts(&held.bundle));
        let trusted_since = self.memory.lock().trusted_since(trusted.then_some(&held.bundle), now);
        let plan = decide(&Observed { held: &held, names: &self.names, trusted_since, now });
        if plan.serve {
            for caller in callers.iter().filter(|caller| !caller.trusts(&held.bundle)) {
                if !self.inject(caller, &held.bundle).await? {
                    return Ok(Next::After(LOST));
                }
            }
            self.serve(&held)?;
        }
        match &plan.change {
            Some(change) if !self.write(secret.as_deref(), &held, change, now).await? => Ok(Next::After(LOST)),
            _ => Ok(Next::After(plan.again)),
        }
    }
}

impl Keeper {
    /// A Secret that is gone leaves us the bundle we know: what replicas serve until they have the next one stays trusted.
    fn read(&self, secret: Option<&Secret>) -> Held {
        let Some(secret) = secret else {
            let known = self.memory.lock().trusted.as_ref().map(|(bundle, _)| bundle.clone());
            return Held { bundle: known.unwrap_or_default(), ..Held::default() };
        };
        let part = |name: &str| secret.data.as_ref()?.get(name).map(|bytes| bytes.0.clone()).filter(|b| !b.is_empty());
        let pair = |certificate, key| Some(Pair { certificate: part(certificate)?, key: part(key)? });
        Held {
            serving: pair(CERTIFICATE, KEY),
            next: pair(NEXT_CERTIFICATE, NEXT_KEY),
            bundle: part(BUNDLE).and_then(|bundle| String::from_utf8(bundle).ok()).unwrap_or_default(),
        }
    }

    fn callers(&self) -> Vec<Caller> {
        let ours = |namespace: &str, name: &str| self.about.services.contains(&Key::new(namespace, name));
        let calls_us = |config: &WebhookClientConfig| {
            let service = config.service.as_ref();
            service.is_some_and(|ServiceReference { namespace, name, .. }| ours(namespace, name))
        };
        let mut callers = Vec::new();
        for definition in self.definitions.iter().flat_map(Store::all) {
            let webhook = definition.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref());
            let config = webhook.and_then(|webhook| webhook.client_config.as_ref());
            let config = config.filter(|c| c.service.as_ref().is_some_and(|s| ours(&s.namespace, &s.name)));
            let bundles = config.map(|config| (String::new(), config.ca_bundle.clone()));
            callers.push(caller(CallerKind::Definition, &*definition, bundles));
        }
        for configuration in self.mutating.iter().flat_map(Store::all) {
            let webhooks = configuration.webhooks.iter().flatten().filter(|webhook| calls_us(&webhook.client_config));
            let bundles = webhooks.map(|webhook| (webhook.name.clone(), webhook.client_config.ca_bundle.clone()));
            callers.push(caller(CallerKind::Mutating, &*configuration, bundles));
        }
        for configuration in self.validating.iter().flat_map(Store::all) {
            let webhooks = configuration.webhooks.iter().flatten().filter(|webhook| calls_us(&webhook.client_config));
            let bundles = webhooks.map(|webhook| (webhook.name.clone(), webhook.client_config.ca_bundle.clone()));
            callers.push(caller(CallerKind::Validating, &*configuration, bundles));
        }
        callers
    }

    /// False when the object has changed meanwhile.
    async fn inject(&self, caller: &Caller, bundle: &str) -> Result<bool, KeepError> {
        let Caller { kind, key, only_if, .. } = caller;
        let patch = caller.patch(bundle);
        let written = match kind {
            CallerKind::Definition => self.writer.patch::<Definition>(key, patch, only_if).await.map(drop),
            CallerKind::Mutating => {
                self.writer.patch_strategic::<MutatingWebhookConfiguration>(key, patch, only_if).await.map(drop)
            }
            CallerKind::Validating => {
                self.writer.patch_strategic::<ValidatingWebhookConfiguration>(key, patch, only_if).await.map(drop)
            }
        };
        let done = won(written)?;
        if done {
            tracing::info!(name = key.name, "the API server trusts our certificate here");
        }
        Ok(done)
    }

    fn serve(&self, held: &Held) -> Result<(), KeepError> {
        let mut memory = self.memory.lock();
        if held.serving == memory.serving {
            return Ok(());
        }
        let Some(pair) = &held.serving else { return Ok(()) };
        self.reads.reads.inc();
        let loaded = self.certificate.load(Path::new("the Secret"), &self.policy, pair);
        let again = loaded.inspect_err(|_| self.reads.errors.inc()).map_err(KeepError::Load)?;
        tracing::info!(secret = %self.about.secret, again, "serving certificate loaded");
        memory.serving = Some(pair.clone());
        Ok(())
    }

    /// False when another replica was first.
    async fn write(
        &self,
        secret: Option<&Secret>,
        held: &Held,
        change: &Change,
        now: Timestamp,
    ) -> Result<bool, KeepError> {
        let fresh = change.signs().then(|| issue(&self.names, now)).transpose().map_err(KeepError::Sign)?;
        let data = data(held, change, fresh.as_ref());
        let Key { namespace, name } = &self.about.secret;
        let written = match secret {
            Some(secret) => {
                let only_if = Preconditions::unchanged(secret);
                self.writer.patch::<Secret>(&self.about.secret, json!({"data": data}), &only_if).await
            }
            None => {
                let metadata = json!({"namespace": namespace, "name": name, "labels": self.about.labels});
                let secret = json!({"metadata": metadata, "type": "kubernetes.io/tls", "data": data});
                let secret: Secret =
                    serde_json::from_value(secret).map_err(|e| KeepError::Write(WriteError::Encode(e)))?;
                self.writer.create(&secret).await
            }
        };
        let done = won(written.map(drop))?;
        if done {
            let what = match change {
                Change::Issue { .. } => "certificate issued",
                Change::Stage { .. } => "next certificate issued",
                Change::Promote => "next certificate put into service",
                Change::Tidy { .. } => "expired authorities dropped",
            };
            tracing::info!(secret = %self.about.secret, "{what}");
        }
        Ok(done)
    }
}

impl Memory {
    /// Remembers since when this bundle is everywhere; None says that none is.
    fn trusted_since(&mut self, bundle: Option<&String>, now: Timestamp) -> Option<Timestamp> {
        let Some(bundle) = bundle.filter(|bundle| !bundle.is_empty()) else {
            self.trusted.iter_mut().for_each(|(_, since)| *since = now);
            return None;
        };
        match &self.trusted {
            Some((known, since)) if known == bundle => Some(*since),
            _ => self.trusted.insert((bundle.clone(), now)).1.into(),
        }
    }
}

fn caller<K: Object>(
    kind: CallerKind,
    object: &K,
    bundles: impl IntoIterator<Item = (String, Option<ByteString>)>,
) -> Caller {
    let only_if = Preconditions::unchanged(object);
    Caller { kind, key: key_of(object), only_if, bundles: bundles.into_iter().collect() }
}

/// Losing a race is an answer; a namespace that is not there (`NotFound` of a create) is not.
fn won(written: Result<(), WriteError>) -> Result<bool, KeepError> {
    match written {
        Ok(()) => Ok(true),
        Err(WriteError::Conflict(_) | WriteError::AlreadyExists(_)) => Ok(false),
        Err(WriteError::NotFound(failure)) if failure.verb == "patch" => Ok(false),
        Err(error) => Err(KeepError::Write(error)),
    }
}
