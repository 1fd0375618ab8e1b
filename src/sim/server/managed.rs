//! Who owns which field: managed fields, and server-side apply on top of them.
//!
//! As in the real server a set of fields belongs to a manager, an operation and a version. A write takes what it changes from everybody
//! else; an apply owns exactly what it states, is refused when it would change what is another's, and takes out what it stated
//! before and nobody else owns. How lists and maps are merged comes from the schema of the kind. Not carried out: sets of another
//! version of the kind are taken as they are, old updates are not rolled up, a client cannot edit the list itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use super::kinds::View;
use super::schema::{ListType, Schema};
use super::status::Refusal;

/// What the owner of an object is called that was there before anybody counted.
const BEFORE: &str = "before-first-apply";
/// Fields that are nobody's.
const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// One step from a value to what is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Field(String),
    /// An item of a list that is a map, by its keys in JSON.
    Key(String),
    /// An item of a list that is a set, in JSON.
    Item(String),
}

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    member: bool,
    below: BTreeMap<Part, Fields>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// Who writes, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub name: String,
    pub api_version: String,
    pub subresource: String,
    pub time: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Manager {
    operation: Operation,
    who: Who,
    fields: Fields,
}

/// Everybody who owns a field of an object; nobody while nobody counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Managers(Arc<Vec<Manager>>);

/// A child of a value under its schema.
struct Child<'v, 's> {
    part: Part,
    value: &'v Value,
    schema: &'s Schema,
    /// A field that the schema names, which is there as soon as its parent is.
    declared: bool,
}

static ANY: LazyLock<Schema> = LazyLock::new(Schema::default);

/// The lists in every object's metadata that are merged.
static METADATA: LazyLock<Schema> = LazyLock::new(|| {
    let of = |list: ListType| Schema { list, ..Schema::default() };
    let named = |name: &str, schema: Schema| (name.to_owned(), schema);
    let text = |name: &str| named(name, Schema::default());
    let owner = Schema {
        properties: ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"].map(text).into(),
        atomic_map: true,
        ..Schema::default()
    };
    let properties = [
        text("generateName"),
        text("labels"),
        text("annotations"),
        named("finalizers", of(ListType::Set)),
        named("ownerReferences", Schema { items: Some(Box::new(owner)), ..of(ListType::Map(vec!["uid".into()])) }),
    ];
    Schema { properties: properties.into(), ..Schema::default() }
});

fn field<'s>(schema: &'s Schema, name: &str, top: bool) -> (&'s Schema, bool) {
    if top && name == "metadata" {
        return (&METADATA, true);
    }
    match (schema.properties.get(name), schema.additional.as_deref()) {
        (Some(property), _) => (property, true),
        (None, Some(additional)) => (additional, false),
        (None, None) => (&ANY, top),
    }
}

/// How an item of a list is called, if the list has names for them.
fn item_part(list: &ListType, item: &Value, schema: Option<&Schema>) -> Option<Part> {
    match list {
        ListType::Atomic => None,
        ListType::Set => Some(Part::Item(item.to_string())),
        ListType::Map(keys) => {
            let mut named = BTreeMap::new();
            for key in keys {
                let default = || schema?.properties.get(key)?.default.as_ref();
                if let Some(value) = item.get(key).or_else(default) {
                    named.insert(key, value);
                }
            }
            serde_json::to_string(&named).ok().map(Part::Key)
        }
    }
}

/// What is in a value; `None` when it is owned as a whole.
fn open<'v, 's>(value: &'v Value, schema: &'s Schema, top: bool) -> Option<Vec<Child<'v, 's>>> {
    match value {
        Value::Object(fields) if !schema.atomic_map => {
            let child = |(name, value): (&String, &'v Value)| {
                let (schema, declared) = field(schema, name, top);
                Child { part: Part::Field(name.clone()), value, schema, declared }
            };
            Some(fields.iter().map(child).collect())
        }
        Value::Array(items) => {
            let of = schema.items.as_deref();
            let child = |value: &'v Value| {
                let part = item_part(&schema.list, value, of)?;
                Some(Child { part, value, schema: of.unwrap_or(&ANY), declared: false })
            };
            items.iter().map(child).collect::<Option<Vec<_>>>().filter(|_| !matches!(schema.list, ListType::Atomic))
        }
        _ => None,
    }
}

