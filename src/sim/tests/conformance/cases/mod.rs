//! The cases, by what they are about.

mod apply;
mod create;
mod delete;
mod discovery;
mod list;
mod metadata;
mod patch;
mod rbac;
mod schema;
mod update;
mod watch;

use serde_json::{Value, json};

use crate::harness::Case;

pub(crate) const MAPS: &str = "/api/v1/namespaces/NS/configmaps";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/NS/secrets";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/NS/leases";
pub(crate) const EVENTS: &str = "/api/v1/namespaces/NS/events";
pub(crate) const LAMPS: &str = "/apis/conformance.example.com/v1/namespaces/NS/lamps";
pub(crate) const BULBS: &str = "/apis/conformance.example.com/v1/namespaces/NS/bulbs";
pub(crate) const OLD_BULBS: &str = "/apis/conformance.example.com/v1beta1/namespaces/NS/bulbs";
pub(crate) const GRIDS: &str = "/apis/conformance.example.com/v1/grids";

pub(crate) fn all() -> Vec<Case> {
    let all = [
        apply::cases(),
        create::cases(),
        delete::cases(),
        discovery::cases(),
        list::cases(),
        metadata::cases(),
        patch::cases(),
        rbac::cases(),
        schema::cases(),
        update::cases(),
        watch::cases(),
    ];
    all.into_iter().flatten().collect()
}

pub(crate) fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

pub(crate) fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"k": "dg=="}})
}

pub(crate) fn lamp(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "conformance.example.com/v1", "kind": "Lamp", "metadata": {"name": name}, "spec": spec})
}

/// The smallest lamp there is.
pub(crate) fn plain(name: &str) -> Value {
    lamp(name, json!({"watts": 5}))
}

pub(crate) fn bulb(name: &str) -> Value {
    json!({"apiVersion": "conformance.example.com/v1", "kind": "Bulb", "metadata": {"name": name}, "spec": {"color": "blue"}})
}

/// The object with more in its metadata.
pub(crate) fn with(mut object: Value, metadata: Value) -> Value {
    for (field, value) in metadata.as_object().unwrap() {
        object["metadata"][field] = value.clone();
    }
    object
}

pub(crate) fn at(list: &str, name: &str) -> String {
    format!("{list}/{name}")
}
