//! Metal3Remediation: takes the steps that [`capm3_core::remediation`] decides, one after the other, until nothing is left to do.
//!
//! | watched | wakes |
//! |---|---|
//! | Metal3Remediation | itself; when it goes, the hosts that it left off |
//! | Machine, Metal3Machine, BareMetalHost | the remediation of that machine |
//! | BareMetalHost that is kept off for nobody | itself, to be let on again |
//! | Cluster | the remediations of its machines, when it is paused or resumed |
//! | Node of a workload cluster, and the connection to it | the remediation of its machine |
//!
//! Pods and VolumeAttachments are not watched; while a Node is drained they are listed every 5 s. Everything else waits for an event.

mod gather;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine, Node};
use capm3_api::infra::v1beta2::{Metal3Machine, Metal3Remediation};
use capm3_api::names::label;
use capm3_core::host::labelled;
use capm3_core::remediation::{
    self, Action, Fact, Failure, Next as Rest, Problem, Purpose, Question, SAFETY_NET, Step, decode, let_on,
};
use capm3_remote::Workloads;
use capm3_runtime::{
    Clock, Controller, Dice, Key, ListOptions, Next, Preconditions, ReadError, Reader, Reconcile, ReconcileError,
    Recorder, Retry, Setup, Store, WatchOptions, WriteError, Writer, key_of, merge_diff,
};
use serde_json::json;

use gather::World;

pub const NAME: &str = "metal3remediation";

/// Steps in one pass; a whole remediation has fewer.
const STEPS: usize = 40;
/// Lost races in one pass; after that others may go first.
const RACES: usize = 5;
const AFTER_RACES: Duration = Duration::from_millis(500);

pub(crate) fn register(setup: &mut Setup, workloads: &Workloads) {
    let all = WatchOptions::default;
    let stores = Stores {
        remediations: setup.hub.store(all()),
        machines: setup.hub.store(all()),
        metal3_machines: setup.hub.store(all()),
        hosts: setup.hub.store(all()),
        clusters: setup.hub.store(all()),
    };
    routes::index(&stores);
    let queue = setup.queue(NAME);
    routes::connect(&setup.hub, &stores, workloads, &queue);
    let remediations = Remediations {
        stores,
        workloads: workloads.clone(),
        reader: setup.reader.clone(),
        writer: setup.writer.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        dice: setup.dice.clone(),
    };
    setup.add(Controller::new(NAME, queue, remediations, setup.workers(NAME)));
}

#[derive(Clone)]
struct Stores {
    remediations: Store<Metal3Remediation>,
    machines: Store<Machine>,
    metal3_machines: Store<Metal3Machine>,
    hosts: Store<BareMetalHost>,
    clusters: Store<Cluster>,
}

struct Remediations {
    stores: Stores,
    workloads: Workloads,
    reader: Reader,
    writer: Writer,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    dice: Arc<dyn Dice>,
}

/// A host that is kept off for a remediation that is not there. In the queue it goes by a name that no object can have.
struct Lost<'a> {
    namespace: &'a str,
    host: &'a str,
    uid: &'a str,
}

impl<'a> Lost<'a> {
    fn new(host: &'a BareMetalHost, uid: &'a str) -> Self {
        let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
        Self { namespace: text(&host.metadata.namespace), host: text(&host.metadata.name), uid }
    }

    fn key(&self) -> Key {
        Key::new(self.namespace, format!("{}/{}", self.host, self.uid))
    }

