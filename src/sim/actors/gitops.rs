//! A GitOps tool: it applies its manifests again and again, whatever became of them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::{name, within};
use crate::server::User;
use crate::world::kinds::Kind;
use crate::world::{Deed, Hand, Refused, SITE, World};

/// Between two rounds, at most; the real ones take minutes.
const ROUND: Duration = Duration::from_secs(300);
/// In the first minutes somebody watches and pushes: rounds come quickly.
const EAGER: Duration = Duration::from_secs(3);
const EAGER_ROUNDS: u32 = 10;

const MANAGER: &str = "gitops";

/// Keeps these manifests as they are, until the world ends.
pub fn keep(world: &World, manifests: Vec<(Kind, Value)>) {
    let hand = Hand::new(world.server.clone(), User { name: MANAGER.into(), ..User::admin() }, SITE);
    let (dice, stopping) = (world.dice(), world.tasks().stopping());
    let rounds = async move {
        for round in 0_u32.. {
            for (kind, manifest) in &manifests {
                // What is refused is tried again in the next round.
                let _ = apply(&hand, *kind, hand.whole(*kind, manifest.clone())).await;
            }
            sleep(within(&*dice, if round < EAGER_ROUNDS { EAGER } else { ROUND })).await;
        }
    };
    world.tasks().spawn_finite(async move {
        stopping.run_until_cancelled(rounds).await;
    });
}

/// Server-side apply; where the server has none, what `kubectl` did before: create or patch.
async fn apply(hand: &Hand, kind: Kind, manifest: Value) -> Result<Value, Refused> {
    let name = name(&manifest).to_owned();
    match hand.send(kind, &name, Deed::Apply(MANAGER.into(), manifest.clone())).await {
        Err(refused) if refused.code == 415 => {}
        done => return done,
    }
    match hand.send(kind, &name, Deed::Patch(manifest.clone())).await {
        Err(refused) if refused.code == 404 => hand.send(kind, &name, Deed::Create(manifest)).await,
        done => done,
    }
}
