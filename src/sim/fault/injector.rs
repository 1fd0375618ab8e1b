//! Counts what managers ask and hear, and lets the planned faults happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::plan::{Failure, Fault, Lag, Overlap, Plan, Planned, Refused, When, name};
use super::{deeds, tamper};
use crate::invariant::Watchtower;
use crate::server::{Call, EventFate, Fate, Outcome, Passing, Refusal, Seam, Server, Verb};
use crate::world::{Process, Provider, Webhooks, World};

/// How long a manager that died is away.
pub const DOWN: Duration = Duration::from_secs(2);
/// How long two replicas work side by side.
const TOGETHER: Duration = Duration::from_secs(30);
/// After this an API server gives up on a request, and what was lost on the way to a cache is found missing.
const HALF_A_MINUTE: Duration = Duration::from_secs(30);
/// A lag without end ends when nothing has been written for so long: without the cache nothing goes on.
const STANDSTILL: Duration = Duration::from_secs(60);
/// A run in which managers ask more has no end of its own: whoever asks on gets no answer, and time can go by. What made them ask is
/// a loop that I22 tells of.
const ENDLESS: u64 = 20_000;
/// How often a lag looks whether it is over.
const LOOK: Duration = Duration::from_millis(100);
/// How long the API servers are stopped for a restore.
const RESTORING: Duration = Duration::from_secs(3);
/// Just below the deadline that the API server gives webhooks.
const SLOW: Duration = Duration::from_secs(9);

/// What a calm run asked for and heard: where plans can strike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// In their order; lists, watches and events of the log left out.
    pub requests: BTreeMap<Provider, Vec<Asked>>,
    /// How many events of a kind, `plural.group`, each manager was sent.
    pub events: BTreeMap<(Provider, String), u32>,
}

impl Recording {
    pub fn writes(&self, provider: Provider) -> usize {
        self.requests.get(&provider).into_iter().flatten().filter(|asked| asked.wrote).count()
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub verb: Verb,
    /// `plural.group`
    pub kind: String,
    /// Whether it changed anything.
    pub wrote: bool,
    /// Sent to the workload cluster.
    pub remote: bool,
}

/// The seam of one server.
struct Side {
    injector: Arc<Injector>,
    remote: bool,
}

/// Lets happen what a plan says.
pub struct Injector {
    world: Weak<World>,
    tower: Arc<Watchtower>,
    plan: Vec<Planned>,
    keep_story: bool,
    /// How many violations the story tells of.
    violated: AtomicUsize,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Faults have ended.
    calm: bool,
    struck: Vec<bool>,
    requests: BTreeMap<Provider, u32>,
    writes: BTreeMap<Provider, u32>,
    /// All requests that managers sent, lists and watches too.
    asked: u64,
    recording: Recording,
    /// Requests that something happens to once they are answered, by server and number.
    answers: BTreeMap<(bool, u64), Fault>,
    /// Where requests stand in the recording.
    places: BTreeMap<(bool, u64), usize>,
    /// Die when they ask the next time.
    dying: BTreeSet<u32>,
    lags: BTreeMap<(Provider, String), Lag>,
    /// Until when something is away.
    storm: BTreeMap<Provider, Instant>,
    sink: Option<Instant>,
    /// Managers do not reach the management cluster.
    away: bool,
    /// How many timed faults are not over yet.
    pending: u32,
    story: Vec<String>,
}

impl Injector {
    /// Sits at both servers of the world from now on. To be called when the watchtower stands and before any manager runs.
    pub fn over(world: &Arc<World>, tower: Arc<Watchtower>, plan: &Plan, keep_story: bool) -> Arc<Self> {
        let state = State { struck: vec![false; plan.0.len()], ..State::default() };
        let injector = Arc::new(Self {
            world: Arc::downgrade(world),
            tower,
            plan: plan.0.clone(),
            keep_story,
            violated: AtomicUsize::new(0),
            start: Instant::now(),
            state: Mutex::new(state),
        });
        world.server.set_seam(Arc::new(Side { injector: injector.clone(), remote: false }));
        world.workload.set_seam(Arc::new(Side { injector: injector.clone(), remote: true }));
        injector.wind_up(world);
        injector
    }

