//! One machine from power on to power off: its process tree and its cables.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use capm3_sim::room::Nic;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout_at};

/// Namespaces are made and left in milliseconds; what takes this long on a busy machine is stuck.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);

/// A machine that is on. Dropping it is pulling the plug without waiting for the silence.
pub(super) struct Running {
    unshare: Child,
    /// Pid 1 reads it and ends when it closes.
    cord: ChildStdin,
    cables: Vec<String>,
}

impl Running {
    /// Starts pid 1, plugs the cards in, then lets it boot.
    pub(super) async fn start(
        init: &Path,
        manifest: &Path,
        console: &Path,
        cables: &[Cable],
        bridge: &str,
    ) -> Result<Self> {
        let console = OpenOptions::new().create(true).append(true).open(console).context("console log")?;
        let mut unshare = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"])
            .args([init, Path::new("boot"), manifest])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(console.try_clone()?)
            .stderr(console)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("unshare (package util-linux)")?;
        let cord = unshare.stdin.take().context("standard input of pid 1")?;
        let pid = unshare.id().context("pid of the machine")?;
        let mut machine = Self { unshare, cord, cables: cables.iter().map(|c| c.outside.clone()).collect() };
        if let Err(e) = machine.plug_in(pid, cables, bridge).await {
            machine.stop().await?;
            return Err(e);
        }
        Ok(machine)
    }

    async fn plug_in(&mut self, pid: u32, cables: &[Cable], bridge: &str) -> Result<()> {
        let ours = fs::read_link("/proc/self/ns/net")?;
        let deadline = Instant::now() + PATIENCE;
        while fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs == ours) {
            ensure!(Instant::now() < deadline, "the machine got no network namespace");
            sleep(POLL).await;
        }
        for Cable { outside, inside, mac } in cables {
            let pid = pid.to_string();
            let veth = ["link", "add", outside, "type", "veth", "peer", "name", inside, "address", mac, "netns", &pid];
            ip(&veth).await.with_context(|| format!("card {inside} with MAC address {mac}"))?;
            ip(&["link", "set", outside, "master", bridge, "up"]).await?;
        }
        self.cord.write_all(b"on\n").await.context("switch on")
    }

    /// Whether it still runs; a machine can end by itself.
    pub(super) fn alive(&mut self) -> bool {
        matches!(self.unshare.try_wait(), Ok(None))
    }

    /// Power off: returns when every process of the machine is gone and its cables are out.
    pub(super) async fn stop(self) -> Result<()> {
        let Self { mut unshare, cord, cables } = self;
        drop(cord);
        if timeout_at(Instant::now() + PATIENCE, unshare.wait()).await.is_err() {
            unshare.kill().await.context("kill a machine that ignores its power cord")?;
        }
        for cable in cables {
            if fs::exists(format!("/sys/class/net/{cable}"))? {
                // The kernel may take it out at the same moment, with the machine's network namespace.
                let _ = ip(&["link", "del", &cable]).await;
            }
        }
        Ok(())
    }
}

/// Waits until no loop device holds the image: mounts of a dead namespace go asynchronously.
pub(super) async fn released(image: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while held(image)? {
        ensure!(Instant::now() < deadline, "{} is still attached to a loop device", image.display());
        sleep(POLL).await;
    }
    Ok(())
}

fn held(image: &Path) -> Result<bool> {
    for device in fs::read_dir("/sys/block")? {
        let backing = device?.path().join("loop/backing_file");
        if fs::read_to_string(backing).is_ok_and(|file| Path::new(file.trim_end()) == image) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A veth pair between the bridge and a card of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cable {
    outside: String,
    inside: String,
    mac: String,
}

/// One cable per card. The host lists a card once per address, a cable is needed once; `tag` keeps machines apart on the bridge.
pub(super) fn cables(tag: u32, nics: &[Nic]) -> Vec<Cable> {
    let mut cables: Vec<Cable> = Vec::new();
    for nic in nics {
        if !nic.mac.is_empty() && !cables.iter().any(|c| c.mac.eq_ignore_ascii_case(&nic.mac)) {
            let outside = format!("m{tag:08x}-{}", cables.len());
            cables.push(Cable { outside, inside: nic.name.clone(), mac: nic.mac.clone() });
        }
    }
    cables
}

pub(super) async fn ip(args: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(args).stdin(Stdio::null()).output().await.context("ip (package iproute2)")?;
    if !done.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(name: &str, mac: &str) -> Nic {
        Nic { name: name.into(), mac: mac.into(), ..Nic::default() }
    }

    #[test]
    fn a_card_listed_once_per_address_gets_one_cable() {
        let nics =
            [nic("eth0", "00:5a:52:00:00:01"), nic("eth0", "00:5A:52:00:00:01"), nic("eth1", "00:5a:52:00:00:02")];
        let plugged = cables(7, &nics);
        assert_eq!(plugged.iter().map(|c| c.outside.as_str()).collect::<Vec<_>>(), ["m00000007-0", "m00000007-1"]);
        assert_eq!(plugged.iter().map(|c| c.inside.as_str()).collect::<Vec<_>>(), ["eth0", "eth1"]);
    }

    #[test]
    fn names_on_the_bridge_fit_the_kernel() {
        for cable in cables(u32::MAX, &vec![nic("eth0", "00:5a:52:00:00:01"); 1]) {
            assert!(cable.outside.len() <= 15, "{}", cable.outside);
        }
    }
}
