//! Metal3Machine: takes the steps that [`capm3_core::machine`] decides, one after the other, until nothing is left to do.
//!
//! | watched | wakes |
//! |---|---|
//! | Metal3Machine | itself |
//! | Machine | the machine it names |
//! | Cluster, Metal3Cluster | every machine of the cluster, when something they wait for has changed |
//! | Metal3DataClaim, Metal3Data | the machine that owns it |
//! | BareMetalHost | its consumer, who is annotated with it, and when it becomes free the best of those that wait for such a host (H-35) |
//! | Metal3Machine that waited for a host and no longer does | the next one, if a host is free |
//! | Node of a workload cluster | the machine of the host it names, or every unprovisioned machine of the cluster |

mod apply;
mod gather;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine, MachineSet};
use capm3_api::infra::v1beta2::{
    Metal3Cluster, Metal3Data, Metal3DataClaim, Metal3Machine, Metal3MachineStatus, Metal3MachineTemplate,
};
use capm3_api::names::{event, label};
use capm3_core::machine::{self, Action, Next as Rest, Problem, Purpose, Question, Report, Step};
use capm3_remote::Workloads;
use capm3_runtime::{
    Clock, Controller, Dice, Key, Next, Preconditions, ReadError, Reader, Reconcile, ReconcileError, Recorder, Retry,
    Setup, Store, WatchOptions, WriteError, Writer, chain, merge_diff,
};
use serde_json::json;

use gather::World;
pub(crate) use gather::owner;
pub(crate) use routes::awaited;

pub const NAME: &str = "metal3machine";

/// Steps in one pass; a machine's whole life has fewer.
const STEPS: usize = 40;
/// Lost races in one pass; after that others may go first.
const RACES: usize = 5;
const AFTER_RACES: Duration = Duration::from_millis(500);

pub(crate) fn register(setup: &mut Setup, workloads: &Workloads) {
    let stores = Stores::new(setup);
    let queue = setup.queue(NAME);
    routes::connect(&setup.hub, &stores, workloads, &queue, setup.options.watch_filter.clone());
    let machines = Machines {
        stores,
        workloads: workloads.clone(),
        reader: setup.reader.clone(),
        writer: setup.writer.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        dice: setup.dice.clone(),
        watch_filter: setup.options.watch_filter.clone(),
        fast_track: setup.options.fast_track,
    };
    setup.add(Controller::new(NAME, queue, machines, setup.workers(NAME)));
}

/// The caches a machine is judged by.
#[derive(Clone)]
struct Stores {
    machines: Store<Metal3Machine>,
    owners: Store<Machine>,
    clusters: Store<Cluster>,
    infrastructure: Store<Metal3Cluster>,
    sets: Store<MachineSet>,
    hosts: Store<BareMetalHost>,
    claims: Store<Metal3DataClaim>,
    data: Store<Metal3Data>,
    templates: Store<Metal3MachineTemplate>,
}

impl Stores {
    fn new(setup: &Setup) -> Self {
        let all = WatchOptions::default;
        let stores = Self {
            machines: setup.hub.store(all()),
            owners: setup.hub.store(all()),
            clusters: setup.hub.store(all()),
            infrastructure: setup.hub.store(all()),
            sets: setup.hub.store(all()),
            hosts: setup.hub.store(all()),
            claims: setup.hub.store(all()),
            data: setup.hub.store(all()),
            templates: setup.hub.store(all()),
        };
        routes::index(&stores);
        stores
    }
}

