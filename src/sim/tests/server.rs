//! What the API server in the process does beside answering as a real one: faults at its seam, webhooks, roles, collection, backups.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capm3_runtime::{Change, Hub, HubOptions, Key, Preconditions, Reader, Tasks, WatchOptions, WriteError, Writer};
use capm3_sim::server::{
    Call, EventFate, Fate, Hooks, Options, Outcome, Passing, Refusal, Right, Rights, Routers, Seam, Server, Service,
    User, Verb, VirtualClock, cluster_api, hosts, providers,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

const NS: &str = "ns";

async fn server() -> Server {
    let clock = VirtualClock::starting_at("2026-08-01T00:00:00Z".parse().unwrap());
    let options = Options { hooks: Arc::new(Routers::of_providers()), ..Options::new(1, Arc::new(clock)) };
    let server = Server::new(options);
    let namespaces: Api<Namespace> = Api::all(server.client(User::admin()));
    let meta = ObjectMeta { name: Some(NS.into()), ..ObjectMeta::default() };
    namespaces.create(&PostParams::default(), &Namespace { metadata: meta, ..Namespace::default() }).await.unwrap();
    server
}

fn map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), namespace: Some(NS.into()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

fn owned(name: &str, owners: &[(&ConfigMap, bool)]) -> ConfigMap {
    let reference = |(owner, blocks): &(&ConfigMap, bool)| OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: owner.metadata.name.clone().unwrap(),
        uid: owner.metadata.uid.clone().unwrap(),
        block_owner_deletion: Some(*blocks),
        controller: None,
    };
    let mut map = map(name);
    map.metadata.owner_references = Some(owners.iter().map(reference).collect());
    map
}

