//! Server-side apply, and who owns what. Answers of these cases keep their managed fields.

use serde_json::{Value, json};

use super::{BULBS, LAMPS, MAPS, OLD_BULBS, at, lamp, map, plain, with};
use crate::harness::{Case, MERGE, Step};

const APPLY: &str = "application/apply-patch+yaml";

trait Applies {
    fn apply(self, path: &str, manager: &str, body: Value) -> Self;
    fn force(self, path: &str, manager: &str, body: Value) -> Self;
    fn merge_as(self, path: &str, manager: &str, body: Value) -> Self;
}

impl Applies for Case {
    fn apply(self, path: &str, manager: &str, body: Value) -> Self {
        let path = format!("{path}?fieldManager={manager}");
        self.step(Step { content_type: APPLY, ..Step::new("PATCH", path, body) })
    }

    fn force(self, path: &str, manager: &str, body: Value) -> Self {
        self.apply(path, &format!("{manager}&force=true"), body)
    }

    fn merge_as(self, path: &str, manager: &str, body: Value) -> Self {
        let path = format!("{path}?fieldManager={manager}");
        self.step(Step { content_type: MERGE, ..Step::new("PATCH", path, body) })
    }
}

fn by(path: &str, manager: &str) -> String {
    format!("{path}?fieldManager={manager}")
}

fn status(status: Value) -> Value {
    json!({"apiVersion": "conformance.example.com/v1", "kind": "Lamp", "metadata": {"name": "a"}, "status": status})
}

fn bulb_in(version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("conformance.example.com/{version}"), "kind": "Bulb", "metadata": {"name": "a"}, "spec": spec})
}

fn owner(n: u32) -> Value {
    let uid = format!("b0a0c0d0-0000-4000-8000-00000000000{n}");
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": format!("owner-{n}"), "uid": uid})
}

