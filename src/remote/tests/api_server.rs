//! A connection through its life, against a real API server that plays both clusters: the one that `bed api` starts.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of the test")]

#[path = "../../runtime/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use capm3_remote::{News, Outcome, Reason, Workloads};
use capm3_runtime::{Key, Metrics, Preconditions, Queue, Reader, SystemDice, Tasks, WriteError, Writer};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use support::SOON;
use tokio::time::timeout;

fn named(namespace: Option<&str>, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: namespace.map(Into::into), ..ObjectMeta::default() }
}

fn secret(namespace: &str, kubeconfig: &str) -> Secret {
    let data = [("value".to_owned(), ByteString(kubeconfig.as_bytes().to_vec()))].into();
    Secret { metadata: named(Some(namespace), "prod-kubeconfig"), data: Some(data), ..Secret::default() }
}

fn altered(kubeconfig: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut config = serde_json::to_value(Kubeconfig::from_yaml(kubeconfig).unwrap()).unwrap();
    change(&mut config);
    config.to_string() // JSON is YAML
}

/// Asks again at every wake-up until the answer is as expected.
async fn until(workloads: &Workloads, cluster: &Key, queue: &Queue, expected: impl Fn(&Outcome) -> bool) -> Outcome {
    let mut last = String::new();
    let wait = async {
        loop {
            let outcome = workloads.connect(cluster);
            if expected(&outcome) {
                return outcome;
            }
            if let Outcome::NotConnected(reason) = &outcome {
                last = reason.to_string();
            }
            // The keys are what a controller would be woken by; the time is its safety net.
            if let Ok(Some(key)) = timeout(Duration::from_secs(1), queue.take()).await {
                queue.done(&key);
            }
        }
    };
    match timeout(SOON, wait).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("not in time, last: {last}"),
    }
}

#[tokio::test]
#[ignore = "asks a real API server: make test"]
async fn k_176_a_connection_comes_lives_and_goes() {
    let kubeconfig = std::fs::read_to_string(support::kubeconfig()).unwrap();
    let client = support::client().await;
    let writer = Writer::uncached(client.clone());
    let ns = format!("remote-{}", std::process::id());
    writer.create(&Namespace { metadata: named(None, &ns), ..Namespace::default() }).await.unwrap();
    let tasks = Tasks::new();
    let workloads =
        Workloads::new(Reader::new(client), "test".into(), Arc::new(SystemDice), Metrics::new(), tasks.clone());
    let (queue, cluster) = (Queue::new("test"), Key::new(&ns, "prod"));
    workloads.route(&queue, |cluster, news| match news {
        News::Connected => vec![cluster.clone()],
        News::Node(change) => vec![change.key()],
    });

    until(&workloads, &cluster, &queue, |o| matches!(o, Outcome::NotConnected(Reason::NoKubeconfig))).await;

    let unreachable =
        altered(&kubeconfig, |config| config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1".into());
    let stored = writer.create(&secret(&ns, &unreachable)).await.unwrap();
    until(&workloads, &cluster, &queue, |o| matches!(o, Outcome::NotConnected(Reason::Unreachable(_)))).await;
    workloads.forget(&cluster);

    let mut renewed = secret(&ns, &kubeconfig);
    renewed.metadata.resource_version = stored.metadata.resource_version;
    writer.replace(&renewed).await.unwrap();
    let connected = until(&workloads, &cluster, &queue, |o| matches!(o, Outcome::Connected(_))).await;
    let Outcome::Connected(workload) = connected else { unreachable!() };

    let name = format!("node-{ns}");
    writer.create(&Node { metadata: named(None, &name), ..Node::default() }).await.unwrap();
    let woken = async {
        loop {
            let key = queue.take().await.unwrap();
            queue.done(&key);
            if key.name == name {
                return;
            }
        }
    };
    timeout(SOON, woken).await.expect("a new Node wakes its route");
    let node = workload.node(&name).expect("and is in the store");

    let id = format!("metal3://{ns}/host/machine");
    workload.set_provider_id(&node, &id).await.unwrap();
    assert_eq!(workload.nodes_by_provider_id(&id).len(), 1, "own writes are read back");
    let key = Key::new("", &name);
    writer.delete::<Node>(&key, &Preconditions::none()).await.unwrap();
    let again: Node = writer.create(&Node { metadata: named(None, &name), ..Node::default() }).await.unwrap();
    let stale = workload.set_provider_id(&node, &id).await;
    assert!(matches!(stale, Err(WriteError::Conflict(_))), "another Node of that name is not touched: {stale:?}");

    // A server that no longer accepts the credentials.
    let revoked = altered(&kubeconfig, |config| config["users"][0]["user"] = json!({"token": "no-longer"}));
    let revoked = json!({"stringData": {"value": revoked}});
    let key = cluster.sibling("prod-kubeconfig");
    writer.patch::<Secret>(&key, revoked, &Preconditions::none()).await.unwrap();
    workloads.forget(&cluster);
    until(&workloads, &cluster, &queue, |o| matches!(o, Outcome::NotConnected(Reason::Unauthorized))).await;

    writer.delete::<Node>(&Key::new("", &name), &Preconditions::same(&again)).await.unwrap();
    tasks.stop();
    assert!(tasks.drained(SOON).await);
}