fn names(server: &Server) -> Vec<String> {
    server.all("configmaps").iter().map(|map| map["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// One fate for the first request that is asked about.
struct Once {
    fate: Mutex<Option<Fate>>,
    after: bool,
}

impl Once {
    fn take(&self, after: bool, call: &Call) -> Fate {
        if after == self.after && call.verb.writes() {
            self.fate.lock().take().unwrap_or(Fate::Pass)
        } else {
            Fate::Pass
        }
    }
}

impl Seam for Once {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Fate> {
        Box::pin(async { self.take(false, call) })
    }

    fn after<'a>(&'a self, call: &'a Call, _: Outcome) -> BoxFuture<'a, Fate> {
        Box::pin(async { self.take(true, call) })
    }
}

#[tokio::test(start_paused = true)]
async fn f_5_and_f_6_a_lost_answer_says_nothing_about_the_write() {
    for (after, fate, happened) in [
        (false, Fate::Break, false),
        (true, Fate::Break, true),
        (false, Fate::Hang, false),
        (true, Fate::Hang, true),
        (false, Fate::Answer(Refusal::internal("etcdserver: request timed out")), false),
        (true, Fate::Answer(Refusal::internal("etcdserver: request timed out")), true),
    ] {
        let server = server().await;
        let writer = Writer::uncached(server.client(User::admin()));
        server.set_seam(Arc::new(Once { fate: Mutex::new(Some(fate.clone())), after }));
        let outcome = writer.create(&map("a")).await;
        assert!(matches!(outcome, Err(WriteError::Unknown(_))), "{fate:?}: {outcome:?}");
        assert_eq!(!names(&server).is_empty(), happened, "{fate:?}, after: {after}");
    }
}

#[tokio::test(start_paused = true)]
async fn f_7_a_throttling_server_says_for_how_long() {
    let server = server().await;
    let fate = Fate::Answer(Refusal::too_many_requests(7));
    server.set_seam(Arc::new(Once { fate: Mutex::new(Some(fate)), after: false }));
    let maps: Api<ConfigMap> = Api::namespaced(server.client(User::admin()), NS);
    let error = maps.create(&PostParams::default(), &map("a")).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 7));
    assert!(names(&server).is_empty());
}

/// Does something once to the events of one object.
struct Event(&'static str, Mutex<Option<EventFate>>);

impl Seam for Event {
    fn event(&self, _: &Call, event: &Passing<'_>) -> EventFate {
        if event.path == format!("{NS}/{}", self.0) {
            return self.1.lock().take().unwrap_or(EventFate::Deliver);
        }
        EventFate::Deliver
    }
}

#[tokio::test(start_paused = true)]
async fn f_9_to_f_13_whatever_happens_to_an_event_the_cache_comes_to_the_same_end() {
    let late = Duration::from_secs(90);
    for (what, fate) in [
        ("closed before it", EventFate::Close),
        ("expired before it", EventFate::Expire),
        ("told twice", EventFate::Twice),
        ("told late", EventFate::Delay(late)),
        ("held back", EventFate::Hold(Box::pin(sleep(late)))),
        ("told after the next", EventFate::Swap),
        ("told with what followed", EventFate::Burst(late)),
    ] {
        let server = server().await;
        let (hub, tasks) = (Hub::new(server.client(User::admin()), HubOptions::default()), Tasks::new());
        let store = hub.store::<ConfigMap>(WatchOptions::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        hub.observe(&store, move |change: &Change<ConfigMap>| sink.lock().push(change.key().name));
        hub.start(&tasks);
        hub.wait_synced().await;
        let writer = Writer::uncached(server.client(User::admin()));
        writer.create(&map("first")).await.unwrap();
        server.set_seam(Arc::new(Event("a", Mutex::new(Some(fate)))));
        writer.create(&map("a")).await.unwrap();
        writer.delete::<ConfigMap>(&Key::new(NS, "first"), &Preconditions::none()).await.unwrap();
        let wait = async {
            while store.len() != 1 || store.get(&Key::new(NS, "a")).is_none() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(180), wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", seen.lock()));
        tasks.stop();
    }
}

#[tokio::test(start_paused = true)]
async fn f_11_an_event_that_is_lost_stays_lost_until_the_next_list() {
    let server = server().await;
    let (hub, tasks) = (Hub::new(server.client(User::admin()), HubOptions::default()), Tasks::new());
    let store = hub.store::<ConfigMap>(WatchOptions::default());
    hub.start(&tasks);
    hub.wait_synced().await;
    server.set_seam(Arc::new(Event("a", Mutex::new(Some(EventFate::Lose)))));
    let writer = Writer::uncached(server.client(User::admin()));
    writer.create(&map("a")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(store.get(&Key::new(NS, "a")).is_none());
    server.compact();
    server.restart(); // the watch goes on from where it was, and is told that this is too old
    writer.create(&map("b")).await.unwrap();
    server.compact();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(store.len(), 2);
    tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn observers_see_every_write_and_nothing_else() {
    let server = server().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    server.observe(move |change| {
        sink.lock().push((change.call.to_string(), change.old.is_some(), change.new.is_some()));
    });
    let maps: Api<ConfigMap> = Api::namespaced(server.client(User::admin()), NS);
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    maps.create(&PostParams::default(), &map("a")).await.unwrap_err();
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({}))).await.unwrap();
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "v"}}))).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let expected = [("create", false, true), ("patch", true, true), ("delete", true, false)];
    let expected = expected.map(|(verb, old, new)| (format!("admin {verb} configmaps {NS}/a"), old, new));
    assert_eq!(*seen.lock(), expected);
    assert!(Verb::Delete.writes() && !Verb::Watch.writes());
}

#[tokio::test(start_paused = true)]
async fn f_10_a_restored_backup_brings_old_versions_back() {
    let server = server().await;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(User::admin()), NS);
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    let backup = server.backup();
    let revision = server.revision();
    maps.create(&PostParams::default(), &map("b")).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    server.restore(&backup);
    assert_eq!(names(&server), ["a"]);
    assert!(server.revision() > revision + 3, "whoever has seen more lists anew");

    // A server that begins there is like it, with a history of its own.
    let clock = VirtualClock::starting_at("2026-08-01T00:00:00Z".parse().unwrap());
    let second = Server::from_backup(Options::new(2, Arc::new(clock)), &backup);
    let maps: Api<ConfigMap> = Api::namespaced(second.client(User::admin()), NS);
    maps.create(&PostParams::default(), &map("c")).await.unwrap();
    assert_eq!((names(&second), names(&server)), (vec!["a".into(), "c".into()], vec!["a".into()]));
}

