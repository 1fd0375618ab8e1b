//! Round trips of random objects in both directions (AC-1 to AC-9, AC-23, CH-13), and conversion of garbage.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "objects are made in place; a test may fail")]

mod support;

use capm3_api::convert::convert;
use serde_json::{Map, Value, json};
use support::{Dice, difference, faults, kinds, object, schema};

const OLD: &str = "infrastructure.cluster.x-k8s.io/v1beta1";
const NEW: &str = "infrastructure.cluster.x-k8s.io/v1beta2";
const ANNOTATION: &str = "cluster.x-k8s.io/conversion-data";
const CASES: u64 = 200;

fn up(object: Value) -> Value {
    convert(object, NEW).unwrap()
}

fn down(object: Value) -> Value {
    convert(object, OLD).unwrap()
}

fn preserved(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str()
}

/// Applies `to` to every object of the tree, leaves first; what users write freely stays as it is.
fn edit(value: &mut Value, to: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            for (key, below) in object.iter_mut() {
                if !matches!(key.as_str(), "parameters" | "matchLabels" | "labels" | "attributes" | "annotations") {
                    edit(below, to);
                }
            }
            to(object);
        }
        Value::Array(list) => list.iter_mut().for_each(|below| edit(below, to)),
        _ => {}
    }
}

/// A v1beta1 object up to what its types cannot tell apart (absent, zero, empty) and what is gone for good.
fn essence_of_old(mut object: Value) -> Value {
    object["metadata"] = Value::Null;
    for reference in [
        "/spec/dataTemplate",
        "/spec/template/spec/dataTemplate",
        "/spec/claim",
        "/spec/template",
        "/status/renderedData",
    ] {
        let kind_is_reference = reference != "/spec/template" || !object["spec"]["template"]["spec"].is_object();
        if let Some(Value::Object(reference)) = object.pointer_mut(reference).filter(|_| kind_is_reference) {
            reference.retain(|key, _| key == "name" || key == "namespace");
        }
    }
    edit(&mut object, &mut |object| {
        if let Some(without) = object.remove("noCloudProvider").and_then(|v| v.as_bool()) {
            object.entry("cloudProviderEnabled").or_insert((!without).into());
        }
        object.retain(|key, value| {
            let empty = match value {
                Value::Null => true,
                Value::Bool(set) => !*set && key != "cloudProviderEnabled",
                Value::Number(n) => n.as_i64() == Some(0),
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                Value::Object(object) => object.is_empty(),
            };
            !empty && !matches!(key.as_str(), "templateReference" | "phase")
        });
    });
    object
}

/// A v1beta2 object up to the accepted losses of AC-1 to AC-9.
fn essence_of_new(mut object: Value) -> Value {
    object["metadata"] = Value::Null;
    let kind = object["kind"].clone();
    if kind == "Metal3Data" {
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.entry("index").or_insert(0.into());
        }
        if let Some(status) = object["status"].as_object_mut() {
            status.entry("ready").or_insert(false.into());
        }
    }
    edit(&mut object, &mut |object| {
        for (list, key) in [("parameters", "name"), ("indexes", "index")] {
            if let Some(Value::Array(list)) = object.get_mut(list) {
                list.sort_by_key(|entry| (entry[key].as_i64(), entry[key].as_str().map(str::to_owned)));
            }
        }
        for parameter in object.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            parameter.as_object_mut().unwrap().entry("value").or_insert(Value::Null);
        }
        if object.contains_key("key") && (object.contains_key("interface") || object.len() == 1) {
            object.entry("fromBootMAC").or_insert(false.into());
        }
        object.retain(|key, value| {
            let empty = match value {
                Value::Array(list) => list.is_empty() && key != "values",
                Value::Object(object) => object.is_empty(),
                Value::String(text) => text.is_empty() && key != "checksum",
                Value::Number(n) => n.as_i64() == Some(0) && matches!(key.as_str(), "prefix" | "offset"),
                Value::Bool(set) => !*set && key == "nodeReuse",
                Value::Null => key != "value",
            };
            !empty
        });
    });
    edit(&mut object, &mut |object| {
        if object.contains_key("key") && object.len() == 1 {
            object.insert("fromBootMAC".into(), false.into());
        }
    });
    object
}

/// The rows, by kind.
const ROUND_TRIPS: [(&str, &str); 9] = [
    ("AC-1", "Metal3Cluster"),
    ("AC-2", "Metal3ClusterTemplate"),
    ("AC-3", "Metal3Machine"),
    ("AC-4", "Metal3MachineTemplate"),
    ("AC-5", "Metal3DataTemplate"),
    ("AC-6", "Metal3Data"),
    ("AC-7", "Metal3DataClaim"),
    ("AC-8", "Metal3Remediation"),
    ("AC-9", "Metal3RemediationTemplate"),
];

