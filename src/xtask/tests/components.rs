//! The components files of both providers, as `clusterctl init` reads them (docs/spec/remediation-webhooks-packaging.md sections 5, 6
//! and 8.4; docs/spec/capi-contract.md 4.1 to 4.3). The Go providers' names and rights are written out here: they are what an upgrade
//! meets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::{Variables, documents, read, release, render, root, variables};

struct Facts {
    label: &'static str,
    file: &'static str,
    namespace: &'static str,
    prefix: &'static str,
    /// Kind and name of everything that is not a CRD, in any order.
    objects: &'static [(&'static str, &'static str)],
    crds: usize,
    webhooks: [usize; 2],
    port: &'static str,
    variables: &'static [(&'static str, &'static str)],
    args: &'static [&'static str],
}

const PROVIDERS: [Facts; 2] = [
    Facts {
        label: "infrastructure-metal3",
        file: "infrastructure-components",
        namespace: "capm3-system",
        prefix: "capm3",
        objects: &[
            ("Namespace", "capm3-system"),
            ("ServiceAccount", "capm3-manager"),
            ("Role", "capm3-leader-election-role"),
            ("ClusterRole", "capm3-manager-role"),
            ("RoleBinding", "capm3-leader-election-rolebinding"),
            ("ClusterRoleBinding", "capm3-manager-rolebinding"),
            ("ConfigMap", "capm3-capm3fasttrack-configmap"),
            ("Service", "capm3-webhook-service"),
            ("Deployment", "capm3-controller-manager"),
            ("Certificate", "capm3-serving-cert"),
            ("Issuer", "capm3-selfsigned-issuer"),
            ("MutatingWebhookConfiguration", "capm3-mutating-webhook-configuration"),
            ("ValidatingWebhookConfiguration", "capm3-validating-webhook-configuration"),
        ],
        crds: 9,
        webhooks: [2, 9],
        port: "webhook-server",
        variables: &[
            ("CAPM3_DIAGNOSTICS_ADDRESS", ":8443"),
            ("CAPM3_FAST_TRACK", "false"),
            ("CAPM3_INSECURE_DIAGNOSTICS", "false"),
            ("ENABLE_BMH_NAME_BASED_PREALLOCATION", "false"),
        ],
        args: &[
            "--controllers=infra",
            "--leader-elect=true",
            "--webhook-port=9443",
            "--enable-bmh-name-based-preallocation=false",
            "--diagnostics-address=:8443",
            "--insecure-diagnostics=false",
        ],
    },
    Facts {
        label: "ipam-metal3",
        file: "ipam-components",
        namespace: "metal3-ipam-system",
        prefix: "ipam",
        objects: &[
            ("Namespace", "metal3-ipam-system"),
            ("ServiceAccount", "ipam-manager"),
            ("Role", "ipam-leader-election-role"),
            ("ClusterRole", "ipam-manager-role"),
            ("RoleBinding", "ipam-leader-election-rolebinding"),
            ("ClusterRoleBinding", "ipam-manager-rolebinding"),
            ("Service", "ipam-webhook-service"),
            ("Deployment", "ipam-controller-manager"),
            ("Certificate", "ipam-serving-cert"),
            ("Issuer", "ipam-selfsigned-issuer"),
            ("MutatingWebhookConfiguration", "ipam-mutating-webhook-configuration"),
            ("ValidatingWebhookConfiguration", "ipam-validating-webhook-configuration"),
        ],
        crds: 3,
        webhooks: [3, 3],
        port: "ipam-webhook",
        variables: &[("IPAM_DIAGNOSTICS_ADDRESS", ":8443"), ("IPAM_INSECURE_DIAGNOSTICS", "false")],
        args: &[
            "--controllers=ipam",
            "--leader-elect=true",
            "--webhook-port=9443",
            "--diagnostics-address=:8443",
            "--insecure-diagnostics=false",
        ],
    },
];

impl Facts {
    fn raw(&self, suffix: &str) -> String {
        read(&release(self.label).join(format!("{}{suffix}.yaml", self.file)))
    }

    fn with(&self, given: &[(&str, &str)]) -> Vec<Value> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Variables>();
        documents(&render(&self.raw(""), &given).unwrap())
    }

    fn objects(&self) -> Vec<Value> {
        self.with(&[])
    }

    fn self_signed(&self) -> Vec<Value> {
        documents(&render(&self.raw("-self-signed"), &Variables::new()).unwrap())
    }
}

