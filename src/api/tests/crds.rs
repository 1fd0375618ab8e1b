//! The CustomResourceDefinitions against the published ones, field by field, and the Rust types against the schemas.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;

use capm3_api::crds;
use capm3_api::infra::v1beta2;
use capm3_api::ipam::v1alpha1;
use capm3_api::k8s::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const FIELDS: &str = include_str!("../../xtask/data/crd-fields.tsv");
const VERSIONS: &str = include_str!("../../xtask/data/crd-versions.tsv");

/// Where ours differ on purpose: a part of `<kind> <version> <path> <column>`, and why. Each must occur.
const WIDER: &[(&str, &str)] = &[
    (
        "Metal3DataTemplate v1beta2 .spec.networkData.links.bonds[].parameters req",
        "CH-9, HD-1: a bond may have no parameters",
    ),
    ("Metal3DataTemplate v1beta2 .spec.networkData.links.bonds[].parameters[].value type", "CH-9, HD-1: any JSON"),
    ("Metal3DataTemplate v1beta2 .spec.networkData.links.bonds[].macAddress req", "HD-2: links without MAC"),
    ("Metal3DataTemplate v1beta2 .spec.networkData.links.ethernets[].macAddress req", "HD-2"),
    ("Metal3DataTemplate v1beta2 .spec.networkData.links.vlans[].macAddress req", "HD-2"),
    ("Metal3DataTemplate v1beta1 .spec.networkData.links.bonds[].macAddress req", "HD-2"),
    ("Metal3DataTemplate v1beta1 .spec.networkData.links.ethernets[].macAddress req", "HD-2"),
    ("Metal3DataTemplate v1beta1 .spec.networkData.links.vlans[].macAddress req", "HD-2"),
    (
        "Metal3DataTemplate v1beta2 .spec.networkData.links.vlans list",
        "CH-9: one VLAN on two parents, told apart by id and vlanID",
    ),
    ("Metal3DataTemplate v1beta2 .status.indexes maxItems", "CH-9, HD-4: more than 512 machines per template"),
    ("Metal3DataTemplate v1beta1 .spec.clusterName req", "CH-5: absent in v1beta2"),
    ("Metal3DataTemplate v1beta1 .spec.clusterName minLen", "CH-5: absent in v1beta2 reads as empty"),
    (
        "Metal3Cluster v1beta2 .status.deprecated.v1beta1.failureMessage minLen",
        "one type with Metal3Machine, which has no limit",
    ),
    (
        "Metal3Cluster v1beta2 .status.deprecated.v1beta1.failureMessage maxLen",
        "one type with Metal3Machine, which has no limit",
    ),
];

/// Fields that are ours alone, in every version of these kinds, with all below them.
const ADDED: &[(&[&str], &str, &str)] = &[
    (&TOLD, ".status.observedGeneration", "design 6: which generation a status is about, for kstatus and its like"),
    (
        &["Metal3DataTemplate", "Metal3DataClaim", "Metal3Data", "IPPool", "IPClaim"],
        ".status.conditions",
        "design 6, HI-28: Ready",
    ),
    (&["IPPool"], ".status.ipAddresses", "HI-28: how many addresses are left"),
    (&["Metal3MachineTemplate"], ".status", "K-54: capacity and nodeInfo, to scale from none"),
];

/// Kinds whose status says which generation it is about. A new object's says -1 by default: not looked at yet.
const TOLD: [&str; 7] =
    ["Metal3Cluster", "Metal3Machine", "Metal3DataTemplate", "Metal3DataClaim", "Metal3Data", "IPPool", "IPClaim"];

const COLUMNS: [&str; 16] = [
    "type", "req", "format", "default", "enum", "pattern", "min", "max", "minLen", "maxLen", "minItems", "maxItems",
    "minProps", "maxProps", "list", "flags",
];

type Fields = BTreeMap<String, [String; 16]>;

fn definitions() -> Vec<CustomResourceDefinition> {
    crds::infrastructure().into_iter().chain(crds::ipam()).collect()
}

fn schemas() -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for crd in definitions() {
        for version in crd.spec.versions {
            let schema = serde_json::to_value(version.schema.unwrap().open_api_v3_schema.unwrap()).unwrap();
            all.push((crd.spec.names.kind.clone(), version.name, schema));
        }
    }
    all
}

