//! Views of other projects' kinds: the fields our rules read or write, nothing else.
//!
//! Everything is optional and unknown fields are dropped, so these are for reading, for caching, and as the two sides of a
//! merge patch; never send one as a whole object.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::{SecretRef, V1Beta1Condition};
use crate::infra::v1beta2::{ApiEndpoint, CustomDeploy};
use crate::k8s::{ByteString, Condition, ObjectReference, Time};
use crate::kind::kind;
use crate::names::{CAPI_CONTROL_PLANE_GROUP, CAPI_GROUP, CAPI_IPAM_GROUP, HOST_GROUP};

macro_rules! view {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[serde(skip_serializing_if = "absent", deserialize_with = "nullable")]
                pub $field: $ty,
            )*
        }
    )*};
}

/// What equals its default is not written.
fn absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Go programs write `null` for lists and maps that were never set.
fn nullable<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

kind! {
    /// A physical host under the care of the host operator.
    BareMetalHost, "baremetalhosts", HOST_GROUP, "v1alpha1", spec: BareMetalHostSpec, status: BareMetalHostStatus
}
kind! {
    /// The same host with its status exactly as served, for the record a move needs (M-17).
    BareMetalHostRecord, "baremetalhosts", HOST_GROUP, "v1alpha1", status: Value
}
kind! {
    /// The same host as far as who holds it: one whose other fields nobody can read is held all the same.
    HostTenure, "baremetalhosts", HOST_GROUP, "v1alpha1", spec: HostTenureSpec
}
kind! {
    /// A workload cluster.
    Cluster, "clusters", CAPI_GROUP, "v1beta2", spec: ClusterSpec, status: ClusterStatus
}
kind! {
    /// A machine of a workload cluster.
    Machine, "machines", CAPI_GROUP, "v1beta2", spec: MachineSpec, status: MachineStatus
}
kind! {
    /// Machines of one revision.
    MachineSet, "machinesets", CAPI_GROUP, "v1beta2", spec: MachineSetSpec
}
kind! {
    /// Machines through their revisions.
    MachineDeployment, "machinedeployments", CAPI_GROUP, "v1beta2", spec: MachineSetSpec
}
kind! {
    /// The control plane of a workload cluster.
    KubeadmControlPlane, "kubeadmcontrolplanes", CAPI_CONTROL_PLANE_GROUP, "v1beta2", spec: KubeadmControlPlaneSpec
}
kind! {
    /// Cluster API's request for an address.
    IPAddressClaim, "ipaddressclaims", CAPI_IPAM_GROUP, "v1beta2", spec: IPAddressClaimSpec, status: IPAddressClaimStatus
}
kind! {
    /// Cluster API's address.
    IPAddress, "ipaddresses", CAPI_IPAM_GROUP, "v1beta2", spec: IPAddressSpec
}
kind! {
    /// The definition of a kind, without its schemas.
    CustomResourceDefinition, "customresourcedefinitions", "apiextensions.k8s.io", "v1", spec: DefinitionSpec, status: DefinitionStatus
}
kind! {
    /// A Node of a workload cluster.
    Node, "nodes", "", "v1", spec: NodeSpec, status: NodeStatus
}
kind! {
    /// A Pod of a workload cluster, as far as whether it still runs.
    Pod, "pods", "", "v1", spec: PodSpec, status: PodStatus
}
kind! {
    /// A volume that a Node of a workload cluster has.
    VolumeAttachment, "volumeattachments", "storage.k8s.io", "v1", spec: VolumeAttachmentSpec
}
kind! {
    /// A Secret without what is in it.
    SecretMeta, "secrets", "", "v1"; type_ as "type": Option<String>
}
kind! {
    /// A Secret; shows its keys and never its values.
    Secret, "secrets", "", "v1"; type_ as "type": Option<String>; data as "data": SecretData
}

