//! The machine room: where a host that the operator provisions turns into something that runs.
//!
//! The host operator decides *when* a disk is written, a machine switched on or wiped; a [`MachineRoom`] does it. The bed's room
//! starts real machines; [`Shelf`] only remembers, for tests and for clusters whose machines nobody looks into.
//!
//! Every method is idempotent: the operator repeats a call whose answer it lost (a restart, a failed status write). A call
//! returns when its effect is there (the disk written, the machine off), not when the guest has finished booting.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// Which host is meant. Names come back with another `uid` after a delete; the room goes by `uid`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// The files under `openstack/latest/` of the config drive. An absent file is absent on the drive too.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigDrive {
    /// `user_data`, byte for byte as the Secret has it; bootstrap data is secret and this type does not print it.
    pub user_data: Option<Vec<u8>>,
    /// `meta_data.json`: the operator's keys with those of the metaData Secret merged over them.
    pub meta_data_json: String,
    /// `network_data.json`: the YAML of the networkData Secret as JSON.
    pub network_data_json: Option<String>,
}

impl std::fmt::Debug for ConfigDrive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigDrive")
            .field("user_data_bytes", &self.user_data.as_ref().map(Vec::len))
            .field("network_data", &self.network_data_json.is_some())
            .finish_non_exhaustive()
    }
}

/// What is written to the disk, as `spec.image` of the host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Image {
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// A network card of the simulated hardware, as `status.hardware.nics` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    pub name: String,
    pub mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default)]
    pub pxe: bool,
}

/// A machine to be built: a wiped disk with the image and the config drive, in a chassis with these cards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    pub image: Image,
    /// `None` for a live ISO, which gets none.
    pub config_drive: Option<ConfigDrive>,
    pub nics: Vec<Nic>,
}

/// What stands in the room under a host's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomState {
    /// No disk of ours: never built, wiped, or lost with the room.
    Empty,
    Off,
    On,
}

/// Why the room could not do it; `Display` is what the host's `status.errorMessage` shows.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RoomError {
    pub message: String,
    /// The wish itself is wrong (an image nobody has): shown as a provisioning error, retried when the wish changes or slowly.
    pub refused: bool,
}

/// Carries out what the host operator decided.
pub trait MachineRoom: Send + Sync + 'static {
    /// Writes a fresh disk and leaves the machine off. An earlier disk of the same host is wiped first.
    fn provision(&self, host: &HostId, build: Build) -> impl Future<Output = Result<(), RoomError>> + Send;

    /// Switches a built machine on or off; the disk stays. Nothing to switch on ([`RoomState::Empty`]) is not an error: metal
    /// without an image can be on as well.
    fn power(&self, host: &HostId, on: bool) -> impl Future<Output = Result<(), RoomError>> + Send;

    /// Off and wiped. Fine when nothing stands there.
    fn deprovision(&self, host: &HostId) -> impl Future<Output = Result<(), RoomError>> + Send;

    /// What is there now. A provisioned host that is [`RoomState::Empty`] is built again.
    fn state(&self, host: &HostId) -> impl Future<Output = RoomState> + Send;
}

/// A room that only remembers what it was told: the machines are boxes on a shelf.
#[derive(Debug, Default)]
pub struct Shelf {
    boxes: Mutex<BTreeMap<HostId, Boxed>>,
}

/// A machine on the [`Shelf`].
#[derive(Debug, Clone, Default)]
pub struct Boxed {
    pub build: Build,
    pub on: bool,
    /// How often it was switched on.
    pub boots: usize,
}

impl Shelf {
    /// What was built for the host, if anything.
    pub fn get(&self, host: &HostId) -> Option<Boxed> {
        self.lock().get(host).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<HostId, Boxed>> {
        self.boxes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl MachineRoom for Shelf {
    async fn provision(&self, host: &HostId, build: Build) -> Result<(), RoomError> {
        self.lock().insert(host.clone(), Boxed { build, ..Boxed::default() });
        Ok(())
    }

    async fn power(&self, host: &HostId, on: bool) -> Result<(), RoomError> {
        if let Some(machine) = self.lock().get_mut(host) {
            machine.boots += usize::from(on && !machine.on);
            machine.on = on;
        }
        Ok(())
    }

    async fn deprovision(&self, host: &HostId) -> Result<(), RoomError> {
        self.lock().remove(host);
        Ok(())
    }

    async fn state(&self, host: &HostId) -> RoomState {
        match self.lock().get(host) {
            None => RoomState::Empty,
            Some(machine) if machine.on => RoomState::On,
            Some(_) => RoomState::Off,
        }
    }
}
