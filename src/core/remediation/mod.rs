//! The life of a Metal3Remediation: a machine that is not well has its host switched off, its Node fenced, and its host switched on
//! again; what does not come back that way is handed to the machine's owner.
//!
//! As with machines, [`decide`] returns one step; the caller takes it and looks again, so that an interrupted remediation goes on where
//! it stopped. What is outside is touched only between the finalizer's coming and its going:
//!
//! ```text
//!            finalizer, off              fenced                       on, Node back
//! (none) ──> Running ──────────────────> Waiting ──────────────────> finalizer goes; whoever asked deletes it
//!               ^         timed out, another attempt │ timed out, no attempt left
//!               └────────────────────────────────────┴─────────────> Deleting machine
//! ```
//!
//! No wait is without an end: each is ended by an event, and by the attempt's timeout. A host that cannot be switched off, or that its
//! user has switched off, ends in `Failed`.
//!
//! Rules: remediation-webhooks-packaging.md R-1 to R-74 with RH-1 to RH-15; capi-contract.md K-82 to K-91.

mod attempt;
mod backup;
mod fence;
mod handover;
mod target;

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, MachineStatus, Node};
use capm3_api::infra::v1beta2::{Metal3Remediation, Metal3RemediationStatus};
use capm3_api::k8s::{Time, Timestamp};
use capm3_api::names::{annotation, finalizer, label, remediation_phase};
use serde_json::{Value, json};

pub use attempt::{is_timed_out, kind, limit_is_reached, limit_is_set, remaining, retries, timeout};
pub use backup::{Backup, decode, encode};
pub use fence::{Left, Mode, is_tainted, taint, untaint};
pub use handover::handed_over;
pub use target::{Problem, Target, find, infrastructure, owner};

use crate::conditions::whole_second;
use crate::host::annotated;
use crate::planted::{Defect, sown};

/// Pods and volumes are not watched.
const DRAIN_POLL: Duration = Duration::from_secs(5);
/// For a workload cluster that is away; its coming back wakes us.
const UNREACHABLE: Duration = Duration::from_secs(30);
pub const SAFETY_NET: Duration = Duration::from_secs(300);

pub struct Observed<'a> {
    pub now: Timestamp,
    pub remediation: &'a Metal3Remediation,
    pub cluster: Option<&'a Cluster>,
    pub target: Result<Target<'a>, &'a Problem>,
    /// A host that is kept off for this remediation, be it the target's or not.
    pub kept_off: Option<&'a BareMetalHost>,
    pub answers: &'a Answers,
}

/// What was found out on request.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The remediation was read past the cache.
    pub is_live: bool,
    /// The target was looked for past the cache.
    pub target_is_live: bool,
    /// The host was read past the cache.
    pub host_is_live: bool,
    pub node: Option<Fact>,
    pub mode: Option<Mode>,
    pub drain: Option<Drain>,
}

/// What is known of the machine's Node.
#[derive(Clone, Debug)]
pub enum Fact {
    There(Arc<Node>),
    Absent,
    /// The workload cluster does not let us look.
    Forbidden,
    Unreachable(String),
}

/// How far a tainted Node is drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    Left(Left),
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Ask(Question),
    Do(Action),
    Rest(Next),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether the remediation is still wanted, before a host is switched off for it.
    Live,
    /// Whether the machine, or its host, is really gone.
    Target,
    /// The host, before anybody relies on its being off, and before the finalizer goes.
    Host,
    Node,
    Mode,
    Drain,
}

/// A write: of the remediation and of hosts on condition of the version that was looked at, of the Node and the Machine as well.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A merge patch of the remediation.
    Metadata {
        purpose: Purpose,
        patch: Value,
    },
    Status {
        purpose: Purpose,
        status: Metal3RemediationStatus,
    },
    Host {
        purpose: Purpose,
        name: String,
        patch: Value,
    },
    Node {
        purpose: Purpose,
        patch: Value,
    },
    DeleteNode,
    HandOver(Box<MachineStatus>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Start,
    Finalizer,
    PowerOff,
    Backup,
    Taint,
    /// The Node is fenced, or there is none.
    Fenced,
    PowerOn,
    Untaint,
    Restore,
    Release,
    Retry,
    MarkUnhealthy,
    GiveUp,
    Fail(Failure),
}

