//! Where the bed keeps its things: built programs in a cache that outlives checkouts, everything of one run below
//! `target/bed`, sockets in the bed's own `/run`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

#[derive(Clone, Debug)]
pub struct Paths {
    /// The checkout.
    pub root: PathBuf,
    /// Cargo's output.
    pub target: PathBuf,
    /// State of the running bed, new with every start.
    pub state: PathBuf,
    /// One file per program; the logs of the run before lie in `log.previous`.
    pub log: PathBuf,
    /// What is built once per version and shared by all checkouts.
    pub cache: PathBuf,
}

impl Paths {
    pub fn find() -> Result<Paths> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the checkout")?.to_owned();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let state = target.join("bed");
        let cache = match (env::var_os("CAPM3_BED_CACHE"), env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
            (Some(exact), _, _) => PathBuf::from(exact),
            (None, Some(xdg), _) => PathBuf::from(xdg).join("capm3-bed"),
            (None, None, Some(home)) => PathBuf::from(home).join(".cache/capm3-bed"),
            (None, None, None) => {
                anyhow::bail!("neither HOME nor CAPM3_BED_CACHE is set: where to keep built programs?")
            }
        };
        fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
        fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
        Ok(Paths { root, target, log: state.join("log"), state, cache })
    }

    /// Held by whoever runs the bed, and by every process in it: free means that nothing of it is left.
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    pub fn pid(&self) -> PathBuf {
        self.state.join("pid")
    }

    pub fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// The administrator's kubeconfig of the management cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("management.kubeconfig")
    }

    /// What `XDG_CONFIG_HOME` has to name for clusterctl to find its configuration.
    pub fn config(&self) -> PathBuf {
        self.state.join("config")
    }

    pub fn clusterctl_config(&self) -> PathBuf {
        self.config().join("cluster-api/clusterctl.yaml")
    }

    pub fn audit_log(&self) -> PathBuf {
        self.log.join("audit.json")
    }

    pub fn summary(&self) -> PathBuf {
        self.state.join("summary.json")
    }

    /// Forgets the run before except its logs, which move aside.
    pub fn reset(&self) -> Result<()> {
        let previous = self.state.join("log.previous");
        if self.log.exists() {
            if previous.exists() {
                fs::remove_dir_all(&previous)?;
            }
            fs::rename(&self.log, &previous)?;
        }
        for entry in fs::read_dir(&self.state)? {
            let path = entry?.path();
            if path == previous || path == self.lock() || path == self.pid() {
                continue;
            }
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir_all(&self.log)?;
        Ok(())
    }
}
