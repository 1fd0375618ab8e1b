//! What admission says when it refuses: the path, what stands there and what would be accepted, all of it at once; that
//! what is stored can be let go; and that defaults settle.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "objects are written in place; a test may fail"
)]

mod support;

use capm3_api::infra::v1beta2::*;
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_api::validate::{Admission, Verdict, read, validate_create, validate_update};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{Dice, object, schema};

fn of<K: DeserializeOwned>(spec: Value) -> K {
    serde_json::from_value(json!({"metadata": {"name": "n", "namespace": "foo"}, "spec": spec})).unwrap()
}

/// One refusal: of `new`, alone or in place of `old`, with these words in its message.
#[track_caller]
fn refused<K: Admission + DeserializeOwned>(rule: &str, old: Value, new: Value, path: &str, value: &str, wanted: &str) {
    let verdict = match old {
        Value::Null => validate_create(&of::<K>(new)),
        old => validate_update(&of::<K>(old), &of::<K>(new), false),
    };
    let found = verdict.errors.iter().find(|error| error.path == path && error.to_string().contains(wanted));
    let message = found.unwrap_or_else(|| panic!("{rule}: {:?}", verdict.errors)).to_string();
    assert!(message.starts_with(&format!("{path}: ")) && message.contains(value), "{rule}: {message}");
}

const NEW: Value = Value::Null;

