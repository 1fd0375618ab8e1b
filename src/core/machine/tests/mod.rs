//! The machine's life against a small model of the world: every write is a merge patch that lands, every question is answered
//! from what is there, and a crash forgets whatever a pass had in its head.
//!
//! The stages are tested each in the file of its name, as far as they have one among the decisions.

mod asked;
mod associate;
mod choice;
mod contract;
mod crash;
mod node;
mod pause;
mod provision;
mod release;

use std::collections::BTreeSet;

use capm3_api::common::{NamespacedRef, SecretRef};
use capm3_api::foreign::{
    Bootstrap, ClusterInitialization, ClusterStatus, ContractRef, HostBmc, HostHardware, HostNic, HostProvisioning,
    MachineStatus, MachineTemplateBody, NameRef,
};
use capm3_api::infra::v1beta2::{CustomDeploy, HostSelector, HostSelectorRequirement, Image, Metal3DataStatus};
use capm3_api::k8s::{ObjectReference, OwnerReference};
use capm3_api::names::{CAPI_CONTROL_PLANE_GROUP, CAPI_GROUP, condition, host_state};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;

const PROVIDER_ID: &str = "metal3://ns/host-0/m1";

/// One machine with everything around it, in namespace `ns`.
#[derive(Clone)]
struct World {
    machine: Option<Metal3Machine>,
    owner: Option<Machine>,
    cluster: Option<Cluster>,
    infrastructure: Option<Metal3Cluster>,
    machine_set: Option<MachineSet>,
    hosts: Vec<BareMetalHost>,
    claim: Option<Metal3DataClaim>,
    data: Option<Metal3Data>,
    credentials: Credentials,
    /// What the labels of the credentials were conditional on.
    versions: Vec<String>,
    /// Secrets that exist, but for the hosts' and the machine's bootstrap data.
    secrets: BTreeSet<String>,
    nodes: Nodes,
    control_plane: Option<String>,
    node_reuse: Option<bool>,
    fast_track: bool,
    pick: usize,
    /// What happened, in the order in which it happened.
    writes: Vec<String>,
    asked: Vec<Question>,
    version: u64,
}

/// How a pass ended.
#[derive(Debug, PartialEq)]
enum End {
    Rest(Next),
    Gone,
    Crash,
    /// A write, or a question, got this answer.
    Refused,
}

/// What becomes of a write on its way.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Lands,
    Crash,
    Refused,
}

fn meta(mut meta: ObjectMeta, version: u64) -> ObjectMeta {
    meta.uid = Some(format!("uid-{}", meta.name.as_deref().unwrap_or_default()));
    meta.resource_version = Some(version.to_string());
    meta
}

fn reference(group: &str, kind: &str, name: &str) -> OwnerReference {
    OwnerReference {
        api_version: format!("{group}/v1beta2"),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        ..OwnerReference::default()
    }
}

