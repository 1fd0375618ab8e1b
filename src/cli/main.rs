//! `kubectl metal3`: what people ask about hosts and machines, answered from the same decisions the manager takes; and the simulator, in
//! which they can see these decisions at work.

#![expect(unreachable_pub, reason = "a binary exports nothing; `pub` marks what a module offers to the others")]

mod hosts;
mod sim;

use std::io::{self, Write as _};
use std::process::ExitCode;

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
    /// Plays a scenario in this process, without any cluster, and tells what happened.
    Sim(sim::Arguments),
}

fn main() -> ExitCode {
    // In one line: whoever types a wrong name is not helped by where in the program that was noticed.
    answer(Arguments::parse()).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "Error: {error:#}"); // nobody is left to be told that it could not be written
        ExitCode::FAILURE
    })
}

fn answer(Arguments { command, namespace, context }: Arguments) -> Result<ExitCode> {
    match command {
        Question::Hosts => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
            runtime.block_on(hosts(namespace, context))?;
            Ok(ExitCode::SUCCESS)
        }
        Question::Sim(arguments) => sim::run(&arguments),
    }
}

async fn hosts(namespace: Option<String>, context: Option<String>) -> Result<()> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = Config::from_kubeconfig(&options).await.context("read the kubeconfig")?;
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("connect to the cluster")?;
    let api: Api<BareMetalHost> = Api::namespaced(client, &namespace);
    let found = api.list(&Default::default()).await;
    let text = hosts::table(&found.with_context(|| format!("list BareMetalHosts in namespace {namespace}"))?.items);
    io::stdout().write_all(text.as_bytes()).context("write the answer")
}
