//! What Cluster API relies on, asserted on our definitions, views and constants (capi-contract 1.1, 1.6, 1.11; api-types 2
//! and 6).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use capm3_api::convert::convert;
use capm3_api::foreign::{Cluster, Machine};
use capm3_api::infra::v1beta2::*;
use capm3_api::ipam::v1alpha1::{IPClaim, IPPool};
use capm3_api::k8s::{OwnerReference, Resource, Time};
use capm3_api::names::*;
use capm3_api::owner_reference;
use capm3_api::validate::{Admission, validate_update};
use serde_json::{Value, json};
use support::{kinds, schema};

/// Core names what it refers to by group, kind and name, and looks the version up by the definition's labels.
#[test]
fn k_6_core_references_are_group_kind_and_name() {
    let reference = json!({"apiGroup": INFRA_GROUP, "kind": "Metal3Cluster", "name": "c"});
    let cluster: Cluster = serde_json::from_value(json!({"spec": {"infrastructureRef": reference}})).unwrap();
    let read = cluster.spec.infrastructure_ref.unwrap();
    assert_eq!(
        (read.api_group.as_deref(), read.kind.as_str(), read.name.as_str()),
        (Some(INFRA_GROUP), Metal3Cluster::KIND, "c")
    );
    let machine =
        json!({"spec": {"infrastructureRef": {"apiGroup": INFRA_GROUP, "kind": "Metal3Machine", "name": "m"}}});
    let machine: Machine = serde_json::from_value(machine).unwrap();
    assert_eq!(machine.spec.infrastructure_ref.unwrap().kind, Metal3Machine::KIND);
    assert_eq!((Metal3Cluster::GROUP, Metal3MachineTemplate::GROUP), (INFRA_GROUP, INFRA_GROUP));
}

/// Names and JSON types are the contract: core reads objects without types.
#[test]
fn k_9_names_and_types_of_what_core_reads() {
    for (kind, path, expected) in [
        ("Metal3Cluster", "spec.controlPlaneEndpoint.host", "string"),
        ("Metal3Cluster", "spec.controlPlaneEndpoint.port", "integer"),
        ("Metal3Cluster", "status.initialization.provisioned", "boolean"),
        ("Metal3Cluster", "status.failureDomains.[].name", "string"),
        ("Metal3Cluster", "status.failureDomains.[].controlPlane", "boolean"),
        ("Metal3Cluster", "status.failureDomains.[].attributes", "object"),
        ("Metal3Cluster", "status.conditions.[].type", "string"),
        ("Metal3ClusterTemplate", "spec.template.metadata.labels", "object"),
        ("Metal3ClusterTemplate", "spec.template.metadata.annotations", "object"),
        ("Metal3ClusterTemplate", "spec.template.spec", "object"),
        ("Metal3Machine", "spec.providerID", "string"),
        ("Metal3Machine", "spec.failureDomain", "string"),
        ("Metal3Machine", "status.initialization.provisioned", "boolean"),
        ("Metal3Machine", "status.addresses.[].type", "string"),
        ("Metal3Machine", "status.addresses.[].address", "string"),
        ("Metal3Machine", "status.conditions.[].reason", "string"),
        ("Metal3MachineTemplate", "spec.template.metadata.labels", "object"),
        ("Metal3MachineTemplate", "spec.template.spec.image.url", "string"),
        ("Metal3RemediationTemplate", "spec.template.spec", "object"),
    ] {
        let schema = schema(kind, "v1beta2");
        let field =
            path.split('.').fold(&schema, |at, step| if step == "[]" { &at["items"] } else { &at["properties"][step] });
        assert_eq!(field["type"], expected, "{kind} {path}");
    }
}

/// A machine is made of `spec.template.spec` as it stands, so both mean the same by it.
#[test]
fn k_41_a_template_holds_what_a_machine_is_made_of() {
    for version in ["v1beta1", "v1beta2"] {
        let at = |kind: &str, path: &[&str]| {
            path.iter().fold(schema(kind, version), |schema, field| schema["properties"][*field].clone())
        };
        let spec = at("Metal3Machine", &["spec"])["properties"].clone();
        let cloned = at("Metal3MachineTemplate", &["spec", "template", "spec"])["properties"].clone();
        let cloned = cloned.as_object().unwrap();
        assert!(cloned.contains_key("image") && cloned.contains_key("dataTemplate"), "{version}");
        for (field, schema) in cloned {
            assert_eq!(schema["type"], spec[field]["type"], "{version} {field}");
        }
    }
    // The older version never had them; core reads the newer.
    let metadata = &schema("Metal3MachineTemplate", "v1beta2")["properties"]["spec"]["properties"]["template"]["properties"]
        ["metadata"]["properties"];
    for part in ["labels", "annotations"] {
        assert_eq!(metadata[part]["additionalProperties"]["type"], "string", "{part}");
    }
}

