//! The life of a Metal3Machine: what is the next write, what has to be read first, or what is being waited for.
//!
//! [`decide`] looks at everything that is known and returns one [`Step`]. The caller takes the step and looks again, until
//! nothing is left to do; then it stores the status the [`Report`] describes. A crash between two steps therefore needs no
//! recovery of its own: the next look starts from what is there. Every write to a host carries the version that was looked
//! at here, so two managers that decide at once meet in the API server (cluster-and-machine.md 9.4).
//!
//! | stage | module | rules |
//! |---|---|---|
//! | who is asked, and may anything be done | here | M-10 to M-19 |
//! | pause and move | [`pause`] | M-20 to M-23 |
//! | host, claim, credentials | [`associate`] | M-30 to M-60, 9.4 |
//! | data and what the host is to run | [`provision`] | M-70 to M-85 |
//! | Node and providerID | [`node`] | M-88 to M-95 |
//! | letting go | [`release`] | M-100 to M-110 |
//! | who is woken for a free host | [`waiting`] | H-35 |

mod associate;
pub mod node;
mod pause;
mod provision;
mod release;
mod reuse;
pub mod rows;
#[cfg(test)]
mod tests;
pub mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine, MachineSet};
use capm3_api::infra::v1beta2::{Metal3Cluster, Metal3Data, Metal3DataClaim, Metal3Machine, Metal3MachineStatus};
use capm3_api::k8s::{ObjectMeta, Time, Timestamp};
use capm3_api::names::{annotation, condition, finalizer, label};
use serde_json::{Map, Value};

use crate::conditions::{self, Board, Findings, Row};
use crate::host::{self, MachineName};
use crate::placement::SelectorError;
use crate::planted::{Defect, sown};
use crate::ready;

pub use node::{Node, Nodes};
pub use pause::wants_host_status;
pub use provision::provider_id;
pub use release::forsaken;
pub use reuse::machine_set;
pub use rows::{LEGACY_PARTS, PARTS};

/// The safety net under a wait that an event ends.
pub const SAFETY_NET: Duration = Duration::from_secs(300);
/// How often to look where no event can tell.
pub const NO_EVENT: Duration = Duration::from_secs(30);
/// For so long after a machine got its host, that its cluster cannot be reached is no news: it may be the one that makes it so.
const COMING_UP: Duration = Duration::from_secs(300);
/// What this young an object waits for comes any moment: not worth a word yet.
const JUST_CREATED: Duration = Duration::from_secs(5);

/// Everything the decision may look at.
pub struct Observed<'a> {
    pub now: Timestamp,
    pub machine: &'a Metal3Machine,
    pub owner: Owner<'a>,
    pub cluster: Option<&'a Cluster>,
    pub infrastructure: Option<&'a Metal3Cluster>,
    pub machine_set: Option<&'a MachineSet>,
    /// The host that the machine's annotation names.
    pub host: Option<&'a BareMetalHost>,
    /// Every host of the namespace whose consumer is this machine, in name order.
    pub held: Vec<&'a BareMetalHost>,
    pub claim: Option<&'a Metal3DataClaim>,
    /// The Metal3Data that [`rendered_name`] names.
    pub data: Option<&'a Metal3Data>,
    pub fast_track: bool,
    /// Settles ties between hosts.
    pub pick: usize,
    /// The answer to [`Question::Candidates`].
    pub candidates: Option<Candidates<'a>>,
    pub answers: &'a Answers,
}

/// The hosts to choose from.
pub struct Candidates<'a> {
    /// All hosts of the namespace, in name order.
    pub hosts: Vec<&'a BareMetalHost>,
    /// The names of those that other machines go for.
    pub sought: &'a BTreeSet<String>,
}

