//! A BareMetalHost as its operator sees it: the parts of the spec it obeys and the whole status it writes.
//!
//! Fields that are only carried (RAID, hints, hardware) stay JSON. Writes are merge patches of a difference, so fields this
//! view does not name survive.

use std::borrow::Cow;
use std::collections::BTreeMap;

use capm3_api::k8s::{Condition, ObjectMeta, Resource, Time};
use capm3_api::names::{HOST_GROUP, annotation, host_state};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::room::{HostId, Image};

/// On the host and on what belongs to it.
pub const FINALIZER: &str = "baremetalhost.metal3.io";
pub const HARDWARE_DATA_FINALIZER: &str = "baremetalhost.metal3.io/hardwareData";
pub const SECRET_FINALIZER: &str = "baremetalhost.metal3.io/secret";
/// Makes the operator find a Secret again; it is put on every Secret that the operator reads.
pub const SECRET_LABEL: (&str, &str) = ("environment.metal3.io", "baremetal");
/// Presence switches the host off; with a suffix it stays off until the annotation goes.
pub const REBOOT: &str = "reboot.metal3.io";
pub const INSPECT: &str = "inspect.metal3.io";
pub const HARDWARE_DETAILS: &str = "inspect.metal3.io/hardwaredetails";
/// Ours, not the real operator's: makes an operation of this host fail, `<operation>` or `<operation>: <message>`.
pub const FAIL: &str = "sim.capm3.dev/fail";

/// A host with the fields its operator obeys or writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    pub metadata: ObjectMeta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automated_cleaning_mode: Option<String>,
    pub bmc: Bmc,
    #[serde(rename = "bootMACAddress", skip_serializing_if = "Option::is_none")]
    pub boot_mac_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_deploy: Option<CustomDeploy>,
    pub disable_power_off: bool,
    pub externally_provisioned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspection_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<SecretRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<SecretRef>,
    pub online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprovisioning_network_data_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_device_hints: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<SecretRef>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Bmc {
    pub address: String,
    pub credentials_name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomDeploy {
    pub method: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretRef {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The whole status. The fields without a condition for being written are the required ones of the schema.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    pub error_count: u32,
    pub error_message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error_type: String,
    pub good_credentials: UsedCredentials,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hardware_profile: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempted_image: Option<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
    pub operation_history: History,
    pub operational_status: String,
    pub powered_on: bool,
    pub provisioning: Provisioning,
    pub provisioning_fail_count: u32,
    pub tried_credentials: UsedCredentials,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Provisioning {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_deploy: Option<CustomDeploy>,
    pub image: Image,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_device_hints: Option<Value>,
    pub state: String,
}

/// Which Secret was used, in which version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UsedCredentials {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretRef>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credentials_version: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    pub deprovision: Span,
    pub inspect: Span,
    pub provision: Span,
    pub register: Span,
}

/// When an operation began and ended last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Span {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Time>,
}

impl Host {
    pub fn id(&self) -> HostId {
        let meta = &self.metadata;
        HostId {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    pub fn state(&self) -> &str {
        &self.status.provisioning.state
    }

    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    pub fn is_paused(&self) -> bool {
        self.annotation(annotation::HOST_PAUSED).is_some()
    }

    pub fn has_finalizer(&self) -> bool {
        self.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations().get(name).map(String::as_str)
    }

    pub fn annotations(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.metadata.annotations.as_ref().unwrap_or(&NONE)
    }

    /// Nothing is known of its management controller: the host was announced, not handed over.
    pub fn has_bmc(&self) -> bool {
        !self.spec.bmc.address.is_empty() || !self.spec.bmc.credentials_name.is_empty()
    }

    pub fn inspection_disabled(&self) -> bool {
        self.spec.inspection_mode.as_deref() == Some("disabled") || self.annotation(INSPECT) == Some("disabled")
    }

    pub fn image_url(&self) -> &str {
        self.spec.image.as_ref().map_or("", |image| image.url.as_str())
    }

    pub fn deploy_method(&self) -> &str {
        self.spec.custom_deploy.as_ref().map_or("", |deploy| deploy.method.as_str())
    }

    /// Something is asked for that is not on the disk. A host that is to be off is not provisioned.
    pub fn needs_provisioning(&self) -> bool {
        let done = &self.status.provisioning;
        let new_image = !self.image_url().is_empty() && done.image.url.is_empty();
        let method = self.deploy_method();
        let new_deploy = !method.is_empty() && done.custom_deploy.as_ref().is_none_or(|done| done.method != method);
        self.spec.online && (new_image || new_deploy)
    }

    /// What is on the disk, or on its way there, is no longer what is asked for.
    pub fn is_cancelled(&self) -> bool {
        let done = &self.status.provisioning;
        let deployed = done.custom_deploy.as_ref().map_or("", |deploy| deploy.method.as_str());
        let method = self.deploy_method();
        let other_image = !done.image.url.is_empty() && self.image_url() != done.image.url;
        if !method.is_empty() {
            return (!deployed.is_empty() && deployed != method) || other_image;
        }
        !deployed.is_empty() || self.image_url().is_empty() || other_image
    }

    pub fn is_provisioned(&self) -> bool {
        matches!(self.state(), host_state::PROVISIONED | host_state::EXTERNALLY_PROVISIONED)
    }

    /// The message with which an operation is to fail, when the annotation asks for it.
    pub fn told_to_fail(&self, operation: &str) -> Option<String> {
        let (what, message) = self.annotation(FAIL).map(|text| text.split_once(':').unwrap_or((text, "")))?;
        let message = if message.trim().is_empty() { "asked to fail" } else { message.trim() };
        (what.trim() == operation).then(|| message.to_owned())
    }
}

impl Resource for Host {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "BareMetalHost".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        HOST_GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "baremetalhosts".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
