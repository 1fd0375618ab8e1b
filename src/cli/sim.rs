//! The simulator at a person's hand: a scenario file played and told, or a case of the proof's runners played again.
//!
//! The story goes to standard output and is the same in every run; what it cost this machine goes to standard error.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use capm3_sim::fault::Plan;
use capm3_sim::proof::{Case, Player, play as play_again};
use capm3_sim::scenario;
use capm3_sim::scenario::script::{Script, play};
use clap::{ArgGroup, Args};
use tokio::runtime::{Builder, Runtime};

#[derive(Args)]
#[group(skip)]
#[command(group = ArgGroup::new("what").required(true).args(["file", "scenario", "list"]))]
pub struct Arguments {
    /// A scenario file; docs/simulate.md says how to write one.
    file: Option<PathBuf>,
    /// A scenario of the proof's runners instead, as they report it.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// The names of these scenarios.
    #[arg(long)]
    list: bool,
    /// Settles everything that is left to chance; the file's own, or 0, when not given.
    #[arg(long)]
    seed: Option<u64>,
    /// What goes wrong, for example 'infra write 2: crash landed; 10s: webhook down 1m'.
    #[arg(long, value_name = "FAULTS", default_value = "calm")]
    plan: String,
    /// So many times as many hosts, machines and replicas as the file says.
    #[arg(long, value_name = "N", default_value_t = 1)]
    scale: u32,
}

/// Success when everything came true.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let plan: Plan = arguments.plan.parse().with_context(|| format!("--plan {:?}", arguments.plan))?;
    let begun = Instant::now();
    let (text, well) = match (&arguments.file, &arguments.scenario) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let script = Script::read(&text).with_context(|| file.display().to_string())?.scaled(arguments.scale);
            let seed = arguments.seed.unwrap_or(script.seed);
            let told = runtime()?.block_on(Box::pin(play(&script, seed, &plan)))?;
            let cost = format!("{} objects in the end", told.objects);
            report(begun, &cost)?;
            (told.lines.join("\n") + "\n", told.failures.is_empty())
        }
        (None, Some(name)) => {
            let case = Case { scenario: name.clone(), seed: arguments.seed.unwrap_or_default(), plan };
            let report = play_again(&mut Player::new(runtime), &scenario::all(), &case, true);
            let report = report.map_err(|stuck| anyhow!("{stuck} (`sim --list` names the scenarios)"))?;
            let mut text = report.story.join("\n");
            for violation in &report.violations {
                write!(text, "\n!!! {} @{}: {}", violation.invariant, violation.revision, violation.what)?;
            }
            writeln!(text, "\n{case}\ntrace {:016x}, {} requests", report.trace_hash, report.requests)?;
            (text, report.violations.is_empty())
        }
        (None, None) => (scenario::all().iter().map(|scenario| format!("{}\n", scenario.name())).collect(), true),
    };
    io::stdout().write_all(text.as_bytes()).context("write the story")?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One thread, and time that passes only when everybody waits.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_time().start_paused(true).build()
}

fn report(begun: Instant, what: &str) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let peak = peak.map(|kib| format!(", {} MiB at most", kib / 1024)).unwrap_or_default();
    writeln!(io::stderr(), "{:.1} s of this machine{peak}; {what}", begun.elapsed().as_secs_f64())
        .context("write the cost")
}
