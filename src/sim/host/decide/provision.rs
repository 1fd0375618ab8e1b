//! What runs on a host: an image comes on its disk when somebody asks for it, and goes again.

use capm3_api::names::{CLEANING_DISABLED, FORMAT_LIVE_ISO, host_state as state};

use super::super::view::{Host, INSPECT, Provisioning, REBOOT, Status};
use super::power::power;
use super::record::{fail, failure, go, save, without_error, without_message};
use super::{GIVE_UP_AFTER, Next, Plan, Seen, Step, step};
use crate::room::{Image, RoomState};

pub(super) fn available(seen: &Seen<'_>) -> Plan {
    let host = seen.host;
    if host.spec.externally_provisioned {
        return go(seen, state::EXTERNALLY_PROVISIONED, host.status.clone());
    }
    if host.annotation(INSPECT).is_some_and(|value| value != "disabled") {
        return go(seen, state::INSPECTING, host.status.clone());
    }
    if host.needs_provisioning() {
        let mut status = host.status.clone();
        if host.spec.image != status.last_attempted_image {
            status.provisioning_fail_count = 0;
        }
        return go(seen, state::PROVISIONING, without_message(status));
    }
    if host.image_url().is_empty() && host.status.provisioning_fail_count > 0 {
        let status = Status { provisioning_fail_count: 0, last_attempted_image: None, ..host.status.clone() };
        return save(seen, status);
    }
    power(seen)
}

pub(super) fn provision(seen: &Seen<'_>) -> Plan {
    let host = seen.host;
    if !host.status.error_type.is_empty() || host.is_cancelled() {
        let mut status = host.status.clone();
        status.provisioning_fail_count += u32::from(!status.error_type.is_empty());
        return go(seen, state::DEPROVISIONING, status);
    }
    let attempted = host.spec.image.clone();
    let refuse = |message: &str| {
        let status = Status { last_attempted_image: attempted.clone(), ..host.status.clone() };
        failure(seen, status, "provisioning error", message)
    };
    if let Some(message) = host.spec.image.as_ref().and_then(unacceptable) {
        return refuse(&format!("Validation failed: {message}"));
    }
    if let Some(message) = host.told_to_fail("provisioning") {
        return refuse(&image_failure(host, &message));
    }
    match &seen.bench.built {
        None => return step(Step::Build),
        Some(Err(message)) => return refuse(&image_failure(host, message)),
        Some(Ok(())) => {}
    }
    if let Some(left) = seen.timings.provisioning.checked_sub(seen.bench.elapsed).filter(|left| !left.is_zero()) {
        return Plan { steps: Vec::new(), next: Next::After(left) };
    }
    let mut status =
        Status { last_attempted_image: attempted, provisioning_fail_count: 0, ..without_error(host.status.clone()) };
    status.provisioning.image = host.spec.image.clone().unwrap_or_default();
    status.provisioning.custom_deploy = host.spec.custom_deploy.clone();
    let mut plan = go(seen, state::PROVISIONED, status);
    plan.steps.insert(0, Step::Power(true)); // the deployment ends with the first boot
    plan
}

/// A provisioned host whose disk is not there: the machine room was lost. It is built again, as what it was.
pub(super) fn adopt(seen: &Seen<'_>) -> Option<Plan> {
    if seen.room != RoomState::Empty {
        return None;
    }
    Some(match &seen.bench.built {
        Some(Err(message)) => fail(seen, "provisioned registration error", &format!("Host adoption failed: {message}")),
        Some(Ok(())) | None => step(Step::Build),
    })
}

pub(super) fn deprovision(seen: &Seen<'_>) -> Plan {
    let host = seen.host;
    let disabled = host.spec.automated_cleaning_mode.as_deref() == Some(CLEANING_DISABLED);
    let takes =
        if disabled { seen.timings.deprovisioning } else { seen.timings.deprovisioning + seen.timings.cleaning };
    if !host.is_deleting() || host.status.error_count <= GIVE_UP_AFTER {
        if let Some(message) = host.told_to_fail("deprovisioning") {
            return fail(seen, "provisioning error", &format!("Cleaning failed: {message}"));
        }
        if !host.status.error_type.is_empty() {
            return save(seen, without_message(host.status.clone()));
        }
        if seen.room != RoomState::Empty {
            return step(Step::Wipe);
        }
        if let Some(left) = takes.checked_sub(seen.bench.elapsed).filter(|left| !left.is_zero()) {
            return Plan { steps: Vec::new(), next: Next::After(left) };
        }
    }
    if host.annotation(REBOOT).is_some() {
        return step(Step::RemoveAnnotation(REBOOT));
    }
    let mut status = without_error(host.status.clone());
    let done = std::mem::take(&mut status.provisioning);
    status.provisioning =
        Provisioning { id: done.id, boot_mode: done.boot_mode, state: done.state, ..Provisioning::default() };
    let next = if host.is_deleting() { state::POWERING_OFF_BEFORE_DELETE } else { state::AVAILABLE };
    go(seen, next, status)
}

fn image_failure(host: &Host, message: &str) -> String {
    let image = host.spec.image.clone().unwrap_or_default();
    let checksum =
        image.checksum.filter(|sum| !sum.is_empty()).map(|sum| format!(", checksum: {sum}")).unwrap_or_default();
    format!("Image provisioning failed (url: {}{checksum}): {message}", image.url)
}

/// What the real operator would not even try. Its admission refuses the same, where it is installed.
pub(in crate::host) fn unacceptable(image: &Image) -> Option<String> {
    const SCHEMES: [&str; 5] = ["http", "https", "ftp", "gopher", "oci"];
    if image.url.is_empty() {
        return None; // custom deployments have none
    }
    let Some((scheme, rest)) = image.url.split_once("://") else {
        return Some(format!("image URL {} is invalid: parse {:?}: invalid URI for request", image.url, image.url));
    };
    if !SCHEMES.contains(&scheme) {
        return Some(format!("image URL {} is invalid: invalid scheme in URL, {scheme:?} not allowed", image.url));
    }
    if rest.is_empty() || rest.contains(char::is_whitespace) {
        return Some(format!(
            "image URL {} is invalid: parse {:?}: invalid character in host name",
            image.url, image.url
        ));
    }
    let sum = image.checksum.as_deref().unwrap_or_default();
    let kind = image.checksum_type.as_deref().unwrap_or_default();
    if scheme == "oci" {
        let text = "spec.image.checksum must be empty for OCI images (oci:// images have embedded checksums)";
        return (!sum.is_empty()).then(|| text.to_owned());
    }
    if image.format.as_deref() == Some(FORMAT_LIVE_ISO) {
        return None;
    }
    if sum.is_empty() {
        return Some("checksum is required for normal images".to_owned());
    }
    (!matches!(kind, "" | "auto" | "md5" | "sha256" | "sha512"))
        .then(|| format!("unknown checksumType {kind}, supported are auto, md5, sha256, sha512"))
}
