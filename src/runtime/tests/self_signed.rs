//! Two replicas without cert-manager, and a real API server that calls them: the one that `bed api` starts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use capm3_runtime::{
    Certificate, Clock, FixedClock, Key, Limits, Metrics, Preconditions, Reader, SelfSigned, SystemClock, Tasks,
    TlsPolicy, Writer, client_of, listen, spawn_tls,
};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};
use support::{SOON, kubeconfig, until};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn client(metrics: &Metrics) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let options = capm3_runtime::ClientOptions { metrics: metrics.clone(), ..Default::default() };
    client_of(config, &options).unwrap()
}

/// Refuses everything with a word of its own; converts by renaming the version.
fn webhooks() -> Router {
    let refuse = async |Json(review): Json<Value>| {
        let response =
            json!({"uid": review["request"]["uid"], "allowed": false, "status": {"message": "we were asked"}});
        Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
    };
    let convert = async |Json(mut review): Json<Value>| {
        let request = review["request"].take();
        let mut objects = request["objects"].clone();
        for object in objects.as_array_mut().unwrap() {
            object["apiVersion"] = request["desiredAPIVersion"].clone();
        }
        let response = json!({"uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"}});
        Json(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}))
    };
    Router::new().route("/refuse", post(refuse)).route("/convert", post(convert))
}

/// The certificate that an address serves now, if it does.
async fn served(address: SocketAddr) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let seen = Arc::new(Seen(std::sync::Mutex::default()));
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(seen.clone()).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let name = rustls_pki_types::ServerName::try_from("any").unwrap();
    let _ = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    seen.0.lock().unwrap().take()
}

/// Takes a note of the certificate and goes no further.
#[derive(Debug)]
struct Seen(std::sync::Mutex<Option<Vec<u8>>>);

