//! The CustomResourceDefinitions, made from the types: names, versions, columns, labels, conversion (api-types 1, ipam 1).
//!
//! The schemas are a superset of the published ones, so that whatever a cluster stored stays acceptable; a test compares
//! the two field by field and lists every difference with its reason.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::infra::{v1beta1, v1beta2};
use crate::ipam::v1alpha1;
use crate::k8s::CustomResourceDefinition;
use crate::names::{INFRA_GROUP, INFRA_PROVIDER, IPAM_GROUP, IPAM_PROVIDER, annotation, label};
use crate::schema::structural;

/// What the definitions name of the installation they belong to.
pub const INFRA_NAMESPACE: &str = "capm3-system";
pub const INFRA_WEBHOOK_SERVICE: &str = "capm3-webhook-service";
pub const INFRA_CERTIFICATE: &str = "capm3-system/capm3-serving-cert";
pub const IPAM_NAMESPACE: &str = "metal3-ipam-system";
pub const IPAM_WEBHOOK_SERVICE: &str = "ipam-webhook-service";
pub const IPAM_CERTIFICATE: &str = "metal3-ipam-system/ipam-serving-cert";

/// The names of [`infrastructure`], for who needs them without building the schemas.
pub const INFRA_CRDS: [&str; 9] = [
    "metal3clusters.infrastructure.cluster.x-k8s.io",
    "metal3clustertemplates.infrastructure.cluster.x-k8s.io",
    "metal3dataclaims.infrastructure.cluster.x-k8s.io",
    "metal3datas.infrastructure.cluster.x-k8s.io",
    "metal3datatemplates.infrastructure.cluster.x-k8s.io",
    "metal3machines.infrastructure.cluster.x-k8s.io",
    "metal3machinetemplates.infrastructure.cluster.x-k8s.io",
    "metal3remediations.infrastructure.cluster.x-k8s.io",
    "metal3remediationtemplates.infrastructure.cluster.x-k8s.io",
];

/// The nine kinds of the infrastructure provider, in name order.
pub fn infrastructure() -> Vec<CustomResourceDefinition> {
    INFRA.iter().map(|kind| kind.definition(INFRA_GROUP)).collect()
}

/// The three kinds of the address manager, in name order.
pub fn ipam() -> Vec<CustomResourceDefinition> {
    IPAM.iter().map(|kind| kind.definition(IPAM_GROUP)).collect()
}

/// The schema a kind is stored under. Made once: it follows from the types alone.
pub(crate) fn stored_schema(kind: &str) -> Option<&'static Value> {
    static SCHEMAS: LazyLock<BTreeMap<&'static str, Value>> = LazyLock::new(|| {
        let stored = |kind: &Kind| Some((kind.kind, kind.versions.last()?.schema(kind.about)));
        INFRA.iter().chain(IPAM).filter_map(stored).collect()
    });
    SCHEMAS.get(kind)
}

struct Kind {
    kind: &'static str,
    plural: &'static str,
    about: &'static str,
    category: &'static str,
    short: &'static [&'static str],
    /// Oldest first; the last is stored.
    versions: &'static [Version],
}

#[derive(Clone, Copy)]
struct Version {
    name: &'static str,
    columns: &'static [(&'static str, &'static str)],
    spec: fn() -> Value,
    status: Option<fn() -> Value>,
    /// Whether writes to status go to a subresource.
    subresource: bool,
    spec_required: bool,
}

const AGE: (&str, &str) = ("Age", ".metadata.creationTimestamp");
const CLUSTER: (&str, &str) = ("Cluster", r".metadata.labels.cluster\.x-k8s\.io/cluster-name");

const fn version(name: &'static str, columns: &'static [(&'static str, &'static str)], spec: fn() -> Value) -> Version {
    Version { name, columns, spec, status: None, subresource: false, spec_required: false }
}

const fn with_status(version: Version, status: fn() -> Value) -> Version {
    Version { status: Some(status), subresource: true, ..version }
}

const fn with_required_spec(version: Version) -> Version {
    Version { spec_required: true, ..version }
}