impl Fields {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// What an apply of this states.
    fn stated(value: &Value, schema: &Schema, top: bool) -> Self {
        let mut fields = Self::default();
        let Some(children) = open(value, schema, top) else { return Self { member: true, ..fields } };
        for child in children {
            let mut below = Self::stated(child.value, child.schema, false);
            below.member |=
                !child.declared || child.value.is_null() || child.value.as_object().is_some_and(Map::is_empty);
            if !below.is_empty() {
                fields.below.insert(child.part, below);
            }
        }
        fields
    }

    /// The value and everything in it.
    fn everything(value: &Value, schema: &Schema, top: bool) -> Self {
        let children = open(value, schema, top).into_iter().flatten();
        let below = children.map(|child| (child.part, Self::everything(child.value, child.schema, false)));
        Self { member: true, below: below.collect() }
    }

    fn add(&mut self, other: &Self) {
        self.member |= other.member;
        for (part, fields) in &other.below {
            self.below.entry(part.clone()).or_default().add(fields);
        }
    }

    fn remove(&mut self, other: &Self) {
        self.member &= !other.member;
        for (part, fields) in &other.below {
            if let Some(mine) = self.below.get_mut(part) {
                mine.remove(fields);
                if mine.is_empty() {
                    self.below.remove(part);
                }
            }
        }
    }

    fn common(&self, other: &Self) -> Self {
        let both = |(part, mine): (&Part, &Self)| {
            let common = mine.common(other.below.get(part)?);
            (!common.is_empty()).then(|| (part.clone(), common))
        };
        Self { member: self.member && other.member, below: self.below.iter().filter_map(both).collect() }
    }

    /// Without what is nobody's, and what a write here cannot touch.
    fn owned(mut self, view: &View, on_status: bool) -> Self {
        self.member = false;
        let top = |name: &str| Part::Field(name.to_owned());
        for name in ["apiVersion", "kind"] {
            self.below.remove(&top(name));
        }
        if let Some(metadata) = self.below.get_mut(&top("metadata")) {
            metadata.member = false;
            UNOWNED.iter().for_each(|name| _ = metadata.below.remove(&top(name)));
            if metadata.is_empty() {
                self.below.remove(&top("metadata"));
            }
        }
        if on_status {
            self.below.retain(|part, _| *part == top("status"));
        } else if view.version().status {
            self.below.remove(&top("status"));
        }
        self
    }

    /// Every member by its path: those of a level before what is below them.
    fn paths(&self, above: &str, paths: &mut Vec<String>) {
        let mut deeper = Vec::new();
        for (part, fields) in &self.below {
            let mut path = above.to_owned();
            // Writing into a string cannot fail.
            let _ = match part {
                Part::Field(name) => write!(path, ".{name}"),
                Part::Item(value) => write!(path, "[={value}]"),
                Part::Key(keys) => {
                    let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                    let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                    write!(path, "[{}]", keys.join(","))
                }
            };
            if fields.member {
                paths.push(path.clone());
            }
            deeper.push((path, fields));
        }
        deeper.into_iter().for_each(|(path, fields)| fields.paths(&path, paths));
    }

    /// As `fieldsV1` writes it.
    fn json(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.below.is_empty() {
            fields.insert(".".to_owned(), json!({}));
        }
        for (part, below) in &self.below {
            let name = match part {
                Part::Field(name) => format!("f:{name}"),
                Part::Key(keys) => format!("k:{keys}"),
                Part::Item(value) => format!("v:{value}"),
            };
            fields.insert(name, below.json());
        }
        fields.into()
    }
}

/// What differs between two states.
#[derive(Default)]
struct Changes {
    /// Added or with another value.
    set: Fields,
    removed: Fields,
}

