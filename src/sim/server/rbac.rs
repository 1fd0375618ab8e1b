//! Whether a user may do what it asks: the stored roles and their bindings.

use serde_json::Value;

use super::World;
use super::call::{Call, User};
use super::status::{Named, Refusal};

/// Refuses what no role of the user allows.
pub(super) fn authorize(world: &World, user: &User, call: &Call) -> Result<(), Refusal> {
    if user.is_admin() {
        return Ok(());
    }
    let cluster_wide = world
        .store
        .table("clusterrolebindings.rbac.authorization.k8s.io")
        .filter(|(_, binding)| binds(binding, user, ""))
        .any(|(_, binding)| allows(world, binding, "", call));
    let namespace = scope(call);
    let prefix = format!("{namespace}/");
    let allowed = cluster_wide
        || !namespace.is_empty()
            && world
                .store
                .table("rolebindings.rbac.authorization.k8s.io")
                .filter(|(key, binding)| key.starts_with(&prefix) && binds(binding, user, namespace))
                .any(|(_, binding)| allows(world, binding, namespace, call));
    if allowed { Ok(()) } else { Err(refusal(user, call)) }
}

/// The namespace whose roles count: a Namespace is in itself.
fn scope(call: &Call) -> &str {
    if call.group.is_empty() && call.resource == "namespaces" { &call.name } else { &call.namespace }
}

fn binds(binding: &Value, user: &User, namespace: &str) -> bool {
    let mut subjects = binding["subjects"].as_array().into_iter().flatten();
    subjects.any(|subject| {
        let text = |key: &str| subject[key].as_str().unwrap_or_default();
        match text("kind") {
            "User" => text("name") == user.name,
            "Group" => user.groups.iter().any(|group| group == text("name")),
            "ServiceAccount" => {
                let of = if text("namespace").is_empty() { namespace } else { text("namespace") };
                user.name == format!("system:serviceaccount:{of}:{}", text("name"))
            }
            _ => false,
        }
    })
}

fn allows(world: &World, binding: &Value, namespace: &str, call: &Call) -> bool {
    let text = |key: &str| binding["roleRef"][key].as_str().unwrap_or_default();
    let role = match text("kind") {
        "ClusterRole" => world.store.get("clusterroles.rbac.authorization.k8s.io", text("name")),
        _ => world.store.get("roles.rbac.authorization.k8s.io", &format!("{namespace}/{}", text("name"))),
    };
    let mut rules = role.into_iter().flat_map(|role| role["rules"].as_array().into_iter().flatten());
    rules.any(|rule| covers(rule, call))
}

fn covers(rule: &Value, call: &Call) -> bool {
    let any = |list: &str, fits: &dyn Fn(&str) -> bool| {
        rule[list].as_array().into_iter().flatten().filter_map(Value::as_str).any(fits)
    };
    let resource = if call.subresource.is_empty() {
        call.resource.clone()
    } else {
        format!("{}/{}", call.resource, call.subresource)
    };
    let any_resource = format!("*/{}", call.subresource);
    let names = rule["resourceNames"].as_array().is_none_or(Vec::is_empty);
    any("verbs", &|verb| verb == "*" || verb == call.verb.name())
        && any("apiGroups", &|group| group == "*" || group == call.group)
        && any("resources", &|one| one == "*" || one == resource || !call.subresource.is_empty() && one == any_resource)
        && (names || any("resourceNames", &|name| !call.name.is_empty() && name == call.name))
}

fn refusal(user: &User, call: &Call) -> Refusal {
    let resource = if call.subresource.is_empty() {
        call.resource.clone()
    } else {
        format!("{}/{}", call.resource, call.subresource)
    };
    let place = match scope(call) {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        user.name,
        call.verb.name(),
        call.group
    );
    Refusal::forbidden(Named { group: &call.group, what: &call.resource, name: &call.name }, &why)
}
