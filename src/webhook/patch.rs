//! The JSON patch of a default: it adds and replaces what the default set, and touches nothing else (W-5).

use serde_json::{Value, json};

/// What has to be added to `raw`, the object as sent, so that it says what changed from `before` to `after`. These two are
/// the object as we understand it: fields we do not know are in neither and stay as they are.
pub(crate) fn additions(raw: &Value, before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    walk("", raw, before, after, &mut operations);
    operations
}

fn walk(path: &str, raw: &Value, before: &Value, after: &Value, operations: &mut Vec<Value>) {
    if before == after {
        return;
    }
    if let (Value::Object(_), Value::Object(members)) = (raw, after) {
        for (key, after) in members {
            let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
            match raw.get(key) {
                Some(raw) => walk(&path, raw, &before[key.as_str()], after, operations),
                None if before.get(key) != Some(after) => {
                    operations.push(json!({"op": "add", "path": path, "value": after}));
                }
                None => {}
            }
        }
    } else {
        operations.push(json!({"op": "replace", "path": path, "value": after}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_default_set_is_in_the_patch() {
        let before = json!({"a": 1});
        let after = json!({"a": 1, "b": {"c": 2}, "d/e": 3});
        let add = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
        let raw = json!({"a": 1, "unknown": true});
        assert_eq!(additions(&raw, &before, &after), [add("/b", json!({"c": 2})), add("/d~1e", json!(3))]);
        let raw = json!({"a": 1, "b": {"unknown": true}, "d/e": 0});
        let replace = json!({"op": "replace", "path": "/d~1e", "value": 3});
        assert_eq!(additions(&raw, &before, &after), [add("/b/c", json!(2)), replace]);
        assert_eq!(additions(&raw, &after, &after), Vec::<Value>::new());
    }
}
