//! Metal3DataClaim and Metal3Data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{NamespacedRef, SecretRef};
use crate::k8s::Condition;
use crate::schema;

/// Asks a data template for one rendering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataClaimSpec {
    /// The Metal3DataTemplate to render.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<NamespacedRef>,
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
    #[schemars(length(min = 1, max = 512))]
    pub error_message: Option<String>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
    /// The Metal3Data that answers the claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered_data: Option<NamespacedRef>,
}

/// One rendering of a data template, identified by its index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataSpec {
    /// The Metal3DataClaim this answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<NamespacedRef>,
    /// Zero is an index like any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub index: Option<i32>,
    /// Secret with the rendered metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<SecretRef>,
    /// Secret with the rendered network data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<SecretRef>,
    /// The Metal3DataTemplate this is rendered from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<NamespacedRef>,
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
    #[schemars(length(min = 1, max = 512))]
    pub error_message: Option<String>,
    /// The generation this status is about; -1 before anybody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::observed_generation")]
    pub observed_generation: Option<i64>,
    /// Whether the Secrets are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
}