fn published() -> Fields {
    FIELDS
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<_> = line.split('\t').map(str::to_owned).collect();
            let key = format!("{} {} {}", cells[1], cells[2], cells[3]);
            (key, std::array::from_fn(|i| cells.get(i + 4).cloned().unwrap_or_default()))
        })
        .collect()
}

fn flatten(fields: &mut Fields, path: &str, schema: &Value, required: bool) {
    let text = |keyword: &str| match &schema[keyword] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.as_f64() == number.as_f64().map(f64::trunc) => {
            format!("{}", number.as_f64().unwrap())
        }
        other => other.to_string(),
    };
    let words = |keyword: &str| -> String {
        let words = schema[keyword].as_array().into_iter().flatten();
        words.map(|w| w.as_str().map_or_else(|| w.to_string(), str::to_owned)).collect::<Vec<_>>().join("|")
    };
    let keys = words("x-kubernetes-list-map-keys");
    let list = text("x-kubernetes-list-type") + if keys.is_empty() { "" } else { ":" } + &keys;
    let any = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let mut flags = Vec::new();
    if any {
        flags.push("preserve-unknown".to_owned());
    }
    if schema["x-kubernetes-map-type"] != Value::Null {
        flags.push(format!("map-type={}", text("x-kubernetes-map-type")));
    }
    let row = [
        if schema["type"].is_null() { "any".to_owned() } else { text("type") },
        if required { "r".to_owned() } else { String::new() },
        text("format"),
        text("default"),
        words("enum"),
        text("pattern"),
        text("minimum"),
        text("maximum"),
        text("minLength"),
        text("maxLength"),
        text("minItems"),
        text("maxItems"),
        text("minProperties"),
        text("maxProperties"),
        list,
        flags.join(","),
    ];
    fields.insert(path.to_owned(), row);
    let demanded: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let root = if path.ends_with(" .") { path } else { &format!("{path}.") };
        flatten(fields, &format!("{root}{name}"), below, demanded.iter().any(|d| *d == name));
    }
    if schema["items"].is_object() {
        flatten(fields, &format!("{path}[]"), &schema["items"], false);
    }
    if schema["additionalProperties"].is_object() {
        flatten(fields, &format!("{path}{{}}"), &schema["additionalProperties"], false);
    }
}

