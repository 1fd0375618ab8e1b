//! A remediation against a small model of the world: every write is a merge patch that lands, every question is answered from what is
//! there, and a pass forgets whatever it had in its head.

mod ends;
mod life;
mod parts;

use capm3_api::foreign::{BareMetalHostStatus, ContractRef, Machine, MachineSpec, MachineStatus, NameRef, Pod};
use capm3_api::infra::v1beta2::{Metal3Machine, RemediationStrategy};
use capm3_api::k8s::{ObjectMeta, ObjectReference, OwnerReference};
use capm3_api::names::{CAPI_API_VERSION, INFRA_API_VERSION, INFRA_GROUP};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

const UID: &str = "123";
const START: i64 = 1_800_000_000;

/// A Machine `m` on Metal3Machine `m3`, on host `h`, with Node `n`; all in namespace `ns`.
struct World {
    now: Timestamp,
    remediation: Metal3Remediation,
    cluster: Cluster,
    machine: Option<Machine>,
    metal3_machine: Option<Metal3Machine>,
    host: Option<BareMetalHost>,
    node: Option<Node>,
    forbidden: bool,
    unreachable: bool,
    mode: Mode,
    left: Left,
    /// Whether writes to the Node fail.
    node_refuses: bool,
    /// What happened, in the order in which it happened.
    writes: Vec<String>,
    asked: Vec<Question>,
}

fn owned_by(api_version: &str, kind: &str, name: &str) -> Vec<OwnerReference> {
    let (api_version, kind, name) = (api_version.to_owned(), kind.to_owned(), name.to_owned());
    vec![OwnerReference { api_version, kind, name, ..OwnerReference::default() }]
}

fn marks(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn remediation() -> Metal3Remediation {
    let mut remediation = Metal3Remediation::named("ns", "m");
    remediation.metadata.uid = Some(UID.to_owned());
    remediation.metadata.owner_references = Some(owned_by(CAPI_API_VERSION, "Machine", "m"));
    let (retry_limit, timeout_seconds) = (Some(1), Some(600));
    let strategy = RemediationStrategy { retry_limit, timeout_seconds, type_: Some("Reboot".to_owned()) };
    remediation.spec.strategy = Some(strategy);
    remediation
}

fn machine() -> Machine {
    let mut machine = Machine::named("ns", "m");
    machine.metadata.labels = Some(marks(&[(label::CLUSTER_NAME, "prod")]));
    let reference = ContractRef {
        api_group: Some(INFRA_GROUP.to_owned()),
        kind: "Metal3Machine".to_owned(),
        name: "m3".to_owned(),
    };
    machine.spec = MachineSpec { infrastructure_ref: Some(reference), ..MachineSpec::default() };
    machine.status =
        Some(MachineStatus { node_ref: Some(NameRef { name: "n".to_owned() }), ..MachineStatus::default() });
    machine
}

fn metal3_machine(annotation: Option<&str>) -> Metal3Machine {
    let mut machine = Metal3Machine::named("ns", "m3");
    machine.metadata.annotations = annotation.map(|value| marks(&[(annotation::HOST, value)]));
    machine
}

fn host() -> BareMetalHost {
    let mut host = BareMetalHost::named("ns", "h");
    host.spec.online = Some(true);
    host.spec.consumer_ref = Some(ObjectReference {
        api_version: Some(INFRA_API_VERSION.to_owned()),
        kind: Some("Metal3Machine".to_owned()),
        namespace: Some("ns".to_owned()),
        name: Some("m3".to_owned()),
        ..ObjectReference::default()
    });
    host.status = Some(BareMetalHostStatus { powered_on: Some(true), ..BareMetalHostStatus::default() });
    host
}

fn node() -> Node {
    let mut node = Node::named("", "n");
    node.metadata.annotations = Some(marks(&[("foo", "bar")]));
    node.metadata.labels = Some(marks(&[("answer", "42")]));
    node
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else { return *object = patch.clone() };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], change);
        }
    }
}

fn patched<K: Serialize + DeserializeOwned>(object: &K, patch: &Value) -> K {
    let mut value = serde_json::to_value(object).unwrap();
    merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}

