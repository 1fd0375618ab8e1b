//! Metal3Remediation and Metal3RemediationTemplate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::k8s::Time;

/// How a machine is to be brought back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metal3RemediationSpec {
    /// Without a strategy nothing is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RemediationStrategy>,
}

/// Reboot, how often, and how long to wait each time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RemediationStrategy {
    /// Attempts before the machine is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("x-default" = 1))]
    pub retry_limit: Option<i32>,
    /// How long one attempt may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100), extend("x-default" = 600))]
    pub timeout_seconds: Option<i32>,
    /// What is done: `Reboot` power-cycles the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Reboot"]))]
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
    #[schemars(extend("enum" = ["Running", "Waiting", "Deleting machine", "Failed"]))]
    pub phase: Option<String>,
    /// Attempts started so far; absent rather than zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub retry_count: Option<i32>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Metal3RemediationStatus>,
}
