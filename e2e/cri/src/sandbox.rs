//! A pod's own network, host name and IPC: namespaces without a name, held by nothing but file descriptors of this
//! process. However the runtime ends, they go, and with them the pod's end of its veth and so the pair.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::config::Bridge;

/// The network a pod was given.
pub(crate) struct PodNetwork {
    pub address: Ipv4Addr,
    /// Our end of the veth, in the bridge.
    link: String,
    network: File,
    host_name: File,
    ipc: File,
}

/// The address a new pod gets: the lowest that nobody holds.
pub(crate) fn lowest_free(bridge: &Bridge, held: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let base = u32::from(bridge.prefix.network());
    let mut candidates = (bridge.first..=bridge.last).map(|host| Ipv4Addr::from(base.saturating_add(host)));
    candidates.find(|address| bridge.prefix.contains(address) && !held.contains(address))
}

impl PodNetwork {
    pub(crate) async fn create(bridge: &Bridge, address: Ipv4Addr, host_name: &str, id: &str) -> Result<Self> {
        let link = format!("pod{}", id.get(..10).unwrap_or(id));
        let batch = batch(bridge, address, &link);
        let host_name = host_name.to_owned();
        let inside = link.clone();
        let network = in_thread(move || Self::unshare(address, &host_name, inside, &batch)).await?;
        let args = ["link", "set", &link, "master", &bridge.bridge, "up"];
        let done = tokio::process::Command::new("ip").args(args).output().await.context("running ip")?;
        if !done.status.success() {
            bail!("joining bridge {}: {}", bridge.bridge, String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(network)
    }

    /// Runs on a thread of its own, because a thread that changed its network is of no use to anyone else.
    #[expect(deprecated, reason = "sound: the caution is about UnshareFlags::FILES, and the new name is unsafe")]
    fn unshare(address: Ipv4Addr, host_name: &str, link: String, batch: &str) -> Result<Self> {
        rustix::thread::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)
            .context("making the pod's namespaces")?;
        rustix::system::sethostname(host_name.as_bytes()).context("setting the pod's host name")?;
        // Peers remember the hardware address of an earlier pod with this address: tell them at once.
        std::fs::write("/proc/sys/net/ipv4/conf/default/arp_notify", "1").context("setting arp_notify")?;
        let mut ip = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("running ip")?;
        if let Some(mut stdin) = ip.stdin.take() {
            stdin.write_all(batch.as_bytes())?;
        }
        let done = ip.wait_with_output()?;
        if !done.status.success() {
            bail!("configuring the pod's network: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        let open = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}")).context("holding a namespace");
        Ok(Self { address, link, network: open("net")?, host_name: open("uts")?, ipc: open("ipc")? })
    }

    /// Paths by which a child of this process joins the pod's namespaces.
    pub(crate) fn joins(&self) -> Vec<PathBuf> {
        let pid = std::process::id();
        let path = |held: &File| PathBuf::from(format!("/proc/{pid}/fd/{}", held.as_raw_fd()));
        [&self.network, &self.host_name, &self.ipc].map(path).into()
    }

    pub(crate) fn namespace(&self) -> Result<File> {
        self.network.try_clone().context("holding the pod's network")
    }

    /// The namespace itself dies some time after its last holder; the link, and with it the address, must go now.
    pub(crate) async fn remove(self) {
        let done = tokio::process::Command::new("ip").args(["link", "del", &self.link]).output().await;
        match done {
            Ok(done) if done.status.success() => {}
            Ok(done) => {
                let error = String::from_utf8_lossy(&done.stderr).into_owned();
                tracing::warn!(link = self.link, error = error.trim(), "pod link not removed");
            }
            Err(error) => tracing::warn!(link = self.link, %error, "pod link not removed"),
        }
    }
}

/// Connects to `port` on the loopback of a pod's network, or of the node's.
pub(crate) async fn dial(namespace: Option<File>, port: u16) -> Result<tokio::net::TcpStream> {
    let connect = move || -> Result<TcpStream> {
        if let Some(namespace) = namespace {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("entering the pod's network")?;
        }
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to port {port} of the pod"))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    Ok(tokio::net::TcpStream::from_std(in_thread(connect).await?)?)
}

async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (tx, rx) = oneshot::channel();
    thread::Builder::new().spawn(move || tx.send(work())).context("starting a thread")?;
    rx.await.context("a thread ended early")?
}

fn batch(bridge: &Bridge, address: Ipv4Addr, link: &str) -> String {
    let length = bridge.prefix.prefix_len();
    let mut batch = format!(
        "link set lo up\nlink add eth0 type veth peer name {link} netns {}\naddr add {address}/{length} brd + dev eth0\n\
         link set eth0 up\n",
        std::process::id()
    );
    if let Some(gateway) = bridge.gateway {
        batch.push_str(&format!("route add default via {gateway}\n"));
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_address_of_the_range_is_taken() {
        let prefix = "198.51.100.0/24".parse().unwrap();
        let bridge = Bridge { bridge: "br0".to_owned(), prefix, first: 20, last: 22, gateway: None };
        let address = |host| Ipv4Addr::new(198, 51, 100, host);
        assert_eq!(lowest_free(&bridge, &BTreeSet::new()), Some(address(20)));
        assert_eq!(lowest_free(&bridge, &BTreeSet::from([address(20), address(22)])), Some(address(21)));
        assert_eq!(lowest_free(&bridge, &BTreeSet::from([address(20), address(21), address(22)])), None);
    }
}
