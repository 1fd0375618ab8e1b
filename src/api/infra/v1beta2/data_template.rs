//! Metal3DataTemplate: where every key of the metadata and every part of the network data comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::k8s::{Condition, Time};
use crate::schema::{self, patterns};

/// Recipe for the metadata and network data of machines. Immutable but for `clusterName`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataTemplateSpec {
    /// Deprecated; nothing reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub cluster_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<NetworkData>,
}

/// Which index belongs to which claim, for people to read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataTemplateStatus {
    /// `Ready` says whether what was asked for is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Indexes in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 65536), extend("x-keyed-by" = "index"))]
    pub indexes: Vec<IndexEntry>,
    /// When this status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
}

/// One index in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IndexEntry {
    /// Number of the rendering.
    #[schemars(range(min = 0))]
    pub index: i32,
    /// Name of the Metal3DataClaim that holds the index.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
}

/// Where each metadata key gets its value from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MetaData {
    /// Keys for a pool's name servers, if the template is annotated with `capm3.metal3.io/render-dns-servers: "true"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub dns_servers_from_pool: Vec<FromPool>,
    /// Keys whose value is that of an annotation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub from_annotations: Vec<FromAnnotation>,
    /// Keys whose value is the MAC address of a host's interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub from_host_interfaces: Vec<FromHostInterface>,
    /// Keys whose value is that of a label.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub from_labels: Vec<FromLabel>,
    /// Keys whose value is the gateway of the address from a pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub gateways_from_pool: Vec<FromPool>,
    /// Keys whose value is made from the rendering's number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub indexes: Vec<IndexKey>,
    /// Keys whose value is an address from a pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub ip_addresses_from_pool: Vec<FromPool>,
    /// Keys whose value is the machine's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub namespaces: Vec<NamespaceKey>,
    /// Keys whose value is the name of an object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub object_names: Vec<ObjectNameKey>,
    /// Keys whose value is the prefix length, in bits, of the address from a pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub prefixes_from_pool: Vec<FromPool>,
    /// Keys with a fixed value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "key"))]
    pub strings: Vec<StringKey>,
}

/// A value taken from the address that a pool gives out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FromPool {
    /// API group of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-default" = "ipam.metal3.io"))]
    pub api_group: Option<String>,
    /// Key of the metadata.
    #[schemars(length(min = 1, max = 512))]
    pub key: String,
    /// Kind of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-default" = "IPPool"))]
    pub kind: Option<String>,
    /// Name of the pool.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
}

/// A value taken from an annotation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FromAnnotation {
    /// Key of the annotation.
    #[schemars(length(min = 1, max = 512))]
    pub annotation: String,
    /// Key of the metadata.
    #[schemars(length(min = 1, max = 512))]
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
    #[schemars(length(min = 1, max = 512))]
    pub interface: Option<String>,
    /// Key of the metadata.
    #[schemars(length(min = 1, max = 512))]
    pub key: String,
}

/// A value taken from a label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FromLabel {
    /// Key of the metadata.
    #[schemars(length(min = 1, max = 512))]
    pub key: String,
    /// Key of the label.
    #[schemars(length(min = 1, max = 512))]
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
    #[schemars(length(min = 1, max = 512))]
    pub key: String,
    /// Added to the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub offset: Option<i32>,
    /// Text before the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub prefix: Option<String>,
    /// What the number is multiplied by.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("x-default" = 1))]
    pub step: Option<i32>,
    /// Text after the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub suffix: Option<String>,
}

/// The namespace the machine lives in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NamespaceKey {
    /// Key of the metadata.
    #[schemars(length(min = 1, max = 512))]
    pub key: String,
}

/// The name of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectNameKey {
    /// Key of the metadata.
    #[schemars(length(min = 1, max = 512))]
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
    #[schemars(length(min = 1, max = 512))]
    pub key: String,
    /// The value itself.
    #[schemars(length(min = 1, max = 512))]
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
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "id"))]
    pub bonds: Vec<Bond>,
    /// Physical interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), extend("x-keyed-by" = "id"))]
    pub ethernets: Vec<Ethernet>,
    /// Tagged interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = ["id", "vlanID"]))]
    pub vlans: Vec<Vlan>,
}

/// Several links joined into one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Bond {
    /// Ids of the joined links.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub bond_links: Vec<String>,
    /// How frames are spread over the joined links.
    #[schemars(extend("enum" = ["balance-rr", "active-backup", "balance-xor", "broadcast", "balance-tlb", "balance-alb", "802.3ad"]))]
    pub bond_mode: String,
    /// What of a frame decides which of the joined links it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["layer2", "layer3+4", "layer2+3"]))]
    pub bond_xmit_hash_policy: Option<String>,
    /// Id by which networks and links on top name this one.
    #[schemars(length(min = 1, max = 512))]
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<MacAddress>,
    /// Largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9000), extend("x-default" = 1500))]
    pub mtu: Option<i32>,
    /// Name of the interface on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = patterns::INTERFACE))]
    pub name: Option<String>,
    /// Passed on as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "name"))]
    pub parameters: Vec<BondParameter>,
}

