//! Who else is at work around the providers: Cluster API, the Nodes of the workload cluster, the collector, users and their tools.
//!
//! An actor that looks after objects is a [`Part`]: a pure `decide` over what is stored and one loop that all of them share. The loop
//! hears of every accepted write, waits a little (from the world's dice, so that actors come before or after the providers by
//! seed), decides anew from what is there by then and does what was decided. Nothing is remembered but whom to look at next: an
//! actor that is started late, or whose request was refused, ends at the same place.
//!
//! What users do is not looking after: those actors are functions that a scenario awaits.

pub mod clusterctl;
pub mod gitops;
pub mod hardware;
pub mod user;

mod cluster_api;
mod collector;
mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capm3_runtime::{Dice, merge_diff_json};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::server::{Change, Server, User};
use crate::world::kinds::{self, Kind};
use crate::world::{Deed, Hand, SITE, World};

pub use cluster_api::NO_KUBECONFIG;

/// Somebody who is started with a world and works until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// baremetal-operator: [`crate::host`].
    HostOperator,
    /// Cluster API with its bootstrap and control plane providers.
    ClusterApi,
    /// Kubelets of hosts that run.
    Nodes,
    /// The garbage collector, which comes a moment after each deletion.
    Collector,
}

pub async fn start(world: &World, actor: Actor) {
    match actor {
        Actor::HostOperator => world.start_operator().await,
        Actor::ClusterApi => spawn(world, cluster_api::ClusterApi),
        Actor::Nodes => spawn(world, nodes::Nodes { room: world.room.clone() }),
        Actor::Collector => collector::start(world),
    }
}

/// Whom to look at.
type Cue = (Kind, String);

/// What is stored, as a part looks at it. Everything happens in the namespace [`SITE`].
trait View {
    /// Null when it is not there.
    fn get(&self, kind: Kind, name: &str) -> Arc<Value>;
    fn all(&self, kind: Kind) -> Vec<Arc<Value>>;
}

/// Both clusters: Nodes are looked for in the workload cluster, everything else in the management cluster.
struct Stored {
    management: Server,
    workload: Server,
}

impl View for Stored {
    fn get(&self, kind: Kind, name: &str) -> Arc<Value> {
        let (server, namespace) = if kind == kinds::NODE { (&self.workload, "") } else { (&self.management, SITE) };
        server.get(&kind.filed(), namespace, name).unwrap_or_default()
    }

    fn all(&self, kind: Kind) -> Vec<Arc<Value>> {
        let server = if kind == kinds::NODE { &self.workload } else { &self.management };
        server.all(&kind.filed())
    }
}

/// A write that somebody made, by what it was about.
struct Heard {
    group: String,
    resource: String,
    /// The last that is known of it.
    object: Arc<Value>,
}

impl Heard {
    fn is(&self, kind: Kind) -> bool {
        self.resource == kind.plural && self.group == kind.group()
    }
}

/// What a part wants done.
#[derive(Clone, Debug, PartialEq)]
struct Act(Kind, String, Deed);

/// An actor that looks after objects.
trait Part: Send + Sync + 'static {
    fn user(&self) -> User;

    /// How long it takes at most to look at what has changed.
    fn pace(&self, cue: &Cue) -> Duration;

    /// Whom a write wakes.
    fn hears(&self, view: &dyn View, heard: &Heard) -> Vec<Cue>;

    /// Everything that is looked at when the part starts.
    fn everything(&self, view: &dyn View) -> Vec<Cue>;

    /// What is to be done now, in this order; what comes after is decided when that has been done. `chance` is for names.
    fn decide(&self, view: &dyn View, cue: &Cue, chance: u64) -> Vec<Act>;
}

#[derive(Default)]
struct Inbox {
    heard: Mutex<Vec<Heard>>,
    news: Notify,
}

impl Inbox {
    fn put(&self, change: &Change<'_>) {
        // Nobody looks after those.
        if matches!(change.call.resource.as_str(), "events" | "leases") {
            return;
        }
        let Some(object) = change.new.or(change.old) else { return };
        self.heard.lock().push(Heard {
            group: change.call.group.clone(),
            resource: change.call.resource.clone(),
            object: object.clone(),
        });
        self.news.notify_one();
    }
}

/// Everything that is known about, so that what no write told of (a restored server) is seen as well.
const RESYNC: Duration = Duration::from_secs(600);

/// Somebody else wrote in between: look again soon.
const CONFLICT: Duration = Duration::from_millis(50);
/// Of whatever else is said no to.
const REFUSED: Duration = Duration::from_secs(2);