pub(crate) fn cases() -> Vec<Case> {
    let a = at(LAMPS, "a");
    let a_status = at(LAMPS, "a/status");
    let map_a = at(MAPS, "a");
    let lit = |spec: Value| lamp("a", spec);
    let data = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    vec![
        Case::new("apply_creates").apply(&a, "one", lit(json!({"watts": 5, "label": "abc"}))).get(&a),
        Case::new("apply_again_is_nothing").apply(&a, "one", plain("a")).apply(&a, "one", plain("a")),
        Case::new("apply_changes_its_own").apply(&a, "one", plain("a")).apply(&a, "one", lit(json!({"watts": 6}))),
        Case::new("apply_to_what_was_created_conflicts")
            .post(&by(LAMPS, "maker"), plain("a"))
            .apply(&a, "one", lit(json!({"watts": 6})))
            .force(&a, "one", lit(json!({"watts": 6})))
            .get(&a),
        Case::new("apply_of_the_same_value_shares_it")
            .post(&by(LAMPS, "maker"), plain("a"))
            .apply(&a, "one", plain("a"))
            .apply(&a, "two", plain("a")),
        Case::new("apply_conflicts_in_several_fields")
            .apply(&a, "one", lit(json!({"watts": 5, "label": "abc", "map": {"a": 1}})))
            .apply(&a, "two", lit(json!({"watts": 6, "label": "abd", "map": {"a": 2}}))),
        Case::new("apply_conflicts_with_several_managers")
            .post(&by(LAMPS, "maker"), lamp("a", json!({"watts": 5, "label": "abc"})))
            .apply(&a, "one", lit(json!({"watts": 5})))
            .apply(&a, "two", lit(json!({"watts": 6, "label": "abd"}))),
        Case::new("apply_takes_out_what_it_no_longer_states")
            .apply(&a, "one", lit(json!({"watts": 5, "label": "abc", "map": {"a": 1, "b": 2}, "tags": ["x", "y"], "parts": [{"name": "p", "value": "1"}, {"name": "q"}]})))
            .apply(&a, "one", lit(json!({"watts": 5, "map": {"b": 2}, "tags": ["y"], "parts": [{"name": "q"}]})))
            .apply(&a, "one", lit(json!({"watts": 5}))),
        Case::new("apply_leaves_what_another_states")
            .apply(&a, "one", lit(json!({"watts": 5, "label": "abc", "tags": ["x"], "parts": [{"name": "p", "value": "1"}]})))
            .apply(&a, "two", lit(json!({"watts": 5, "label": "abc", "tags": ["x"], "parts": [{"name": "p"}]})))
            .apply(&a, "one", lit(json!({"watts": 5})))
            .apply(&a, "two", lit(json!({"watts": 5}))),
        Case::new("apply_merges_lists_that_are_maps")
            .apply(&a, "one", lit(json!({"watts": 5, "parts": [{"name": "p", "value": "1"}]})))
            .apply(&a, "two", lit(json!({"watts": 5, "parts": [{"name": "q", "value": "2"}]})))
            .apply(&a, "two", lit(json!({"watts": 5, "parts": [{"name": "p", "value": "2"}]}))),
        Case::new("apply_merges_lists_that_are_sets")
            .apply(&a, "one", lit(json!({"watts": 5, "tags": ["x"]})))
            .apply(&a, "two", lit(json!({"watts": 5, "tags": ["y"]})))
            .apply(&a, "one", lit(json!({"watts": 5}))),
        Case::new("apply_where_anything_goes")
            .apply(&a, "one", lit(json!({"watts": 5, "open": {"a": {"b": 1}, "list": [1, 2]}})))
            .apply(&a, "two", lit(json!({"watts": 5, "open": {"a": {"c": 1}}})))
            .apply(&a, "two", lit(json!({"watts": 5, "open": {"list": [3]}})))
            .apply(&a, "one", lit(json!({"watts": 5}))),
        Case::new("apply_does_not_own_defaults")
            .apply(&a, "one", plain("a"))
            .apply(&a, "two", lit(json!({"color": "green"})))
            .apply(&a, "two", lit(json!({"deep": {"level": 7}}))),
        Case::new("apply_is_overwritten_by_updates")
            .apply(&a, "one", plain("a"))
            .merge_as(&a, "two", json!({"spec": {"watts": 6}}))
            .apply(&a, "one", plain("a"))
            .force(&a, "one", plain("a")),
        Case::new("apply_is_overwritten_by_replacement")
            .apply(&a, "one", plain("a"))
            .put(
                &by(&a, "two"),
                with(lamp("a", json!({"watts": 6, "map": {"a": 1}})), json!({"resourceVersion": "$0/metadata/resourceVersion"})),
            )
            .merge_as(&a, "three", json!({"spec": {"map": {"a": null, "b": 1}}})),
        Case::new("apply_labels_annotations_finalizers")
            .apply(&a, "one", with(plain("a"), json!({"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["example.com/x"]})))
            .merge_as(&a, "two", json!({"metadata": {"labels": {"e": "f"}}}))
            .apply(&a, "one", with(plain("a"), json!({"labels": {"a": "c"}})))
            .merge_as(&a, "two", json!({"metadata": {"labels": null}})),
        Case::new("apply_owners")
            .apply(&a, "one", with(plain("a"), json!({"ownerReferences": [owner(1)]})))
            .apply(&a, "two", with(plain("a"), json!({"ownerReferences": [owner(2)]})))
            .apply(&a, "one", plain("a")),
        Case::new("apply_a_status")
            .apply(&a, "one", plain("a"))
            .apply(&a_status, "two", status(json!({"phase": "On", "conditions": [{"type": "Ready", "status": "True"}]})))
            .apply(&a_status, "three", status(json!({"conditions": [{"type": "Other", "status": "False"}]})))
            .apply(&a_status, "three", status(json!({"conditions": [{"type": "Ready", "status": "False"}]})))
            .apply(&a_status, "two", status(json!({"phase": "On"})))
            .merge_as(&a_status, "four", json!({"status": {"phase": "Off"}})),
        Case::new("apply_a_status_leaves_the_rest")
            .apply(&a, "one", plain("a"))
            .apply(&a_status, "two", with(lamp("a", json!({"watts": 7})), json!({"labels": {"a": "b"}})))
            .apply(&a, "two", status(json!({"phase": "On"}))),
        Case::new("apply_a_status_of_nothing").apply(&a_status, "one", status(json!({"phase": "On"}))),
        Case::new("apply_without_a_manager")
            .step(Step { content_type: APPLY, ..Step::new("PATCH", &a, plain("a")) })
            .apply(&a, "", plain("a")),
        Case::new("apply_with_force_of_what_is_no_apply")
            .post(LAMPS, plain("a"))
            .merge_as(&a, "one&force=true", json!({"spec": {"watts": 6}})),
        Case::new("apply_under_another_name").apply(&a, "one", plain("b")),
        Case::new("apply_with_managed_fields").apply(
            &a,
            "one",
            with(plain("a"), json!({"managedFields": [{"manager": "x", "operation": "Apply"}]})),
        ),
        Case::new("apply_with_an_old_version")
            .apply(&a, "one", plain("a"))
            .apply(&a, "one", with(lamp("a", json!({"watts": 6})), json!({"resourceVersion": "1"})))
            .apply(
                &a,
                "one",
                with(lamp("a", json!({"watts": 7})), json!({"resourceVersion": "$0/metadata/resourceVersion"})),
            ),
        Case::new("apply_that_the_schema_refuses").apply(&a, "one", lit(json!({"watts": 500}))).apply(&a, "one", lit(json!({"label": "abc"}))),
        Case::new("apply_dry")
            .apply(&a, "one&dryRun=All", plain("a"))
            .get(&a)
            .apply(&a, "one", plain("a"))
            .apply(&a, "one&dryRun=All", lit(json!({"watts": 6})))
            .get(&a),
        Case::new("apply_yaml").raw(
            "PATCH",
            APPLY,
            &by(&a, "one"),
            "apiVersion: conformance.example.com/v1\nkind: Lamp\nmetadata:\n  name: a\nspec:\n  watts: 5 # enough\n",
        ),
        Case::new("apply_counts_generations")
            .apply(&a, "one", plain("a"))
            .apply(&a, "one", with(plain("a"), json!({"labels": {"a": "b"}})))
            .apply(&a, "one", lit(json!({"watts": 6}))),
        Case::new("apply_a_map")
            .post(&by(MAPS, "maker"), map("a"))
            .apply(&map_a, "one", data(json!({"x": "y"})))
            .apply(&map_a, "one", data(json!({"k": "w"})))
            .force(&map_a, "one", data(json!({"k": "w"})))
            .apply(&map_a, "one", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})),
        Case::new("apply_creates_a_map").apply(&map_a, "one", map("a")).apply(&map_a, "two", data(json!({"x": "y"}))).delete(&map_a, Value::Null),
        Case::new("apply_in_another_version")
            .apply(&at(BULBS, "a"), "one", bulb_in("v1", json!({"color": "red"})))
            .apply(&at(OLD_BULBS, "a"), "one", bulb_in("v1beta1", json!({"color": "green"}))),
        Case::new("apply_gone_while_owned")
            .apply(&a, "one", with(plain("a"), json!({"finalizers": ["example.com/x"]})))
            .delete(&a, Value::Null)
            .apply(&a, "one", plain("a"))
            .get(&a),
        Case::new("updates_have_owners")
            .post(&by(LAMPS, "maker"), with(lamp("a", json!({"watts": 5, "map": {"a": 1}, "parts": [{"name": "p"}]})), json!({"labels": {"a": "b"}})))
            .merge_as(&a, "two", json!({"spec": {"map": {"b": 2}}, "metadata": {"annotations": {"x": "y"}}}))
            .merge_as(&a_status, "three", json!({"status": {"phase": "On"}}))
            .merge_as(&a, "two", json!({"spec": {"map": null}})),
        Case::new("updates_of_maps_have_owners")
            .post(&by(MAPS, "maker"), map("a"))
            .merge_as(&map_a, "two", json!({"data": {"k": "w", "l": "m"}}))
            .merge_as(&map_a, "maker", json!({"data": {"k": "x"}})),
    ]
}
