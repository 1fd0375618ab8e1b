//! What each manager may do: the least that works (docs/spec/proof.md section 5, remediation-webhooks-packaging.md section 5).
//!
//! Differences from the Go provider's roles: Secrets are not listed or watched, workload kinds (nodes, pods, volume attachments) are
//! absent because workload clusters are reached through their kubeconfig, and of Cluster API nothing is written but that a Machine is
//! handed to its owner (K-88).

use capm3_api::crds::INFRA_CRDS;
use serde_json::{Value, json};

const READ: &[&str] = &["get", "list", "watch"];
const PATCH: &[&str] = &["get", "list", "watch", "patch"];
const MAKE: &[&str] = &["create", "delete", "get", "list", "watch", "patch"];

pub fn infrastructure() -> Vec<Value> {
    let mut rules = vec![
        rule(&[""], &["events"], &["create"]),
        rule(&[""], &["secrets"], &["create", "get", "patch"]),
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        rule(&["cluster.x-k8s.io"], &["clusters", "machines", "machinesets"], READ),
        rule(&["cluster.x-k8s.io"], &["machines/status"], &["patch"]),
        rule(&["controlplane.cluster.x-k8s.io"], &["kubeadmcontrolplanes"], &["get"]),
        rule(
            &["infrastructure.cluster.x-k8s.io"],
            &[
                "metal3clusters",
                "metal3datatemplates",
                "metal3machines",
                "metal3machinetemplates",
                "metal3remediations",
            ],
            PATCH,
        ),
        rule(&["infrastructure.cluster.x-k8s.io"], &["metal3dataclaims", "metal3datas"], MAKE),
        rule(
            &["infrastructure.cluster.x-k8s.io"],
            &[
                "metal3clusters/status",
                "metal3dataclaims/status",
                "metal3datas/status",
                "metal3datatemplates/status",
                "metal3machines/status",
                "metal3machinetemplates/status",
                "metal3remediations/status",
            ],
            &["patch"],
        ),
        rule(&["ipam.cluster.x-k8s.io"], &["ipaddressclaims"], MAKE),
        rule(&["ipam.cluster.x-k8s.io"], &["ipaddresses"], READ),
        rule(&["ipam.metal3.io"], &["ipclaims"], MAKE),
        rule(&["ipam.metal3.io"], &["ipaddresses"], READ),
        rule(&["metal3.io"], &["baremetalhosts"], PATCH),
    ];
    rules.extend(migration());
    rules
}

/// What bringing objects to the stored version needs beyond the above (P-22): our own definitions by name, and the kinds that
/// nobody else here touches.
fn migration() -> Vec<Value> {
    let group = &["infrastructure.cluster.x-k8s.io"];
    let visited = &["metal3clustertemplates", "metal3remediationtemplates"];
    let ours = |resource, verbs| named("apiextensions.k8s.io", &[resource], &INFRA_CRDS, verbs);
    let rules = [
        Some(rule(&["apiextensions.k8s.io"], &["customresourcedefinitions"], &["list", "watch"])),
        ours("customresourcedefinitions", &["get", "patch"]),
        ours("customresourcedefinitions/status", &["patch"]),
        Some(rule(group, visited, &["get", "list", "patch"])),
        Some(rule(group, &["metal3remediationtemplates/status"], &["patch"])),
    ];
    rules.into_iter().flatten().collect()
}

pub fn ipam() -> Vec<Value> {
    vec![
        rule(&[""], &["events"], &["create"]),
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        rule(&["cluster.x-k8s.io"], &["clusters"], READ),
        rule(&["ipam.cluster.x-k8s.io"], &["ipaddressclaims"], PATCH),
        rule(&["ipam.cluster.x-k8s.io"], &["ipaddressclaims/status"], &["patch"]),
        rule(&["ipam.cluster.x-k8s.io", "ipam.metal3.io"], &["ipaddresses"], MAKE),
        rule(&["ipam.metal3.io"], &["ipclaims", "ippools"], PATCH),
        rule(&["ipam.metal3.io"], &["ipclaims/status", "ippools/status"], &["patch"]),
    ]
}

/// In the manager's own namespace: its Lease.
pub fn leader_election() -> Vec<Value> {
    vec![rule(&["coordination.k8s.io"], &["leases"], &["create", "get", "update"])]
}

/// What `--self-signed` needs in the whole cluster: the bundles of our own definitions and webhook configurations, by name.
/// `crds` are those that convert; without any, the first rule falls away.
pub fn self_signed(crds: &[&str], configurations: &[&str]) -> Vec<Value> {
    let verbs = &["get", "list", "watch", "patch"];
    let crds = named("apiextensions.k8s.io", &["customresourcedefinitions"], crds, verbs);
    let kinds = &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
    let configurations = named("admissionregistration.k8s.io", kinds, configurations, verbs);
    [crds, configurations].into_iter().flatten().collect()
}

/// What `--self-signed` needs in the manager's own namespace: the Secret of its certificate. It is read from the API server, so
/// the Deployment mounts nothing.
pub fn self_signed_namespaced(secret: &str) -> Vec<Value> {
    let held = named("", &["secrets"], &[secret], &["get", "list", "watch", "patch"]);
    std::iter::once(rule(&[""], &["secrets"], &["create"])).chain(held).collect()
}

fn named(group: &str, resources: &[&str], names: &[&str], verbs: &[&str]) -> Option<Value> {
    let mut rule = rule(&[group], resources, verbs);
    rule["resourceNames"] = names.into();
    (!names.is_empty()).then_some(rule)
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}
