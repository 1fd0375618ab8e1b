//! Patches of each kind.

use serde_json::json;

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    let lamp_a = at(LAMPS, "a");
    let map_a = at(MAPS, "a");
    let on_lamp = |name: &'static str, patch: Value| Case::new(name).post(LAMPS, plain("a")).merge(&lamp_a, patch);
    let on_map = |name: &'static str, patch: Value| Case::new(name).post(MAPS, map("a")).merge(&map_a, patch);
    let json_on = |name: &'static str, patch: Value| Case::new(name).post(LAMPS, plain("a")).patch(&lamp_a, patch);
    let owner = |n: u8| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": format!("o{n}"), "uid": format!("b0a0c0d0-0000-4000-8000-00000000000{n}")});
    vec![
        on_lamp("patch_merge_adds_and_changes", json!({"spec": {"watts": 7, "label": "abc"}, "metadata": {"labels": {"a": "b"}}})),
        on_lamp("patch_merge_takes_out_what_is_null", json!({"spec": {"on": null, "color": null, "deep": {"level": null}}})),
        on_lamp("patch_merge_takes_out_what_is_required", json!({"spec": {"watts": null}})),
        on_lamp("patch_merge_takes_out_the_spec", json!({"spec": null})),
        on_lamp("patch_merge_with_nothing", json!({})).get(&lamp_a),
        on_lamp("patch_merge_with_what_is_there", json!({"spec": {"watts": 5}})).get(&lamp_a),
        on_lamp("patch_merge_with_an_unknown_field", json!({"spec": {"unknown": 1}})).get(&lamp_a),
        on_lamp("patch_merge_replaces_lists", json!({"spec": {"tags": ["a"]}})).merge(&lamp_a, json!({"spec": {"tags": ["b", "c"]}})),
        on_lamp("patch_merge_with_its_version", json!({"metadata": {"resourceVersion": "$0/metadata/resourceVersion"}, "spec": {"watts": 8}})),
        on_lamp("patch_merge_with_an_old_version", json!({"metadata": {"resourceVersion": "7"}, "spec": {"watts": 8}})),
        on_lamp("patch_merge_with_an_old_version_and_nothing_new", json!({"metadata": {"resourceVersion": "7"}})),
        on_lamp("patch_merge_without_version", json!({"metadata": {"resourceVersion": null}})),
        on_lamp("patch_merge_with_its_uid", json!({"metadata": {"uid": "$0/metadata/uid"}, "spec": {"watts": 8}})),
        on_lamp("patch_merge_with_another_uid", json!({"metadata": {"uid": "b0a0c0d0-0000-4000-8000-000000000000"}, "spec": {"watts": 8}})),
        on_lamp("patch_merge_with_another_name", json!({"metadata": {"name": "b"}})),
        on_lamp("patch_merge_with_another_namespace", json!({"metadata": {"namespace": "other"}})),
        on_lamp("patch_merge_with_another_kind", json!({"kind": "Bulb"})),
        on_lamp("patch_merge_with_another_version", json!({"apiVersion": "conformance.example.com/v2"})),
        on_lamp("patch_merge_does_not_reach_the_status", json!({"status": {"phase": "On"}})),
        on_lamp("patch_merge_sets_owners", json!({"metadata": {"ownerReferences": [owner(1), owner(1), owner(2)]}})),
        on_lamp("patch_merge_takes_out_labels", json!({"metadata": {"labels": {"a": null}}})),
        on_lamp("patch_merge_of_numbers_for_labels", json!({"metadata": {"labels": {"a": 1}}})),
        on_lamp("patch_merge_of_text_for_metadata", json!({"metadata": "x"})),
        on_map("patch_merge_a_map", json!({"data": {"k": null, "l": "w"}})),
        on_map("patch_merge_a_map_to_nothing", json!({"data": null})),
        on_map("patch_merge_a_map_with_its_version", json!({"metadata": {"resourceVersion": "$0/metadata/resourceVersion"}, "data": {"x": "y"}})),
        on_map("patch_merge_a_map_with_an_old_version", json!({"metadata": {"resourceVersion": "7"}, "data": {"x": "y"}})),
        on_map("patch_merge_a_map_with_another_uid", json!({"metadata": {"uid": "b0a0c0d0-0000-4000-8000-000000000000"}})),
        on_map("patch_merge_a_map_with_another_name", json!({"metadata": {"name": "b"}})),
        on_map("patch_merge_a_map_of_numbers", json!({"data": {"k": 1}})),
        on_map("patch_merge_finalizers", json!({"metadata": {"finalizers": ["example.com/a"]}})),
        Case::new("patch_merge_the_status")
            .post(LAMPS, plain("a"))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On", "count": 2}, "spec": {"watts": 99}}))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"count": null}}))
            .merge(&at(LAMPS, "a/status"), json!({"status": null})),
        Case::new("patch_merge_the_status_with_nothing_new")
            .post(LAMPS, plain("a"))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On"}}))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On"}, "metadata": {"labels": {"a": "b"}}})),
        Case::new("patch_merge_the_status_with_preconditions")
            .post(LAMPS, plain("a"))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On"}, "metadata": {"resourceVersion": "7"}}))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On"}, "metadata": {"uid": "b0a0c0d0-0000-4000-8000-000000000000"}}))
            .merge(
                &at(LAMPS, "a/status"),
                json!({"status": {"phase": "On"}, "metadata": {"resourceVersion": "$0/metadata/resourceVersion", "uid": "$0/metadata/uid"}}),
            ),
        Case::new("patch_merge_what_is_not_there").merge(&lamp_a, json!({})).merge(&map_a, json!({"metadata": {"uid": "x"}})),
        Case::new("patch_merge_a_status_that_is_not_there").merge(&at(LAMPS, "a/status"), json!({"status": {}})),
        json_on("patch_json_adds_and_removes", json!([
            {"op": "add", "path": "/spec/label", "value": "abc"},
            {"op": "replace", "path": "/spec/watts", "value": 9},
            {"op": "remove", "path": "/spec/on"},
        ])),
        json_on("patch_json_appends", json!([{"op": "add", "path": "/spec/tags", "value": ["a"]}, {"op": "add", "path": "/spec/tags/-", "value": "b"}])),
        json_on("patch_json_tests_and_holds", json!([{"op": "test", "path": "/spec/watts", "value": 5}, {"op": "replace", "path": "/spec/watts", "value": 9}])),
        json_on("patch_json_tests_and_fails", json!([{"op": "test", "path": "/spec/watts", "value": 6}, {"op": "replace", "path": "/spec/watts", "value": 9}])),
        json_on("patch_json_removes_what_is_not_there", json!([{"op": "remove", "path": "/spec/label"}])),
        json_on("patch_json_with_an_unknown_operation", json!([{"op": "break", "path": "/spec/label"}])),
        json_on("patch_json_that_is_no_list", json!({"op": "remove"})),
        json_on("patch_json_moves", json!([
            {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
            {"op": "move", "from": "/metadata/labels/a", "path": "/metadata/labels/c"},
            {"op": "copy", "from": "/metadata/labels/c", "path": "/metadata/labels/d"},
        ])),
        Case::new("patch_json_a_map").post(MAPS, map("a")).patch(&map_a, json!([{"op": "add", "path": "/data/x", "value": "y"}])),
        Case::new("patch_strategic_a_map").post(MAPS, map("a")).strategic(&map_a, json!({"data": {"k": null, "l": "w"}})),
        Case::new("patch_strategic_finalizers_are_a_set")
            .post(MAPS, with(map("a"), json!({"finalizers": ["example.com/a"]})))
            .strategic(&map_a, json!({"metadata": {"finalizers": ["example.com/b"]}}))
            .strategic(&map_a, json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a", "example.com/b"]}})),
        Case::new("patch_strategic_owners_by_uid")
            .post(MAPS, with(map("a"), json!({"ownerReferences": [owner(1)]})))
            .strategic(&map_a, json!({"metadata": {"ownerReferences": [owner(2)]}}))
            .strategic(&map_a, json!({"metadata": {"ownerReferences": [{"uid": owner(1)["uid"], "$patch": "delete"}]}})),
        Case::new("patch_strategic_with_an_old_version").post(MAPS, map("a")).strategic(&map_a, json!({"metadata": {"resourceVersion": "7"}})),
        Case::new("patch_strategic_with_another_uid")
            .post(MAPS, map("a"))
            .strategic(&map_a, json!({"metadata": {"uid": "b0a0c0d0-0000-4000-8000-000000000000"}})),
        Case::new("patch_strategic_the_status_of_a_node")
            .post("/api/v1/nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS"}}))
            .strategic("/api/v1/nodes/NS/status", json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "False"}]}}))
            .strategic("/api/v1/nodes/NS/status", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})),
        Case::new("patch_strategic_a_provider_id")
            .post("/api/v1/nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS"}}))
            .strategic("/api/v1/nodes/NS", json!({"spec": {"providerID": "metal3://a"}, "metadata": {"uid": "$0/metadata/uid"}})),
        Case::new("patch_strategic_a_lamp").post(LAMPS, plain("a")).strategic(&lamp_a, json!({"spec": {"watts": 6}})),
        Case::new("patch_of_no_json")
            .post(LAMPS, plain("a"))
            .raw("PATCH", "application/merge-patch+json", &lamp_a, "{")
            .raw("PATCH", "application/merge-patch+json", &lamp_a, "[]")
            .raw("PATCH", "application/json-patch+json", &lamp_a, "{"),
        Case::new("patch_of_an_unknown_media_type")
            .post(LAMPS, plain("a"))
            .raw("PATCH", "application/json", &lamp_a, "{}")
            .post(MAPS, map("a"))
            .raw("PATCH", "text/plain", &map_a, "{}"),
        Case::new("patch_dry").post(LAMPS, plain("a")).merge(&format!("{lamp_a}?dryRun=All"), json!({"spec": {"watts": 6}})).get(&lamp_a),
        Case::new("patch_counts_generations")
            .post(LAMPS, plain("a"))
            .merge(&lamp_a, json!({"spec": {"watts": 6}}))
            .merge(&lamp_a, json!({"metadata": {"annotations": {"a": "b"}}}))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On"}}))
            .merge(&lamp_a, json!({"spec": {"watts": 7}})),
        Case::new("patch_keeps_what_it_cannot_touch").post(LAMPS, plain("a")).merge(
            &lamp_a,
            json!({"metadata": {"creationTimestamp": null, "generation": 77, "selfLink": "x", "managedFields": null}, "spec": {"watts": 6}}),
        ),
        Case::new("patch_cannot_mark_as_deleted")
            .post(LAMPS, plain("a"))
            .merge(&lamp_a, json!({"metadata": {"deletionTimestamp": "2001-01-01T00:00:00Z"}}))
            .merge(&lamp_a, json!({"metadata": {"deletionGracePeriodSeconds": 3}})),
    ]
}
