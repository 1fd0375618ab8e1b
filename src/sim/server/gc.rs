//! What controllers around the real API server do on their own: collect what has lost its owners, and empty namespaces.
//!
//! Both are explicit steps, taken when the simulation says so, because the real ones come at a time of their own. A step looks at
//! everything once, in order; [`Server::settle`] repeats it until there is nothing left to do.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::call::{Call, Fence, Verb};
use super::delete::DeleteOptions;
use super::kinds::View;
use super::meta::{self, FOREGROUND, ORPHAN};
use super::object::path;
use super::store::Object;
use super::{Server, Shared};

const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const NAMESPACES: &str = "system:serviceaccount:kube-system:namespace-controller";

/// What the collector has to do to one object.
enum Work {
    Delete,
    /// Owner references and finalizers as they are to be.
    Keep {
        owners: Vec<Value>,
        finalizers: Vec<String>,
    },
}

/// One object as the collector sees it.
struct Seen {
    view: View,
    object: Object,
}

impl Server {
    /// One pass over everything; how much there was to do.
    pub fn collect_garbage(&self) -> usize {
        self.shared.collect_garbage()
    }

    /// One pass over the namespaces that are going away; how much there was to do.
    pub fn finish_namespaces(&self) -> usize {
        self.shared.finish_namespaces()
    }

    /// Both, until nothing is left to do.
    pub fn settle(&self) {
        while self.collect_garbage() + self.finish_namespaces() > 0 {}
    }
}

impl Shared {
    fn everything(&self) -> Vec<Seen> {
        let world = self.world.lock();
        let mut all = Vec::new();
        for resource in world.store.resources() {
            let Some(view) = world.kinds.stored(resource) else { continue };
            let objects = world.store.table(resource).map(|(_, object)| object.clone());
            all.extend(objects.map(|object| Seen { view: view.clone(), object }));
        }
        all
    }

    fn collect_garbage(&self) -> usize {
        let all = self.everything();
        let by_uid: BTreeMap<&str, &Value> = all.iter().map(|seen| (meta::uid(&seen.object), &**seen.object)).collect();
        let mut dependents: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for seen in &all {
            for owner in meta::owners(&seen.object) {
                dependents.entry(owner["uid"].as_str().unwrap_or_default()).or_default().push(seen);
            }
        }
        let mut done = 0;
        for Seen { view, object } in &all {
            if let Some(work) = work_on(object, &by_uid, &dependents) {
                done += usize::from(self.collect(view, object, work));
            }
        }
        done
    }

    fn collect(&self, view: &View, object: &Value, work: Work) -> bool {
        let (namespace, name) = (meta::namespace(object), meta::name(object));
        match work {
            Work::Delete => {
                let call = self.own_call(COLLECTOR, Verb::Delete, view, namespace, name);
                self.delete_and_note(&call, view, &DeleteOptions::of(meta::uid(object)))
            }
            Work::Keep { owners, finalizers } => {
                let call = self.own_call(COLLECTOR, Verb::Patch, view, namespace, name);
                self.rewrite(&call, view, object, |object| {
                    let empty_is_absent = |list: Value| if meta::is_empty(&list) { Value::Null } else { list };
                    meta::set(object, "ownerReferences", empty_is_absent(owners.into()));
                    meta::set(object, "finalizers", empty_is_absent(json!(finalizers)));
                })
            }
        }
    }

    /// Whether anything was there to delete.
    fn delete_and_note(&self, call: &Call, view: &View, options: &DeleteOptions) -> bool {
        let deleted = self.delete(call, view, &call.namespace, &call.name, options);
        let wrote = deleted.ok().and_then(|(_, wrote)| wrote);
        if wrote.is_some() {
            self.note(call, 200, wrote);
        }
        wrote.is_some()
    }

    /// A write of the server's own controllers: no admission, but the rules of versions and finalizers.
    fn rewrite(&self, call: &Call, view: &View, seen: &Value, change: impl FnOnce(&mut Value)) -> bool {
        let key = path(meta::namespace(seen), meta::name(seen));
        let mut world = self.world.lock();
        let Some(old) = world.store.get(&view.kind.id, &key).cloned().filter(|old| ***old == *seen) else {
            return false;
        };
        let mut new = seen.clone();
        change(&mut new);
        if new == *seen {
            return false;
        }
        let holds = view.kind.plural == "namespaces" && !meta::is_empty(&new["spec"]["finalizers"]);
        if meta::is_deleting(&new) && meta::finalizers(&new).is_empty() && !holds {
            let last = world.remove(view, &key);
            drop(world);
            let revision = self.announce(call, view, last.as_ref(), None);
            self.note(call, 200, Some(revision));
        } else {
            let new = world.put(view, &key, new);
            drop(world);
            let revision = self.announce(call, view, Some(&old), Some(&new));
            self.note(call, 200, Some(revision));
        }
        true
    }

