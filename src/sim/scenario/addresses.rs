//! Addresses alone: claims, pools and nothing else. The stage has the pools `provisioning` and `baremetal`, .10 to .20 of each net.

use std::time::Duration;

use serde_json::{Value, json};

use super::ask::{a_while, capi_claim, claim, gone, pool, shows, until};
use super::expect::{
    Found, address_of, all, are_distinct, are_served, capi_address_of, condition, holds, name, there_are,
};
use super::{Play, Stage, nothing};
use crate::actors::Actor;
use crate::world::kinds::*;
use crate::world::{Provider, Stuck, World};

const ALONE: Play = Play {
    name: "",
    stage: Stage::Pools,
    providers: &[Provider::Ipam],
    actors: &[Actor::Collector],
    weight: 10,
    drive: nothing,
    goal: |_| Ok(()),
};

pub(super) const PLAYS: &[Play] = &[
    Play { name: "claims", drive: |world| Box::pin(claims(world)), goal: |world| are_served(world, 3, 0), ..ALONE },
    Play {
        name: "capi_claims",
        drive: |world| Box::pin(capi_claims(world)),
        goal: |world| are_served(world, 0, 3),
        ..ALONE
    },
    Play {
        name: "both_kinds_one_pool",
        drive: |world| Box::pin(both_kinds(world)),
        goal: both_kinds_are_served,
        ..ALONE
    },
    Play {
        name: "preallocated_address",
        drive: |world| Box::pin(preallocated(world)),
        goal: the_reserved_one,
        ..ALONE
    },
    Play { name: "requested_address", drive: |world| Box::pin(requested(world)), goal: the_requested_ones, ..ALONE },
    Play {
        name: "requested_address_freed",
        drive: |world| Box::pin(requested_freed(world)),
        goal: the_freed_one,
        ..ALONE
    },
    Play {
        name: "pool_enlarged",
        drive: |world| Box::pin(enlarged(world)),
        goal: |world| are_served(world, 3, 1),
        ..ALONE
    },
    Play { name: "pool_shrunk", drive: |world| Box::pin(shrunk(world)), goal: the_old_ones_stay, ..ALONE },
    Play {
        name: "claims_come_and_go",
        drive: |world| Box::pin(come_and_go(world)),
        goal: |world| are_served(world, 2, 2),
        ..ALONE
    },
    Play {
        name: "claim_made_again",
        drive: |world| Box::pin(made_again(world)),
        goal: |world| are_served(world, 1, 1),
        ..ALONE
    },
    Play {
        name: "claims_before_their_pool",
        drive: |world| Box::pin(before_pool(world)),
        goal: |world| are_served(world, 2, 1),
        ..ALONE
    },
    Play {
        name: "pool_deleted_while_used",
        drive: |world| Box::pin(pool_deleted(world)),
        goal: the_pool_is_gone,
        ..ALONE
    },
    Play { name: "pool_of_another_provider", drive: |world| Box::pin(anothers(world)), goal: not_touched, ..ALONE },
    Play {
        name: "pool_paused",
        drive: |world| Box::pin(paused(world)),
        goal: |world| are_served(world, 3, 0),
        ..ALONE
    },
    Play { name: "pools_overlap", drive: |world| Box::pin(overlap(world)), goal: all_distinct, ..ALONE },
    Play { name: "address_removed_by_force", drive: |world| Box::pin(removed(world)), goal: the_same_again, ..ALONE },
    Play {
        name: "ipam_restarted",
        drive: |world| Box::pin(restarted(world)),
        goal: |world| are_served(world, 2, 1),
        ..ALONE
    },
];

async fn claims(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["a", "b", "c"] {
        hand.create(IP_CLAIM, claim(name, "provisioning")).await?;
    }
    Ok(())
}

async fn capi_claims(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["a", "b", "c"] {
        hand.create(CAPI_IP_CLAIM, capi_claim(name, "provisioning")).await?;
    }
    Ok(())
}

/// Of the same names: U3, U4.
async fn both_kinds(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["a", "b"] {
        hand.create(IP_CLAIM, claim(name, "provisioning")).await?;
        hand.create(CAPI_IP_CLAIM, capi_claim(name, "provisioning")).await?;
    }
    Ok(())
}

fn both_kinds_are_served(world: &World) -> Found {
    are_served(world, 2, 2)?;
    are_distinct(world)
}

async fn preallocated(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    let mut reserved = pool("reserved", "203.0.113", 12);
    reserved["spec"]["preAllocations"] = json!({"mine": "203.0.113.10"});
    hand.create(POOL, reserved).await?;
    hand.create(IP_CLAIM, claim("other", "reserved")).await?;
    a_while(world, Duration::from_secs(2)).await;
    hand.create(IP_CLAIM, claim("mine", "reserved")).await.map(drop)
}

fn the_reserved_one(world: &World) -> Found {
    are_served(world, 2, 0)?;
    let (mine, other) = (address_of(world, "mine")?, address_of(world, "other")?);
    holds((mine.as_str(), other.as_str()) == ("203.0.113.10", "203.0.113.11"), || format!("mine {mine}, other {other}"))
}

