//! Each invariant, broken by a few writes made by hand and kept by others: one that can never fire would go unnoticed.

use std::sync::Arc;

use capm3_api::names::{annotation, finalizer};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::seen::{Seen, What, Who};
use super::{AT_REST, MARKER, State, checks_of};
use crate::server::{Fence, Verb};

const INFRA: &str = "infrastructure.cluster.x-k8s.io/v1beta2";

/// A world in which every write is made up.
#[derive(Default)]
struct Scene {
    state: State,
    revision: u64,
    now: i64,
}

impl Scene {
    fn new() -> Self {
        Self::default()
    }

    /// Somebody else writes.
    fn given(&mut self, what: What, object: Value) -> &mut Self {
        self.write(Who::Other, Fence::None, what, object)
    }

    /// A provider writes under the version it has read.
    fn by(&mut self, who: Who, what: What, object: Value) -> &mut Self {
        self.write(who, Fence::Version, what, object)
    }

    fn write(&mut self, who: Who, fence: Fence, what: What, object: Value) -> &mut Self {
        let path = super::seen::path(
            object["metadata"]["namespace"].as_str().unwrap_or_default(),
            object["metadata"]["name"].as_str().unwrap(),
        );
        let verb = if self.state.memory.get(what, &path).is_some() { Verb::Patch } else { Verb::Create };
        self.see(who, fence, verb, what, &path, Some(object))
    }

    /// A change of what is there.
    fn change(&mut self, who: Who, what: What, name: &str, change: impl FnOnce(&mut Value)) -> &mut Self {
        let mut object = Value::clone(self.state.memory.get(what, &format!("ns/{name}")).unwrap());
        change(&mut object);
        self.by(who, what, object)
    }

    /// The last finalizer is taken away, or a delete finds none.
    fn ends(&mut self, who: Who, verb: Verb, what: What, name: &str) -> &mut Self {
        self.see(who, Fence::Version, verb, what, &format!("ns/{name}"), None)
    }

    fn see(&mut self, who: Who, fence: Fence, verb: Verb, what: What, path: &str, object: Option<Value>) -> &mut Self {
        self.revision += 1;
        let old = self.state.memory.get(what, path).cloned();
        let new = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = self.revision.to_string().into();
            Arc::new(object)
        });
        let on_status = old.as_ref().zip(new.as_ref()).is_some_and(|(old, new)| {
            old["spec"] == new["spec"]
                && old["metadata"]["finalizers"] == new["metadata"]["finalizers"]
                && old["status"] != new["status"]
        });
        self.state.see(&Seen {
            what,
            who,
            verb,
            fence,
            on_status,
            path: path.to_owned(),
            resource: what.resource().split('.').next().unwrap(),
            revision: self.revision,
            now: Timestamp::from_second(self.now).unwrap(),
            old: old.as_ref(),
            new: new.as_ref(),
        });
        self
    }

    #[track_caller]
    fn breaks(&mut self, invariant: &str) {
        let found = std::mem::take(&mut self.state.violations);
        assert!(found.iter().any(|one| one.invariant == invariant && one.revision == self.revision), "{found:#?}");
    }

    #[track_caller]
    fn holds(&mut self) -> &mut Self {
        assert_eq!(self.state.violations, []);
        self
    }

    #[track_caller]
    fn rests(&mut self) -> &mut Self {
        assert_eq!(self.state.at_rest(self.revision), []);
        self
    }

    #[track_caller]
    fn rests_badly(&mut self, invariant: &str) {
        let found = self.state.at_rest(self.revision);
        assert!(found.iter().any(|one| one.invariant == invariant), "{found:#?}");
    }
}

fn object(name: &str, rest: Value) -> Value {
    let mut object =
        json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1}});
    merge(&mut object, rest);
    object
}

fn merge(into: &mut Value, rest: Value) {
    match rest {
        Value::Object(members) => members.into_iter().for_each(|(key, value)| merge(&mut into[key], value)),
        value => *into = value,
    }
}

fn leaves(object: &mut Value) {
    object["metadata"]["deletionTimestamp"] = "2026-08-01T00:00:00Z".into();
}

fn without_finalizers(object: &mut Value) {
    object["metadata"]["finalizers"] = json!([]);
}

fn owner(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": INFRA, "kind": kind, "name": name, "uid": format!("uid-{name}")}])
}

/// An available host.
fn host(name: &str) -> Value {
    object(name, json!({"spec": {"online": true}, "status": {"provisioning": {"state": "available"}}}))
}

/// A machine that goes for a host.
fn machine(name: &str, host: &str) -> Value {
    let metadata = json!({
        "annotations": {annotation::HOST: format!("ns/{host}")}, "finalizers": [finalizer::MACHINE],
        "ownerReferences": owner("Machine", name),
    });
    object(name, json!({"metadata": metadata, "spec": {"image": {"url": "http://site/image"}}}))
}

fn consumer(machine: &str) -> Value {
    json!({"apiVersion": INFRA, "kind": "Metal3Machine", "namespace": "ns", "name": machine})
}

fn claimed(host: &str, machine: &str) -> Value {
    let mut host = self::host(host);
    host["spec"]["consumerRef"] = consumer(machine);
    host
}

fn deploy(host: &mut Value) {
    host["spec"]["image"] = json!({"url": "http://site/image"});
    host["spec"]["userData"] = json!({"name": "user", "namespace": "ns"});
}

/// A machine with its host, claimed and running.
fn running() -> Scene {
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1")).given(What::Host, host("h1"));
    scene.by(Who::Infra, What::Host, claimed("h1", "m1")).change(Who::Infra, What::Host, "h1", deploy).holds();
    scene
}

