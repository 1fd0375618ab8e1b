//! Rendering, once: the intent is stored, addresses are claimed, and both documents become Secrets when all of them are there.
//!
//! Every step looks only at what it needs, so a Secret that is there already asks for neither machine nor host. Nobody may list or
//! watch Secrets, so one that is lost is found by a look, for as long as a host may want it.
//!
//! Rules: docs/spec/data-rendering.md D-44, D-46, D-50 and D-51 with hazards HD-15, HD-18, HD-19 and HD-34 adopted.

use std::collections::{BTreeMap, BTreeSet};

use capm3_api::foreign::{Secret, SecretData};
use capm3_api::infra::v1beta2::{Metal3Data, Metal3Machine};
use capm3_api::k8s::{ByteString, ObjectMeta};
use capm3_api::names::{INFRA_GROUP, annotation, finalizer, label, secret};
use capm3_api::{SecretRef, owner_reference};

use super::super::claims::{self, Asking, Outcome};
use super::super::objects::{Host, Meta, Objects, Unrenderable};
use super::super::pools::pools;
use super::super::render::{self, Facts};
use super::{Action, Next, Observed, Waiting, held, host_of, is_kind, machine_of, metal3_machine_of};

/// A Secret of a name we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    Absent,
    Usable,
    /// Controlled by an earlier Metal3Data: garbage collection is about to take it.
    OfAnother,
}

impl SecretState {
    /// What the Secret found under a name is to this Metal3Data (HD-18).
    #[must_use]
    pub fn of(found: Option<&ObjectMeta>, data: &Metal3Data) -> Self {
        let Some(meta) = found else { return Self::Absent };
        let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        match controller {
            Some(owner)
                if is_kind(owner, INFRA_GROUP, Metal3Data::KIND) && Some(&owner.uid) != data.metadata.uid.as_ref() =>
            {
                Self::OfAnother
            }
            _ => Self::Usable,
        }
    }
}

/// Whether a host may still read what was rendered. Once its machine is provisioned nobody does, and what a machine has booted with
/// is not written anew.
#[must_use]
pub fn may_be_read(observed: &Observed<'_>) -> bool {
    let initialization = |machine: &Metal3Machine| machine.status.as_ref()?.initialization.clone();
    observed.metal3_machine.is_some_and(|machine| {
        initialization(machine).and_then(|initialization| initialization.provisioned) != Some(true)
    })
}

/// The Secrets of a rendered Metal3Data that have to be there still, for a look whether they are (HD-18).
#[must_use]
pub fn owed_secrets(observed: &Observed<'_>) -> Vec<String> {
    let ready = observed.data.status.as_ref().and_then(|status| status.ready) == Some(true);
    if !ready || held(observed).is_some() || !may_be_read(observed) {
        return Vec::new();
    }
    let spec = &observed.data.spec;
    let names = [&spec.meta_data, &spec.network_data].into_iter().flatten().map(|reference| reference.name.clone());
    names.filter(|name| !name.is_empty()).collect()
}

pub(super) fn secret_lost(observed: &Observed<'_>) -> bool {
    let spec = &observed.data.spec;
    let names = [&spec.meta_data, &spec.network_data].into_iter().flatten();
    names.filter_map(|reference| observed.secrets.get(&reference.name)).any(|state| *state != SecretState::Usable)
}

fn secret_state(observed: &Observed<'_>, name: &str) -> SecretState {
    observed.secrets.get(name).copied().unwrap_or(SecretState::Absent)
}

