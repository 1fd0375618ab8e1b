//! Create, update and patch.
//!
//! As in the real server a write is a loop: the stored object is read, the new one made of it, admitted and judged, and stored if
//! nobody wrote in between. Admission may wait, so others do get in between. The object is handled in the version of the request and
//! stored in the kind's own.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::admission::Question;
use super::call::{Call, Query};
use super::kinds::{Class, Kind, View};
use super::managed::{Managers, Who, Write};
use super::names::NameRule;
use super::object::{decode, path, settle_namespace, shape};
use super::patch::Patch;
use super::schema::{validate, validate_at};
use super::status::{FieldError, Refusal};
use super::store::{Object, with_managers};
use super::{Shared, World, admission, meta, rbac};

const NAME_TRIES: usize = 8;
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const LONGEST_PREFIX: usize = 58;

/// What a write came to.
pub(super) struct Written {
    pub object: Shown,
    pub created: bool,
    /// `None` when nothing changed, or nothing was to be.
    pub revision: Option<u64>,
    pub warnings: Vec<String>,
}

/// The object that a write answers with.
pub(super) enum Shown {
    /// As it is stored now.
    Stored(Object),
    /// In another version, or as nobody stored it.
    Made(Value),
}

/// What a new state is made from.
pub(super) enum Change {
    /// The body of a PUT.
    Whole(Value),
    Patch(Patch),
}

impl Shared {
    pub(super) async fn create(
        &self,
        call: &Call,
        view: &View,
        query: &Query,
        object: Value,
    ) -> Result<Written, Refusal> {
        self.create_owned(call, view, query, object, None).await
    }

    /// As [`Self::create`], of what an apply states: then these own it.
    async fn create_owned(
        &self,
        call: &Call,
        view: &View,
        query: &Query,
        mut object: Value,
        appliers: Option<Managers>,
    ) -> Result<Written, Refusal> {
        if !call.subresource.is_empty() {
            return Err(Refusal::method_not_allowed());
        }
        decode(view, &mut object, query)?;
        settle_namespace(call, &view.kind, &mut object)?;
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            meta::set(&mut object, field, Value::Null);
        }
        let generated = meta::name(&object).is_empty() && !meta::text(&object, "generateName").is_empty();
        for attempt in 1.. {
            let mut object = object.clone();
            self.born(&mut object, generated);
            let name = meta::name(&object).to_owned();
            self.namespace_lives(call, view, &name)?;
            let managers = match &appliers {
                Some(managers) => managers.clone(),
                None if self.track_on_create => {
                    let nothing = json!({"metadata": {}});
                    Managers::default().updated(&self.as_write(call, view, query), &nothing, &object)
                }
                None => Managers::default(),
            };
            let mut warnings = self.mutate(call, view, &mut object, None, query.dry_run()).await?;
            check_type(view, &object, &name)?;
            prepare_create(view, &mut object);
            let errors = judge(view, &object, None, false);
            if !errors.is_empty() {
                return Err(Refusal::invalid(view.kind.named_kind(&name), &errors));
            }
            let question = Question { call, view, object: Some(&object), old: None, dry_run: query.dry_run() };
            warnings.extend(self.validate(&question).await?);
            if !meta::resource_version(&object).is_empty() {
                return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
            }
            let key = path(meta::namespace(&object), &name);
            let (stored, shown) = self.to_store(object, view).await?;
            match self.store_new(call, view, query, &key, (stored, managers.clone())) {
                Ok(new) => {
                    let (object, revision) = match (new, shown) {
                        (New::Dry(object), shown) => (made(shown.unwrap_or(object), &managers), None),
                        (New::Stored(new), shown) => (shown_as(&new, shown), Some(new.revision())),
                    };
                    return Ok(Written { object, created: true, revision, warnings });
                }
                Err(_) if generated && attempt < NAME_TRIES => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::internal("no name was free"))
    }

