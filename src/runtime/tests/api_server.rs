//! What the runtime relies on, asked of a real API server: the one that `bed api` starts.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capm3_runtime::{
    Candidate, Change, Hub, HubOptions, Key, LeaseOptions, ListOptions, Metrics, Preconditions, Queue, Reader,
    SystemClock, Tasks, WatchOptions, WriteError, Writer, diagnostics,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use serde_json::json;
use support::{SOON, client, until_true};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A namespace of its own for one test.
async fn namespace(writer: &Writer, name: &str) -> String {
    let name = format!("{name}-{}", std::process::id());
    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    writer.create(&Namespace { metadata, ..Namespace::default() }).await.unwrap();
    name
}

fn config_map(namespace: &str, name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn preconditions_are_kept_by_the_server() {
    let client = client().await;
    let writer = Writer::uncached(client.clone());
    let ns = namespace(&writer, "preconditions").await;
    let key = Key::new(&ns, "a");
    let first = writer.create(&config_map(&ns, "a")).await.unwrap();
    assert!(matches!(writer.create(&config_map(&ns, "a")).await, Err(WriteError::AlreadyExists(_))));

    let patch = |value: &str| json!({"data": {"k": value}});
    let second: ConfigMap = writer.patch(&key, patch("1"), &Preconditions::unchanged(&first)).await.unwrap();
    let stale = writer.patch::<ConfigMap>(&key, patch("2"), &Preconditions::unchanged(&first)).await;
    assert!(matches!(stale, Err(WriteError::Conflict(_))), "{stale:?}");
    let other = Preconditions { uid: Some("not-this-one".into()), resource_version: None };
    let wrong = writer.patch::<ConfigMap>(&key, patch("2"), &other).await;
    assert!(matches!(wrong, Err(WriteError::Conflict(_))), "{wrong:?}");
    let wrong = writer.patch_strategic::<ConfigMap>(&key, patch("2"), &other).await;
    assert!(matches!(wrong, Err(WriteError::Conflict(_))), "{wrong:?}");
    let same: ConfigMap = writer.patch(&key, patch("3"), &Preconditions::same(&first)).await.unwrap();
    assert_eq!(same.data, Some(BTreeMap::from([("k".into(), "3".into())])));

    let deleted = writer.delete::<ConfigMap>(&key, &other).await;
    assert!(matches!(deleted, Err(WriteError::Conflict(_))), "{deleted:?}");
    let deleted = writer.delete::<ConfigMap>(&key, &Preconditions::unchanged(&second)).await;
    assert!(matches!(deleted, Err(WriteError::Conflict(_))), "{deleted:?}");
    writer.delete::<ConfigMap>(&key, &Preconditions::unchanged(&same)).await.unwrap();
    let gone = writer.delete::<ConfigMap>(&key, &Preconditions::none()).await;
    assert!(matches!(gone, Err(WriteError::NotFound(_))), "{gone:?}");
    let gone = writer.patch::<ConfigMap>(&key, patch("4"), &Preconditions::unchanged(&same)).await;
    assert!(matches!(gone, Err(WriteError::NotFound(_))), "{gone:?}");
    let invalid = writer.create(&config_map(&ns, "Not_a_name")).await;
    assert!(matches!(invalid, Err(WriteError::Invalid(_))), "{invalid:?}");
    assert_eq!(Reader::new(client).get::<ConfigMap>(&key).await.unwrap(), None);
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn a_pass_reads_its_own_writes_and_the_watch_repeats_nothing() {
    let client = client().await;
    let ns = namespace(&Writer::uncached(client.clone()), "own-writes").await;
    let (hub, tasks) = (Hub::new(client, HubOptions::default()), Tasks::new());
    let store = hub.store::<ConfigMap>(WatchOptions { namespace: Some(ns.clone()), ..WatchOptions::default() });
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    hub.observe(&store, move |change: &Change<ConfigMap>| {
        if change.key().name == "a" {
            let data = |o: &Option<Arc<ConfigMap>>| o.as_ref().map(|o| o.data.clone().unwrap_or_default().len());
            sink.lock().unwrap().push((data(&change.old), data(&change.new)));
        }
    });
    hub.start(&tasks);
    timeout(SOON, hub.wait_synced()).await.unwrap();

    let writer = Writer::new(&hub);
    let key = Key::new(&ns, "a");
    let mut object = config_map(&ns, "a");
    object.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    writer.create(&object).await.unwrap();
    let cached = store.get(&key).expect("the reply is in the store");
    assert_eq!(cached.metadata.managed_fields, None);
    let patch = json!({"data": {"k": "1"}});
    writer.patch::<ConfigMap>(&key, patch, &Preconditions::unchanged(&*cached)).await.unwrap();
    assert_eq!(store.get(&key).unwrap().data.as_ref().unwrap().len(), 1);
    writer.delete::<ConfigMap>(&key, &Preconditions::none()).await.unwrap();
    let cached = store.get(&key).unwrap();
    assert!(cached.metadata.deletion_timestamp.is_some());
    let patch = json!({"metadata": {"finalizers": null}});
    writer.patch::<ConfigMap>(&key, patch, &Preconditions::unchanged(&*cached)).await.unwrap();
    assert_eq!(store.get(&key), None, "the reply that took the last finalizer is the end");

    // Another writer's object marks the point up to which the watch has been read.
    Writer::uncached(hub.client().clone()).create(&config_map(&ns, "mark")).await.unwrap();
    until_true("the watch shows the mark", async || store.get(&Key::new(&ns, "mark")).is_some()).await;
    let expected = [(None, Some(0)), (Some(0), Some(1)), (Some(1), Some(1)), (Some(1), None)];
    assert_eq!(*seen.lock().unwrap(), expected, "each version was told once");
    tasks.stop();
    assert!(tasks.drained(SOON).await);
}

#[derive(Clone, Debug, serde::Deserialize)]
struct Lamp {
    metadata: ObjectMeta,
    spec: LampSpec,
}

#[derive(Clone, Debug, serde::Deserialize)]
struct LampSpec {
    /// The schema lets anything through: some lamps do not parse.
    watts: u32,
}

impl kube::Resource for Lamp {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "Lamp".into()
    }
    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "runtime-test.example.com".into()
    }
    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "lamps".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn k_96_a_missing_kind_is_waited_for_and_an_unparsable_object_is_left_out() {
    let client = client().await;
    let writer = Writer::uncached(client.clone());
    let crd_key = Key::new("", "lamps.runtime-test.example.com");
    let _ = writer.delete::<CustomResourceDefinition>(&crd_key, &Preconditions::none()).await;
    let ns = namespace(&writer, "missing").await;
    let metrics = Metrics::new();
    let hub = Hub::new(client.clone(), HubOptions { metrics: metrics.clone(), ..HubOptions::default() });
    let tasks = Tasks::new();
    let lamps = hub.store::<Lamp>(WatchOptions { namespace: Some(ns.clone()), ..WatchOptions::default() });
    let maps = hub.store::<ConfigMap>(WatchOptions { namespace: Some(ns.clone()), ..WatchOptions::default() });
    let queue = Queue::new("test");
    hub.route(&lamps, &queue, |change| vec![change.key()]);
    hub.start(&tasks);
    until_true("the kind is reported missing", async || !hub.missing().is_empty()).await;
    assert_eq!(hub.missing(), ["Lamp.runtime-test.example.com/v1"]);
    assert!(!hub.is_synced());
    until_true("the other store goes on", async || maps.is_synced()).await;

    let crd = serde_json::from_value::<CustomResourceDefinition>(json!({
        "metadata": {"name": crd_key.name},
        "spec": {
            "group": "runtime-test.example.com", "scope": "Namespaced",
            "names": {"kind": "Lamp", "plural": "lamps"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    }));
    writer.create(&crd.unwrap()).await.unwrap();
    timeout(SOON, hub.wait_synced()).await.expect("synced once the kind is served");

    let lamp = kube::core::ApiResource::erase::<Lamp>(&());
    for (name, watts) in [("bright", json!(60)), ("broken", json!("many"))] {
        let body = json!({"metadata": {"name": name, "namespace": ns}, "spec": {"watts": watts, "unread": [1]}});
        let written = writer.create_dynamic(&lamp, body).await;
        written.unwrap();
    }
    let key = timeout(SOON, queue.take()).await.unwrap().unwrap();
    assert_eq!(key.name, "bright");
    assert_eq!(lamps.get(&key).unwrap().spec.watts, 60);
    let unparsed = || metrics.render().contains("capm3_watch_unparsable_objects_total{kind=\"Lamp\"} 1");
    until_true("the unparsable lamp is counted", async || unparsed()).await;
    assert_eq!(lamps.len(), 1);
    let listed = Reader::new(client).list_dynamic(&lamp, &ListOptions::namespace(&ns)).await.unwrap();
    assert_eq!(listed.len(), 2);

    writer.delete::<Lamp>(&key, &Preconditions::none()).await.unwrap();
    queue.done(&key);
    let gone = timeout(SOON, queue.take()).await.unwrap().unwrap();
    assert_eq!((gone, lamps.len()), (key, 0));
    tasks.stop();
    assert!(tasks.drained(SOON).await);
    writer.delete::<CustomResourceDefinition>(&crd_key, &Preconditions::none()).await.unwrap();
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn k_144_of_two_candidates_one_leads_and_the_other_follows_its_release() {
    let client = client().await;
    let ns = namespace(&Writer::uncached(client.clone()), "lease").await;
    let candidate = |identity: &str| {
        let options = LeaseOptions {
            key: Key::new(&ns, "test"),
            identity: identity.into(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_millis(200),
        };
        Candidate::new(client.clone(), options, Arc::new(SystemClock), &Metrics::new()).unwrap()
    };
    let (first, second) = (candidate("a").acquire(), candidate("b").acquire());
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    let (leader, other) = tokio::select! {
        leader = &mut first => (leader, second),
        leader = &mut second => (leader, first),
    };
    let stop = CancellationToken::new();
    let hold = async { leader.hold(stop.clone()).await.ok().unwrap().release().await };
    let term = async {
        sleep(Duration::from_secs(1)).await; // several renewals of a real lease
        stop.cancel();
    };
    let all = Box::pin(async { tokio::join!(other, hold, term) });
    timeout(SOON, all).await.expect("the other follows at once");
}

/// A service account of that name, and a token of it.
async fn token(client: &Client, ns: &str, name: &str) -> String {
    let metadata = ObjectMeta { name: Some(name.into()), namespace: Some(ns.into()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    Writer::uncached(client.clone()).create(&account).await.unwrap();
    let path = format!("/api/v1/namespaces/{ns}/serviceaccounts/{name}/token");
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let request =
        http::Request::post(path).header("content-type", "application/json").body(body.to_string().into_bytes());
    let answer: serde_json::Value = client.request(request.unwrap()).await.unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn ap_6_the_api_server_says_who_may_see_metrics() {
    let client = client().await;
    let writer = Writer::uncached(client.clone());
    let ns = namespace(&writer, "diagnostics").await;
    let (reader, stranger) = (token(&client, &ns, "reader").await, token(&client, &ns, "stranger").await);
    let rules = json!([{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]);
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": ns}, "rules": rules})).unwrap();
    writer.create(&role).await.unwrap();
    let subjects = json!([{"kind": "ServiceAccount", "name": "reader", "namespace": ns}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ns});
    let binding = json!({"metadata": {"name": ns}, "roleRef": role, "subjects": subjects});
    writer.create(&serde_json::from_value::<ClusterRoleBinding>(binding).unwrap()).await.unwrap();

    let router = diagnostics(Metrics::new(), Some(client));
    let ask = async |token: Option<&str>| {
        let mut request = http::Request::get("/metrics");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = router.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        answer.status().as_u16()
    };
    for (token, code) in [(None, 401), (Some("forged"), 401), (Some(&*stranger), 403)] {
        assert_eq!(ask(token).await, code, "{token:?}");
    }
    // The API server's authorizer learns of the role by watch.
    until_true("the reader is let in", async || ask(Some(&reader)).await == 200).await;
}
