//! What clusterctl installs from: Cluster API's own components, rendered into the cache with the programs, and this
//! project's `clusterctl/` folder as it is released, alone or beside an older release that is made of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::kube::documents;
use crate::life::BOUND;
use crate::paths::Paths;
use crate::tools::Tools;

/// The released `clusterctl.yaml` names the folder it lies in by this variable.
pub const REPOSITORY: &str = "CLUSTERCTL_REPOSITORY_PATH";

/// Features of Cluster API that some of our flavours use.
const FEATURES: [&str; 2] = ["CLUSTER_TOPOLOGY", "EXP_MACHINE_TAINT_PROPAGATION"];

/// One of our two providers, as clusterctl knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its folder, its object in the inventory, and the label of all that belongs to it.
    pub label: &'static str,
    pub kind: &'static str,
    /// How clusterctl's commands name it.
    pub flag: &'static str,
    pub namespace: &'static str,
    pub deployment: &'static str,
    pub lease: &'static str,
}

pub const INFRASTRUCTURE: Provider = Provider {
    label: "infrastructure-metal3",
    kind: "InfrastructureProvider",
    flag: "--infrastructure",
    namespace: "capm3-system",
    deployment: "capm3-controller-manager",
    lease: "controller-leader-election-capm3",
};

pub const IPAM: Provider = Provider {
    label: "ipam-metal3",
    kind: "IPAMProvider",
    flag: "--ipam",
    namespace: "metal3-ipam-system",
    deployment: "ipam-controller-manager",
    lease: "controller-leader-election-ipam-capm3",
};

pub const PROVIDERS: [Provider; 2] = [INFRASTRUCTURE, IPAM];

/// Writes the configuration of clusterctl: the project's own plus the providers that come from the cache.
pub fn prepare(paths: &Paths, tools: &Tools) -> Result<()> {
    let released = released(paths).join("clusterctl.yaml");
    let text = fs::read_to_string(&released).with_context(|| format!("read {}", released.display()))?;
    let mut config: Value = serde_saphyr::from_str(&text)?;
    let providers =
        config.get_mut("providers").and_then(Value::as_array_mut).context("clusterctl.yaml lists no providers")?;
    for (name, kind, label, file) in [
        ("cluster-api", "CoreProvider", "cluster-api", "core-components.yaml"),
        ("kubeadm", "BootstrapProvider", "bootstrap-kubeadm", "bootstrap-components.yaml"),
        ("kubeadm", "ControlPlaneProvider", "control-plane-kubeadm", "control-plane-components.yaml"),
    ] {
        let path = tools.repository.join(label).join(&tools.cluster_api).join(file);
        providers.push(json!({"name": name, "type": kind, "url": format!("file://{}", path.display())}));
    }
    for feature in FEATURES {
        config[feature] = "true".into();
    }
    let config = serde_json::to_string_pretty(&config)?;
    fs::create_dir_all(paths.config().join("cluster-api"))?;
    fs::write(paths.clusterctl_config(), &config)?;
    let own = PROVIDERS.iter().fold(config, |config, provider| {
        let file = provider.label.trim_end_matches("metal3").to_owned() + "components";
        config.replace(&format!("/{file}.yaml"), &format!("/{file}-self-signed.yaml"))
    });
    Ok(fs::write(self_signed(paths), own)?)
}

/// clusterctl's configuration for managers that sign their own certificates; after `--config`.
pub fn self_signed(paths: &Paths) -> PathBuf {
    paths.clusterctl_config().with_file_name("clusterctl-self-signed.yaml")
}

/// The folder of this checkout that clusterctl installs from.
pub fn released(paths: &Paths) -> PathBuf {
    paths.root.join("clusterctl")
}

/// The version in the release folder, and the files that `provider` has in it.
pub fn version(paths: &Paths) -> Result<String> {
    let folder = released(paths).join(INFRASTRUCTURE.label);
    let versions = names(&folder)?;
    versions.into_iter().max_by_key(|name| number(name)).with_context(|| format!("no version in {}", folder.display()))
}

/// The flavours of the release, by what clusterctl calls them; the empty one is the default.
pub fn flavors(paths: &Paths) -> Result<Vec<String>> {
    let files = names(&released(paths).join(INFRASTRUCTURE.label).join(version(paths)?))?;
    let flavors = files.iter().filter_map(|file| file.strip_prefix("cluster-template")?.strip_suffix(".yaml"));
    Ok(flavors.map(|flavor| flavor.trim_start_matches('-').to_owned()).collect())
}

/// The files of the release that clusters are made from: a template for each flavour, and the classes.
pub fn templates(paths: &Paths) -> Result<Vec<PathBuf>> {
    let folder = released(paths).join(INFRASTRUCTURE.label).join(version(paths)?);
    let files = names(&folder)?.into_iter();
    Ok(files.filter(|file| file.starts_with("cluster")).map(|file| folder.join(file)).collect())
}

pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// v1.14.100 -> (1, 14, 100).
fn number(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.strip_prefix('v')?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

/// A repository with this release and an older one that is made of it.
pub struct Upgrade {
    pub repository: PathBuf,
    pub old: String,
    pub new: String,
}

impl Upgrade {
    /// The older release differs in what an upgrade has to change: its image, a ConfigMap that is no more, a rule of its
    /// ClusterRole, a column of its first kind.
    pub fn make(paths: &Paths) -> Result<Upgrade> {
        let new = version(paths)?;
        let old = before(&new)?;
        let repository = paths.state.join("repository");
        for provider in PROVIDERS {
            let from = released(paths).join(provider.label).join(&new);
            for name in [&old, &new] {
                let folder = repository.join(provider.label).join(name);
                fs::create_dir_all(&folder)?;
                for file in names(&from)? {
                    let mut text = fs::read_to_string(from.join(&file))?;
                    if *name == old && file.contains("components") {
                        text = older(provider, &text.replace(&format!(":{new}"), &format!(":{old}")))?;
                    }
                    fs::write(folder.join(file), text)?;
                }
            }
        }
        Ok(Upgrade { repository, old, new })
    }

    /// clusterctl with this repository.
    pub async fn clusterctl(&self, bed: &Bed, arguments: &[&str]) -> Result<String> {
        clusterctl(bed, arguments, &[(REPOSITORY, &self.repository.display().to_string())]).await
    }

    /// As [`refused`], with this repository.
    pub async fn refused(&self, bed: &Bed, arguments: &[&str]) -> Result<String> {
        refused(bed, arguments, &[(REPOSITORY, &self.repository.display().to_string())]).await
    }

    /// The command line's words for both providers in a version.
    pub fn both(version: &str) -> [String; 4] {
        let [infrastructure, ipam] = PROVIDERS.map(|provider| provider.flag.to_owned());
        let version = format!("metal3:{version}");
        [infrastructure, version.clone(), ipam, version]
    }
}

/// What only the older release has.
pub fn only_in_older(provider: Provider) -> String {
    format!("{}-of-an-older-release", provider.label)
}

fn older(provider: Provider, components: &str) -> Result<String> {
    let mut all: Vec<Value> = documents(components)?.collect();
    for document in &mut all {
        match document["kind"].as_str() {
            Some("ClusterRole") => {
                let rules = document["rules"].as_array_mut().context("a ClusterRole has rules")?;
                rules.push(json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}));
            }
            Some("CustomResourceDefinition") => {
                let versions = document["spec"]["versions"].as_array_mut().context("a definition has versions")?;
                for version in versions {
                    let columns = version.get_mut("additionalPrinterColumns").and_then(Value::as_array_mut);
                    columns.map(Vec::pop);
                }
            }
            _ => {}
        }
    }
    let metadata = json!({
        "name": only_in_older(provider),
        "namespace": provider.namespace,
        "labels": {"cluster.x-k8s.io/provider": provider.label},
    });
    all.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}));
    Ok(all.iter().map(|document| format!("---\n{document}\n")).collect())
}

/// The patch release before.
fn before(version: &str) -> Result<String> {
    match number(version) {
        Some((major, minor, patch @ 1..)) => Ok(format!("v{major}.{minor}.{}", patch - 1)),
        _ => bail!("{version} has no patch release before it"),
    }
}

/// Installs all providers and waits until every Deployment is Available.
pub async fn init(bed: &Bed) -> Result<()> {
    clusterctl(bed, &["init", "--infrastructure", "metal3", "--ipam", "metal3", "--wait-providers"], &[]).await?;
    Ok(())
}

/// Runs clusterctl against the management cluster and returns what it prints; its messages go to `clusterctl.log`.
pub async fn clusterctl(bed: &Bed, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    match run(bed, arguments, variables).await? {
        Ok(printed) => Ok(printed),
        Err(messages) => {
            let lines: Vec<_> = messages.lines().collect();
            let last = lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n");
            bail!("clusterctl {} failed:\n{last}", arguments.join(" "));
        }
    }
}

/// Runs clusterctl where it must fail, and returns what it says.
pub async fn refused(bed: &Bed, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    match run(bed, arguments, variables).await? {
        Err(messages) => Ok(messages),
        Ok(_) => bail!("clusterctl {} was not refused", arguments.join(" ")),
    }
}

/// What it prints, or what it says when it fails.
async fn run(bed: &Bed, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Result<String, String>> {
    let mut command = bed.programs.command(bed.tools.path("clusterctl")?);
    command.args(arguments); // its configuration is where the shell's clusterctl looks for it, too
    if arguments.contains(&"--wait-providers") {
        command.arg(format!("--wait-provider-timeout={}", BOUND.as_secs()));
    }
    command.env("KUBECONFIG", bed.paths.kubeconfig()).env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true");
    command.env("XDG_CONFIG_HOME", bed.paths.config()).stdin(Stdio::null());
    command.env(REPOSITORY, released(&bed.paths)).envs(variables.iter().copied());
    let output = tokio::process::Command::from(command).output().await.context("start clusterctl")?;
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    let log = fs::File::options().create(true).append(true).open(bed.paths.log.join("clusterctl.log"))?;
    std::io::Write::write_all(&mut &log, format!("$ clusterctl {}\n{messages}", arguments.join(" ")).as_bytes())?;
    let printed = String::from_utf8(output.stdout)?;
    Ok(if output.status.success() { Ok(printed) } else { Err(messages) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_before_is_lower_by_one_patch() {
        assert_eq!(before("v1.14.100").unwrap(), "v1.14.99");
        assert!(number("v1.14.99") < number("v1.14.100") && number("v1.9.0") < number("v1.14.0"));
        assert!(before("v1.15.0").is_err() && before("latest").is_err());
    }

    #[test]
    fn an_older_release_lacks_a_column_and_has_what_is_gone_since() {
        let crd = "{kind: CustomResourceDefinition, spec: {versions: [{additionalPrinterColumns: [{name: Age}]}, {}]}}";
        let text = older(IPAM, &format!("{crd}\n---\nkind: ClusterRole\nrules: []\n")).unwrap();
        let all: Vec<_> = documents(&text).unwrap().collect();
        assert_eq!(all[0]["spec"]["versions"], json!([{"additionalPrinterColumns": []}, {}]));
        assert_eq!(all[1]["rules"][0]["resources"], json!(["nodes"]));
        assert_eq!(all[2]["metadata"]["name"], "ipam-metal3-of-an-older-release");
    }
}
