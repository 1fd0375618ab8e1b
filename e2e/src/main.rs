//! `bed`: a whole management cluster of real components, and machines that boot, on one Linux machine without a network.
//!
//! Read in this order: [`supervisor`] (one process tree that leaves nothing behind), [`tools`] (the Go programs),
//! [`management`] (the control plane), [`node`] (the kubelet and the container runtime whose containers are processes),
//! [`releases`] (what clusterctl installs), [`machine`] (the machines), [`scenario`] and [`view`] (what is done with it):
//! [`life`], [`further`] and [`killed`] with a cluster, [`lifecycle`] with the providers, [`flavours`] and [`mixed`] with manifests,
//! [`documents`] and [`bootstrap`] with what machines boot with.

#![expect(unreachable_pub, reason = "a binary exports nothing; `pub` marks what a module offers to the others")]

mod api;
mod audit;
mod bed;
mod bootstrap;
mod console;
mod demo;
mod documents;
mod flavours;
mod further;
mod gitops;
mod hardware;
mod ipam;
mod issuer;
mod killed;
mod kube;
mod life;
mod lifecycle;
mod loose;
#[allow(dead_code, reason = "machine-try empties the room in order; the bed ends with its namespaces")]
mod machine;
mod management;
mod managers;
mod mixed;
mod net;
mod node;
mod paths;
mod pki;
mod prerequisites;
mod programs;
mod releases;
mod scenario;
mod site;
mod summary;
mod supervisor;
mod tools;
mod view;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use crate::bed::Bed;
use crate::console::Console;
use crate::paths::Paths;
use crate::supervisor::{Environment, Lock};
use crate::tools::Tools;

#[derive(Parser)]
#[command(
    name = "bed",
    about = "A real management cluster and machines that boot, on one Linux machine without a network"
)]
struct Arguments {
    /// Given by the bed to itself when it starts again inside its namespaces.
    #[arg(long, hide = true)]
    inside: bool,
    #[command(subcommand)]
    command: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Bring up the management cluster with all providers and keep it until Ctrl-C.
    Up,
    /// Bring up a workload cluster and show it live.
    Demo,
    /// The scenarios with their assertions.
    Test {
        /// The long scenarios too.
        #[arg(long)]
        all: bool,
    },
    /// Run a command beside etcd and an API server with all definitions, named by CAPM3_TEST_KUBECONFIG.
    Api {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Have real readers read what machines boot with: cloud-init and netplan the documents that the core's tests render, cloud-init,
    /// kubeadm and a validator of Ignition what Cluster API makes of our templates. No bed is needed.
    Documents,
    /// End the running bed.
    Down,
    /// A shell (or one command) in the running bed, with kubectl and clusterctl set up.
    Shell {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Build the Go programs and nothing else.
    Tools,
    /// The versions of everything the bed runs.
    Versions,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            Console::new().line(format_args!("bed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let paths = Paths::find()?;
    let console = Console::new();
    match &arguments.command {
        Job::Down if supervisor::down(&paths).await? => console.line("The bed has ended; nothing of it is left."),
        Job::Down => console.line("No bed runs in this checkout."),
        Job::Shell { command } => return supervisor::shell(&paths, &Tools::locate(&paths)?, &console, command),
        Job::Versions => versions(&console, &Tools::locate(&paths)?),
        Job::Documents => {
            ensure!(hardware::make_image(&paths, &console).await, "the real cloud-init is what reads them");
            let count = documents::read(&paths).await?;
            console.line(format_args!("cloud-init and netplan read {count} files of documents as they are meant"));
            prerequisites::to_build(&paths)?;
            let count = bootstrap::read(&paths, &Tools::build(&paths, &console)?).await?;
            console.line(format_args!("cloud-init, kubeadm and Ignition read the bootstrap data of {count} machines"));
        }
        Job::Tools => {
            prerequisites::to_build(&paths)?;
            Tools::build(&paths, &console)?;
        }
        job if arguments.inside => return inside(job, paths, console).await,
        job => return outside(job, &paths, &console).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Before the namespaces: everything that needs the user's network, environment or terminal.
async fn outside(job: &Job, paths: &Paths, console: &Console) -> Result<ExitCode> {
    prerequisites::to_run(paths)?;
    let lock = Lock::take(paths).await?;
    paths.reset()?;
    let start = Instant::now();
    Tools::build(paths, console)?;
    let arguments = std::env::args().skip(1).collect();
    if matches!(job, Job::Api { .. }) {
        return supervisor::enter(paths, lock, arguments, Environment::Callers).await;
    }
    let warm = start.elapsed();
    tools::build_ours(paths, console)?;
    let ours = start.elapsed() - warm;
    summary::note_build_times(paths, Tools::build_seconds(paths)?, warm, ours)?;
    let real = hardware::make_image(paths, console).await;
    ensure!(real || !matches!(job, Job::Test { .. }), "the bed's test insists on the real cloud-init");
    supervisor::enter(paths, lock, arguments, Environment::Ours).await
}

/// Pid 1 of the bed.
async fn inside(job: &Job, paths: Paths, console: Console) -> Result<ExitCode> {
    supervisor::end_with_outer();
    supervisor::private_folders()?;
    net::up()?;
    let log = std::fs::File::create(paths.log.join("bed.log"))?;
    tracing_subscriber::fmt()
        .with_env_filter("info,kube_client=off")
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(log))
        .init();
    let programs = programs::Programs::new(&paths.log);
    let work = async {
        if let Job::Api { command } = job {
            return api::run(&paths, &console, &programs, command).await;
        }
        let bed = Bed::start(paths.clone(), console, programs.clone()).await?;
        match job {
            Job::Up => {
                bed.install().await?;
                bed.stay().await
            }
            Job::Demo => demo::run(&bed).await,
            Job::Test { all } => scenario::run(&bed, *all).await,
            Job::Api { .. } | Job::Documents | Job::Down | Job::Shell { .. } | Job::Tools | Job::Versions => Ok(()),
        }
        .map(|()| ExitCode::SUCCESS)
    };
    let result = tokio::select! {
        result = work => result,
        error = programs.failure() => Err(error),
    };
    match result {
        Ok(code) => Ok(code),
        Err(error) => {
            console.step(format_args!("failed: {error:#}"));
            console.line(format_args!("The logs are kept in {}", paths.log.display()));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn versions(console: &Console, tools: &Tools) {
    console.line(format_args!("etcd         {}", tools.etcd));
    console.line(format_args!("Kubernetes   {}", tools.machine_versions().collect::<Vec<_>>().join(", ")));
    console.line(format_args!("Cluster API  {}", tools.cluster_api));
}