    fn of(key: &'a Key) -> Option<Self> {
        let (host, uid) = key.name.split_once('/')?;
        Some(Self { namespace: &key.namespace, host, uid })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{purpose}")]
    Write { purpose: &'static str, source: WriteError },
    #[error("{purpose}")]
    Read { purpose: &'static str, source: ReadError },
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl ReconcileError for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Write { source, .. } => source.category(),
            Self::Read { source, .. } => source.category(),
            Self::Problem(problem) => problem.category(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Write { source, .. } => source.retry(),
            Self::Read { source, .. } => source.retry(),
            // Somebody has to put it right; the change wakes us, and the safety net looks again.
            Self::Problem(_) => Retry::After(SAFETY_NET),
        }
    }
}

impl Reconcile for Remediations {
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        if let Some(lost) = Lost::of(key) {
            return self.let_on(&lost).await;
        }
        let Some(mut world) = self.gather(key) else { return Ok(Next::Done) };
        let mut races = 0;
        for _ in 0..STEPS {
            match remediation::decide(&world.observed(self.clock.now())) {
                Step::Rest(Rest::Done) => return Ok(Next::Done),
                Step::Rest(Rest::After(delay)) => return Ok(Next::After(delay)),
                Step::Rest(Rest::Failed(problem)) => {
                    self.recorder.warning(&*world.remediation, problem.category(), problem.to_string());
                    return Err(problem.into());
                }
                Step::Ask(question) => {
                    let answered = self.answer(&mut world, question).await;
                    if !answered.map_err(|source| Error::Read { purpose: asking(question), source })? {
                        return Ok(Next::Done);
                    }
                }
                Step::Do(action) => match self.apply(&world, &action).await {
                    Ok(()) => {
                        self.tell(&world, &action);
                        self.refresh(&mut world);
                        world.look_at_node();
                    }
                    // Somebody else was faster, or nobody knows: look before the next step.
                    Err(error) if is_race(&error) && races < RACES => {
                        races += if matches!(error, WriteError::Unknown(_)) { RACES } else { 1 };
                        if !self.look_again(&mut world, &action).await? {
                            return Ok(Next::Done);
                        }
                    }
                    Err(error) if is_race(&error) && !matches!(error, WriteError::Unknown(_)) => {
                        return Ok(Next::After(self.jitter(AFTER_RACES)));
                    }
                    Err(source) => return Err(Error::Write { purpose: doing(&action), source }),
                },
            }
        }
        tracing::warn!("a remediation takes step after step without coming to rest");
        Ok(Next::After(self.jitter(AFTER_RACES)))
    }
}

impl Remediations {
    async fn apply(&self, world: &World, action: &Action) -> Result<(), WriteError> {
        let key = &world.key;
        let unchanged = Preconditions::unchanged(&*world.remediation);
        match action {
            Action::Metadata { patch, .. } => {
                self.writer.patch::<Metal3Remediation>(key, patch.clone(), &unchanged).await.map(drop)
            }
            Action::Status { status, .. } => {
                let before = world.remediation.status.clone().unwrap_or_default();
                let Some(difference) = merge_diff(&before, status)? else { return Ok(()) };
                let patch = json!({ "status": difference });
                self.writer.patch_status::<Metal3Remediation>(key, patch, &unchanged).await.map(drop)
            }
            Action::Host { name, patch, .. } => {
                let Some(host) = world.host(name) else { return Ok(()) };
                let only_if = Preconditions::unchanged(&**host);
                self.writer.patch::<BareMetalHost>(&key.sibling(name), patch.clone(), &only_if).await.map(drop)
            }
            Action::Node { purpose, patch } => {
                if *purpose == Purpose::Restore {
                    warn_of_unreadable(&world.remediation);
                }
                let (Some(workload), Some(Fact::There(node))) = (&world.workload, &world.answers.node) else {
                    return Ok(());
                };
                let only_if = Preconditions::unchanged(&**node);
                workload.writer().patch::<Node>(&key_of(&**node), patch.clone(), &only_if).await.map(drop)
            }
            Action::DeleteNode => {
                let (Some(workload), Some(Fact::There(node))) = (&world.workload, &world.answers.node) else {
                    return Ok(());
                };
                workload.writer().delete::<Node>(&key_of(&**node), &Preconditions::unchanged(&**node)).await
            }
            Action::HandOver(status) => {
                let Some(machine) = world.machine() else { return Ok(()) };
                let before = machine.status.clone().unwrap_or_default();
                let Some(difference) = merge_diff(&before, &**status)? else { return Ok(()) };
                let (patch, only_if) = (json!({ "status": difference }), Preconditions::unchanged(&**machine));
                self.writer.patch_status::<Machine>(&key_of(&**machine), patch, &only_if).await.map(drop)
            }
        }
    }