#[tokio::test(start_paused = true)]
async fn what_has_lost_all_its_owners_is_collected() {
    let server = server().await;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(User::admin()), NS);
    let create = async |map: ConfigMap| maps.create(&PostParams::default(), &map).await.unwrap();
    let (one, other) = (create(map("one")).await, create(map("other")).await);
    let child = create(owned("child", &[(&one, false)])).await;
    create(owned("grandchild", &[(&child, false)])).await;
    create(owned("of-both", &[(&one, false), (&other, false)])).await;
    server.settle();
    assert_eq!(names(&server).len(), 5);
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    server.settle();
    assert_eq!(names(&server), ["of-both", "other"]);
    let kept = maps.get("of-both").await.unwrap();
    assert_eq!(kept.metadata.owner_references.unwrap().len(), 1, "the reference to what is gone goes too");
}

#[tokio::test(start_paused = true)]
async fn foreground_waits_for_dependents_that_block_and_orphans_are_let_go() {
    let server = server().await;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(User::admin()), NS);
    let create = async |map: ConfigMap| maps.create(&PostParams::default(), &map).await.unwrap();
    let owner = create(map("owner")).await;
    let mut held = owned("held", &[(&owner, true)]);
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    create(held).await;
    maps.delete("owner", &DeleteParams::foreground()).await.unwrap();
    server.settle();
    assert_eq!(names(&server), ["held", "owner"], "the dependent holds its owner");
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &release).await.unwrap();
    server.settle();
    assert!(names(&server).is_empty());

    let owner = create(map("owner")).await;
    create(owned("child", &[(&owner, true)])).await;
    maps.delete("owner", &DeleteParams::orphan()).await.unwrap();
    server.settle();
    assert_eq!(names(&server), ["child"]);
    assert_eq!(maps.get("child").await.unwrap().metadata.owner_references, None);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_when_it_is_empty() {
    let server = server().await;
    let client = server.client(User::admin());
    let (maps, namespaces): (Api<ConfigMap>, Api<Namespace>) =
        (Api::namespaced(client.clone(), NS), Api::all(client.clone()));
    let mut held = map("held");
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    maps.create(&PostParams::default(), &held).await.unwrap();
    maps.create(&PostParams::default(), &map("free")).await.unwrap();
    namespaces.delete(NS, &DeleteParams::default()).await.unwrap();
    server.settle();
    assert_eq!(names(&server), ["held"]);
    assert!(namespaces.get_opt(NS).await.unwrap().is_some());
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &release).await.unwrap();
    server.settle();
    assert_eq!(namespaces.get_opt(NS).await.unwrap(), None);
}

fn api(server: &Server, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("infrastructure.cluster.x-k8s.io", version, kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    Api::namespaced_with(server.client(User::admin()), NS, &resource)
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn webhooks_of_the_installed_configurations_are_asked() {
    let server = server().await;
    server.install(providers().unwrap()).await.unwrap();
    let machines = api(&server, "v1beta2", "Metal3Machine", "metal3machines");
    let machine = |namespace: &str| {
        object(json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "Metal3Machine", "metadata": {"name": "m"},
            "spec": {
                "image": {"url": "http://192.0.2.1/i", "checksum": "abc", "diskFormat": "raw"},
                "userData": {"name": "u", "namespace": namespace},
            },
        }))
    };
    let error = machines.create(&PostParams::default(), &machine("other")).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let denied = "admission webhook \"validation.metal3machine.infrastructure.cluster.x-k8s.io\" denied the request: ";
    assert!(status.message.starts_with(denied), "{}", status.message);
    machines.create(&PostParams::default(), &machine(NS)).await.unwrap();

    // Written in the old version: defaulted and judged in the new one, stored in it, read in both.
    let clusters = api(&server, "v1beta1", "Metal3Cluster", "metal3clusters");
    let old = object(json!({
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "Metal3Cluster", "metadata": {"name": "c"},
        "spec": {"controlPlaneEndpoint": {"host": "192.0.2.9"}},
    }));
    let created = clusters.create(&PostParams::default(), &old).await.unwrap();
    assert_eq!(created.types.as_ref().unwrap().api_version, "infrastructure.cluster.x-k8s.io/v1beta1");
    assert_eq!(created.data["spec"]["controlPlaneEndpoint"]["port"], 6443, "the default of the webhook");
    let stored = server.get("metal3clusters.infrastructure.cluster.x-k8s.io", NS, "c").unwrap();
    assert_eq!(stored["apiVersion"], "infrastructure.cluster.x-k8s.io/v1beta2");
    let newer = api(&server, "v1beta2", "Metal3Cluster", "metal3clusters").list(&ListParams::default()).await.unwrap();
    assert_eq!(newer.items[0].metadata.uid, created.metadata.uid);
}

