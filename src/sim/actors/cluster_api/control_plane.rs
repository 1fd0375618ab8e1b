//! A control plane: one Machine at a time, and none is lost to an etcd that still counts on it (T5, T17, K-183, K-195, K-196).

use std::sync::Arc;

use capm3_api::names::{annotation, label};
use serde_json::{Value, json};

use super::super::{Act, View, delete, finalized, is_deleting, name, patch, push, put};
use super::machine::Making;
use super::sets::{DELETE_FIRST, count, runs};
use super::{is_paused, owned, owner_of};
use crate::world::kinds::*;

const FINALIZER: &str = "kubeadm.controlplane.cluster.x-k8s.io";
const HOOK: &str = "pre-terminate.delete.hook.machine.cluster.x-k8s.io/kcp-cleanup";

pub(super) fn decide(view: &dyn View, plane: &Value, chance: u64) -> Vec<Act> {
    let owner = super::owners(plane).find(|owner| owner["kind"] == "Cluster");
    let cluster = owner.and_then(|owner| owner["name"].as_str()).unwrap_or_default();
    let cluster = view.get(CLUSTER, cluster);
    if is_paused(&cluster, plane) {
        return Vec::new();
    }
    let machines = owned(view, MACHINE, plane);
    // The etcd member of a Machine that leaves is removed before the Machine may go.
    let mut acts: Vec<Act> = machines.iter().filter(|machine| is_deleting(machine)).filter_map(unhook).collect();
    let staying: Vec<&Arc<Value>> = machines.iter().filter(|machine| !is_deleting(machine)).collect();
    if is_deleting(plane) {
        let workers = view.all(MACHINE).iter().any(|machine| {
            machine["spec"]["clusterName"] == cluster["metadata"]["name"]
                && machine["metadata"]["labels"][label::CONTROL_PLANE].is_null()
        });
        if !workers {
            acts.extend(staying.into_iter().map(|machine| delete(MACHINE, machine)));
        }
        if machines.is_empty() {
            acts.extend(finalized(CONTROL_PLANE, plane, FINALIZER));
        }
        return acts;
    }
    let mut wanted = plane.clone();
    push(&mut wanted["metadata"]["finalizers"], FINALIZER.into());
    acts.extend(patch(CONTROL_PLANE, plane, &wanted));
    let ready = cluster["status"]["initialization"]["infrastructureProvisioned"] == true;
    let at_rest = staying.len() == machines.len() && staying.iter().all(|machine| runs(machine));
    if !ready || !at_rest {
        return acts;
    }
    let template = plane["spec"]["machineTemplate"]["spec"]["infrastructureRef"]["name"].as_str().unwrap_or_default();
    let is_old = |machine: &Value| {
        let infra = view.get(METAL3_MACHINE, name(machine));
        let from = &infra["metadata"]["annotations"][annotation::CLONED_FROM_NAME];
        from.is_string() && *from != template
    };
    let replicas = count(&plane["spec"]["replicas"]);
    let old: Vec<&Arc<Value>> = staying.iter().filter(|machine| is_old(machine)).copied().collect();
    let surge = plane["spec"]["rollout"]["strategy"]["rollingUpdate"]["maxSurge"].as_u64().unwrap_or(1);
    let most = replicas + usize::from(surge > 0 && !old.is_empty());
    let fewest = if surge == 0 && !old.is_empty() { replicas.saturating_sub(1) } else { replicas };
    if staying.len() > replicas || staying.len() > fewest && surge == 0 && !old.is_empty() {
        let mut going = if old.is_empty() { staying } else { old };
        going.sort_by_key(|machine| {
            (machine["metadata"]["annotations"][DELETE_FIRST].is_null(), name(machine).to_owned())
        });
        acts.extend(going.first().map(|machine| delete(MACHINE, machine)));
    } else if staying.len() < most {
        acts.extend(make(view, plane, &cluster, template, chance));
    }
    acts
}

fn make(view: &dyn View, plane: &Value, cluster: &Value, template: &str, chance: u64) -> Vec<Act> {
    let template = view.get(METAL3_MACHINE_TEMPLATE, template);
    if template.is_null() {
        return Vec::new();
    }
    // What was made for a Machine that never came.
    for kind in [METAL3_MACHINE, BOOTSTRAP] {
        if let Some(stray) = owned(view, kind, plane).into_iter().find(|one| view.get(MACHINE, name(one)).is_null()) {
            return if is_deleting(&stray) { Vec::new() } else { vec![delete(kind, &stray)] };
        }
    }
    let making = Making {
        name: &format!("{}-{:05x}", name(plane), chance & 0xf_ffff),
        cluster: name(cluster),
        owner: owner_of(CONTROL_PLANE, plane),
        labels: json!({label::CONTROL_PLANE: "", label::CONTROL_PLANE_NAME: name(plane)}),
        annotations: json!({HOOK: ""}),
        spec: &json!({}),
        template: &template,
    };
    making.acts()
}

fn unhook(machine: &Arc<Value>) -> Option<Act> {
    if machine["metadata"]["annotations"][HOOK].is_null() {
        return None;
    }
    let mut free = Value::clone(machine);
    put(&mut free, &["metadata", "annotations", HOOK], Value::Null);
    patch(MACHINE, machine, &free)
}
