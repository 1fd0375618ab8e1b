//! Each invariant, broken by a few writes made by hand and kept by others: one that can never fire would go unnoticed.

mod addresses;
mod data;
mod finalizers;
mod hosts;
mod machines;
mod manners;
mod remediation;
mod rest;

use capm3_api::names::{annotation, finalizer};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

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
            process: 1,
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

/// Everything that is checked is in the table for readers.
#[test]
fn the_table_names_every_invariant() {
    let table = include_str!("../../../../docs/proof.md");
    let kinds = What::REMEMBERED.into_iter().chain([What::Event, What::Other]);
    let of_writes = kinds.flat_map(checks_of).chain(super::ALWAYS).map(|(name, _)| *name);
    for name in of_writes.chain(AT_REST.iter().map(|(name, _)| *name)) {
        assert!(table.contains(&format!("`{name}`")), "{name}");
    }
}
