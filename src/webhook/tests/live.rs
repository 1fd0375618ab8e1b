//! What only a real API server shows about definitions, conversion and admission together: the one that `bed api` starts,
//! with our own router on loopback in the webhooks' place.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of a test are a test")]

#[path = "live/published.rs"]
mod published;
#[path = "../../runtime/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capm3_runtime::{Certificate, Limits, Metrics, Tasks, TlsPolicy, listen, spawn_tls};
use capm3_webhook::{Which, router};
use futures::{FutureExt, StreamExt};
use http_body_util::BodyExt;
use kube::Client;
use published::{Field, Tried, published};
use serde_json::{Value, json};
use support::until_true;

const INFRA: &str = "infrastructure.cluster.x-k8s.io";
const IPAM: &str = "ipam.metal3.io";
const ANNOTATION: &str = "cluster.x-k8s.io/conversion-data";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
/// Requests for a namespace that carries it pass through admission.
const JUDGED: &str = "capm3.test/judged";

const PLURALS: [(&str, &str); 12] = [
    ("Metal3Cluster", "metal3clusters"),
    ("Metal3ClusterTemplate", "metal3clustertemplates"),
    ("Metal3Machine", "metal3machines"),
    ("Metal3MachineTemplate", "metal3machinetemplates"),
    ("Metal3DataTemplate", "metal3datatemplates"),
    ("Metal3DataClaim", "metal3dataclaims"),
    ("Metal3Data", "metal3datas"),
    ("Metal3Remediation", "metal3remediations"),
    ("Metal3RemediationTemplate", "metal3remediationtemplates"),
    ("IPPool", "ippools"),
    ("IPClaim", "ipclaims"),
    ("IPAddress", "ipaddresses"),
];

struct Live {
    client: Client,
    namespace: String,
    url: String,
    authority: String,
    tasks: Tasks,
    directory: PathBuf,
}

struct Answer {
    code: u16,
    body: Value,
    warnings: Vec<String>,
}

impl Answer {
    #[track_caller]
    fn ok(self, what: &str) -> Value {
        assert!(self.code < 300, "{what}: {} {}", self.code, self.body);
        self.body
    }

