//! The machine's life against a small model of the world: every write is a merge patch that lands, every question is answered
//! from what is there, and a crash forgets whatever a pass had in its head.

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
    /// Secrets that exist, but for the hosts' and the machine's bootstrap data.
    secrets: BTreeSet<String>,
    nodes: Nodes,
    control_plane: Option<String>,
    node_reuse: Option<bool>,
    fast_track: bool,
    /// What happened, in the order in which it happened.
    writes: Vec<String>,
    version: u64,
}

/// How a pass ended.
#[derive(Debug, PartialEq)]
enum End {
    Rest(Next),
    Gone,
    Crash,
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
            secrets: ["net", "own"].map(str::to_owned).into(),
            nodes: Nodes::Listed(Vec::new()),
            control_plane: None,
            node_reuse: None,
            fast_track: false,
            writes: Vec::new(),
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

    fn pass(&mut self) -> End {
        self.pass_until(usize::MAX)
    }

    /// One pass that ends early after `crash` writes.
    fn pass_until(&mut self, crash: usize) -> End {
        let mut answers = Answers::default();
        let mut choosing = false;
        let mut writes = 0;
        for _ in 0..60 {
            let Some(machine) = self.machine.clone() else { return End::Gone };
            let decision = decide(&self.observed(&machine, &answers, choosing));
            match decision.step {
                Step::Rest(next) => {
                    let status = decision.report.status(&machine, Timestamp::UNIX_EPOCH);
                    if status != machine.status.unwrap_or_default() {
                        self.writes.push("status".to_owned());
                        self.m3m().status = Some(status);
                    }
                    return End::Rest(next);
                }
                Step::Ask(Question::Candidates) => choosing = true,
                Step::Ask(question) => self.answer(&question, &mut answers),
                Step::Do(action) => {
                    if writes == crash {
                        return End::Crash;
                    }
                    writes += 1;
                    self.apply(&action, &mut answers);
                }
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
            pick: 0,
            candidates: choosing.then(|| Candidates { hosts: hosts().collect(), sought: &NOBODY }),
            answers,
        }
    }

    fn answer(&self, question: &Question, answers: &mut Answers) {
        match question {
            Question::Candidates => unreachable!("answered by the caller"),
            Question::MachineLive => answers.machine_is_live = true,
            Question::HostsLive => answers.hosts_are_live = true,
            Question::ClaimLive => answers.claim_is_live = true,
            Question::Credentials { .. } => answers.credentials = Some(self.credentials.clone()),
            Question::Secret { name } => {
                answers.secrets.insert(name.clone(), self.secrets.contains(name));
            }
            Question::HostStatus { .. } => answers.host_status = Some("{\"poweredOn\":true}".to_owned()),
            Question::Nodes => answers.nodes = Some(self.nodes.clone()),
            Question::ControlPlane { .. } => answers.control_plane = Some(self.control_plane.clone()),
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
                assert_eq!(*version, Version::of(&self.hosts[at].metadata), "a host write carries what was looked at");
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
            Action::LabelCredentials { cluster, .. } => {
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

// ---- who is asked -------------------------------------------------------------------------------------------------------

#[test]
fn a_i_2_without_an_owner_it_waits() {
    let mut world = World::new();
    world.m3m().metadata.owner_references = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForMetal3MachineOwnerRef");
    assert_eq!(world.message(ASSOCIATE), "waiting for the Machine that owns it");
    assert_eq!(world.legacy("AssociateBMH").unwrap().1.as_deref(), Some("WaitingForM3MachineOwnerRef"));
}

#[test]
fn an_owner_that_is_about_to_come_is_not_worth_a_write() {
    let mut world = World::new();
    world.m3m().metadata.owner_references = None;
    world.m3m().metadata.creation_timestamp = Some(Time(Timestamp::from_second(3598).unwrap()));
    assert_eq!(world.pass(), End::Rest(Next::After(JUST_CREATED)));
    assert!(world.writes.is_empty());
}

#[test]
fn a_i_3_a_missing_owner_is_an_error() {
    let mut world = World::new();
    world.owner = None;
    assert_eq!(world.pass(), End::Rest(Next::Failed(Problem::OwnerMissing("m1".to_owned()))));
    assert!(world.writes.is_empty());
}

/// The row expects empty failure fields; with H-24 they stay unset.
#[test]
fn a_i_4_a_missing_cluster_is_waited_for() {
    let mut world = World::new();
    world.cluster = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForClusterInfrastructureReady");
    assert_eq!(world.message(ASSOCIATE), "Cluster prod does not exist");
    assert_eq!(world.status().deprecated, None);
}

#[test]
fn a_i_5_and_n_22_infrastructure_must_be_ready() {
    let mut world = World::new();
    let ready = world.cluster.as_mut().unwrap().status.take();
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForClusterInfrastructureReady");
    world.says("Ready", "False", "NotReady");

    world.cluster.as_mut().unwrap().status = ready; // the deprecated condition is not needed
    world.pass();
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn m_14_the_deprecated_condition_will_do() {
    let mut world = World::new();
    let condition = json!({ "type": "InfrastructureReady", "status": "True" });
    world.cluster.as_mut().unwrap().status =
        Some(from(json!({ "deprecated": { "v1beta1": { "conditions": [condition] } } })));
    world.pass();
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_i_6_the_metal3_cluster_must_be_there() {
    let mut world = World::new();
    world.infrastructure = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingforMetal3Cluster");
}

/// The row also expects the finalizer; by 9.4 it comes with the intent, before which there is nothing to undo.
#[test]
fn a_i_7_a_mf_2_and_a_s_8_no_bootstrap_data_no_host() {
    let mut world = World::new();
    world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None;
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "False", "WaitingForBootstrapData");
    assert_eq!(world.message(ASSOCIATE), "waiting for the bootstrap data of Machine m1");
    assert_eq!(world.legacy("AssociateBMH").unwrap().1.as_deref(), Some("WaitingForBootstrapReady"));
    world.says("Ready", "False", "NotReady");
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_i_8_and_9_paused_by_cluster_or_by_annotation() {
    let mut world = World::new();
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    world.says("Paused", "True", "Paused");
    world.says("Ready", "False", "NotReady");
    assert_eq!(world.hosts[0].spec.consumer_ref, None);

    let mut world = World::new();
    world.annotate(annotation::PAUSED, "");
    assert_eq!(world.pass(), WAIT);
    world.says(ASSOCIATE, "False", "Paused");
}

#[test]
fn a_i_10_a_provisioned_machine_without_bootstrap_data_stays_provisioned() {
    let mut world = World::new();
    world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
    world.m3m().status = Some(from(json!({ "initialization": { "provisioned": true } })));
    world.owner().spec.bootstrap = None;
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.status().initialization.unwrap().provisioned, Some(true));
}

#[test]
fn a_i_22_and_23_a_malformed_annotation_says_so() {
    for (paused, reason) in
        [(false, "BareMetalHostPauseAnnotationRemoveFailed"), (true, "BareMetalHostPauseAnnotationSetFailed")]
    {
        let mut world = World::new();
        world.pause(paused);
        world.annotate(annotation::HOST, "a/b/c");
        assert_eq!(world.pass(), WAIT);
        world.says("Paused", "False", reason);
        world.says("Ready", "False", "NotReady");
        assert!(world.message(ASSOCIATE).contains("a/b/c"));
    }
}

// ---- association --------------------------------------------------------------------------------------------------------

#[test]
fn a_i_11_the_whole_host_in_one_claim() {
    let mut world = World::new();
    world.m3m().spec.image = Some(Image {
        url: "http://192.0.2.1/i".to_owned(),
        checksum: Some("http://192.0.2.1/i.sum".to_owned()),
        checksum_type: Some("sha256".to_owned()),
        disk_format: Some("qcow2".to_owned()),
    });
    assert_eq!(world.pass(), DONE);
    let host = &world.hosts[0];
    assert_eq!(host.spec.consumer_ref, consumer("m1"));
    let image = host.spec.image.clone().unwrap();
    assert_eq!(
        (image.url.as_str(), image.checksum.as_deref(), image.checksum_type.as_deref(), image.format.as_deref()),
        ("http://192.0.2.1/i", Some("http://192.0.2.1/i.sum"), Some("sha256"), Some("qcow2"))
    );
    assert_eq!(host.spec.user_data, Some(SecretRef::new("ns", "m1-bootstrap")));
    assert_eq!(host.spec.online, Some(true));
    assert_eq!(host::labelled(host, label::CLUSTER_NAME), Some("prod"));
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), Some(""));
    assert_eq!(world.writes, ["Intend", "Claim { reused: false } host-0", "credentials prod", "status"]);
    let machine = world.machine.clone().unwrap();
    assert_eq!(machine.metadata.finalizers, Some(vec![finalizer::MACHINE.to_owned()]));
    assert_eq!(machine.metadata.annotations.unwrap()[annotation::HOST], "ns/host-0");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
    assert_eq!(world.legacy("AssociateBMH"), Some(("True".to_owned(), None)));
}

#[test]
fn a_i_12_a_hs_6_and_n_13_empty_members_of_the_image_are_not_sent() {
    let mut world = World::new();
    world.set_state(host_state::READY);
    let image = world.m3m().spec.image.as_mut().unwrap();
    (image.disk_format, image.checksum) = (Some(String::new()), Some(String::new()));
    let machine = world.machine.clone().unwrap();
    let mut status =
        Metal3MachineStatus { user_data: Some(SecretRef::new("ns", "u")), ..Metal3MachineStatus::default() };
    status.addresses.clear();
    let answers = Answers::default();
    let fields = provision::missing(&world.observed(&machine, &answers, false), &world.hosts[0], &status);
    assert_eq!(fields["image"], json!({ "url": "http://192.0.2.1/image.qcow2" }));
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn n_6_the_finalizer_is_stored_before_the_host_is_touched() {
    let mut world = World::new();
    assert_eq!(world.pass_until(1), End::Crash);
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
    assert!(world.m3m().metadata.finalizers.iter().flatten().any(|f| f == finalizer::MACHINE));
}

#[test]
fn n_4_and_n_5_crash_after_the_claim_the_same_host_is_found_again() {
    let mut world = World::new();
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    assert_eq!(world.pass_until(2), End::Crash);
    world.m3m().metadata.annotations = None; // as if the intent had been lost
    world.m3m().spec.host_selector = Some(HostSelector {
        match_labels: [("nobody".to_owned(), "has-it".to_owned())].into(),
        ..HostSelector::default()
    });
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
    assert_eq!(world.hosts[1].spec.consumer_ref, None);

    let mut world = World::new();
    assert_eq!(world.pass_until(2), End::Crash);
    world.m3m().metadata.annotations = None;
    world.delete();
    world.pass(); // clears
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), End::Gone);
    assert_eq!((&world.hosts[0].spec.consumer_ref, &world.hosts[0].spec.image), (&None, &None));
}

#[test]
fn n_2_a_host_that_another_takes_first_is_left_to_it() {
    let mut world = World::new();
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    assert_eq!(world.pass_until(1), End::Crash); // it goes for host-0
    world.host().spec.consumer_ref = consumer("m2");
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m2"));
    assert_eq!(world.hosts[1].spec.consumer_ref, consumer("m1"));
    assert_eq!(world.m3m().metadata.annotations.as_ref().unwrap()[annotation::HOST], "ns/host-1");
}

#[test]
fn n_3_a_host_that_was_handed_to_somebody_else_is_not_written() {
    let mut world = World::running();
    world.host().spec.consumer_ref = consumer("m2");
    let before = world.hosts.clone();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.hosts, before);
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
    assert_eq!(world.message(ASSOCIATE), "BareMetalHost ns/host-0 belongs to Metal3Machine ns/m2");
}

#[test]
fn h_4_a_consumer_that_was_taken_away_is_set_again() {
    let mut world = World::running();
    world.host().spec.consumer_ref = None;
    world.pass();
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m1"));
}

#[test]
fn h_4_a_claim_that_was_refused_is_not_remembered_as_one() {
    let mut world = World::new();
    assert_eq!(world.pass_until(1), End::Crash); // the intent stands
    let machine = world.machine.clone().unwrap();
    let answers = Answers { machine_is_live: true, ..Answers::default() };
    let mut decision = decide(&world.observed(&machine, &answers, false));
    let Step::Do(action) = &decision.step else { panic!("{:?}", decision.step) };
    decision.report.write_failed(action, false, "the webhook is down");
    world.m3m().status = Some(decision.report.status(&machine, Timestamp::UNIX_EPOCH));
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");

    world.host().spec.consumer_ref = consumer("m2");
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m2"));
    assert_eq!(world.hosts[1].spec.consumer_ref, consumer("m1"));
}

#[test]
fn i_7_a_disk_is_decided_on_only_for_a_machine_that_is_known_to_live() {
    let mut claiming = World::new();
    assert_eq!(claiming.pass_until(1), End::Crash); // the intent stands, from an earlier pass
    let mut freed = World::running();
    freed.host().spec.consumer_ref = None;
    for world in [claiming, freed, World::leaving()] {
        let machine = world.machine.clone().unwrap();
        let step = |answers: &Answers| decide(&world.observed(&machine, answers, false)).step;
        assert_eq!(step(&Answers::default()), Step::Ask(Question::MachineLive));
        let answers = Answers { machine_is_live: true, ..Answers::default() };
        let expected = |purpose: &Purpose| matches!(purpose, Purpose::Claim { .. } | Purpose::Clear);
        assert!(matches!(step(&answers), Step::Do(Action::Host { purpose, .. }) if expected(&purpose)));
    }
}

#[test]
fn i_10_a_host_made_anew_under_a_provisioned_machine_is_not_deployed() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), DONE);
    world.join();
    let mut anew = host("host-0", host_state::INSPECTING);
    anew.metadata.uid = Some("uid-anew".to_owned());
    anew.spec.online = Some(false);
    world.hosts = vec![anew];
    for _ in 0..2 {
        assert_eq!(world.pass(), WAIT);
        let host = &world.hosts[0];
        assert_eq!((&host.spec.image, &host.spec.user_data, host.spec.online), (&None, &None, Some(true)));
        assert_eq!(host.spec.consumer_ref, consumer("m1"), "nobody else takes it either");
        world.says(METADATA, "False", "UpdateError");
        world.set_state(host_state::AVAILABLE);
    }
    world.delete();
    world.pass();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_data_template_without_a_name_is_refused_before_anything_is_claimed() {
    let mut world = World::new();
    world.m3m().spec.data_template = Some(NamespacedRef::default());
    assert_eq!(world.pass(), End::Rest(Next::Failed(Problem::TemplateUnnamed)));
    assert_eq!((world.writes.as_slice(), world.claim), (["status".to_owned()].as_slice(), None));
}

