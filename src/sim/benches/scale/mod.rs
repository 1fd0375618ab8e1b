//! Worlds of many hosts and machines, and what managers ask of the API server in them. Gated by count at a size that a debug build
//! can bear (`tests/figures.rs`), and printed at full size by `make bench`.

#![allow(dead_code, clippy::unwrap_used, reason = "a test and a bench each use their part, and may fail")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capm3_sim::actors::{self, Actor};
use capm3_sim::server::{Call, Fate, Outcome, Seam, Verb};
use capm3_sim::world::kinds::*;
use capm3_sim::world::{Provider, SITE, Settings, World};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant as Virtual, sleep};

const EVER: Duration = Duration::from_secs(36_000);
const QUIET: Duration = Duration::from_secs(30);

/// What managers have asked for since it was set, watches and events aside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) requests: usize,
    pub(crate) writes: usize,
    /// By verb and resource.
    pub(crate) by: BTreeMap<String, usize>,
    /// When each host was written first.
    hosts: BTreeMap<String, (Virtual, Instant)>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by: Vec<_> = self.by.iter().map(|(what, count)| format!("{count} {what}")).collect();
        f.write_str(&by.join(", "))
    }
}

#[derive(Clone, Default)]
struct Counter(Arc<Mutex<Asked>>);

impl Counter {
    fn over(world: &World) -> Self {
        let counter = Self::default();
        world.server.set_seam(Arc::new(counter.clone()));
        counter
    }

    fn so_far(&self) -> Asked {
        self.0.lock().clone()
    }
}

impl Seam for Counter {
    fn after<'a>(&'a self, call: &'a Call, outcome: Outcome) -> BoxFuture<'a, Fate> {
        let of_manager = call.user.contains("capm3-manager") || call.user.contains("ipam-manager");
        if of_manager && call.verb != Verb::Watch && call.resource != "events" {
            let mut asked = self.0.lock();
            asked.requests += 1;
            asked.writes += usize::from(outcome.wrote.is_some());
            let part = if call.subresource.is_empty() { "" } else { "/" };
            let what = format!("{} {}{part}{}", call.verb.name(), call.resource, call.subresource);
            *asked.by.entry(what).or_default() += 1;
            if call.resource == HOST.plural && outcome.wrote.is_some() {
                asked.hosts.entry(call.name.clone()).or_insert((Virtual::now(), Instant::now()));
            }
        }
        Box::pin(std::future::ready(Fate::Pass))
    }
}

fn of_cluster() -> Value {
    json!({"cluster.x-k8s.io/cluster-name": "prod"})
}

fn reference(kind: Kind, name: &str) -> Value {
    json!({"apiGroup": kind.group(), "kind": kind.kind, "name": name})
}

fn owner(kind: Kind, object: &Value) -> Value {
    let meta = &object["metadata"];
    json!([{"apiVersion": kind.api_version, "kind": kind.kind, "name": meta["name"], "uid": meta["uid"]}])
}

fn count(world: &World, kind: Kind, is: impl Fn(&Value) -> bool) -> usize {
    world.server.all(&kind.filed()).iter().filter(|object| is(object)).count()
}

fn is_claimed(host: &Value) -> bool {
    host["spec"]["consumerRef"].is_object()
}

async fn until(world: &World, kind: Kind, wanted: usize, is: impl Fn(&Value) -> bool) {
    let enough = |world: &World| {
        let found = count(world, kind, &is);
        if found >= wanted { Ok(()) } else { Err(format!("{found} of {wanted} {}", kind.plural)) }
    };
    world.until(EVER, enough).await.unwrap();
}

async fn at_rest(world: &World) {
    assert!(world.settles(QUIET, EVER).await, "it never comes to rest");
}

