//! Machines among people and tools that do more than they should. The stage has one host.

use std::time::Duration;

use capm3_api::names::finalizer;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::ask::{
    self, CLUSTER_NAME, a_while, data_template, deployment, gone, machine_template, metal3, pool, run, until,
};
use super::expect::{Found, all, are_running, holds, name, nothing_but_hosts_is_left, nothing_is_left, there_are};
use super::{Play, Stage, nothing};
use crate::actors::user::Mischief::{Deletes, DeletesSecrets, StripsFinalizers, StripsMarks, StripsOwners};
use crate::actors::user::{Mischief, meddle};
use crate::actors::{self, Actor, clusterctl, gitops, hardware};
use crate::world::kinds::*;
use crate::world::{Hand, Provider, Stuck, World};

const ONE: Play = Play {
    name: "",
    stage: Stage::Site,
    providers: &[Provider::Infra, Provider::Ipam],
    actors: &[Actor::HostOperator, Actor::ClusterApi, Actor::Nodes, Actor::Collector],
    weight: 1,
    drive: nothing,
    goal: |_| Ok(()),
};

pub(super) const PLAYS: &[Play] = &[
    Play {
        name: "gitops_applies_again",
        drive: |world| Box::pin(applied_again(world)),
        goal: |world| are_running(world, 1, 1),
        ..ONE
    },
    Play {
        name: "user_deletes_what_is_used",
        drive: |world| Box::pin(meddled(world, &[Deletes])),
        goal: nothing_is_left,
        ..ONE
    },
    Play {
        name: "user_deletes_rendered_secrets",
        drive: |world| Box::pin(meddled(world, &[DeletesSecrets])),
        goal: nothing_is_left,
        ..ONE
    },
    Play {
        name: "user_strips_marks",
        drive: |world| Box::pin(meddled(world, &[StripsMarks])),
        goal: nothing_is_left,
        ..ONE
    },
    Play {
        name: "user_strips_owners",
        drive: |world| Box::pin(meddled(world, &[StripsOwners])),
        goal: nothing_is_left,
        ..ONE
    },
    Play {
        name: "user_strips_finalizers",
        drive: |world| Box::pin(meddled(world, &[StripsFinalizers])),
        goal: nothing_but_hosts_is_left, // who takes the machine's off while no manager looks takes over its host
        ..ONE
    },
    Play {
        name: "hosts_suffer",
        drive: |world| Box::pin(suffering(world)),
        goal: |world| are_running(world, 1, 0),
        providers: &[Provider::Infra],
        ..ONE
    },
    Play { name: "claims_orphaned", drive: |world| Box::pin(orphaned(world)), goal: no_claim_is_left, ..ONE },
    Play {
        name: "moved_to_another_cluster",
        stage: Stage::Pivot,
        drive: |world| Box::pin(moved(world)),
        goal: all_are_there,
        ..ONE
    },
];

/// What is in git is applied from the beginning and for ever.
async fn applied_again(world: &World) -> Result<(), Stuck> {
    let manifests = vec![
        (POOL, pool("git", "203.0.113", 20)),
        (DATA_TEMPLATE, data_template("git", &["git"])),
        (METAL3_MACHINE_TEMPLATE, machine_template("git", &metal3(Some("git")))),
        (MACHINE_DEPLOYMENT, deployment("md", "git", 1)),
    ];
    gitops::keep(world, manifests);
    run(world, 1).await
}

/// The machine is left alone in the end, and can go as if nothing had happened.
async fn meddled(world: &World, mischief: &[Mischief]) -> Result<(), Stuck> {
    let hand = world.hand();
    ask::machine(&hand, "m1", metal3(Some("template"))).await?;
    ask::adopted(&hand, "m1").await?;
    meddle(world, mischief, 6).await;
    a_while(world, Duration::from_secs(20)).await;
    hand.delete(MACHINE, "m1").await
}

async fn suffering(world: &World) -> Result<(), Stuck> {
    ask::machine(&world.hand(), "m1", metal3(None)).await?;
    hardware::suffer(world, 4).await
}

