//! Machines claim hosts and let them go, under two managers that both believe they lead.
//!
//! Told again here, from `capm3_controllers`' machine folder: what a pass reads from its caches and what past them, what it makes of
//! an answer, of a conflict and of silence. Everything else is [`machine::decide`]. Left out: data templates, Nodes, pauses, node reuse
//! (each has tests of its own), more than one pass of one manager at a time, reads that fail.

mod calm;
mod pass;
mod state;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine};
use capm3_api::infra::v1beta2::{Metal3Cluster, Metal3Machine};
use capm3_api::k8s::Timestamp;
use capm3_core::machine::{
    self, Action, Answers, Candidates, Nodes, Observed, Owner, Purpose, Question, Report, Step as Decided,
};
use capm3_runtime::merge_diff;
use serde_json::{Value, json};

use super::explore::{Fingerprint, Memo, Protocol};
use super::objects::{Answer, Change, Content, Contents, EARLIER, Fence, LATER, Ranks, Seen, newer};
use super::{Flaw, MANAGERS};

const NAMESPACE: &str = "site";
const MACHINES: [&str; 2] = ["m1", "m2"];
const HOSTS: [&str; 2] = ["host-0", "host-1"];
const SLOTS: usize = 4;

/// Lost races in one pass, as in the controller.
const RACES: u8 = 5;
/// Questions and writes of one pass that need no request; more would be a pass that never ends.
const THOUGHTS: usize = 20;
/// Rounds in which a world without faults comes to rest.
const ROUNDS: usize = 40;

/// What there is, and what may happen to it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// One or two of each.
    pub machines: usize,
    pub hosts: usize,
    /// How many machines a user deletes, and how many of these come back under the same name.
    pub deletes: u8,
    pub returns: u8,
    pub crashes: u8,
    /// Requests or answers that get lost.
    pub losses: u8,
    /// Whether there are two managers at once, or one that crashes and starts again.
    pub two: bool,
    pub flaw: Option<Flaw>,
}

impl Default for Setting {
    /// Two of everything, one crash, one loss.
    fn default() -> Self {
        Self { machines: 2, hosts: 2, deletes: 0, returns: 0, crashes: 1, losses: 1, two: true, flaw: None }
    }
}

/// The protocol by which machines come to hosts.
pub struct Hosts {
    setting: Setting,
    around: Around,
    memory: RefCell<Memory>,
}

/// What never changes.
struct Around {
    now: Timestamp,
    owners: [Machine; 2],
    cluster: Cluster,
    infrastructure: Metal3Cluster,
}

#[derive(Default)]
struct Memory {
    contents: Contents,
    machines: Memo<Seen, Rc<Metal3Machine>>,
    hosts: Memo<Seen, Rc<BareMetalHost>>,
    facts: Memo<Content, HostFacts>,
    thoughts: Memo<Look, Thought>,
    well: Memo<u128, ()>,
}

/// The machines, then the hosts.
type Objects = [Option<Seen>; SLOTS];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    stored: Objects,
    managers: [Manager; 2],
    /// For which machine a host was claimed, by uid.
    meant: [Option<u8>; 2],
    deletes: u8,
    returns: u8,
    crashes: u8,
    losses: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Manager {
    alive: bool,
    cached: Objects,
    pass: Option<Pass>,
}

