//! The runtime's side of starting a [`crate::helper`] and learning whether it became the wanted program.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::process::{Child, ChildStdin, Command};

use crate::container::Spec;
use crate::helper::Namespaces;

/// A machine under load takes its time, but not this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs, and the helper that is, or waits for, its process.
pub(crate) struct Launched {
    pub child: Child,
    /// Apart from `child`, because waiting for a child closes its standard input.
    pub stdin: Option<ChildStdin>,
    pub process: Process,
}

/// How to reach a container's first process.
pub(crate) struct Process {
    pub pid: Pid,
    handle: OwnedFd,
    /// Without a pid namespace, what the process started is found by its group.
    group: bool,
}

/// The three streams of a program.
pub(crate) struct Streams {
    pub stdin: Stdio,
    pub stdout: Stdio,
    pub stderr: Stdio,
}

impl Streams {
    pub(crate) fn captured() -> Self {
        Self { stdin: Stdio::null(), stdout: Stdio::piped(), stderr: Stdio::piped() }
    }
}

/// Goes with its socket, also when a caller that lost patience drops the start half-way.
struct SocketName(PathBuf);

impl Drop for SocketName {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // a left-over name is harmless
    }
}

/// Starts what `spec` says. Must be called on the main thread, whose life the helper's is bound to.
pub(crate) async fn launch(dir: &Path, spec: &Spec, namespaces: &Namespaces, streams: Streams) -> Result<Launched> {
    let socket = SocketName(dir.join(format!("{:016x}.sock", fastrand::u64(..))));
    let listener = UnixListener::bind(&socket.0).with_context(|| format!("listening on {}", socket.0.display()))?;
    let started = tokio::time::timeout(PATIENCE, start(&listener, &socket.0, spec, namespaces, streams)).await;
    started.map_err(|_| anyhow!("not started within {} s", PATIENCE.as_secs()))?
}

async fn start(
    listener: &UnixListener,
    socket: &Path,
    spec: &Spec,
    namespaces: &Namespaces,
    streams: Streams,
) -> Result<Launched> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("process-cri");
    command.arg("run").arg(socket);
    for path in &namespaces.join {
        command.arg("--join").arg(path);
    }
    if namespaces.unshare_mounts {
        command.arg("--unshare-mounts");
    }
    if namespaces.unshare_pids {
        command.arg("--unshare-pids");
    }
    command.env_clear().stdin(streams.stdin).stdout(streams.stdout).stderr(streams.stderr).kill_on_drop(true);
    let mut child = command.spawn().context("starting a helper")?;
    let stdin = child.stdin.take();
    drop(command); // and with it our copies of the program's ends of the streams

    let mut control = tokio::select! {
        accepted = listener.accept() => accepted.context("accepting the helper")?.0,
        ended = child.wait() => bail!("the helper ended early: {}", ended?),
    };
    let pid = control.peer_cred()?.pid().and_then(Pid::from_raw).ok_or_else(|| anyhow!("the helper has no pid"))?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).context("watching the process")?;
    let mut line = serde_json::to_vec(spec)?;
    line.push(b'\n');
    control.write_all(&line).await.context("describing the container")?;
    let mut error = String::new();
    control.read_to_string(&mut error).await.context("awaiting the execution")?;
    if !error.is_empty() {
        child.wait().await?;
        bail!(error);
    }
    let group = !namespaces.unshare_pids;
    Ok(Launched { child, stdin, process: Process { pid, handle, group } })
}

impl Process {
    /// A process that is gone needs no signal.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent =
            if self.group { kill_process_group(self.pid, signal) } else { pidfd_send_signal(&self.handle, signal) };
        match sent {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Its namespaces of `kinds`, by path.
    pub(crate) fn namespaces(&self, kinds: &[&str]) -> Vec<PathBuf> {
        kinds.iter().map(|kind| format!("/proc/{}/ns/{kind}", self.pid.as_raw_pid()).into()).collect()
    }
}
