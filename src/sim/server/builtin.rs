//! The built-in kinds: their form, their defaults and the few rules of theirs that matter here.
//!
//! The form comes from k8s-openapi's types: what they do not know is dropped, what does not fit them is refused, as the real
//! server does with its own types. Everything else of these kinds (Pods that run, Services that route) does not exist.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::meta;
use super::names::{NameRule, config_key};
use super::status::FieldError;

/// What tells one built-in kind from another.
#[derive(Debug)]
pub(super) struct BuiltIn {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub short: &'static [&'static str],
    pub namespaced: bool,
    pub status: bool,
    /// A PUT needs no resourceVersion.
    pub unconditional: bool,
    /// A PUT of what is not there creates it.
    pub create_on_update: bool,
    /// Counts changes in `metadata.generation`.
    pub generation: bool,
    pub names: NameRule,
    pub selectable: &'static [&'static str],
    form: fn(Value) -> Result<Value, String>,
    /// Completes an object before it is judged; the old one is absent on create.
    pub prepare: fn(&mut Value, Option<&Value>),
    pub validate: fn(&Value, Option<&Value>) -> Vec<FieldError>,
}

const PLAIN: BuiltIn = BuiltIn {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    short: &[],
    namespaced: true,
    status: false,
    unconditional: true,
    create_on_update: false,
    generation: false,
    names: NameRule::Subdomain,
    selectable: &[],
    form: |value| Ok(value),
    prepare: |_, _| {},
    validate: |_, _| Vec::new(),
};

const RBAC: BuiltIn =
    BuiltIn { group: "rbac.authorization.k8s.io", names: NameRule::Path, create_on_update: true, ..PLAIN };

const WEBHOOKS: BuiltIn = BuiltIn {
    group: "admissionregistration.k8s.io",
    namespaced: false,
    unconditional: false,
    generation: true,
    prepare: default_webhooks,
    ..PLAIN
};

pub(super) const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        kind: "ConfigMap",
        plural: "configmaps",
        short: &["cm"],
        form: form::<ConfigMap>,
        validate: validate_config_map,
        ..PLAIN
    },
    BuiltIn {
        kind: "Event",
        plural: "events",
        short: &["ev"],
        create_on_update: true,
        names: NameRule::Subdomain,
        selectable: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        form: form::<Event>,
        prepare: prepare_event,
        validate: validate_event,
        ..PLAIN
    },
    BuiltIn {
        kind: "Namespace",
        plural: "namespaces",
        short: &["ns"],
        namespaced: false,
        status: true,
        names: NameRule::Label,
        selectable: &["status.phase", "name"],
        form: form::<Namespace>,
        prepare: prepare_namespace,
        ..PLAIN
    },
    BuiltIn {
        kind: "Node",
        plural: "nodes",
        short: &["no"],
        namespaced: false,
        status: true,
        selectable: &["spec.unschedulable"],
        form: form::<Node>,
        prepare: prepare_node,
        ..PLAIN
    },
    BuiltIn {
        kind: "Pod",
        plural: "pods",
        short: &["po"],
        status: true,
        selectable: &["spec.nodeName", "status.phase"],
        form: form::<Pod>,
        ..PLAIN
    },
    BuiltIn {
        group: "storage.k8s.io",
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        namespaced: false,
        status: true,
        form: form::<VolumeAttachment>,
        ..PLAIN
    },
    BuiltIn {
        kind: "Secret",
        plural: "secrets",
        selectable: &["type"],
        form: form::<Secret>,
        prepare: prepare_secret,
        validate: validate_secret,
        ..PLAIN
    },
    BuiltIn {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        short: &["sa"],
        form: form::<ServiceAccount>,
        ..PLAIN
    },
    BuiltIn {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        unconditional: false,
        create_on_update: true,
        form: form::<Lease>,
        prepare: |new, _| ensure_object(new, "spec"),
        validate: validate_lease,
        ..PLAIN
    },
    BuiltIn {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        short: &["crd", "crds"],
        namespaced: false,
        status: true,
        unconditional: false,
        generation: true,
        form: form::<CustomResourceDefinition>,
        prepare: prepare_definition,
        ..PLAIN
    },
    BuiltIn { kind: "Role", plural: "roles", form: form::<Role>, ..RBAC },
    BuiltIn { kind: "RoleBinding", plural: "rolebindings", form: form::<RoleBinding>, ..RBAC },
    BuiltIn { kind: "ClusterRole", plural: "clusterroles", namespaced: false, form: form::<ClusterRole>, ..RBAC },
    BuiltIn {
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        namespaced: false,
        form: form::<ClusterRoleBinding>,
        ..RBAC
    },
    BuiltIn {
        kind: "MutatingWebhookConfiguration",
        plural: "mutatingwebhookconfigurations",
        form: form::<MutatingWebhookConfiguration>,
        ..WEBHOOKS
    },
    BuiltIn {
        kind: "ValidatingWebhookConfiguration",
        plural: "validatingwebhookconfigurations",
        form: form::<ValidatingWebhookConfiguration>,
        ..WEBHOOKS
    },
];