fn spawn(world: &World, part: impl Part) {
    let inbox = Arc::new(Inbox::default());
    for server in [&world.server, &world.workload] {
        let inbox = Arc::downgrade(&inbox);
        server.observe(move |change| {
            if let Some(inbox) = inbox.upgrade() {
                inbox.put(change);
            }
        });
    }
    let view = Stored { management: world.server.clone(), workload: world.workload.clone() };
    let dice = world.dice();
    let stopping = world.tasks().stopping();
    world.tasks().spawn_finite(async move {
        stopping.run_until_cancelled(look_after(part, view, inbox, dice)).await;
    });
}

async fn look_after(part: impl Part, view: Stored, inbox: Arc<Inbox>, dice: Arc<dyn Dice>) {
    let hand = Hand::new(view.management.clone(), part.user(), SITE);
    let remote = Hand::new(view.workload.clone(), part.user(), "");
    let soon = |cue: &Cue| Instant::now() + within(&*dice, part.pace(cue));
    let mut due: BTreeMap<Cue, Instant> = BTreeMap::new();
    let mut resync = Instant::now();
    loop {
        for heard in std::mem::take(&mut *inbox.heard.lock()) {
            for cue in part.hears(&view, &heard) {
                let at = soon(&cue);
                let planned = due.entry(cue).or_insert(at);
                *planned = (*planned).min(at);
            }
        }
        if Instant::now() >= resync {
            for cue in part.everything(&view) {
                let at = soon(&cue);
                due.entry(cue).or_insert(at);
            }
            resync = Instant::now() + RESYNC;
        }
        let next = due.iter().min_by_key(|(cue, at)| (**at, *cue)).map(|(cue, at)| (cue.clone(), *at));
        match next {
            Some((cue, at)) if at <= Instant::now() => {
                due.remove(&cue);
                for Act(kind, name, deed) in part.decide(&view, &cue, dice.roll()) {
                    let hand = if kind == kinds::NODE { &remote } else { &hand };
                    if let Err(refused) = hand.send(kind, &name, deed).await {
                        let after = if refused.code == 409 { CONFLICT } else { REFUSED };
                        due.entry(cue).or_insert(Instant::now() + after);
                        break;
                    }
                }
            }
            next => {
                let until = next.map_or(resync, |(_, at)| at.min(resync));
                let _ = timeout_at(until, inbox.news.notified()).await;
            }
        }
    }
}

/// Some time up to this, in milliseconds.
fn within(dice: &dyn Dice, most: Duration) -> Duration {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(dice.roll() % most.saturating_add(1))
}

/// A merge patch of what differs outside of the status. It insists on the version that was seen: lists are replaced whole.
fn patch(kind: Kind, before: &Value, after: &Value) -> Option<Act> {
    let (mut old, mut new) = (before.clone(), after.clone());
    [&mut old, &mut new].into_iter().filter_map(Value::as_object_mut).for_each(|object| drop(object.remove("status")));
    prune(&mut new);
    let mut patch = merge_diff_json(&old, &new)?;
    patch["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    Some(Act(kind, name(before).to_owned(), Deed::Patch(patch)))
}

/// The same of the status alone.
fn patch_status(kind: Kind, before: &Value, after: &Value) -> Option<Act> {
    let of = |object: &Value| serde_json::json!({"status": object["status"]});
    let mut after = of(after);
    prune(&mut after);
    let patch = merge_diff_json(&of(before), &after)?;
    Some(Act(kind, name(before).to_owned(), Deed::PatchStatus(patch)))
}

/// What is null is not there.
fn prune(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(prune);
    }
}

fn delete(kind: Kind, object: &Value) -> Act {
    let only = serde_json::json!({"preconditions": {"uid": object["metadata"]["uid"]}});
    Act(kind, name(object).to_owned(), Deed::Delete(only))
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

/// Adds to a list, which may not be there yet.
fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) if list.contains(&item) => {}
        Some(list) => list.push(item),
        None => *list = vec![item].into(),
    }
}

/// Sets a member of an object, which may not be there yet.
fn put(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    *path.iter().fold(object, |object, key| &mut object[*key]) = value.into();
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|one| one == finalizer))
}

/// The object without this finalizer.
fn finalized(kind: Kind, object: &Value, finalizer: &str) -> Option<Act> {
    let mut after = object.clone();
    after["metadata"]["finalizers"].as_array_mut()?.retain(|one| one != finalizer);
    patch(kind, object, &after)
}