#[test]
fn i1_a_host_changes_hands_only_by_a_release() {
    running()
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = consumer("m2"))
        .breaks("i1_one_consumer");
    running()
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = Value::Null)
        .breaks("i1_one_consumer");
    let foreign = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "HostClaim", "namespace": "ns", "name": "x"});
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1"));
    scene.given(What::Host, object("h1", json!({"spec": {"consumerRef": foreign}})));
    scene.by(Who::Infra, What::Host, claimed("h1", "m1")).breaks("i1_one_consumer");

    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", leaves);
    scene.change(Who::Infra, What::Host, "h1", |host| {
        for field in ["image", "userData"] {
            host["spec"].as_object_mut().unwrap().shift_remove(field);
        }
    });
    scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = Value::Null).holds();
    scene.given(What::Machine, machine("m2", "h1")).by(Who::Infra, What::Host, claimed("h1", "m2")).holds();
}

#[test]
fn i2_an_address_is_held_once_whatever_the_kind() {
    let capi = json!({"spec": {"address": "192.0.2.10", "claimRef": {"name": "b"},
                               "poolRef": {"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": "p"}}});
    let mut scene = pool_with(&[("a", "192.0.2.10"), ("b", "192.0.2.10")]);
    scene.by(Who::Ipam, What::Address, address("a", "192.0.2.10")).holds();
    scene.by(Who::Ipam, What::CapiAddress, object("p-10", capi.clone())).breaks("i2_one_holder");
    let mut scene = pool_with(&[("a", "192.0.2.10"), ("b", "192.0.2.10")]);
    let mut other = capi;
    other["spec"]["poolRef"]["kind"] = "OtherPool".into();
    scene.by(Who::Ipam, What::Address, address("a", "192.0.2.10"));
    scene.by(Who::Infra, What::CapiAddress, object("p-10", other)).holds();
}

#[test]
fn i2_a_claim_is_answered_with_its_own_address() {
    let answer = |claim: &mut Value| claim["status"]["address"] = json!({"name": "p-192.0.2.10", "namespace": "ns"});
    for (claim, wrong) in [("b", true), ("a", false)] {
        let mut scene = pool_with(&[("a", "192.0.2.10")]);
        scene.given(What::Claim, object(claim, json!({"spec": {"pool": {"name": "p"}}})));
        scene.by(Who::Ipam, What::Address, address("a", "192.0.2.10"));
        scene.change(Who::Ipam, What::Claim, claim, answer);
        if wrong {
            scene.breaks("i2_own_address")
        } else {
            scene.holds();
        }
    }
}