    fn version(&self) -> &str {
        self.body["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }
}

impl Live {
    async fn start() -> Self {
        let client = support::client().await;
        static NTH: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("kinds-{}-{}", std::process::id(), NTH.fetch_add(1, Ordering::Relaxed));

        let directory = std::env::temp_dir().join(&namespace);
        std::fs::create_dir_all(&directory).unwrap();
        let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(directory.join("tls.key"), signed.signing_key.serialize_pem()).unwrap();
        std::fs::write(directory.join("tls.crt"), signed.cert.pem()).unwrap();
        let (metrics, tasks) = (Metrics::new(), Tasks::new());
        let policy = TlsPolicy::new("VersionTLS12", &[]).unwrap();
        let certificate = Certificate::of_directory(directory.clone(), policy, &metrics, &tasks);
        let listener = listen("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        spawn_tls(listener, router(Which::Both), certificate.clone(), Limits::default(), &tasks);
        let live = Self { client, namespace, url, authority: STANDARD.encode(signed.cert.pem()), tasks, directory };
        until_true("the certificate is loaded", async || certificate.is_loaded()).await;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": live.namespace}});
        live.call("POST", "/api/v1/namespaces", "", Some(&namespace)).await.ok("namespace");
        live
    }

    async fn call(&self, method: &str, path: &str, content: &str, body: Option<&Value>) -> Answer {
        self.accepting("application/json", method, path, content, body).await
    }

    async fn accepting(&self, accept: &str, method: &str, path: &str, content: &str, body: Option<&Value>) -> Answer {
        let content = if content.is_empty() { "application/json" } else { content };
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = http::Request::builder().method(method).uri(path).header("accept", accept);
        let request = request.header("content-type", content).body(kube::client::Body::from(body)).unwrap();
        let reply = self.client.send(request).await.unwrap();
        let code = reply.status().as_u16();
        let warnings =
            reply.headers().get_all("warning").iter().map(|text| text.to_str().unwrap().to_owned()).collect();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_default(), warnings }
    }

    fn list(&self, kind: &str, version: &str) -> String {
        let plural = PLURALS.iter().find(|(name, _)| *name == kind).unwrap().1;
        let group = if version == "v1alpha1" { IPAM } else { INFRA };
        format!("/apis/{group}/{version}/namespaces/{}/{plural}", self.namespace)
    }

    fn path(&self, kind: &str, version: &str, name: &str) -> String {
        format!("{}/{name}", self.list(kind, version))
    }

    async fn create(&self, kind: &str, version: &str, object: &Value) -> Answer {
        self.call("POST", &self.list(kind, version), "", Some(object)).await
    }

    async fn get(&self, kind: &str, version: &str, name: &str) -> Value {
        self.call("GET", &self.path(kind, version, name), "", None).await.ok(&format!("get {kind} {version}"))
    }

    async fn apply(&self, manager: &str, object: &Value) -> Answer {
        let version = object["apiVersion"].as_str().unwrap().rsplit('/').next().unwrap();
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let path = format!("{}?fieldManager={manager}&force=true", self.path(kind, version, name));
        self.call("PATCH", &path, APPLY, Some(object)).await
    }

    /// Sends every conversion of our kinds here, and what happens in judged namespaces to admission.
    async fn wire(&self) {
        let here = |path: &str| json!({"url": format!("{}{path}", self.url), "caBundle": self.authority});
        for (kind, plural) in &PLURALS[..9] {
            let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": here("/convert")});
            let patch = json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": webhook}}});
            self.crd(plural, &patch).await.ok(kind);
        }
        for (verb, kind_of, resource) in [
            ("mutate", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
            ("validate", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
        ] {
            let webhooks: Vec<_> = PLURALS
                .iter()
                .filter(|(kind, _)| {
                    verb == "validate" || matches!(*kind, "Metal3Cluster" | "Metal3RemediationTemplate" | "IPPool")
                })
                .map(|(kind, plural)| {
                    let (group, version) = if kind.starts_with("IP") { (IPAM, "v1alpha1") } else { (INFRA, "v1beta2") };
                    let path = format!("/{verb}-{}-{version}-{}", group.replace('.', "-"), kind.to_lowercase());
                    json!({
                        "name": format!("{verb}.{}.capm3.test", kind.to_lowercase()),
                        "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                        "matchPolicy": "Equivalent", "clientConfig": here(&path),
                        "namespaceSelector": {"matchExpressions": [
                            {"key": JUDGED, "operator": "In", "values": [self.namespace]},
                        ]},
                        "rules": [{"apiGroups": [group], "apiVersions": [version], "resources": [plural],
                                   "operations": ["CREATE", "UPDATE"]}],
                    })
                })
                .collect();
            let object = json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind_of,
                "metadata": {"name": self.namespace}, "webhooks": webhooks,
            });
            let path = format!("/apis/admissionregistration.k8s.io/v1/{resource}");
            self.call("POST", &path, "", Some(&object)).await.ok(kind_of);
        }
        // A definition takes effect a moment after it is accepted: until what only conversion does is seen of every kind.
        for (kind, _) in &PLURALS[..9] {
            let object = ordinary(kind, "v1beta1", "probe", Tried::Nothing);
            self.create(kind, "v1beta1", &object).await.ok(kind);
            until_true(&format!("conversion of {kind}"), async || {
                let read = self.call("GET", &self.path(kind, "v1beta1", "probe"), "", None).await;
                let patched = json!({"metadata": {"labels": {"probe": "1"}}});
                let path = self.path(kind, "v1beta1", "probe");
                let write = self.call("PATCH", &path, MERGE, Some(&patched)).await;
                read.code == 200 && write.code == 200 && self.converts(kind).await
            })
            .await;
            self.call("DELETE", &self.path(kind, "v1beta1", "probe"), "", None).await.ok(kind);
        }
    }

    /// Whether the definition of the kind that is in force now converts: a dry run says so.
    async fn converts(&self, kind: &str) -> bool {
        let mut object = ordinary(kind, "v1beta1", "probe-again", Tried::Nothing);
        object["metadata"]["annotations"] = json!({ANNOTATION: "{"});
        let path = format!("{}?dryRun=All", self.list(kind, "v1beta1"));
        let marker = match kind {
            "Metal3Cluster" | "Metal3ClusterTemplate" | "Metal3Machine" | "Metal3MachineTemplate" => {
                let made = self.call("POST", &path, "", Some(&object)).await;
                return made.body["metadata"]["annotations"][ANNOTATION].as_str().is_some_and(|text| text.len() > 1);
            }
            "Metal3DataTemplate" | "Metal3Data" => "/spec/templateReference",
            "Metal3DataClaim" => "/spec/template/uid",
            "Metal3Remediation" => "/spec/strategy/timeout",
            _ => "/spec/template/spec/strategy/timeout",
        };
        if let Some(timeout) = object.pointer_mut(marker).filter(|_| marker.ends_with("timeout")) {
            *timeout = "90s".into();
        }
        let made = self.call("POST", &path, "", Some(&object)).await;
        match made.body.pointer(marker) {
            Some(text) => marker.ends_with("timeout") && *text == "1m30s",
            None => !marker.ends_with("timeout"),
        }
    }

    async fn crd(&self, plural: &str, patch: &Value) -> Answer {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{INFRA}");
        self.call("PATCH", &path, MERGE, Some(patch)).await
    }

    /// From here on this namespace is judged, or no more.
    async fn judged(&self, on: bool) {
        let label = if on { json!(self.namespace) } else { Value::Null };
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.call("PATCH", &path, MERGE, Some(&json!({"metadata": {"labels": {JUDGED: label}}}))).await.ok("label");
        let bad = json!({"apiVersion": format!("{INFRA}/v1beta2"), "kind": "Metal3Cluster", "metadata": {"name": "judge"}, "spec": {}});
        let path = format!("{}?dryRun=All", self.list("Metal3Cluster", "v1beta2"));
        until_true("admission", async || (self.call("POST", &path, "", Some(&bad)).await.code == 422) == on).await;
    }

    /// What other tests on the same server find as it was.
    async fn unwire(&self) {
        for resource in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
            let path = format!("/apis/admissionregistration.k8s.io/v1/{resource}/{}", self.namespace);
            self.call("DELETE", &path, "", None).await;
        }
        let clear = json!({"metadata": {"finalizers": null}});
        for (kind, _) in PLURALS {
            let version = if kind.starts_with("IP") { "v1alpha1" } else { "v1beta2" };
            let all = self.call("GET", &self.list(kind, version), "", None).await;
            for object in all.body["items"].as_array().into_iter().flatten() {
                let path = self.path(kind, version, object["metadata"]["name"].as_str().unwrap_or_default());
                self.call("PATCH", &path, MERGE, Some(&clear)).await;
            }
            self.call("DELETE", &self.list(kind, version), "", None).await;
        }
        for (_, plural) in &PLURALS[..9] {
            self.crd(plural, &json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}})).await;
        }
        self.call("DELETE", &format!("/api/v1/namespaces/{}", self.namespace), "", None).await;
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// One at a time: the definitions are everyone's.
async fn with_webhooks(body: impl AsyncFnOnce(&Live)) {
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = ONE.lock().await;
    let live = Live::start().await;
    let outcome = AssertUnwindSafe(async {
        live.wire().await;
        body(&live).await;
    })
    .catch_unwind()
    .await;
    live.unwire().await;
    live.tasks.stop();
    live.tasks.drained(support::SOON).await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn fields(kind: &str, version: &str) -> &'static Field {
    static ALL: std::sync::LazyLock<BTreeMap<(String, String), Field>> = std::sync::LazyLock::new(published);
    &ALL[&(kind.to_owned(), version.to_owned())]
}

