//! A machine with data and addresses, whole: killed between any two writes of its managers, and without anybody's status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capm3_sim::actors::{self, Actor};
use capm3_sim::scenario::Stage;
use capm3_sim::server::{Call, Calm, Fate, Outcome, Seam};
use capm3_sim::world::kinds::*;
use capm3_sim::world::{Provider, Settings, Snapshot, World};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::site::{image, of_cluster};

const BOUND: Duration = Duration::from_secs(900);

/// A cluster that is up, a free host, a data template with two pools; all but the managers at work, and a machine asked for.
async fn asked_for(begin: &Snapshot) -> World {
    let world = World::begin(begin, Settings { seed: 11, ..Settings::default() });
    for actor in [Actor::HostOperator, Actor::ClusterApi, Actor::Nodes, Actor::Collector] {
        actors::start(&world, actor).await;
    }
    let hand = world.hand();
    let metadata = json!({"name": "m1", "labels": of_cluster("prod")});
    hand.create(BOOTSTRAP, json!({"metadata": metadata, "spec": {}})).await.unwrap();
    let spec = json!({"image": image(), "dataTemplate": {"name": "template"}});
    hand.create(METAL3_MACHINE, json!({"metadata": metadata, "spec": spec})).await.unwrap();
    let reference = |kind: Kind| json!({"apiGroup": kind.group(), "kind": kind.kind, "name": "m1"});
    let bootstrap = json!({"configRef": reference(BOOTSTRAP)});
    let spec = json!({"clusterName": "prod", "bootstrap": bootstrap, "infrastructureRef": reference(METAL3_MACHINE)});
    hand.create(MACHINE, json!({"metadata": metadata, "spec": spec})).await.unwrap();
    world
}

fn start(world: &World) {
    for provider in [Provider::Infra, Provider::Ipam] {
        world.start(provider);
    }
}

fn stop(world: &World) {
    world.processes().iter().for_each(|process| process.kill());
}

fn all(world: &World, kind: Kind) -> Vec<Value> {
    world.server.all(&kind.filed()).iter().map(|object| Value::clone(object)).collect()
}

/// One machine that runs, with one of everything but two addresses.
fn is_whole(world: &World) -> Result<(), String> {
    let phase = &world.hand().get(MACHINE, "m1")["status"]["phase"];
    if phase != "Running" {
        return Err(format!("it is {phase}"));
    }
    let held = all(world, HOST).iter().filter(|host| host["spec"]["consumerRef"]["name"] == "m1").count();
    let counts = [held, all(world, DATA_CLAIM).len(), all(world, DATA).len(), all(world, IP_CLAIM).len()];
    let addresses = all(world, IP_ADDRESS).len();
    if counts == [1, 1, 1, 2] && addresses == 2 { Ok(()) } else { Err(format!("{counts:?}, {addresses} addresses")) }
}

/// Lets one write of a manager land; its answer, and everything after it, gets lost.
#[derive(Default)]
struct Dies(AtomicBool);

impl Dies {
    fn fate(&self) -> BoxFuture<'static, Fate> {
        let dead = self.0.load(Ordering::Relaxed);
        Box::pin(std::future::ready(if dead { Fate::Hang } else { Fate::Pass }))
    }
}

fn of_manager(call: &Call) -> bool {
    call.user.contains("capm3-manager") || call.user.contains("ipam-manager")
}

impl Seam for Dies {
    fn before<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Fate> {
        if of_manager(call) { self.fate() } else { Box::pin(std::future::ready(Fate::Pass)) }
    }

    fn after<'a>(&'a self, call: &'a Call, outcome: Outcome) -> BoxFuture<'a, Fate> {
        if !of_manager(call) || call.resource == "events" {
            return Box::pin(std::future::ready(Fate::Pass));
        }
        self.0.fetch_or(outcome.wrote.is_some(), Ordering::Relaxed);
        self.fate()
    }
}