    fn finish_namespaces(&self) -> usize {
        let leaving: Vec<Value> = {
            let world = self.world.lock();
            let all = world.store.table("namespaces").filter(|(_, namespace)| meta::is_deleting(namespace));
            all.map(|(_, namespace)| Value::clone(namespace)).collect()
        };
        let Some(view) = self.world.lock().kinds.stored("namespaces") else { return 0 };
        let mut done = 0;
        for namespace in leaving {
            let name = meta::name(&namespace);
            let inside: Vec<Seen> =
                self.everything().into_iter().filter(|seen| meta::namespace(&seen.object) == name).collect();
            for Seen { view, object } in inside.iter().filter(|seen| !meta::is_deleting(&seen.object)) {
                let call = self.own_call(NAMESPACES, Verb::Delete, view, name, meta::name(object));
                done += usize::from(self.delete_and_note(&call, view, &DeleteOptions::default()));
            }
            if inside.is_empty() {
                let call = self.own_call(NAMESPACES, Verb::Update, &view, "", name);
                let finalized = self.rewrite(&call, &view, &namespace, |namespace| {
                    namespace["spec"] = json!({});
                });
                done += usize::from(finalized);
            }
        }
        done
    }

    fn own_call(&self, user: &str, verb: Verb, view: &View, namespace: &str, name: &str) -> Call {
        Call {
            number: self.next_call(),
            user: user.to_owned(),
            process: 0,
            verb,
            group: view.kind.group.clone(),
            version: view.version().name.clone(),
            resource: view.kind.plural.clone(),
            subresource: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            fence: Fence::None,
        }
    }
}

/// Owners of a namespace other than the object's do not count, as for the real collector.
fn work_on(object: &Value, by_uid: &BTreeMap<&str, &Value>, dependents: &BTreeMap<&str, Vec<&Seen>>) -> Option<Work> {
    let owners = meta::owners(object);
    let stands = |owner: &&Value| {
        let found = by_uid.get(owner["uid"].as_str().unwrap_or_default());
        found.is_some_and(|found| matches!(meta::namespace(found), namespace if namespace.is_empty() || namespace == meta::namespace(object)))
    };
    let orphaning = |owner: &&Value| {
        by_uid
            .get(owner["uid"].as_str().unwrap_or_default())
            .is_some_and(|owner| meta::finalizers(owner).contains(&ORPHAN))
    };
    let leaving = |owner: &&Value| {
        let found = by_uid.get(owner["uid"].as_str().unwrap_or_default());
        found.is_some_and(|found| meta::is_deleting(found) && meta::finalizers(found).contains(&FOREGROUND))
    };
    let mut finalizers: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    let uid = meta::uid(object);
    let mine = || dependents.get(uid).into_iter().flatten();
    if meta::is_deleting(object) {
        if finalizers.iter().any(|one| one == ORPHAN) && mine().next().is_none() {
            finalizers.retain(|one| one != ORPHAN);
        }
        let blocks = |seen: &&&Seen| {
            meta::owners(&seen.object).iter().any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
        };
        if finalizers.iter().any(|one| one == FOREGROUND) && mine().find(blocks).is_none() {
            finalizers.retain(|one| one != FOREGROUND);
        }
    }
    let kept: Vec<Value> = owners.iter().filter(|owner| stands(owner) && !orphaning(owner)).cloned().collect();
    let orphaned = owners.iter().any(|owner| stands(&owner) && orphaning(&owner));
    let all_leave = !kept.is_empty() && kept.iter().all(|owner| leaving(&owner));
    if !owners.is_empty() && !meta::is_deleting(object) && (all_leave || kept.is_empty() && !orphaned) {
        return Some(Work::Delete);
    }
    let changed = kept.len() != owners.len() && (orphaned || !kept.is_empty());
    let owners = if changed { kept } else { owners.to_vec() };
    let fewer = finalizers.len() != meta::finalizers(object).len();
    (changed || fewer).then_some(Work::Keep { owners, finalizers })
}