/// Machine and Metal3Machine are taken away by force while no manager runs. The machine's hold on its data is what keeps addresses
/// from others that a host without a machine may still use, so it is taken off by hand as well.
async fn orphaned(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    ask::machine(&hand, "m1", metal3(Some("template"))).await?;
    until(world, |world| are_running(world, 1, 2)).await?;
    super::stop(world, Provider::Infra);
    for kind in [METAL3_MACHINE, MACHINE] {
        hand.delete(kind, "m1").await?;
        unhold(&hand, kind).await?;
        gone(&hand, kind, "m1").await?;
    }
    world.start(Provider::Infra);
    let only_held_by_its_machine = |claim: &Value| claim["metadata"]["finalizers"] == json!([finalizer::MACHINE]);
    let what = "that only its machine holds it";
    hand.until(ask::BOUND, (DATA_CLAIM, "m1"), what, only_held_by_its_machine).await?;
    there_are(world, IP_ADDRESS, 2).map_err(Stuck::Broken)?;
    unhold(&hand, DATA_CLAIM).await?;
    // One that arrives late is held like the first, until the user lets go of it too (H-32).
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        if only_held_by_its_machine(&hand.get(DATA_CLAIM, "m1")) {
            unhold(&hand, DATA_CLAIM).await?;
        }
    }
    Ok(())
}

async fn unhold(hand: &Hand, kind: Kind) -> Result<(), Stuck> {
    match hand.patch(kind, "m1", json!({"metadata": {"finalizers": null}})).await {
        Err(Stuck::Refused { source, .. }) if source.code == 404 => Ok(()),
        done => done,
    }
}

/// The host keeps the mark of a consumer that nobody can ask any more: to take it off is for the user, who took the machine away.
fn no_claim_is_left(world: &World) -> Found {
    [DATA, DATA_CLAIM, IP_CLAIM, IP_ADDRESS].into_iter().try_for_each(|kind| there_are(world, kind, 0))?;
    let used = all(world, HOST).into_iter().filter(|host| host["spec"]["image"].is_object()).count();
    holds(used == 1, || "a host was wiped that nobody released".into())
}

/// F23. On the other side everything goes on, with the addresses it had.
async fn moved(world: &World) -> Result<(), Stuck> {
    let (hand, second) = (world.hand(), world.second()?);
    for actor in [Actor::HostOperator, Actor::ClusterApi, Actor::Nodes, Actor::Collector] {
        actors::start(second, actor).await;
    }
    for provider in [Provider::Infra, Provider::Ipam] {
        second.start(provider);
    }
    ask::machine(&hand, "m1", metal3(Some("template"))).await?;
    until(world, |world| are_running(world, 1, 2)).await?;
    // Kept for the goal.
    let had = json!({"metadata": {"annotations": {"had": addresses(world)}}});
    hand.patch(CLUSTER, CLUSTER_NAME, had).await?;
    clusterctl::move_to(world, second, CLUSTER_NAME).await
}

fn addresses(world: &World) -> String {
    let all = all(world, IP_ADDRESS);
    let all: Vec<String> = all.iter().map(|one| format!("{} {}", name(one), one["spec"]["address"])).collect();
    all.join(",")
}

fn all_are_there(world: &World) -> Found {
    let second = world.second().map_err(|stuck| stuck.to_string())?;
    are_running(second, 1, 2)?;
    let (had, has) = (&second.hand().get(CLUSTER, CLUSTER_NAME)["metadata"]["annotations"]["had"], addresses(second));
    holds(*had == has.as_str(), || format!("it had {had} and has {has}"))?;
    let kinds = [
        CLUSTER,
        METAL3_CLUSTER,
        MACHINE,
        METAL3_MACHINE,
        DATA_TEMPLATE,
        DATA,
        DATA_CLAIM,
        POOL,
        IP_CLAIM,
        IP_ADDRESS,
        HOST,
    ];
    kinds.into_iter().try_for_each(|kind| there_are(world, kind, 0))
}