/// One driver option of a bond; the value may be any JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct BondParameter {
    /// Name of the option.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
    /// Value of the option.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::anything")]
    pub value: Option<Value>,
}

/// A physical interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Ethernet {
    /// Id by which networks and links on top name this one.
    #[schemars(length(min = 1, max = 512))]
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<MacAddress>,
    /// Largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9000), extend("x-default" = 1500))]
    pub mtu: Option<i32>,
    /// Name of the interface on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = patterns::INTERFACE))]
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
    #[schemars(length(min = 1, max = 512))]
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<MacAddress>,
    /// Largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9000), extend("x-default" = 1500))]
    pub mtu: Option<i32>,
    /// Name of the interface on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = patterns::INTERFACE))]
    pub name: Option<String>,
    /// The tag.
    #[serde(rename = "vlanID")]
    #[schemars(range(min = 0, max = 4096))]
    pub vlan_id: i32,
    /// Id of the link that carries the tag.
    #[schemars(length(min = 1, max = 512))]
    pub vlan_link: String,
}

/// Where a link's MAC address comes from: one of the three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MacAddress {
    /// An annotation that holds the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_annotation: Option<AnnotationRef>,
    /// Name of the interface in the host's hardware details.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub from_host_interface: Option<String>,
    /// The address itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub string: Option<String>,
}

/// An annotation on one of the objects of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AnnotationRef {
    /// Key of the annotation.
    #[schemars(length(min = 1, max = 512))]
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
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "id"), transform = schema::ipv4)]
    pub ipv4: Vec<StaticNetwork>,
    /// IPv4 networks configured by DHCP.
    #[serde(rename = "ipv4DHCP", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "id"), transform = schema::ipv4)]
    pub ipv4_dhcp: Vec<DynamicNetwork>,
    /// IPv6 networks with an address from a pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "id"), transform = schema::ipv6)]
    pub ipv6: Vec<StaticNetwork>,
    /// IPv6 networks configured by DHCP.
    #[serde(rename = "ipv6DHCP", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "id"), transform = schema::ipv6)]
    pub ipv6_dhcp: Vec<DynamicNetwork>,
    /// IPv6 networks configured by router advertisements.
    #[serde(rename = "ipv6SLAAC", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "id"), transform = schema::ipv6)]
    pub ipv6_slaac: Vec<DynamicNetwork>,
}

/// A network whose address comes from a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct StaticNetwork {
    /// An annotation that holds the name of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_pool_annotation: Option<AnnotationRef>,
    /// The pool that the address comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_pool_ref: Option<PoolRef>,
    /// Id of the network.
    #[schemars(length(min = 1, max = 512))]
    pub id: String,
    /// Name of an IPPool; the short form of `fromPoolRef`.
    #[serde(rename = "ipAddressFromIPPool", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub ip_address_from_ip_pool: Option<String>,
    /// Id of the link this network is on.
    #[schemars(length(min = 1, max = 512))]
    pub link: String,
    /// Routes that go through this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "network"))]
    pub routes: Vec<Route>,
}

/// A network configured by DHCP or router advertisements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DynamicNetwork {
    /// Id of the network.
    #[schemars(length(min = 1, max = 512))]
    pub id: String,
    /// Id of the link this network is on.
    #[schemars(length(min = 1, max = 512))]
    pub link: String,
    /// Routes that go through this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-keyed-by" = "network"))]
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
    #[schemars(range(min = 0))]
    pub prefix: Option<i32>,
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
    #[schemars(length(min = 1, max = 512))]
    pub from_ip_pool: Option<String>,
    /// An annotation that holds the name of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_pool_annotation: Option<AnnotationRef>,
    /// The pool whose gateway it is; an address of it is taken, too.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS1123), extend("x-default" = "ipam.metal3.io"))]
    pub api_group: Option<String>,
    /// Kind of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND), extend("x-default" = "IPPool"))]
    pub kind: Option<String>,
    /// Name of the pool.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS1123))]
    pub name: String,
}

/// Name servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Services {
    /// Addresses of name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-list-type" = "set"))]
    pub dns: Vec<String>,
    /// Name of an IPPool whose name servers are added; an address of it is taken, too.
    #[serde(rename = "dnsFromIPPool", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub dns_from_ip_pool: Option<String>,
}
