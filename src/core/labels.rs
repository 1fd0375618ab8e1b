//! Labels of a host on the Node that runs on it.
//!
//! A Metal3Cluster says which: those under one of the prefixes in its annotation. For them the host has the last word, in both
//! directions: what it lacks goes from the Node, whoever put it there. Nothing is copied back, and what is not under a prefix is nobody's
//! business here. Turning the sync off, or letting the host go, leaves the labels as they are (LH-2).
//!
//! Rules: remediation-webhooks-packaging.md L-1 to L-15, LH-1 to LH-5.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine, Node};
use capm3_api::infra::v1beta2::{Metal3Cluster, Metal3Machine};
use capm3_api::k8s::ObjectReference;
use capm3_api::names::{INFRA_GROUP, annotation};
use serde_json::{Map, Value, json};

use crate::host::{annotated, group_of};
use crate::planted::{Defect, sown};
use crate::remediation::infrastructure;

pub type Labels = BTreeMap<String, String>;

const LONGEST_PREFIX: usize = 253;
/// Every wait is ended by an event; this is for the one that nobody told us of.
const SAFETY_NET: Duration = Duration::from_secs(300);
/// For a workload cluster that is away; its coming back wakes us.
const UNREACHABLE: Duration = Duration::from_secs(30);

/// Which labels are synced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(BTreeSet<String>);

/// Why nothing can be synced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0:?} in the annotation metal3.io/metal3-label-sync-prefixes is not a label prefix")]
    Prefix(String),
    #[error("owner Machine {0} does not exist")]
    MachineMissing(String),
    #[error("Cluster {0} does not exist")]
    ClusterMissing(String),
    #[error("Cluster {0} names no Metal3Cluster that exists")]
    Metal3ClusterMissing(String),
    #[error("the host's consumer {0} is in another namespace")]
    ConsumerElsewhere(String),
}

impl Problem {
    /// A stable word for metrics and events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Prefix(_) => "InvalidConfiguration",
            Self::MachineMissing(_) => "OwnerMissing",
            Self::ClusterMissing(_) | Self::Metal3ClusterMissing(_) => "ClusterMissing",
            Self::ConsumerElsewhere(_) => "ConsumerElsewhere",
        }
    }
}

impl Prefixes {
    /// A list with commas; one bad item spoils it (L-2).
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let judged = items.map(|item| if is_subdomain(item) { Ok(item.to_owned()) } else { Err(item) });
        judged.collect::<Result<_, _>>().map(Self).map_err(|item| Problem::Prefix(item.to_owned()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Exactly one of the prefixes, and a name behind it (L-3).
    fn covers(&self, key: &str) -> bool {
        key.split_once('/').is_some_and(|(prefix, name)| !name.is_empty() && self.0.contains(prefix))
    }

    /// What is synced of these labels.
    pub fn select<'a>(&self, labels: Option<&'a Labels>) -> BTreeMap<&'a str, &'a str> {
        let all = labels.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
        all.filter(|(key, _)| self.covers(key)).collect()
    }

    /// The merge patch that makes the Node's labels those of its host; none when they are.
    pub fn difference(&self, host: Option<&Labels>, node: Option<&Labels>) -> Option<Value> {
        let (wanted, there) = (self.select(host), self.select(node));
        let lost = there.keys().filter(|key| !wanted.contains_key(*key) && !sown(Defect::LostLabelStays));
        let lost = lost.map(|key| ((*key).to_owned(), Value::Null));
        let set = wanted.iter().filter(|(key, value)| there.get(*key) != Some(value));
        let changes: Map<_, _> = lost.chain(set.map(|(key, value)| ((*key).to_owned(), (*value).into()))).collect();
        (!changes.is_empty()).then(|| json!({ "metadata": { "labels": changes } }))
    }
}

/// As names of DNS are written, which prefixes of labels must be.
fn is_subdomain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = bytes.first().is_some_and(|byte| plain(*byte)) && bytes.last().is_some_and(|byte| plain(*byte));
        ends && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
    };
    text.len() <= LONGEST_PREFIX && text.split('.').all(label)
}

/// Everything between a host and the Node that runs on it, as far as it was found.
#[derive(Default)]
pub struct Observed<'a> {
    pub host: Option<&'a BareMetalHost>,
    /// The consumer of the host, if that is a Metal3Machine of its namespace.
    pub metal3_machine: Option<&'a Metal3Machine>,
    /// The name of its owner Machine, and the Machine.
    pub owner: Option<&'a str>,
    pub machine: Option<&'a Machine>,
    pub cluster: Option<&'a Cluster>,
    pub metal3_cluster: Option<&'a Metal3Cluster>,
    pub node: Option<&'a Fact>,
}

