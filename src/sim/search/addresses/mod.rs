//! Claims of both kinds get addresses of one pool and give them back, under two managers that both believe they lead.
//!
//! Told again here, from `capm3_controllers`' ipam folder: what a pass gathers, which absences it looks for live, and how it carries a plan
//! out write by write. What is needed, decided and written is [`needs`], [`decide`] and the objects of `capm3_core::ipam`. Left out: claims
//! served side by side within one pass, Clusters, pauses, the end of the pool.

mod calm;
mod pass;
mod state;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use capm3_api::foreign::IPAddressClaim;
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_api::k8s::{Time, Timestamp};
use capm3_core::ipam::objects::{
    capi_claim, capi_claim_status, claim_status, new_address, new_capi_address, pool_status,
};
use capm3_core::ipam::pool::{AddressObject, Claim, Observed, Plan, Pool, Serve, decide, needs};
use capm3_core::ipam::table::{ClaimKey, Kind};
use capm3_runtime::merge_diff;
use serde::Serialize;
use serde_json::{Value, json};

use super::explore::{Fingerprint, Memo, Protocol};
use super::objects::{Answer, Change, Contents, EARLIER, Fence, LATER, Ranks, Seen, newer, uid_text};
use super::{Flaw, MANAGERS};

const NAMESPACE: &str = "site";
const POOL: usize = 0;
/// The claim of either kind.
const CLAIMS: [usize; 2] = [1, 2];
const KINDS: [Kind; 2] = [Kind::Metal3, Kind::ClusterApi];
/// Address objects of either kind, two of each.
const ADDRESSES: [[usize; 2]; 2] = [[3, 4], [5, 6]];
const TEXTS: [&str; 2] = ["192.0.2.10", "192.0.2.11"];
const SLOTS: usize = 7;
const ROUNDS: usize = 40;

/// What there is, and what may happen to it. There is a claim of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// One or two.
    pub addresses: usize,
    /// Both claims have the same name.
    pub same_name: bool,
    /// Our finalizers are on the claims from the start, as those that serve a Metal3Data have them.
    pub finalizers: bool,
    /// The first address is kept for the name of the second claim.
    pub kept: bool,
    /// How many claims a user deletes, and how many of these come back under the same name.
    pub deletes: u8,
    pub returns: u8,
    pub crashes: u8,
    /// Requests or answers that get lost.
    pub losses: u8,
    pub flaw: Option<Flaw>,
}

impl Default for Setting {
    /// Two addresses, one crash, one loss.
    fn default() -> Self {
        Self {
            addresses: 2,
            same_name: false,
            finalizers: true,
            kept: false,
            deletes: 0,
            returns: 0,
            crashes: 1,
            losses: 1,
            flaw: None,
        }
    }
}

/// The protocol by which claims come to addresses.
pub struct Addresses {
    setting: Setting,
    now: Timestamp,
    memory: RefCell<Memory>,
}

#[derive(Default)]
struct Memory {
    contents: Contents,
    programs: Memo<Gathered, Rc<Program>>,
    wants: Memo<Objects, Rc<Vec<Want>>>,
    well: Memo<u128, ()>,
}

type Objects = [Option<Seen>; SLOTS];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    stored: Objects,
    managers: [Manager; 2],
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

/// A pass over the pool, between two requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pass {
    gathered: Gathered,
    /// The pool as the pass has written it.
    pool: Option<Seen>,
    /// Position in the program, and which of its groups have failed.
    at: u8,
    failed: u16,
    io: Io,
}

