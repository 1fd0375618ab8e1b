//! Logs go to standard error: text for people, JSON for machines.

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Verbosity as klog counts it: below 4 what changed, from 4 decisions, from 5 everything of ours.
pub(crate) fn start(verbosity: u8, format: &str) -> Result<(), TryInitError> {
    let level = match verbosity {
        0..4 => Level::INFO,
        4 => Level::DEBUG,
        5.. => Level::TRACE,
    };
    // kube's client logs whole replies when they do not parse, and some replies are Secrets.
    let levels = Targets::new()
        .with_default(Level::ERROR)
        .with_target("capm3", level)
        .with_target("capm3_manager", level)
        .with_target("capm3_controllers", level)
        .with_target("capm3_remote", level)
        .with_target("capm3_runtime", level)
        .with_target("capm3_webhook", level);
    let registry = tracing_subscriber::registry().with(levels);
    if format == "json" {
        registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
    } else {
        let text = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
        registry.with(text).try_init()
    }
}