const REMEDIATION_COLUMNS: &[(&str, &str)] = &[
    ("Retry limit", ".spec.strategy.retryLimit"),
    ("Retry count", ".status.retryCount"),
    ("Last Remediated", ".status.lastRemediated"),
    ("Strategy", ".spec.strategy.type"),
    ("Phase", ".status.phase"),
];

const INFRA: &[Kind] = &[
    Kind {
        kind: "Metal3Cluster",
        plural: "metal3clusters",
        about: "The infrastructure of one workload cluster.",
        category: "cluster-api",
        short: &["m3c", "m3cluster", "m3clusters", "metal3c", "metal3cluster"],
        versions: &[
            with_status(
                version(
                    "v1beta1",
                    &[
                        AGE,
                        ("Ready", ".status.ready"),
                        ("Error", ".status.failureReason"),
                        CLUSTER,
                        ("Endpoint", ".spec.controlPlaneEndpoint"),
                    ],
                    structural::<v1beta1::Metal3ClusterSpec>,
                ),
                structural::<v1beta1::Metal3ClusterStatus>,
            ),
            with_status(
                version(
                    "v1beta2",
                    &[
                        AGE,
                        ("Provisioned", ".status.initialization.provisioned"),
                        ("Error", ".status.deprecated.v1beta1.failureReason"),
                        CLUSTER,
                        ("Endpoint", ".spec.controlPlaneEndpoint"),
                    ],
                    structural::<v1beta2::Metal3ClusterSpec>,
                ),
                structural::<v1beta2::Metal3ClusterStatus>,
            ),
        ],
    },
    Kind {
        kind: "Metal3ClusterTemplate",
        plural: "metal3clustertemplates",
        about: "Template of the Metal3Clusters that a ClusterClass stamps out.",
        category: "cluster-api",
        short: &["m3ct"],
        versions: &[
            version("v1beta1", &[], structural::<v1beta1::Metal3ClusterTemplateSpec>),
            with_required_spec(version("v1beta2", &[], structural::<v1beta2::Metal3ClusterTemplateSpec>)),
        ],
    },
    Kind {
        kind: "Metal3DataClaim",
        plural: "metal3dataclaims",
        about: "A machine's request for one rendering of a data template.",
        category: "cluster-api",
        short: &["m3dc", "m3dataclaim", "m3dataclaims", "metal3dc", "metal3dataclaim"],
        versions: &[
            with_status(
                version("v1beta1", &[AGE], structural::<v1beta1::Metal3DataClaimSpec>),
                structural::<v1beta1::Metal3DataClaimStatus>,
            ),
            with_status(
                version("v1beta2", &[AGE], structural::<v1beta2::Metal3DataClaimSpec>),
                structural::<v1beta2::Metal3DataClaimStatus>,
            ),
        ],
    },
    Kind {
        kind: "Metal3Data",
        plural: "metal3datas",
        about: "One rendering of a data template.",
        category: "cluster-api",
        short: &["m3d", "m3data", "m3datas", "metal3d", "metal3data"],
        versions: &[
            with_status(
                version("v1beta1", &[AGE], structural::<v1beta1::Metal3DataSpec>),
                structural::<v1beta1::Metal3DataStatus>,
            ),
            with_status(
                version("v1beta2", &[AGE], structural::<v1beta2::Metal3DataSpec>),
                structural::<v1beta2::Metal3DataStatus>,
            ),
        ],
    },
    Kind {
        kind: "Metal3DataTemplate",
        plural: "metal3datatemplates",
        about: "Recipe for the metadata and network data of machines.",
        category: "cluster-api",
        short: &["m3dt", "m3datatemplate", "m3datatemplates", "metal3dt", "metal3datatemplate"],
        versions: &[
            with_status(
                version("v1beta1", &[CLUSTER, AGE], structural::<v1beta1::Metal3DataTemplateSpec>),
                structural::<v1beta1::Metal3DataTemplateStatus>,
            ),
            with_status(
                version("v1beta2", &[CLUSTER, AGE], structural::<v1beta2::Metal3DataTemplateSpec>),
                structural::<v1beta2::Metal3DataTemplateStatus>,
            ),
        ],
    },
    Kind {
        kind: "Metal3Machine",
        plural: "metal3machines",
        about: "One machine of a workload cluster, running on a claimed host.",
        category: "cluster-api",
        short: &["m3m", "m3machine", "m3machines", "metal3m", "metal3machine"],
        versions: &[
            with_status(
                version(
                    "v1beta1",
                    &[
                        AGE,
                        ("ProviderID", ".spec.providerID"),
                        ("Ready", ".status.ready"),
                        CLUSTER,
                        ("Phase", ".status.phase"),
                    ],
                    structural::<v1beta1::Metal3MachineSpec>,
                ),
                structural::<v1beta1::Metal3MachineStatus>,
            ),
            with_status(
                version(
                    "v1beta2",
                    &[
                        AGE,
                        ("ProviderID", ".spec.providerID"),
                        ("Provisioned", ".status.initialization.provisioned"),
                        CLUSTER,
                    ],
                    structural::<v1beta2::Metal3MachineSpec>,
                ),
                structural::<v1beta2::Metal3MachineStatus>,
            ),
        ],
    },
    Kind {
        kind: "Metal3MachineTemplate",
        plural: "metal3machinetemplates",
        about: "Template of Metal3Machines.",
        category: "cluster-api",
        short: &["m3mt", "m3machinetemplate", "m3machinetemplates", "metal3mt", "metal3machinetemplate"],
        versions: &[
            // K-54; the same in both versions, so that conversion has nothing to do.
            with_status(
                version("v1beta1", &[AGE], structural::<v1beta1::Metal3MachineTemplateSpec>),
                structural::<v1beta2::Metal3MachineTemplateStatus>,
            ),
            with_required_spec(with_status(
                version("v1beta2", &[AGE], structural::<v1beta2::Metal3MachineTemplateSpec>),
                structural::<v1beta2::Metal3MachineTemplateStatus>,
            )),
        ],
    },
    Kind {
        kind: "Metal3Remediation",
        plural: "metal3remediations",
        about: "One attempt to bring a machine back to health.",
        category: "cluster-api",
        short: &["m3r", "m3remediation"],
        versions: &[
            with_status(
                version("v1beta1", REMEDIATION_COLUMNS, structural::<v1beta1::Metal3RemediationSpec>),
                structural::<v1beta1::Metal3RemediationStatus>,
            ),
            with_status(
                version("v1beta2", REMEDIATION_COLUMNS, structural::<v1beta2::Metal3RemediationSpec>),
                structural::<v1beta2::Metal3RemediationStatus>,
            ),
        ],
    },
    Kind {
        kind: "Metal3RemediationTemplate",
        plural: "metal3remediationtemplates",
        about: "Template of Metal3Remediations.",
        category: "cluster-api",
        short: &["m3rt", "m3remediationtemplate", "m3remediationtemplates", "metal3rt", "metal3remediationtemplate"],
        versions: &[
            with_status(
                version("v1beta1", &[], structural::<v1beta1::Metal3RemediationTemplateSpec>),
                structural::<v1beta1::Metal3RemediationTemplateStatus>,
            ),
            with_status(
                version("v1beta2", &[], structural::<v1beta2::Metal3RemediationTemplateSpec>),
                structural::<v1beta2::Metal3RemediationTemplateStatus>,
            ),
        ],
    },
];

