//! A script is played: the scene is set, the managers start, the steps are taken, and in the end everything is looked at.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::sentence::{Command, Condition, What, Who, kind_of, within};
use super::tell::Teller;
use super::{Script, named};
use crate::actors::{self, Actor};
use crate::fault::{Injector, Plan};
use crate::host::FAIL;
use crate::invariant::Watchtower;
use crate::scenario::{ask, expect};
use crate::world::kinds::{self, Kind};
use crate::world::{Process, Provider, SITE, Settings, Snapshot, Stuck, World};

/// What is expected comes within this, once every step is taken.
const CONVERGES: Duration = Duration::from_secs(600);
/// At rest nothing was written for this long.
const REST: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_secs(7200);
/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(500);

/// A story that was played.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub lines: Vec<String>,
    /// Expectations that did not come true, and invariants that did not hold.
    pub failures: Vec<String>,
    /// Objects in both clusters in the end.
    pub objects: usize,
}

/// Must be called in a runtime whose time is paused. `faults` come on top of the script's own.
pub async fn play(script: &Script, seed: u64, faults: &Plan) -> Result<Told, Stuck> {
    let snapshot = Box::pin(scene(script)).await?;
    let world = Arc::new(World::begin(&snapshot, Settings { seed, ..Settings::default() }));
    drop(snapshot);
    let tower = Watchtower::over(&world);
    let plan = Plan(script.faults.0.iter().chain(&faults.0).cloned().collect());
    let injector = Injector::over(&world, tower.clone(), &plan, true);
    let teller = Teller::over(&world);
    for actor in [Actor::HostOperator, Actor::ClusterApi, Actor::Nodes, Actor::Collector] {
        actors::start(&world, actor).await;
    }
    for (provider, count) in [(Provider::Infra, script.managers.infra), (Provider::Ipam, script.managers.ipam)] {
        (0..count).for_each(|_| drop(world.start(provider)));
    }
    let mut player = Player { world: &world, teller: &teller, failures: Vec::new() };
    Box::pin(player.act(script)).await?;
    for condition in &script.expect {
        let _ = Box::pin(player.comes(condition, CONVERGES)).await; // or not: the verdict comes when all faults are over
    }
    while injector.is_busy() {
        sleep(LOOK).await;
    }
    injector.calm();
    let mut verdicts = Vec::new();
    for condition in &script.expect {
        verdicts.push(match Box::pin(player.comes(condition, CONVERGES)).await {
            Ok(()) => format!("  yes: {condition}"),
            Err(why) => {
                player.failures.push(format!("{condition}: {why}"));
                format!("  NO:  {condition}: {why}")
            }
        });
    }
    let mut failures = player.failures;
    let quiet = world.settles(REST, NEVER).await;
    teller.say("", if quiet { "everything is at rest".to_owned() } else { "it never comes to rest".to_owned() });
    let mut violations = tower.violations();
    violations.extend(tower.at_rest(&world));
    failures.extend(violations.iter().map(|violation| format!("{}: {}", violation.invariant, violation.what)));

    let mut lines = vec![script.about.clone(), format!("seed {seed}, faults: {plan}"), String::new()];
    lines.extend(teller.lines(faults_told(&injector)));
    lines.push(String::new());
    if !verdicts.is_empty() {
        lines.push("expected:".to_owned());
        lines.append(&mut verdicts);
    }
    lines.extend(violations.iter().map(|violation| format!("  BROKEN: {}: {}", violation.invariant, violation.what)));
    lines.extend(figures(&world, &injector));
    Ok(Told { lines, failures, objects: world.server.len() + world.workload.len() })
}