/// Managers that never live to see the answer to a write of theirs: what each finds is what another left half done.
#[tokio::test(start_paused = true)]
async fn k_143_managers_that_die_after_every_write_are_made_good_by_the_next() {
    let begin = Box::pin(Stage::Site.build()).await.unwrap();
    let world = asked_for(&begin).await;
    let mut deaths = 0;
    loop {
        let dies = Arc::new(Dies::default());
        world.server.set_seam(dies.clone());
        start(&world);
        let died = world.until(BOUND, |_| dies.0.load(Ordering::Relaxed).then_some(()).ok_or_else(String::new)).await;
        stop(&world);
        if died.is_err() {
            break; // there was nothing left to write
        }
        deaths += 1;
        assert!(deaths < 60, "every life writes the same again: {:#?}", world.server.trace());
    }
    assert!(deaths > 15, "{deaths} writes are not a machine's life");
    is_whole(&world).unwrap();
    world.server.set_seam(Arc::new(Calm));
    let revision = world.server.revision();
    start(&world);
    assert!(world.settles(Duration::from_secs(400), BOUND).await);
    assert_eq!(world.server.revision(), revision, "the last finds nothing to put right");
}

/// What `clusterctl move` leaves of an object: everything but its status.
#[tokio::test(start_paused = true)]
async fn k_134_a_status_that_is_lost_is_found_again_in_what_there_is() {
    let begin = Box::pin(Stage::Site.build()).await.unwrap();
    let world = asked_for(&begin).await;
    start(&world);
    let hand = world.hand();
    let pool = json!({"apiGroup": POOL.group(), "kind": POOL.kind, "name": "baremetal"});
    hand.create(CAPI_IP_CLAIM, json!({"metadata": {"name": "other"}, "spec": {"poolRef": pool}})).await.unwrap();
    world.until(BOUND, is_whole).await.unwrap();
    assert!(world.settles(Duration::from_secs(30), BOUND).await);
    stop(&world);

    let lost = [METAL3_MACHINE, DATA_CLAIM, DATA, DATA_TEMPLATE, POOL, IP_CLAIM, CAPI_IP_CLAIM];
    let told = || {
        lost.map(|kind| {
            all(&world, kind).into_iter().map(|object| essence(kind, &object["status"])).collect::<Vec<_>>()
        })
    };
    let kept = || {
        let specs = [lost.as_slice(), &[HOST, IP_ADDRESS, CAPI_IP_ADDRESS]].concat();
        let specs = specs.into_iter().flat_map(|kind| all(&world, kind)).map(|object| object["spec"].clone());
        (specs.collect::<Vec<_>>(), all(&world, SECRET))
    };
    let (before, around) = (told(), kept());
    assert!(before.iter().flatten().all(|status| !status.to_string().contains("null")), "{before:#?}");
    for kind in lost {
        for object in all(&world, kind) {
            hand.patch_status(kind, object["metadata"]["name"].as_str().unwrap(), Value::Null).await.unwrap();
        }
    }
    start(&world);
    world.until(BOUND, |_| if told() == before { Ok(()) } else { Err(format!("{:#?}", told())) }).await.unwrap();
    assert!(world.settles(Duration::from_secs(30), BOUND).await);
    assert_eq!((told(), kept()), (before, around), "nothing is allocated, rendered or deployed anew");
}

/// What must be as it was, without times and words.
fn essence(kind: Kind, status: &Value) -> Value {
    let fields: &[&str] = match kind {
        METAL3_MACHINE => &["initialization", "userData", "metaData", "networkData", "renderedData", "addresses"],
        DATA_CLAIM => &["renderedData"],
        DATA => &["ready"],
        DATA_TEMPLATE | POOL => &["indexes"],
        IP_CLAIM => &["address"],
        _ => &["addressRef"],
    };
    fields.iter().map(|field| ((*field).to_owned(), status[*field].clone())).collect::<serde_json::Map<_, _>>().into()
}