    /// Reads live what a write has lost to. False: the remediation itself is gone.
    async fn look_again(&self, world: &mut World, action: &Action) -> Result<bool, Error> {
        let failed = |source| Error::Read { purpose: "look again after a lost race", source };
        match action {
            Action::Metadata { .. } | Action::Status { .. } => {}
            Action::Host { name, .. } => self.read_host(world, name.clone()).await.map_err(failed)?,
            Action::HandOver(_) => self.read_machine(world).await.map_err(failed)?,
            Action::Node { .. } | Action::DeleteNode => {
                let (Some(workload), Some(Fact::There(node))) = (&world.workload, &world.answers.node) else {
                    return Ok(true);
                };
                let live: Option<Node> = workload.reader().get(&key_of(&**node)).await.map_err(failed)?;
                world.answers.node = Some(live.map_or(Fact::Absent, |node| Fact::There(Arc::new(node))));
                world.answers.host_is_live = false;
            }
        }
        self.answer(world, Question::Live).await.map_err(failed)
    }

    /// A host that is kept off for nobody: the remediation was removed by force, or has come to this cluster under another uid.
    async fn let_on(&self, lost: &Lost<'_>) -> Result<Next, Error> {
        let key = Key::new(lost.namespace, lost.host);
        let Some(host) = self.stores.hosts.get(&key) else { return Ok(Next::Done) };
        let Some(patch) = let_on(&host, lost.uid) else { return Ok(Next::Done) };
        if routes::is_known(&self.stores.remediations, lost.uid) {
            return Ok(Next::Done);
        }
        let cluster =
            labelled(&host, label::CLUSTER_NAME).and_then(|name| self.stores.clusters.get(&key.sibling(name)));
        if cluster.is_some_and(|cluster| cluster.spec.paused == Some(true)) {
            return Ok(Next::After(SAFETY_NET));
        }
        let live = self.reader.list::<Metal3Remediation>(&ListOptions::namespace(lost.namespace)).await;
        let live = live.map_err(|source| Error::Read { purpose: "cannot look for the remediation", source })?;
        if live.iter().any(|remediation| remediation.metadata.uid.as_deref() == Some(lost.uid)) {
            return Ok(Next::Done); // its event is on the way
        }
        match self.writer.patch::<BareMetalHost>(&key, patch, &Preconditions::unchanged(&*host)).await {
            Ok(_) | Err(WriteError::NotFound(_)) => Ok(Next::Done),
            Err(WriteError::Conflict(_) | WriteError::Unknown(_)) => Ok(Next::After(self.jitter(AFTER_RACES))),
            Err(source) => Err(Error::Write { purpose: "cannot let on a host that is kept off for nobody", source }),
        }
    }

    fn tell(&self, world: &World, action: &Action) {
        let Some((is_well, reason, message)) = event(world, action) else { return };
        tracing::info!(reason, message, "remediation moves on");
        if is_well {
            self.recorder.normal(&*world.remediation, reason, message);
        } else {
            self.recorder.warning(&*world.remediation, reason, message);
        }
    }

    fn jitter(&self, about: Duration) -> Duration {
        about.mul_f64(0.5 + (self.dice.roll() % 1000) as f64 / 1000.0)
    }
}

/// What does not read of a backup is left out.
fn warn_of_unreadable(remediation: &Metal3Remediation) {
    let stored = remediation::Backup::stored(remediation);
    for (what, text) in [("annotations", &stored.annotations), ("labels", &stored.labels)] {
        if decode(text).is_err() {
            tracing::warn!(what, "the backup of a Node does not read");
        }
    }
}

/// The write has met somebody else's, or nobody knows whether it happened: the object has to be looked at.
fn is_race(error: &WriteError) -> bool {
    matches!(error, WriteError::Conflict(_) | WriteError::NotFound(_) | WriteError::Unknown(_))
}

fn asking(question: Question) -> &'static str {
    match question {
        Question::Live => "cannot look whether the remediation is still wanted",
        Question::Target => "cannot look for the machine",
        Question::Host => "cannot look at the host",
        Question::Node | Question::Mode | Question::Drain => "cannot look at the Node",
    }
}