    /// Starts the clocks of the faults that have a time.
    fn wind_up(self: &Arc<Self>, world: &World) {
        for (i, planned) in self.plan.iter().enumerate() {
            let When::At(after) = planned.when else { continue };
            let at = self.start + after;
            let (this, fault) = (self.clone(), planned.fault.clone());
            self.state.lock().pending += 1;
            world.tasks().spawn_finite(async move {
                if let Fault::Restored(age) = fault {
                    this.restore(at, age, i).await;
                } else {
                    sleep_until(at).await;
                    if this.strike(i) {
                        this.happen(&fault, None).await;
                    }
                }
                this.state.lock().pending -= 1;
            });
        }
    }

    /// Whether a fault with a time is still to come or going on.
    pub fn is_busy(&self) -> bool {
        self.state.lock().pending > 0
    }

    /// From now on nothing goes wrong any more, and what was wrong is put right.
    pub fn calm(&self) {
        let mut state = self.state.lock();
        state.calm = true;
        state.lags.clear();
        state.storm.clear();
        state.dying.clear();
        state.sink = None;
        drop(state);
        if let Some(world) = self.world.upgrade() {
            world.set_webhooks(Webhooks::Well);
            for process in world.processes() {
                process.resume();
                process.skew(0);
            }
        }
        self.tell("faults have ended");
    }

    /// Which of the plan's faults happened.
    pub fn struck(&self) -> Vec<bool> {
        self.state.lock().struck.clone()
    }

    pub fn all_struck(&self) -> bool {
        self.state.lock().struck.iter().all(|struck| *struck)
    }

    pub fn recording(&self) -> Recording {
        self.state.lock().recording.clone()
    }

    /// How many requests the managers sent.
    pub fn requests(&self) -> u64 {
        self.state.lock().asked
    }

    /// Every write and every failure in their order, with what went wrong in between.
    pub fn story(&self) -> Vec<String> {
        self.state.lock().story.clone()
    }

    pub fn tell(&self, what: &str) {
        if self.keep_story {
            let line = format!("{:>9.3}s {what}", self.start.elapsed().as_secs_f64());
            self.state.lock().story.push(line);
        }
    }

    /// Marks a fault as happened; false when faults have ended or it has happened.
    fn strike(&self, i: usize) -> bool {
        let mut state = self.state.lock();
        if state.calm || std::mem::replace(&mut state.struck[i], true) {
            return false;
        }
        drop(state);
        if self.keep_story {
            self.tell(&format!("*** {}", self.plan[i]));
        }
        true
    }

    fn process(&self, id: u32) -> Option<Arc<Process>> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        self.world.upgrade()?.processes().get(index).cloned()
    }

    /// Runs beside everything else, and counts as a fault that goes on.
    fn meanwhile(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let Some(world) = self.world.upgrade() else { return };
        self.state.lock().pending += 1;
        let this = self.clone();
        world.tasks().spawn_finite(async move {
            work.await;
            this.state.lock().pending -= 1;
        });
    }

    /// Starts a manager after a while, unless another of its kind lives.
    fn start_after(self: &Arc<Self>, provider: Provider, pause: Duration) {
        let this = self.clone();
        self.meanwhile(async move {
            sleep(pause).await;
            let Some(world) = this.world.upgrade() else { return };
            if world.processes().iter().all(|process| process.provider != provider || !process.is_alive()) {
                let process = world.start(provider);
                this.tell(&format!("{}#{} starts", name(provider), process.id));
            }
        });
    }

    fn start_another(&self, provider: Provider) {
        if let Some(world) = self.world.upgrade() {
            let process = world.start(provider);
            self.tell(&format!("{}#{} starts as well", name(provider), process.id));
        }
    }

    fn kill(self: &Arc<Self>, id: u32) {
        let Some(process) = self.process(id).filter(|process| process.is_alive()) else { return };
        process.kill();
        self.tell(&format!("{}#{id} is killed", name(process.provider)));
        self.start_after(process.provider, DOWN);
    }

