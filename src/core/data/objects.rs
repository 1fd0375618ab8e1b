//! The three objects a data template may take values from.

use std::collections::BTreeMap;

use capm3_api::foreign::{BareMetalHost, HostNic};
use capm3_api::k8s::ObjectMeta;

/// Names, labels and annotations of one object.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub labels: Option<&'a BTreeMap<String, String>>,
    pub annotations: Option<&'a BTreeMap<String, String>>,
}

/// A host with the parts of it that templates read.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    pub meta: Meta<'a>,
    pub boot_mac: &'a str,
    /// `None` while the host has not been inspected; a list without entries is not on the wire.
    pub nics: Option<&'a [HostNic]>,
}

/// The objects of one machine, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objects<'a> {
    pub machine: Option<Meta<'a>>,
    pub metal3_machine: Option<Meta<'a>>,
    pub host: Option<Host<'a>>,
}

/// Why a template cannot be rendered for this machine; the texts are published (docs/spec/data-rendering.md D-57, D-70 to N-7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrenderable {
    #[error("unknown object type")]
    UnknownObject,
    #[error("{object} is nil but referenced in annotation {annotation}")]
    ObjectMissing { object: String, annotation: String },
    #[error("annotation {annotation} not found or empty on {object}")]
    AnnotationMissing { object: String, annotation: String },
    #[error("pool {name} is referenced as {first} and as {second}")]
    PoolConflict { name: String, first: String, second: String },
    #[error("pool not found in cache")]
    AddressMissing,
    #[error("failed to fetch pool from cache")]
    GatewayMissing,
    #[error("metadata key \"{key}\": BareMetalHost {namespace}/{host} spec.bootMACAddress is empty")]
    NoBootMac { key: String, namespace: String, host: String },
    #[error("NICs list not populated")]
    NoNics,
    #[error("NIC name not found {0}")]
    NicMissing(String),
    #[error("bad MAC address: {0}")]
    BadMac(String),
    #[error("bond {id}: parameters {} are set by fields of their own or more than once", names.join(", "))]
    BondParameters { id: String, names: Vec<String> },
    #[error("network {network}: {address} is not an IPv{family} address")]
    WrongFamily { network: String, address: String, family: u8 },
    #[error("network {network}: prefix {prefix} is not one of an IPv{family} network")]
    BadPrefix { network: String, prefix: i64, family: u8 },
}

impl<'a> Objects<'a> {
    /// Whether anything is known at all; when nothing is, annotations name no pools.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machine.is_none() && self.metal3_machine.is_none() && self.host.is_none()
    }

    /// The object that a template calls `kind`, in any case; `None` while it is not known.
    pub fn find(&self, kind: &str) -> Result<Option<Meta<'a>>, Unrenderable> {
        match kind.to_ascii_lowercase().as_str() {
            "machine" => Ok(self.machine),
            "metal3machine" => Ok(self.metal3_machine),
            "baremetalhost" => Ok(self.host.map(|host| host.meta)),
            _ => Err(Unrenderable::UnknownObject),
        }
    }

    /// As [`Objects::find`], for a value read through `annotation`, which needs the object.
    pub fn get(&self, kind: &str, annotation: &str) -> Result<Meta<'a>, Unrenderable> {
        self.find(kind)?
            .ok_or_else(|| Unrenderable::ObjectMissing { object: kind.to_owned(), annotation: annotation.to_owned() })
    }

    /// The MAC address of the host's first interface of that name, as the host reports it (D-70).
    pub fn mac_of(&self, interface: &str) -> Result<&'a str, Unrenderable> {
        let nics = self.host.and_then(|host| host.nics).ok_or(Unrenderable::NoNics)?;
        let nic = nics.iter().find(|nic| nic.name == interface);
        nic.map(|nic| nic.mac.as_str()).ok_or_else(|| Unrenderable::NicMissing(interface.to_owned()))
    }
}

impl<'a> Host<'a> {
    #[must_use]
    pub fn of(host: &'a BareMetalHost) -> Self {
        let hardware = host.status.as_ref().and_then(|status| status.hardware.as_ref());
        Self {
            meta: Meta::of(&host.metadata),
            boot_mac: host.spec.boot_mac_address.as_deref().unwrap_or_default(),
            nics: hardware.map(|hardware| hardware.nics.as_slice()).filter(|nics| !nics.is_empty()),
        }
    }
}

impl<'a> Meta<'a> {
    #[must_use]
    pub fn of(meta: &'a ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            name: meta.name.as_deref().unwrap_or_default(),
            labels: meta.labels.as_ref(),
            annotations: meta.annotations.as_ref(),
        }
    }

    #[must_use]
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.labels?.get(key).map(String::as_str)
    }

    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.annotations?.get(key).map(String::as_str)
    }
}
