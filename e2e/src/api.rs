//! Only what stores objects: etcd and an API server with the definitions of everything the controllers meet, for tests
//! that ask a real server.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::json;

use crate::bed::HOST_CRDS;
use crate::console::Console;
use crate::kube::{Seen, apply, documents, wait_for};
use crate::life::BOUND;
use crate::management;
use crate::paths::Paths;
use crate::pki::Authority;
use crate::programs::Programs;
use crate::tools::Tools;

/// How the tests find the server.
const KUBECONFIG: &str = "CAPM3_TEST_KUBECONFIG";
/// The command line of a further one, an argument a line, for those that need a server without definitions.
const FURTHER: &str = "CAPM3_TEST_API_SERVER";

/// Runs the command in the caller's environment; its end is the end of the bed.
pub async fn run(paths: &Paths, console: &Console, programs: &Programs, command: &[String]) -> Result<ExitCode> {
    let tools = Tools::locate(paths)?;
    let authority = Authority::new(&paths.pki())?;
    let client = management::api_server(paths, &tools, programs, &authority).await?;
    define(&client, paths, &tools).await?;
    console.step(format_args!("API server {} serves all definitions", tools.kubernetes));

    let further = management::further_api_server(paths, &tools)?.join(OsStr::new("\n"));
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .env(KUBECONFIG, paths.kubeconfig())
        .env(FURTHER, further)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let status = command.status().await.with_context(|| format!("start {program}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The published definitions of this project, the host operator and Cluster API. Nobody converts here, so each kind is
/// used in its storage version.
async fn define(client: &Client, paths: &Paths, tools: &Tools) -> Result<()> {
    let mut texts = vec![HOST_CRDS.to_owned()];
    let folder = paths.root.join("crds");
    for file in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        texts.push(read(&file?.path())?);
    }
    texts.push(read(&tools.repository.join("cluster-api").join(&tools.cluster_api).join("core-components.yaml"))?);
    for text in texts {
        for mut definition in documents(&text)?.filter(|document| document["kind"] == "CustomResourceDefinition") {
            definition["spec"]["conversion"] = json!({"strategy": "None"});
            apply(client, &definition.to_string()).await?;
        }
    }
    wait_for("the definitions to be established", BOUND, async || {
        let all = Api::<CustomResourceDefinition>::all(client.clone()).list(&ListParams::default()).await?;
        let waiting: Vec<_> = all
            .items
            .iter()
            .filter(|crd| !is_established(crd))
            .filter_map(|crd| crd.metadata.name.as_deref())
            .collect();
        Ok(if waiting.is_empty() { Seen::Done(()) } else { Seen::Not(format!("waiting for {}", waiting.join(", "))) })
    })
    .await
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