/// What is known of the Node.
#[derive(Clone, Debug)]
pub enum Fact {
    There(Arc<Node>),
    Absent,
    Unreachable(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Look for the Node.
    Ask,
    /// A merge patch of the Node, on condition of the version that was looked at.
    Label(Value),
    Rest(Next),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Done,
    After(Duration),
    Failed(Problem),
}

/// The name of the Metal3Machine that consumes the host (L-7).
pub fn consumer(host: &BareMetalHost) -> Result<Option<&str>, Problem> {
    let Some(consumer) = host.spec.consumer_ref.as_ref().filter(|consumer| is_machine(consumer)) else {
        return Ok(None);
    };
    let namespace = consumer.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let name = consumer.name.as_deref().unwrap_or_default();
    if namespace.is_some_and(|namespace| Some(namespace) != host.metadata.namespace.as_deref()) {
        return Err(Problem::ConsumerElsewhere(format!("{}/{name}", namespace.unwrap_or_default()))); // LH-1
    }
    Ok(Some(name))
}

fn is_machine(consumer: &ObjectReference) -> bool {
    let kind = consumer.kind.as_deref() == Some(Metal3Machine::KIND);
    let group = consumer.api_version.as_deref().and_then(group_of) == Some(INFRA_GROUP);
    if sown(Defect::AnyConsumerSynced) { kind || group } else { kind && group }
}

/// The text of the annotation.
pub fn configured(cluster: &Metal3Cluster) -> Option<&str> {
    cluster.metadata.annotations.as_ref()?.get(annotation::LABEL_SYNC_PREFIXES).map(String::as_str)
}

/// The hosts of a cluster's machines (L-12): by each Machine, its Metal3Machine, and the name that one is annotated with.
pub fn hosts_of<'a, M: AsRef<Metal3Machine>>(
    machines: impl IntoIterator<Item = &'a Machine>,
    metal3_machine: impl Fn(&str) -> Option<M>,
) -> Vec<String> {
    let found = machines.into_iter().filter_map(|machine| {
        let metal3 = metal3_machine(infrastructure(machine)?)?;
        crate::machine::host_name(metal3.as_ref()).ok().flatten().map(str::to_owned)
    });
    found.collect()
}

/// The next step. Total and deterministic.
pub fn decide(o: &Observed<'_>) -> Step {
    judge(o).unwrap_or_else(Step::Rest)
}

fn judge(o: &Observed<'_>) -> Result<Step, Next> {
    let host = o.host.ok_or(Next::Done)?; // L-5
    let paused = |annotations: Option<&Labels>| annotations.is_some_and(|all| all.contains_key(annotation::PAUSED));
    if annotated(host, annotation::HOST_PAUSED).is_some() || paused(host.metadata.annotations.as_ref()) {
        return Err(Next::After(SAFETY_NET)); // L-4, L-6
    }
    consumer(host).map_err(Next::Failed)?.ok_or(Next::Done)?;
    o.metal3_machine.ok_or(Next::After(SAFETY_NET))?; // L-8
    let owner = o.owner.ok_or(Next::After(SAFETY_NET))?;
    let machine = o.machine.ok_or_else(|| Next::Failed(Problem::MachineMissing(owner.to_owned())))?; // L-9
    let named = machine.status.as_ref().and_then(|status| status.node_ref.as_ref());
    named.ok_or(Next::After(SAFETY_NET))?;
    let name = &machine.spec.cluster_name;
    let cluster = o.cluster.ok_or_else(|| Next::Failed(Problem::ClusterMissing(name.clone())))?; // L-10
    let metal3_cluster = o.metal3_cluster.ok_or_else(|| Next::Failed(Problem::Metal3ClusterMissing(name.clone())))?;
    if cluster.spec.paused == Some(true) || paused(metal3_cluster.metadata.annotations.as_ref()) {
        return Err(Next::After(SAFETY_NET)); // L-11
    }
    let prefixes = Prefixes::parse(configured(metal3_cluster).ok_or(Next::Done)?).map_err(Next::Failed)?;
    if prefixes.is_empty() {
        return Err(Next::Done);
    }
    match o.node {
        None => Ok(Step::Ask),
        Some(Fact::Unreachable(_)) => Err(Next::After(UNREACHABLE)),
        Some(Fact::Absent) => Err(Next::After(SAFETY_NET)),
        Some(Fact::There(node)) => {
            let change = prefixes.difference(host.metadata.labels.as_ref(), node.metadata.labels.as_ref());
            change.map(Step::Label).ok_or(Next::After(SAFETY_NET)) // L-13, L-14, LH-3
        }
    }
}

#[cfg(test)]
mod tests;
