//! Deleting: preconditions, finalizers, propagation, collections.

use serde_json::json;

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    let lamp_a = at(LAMPS, "a");
    let map_a = at(MAPS, "a");
    let held = || with(plain("a"), json!({"finalizers": ["example.com/hold"]}));
    let options = |more: Value| {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    let policy = |policy: &str| options(json!({"propagationPolicy": policy}));
    vec![
        Case::new("delete_a_map").post(MAPS, map("a")).delete(&map_a, Value::Null).get(&map_a),
        Case::new("delete_a_lamp").post(LAMPS, plain("a")).delete(&lamp_a, Value::Null).get(&lamp_a),
        Case::new("delete_what_is_not_there").delete(&map_a, Value::Null).delete(&lamp_a, Value::Null),
        Case::new("delete_again_and_create_again")
            .post(LAMPS, plain("a"))
            .delete(&lamp_a, Value::Null)
            .delete(&lamp_a, Value::Null)
            .post(LAMPS, plain("a")),
        Case::new("delete_with_the_right_preconditions").post(LAMPS, plain("a")).delete(
            &lamp_a,
            options(
                json!({"preconditions": {"uid": "$0/metadata/uid", "resourceVersion": "$0/metadata/resourceVersion"}}),
            ),
        ),
        Case::new("delete_with_another_uid")
            .post(LAMPS, plain("a"))
            .delete(&lamp_a, options(json!({"preconditions": {"uid": "b0a0c0d0-0000-4000-8000-000000000000"}})))
            .post(MAPS, map("a"))
            .delete(&map_a, options(json!({"preconditions": {"uid": "b0a0c0d0-0000-4000-8000-000000000000"}}))),
        Case::new("delete_with_an_old_version")
            .post(LAMPS, plain("a"))
            .delete(&lamp_a, options(json!({"preconditions": {"resourceVersion": "7"}})))
            .post(MAPS, map("a"))
            .delete(&map_a, options(json!({"preconditions": {"resourceVersion": "7"}}))),
        Case::new("delete_waits_for_finalizers")
            .post(LAMPS, held())
            .delete(&lamp_a, Value::Null)
            .get(&lamp_a)
            .merge(&lamp_a, json!({"metadata": {"finalizers": null}}))
            .get(&lamp_a),
        Case::new("delete_again_while_it_waits")
            .post(LAMPS, held())
            .delete(&lamp_a, Value::Null)
            .delete(&lamp_a, Value::Null)
            .get(&lamp_a),
        Case::new("delete_of_one_finalizer_of_two")
            .post(LAMPS, with(plain("a"), json!({"finalizers": ["example.com/a", "example.com/b"]})))
            .delete(&lamp_a, Value::Null)
            .merge(&lamp_a, json!({"metadata": {"finalizers": ["example.com/b"]}}))
            .merge(&lamp_a, json!({"metadata": {"finalizers": []}}))
            .get(&lamp_a),
        Case::new("delete_takes_no_new_finalizer")
            .post(LAMPS, held())
            .delete(&lamp_a, Value::Null)
            .merge(&lamp_a, json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}))
            .post(MAPS, with(map("a"), json!({"finalizers": ["example.com/hold"]})))
            .delete(&map_a, Value::Null)
            .merge(&map_a, json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})),
        Case::new("delete_leaves_the_object_writable")
            .post(LAMPS, held())
            .delete(&lamp_a, Value::Null)
            .merge(&lamp_a, json!({"spec": {"watts": 9}}))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "Off"}})),
        Case::new("delete_cannot_be_taken_back")
            .post(LAMPS, held())
            .delete(&lamp_a, Value::Null)
            .merge(&lamp_a, json!({"metadata": {"deletionTimestamp": null, "deletionGracePeriodSeconds": null}})),
        Case::new("delete_the_last_finalizer_with_a_put")
            .post(LAMPS, held())
            .delete(&lamp_a, Value::Null)
            .put(&lamp_a, with(plain("a"), json!({"resourceVersion": "$1/metadata/resourceVersion"})))
            .get(&lamp_a),
        Case::new("delete_the_last_finalizer_with_an_old_version")
            .post(LAMPS, held())
            .delete(&lamp_a, Value::Null)
            .merge(&lamp_a, json!({"metadata": {"finalizers": null, "resourceVersion": "$0/metadata/resourceVersion"}}))
            .get(&lamp_a),
        Case::new("delete_a_finalizer_of_a_living_object")
            .post(LAMPS, held())
            .merge(&lamp_a, json!({"metadata": {"finalizers": null}}))
            .get(&lamp_a),
        Case::new("delete_in_the_foreground")
            .post(LAMPS, plain("a"))
            .delete(&lamp_a, policy("Foreground"))
            .get(&lamp_a),
        Case::new("delete_and_orphan").post(LAMPS, plain("a")).delete(&lamp_a, policy("Orphan")).get(&lamp_a),
        Case::new("delete_in_the_background")
            .post(LAMPS, plain("a"))
            .delete(&lamp_a, policy("Background"))
            .get(&lamp_a),
        Case::new("delete_in_the_foreground_a_held_map")
            .post(MAPS, with(map("a"), json!({"finalizers": ["example.com/hold"]})))
            .delete(&map_a, policy("Foreground"))
            .merge(&map_a, json!({"metadata": {"finalizers": ["foregroundDeletion"]}})),
        Case::new("delete_changes_its_mind_about_dependents")
            .post(LAMPS, held())
            .delete(&lamp_a, policy("Foreground"))
            .delete(&lamp_a, policy("Orphan"))
            .delete(&lamp_a, policy("Background")),
        Case::new("delete_with_an_unknown_policy").post(LAMPS, plain("a")).delete(&lamp_a, policy("Sideways")),
        Case::new("delete_with_two_policies")
            .post(LAMPS, plain("a"))
            .delete(&lamp_a, options(json!({"propagationPolicy": "Orphan", "orphanDependents": true}))),
        Case::new("delete_with_a_policy_in_the_query")
            .post(LAMPS, plain("a"))
            .delete(&format!("{lamp_a}?propagationPolicy=Foreground"), Value::Null),
        Case::new("delete_with_a_grace_period")
            .post(LAMPS, plain("a"))
            .delete(&lamp_a, options(json!({"gracePeriodSeconds": 30})))
            .get(&lamp_a),
        Case::new("delete_with_kube_rs_options").post(LAMPS, plain("a")).delete(&lamp_a, json!({"dryRun": null})),
        Case::new("delete_dry")
            .post(LAMPS, plain("a"))
            .delete(&lamp_a, options(json!({"dryRun": ["All"]})))
            .get(&lamp_a),
        Case::new("delete_a_namespace")
            .post(MAPS, map("a"))
            .delete("/api/v1/namespaces/NS", Value::Null)
            .delete("/api/v1/namespaces/NS", Value::Null)
            .get(&map_a)
            .merge(&map_a, json!({"data": {"x": "y"}}))
            .delete(&map_a, Value::Null),
        Case::new("delete_a_node")
            .post("/api/v1/nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS"}}))
            .delete("/api/v1/nodes/NS", Value::Null),
        Case::new("delete_a_default_namespace").delete("/api/v1/namespaces/default", Value::Null),
        Case::new("delete_a_collection")
            .post(LAMPS, plain("a"))
            .post(LAMPS, with(plain("b"), json!({"labels": {"x": "y"}})))
            .post(LAMPS, with(plain("c"), json!({"labels": {"x": "y"}, "finalizers": ["example.com/hold"]})))
            .delete(&format!("{LAMPS}?labelSelector=x%3Dy"), Value::Null)
            .get(LAMPS),
        Case::new("delete_a_collection_of_nothing").delete(MAPS, Value::Null),
        Case::new("delete_a_collection_of_maps")
            .post(MAPS, map("a"))
            .post(MAPS, map("b"))
            .delete(MAPS, Value::Null)
            .get(MAPS),
        Case::new("delete_a_status").post(LAMPS, plain("a")).delete(&at(LAMPS, "a/status"), Value::Null),
        Case::new("delete_counts_a_generation_once")
            .post(LAMPS, held())
            .delete(&lamp_a, Value::Null)
            .delete(&lamp_a, policy("Foreground")),
        Case::new("delete_a_map_has_no_generation")
            .post(MAPS, with(map("a"), json!({"finalizers": ["example.com/hold"]})))
            .delete(&map_a, Value::Null),
        Case::new("delete_a_bulb_in_its_old_version").post(BULBS, bulb("a")).delete(&at(OLD_BULBS, "a"), Value::Null),
        Case::new("delete_a_held_bulb_in_its_old_version")
            .post(BULBS, with(bulb("a"), json!({"finalizers": ["example.com/hold"]})))
            .delete(&at(OLD_BULBS, "a"), Value::Null),
    ]
}