/// A pool of .10 to .20 with .1 as its gateway, in which these claims have reserved.
fn pool_with(reserved: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::new();
    scene.given(What::Pool, pool());
    let list: Value = reserved
        .iter()
        .map(|(claim, address)| ((*claim).to_owned(), json!(address)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    scene.given(What::Pool, {
        let mut pool = pool();
        pool["status"]["indexes"] = list;
        pool
    });
    scene
}

fn pool() -> Value {
    let ranges = json!([{"start": "192.0.2.10", "end": "192.0.2.20"}]);
    let metadata = json!({"finalizers": [finalizer::IP_POOL]});
    let spec = json!({"pools": ranges, "gateway": "192.0.2.15", "preAllocations": {"kept": "192.0.2.12"}});
    object("p", json!({"metadata": metadata, "spec": spec}))
}

fn address(claim: &str, at: &str) -> Value {
    let metadata = json!({"finalizers": [finalizer::IP_ADDRESS], "ownerReferences": owner("IPClaim", claim)});
    object(
        &format!("p-{at}"),
        json!({"metadata": metadata, "spec": {"address": at, "claim": {"name": claim}, "pool": {"name": "p"}}}),
    )
}

#[test]
fn i15_a_pool_gives_what_is_its_to_give() {
    let reserve = |claim: &str, at: &str| {
        let mut scene = Scene::new();
        scene.given(What::Pool, pool());
        let wish = object(
            "wish",
            json!({"metadata": {"annotations": {"ipAddress": "192.0.2.19"}}, "spec": {"pool": {"name": "p"}}}),
        );
        scene.given(What::Claim, wish);
        scene.change(Who::Ipam, What::Pool, "p", |pool| pool["status"]["indexes"][claim] = at.into());
        scene
    };
    for (claim, at) in [
        ("a", "192.0.2.9"),
        ("a", "192.0.2.15"),
        ("a", "192.0.2.12"),
        ("kept", "192.0.2.10"),
        ("wish", "192.0.2.10"),
        ("a", "x"),
    ] {
        reserve(claim, at).breaks("i15_reservable");
    }
    for (claim, at) in [("a", "192.0.2.10"), ("a", "192.0.2.20"), ("kept", "192.0.2.12"), ("wish", "192.0.2.19")] {
        reserve(claim, at).holds();
    }
    let of_range = |range: Value, at: &str| {
        let mut scene = Scene::new();
        let mut pool = pool();
        pool["spec"]["pools"] = json!([range]);
        scene.given(What::Pool, pool);
        scene.change(Who::Ipam, What::Pool, "p", |pool| pool["status"]["indexes"]["a"] = at.into());
        scene.state.violations.is_empty()
    };
    let subnet = || json!({"subnet": "192.0.2.64/28"});
    assert!(of_range(subnet(), "192.0.2.65") && of_range(subnet(), "192.0.2.79"));
    assert!(
        !of_range(subnet(), "192.0.2.64") && !of_range(subnet(), "192.0.2.80") && !of_range(subnet(), "2001:db8::1")
    );
    assert!(of_range(json!({"subnet": "2001:db8::/32"}), "2001:db8:ffff::1"));
    assert!(!of_range(json!({"subnet": "192.0.2.64/28", "end": "192.0.2.66"}), "192.0.2.67"));
    assert!(!of_range(json!({"end": "192.0.2.66"}), "192.0.2.65"));
}

#[test]
fn i15_an_address_is_reserved_before_it_is_made() {
    let made = |reserved: &[(&str, &str)], claimed: bool| {
        let mut scene = pool_with(reserved);
        if claimed {
            scene.given(What::Claim, object("a", json!({"spec": {"pool": {"name": "p"}}})));
        }
        scene.by(Who::Ipam, What::Address, address("a", "192.0.2.10"));
        scene
    };
    made(&[], true).breaks("i15_reserved_first");
    made(&[("b", "192.0.2.10")], true).breaks("i15_reserved_first");
    made(&[("a", "192.0.2.10")], true).holds();
    made(&[], false).holds(); // its claim is gone, and so will it be
}

fn data(index: u32, claim: &str) -> Value {
    let metadata = json!({"finalizers": [finalizer::DATA_CLAIM, finalizer::DATA], "ownerReferences": owner("Metal3DataClaim", claim)});
    object(
        &format!("t-{index}"),
        json!({"metadata": metadata, "spec": {"index": index, "template": {"name": "t"}, "claim": {"name": claim}}}),
    )
}

fn data_claim(name: &str) -> Value {
    let metadata = json!({"finalizers": [finalizer::MACHINE, finalizer::DATA_CLAIM], "ownerReferences": owner("Metal3Machine", name)});
    let mut claim = object(name, json!({"metadata": metadata, "spec": {"template": {"name": "t"}}}));
    claim["metadata"]["uid"] = format!("uid-claim-{name}").into();
    claim
}

fn answering(index: u32, claim: &str) -> Value {
    let mut data = data(index, claim);
    data["metadata"]["ownerReferences"][0]["uid"] = format!("uid-claim-{claim}").into();
    data
}

#[test]
fn i3_an_index_has_one_data() {
    let mut scene = Scene::new();
    scene.by(Who::Infra, What::Data, answering(0, "c1")).by(Who::Infra, What::Data, answering(1, "c2")).holds();
    let mut twin = answering(1, "c3");
    twin["metadata"]["name"] = "other-1".into();
    scene.by(Who::Infra, What::Data, twin).breaks("i3_one_index");
}

#[test]
fn i3_a_claim_has_one_data_that_counts() {
    let ready = |data: &mut Value| data["status"]["ready"] = true.into();
    let two = |named: Option<&str>| {
        let mut claim = data_claim("m1");
        claim["status"]["renderedData"] = named.map_or(Value::Null, |name| json!({"name": name}));
        let mut scene = Scene::new();
        scene.given(What::Machine, machine("m1", "h1")).given(What::DataClaim, claim);
        scene.by(Who::Infra, What::Data, answering(0, "m1")).by(Who::Infra, What::Data, answering(1, "m1"));
        scene
    };
    two(None).holds().rests_badly("i3_one_data_left");
    two(Some("t-0")).change(Who::Infra, What::Data, "t-1", ready).breaks("i3_one_data");
    let mut scene = two(None);
    scene.change(Who::Infra, What::Data, "t-0", ready).holds();
    scene.change(Who::Infra, What::Data, "t-1", ready).breaks("i3_one_data");
    let mut scene = two(Some("t-0"));
    scene.change(Who::Infra, What::Data, "t-0", ready).change(Who::Infra, What::Data, "t-1", leaves);
    scene.ends(Who::Infra, Verb::Patch, What::Data, "t-1");
    scene.state.violations.clear();
    scene.rests();
}

#[test]
fn i4_what_is_left_of_what_is_gone_is_found() {
    let mut scene = running();
    scene.rests().ends(Who::Infra, Verb::Patch, What::Machine, "m1").rests_badly("i4_nothing_left");
    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", without_finalizers).ends(
        Who::Other,
        Verb::Delete,
        What::Machine,
        "m1",
    );
    scene.rests(); // somebody took the finalizer off

    let mut scene = running();
    scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = Value::Null);
    scene.rests_badly("i4_nothing_left"); // with the image on it

    for (what, object) in [
        (What::Data, answering(0, "c1")),
        (What::DataClaim, data_claim("m9")),
        (What::Address, address("a", "192.0.2.10")),
        (What::Claim, object("c", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}))),
        (What::Secret, object("s", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}))),
    ] {
        Scene::new().by(Who::Infra, what, object).rests_badly("i4_nothing_left");
    }
    let mut scene = Scene::new();
    scene.given(What::DataClaim, data_claim("m1")).given(What::Machine, machine("m1", "h1")).rests();
}

#[test]
fn i4_what_does_not_go_is_found() {
    let going = |mut object: Value| {
        leaves(&mut object);
        object
    };
    for (what, object) in [
        (What::Machine, machine("m1", "h1")),
        (What::Pool, pool()),
        (What::Claim, object("c", json!({"metadata": {"finalizers": [finalizer::IP_CLAIM]}}))),
        (What::DataTemplate, object("t", json!({"metadata": {"finalizers": [finalizer::DATA_TEMPLATE]}}))),
        (What::Metal3Cluster, object("k", json!({"metadata": {"finalizers": [finalizer::CLUSTER]}}))),
    ] {
        Scene::new().given(what, going(object)).rests_badly("i4_nothing_stuck");
    }
    let mut busy = claimed("h1", "m1");
    busy["status"]["provisioning"]["state"] = "deprovisioning".into();
    Scene::new().given(What::Machine, going(machine("m1", "h1"))).given(What::Host, busy).rests();
    let mut paused = going(pool());
    paused["metadata"]["annotations"] = json!({annotation::PAUSED: ""});
    Scene::new().given(What::Pool, paused).rests();
}

