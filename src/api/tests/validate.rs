//! Admission: the rows of remediation-webhooks-packaging 8.3, data-rendering 14.11 and ipam 9.9.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "objects are written in place; a test may fail")]

use capm3_api::infra::v1beta2::*;
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_api::validate::{Admission, Verdict, validate_create, validate_update};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An object `n` in namespace `foo`.
fn of<K: DeserializeOwned>(spec: Value) -> K {
    named("n", spec)
}

fn named<K: DeserializeOwned>(name: &str, spec: Value) -> K {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "foo"}, "spec": spec})).unwrap()
}

fn with(mut spec: Value, more: Value) -> Value {
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn paths(verdict: &Verdict) -> Vec<&str> {
    verdict.errors.iter().map(|error| error.path.as_str()).collect()
}

/// One row of the specification, or the rule it is about: an object is refused at exactly these paths.
#[track_caller]
fn create<K: Admission + DeserializeOwned>(row: &str, spec: Value, expected: &[&str]) {
    assert_eq!(paths(&validate_create(&of::<K>(spec))), expected, "{row}");
}

#[track_caller]
fn update<K: Admission + DeserializeOwned>(row: &str, old: Value, new: Value, expected: &[&str]) {
    assert_eq!(paths(&validate_update(&of::<K>(old), &of::<K>(new), false)), expected, "{row}");
}

fn endpoint(host: &str, port: i32) -> Value {
    json!({"controlPlaneEndpoint": {"host": host, "port": port}})
}

#[test]
fn aw_1_cluster_defaults() {
    for spec in [json!({}), json!({"controlPlaneEndpoint": {"port": 0}})] {
        let mut cluster: Metal3Cluster = of(spec);
        Admission::default(&mut cluster);
        assert_eq!(cluster.spec.control_plane_endpoint.unwrap().port, Some(6443));
        assert_eq!(cluster.spec.cloud_provider_enabled, Some(false));
    }
    let mut cluster: Metal3Cluster =
        of(json!({"cloudProviderEnabled": true, "controlPlaneEndpoint": {"host": "h", "port": 1}}));
    let before = cluster.clone();
    Admission::default(&mut cluster);
    assert_eq!(cluster, before);
}

#[test]
fn aw_2_and_aw_3_a_cluster_needs_a_host() {
    create::<Metal3Cluster>("AW-2", json!({}), &["spec.controlPlaneEndpoint"]);
    update::<Metal3Cluster>("AW-2", endpoint("h", 1), endpoint("", 1), &["spec.controlPlaneEndpoint"]);
    create::<Metal3Cluster>("AW-3", endpoint("h", 1), &[]);
    update::<Metal3Cluster>("AW-3", endpoint("h", 1), endpoint("other", 2), &[]);
}

fn template(spec: Value) -> Value {
    json!({"template": {"spec": spec}})
}

#[test]
fn aw_10_to_aw_14_cluster_templates() {
    create::<Metal3ClusterTemplate>("AW-10", template(endpoint("h", 1)), &[]);
    let path = "spec.template.spec.controlPlaneEndpoint";
    create::<Metal3ClusterTemplate>("AW-11", template(json!({})), &[&format!("{path}.host"), &format!("{path}.port")]);
    update::<Metal3ClusterTemplate>("AW-12", template(endpoint("h", 1)), template(endpoint("h", 2)), &[]);
    update::<Metal3ClusterTemplate>(
        "AW-13",
        template(endpoint("h", 1)),
        template(endpoint("h", 0)),
        &[&format!("{path}.port")],
    );
    // AW-14 after WH-4: what is stored and wrong can be put right.
    update::<Metal3ClusterTemplate>("AW-14", template(endpoint("", 0)), template(endpoint("h", 1)), &[]);
}

#[test]
fn ac_38_and_39_the_endpoint_of_a_template() {
    let (host, port) = ("spec.template.spec.controlPlaneEndpoint.host", "spec.template.spec.controlPlaneEndpoint.port");
    for (row, endpoint, expected) in [
        ("AC-38", json!({"host": "h", "port": 1}), &[][..]),
        ("AC-39", json!({"port": 1}), &[host]),
        ("AC-39", json!({"host": "h"}), &[port]),
        ("AC-39", json!({}), &[host, port]),
    ] {
        create::<Metal3ClusterTemplate>(row, template(json!({"controlPlaneEndpoint": endpoint})), expected);
    }
}

/// The image cases hold for a machine and for a template of machines.
#[track_caller]
fn image(row: &str, image: Value, expected: &[&str]) {
    let at = |prefix: &str| -> Vec<String> { expected.iter().map(|path| format!("{prefix}.{path}")).collect() };
    let machine: Metal3Machine = of(json!({"image": image}));
    assert_eq!(paths(&validate_create(&machine)), at("spec"), "{row}");
    let machine: Metal3MachineTemplate = of(template(json!({"image": image})));
    assert_eq!(paths(&validate_create(&machine)), at("spec.template.spec"), "{row}");
}

#[test]
fn ac_30_to_ac_37_and_aw_20_to_aw_27_images() {
    image("AW-24", json!(null), &["image"]);
    image("AC-30", json!({}), &["image"]);
    image("AW-20", json!({"checksum": "abc"}), &["image.url"]);
    image("AC-32", json!({"url": "http://x/i"}), &["image.checksum"]);
    image("AW-20", json!({"url": "http://x/i", "checksum": ""}), &["image.checksum"]);
    image("AW-21", json!({"url": "http://x/i", "checksum": "http://x/i.sum"}), &[]);
    image("AC-31", json!({"url": "http://x/i", "checksum": "d41d8c"}), &[]);
    image("AC-33", json!({"url": "test url", "checksum": "abc"}), &["image.url"]);
    image("AC-34", json!({"url": "http://x/i", "checksum": "http://:invalid"}), &["image.checksum"]);
    image("AC-34", json!({"url": "http://x/i", "checksum": "https://:invalid"}), &["image.checksum"]);
    image("AC-35", json!({"url": "http://x/i", "diskFormat": "live-iso"}), &[]);
    image("AW-22", json!({"url": "http://x/i", "diskFormat": "live-iso", "checksum": ""}), &[]);
    image("AC-36", json!({"url": "oci://r/i"}), &[]);
    image("AC-36", json!({"url": "OCI://r/i", "checksum": ""}), &[]);
    image(
        "AC-37",
        json!({"url": "oci://r/i", "checksum": "a", "checksumType": "md5"}),
        &["image.checksum", "image.checksumType"],
    );
    create::<Metal3Machine>("AW-23", json!({"customDeploy": {"method": "install"}}), &[]);
    create::<Metal3MachineTemplate>("AW-27", template(json!({"customDeploy": {"method": "install"}})), &[]);
}

#[test]
fn aw_25_and_aw_26_secrets_of_other_namespaces() {
    for field in ["userData", "metaData", "networkData", "dataTemplate"] {
        let spec =
            |namespace: &str| json!({"customDeploy": {"method": "m"}, field: {"name": "s", "namespace": namespace}});
        create::<Metal3Machine>("AW-25", spec("other"), &[&format!("spec.{field}.namespace")]);
        create::<Metal3Machine>("AW-26", spec("foo"), &[]);
        create::<Metal3Machine>("AW-26", spec(""), &[]);
        create::<Metal3MachineTemplate>(
            "WH-3",
            template(spec("other")),
            &[&format!("spec.template.spec.{field}.namespace")],
        );
    }
}

/// AW-71, WH-2: an object that is wrong can still be let go, and labelled.
#[test]
fn aw_71_a_wrong_machine_loses_its_finalizer() {
    update::<Metal3Machine>("AW-71", json!({"image": {"url": "x"}}), json!({"image": {"url": "x"}}), &[]);
    update::<Metal3Machine>(
        "AW-71",
        json!({"image": {"url": "x"}}),
        json!({"image": {"url": "y"}}),
        &["spec.image.url", "spec.image.checksum"],
    );
    let claim: Metal3DataClaim = serde_json::from_value(json!({
        "metadata": {"name": "n", "namespace": "foo", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"template": {"name": "t", "namespace": "other"}},
    }))
    .unwrap();
    assert_eq!(validate_update(&claim, &claim, false), Verdict::default());
}

#[test]
fn aw_30_to_aw_32_td_120_to_td_122_names_of_data() {
    let spec = |index: i32| json!({"index": index, "template": {"name": "abc"}, "claim": {"name": "c"}});
    for (row, name, index, expected) in [
        ("AW-30", "abc-1", 1, vec![]),
        ("AW-31", "abcd-1", 1, vec!["name"]),
        ("AW-31", "abc-0", 1, vec!["name"]),
        ("AW-32", "abc--1", -1, vec!["spec.index"]),
    ] {
        let data: Metal3Data = named(name, spec(index));
        assert_eq!(paths(&validate_create(&data)), expected, "{row} {name}");
    }
    create::<Metal3Data>("HD-6", json!({"template": {"name": "abc"}}), &["spec.index"]); // HD-6
    create::<Metal3Data>("HD-6", json!({"index": 5}), &[]);
}

#[test]
fn aw_33_td_123_data_is_immutable_save_for_its_secrets() {
    let spec =
        |index: i32, template: Value, claim: Value| json!({"index": index, "template": template, "claim": claim});
    let (t, c) = (json!({"name": "t", "namespace": "foo"}), json!({"name": "c", "namespace": "foo"}));
    let old = spec(2, t.clone(), c.clone());
    update::<Metal3Data>("AW-33", old.clone(), old.clone(), &[]);
    update::<Metal3Data>("AW-33", old.clone(), spec(1, t.clone(), c.clone()), &["spec.index"]);
    for other in [json!({"name": "x", "namespace": "foo"}), json!({"name": "t", "namespace": "x"}), Value::Null] {
        update::<Metal3Data>("AW-33", old.clone(), spec(2, other, c.clone()), &["spec.template"]);
    }
    for other in [json!({"name": "x", "namespace": "foo"}), json!({"name": "c", "namespace": "x"})] {
        update::<Metal3Data>("AW-33", old.clone(), spec(2, t.clone(), other), &["spec.claim"]);
    }
    // HD-14: filling in the own namespace changes nothing.
    update::<Metal3Data>("HD-14", spec(0, json!({"name": "t"}), c.clone()), json!({"template": t, "claim": c}), &[]);
    let mut with_secret = old.clone();
    with_secret["metaData"] = json!({"name": "s"});
    update::<Metal3Data>("AW-33", old.clone(), with_secret.clone(), &[]);
    with_secret["metaData"] = json!({"name": "s", "namespace": "other"});
    update::<Metal3Data>("HD-15", old, with_secret, &["spec.metaData.namespace"]);
}

#[test]
fn hd_15_data_stays_in_its_namespace() {
    let data: Metal3Data = named("t-1", json!({"index": 1, "template": {"name": "t", "namespace": "other"}}));
    assert_eq!(paths(&validate_create(&data)), ["spec.template.namespace"]);
}

#[test]
fn aw_40_to_aw_43_td_116_to_td_119_data_claims() {
    let spec = |name: &str, namespace: &str| json!({"template": {"name": name, "namespace": namespace}});
    create::<Metal3DataClaim>("AW-40", spec("abc", "foo"), &[]);
    create::<Metal3DataClaim>("AW-40", spec("abc", ""), &[]);
    create::<Metal3DataClaim>("AW-41", spec("abc", "other"), &["spec.template.namespace"]);
    create::<Metal3DataClaim>("AW-41", spec("", "foo"), &["spec.template.name"]);
    create::<Metal3DataClaim>("AW-70", json!({}), &["spec.template.name"]); // AW-70, TD-118
    update::<Metal3DataClaim>("AW-42", spec("abc", "foo"), spec("abc", "foo"), &[]);
    update::<Metal3DataClaim>("HD-14", spec("abc", ""), spec("abc", "foo"), &[]); // HD-14
    update::<Metal3DataClaim>("AW-43", spec("abc", "foo"), spec("abd", "foo"), &["spec.template"]);
    update::<Metal3DataClaim>("AW-43", spec("abc", "foo"), spec("", "foo"), &["spec.template"]);
    update::<Metal3DataClaim>("WH-6", spec("abc", "foo"), json!({}), &["spec.template"]); // WH-6
    update::<Metal3DataClaim>(
        "AW-43",
        spec("abc", "foo"),
        spec("abc", "bar"),
        &["spec.template", "spec.template.namespace"],
    );
    update::<Metal3DataClaim>("AW-43", spec("abc", "other"), spec("abc", "other"), &["spec.template.namespace"]);
}

fn networks(family: &str, network: Value) -> Value {
    json!({"networkData": {"networks": {family: [network]}}})
}

#[test]
fn aw_50_to_aw_53_td_106_to_td_112_new_data_templates() {
    create::<Metal3DataTemplate>("AW-50", json!({}), &[]);
    for family in ["ipv4", "ipv6"] {
        let annotation = json!({"id": "n", "fromPoolAnnotation": {"object": "machine", "annotation": "a"}});
        create::<Metal3DataTemplate>("AW-50", networks(family, annotation), &[]);
        let path = format!("spec.networkData.networks.{family}.0.fromPoolRef.name");
        create::<Metal3DataTemplate>("AW-51", networks(family, json!({"id": "n"})), &[&path]);
        create::<Metal3DataTemplate>("W-39", networks(family, json!({"id": "n", "ipAddressFromIPPool": "p"})), &[]);
        create::<Metal3DataTemplate>("W-39", networks(family, json!({"id": "n", "fromPoolRef": {"name": "p"}})), &[]);
    }
    let interface = |item: Value| json!({"metaData": {"fromHostInterfaces": [item]}});
    let path = "spec.metaData.fromHostInterfaces.0.interface";
    create::<Metal3DataTemplate>("AW-52", interface(json!({"fromBootMAC": true})), &[]);
    create::<Metal3DataTemplate>("AW-52", interface(json!({"fromBootMAC": false, "interface": "eth0"})), &[]);
    create::<Metal3DataTemplate>("AW-52", interface(json!({"interface": "eth0"})), &[]);
    create::<Metal3DataTemplate>("AW-53", interface(json!({"fromBootMAC": false})), &[path]);
    create::<Metal3DataTemplate>("AW-53", interface(json!({})), &[path]);
    create::<Metal3DataTemplate>("AW-53", interface(json!({"fromBootMAC": true, "interface": "eth0"})), &[path]);
}

#[test]
fn hd_2_a_mac_address_has_one_source_or_is_left_out() {
    for (mac, expected) in [
        (Value::Null, &[][..]),
        (json!({"string": "00:00:00:00:00:01"}), &[]),
        (json!({}), &["spec.networkData.links.ethernets.0.macAddress"]),
        (
            json!({"string": "00:00:00:00:00:01", "fromHostInterface": "eth0"}),
            &["spec.networkData.links.ethernets.0.macAddress"],
        ),
    ] {
        create::<Metal3DataTemplate>(
            "HD-2",
            json!({"networkData": {"links": {"ethernets": [{"id": "e", "macAddress": mac}]}}}),
            expected,
        );
    }
}

#[test]
fn aw_54_aw_55_td_113_td_114_data_templates_are_immutable() {
    let strings = json!({"metaData": {"strings": [{"key": "k", "value": "v"}]}});
    update::<Metal3DataTemplate>("AW-54", strings.clone(), strings.clone(), &[]);
    update::<Metal3DataTemplate>(
        "AW-55",
        strings.clone(),
        json!({"metaData": {"strings": [{"key": "k", "value": "w"}]}}),
        &["spec.metaData"],
    );
    update::<Metal3DataTemplate>(
        "AW-55",
        strings.clone(),
        json!({"metaData": {"namespaces": [{"key": "k"}]}}),
        &["spec.metaData"],
    );
    let services = |dns: &str| json!({"networkData": {"services": {"dns": [dns]}}});
    update::<Metal3DataTemplate>("AW-55", services("8.8.8.8"), services("8.8.4.4"), &["spec.networkData"]);
    update::<Metal3DataTemplate>(
        "AW-55",
        services("8.8.8.8"),
        networks("ipv4", json!({"id": "n"})),
        &["spec.networkData"],
    );
    let mut renamed = strings.clone();
    renamed["clusterName"] = "c".into();
    update::<Metal3DataTemplate>("D-18", strings, renamed, &[]);
}

/// The same rules by their rows in data-rendering.
#[test]
fn td_106_to_td_123_admission_of_the_data_kinds() {
    let network = |network: Value| networks("ipv4", network);
    let interface = |item: Value| json!({"metaData": {"fromHostInterfaces": [item]}});
    let strings = |value: &str| json!({"metaData": {"strings": [{"key": "k", "value": value}]}});
    let claim = |name: &str, namespace: &str| json!({"template": {"name": name, "namespace": namespace}});
    let refused = |verdict: Verdict| !verdict.errors.is_empty();
    let template = |spec: Value| refused(validate_create(&of::<Metal3DataTemplate>(spec)));
    let new_claim = |spec: Value| refused(validate_create(&of::<Metal3DataClaim>(spec)));
    let changed = |old: Value, new: Value| refused(validate_update(&of::<Metal3DataClaim>(old), &of(new), false));
    let data = |name: &str, index: i32| {
        refused(validate_create(&named::<Metal3Data>(name, json!({"index": index, "template": {"name": "abc"}}))))
    };
    let changed_template =
        |new: Value| refused(validate_update(&of::<Metal3DataTemplate>(strings("v")), &of(new), false));
    for (row, refused, expected) in [
        ("TD-106", template(json!({})), false),
        ("TD-107", template(network(json!({"fromPoolAnnotation": {"object": "machine", "annotation": "a"}}))), false),
        ("TD-108", template(network(json!({"id": "n"}))), true),
        ("TD-109", template(interface(json!({"fromBootMAC": true}))), false),
        ("TD-110", template(interface(json!({"fromBootMAC": false, "interface": "eth0"}))), false),
        ("TD-110", template(interface(json!({"interface": "eth0"}))), false),
        ("TD-111", template(interface(json!({"fromBootMAC": false}))), true),
        ("TD-111", template(interface(json!({}))), true),
        ("TD-112", template(interface(json!({"fromBootMAC": true, "interface": "eth0"}))), true),
        ("TD-113", changed_template(strings("w")), true),
        ("TD-113", changed_template(json!({"metaData": {"namespaces": [{"key": "k"}]}})), true),
        ("TD-114", changed_template(with(strings("v"), json!({"clusterName": "c"}))), false),
        ("TD-116", new_claim(claim("", "foo")), true),
        ("TD-117", new_claim(claim("abc", "foo")), false),
        ("TD-117", new_claim(claim("abc", "")), false),
        ("TD-117", new_claim(claim("abc", "other")), true),
        ("TD-118", new_claim(json!({})), true),
        ("TD-119", changed(claim("abc", "foo"), claim("abc", "foo")), false),
        ("TD-119", changed(claim("abc", "foo"), claim("abd", "foo")), true),
        ("TD-119", changed(claim("abc", "foo"), claim("abc", "bar")), true),
        ("TD-119", changed(claim("abc", "foo"), json!({})), true),
        ("TD-119", changed(claim("abc", "other"), claim("abc", "other")), true),
        ("TD-120", data("abc-1", 1), false),
        ("TD-121", data("abcd-1", 1), true),
        ("TD-121", data("abc-0", 1), true),
        ("TD-122", data("abc--1", -1), true),
    ] {
        assert_eq!(refused, expected, "{row}");
    }
}

#[test]
fn td_115_the_warning_about_the_cluster_name() {
    for (spec, expected) in [(json!({"clusterName": "foo"}), 1), (json!({}), 0)] {
        assert_eq!(validate_create(&of::<Metal3DataTemplate>(spec)).warnings.len(), expected);
    }
}

#[test]
fn td_123_what_of_data_may_not_change() {
    let old = json!({"index": 2, "template": {"name": "t"}, "claim": {"name": "c"}});
    update::<Metal3Data>("TD-123", old.clone(), old.clone(), &[]);
    for (part, value) in [
        ("index", json!(1)),
        ("template", json!({"name": "x"})),
        ("template", json!({"name": "t", "namespace": "x"})),
        ("claim", json!({"name": "x"})),
        ("claim", json!({"name": "c", "namespace": "x"})),
    ] {
        update::<Metal3Data>(
            "TD-123",
            old.clone(),
            with(old.clone(), json!({part: value})),
            &[&format!("spec.{part}")],
        );
    }
}

#[test]
fn w_42_defaults_and_empty_lists_are_no_change() {
    let terse = json!({
        "metaData": {
            "indexes": [{"key": "i"}],
            "ipAddressesFromPool": [{"key": "a", "name": "p"}],
            "fromHostInterfaces": [{"key": "m", "interface": "eth0"}],
        },
        "networkData": {
            "links": {"ethernets": [{"id": "e", "type": "phy"}], "bonds": [{"id": "b", "parameters": [{"name": "z"}, {"name": "a", "value": 1}]}]},
            "networks": {"ipv4": [{"id": "n", "link": "e", "fromPoolRef": {"name": "p"}, "routes": [{"network": "0.0.0.0", "gateway": {}}]}]},
        },
    });
    let full = json!({
        "metaData": {
            "strings": [],
            "indexes": [{"key": "i", "step": 1, "offset": 0}],
            "ipAddressesFromPool": [{"key": "a", "name": "p", "apiGroup": "ipam.metal3.io", "kind": "IPPool"}],
            "fromHostInterfaces": [{"key": "m", "interface": "eth0", "fromBootMAC": false}],
        },
        "networkData": {
            "links": {"ethernets": [{"id": "e", "type": "phy", "mtu": 1500}], "bonds": [{"id": "b", "mtu": 1500, "parameters": [{"name": "a", "value": 1}, {"name": "z", "value": null}]}], "vlans": []},
            "networks": {"ipv4": [{"id": "n", "link": "e", "fromPoolRef": {"name": "p", "kind": "IPPool", "apiGroup": "ipam.metal3.io"}, "routes": [{"network": "0.0.0.0", "prefix": 0, "gateway": {}, "services": {}}]}]},
            "services": {},
        },
    });
    update::<Metal3DataTemplate>("W-42", terse.clone(), full.clone(), &[]);
    update::<Metal3DataTemplate>("W-42", full, terse, &[]);
    update::<Metal3DataTemplate>("W-42", json!({}), json!({"metaData": {}, "networkData": {"links": {}}}), &[]);
}

#[test]
fn aw_56_td_115_the_dead_cluster_name_is_warned_about() {
    let warnings = |spec: Value| validate_create(&of::<Metal3DataTemplate>(spec)).warnings;
    assert!(warnings(json!({"clusterName": "foo"}))[0].contains("spec.clusterName is deprecated"));
    assert_eq!(warnings(json!({"clusterName": "foo"})).len(), 1);
    assert!(warnings(json!({})).is_empty());
    let doubled = json!({"metaData": {"strings": [{"key": "k", "value": "v"}], "namespaces": [{"key": "k"}]}});
    assert_eq!(warnings(doubled).len(), 1, "HD-31");
    let with_mac = |mac: &str| json!({"networkData": {"links": {"ethernets": [{"id": "e", "type": "phy", "macAddress": {"string": mac}}]}}});
    assert!(warnings(with_mac("de-ad-be-ef-00-01"))[0].contains("ethernets.0.macAddress.string: cloud-init finds no"));
    assert!(warnings(with_mac("de:ad:be:ef:00:01")).is_empty());
}

#[test]
fn aw_60_to_aw_62_remediation() {
    for strategy in
        [Value::Null, json!({}), json!({"retryLimit": -1, "timeoutSeconds": 0}), json!({"type": "", "retryLimit": 0})]
    {
        let mut remediation: Metal3RemediationTemplate = of(template(json!({"strategy": strategy})));
        Admission::default(&mut remediation);
        let strategy = remediation.spec.template.spec.strategy.clone().unwrap();
        let expected = (Some("Reboot"), Some(1), Some(600));
        assert_eq!((strategy.type_.as_deref(), strategy.retry_limit, strategy.timeout_seconds), expected);
        assert_eq!(validate_create(&remediation), Verdict::default());
    }
    let check = |row: &str, strategy: Value, field: Option<&str>| {
        let expected =
            |prefix: &str| field.map(|field| format!("{prefix}.strategy.{field}")).into_iter().collect::<Vec<_>>();
        let one: Metal3Remediation = of(json!({"strategy": strategy}));
        assert_eq!(paths(&validate_create(&one)), expected("spec"), "{row}");
        let before: Metal3Remediation = of(json!({}));
        assert_eq!(paths(&validate_update(&before, &one, false)), expected("spec"), "{row}");
        let one: Metal3RemediationTemplate = of(template(json!({"strategy": strategy})));
        assert_eq!(paths(&validate_create(&one)), expected("spec.template.spec"), "{row}");
    };
    for timeout in [Value::Null, json!(0), json!(180)] {
        check("AW-61", json!({"type": "Reboot", "retryLimit": 1, "timeoutSeconds": timeout}), None);
    }
    check("AW-61", json!({"type": "Reboot", "retryLimit": 3}), None);
    check("AW-62", json!({"type": "Reboot", "timeoutSeconds": 30}), Some("timeoutSeconds"));
    check("AW-62", json!({"type": "Reboot", "timeoutSeconds": -60}), Some("timeoutSeconds"));
    check("AW-62", json!({"type": "foo"}), Some("type"));
    check("AW-62", json!({"type": "Reboot", "retryLimit": 0}), Some("retryLimit"));
    create::<Metal3Remediation>("W-35", json!({}), &[]); // W-35
}

fn pool(pools: Value) -> Value {
    json!({"namePrefix": "p", "pools": pools})
}

fn pool_with(pools: Value, more: Value) -> Value {
    with(pool(pools), more)
}

#[test]
fn ti_103_a_pool_is_sequential_unless_it_says_otherwise() {
    for (given, expected) in [(Value::Null, "sequential"), (json!(""), "sequential"), (json!("random"), "random")] {
        let mut one: IPPool = of(pool_with(json!([]), json!({"allocationStrategy": given})));
        Admission::default(&mut one);
        assert_eq!(one.spec.allocation_strategy.as_deref(), Some(expected));
    }
}

#[test]
fn ti_104_to_ti_107_ranges() {
    create::<IPPool>("TI-104", json!({}), &[]);
    create::<IPPool>("TI-104", pool(json!([{"start": "192.168.0.10", "end": "192.168.0.20"}])), &[]);
    create::<IPPool>(
        "TI-104",
        pool(json!([{"start": "192.168.0.10", "end": "192.168.0.10"}, {"start": "192.168.0.30"}])),
        &[],
    );
    create::<IPPool>("HI-15", pool(json!([{"end": "192.168.0.10"}])), &["spec.pools[0]"]); // HI-15
    create::<IPPool>("TI-104", pool(json!([{}])), &["spec.pools[0]"]);
    create::<IPPool>("TI-105", pool(json!([{"start": "192.168.0.149", "end": "192.168.0.140"}])), &["spec.pools[0]"]);
    let second = json!([{"start": "10.0.0.1"}, {"start": "192.168.0.149", "end": "192.168.0.140"}]);
    create::<IPPool>("TI-105", pool(second), &["spec.pools[1]"]);
    for bad in ["not-an-ip", "256.256.256.256"] {
        create::<IPPool>("TI-106", pool(json!([{"start": bad}])), &["spec.pools[0]"]);
        create::<IPPool>("TI-106", pool(json!([{"start": "10.0.0.1", "end": bad}])), &["spec.pools[0]"]);
        create::<IPPool>("TI-107", pool_with(json!([]), json!({"gateway": bad})), &["spec.gateway"]);
        create::<IPPool>(
            "TI-107",
            pool_with(json!([]), json!({"dnsServers": ["8.8.8.8", bad]})),
            &["spec.dnsServers[1]"],
        );
        let spec = pool_with(json!([{"start": "10.0.0.1"}]), json!({"preAllocations": {"c": bad}}));
        create::<IPPool>("TI-107", spec, &["spec.preAllocations.c", "spec.preAllocations"]);
        create::<IPPool>("TI-107", pool(json!([{"start": "10.0.0.1", "gateway": bad}])), &["spec.pools[0].gateway"]);
        create::<IPPool>(
            "TI-107",
            pool(json!([{"start": "10.0.0.1", "dnsServers": [bad]}])),
            &["spec.pools[0].dnsServers[0]"],
        );
        create::<IPPool>("TI-107", pool(json!([{"gateway": bad}])), &["spec.pools[0]"]);
    }
    create::<IPPool>("TI-106", pool(json!([{"subnet": "not-a-cidr"}])), &["spec.pools[0]"]);
}

#[test]
fn ti_108_to_ti_111_pre_allocations() {
    let check = |row: &str, subnet: &str, allocations: Value, expected: &[&str]| {
        create::<IPPool>(row, pool_with(json!([{"subnet": subnet}]), json!({"preAllocations": allocations})), expected);
    };
    check("TI-108", "192.168.0.0/24", json!({"a": "192.168.0.10", "b": "192.168.0.11", "c": "192.168.0.12"}), &[]);
    check("TI-109", "192.168.0.0/24", json!({"a": "10.0.0.5"}), &["spec.preAllocations"]);
    check("TI-110", "192.168.0.0/24", json!({"a": "192.168.0.10", "b": "192.168.0.10"}), &["spec.preAllocations.b"]);
    check(
        "TI-110",
        "2001:db8::/32",
        json!({"a": "2001:db8::1", "b": "2001:0db8:0:0:0:0:0:1"}),
        &["spec.preAllocations.b"],
    );
    check("TI-111", "2001:db8::/32", json!({"a": "2001:db8::1", "b": "2001:db8::2"}), &[]);
}

#[test]
fn ti_112_to_ti_114_random_needs_a_size() {
    let random = |pools: Value| pool_with(pools, json!({"allocationStrategy": "random"}));
    create::<IPPool>("TI-112", random(json!([{"start": "10.0.0.1", "end": "10.0.0.9"}])), &[]);
    create::<IPPool>("TI-112", random(json!([{"subnet": "10.0.0.0/24"}])), &[]);
    create::<IPPool>("TI-112", random(json!([{"start": "10.0.0.1", "subnet": "10.0.0.0/24"}])), &[]);
    create::<IPPool>("TI-113", random(json!([{"start": "10.0.0.1"}])), &["spec.pools[0]"]);
    create::<IPPool>("TI-113", random(json!([{"subnet": "10.0.0.0/24"}, {"start": "10.0.0.1"}])), &["spec.pools[1]"]);
    create::<IPPool>("TI-113", random(json!([{"subnet": "2001:db8::/32"}])), &["spec.pools[0]"]);
    create::<IPPool>("TI-114", pool(json!([{"start": "10.0.0.1"}])), &[]);
}

fn in_use(spec: Value, indexes: Value) -> IPPool {
    serde_json::from_value(
        json!({"metadata": {"name": "n", "namespace": "foo"}, "spec": spec, "status": {"indexes": indexes}}),
    )
    .unwrap()
}

#[test]
fn ti_115_to_ti_121_updates_of_pools() {
    update::<IPPool>("TI-115", json!({"namePrefix": "abcd"}), json!({"namePrefix": "abcde"}), &["spec.namePrefix"]);
    let strategy = |word: &str| pool_with(json!([]), json!({"allocationStrategy": word}));
    update::<IPPool>("TI-116", strategy("sequential"), strategy("random"), &["spec.allocationStrategy"]);
    update::<IPPool>("TI-116", strategy(""), strategy("sequential"), &[]);
    update::<IPPool>("TI-116", strategy("random"), strategy("random"), &[]);

    let range = json!([{"start": "192.168.0.1", "end": "192.168.0.10"}]);
    let check = |row: &str, pools: Value, pre: &str, used: &str, expected: &[&str]| {
        let old = in_use(pool(json!([{"start": "192.168.0.1", "end": "192.168.0.255"}])), json!({"a": used}));
        let new: IPPool = of(pool_with(pools, json!({"preAllocations": {"p": pre}})));
        assert_eq!(paths(&validate_update(&old, &new, false)), expected, "{row}");
    };
    check("TI-117", range.clone(), "192.168.0.2", "192.168.0.3", &[]);
    check("TI-118", range.clone(), "192.168.0.20", "192.168.0.3", &["spec.preAllocations"]);
    let subnet = json!([{"subnet": "192.168.0.1/25"}]);
    check("TI-118", subnet.clone(), "192.168.0.250", "192.168.0.3", &["spec.preAllocations"]);
    check("TI-119", subnet, "192.168.0.2", "192.168.0.3", &[]);
    check("TI-120", range.clone(), "192.168.0.2", "192.168.0.30", &["spec.pools"]);
    let equal = json!({"preAllocations": {"a": "192.168.0.2", "b": "192.168.0.2"}});
    update::<IPPool>("TI-121", pool(range.clone()), pool_with(range, equal), &["spec.preAllocations.b"]);
}

#[test]
fn ti_138_ti_141_ti_142_what_is_refused_beyond_the_published_api() {
    for prefix in ["Bad_Prefix", "-a", &"a".repeat(201)] {
        create::<IPPool>("TI-138", json!({"namePrefix": prefix}), &["spec.namePrefix"]);
    }
    create::<IPPool>("TI-141", pool(json!([{"start": "10.0.0.1", "subnet": "192.168.0.0/24"}])), &["spec.pools[0]"]);
    create::<IPPool>("TI-141", pool(json!([{"start": "10.0.0.1", "end": "fd00::1"}])), &["spec.pools[0]"]);
    create::<IPPool>("TI-142", pool_with(json!([]), json!({"prefix": -1})), &["spec.prefix"]);
    create::<IPPool>("TI-142", pool_with(json!([{"start": "10.0.0.1"}]), json!({"prefix": 64})), &["spec.prefix"]);
    create::<IPPool>("TI-142", pool(json!([{"start": "10.0.0.1", "prefix": 64}])), &["spec.pools[0].prefix"]);
    create::<IPPool>("HI-18", pool_with(json!([{"start": "fd00::1"}]), json!({"prefix": 64})), &[]);
    // Not on an update that leaves the range alone.
    let stored = json!([{"end": "10.0.0.9"}]);
    update::<IPPool>("HI-15", pool(stored.clone()), pool_with(stored, json!({"gateway": "10.1.0.1"})), &[]);
}

/// What is set aside is held to the addresses that are given out, where it or the ranges are new.
#[test]
fn hi_16_a_pre_allocation_lies_where_the_allocator_looks() {
    for (range, address, fits) in [
        (json!({"subnet": "192.168.0.5/24"}), "192.168.0.5", false),
        (json!({"subnet": "192.168.0.5/24"}), "192.168.0.6", true),
        (json!({"subnet": "192.168.0.0/24"}), "192.168.0.0", false),
        (json!({"subnet": "192.168.0.0/24"}), "192.168.0.255", true),
        (json!({"subnet": "192.168.0.0/24", "start": "192.168.0.0"}), "192.168.0.0", true),
        (json!({"start": "192.168.0.5"}), "255.255.255.255", true),
        (json!({"start": "192.168.0.5"}), "2001:db8::1", false),
        (json!({"start": "2001:db8::1"}), "2001:db8::1:0:0", true),
    ] {
        let spec = pool_with(json!([range]), json!({"preAllocations": {"a": address}}));
        let expected: &[&str] = if fits { &[] } else { &["spec.preAllocations"] };
        create::<IPPool>("HI-16", spec.clone(), expected);
        let mut labelled = spec.clone();
        labelled["dnsServers"] = json!(["192.0.2.53"]);
        update::<IPPool>("stored, and left alone", spec.clone(), labelled, &[]);
        update::<IPPool>("added", pool(json!([range])), spec, expected);
    }
    let beyond = json!([{"subnet": "192.168.0.0/24", "end": "192.168.0.9"}]);
    let spec = pool_with(beyond, json!({"preAllocations": {"a": "192.168.0.10"}}));
    create::<IPPool>("HI-15", spec, &["spec.preAllocations"]);
}

#[test]
fn hi_14_hi_16_and_hi_11_are_warned_about() {
    let spec = pool_with(json!([{"subnet": "192.168.0.5/24"}]), json!({"gateway": "192.168.0.9"}));
    let warnings = validate_create(&of::<IPPool>(spec)).warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let range = json!([{"start": "10.0.0.1", "end": "10.0.0.9"}]);
    let old = in_use(pool(range.clone()), json!({"m": "10.0.0.3"}));
    let new: IPPool = of(pool_with(range, json!({"preAllocations": {"n": "10.0.0.3"}})));
    assert_eq!(validate_update(&old, &new, false).warnings.len(), 1);
}

#[test]
fn ti_122_to_ti_125_and_ti_131_claims() {
    create::<IPClaim>("TI-122", json!({}), &["spec.pool.name"]);
    create::<IPClaim>("TI-122", json!({"pool": {"name": "p"}}), &[]);
    create::<IPClaim>("TI-122", json!({"pool": {"name": "p", "namespace": "foo"}}), &[]);
    create::<IPClaim>("TI-131", json!({"pool": {"name": "p", "namespace": "y"}}), &["spec.pool.namespace"]);
    for (row, address, expected) in [
        ("TI-123", json!("192.168.1.50"), vec![]),
        ("TI-123", json!("fe80::1"), vec![]),
        ("TI-123", json!(""), vec![]),
        ("TI-124", json!("not-an-ip"), vec!["metadata.annotations.ipAddress"]),
        ("TI-124", json!("999.999.999.999"), vec!["metadata.annotations.ipAddress"]),
    ] {
        let metadata = json!({"name": "n", "namespace": "foo", "annotations": {"ipAddress": address}});
        let claim: IPClaim =
            serde_json::from_value(json!({"metadata": metadata, "spec": {"pool": {"name": "p"}}})).unwrap();
        assert_eq!(paths(&validate_create(&claim)), expected, "{row}");
        assert_eq!(paths(&validate_update(&claim, &claim, false)), expected, "{row}");
    }
    let old = json!({"pool": {"name": "p", "namespace": "foo", "kind": "IPPool"}});
    for (field, value) in [("name", "q"), ("namespace", "bar"), ("kind", "Other"), ("name", "")] {
        let mut new = old.clone();
        new["pool"][field] = value.into();
        update::<IPClaim>("TI-125", old.clone(), new, &["spec.pool"]);
    }
    update::<IPClaim>(
        "TI-125",
        old,
        json!({"pool": {"name": "p", "namespace": "foo", "kind": "IPPool", "uid": "u"}}),
        &[],
    );
}

#[test]
fn ti_126_to_ti_128_addresses() {
    let spec = json!({"address": "10.0.0.1", "pool": {"name": "p"}, "claim": {"name": "c"}});
    create::<IPAddress>("TI-126", spec.clone(), &[]);
    create::<IPAddress>("TI-126", json!({}), &["spec.pool.name", "spec.claim.name", "spec.address"]);
    let mut bad = spec.clone();
    bad["address"] = "x".into();
    create::<IPAddress>("TI-126", bad.clone(), &["spec.address"]);
    update::<IPAddress>("TI-127", spec.clone(), bad, &["spec.address"]);
    for reference in ["pool", "claim"] {
        for part in ["name", "namespace", "kind"] {
            let mut new = spec.clone();
            new[reference][part] = "other".into();
            update::<IPAddress>("TI-127", spec.clone(), new, &[&format!("spec.{reference}")]);
        }
    }
    update::<IPAddress>("TI-128", spec.clone(), with(spec, json!({"gateway": "10.0.0.254"})), &[]);
}