#[test]
fn a_as_3_and_4_no_host_is_a_condition_that_says_why() {
    let mut world = World::new();
    world.hosts.clear();
    assert_eq!(world.pass(), WAIT);
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
    assert_eq!(world.message(ASSOCIATE), "no BareMetalHost in this namespace");
    assert_eq!(
        world.message("Ready").lines().next(),
        Some("* AssociateBareMetalHost: no BareMetalHost in this namespace")
    );

    world.hosts.push(host("host-0", host_state::INSPECTING));
    world.pass();
    assert!(world.message(ASSOCIATE).contains("nearest is host-0 (not available yet)"));
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_mf_7_and_a_h_16_a_selector_that_cannot_be_is_an_error() {
    let mut world = World::new();
    let wrong = HostSelectorRequirement { key: "k".to_owned(), operator: "near".to_owned(), values: Vec::new() };
    world.m3m().spec.host_selector = Some(HostSelector { match_expressions: vec![wrong], ..HostSelector::default() });
    assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::Selector(_)))));
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
    assert_eq!(world.legacy("AssociateBMH").unwrap().1.as_deref(), Some("AssociateBMHFailed"));
}

#[test]
fn a_mf_5_a_kept_host_is_taken_and_remembered_as_such() {
    let mut world = World::new();
    let mut set = MachineSet::named("ns", "set");
    set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
    world.machine_set = Some(set);
    let mut kept = host("host-9", host_state::AVAILABLE);
    kept.metadata.labels = Some([(label::NODE_REUSE.to_owned(), "md-test1".to_owned())].into());
    kept.spec.consumer_ref = Some(ObjectReference {
        api_version: Some("cluster.x-k8s.io/v1beta1".to_owned()),
        kind: Some("Cluster".to_owned()),
        namespace: Some("ns".to_owned()),
        name: Some("prod".to_owned()),
        uid: Some("uid-prod".to_owned()),
        ..ObjectReference::default()
    });
    world.hosts.push(kept);
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostViaNodeReuseSuccess");
    assert_eq!(world.hosts[1].spec.consumer_ref, consumer("m1"));
    assert_eq!(host::labelled(&world.hosts[1], label::NODE_REUSE), None, "A-S-16");
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
    world.pass();
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostViaNodeReuseSuccess");
}