#[test]
fn i5_what_is_in_a_secret_is_nowhere_else() {
    use base64::Engine;
    let encoded = |before: &str| base64::engine::general_purpose::STANDARD.encode(format!("{before}{MARKER} and more"));
    for leak in [format!("cannot parse {MARKER}!"), encoded(""), encoded("a"), encoded("ab"), encoded("abc")] {
        let status = json!({"status": {"errorMessage": leak}});
        Scene::new()
            .given(What::Claim, object("c", json!({})))
            .by(Who::Ipam, What::Claim, object("c", status))
            .breaks("i5_no_secret_content");
        let event = json!({"reason": "R", "message": leak, "involvedObject": {"namespace": "ns", "name": "x"}});
        Scene::new().by(Who::Infra, What::Event, object("e", event)).breaks("i5_no_secret_content");
    }
    let secret = object(
        "s",
        json!({"data": {"value": encoded("")}, "metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}),
    );
    Scene::new().by(Who::Infra, What::Secret, secret).holds();
}

#[test]
fn i7_only_the_machine_that_has_a_host_decides_about_it() {
    Scene::new().given(What::Host, host("h1")).change(Who::Infra, What::Host, "h1", deploy).breaks("i7_exact_consumer");
    // It lives, and is cleared.
    running()
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["image"] = Value::Null)
        .breaks("i7_exact_consumer");
    // A later machine of that name, which knows nothing of the host.
    let mut scene = running();
    let mut later = machine("m1", "h1");
    later["metadata"]["uid"] = "later".into();
    later["metadata"]["annotations"] = Value::Null;
    scene.ends(Who::Infra, Verb::Patch, What::Machine, "m1");
    scene.state.violations.clear();
    scene
        .given(What::Machine, later)
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["online"] = false.into());
    scene.breaks("i7_exact_consumer");
    let image = json!({"url": "http://elsewhere/image"});
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1")).given(What::Host, claimed("h1", "m1"));
    scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["image"] = image).breaks("i7_exact_consumer");
    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", leaves);
    scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["image"] = Value::Null).holds();
}

#[test]
fn i8_a_machine_has_one_host() {
    let mut scene = running();
    scene.given(What::Host, host("h2")).by(Who::Infra, What::Host, claimed("h2", "m1")).breaks("i8_one_host");
    let mut scene = running();
    scene.given(What::Host, host("h2")).given(What::Machine, machine("m2", "h2"));
    scene.by(Who::Infra, What::Host, claimed("h2", "m2")).holds();
}

#[test]
fn i9_only_a_free_host_that_is_well_is_claimed() {
    let claim = |host: Value, machine: Value| {
        let mut scene = Scene::new();
        scene.given(What::Machine, machine).given(What::Host, host);
        scene.change(Who::Infra, What::Host, "h1", |host| host["spec"]["consumerRef"] = consumer("m1"));
        scene
    };
    let with = |rest: Value| {
        let mut host = host("h1");
        merge(&mut host, rest);
        host
    };
    let annotated = |key: &str| with(json!({"metadata": {"annotations": {key: ""}}}));
    claim(host("h1"), machine("m1", "h1")).holds();
    for host in [
        with(json!({"metadata": {"deletionTimestamp": "2026-08-01T00:00:00Z"}})),
        annotated(annotation::HOST_PAUSED),
        annotated(annotation::HOST_DETACHED),
        annotated(annotation::UNHEALTHY),
        with(json!({"status": {"errorMessage": "broken"}})),
        with(json!({"status": {"provisioning": {"state": "inspecting"}}})),
        with(json!({"spec": {"image": {"url": "x"}}})),
        with(json!({"metadata": {"labels": {"infrastructure.cluster.x-k8s.io/node-reuse": "md-other"}}})),
    ] {
        claim(host, machine("m1", "h1")).breaks("i9_claimable");
    }
    let selecting = |selector: Value| {
        let mut machine = machine("m1", "h1");
        machine["spec"]["hostSelector"] = selector;
        machine
    };
    let gold = || with(json!({"metadata": {"labels": {"rack": "gold"}}}));
    claim(gold(), selecting(json!({"matchLabels": {"rack": "gold"}}))).holds();
    claim(host("h1"), selecting(json!({"matchLabels": {"rack": "gold"}}))).breaks("i9_claimable");
    let expression =
        |operator: &str| json!({"matchExpressions": [{"key": "rack", "operator": operator, "values": ["gold"]}]});
    claim(gold(), selecting(expression("in"))).holds();
    claim(gold(), selecting(expression("NotIn"))).breaks("i9_claimable");
    claim(host("h1"), machine("m1", "h2")).breaks("i9_claimable");
    let mut leaving = machine("m1", "h1");
    leaves(&mut leaving);
    claim(host("h1"), leaving).breaks("i9_claimable");
    // It had the host, and somebody took it away.
    let mut returning = machine("m1", "h1");
    returning["spec"]["providerID"] = "metal3://ns/h1/m1".into();
    claim(with(json!({"status": {"provisioning": {"state": "provisioned"}}})), returning).holds();
}

#[test]
fn i10_what_a_host_is_to_run_comes_last_and_once() {
    let deployed = |mut machine: Value, change: fn(&mut Value)| {
        change(&mut machine);
        let mut scene = Scene::new();
        scene.given(What::Machine, machine).given(What::Host, claimed("h1", "m1"));
        scene.change(Who::Infra, What::Host, "h1", deploy);
        scene
    };
    deployed(machine("m1", "h1"), |_| {}).holds();
    deployed(machine("m1", "h1"), |machine| machine["metadata"]["finalizers"] = json!([])).breaks("i10_durable_first");
    deployed(machine("m1", "h1"), |machine| machine["spec"]["dataTemplate"] = json!({"name": "t"}))
        .breaks("i10_durable_first");
    deployed(machine("m1", "h1"), |machine| machine["status"]["initialization"] = json!({"provisioned": true}))
        .breaks("i10_durable_first");
    running()
        .change(Who::Infra, What::Host, "h1", |host| host["spec"]["image"]["checksum"] = "other".into())
        .breaks("i10_durable_first");

    let with_data = |secret: bool| {
        let mut machine = machine("m1", "h1");
        machine["spec"]["dataTemplate"] = json!({"name": "t"});
        machine["status"]["renderedData"] = json!({"name": "t-0"});
        let mut data = answering(0, "m1");
        data["status"] = json!({"ready": true});
        let mut scene = Scene::new();
        scene.given(What::Machine, machine).given(What::Host, claimed("h1", "m1")).given(What::Data, data);
        if secret {
            scene.given(What::Secret, object("m1-metadata", json!({})));
        }
        scene.change(Who::Infra, What::Host, "h1", |host| {
            deploy(host);
            host["spec"]["metaData"] = json!({"name": "m1-metadata", "namespace": "ns"});
        });
        scene
    };
    with_data(true).holds();
    with_data(false).breaks("i10_durable_first");
}

