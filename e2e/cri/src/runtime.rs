//! The pods and containers of this node and their lives.
//!
//! Everything is kept in memory only: containers die with the runtime, so a new one truthfully starts with none and the
//! kubelet begins its pods again. All processes are started on the main thread, to whose life theirs is bound.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Network};
use crate::container::{self, Place, RootFs, Spec};
use crate::helper::{self, Namespaces};
use crate::images::{Image, Root, Table};
use crate::launch::{Launched, Process, Streams, launch};
use crate::logs::Log;
use crate::sandbox::{self, PodNetwork};
use crate::{now, v1};

/// Grace for containers that a stopped sandbox still has; the kubelet has stopped its own by then.
const SANDBOX_GRACE: Duration = Duration::from_secs(2);
/// How long output may keep coming from what an ended program left behind.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);
/// What the common runtimes report for a container that could not be started.
const NOT_STARTED: i32 = 128;

pub(crate) struct Runtime {
    pub config: Config,
    file: PathBuf,
    own_program: PathBuf,
    sockets: PathBuf,
    scratch: PathBuf,
    pub state: Mutex<State>,
    pub tasks: TaskTracker,
}

#[derive(Default)]
pub(crate) struct State {
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Container>,
    /// Held from before a pod's network is made until after it is gone.
    addresses: BTreeSet<Ipv4Addr>,
}

pub(crate) struct Sandbox {
    pub config: v1::PodSandboxConfig,
    pub created: i64,
    pub ready: bool,
    /// Absent on the node's network, and after the sandbox was stopped.
    network: Option<PodNetwork>,
    pub ip: String,
}

pub(crate) struct Container {
    pub config: v1::ContainerConfig,
    pub sandbox: String,
    pub log_path: PathBuf,
    pub created: i64,
    pub phase: Phase,
    spec: Arc<Spec>,
    log: Option<Arc<Log>>,
}

pub(crate) enum Phase {
    Created,
    Running { started: i64, process: Arc<Process>, ended: watch::Receiver<()> },
    Exited { started: i64, finished: i64, code: i32, message: String },
}

