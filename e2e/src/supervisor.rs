//! The bed lives in one process tree, and the tree ends with its root.
//!
//! The outer `bed` holds a lock and starts itself again as pid 1 of new namespaces. Pid 1 lives as long as its standard
//! input, a pipe whose other end only the outer process has: Ctrl-C, a crash or `kill -9` of the outer process closes it,
//! pid 1 ends, and the kernel ends every process, mount and network below it. Nothing is cleaned up because nothing can
//! be left. All processes inside inherit the lock, so a lock that can be taken proves that the last bed is gone.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::console::Console;
use crate::paths::Paths;
use crate::releases;
use crate::tools::Tools;

/// Sockets and other small things of the running bed, on a tmpfs of its own: the path is short whatever the checkout is.
pub const RUN: &str = "/run/capm3-bed";

/// Folders of the host that programs would write to; inside there are empty ones in their place.
const MOUNT_POINTS: [&str; 3] = ["/run", "/var/log", "/var/lib/kubelet"];

/// How long the remains of a killed bed may take to go; the kernel needs milliseconds.
const GONE: Duration = Duration::from_secs(120);

/// The only variables that programs of the bed see besides their own.
pub fn clean(command: &mut Command) -> &mut Command {
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .env("NO_COLOR", "1")
}

/// The right to run the bed of this checkout.
pub struct Lock(File);

impl Lock {
    /// Takes the lock, or says which bed runs. The remains of a bed whose outer process died are waited for.
    pub async fn take(paths: &Paths) -> Result<Lock> {
        let file = File::options().create(true).truncate(false).write(true).open(paths.lock())?;
        let deadline = tokio::time::Instant::now() + GONE;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    fs::write(paths.pid(), format!("{}\n", std::process::id()))?;
                    return Ok(Lock(file));
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).context("lock the bed"),
            }
            if let Some(outer) = outer(paths) {
                bail!("a bed runs already (process {outer}): `make demo-shell` enters it, `make demo-down` ends it");
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "a process of an earlier bed does not end; see {}",
                paths.pid().display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What of the caller's environment is there inside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// What the bed itself reads.
    Ours,
    /// Everything that does not lead out of the bed: for a command that the caller wants to run inside.
    Callers,
}

/// There is nobody inside who would answer for a proxy.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Starts this program again as pid 1 of new namespaces and waits for its end or for ours.
pub async fn enter(paths: &Paths, lock: Lock, arguments: Vec<String>, environment: Environment) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;

    let made: Vec<_> = MOUNT_POINTS.iter().filter(|folder| fs::create_dir(folder).is_ok()).collect();
    rustix::io::fcntl_setfd(&lock.0, rustix::io::FdFlags::empty())?; // inherited by everything inside
    let mut unshare = Command::new("unshare");
    match environment {
        Environment::Callers => PROXIES.iter().for_each(|name| _ = unshare.env_remove(name)),
        Environment::Ours => _ = clean(&mut unshare),
    }
    for kept in [
        "TERM",
        "COLUMNS",
        "NO_COLOR",
        "CAPM3_BED_CACHE",
        "CAPM3_BED_PROFILE",
        "CARGO_TARGET_DIR",
        "XDG_CACHE_HOME",
        "HOME",
        "RUST_BACKTRACE",
    ] {
        if let Some(value) = env::var_os(kept) {
            unshare.env(kept, value);
        }
    }
    unshare.args(["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL", "--mount-proc", "--"]);
    unshare.arg(env::current_exe()?).arg("--inside").args(arguments);
    unshare.stdin(Stdio::piped()).process_group(0); // its own group: the terminal's Ctrl-C reaches only us
    let mut child = tokio::process::Command::from(unshare).spawn().context("start unshare")?;
    let life = child.stdin.take();
    let inner = child.id().context("the bed has ended at once")?;
    fs::write(paths.pid(), format!("{} {inner}\n", std::process::id()))?;

    let (status, stopped) = tokio::select! {
        status = child.wait() => (status?, false),
        _ = async { tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => (), _ = hangup.recv() => () } } => {
            drop(life);
            (child.wait().await?, true)
        }
    };
    _ = fs::remove_file(paths.pid());
    for folder in made {
        _ = fs::remove_dir(folder); // empty: what was in it lay on a mount that is gone
    }
    Ok(match (stopped, status.code()) {
        (true, _) => ExitCode::from(130),
        (false, code) => code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
    })
}

/// Inside: ends this process, and with it everything, when the outer one goes.
#[expect(
    clippy::disallowed_methods,
    reason = "pid 1 of the bed: its end is the end of the bed, whatever the runtime is doing"
)]
pub fn end_with_outer() {
    std::thread::spawn(|| {
        let mut nothing = [0; 64];
        while io::stdin().read(&mut nothing).is_ok_and(|count| count > 0) {}
        std::process::exit(130);
    });
}

