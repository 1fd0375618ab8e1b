//! The hardware of the site: hosts whose cards end at the bridge, the machine room that runs them, the load balancer in
//! front of control planes, and the host operator that plays baremetal-operator over all of it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use capm3_sim::Tasks;
use capm3_sim::host::{HardwareProfile, Operator, Options};
use capm3_sim::room::{HostId, Nic};
use kube::Client;

use crate::console::Console;
use crate::machine::layer;
use crate::machine::room::{Programs as MachinePrograms, Room, Site};
use crate::net::BRIDGE;
use crate::paths::Paths;
use crate::programs::Programs;
use crate::tools::Tools;

/// Where the site's load balancer answers for the control plane of a workload cluster.
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 100);
pub const ENDPOINT_PORT: u16 = 6443;

/// Makes the machines' operating system image while there still is a network, because apt needs its mirrors. Says whether
/// machines will run the real cloud-init; without it they run a small reader of the same data.
pub async fn make_image(paths: &Paths, console: &Console) -> bool {
    if layer::made(&paths.cache).is_none() {
        console.step("installing cloud-init into the machines' image (not on this host), usually 25 s");
    }
    match layer::ensure(&paths.cache).await {
        Ok(_) => true,
        Err(error) => {
            console.step(format_args!("no cloud-init: {error:#}"));
            console.step("the machines read their user data with a small built-in reader instead");
            false
        }
    }
}

/// Opens the machine room and starts the host operator; its CRDs must be served.
pub async fn start(paths: &Paths, tools: &Tools, programs: &Programs, client: Client) -> Result<()> {
    let room = Arc::new(open(paths, tools)?);
    room.balance(SocketAddr::new(ENDPOINT.into(), ENDPOINT_PORT)).await.context("the site's load balancer")?;
    let options = Options { hardware: Arc::new(profile), ..Options::default() };
    let tasks = Tasks::new();
    programs.task("host operator", async move {
        Operator::spawn(client, room, options, &tasks).await;
        tasks.stopping().cancelled().await;
        Err(anyhow!(tasks.failure().unwrap_or_default()))
    });
    Ok(())
}

fn open(paths: &Paths, tools: &Tools) -> Result<Room> {
    let find = |names: &[&str], path: &dyn Fn(&str) -> Result<PathBuf>| -> Result<BTreeMap<String, PathBuf>> {
        names.iter().map(|name| Ok(((*name).to_owned(), path(name)?))).collect()
    };
    let managed = |name: &str| tools.path(name).map(Path::to_owned);
    let mut versions = BTreeMap::new();
    for version in tools.machine_versions() {
        let programs = find(&["kubelet", "kubeadm"], &|name| tools.of_machine(version, name).map(Path::to_owned))?;
        versions.insert(version.to_owned(), programs);
    }
    let control_plane = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];
    let programs = MachinePrograms {
        init: managed("machine-init")?,
        cri: managed("process-cri")?,
        common: find(&control_plane, &managed)?,
        versions,
    };
    let (layer, machines) = (layer::made(&paths.cache), paths.state.join("machines"));
    Ok(Room::new(Site { layer, machines, bridge: BRIDGE.to_owned(), programs }))
}

/// A server with two cards: it boots from the first, the machines' own network is on the second.
fn profile(host: &HostId, boot_mac: Option<&str>) -> HardwareProfile {
    let mut profile = HardwareProfile::plain(host, boot_mac);
    let second = profile.nics.first().map(|first| Nic {
        name: "eth1".to_owned(),
        mac: format!("06{}", first.mac.get(2..).unwrap_or_default()),
        pxe: false,
        ..first.clone()
    });
    profile.nics.extend(second);
    profile
}

/// The address of the card that the host called `name` boots from: locally administered, told apart by a digest.
pub fn boot_mac(name: &str) -> String {
    let digest = name.bytes().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = digest.to_be_bytes();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_cards_of_a_host_have_addresses_of_their_own() {
        let host = HostId { namespace: "metal3".into(), name: "node-0".into(), uid: "1".into() };
        let profile = profile(&host, Some(&boot_mac("node-0")));
        let macs: Vec<_> = profile.nics.iter().map(|nic| (nic.name.as_str(), nic.mac.as_str())).collect();
        let boot = boot_mac("node-0");
        assert_eq!(macs, [("eth0", boot.as_str()), ("eth1", boot.replacen("02", "06", 1).as_str())]);
        assert_ne!(boot_mac("node-0"), boot_mac("node-1"));
    }
}
