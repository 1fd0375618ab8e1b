//! Which groups, versions and resources there are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::World;
use super::kinds::Kind;
use super::status::Refusal;

/// Answers `/api`, `/apis` and the resource lists below them.
pub(super) fn answer(world: &World, path: &[String]) -> Result<Value, Refusal> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [""] => Ok(json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]})),
        ["api"] => Ok(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "sim:443"}],
        })),
        ["apis"] => {
            let groups: Vec<_> = groups(world).into_iter().map(|(name, versions)| group(&name, &versions)).collect();
            Ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["api", version] => resources(world, "", version),
        ["apis", name] => {
            let groups = groups(world);
            let versions = groups.get(*name).ok_or_else(Refusal::unknown_path)?;
            let mut answer = json!({"kind": "APIGroup", "apiVersion": "v1"});
            if let (Some(answer), Some(group)) = (answer.as_object_mut(), group(name, versions).as_object()) {
                answer.extend(group.clone());
            }
            Ok(answer)
        }
        ["apis", name, version] => resources(world, name, version),
        _ => Err(Refusal::unknown_path()),
    }
}

/// The served versions of each group, best first.
fn groups(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for kind in world.kinds.all().filter(|kind| !kind.group.is_empty()) {
        let served = kind.versions.iter().filter(|version| version.served).map(|version| version.name.clone());
        groups.entry(kind.group.clone()).or_default().extend(served);
    }
    groups
        .into_iter()
        .map(|(group, versions)| {
            let mut versions: Vec<_> = versions.into_iter().collect();
            versions.sort_by_key(|version| std::cmp::Reverse(maturity(version)));
            (group, versions)
        })
        .collect()
}

/// `v1` before `v1beta2` before `v1beta1` before `v1alpha1`.
fn maturity(version: &str) -> (u8, u32, u32) {
    let digits = |text: &str| text.parse().unwrap_or_default();
    let rest = version.strip_prefix('v').unwrap_or(version);
    for (word, rank) in [("beta", 1), ("alpha", 0)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return (rank, digits(major), digits(minor));
        }
    }
    (2, digits(rest), 0)
}

fn group(name: &str, versions: &[String]) -> Value {
    let entry = |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let entries: Vec<_> = versions.iter().map(entry).collect();
    json!({"name": name, "versions": entries, "preferredVersion": entries.first()})
}

fn resources(world: &World, group: &str, version: &str) -> Result<Value, Refusal> {
    let mut resources = Vec::new();
    for kind in world.kinds.all().filter(|kind| kind.group == group) {
        let Some(at) = kind.versions.iter().find(|v| v.name == version && v.served) else { continue };
        resources.push(resource(kind));
        if at.status {
            resources.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": ["get", "patch", "update"],
            }));
        }
    }
    if resources.is_empty() {
        return Err(Refusal::unknown_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}))
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
    });
    if !kind.short.is_empty() {
        resource["shortNames"] = kind.short.clone().into();
    }
    if !kind.categories.is_empty() {
        resource["categories"] = kind.categories.clone().into();
    }
    resource
}
