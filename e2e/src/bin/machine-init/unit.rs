//! The one unit of a machine, `kubelet`, as the Kubernetes packages install it, and the `systemctl` that kubeadm calls.
//!
//! `systemctl` asks pid 1 over a socket; pid 1 starts the kubelet, restarts it when it ends by itself and answers when a stop is done.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};

use crate::root::{CGROUP_V1, KUBELET_CONFIG_DIR};

pub(crate) const SOCKET: &str = "/run/machine-init.sock";

/// What `systemctl` asks of pid 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop,
    Restart,
    IsActive,
}

impl Verb {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "start" => Self::Start,
            "stop" => Self::Stop,
            "restart" => Self::Restart,
            "is-active" => Self::IsActive,
            _ => return None,
        })
    }
}

/// `systemctl VERB [kubelet[.service]]`: other units and verbs exist as little as on a machine without them.
pub(crate) fn systemctl(args: &[String]) -> Result<ExitCode> {
    let mut words = args.iter().map(String::as_str).filter(|a| !a.starts_with('-'));
    let (verb, unit) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !matches!(unit, "kubelet" | "kubelet.service") {
        return match (verb, unit) {
            ("daemon-reload", _) | ("start" | "stop" | "restart" | "enable", _) => Ok(ExitCode::SUCCESS),
            _ => answer("not-found", 4),
        };
    }
    match verb {
        "status" => answer("Loaded: loaded (/usr/lib/systemd/system/kubelet.service; enabled)", 0),
        "is-enabled" => answer("enabled", 0),
        "enable" | "daemon-reload" => Ok(ExitCode::SUCCESS),
        "start" | "stop" | "restart" => match ask(verb)?.as_str() {
            "done" => Ok(ExitCode::SUCCESS),
            other => bail!("kubelet: {other}"),
        },
        "is-active" => {
            let state = ask(verb)?;
            let code = if state == "active" { 0 } else { 3 };
            answer(&state, code)
        }
        _ => bail!("systemctl {verb}: not simulated"),
    }
}

fn answer(text: &str, code: u8) -> Result<ExitCode> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::from(code))
}

fn ask(verb: &str) -> Result<String> {
    let mut pid1 = UnixStream::connect(SOCKET).context("ask pid 1")?;
    pid1.write_all(verb.as_bytes())?;
    pid1.shutdown(Shutdown::Write)?;
    let mut reply = String::new();
    pid1.read_to_string(&mut reply)?;
    Ok(reply)
}

/// What pid 1 spawns: the kubelet in a mount namespace of its own, because of the cgroups it wants to see.
pub(crate) fn kubelet_command() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "unchanged", "machine-init", "kubelet"]);
    command
}

/// Inside that namespace: the true cgroup hierarchies, then the kubelet with the packages' drop-in flags. Returns only in failure.
pub(crate) fn become_kubelet() -> anyhow::Error {
    match prepare() {
        Ok(()) => {}
        Err(e) => return e,
    }
    let mut kubelet = Command::new("kubelet");
    kubelet.args([
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
        "--kubeconfig=/etc/kubernetes/kubelet.conf",
        "--config=/var/lib/kubelet/config.yaml",
    ]);
    kubelet.arg(format!("--config-dir={KUBELET_CONFIG_DIR}"));
    for (file, name) in
        [("/var/lib/kubelet/kubeadm-flags.env", "KUBELET_KUBEADM_ARGS"), ("/etc/default/kubelet", "KUBELET_EXTRA_ARGS")]
    {
        kubelet.args(flags(&std::fs::read_to_string(file).unwrap_or_default(), name));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    anyhow!(kubelet.env_clear().env("PATH", path).env("HOME", "/").exec()).context("exec kubelet")
}

fn prepare() -> Result<()> {
    use rustix::mount::{UnmountFlags, mount_bind_recursive, unmount};
    if !Path::new(CGROUP_V1).exists() {
        return Ok(());
    }
    unmount("/sys/fs/cgroup/cgroup.controllers", UnmountFlags::DETACH).context("unmount cgroup.controllers")?;
    unmount("/sys/fs/cgroup", UnmountFlags::DETACH).context("unmount cgroup2")?;
    mount_bind_recursive(CGROUP_V1, "/sys/fs/cgroup").context("bind the version 1 cgroups")
}

/// The words of one variable of an environment file as systemd splits `$NAME`: quotes around the value go, blanks part it.
fn flags(file: &str, name: &str) -> Vec<String> {
    let value = file.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
    let value = value.unwrap_or_default().trim().trim_matches(|c| c == '"' || c == '\'');
    value.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::flags;

    #[test]
    fn kubeadm_flags_lose_their_quotes_and_split_at_blanks() {
        let file = "KUBELET_KUBEADM_ARGS=\"--node-labels=metal3.io/uuid=7 --pod-infra-container-image=pause:3.10\"\n";
        assert_eq!(
            flags(file, "KUBELET_KUBEADM_ARGS"),
            ["--node-labels=metal3.io/uuid=7", "--pod-infra-container-image=pause:3.10"]
        );
        assert!(flags(file, "KUBELET_EXTRA_ARGS").is_empty());
        assert!(flags("", "KUBELET_KUBEADM_ARGS").is_empty());
    }
}