/// All that a plan is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Gathered {
    cached: Objects,
    /// Address objects that only a live read showed.
    found: [Option<Seen>; SLOTS],
    /// What live reads said of claims, by kind and name.
    claims: [[Confirm; 2]; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Confirm {
    Unasked,
    Gone,
    Uid(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Io {
    /// The n-th thing that has to be read live.
    Read(u8),
    Sent(Request),
    Answered(Request, Answer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Request {
    slot: u8,
    act: Act,
    fence: Fence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Act {
    Patch(Change),
    Create(Change),
    Delete,
}

#[derive(Clone, Copy)]
enum Want {
    /// Kind and name.
    Claim(usize, usize),
    Address(usize),
}

/// The writes of a plan in their order.
struct Program {
    plan: Plan,
    pool: IPPool,
    operations: Vec<Operation>,
}

struct Operation {
    /// What fails takes the rest of its group with it.
    group: u16,
    what: What,
}

enum What {
    Metadata,
    Unfinalize(AddressObject),
    Remove(AddressObject),
    Release(usize),
    Reserve,
    Finalizer(usize, Vec<String>),
    Create(usize, Value),
    Answer(usize, Value),
}

/// One thing that happens. Managers and claims by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    CatchUp(u8, u8),
    Begin(u8),
    Read(u8),
    Arrive(u8),
    Answer(u8),
    LoseRequest(u8),
    LoseAnswer(u8),
    Crash(u8),
    Delete(u8),
    Return(u8),
}

impl Addresses {
    pub fn new(setting: Setting) -> Self {
        Self { setting, now: LATER.parse().unwrap_or_default(), memory: RefCell::default() }
    }

    fn names(&self) -> [&'static str; 2] {
        if self.setting.same_name { ["a", "a"] } else { ["a", "b"] }
    }

    fn put(&self, value: Value, version: u8, uid: u8) -> Option<Seen> {
        let content = self.memory.borrow_mut().contents.content(value);
        Some(Seen { content, version, uid })
    }

    fn new_pool(&self) -> Value {
        let kept = if self.setting.kept { json!({self.names()[1]: TEXTS[0]}) } else { json!({}) };
        json!({
            "metadata": {"name": "pool", "namespace": NAMESPACE, "generation": 1, "creationTimestamp": EARLIER},
            "spec": {
                "namePrefix": "pool", "prefix": 24, "gateway": "192.0.2.1", "preAllocations": kept,
                "pools": [{"start": TEXTS[0], "end": TEXTS[self.setting.addresses.clamp(1, 2) - 1]}],
            },
        })
    }

    fn new_claim(&self, kind: usize) -> Value {
        let spec = match KINDS[kind] {
            Kind::Metal3 => json!({"pool": {"name": "pool"}}),
            Kind::ClusterApi => json!({"poolRef": {"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": "pool"}}),
        };
        let mut metadata = json!({
            "name": self.names()[kind], "namespace": NAMESPACE, "generation": 1, "creationTimestamp": EARLIER,
        });
        if self.setting.finalizers {
            metadata["finalizers"] = json!([KINDS[kind].claim_finalizer()]);
        }
        json!({"metadata": metadata, "spec": spec})
    }

    fn is_deleting(&self, seen: Seen) -> bool {
        self.memory.borrow().contents.is_deleting(seen.content)
    }

    fn take(&self, state: &State, step: Step) -> State {
        let mut after = state.clone();
        match step {
            Step::CatchUp(at, slot) => {
                after.managers[usize::from(at)].cached[usize::from(slot)] = after.stored[usize::from(slot)];
            }
            Step::Begin(at) => self.begin(&mut after, usize::from(at)),
            Step::Read(at) => self.read(&mut after, usize::from(at)),
            Step::Arrive(at) => self.arrive(&mut after, usize::from(at)),
            Step::Answer(at) => {
                let io = after.managers[usize::from(at)].pass.as_ref().map(|pass| pass.io);
                if let Some(Io::Answered(_, answer)) = io {
                    self.hear(&mut after, usize::from(at), Some(answer));
                }
            }
            Step::LoseRequest(at) | Step::LoseAnswer(at) => {
                self.hear(&mut after, usize::from(at), None);
                after.losses -= 1;
            }
            Step::Crash(at) => {
                after.managers[usize::from(at)] = Manager { alive: true, cached: after.stored, pass: None };
                after.crashes -= 1;
            }
            Step::Delete(kind) => {
                let slot = CLAIMS[usize::from(kind)];
                let next = after.ranks()[slot].next();
                self.memory.borrow_mut().contents.delete(&mut after.stored[slot], Fence::default(), next);
                after.deletes -= 1;
            }
            Step::Return(kind) => {
                let slot = CLAIMS[usize::from(kind)];
                after.returns -= 1;
                let uid = self.setting.returns - after.returns;
                let version = after.ranks()[slot].next();
                after.stored[slot] = self.put(self.new_claim(usize::from(kind)), version, uid);
            }
        }
        after
    }

    fn possible(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, manager) in (0u8..).zip(&state.managers) {
            for (slot, (cached, stored)) in (0u8..).zip(manager.cached.iter().zip(&state.stored)) {
                if cached != stored {
                    steps.push(Step::CatchUp(at, slot));
                }
            }
            match manager.pass.as_ref().map(|pass| pass.io) {
                None => steps.push(Step::Begin(at)),
                Some(Io::Read(_)) => steps.push(Step::Read(at)),
                Some(Io::Sent(_)) => {
                    steps.push(Step::Arrive(at));
                    if state.losses > 0 {
                        steps.push(Step::LoseRequest(at));
                    }
                }
                Some(Io::Answered(..)) => {
                    steps.push(Step::Answer(at));
                    if state.losses > 0 {
                        steps.push(Step::LoseAnswer(at));
                    }
                }
            }
            if state.crashes > 0 {
                steps.push(Step::Crash(at));
            }
        }
        for kind in 0..2u8 {
            let claim = state.stored[CLAIMS[usize::from(kind)]];
            if state.deletes > 0 && claim.is_some_and(|claim| !self.is_deleting(claim)) {
                steps.push(Step::Delete(kind));
            }
            if state.returns > 0 && claim.is_none() {
                steps.push(Step::Return(kind));
            }
        }
        steps
    }
}

/// The slot of an address object by its name.
fn slot_of(kind: usize, name: &str) -> Option<usize> {
    let at = TEXTS.iter().position(|text| name == format!("pool-{}", text.replace('.', "-")))?;
    Some(ADDRESSES[kind][at])
}

/// Name of the address object that a claim was answered with.
fn answered(claim: &Value) -> Option<&str> {
    let status = &claim["status"];
    status["address"]["name"].as_str().or(status["addressRef"]["name"].as_str())
}

/// Whether an address object is of this very claim.
fn belongs(address: &Value, claim: &str, uid: u8) -> bool {
    let mut owners = address["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let uid = uid_text(claim, uid);
    owners.any(|owner| owner["uid"] == uid.as_str() && owner["kind"] != "IPPool")
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

impl Protocol for Addresses {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let mut stored = [None; SLOTS];
        stored[POOL] = self.put(self.new_pool(), 0, 0);
        for (kind, slot) in CLAIMS.into_iter().enumerate() {
            stored[slot] = self.put(self.new_claim(kind), 0, 0);
        }
        let mut cached = stored;
        CLAIMS.into_iter().for_each(|slot| cached[slot] = None); // the claims are new
        let manager = Manager { alive: true, cached, pass: None };
        let Setting { deletes, returns, crashes, losses, .. } = self.setting;
        State { stored, managers: [manager.clone(), manager], deletes, returns, crashes, losses }
    }

    fn next(&self, state: &State) -> Vec<(Step, State, bool)> {
        let taken = self.possible(state).into_iter().map(|step| {
            let mut after = self.take(state, step);
            after.renumber();
            let swapped = after.managers[1] < after.managers[0];
            if swapped {
                after.managers.swap(0, 1);
            }
            (step, after, swapped)
        });
        taken.filter(|(_, after, _)| after != state).collect()
    }

    fn broken(&self, _: &State, _: Step, after: &State) -> Option<String> {
        let memory = self.memory.borrow();
        let value = |seen: Seen| memory.contents.value(seen.content);
        for (at, text) in TEXTS.into_iter().enumerate() {
            let holders: Vec<_> = ADDRESSES.iter().filter_map(|slots| after.stored[slots[at]]).collect();
            if holders.len() > 1 {
                return Some(format!("{text} is held twice"));
            }
            let other = self.setting.kept && at == 0 && after.stored[ADDRESSES[0][0]].is_some();
            if other && !self.setting.same_name {
                return Some(format!("{text} is kept for {} and given to {}", self.names()[1], self.names()[0]));
            }
        }
        for (kind, slot) in CLAIMS.into_iter().enumerate() {
            let Some(claim) = after.stored[slot] else { continue };
            let Some(name) = answered(value(claim)).filter(|_| !memory.contents.is_deleting(claim.content)) else {
                continue;
            };
            let object = slot_of(kind, name).and_then(|slot| after.stored[slot]);
            if !object.is_some_and(|object| belongs(value(object), self.names()[kind], claim.uid)) {
                return Some(format!("a claim was given {name}, which is not there for it"));
            }
        }
        None
    }

    fn stuck(&self, state: &State) -> Option<String> {
        let ways = [(None, "both managers"), (Some(0), "one manager alone"), (Some(1), "one manager alone")];
        ways.into_iter().find_map(|(alone, who)| {
            self.calm(state, alone).err().map(|what| format!("{what}, though {who} could do everything"))
        })
    }

    fn tell(&self, before: &State, step: Step, after: &State, swapped: bool) -> String {
        let memory = self.memory.borrow();
        let name = |at: u8| MANAGERS[usize::from(at) ^ usize::from(swapped)];
        let object = |slot: u8| match usize::from(slot) {
            POOL => "the pool".to_owned(),
            1 => format!("IPClaim {}", self.names()[0]),
            2 => format!("IPAddressClaim {}", self.names()[1]),
            slot => {
                let kind = usize::from(slot >= ADDRESSES[1][0]);
                format!(
                    "{} of {}",
                    TEXTS[(slot - 3) % 2],
                    if kind == 0 { "IPAddress (metal3)" } else { "IPAddress (Cluster API)" }
                )
            }
        };
        let wire = |at: u8| match before.managers[usize::from(at)].pass.as_ref().map(|pass| pass.io) {
            Some(Io::Sent(Request { slot, act, .. }) | Io::Answered(Request { slot, act, .. }, _)) => match act {
                Act::Patch(change) => format!("patch of {} {}", object(slot), memory.contents.what(change)),
                Act::Create(_) => format!("create of {}", object(slot)),
                Act::Delete => format!("delete of {}", object(slot)),
            },
            Some(Io::Read(n)) => format!("live read {n}"),
            None => String::new(),
        };
        let changed = || {
            let slot = (0..SLOTS).find(|slot| before.stored[*slot] != after.stored[*slot]);
            slot.map_or("and changes nothing", |slot| {
                if after.stored[slot].is_some() { "and is done" } else { "and it is gone" }
            })
        };
        match step {
            Step::CatchUp(at, slot) => format!("{} sees {} as it is", name(at), object(slot)),
            Step::Begin(at) => format!("{} looks at the pool", name(at)),
            Step::Read(at) => format!("{}: {}", name(at), wire(at)),
            Step::Arrive(at) => format!("{}'s {} arrives {}", name(at), wire(at), changed()),
            Step::Answer(at) => format!("{} hears of its {}", name(at), wire(at)),
            Step::LoseRequest(at) => format!("{}'s {} is lost on its way", name(at), wire(at)),
            Step::LoseAnswer(at) => format!("the answer to {}'s {} is lost", name(at), wire(at)),
            Step::Crash(at) => format!("{} crashes and starts anew", name(at)),
            Step::Delete(kind) => format!("a user deletes {}", object(kind + 1)),
            Step::Return(kind) => format!("a user makes {} again", object(kind + 1)),
        }
    }
}