#[test]
fn a_h_2_a_kept_host_that_is_not_ready_is_named() {
    let mut world = World::new();
    let mut set = MachineSet::named("ns", "set");
    set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
    world.machine_set = Some(set);
    let mut kept = host("host-9", host_state::DEPROVISIONING);
    kept.metadata.labels = Some([(label::NODE_REUSE.to_owned(), "md-test1".to_owned())].into());
    world.hosts.push(kept);
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(ASSOCIATE), "kept for reuse and not available yet: host-9");
}

#[test]
fn m_44_a_missing_bmc_secret_is_named_and_waited_for() {
    let mut world = World::new();
    world.credentials = Credentials::Missing;
    assert_eq!(world.pass(), End::Rest(Next::After(NO_EVENT)));
    assert_eq!(world.message(ASSOCIATE), "Secret ns/host-0-bmc of BareMetalHost ns/host-0 does not exist");
    world.credentials = Credentials::Labelled(None);
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_as_5_a_claim_without_annotation_is_finished() {
    let mut world = World::new();
    world.host().spec.consumer_ref = consumer("m1");
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.credentials, Credentials::Labelled(Some("prod".to_owned())));
    assert_eq!(world.m3m().metadata.annotations.as_ref().unwrap()[annotation::HOST], "ns/host-0");
}

#[test]
fn a_s_11_and_14_the_annotation_always_names_the_machines_own_namespace() {
    let mut world = World::running();
    world.annotate(annotation::HOST, "elsewhere/host-0");
    world.pass();
    assert_eq!(world.m3m().metadata.annotations.as_ref().unwrap()[annotation::HOST], "ns/host-0");
}

#[test]
fn m_12_the_failure_domain_follows_the_machine() {
    let mut world = World::new();
    world.owner().spec.failure_domain = Some("rack-1".to_owned());
    world.pass();
    assert_eq!(world.m3m().spec.failure_domain.as_deref(), Some("rack-1"));
    world.owner().spec.failure_domain = None;
    world.pass();
    assert_eq!(world.m3m().spec.failure_domain, None);
}

// ---- user data, host spec -------------------------------------------------------------------------------------------------

#[test]
fn a_u_1_bootstrap_data_wins_over_the_users_own() {
    let mut world = World::new();
    world.m3m().spec.user_data = Some(SecretRef::named("mine"));
    world.pass();
    assert_eq!(world.status().user_data, Some(SecretRef::new("ns", "m1-bootstrap")));
    assert_eq!(world.m3m().spec.user_data, Some(SecretRef::named("mine")), "H-18");
}