/// The Machine this object belongs to.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    /// No owner reference yet.
    None,
    /// There is a reference, and no object of that name.
    Missing(&'a str),
    Machine(&'a Machine),
}

/// What was found out so far in answer to a [`Question`].
#[derive(Debug, Default)]
pub struct Answers {
    /// The machine was read or written in this pass: it is no memory of one that is gone.
    pub machine_is_live: bool,
    /// The hosts were listed live: `held` is the truth. Also set once this pass has released the last one.
    pub hosts_are_live: bool,
    /// The claim was read live: when there is none, there is none.
    pub claim_is_live: bool,
    pub credentials: Option<Credentials>,
    /// The resourceVersion of the Secret that was read for [`Self::credentials`].
    pub credentials_version: Option<String>,
    /// Whether Secrets that the user names exist, by name.
    pub secrets: BTreeMap<String, bool>,
    /// The host's status as JSON without its hardware.
    pub host_status: Option<String>,
    pub nodes: Option<Nodes>,
    /// Name of the machine template that the control plane uses now.
    pub control_plane: Option<Option<String>>,
    /// `nodeReuse` of the owner's template; inner none when there is no such template.
    pub node_reuse: Option<Option<bool>>,
    /// The MachineSet was read live: when there is none, there is none.
    pub machine_set_is_live: bool,
    /// The claim that this pass wrote took a host that was kept for it.
    pub reused: bool,
    /// The host cannot be marked against moves just now, which is no reason to stop (M-16).
    pub move_is_open: bool,
}

/// The Secret with a host's BMC credentials, as far as its labels go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    Missing,
    Labelled(Option<String>),
}

/// What to do now, and what to say about it.
#[derive(Debug)]
pub struct Decision {
    pub step: Step,
    pub report: Report,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// One write; then look again.
    Do(Action),
    /// Find this out; then look again.
    Ask(Question),
    /// Nothing to do before something changes.
    Rest(Next),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether the machine is still there and the one that was looked at.
    MachineLive,
    Candidates,
    HostsLive,
    ClaimLive,
    Credentials {
        name: String,
    },
    /// Whether a Secret that the user names exists; what is in it concerns nobody here.
    Secret {
        name: String,
    },
    HostStatus {
        host: String,
    },
    Nodes,
    ControlPlane {
        api_version: String,
        kind: String,
        name: String,
    },
    NodeReuse {
        template: String,
    },
    /// A MachineSet that owns the machine and is not known.
    MachineSet {
        name: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Our own object: a merge patch on condition of the version that was looked at.
    Machine {
        purpose: Purpose,
        patch: Value,
    },
    /// A host: a merge patch on condition of the version that was looked at.
    Host {
        purpose: Purpose,
        name: String,
        version: Version,
        patch: Value,
    },
    /// The cluster-name label of a BMC Secret that is still the one of this version.
    LabelCredentials {
        name: String,
        cluster: String,
        version: String,
    },
    /// Takes that label away if it names this cluster; of another, or without any, the Secret stays as it is.
    UnlabelCredentials {
        name: String,
        cluster: String,
        version: String,
    },
    CreateClaim(Box<Metal3DataClaim>),
    /// Takes our finalizer off the data claim.
    DropClaim {
        version: Version,
        finalizers: Vec<String>,
    },
    DeleteClaim {
        version: Version,
    },
    /// Names the Node of a workload cluster.
    NameNode {
        node: String,
        provider_id: String,
    },
}

/// Why an object is written. What a user sees of the write, should it fail, hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Finalizer and the name of the host it goes for: durable before anything outside is touched.
    Intend,
    Claim {
        reused: bool,
    },
    /// Image, data and power of a claimed host.
    Provision,
    /// No `clusterctl move` takes a host while its machine is looked after.
    BlockMove,
    /// The same as the first step of a pause.
    HoldMove,
    PauseHost,
    UnblockMove,
    UnpauseHost,
    /// `spec.providerID`.
    Identify,
    /// Takes the image and the data off a host, which makes the host operator wipe it.
    Clear,
    /// Makes the version of a host another, on which a claim may depend that is still on its way.
    Fence,
    Release {
        reserved: bool,
    },
    /// The finalizer goes: nothing of the machine is left outside.
    Forget,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl Version {
    pub fn of(meta: &ObjectMeta) -> Self {
        Self { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Done,
    After(Duration),
    /// What is wrong has to be put right by somebody.
    Failed(Problem),
}

/// What a machine cannot get past by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("Machine {0} does not exist")]
    OwnerMissing(String),
    #[error("annotation metal3.io/BareMetalHost is {0:?}, not <namespace>/<name>")]
    Annotation(String),
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error("spec.{field} names {name} in namespace {namespace}, which is not the machine's own")]
    ForeignNamespace { field: &'static str, name: String, namespace: String },
    #[error("spec.dataTemplate has no name")]
    TemplateUnnamed,
    #[error("neither spec.image nor spec.customDeploy is set")]
    NothingToDeploy,
    #[error("Nodes {nodes} share the label metal3.io/uuid={uid}")]
    SharedHostLabel { nodes: String, uid: String },
    #[error("Node {node} has providerID {found}, expected {expected}")]
    OtherProviderId { node: String, found: String, expected: String },
    #[error("more than one Node has a providerID of host {prefix}: {nodes}")]
    SharedProviderId { prefix: String, nodes: String },
}

impl Problem {
    /// Stable, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::OwnerMissing(_) => "OwnerMissing",
            Self::Annotation(_) => "HostAnnotation",
            Self::Selector(_) => "HostSelector",
            Self::ForeignNamespace { .. } => "ForeignNamespace",
            Self::TemplateUnnamed => "DataTemplate",
            Self::NothingToDeploy => "NothingToDeploy",
            Self::SharedHostLabel { .. } => "SharedHostLabel",
            Self::OtherProviderId { .. } => "OtherProviderID",
            Self::SharedProviderId { .. } => "SharedProviderID",
        }
    }
}