/// Everything that is there when the story begins.
async fn scene(script: &Script) -> Result<Snapshot, Stuck> {
    let world = World::empty(Settings::default()).await?;
    let hand = world.hand();
    for actor in [Actor::HostOperator, Actor::ClusterApi, Actor::Collector] {
        actors::start(&world, actor).await;
    }
    world.start(Provider::Infra);
    world.start(Provider::Ipam);
    ask::cluster(&hand).await?;
    for pool in &script.pools {
        let gateway = pool.gateway.clone();
        let spec = json!({
            "namePrefix": pool.name, "prefix": 24, "pools": [{"start": pool.first, "end": pool.last, "gateway": gateway}],
        });
        hand.create(kinds::POOL, json!({"metadata": {"name": pool.name}, "spec": spec})).await?;
    }
    for (name, pools) in &script.data_templates {
        let pools: Vec<&str> = pools.iter().map(String::as_str).collect();
        hand.create(kinds::DATA_TEMPLATE, ask::data_template(name, &pools)).await?;
    }
    for (name, set) in [("workers", &script.workers), ("plane", &script.control_plane)] {
        if let Some(set) = set {
            let template = ask::machine_template(name, &ask::metal3(set.data.as_deref()));
            hand.create(kinds::METAL3_MACHINE_TEMPLATE, template).await?;
        }
    }
    for object in &script.objects {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let known = kind_of(text("apiVersion"), text("kind"));
        let known = known.ok_or_else(|| {
            Stuck::Broken(format!("objects: {} {} is not known here", text("apiVersion"), text("kind")))
        })?;
        hand.create(known, object.clone()).await?;
    }
    for hosts in &script.hosts {
        for name in named(&hosts.name, hosts.count) {
            ask::add_host(&hand, &name).await?;
            if !hosts.labels.is_empty() {
                hand.patch(kinds::HOST, &name, json!({"metadata": {"labels": hosts.labels}})).await?;
            }
        }
    }
    let ready = |world: &World| {
        let hosts = expect::all(world, kinds::HOST);
        let waiting = hosts.iter().filter(|host| host["status"]["provisioning"]["state"] != "available").count();
        expect::holds(waiting == 0, || format!("{waiting} hosts are not available"))
    };
    world.until(NEVER, ready).await?;
    if !world.settles(REST, NEVER).await {
        return Err(Stuck::Broken("the scene never comes to rest".to_owned()));
    }
    Ok(world.snapshot())
}

struct Player<'a> {
    world: &'a World,
    teller: &'a Teller,
    failures: Vec<String>,
}