#[test]
fn a_u_3_a_hs_1_and_a_md_6_no_reference_leaves_the_namespace() {
    let foreign = Some(SecretRef::new("elsewhere", "s"));
    let cases: [fn(&mut Metal3Machine, Option<SecretRef>); 3] =
        [|m, s| m.spec.user_data = s, |m, s| m.spec.meta_data = s, |m, s| m.spec.network_data = s];
    for set in cases {
        let mut world = World::new();
        set(world.m3m(), foreign.clone());
        assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::ForeignNamespace { .. }))));
        assert_eq!(world.hosts[0].spec.consumer_ref, None);
        assert!(world.message(ASSOCIATE).contains("s in namespace elsewhere"));
    }
    let mut world = World::new();
    world.m3m().spec.data_template = Some(NamespacedRef::new("elsewhere", "t"));
    assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::ForeignNamespace { .. }))));
}

#[test]
fn m_71_a_machine_without_an_image_takes_no_host() {
    let mut world = World::new();
    world.m3m().spec.image = None;
    assert_eq!(world.pass(), End::Rest(Next::Failed(Problem::NothingToDeploy)));
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_hs_3_a_deploy_step_takes_the_place_of_an_image() {
    let mut world = World::new();
    world.m3m().spec.image = None;
    world.m3m().spec.custom_deploy = Some(CustomDeploy { method: "install".to_owned() });
    world.pass();
    assert_eq!(world.hosts[0].spec.custom_deploy, Some(CustomDeploy { method: "install".to_owned() }));
    assert_eq!(world.hosts[0].spec.image, None);
}

#[test]
fn a_hs_4_and_5_what_a_host_runs_is_not_replaced() {
    let mut world = World::new();
    world.host().spec.image = Some(from(json!({ "url": "http://192.0.2.1/other" })));
    world.host().spec.consumer_ref = consumer("m1");
    world.host().spec.online = Some(false);
    world.pass();
    let host = &world.hosts[0];
    assert_eq!(host.spec.image.as_ref().unwrap().url, "http://192.0.2.1/other");
    assert_eq!((&host.spec.user_data, &host.spec.meta_data, host.spec.online), (&None, &None, Some(true)));
}

#[test]
fn n_12_the_users_network_data_goes_with_the_image() {
    let mut world = World::new();
    world.m3m().spec.network_data = Some(SecretRef::named("net"));
    world.pass();
    assert_eq!(world.hosts[0].spec.network_data, Some(SecretRef::new("ns", "net")));
    assert_eq!(world.writes.iter().filter(|write| write.ends_with("host-0")).count(), 1);
    assert_eq!(world.status().network_data, Some(SecretRef::new("ns", "net")), "A-MD-2");
}

const LOOK_AGAIN: End = End::Rest(Next::After(NO_EVENT));

#[test]
fn m_35_a_missing_secret_is_named_before_a_host_is_claimed() {
    for field in ["spec.metaData", "spec.networkData"] {
        for mut world in [World::new(), World::with_template()] {
            let spec = &mut world.m3m().spec;
            let reference = if field == "spec.metaData" { &mut spec.meta_data } else { &mut spec.network_data };
            *reference = Some(SecretRef::named("later"));
            assert_eq!(world.pass(), LOOK_AGAIN);
            assert_eq!(world.writes, ["status"]);
            world.says(METADATA, "False", "AssociateMetal3MachineMetaDataFailed");
            assert_eq!(world.message(METADATA), format!("Secret ns/later ({field}) does not exist"));
            let legacy = Some(("False".to_owned(), Some("AssociateM3MetaDataFailed".to_owned())));
            assert_eq!(world.legacy("KubernetesNodeReady"), legacy);
            world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
            assert_eq!(world.pass(), LOOK_AGAIN);
            assert_eq!(world.writes, ["status"], "the same words are not written again");

            world.secrets.insert("later".to_owned());
            world.pass();
            world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
            world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
            assert_eq!(world.legacy("KubernetesNodeReady"), None);
        }
    }
}

#[test]
fn m_35_a_secret_that_vanishes_before_the_data_is_rendered_keeps_the_image_back() {
    let mut world = World::with_template();
    world.m3m().spec.network_data = Some(SecretRef::named("net"));
    assert_eq!(world.pass(), WAIT);
    world.render();
    world.secrets.clear();
    assert_eq!(world.pass(), LOOK_AGAIN);
    assert_eq!(world.message(METADATA), "Secret ns/net (spec.networkData) does not exist");
    assert_eq!((&world.hosts[0].spec.image, &world.hosts[0].spec.network_data), (&None, &None));
    world.secrets.insert("net".to_owned());
    world.pass();
    assert_eq!(world.hosts[0].spec.network_data, Some(SecretRef::new("ns", "net")));
    world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
}

/// Bootstrap data is not looked for, nor what is rendered for this very machine, nor what a host has been given.
#[test]
fn a_u_2_only_secrets_that_the_user_names_are_looked_for() {
    let mut world = World::with_template();
    world.secrets.clear();
    world.m3m().spec.user_data = Some(SecretRef::named("mine"));
    world.m3m().spec.meta_data = Some(SecretRef::named("m1-metadata"));
    assert_eq!(world.pass(), WAIT);
    world.render();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.user_data, Some(SecretRef::new("ns", "m1-bootstrap")));
    world.m3m().spec.network_data = Some(SecretRef::named("later"));
    assert_eq!(world.pass(), DONE);
}

#[test]
fn m_71_cleaning_mode_and_power_are_kept_up() {
    let mut world = World::running();
    world.m3m().spec.automated_cleaning_mode = Some("disabled".to_owned());
    world.host().spec.online = Some(false);
    world.pass();
    assert_eq!(world.hosts[0].spec.automated_cleaning_mode.as_deref(), Some("disabled"));
    assert_eq!(world.hosts[0].spec.online, Some(true));
}

// ---- data -----------------------------------------------------------------------------------------------------------------

#[test]
fn a_as_6_and_a_md_4_with_a_template_the_claim_comes_before_the_image() {
    let mut world = World::with_template();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.hosts[0].spec.image, None);
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m1"));
    let claim = world.claim.clone().unwrap();
    assert_eq!(claim.metadata.name.as_deref(), Some("m1"));
    let finalizers = [finalizer::MACHINE, finalizer::DATA_CLAIM].map(str::to_owned);
    assert_eq!(claim.metadata.finalizers, Some(finalizers.into()));
    assert_eq!(claim.metadata.labels, world.m3m().metadata.labels);
    assert_eq!(claim.spec.template, Some(NamespacedRef::new("ns", "template")));
    let owners = claim.metadata.owner_references.unwrap();
    assert_eq!((owners.len(), owners[0].controller, owners[0].block_owner_deletion), (1, Some(true), None));
    world.says(DATA, "False", "WaitingForMetal3Data");
    assert_eq!(world.m3m().spec.data_template, Some(NamespacedRef::new("ns", "template")), "M-80 step 3");
}