fn compare(old: Option<&Value>, new: Option<&Value>, schema: &Schema, top: bool) -> Changes {
    let mut changes = Changes::default();
    match (old, new) {
        (old, new) if old == new => {}
        (None, Some(new)) => changes.set = Fields::everything(new, schema, top),
        (Some(old), None) => changes.removed = Fields::everything(old, schema, top),
        (Some(old), Some(new)) => {
            let (Some(before), Some(after)) = (open(old, schema, top), open(new, schema, top)) else {
                changes.set.member = true;
                return changes;
            };
            let mut sides: BTreeMap<Part, (Option<&Value>, Option<&Value>, &Schema)> = BTreeMap::new();
            for child in before {
                sides.insert(child.part, (Some(child.value), None, child.schema));
            }
            for child in after {
                sides.entry(child.part).or_insert((None, None, child.schema)).1 = Some(child.value);
            }
            for (part, (old, new, schema)) in sides {
                let Changes { set, removed } = compare(old, new, schema, false);
                for (all, some) in [(&mut changes.set, set), (&mut changes.removed, removed)] {
                    if !some.is_empty() {
                        all.below.insert(part.clone(), some);
                    }
                }
            }
        }
        (None, None) => {}
    }
    changes
}

/// Brings in what is stated; everything else stays.
fn merge(live: &mut Value, stated: &Value, schema: &Schema, top: bool) {
    match (live, stated) {
        (Value::Object(live), Value::Object(stated)) if !schema.atomic_map => {
            for (name, value) in stated {
                match live.get_mut(name) {
                    Some(there) => merge(there, value, field(schema, name, top).0, false),
                    None => _ = live.insert(name.clone(), value.clone()),
                }
            }
        }
        (Value::Array(live), Value::Array(stated)) if !matches!(schema.list, ListType::Atomic) => {
            let of = schema.items.as_deref();
            for item in stated {
                let part = item_part(&schema.list, item, of);
                match live.iter_mut().find(|there| item_part(&schema.list, there, of) == part) {
                    Some(there) => merge(there, item, of.unwrap_or(&ANY), false),
                    None => live.push(item.clone()),
                }
            }
        }
        (live, stated) => *live = stated.clone(),
    }
}

/// Takes out what was stated before and is nobody's now.
fn prune(value: &mut Value, before: &Fields, owned: &Fields, schema: &Schema, top: bool) {
    let nothing = Fields::default();
    for (part, before) in &before.below {
        // Metadata has more in it than anybody owns.
        let is_metadata = top && *part == Part::Field("metadata".to_owned());
        let owned = owned.below.get(part).or(is_metadata.then_some(&nothing));
        match (part, &mut *value) {
            (Part::Field(name), Value::Object(fields)) => match (owned, fields.get_mut(name)) {
                (Some(owned), Some(below)) => prune(below, before, owned, field(schema, name, top).0, false),
                (None, Some(_)) => _ = fields.shift_remove(name),
                (_, None) => {}
            },
            (Part::Key(_) | Part::Item(_), Value::Array(items)) => {
                let of = schema.items.as_deref();
                let at = items.iter().position(|item| item_part(&schema.list, item, of).as_ref() == Some(part));
                match (owned, at) {
                    (Some(owned), Some(at)) => prune(&mut items[at], before, owned, of.unwrap_or(&ANY), false),
                    (None, Some(at)) => _ = items.remove(at),
                    (_, None) => {}
                }
            }
            _ => {}
        }
    }
}

/// A write as managed fields see it.
pub(super) struct Write<'a> {
    pub view: &'a View,
    pub who: Who,
    pub on_status: bool,
}

impl Write<'_> {
    fn owns(&self, manager: &Manager, operation: Operation) -> bool {
        let (mine, theirs) = (&self.who, &manager.who);
        manager.operation == operation
            && mine.name == theirs.name
            && mine.subresource == theirs.subresource
            && (operation == Operation::Apply || mine.api_version == theirs.api_version)
    }

    fn changes(&self, old: &Value, new: &Value) -> Changes {
        let Changes { set, removed } = compare(Some(old), Some(new), &self.view.version().schema, true);
        let owned = |fields: Fields| fields.owned(self.view, self.on_status);
        Changes { set: owned(set), removed: owned(removed) }
    }
}

