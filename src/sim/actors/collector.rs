//! The garbage collector: some moments after something is gone, or something came whose owner may be gone, it goes through everything.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::within;
use crate::server::Server;
use crate::world::World;

/// The real one takes up to this after an event.
const LAG: Duration = Duration::from_secs(2);

pub(super) fn start(world: &World) {
    let (news, dice, server) = (Arc::new(Notify::new()), world.dice(), world.server.clone());
    let notice = Arc::downgrade(&news);
    world.server.observe(move |change| {
        let metadata = change.new.map(|object| &object["metadata"]);
        let owned = |metadata: &serde_json::Value| metadata["ownerReferences"].is_array();
        let leaving = |metadata: &serde_json::Value| metadata["deletionTimestamp"].is_string();
        let due = metadata.is_none_or(|metadata| change.old.is_none() && owned(metadata) || leaving(metadata));
        if let Some(news) = notice.upgrade().filter(|_| due && change.call.resource != "events") {
            news.notify_one();
        }
    });
    let stopping = world.tasks().stopping();
    let collect = async move {
        loop {
            news.notified().await;
            tokio::time::sleep(within(&*dice, LAG)).await;
            Server::settle(&server);
        }
    };
    world.tasks().spawn_finite(async move {
        stopping.run_until_cancelled(collect).await;
    });
}