    /// What the server itself says about a new object.
    fn born(&self, object: &mut Value, generated: bool) {
        let mut world = self.world.lock();
        let now = self.clock.now();
        if generated {
            let prefix = meta::text(object, "generateName");
            let mut name = prefix[..prefix.floor_char_boundary(LONGEST_PREFIX)].to_owned();
            for _ in 0..5 {
                name.push(SUFFIX_LETTERS[world.rng.usize(..SUFFIX_LETTERS.len())].into());
            }
            object["metadata"]["name"] = name.into();
        }
        object["metadata"]["uid"] = world.next_uid().into();
        object["metadata"]["creationTimestamp"] = stamp(now).into();
    }

    /// Nothing is created in a namespace that is not there or is going away.
    fn namespace_lives(&self, call: &Call, view: &View, name: &str) -> Result<(), Refusal> {
        if !view.kind.namespaced {
            return Ok(());
        }
        let world = self.world.lock();
        match world.store.get("namespaces", &call.namespace) {
            None => {
                let named = super::status::Named { group: "", what: "namespaces", name: &call.namespace };
                Err(Refusal::not_found(named))
            }
            Some(namespace) if namespace["status"]["phase"] == "Terminating" => {
                Err(Refusal::terminating(view.kind.named(name), &call.namespace))
            }
            Some(_) => Ok(()),
        }
    }

    fn store_new(
        &self,
        call: &Call,
        view: &View,
        query: &Query,
        key: &str,
        (object, managers): (Value, Managers),
    ) -> Result<New, Refusal> {
        let mut world = self.world.lock();
        let name = meta::name(&object).to_owned();
        if let Some(there) = world.store.get(&view.kind.id, key) {
            let mut refusal = Refusal::already_exists(view.kind.named(&name));
            if meta::is_deleting(there) {
                refusal.message.insert_str(0, "object is being deleted: ");
            }
            return Err(refusal);
        }
        if query.dry_run() {
            return Ok(New::Dry(object));
        }
        let defined = define(view, &object)?;
        let new = world.put_managed(view, key, object, managers);
        if let Some(kind) = defined {
            world.kinds.add(kind);
        }
        drop(world);
        self.announce(call, view, None, Some(&new));
        Ok(New::Stored(new))
    }

    pub(super) async fn update(
        &self,
        call: &Call,
        view: &View,
        query: &Query,
        change: Change,
    ) -> Result<Written, Refusal> {
        let on_status = match call.subresource.as_str() {
            "" => false,
            "status" if view.version().status => true,
            _ if view.built_in().is_none() => return Err(Refusal::not_found(view.kind.named(&call.name))),
            _ => return Err(Refusal::unknown_path()),
        };
        let key = path(&call.namespace, &call.name);
        let change = match change {
            Change::Whole(mut object) => {
                decode(view, &mut object, query)?;
                check_name(call, &object)?;
                settle_namespace(call, &view.kind, &mut object)?;
                Change::Whole(object)
            }
            Change::Patch(Patch::Apply(mut stated)) => {
                check_apply(call, view, query, &mut stated)?;
                Change::Patch(Patch::Apply(stated))
            }
            Change::Patch(_) if query.has("force") => return Err(no_apply()),
            Change::Patch(patch) => Change::Patch(patch),
        };
        loop {
            let stored = self.world.lock().store.get(&view.kind.id, &key).cloned();
            let Some(stored) = stored else {
                return match change {
                    Change::Whole(object) if !on_status && creates_on_update(view) => {
                        Box::pin(self.create(call, view, query, without_version(object))).await
                    }
                    Change::Patch(Patch::Apply(stated)) if !on_status => {
                        if !meta::uid(&stated).is_empty() {
                            let why = format!(
                                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                                meta::uid(&stated)
                            );
                            return Err(Refusal::conflict(view.kind.named(&call.name), &why));
                        }
                        let nothing = json!({"metadata": {}});
                        let write = self.as_write(call, view, query);
                        let (_, managers) = Managers::default().apply(&write, &nothing, &stated, true)?;
                        let mut new = without_version(stated);
                        decode(view, &mut new, query)?;
                        Box::pin(self.create_owned(call, view, query, new, Some(managers))).await
                    }
                    Change::Whole(_) | Change::Patch(_) => Err(Refusal::not_found(view.kind.named(&call.name))),
                };
            };
            let attempt = Attempt { call, view, query, on_status, key: &key };
            let old = self.seen(&stored, view).await?;
            if let Some(written) = self.attempt(&attempt, &stored, &old, &change).await? {
                return Ok(written);
            }
        }
    }