impl Managers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// After a write that was no apply.
    pub(super) fn updated(&self, write: &Write<'_>, old: &Value, new: &Value) -> Self {
        let Changes { set, removed } = write.changes(old, new);
        if set.is_empty() && removed.is_empty() {
            return self.clone();
        }
        let mut all = Vec::clone(&self.0);
        let mine = |manager: &Manager| write.owns(manager, Operation::Update);
        let mut fields = all.iter().find(|one| mine(one)).map(|one| one.fields.clone()).unwrap_or_default();
        fields.add(&set);
        fields.remove(&removed);
        all.retain(|one| !mine(one));
        take_away(&mut all, &set, &removed);
        if !fields.is_empty() {
            all.push(Manager { operation: Operation::Update, who: write.who.clone(), fields });
        }
        Self::sorted(all)
    }

    /// The new state that an apply makes of the old one, or the fields that are others'.
    pub(super) fn apply(
        &self,
        write: &Write<'_>,
        old: &Value,
        stated: &Value,
        force: bool,
    ) -> Result<(Value, Self), Refusal> {
        let schema = &write.view.version().schema;
        let mut all = Vec::clone(&self.0);
        if all.is_empty() && !old["metadata"]["uid"].is_null() {
            let who = Who { name: BEFORE.to_owned(), subresource: String::new(), ..write.who.clone() };
            let fields = compare(Some(&json!({"metadata": {}})), Some(old), schema, true).set;
            let fields = fields.owned(write.view, false);
            all.push(Manager { operation: Operation::Update, who, fields });
        }
        let mine = |manager: &Manager| write.owns(manager, Operation::Apply);
        let before = all.iter().position(mine).map(|at| all.remove(at));
        let fields = Fields::stated(stated, schema, true).owned(write.view, write.on_status);
        let mut new = old.clone();
        merge(&mut new, stated, schema, true);
        if let Some(before) = &before {
            let mut owned = fields.clone();
            all.iter().for_each(|one| owned.add(&one.fields));
            prune(&mut new, &before.fields, &owned, schema, true);
        }
        let Changes { set, removed } = write.changes(old, &new);
        let conflicts: Vec<_> = all.iter().map(|one| (one, one.fields.common(&set))).collect();
        if !force && conflicts.iter().any(|(_, fields)| !fields.is_empty()) {
            return Err(conflict(&conflicts));
        }
        take_away(&mut all, &set, &removed);
        if !fields.is_empty() {
            let who = match before {
                Some(before) if before.fields == fields && before.who.api_version == write.who.api_version => {
                    before.who
                }
                // Who changes nothing but who owns what does so at no time.
                _ if new == *old => Who { time: String::new(), ..write.who.clone() },
                _ => write.who.clone(),
            };
            all.push(Manager { operation: Operation::Apply, who, fields });
        }
        Ok((new, Self::sorted(all)))
    }

    fn sorted(mut all: Vec<Manager>) -> Self {
        let key = |one: &Manager| {
            let Who { name, api_version, subresource, time } = one.who.clone();
            (one.operation, time, name, api_version, subresource)
        };
        all.sort_by_cached_key(key);
        Self(Arc::new(all))
    }

    /// As metadata shows them.
    pub(super) fn json(&self) -> Value {
        let entry = |Manager { operation, who, fields }: &Manager| {
            let operation = match operation {
                Operation::Apply => "Apply",
                Operation::Update => "Update",
            };
            let mut entry = json!({
                "manager": who.name, "operation": operation, "apiVersion": who.api_version,
                "fieldsType": "FieldsV1", "fieldsV1": fields.json(),
            });
            if !who.time.is_empty() {
                entry["time"] = who.time.clone().into();
            }
            if !who.subresource.is_empty() {
                entry["subresource"] = who.subresource.clone().into();
            }
            entry
        };
        self.0.iter().map(entry).collect()
    }
}

