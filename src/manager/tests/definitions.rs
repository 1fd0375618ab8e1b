//! The managers themselves, on a real API server of their own that does not know the kinds they work with yet.
//!
//! `bed api` says how such a server is started; the definitions are those of its first server, brought over one group at a time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use capm3_runtime::{ClientOptions, connect};
use k8s_openapi::ByteString;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Longer than the ten seconds after which a missing kind is asked for again.
const SOON: Duration = Duration::from_secs(120);
/// For a server or a manager to come up beside whatever else the machine is doing.
const STARTED: Duration = Duration::from_secs(240);
/// What a busy loop would fill with requests.
const WHILE: Duration = Duration::from_secs(3);

const INFRA: &str = "infrastructure.cluster.x-k8s.io";
const IPAM: &str = "ipam.metal3.io";
const CAPI: [&str; 2] = ["cluster.x-k8s.io", "ipam.cluster.x-k8s.io"];
const HOSTS: &str = "metal3.io";
/// What clusterctl installs, for the rights in it.
const INFRA_COMPONENTS: &str = include_str!(concat!(
    "../../../clusterctl/infrastructure-metal3/v",
    env!("CARGO_PKG_VERSION"),
    "/infrastructure-components.yaml"
));
const IPAM_COMPONENTS: &str =
    include_str!(concat!("../../../clusterctl/ipam-metal3/v", env!("CARGO_PKG_VERSION"), "/ipam-components.yaml"));
const NOTE: &str = "crd-migration.cluster.x-k8s.io/observed-generation";

/// An API server with nothing in it, and the definitions it may be given.
struct Server {
    folder: PathBuf,
    kubeconfig: PathBuf,
    client: Client,
    known: Vec<DynamicObject>,
    _process: Child,
}

