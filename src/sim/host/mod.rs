//! The host operator: plays baremetal-operator over BareMetalHost and HardwareData, well enough that a provider cannot tell.
//!
//! [`decide`] is the state machine, a pure function; [`Operator`] watches, asks it and carries out what it says, with a
//! [`MachineRoom`](crate::room::MachineRoom) for the hardware. Held against baremetal-operator's main branch of August 2026.
//!
//! What differs on purpose: times are [`Timings`]; firmware, RAID, servicing, data images and capacity limits do not exist; a failed
//! credentials check is recorded once and not every ten seconds; errors can be ordered with the annotation [`FAIL`]. What the real
//! operator keeps silent about (a Secret of the config drive that is missing while a host is being provisioned) this one keeps
//! silent about too: it logs, and the state stays `provisioning`.

mod admit;
mod decide;
mod drive;
mod run;
mod view;

use std::time::Duration;

use serde_json::{Value, json};

pub use admit::admit;
pub use decide::{Bench, Credentials, Next, Plan, Seen, Step, decide};
pub use drive::{Sources, config_drive};
pub use run::{Hardware, Operator, OperatorError, Options};
pub use view::{
    FAIL, FINALIZER, HARDWARE_DATA_FINALIZER, HARDWARE_DETAILS, Host, INSPECT, REBOOT, SECRET_FINALIZER, SECRET_LABEL,
    Spec, Status,
};

use crate::room::{HostId, Nic};

/// How long the operator and its hardware take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    pub registering: Duration,
    pub inspecting: Duration,
    pub preparing: Duration,
    /// From the disk being written to the first boot.
    pub provisioning: Duration,
    pub deprovisioning: Duration,
    /// On top of deprovisioning, unless `spec.automatedCleaningMode` is `disabled`.
    pub cleaning: Duration,
    pub deleting: Duration,
    /// Pause before a missing Secret with credentials is looked for again; its appearance wakes the host anyway.
    pub credentials_retry: Duration,
    /// Pause after a first failure; doubles with each further one.
    pub error_retry: Duration,
}

impl Default for Timings {
    /// Quick hardware: a second for what takes minutes, a little for the rest.
    fn default() -> Self {
        let (short, long) = (Duration::from_millis(200), Duration::from_secs(1));
        Self {
            registering: short,
            inspecting: long,
            preparing: short,
            provisioning: long,
            deprovisioning: short,
            cleaning: long,
            deleting: short,
            credentials_retry: Duration::from_secs(10),
            error_retry: Duration::from_secs(5),
        }
    }
}

impl Timings {
    /// Everything at once, for tests that are not about time.
    pub fn instant() -> Self {
        let none = Duration::ZERO;
        Self {
            registering: none,
            inspecting: none,
            preparing: none,
            provisioning: none,
            deprovisioning: none,
            cleaning: none,
            deleting: none,
            credentials_retry: Duration::from_secs(10),
            error_retry: Duration::from_secs(1),
        }
    }
}

/// What an inspection of a host finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareProfile {
    pub hostname: String,
    pub nics: Vec<Nic>,
    pub cpu_arch: String,
    pub cpu_model: String,
    pub cpus: u32,
    pub ram_mebibytes: u32,
    pub disk_bytes: u64,
}

impl HardwareProfile {
    /// A plain server with one card; its address is the one it boots with, or one made from the host's name.
    pub fn plain(host: &HostId, boot_mac: Option<&str>) -> Self {
        let mac = boot_mac.map_or_else(|| made_up_mac(&host.name), str::to_lowercase);
        Self {
            hostname: host.name.clone(),
            nics: vec![Nic { name: "eth0".into(), mac, ip: None, model: Some("0x1af4 0x0001".into()), pxe: true }],
            cpu_arch: "x86_64".into(),
            cpu_model: "Simulated CPU".into(),
            cpus: 4,
            ram_mebibytes: 8192,
            disk_bytes: 107_374_182_400,
        }
    }

    /// In the form of `status.hardware` and of HardwareData.
    pub fn details(&self) -> Value {
        json!({
            "cpu": {"arch": self.cpu_arch, "model": self.cpu_model, "count": self.cpus, "clockMegahertz": 2100, "flags": ["vmx"]},
            "firmware": {"bios": {"vendor": "capm3", "version": "1.0", "date": "01/01/2026"}},
            "hostname": self.hostname,
            "nics": self.nics,
            "ramMebibytes": self.ram_mebibytes,
            "storage": [{
                "name": "/dev/sda", "sizeBytes": self.disk_bytes, "type": "SSD", "rotational": false,
                "serialNumber": format!("disk-{}", self.hostname),
            }],
            "systemVendor": {"manufacturer": "capm3", "productName": "simulated", "serialNumber": self.hostname},
        })
    }
}

/// Locally administered and stable for a name.
fn made_up_mac(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    format!("02:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
}
