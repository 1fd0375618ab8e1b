//! The fresh, single-threaded child in which a container's process comes to be.
//!
//! `process-cri run SOCKET [--join NAMESPACE]… [--unshare-mounts] [--unshare-pids]` enters namespaces, fetches its
//! [`Spec`] over the socket, builds or joins the root, drops what the pod may not keep and executes the program. The
//! socket closes by that execution: an empty reply is success, a text is the error. Entering a pid namespace needs one
//! more process, because only children are in it; the first then waits and ends as the second did.
//!
//! Every link of that chain dies with the one above it (the parent-death signal), down from the runtime.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use rustix::fs::Mode;
use rustix::process::{Gid, Signal, Uid, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space, remove_capability_from_bounding_set,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::container::{Credentials, RootFs, Spec};
use crate::rootfs;

/// What a shell answers for a program that could not be executed.
const NOT_EXECUTED: u8 = 127;

#[derive(Debug, Default, Clone, Args)]
pub(crate) struct Namespaces {
    /// Namespaces to join, by path.
    #[arg(long)]
    pub join: Vec<PathBuf>,
    /// A mount namespace of its own.
    #[arg(long)]
    pub unshare_mounts: bool,
    /// A pid namespace of its own.
    #[arg(long)]
    pub unshare_pids: bool,
}

/// Becomes the process that the runtime at `socket` describes.
pub(crate) fn run(socket: &Path, namespaces: &Namespaces) -> ExitCode {
    match enter(socket, namespaces) {
        Ok(code) => code,
        Err(error) => refuse(socket, &error),
    }
}

fn refuse(socket: &Path, error: &anyhow::Error) -> ExitCode {
    if let Ok((mut control, _)) = connect(socket) {
        let _ = write!(control, "{error:#}"); // the runtime is gone if this fails, and then so are we
    }
    ExitCode::from(NOT_EXECUTED)
}

#[expect(deprecated, reason = "sound: the caution is about UnshareFlags::FILES, and the new name is unsafe")]
fn enter(socket: &Path, namespaces: &Namespaces) -> Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Signals to the group of the runtime are not for us, nor those to the container's group for its outer process.
    rustix::process::setsid().context("starting a session")?;
    let mut in_child = namespaces.unshare_pids;
    for path in &namespaces.join {
        let namespace = File::open(path).with_context(|| format!("opening namespace {}", path.display()))?;
        move_into_link_name_space(namespace.as_fd(), None).context("joining a namespace")?;
        in_child |= path.ends_with("pid");
    }
    let wanted = [(namespaces.unshare_mounts, UnshareFlags::NEWNS), (namespaces.unshare_pids, UnshareFlags::NEWPID)];
    for (_, flag) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
        rustix::thread::unshare(flag).context("making a namespace")?;
    }
    if !in_child {
        return become_container(socket);
    }
    let status = Command::new("/proc/self/exe")
        .arg0("process-cri")
        .arg("run")
        .arg(socket)
        .status()
        .context("starting a child")?;
    Ok(ExitCode::from(code(status)))
}

/// As a shell reports it.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let signalled = status.signal().map(|signal| 128 + signal);
    status.code().or(signalled).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Connects to the runtime and fetches what to become.
fn connect(socket: &Path) -> Result<(UnixStream, Spec)> {
    let control = UnixStream::connect(socket).context("connecting to the runtime")?;
    let mut line = String::new();
    BufReader::new(&control).read_line(&mut line).context("reading the container's description")?;
    let spec = serde_json::from_str(&line).context("parsing the container's description")?;
    Ok((control, spec))
}

/// Returns only if the program could not be executed.
fn become_container(socket: &Path) -> Result<ExitCode> {
    let (mut control, spec) = connect(socket)?;
    let Err(error) = execute(&spec);
    write!(control, "{error:#}")?;
    Ok(ExitCode::from(NOT_EXECUTED))
}

fn execute(spec: &Spec) -> Result<std::convert::Infallible> {
    let (program, args) = spec.argv.split_first().ok_or_else(|| anyhow!("no command"))?;
    match &spec.root {
        RootFs::Machine => {}
        RootFs::Build(overlay) => rootfs::enter(overlay)?,
        RootFs::Join(path) => {
            let mounts = File::open(path).context("finding the container's root")?;
            move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))
                .context("entering the container's root")?;
        }
    }
    if spec.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).context("taking the terminal")?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let dir = &spec.working_dir;
    rustix::process::chdir(dir).with_context(|| format!("entering directory {}", dir.display()))?;
    drop_rights(&spec.credentials)?;
    // The kernel forgets the parent-death signal when credentials change: last, therefore.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let env = spec.env.iter().map(|(key, value)| (key, value));
    let error = Command::new(program).args(args).env_clear().envs(env).exec();
    Err(anyhow!(error).context(format!("executing {program:?}")))
}

/// Trimming the bounding set is enough: the execution that follows gives root what is left in it and others nothing.
fn drop_rights(credentials: &Credentials) -> Result<()> {
    if let Some(kept) = credentials.capabilities.map(CapabilitySet::from_bits_retain) {
        for (name, capability) in CapabilitySet::all().iter_names() {
            if !kept.contains(capability) {
                remove_capability_from_bounding_set(capability).with_context(|| format!("dropping {name}"))?;
            }
        }
    }
    let (uid, gid) = (Uid::from_raw(credentials.uid), Gid::from_raw(credentials.gid));
    let groups: Vec<Gid> = credentials.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups).context("setting the groups")?;
    set_thread_res_gid(gid, gid, gid).context("setting the group")?;
    set_thread_res_uid(uid, uid, uid).context("setting the user")?;
    if credentials.no_new_privileges {
        set_no_new_privs(true).context("forbidding new privileges")?;
    }
    Ok(())
}

/// The stand-in for images of which nothing runs here: answers HTTP probes on `ports` and lives until it is stopped.
pub(crate) fn idle(ports: &[u16]) -> Result<()> {
    for port in ports {
        // Where pods share the node's network a second replica finds the port taken, and probes find the first one.
        let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)) else { continue };
        std::thread::Builder::new().spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut head = String::new();
                let _ = BufReader::new(&connection).read_line(&mut head); // a probe that hangs up is no matter
                let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nidle");
            }
        })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(crate::asked_to_stop())
}
