//! Data templates and pools together on a real API server: the one that `bed api` starts, with all definitions.

#![expect(clippy::unwrap_used, reason = "the bed of the tests, outside their functions")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine, Secret};
use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataTemplate, Metal3Machine};
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_controllers::{data, ipam};
use capm3_runtime::{Key, ListOptions, Object, Preconditions, Reader, Tasks, Writer};
use kube::core::ApiResource;
use serde_json::{Value, json};
use support::{SOON, silent, start, until_as_wanted};
use tokio::time::sleep;

/// Longer than any event takes, shorter than any safety net.
const QUIET: Duration = Duration::from_secs(3);

/// A namespace with both controllers at work on it.
struct Bed {
    namespace: String,
    reader: Reader,
    writer: Writer,
    tasks: Tasks,
}

impl Bed {
    async fn start(name: &str) -> Self {
        let client = support::client().await;
        let namespace = format!("{name}-{}", std::process::id());
        let writer = Writer::uncached(client.clone());
        let made = json!({"metadata": {"name": namespace}});
        let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
        writer.create_dynamic(&kind, made).await.unwrap();

        let bed = Self { namespace, reader: Reader::new(client.clone()), writer, tasks: Tasks::new() };
        start(client, &bed.namespace, silent(), &bed.tasks, |setup| {
            data::register(setup);
            ipam::register(setup);
        })
        .await;
        bed
    }

    fn key(&self, name: &str) -> Key {
        Key::new(&self.namespace, name)
    }

    async fn create<K: Object>(&self, name: &str, mut rest: Value) -> K {
        rest["metadata"]["name"] = name.into();
        rest["metadata"]["namespace"] = self.namespace.clone().into();
        let made = self.writer.create_dynamic(&ApiResource::erase::<K>(&()), rest.clone()).await.unwrap();
        match rest.get("status") {
            Some(status) => {
                let patch = json!({"status": status});
                self.writer.patch_status(&self.key(name), patch, &Preconditions::none()).await.unwrap()
            }
            None => serde_json::from_value(serde_json::to_value(made).unwrap()).unwrap(),
        }
    }

    async fn get<K: Object>(&self, name: &str) -> Option<K> {
        self.reader.get::<K>(&self.key(name)).await.unwrap()
    }

    /// Waits until the object is as wanted, and says what it was when that takes too long.
    async fn until<K: Object>(&self, name: &str, holds: impl Fn(&Option<K>) -> bool) -> Option<K> {
        until_as_wanted(name, async || {
            let seen = self.get::<K>(name).await;
            if holds(&seen) { Ok(seen) } else { Err(seen) }
        })
        .await
    }

    async fn gone<K: Object>(&self, name: &str) {
        self.until::<K>(name, Option::is_none).await;
    }

    /// A machine on a host, up to the claim that the machine controller would make.
    async fn machine(&self, name: &str) -> Metal3DataClaim {
        let machine: Machine = self
            .create(
                name,
                json!({"spec": {"clusterName": "prod", "bootstrap": {"dataSecretName": name}, "infrastructureRef": {
                    "apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "Metal3Machine", "name": name,
                }}}),
            )
            .await;
        self.create::<BareMetalHost>(&format!("{name}-host"), json!({
            "spec": {"bootMACAddress": "00:11:22:33:44:55", "online": true, "consumerRef": {"kind": "Metal3Machine", "name": name}},
        })).await;
        let metal3_machine: Metal3Machine = self.create(name, json!({
            "metadata": {
                "annotations": {"metal3.io/BareMetalHost": format!("{}/{name}-host", self.namespace)},
                "ownerReferences": [owner(&machine, "cluster.x-k8s.io/v1beta2", "Machine", name)],
            },
            "spec": {"dataTemplate": {"name": "workers"}, "image": {"url": "http://image", "checksum": "http://image.sum"}},
        })).await;
        self.claim(name, &metal3_machine).await
    }

    async fn claim(&self, name: &str, of: &Metal3Machine) -> Metal3DataClaim {
        self.create(
            name,
            json!({
                "metadata": {
                    "finalizers": ["metal3machine.infrastructure.cluster.x-k8s.io"],
                    "labels": {"cluster.x-k8s.io/cluster-name": "prod"},
                    "ownerReferences": [owner(of, "infrastructure.cluster.x-k8s.io/v1beta2", "Metal3Machine", name)],
                },
                "spec": {"template": {"name": "workers", "namespace": self.namespace}},
            }),
        )
        .await
    }

