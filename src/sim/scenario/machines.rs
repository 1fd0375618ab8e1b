//! Machines on hosts, one or two at a time. The stage has one host, the data template `template` and a cluster that is up.

use std::time::Duration;

use capm3_api::names::annotation;
use serde_json::{Value, json};

use super::ask::{
    self, BOUND, CLUSTER_NAME, a_while, add_host, available, gone, in_state, metal3, pause, run, runs, shows, until,
};
use super::expect::{Found, all, are_running, holds, hosts_of, name, nothing_is_left, there_are};
use super::{Play, Stage, nothing};
use crate::actors::{Actor, NO_KUBECONFIG};
use crate::host::FAIL;
use crate::world::kinds::*;
use crate::world::{Provider, SITE, Stuck, World};

const ONE: Play = Play {
    name: "",
    stage: Stage::Site,
    providers: &[Provider::Infra, Provider::Ipam],
    actors: &[Actor::HostOperator, Actor::ClusterApi, Actor::Nodes, Actor::Collector],
    weight: 2,
    drive: nothing,
    goal: |_| Ok(()),
};

const BARE: Play = Play { providers: &[Provider::Infra], weight: 3, ..ONE };

pub(super) const PLAYS: &[Play] = &[
    Play {
        name: "machine_without_data",
        drive: |world| Box::pin(without_data(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play {
        name: "machine_with_data",
        drive: |world| Box::pin(with_data(world)),
        goal: |world| are_running(world, 1, 2),
        ..ONE
    },
    Play {
        name: "machine_comes_and_goes",
        drive: |world| Box::pin(comes_and_goes(world)),
        goal: nothing_is_left,
        ..ONE
    },
    Play {
        name: "machine_deleted_at_some_moment",
        drive: |world| Box::pin(deleted_at_some_moment(world)),
        goal: nothing_is_left,
        ..ONE
    },
    Play {
        name: "bare_machine_deleted_at_some_moment",
        drive: |world| Box::pin(bare_deleted(world)),
        goal: nothing_is_left,
        ..BARE
    },
    Play {
        name: "machine_made_again",
        drive: |world| Box::pin(made_again(world)),
        goal: |world| are_running(world, 1, 2),
        ..ONE
    },
    Play { name: "two_machines_one_host", drive: |world| Box::pin(one_host(world)), goal: the_second_has_it, ..BARE },
    Play {
        name: "host_comes_later",
        drive: |world| Box::pin(host_later(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play { name: "host_selected_by_label", drive: |world| Box::pin(selected(world)), goal: on_the_selected, ..BARE },
    Play {
        name: "host_fails_to_provision",
        drive: |world| Box::pin(host_fails(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play {
        name: "host_fails_while_running",
        drive: |world| Box::pin(host_fails_later(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play {
        name: "host_detached_while_running",
        drive: |world| Box::pin(host_detached(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play {
        name: "host_deleted_under_a_machine",
        drive: |world| Box::pin(host_deleted(world)),
        goal: no_host_is_left,
        ..BARE
    },
    Play { name: "host_kept_by_somebody", drive: |world| Box::pin(host_taken(world)), goal: on_the_other, ..BARE },
    Play {
        name: "paused_on_the_way",
        drive: |world| Box::pin(paused_on_the_way(world)),
        goal: |world| are_running(world, 1, 2),
        ..ONE
    },
    Play {
        name: "deleted_while_paused",
        drive: |world| Box::pin(deleted_while_paused(world)),
        goal: nothing_is_left,
        ..ONE
    },
    Play {
        name: "machine_paused_alone",
        drive: |world| Box::pin(paused_alone(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play {
        name: "data_template_edited",
        drive: |world| Box::pin(template_edited(world)),
        goal: |world| are_running(world, 1, 2),
        ..ONE
    },
    Play {
        name: "data_template_deleted",
        drive: |world| Box::pin(template_deleted(world)),
        goal: the_template_too,
        ..ONE
    },
    Play {
        name: "data_template_late",
        drive: |world| Box::pin(template_late(world)),
        goal: |world| are_running(world, 1, 1),
        ..ONE
    },
    Play {
        name: "pool_exhausted_under_a_machine",
        drive: |world| Box::pin(pool_exhausted(world)),
        goal: with_its_address,
        ..ONE
    },
    Play {
        name: "kubeconfig_late",
        drive: |world| Box::pin(kubeconfig_late(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play {
        name: "workload_cluster_away",
        drive: |world| Box::pin(workload_away(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play {
        name: "node_deleted",
        drive: |world| Box::pin(node_deleted(world)),
        goal: |world| are_running(world, 1, 2),
        ..ONE
    },
    Play {
        name: "managers_restarted",
        drive: |world| Box::pin(restarted(world)),
        goal: |world| are_running(world, 1, 2),
        ..ONE
    },
    Play {
        name: "host_claimed_without_annotation",
        drive: |world| Box::pin(claimed_before(world)),
        goal: |world| are_running(world, 1, 0),
        ..BARE
    },
    Play {
        name: "annotation_without_claim",
        drive: |world| Box::pin(intended_before(world)),
        goal: on_the_intended,
        ..BARE
    },
    Play { name: "cluster_deleted", drive: |world| Box::pin(cluster_deleted(world)), goal: no_cluster_is_left, ..ONE },
];

async fn without_data(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    ask::machine(&hand, "m1", metal3(None)).await?;
    ask::adopted(&hand, "m1").await
}

async fn with_data(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    ask::machine(&hand, "m1", metal3(Some("template"))).await?;
    ask::adopted(&hand, "m1").await
}

async fn comes_and_goes(world: &World) -> Result<(), Stuck> {
    with_data(world).await?;
    runs(&world.hand(), "m1").await?;
    world.hand().delete(MACHINE, "m1").await
}

/// Anywhere between its first write and some time after it runs.
async fn deleted_at_some_moment(world: &World) -> Result<(), Stuck> {
    with_data(world).await?;
    a_while(world, Duration::from_secs(8)).await;
    world.hand().delete(MACHINE, "m1").await
}

async fn bare_deleted(world: &World) -> Result<(), Stuck> {
    without_data(world).await?;
    a_while(world, Duration::from_secs(8)).await;
    world.hand().delete(MACHINE, "m1").await
}

/// F14: the same name, another uid, while the old one's traces are still about.
async fn made_again(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    with_data(world).await?;
    a_while(world, Duration::from_secs(8)).await;
    hand.delete(MACHINE, "m1").await?;
    for kind in [METAL3_MACHINE, BOOTSTRAP, MACHINE] {
        gone(&hand, kind, "m1").await?;
    }
    with_data(world).await
}

async fn one_host(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for machine in ["m1", "m2"] {
        ask::machine(&hand, machine, metal3(None)).await?;
    }
    let running = |machine: &str| hand.get(MACHINE, machine)["status"]["phase"] == "Running";
    until(world, |_| holds(running("m1") || running("m2"), || "neither runs".into())).await?;
    hand.delete(MACHINE, if running("m1") { "m1" } else { "m2" }).await
}

fn the_second_has_it(world: &World) -> Found {
    are_running(world, 1, 0)
}

async fn host_later(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.delete(HOST, "host-0").await?;
    without_data(world).await?;
    gone(&hand, HOST, "host-0").await?;
    a_while(world, Duration::from_secs(10)).await;
    add_host(&hand, "host-1").await
}

async fn selected(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    let mut spec = metal3(None);
    spec["hostSelector"] = json!({"matchLabels": {"rack": "host-1"}});
    ask::machine(&hand, "m1", spec).await?;
    a_while(world, Duration::from_secs(4)).await;
    add_host(&hand, "host-1").await
}

fn on_the_selected(world: &World) -> Found {
    are_running(world, 1, 0)?;
    is_on(world, "m1", "host-1")
}

fn is_on(world: &World, machine: &str, host: &str) -> Found {
    let hosts = all(world, HOST);
    let its: Vec<&str> = hosts_of(&hosts, machine).into_iter().map(name).collect();
    holds(its == [host], || format!("{machine} is on {its:?}, not on {host}"))
}

fn failing(why: &Value) -> Value {
    json!({"metadata": {"annotations": {FAIL: why}}})
}

async fn host_fails(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.patch(HOST, "host-0", failing(&"provisioning".into())).await?;
    without_data(world).await?;
    hand.until(BOUND, (HOST, "host-0"), "an error", |host| host["status"]["errorType"] == "provisioning error").await?;
    hand.patch(HOST, "host-0", failing(&Value::Null)).await
}

/// F22: an error of a provisioned host is no reason to do anything to it.
async fn host_fails_later(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    without_data(world).await?;
    runs(&hand, "m1").await?;
    let error =
        json!({"errorType": "power management error", "errorMessage": "no answer", "operationalStatus": "error"});
    hand.patch_status(HOST, "host-0", error).await?;
    a_while(world, Duration::from_secs(10)).await;
    hand.patch_status(HOST, "host-0", json!({"errorType": null, "errorMessage": "", "operationalStatus": "OK"})).await
}

async fn host_detached(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    without_data(world).await?;
    runs(&hand, "m1").await?;
    let detached = |value: Value| json!({"metadata": {"annotations": {annotation::HOST_DETACHED: value}}});
    hand.patch(HOST, "host-0", detached("".into())).await?;
    a_while(world, Duration::from_secs(20)).await;
    hand.patch(HOST, "host-0", detached(Value::Null)).await
}

/// The machine cannot come back, but it can go.
async fn host_deleted(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    without_data(world).await?;
    a_while(world, Duration::from_secs(8)).await;
    hand.delete(HOST, "host-0").await?;
    a_while(world, Duration::from_secs(8)).await;
    hand.delete(MACHINE, "m1").await?;
    gone(&hand, HOST, "host-0").await
}

fn no_host_is_left(world: &World) -> Found {
    there_are(world, HOST, 0)?;
    nothing_is_left(world)
}

/// A host that somebody uses without us is not ours to take.
async fn host_taken(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    let image = json!({"url": "http://192.0.2.1/other.raw", "checksum": "def"});
    hand.patch(HOST, "host-0", json!({"spec": {"image": image}})).await?;
    in_state(&hand, "host-0", "provisioned").await?;
    without_data(world).await?;
    a_while(world, Duration::from_secs(4)).await;
    add_host(&hand, "host-1").await
}

fn on_the_other(world: &World) -> Found {
    is_on(world, "m1", "host-1")?;
    let host = world.hand().get(HOST, "host-0");
    holds(host["spec"]["image"]["url"] == "http://192.0.2.1/other.raw", || host["spec"].to_string())?;
    holds(host["spec"]["consumerRef"].is_null(), || host["spec"].to_string())?;
    super::expect::is_running(world, "m1")
}

async fn paused_on_the_way(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    with_data(world).await?;
    for _ in 0..2 {
        a_while(world, Duration::from_secs(4)).await;
        pause(&hand, true).await?;
        a_while(world, Duration::from_secs(20)).await;
        pause(&hand, false).await?;
    }
    Ok(())
}

/// Nothing is released before the pause ends.
async fn deleted_while_paused(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    with_data(world).await?;
    runs(&hand, "m1").await?;
    pause(&hand, true).await?;
    let paused = "/metadata/annotations/baremetalhost.metal3.io~1paused";
    shows(&hand, HOST, "host-0", paused, annotation::HOST_PAUSED_BY_US.into()).await?;
    for kind in [MACHINE, METAL3_MACHINE] {
        hand.delete(kind, "m1").await?;
    }
    a_while(world, Duration::from_secs(60)).await;
    let host = hand.get(HOST, "host-0");
    if host["spec"]["consumerRef"]["name"] != "m1" || host["spec"]["image"].is_null() {
        return Err(Stuck::Broken(format!("released while paused: {}", host["spec"])));
    }
    pause(&hand, false).await
}

async fn paused_alone(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    without_data(world).await?;
    let paused = |value: Value| json!({"metadata": {"annotations": {annotation::PAUSED: value}}});
    a_while(world, Duration::from_secs(4)).await;
    hand.patch(METAL3_MACHINE, "m1", paused("".into())).await?;
    a_while(world, Duration::from_secs(20)).await;
    hand.patch(METAL3_MACHINE, "m1", paused(Value::Null)).await
}

/// F21. Admission refuses what would change under a machine; the rest changes nothing for it.
async fn template_edited(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    with_data(world).await?;
    a_while(world, Duration::from_secs(8)).await;
    let names = json!([{"key": "name", "object": "machine"}, {"key": "host", "object": "baremetalhost"}]);
    match hand.patch(DATA_TEMPLATE, "template", json!({"spec": {"metaData": {"objectNames": names}}})).await {
        Err(Stuck::Refused { source, .. }) if source.code == 422 => {}
        done => return Err(Stuck::Broken(format!("the template of a machine was changed: {done:?}"))),
    }
    hand.patch(DATA_TEMPLATE, "template", json!({"metadata": {"labels": {"tier": "one"}}})).await
}

/// It is there as long as a machine needs it.
async fn template_deleted(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    with_data(world).await?;
    runs(&hand, "m1").await?;
    hand.delete(DATA_TEMPLATE, "template").await?;
    a_while(world, Duration::from_secs(20)).await;
    if hand.get(DATA_TEMPLATE, "template").is_null() {
        return Err(Stuck::Broken("the template is gone under its machine".into()));
    }
    hand.delete(MACHINE, "m1").await
}

fn the_template_too(world: &World) -> Found {
    there_are(world, DATA_TEMPLATE, 0)?;
    nothing_is_left(world)
}

async fn template_late(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    ask::machine(&hand, "m1", metal3(Some("late"))).await?;
    a_while(world, Duration::from_secs(8)).await;
    hand.create(DATA_TEMPLATE, ask::data_template("late", &["baremetal"])).await.map(drop)
}

/// U11: the machine waits for an address, and has it when another gives it back.
async fn pool_exhausted(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.create(POOL, ask::pool("small", "203.0.113", 10)).await?;
    hand.create(IP_CLAIM, ask::claim("first", "small")).await?;
    until(world, |world| super::expect::address_of(world, "first").map(drop)).await?;
    hand.create(DATA_TEMPLATE, ask::data_template("small", &["small"])).await?;
    ask::machine(&hand, "m1", metal3(Some("small"))).await?;
    until(world, |world| {
        let claims = all(world, IP_CLAIM);
        holds(claims.iter().any(|claim| claim["status"]["errorMessage"] == "Exhausted IP Pools"), || {
            "no claim fails".into()
        })
    })
    .await?;
    until(world, |world| {
        let machine = world.hand().get(METAL3_MACHINE, "m1");
        let mut conditions = machine["status"]["conditions"].as_array().into_iter().flatten();
        let says = |c: &Value| c["message"].as_str().is_some_and(|message| message.contains("Exhausted IP Pools"));
        holds(conditions.any(says), || format!("the machine does not say why it waits: {}", machine["status"]))
    })
    .await?;
    hand.delete(IP_CLAIM, "first").await
}

fn with_its_address(world: &World) -> Found {
    are_running(world, 1, 1)
}

async fn kubeconfig_late(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    let held = |value: Value| json!({"metadata": {"annotations": {NO_KUBECONFIG: value}}});
    hand.patch(CLUSTER, CLUSTER_NAME, held("".into())).await?;
    hand.delete(SECRET, &format!("{CLUSTER_NAME}-kubeconfig")).await?;
    without_data(world).await?;
    a_while(world, Duration::from_secs(30)).await;
    hand.patch(CLUSTER, CLUSTER_NAME, held(Value::Null)).await
}

/// F20, from some moment on and for some time.
async fn workload_away(world: &World) -> Result<(), Stuck> {
    without_data(world).await?;
    a_while(world, Duration::from_secs(6)).await;
    world.reach_workload(false);
    a_while(world, Duration::from_secs(60)).await;
    world.reach_workload(true);
    Ok(())
}

/// It comes back with its kubelet, which knows its providerID from the config drive.
async fn node_deleted(world: &World) -> Result<(), Stuck> {
    with_data(world).await?;
    runs(&world.hand(), "m1").await?;
    world.remote_hand().delete(NODE, "m1").await
}

/// A new process finds everything as it should be.
async fn restarted(world: &World) -> Result<(), Stuck> {
    with_data(world).await?;
    until(world, |world| are_running(world, 1, 2)).await?;
    for provider in [Provider::Infra, Provider::Ipam] {
        super::restart(world, provider);
    }
    Ok(())
}

/// U20: as the Go provider leaves it when it stops between claim and annotation.
async fn claimed_before(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    super::stop(world, Provider::Infra);
    without_data(world).await?;
    let consumer = json!({
        "apiVersion": METAL3_MACHINE.api_version, "kind": METAL3_MACHINE.kind, "namespace": SITE, "name": "m1",
    });
    hand.patch(HOST, "host-0", json!({"metadata": {"labels": ask::of_cluster()}, "spec": {"consumerRef": consumer}}))
        .await?;
    // Another one that would be as good.
    add_host(&hand, "a-host").await?;
    available(&hand, "a-host").await?;
    world.start(Provider::Infra);
    Ok(())
}

/// As a manager leaves it that stops between intent and claim.
async fn intended_before(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    super::stop(world, Provider::Infra);
    add_host(&hand, "a-host").await?;
    available(&hand, "a-host").await?;
    without_data(world).await?;
    let annotations = json!({annotation::HOST: format!("{SITE}/host-0")});
    hand.patch(METAL3_MACHINE, "m1", json!({"metadata": {"annotations": annotations}})).await?;
    world.start(Provider::Infra);
    Ok(())
}

fn on_the_intended(world: &World) -> Found {
    are_running(world, 1, 0)?;
    is_on(world, "m1", "host-0")
}

async fn cluster_deleted(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    with_data(world).await?;
    run(world, 1).await?;
    hand.delete(CLUSTER, CLUSTER_NAME).await
}

fn no_cluster_is_left(world: &World) -> Found {
    there_are(world, CLUSTER, 0)?;
    there_are(world, METAL3_CLUSTER, 0)?;
    // With the cluster gone nobody deletes the Nodes of its machines: they went with it.
    let mine = [MACHINE, METAL3_MACHINE, BOOTSTRAP, DATA, DATA_CLAIM, IP_CLAIM, IP_ADDRESS];
    mine.into_iter().try_for_each(|kind| there_are(world, kind, 0))?;
    all(world, HOST).iter().try_for_each(|host| super::expect::is_free(host))
}
