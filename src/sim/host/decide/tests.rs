//! A host with its hardware, and what happens to it until the operator waits for something.

use capm3_api::k8s::Time;
use capm3_api::names::{CLEANING_DISABLED, annotation};
use serde_json::json;

use super::super::view::{HARDWARE_DETAILS, INSPECT, REBOOT};
use super::*;
use crate::room::Image;

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
