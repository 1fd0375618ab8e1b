//! What tools that know nothing of our kinds conclude of every version of every object that the API server has served: never that it
//! is done before it is, and in the end always that it is. The server is the one that `bed api` starts, with all definitions.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use capm3_api::foreign::{BareMetalHost, Node};
use capm3_api::names::label;
use capm3_runtime::{Key, Preconditions};
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use support::kstatus::Verdict::{self, Current, InProgress, Terminating};
use support::kstatus::{said, verdict};
use support::{Site, resource, until_as_wanted};
use tokio::task::JoinSet;

const INFRA: &str = "infrastructure.cluster.x-k8s.io/v1beta2";
const IPAM: &str = "ipam.metal3.io/v1alpha1";

type Judged = (&'static str, &'static str, &'static str, fn(&Value) -> bool);

/// Kind, plural, and whether an object of the kind is what it was asked to be: read from its own fields, not from `Ready`.
const KINDS: [Judged; 9] = [
    (INFRA, "Metal3Cluster", "metal3clusters", |o| {
        o.pointer("/status/initialization/provisioned") == Some(&json!(true))
    }),
    (INFRA, "Metal3Machine", "metal3machines", |o| {
        o.pointer("/status/initialization/provisioned") == Some(&json!(true)) && o.pointer("/spec/providerID").is_some()
    }),
    (INFRA, "Metal3MachineTemplate", "metal3machinetemplates", |_| true),
    (INFRA, "Metal3DataTemplate", "metal3datatemplates", |o| o.pointer("/status/lastUpdated").is_some()),
    (INFRA, "Metal3DataClaim", "metal3dataclaims", |o| o.pointer("/status/renderedData/name").is_some()),
    (INFRA, "Metal3Data", "metal3datas", |o| o.pointer("/status/ready") == Some(&json!(true))),
    (IPAM, "IPPool", "ippools", |o| o.pointer("/status/lastUpdated").is_some()),
    (IPAM, "IPClaim", "ipclaims", |o| o.pointer("/status/address/name").is_some()),
    (IPAM, "IPAddress", "ipaddresses", |_| true),
];

/// Every version of the objects of a namespace, in the order in which they were served.
#[derive(Clone, Default)]
struct History(Arc<Mutex<BTreeMap<String, Vec<Value>>>>);

impl History {
    /// Watches all our kinds. The watches end with what is returned.
    async fn watch(&self, site: &Site) -> JoinSet<()> {
        let mut watches = JoinSet::new();
        for (api_version, kind, plural, _) in KINDS {
            let api: Api<DynamicObject> =
                Api::namespaced_with(site.client.clone(), &site.ns, &resource(api_version, kind, plural));
            let mut events = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
            let history = self.clone();
            watches.spawn(async move {
                while let Some(event) = events.try_next().await.unwrap() {
                    if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
                        let object = serde_json::to_value(object).unwrap();
                        let name = format!("{kind} {}", object["metadata"]["name"].as_str().unwrap());
                        history.0.lock().unwrap().entry(name).or_default().push(object);
                    }
                }
            });
        }
        watches
    }

    fn last(&self) -> Vec<(String, Value)> {
        let all = self.0.lock().unwrap();
        all.iter().map(|(name, versions)| (name.clone(), versions.last().unwrap().clone())).collect()
    }

    /// Waits until the latest version of every object holds.
    async fn until(&self, what: &str, holds: impl Fn(&str, &Value) -> bool) {
        until_as_wanted(what, async || {
            let all = self.last();
            let (none, open) = (all.is_empty(), all.into_iter().filter(|(name, object)| !holds(name, object)));
            let open: Vec<_> = open.collect();
            if none || !open.is_empty() { Err(open) } else { Ok(()) }
        })
        .await;
    }

    async fn settled(&self) {
        self.until("everything is current", |_, object| matches!(verdict(object), Current | Terminating)).await;
    }

    /// The verdicts on one object without repetitions; fails when it was called current before it was.
    fn verdicts(&self, name: &str) -> Vec<Verdict> {
        let all = self.0.lock().unwrap();
        let versions = all.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", all.keys()));
        let is_done = KINDS.iter().find(|(_, kind, ..)| name.starts_with(&format!("{kind} "))).unwrap().3;
        let mut verdicts: Vec<_> = versions.iter().map(verdict).collect();
        for (version, verdict) in versions.iter().zip(&verdicts) {
            assert!(*verdict != Current || is_done(version), "{name} is called current too early: {version:#}");
        }
        verdicts.dedup();
        verdicts
    }
}

fn pool(name: &str, first: u8, last: u8) -> Value {
    let range = json!({ "start": format!("192.0.2.{first}"), "end": format!("192.0.2.{last}") });
    json!({
        "metadata": { "name": name },
        "spec": { "namePrefix": name, "prefix": 24, "gateway": "192.0.2.1", "pools": [range] },
    })
}