impl Server {
    async fn start(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let first = PathBuf::from(std::env::var("CAPM3_TEST_KUBECONFIG").unwrap());
        let port = free_port().await;
        let command = std::env::var("CAPM3_TEST_API_SERVER").unwrap();
        let mut words = command.lines();
        let own = [
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--etcd-prefix=/{}", folder.file_name().unwrap().display()),
        ];
        let process = Command::new(words.next().unwrap())
            .args(words)
            .args(own)
            .stdout(File::create(folder.join("kube-apiserver.log")).unwrap())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();

        let mut config: Value = serde_json::from_str(&fs::read_to_string(&first).unwrap()).unwrap();
        config["clusters"][0]["cluster"]["server"] = format!("https://127.0.0.1:{port}").into();
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, config.to_string()).unwrap();
        let connected = |path| async { connect(Some(path), &ClientOptions::default()).await.unwrap() };
        let client = connected(kubeconfig.clone()).await;
        eventually("the API server is ready", STARTED, async || {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            client.request_text(request).await.is_ok_and(|answer| answer == "ok")
        })
        .await;
        let known = definitions(connected(first).await).list(&ListParams::default()).await.unwrap().items;
        Self { folder, kubeconfig, client, known, _process: process }
    }

    /// The definitions of a group, as the project publishes them but for the conversion.
    fn of_group(&self, group: &str) -> Vec<Value> {
        let of_group = self.known.iter().filter(|definition| definition.data["spec"]["group"] == group);
        let plain = |definition: &DynamicObject| {
            let metadata = json!({
                "name": definition.name_any(),
                "labels": definition.metadata.labels,
                "annotations": definition.metadata.annotations,
            });
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": metadata, "spec": definition.data["spec"],
            })
        };
        let all: Vec<_> = of_group.map(plain).collect();
        assert!(!all.is_empty(), "{group}");
        all
    }

    async fn define(&self, group: &str) {
        for definition in self.of_group(group) {
            self.apply_definition(&definition).await;
        }
    }

    async fn apply_definition(&self, definition: &Value) {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let params = PatchParams::apply("test").force();
        definitions(self.client.clone()).patch(name, &params, &Patch::Apply(definition)).await.unwrap();
        self.until_definition(name, "is served", |definition| {
            let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
            conditions.filter(|c| c["type"] == "Established" && c["status"] == "True").count() == 1
        })
        .await;
    }

    async fn until_definition(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) {
        let definitions = definitions(self.client.clone());
        let seen = std::cell::RefCell::new(Value::Null);
        let look = async || {
            let found = definitions.get_opt(name).await.unwrap();
            *seen.borrow_mut() = serde_json::to_value(found).unwrap();
            holds(&seen.borrow())
        };
        if !within(SOON, look).await {
            panic!("{name} never {what}: {:#} {:#}", seen.borrow()["metadata"], seen.borrow()["status"]);
        }
    }

    fn api(&self, group: &str, version: &str, kind: &str, plural: &str) -> Objects {
        let resource = resource(group, version, kind, plural);
        Objects { api: Api::namespaced_with(self.client.clone(), "prod", &resource), resource }
    }

    fn infra(&self, kind: &str) -> Objects {
        self.api(INFRA, "v1beta2", kind, &format!("{}s", kind.to_lowercase()))
    }

    async fn namespace(&self) {
        let resource = resource("", "v1", "Namespace", "namespaces");
        make(&Objects { api: Api::all_with(self.client.clone(), &resource), resource }, "prod", json!({})).await;
    }

    /// Gives a user what the shipped components give the manager's service account, and returns the user's kubeconfig.
    async fn user(&self, name: &str, components: &str) -> PathBuf {
        let role = components.split("\n---\n").find(|document| document.contains("\nkind: ClusterRole\n")).unwrap();
        let role: Value = serde_saphyr::from_str(role).unwrap();
        let group = "rbac.authorization.k8s.io";
        let all = |kind: &str, plural: &str| {
            let resource = resource(group, "v1", kind, plural);
            Objects { api: Api::all_with(self.client.clone(), &resource), resource }
        };
        make(&all("ClusterRole", "clusterroles"), name, json!({"rules": role["rules"]})).await;
        make(
            &all("ClusterRoleBinding", "clusterrolebindings"),
            name,
            json!({
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
            }),
        )
        .await;
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&self.kubeconfig).unwrap()).unwrap();
        config["users"][0]["user"]["as"] = name.into();
        let path = self.folder.join(format!("{name}.kubeconfig"));
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Starts one of the managers with the shipped rights; its certificate is good for 127.0.0.1.
    async fn manager(&self, which: &'static str) -> Manager {
        let kubeconfig = self.user(which, if which == "infra" { INFRA_COMPONENTS } else { IPAM_COMPONENTS }).await;
        let [webhooks, health, metrics] = [free_port().await, free_port().await, free_port().await];
        let certificates = self.folder.join(format!("{which}-certificates"));
        fs::create_dir_all(&certificates).unwrap();
        let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let authority = signed.cert.pem();
        fs::write(certificates.join("tls.crt"), &authority).unwrap();
        fs::write(certificates.join("tls.key"), signed.signing_key.serialize_pem()).unwrap();
        let log = self.folder.join(format!("{which}.log"));
        let output = File::create(&log).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_capm3-manager"))
            .arg(format!("--controllers={which}"))
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--webhook-port={webhooks}"))
            .arg(format!("--webhook-cert-dir={}", certificates.display()))
            .arg(format!("--health-addr=127.0.0.1:{health}"))
            .arg(format!("--diagnostics-address=127.0.0.1:{metrics}"))
            .args(["--insecure-diagnostics", "--logging-format=json", "-v=4"])
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let manager = Manager { which, process, log, webhooks, health, metrics, authority };
        eventually("the manager is ready", STARTED, async || manager.is_ready().await).await;
        manager
    }
}

/// The objects of a kind in the one namespace that is used here.
struct Objects {
    api: Api<DynamicObject>,
    resource: ApiResource,
}