impl Player<'_> {
    /// Everything that users do.
    async fn act(&mut self, script: &Script) -> Result<(), Stuck> {
        let begun = Instant::now();
        let hand = self.world.hand();
        for machines in &script.machines {
            for name in named(&machines.name, machines.count) {
                let mut spec = ask::metal3(machines.data.as_deref());
                if !machines.on.is_empty() {
                    spec["hostSelector"] = json!({"matchLabels": machines.on});
                }
                ask::machine(&hand, &name, spec).await?;
            }
        }
        if let Some(set) = &script.control_plane {
            self.control_plane(set.replicas).await?;
        }
        if let Some(set) = &script.workers {
            let mut workers = ask::deployment("workers", "workers", 0);
            workers["spec"]["replicas"] = set.replicas.into();
            hand.create(kinds::MACHINE_DEPLOYMENT, workers).await?;
        }
        for step in &script.steps {
            if let Some(at) = step.at {
                sleep_until(begun + at).await;
            }
            Box::pin(self.take(&step.command)).await?;
        }
        Ok(())
    }

    async fn control_plane(&self, replicas: u32) -> Result<(), Stuck> {
        let hand = self.world.hand();
        let cluster = hand.get(kinds::CLUSTER, ask::CLUSTER_NAME);
        let template = json!({"infrastructureRef": ask::infra_ref(kinds::METAL3_MACHINE_TEMPLATE, "plane")});
        let plane = json!({
            "metadata": {"name": "plane", "labels": ask::of_cluster(), "ownerReferences": [ask::owner(kinds::CLUSTER, &cluster)]},
            "spec": {"replicas": replicas, "machineTemplate": {"spec": template}},
        });
        hand.create(kinds::CONTROL_PLANE, plane).await?;
        let reference = ask::infra_ref(kinds::CONTROL_PLANE, "plane");
        hand.patch(kinds::CLUSTER, ask::CLUSTER_NAME, json!({"spec": {"controlPlaneRef": reference}})).await
    }

    async fn take(&mut self, command: &Command) -> Result<(), Stuck> {
        let hand = self.world.hand();
        match command {
            Command::Wait(time) => sleep(*time).await,
            Command::Until(condition, bound) => {
                if let Err(why) = Box::pin(self.comes(condition, *bound)).await {
                    self.failures.push(format!("{condition} ({}): {why}", within(*bound)));
                    self.teller.say("", format!("waited in vain: {condition} ({})", within(*bound)));
                }
            }
            Command::Kill(who) => self.each(*who, "is killed", Process::kill),
            Command::Freeze(who) => self.each(*who, "stands still", Process::pause),
            Command::Thaw(who) => self.each(*who, "goes on", Process::resume),
            Command::Start(provider) => {
                let process = self.world.start(*provider);
                self.teller.say(&process_name(&process), "starts".to_owned());
            }
            Command::CreateHost(name) => ask::add_host(&hand, name).await?,
            Command::CreateMachine(name, data) => ask::machine(&hand, name, ask::metal3(data.as_deref())).await?,
            Command::CreateClaim(name, pool) => drop(hand.create(kinds::IP_CLAIM, ask::claim(name, pool)).await?),
            Command::Delete(kind, name) => self.hand_of(*kind).delete(*kind, name).await?,
            Command::Mark(field, kind, name, key, value) => {
                let patch = json!({"metadata": {*field: {key: value}}});
                self.hand_of(*kind).patch(*kind, name, patch).await?;
            }
            Command::Patch(kind, name, patch) => self.hand_of(*kind).patch(*kind, name, patch.clone()).await?,
            Command::PauseCluster(paused) => ask::pause(&hand, *paused).await?,
            Command::Scale(kind, replicas) => {
                let name = if *kind == kinds::CONTROL_PLANE { "plane" } else { "workers" };
                hand.patch(*kind, name, json!({"spec": {"replicas": replicas}})).await?;
            }
            Command::Break(name, how) => {
                hand.patch(kinds::HOST, name, json!({"metadata": {"annotations": {FAIL: how}}})).await?;
            }
        }
        Ok(())
    }

    fn hand_of(&self, kind: Kind) -> crate::world::Hand {
        if kind == kinds::NODE { self.world.remote_hand() } else { self.world.hand() }
    }

    fn each(&self, who: Who, what: &str, done: impl Fn(&Process)) {
        let all = self.world.processes();
        let meant = |process: &Process| {
            process.provider == who.provider && who.number.is_none_or(|number| number == process.id)
        };
        for process in all.iter().filter(|process| meant(process) && process.is_alive()) {
            done(process);
            self.teller.say(&process_name(process), what.to_owned());
        }
    }

    async fn comes(&self, condition: &Condition, bound: Duration) -> Result<(), String> {
        if condition.what == What::Quiet {
            let quiet = self.world.settles(REST, bound).await;
            return expect::holds(quiet, || "there is always something".to_owned());
        }
        let end = Instant::now() + bound;
        loop {
            let found = holds(self.world, &condition.what);
            if found.is_ok() || Instant::now() >= end {
                return found;
            }
            sleep(LOOK).await;
            self.world.server.settle();
        }
    }
}

fn process_name(process: &Process) -> String {
    let name = match process.provider {
        Provider::Infra => "infra",
        Provider::Ipam => "ipam",
    };
    format!("{name} #{}", process.id)
}

