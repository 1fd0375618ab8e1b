//! `kubectl metal3`: what people ask about hosts and machines, answered from the same decisions the manager takes.

#![expect(unreachable_pub, reason = "a binary exports nothing; `pub` marks what a module offers to the others")]

mod hosts;

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use capm3_api::foreign::BareMetalHost;
use clap::{Parser, Subcommand};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};

#[derive(Parser)]
#[command(name = "kubectl metal3", about = "Metal3 hosts and machines, explained", version)]
struct Arguments {
    #[command(subcommand)]
    command: Question,
    /// The namespace to look in; the context's own when not given.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig to use.
    #[arg(long, global = true)]
    context: Option<String>,
}

#[derive(Subcommand)]
enum Question {
    /// Each BareMetalHost, who holds it, and whether a new machine could take it; if not, why not.
    Hosts,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let options = KubeConfigOptions { context: arguments.context, ..KubeConfigOptions::default() };
    let config = Config::from_kubeconfig(&options).await.context("read the kubeconfig")?;
    let namespace = arguments.namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("connect to the cluster")?;
    let text = match arguments.command {
        Question::Hosts => {
            let api: Api<BareMetalHost> = Api::namespaced(client, &namespace);
            let found = api.list(&Default::default()).await;
            hosts::table(&found.with_context(|| format!("list BareMetalHosts in namespace {namespace}"))?.items)
        }
    };
    io::stdout().write_all(text.as_bytes()).context("write the answer")
}