#[test]
fn every_refusal_names_the_field_the_value_and_what_would_be_accepted() {
    let template = |spec: Value| json!({"template": {"spec": spec}});
    let endpoint = json!({"controlPlaneEndpoint": {"host": "", "port": 0}});
    refused::<Metal3Cluster>("W-11", NEW, endpoint.clone(), "spec.controlPlaneEndpoint", "", "must have a host");
    let path = "spec.template.spec.controlPlaneEndpoint";
    refused::<Metal3ClusterTemplate>(
        "W-12",
        NEW,
        template(endpoint.clone()),
        &format!("{path}.host"),
        "",
        "must have a host",
    );
    refused::<Metal3ClusterTemplate>("W-12", NEW, template(endpoint), &format!("{path}.port"), "", "1 to 65535");

    let image = |image: Value| json!({"image": image});
    refused::<Metal3Machine>("W-21", NEW, json!({}), "spec.image", "", "customDeploy");
    refused::<Metal3Machine>("W-21", NEW, image(json!({"checksum": "a"})), "spec.image.url", "", "URL");
    refused::<Metal3Machine>(
        "W-21",
        NEW,
        image(json!({"url": "test url"})),
        "spec.image.url",
        "\"test url\"",
        "an absolute URL",
    );
    refused::<Metal3Machine>(
        "W-21",
        NEW,
        image(json!({"url": "http://x/i"})),
        "spec.image.checksum",
        "",
        "a digest or the URL",
    );
    let checksum = image(json!({"url": "http://x/i", "checksum": "http://:no"}));
    refused::<Metal3Machine>("W-21", NEW, checksum, "spec.image.checksum", "\"http://:no\"", "an absolute URL");
    let oci = image(json!({"url": "oci://x", "checksum": "abc", "checksumType": "md5"}));
    refused::<Metal3Machine>("W-21", NEW, oci.clone(), "spec.image.checksum", "\"abc\"", "left out");
    refused::<Metal3Machine>("W-21", NEW, oci.clone(), "spec.image.checksumType", "\"md5\"", "left out");
    refused::<Metal3MachineTemplate>(
        "W-23",
        NEW,
        template(oci),
        "spec.template.spec.image.checksum",
        "\"abc\"",
        "left out",
    );
    for field in ["userData", "metaData", "networkData", "dataTemplate"] {
        let spec = json!({"customDeploy": {"method": "m"}, field: {"name": "s", "namespace": "bar"}});
        let path = format!("spec.{field}.namespace");
        refused::<Metal3Machine>("W-22", NEW, spec.clone(), &path, "\"bar\"", "must be \"foo\"");
        refused::<Metal3MachineTemplate>(
            "WH-3",
            NEW,
            template(spec),
            &format!("spec.template.{path}"),
            "\"bar\"",
            "must be \"foo\"",
        );
    }

    let data =
        |index: i32, template: &str| json!({"index": index, "template": {"name": template}, "claim": {"name": "c"}});
    refused::<Metal3Data>("W-24", NEW, data(1, "abc"), "name", "\"n\"", "must be \"abc-1\"");
    refused::<Metal3Data>("W-25", NEW, data(-1, "abc"), "spec.index", "-1", "0 or more");
    refused::<Metal3Data>("HD-6", NEW, json!({"template": {"name": "t"}}), "spec.index", "", "0 or more");
    refused::<Metal3Data>("W-26", data(2, "t"), data(1, "t"), "spec.index", "1", "must stay 2");
    refused::<Metal3Data>("W-27", data(2, "t"), data(2, "u"), "spec.template", "\"u\"", "must stay {\"name\":\"t\"}");
    refused::<Metal3Data>(
        "W-27",
        data(2, "t"),
        json!({"index": 2, "template": {"name": "t"}}),
        "spec.claim",
        "null",
        "must stay {\"name\":\"c\"}",
    );
    refused::<Metal3Data>(
        "HD-15",
        NEW,
        json!({"claim": {"name": "c", "namespace": "bar"}}),
        "spec.claim.namespace",
        "\"bar\"",
        "must be \"foo\"",
    );

    let claim = |name: &str, namespace: &str| json!({"template": {"name": name, "namespace": namespace}});
    refused::<Metal3DataClaim>("W-28", NEW, json!({}), "spec.template.name", "", "name the Metal3DataTemplate");
    refused::<Metal3DataClaim>("W-29", NEW, claim("t", "bar"), "spec.template.namespace", "\"bar\"", "must be \"foo\"");
    refused::<Metal3DataClaim>(
        "W-30",
        claim("t", ""),
        claim("u", ""),
        "spec.template",
        "\"u\"",
        "must stay {\"name\":\"t\"",
    );

    for (strategy, field, value, wanted) in [
        (json!({"type": "Reboot", "timeoutSeconds": 99}), "timeoutSeconds", "99", "at least 100"),
        (json!({"type": "Restart"}), "type", "\"Restart\"", "must be \"Reboot\""),
        (json!({}), "type", "", "must be \"Reboot\""),
        (json!({"type": "Reboot", "retryLimit": 0}), "retryLimit", "0", "at least 1"),
    ] {
        let (one, path) = (json!({"strategy": strategy}), format!("spec.strategy.{field}"));
        refused::<Metal3Remediation>("W-32 to W-34", NEW, one.clone(), &path, value, wanted);
        let path = format!("spec.template.spec.strategy.{field}");
        refused::<Metal3RemediationTemplate>("W-32 to W-34", NEW, template(one), &path, value, wanted);
    }

    let interface = |item: Value| json!({"metaData": {"fromHostInterfaces": [item]}});
    let path = "spec.metaData.fromHostInterfaces.0.interface";
    refused::<Metal3DataTemplate>("W-37", NEW, interface(json!({})), path, "", "name an interface");
    refused::<Metal3DataTemplate>(
        "W-38",
        NEW,
        interface(json!({"fromBootMAC": true, "interface": "eth0"})),
        path,
        "\"eth0\"",
        "left out",
    );
    let network = json!({"networkData": {"networks": {"ipv6": [{"id": "n"}]}}});
    refused::<Metal3DataTemplate>(
        "W-39",
        NEW,
        network,
        "spec.networkData.networks.ipv6.0.fromPoolRef.name",
        "",
        "fromPoolRef",
    );
    let strings =
        |value: &str| json!({"metaData": {"strings": [{"key": "a", "value": "x"}, {"key": "k", "value": value}]}});
    refused::<Metal3DataTemplate>(
        "W-40",
        strings("v"),
        strings("w"),
        "spec.metaData",
        "\"w\"",
        "must stay \"v\": spec.metaData.strings[1].value",
    );
    let dns = |server: &str| json!({"networkData": {"services": {"dns": [server]}}});
    refused::<Metal3DataTemplate>(
        "W-41",
        dns("8.8.8.8"),
        dns("8.8.4.4"),
        "spec.networkData",
        "\"8.8.4.4\"",
        "must stay \"8.8.8.8\"",
    );
    let links = json!({"networkData": {"links": {"ethernets": [{"id": "e", "macAddress": {"string": "a", "fromHostInterface": "b"}}]}}});
    refused::<Metal3DataTemplate>(
        "HD-2",
        NEW,
        links,
        "spec.networkData.links.ethernets.0.macAddress",
        "\"string\":\"a\"",
        "must have one of",
    );
    let deep = (0..70).fold(json!(1), |below, _| json!([below]));
    let bonds =
        json!({"networkData": {"links": {"bonds": [{"id": "b", "parameters": [{"name": "p", "value": deep}]}]}}});
    refused::<Metal3DataTemplate>(
        "C-6",
        NEW,
        bonds,
        "spec.networkData.links.bonds.0.parameters.0.value",
        "[[[",
        "deeper than 64",
    );
}

