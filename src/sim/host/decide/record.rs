//! What a step writes down: the new state with its history, errors with their count, and the conditions that follow.

use std::time::Duration;

use capm3_api::k8s::{Condition, Time};
use capm3_api::names::host_state as state;
use jiff::Timestamp;

use super::super::view::{Span, Status};
use super::{Next, Plan, Seen, Step};

/// An operation that takes its time, and fails when the host is told to.
pub(super) fn timed(
    seen: &Seen<'_>,
    name: &str,
    error: &str,
    takes: Duration,
    then: impl FnOnce(&Seen<'_>) -> Plan,
) -> Plan {
    if let Some(message) = seen.host.told_to_fail(name) {
        return fail(seen, error, &message);
    }
    if !seen.host.status.error_type.is_empty() && seen.host.status.error_type == error {
        return save(seen, without_message(seen.host.status.clone())); // another try begins
    }
    match takes.checked_sub(seen.bench.elapsed).filter(|left| !left.is_zero()) {
        Some(left) => Plan { steps: Vec::new(), next: Next::After(left) },
        None => then(seen),
    }
}

/// Into another state: history, boot mode and conditions go along.
pub(super) fn go(seen: &Seen<'_>, next: &str, mut status: Status) -> Plan {
    let now = Time(whole_seconds(seen.now));
    if let Some(span) = span(&mut status, seen.host.state()).filter(|span| span.start.is_some() && span.end.is_none()) {
        span.end = Some(now.clone());
    }
    if let Some(span) = span(&mut status, next) {
        *span = Span { start: Some(now), end: None };
    }
    if matches!(next, state::REGISTERING | state::INSPECTING | state::PROVISIONING) {
        status.provisioning.boot_mode = Some(seen.host.spec.boot_mode.clone().unwrap_or_else(|| "UEFI".to_owned()));
    }
    next.clone_into(&mut status.provisioning.state);
    save(seen, status)
}

fn span<'a>(status: &'a mut Status, of: &str) -> Option<&'a mut Span> {
    let history = &mut status.operation_history;
    match of {
        state::REGISTERING => Some(&mut history.register),
        state::INSPECTING => Some(&mut history.inspect),
        state::PROVISIONING => Some(&mut history.provision),
        state::DEPROVISIONING => Some(&mut history.deprovision),
        _ => None,
    }
}

pub(super) fn fail(seen: &Seen<'_>, error: &str, message: &str) -> Plan {
    failure(seen, seen.host.status.clone(), error, message)
}

/// Recorded, and tried again after a pause that grows.
pub(super) fn failure(seen: &Seen<'_>, status: Status, error: &str, message: &str) -> Plan {
    let status = failed(status, error, message);
    let pause = seen.timings.error_retry.saturating_mul(1 << (status.error_count - 1).min(8));
    Plan { next: Next::After(pause), ..save(seen, status) }
}

pub(super) fn failed(status: Status, error: &str, message: &str) -> Status {
    Status {
        operational_status: "error".to_owned(),
        error_type: error.to_owned(),
        error_message: message.to_owned(),
        error_count: status.error_count + 1,
        ..status
    }
}

pub(super) fn without_error(status: Status) -> Status {
    Status { error_count: 0, ..without_message(status) }
}

/// The count stays until an operation succeeds.
pub(super) fn without_message(status: Status) -> Status {
    Status { operational_status: "OK".to_owned(), error_type: String::new(), error_message: String::new(), ..status }
}

pub(super) fn save(seen: &Seen<'_>, status: Status) -> Plan {
    Plan { steps: vec![status_step(seen, status)], next: Next::Again }
}

fn status_step(seen: &Seen<'_>, mut status: Status) -> Step {
    let now = Time(whole_seconds(seen.now));
    status.conditions = conditions(&status, seen.host.metadata.generation, &now);
    status.last_updated = Some(now);
    Step::Status(Box::new(status))
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The conditions that follow from state and operational status.
fn conditions(status: &Status, generation: Option<i64>, now: &Time) -> Vec<Condition> {
    const NOT_PROVISIONED: (&str, &str) = ("False", "NotProvisioned");
    let operational = status.operational_status.as_str();
    let progress = |reason| {
        [("True", "Manageable"), ("False", "NotAvailable"), NOT_PROVISIONED, NOT_PROVISIONED, ("True", reason)]
    };
    let [manageable, available, provisioned, mut ready, mut progressing] = match status.provisioning.state.as_str() {
        state::NONE | state::UNMANAGED => [
            ("False", "NotManaged"),
            ("False", "NotAvailable"),
            NOT_PROVISIONED,
            NOT_PROVISIONED,
            ("False", "NotProgressing"),
        ],
        state::REGISTERING => {
            let why = if operational == "error" { "RegistrationFailed" } else { "Registering" };
            [("False", why), ("False", "NotAvailable"), NOT_PROVISIONED, NOT_PROVISIONED, ("True", "Registering")]
        }
        state::READY | state::AVAILABLE => [
            ("True", "Manageable"),
            ("True", "Available"),
            NOT_PROVISIONED,
            NOT_PROVISIONED,
            ("False", "NotProgressing"),
        ],
        state::PROVISIONED | state::EXTERNALLY_PROVISIONED => {
            let done = ("True", "Provisioned");
            [("True", "Manageable"), ("False", "NotAvailable"), done, done, ("False", "NotProgressing")]
        }
        state::INSPECTING | state::MATCH_PROFILE => progress("Inspecting"),
        state::PREPARING => progress("Preparing"),
        state::PROVISIONING => progress("Provisioning"),
        state::DEPROVISIONING => progress("Deprovisioning"),
        state::POWERING_OFF_BEFORE_DELETE => progress("PoweringOffBeforeDelete"),
        _ => progress("Deleting"),
    };
    match operational {
        "error" => ready = ("False", "Error"),
        "servicing" => ready = ("False", "Servicing"),
        "detached" => (ready, progressing) = (("False", "Detached"), ("False", "Detached")),
        _ => {}
    }
    let table = [
        ("AvailableForProvisioning", available),
        ("Healthy", ("Unknown", "Unknown")),
        ("Manageable", manageable),
        ("Progressing", progressing),
        ("Provisioned", provisioned),
        ("Ready", ready),
    ];
    let dated = table.into_iter().map(|(type_, (is, reason))| {
        let before = status.conditions.iter().find(|old| old.type_ == type_ && old.status == is);
        Condition {
            type_: type_.to_owned(),
            status: is.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            last_transition_time: before.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
            observed_generation: generation,
        }
    });
    dated.collect()
}