const IPAM: &[Kind] = &[
    Kind {
        kind: "IPAddress",
        plural: "ipaddresses",
        about: "One address in use.",
        category: "metal3",
        short: &[
            "ipa",
            "ipaddress",
            "m3ipa",
            "m3ipaddress",
            "m3ipaddresses",
            "metal3ipa",
            "metal3ipaddress",
            "metal3ipaddresses",
        ],
        versions: &[version("v1alpha1", &[AGE], structural::<v1alpha1::IPAddressSpec>)],
    },
    Kind {
        kind: "IPClaim",
        plural: "ipclaims",
        about: "A request for one address of a pool.",
        category: "cluster-api",
        short: &["ipc", "ipclaim", "m3ipc", "m3ipclaim", "m3ipclaims", "metal3ipc", "metal3ipclaim", "metal3ipclaims"],
        versions: &[with_status(
            version("v1alpha1", &[AGE], structural::<v1alpha1::IPClaimSpec>),
            structural::<v1alpha1::IPClaimStatus>,
        )],
    },
    Kind {
        kind: "IPPool",
        plural: "ippools",
        about: "A pool of addresses.",
        category: "cluster-api",
        short: &["ipp", "ippool", "m3ipp", "m3ippool", "m3ippools", "metal3ipp", "metal3ippool", "metal3ippools"],
        versions: &[with_status(
            version("v1alpha1", &[CLUSTER, AGE], structural::<v1alpha1::IPPoolSpec>),
            structural::<v1alpha1::IPPoolStatus>,
        )],
    },
];

