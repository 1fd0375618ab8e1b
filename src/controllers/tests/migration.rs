//! Storage-version migration on a real API server: the one that `bed api` starts. Each test brings a group of its own, so
//! that nobody's definitions change under others.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capm3_controllers::migration::{self, Phase};
use capm3_runtime::{ClientOptions, Metrics, Recorder, SystemClock, Tasks, client_of};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use support::{Requests, SOON, resource, start, until, until_as_wanted, until_true};
use tokio::time::sleep;

const NOTE: &str = "crd-migration.cluster.x-k8s.io/observed-generation";

/// A kind `Lamp` of its own group, stored in the first of its versions, with namespaces to put lamps into.
struct Site {
    client: Client,
    group: &'static str,
    definition: &'static str,
    halls: [String; 2],
}

/// A manager that does nothing but migrate, and its requests by verb and resource.
struct Manager {
    requests: Requests,
    tasks: Tasks,
}

fn version(name: &str, served: bool, storage: bool) -> Value {
    json!({
        "name": name, "served": served, "storage": storage, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    })
}

impl Site {
    async fn new(name: &str, versions: &[Value]) -> Self {
        let client = support::client().await;
        let id = format!("{name}-{:08x}", fastrand::u32(..));
        let group: &'static str = format!("{id}.example.com").leak();
        let definition: &'static str = format!("lamps.{group}").leak();
        let halls = ["north", "south"].map(|hall| format!("{id}-{hall}"));
        for hall in &halls {
            create(&client, "v1", "Namespace", "namespaces", json!({"metadata": {"name": hall}})).await;
        }
        let site = Self { client, group, definition, halls };
        create(
            &site.client,
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            json!({
                "metadata": {"name": definition},
                "spec": {
                    "group": group, "scope": "Namespaced", "versions": versions,
                    "names": {"kind": "Lamp", "listKind": "LampList", "plural": "lamps", "singular": "lamp"},
                },
            }),
        )
        .await;
        site.until("the kind is served", |definition| {
            let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
            conditions.filter(|c| c["type"] == "Established" && c["status"] == "True").count() == 1
        })
        .await;
        site
    }

    /// Three lamps in two namespaces, through the version given; one of them is `stuck`.
    async fn lamps_through(&self, version: &str) {
        for (hall, name) in [(0, "a"), (0, "stuck"), (1, "b")] {
            self.apply(version, hall, name, "old-tool", 40).await;
        }
    }

    /// As `kubectl apply --server-side` does.
    async fn apply(&self, version: &str, hall: usize, name: &str, manager: &str, watts: u32) {
        let lamp = json!({
            "apiVersion": format!("{}/{version}", self.group), "kind": "Lamp",
            "metadata": {"name": name}, "spec": {"watts": watts},
        });
        let lamps: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.halls[hall], &self.resource(version));
        // The kind is served a moment after its definition says so.
        until_true("the kind is served", async || {
            let applied = lamps.patch(name, &PatchParams::apply(manager).force(), &Patch::Apply(&lamp)).await;
            applied.inspect_err(|e| assert!(matches!(e, kube::Error::Api(s) if s.code == 404), "{e}")).is_ok()
        })
        .await;
    }

    fn resource(&self, version: &str) -> ApiResource {
        resource(&format!("{}/{version}", self.group), "Lamp", "lamps")
    }

    /// The lamps by name.
    async fn lamps(&self, version: &str) -> BTreeMap<String, DynamicObject> {
        let lamps: Api<DynamicObject> = Api::all_with(self.client.clone(), &self.resource(version));
        let all = lamps.list(&ListParams::default()).await.unwrap();
        all.into_iter().map(|lamp| (lamp.metadata.name.clone().unwrap(), lamp)).collect()
    }

    fn definitions(&self) -> Api<CustomResourceDefinition> {
        Api::all(self.client.clone())
    }

    async fn change(&self, patch: Value) {
        self.definitions().patch(self.definition, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    async fn set_versions(&self, versions: &[Value]) {
        self.change(json!({"spec": {"versions": versions}})).await;
    }

    /// Makes the definition news again, without a change of its generation.
    async fn poke(&self, how: &str) {
        self.change(json!({"metadata": {"annotations": {NOTE: how}}})).await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until_as_wanted(what, async || {
            let seen = serde_json::to_value(self.definitions().get(self.definition).await.unwrap()).unwrap();
            if holds(&seen) { Ok(seen) } else { Err(seen) }
        })
        .await
    }

    async fn until_settled(&self) -> Value {
        self.until("the note of the generation", |definition| {
            let generation = definition["metadata"]["generation"].to_string();
            definition["metadata"]["annotations"][NOTE] == generation
        })
        .await
    }

    /// Restricted to one namespace, which must not restrict the migration.
    async fn manager(&self, skipped: &[Phase]) -> Manager {
        self.manager_with(self.client.clone(), skipped).await
    }

    async fn manager_with(&self, client: Client, skipped: &[Phase]) -> Manager {
        let manager = Manager { requests: Requests::default(), tasks: Tasks::new() };
        let client = manager.requests.counted(client);
        let (clock, metrics) = (Arc::new(SystemClock), Metrics::new());
        let recorder = Recorder::spawn(client.clone(), "test", "test".into(), clock, &metrics, &manager.tasks);
        start(client, &self.halls[0], recorder, &manager.tasks, |setup| {
            migration::register(setup, &[self.definition], skipped);
        })
        .await;
        manager
    }

    /// Nobody may change the lamp `stuck` while this policy is there.
    async fn refuse_stuck(&self) {
        let policy = "admissionregistration.k8s.io/v1";
        create(
            &self.client,
            policy,
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            json!({
                "metadata": {"name": self.group},
                "spec": {
                    "matchConstraints": {"resourceRules": [{
                        "apiGroups": [self.group], "apiVersions": ["*"], "operations": ["UPDATE"],
                        "resources": ["lamps", "lamps/status"],
                    }]},
                    "validations": [{"expression": "object.metadata.name != 'stuck'", "message": "it is stuck"}],
                },
            }),
        )
        .await;
        create(
            &self.client,
            policy,
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            json!({"metadata": {"name": self.group}, "spec": {"policyName": self.group, "validationActions": ["Deny"]}}),
        )
        .await;
        self.until_stuck_is(false).await;
    }

    async fn relent(&self) {
        let policies = resource(
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
        );
        let policies: Api<DynamicObject> = Api::all_with(self.client.clone(), &policies);
        policies.delete(self.group, &Default::default()).await.unwrap();
        self.until_stuck_is(true).await;
    }

    async fn until_stuck_is(&self, changeable: bool) {
        let lamps: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.halls[0], &self.resource("v1beta2"));
        let probe = PatchParams { dry_run: true, ..PatchParams::default() };
        until_true("the policy takes effect", async || {
            lamps.patch("stuck", &probe, &Patch::Merge(json!({"spec": {"watts": 1}}))).await.is_ok() == changeable
        })
        .await;
    }
}

