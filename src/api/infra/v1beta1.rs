//! The older version of the nine infrastructure kinds (api-types 5): served, never stored.
//!
//! The types exist for their schemas. Conversion works on the JSON itself, so that it stays total on whatever an API server
//! hands over.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::{SecretRef, V1Beta1Condition};
use crate::k8s::{Condition, ObjectReference, Time};
use crate::schema::{self, patterns};

/// What the infrastructure of one workload cluster is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3ClusterSpec {
    /// An external cloud provider writes the providerID of Nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_provider_enabled: Option<bool>,
    /// Where the workload cluster's API server is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<ApiEndpoint>,
    /// Failure domains by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failure_domains: BTreeMap<String, FailureDomain>,
    /// Deprecated: the opposite of `cloudProviderEnabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_cloud_provider: Option<bool>,
}

/// What was observed of a cluster's infrastructure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3ClusterStatus {
    /// Conditions in the older dialect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::v1beta1_conditions")]
    pub conditions: Vec<V1Beta1Condition>,
    /// Failure domains by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failure_domains: BTreeMap<String, FailureDomain>,
    /// Terminal error, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
    /// Terminal error, as a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// When this status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
    /// Whether machines can be created; what `initialization.provisioned` is in v1beta2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Status in the newer dialect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1beta2: Option<V1Beta2Status>,
}

/// Host and port of an API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiEndpoint {
    /// Host name or address.
    pub host: String,
    /// Port; a Metal3Cluster without one gets 6443.
    pub port: i64,
}

/// A part of the site that fails as one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FailureDomain {
    /// What else is worth knowing about the domain; Cluster API shows it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Whether control plane machines may be placed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<bool>,
}

/// Conditions in the newer dialect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct V1Beta2Status {
    /// Conditions as v1beta2 has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Template of the Metal3Clusters that a ClusterClass stamps out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3ClusterTemplateSpec {
    pub template: ClusterTemplateResource,
}

/// Body of a Metal3ClusterTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterTemplateResource {
    pub spec: Metal3ClusterSpec,
}

/// What one machine is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3MachineSpec {
    /// How the host's disks are cleaned between uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["metadata", "disabled"]))]
    pub automated_cleaning_mode: Option<String>,
    /// A deploy step that takes the place of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_deploy: Option<CustomDeploy>,
    /// Metal3DataTemplate to render metadata and network data from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_reference")]
    pub data_template: Option<ObjectReference>,
    /// Failure domain the host should belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// Restricts which hosts may be claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_selector: Option<HostSelector>,
    /// Image to write to the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Secret with ready-made metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<SecretRef>,
    /// Secret with ready-made network data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<SecretRef>,
    /// `metal3://<namespace>/<host>/<metal3machine>`.
    #[serde(rename = "providerID", skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Secret with user data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<SecretRef>,
}

/// What was observed of one machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3MachineStatus {
    /// Addresses and names of the machine, as the host's hardware details tell them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<MachineAddress>,
    /// Conditions in the older dialect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::v1beta1_conditions")]
    pub conditions: Vec<V1Beta1Condition>,
    /// Terminal error, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
    /// Terminal error, as a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// When this status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// Secret the host gets its metadata from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<SecretRef>,
    /// Secret the host gets its network data from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<SecretRef>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
    /// Never used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Whether the host is provisioned; what `initialization.provisioned` is in v1beta2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Metal3Data rendered for this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_reference")]
    pub rendered_data: Option<ObjectReference>,
    /// Secret the host gets its user data from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<SecretRef>,
    /// Status in the newer dialect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1beta2: Option<V1Beta2Status>,
}

/// An image and how to verify it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Image {
    /// Digest, or URL of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// How the checksum is computed; for the host operator to choose when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["md5", "sha256", "sha512"]))]
    pub checksum_type: Option<String>,
    /// Disk format.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["raw", "qcow2", "vdi", "vmdk", "live-iso"]))]
    pub format: Option<String>,
    /// Where the image is.
    pub url: String,
}

/// A deploy step known to the ramdisk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CustomDeploy {
    /// Name of the step.
    pub method: String,
}

/// Labels a host has to carry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HostSelector {
    /// What the host's labels have to fulfil, all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<HostSelectorRequirement>,
    /// Labels the host has to carry, with their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// One label expression.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HostSelectorRequirement {
    /// Key of the label.
    pub key: String,
    /// `in`, `notin`, `=`, `==`, `!=`, `exists`, `!`, `gt` or `lt`.
    pub operator: String,
    /// What the value is compared with; nothing for `exists` and `!`.
    pub values: Vec<String>,
}

