//! Pid 1 of a simulated machine: what firmware, kernel and systemd are to a real one.
//!
//! `machine-init boot MANIFEST` starts in fresh net, mount, pid, uts and ipc namespaces. It waits for the switch (a line on standard
//! input), enters its root ([`root`]), configures the interfaces ([`network`]) and runs the machine ([`boot`]). Standard input is the
//! power cord: when it closes, pid 1 ends and the kernel ends everything else. The same program is the machine's `systemctl` ([`unit`]).

mod boot;
#[path = "../../machine/manifest.rs"]
mod manifest;
mod network;
mod reader;
mod root;
mod unit;

use std::io::BufRead;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let result = if name.rsplit('/').next() == Some("systemctl") { unit::systemctl(&args) } else { init(&args) };
    match result {
        Ok(code) => code,
        Err(e) => {
            boot::say(format_args!("{e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn init(args: &[String]) -> Result<ExitCode> {
    match args {
        [verb, manifest] if verb == "boot" => {
            let manifest = std::fs::read(manifest).with_context(|| format!("read {manifest}"))?;
            let manifest = serde_json::from_slice(&manifest).context("manifest")?;
            let mut go = String::new();
            std::io::stdin().lock().read_line(&mut go).context("wait for the switch")?;
            if go.is_empty() {
                return Ok(ExitCode::SUCCESS); // unplugged before it was switched on
            }
            root::enter(&manifest)?;
            boot::run()
        }
        [verb] if verb == "kubelet" => Err(unit::become_kubelet()),
        [verb] if verb == "user-data" => reader::run(),
        _ => bail!("usage: machine-init boot MANIFEST"),
    }
}