/// Why a machine cannot be remediated at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The user wants the host off.
    SwitchedOff,
    /// The host cannot be switched off.
    NeverOff,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Done,
    After(Duration),
    Failed(Problem),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    None,
    Running,
    Waiting,
    Terminal,
    Unknown,
}

fn phase(remediation: &Metal3Remediation) -> Phase {
    let phase = remediation.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase.unwrap_or_default() {
        "" => Phase::None,
        remediation_phase::RUNNING => Phase::Running,
        remediation_phase::WAITING => Phase::Waiting,
        remediation_phase::DELETING_MACHINE | remediation_phase::FAILED => Phase::Terminal,
        _ => Phase::Unknown,
    }
}

/// The annotation by which a remediation keeps a host off.
pub fn power_off_key(uid: &str) -> String {
    format!("{}{uid}", annotation::REBOOT_PREFIX)
}

/// The uids of the remediations that keep a host off.
pub fn kept_off_by(host: &BareMetalHost) -> impl Iterator<Item = &str> {
    let keys = host.metadata.annotations.iter().flatten().map(|(key, _)| key);
    keys.filter_map(|key| key.strip_prefix(annotation::REBOOT_PREFIX))
}

/// Whether no further step will come of itself.
pub fn is_over(remediation: &Metal3Remediation) -> bool {
    phase(remediation) == Phase::Terminal && remediation.metadata.deletion_timestamp.is_none()
}

/// The cluster whose pause counts, by the Machine's label, or the remediation's own where there is no Machine.
pub fn cluster_name<'a>(
    remediation: &'a Metal3Remediation,
    machine: Option<&'a capm3_api::foreign::Machine>,
) -> Option<&'a str> {
    let meta = machine.map_or(&remediation.metadata, |machine| &machine.metadata);
    meta.labels.as_ref()?.get(label::CLUSTER_NAME).map(String::as_str)
}

/// A host that is kept off for a remediation that is gone, or has another uid since it was moved, is let on again.
/// Nobody touches a host that is paused.
pub fn let_on(host: &BareMetalHost, uid: &str) -> Option<Value> {
    let paused = annotated(host, annotation::HOST_PAUSED).is_some();
    let key = power_off_key(uid);
    (annotated(host, &key).is_some() && !paused).then(|| json!({ "metadata": { "annotations": { key: null } } }))
}

/// The next step. Total and deterministic: the same observation, the same step.
pub fn decide(o: &Observed<'_>) -> Step {
    if o.is_paused() {
        return rest(SAFETY_NET); // RH-7; its end wakes us
    }
    if o.remediation.metadata.deletion_timestamp.is_some() {
        return leave(o);
    }
    let phase = phase(o.remediation);
    if phase == Phase::Terminal {
        return o.kept_off.map_or(Step::Rest(Next::Done), |host| o.power_on(host)); // R-38, RH-1
    }
    let target = match o.target {
        Ok(target) => target,
        Err(problem) => return Step::Rest(Next::Failed(problem.clone())),
    };
    if target.host.spec.online != Some(true) {
        return fail(o, target, Failure::SwitchedOff); // R-7
    }
    if !attempt::reboots(o.remediation) {
        return Step::Rest(Next::Done); // R-9
    }
    match phase {
        Phase::None => o.become_(Purpose::Start, remediation_phase::RUNNING),
        Phase::Running => run(o, target),
        Phase::Waiting => come_back(o, target),
        Phase::Terminal | Phase::Unknown => Step::Rest(Next::Done), // R-39
    }
}

/// R-20 to R-28: off, and fenced.
fn run(o: &Observed<'_>, target: Target<'_>) -> Step {
    let host = target.host;
    if host.spec.disable_power_off == Some(true) {
        return fail(o, target, Failure::NeverOff); // RH-13
    }
    if !o.has_finalizer() {
        return o.add_finalizer();
    }
    if !o.keeps_off(host) {
        return if o.answers.is_live { o.power_off(host) } else { Step::Ask(Question::Live) };
    }
    if !is_off(host) && !sown(Defect::NodeFencedWhileOn) {
        return o.wait_or(expire);
    }
    match o.node(target) {
        None => Step::Ask(Question::Node),
        Some(Fact::Absent | Fact::Forbidden) => o.become_(Purpose::Fenced, remediation_phase::WAITING),
        // With a host of the control plane off there may be nobody to be told that it is.
        Some(Fact::Unreachable(_)) if is_control_plane(target) && attempt::is_half_over(o.remediation, o.now) => {
            o.become_(Purpose::Fenced, remediation_phase::WAITING)
        }
        Some(Fact::Unreachable(_)) => o.wait_at_most(UNREACHABLE, expire),
        Some(Fact::There(node)) => fence(o, node),
    }
}