    fn kill_after(self: &Arc<Self>, id: u32, pause: Duration) {
        let this = self.clone();
        self.meanwhile(async move {
            sleep(pause).await;
            this.kill(id);
        });
    }

    /// The management cluster as it was `age` before a moment, from which on the managers do not reach it for a while: to restore
    /// etcd every API server is stopped, and what managers had on the wire breaks.
    async fn restore(self: &Arc<Self>, at: Instant, age: Duration, i: usize) {
        sleep_until(at.checked_sub(age).unwrap_or(self.start)).await;
        let Some(backup) = self.world.upgrade().map(|world| world.server.backup()) else { return };
        sleep_until(at).await;
        if !self.strike(i) {
            return;
        }
        self.state.lock().away = true;
        let server = self.world.upgrade().map(|world| world.server.clone());
        let Some(server) = server else { return };
        server.restart();
        sleep(RESTORING).await;
        server.restore(&backup);
        self.tower.excuse_restored(&server);
        self.state.lock().away = false;
    }

    /// A fault that is not about one request. `id` is the manager's process that it is about, if it is about one.
    async fn happen(self: &Arc<Self>, fault: &Fault, id: Option<u32>) {
        let Some(world) = self.world.upgrade() else { return };
        let until = |time: Duration| Some(Instant::now() + time);
        match fault {
            Fault::WebhookDown(time) => self.webhooks(Webhooks::Down, *time),
            Fault::WebhookSlow(time) => self.webhooks(Webhooks::Slow(SLOW), *time),
            Fault::WorkloadAway(time) => {
                world.reach_workload(false);
                let (this, time) = (self.clone(), *time);
                self.meanwhile(async move {
                    sleep(time).await;
                    if let Some(world) = this.world.upgrade() {
                        world.reach_workload(true);
                    }
                });
            }
            Fault::EventSink(time) => self.state.lock().sink = until(*time),
            Fault::KubeconfigGone(time) => {
                let (this, time) = (self.clone(), *time);
                let hidden = tamper::hide_kubeconfigs(&world).await;
                self.meanwhile(async move {
                    sleep(time).await;
                    if let Some(world) = this.world.upgrade() {
                        tamper::put_back(&world, hidden).await;
                    }
                });
            }
            Fault::Deed(deed) => deeds::does(&world, deed).await,
            Fault::Clock(seconds) => {
                for process in world.processes().iter().filter(|process| id.is_none_or(|id| id == process.id)) {
                    process.skew(*seconds);
                }
            }
            Fault::Paused(time) => {
                for process in world.processes().iter().filter(|process| id.is_none_or(|id| id == process.id)) {
                    process.pause();
                    let (process, time) = (process.clone(), *time);
                    self.meanwhile(async move {
                        sleep(time).await;
                        process.resume();
                    });
                }
            }
            Fault::Stopped | Fault::CrashBefore | Fault::CrashLanded | Fault::CrashAnswered => {
                for process in world.processes().iter().filter(|process| id.is_none_or(|id| id == process.id)) {
                    self.kill(process.id);
                }
            }
            // Those are about a request, an answer or an event.
            _ => {}
        }
    }

    fn webhooks(self: &Arc<Self>, webhooks: Webhooks, time: Duration) {
        let Some(world) = self.world.upgrade() else { return };
        world.set_webhooks(webhooks);
        let this = self.clone();
        self.meanwhile(async move {
            sleep(time).await;
            if let Some(world) = this.world.upgrade() {
                world.set_webhooks(Webhooks::Well);
            }
        });
    }

    /// Counts a request; the fault that is planned for it.
    fn count(&self, side: &Side, call: &Call, provider: Provider) -> Option<usize> {
        let mut state = self.state.lock();
        state.asked += 1;
        if matches!(call.verb, Verb::List | Verb::Watch) || call.resource == "events" {
            return None;
        }
        let asked = Asked { verb: call.verb, kind: filed(call), wrote: false, remote: side.remote };
        let recorded = state.recording.requests.entry(provider).or_default();
        recorded.push(asked);
        let place = recorded.len() - 1;
        state.places.insert((side.remote, call.number), place);
        let n = count_up(&mut state.requests, provider);
        let next_write = state.writes.get(&provider).copied().unwrap_or_default() + 1;
        let writes = call.verb.writes();
        self.plan.iter().enumerate().position(|(i, planned)| {
            !state.struck[i]
                && match planned.when {
                    When::Request(who, at) => who == provider && at == n,
                    When::Write(who, at) => {
                        who == provider && writes && at == next_write && !planned.fault.comes_after()
                    }
                    When::Event(..) | When::At(_) => false,
                }
        })
    }

