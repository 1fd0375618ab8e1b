//! Tying the Node of a workload cluster to its machine.
//!
//! The Node is named first and the machine after it, so that a machine never reports an identity that its Node does not have
//! (H-39, I12). Rules: M-37 to M-39, M-88 to M-95, H-31, H-34, H-37, H-38.

use std::collections::BTreeMap;

use capm3_api::foreign::{BareMetalHost, Machine};
use capm3_api::infra::v1beta2::Initialization;
use capm3_api::names::{host_state, label};
use serde_json::json;

use super::associate;
use super::provision::{has_bootstrap_config, provider_id};
use super::{
    Action, COMING_UP, Flow, NO_EVENT, Next, Observed, Problem, Purpose, Question, Report, SAFETY_NET, Step, act, ask,
    rest, rows,
};
use crate::host;
use crate::planted::{Defect, sown};

/// The parts of a Node that identify it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub provider_id: Option<String>,
}

/// The Nodes of the workload cluster, in name order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    Listed(Vec<Node>),
    /// The first attempt is under way; not worth a word yet.
    Connecting,
    /// The workload cluster cannot be asked; the text is the same for the same reason.
    Unreachable(String),
}

impl Node {
    fn provider_id(&self) -> Option<&str> {
        self.provider_id.as_deref().filter(|id| !id.is_empty())
    }

    fn labelled(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

/// What a machine with a host waits for, in words that hold from the claim until it runs: each change of them is a write.
pub(super) fn awaited(o: &Observed<'_>, host: &BareMetalHost) -> String {
    let node = if has_cloud_provider(o) {
        let name = host.metadata.name.as_deref().unwrap_or_default();
        format!("the cloud provider to give a Node the providerID {}", provider_id(o.namespace(), name, o.name()))
    } else {
        format!("a Node with the label {}={}", label::HOST_UUID, host.metadata.uid.as_deref().unwrap_or_default())
    };
    format!("waiting for BareMetalHost {} to be provisioned and for {node}", o.at(host))
}

fn has_cloud_provider(o: &Observed<'_>) -> bool {
    o.infrastructure.and_then(|cluster| cluster.spec.cloud_provider_enabled) == Some(true)
}

/// Whether the machine got its host so lately that its cluster may not be up yet.
fn is_coming_up(o: &Observed<'_>) -> bool {
    let since = associate::associated(o).map(|condition| o.now.duration_since(condition.last_transition_time.0));
    since.is_none_or(|since| since.unsigned_abs() < COMING_UP)
}

/// From a host that is provisioned to a machine that is.
pub(super) fn link(o: &Observed<'_>, r: &mut Report, owner: &Machine, host: &BareMetalHost) -> Flow<Step> {
    if host.state() != host_state::PROVISIONED {
        if let Some(error) = host::error(host) {
            r.alarm(rows::CREATE_FAILED, format!("BareMetalHost {}: {error}", o.at(host))); // H-56
        }
        return rest(Next::Done); // the host's next event wakes us
    }
    let cloud_provider = has_cloud_provider(o);
    let by_hostname = !cloud_provider && !has_bootstrap_config(owner);
    let checked = sown(Defect::ProvisionedFollowsNode);
    let vouched = o.is_provisioned() && o.provider_id().is_some() && !by_hostname && !checked;
    let nodes = match &o.answers.nodes {
        None => return ask(Question::Nodes),
        Some(Nodes::Connecting | Nodes::Unreachable(_)) if vouched => return rest(Next::Done), // the Machine's nodeRef wakes us
        Some(Nodes::Connecting) => return rest(Next::After(NO_EVENT)),
        Some(Nodes::Unreachable(_)) if is_coming_up(o) => return rest(Next::After(NO_EVENT)),
        Some(Nodes::Unreachable(why)) => {
            r.say(rows::CREATE_FAILED, why.clone());
            return rest(Next::After(NO_EVENT));
        }
        Some(Nodes::Listed(nodes)) => nodes,
    };
    let expected = provider_id(o.namespace(), host.metadata.name.as_deref().unwrap_or_default(), o.name());
    let uid = host.metadata.uid.as_deref().unwrap_or_default();
    let labelled: Vec<_> = nodes.iter().filter(|node| node.labelled(label::HOST_UUID) == Some(uid)).collect();
    if vouched {
        // Cluster API has not found the Node yet: it may have registered anew, without its name (M-38, M-39 step 2).
        return match labelled[..] {
            [node] if node.provider_id().is_none() && !has_cloud_provider(o) => name(o, r, node, &expected),
            _ => rest(Next::Done),
        };
    }
    let named = match named(nodes, &expected) {
        Ok(named) => named,
        Err(problem) => return r.fail(rows::CREATE_FAILED, problem),
    };
    if named.is_some() && o.provider_id().is_some() {
        return identify(o, r, &expected); // what the machine says of itself is what its Node is called (K-25)
    }
    if cloud_provider {
        return match named {
            Some(_) => identify(o, r, &expected),
            None => rest(Next::After(SAFETY_NET)), // a Node event wakes us
        };
    }
    match labelled[..] {
        [] if by_hostname => by_default(o, r, nodes, &expected),
        [] if checked => {
            r.status.initialization = Some(Initialization { provisioned: Some(false) });
            rest(Next::Done)
        }
        [] => rest(Next::After(SAFETY_NET)), // a Node event wakes us
        [node] => name(o, r, node, &expected),
        [..] => {
            let names: Vec<_> = labelled.iter().map(|node| node.name.as_str()).collect();
            r.fail(rows::CREATE_FAILED, Problem::SharedHostLabel { nodes: names.join(", "), uid: uid.to_owned() })
        }
    }
}

/// The Node with this providerID. It is an error when another Node claims the same host (M-89, H-37).
fn named<'a>(nodes: &'a [Node], id: &str) -> Result<Option<&'a Node>, Problem> {
    let prefix = id.rfind('/').map_or("", |end| &id[..=end]);
    let of_host: Vec<_> =
        nodes.iter().filter(|node| node.provider_id().is_some_and(|found| found.starts_with(prefix))).collect();
    match of_host[..] {
        [] => Ok(None),
        [node] => Ok(Some(node).filter(|node| node.provider_id() == Some(id))),
        [..] => {
            let names: Vec<_> = of_host.iter().map(|node| node.name.as_str()).collect();
            Err(Problem::SharedProviderId { prefix: prefix.to_owned(), nodes: names.join(", ") })
        }
    }
}