/// An object with every field of the published schema set.
fn ordinary(kind: &str, version: &str, name: &str, tried: Tried<'_>) -> Value {
    let group = if version == "v1alpha1" { IPAM } else { INFRA };
    let mut object = json!({"apiVersion": format!("{group}/{version}"), "kind": kind, "metadata": {"name": name}});
    for part in ["spec", "status"] {
        if let Some(field) = fields(kind, version).child(part) {
            object[part] = field.value(part, tried);
        }
    }
    object
}

fn kind_versions() -> Vec<(String, String)> {
    published().into_keys().collect()
}

/// CH-5, CH-9, HD-1, HD-2, K-211: whatever the published schemas accept, ours accept, field by field at every edge.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs CAPM3_TEST_KUBECONFIG"]
async fn k_211_what_the_published_definitions_accept_is_accepted() {
    with_webhooks(async |live| {
        let mut cases = Vec::new();
        for (kind, version) in kind_versions() {
            let stored = ordinary(&kind, &version, &format!("stored-{version}"), Tried::Nothing);
            live.create(&kind, &version, &stored).await.ok(&format!("{kind} {version}"));
            for part in ["spec", "status"] {
                let Some(field) = fields(&kind, &version).child(part) else { continue };
                // No text has more values to try than this; all of them are tried at once.
                let mut tries = vec![(String::new(), 10)];
                field.structures(part, &mut tries);
                for (path, count) in tries {
                    cases.extend((0..count).map(|nth| (kind.clone(), version.clone(), part, path.clone(), nth)));
                }
            }
        }
        let tried = cases.len();
        let answers = futures::stream::iter(cases).map(async |(kind, version, part, path, nth)| {
            let tried = if path.is_empty() { Tried::Scalars(nth) } else { Tried::At(&path, nth) };
            let object = ordinary(&kind, &version, "dry", tried);
            let answer = if part == "spec" {
                let path = format!("{}?dryRun=All&fieldValidation=Strict", live.list(&kind, &version));
                live.call("POST", &path, "", Some(&object)).await
            } else {
                let stored = live.path(&kind, &version, &format!("stored-{version}"));
                let status = json!({"status": object["status"]});
                live.call("PATCH", &format!("{stored}/status?dryRun=All"), MERGE, Some(&status)).await
            };
            (answer.code >= 300).then(|| format!("{kind} {version} {path} #{nth}: {}", answer.body["message"]))
        });
        let refused: Vec<_> = answers.buffer_unordered(8).filter_map(async |refused| refused).collect().await;
        assert!(refused.is_empty(), "{} of {tried}:\n{}", refused.len(), refused.join("\n"));
        assert!(tried > 500, "{tried}");
    })
    .await;
}

