//! Machines that are not well, and labels of their Nodes. The scenario plays the health check: it asks for a remediation as a
//! MachineHealthCheck does, and takes it back once the machine is well.

use std::time::Duration;

use capm3_api::names::{annotation, label, out_of_service};
use serde_json::{Value, json};

use super::ask::{
    self, BOUND, CLUSTER_NAME, a_while, add_host, deployment, gone, machine_template, metal3, runs, shows, until,
};
use super::expect::{Found, all, are_running, condition, holds, hosts_of, name};
use super::{Play, Stage, nothing};
use crate::actors::Actor;
use crate::host::FAIL;
use crate::world::kinds::*;
use crate::world::{Deed, Hand, Provider, SITE, Stuck, World};

const ILL: Play = Play {
    name: "",
    stage: Stage::Site,
    providers: &[Provider::Infra],
    actors: &[Actor::HostOperator, Actor::ClusterApi, Actor::Nodes, Actor::Collector],
    weight: 2,
    drive: nothing,
    goal: well,
};

pub(super) const PLAYS: &[Play] = &[
    Play { name: "remediated_out_of_service", drive: |world| Box::pin(out_of_service(world)), ..ILL },
    Play { name: "remediated_by_deletion", drive: |world| Box::pin(by_deletion(world)), goal: as_it_was, ..ILL },
    Play {
        name: "given_up_and_replaced",
        stage: Stage::Farm,
        drive: |world| Box::pin(given_up(world)),
        goal: on_another_host,
        ..ILL
    },
    Play { name: "remediation_deleted_on_the_way", drive: |world| Box::pin(deleted_on_the_way(world)), ..ILL },
    Play { name: "remediation_removed_by_force", drive: |world| Box::pin(by_force(world)), ..ILL },
    Play { name: "labels_follow_the_host", drive: |world| Box::pin(labels(world)), goal: labelled, ..ILL },
];

/// The machine runs, and nothing of its illness is left.
fn well(world: &World) -> Found {
    are_running(world, 1, 0)?;
    super::expect::there_are(world, REMEDIATION, 0)?;
    for host in all(world, HOST) {
        let on = host["status"]["poweredOn"] == true || host["spec"]["consumerRef"].is_null();
        holds(on, || format!("{} is off", name(&host)))?;
        let annotations = host["metadata"]["annotations"].as_object();
        let kept = annotations.is_some_and(|all| all.keys().any(|key| key.starts_with(annotation::REBOOT_PREFIX)));
        holds(!kept, || format!("{} is kept off", name(&host)))?;
    }
    for node in world.workload.all(&NODE.filed()) {
        holds(!is_tainted(&node), || format!("{} is out of service", name(&node)))?;
    }
    Ok(())
}

fn is_tainted(node: &Value) -> bool {
    node["spec"]["taints"].as_array().is_some_and(|all| all.iter().any(|taint| taint["key"] == out_of_service::KEY))
}

async fn machine(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    ask::machine(&hand, "m1", metal3(None)).await?;
    runs(&hand, "m1").await
}

/// The health check says no, and asks for a remediation under the Machine's name.
async fn remediate(hand: &Hand, machine: &str, timeout: u32) -> Result<(), Stuck> {
    let found = hand.get(MACHINE, machine);
    let no = |kind: &str| {
        let at = "2026-08-01T00:00:00Z";
        json!({"type": kind, "status": "False", "reason": "Unhealthy", "message": "", "lastTransitionTime": at})
    };
    let mut conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(no("HealthCheckSucceeded"));
    hand.patch_status(MACHINE, machine, json!({"conditions": conditions})).await?;
    let metadata =
        json!({"name": machine, "labels": ask::of_cluster(), "ownerReferences": [ask::owner(MACHINE, &found)]});
    let strategy = json!({"type": "Reboot", "retryLimit": 1, "timeoutSeconds": timeout});
    hand.create(REMEDIATION, json!({"metadata": metadata, "spec": {"strategy": strategy}})).await.map(drop)
}

