//! Cluster API with its bootstrap and control plane providers, reduced to what touches an infrastructure provider.
//!
//! Rules, in the order of capi-contract 6.1: T1 and T3 ([`cluster`]), T4 (the kubeconfig Secret alone), T5 ([`sets`],
//! [`control_plane`]), T6 to T8, T12 and T15 ([`machine`]), and the deletion orders of 6.7 (K-191 to K-196). The workload cluster is
//! up from the beginning, so its control plane counts as initialized once its kubeconfig is there (T14, T16).
//!
//! Left out: certificates, locks and tokens, drain and volumes, health checks, preflight checks other than the control plane's,
//! topology, in-place updates, status of sets beyond their replicas.

mod cluster;
mod control_plane;
mod machine;
mod sets;

use std::time::Duration;

use capm3_api::names::annotation;
use serde_json::Value;

use super::{Act, Cue, Heard, Part, View, name, owners};
use crate::server::User;
use crate::world::kinds::*;

pub use cluster::NO_KUBECONFIG;

/// It reacts at once, but never in the same moment.
const PACE: Duration = Duration::from_millis(300);

pub(super) struct ClusterApi;

impl Part for ClusterApi {
    fn user(&self) -> User {
        let user = User::service_account("capi-system", "capi-manager");
        User { groups: User::admin().groups, ..user }
    }

    fn pace(&self, _: &Cue) -> Duration {
        PACE
    }

    fn hears(&self, view: &dyn View, heard: &Heard) -> Vec<Cue> {
        let object = &*heard.object;
        let mut cues = Vec::new();
        for kind in LOOKED_AFTER {
            if heard.is(kind) {
                cues.push((kind, name(object).to_owned()));
            }
            let owned = owners(object).filter(|owner| owner["kind"] == kind.kind);
            cues.extend(owned.map(|owner| (kind, owner["name"].as_str().unwrap_or_default().to_owned())));
        }
        if heard.is(CLUSTER) {
            // A pause ends, infrastructure is there, a deletion begins: for all of them.
            cues.extend(everything(view));
        } else if heard.is(METAL3_MACHINE) || heard.is(BOOTSTRAP) {
            cues.push((MACHINE, name(object).to_owned()));
        } else if heard.is(METAL3_CLUSTER) || heard.is(MACHINE) || heard.is(SECRET) || heard.is(CONTROL_PLANE) {
            cues.extend(names(view, CLUSTER));
        } else if heard.is(NODE) {
            let id = object["spec"]["providerID"].as_str().unwrap_or_default();
            let machine = id.rsplit('/').next().filter(|machine| !machine.is_empty());
            cues.extend(machine.map(|machine| (MACHINE, machine.to_owned())));
        }
        cues
    }

    fn everything(&self, view: &dyn View) -> Vec<Cue> {
        everything(view)
    }

    fn decide(&self, view: &dyn View, (kind, name): &Cue, chance: u64) -> Vec<Act> {
        let object = view.get(*kind, name);
        match *kind {
            _ if object.is_null() => Vec::new(),
            CLUSTER => cluster::decide(view, &object),
            MACHINE => machine::decide(view, &object),
            MACHINE_SET => sets::set(view, &object, chance),
            MACHINE_DEPLOYMENT => sets::deployment(view, &object),
            CONTROL_PLANE => control_plane::decide(view, &object, chance),
            _ => Vec::new(),
        }
    }
}

const LOOKED_AFTER: [Kind; 5] = [CLUSTER, MACHINE, MACHINE_SET, MACHINE_DEPLOYMENT, CONTROL_PLANE];

fn everything(view: &dyn View) -> Vec<Cue> {
    LOOKED_AFTER.into_iter().flat_map(|kind| names(view, kind)).collect()
}

fn names(view: &dyn View, kind: Kind) -> Vec<Cue> {
    view.all(kind).iter().map(|object| (kind, name(object).to_owned())).collect()
}

/// By its cluster or by itself (K-56).
fn is_paused(cluster: &Value, object: &Value) -> bool {
    cluster["spec"]["paused"] == true || !object["metadata"]["annotations"][annotation::PAUSED].is_null()
}

fn owner_of(kind: Kind, object: &Value) -> Value {
    let meta = &object["metadata"];
    serde_json::json!({"apiVersion": kind.api_version, "kind": kind.kind, "name": meta["name"], "uid": meta["uid"]})
}

fn controller_of(kind: Kind, object: &Value) -> Value {
    let mut owner = owner_of(kind, object);
    owner["controller"] = true.into();
    owner["blockOwnerDeletion"] = true.into();
    owner
}

/// Whether it has this very object among its owners.
fn is_owned_by(object: &Value, owner: &Value) -> bool {
    owners(object).any(|one| one["uid"] == owner["metadata"]["uid"])
}

/// The objects of a kind that have this one among their owners.
fn owned(view: &dyn View, kind: Kind, owner: &Value) -> Vec<std::sync::Arc<Value>> {
    view.all(kind).into_iter().filter(|object| is_owned_by(object, owner)).collect()
}