type Flow<T> = ControlFlow<Step, T>;
use ControlFlow::{Break, Continue};

fn rest<T>(next: Next) -> Flow<T> {
    Break(Step::Rest(next))
}

fn act<T>(action: Action) -> Flow<T> {
    Break(Step::Do(action))
}

fn ask<T>(question: Question) -> Flow<T> {
    Break(Step::Ask(question))
}

/// What the machine says about itself at the end of a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub findings: Findings,
    /// Everything but the conditions, as it should be stored.
    pub status: Metal3MachineStatus,
    /// Something went wrong that somebody should look at; mere waiting is not.
    pub trouble: bool,
}

impl Report {
    fn say(&mut self, row: Row, message: impl Into<String>) {
        self.findings.say(row, message);
    }

    /// Takes back what was said: the status stays as it is stored.
    fn say_nothing(&mut self, o: &Observed<'_>) {
        *self = Self { status: o.machine.status.clone().unwrap_or_default(), ..Self::default() };
    }

    fn alarm(&mut self, row: Row, message: impl Into<String>) {
        self.trouble = true;
        self.say(row, message);
    }

    fn fail<T>(&mut self, row: Row, problem: Problem) -> Flow<T> {
        self.alarm(row, problem.to_string());
        rest(Next::Failed(problem))
    }

    /// The write for `purpose` failed with `error`.
    pub fn write_failed(&mut self, action: &Action, settled: bool, error: &str) {
        let update = if settled { rows::UPDATE_FAILED } else { rows::CREATE_FAILED };
        let rows: &[Row] = match action {
            Action::Machine { purpose, .. } | Action::Host { purpose, .. } => match purpose {
                Purpose::Intend | Purpose::Claim { .. } => &[rows::ASSOCIATE_FAILED],
                Purpose::Provision | Purpose::Identify => &[update],
                Purpose::BlockMove => &[],
                Purpose::HoldMove | Purpose::PauseHost | Purpose::UnblockMove => &rows::PAUSE_SET_FAILED,
                Purpose::UnpauseHost => &rows::PAUSE_REMOVE_FAILED,
                Purpose::Clear | Purpose::Fence | Purpose::Release { .. } | Purpose::Forget => &[rows::DELETION_FAILED],
            },
            Action::LabelCredentials { .. } => &[rows::ASSOCIATE_FAILED],
            Action::UnlabelCredentials { .. } => &[rows::DELETION_FAILED],
            Action::CreateClaim(_) => &[rows::METADATA_FAILED],
            Action::DropClaim { .. } | Action::DeleteClaim { .. } => &[rows::DISASSOCIATE_FAILED],
            Action::NameNode { .. } => &[update],
        };
        for row in rows {
            self.alarm(*row, error);
        }
    }