#[test]
fn old_objects_survive_the_way_up_and_down() {
    for (row, kind) in ROUND_TRIPS {
        let schemas = (schema(kind, "v1beta1"), schema(kind, "v1beta2"));
        for seed in 1..=CASES {
            let mut before = object(&mut Dice(seed * 7919), kind, "v1beta1", &schemas.0);
            edit(&mut before, &mut |object| {
                if let Some(timeout) = object.get_mut("timeout") {
                    *timeout = ["1m40s", "10m0s", "1h0m0s", "45s"][seed as usize % 4].into();
                }
            });
            let hub = up(before.clone());
            assert_eq!(preserved(&hub), None);
            let after = down(hub);
            assert_eq!(
                difference("", &essence_of_old(after), &essence_of_old(before)),
                None,
                "{row} {kind} seed {seed}"
            );
        }
    }
}

#[test]
fn new_objects_survive_the_way_down_and_up() {
    for (row, kind) in ROUND_TRIPS {
        let schemas = (schema(kind, "v1beta1"), schema(kind, "v1beta2"));
        for seed in 1..=CASES {
            let before = object(&mut Dice(seed * 104_729), kind, "v1beta2", &schemas.1);
            let spoke = down(before.clone());
            let mut wrong = Vec::new();
            faults("", &schemas.0, &spoke, &mut wrong);
            assert!(wrong.is_empty(), "directed case 23, {kind} seed {seed}: {wrong:?}");
            let after = up(spoke);
            faults("", &schemas.1, &after, &mut wrong);
            assert!(wrong.is_empty(), "directed case 23, {kind} seed {seed}: {wrong:?}");
            assert_eq!(
                difference("", &essence_of_new(after), &essence_of_new(before)),
                None,
                "{row} {kind} seed {seed}"
            );
        }
    }
}

/// What of v1beta1 is outside the limits of v1beta2, and stays so on purpose: admission warns of it (CH-9, CH-9a, HD-39).
const NARROWER: [(&str, &str); 14] = [
    (".spec", "missing"),            // a template of nothing, which admission refuses
    (".image.url", "out of bounds"), // a checksum alone, which admission refuses
    (".mtu", "out of bounds"),
    (".key", "out of bounds"),
    (".name", "out of bounds"),
    (".value", "out of bounds"),
    (".id", "out of bounds"),
    (".link", "out of bounds"),
    (".label", "out of bounds"),
    (".annotation", "out of bounds"),
    (".vlanLink", "out of bounds"),
    (".timeoutSeconds", "out of bounds"),
    (".phase", "not one of"),
    (".strategy.type", "not one of"),
];

#[test]
fn ac_23_what_v1beta1_accepts_is_what_v1beta2_accepts_save_for_limits() {
    for kind in kinds() {
        let schemas = (schema(&kind, "v1beta1"), schema(&kind, "v1beta2"));
        for seed in 1..=CASES {
            let before = object(&mut Dice(seed * 31_337), &kind, "v1beta1", &schemas.0);
            let mut wrong = Vec::new();
            faults("", &schemas.1, &up(before), &mut wrong);
            wrong.retain(|fault| {
                let (path, what) = fault.split_once(": ").unwrap();
                let entry = path.ends_with(']') && what.contains("out of bounds");
                !entry && !NARROWER.iter().any(|(field, kind)| path.ends_with(field) && what.contains(kind))
            });
            assert!(wrong.is_empty(), "{kind} seed {seed}: {wrong:?}");
        }
    }
}

/// A client of v1beta1 that reads and writes back what it read changes nothing: not what it sees, and not what is stored
/// beyond what both versions write in one way only.
#[test]
fn reading_and_writing_back_through_v1beta1_settles_at_once() {
    for kind in kinds() {
        let schema = schema(&kind, "v1beta2");
        for seed in 1..=CASES {
            let spoke = down(object(&mut Dice(seed * 65_537), &kind, "v1beta2", &schema));
            let stored = up(spoke.clone());
            let again = down(stored.clone());
            assert_eq!(
                difference("", &essence_of_old(again.clone()), &essence_of_old(spoke)),
                None,
                "{kind} seed {seed}"
            );
            assert_eq!(difference("", &up(again.clone()), &stored), None, "{kind} seed {seed}");
            assert_eq!(down(up(again.clone())), again, "{kind} seed {seed}: to the byte, annotation included");
        }
    }
}

