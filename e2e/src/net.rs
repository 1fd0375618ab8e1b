//! The site: one bridge without an uplink and with addresses of the documentation ranges only. The management cluster,
//! its pods and the machines' networks meet on it; nothing has a route to anywhere else.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

pub const BRIDGE: &str = "br0";

/// Given, because a bridge without one takes its lowest port's and changes it as pods and machines come and go: whoever
/// remembers the old one loses the API server until the neighbour entry times out.
const MAC: &str = "02:00:00:00:00:01";

/// The management node: API server, kubelet, images for machines.
pub const MANAGEMENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The management cluster's `kubernetes` Service. The API server itself listens there, so no proxy is needed.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub const SERVICE_RANGE: &str = "10.96.0.0/16";

/// Addresses on the bridge: the site's own network, then the machines' networks.
const ADDRESSES: [&str; 4] = ["198.51.100.1/24", "192.0.2.1/24", "203.0.113.1/24", "10.96.0.1/32"];

pub fn up() -> Result<()> {
    let mut batch = format!("link set lo up\nlink add name {BRIDGE} address {MAC} type bridge\n");
    for address in ADDRESSES {
        batch += &format!("address add {address} dev {BRIDGE}\n");
    }
    batch += &format!("link set {BRIDGE} up\n");
    ip(&batch)?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forward between the machines' networks")
}

/// Runs lines of `ip` commands; the first that fails ends it.
pub fn ip(batch: &str) -> Result<()> {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    ip.stdin.take().context("standard input of ip")?.write_all(batch.as_bytes())?;
    let output = ip.wait_with_output()?;
    ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
