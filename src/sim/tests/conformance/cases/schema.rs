//! What definitions drop, put in and refuse.

use serde_json::json;

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, spec) in [
        ("schema_defaults", json!({"watts": 1})),
        ("schema_defaults_for_null", json!({"watts": 1, "color": null, "on": null, "deep": null})),
        ("schema_null_where_it_may_be", json!({"watts": 1, "none": null})),
        ("schema_null_where_it_may_not", json!({"watts": null})),
        ("schema_null_in_lists", json!({"watts": 1, "tags": [null]})),
        ("schema_null_for_a_list", json!({"watts": 1, "tags": null, "parts": null, "map": null})),
        (
            "schema_unknown_fields_go",
            json!({"watts": 1, "unknown": {"a": 1}, "parts": [{"name": "a", "more": 1}], "deep": {"more": 1}}),
        ),
        ("schema_unknown_fields_stay_where_it_is_open", json!({"watts": 1, "open": {"a": {"b": [1, null, "x"]}}})),
        ("schema_required", json!({})),
        ("schema_required_in_a_list", json!({"watts": 1, "parts": [{"value": "x"}]})),
        ("schema_type_text_for_a_number", json!({"watts": "many"})),
        ("schema_type_number_for_text", json!({"watts": 1, "label": 5})),
        ("schema_type_fraction_for_a_whole_number", json!({"watts": 1.5})),
        ("schema_type_whole_number_as_a_fraction", json!({"watts": 2.0, "volts": 2})),
        ("schema_type_list_for_an_object", json!({"watts": 1, "deep": []})),
        ("schema_type_object_for_a_list", json!({"watts": 1, "tags": {}})),
        ("schema_type_text_for_a_switch", json!({"watts": 1, "on": "yes"})),
        ("schema_type_number_for_a_switch", json!({"watts": 1, "on": 1})),
        ("schema_type_list_for_the_spec", json!([])),
        ("schema_minimum", json!({"watts": 0})),
        ("schema_maximum", json!({"watts": 101})),
        ("schema_exclusive_minimum", json!({"watts": 1, "volts": 0})),
        ("schema_enum_of_null", json!({"watts": 1, "parts": [{"name": null}]})),
        ("schema_number_that_is_fine", json!({"watts": 100, "volts": 1.5, "small": -5})),
        ("schema_int32", json!({"watts": 1, "small": 3_000_000_000_i64})),
        ("schema_enum", json!({"watts": 1, "color": "blue"})),
        ("schema_enum_of_another_type", json!({"watts": 1, "color": 3})),
        ("schema_min_length", json!({"watts": 1, "label": "a"})),
        ("schema_max_length", json!({"watts": 1, "label": "abcdef"})),
        ("schema_pattern", json!({"watts": 1, "label": "AB"})),
        ("schema_length_counts_characters", json!({"watts": 1, "label": "äöüäö"})),
        ("schema_max_items", json!({"watts": 1, "tags": ["a", "b", "c", "d"]})),
        ("schema_min_items", json!({"watts": 1, "tags": []})),
        ("schema_set_with_a_duplicate", json!({"watts": 1, "tags": ["a", "b", "a"]})),
        (
            "schema_map_list_with_a_duplicate",
            json!({"watts": 1, "parts": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}),
        ),
        ("schema_map_list_defaults", json!({"watts": 1, "parts": [{"name": "a"}]})),
        ("schema_min_properties", json!({"watts": 1, "map": {}})),
        ("schema_max_properties", json!({"watts": 1, "map": {"a": 1, "b": 2, "c": 3}})),
        ("schema_map_values", json!({"watts": 1, "map": {"a": "x"}})),
        ("schema_map_values_that_are_null", json!({"watts": 1, "map": {"a": null, "b": 1}})),
        ("schema_date_time", json!({"watts": 1, "since": "yesterday"})),
        ("schema_date_time_that_is_fine", json!({"watts": 1, "since": "2026-01-02T03:04:05Z"})),
        ("schema_uri", json!({"watts": 1, "site": "no uri"})),
        ("schema_uri_that_is_fine", json!({"watts": 1, "site": "http://192.0.2.1/x"})),
        ("schema_int_or_string", json!({"watts": 1, "either": "x"})),
        ("schema_int_or_string_number", json!({"watts": 1, "either": 3})),
        ("schema_int_or_string_list", json!({"watts": 1, "either": []})),
        ("schema_several_errors", json!({"watts": 0, "color": "blue", "label": "a", "tags": []})),
    ] {
        cases.push(Case::new(name).post(LAMPS, lamp("a", spec)));
    }
    let lamp_a = at(LAMPS, "a");
    cases.extend([
        Case::new("schema_no_spec").post(LAMPS, json!({"apiVersion": "conformance.example.com/v1", "kind": "Lamp", "metadata": {"name": "a"}})),
        Case::new("schema_spec_is_null").post(LAMPS, lamp("a", Value::Null)),
        Case::new("schema_unknown_at_the_root").post(LAMPS, {
            let mut lamp = plain("a");
            lamp["more"] = json!({"x": 1});
            lamp
        }),
        Case::new("schema_strict").post(&format!("{LAMPS}?fieldValidation=Strict"), lamp("a", json!({"watts": 1, "unknown": 1}))),
        Case::new("schema_strict_and_fine").post(&format!("{LAMPS}?fieldValidation=Strict"), plain("a")),
        Case::new("schema_on_update")
            .post(LAMPS, plain("a"))
            .merge(&lamp_a, json!({"spec": {"watts": 0}}))
            .merge(&lamp_a, json!({"spec": {"watts": "x"}}))
            .merge(&lamp_a, json!({"spec": {"parts": [{"value": "x"}]}}))
            .merge(&lamp_a, json!({"spec": {"parts": [{"name": "a"}, {"name": "b"}]}}))
            .merge(&lamp_a, json!({"spec": {"color": null}})),
        Case::new("schema_on_the_status")
            .post(LAMPS, plain("a"))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "x"}}))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"count": "x"}}))
            .merge(&at(LAMPS, "a/status"), json!({"status": "x"}))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"unknown": 1, "count": 3}})),
        Case::new("schema_open_grid").post(GRIDS, json!({"apiVersion": "conformance.example.com/v1", "kind": "Grid", "metadata": {"name": "NS"}, "any": {"thing": [1, null]}})),
        Case::new("schema_defaults_of_a_bulb").post(BULBS, json!({"apiVersion": "conformance.example.com/v1", "kind": "Bulb", "metadata": {"name": "a"}}))
            .post(BULBS, json!({"apiVersion": "conformance.example.com/v1", "kind": "Bulb", "metadata": {"name": "b"}, "spec": {}})),
    ]);
    cases
}