struct Machines {
    stores: Stores,
    workloads: Workloads,
    reader: Reader,
    writer: Writer,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    dice: Arc<dyn Dice>,
    watch_filter: Option<String>,
    fast_track: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{purpose}")]
    Write { purpose: &'static str, source: WriteError },
    #[error("{purpose}")]
    Read { purpose: &'static str, source: ReadError },
    #[error("status is not stored")]
    Status { source: WriteError },
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl ReconcileError for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Write { source, .. } | Self::Status { source } => source.category(),
            Self::Read { source, .. } => source.category(),
            Self::Problem(problem) => problem.category(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Write { source, .. } | Self::Status { source } => source.retry(),
            Self::Read { source, .. } => source.retry(),
            // Somebody has to put it right; the change wakes us, and the safety net looks again.
            Self::Problem(_) => Retry::After(machine::SAFETY_NET),
        }
    }
}

/// What became of a status.
enum Stored {
    /// It was there already, or there is no machine to store it on.
    Same,
    Written,
    /// The machine is not the one that was looked at.
    Raced,
}

impl Reconcile for Machines {
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(mut world) = self.gather(key) else { return self.let_go_of_claim(key).await };
        if !self.is_ours(&world.machine) {
            return Ok(Next::Done);
        }
        let mut races = 0;
        for _ in 0..STEPS {
            let mut decision = machine::decide(&world.observed(self.clock.now(), self.fast_track));
            let settled = world.observed(self.clock.now(), self.fast_track).is_settled();
            match decision.step {
                Step::Rest(rest) => {
                    let stored = self.store_status(&world.machine, &decision.report).await?;
                    let stored = match stored {
                        Stored::Raced => Next::After(self.jitter(AFTER_RACES)),
                        Stored::Same | Stored::Written => Next::Done,
                    };
                    return match rest {
                        Rest::Done => Ok(stored),
                        Rest::After(delay) => Ok(sooner(stored, delay)),
                        Rest::Failed(problem) => Err(problem.into()),
                    };
                }
                Step::Ask(question) => match self.find_out(&mut world, &question, &decision.report).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(Next::Done),
                    Err(Error::Read { purpose, source }) => {
                        decision.report.read_failed(&question, &shown(&source));
                        self.store_status(&world.machine, &decision.report).await?;
                        return Err(Error::Read { purpose, source });
                    }
                    Err(error) => return Err(error),
                },
                Step::Do(action) => match self.apply(&world, &action).await {
                    Ok(()) => {
                        self.tell(&world, &action);
                        if matches!(action, Action::Machine { purpose: Purpose::Forget, .. }) {
                            return Ok(Next::Done);
                        }
                        world.done(&action);
                        self.refresh(&mut world);
                    }
                    // Somebody else was faster, or nobody knows: look before the next step (9.4, step 5).
                    Err(error) if apply::is_race(&error, &action) && races < RACES => {
                        tracing::debug!(error = chain(&error), "lost a race, looking again");
                        // One look behind an answer that got lost; a second one is a failure like any other, and backs off.
                        races += if matches!(error, WriteError::Unknown(_)) { RACES } else { 1 };
                        if !self.look_again(&mut world, &action).await? {
                            return Ok(Next::Done);
                        }
                    }
                    Err(error) if apply::is_race(&error, &action) && !matches!(error, WriteError::Unknown(_)) => {
                        return Ok(Next::After(self.jitter(AFTER_RACES)));
                    }
                    Err(error) if matches!(action, Action::Host { purpose: Purpose::BlockMove, .. }) => {
                        tracing::warn!(error = chain(&error), "{}", apply::purpose(&action));
                        world.answers.move_is_open = true; // the host is looked after all the same (M-16)
                    }
                    Err(source) => {
                        decision.report.write_failed(&action, settled, &shown_write(&source));
                        self.store_status(&world.machine, &decision.report).await?;
                        return Err(Error::Write { purpose: apply::purpose(&action), source });
                    }
                },
            }
        }
        tracing::warn!("a machine takes step after step without coming to rest");
        Ok(Next::After(self.jitter(AFTER_RACES)))
    }
}

impl Machines {
    fn is_ours(&self, machine: &Metal3Machine) -> bool {
        let Some(filter) = &self.watch_filter else { return true };
        machine.metadata.labels.as_ref().and_then(|labels| labels.get(label::WATCH_FILTER)) == Some(filter)
    }

    /// There is no such machine: a claim that was held for it is held for nobody.
    async fn let_go_of_claim(&self, key: &Key) -> Result<Next, Error> {
        let Some(claim) = self.stores.claims.get(key) else { return Ok(Next::Done) };
        let Some(Action::DropClaim { version, finalizers }) = machine::forsaken(&claim) else { return Ok(Next::Done) };
        let live = self.reader.get::<Metal3Machine>(key).await;
        let live = live.map_err(|source| Error::Read { purpose: gather::purpose(&Question::MachineLive), source })?;
        if live.is_some() {
            return Ok(Next::Done); // its event is on the way
        }
        let held = self.held_live(key).await;
        let held = held.map_err(|source| Error::Read { purpose: gather::purpose(&Question::HostsLive), source })?;
        if !held.is_empty() {
            return Ok(Next::Done); // it may use the addresses; that it is let go wakes us
        }
        match self.drop_claim(key, &version, &finalizers).await {
            Ok(()) | Err(WriteError::NotFound(_)) => Ok(Next::Done),
            Err(WriteError::Conflict(_)) => Ok(Next::After(self.jitter(AFTER_RACES))),
            Err(source) => Err(Error::Write { purpose: "cannot take the finalizer off the data claim", source }),
        }
    }

