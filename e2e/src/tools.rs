//! The Go programs of the bed, built from pinned, tagged modules into the cache.
//!
//! `e2e/tools/kube` and `e2e/tools/capi` hold nothing but a `go.mod` and a `go.sum`; the versions there are the only
//! place that names them. `e2e/tools/gitops` adds a small program of ours around two libraries, `e2e/tools/capi/bootstrap-data`
//! another around what the pins of Cluster API bring along. A program is built once per version and recipe; what is already there costs a look at the file system. Cluster API and clusterctl refuse a
//! server without a version, so the version goes in at link time; the second Kubernetes version (for upgrades of
//! machines) is the same source linked under its number.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::console::{Console, spoken};
use crate::paths::Paths;

const KUBE: &str = include_str!("../tools/kube/go.mod");
const CAPI: &str = include_str!("../tools/capi/go.mod");
/// Pins and source: both are part of the key.
const GITOPS: &str = concat!(include_str!("../tools/gitops/go.mod"), include_str!("../tools/gitops/main.go"));
const BOOTSTRAP: &str =
    concat!(include_str!("../tools/capi/go.mod"), include_str!("../tools/capi/bootstrap-data/main.go"));
/// The library that gives the program of [`GITOPS`] its version.
const KSTATUS: &str = "sigs.k8s.io/cli-utils";

/// Part of the key of everything built: change it with the flags below.
const RECIPE: &str = "1: CGO_ENABLED=0 -trimpath -pgo=off -ldflags";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Etcd,
    Kubernetes,
    ClusterApi,
    Gitops,
    Bootstrap,
}

struct Program {
    name: &'static str,
    source: Source,
    package: &'static str,
    /// Seconds on two cores when nothing is cached, in this order; only for the progress line.
    usual: u64,
}

#[rustfmt::skip]
const PROGRAMS: [Program; 13] = [
    Program { name: "etcd", source: Source::Etcd, package: "go.etcd.io/etcd/server/v3", usual: 64 },
    Program { name: "kube-apiserver", source: Source::Kubernetes, package: "k8s.io/kubernetes/cmd/kube-apiserver", usual: 250 },
    Program { name: "kubectl", source: Source::Kubernetes, package: "k8s.io/kubernetes/cmd/kubectl", usual: 30 },
    Program { name: "kube-controller-manager", source: Source::Kubernetes, package: "k8s.io/kubernetes/cmd/kube-controller-manager", usual: 75 },
    Program { name: "kube-scheduler", source: Source::Kubernetes, package: "k8s.io/kubernetes/cmd/kube-scheduler", usual: 10 },
    Program { name: "kubelet", source: Source::Kubernetes, package: "k8s.io/kubernetes/cmd/kubelet", usual: 35 },
    Program { name: "kubeadm", source: Source::Kubernetes, package: "k8s.io/kubernetes/cmd/kubeadm", usual: 20 },
    Program { name: "clusterctl", source: Source::ClusterApi, package: "sigs.k8s.io/cluster-api/cmd/clusterctl", usual: 120 },
    Program { name: "capi-core", source: Source::ClusterApi, package: "sigs.k8s.io/cluster-api/core", usual: 68 },
    Program { name: "capi-bootstrap", source: Source::ClusterApi, package: "sigs.k8s.io/cluster-api/bootstrap/kubeadm", usual: 10 },
    Program { name: "capi-control-plane", source: Source::ClusterApi, package: "sigs.k8s.io/cluster-api/controlplane/kubeadm", usual: 12 },
    Program { name: "gitops-readers", source: Source::Gitops, package: ".", usual: 15 },
    Program { name: "bootstrap-data", source: Source::Bootstrap, package: "./bootstrap-data", usual: 10 },
];

/// Programs that exist in the adjacent Kubernetes version as well: those that a machine's image would bring.
const OF_A_MACHINE: [&str; 2] = ["kubelet", "kubeadm"];

/// Programs of this workspace that run inside the bed.
const OURS: [&str; 3] = ["capm3-manager", "process-cri", "machine-init"];

/// The cargo profile of [`OURS`]: memory and CPU figures are only worth reading from `release`.
fn profile() -> String {
    env::var("CAPM3_BED_PROFILE").unwrap_or_else(|_| "release".to_owned())
}