    async fn before(self: &Arc<Self>, side: &Side, call: &Call) -> Fate {
        let Some(provider) = provider_of(call) else { return Fate::Pass };
        let planned = self.count(side, call, provider);
        {
            let mut state = self.state.lock();
            let now = Instant::now();
            let until = |end: Option<&Instant>| end.is_some_and(|end| now < *end);
            if state.asked > ENDLESS {
                return Fate::Hang;
            }
            if state.away && !side.remote {
                return Fate::Break;
            }
            if state.dying.remove(&call.process) {
                drop(state);
                self.kill(call.process);
                return Fate::Hang;
            }
            if call.resource == "events" && until(state.sink.as_ref()) {
                return Fate::Answer(Refusal::internal("the event sink is full"));
            }
            if until(state.storm.get(&provider)) {
                return Fate::Answer(Refusal::too_many_requests(1));
            }
        }
        match planned {
            Some(i) if self.strike(i) => {
                let fault = self.plan[i].fault.clone();
                if fault.comes_after() {
                    self.state.lock().answers.insert((side.remote, call.number), fault);
                    return Fate::Pass;
                }
                self.meet(side, call, provider, &fault).await
            }
            _ => Fate::Pass,
        }
    }

    /// What the fault makes of the request.
    async fn meet(self: &Arc<Self>, side: &Side, call: &Call, provider: Provider, fault: &Fault) -> Fate {
        let id = call.process;
        match fault {
            Fault::CrashBefore => {
                self.kill(id);
                Fate::Hang
            }
            Fault::Conflict => {
                tamper::touch(&self.server(side), call).await;
                Fate::Pass
            }
            Fault::Vanished => {
                tamper::remove(&self.server(side), call).await;
                Fate::Pass
            }
            Fault::Recreated => {
                tamper::recreate(&self.server(side), call).await;
                Fate::Pass
            }
            Fault::Unapplied(failure) => fail(*failure).await,
            Fault::Busy(seconds) => Fate::Answer(Refusal::too_many_requests(*seconds)),
            Fault::Storm(time) => {
                self.state.lock().storm.insert(provider, Instant::now() + *time);
                Fate::Answer(Refusal::too_many_requests(1))
            }
            Fault::Refused(why) => Fate::Answer(refusal(*why, call)),
            Fault::Overlaps(Overlap::Both) => {
                self.start_another(provider);
                self.kill_after(id, TOGETHER);
                Fate::Pass
            }
            Fault::Overlaps(Overlap::Resumed(time)) => {
                let Some(process) = self.process(id) else { return Fate::Pass };
                process.pause();
                self.start_another(provider);
                self.kill_after(id, *time + TOGETHER);
                let time = *time;
                self.meanwhile(async move {
                    sleep(time).await;
                    process.resume();
                });
                sleep(time).await;
                Fate::Pass
            }
            Fault::Stopped => {
                self.start_another(provider);
                self.kill(id);
                Fate::Pass
            }
            Fault::Paused(time) => {
                self.happen(fault, Some(id)).await;
                sleep(*time).await;
                Fate::Pass
            }
            fault => {
                self.happen(fault, Some(id)).await;
                Fate::Pass
            }
        }
    }

