//! Watches.

use serde_json::json;

use super::*;
use crate::harness::{METADATA, Step};

pub(crate) fn cases() -> Vec<Case> {
    let lamp_a = at(LAMPS, "a");
    let since =
        |step: usize| format!("{LAMPS}?watch=true&timeoutSeconds=20&resourceVersion=${step}/metadata/resourceVersion");
    let labelled = |value: &str| json!({"metadata": {"labels": {"x": value}}});
    vec![
        Case::new("watch_from_the_first_version")
            .post(LAMPS, plain("a"))
            .merge(&lamp_a, json!({"spec": {"watts": 6}}))
            .post(LAMPS, plain("b"))
            .delete(&lamp_a, Value::Null)
            .watch(&since(0), 3),
        Case::new("watch_from_nowhere_begins_with_what_is_there")
            .post(LAMPS, plain("b"))
            .post(LAMPS, plain("a"))
            .watch(&format!("{LAMPS}?watch=true&timeoutSeconds=20"), 2),
        Case::new("watch_from_zero_begins_with_what_is_there")
            .post(LAMPS, plain("a"))
            .watch(&format!("{LAMPS}?watch=1&timeoutSeconds=20&resourceVersion=0"), 1),
        Case::new("watch_sees_finalizers_go")
            .post(LAMPS, with(plain("a"), json!({"finalizers": ["example.com/hold"]})))
            .delete(&lamp_a, Value::Null)
            .merge(&lamp_a, json!({"metadata": {"finalizers": null}}))
            .watch(&since(0), 2),
        Case::new("watch_sees_what_leaves_a_selector")
            .post(LAMPS, plain("a"))
            .merge(&lamp_a, labelled("1"))
            .merge(&lamp_a, json!({"spec": {"watts": 6}}))
            .merge(&lamp_a, labelled("2"))
            .merge(&lamp_a, labelled("1"))
            .delete(&lamp_a, Value::Null)
            .watch(&format!("{}&labelSelector=x%3D1", since(0)), 5),
        Case::new("watch_one_name")
            .post(LAMPS, plain("a"))
            .post(LAMPS, plain("b"))
            .merge(&lamp_a, json!({"spec": {"watts": 6}}))
            .watch(&format!("{}&fieldSelector=metadata.name%3Da", since(0)), 1),
        Case::new("watch_skips_writes_that_changed_nothing")
            .post(LAMPS, plain("a"))
            .merge(&lamp_a, json!({"spec": {"watts": 5}}))
            .merge(&lamp_a, json!({"spec": {"watts": 6}}))
            .watch(&since(0), 1),
        Case::new("watch_sees_status_and_spec_alike")
            .post(LAMPS, plain("a"))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On"}}))
            .merge(&lamp_a, json!({"spec": {"watts": 6}}))
            .watch(&since(0), 2),
        Case::new("watch_from_too_old_a_version").post(LAMPS, plain("a")).watch(&format!("{LAMPS}?watch=true&timeoutSeconds=5&resourceVersion=1"), 1),
        Case::new("watch_ends_when_told").post(LAMPS, plain("a")).watch(&format!("{LAMPS}?watch=true&timeoutSeconds=1&resourceVersion=$0/metadata/resourceVersion"), 9),
        Case::new("watch_with_a_version_that_is_none").watch(&format!("{LAMPS}?watch=true&timeoutSeconds=1&resourceVersion=x"), 1),
        Case::new("watch_maps")
            .post(MAPS, map("a"))
            .merge(&at(MAPS, "a"), json!({"data": {"x": "y"}}))
            .delete(&at(MAPS, "a"), Value::Null)
            .watch(&format!("{MAPS}?watch=true&timeoutSeconds=20&resourceVersion=$0/metadata/resourceVersion"), 2),
        Case::new("watch_metadata").post(LAMPS, plain("a")).merge(&lamp_a, labelled("1")).step(Step {
            accept: METADATA,
            events: 1,
            ..Step::new("WATCH", since(0), Value::Null)
        }),
        Case::new("watch_bulbs_in_their_old_version")
            .post(BULBS, bulb("a"))
            .merge(&at(BULBS, "a"), json!({"spec": {"color": "red"}}))
            .watch(&format!("{OLD_BULBS}?watch=true&timeoutSeconds=20&resourceVersion=$0/metadata/resourceVersion"), 1),
        Case::new("watch_with_initial_events")
            .post(LAMPS, plain("a"))
            .post(LAMPS, plain("b"))
            .watch(
                &format!("{LAMPS}?watch=true&timeoutSeconds=20&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"),
                3,
            ),
        Case::new("watch_with_options_that_clash")
            .watch(&format!("{LAMPS}?watch=true&timeoutSeconds=1&sendInitialEvents=true"), 1)
            .watch(&format!("{LAMPS}?watch=true&timeoutSeconds=1&resourceVersionMatch=NotOlderThan&resourceVersion=1"), 1),
        Case::new("watch_an_unknown_kind").watch("/apis/conformance.example.com/v1/namespaces/NS/candles?watch=true&timeoutSeconds=1", 1),
        Case::new("watch_with_a_broken_selector").watch(&format!("{LAMPS}?watch=true&timeoutSeconds=1&labelSelector=x+y"), 1),
        Case::new("watch_grids")
            .post(GRIDS, json!({"apiVersion": "conformance.example.com/v1", "kind": "Grid", "metadata": {"name": "NS"}}))
            .merge(&at(GRIDS, "NS"), json!({"spec": {"a": 1}}))
            .delete(&at(GRIDS, "NS"), Value::Null)
            .watch(&format!("{GRIDS}?watch=true&timeoutSeconds=20&resourceVersion=$0/metadata/resourceVersion&fieldSelector=metadata.name%3DNS"), 2),
        Case::new("watch_is_only_of_its_namespace")
            .post(LAMPS, plain("a"))
            .post("/api/v1/namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "NS-other"}}))
            .post("/apis/conformance.example.com/v1/namespaces/NS-other/lamps", plain("b"))
            .post(LAMPS, plain("c"))
            .watch(&since(0), 1),
    ]
}
