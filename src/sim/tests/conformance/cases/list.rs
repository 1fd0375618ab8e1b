//! Lists: selectors, pages, versions, metadata only.

use serde_json::json;

use super::*;
use crate::harness::{METADATA, METADATA_LIST};

fn four(name: &'static str) -> Case {
    let labelled = |name: &str, labels: Value| with(plain(name), json!({"labels": labels}));
    Case::new(name)
        .post(LAMPS, labelled("a", json!({"x": "1"})))
        .post(LAMPS, labelled("b", json!({"x": "2", "y": ""})))
        .post(LAMPS, labelled("c", json!({"y": "1"})))
        .post(LAMPS, plain("d"))
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("list_nothing").get(LAMPS).get(MAPS),
        four("list_everything").get(LAMPS),
        Case::new("list_maps").post(MAPS, map("b")).post(MAPS, map("a")).get(MAPS),
        Case::new("list_secrets_by_type")
            .post(SECRETS, secret("a"))
            .post(SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}, "type": "t"}))
            .get(&format!("{SECRETS}?fieldSelector=type%3Dt")),
        Case::new("list_in_a_namespace_that_is_not_there").get("/apis/conformance.example.com/v1/namespaces/NS-none/lamps"),
        four("list_in_pages")
            .get(&format!("{LAMPS}?limit=3"))
            .get(&format!("{LAMPS}?limit=3&continue=$4/metadata/continue")),
        four("list_in_pages_is_one_moment")
            .get(&format!("{LAMPS}?limit=2"))
            .delete(&at(LAMPS, "c"), Value::Null)
            .merge(&at(LAMPS, "d"), json!({"spec": {"watts": 50}}))
            .get(&format!("{LAMPS}?limit=2&continue=$4/metadata/continue")),
        four("list_in_pages_with_a_selector").get(&format!("{LAMPS}?limit=1&labelSelector=x")),
        four("list_in_one_page").get(&format!("{LAMPS}?limit=4")),
        four("list_with_a_broken_token").get(&format!("{LAMPS}?limit=2&continue=broken")),
        Case::new("list_with_a_version_that_is_none").get(&format!("{LAMPS}?resourceVersion=x")).get(&format!("{MAPS}/a?resourceVersion=x")),
        four("list_with_version_zero").get(&format!("{LAMPS}?resourceVersion=0")),
        four("list_not_older_than").get(&format!("{LAMPS}?resourceVersion=$3/metadata/resourceVersion&resourceVersionMatch=NotOlderThan")),
        four("list_exactly").get(&format!("{LAMPS}?resourceVersion=$1/metadata/resourceVersion&resourceVersionMatch=Exact")),
        four("list_of_the_future").get(&format!("{LAMPS}?resourceVersion=999999999&resourceVersionMatch=NotOlderThan")),
        four("list_with_options_that_clash")
            .get(&format!("{LAMPS}?resourceVersionMatch=Exact"))
            .get(&format!("{LAMPS}?resourceVersion=0&resourceVersionMatch=Exact"))
            .get(&format!("{LAMPS}?resourceVersion=1&resourceVersionMatch=Near"))
            .get(&format!("{LAMPS}?resourceVersion=1&resourceVersionMatch=Exact&continue=x"))
            .get(&format!("{LAMPS}?sendInitialEvents=true")),
        Case::new("list_bulbs_by_a_selectable_field")
            .post(BULBS, bulb("a"))
            .post(BULBS, json!({"apiVersion": "conformance.example.com/v1", "kind": "Bulb", "metadata": {"name": "b"}, "spec": {"color": "red"}}))
            .get(&format!("{BULBS}?fieldSelector=spec.color%3Dred"))
            .get(&format!("{OLD_BULBS}?fieldSelector=spec.color%3Dred")),
        Case::new("list_bulbs_in_their_old_version").post(BULBS, bulb("a")).get(OLD_BULBS),
        four("list_metadata").accept(METADATA_LIST, "GET", &format!("{LAMPS}?limit=2"), Value::Null),
        Case::new("list_metadata_of_maps").post(MAPS, map("a")).accept(METADATA_LIST, "GET", MAPS, Value::Null),
        Case::new("get_metadata")
            .post(LAMPS, plain("a"))
            .accept(METADATA, "GET", &at(LAMPS, "a"), Value::Null)
            .accept(METADATA, "PATCH", &at(LAMPS, "a"), json!({"metadata": {"labels": {"a": "b"}}}))
            .accept(METADATA, "GET", &at(LAMPS, "b"), Value::Null),
        Case::new("get_metadata_of_a_map").post(MAPS, map("a")).accept(METADATA, "GET", &at(MAPS, "a"), Value::Null),
        Case::new("get_what_is_not_there").get(&at(MAPS, "a")).get(&at(LAMPS, "a")).get(&at(LAMPS, "a/status")).get(&at(LEASES, "a")),
        Case::new("get_with_a_version")
            .post(LAMPS, plain("a"))
            .get(&format!("{LAMPS}/a?resourceVersion=$0/metadata/resourceVersion"))
            .get(&format!("{LAMPS}/a?resourceVersion=0"))
            .get(&format!("{LAMPS}/a?resourceVersion=999999999")),
        Case::new("list_events_about_one_object")
            .post(EVENTS, json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "involvedObject": {"namespace": "NS", "name": "x", "kind": "K"}, "reason": "R"}))
            .post(EVENTS, json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "b"}, "involvedObject": {"namespace": "NS", "name": "y", "kind": "K"}}))
            .get(&format!("{EVENTS}?fieldSelector=involvedObject.name%3Dx,involvedObject.kind%3DK"))
            .get(&format!("{EVENTS}?fieldSelector=reason!%3DR")),
        Case::new("list_by_an_unknown_field")
            .get(&format!("{LAMPS}?fieldSelector=spec.watts%3D5"))
            .get(&format!("{MAPS}?fieldSelector=data.x%3D5"))
            .get(&format!("{SECRETS}?fieldSelector=data.x%3D5")),
        Case::new("list_by_a_broken_field_selector").get(&format!("{LAMPS}?fieldSelector=what")),
        four("list_by_name").get(&format!("{LAMPS}?fieldSelector=metadata.name%3Db")),
        four("list_by_other_name").get(&format!("{LAMPS}?fieldSelector=metadata.name!%3Db")),
        four("list_by_namespace").get(&format!("{LAMPS}?fieldSelector=metadata.namespace%3DNS,metadata.name%3D%3Da")),
    ];
    for (name, selector) in [
        ("list_where_equal", "x%3D1"),
        ("list_where_double_equal", "x%3D%3D2"),
        ("list_where_not_equal", "x!%3D1"),
        ("list_where_in", "x+in+(1,2)"),
        ("list_where_not_in", "x+notin+(1,3)"),
        ("list_where_present", "y"),
        ("list_where_absent", "!x"),
        ("list_where_empty", "y%3D"),
        ("list_where_both", "x%3D2,y"),
    ] {
        cases.push(four(name).get(&format!("{LAMPS}?labelSelector={selector}")));
    }
    for (name, selector) in [
        ("list_with_a_broken_selector", "x+y"),
        ("list_with_a_key_that_is_none", "-%3D1"),
        ("list_with_a_value_that_is_none", "x%3D-"),
        ("list_with_a_lonely_comma", ","),
    ] {
        cases.push(
            Case::new(name)
                .get(&format!("{LAMPS}?labelSelector={selector}"))
                .get(&format!("{MAPS}?labelSelector={selector}")),
        );
    }
    cases
}
