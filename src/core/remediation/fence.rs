//! How the workload cluster is told that a Node is off, so that what ran on it may run elsewhere.
//!
//! A Node that is out of service is tainted, and its pods and volumes are waited for; API servers that do not know the taint are told
//! by deleting the Node.
//!
//! Rules: remediation, RH-9, RH-10.

use std::fmt;

use capm3_api::foreign::{Node, Pod, Taint, Toleration, VolumeAttachment};
use capm3_api::k8s::{Time, Timestamp};
use capm3_api::names::{annotation, out_of_service};
use serde_json::{Value, json};

/// How a Node is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Taint,
    Delete,
}

impl Mode {
    /// By the version of an API server: the taint is known from 1.28 on. None: the version does not read.
    pub fn of_version(major: &str, minor: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        };
        let taints = (number(major)?, number(minor)?) >= (1, 28);
        Some(if taints { Self::Taint } else { Self::Delete })
    }
}

fn is_ours(taint: &Taint) -> bool {
    taint.key == out_of_service::KEY && taint.effect == out_of_service::EFFECT
}

pub fn is_tainted(node: &Node) -> bool {
    node.spec.taints.iter().any(is_ours)
}

/// The merge patch that adds the taint. Taints are a list and replaced whole, so it holds for this version of the Node alone.
pub fn taint(node: &Node, now: Timestamp) -> Value {
    let added = Taint {
        key: out_of_service::KEY.to_owned(),
        value: Some(out_of_service::VALUE.to_owned()),
        effect: out_of_service::EFFECT.to_owned(),
        time_added: Some(Time(crate::conditions::whole_second(now))),
    };
    taints(node.spec.taints.iter().chain([&added]))
}

/// The merge patch that takes it away again; none when it is not there.
pub fn untaint(node: &Node) -> Option<Value> {
    is_tainted(node).then(|| taints(node.spec.taints.iter().filter(|taint| !is_ours(taint))))
}

fn taints<'a>(taints: impl Iterator<Item = &'a Taint>) -> Value {
    json!({ "spec": { "taints": taints.collect::<Vec<_>>() } })
}

/// What still keeps a Node from being out of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Pods that are being deleted.
    pub leaving: usize,
    /// Pods that the taint will evict.
    pub running: usize,
    pub volumes: usize,
}

impl Left {
    /// Of the pods of a Node and of all attachments there are.
    pub fn on(node: &str, pods: &[Pod], attachments: &[VolumeAttachment]) -> Self {
        let leaving = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
        let running = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && goes(pod)).count();
        let volumes = attachments.iter().filter(|volume| volume.spec.node_name == node).count();
        Self { leaving, running, volumes }
    }

    pub fn is_drained(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pods are leaving, {} still run, {} volumes are attached",
            self.leaving, self.running, self.volumes
        )
    }
}

/// Whether the taint makes this pod go, sooner or later.
fn goes(pod: &Pod) -> bool {
    let mirrors = pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotation::MIRROR_POD));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    !mirrors && !ended && !pod.spec.tolerations.iter().any(tolerates)
}

fn tolerates(toleration: &Toleration) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !(effect.is_empty() || effect == out_of_service::EFFECT) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => key.is_empty() || key == out_of_service::KEY,
        "" | "Equal" => key == out_of_service::KEY && text(&toleration.value) == out_of_service::VALUE,
        _ => false,
    }
}