async fn create(site: &Site, kind: &str, mut body: Value) -> Value {
    let (api_version, kind, plural, _) = KINDS.into_iter().find(|known| known.1 == kind).unwrap();
    body["metadata"]["namespace"] = site.ns.as_str().into();
    site.create(api_version, kind, plural, body).await
}

async fn patch(site: &Site, kind: &str, name: &str, patch: Value) {
    let (api_version, kind, plural, _) = KINDS.into_iter().find(|known| known.1 == kind).unwrap();
    let resource: ApiResource = resource(api_version, kind, plural);
    site.writer.patch_dynamic(&resource, &site.key(name), patch, &Preconditions::none()).await.unwrap();
}

async fn delete(site: &Site, kind: &str, name: &str) {
    let (api_version, kind, plural, _) = KINDS.into_iter().find(|known| known.1 == kind).unwrap();
    let resource: ApiResource = resource(api_version, kind, plural);
    site.writer.delete_dynamic(&resource, &site.key(name), &Preconditions::none()).await.unwrap();
}

/// K-16, K-54, K-74, HI-28: one machine with all that belongs to it, from nothing to nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "asks a real API server: make test"]
async fn nothing_is_current_too_early_and_all_is_in_the_end() {
    let site = Site::new("gitops", 0).await;
    let history = History::default();
    let _watches = history.watch(&site).await;

    // Nobody is there yet: what was just created is not done, though its status is empty.
    create(&site, "IPPool", pool("pool", 10, 19)).await;
    let network = json!({ "networks": { "ipv4": [{ "id": "net0", "link": "eth0", "ipAddressFromIPPool": "pool" }] } });
    create(
        &site,
        "Metal3DataTemplate",
        json!({ "metadata": { "name": "template" }, "spec": { "networkData": network } }),
    )
    .await;
    let image = json!({ "url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw" });
    let spec = json!({ "template": { "spec": { "image": image } } });
    create(&site, "Metal3MachineTemplate", json!({ "metadata": { "name": "workers" }, "spec": spec })).await;
    let unowned = json!({ "metadata": { "name": "unowned" }, "spec": { "image": image } });
    create(&site, "Metal3Machine", unowned).await;
    history
        .until("the new are not done", |name, object| {
            verdict(object) == if name.starts_with("Metal3MachineTemplate") { Current } else { InProgress }
        })
        .await;
    delete(&site, "Metal3Machine", "unowned").await;
    history.0.lock().unwrap().remove("Metal3Machine unowned");

    site.start_manager().await;
    site.add_cluster().await;
    let uid = site.add_host("host-0", "available").await;
    let hardware = json!({
        "cpu": { "arch": "x86_64", "count": 16, "clockMegahertz": 2000 }, "ramMebibytes": 65536, "hostname": "host-0",
    });
    site.host_is("host-0", json!({ "hardware": hardware })).await;
    site.add_machine_with("m1", json!({ "dataTemplate": { "name": "template" } })).await;
    site.until::<BareMetalHost>("host-0", "deployed", |host| host.spec.image.is_some()).await;
    site.host_is("host-0", json!({ "provisioning": { "state": "provisioning" } })).await;
    site.host_is("host-0", json!({ "provisioning": { "state": "provisioned" } })).await;
    let node = format!("{}-node", site.ns);
    let body = json!({ "metadata": { "name": node, "labels": { label::HOST_UUID: uid } } });
    site.create("v1", "Node", "nodes", body).await;
    history
        .until("the machine is there", |name, object| name != "Metal3Machine m1" || verdict(object) == Current)
        .await;
    history.settled().await;
    let told = |name: &str| history.last().into_iter().find(|(found, _)| found == name).unwrap().1["status"].clone();
    let capacity = json!({ "capacity": { "cpu": "16", "memory": "65536Mi" }, "nodeInfo": { "architecture": "amd64" } });
    assert_eq!(told("Metal3MachineTemplate workers"), capacity);
    assert_eq!(told("IPPool pool")["ipAddresses"], json!({ "free": 9, "reserved": 0, "total": 10, "used": 1 }));

    // Another wish: not done until somebody has looked, and the look costs one write each.
    site.requests.take();
    patch(&site, "Metal3Cluster", "prod", json!({ "spec": { "failureDomains": [{ "name": "rack" }] } })).await;
    patch(&site, "Metal3Machine", "m1", json!({ "spec": { "automatedCleaningMode": "disabled" } })).await;
    patch(&site, "Metal3DataTemplate", "template", json!({ "spec": { "clusterName": "prod" } })).await;
    patch(&site, "IPPool", "pool", json!({ "spec": { "gateway": "192.0.2.2" } })).await;
    history
        .until("four wishes are heard", |name, object| {
            let again = ["Metal3Cluster prod", "Metal3Machine m1", "Metal3DataTemplate template", "IPPool pool"]
                .contains(&name);
            let (generation, observed) = (&object["metadata"]["generation"], &object["status"]["observedGeneration"]);
            !again || (generation.as_i64() > Some(1) && generation == observed)
        })
        .await;
    history.settled().await;
    let writes = site.requests.take();
    let expected = [
        "baremetalhosts",
        "ippools/status",
        "metal3clusters/status",
        "metal3datatemplates/status",
        "metal3machines/status",
    ];
    assert_eq!(writes, expected.map(|resource| (format!("patch {resource}"), 1)).into());

    delete(&site, "Metal3Machine", "m1").await;
    site.until::<BareMetalHost>("host-0", "cleared", |host| host.spec.image.is_none()).await;
    site.host_is("host-0", json!({ "provisioning": { "state": "available" } })).await;
    site.gone::<capm3_api::infra::v1beta2::Metal3Machine>("m1").await;
    site.gone::<capm3_api::infra::v1beta2::Metal3Data>("template-0").await;
    site.gone::<capm3_api::ipam::v1alpha1::IPClaim>("template-0-pool").await;
    delete(&site, "IPPool", "pool").await;
    site.gone::<capm3_api::ipam::v1alpha1::IPPool>("pool").await;
    delete(&site, "Metal3DataTemplate", "template").await;
    site.gone::<capm3_api::infra::v1beta2::Metal3DataTemplate>("template").await;

    let (wished_again, asked_once) = ([InProgress, Current, InProgress, Current], [InProgress, Current]);
    let table: [(&str, &[Verdict], &[Verdict]); 9] = [
        ("Metal3Cluster prod", &wished_again, &[]),
        ("Metal3Machine m1", &wished_again, &[Terminating]),
        ("Metal3MachineTemplate workers", &[Current], &[]),
        ("Metal3DataTemplate template", &wished_again, &[Terminating]),
        ("Metal3DataClaim m1", &asked_once, &[Terminating]),
        ("Metal3Data template-0", &asked_once, &[Terminating]),
        ("IPPool pool", &wished_again, &[Terminating]),
        ("IPClaim template-0-pool", &asked_once, &[Terminating]),
        // Its finalizer goes before it is deleted.
        ("IPAddress pool-192-0-2-10", &[Current], &[]),
    ];
    for (name, living, leaving) in table {
        assert_eq!(history.verdicts(name), [living, leaving].concat(), "{name}");
    }
    let _ = site.writer.delete::<Node>(&Key::new("", &node), &Preconditions::none()).await;
}