#[test]
fn i11_a_finalizer_goes_when_nothing_is_left() {
    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", leaves);
    scene.ends(Who::Infra, Verb::Patch, What::Machine, "m1").breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1")).change(Who::Infra, What::Machine, "m1", without_finalizers);
    scene.breaks("i11_undone_first"); // it lives
    let mut scene = Scene::new();
    scene
        .given(What::Machine, machine("m1", "h1"))
        .change(Who::Other, What::Machine, "m1", leaves)
        .given(What::DataClaim, data_claim("m1"));
    scene.ends(Who::Infra, Verb::Patch, What::Machine, "m1").breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::Machine, machine("m1", "h1")).change(Who::Other, What::Machine, "m1", leaves);
    scene.ends(Who::Infra, Verb::Patch, What::Machine, "m1").holds();
}

#[test]
fn i11_data_goes_after_its_claim_and_its_addresses() {
    let leaving = |mut object: Value| {
        leaves(&mut object);
        object
    };
    let without = |name: &'static str| {
        move |object: &mut Value| {
            object["metadata"]["finalizers"].as_array_mut().unwrap().retain(|held| held != name);
        }
    };
    // The claim of a machine whose host still runs.
    let mut scene = running();
    scene.change(Who::Other, What::Machine, "m1", leaves).given(What::DataClaim, data_claim("m1"));
    scene.change(Who::Infra, What::DataClaim, "m1", without(finalizer::MACHINE)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::DataClaim, leaving(data_claim("m1"))).given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::DataClaim, "m1", without(finalizer::DATA_CLAIM)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::DataClaim, data_claim("m1")).given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::Data, "t-0", without(finalizer::DATA_CLAIM)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene.given(What::DataClaim, leaving(data_claim("m1"))).given(What::Data, leaving(answering(0, "m1")));
    scene.change(Who::Infra, What::Data, "t-0", without(finalizer::DATA)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    let claim = object(
        "c",
        json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0"), "finalizers": [finalizer::DATA]}}),
    );
    scene.given(What::Claim, claim.clone()).given(What::Data, leaving(answering(0, "m1")));
    scene.change(Who::Infra, What::Data, "t-0", without(finalizer::DATA)).breaks("i11_undone_first");
    scene
        .change(Who::Infra, What::Claim, "c", without(finalizer::DATA))
        .change(Who::Infra, What::Claim, "c", leaves)
        .holds();
    let mut scene = Scene::new();
    scene.given(What::Claim, claim).given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::Claim, "c", without(finalizer::DATA)).breaks("i11_undone_first");
    let mut scene = Scene::new();
    scene
        .given(What::Data, leaving(answering(0, "m1")))
        .change(Who::Infra, What::Data, "t-0", without(finalizer::DATA))
        .holds();
}

#[test]
fn i11_an_address_goes_before_its_claim_and_not_before_that_leaves() {
    let claim = |held: &[&str], leaving: bool| {
        let mut claim = object("a", json!({"metadata": {"finalizers": held}, "spec": {"pool": {"name": "p"}}}));
        if leaving {
            leaves(&mut claim);
        }
        claim
    };
    let given = |claim: Value| {
        let mut scene = pool_with(&[("a", "192.0.2.10")]);
        scene.given(What::Claim, claim).given(What::Address, address("a", "192.0.2.10"));
        scene
    };
    let take = |scene: &mut Scene, what, name: &str| {
        scene.change(Who::Ipam, what, name, without_finalizers);
    };
    let mut scene = given(claim(&[finalizer::IP_CLAIM], true));
    take(&mut scene, What::Claim, "a");
    scene.breaks("i11_undone_first");
    for claim in [claim(&[finalizer::IP_CLAIM], false), claim(&[finalizer::IP_CLAIM, finalizer::DATA], true)] {
        let mut scene = given(claim);
        take(&mut scene, What::Address, "p-192.0.2.10");
        scene.breaks("i11_undone_first");
    }
    let mut scene = given(claim(&[finalizer::IP_CLAIM], true));
    take(&mut scene, What::Address, "p-192.0.2.10");
    scene.ends(Who::Ipam, Verb::Delete, What::Address, "p-192.0.2.10");
    scene.ends(Who::Ipam, Verb::Patch, What::Claim, "a").holds();
    let mut scene = given(claim(&[], false));
    take(&mut scene, What::Pool, "p");
    scene.breaks("i11_undone_first");
}

