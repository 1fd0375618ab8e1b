//! On or off: the machine follows `spec.online` and the reboot annotations, the status follows the machine.

use super::super::view::{Host, REBOOT};
use super::leave::detach_argument;
use super::record::{fail, save, without_error};
use super::{Next, Plan, Seen, Step, rest, step};
use crate::room::RoomState;

/// `status.poweredOn` follows the machine, and the machine follows `spec.online` and the reboot annotations.
pub(super) fn power(seen: &Seen<'_>) -> Plan {
    let (host, is_on) = (seen.host, is_on(seen));
    if host.status.powered_on != is_on {
        let mut status = host.status.clone();
        status.powered_on = is_on;
        if status.error_type == "power management error" {
            status = without_error(status);
        }
        return save(seen, status);
    }
    if !is_on && host.annotation(REBOOT).is_some() {
        return step(Step::RemoveAnnotation(REBOOT));
    }
    let wanted = host.spec.online && !reboot_wanted(host);
    if is_on == wanted {
        let settled = without_error(host.status.clone());
        let stale = host.status.error_type == "power management error" || host.status.error_count > 0;
        return if stale { save(seen, settled) } else { rest() };
    }
    if let Some(message) = host.told_to_fail("power") {
        let message = if wanted { format!("PowerOn operation failed: {message}") } else { message };
        return fail(seen, "power management error", &message);
    }
    if !wanted && host.spec.disable_power_off {
        // Instead of going off the machine is power cycled; only a reboot annotation without suffix asks for that once.
        if host.annotation(REBOOT).is_none() {
            return rest();
        }
        let steps = vec![Step::Power(false), Step::Power(true), Step::RemoveAnnotation(REBOOT)];
        return Plan { steps, next: Next::Again };
    }
    step(Step::Power(wanted))
}

/// Reboot annotations count where a workload runs; elsewhere only those that force.
fn reboot_wanted(host: &Host) -> bool {
    let prefix = format!("{REBOOT}/");
    host.annotations().iter().any(|(name, value)| {
        let forces = || detach_argument(value, "force") == "true";
        (name == REBOOT || name.starts_with(&prefix)) && (host.is_provisioned() || forces())
    })
}

pub(super) fn is_on(seen: &Seen<'_>) -> bool {
    match seen.room {
        RoomState::On => true,
        RoomState::Off => false,
        RoomState::Empty => seen.bench.bare_metal_on,
    }
}
