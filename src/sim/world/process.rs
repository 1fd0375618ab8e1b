//! A manager's process: both providers run here as they do in a Pod, but for the lease, and can be killed, paused and started again.
//!
//! What a killed process still holds in memory lives on until the world ends, but nothing of it gets out: its [`Gate`] is shut,
//! which is what makes a killed process dead for everybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body as Answer;
use capm3_remote::Workloads;
use capm3_runtime::{Clock, Dice, Hub, HubOptions, Metrics, Options as Flags, Parts, Recorder, Setup, Tasks};
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tower::{BoxError, Service};

use super::weather::Skewed;
use crate::server::{Connection, Server, User};

/// Which of the two providers a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    Infra,
    Ipam,
}

impl Provider {
    /// Its ServiceAccount. `process` tells replicas apart for faults and traces; the server does not look at it.
    pub fn user(self, process: u32) -> User {
        let user = match self {
            Self::Infra => User::service_account("capm3-system", "capm3-manager"),
            Self::Ipam => User::service_account("metal3-ipam-system", "ipam-manager"),
        };
        User { process, ..user }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Killed,
}

/// What stands between a process and every server.
#[derive(Clone, Debug)]
struct Gate(Arc<Door>);

#[derive(Debug)]
struct Door {
    state: Mutex<State>,
    /// Wakes in the order of waiting, which tokio's other channels do not.
    moved: Notify,
}

impl Gate {
    fn open() -> Self {
        Self(Arc::new(Door { state: Mutex::new(State::Running), moved: Notify::new() }))
    }

    fn state(&self) -> State {
        *self.0.state.lock()
    }

    fn set(&self, state: State) {
        *self.0.state.lock() = state;
        self.0.moved.notify_waiters();
    }

    /// Comes back once the process runs; never when it has been killed.
    async fn pass(&self) {
        while self.state() != State::Running {
            let mut moved = std::pin::pin!(self.0.moved.notified());
            moved.as_mut().enable();
            if self.state() != State::Running {
                moved.await;
            }
        }
    }
}

/// Whether there is a way to a server.
type Line = Arc<AtomicBool>;

/// A connection that works while the process runs.
#[derive(Clone)]
struct Gated {
    inner: Connection,
    gate: Gate,
    line: Line,
}

impl Service<Request<Body>> for Gated {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Answer>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut inner, gate, line) = (self.inner.clone(), self.gate.clone(), self.line.clone());
        Box::pin(async move {
            let watches = request.uri().query().is_some_and(|query| query.contains("watch="));
            gate.pass().await;
            if !line.load(Ordering::Relaxed) {
                return Err("connection refused".into());
            }
            let answer = inner.call(request).await?;
            gate.pass().await;
            if !watches {
                return Ok(answer);
            }
            // Of what goes on arriving a process that stands still takes no notice.
            Ok(answer.map(|body| {
                Answer::from_stream(body.into_data_stream().then(move |bytes| {
                    let gate = gate.clone();
                    async move {
                        gate.pass().await;
                        bytes
                    }
                }))
            }))
        })
    }
}

/// What a process is started with.
#[derive(Clone)]
pub struct Surroundings {
    pub server: Server,
    pub workload: Server,
    pub clock: Arc<dyn Clock>,
    pub dice: Arc<dyn Dice>,
    pub flags: Flags,
    /// To the workload cluster.
    pub line: Arc<AtomicBool>,
    /// Stops with the world.
    pub tasks: Tasks,
}

/// A running manager.
pub struct Process {
    pub id: u32,
    pub provider: Provider,
    gate: Gate,
    clock: Arc<Skewed>,
    metrics: Metrics,
    tasks: Tasks,
}

impl Process {
    /// Begins to start: it lists, waits until its caches are filled, and works.
    pub fn start(id: u32, provider: Provider, around: &Surroundings) -> Self {
        let gate = Gate::open();
        let tasks = around.tasks.child();
        let clock = Arc::new(Skewed::new(around.clock.clone()));
        let metrics = Metrics::new();
        let its = Its { id, gate: gate.clone(), clock: clock.clone(), metrics: metrics.clone(), tasks: tasks.clone() };
        let around = around.clone();
        tasks.spawn_finite(async move { run(provider, its, &around).await });
        Self { id, provider, gate, clock, metrics, tasks }
    }

    /// As `kill -9`: no request leaves it any more, and no answer arrives.
    pub fn kill(&self) {
        self.gate.set(State::Killed);
        self.tasks.stop();
    }

    /// As a stopped virtual machine: what it was about to do it does after [`Self::resume`].
    pub fn pause(&self) {
        if self.is_alive() {
            self.gate.set(State::Paused);
        }
    }

    pub fn resume(&self) {
        if self.gate.state() == State::Paused {
            self.gate.set(State::Running);
        }
    }

    pub fn is_alive(&self) -> bool {
        self.gate.state() != State::Killed
    }

    /// From now on its clock is wrong by so many seconds.
    pub fn skew(&self, seconds: i64) {
        self.clock.set(seconds);
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Why one of its tasks ended before its time, if one did: a panic above all.
    pub fn failure(&self) -> Option<String> {
        self.tasks.failure()
    }
}

/// What a process has of its own.
struct Its {
    id: u32,
    gate: Gate,
    clock: Arc<Skewed>,
    metrics: Metrics,
    tasks: Tasks,
}

async fn run(provider: Provider, its: Its, around: &Surroundings) {
    let Its { id, gate, clock, metrics, tasks } = its;
    let inner = around.server.connection(provider.user(id));
    let always = Arc::new(AtomicBool::new(true));
    let client = Client::new(Gated { inner, gate: gate.clone(), line: always }, "default");
    let (clock, dice): (Arc<dyn Clock>, _) = (clock, around.dice.clone());
    let hub =
        Hub::new(client.clone(), HubOptions { dice: dice.clone(), metrics: metrics.clone(), ..HubOptions::default() });
    let recorder = Recorder::spawn(client, "manager", format!("manager-{id}"), clock.clone(), &metrics, &tasks);
    let parts = Parts { hub: hub.clone(), recorder, clock, dice, metrics: metrics.clone(), tasks: tasks.clone() };
    let mut setup = Setup::new(parts, around.flags.clone());
    match provider {
        Provider::Infra => {
            let (workload, gate, line) = (around.workload.clone(), gate.clone(), around.line.clone());
            let dial = Arc::new(move |_: &_| {
                let user = User { process: id, ..User::admin() };
                let inner = workload.connection(user);
                Client::new(Gated { inner, gate: gate.clone(), line: line.clone() }, "default")
            });
            let workloads = Workloads::dialling(
                setup.reader.clone(),
                "simulated".into(),
                around.dice.clone(),
                metrics.clone(),
                tasks.clone(),
                Some(dial),
            );
            capm3_controllers::infra::register_with(&mut setup, &workloads);
        }
        Provider::Ipam => capm3_controllers::ipam::register(&mut setup),
    }
    hub.start(&tasks);
    hub.wait_synced().await;
    setup.into_controllers().into_iter().for_each(|controller| controller.spawn(&metrics, &tasks));
}
