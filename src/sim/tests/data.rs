//! Data templates, claims and data as their controllers carry them on, where the API server refuses, loses or hides something.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "helpers of tests take literals, fail the test and say why"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capm3_api::names::{finalizer, label};
use capm3_sim::server::{Call, EventFate, Fate, Passing, Refusal, Seam, Verb};
use capm3_sim::world::kinds::{
    CAPI_IP_CLAIM, CLUSTER, DATA, DATA_CLAIM, DATA_TEMPLATE, HOST, IP_ADDRESS, IP_CLAIM, Kind, MACHINE, METAL3_MACHINE,
    NAMESPACE, POOL, SECRET,
};
use capm3_sim::world::{Hand, Provider, SITE, Settings, World};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Virtual time in which anything that is waited for has to happen; longer than any safety net.
const BOUND: Duration = Duration::from_secs(900);
/// Longer than it takes to try a few times.
const A_WHILE: Duration = Duration::from_secs(60);

const WEBHOOKS: Kind = Kind {
    api_version: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
};

/// The cluster `prod`, the data template `workers` with an address of the pool `prov`, the machine `m` on the host `h`, and the
/// infrastructure manager at work. Nobody else is there, so claims on addresses stay open.
struct Site {
    world: World,
    hand: Hand,
}

/// Answers one kind of request of the managers with a refusal for as long as it is in place.
struct Refusing {
    verb: Verb,
    resource: &'static str,
    code: u16,
    asked: Arc<AtomicUsize>,
}

impl Seam for Refusing {
    fn before<'a>(&'a self, call: &'a Call) -> futures::future::BoxFuture<'a, Fate> {
        let met = call.verb == self.verb
            && call.resource == self.resource
            && call.subresource.is_empty()
            && call.user.starts_with("system:serviceaccount:");
        let fate = if met {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Fate::Answer(match self.code {
                409 => Refusal::new(409, "Conflict", "somebody was faster"),
                _ => Refusal::internal("a bad day"),
            })
        } else {
            Fate::Pass
        };
        Box::pin(std::future::ready(fate))
    }
}