impl BuiltIn {
    /// Brings everything but `metadata` into the form of its type.
    pub(super) fn shape(&self, object: &mut Value) -> Result<(), String> {
        let metadata = object["metadata"].take();
        let mut shaped = (self.form)(object.take())?;
        if let Some(fields) = shaped.as_object_mut() {
            fields.retain(|_, value| !meta::is_empty(value));
        }
        shaped["metadata"] = metadata;
        *object = shaped;
        Ok(())
    }
}

/// Through the type and back.
fn form<T: DeserializeOwned + Serialize>(object: Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(object).map_err(|error| error.to_string())?;
    let mut value = serde_json::to_value(typed).map_err(|error| error.to_string())?;
    drop_nulls(&mut value);
    Ok(value)
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

fn ensure_object(object: &mut Value, field: &str) {
    if !object[field].is_object() {
        object[field] = json!({});
    }
}

fn prepare_namespace(new: &mut Value, old: Option<&Value>) {
    let name = meta::name(new).to_owned();
    new["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
    match old {
        None => {
            new["spec"] = json!({"finalizers": ["kubernetes"]});
            new["status"] = json!({"phase": "Active"});
        }
        // Its finalizers go by a subresource of their own.
        Some(old) => new["spec"] = old["spec"].clone(),
    }
}

/// Typed objects show some of what they do not have.
fn prepare_event(new: &mut Value, _: Option<&Value>) {
    for (field, absent) in [
        ("eventTime", Value::Null),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("reportingComponent", json!("")),
        ("reportingInstance", json!("")),
        ("source", json!({})),
    ] {
        if new[field].is_null() {
            new[field] = absent;
        }
    }
}

/// As [`prepare_event`]; and a new Node is not ready yet.
fn prepare_node(new: &mut Value, old: Option<&Value>) {
    const INFO: [&str; 10] = [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ];
    ensure_object(new, "spec");
    ensure_object(new, "status");
    let status = &mut new["status"];
    if status["daemonEndpoints"].is_null() {
        status["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 0}});
    }
    for field in INFO {
        if status["nodeInfo"][field].is_null() {
            status["nodeInfo"][field] = "".into();
        }
    }
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        for field in ["lastHeartbeatTime", "lastTransitionTime"] {
            if condition[field].is_null() {
                condition[field] = Value::Null;
            }
        }
    }
    const NOT_READY: &str = "node.kubernetes.io/not-ready";
    let taints = &mut new["spec"]["taints"];
    if old.is_none() && !taints.as_array().is_some_and(|all| all.iter().any(|taint| taint["key"] == NOT_READY)) {
        let mut all = taints.as_array().cloned().unwrap_or_default();
        all.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        *taints = all.into();
    }
}

fn prepare_secret(new: &mut Value, _: Option<&Value>) {
    if let Some(Value::Object(texts)) = new.as_object_mut().and_then(|fields| fields.shift_remove("stringData")) {
        ensure_object(new, "data");
        for (key, text) in texts {
            new["data"][key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
        }
    }
    if !new["type"].is_string() {
        new["type"] = "Opaque".into();
    }
    if let Some(fields) = new.as_object_mut()
        && fields.get("data").is_some_and(meta::is_empty)
    {
        fields.shift_remove("data");
    }
}

fn keys<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a String> {
    object[field].as_object().into_iter().flat_map(|fields| fields.keys())
}

fn validate_config_map(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["data", "binaryData"] {
        for key in keys(new, field) {
            let wrong = config_key(key);
            errors.extend(wrong.iter().map(|e| FieldError::invalid(format!("{field}[{key}]"), &json!(key), e)));
        }
    }
    errors.extend(immutable(new, old, &["data", "binaryData"]));
    errors.extend(judged_again(new, old));
    errors
}

fn validate_secret(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in keys(new, "data") {
        let wrong = config_key(key);
        errors.extend(wrong.iter().map(|e| FieldError::invalid(format!("data[{key}]"), &json!(key), e)));
    }
    if let Some(old) = old
        && new["type"] != old["type"]
    {
        errors.push(FieldError::invalid("type", &new["type"], "field is immutable"));
    }
    errors.extend(immutable(new, old, &["data"]));
    errors.extend(judged_again(new, old));
    errors
}

/// An update of these kinds is also judged as if it were new.
fn judged_again(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let Some(_) = old else { return Vec::new() };
    let mut errors = meta::validate(new, true, NameRule::Subdomain);
    errors.extend(meta::validate_core_finalizers(new));
    errors
}

fn immutable(new: &Value, old: Option<&Value>, fields: &[&str]) -> Vec<FieldError> {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return Vec::new() };
    let mut errors = Vec::new();
    let detail = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        errors.push(FieldError::forbidden("immutable", detail));
    }
    let changed = fields.iter().filter(|field| new[**field] != old[**field]);
    errors.extend(changed.map(|field| FieldError::forbidden(*field, detail)));
    errors
}

fn validate_event(new: &Value, _: Option<&Value>) -> Vec<FieldError> {
    let named = new["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let namespace = meta::namespace(new);
    if named.is_empty() && namespace != "default" && namespace != "kube-system"
        || !named.is_empty() && named != namespace
    {
        let detail = "does not match event.namespace";
        return vec![FieldError::invalid("involvedObject.namespace", &json!(named), detail)];
    }
    Vec::new()
}

fn validate_lease(new: &Value, _: Option<&Value>) -> Vec<FieldError> {
    let spec = &new["spec"];
    let mut errors = Vec::new();
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        let (field, value) = ("spec.leaseDurationSeconds", &spec["leaseDurationSeconds"]);
        errors.push(FieldError::invalid(field, value, "must be greater than 0"));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        let (field, value) = ("spec.leaseTransitions", &spec["leaseTransitions"]);
        errors.push(FieldError::invalid(field, value, "must be greater than or equal to 0"));
    }
    errors
}

fn default_webhooks(new: &mut Value, _: Option<&Value>) {
    for webhook in new["webhooks"].as_array_mut().into_iter().flatten() {
        let defaults = [
            ("failurePolicy", json!("Fail")),
            ("matchPolicy", json!("Equivalent")),
            ("namespaceSelector", json!({})),
            ("objectSelector", json!({})),
            ("timeoutSeconds", json!(10)),
        ];
        for (field, value) in defaults {
            if webhook[field].is_null() {
                webhook[field] = value;
            }
        }
    }
}

/// Served at once: the real server needs a moment to establish a definition.
fn prepare_definition(new: &mut Value, old: Option<&Value>) {
    let names = &mut new["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    for (field, value) in [("listKind", format!("{kind}List")), ("singular", kind.to_lowercase())] {
        if names[field].is_null() {
            names[field] = value.into();
        }
    }
    if new["spec"]["conversion"].is_null() {
        new["spec"]["conversion"] = json!({"strategy": "None"});
    }
    if old.is_none() {
        let versions = new["spec"]["versions"].as_array().into_iter().flatten();
        let stored: Vec<_> = versions.filter(|v| v["storage"] == true).map(|v| v["name"].clone()).collect();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Served", "message": ""});
        new["status"] = json!({
            "acceptedNames": new["spec"]["names"],
            "conditions": [condition("NamesAccepted"), condition("Established")],
            "storedVersions": stored,
        });
    }
}