/// One file to be there before the bed starts.
struct Item {
    name: &'static str,
    source: Source,
    package: &'static str,
    version: String,
    usual: u64,
    path: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Tools {
    /// Programs of the bed, by name.
    programs: BTreeMap<&'static str, PathBuf>,
    /// kubelet and kubeadm by Kubernetes version, newest first.
    machine: Vec<(String, BTreeMap<&'static str, PathBuf>)>,
    /// The Kubernetes version of the management cluster and of new machines, as `v1.36.3`.
    pub kubernetes: String,
    pub cluster_api: String,
    pub etcd: String,
    /// Cluster API's components as a clusterctl repository: `{label}/{version}/{file}`.
    pub repository: PathBuf,
}

impl Tools {
    /// Where everything is or will be; builds nothing.
    pub fn locate(paths: &Paths) -> Result<Tools> {
        let items = items(paths)?;
        let kubernetes = version(KUBE, "k8s.io/kubernetes")?;
        let mut tools = Tools {
            programs: BTreeMap::new(),
            machine: Vec::new(),
            cluster_api: version(CAPI, "sigs.k8s.io/cluster-api")?,
            etcd: version(KUBE, "go.etcd.io/etcd/server/v3")?,
            repository: folder(paths, Source::ClusterApi, &version(CAPI, "sigs.k8s.io/cluster-api")?)
                .join("repository"),
            kubernetes: kubernetes.clone(),
        };
        for item in items {
            if OF_A_MACHINE.contains(&item.name) {
                match tools.machine.iter_mut().find(|(version, _)| *version == item.version) {
                    Some((_, programs)) => _ = programs.insert(item.name, item.path.clone()),
                    None => {
                        tools.machine.push((item.version.clone(), BTreeMap::from([(item.name, item.path.clone())])))
                    }
                }
            }
            if item.source != Source::Kubernetes || item.version == kubernetes {
                tools.programs.insert(item.name, item.path);
            }
        }
        let profile = profile();
        let folder = paths.target.join(if profile == "dev" { "debug" } else { &profile });
        tools.programs.extend(OURS.map(|name| (name, folder.join(name))));
        Ok(tools)
    }

    /// The path of a program of the bed; all of [`PROGRAMS`] and [`OURS`] have one.
    pub fn path(&self, name: &str) -> Result<&Path> {
        self.programs.get(name).map(PathBuf::as_path).with_context(|| format!("the bed has no program {name}"))
    }

    /// `kubelet` or `kubeadm` in the version of a machine's image.
    pub fn of_machine(&self, version: &str, name: &str) -> Result<&Path> {
        let found = self.machine.iter().find(|(v, _)| v == version).and_then(|(_, programs)| programs.get(name));
        found.map(PathBuf::as_path).with_context(|| format!("the bed has no {name} {version}"))
    }

    /// The two adjacent Kubernetes versions that machines can run, newest first.
    pub fn machine_versions(&self) -> impl Iterator<Item = &str> {
        self.machine.iter().map(|(version, _)| version.as_str())
    }

    /// Folders of the management cluster's programs, for a person's PATH.
    pub fn folders(&self) -> Vec<PathBuf> {
        let folders: BTreeSet<_> =
            self.programs.values().filter_map(|path| path.parent().map(Path::to_owned)).collect();
        folders.into_iter().collect()
    }

    /// Whether the Go toolchain has to run before the bed can start.
    pub fn missing(paths: &Paths) -> Result<bool> {
        Ok(items(paths)?.iter().any(|item| !item.path.exists()) || !Tools::locate(paths)?.repository.exists())
    }

    /// Builds what is missing, saying what comes, how long it usually takes and how much is left.
    pub fn build(paths: &Paths, console: &Console) -> Result<Tools> {
        let missing: Vec<Item> = items(paths)?.into_iter().filter(|item| !item.path.exists()).collect();
        let tools = Tools::locate(paths)?;
        if !missing.is_empty() {
            let left: u64 = missing.iter().map(|item| item.usual).sum();
            console.step(format_args!(
                "{} Go programs are to be built into {}, usually {} on two cores; later runs use them again",
                missing.len(),
                paths.cache.display(),
                spoken(Duration::from_secs(left)),
            ));
        }
        for (n, item) in missing.iter().enumerate() {
            let left: u64 = missing.iter().skip(n).map(|item| item.usual).sum();
            console.step(format_args!(
                "building {} {} ({} of {}, usually {}; {} to go)",
                item.name,
                item.version,
                n + 1,
                missing.len(),
                spoken(Duration::from_secs(item.usual)),
                spoken(Duration::from_secs(left)),
            ));
            item.build(paths)?;
        }
        if !tools.repository.exists() {
            console.step("rendering the components of Cluster API");
            render_repository(paths, &tools)?;
        }
        Ok(tools)
    }

    /// Seconds that the Go programs took, each when it was built.
    pub fn build_seconds(paths: &Paths) -> Result<f64> {
        let noted = |item: &Item| fs::read_to_string(item.note()).ok()?.trim().parse::<f64>().ok();
        Ok(items(paths)?.iter().filter_map(noted).sum())
    }
}

/// Builds this workspace's own programs of the bed; cargo says what it does when there is something to do.
pub fn build_ours(paths: &Paths, console: &Console) -> Result<()> {
    let tools = Tools::locate(paths)?;
    let profile = profile();
    let mut cargo = with_us(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&paths.root).args(["build", "--locked", "--profile", &profile]);
    for package in ["capm3-manager", "capm3-process-cri", "capm3-e2e"] {
        cargo.args(["--package", package]);
    }
    cargo.args(OURS.iter().flat_map(|name| ["--bin", *name]));
    if OURS.iter().all(|name| tools.path(name).is_ok_and(Path::exists)) {
        cargo.arg("--quiet");
    } else {
        console.step(format_args!("building {} ({profile})", OURS.join(", ")));
    }
    ensure!(cargo.status().context("start cargo")?.success(), "cargo could not build {}", OURS.join(", "));
    Ok(())
}

impl Item {
    /// Builds beside the final name and renames, so that a file under the final name is always whole.
    fn build(&self, paths: &Paths) -> Result<()> {
        let log = paths.cache.join("build.log");
        let folder = self.path.parent().context("a folder")?;
        fs::create_dir_all(folder)?;
        let partial = folder.join(format!(".{}.partial", self.name));
        let output = fs::File::create(&log)?;
        let start = Instant::now();
        let status = go(paths, self.source)
            .args(["build", "-trimpath", "-pgo=off", "-ldflags", &self.link_flags()])
            .arg("-o")
            .arg(&partial)
            .arg(self.package)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .context("start go")?;
        ensure!(status.success(), "go could not build {}:\n{}", self.name, last_lines(&log, 20));
        fs::write(self.note(), format!("{:.1}\n", start.elapsed().as_secs_f64()))?;
        fs::rename(&partial, &self.path)?;
        Ok(())
    }

    /// Beside the program: the seconds its build took.
    fn note(&self) -> PathBuf {
        self.path.with_file_name(format!(".{}.seconds", self.name))
    }

    fn link_flags(&self) -> String {
        let packages: &[&str] = match self.source {
            Source::Etcd | Source::Gitops | Source::Bootstrap => &[],
            Source::Kubernetes => &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
            Source::ClusterApi => &["sigs.k8s.io/cluster-api/version"],
        };
        let commit = if self.source == Source::Kubernetes { "0".repeat(40) } else { "0".repeat(7) };
        let mut numbers = self.version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let mut flags = "-s -w".to_owned();
        for package in packages {
            for (variable, value) in [
                ("gitVersion", self.version.as_str()),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitCommit", &commit),
                ("gitTreeState", "clean"),
                ("buildDate", "2026-01-01T00:00:00Z"),
            ] {
                flags += &format!(" -X {package}.{variable}={value}");
            }
        }
        flags
    }
}

fn items(paths: &Paths) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for program in &PROGRAMS {
        let version = match program.source {
            Source::Etcd => version(KUBE, "go.etcd.io/etcd/server/v3")?,
            Source::Kubernetes => version(KUBE, "k8s.io/kubernetes")?,
            Source::ClusterApi | Source::Bootstrap => version(CAPI, "sigs.k8s.io/cluster-api")?,
            Source::Gitops => version(GITOPS, KSTATUS)?,
        };
        items.push(program.item(paths, version, program.usual));
    }
    let adjacent = adjacent(&version(KUBE, "k8s.io/kubernetes")?)?;
    for program in PROGRAMS.iter().filter(|program| OF_A_MACHINE.contains(&program.name)) {
        items.push(program.item(paths, adjacent.clone(), 12));
    }
    Ok(items)
}

impl Program {
    fn item(&self, paths: &Paths, version: String, usual: u64) -> Item {
        let path = folder(paths, self.source, &version).join(self.name);
        Item { name: self.name, source: self.source, package: self.package, version, usual, path }
    }
}

/// `kubernetes-v1.36.3-1f2e3d4c`: the version for people, a digest of all pins and of the recipe for correctness.
fn folder(paths: &Paths, source: Source, version: &str) -> PathBuf {
    let (name, pins) = match source {
        Source::Etcd => ("etcd", KUBE),
        Source::Kubernetes => ("kubernetes", KUBE),
        Source::ClusterApi => ("cluster-api", CAPI),
        Source::Gitops => ("gitops", GITOPS),
        Source::Bootstrap => ("bootstrap", BOOTSTRAP),
    };
    let digest = RECIPE.bytes().chain(pins.bytes()).fold(0x811c_9dc5_u32, |sum, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193) // FNV-1a: stable between releases of Rust
    });
    paths.cache.join(format!("{name}-{version}-{digest:08x}"))
}

