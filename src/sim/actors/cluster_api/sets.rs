//! MachineSets and MachineDeployments: n Machines of a template, rollout, scaling (K-31, K-189).

use std::sync::Arc;

use capm3_api::names::label;
use serde_json::{Value, json};

use super::super::{Act, View, delete, finalized, is_deleting, name, patch, patch_status, push, put};
use super::machine::Making;
use super::{controller_of, is_paused, owned, owner_of};
use crate::world::Deed;
use crate::world::kinds::*;

const SET_FINALIZER: &str = "cluster.x-k8s.io/machineset";
const DEPLOYMENT_FINALIZER: &str = "cluster.x-k8s.io/machinedeployment";
const SET_NAME: &str = "cluster.x-k8s.io/set-name";
/// Goes first when a set is scaled in.
pub(super) const DELETE_FIRST: &str = "cluster.x-k8s.io/delete-machine";

pub(super) fn set(view: &dyn View, object: &Value, chance: u64) -> Vec<Act> {
    let cluster = view.get(CLUSTER, object["spec"]["clusterName"].as_str().unwrap_or_default());
    if is_paused(&cluster, object) {
        return Vec::new();
    }
    let machines = owned(view, MACHINE, object);
    let staying: Vec<&Arc<Value>> = machines.iter().filter(|machine| !is_deleting(machine)).collect();
    if is_deleting(object) {
        let acts: Vec<Act> = staying.into_iter().map(|machine| delete(MACHINE, machine)).collect();
        return if machines.is_empty() {
            finalized(MACHINE_SET, object, SET_FINALIZER).into_iter().collect()
        } else {
            acts
        };
    }
    if cluster.is_null() {
        return Vec::new();
    }
    let mut wanted = object.clone();
    push(&mut wanted["metadata"]["finalizers"], SET_FINALIZER.into());
    put(&mut wanted, &["metadata", "labels", label::CLUSTER_NAME], name(&cluster));
    let mut acts: Vec<Act> = patch(MACHINE_SET, object, &wanted).into_iter().collect();
    wanted["status"]["replicas"] = machines.len().into();
    wanted["status"]["readyReplicas"] = staying.iter().filter(|machine| runs(machine)).count().into();
    acts.extend(patch_status(MACHINE_SET, object, &wanted));
    // What was made for a Machine that never came.
    for kind in [METAL3_MACHINE, BOOTSTRAP] {
        let stray = owned(view, kind, object).into_iter().filter(|one| view.get(MACHINE, name(one)).is_null());
        acts.extend(stray.filter(|one| !is_deleting(one)).map(|one| delete(kind, &one)));
    }
    let replicas = count(&object["spec"]["replicas"]);
    if staying.len() < replicas {
        acts.extend(make(view, object, &cluster, chance));
    }
    acts.extend(staying.iter().filter(|machine| is_given_up(machine)).map(|machine| delete(MACHINE, machine)));
    let mut going = staying.clone();
    going.sort_by_key(|machine| (machine["metadata"]["annotations"][DELETE_FIRST].is_null(), name(machine).to_owned()));
    acts.extend(going.iter().take(staying.len().saturating_sub(replicas)).map(|machine| delete(MACHINE, machine)));
    acts
}

/// One Machine; the next is made once this one is seen.
fn make(view: &dyn View, object: &Value, cluster: &Value, chance: u64) -> Vec<Act> {
    let body = &object["spec"]["template"];
    let template =
        view.get(METAL3_MACHINE_TEMPLATE, body["spec"]["infrastructureRef"]["name"].as_str().unwrap_or_default());
    if template.is_null() {
        return Vec::new();
    }
    let mut labels = body["metadata"]["labels"].clone();
    labels[SET_NAME] = object["metadata"]["name"].clone();
    let making = Making {
        name: &format!("{}-{:05x}", name(object), chance & 0xf_ffff),
        cluster: name(cluster),
        owner: owner_of(MACHINE_SET, object),
        labels,
        annotations: body["metadata"]["annotations"].clone(),
        spec: &body["spec"],
        template: &template,
    };
    making.acts()
}

