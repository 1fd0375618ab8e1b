//! The pool controller against a real API server: the one that `bed api` starts, with all definitions.

#![expect(clippy::unwrap_used, reason = "helpers of a test are a test")]

mod support;

use capm3_controllers::ipam;
use capm3_runtime::Tasks;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use support::{silent, start, until_as_wanted};

struct Live {
    client: Client,
    namespace: String,
    tasks: Tasks,
}

impl Live {
    fn api(&self, group: &str, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk_with_plural(&gvk, plural))
    }

    fn m3(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        self.api("ipam.metal3.io", "v1alpha1", kind, plural)
    }

    fn capi(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        self.api("ipam.cluster.x-k8s.io", "v1beta2", kind, plural)
    }

    async fn pool(&self, name: &str, last: u8) {
        self.create(
            &self.m3("IPPool", "ippools"),
            json!({
                "apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPPool", "metadata": {"name": name},
                "spec": {"namePrefix": name, "prefix": 24, "gateway": "192.0.2.1",
                         "pools": [{"start": "192.0.2.10", "end": format!("192.0.2.{last}")}]},
            }),
        )
        .await;
    }

    async fn claim(&self, name: &str, pool: &str) {
        self.create(&self.m3("IPClaim", "ipclaims"), json!({
            "apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPClaim", "metadata": {"name": name}, "spec": {"pool": {"name": pool}},
        }))
        .await;
    }

    async fn capi_claim(&self, name: &str, pool: &str) {
        self.create(
            &self.capi("IPAddressClaim", "ipaddressclaims"),
            json!({
                "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddressClaim", "metadata": {"name": name},
                "spec": {"poolRef": {"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": pool}},
            }),
        )
        .await;
    }

    async fn create(&self, api: &Api<DynamicObject>, object: Value) {
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    /// Waits until the objects of a kind, as JSON, look as wanted.
    async fn until(&self, what: &str, api: &Api<DynamicObject>, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        until_as_wanted(what, async || {
            let list = api.list(&Default::default()).await.unwrap();
            let seen: Vec<_> = list.items.iter().map(|object| serde_json::to_value(object).unwrap()).collect();
            if wanted(&seen) { Ok(seen) } else { Err(seen) }
        })
        .await
    }
}

async fn live() -> Live {
    let client = support::client().await;
    let namespace = format!("ipam-live-{:08x}", fastrand::u32(..));
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();

    let tasks = Tasks::new();
    start(client.clone(), &namespace, silent(), &tasks, ipam::register).await;
    Live { client, namespace, tasks }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn claims_of_both_kinds_come_and_go() {
    let live = live().await;
    let (pools, claims) = (live.m3("IPPool", "ippools"), live.m3("IPClaim", "ipclaims"));
    let (addresses, capi_addresses) = (live.m3("IPAddress", "ipaddresses"), live.capi("IPAddress", "ipaddresses"));
    let capi_claims = live.capi("IPAddressClaim", "ipaddressclaims");
    live.pool("small", 13).await;
    for n in 0..3 {
        live.claim(&format!("m{n}"), "small").await;
    }
    live.capi_claim("c0", "small").await;
    let answered = |claim: &Value| claim["status"]["address"]["name"].is_string();
    live.until("three answers", &claims, |all| all.len() == 3 && all.iter().all(answered)).await;
    let ready = |claim: &Value| {
        claim["status"]["conditions"][0]["status"] == "True" && claim["status"]["addressRef"]["name"].is_string()
    };
    live.until("a ready claim", &capi_claims, |all| all.iter().all(ready)).await;
    live.until("three addresses", &addresses, |all| all.len() == 3).await;
    live.until("one address", &capi_addresses, |all| all.len() == 1 && all[0]["spec"]["prefix"] == 24).await;
    live.until("four entries", &pools, |all| all[0]["status"]["indexes"].as_object().is_some_and(|map| map.len() == 4))
        .await;

    // The pool is full: the next claim is told so, and served when another goes.
    live.claim("late", "small").await;
    let told = |all: &[Value]| all.iter().any(|claim| claim["status"]["errorMessage"] == "Exhausted IP Pools");
    live.until("a message", &claims, told).await;
    claims.delete("m1", &DeleteParams::default()).await.unwrap();
    live.until("the late claim", &claims, |all| all.len() == 3 && all.iter().all(answered)).await;

    // A claim in use is kept; the pool goes last.
    let hold =
        json!({"metadata": {"finalizers": ["metal3data.infrastructure.cluster.x-k8s.io", "ipclaim.ipam.metal3.io"]}});
    claims.patch("m0", &PatchParams::default(), &Patch::Merge(&hold)).await.unwrap();
    for name in ["m0", "m2", "late"] {
        claims.delete(name, &DeleteParams::default()).await.unwrap();
    }
    capi_claims.delete("c0", &DeleteParams::default()).await.unwrap();
    pools.delete("small", &DeleteParams::default()).await.unwrap();
    live.until("one address held", &addresses, |all| all.len() == 1).await;
    live.until("no address", &capi_addresses, <[Value]>::is_empty).await;
    let release = json!({"metadata": {"finalizers": ["ipclaim.ipam.metal3.io"]}});
    claims.patch("m0", &PatchParams::default(), &Patch::Merge(&release)).await.unwrap();
    live.until("no claims", &claims, <[Value]>::is_empty).await;
    live.until("no addresses", &addresses, <[Value]>::is_empty).await;
    live.until("no pool", &pools, <[Value]>::is_empty).await;
    live.tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn many_claims_at_once_get_different_addresses() {
    let live = live().await;
    live.pool("wide", 250).await;
    let names: Vec<_> = (0..60).map(|n| format!("c{n}")).collect();
    futures::future::join_all(names.iter().map(|name| async { live.claim(name, "wide").await })).await;
    futures::future::join_all(names.iter().map(|name| async { live.capi_claim(name, "wide").await })).await;
    let one = live.until("sixty", &live.m3("IPAddress", "ipaddresses"), |all| all.len() == 60).await;
    let other = live.until("sixty", &live.capi("IPAddress", "ipaddresses"), |all| all.len() == 60).await;
    let mut all: Vec<_> = one.iter().chain(&other).map(|object| object["spec"]["address"].to_string()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 120);
    live.tasks.stop();
}