impl Kind {
    #[expect(clippy::expect_used, reason = "made of constants and of the types of this crate; a test builds every one")]
    fn definition(&self, group: &str) -> CustomResourceDefinition {
        serde_json::from_value(self.manifest(group)).expect("a CustomResourceDefinition")
    }

    fn manifest(&self, group: &str) -> Value {
        let infra = group == INFRA_GROUP;
        let mut labels = json!({ label::PROVIDER: if infra { INFRA_PROVIDER } else { IPAM_PROVIDER } });
        let mut annotations = json!({});
        if infra {
            // Which of our versions speak which contract; without them Cluster API reads the older field paths (K-2).
            labels["cluster.x-k8s.io/v1beta1"] = "v1beta1".into();
            labels["cluster.x-k8s.io/v1beta2"] = "v1beta2".into();
        }
        match self.kind {
            "Metal3DataTemplate" => labels[label::MOVE] = "".into(),
            "Metal3Data" => annotations[annotation::SKIP_CRD_NAME_CHECK] = "".into(),
            _ => {}
        }
        // IPAM has one version and nothing to convert (I-2). The Go provider's definitions say Webhook all the same, and an
        // upgrade merges ours over them: with strategy None what stays of theirs would be refused (K-108, K-127).
        let (namespace, service, certificate) = if infra {
            (INFRA_NAMESPACE, INFRA_WEBHOOK_SERVICE, INFRA_CERTIFICATE)
        } else {
            (IPAM_NAMESPACE, IPAM_WEBHOOK_SERVICE, IPAM_CERTIFICATE)
        };
        annotations[annotation::INJECT_CA_FROM] = certificate.into();
        let conversion = json!({
            "strategy": "Webhook",
            "webhook": {
                "conversionReviewVersions": ["v1", "v1beta1"],
                "clientConfig": {"service": {"namespace": namespace, "name": service, "path": "/convert"}},
            },
        });
        let newest = self.versions.len() - 1;
        let versions: Vec<_> =
            self.versions.iter().enumerate().map(|(i, v)| v.manifest(self.about, i == newest)).collect();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{}.{group}", self.plural),
                "labels": labels,
                "annotations": annotations,
            },
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {
                    "kind": self.kind,
                    "listKind": format!("{}List", self.kind),
                    "plural": self.plural,
                    "singular": self.kind.to_lowercase(),
                    "shortNames": self.short,
                    "categories": [self.category],
                },
                "conversion": conversion,
                "versions": versions,
            },
        })
    }
}

impl Version {
    fn schema(&self, about: &str) -> Value {
        let mut schema = json!({
            "type": "object",
            "description": about,
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": (self.spec)(),
            },
        });
        if let Some(status) = self.status {
            let mut status = status();
            if status["properties"]["observedGeneration"].is_object() {
                // What nobody has looked at yet is not current, and it costs no write to say so: nothing else may be
                // read of an absent status (kstatus takes it for done).
                status["default"] = json!({"observedGeneration": -1});
            }
            schema["properties"]["status"] = status;
        }
        if self.spec_required {
            schema["required"] = json!(["spec"]);
        }
        schema
    }

    fn manifest(&self, about: &str, stored: bool) -> Value {
        let mut version = json!({
            "name": self.name,
            "served": true,
            "storage": stored,
            "schema": {"openAPIV3Schema": self.schema(about)},
        });
        if !stored {
            version["deprecated"] = true.into();
        }
        if self.subresource {
            version["subresources"] = json!({"status": {}});
        }
        if !self.columns.is_empty() {
            let column = |(name, path): &(&str, &str)| {
                let kind = if *name == AGE.0 { "date" } else { "string" };
                json!({"name": name, "type": kind, "jsonPath": path})
            };
            version["additionalPrinterColumns"] = self.columns.iter().map(column).collect();
        }
        version
    }
}
