//! The released cluster templates and ClusterClasses: each renders with the documented variables, and what comes out is accepted by
//! our schemas and our admission and refers to what is there (docs/spec/capi-contract.md section 5, K-113, K-48 to K-52).
//!
//! What Cluster API's own servers say of them is the bed's to show.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use capm3_api::convert;
use capm3_api::infra::v1beta2;
use capm3_api::ipam::v1alpha1;
use capm3_api::validate::{self, Admission, Verdict};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{Variables, documents, read, refused, release, render, root, variables};

/// What clusterctl sets by itself (K-114).
const BY_CLUSTERCTL: [(&str, &str); 5] = [
    ("CLUSTER_NAME", "prod"),
    ("NAMESPACE", "site-a"),
    ("KUBERNETES_VERSION", "v1.36.3"),
    ("CONTROL_PLANE_MACHINE_COUNT", "3"),
    ("WORKER_MACHINE_COUNT", "2"),
];

/// Kinds of others that templates may hold, as Cluster API 1.14 serves them.
const OTHERS: [(&str, &[&str]); 5] = [
    ("v1", &["ConfigMap"]),
    ("cluster.x-k8s.io/v1beta2", &["Cluster", "ClusterClass", "MachineDeployment", "MachineHealthCheck"]),
    ("addons.cluster.x-k8s.io/v1beta2", &["ClusterResourceSet"]),
    ("bootstrap.cluster.x-k8s.io/v1beta2", &["KubeadmConfigTemplate"]),
    ("controlplane.cluster.x-k8s.io/v1beta2", &["KubeadmControlPlane", "KubeadmControlPlaneTemplate"]),
];

/// Suffixes of `cluster-template`, the default one empty, and names of classes.
fn released(kind: &str) -> BTreeMap<String, String> {
    let folder = release("infrastructure-metal3");
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files = names.filter_map(|file| {
        let name = file.strip_prefix(kind)?.strip_suffix(".yaml")?;
        Some((name.strip_prefix('-').unwrap_or(name).to_owned(), read(&folder.join(&file))))
    });
    files.collect()
}

