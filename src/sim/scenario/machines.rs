//! Machines on hosts.

use serde_json::json;

use super::ask::{self, BOUND};
use super::expect::{Found, all, is_provisioned, there_are};
use super::{Play, Stage};
use crate::actors::Actor;
use crate::world::kinds::*;
use crate::world::{Provider, Stuck, World};

const WHOLE: Play = Play {
    name: "",
    stage: Stage::Site,
    providers: &[Provider::Infra, Provider::Ipam],
    actors: &[Actor::HostOperator],
    weight: 2,
    drive: |_| Box::pin(std::future::ready(Ok(()))),
    goal: |_| Ok(()),
};

pub(super) const PLAYS: &[Play] = &[Play {
    name: "machine_with_data",
    drive: |world| Box::pin(machine_with_data(world)),
    goal: |world| {
        is_provisioned(world, "m1")?;
        has_data(world)
    },
    ..WHOLE
}];

async fn machine_with_data(world: &World) -> Result<(), Stuck> {
    let hand = world.hand();
    ask::machine(&hand, "m1", Some("template")).await?;
    let host = loop {
        let hosts = all(world, HOST);
        if let Some(host) = hosts.iter().find(|host| host["status"]["provisioning"]["state"] == "provisioned") {
            break host.clone();
        }
        tokio::time::sleep(BOUND / 1000).await;
    };
    let node = json!({"metadata": {"name": "node-0", "labels": {"metal3.io/uuid": host["metadata"]["uid"]}}});
    world.remote_hand().create(NODE, node).await.map(drop)
}

fn has_data(world: &World) -> Found {
    there_are(world, DATA, 1)?;
    there_are(world, IP_ADDRESS, 2)
}