#[test]
fn i11_templates_and_clusters_outlive_what_uses_them() {
    let template = object("t", json!({"metadata": {"finalizers": [finalizer::DATA_TEMPLATE]}}));
    let mut scene = Scene::new();
    scene.given(What::DataTemplate, template.clone()).given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::DataTemplate, "t", without_finalizers).breaks("i11_undone_first");
    Scene::new()
        .given(What::DataTemplate, template)
        .change(Who::Infra, What::DataTemplate, "t", without_finalizers)
        .holds();

    let mut cluster = object(
        "k",
        json!({"metadata": {"finalizers": [finalizer::CLUSTER], "ownerReferences": owner("Cluster", "prod")}}),
    );
    leaves(&mut cluster);
    let of_cluster = json!({"metadata": {"labels": {"cluster.x-k8s.io/cluster-name": "prod"}}});
    let kept = json!({"spec": {"consumerRef": {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "namespace": "ns", "name": "prod"}}});
    for (what, held) in [(What::CapiMachine, object("m", of_cluster)), (What::Host, object("h", kept))] {
        let mut scene = Scene::new();
        scene.given(What::Metal3Cluster, cluster.clone()).given(what, held);
        scene.change(Who::Infra, What::Metal3Cluster, "k", without_finalizers).breaks("i11_undone_first");
    }
    Scene::new()
        .given(What::Metal3Cluster, cluster)
        .change(Who::Infra, What::Metal3Cluster, "k", without_finalizers)
        .holds();
}

#[test]
fn i12_a_provider_id_is_given_once_and_is_the_nodes() {
    let identify = |id: &'static str| move |object: &mut Value| object["spec"]["providerID"] = id.into();
    const ID: &str = "metal3://ns/h1/m1";
    running().change(Who::Infra, What::Machine, "m1", identify(ID)).holds();
    for wrong in ["", "metal3://h1", "metal3://ns/h2/m1", "metal3://ns/h1/m2"] {
        let mut scene = running();
        if wrong.is_empty() {
            scene.change(Who::Other, What::Machine, "m1", identify(ID));
        }
        scene.change(Who::Infra, What::Machine, "m1", identify(wrong)).breaks("i12_one_provider_id");
    }
    let node = |id: &str| json!({"metadata": {"name": "n", "labels": {"metal3.io/uuid": "uid-h1"}}, "spec": {"providerID": id}});
    let mut scene = running();
    scene.given(What::Node, node("metal3://ns/h1/other"));
    scene.change(Who::Infra, What::Machine, "m1", identify(ID)).breaks("i12_one_provider_id");
    let mut scene = running();
    scene.given(What::Node, node("")).by(Who::Infra, What::Node, node(ID)).holds();
    scene.by(Who::Infra, What::Node, node("metal3://ns/h1/m9")).breaks("i12_one_provider_id");
}

#[test]
fn i13_what_was_reached_is_not_lost() {
    let status = |provisioned: bool, observed: i64| {
        move |object: &mut Value| {
            object["status"] = json!({"initialization": {"provisioned": provisioned}, "observedGeneration": observed});
        }
    };
    let mut scene = running();
    scene.change(Who::Infra, What::Machine, "m1", status(true, 1)).holds();
    scene.change(Who::Infra, What::Machine, "m1", status(false, 1)).breaks("i13_never_back");
    let mut scene = running();
    scene.change(Who::Infra, What::Machine, "m1", status(false, 2)).breaks("i13_never_back"); // not there yet
    scene.change(Who::Infra, What::Machine, "m1", status(false, 0)).breaks("i13_never_back");

    let ready = |ready: bool| move |data: &mut Value| data["status"] = json!({"ready": ready});
    let secret = object("m1-metadata", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}));
    for (there, wrong) in [(true, true), (false, false)] {
        let mut data = answering(0, "m1");
        data["spec"]["metaData"] = json!({"name": "m1-metadata"});
        let mut scene = Scene::new();
        scene.given(What::Data, data).change(Who::Infra, What::Data, "t-0", ready(true));
        if there {
            scene.given(What::Secret, secret.clone());
        }
        scene.change(Who::Infra, What::Data, "t-0", ready(false));
        if wrong {
            scene.breaks("i13_never_back")
        } else {
            scene.holds();
        }
    }
}

#[test]
fn i13_conditions_tell_what_is_so() {
    let says = |kind: &str| json!({"conditions": [{"type": kind, "status": "True"}]});
    for kind in ["Ready", "AssociateBareMetalHost"] {
        let mut machine = machine("m1", "h1");
        machine["status"] = says(kind);
        Scene::new().given(What::Machine, machine).rests_badly("i13_conditions_tell_facts");
    }
    let mut scene = running();
    scene.change(Who::Infra, What::Machine, "m1", |machine| {
        machine["status"] = says("Ready");
        machine["status"]["initialization"] = json!({"provisioned": true});
    });
    scene.rests();
    let answered =
        object("a", json!({"spec": {"pool": {"name": "p"}}, "status": {"address": {"name": "p-192.0.2.10"}}}));
    let mut scene = pool_with(&[("a", "192.0.2.10")]);
    scene.given(What::Claim, answered).rests_badly("i13_conditions_tell_facts");
    scene.given(What::Address, address("a", "192.0.2.10")).rests();
}

#[test]
fn i14_a_secret_is_rendered_once() {
    let secret = |content: &str| {
        let metadata = json!({"ownerReferences": owner("Metal3Data", "t-0")});
        object("m1-metadata", json!({"metadata": metadata, "data": {"metaData": content}}))
    };
    let mut scene = Scene::new();
    scene.given(What::Data, answering(0, "m1")).by(Who::Infra, What::Secret, secret("one")).holds();
    scene.by(Who::Infra, What::Secret, secret("two")).breaks("i14_rendered_once");
    scene.ends(Who::Infra, Verb::Delete, What::Secret, "m1-metadata").breaks("i14_rendered_once");
    scene.by(Who::Infra, What::Secret, secret("three")).breaks("i14_rendered_once"); // from the same sources
    scene.ends(Who::Other, Verb::Delete, What::Secret, "m1-metadata");
    scene.by(Who::Infra, What::Secret, secret("three")).holds();
    Scene::new().by(Who::Infra, What::Secret, object("stray", json!({}))).breaks("i14_rendered_once");
    let labelled = object(
        "bmc",
        json!({"metadata": {"labels": {"cluster.x-k8s.io/cluster-name": "prod"}}, "data": {"password": "x"}}),
    );
    let plain = object("bmc", json!({"data": {"password": "x"}}));
    Scene::new().given(What::Secret, plain).by(Who::Infra, What::Secret, labelled).holds();
}