#[tokio::test(start_paused = true)]
async fn f_19_a_webhook_that_is_down_refuses_what_it_should_judge() {
    let clock = VirtualClock::starting_at("2026-08-01T00:00:00Z".parse().unwrap());
    let server = Server::new(Options::new(1, Arc::new(clock))); // no hooks at all
    server.install(providers().unwrap()).await.unwrap();
    let gvk = GroupVersionKind::gvk("ipam.metal3.io", "v1alpha1", "IPPool");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "ippools");
    let pools: Api<DynamicObject> = Api::namespaced_with(server.client(User::admin()), "default", &resource);
    let pool = json!({"apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPPool", "metadata": {"name": "p"}, "spec": {"namePrefix": "p", "pools": []}});
    let error = pools.create(&PostParams::default(), &object(pool)).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (500, "InternalError"));
    assert!(status.message.contains("failed calling webhook \"default.ippool.ipam.metal3.io\""), "{}", status.message);
}

#[tokio::test(start_paused = true)]
async fn managers_may_do_what_their_roles_say_and_no_more() {
    let server = server().await;
    server.install(providers().unwrap()).await.unwrap();
    server.install(hosts().unwrap()).await.unwrap();
    server.install(cluster_api()).await.unwrap();
    let manager = server.client(User::service_account("capm3-system", "capm3-manager"));
    let secrets: Api<Secret> = Api::namespaced(manager.clone(), NS);
    assert_eq!(secrets.get_opt("x").await.unwrap(), None);
    let error = secrets.list(&ListParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        status.message,
        "secrets is forbidden: User \"system:serviceaccount:capm3-system:capm3-manager\" cannot list resource \"secrets\" in API group \"\" in the namespace \"ns\""
    );
    let own: Api<ConfigMap> = Api::namespaced(manager, NS);
    assert!(own.create(&PostParams::default(), &map("a")).await.is_err());
    // Leases only where the manager lives.
    let lease = Key::new("capm3-system", "x");
    let reader = Reader::new(server.client(User::service_account("capm3-system", "capm3-manager")));
    assert!(reader.get::<k8s_openapi::api::coordination::v1::Lease>(&lease).await.unwrap().is_none());
    let elsewhere = Key::new(NS, "x");
    assert!(reader.get::<k8s_openapi::api::coordination::v1::Lease>(&elsewhere).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_installed_is_understood() {
    let server = server().await;
    server.install(providers().unwrap()).await.unwrap();
    server.install(hosts().unwrap()).await.unwrap();
    server.install(cluster_api()).await.unwrap();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for definition in server.all("customresourcedefinitions.apiextensions.k8s.io") {
        *kinds.entry(definition["spec"]["group"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(kinds["infrastructure.cluster.x-k8s.io"], 9);
    assert_eq!(kinds["ipam.metal3.io"], 3);
    assert_eq!(kinds["metal3.io"], 3);
    assert_eq!(kinds.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_server_from_a_backup_gives_no_uid_again() {
    let first = server().await;
    let again = Server::from_backup(
        Options::new(1, Arc::new(VirtualClock::starting_at("2026-08-01T00:00:00Z".parse().unwrap()))),
        &first.backup(),
    );
    Api::<ConfigMap>::namespaced(again.client(User::admin()), NS)
        .create(&PostParams::default(), &map("a"))
        .await
        .unwrap();
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let all: Vec<_> = again.resources().iter().flat_map(|resource| again.all(resource)).collect();
    let uids: std::collections::BTreeSet<_> = all.iter().map(|object| uid(object)).collect();
    assert_eq!(uids.len(), all.len());
}

/// Is asked about everything, remembers what, and refuses deletes of what is kept.
#[derive(Default)]
struct Keeper(Mutex<Vec<String>>);

impl Hooks for Keeper {
    fn call<'a>(&'a self, service: &'a Service, review: Value) -> BoxFuture<'a, Result<Value, String>> {
        let request = &review["request"];
        let (operation, name) = (request["operation"].as_str().unwrap(), request["name"].as_str().unwrap());
        self.0.lock().push(format!("{} {operation} {name}", service.path));
        assert_eq!(request["object"].is_null(), operation == "DELETE");
        assert_eq!(request["oldObject"].is_null(), operation == "CREATE");
        let allowed = operation != "DELETE" || name != "kept";
        let response =
            json!({"allowed": allowed, "uid": request["uid"], "status": {"code": 403, "message": "it is kept"}});
        Box::pin(std::future::ready(Ok(json!({"response": response}))))
    }
}

#[tokio::test(start_paused = true)]
async fn webhooks_are_asked_about_what_their_rules_and_selectors_name() {
    let clock = VirtualClock::starting_at("2026-08-01T00:00:00Z".parse().unwrap());
    let keeper = Arc::new(Keeper::default());
    let server = Server::new(Options { hooks: keeper.clone(), ..Options::new(1, Arc::new(clock)) });
    let webhook = |name: &str, operations: Value, more: Value| {
        let mut webhook = json!({
            "name": format!("{name}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"namespace": "default", "name": "keeper", "path": format!("/{name}")}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": operations}],
        });
        more.as_object().unwrap().iter().for_each(|(key, value)| webhook[key] = value.clone());
        webhook
    };
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "keeper"},
        "webhooks": [
            webhook("deletes", json!(["DELETE"]), json!({})),
            webhook("here", json!(["CREATE"]), json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}})),
            webhook("there", json!(["*"]), json!({"namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["default"]},
            ]}})),
            webhook("red", json!(["CREATE", "UPDATE"]), json!({"objectSelector": {"matchLabels": {"color": "red"}}})),
        ],
    });
    server.install([configuration]).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(server.client(User::admin()), "default");
    let asked = |expected: &[&str]| assert_eq!(std::mem::take(&mut *keeper.0.lock()), expected);
    for name in ["kept", "loose"] {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        maps.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await.unwrap();
    }
    asked(&["/here CREATE kept", "/here CREATE loose"]);
    let paint = |color: Value| Patch::Merge(json!({"metadata": {"labels": {"color": color}}}));
    maps.patch("loose", &PatchParams::default(), &paint("red".into())).await.unwrap();
    maps.patch("loose", &PatchParams::default(), &paint(Value::Null)).await.unwrap(); // it was red
    asked(&["/red UPDATE loose", "/red UPDATE loose"]);
    let kube::Error::Api(status) = maps.delete("kept", &DeleteParams::default()).await.unwrap_err() else { panic!() };
    assert_eq!(
        (status.code, status.message.as_str()),
        (403, "admission webhook \"deletes.example.com\" denied the request: it is kept")
    );
    maps.delete("loose", &DeleteParams::default()).await.unwrap();
    asked(&["/deletes DELETE kept", "/deletes DELETE loose"]);
    assert!(server.get("configmaps", "default", "kept").is_some());
    assert!(server.get("configmaps", "default", "loose").is_none());
}