    /// One turn of the loop; `None` when somebody else wrote meanwhile.
    async fn attempt(
        &self,
        attempt: &Attempt<'_>,
        stored: &Object,
        old: &Value,
        change: &Change,
    ) -> Result<Option<Written>, Refusal> {
        let Attempt { call, view, query, on_status, .. } = *attempt;
        let named = view.kind.named(&call.name);
        let write = self.as_write(call, view, query);
        let mut applied = None;
        let mut new = match change {
            Change::Patch(Patch::Apply(stated)) => {
                let stated_uid = meta::uid(stated);
                if !stated_uid.is_empty() && stated_uid != meta::uid(old) {
                    return Err(Refusal::conflict(named, &other_uid(view, attempt.key, stated_uid, meta::uid(old))));
                }
                let (mut object, managers) = stored.managers().apply(&write, old, stated, query.flag("force"))?;
                shape(view, &mut object).map_err(|why| unreadable_patch(&stated.to_string(), &why))?;
                applied = Some(managers);
                object
            }
            Change::Whole(object) => {
                let stated = meta::uid(object);
                if !stated.is_empty() && stated != meta::uid(old) {
                    return Err(Refusal::conflict(named, &other_uid(view, attempt.key, stated, meta::uid(old))));
                }
                object.clone()
            }
            Change::Patch(patch) => {
                let mut object = patch.apply(old, view)?;
                if let Err(why) = shape(view, &mut object) {
                    return Err(unreadable_patch(&patch.apply(old, view)?.to_string(), &why));
                }
                settle_namespace(call, &view.kind, &mut object)?;
                check_name(call, &object)?;
                object
            }
        };
        let managers = match applied {
            Some(managers) => managers,
            None if stored.managers().is_empty() => Managers::default(),
            None => stored.managers().updated(&write, old, &new),
        };
        let mut warnings = self.mutate(call, view, &mut new, Some(old), query.dry_run()).await?;
        check_version(view, &call.name, &mut new, old)?;
        check_type(view, &new, &call.name)?;
        prepare_update(view, &mut new, old, on_status);
        let errors = judge(view, &new, Some(old), on_status);
        if !errors.is_empty() {
            return Err(Refusal::invalid(view.kind.named_kind(&call.name), &errors));
        }
        let question = Question { call, view, object: Some(&new), old: Some(old), dry_run: query.dry_run() };
        warnings.extend(self.validate(&question).await?);
        let stands = meta::is_deleting(&new) && meta::finalizers(&new).is_empty() && !waits_for_grace(&new, view);
        let (to_store, shown) = self.to_store(new, view).await?;
        let mut world = self.world.lock();
        if world.store.get(&view.kind.id, attempt.key).is_none_or(|now| !std::sync::Arc::ptr_eq(now, stored)) {
            return Ok(None);
        }
        if to_store == ***stored && managers == *stored.managers() {
            return Ok(Some(Written { object: shown_as(stored, shown), created: false, revision: None, warnings }));
        }
        if query.dry_run() {
            let object = made(shown.unwrap_or(to_store), &managers);
            return Ok(Some(Written { object, created: false, revision: None, warnings }));
        }
        if stands {
            // The last finalizer is gone, and so is the object; the answer is what was sent, under the version it was sent for.
            let last = world.remove(view, attempt.key);
            drop(world);
            let revision = self.announce(call, view, last.as_ref(), None);
            let object = made(shown.unwrap_or(to_store), &managers);
            return Ok(Some(Written { object, created: false, revision: Some(revision), warnings }));
        }
        let defined = define(view, &to_store)?;
        let put = world.put_managed(view, attempt.key, to_store, managers);
        if let Some(kind) = defined {
            world.kinds.add(kind);
        }
        drop(world);
        let revision = self.announce(call, view, Some(stored), Some(&put));
        Ok(Some(Written { object: shown_as(&put, shown), created: false, revision: Some(revision), warnings }))
    }

