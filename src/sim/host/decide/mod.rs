//! What the operator does next for one host: the state machine of baremetal-operator as a function.
//!
//! One call is one step, as there: it either changes metadata, or gives the machine room an order, or writes the status, and says
//! when to look again. What an order came to is remembered in the [`Bench`] and seen by the next call. The order of the checks is
//! the real operator's, because a provider can see it: the annotation with the saved status first, then the finalizer, then
//! credentials, deletion, detachment, registration, and only then the state.

mod leave;
mod manage;
mod power;
mod provision;
mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use capm3_api::names::host_state as state;
use jiff::Timestamp;
use serde_json::Value;

use self::leave::{begin_delete, delete, detach, power_off_before_delete};
use self::manage::{housekeeping, inspect, lacking_credentials, register};
use self::power::power;
pub(super) use self::provision::unacceptable;
use self::provision::{adopt, available, deprovision, provision};
use self::record::{fail, go, timed, without_error};
use super::Timings;
use super::view::{Host, Status};
use crate::room::RoomState;

/// Everything a step looks at.
pub struct Seen<'a> {
    pub host: &'a Host,
    pub credentials: &'a Credentials,
    /// `spec.hardware` of the HardwareData object, where there is one.
    pub hardware_data: Option<&'a Value>,
    /// That object has the operator's finalizer.
    pub hardware_held: bool,
    /// What an inspection of this host finds.
    pub hardware: &'a Value,
    pub room: RoomState,
    pub bench: &'a Bench,
    pub timings: &'a Timings,
    pub now: Timestamp,
}

/// The Secret with which the management controller is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `claimed` when the Secret has the operator's label, owner and finalizer.
    Valid {
        name: String,
        version: String,
        claimed: bool,
    },
    /// `spec.bmc.credentialsName` is empty.
    Unnamed,
    Missing {
        name: String,
    },
    /// The Secret lacks a key or has it empty.
    Incomplete {
        key: &'static str,
    },
}

/// What the operator knows of a host without writing it down: the part that the real one leaves to its provisioner.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bench {
    /// How long the host has been in its state, or how long ago its latest failure was.
    pub elapsed: Duration,
    /// A machine without a disk of ours is on.
    pub bare_metal_on: bool,
    /// What the latest building of the disk came to.
    pub built: Option<Result<(), String>>,
    /// Why the latest switching failed.
    pub power_failure: Option<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Again,
    After(Duration),
    /// A change of the host or of one of its Secrets.
    Event,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    AddFinalizer,
    RemoveFinalizer,
    RemoveAnnotation(&'static str),
    SetArchitecture(String),
    /// Label, owner and finalizer on the Secret with the credentials, before they are used.
    ClaimCredentials,
    ReleaseCredentials,
    /// The HardwareData object anew.
    StoreHardware(Value),
    ReleaseHardware,
    /// Read the Secrets that the host names and write the disk. What cannot be read is tried again and only logged, as in the
    /// real operator; what the machine room refuses is seen in [`Bench::built`].
    Build,
    Power(bool),
    Wipe,
    Status(Box<Status>),
}

/// The next step for a host.
pub fn decide(seen: &Seen<'_>) -> Plan {
    if seen.host.is_paused() {
        return rest();
    }
    housekeeping(seen).or_else(|| lacking_credentials(seen)).or_else(|| failed_power(seen)).unwrap_or_else(|| run(seen))
}

/// A failed switching is recorded before anything else is tried.
fn failed_power(seen: &Seen<'_>) -> Option<Plan> {
    let message = seen.bench.power_failure.as_ref()?;
    Some(fail(seen, "power management error", message))
}

fn run(seen: &Seen<'_>) -> Plan {
    let host = seen.host;
    if let Some(plan) = begin_delete(seen).or_else(|| detach(seen)).or_else(|| register(seen)) {
        return plan;
    }
    match host.state() {
        state::NONE | state::UNMANAGED if host.has_bmc() => go(seen, state::REGISTERING, host.status.clone()),
        state::NONE => {
            go(seen, state::UNMANAGED, Status { operational_status: "discovered".to_owned(), ..host.status.clone() })
        }
        state::REGISTERING => {
            let next = if host.spec.externally_provisioned {
                state::EXTERNALLY_PROVISIONED
            } else if host.inspection_disabled() {
                state::PREPARING
            } else {
                state::INSPECTING
            };
            go(seen, next, without_error(host.status.clone()))
        }
        state::INSPECTING => inspect(seen),
        state::MATCH_PROFILE => go(seen, state::PREPARING, without_error(host.status.clone())),
        state::PREPARING => timed(seen, "preparation", "preparation error", seen.timings.preparing, |seen| {
            go(seen, state::AVAILABLE, without_error(seen.host.status.clone()))
        }),
        state::AVAILABLE | state::READY => available(seen),
        state::PROVISIONING => provision(seen),
        state::PROVISIONED if host.is_cancelled() => go(seen, state::DEPROVISIONING, host.status.clone()),
        state::PROVISIONED => adopt(seen).unwrap_or_else(|| power(seen)),
        state::EXTERNALLY_PROVISIONED if host.spec.externally_provisioned => power(seen),
        state::EXTERNALLY_PROVISIONED => {
            let mut status = host.status.clone();
            status.provisioning.image = host.spec.image.clone().unwrap_or_default();
            status.provisioning.custom_deploy = host.spec.custom_deploy.clone();
            go(seen, state::PROVISIONED, status)
        }
        state::DEPROVISIONING => deprovision(seen),
        state::POWERING_OFF_BEFORE_DELETE => power_off_before_delete(seen),
        state::DELETING => delete(seen),
        // An unmanaged host, or a state of a newer operator.
        _ => rest(),
    }
}

/// The real operator gives up cleaning a host that is to be deleted.
const GIVE_UP_AFTER: u32 = 3;

fn step(step: Step) -> Plan {
    Plan { steps: vec![step], next: Next::Again }
}

fn rest() -> Plan {
    Plan { steps: Vec::new(), next: Next::Event }
}
