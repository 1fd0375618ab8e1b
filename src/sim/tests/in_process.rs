//! Hosts and machines through their lives with the real operator and the real controllers, in one thread, in virtual time.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test and say why"
)]

use std::time::Duration;

use capm3_sim::host::FINALIZER;
use capm3_sim::room::HostId;
use capm3_sim::world::kinds::{
    CLUSTER, DATA, DATA_TEMPLATE, HOST, Kind, MACHINE, METAL3_CLUSTER, METAL3_MACHINE, NODE, POOL, SECRET,
};
use capm3_sim::world::{Hand, Provider, SITE, Settings, World};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Virtual time in which anything that is waited for has to happen.
const BOUND: Duration = Duration::from_secs(60);

/// A management cluster with hosts, and who writes in it for the test.
struct Site {
    world: World,
    hand: Hand,
}

impl Site {
    async fn new(seed: u64) -> Self {
        let world = World::empty(Settings { seed, keep_trace: true, ..Settings::default() }).await.unwrap();
        world.start_operator().await;
        let hand = world.hand();
        Self { world, hand }
    }

    async fn create(&self, kind: Kind, body: Value) -> Value {
        self.hand.create(kind, body).await.unwrap()
    }

    /// Waits until the object, null when it is not there, is as wanted.
    async fn until(&self, kind: Kind, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.hand.until(BOUND, (kind, name), what, wanted).await.unwrap_or_else(|stuck| {
            let trace = self.world.server.trace();
            panic!("{stuck}\n{}", trace[trace.len().saturating_sub(40)..].join("\n"))
        })
    }

    async fn state(&self, name: &str, state: &str) -> Value {
        self.until(HOST, name, state, |host| host["status"]["provisioning"]["state"] == state).await
    }

