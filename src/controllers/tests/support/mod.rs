//! A namespace on the API server that `bed api` starts, with managers in it whose requests are counted. The test plays Cluster API
//! and the host operator; the same server is the workload cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]
#![allow(dead_code, unused_imports, reason = "each test takes what it needs")]

pub(crate) mod kstatus;
#[path = "../../../runtime/tests/support/mod.rs"]
mod live;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use capm3_api::foreign::{BareMetalHost, Cluster};
use capm3_api::infra::v1beta2::Metal3Cluster;
use capm3_api::names::label;
use capm3_core::conditions;
use capm3_runtime::{
    ClientOptions, Hub, HubOptions, Key, Metrics, Object, Options, Parts, Preconditions, Reader, Recorder, Setup,
    SystemClock, SystemDice, Tasks, Writer, connect,
};
use kube::Client;
use kube::client::Body;
use kube::core::ApiResource;
pub(crate) use live::{SOON, client, kubeconfig, until, until_as_wanted, until_true};
use serde_json::{Value, json};
use tokio::time::timeout;

pub(crate) struct Site {
    pub(crate) ns: String,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    tasks: Tasks,
    pub(crate) requests: Requests,
    /// The test's own.
    pub(crate) client: Client,
    counted: Client,
}

/// The requests of the managers by verb and resource, without those of the test.
#[derive(Clone, Default, Debug)]
pub(crate) struct Requests(Arc<Mutex<BTreeMap<String, u64>>>);

impl Requests {
    /// A client that counts what it sends.
    pub(crate) fn counted(&self, client: Client) -> Client {
        let counted = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            counted.note(&request);
            let client = client.clone();
            async move { client.send(request).await }
        });
        Client::new(service, "default")
    }

    fn note<B>(&self, request: &http::Request<B>) {
        let parts: Vec<_> = request.uri().path().trim_matches('/').split('/').collect();
        let skip = if parts[0] == "api" { 2 } else { 3 };
        let parts = match parts.get(skip..).unwrap_or_default() {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
            rest => rest,
        };
        let verb = match (request.method().as_str(), parts.len()) {
            ("GET", 1) if request.uri().query().is_some_and(|query| query.contains("watch=")) => "watch",
            ("GET", 1) => "list",
            ("GET", _) => "get",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("PUT", _) => "update",
            ("DELETE", _) => "delete",
            (other, _) => panic!("{other}"),
        };
        let resource: Vec<_> = parts.iter().step_by(2).copied().collect();
        *self.0.lock().unwrap().entry(format!("{verb} {}", resource.join("/"))).or_default() += 1;
    }

    /// What was counted since the last time, watches apart.
    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        let mut taken = self.take_all();
        taken.retain(|request, _| !request.starts_with("watch "));
        taken
    }

    pub(crate) fn take_all(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// How many of this have been counted since something was taken.
    pub(crate) fn of(&self, request: &str) -> u64 {
        self.0.lock().unwrap().get(request).copied().unwrap_or_default()
    }
}

/// Controllers at work on a namespace as in a manager of their own, which ends with `tasks`.
pub(crate) async fn start(
    client: Client,
    namespace: &str,
    recorder: Recorder,
    tasks: &Tasks,
    register: impl FnOnce(&mut Setup),
) {
    let metrics = Metrics::new();
    let hub = Hub::new(client, HubOptions { namespace: Some(namespace.to_owned()), ..HubOptions::default() });
    let parts = Parts {
        hub: hub.clone(),
        recorder,
        clock: Arc::new(SystemClock),
        dice: Arc::new(SystemDice),
        metrics: metrics.clone(),
        tasks: tasks.clone(),
    };
    let mut setup = Setup::new(parts, Options::default());
    register(&mut setup);
    hub.start(tasks);
    timeout(SOON, hub.wait_synced()).await.unwrap_or_else(|_| panic!("waits for {:?}", hub.waiting_for()));
    for controller in setup.into_controllers() {
        controller.spawn(&metrics, tasks);
    }
}

/// Nobody hears of events.
pub(crate) fn silent() -> Recorder {
    Recorder::void(Arc::new(SystemClock))
}

pub(crate) fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

impl Site {
    /// A namespace with as many managers in it, which know nothing of each other.
    pub(crate) async fn new(name: &str, managers: usize) -> Self {
        let path = live::kubeconfig();
        let kubeconfig = std::fs::read_to_string(&path).unwrap();
        let client = client().await;
        let requests = Requests::default();
        let user_agent = "managers-of-the-test".to_owned();
        let options = ClientOptions { user_agent, ..ClientOptions::default() };
        let counted = requests.counted(connect(Some(path), &options).await.unwrap());
        let writer = Writer::uncached(client.clone());

        let ns = format!("{name}-{}", std::process::id());
        let tasks = Tasks::new();
        let site = Self { ns, reader: Reader::new(client.clone()), writer, tasks, requests, client, counted };
        site.create("v1", "Namespace", "namespaces", json!({ "metadata": { "name": site.ns } })).await;
        for _ in 0..managers {
            site.start_manager().await;
        }
        let secret = json!({
            "metadata": { "name": "prod-kubeconfig", "namespace": site.ns },
            "stringData": { "value": kubeconfig },
        });
        site.create("v1", "Secret", "secrets", secret).await;
        site
    }