/// Nothing is heard of a kind of object.
struct Hidden(&'static str);

impl Seam for Hidden {
    fn event(&self, watch: &Call, _: &Passing<'_>) -> EventFate {
        if watch.resource == self.0 { EventFate::Lose } else { EventFate::Deliver }
    }
}

fn meta(name: &str, more: Value) -> Value {
    let mut meta = json!({"name": name, "labels": {label::CLUSTER_NAME: "prod"}});
    meta.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    meta
}

fn owner(kind: Kind, object: &Value) -> Value {
    let meta = &object["metadata"];
    json!([{"apiVersion": kind.api_version, "kind": kind.kind, "name": meta["name"], "uid": meta["uid"], "controller": true}])
}

fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

impl Site {
    async fn new(seed: u64) -> Self {
        let world = World::empty(Settings { seed, keep_trace: true, ..Settings::default() }).await.unwrap();
        let site = Self { hand: world.hand(), world };
        site.create(CLUSTER, json!({"metadata": {"name": "prod"}})).await;
        let item = json!([{"key": "ip", "name": "prov"}]);
        site.create(
            DATA_TEMPLATE,
            json!({"metadata": {"name": "workers"}, "spec": {"metaData": {"ipAddressesFromPool": item}}}),
        )
        .await;
        let spec = json!({"clusterName": "prod", "bootstrap": {"dataSecretName": "m"},
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "Metal3Machine", "name": "m"}});
        let machine = site.create(MACHINE, json!({"metadata": meta("m", json!({})), "spec": spec})).await;
        site.create(HOST, json!({"metadata": {"name": "h"}, "spec": {"online": true}})).await;
        let marks = json!({
            "annotations": {"metal3.io/BareMetalHost": format!("{SITE}/h")}, "ownerReferences": owner(MACHINE, &machine),
        });
        let image = json!({"url": "http://192.0.2.1/image.raw", "checksum": "abc", "diskFormat": "raw"});
        let spec = json!({"dataTemplate": {"name": "workers"}, "image": image});
        site.create(METAL3_MACHINE, json!({"metadata": meta("m", marks), "spec": spec})).await;
        site.world.start(Provider::Infra);
        site.until(DATA_TEMPLATE, "workers", "it is looked after", |template| template["status"].is_object()).await;
        site
    }

    async fn create(&self, kind: Kind, body: Value) -> Value {
        self.hand.create(kind, body).await.unwrap()
    }

    async fn until(&self, kind: Kind, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.hand.until(BOUND, (kind, name), what, wanted).await.unwrap_or_else(|stuck| {
            let trace = self.world.server.trace();
            panic!("{stuck}\n{}", trace[trace.len().saturating_sub(40)..].join("\n"))
        })
    }

    async fn gone(&self, kind: Kind, name: &str) {
        self.until(kind, name, "the end", Value::is_null).await;
    }

    /// A claim on the template as the machine controller makes it, but that the machine does not hold it.
    async fn claim(&self, name: &str) -> Value {
        let owner = owner(METAL3_MACHINE, &self.hand.get(METAL3_MACHINE, "m"));
        let metadata = meta(name, json!({"ownerReferences": owner, "finalizers": [finalizer::DATA_CLAIM]}));
        self.create(DATA_CLAIM, json!({"metadata": metadata, "spec": {"template": {"name": "workers"}}})).await
    }

    /// The claim `c`, its answer `workers-0`, and the open claim on an address that this has made.
    async fn waiting_for_an_address(&self) {
        self.claim("c").await;
        self.until(DATA_CLAIM, "c", "an answer", |claim| claim["status"]["renderedData"]["name"] == "workers-0").await;
        self.until(IP_CLAIM, "workers-0-prov", "a claim on an address", Value::is_object).await;
        sleep(Duration::from_secs(10)).await;
    }

    /// From now on; counts how often.
    fn refuse(&self, verb: Verb, resource: &'static str, code: u16) -> Arc<AtomicUsize> {
        let asked = Arc::<AtomicUsize>::default();
        self.world.server.set_seam(Arc::new(Refusing { verb, resource, code, asked: asked.clone() }));
        asked
    }

    fn calm(&self) {
        self.world.server.set_seam(Arc::new(capm3_sim::server::Calm));
    }

    /// What a departing `workers-0` does while requests of this kind are refused: it keeps its finalizer and tries again, and once
    /// they are not, it goes. Returns the claim on the address as it was before and while that went on.
    async fn departs_in_spite_of(&self, verb: Verb, code: u16) -> (Value, Value) {
        self.waiting_for_an_address().await;
        let before = self.hand.get(IP_CLAIM, "workers-0-prov");
        let asked = self.refuse(verb, "ipclaims", code);
        self.hand.delete(DATA_CLAIM, "c").await.unwrap();
        self.gone(DATA_CLAIM, "c").await;
        sleep(A_WHILE).await;
        assert!(asked.load(Ordering::Relaxed) > 1, "it was tried again");
        let data = self.hand.get(DATA, "workers-0");
        assert!(
            finalizers(&data).contains(&finalizer::DATA) && data["metadata"]["deletionTimestamp"].is_string(),
            "{data:#}"
        );
        let meanwhile = self.hand.get(IP_CLAIM, "workers-0-prov");
        self.calm();
        self.gone(DATA, "workers-0").await;
        let after = self.hand.get(IP_CLAIM, "workers-0-prov");
        assert_eq!(finalizers(&after), [finalizer::IP_CLAIM], "what is left is for the address manager");
        assert!(after["metadata"]["deletionTimestamp"].is_string());
        (before, meanwhile)
    }
}