#[test]
fn a_as_7_and_a_md_14_rendered_data_and_image_go_in_one_write() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.writes.clear();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["Provision host-0", "status"]);
    let host = &world.hosts[0];
    assert!(host.spec.image.is_some());
    assert_eq!(host.spec.meta_data, Some(SecretRef::new("ns", "m1-metadata")));
    assert_eq!(host.spec.network_data, Some(SecretRef::new("ns", "m1-networkdata")));
    world.says(DATA, "True", "Metal3DataSecretsReady");
}

#[test]
fn k_29_a_machine_is_ready_when_it_runs_and_not_before() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    assert_eq!(world.pass(), DONE);
    world.says("Ready", "False", "NotReady");
    assert!(world.message("Ready").contains("BareMetalHost ns/host-0"), "{}", world.message("Ready"));
    assert_eq!(world.legacy("Ready"), Some(("False".to_owned(), Some("WaitingForBareMetalHost".to_owned()))));

    world.set_state(host_state::PROVISIONED);
    world.nodes = Nodes::Connecting;
    world.writes.clear();
    world.pass();
    assert_eq!(world.writes, [""; 0], "the same words, so no write");

    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), DONE);
    world.says("Ready", "True", "Ready");
    assert_eq!(world.message("Ready"), "");
    assert_eq!(world.legacy("Ready"), Some(("True".to_owned(), None)));
}

#[test]
fn k_29_without_a_template_the_host_is_named_too() {
    let mut world = World::new();
    assert_eq!(world.pass(), DONE);
    world.says("Ready", "False", "NotReady");
    assert!(world.message("Ready").contains("BareMetalHost ns/host-0"), "{}", world.message("Ready"));
}

#[test]
fn a_md_10_to_13_each_thing_that_is_missing_is_named() {
    let mut world = World::with_template();
    world.pass();
    assert_eq!(world.message(DATA), "Metal3DataClaim ns/m1 has no Metal3Data yet");

    world.claim.as_mut().unwrap().status = Some(from(json!({ "errorMessage": "template not found" })));
    world.pass();
    assert_eq!(world.message(DATA), "Metal3DataClaim ns/m1: template not found");

    world.render();
    let mut data = world.data.take();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(DATA), "Metal3Data ns/template-0 does not exist");
    assert_eq!(world.status().rendered_data, Some(NamespacedRef::new("ns", "template-0")));

    data.as_mut().unwrap().status = Some(from(json!({ "errorMessage": "IPPool ns/pool is exhausted" })));
    world.data = data;
    assert_eq!(world.pass(), WAIT);
    world.says(DATA, "False", "WaitingForMetal3Data");
    assert_eq!(world.message(DATA), "Metal3Data ns/template-0: IPPool ns/pool is exhausted");
    assert_eq!(world.message("Ready"), "* Metal3DataReady: Metal3Data ns/template-0: IPPool ns/pool is exhausted");

    let data = world.data.as_mut().unwrap();
    data.status = Some(from(json!({ "ready": true })));
    (data.spec.meta_data, data.spec.network_data) = (None, None);
    assert_eq!(world.pass(), DONE);
    assert_eq!((world.status().meta_data, world.status().network_data), (None, None), "A-MD-13");
}

#[test]
fn a_claim_that_is_about_to_be_answered_is_not_worth_a_write() {
    let mut world = World::with_template();
    assert_eq!(world.pass_until(3), End::Crash); // intent, claim of the host, claim of the data
    world.claim.as_mut().unwrap().metadata.creation_timestamp = Some(Time(Timestamp::from_second(3598).unwrap()));
    world.writes.clear();
    assert_eq!(world.pass(), End::Rest(Next::After(JUST_CREATED)));
    assert_eq!(world.writes, [""; 0]);

    let mut failing = world.clone();
    failing.claim.as_mut().unwrap().status = Some(from(json!({ "errorMessage": "template not found" })));
    assert_eq!(failing.pass(), WAIT);
    assert_eq!(failing.message(DATA), "Metal3DataClaim ns/m1: template not found");

    world.render();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["credentials prod", "Provision host-0", "status"]);
}

#[test]
fn d_25_the_users_own_secret_wins_over_a_rendered_one() {
    let mut world = World::with_template();
    world.m3m().spec.meta_data = Some(SecretRef::named("own"));
    world.pass();
    world.render();
    world.pass();
    assert_eq!(world.hosts[0].spec.meta_data, Some(SecretRef::new("ns", "own")));
    assert_eq!(world.hosts[0].spec.network_data, Some(SecretRef::new("ns", "m1-networkdata")));
}

#[test]
fn a_md_1_and_7_without_a_template_nothing_is_claimed() {
    let mut world = World::new();
    world.pass();
    assert_eq!(world.claim, None);
    assert_eq!(world.condition(DATA), None);
}

#[test]
fn h_48_the_claim_of_an_earlier_machine_is_waited_out() {
    let mut world = World::with_template();
    let mut claim = Metal3DataClaim::named("ns", "m1");
    claim.metadata.owner_references =
        Some(vec![OwnerReference { uid: "another".to_owned(), ..reference("g", "Metal3Machine", "m1") }]);
    world.claim = Some(claim);
    assert_eq!(world.pass(), WAIT);
    world.says(METADATA, "False", "AssociateMetal3MachineMetaDataFailed");
    assert_eq!(world.legacy("KubernetesNodeReady").unwrap().1.as_deref(), Some("AssociateM3MetaDataFailed"));

    world.claim = None; // N-17
    world.pass();
    world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
    assert_eq!(world.legacy("KubernetesNodeReady"), None);
}

// ---- host and Node ------------------------------------------------------------------------------------------------------

#[test]
fn a_i_15_a_host_that_is_provisioning_is_waited_for() {
    let mut world = World::running();
    world.set_state(host_state::PROVISIONING);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m().spec.provider_id, None);
}

#[test]
fn h_56_a_host_in_error_shows_on_the_machine_until_it_recovers() {
    let mut world = World::running();
    world.set_state(host_state::PROVISIONING);
    let status = world.host().status.get_or_insert_default();
    status.error_type = Some("provisioning error".to_owned());
    status.error_message = Some("image not found".to_owned());
    assert_eq!(world.pass(), DONE);
    world.says(METADATA, "False", "CreateError");
    assert_eq!(world.message(METADATA), "BareMetalHost ns/host-0: provisioning error: image not found");

    world.host().status.get_or_insert_default().error_message = None;
    world.pass();
    world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
}