/// D-44 in its order; `Ok` when every Secret that the template asks for is there once the actions are done, with the pools that were
/// asked in vain for a gateway.
pub(super) fn render_once(observed: &Observed<'_>, actions: &mut Vec<Action>) -> Result<BTreeSet<String>, Next> {
    let (data, wait) = (observed.data, |what| Next::Wait(what));
    let namespace = data.metadata.namespace.as_deref().unwrap_or_default();
    let Some(reference) = data.spec.template.as_ref().filter(|reference| !reference.name.is_empty()) else {
        return Err(Next::Done);
    };
    if data.status.as_ref().is_some_and(|status| status.ready == Some(true)) && !secret_lost(observed) {
        return Ok(BTreeSet::new());
    }
    if reference.namespace_or(namespace) != namespace {
        let (own, name) = (reference.namespace_or(namespace), &reference.name);
        return Err(Next::Fail(format!("Metal3DataTemplate {own}/{name} is not in the namespace of this Metal3Data")));
    }
    let template = observed.template.ok_or(wait(Waiting::Template))?;
    let metal3_machine = find_metal3_machine(observed, &reference.name)?;

    let mut intended = data.clone();
    let machine_name = metal3_machine.metadata.name.as_deref().unwrap_or_default();
    let mut needed = Vec::new();
    if template.spec.meta_data.is_some() {
        let name = secret_name(&mut intended.spec.meta_data, namespace, machine_name, secret::META_DATA_SUFFIX);
        needed.push((name, Part::MetaData));
    }
    if template.spec.network_data.is_some() {
        let name = secret_name(&mut intended.spec.network_data, namespace, machine_name, secret::NETWORK_DATA_SUFFIX);
        needed.push((name, Part::NetworkData));
    }
    intend(intended, data, actions);
    if needed.iter().any(|(name, _)| secret_state(observed, name) == SecretState::OfAnother) {
        return Err(wait(Waiting::OldSecret));
    }
    needed.retain(|(name, _)| secret_state(observed, name) == SecretState::Absent);
    if needed.is_empty() {
        return Ok(BTreeSet::new());
    }

    machine_of(metal3_machine).ok_or(wait(Waiting::Machine))?;
    let machine = observed.machine.ok_or(wait(Waiting::Machine))?;
    host_of(metal3_machine).map_err(Next::Fail)?;
    let host = Host::of(observed.host.ok_or(wait(Waiting::Host))?);

    let (machine_meta, metal3_meta) = (Meta::of(&machine.metadata), Meta::of(&metal3_machine.metadata));
    let objects = Objects { machine: Some(machine_meta), metal3_machine: Some(metal3_meta), host: Some(host) };
    let unrenderable = |error: Unrenderable| Next::Fail(error.to_string());
    let pools = pools(&template.spec, &objects).map_err(unrenderable)?;
    let cluster = machine.spec.cluster_name.as_str();
    let asking = Asking { data, host: host.meta.name, cluster, by_host: observed.by_host };
    let (claims, outcome) = claims::ensure(&asking, &pools, observed.known);
    actions.extend(claims.into_iter().map(Action::Address));
    let addresses = match outcome {
        Outcome::Delivered(addresses) => addresses,
        Outcome::NotYet => return Err(wait(Waiting::Addresses)),
        Outcome::Failed(message) => return Err(Next::Fail(message)),
    };

    let facts = Facts {
        namespace,
        index: i64::from(data.spec.index.unwrap_or_default()),
        machine: machine_meta,
        metal3_machine: metal3_meta,
        host,
        addresses: &addresses,
        dns_servers: asks_for_dns_servers(&template.metadata),
    };
    for (name, part) in needed {
        let document = match (part, &template.spec.meta_data, &template.spec.network_data) {
            (Part::MetaData, Some(meta_data), _) => render::meta_data(meta_data, &facts),
            (Part::NetworkData, _, Some(network_data)) => render::network_data(network_data, &facts),
            (Part::MetaData | Part::NetworkData, _, _) => continue,
        };
        let document = document.map_err(unrenderable)?;
        actions.push(Action::Store(Box::new(rendered_secret(data, &name, cluster, part, document))));
    }
    Ok(render::pools_without_gateway(&template.spec, &facts))
}

fn asks_for_dns_servers(template: &ObjectMeta) -> bool {
    let value = template.annotations.as_ref().and_then(|annotations| annotations.get(annotation::RENDER_DNS_SERVERS));
    value.is_some_and(|value| value == "true")
}

#[derive(Clone, Copy)]
enum Part {
    MetaData,
    NetworkData,
}

/// Our finalizer, and what else is intended, in one write.
pub(super) fn intend(mut intended: Metal3Data, data: &Metal3Data, actions: &mut Vec<Action>) {
    let finalizers = intended.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|held| held == finalizer::DATA) {
        finalizers.push(finalizer::DATA.to_owned());
    }
    if intended != *data {
        actions.push(Action::Intend(Box::new(intended)));
    }
}

fn secret_name(reference: &mut Option<SecretRef>, namespace: &str, machine: &str, suffix: &str) -> String {
    match reference {
        Some(given) if !given.name.is_empty() => given.name.clone(),
        Some(_) | None => {
            let name = format!("{machine}{suffix}");
            *reference = Some(SecretRef::new(namespace, &name));
            name
        }
    }
}

/// D-46: through the claim to the machine, which must use this very template.
fn find_metal3_machine<'a>(observed: &Observed<'a>, template: &str) -> Result<&'a Metal3Machine, Next> {
    if observed.data.spec.claim.as_ref().is_none_or(|claim| claim.name.is_empty()) {
        return Err(Next::Fail("Metal3DataClaim name not set".to_owned()));
    }
    let claim = observed.claim.ok_or(Next::Wait(Waiting::Claim))?;
    if metal3_machine_of(claim).is_none() {
        return Err(Next::Fail("metal3Machine not found in owner references".to_owned()));
    }
    let rendered = claim.status.as_ref().and_then(|status| status.rendered_data.as_ref());
    if rendered.is_some_and(|rendered| Some(&rendered.name) != observed.data.metadata.name.as_ref()) {
        return Err(Next::Wait(Waiting::Claim)); // it was answered with another, whose Secrets have the same names
    }
    let machine = observed.metal3_machine.ok_or(Next::Wait(Waiting::Metal3Machine))?;
    let namespace = observed.data.metadata.namespace.as_deref().unwrap_or_default();
    let uses = machine.spec.data_template.as_ref();
    if uses.is_some_and(|used| used.name == template && used.namespace_or(namespace) == namespace) {
        return Ok(machine);
    }
    let name = machine.metadata.name.as_deref().unwrap_or_default();
    Err(Next::Fail(format!("Metal3Machine {name} does not use Metal3DataTemplate {template}")))
}

fn rendered_secret(data: &Metal3Data, name: &str, cluster: &str, part: Part, document: String) -> Secret {
    let key = match part {
        Part::MetaData => secret::META_DATA_KEY,
        Part::NetworkData => secret::NETWORK_DATA_KEY,
    };
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: data.metadata.namespace.clone(),
        labels: Some(BTreeMap::from([(label::CLUSTER_NAME.to_owned(), cluster.to_owned())])),
        owner_references: owner_reference(data, true, false).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let content = SecretData(BTreeMap::from([(key.to_owned(), ByteString(document.into_bytes()))]));
    Secret { metadata, type_: Some(secret::TYPE.to_owned()), data: content }
}