fn asking(mut claim: Value, address: &str) -> Value {
    claim["metadata"]["annotations"] = json!({"ipAddress": address});
    claim
}

async fn requested(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.create(IP_CLAIM, asking(claim("a", "provisioning"), "192.0.2.15")).await?;
    hand.create(CAPI_IP_CLAIM, asking(capi_claim("a", "provisioning"), "192.0.2.16")).await?;
    hand.create(IP_CLAIM, asking(claim("outside", "provisioning"), "192.0.2.99")).await.map(drop)
}

fn the_requested_ones(world: &World) -> Found {
    are_served(world, 1, 1)?;
    let (own, capi) = (address_of(world, "a")?, capi_address_of(world, "a")?);
    holds((own.as_str(), capi.as_str()) == ("192.0.2.15", "192.0.2.16"), || format!("{own} and {capi}"))?;
    let outside = world.hand().get(IP_CLAIM, "outside");
    holds(outside["status"]["errorMessage"] == "Requested IP not available", || outside.to_string())
}

/// What was taken is served once it is free: HI-6.
async fn requested_freed(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.create(IP_CLAIM, asking(claim("a", "provisioning"), "192.0.2.15")).await?;
    until(world, |world| address_of(world, "a").map(drop)).await?;
    hand.create(IP_CLAIM, asking(claim("b", "provisioning"), "192.0.2.15")).await?;
    shows(&hand, IP_CLAIM, "b", "/status/errorMessage", "Requested IP not available".into()).await?;
    hand.delete(IP_CLAIM, "a").await
}

fn the_freed_one(world: &World) -> Found {
    are_served(world, 1, 0)?;
    let address = address_of(world, "b")?;
    holds(address == "192.0.2.15", || address)
}

/// F28. The claims that found nothing are served as soon as there is something.
async fn enlarged(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.create(POOL, pool("small", "203.0.113", 11)).await?;
    for name in ["a", "b", "c"] {
        hand.create(IP_CLAIM, claim(name, "small")).await?;
    }
    hand.create(CAPI_IP_CLAIM, capi_claim("d", "small")).await?;
    until(world, |world| {
        let failed = all(world, IP_CLAIM).iter().filter(|claim| claim["status"]["errorMessage"].is_string()).count();
        let exhausted = all(world, CAPI_IP_CLAIM).iter().filter(|claim| condition(claim, "Ready") == "False").count();
        holds(failed + exhausted == 2, || format!("{failed} and {exhausted} claims found the pool exhausted"))
    })
    .await?;
    let ranges =
        json!([{"start": "203.0.113.10", "end": "203.0.113.11"}, {"start": "203.0.113.50", "end": "203.0.113.60"}]);
    hand.patch(POOL, "small", json!({"spec": {"pools": ranges}})).await
}

/// F28: addresses outside of the new ranges stay whose they are. Admission refuses to take them away, so the pool gets another
/// range in front and loses what nobody has.
async fn shrunk(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["a", "b"] {
        hand.create(IP_CLAIM, claim(name, "baremetal")).await?;
    }
    until(world, |world| are_served(world, 2, 0)).await?;
    let ranges = json!([{"start": "198.51.100.10", "end": "198.51.100.11"}]);
    hand.patch(POOL, "baremetal", json!({"spec": {"pools": ranges}})).await?;
    hand.create(IP_CLAIM, claim("c", "baremetal")).await?;
    shows(&hand, IP_CLAIM, "c", "/status/errorMessage", "Exhausted IP Pools".into()).await?;
    hand.delete(IP_CLAIM, "a").await
}

fn the_old_ones_stay(world: &World) -> Found {
    are_served(world, 2, 0)?;
    all(world, IP_CLAIM).iter().try_for_each(|claim| {
        let address = address_of(world, name(claim))?;
        holds(["198.51.100.10", "198.51.100.11"].contains(&address.as_str()), || {
            format!("{} has {address}", name(claim))
        })
    })
}

/// By the dice: some are deleted before they are served, some after.
async fn come_and_go(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for round in 0..4 {
        let name = format!("claim-{round}");
        hand.create(IP_CLAIM, claim(&name, "provisioning")).await?;
        hand.create(CAPI_IP_CLAIM, capi_claim(&name, "provisioning")).await?;
        a_while(world, Duration::from_millis(30)).await;
        if round >= 2 {
            let name = format!("claim-{}", round - 2);
            hand.delete(IP_CLAIM, &name).await?;
            hand.delete(CAPI_IP_CLAIM, &name).await?;
        }
    }
    Ok(())
}

/// F14: the same names, other uids.
async fn made_again(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for _ in 0..3 {
        hand.create(IP_CLAIM, claim("a", "provisioning")).await?;
        hand.create(CAPI_IP_CLAIM, capi_claim("a", "provisioning")).await?;
        a_while(world, Duration::from_millis(50)).await;
        for kind in [IP_CLAIM, CAPI_IP_CLAIM] {
            hand.delete(kind, "a").await?;
            gone(&hand, kind, "a").await?;
        }
    }
    hand.create(IP_CLAIM, claim("a", "provisioning")).await?;
    hand.create(CAPI_IP_CLAIM, capi_claim("a", "provisioning")).await.map(drop)
}

