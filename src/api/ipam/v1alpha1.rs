//! Pools, claims and addresses of `ipam.metal3.io/v1alpha1`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::k8s::{Condition, ObjectReference, Time};
use crate::kind::kind;
use crate::names::IPAM_GROUP;
use crate::schema::{self, patterns};

/// The addresses a pool may give out and what goes with them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IPPoolSpec {
    /// `sequential` or `random`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["sequential", "random"], "x-default" = "sequential"))]
    pub allocation_strategy: Option<String>,
    /// Cluster in the pool's namespace that the pool belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Name servers of ranges that name none themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = patterns::IP)))]
    pub dns_servers: Vec<String>,
    /// Gateway of ranges that name none themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::IP))]
    pub gateway: Option<String>,
    /// First part of the names of the IPAddress objects.
    #[schemars(length(min = 1))]
    pub name_prefix: String,
    /// Ranges, tried in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Range>,
    /// Addresses set aside, by name of the claim that gets them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::addresses_by_name")]
    pub pre_allocations: BTreeMap<String, String>,
    /// Length of the network's prefix, in bits, for ranges that name none; zero means unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub prefix: Option<i64>,
}

/// One range of addresses; every bound that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Range {
    /// Name servers for addresses of this range; the pool's when absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = patterns::IP)))]
    pub dns_servers: Vec<String>,
    /// Last address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::IP))]
    pub end: Option<String>,
    /// Gateway for addresses of this range; the pool's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::IP))]
    pub gateway: Option<String>,
    /// Length of the network's prefix, in bits; zero is the pool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub prefix: Option<i64>,
    /// First address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::IP))]
    pub start: Option<String>,
    /// Network the addresses belong to, in CIDR notation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::SUBNET))]
    pub subnet: Option<String>,
}

/// Which addresses are in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IPPoolStatus {
    /// `Ready` says whether what was asked for is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Address by name of the claim that holds it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::addresses_by_name")]
    pub indexes: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_addresses: Option<IPAddressCounts>,
    /// When this status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
}

/// How many addresses there are; what a signed 64-bit integer cannot hold is told as the most that it can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IPAddressCounts {
    /// Those that a claim without wishes can still get.
    #[schemars(schema_with = "schema::count")]
    pub free: i64,
    /// Held by nobody and kept from who has no claim to them: pre-allocations and gateways.
    #[schemars(schema_with = "schema::count")]
    pub reserved: i64,
    /// In all ranges together.
    #[schemars(schema_with = "schema::count")]
    pub total: i64,
    /// Held by claims.
    #[schemars(schema_with = "schema::count")]
    pub used: i64,
}

/// Asks a pool for an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IPClaimSpec {
    /// The IPPool that the address is to come from.
    #[schemars(schema_with = "schema::object_reference")]
    pub pool: ObjectReference,
}

/// What the claim was answered with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IPClaimStatus {
    /// `Ready` says whether what was asked for is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The IPAddress object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_reference")]
    pub address: Option<ObjectReference>,
    /// Why there is no address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
}

/// One address in use, and what goes with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IPAddressSpec {
    /// The address.
    #[schemars(regex(pattern = patterns::IP))]
    pub address: String,
    /// The claim that holds the address.
    #[schemars(schema_with = "schema::object_reference")]
    pub claim: ObjectReference,
    /// Name servers to use with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = patterns::IP)))]
    pub dns_servers: Vec<String>,
    /// Gateway to use with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = patterns::IP))]
    pub gateway: Option<String>,
    /// The pool it comes from.
    #[schemars(schema_with = "schema::object_reference")]
    pub pool: ObjectReference,
    /// Length of its network's prefix, in bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 128))]
    pub prefix: Option<i64>,
}

kind! {
    /// A pool of addresses.
    IPPool, "ippools", IPAM_GROUP, "v1alpha1", spec: IPPoolSpec, status: IPPoolStatus
}
kind! {
    /// A request for one address of a pool.
    IPClaim, "ipclaims", IPAM_GROUP, "v1alpha1", spec: IPClaimSpec, status: IPClaimStatus
}
kind! {
    /// One address in use.
    IPAddress, "ipaddresses", IPAM_GROUP, "v1alpha1", spec: IPAddressSpec
}