/// Cluster API asks with dry runs whether a machine may be updated in place: a refusal would make it delete the machine.
#[test]
fn k_60_a_machine_s_image_and_data_template_may_change() {
    let machine = |image: Value, template: Value| -> Metal3Machine {
        let spec = json!({"image": image, "dataTemplate": template, "providerID": "metal3://foo/h/n"});
        serde_json::from_value(json!({"metadata": {"name": "n", "namespace": "foo"}, "spec": spec})).unwrap()
    };
    let image = || json!({"url": "http://x/a", "checksum": "c"});
    let before = machine(image(), json!({"name": "a"}));
    for after in [
        machine(json!({"url": "http://x/b", "checksum": "d", "diskFormat": "raw"}), json!({"name": "a"})),
        machine(image(), json!({"name": "b"})),
        machine(json!({"url": "oci://x/b"}), json!({"name": "b", "namespace": "foo"})),
        machine(image(), Value::Null),
    ] {
        for dry_run in [true, false] {
            let verdict = validate_update(&before, &after, dry_run);
            assert_eq!((verdict.errors, verdict.warnings), (Vec::new(), Vec::new()), "{:?}", after.spec);
        }
    }
}

/// What the topology controller and the cloner write on our objects is still there after defaults and either conversion.
#[test]
fn k_51_labels_and_annotations_of_core_are_kept() {
    let metadata = json!({
        "name": "n", "namespace": "foo", "uid": "u", "resourceVersion": "5", "generation": 3,
        "labels": {"topology.cluster.x-k8s.io/owned": "", "cluster.x-k8s.io/cluster-name": "c"},
        "annotations": {
            "cluster.x-k8s.io/cloned-from-name": "t",
            "cluster.x-k8s.io/cloned-from-groupkind": "Metal3MachineTemplate.infrastructure.cluster.x-k8s.io",
        },
        "ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "c", "uid": "v"}],
        "finalizers": ["a/b"],
    });
    for kind in kinds() {
        let object = json!({"apiVersion": INFRA_API_VERSION, "kind": kind, "metadata": metadata, "spec": {}});
        let older = convert(object, INFRA_API_VERSION_V1BETA1).unwrap();
        let mut seen = older["metadata"].clone();
        seen["annotations"].as_object_mut().unwrap().remove(annotation::CONVERSION_DATA);
        assert_eq!(seen, metadata, "{kind}");
        assert_eq!(convert(older, INFRA_API_VERSION).unwrap()["metadata"], metadata, "{kind}");
    }
    let mut cluster: Metal3Cluster = serde_json::from_value(json!({"metadata": metadata})).unwrap();
    Admission::default(&mut cluster);
    assert_eq!(serde_json::to_value(&cluster).unwrap()["metadata"], metadata);
}

/// An owner is named by the stored version, its kind as it is and the uid it has now; without those there is no reference.
#[test]
fn k_68_owner_references_name_the_stored_version() {
    fn check<K: Resource<DynamicType = ()> + Default>(api_version: &str, kind: &str) {
        let mut owner = K::default();
        assert_eq!(owner_reference(&owner, true, true), None, "not stored yet");
        owner.meta_mut().name = Some("o".to_owned());
        assert_eq!(owner_reference(&owner, true, true), None, "no uid");
        owner.meta_mut().uid = Some("live".to_owned());
        let expected = OwnerReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: "o".to_owned(),
            uid: "live".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        assert_eq!(owner_reference(&owner, true, true), Some(expected));
        let plain = owner_reference(&owner, false, false).unwrap();
        assert_eq!((plain.controller, plain.block_owner_deletion), (None, None));
    }
    check::<Cluster>("cluster.x-k8s.io/v1beta2", "Cluster");
    check::<Machine>("cluster.x-k8s.io/v1beta2", "Machine");
    check::<Metal3Machine>("infrastructure.cluster.x-k8s.io/v1beta2", "Metal3Machine");
    check::<Metal3DataClaim>("infrastructure.cluster.x-k8s.io/v1beta2", "Metal3DataClaim");
    check::<Metal3Data>("infrastructure.cluster.x-k8s.io/v1beta2", "Metal3Data");
    check::<IPPool>("ipam.metal3.io/v1alpha1", "IPPool");
    check::<IPClaim>("ipam.metal3.io/v1alpha1", "IPClaim");
}

/// TY-2: no rules in the definitions, no scale, nothing selectable.
#[test]
fn ty_2_definitions_carry_no_rules() {
    for kind in kinds() {
        for version in ["v1beta1", "v1beta2"] {
            assert!(!schema(&kind, version).to_string().contains("x-kubernetes-validations"), "{kind}");
        }
    }
    for crd in capm3_api::crds::infrastructure() {
        for version in crd.spec.versions {
            assert!(version.selectable_fields.is_none());
            assert!(version.subresources.is_none_or(|s| s.scale.is_none()));
            assert_eq!(version.deprecation_warning, None);
        }
    }
}

