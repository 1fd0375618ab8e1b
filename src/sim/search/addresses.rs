//! Claims of both kinds get addresses of one pool and give them back, under two managers that both believe they lead.
//!
//! Told again here, from `capm3_controllers`' ipam folder: what a pass gathers, which absences it looks for live, and how it carries a plan
//! out write by write. What is needed, decided and written is [`needs`], [`decide`] and the objects of `capm3_core::ipam`. Left out: claims
//! served side by side within one pass, Clusters, pauses, the end of the pool.

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

    fn observed(&self, contents: &Contents, gathered: &Gathered) -> Option<(IPPool, Observed)> {
        let pool: IPPool = contents.typed(gathered.cached[POOL]?)?;
        let mut claims: Vec<Claim> = Vec::new();
        claims.extend(
            gathered.cached[CLAIMS[0]]
                .and_then(|seen| contents.typed::<IPClaim>(seen))
                .map(|claim| Claim::from(&claim)),
        );
        let other = gathered.cached[CLAIMS[1]].and_then(|seen| contents.typed::<IPAddressClaim>(seen));
        claims.extend(other.map(|claim| capi_claim(&claim, None)));
        let mut observed = Observed { pool: Pool::from(&pool), claims, now: self.now, ..Observed::default() };
        for objects in [&gathered.cached, &gathered.found] {
            for i in 0..2 {
                let seen = objects[ADDRESSES[0][i]].and_then(|seen| contents.typed::<IPAddress>(seen));
                observed.addresses.extend(seen.map(|address| AddressObject::from(&address)));
            }
            for i in 0..2 {
                let seen =
                    objects[ADDRESSES[1][i]].and_then(|seen| contents.typed::<capm3_api::foreign::IPAddress>(seen));
                observed.addresses.extend(seen.map(|address| AddressObject::from(&address)));
            }
        }
        for (kind, by_name) in gathered.claims.iter().enumerate() {
            for (name, confirm) in by_name.iter().enumerate() {
                let uid = match confirm {
                    Confirm::Unasked => continue,
                    Confirm::Gone => None,
                    Confirm::Uid(uid) => Some(uid_text(self.names()[name], *uid)),
                };
                observed.confirmed.claims.insert(ClaimKey::new(KINDS[kind], self.names()[name]), uid);
            }
        }
        Some((pool, observed))
    }

    fn wants(&self, gathered: &Gathered) -> Rc<Vec<Want>> {
        let mut memory = self.memory.borrow_mut();
        let Memory { contents, wants, .. } = &mut *memory;
        let known = wants.entry(gathered.cached).or_insert_with(|| {
            let Some((_, observed)) = self.observed(contents, gathered) else { return Rc::default() };
            let needs = needs(&observed);
            let kind = |kind: Kind| usize::from(kind == Kind::ClusterApi);
            let claims = needs.claims.iter().filter_map(|claim| {
                let name = self.names().iter().position(|name| *name == claim.name)?;
                Some(Want::Claim(kind(claim.kind), name))
            });
            let addresses = needs.addresses.iter().filter_map(|(of, name)| slot_of(kind(*of), name).map(Want::Address));
            Rc::new(claims.chain(addresses).collect())
        });
        known.clone()
    }

    fn program(&self, gathered: &Gathered) -> Option<Rc<Program>> {
        let mut memory = self.memory.borrow_mut();
        if let Some(known) = memory.programs.get(gathered) {
            return Some(known.clone());
        }
        let program = Rc::new(self.planned(&memory.contents, gathered)?);
        memory.programs.insert(*gathered, program.clone());
        Some(program)
    }

    fn planned(&self, contents: &Contents, gathered: &Gathered) -> Option<Program> {
        let (pool, observed) = self.observed(contents, gathered)?;
        let plan = decide(&observed);
        let mut operations = Vec::new();
        let mut group = 0;
        let mut add = |group, what| operations.push(Operation { group, what });
        add(group, What::Metadata);
        let freed = |object: &AddressObject| [What::Unfinalize(object.clone()), What::Remove(object.clone())];
        for orphan in &plan.orphans {
            group += 1;
            freed(orphan).into_iter().for_each(|what| add(group, what));
        }
        for release in &plan.releases {
            group += 1;
            release.addresses.iter().flat_map(freed).for_each(|what| add(group, what));
            add(group, What::Release(usize::from(release.claim.kind == Kind::ClusterApi)));
        }
        group += 1;
        add(group, What::Reserve);
        for serve in &plan.served {
            group += 1;
            let kind = usize::from(serve.claim.kind == Kind::ClusterApi);
            if let Some(finalizers) = &serve.finalizers {
                add(group, What::Finalizer(kind, finalizers.clone()));
            }
            let (create, answer) = self.texts(contents, gathered, &pool, serve, kind)?;
            if let Some((slot, object)) = create {
                add(group, What::Create(slot, object));
            }
            if let Some(status) = answer {
                add(group, What::Answer(kind, status));
            }
        }
        Some(Program { plan, pool, operations })
    }

    /// The address object to create and the status to write for a claim.
    #[expect(clippy::type_complexity, reason = "the two halves of one answer, used once")]
    fn texts(
        &self,
        contents: &Contents,
        gathered: &Gathered,
        pool: &IPPool,
        serve: &Serve,
        kind: usize,
    ) -> Option<(Option<(usize, Value)>, Option<Value>)> {
        let seen = gathered.cached[CLAIMS[kind]]?;
        let slot = |name: &str| slot_of(kind, name);
        Some(match KINDS[kind] {
            Kind::Metal3 => {
                let claim: IPClaim = contents.typed(seen)?;
                let object = serve.create.as_ref().map(|new| new_address(&pool.metadata, &claim, new));
                let status = serve.answer.as_ref().and_then(|answer| {
                    merge_diff(&claim.status.clone().unwrap_or_default(), &claim_status(&claim, answer, self.now))
                        .ok()?
                });
                (object.and_then(|object| Some((slot(object.metadata.name.as_deref()?)?, value(&object)))), status)
            }
            Kind::ClusterApi => {
                let claim: IPAddressClaim = contents.typed(seen)?;
                let object = serve.create.as_ref().map(|new| new_capi_address(&pool.metadata, &claim, new));
                let status = serve.answer.as_ref().and_then(|answer| {
                    let now = Time(self.now);
                    merge_diff(&claim.status.clone().unwrap_or_default(), &capi_claim_status(&claim, answer, &now))
                        .ok()?
                });
                (object.and_then(|object| Some((slot(object.metadata.name.as_deref()?)?, value(&object)))), status)
            }
        })
    }

    /// The next request of the pass, or none when it is over.
    fn go_on(&self, manager: &mut Manager) {
        let Some(mut pass) = manager.pass.take() else { return };
        let Some(program) = self.program(&pass.gathered) else { return };
        while let Some(operation) = program.operations.get(usize::from(pass.at)) {
            let skipped = pass.failed & (1 << operation.group) != 0;
            if !skipped && let Some(request) = self.request(&program, operation, &pass) {
                pass.io = Io::Sent(request);
                manager.pass = Some(pass);
                return;
            }
            pass.at += 1;
        }
    }

    fn request(&self, program: &Program, operation: &Operation, pass: &Pass) -> Option<Request> {
        let mut memory = self.memory.borrow_mut();
        let contents = &mut memory.contents;
        let pool = pass.pool?;
        let patch = |contents: &mut Contents, slot: usize, patch: Value, fence: Fence| {
            Some(Request { slot: slot as u8, act: Act::Patch(contents.change(patch)), fence })
        };
        let of = |object: &AddressObject| {
            let kind = usize::from(object.kind == Kind::ClusterApi);
            let fence = Fence::read(object.resource_version.as_deref(), Some(object.uid.as_str()));
            Some((slot_of(kind, &object.name)?, fence))
        };
        match &operation.what {
            What::Metadata => {
                let metadata = program.plan.metadata.as_ref()?;
                let wanted = IPPool { metadata: metadata.clone(), ..program.pool.clone() };
                patch(contents, POOL, merge_diff(&program.pool, &wanted).ok()??, Fence::unchanged(pool))
            }
            What::Unfinalize(object) => {
                let (slot, fence) = of(object)?;
                patch(contents, slot, json!({"metadata": {"finalizers": object.without_our_finalizer()?}}), fence)
            }
            What::Remove(object) => {
                let (slot, fence) = of(object)?;
                Some(Request { slot: slot as u8, act: Act::Delete, fence: Fence { version: None, ..fence } })
            }
            What::Release(kind) => {
                let slot = CLAIMS[*kind];
                let claim = pass.gathered.cached[slot]?;
                patch(contents, slot, json!({"metadata": {"finalizers": null}}), Fence::unchanged(claim))
            }
            What::Reserve => {
                let now: IPPool = contents.typed(pool)?;
                let failed = self.failed_releases(program, pass);
                let reserves = program.plan.status_keeping(&failed);
                let status = pool_status(&now, reserves, program.plan.ready.as_ref(), self.now)?;
                let wanted = IPPool { status: Some(status), ..now.clone() };
                let blind = self.setting.flaw == Some(Flaw::Unconditional);
                let fence = if blind { Fence::same(pool) } else { Fence::unchanged(pool) };
                patch(contents, POOL, merge_diff(&now, &wanted).ok()??, fence)
            }
            What::Finalizer(kind, finalizers) => {
                let claim = pass.gathered.cached[CLAIMS[*kind]]?;
                patch(contents, CLAIMS[*kind], json!({"metadata": {"finalizers": finalizers}}), Fence::unchanged(claim))
            }
            What::Create(slot, object) => {
                let act = Act::Create(contents.change(object.clone()));
                Some(Request { slot: *slot as u8, act, fence: Fence::default() })
            }
            What::Answer(kind, status) => {
                let claim = pass.gathered.cached[CLAIMS[*kind]]?;
                patch(contents, CLAIMS[*kind], json!({"status": status}), Fence::same(claim))
            }
        }
    }

    fn failed_releases(&self, program: &Program, pass: &Pass) -> BTreeSet<ClaimKey> {
        let releases = program.operations.iter().filter_map(|operation| match operation.what {
            What::Release(kind) if pass.failed & (1 << operation.group) != 0 => Some(kind),
            _ => None,
        });
        releases.map(|kind| ClaimKey::new(KINDS[kind], self.names()[kind])).collect()
    }

    fn begin(&self, state: &mut State, at: usize) {
        let manager = &mut state.managers[at];
        let gathered = Gathered { cached: manager.cached, found: [None; SLOTS], claims: [[Confirm::Unasked; 2]; 2] };
        manager.pass = Some(Pass { gathered, pool: manager.cached[POOL], at: 0, failed: 0, io: Io::Read(0) });
        if self.wants(&gathered).is_empty() {
            self.go_on(manager);
        }
    }

    fn read(&self, state: &mut State, at: usize) {
        let State { stored, managers, .. } = state;
        let Some(pass) = &mut managers[at].pass else { return };
        let Io::Read(n) = pass.io else { return };
        let wants = self.wants(&pass.gathered);
        match wants.get(usize::from(n)) {
            Some(Want::Claim(kind, name)) => {
                let found = stored[CLAIMS[*kind]].filter(|_| self.names()[*kind] == self.names()[*name]);
                pass.gathered.claims[*kind][*name] = found.map_or(Confirm::Gone, |claim| Confirm::Uid(claim.uid));
            }
            Some(Want::Address(slot)) => pass.gathered.found[*slot] = stored[*slot],
            None => {}
        }
        pass.io = Io::Read(n + 1);
        if usize::from(n) + 1 >= wants.len() {
            self.go_on(&mut managers[at]);
        }
    }

    fn arrive(&self, state: &mut State, at: usize) {
        let Some(Io::Sent(request)) = state.managers[at].pass.as_ref().map(|pass| pass.io) else { return };
        let slot = usize::from(request.slot);
        let (next, uid) = (state.ranks()[slot].next(), state.free_uid(slot));
        let stored = &mut state.stored[slot];
        let contents = &mut self.memory.borrow_mut().contents;
        let answer = match request.act {
            Act::Patch(change) => contents.patch(stored, change, request.fence, next),
            Act::Delete => contents.delete(stored, request.fence, next),
            Act::Create(_) if stored.is_some() => Answer::AlreadyExists,
            Act::Create(object) => {
                let object = contents.what(object).clone();
                let seen = Seen { content: contents.stored(&object), version: next, uid };
                *stored = Some(seen);
                Answer::Done(seen)
            }
        };
        if let Some(pass) = &mut state.managers[at].pass {
            pass.io = Io::Answered(request, answer);
        }
    }

    /// The answer is heard; none: nobody knows what became of the request.
    fn hear(&self, state: &mut State, at: usize, answer: Option<Answer>) {
        let State { stored, managers, .. } = state;
        let manager = &mut managers[at];
        let Some(pass) = &mut manager.pass else { return };
        let (Io::Sent(request) | Io::Answered(request, _)) = pass.io else { return };
        let Some(program) = self.program(&pass.gathered) else { return };
        let Some(operation) = program.operations.get(usize::from(pass.at)) else { return };
        let slot = usize::from(request.slot);
        let goes = matches!(operation.what, What::Unfinalize(_) | What::Remove(_) | What::Release(_));
        let done = match answer {
            Some(Answer::Done(seen)) => {
                manager.cached[slot] = newer(manager.cached[slot], Some(seen));
                if slot == POOL {
                    pass.pool = Some(seen);
                }
                true
            }
            Some(Answer::Gone) => {
                manager.cached[slot] = None;
                true
            }
            Some(Answer::NotFound) => goes,
            Some(Answer::AlreadyExists) => self.is_the_same(request, stored[slot]),
            Some(Answer::Conflict) | None => false,
        };
        if !done {
            if matches!(operation.what, What::Metadata | What::Reserve) {
                manager.pass = None;
                return;
            }
            pass.failed |= 1 << operation.group;
        }
        pass.at += 1;
        self.go_on(manager);
    }

    /// Whether what stands there is of the claim for which it was to be created.
    fn is_the_same(&self, request: Request, stored: Option<Seen>) -> bool {
        let (Act::Create(object), Some(found)) = (request.act, stored) else { return false };
        let memory = self.memory.borrow();
        let owners = |object: &Value| object["metadata"]["ownerReferences"].clone();
        owners(memory.contents.what(object)) == owners(memory.contents.value(found.content))
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

    fn calm(&self, state: &State, alone: Option<usize>) -> Result<(), String> {
        let mut state = state.clone();
        if let Some(at) = alone {
            state.managers[1 - at] = Manager { alive: false, cached: [None; SLOTS], pass: None };
        }
        state.deletes = 0;
        state.returns = 0;
        state.crashes = 0;
        state.losses = 0;
        let mut way = Vec::new();
        loop {
            state.renumber();
            let print = Fingerprint::of(&state);
            if self.memory.borrow().well.contains_key(&print) {
                break;
            }
            let before = state.clone();
            way.push(print);
            for at in 0..2 {
                if state.managers[at].alive {
                    self.drain(&mut state, at);
                    state.managers[at].cached = state.stored;
                    self.begin(&mut state, at);
                    self.drain(&mut state, at);
                }
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
                Some(Io::Answered(_, answer)) => self.hear(state, at, Some(answer)),
            }
        }
    }

    /// What must be true when nothing happens any more.
    fn at_rest(&self, state: &State) -> Result<(), String> {
        let memory = self.memory.borrow();
        let value = |seen: Seen| memory.contents.value(seen.content);
        let mut held = 0;
        for (kind, slots) in ADDRESSES.iter().enumerate() {
            for address in slots.iter().filter_map(|slot| state.stored[*slot]) {
                held += 1;
                let claim = state.stored[CLAIMS[kind]];
                if !claim.is_some_and(|claim| belongs(value(address), self.names()[kind], claim.uid)) {
                    return Err(format!("{} is held for a claim that is gone", value(address)["spec"]["address"]));
                }
            }
        }
        let pool = state.stored[POOL].map(value).cloned().unwrap_or_default();
        let entries = pool["status"]["indexes"].as_object().map_or(0, serde_json::Map::len);
        if entries != held {
            return Err(format!("the pool counts {entries} addresses, there are {held}"));
        }
        for claim in CLAIMS.into_iter().filter_map(|slot| state.stored[slot]) {
            let kept_back = usize::from(self.setting.kept && state.stored[CLAIMS[1]].is_none());
            match answered(value(claim)) {
                _ if memory.contents.is_deleting(claim.content) => return Err("a deleted claim never goes".to_owned()),
                None if held + kept_back < self.setting.addresses => {
                    return Err(format!(
                        "a claim has no address, though {held} of {} are held",
                        self.setting.addresses
                    ));
                }
                None | Some(_) => {}
            }
        }
        Ok(())
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

impl State {
    fn seen(&mut self, visit: &mut impl FnMut(usize, &mut Seen)) {
        fn all(objects: &mut Objects, visit: &mut impl FnMut(usize, &mut Seen)) {
            (0..).zip(objects).for_each(|(slot, seen)| seen.iter_mut().for_each(|seen| visit(slot, seen)));
        }
        all(&mut self.stored, visit);
        for manager in &mut self.managers {
            all(&mut manager.cached, visit);
            let Some(pass) = &mut manager.pass else { continue };
            all(&mut pass.gathered.cached, visit);
            all(&mut pass.gathered.found, visit);
            pass.pool.iter_mut().for_each(|pool| visit(POOL, pool));
            if let Io::Answered(request, Answer::Done(seen)) = &mut pass.io {
                visit(usize::from(request.slot), seen);
            }
        }
    }

    fn fences(&mut self, visit: &mut impl FnMut(usize, &mut Fence)) {
        for pass in self.managers.iter_mut().filter_map(|manager| manager.pass.as_mut()) {
            if let Io::Sent(request) | Io::Answered(request, _) = &mut pass.io {
                visit(usize::from(request.slot), &mut request.fence);
            }
        }
    }

    fn ranks(&self) -> [Ranks; SLOTS] {
        let mut ranks: [Ranks; SLOTS] = Default::default();
        let mut state = self.clone();
        state.seen(&mut |slot, seen| ranks[slot].note(seen.version));
        state.fences(&mut |slot, fence| fence.version.iter().for_each(|version| ranks[slot].note(*version)));
        ranks
    }

    /// The least number that nobody knows as the uid of an object of this slot.
    fn free_uid(&self, of: usize) -> u8 {
        let mut known = BTreeSet::new();
        let mut state = self.clone();
        state.seen(&mut |slot, seen| {
            if slot == of {
                known.insert(seen.uid);
            }
        });
        state.fences(&mut |slot, fence| {
            if slot == of {
                known.extend(fence.uid);
            }
        });
        (0..u8::MAX).find(|uid| !known.contains(uid)).unwrap_or(u8::MAX)
    }

    fn renumber(&mut self) {
        let ranks = self.ranks();
        self.seen(&mut |slot, seen| seen.version = ranks[slot].of(seen.version));
        self.fences(&mut |slot, fence| {
            fence.version.iter_mut().for_each(|version| *version = ranks[slot].of(*version))
        });
    }
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
