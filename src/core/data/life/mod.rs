//! The life of one Metal3Data: from an index to two Secrets, and back to nothing.
//!
//! Rendering happens once. The finalizer and the names of the Secrets are stored before the first claim is made; an address
//! is claimed from every pool; when all are there both documents are rendered and stored. A Secret of the right name that
//! nobody else controls is taken as it is, so a world that was moved or restored is not rendered anew.
//!
//! On the way out the addresses are given back only when the claim that this data answers is gone: until then the machine
//! may still use them.
//!
//! Rules: docs/spec/data-rendering.md D-41 to D-51 with hazards HD-13 to HD-18 adopted.

mod depart;
mod secrets;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use capm3_api::foreign::{BareMetalHost, Cluster, Machine, Secret};
use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataStatus, Metal3DataTemplate, Metal3Machine};
use capm3_api::k8s::{ObjectMeta, OwnerReference};
use capm3_api::names::{CAPI_GROUP, INFRA_GROUP, annotation, label};

pub use self::depart::{Departure, depart};
pub use self::secrets::{SecretState, may_be_read, owed_secrets};
use self::secrets::{intend, render_once, secret_lost};
pub use self::told::{JUST_CREATED, is_young, refused, status};
use super::claims::{self, Known};
use super::message;
use super::objects::{Host, Meta, Objects};
use super::pools::{Pools, pools};

/// Everything the decision looks at; what is `None` is not there.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    pub data: &'a Metal3Data,
    /// The Cluster that the data's label names.
    pub cluster: Option<&'a Cluster>,
    /// The template of that name in the data's own namespace.
    pub template: Option<&'a Metal3DataTemplate>,
    pub claim: Option<&'a Metal3DataClaim>,
    pub metal3_machine: Option<&'a Metal3Machine>,
    pub machine: Option<&'a Machine>,
    pub host: Option<&'a BareMetalHost>,
    pub known: &'a Known,
    /// Secrets that were looked at live, by name; the others are taken to be absent.
    pub secrets: &'a BTreeMap<String, SecretState>,
    pub by_host: bool,
}

/// What to do for a live Metal3Data, in this order; the status goes last.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: Metal3DataStatus,
    /// Pools that have no gateway although the template asks for it: for the log, once rendered (HD-34).
    pub without_gateway: BTreeSet<String>,
    pub next: Next,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Finalizer and names of the Secrets, before anything outside is touched.
    Intend(Box<Metal3Data>),
    Address(claims::Action),
    /// If the name is taken, look live and decide again.
    Store(Box<Secret>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Done,
    Wait(Waiting),
    /// Told in the status; a change of what it names brings the data back.
    Fail(String),
}

/// What ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Cluster,
    Resume,
    Template,
    Claim,
    Metal3Machine,
    Machine,
    Host,
    Addresses,
    OldSecret,
    ClaimGone,
}

/// The Metal3Machine that owns a claim; neither uid nor version are compared, they change when objects are moved.
#[must_use]
pub fn metal3_machine_of(claim: &Metal3DataClaim) -> Option<&OwnerReference> {
    owner_of_kind(&claim.metadata, INFRA_GROUP, Metal3Machine::KIND)
}

/// The Machine that owns a Metal3Machine.
#[must_use]
pub fn machine_of(machine: &Metal3Machine) -> Option<&OwnerReference> {
    owner_of_kind(&machine.metadata, CAPI_GROUP, Machine::KIND)
}

/// The name in the host annotation; its namespace is always the machine's own (D-44).
pub fn host_of(machine: &Metal3Machine) -> Result<Option<&str>, String> {
    let annotations = machine.metadata.annotations.as_ref();
    let Some(value) = annotations.and_then(|annotations| annotations.get(annotation::HOST)) else { return Ok(None) };
    let parts: Vec<_> = value.split('/').collect();
    match parts[..] {
        [""] | [_, ""] => Ok(None),
        [name] | [_, name] => Ok(Some(name)),
        _ => {
            let machine = machine.metadata.name.as_deref().unwrap_or_default();
            Err(format!("Metal3Machine {machine}: annotation {} is not namespace/name: {value}", annotation::HOST))
        }
    }
}

/// The pools whose claims the decision will look at; none while what names them is missing.
#[must_use]
pub fn pools_of(observed: &Observed<'_>) -> Pools {
    let objects = Objects {
        machine: observed.machine.map(|machine| Meta::of(&machine.metadata)),
        metal3_machine: observed.metal3_machine.map(|machine| Meta::of(&machine.metadata)),
        host: observed.host.map(Host::of),
    };
    observed.template.map_or_else(Pools::new, |template| pools(&template.spec, &objects).unwrap_or_default())
}

/// What a live Metal3Data needs next.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Plan {
    let data = observed.data;
    if let Some(next) = held(observed) {
        let status = data.status.clone().unwrap_or_default();
        return Plan { actions: Vec::new(), status, without_gateway: BTreeSet::new(), next };
    }
    let mut actions = Vec::new();
    let (ready, without_gateway, next) = match render_once(observed, &mut actions) {
        Ok(without_gateway) => (true, without_gateway, Next::Done),
        Err(next) => (false, BTreeSet::new(), next),
    };
    if actions.is_empty() {
        intend(data.clone(), data, &mut actions); // also who waits holds on (D-43)
    }
    let was_ready = data.status.as_ref().and_then(|status| status.ready);
    let message = match &next {
        Next::Fail(text) => Some(message(text)),
        Next::Done | Next::Wait(_) => None,
    };
    // A machine that runs is not shaken by a template that cannot be read for a moment (HD-17).
    let stays = was_ready == Some(true) && !secret_lost(observed);
    let ready = if ready || stays { Some(true) } else { was_ready.map(|_| false) };
    let status = Metal3DataStatus { error_message: message, ready, ..Metal3DataStatus::default() };
    Plan { actions, status, without_gateway, next }
}

/// Why nothing may be touched now (D-41).
fn held(observed: &Observed<'_>) -> Option<Next> {
    if cluster_of(observed.data).is_none() {
        return Some(Next::Done);
    }
    match observed.cluster {
        None => Some(Next::Wait(Waiting::Cluster)),
        Some(_) => paused(observed).then_some(Next::Wait(Waiting::Resume)),
    }
}

fn paused(observed: &Observed<'_>) -> bool {
    let annotations = observed.data.metadata.annotations.as_ref();
    observed.cluster.is_some_and(|cluster| cluster.spec.paused == Some(true))
        || annotations.is_some_and(|annotations| annotations.contains_key(annotation::PAUSED))
}

/// The cluster that the label of a Metal3Data names.
fn cluster_of(data: &Metal3Data) -> Option<&str> {
    data.metadata.labels.as_ref()?.get(label::CLUSTER_NAME).map(String::as_str).filter(|name| !name.is_empty())
}

fn owner_of_kind<'a>(meta: &'a ObjectMeta, group: &str, kind: &str) -> Option<&'a OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| is_kind(owner, group, kind))
}

fn is_kind(owner: &OwnerReference, group: &str, kind: &str) -> bool {
    owner.kind == kind && owner.api_version.split_once('/').is_some_and(|(of, _)| of == group)
}