#[tokio::test(start_paused = true)]
async fn td_1_finalizers_come_once_and_go() {
    let site = Site::new(1).await;
    let held = |object: &Value| finalizers(object) == [finalizer::DATA_TEMPLATE];
    site.until(DATA_TEMPLATE, "workers", "its finalizer", held).await;
    // By hand, so that nothing is there from its creation.
    let spec = json!({"index": 7, "template": {"name": "workers"}, "claim": {"name": "none"}});
    site.create(DATA, json!({"metadata": meta("workers-7", json!({})), "spec": spec})).await;
    let held = |object: &Value| finalizers(object) == [finalizer::DATA];
    site.until(DATA, "workers-7", "its finalizer", held).await;
    sleep(A_WHILE).await;
    assert!(held(&site.hand.get(DATA, "workers-7")), "once");
    for (kind, name) in [(DATA, "workers-7"), (DATA_TEMPLATE, "workers")] {
        site.hand.delete(kind, name).await.unwrap();
        site.gone(kind, name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn td_2_the_finalizers_of_others_stay() {
    let site = Site::new(2).await;
    let others = json!({"finalizers": ["foo"]});
    let template = json!({"metadata": {"name": "held", "finalizers": ["foo"]}, "spec": {"metaData": {}}});
    site.create(DATA_TEMPLATE, template).await;
    let spec = json!({"index": 7, "template": {"name": "held"}, "claim": {"name": "none"}});
    site.create(DATA, json!({"metadata": meta("held-7", others), "spec": spec})).await;
    for (kind, name, ours) in [(DATA, "held-7", finalizer::DATA), (DATA_TEMPLATE, "held", finalizer::DATA_TEMPLATE)] {
        site.until(kind, name, "both", |object| finalizers(object) == ["foo", ours]).await;
        site.hand.delete(kind, name).await.unwrap();
        site.until(kind, name, "theirs alone", |object| finalizers(object) == ["foo"]).await;
        site.hand.patch(kind, name, json!({"metadata": {"finalizers": null}})).await.unwrap();
        site.gone(kind, name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn td_37_a_release_that_loses_a_race_is_tried_again() {
    Site::new(37).await.departs_in_spite_of(Verb::Patch, 409).await;
}

#[tokio::test(start_paused = true)]
async fn td_38_a_release_that_fails_keeps_the_finalizer() {
    Site::new(38).await.departs_in_spite_of(Verb::Patch, 500).await;
}

#[tokio::test(start_paused = true)]
async fn td_75_a_claim_is_let_go_before_it_is_deleted() {
    let (before, meanwhile) = Site::new(75).await.departs_in_spite_of(Verb::Delete, 500).await;
    assert_eq!(finalizers(&before), [finalizer::DATA, finalizer::IP_CLAIM]);
    assert_eq!(finalizers(&meanwhile), [finalizer::IP_CLAIM]);
    assert!(meanwhile["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(start_paused = true)]
async fn td_76_nothing_is_given_back_when_the_claims_cannot_be_listed() {
    let (before, meanwhile) = Site::new(76).await.departs_in_spite_of(Verb::List, 500).await;
    assert_eq!(version(&meanwhile), version(&before));
}

#[tokio::test(start_paused = true)]
async fn td_78_claims_of_another_namespace_are_not_touched() {
    let site = Site::new(78).await;
    site.create(NAMESPACE, json!({"metadata": {"name": "other-namespace"}})).await;
    let mut labels = json!({label::CLUSTER_NAME: "prod"});
    labels[label::DATA_NAME] = "workers-0".into();
    labels[label::POOL_NAME] = "prov".into();
    let labelled = |namespace: &str, name: &str| {
        let held = json!({"name": name, "namespace": namespace, "labels": labels, "finalizers": [finalizer::DATA]});
        json!({"metadata": held, "spec": {"pool": {"name": "prov", "namespace": namespace}}})
    };
    let there = Hand::new(site.world.server.clone(), capm3_sim::server::User::admin(), "other-namespace");
    for name in ["workers-0-prov", "h-prov"] {
        there.create(IP_CLAIM, labelled("other-namespace", name)).await.unwrap();
    }
    site.create(IP_CLAIM, labelled(SITE, "h-prov")).await;
    site.waiting_for_an_address().await;
    let before = ["workers-0-prov", "h-prov"].map(|name| version(&there.get(IP_CLAIM, name)).clone());
    site.hand.delete(DATA_CLAIM, "c").await.unwrap();
    site.gone(DATA, "workers-0").await;
    site.gone(IP_CLAIM, "h-prov").await;
    sleep(A_WHILE).await;
    assert_eq!(["workers-0-prov", "h-prov"].map(|name| version(&there.get(IP_CLAIM, name)).clone()), before);
}

/// Hazard HD-5. Admission refuses such a claim; it is there from a time without.
#[tokio::test(start_paused = true)]
async fn td_125_a_claim_without_a_template_stands_in_nobodys_way() {
    let site = Site::new(125).await;
    let admin = Hand::new(site.world.server.clone(), capm3_sim::server::User::admin(), "");
    for configuration in site.world.server.all(&WEBHOOKS.filed()) {
        let name = configuration["metadata"]["name"].as_str().unwrap();
        admin.delete(WEBHOOKS, name).await.unwrap();
    }
    let odd = site.create(DATA_CLAIM, json!({"metadata": meta("a-first", json!({})), "spec": {}})).await;
    site.claim("c").await;
    site.until(DATA_CLAIM, "c", "an answer", |claim| claim["status"]["renderedData"]["name"] == "workers-0").await;
    sleep(A_WHILE).await;
    assert_eq!(version(&site.hand.get(DATA_CLAIM, "a-first")), version(&odd), "it is skipped");
}

/// Hazard HD-10: only that there is none lets a claim go without its data.
#[tokio::test(start_paused = true)]
async fn td_128_a_claim_is_held_while_its_data_cannot_be_looked_at() {
    let site = Site::new(128).await;
    // It was never answered, so that only the API server can tell that there is no data of it.
    let unanswered = meta("nobodys", json!({"finalizers": [finalizer::DATA_CLAIM]}));
    site.create(DATA_CLAIM, json!({"metadata": unanswered, "spec": {"template": {"name": "workers"}}})).await;
    site.waiting_for_an_address().await;

    // One is there and cannot be let go, the other cannot be looked for.
    for (verb, claim) in [(Verb::Patch, "c"), (Verb::List, "nobodys")] {
        let asked = site.refuse(verb, "metal3datas", 500);
        site.hand.delete(DATA_CLAIM, claim).await.unwrap();
        sleep(A_WHILE).await;
        assert!(asked.load(Ordering::Relaxed) > 1, "it was tried again");
        let held = site.hand.get(DATA_CLAIM, claim);
        assert_eq!(finalizers(&held), [finalizer::DATA_CLAIM], "{held:#}");
        site.calm();
        site.gone(DATA_CLAIM, claim).await;
    }
    site.gone(DATA, "workers-0").await;
}

/// A user deletes the data of a machine that runs, and the manager's cache does not know of the claim.
#[tokio::test(start_paused = true)]
async fn d_47_a_claim_that_the_cache_does_not_show_holds_its_data() {
    let site = Site::new(47).await;
    site.world.server.set_seam(Arc::new(Hidden("metal3dataclaims")));
    let claim = site.claim("c").await;
    let held =
        json!({"ownerReferences": owner(DATA_CLAIM, &claim), "finalizers": [finalizer::DATA_CLAIM, finalizer::DATA]});
    let spec = json!({"index": 0, "template": {"name": "workers"}, "claim": {"name": "c"}});
    let data = site.create(DATA, json!({"metadata": meta("workers-0", held), "spec": spec})).await;
    site.hand.patch_status(DATA, "workers-0", json!({"ready": true})).await.unwrap();
    let of_data = json!({"ownerReferences": owner(DATA, &data), "finalizers": [finalizer::DATA]});
    let address = json!({"metadata": meta("workers-0-prov", of_data), "spec": {"pool": {"name": "prov"}}});
    let address = site.create(IP_CLAIM, address).await;
    sleep(A_WHILE).await;

    site.hand.delete(DATA, "workers-0").await.unwrap();
    sleep(BOUND).await;
    let kept = site.hand.get(IP_CLAIM, "workers-0-prov");
    assert_eq!(version(&kept), version(&address), "the machine uses it: {kept:#}");
    site.hand.delete(DATA_CLAIM, "c").await.unwrap();
    site.calm();
    site.world.server.restart(); // the watches begin anew, and show the claim on its way
    site.gone(DATA, "workers-0").await;
    site.gone(IP_CLAIM, "workers-0-prov").await;
}

/// A request of a manager that stood still arrives after everything else is over.
#[tokio::test(start_paused = true)]
async fn claims_that_come_after_the_end_of_their_data_are_let_go() {
    let site = Site::new(3).await;
    site.claim("c").await; // and another Metal3Data of the name may be there by then
    site.until(DATA, "workers-0", "the data of another claim", Value::is_object).await;
    for (kind, data, pool) in [
        (IP_CLAIM, "workers-5", json!({"pool": {"name": "prov"}})),
        (CAPI_IP_CLAIM, "workers-5", json!({"poolRef": {"apiGroup": "other.io", "kind": "OtherPool", "name": "prov"}})),
        (IP_CLAIM, "workers-0", json!({"pool": {"name": "prov"}})),
    ] {
        let gone = json!({"metadata": {"name": data, "uid": "00000000-0000-4000-8000-000000000000"}});
        let late = json!({"ownerReferences": owner(DATA, &gone), "finalizers": [finalizer::DATA, "example.com/other"]});
        site.create(kind, json!({"metadata": meta("late", late), "spec": pool})).await;
        sleep(A_WHILE).await;
        assert!(finalizers(&site.hand.get(kind, "late")).contains(&finalizer::DATA), "nobody wants it gone");
        site.world.server.settle(); // its owner is not there
        site.until(kind, "late", "only others hold it", |claim| finalizers(claim) == ["example.com/other"]).await;
        site.hand.patch(kind, "late", json!({"metadata": {"finalizers": null}})).await.unwrap();
        site.gone(kind, "late").await;
    }
}

/// Hazard HD-18, by a look: there is no right to watch Secrets.
#[tokio::test(start_paused = true)]
async fn hd_18_a_lost_secret_is_made_again_until_the_machine_is_provisioned() {
    let site = Site::new(18).await;
    let template =
        json!({"metadata": {"name": "plain"}, "spec": {"metaData": {"strings": [{"key": "a", "value": "b"}]}}});
    site.create(DATA_TEMPLATE, template).await;
    site.hand.patch(METAL3_MACHINE, "m", json!({"spec": {"dataTemplate": {"name": "plain"}}})).await.unwrap();
    let owner = owner(METAL3_MACHINE, &site.hand.get(METAL3_MACHINE, "m"));
    let metadata = meta("c", json!({"ownerReferences": owner}));
    site.create(DATA_CLAIM, json!({"metadata": metadata, "spec": {"template": {"name": "plain"}}})).await;
    site.until(DATA, "plain-0", "it is rendered", |data| data["status"]["ready"] == true).await;
    let first = site.hand.get(SECRET, "m-metadata");

    site.hand.delete(SECRET, "m-metadata").await.unwrap();
    let again = site.until(SECRET, "m-metadata", "another", Value::is_object).await;
    assert_eq!((&again["data"], &again["type"]), (&first["data"], &first["type"]));
    assert_ne!(again["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(site.hand.get(DATA, "plain-0")["status"]["ready"], true);

    site.hand.patch_status(METAL3_MACHINE, "m", json!({"initialization": {"provisioned": true}})).await.unwrap();
    site.hand.delete(SECRET, "m-metadata").await.unwrap();
    sleep(2 * BOUND).await;
    assert!(site.hand.get(SECRET, "m-metadata").is_null(), "nobody reads it, and it is not what was booted with");
}

/// From the claim on; that the claim has the labels of its Metal3Machine is the machine's to show.
#[tokio::test(start_paused = true)]
async fn d_35_labels_are_handed_down_to_the_address() {
    let site = Site::new(69).await;
    site.world.start(Provider::Ipam);
    let range = json!([{"start": "192.0.2.10", "end": "192.0.2.20"}]);
    let spec = json!({"namePrefix": "prov", "prefix": 24, "gateway": "192.0.2.1", "pools": range});
    site.create(POOL, json!({"metadata": {"name": "prov"}, "spec": spec})).await;
    let owner = owner(METAL3_MACHINE, &site.hand.get(METAL3_MACHINE, "m"));
    let labels = json!({label::CLUSTER_NAME: "prod", "rack": "12"});
    let metadata = json!({"name": "c", "labels": labels, "ownerReferences": owner});
    site.create(DATA_CLAIM, json!({"metadata": metadata, "spec": {"template": {"name": "workers"}}})).await;
    site.until(DATA, "workers-0", "it is rendered", |data| data["status"]["ready"] == true).await;
    for (kind, name) in [(DATA, "workers-0"), (IP_CLAIM, "workers-0-prov"), (IP_ADDRESS, "prov-192-0-2-10")] {
        let object = site.hand.get(kind, name);
        assert_eq!(object["metadata"]["labels"]["rack"], "12", "{object:#}");
        assert_eq!(object["metadata"]["labels"][label::CLUSTER_NAME], "prod", "{object:#}");
    }
    let secret = site.hand.get(SECRET, "m-metadata");
    assert_eq!(secret["metadata"]["labels"], json!({label::CLUSTER_NAME: "prod"}), "{secret:#}");
}

/// A Secret of an earlier Metal3Data is not written over: it goes with its owner (HD-18), and then all of it is as asked for.
#[tokio::test(start_paused = true)]
async fn a_x_8_a_secret_is_made_as_asked_for_and_one_of_before_replaced() {
    for is_there in [false, true] {
        let site = Site::new(70).await;
        site.world.start(Provider::Ipam);
        let range = json!([{"start": "192.0.2.10", "end": "192.0.2.20"}]);
        let spec = json!({"namePrefix": "prov", "prefix": 24, "gateway": "192.0.2.1", "pools": range});
        site.create(POOL, json!({"metadata": {"name": "prov"}, "spec": spec})).await;
        let before = json!({
            "name": "m-metadata", "labels": {"of": "before"},
            "ownerReferences": owner(DATA, &json!({"metadata": {"name": "workers-0", "uid": "00000000-0000-4000-8000-000000000000"}})),
        });
        if is_there {
            let content = json!({"metaData": "old", "more": "old"});
            site.create(SECRET, json!({"metadata": before, "stringData": content})).await;
        }
        site.claim("c").await;
        if is_there {
            sleep(A_WHILE).await;
            assert_ne!(site.hand.get(DATA, "workers-0")["status"]["ready"], true);
            assert_eq!(site.hand.get(SECRET, "m-metadata")["metadata"]["labels"], before["labels"]);
            site.world.server.settle();
        }
        let data = site.until(DATA, "workers-0", "it is rendered", |data| data["status"]["ready"] == true).await;
        let secret = site.hand.get(SECRET, "m-metadata");
        assert_eq!(secret["metadata"]["labels"], json!({label::CLUSTER_NAME: "prod"}));
        let owners = secret["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!((owners.len(), &owners[0]["uid"]), (1, &data["metadata"]["uid"]));
        assert_eq!(secret["data"].as_object().unwrap().keys().collect::<Vec<_>>(), ["metaData"]);
    }
}