#[tokio::test(start_paused = true)]
async fn roles_are_held_against_what_their_owners_did() {
    let server = server().await;
    server.install(providers().unwrap()).await.unwrap();
    const MANAGER: &str = "system:serviceaccount:capm3-system:capm3-manager";
    let manager = server.client(User::service_account("capm3-system", "capm3-manager"));
    let secrets: Api<Secret> = Api::namespaced(manager, NS);
    secrets.get_opt("x").await.unwrap();
    secrets.get_opt("y").await.unwrap();
    secrets.list(&ListParams::default()).await.unwrap_err();
    let mut rights = server.rights().remove(MANAGER).unwrap();
    let of_secrets = |all: &mut dyn Iterator<Item = &Right>| -> Vec<String> {
        all.filter(|right| right.resource == "secrets" && right.names.is_empty()).map(ToString::to_string).collect()
    };
    let used = |rights: &Rights| -> Vec<(String, u64)> {
        let used = rights.used.iter().filter(|(_, times)| **times > 0);
        used.map(|(right, times)| (right.to_string(), *times)).collect()
    };
    assert_eq!(used(&rights), [("get secrets".to_owned(), 2)]);
    assert_eq!(of_secrets(&mut rights.missing.keys()), ["list secrets in ns"]);
    assert!(of_secrets(&mut rights.unused()).contains(&"create secrets".to_owned()));
    // What was counted outlives a change of the roles, and runs add up.
    server.install([json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "other"}, "rules": [],
    })])
    .await
    .unwrap();
    secrets.get_opt("z").await.unwrap();
    rights.merge(&server.rights()[MANAGER]);
    assert_eq!(used(&rights), [("get secrets".to_owned(), 5)]);
    assert!(server.rights()["system:serviceaccount:metal3-ipam-system:ipam-manager"].unused().count() > 0);
}