fn consumer(name: &str) -> Option<ObjectReference> {
    Some(ObjectReference {
        api_version: Some("infrastructure.cluster.x-k8s.io/v1beta2".to_owned()),
        kind: Some("Metal3Machine".to_owned()),
        namespace: Some("ns".to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    })
}

fn host(name: &str, state: &str) -> BareMetalHost {
    let mut host = BareMetalHost::named("ns", name);
    host.metadata = meta(host.metadata, 1);
    host.spec.bmc = Some(HostBmc { credentials_name: Some(format!("{name}-bmc")), ..HostBmc::default() });
    host.spec.online = Some(true);
    let nic = HostNic { ip: Some("192.0.2.7".to_owned()), ..HostNic::default() };
    let status = host.status.get_or_insert_default();
    status.provisioning = Some(HostProvisioning { state: state.to_owned(), ..HostProvisioning::default() });
    status.hardware =
        Some(HostHardware { hostname: Some("worker-0".to_owned()), nics: vec![nic], ..HostHardware::default() });
    host
}

fn node(name: &str, labels: &[(&str, &str)], provider_id: Option<&str>) -> Node {
    Node {
        name: name.to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        provider_id: provider_id.map(str::to_owned),
    }
}

fn labelled_node(provider_id: Option<&str>) -> Node {
    node("node-a", &[(label::HOST_UUID, "uid-host-0")], provider_id)
}

impl World {
    /// A worker whose cluster is there, whose bootstrap data is ready, and one free host.
    fn new() -> Self {
        let mut machine = Metal3Machine::named("ns", "m1");
        machine.metadata = meta(machine.metadata, 1);
        machine.metadata.generation = Some(1);
        machine.metadata.labels = Some([(label::CLUSTER_NAME.to_owned(), "prod".to_owned())].into());
        machine.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "Machine", "m1")]);
        machine.spec.image = Some(Image { url: "http://192.0.2.1/image.qcow2".to_owned(), ..Image::default() });

        let mut owner = Machine::named("ns", "m1");
        owner.metadata.labels = machine.metadata.labels.clone();
        owner.spec.cluster_name = "prod".to_owned();
        owner.spec.bootstrap = Some(Bootstrap {
            config_ref: Some(ContractRef { kind: "KubeadmConfig".to_owned(), name: "m1".to_owned(), api_group: None }),
            data_secret_name: Some("m1-bootstrap".to_owned()),
        });

        let mut cluster = Cluster::named("ns", "prod");
        let initialization =
            Some(ClusterInitialization { infrastructure_provisioned: Some(true), ..ClusterInitialization::default() });
        cluster.status = Some(ClusterStatus { initialization, ..ClusterStatus::default() });

        Self {
            machine: Some(machine),
            owner: Some(owner),
            cluster: Some(cluster),
            infrastructure: Some(Metal3Cluster::named("ns", "prod")),
            machine_set: None,
            hosts: vec![host("host-0", host_state::AVAILABLE)],
            claim: None,
            data: None,
            credentials: Credentials::Labelled(None),
            versions: Vec::new(),
            secrets: ["net", "own"].map(str::to_owned).into(),
            nodes: Nodes::Listed(Vec::new()),
            control_plane: None,
            node_reuse: None,
            fast_track: false,
            pick: 0,
            writes: Vec::new(),
            asked: Vec::new(),
            version: 100,
        }
    }

    /// The same with a data template.
    fn with_template() -> Self {
        let mut world = Self::new();
        world.m3m().spec.data_template = Some(NamespacedRef::named("template"));
        world
    }

    /// With host-0 claimed, deployed and provisioned for m1.
    fn running() -> Self {
        let mut world = Self::new();
        assert_eq!(world.pass(), End::Rest(Next::Done));
        world.set_state(host_state::PROVISIONED);
        world.writes.clear();
        world
    }

    /// The same, being deleted.
    fn leaving() -> Self {
        let mut world = Self::running();
        world.delete();
        world
    }

    /// With the host as [`World::leaving`] leaves it after the first pass and the given state.
    fn cleared(state: &str) -> Self {
        let mut world = Self::leaving();
        world.pass();
        world.set_state(state);
        world.writes.clear();
        world
    }

    fn m3m(&mut self) -> &mut Metal3Machine {
        self.machine.as_mut().unwrap()
    }

    fn host(&mut self) -> &mut BareMetalHost {
        &mut self.hosts[0]
    }

    fn owner(&mut self) -> &mut Machine {
        self.owner.as_mut().unwrap()
    }

    fn status(&self) -> Metal3MachineStatus {
        self.machine.clone().and_then(|machine| machine.status).unwrap_or_default()
    }

    fn delete(&mut self) {
        self.m3m().metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    }

    fn set_state(&mut self, state: &str) {
        let status = self.host().status.get_or_insert_default();
        status.provisioning = Some(HostProvisioning { state: state.to_owned(), ..HostProvisioning::default() });
    }

    fn annotate(&mut self, key: &str, value: &str) {
        self.m3m().metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    }

    fn annotate_host(&mut self, key: &str, value: &str) {
        self.host().metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    }

    fn host_annotation(&self, key: &str) -> Option<&str> {
        host::annotated(&self.hosts[0], key)
    }

    fn pause(&mut self, paused: bool) {
        self.cluster.as_mut().unwrap().spec.paused = Some(paused);
    }

    fn render(&mut self) {
        self.claim.as_mut().unwrap().status =
            Some(from(json!({ "renderedData": { "name": "template-0", "namespace": "ns" } })));
        let mut data = Metal3Data::named("ns", "template-0");
        data.spec.meta_data = Some(SecretRef::new("ns", "m1-metadata"));
        data.spec.network_data = Some(SecretRef::new("ns", "m1-networkdata"));
        data.status = Some(Metal3DataStatus { ready: Some(true), ..Metal3DataStatus::default() });
        self.data = Some(data);
    }

    fn join(&mut self) {
        let node_ref = Some(NameRef { name: "node-a".to_owned() });
        self.owner().status = Some(MachineStatus { node_ref, ..MachineStatus::default() });
    }

    /// `status`, `reason` and message of a condition.
    fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let status = self.status();
        conditions::get(&status.conditions, kind).map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
    }

    #[track_caller]
    fn says(&self, kind: &str, status: &str, reason: &str) {
        let actual = self.condition(kind).map(|(status, reason, _)| (status, reason));
        assert_eq!(actual, Some((status.to_owned(), reason.to_owned())), "{kind}");
    }

    fn message(&self, kind: &str) -> String {
        self.condition(kind).map(|(_, _, message)| message).unwrap_or_default()
    }

    fn legacy(&self, kind: &str) -> Option<(String, Option<String>)> {
        let legacy = self.status().deprecated.and_then(|d| d.v1beta1)?;
        let found = legacy.conditions.into_iter().find(|c| c.type_ == kind)?;
        Some((found.status, found.reason))
    }

    fn severity(&self, kind: &str) -> Option<String> {
        let legacy = self.status().deprecated.and_then(|d| d.v1beta1)?;
        legacy.conditions.into_iter().find(|c| c.type_ == kind)?.severity
    }

    fn pass(&mut self) -> End {
        self.pass_until(usize::MAX)
    }

    /// One pass that ends early after `crash` writes.
    fn pass_until(&mut self, crash: usize) -> End {
        let mut writes = 0;
        self.run(
            |_| {
                writes += 1;
                if writes > crash { Fate::Crash } else { Fate::Lands }
            },
            |_| true,
        )
    }

    /// One pass in which the writes that are meant are refused, as the controllers take it.
    fn pass_refusing(&mut self, meant: impl Fn(&Action) -> bool) -> End {
        self.run(|action| if meant(action) { Fate::Refused } else { Fate::Lands }, |_| true)
    }

    /// One pass in which the questions that are meant are not answered.
    fn pass_unanswered(&mut self, meant: impl Fn(&Question) -> bool) -> End {
        self.run(|_| Fate::Lands, |question| !meant(question))
    }

    fn store(&mut self, report: &Report) {
        let machine = self.m3m().clone();
        let status = report.status(&machine, Timestamp::UNIX_EPOCH);
        if status != machine.status.unwrap_or_default() {
            self.writes.push("status".to_owned());
            self.m3m().status = Some(status);
        }
    }

    fn run(&mut self, mut fate: impl FnMut(&Action) -> Fate, answered: impl Fn(&Question) -> bool) -> End {
        let mut answers = Answers::default();
        let mut choosing = false;
        for _ in 0..60 {
            let Some(machine) = self.machine.clone() else { return End::Gone };
            let mut decision = decide(&self.observed(&machine, &answers, choosing));
            match decision.step {
                Step::Rest(next) => {
                    self.store(&decision.report);
                    return End::Rest(next);
                }
                Step::Ask(question) if !answered(&question) => {
                    decision.report.read_failed(&question, "no answer");
                    self.store(&decision.report);
                    return End::Refused;
                }
                Step::Ask(question) => {
                    choosing |= question == Question::Candidates;
                    self.answer(&question, &mut answers);
                    self.asked.push(question);
                }
                Step::Do(action) => match fate(&action) {
                    Fate::Lands => self.apply(&action, &mut answers),
                    Fate::Crash => return End::Crash,
                    Fate::Refused if matches!(action, Action::Host { purpose: Purpose::BlockMove, .. }) => {
                        answers.move_is_open = true;
                    }
                    Fate::Refused => {
                        let settled = self.observed(&machine, &answers, choosing).is_settled();
                        decision.report.write_failed(&action, settled, "no");
                        self.store(&decision.report);
                        return End::Refused;
                    }
                },
            }
        }
        panic!("no rest after {:?}", self.writes)
    }

    fn observed<'a>(&'a self, machine: &'a Metal3Machine, answers: &'a Answers, choosing: bool) -> Observed<'a> {
        static NOBODY: BTreeSet<String> = BTreeSet::new();
        let named = host_name(machine).ok().flatten();
        let ours = MachineName { namespace: "ns", name: "m1" };
        let owner = machine.metadata.owner_references.as_ref().and_then(|owners| owners.first());
        let hosts = || self.hosts.iter();
        Observed {
            now: Timestamp::from_second(3600).unwrap(),
            machine,
            owner: match (&self.owner, owner) {
                (Some(owner), Some(_)) => Owner::Machine(owner),
                (None, Some(reference)) => Owner::Missing(&reference.name),
                (_, None) => Owner::None,
            },
            cluster: self.cluster.as_ref(),
            infrastructure: self.infrastructure.as_ref(),
            machine_set: self.machine_set.as_ref(),
            host: hosts().find(|host| host.metadata.name.as_deref() == named && named.is_some()),
            held: hosts().filter(|host| host::is_held_by(host, ours)).collect(),
            claim: self.claim.as_ref(),
            data: self.data.as_ref(),
            fast_track: self.fast_track,
            pick: self.pick,
            candidates: choosing.then(|| Candidates { hosts: hosts().collect(), sought: &NOBODY }),
            answers,
        }
    }

    fn answer(&self, question: &Question, answers: &mut Answers) {
        match question {
            Question::Candidates => {} // shown by the caller
            Question::MachineLive => answers.machine_is_live = true,
            Question::HostsLive => answers.hosts_are_live = true,
            Question::ClaimLive => answers.claim_is_live = true,
            Question::Credentials { .. } => {
                answers.credentials = Some(self.credentials.clone());
                answers.credentials_version = Some("7".to_owned());
            }
            Question::Secret { name } => {
                answers.secrets.insert(name.clone(), self.secrets.contains(name));
            }
            Question::HostStatus { .. } => answers.host_status = Some("{\"poweredOn\":true}".to_owned()),
            Question::Nodes => answers.nodes = Some(self.nodes.clone()),
            Question::ControlPlane { .. } => answers.control_plane = Some(self.control_plane.clone()),
            Question::MachineSet { .. } => answers.machine_set_is_live = true,
            Question::NodeReuse { .. } => answers.node_reuse = Some(self.node_reuse),
        }
    }

    fn apply(&mut self, action: &Action, answers: &mut Answers) {
        self.version += 1;
        match action {
            Action::Machine { purpose, patch } => {
                answers.machine_is_live = true;
                self.writes.push(format!("{purpose:?}"));
                let patched = self.patched(self.machine.clone().unwrap(), patch);
                let gone = patched.metadata.finalizers.iter().flatten().next().is_none()
                    && patched.metadata.deletion_timestamp.is_some();
                self.machine = (!gone).then_some(patched);
            }
            Action::Host { purpose, name, version, patch } => {
                self.writes.push(format!("{purpose:?} {name}"));
                let at = self.hosts.iter().position(|host| host.metadata.name.as_deref() == Some(name)).unwrap();
                let ObjectMeta { uid, resource_version, .. } = self.hosts[at].metadata.clone();
                assert_eq!(*version, Version { uid, resource_version }, "a host write carries what was looked at");
                self.hosts[at] = self.patched(self.hosts[at].clone(), patch);
                answers.host_status = None;
                match purpose {
                    Purpose::Claim { reused } => answers.reused = *reused,
                    Purpose::Release { .. } => answers.hosts_are_live = true,
                    _ => {}
                }
            }
            Action::LabelCredentials { .. } if self.credentials == Credentials::Missing => {
                answers.credentials = Some(Credentials::Missing); // the write is refused and the caller looks
            }
            Action::LabelCredentials { cluster, version, .. } => {
                self.versions.push(version.clone());
                self.writes.push(format!("credentials {cluster}"));
                self.credentials = Credentials::Labelled(Some(cluster.clone()));
                answers.credentials = Some(self.credentials.clone());
            }
            Action::UnlabelCredentials { cluster, .. } => {
                self.writes.push("credentials".to_owned());
                if self.credentials == Credentials::Labelled(Some(cluster.clone())) {
                    self.credentials = Credentials::Labelled(None);
                }
                answers.credentials = Some(Credentials::Labelled(None));
            }
            Action::CreateClaim(claim) => {
                self.writes.push("CreateClaim".to_owned());
                self.claim = Some(from(serde_json::to_value(claim).unwrap()));
            }
            Action::DropClaim { finalizers, .. } => {
                self.writes.push("DropClaim".to_owned());
                self.claim.as_mut().unwrap().metadata.finalizers = Some(finalizers.clone());
            }
            Action::DeleteClaim { .. } => {
                self.writes.push("DeleteClaim".to_owned());
                self.claim = None;
                answers.claim_is_live = true;
            }
            Action::NameNode { node, provider_id } => {
                self.writes.push(format!("NameNode {node}"));
                for nodes in [Some(&mut self.nodes), answers.nodes.as_mut()].into_iter().flatten() {
                    let Nodes::Listed(nodes) = nodes else { continue };
                    nodes
                        .iter_mut()
                        .filter(|n| n.name == *node)
                        .for_each(|n| n.provider_id = Some(provider_id.clone()));
                }
            }
        }
    }

    fn patched<T: Serialize + DeserializeOwned>(&self, object: T, patch: &Value) -> T {
        let mut value = serde_json::to_value(object).unwrap();
        merge(&mut value, patch);
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        from(value)
    }
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(target.as_object_mut().unwrap().entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

const ASSOCIATE: &str = condition::ASSOCIATE_HOST;
const METADATA: &str = condition::ASSOCIATE_METADATA;
const DATA: &str = condition::DATA_READY;
const WAIT: End = End::Rest(Next::After(SAFETY_NET));
const DONE: End = End::Rest(Next::Done);

fn reusing(control_plane: bool) -> World {
    let mut world = World::cleared(host_state::AVAILABLE);
    if control_plane {
        let labels = world.owner().metadata.labels.get_or_insert_default();
        labels.insert(label::CONTROL_PLANE.to_owned(), String::new());
        world.owner().metadata.owner_references =
            Some(vec![reference(CAPI_CONTROL_PLANE_GROUP, "KubeadmControlPlane", "test1")]);
        world.control_plane = Some("template".to_owned());
    } else {
        let mut set = MachineSet::named("ns", "set");
        set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
        set.spec.template = Some(MachineTemplateBody {
            spec: Some(from(json!({ "infrastructureRef": { "kind": "Metal3MachineTemplate", "name": "template" } }))),
        });
        world.machine_set = Some(set);
    }
    world.node_reuse = Some(true);
    world
}