fn id(object: &Value) -> (&str, &str) {
    (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let all: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(all.len(), 1, "{kind}");
    all[0]
}

fn pod(objects: &[Value]) -> &Value {
    &only(objects, "Deployment")["spec"]["template"]["spec"]
}

fn container(objects: &[Value]) -> &Value {
    let containers = pod(objects)["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

const CLUSTER_SCOPED: [&str; 6] = [
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

#[test]
fn ap_1_exactly_the_objects_of_the_go_providers() {
    for facts in PROVIDERS {
        let objects = facts.objects();
        let (crds, others): (Vec<_>, Vec<_>) = objects.iter().partition(|o| o["kind"] == "CustomResourceDefinition");
        assert_eq!(crds.len(), facts.crds);
        let names: BTreeSet<_> = others.iter().map(|object| id(object)).collect();
        assert_eq!(names, facts.objects.iter().copied().collect());
        assert_eq!(objects.len(), facts.crds + facts.objects.len(), "an object twice");
        if facts.prefix == "capm3" {
            assert_eq!(objects.len(), 22, "P-35");
        }
        for crd in crds {
            let (_, name) = id(crd);
            let injected = &crd["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
            assert_eq!(*injected, format!("{}/{}-serving-cert", facts.namespace, facts.prefix), "P-32 {name}");
        }
    }
}

#[test]
fn ap_2_substituted_with_the_defaults() {
    for facts in PROVIDERS {
        let objects = facts.objects();
        assert_eq!(container(&objects)["args"], json!(facts.args), "P-30 with PH-1");
        if facts.prefix == "capm3" {
            assert_eq!(only(&objects, "ConfigMap")["data"], json!({"CAPM3_FAST_TRACK": "false"}));
        }
    }
}

#[test]
fn ph_5_fast_track_is_text_whatever_is_given() {
    for (value, expected) in [("true", "true"), ("'true'", "'true'"), ("", "false")] {
        let objects = PROVIDERS[0].with(&[("CAPM3_FAST_TRACK", value)]);
        assert_eq!(only(&objects, "ConfigMap")["data"]["CAPM3_FAST_TRACK"], expected);
    }
}

#[test]
fn ap_13_and_ph_7_every_definition_says_how_it_converts() {
    for facts in PROVIDERS {
        for crd in facts.objects().iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
            let conversion = &crd["spec"]["conversion"];
            assert_eq!(conversion["strategy"], "Webhook", "{:?}", id(crd));
            let service = json!({
                "name": format!("{}-webhook-service", facts.prefix), "namespace": facts.namespace, "path": "/convert",
            });
            assert_eq!(conversion["webhook"]["clientConfig"], json!({ "service": service }));
            assert_eq!(conversion["webhook"]["conversionReviewVersions"], json!(["v1", "v1beta1"]));
        }
    }
}

#[test]
fn k_93_every_object_carries_the_provider_s_label() {
    for facts in PROVIDERS {
        for object in facts.objects().into_iter().chain(facts.self_signed()) {
            assert_eq!(object["metadata"]["labels"]["cluster.x-k8s.io/provider"], facts.label, "{:?}", id(&object));
        }
    }
}

#[test]
fn k_94_the_two_providers_share_no_object() {
    let all = PROVIDERS.map(|facts| facts.objects());
    let key = |object: &Value| {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        format!("{} {namespace}/{}", object["kind"], object["metadata"]["name"])
    };
    let [infra, ipam] = all.map(|objects| objects.iter().map(key).collect::<BTreeSet<_>>());
    assert_eq!(infra.intersection(&ipam).count(), 0);
}

fn files(label: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(release(label)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn k_97_the_release_folders_hold_what_clusterctl_looks_for() {
    let infra = files("infrastructure-metal3");
    for name in ["infrastructure-components.yaml", "metadata.yaml", "cluster-template.yaml", "example_variables.rc"] {
        assert!(infra.contains(name), "{name}");
    }
    let ipam = ["ipam-components-self-signed.yaml", "ipam-components.yaml", "metadata.yaml"];
    assert_eq!(files("ipam-metal3"), ipam.map(str::to_owned).into());
}

/// `<base>/<provider label>/<version>/<files>`: a label is a folder, a version has its `v`, and nothing else is there.
#[test]
fn k_98_the_layout_of_a_local_repository() {
    let below = |folder: &std::path::Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let base = root().join("clusterctl");
    assert_eq!(below(&base), PROVIDERS.iter().map(|facts| facts.label.to_owned()).collect());
    for facts in PROVIDERS {
        assert_eq!(below(&base.join(facts.label)), [format!("v{}", env!("CARGO_PKG_VERSION"))].into());
    }
}

#[test]
fn k_99_the_configuration_names_both_providers() {
    let settings = documents(&read(&root().join("clusterctl/clusterctl.yaml")));
    let providers = settings[0]["providers"].as_array().unwrap();
    for (facts, kind) in PROVIDERS.iter().zip(["InfrastructureProvider", "IPAMProvider"]) {
        let provider = providers.iter().find(|provider| provider["type"] == kind).unwrap();
        assert_eq!(provider["name"], "metal3");
        let url = format!("${{CLUSTERCTL_REPOSITORY_PATH}}/{}/latest/{}.yaml", facts.label, facts.file);
        assert_eq!(provider["url"], url);
    }
}

/// clusterctl knows both names; what it makes of them are the label and the file.
#[test]
fn k_92_two_identities() {
    for (facts, kind) in PROVIDERS.iter().zip(["infrastructure", "ipam"]) {
        assert_eq!(facts.label, format!("{kind}-metal3"));
        assert!(files(facts.label).contains(&format!("{kind}-components.yaml")));
    }
}

#[test]
fn k_102_and_p_38_series_and_their_contracts() {
    for facts in PROVIDERS {
        let metadata = documents(&read(&release(facts.label).join("metadata.yaml")));
        assert_eq!(metadata[0]["apiVersion"], "clusterctl.cluster.x-k8s.io/v1alpha3");
        assert_eq!(metadata[0]["kind"], "Metadata");
        let series = metadata[0]["releaseSeries"].as_array().unwrap().iter();
        let series: BTreeMap<_, _> = series
            .map(|s| ((s["major"].as_u64().unwrap(), s["minor"].as_u64().unwrap()), s["contract"].as_str().unwrap()))
            .collect();
        let contract = |minor| if minor >= 13 { "v1beta2" } else { "v1beta1" };
        let version: Vec<u64> = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap()).collect();
        // None that is newer: clusterctl would look for `latest` there.
        assert_eq!(series, (1..=version[1]).map(|minor| ((1, minor), contract(minor))).collect());
        assert_eq!(series[&(version[0], version[1])], "v1beta2");
    }
}

#[test]
fn k_104_one_namespace_and_everything_namespaced_is_in_it() {
    for facts in PROVIDERS {
        let objects = facts.objects();
        let namespace = only(&objects, "Namespace");
        assert_eq!(namespace["metadata"]["name"], facts.namespace);
        assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted", "P-33");
        for object in &objects {
            let own = &object["metadata"]["namespace"];
            let cluster_scoped = CLUSTER_SCOPED.contains(&id(object).0);
            assert!(if cluster_scoped { own.is_null() } else { own == facts.namespace }, "{:?}", id(object));
        }
    }
}

/// That it takes `--namespace` is the flags' own test.
#[test]
fn k_105_the_container_is_named_manager() {
    for facts in PROVIDERS {
        assert_eq!(container(&facts.objects())["name"], "manager");
    }
}

#[test]
fn k_111_and_p_30_the_deployment_is_the_go_provider_s() {
    for facts in PROVIDERS {
        let objects = facts.objects();
        let deployment = only(&objects, "Deployment");
        let labels = json!({
            "cluster.x-k8s.io/provider": facts.label, "control-plane": "controller-manager", "controller-tools.k8s.io": "1.0",
        });
        assert_eq!(deployment["metadata"]["labels"], labels);
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], labels, "immutable");
        assert_eq!(deployment["spec"]["template"]["metadata"]["labels"], labels);
        assert_eq!(deployment["spec"]["replicas"], 1);

        let manager = container(&objects);
        assert_eq!(manager["command"], json!(["/manager"]));
        let ports = manager["ports"].as_array().unwrap().iter();
        let ports: BTreeMap<_, _> =
            ports.map(|p| (p["name"].as_str().unwrap(), p["containerPort"].as_u64().unwrap())).collect();
        assert_eq!(ports, BTreeMap::from([(facts.port, 9443), ("healthz", 9440), ("metrics", 8443)]));
        assert_eq!(manager["securityContext"]["runAsUser"], 65532);
        assert_eq!(manager["securityContext"]["runAsGroup"], 65532);
        assert_eq!(manager["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(manager["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(manager["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(manager["imagePullPolicy"], "IfNotPresent");
        assert_eq!(manager["terminationMessagePolicy"], "FallbackToLogsOnError");
        let mount = &manager["volumeMounts"][0];
        assert_eq!(mount["mountPath"], "/tmp/k8s-webhook-server/serving-certs");
        assert_eq!(mount["readOnly"], true);

        let pod = pod(&objects);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["serviceAccountName"], format!("{}-manager", facts.prefix));
        assert_eq!(pod["terminationGracePeriodSeconds"], 10);
        let secret = format!("{}-webhook-service-cert", facts.prefix);
        assert_eq!(pod["volumes"], json!([{"name": "cert", "secret": {"defaultMode": 420, "secretName": secret}}]));
        assert_eq!(only(&objects, "Certificate")["spec"]["secretName"], secret);
    }
}

#[test]
fn k_107_and_p_36_the_variables_and_their_defaults() {
    for facts in PROVIDERS {
        for suffix in ["", "-self-signed"] {
            let found: BTreeSet<_> = variables(&facts.raw(suffix)).into_iter().collect();
            let wanted =
                facts.variables.iter().map(|(name, default)| ((*name).to_owned(), Some((*default).to_owned())));
            assert_eq!(found, wanted.collect(), "{}", facts.label);
        }
    }
}

/// clusterctl rewrites a namespace in these places and no other.
#[test]
fn k_109_the_namespace_stands_only_where_it_is_rewritten() {
    fn walk(value: &Value, path: &str, found: &mut impl FnMut(&str, &str)) {
        match value {
            Value::String(text) => found(path, text),
            Value::Array(items) => items.iter().for_each(|item| walk(item, &format!("{path}[]"), found)),
            Value::Object(fields) => {
                fields.iter().for_each(|(name, below)| walk(below, &format!("{path}.{name}"), found))
            }
            _ => {}
        }
    }
    let rewritten = [
        ".metadata.namespace",
        ".metadata.annotations.cert-manager.io/inject-ca-from",
        ".spec.conversion.webhook.clientConfig.service.namespace",
        ".spec.dnsNames[]",
        ".subjects[].namespace",
        ".webhooks[].clientConfig.service.namespace",
    ];
    for facts in PROVIDERS {
        let mut seen = BTreeSet::new();
        for object in facts.objects().into_iter().chain(facts.self_signed()) {
            walk(&object, "", &mut |path, text| {
                let its_name = object["kind"] == "Namespace" && path == ".metadata.name";
                if text.contains(facts.namespace) && !its_name {
                    assert!(rewritten.contains(&path), "{:?} {path}: {text}", id(&object));
                    seen.insert(path.to_owned());
                }
            });
        }
        assert_eq!(seen, rewritten.map(str::to_owned).into());
        for name in only(&facts.objects(), "Certificate")["spec"]["dnsNames"].as_array().unwrap() {
            assert!(name.as_str().unwrap().contains(&format!(".{}.", facts.namespace)), "how clusterctl finds it");
        }
    }
}

/// Image overrides take a reference apart (registry and path, name, tag), also in a file whose variables stand as they are.
#[test]
fn k_110_images_are_plain_references() {
    for facts in PROVIDERS {
        let raw = read(&release(facts.label).join(format!("{}.yaml", facts.file)));
        let image = format!("registry.local/capm3/capm3-manager:v{}", env!("CARGO_PKG_VERSION"));
        assert!(raw.contains(&format!("image: {image}\n")), "{}", facts.label);
        let objects = facts.objects();
        assert_eq!(container(&objects)["image"], image);
        assert!(pod(&objects)["initContainers"].is_null());
    }
}

#[test]
fn k_112_ready_means_that_webhooks_are_served() {
    for facts in PROVIDERS {
        let objects = facts.objects();
        let manager = container(&objects);
        assert_eq!(manager["readinessProbe"], json!({"httpGet": {"path": "/readyz", "port": "healthz"}}));
        assert_eq!(manager["livenessProbe"], json!({"httpGet": {"path": "/healthz", "port": "healthz"}}));
        let service = only(&objects, "Service");
        assert_eq!(service["spec"]["ports"], json!([{"port": 443, "targetPort": facts.port}]), "P-31");
        let selector = json!({"cluster.x-k8s.io/provider": facts.label, "control-plane": "controller-manager"});
        assert_eq!(service["spec"]["selector"], selector, "PH-4");
        let certificate = &only(&objects, "Certificate")["spec"];
        let host = format!("{}-webhook-service.{}.svc", facts.prefix, facts.namespace);
        assert_eq!(certificate["dnsNames"], json!([host, format!("{host}.cluster.local")]));
        let issuer = only(&objects, "Issuer");
        assert_eq!(issuer["spec"], json!({"selfSigned": {}}));
        assert_eq!(certificate["issuerRef"], json!({"kind": "Issuer", "name": issuer["metadata"]["name"]}));
    }
}

fn definitions() -> Vec<Value> {
    let all = PROVIDERS.iter().flat_map(Facts::objects);
    all.filter(|object| object["kind"] == "CustomResourceDefinition").collect()
}

fn is_infrastructure(crd: &Value) -> bool {
    crd["spec"]["group"] == "infrastructure.cluster.x-k8s.io"
}

#[test]
fn k_1_and_ty_5_definitions_say_which_contract_their_versions_keep() {
    for crd in definitions().iter().filter(|crd| is_infrastructure(crd)) {
        let labels = &crd["metadata"]["labels"];
        assert_eq!(labels["cluster.x-k8s.io/v1beta1"], "v1beta1", "{:?}", id(crd));
        assert_eq!(labels["cluster.x-k8s.io/v1beta2"], "v1beta2");
        let moved = crd["spec"]["names"]["kind"] == "Metal3DataTemplate";
        assert_eq!(labels["clusterctl.cluster.x-k8s.io/move"].is_string(), moved, "K-131");
    }
}

/// Core computes the name of a definition from the kind; one that it would compute differently is exempt by annotation.
#[test]
fn k_3_definitions_are_named_as_core_computes_it() {
    for crd in definitions() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_lowercase();
        let plural = match kind.as_str() {
            "metal3data" => "metal3data".to_owned(),
            word if word.ends_with('s') => format!("{word}es"),
            word => format!("{word}s"),
        };
        let group = crd["spec"]["group"].as_str().unwrap();
        let exempt = "clusterctl.cluster.x-k8s.io/skip-crd-name-preflight-check";
        let as_computed = id(&crd).1 == format!("{plural}.{group}");
        assert_eq!(as_computed, crd["metadata"]["annotations"][exempt].is_null(), "{:?}", id(&crd));
        assert_eq!(id(&crd).1, format!("{}.{group}", crd["spec"]["names"]["plural"].as_str().unwrap()));
    }
}

#[test]
fn k_4_everything_is_namespaced_and_templates_are_named_after_their_kind() {
    let all = definitions();
    let kinds: BTreeSet<_> = all.iter().map(|crd| crd["spec"]["names"]["kind"].as_str().unwrap()).collect();
    for crd in &all {
        assert_eq!(crd["spec"]["scope"], "Namespaced");
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        assert_eq!(crd["spec"]["names"]["listKind"], format!("{kind}List"));
        if let Some(made) = kind.strip_suffix("Template").filter(|made| *made != "Metal3Data") {
            assert!(kinds.contains(made), "{kind}");
            let newest = crd["spec"]["versions"].as_array().unwrap().last().unwrap();
            let template = "/schema/openAPIV3Schema/properties/spec/properties/template/properties/spec";
            assert!(newest.pointer(template).is_some(), "{kind} has spec.template.spec");
        }
    }
}

#[test]
fn k_5_both_versions_are_served_and_the_newer_is_stored() {
    for crd in definitions().iter().filter(|crd| is_infrastructure(crd)) {
        let versions = crd["spec"]["versions"].as_array().unwrap().iter();
        let versions: Vec<_> =
            versions.map(|v| (v["name"].as_str().unwrap(), v["served"] == true, v["storage"] == true)).collect();
        assert_eq!(versions, [("v1beta1", true, false), ("v1beta2", true, true)], "{:?}", id(crd));
    }
}

/// Metal3MachineTemplate has one too, because it tells its capacity (K-54, K-55).
#[test]
fn k_7_status_is_a_subresource() {
    for crd in definitions().iter().filter(|crd| is_infrastructure(crd)) {
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let without = crd["spec"]["names"]["kind"] == "Metal3ClusterTemplate";
            assert_eq!(version["subresources"]["status"].is_null(), without, "{:?}", id(crd));
        }
    }
}

/// The one group of ours that core reads is in its role already: nothing is granted to it.
#[test]
fn k_8_no_right_is_aggregated_to_cluster_api() {
    for facts in PROVIDERS {
        for object in facts.objects().iter().filter(|object| object["kind"] == "ClusterRole") {
            let labels = object["metadata"]["labels"].as_object().unwrap();
            assert!(!labels.keys().any(|label| label.contains("aggregate-to")), "{labels:?}");
            assert!(object["aggregationRule"].is_null());
        }
    }
}

#[test]
fn k_22_and_41_templates_carry_metadata_for_what_they_make() {
    for kind in ["Metal3ClusterTemplate", "Metal3MachineTemplate"] {
        let crd = definitions().into_iter().find(|crd| crd["spec"]["names"]["kind"] == kind).unwrap();
        let stored =
            crd["spec"]["versions"].as_array().unwrap().iter().find(|version| version["storage"] == true).unwrap();
        let template =
            &stored["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["template"]["properties"];
        for map in ["labels", "annotations"] {
            assert_eq!(template["metadata"]["properties"][map]["additionalProperties"]["type"], "string", "{kind}");
        }
        assert_eq!(template["spec"]["type"], "object");
    }
}

/// Zero values that the schema filled in would fight what a topology's user gives.
#[test]
fn k_23_no_endpoint_is_filled_in_by_a_schema() {
    fn defaults(schema: &Value) -> bool {
        schema["default"].is_null()
            && schema["properties"].as_object().into_iter().flatten().all(|(_, below)| defaults(below))
    }
    for kind in ["Metal3Cluster", "Metal3ClusterTemplate"] {
        let crd = definitions().into_iter().find(|crd| crd["spec"]["names"]["kind"] == kind).unwrap();
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
            assert!(defaults(spec), "{kind} {}", version["name"]);
        }
    }
}

/// What users of the older version have stored and written, whether anything reads it or not.
#[test]
fn k_211_deprecated_fields_are_accepted() {
    let accepted = [
        ("Metal3DataTemplate", "v1beta1", json!({"spec": {"clusterName": "c", "templateReference": "t"}})),
        ("Metal3DataTemplate", "v1beta2", json!({"spec": {"clusterName": "c"}})),
        (
            "Metal3Machine",
            "v1beta1",
            json!({"status": {"phase": "p", "failureReason": "r", "failureMessage": "m", "ready": true}}),
        ),
        (
            "Metal3Cluster",
            "v1beta2",
            json!({"status": {"deprecated": {"v1beta1": {"failureReason": "r", "failureMessage": "m", "conditions": []}}}}),
        ),
        (
            "Metal3Machine",
            "v1beta2",
            json!({"status": {"deprecated": {"v1beta1": {"failureReason": "r", "failureMessage": "m"}}}}),
        ),
    ];
    for (kind, version, object) in accepted {
        let crd = definitions().into_iter().find(|crd| crd["spec"]["names"]["kind"] == kind).unwrap();
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let schema = &versions.iter().find(|served| served["name"] == version).unwrap()["schema"]["openAPIV3Schema"];
        assert_eq!(support::refused(schema, &object), Vec::<String>::new(), "{kind} {version}");
    }
}

#[test]
fn ph_1_the_shipped_manifests_elect_a_leader() {
    for facts in PROVIDERS {
        let objects = facts.objects();
        assert!(container(&objects)["args"].as_array().unwrap().contains(&json!("--leader-elect=true")));
        let lease = &only(&objects, "Role")["rules"][0];
        assert_eq!(lease["resources"], json!(["leases"]), "P-21");
    }
}

#[test]
fn ph_6_the_scrape_annotations_are_a_port_and_a_scheme() {
    for facts in PROVIDERS {
        let expected = json!({
            "prometheus.io/path": "/metrics", "prometheus.io/port": "8443", "prometheus.io/scheme": "https",
            "prometheus.io/scrape": "true",
        });
        assert_eq!(only(&facts.objects(), "Deployment")["spec"]["template"]["metadata"]["annotations"], expected);
    }
}

#[test]
fn k_47_and_w_2_webhooks_are_registered_as_the_go_providers_do() {
    for facts in PROVIDERS {
        let objects = facts.objects();
        let kinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
        for (kind, count) in kinds.into_iter().zip(facts.webhooks) {
            let configuration = only(&objects, kind);
            let injected = &configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
            assert_eq!(*injected, format!("{}/{}-serving-cert", facts.namespace, facts.prefix));
            let webhooks = configuration["webhooks"].as_array().unwrap();
            assert_eq!(webhooks.len(), count);
            for webhook in webhooks {
                assert_eq!(webhook["sideEffects"], "None", "K-47");
                assert_eq!(webhook["failurePolicy"], "Fail");
                assert_eq!(webhook["matchPolicy"], "Equivalent", "W-1");
                assert_eq!(webhook["admissionReviewVersions"], json!(["v1", "v1beta1"]));
                assert_eq!(webhook["rules"][0]["operations"], json!(["CREATE", "UPDATE"]), "W-3");
                for absent in ["namespaceSelector", "objectSelector", "timeoutSeconds"] {
                    assert!(webhook[absent].is_null());
                }
            }
        }
    }
}

/// Group, resource and verb of everything a role allows.
fn rights(rules: &Value) -> BTreeSet<(String, String, String)> {
    let words = |rule: &Value, key: &str| -> Vec<String> {
        rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut found = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                found.extend(words(rule, "verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    found
}

const READ: &str = "get list watch";
const ALL: &str = "create delete get list patch update watch";
const STATUS: &str = "get patch update";

/// P-20 with P-22, and the same of the Go address manager.
const GO_RIGHTS: [&[(&str, &str, &str)]; 2] = [
    &[
        ("", "events", "create get list patch update watch"),
        ("", "secrets", ALL),
        ("apiextensions.k8s.io", "customresourcedefinitions", "get list watch patch update"),
        ("apiextensions.k8s.io", "customresourcedefinitions/status", "patch update"),
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "subjectaccessreviews", "create"),
        ("cluster.x-k8s.io", "clusters clusters/status machinesets", READ),
        ("cluster.x-k8s.io", "machinedeployments machines machines/status", ALL),
        ("controlplane.cluster.x-k8s.io", "kubeadmcontrolplanes", READ),
        (
            "infrastructure.cluster.x-k8s.io",
            "metal3clusters metal3clustertemplates metal3dataclaims metal3datas metal3datatemplates metal3machines \
             metal3machinetemplates metal3remediations",
            ALL,
        ),
        (
            "infrastructure.cluster.x-k8s.io",
            "metal3clusters/status metal3dataclaims/status metal3datas/status metal3datatemplates/status metal3machines/status \
             metal3remediations/status",
            STATUS,
        ),
        ("infrastructure.cluster.x-k8s.io", "metal3remediationtemplates", "get list watch patch"),
        ("infrastructure.cluster.x-k8s.io", "metal3remediationtemplates/status metal3machinetemplates/status", "patch"),
        ("ipam.cluster.x-k8s.io", "ipaddressclaims", ALL),
        ("ipam.cluster.x-k8s.io", "ipaddressclaims/status", "get watch"),
        ("ipam.cluster.x-k8s.io", "ipaddresses", READ),
        ("ipam.metal3.io", "ipaddresses ippools", READ),
        ("ipam.metal3.io", "ipclaims", ALL),
        ("ipam.metal3.io", "ipclaims/status", "get watch"),
        ("metal3.io", "baremetalhosts", ALL),
        ("metal3.io", "baremetalhosts/status", STATUS),
    ],
    &[
        ("", "events", "create get list patch update watch"),
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("authorization.k8s.io", "subjectaccessreviews", "create"),
        ("cluster.x-k8s.io", "clusters", READ),
        ("cluster.x-k8s.io", "clusters/status", "get"),
        ("ipam.cluster.x-k8s.io", "ipaddressclaims ipaddresses", ALL),
        ("ipam.cluster.x-k8s.io", "ipaddressclaims/status ipaddresses/status", STATUS),
        ("ipam.metal3.io", "ipaddresses ipclaims ippools", ALL),
        ("ipam.metal3.io", "ipaddresses/status ipclaims/status ippools/status", STATUS),
    ],
];

#[test]
fn p_20_and_22_no_right_that_the_go_provider_does_not_have() {
    for (facts, table) in PROVIDERS.iter().zip(GO_RIGHTS) {
        let mut allowed = BTreeSet::new();
        for (group, resources, verbs) in table {
            for resource in resources.split(' ') {
                let verbs = verbs.split(' ').map(|verb| ((*group).to_owned(), resource.to_owned(), verb.to_owned()));
                allowed.extend(verbs);
            }
        }
        let ours = rights(&only(&facts.objects(), "ClusterRole")["rules"]);
        let more: Vec<_> = ours.difference(&allowed).collect();
        assert!(more.is_empty(), "{}: {more:?}", facts.label);
        assert!(ours.len() > 10);
    }
}

/// P-22 and the security bar of docs/spec/proof.md: what a stolen token must not be able to do.
#[test]
fn p_22_no_secret_is_listed_and_of_cluster_api_only_a_hand_over_is_written() {
    for facts in PROVIDERS {
        for (group, resource, verb) in rights(&only(&facts.objects(), "ClusterRole")["rules"]) {
            let what = format!("{}: {verb} {resource}.{group}", facts.label);
            assert!(!["*", "escalate", "bind", "impersonate"].contains(&verb.as_str()) && resource != "*", "{what}");
            assert!(!["nodes", "pods", "volumeattachments"].contains(&resource.as_str()), "{what}");
            let reads = READ.split(' ').any(|read| read == verb);
            let hands_over = (resource.as_str(), verb.as_str()) == ("machines/status", "patch"); // K-88
            assert!(!group.ends_with("cluster.x-k8s.io") || group.starts_with("i") || reads || hands_over, "{what}");
            if resource == "secrets" {
                assert!(!["list", "watch"].contains(&verb.as_str()) && facts.prefix == "capm3", "{what}");
            }
        }
    }
}

/// What survives an upgrade is patched by the next version: its name must be the same, and what is immutable in it (K-123, K-127).
#[test]
fn k_127_bindings_refer_to_the_roles_of_the_go_providers() {
    for facts in PROVIDERS {
        let objects = facts.objects();
        let api = "rbac.authorization.k8s.io";
        for (binding, role, name) in
            [("ClusterRoleBinding", "ClusterRole", "manager"), ("RoleBinding", "Role", "leader-election")]
        {
            let binding = only(&objects, binding);
            assert_eq!(
                binding["roleRef"],
                json!({"apiGroup": api, "kind": role, "name": format!("{}-{name}-role", facts.prefix)})
            );
            let account = json!({"kind": "ServiceAccount", "name": format!("{}-manager", facts.prefix), "namespace": facts.namespace});
            assert_eq!(binding["subjects"], json!([account]));
        }
    }
}

/// Without cert-manager: the same objects but for what names it, and the rights that signing takes.
#[test]
fn without_cert_manager_nothing_of_it_is_left_and_little_is_added() {
    for facts in PROVIDERS {
        let (with, without) = (facts.objects(), facts.self_signed());
        assert!(!facts.raw("-self-signed").contains("cert-manager"));
        let left: BTreeSet<_> = without.iter().map(id).collect();
        let gone: Vec<_> = with.iter().map(id).filter(|object| !left.contains(object)).map(|(kind, _)| kind).collect();
        assert_eq!(gone, ["Issuer", "Certificate"]);
        assert_eq!(without.len() + 2, with.len());

        let manager = container(&without);
        assert!(manager["args"].as_array().unwrap().contains(&json!("--self-signed")));
        assert!(manager["volumeMounts"].is_null() && pod(&without)["volumes"].is_null());

        let cluster = |objects: &[Value]| rights(&only(objects, "ClusterRole")["rules"]);
        let (before, after) = (cluster(&with), cluster(&without));
        assert!(before.is_subset(&after));
        let named = only(&without, "ClusterRole")["rules"].as_array().unwrap().iter();
        let named: Vec<_> = named.filter(|rule| rule["apiGroups"][0] == "admissionregistration.k8s.io").collect();
        assert_eq!(named.len(), 1);
        let configurations =
            ["mutating", "validating"].map(|phase| format!("{}-{phase}-webhook-configuration", facts.prefix));
        assert_eq!(named[0]["resourceNames"], json!(configurations));
        for (_, _, verb) in after.difference(&before) {
            assert!(["get", "list", "watch", "patch"].contains(&verb.as_str()), "{verb}");
        }
        let own =
            only(&without, "Role")["rules"].as_array().unwrap().iter().filter(|rule| rule["resources"][0] == "secrets");
        let names: Vec<_> = own.map(|rule| &rule["resourceNames"]).collect();
        assert_eq!(names, [&Value::Null, &json!([format!("{}-webhook-service-cert", facts.prefix)])]);
    }
}

#[test]
fn p_39_the_image_is_a_binary_and_a_user() {
    let recipe = read(&root().join("Containerfile"));
    let (_, image) = recipe.split_once("FROM scratch\n").unwrap();
    let lines: Vec<_> = image.lines().collect();
    let expected =
        ["COPY --from=build /manager /manager", "WORKDIR /", "USER 65532:65532", "ENTRYPOINT [\"/manager\"]"];
    assert_eq!(lines, expected);
    for facts in PROVIDERS {
        let objects = facts.objects();
        assert_eq!(container(&objects)["command"], json!(["/manager"]));
        assert_eq!(container(&objects)["securityContext"]["runAsUser"], 65532);
    }
    let toolchain = read(&root().join("rust-toolchain.toml"));
    let version = toolchain.split('"').nth(1).unwrap();
    assert!(recipe.contains(&format!("rust:{version}-")) && recipe.contains(&format!("RUSTUP_TOOLCHAIN={version}\n")));
}