impl Runtime {
    pub(crate) fn new(file: &Path) -> Result<Arc<Self>> {
        let config = Config::read(file)?;
        let own_program = std::env::current_exe().context("finding this program")?;
        let [sockets, scratch] = ["starting", "root"].map(|name| config.state_dir.join(name));
        let state = Mutex::default();
        let tasks = TaskTracker::new();
        for dir in [&sockets, &scratch] {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        Ok(Arc::new(Self { config, file: file.to_owned(), own_program, sockets, scratch, state, tasks }))
    }

    /// The image table as the file has it now; a file that is being edited leaves the one from the start in force.
    pub(crate) fn images(&self) -> Table {
        match Config::read(&self.file) {
            Ok(config) => config.images,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "configuration not read again");
                self.config.images.clone()
            }
        }
    }

    pub(crate) async fn run_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String> {
        self.refuse_if_stopping()?;
        let id = new_id();
        if !config.log_directory.is_empty() {
            std::fs::create_dir_all(&config.log_directory).context("making the log directory")?;
        }
        let (network, ip) = match &self.config.network {
            Network::Host { ip } => (None, ip.to_string()),
            Network::Bridge(_) if on_node_network(&config) => (None, String::new()),
            Network::Bridge(bridge) => {
                let address = {
                    let mut state = self.state.lock();
                    let free = sandbox::lowest_free(bridge, &state.addresses);
                    let address = free.ok_or_else(|| anyhow!("no free pod address in {}", bridge.prefix))?;
                    state.addresses.insert(address);
                    address
                };
                match PodNetwork::create(bridge, address, &host_name(&config), &id).await {
                    Ok(network) => (Some(network), address.to_string()),
                    Err(error) => {
                        self.state.lock().addresses.remove(&address);
                        return Err(error);
                    }
                }
            }
        };
        let name = config.metadata.as_ref().map(|metadata| metadata.name.as_str()).unwrap_or_default();
        tracing::info!(pod = name, ip, "sandbox started");
        let sandbox = Sandbox { config, created: nanoseconds(), ready: true, network, ip };
        self.state.lock().sandboxes.insert(id.clone(), sandbox);
        Ok(id)
    }

    /// Stopping what is stopped or gone is no error, as the CRI demands.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        for container in self.containers_of(id) {
            self.stop_container(&container, SANDBOX_GRACE).await?;
        }
        let network = {
            let mut state = self.state.lock();
            let sandbox = state.sandboxes.get_mut(id);
            sandbox.and_then(|sandbox| {
                sandbox.ready = false;
                sandbox.network.take()
            })
        };
        if let Some(network) = network {
            let address = network.address;
            network.remove().await;
            self.state.lock().addresses.remove(&address);
        }
        Ok(())
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.stop_sandbox(id).await?;
        let mut state = self.state.lock();
        state.containers.retain(|_, container| container.sandbox != id);
        state.sandboxes.remove(id);
        Ok(())
    }

    fn containers_of(&self, sandbox: &str) -> Vec<String> {
        let state = self.state.lock();
        let of_it = state.containers.iter().filter(|(_, container)| container.sandbox == sandbox);
        of_it.map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn create_container(&self, request: v1::CreateContainerRequest) -> Result<String> {
        let config = request.config.ok_or_else(|| anyhow!("no container configuration"))?;
        let name = config.image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
        let table = self.images();
        let image = table.pull(name).map_err(|why| anyhow!(why.message(name)))?;
        let mut state = self.state.lock();
        let sandbox = state.sandboxes.get(&request.pod_sandbox_id).ok_or_else(|| anyhow!("no such sandbox"))?;
        let place = Place {
            root: self.root_of(image),
            own_program: &self.own_program,
            scratch: &self.scratch,
            path: &self.config.path,
            env: &self.config.env,
            host_name: &host_name(&sandbox.config),
            dns: sandbox.config.dns_config.as_ref(),
        };
        let spec = Arc::new(container::spec(&config, image, &place).map_err(|why| anyhow!(why))?);
        let log_path = Path::new(&sandbox.config.log_directory).join(&config.log_path);
        let sandbox = request.pod_sandbox_id;
        let phase = Phase::Created;
        let container = Container { config, sandbox, log_path, created: nanoseconds(), phase, spec, log: None };
        let id = new_id();
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    fn root_of(&self, image: &Image) -> Root {
        image.root.unwrap_or(match self.config.network {
            Network::Host { .. } => Root::Machine,
            Network::Bridge(_) => Root::Overlay,
        })
    }

    pub(crate) async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        self.refuse_if_stopping()?;
        let (spec, log, namespaces, name) = {
            let mut state = self.state.lock();
            let State { sandboxes, containers, .. } = &mut *state;
            let container = containers.get_mut(id).ok_or_else(|| anyhow!("no such container"))?;
            if !matches!(container.phase, Phase::Created) {
                bail!("the container was started before");
            }
            let sandbox = sandboxes.get(&container.sandbox).filter(|sandbox| sandbox.ready);
            let sandbox = sandbox.ok_or_else(|| anyhow!("the sandbox is not running"))?;
            let path = &container.log_path;
            let log = Log::open(path).with_context(|| format!("opening log {}", path.display()))?;
            container.log = Some(log.clone());
            let own_root = matches!(container.spec.root, RootFs::Build(_));
            let namespaces = Namespaces {
                join: sandbox.network.as_ref().map(PodNetwork::joins).unwrap_or_default(),
                unshare_mounts: own_root,
                unshare_pids: own_root && !shares_node_pids(&container.config),
            };
            (container.spec.clone(), log, namespaces, container_name(&container.config))
        };
        match launch(&self.sockets, &spec, &namespaces, Streams::captured()).await {
            Ok(launched) => {
                tracing::info!(container = name, program = spec.argv.first(), "container started");
                self.supervise(id, launched, log);
                Ok(())
            }
            Err(error) => {
                let message = format!("{error:#}");
                tracing::warn!(container = name, message, "container not started");
                let at = nanoseconds();
                let phase = Phase::Exited { started: at, finished: at, code: NOT_STARTED, message };
                self.enter_phase(id, phase);
                Err(error)
            }
        }
    }

    /// A container that was removed meanwhile has no phase any more.
    fn enter_phase(&self, id: &str, phase: Phase) {
        if let Some(container) = self.state.lock().containers.get_mut(id) {
            container.phase = phase;
        }
    }

    /// Follows a running container to its end: its log is complete before it counts as exited.
    fn supervise(self: &Arc<Self>, id: &str, launched: Launched, log: Arc<Log>) {
        let Launched { mut child, process, .. } = launched;
        let started = nanoseconds();
        let (alive, ended) = watch::channel(());
        self.enter_phase(id, Phase::Running { started, process: Arc::new(process), ended });
        let (runtime, id) = (self.clone(), id.to_owned());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        self.tasks.spawn(async move {
            let output = async { tokio::join!(copy(&log, "stdout", out), copy(&log, "stderr", err)) };
            let mut output = std::pin::pin!(output);
            let status = tokio::select! {
                status = child.wait() => {
                    // Only what escaped the container can hold its output open now.
                    let _ = tokio::time::timeout(LAST_WORDS, output).await;
                    status
                }
                _ = &mut output => child.wait().await,
            };
            let (code, message) = match status {
                Ok(status) => (i32::from(helper::code(status)), String::new()),
                Err(error) => (NOT_STARTED, format!("waiting for the process: {error}")),
            };
            runtime.enter_phase(&id, Phase::Exited { started, finished: nanoseconds(), code, message });
            drop(alive);
        });
    }

    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let (process, mut ended) = {
            let state = self.state.lock();
            match state.containers.get(id).map(|container| &container.phase) {
                Some(Phase::Running { process, ended, .. }) => (process.clone(), ended.clone()),
                _ => return Ok(()),
            }
        };
        if !grace.is_zero() {
            process.signal(Signal::TERM).context("asking the container to stop")?;
            if tokio::time::timeout(grace, closed(&mut ended)).await.is_ok() {
                return Ok(());
            }
        }
        process.signal(Signal::KILL).context("killing the container")?;
        closed(&mut ended).await;
        Ok(())
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        self.stop_container(id, Duration::ZERO).await?;
        self.state.lock().containers.remove(id);
        Ok(())
    }

    pub(crate) fn reopen_log(&self, id: &str) -> Result<()> {
        let log = self.state.lock().containers.get(id).and_then(|container| container.log.clone());
        log.ok_or_else(|| anyhow!("the container has no log"))?.reopen().context("reopening the log")
    }

    /// Runs a command beside a container's process: same namespaces, root, user and environment.
    pub(crate) async fn exec(&self, id: &str, argv: Vec<String>, terminal: bool, streams: Streams) -> Result<Launched> {
        let (spec, namespaces) = {
            let state = self.state.lock();
            let container = state.containers.get(id).ok_or_else(|| anyhow!("no such container"))?;
            let Phase::Running { process, .. } = &container.phase else { bail!("the container is not running") };
            let own_root = matches!(container.spec.root, RootFs::Build(_));
            let kinds: &[&str] = if own_root { &["net", "uts", "ipc", "pid"] } else { &["net", "uts", "ipc"] };
            let root = match process.namespaces(&["mnt"]).pop().filter(|_| own_root) {
                Some(mounts) => RootFs::Join(mounts),
                None => RootFs::Machine,
            };
            let Spec { env, working_dir, credentials, .. } = &*container.spec;
            let (env, working_dir, credentials) = (env.clone(), working_dir.clone(), credentials.clone());
            let spec = Spec { argv, env, working_dir, root, credentials, terminal };
            (spec, Namespaces { join: process.namespaces(kinds), ..Namespaces::default() })
        };
        launch(&self.sockets, &spec, &namespaces, streams).await
    }

    /// Connects to a port of a pod as its own containers would, by loopback.
    pub(crate) async fn dial(&self, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream> {
        let namespace = {
            let state = self.state.lock();
            let sandbox = state.sandboxes.get(sandbox).filter(|sandbox| sandbox.ready);
            let sandbox = sandbox.ok_or_else(|| anyhow!("the sandbox is not running"))?;
            sandbox.network.as_ref().map(PodNetwork::namespace).transpose()?
        };
        sandbox::dial(namespace, port).await
    }

    /// A kubelet that is still there keeps its connection and would begin everything again.
    fn refuse_if_stopping(&self) -> Result<()> {
        if self.tasks.is_closed() { bail!("the runtime is stopping") } else { Ok(()) }
    }

    /// Ends all pods, at once rather than gracefully: whoever stops the runtime has stopped the kubelet before. What is
    /// half begun at this moment ends with the process.
    pub(crate) async fn shut_down(&self) {
        self.tasks.close();
        let (containers, sandboxes): (Vec<_>, Vec<_>) = {
            let state = self.state.lock();
            (state.containers.keys().cloned().collect(), state.sandboxes.keys().cloned().collect())
        };
        for id in containers {
            if let Err(error) = self.stop_container(&id, Duration::ZERO).await {
                tracing::warn!(error = format!("{error:#}"), "container not stopped");
            }
        }
        for id in sandboxes {
            if let Err(error) = self.remove_sandbox(&id).await {
                tracing::warn!(error = format!("{error:#}"), "sandbox not removed");
            }
        }
    }
}

async fn copy(log: &Arc<Log>, name: &'static str, reader: Option<impl AsyncRead + Unpin>) {
    if let Some(reader) = reader {
        log.clone().copy(name, reader).await;
    }
}

/// The sender is dropped when the container has ended.
async fn closed(ended: &mut watch::Receiver<()>) {
    while ended.changed().await.is_ok() {}
}

fn new_id() -> String {
    format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..))
}

/// The CRI counts time in nanoseconds since 1970.
pub(crate) fn nanoseconds() -> i64 {
    i64::try_from(now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn on_node_network(config: &v1::PodSandboxConfig) -> bool {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|security| security.namespace_options.as_ref());
    options.is_some_and(|options| options.network == v1::NamespaceMode::Node as i32)
}

fn shares_node_pids(config: &v1::ContainerConfig) -> bool {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|security| security.namespace_options.as_ref());
    options.is_some_and(|options| options.pid == v1::NamespaceMode::Node as i32)
}

fn host_name(config: &v1::PodSandboxConfig) -> String {
    match config.hostname.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        name => name.to_owned(),
    }
}

fn container_name(config: &v1::ContainerConfig) -> String {
    config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default()
}