/// The Node carries the machine's identity, then the machine does.
fn name(o: &Observed<'_>, r: &mut Report, node: &Node, id: &str) -> Flow<Step> {
    match node.provider_id() {
        None => act(Action::NameNode { node: node.name.clone(), provider_id: id.to_owned() }),
        Some(found) if found == id => identify(o, r, id),
        Some(found) => {
            let problem =
                Problem::OtherProviderId { node: node.name.clone(), found: found.to_owned(), expected: id.to_owned() };
            r.fail(rows::CREATE_FAILED, problem)
        }
    }
}

fn identify(o: &Observed<'_>, r: &mut Report, id: &str) -> Flow<Step> {
    if o.provider_id() != Some(id) {
        return act(Action::Machine { purpose: Purpose::Identify, patch: json!({ "spec": { "providerID": id } }) });
    }
    provisioned(o, r)
}

fn provisioned(o: &Observed<'_>, r: &mut Report) -> Flow<Step> {
    mark_provisioned(o, r);
    rest(Next::Done)
}

fn mark_provisioned(o: &Observed<'_>, r: &mut Report) {
    r.status.initialization = Some(Initialization { provisioned: Some(true) });
    r.findings.arrived();
    if o.machine.spec.data_template.is_none() && r.status.rendered_data.is_none() {
        r.say(rows::SECRETS_SET_EXTERNALLY, ""); // H-31
    }
}

/// Without a bootstrap provider nobody waits for the Node: the machine is provisioned at once, and its Node is found by its
/// host name (M-39 steps 3 to 5, M-94).
fn by_default(o: &Observed<'_>, r: &mut Report, nodes: &[Node], expected: &str) -> Flow<Step> {
    let Some(id) = o.provider_id() else { return identify(o, r, expected) };
    mark_provisioned(o, r);
    let hostnames: Vec<_> =
        r.status.addresses.iter().filter(|a| a.type_ == "Hostname").map(|a| a.address.clone()).collect();
    let matches = |node: &&Node| node.labelled(label::HOSTNAME).is_some_and(|name| hostnames.iter().any(|h| h == name));
    let found: Vec<_> = nodes.iter().filter(matches).collect();
    match found[..] {
        [node] if node.provider_id().is_none() => {
            act(Action::NameNode { node: node.name.clone(), provider_id: id.to_owned() })
        }
        [node] if node.provider_id() == Some(id) => rest(Next::Done),
        [node] => {
            let problem = Problem::OtherProviderId {
                node: node.name.clone(),
                found: node.provider_id().unwrap_or_default().to_owned(),
                expected: id.to_owned(),
            };
            r.fail(rows::UPDATE_FAILED, problem)
        }
        [] if hostnames.is_empty() => update(r, "the host has no host name to find its Node by".to_owned()),
        [] => update(r, format!("waiting for a Node named {}", hostnames.join(" or "))),
        [..] => {
            let names: Vec<_> = found.iter().map(|node| node.name.as_str()).collect();
            update(r, format!("more than one Node is named {}: {}", hostnames.join(" or "), names.join(", ")))
        }
    }
}

fn update(r: &mut Report, message: String) -> Flow<Step> {
    r.say(rows::UPDATE_FAILED, message);
    rest(Next::After(SAFETY_NET))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[&str]) -> Vec<Node> {
        let node = |(i, id): (usize, &&str)| Node {
            name: format!("node-{i}"),
            provider_id: Some((*id).to_owned()),
            ..Node::default()
        };
        ids.iter().enumerate().map(node).collect()
    }

    #[test]
    fn a_dup_1_to_8_one_node_for_each_host() {
        const ID: &str = "metal3://metal3/node-0/machine-0";
        let cases: [(&str, &[&str], &str, bool); 8] = [
            ("A-DUP-1", &[ID, ID], "", false),
            ("A-DUP-2", &[ID], ID, true),
            ("A-DUP-3", &[], ID, true),
            ("A-DUP-4", &["metal3://metal3/node-0/a", "metal3://metal3/node-0/b"], ID, false),
            ("A-DUP-5", &["metal3://worker-1", "metal3://worker-10"], "metal3://worker-1", false),
            ("A-DUP-6", &[ID], "", true),
            ("A-DUP-7", &["aws://x/y"], ID, true),
            ("A-DUP-8", &["metal3://metal3/node-0/a", "aws://x/y"], ID, true),
        ];
        for (row, ids, wanted, ok) in cases {
            assert_eq!(named(&nodes(ids), wanted).is_ok(), ok, "{row}");
        }
    }

    #[test]
    fn h_37_other_hosts_with_equal_ids_are_their_own_problem() {
        let nodes = nodes(&["metal3://ns/other/a", "metal3://ns/other/a", "metal3://ns/node-0/m"]);
        let found = named(&nodes, "metal3://ns/node-0/m").unwrap();
        assert_eq!(found.map(|node| node.name.as_str()), Some("node-2"));
    }
}