async fn before_pool(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["a", "b"] {
        hand.create(IP_CLAIM, claim(name, "late")).await?;
    }
    hand.create(CAPI_IP_CLAIM, capi_claim("a", "late")).await?;
    a_while(world, Duration::from_secs(2)).await;
    hand.create(POOL, pool("late", "203.0.113", 20)).await.map(drop)
}

/// It goes once the last claim is gone, and serves nobody meanwhile: HI-21.
async fn pool_deleted(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.create(IP_CLAIM, claim("a", "baremetal")).await?;
    hand.create(CAPI_IP_CLAIM, capi_claim("b", "baremetal")).await?;
    until(world, |world| are_served(world, 1, 1)).await?;
    hand.delete(POOL, "baremetal").await?;
    hand.create(IP_CLAIM, claim("late", "baremetal")).await?;
    a_while(world, Duration::from_secs(2)).await;
    hand.delete(IP_CLAIM, "a").await?;
    hand.delete(CAPI_IP_CLAIM, "b").await
}

fn the_pool_is_gone(world: &World) -> Found {
    there_are(world, POOL, 1)?;
    there_are(world, IP_ADDRESS, 0)?;
    there_are(world, CAPI_IP_ADDRESS, 0)?;
    there_are(world, IP_CLAIM, 1)
}

/// U10: the name is the same, the group is not.
async fn anothers(world: &World) -> Result<(), Stuck> {
    let mut claim = capi_claim("a", "provisioning");
    claim["spec"]["poolRef"]["apiGroup"] = "ipam.cluster.x-k8s.io".into();
    claim["spec"]["poolRef"]["kind"] = "InClusterIPPool".into();
    world.hand().create(CAPI_IP_CLAIM, claim).await?;
    world.hand().create(CAPI_IP_CLAIM, capi_claim("b", "provisioning")).await.map(drop)
}

fn not_touched(world: &World) -> Found {
    are_served(world, 0, 1)?;
    let claim = world.hand().get(CAPI_IP_CLAIM, "a");
    holds(claim["metadata"]["finalizers"].is_null() && claim["status"].is_null(), || claim.to_string())
}

async fn paused(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    hand.create(IP_CLAIM, claim("a", "provisioning")).await?;
    until(world, |world| are_served(world, 1, 0)).await?;
    let pause = |value: Value| json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": value}}});
    hand.patch(POOL, "provisioning", pause("".into())).await?;
    for name in ["b", "c"] {
        hand.create(IP_CLAIM, claim(name, "provisioning")).await?;
    }
    a_while(world, Duration::from_secs(10)).await;
    hand.patch(POOL, "provisioning", pause(Value::Null)).await
}

/// Two pools with one prefix and one range between them: F28, HI-12.
async fn overlap(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["one", "two"] {
        let mut pool = pool(name, "203.0.113", 20);
        pool["spec"]["namePrefix"] = "shared".into();
        hand.create(POOL, pool).await?;
    }
    for name in ["one", "two"] {
        hand.create(IP_CLAIM, claim(&format!("of-{name}"), name)).await?;
        hand.create(IP_CLAIM, claim(&format!("also-of-{name}"), name)).await?;
    }
    Ok(())
}

fn all_distinct(world: &World) -> Found {
    are_served(world, 4, 0)?;
    are_distinct(world)
}

/// HI-20: somebody takes the finalizer off an address and deletes it; its claim lives, and gets it again.
async fn removed(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["a", "b"] {
        hand.create(IP_CLAIM, claim(name, "provisioning")).await?;
    }
    until(world, |world| are_served(world, 2, 0)).await?;
    let address = hand.get(IP_CLAIM, "a")["status"]["address"]["name"].as_str().unwrap_or_default().to_owned();
    hand.delete(IP_ADDRESS, &address).await?;
    if !hand.get(IP_ADDRESS, &address).is_null() {
        match hand.patch(IP_ADDRESS, &address, json!({"metadata": {"finalizers": null}})).await {
            Err(Stuck::Refused { source, .. }) if source.code == 404 => {}
            done => done?,
        }
    }
    hand.create(IP_CLAIM, claim("c", "provisioning")).await.map(drop)
}

fn the_same_again(world: &World) -> Found {
    are_served(world, 3, 0)?;
    are_distinct(world)
}

/// A new process finds everything as it should be.
async fn restarted(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["a", "b"] {
        hand.create(IP_CLAIM, claim(name, "provisioning")).await?;
    }
    hand.create(CAPI_IP_CLAIM, capi_claim("a", "provisioning")).await?;
    until(world, |world| are_served(world, 2, 1)).await?;
    super::restart(world, Provider::Ipam);
    Ok(())
}