/// CH-13: the random objects have lists and maps with several entries, or the round trips would show little.
#[test]
fn ch_13_random_objects_have_long_lists() {
    fn longest(value: &Value, lists: &mut usize, maps: &mut usize) {
        match value {
            Value::Array(items) => {
                *lists = items.len().max(*lists);
                items.iter().for_each(|item| longest(item, lists, maps));
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    if matches!(name.as_str(), "indexes" | "parameters" | "failureDomains" | "matchLabels") {
                        *maps = value.as_object().map_or(0, Map::len).max(*maps);
                    }
                    longest(value, lists, maps);
                }
            }
            _ => {}
        }
    }
    for (kind, version) in
        [("Metal3Cluster", "v1beta1"), ("Metal3Machine", "v1beta1"), ("Metal3DataTemplate", "v1beta1")]
    {
        let schema = schema(kind, version);
        let (mut lists, mut maps) = (0, 0);
        (1..=CASES)
            .for_each(|seed| longest(&object(&mut Dice(seed * 7919), kind, version, &schema), &mut lists, &mut maps));
        assert!(lists >= 5 && maps >= 5, "{kind}: {lists} {maps}");
    }
}

/// Anything at all in place of anything: never a panic, never a failure, and the metadata stays (C-3).
#[test]
fn conversion_is_total() {
    fn spoil(dice: &mut Dice, value: &mut Value) {
        let junk = [
            Value::Null,
            json!(true),
            json!(0),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!(""),
            json!("text"),
            json!([]),
            json!([null, 1, "x", {}]),
            json!({}),
            json!({"": null, "value": {"parameters": []}}),
        ];
        match value {
            Value::Object(fields) if !fields.is_empty() && !dice.one_in(5) => {
                let i = dice.below(fields.len() as u64) as usize;
                spoil(dice, fields.values_mut().nth(i).unwrap());
            }
            Value::Array(items) if !items.is_empty() && !dice.one_in(5) => {
                let i = dice.below(items.len() as u64) as usize;
                spoil(dice, &mut items[i]);
            }
            other => *other = junk[dice.below(junk.len() as u64) as usize].clone(),
        }
    }
    for kind in kinds() {
        let (old, new) = (schema(&kind, "v1beta1"), schema(&kind, "v1beta2"));
        for (version, schema, other) in [("v1beta1", &old, NEW), ("v1beta2", &new, OLD)] {
            for seed in 1..=CASES {
                let mut dice = Dice(seed * 99_991);
                let mut before = object(&mut dice, &kind, version, schema);
                for part in ["spec", "status"] {
                    for _ in 0..dice.below(6) {
                        spoil(&mut dice, &mut before[part]);
                    }
                }
                let mut remembered = object(&mut dice, &kind, "v1beta2", &new);
                (0..dice.below(4)).for_each(|_| spoil(&mut dice, &mut remembered));
                before["metadata"]["annotations"] = json!({ANNOTATION: remembered.to_string()});
                let mut after = convert(before.clone(), other).unwrap();
                for object in [&mut before, &mut after] {
                    object["metadata"].as_object_mut().unwrap().remove("annotations");
                }
                assert_eq!(after["metadata"], before["metadata"], "{kind} seed {seed}");
                convert(after, if other == OLD { NEW } else { OLD }).unwrap();
            }
        }
    }
}

/// v1beta1 has lists where v1beta2 has keyed ones: equal keys neither disappear nor change places.
#[test]
fn equal_keys_of_v1beta1_lists_stay_as_they_are() {
    let strings = json!([{"key": "b", "value": "1"}, {"key": "a", "value": "2"}, {"key": "b", "value": "3"}]);
    let vlans = json!([{"id": "x", "vlanID": 5, "vlanLink": "e"}, {"id": "x", "vlanID": 5, "vlanLink": "f"}]);
    let spec =
        json!({"clusterName": "c", "metaData": {"strings": strings}, "networkData": {"links": {"vlans": vlans}}});
    let template = json!({"apiVersion": OLD, "kind": "Metal3DataTemplate", "metadata": {"name": "n"}, "spec": spec});
    let hub = up(template);
    assert_eq!(hub["spec"]["metaData"]["strings"], strings);
    assert_eq!(hub["spec"]["networkData"]["links"]["vlans"], vlans);
    let spoke = down(hub);
    assert_eq!(spoke["spec"]["metaData"]["strings"], strings);
    assert_eq!(spoke["spec"]["networkData"]["links"]["vlans"], vlans);
}