/// Hosts, and machines that are only told so far that their cluster is not up: nobody but the managers is at work.
async fn still_life(hosts: usize, state: &str, machines: usize) -> World {
    let world = World::empty(Settings::default()).await.unwrap();
    let hand = world.hand();
    let spec = json!({"infrastructureRef": reference(METAL3_CLUSTER, "prod")});
    let cluster = hand.create(CLUSTER, json!({"metadata": {"name": "prod"}, "spec": spec})).await.unwrap();
    let metadata = json!({"name": "prod", "labels": of_cluster(), "ownerReferences": owner(CLUSTER, &cluster)});
    let spec = json!({"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}});
    hand.create(METAL3_CLUSTER, json!({"metadata": metadata, "spec": spec})).await.unwrap();
    for n in 0..hosts {
        let (name, bmc) = (format!("host-{n:05}"), format!("host-{n:05}-bmc"));
        let secret = hand.create(SECRET, json!({"metadata": {"name": bmc}})).await.unwrap();
        let labels = json!({"size": "large", "rack": (n % 40).to_string()});
        let spec = json!({"online": true, "bmc": {"address": "ipmi://192.0.2.1", "credentialsName": bmc}});
        hand.create(HOST, json!({"metadata": {"name": name, "labels": labels}, "spec": spec})).await.unwrap();
        let mut status = host_in(state);
        let used = json!({"credentials": {"name": bmc}, "credentialsVersion": secret["metadata"]["resourceVersion"]});
        status["goodCredentials"] = used;
        hand.patch_status(HOST, &name, status).await.unwrap();
    }
    for n in 0..machines {
        let name = format!("m-{n:05}");
        let spec = json!({
            "clusterName": "prod", "infrastructureRef": reference(METAL3_MACHINE, &name),
            "bootstrap": {"configRef": reference(BOOTSTRAP, &name), "dataSecretName": name},
        });
        let machine = json!({"metadata": {"name": name, "labels": of_cluster()}, "spec": spec});
        let machine = hand.create(MACHINE, machine).await.unwrap();
        let metadata = json!({"name": name, "labels": of_cluster(), "ownerReferences": owner(MACHINE, &machine)});
        let spec = json!({"image": image(), "hostSelector": {"matchLabels": {"size": "large"}}});
        hand.create(METAL3_MACHINE, json!({"metadata": metadata, "spec": spec})).await.unwrap();
    }
    world.start(Provider::Infra);
    at_rest(&world).await;
    world
}

fn image() -> Value {
    json!({"url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw"})
}

fn host_in(state: &str) -> Value {
    json!({
        "provisioning": {"ID": "", "state": state}, "poweredOn": true, "operationalStatus": "OK", "errorCount": 0,
        "errorMessage": "",
    })
}

async fn cluster_comes_up(world: &World) {
    let up = json!({"initialization": {"infrastructureProvisioned": true}});
    world.hand().patch_status(CLUSTER, "prod", up).await.unwrap();
}

/// So many machines that want a host at once; what it took, and for how long the process was at it.
pub(crate) async fn burst(hosts: usize, machines: usize) -> (Asked, Duration) {
    let world = still_life(hosts, "available", machines).await;
    let asked = Counter::over(&world);
    let begun = Instant::now();
    cluster_comes_up(&world).await;
    until(&world, HOST, machines, is_claimed).await;
    let took = begun.elapsed();
    at_rest(&world).await;
    assert_eq!(count(&world, HOST, is_claimed), machines, "a host each");
    (asked.so_far(), took)
}

/// From the moment a host is available until it is claimed, sorted.
pub(crate) struct Waits {
    pub(crate) asked: Asked,
    /// On the world's clock, which stands still while anybody computes: what is left are timers.
    pub(crate) virtual_time: Vec<Duration>,
    /// On this machine, which is all that is at work.
    pub(crate) computed: Vec<Duration>,
}

pub(crate) fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99).div_ceil(100).max(1) - 1]
}

/// Machines wait, each for any of the hosts, which become available one by one (with this pause) or all at once.
pub(crate) async fn offers(each: usize, pause: Option<Duration>) -> Waits {
    let world = still_life(each, "inspecting", each).await;
    cluster_comes_up(&world).await;
    at_rest(&world).await;
    let (hand, asked) = (world.hand(), Counter::over(&world));
    let mut since = BTreeMap::new();
    for n in 0..each {
        let name = format!("host-{n:05}");
        since.insert(name.clone(), (Virtual::now(), Instant::now()));
        hand.patch_status(HOST, &name, host_in("available")).await.unwrap();
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
    until(&world, HOST, each, is_claimed).await;
    at_rest(&world).await;
    let asked = asked.so_far();
    let waits = since.iter().map(|(host, from)| (asked.hosts[host].0 - from.0, asked.hosts[host].1 - from.1));
    let (mut virtual_time, mut computed): (Vec<_>, Vec<_>) = waits.unzip();
    virtual_time.sort_unstable();
    computed.sort_unstable();
    Waits { asked, virtual_time, computed }
}

/// So many machines that run, with everybody at work, and what they have cost.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) created: Asked,
}

