//! The machine's root file system: an overlay of its disk over the image layer over the `/` of whoever runs the bed.
//!
//! Everything is mounted in the machine's own mount namespace, the loop devices included, so that ending pid 1 takes it all down.
//! Files are prepared only after the root is entered: an absolute link of the image then leads into the machine and not out of it.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::manifest::Manifest;

/// Where the machine's own things lie inside it.
pub(crate) const HOME: &str = "/opt/machine";
/// The version 1 cgroup hierarchies as the kubelet wants to see them; absent on a version 2 host.
pub(crate) const CGROUP_V1: &str = "/opt/machine/cgroup-v1";
/// The kubelet's drop-in folder.
pub(crate) const KUBELET_CONFIG_DIR: &str = "/etc/kubernetes-kubelet.d";
pub(crate) const SEED: &str = "/var/lib/cloud/seed/config_drive/openstack/latest";

const SETTINGS: [(&str, &str); 2] = [
    (
        // Interfaces are configured by pid 1 and files come from the image, so cloud-init keeps to what the config drive orders.
        "/etc/cloud/cloud.cfg.d/99-machine.cfg",
        "datasource_list: [ConfigDrive, None]
network: {config: disabled}
cloud_init_modules: [seed_random, bootcmd, write-files, disk_setup, mounts, set_hostname, update_hostname, update_etc_hosts, ca-certs, users-groups]
cloud_config_modules: [ntp, runcmd]
cloud_final_modules: [scripts-vendor, scripts-per-once, scripts-per-boot, scripts-per-instance, scripts-user, final-message]
",
    ),
    (
        // A machine shares the kernel's cgroups with its neighbours: the kubelet may not lay out a tree of its own.
        "/etc/kubernetes-kubelet.d/10-image.conf",
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupsPerQOS: false
enforceNodeAllocatable: []
",
    ),
];

/// Builds the root and makes it `/`; the outside is gone afterwards.
pub(crate) fn enter(manifest: &Manifest) -> Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make / private")?;
    let scratch = &manifest.scratch;
    mount("tmpfs", scratch, "tmpfs", MountFlags::empty(), "size=64m")?;
    let [layer, disk, root] = ["layer", "disk", "root"].map(|name| scratch.join(name));
    for folder in [&layer, &disk, &root] {
        fs::create_dir(folder)?;
    }
    // Losing the newest writes with the machine that made them is what a power cut does; flushing them costs etcd its speed.
    if let Some(image) = &manifest.layer {
        loop_mount(image, &layer, "loop,ro")?;
    } else {
        fs::create_dir(layer.join("layer"))?;
    }
    loop_mount(&manifest.disk, &disk, "loop,noatime,barrier=0")?;
    let first_boot = !disk.join("upper").exists();
    fs::create_dir_all(disk.join("upper"))?;
    fs::create_dir_all(disk.join("work"))?;
    let layers = format!("lowerdir={}/layer:/,upperdir={1}/upper,workdir={1}/work", layer.display(), disk.display());
    mount("overlay", &root, "overlay", MountFlags::empty(), &layers)?;

    let outside = format!("{HOME}/outside");
    let put_old = root.join(outside.trim_start_matches('/'));
    fs::create_dir_all(&put_old)?;
    rustix::mount::mount_bind_recursive("/dev", root.join("dev")).context("bind /dev")?;
    rustix::process::pivot_root(&root, &put_old).context("pivot_root")?;
    std::env::set_current_dir("/")?;
    furnish(manifest, Path::new(&outside), first_boot)?;
    rustix::mount::unmount(&outside, UnmountFlags::DETACH).context("leave the outside")?;
    Ok(())
}

fn furnish(manifest: &Manifest, outside: &Path, first_boot: bool) -> Result<()> {
    let from = |path: &Path| outside.join(path.strip_prefix("/").unwrap_or(path));
    mount("proc", "/proc", "proc", MountFlags::empty(), "")?;
    mount("sysfs", "/sys", "sysfs", MountFlags::RDONLY, "")?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), "mode=755")?;
    mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), "mode=1777")?;
    fs::create_dir_all("/run/lock")?;
    cgroups()?;

    if first_boot {
        for folder in ["/etc/kubernetes", "/var/lib/kubelet", "/var/lib/etcd", "/var/lib/cloud", "/etc/cni"] {
            remove(Path::new(folder))?;
        }
        for (file, text) in
            [("/etc/resolv.conf", ""), ("/etc/hosts", "127.0.0.1 localhost\n"), ("/etc/hostname", "localhost\n")]
        {
            write_anew(file, text)?;
        }
        fs::create_dir_all("/etc/kubernetes/manifests")?; // as the kubelet's package does
        for (file, text) in SETTINGS {
            write_anew(file, text)?;
        }
        if let Some(drive) = &manifest.drive {
            fs::create_dir_all(SEED)?;
            for file in fs::read_dir(from(drive)).context("config drive")? {
                let file = file?;
                fs::copy(file.path(), Path::new(SEED).join(file.file_name()))?;
            }
        }
    }
    fs::create_dir_all("/var/log")?;
    rustix::mount::mount_bind(from(&manifest.log), "/var/log").context("bind /var/log")?;
    share_kubelet_mounts()?;
    for (name, program) in &manifest.programs {
        bind_program(&from(program), &Path::new("/usr/local/bin").join(name))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("ip_forward")?;
    // From the second boot on the disk knows the name, and the kubelet starts before cloud-init would set it.
    let hostname = fs::read_to_string("/etc/hostname").unwrap_or_default();
    set_hostname(hostname.trim())?;
    Ok(())
}