/// One address of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MachineAddress {
    /// The address or name.
    #[schemars(length(min = 1, max = 256))]
    pub address: String,
    /// `Hostname`, `ExternalIP`, `InternalIP`, `ExternalDNS` or `InternalDNS`.
    #[schemars(extend("enum" = ["Hostname", "ExternalIP", "InternalIP", "ExternalDNS", "InternalDNS"]))]
    pub type_: String,
}

/// Template of Metal3Machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3MachineTemplateSpec {
    /// Keep hosts for the machines that replace those of the same owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = false))]
    pub node_reuse: Option<bool>,
    pub template: MachineTemplateResource,
}

/// Body of a Metal3MachineTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MachineTemplateResource {
    pub spec: Metal3MachineSpec,
}

/// How a machine is to be brought back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3RemediationSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RemediationStrategy>,
}

/// Reboot, how often, and how long to wait each time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RemediationStrategy {
    /// Attempts before the machine is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_limit: Option<i64>,
    /// Duration such as `10m0s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What is done: `Reboot` power-cycles the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

/// How far a remediation got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3RemediationStatus {
    /// When the current attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_remediated: Option<Time>,
    /// How far the remediation is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Attempts started so far; absent rather than zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_count: Option<i64>,
}

/// Template of Metal3Remediations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3RemediationTemplateSpec {
    pub template: RemediationTemplateResource,
}

/// Body of a Metal3RemediationTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RemediationTemplateResource {
    pub spec: Metal3RemediationSpec,
}

/// Declared by the API; nothing writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3RemediationTemplateStatus {
    /// What was observed; nothing writes it.
    pub status: Metal3RemediationStatus,
}

/// Asks a data template for one rendering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataClaimSpec {
    /// The Metal3DataTemplate to render.
    #[schemars(schema_with = "schema::object_reference")]
    pub template: ObjectReference,
}

/// What the claim was answered with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataClaimStatus {
    /// `Ready` says whether what was asked for is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// What went wrong, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
    /// The Metal3Data that answers the claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_reference")]
    pub rendered_data: Option<ObjectReference>,
}

/// One rendering of a data template, identified by its index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataSpec {
    /// The Metal3DataClaim that this answers.
    #[schemars(schema_with = "schema::object_reference")]
    pub claim: ObjectReference,
    /// Number of this rendering among its template's, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<i64>,
    /// Secret that the metadata is rendered into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<SecretRef>,
    /// Secret that the network data is rendered into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<SecretRef>,
    /// The Metal3DataTemplate that this renders.
    #[schemars(schema_with = "schema::object_reference")]
    pub template: ObjectReference,
    /// Deprecated; nothing reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_reference: Option<String>,
}

/// Whether the Secrets are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataStatus {
    /// `Ready` says whether what was asked for is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// What went wrong, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
    /// Whether the Secrets are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
}

/// Recipe for the metadata and network data of machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataTemplateSpec {
    /// Deprecated; nothing reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<NetworkData>,
    /// Deprecated; nothing reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_reference: Option<String>,
}

/// Which index belongs to which claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataTemplateStatus {
    /// `Ready` says whether what was asked for is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Index by name of the claim that holds it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub indexes: BTreeMap<String, i64>,
    /// When this status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
}

/// Where each metadata key gets its value from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MetaData {
    /// Keys for a pool's name servers, if the template is annotated with `capm3.metal3.io/render-dns-servers: "true"`.
    #[serde(rename = "dnsServersFromIPPool", skip_serializing_if = "Vec::is_empty")]
    pub dns_servers_from_ip_pool: Vec<FromPool>,
    /// Keys whose value is that of an annotation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_annotations: Vec<FromAnnotation>,
    /// Keys whose value is the MAC address of a host's interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_host_interfaces: Vec<FromHostInterface>,
    /// Keys whose value is that of a label.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_labels: Vec<FromLabel>,
    /// Keys whose value is the gateway of the address from a pool.
    #[serde(rename = "gatewaysFromIPPool", skip_serializing_if = "Vec::is_empty")]
    pub gateways_from_ip_pool: Vec<FromPool>,
    /// Keys whose value is made from the rendering's number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexKey>,
    /// Keys whose value is an address from a pool.
    #[serde(rename = "ipAddressesFromIPPool", skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses_from_ip_pool: Vec<FromPool>,
    /// Keys whose value is the machine's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NamespaceKey>,
    /// Keys whose value is the name of an object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub object_names: Vec<ObjectNameKey>,
    /// Keys whose value is the prefix length, in bits, of the address from a pool.
    #[serde(rename = "prefixesFromIPPool", skip_serializing_if = "Vec::is_empty")]
    pub prefixes_from_ip_pool: Vec<FromPool>,
    /// Keys with a fixed value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strings: Vec<StringKey>,
}