fn doing(action: &Action) -> &'static str {
    match action {
        Action::Metadata { purpose, .. }
        | Action::Status { purpose, .. }
        | Action::Host { purpose, .. }
        | Action::Node { purpose, .. } => match purpose {
            Purpose::Start | Purpose::Fenced | Purpose::Retry | Purpose::GiveUp | Purpose::Fail(_) => {
                "status is not stored"
            }
            Purpose::Finalizer => "cannot set the finalizer",
            Purpose::PowerOff => "cannot have the host switched off",
            Purpose::Backup => "cannot keep what the Node carries",
            Purpose::Taint => "cannot taint the Node",
            Purpose::PowerOn => "cannot have the host switched on",
            Purpose::Untaint => "cannot take the taint off the Node",
            Purpose::Restore => "cannot give the Node back what it carried",
            Purpose::Release => "cannot remove the finalizer",
            Purpose::MarkUnhealthy => "cannot mark the host unhealthy",
        },
        Action::DeleteNode => "cannot delete the Node",
        Action::HandOver(_) => "cannot hand the Machine to its owner",
    }
}

/// What people get to see of a write that went well, and whether it is good news.
fn event(world: &World, action: &Action) -> Option<(bool, &'static str, String)> {
    let host = world.target.as_ref().map(|(.., host)| key_of(&**host).to_string()).unwrap_or_default();
    let node = match &world.answers.node {
        Some(Fact::There(node)) => key_of(&**node).name,
        Some(Fact::Absent | Fact::Forbidden | Fact::Unreachable(_)) | None => String::new(),
    };
    let well = |reason, message| Some((true, reason, message));
    match action {
        Action::DeleteNode => {
            well("NodeDeleted", format!("deleted Node {node}; what it carried is kept for the next one"))
        }
        Action::HandOver(_) => {
            Some((false, "HandedOver", "the machine did not come back; its owner is to replace it".to_owned()))
        }
        Action::Host { purpose, name, .. } => {
            let host = format!("BareMetalHost {}", world.key.sibling(name));
            match purpose {
                Purpose::PowerOff => well("PowerOff", format!("has {host} switched off")),
                Purpose::PowerOn => well("PowerOn", format!("has {host} switched on")),
                Purpose::MarkUnhealthy => Some((false, "HostUnhealthy", format!("marked {host} unhealthy"))),
                _ => None,
            }
        }
        Action::Node { purpose, .. } => match purpose {
            Purpose::Taint => well("NodeTainted", format!("tainted Node {node} as out of service")),
            Purpose::Untaint => well("NodeUntainted", format!("Node {node} is in service again")),
            Purpose::Restore => well("NodeRestored", format!("gave Node {node} back its labels and annotations")),
            _ => None,
        },
        Action::Status { purpose, .. } => match purpose {
            Purpose::Start => well("Remediating", format!("power-cycles BareMetalHost {host}")),
            Purpose::Retry => {
                Some((false, "Retrying", "the machine is not back in time; it is tried again".to_owned()))
            }
            Purpose::Fail(Failure::SwitchedOff) => {
                Some((false, "Failed", format!("BareMetalHost {host} is to be off: spec.online is false")))
            }
            Purpose::Fail(Failure::NeverOff) => {
                Some((false, "Failed", format!("BareMetalHost {host} cannot be fenced: spec.disablePowerOff is true")))
            }
            _ => None,
        },
        Action::Metadata { .. } => None,
    }
}
