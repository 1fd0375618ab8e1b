//! The kinds that are written and looked at by name.

use kube::core::ApiResource;

/// A kind in the version in which it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
}

impl Kind {
    const fn new(api_version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self { api_version, kind, plural }
    }

    /// Empty for a kind of the core.
    pub fn group(self) -> &'static str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(self.plural, "namespaces" | "nodes" | "volumeattachments")
    }

    pub fn resource(self) -> ApiResource {
        let version = self.api_version.split_once('/').map_or(self.api_version, |(_, version)| version);
        ApiResource {
            group: self.group().to_owned(),
            version: version.to_owned(),
            api_version: self.api_version.to_owned(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }

    /// As the server files it: `plural.group`, or the plural of a core kind.
    pub fn filed(self) -> String {
        match self.group() {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

const INFRA: &str = "infrastructure.cluster.x-k8s.io/v1beta2";
const IPAM: &str = "ipam.metal3.io/v1alpha1";
const CAPI: &str = "cluster.x-k8s.io/v1beta2";
const CAPI_IPAM: &str = "ipam.cluster.x-k8s.io/v1beta2";

pub const NAMESPACE: Kind = Kind::new("v1", "Namespace", "namespaces");
pub const SECRET: Kind = Kind::new("v1", "Secret", "secrets");
pub const NODE: Kind = Kind::new("v1", "Node", "nodes");
pub const POD: Kind = Kind::new("v1", "Pod", "pods");
pub const VOLUME_ATTACHMENT: Kind = Kind::new("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments");
pub const EVENT: Kind = Kind::new("v1", "Event", "events");
pub const HOST: Kind = Kind::new("metal3.io/v1alpha1", "BareMetalHost", "baremetalhosts");
pub const CLUSTER: Kind = Kind::new(CAPI, "Cluster", "clusters");
pub const MACHINE: Kind = Kind::new(CAPI, "Machine", "machines");
pub const MACHINE_SET: Kind = Kind::new(CAPI, "MachineSet", "machinesets");
pub const MACHINE_DEPLOYMENT: Kind = Kind::new(CAPI, "MachineDeployment", "machinedeployments");
pub const CONTROL_PLANE: Kind =
    Kind::new("controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlane", "kubeadmcontrolplanes");
pub const BOOTSTRAP: Kind = Kind::new("bootstrap.cluster.x-k8s.io/v1beta2", "KubeadmConfig", "kubeadmconfigs");
pub const METAL3_CLUSTER: Kind = Kind::new(INFRA, "Metal3Cluster", "metal3clusters");
pub const METAL3_MACHINE: Kind = Kind::new(INFRA, "Metal3Machine", "metal3machines");
pub const METAL3_MACHINE_TEMPLATE: Kind = Kind::new(INFRA, "Metal3MachineTemplate", "metal3machinetemplates");
pub const REMEDIATION: Kind = Kind::new(INFRA, "Metal3Remediation", "metal3remediations");
pub const DATA: Kind = Kind::new(INFRA, "Metal3Data", "metal3datas");
pub const DATA_CLAIM: Kind = Kind::new(INFRA, "Metal3DataClaim", "metal3dataclaims");
pub const DATA_TEMPLATE: Kind = Kind::new(INFRA, "Metal3DataTemplate", "metal3datatemplates");
pub const POOL: Kind = Kind::new(IPAM, "IPPool", "ippools");
pub const IP_CLAIM: Kind = Kind::new(IPAM, "IPClaim", "ipclaims");
pub const IP_ADDRESS: Kind = Kind::new(IPAM, "IPAddress", "ipaddresses");
pub const CAPI_IP_CLAIM: Kind = Kind::new(CAPI_IPAM, "IPAddressClaim", "ipaddressclaims");
pub const CAPI_IP_ADDRESS: Kind = Kind::new(CAPI_IPAM, "IPAddress", "ipaddresses");
