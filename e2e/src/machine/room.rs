//! The bed's [`MachineRoom`]: what stands under each host, and what is done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use capm3_sim::room::{Build, ConfigDrive, HostId, MachineRoom, RoomError, RoomState};
use tokio::sync::{Mutex, watch};
use tokio_util::task::TaskTracker;

use super::balancer;
use super::layer::blank_disk;
use super::manifest::Manifest;
use super::power::{self, Running};

/// Sparse: only what a machine writes takes space.
const DISK_BYTES: u64 = 16 << 30;

/// The programs of the machines, by path on this host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Programs {
    /// `machine-init` of this crate.
    pub init: PathBuf,
    /// `process-cri`, the container runtime.
    pub cri: PathBuf,
    /// In every machine, under their names: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl.
    pub common: BTreeMap<String, PathBuf>,
    /// Version as `v1.36.3` to kubelet and kubeadm of that version.
    pub versions: BTreeMap<String, BTreeMap<String, PathBuf>>,
}

/// What the room needs of its surroundings.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The image layer that [`super::layer::ensure`] made. `None`: a small reader stands in for cloud-init, and says so on each console.
    pub layer: Option<PathBuf>,
    /// Disks, drives and logs of the machines; one folder per host.
    pub machines: PathBuf,
    /// The bridge that cards are plugged into.
    pub bridge: String,
    pub programs: Programs,
}

/// Real machines for provisioned hosts.
pub(crate) struct Room {
    site: Site,
    slots: Mutex<BTreeMap<HostId, Slot>>,
    /// Addresses of all machines that are on: whom the load balancers may ask.
    candidates: watch::Sender<BTreeSet<IpAddr>>,
    balancers: TaskTracker,
}

/// Serialises what is done to one host; hosts do not wait for each other.
type Slot = Arc<Mutex<Option<Machine>>>;

struct Machine {
    build: Build,
    version: String,
    addresses: Vec<IpAddr>,
    running: Option<Running>,
}

impl Room {
    pub(crate) fn new(site: Site) -> Self {
        Self {
            site,
            slots: Mutex::default(),
            candidates: watch::Sender::new(BTreeSet::new()),
            balancers: TaskTracker::new(),
        }
    }

    /// Puts a load balancer for a control plane at `endpoint`; it answers before any machine does.
    pub(crate) async fn balance(&self, endpoint: SocketAddr) -> Result<()> {
        let address = endpoint.ip();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        power::ip(&["addr", "replace", &format!("{address}/{bits}"), "dev", &self.site.bridge]).await?;
        let balancer = balancer::Balancer::bind(endpoint).await?;
        self.balancers.spawn(balancer.serve(self.candidates.subscribe()));
        Ok(())
    }

    /// Where the console of a host's machine is logged; it outlives the machine.
    pub(crate) fn console(&self, host: &HostId) -> PathBuf {
        self.folder(host).join("console.log")
    }

    /// A host that was deleted and made again under the same name is the same metal: what its earlier self left goes.
    async fn evict_namesakes(&self, host: &HostId) -> Result<()> {
        let namesake = |other: &HostId| other != host && other.namespace == host.namespace && other.name == host.name;
        let gone: Vec<(HostId, Slot)> = self.slots.lock().await.extract_if(.., |other, _| namesake(other)).collect();
        for (other, slot) in gone {
            if let Some(machine) = &mut *slot.lock().await {
                self.switch_off(&other, machine).await?;
            }
        }
        Ok(())
    }

    async fn slot(&self, host: &HostId) -> Slot {
        self.slots.lock().await.entry(host.clone()).or_default().clone()
    }

    fn folder(&self, host: &HostId) -> PathBuf {
        self.site.machines.join(&host.namespace).join(&host.name)
    }

    fn disk(&self, host: &HostId) -> PathBuf {
        self.folder(host).join("disk.ext4")
    }

    async fn write_disk(&self, host: &HostId, build: &Build) -> Result<()> {
        let folder = self.folder(host);
        wipe(&folder).await?;
        for sub in ["log", "root"] {
            tokio::fs::create_dir_all(folder.join(sub)).await?;
        }
        if let Some(drive) = &build.config_drive {
            write_drive(&folder.join("drive"), drive).await?;
        }
        blank_disk(&self.disk(host), DISK_BYTES).await
    }

