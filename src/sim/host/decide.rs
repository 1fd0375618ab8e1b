//! What the operator does next for one host: the state machine of baremetal-operator as a function.
//!
//! One call is one step, as there: it either changes metadata, or gives the machine room an order, or writes the status, and says
//! when to look again. What an order came to is remembered in the [`Bench`] and seen by the next call. The order of the checks is
//! the real operator's, because a provider can see it: the annotation with the saved status first, then the finalizer, then
//! credentials, deletion, detachment, registration, and only then the state.

use std::time::Duration;

use capm3_api::k8s::{Condition, Time};
use capm3_api::names::{CLEANING_DISABLED, FORMAT_LIVE_ISO, annotation, host_state as state};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Timings;
use super::view::{HARDWARE_DETAILS, Host, INSPECT, Provisioning, REBOOT, SecretRef, Span, Status, UsedCredentials};
use crate::room::{Image, RoomState};

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

/// Before the state machine: saved status, hardware details, finalizer.
fn housekeeping(seen: &Seen<'_>) -> Option<Plan> {
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
fn lacking_credentials(seen: &Seen<'_>) -> Option<Plan> {
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

/// From any state towards deletion, once.
fn begin_delete(seen: &Seen<'_>) -> Option<Plan> {
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
fn detach(seen: &Seen<'_>) -> Option<Plan> {
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

fn detach_argument(text: &str, name: &str) -> String {
    match serde_json::from_str::<Value>(text).unwrap_or_default().get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Credentials that were never used, or changed, or failed: the management controller is asked before anything else is done.
fn register(seen: &Seen<'_>) -> Option<Plan> {
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

fn inspect(seen: &Seen<'_>) -> Plan {
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

fn available(seen: &Seen<'_>) -> Plan {
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

fn provision(seen: &Seen<'_>) -> Plan {
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
fn adopt(seen: &Seen<'_>) -> Option<Plan> {
    if seen.room != RoomState::Empty {
        return None;
    }
    Some(match &seen.bench.built {
        Some(Err(message)) => fail(seen, "provisioned registration error", &format!("Host adoption failed: {message}")),
        Some(Ok(())) | None => step(Step::Build),
    })
}

fn deprovision(seen: &Seen<'_>) -> Plan {
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

/// The real operator gives up cleaning a host that is to be deleted.
const GIVE_UP_AFTER: u32 = 3;

fn power_off_before_delete(seen: &Seen<'_>) -> Plan {
    let host = seen.host;
    if is_on(seen) && !host.spec.disable_power_off && host.status.error_count <= GIVE_UP_AFTER {
        return match host.told_to_fail("power") {
            Some(message) => fail(seen, "power management error", &message),
            None => step(Step::Power(false)),
        };
    }
    go(seen, state::DELETING, Status { powered_on: false, ..without_error(host.status.clone()) })
}

fn delete(seen: &Seen<'_>) -> Plan {
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

/// `status.poweredOn` follows the machine, and the machine follows `spec.online` and the reboot annotations.
fn power(seen: &Seen<'_>) -> Plan {
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

fn is_on(seen: &Seen<'_>) -> bool {
    match seen.room {
        RoomState::On => true,
        RoomState::Off => false,
        RoomState::Empty => seen.bench.bare_metal_on,
    }
}

/// An operation that takes its time, and fails when the host is told to.
fn timed(seen: &Seen<'_>, name: &str, error: &str, takes: Duration, then: impl FnOnce(&Seen<'_>) -> Plan) -> Plan {
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
fn go(seen: &Seen<'_>, next: &str, mut status: Status) -> Plan {
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

fn root_device_hints(host: &Host) -> Value {
    host.spec.root_device_hints.clone().unwrap_or_else(|| json!({"deviceName": "/dev/sda"}))
}

fn fail(seen: &Seen<'_>, error: &str, message: &str) -> Plan {
    failure(seen, seen.host.status.clone(), error, message)
}

/// Recorded, and tried again after a pause that grows.
fn failure(seen: &Seen<'_>, status: Status, error: &str, message: &str) -> Plan {
    let status = failed(status, error, message);
    let pause = seen.timings.error_retry.saturating_mul(1 << (status.error_count - 1).min(8));
    Plan { next: Next::After(pause), ..save(seen, status) }
}

fn failed(status: Status, error: &str, message: &str) -> Status {
    Status {
        operational_status: "error".to_owned(),
        error_type: error.to_owned(),
        error_message: message.to_owned(),
        error_count: status.error_count + 1,
        ..status
    }
}

fn without_error(status: Status) -> Status {
    Status { error_count: 0, ..without_message(status) }
}

/// The count stays until an operation succeeds.
fn without_message(status: Status) -> Status {
    Status { operational_status: "OK".to_owned(), error_type: String::new(), error_message: String::new(), ..status }
}

fn image_failure(host: &Host, message: &str) -> String {
    let image = host.spec.image.clone().unwrap_or_default();
    let checksum =
        image.checksum.filter(|sum| !sum.is_empty()).map(|sum| format!(", checksum: {sum}")).unwrap_or_default();
    format!("Image provisioning failed (url: {}{checksum}): {message}", image.url)
}

/// What the real operator would not even try. Its admission refuses the same, where it is installed.
pub(super) fn unacceptable(image: &Image) -> Option<String> {
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

/// Not the uid: whoever confuses the two is to notice.
fn provisioning_id(uid: &str) -> String {
    let mirrored = |c: char| c.to_digit(16).and_then(|digit| char::from_digit(15 - digit, 16)).unwrap_or(c);
    uid.chars().map(mirrored).collect()
}

fn step(step: Step) -> Plan {
    Plan { steps: vec![step], next: Next::Again }
}

fn rest() -> Plan {
    Plan { steps: Vec::new(), next: Next::Event }
}

fn save(seen: &Seen<'_>, status: Status) -> Plan {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with its hardware, and an operator that carries plans out at once.
    struct World {
        host: Host,
        credentials: Credentials,
        hardware_data: Option<Value>,
        held: bool,
        room: RoomState,
        bench: Bench,
        timings: Timings,
        refuses: Option<String>,
        trace: Vec<String>,
        gone: bool,
    }

    fn world(spec: &Value) -> World {
        let metadata = json!({"namespace": "metal3", "name": "node-0", "uid": "01ab", "generation": 1});
        World {
            host: serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap(),
            credentials: Credentials::Valid { name: "bmc".into(), version: "7".into(), claimed: false },
            hardware_data: None,
            held: false,
            room: RoomState::Empty,
            bench: Bench::default(),
            timings: Timings::instant(),
            refuses: None,
            trace: Vec::new(),
            gone: false,
        }
    }

    fn managed() -> World {
        world(&json!({"online": false, "bmc": {"address": "ipmi://192.0.2.1", "credentialsName": "bmc"}}))
    }

    fn image() -> Image {
        Image { url: "http://site/image-v1.36.3".into(), checksum: Some("abc".into()), ..Image::default() }
    }

    impl World {
        fn plan(&self) -> Plan {
            decide(&Seen {
                host: &self.host,
                credentials: &self.credentials,
                hardware_data: self.hardware_data.as_ref(),
                hardware_held: self.held,
                hardware: &json!({"hostname": "node-0", "cpu": {"arch": "x86_64"}, "nics": [{"name": "eth0", "mac": "02:00"}]}),
                room: self.room,
                bench: &self.bench,
                timings: &self.timings,
                now: Timestamp::from_second(1000).unwrap(),
            })
        }

        /// Until the operator waits for something.
        #[track_caller]
        fn settle(&mut self) -> Next {
            for _ in 0..60 {
                let plan = self.plan();
                let idle = plan.steps.is_empty();
                plan.steps.into_iter().for_each(|step| self.carry_out(step));
                match plan.next {
                    Next::Again => assert!(!idle, "again without a step"),
                    next => return next,
                }
            }
            panic!("does not come to rest: {:?}", self.trace);
        }

        fn carry_out(&mut self, step: Step) {
            match step {
                Step::AddFinalizer => self.host.metadata.finalizers = Some(vec![super::super::FINALIZER.into()]),
                Step::RemoveFinalizer => {
                    self.host.metadata.finalizers = None;
                    self.gone = self.host.is_deleting();
                }
                Step::RemoveAnnotation(name) => drop(self.host.metadata.annotations.as_mut().unwrap().remove(name)),
                Step::SetArchitecture(architecture) => self.host.spec.architecture = Some(architecture),
                Step::ClaimCredentials => {
                    let Credentials::Valid { version, claimed, .. } = &mut self.credentials else {
                        panic!("no credentials")
                    };
                    (*version, *claimed) = ("8".into(), true);
                }
                Step::ReleaseCredentials => self.trace.push("released".into()),
                Step::StoreHardware(hardware) => (self.hardware_data, self.held) = (Some(hardware), true),
                Step::ReleaseHardware => self.held = false,
                Step::Build => match &self.refuses {
                    Some(why) => self.bench.built = Some(Err(why.clone())),
                    None => {
                        self.trace.push("built".into());
                        self.bench.built = Some(Ok(()));
                        self.room = RoomState::Off;
                    }
                },
                Step::Power(on) => {
                    self.trace.push(if on { "on".into() } else { "off".into() });
                    self.bench.bare_metal_on = on;
                    if self.room != RoomState::Empty {
                        self.room = if on { RoomState::On } else { RoomState::Off };
                    }
                }
                Step::Wipe => {
                    self.trace.push("wiped".into());
                    self.room = RoomState::Empty;
                    self.bench = Bench::default();
                }
                Step::Status(status) => {
                    if status.provisioning.state != self.host.state() {
                        self.trace.push(status.provisioning.state.clone());
                        self.bench.built = None;
                    }
                    self.bench.power_failure = None;
                    self.host.status = *status;
                }
            }
        }

        /// Settles and tells what happened since the last time.
        #[track_caller]
        fn goes(&mut self, expected: &[&str]) -> Next {
            let next = self.settle();
            assert_eq!(std::mem::take(&mut self.trace), expected);
            next
        }

        fn annotate(&mut self, name: &str, value: &str) {
            self.host.metadata.annotations.get_or_insert_default().insert(name.into(), value.into());
        }

        fn delete(&mut self) {
            self.host.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(900).unwrap()));
        }

        /// As a provider asks for a machine.
        fn asked_for(mut self) -> Self {
            self.settle();
            self.host.spec.image = Some(image());
            self.host.spec.online = true;
            self.trace.clear();
            self
        }

        fn provisioned(self) -> Self {
            let mut world = self.asked_for();
            world.settle();
            assert_eq!(world.host.state(), state::PROVISIONED);
            world.trace.clear();
            world
        }

        #[track_caller]
        fn is_in_error(&self, kind: &str, message: &str) {
            let status = &self.host.status;
            assert_eq!((status.operational_status.as_str(), status.error_type.as_str()), ("error", kind));
            assert_eq!(status.error_message, message);
            assert!(status.error_count > 0);
        }
    }

    #[test]
    fn a_new_host_becomes_available_by_all_states() {
        let mut world = managed();
        assert_eq!(world.goes(&["registering", "inspecting", "preparing", "available"]), Next::Event);
        let status = &world.host.status;
        assert_eq!(status.operational_status, "OK");
        assert_eq!(status.provisioning.id, "fe54");
        assert_eq!(status.provisioning.boot_mode.as_deref(), Some("UEFI"));
        assert_eq!(status.hardware_profile, "unknown");
        assert_eq!(status.good_credentials.credentials_version, "8", "the version after the claim");
        assert_eq!(status.hardware, world.hardware_data);
        assert_eq!(world.host.spec.architecture.as_deref(), Some("x86_64"));
        assert!(status.operation_history.inspect.end.is_some());
        let ready: Vec<_> = status.conditions.iter().filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect();
        assert_eq!(ready, ["AvailableForProvisioning", "Manageable"]);
    }

    #[test]
    fn inspection_can_be_skipped_and_repeated() {
        let mut skipped = managed();
        skipped.annotate(INSPECT, "disabled");
        skipped.annotate(HARDWARE_DETAILS, r#"{"hostname":"given"}"#);
        skipped.goes(&["registering", "preparing", "available"]);
        assert_eq!(skipped.host.status.hardware, Some(json!({"hostname": "given"})));
        assert_eq!(skipped.host.annotation(HARDWARE_DETAILS), None);

        let mut again = managed();
        again.settle();
        again.trace.clear();
        again.annotate(INSPECT, "");
        again.goes(&["inspecting", "preparing", "available"]);
        assert_eq!(again.host.annotation(INSPECT), None);
    }

    #[test]
    fn without_credentials_registration_waits_and_says_for_what() {
        let mut world = managed();
        world.credentials = Credentials::Missing { name: "bmc".into() };
        assert_eq!(world.settle(), Next::After(world.timings.credentials_retry));
        let message = "BMC CredentialsName secret doesn't exist The BMC secret metal3/bmc does not exist";
        world.is_in_error("registration error", message);
        world.settle();
        assert_eq!(world.host.status.error_count, 1, "recorded once");
        world.credentials = Credentials::Incomplete { key: "username" };
        assert_eq!(world.settle(), Next::Event);
        world.is_in_error("registration error", "Missing BMC connection detail 'username' in credentials");
        world.trace.clear();
        world.credentials = Credentials::Valid { name: "bmc".into(), version: "9".into(), claimed: true };
        world.goes(&["inspecting", "preparing", "available"]);
        assert_eq!((world.host.status.error_type.as_str(), world.host.status.error_count), ("", 0));
    }

    #[test]
    fn a_host_without_management_controller_is_unmanaged() {
        let mut world = world(&json!({"online": true}));
        world.credentials = Credentials::Unnamed;
        world.goes(&["unmanaged"]);
        assert_eq!(world.host.status.operational_status, "discovered");
    }

    #[test]
    fn an_image_and_online_provision_and_their_end_deprovisions() {
        let mut world = managed().asked_for();
        world.host.spec.online = false;
        assert_eq!(world.goes(&[]), Next::Event, "a host that is to be off is not provisioned");
        world.host.spec.online = true;
        world.goes(&["provisioning", "built", "on", "provisioned"]);
        let status = &world.host.status;
        assert_eq!((&status.provisioning.image, status.powered_on), (&image(), true));
        world.host.spec.image = None;
        world.host.spec.online = false;
        world.goes(&["deprovisioning", "wiped", "available"]);
        assert_eq!(world.host.status.provisioning.image, Image::default());
        assert!(!world.host.status.powered_on);
        assert!(world.host.status.operation_history.deprovision.end.is_some());
    }

    #[test]
    fn a_changed_image_is_deprovisioned_and_provisioned_anew() {
        let mut world = managed().provisioned();
        world.host.spec.image = Some(Image { url: "http://site/other".into(), ..image() });
        let again = ["deprovisioning", "wiped", "available", "provisioning", "built", "on", "provisioned"];
        world.goes(&again);
    }

    #[test]
    fn states_take_their_time() {
        let mut world = managed();
        world.timings.inspecting = Duration::from_secs(3);
        assert_eq!(world.goes(&["registering", "inspecting"]), Next::After(Duration::from_secs(3)));
        world.bench.elapsed = Duration::from_secs(1);
        assert_eq!(world.goes(&[]), Next::After(Duration::from_secs(2)));
        world.bench.elapsed = Duration::from_secs(3);
        world.goes(&["preparing", "available"]);
        world.bench.elapsed = Duration::ZERO;
        world.timings.cleaning = Duration::from_secs(5);
        let mut world = world.provisioned();
        world.host.spec.image = None;
        assert_eq!(world.goes(&["deprovisioning", "wiped"]), Next::After(Duration::from_secs(5)));
        world.host.spec.automated_cleaning_mode = Some(CLEANING_DISABLED.into());
        world.host.spec.online = false;
        world.goes(&["available"]);
    }

    #[test]
    fn what_the_real_operator_refuses_is_a_provisioning_error_and_no_end() {
        for (bad, message) in [
            (
                Image { url: "file:///x".into(), ..image() },
                "Validation failed: image URL file:///x is invalid: invalid scheme in URL, \"file\" not allowed",
            ),
            (Image { checksum: None, ..image() }, "Validation failed: checksum is required for normal images"),
        ] {
            let mut world = managed().asked_for();
            world.host.spec.image = Some(bad);
            assert_eq!(world.goes(&["provisioning"]), Next::After(world.timings.error_retry));
            world.is_in_error("provisioning error", message);
            world.host.spec.image = Some(image());
            world.goes(&["deprovisioning", "available", "provisioning", "built", "on", "provisioned"]);
            assert_eq!(world.host.status.provisioning_fail_count, 0);
        }
    }

    #[test]
    fn what_the_machine_room_refuses_is_shown_with_the_image() {
        let mut world = managed().asked_for();
        world.refuses = Some("404".into());
        world.settle();
        world.is_in_error(
            "provisioning error",
            "Image provisioning failed (url: http://site/image-v1.36.3, checksum: abc): 404",
        );
        world.settle();
        assert_eq!(world.host.status.provisioning_fail_count, 1);
        world.refuses = None;
        world.settle();
        assert_eq!(world.host.state(), "provisioned");
    }

    #[test]
    fn errors_on_demand_in_every_operation() {
        for (operation, kind) in [
            ("registration", "registration error"),
            ("inspection", "inspection error"),
            ("preparation", "preparation error"),
        ] {
            let mut world = managed();
            world.annotate(super::super::FAIL, &format!("{operation}: out of coffee"));
            assert_eq!(world.settle(), Next::After(world.timings.error_retry));
            world.is_in_error(kind, "out of coffee");
            world.settle();
            assert_eq!(world.host.status.error_count, 2);
            world.host.metadata.annotations = None;
            world.settle();
            assert_eq!((world.host.state(), world.host.status.error_count), ("available", 0));
        }
        let mut world = managed().asked_for();
        world.annotate(super::super::FAIL, "provisioning");
        world.settle();
        world.is_in_error(
            "provisioning error",
            "Image provisioning failed (url: http://site/image-v1.36.3, checksum: abc): asked to fail",
        );

        let mut world = managed().provisioned();
        world.annotate(super::super::FAIL, "power: stuck");
        world.host.spec.online = false;
        world.settle();
        world.is_in_error("power management error", "stuck");
        world.host.metadata.annotations = None;
        world.settle();
        assert_eq!((world.host.status.powered_on, world.host.status.error_type.as_str()), (false, ""));
    }

    #[test]
    fn power_follows_online_and_reboot_annotations() {
        let mut world = managed().provisioned();
        world.annotate(REBOOT, "");
        world.goes(&["off", "on"]);
        assert_eq!((world.host.annotation(REBOOT), world.host.status.powered_on), (None, true));

        world.annotate("reboot.metal3.io/key", "{\"mode\":\"hard\"}");
        world.goes(&["off"]);
        assert!(!world.host.status.powered_on, "off as long as the annotation stays");
        world.host.metadata.annotations = None;
        world.goes(&["on"]);

        world.host.spec.online = false;
        world.goes(&["off"]);
        world.host.spec.online = true;
        world.goes(&["on"]);
        assert_eq!(world.host.state(), "provisioned");
    }

    #[test]
    fn an_available_host_is_switched_too_but_not_rebooted() {
        let mut world = managed();
        world.settle();
        world.trace.clear();
        world.host.spec.online = true;
        world.goes(&["on"]);
        world.annotate("reboot.metal3.io/key", "");
        world.goes(&[]);
        assert!(world.host.status.powered_on);
    }

    #[test]
    fn a_host_that_must_not_go_off_is_power_cycled() {
        let mut world = managed().provisioned();
        world.host.spec.disable_power_off = true;
        world.annotate(REBOOT, "");
        world.goes(&["off", "on"]);
        assert!(world.host.status.powered_on);
    }

    #[test]
    fn a_machine_that_went_off_by_itself_is_seen_and_switched_on() {
        let mut world = managed().provisioned();
        world.room = RoomState::Off;
        world.goes(&["on"]);
        world.room = RoomState::Empty;
        world.goes(&["built", "on"]);
        assert_eq!((world.host.state(), world.host.status.powered_on), ("provisioned", true));
    }

    #[test]
    fn paused_hosts_are_left_alone() {
        let mut world = managed().provisioned();
        world.annotate(annotation::HOST_PAUSED, "metal3.io/capm3");
        world.host.spec.image = None;
        assert_eq!(world.goes(&[]), Next::Event);
    }

    #[test]
    fn detached_hosts_are_out_of_our_hands_until_the_annotation_goes() {
        let mut world = managed().provisioned();
        world.annotate(annotation::HOST_DETACHED, "");
        world.host.spec.online = false;
        world.goes(&[]);
        assert_eq!((world.host.status.operational_status.as_str(), world.room), ("detached", RoomState::On));
        world.host.metadata.annotations = None;
        world.goes(&["off"]);
        assert_eq!(world.host.status.operational_status, "OK");
    }

    #[test]
    fn a_detached_host_is_deleted_without_touching_the_machine() {
        let mut world = managed().provisioned();
        world.annotate(annotation::HOST_DETACHED, "");
        world.settle();
        world.delete();
        world.goes(&["deleting", "released"]);
        assert!(world.gone && world.room == RoomState::On);
    }

    #[test]
    fn deletion_deprovisions_powers_off_and_lets_go() {
        let mut world = managed().provisioned();
        world.delete();
        world.goes(&["deprovisioning", "wiped", "powering off before delete", "deleting", "released"]);
        assert!(world.gone && !world.held);

        let mut available = managed();
        available.host.spec.online = true;
        available.settle();
        available.trace.clear();
        available.delete();
        available.goes(&["powering off before delete", "off", "deleting", "released"]);
        assert!(available.gone);

        let mut lost = managed().provisioned();
        lost.credentials = Credentials::Missing { name: "bmc".into() };
        lost.delete();
        lost.settle();
        assert!(lost.gone, "missing credentials do not keep a host");
    }

    #[test]
    fn an_externally_provisioned_host_is_never_inspected_or_built() {
        let mut world = managed();
        world.host.spec.externally_provisioned = true;
        world.host.spec.online = true;
        world.goes(&["registering", "externally provisioned", "on"]);
        world.host.spec.online = false;
        world.goes(&["off"]);
        world.delete();
        world.goes(&["powering off before delete", "deleting", "released"]);
    }

    #[test]
    fn the_saved_status_is_restored_after_a_move() {
        let before = managed().provisioned();
        let mut moved = managed();
        moved.host.spec = before.host.spec.clone();
        moved.annotate(annotation::HOST_STATUS, &serde_json::to_string(&before.host.status).unwrap());
        moved.room = RoomState::On;
        moved.goes(&["provisioned"]);
        assert_eq!(moved.host.annotation(annotation::HOST_STATUS), None);
        assert_eq!(moved.host.status.provisioning, before.host.status.provisioning);
        assert_eq!(moved.host.status.hardware, before.host.status.hardware);
    }

    #[test]
    fn other_root_device_hints_are_taken_over() {
        let mut world = managed();
        world.settle();
        world.trace.clear();
        world.host.spec.root_device_hints = Some(json!({"deviceName": "/dev/vda"}));
        world.goes(&[]);
        assert_eq!(world.host.status.provisioning.root_device_hints, Some(json!({"deviceName": "/dev/vda"})));
    }

    #[test]
    fn a_settled_host_gets_no_write() {
        for mut world in [managed(), managed().provisioned()] {
            world.settle();
            assert_eq!(world.plan(), rest());
        }
    }
}