/// Waits until the remediation has put everything back, and takes it away.
async fn is_well_again(hand: &Hand) -> Result<(), Stuck> {
    let back = |found: &Value| {
        found["status"]["phase"] == "Waiting" && found["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
    };
    hand.until(BOUND, (REMEDIATION, "m1"), "its end", back).await?;
    hand.delete(REMEDIATION, "m1").await?;
    gone(hand, REMEDIATION, "m1").await
}

fn node(world: &World) -> Value {
    world.workload.get(&NODE.filed(), "", "m1").map(|node| Value::clone(&node)).unwrap_or_default()
}

/// The taint is followed by the end of what the Node ran: here the scenario evicts and detaches.
async fn out_of_service(world: &World) -> Result<(), Stuck> {
    let (hand, remote) = (world.hand(), world.remote_hand());
    machine(world).await?;
    let container = json!({"name": "c", "image": "i"});
    let spec = json!({"nodeName": "m1", "containers": [container]});
    remote.create(POD, json!({"metadata": {"name": "p"}, "spec": spec})).await?;
    let source = json!({"persistentVolumeName": "v"});
    let spec = json!({"attacher": "a", "nodeName": "m1", "source": source});
    remote.create(VOLUME_ATTACHMENT, json!({"metadata": {"name": "v"}, "spec": spec})).await?;
    remediate(&hand, "m1", 600).await?;
    remote.until(BOUND, (NODE, "m1"), "its taint", is_tainted).await?;
    a_while(world, Duration::from_secs(10)).await;
    remote.delete(POD, "p").await?;
    a_while(world, Duration::from_secs(10)).await;
    remote.delete(VOLUME_ATTACHMENT, "v").await?;
    is_well_again(&hand).await
}

/// A workload cluster that does not know the taint.
async fn by_deletion(world: &World) -> Result<(), Stuck> {
    let (hand, remote) = (world.hand(), world.remote_hand());
    world.workload.says_version("27");
    machine(world).await?;
    let marks = json!({"metadata": {"labels": {"kept": "yes"}, "annotations": {"kept": "<too>"}}});
    remote.patch(NODE, "m1", marks).await?;
    let first = node(world)["metadata"]["uid"].clone();
    remediate(&hand, "m1", 600).await?;
    let another = |node: &Value| node["metadata"]["uid"].is_string() && node["metadata"]["uid"] != first;
    remote.until(BOUND, (NODE, "m1"), "another Node", another).await?;
    is_well_again(&hand).await
}

fn as_it_was(world: &World) -> Found {
    well(world)?;
    let meta = &node(world)["metadata"];
    let kept = meta["labels"]["kept"] == "yes" && meta["annotations"]["kept"] == "<too>";
    holds(kept, || format!("the Node has lost what it carried: {meta}"))
}

/// A host that does not go off: the machine moves to another one, and that host is marked.
async fn given_up(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.create(METAL3_MACHINE_TEMPLATE, machine_template("bare", &metal3(None))).await?;
    hand.create(MACHINE_DEPLOYMENT, deployment("md", "bare", 1)).await?;
    ask::run(world, 1).await?;
    let machine = name(&all(world, MACHINE)[0]).to_owned();
    let hosts = all(world, HOST);
    let Some(host) = hosts_of(&hosts, &machine).first().map(|host| name(host).to_owned()) else {
        return Err(Stuck::Broken(format!("{machine} has no host")));
    };
    let failing = |why: Value| json!({"metadata": {"annotations": {FAIL: why}}});
    hand.patch(HOST, &host, failing("power: no answer".into())).await?;
    remediate(&hand, &machine, 100).await?;
    let marked = |host: &Value| host["metadata"]["annotations"][annotation::UNHEALTHY].is_string();
    hand.until(BOUND, (HOST, &host), "its mark", marked).await?;
    hand.patch(HOST, &host, failing(Value::Null)).await?;
    gone(&hand, MACHINE, &machine).await?;
    gone(&hand, REMEDIATION, &machine).await?;
    ask::run(world, 1).await
}

fn on_another_host(world: &World) -> Found {
    well(world)?;
    let hosts = all(world, HOST);
    let marked: Vec<_> =
        hosts.iter().filter(|host| host["metadata"]["annotations"][annotation::UNHEALTHY].is_string()).collect();
    holds(marked.len() == 1, || format!("{} hosts are marked", marked.len()))?;
    holds(marked[0]["spec"]["consumerRef"].is_null(), || format!("{} is used again", name(marked[0])))?;
    let machine = &all(world, MACHINE)[0];
    holds(condition(machine, "OwnerRemediated").is_empty(), || format!("{} is given up as well", name(machine)))
}

/// The health check changes its mind, whenever that is.
async fn deleted_on_the_way(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    machine(world).await?;
    remediate(&hand, "m1", 600).await?;
    a_while(world, Duration::from_secs(20)).await;
    hand.delete(REMEDIATION, "m1").await?;
    gone(&hand, REMEDIATION, "m1").await
}

/// Somebody takes the finalizer and the object away while the host is off: it is not kept off for ever.
async fn by_force(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    machine(world).await?;
    world
        .remote_hand()
        .create(VOLUME_ATTACHMENT, {
            let spec = json!({"attacher": "a", "nodeName": "m1", "source": {"persistentVolumeName": "v"}});
            json!({"metadata": {"name": "v"}, "spec": spec})
        })
        .await?;
    remediate(&hand, "m1", 600).await?;
    let host = name(&all(world, HOST)[0]).to_owned();
    shows(&hand, HOST, &host, "/status/poweredOn", false.into()).await?;
    a_while(world, Duration::from_secs(5)).await;
    hand.delete(REMEDIATION, "m1").await?;
    let forced = Deed::Patch(json!({"metadata": {"finalizers": null}}));
    let _ = hand.send(REMEDIATION, "m1", forced).await; // it may have gone by itself
    gone(&hand, REMEDIATION, "m1").await?;
    shows(&hand, HOST, &host, "/status/poweredOn", true.into()).await?;
    // What the Node was tainted with is told by nobody any more; its user takes it off.
    world.remote_hand().patch(NODE, "m1", json!({"spec": {"taints": null}})).await
}

/// Set on the host, taken off the Node, changed on the host, and taken off the host. Beside it a host of somebody else whose consumer is a
/// machine by its kind and name alone (U15): nothing of it comes to the Node.
async fn labels(world: &World) -> Result<(), Stuck> {
    let (hand, remote) = (world.hand(), world.remote_hand());
    machine(world).await?;
    let prefixes =
        json!({"metadata": {"annotations": {annotation::LABEL_SYNC_PREFIXES: "site.example, other.example"}}});
    hand.patch(METAL3_CLUSTER, CLUSTER_NAME, prefixes).await?;
    add_host(&hand, "host-1").await?;
    let foreign = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "Metal3Machine", "namespace": SITE, "name": "m1"});
    let labels = json!({"site.example/theirs": "x"});
    hand.patch(HOST, "host-1", json!({"metadata": {"labels": labels}, "spec": {"consumerRef": foreign}})).await?;
    let label = |key: &str, value: Value| json!({"metadata": {"labels": {key: value}}});
    let on_node = |value: Value| {
        let remote = remote.clone();
        async move { shows(&remote, NODE, "m1", "/metadata/labels/site.example~1rack", value).await }
    };
    hand.patch(HOST, "host-0", label("site.example/rack", "7".into())).await?;
    on_node("7".into()).await?;
    remote.patch(NODE, "m1", label("site.example/rack", Value::Null)).await?;
    on_node("7".into()).await?;
    remote.patch(NODE, "m1", label("other.example/nobodys", "x".into())).await?;
    remote.patch(NODE, "m1", label("third.example/users", "x".into())).await?;
    hand.patch(HOST, "host-0", label("site.example/row", "a".into())).await?;
    hand.patch(HOST, "host-0", label("site.example/rack", "8".into())).await?;
    on_node("8".into()).await?;
    hand.patch(HOST, "host-0", label("site.example/row", Value::Null)).await?;
    until(world, |world| {
        let left = node(world)["metadata"]["labels"]["other.example/nobodys"].is_string();
        holds(!left, || "a label under a prefix that the host does not have".into())
    })
    .await?;
    hand.delete(HOST, "host-1").await?;
    gone(&hand, HOST, "host-1").await
}

fn labelled(world: &World) -> Found {
    well(world)?;
    let labels = node(world)["metadata"]["labels"].clone();
    let wanted = json!({
        label::HOSTNAME: "m1", label::HOST_UUID: all(world, HOST)[0]["metadata"]["uid"],
        "site.example/rack": "8", "third.example/users": "x",
    });
    holds(labels == wanted, || format!("the Node has {labels}"))
}