/// Inside: the parts of the host's file system that programs would write to, replaced by the bed's own.
pub fn private_folders() -> Result<()> {
    for folder in MOUNT_POINTS {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "bed", folder]).status()?;
        ensure!(status.success(), "mount a tmpfs on {folder}");
    }
    fs::create_dir_all(RUN)?;
    let no_names = format!("{RUN}/resolv.conf"); // there is no name server in the bed, and none is waited for
    fs::write(&no_names, "")?;
    if Path::new("/etc/resolv.conf").is_file() {
        let status = Command::new("mount").args(["--bind", &no_names, "/etc/resolv.conf"]).status()?;
        ensure!(status.success(), "mount an empty /etc/resolv.conf");
    }
    fs::write("/proc/sys/kernel/hostname", "management").context("set the host name of the bed")?;
    Ok(())
}

/// `workload …` in the shell is kubectl for a workload cluster: the first one, or what NAMESPACE and CLUSTER say.
const WORKLOAD: &str = r#"#!/bin/sh
set -e
: "${NAMESPACE:=metal3}"
first='{.items[0].metadata.name}'
: "${CLUSTER:=$(kubectl --namespace "$NAMESPACE" get clusters.cluster.x-k8s.io --output jsonpath="$first")}"
config=/run/capm3-bed/$NAMESPACE-$CLUSTER.kubeconfig
clusterctl get kubeconfig "$CLUSTER" --namespace "$NAMESPACE" >"$config.new"
mv "$config.new" "$config"
exec kubectl --kubeconfig "$config" "$@"
"#;

const WELCOME: &str =
    "kubectl and clusterctl speak to the management cluster, `workload` is kubectl for the workload cluster:
  kubectl get machines,bmh -A      workload get nodes -o wide
Leave with Ctrl-D; the bed goes on.";

/// A shell, or the command given, inside the running bed.
pub fn shell(paths: &Paths, tools: &Tools, console: &Console, command: &[String]) -> Result<ExitCode> {
    let inner = inner(paths).context("no bed runs in this checkout: `make demo` starts one")?;
    let mut path: Vec<_> = tools.folders().iter().map(|folder| folder.display().to_string()).collect();
    let scripts = paths.state.join("scripts");
    fs::create_dir_all(&scripts)?;
    let workload = scripts.join("workload");
    fs::write(&workload, WORKLOAD)?;
    fs::set_permissions(&workload, fs::Permissions::from_mode(0o755))?;
    path.insert(0, scripts.display().to_string());
    path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let mut enter = Command::new("nsenter");
    enter.args(["--net", "--mount", "--pid", "--ipc", "--uts", "--target", &inner.to_string(), "--wd=."]);
    enter.current_dir(&paths.state).arg("--").env_clear();
    for kept in ["TERM", "HOME", "LANG", "COLORTERM"] {
        if let Some(value) = env::var_os(kept) {
            enter.env(kept, value);
        }
    }
    enter.env("PATH", path.join(":")).env("PS1", "bed \\w $ ").env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true");
    enter.env("KUBECONFIG", paths.kubeconfig()).env("XDG_CONFIG_HOME", paths.config());
    enter.env(releases::REPOSITORY, paths.root.join("clusterctl"));
    match command {
        [] => {
            console.line(WELCOME);
            enter.args(["bash", "--norc", "--noprofile", "-i"])
        }
        command => enter.args(command),
    };
    let status = enter.status().context("start nsenter")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Asks the running bed to end and waits until the last of it is gone. False: none ran.
pub async fn down(paths: &Paths) -> Result<bool> {
    let outer = outer(paths);
    if let Some(outer) = outer {
        rustix::process::kill_process(pid(outer)?, Signal::TERM).context("end the bed")?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(paths.lock())?;
    let deadline = tokio::time::Instant::now() + GONE;
    while file.try_lock().is_err() {
        ensure!(
            tokio::time::Instant::now() < deadline,
            "a process of the bed does not end; see {}",
            paths.pid().display()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(outer.is_some())
}

/// The outer process of the running bed, if it lives: it builds, or waits for the inner one.
fn outer(paths: &Paths) -> Option<u32> {
    let outer = recorded(paths, 0)?;
    (program(outer)? == "bed").then_some(outer) // a pid may have been given to another process since
}

/// Pid 1 of the running bed, as seen from here.
fn inner(paths: &Paths) -> Option<u32> {
    outer(paths)?;
    let unshare = recorded(paths, 1)?;
    fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?.split_whitespace().next()?.parse().ok()
}

/// The file holds the pid of the outer process and, once there are namespaces, that of `unshare`.
fn recorded(paths: &Paths, place: usize) -> Option<u32> {
    fs::read_to_string(paths.pid()).ok()?.split_whitespace().nth(place)?.parse().ok()
}

fn program(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

fn pid(raw: u32) -> Result<Pid> {
    Pid::from_raw(i32::try_from(raw)?).context("a process id")
}
