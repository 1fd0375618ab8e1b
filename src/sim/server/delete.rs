//! Deletes: at once, or by a mark that finalizers hold on to.

use serde_json::{Value, json};

use super::Shared;
use super::call::{Call, Fence, Query};
use super::kinds::View;
use super::meta::{self, FOREGROUND, ORPHAN};
use super::object::path;
use super::selector::Selector;
use super::status::{FieldError, Named, Refusal};
use super::store::Object;
use super::write::{Shown, stamp};

/// What a client says about a delete.
#[derive(Clone, Debug, Default)]
pub(super) struct DeleteOptions {
    uid: Option<String>,
    resource_version: Option<String>,
    propagation: Option<String>,
    orphan_dependents: Option<bool>,
    pub dry_run: bool,
}

/// What is left of the object.
pub(super) enum Deleted {
    /// Nothing; the last state.
    Gone(Object),
    /// It waits for its finalizers.
    Marked(Shown),
}

impl DeleteOptions {
    /// From the body, else from the query.
    pub(super) fn read(body: &[u8], query: &Query) -> Result<Self, Refusal> {
        let given = |key: &str| Some(query.text(key).to_owned()).filter(|value| !value.is_empty());
        let mut options = Self {
            propagation: given("propagationPolicy"),
            orphan_dependents: query.has("orphanDependents").then(|| query.flag("orphanDependents")),
            dry_run: query.dry_run(),
            ..Self::default()
        };
        if !body.is_empty() {
            let value: Value = serde_json::from_slice(body).map_err(|error| {
                let what = "couldn't get version/kind; json parse error";
                Refusal::bad_request(format!("{what}: {error}"))
            })?;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            options.uid = text(&value["preconditions"]["uid"]);
            options.resource_version = text(&value["preconditions"]["resourceVersion"]);
            options.propagation = text(&value["propagationPolicy"]);
            options.orphan_dependents = value["orphanDependents"].as_bool();
            options.dry_run |= value["dryRun"].as_array().is_some_and(|all| all.contains(&json!("All")));
        }
        options.check()?;
        Ok(options)
    }

    pub(super) fn of(uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..Self::default() }
    }

    pub(super) fn fence(&self) -> Fence {
        match (&self.resource_version, &self.uid) {
            (Some(_), _) => Fence::Version,
            (None, Some(_)) => Fence::Uid,
            (None, None) => Fence::None,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        let mut errors = Vec::new();
        let known = ["Foreground", "Background", "Orphan", "nil"].map(str::to_owned);
        if let Some(policy) = &self.propagation {
            if self.orphan_dependents.is_some() {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid("propagationPolicy", &json!(policy), detail));
            }
            if !known[..3].contains(policy) {
                errors.push(FieldError::not_supported("propagationPolicy", &json!(policy), &known));
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        let named = Named { group: "meta.k8s.io", what: "DeleteOptions", name: "" };
        Err(Refusal::invalid(named, &errors))
    }

    /// The finalizers that make the garbage collector act before the object goes.
    fn finalizers(&self, object: &Value) -> Vec<String> {
        let before = meta::finalizers(object);
        let (orphan, foreground) = match (self.orphan_dependents, self.propagation.as_deref()) {
            (Some(orphan), _) => (orphan, false),
            (None, Some(policy)) => (policy == "Orphan", policy == "Foreground"),
            (None, None) => (before.contains(&ORPHAN), before.contains(&FOREGROUND)),
        };
        let kept = before.into_iter().filter(|one| !matches!(*one, ORPHAN | FOREGROUND));
        kept.chain(orphan.then_some(ORPHAN)).chain(foreground.then_some(FOREGROUND)).map(str::to_owned).collect()
    }
}

impl Shared {
    /// Answers with what is left, and the revision if anything was written.
    pub(super) fn delete(
        &self,
        call: &Call,
        view: &View,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(Deleted, Option<u64>), Refusal> {
        let key = path(namespace, name);
        let mut world = self.world.lock();
        let Some(old) = world.store.get(&view.kind.id, &key).cloned() else {
            return Err(Refusal::not_found(view.kind.named(name)));
        };
        if view.kind.plural == "namespaces" && matches!(name, "default" | "kube-system" | "kube-public") {
            return Err(Refusal::forbidden(view.kind.named(name), "this namespace may not be deleted"));
        }
        let kind = view.kind.named_kind(name);
        if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(&old)) {
            let why = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
                 deleted and then recreated",
                meta::uid(&old)
            );
            return Err(Refusal::conflict(kind, &why));
        }
        if let Some(version) = options.resource_version.as_deref().filter(|v| *v != meta::resource_version(&old)) {
            let why = format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
                 The object might have been modified",
                meta::resource_version(&old)
            );
            return Err(Refusal::conflict(kind, &why));
        }
        let finalizers = options.finalizers(&old);
        let holds = view.kind.plural == "namespaces" && !meta::is_empty(&old["spec"]["finalizers"]);
        if finalizers.is_empty() && !holds {
            if options.dry_run {
                return Ok((Deleted::Gone(old), None));
            }
            let defined = view.kind.plural == "customresourcedefinitions";
            let last = world.remove(view, &key);
            if defined {
                let gone = world.undefine(name);
                drop(world);
                for (view, last) in gone {
                    self.announce(call, &view, Some(&last), None);
                }
            } else {
                drop(world);
            }
            let revision = self.announce(call, view, last.as_ref(), None);
            return Ok((Deleted::Gone(old), Some(revision)));
        }
        let mut new = Value::clone(&old);
        meta::set(&mut new, "finalizers", if finalizers.is_empty() { Value::Null } else { json!(finalizers) });
        if !meta::is_deleting(&old) {
            if meta::generation(&old) > 0 {
                new["metadata"]["generation"] = (meta::generation(&old) + 1).into();
            }
            new["metadata"]["deletionTimestamp"] = stamp(self.clock.now()).into();
        }
        if holds {
            new["status"]["phase"] = "Terminating".into();
        } else {
            new["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        }
        if options.dry_run || new == **old.value() {
            return Ok((Deleted::Marked(Shown::Made(new)), None));
        }
        let put = world.put(view, &key, new);
        drop(world);
        let revision = self.announce(call, view, Some(&old), Some(&put));
        Ok((Deleted::Marked(Shown::Stored(put)), Some(revision)))
    }

    /// Deletes what is selected, one by one, and lists what that was.
    pub(super) fn delete_collection(
        &self,
        call: &Call,
        view: &View,
        selector: &Selector,
        options: &DeleteOptions,
    ) -> Result<(Vec<Value>, Option<u64>), Refusal> {
        let prefix = if call.namespace.is_empty() { String::new() } else { format!("{}/", call.namespace) };
        let found: Vec<Value> = {
            let world = self.world.lock();
            let table = world.store.table(&view.kind.id);
            let picked = table.filter(|(key, object)| key.starts_with(&prefix) && selector.matches(object));
            picked.map(|(_, object)| Value::clone(object)).collect()
        };
        let mut wrote = None;
        for object in &found {
            let (namespace, name) = (meta::namespace(object), meta::name(object));
            match self.delete(call, view, namespace, name, options) {
                Ok((_, revision)) => wrote = revision.or(wrote),
                Err(refusal) if refusal.code == 404 => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok((found, wrote))
    }
}
