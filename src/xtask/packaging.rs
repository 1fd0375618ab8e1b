//! The components files of both providers: everything `clusterctl init` installs
//! (docs/spec/remediation-webhooks-packaging.md section 6 with PH-1, PH-4, PH-5, PH-6; capi-contract.md 4.1 to 4.3).
//!
//! One description serves both; the two files share no object (K-94). Each file exists twice: with certificates of cert-manager's,
//! which is what clusterctl installs, and for managers that sign their own.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Release of both providers (design: parity with 1.14, above its patches).
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));
const INJECT: &str = "cert-manager.io/inject-ca-from";
const PHASES: [&str; 2] = ["Mutating", "Validating"];
/// A plain reference (K-110): clusterctl parses it also where it substitutes nothing, and puts its own `images` in its place.
const REGISTRY: &str = "registry.local/capm3";

/// Where the certificate comes from that webhooks are served with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Certificates {
    CertManager,
    SelfSigned,
}

/// What differs between the two providers.
pub struct Provider {
    /// Value of the provider label and name of the folder in a release repository.
    pub label: &'static str,
    prefix: &'static str,
    namespace: &'static str,
    controllers: &'static str,
    extra_args: &'static [&'static str],
    diagnostics: (&'static str, &'static str),
    fast_track: bool,
    /// Name of the container port that webhooks are served on.
    webhook_port: &'static str,
    /// Name of the components file without its ending.
    components: &'static str,
    webhooks: &'static [Webhook],
}

struct Webhook {
    kind: &'static str,
    resource: &'static str,
    mutating: bool,
}

const fn webhook(kind: &'static str, resource: &'static str, mutating: bool) -> Webhook {
    Webhook { kind, resource, mutating }
}

pub const INFRASTRUCTURE: Provider = Provider {
    label: "infrastructure-metal3",
    prefix: "capm3",
    namespace: "capm3-system",
    controllers: "infra",
    extra_args: &["--enable-bmh-name-based-preallocation=${ENABLE_BMH_NAME_BASED_PREALLOCATION:=false}"],
    diagnostics: ("CAPM3_DIAGNOSTICS_ADDRESS", "CAPM3_INSECURE_DIAGNOSTICS"),
    fast_track: true,
    webhook_port: "webhook-server",
    components: "infrastructure-components",
    webhooks: &[
        webhook("metal3cluster", "metal3clusters", true),
        webhook("metal3clustertemplate", "metal3clustertemplates", false),
        webhook("metal3data", "metal3datas", false),
        webhook("metal3dataclaim", "metal3dataclaims", false),
        webhook("metal3datatemplate", "metal3datatemplates", false),
        webhook("metal3machine", "metal3machines", false),
        webhook("metal3machinetemplate", "metal3machinetemplates", false),
        webhook("metal3remediation", "metal3remediations", false),
        webhook("metal3remediationtemplate", "metal3remediationtemplates", true),
    ],
};

pub const IPAM: Provider = Provider {
    label: "ipam-metal3",
    prefix: "ipam",
    namespace: "metal3-ipam-system",
    controllers: "ipam",
    extra_args: &[],
    diagnostics: ("IPAM_DIAGNOSTICS_ADDRESS", "IPAM_INSECURE_DIAGNOSTICS"),
    fast_track: false,
    webhook_port: "ipam-webhook",
    components: "ipam-components",
    webhooks: &[
        webhook("ipaddress", "ipaddresses", true),
        webhook("ipclaim", "ipclaims", true),
        webhook("ippool", "ippools", true),
    ],
};