    async fn after(self: &Arc<Self>, side: &Side, call: &Call, outcome: Outcome) -> Fate {
        let place = (side.remote, call.number);
        self.note(call, outcome);
        let Some(provider) = provider_of(call) else { return Fate::Pass };
        let (planned, nth) = {
            let mut state = self.state.lock();
            let recorded = state.places.remove(&place).filter(|_| outcome.wrote.is_some());
            let nth = recorded.map(|at| {
                if let Some(asked) = state.recording.requests.get_mut(&provider).and_then(|all| all.get_mut(at)) {
                    asked.wrote = true;
                }
                count_up(&mut state.writes, provider)
            });
            (state.answers.remove(&place), nth)
        };
        let now = |planned: &Planned| match planned.when {
            When::Write(who, at) => who == provider && Some(at) == nth && planned.fault.comes_after(),
            When::Request(..) | When::Event(..) | When::At(_) => false,
        };
        let found = self.plan.iter().position(now).filter(|i| self.strike(*i));
        let fault = planned.or_else(|| Some(self.plan[found?].fault.clone()));
        match fault {
            Some(Fault::CrashLanded) => {
                self.kill(call.process);
                Fate::Hang
            }
            Some(Fault::CrashAnswered) => {
                self.state.lock().dying.insert(call.process);
                let (this, id) = (self.clone(), call.process);
                self.meanwhile(async move {
                    sleep(DOWN).await;
                    if this.state.lock().dying.remove(&id) {
                        this.kill(id);
                    }
                });
                Fate::Pass
            }
            Some(Fault::LostReply(failure)) => fail(failure).await,
            _ => Fate::Pass,
        }
    }

    /// Writes and failures make the story.
    fn note(&self, call: &Call, outcome: Outcome) {
        if self.keep_story && (outcome.wrote.is_some() || outcome.code >= 400) {
            let who = match provider_of(call) {
                Some(provider) => format!("{}#{}", name(provider), call.process),
                None => call.user.rsplit(':').next().unwrap_or_default().to_owned(),
            };
            let mut what = format!("{who} {} {}", call.verb.name(), call.resource);
            for (before, part) in [("/", &call.subresource), (" ", &call.name)] {
                if !part.is_empty() {
                    what += before;
                    what += part;
                }
            }
            let wrote = outcome.wrote.map(|revision| format!(" @{revision}")).unwrap_or_default();
            self.tell(&format!("{what}: {}{wrote}", outcome.code));
            for violation in self.tower.violations().iter().skip(self.violated.load(Ordering::Relaxed)) {
                self.violated.fetch_add(1, Ordering::Relaxed);
                self.tell(&format!("!!! {}: {}", violation.invariant, violation.what));
            }
        }
    }

    fn event(self: &Arc<Self>, side: &Side, watch: &Call, event: &Passing<'_>) -> EventFate {
        let Some(provider) = provider_of(watch) else { return EventFate::Deliver };
        let mut state = self.state.lock();
        let place = (provider, filed(watch));
        let n = state.recording.events.entry(place.clone()).or_default();
        *n += 1;
        let n = *n;
        if state.calm {
            return EventFate::Deliver;
        }
        let planned = self.plan.iter().enumerate().position(|(i, planned)| {
            !state.struck[i]
                && matches!(&planned.when, When::Event(who, kind, at) if (*who, kind) == (place.0, &place.1) && *at == n)
        });
        let lag = state.lags.get(&place).copied();
        drop(state);
        let Some(i) = planned.filter(|i| self.strike(*i)) else {
            return lag.map_or(EventFate::Deliver, |lag| self.held(place, event.revision, lag));
        };
        match &self.plan[i].fault {
            Fault::Lags(lag) => {
                self.state.lock().lags.insert(place.clone(), *lag);
                self.held(place, event.revision, *lag)
            }
            Fault::WatchClosed => EventFate::Close,
            Fault::WatchExpired => EventFate::Expire,
            Fault::WatchHangs(time) => EventFate::Delay(*time),
            Fault::Burst(time) => EventFate::Burst(*time),
            Fault::EventLost => {
                self.find_missing(side);
                EventFate::Lose
            }
            Fault::EventTwice => EventFate::Twice,
            Fault::EventsSwapped => EventFate::Swap,
            _ => EventFate::Deliver,
        }
    }

