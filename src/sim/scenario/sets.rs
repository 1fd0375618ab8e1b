//! Machines of MachineDeployments and control planes: scaling, rollouts, hosts that are kept. The stage has four hosts.

use std::time::Duration;

use capm3_api::names::{annotation, label};
use serde_json::{Value, json};

use super::ask::{self, CLUSTER_NAME, a_while, deployment, infra_ref, machine_template, metal3, run, until};
use super::expect::{Found, all, are_running, holds, name, nothing_is_left, there_are};
use super::{Play, Stage, nothing};
use crate::actors::Actor;
use crate::world::kinds::*;
use crate::world::{Provider, Stuck, World};

const MANY: Play = Play {
    name: "",
    stage: Stage::Farm,
    providers: &[Provider::Infra, Provider::Ipam],
    actors: &[Actor::HostOperator, Actor::ClusterApi, Actor::Nodes, Actor::Collector],
    weight: 1,
    drive: nothing,
    goal: |_| Ok(()),
};

pub(super) const PLAYS: &[Play] = &[
    Play {
        name: "scaled_up_to_three",
        drive: |world| Box::pin(scaled_up(world)),
        goal: |world| are_running(world, 3, 2),
        ..MANY
    },
    Play {
        name: "scaled_in",
        drive: |world| Box::pin(scaled_in(world)),
        goal: |world| are_running(world, 1, 2),
        ..MANY
    },
    Play {
        name: "marked_machine_goes_first",
        drive: |world| Box::pin(marked(world)),
        goal: the_marked_is_gone,
        ..MANY
    },
    Play { name: "rolled_out", drive: |world| Box::pin(rolled_out(world)), goal: all_are_new, ..MANY },
    Play {
        name: "rolled_out_on_the_same_hosts",
        drive: |world| Box::pin(node_reuse(world)),
        goal: on_the_same_hosts,
        ..MANY
    },
    Play {
        name: "control_plane_rolled_out",
        drive: |world| Box::pin(control_plane(world)),
        goal: the_plane_is_new,
        ..MANY
    },
    Play {
        name: "deployment_deleted",
        drive: |world| Box::pin(deployment_deleted(world)),
        goal: nothing_is_left,
        ..MANY
    },
    Play {
        name: "more_machines_than_hosts",
        drive: |world| Box::pin(too_many(world)),
        goal: |world| are_running(world, 4, 2),
        ..MANY
    },
];

async fn workers(world: &World, replicas: u8) -> Result<(), Stuck> {
    world.hand().create(MACHINE_DEPLOYMENT, deployment("md", "workers", replicas)).await.map(drop)
}

async fn scale(world: &World, replicas: u8) -> Result<(), Stuck> {
    world.hand().patch(MACHINE_DEPLOYMENT, "md", json!({"spec": {"replicas": replicas}})).await
}

async fn scaled_up(world: &World) -> Result<(), Stuck> {
    workers(world, 1).await?;
    a_while(world, Duration::from_secs(8)).await;
    scale(world, 3).await
}

async fn scaled_in(world: &World) -> Result<(), Stuck> {
    workers(world, 3).await?;
    a_while(world, Duration::from_secs(12)).await;
    scale(world, 1).await
}

async fn marked(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    workers(world, 2).await?;
    run(world, 2).await?;
    let marked = all(world, MACHINE).last().map(|machine| name(machine).to_owned()).unwrap_or_default();
    let annotations = json!({"cluster.x-k8s.io/delete-machine": ""});
    hand.patch(MACHINE, &marked, json!({"metadata": {"annotations": annotations}})).await?;
    // Kept for the goal.
    hand.patch(MACHINE_DEPLOYMENT, "md", json!({"metadata": {"annotations": {"marked": marked}}})).await?;
    scale(world, 1).await
}

fn the_marked_is_gone(world: &World) -> Found {
    are_running(world, 1, 2)?;
    let deployment = world.hand().get(MACHINE_DEPLOYMENT, "md");
    let marked = deployment["metadata"]["annotations"]["marked"].as_str().unwrap_or_default();
    holds(world.hand().get(MACHINE, marked).is_null(), || format!("{marked} is still there"))
}

/// To the machine template `newer`.
fn newer() -> Value {
    json!({"spec": {"template": {"spec": {"infrastructureRef": infra_ref(METAL3_MACHINE_TEMPLATE, "newer")}}}})
}

async fn rolled_out(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    workers(world, 2).await?;
    run(world, 2).await?;
    hand.create(METAL3_MACHINE_TEMPLATE, machine_template("newer", &metal3(Some("template")))).await?;
    hand.patch(MACHINE_DEPLOYMENT, "md", newer()).await
}

