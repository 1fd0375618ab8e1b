//! What may stand in metadata.

use serde_json::json;

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    let owner =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "b0a0c0d0-0000-4000-8000-000000000001"});
    let mut controller = owner.clone();
    controller["controller"] = true.into();
    let mut other = controller.clone();
    other["name"] = "p".into();
    let mut cases = Vec::new();
    for (name, metadata) in [
        ("metadata_label_key_with_a_space", json!({"labels": {"a b": "c"}})),
        ("metadata_label_key_with_two_slashes", json!({"labels": {"a/b/c": "d"}})),
        ("metadata_label_key_with_an_empty_prefix", json!({"labels": {"/b": "d"}})),
        ("metadata_label_key_with_a_bad_prefix", json!({"labels": {"A_/b": "d"}})),
        ("metadata_label_key_that_is_long", json!({"labels": {"k".repeat(64): "d"}})),
        ("metadata_label_value_with_a_space", json!({"labels": {"a": "b c"}})),
        ("metadata_label_value_that_is_long", json!({"labels": {"a": "v".repeat(64)}})),
        ("metadata_label_value_with_a_slash", json!({"labels": {"a": "b/c"}})),
        ("metadata_labels_that_are_fine", json!({"labels": {"example.com/a_b.c-d": "", "X": "Y_1.z-9"}})),
        ("metadata_annotation_key_with_a_space", json!({"annotations": {"a b": "c"}})),
        ("metadata_annotation_key_in_upper_case", json!({"annotations": {"Example.COM/A": "any thing\n"}})),
        ("metadata_annotations_that_are_large", json!({"annotations": {"a": "x".repeat(263_000)}})),
        ("metadata_finalizer_without_domain", json!({"finalizers": ["plain"]})),
        ("metadata_finalizer_with_a_space", json!({"finalizers": ["a b"]})),
        ("metadata_finalizers_that_exclude_each_other", json!({"finalizers": ["orphan", "foregroundDeletion"]})),
        ("metadata_finalizers_twice", json!({"finalizers": ["example.com/a", "example.com/a"]})),
        ("metadata_owner", json!({"ownerReferences": [owner]})),
        (
            "metadata_owner_without_uid",
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": ""}]}),
        ),
        (
            "metadata_owner_without_anything",
            json!({"ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}]}),
        ),
        (
            "metadata_owner_that_is_an_event",
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "n", "uid": "u"}]}),
        ),
        ("metadata_two_controllers", json!({"ownerReferences": [controller, other]})),
        ("metadata_empty_parts", json!({"labels": {}, "annotations": {}, "finalizers": [], "ownerReferences": []})),
        ("metadata_null_parts", json!({"labels": null, "annotations": null, "finalizers": null})),
        ("metadata_unknown_parts", json!({"unknown": 1, "clusterName": "x"})),
        ("metadata_labels_of_numbers", json!({"labels": {"a": 1}})),
        ("metadata_finalizers_of_text", json!({"finalizers": "a"})),
        ("metadata_generate_name_that_is_none", json!({"generateName": "A_"})),
        ("metadata_annotation_with_nothing", json!({"annotations": {"a": ""}})),
    ] {
        cases
            .push(Case::new(name).post(MAPS, with(map("a"), metadata.clone())).post(LAMPS, with(plain("a"), metadata)));
    }
    cases.push(
        Case::new("metadata_is_judged_on_updates_too")
            .post(LAMPS, plain("a"))
            .merge(&at(LAMPS, "a"), json!({"metadata": {"labels": {"a b": "c"}}}))
            .merge(&at(LAMPS, "a"), json!({"metadata": {"finalizers": ["a b"]}}))
            .merge(
                &at(LAMPS, "a"),
                json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": ""}]}}),
            )
            .post(MAPS, map("a"))
            .merge(&at(MAPS, "a"), json!({"metadata": {"annotations": {"a b": "c"}}}))
            .merge(&at(MAPS, "a"), json!({"metadata": {"labels": {"a": "b c"}}})),
    );
    cases
}