impl Provider {
    fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.prefix)
    }

    fn api(&self) -> (&'static str, &'static str) {
        if self.fast_track { ("infrastructure.cluster.x-k8s.io", "v1beta2") } else { ("ipam.metal3.io", "v1alpha1") }
    }

    pub fn components(&self, certificates: Certificates) -> String {
        let suffix = if certificates == Certificates::SelfSigned { "-self-signed" } else { "" };
        format!("{}{suffix}.yaml", self.components)
    }

    /// Every object of the components file, labelled, in the order they are installed.
    pub fn objects(&self, certificates: Certificates) -> Result<Vec<Value>> {
        let mut objects = vec![self.namespace()];
        for crd in self.crds() {
            objects.push(serde_json::to_value(crd).context("serialise a CRD")?);
        }
        objects.extend(self.rbac(certificates));
        if self.fast_track {
            objects.push(self.fast_track_settings());
        }
        objects.extend([self.service(), self.deployment(certificates)]);
        if certificates == Certificates::CertManager {
            objects.extend([self.issuer(), self.certificate()]);
        }
        objects.extend(PHASES.map(|phase| self.webhook_configuration(phase)));
        for object in &mut objects {
            object["metadata"]["labels"]["cluster.x-k8s.io/provider"] = self.label.into();
            if object["kind"] == "CustomResourceDefinition" {
                object.as_object_mut().map(|crd| crd.remove("status"));
            }
            let annotations = object["metadata"].get_mut("annotations").and_then(Value::as_object_mut);
            if let Some(annotations) = annotations.filter(|_| certificates == Certificates::SelfSigned) {
                annotations.remove(INJECT);
                if annotations.is_empty() {
                    object["metadata"].as_object_mut().map(|metadata| metadata.remove("annotations"));
                }
            }
        }
        Ok(objects)
    }

    fn crds(&self) -> Vec<capm3_api::k8s::CustomResourceDefinition> {
        if self.fast_track { capm3_api::crds::infrastructure() } else { capm3_api::crds::ipam() }
    }

    fn namespace(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        })
    }

    fn metadata(&self, name: &str) -> Value {
        json!({"name": name, "namespace": self.namespace, "labels": {}})
    }

    fn rbac(&self, certificates: Certificates) -> Vec<Value> {
        let account = self.name("manager");
        let subjects = json!([{"kind": "ServiceAccount", "name": account, "namespace": self.namespace}]);
        let mut rules = if self.fast_track { crate::rbac::infrastructure() } else { crate::rbac::ipam() };
        let mut own = crate::rbac::leader_election();
        if certificates == Certificates::SelfSigned {
            // IPAM's kinds have one version: nothing of theirs is ever converted.
            let crds = if self.fast_track { &capm3_api::crds::INFRA_CRDS[..] } else { &[] };
            let configurations = PHASES.map(|phase| self.configuration_name(phase));
            rules.extend(crate::rbac::self_signed(crds, &configurations.each_ref().map(String::as_str)));
            own.extend(crate::rbac::self_signed_namespaced(&self.name("webhook-service-cert")));
        }
        let (cluster, leader) = (self.name("manager-role"), self.name("leader-election-role"));
        let api = "rbac.authorization.k8s.io/v1";
        let refers =
            |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        vec![
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": self.metadata(&account)}),
            json!({"apiVersion": api, "kind": "Role", "metadata": self.metadata(&leader), "rules": own}),
            json!({"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": cluster, "labels": {}}, "rules": rules}),
            json!({
                "apiVersion": api, "kind": "RoleBinding", "metadata": self.metadata(&self.name("leader-election-rolebinding")),
                "roleRef": refers("Role", &leader), "subjects": subjects,
            }),
            json!({
                "apiVersion": api, "kind": "ClusterRoleBinding",
                "metadata": {"name": self.name("manager-rolebinding"), "labels": {}},
                "roleRef": refers("ClusterRole", &cluster), "subjects": subjects,
            }),
        ]
    }

    fn fast_track_settings(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": self.metadata(&self.name("capm3fasttrack-configmap")),
            "data": {"CAPM3_FAST_TRACK": "${CAPM3_FAST_TRACK:=false}"},
        })
    }

    fn selector(&self) -> Value {
        json!({"cluster.x-k8s.io/provider": self.label, "control-plane": "controller-manager"})
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(&self.name("webhook-service")),
            "spec": {"ports": [{"port": 443, "targetPort": self.webhook_port}], "selector": self.selector()},
        })
    }

    fn deployment(&self, certificates: Certificates) -> Value {
        let (address, insecure) = self.diagnostics;
        let mut args = vec![
            format!("--controllers={}", self.controllers),
            "--leader-elect=true".to_owned(),
            "--webhook-port=9443".to_owned(),
        ];
        if certificates == Certificates::SelfSigned {
            args.push("--self-signed".to_owned());
        }
        args.extend(self.extra_args.iter().map(|&arg| arg.to_owned()));
        args.push(format!("--diagnostics-address=${{{address}:=:8443}}"));
        args.push(format!("--insecure-diagnostics=${{{insecure}:=false}}"));
        let mut labels = self.selector();
        labels["controller-tools.k8s.io"] = "1.0".into();
        let probe = |path: &str| json!({"httpGet": {"path": path, "port": "healthz"}});
        let port = |name: &str, number: u16| json!({"name": name, "containerPort": number, "protocol": "TCP"});
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        let mut container = json!({
            "name": "manager",
            "command": ["/manager"],
            "args": args,
            "image": format!("{REGISTRY}/capm3-manager:{VERSION}"),
            "imagePullPolicy": "IfNotPresent",
            "env": [
                {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
                {"name": "POD_NAME", "valueFrom": field("metadata.name")},
            ],
            "ports": [port(self.webhook_port, 9443), port("healthz", 9440), port("metrics", 8443)],
            "readinessProbe": probe("/readyz"),
            "livenessProbe": probe("/healthz"),
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
        });
        if self.fast_track {
            container["envFrom"] = json!([{"configMapRef": {"name": self.name("capm3fasttrack-configmap")}}]);
        }
        let tolerate = |role: &str| json!({"effect": "NoSchedule", "key": format!("node-role.kubernetes.io/{role}")});
        let mut pod = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "serviceAccountName": self.name("manager"),
            "terminationGracePeriodSeconds": 10,
            "tolerations": [tolerate("master"), tolerate("control-plane")],
        });
        if certificates == Certificates::CertManager {
            container["volumeMounts"] = json!([{
                "name": "cert", "mountPath": "/tmp/k8s-webhook-server/serving-certs", "readOnly": true,
            }]);
            pod["volumes"] = json!([{
                "name": "cert", "secret": {"defaultMode": 420, "secretName": self.name("webhook-service-cert")},
            }]);
        }
        pod["containers"] = json!([container]);
        let mut metadata = self.metadata(&self.name("controller-manager"));
        metadata["labels"] = labels.clone();
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {
                        "labels": labels,
                        "annotations": {
                            "prometheus.io/path": "/metrics",
                            "prometheus.io/port": "8443",
                            "prometheus.io/scheme": "https",
                            "prometheus.io/scrape": "true",
                        },
                    },
                    "spec": pod,
                },
            },
        })
    }

    fn issuer(&self) -> Value {
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": self.metadata(&self.name("selfsigned-issuer")),
            "spec": {"selfSigned": {}},
        })
    }

    fn certificate(&self) -> Value {
        let host = format!("{}.{}.svc", self.name("webhook-service"), self.namespace);
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": self.metadata(&self.name("serving-cert")),
            "spec": {
                "dnsNames": [host, format!("{host}.cluster.local")],
                "issuerRef": {"kind": "Issuer", "name": self.name("selfsigned-issuer")},
                "secretName": self.name("webhook-service-cert"),
            },
        })
    }

    fn configuration_name(&self, phase: &str) -> String {
        self.name(&format!("{}-webhook-configuration", phase.to_lowercase()))
    }

    fn webhook_configuration(&self, phase: &str) -> Value {
        let (group, version) = self.api();
        let (verb, names) = if phase == "Mutating" { ("mutate", "default") } else { ("validate", "validation") };
        let entries: Vec<Value> = self
            .webhooks
            .iter()
            .filter(|webhook| phase == "Validating" || webhook.mutating)
            .map(|webhook| {
                json!({
                    "name": format!("{names}.{}.{group}", webhook.kind),
                    "admissionReviewVersions": ["v1", "v1beta1"],
                    "clientConfig": {"service": {
                        "name": self.name("webhook-service"),
                        "namespace": self.namespace,
                        "path": format!("/{verb}-{}-{version}-{}", group.replace('.', "-"), webhook.kind),
                    }},
                    "failurePolicy": "Fail",
                    "matchPolicy": "Equivalent",
                    "rules": [{
                        "apiGroups": [group],
                        "apiVersions": [version],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": [webhook.resource],
                    }],
                    "sideEffects": "None",
                })
            })
            .collect();
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("{phase}WebhookConfiguration"),
            "metadata": {
                "name": self.configuration_name(phase),
                "labels": {},
                "annotations": {
                    INJECT: format!("{}/{}", self.namespace, self.name("serving-cert")),
                },
            },
            "webhooks": entries,
        })
    }
}
