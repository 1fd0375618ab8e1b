//! Metal3DataClaim and Metal3Data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{NamespacedRef, SecretRef};

/// Asks a data template for one rendering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataClaimSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<NamespacedRef>,
}

/// What the claim was answered with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3DataClaimStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub error_message: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub error_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
}
