//! A management cluster with one infrastructure manager in it, and who writes there for the test.

use std::sync::Arc;
use std::time::Duration;

use capm3_sim::server::{Call, Calm, Fate, Refusal, Seam, User, Verb};
use capm3_sim::world::kinds::{CLUSTER, HOST, Kind, MACHINE, METAL3_CLUSTER, METAL3_MACHINE, SECRET};
use capm3_sim::world::{Hand, Process, Provider, SITE, Settings, World};
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// Virtual time in which what an event wakes has to happen: well below every safety net.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) hand: Hand,
    pub(crate) manager: Arc<Process>,
}

/// Merges the second object into the first.
pub(crate) fn with(mut object: Value, more: Value) -> Value {
    let (Value::Object(target), Value::Object(more)) = (&mut object, more) else { panic!("not objects") };
    for (key, value) in more {
        match target.get_mut(&key) {
            Some(there) if there.is_object() && value.is_object() => *there = with(there.take(), value),
            _ => drop(target.insert(key, value)),
        }
    }
    object
}

pub(crate) fn of_cluster(name: &str) -> Value {
    json!({"cluster.x-k8s.io/cluster-name": name})
}

pub(crate) fn owner(kind: Kind, object: &Value) -> Value {
    let meta = &object["metadata"];
    json!({"apiVersion": kind.api_version, "kind": kind.kind, "name": meta["name"], "uid": meta["uid"]})
}

pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

pub(crate) fn image() -> Value {
    json!({"url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw"})
}

/// What a host operator says of a host in this state.
pub(crate) fn in_state(state: &str) -> Value {
    json!({
        "provisioning": {"ID": "", "state": state}, "poweredOn": true, "operationalStatus": "OK",
        "errorCount": 0, "errorMessage": "", "hardware": {"hostname": "worker-0"},
    })
}