/// A value taken from the address that a pool gives out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FromPool {
    /// API group of the pool.
    pub api_group: String,
    /// Key of the metadata.
    pub key: String,
    /// Kind of the pool.
    pub kind: String,
    /// Name of the pool.
    pub name: String,
}

/// A value taken from an annotation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FromAnnotation {
    /// Key of the annotation.
    pub annotation: String,
    /// Key of the metadata.
    pub key: String,
    /// `machine`, `metal3machine` or `baremetalhost`.
    #[schemars(extend("enum" = ["machine", "metal3machine", "baremetalhost"]))]
    pub object: String,
}

/// The MAC address of a host's interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FromHostInterface {
    /// Take the MAC the host boots from instead of naming an interface.
    #[serde(rename = "fromBootMAC", skip_serializing_if = "Option::is_none")]
    pub from_boot_mac: Option<bool>,
    /// Name of the interface in the host's hardware details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Key of the metadata.
    pub key: String,
}

/// A value taken from a label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FromLabel {
    /// Key of the metadata.
    pub key: String,
    /// Key of the label.
    pub label: String,
    /// `machine`, `metal3machine` or `baremetalhost`.
    #[schemars(extend("enum" = ["machine", "metal3machine", "baremetalhost"]))]
    pub object: String,
}

/// `prefix`, then `offset + index * step`, then `suffix`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IndexKey {
    /// Key of the metadata.
    pub key: String,
    /// Added to the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Text before the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// What the number is multiplied by.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = 1))]
    pub step: Option<i64>,
    /// Text after the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
}

/// The namespace the machine lives in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NamespaceKey {
    /// Key of the metadata.
    pub key: String,
}

/// The name of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectNameKey {
    /// Key of the metadata.
    pub key: String,
    /// `machine`, `metal3machine` or `baremetalhost`.
    #[schemars(extend("enum" = ["machine", "metal3machine", "baremetalhost"]))]
    pub object: String,
}

/// A fixed value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct StringKey {
    /// Key of the metadata.
    pub key: String,
    /// The value itself.
    pub value: String,
}

/// Links, the networks on them, and services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkData {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<Links>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Networks>,
    /// Name servers of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::any_family)]
    pub services: Option<Services>,
}

/// Interfaces by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Links {
    /// Links that join others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bonds: Vec<Bond>,
    /// Physical interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ethernets: Vec<Ethernet>,
    /// Tagged interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<Vlan>,
}

/// Several links joined into one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Bond {
    /// Ids of the joined links.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bond_links: Vec<String>,
    /// How frames are spread over the joined links.
    #[schemars(extend("enum" = ["balance-rr", "active-backup", "balance-xor", "broadcast", "balance-tlb", "balance-alb", "802.3ad"]))]
    pub bond_mode: String,
    /// What of a frame decides which of the joined links it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["layer2", "layer3+4", "layer2+3"]))]
    pub bond_xmit_hash_policy: Option<String>,
    /// Id by which networks and links on top name this one.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<MacAddress>,
    /// Largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9000), extend("x-default" = 1500))]
    pub mtu: Option<i64>,
    /// Name of the interface on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15), regex(pattern = patterns::INTERFACE))]
    pub name: Option<String>,
    /// Passed on as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::anything_by_name")]
    pub parameters: BTreeMap<String, Value>,
}

/// A physical interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Ethernet {
    /// Id by which networks and links on top name this one.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<MacAddress>,
    /// Largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9000), extend("x-default" = 1500))]
    pub mtu: Option<i64>,
    /// Name of the interface on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15), regex(pattern = patterns::INTERFACE))]
    pub name: Option<String>,
    /// Kind of the interface; `phy` is a physical one.
    #[schemars(extend("enum" = ["bridge", "dvs", "hw_veb", "hyperv", "ovs", "tap", "vhostuser", "vif", "phy"]))]
    pub type_: String,
}