impl Manager {
    /// What was asked for since the last time, events apart.
    fn take(&self) -> Vec<(String, u64)> {
        self.requests.take_all().into_iter().filter(|(request, _)| !request.ends_with("events")).collect()
    }

    async fn until_asked(&self, request: &str, times: u64) {
        let enough = async || Some(self.requests.of(request)).filter(|asked| *asked >= times).ok_or(&self.requests);
        until_as_wanted(&format!("{times} times {request}"), enough).await;
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn create(client: &Client, api_version: &str, kind: &str, plural: &str, mut object: Value) {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(api_version, kind, plural));
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

fn expected(requests: &[(&str, u64)]) -> Vec<(String, u64)> {
    requests.iter().map(|(request, times)| ((*request).to_owned(), *times)).collect()
}

/// Manager and apiVersion of each record, in order.
fn records(lamp: &DynamicObject) -> Vec<(String, String)> {
    let entries = lamp.metadata.managed_fields.iter().flatten();
    let records = entries.map(|entry| (entry.manager.clone().unwrap(), entry.api_version.clone().unwrap()));
    records.collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn ap_9_every_object_is_stored_anew_and_the_older_version_can_go() {
    let site = Site::new("ap9", &[version("v1beta1", true, true), version("v1beta2", true, false)]).await;
    site.lamps_through("v1beta1").await;
    site.set_versions(&[version("v1beta1", true, false), version("v1beta2", true, true)]).await;
    site.until("both versions are stored", |d| d["status"]["storedVersions"] == json!(["v1beta1", "v1beta2"])).await;
    let before = site.lamps("v1beta2").await;

    let manager = site.manager(&[]).await;
    let settled = site.until_settled().await;
    assert_eq!(settled["status"]["storedVersions"], json!(["v1beta2"]));
    let after = site.lamps("v1beta2").await;
    assert_eq!(after.len(), 3);
    for (name, lamp) in &after {
        let before = &before[name];
        assert_ne!(lamp.metadata.resource_version, before.metadata.resource_version, "{name} was stored anew");
        assert_eq!((&lamp.data, lamp.metadata.generation), (&before.data, before.metadata.generation), "{name}");
        assert_eq!(records(lamp), records(before), "{name}: a patch without content has no author");
    }
    assert_eq!(
        manager.take(),
        expected(&[
            ("get customresourcedefinitions", 1),
            ("list customresourcedefinitions", 1),
            ("list lamps", 1),
            ("patch customresourcedefinitions", 1),
            ("patch customresourcedefinitions/status", 1),
            ("patch lamps/status", 3),
            ("watch customresourcedefinitions", 1),
        ])
    );

    // What is stored in a version that the definition no longer names cannot be read.
    site.set_versions(&[version("v1beta2", true, true)]).await;
    site.until_settled().await;
    let last = site.lamps("v1beta2").await;
    assert_eq!(last.len(), 3);
    for (name, lamp) in &last {
        assert_eq!(lamp.data, after[name].data);
        assert_eq!(records(lamp), [("old-tool".to_owned(), format!("{}/v1beta2", site.group))], "{name}: AP-11");
    }
    site.apply("v1beta2", 0, "a", "old-tool", 60).await;

    // K-126: a restarted manager leaves what is settled alone.
    drop(manager);
    let manager = site.manager(&[]).await;
    manager.until_asked("watch customresourcedefinitions", 1).await;
    sleep(Duration::from_secs(1)).await; // longer than any request that the list could have led to
    let at_rest = [("list customresourcedefinitions", 1), ("watch customresourcedefinitions", 1)];
    assert_eq!(manager.take(), expected(&at_rest));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn p_87_many_objects_are_visited_in_pages_and_a_stop_is_obeyed_between_them() {
    const MANY: usize = 520;
    let site = Site::new("many", &[version("v1beta1", true, true), version("v1beta2", true, false)]).await;
    site.apply("v1beta1", 0, "n0", "old-tool", 40).await; // until it is served
    let names: Vec<_> = (1..MANY).map(|n| format!("n{n}")).collect();
    for some in names.chunks(20) {
        futures::future::join_all(some.iter().map(|name| site.apply("v1beta1", 0, name, "old-tool", 40))).await;
    }
    site.set_versions(&[version("v1beta1", true, false), version("v1beta2", true, true)]).await;
    site.until("both versions are stored", |d| d["status"]["storedVersions"] == json!(["v1beta1", "v1beta2"])).await;

    let stopped = site.manager(&[]).await;
    stopped.until_asked("patch lamps/status", 20).await;
    stopped.tasks.stop();
    assert!(stopped.tasks.drained(SOON).await, "a pass does not hold up the end");
    let sent = stopped.requests.of("patch lamps/status");
    let definition = site.until("it as it was", |_| true).await;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1beta1", "v1beta2"]), "after {sent} of {MANY}");

    let manager = site.manager(&[]).await;
    assert_eq!(site.until_settled().await["status"]["storedVersions"], json!(["v1beta2"]));
    let took = manager.take();
    assert!(took.contains(&("list lamps".to_owned(), 2)), "{took:?}");
    assert!(took.contains(&("patch lamps/status".to_owned(), MANY as u64)), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn ap_10_an_object_that_refuses_is_named_and_the_rest_is_not_touched_again() {
    let site = Site::new("ap10", &[version("v1beta1", true, true), version("v1beta2", true, false)]).await;
    site.lamps_through("v1beta1").await;
    site.set_versions(&[version("v1beta1", true, false), version("v1beta2", true, true)]).await;
    site.refuse_stuck().await;

    let manager = site.manager(&[]).await;
    let events: Api<Event> = Api::namespaced(site.client.clone(), "default");
    let about = ListParams::default().fields(&format!("involvedObject.name={}", site.definition));
    let event = until("an event", async || events.list(&about).await.unwrap().items.into_iter().next()).await;
    assert_eq!(event.reason.as_deref(), Some("StorageVersionMigrationFailed"));
    let (message, stuck) = (event.message.unwrap(), format!("Lamp {}/stuck", site.halls[0]));
    assert!(message.starts_with("1 of 3 objects refuse") && message.contains(&stuck), "{message}");
    let took = manager.take();
    assert!(took.contains(&("patch lamps/status".to_owned(), 3)), "{took:?}");
    let definition = site.until("it as it was", |_| true).await;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1beta1", "v1beta2"]));
    assert_eq!(definition["metadata"]["annotations"][NOTE], Value::Null);

    let only_stuck = expected(&[("get customresourcedefinitions", 1), ("list lamps", 1), ("patch lamps/status", 1)]);
    site.poke("again").await;
    manager.until_asked("patch lamps/status", 1).await;
    assert_eq!(manager.take(), only_stuck);
    let definition = site.until("it as it was", |_| true).await;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1beta1", "v1beta2"]));

    site.relent().await;
    site.poke("once more").await;
    assert_eq!(site.until_settled().await["status"]["storedVersions"], json!(["v1beta2"]));
    assert!(manager.take().contains(&("patch lamps/status".to_owned(), 1)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn ap_11_records_of_a_version_nobody_serves_leave_a_seed() {
    let versions =
        |alpha| [version("v1alpha1", alpha, false), version("v1beta1", true, false), version("v1beta2", true, true)];
    let site = Site::new("ap11", &versions(true)).await;
    site.lamps_through("v1alpha1").await;
    site.apply("v1beta1", 0, "a", "new-tool", 40).await;
    site.set_versions(&versions(false)).await;
    let before = site.lamps("v1beta2").await;

    let manager = site.manager(&[]).await;
    site.until_settled().await;
    let lamps = site.lamps("v1beta2").await;
    let of = |manager: &str, version: &str| vec![(manager.to_owned(), format!("{}/{version}", site.group))];
    assert_eq!(records(&lamps["a"]), of("new-tool", "v1beta1"), "the record of a served version stays alone");
    for name in ["b", "stuck"] {
        assert_eq!(records(&lamps[name]), of("old-tool", "v1beta2"));
        let seed = &lamps[name].metadata.managed_fields.as_ref().unwrap()[0];
        assert_eq!(seed.operation.as_deref(), Some("Apply"));
        assert_eq!(seed.fields_v1.as_ref().unwrap().0, json!({"f:metadata": {"f:name": {}}}));
        assert_eq!(lamps[name].data, before[name].data);
    }
    assert_eq!(
        manager.take(),
        expected(&[
            ("get customresourcedefinitions", 1),
            ("list customresourcedefinitions", 1),
            ("list lamps", 1),
            ("patch customresourcedefinitions", 1),
            ("patch lamps", 3),
            ("watch customresourcedefinitions", 1),
        ])
    );
    // What the seed is for: the next who applies owns what it applies, and nothing else.
    site.apply("v1beta2", 1, "b", "new-tool", 60).await;
    let lamp = &site.lamps("v1beta2").await["b"];
    let mut managers: Vec<_> = records(lamp).into_iter().map(|(manager, _)| manager).collect();
    managers.sort();
    assert_eq!(managers, ["new-tool", "old-tool"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn k_125_ap_8_a_skipped_phase_is_left_out() {
    let site = Site::new("ap8", &[version("v1beta1", true, true), version("v1beta2", true, false)]).await;
    site.lamps_through("v1beta1").await;
    site.set_versions(&[version("v1beta1", false, false), version("v1beta2", true, true)]).await;

    let manager = site.manager(&[Phase::StorageVersionMigration]).await;
    let definition = site.until_settled().await;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1beta1", "v1beta2"]));
    let took = manager.take();
    assert!(took.contains(&("patch lamps".to_owned(), 3)), "{took:?}");
    assert!(!took.iter().any(|(request, _)| request.ends_with("/status")), "{took:?}");
    drop(manager);

    site.poke("0").await;
    let manager = site.manager(&[Phase::CleanupManagedFields]).await;
    let definition = site.until_settled().await;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1beta2"]));
    let took = manager.take();
    assert!(took.contains(&("patch lamps/status".to_owned(), 3)), "{took:?}");
    assert!(!took.iter().any(|(request, _)| request == "patch lamps"), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn p_87_without_permission_nothing_is_declared_clean_and_nobody_waits() {
    let site = Site::new("p87", &[version("v1beta1", true, true), version("v1beta2", true, false)]).await;
    site.lamps_through("v1beta1").await;
    site.set_versions(&[version("v1beta1", true, false), version("v1beta2", true, true)]).await;
    let kubeconfig = Kubeconfig::read_from(std::env::var("CAPM3_TEST_KUBECONFIG").unwrap()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(site.group.to_owned());
    let client = client_of(config, &ClientOptions::default()).unwrap();

    // Not even the definitions can be watched: no other controller is held up by that.
    drop(site.manager_with(client.clone(), &[]).await);

    let rbac = "rbac.authorization.k8s.io/v1";
    let rules = json!([{"apiGroups": ["apiextensions.k8s.io"], "resources": ["*"], "verbs": ["*"]}]);
    create(
        &site.client,
        rbac,
        "ClusterRole",
        "clusterroles",
        json!({"metadata": {"name": site.group}, "rules": rules}),
    )
    .await;
    create(
        &site.client,
        rbac,
        "ClusterRoleBinding",
        "clusterrolebindings",
        json!({
            "metadata": {"name": site.group},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": site.group},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": site.group}],
        }),
    )
    .await;
    let manager = site.manager_with(client, &[]).await;
    manager.until_asked("list lamps", 1).await;
    sleep(Duration::from_secs(1)).await; // longer than a write that would follow
    let definition = site.until("it as it was", |_| true).await;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1beta1", "v1beta2"]));
    assert_eq!(definition["metadata"]["annotations"][NOTE], Value::Null);
    let took = manager.take();
    assert!(took.contains(&("list lamps".to_owned(), 1)), "{took:?}");
    assert!(!took.iter().any(|(request, _)| request.starts_with("patch")), "{took:?}");
}