pub(super) fn deployment(view: &dyn View, object: &Value) -> Vec<Act> {
    let cluster = view.get(CLUSTER, object["spec"]["clusterName"].as_str().unwrap_or_default());
    if is_paused(&cluster, object) {
        return Vec::new();
    }
    let sets = owned(view, MACHINE_SET, object);
    if is_deleting(object) {
        let acts: Vec<Act> = sets.iter().filter(|set| !is_deleting(set)).map(|set| delete(MACHINE_SET, set)).collect();
        return if sets.is_empty() {
            finalized(MACHINE_DEPLOYMENT, object, DEPLOYMENT_FINALIZER).into_iter().collect()
        } else {
            acts
        };
    }
    if cluster.is_null() {
        return Vec::new();
    }
    let mut wanted = object.clone();
    push(&mut wanted["metadata"]["finalizers"], DEPLOYMENT_FINALIZER.into());
    set_label(&mut wanted, name(&cluster));
    let mut acts: Vec<Act> = patch(MACHINE_DEPLOYMENT, object, &wanted).into_iter().collect();
    let template = object["spec"]["template"]["spec"]["infrastructureRef"]["name"].as_str().unwrap_or_default();
    let of_template = |set: &Value| set["spec"]["template"]["spec"]["infrastructureRef"]["name"] == template;
    let machines = |set: &Value| owned(view, MACHINE, set);
    let replicas = count(&object["spec"]["replicas"]);
    let surge = object["spec"]["rollout"]["strategy"]["rollingUpdate"]["maxSurge"].as_u64().unwrap_or(1);
    let unavailable = usize::from(surge == 0);
    let most = replicas + usize::try_from(surge).unwrap_or(usize::MAX);
    let (new, old): (Vec<_>, Vec<_>) = sets.iter().partition(|set| of_template(set));
    let of_old: usize = old.iter().map(|set| machines(set).len()).sum();
    let scale = |set: &Value, replicas: usize| {
        let mut scaled = set.clone();
        scaled["spec"]["replicas"] = replicas.into();
        patch(MACHINE_SET, set, &scaled)
    };
    let new_replicas = replicas.min(most.saturating_sub(of_old));
    match new.first() {
        None => acts.push(make_set(object, template, new_replicas)),
        Some(set) => {
            acts.extend(scale(set, new_replicas));
            let running: usize = machines(set).iter().filter(|machine| runs(machine) && !is_deleting(machine)).count();
            // The old ones make room as far as enough remain.
            let mut keep = (replicas - unavailable.min(replicas)).saturating_sub(running);
            for set in old {
                let few = keep.min(count(&set["spec"]["replicas"]));
                keep -= few;
                if few == 0 && machines(set).is_empty() && count(&set["spec"]["replicas"]) == 0 {
                    // Kept in reality, for rollbacks: an empty set of an old template does nothing.
                    continue;
                }
                acts.extend(scale(set, few));
            }
        }
    }
    acts
}

fn make_set(object: &Value, template: &str, replicas: usize) -> Act {
    let set = format!("{}-{template}", name(object));
    let mut body = object["spec"]["template"].clone();
    put(&mut body, &["metadata", "labels", label::DEPLOYMENT_NAME], name(object));
    let labels = json!({label::CLUSTER_NAME: object["spec"]["clusterName"], label::DEPLOYMENT_NAME: name(object)});
    let body = json!({
        "apiVersion": MACHINE_SET.api_version, "kind": MACHINE_SET.kind,
        "metadata": {
            "name": set, "namespace": object["metadata"]["namespace"], "labels": labels,
            "ownerReferences": [controller_of(MACHINE_DEPLOYMENT, object)],
        },
        "spec": {"clusterName": object["spec"]["clusterName"], "replicas": replicas, "template": body},
    });
    Act(MACHINE_SET, set, Deed::Create(body))
}

fn set_label(object: &mut Value, cluster: &str) {
    put(object, &["metadata", "labels", label::CLUSTER_NAME], cluster);
}

pub(super) fn count(replicas: &Value) -> usize {
    replicas.as_u64().and_then(|replicas| usize::try_from(replicas).ok()).unwrap_or_default()
}

/// Not well, and handed over by who tried to make it so (K-88).
fn is_given_up(machine: &Value) -> bool {
    let no = |kind: &str| {
        let mut conditions = machine["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == kind && condition["status"] == "False")
    };
    no("HealthCheckSucceeded") && no("OwnerRemediated")
}

pub(super) fn runs(machine: &Value) -> bool {
    machine["status"]["phase"] == "Running"
}
