//! The address manager alone in a management cluster: what it asks for, in which order, and what comes of it.
//!
//! Rows of docs/spec/ipam.md 9.8 and 9.10 and rules of docs/spec/capi-contract.md 2 that are about the controller.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test and say why")]

mod contract;
mod controller;
mod hazards;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use capm3_sim::server::{Call, EventFate, Fate, Passing, Refusal, Seam, User, Verb};
use capm3_sim::world::kinds::{
    CAPI_IP_ADDRESS, CAPI_IP_CLAIM, CLUSTER, EVENT, IP_ADDRESS, IP_CLAIM, Kind, NAMESPACE, POOL,
};
use capm3_sim::world::{Hand, Provider, Settings, World};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Virtual time in which anything that is waited for has to happen.
const BOUND: Duration = Duration::from_secs(60);
/// The claims of both kinds, their addresses, and where their status names them.
const BOTH: [(Kind, Kind, &str); 2] =
    [(IP_CLAIM, IP_ADDRESS, "/status/address/name"), (CAPI_IP_CLAIM, CAPI_IP_ADDRESS, "/status/addressRef/name")];

struct Site {
    world: World,
    hand: Hand,
    /// What managers wrote, in its order.
    wrote: Arc<Mutex<Vec<Wrote>>>,
}

/// One write of a manager.
#[derive(Clone, Debug)]
struct Wrote {
    verb: Verb,
    resource: String,
    subresource: String,
    path: String,
    old: Value,
    new: Value,
}

impl Wrote {
    /// `patch ipclaims/status`
    fn deed(&self) -> String {
        let below = if self.subresource.is_empty() { "" } else { "/status" };
        format!("{} {}{below}", self.verb.name(), self.resource)
    }
}

fn is_manager(call: &Call) -> bool {
    call.user == Provider::Ipam.user(1).name
}

impl Site {
    /// With nobody at work yet.
    async fn still(seed: u64) -> Self {
        let world = World::empty(Settings { seed, keep_trace: true, ..Settings::default() }).await.unwrap();
        let (hand, wrote) = (world.hand(), Arc::<Mutex<Vec<Wrote>>>::default());
        let into = wrote.clone();
        world.server.observe(move |change| {
            let call = change.call;
            if is_manager(call) && call.resource != EVENT.plural {
                let value = |side: Option<&Arc<Value>>| side.map(|object| Value::clone(object)).unwrap_or_default();
                into.lock().push(Wrote {
                    verb: call.verb,
                    resource: call.resource.clone(),
                    subresource: call.subresource.clone(),
                    path: format!("{}/{}", call.namespace, call.name),
                    old: value(change.old),
                    new: value(change.new),
                });
            }
        });
        Self { world, hand, wrote }
    }

    async fn new(seed: u64) -> Self {
        let site = Self::still(seed).await;
        site.world.start(Provider::Ipam);
        site
    }

    async fn create(&self, kind: Kind, body: Value) -> Value {
        self.hand.create(kind, body).await.unwrap()
    }

    /// `<net>.<first>` to `<net>.<last>`, served.
    async fn pool(&self, name: &str, range: (&str, &str)) -> Value {
        self.create(POOL, pool(name, &[range])).await;
        self.until(POOL, name, "it is looked after", |pool| pool["status"]["lastUpdated"].is_string()).await
    }

    async fn until(&self, kind: Kind, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.hand.until(BOUND, (kind, name), what, wanted).await.unwrap_or_else(|stuck| {
            let trace = self.world.server.trace();
            panic!("{stuck}\n{}", trace[trace.len().saturating_sub(40)..].join("\n"))
        })
    }

    /// Waits until the claim is answered with an address that is there; the address.
    async fn served(&self, (kind, address, place): (Kind, Kind, &str), claim: &str) -> Value {
        let name = |claim: &Value| claim.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_there = |claim: &Value| self.hand.get(address, &name(claim)).is_object() && ready(claim).0 == "True";
        let claim = self.until(kind, claim, "an address", is_there).await;
        self.hand.get(address, &name(&claim))
    }

    async fn gone(&self, kind: Kind, name: &str) {
        self.until(kind, name, "its end", Value::is_null).await;
    }

