//! Objects for tests, named as in docs/spec/data-rendering.md 14.

use std::collections::BTreeMap;
use std::sync::Arc;

use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataTemplate, Metal3Machine};
use capm3_api::k8s::{ObjectMeta, OwnerReference, Time, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(super) const NS: &str = "baremetalns-testns";
pub(super) const TEMPLATE: &str = "baremetal-testmetal3datatemplate";
pub(super) const DATA: &str = "baremetal-testmetal3dataname";
pub(super) const CLAIM: &str = "baremetal-testmetal3dataclaim";
pub(super) const M3M: &str = "baremetal-testmetal3machine";
pub(super) const MACHINE: &str = "baremetal-testmachine";
pub(super) const HOST: &str = "baremetal-testbaremetalhost";
pub(super) const POOL: &str = "baremetal-testpoolname";
pub(super) const CLUSTER: &str = "testcluster";

/// Any kind from JSON; the uid is the name with `uid-` in front.
pub(super) fn object<K: DeserializeOwned>(name: &str, rest: Value) -> K {
    let mut whole =
        json!({"metadata": {"name": name, "namespace": NS, "uid": format!("uid-{name}"), "resourceVersion": "1"}});
    merge(&mut whole, rest);
    serde_json::from_value(whole).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

pub(super) fn template(spec: Value) -> Metal3DataTemplate {
    object(TEMPLATE, json!({"spec": spec}))
}

pub(super) fn infra_owner(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": kind, "name": name, "uid": format!("uid-{name}")})
}

pub(super) fn claim(name: &str) -> Metal3DataClaim {
    object(
        name,
        json!({
            "metadata": {"ownerReferences": [infra_owner("Metal3Machine", M3M)], "labels": {"cluster.x-k8s.io/cluster-name": CLUSTER}},
            "spec": {"template": {"name": TEMPLATE}},
        }),
    )
}

pub(super) fn data() -> Metal3Data {
    object(
        DATA,
        json!({
            "metadata": {
                "labels": {"cluster.x-k8s.io/cluster-name": CLUSTER},
                "ownerReferences": [infra_owner("Metal3DataClaim", CLAIM)],
            },
            "spec": {"index": 0, "template": {"name": TEMPLATE, "namespace": NS}, "claim": {"name": CLAIM, "namespace": NS}},
        }),
    )
}

pub(super) fn metal3_machine() -> Metal3Machine {
    object(
        M3M,
        json!({
            "metadata": {
                "annotations": {"metal3.io/BareMetalHost": format!("{NS}/{HOST}")},
                "ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "name": MACHINE, "uid": "u"}],
            },
            "spec": {"dataTemplate": {"name": TEMPLATE}},
        }),
    )
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn deleting(meta: &mut ObjectMeta) {
    meta.deletion_timestamp = Some(Time(at(0)));
}

pub(super) fn owned_by(uid: &str) -> Option<Vec<OwnerReference>> {
    Some(vec![OwnerReference { uid: uid.to_owned(), ..OwnerReference::default() }])
}

pub(super) fn by_name<K>(objects: Vec<K>, name: impl Fn(&K) -> &ObjectMeta) -> BTreeMap<String, Arc<K>> {
    objects.into_iter().map(|object| (name(&object).name.clone().unwrap(), Arc::new(object))).collect()
}