/// What v1beta1 says that v1beta2 has no place for, in any kind (C-8, C-22, C-81, C-101).
const LOST: [&str; 7] =
    ["noCloudProvider", "templateReference", "apiVersion", "kind", "uid", "resourceVersion", "fieldPath"];

fn is_lost(path: &str, key: &str) -> bool {
    let pool = path.ends_with("fromPoolRef") || path.contains("FromIPPool");
    let dead = path == "Metal3Machine.status" && key == "phase"; // C-51
    dead || LOST.contains(&key) && !(pool && key == "kind")
}

/// Takes out what v1beta2 has no place for. A manifest that says it is another one each time it is applied, since what is
/// stored cannot say it back.
fn durable(path: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| key == "noCloudProvider" || !is_lost(path, key));
            fields.iter_mut().for_each(|(key, value)| durable(&format!("{path}.{key}"), value));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| durable(path, item)),
        _ => {}
    }
}

/// The first field of `sent` that is not in `found` as it was sent.
fn missing(path: &str, sent: &Value, found: &Value) -> Option<String> {
    match (sent, found) {
        (Value::Object(sent), Value::Object(found)) => sent.iter().find_map(|(key, value)| match found.get(key) {
            _ if is_lost(path, key) => None,
            Some(found) => missing(&format!("{path}.{key}"), value, found),
            None if [json!(false), json!(0), json!(""), json!([]), json!({})].contains(value) => None,
            None => Some(format!("{path}.{key} is gone")),
        }),
        (Value::Array(sent), Value::Array(found)) if sent.len() == found.len() => {
            sent.iter().zip(found).find_map(|(a, b)| missing(path, a, b))
        }
        _ => (sent != found).then(|| format!("{path}: {found} instead of {sent}")),
    }
}