    /// Nothing is asked, written or waited for any more.
    async fn rest(&self) {
        assert!(self.world.settles(Duration::from_secs(30), Duration::from_secs(3600)).await, "it never rests");
        let (before, revision) = (self.world.server.trace().len(), self.world.server.revision());
        sleep(Duration::from_secs(3600)).await;
        let trace = self.world.server.trace();
        let asked: Vec<_> = trace[before..].iter().filter(|line| !line.contains(" watch ")).collect();
        assert_eq!((asked.len(), self.world.server.revision()), (0, revision), "{asked:#?}");
        for process in self.world.processes() {
            assert_eq!(process.failure(), None);
        }
    }

    fn all(&self, kind: Kind) -> Vec<Arc<Value>> {
        self.world.server.all(&kind.filed())
    }

    /// Every address that is there, of both kinds; panics over one that is there twice.
    fn addresses(&self) -> BTreeSet<String> {
        let all = [self.all(IP_ADDRESS), self.all(CAPI_IP_ADDRESS)].concat();
        let distinct: BTreeSet<_> = all.iter().map(|object| text(object, "/spec/address")).collect();
        assert_eq!(distinct.len(), all.len(), "an address is there twice: {distinct:?}");
        distinct
    }

    /// Requests of the managers, without watches, lists and events.
    fn requests(&self) -> Vec<String> {
        let of_manager = |line: &String| line.contains(&Provider::Ipam.user(1).name) && !line.contains(" events ");
        let quiet = |line: &String| [" watch ", " list "].iter().any(|verb| line.contains(verb));
        self.world.server.trace().into_iter().filter(|line| of_manager(line) && !quiet(line)).collect()
    }

    fn writes_of(&self, resource: &str, name: &str) -> Vec<Wrote> {
        let of = |wrote: &&Wrote| wrote.resource == resource && wrote.path.ends_with(&format!("/{name}"));
        self.wrote.lock().iter().filter(of).cloned().collect()
    }
}

fn pool(name: &str, ranges: &[(&str, &str)]) -> Value {
    let ranges: Vec<_> = ranges.iter().map(|(start, end)| json!({"start": start, "end": end})).collect();
    json!({"metadata": {"name": name}, "spec": {"namePrefix": name, "prefix": 24, "gateway": "192.0.2.1", "pools": ranges}})
}

fn claim(kind: Kind, name: &str, pool: &str) -> Value {
    let spec = if kind == IP_CLAIM {
        json!({"pool": {"name": pool}})
    } else {
        json!({"poolRef": {"apiGroup": POOL.group(), "kind": POOL.kind, "name": pool}})
    };
    json!({"metadata": {"name": name}, "spec": spec})
}

fn text(object: &Value, place: &str) -> String {
    object.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Status, reason and message of `Ready`.
fn ready(object: &Value) -> (String, String, String) {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let field = |name: &str| ready.map(|ready| text(ready, name)).unwrap_or_default();
    (field("/status"), field("/reason"), field("/message"))
}

fn is_not_ready(object: &Value, reason: &str, message: &str) -> bool {
    ready(object) == ("False".to_owned(), reason.to_owned(), message.to_owned())
}

/// Events of these kinds reach managers late.
struct Late(&'static [Kind], Duration);

impl Seam for Late {
    fn event(&self, watch: &Call, _: &Passing<'_>) -> EventFate {
        let late = |kind: &&Kind| (kind.plural, kind.group()) == (watch.resource.as_str(), watch.group.as_str());
        if is_manager(watch) && self.0.iter().any(|kind| late(&kind)) {
            return EventFate::Delay(self.1);
        }
        EventFate::Deliver
    }
}

/// The first request of a kind is refused as by a server that is not well.
struct FailsOnce(Verb, Kind, Mutex<bool>);

impl Seam for FailsOnce {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Fate> {
        let asked = (call.verb, call.resource.as_str(), call.group.as_str());
        let fails = is_manager(call)
            && asked == (self.0, self.1.plural, self.1.group())
            && !std::mem::replace(&mut *self.2.lock(), true);
        let fate = if fails { Fate::Answer(Refusal::internal("etcdserver: request timed out")) } else { Fate::Pass };
        Box::pin(std::future::ready(fate))
    }
}