    /// The event waits until the lag allows it.
    fn held(self: &Arc<Self>, place: (Provider, String), revision: u64, lag: Lag) -> EventFate {
        let this = self.clone();
        EventFate::Hold(Box::pin(async move {
            let begun = Instant::now();
            let mut last = (0, begun);
            while this.state.lock().lags.contains_key(&place) {
                let Some(server) = this.world.upgrade().map(|world| world.server.clone()) else { return };
                let written = server.revision();
                if last.0 != written {
                    last = (written, Instant::now());
                }
                let over = match lag {
                    Lag::Time(time) => begun.elapsed() >= time,
                    Lag::Events(n) => {
                        let all = server.all(&place.1);
                        let newer = all.iter().filter(|object| written_at(object) > revision).count();
                        newer >= n as usize || begun.elapsed() >= HALF_A_MINUTE
                    }
                    Lag::Forever => last.1.elapsed() >= STANDSTILL,
                };
                if over {
                    return;
                }
                drop(server);
                sleep(LOOK).await;
            }
        }))
    }

    /// Nobody keeps an event that was lost forever: the watch breaks some time, and then its place in history is gone.
    fn find_missing(self: &Arc<Self>, side: &Side) {
        let Some(server) = self.server(side) else { return };
        self.meanwhile(async move {
            sleep(HALF_A_MINUTE).await;
            server.expire();
        });
    }

    fn server(&self, side: &Side) -> Option<Server> {
        let world = self.world.upgrade()?;
        Some(if side.remote { world.workload.clone() } else { world.server.clone() })
    }
}

impl Fault {
    /// Whether the request is carried out before it happens.
    pub(super) fn comes_after(&self) -> bool {
        matches!(self, Self::CrashLanded | Self::CrashAnswered | Self::LostReply(_))
    }
}

impl Seam for Side {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Fate> {
        Box::pin(self.injector.before(self, call))
    }

    fn after<'a>(&'a self, call: &'a Call, outcome: Outcome) -> BoxFuture<'a, Fate> {
        Box::pin(self.injector.after(self, call, outcome))
    }

    fn event(&self, watch: &Call, event: &Passing<'_>) -> EventFate {
        self.injector.event(self, watch, event)
    }
}

/// Whose request it is, when it is a manager's.
fn provider_of(call: &Call) -> Option<Provider> {
    if call.process == 0 {
        return None;
    }
    let ipam = call.user == "system:serviceaccount:metal3-ipam-system:ipam-manager";
    Some(if ipam { Provider::Ipam } else { Provider::Infra })
}

fn written_at(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|revision| revision.parse().ok()).unwrap_or_default()
}

fn filed(call: &Call) -> String {
    if call.group.is_empty() { call.resource.clone() } else { format!("{}.{}", call.resource, call.group) }
}

fn count_up(counts: &mut BTreeMap<Provider, u32>, provider: Provider) -> u32 {
    let n = counts.entry(provider).or_default();
    *n += 1;
    *n
}

async fn fail(failure: Failure) -> Fate {
    match failure {
        Failure::Internal => Fate::Answer(Refusal::internal("etcdserver: leader changed")),
        Failure::Unavailable => Fate::Answer(Refusal::new(503, "ServiceUnavailable", "the server is shutting down")),
        Failure::Reset => Fate::Break,
        Failure::Timeout => {
            sleep(HALF_A_MINUTE).await;
            Fate::Answer(Refusal::new(
                504,
                "Timeout",
                "the server was unable to return a response in the time allotted",
            ))
        }
    }
}

fn refusal(why: Refused, call: &Call) -> Refusal {
    let what = format!("{} {:?}", filed(call), call.name);
    match why {
        Refused::Forbidden => Refusal::new(403, "Forbidden", format!("{what} is forbidden: no role allows it")),
        Refused::Quota => Refusal::new(403, "Forbidden", format!("{what} is forbidden: exceeded quota: site")),
        Refused::Gone => Refusal::new(410, "Expired", "the resource version is too old"),
        Refused::Invalid => {
            let why =
                format!("admission webhook \"policy.example.com\" denied the request: {what} is not allowed today");
            Refusal::new(422, "Invalid", why).with_details(json!({"name": call.name, "kind": call.resource}))
        }
    }
}