    /// As the machine controller lets go of its claim.
    async fn release(&self, claim: &str) {
        let patch = json!({"metadata": {"finalizers": ["metal3dataclaim.infrastructure.cluster.x-k8s.io"]}});
        self.writer.patch::<Metal3DataClaim>(&self.key(claim), patch, &Preconditions::none()).await.unwrap();
        self.writer.delete::<Metal3DataClaim>(&self.key(claim), &Preconditions::none()).await.unwrap();
    }

    async fn rendered(&self, claim: &str) -> Metal3Data {
        let answered = self.until::<Metal3DataClaim>(claim, |claim| rendered_name(claim).is_some()).await;
        let name = rendered_name(&answered).unwrap();
        self.until::<Metal3Data>(&name, is_ready).await.unwrap()
    }

    async fn versions<K: Object>(&self) -> BTreeMap<String, String> {
        let objects = self.reader.list::<K>(&ListOptions::namespace(&self.namespace)).await.unwrap();
        let version = |object: &K| Some((object.meta().name.clone()?, object.meta().resource_version.clone()?));
        objects.iter().filter_map(version).collect()
    }

    async fn all_versions(&self) -> Vec<BTreeMap<String, String>> {
        vec![
            self.versions::<Metal3DataTemplate>().await,
            self.versions::<Metal3DataClaim>().await,
            self.versions::<Metal3Data>().await,
            self.versions::<IPClaim>().await,
            self.versions::<Secret>().await,
        ]
    }

    async fn stop(self) {
        self.tasks.stop();
        assert!(self.tasks.drained(SOON).await);
        assert_eq!(self.tasks.failure(), None);
    }
}

fn owner<K: Object>(object: &K, api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": object.meta().uid, "controller": true})
}

fn rendered_name(claim: &Option<Metal3DataClaim>) -> Option<String> {
    Some(claim.as_ref()?.status.as_ref()?.rendered_data.as_ref()?.name.clone())
}

fn is_ready(data: &Option<Metal3Data>) -> bool {
    data.as_ref().is_some_and(|data| data.status.as_ref().is_some_and(|status| status.ready == Some(true)))
}

fn error_of(data: &Option<Metal3Data>) -> Option<&str> {
    data.as_ref()?.status.as_ref()?.error_message.as_deref()
}

fn pool(first: &str, last: &str) -> Value {
    json!({"spec": {
        "namePrefix": "prov", "prefix": 24, "gateway": "192.168.0.1", "dnsServers": ["8.8.8.8"],
        "pools": [{"start": first, "end": last}],
    }})
}

fn template() -> Value {
    json!({"spec": {
        "metaData": {"ipAddressesFromPool": [{"key": "ip", "name": "prov"}], "objectNames": [{"key": "name", "object": "machine"}]},
        "networkData": {
            "links": {"ethernets": [{"type": "phy", "id": "eth0", "macAddress": {"string": "00:11:22:33:44:55"}}]},
            "networks": {"ipv4": [{"id": "net", "link": "eth0", "ipAddressFromIPPool": "prov"}]},
            "services": {"dnsFromIPPool": "prov"},
        },
    }})
}

