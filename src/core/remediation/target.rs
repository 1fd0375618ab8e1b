//! Which host a remediation is about: by its owner Machine, that one's Metal3Machine, and the host it is annotated with.
//!
//! The host must also be held by that very Metal3Machine: an annotation alone switches nobody's host off.
//!
//! Rules: remediation, I27.

use capm3_api::foreign::{BareMetalHost, Machine};
use capm3_api::infra::v1beta2::{Metal3Machine, Metal3Remediation};
use capm3_api::names::{CAPI_GROUP, INFRA_GROUP, annotation};

use crate::host::{self, MachineName, group_of};
use crate::machine::host_name;

/// All three, found.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub machine: &'a Machine,
    pub metal3_machine: &'a Metal3Machine,
    pub host: &'a BareMetalHost,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("metal3Remediation's owner Machine not set")]
    NoOwner,
    #[error("metal3Remediation's owner Machine could not be retrieved: the apiVersion {0:?} of an owner does not read")]
    OwnerUnreadable(String),
    #[error("metal3Remediation's owner Machine could not be retrieved: Machine {0} does not exist")]
    OwnerMissing(String),
    #[error("metal3machine not found: Machine {0} names no Metal3Machine")]
    NoMetal3Machine(String),
    #[error("metal3machine not found: {0} does not exist")]
    Metal3MachineMissing(String),
    #[error("Metal3Machine {0} names no BareMetalHost")]
    NoHost(String),
    #[error("the annotation metal3.io/BareMetalHost {0:?} is not <namespace>/<name>")]
    HostUnreadable(String),
    #[error("BareMetalHost {0} does not exist")]
    HostMissing(String),
    #[error("BareMetalHost {host} is not this machine's but that of {consumer}")]
    HostOfAnother { host: String, consumer: String },
}

impl Problem {
    /// A stable word for metrics and events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NoOwner | Self::OwnerUnreadable(_) | Self::OwnerMissing(_) => "OwnerMissing",
            Self::NoMetal3Machine(_) | Self::Metal3MachineMissing(_) => "Metal3MachineMissing",
            Self::NoHost(_) | Self::HostUnreadable(_) | Self::HostMissing(_) => "HostMissing",
            Self::HostOfAnother { .. } => "HostOfAnother",
        }
    }
}

/// The name of the owner Machine: the first among the owners, whatever its version.
pub fn owner(remediation: &Metal3Remediation) -> Result<&str, Problem> {
    for owner in remediation.metadata.owner_references.iter().flatten() {
        let group = group_of(&owner.api_version);
        let group = group.ok_or_else(|| Problem::OwnerUnreadable(owner.api_version.clone()))?;
        if owner.kind == Machine::KIND && group == CAPI_GROUP {
            return Ok(&owner.name);
        }
    }
    Err(Problem::NoOwner)
}

/// The name of the Metal3Machine that a Machine stands on.
pub fn infrastructure(machine: &Machine) -> Option<&str> {
    let reference = machine.spec.infrastructure_ref.as_ref()?;
    let group = reference.api_group.as_deref().unwrap_or(INFRA_GROUP);
    let ours = reference.kind == Metal3Machine::KIND && group == INFRA_GROUP && !reference.name.is_empty();
    ours.then_some(reference.name.as_str())
}

/// Follows the references; each lookup is by name in the remediation's own namespace.
pub fn find<M, I, H>(
    remediation: &Metal3Remediation,
    machine: impl FnOnce(&str) -> Option<M>,
    metal3_machine: impl FnOnce(&str) -> Option<I>,
    host: impl FnOnce(&str) -> Option<H>,
) -> Result<(M, I, H), Problem>
where
    M: AsRef<Machine>,
    I: AsRef<Metal3Machine>,
    H: AsRef<BareMetalHost>,
{
    let name = owner(remediation)?;
    let machine = machine(name).ok_or_else(|| Problem::OwnerMissing(name.to_owned()))?;
    let name = infrastructure(machine.as_ref()).ok_or_else(|| Problem::NoMetal3Machine(name.to_owned()))?.to_owned();
    let metal3 = metal3_machine(&name).ok_or_else(|| Problem::Metal3MachineMissing(name.clone()))?;
    let host_name = match host_name(metal3.as_ref()) {
        Ok(Some(host)) => host.to_owned(),
        Ok(None) => return Err(Problem::NoHost(name)),
        Err(_) => return Err(Problem::HostUnreadable(annotated(metal3.as_ref()))),
    };
    let found = host(&host_name).ok_or_else(|| Problem::HostMissing(host_name.clone()))?;
    let namespace = remediation.metadata.namespace.as_deref().unwrap_or_default();
    if !host::is_held_by(found.as_ref(), MachineName { namespace, name: &name }) {
        let consumer = host::consumer_text(found.as_ref());
        return Err(Problem::HostOfAnother { host: host_name, consumer });
    }
    Ok((machine, metal3, found))
}

fn annotated(machine: &Metal3Machine) -> String {
    machine.metadata.annotations.as_ref().and_then(|all| all.get(annotation::HOST)).cloned().unwrap_or_default()
}