/// A tagged interface on top of another link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Vlan {
    /// Id by which networks and links on top name this one.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<MacAddress>,
    /// Largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9000), extend("x-default" = 1500))]
    pub mtu: Option<i64>,
    /// Name of the interface on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15), regex(pattern = patterns::INTERFACE))]
    pub name: Option<String>,
    /// The tag.
    #[serde(rename = "vlanID")]
    #[schemars(range(max = 4096))]
    pub vlan_id: i64,
    /// Id of the link that carries the tag.
    pub vlan_link: String,
}

/// Where a link's MAC address comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MacAddress {
    /// An annotation that holds the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_annotation: Option<AnnotationRef>,
    /// Name of the interface in the host's hardware details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_host_interface: Option<String>,
    /// The address itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string: Option<String>,
}

/// An annotation on one of the objects of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AnnotationRef {
    /// Key of the annotation.
    pub annotation: String,
    /// `machine`, `metal3machine` or `baremetalhost`.
    #[schemars(extend("enum" = ["machine", "metal3machine", "baremetalhost"]))]
    pub object: String,
}

/// Networks by family and by how they are configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Networks {
    /// IPv4 networks with an address from a pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::ipv4)]
    pub ipv4: Vec<StaticNetworkIpv4>,
    /// IPv4 networks configured by DHCP.
    #[serde(rename = "ipv4DHCP", skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::ipv4)]
    pub ipv4_dhcp: Vec<DynamicNetwork>,
    /// IPv6 networks with an address from a pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::ipv6)]
    pub ipv6: Vec<StaticNetworkIpv6>,
    /// IPv6 networks configured by DHCP.
    #[serde(rename = "ipv6DHCP", skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::ipv6)]
    pub ipv6_dhcp: Vec<DynamicNetwork>,
    /// IPv6 networks configured by router advertisements.
    #[serde(rename = "ipv6SLAAC", skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::ipv6)]
    pub ipv6_slaac: Vec<DynamicNetwork>,
}

/// An IPv4 network whose address comes from a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct StaticNetworkIpv4 {
    /// An annotation that holds the name of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_pool_annotation: Option<AnnotationRef>,
    /// The pool that the address comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub from_pool_ref: Option<PoolRef>,
    /// Id of the network.
    pub id: String,
    /// Name of an IPPool; the short form of `fromPoolRef`.
    #[serde(rename = "ipAddressFromIPPool", skip_serializing_if = "Option::is_none")]
    pub ip_address_from_ip_pool: Option<String>,
    /// Id of the link this network is on.
    pub link: String,
    /// Routes that go through this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

/// An IPv6 network whose address comes from a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct StaticNetworkIpv6 {
    /// An annotation that holds the name of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_pool_annotation: Option<AnnotationRef>,
    /// The pool that the address comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub from_pool_ref: Option<PoolRef>,
    /// Id of the network.
    pub id: String,
    /// Name of an IPPool; the short form of `fromPoolRef`.
    #[serde(rename = "ipAddressFromIPPool")]
    pub ip_address_from_ip_pool: String,
    /// Id of the link this network is on.
    pub link: String,
    /// Routes that go through this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

/// A network configured by DHCP or router advertisements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DynamicNetwork {
    /// Id of the network.
    pub id: String,
    /// Id of the link this network is on.
    pub link: String,
    /// Routes that go through this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

/// One route; its family is that of the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Route {
    pub gateway: Gateway,
    /// Destination; `0.0.0.0` or `::` with prefix 0 is everything else.
    pub network: String,
    /// Length of the destination's prefix, in bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<i64>,
    /// Name servers, rendered with the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Services>,
}

/// Where a route's gateway comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Gateway {
    /// Name of an IPPool; the short form of `fromPoolRef`.
    #[serde(rename = "fromIPPool", skip_serializing_if = "Option::is_none")]
    pub from_ip_pool: Option<String>,
    /// An annotation that holds the name of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_pool_annotation: Option<AnnotationRef>,
    /// The pool whose gateway it is; an address of it is taken, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub from_pool_ref: Option<PoolRef>,
    /// The address itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string: Option<String>,
}

/// A pool of this or another address provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PoolRef {
    /// API group of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// Kind of the pool.
    pub kind: String,
    /// Name of the pool.
    pub name: String,
}

/// Name servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Services {
    /// Addresses of name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Name of an IPPool whose name servers are added; an address of it is taken, too.
    #[serde(rename = "dnsFromIPPool", skip_serializing_if = "Option::is_none")]
    pub dns_from_ip_pool: Option<String>,
}