#[test]
fn i16_lists_say_what_there_is() {
    let mut scene = pool_with(&[("a", "192.0.2.10")]);
    scene.rests_badly("i16_counted");
    scene.given(What::Address, address("a", "192.0.2.10"));
    scene.given(What::Claim, object("a", json!({"spec": {"pool": {"name": "p"}}}))).rests();
    scene
        .change(Who::Other, What::Pool, "p", |pool| pool["status"]["ipAddresses"] = json!({"used": 2}))
        .rests_badly("i16_counted");
    let mut scene = Scene::new();
    scene
        .given(What::DataTemplate, object("t", json!({"status": {"indexes": [{"index": 0, "name": "m1"}]}})))
        .rests_badly("i16_counted");
    scene
        .given(What::Data, answering(0, "m1"))
        .given(What::DataClaim, data_claim("m1"))
        .given(What::Machine, machine("m1", "h1"))
        .rests();
}

#[test]
fn i17_what_is_paused_is_left_alone() {
    let paused = |mut object: Value| {
        object["metadata"]["annotations"][annotation::PAUSED] = "".into();
        object
    };
    let mut scene = Scene::new();
    scene.given(What::Pool, paused(pool()));
    scene.change(Who::Ipam, What::Pool, "p", |pool| {
        pool["metadata"]["labels"] = json!({"cluster.x-k8s.io/cluster-name": "x"})
    });
    scene.breaks("i17_paused_is_quiet");
    let mut scene = Scene::new();
    scene.given(What::Machine, paused(machine("m1", "h1")));
    scene.change(Who::Infra, What::Machine, "m1", |machine| machine["status"]["ready"] = false.into()).holds();
    scene
        .change(Who::Infra, What::Machine, "m1", |machine| machine["metadata"]["annotations"] = json!({}))
        .breaks("i17_paused_is_quiet");

    let mut pool = pool();
    pool["metadata"]["labels"] = json!({"cluster.x-k8s.io/cluster-name": "prod"});
    let mut scene = Scene::new();
    scene.given(What::Pool, pool).given(What::Cluster, object("prod", json!({"spec": {"paused": true}})));
    let reserve = |at: &'static str| move |pool: &mut Value| pool["status"]["indexes"]["a"] = at.into();
    scene.change(Who::Ipam, What::Pool, "p", reserve("192.0.2.10")).holds(); // it was under way
    scene.now = 3600;
    scene.change(Who::Ipam, What::Pool, "p", reserve("192.0.2.11")).breaks("i17_paused_is_quiet");
    scene.given(What::Cluster, object("prod", json!({})));
    scene.change(Who::Ipam, What::Pool, "p", reserve("192.0.2.10")).holds();
}

#[test]
fn i17_a_pause_of_somebody_else_stays() {
    for (value, wrong) in [("", true), ("metal3.io/capm3", false)] {
        let mut host = claimed("h1", "m1");
        host["metadata"]["annotations"] = json!({annotation::HOST_PAUSED: value});
        let mut scene = Scene::new();
        scene.given(What::Host, host);
        scene.change(Who::Infra, What::Host, "h1", |host| host["metadata"]["annotations"] = json!({}));
        if wrong {
            scene.breaks("i17_paused_is_quiet")
        } else {
            scene.holds();
        }
    }
}

#[test]
fn i18_what_is_not_ours_stays_as_it_is() {
    let change = |what, object: Value, change: fn(&mut Value)| {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut scene = Scene::new();
        scene.given(what, object).change(Who::Infra, what, &name, change);
        scene
    };
    let full = || {
        let metadata = json!({
            "labels": {"rack": "1"}, "annotations": {"note": "x"}, "finalizers": ["foreign/one"],
            "ownerReferences": owner("Thing", "x"),
        });
        let mut host = claimed("h1", "m1");
        merge(&mut host, json!({"metadata": metadata, "spec": {"bootMACAddress": "02:00:00:00:00:01"}}));
        host
    };
    for wrong in [
        |host: &mut Value| host["metadata"]["labels"] = json!({}),
        |host: &mut Value| host["metadata"]["annotations"]["note"] = "y".into(),
        |host: &mut Value| host["metadata"]["finalizers"] = json!([]),
        |host: &mut Value| host["metadata"]["ownerReferences"] = json!([]),
        |host: &mut Value| host["spec"]["bootMACAddress"] = "02:00:00:00:00:02".into(),
        |host: &mut Value| host["status"]["provisioning"]["state"] = "ready".into(),
    ] {
        change(What::Host, full(), wrong).breaks("i18_only_our_own");
    }
    change(What::Cluster, object("prod", json!({"spec": {}})), |cluster| cluster["spec"]["paused"] = true.into())
        .breaks("i18_only_our_own");
    change(What::Host, full(), |host| host["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] = "prod".into())
        .holds();
    Scene::new().by(Who::Infra, What::Other, object("x", json!({}))).breaks("i18_other_kinds");
}

#[test]
fn i18_nothing_is_deleted_that_is_wanted() {
    let mut scene = Scene::new();
    scene.given(What::Host, host("h1")).ends(Who::Infra, Verb::Delete, What::Host, "h1").breaks("i18_only_our_own");
    let mut scene = Scene::new();
    scene.given(What::DataClaim, data_claim("m1")).given(What::Data, answering(0, "m1"));
    scene.ends(Who::Infra, Verb::Delete, What::Data, "t-0").breaks("i18_only_our_own");
    let mut scene = Scene::new();
    scene
        .given(What::DataClaim, data_claim("m1"))
        .change(Who::Other, What::DataClaim, "m1", leaves)
        .given(What::Data, answering(0, "m1"));
    scene.change(Who::Infra, What::Data, "t-0", without_finalizers);
    scene.state.violations.clear();
    scene.ends(Who::Infra, Verb::Delete, What::Data, "t-0").holds();
}

#[test]
fn i18_what_somebody_took_the_owner_from_is_still_ours() {
    let claim = || object("c", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}));
    let strip = |claim: &mut Value| claim["metadata"]["ownerReferences"] = json!([]);
    let mut scene = Scene::new();
    scene.given(What::Claim, claim()).change(Who::Other, What::Claim, "c", strip);
    scene.ends(Who::Infra, Verb::Delete, What::Claim, "c").holds();
    Scene::new()
        .given(What::Claim, object("c", json!({})))
        .ends(Who::Infra, Verb::Delete, What::Claim, "c")
        .breaks("i18_only_our_own");
}