/// R-24 to R-28. How it began decides how it goes on (RH-9).
fn fence(o: &Observed<'_>, node: &Node) -> Step {
    let mode = if backup::is_stored(o.remediation) {
        Some(Mode::Delete)
    } else if is_tainted(node) {
        Some(Mode::Taint)
    } else {
        o.answers.mode
    };
    let Some(mode) = mode else { return Step::Ask(Question::Mode) };
    let acts = match mode {
        Mode::Taint => !is_tainted(node),
        Mode::Delete => node.metadata.deletion_timestamp.is_none(),
    };
    if acts && !o.answers.host_is_live {
        return Step::Ask(Question::Host);
    }
    match mode {
        Mode::Taint if acts => act(Action::Node { purpose: Purpose::Taint, patch: taint(node, o.now) }),
        Mode::Taint => match &o.answers.drain {
            None => Step::Ask(Question::Drain),
            Some(Drain::Left(left)) if left.is_drained() => o.become_(Purpose::Fenced, remediation_phase::WAITING),
            Some(Drain::Left(_) | Drain::Unknown(_)) => o.wait_at_most(DRAIN_POLL, expire),
        },
        Mode::Delete if acts => {
            // Once an attempt (RH-14), unless it was made of an older Node than the one that is about to go.
            let lacking = Backup::stored(o.remediation).completed(node);
            let Some(saved) = lacking.filter(|_| !sown(Defect::NodeDeletedWithoutBackup)) else {
                return act(Action::DeleteNode);
            };
            let patch = json!({ "metadata": { "annotations": saved.patch() } });
            act(Action::Metadata { purpose: Purpose::Backup, patch })
        }
        Mode::Delete => o.wait_or(expire),
    }
}

/// R-30 to R-37: on again, the Node as it was.
fn come_back(o: &Observed<'_>, target: Target<'_>) -> Step {
    if let Some(host) = o.kept_off {
        return o.power_on(host);
    }
    if !is_on(target.host) {
        return o.wait_or(expire);
    }
    if o.has_finalizer() {
        match o.node(target) {
            None => return Step::Ask(Question::Node),
            // Nobody knows whether it is well: nothing is done to it.
            Some(Fact::Unreachable(_)) => return rest(UNREACHABLE),
            Some(Fact::Forbidden) => return o.release(None),
            Some(Fact::There(node)) => {
                return mend(o, target, node).unwrap_or_else(|| o.release(backup::dropped(o.remediation)));
            }
            Some(Fact::Absent) => {}
        }
    }
    o.wait_or(expire)
}

/// What makes the Node as it was, if it is not. One that we deleted may have come back without the identity that it was given.
fn mend(o: &Observed<'_>, target: Target<'_>, node: &Node) -> Option<Step> {
    if let Some(patch) = untaint(node) {
        return Some(act(Action::Node { purpose: Purpose::Untaint, patch }));
    }
    let mut patch = Backup::stored(o.remediation).restore(node);
    let nameless = node.spec.provider_id.as_deref().unwrap_or_default().is_empty();
    if let Some(id) = target.metal3_machine.spec.provider_id.as_deref()
        && nameless
        && backup::is_stored(o.remediation)
    {
        patch.get_or_insert_with(|| json!({}))["spec"] = json!({ "providerID": id });
    }
    let patch = patch?;
    Some(act(Action::Node { purpose: Purpose::Restore, patch }))
}