    /// Answers the question. False: the machine is gone; what the watch shows next decides.
    async fn find_out(&self, world: &mut World, question: &Question, report: &Report) -> Result<bool, Error> {
        // That it leaves has to be said anyway, and a write on condition knows as much as a read.
        let leaving = world.machine.metadata.deletion_timestamp.is_some() && !machine::is_stuck_leaving(&world.machine);
        if *question == Question::MachineLive
            && leaving
            && matches!(self.store_status(&world.machine, report).await, Ok(Stored::Written))
        {
            world.answers.machine_is_live = true;
            self.refresh(world);
            return Ok(true);
        }
        let answered = self.answer(world, question).await;
        answered.map_err(|source| Error::Read { purpose: gather::purpose(question), source })
    }

    /// One patch for a real difference, none otherwise. Conditions are lists and replaced whole, hence the precondition.
    async fn store_status(&self, machine: &Metal3Machine, report: &Report) -> Result<Stored, Error> {
        let before = machine.status.clone().unwrap_or_default();
        let after = report.status(machine, self.clock.now());
        let Some(difference) = merge_diff(&before, &after).map_err(|source| Error::Status { source })? else {
            return Ok(Stored::Same);
        };
        let key = capm3_runtime::key_of(machine);
        let only_if = Preconditions::unchanged(machine);
        match self.writer.patch_status::<Metal3Machine>(&key, json!({ "status": difference }), &only_if).await {
            Ok(_) => {
                self.tell_trouble(machine, report);
                self.tell_provisioned(machine, &after);
                Ok(Stored::Written)
            }
            Err(WriteError::NotFound(_)) => Ok(Stored::Same),
            Err(WriteError::Conflict(_)) => Ok(Stored::Raced),
            Err(source) => Err(Error::Status { source }),
        }
    }

    fn tell_provisioned(&self, machine: &Metal3Machine, after: &Metal3MachineStatus) {
        let is =
            |status: &Metal3MachineStatus| status.initialization.as_ref().and_then(|i| i.provisioned) == Some(true);
        if is(after) && !machine.status.as_ref().is_some_and(is) {
            let id = machine.spec.provider_id.as_deref().unwrap_or_default();
            self.recorder.normal(machine, event::PROVISIONED, format!("the machine is provisioned as {id}"));
        }
    }

    /// A new complaint becomes an event; the same complaint again does not, nor the same with other details after the colon.
    fn tell_trouble(&self, machine: &Metal3Machine, report: &Report) {
        if !report.trouble {
            return;
        }
        let before = machine.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        for finding in report.findings.iter() {
            let known = capm3_core::conditions::get(before, finding.row.kind);
            let is_new = known
                .is_none_or(|c| c.reason != finding.row.reason || headline(&c.message) != headline(&finding.message));
            if finding.row.status == capm3_core::conditions::Status::False && !finding.message.is_empty() && is_new {
                self.recorder.warning(machine, finding.row.reason, finding.message.clone());
            }
        }
    }

    fn tell(&self, world: &World, action: &Action) {
        if let Some((reason, message)) = apply::event(world, action) {
            tracing::info!(reason, message, "machine moves on");
            self.recorder.normal(&*world.machine, reason, message);
        }
    }

    fn jitter(&self, about: Duration) -> Duration {
        about.mul_f64(0.5 + (self.dice.roll() % 1000) as f64 / 1000.0)
    }
}

/// What is wrong, without the details that change from pass to pass.
fn headline(message: &str) -> &str {
    message.split_once(": ").map_or(message, |(headline, _)| headline)
}

/// `next`, but not later than `delay`.
fn sooner(next: Next, delay: Duration) -> Next {
    match next {
        Next::Done => Next::After(delay),
        Next::After(other) => Next::After(other.min(delay)),
    }
}

/// What a user may see of a failed read or write: the operation and the API server's own words.
fn shown(error: &ReadError) -> String {
    chain(error)
}

fn shown_write(error: &WriteError) -> String {
    match error.failure().map(|failure| failure.message.as_str()).filter(|message| !message.is_empty()) {
        Some(message) => format!("{error}: {message}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::headline;

    #[test]
    fn counts_of_hosts_that_change_are_no_news() {
        let none_fits = |counts: &str| format!("none of 3 BareMetalHosts fits: {counts}");
        assert_eq!(headline(&none_fits("3 claimed")), headline(&none_fits("2 claimed, 1 paused")));
        assert_ne!(headline("no BareMetalHost in this namespace"), headline(&none_fits("3 claimed")));
    }
}