    async fn add_host(&self, name: &str) -> Value {
        let secret =
            json!({"metadata": {"name": format!("{name}-bmc")}, "stringData": {"username": "u", "password": "p"}});
        self.create(SECRET, secret).await;
        let host = json!({
            "metadata": {"name": name},
            "spec": {"online": true, "bootMACAddress": "02:00:00:00:00:01",
                     "bmc": {"address": "ipmi://192.0.2.1", "credentialsName": format!("{name}-bmc")}},
        });
        self.create(HOST, host).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_lives_its_whole_life() {
    let site = Site::new(1).await;
    let created = site.add_host("node-0").await;
    site.state("node-0", "registering").await;
    let host = site.state("node-0", "available").await;
    assert_eq!(host["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(host["status"]["hardware"]["nics"][0]["mac"], "02:00:00:00:00:01");

    let user = json!({"metadata": {"name": "user"}, "stringData": {"value": "#cloud-config\n"}});
    site.create(SECRET, user).await;
    let image = json!({"url": "http://site/image", "checksum": "c", "checksumType": "sha256"});
    site.hand.patch(HOST, "node-0", json!({"spec": {"image": image, "userData": {"name": "user"}}})).await.unwrap();
    site.state("node-0", "provisioning").await;
    site.state("node-0", "provisioned").await;
    let uid = created["metadata"]["uid"].as_str().unwrap().to_owned();
    let id = HostId { namespace: SITE.into(), name: "node-0".into(), uid };
    let machine = site.world.room.get(&id).unwrap();
    assert_eq!(machine.build.config_drive.unwrap().user_data.as_deref(), Some(&b"#cloud-config\n"[..]));

    site.hand.patch(HOST, "node-0", json!({"spec": {"image": null}})).await.unwrap();
    site.state("node-0", "deprovisioning").await;
    site.state("node-0", "available").await;
    assert!(site.world.room.get(&id).is_none());
    site.hand.delete(HOST, "node-0").await.unwrap();
    site.until(HOST, "node-0", "the end", Value::is_null).await;
}

/// What a machine costs each manager, without watches and events.
fn requests(trace: &[String]) -> Vec<&String> {
    let of_managers = |line: &&String| {
        line.contains(" system:serviceaccount:capm3-system:")
            || line.contains(" system:serviceaccount:metal3-ipam-system:")
    };
    let counted = |line: &&String| !line.contains(" watch ") && !line.contains(" create events ");
    trace.iter().filter(of_managers).filter(counted).collect()
}

/// A machine with a data template and an address of each of two pools, there and back again; returns the trace.
async fn life_of_a_machine(seed: u64) -> (Vec<String>, u64) {
    /// The write budget of proof.md section 8 less one status of the machine, a write of each pool and of the template, a read.
    const CREATED_MAX: usize = 23;
    /// Alone. The host operator writes at the same moments: each race that is lost to it costs the refused write and two reads.
    const DELETED_MAX: usize = 25;
    const RACE: usize = 3;
    let site = Site::new(seed).await;
    site.world.start(Provider::Infra);
    site.world.start(Provider::Ipam);
    let owner = |kind: &str, object: &Value| {
        let meta = &object["metadata"];
        json!([{"apiVersion": CLUSTER.api_version, "kind": kind, "name": meta["name"], "uid": meta["uid"]}])
    };
    let labels = json!({"cluster.x-k8s.io/cluster-name": "prod"});
    let reference =
        |kind: &str, name: &str| json!({"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": kind, "name": name});

    // The parts of Cluster API and of the user.
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n\
                      clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443'}}]\nusers: [{name: u, user: {token: abc}}]\n";
    let secret = json!({"metadata": {"name": "prod-kubeconfig"}, "stringData": {"value": kubeconfig}});
    site.create(SECRET, secret).await;
    let body = json!({"metadata": {"name": "prod"}, "spec": {"infrastructureRef": reference("Metal3Cluster", "prod")}});
    let cluster = site.create(CLUSTER, body).await;
    let metadata = json!({"name": "prod", "labels": labels, "ownerReferences": owner("Cluster", &cluster)});
    let body = json!({"metadata": metadata, "spec": {"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}}});
    site.create(METAL3_CLUSTER, body).await;
    site.until(METAL3_CLUSTER, "prod", "the cluster is provisioned", |c| {
        c["status"]["initialization"]["provisioned"] == true
    })
    .await;
    let status = json!({"initialization": {"infrastructureProvisioned": true}});
    site.hand.patch_status(CLUSTER, "prod", status).await.unwrap();
    for (name, net) in [("provisioning", "192.0.2"), ("baremetal", "198.51.100")] {
        let range = json!([{"start": format!("{net}.10"), "end": format!("{net}.20")}]);
        let spec = json!({"namePrefix": name, "clusterName": "prod", "prefix": 24, "gateway": format!("{net}.1"), "pools": range});
        site.create(POOL, json!({"metadata": {"name": name}, "spec": spec})).await;
        site.until(POOL, name, "the pool is looked after", |pool| pool["status"].is_object()).await;
    }
    let from_pool = |id: &str, pool: &str| json!({"id": id, "link": "eth0", "fromPoolRef": {"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": pool}});
    let link = json!({"type": "phy", "id": "eth0", "mtu": 1500, "macAddress": {"string": "52:54:00:00:00:01"}});
    let networks = json!({"ipv4": [from_pool("net0", "provisioning"), from_pool("net1", "baremetal")]});
    let spec = json!({
        "clusterName": "prod",
        "metaData": {"objectNames": [{"key": "name", "object": "machine"}]},
        "networkData": {"links": {"ethernets": [link]}, "networks": networks},
    });
    site.create(DATA_TEMPLATE, json!({"metadata": {"name": "template"}, "spec": spec})).await;
    site.until(DATA_TEMPLATE, "template", "the template is looked after", |t| t["status"].is_object()).await;
    let host = site.add_host("host-0").await;
    site.state("host-0", "available").await;
    let bootstrap = json!({"metadata": {"name": "m1"}, "stringData": {"value": "#cloud-config\n"}});
    site.create(SECRET, bootstrap).await;
    sleep(Duration::from_secs(5)).await;

    let before = site.world.server.trace().len();
    let spec = json!({
        "clusterName": "prod",
        "bootstrap": {"configRef": {"apiGroup": "b", "kind": "KubeadmConfig", "name": "m1"}, "dataSecretName": "m1"},
        "infrastructureRef": reference("Metal3Machine", "m1"),
    });
    let machine = site.create(MACHINE, json!({"metadata": {"name": "m1", "labels": labels}, "spec": spec})).await;
    let metadata = json!({"name": "m1", "labels": labels, "ownerReferences": owner("Machine", &machine)});
    let image = json!({"url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw"});
    site.create(
        METAL3_MACHINE,
        json!({"metadata": metadata, "spec": {"image": image, "dataTemplate": {"name": "template"}}}),
    )
    .await;
    site.state("host-0", "provisioned").await;
    let node = json!({"metadata": {"name": "node-0", "labels": {"metal3.io/uuid": host["metadata"]["uid"]}}});
    site.world.remote_hand().create(NODE, node).await.unwrap();
    let ready = |machine: &Value| {
        let mut conditions = machine["status"]["conditions"].as_array().into_iter().flatten();
        machine["status"]["initialization"]["provisioned"] == true
            && conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let machine = site.until(METAL3_MACHINE, "m1", "the machine is provisioned", ready).await;
    assert_eq!(machine["spec"]["providerID"], format!("metal3://{SITE}/host-0/m1"));
    let data = site.hand.get(DATA, "template-0");
    assert_eq!(data["status"]["ready"], true, "{data:#}");
    sleep(Duration::from_secs(5)).await; // the template's list of indexes follows in its own time
    let trace = site.world.server.trace();
    let created = requests(&trace[before..]);
    assert!(created.len() <= CREATED_MAX, "{} requests:\n{created:#?}", created.len());

    // A settled world is quiet: only watches are reopened.
    let (before, revision) = (trace.len(), site.world.server.revision());
    sleep(Duration::from_secs(3600)).await;
    let trace = site.world.server.trace();
    let at_rest = requests(&trace[before..]);
    assert_eq!((at_rest.len(), site.world.server.revision()), (0, revision), "{at_rest:#?}");

    let before = trace.len();
    site.hand.delete(METAL3_MACHINE, "m1").await.unwrap();
    site.until(METAL3_MACHINE, "m1", "the machine is gone", Value::is_null).await;
    site.state("host-0", "available").await;
    site.until(DATA, "template-0", "the data is gone", Value::is_null).await;
    sleep(Duration::from_secs(5)).await;
    let trace = site.world.server.trace();
    let deleted = requests(&trace[before..]);
    let races = deleted.iter().filter(|line| line.ends_with(" 409")).count();
    assert!(races <= 2 && deleted.len() <= DELETED_MAX + RACE * races, "{} requests:\n{deleted:#?}", deleted.len());
    println!("created with {} requests, deleted with {}", created.len(), deleted.len());
    let forbidden: Vec<_> = trace.iter().filter(|line| line.ends_with(" 403")).collect();
    assert!(forbidden.is_empty(), "{forbidden:#?}");
    site.world.server.settle(); // Secrets go with their owners
    for kind in
        ["metal3dataclaims.infrastructure.cluster.x-k8s.io", "ipclaims.ipam.metal3.io", "ipaddresses.ipam.metal3.io"]
    {
        assert_eq!(site.world.server.all(kind).len(), 0, "{kind}");
    }
    let left = site.world.server.all("secrets");
    let mut left: Vec<_> = left.iter().map(|secret| secret["metadata"]["name"].as_str().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, ["host-0-bmc", "m1", "prod-kubeconfig"]);
    (site.world.server.trace(), site.world.server.trace_hash())
}

#[tokio::test(start_paused = true)]
async fn a_machine_with_data_and_addresses_comes_and_goes() {
    Box::pin(life_of_a_machine(1)).await;
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(Box::pin(life_of_a_machine(seed)))
    };
    let (one, other) = (run(5), run(5));
    let difference = one.0.iter().zip(&other.0).find(|(one, other)| one != other);
    assert_eq!(difference, None);
    assert_eq!(one, other);
}