impl World {
    /// Nothing has been done yet.
    fn new(mode: Mode) -> Self {
        Self {
            now: Timestamp::from_second(START).unwrap(),
            remediation: remediation(),
            cluster: Cluster::named("ns", "prod"),
            machine: Some(machine()),
            metal3_machine: Some(metal3_machine(Some("ns/h"))),
            host: Some(host()),
            node: Some(node()),
            forbidden: false,
            unreachable: false,
            mode,
            left: Left::default(),
            node_refuses: false,
            writes: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// With its finalizer in this phase, begun `seconds` ago.
    fn in_phase(phase: &str, mode: Mode, seconds: i64) -> Self {
        let mut world = Self::new(mode);
        world.remediation.metadata.finalizers = Some(vec![finalizer::REMEDIATION.to_owned()]);
        world.remediation.status = Some(Metal3RemediationStatus {
            phase: Some(phase.to_owned()),
            last_remediated: Some(Time(Timestamp::from_second(START - seconds).unwrap())),
            retry_count: None,
        });
        world
    }

    /// As [`Self::in_phase`], with the host switched off for it.
    fn kept_off(phase: &str, mode: Mode, seconds: i64) -> Self {
        let mut world = Self::in_phase(phase, mode, seconds);
        world.annotate_host(&power_off_key(UID));
        world.power(false);
        world
    }

    fn annotate_host(&mut self, key: &str) {
        let host = self.host.as_mut().unwrap();
        host.metadata.annotations.get_or_insert_default().insert(key.to_owned(), String::new());
    }

    fn power(&mut self, on: bool) {
        self.host.as_mut().unwrap().status.get_or_insert_default().powered_on = Some(on);
    }

    fn strategy(&mut self) -> &mut RemediationStrategy {
        self.remediation.spec.strategy.as_mut().unwrap()
    }

    fn delete(&mut self) {
        self.remediation.metadata.deletion_timestamp = Some(Time(self.now));
    }

    fn later(&mut self, seconds: i64) {
        self.now = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
    }

    fn phase(&self) -> &str {
        self.remediation.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    fn has_finalizer(&self) -> bool {
        self.remediation.metadata.finalizers.iter().flatten().any(|one| one == finalizer::REMEDIATION)
    }

    fn is_kept_off(&self) -> bool {
        kept_off_by(self.host.as_ref().unwrap()).any(|uid| uid == UID)
    }

    fn decide(&self, answers: &Answers) -> Step {
        let found = find(
            &self.remediation,
            |name| self.machine.clone().filter(|machine| machine.metadata.name.as_deref() == Some(name)).map(Arc::new),
            |name| {
                let named = self.metal3_machine.clone();
                named.filter(|machine| machine.metadata.name.as_deref() == Some(name)).map(Arc::new)
            },
            |name| self.host.clone().filter(|host| host.metadata.name.as_deref() == Some(name)).map(Arc::new),
        );
        let target = found.as_ref().map(|(machine, metal3_machine, host)| Target { machine, metal3_machine, host });
        decide(&Observed {
            now: self.now,
            remediation: &self.remediation,
            cluster: Some(&self.cluster),
            target,
            kept_off: self.host.as_ref().filter(|host| kept_off_by(host).any(|uid| uid == UID)),
            answers,
        })
    }

    /// Steps until it rests, as a controller takes them.
    fn pass(&mut self) -> Next {
        let mut answers = Answers::default();
        for _ in 0..40 {
            match self.decide(&answers) {
                Step::Rest(next) => return next,
                Step::Ask(question) => {
                    self.asked.push(question);
                    match question {
                        Question::Live => answers.is_live = true,
                        Question::Target => answers.target_is_live = true,
                        Question::Host => answers.host_is_live = true,
                        Question::Node => answers.node = Some(self.look()),
                        Question::Mode => answers.mode = Some(self.mode),
                        Question::Drain => answers.drain = Some(Drain::Left(self.left)),
                    }
                }
                Step::Do(action) => {
                    if !self.apply(action) {
                        return Next::Done;
                    }
                    answers.node = answers.node.is_some().then(|| self.look());
                }
            }
        }
        panic!("it does not rest: {:?}", self.writes);
    }

    fn look(&self) -> Fact {
        match &self.node {
            _ if self.unreachable => Fact::Unreachable("away".to_owned()),
            _ if self.forbidden => Fact::Forbidden,
            Some(node) => Fact::There(Arc::new(node.clone())),
            None => Fact::Absent,
        }
    }

    /// False: it was refused.
    fn apply(&mut self, action: Action) -> bool {
        match action {
            Action::Metadata { purpose, patch } => {
                self.remediation = patched(&self.remediation, &patch);
                self.writes.push(format!("{purpose:?}"));
            }
            Action::Status { purpose, status } => {
                self.remediation.status = Some(status);
                self.writes.push(format!("{purpose:?}"));
            }
            Action::Host { purpose, name, patch } => {
                assert_eq!(name, "h");
                self.host = self.host.as_ref().map(|host| patched(host, &patch));
                self.writes.push(format!("{purpose:?}"));
            }
            Action::Node { .. } | Action::DeleteNode if self.node_refuses => return false,
            Action::Node { purpose, patch } => {
                self.node = self.node.as_ref().map(|node| patched(node, &patch));
                self.writes.push(format!("{purpose:?}"));
            }
            Action::DeleteNode => {
                self.node = None;
                self.writes.push("DeleteNode".to_owned());
            }
            Action::HandOver(status) => {
                self.machine.as_mut().unwrap().status = Some(*status);
                self.writes.push("HandOver".to_owned());
            }
        }
        true
    }
}

fn secs(seconds: u64) -> Next {
    Next::After(Duration::from_secs(seconds))
}