#[tokio::test]
async fn the_same_server_answers_over_the_wire() {
    let server = server().await;
    server.install(providers().unwrap()).await.unwrap();
    let tasks = Tasks::new();
    let address = server.listen(([127, 0, 0, 1], 0).into(), &tasks).await.unwrap();
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let maps: Api<ConfigMap> = Api::namespaced(kube::Client::try_from(config.clone()).unwrap(), NS);
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match timeout(Duration::from_secs(120), events.next()).await.unwrap().unwrap().unwrap() {
            WatchEvent::Added(map) => seen.push(("added", map.metadata.name.unwrap())),
            WatchEvent::Deleted(map) => seen.push(("deleted", map.metadata.name.unwrap())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [("added", "a".to_owned()), ("deleted", "a".to_owned())]);
    assert!(server.get("configmaps", NS, "a").is_none());

    // A token says who asks; a connection that breaks is no answer.
    let account = "system:serviceaccount:capm3-system:capm3-manager";
    let auth_info =
        kube::config::AuthInfo { token: Some(account.to_owned().into()), ..kube::config::AuthInfo::default() };
    let mut config = config;
    config.auth_info = auth_info;
    let manager = kube::Client::try_from(config).unwrap();
    let secrets: Api<Secret> = Api::namespaced(manager, NS);
    let kube::Error::Api(status) = secrets.list(&ListParams::default()).await.unwrap_err() else { panic!() };
    assert_eq!(status.code, 403);
    server.set_seam(Arc::new(Once { fate: Mutex::new(Some(Fate::Break)), after: true }));
    assert!(!matches!(maps.create(&PostParams::default(), &map("b")).await, Ok(_) | Err(kube::Error::Api(_))));
    assert!(server.get("configmaps", NS, "b").is_some());
    tasks.stop();
}

/// Every cache of the server is this far behind.
struct Behind(u64);

impl Seam for Behind {
    fn lag(&self, _: &Call) -> u64 {
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn f_10_a_lagging_cache_answers_who_does_not_ask_for_the_latest_and_ours_asks() {
    let server = server().await;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(User::admin()), NS);
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    maps.create(&PostParams::default(), &map("b")).await.unwrap();
    server.set_seam(Arc::new(Behind(2)));
    let named = |list: kube::core::ObjectList<ConfigMap>| -> Vec<String> {
        list.items.into_iter().map(|map| map.metadata.name.unwrap()).collect()
    };
    let any = ListParams::default().match_any();
    assert_eq!(named(maps.list(&any).await.unwrap()), ["a"], "as it was two writes ago");
    assert_eq!(named(maps.list(&ListParams::default()).await.unwrap()), ["b"]);
    let (hub, tasks) = (Hub::new(server.client(User::admin()), HubOptions::default()), Tasks::new());
    let store = hub.store::<ConfigMap>(WatchOptions::default());
    hub.start(&tasks);
    hub.wait_synced().await;
    assert!(store.get(&Key::new(NS, "b")).is_some() && store.get(&Key::new(NS, "a")).is_none());
    tasks.stop();
}
