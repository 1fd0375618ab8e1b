//! Whether a user may do what it asks: the stored roles and their bindings. And what of them it has ever needed.
//!
//! A user's roles are gathered once and kept until a role or a binding is written. Every permission counts how often it was the one
//! that let a request through, so that roles can be held against what their owners really do ([`Server::rights`]).

use std::collections::BTreeMap;

use serde_json::Value;

use super::call::{Call, User, Verb};
use super::status::{Named, Refusal};
use super::store::Store;
use super::{Server, World};

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

/// One permission of a role, or one that a request would have needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Where it holds; empty is everywhere.
    pub namespace: String,
    pub group: String,
    /// With its subresource.
    pub resource: String,
    /// For these objects only, if there are any.
    pub names: Vec<String>,
    pub verb: String,
}

/// What the roles of one user allow, and what it made of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// How many requests needed each permission.
    pub used: BTreeMap<Right, u64>,
    /// What was refused, and how often.
    pub missing: BTreeMap<Right, u64>,
}

impl Rights {
    /// What no request ever needed.
    pub fn unused(&self) -> impl Iterator<Item = &Right> {
        self.used.iter().filter(|(_, times)| **times == 0).map(|(right, _)| right)
    }

    /// Adds what another run saw.
    pub fn merge(&mut self, other: &Self) {
        for (mine, others) in [(&mut self.used, &other.used), (&mut self.missing, &other.missing)] {
            for (right, times) in others {
                *mine.entry(right.clone()).or_default() += times;
            }
        }
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.names.is_empty() {
            write!(f, " {}", self.names.join(","))?;
        }
        match self.namespace.as_str() {
            "" => Ok(()),
            namespace => write!(f, " in {namespace}"),
        }
    }
}

/// What the roles say, by user.
#[derive(Default)]
pub(super) struct Access {
    /// Valid until roles or bindings are written.
    known: BTreeMap<String, Known>,
    /// What was counted before that.
    counted: BTreeMap<String, Rights>,
}

struct Known {
    groups: Vec<String>,
    grants: Vec<Grant>,
}

/// A permission, ready to be compared.
struct Grant {
    right: Right,
    /// `None`: any.
    verb: Option<Verb>,
    plural: String,
    subresource: String,
    used: u64,
}

impl Grant {
    fn covers(&self, call: &Call, scope: &str) -> bool {
        let Right { namespace, group, resource, names, verb } = &self.right;
        (self.verb == Some(call.verb) || verb == "*")
            && (resource == "*"
                || self.subresource == call.subresource
                    && (self.plural == call.resource || self.plural == "*" && !call.subresource.is_empty()))
            && (*group == call.group || group == "*")
            && (namespace.is_empty() || *namespace == scope)
            && (names.is_empty() || !call.name.is_empty() && names.contains(&call.name))
    }
}

impl Access {
    /// Roles or bindings have changed.
    pub(super) fn forget(&mut self) {
        for (user, Known { grants, .. }) in std::mem::take(&mut self.known) {
            let counted = self.counted.entry(user).or_default();
            for Grant { right, used, .. } in grants {
                *counted.used.entry(right).or_default() += used;
            }
        }
    }

    fn of(&mut self, store: &Store, user: &User) -> &mut Known {
        if self.known.get(&user.name).is_some_and(|known| known.groups != user.groups) {
            self.forget();
        }
        self.known
            .entry(user.name.clone())
            .or_insert_with(|| Known { groups: user.groups.clone(), grants: gather(store, user) })
    }
}

/// Refuses what no role of the user allows.
pub(super) fn authorize(world: &mut World, user: &User, call: &Call) -> Result<(), Refusal> {
    if user.is_admin() {
        return Ok(());
    }
    let scope = scope(call);
    let World { store, access, .. } = world;
    if let Some(grant) = access.of(store, user).grants.iter_mut().find(|grant| grant.covers(call, scope)) {
        grant.used += 1;
        return Ok(());
    }
    let right = Right {
        namespace: scope.to_owned(),
        group: call.group.clone(),
        resource: full_resource(call),
        names: Vec::new(),
        verb: call.verb.name().to_owned(),
    };
    *access.counted.entry(user.name.clone()).or_default().missing.entry(right).or_default() += 1;
    Err(refusal(user, call))
}

impl Server {
    /// What every ServiceAccount that is bound to a role may do, and how often it needed that so far.
    pub fn rights(&self) -> BTreeMap<String, Rights> {
        let mut world = self.shared.world.lock();
        let World { store, access, .. } = &mut *world;
        access.forget();
        let mut all = access.counted.clone();
        for user in service_accounts(store) {
            let rights = all.entry(user.name.clone()).or_default();
            let granted = gather(store, &user);
            granted.into_iter().for_each(|grant| _ = rights.used.entry(grant.right).or_default());
        }
        all
    }
}

fn service_accounts(store: &Store) -> Vec<User> {
    let tables = ["clusterrolebindings", "rolebindings"].map(|plural| format!("{plural}.{GROUP}"));
    let bindings = tables.iter().flat_map(|table| store.table(table));
    let subjects = bindings.flat_map(|(_, binding)| binding["subjects"].as_array().into_iter().flatten());
    let accounts = subjects.filter(|subject| subject["kind"] == "ServiceAccount");
    let text = |subject: &Value, key: &str| subject[key].as_str().unwrap_or_default().to_owned();
    accounts.map(|one| User::service_account(&text(one, "namespace"), &text(one, "name"))).collect()
}

/// Everything the user's roles say, those of the whole cluster first.
fn gather(store: &Store, user: &User) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (_, binding) in store.table(&format!("clusterrolebindings.{GROUP}")).filter(|(_, one)| binds(one, user, "")) {
        grants.extend(of_role(store, binding, ""));
    }
    for (key, binding) in store.table(&format!("rolebindings.{GROUP}")) {
        let namespace = key.split('/').next().unwrap_or_default();
        if binds(binding, user, namespace) {
            grants.extend(of_role(store, binding, namespace));
        }
    }
    grants
}

/// The namespace whose roles count: a Namespace is in itself.
fn scope(call: &Call) -> &str {
    if call.group.is_empty() && call.resource == "namespaces" { &call.name } else { &call.namespace }
}

fn full_resource(call: &Call) -> String {
    if call.subresource.is_empty() { call.resource.clone() } else { format!("{}/{}", call.resource, call.subresource) }
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

fn of_role(store: &Store, binding: &Value, namespace: &str) -> Vec<Grant> {
    let text = |key: &str| binding["roleRef"][key].as_str().unwrap_or_default();
    let role = match text("kind") {
        "ClusterRole" => store.get(&format!("clusterroles.{GROUP}"), text("name")),
        _ => store.get(&format!("roles.{GROUP}"), &format!("{namespace}/{}", text("name"))),
    };
    let rules = role.into_iter().flat_map(|role| role["rules"].as_array().into_iter().flatten());
    let list = |rule: &Value, key: &str| -> Vec<String> {
        rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut grants = Vec::new();
    for rule in rules {
        let names = list(rule, "resourceNames");
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                for verb in list(rule, "verbs") {
                    let (plural, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
                    grants.push(Grant {
                        verb: Verb::parse(&verb),
                        plural: plural.to_owned(),
                        subresource: subresource.to_owned(),
                        used: 0,
                        right: Right {
                            namespace: namespace.to_owned(),
                            group: group.clone(),
                            resource: resource.clone(),
                            names: names.clone(),
                            verb,
                        },
                    });
                }
            }
        }
    }
    grants
}

fn refusal(user: &User, call: &Call) -> Refusal {
    let resource = full_resource(call);
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