/// A pass over one machine, between two requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pass {
    slot: u8,
    pick: u8,
    own: Seen,
    live_own: Option<Seen>,
    live_hosts: [Live; 2],
    own_is_live: bool,
    hosts_are_live: bool,
    races: u8,
    io: Io,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Live {
    Unread,
    Gone,
    There(Seen),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Io {
    Read(Reading),
    Sent(Request),
    Answered(Request, Answer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Reading {
    Own,
    AllHosts,
    Host(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Request {
    slot: u8,
    deed: Deed,
    change: Change,
    fence: Fence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Deed {
    Intend,
    Claim,
    Provision,
    Clear,
    Fence,
    Release,
    Forget,
    /// The status at the end of a pass.
    Status,
    /// The status instead of a look whether the machine lives.
    Tell,
}

/// What a pass looks at when it thinks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Look {
    slot: u8,
    pick: u8,
    own: Seen,
    own_is_live: bool,
    hosts_are_live: bool,
    hosts: [Option<Seen>; 2],
    held: [bool; 2],
    listed: [bool; 2],
    sought: [bool; 2],
}

#[derive(Clone, Copy)]
enum Thought {
    Rest,
    Read(Reading),
    Write(Request),
}

#[derive(Clone, Copy)]
struct HostFacts {
    /// Which machine it names; 2 for anything else.
    consumer: Option<u8>,
    image: bool,
    provisioned: bool,
}

/// One thing that happens. Managers and machines by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    CatchUp(u8, u8),
    Begin(u8, u8, u8),
    Read(u8),
    Arrive(u8),
    Answer(u8),
    LoseRequest(u8),
    LoseAnswer(u8),
    Crash(u8),
    Operate(u8),
    Delete(u8),
    Return(u8),
}

impl Hosts {
    pub fn new(setting: Setting) -> Self {
        let owner = |name: &str| -> Machine {
            typed(json!({
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"cluster.x-k8s.io/cluster-name": "prod"}},
                "spec": {"clusterName": "prod", "bootstrap": {"dataSecretName": name}},
            }))
        };
        let around = Around {
            now: LATER.parse().unwrap_or_default(),
            owners: MACHINES.map(owner),
            cluster: typed(json!({
                "metadata": {"name": "prod", "namespace": NAMESPACE},
                "status": {"initialization": {"infrastructureProvisioned": true}},
            })),
            infrastructure: typed(json!({"metadata": {"name": "prod", "namespace": NAMESPACE}})),
        };
        Self { setting, around, memory: RefCell::default() }
    }

    fn new_machine(&self, slot: usize) -> Content {
        self.memory.borrow_mut().contents.content(json!({
            "metadata": {
                "name": MACHINES[slot], "namespace": NAMESPACE, "generation": 1, "creationTimestamp": EARLIER,
                "labels": {"cluster.x-k8s.io/cluster-name": "prod"},
                "ownerReferences": [
                    {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "name": MACHINES[slot], "uid": "u"},
                ],
            },
            "spec": {"image": {"url": "http://192.0.2.1/image.raw", "checksum": "abc"}},
        }))
    }

    fn new_host(&self, index: usize) -> Content {
        self.memory.borrow_mut().contents.content(json!({
            "metadata": {"name": HOSTS[index], "namespace": NAMESPACE, "creationTimestamp": EARLIER},
            "spec": {"online": false},
            "status": {"provisioning": {"state": "available"}},
        }))
    }

    fn facts(&self, content: Content) -> HostFacts {
        let mut memory = self.memory.borrow_mut();
        let Memory { contents, facts, .. } = &mut *memory;
        *facts.entry(content).or_insert_with(|| {
            let host = contents.value(content);
            let consumer = host["spec"]["consumerRef"]["name"].as_str();
            let number = |name: &str| MACHINES.iter().position(|machine| *machine == name).map_or(2, |at| at as u8);
            HostFacts {
                consumer: consumer.map(number),
                image: host["spec"]["image"].is_object(),
                provisioned: host["status"]["provisioning"]["state"] == "provisioned",
            }
        })
    }

    fn host_facts(&self, objects: &Objects, index: usize) -> Option<HostFacts> {
        objects[2 + index].map(|host| self.facts(host.content))
    }

    fn is_deleting(&self, seen: Seen) -> bool {
        self.memory.borrow().contents.is_deleting(seen.content)
    }

    fn named_host(&self, machine: Seen) -> Option<usize> {
        let mut memory = self.memory.borrow_mut();
        let machine = memory.machine(machine);
        let name = machine::host_name(&machine).ok().flatten()?;
        HOSTS.iter().position(|host| *host == name)
    }

    fn operate(&self, state: &mut State, i: usize) {
        let Some(host) = self.host_facts(&state.stored, i).filter(|host| host.image != host.provisioned) else {
            return;
        };
        let wanted = if host.image { "provisioned" } else { "available" };
        let mut memory = self.memory.borrow_mut();
        let change = memory.contents.change(json!({"status": {"provisioning": {"state": wanted}}}));
        let next = state.next_version(2 + i);
        memory.contents.patch(&mut state.stored[2 + i], change, Fence::default(), next);
    }

    fn take(&self, state: &State, step: Step) -> State {
        let mut after = state.clone();
        match step {
            Step::CatchUp(at, slot) => {
                after.managers[usize::from(at)].cached[usize::from(slot)] = after.stored[usize::from(slot)];
            }
            Step::Begin(at, slot, pick) => self.begin(&mut after, usize::from(at), usize::from(slot), pick),
            Step::Read(at) => self.read(&mut after, usize::from(at)),
            Step::Arrive(at) => self.arrive(&mut after, usize::from(at)),
            Step::Answer(at) => self.answer(&mut after, usize::from(at)),
            Step::LoseRequest(at) | Step::LoseAnswer(at) => {
                self.silence(&mut after, usize::from(at));
                after.losses -= 1;
            }
            Step::Crash(at) => {
                after.managers[usize::from(at)] = Manager { alive: true, cached: after.stored, pass: None };
                after.crashes -= 1;
            }
            Step::Operate(i) => self.operate(&mut after, usize::from(i)),
            Step::Delete(slot) => {
                let slot = usize::from(slot);
                let next = after.next_version(slot);
                self.memory.borrow_mut().contents.delete(&mut after.stored[slot], Fence::default(), next);
                after.deletes -= 1;
            }
            Step::Return(slot) => {
                let slot = usize::from(slot);
                let version = after.next_version(slot);
                let uid = after.next_uid(slot);
                after.stored[slot] = Some(Seen { content: self.new_machine(slot), version, uid });
                after.returns -= 1;
            }
        }
        after
    }

    fn possible(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, manager) in (0u8..).zip(&state.managers).filter(|(_, manager)| manager.alive) {
            for (slot, (cached, stored)) in (0u8..).zip(manager.cached.iter().zip(&state.stored)) {
                if cached != stored {
                    steps.push(Step::CatchUp(at, slot));
                }
            }
            match &manager.pass {
                None => {
                    let picks = self.setting.hosts.min(2) as u8;
                    let machines = (0u8..).zip(&manager.cached[..2]).filter(|(_, machine)| machine.is_some());
                    let starts = machines.flat_map(|(slot, _)| (0..picks).map(move |pick| Step::Begin(at, slot, pick)));
                    steps.extend(starts);
                }
                Some(pass) => match pass.io {
                    Io::Read(_) => steps.push(Step::Read(at)),
                    Io::Sent(_) => {
                        steps.push(Step::Arrive(at));
                        if state.losses > 0 {
                            steps.push(Step::LoseRequest(at));
                        }
                    }
                    Io::Answered(..) => {
                        steps.push(Step::Answer(at));
                        if state.losses > 0 {
                            steps.push(Step::LoseAnswer(at));
                        }
                    }
                },
            }
            if state.crashes > 0 {
                steps.push(Step::Crash(at));
            }
        }
        for i in 0..2u8 {
            if self.host_facts(&state.stored, usize::from(i)).is_some_and(|host| host.image != host.provisioned) {
                steps.push(Step::Operate(i));
            }
        }
        for slot in 0..2u8 {
            let machine = state.stored[usize::from(slot)];
            if state.deletes > 0 && machine.is_some_and(|machine| !self.is_deleting(machine)) {
                steps.push(Step::Delete(slot));
            }
            if state.returns > 0 && machine.is_none() && usize::from(slot) < self.setting.machines {
                steps.push(Step::Return(slot));
            }
        }
        steps
    }

    fn consumer(&self, objects: &Objects, host: usize) -> Option<u8> {
        self.host_facts(objects, host)?.consumer
    }
}

const DEAD: Manager = Manager { alive: false, cached: [None; SLOTS], pass: None };

fn look_again(request: Request) -> Io {
    match request.slot {
        0 | 1 => Io::Read(Reading::Own),
        host => Io::Read(Reading::Host(host - 2)),
    }
}

impl Memory {
    fn machine(&mut self, seen: Seen) -> Rc<Metal3Machine> {
        let Self { contents, machines, .. } = self;
        machines.entry(seen).or_insert_with(|| Rc::new(contents.typed(seen).unwrap_or_default())).clone()
    }

    fn host(&mut self, seen: Seen) -> Rc<BareMetalHost> {
        let Self { contents, hosts, .. } = self;
        hosts.entry(seen).or_insert_with(|| Rc::new(contents.typed(seen).unwrap_or_default())).clone()
    }
}

impl Protocol for Hosts {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let mut stored = [None; SLOTS];
        let seen = |content| Some(Seen { content, version: 0, uid: 0 });
        for (slot, place) in stored.iter_mut().enumerate().take(self.setting.machines.min(2)) {
            *place = seen(self.new_machine(slot));
        }
        for i in 0..self.setting.hosts.min(2) {
            stored[2 + i] = seen(self.new_host(i));
        }
        let manager = Manager { alive: true, cached: stored, pass: None };
        let managers = [if self.setting.two { manager.clone() } else { DEAD }, manager];
        let Setting { deletes, returns, crashes, losses, .. } = self.setting;
        State { stored, managers, meant: [None; 2], deletes, returns, crashes, losses }
    }

    fn next(&self, state: &State) -> Vec<(Step, State, bool)> {
        let taken = self.possible(state).into_iter().map(|step| {
            let (after, swapped) = self.take(state, step).canonical();
            (step, after, swapped)
        });
        taken.filter(|(_, after, _)| after != state).collect()
    }

    fn broken(&self, before: &State, step: Step, after: &State) -> Option<String> {
        for (slot, name) in MACHINES.into_iter().enumerate() {
            let hosts = (0..2).filter(|i| self.consumer(&after.stored, *i) == Some(slot as u8)).count();
            if hosts > 1 {
                return Some(format!("{name} holds two hosts"));
            }
            let gone = before.stored[slot].is_some() && after.stored[slot].is_none();
            if gone && hosts > 0 && !matches!(step, Step::Delete(_)) {
                return Some(format!("{name} is let go while it still holds a host"));
            }
        }
        for (i, name) in HOSTS.into_iter().enumerate() {
            let (Some(old), Some(new)) = (self.host_facts(&before.stored, i), self.host_facts(&after.stored, i)) else {
                continue;
            };
            if let (Some(from), Some(to)) = (old.consumer, new.consumer)
                && from != to
            {
                let machine = |at: u8| MACHINES.get(usize::from(at)).copied().unwrap_or("somebody else");
                return Some(format!(
                    "{name} goes from {} to {} without having been let go",
                    machine(from),
                    machine(to)
                ));
            }
            if new.consumer.is_none() && new.image {
                return Some(format!("{name} belongs to nobody and has an image"));
            }
            let owner = old.consumer.and_then(|at| before.stored.get(usize::from(at)).copied().flatten());
            let lives = owner.is_some_and(|own| Some(own.uid) == before.meant[i] && !self.is_deleting(own));
            if old.image && !new.image && lives {
                return Some(format!("{name} is wiped under a machine that lives"));
            }
        }
        None
    }

    fn stuck(&self, state: &State) -> Option<String> {
        let ways = [(None, "all managers"), (Some(0), "one manager alone"), (Some(1), "one manager alone")];
        let mut ways = ways.into_iter().filter(|(alone, _)| alone.is_none_or(|at: usize| state.managers[at].alive));
        ways.find_map(|(alone, who)| {
            self.calm(state, alone).err().map(|what| format!("{what}, though {who} could do everything"))
        })
    }

    fn tell(&self, before: &State, step: Step, after: &State, swapped: bool) -> String {
        let memory = self.memory.borrow();
        let name = |at: u8| MANAGERS[usize::from(at) ^ usize::from(swapped)];
        let object = |slot: u8| MACHINES.iter().chain(&HOSTS).nth(usize::from(slot)).copied().unwrap_or_default();
        let pass = |at: u8| before.managers[usize::from(at)].pass.as_ref();
        let wire = |at: u8| match pass(at).map(|pass| pass.io) {
            Some(Io::Sent(request) | Io::Answered(request, _)) => {
                format!(
                    "{:?} of {} for {}",
                    request.deed,
                    object(request.slot),
                    pass(at).map_or("", |pass| object(pass.slot))
                )
            }
            Some(Io::Read(reading)) => format!("read of {reading:?}"),
            None => String::new(),
        };
        match step {
            Step::CatchUp(at, slot) => {
                let seen = after.stored[usize::from(slot)]
                    .map_or("gone".to_owned(), |seen| brief(memory.contents.value(seen.content)));
                format!("{} sees {} as it is: {seen}", name(at), object(slot))
            }
            Step::Begin(at, slot, pick) => format!("{} looks at {} (pick {pick})", name(at), object(slot)),
            Step::Read(at) => format!("{}: {}", name(at), wire(at)),
            Step::Arrive(at) => {
                let changed = (0..SLOTS).find(|slot| before.stored[*slot] != after.stored[*slot]);
                let what = match changed {
                    None => "it changes nothing".to_owned(),
                    Some(slot) => after.stored[slot]
                        .map_or("it is gone".to_owned(), |seen| brief(memory.contents.value(seen.content))),
                };
                format!("{}'s {} arrives: {what}", name(at), wire(at))
            }
            Step::Answer(at) => format!("{} hears of {}", name(at), wire(at)),
            Step::LoseRequest(at) => format!("{}'s {} is lost on its way", name(at), wire(at)),
            Step::LoseAnswer(at) => format!("the answer to {}'s {} is lost", name(at), wire(at)),
            Step::Crash(at) => format!("{} crashes and starts anew", name(at)),
            Step::Operate(i) => format!("the host operator is done with {}", HOSTS[usize::from(i)]),
            Step::Delete(slot) => format!("a user deletes {}", object(slot)),
            Step::Return(slot) => format!("a user makes {} again", object(slot)),
        }
    }
}

/// What matters of an object in a story.
fn brief(object: &Value) -> String {
    let meta = &object["metadata"];
    let spec = &object["spec"];
    let annotations = meta["annotations"].as_object().into_iter().flatten();
    let sought =
        annotations.filter(|(key, _)| key.ends_with("BareMetalHost")).map(|(_, host)| format!("goes for {host}"));
    let mut parts: Vec<String> = sought.collect();
    if let Some(consumer) = spec["consumerRef"]["name"].as_str() {
        parts.push(format!("held by {consumer}"));
    }
    if let Some(state) = object["status"]["provisioning"]["state"].as_str() {
        let image = if spec["image"].is_object() { "with image" } else { "without image" };
        parts.push(format!("{state} {image}"));
    }
    if meta["deletionTimestamp"].is_string() {
        parts.push("being deleted".to_owned());
    }
    if meta["finalizers"].as_array().is_some_and(|all| !all.is_empty()) {
        parts.push("kept by a finalizer".to_owned());
    }
    if parts.is_empty() { "untouched".to_owned() } else { parts.join(", ") }
}

fn typed<K: serde::de::DeserializeOwned + Default>(value: Value) -> K {
    serde_json::from_value(value).unwrap_or_default()
}