/// E-33 without the rest of the bed: each kind applied, read, patched and applied again in either version.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs CAPM3_TEST_KUBECONFIG"]
async fn e_33_k_5_both_versions_of_every_kind_live_side_by_side() {
    with_webhooks(async |live| {
        for (kind, _) in &PLURALS[..9] {
            let mut old = ordinary(kind, "v1beta1", "mixed", Tried::Nothing);
            let status = old.as_object_mut().unwrap().remove("status");
            if let Some(timeout) = ["/spec/strategy/timeout", "/spec/template/spec/strategy/timeout"].iter().find_map(|at| old.pointer(at)) {
                assert_eq!(timeout, "text");
                let text = old.to_string().replace(r#""timeout":"text""#, r#""timeout":"10m0s""#);
                old = serde_json::from_str(&text).unwrap();
            }
            // Both spellings of one thing agree, or the manifest would contradict itself (C-22).
            for spec in ["/spec", "/spec/template/spec"] {
                let Some(Value::Object(spec)) = old.pointer_mut(spec) else { continue };
                if let Some(without) = spec.get("noCloudProvider").and_then(Value::as_bool) {
                    spec.insert("cloudProviderEnabled".to_owned(), (!without).into());
                }
            }
            let whole = live.apply("older", &old).await.ok(kind);
            assert_eq!(missing(&format!("{kind}.spec"), &old["spec"], &whole["spec"]), None, "{kind}");
            durable("", &mut old["spec"]);
            live.apply("older", &old).await.ok(kind);
            // The controller's first word: until then the default of the status is served and not stored, and the next
            // write of anyone stores it.
            if status.is_some() {
                let seen = json!({"status": {"observedGeneration": 1}});
                live.call("PATCH", &format!("{}/status", live.path(kind, "v1beta2", "mixed")), MERGE, Some(&seen)).await.ok(kind);
            }
            let first = live.apply("older", &old).await;
            let again = live.apply("older", &old).await;
            assert_eq!(again.version(), first.version(), "{kind}: the same manifest in v1beta1 twice: {}", again.body);
            first.ok(kind);

            let read = live.get(kind, "v1beta1", "mixed").await;
            assert_eq!(missing(&format!("{kind}.spec"), &old["spec"], &read["spec"]), None, "{kind}");
            let stored = live.get(kind, "v1beta2", "mixed").await;
            assert_eq!(stored["metadata"]["annotations"].get(ANNOTATION), None, "C-5 {kind}");
            assert_eq!(stored["metadata"]["uid"], read["metadata"]["uid"]);

            // The newer client's manifest is what it reads, in its own words.
            let new = json!({"apiVersion": stored["apiVersion"], "kind": kind, "metadata": {"name": "mixed"}, "spec": stored["spec"]});
            let first = live.apply("newer", &new).await;
            let again = live.apply("newer", &new).await;
            assert_eq!(again.version(), first.version(), "{kind}: the same manifest in v1beta2 twice");
            let before = first.ok(kind);
            let back = live.apply("older", &old).await;
            assert_eq!(back.version(), before["metadata"]["resourceVersion"], "{kind}: v1beta1 after v1beta2 changes nothing");
            assert_eq!(back.body["metadata"]["generation"], before["metadata"]["generation"], "{kind}");
            let managers: Vec<_> = back.body["metadata"]["managedFields"].as_array().unwrap().iter().map(|m| m["manager"].clone()).collect();
            assert!(managers.contains(&json!("older")) && managers.contains(&json!("newer")), "{kind}: {managers:?}");

            // Status through either version, and what a plain client of v1beta1 does: read, write back.
            if let Some(status) = status {
                let path = format!("{}/status", live.path(kind, "v1beta1", "mixed"));
                live.call("PATCH", &path, MERGE, Some(&json!({"status": status}))).await.ok(kind);
                let read = live.get(kind, "v1beta1", "mixed").await;
                assert_eq!(missing(&format!("{kind}.status"), &status, &read["status"]), None, "{kind}");
            }
            let read = live.get(kind, "v1beta1", "mixed").await;
            let written = live.call("PUT", &live.path(kind, "v1beta1", "mixed"), "", Some(&read)).await.ok(kind);
            assert_eq!(written["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"], "{kind}: nothing was changed");

            // Either version's list, in which every object of the kind has to convert.
            for version in ["v1beta1", "v1beta2"] {
                let list = live.call("GET", &live.list(kind, version), "", None).await.ok(kind);
                assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{kind} {version}");
            }
        }
    })
    .await;
}

/// CH-2: the older spelling alone keeps its meaning, and says the same each time it is applied.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs CAPM3_TEST_KUBECONFIG"]
async fn ac_20_the_older_spelling_alone_can_be_applied() {
    with_webhooks(async |live| {
        live.judged(true).await;
        let manifest = |without: bool| {
            let spec = json!({"noCloudProvider": without, "controlPlaneEndpoint": {"host": "h", "port": 6443}});
            json!({"apiVersion": format!("{INFRA}/v1beta1"), "kind": "Metal3Cluster", "metadata": {"name": "c"}, "spec": spec})
        };
        live.apply("user", &manifest(false)).await.ok("apply");
        let stored = live.get("Metal3Cluster", "v1beta2", "c").await;
        assert_eq!(stored["spec"]["cloudProviderEnabled"], true, "the default of admission does not turn it round");
        let seen = json!({"status": {"observedGeneration": 1}});
        live.call("PATCH", &format!("{}/status", live.path("Metal3Cluster", "v1beta2", "c")), MERGE, Some(&seen))
            .await
            .ok("status");
        let first = live.apply("user", &manifest(false)).await;
        let again = live.apply("user", &manifest(false)).await;
        assert_eq!(again.version(), first.version());
    })
    .await;
}

/// What the template of v1beta2 says and v1beta1 cannot survives a client of v1beta1 (C-31, C-62).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs CAPM3_TEST_KUBECONFIG"]
async fn k_22_k_41_template_metadata_survives_an_older_client() {
    with_webhooks(async |live| {
        for kind in ["Metal3ClusterTemplate", "Metal3MachineTemplate"] {
            let template = ordinary(kind, "v1beta2", "t", Tried::Nothing);
            let made = live.create(kind, "v1beta2", &template).await.ok(kind);
            assert!(made["spec"]["template"]["metadata"]["labels"].is_object());
            let mut read = live.get(kind, "v1beta1", "t").await;
            assert_eq!(read["spec"]["template"].get("metadata"), None);
            read["metadata"]["labels"] = json!({"touched": "by-v1beta1"});
            live.call("PUT", &live.path(kind, "v1beta1", "t"), "", Some(&read)).await.ok(kind);
            let after = live.get(kind, "v1beta2", "t").await;
            assert_eq!(after["spec"], made["spec"], "{kind}");
            assert_eq!(after["metadata"]["generation"], made["metadata"]["generation"], "{kind}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs CAPM3_TEST_KUBECONFIG"]
async fn ty_15_defaults_ty_4_columns_and_unknown_fields_as_served() {
    with_webhooks(async |live| {
        // TY-15, all of them.
        let pool = json!([{"key": "k", "name": "p"}]);
        let spec = json!({
            "metaData": {"indexes": [{"key": "k"}], "ipAddressesFromPool": pool},
            "networkData": {
                "links": {"ethernets": [{"id": "e", "type": "phy", "macAddress": {"string": "x"}}]},
                "networks": {"ipv4": [{"id": "n", "link": "e", "fromPoolRef": {"name": "p"}}]},
            },
        });
        let object = |kind: &str, spec: Value| json!({"apiVersion": format!("{INFRA}/v1beta2"), "kind": kind, "metadata": {"name": "d"}, "spec": spec});
        let made = live.create("Metal3DataTemplate", "v1beta2", &object("Metal3DataTemplate", spec)).await.ok("template");
        let (ipam, kind) = (json!("ipam.metal3.io"), json!("IPPool"));
        for (pointer, expected) in [
            ("/spec/metaData/indexes/0/step", &json!(1)),
            ("/spec/metaData/ipAddressesFromPool/0/apiGroup", &ipam),
            ("/spec/metaData/ipAddressesFromPool/0/kind", &kind),
            ("/spec/networkData/links/ethernets/0/mtu", &json!(1500)),
            ("/spec/networkData/networks/ipv4/0/fromPoolRef/apiGroup", &ipam),
            ("/spec/networkData/networks/ipv4/0/fromPoolRef/kind", &kind),
        ] {
            assert_eq!(made.pointer(pointer), Some(expected), "{pointer}");
        }
        let made = live.create("Metal3Remediation", "v1beta2", &object("Metal3Remediation", json!({"strategy": {}}))).await.ok("remediation");
        assert_eq!(made["spec"]["strategy"], json!({"retryLimit": 1, "timeoutSeconds": 600}));
        let spec = json!({"template": {"spec": {"image": {"url": "http://x/i"}}}});
        let made = live.create("Metal3MachineTemplate", "v1beta2", &object("Metal3MachineTemplate", spec)).await.ok("template");
        assert_eq!(made["spec"]["nodeReuse"], false);

        // TY-4: the columns as kubectl prints them.
        let cluster = ordinary("Metal3Cluster", "v1beta2", "c", Tried::Nothing);
        live.create("Metal3Cluster", "v1beta2", &cluster).await.ok("cluster");
        let status = json!({"status": {"initialization": {"provisioned": true}}});
        live.call("PATCH", &format!("{}/status", live.path("Metal3Cluster", "v1beta2", "c")), MERGE, Some(&status)).await.ok("status");
        for (version, third) in [("v1beta2", "Provisioned"), ("v1beta1", "Ready")] {
            let table = live.accepting("application/json;as=Table;v=v1;g=meta.k8s.io", "GET", &live.list("Metal3Cluster", version), "", None).await.ok("table");
            let names: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["Name", "Age", third, "Error", "Cluster", "Endpoint"], "{version}");
            let cells = table["rows"][0]["cells"].as_array().unwrap();
            assert_eq!(cells[2], "true", "{version}: {cells:?}");
            assert!(cells[5].as_str().unwrap().contains(r#""port":"#), "{version}: {cells:?}");
        }
        for (kind, version, expected) in [
            ("Metal3Machine", "v1beta2", &["Name", "Age", "ProviderID", "Provisioned", "Cluster"][..]),
            ("Metal3Machine", "v1beta1", &["Name", "Age", "ProviderID", "Ready", "Cluster", "Phase"]),
            ("Metal3DataTemplate", "v1beta2", &["Name", "Cluster", "Age"]),
            ("Metal3Remediation", "v1beta1", &["Name", "Retry limit", "Retry count", "Last Remediated", "Strategy", "Phase"]),
            ("IPPool", "v1alpha1", &["Name", "Cluster", "Age"]),
        ] {
            let table = live.accepting("application/json;as=Table;v=v1;g=meta.k8s.io", "GET", &live.list(kind, version), "", None).await.ok("table");
            let names: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
            assert_eq!(names, expected, "{kind} {version}");
        }

        // Unknown fields behave as the API server's own rules say; those of the other version are unknown too.
        for (version, field) in [("v1beta2", "noCloudProvider"), ("v1beta2", "other"), ("v1beta1", "other")] {
            let mut cluster = ordinary("Metal3Cluster", version, "u", Tried::Nothing);
            cluster["spec"][field] = true.into();
            let with = async |validation: &str| {
                let path = format!("{}?dryRun=All&fieldValidation={validation}", live.list("Metal3Cluster", version));
                live.call("POST", &path, "", Some(&cluster)).await
            };
            let strict = with("Strict").await;
            assert_eq!(strict.code, 400);
            assert!(strict.body["message"].as_str().unwrap().contains(&format!("unknown field \"spec.{field}\"")), "{}", strict.body);
            let warn = with("Warn").await;
            assert!(warn.warnings.iter().any(|text| text.contains(&format!("spec.{field}"))), "{:?}", warn.warnings);
            let ignore = with("Ignore").await;
            assert!(!ignore.warnings.iter().any(|text| text.contains("unknown field")), "{:?}", ignore.warnings);
            assert_eq!(ignore.ok("ignore")["spec"].get(field), None, "{version} {field} is pruned");
        }
    })
    .await;
}

/// What admission refuses today and is stored all the same: read, labelled, told about in status, let go, deleted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs CAPM3_TEST_KUBECONFIG"]
async fn k_33_k_139_what_is_stored_and_refused_today_can_still_be_let_go() {
    let elsewhere = json!({"name": "x", "namespace": "elsewhere"});
    let wrong: Vec<(&str, &str, Value)> = vec![
        ("Metal3Cluster", "v1beta2", json!({})),
        ("Metal3ClusterTemplate", "v1beta2", json!({"template": {"spec": {}}})),
        ("Metal3Machine", "v1beta2", json!({"userData": elsewhere})),
        ("Metal3MachineTemplate", "v1beta2", json!({"template": {"spec": {"userData": elsewhere}}})),
        ("Metal3DataTemplate", "v1beta2", json!({"networkData": {"networks": {"ipv4": [{"id": "n", "link": "e"}]}}})),
        ("Metal3DataClaim", "v1beta2", json!({"template": elsewhere})),
        ("Metal3Data", "v1beta2", json!({"index": 3, "template": elsewhere})),
        ("Metal3Remediation", "v1beta2", json!({"strategy": {}})),
        ("Metal3RemediationTemplate", "v1beta2", json!({"template": {"spec": {"strategy": {}}}})),
        (
            "IPPool",
            "v1alpha1",
            json!({"namePrefix": "Bad_Prefix", "pools": [{"end": "10.0.0.1"}], "preAllocations": {"a": "192.0.2.1"}}),
        ),
        ("IPClaim", "v1alpha1", json!({"pool": elsewhere})),
        ("IPAddress", "v1alpha1", json!({"address": "10.0.0.1", "pool": {}, "claim": {}})),
    ];
    with_webhooks(async |live| {
        for (kind, version, spec) in &wrong {
            let group = if *version == "v1alpha1" { IPAM } else { INFRA };
            let annotations = if kind.starts_with("IP") { json!({"ipAddress": "not-an-ip"}) } else { json!({}) };
            let metadata =
                json!({"name": "w", "finalizers": ["capm3.test/one", "capm3.test/two"], "annotations": annotations});
            let object =
                json!({"apiVersion": format!("{group}/{version}"), "kind": kind, "metadata": metadata, "spec": spec});
            live.create(kind, version, &object).await.ok(kind);
        }
        live.judged(true).await;
        for (kind, version, spec) in &wrong {
            let path = live.path(kind, version, "w");
            let mut again = json!({"kind": kind, "metadata": {"name": "again"}, "spec": spec});
            again["apiVersion"] = live.get(kind, version, "w").await["apiVersion"].clone();
            let patch = async |path: &str, body: Value| live.call("PATCH", path, MERGE, Some(&body)).await;
            if *kind != "Metal3RemediationTemplate" {
                // Its default makes it right.
                let refused = live.create(kind, version, &again).await;
                assert_eq!(refused.code, 422, "K-212 {kind} is refused when new: {}", refused.body);
            }
            if *version == "v1beta2" {
                live.get(kind, "v1beta1", "w").await;
            }
            // The address kinds judge an annotation, and a claim its namespace, whatever else changes (I-15, W-29).
            let strict = matches!(*kind, "IPClaim" | "IPAddress" | "Metal3DataClaim");
            let labelled = patch(&path, json!({"metadata": {"labels": {"a": "b"}}})).await;
            assert_eq!(labelled.code, if strict { 422 } else { 200 }, "K-33 {kind}: {}", labelled.body);
            if fields(kind, version).child("status").is_some() {
                let told = match *kind {
                    "IPPool" => json!({"indexes": {"a": "10.0.0.9"}}),
                    _ => json!({"lastUpdated": null}),
                };
                patch(&format!("{path}/status"), json!({"status": told})).await.ok(kind);
            }
            patch(&path, json!({"metadata": {"finalizers": ["capm3.test/two"]}}))
                .await
                .ok(&format!("{kind}: a finalizer goes before the object does"));
            live.call("DELETE", &path, "", None).await.ok(kind);
            assert!(live.get(kind, version, "w").await["metadata"]["deletionTimestamp"].is_string());
            patch(&path, json!({"metadata": {"labels": {"c": "d"}}})).await.ok(&format!("{kind}: while it goes"));
            patch(&path, json!({"metadata": {"finalizers": null}})).await.ok(&format!("{kind}: the last finalizer"));
            assert_eq!(live.call("GET", &path, "", None).await.code, 404, "{kind} is gone");
        }
    })
    .await;
}

/// HD-39, CH-9: what came in through v1beta1 and is outside v1beta2's limits is warned about, stored, and stays manageable.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs CAPM3_TEST_KUBECONFIG"]
async fn hd_39_ch_9_what_only_v1beta1_accepts_is_warned_about_and_can_be_managed() {
    with_webhooks(async |live| {
        live.judged(true).await;
        let links = json!({
            "ethernets": [{"id": "e", "type": "phy", "mtu": 68, "macAddress": {"string": "x"}}],
            "bonds": [{"id": "b", "bondMode": "802.3ad", "macAddress": {"string": "x"}, "parameters": {"miimon": 100, "lacp_rate": "fast"}}],
            "vlans": [{"id": "v", "vlanID": -1, "vlanLink": "e", "macAddress": {"string": "x"}}],
        });
        let spec = json!({
            "clusterName": "c",
            "metaData": {"indexes": [{"key": "i", "offset": -3}], "strings": [{"key": "s", "value": "1"}, {"key": "s", "value": "2"}]},
            "networkData": {"links": links},
        });
        let object = json!({"apiVersion": format!("{INFRA}/v1beta1"), "kind": "Metal3DataTemplate", "metadata": {"name": "t"}, "spec": spec});
        let made = live.create("Metal3DataTemplate", "v1beta1", &object).await;
        let said = made.warnings.join("\n");
        for field in ["ethernets[0].mtu", "vlans[0].vlanID", "indexes[0].offset", "metaData.strings"] {
            assert!(said.contains(field), "{field}: {said}");
        }
        made.ok("created");
        let path = live.path("Metal3DataTemplate", "v1beta2", "t");
        let finalizer = json!({"metadata": {"finalizers": ["capm3.test/one"]}});
        live.call("PATCH", &path, MERGE, Some(&finalizer)).await.ok("a finalizer in v1beta2");
        let status = json!({"status": {"lastUpdated": "2026-01-01T00:00:00Z"}});
        live.call("PATCH", &format!("{path}/status"), MERGE, Some(&status)).await.ok("status in v1beta2");
        live.call("DELETE", &path, "", None).await.ok("deletion");
        live.call("PATCH", &path, MERGE, Some(&json!({"metadata": {"finalizers": null}}))).await.ok("let go");
    })
    .await;
}
