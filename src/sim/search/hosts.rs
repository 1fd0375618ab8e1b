//! Machines claim hosts and let them go, under two managers that both believe they lead.
//!
//! Told again here, from `capm3_controllers`' machine folder: what a pass reads from its caches and what past them, what it makes of
//! an answer, of a conflict and of silence. Everything else is [`machine::decide`]. Left out: data templates, Nodes, pauses, node reuse
//! (each has tests of its own), more than one pass of one manager at a time, reads that fail.

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

    /// What the pass sees now: caches, and what was read past them.
    fn look(&self, manager: &Manager, pass: &mut Pass) -> Look {
        let cached = &manager.cached;
        if let Some(own) = newer(cached[usize::from(pass.slot)], pass.live_own) {
            pass.own = own;
        }
        let named = self.named_host(pass.own);
        let mut look = Look {
            slot: pass.slot,
            pick: pass.pick,
            own: pass.own,
            own_is_live: pass.own_is_live,
            hosts_are_live: pass.hosts_are_live,
            hosts: [None; 2],
            held: [false; 2],
            listed: [false; 2],
            sought: [false; 2],
        };
        for i in 0..2 {
            let known = cached[2 + i];
            look.hosts[i] = match pass.live_hosts[i] {
                Live::Unread => known,
                Live::Gone => None,
                Live::There(live) => newer(known, Some(live)),
            };
            let holds =
                |host: Option<Seen>| host.is_some_and(|host| self.facts(host.content).consumer == Some(pass.slot));
            let looked_for = holds(known) || named == Some(i) || pass.live_hosts[i] != Live::Unread;
            look.held[i] = looked_for && holds(look.hosts[i]);
            look.listed[i] = known.is_some() && look.hosts[i].is_some();
        }
        if let Some(other) = cached[usize::from(1 - pass.slot)]
            && let Some(sought) = self.named_host(other)
        {
            look.sought[sought] = true;
        }
        look
    }

    /// The pass goes on until its next request, or to its end.
    fn think(&self, manager: &mut Manager) {
        let Some(mut pass) = manager.pass.take() else { return };
        let look = self.look(manager, &mut pass);
        let thought = {
            let mut memory = self.memory.borrow_mut();
            match memory.thoughts.get(&look) {
                Some(thought) => *thought,
                None => {
                    let thought = self.decide(&mut memory, &look);
                    memory.thoughts.insert(look, thought);
                    thought
                }
            }
        };
        pass.io = match thought {
            Thought::Rest => return,
            Thought::Read(reading) => Io::Read(reading),
            Thought::Write(request) => Io::Sent(request),
        };
        manager.pass = Some(pass);
    }

    fn decide(&self, memory: &mut Memory, look: &Look) -> Thought {
        let own = memory.machine(look.own);
        let hosts = look.hosts.map(|host| host.map(|seen| memory.host(seen)));
        let picked = |which: [bool; 2]| -> Vec<&BareMetalHost> {
            hosts.iter().zip(which).filter(|(_, wanted)| *wanted).filter_map(|(host, _)| host.as_deref()).collect()
        };
        let sought: BTreeSet<String> =
            HOSTS.iter().zip(look.sought).filter(|(_, sought)| *sought).map(|(name, _)| (*name).to_owned()).collect();
        let named = machine::host_name(&own).ok().flatten();
        let mut answers =
            Answers { machine_is_live: look.own_is_live, hosts_are_live: look.hosts_are_live, ..Answers::default() };
        let mut asked = false;
        for _ in 0..THOUGHTS {
            let decision = machine::decide(&Observed {
                now: self.around.now,
                machine: &own,
                owner: Owner::Machine(&self.around.owners[usize::from(look.slot)]),
                cluster: Some(&self.around.cluster),
                infrastructure: Some(&self.around.infrastructure),
                machine_set: None,
                host: hosts.iter().flatten().find(|host| host.metadata.name.as_deref() == named).map(Rc::as_ref),
                held: picked(look.held),
                claim: None,
                data: None,
                fast_track: false,
                pick: usize::from(look.pick),
                candidates: asked.then(|| Candidates { hosts: picked(look.listed), sought: &sought }),
                answers: &answers,
            });
            match decision.step {
                Decided::Rest(_) => {
                    return self.status(memory, look, &own, &decision.report, Deed::Status).unwrap_or(Thought::Rest);
                }
                Decided::Do(action) => return self.request(memory, look, action),
                Decided::Ask(Question::MachineLive) => {
                    let told = own.metadata.deletion_timestamp.is_some();
                    let told = told.then(|| self.status(memory, look, &own, &decision.report, Deed::Tell)).flatten();
                    return told.unwrap_or(Thought::Read(Reading::Own));
                }
                Decided::Ask(Question::HostsLive) => return Thought::Read(Reading::AllHosts),
                Decided::Ask(Question::Candidates) => asked = true,
                Decided::Ask(Question::Nodes) => answers.nodes = Some(Nodes::Connecting),
                Decided::Ask(_) => return Thought::Rest, // about what there is none of
            }
        }
        Thought::Rest
    }

    fn status(
        &self,
        memory: &mut Memory,
        look: &Look,
        own: &Metal3Machine,
        report: &Report,
        deed: Deed,
    ) -> Option<Thought> {
        let after = report.status(own, self.around.now);
        let difference = merge_diff(&own.status.clone().unwrap_or_default(), &after).ok().flatten()?;
        let change = memory.contents.change(json!({"status": difference}));
        let fence = Fence::unchanged(look.own);
        Some(Thought::Write(Request { slot: look.slot, deed, change, fence }))
    }

    fn request(&self, memory: &mut Memory, look: &Look, action: Action) -> Thought {
        let deed = |purpose: Purpose| match purpose {
            Purpose::Intend => Some(Deed::Intend),
            Purpose::Claim { .. } => Some(Deed::Claim),
            Purpose::Provision => Some(Deed::Provision),
            Purpose::Clear => Some(Deed::Clear),
            Purpose::Release { .. } => Some(Deed::Release),
            Purpose::Forget => Some(Deed::Forget),
            Purpose::BlockMove
            | Purpose::PauseHost
            | Purpose::UnblockMove
            | Purpose::UnpauseHost
            | Purpose::Identify => None,
        };
        let (slot, purpose, fence, patch) = match action {
            Action::Machine { purpose, patch } => (look.slot, purpose, Fence::unchanged(look.own), patch),
            Action::Host { purpose, name, version, patch } => {
                let Some(at) = HOSTS.iter().position(|host| *host == name) else { return Thought::Rest };
                let fence = Fence::read(version.resource_version.as_deref(), version.uid.as_deref());
                (2 + at as u8, purpose, fence, patch)
            }
            Action::LabelCredentials { .. }
            | Action::UnlabelCredentials { .. }
            | Action::CreateClaim(_)
            | Action::DropClaim { .. }
            | Action::DeleteClaim { .. }
            | Action::NameNode { .. } => return Thought::Rest, // of what there is none
        };
        let Some(deed) = deed(purpose) else { return Thought::Rest };
        let blind = self.setting.flaw == Some(Flaw::Unconditional) && deed == Deed::Claim;
        let fence = if blind { Fence::default() } else { fence };
        let change = memory.contents.change(patch);
        Thought::Write(Request { slot, deed, change, fence })
    }

    fn begin(&self, state: &mut State, at: usize, slot: usize, pick: u8) {
        let manager = &mut state.managers[at];
        let Some(own) = manager.cached[slot] else { return };
        manager.pass = Some(Pass {
            slot: slot as u8,
            pick,
            own,
            live_own: None,
            live_hosts: [Live::Unread; 2],
            own_is_live: false,
            hosts_are_live: false,
            races: 0,
            io: Io::Read(Reading::Own),
        });
        self.think(manager);
    }

    fn read(&self, state: &mut State, at: usize) {
        let manager = &mut state.managers[at];
        let Some(mut pass) = manager.pass.take() else { return };
        let Io::Read(reading) = pass.io else { return };
        match reading {
            Reading::Own => match state.stored[usize::from(pass.slot)].filter(|own| own.uid == pass.own.uid) {
                Some(own) => {
                    pass.live_own = Some(own);
                    pass.own_is_live = true;
                }
                None => return, // gone: what the watch shows next decides
            },
            Reading::AllHosts => {
                for i in 0..2 {
                    let held = state.stored[2 + i].filter(|host| self.facts(host.content).consumer == Some(pass.slot));
                    if let Some(host) = held {
                        pass.live_hosts[i] = Live::There(host);
                    }
                }
                pass.hosts_are_live = true;
            }
            Reading::Host(i) => {
                pass.live_hosts[usize::from(i)] = state.stored[2 + usize::from(i)].map_or(Live::Gone, Live::There);
                pass.io = Io::Read(Reading::Own); // the intent may have changed hands as well
                manager.pass = Some(pass);
                return;
            }
        }
        manager.pass = Some(pass);
        self.think(manager);
    }

    fn arrive(&self, state: &mut State, at: usize) {
        let Some(Io::Sent(request)) = state.managers[at].pass.as_ref().map(|pass| pass.io) else { return };
        let next = state.next_version(usize::from(request.slot));
        let stored = &mut state.stored[usize::from(request.slot)];
        let answer = self.memory.borrow_mut().contents.patch(stored, request.change, request.fence, next);
        if request.deed == Deed::Claim && matches!(answer, Answer::Done(_)) {
            let own = state.managers[at].pass.as_ref().map(|pass| pass.own.uid);
            state.meant[usize::from(request.slot) - 2] = own;
        }
        if let Some(pass) = &mut state.managers[at].pass {
            pass.io = Io::Answered(request, answer);
        }
        self.let_nobody_own(state);
    }

    /// What a host was meant for is forgotten with its consumer.
    fn let_nobody_own(&self, state: &mut State) {
        for i in 0..2 {
            if self.host_facts(&state.stored, i).is_none_or(|host| host.consumer.is_none()) {
                state.meant[i] = None;
            }
        }
    }

    fn answer(&self, state: &mut State, at: usize) {
        let manager = &mut state.managers[at];
        let Some(mut pass) = manager.pass.take() else { return };
        let Io::Answered(request, answer) = pass.io else { return };
        let slot = usize::from(request.slot);
        let done = match answer {
            Answer::Done(seen) => {
                manager.cached[slot] = newer(manager.cached[slot], Some(seen));
                true
            }
            Answer::Gone => {
                manager.cached[slot] = None;
                true
            }
            Answer::Conflict | Answer::NotFound | Answer::AlreadyExists => false,
        };
        match request.deed {
            Deed::Status => return,
            Deed::Tell if !done => {
                pass.io = Io::Read(Reading::Own);
                manager.pass = Some(pass);
                return;
            }
            Deed::Forget if done => return,
            Deed::Tell | Deed::Intend | Deed::Forget if done => {
                pass.live_own = None;
                pass.own_is_live = true;
            }
            _ if done => {
                pass.live_hosts[slot - 2] = Live::Unread;
                if request.deed == Deed::Release && self.named_host(pass.own) == Some(slot - 2) {
                    pass.hosts_are_live = true;
                }
            }
            _ if pass.races < RACES => {
                pass.races += 1;
                pass.io = look_again(request);
                manager.pass = Some(pass);
                return;
            }
            _ => return,
        }
        manager.pass = Some(pass);
        self.think(manager);
    }

    /// Nobody knows whether the write happened.
    fn silence(&self, state: &mut State, at: usize) {
        let manager = &mut state.managers[at];
        let Some(mut pass) = manager.pass.take() else { return };
        let (Io::Sent(request) | Io::Answered(request, _)) = pass.io else { return };
        pass.io = match request.deed {
            Deed::Status => return,
            Deed::Tell => Io::Read(Reading::Own),
            _ if pass.races < RACES => look_again(request),
            _ => return,
        };
        pass.races += if request.deed == Deed::Tell { 0 } else { RACES };
        manager.pass = Some(pass);
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

    /// Both managers, or the one of this number, do all they can, and nothing goes wrong: the state in the end.
    fn calm(&self, state: &State, alone: Option<usize>) -> Result<(), String> {
        let mut state = state.clone();
        if let Some(at) = alone {
            state.managers[1 - at] = DEAD;
        }
        state.deletes = 0;
        state.returns = 0;
        state.crashes = 0;
        state.losses = 0;
        let mut way = Vec::new();
        for _ in 0..ROUNDS {
            state.renumber();
            let print = Fingerprint::of(&state);
            if self.memory.borrow().well.contains_key(&print) {
                break;
            }
            let before = state.clone();
            way.push(print);
            for at in 0..2 {
                if !state.managers[at].alive {
                    continue;
                }
                self.drain(&mut state, at);
                for slot in 0..2 {
                    state.managers[at].cached = state.stored;
                    self.begin(&mut state, at, slot, 0);
                    self.drain(&mut state, at);
                }
            }
            for i in 0..2 {
                self.operate(&mut state, i);
            }
            state.renumber();
            if state == before {
                self.at_rest(&state)?;
                break;
            }
            if way.len() == ROUNDS {
                return Err("the managers never come to rest".to_owned());
            }
        }
        self.memory.borrow_mut().well.extend(way.into_iter().map(|print| (print, ())));
        Ok(())
    }

    fn drain(&self, state: &mut State, at: usize) {
        for _ in 0..4 * ROUNDS {
            match state.managers[at].pass.as_ref().map(|pass| pass.io) {
                None => return,
                Some(Io::Read(_)) => self.read(state, at),
                Some(Io::Sent(_)) => self.arrive(state, at),
                Some(Io::Answered(..)) => self.answer(state, at),
            }
        }
    }

    /// What must be true when nothing happens any more.
    fn at_rest(&self, state: &State) -> Result<(), String> {
        let mut free = 0;
        for (i, name) in HOSTS.into_iter().enumerate() {
            let Some(host) = self.host_facts(&state.stored, i) else { continue };
            match host.consumer {
                None if host.image => return Err(format!("{name} belongs to nobody and keeps its image")),
                None => free += 1,
                Some(machine) => match state.stored.get(usize::from(machine)).copied().flatten() {
                    Some(_) if !host.image => return Err(format!("{name} is claimed and never gets its image")),
                    Some(_) => {}
                    None => {
                        return Err(format!(
                            "{name} stays claimed for {}, which is gone",
                            MACHINES[usize::from(machine.min(1))]
                        ));
                    }
                },
            }
        }
        for (slot, name) in MACHINES.into_iter().enumerate() {
            let Some(machine) = state.stored[slot] else { continue };
            if self.is_deleting(machine) {
                return Err(format!("{name} never goes"));
            }
            let held = (0..2).filter(|i| self.consumer(&state.stored, *i) == Some(slot as u8)).count();
            if held != 1 && !(held == 0 && free == 0) {
                return Err(format!("{name} holds {held} hosts while {free} are free"));
            }
        }
        Ok(())
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

impl State {
    /// Every version that somebody knows, with the object it is of.
    fn versions(&mut self, visit: &mut impl FnMut(usize, &mut u8)) {
        fn one(slot: usize, seen: &mut Option<Seen>, visit: &mut impl FnMut(usize, &mut u8)) {
            if let Some(seen) = seen {
                visit(slot, &mut seen.version);
            }
        }
        (0..).zip(&mut self.stored).for_each(|(slot, seen)| one(slot, seen, visit));
        for manager in &mut self.managers {
            (0..).zip(&mut manager.cached).for_each(|(slot, seen)| one(slot, seen, visit));
            let Some(pass) = &mut manager.pass else { continue };
            let slot = usize::from(pass.slot);
            visit(slot, &mut pass.own.version);
            one(slot, &mut pass.live_own, visit);
            for (i, live) in (0..).zip(&mut pass.live_hosts) {
                if let Live::There(seen) = live {
                    visit(2 + i, &mut seen.version);
                }
            }
            if let Io::Sent(request) | Io::Answered(request, _) = &mut pass.io {
                request.fence.version.iter_mut().for_each(|version| visit(usize::from(request.slot), version));
            }
            if let Io::Answered(request, Answer::Done(seen)) = &mut pass.io {
                visit(usize::from(request.slot), &mut seen.version);
            }
        }
    }

    fn ranks(&self) -> [Ranks; SLOTS] {
        let mut ranks: [Ranks; SLOTS] = Default::default();
        self.clone().versions(&mut |slot, version| ranks[slot].note(*version));
        ranks
    }

    fn next_version(&self, slot: usize) -> u8 {
        self.ranks()[slot].next()
    }

    /// Only deleted machines come back, so that a uid is one more than the last that anybody knows.
    fn next_uid(&self, slot: usize) -> u8 {
        let known = self.managers.iter().flat_map(|manager| {
            let pass = manager.pass.as_ref().filter(|pass| usize::from(pass.slot) == slot);
            [manager.cached[slot].map(|seen| seen.uid), pass.map(|pass| pass.own.uid)]
        });
        let held = self.meant.iter().copied();
        known.chain(held).flatten().max().map_or(0, |last| last.saturating_add(1))
    }

    fn renumber(&mut self) {
        let ranks = self.ranks();
        self.versions(&mut |slot, version| *version = ranks[slot].of(*version));
    }

    /// Versions by rank, managers in order. True: the managers have changed places.
    fn canonical(mut self) -> (Self, bool) {
        self.renumber();
        let swapped = self.managers[1] < self.managers[0];
        if swapped {
            self.managers.swap(0, 1);
        }
        (self, swapped)
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
