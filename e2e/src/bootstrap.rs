//! What real readers make of bootstrap data: that of each of our templates, in both formats, as Cluster API's kubeadm provider makes it.
//!
//! It goes through a config drive and cloud-init's reader, and has to come out as it went in. Of a cloud-config cloud-init fills in
//! the names that come from our metaData and checks the rest by its schema, and kubeadm validates the configuration that is left on
//! the machine's disk; an Ignition config is held against its specification. A reader that takes anything shows nothing, so each
//! also gets something that it must refuse.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::documents::Cases;
use crate::paths::Paths;
use crate::releases::templates;
use crate::tools::Tools;

/// A template with the variables that its release brings along, as `clusterctl generate cluster` would fill them in.
const FILL_IN: &str = r#"
set -ae
CLUSTER_NAME=prod; NAMESPACE=metal3; CONTROL_PLANE_MACHINE_COUNT=1; WORKER_MACHINE_COUNT=1
. "$(dirname "$TEMPLATE")/example_variables.rc"
KUBERNETES_VERSION=$KUBERNETES
exec "$CLUSTERCTL" generate yaml --from "$TEMPLATE"
"#;

/// Where the provider has cloud-init leave what kubeadm reads.
const KUBEADM: &str = "/run/kubeadm/";

/// Has all of it read; for how many machines there was some.
pub async fn read(paths: &Paths, tools: &Tools) -> Result<usize> {
    let cases = Cases::new(paths, "bootstrap")?;
    let mut written = Vec::new();
    for template in templates(paths)? {
        let made = make(tools, &template).await.with_context(|| template.display().to_string())?;
        let template = template.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (machine, data) in made {
            for format in ["cloudConfig", "ignition"] {
                let name = format!("{template}.{machine}.{format}");
                let text = data[format].as_str().context("no bootstrap data")?.to_owned();
                write(&cases.folder(&name)?, &machine, &text)?;
                written.push((name, text));
            }
        }
    }
    ensure!(!written.is_empty(), "no template has bootstrap data");
    cases.read().await?;
    let kubeadm = tools.path("kubeadm")?;
    for (name, text) in &written {
        check(tools, kubeadm, &cases.answer(name)?, text).await.with_context(|| name.clone())?;
    }
    Ok(written.len() / 2)
}

async fn make(tools: &Tools, template: &Path) -> Result<Map<String, Value>> {
    let filled = Command::new("sh")
        .args(["-c", FILL_IN])
        .env("TEMPLATE", template)
        .env("KUBERNETES", &tools.kubernetes)
        .env("CLUSTERCTL", tools.path("clusterctl")?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let filled = succeeded(filled, "clusterctl")?;
    let data = feed(tools.path("bootstrap-data")?, &["make", &tools.kubernetes], &filled).await?;
    Ok(serde_json::from_slice(&succeeded(data, "bootstrap-data")?)?)
}

/// Metadata with what our templates ask for by `ds.meta_data`.
fn write(folder: &Path, machine: &str, data: &str) -> Result<()> {
    let meta_data = json!({"uuid": "0f0e0d0c-0b0a-4908-8706-050403020100", "name": machine, "local-hostname": machine});
    let files =
        [("metaData", meta_data.to_string().as_str()), ("networkData", "{}"), ("cards", ""), ("userData", data)]
            .map(|(name, content)| fs::write(folder.join(name), content));
    files.into_iter().collect::<Result<(), _>>().context("write a case")
}

async fn check(tools: &Tools, kubeadm: &Path, answer: &Value, text: &str) -> Result<()> {
    ensure!(answer["userData"] == text, "is not what it was: {:#}", answer["userData"]);
    let Some(files) = answer["files"].as_object() else {
        let validator = tools.path("bootstrap-data")?;
        succeeded(feed(validator, &["validate"], text.as_bytes()).await?, "the validator of Ignition")?;
        let spoiled = text.replace(r#""path":"/etc/kubeadm.yml""#, r#""path":"etc/kubeadm.yml""#);
        let refused = feed(validator, &["validate"], spoiled.as_bytes()).await?;
        ensure!(!refused.status.success(), "a path without a root is taken");
        return Ok(());
    };
    let configuration = files.iter().find(|(path, _)| path.starts_with(KUBEADM)).context("nothing for kubeadm")?;
    let configuration = configuration.1.as_str().context("no text")?;
    let validate = ["config", "validate", "--config", "/dev/stdin"];
    succeeded(feed(kubeadm, &validate, configuration.as_bytes()).await?, "kubeadm")?;
    let spoiled = configuration.replace("nodeRegistration:", "nodeRegistratoin:");
    let refused = feed(kubeadm, &validate, spoiled.as_bytes()).await?;
    ensure!(!refused.status.success(), "kubeadm takes a field that there is not");
    Ok(())
}

async fn feed(program: &Path, arguments: &[&str], input: &[u8]) -> Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| program.display().to_string())?;
    let mut stdin = child.stdin.take().context("no input")?;
    let (written, output) = tokio::join!(
        async {
            let written = stdin.write_all(input).await;
            drop(stdin);
            written
        },
        child.wait_with_output()
    );
    let output = output?;
    // A program that refuses early may not read to the end; that it refuses is what counts then.
    if output.status.success() {
        written?;
    }
    Ok(output)
}

fn succeeded(output: Output, who: &str) -> Result<Vec<u8>> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{who}: {}", said.trim());
    Ok(output.stdout)
}