    /// The write as those see it who count the owners of fields.
    fn as_write<'a>(&self, call: &Call, view: &'a View, query: &Query) -> Write<'a> {
        let who = Who {
            name: query.manager().to_owned(),
            api_version: view.api_version(),
            subresource: call.subresource.clone(),
            time: stamp(self.clock.now()),
        };
        Write { view, who, on_status: call.subresource == "status" }
    }

    /// The stored object in the version of a request.
    async fn seen<'a>(&self, stored: &'a Object, view: &View) -> Result<Cow<'a, Value>, Refusal> {
        if view.is_stored() {
            return Ok(Cow::Borrowed(stored.value()));
        }
        self.convert_one(Value::clone(stored), &view.stored(), view).await.map(Cow::Owned)
    }

    /// What is to be stored of an object in the version of a request, and the object itself where that is another.
    async fn to_store(&self, object: Value, view: &View) -> Result<(Value, Option<Value>), Refusal> {
        if view.is_stored() {
            return Ok((object, None));
        }
        let stored = self.convert_one(object.clone(), view, &view.stored()).await?;
        Ok((stored, Some(object)))
    }
}

/// What came of storing a new object.
enum New {
    Stored(Object),
    /// It was not to be.
    Dry(Value),
}

fn made(object: Value, managers: &Managers) -> Shown {
    match with_managers(&object, managers) {
        Cow::Borrowed(_) => Shown::Made(object),
        Cow::Owned(shown) => Shown::Made(shown),
    }
}

/// An answer under the revision of what is stored.
fn shown_as(stored: &Object, other_version: Option<Value>) -> Shown {
    match other_version {
        None => Shown::Stored(stored.clone()),
        Some(mut object) => {
            object["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
            made(object, stored.managers())
        }
    }
}

struct Attempt<'a> {
    call: &'a Call,
    view: &'a View,
    query: &'a Query,
    on_status: bool,
    key: &'a str,
}

impl World {
    /// What was gathered from objects of this kind holds no longer.
    fn touched(&mut self, view: &View) {
        match view.kind.group.as_str() {
            rbac::GROUP => self.access.forget(),
            admission::GROUP => self.webhooks = None,
            _ => {}
        }
    }

    pub(super) fn put(&mut self, view: &View, key: &str, object: Value) -> Object {
        self.touched(view);
        self.store.put(&view.kind.id, key, object)
    }

    fn put_managed(&mut self, view: &View, key: &str, object: Value, managers: Managers) -> Object {
        self.touched(view);
        self.store.put_managed(&view.kind.id, key, object, managers)
    }

    pub(super) fn remove(&mut self, view: &View, key: &str) -> Option<Object> {
        self.touched(view);
        self.store.remove(&view.kind.id, key)
    }
}