impl std::ops::Deref for Objects {
    type Target = Api<DynamicObject>;

    fn deref(&self) -> &Api<DynamicObject> {
        &self.api
    }
}

struct Manager {
    which: &'static str,
    process: Child,
    log: PathBuf,
    webhooks: u16,
    health: u16,
    metrics: u16,
    /// What signed the certificate of its webhooks, as PEM.
    authority: String,
}

impl Manager {
    /// The check behind this opens a TLS connection to the webhooks.
    async fn is_ready(&self) -> bool {
        get(self.health, "/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The kinds that the newest line about them says are waited for.
    fn waits_for(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut said = String::new();
        for line in lines {
            let fields = if line["fields"].is_object() { &line["fields"] } else { &line };
            match fields["message"].as_str() {
                Some("controllers wait for kinds") => said = fields["kinds"].as_str().unwrap().to_owned(),
                Some("every kind is served") => said.clear(),
                _ => {}
            }
        }
        said
    }

    /// What was logged as an error.
    fn failures(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).map(str::to_owned).collect()
    }

    async fn until_it_waits_for(&self, kind: &str) {
        let said = async || self.waits_for().contains(kind);
        if !within(SOON, said).await {
            panic!("{} does not say that it waits for {kind} but for {:?}", self.which, self.waits_for());
        }
    }

    async fn until_it_waits_for_nothing(&self) {
        eventually(&format!("{} waits for nothing", self.which), SOON, async || self.waits_for().is_empty()).await;
    }

    async fn requests(&self) -> u64 {
        let page = get(self.metrics, "/metrics").await.unwrap();
        let counts = page.lines().filter(|line| line.starts_with("rest_client_requests_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Alive, ready, and not running in circles.
    async fn is_calm(&mut self) {
        let (from, before) = (Instant::now(), self.requests().await);
        sleep(WHILE).await; // the rate is what is measured
        let sent = self.requests().await - before;
        let took = from.elapsed(); // more than was slept, on a busy machine
        assert!(sent <= 10 * took.as_secs(), "{} sent {sent} requests in {took:?}", self.which);
        assert!(self.process.try_wait().unwrap().is_none(), "{} has ended", self.which);
        assert!(self.is_ready().await, "{} is not ready", self.which);
    }
}

/// The body and head of a plain answer, if there is one.
async fn get(port: u16, path: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    timeout(Duration::from_secs(30), ask).await.ok().flatten()
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

async fn within(limit: Duration, holds: impl AsyncFn() -> bool) -> bool {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(limit, wait).await.is_ok()
}

async fn eventually(what: &str, limit: Duration, holds: impl AsyncFn() -> bool) {
    assert!(within(limit, holds).await, "not in time: {what}");
}

fn definitions(client: Client) -> Api<DynamicObject> {
    Api::all_with(
        client,
        &resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"),
    )
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let [group, version, kind, plural] = [group, version, kind, plural].map(str::to_owned);
    ApiResource { group, version, api_version, kind, plural }
}

async fn make(objects: &Objects, name: &str, mut object: Value) -> Value {
    object["metadata"]["name"] = name.into();
    object["apiVersion"] = objects.resource.api_version.clone().into();
    object["kind"] = objects.resource.kind.clone().into();
    let made = objects.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
    serde_json::to_value(made.unwrap_or_else(|error| panic!("{name}: {error}"))).unwrap()
}

async fn until(api: &Objects, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let seen = std::cell::RefCell::new(Value::Null);
    let look = async || {
        *seen.borrow_mut() = serde_json::to_value(api.get_opt(name).await.unwrap()).unwrap();
        holds(&seen.borrow())
    };
    if !within(SOON, look).await {
        panic!("{name} never {what}: {:#}", seen.borrow());
    }
    seen.into_inner()
}

fn owned_by(kind: &str, owner: &Value) -> Value {
    let meta = &owner["metadata"];
    json!([{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": kind, "name": meta["name"], "uid": meta["uid"]}])
}

impl Server {
    /// A Cluster with its Metal3Cluster, as users write them.
    async fn cluster(&self) {
        let clusters = self.api(CAPI[0], "v1beta2", "Cluster", "clusters");
        let reference = json!({"apiGroup": INFRA, "kind": "Metal3Cluster", "name": "prod"});
        let cluster = make(&clusters, "prod", json!({"spec": {"infrastructureRef": reference}})).await;
        make(&self.infra("Metal3Cluster"), "prod", json!({
            "metadata": {"ownerReferences": owned_by("Cluster", &cluster), "labels": {"cluster.x-k8s.io/cluster-name": "prod"}},
            "spec": {"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}},
        }))
        .await;
    }

    async fn infrastructure_is_provisioned(&self) {
        let clusters = self.api(CAPI[0], "v1beta2", "Cluster", "clusters");
        let status = json!({"status": {"initialization": {"infrastructureProvisioned": true}}});
        clusters.patch_status("prod", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    async fn machine(&self, name: &str) {
        let labels = json!({"cluster.x-k8s.io/cluster-name": "prod"});
        let reference = json!({"apiGroup": INFRA, "kind": "Metal3Machine", "name": name});
        let configuration = json!({"apiGroup": "b", "kind": "KubeadmConfig", "name": name});
        let machine = make(
            &self.api(CAPI[0], "v1beta2", "Machine", "machines"),
            name,
            json!({
                "metadata": {"labels": labels},
                "spec": {
                    "clusterName": "prod", "infrastructureRef": reference,
                    "bootstrap": {"dataSecretName": name, "configRef": configuration},
                },
            }),
        )
        .await;
        make(
            &self.infra("Metal3Machine"),
            name,
            json!({
                "metadata": {"labels": labels, "ownerReferences": owned_by("Machine", &machine)},
                "spec": {"image": {"url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw"}},
            }),
        )
        .await;
    }

    fn hosts(&self) -> Objects {
        self.api(HOSTS, "v1alpha1", "BareMetalHost", "baremetalhosts")
    }

    async fn available_host(&self, name: &str) {
        make(&self.hosts(), name, json!({"spec": {"online": true, "bootMACAddress": "00:11:22:33:44:55"}})).await;
        let status = json!({"status": {"provisioning": {"state": "available", "ID": ""}, "poweredOn": false,
            "operationalStatus": "OK", "errorMessage": "", "errorCount": 0, "hardwareProfile": "", "triedCredentials": {}, "goodCredentials": {}}});
        self.hosts().patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    async fn until_claimed(&self, host: &str, machine: &str) {
        until(&self.hosts(), host, "is claimed", |host| host["spec"]["consumerRef"]["name"] == machine).await;
    }

    /// Kind, name, uid and deletion of everything that must outlive the loss of a definition.
    async fn treasures(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (api, kind) in [
            (self.infra("Metal3Cluster"), "Metal3Cluster"),
            (self.infra("Metal3Machine"), "Metal3Machine"),
            (self.api(IPAM, "v1alpha1", "IPPool", "ippools"), "IPPool"),
            (self.api(IPAM, "v1alpha1", "IPClaim", "ipclaims"), "IPClaim"),
            (self.api(IPAM, "v1alpha1", "IPAddress", "ipaddresses"), "IPAddress"),
        ] {
            for object in api.list(&ListParams::default()).await.unwrap() {
                let meta = &object.metadata;
                all.push(format!("{kind} {} {:?} {:?}", object.name_any(), meta.uid, meta.deletion_timestamp));
            }
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn k_96_p_12_managers_wait_for_definitions_begin_when_they_come_and_outlive_their_loss() {
    let server = Server::start("late").await;
    server.namespace().await;
    let (mut infra, mut ipam) = (server.manager("infra").await, server.manager("ipam").await);

    // Nothing is there: both say so, and serve.
    infra.until_it_waits_for("BareMetalHost.metal3.io/v1alpha1").await;
    ipam.until_it_waits_for("IPPool.ipam.metal3.io/v1alpha1").await;
    tokio::join!(infra.is_calm(), ipam.is_calm());

    // In clusterctl's order, with the host operator last.
    server.define(INFRA).await;
    server.define(IPAM).await;
    for group in CAPI {
        server.define(group).await;
    }
    server.cluster().await;
    make(&server.api(IPAM, "v1alpha1", "IPPool", "ippools"), "pool", json!({
        "spec": {"namePrefix": "pool", "prefix": 24, "gateway": "192.0.2.1", "pools": [{"start": "192.0.2.10", "end": "192.0.2.19"}]},
    }))
    .await;
    let claims = server.api(IPAM, "v1alpha1", "IPClaim", "ipclaims");
    make(&claims, "claim", json!({"spec": {"pool": {"name": "pool"}}})).await;
    until(&claims, "claim", "has an address", |claim| claim["status"]["address"]["name"].is_string()).await;
    ipam.until_it_waits_for_nothing().await;

    let waiting = server.infra("Metal3Cluster").get("prod").await.unwrap();
    assert_eq!(waiting.metadata.finalizers, None, "no controller works without hosts");
    server.define(HOSTS).await;
    until(&server.infra("Metal3Cluster"), "prod", "is provisioned", |cluster| {
        cluster["status"]["initialization"]["provisioned"] == true
    })
    .await;
    infra.until_it_waits_for_nothing().await;
    server.infrastructure_is_provisioned().await;
    server.available_host("first").await;
    server.machine("m1").await;
    server.until_claimed("first", "m1").await;

    // The definition of hosts goes, and with it the hosts.
    let before = server.treasures().await;
    assert_eq!(before.len(), 5, "{before:#?}");
    let free = json!({"metadata": {"finalizers": null}});
    server.hosts().patch("first", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
    let definition = "baremetalhosts.metal3.io";
    definitions(server.client.clone()).delete(definition, &DeleteParams::default()).await.unwrap();
    server.until_definition(definition, "is gone", Value::is_null).await;
    infra.until_it_waits_for("BareMetalHost.metal3.io/v1alpha1").await;
    tokio::join!(infra.is_calm(), ipam.is_calm());
    server.machine("m2").await;
    let mut during = server.treasures().await;
    during.retain(|treasure| !treasure.starts_with("Metal3Machine m2"));
    assert_eq!(during, before);

    // It comes back: who waits for a host takes the next one, and nothing else has changed.
    server.define(HOSTS).await;
    server.available_host("second").await;
    server.until_claimed("second", "m2").await;
    infra.until_it_waits_for_nothing().await;
    let mut after = server.treasures().await;
    after.retain(|treasure| !treasure.starts_with("Metal3Machine m2"));
    assert_eq!(after, before);
    infra.is_calm().await;
    for definition in server.of_group(INFRA) {
        let name = definition["metadata"]["name"].as_str().unwrap();
        server
            .until_definition(name, "is settled, with objects or without", |d| {
                d["metadata"]["annotations"][NOTE] == "1"
            })
            .await;
    }
    assert_eq!((infra.failures(), ipam.failures()), (vec![], vec![]));
}

/// One object of each kind, as a cluster of the last v1beta1 release holds it.
fn v1beta1_objects() -> Vec<(&'static str, Value)> {
    let image = json!({"url": "http://192.0.2.1/image.raw", "checksum": "abc"});
    let endpoint = json!({"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}, "noCloudProvider": true});
    let strategy = json!({"strategy": {"type": "Reboot", "retryLimit": 1, "timeout": "5m"}});
    vec![
        ("Metal3Cluster", endpoint.clone()),
        ("Metal3ClusterTemplate", json!({"template": {"spec": endpoint}})),
        ("Metal3Data", json!({"index": 3, "claim": {"name": "a"}, "template": {"name": "a", "namespace": "prod"}})),
        ("Metal3DataClaim", json!({"template": {"name": "a", "namespace": "prod"}})),
        ("Metal3DataTemplate", json!({"clusterName": "prod", "metaData": {"strings": [{"key": "k", "value": "v"}]}})),
        ("Metal3Machine", json!({"image": image})),
        ("Metal3MachineTemplate", json!({"template": {"spec": {"image": image}}})),
        ("Metal3Remediation", strategy.clone()),
        ("Metal3RemediationTemplate", json!({"template": {"spec": strategy}})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn k_124_ap_12_a_cluster_of_the_last_v1beta1_release_is_brought_to_v1beta2() {
    let server = Server::start("upgrade").await;
    server.namespace().await;
    let published = server.of_group(INFRA);
    assert_eq!(published.len(), 9);
    for definition in &published {
        let mut old = definition.clone();
        let versions = old["spec"]["versions"].as_array_mut().unwrap();
        versions.retain(|version| version["name"] == "v1beta1");
        versions[0]["storage"] = true.into();
        server.apply_definition(&old).await;
    }
    for (kind, spec) in v1beta1_objects() {
        let api = server.api(INFRA, "v1beta1", kind, &format!("{}s", kind.to_lowercase()));
        make(&api, "a", json!({"spec": spec})).await;
    }

    // The upgrade. The new manager waits for the rest of the world, and converts meanwhile.
    let infra = server.manager("infra").await;
    let conversion = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {
        "url": format!("https://127.0.0.1:{}/convert", infra.webhooks),
        "caBundle": ByteString(infra.authority.clone().into_bytes()),
    }}});
    for definition in &published {
        let mut new = definition.clone();
        new["spec"]["conversion"] = conversion.clone();
        server.apply_definition(&new).await;
        let name = new["metadata"]["name"].as_str().unwrap();
        server
            .until_definition(name, "stores both", |d| d["status"]["storedVersions"] == json!(["v1beta1", "v1beta2"]))
            .await;
    }
    // As clusterctl does with each of them; here without keeping the result, which is left to the manager.
    for (kind, _) in v1beta1_objects() {
        let api = server.infra(kind);
        until(&api, "a", "is served in the new version", |object| {
            object["apiVersion"] == "infrastructure.cluster.x-k8s.io/v1beta2"
        })
        .await;
        let object = api.get("a").await.unwrap();
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        api.replace("a", &dry, &object).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }

    for group in CAPI.into_iter().chain([HOSTS]) {
        server.define(group).await;
    }
    for definition in &published {
        let name = definition["metadata"]["name"].as_str().unwrap();
        server
            .until_definition(name, "is migrated", |definition| {
                let generation = definition["metadata"]["generation"].to_string();
                definition["status"]["storedVersions"] == json!(["v1beta2"])
                    && definition["metadata"]["annotations"][NOTE] == generation
            })
            .await;
    }

    // The Metal3Remediation is of no Machine, and its controller says so (R-4).
    let mut failures = infra.failures();
    failures.retain(|line| !line.contains("metal3Remediation's owner Machine not set"));
    assert_eq!(failures, Vec::<String>::new());

    // The proof: without v1beta1 in the definition, what is stored in it could not be read.
    for definition in &published {
        let mut last = definition.clone();
        let versions = last["spec"]["versions"].as_array_mut().unwrap();
        versions.retain(|version| version["name"] == "v1beta2");
        server.apply_definition(&last).await;
    }
    for (kind, _) in v1beta1_objects() {
        let api = server.infra(kind);
        let only = json!(["v1beta2"]);
        until(&api, "a", "is stored in v1beta2", |object| object["metadata"]["name"] == "a").await;
        let name = format!("{}s.{INFRA}", kind.to_lowercase());
        server
            .until_definition(&name, "stores one version", |definition| definition["status"]["storedVersions"] == only)
            .await;
        let objects = api.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(objects.items.len(), 1, "{kind}");
    }
}