    pub(crate) async fn start_manager(&self) {
        start(self.counted.clone(), &self.ns, silent(), &self.tasks, |setup| {
            capm3_controllers::infra::register(setup);
            capm3_controllers::ipam::register(setup);
        })
        .await;
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        Key::new(&self.ns, name)
    }

    pub(crate) async fn create(&self, api_version: &str, kind: &str, plural: &str, body: Value) -> Value {
        let created = self.writer.create_dynamic(&resource(api_version, kind, plural), body).await.unwrap();
        serde_json::to_value(created).unwrap()
    }

    pub(crate) async fn get<K: Object>(&self, name: &str) -> Option<K> {
        self.reader.get(&self.key(name)).await.unwrap()
    }

    /// Waits until the object is as described; says what it last looked like when that does not happen.
    pub(crate) async fn until<K: Object>(&self, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K {
        until_as_wanted(what, async || match self.get::<K>(name).await {
            Some(object) if holds(&object) => Ok(object),
            other => Err(other),
        })
        .await
    }

    pub(crate) async fn gone<K: Object>(&self, name: &str) {
        until_as_wanted("it is gone", async || self.get::<K>(name).await.map_or(Ok(()), Err)).await;
    }

    /// The host operator's part: which state the host is in.
    pub(crate) async fn host_is(&self, name: &str, status: Value) {
        self.writer
            .patch_status::<BareMetalHost>(&self.key(name), json!({ "status": status }), &Preconditions::none())
            .await
            .unwrap();
    }

    pub(crate) async fn add_host(&self, name: &str, state: &str) -> String {
        let secret = json!({ "metadata": { "name": format!("{name}-bmc"), "namespace": self.ns } });
        self.create("v1", "Secret", "secrets", secret).await;
        let body = json!({
            "metadata": { "name": name, "namespace": self.ns },
            "spec": { "online": true, "bmc": { "address": "", "credentialsName": format!("{name}-bmc") } },
        });
        let host = self.create("metal3.io/v1alpha1", "BareMetalHost", "baremetalhosts", body).await;
        let status = json!({
            "provisioning": { "ID": "", "state": state }, "poweredOn": true, "operationalStatus": "OK",
            "errorCount": 0, "errorMessage": "", "provisioningFailCount": 0,
        });
        self.host_is(name, status).await;
        host["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Cluster API's part: the Cluster with its infrastructure.
    pub(crate) async fn add_cluster(&self) {
        let body = json!({
            "metadata": { "name": "prod", "namespace": self.ns },
            "spec": {
                "infrastructureRef":
                    { "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "Metal3Cluster", "name": "prod" },
            },
        });
        let cluster = self.create("cluster.x-k8s.io/v1beta2", "Cluster", "clusters", body).await;
        let body = json!({
            "metadata": {
                "name": "prod",
                "namespace": self.ns,
                "labels": { label::CLUSTER_NAME: "prod" },
                "ownerReferences": [owner("Cluster", &cluster)],
            },
            "spec": { "controlPlaneEndpoint": { "host": "192.0.2.1", "port": 6443 } },
        });
        self.create("infrastructure.cluster.x-k8s.io/v1beta2", "Metal3Cluster", "metal3clusters", body).await;
        self.until::<Metal3Cluster>("prod", "Metal3Cluster is provisioned", |cluster| {
            let status = cluster.status.clone().unwrap_or_default();
            status.initialization.and_then(|i| i.provisioned) == Some(true)
                && conditions::is_true(&status.conditions, "Ready")
        })
        .await;
        let status = json!({ "status": { "initialization": { "infrastructureProvisioned": true } } });
        self.writer.patch_status::<Cluster>(&self.key("prod"), status, &Preconditions::none()).await.unwrap();
    }

    pub(crate) async fn add_machine(&self, name: &str) {
        self.add_machine_with(name, json!({})).await;
    }

    pub(crate) async fn add_machine_with(&self, name: &str, more: Value) {
        let labels = json!({ label::CLUSTER_NAME: "prod" });
        let body = json!({
            "metadata": { "name": name, "namespace": self.ns, "labels": labels },
            "spec": {
                "clusterName": "prod",
                "bootstrap": {
                    "configRef": { "apiGroup": "b", "kind": "KubeadmConfig", "name": name },
                    "dataSecretName": name,
                },
                "infrastructureRef":
                    { "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "Metal3Machine", "name": name },
            },
        });
        let machine = self.create("cluster.x-k8s.io/v1beta2", "Machine", "machines", body).await;
        let mut spec =
            json!({ "image": { "url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({
            "metadata": {
                "name": name, "namespace": self.ns, "labels": labels, "ownerReferences": [owner("Machine", &machine)],
            },
            "spec": spec,
        });
        self.create("infrastructure.cluster.x-k8s.io/v1beta2", "Metal3Machine", "metal3machines", body).await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

pub(crate) fn owner(kind: &str, object: &Value) -> Value {
    let meta = &object["metadata"];
    json!({ "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": kind, "name": meta["name"], "uid": meta["uid"] })
}
