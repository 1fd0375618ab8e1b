//! Taking a host under management: saved status and hardware details, credentials, registration, inspection.

use capm3_api::names::{annotation, host_state as state};
use serde_json::{Value, json};

use super::super::view::{HARDWARE_DETAILS, Host, INSPECT, SecretRef, Status, UsedCredentials};
use super::record::{failed, go, save, timed, without_error};
use super::{Credentials, Next, Plan, Seen, Step, step};

/// Before the state machine: saved status, hardware details, finalizer.
pub(super) fn housekeeping(seen: &Seen<'_>) -> Option<Plan> {
    let host = seen.host;
    if host.is_deleting() && seen.hardware_held {
        return Some(step(Step::ReleaseHardware));
    }
    if let Some(saved) = host.annotation(annotation::HOST_STATUS) {
        let restored = serde_json::from_str::<Status>(saved).ok().filter(|_| host.status.last_updated.is_none());
        return Some(match restored {
            Some(mut status) => {
                status.hardware = seen.hardware_data.cloned().or(status.hardware);
                save(seen, status)
            }
            None => step(Step::RemoveAnnotation(annotation::HOST_STATUS)),
        });
    }
    if let Some(architecture) = seen.hardware_data.and_then(|data| data.pointer("/cpu/arch")).and_then(Value::as_str)
        && host.spec.architecture.is_none()
        && !host.is_deleting()
    {
        return Some(step(Step::SetArchitecture(architecture.to_owned())));
    }
    if host.status.hardware.is_none() || host.inspection_disabled() {
        let annotated = || host.annotation(HARDWARE_DETAILS).and_then(|text| serde_json::from_str(text).ok());
        let known = seen.hardware_data.cloned().or_else(annotated);
        if known.is_some() && known != host.status.hardware {
            let mut plan = save(seen, Status { hardware: known, ..host.status.clone() });
            // At once: what the API server prunes from it would make it look new again.
            plan.steps.extend(host.annotation(HARDWARE_DETAILS).map(|_| Step::RemoveAnnotation(HARDWARE_DETAILS)));
            return Some(plan);
        }
    }
    if host.annotation(HARDWARE_DETAILS).is_some() {
        return Some(step(Step::RemoveAnnotation(HARDWARE_DETAILS)));
    }
    (!host.is_deleting() && !host.has_finalizer()).then(|| step(Step::AddFinalizer))
}

/// Credentials are needed from registration on; a host that is being deleted goes on without.
pub(super) fn lacking_credentials(seen: &Seen<'_>) -> Option<Plan> {
    let host = seen.host;
    if matches!(host.state(), state::NONE | state::UNMANAGED) || host.is_deleting() {
        return None;
    }
    let key = |name: &String| format!("{}/{name}", host.id().namespace);
    let (message, next) = match seen.credentials {
        Credentials::Valid { .. } if host.spec.bmc.address.is_empty() => {
            ("Empty BMC address Missing BMC connection detail 'Address'".to_owned(), Next::Event)
        }
        Credentials::Valid { .. } => return None,
        Credentials::Unnamed => {
            ("No BMC CredentialsName defined The BMC secret reference is empty".to_owned(), Next::Event)
        }
        Credentials::Missing { name } => {
            let message =
                format!("BMC CredentialsName secret doesn't exist The BMC secret {} does not exist", key(name));
            (message, Next::After(seen.timings.credentials_retry))
        }
        Credentials::Incomplete { key: "username" } => {
            ("Missing BMC connection detail 'username' in credentials".to_owned(), Next::Event)
        }
        Credentials::Incomplete { key } => {
            (format!("Missing BMC connection details '{key}' in credentials"), Next::Event)
        }
    };
    if host.status.error_message == message {
        return Some(Plan { steps: Vec::new(), next });
    }
    Some(Plan { next, ..save(seen, failed(host.status.clone(), "registration error", &message)) })
}

/// Credentials that were never used, or changed, or failed: the management controller is asked before anything else is done.
pub(super) fn register(seen: &Seen<'_>) -> Option<Plan> {
    let host = seen.host;
    let Credentials::Valid { name, version, claimed } = seen.credentials else { return None };
    if matches!(host.state(), state::NONE | state::UNMANAGED | state::MATCH_PROFILE | state::DELETING) {
        return None;
    }
    if !claimed {
        return Some(step(Step::ClaimCredentials));
    }
    let credentials = SecretRef { name: name.clone(), namespace: Some(host.id().namespace) };
    let used = UsedCredentials { credentials: Some(credentials), credentials_version: version.clone() };
    let mut status = host.status.clone();
    if status.tried_credentials != used {
        status.tried_credentials = used;
        return Some(save(seen, status));
    }
    if status.good_credentials == used && status.error_type != "registration error" {
        let hints = Some(root_device_hints(host));
        let stale = status.provisioning.root_device_hints != hints;
        status.provisioning.root_device_hints = hints;
        return stale.then(|| save(seen, status));
    }
    Some(timed(seen, "registration", "registration error", seen.timings.registering, |seen| {
        let mut status = without_error(status);
        status.good_credentials = used;
        status.provisioning.id = provisioning_id(&host.id().uid);
        status.hardware_profile = host.spec.hardware_profile.clone().unwrap_or_else(|| "unknown".to_owned());
        status.provisioning.root_device_hints = Some(root_device_hints(host));
        save(seen, status)
    }))
}

fn root_device_hints(host: &Host) -> Value {
    host.spec.root_device_hints.clone().unwrap_or_else(|| json!({"deviceName": "/dev/sda"}))
}

/// Not the uid: whoever confuses the two is to notice.
fn provisioning_id(uid: &str) -> String {
    let mirrored = |c: char| c.to_digit(16).and_then(|digit| char::from_digit(15 - digit, 16)).unwrap_or(c);
    uid.chars().map(mirrored).collect()
}

pub(super) fn inspect(seen: &Seen<'_>) -> Plan {
    let host = seen.host;
    if host.inspection_disabled() {
        return go(seen, state::PREPARING, without_error(host.status.clone()));
    }
    if host.annotation(INSPECT).is_some() {
        return step(Step::RemoveAnnotation(INSPECT));
    }
    timed(seen, "inspection", "inspection error", seen.timings.inspecting, |seen| {
        let status = Status { hardware: Some(seen.hardware.clone()), ..without_error(host.status.clone()) };
        let mut plan = go(seen, state::PREPARING, status);
        plan.steps.insert(0, Step::StoreHardware(seen.hardware.clone()));
        plan
    })
}