view! {
    HostTenureSpec {
        /// Read by [`HostTenure::consumer`].
        consumer_ref: Value,
    }

    BareMetalHostSpec {
        automated_cleaning_mode: Option<String>,
        bmc: Option<HostBmc>,
        #[serde(rename = "bootMACAddress")]
        boot_mac_address: Option<String>,
        consumer_ref: Option<ObjectReference>,
        custom_deploy: Option<CustomDeploy>,
        disable_power_off: Option<bool>,
        externally_provisioned: Option<bool>,
        image: Option<HostImage>,
        meta_data: Option<SecretRef>,
        network_data: Option<SecretRef>,
        /// Present on every stored host: the schema demands it.
        online: Option<bool>,
        taints: Vec<Value>,
        user_data: Option<SecretRef>,
    }
    HostBmc {
        address: Option<String>,
        credentials_name: Option<String>,
    }
    /// An image as the host operator names its parts.
    HostImage {
        url: String,
        checksum: Option<String>,
        checksum_type: Option<String>,
        format: Option<String>,
    }
    BareMetalHostStatus {
        error_message: Option<String>,
        error_type: Option<String>,
        good_credentials: Option<UsedCredentials>,
        hardware: Option<HostHardware>,
        operational_status: Option<String>,
        powered_on: Option<bool>,
        provisioning: Option<HostProvisioning>,
    }
    /// The BMC Secret as the host operator last used it with success.
    UsedCredentials {
        credentials: Option<SecretRef>,
        /// The Secret's resourceVersion then.
        credentials_version: String,
    }
    HostProvisioning {
        state: String,
        #[serde(rename = "ID")]
        id: Option<String>,
    }
    HostHardware {
        cpu: Option<HostCpu>,
        hostname: Option<String>,
        nics: Vec<HostNic>,
        ram_mebibytes: Option<i64>,
    }
    HostCpu {
        arch: Option<String>,
        count: Option<i64>,
    }
    HostNic {
        name: String,
        mac: String,
        ip: Option<String>,
    }

    /// A reference inside one namespace, as Cluster API writes them.
    ContractRef {
        api_group: Option<String>,
        kind: String,
        name: String,
    }
    ClusterSpec {
        paused: Option<bool>,
        infrastructure_ref: Option<ContractRef>,
        control_plane_ref: Option<ContractRef>,
        control_plane_endpoint: Option<ApiEndpoint>,
    }
    ClusterStatus {
        conditions: Vec<Condition>,
        deprecated: Option<DeprecatedStatus>,
        initialization: Option<ClusterInitialization>,
        phase: Option<String>,
    }
    ClusterInitialization {
        infrastructure_provisioned: Option<bool>,
        control_plane_initialized: Option<bool>,
    }
    DeprecatedStatus {
        v1beta1: Option<DeprecatedV1Beta1>,
    }
    DeprecatedV1Beta1 {
        conditions: Vec<V1Beta1Condition>,
    }
    MachineSpec {
        bootstrap: Option<Bootstrap>,
        cluster_name: String,
        failure_domain: Option<String>,
        infrastructure_ref: Option<ContractRef>,
        #[serde(rename = "providerID")]
        provider_id: Option<String>,
        version: Option<String>,
    }
    Bootstrap {
        config_ref: Option<ContractRef>,
        data_secret_name: Option<String>,
    }
    MachineStatus {
        conditions: Vec<Condition>,
        deprecated: Option<DeprecatedStatus>,
        node_ref: Option<NameRef>,
        phase: Option<String>,
    }
    NameRef {
        name: String,
    }
    MachineSetSpec {
        cluster_name: String,
        template: Option<MachineTemplateBody>,
    }
    MachineTemplateBody {
        spec: Option<MachineSpec>,
    }
    KubeadmControlPlaneSpec {
        machine_template: Option<ControlPlaneMachineTemplate>,
    }
    ControlPlaneMachineTemplate {
        spec: Option<ControlPlaneMachineSpec>,
    }
    ControlPlaneMachineSpec {
        infrastructure_ref: Option<ContractRef>,
    }

    IPAddressClaimSpec {
        cluster_name: Option<String>,
        pool_ref: Option<ContractRef>,
    }
    IPAddressClaimStatus {
        address_ref: Option<NameRef>,
        conditions: Vec<Condition>,
        deprecated: Option<DeprecatedStatus>,
    }
    IPAddressSpec {
        address: String,
        claim_ref: Option<NameRef>,
        gateway: Option<String>,
        pool_ref: Option<ContractRef>,
        prefix: Option<i32>,
    }

    DefinitionSpec {
        group: String,
        names: DefinitionNames,
        versions: Vec<DefinitionVersion>,
    }
    DefinitionNames {
        kind: String,
        plural: String,
    }
    DefinitionVersion {
        name: String,
        served: bool,
        storage: bool,
        subresources: Option<DefinitionSubresources>,
    }
    DefinitionSubresources {
        /// Present, and empty, when the status is written apart.
        status: Option<Value>,
    }
    DefinitionStatus {
        stored_versions: Vec<String>,
    }

    NodeSpec {
        #[serde(rename = "providerID")]
        provider_id: Option<String>,
        taints: Vec<Taint>,
    }
    Taint {
        key: String,
        value: Option<String>,
        effect: String,
        time_added: Option<Time>,
    }
    PodSpec {
        tolerations: Vec<Toleration>,
    }
    Toleration {
        key: Option<String>,
        operator: Option<String>,
        value: Option<String>,
        effect: Option<String>,
    }
    PodStatus {
        phase: Option<String>,
    }
    VolumeAttachmentSpec {
        node_name: String,
    }
    NodeStatus {
        conditions: Vec<NodeCondition>,
    }
    NodeCondition {
        #[serde(rename = "type")]
        type_: String,
        status: String,
    }
}

/// Values of a Secret, which do not print.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretData(pub BTreeMap<String, ByteString>);

impl SecretData {
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(|bytes| bytes.0.as_slice())
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl BareMetalHost {
    /// `status.provisioning.state`, empty before the host operator has looked at the host.
    pub fn state(&self) -> &str {
        self.status.as_ref().and_then(|s| s.provisioning.as_ref()).map_or("", |p| p.state.as_str())
    }
}

impl HostTenure {
    /// Whoever holds the host; what cannot be read names nobody.
    #[must_use]
    pub fn consumer(&self) -> Option<ObjectReference> {
        serde_json::from_value(self.spec.consumer_ref.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn h_6_a_host_that_nobody_can_read_is_held_all_the_same() {
        let consumer = json!({"kind": "Metal3Machine", "namespace": "ns", "name": "m1"});
        let host =
            json!({"metadata": {"name": "h"}, "spec": {"consumerRef": consumer, "online": "maybe"}, "status": 5});
        assert!(serde_json::from_value::<BareMetalHost>(host.clone()).is_err());
        let tenure: HostTenure = serde_json::from_value(host).unwrap();
        assert_eq!(tenure.consumer().and_then(|consumer| consumer.name).as_deref(), Some("m1"));
        let odd: HostTenure = serde_json::from_value(json!({"spec": {"consumerRef": 7}})).unwrap();
        assert_eq!(odd.consumer(), None);
    }
}