    /// What was asked could not be found out.
    pub fn read_failed(&mut self, question: &Question, error: &str) {
        let rows: &[Row] = match question {
            Question::Candidates | Question::Credentials { .. } | Question::MachineSet { .. } => {
                &[rows::ASSOCIATE_FAILED]
            }
            Question::HostStatus { .. } => &rows::PAUSE_SET_FAILED,
            Question::Secret { .. } => &[rows::METADATA_FAILED],
            Question::Nodes => &[rows::CREATE_FAILED],
            Question::ClaimLive => &[rows::DISASSOCIATE_FAILED],
            Question::MachineLive => &[],
            Question::HostsLive | Question::ControlPlane { .. } | Question::NodeReuse { .. } => {
                &[rows::DELETION_FAILED]
            }
        };
        for row in rows {
            self.alarm(*row, error);
        }
    }

    /// The status to store: equal to the one that is there when nothing but time has passed.
    pub fn status(&self, machine: &Metal3Machine, now: Timestamp) -> Metal3MachineStatus {
        let before = machine.status.clone().unwrap_or_default();
        let mut status = self.status.clone();
        if self.findings.is_empty() && status == before && !sown(Defect::StatusAlwaysStamped) {
            return before;
        }
        let mut deprecated = status.deprecated.take().unwrap_or_default();
        let v1beta1 = deprecated.v1beta1.get_or_insert_default();
        v1beta1.failure_reason = None; // a pass that got here is not a terminal failure (H-25)
        v1beta1.failure_message = None;
        let mut board = Board {
            current: &mut status.conditions,
            legacy: &mut v1beta1.conditions,
            generation: machine.metadata.generation,
            now,
        };
        conditions::write(&mut board, &self.findings, &PARTS, &LEGACY_PARTS);
        let has_legacy = !v1beta1.conditions.is_empty();
        status.deprecated = has_legacy.then_some(deprecated);
        let stamped = sown(Defect::StatusAlwaysStamped);
        if status != before || stamped || ready::is_stale(&machine.metadata, before.observed_generation) {
            status.observed_generation = machine.metadata.generation;
            status.last_updated = Some(Time(conditions::whole_second(now)));
        }
        status
    }
}

/// The next step of a machine's life.
pub fn decide(o: &Observed<'_>) -> Decision {
    let mut report = Report { status: o.machine.status.clone().unwrap_or_default(), ..Report::default() };
    let (Continue(step) | Break(step)) = life(o, &mut report);
    let step = match step {
        Step::Do(action)
            if action.speaks_for_the_machine() && !o.answers.machine_is_live && !sown(Defect::MachineNotLookedAt) =>
        {
            Step::Ask(Question::MachineLive)
        }
        step => step,
    };
    Decision { step, report }
}

impl Action {
    /// Whether a disk, or what a later machine of the same name may hold by now, is at stake. Hosts name their machine without its
    /// uid and a claim has its name, so their versions alone do not tell a machine from a later one (I7): such a write is for a machine
    /// that is known to be there.
    fn speaks_for_the_machine(&self) -> bool {
        match self {
            Self::Host { purpose, .. } => {
                matches!(purpose, Purpose::Claim { .. } | Purpose::Clear | Purpose::Release { .. })
            }
            Self::DropClaim { .. } | Self::DeleteClaim { .. } => true,
            Self::Machine { .. }
            | Self::LabelCredentials { .. }
            | Self::UnlabelCredentials { .. }
            | Self::CreateClaim(_)
            | Self::NameNode { .. } => false,
        }
    }
}