pub(crate) fn set_hostname(name: &str) -> Result<()> {
    fs::write("/proc/sys/kernel/hostname", name).context("set the host name")
}

/// kubeadm wants version 2 with its controllers, the kubelet wants what really rules. On a host of version 1 an empty version 2
/// tree is dressed up for kubeadm, and the true hierarchies lie ready for the kubelet's own mount namespace.
fn cgroups() -> Result<()> {
    const V2: &str = "/sys/fs/cgroup";
    mount("cgroup2", V2, "cgroup2", MountFlags::empty(), "")?;
    let controllers = format!("{V2}/cgroup.controllers");
    let have = fs::read_to_string(&controllers)?;
    if ["cpu", "memory", "pids"].iter().all(|c| have.split_whitespace().any(|h| h == *c)) {
        return Ok(());
    }
    let claim = format!("{HOME}/cgroup.controllers");
    fs::write(&claim, "cpuset cpu io memory hugetlb pids\n")?;
    rustix::mount::mount_bind(&claim, &controllers).context("dress up cgroup.controllers")?;

    fs::create_dir_all(CGROUP_V1)?;
    mount("tmpfs", CGROUP_V1, "tmpfs", MountFlags::empty(), "mode=755")?;
    for controllers in v1_hierarchies(&fs::read_to_string("/proc/self/cgroup")?) {
        let folder = Path::new(CGROUP_V1).join(&controllers);
        fs::create_dir(&folder)?;
        mount("cgroup", &folder, "cgroup", MountFlags::RDONLY, &controllers)?;
        for alone in controllers.split(',').filter(|c| *c != controllers) {
            std::os::unix::fs::symlink(&controllers, Path::new(CGROUP_V1).join(alone))?;
        }
    }
    Ok(())
}

/// The mounted hierarchies of `/proc/self/cgroup`, named ones (systemd's) left out.
fn v1_hierarchies(table: &str) -> Vec<String> {
    let controllers = table.lines().filter_map(|line| line.split(':').nth(1));
    controllers.filter(|c| !c.is_empty() && !c.contains('=')).map(str::to_owned).collect()
}

/// The kubelet has its own mount namespace, the container runtime does not: what the kubelet mounts for a pod must show in both.
fn share_kubelet_mounts() -> Result<()> {
    let folder = "/var/lib/kubelet";
    fs::create_dir_all(folder)?;
    rustix::mount::mount_bind(folder, folder)?;
    rustix::mount::mount_change(folder, MountPropagationFlags::SHARED).context("share /var/lib/kubelet")?;
    Ok(())
}

fn bind_program(program: &Path, target: &Path) -> Result<()> {
    remove(target)?;
    fs::write(target, "")?;
    rustix::mount::mount_bind(program, target)
        .with_context(|| format!("bind {} to {}", program.display(), target.display()))
}

fn write_anew(file: &str, text: &str) -> Result<()> {
    let file = PathBuf::from(file);
    remove(&file)?; // it may be a link to somewhere
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

fn remove(path: &Path) -> Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("remove {}", path.display()))
}

fn mount(source: &str, target: impl AsRef<Path>, kind: &str, flags: MountFlags, data: &str) -> Result<()> {
    let target = target.as_ref();
    let data = CString::new(data)?;
    rustix::mount::mount(source, target, kind, flags, data.as_c_str())
        .with_context(|| format!("mount {kind} on {}", target.display()))
}

/// `mount(8)` finds and sets up the loop device with autoclear: it is gone when the last mount namespace that shows it is.
fn loop_mount(image: &Path, target: &Path, options: &str) -> Result<()> {
    let status =
        Command::new("mount").args(["-t", "ext4", "-o", options]).arg(image).arg(target).status().context("mount")?;
    ensure!(status.success(), "cannot mount {}: {status}", image.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::v1_hierarchies;

    #[test]
    fn controllers_of_a_version_1_host_come_per_hierarchy_without_the_named_ones() {
        let table = "9:name=systemd:/\n8:pids:/\n3:cpu,cpuacct:/\n0::/\n";
        assert_eq!(v1_hierarchies(table), ["pids", "cpu,cpuacct"]);
    }

    #[test]
    fn a_version_2_host_has_none() {
        assert!(v1_hierarchies("0::/user.slice\n").is_empty());
    }
}
