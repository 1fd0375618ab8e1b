//! The manager of the providers `infrastructure-metal3` and `ipam-metal3`: flags and wiring, nothing else.

mod flags;
mod logging;
mod run;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let flags = match flags::Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the manager ends");
            let _ = writeln!(std::io::stderr(), "error: {error:#}"); // the container's termination message
            ExitCode::FAILURE
        }
    }
}

fn start(flags: flags::Flags) -> anyhow::Result<()> {
    logging::start(flags.verbosity, &flags.logging_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let signalled = CancellationToken::new();
        let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            outcome = run::run(flags, signalled.clone()) => outcome,
            () = second_signal(signals, &signalled) => Err(anyhow::anyhow!("a second signal")),
        }
    });
    runtime.shutdown_background(); // what did not stop in time does not hold up the end
    outcome
}

/// The first signal asks for the end, the second demands it.
async fn second_signal((mut terminate, mut interrupt): (Signal, Signal), signalled: &CancellationToken) {
    for _ in 0..2 {
        let got = tokio::select! {
            got = terminate.recv() => got,
            got = interrupt.recv() => got,
        };
        if got.is_none() {
            return std::future::pending().await;
        }
        if signalled.is_cancelled() {
            return;
        }
        signalled.cancel();
    }
}