    async fn switch_on(&self, host: &HostId, machine: &mut Machine) -> Result<()> {
        let folder = self.folder(host);
        let manifest = Manifest {
            layer: self.site.layer.clone(),
            disk: self.disk(host),
            scratch: folder.join("root"),
            drive: machine.build.config_drive.as_ref().map(|_| folder.join("drive")),
            log: folder.join("log"),
            programs: installed(&self.site.programs, &machine.version),
        };
        let told = folder.join("manifest.json");
        tokio::fs::write(&told, serde_json::to_vec_pretty(&manifest)?).await?;
        let cables = power::cables(tag(host), &machine.build.nics);
        let init = &self.site.programs.init;
        let running = Running::start(init, &told, &self.console(host), &cables, &self.site.bridge).await?;
        machine.running = Some(running);
        self.candidates.send_modify(|all| all.extend(&machine.addresses));
        tracing::info!(host = %host.name, version = %machine.version, addresses = ?machine.addresses, "machine on");
        Ok(())
    }

    async fn switch_off(&self, host: &HostId, machine: &mut Machine) -> Result<()> {
        let Some(running) = machine.running.take() else { return Ok(()) };
        self.candidates.send_modify(|all| all.retain(|address| !machine.addresses.contains(address)));
        running.stop().await?;
        power::released(&self.disk(host)).await?;
        tracing::info!(host = %host.name, "machine off");
        Ok(())
    }
}

impl MachineRoom for Room {
    async fn provision(&self, host: &HostId, build: Build) -> Result<(), RoomError> {
        let known = &self.site.programs.versions;
        let url = &build.image.url;
        let version = kubernetes_version(url).filter(|v| known.contains_key(*v)).ok_or_else(|| RoomError {
            message: format!(
                "image {url} names no Kubernetes version that is here ({})",
                known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
            refused: true,
        })?;
        let network = build.config_drive.as_ref().and_then(|drive| drive.network_data_json.as_deref());
        let version = version.to_owned();
        let addresses = addresses(network.unwrap_or_default());

        let slot = self.slot(host).await;
        let mut slot = slot.lock().await;
        if let Some(machine) = &mut *slot {
            self.switch_off(host, machine).await.map_err(broken)?;
        }
        *slot = None;
        self.evict_namesakes(host).await.map_err(broken)?;
        self.write_disk(host, &build).await.map_err(broken)?;
        *slot = Some(Machine { build, version, addresses, running: None });
        Ok(())
    }

    async fn power(&self, host: &HostId, on: bool) -> Result<(), RoomError> {
        let slot = self.slot(host).await;
        let mut slot = slot.lock().await;
        let Some(machine) = &mut *slot else { return Ok(()) };
        let alive = machine.running.as_mut().is_some_and(Running::alive);
        match (on, alive) {
            (true, true) => Ok(()),
            (true, false) => {
                self.switch_off(host, machine).await.map_err(broken)?; // what a machine that ended by itself left
                self.switch_on(host, machine).await.map_err(broken)
            }
            (false, _) => self.switch_off(host, machine).await.map_err(broken),
        }
    }

    async fn deprovision(&self, host: &HostId) -> Result<(), RoomError> {
        let slot = self.slot(host).await;
        let mut slot = slot.lock().await;
        if let Some(machine) = &mut *slot {
            self.switch_off(host, machine).await.map_err(broken)?;
        }
        *slot = None;
        wipe(&self.folder(host)).await.map_err(broken)
    }

    async fn state(&self, host: &HostId) -> RoomState {
        let slot = self.slot(host).await;
        let mut slot = slot.lock().await;
        let Some(machine) = &mut *slot else { return RoomState::Empty };
        let alive = machine.running.as_mut().is_some_and(Running::alive);
        if alive { RoomState::On } else { RoomState::Off }
    }
}

/// A failure of the room itself, not of what was asked.
#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn broken(error: anyhow::Error) -> RoomError {
    RoomError { message: format!("{error:#}"), refused: false }
}

/// Deletes the disk, the config drive and the logs on it; the console log stays, it is ours.
async fn wipe(folder: &Path) -> Result<()> {
    for (name, is_folder) in
        [("disk.ext4", false), ("manifest.json", false), ("drive", true), ("log", true), ("root", true)]
    {
        let path = folder.join(name);
        let removed =
            if is_folder { tokio::fs::remove_dir_all(&path).await } else { tokio::fs::remove_file(&path).await };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The files of `openstack/latest`, byte for byte; an absent file is absent.
async fn write_drive(folder: &Path, drive: &ConfigDrive) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    tokio::fs::create_dir_all(folder).await?;
    tokio::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).await?; // bootstrap data is secret
    for (name, bytes) in drive_files(drive) {
        tokio::fs::write(folder.join(name), bytes).await?;
    }
    Ok(())
}