/// The example file as a shell reads it.
fn example() -> Variables {
    let file = root().join("templates/example_variables.rc");
    let output =
        Command::new("bash").args(["-euc", "set -a; . \"$1\"; env -0", "-"]).arg(file).env_clear().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let own = ["PWD", "SHLVL", "_"];
    let all = text.split('\0').filter_map(|line| line.split_once('='));
    all.filter(|(name, _)| !own.contains(name)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn given() -> Variables {
    let mut all = example();
    all.extend(BY_CLUSTERCTL.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

/// What `clusterctl generate cluster` prints for a flavour, the class included (K-113).
fn generated(flavour: &str) -> Vec<Value> {
    let mut text = render(&released("cluster-template")[flavour], &given())
        .unwrap_or_else(|missing| panic!("{flavour}: the example file lacks {missing:?}"));
    text =
        text.replace("CLUSTER_APIENDPOINT_HOST_HOLDER", "10.0.0.1").replace("CLUSTER_APIENDPOINT_PORT_HOLDER", "20000");
    let mut all = documents(&text);
    let class = all.iter().find_map(|object| object["spec"]["topology"]["classRef"]["name"].as_str());
    if let Some(class) = class.map(str::to_owned) {
        all.extend(documents(&render(&released("clusterclass")[&class], &given()).unwrap()));
    }
    all
}

fn each(mut test: impl FnMut(&str, &[Value])) {
    let flavours = released("cluster-template");
    assert!(flavours.len() >= 12, "only {:?}", flavours.keys());
    flavours.keys().for_each(|flavour| test(flavour, &generated(flavour)));
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {object:#}"))
}

fn group(object: &Value) -> &str {
    text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group)
}

fn is_ours(object: &Value) -> bool {
    ["infrastructure.cluster.x-k8s.io", "ipam.metal3.io"].contains(&group(object))
}

fn schema(object: &Value) -> Value {
    let (_, version) = text(object, "/apiVersion").split_once('/').unwrap();
    let crds = capm3_api::crds::infrastructure().into_iter().chain(capm3_api::crds::ipam());
    let mut all = crds.filter(|crd| crd.spec.names.kind == object["kind"] && crd.spec.group == group(object));
    let crd = all.next().unwrap_or_else(|| panic!("{} is not served", object["kind"]));
    let served = crd.spec.versions.into_iter().find(|served| served.name == version).unwrap();
    serde_json::to_value(served.schema.unwrap().open_api_v3_schema.unwrap()).unwrap()
}

/// What admission says of an object, which it sees in the stored version and defaulted.
fn admitted(object: &Value) -> Verdict {
    fn judge<K: Admission + DeserializeOwned>(object: Value) -> Verdict {
        let mut object: K = validate::read(object).unwrap();
        object.default();
        validate::validate_create(&object)
    }
    if group(object) == "ipam.metal3.io" {
        assert_eq!(object["kind"], "IPPool");
        return judge::<v1alpha1::IPPool>(object.clone());
    }
    let stored = convert(object.clone(), "infrastructure.cluster.x-k8s.io/v1beta2").unwrap();
    match text(&stored, "/kind") {
        "Metal3Cluster" => judge::<v1beta2::Metal3Cluster>(stored),
        "Metal3ClusterTemplate" => judge::<v1beta2::Metal3ClusterTemplate>(stored),
        "Metal3DataTemplate" => judge::<v1beta2::Metal3DataTemplate>(stored),
        "Metal3MachineTemplate" => judge::<v1beta2::Metal3MachineTemplate>(stored),
        "Metal3RemediationTemplate" => judge::<v1beta2::Metal3RemediationTemplate>(stored),
        other => panic!("{other} in a template"),
    }
}

#[test]
fn k_158_every_object_is_of_a_kind_that_is_served_and_is_accepted() {
    each(|flavour, objects| {
        assert!(!objects.is_empty());
        for object in objects {
            let (api, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
            let what = format!("{flavour}: {kind} {}", text(object, "/metadata/name"));
            if !is_ours(object) {
                assert!(OTHERS.iter().any(|(known, kinds)| *known == api && kinds.contains(&kind)), "{what}: {api}");
                continue;
            }
            let wrong = refused(&schema(object), object);
            assert!(wrong.is_empty(), "{what}: {wrong:#?}");
            let verdict = admitted(object);
            assert!(verdict.errors.is_empty(), "{what}: {:#?}", verdict.errors);
            if !api.ends_with("v1beta1") {
                assert!(verdict.warnings.is_empty(), "{what}: {:#?}", verdict.warnings);
            }
        }
    });
}

/// The same test is able to refuse.
#[test]
fn k_158_what_is_wrong_is_seen() {
    let mut object = generated("pools").into_iter().find(|object| object["kind"] == "Metal3MachineTemplate").unwrap();
    object["spec"]["template"]["spec"]["image"]["format"] = "raw".into();
    assert_eq!(refused(&schema(&object), &object), [".spec.template.spec.image.format: unknown field"]);
    object["spec"]["template"]["spec"]["image"] = json!({"url": "http://images/a"});
    assert!(!admitted(&object).errors.is_empty());
}

/// Every reference of an object to another of its cluster, as kind and name. Ones of pools are told apart: upgrade-workload brings none.
fn references(object: &Value) -> BTreeSet<(String, String)> {
    fn walk(value: &Value, found: &mut BTreeSet<(String, String)>) {
        let word = |value: &Value| value.as_str().map(str::to_owned);
        match value {
            Value::Object(fields) => {
                for (name, below) in fields {
                    let kind = match name.as_str() {
                        "dataTemplate" => Some("Metal3DataTemplate".to_owned()),
                        "classRef" => Some("ClusterClass".to_owned()),
                        _ if name.ends_with("Ref") => word(&below["kind"]),
                        _ => None,
                    };
                    found.extend(kind.zip(word(&below["name"])));
                    match name.as_str() {
                        "ipAddressFromIPPool" | "fromIPPool" => {
                            found.extend(word(below).map(|name| ("IPPool".to_owned(), name)))
                        }
                        "resources"
                        | "ipAddressesFromPool"
                        | "prefixesFromPool"
                        | "ipAddressesFromIPPool"
                        | "prefixesFromIPPool" => {
                            let items = below.as_array().into_iter().flatten();
                            found.extend(items.filter_map(|item| word(&item["kind"]).zip(word(&item["name"]))));
                        }
                        "variables" => {
                            let values = below.as_array().into_iter().flatten();
                            let names = values
                                .filter(|v| v["name"].as_str().is_some_and(|name| name.ends_with("DataTemplate")));
                            found.extend(
                                names.filter_map(|v| Some(("Metal3DataTemplate".to_owned(), word(&v["value"])?))),
                            );
                        }
                        _ => walk(below, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    walk(&object["spec"], &mut found);
    found
}

#[test]
fn k_115_every_reference_of_a_flavour_is_to_an_object_it_brings() {
    each(|flavour, objects| {
        let there: BTreeSet<_> = objects.iter().map(|o| (text(o, "/kind"), text(o, "/metadata/name"))).collect();
        assert_eq!(there.len(), objects.len(), "{flavour}: two objects of one name");
        let mut seen = BTreeSet::new();
        for object in objects {
            for (kind, name) in references(object) {
                let in_class = object["kind"] == "Metal3MachineTemplate"
                    && kind == "Metal3DataTemplate"
                    && object["metadata"]["namespace"].is_null();
                if in_class || kind == "IPPool" && flavour == "upgrade-workload" {
                    continue; // the class's default, which each cluster replaces; the pools that are there already
                }
                assert!(
                    there.contains(&(kind.as_str(), name.as_str())),
                    "{flavour}: {kind} {name} of {}",
                    object["kind"]
                );
                seen.insert(kind);
            }
        }
        assert!(seen.contains("Metal3DataTemplate") && seen.len() >= 4, "{flavour}: only {seen:?}");
    });
}

#[test]
fn k_114_everything_is_in_the_cluster_s_namespace_and_names_its_cluster() {
    each(|flavour, objects| {
        let cluster = objects.iter().find(|object| object["kind"] == "Cluster").unwrap();
        assert_eq!(cluster["metadata"]["name"], "prod", "{flavour}");
        for object in objects {
            let namespace = &object["metadata"]["namespace"];
            let of_class = text(object, "/metadata/name").starts_with("metal3"); // clusterctl puts it there
            assert!(namespace == "site-a" || of_class && namespace.is_null(), "{flavour}: {object:#}");
        }
    });
}

/// clusterctl looks at the first occurrence to see whether there is a default, and substitutes by the default of each.
#[test]
fn k_106_a_variable_has_one_default_in_a_file() {
    for (name, text) in released("cluster-template").into_iter().chain(released("clusterclass")) {
        let mut defaults = BTreeMap::new();
        for (variable, default) in variables(&text) {
            let first = defaults.entry(variable.clone()).or_insert_with(|| default.clone());
            assert_eq!(*first, default, "{name}: {variable}");
            assert_ne!(
                default.as_deref(),
                Some(""),
                "{name}: clusterctl takes an empty default of {variable} for none"
            );
        }
    }
}

fn required(text: &str) -> BTreeSet<String> {
    let by_clusterctl = BY_CLUSTERCTL.map(|(name, _)| name);
    let missing = render(text, &Variables::new()).unwrap_err();
    missing.into_iter().filter(|name| !by_clusterctl.contains(&name.as_str())).collect()
}

#[test]
fn k_151_what_the_default_flavour_asks_for() {
    let wanted = [
        "CLUSTER_APIENDPOINT_HOST",
        "CLUSTER_APIENDPOINT_PORT",
        "CTLPLANE_KUBEADM_EXTRA_CONFIG",
        "IMAGE_CHECKSUM",
        "IMAGE_CHECKSUM_TYPE",
        "IMAGE_FORMAT",
        "IMAGE_URL",
        "WORKERS_KUBEADM_EXTRA_CONFIG",
    ];
    assert_eq!(required(&released("cluster-template")[""]), wanted.map(str::to_owned).into());
    let objects = generated("");
    let ours = objects.iter().filter(|object| group(object) == "infrastructure.cluster.x-k8s.io");
    assert!(ours.map(|object| text(object, "/apiVersion")).all(|api| api.ends_with("/v1beta1")));
}

/// The list of a CIDR is the user's in the default flavour, the template's in the others; both render to a list.
#[test]
fn k_152_the_example_file_names_every_variable_and_no_other() {
    let file = read(&root().join("templates/example_variables.rc"));
    let lines = file.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("export "));
    let named: BTreeSet<_> = lines.filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
    let by_clusterctl = BY_CLUSTERCTL.map(|(name, _)| name);
    let all = released("cluster-template").into_values().chain(released("clusterclass").into_values());
    let used: BTreeSet<_> = all.flat_map(|text| variables(&text)).map(|(name, _)| name).collect();
    let used: BTreeSet<_> = used.into_iter().filter(|name| !by_clusterctl.contains(&name.as_str())).collect();
    assert_eq!(named, used);

    for (flavour, shape) in [("", "[\"10.0.0.0/16\"]"), ("development", "[\"10.0.0.0/16\"]"), ("pools", "10.0.0.0/16")]
    {
        let mut given = given();
        given.insert("POD_CIDR".to_owned(), shape.to_owned());
        let objects = documents(&render(&released("cluster-template")[flavour], &given).unwrap());
        let cluster = objects.iter().find(|object| object["kind"] == "Cluster").unwrap();
        assert_eq!(cluster["spec"]["clusterNetwork"]["pods"]["cidrBlocks"], json!(["10.0.0.0/16"]), "{flavour}");
    }
}

/// What is commented out in the example file is the default.
#[test]
fn k_152_the_example_file_shows_the_defaults() {
    let file = read(&root().join("templates/example_variables.rc"));
    let shown = file.lines().filter_map(|line| line.strip_prefix("#export ")?.split_once('='));
    let shown: BTreeMap<_, _> = shown.map(|(name, value)| (name, value.trim_matches(['"', '\'']))).collect();
    let text = &released("cluster-template")["development"];
    let whole: BTreeMap<_, _> = variables(text).into_iter().collect();
    for (name, value) in shown {
        let all = released("cluster-template").into_values().chain(released("clusterclass").into_values());
        let mut defaults: BTreeSet<_> = all.flat_map(|text| variables(&text)).filter(|(n, _)| n == name).collect();
        if let Some(default) = whole.get(name) {
            defaults = [(name.to_owned(), default.clone())].into(); // the shape of the default flavour is the one shown
        }
        let defaults: Vec<_> =
            defaults.iter().map(|(_, d)| d.as_deref().unwrap_or_default().trim_matches('"')).collect();
        assert_eq!(defaults, [value], "{name}");
    }
}

#[test]
fn k_153_default_and_development_leave_the_provider_id_to_the_provider() {
    for flavour in ["", "development"] {
        for object in generated(flavour) {
            assert!(!object.to_string().contains("provider-id"), "{flavour}");
            if object["kind"] == "Metal3MachineTemplate" {
                assert_eq!(object["spec"]["template"]["spec"]["automatedCleaningMode"], "metadata");
                assert_eq!(object["spec"]["nodeReuse"], false);
            }
        }
    }
}

/// The flavours with rendered data, whose objects tools and tests know by these words.
fn with_data() -> Vec<(String, Vec<Value>)> {
    let all =
        released("cluster-template").into_keys().filter(|flavour| !["", "development"].contains(&flavour.as_str()));
    all.map(|flavour| (flavour.clone(), generated(&flavour))).collect()
}

#[test]
fn k_155_data_templates_say_what_is_relied_upon() {
    for (flavour, objects) in with_data() {
        let templates: Vec<_> = objects.iter().filter(|object| object["kind"] == "Metal3DataTemplate").collect();
        assert_eq!(templates.len(), 2, "{flavour}");
        for template in templates {
            let stored = convert((*template).clone(), "infrastructure.cluster.x-k8s.io/v1beta2").unwrap();
            let (meta, network) = (&stored["spec"]["metaData"], &stored["spec"]["networkData"]);
            for from in ["ipAddressesFromPool", "prefixesFromPool"] {
                assert_eq!(meta[from][0]["apiGroup"], "ipam.metal3.io", "{flavour}");
                assert_eq!(meta[from][0]["kind"], "IPPool");
            }
            assert_eq!(meta["ipAddressesFromPool"][0]["key"], "provisioningIP");
            assert_eq!(meta["prefixesFromPool"][0]["key"], "provisioningCIDR");
            let names = meta["objectNames"].as_array().unwrap().iter();
            let names: Vec<_> = names.map(|name| (text(name, "/key"), text(name, "/object"))).collect();
            assert_eq!(names, ["name", "local-hostname", "local_hostname"].map(|key| (key, "machine"))); // K-157
            assert!(
                network["links"]["ethernets"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|link| { link["macAddress"]["fromHostInterface"].is_string() })
            );
            let networks = template["spec"]["networkData"]["networks"]["ipv4"].as_array().unwrap();
            assert_eq!(networks[0]["routes"][0]["gateway"]["fromIPPool"], networks[0]["ipAddressFromIPPool"]);
            assert!(networks[0]["ipAddressFromIPPool"].is_string());
            assert_eq!(networks.len(), if flavour.starts_with("ip-reuse") { 2 } else { 1 }, "{flavour}");
        }
    }
}

#[test]
fn k_154_the_example_file_starts_from_the_usual_site() {
    let example = example();
    let is = |name: &str, value: &str| assert_eq!(example[name], value, "{name}");
    is("CLUSTER_APIENDPOINT_HOST", "192.168.111.249");
    is("CLUSTER_APIENDPOINT_PORT", "6443");
    is("IMAGE_CHECKSUM_TYPE", "sha256");
    is("IMAGE_FORMAT", "raw");
    assert_eq!(example["IMAGE_CHECKSUM"], format!("{}.sha256sum", example["IMAGE_URL"]));
}

#[test]
fn k_156_names_and_labels_that_are_relied_upon() {
    for (flavour, objects) in with_data() {
        let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind);
        assert_eq!(of("Cluster").unwrap()["metadata"]["labels"]["cni"], "prod-crs-0", "{flavour}");
        assert_eq!(of("ClusterResourceSet").unwrap()["spec"]["clusterSelector"]["matchLabels"]["cni"], "prod-crs-0");
        if let Some(class) = of("ClusterClass") {
            let labels = &class["spec"]["workers"]["machineDeployments"][0]["metadata"]["labels"];
            assert_eq!(labels["nodepool"], "nodepool-0");
            continue;
        }
        let workers = of("MachineDeployment").unwrap();
        assert_eq!(workers["metadata"]["name"], "prod");
        assert_eq!(of("KubeadmControlPlane").unwrap()["metadata"]["name"], "prod");
        for labels in ["/metadata/labels", "/spec/template/metadata/labels", "/spec/selector/matchLabels"] {
            assert_eq!(text(workers, &format!("{labels}/nodepool")), "nodepool-0");
        }
    }
}

#[test]
fn k_157_the_node_is_named_after_its_machine() {
    each(|flavour, objects| {
        let mut seen = 0;
        for object in objects {
            for registration in all(object, "nodeRegistration") {
                assert_eq!(registration["name"], "{{ ds.meta_data.name }}", "{flavour}");
                let labels = registration["kubeletExtraArgs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|arg| arg["name"] == "node-labels");
                assert_eq!(labels.unwrap()["value"], "metal3.io/uuid={{ ds.meta_data.uuid }}");
                seen += 1;
            }
        }
        assert_eq!(seen, 3, "{flavour}: init, join, workers");
    });
}

fn all<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, below)| if key == name { vec![below] } else { all(below, name) }).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| all(item, name)).collect(),
        _ => vec![],
    }
}

/// The same objects, written in the older version.
#[test]
fn k_158_v1beta1_variants_are_their_flavours() {
    let flavours = released("cluster-template");
    let variants: Vec<_> = flavours.keys().filter_map(|name| name.strip_suffix("-v1beta1")).collect();
    assert_eq!(variants, ["ip-reuse", "md-remediation", "md-taints", "pools"]);
    for name in variants {
        let (new, old) = (generated(name), generated(&format!("{name}-v1beta1")));
        assert_eq!(new.len(), old.len());
        for (new, old) in new.iter().zip(&old) {
            if group(old) != "infrastructure.cluster.x-k8s.io" {
                if old["kind"] != "MachineHealthCheck" {
                    assert_eq!(new, old, "{name}");
                }
                continue;
            }
            assert_eq!(text(old, "/apiVersion"), "infrastructure.cluster.x-k8s.io/v1beta1");
            let mut stored = convert(old.clone(), "infrastructure.cluster.x-k8s.io/v1beta2").unwrap();
            let spec = stored["spec"].as_object_mut().unwrap();
            spec.remove("clusterName");
            let mut expected = new["spec"].clone();
            if stored["kind"] != "Metal3DataTemplate" {
                assert_eq!(stored["spec"], expected, "{name}");
                continue;
            }
            // Conversion writes out where a pool's name is looked for.
            for part in ["metaData", "networkData"] {
                let (stored, expected) = (stored["spec"][part].take(), expected[part].take());
                assert_eq!(references(&json!({ "spec": stored })), references(&json!({ "spec": expected })), "{name}");
            }
        }
    }
}

/// Pools and data templates are one cluster's: a class reaches neither, and patches what it does reach (K-50).
#[test]
fn k_52_classes_hold_no_data_of_a_cluster_and_patch_only_what_is_there() {
    for (name, text_of) in released("clusterclass") {
        let objects = documents(&render(&text_of, &given()).unwrap());
        let class = objects.iter().find(|object| object["kind"] == "ClusterClass").unwrap();
        assert_eq!(class["metadata"]["name"], name.as_str(), "K-113");
        assert!(
            !objects.iter().any(|o| ["IPPool", "Metal3DataTemplate"].iter().any(|kind| o["kind"] == *kind)),
            "{name}"
        );

        let known = class["spec"]["variables"].as_array().unwrap();
        let known: BTreeSet<_> = known.iter().map(|variable| text(variable, "/name")).collect();
        let expected = ["controlPlaneDataTemplate", "controlPlaneEndpoint", "image", "workerDataTemplate"];
        assert_eq!(known, expected.into());
        let mut patched = BTreeSet::new();
        for definition in
            class["spec"]["patches"].as_array().unwrap().iter().flat_map(|p| p["definitions"].as_array().unwrap())
        {
            let (kind, api) = (text(definition, "/selector/kind"), text(definition, "/selector/apiVersion"));
            let targets = objects.iter().filter(|o| o["kind"] == kind && o["apiVersion"] == api);
            for patch in definition["jsonPatches"].as_array().unwrap() {
                let path = text(patch, "/path");
                assert!(
                    targets.clone().count() > 0 && targets.clone().all(|o| o.pointer(path).is_some()),
                    "{name}: {path}"
                );
                patched.insert(path.to_owned());
                if let Some(variable) = patch["valueFrom"]["variable"].as_str() {
                    assert!(known.contains(variable), "{name}: {variable}");
                }
            }
        }
        let paths =
            ["controlPlaneEndpoint", "dataTemplate/name", "image"].map(|end| format!("/spec/template/spec/{end}"));
        assert_eq!(patched, paths.into());
    }
}

#[test]
fn k_48_defaulting_leaves_the_objects_of_a_topology_as_they_are() {
    for flavour in ["fake", "topology"] {
        for object in generated(flavour).iter().filter(|object| is_ours(object)) {
            let spec = match text(object, "/kind") {
                "Metal3ClusterTemplate" => defaulted::<v1beta2::Metal3ClusterTemplate>(object),
                "Metal3MachineTemplate" => defaulted::<v1beta2::Metal3MachineTemplate>(object),
                "Metal3RemediationTemplate" => defaulted::<v1beta2::Metal3RemediationTemplate>(object),
                "Metal3DataTemplate" | "IPPool" => continue, // not the topology controller's
                other => panic!("{other}"),
            };
            assert_eq!(spec, object["spec"], "{flavour}: {}", object["kind"]);
        }
    }
}

fn defaulted<K: Admission + DeserializeOwned>(object: &Value) -> Value {
    let mut object: K = validate::read(object.clone()).unwrap();
    object.default();
    serde_json::to_value(&object).unwrap()["spec"].take()
}

#[test]
fn flavours_carry_no_distribution() {
    for (name, text) in released("cluster-template").into_iter().chain(released("clusterclass")) {
        for word in ["ubuntu", "centos", "opensuse", "leap", "sles", "netplan", "apt", "dnf"] {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(!words.clone().any(|w| w.eq_ignore_ascii_case(word)), "{name}: {word}");
        }
    }
}
