//! Out of the operator's hands: detached by an annotation, or deleted.

use capm3_api::names::{annotation, host_state as state};
use serde_json::Value;

use super::super::view::Status;
use super::power::is_on;
use super::record::{fail, go, save, without_error};
use super::{GIVE_UP_AFTER, Next, Plan, Seen, Step, rest, step};
use crate::room::RoomState;

/// From any state towards deletion, once.
pub(super) fn begin_delete(seen: &Seen<'_>) -> Option<Plan> {
    let host = seen.host;
    if !host.is_deleting() {
        return None;
    }
    let detached = host.annotation(annotation::HOST_DETACHED).is_some() || host.status.operational_status == "detached";
    let next = match host.state() {
        state::DELETING => return None,
        _ if detached => {
            let delayed = host
                .annotation(annotation::HOST_DETACHED)
                .is_none_or(|text| detach_argument(text, "deleteAction") == "delay");
            if delayed {
                return None;
            }
            state::DELETING
        }
        state::DEPROVISIONING | state::POWERING_OFF_BEFORE_DELETE => return None,
        state::REGISTERING | state::UNMANAGED | state::NONE => state::DELETING,
        state::PROVISIONING | state::PROVISIONED => state::DEPROVISIONING,
        _ => state::POWERING_OFF_BEFORE_DELETE,
    };
    Some(go(seen, next, host.status.clone()))
}

/// The annotation takes the host out of our hands where nothing is under way.
pub(super) fn detach(seen: &Seen<'_>) -> Option<Plan> {
    let host = seen.host;
    let wanted = host.annotation(annotation::HOST_DETACHED);
    let settled = host.is_provisioned() || matches!(host.state(), state::AVAILABLE | state::READY);
    let forced = || wanted.is_some_and(|text| detach_argument(text, "force") == "true");
    let is_detached = host.status.operational_status == "detached";
    if wanted.is_some() && host.state() != state::DELETING && (settled || forced()) {
        let status = Status { operational_status: "detached".to_owned(), ..host.status.clone() };
        return Some(if is_detached { rest() } else { Plan { next: Next::Event, ..save(seen, status) } });
    }
    (is_detached && wanted.is_none()).then(|| {
        let status = if host.status.error_type.is_empty() { "OK" } else { "error" };
        save(seen, Status { operational_status: status.to_owned(), ..host.status.clone() })
    })
}

pub(super) fn detach_argument(text: &str, name: &str) -> String {
    match serde_json::from_str::<Value>(text).unwrap_or_default().get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

pub(super) fn power_off_before_delete(seen: &Seen<'_>) -> Plan {
    let host = seen.host;
    if is_on(seen) && !host.spec.disable_power_off && host.status.error_count <= GIVE_UP_AFTER {
        return match host.told_to_fail("power") {
            Some(message) => fail(seen, "power management error", &message),
            None => step(Step::Power(false)),
        };
    }
    go(seen, state::DELETING, Status { powered_on: false, ..without_error(host.status.clone()) })
}

pub(super) fn delete(seen: &Seen<'_>) -> Plan {
    if !seen.host.has_finalizer() {
        return rest();
    }
    if let Some(left) = seen.timings.deleting.checked_sub(seen.bench.elapsed).filter(|left| !left.is_zero()) {
        return Plan { steps: Vec::new(), next: Next::After(left) };
    }
    let detached = seen.host.annotation(annotation::HOST_DETACHED).is_some();
    let wipe = (seen.room != RoomState::Empty && !detached).then_some(Step::Wipe); // a detached machine runs on
    let steps = wipe.into_iter().chain([Step::ReleaseCredentials, Step::RemoveFinalizer]).collect();
    Plan { steps, next: Next::Event }
}