impl rustls::client::danger::ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        certificate: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(certificate.to_vec());
        Err(rustls::Error::General("seen".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("seen".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("seen".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What one installation consists of in the API server, with names of its own.
struct World {
    writer: Writer,
    reader: Reader,
    ns: String,
    group: String,
    clock: Arc<FixedClock>,
}

impl World {
    fn definition(&self) -> String {
        format!("widgets.{}", self.group)
    }

    fn secret(&self) -> Key {
        Key::new(&self.ns, "webhook-service-cert")
    }

    async fn create<K: capm3_runtime::Object + serde::Serialize>(&self, object: Value) {
        self.writer.create::<K>(&serde_json::from_value(object).unwrap()).await.unwrap();
    }

    /// The service leads to the first replica, at the address where the API server finds itself.
    async fn install(&self, port: u16) {
        let Self { ns, group, .. } = self;
        let itself = self.reader.get::<EndpointSlice>(&Key::new("default", "kubernetes")).await.unwrap().unwrap();
        let metadata = json!({"name": "svc", "namespace": ns, "labels": {"kubernetes.io/service-name": "svc"}});
        let ports = json!([{"port": 443, "targetPort": port, "protocol": "TCP"}]);
        self.create::<Service>(json!({"metadata": metadata, "spec": {"ports": ports}})).await;
        let endpoints = json!([{"addresses": itself.endpoints.unwrap()[0].addresses, "conditions": {"ready": true}}]);
        let ports = json!([{"name": "", "port": port, "protocol": "TCP"}]);
        let slice =
            json!({"metadata": metadata, "addressType": itself.address_type, "endpoints": endpoints, "ports": ports});
        self.create::<EndpointSlice>(slice).await;
        let call = |path: &str| json!({"service": {"namespace": ns, "name": "svc", "path": path}});
        let foreign = json!({"service": {"namespace": "elsewhere", "name": "svc"}, "caBundle": null});
        let rule = |resource: &str| json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]});
        let webhook = |name: &str, resource: &str, config: Value| {
            json!({
                "name": format!("{name}.example.com"), "clientConfig": config, "rules": [rule(resource)],
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 5,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
            })
        };
        let metadata = json!({"name": ns});
        let webhooks =
            json!([webhook("foreign", "endpoints", foreign.clone()), webhook("ours", "configmaps", call("/refuse"))]);
        self.create::<ValidatingWebhookConfiguration>(json!({"metadata": metadata, "webhooks": webhooks})).await;
        let webhooks = json!([webhook("ours", "podtemplates", call("/refuse"))]);
        self.create::<MutatingWebhookConfiguration>(json!({"metadata": metadata, "webhooks": webhooks})).await;
        let version = |name: &str, storage: bool| {
            let schema = json!({"openAPIV3Schema": {"type": "object"}});
            json!({"name": name, "served": true, "storage": storage, "schema": schema})
        };
        let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": call("/convert"), "conversionReviewVersions": ["v1"]}});
        let spec = json!({
            "group": group, "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1", true), version("v2", false)], "conversion": conversion,
        });
        let metadata = json!({"name": self.definition()});
        self.create::<CustomResourceDefinition>(json!({"metadata": metadata, "spec": spec})).await;
    }

    async fn replica(&self) -> Replica {
        let (metrics, tasks) = (Metrics::new(), Tasks::new());
        let about = SelfSigned {
            secret: self.secret(),
            labels: [("cluster.x-k8s.io/provider".to_owned(), "test".to_owned())].into(),
            services: vec![Key::new(&self.ns, "svc")],
            definitions: vec![self.definition(), format!("absent.{}", self.group)],
            configurations: vec![self.ns.clone()],
        };
        let policy = TlsPolicy::new("VersionTLS12", &[]).unwrap();
        let listener = listen(":0").await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let certificate = about.spawn(&client(&metrics).await, policy, self.clock.clone(), &metrics, &tasks);
        spawn_tls(listener, webhooks(), certificate.clone(), Limits::default(), &tasks);
        Replica { address, certificate, metrics, tasks }
    }

    async fn held(&self) -> Secret {
        self.reader.get::<Secret>(&self.secret()).await.unwrap().unwrap()
    }

    /// The bundles of the definition, of our webhooks, and of the foreign one.
    async fn bundles(&self) -> [String; 4] {
        let (definition, name) = (Key::new("", self.definition()), Key::new("", &self.ns));
        let definition = self.reader.get::<CustomResourceDefinition>(&definition).await.unwrap().unwrap();
        let conversion = definition.spec.conversion.unwrap().webhook.unwrap().client_config.unwrap().ca_bundle;
        let validating = self.reader.get::<ValidatingWebhookConfiguration>(&name).await.unwrap().unwrap();
        let mutating = self.reader.get::<MutatingWebhookConfiguration>(&name).await.unwrap().unwrap();
        let mut validating = validating.webhooks.unwrap().into_iter();
        let (foreign, ours) = (validating.next().unwrap(), validating.next().unwrap());
        let mutating = mutating.webhooks.unwrap().remove(0);
        let text =
            |bundle: Option<k8s_openapi::ByteString>| String::from_utf8(bundle.map_or(Vec::new(), |b| b.0)).unwrap();
        [conversion, ours.client_config.ca_bundle, mutating.client_config.ca_bundle, foreign.client_config.ca_bundle]
            .map(text)
    }

    /// Makes both replicas look again, as an hour does.
    async fn nudge(&self, why: &str) {
        let patch = json!({"metadata": {"annotations": {"example.com/nudge": why}}});
        self.writer.patch::<Secret>(&self.secret(), patch, &Preconditions::none()).await.unwrap();
    }

    /// The API server verifies our certificate for itself: a refused object says that we were asked, a widget of the other
    /// version that we converted it.
    async fn is_called(&self) {
        until("the API server to be refused by us", async || {
            let object = json!({"metadata": {"name": "a", "namespace": self.ns}});
            let refused = self.writer.create::<ConfigMap>(&serde_json::from_value(object).unwrap()).await.unwrap_err();
            refused.failure()?.message.contains("we were asked").then_some(())
        })
        .await;
        until("a widget in the version that is not stored", async || {
            let kind =
                ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&self.group, "v2", "Widget"), "widgets");
            let widget = self.reader.get_dynamic(&kind, &Key::new(&self.ns, "w")).await.ok()??;
            (widget.types?.api_version == kind.api_version).then_some(())
        })
        .await;
    }
}

struct Replica {
    address: SocketAddr,
    certificate: Certificate,
    metrics: Metrics,
    tasks: Tasks,
}