/// The attempt has taken its time (R-36, R-37). While the host is kept off it stays so for the next one (RH-6).
fn expire(o: &Observed<'_>, target: Target<'_>) -> Step {
    if attempt::has_another(o.remediation) {
        return o.become_(Purpose::Retry, remediation_phase::RUNNING);
    }
    if phase(o.remediation) == Phase::Running {
        return o.become_(Purpose::Fenced, remediation_phase::WAITING); // by way of being switched on again
    }
    if annotated(target.host, annotation::UNHEALTHY).is_none() {
        let marked = json!({ "metadata": { "annotations": { annotation::UNHEALTHY: annotation::UNHEALTHY_NODE } } });
        return o.host(Purpose::MarkUnhealthy, target.host, marked);
    }
    // Last: the owner may delete the Machine at once, and this object with it.
    if let Some(status) = handed_over(target.machine, o.now) {
        return act(Action::HandOver(Box::new(status)));
    }
    o.become_(Purpose::GiveUp, remediation_phase::DELETING_MACHINE)
}

/// RH-3, RH-13: nothing of ours is left on host and Node before it is said.
fn fail(o: &Observed<'_>, target: Target<'_>, why: Failure) -> Step {
    if let Some(host) = o.kept_off {
        return o.power_on(host);
    }
    if o.has_finalizer() {
        match o.node(target) {
            None => return Step::Ask(Question::Node),
            Some(Fact::Unreachable(_)) if !is_timed_out(o.remediation, o.now) => {
                return rest(UNREACHABLE.min(remaining(o.remediation, o.now)));
            }
            Some(Fact::There(node)) => {
                if let Some(step) = mend(o, target, node) {
                    return step;
                }
            }
            Some(Fact::Absent | Fact::Forbidden | Fact::Unreachable(_)) => {}
        }
        return o.release(backup::dropped(o.remediation));
    }
    o.become_(Purpose::Fail(why), remediation_phase::FAILED)
}

/// It is being deleted: nobody asks for anything any more, or nobody is left who did (RH-1, RH-2).
fn leave(o: &Observed<'_>) -> Step {
    let over = phase(o.remediation) == Phase::Terminal;
    let target = match o.target {
        Err(_) if !over && !o.answers.target_is_live && o.has_finalizer() => return Step::Ask(Question::Target),
        Ok(target) if !over && o.has_finalizer() => target,
        _ => {
            return match o.kept_off {
                Some(host) => o.power_on(host),
                None if o.has_finalizer() => o.release(None),
                None => Step::Rest(Next::Done),
            };
        }
    };
    if phase(o.remediation) != Phase::Waiting {
        // Nothing is touched that the first attempt had not touched yet; what an attempt before left on the Node is taken back.
        let touched = o.kept_off.is_some() && !sown(Defect::HostLeftOff) || retries(o.remediation) > 0;
        return if touched { o.become_(Purpose::Fenced, remediation_phase::WAITING) } else { o.release(None) };
    }
    if let Some(host) = o.kept_off {
        return o.power_on(host);
    }
    let forsake = |o: &Observed<'_>, _: Target<'_>| o.release(None);
    if !is_on(target.host) {
        return o.wait_or(forsake);
    }
    match o.node(target) {
        None => Step::Ask(Question::Node),
        Some(Fact::Unreachable(_)) => o.wait_at_most(UNREACHABLE, forsake),
        Some(Fact::There(node)) => mend(o, target, node).unwrap_or_else(|| o.release(backup::dropped(o.remediation))),
        // Its labels and annotations are kept for it, until its time is over or the machine goes as well.
        Some(Fact::Absent)
            if backup::is_stored(o.remediation) && target.machine.metadata.deletion_timestamp.is_none() =>
        {
            o.wait_or(forsake)
        }
        Some(Fact::Absent | Fact::Forbidden) => o.release(None),
    }
}

fn is_on(host: &BareMetalHost) -> bool {
    host.status.as_ref().and_then(|status| status.powered_on) == Some(true)
}

/// Not the opposite: a host that was moved or restored says neither until its operator has looked.
fn is_off(host: &BareMetalHost) -> bool {
    host.status.as_ref().and_then(|status| status.powered_on) == Some(false)
}

fn is_control_plane(target: Target<'_>) -> bool {
    target.machine.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label::CONTROL_PLANE))
}

fn act(action: Action) -> Step {
    Step::Do(action)
}

fn rest(delay: Duration) -> Step {
    Step::Rest(Next::After(delay))
}

