//! The handle that demo and scenarios hold: a running management cluster and what belongs to it.

use anyhow::Result;
use kube::Client;

use crate::console::{Console, spoken};
use crate::management;
use crate::paths::Paths;
use crate::pki::Authority;
use crate::programs::Programs;
use crate::tools::Tools;

pub struct Bed {
    pub paths: Paths,
    pub console: Console,
    pub tools: Tools,
    pub programs: Programs,
    /// The administrator of the management cluster.
    pub client: Client,
}

impl Bed {
    /// Brings the management cluster up, up to a Ready node; no provider is installed yet.
    pub async fn start(paths: Paths, console: Console, programs: Programs) -> Result<Bed> {
        let tools = Tools::locate(&paths)?;
        let authority = Authority::new(&paths.pki())?;
        let client = management::start(&paths, &tools, &programs, &authority).await?;
        console.step(format_args!("management cluster {} serves at {}", tools.kubernetes, management::server()));
        Ok(Bed { paths, console, tools, programs, client })
    }

    /// Until Ctrl-C: pid 1 is ended from outside.
    pub async fn stay(&self) -> Result<()> {
        self.console.step(format_args!("the bed is up after {}; `cargo bed shell` enters it, Ctrl-C ends it", spoken(self.console.elapsed())));
        std::future::pending().await
    }
}
