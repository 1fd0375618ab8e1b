//! The handle that demo and scenarios hold: a running management cluster and what belongs to it.

use std::sync::OnceLock;

use ::kube::Client;
use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::audit::{self, Requests};
use crate::console::{Console, spoken};
use crate::demo::Phases;
use crate::gitops::Readers;
use crate::paths::Paths;
use crate::pki::Authority;
use crate::programs::Programs;
use crate::summary::{Counted, Created, Figures, Window};
use crate::tools::Tools;
use crate::{hardware, issuer, kube, management, managers, node, releases};

/// What the host operator serves: BareMetalHost and HardwareData.
pub const HOST_CRDS: &str = include_str!("../manifests/host-crds.yaml");

pub struct Bed {
    pub paths: Paths,
    pub console: Console,
    pub tools: Tools,
    pub programs: Programs,
    /// The administrator of the management cluster.
    pub client: Client,
    /// Started by the scenarios once the kinds are served.
    pub readers: OnceLock<Readers>,
}

impl Bed {
    /// Brings the management cluster up, up to a Ready node; no provider is installed yet.
    pub async fn start(paths: Paths, console: Console, programs: Programs) -> Result<Bed> {
        let tools = Tools::locate(&paths)?;
        let authority = Authority::new(&paths.pki())?;
        let client = management::start(&paths, &tools, &programs, &authority).await?;
        console.step(format_args!("management cluster {} serves at {}", tools.kubernetes, management::server()));
        kube::apply(&client, issuer::CRDS).await?;
        kube::apply(&client, HOST_CRDS).await?;
        programs.task("issuer", issuer::run(client.clone()));
        node::start(&paths, &tools, &programs, &authority, &client).await?;
        console.step("management node is Ready: the real kubelet over containers that are processes");
        releases::prepare(&paths, &tools)?;
        hardware::start(&paths, &tools, &programs, client.clone()).await?;
        console.step("machine room and host operator are open");
        Ok(Bed { paths, console, tools, programs, client, readers: OnceLock::new() })
    }

    /// Installs the providers with clusterctl and waits until all are Available.
    pub async fn install(&self) -> Result<()> {
        releases::init(self).await?;
        self.console
            .step("clusterctl has installed Cluster API, infrastructure metal3 and ipam metal3; all are Available");
        Ok(())
    }

    /// Now, on the clock of the audit log.
    pub fn audit_mark(&self) -> Timestamp {
        audit::now()
    }

    /// What both managers asked of the API server in a stretch of time.
    pub fn requests(&self, from: Timestamp, to: Timestamp) -> Result<Requests> {
        audit::requests(&self.paths.audit_log(), from, to)
    }

    /// What the cluster cost that was created at `from`: until its first Machine was there, and from then on until now.
    pub fn since(&self, from: Timestamp, machines: usize) -> Result<Created> {
        let to = self.audit_mark();
        let first =
            audit::first_creation(&self.paths.audit_log(), "machines", from)?.context("no Machine was created")?;
        Ok(Created { cluster: Window { from, to: first, machines }, machines: Window { from: first, to, machines } })
    }

    pub fn figures(&self, created: Created, deleted: Option<Window>, idle: Option<Window>) -> Result<Figures> {
        let count = |window: Window| {
            Ok::<_, anyhow::Error>(Counted { window, requests: self.requests(window.from, window.to)? })
        };
        Ok(Figures {
            cluster: count(created.cluster)?,
            created: count(created.machines)?,
            deleted: deleted.map(count).transpose()?,
            idle: idle.map(count).transpose()?,
            usage: managers::usage()?,
        })
    }

    pub fn write_summary(&self, figures: &Figures, phases: &Phases) -> Result<()> {
        figures.write(&self.paths, &phases.0)
    }

    /// Until Ctrl-C: pid 1 is ended from outside.
    pub async fn stay(&self) -> Result<()> {
        self.console.step(format_args!(
            "the bed is up after {}; `make demo-shell` enters it, Ctrl-C ends it",
            spoken(self.console.elapsed())
        ));
        std::future::pending().await
    }
}
