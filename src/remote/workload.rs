//! One connected workload cluster.

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::Node;
use capm3_runtime::{Change, Hub, Key, Preconditions, Reader, Store, WriteError, Writer};
use kube::Client;
use serde_json::json;

use crate::{Reason, words};

const PROVIDER_ID: &str = "providerID";
const DEADLINE: Duration = Duration::from_secs(10);

/// Clones share the connection.
#[derive(Clone)]
pub struct Workload {
    client: Client,
    nodes: Store<Node>,
    writer: Writer,
}

impl Workload {
    pub(crate) fn new(hub: &Hub, nodes: Store<Node>) -> Self {
        Self { client: hub.client().clone(), nodes, writer: Writer::new(hub).with_deadline(DEADLINE) }
    }

    /// The cluster's Nodes, as the watch shows them.
    pub fn nodes(&self) -> &Store<Node> {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes.get(&Key::new("", name))
    }

    pub fn nodes_by_provider_id(&self, id: &str) -> Vec<Arc<Node>> {
        self.nodes.by_index(PROVIDER_ID, id)
    }

    /// Sets `spec.providerID` of exactly this Node and touches nothing else (M-95).
    pub async fn set_provider_id(&self, node: &Node, id: &str) -> Result<Node, WriteError> {
        let key = capm3_runtime::key_of(node);
        let patch = json!({"spec": {"providerID": id}});
        self.writer.patch_strategic(&key, patch, &Preconditions::same(node)).await
    }

    /// For what is not cached.
    pub fn reader(&self) -> Reader {
        Reader::with_deadline(self.client.clone(), DEADLINE)
    }

    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

pub(crate) fn index(nodes: &Store<Node>) {
    nodes.index(PROVIDER_ID, |node| node.spec.provider_id.iter().filter(|id| !id.is_empty()).cloned().collect());
}

/// Heartbeats are not news.
pub(crate) fn is_news(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let meta = |node: &Node| {
        let meta = &node.metadata;
        (meta.uid.clone(), meta.labels.clone(), meta.deletion_timestamp.clone())
    };
    old.spec.provider_id != new.spec.provider_id || meta(old) != meta(new) || is_ready(old) != is_ready(new)
}

fn is_ready(node: &Node) -> bool {
    node.status.iter().flat_map(|s| &s.conditions).any(|c| c.type_ == "Ready" && c.status == "True")
}

/// `GET /`, as cheap as a question can be.
pub(crate) async fn probe(client: &Client, deadline: Duration) -> Result<(), Reason> {
    let request = http::Request::get("/").body(Vec::new()).map_err(|error| Reason::Unreachable(words(&error)))?;
    match tokio::time::timeout(deadline, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 401 => Err(Reason::Unauthorized),
        Ok(Err(error)) => Err(Reason::Unreachable(words(&error))),
        Err(_) => Err(Reason::Unreachable("no answer in time".into())),
    }
}