fn all_are_new(world: &World) -> Found {
    are_running(world, 2, 2)?;
    all(world, METAL3_MACHINE).iter().try_for_each(|machine| {
        let from = &machine["metadata"]["annotations"][annotation::CLONED_FROM_NAME];
        holds(*from == "newer", || format!("{} is of {from}", name(machine)))
    })
}

/// H-12, M-107: with `nodeReuse` and without surge a new machine gets the host of the one that made room.
async fn node_reuse(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    let mut template = machine_template("kept", &metal3(Some("template")));
    template["spec"]["nodeReuse"] = true.into();
    hand.create(METAL3_MACHINE_TEMPLATE, template.clone()).await?;
    let mut md = deployment("md", "kept", 1);
    md["spec"]["rollout"] = json!({"strategy": {"rollingUpdate": {"maxSurge": 0}}});
    hand.create(MACHINE_DEPLOYMENT, md).await?;
    until(world, |world| are_running(world, 1, 2)).await?;
    let used: Vec<String> = consumed(world);
    hand.patch(MACHINE_DEPLOYMENT, "md", json!({"metadata": {"annotations": {"used": used.join(",")}}})).await?;
    template["metadata"]["name"] = "newer".into();
    hand.create(METAL3_MACHINE_TEMPLATE, template).await?;
    hand.patch(MACHINE_DEPLOYMENT, "md", newer()).await
}

fn consumed(world: &World) -> Vec<String> {
    let hosts = all(world, HOST);
    hosts.iter().filter(|host| host["spec"]["consumerRef"].is_object()).map(|host| name(host).to_owned()).collect()
}

fn on_the_same_hosts(world: &World) -> Found {
    are_running(world, 1, 2)?;
    let deployment = world.hand().get(MACHINE_DEPLOYMENT, "md");
    let machines = all(world, METAL3_MACHINE);
    let from = &machines[0]["metadata"]["annotations"][annotation::CLONED_FROM_NAME];
    holds(*from == "newer", || format!("the machine is of {from}"))?;
    let (was, is) = (&deployment["metadata"]["annotations"]["used"], consumed(world).join(","));
    holds(*was == is.as_str(), || format!("{was} was used, {is} is"))
}

async fn control_plane(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    let reference = |template: &str| json!({"spec": {"machineTemplate": {"spec": {"infrastructureRef": infra_ref(METAL3_MACHINE_TEMPLATE, template)}}}});
    let mut plane = reference("workers");
    let cluster = hand.get(CLUSTER, CLUSTER_NAME);
    plane["metadata"] =
        json!({"name": "plane", "labels": ask::of_cluster(), "ownerReferences": [ask::owner(CLUSTER, &cluster)]});
    plane["spec"]["replicas"] = 1.into();
    hand.create(CONTROL_PLANE, plane).await?;
    let control_plane = json!({"apiGroup": CONTROL_PLANE.group(), "kind": CONTROL_PLANE.kind, "name": "plane"});
    hand.patch(CLUSTER, CLUSTER_NAME, json!({"spec": {"controlPlaneRef": control_plane}})).await?;
    run(world, 1).await?;
    hand.create(METAL3_MACHINE_TEMPLATE, machine_template("newer", &metal3(Some("template")))).await?;
    hand.patch(CONTROL_PLANE, "plane", reference("newer")).await
}

fn the_plane_is_new(world: &World) -> Found {
    are_running(world, 1, 2)?;
    all(world, METAL3_MACHINE).iter().try_for_each(|machine| {
        let from = &machine["metadata"]["annotations"][annotation::CLONED_FROM_NAME];
        let is_control_plane = !machine["metadata"]["labels"][label::CONTROL_PLANE].is_null();
        holds(*from == "newer" && is_control_plane, || format!("{} is of {from}", name(machine)))
    })
}

async fn deployment_deleted(world: &World) -> Result<(), Stuck> {
    workers(world, 2).await?;
    a_while(world, Duration::from_secs(10)).await;
    world.hand().delete(MACHINE_DEPLOYMENT, "md").await
}

/// Four hosts for five: one waits, and the others run.
async fn too_many(world: &World) -> Result<(), Stuck> {
    workers(world, 5).await?;
    until(world, |world| {
        let running = all(world, MACHINE).iter().filter(|machine| machine["status"]["phase"] == "Running").count();
        holds(running == 4, || format!("{running} run"))
    })
    .await?;
    there_are(world, MACHINE, 5).map_err(Stuck::Broken)?;
    let waiting = all(world, MACHINE).into_iter().find(|machine| machine["status"]["phase"] != "Running");
    let waiting = waiting.map(|machine| name(&machine).to_owned()).unwrap_or_default();
    let annotations = json!({"cluster.x-k8s.io/delete-machine": ""});
    world.hand().patch(MACHINE, &waiting, json!({"metadata": {"annotations": annotations}})).await?;
    scale(world, 4).await
}