#[test]
fn a_i_13_a_i_19_and_a_mf_8_a_labelled_node_gets_its_identity_first() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["NameNode node-a", "Identify", "status"]);
    assert_eq!(world.m3m().spec.provider_id.as_deref(), Some(PROVIDER_ID));
    assert_eq!(world.status().initialization.unwrap().provisioned, Some(true));
    world.says(DATA, "True", "SecretsSetExternally");
    world.says("Ready", "True", "Ready");
}

#[test]
fn n_18_the_machine_is_named_after_its_node() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass_until(1), End::Crash);
    assert_eq!(world.writes, ["NameNode node-a"]);
    assert_eq!(world.m3m().spec.provider_id, None);
}

#[test]
fn a_i_14_a_node_that_carries_the_identity_is_the_one() {
    let mut world = World::running();
    world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
    world.nodes = Nodes::Listed(vec![node("node-a", &[], Some(PROVIDER_ID)), node("node-b", &[], None)]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m().spec.provider_id.as_deref(), Some(PROVIDER_ID));
    for kind in [ASSOCIATE, METADATA, DATA, "Ready"] {
        assert_eq!(world.condition(kind).unwrap().0, "True", "{kind}");
    }
}

#[test]
fn a_i_18_no_node_yet_is_waited_for_with_words() {
    let mut world = World::running();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.m3m().spec.provider_id, None);
    let node = "a Node with the label metal3.io/uuid=uid-host-0";
    let expected = format!("waiting for BareMetalHost ns/host-0 to be provisioned and for {node}");
    assert_eq!(world.message("Ready"), expected);
    assert_eq!(world.writes, [""; 0], "it was said when the host was claimed");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_mf_10_a_workload_cluster_out_of_reach_is_asked_again() {
    let mut world = World::running();
    world.nodes = Nodes::Unreachable("Cluster ns/prod: no".to_owned());
    let associated = |world: &mut World, second| {
        let conditions = &mut world.m3m().status.as_mut().unwrap().conditions;
        conditions.iter_mut().for_each(|c| c.last_transition_time = Time(Timestamp::from_second(second).unwrap()));
    };
    associated(&mut world, 3590);
    assert_eq!(world.pass(), End::Rest(Next::After(NO_EVENT)));
    assert_eq!(world.writes, [""; 0], "it may be the machine that brings the cluster up");
    associated(&mut world, 3000);
    assert_eq!(world.pass(), End::Rest(Next::After(NO_EVENT)));
    world.says(METADATA, "False", "CreateError");
    world.nodes = Nodes::Connecting;
    let before = world.status().conditions.len();
    assert_eq!(world.pass(), End::Rest(Next::After(NO_EVENT)));
    assert_eq!(world.status().conditions.len(), before);
}

#[test]
fn m_92_and_h_38_nodes_that_do_not_add_up_are_named() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None), Node { name: "node-b".to_owned(), ..labelled_node(None) }]);
    assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::SharedHostLabel { .. }))));
    assert_eq!(world.message(METADATA), "Nodes node-a, node-b share the label metal3.io/uuid=uid-host-0");

    world.nodes = Nodes::Listed(vec![labelled_node(Some("metal3://uid-host-0"))]);
    assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::OtherProviderId { .. }))));
    assert!(world.message(METADATA).contains("metal3://uid-host-0"));
}

#[test]
fn m_91_and_n_16_a_cloud_provider_names_the_node() {
    let mut world = World::running();
    world.infrastructure.as_mut().unwrap().spec.cloud_provider_enabled = Some(true);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), WAIT);
    world.nodes = Nodes::Listed(vec![node("node-a", &[], Some(PROVIDER_ID))]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m().spec.provider_id.as_deref(), Some(PROVIDER_ID));
    world.says(DATA, "True", "SecretsSetExternally");
    assert!(!world.writes.iter().any(|write| write.starts_with("NameNode")));
}

#[test]
fn a_i_16_17_and_n_16_without_a_bootstrap_provider_the_host_name_finds_the_node() {
    let mut world = World::running();
    world.owner().spec.bootstrap.as_mut().unwrap().config_ref = None;
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.status().initialization.unwrap().provisioned, Some(true), "provisioned at once");
    assert_eq!(world.message(METADATA), "waiting for a Node named worker-0");
    world.says(DATA, "True", "SecretsSetExternally");

    world.nodes = Nodes::Listed(vec![node("n", &[(label::HOSTNAME, "worker-0")], None)]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.nodes, Nodes::Listed(vec![node("n", &[(label::HOSTNAME, "worker-0")], Some(PROVIDER_ID))]));
    world.says("Ready", "True", "Ready");
}

#[test]
fn a_mf_1_and_n_21_a_settled_machine_is_quiet() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.join();
    world.writes.clear();
    world.nodes = Nodes::Unreachable("nobody should ask".to_owned());
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, [""; 0]);
    for kind in [ASSOCIATE, METADATA, DATA, "Ready"] {
        assert_eq!(world.condition(kind).unwrap().0, "True", "{kind}");
    }
}

#[test]
fn m_23_after_a_move_the_machine_is_recognised_without_its_status() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.set_state(host_state::PROVISIONED);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.join();
    let before = world.status();
    world.m3m().status = None;
    world.host().metadata.uid = Some("new-uid".to_owned());
    world.writes.clear();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["credentials prod", "status"], "the label is there already");
    let after = world.status();
    assert_eq!(
        (after.user_data, after.meta_data, after.rendered_data, after.initialization),
        (before.user_data, before.meta_data, before.rendered_data, before.initialization)
    );
}

#[test]
fn h_25_old_failure_fields_are_cleared() {
    let mut world = World::new();
    world.m3m().status =
        Some(from(json!({ "deprecated": { "v1beta1": { "failureReason": "CreateError", "failureMessage": "x" } } })));
    world.pass();
    let legacy = world.status().deprecated.and_then(|d| d.v1beta1).unwrap();
    assert_eq!((legacy.failure_reason, legacy.failure_message), (None, None));
}

// ---- pause and move -----------------------------------------------------------------------------------------------------

#[test]
fn a_p_4_pausing_is_three_writes_that_end_with_the_move_allowed() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.writes, ["BlockMove host-0", "PauseHost host-0", "UnblockMove host-0", "status"]);
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
    assert_eq!(world.host_annotation(annotation::HOST_STATUS), Some("{\"poweredOn\":true}"));
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
    world.writes.clear();
    world.pass();
    assert_eq!(world.writes, [""; 0]);
}

#[test]
fn a_p_5_and_6_and_8_an_interrupted_pause_goes_on_where_it_stopped() {
    for crash in 0..3 {
        let mut world = World::running();
        world.pause(true);
        world.pass_until(crash);
        world.pass();
        assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
        assert!(world.host_annotation(annotation::HOST_STATUS).is_some());
        assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
    }
}