#[test]
fn i19_nothing_leads_into_another_namespace() {
    let mut scene = running();
    scene.change(Who::Infra, What::Host, "h1", |host| {
        host["spec"]["networkData"] = json!({"name": "x", "namespace": "far"})
    });
    scene.breaks("i19_own_namespace");
    let mut scene = running();
    scene.change(Who::Infra, What::Machine, "m1", |machine| {
        machine["metadata"]["annotations"][annotation::HOST] = "far/h1".into()
    });
    scene.breaks("i19_own_namespace");
    running()
        .change(Who::Infra, What::Host, "h1", |host| {
            host["spec"]["networkData"] = json!({"name": "x", "namespace": "ns"})
        })
        .holds();
}

#[test]
fn i20_what_decides_is_fenced() {
    let loose = |fence, what, before: Value, after: Value| {
        let mut scene = Scene::new();
        scene.given(What::Machine, machine("m1", "h1")).given(what, before).write(Who::Infra, fence, what, after);
        scene
    };
    for fence in [Fence::None, Fence::Uid] {
        loose(fence, What::Host, host("h1"), claimed("h1", "m1")).breaks("i20_fenced");
        loose(
            fence,
            What::Claim,
            object("c", json!({})),
            object("c", json!({"metadata": {"finalizers": [finalizer::DATA]}})),
        )
        .breaks("i20_fenced");
    }
    loose(Fence::Version, What::Host, host("h1"), claimed("h1", "m1")).holds();
    let told = object("c", json!({"status": {"errorMessage": "x"}}));
    loose(Fence::None, What::Claim, object("c", json!({})), told.clone()).breaks("i20_fenced");
    loose(Fence::Uid, What::Claim, object("c", json!({})), told).holds();
    let mut scene = Scene::new();
    let claim = object("c", json!({"metadata": {"ownerReferences": owner("Metal3Data", "t-0")}}));
    scene
        .given(What::Claim, claim)
        .see(Who::Infra, Fence::None, Verb::Delete, What::Claim, "ns/c", None)
        .breaks("i20_fenced");
    Scene::new()
        .by(Who::Infra, What::DataClaim, object("m1-x2", json!({"metadata": {"generateName": "m1-"}})))
        .breaks("i20_fenced");
}

#[test]
fn i22_a_write_says_something_new() {
    let at = |time: &str| {
        object(
            "t",
            json!({"status": {"lastUpdated": time, "conditions": [{"type": "Ready", "lastTransitionTime": time}]}}),
        )
    };
    let mut scene = Scene::new();
    scene.given(What::DataTemplate, at("1")).by(Who::Infra, What::DataTemplate, at("2")).breaks("i22_no_idle_write");
    let mut other = at("3");
    other["status"]["ready"] = true.into();
    scene.by(Who::Infra, What::DataTemplate, other).holds();
    let mut scene = Scene::new();
    scene
        .given(What::Pool, pool())
        .change(Who::Ipam, What::Pool, "p", |pool| pool["status"]["lastUpdated"] = "1".into());
    scene.holds();
}

#[test]
fn i22_nobody_writes_for_ever() {
    let flap = |scene: &mut Scene, turn: usize| {
        scene.change(Who::Infra, What::Machine, "m1", |machine| {
            machine["status"]["ready"] = turn.is_multiple_of(2).into()
        });
    };
    let mut scene = running();
    (0..20).for_each(|turn| flap(&mut scene, turn));
    scene.given(What::Host, host("h9")).holds(); // somebody did something
    (0..20).for_each(|turn| flap(&mut scene, turn));
    scene.holds();
    (0..9).for_each(|turn| flap(&mut scene, turn));
    scene.breaks("i22_no_busy_loop");
}

#[test]
fn i30_an_event_says_about_what_it_is() {
    let event = |change: fn(&mut Value)| {
        let mut event = object(
            "e",
            json!({"reason": "HostClaimed", "note": "claimed", "regarding": {"namespace": "ns", "name": "m1"}}),
        );
        change(&mut event);
        let mut scene = Scene::new();
        scene.by(Who::Infra, What::Event, event);
        scene
    };
    event(|_| {}).holds();
    event(|event| event["regarding"]["name"] = "".into()).breaks("i30_told");
    event(|event| event["regarding"]["namespace"] = "far".into()).breaks("i30_told");
    event(|event| event["reason"] = "".into()).breaks("i30_told");
    event(|event| event["note"] = "x".repeat(1025).into()).breaks("i30_told");
}

/// Everything that is checked is in the table for readers.
#[test]
fn the_table_names_every_invariant() {
    let table = include_str!("../../../docs/proof.md");
    let kinds = What::REMEMBERED.into_iter().chain([What::Event, What::Other]);
    let of_writes = kinds.flat_map(checks_of).chain(super::ALWAYS).map(|(name, _)| *name);
    for name in of_writes.chain(AT_REST.iter().map(|(name, _)| *name)) {
        assert!(table.contains(&format!("`{name}`")), "{name}");
    }
}
