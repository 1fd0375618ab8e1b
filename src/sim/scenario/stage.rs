//! Where scenarios begin.

use std::time::Duration;

use super::ask::{CLUSTER_NAME, add_host, available, cluster, data_template, machine_template, metal3, pool};
use crate::actors::{self, Actor};
use crate::world::kinds::{DATA_TEMPLATE, HOST, METAL3_MACHINE_TEMPLATE, POOL};
use crate::world::{Provider, Settings, Snapshot, Stuck, World};

/// What is there before a scenario begins. Everything is at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What is installed, and the namespace.
    Empty,
    /// Two pools, `provisioning` and `baremetal`, of eleven addresses each.
    Pools,
    /// The cluster `prod`, up; one host, available; the pools; the data template `template` with an address of each; the machine
    /// template `workers`, with data.
    Site,
    /// The same with four hosts.
    Farm,
    /// As the site, with pools of the cluster, and a second management cluster, in which nothing but the namespace is.
    Pivot,
}

impl Stage {
    pub const ALL: [Self; 5] = [Self::Empty, Self::Pools, Self::Site, Self::Farm, Self::Pivot];

    /// Must be called in a runtime whose time is paused. Costs a few virtual minutes, so build it once.
    pub async fn build(self) -> Result<Snapshot, Stuck> {
        let mut world = World::empty(Settings::default()).await?;
        if self == Self::Pivot {
            world.add_second();
        }
        if self != Self::Empty {
            Box::pin(self.furnish(&world)).await?;
            if !world.settles(Duration::from_secs(30), Duration::from_secs(600)).await {
                return Err(Stuck::Broken(format!("{self:?} never comes to rest")));
            }
        }
        Ok(world.snapshot())
    }

    fn hosts(self) -> u8 {
        match self {
            Self::Empty | Self::Pools => 0,
            Self::Site | Self::Pivot => 1,
            Self::Farm => 4,
        }
    }

    async fn furnish(self, world: &World) -> Result<(), Stuck> {
        let hand = world.hand();
        world.start(Provider::Ipam);
        if self.hosts() > 0 {
            for actor in [Actor::HostOperator, Actor::ClusterApi, Actor::Collector] {
                actors::start(world, actor).await;
            }
            world.start(Provider::Infra);
            cluster(&hand).await?;
        }
        for (name, net) in [("provisioning", "192.0.2"), ("baremetal", "198.51.100")] {
            let mut pool = pool(name, net, 20);
            if self == Self::Pivot {
                pool["spec"]["clusterName"] = CLUSTER_NAME.into(); // else the pool stays behind, and its addresses with it
            }
            hand.create(POOL, pool).await?;
        }
        if self.hosts() > 0 {
            hand.create(DATA_TEMPLATE, data_template("template", &["provisioning", "baremetal"])).await?;
            hand.create(METAL3_MACHINE_TEMPLATE, machine_template("workers", &metal3(Some("template")))).await?;
            for host in 0..self.hosts() {
                add_host(&hand, &format!("host-{host}")).await?;
            }
            for host in world.server.all(&HOST.filed()) {
                available(&hand, super::expect::name(&host)).await?;
            }
        }
        Ok(())
    }
}