fn life(o: &Observed<'_>, r: &mut Report) -> Flow<Step> {
    if o.machine.metadata.deletion_timestamp.is_some() {
        return release::let_go(o, r);
    }
    let owner = owner(o, r)?;
    let cluster = ready_cluster(o, r, owner)?;
    pause::stop_if_paused(o, r)?;
    if o.is_settled() {
        r.say(rows::METADATA_ASSOCIATED, "");
    } else {
        associate::wait_for_bootstrap(o, r, owner)?;
    }
    let host = associate::host(o, r, owner, cluster)?;
    if !(o.is_provisioned() && o.provider_id().is_some()) {
        r.findings.expect(rows::WAITING_TO_RUN, node::awaited(o, host));
    }
    provision::data_claim(o, r)?;
    provision::let_render(o, r)?;
    associate::complete(o, r, owner, host)?;
    provision::wait_for_data(o, r)?;
    provision::host_spec(o, r, owner, host)?;
    if o.is_settled() && !sown(Defect::ProvisionedFollowsNode) {
        return rest(Next::Done);
    }
    node::link(o, r, owner, host)
}

fn owner<'a>(o: &Observed<'a>, r: &mut Report) -> Flow<&'a Machine> {
    match o.owner {
        Owner::Machine(machine) => Continue(machine),
        Owner::Missing(name) => rest(Next::Failed(Problem::OwnerMissing(name.to_owned()))),
        Owner::None => {
            if o.is_young(&o.machine.metadata) {
                return rest(Next::After(JUST_CREATED));
            }
            r.say(rows::WAITING_FOR_OWNER, "waiting for the Machine that owns it");
            rest(Next::Done)
        }
    }
}

/// The Cluster, once its infrastructure is there (M-13 to M-15, H-24, H-33).
fn ready_cluster<'a>(o: &Observed<'a>, r: &mut Report, owner: &Machine) -> Flow<&'a Cluster> {
    let Some(cluster) = o.cluster else {
        let name = owner.metadata.labels.as_ref().and_then(|labels| labels.get(label::CLUSTER_NAME));
        let message = match name {
            Some(name) => format!("Cluster {name} does not exist"),
            None => format!("Machine {} has no label {}", o.name(), label::CLUSTER_NAME),
        };
        r.say(rows::WAITING_FOR_CLUSTER, message);
        return rest(Next::Done);
    };
    if !infrastructure_is_ready(cluster) {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        r.say(rows::WAITING_FOR_INFRASTRUCTURE, format!("waiting for the infrastructure of Cluster {name}"));
        return rest(Next::Done);
    }
    if o.infrastructure.is_none() {
        let name = cluster.spec.infrastructure_ref.as_ref().map_or("", |reference| reference.name.as_str());
        r.say(rows::WAITING_FOR_METAL3_CLUSTER, format!("Metal3Cluster {name} does not exist"));
        return rest(Next::Done);
    }
    Continue(cluster)
}

fn infrastructure_is_ready(cluster: &Cluster) -> bool {
    let Some(status) = &cluster.status else { return false };
    let provisioned = status.initialization.as_ref().and_then(|i| i.infrastructure_provisioned) == Some(true);
    let deprecated = status.deprecated.as_ref().and_then(|d| d.v1beta1.as_ref());
    provisioned || deprecated.is_some_and(|d| conditions::is_true_legacy(&d.conditions, "InfrastructureReady"))
}

