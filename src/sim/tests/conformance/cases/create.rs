//! Creating things.

use serde_json::json;

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("create_a_map_and_read_it").post(MAPS, map("a")).get(&at(MAPS, "a")),
        Case::new("create_a_lamp_and_read_it").post(LAMPS, plain("a")).get(&at(LAMPS, "a")),
        Case::new("create_a_bulb_and_read_it").post(BULBS, bulb("a")).get(&at(BULBS, "a")),
        Case::new("create_twice_is_already_exists").post(MAPS, map("a")).post(MAPS, map("a")),
        Case::new("create_a_lamp_twice_is_already_exists").post(LAMPS, plain("a")).post(LAMPS, plain("a")),
        Case::new("create_with_a_generated_name")
            .post(MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}})),
        Case::new("create_a_lamp_with_a_generated_name").post(
            LAMPS,
            json!({"apiVersion": "conformance.example.com/v1", "kind": "Lamp", "metadata": {"generateName": "a-"}, "spec": {"watts": 1}}),
        ),
        Case::new("create_a_name_wins_over_a_prefix").post(MAPS, with(map("a"), json!({"generateName": "b-"}))),
        Case::new("create_without_a_name")
            .post(MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}))
            .post(LAMPS, json!({"apiVersion": "conformance.example.com/v1", "kind": "Lamp", "spec": {"watts": 1}})),
        Case::new("create_in_another_namespace").post(MAPS, with(map("a"), json!({"namespace": "other"}))),
        Case::new("create_a_lamp_in_another_namespace").post(LAMPS, with(plain("a"), json!({"namespace": "other"}))),
        Case::new("create_in_a_missing_namespace")
            .post("/api/v1/namespaces/NS-none/configmaps", map("a"))
            .post("/apis/conformance.example.com/v1/namespaces/NS-none/lamps", plain("a")),
        Case::new("create_in_a_namespace_that_ends")
            .delete("/api/v1/namespaces/NS", Value::Null)
            .post(MAPS, map("a"))
            .post(LAMPS, plain("a"))
            .get("/api/v1/namespaces/NS"),
        Case::new("create_system_fields_are_the_servers").post(
            LAMPS,
            with(
                plain("a"),
                json!({"uid": "mine", "generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z",
                       "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5, "selfLink": "/x"}),
            ),
        ),
        Case::new("create_with_a_resource_version").post(LAMPS, with(plain("a"), json!({"resourceVersion": "5"}))),
        Case::new("create_status_is_not_taken").post(LAMPS, {
            let mut lamp = plain("a");
            lamp["status"] = json!({"phase": "On"});
            lamp
        }),
        Case::new("create_status_without_subresource_is_taken").post(BULBS, {
            let mut bulb = bulb("a");
            bulb["status"] = json!({"on": true});
            bulb
        }),
        Case::new("create_another_kind_there")
            .post(MAPS, secret("a"))
            .post(LAMPS, bulb("a"))
            .post(LAMPS, map("a"))
            .post(LAMPS, json!({"apiVersion": "conformance.example.com/v2", "kind": "Lamp", "metadata": {"name": "a"}})),
        Case::new("create_without_a_type")
            .post(MAPS, json!({"metadata": {"name": "a"}}))
            .post(LAMPS, json!({"metadata": {"name": "a"}, "spec": {"watts": 1}})),
        Case::new("create_a_secret_from_text").post(
            SECRETS,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "dg==", "l": "eA=="}, "stringData": {"k": "text"}}),
        ),
        Case::new("create_a_secret_with_nothing_in_it")
            .post(SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {}})),
        Case::new("create_a_secret_with_a_type")
            .post(SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "cluster.x-k8s.io/secret"})),
        Case::new("create_with_keys_that_are_none")
            .post(SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"a b": "dg=="}}))
            .post(MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"..": "x"}})),
        Case::new("create_a_map_drops_unknown_fields").post(MAPS, {
            let mut map = map("a");
            map["more"] = json!(1);
            map["data"] = json!({});
            map
        }),
        Case::new("create_a_map_of_numbers")
            .post(MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": 1}})),
        Case::new("create_from_no_json")
            .raw("POST", "application/json", MAPS, "{")
            .raw("POST", "application/json", LAMPS, "{")
            .raw("POST", "application/json", MAPS, "")
            .raw("POST", "application/json", LAMPS, "[]"),
        Case::new("create_from_an_unknown_media_type")
            .raw("POST", "text/plain", MAPS, "{}")
            .raw("POST", "text/plain", LAMPS, "{}"),
        Case::new("create_dry").post(&format!("{LAMPS}?dryRun=All"), plain("a")).get(&at(LAMPS, "a")),
        Case::new("create_a_lease").post(
            LEASES,
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
                   "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.123456Z"}}),
        ),
        Case::new("create_a_lease_that_cannot_be").post(
            LEASES,
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
                   "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
        ),
        Case::new("create_an_empty_lease")
            .post(LEASES, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}})),
        Case::new("create_an_event").post(EVENTS, event("NS")),
        Case::new("create_an_event_elsewhere").post(EVENTS, event("other")),
        Case::new("create_a_node").post(
            "/api/v1/nodes",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS"}, "spec": {"providerID": "metal3://x"}}),
        ),
        Case::new("create_a_namespace")
            .post("/api/v1/namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "NS-more", "labels": {"a": "b"}}}))
            .get("/api/v1/namespaces/NS-more"),
        Case::new("create_a_namespace_with_a_long_name").post(
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x".repeat(64)}}),
        ),
        Case::new("create_a_service_account").post(
            "/api/v1/namespaces/NS/serviceaccounts",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}),
        ),
        Case::new("create_a_grid").post(GRIDS, grid()).get(&at(GRIDS, "NS")).post(GRIDS, grid()),
        Case::new("create_a_grid_in_a_namespace")
            .post("/apis/conformance.example.com/v1/namespaces/NS/grids", grid())
            .post(GRIDS, with(grid(), json!({"namespace": "NS"}))),
        Case::new("create_a_lamp_in_no_namespace").post("/apis/conformance.example.com/v1/lamps", plain("a")),
        Case::new("create_a_bulb_in_its_old_version").post(OLD_BULBS, old_bulb()).get(&at(OLD_BULBS, "a")).get(&at(BULBS, "a")),
    ];
    for (name, wrong) in [
        ("create_names_upper_case", "Upper"),
        ("create_names_underscore", "under_score"),
        ("create_names_dash_at_the_end", "a-"),
        ("create_names_dot_first", ".a"),
        ("create_names_slash", "a/b"),
        ("create_names_two_dots", "a..b"),
    ] {
        cases.push(Case::new(name).post(MAPS, map(wrong)).post(LAMPS, plain(wrong)));
    }
    cases.push(Case::new("create_names_long").post(MAPS, map(&"a".repeat(254))).post(LAMPS, plain(&"a".repeat(253))));
    cases
}

fn event(about: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a.1"}, "reason": "Because", "message": "m", "type": "Normal",
        "involvedObject": {"apiVersion": "v1", "kind": "ConfigMap", "namespace": about, "name": "a"}, "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "source": {"component": "c"},
        "reportingComponent": "c", "reportingInstance": "i",
    })
}

fn grid() -> Value {
    json!({"apiVersion": "conformance.example.com/v1", "kind": "Grid", "metadata": {"name": "NS"}, "spec": {"any": ["thing"]}})
}

fn old_bulb() -> Value {
    json!({"apiVersion": "conformance.example.com/v1beta1", "kind": "Bulb", "metadata": {"name": "a"}, "spec": {"color": "red"}})
}