/// What was set or removed is no longer anybody else's.
fn take_away(all: &mut Vec<Manager>, set: &Fields, removed: &Fields) {
    for one in all.iter_mut() {
        one.fields.remove(set);
        one.fields.remove(removed);
    }
    all.retain(|one| !one.fields.is_empty());
}

fn conflict(all: &[(&Manager, Fields)]) -> Refusal {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (Manager { operation, who, .. }, fields) in all {
        let Who { name, api_version, subresource, .. } = who;
        let mut named = format!("{name:?}");
        if !subresource.is_empty() {
            let _ = write!(named, " with subresource {subresource:?}");
        }
        if *operation == Operation::Update {
            let _ = write!(named, " using {api_version}");
        }
        let mut paths = Vec::new();
        fields.paths("", &mut paths);
        if !paths.is_empty() {
            said.insert(named, paths);
        }
    }
    let many: usize = said.values().map(Vec::len).sum();
    let message = if many == 1 {
        let one: Vec<_> = said.iter().map(|(named, paths)| format!("{named}: {}", paths.join(""))).collect();
        format!("Apply failed with 1 conflict: conflict with {}", one.join(""))
    } else {
        let each = said.iter().map(|(named, paths)| {
            let paths: Vec<_> = paths.iter().map(|path| format!("- {path}")).collect();
            format!("conflicts with {named}:\n{}", paths.join("\n"))
        });
        format!("Apply failed with {many} conflicts: {}", each.collect::<Vec<_>>().join("\n"))
    };
    let causes = said.iter().flat_map(|(named, paths)| {
        paths.iter().map(move |path| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {named}"), "field": path})
        })
    });
    let causes: Vec<Value> = causes.collect();
    Refusal::new(409, "Conflict", message).with_details(json!({"causes": causes}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}});
        let spec = json!({"type": "object", "properties": {
            "watts": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "parts": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            "whole": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
        }});
        Schema::parse(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
    }

    #[test]
    fn what_is_stated_is_told_by_the_schema() {
        let object = json!({"spec": {
            "watts": 5, "tags": ["a"], "parts": [{"name": "x", "value": "1"}], "whole": {"a": "b"}, "map": {"a": "b"},
        }});
        let expected = json!({"f:spec": {
            "f:watts": {}, "f:tags": {"v:\"a\"": {}}, "f:whole": {}, "f:map": {"f:a": {}},
            "f:parts": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:value": {}}},
        }});
        assert_eq!(Fields::stated(&object, &schema(), true).json(), expected);
    }

    #[test]
    fn what_is_no_longer_stated_goes_unless_another_owns_it() {
        let schema = schema();
        let fields = |object: &Value| Fields::stated(object, &schema, true);
        let before = json!({"spec": {"watts": 5, "tags": ["a", "b"], "parts": [{"name": "x"}, {"name": "y"}]}});
        let owned = json!({"spec": {"tags": ["b"], "parts": [{"name": "y", "value": "1"}]}});
        let mut object = json!({"spec": {"watts": 5, "tags": ["a", "b", "c"], "parts": [{"name": "x"}, {"name": "y", "value": "1"}]}});
        prune(&mut object, &fields(&before), &fields(&owned), &schema, true);
        assert_eq!(object, json!({"spec": {"tags": ["b", "c"], "parts": [{"name": "y", "value": "1"}]}}));
    }

    #[test]
    fn what_differs_is_found_down_to_its_place() {
        let old = json!({"spec": {"watts": 5, "map": {"a": "b", "c": "d"}}});
        let new = json!({"spec": {"watts": 6, "map": {"a": "b"}, "tags": ["a"]}});
        let Changes { set, removed } = compare(Some(&old), Some(&new), &schema(), true);
        assert_eq!(set.json(), json!({"f:spec": {"f:watts": {}, "f:tags": {".": {}, "v:\"a\"": {}}}}));
        assert_eq!(removed.json(), json!({"f:spec": {"f:map": {"f:c": {}}}}));
    }
}