/// The Metal3Data of the machine: the one it remembers, else the one its claim was answered with.
pub fn rendered_name<'a>(machine: &'a Metal3Machine, claim: Option<&'a Metal3DataClaim>) -> Option<&'a str> {
    let remembered = machine.status.as_ref().and_then(|status| status.rendered_data.as_ref());
    let answered = || claim?.status.as_ref()?.rendered_data.as_ref();
    remembered.or_else(answered).map(|reference| reference.name.as_str()).filter(|name| !name.is_empty())
}

/// The name of the host in the machine's annotation (M-60): the namespace is always the machine's own.
pub fn host_name(machine: &Metal3Machine) -> Result<Option<&str>, Problem> {
    let Some(value) = machine.metadata.annotations.as_ref().and_then(|a| a.get(annotation::HOST)) else {
        return Ok(None);
    };
    match value.split('/').collect::<Vec<_>>()[..] {
        [name] | [_, name] if !name.is_empty() => Ok(Some(name)),
        _ => Err(Problem::Annotation(value.clone())),
    }
}

/// Whether an earlier pass got as far as handing something to a host.
pub fn was_associated(machine: &Metal3Machine) -> bool {
    let status = machine.status.as_ref();
    machine.spec.provider_id.as_deref().is_some_and(|id| !id.is_empty())
        || status
            .is_some_and(|s| s.user_data.is_some() || conditions::is_true(&s.conditions, condition::ASSOCIATE_HOST))
}

/// Whether the status says that a step of the way out failed: a report from before that step would take it back, the next failure
/// would bring it back, and each would wake the machine at once.
#[must_use]
pub fn is_stuck_leaving(machine: &Metal3Machine) -> bool {
    let conditions = machine.status.iter().flat_map(|status| &status.conditions);
    let failures = [rows::DELETION_FAILED, rows::DISASSOCIATE_FAILED];
    conditions
        .filter(|condition| condition.status == "False")
        .any(|condition| failures.iter().any(|row| (row.kind, row.reason) == (&*condition.type_, &*condition.reason)))
}

impl<'a> Observed<'a> {
    fn namespace(&self) -> &'a str {
        self.machine.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &'a str {
        self.machine.metadata.name.as_deref().unwrap_or_default()
    }

    fn machine_name(&self) -> MachineName<'a> {
        MachineName { namespace: self.namespace(), name: self.name() }
    }

    fn is_young(&self, meta: &ObjectMeta) -> bool {
        let age = meta.creation_timestamp.as_ref().map(|created| self.now.duration_since(created.0));
        age.is_some_and(|age| age.unsigned_abs() < JUST_CREATED)
    }

    /// The annotated host, when it is this machine's.
    fn own_host(&self) -> Option<&'a BareMetalHost> {
        self.host.filter(|h| host::is_held_by(h, self.machine_name()))
    }

    fn has_finalizer(&self) -> bool {
        self.machine.metadata.finalizers.iter().flatten().any(|f| f == finalizer::MACHINE)
    }

    fn is_provisioned(&self) -> bool {
        let status = self.machine.status.as_ref();
        status.and_then(|s| s.initialization.as_ref()).and_then(|i| i.provisioned) == Some(true)
    }

    fn provider_id(&self) -> Option<&'a str> {
        self.machine.spec.provider_id.as_deref().filter(|id| !id.is_empty())
    }

    /// Provisioned, named and joined: only upkeep is left (M-31).
    pub fn is_settled(&self) -> bool {
        let Owner::Machine(owner) = self.owner else { return false };
        let joined = owner.status.as_ref().and_then(|s| s.node_ref.as_ref()).is_some_and(|node| !node.name.is_empty());
        self.is_provisioned() && self.provider_id().is_some() && joined
    }

    fn was_associated(&self) -> bool {
        was_associated(self.machine)
    }

    /// A patch of a host on condition of what was looked at.
    fn host_patch(&self, purpose: Purpose, host: &BareMetalHost, patch: Value) -> Action {
        let name = host.metadata.name.clone().unwrap_or_default();
        Action::Host { purpose, name, version: Version::of(&host.metadata), patch }
    }
}

/// A JSON object from the pairs whose value is there.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}
