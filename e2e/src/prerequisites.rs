//! What the bed cannot bring along: rights, kernel features, memory, a few programs of the distribution, Rust and Go.
//! Everything is looked at before anything is done, and everything that is missing is said at once, with what to do.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::paths::Paths;
use crate::tools::{self, Tools};

/// Program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("bash", "bash"),
];

const GIB: u64 = 1 << 30;

/// For `bed tools` (and the first half of everything else): what building needs.
pub fn to_build(paths: &Paths) -> Result<()> {
    report([rust(), go(paths), disk(paths)])
}

/// What running needs.
pub fn to_run(paths: &Paths) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the bed makes namespaces, mounts and bridges and must be started by root: try `sudo -E env PATH=\"$PATH\" …`"
        );
    }
    let programs = programs();
    let kernel = if programs.is_some() { [None, None, None] } else { [namespaces(), network(), overlay()] };
    report([rust(), go(paths), disk(paths), memory(), programs].into_iter().chain(kernel))
}

fn report(found: impl IntoIterator<Item = Option<String>>) -> Result<()> {
    let missing: Vec<_> = found.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("the bed cannot start here:\n  - {}", missing.join("\n  - "));
}

fn rust() -> Option<String> {
    (!runs("cargo", &["--version"]))
        .then(|| "Rust: `cargo` does not run; install it with rustup (https://rustup.rs)".into())
}

/// Only asked for while a program is still to be built.
fn go(paths: &Paths) -> Option<String> {
    if !Tools::missing(paths).unwrap_or(true) {
        return None;
    }
    let advice = "install Go 1.26 or newer from https://go.dev/dl and put its bin folder on PATH";
    match tools::go_version(paths) {
        Ok(_) => None,
        Err(error) => Some(format!("Go: {error:#}; {advice}")),
    }
}

fn disk(paths: &Paths) -> Option<String> {
    let missing = Tools::missing(paths).unwrap_or(true);
    // The first build fills Go's own caches as well: 8 GB, and 1 GB of programs.
    let (wanted, place) = if missing { (12 * GIB, &paths.cache) } else { (3 * GIB, &paths.state) };
    let stat = rustix::fs::statvfs(place).ok()?;
    let free = stat.f_bavail * stat.f_frsize;
    (free < wanted)
        .then(|| format!("disk: {} has {} MiB free, the bed needs {} GiB", place.display(), free >> 20, wanted / GIB))
}

fn memory() -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())?;
    (kib * 1024 < 4 * GIB).then(|| format!("memory: {} MiB are available, the bed needs 4 GiB", kib / 1024))
}

fn programs() -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let there = |name: &str| path.split(':').any(|folder| Path::new(folder).join(name).exists());
    let missing: Vec<_> = PROGRAMS.iter().filter(|(name, _)| !there(name)).collect();
    if missing.is_empty() {
        return None;
    }
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    Some(format!("programs: {} not on PATH; `apt-get install {}`", names.join(", "), packages.join(" ")))
}

fn namespaces() -> Option<String> {
    let works = runs("unshare", &["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--mount-proc", "true"]);
    (!works).then(|| {
        "namespaces: `unshare --net --mount --pid --ipc --uts --fork --mount-proc true` fails; inside a container it needs \
         CAP_SYS_ADMIN (for example `--privileged`)"
            .into()
    })
}

fn network() -> Option<String> {
    let script = "ip link add name br0 type bridge && ip link add name veth0 type veth peer name veth1";
    (!runs("unshare", &["--net", "sh", "-c", script])).then(|| {
        "network: bridges or veth pairs cannot be made; the kernel needs CONFIG_BRIDGE and CONFIG_VETH (`modprobe -a bridge veth`)"
            .into()
    })
}

fn overlay() -> Option<String> {
    let script = "mount -t tmpfs t /mnt && mkdir /mnt/up /mnt/work /mnt/root && \
                  mount -t overlay -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work o /mnt/root";
    (!runs("unshare", &["--mount", "sh", "-c", script])).then(|| {
        "file systems: no overlay over / on tmpfs; the kernel needs CONFIG_OVERLAY_FS and CONFIG_TMPFS (`modprobe overlay`)".into()
    })
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let quiet =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}
