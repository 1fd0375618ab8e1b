//! A container runtime for the real kubelet whose containers are plain processes of the machine.
//!
//! The kubelet speaks CRI to it as to any runtime; instead of image layers a table says which local program stands for
//! which image. `service` is the CRI, `runtime` the pods and containers, `container` and `images` decide what a
//! container is, `launch` and `helper` make it one, in the namespaces of `sandbox` and the root of `rootfs`; `logs`,
//! `streaming` and `spdy` are what the kubelet reads and forwards. Nothing outlives this process.

mod config;
mod container;
mod helper;
mod images;
mod launch;
mod logs;
mod rootfs;
mod runtime;
mod sandbox;
mod service;
mod spdy;
mod streaming;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;

use crate::helper::Namespaces;
use crate::runtime::Runtime;
use crate::service::Service;
use crate::streaming::Streaming;
use crate::v1::image_service_server::ImageServiceServer;
use crate::v1::runtime_service_server::RuntimeServiceServer;

/// The CRI as `build.rs` generated it.
#[expect(clippy::all, unreachable_pub, reason = "generated")]
mod v1 {
    tonic::include_proto!("runtime.v1");
}

#[derive(Parser)]
#[command(about = "A container runtime whose containers are plain processes", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Configuration of the runtime, a JSON file.
    #[arg(required = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Mode {
    /// Live until stopped, answering HTTP probes on these ports: stands for images of which nothing runs.
    Idle { ports: Vec<u16> },
    /// Become what the runtime at a socket describes.
    #[command(hide = true)]
    Run {
        socket: PathBuf,
        #[command(flatten)]
        namespaces: Namespaces,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (arguments.mode, arguments.config) {
        (Some(Mode::Run { socket, namespaces }), _) => return helper::run(&socket, &namespaces),
        (Some(Mode::Idle { ports }), _) => helper::idle(&ports),
        (None, Some(config)) => serve(&config),
        (None, None) => Ok(()), // refused by the parser
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("process-cri: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: the parent-death signal that ties containers to the runtime is in truth tied to the starting thread.
#[tokio::main(flavor = "current_thread")]
async fn serve(config: &Path) -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    let runtime = Runtime::new(config)?;
    let streaming = Streaming::bind(runtime.clone()).await?;
    let socket = &runtime.config.socket;
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("replacing the socket");
        }
        _ => {} // left by a runtime that was killed
    }
    let listener = UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
    tracing::info!(socket = %socket.display(), "serving");
    let service = Service { runtime: runtime.clone(), streaming: streaming.clone() };
    let server = tonic::transport::Server::builder()
        .add_service(RuntimeServiceServer::new(service.clone()))
        .add_service(ImageServiceServer::new(service))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let ended = tokio::select! {
        ended = server => ended.context("serving the CRI"),
        ended = streaming.serve() => ended,
        asked = asked_to_stop() => asked,
    };
    runtime.shut_down().await;
    ended
}

async fn asked_to_stop() -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the one place where this program reads the clock")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