/// A kubeconfig that the simulation dials to its workload cluster.
pub(crate) const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n\
                              clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443'}}]\nusers: [{name: u, user: {token: abc}}]\n";

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with_settings(Settings::default()).await
    }

    pub(crate) async fn with_settings(settings: Settings) -> Self {
        let world = World::empty(Settings { seed: 3, keep_trace: true, ..settings }).await.unwrap();
        let manager = world.start(Provider::Infra);
        let site = Self { hand: world.hand(), world, manager };
        site.rest().await;
        site
    }

    /// What was written about has been seen by everybody whom it concerns.
    pub(crate) async fn rest(&self) {
        assert!(self.world.settles(Duration::from_secs(5), BOUND).await, "{:#?}", self.world.server.trace());
    }

    pub(crate) async fn create(&self, kind: Kind, body: Value) -> Value {
        self.hand.create(kind, body).await.unwrap()
    }

    pub(crate) async fn patch(&self, kind: Kind, name: &str, patch: Value) {
        self.hand.patch(kind, name, patch).await.unwrap();
    }

    pub(crate) async fn status(&self, kind: Kind, name: &str, status: Value) {
        self.hand.patch_status(kind, name, status).await.unwrap();
    }

    pub(crate) async fn until(&self, kind: Kind, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.hand.until(BOUND, (kind, name), what, wanted).await.unwrap_or_else(|stuck| {
            let trace = self.world.server.trace();
            panic!("{stuck}\n{}", trace[trace.len().saturating_sub(40)..].join("\n"))
        })
    }

    pub(crate) async fn gone(&self, kind: Kind, name: &str) {
        self.until(kind, name, "its end", Value::is_null).await;
    }

    /// Waits until the condition of this type has the reason.
    pub(crate) async fn says(&self, name: &str, kind: &str, reason: &str) -> Value {
        self.until(METAL3_MACHINE, name, reason, |machine| condition(machine, kind)["reason"] == reason).await
    }

    /// A Cluster without anything.
    pub(crate) async fn add_cluster(&self, name: &str) -> Value {
        let reference = json!({"apiGroup": METAL3_CLUSTER.group(), "kind": METAL3_CLUSTER.kind, "name": name});
        let cluster = json!({"metadata": {"name": name}, "spec": {"infrastructureRef": reference}});
        let cluster = self.create(CLUSTER, cluster).await;
        self.status(CLUSTER, name, json!({"initialization": {"infrastructureProvisioned": true}})).await;
        cluster
    }

    pub(crate) async fn add_metal3_cluster(&self, name: &str, owners: Value) {
        let metadata = json!({"name": name, "labels": of_cluster(name), "ownerReferences": owners});
        let spec = json!({"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}});
        self.create(METAL3_CLUSTER, json!({"metadata": metadata, "spec": spec})).await;
    }

    /// The Cluster `prod` with its infrastructure and its kubeconfig.
    pub(crate) async fn add_prod(&self) {
        let cluster = self.add_cluster("prod").await;
        self.add_metal3_cluster("prod", json!([owner(CLUSTER, &cluster)])).await;
        let secret = json!({"metadata": {"name": "prod-kubeconfig"}, "stringData": {"value": KUBECONFIG}});
        self.create(SECRET, secret).await;
        self.rest().await;
    }

    pub(crate) async fn add_owner(&self, name: &str, cluster: &str, more: Value) -> Value {
        let reference = json!({"apiGroup": METAL3_MACHINE.group(), "kind": METAL3_MACHINE.kind, "name": name});
        let bootstrap =
            json!({"configRef": {"apiGroup": "b", "kind": "KubeadmConfig", "name": name}, "dataSecretName": name});
        let spec = json!({"clusterName": cluster, "bootstrap": bootstrap, "infrastructureRef": reference});
        let body = json!({"metadata": {"name": name, "labels": of_cluster(cluster)}, "spec": spec});
        self.create(MACHINE, with(body, more)).await
    }

    /// A Machine and its Metal3Machine; `more` is merged into the latter.
    pub(crate) async fn add_machine(&self, name: &str, cluster: &str, more: Value) {
        let machine = self.add_owner(name, cluster, json!({})).await;
        let metadata =
            json!({"name": name, "labels": of_cluster(cluster), "ownerReferences": [owner(MACHINE, &machine)]});
        self.create(METAL3_MACHINE, with(json!({"metadata": metadata, "spec": {"image": image()}}), more)).await;
    }

    pub(crate) async fn add_host(&self, name: &str, state: &str, more: Value) -> Value {
        let bmc = format!("{name}-bmc");
        self.create(SECRET, json!({"metadata": {"name": bmc, "labels": {"other": "stays"}}})).await;
        let spec = json!({"online": true, "bmc": {"address": "ipmi://192.0.2.1", "credentialsName": bmc}});
        let host = self.create(HOST, with(json!({"metadata": {"name": name}, "spec": spec}), more)).await;
        if !state.is_empty() {
            self.host_is(name, state).await;
        }
        host
    }

    pub(crate) async fn host_is(&self, name: &str, state: &str) {
        self.status(HOST, name, in_state(state)).await;
    }

    /// A machine on host-0 which is provisioned and has no Node yet.
    pub(crate) async fn deployed() -> Self {
        let site = Self::new().await;
        site.add_prod().await;
        site.add_host("host-0", "available", json!({})).await;
        site.add_machine("m1", "prod", json!({})).await;
        site.until(HOST, "host-0", "the image", |host| host["spec"]["image"].is_object()).await;
        site.host_is("host-0", "provisioned").await;
        site.rest().await;
        site
    }

    /// How often the controller has reconciled anything.
    pub(crate) fn reconciles(&self, controller: &str) -> u64 {
        self.counted("controller_runtime_reconcile_total", controller)
    }

    pub(crate) fn errors(&self, controller: &str) -> u64 {
        self.counted("controller_runtime_reconcile_errors_total", controller)
    }

    fn counted(&self, metric: &str, controller: &str) -> u64 {
        let page = self.manager.metrics().render();
        let of = format!("controller=\"{controller}\"");
        let lines = page.lines().filter(|line| line.starts_with(metric) && line.contains(&of));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// From now on the manager's requests for which this holds are answered with an error of the server.
    pub(crate) fn refuse(&self, what: impl Fn(&Call) -> bool + Send + Sync + 'static) {
        let refuses = Refuses(Box::new(move |call| call.user.contains("capm3-manager") && what(call)));
        self.world.server.set_seam(Arc::new(refuses));
    }

    pub(crate) fn refuse_nothing(&self) {
        self.world.server.set_seam(Arc::new(Calm));
    }

    /// Someone else's hand, in another namespace.
    pub(crate) fn hand_in(&self, namespace: &str) -> Hand {
        Hand::new(self.world.server.clone(), User::admin(), namespace)
    }
}

struct Refuses(Box<dyn Fn(&Call) -> bool + Send + Sync>);

impl Seam for Refuses {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Fate> {
        let refused = (self.0)(call).then(|| Fate::Answer(Refusal::internal("not today")));
        Box::pin(std::future::ready(refused.unwrap_or(Fate::Pass)))
    }
}

pub(crate) fn is(call: &Call, verb: Verb, resource: &str) -> bool {
    call.verb == verb && call.resource == resource
}

/// What its namespace is called.
pub(crate) const HERE: &str = SITE;
