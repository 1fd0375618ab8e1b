//! Where scenarios begin.

use std::time::Duration;

use super::ask::{add_host, available, cluster, data_template, pool};
use crate::actors::{self, Actor};
use crate::world::kinds::{DATA_TEMPLATE, HOST, POOL};
use crate::world::{Provider, Settings, Snapshot, Stuck, World};

/// What is there before a scenario begins. Everything is at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What is installed, and the namespace.
    Empty,
    /// Two pools, `provisioning` and `baremetal`, of eleven addresses each.
    Pools,
    /// The cluster `prod`, provisioned; two hosts, available; the pools; the data template `template` with an address of each.
    Site,
}

impl Stage {
    pub const ALL: [Self; 3] = [Self::Empty, Self::Pools, Self::Site];

    /// Must be called in a runtime whose time is paused. Costs a few virtual minutes, so build it once.
    pub async fn build(self) -> Result<Snapshot, Stuck> {
        let world = World::empty(Settings::default()).await?;
        if self != Self::Empty {
            Box::pin(self.furnish(&world)).await?;
            if !world.settles(Duration::from_secs(30), Duration::from_secs(600)).await {
                return Err(Stuck::Broken(format!("{self:?} never comes to rest")));
            }
        }
        Ok(world.snapshot())
    }

    async fn furnish(self, world: &World) -> Result<(), Stuck> {
        let hand = world.hand();
        world.start(Provider::Ipam);
        if self == Self::Site {
            actors::start(world, Actor::HostOperator).await;
            world.start(Provider::Infra);
            cluster(&hand).await?;
        }
        for (name, net) in [("provisioning", "192.0.2"), ("baremetal", "198.51.100")] {
            hand.create(POOL, pool(name, net, 20)).await?;
        }
        if self == Self::Site {
            hand.create(DATA_TEMPLATE, data_template("template", &["provisioning", "baremetal"])).await?;
            for name in ["host-0", "host-1"] {
                add_host(&hand, name).await?;
            }
            for host in world.server.all(&HOST.filed()) {
                available(&hand, host["metadata"]["name"].as_str().unwrap_or_default()).await?;
            }
        }
        Ok(())
    }
}