/// TY-15: these defaults and no others, beside the status that nobody has looked at yet.
#[test]
fn ty_15_the_defaults_of_the_schemas() {
    fn walk(path: &str, schema: &Value, found: &mut Vec<String>) {
        if let Some(default) = schema.get("default") {
            found.push(format!("{}={default}", path.rsplit('.').next().unwrap()));
        }
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), below, found);
        }
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                walk(path, &schema[below], found);
            }
        }
    }
    let mut found = Vec::new();
    kinds().iter().for_each(|kind| walk("", &schema(kind, "v1beta2")["properties"]["spec"], &mut found));
    found.sort();
    found.dedup();
    let expected = [
        "apiGroup=\"ipam.metal3.io\"",
        "kind=\"IPPool\"",
        "mtu=1500",
        "nodeReuse=false",
        "retryLimit=1",
        "step=1",
        "timeoutSeconds=600",
    ];
    assert_eq!(found, expected);
}

/// TY-10 to TY-13: what is unset is not written, and zero is written where it is a value.
#[test]
fn ty_10_to_ty_13_unset_is_absent_and_zero_is_a_value() {
    let written = |object: Value| object["spec"].clone();
    let data = Metal3Data { spec: Metal3DataSpec { index: Some(0), ..Default::default() }, ..Default::default() };
    assert_eq!(written(serde_json::to_value(data).unwrap()), json!({"index": 0}));
    let machine = Metal3Machine {
        spec: Metal3MachineSpec { host_selector: Some(HostSelector::default()), ..Default::default() },
        ..Default::default()
    };
    assert_eq!(written(serde_json::to_value(machine).unwrap()), json!({"hostSelector": {}}));
    let vlan =
        serde_json::to_value(Vlan { id: "v".to_owned(), vlan_link: "e".to_owned(), ..Default::default() }).unwrap();
    assert_eq!(vlan, json!({"id": "v", "vlanID": 0, "vlanLink": "e"}));
    for (field, unset) in [
        (serde_json::to_value(Metal3ClusterStatus::default()), "a status"),
        (serde_json::to_value(Metal3MachineStatus::default()), "a status"),
        (serde_json::to_value(TemplateMeta::default()), "metadata"),
        (serde_json::to_value(RemediationStrategy::default()), "a strategy"),
        (serde_json::to_value(Route::default().services), "services"),
    ] {
        let field = field.unwrap();
        assert!(field == json!({}) || field.is_null(), "{unset}: {field}");
    }
}

/// TY-16: whole seconds in UTC.
#[test]
fn ty_16_timestamps_are_whole_seconds_of_utc() {
    for (read, written) in [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05Z"),
        ("2026-01-02T03:04:05.999999999Z", "2026-01-02T03:04:05Z"),
    ] {
        let time: Time = serde_json::from_value(json!(read)).unwrap();
        assert_eq!(serde_json::to_value(time).unwrap(), written, "{read}");
    }
}

/// TY-20 to TY-22: words that are on objects of today's clusters.
#[test]
fn ty_20_to_ty_22_constants() {
    let finalizers = [
        ("metal3cluster", finalizer::CLUSTER),
        ("metal3machine", finalizer::MACHINE),
        ("metal3data", finalizer::DATA),
        ("metal3dataclaim", finalizer::DATA_CLAIM),
        ("metal3datatemplate", finalizer::DATA_TEMPLATE),
        ("metal3remediation", finalizer::REMEDIATION),
    ];
    for (kind, finalizer) in finalizers {
        assert_eq!(finalizer, format!("{kind}.infrastructure.cluster.x-k8s.io"));
    }
    for (ours, theirs) in [
        (annotation::HOST, "metal3.io/BareMetalHost"),
        (annotation::UNHEALTHY, "capm3.metal3.io/unhealthy"),
        (annotation::UNHEALTHY_OLD, "capi.metal3.io/unhealthy"),
        (annotation::LABEL_SYNC_PREFIXES, "metal3.io/metal3-label-sync-prefixes"),
        (annotation::NODE_ANNOTATIONS_BACKUP, "remediation.metal3.io/node-annotations-backup"),
        (annotation::NODE_LABELS_BACKUP, "remediation.metal3.io/node-labels-backup"),
        (annotation::REBOOT_PREFIX, "reboot.metal3.io/metal3-remediation-"),
        (annotation::CONVERSION_DATA, "cluster.x-k8s.io/conversion-data"),
        (annotation::PAUSED, "cluster.x-k8s.io/paused"),
        (annotation::HOST_PAUSED, "baremetalhost.metal3.io/paused"),
        (annotation::CLONED_FROM_MACHINE_TEMPLATE, "Metal3MachineTemplate.infrastructure.cluster.x-k8s.io"),
        (label::WATCH_FILTER, "cluster.x-k8s.io/watch-filter"),
        (label::CLUSTER_NAME, "cluster.x-k8s.io/cluster-name"),
        (REMEDIATION_REBOOT, "Reboot"),
        (FORMAT_LIVE_ISO, "live-iso"),
        (CLEANING_METADATA, "metadata"),
        (CLEANING_DISABLED, "disabled"),
    ] {
        assert_eq!(ours, theirs);
    }
}