impl<'a> Observed<'a> {
    fn is_paused(&self) -> bool {
        let cluster = self.cluster.is_some_and(|cluster| cluster.spec.paused == Some(true));
        let annotations = self.remediation.metadata.annotations.as_ref();
        cluster || annotations.is_some_and(|all| all.contains_key(annotation::PAUSED))
    }

    fn has_finalizer(&self) -> bool {
        self.remediation.metadata.finalizers.iter().flatten().any(|one| one == finalizer::REMEDIATION)
    }

    fn uid(&self) -> &'a str {
        self.remediation.metadata.uid.as_deref().unwrap_or_default()
    }

    fn keeps_off(&self, host: &BareMetalHost) -> bool {
        annotated(host, &power_off_key(self.uid())).is_some()
    }

    /// A machine that never had a Node has none (RH-5).
    fn node(&self, target: Target<'_>) -> Option<&'a Fact> {
        let named = target.machine.status.as_ref().and_then(|status| status.node_ref.as_ref());
        if named.is_none() { Some(&Fact::Absent) } else { self.answers.node.as_ref() }
    }

    fn status(&self, phase: &str) -> Metal3RemediationStatus {
        Metal3RemediationStatus { phase: Some(phase.to_owned()), ..self.remediation.status.clone().unwrap_or_default() }
    }

    /// Another phase; an attempt that begins is dated, and counted when it is not the first.
    fn become_(&self, purpose: Purpose, phase: &str) -> Step {
        let mut status = self.status(phase);
        if matches!(purpose, Purpose::Start | Purpose::Retry) {
            status.last_remediated = Some(Time(whole_second(self.now)));
        }
        if purpose == Purpose::Retry && !sown(Defect::RetriesUncounted) {
            status.retry_count = Some(retries(self.remediation).saturating_add(1));
        }
        act(Action::Status { purpose, status })
    }

    fn add_finalizer(&self) -> Step {
        let known = self.remediation.metadata.finalizers.clone().unwrap_or_default();
        let finalizers: Vec<_> = known.into_iter().chain([finalizer::REMEDIATION.to_owned()]).collect();
        let patch = json!({ "metadata": { "finalizers": finalizers } });
        act(Action::Metadata { purpose: Purpose::Finalizer, patch })
    }

    /// The finalizer goes, once it has been seen that no host is kept off; with what else is to go.
    fn release(&self, annotations: Option<Value>) -> Step {
        if !self.answers.host_is_live {
            return Step::Ask(Question::Host);
        }
        let known = self.remediation.metadata.finalizers.iter().flatten();
        let left: Vec<_> = known.filter(|one| *one != finalizer::REMEDIATION).collect();
        let mut patch = json!({ "metadata": { "finalizers": left } });
        if let Some(annotations) = annotations {
            patch["metadata"]["annotations"] = annotations;
        }
        act(Action::Metadata { purpose: Purpose::Release, patch })
    }

    fn host(&self, purpose: Purpose, host: &BareMetalHost, patch: Value) -> Step {
        act(Action::Host { purpose, name: host.metadata.name.clone().unwrap_or_default(), patch })
    }

    fn power_off(&self, host: &BareMetalHost) -> Step {
        let how = json!({ "mode": "hard", "force": false }).to_string();
        let patch = json!({ "metadata": { "annotations": { power_off_key(self.uid()): how } } });
        self.host(Purpose::PowerOff, host, patch)
    }

    /// Other annotations of the kind are other people's (R-44).
    fn power_on(&self, host: &BareMetalHost) -> Step {
        let patch = json!({ "metadata": { "annotations": { power_off_key(self.uid()): null } } });
        self.host(Purpose::PowerOn, host, patch)
    }

    /// Waits for an event, until the attempt has timed out: then this.
    fn wait_or(&self, then: impl FnOnce(&Self, Target<'a>) -> Step) -> Step {
        self.wait_at_most(SAFETY_NET, then)
    }

    fn wait_at_most(&self, most: Duration, then: impl FnOnce(&Self, Target<'a>) -> Step) -> Step {
        match self.target {
            Ok(target) if is_timed_out(self.remediation, self.now) => then(self, target),
            _ => rest(remaining(self.remediation, self.now).clamp(Duration::from_secs(1), most)),
        }
    }
}

#[cfg(test)]
mod tests;