/// Whether it is so now; else what is.
fn holds(world: &World, what: &What) -> Result<(), String> {
    let found =
        |kind: Kind, name: &str| if kind == kinds::NODE { world.remote_hand() } else { world.hand() }.get(kind, name);
    match what {
        What::Runs(name) => expect::is_running(world, name),
        What::Run(wanted) => {
            let machines = expect::all(world, kinds::MACHINE);
            let running = machines.iter().filter(|machine| machine["status"]["phase"] == "Running").count();
            expect::holds(running == *wanted, || format!("{running} of {} run", machines.len()))
        }
        What::IsOn(machine, host) => {
            let consumer = found(kinds::HOST, host)["spec"]["consumerRef"]["name"].clone();
            expect::holds(consumer == machine.as_str(), || format!("the consumer of {host} is {consumer}"))
        }
        What::HostIs(name, state) => {
            let host = found(kinds::HOST, name);
            expect::holds(is(&host, state), || format!("{name} is {}", host["status"]["provisioning"]["state"]))
        }
        What::HostsAre(wanted, state) => {
            let count = expect::all(world, kinds::HOST).iter().filter(|host| is(host, state)).count();
            expect::holds(count == *wanted, || format!("{count} are"))
        }
        What::Has(claim, address) => {
            let has = expect::address_of(world, claim)?;
            expect::holds(address.as_ref().is_none_or(|wanted| *wanted == has), || format!("it has {has}"))
        }
        What::HasNone(claim) => {
            let address = found(kinds::IP_CLAIM, claim)["status"]["address"]["name"].clone();
            expect::holds(address.is_null(), || format!("it has {address}"))
        }
        What::Held(wanted) => {
            let kinds = [kinds::IP_ADDRESS, kinds::CAPI_IP_ADDRESS];
            let count: usize = kinds.into_iter().map(|kind| expect::all(world, kind).len()).sum();
            expect::holds(count == *wanted, || format!("{count} are"))
        }
        What::Exists(kind, name) => expect::holds(!found(*kind, name).is_null(), || "it is not there".to_owned()),
        What::Gone(kind, name) => expect::holds(found(*kind, name).is_null(), || "it is still there".to_owned()),
        What::ThereAre(wanted, kind) => {
            let server = if *kind == kinds::NODE { &world.workload } else { &world.server };
            let count = server.all(&kind.filed()).len();
            expect::holds(count == *wanted, || format!("there are {count}"))
        }
        What::Shows(kind, name, path, wanted) => {
            let object = found(*kind, name);
            let shown = match object.pointer(path) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => "nothing".to_owned(),
            };
            expect::holds(shown == *wanted, || format!("it shows {shown}"))
        }
        What::NothingLeft => expect::nothing_is_left(world),
        What::Quiet => Ok(()),
    }
}

fn is(host: &Value, state: &str) -> bool {
    match state {
        "free" => expect::is_free(host).is_ok(),
        "claimed" => host["spec"]["consumerRef"].is_object(),
        "gone" => host.is_null(),
        _ => host["status"]["provisioning"]["state"] == state,
    }
}

/// The faults that struck, and what became of processes by them.
fn faults_told(injector: &Injector) -> Vec<(Duration, String)> {
    let all = injector.story();
    let told = all.iter().filter_map(|line| {
        let (at, what) = line.trim_start().split_once("s ")?;
        let matters = what.starts_with("*** ") || what.ends_with(" is killed") || what.contains(" starts");
        let seconds: f64 = at.parse().ok()?;
        matters.then(|| (Duration::from_millis((seconds * 1000.0).round() as u64), what.to_owned()))
    });
    told.collect()
}

/// How much was asked for it all.
fn figures(world: &World, injector: &Injector) -> Vec<String> {
    let recording = injector.recording();
    let asked = |provider| recording.requests.get(&provider).map_or(0, Vec::len);
    let (infra, ipam) = (asked(Provider::Infra), asked(Provider::Ipam));
    let writes = recording.writes(Provider::Infra) + recording.writes(Provider::Ipam);
    let machines = expect::all(world, kinds::METAL3_MACHINE).len();
    let each = if machines == 0 {
        String::new()
    } else {
        format!(", {:.1} for each of {machines} machines in {SITE}", (infra + ipam) as f64 / machines as f64)
    };
    vec![format!("requests: {infra} of infra, {ipam} of ipam, {writes} of them writes{each}")]
}