fn document(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.get(key).unwrap().to_vec()).unwrap()
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn a_claim_becomes_secrets_and_leaves_nothing_behind() {
    let bed = Bed::start("data-life").await;
    bed.create::<Cluster>("prod", json!({"spec": {"paused": false}})).await;
    bed.create::<IPPool>("prov", pool("192.168.0.10", "192.168.0.11")).await;
    bed.create::<Metal3DataTemplate>("workers", template()).await;
    bed.machine("m0").await;

    let data = bed.rendered("m0").await;
    assert_eq!(data.metadata.name.as_deref(), Some("workers-0"));
    let meta_data = bed.get::<Secret>("m0-metadata").await.unwrap();
    let expected = format!("ip: 192.168.0.10\nname: m0\nproviderid: {}/m0-host/m0\n", bed.namespace);
    assert_eq!(document(&meta_data, "metaData"), expected);
    let network_data = document(&bed.get("m0-networkdata").await.unwrap(), "networkData");
    let expected = "links:\n- ethernet_mac_address: \"00:11:22:33:44:55\"\n  id: eth0\n  mtu: 1500\n  type: phy\n\
        networks:\n- id: net\n  ip_address: 192.168.0.10\n  link: eth0\n  netmask: 255.255.255.0\n  routes: []\n  type: ipv4\n\
        services:\n- address: 8.8.8.8\n  type: dns\n";
    assert_eq!(network_data, expected);

    // The list of indexes follows, then everything is quiet.
    let listed = |template: &Option<Metal3DataTemplate>| {
        template.as_ref().is_some_and(|t| t.status.as_ref().is_some_and(|status| status.indexes.len() == 1))
    };
    bed.until::<Metal3DataTemplate>("workers", listed).await;
    let before = bed.all_versions().await;
    sleep(QUIET).await;
    assert_eq!(bed.all_versions().await, before, "a settled world is left alone");

    bed.release("m0").await;
    bed.gone::<Metal3DataClaim>("m0").await;
    bed.gone::<Metal3Data>("workers-0").await;
    bed.gone::<IPClaim>("workers-0-prov").await;
    bed.gone::<IPAddress>("prov-192-168-0-10").await;

    bed.writer.delete::<Metal3DataTemplate>(&bed.key("workers"), &Preconditions::none()).await.unwrap();
    bed.gone::<Metal3DataTemplate>("workers").await;
    bed.stop().await;
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn an_empty_pool_is_told_and_recovers_when_it_grows() {
    let bed = Bed::start("data-empty").await;
    bed.create::<Cluster>("prod", json!({"spec": {"paused": false}})).await;
    bed.create::<IPPool>("prov", pool("192.168.0.10", "192.168.0.10")).await;
    bed.create::<Metal3DataTemplate>("workers", template()).await;
    bed.machine("m0").await;
    bed.rendered("m0").await;
    bed.machine("m1").await;
    let told = |data: &Option<Metal3Data>| {
        error_of(data).is_some_and(|text| text.starts_with("IP Allocation for prov failed : "))
    };
    bed.until::<Metal3Data>("workers-1", told).await;

    let patch = json!({"spec": {"pools": [{"start": "192.168.0.10", "end": "192.168.0.11"}]}});
    bed.writer.patch::<IPPool>(&bed.key("prov"), patch, &Preconditions::none()).await.unwrap();
    let data = bed.rendered("m1").await;
    assert_eq!(data.status.unwrap().error_message, None);
    bed.stop().await;
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn a_missing_template_is_told_on_the_claim_until_it_appears() {
    let bed = Bed::start("data-template").await;
    bed.create::<Cluster>("prod", json!({"spec": {"paused": false}})).await;
    bed.create::<IPPool>("prov", pool("192.168.0.10", "192.168.0.11")).await;
    bed.machine("m0").await;
    let expected = format!("Metal3DataTemplate {}/workers not found", bed.namespace);
    let message = |claim: &Option<Metal3DataClaim>| claim.as_ref()?.status.as_ref()?.error_message.clone();
    bed.until::<Metal3DataClaim>("m0", |claim| message(claim).as_ref() == Some(&expected)).await;
    bed.create::<Metal3DataTemplate>("workers", template()).await;
    bed.rendered("m0").await;
    assert_eq!(message(&bed.get("m0").await), None);
    bed.stop().await;
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn a_burst_of_claims_gets_an_index_and_an_address_each() {
    let bed = Bed::start("data-burst").await;
    bed.create::<Cluster>("prod", json!({"spec": {"paused": false}})).await;
    bed.create::<IPPool>("prov", pool("192.168.0.10", "192.168.0.60")).await;
    bed.create::<Metal3DataTemplate>("workers", template()).await;
    let names: Vec<_> = (0..20).map(|n| format!("m{n}")).collect();
    futures::future::join_all(names.iter().map(|name| bed.machine(name))).await;
    let mut indexes = Vec::new();
    for name in &names {
        indexes.push(bed.rendered(name).await.spec.index.unwrap());
    }
    indexes.sort_unstable();
    assert_eq!(indexes, (0..20).collect::<Vec<_>>());
    futures::future::join_all(names.iter().map(|name| bed.release(name))).await;
    for name in &names {
        bed.gone::<Metal3DataClaim>(name).await;
    }
    for index in 0..20 {
        bed.gone::<Metal3Data>(&format!("workers-{index}")).await;
        bed.gone::<IPClaim>(&format!("workers-{index}-prov")).await;
    }
    assert!(bed.versions::<IPAddress>().await.is_empty());
    bed.stop().await;
}