#[test]
fn every_published_field_is_accepted_the_same_way() {
    let mut ours = Fields::new();
    for (kind, version, schema) in schemas() {
        flatten(&mut ours, &format!("{kind} {version} ."), &schema, false);
    }
    let mut differences = Vec::new();
    for (path, theirs) in &published() {
        let Some(row) = ours.remove(path) else {
            differences.push(format!("{path} missing"));
            continue;
        };
        for (column, (ours, theirs)) in COLUMNS.iter().zip(row.iter().zip(theirs)) {
            if ours != theirs {
                differences.push(format!("{path} {column}: {ours:?} instead of {theirs:?}"));
            }
        }
    }
    for (kinds, field, _) in ADDED {
        for kind in *kinds {
            let before = ours.len();
            ours.retain(|path, _| {
                let (of_kind, path) = (path.starts_with(&format!("{kind} ")), path.split(' ').nth(2).unwrap());
                let below =
                    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']));
                !(of_kind && below)
            });
            assert!(ours.len() < before, "{kind} {field} is listed and not there");
        }
    }
    for kind in TOLD {
        let default = |found: &String| {
            found.starts_with(&format!("{kind} "))
                && found.contains(r#" .status default: "{\"observedGeneration\":-1}""#)
        };
        let before = differences.len();
        differences.retain(|found| !default(found));
        assert!(differences.len() < before, "{kind}: a new object's status says nothing");
    }
    differences.extend(ours.keys().map(|path| format!("{path} is ours alone")));
    for (difference, _) in WIDER {
        let before = differences.len();
        differences.retain(|found| !found.starts_with(&format!("{difference}:")));
        assert!(differences.len() < before, "{difference} is listed but does not differ");
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn ty_2_to_4_names_versions_and_columns_are_the_published_ones() {
    let ours: Vec<String> = definitions()
        .iter()
        .flat_map(|crd| {
            crd.spec.versions.iter().map(|version| {
                let names = &crd.spec.names;
                let columns: Vec<_> = version
                    .additional_printer_columns
                    .iter()
                    .flatten()
                    .map(|c| format!("{}({})={}", c.name, c.type_, c.json_path))
                    .collect();
                let status = version.subresources.as_ref().is_some_and(|s| s.status.is_some());
                let status = status && names.kind != "Metal3MachineTemplate"; // K-55: ours alone
                let flag = |set: bool, word: &'static str| if set { word } else { "" };
                [
                    crd.spec.group.as_str(),
                    &names.kind,
                    &names.plural,
                    &names.short_names.clone().unwrap_or_default().join(","),
                    &names.categories.clone().unwrap_or_default().join(","),
                    &crd.spec.scope,
                    &version.name,
                    flag(version.served, "served"),
                    flag(version.storage, "storage"),
                    flag(version.deprecated == Some(true), "deprecated"),
                    flag(status, "status"),
                    "",
                    &columns.join("; "),
                    "",
                ]
                .join("\t")
            })
        })
        .collect();
    let theirs: Vec<_> = VERSIONS.lines().skip(1).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn ty_5_to_7_labels_annotations_and_conversion() {
    for crd in crds::infrastructure() {
        let kind = crd.spec.names.kind.as_str();
        let labels = crd.metadata.labels.unwrap();
        assert_eq!(labels["cluster.x-k8s.io/provider"], "infrastructure-metal3");
        assert_eq!(labels["cluster.x-k8s.io/v1beta1"], "v1beta1");
        assert_eq!(labels["cluster.x-k8s.io/v1beta2"], "v1beta2");
        assert_eq!(labels.contains_key("clusterctl.cluster.x-k8s.io/move"), kind == "Metal3DataTemplate");
        let annotations = crd.metadata.annotations.unwrap();
        assert_eq!(annotations["cert-manager.io/inject-ca-from"], "capm3-system/capm3-serving-cert");
        let skip = "clusterctl.cluster.x-k8s.io/skip-crd-name-preflight-check";
        assert_eq!(annotations.contains_key(skip), kind == "Metal3Data");
        let conversion = crd.spec.conversion.unwrap();
        assert_eq!(conversion.strategy, "Webhook", "CH-1: also Metal3ClusterTemplate");
        let webhook = conversion.webhook.unwrap();
        assert_eq!(webhook.conversion_review_versions, ["v1", "v1beta1"]);
        let service = webhook.client_config.unwrap().service.unwrap();
        assert_eq!((service.namespace.as_str(), service.name.as_str()), ("capm3-system", "capm3-webhook-service"));
        assert_eq!((service.path.as_deref(), service.port), (Some("/convert"), None));
    }
}

#[test]
fn ap_12_the_names_that_are_migrated_are_those_of_all_nine_definitions() {
    let names: Vec<_> = crds::infrastructure().into_iter().map(|crd| crd.metadata.name.unwrap()).collect();
    assert_eq!(crds::INFRA_CRDS.as_slice(), names);
    assert!(
        names.contains(&"metal3datas.infrastructure.cluster.x-k8s.io".to_owned()),
        "not the plural Go would compute"
    );
}

/// An upgrade from the Go provider merges over definitions that say Webhook; None beside their `webhook` would be refused.
#[test]
fn k_108_ipam_definitions_can_be_merged_over_those_of_the_go_provider() {
    for crd in crds::ipam() {
        let conversion = crd.spec.conversion.unwrap();
        assert_eq!(conversion.strategy, "Webhook");
        let service = conversion.webhook.unwrap().client_config.unwrap().service.unwrap();
        assert_eq!((service.namespace.as_str(), service.name.as_str()), ("metal3-ipam-system", "ipam-webhook-service"));
        assert_eq!(service.path.as_deref(), Some("/convert"));
        let injected = &crd.metadata.annotations.unwrap()["cert-manager.io/inject-ca-from"];
        assert_eq!(injected, "metal3-ipam-system/ipam-serving-cert");
    }
}

/// A schema that an API server calls structural: a type everywhere, one dialect, no leftovers of the derive.
#[test]
fn schemas_are_structural() {
    fn walk(path: &str, schema: &Value) {
        let known = [
            "type",
            "description",
            "properties",
            "required",
            "items",
            "additionalProperties",
            "format",
            "default",
            "enum",
            "pattern",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-map-type",
            "x-kubernetes-preserve-unknown-fields",
        ];
        let schema = schema.as_object().unwrap_or_else(|| panic!("{path} is not an object"));
        for keyword in schema.keys() {
            assert!(known.contains(&keyword.as_str()), "{path} says {keyword}");
        }
        assert!(schema.contains_key("type") != schema.contains_key("x-kubernetes-preserve-unknown-fields"), "{path}");
        for key in schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten() {
            let item = &schema["items"];
            let required = item["required"].as_array().is_some_and(|r| r.contains(key));
            let default = !item["properties"][key.as_str().unwrap()]["default"].is_null();
            assert!(required || default, "{path} is keyed by {key}, which may be absent");
        }
        for (name, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(&format!("{path}.{name}"), below);
        }
        for below in ["items", "additionalProperties"] {
            if let Some(schema) = schema.get(below) {
                walk(&format!("{path}[]"), schema);
            }
        }
    }
    for (kind, version, schema) in schemas() {
        walk(&format!("{kind} {version}"), &schema);
    }
}

/// Something for every field of a schema, so that a type that forgot one is found out.
fn sample(schema: &Value) -> Value {
    let object = |below: &Value| -> Map<String, Value> {
        below.as_object().into_iter().flatten().map(|(name, schema)| (name.clone(), sample(schema))).collect()
    };
    match schema["type"].as_str() {
        Some("object") if schema["additionalProperties"].is_object() => {
            json!({"some": sample(&schema["additionalProperties"])})
        }
        Some("object") => object(&schema["properties"]).into(),
        Some("array") => json!([sample(&schema["items"])]),
        Some("boolean") => true.into(),
        Some("integer") => 7.into(),
        Some("string") if schema["format"] == "date-time" => "2026-01-02T03:04:05Z".into(),
        _ => schema["enum"].get(0).cloned().unwrap_or_else(|| "text".into()),
    }
}

fn round_trip<K: DeserializeOwned + Serialize>(sample: &Value) {
    let typed: K = serde_json::from_value(sample.clone()).unwrap();
    let back = serde_json::to_value(typed).unwrap();
    assert_eq!(back["spec"], sample["spec"]);
    assert_eq!(back["status"], sample["status"]);
    assert_eq!((&back["apiVersion"], &back["kind"]), (&sample["apiVersion"], &sample["kind"]));
}

#[test]
fn the_types_know_every_field_of_their_schema() {
    for crd in definitions() {
        let version = crd.spec.versions.last().unwrap();
        let schema = serde_json::to_value(version.schema.clone().unwrap().open_api_v3_schema.unwrap()).unwrap();
        let mut sample = sample(&schema);
        sample["apiVersion"] = format!("{}/{}", crd.spec.group, version.name).into();
        sample["kind"] = crd.spec.names.kind.clone().into();
        match crd.spec.names.kind.as_str() {
            "Metal3Cluster" => round_trip::<v1beta2::Metal3Cluster>(&sample),
            "Metal3ClusterTemplate" => round_trip::<v1beta2::Metal3ClusterTemplate>(&sample),
            "Metal3Machine" => round_trip::<v1beta2::Metal3Machine>(&sample),
            "Metal3MachineTemplate" => round_trip::<v1beta2::Metal3MachineTemplate>(&sample),
            "Metal3DataTemplate" => round_trip::<v1beta2::Metal3DataTemplate>(&sample),
            "Metal3DataClaim" => round_trip::<v1beta2::Metal3DataClaim>(&sample),
            "Metal3Data" => round_trip::<v1beta2::Metal3Data>(&sample),
            "Metal3Remediation" => round_trip::<v1beta2::Metal3Remediation>(&sample),
            "Metal3RemediationTemplate" => round_trip::<v1beta2::Metal3RemediationTemplate>(&sample),
            "IPPool" => round_trip::<v1alpha1::IPPool>(&sample),
            "IPClaim" => round_trip::<v1alpha1::IPClaim>(&sample),
            "IPAddress" => round_trip::<v1alpha1::IPAddress>(&sample),
            other => panic!("no type for {other}"),
        }
    }
}

/// Absent when unset, readable when almost nothing is there (TY-10, TY-13, TY-14).
#[test]
fn ty_14_empty_objects_read_and_write_as_nothing() {
    let machine: v1beta2::Metal3Machine =
        serde_json::from_value(json!({"metadata": {"name": "m"}, "other": 1})).unwrap();
    let wire = serde_json::to_value(&machine).unwrap();
    assert_eq!(
        wire,
        json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "Metal3Machine", "metadata": {"name": "m"}})
    );
}