#[test]
fn a_p_2_a_p_3_and_n_15_a_users_pause_keeps_its_value_and_gets_the_status() {
    let mut world = World::running();
    world.annotate_host(annotation::HOST_PAUSED, "");
    world.annotate_host(annotation::BLOCK_MOVE, "");
    world.pause(true);
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some(""));
    assert!(world.host_annotation(annotation::HOST_STATUS).is_some());
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
}

#[test]
fn a_p_15_our_pause_is_lifted() {
    let mut world = World::running();
    world.pause(true);
    world.pass();
    world.pause(false);
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), None);
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), Some(""));
    world.says("Paused", "False", "NotPaused");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_p_16_and_a_p_12_a_users_pause_stays_and_blocks_no_move() {
    let mut world = World::running();
    world.host().metadata.annotations = Some([(annotation::HOST_PAUSED.to_owned(), String::new())].into());
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some(""));
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);

    let mut world = World::running(); // ours by value, but another cluster's host
    world.annotate_host(annotation::HOST_PAUSED, "metal3.io/capm3");
    world.host().metadata.labels = None;
    world.pass();
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some("metal3.io/capm3"));
}

#[test]
fn a_p_10_a_p_13_and_h_54_only_our_own_host_is_touched() {
    let mut world = World::running();
    world.host().metadata.annotations = None;
    world.pass();
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), Some(""));

    for owner in [None, consumer("m2")] {
        let mut world = World::running();
        world.host().metadata.annotations = None;
        world.host().spec.consumer_ref = owner;
        world.pause(true);
        world.pass();
        assert_eq!(world.hosts[0].metadata.annotations, None);
    }
}

// ---- letting go -----------------------------------------------------------------------------------------------------------

#[test]
fn a_i_20_a_machine_without_a_host_goes_at_once() {
    let mut world = World::new();
    world.m3m().metadata.finalizers = Some(vec![finalizer::MACHINE.to_owned()]);
    world.delete();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts, World::new().hosts, "A-D-9");
}

#[test]
fn a_i_21_a_d_1_a_d_13_and_a_mf_14_the_host_is_wiped_before_it_is_released() {
    let mut world = World::leaving();
    assert_eq!(world.pass(), WAIT);
    let host = &world.hosts[0];
    assert_eq!((&host.spec.image, &host.spec.user_data, host.spec.online), (&None, &None, Some(false)));
    assert_eq!(host.spec.consumer_ref, consumer("m1"));
    world.says(METADATA, "False", "Deleting"); // H-50
    assert_eq!(world.message(METADATA), "waiting for BareMetalHost ns/host-0 to be deprovisioned");
    assert_eq!(world.legacy("KubernetesNodeReady").unwrap().1.as_deref(), Some("Deleting"));
    assert_eq!(world.writes, ["Clear host-0", "status"]);
    world.writes.clear();
    world.set_state(host_state::DEPROVISIONING); // A-D-3
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.writes, [""; 0]);
}

#[test]
fn a_d_2_6_10_and_n_14_a_wiped_host_is_released() {
    for state in ["", host_state::UNMANAGED, host_state::AVAILABLE, host_state::READY] {
        let mut world = World::cleared(state);
        assert_eq!(world.pass(), End::Gone, "{state:?}");
        let host = &world.hosts[0];
        assert_eq!(host.spec.consumer_ref, None);
        assert_eq!(host::labelled(host, label::CLUSTER_NAME), None);
        assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None);
        assert_eq!(world.credentials, Credentials::Labelled(None));
        assert_eq!(world.writes, ["credentials", "Release { reserved: false } host-0", "Forget"]);
    }
}

#[test]
fn a_d_11_our_pause_goes_with_the_release() {
    let mut world = World::cleared(host_state::AVAILABLE);
    world.annotate_host(annotation::HOST_PAUSED, "metal3.io/capm3");
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), None);
}

#[test]
fn a_d_12_no_labels_no_trouble() {
    let mut world = World::cleared(host_state::AVAILABLE);
    world.host().metadata.labels = None;
    world.credentials = Credentials::Missing;
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_d_8_a_host_of_somebody_else_is_left_alone() {
    let mut world = World::leaving();
    world.host().spec.consumer_ref = consumer("m2");
    let before = world.hosts.clone();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts, before);
}

#[test]
fn a_d_13_to_16_the_power_of_a_host_that_is_let_go() {
    // (fast track, cleaning mode, disable power off) -> online
    let cases = [
        (false, Some("metadata"), false, false),
        (false, Some("disabled"), false, false),
        (true, Some("metadata"), false, true),
        (true, None, false, true),
        (true, Some("disabled"), false, false),
        (false, Some("disabled"), true, true),
        (true, Some("disabled"), true, true),
        (false, None, true, true),
    ];
    for (fast_track, cleaning, stays, online) in cases {
        let mut world = World::leaving();
        world.fast_track = fast_track;
        world.host().spec.automated_cleaning_mode = cleaning.map(str::to_owned);
        world.host().spec.disable_power_off = Some(stays);
        assert_eq!(world.pass(), WAIT);
        assert_eq!(world.hosts[0].spec.online, Some(online), "{fast_track} {cleaning:?} {stays}");
    }
}

#[test]
fn a_md_18_n_10_and_h_32_rendered_data_goes_after_the_wipe() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.set_state(host_state::PROVISIONED);
    world.delete();
    world.writes.clear();
    assert_eq!(world.pass(), WAIT);
    let host = &world.hosts[0];
    assert_eq!((&host.spec.meta_data, &host.spec.network_data), (&None, &None));
    assert!(world.claim.is_some(), "addresses are kept while the old system runs");
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.claim, None);
    let after = world.writes.iter().skip(2).map(String::as_str).collect::<Vec<_>>();
    assert_eq!(after, ["DropClaim", "DeleteClaim", "credentials", "Release { reserved: false } host-0", "Forget"]);
}

#[test]
fn n_11_a_machine_that_lost_its_status_still_takes_everything_off() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.set_state(host_state::PROVISIONED);
    world.m3m().status = None;
    world.delete();
    world.pass();
    let spec = &world.hosts[0].spec;
    assert_eq!((&spec.image, &spec.user_data, &spec.meta_data, &spec.network_data), (&None, &None, &None, &None));
}

#[test]
fn n_7_and_k_147_deletion_needs_neither_machine_nor_cluster() {
    let cases: [fn(&mut World); 4] = [
        |world| world.cluster = None,
        |world| world.infrastructure = None,
        |world| world.cluster.as_mut().unwrap().status = None,
        |world| (world.owner, world.cluster) = (None, None),
    ];
    for remove in cases {
        let mut world = World::leaving();
        remove(&mut world);
        assert_eq!(world.pass(), WAIT);
        world.set_state(host_state::AVAILABLE);
        assert_eq!(world.pass(), End::Gone);
        assert_eq!(world.hosts[0].spec.consumer_ref, None);
        assert_eq!(host::labelled(&world.hosts[0], label::CLUSTER_NAME), None);
        assert_eq!(world.credentials, Credentials::Labelled(None));
    }
}

