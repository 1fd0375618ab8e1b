//! A container's root, built in the container's own mount namespace: an overlay over the machine's `/` of which only the
//! system directories show, with everything written going to a tmpfs that dies with the container.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::mount::{mount, mount_bind_recursive, mount_change, mount_remount, unmount};
use serde::{Deserialize, Serialize};

/// What a container sees of the machine. All else of `/` is an empty directory to it: a program that reads what its
/// image would not hold must fail here too.
const SHOWN: &[&str] = &["bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];
const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// As the kernel's own limit.
const LINKS_FOLLOWED: usize = 40;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Overlay {
    /// An empty directory of the machine, used as mount point by every container, each in its own mount namespace.
    pub scratch: PathBuf,
    pub mounts: Vec<Mount>,
    /// Path in the container → content.
    pub texts: Vec<(PathBuf, String)>,
    pub working_dir: PathBuf,
    pub read_only: bool,
    /// All devices of the machine, and /sys writable.
    pub privileged: bool,
    pub masked: Vec<PathBuf>,
    pub read_only_paths: Vec<PathBuf>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

/// Makes `overlay` the root of this process, which must be alone in its mount namespace and inside its pid namespace.
pub(crate) fn enter(overlay: &Overlay) -> Result<()> {
    rustix::process::umask(Mode::empty());
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("making mounts private")?;
    let root = layer(&overlay.scratch).context("mounting the root")?;
    special(&root, overlay.privileged).context("mounting /proc, /sys and /dev")?;
    for wanted in &overlay.mounts {
        bind(&root, wanted)
            .with_context(|| format!("mounting {} at {}", wanted.source.display(), wanted.target.display()))?;
    }
    for (path, text) in &overlay.texts {
        replace(&resolve(&root, path)?, text).with_context(|| format!("writing {}", path.display()))?;
    }
    make_dir(&resolve(&root, &overlay.working_dir)?).context("making the working directory")?;
    protect(&root, overlay).context("protecting paths")?;
    if overlay.read_only {
        mount_remount(&root, MountFlags::BIND | MountFlags::RDONLY, "").context("making the root read-only")?;
    }
    pivot(&root).context("changing the root")
}

fn layer(scratch: &Path) -> Result<PathBuf> {
    // The upper layer on a file system of its own: on one shared with another overlay the kernel answers ELOOP.
    mount("tmpfs", scratch, "tmpfs", MountFlags::empty(), c"mode=0755")?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| scratch.join(name));
    for dir in [&upper, &work, &root] {
        make_dir(dir)?;
    }
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() && !SHOWN.iter().any(|shown| name == *shown) {
            let dir = upper.join(&name);
            make_dir(&dir)?;
            setxattr(&dir, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
        }
    }
    for (dir, mode) in [("tmp", 0o1777), ("run", 0o755), ("var", 0o755), ("var/tmp", 0o1777), ("root", 0o700)] {
        make_dir(&upper.join(dir))?;
        fs::set_permissions(upper.join(dir), fs::Permissions::from_mode(mode))?;
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    mount("overlay", &root, "overlay", MountFlags::empty(), std::ffi::CString::new(options)?.as_c_str())?;
    Ok(root)
}

fn special(root: &Path, privileged: bool) -> Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for dir in ["proc", "sys", "dev"] {
        make_dir(&root.join(dir))?;
    }
    mount("proc", root.join("proc"), "proc", quiet, None)?;
    let sys = if privileged { quiet } else { quiet | MountFlags::RDONLY };
    mount("sysfs", root.join("sys"), "sysfs", sys, None)?;
    let dev = root.join("dev");
    if privileged {
        return Ok(mount_bind_recursive("/dev", &dev)?);
    }
    mount("tmpfs", &dev, "tmpfs", MountFlags::NOSUID, c"mode=0755,size=64m")?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, dev.join(name), FileType::CharacterDevice, mode, makedev(*major, *minor))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    for dir in ["pts", "shm"] {
        make_dir(&dev.join(dir))?;
    }
    let pts = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", dev.join("pts"), "devpts", pts, c"newinstance,ptmxmode=0666,mode=0620")?;
    mount("shm", dev.join("shm"), "tmpfs", quiet, c"mode=1777,size=64m")?;
    Ok(())
}

