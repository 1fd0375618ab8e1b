//! The "operating system image" of the machines: a file system image that holds, as an overlay layer over this host's `/`, what real
//! machines have and this host need not: cloud-init.
//!
//! It is made once per cache: apt runs in a private mount namespace whose root is the overlay, so nothing of it reaches the host. The
//! layer needs a file system of its own because an overlay refuses a lower layer that lies below another one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// netplan.io: cloud-init renders with it what `cloud-init devel net-convert` is asked for in tests.
const PACKAGES: &str = "cloud-init netplan.io";
/// A change of the recipe makes a new file, and so a new layer.
const NAME: &str = "image-layer-1.ext4";

const RECIPE: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$MOUNT"
mkdir "$MOUNT/fs" "$MOUNT/root"; R="$MOUNT/root"
mount -o loop,noatime,barrier=0 "$IMAGE" "$MOUNT/fs"
mkdir "$MOUNT/fs/layer" "$MOUNT/fs/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$MOUNT/fs/layer,workdir=$MOUNT/fs/work" "$R"
mount -t proc proc "$R/proc"; mount --rbind /dev "$R/dev"
mount -t tmpfs tmpfs "$R/run"; mkdir -p "$R/run/lock"; mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
resolv=$(readlink -f /etc/resolv.conf || true)
case "$resolv" in /run/*) mkdir -p "$R$(dirname "$resolv")"; cp "$resolv" "$R$resolv";; esac
printf '#!/bin/sh\nexit 101\n' > "$R/usr/sbin/policy-rc.d"; chmod +x "$R/usr/sbin/policy-rc.d"
apt() { chroot "$R" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 "$@"; }
apt update || echo "some package lists could not be fetched"
apt install -y --no-install-recommends $PACKAGES
apt clean
chroot "$R" cloud-init --version
"#;

/// The layer, made when it is not there yet. Must run where apt reaches its mirrors, before the bed cuts itself off.
///
/// An error means that this host's apt cannot deliver cloud-init; its text ends with apt's own last words.
pub(crate) async fn ensure(cache: &Path) -> Result<PathBuf> {
    tokio::fs::create_dir_all(cache).await.with_context(|| format!("create {}", cache.display()))?;
    let layer = cache.join(NAME);
    let lock = File::create(cache.join("image-layer.lock"))?;
    let lock =
        tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await?.context("lock the image layer")?;
    if !layer.exists() {
        make(cache, &layer).await?;
    }
    drop(lock);
    Ok(layer)
}

/// The layer that an earlier [`ensure`] made; for those who cannot make one.
pub(crate) fn made(cache: &Path) -> Option<PathBuf> {
    Some(cache.join(NAME)).filter(|layer| layer.exists())
}

async fn make(cache: &Path, layer: &Path) -> Result<()> {
    let draft = layer.with_extension("draft");
    let mount = cache.join("image-layer.mount");
    tokio::fs::create_dir_all(&mount).await?;
    blank_disk(&draft, 2 << 30).await?;
    tracing::info!(packages = PACKAGES, "installing the machines' packages into an image layer, usually 25 s");
    let log_path = cache.join("image-layer.log");
    let log = File::create(&log_path)?;
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", RECIPE])
        .env("IMAGE", &draft)
        .env("MOUNT", &mount)
        .env("PACKAGES", PACKAGES)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .status()
        .await
        .context("unshare")?;
    if !status.success() {
        let log = tokio::fs::read_to_string(&log_path).await.unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("apt cannot install {PACKAGES} for the machines ({}): {}", log_path.display(), last.join("; "));
    }
    tokio::fs::rename(&draft, layer).await.context("keep the image layer")
}

/// A sparse, empty ext4 file system. No journal: what it holds is only as durable as the machine it simulates.
pub(crate) async fn blank_disk(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(bytes)?;
    drop(file);
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "nodiscard"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .await
        .context("mkfs.ext4 (package e2fsprogs)")?;
    if !made.status.success() {
        bail!("mkfs.ext4 {}: {}", path.display(), String::from_utf8_lossy(&made.stderr).trim());
    }
    Ok(())
}