impl Replica {
    /// Requests that change something.
    fn writes(&self) -> Vec<String> {
        let page = self.metrics.render();
        let counted = page.lines().filter(|line| line.starts_with("rest_client_requests_total"));
        counted.filter(|line| !line.contains("method=\"GET\"")).map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn k_112_without_cert_manager_the_api_server_trusts_every_replica_through_a_rotation() {
    let client = client(&Metrics::new()).await;
    let now = SystemClock.now();
    let world = World {
        writer: Writer::uncached(client.clone()),
        reader: Reader::new(client),
        ns: format!("self-signed-{}", std::process::id()),
        group: format!("g{}.example.com", std::process::id()),
        clock: Arc::new(FixedClock::at(now.checked_sub(80 * DAY).unwrap())),
    };
    world.create::<Namespace>(json!({"metadata": {"name": world.ns}})).await;
    // Certificates count in the API server's time, so the first one is made as of long ago.
    let replicas = [world.replica().await, world.replica().await];
    for replica in &replicas {
        until("a replica to serve", async || replica.certificate.is_loaded().then_some(())).await;
    }
    world.install(replicas[0].address.port()).await;
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&world.group, "v1", "Widget"), "widgets");
    let widget = json!({"metadata": {"name": "w", "namespace": world.ns}});
    until("the definition to be served", async || world.writer.create_dynamic(&kind, widget.clone()).await.ok()).await;
    world.is_called().await;
    let first = served(replicas[0].address).await.unwrap();
    assert_eq!(served(replicas[1].address).await.as_ref(), Some(&first), "replicas agree");
    let bundle = String::from_utf8(world.held().await.data.unwrap()["ca.crt"].0.clone()).unwrap();
    assert_eq!(world.bundles().await, [&bundle, &bundle, &bundle, ""], "what calls others is not touched");

    // Settled: looking again writes nothing.
    let writes = replicas.each_ref().map(Replica::writes);
    let looks = || replicas.each_ref().map(|r| passes(&r.metrics));
    let before = looks();
    world.nudge("settled").await;
    until("both to have looked", async || (looks()[0] > before[0] && looks()[1] > before[1]).then_some(())).await;
    assert_eq!(replicas.each_ref().map(Replica::writes), writes);

    // An installation that is applied again loses its bundle, and gets it back.
    let config = json!({"webhook": {"clientConfig": {"caBundle": null}}});
    let definition = Key::new("", world.definition());
    let patch = json!({"spec": {"conversion": config}});
    world.writer.patch::<CustomResourceDefinition>(&definition, patch, &Preconditions::none()).await.unwrap();
    until("the bundle to be back", async || (world.bundles().await[0] == bundle).then_some(())).await;

    // Ten days before its end the next certificate is made and trusted; the old one serves on.
    world.clock.set(now);
    world.nudge("ten days left").await;
    let both = until("two authorities everywhere", async || {
        let [a, b, c, foreign] = world.bundles().await;
        (a != bundle && a == b && b == c && foreign.is_empty()).then_some(a)
    })
    .await;
    assert!(both.starts_with(&bundle) && both.matches("BEGIN CERTIFICATE").count() == 2, "{both}");
    world.is_called().await;
    let before = looks();
    world.nudge("too early").await;
    until("both to have looked", async || (looks()[0] > before[0] && looks()[1] > before[1]).then_some(())).await;
    assert_eq!(served(replicas[0].address).await.as_ref(), Some(&first));

    // Once all callers had time to see that, it serves everywhere; the old authority stays until its certificate is over.
    world.clock.set(now.checked_add(Duration::from_secs(601)).unwrap());
    world.nudge("settled again").await;
    let second = until("both to serve the next certificate", async || {
        let served = [served(replicas[0].address).await?, served(replicas[1].address).await?];
        (served[0] != first && served[0] == served[1]).then(|| served[0].clone())
    })
    .await;
    world.is_called().await;
    assert_eq!(world.bundles().await, [&both, &both, &both, ""]);
    world.clock.set(now.checked_add(11 * DAY).unwrap());
    world.nudge("the old one is over").await;
    until("one authority everywhere", async || {
        let bundles = world.bundles().await;
        (bundles.iter().take(3).all(|b| both.ends_with(b.as_str()) && b.matches("BEGIN").count() == 1)).then_some(())
    })
    .await;
    assert_eq!(served(replicas[1].address).await, Some(second));
    world.is_called().await;

    // The Secret goes: replicas serve on, and agree on another.
    world.clock.set(now);
    world.writer.delete::<Secret>(&world.secret(), &Preconditions::none()).await.unwrap();
    until("a new Secret", async || world.reader.get::<Secret>(&world.secret()).await.unwrap()).await;
    until("both to serve it", async || {
        (served(replicas[0].address).await == served(replicas[1].address).await).then_some(())
    })
    .await;
    world.is_called().await;
    let labels = world.held().await.metadata.labels.unwrap();
    assert_eq!(labels["cluster.x-k8s.io/provider"], "test");
    for replica in &replicas {
        replica.tasks.stop();
        assert!(replica.tasks.drained(SOON).await);
        assert_eq!(replica.tasks.failure(), None);
    }
}

/// How many passes have ended.
fn passes(metrics: &Metrics) -> u64 {
    let page = metrics.render();
    let counted =
        page.lines().filter(|l| l.starts_with("controller_runtime_reconcile_total{controller=\"selfsigned\""));
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