pub(super) fn stamp(now: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// The kind that a CustomResourceDefinition to be stored stands for.
fn define(view: &View, object: &Value) -> Result<Option<Kind>, Refusal> {
    if &*view.kind.id != "customresourcedefinitions.apiextensions.k8s.io" {
        return Ok(None);
    }
    Kind::custom(object).map(Some).map_err(|why| Refusal::internal(&why))
}

fn creates_on_update(view: &View) -> bool {
    view.built_in().is_some_and(|built_in| built_in.create_on_update)
}

fn without_version(mut object: Value) -> Value {
    meta::set(&mut object, "resourceVersion", Value::Null);
    object
}

fn check_name(call: &Call, object: &Value) -> Result<(), Refusal> {
    let name = meta::name(object);
    let asked = &call.name;
    if name.is_empty() {
        let why = format!("the name of the object ({asked} based on URL) was undeterminable: name must be provided");
        return Err(Refusal::bad_request(why));
    }
    if name != asked {
        let why = format!("the name of the object ({name}) does not match the name on the URL ({asked})");
        return Err(Refusal::bad_request(why));
    }
    Ok(())
}

/// What has to be right about an apply before anything is looked up. It need not say in which namespace it is.
fn check_apply(call: &Call, view: &View, query: &Query, stated: &mut Value) -> Result<(), Refusal> {
    let options = super::status::Named { group: "meta.k8s.io", what: "PatchOptions", name: "" };
    if query.text("fieldManager").is_empty() {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Refusal::invalid(options, &[error]));
    }
    let text = |field: &str| stated[field].as_str().unwrap_or_default();
    if !stated.is_object() || text("kind").is_empty() || text("apiVersion").is_empty() {
        return Err(Refusal::bad_request("error decoding YAML: the object has no kind or apiVersion"));
    }
    if text("apiVersion") != view.api_version() || text("kind") != view.kind.kind {
        let (version, kind) = (view.api_version(), &view.kind.kind);
        let why = format!("the apply is of {} {}, the path of {version} {kind}", text("apiVersion"), text("kind"));
        return Err(Refusal::bad_request(why));
    }
    if !meta::is_empty(&stated["metadata"]["managedFields"]) {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    if !stated["metadata"].is_object() {
        stated["metadata"] = json!({});
    }
    if meta::name(stated).is_empty() {
        meta::set(stated, "name", call.name.clone().into());
    }
    check_name(call, stated)?;
    settle_namespace(call, &view.kind, stated)
}

/// Only an apply can be forced.
fn no_apply() -> Refusal {
    let options = super::status::Named { group: "meta.k8s.io", what: "PatchOptions", name: "" };
    let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
    Refusal::invalid(options, &[error])
}

/// In the words of the storage, which keeps this precondition.
fn other_uid(view: &View, key: &str, stated: &str, uid: &str) -> String {
    let (group, plural) = (&view.kind.group, &view.kind.plural);
    let folder = if view.built_in().is_some() { plural.clone() } else { format!("{group}/{plural}") };
    format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{folder}/{key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {stated}, UID in object meta: {uid}"
    )
}

/// A patch or a body may name another kind or version.
fn check_type(view: &View, object: &Value, name: &str) -> Result<(), Refusal> {
    let (kind, version) = (object["kind"].as_str().unwrap_or_default(), view.api_version());
    let mut errors = Vec::new();
    if kind != view.kind.kind {
        errors.push(FieldError::invalid("kind", &json!(kind), &format!("must be {}", view.kind.kind)));
    }
    if object["apiVersion"] != version {
        errors.push(FieldError::invalid("apiVersion", &object["apiVersion"], &format!("must be {version}")));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(super::status::Named { group: &view.kind.group, what: kind, name }, &errors))
}

/// The patched object does not read.
fn unreadable_patch(object: &str, why: &str) -> Refusal {
    let error = FieldError::invalid("patch", &json!(object), why);
    Refusal::invalid(super::status::Named { group: "", what: "", name: "" }, &[error])
}

/// The version that the client wrote on, or none where the kind allows it.
fn check_version(view: &View, name: &str, new: &mut Value, old: &Value) -> Result<(), Refusal> {
    let (stated, current) = (meta::resource_version(new), meta::resource_version(old));
    if matches!(stated, "" | "0") {
        if view.built_in().is_some_and(|built_in| built_in.unconditional) {
            let current = current.to_owned();
            meta::set(new, "resourceVersion", current.into());
            return Ok(());
        }
        let error = FieldError::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        return Err(Refusal::invalid(view.kind.named(name), &[error]));
    }
    if stated == current { Ok(()) } else { Err(Refusal::modified(view.kind.named(name))) }
}

fn prepare_create(view: &View, object: &mut Value) {
    match &view.kind.class {
        Class::BuiltIn(built_in) => {
            if built_in.status && built_in.plural != "nodes" {
                drop_status(object);
            }
            (built_in.prepare)(object, None);
            if built_in.generation {
                object["metadata"]["generation"] = 1.into();
            }
        }
        Class::Custom { .. } => {
            if view.version().status {
                drop_status(object);
            }
            object["metadata"]["generation"] = 1.into();
        }
    }
}

fn drop_status(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
}

fn prepare_update(view: &View, new: &mut Value, old: &Value, on_status: bool) {
    if on_status {
        let status = new.as_object_mut().and_then(|fields| fields.shift_remove("status"));
        let version = new["metadata"]["resourceVersion"].take();
        let finalizing = new["metadata"]["uid"].take();
        let kept = old.as_object().into_iter().flatten().filter(|(field, _)| *field != "status");
        *new = Value::Object(kept.map(|(field, value)| (field.clone(), value.clone())).collect());
        new["metadata"]["resourceVersion"] = version;
        // Another uid is refused below, on this path too.
        if !finalizing.is_null() && view.built_in().is_some() {
            new["metadata"]["uid"] = finalizing;
        }
        if let Some(status) = status {
            new["status"] = status;
        }
        if let Some(built_in) = view.built_in() {
            (built_in.prepare)(new, Some(old));
        }
        return;
    }
    meta::keep(new, old, "generation");
    if view.version().status && new.get("status") != old.get("status") {
        drop_status(new);
        if let Some(status) = old.get("status") {
            new["status"] = status.clone();
        }
    }
    if let Some(built_in) = view.built_in() {
        (built_in.prepare)(new, Some(old));
    }
    let counts = view.built_in().is_none_or(|built_in| built_in.generation);
    if counts && !same_but_metadata(new, old) {
        new["metadata"]["generation"] = (meta::generation(old) + 1).into();
    }
    if meta::uid(new).is_empty() {
        meta::keep(new, old, "uid");
    }
    meta::keep(new, old, "creationTimestamp");
    if meta::is_deleting(old) {
        meta::keep(new, old, "deletionTimestamp");
    }
    if new["metadata"]["deletionGracePeriodSeconds"].is_null() {
        meta::keep(new, old, "deletionGracePeriodSeconds");
    }
}

fn same_but_metadata(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    one.len() == other.len()
        && one.iter().filter(|(field, _)| *field != "metadata").all(|(field, value)| other.get(field) == Some(value))
}

/// Everything that is wrong with a new state.
fn judge(view: &View, new: &Value, old: Option<&Value>, on_status: bool) -> Vec<FieldError> {
    let namespaced = view.kind.namespaced;
    let mut errors = Vec::new();
    match old {
        None => errors.extend(meta::validate(new, namespaced, view.kind.name_rule())),
        Some(old) => {
            // The server asks both its general rules and those of the kind, and tells what both find.
            errors.extend(meta::validate(new, namespaced, NameRule::Path));
            let wrong = meta::validate_update(new, old);
            errors.extend(wrong.iter().cloned().chain(wrong.iter().cloned()));
        }
    }
    match &view.kind.class {
        Class::BuiltIn(built_in) => {
            if view.kind.group.is_empty() {
                errors.extend(meta::validate_core_finalizers(new));
            }
            errors.extend((built_in.validate)(new, old));
        }
        Class::Custom { .. } if on_status => {
            let schema = view.version().schema.properties.get("status");
            if let (Some(schema), Some(status)) = (schema, new.get("status")) {
                errors.extend(validate_at("status", status, old.and_then(|old| old.get("status")), schema));
            }
        }
        Class::Custom { .. } => errors.extend(validate(new, old, &view.version().schema)),
    }
    errors
}

/// A namespace goes only when it has been emptied.
fn waits_for_grace(object: &Value, view: &View) -> bool {
    view.kind.plural == "namespaces" && !meta::is_empty(&object["spec"]["finalizers"])
}
