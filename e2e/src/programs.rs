//! The programs that make up the bed: started with a clean environment, each with its own log, and watched: a program
//! that ends on its own ends the bed with a message that names its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::TaskTracker;

use crate::supervisor;
use crate::tools::last_lines;

#[derive(Clone)]
pub struct Programs {
    log: PathBuf,
    tasks: TaskTracker,
    ended: mpsc::UnboundedSender<anyhow::Error>,
    failure: Arc<Mutex<mpsc::UnboundedReceiver<anyhow::Error>>>,
}

impl Programs {
    pub fn new(log: &Path) -> Programs {
        let (ended, failure) = mpsc::unbounded_channel();
        Programs { log: log.to_owned(), tasks: TaskTracker::new(), ended, failure: Arc::new(Mutex::new(failure)) }
    }

    /// A command with a clean environment; give it to [`Programs::start`] when its arguments are complete.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        supervisor::clean(&mut command);
        command
    }

    /// Starts a program that lives as long as the bed. Its output goes to `log/<name>.log`.
    pub fn start(&self, name: &str, mut command: Command) -> Result<u32> {
        let log = self.log.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut child = tokio::process::Command::from(command).spawn().with_context(|| format!("start {name}"))?;
        let pid = child.id().with_context(|| format!("{name} ended at once"))?;
        let (name, ended) = (name.to_owned(), self.ended.clone());
        self.tasks.spawn(async move {
            let how = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
            let tail = last_lines(&log, 12);
            _ = ended.send(anyhow!("{name} ended ({how}); its log is {}:\n{tail}", log.display()));
        });
        Ok(pid)
    }

    /// Runs a task of the bed itself that must not end; an error or an end is reported like a program's.
    pub fn task(&self, name: &'static str, work: impl Future<Output = Result<()>> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            let error = work.await.err().unwrap_or_else(|| anyhow!("it returned"));
            _ = ended.send(error.context(format!("the bed's {name} ended")));
        });
    }

    /// Returns when something that should live has ended.
    pub async fn failure(&self) -> anyhow::Error {
        match self.failure.lock().await.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}