fn bind(root: &Path, wanted: &Mount) -> Result<()> {
    let source = fs::metadata(&wanted.source)?;
    let target = resolve(root, &wanted.target)?;
    if source.is_dir() {
        make_dir(&target)?;
    } else if !target.exists() {
        if let Some(parent) = target.parent() {
            make_dir(parent)?;
        }
        File::create(&target)?;
    }
    mount_bind_recursive(&wanted.source, &target)?;
    if wanted.read_only {
        mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, "")?;
    }
    Ok(())
}

/// Writes a file of the container's own where the machine may have a link out of its root.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}

/// Paths of /proc and /sys that the pod's security context asks to hide or to protect; absent ones are no matter.
fn protect(root: &Path, overlay: &Overlay) -> Result<()> {
    for path in &overlay.masked {
        let target = resolve(root, path)?;
        if target.is_dir() {
            mount("tmpfs", &target, "tmpfs", MountFlags::RDONLY, c"size=0k")?;
        } else if target.exists() {
            mount_bind_recursive("/dev/null", &target)?;
        }
    }
    for path in &overlay.read_only_paths {
        let target = resolve(root, path)?;
        if target.exists() {
            mount_bind_recursive(&target, &target)?;
            mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, "")?;
        }
    }
    Ok(())
}

/// The new root is stacked on the old one, which is then taken from under it: no directory for the old root is needed.
fn pivot(root: &Path) -> Result<()> {
    rustix::process::chdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Where `path` of the container lies on the machine, links followed as the container would follow them: `/var/run`
/// may be an absolute link, and its target is meant inside the new root.
pub(crate) fn resolve(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut pending: Vec<PathBuf> = vec![path.to_owned()];
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(next) = pending.pop() {
        let mut components = next.components();
        let Some(first) = components.next() else { continue };
        pending.push(components.as_path().to_owned());
        match first {
            Component::RootDir => inside = PathBuf::new(),
            Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => drop(inside.pop()),
            Component::Normal(name) => {
                let here = root.join(&inside).join(name);
                match fs::read_link(&here) {
                    Ok(target) => {
                        links += 1;
                        if links > LINKS_FOLLOWED {
                            bail!("too many links in {}", path.display());
                        }
                        pending.push(target);
                    }
                    Err(_) => inside.push(name), // no link, or not there yet
                }
            }
        }
    }
    Ok(root.join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("process-cri-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[track_caller]
    fn check(root: &Dir, path: &str, expected: &str) {
        assert_eq!(resolve(&root.0, Path::new(path)).unwrap(), root.0.join(expected));
    }

    #[test]
    fn links_are_followed_inside_the_new_root() {
        let root = Dir::new("resolve");
        fs::create_dir_all(root.0.join("var/lib")).unwrap();
        symlink("/run", root.0.join("var/run")).unwrap();
        symlink("../../../../etc", root.0.join("var/lib/up")).unwrap();
        check(&root, "/var/run/secrets/token", "run/secrets/token");
        check(&root, "/var/lib/up/hosts", "etc/hosts");
        check(&root, "/../../etc/./passwd", "etc/passwd");
        check(&root, "/not/there/yet", "not/there/yet");
        check(&root, "relative", "relative");
    }

    #[test]
    fn a_ring_of_links_is_an_error() {
        let root = Dir::new("ring");
        symlink("/b", root.0.join("a")).unwrap();
        symlink("/a", root.0.join("b")).unwrap();
        assert!(resolve(&root.0, Path::new("/a/file")).is_err());
    }
}
