//! What clusterctl installs from: Cluster API's own components, rendered into the cache with the programs, and this
//! project's `clusterctl/` folder as it is released.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::paths::Paths;
use crate::tools::Tools;

/// The released `clusterctl.yaml` names the folder it lies in by this variable.
pub const REPOSITORY: &str = "CLUSTERCTL_REPOSITORY_PATH";

/// Writes the configuration of clusterctl: the project's own plus the providers that come from the cache.
pub fn prepare(paths: &Paths, tools: &Tools) -> Result<()> {
    let released = paths.root.join("clusterctl/clusterctl.yaml");
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
    fs::write(paths.clusterctl_config(), serde_json::to_string_pretty(&config)?)?;
    Ok(())
}

/// Installs all providers and waits until every Deployment is Available.
pub async fn init(bed: &Bed) -> Result<()> {
    clusterctl(bed, &["init", "--infrastructure", "metal3", "--ipam", "metal3", "--wait-providers"], &[]).await?;
    Ok(())
}

/// Runs clusterctl against the management cluster and returns what it prints; its messages go to `clusterctl.log`.
pub async fn clusterctl(bed: &Bed, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let log = bed.paths.log.join("clusterctl.log");
    let messages = fs::File::options().create(true).append(true).open(&log)?;
    let mut command = bed.programs.command(bed.tools.path("clusterctl")?);
    command.envs(variables.iter().copied()).args(arguments).arg("--config").arg(bed.paths.clusterctl_config());
    command.env("KUBECONFIG", bed.paths.kubeconfig()).env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true");
    command.env(REPOSITORY, bed.paths.root.join("clusterctl"));
    command.env("XDG_CONFIG_HOME", bed.paths.state.join("config")).stdin(Stdio::null()).stderr(messages);
    let output = tokio::process::Command::from(command).output().await.context("start clusterctl")?;
    if !output.status.success() {
        bail!("clusterctl {} failed:\n{}", arguments.join(" "), crate::tools::last_lines(&log, 10));
    }
    Ok(String::from_utf8(output.stdout)?)
}
