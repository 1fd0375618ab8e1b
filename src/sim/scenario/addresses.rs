//! Addresses alone: claims, pools and nothing else.

use super::ask::claim;
use super::expect::{Found, address_of, there_are};
use super::{Play, Stage};
use crate::world::kinds::{IP_ADDRESS, IP_CLAIM};
use crate::world::{Provider, Stuck, World};

const ALONE: Play = Play {
    name: "",
    stage: Stage::Pools,
    providers: &[Provider::Ipam],
    actors: &[],
    weight: 10,
    drive: |_| Box::pin(std::future::ready(Ok(()))),
    goal: |_| Ok(()),
};

pub(super) const PLAYS: &[Play] =
    &[Play { name: "claims", drive: |world| Box::pin(claims(world)), goal: claims_are_served, ..ALONE }];

async fn claims(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    for name in ["a", "b", "c"] {
        hand.create(IP_CLAIM, claim(name, "provisioning")).await?;
    }
    Ok(())
}

fn claims_are_served(world: &World) -> Found {
    there_are(world, IP_ADDRESS, 3)?;
    ["a", "b", "c"].into_iter().try_for_each(|name| address_of(world, name).map(drop))
}