/// K-74: who waits says for what, in words and with a reason that does not change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "asks a real API server: make test"]
async fn who_waits_says_for_what() {
    let site = Site::new("gitops-waits", 1).await;
    let history = History::default();
    let _watches = history.watch(&site).await;
    create(&site, "IPPool", pool("small", 10, 10)).await;
    for name in ["first", "second"] {
        create(&site, "IPClaim", json!({ "metadata": { "name": name }, "spec": { "pool": { "name": "small" } } }))
            .await;
        history
            .until("it is answered", |found, object| {
                found != format!("IPClaim {name}")
                    || object.pointer("/status/address").or(object.pointer("/status/errorMessage")).is_some()
            })
            .await;
    }
    let spec = json!({ "pool": { "name": "nowhere" } });
    create(&site, "IPClaim", json!({ "metadata": { "name": "third" }, "spec": spec })).await;
    let spec = json!({ "template": { "name": "nowhere" } });
    create(&site, "Metal3DataClaim", json!({ "metadata": { "name": "open" }, "spec": spec })).await;
    let template = format!("Metal3DataTemplate {}/nowhere not found", site.ns);
    let waits = [
        ("IPClaim second", "PoolExhausted", "Exhausted IP Pools"),
        ("IPClaim third", "PoolNotReady", "waits for IPPool nowhere, which does not exist"),
        ("IPPool small", "PoolExhausted", "no address is left for 1 claims"),
        ("Metal3DataClaim open", "WaitingForMetal3Data", template.as_str()),
    ];
    history
        .until("four say what they wait for", |name, object| match waits.iter().find(|wait| wait.0 == name) {
            Some((_, reason, message)) => verdict(object) == InProgress && said(object) == (reason, message),
            None => verdict(object) == Current,
        })
        .await;

    let range = json!([{ "start": "192.0.2.10", "end": "192.0.2.11" }]);
    patch(&site, "IPPool", "small", json!({ "spec": { "pools": range } })).await;
    history
        .until("it is counted anew", |name, object| {
            name != "IPPool small"
                || object["status"]["ipAddresses"] == json!({ "free": 0, "reserved": 0, "total": 2, "used": 2 })
        })
        .await;
    history
        .until("room is room", |name, object| {
            ["Metal3DataClaim open", "IPClaim third"].contains(&name) || verdict(object) == Current
        })
        .await;
    assert_eq!(history.verdicts("IPClaim second"), [InProgress, Current]);
    create(&site, "IPPool", pool("nowhere", 20, 20)).await;
    history
        .until("the pool is there", |name, object| name == "Metal3DataClaim open" || verdict(object) == Current)
        .await;
}
