//! The host operator against a real API server: the one that `bed api` starts, with all definitions.

#![expect(clippy::unwrap_used, reason = "helpers of a test are a test")]

#[path = "../../runtime/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use capm3_api::foreign::BareMetalHost;
use capm3_api::names::HOST_API_VERSION;
use capm3_runtime::Tasks;
use capm3_sim::host::{FINALIZER, Operator, Options, SECRET_FINALIZER, Timings};
use capm3_sim::room::{HostId, Shelf};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use support::until_as_wanted;

struct Live {
    hosts: Api<BareMetalHost>,
    raw: Api<kube::core::DynamicObject>,
    secrets: Api<Secret>,
    room: Arc<Shelf>,
    tasks: Tasks,
    namespace: String,
}

async fn live() -> Live {
    let client = support::client().await;
    #[expect(clippy::disallowed_methods, reason = "only names a namespace that no earlier run has used")]
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let namespace = format!("hosts-live-{stamp:x}");
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    let (room, tasks) = (Arc::new(Shelf::default()), Tasks::new());
    let (timings, own) = (Timings::instant(), Some(namespace.clone()));
    let options = Options { timings, namespace: own, ..Options::default() };
    Operator::spawn(client.clone(), room.clone(), options, &tasks).await;
    let gvk = kube::core::GroupVersionKind::gvk("metal3.io", "v1alpha1", "BareMetalHost");
    let resource = kube::core::ApiResource::from_gvk_with_plural(&gvk, "baremetalhosts");
    Live {
        hosts: Api::namespaced(client.clone(), &namespace),
        raw: Api::namespaced_with(client.clone(), &namespace, &resource),
        secrets: Api::namespaced(client, &namespace),
        room,
        tasks,
        namespace,
    }
}

impl Live {
    async fn host(&self, name: &str) {
        let host = json!({
            "apiVersion": HOST_API_VERSION, "kind": "BareMetalHost", "metadata": {"name": name},
            "spec": {"online": false, "bootMACAddress": "02:00:00:00:00:01",
                     "bmc": {"address": "ipmi://192.0.2.1", "credentialsName": "bmc"}},
        });
        self.raw.create(&PostParams::default(), &serde_json::from_value(host).unwrap()).await.unwrap();
    }

    async fn secret(&self, name: &str, data: Value) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        self.secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    }

    async fn patch(&self, name: &str, patch: Value) {
        self.raw.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until the host, as JSON (null when it is gone), looks as wanted.
    async fn until(&self, what: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until_as_wanted(what, async || {
            let seen = serde_json::to_value(self.raw.get_opt(name).await.unwrap()).unwrap();
            if wanted(&seen) { Ok(seen) } else { Err(seen) }
        })
        .await
    }

    async fn state(&self, name: &str, state: &str) -> Value {
        self.until(state, name, |host| host["status"]["provisioning"]["state"] == state).await
    }

    async fn id(&self, name: &str) -> HostId {
        let host = self.hosts.get(name).await.unwrap();
        HostId { namespace: self.namespace.clone(), name: name.into(), uid: host.uid().unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn a_host_lives_its_whole_life() {
    let live = live().await;
    live.host("node-0").await;
    live.until("an error", "node-0", |host| host["status"]["errorType"] == "registration error").await;
    live.secret("bmc", json!({"username": "u", "password": "p"})).await; // its appearance wakes the host
    let host = live.state("node-0", "available").await;
    assert_eq!(host["status"]["hardware"]["nics"][0]["mac"], "02:00:00:00:00:01");
    assert_eq!(host["metadata"]["finalizers"], json!([FINALIZER]));
    let bmc = live.secrets.get("bmc").await.unwrap();
    assert_eq!(bmc.labels()["environment.metal3.io"], "baremetal");
    assert_eq!(bmc.finalizers(), [SECRET_FINALIZER]);

    // The Secrets come late: the host stays where it is and goes on by itself.
    let image = json!({"url": "http://site/v1.36.3", "checksum": "c", "checksumType": "sha256"});
    live.patch("node-0", json!({"spec": {
        "online": true, "image": image, "userData": {"name": "user"}, "metaData": {"name": "meta"}, "networkData": {"name": "net"},
    }}))
    .await;
    live.state("node-0", "provisioning").await;
    live.secret("meta", json!({"metaData": "name: given\n"})).await;
    live.secret("net", json!({"networkData": "links: []\n"})).await;
    live.secret("user", json!({"value": "#cloud-config\n"})).await;
    live.until("power", "node-0", |host| host["status"]["poweredOn"] == true).await;
    live.state("node-0", "provisioned").await;
    let machine = live.room.get(&live.id("node-0").await).unwrap();
    let drive = machine.build.config_drive.unwrap();
    assert_eq!(drive.user_data.as_deref(), Some(&b"#cloud-config\n"[..]));
    assert!(drive.meta_data_json.contains(r#""metal3-name":"node-0","metal3-namespace""#));
    assert!(drive.meta_data_json.contains(r#""name":"given""#));
    assert_eq!(drive.network_data_json.as_deref(), Some(r#"{"links":[]}"#));
    assert_eq!(machine.build.nics[0].mac, "02:00:00:00:00:01");
    assert!(machine.on);

    live.patch("node-0", json!({"metadata": {"annotations": {"reboot.metal3.io": ""}}})).await;
    let rebooted = |host: &Value| {
        host["metadata"]["annotations"]["reboot.metal3.io"].is_null() && host["status"]["poweredOn"] == true
    };
    live.until("a reboot", "node-0", rebooted).await;
    assert_eq!(live.room.get(&live.id("node-0").await).unwrap().boots, 2);

    live.patch("node-0", json!({"spec": {"image": null, "online": false}})).await;
    let host = live.state("node-0", "available").await;
    assert_eq!(host["status"]["provisioning"]["image"]["url"], "");
    let id = live.id("node-0").await;
    assert!(live.room.get(&id).is_none());

    live.raw.delete("node-0", &DeleteParams::default()).await.unwrap();
    live.until("the end", "node-0", Value::is_null).await;
    assert!(live.secrets.get("bmc").await.unwrap().finalizers().is_empty());
    live.tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn a_refused_image_is_shown_and_mended() {
    let live = live().await;
    live.secret("bmc", json!({"username": "u", "password": "p"})).await;
    live.host("node-1").await;
    live.state("node-1", "available").await;
    live.patch("node-1", json!({"spec": {"online": true, "image": {"url": "file:///x", "checksum": "c"}}})).await;
    let refused = |host: &Value| host["status"]["errorType"] == "provisioning error";
    let host = live.until("an error", "node-1", refused).await;
    assert!(host["status"]["errorMessage"].as_str().unwrap().contains("invalid scheme in URL"));
    live.patch("node-1", json!({"spec": {"image": {"url": "http://site/v1.36.3"}}})).await;
    let host = live.state("node-1", "provisioned").await;
    assert_eq!((&host["status"]["errorMessage"], &host["status"]["errorCount"]), (&json!(""), &json!(0)));
    live.tasks.stop();
}
