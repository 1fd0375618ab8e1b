//! Who else is at work around the providers.

use crate::world::World;

/// Somebody who is started with a world and works until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// baremetal-operator: [`crate::host`].
    HostOperator,
}

pub async fn start(world: &World, actor: Actor) {
    match actor {
        Actor::HostOperator => world.start_operator().await,
    }
}