fn drive_files(drive: &ConfigDrive) -> Vec<(&'static str, &[u8])> {
    let mut files = vec![("meta_data.json", drive.meta_data_json.as_bytes())];
    files.extend(drive.user_data.as_deref().map(|data| ("user_data", data)));
    files.extend(drive.network_data_json.as_deref().map(|data| ("network_data.json", data.as_bytes())));
    files
}

/// What stands in the machine's `/usr/local/bin`.
fn installed(programs: &Programs, version: &str) -> BTreeMap<String, PathBuf> {
    let mut all = programs.common.clone();
    all.extend(programs.versions.get(version).cloned().unwrap_or_default());
    all.insert("process-cri".into(), programs.cri.clone());
    for name in ["machine-init", "systemctl"] {
        all.insert(name.into(), programs.init.clone());
    }
    all
}

/// `v1.36.3` in `http://images/node-v1.36.3.raw`: an image of this site says in its name what is on it.
fn kubernetes_version(url: &str) -> Option<&str> {
    url.match_indices('v').find_map(|(at, _)| {
        let rest = url.get(at + 1..)?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = rest.get(..end)?.trim_end_matches('.');
        let parts: Vec<&str> = number.split('.').collect();
        let whole = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
        whole.then(|| url.get(at..=at + number.len())).flatten()
    })
}

/// All static addresses of the network data.
fn addresses(network_data: &str) -> Vec<IpAddr> {
    let data: serde_json::Value = serde_json::from_str(network_data).unwrap_or_default();
    let networks = data.get("networks").and_then(|n| n.as_array()).map(Vec::as_slice).unwrap_or_default();
    let address = |network: &serde_json::Value| network.get("ip_address")?.as_str()?.split('/').next()?.parse().ok();
    networks.iter().filter_map(address).collect()
}

/// A short number for a host, stable and unlikely to be another's on the same bridge (FNV-1a).
fn tag(host: &HostId) -> u32 {
    let bytes = host.namespace.bytes().chain([0]).chain(host.name.bytes()).chain([0]).chain(host.uid.bytes());
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_machine_is_in_the_name_of_its_image() {
        assert_eq!(kubernetes_version("http://198.51.100.5/images/node-v1.36.3.raw"), Some("v1.36.3"));
        assert_eq!(kubernetes_version("http://v/dev/node_v1.36.12-rev.2.qcow2"), Some("v1.36.12"));
        assert_eq!(kubernetes_version("http://srv1.0/node-v1.36.raw"), None);
        assert_eq!(kubernetes_version("http://images/node.raw"), None);
    }

    #[test]
    fn the_config_drive_holds_what_was_given_and_nothing_else() {
        let bare = ConfigDrive { meta_data_json: "{}".into(), ..ConfigDrive::default() };
        assert_eq!(drive_files(&bare), [("meta_data.json", b"{}".as_slice())]);
        let full = ConfigDrive {
            user_data: Some(b"## template: jinja\n\xff".to_vec()),
            network_data_json: Some("{\"links\":[]}".into()),
            ..bare
        };
        assert_eq!(
            drive_files(&full),
            [
                ("meta_data.json", b"{}".as_slice()),
                ("user_data", b"## template: jinja\n\xff".as_slice()),
                ("network_data.json", b"{\"links\":[]}".as_slice()),
            ]
        );
    }

    #[test]
    fn a_machine_carries_the_kubelet_of_its_own_version() {
        let of = |version: &str| BTreeMap::from([("kubelet".to_owned(), PathBuf::from(format!("/{version}/kubelet")))]);
        let programs = Programs {
            versions: BTreeMap::from([("v1.36.2".into(), of("v1.36.2")), ("v1.36.3".into(), of("v1.36.3"))]),
            ..Programs::default()
        };
        assert_eq!(installed(&programs, "v1.36.2").get("kubelet"), Some(&PathBuf::from("/v1.36.2/kubelet")));
    }

    #[test]
    fn every_static_address_may_be_asked_by_the_load_balancer() {
        let data = r#"{"networks": [{"type": "ipv4", "ip_address": "192.0.2.7"}, {"type": "ipv4_dhcp"}, {"ip_address": "2001:db8::7/64"}]}"#;
        assert_eq!(addresses(data), ["192.0.2.7".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
        assert!(addresses("").is_empty());
    }
}
