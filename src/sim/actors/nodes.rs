//! Kubelets: a host that runs an image registers a Node in the workload cluster.
//!
//! - A Node appears some moments after its host is provisioned and on, with the label `metal3.io/uuid` and without a providerID; with
//!   the one from the config drive (`metal3://` and the key `providerid`) when the template puts it there (K-25, K-199).
//! - It is named after the machine that the host is for. Of an existing Node only the readiness is told.
//! - While its host is off, its Node is said to be unknown; what the kubelet says once it is on again is another version of the Node.
//! - A Node that is deleted under a running host comes back once the kubelet restarts (K-173).
//! - A host that is wiped does not take its Node along: Cluster API deletes it (K-192).

use std::sync::Arc;
use std::time::Duration;

use capm3_api::names::{PROVIDER_ID_SCHEME, label};
use serde_json::{Value, json};

use super::{Act, Cue, Heard, Part, View, delete, is_deleting, name, patch_status, uid};
use crate::room::{HostId, Shelf};
use crate::server::User;
use crate::world::Deed;
use crate::world::kinds::{HOST, NODE};

/// From the disk being written to the kubelet's first word.
const BOOT: Duration = Duration::from_secs(3);

pub(super) struct Nodes {
    pub room: Arc<Shelf>,
}

impl Part for Nodes {
    fn user(&self) -> User {
        User { name: "system:node".into(), ..User::admin() }
    }

    fn pace(&self, _: &Cue) -> Duration {
        BOOT
    }

    fn hears(&self, view: &dyn View, heard: &Heard) -> Vec<Cue> {
        if heard.is(HOST) && has_kubelet(&heard.object) {
            return vec![(HOST, name(&heard.object).to_owned())];
        }
        if heard.is(NODE) { self.everything(view) } else { Vec::new() }
    }

    fn everything(&self, view: &dyn View) -> Vec<Cue> {
        view.all(HOST).iter().filter(|host| has_kubelet(host)).map(|host| (HOST, name(host).to_owned())).collect()
    }

    fn decide(&self, view: &dyn View, (_, host): &Cue, _: u64) -> Vec<Act> {
        let host = view.get(HOST, host);
        let Some(node) = host["spec"]["consumerRef"]["name"].as_str().filter(|_| has_kubelet(&host)) else {
            return Vec::new();
        };
        let on = host["status"]["poweredOn"] == true;
        let (status, reason) = if on { ("True", "KubeletReady") } else { ("Unknown", "NodeStatusUnknown") };
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": ""});
        let there = view.get(NODE, node);
        if !there.is_null() {
            let mut told = Value::clone(&there);
            told["status"]["conditions"] = json!([ready]);
            let its = there["metadata"]["labels"][label::HOST_UUID] == uid(&host);
            return patch_status(NODE, &there, &told).filter(|_| its).into_iter().collect();
        }
        if !on {
            return Vec::new();
        }
        let mut object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node, "labels": {label::HOST_UUID: uid(&host), label::HOSTNAME: node}},
            "status": {"conditions": [ready]},
        });
        if let Some(id) = self.provider_id(&host) {
            object["spec"] = json!({"providerID": id});
        }
        let mut acts = vec![Act(NODE, node.to_owned(), Deed::Create(object))];
        acts.extend(view.all(NODE).iter().filter(|other| is_left_over(other, &host)).map(|other| delete(NODE, other)));
        acts
    }
}

impl Nodes {
    /// What the config drive tells the kubelet.
    fn provider_id(&self, host: &Value) -> Option<String> {
        let text = |key: &str| host["metadata"][key].as_str().unwrap_or_default().to_owned();
        let id = HostId { namespace: text("namespace"), name: text("name"), uid: text("uid") };
        let drive = self.room.get(&id)?.build.config_drive?;
        let meta: Value = serde_json::from_str(&drive.meta_data_json).ok()?;
        meta["providerid"].as_str().map(|id| format!("{PROVIDER_ID_SCHEME}{id}"))
    }
}

/// The Node of an earlier machine on this host that nobody got to know: its user deletes it, as the error about two of them asks.
fn is_left_over(node: &Value, host: &Value) -> bool {
    node["metadata"]["labels"][label::HOST_UUID] == uid(host)
        && node["spec"]["providerID"].is_null()
        && node["metadata"]["annotations"]["cluster.x-k8s.io/machine"].is_null()
}

/// There is a kubelet on its disk, at work while it is on.
fn has_kubelet(host: &Value) -> bool {
    host["status"]["provisioning"]["state"] == "provisioned" && host["spec"]["image"].is_object() && !is_deleting(host)
}