#[test]
fn every_refusal_of_the_address_kinds_does_too() {
    let pool = |pools: Value, more: Value| {
        let mut spec = json!({"namePrefix": "p", "pools": pools});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let (range, none) = (json!([{"start": "10.0.0.1", "end": "10.0.0.9"}]), json!({}));
    let new = |rule: &str, spec: Value, path: &str, value: &str, wanted: &str| {
        refused::<IPPool>(rule, NEW, spec, path, value, wanted)
    };
    new("HI-13", json!({"namePrefix": "Bad_"}), "spec.namePrefix", "\"Bad_\"", "lower case letters");
    new("I-12.1", pool(range.clone(), json!({"gateway": "x"})), "spec.gateway", "\"x\"", "an IPv4 or IPv6 address");
    new(
        "I-12.2",
        pool(range.clone(), json!({"dnsServers": ["8.8.8.8", "y"]})),
        "spec.dnsServers[1]",
        "\"y\"",
        "an IPv4 or IPv6 address",
    );
    new(
        "I-12.3",
        pool(range.clone(), json!({"preAllocations": {"c": "z"}})),
        "spec.preAllocations.c",
        "\"z\"",
        "an IPv4 or IPv6 address",
    );
    let twice = json!({"preAllocations": {"a": "10.0.0.2", "b": "10.0.0.2"}});
    new(
        "I-12.3",
        pool(range.clone(), twice),
        "spec.preAllocations.b",
        "\"10.0.0.2\"",
        "another address: \"a\" has this one",
    );
    new("I-12.4", pool(json!([{}]), none.clone()), "spec.pools[0]", "", "a start, an end or a subnet");
    new("I-12.5", pool(json!([{"start": "q"}]), none.clone()), "spec.pools[0]", "\"q\"", "start must be an IPv4");
    new("I-12.5", pool(json!([{"subnet": "q"}]), none.clone()), "spec.pools[0]", "\"q\"", "192.0.2.0/24");
    new(
        "I-12.5",
        pool(json!([{"start": "10.0.0.9", "end": "10.0.0.1"}]), none.clone()),
        "spec.pools[0]",
        "\"10.0.0.9\"",
        "must not come after",
    );
    new(
        "I-12.6",
        pool(json!([{"start": "10.0.0.1", "gateway": "g"}]), none.clone()),
        "spec.pools[0].gateway",
        "\"g\"",
        "address",
    );
    new(
        "I-12.6",
        pool(json!([{"start": "10.0.0.1", "dnsServers": ["d"]}]), none.clone()),
        "spec.pools[0].dnsServers[0]",
        "\"d\"",
        "address",
    );
    let random = json!({"allocationStrategy": "random"});
    new("I-12.7", pool(json!([{"start": "10.0.0.1"}]), random.clone()), "spec.pools[0]", "\"10.0.0.1\"", "two ends");
    new(
        "I-12.8",
        pool(range.clone(), json!({"preAllocations": {"c": "192.0.2.1"}})),
        "spec.preAllocations",
        "\"192.0.2.1\"",
        "in one of spec.pools",
    );
    new(
        "HI-15",
        pool(json!([{"end": "10.0.0.9"}]), none.clone()),
        "spec.pools[0]",
        "\"10.0.0.9\"",
        "a start or a subnet",
    );
    new(
        "HI-17",
        pool(json!([{"start": "10.0.0.1", "end": "fd00::1"}]), none.clone()),
        "spec.pools[0]",
        "\"fd00::1\"",
        "one family",
    );
    let outside = json!([{"start": "10.0.0.1", "subnet": "192.168.0.0/24"}]);
    new("HI-17", pool(outside, none.clone()), "spec.pools[0]", "\"10.0.0.1\"", "must lie in subnet 192.168.0.0/24");
    let families = json!([{"subnet": "192.168.0.0/24", "end": "fd00::1"}]);
    new("HI-17", pool(families, none.clone()), "spec.pools[0]", "\"fd00::1\"", "one family");
    new("HI-18", pool(range.clone(), json!({"prefix": 64})), "spec.prefix", "64", "to 32");
    new(
        "HI-18",
        pool(json!([{"start": "10.0.0.1", "prefix": 33}]), none.clone()),
        "spec.pools[0].prefix",
        "33",
        "to 32",
    );
    let old = pool(range.clone(), none.clone());
    refused::<IPPool>(
        "I-13",
        old.clone(),
        json!({"namePrefix": "q", "pools": range}),
        "spec.namePrefix",
        "\"q\"",
        "must stay \"p\"",
    );
    refused::<IPPool>(
        "I-13",
        old,
        pool(range.clone(), random),
        "spec.allocationStrategy",
        "\"random\"",
        "must stay \"sequential\"",
    );

    let claim = |pool: Value| json!({"pool": pool});
    refused::<IPClaim>("I-15", NEW, json!({}), "spec.pool.name", "", "name the IPPool");
    refused::<IPClaim>(
        "HI-4",
        NEW,
        claim(json!({"name": "p", "namespace": "bar"})),
        "spec.pool.namespace",
        "\"bar\"",
        "must be \"foo\"",
    );
    refused::<IPClaim>(
        "I-15",
        claim(json!({"name": "p"})),
        claim(json!({"name": "q"})),
        "spec.pool",
        "\"q\"",
        "must stay {\"name\":\"p\"}",
    );
    let address = |text: &str, pool: &str| json!({"address": text, "pool": {"name": pool}, "claim": {"name": "c"}});
    refused::<IPAddress>("I-16", NEW, address("x", "p"), "spec.address", "\"x\"", "an IPv4 or IPv6 address");
    refused::<IPAddress>("I-16", NEW, address("", "p"), "spec.address", "", "an IPv4 or IPv6 address");
    refused::<IPAddress>("I-16", NEW, address("10.0.0.1", ""), "spec.pool.name", "", "name the pool");
    refused::<IPAddress>("I-16", NEW, json!({"address": "10.0.0.1"}), "spec.claim.name", "", "name the claim");
    refused::<IPAddress>(
        "I-16",
        address("10.0.0.1", "p"),
        address("10.0.0.2", "p"),
        "spec.address",
        "\"10.0.0.2\"",
        "must stay \"10.0.0.1\"",
    );
    refused::<IPAddress>(
        "I-16",
        address("10.0.0.1", "p"),
        address("10.0.0.1", "q"),
        "spec.pool",
        "\"q\"",
        "must stay {\"name\":\"p\"}",
    );

    let used: IPPool = serde_json::from_value(json!({
        "metadata": {"name": "n"}, "spec": pool(range, none.clone()), "status": {"indexes": {"c": "10.0.0.5"}},
    }))
    .unwrap();
    let shrunk: IPPool = of(pool(json!([{"start": "10.0.0.1", "end": "10.0.0.4"}]), none));
    let verdict = validate_update(&used, &shrunk, false);
    let message = verdict.errors[0].to_string();
    assert!(
        message.starts_with("spec.pools: ") && message.contains("10.0.0.4") && message.contains("keep 10.0.0.5"),
        "{message}"
    );
    let asks =
        json!({"metadata": {"name": "n", "annotations": {"ipAddress": "nope"}}, "spec": claim(json!({"name": "p"}))});
    let message = validate_create(&serde_json::from_value::<IPClaim>(asks).unwrap()).errors[0].to_string();
    assert!(
        message.starts_with("metadata.annotations.ipAddress: ")
            && message.contains("\"nope\"")
            && message.contains("IPv4"),
        "{message}"
    );
}

#[test]
fn everything_wrong_with_an_object_is_said_at_once_and_no_more_than_can_be_passed_on() {
    let spec = json!({
        "image": {"url": "oci://x", "checksum": "a", "checksumType": "md5"},
        "userData": {"name": "s", "namespace": "bar"}, "metaData": {"name": "s", "namespace": "bar"},
        "dataTemplate": {"name": "t", "namespace": "bar"},
    });
    assert_eq!(validate_create(&of::<Metal3Machine>(spec)).errors.len(), 5);

    let pools: Vec<_> = (0..5000)
        .map(|i| json!({"start": "10.0.0.9", "end": "10.0.0.1", "prefix": 33, "gateway": format!("g{i}")}))
        .collect();
    let verdict = validate_create(&of::<IPPool>(json!({"namePrefix": "p", "pools": pools})));
    assert_eq!(verdict.errors.len(), 201);
    assert!(verdict.errors[200].to_string().contains("14800 more"), "{}", verdict.errors[200]);
    let long = "x".repeat(100_000);
    let message = validate_create(&of::<IPPool>(json!({"namePrefix": "p", "gateway": long}))).errors[0].to_string();
    assert!(message.len() < 400 && message.contains("xxx…"), "{message}");
}

/// Thousands of ranges and of addresses in use are judged at once: the request has ten seconds.
#[test]
fn a_huge_pool_is_judged_in_time() {
    let range = |i: u32| json!({"start": format!("10.{}.{}.1", i / 256, i % 256), "end": format!("10.{}.{}.9", i / 256, i % 256)});
    let pools: Vec<_> = (0..20_000).map(range).collect();
    let address = |i: u32| format!("10.{}.{}.5", i / 256, i % 256);
    let named: serde_json::Map<_, _> = (0..20_000).map(|i| (format!("c{i}"), json!(address(i)))).collect();
    let spec = json!({"namePrefix": "p", "pools": pools, "preAllocations": named});
    let mut old: IPPool = of(spec.clone());
    old.status = serde_json::from_value(json!({"indexes": named})).unwrap();
    let mut new: IPPool = of(spec);
    new.spec.gateway = Some("10.255.0.1".to_owned());
    let verdict = validate_update(&old, &new, false);
    assert_eq!(verdict.errors, []);
    assert_eq!(verdict.warnings.len(), 1, "HI-29: {:?}", verdict.warnings);
    assert!(verdict.warnings[0].contains("20000 addresses"), "{:?}", verdict.warnings);
}

fn with_finalizers<K: Admission + DeserializeOwned>(spec: Value, finalizers: &[&str], deleting: bool) -> K {
    let mut object: K = of(spec);
    object.meta_mut().finalizers = Some(finalizers.iter().map(|&f| f.to_owned()).collect());
    object.meta_mut().deletion_timestamp =
        deleting.then(|| serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    object
}

/// W-3 and WH-2 for every kind: whatever is wrong with it, an object loses its finalizers, deleted or not yet.
#[test]
fn k_139_a_wrong_object_of_any_kind_is_let_go() {
    fn check<K: Admission + DeserializeOwned>(spec: Value) {
        let kind = K::kind(&());
        assert_ne!(validate_create(&of::<K>(spec.clone())).errors, [], "{kind} is wrong");
        for deleting in [false, true] {
            let old = with_finalizers::<K>(spec.clone(), &["a", "b"], deleting);
            let mut new = with_finalizers::<K>(spec.clone(), &["b"], deleting);
            assert_eq!(validate_update(&old, &new, false), Verdict::default(), "{kind}");
            new.default(); // as the mutating webhook hands it on
            assert_eq!(validate_update(&old, &new, false), Verdict::default(), "{kind} with today's defaults");
        }
    }
    let elsewhere = json!({"name": "x", "namespace": "elsewhere"});
    check::<Metal3Cluster>(json!({}));
    check::<Metal3ClusterTemplate>(json!({"template": {"spec": {}}}));
    check::<Metal3Machine>(json!({"userData": elsewhere}));
    check::<Metal3MachineTemplate>(json!({"template": {"spec": {"userData": elsewhere}}}));
    check::<Metal3DataTemplate>(json!({"networkData": {"networks": {"ipv4": [{"id": "n", "link": "e"}]}}}));
    check::<Metal3DataClaim>(json!({"template": elsewhere}));
    check::<Metal3Data>(json!({"index": 3, "template": elsewhere}));
    check::<Metal3Remediation>(json!({"strategy": {}}));
    check::<Metal3RemediationTemplate>(json!({"template": {"spec": {"strategy": {}}}}));
    check::<IPPool>(json!({"namePrefix": "Bad_", "preAllocations": {"a": "192.0.2.1"}}));
    check::<IPClaim>(json!({"pool": elsewhere}));
    check::<IPAddress>(json!({}));
}

/// A label, an annotation or an owner on what is stored is nobody's business here, defaults or not.
#[test]
fn k_33_metadata_of_what_is_stored_may_change() {
    fn check<K: Admission + DeserializeOwned>(spec: Value) {
        let old: K = of(spec);
        let mut new = old.clone();
        new.meta_mut().labels = Some([("a".to_owned(), "b".to_owned())].into());
        new.default();
        assert_eq!(validate_update(&old, &new, false), Verdict::default(), "{}", K::kind(&()));
    }
    check::<Metal3Cluster>(json!({}));
    check::<Metal3ClusterTemplate>(json!({"template": {"spec": {}}}));
    check::<Metal3Machine>(json!({}));
    check::<Metal3MachineTemplate>(json!({"template": {"spec": {}}}));
    check::<Metal3DataTemplate>(json!({"networkData": {"networks": {"ipv4": [{"id": "n"}]}}}));
    check::<Metal3Data>(json!({"index": 3, "template": {"name": "t", "namespace": "elsewhere"}}));
    check::<Metal3Remediation>(json!({"strategy": {}}));
    check::<Metal3RemediationTemplate>(json!({"template": {"spec": {"strategy": {"timeoutSeconds": 5}}}}));
    check::<IPPool>(json!({"namePrefix": "Bad_", "pools": [{"end": "10.0.0.1"}]}));
}

/// Every value of `sent` is in `found`, but for the words that mean "unset".
fn keeps(sent: &Value, found: &Value) -> bool {
    match (sent, found) {
        (Value::Object(sent), Value::Object(found)) => {
            sent.iter().all(|(key, value)| found.get(key).is_some_and(|found| keeps(value, found)))
        }
        (Value::Array(sent), Value::Array(found)) => {
            sent.len() == found.len() && sent.iter().zip(found).all(|(a, b)| keeps(a, b))
        }
        _ => sent == found,
    }
}

#[test]
fn k_48_defaulting_settles_at_once_and_leaves_alone_what_is_set() {
    fn check<K: Admission + DeserializeOwned>(version: &str) {
        let kind = K::kind(&()).into_owned();
        let schema = schema(&kind, version);
        for seed in 1..=100 {
            let sent = object(&mut Dice(seed * 161_803), &kind, version, &schema);
            let once = |object: Value| {
                let mut typed: K = read(object).unwrap();
                typed.default();
                serde_json::to_value(typed).unwrap()
            };
            let before = serde_json::to_value(read::<K>(sent.clone()).unwrap()).unwrap();
            let defaulted = once(sent);
            assert_eq!(once(defaulted.clone()), defaulted, "{kind} seed {seed}");
            assert!(keeps(&before["spec"], &defaulted["spec"]) || before["spec"].is_null(), "{kind} seed {seed}");
            assert_eq!(
                (&before["metadata"], &before["status"]),
                (&defaulted["metadata"], &defaulted["status"]),
                "{kind}"
            );
        }
    }
    check::<Metal3Cluster>("v1beta2");
    check::<Metal3ClusterTemplate>("v1beta2");
    check::<Metal3Machine>("v1beta2");
    check::<Metal3MachineTemplate>("v1beta2");
    check::<Metal3DataTemplate>("v1beta2");
    check::<Metal3DataClaim>("v1beta2");
    check::<Metal3Data>("v1beta2");
    check::<Metal3Remediation>("v1beta2");
    check::<Metal3RemediationTemplate>("v1beta2");
    check::<IPPool>("v1alpha1");
    check::<IPClaim>("v1alpha1");
    check::<IPAddress>("v1alpha1");
}

/// HD-39, CH-9: values only v1beta1 accepts are warned about, each with its path; what v1beta2 accepts never is.
#[test]
fn hd_39_limits_of_v1beta2_are_warned_about() {
    let spec = json!({
        "metaData": {
            "indexes": [{"key": "i", "offset": -3, "step": 0}], "strings": [{"key": "s", "value": "1"}, {"key": "s", "value": ""}],
            "ipAddressesFromPool": [{"key": "k", "name": ""}],
        },
        "networkData": {
            "links": {
                "ethernets": [{"id": "e", "type": "phy", "mtu": 68}],
                "vlans": [{"id": "v", "vlanID": -1, "vlanLink": "e"}, {"id": "v", "vlanID": 2, "vlanLink": "e"}],
            },
            "networks": {
                "ipv4": [{"id": "n", "link": "e", "fromPoolRef": {"name": "Bad_Name", "kind": "1st"},
                          "routes": [{"network": "0.0.0.0", "gateway": {}}, {"network": "0.0.0.0", "gateway": {}}]}],
            },
        },
    });
    let said = validate_create(&of::<Metal3DataTemplate>(spec)).warnings;
    for (path, wanted) in [
        ("spec.metaData.indexes[0].offset: -3", "at least 0"),
        ("spec.metaData.indexes[0].step: 0", "at least 1"),
        ("spec.metaData.strings: [", "one entry with key \"s\""),
        ("spec.metaData.strings[1].value: \"\"", "at least 1 characters"),
        ("spec.metaData.ipAddressesFromPool[0].name: \"\"", "at least 1 characters"),
        ("spec.networkData.links.ethernets[0].mtu: 68", "at least 1280"),
        ("spec.networkData.links.vlans[0].vlanID: -1", "at least 0"),
        ("spec.networkData.networks.ipv4[0].fromPoolRef.name: \"Bad_Name\"", "a DNS name"),
        ("spec.networkData.networks.ipv4[0].fromPoolRef.kind: \"1st\"", "a kind"),
        ("spec.networkData.networks.ipv4[0].routes: [", "one entry with network \"0.0.0.0\""),
    ] {
        assert!(said.iter().any(|text| text.starts_with(path) && text.contains(wanted)), "{path}: {said:#?}");
    }
    let expressions =
        json!([{"key": "a", "operator": "in", "values": ["x", "x"]}, {"key": "a", "operator": "exists", "values": []}]);
    let machine = json!({"customDeploy": {"method": "m"}, "hostSelector": {"matchExpressions": expressions}});
    assert_eq!(validate_create(&of::<Metal3Machine>(machine)).warnings.len(), 2, "CH-9a");

    let schema = schema("Metal3DataTemplate", "v1beta2");
    for seed in 1..=100 {
        let template = object(&mut Dice(seed * 577), "Metal3DataTemplate", "v1beta2", &schema);
        let warnings = validate_create(&read::<Metal3DataTemplate>(template).unwrap()).warnings;
        assert!(!warnings.iter().any(|text| text.contains("will not be accepted")), "seed {seed}: {warnings:?}");
    }
}

const TOPOLOGY: &str = "topology.cluster.x-k8s.io/dry-run";

/// Both marks together mean a question, either alone means nothing (K-46); a change that is meant is warned about (K-43).
#[test]
fn k_46_k_43_changes_of_templates() {
    fn marked<K: Admission + DeserializeOwned>(spec: Value, marked: bool) -> K {
        let mut object: K = of(spec);
        object.meta_mut().annotations = marked.then(|| [(TOPOLOGY.to_owned(), String::new())].into());
        object
    }
    let machine = |url: &str, reuse: bool| json!({"nodeReuse": reuse, "template": {"spec": {"image": {"url": url, "checksum": "c"}}}});
    let (old, new) = (machine("http://x/a", false), machine("http://x/b", false));
    let data = |value: &str| json!({"metaData": {"strings": [{"key": "k", "value": value}]}});
    for (mark, dry_run, let_through) in
        [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
    {
        let verdict =
            validate_update(&marked::<Metal3MachineTemplate>(old.clone(), false), &marked(new.clone(), mark), dry_run);
        assert_eq!((verdict.errors.len(), verdict.warnings.is_empty()), (0, let_through), "{mark} {dry_run}");
        let verdict =
            validate_update(&marked::<Metal3DataTemplate>(data("v"), false), &marked(data("w"), mark), dry_run);
        assert_eq!(verdict.errors.is_empty(), let_through, "{mark} {dry_run}");
        // It is no way around what is no template, and other rules stay.
        let claim = |name: &str| json!({"template": {"name": name}});
        let verdict =
            validate_update(&marked::<Metal3DataClaim>(claim("a"), false), &marked(claim("b"), mark), dry_run);
        assert_eq!(verdict.errors.len(), 1);
        let verdict = validate_update(
            &marked::<Metal3MachineTemplate>(old.clone(), false),
            &marked(machine("x", false), mark),
            dry_run,
        );
        assert_eq!(verdict.errors.len(), 1);
    }
    let reuse = validate_update(&of::<Metal3MachineTemplate>(old.clone()), &of(machine("http://x/a", true)), false);
    assert_eq!(reuse, Verdict::default(), "K-43: nodeReuse may be switched");
    let changed = validate_update(&of::<Metal3MachineTemplate>(old), &of(new), false);
    assert!(changed.warnings[0].starts_with("spec.template.spec: "), "K-43: {:?}", changed.warnings);
}

/// A template that is a copy of another, with whatever its metadata and status said.
#[test]
fn k_44_a_copy_can_be_created() {
    let copy = json!({
        "metadata": {
            "name": "n-copy", "namespace": "foo", "labels": {"a": "b"}, "annotations": {"cluster.x-k8s.io/cloned-from-name": "n"},
            "ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "c", "uid": "u"}],
            "finalizers": ["x/y"], "managedFields": [{"manager": "other", "operation": "Update"}],
        },
        "spec": {"template": {"spec": {"image": {"url": "http://x/i", "checksum": "c"}}}},
        "status": {"capacity": {"cpu": "4"}},
    });
    assert_eq!(validate_create(&serde_json::from_value::<Metal3MachineTemplate>(copy).unwrap()), Verdict::default());
}

/// The mark of a cluster that someone else manages: coming is fine, going is worth a word.
#[test]
fn k_21_taking_over_a_cluster_is_warned_about() {
    let spec = json!({"controlPlaneEndpoint": {"host": "h", "port": 1}});
    let ours: Metal3Cluster = of(spec);
    let mut theirs = ours.clone();
    theirs.metadata.annotations = Some([("cluster.x-k8s.io/managed-by".to_owned(), String::new())].into());
    assert_eq!(validate_update(&ours, &theirs, false), Verdict::default());
    let verdict = validate_update(&theirs, &ours, false);
    assert_eq!((verdict.errors.len(), verdict.warnings.len()), (0, 1));
}

/// HI-15: an end with a subnet is a range like any other.
#[test]
fn ti_140_an_end_within_a_subnet_is_accepted() {
    let spec = json!({"namePrefix": "p", "pools": [{"subnet": "192.168.0.0/24", "end": "192.168.0.2"}], "preAllocations": {"a": "192.168.0.2"}});
    assert_eq!(validate_create(&of::<IPPool>(spec)).errors, []);
    let beyond = json!({"namePrefix": "p", "pools": [{"subnet": "192.168.0.0/24", "end": "192.168.0.2"}], "preAllocations": {"a": "192.168.0.3"}});
    assert_eq!(validate_create(&of::<IPPool>(beyond)).errors.len(), 1, "and it bounds");
}