fn version(go_mod: &str, module: &str) -> Result<String> {
    let line = go_mod.lines().map(str::trim).find_map(|line| line.strip_prefix(module)?.strip_prefix(" v"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(format!("v{}", number.with_context(|| format!("go.mod requires no {module}"))?))
}

/// The patch release before: v1.36.3 -> v1.36.2.
fn adjacent(version: &str) -> Result<String> {
    let (series, patch) = version.rsplit_once('.').context("a version has dots")?;
    match patch.parse::<u32>() {
        Ok(patch @ 1..) => Ok(format!("{series}.{}", patch - 1)),
        _ => bail!("{version} has no patch release before it"),
    }
}

/// A command that ends when the bed does.
fn with_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// Go with the caller's environment (proxies and caches are the user's) and the flags that make builds equal.
fn go(paths: &Paths, source: Source) -> Command {
    let module = match source {
        Source::Etcd | Source::Kubernetes => "kube",
        Source::ClusterApi | Source::Bootstrap => "capi",
        Source::Gitops => "gitops",
    };
    let mut go = with_us("go");
    go.current_dir(paths.root.join("e2e/tools").join(module));
    go.env("GOFLAGS", "-mod=readonly -buildvcs=false").env("CGO_ENABLED", "0").env_remove("GOWORK");
    go
}

/// The version of Go that would build, or why there is none. A Go that can fetch the version which the modules ask for does so here.
pub fn go_version(paths: &Paths) -> Result<String> {
    let output = go(paths, Source::Kubernetes).args(["env", "GOVERSION"]).output().context("there is no `go`")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let wanted = KUBE.lines().find_map(|line| line.strip_prefix("go ")).context("go.mod names no version of Go")?;
    ensure!(
        release(&version) >= release(wanted),
        "{version} is too old for the programs of the bed, which want {wanted}"
    );
    Ok(version)
}

/// Major and minor number of a version of Go: `go1.26.1`, `1.26.0`, `go1.27rc1`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches("go").split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Cluster API publishes its components as kustomize folders inside the module that was built.
fn render_repository(paths: &Paths, tools: &Tools) -> Result<()> {
    let listed = go(paths, Source::ClusterApi)
        .args(["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api"])
        .output()
        .context("start go")?;
    ensure!(listed.status.success(), "go list: {}", String::from_utf8_lossy(&listed.stderr));
    let module = PathBuf::from(String::from_utf8_lossy(&listed.stdout).trim());

    let partial = tools.repository.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    for (label, source, file) in [
        ("cluster-api", "core/config/default", "core-components.yaml"),
        ("bootstrap-kubeadm", "bootstrap/kubeadm/config/default", "bootstrap-components.yaml"),
        ("control-plane-kubeadm", "controlplane/kubeadm/config/default", "control-plane-components.yaml"),
    ] {
        let rendered = Command::new(tools.path("kubectl")?).arg("kustomize").arg(module.join(source)).output()?;
        ensure!(rendered.status.success(), "kubectl kustomize {source}: {}", String::from_utf8_lossy(&rendered.stderr));
        let folder = partial.join(label).join(&tools.cluster_api);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(file), &rendered.stdout)?;
        fs::write(folder.join("metadata.yaml"), fs::read(module.join("metadata.yaml"))?)?; // not copied: it is read-only
    }
    fs::rename(&partial, &tools.repository)?;
    Ok(())
}

/// The end of a log, for an error message.
pub fn last_lines(path: &Path, count: usize) -> String {
    let Ok(bytes) = fs::read(path) else { return String::new() };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_go_mod() {
        let text = "require (\n\tk8s.io/kubernetes-extra v0.1.0\n\tk8s.io/kubernetes v1.36.3 // indirect\n)";
        assert_eq!(version(text, "k8s.io/kubernetes").unwrap(), "v1.36.3");
        assert!(version(text, "k8s.io/none").is_err());
    }

    #[test]
    fn versions_of_go_are_compared_by_number() {
        assert_eq!(release("go1.26.1"), release("1.26.0"));
        assert!(release("go1.9.7") < release("1.26.0") && release("1.26.0") < release("go1.27rc1"));
        assert!(release("devel") < release("1.26.0"));
    }

    #[test]
    fn the_adjacent_version_is_the_patch_release_before() {
        assert_eq!(adjacent("v1.36.3").unwrap(), "v1.36.2");
        assert!(adjacent("v1.36.0").is_err());
    }

    #[test]
    fn another_pin_is_another_folder() {
        let paths =
            Paths { root: "/r".into(), target: "/t".into(), state: "/s".into(), log: "/l".into(), cache: "/c".into() };
        let kube = folder(&paths, Source::Kubernetes, "v1.36.3");
        assert!(kube.to_string_lossy().starts_with("/c/kubernetes-v1.36.3-"), "{kube:?}");
        assert_ne!(kube.file_name(), folder(&paths, Source::Kubernetes, "v1.36.2").file_name());
    }
}