#[test]
fn k_138_and_k_150_what_is_moved_or_paused_is_not_undone() {
    let mut world = World::leaving();
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    assert!(world.hosts[0].spec.image.is_some());

    let mut world = World::leaving();
    world.cluster = None;
    world.annotate(annotation::DELETE_FOR_MOVE, "");
    assert_eq!(world.pass(), DONE);
    assert!(world.hosts[0].spec.image.is_some());
}

#[test]
fn a_host_that_cannot_be_wiped_says_so() {
    let mut world = World::cleared(host_state::DEPROVISIONING);
    world.host().status.get_or_insert_default().error_message = Some("disk is stuck".to_owned());
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(METADATA), "BareMetalHost ns/host-0 is not deprovisioned: disk is stuck");
}

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

#[test]
fn a_d_17_and_19_a_host_is_kept_for_its_owner() {
    for (control_plane, label_value) in [(false, "md-test1"), (true, "cp-test1")] {
        let mut world = reusing(control_plane);
        assert_eq!(world.pass(), End::Gone);
        let consumer = world.hosts[0].spec.consumer_ref.clone().unwrap();
        assert_eq!(
            (consumer.kind.as_deref(), consumer.api_version.as_deref(), consumer.name.as_deref()),
            (Some("Cluster"), Some("cluster.x-k8s.io/v1beta2"), Some("prod")),
            "M-107"
        );
        assert_eq!(host::labelled(&world.hosts[0], label::NODE_REUSE), Some(label_value));
    }
}

#[test]
fn m_107_and_n_25_no_flag_no_owner_no_cluster_no_reuse() {
    let cases: [fn(&mut World); 5] = [
        |world| world.node_reuse = Some(false),
        |world| world.node_reuse = None,
        |world| world.machine_set.as_mut().unwrap().metadata.owner_references = None,
        |world| world.cluster.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)),
        |world| world.cluster = None,
    ];
    for change in cases {
        let mut world = reusing(false);
        change(&mut world);
        assert_eq!(world.pass(), End::Gone);
        assert_eq!(world.hosts[0].spec.consumer_ref, None);
        assert_eq!(host::labelled(&world.hosts[0], label::NODE_REUSE), None);
    }
}

#[test]
fn a_mf_12_and_13_a_failed_write_shows_under_its_reason() {
    let mut report = Report::default();
    let version = Version::default();
    report.write_failed(&Action::DeleteClaim { version: version.clone() }, false, "no");
    assert_eq!(report.findings.get(METADATA).unwrap().row.reason, "DisassociateM3MetaDataFailed");
    let release = Purpose::Release { reserved: false };
    let action = Action::Host { purpose: release, name: "h".to_owned(), version, patch: json!({}) };
    report.write_failed(&action, false, "no");
    assert_eq!(report.findings.get(METADATA).unwrap().row, rows::DELETION_FAILED);
}

// ---- whatever a crash leaves ------------------------------------------------------------------------------------------------

/// Everything that outlives a pass, without the versions.
fn remains(world: &World) -> String {
    let mut world = world.clone();
    for meta in world.hosts.iter_mut().map(|h| &mut h.metadata).chain(world.machine.as_mut().map(|m| &mut m.metadata)) {
        meta.resource_version = None;
    }
    format!("{:?} {:?} {:?} {:?} {:?}", world.machine, world.hosts, world.claim, world.credentials, world.nodes)
}

/// For every number of writes after which a pass may die: the next one ends where an undisturbed one would have.
#[track_caller]
fn check_crashes(start: &World) {
    let mut whole = start.clone();
    let end = whole.pass();
    for crash in 0.. {
        let mut world = start.clone();
        let crashed = world.pass_until(crash) == End::Crash;
        let again = world.pass();
        assert_eq!(again, end, "after {crash} writes");
        assert_eq!(remains(&world), remains(&whole), "after {crash} writes");
        if !crashed {
            return;
        }
    }
}

#[test]
fn a_crash_anywhere_in_claiming_changes_nothing_in_the_end() {
    let mut world = World::new();
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    check_crashes(&world);
    let mut world = World::with_template();
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    check_crashes(&world);
    world.pass();
    world.render();
    check_crashes(&world);
}

#[test]
fn a_crash_anywhere_in_joining_changes_nothing_in_the_end() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    check_crashes(&world);
}

#[test]
fn a_crash_anywhere_in_letting_go_changes_nothing_in_the_end() {
    check_crashes(&World::leaving());
    check_crashes(&World::cleared(host_state::AVAILABLE));
    check_crashes(&reusing(true));
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.delete();
    world.set_state(host_state::AVAILABLE);
    check_crashes(&world);
}

#[test]
fn a_crash_anywhere_in_pausing_changes_nothing_in_the_end() {
    let mut world = World::running();
    world.pause(true);
    check_crashes(&world);
}

#[test]
fn s_7_a_status_tells_which_generation_it_is_about() {
    let mut world = World::new();
    let now = Timestamp::from_second(7).unwrap();
    let machine = world.machine.as_mut().unwrap();
    machine.metadata.generation = Some(1);
    machine.status = Some(Metal3MachineStatus { observed_generation: Some(-1), ..Metal3MachineStatus::default() });
    let mut report = Report { status: machine.status.clone().unwrap(), ..Report::default() };
    assert_eq!(report.status(machine, now).observed_generation, Some(-1), "nothing was found out");
    report.say(rows::WAITING_FOR_BOOTSTRAP, "");
    let told = report.status(machine, now);
    assert_eq!(told.observed_generation, Some(1));

    machine.metadata.generation = Some(2);
    report.status = told.clone();
    machine.status = Some(told.clone());
    assert_eq!(report.status(machine, now).observed_generation, Some(2));

    // As another provider leaves a settled machine: no write for the sake of it.
    machine.metadata.generation = Some(1);
    machine.status = Some(Metal3MachineStatus { observed_generation: None, ..told });
    report.status = machine.status.clone().unwrap();
    assert_eq!(report.status(machine, now), machine.status.clone().unwrap());
}

#[test]
fn what_comes_within_moments_is_not_written_about() {
    let mut world = World::new();
    world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None;
    world.machine.as_mut().unwrap().metadata.creation_timestamp = Some(Time(Timestamp::from_second(3598).unwrap()));
    assert_eq!(world.pass(), End::Rest(Next::After(JUST_CREATED)));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}
