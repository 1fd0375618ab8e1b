//! Replacing whole objects, and their status.

use serde_json::json;

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    let version = json!({"resourceVersion": "$0/metadata/resourceVersion"});
    let stale = json!({"resourceVersion": "7"});
    let lamp_of = |watts: i64, status: Value| {
        let mut lamp = with(lamp("a", json!({"watts": watts})), version.clone());
        lamp["status"] = status;
        lamp
    };
    vec![
        Case::new("update_a_map").post(MAPS, map("a")).put(&at(MAPS, "a"), {
            let mut map = with(map("a"), version.clone());
            map["data"] = json!({"k": "w"});
            map
        }),
        Case::new("update_a_map_without_a_version").post(MAPS, map("a")).put(
            &at(MAPS, "a"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}}),
        ),
        Case::new("update_with_an_old_version")
            .post(MAPS, map("a"))
            .put(&at(MAPS, "a"), with(map("a"), stale.clone()))
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a"), with(plain("a"), stale.clone())),
        Case::new("update_a_lamp_without_a_version").post(LAMPS, plain("a")).put(&at(LAMPS, "a"), plain("a")),
        Case::new("update_a_lamp_with_version_zero")
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a"), with(plain("a"), json!({"resourceVersion": "0"}))),
        Case::new("update_a_lamp_counts_generations").post(LAMPS, plain("a")).put(&at(LAMPS, "a"), lamp_of(6, json!({}))),
        Case::new("update_a_lamp_metadata_counts_no_generation")
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a"), with(with(plain("a"), version.clone()), json!({"labels": {"a": "b"}}))),
        Case::new("update_status_is_ignored_on_the_object")
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a"), lamp_of(5, json!({"phase": "On"}))),
        Case::new("update_spec_is_ignored_on_the_status")
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a/status"), lamp_of(9, json!({"phase": "On"})))
            .get(&at(LAMPS, "a/status")),
        Case::new("update_metadata_is_ignored_on_the_status").post(LAMPS, plain("a")).put(
            &at(LAMPS, "a/status"),
            with(lamp_of(9, json!({"phase": "On"})), json!({"labels": {"a": "b"}, "finalizers": ["a/b"], "annotations": {"x": "y"}})),
        ),
        Case::new("update_the_object_keeps_its_status")
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a/status"), lamp_of(5, json!({"phase": "On"})))
            .put(&at(LAMPS, "a"), with(lamp("a", json!({"watts": 8})), json!({"resourceVersion": "$1/metadata/resourceVersion"}))),
        Case::new("update_the_status_with_an_old_version")
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a/status"), with(plain("a"), stale.clone())),
        Case::new("update_the_status_without_a_version").post(LAMPS, plain("a")).put(&at(LAMPS, "a/status"), plain("a")),
        Case::new("update_a_status_that_is_no_subresource")
            .post(BULBS, bulb("a"))
            .put(&at(BULBS, "a/status"), with(bulb("a"), version.clone()))
            .get(&at(BULBS, "a/status")),
        Case::new("update_status_without_subresource").post(BULBS, bulb("a")).put(&at(BULBS, "a"), {
            let mut bulb = with(bulb("a"), version.clone());
            bulb["status"] = json!({"on": false});
            bulb
        }),
        Case::new("update_an_invalid_status")
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a/status"), lamp_of(5, json!({"phase": "Broken", "count": "x"})))
            .put(&at(LAMPS, "a/status"), lamp_of(5, json!({"conditions": [{"status": "x"}]})))
            .put(&at(LAMPS, "a/status"), lamp_of(5, json!({"conditions": [{"type": "A"}, {"type": "A"}]}))),
        Case::new("update_with_nothing_new_writes_nothing")
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a"), with(plain("a"), version.clone()))
            .get(&at(LAMPS, "a"))
            .post(MAPS, map("a"))
            .put(&at(MAPS, "a"), map("a"))
            .get(&at(MAPS, "a")),
        Case::new("update_what_is_not_there").put(&at(MAPS, "a"), map("a")).put(&at(LAMPS, "a"), with(plain("a"), stale)),
        Case::new("update_under_another_name")
            .post(MAPS, map("a"))
            .put(&at(MAPS, "a"), map("b"))
            .put(&at(LAMPS, "a"), plain("b"))
            .put(&at(MAPS, "a"), json!({"apiVersion": "v1", "kind": "ConfigMap"})),
        Case::new("update_in_another_namespace")
            .post(MAPS, map("a"))
            .put(&at(MAPS, "a"), with(map("a"), json!({"namespace": "other"})))
            .post(LAMPS, plain("a"))
            .put(&at(LAMPS, "a"), with(plain("a"), json!({"namespace": "other"}))),
        Case::new("update_of_another_uid")
            .post(MAPS, map("a"))
            .put(&at(MAPS, "a"), with(map("a"), json!({"uid": "b0a0c0d0-0000-4000-8000-000000000000"})))
            .post(LAMPS, plain("a"))
            .put(
                &at(LAMPS, "a"),
                with(plain("a"), json!({"uid": "b0a0c0d0-0000-4000-8000-000000000000", "resourceVersion": "$2/metadata/resourceVersion"})),
            ),
        Case::new("update_of_the_same_uid")
            .post(MAPS, map("a"))
            .put(&at(MAPS, "a"), with(map("a"), json!({"uid": "$0/metadata/uid", "labels": {"a": "b"}}))),
        Case::new("update_system_fields_stay").post(LAMPS, plain("a")).put(
            &at(LAMPS, "a"),
            with(
                lamp_of(6, json!({})),
                json!({"generation": 9, "creationTimestamp": "2001-01-01T00:00:00Z", "uid": "$0/metadata/uid"}),
            ),
        ),
        Case::new("update_cannot_mark_as_deleted").post(LAMPS, plain("a")).put(
            &at(LAMPS, "a"),
            with(plain("a"), json!({"resourceVersion": "$0/metadata/resourceVersion", "deletionTimestamp": "2001-01-01T00:00:00Z"})),
        ),
        Case::new("update_the_type_of_a_secret").post(SECRETS, secret("a")).put(
            &at(SECRETS, "a"),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "other"}),
        ),
        Case::new("update_an_immutable_secret")
            .post(SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "immutable": true, "data": {"k": "dg=="}}))
            .put(&at(SECRETS, "a"), json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "immutable": true, "data": {"k": "eA=="}}))
            .put(&at(SECRETS, "a"), json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "dg=="}})),
        Case::new("update_an_immutable_map")
            .post(MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "immutable": true, "data": {"k": "v"}}))
            .merge(&at(MAPS, "a"), json!({"data": {"k": "w"}})),
        Case::new("update_creates_a_lease")
            .put(&at(LEASES, "a"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}})),
        Case::new("update_a_lease_without_a_version")
            .post(LEASES, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}}))
            .put(&at(LEASES, "a"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "you"}})),
        Case::new("update_a_lease")
            .post(LEASES, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}}))
            .put(&at(LEASES, "a"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "a", "resourceVersion": "$0/metadata/resourceVersion"}, "spec": {"holderIdentity": ""}}))
            .put(&at(LEASES, "a"), json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "a", "resourceVersion": "$0/metadata/resourceVersion"}, "spec": {"holderIdentity": "x"}})),
        Case::new("update_dry").post(LAMPS, plain("a")).put(&format!("{LAMPS}/a?dryRun=All"), lamp_of(6, json!({}))).get(&at(LAMPS, "a")),
        Case::new("update_a_namespace_keeps_its_finalizers").merge(
            "/api/v1/namespaces/NS",
            json!({"spec": {"finalizers": []}, "metadata": {"labels": {"kubernetes.io/metadata.name": "other", "x": "y"}}}),
        ),
        Case::new("update_a_bulb_in_its_old_version")
            .post(BULBS, bulb("a"))
            .merge(&at(OLD_BULBS, "a"), json!({"spec": {"color": "old"}}))
            .get(&at(BULBS, "a")),
        Case::new("update_the_status_of_a_node")
            .post("/api/v1/nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS"}}))
            .merge("/api/v1/nodes/NS/status", json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}, "spec": {"unschedulable": true}}))
            .merge("/api/v1/nodes/NS", json!({"status": {"conditions": []}, "spec": {"unschedulable": true}})),
    ]
}
