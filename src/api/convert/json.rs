//! Small edits of JSON objects. Each does nothing where what it looks for is absent or of another type.

use serde_json::{Number, Value};

use super::Object;

/// Free-form JSON, whose nulls and numbers are the user's: what is below the parameters of bonds, in either version.
const FREE_FORM: &str = "parameters";

pub(super) fn object<'a>(parent: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    parent.get_mut(key)?.as_object_mut()
}

/// The object at `key`, put there if something else or nothing is.
pub(super) fn object_or_new<'a>(parent: &'a mut Object, key: &str) -> &'a mut Object {
    let value = parent.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("made an object above"),
    }
}

/// Every object of the list at `key`.
pub(super) fn each<'a>(parent: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> + use<'a> {
    parent.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Every object of the lists at these keys.
pub(super) fn each_of<'a>(parent: &'a mut Object, keys: &[&str]) -> impl Iterator<Item = &'a mut Object> {
    let lists = parent.iter_mut().filter(|(key, _)| keys.contains(&key.as_str()));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten().filter_map(Value::as_object_mut)
}

pub(super) fn rename(object: &mut Object, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.into(), value);
    }
}

pub(super) fn default(object: &mut Object, key: &str, value: impl Into<Value>) {
    object.entry(key).or_insert_with(|| value.into());
}

pub(super) fn is_blank(value: &Value) -> bool {
    value.as_str() == Some("")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Null => true,
        Value::Bool(_) => false,
    }
}

/// Removes these keys where they hold `""`, `0`, `[]` or `{}`.
pub(super) fn drop_each_empty(object: &mut Object, keys: &[&str]) {
    keys.iter().for_each(|key| drop_empty(object, key));
}

pub(super) fn drop_empty(object: &mut Object, key: &str) {
    if object.get(key).is_some_and(is_empty) {
        object.remove(key);
    }
}

/// Removes every empty list of `object`; the schemas want lists absent rather than empty.
pub(super) fn drop_empty_lists(object: &mut Object) {
    object.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
}

/// Removes the object at `key` unless one of these texts of it says something.
pub(super) fn drop_unless_any(parent: &mut Object, key: &str, texts: &[&str]) {
    let says = |object: &Object| texts.iter().any(|text| object.get(*text).is_some_and(|value| !is_empty(value)));
    if parent.get(key).and_then(Value::as_object).is_some_and(|object| !says(object)) {
        parent.remove(key);
    }
}

/// `null` is absent (TY-14), wherever the API has a meaning for the place.
pub(crate) fn drop_nulls(parent: &mut Object, key: &str) {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|_, value| !value.is_null());
                object.iter_mut().filter(|(key, _)| *key != FREE_FORM).for_each(|(_, value)| clean(value));
            }
            Value::Array(items) => items.iter_mut().for_each(clean),
            _ => {}
        }
    }
    if parent.get(key).is_some_and(Value::is_null) {
        parent.remove(key);
    }
    parent.get_mut(key).map(clean);
}

/// Numbers are 64-bit in v1beta1 and 32-bit in v1beta2: what does not fit becomes the nearest that does (C-7).
/// Conditions and generations are the same in both and stay out of it.
pub(super) fn saturate(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let nearest = match number.as_i64() {
                Some(exact) => exact.clamp(i32::MIN.into(), i32::MAX.into()),
                #[expect(clippy::cast_possible_truncation, reason = "`as` from a float saturates")]
                None => (number.as_f64().unwrap_or_default() as i32).into(),
            };
            *number = Number::from(nearest);
        }
        Value::Object(object) => {
            let ours = |key: &str| !matches!(key, "conditions" | "observedGeneration" | FREE_FORM);
            object.iter_mut().filter(|(key, _)| ours(key)).for_each(|(_, value)| saturate(value));
        }
        Value::Array(items) => items.iter_mut().for_each(saturate),
        _ => {}
    }
}

/// A map becomes a list in key order; `entry` says how one looks.
pub(super) fn map_to_list(parent: &mut Object, key: &str, mut entry: impl FnMut(&str, Value) -> Object) {
    let Some(Value::Object(map)) = parent.get_mut(key).map(Value::take) else { return };
    let mut entries: Vec<_> = map.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let list: Vec<Value> = entries.into_iter().map(|(name, value)| Value::Object(entry(&name, value))).collect();
    parent.insert(key.into(), list.into());
    drop_empty(parent, key);
}

/// The way back; entries without a name are left out, the last of equal names stays.
pub(super) fn list_to_map(parent: &mut Object, key: &str, mut entry: impl FnMut(Object) -> Option<Value>) {
    let Some(Value::Array(list)) = parent.get_mut(key).map(Value::take) else { return };
    let mut map = Object::new();
    for item in list {
        let Value::Object(mut item) = item else { continue };
        let Some(Value::String(name)) = item.remove("name") else { continue };
        if let Some(value) = entry(item) {
            map.insert(name, value);
        }
    }
    parent.insert(key.into(), Value::Object(map));
    drop_empty(parent, key);
}