impl Fleet {
    /// With a data template and an address of each of two pools, or without.
    pub(crate) async fn of(machines: usize, with_data: bool) -> Self {
        let world = World::empty(Settings::default()).await.unwrap();
        for actor in [Actor::HostOperator, Actor::ClusterApi, Actor::Nodes, Actor::Collector] {
            actors::start(&world, actor).await;
        }
        start(&world);
        let hand = world.hand();
        let spec = json!({"infrastructureRef": reference(METAL3_CLUSTER, "prod")});
        hand.create(CLUSTER, json!({"metadata": {"name": "prod"}, "spec": spec})).await.unwrap();
        let spec = json!({"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}});
        hand.create(METAL3_CLUSTER, json!({"metadata": {"name": "prod"}, "spec": spec})).await.unwrap();
        let mut networks = Vec::new();
        for (n, pool) in ["provisioning", "baremetal"].into_iter().enumerate() {
            let range = json!([{"start": format!("10.{n}.0.10"), "end": format!("10.{n}.255.250")}]);
            let spec = json!({"namePrefix": pool, "prefix": 16, "gateway": format!("10.{n}.0.1"), "pools": range});
            hand.create(POOL, json!({"metadata": {"name": pool}, "spec": spec})).await.unwrap();
            networks.push(json!({"id": pool, "link": "eth0", "fromPoolRef": reference(POOL, pool)}));
        }
        let link = json!({"type": "phy", "id": "eth0", "mtu": 1500, "macAddress": {"string": "52:54:00:00:00:01"}});
        let spec = json!({
            "clusterName": "prod", "metaData": {"objectNames": [{"key": "name", "object": "machine"}]},
            "networkData": {"links": {"ethernets": [link]}, "networks": {"ipv4": networks}},
        });
        hand.create(DATA_TEMPLATE, json!({"metadata": {"name": "template"}, "spec": spec})).await.unwrap();
        for n in 0..machines {
            let (name, bmc) = (format!("host-{n:05}"), format!("host-{n:05}-bmc"));
            let text = json!({"username": "u", "password": "p"});
            hand.create(SECRET, json!({"metadata": {"name": bmc}, "stringData": text})).await.unwrap();
            let spec = json!({"online": true, "bmc": {"address": "ipmi://192.0.2.1", "credentialsName": bmc}});
            hand.create(HOST, json!({"metadata": {"name": name}, "spec": spec})).await.unwrap();
        }
        until(&world, HOST, machines, |host| host["status"]["provisioning"]["state"] == "available").await;
        at_rest(&world).await;

        let asked = Counter::over(&world);
        let mut infra = json!({"image": image()});
        if with_data {
            infra["dataTemplate"] = json!({"name": "template"});
        }
        for n in 0..machines {
            let name = format!("m-{n:05}");
            let metadata = json!({"name": name, "labels": of_cluster()});
            hand.create(BOOTSTRAP, json!({"metadata": metadata, "spec": {}})).await.unwrap();
            hand.create(METAL3_MACHINE, json!({"metadata": metadata, "spec": infra})).await.unwrap();
            let spec = json!({
                "clusterName": "prod", "infrastructureRef": reference(METAL3_MACHINE, &name),
                "bootstrap": {"configRef": reference(BOOTSTRAP, &name)},
            });
            hand.create(MACHINE, json!({"metadata": metadata, "spec": spec})).await.unwrap();
        }
        until(&world, MACHINE, machines, |machine| machine["status"]["phase"] == "Running").await;
        at_rest(&world).await;
        assert_eq!(world.server.all(&IP_ADDRESS.filed()).len(), if with_data { 2 * machines } else { 0 });
        Self { created: asked.so_far(), world }
    }

    /// What is asked in so long when nobody does anything.
    pub(crate) async fn rest(&self, time: Duration) -> Asked {
        let (asked, revision) = (Counter::over(&self.world), self.world.server.revision());
        sleep(time).await;
        assert_eq!(self.world.server.revision(), revision, "somebody wrote");
        asked.so_far()
    }

    /// What new managers ask once the old ones are gone, until after their safety nets.
    pub(crate) async fn restart(&self) -> Asked {
        self.world.processes().iter().for_each(|process| process.kill());
        let asked = Counter::over(&self.world);
        start(&self.world);
        sleep(Duration::from_secs(400)).await;
        let hosts = self.world.server.all(&HOST.filed());
        assert!(hosts.iter().all(|host| host["metadata"]["namespace"] == SITE && is_claimed(host)));
        asked.so_far()
    }
}

fn start(world: &World) {
    for provider in [Provider::Infra, Provider::Ipam] {
        world.start(provider);
    }
}
