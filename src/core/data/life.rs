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

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine, Secret, SecretData};
use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataStatus, Metal3DataTemplate, Metal3Machine};
use capm3_api::k8s::{ByteString, ObjectMeta, OwnerReference, Timestamp};
use capm3_api::names::{CAPI_GROUP, INFRA_GROUP, annotation, finalizer, label, reason, secret};
use capm3_api::{SecretRef, owner_reference};

use super::claims::{self, Asking, Known, Outcome, Release};
use super::message;
use super::objects::{Host, Meta, Objects, Unrenderable};
use super::pools::{PoolKind, Pools, pools};
use super::render::{self, Facts};
use crate::conditions::Summary;
use crate::ready::{self, Told};

/// For so long after its creation a Metal3Data waits in silence.
pub const JUST_CREATED: Duration = Duration::from_secs(5);

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

/// What to do for a live Metal3Data, in this order; the status goes last.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: Metal3DataStatus,
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

/// What to do for a Metal3Data that is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Departure {
    Wait(Waiting),
    /// A claim may be under way that no cache shows yet: list the claims live and decide again.
    LookLive,
    /// Give all these back, then take the finalizer away.
    Leave(Vec<Release>),
    Gone,
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

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "its Cluster",
            Self::Resume => "the end of the pause",
            Self::Template => "its Metal3DataTemplate",
            Self::Claim => "its Metal3DataClaim",
            Self::Metal3Machine => "its Metal3Machine",
            Self::Machine => "its Machine",
            Self::Host => "its host",
            Self::Addresses => "addresses",
            Self::OldSecret => "the end of an earlier Secret of its name",
            Self::ClaimGone => "the end of its Metal3DataClaim",
        })
    }
}

impl Waiting {
    fn reason(self) -> &'static str {
        match self {
            Self::Cluster => reason::WAITING_FOR_CLUSTER,
            Self::Resume => reason::PAUSED,
            Self::Template => reason::WAITING_FOR_DATA_TEMPLATE,
            Self::Claim => reason::WAITING_FOR_DATA_CLAIM,
            Self::Metal3Machine => reason::WAITING_FOR_METAL3_MACHINE,
            Self::Machine => reason::WAITING_FOR_MACHINE,
            Self::Host => reason::WAITING_FOR_HOST,
            Self::Addresses => reason::WAITING_FOR_ADDRESSES,
            Self::OldSecret => reason::WAITING_FOR_OLD_SECRET,
            Self::ClaimGone => reason::DELETING,
        }
    }
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
        return Plan { actions: Vec::new(), status: data.status.clone().unwrap_or_default(), next };
    }
    let mut actions = Vec::new();
    let (ready, next) = match render_once(observed, &mut actions) {
        Ok(()) => (true, Next::Done),
        Err(next) => (false, next),
    };
    let was_ready = data.status.as_ref().and_then(|status| status.ready);
    let message = match &next {
        Next::Fail(text) => Some(message(text)),
        Next::Done | Next::Wait(_) => None,
    };
    // A machine that runs is not shaken by a template that cannot be read for a moment (HD-17).
    let stays = was_ready == Some(true) && !secret_lost(observed);
    let ready = if ready || stays { Some(true) } else { was_ready.map(|_| false) };
    Plan { actions, status: Metal3DataStatus { error_message: message, ready, ..Metal3DataStatus::default() }, next }
}

/// A wait that has only begun is not worth a write: what is waited for comes any moment.
#[must_use]
pub fn is_young(data: &Metal3Data, now: Timestamp) -> bool {
    let age = data.metadata.creation_timestamp.as_ref().map(|created| now.duration_since(created.0).unsigned_abs());
    age.is_some_and(|age| age < JUST_CREATED)
}

/// The status to store once the actions of a plan are done, with `Ready`.
#[must_use]
pub fn status(observed: &Observed<'_>, plan: &Plan, now: Timestamp) -> Metal3DataStatus {
    let data = observed.data;
    let bare = plan.status.bare();
    let untouched = held(observed).is_some_and(|held| held != Next::Wait(Waiting::Cluster));
    let not_yet = matches!(plan.next, Next::Wait(_))
        && is_young(data, now)
        && data.status.as_ref().is_none_or(|stored| stored.bare() == bare);
    if untouched || not_yet {
        return data.status.clone().unwrap_or_default();
    }
    let ready = match &plan.next {
        _ if bare.ready == Some(true) => Summary { reason: reason::SECRETS_READY, ..Summary::ready() },
        Next::Wait(waiting) => Summary::not_ready(waiting.reason(), waits_for(observed, *waiting)),
        Next::Fail(text) => Summary::not_ready(reason::RENDERING_FAILED, message(text)),
        Next::Done => {
            Summary::not_ready(reason::WAITING_FOR_DATA_TEMPLATE, "spec.template names no Metal3DataTemplate")
        }
    };
    ready::tell(&data.metadata, data.status.as_ref(), bare, &ready, now)
}

/// The status when the API server refused what was to be written.
#[must_use]
pub fn refused(data: &Metal3Data, refusal: &str, now: Timestamp) -> Metal3DataStatus {
    let text = message(refusal);
    let ready = data.status.as_ref().and_then(|status| status.ready);
    let summary = match ready {
        Some(true) => Summary { reason: reason::SECRETS_READY, ..Summary::ready() },
        Some(false) | None => Summary::not_ready(reason::RENDERING_FAILED, text.clone()),
    };
    let bare = Metal3DataStatus { error_message: Some(text), ready, ..Metal3DataStatus::default() };
    ready::tell(&data.metadata, data.status.as_ref(), bare, &summary, now)
}

/// What is waited for, by name.
fn waits_for(observed: &Observed<'_>, waiting: Waiting) -> String {
    let spec = &observed.data.spec;
    let owner = |owner: Option<&OwnerReference>| owner.map_or(String::new(), |owner| format!(" {}", owner.name));
    let claim = || spec.claim.as_ref().map_or("", |claim| claim.name.as_str());
    match waiting {
        Waiting::Template => {
            let template = spec.template.as_ref().map_or("", |template| template.name.as_str());
            format!("waits for Metal3DataTemplate {template}")
        }
        Waiting::Claim => format!("waits for Metal3DataClaim {}", claim()),
        Waiting::Metal3Machine => {
            format!("waits for Metal3Machine{}", owner(observed.claim.and_then(metal3_machine_of)))
        }
        Waiting::Machine => format!("waits for Machine{}", owner(observed.metal3_machine.and_then(machine_of))),
        Waiting::Host => match observed.metal3_machine.map(host_of) {
            Some(Ok(Some(host))) => format!("waits for BareMetalHost {host}"),
            Some(Ok(None) | Err(_)) | None => "waits for a BareMetalHost".to_owned(),
        },
        Waiting::Addresses => {
            let pools = unanswered(observed);
            format!("waits for an address of {}", pools.join(", "))
        }
        Waiting::Cluster => format!("waits for Cluster {}", cluster_of(observed.data).unwrap_or_default()),
        Waiting::Resume | Waiting::OldSecret | Waiting::ClaimGone => format!("waits for {waiting}"),
    }
}

/// The pools that have given no address yet.
fn unanswered(observed: &Observed<'_>) -> Vec<String> {
    let host = observed.host.and_then(|host| host.metadata.name.as_deref()).unwrap_or_default();
    let asking = Asking { data: observed.data, host, cluster: "", by_host: observed.by_host };
    let open = |pool: &(String, PoolKind)| {
        let (_, outcome) = claims::ensure(&asking, &Pools::from([pool.clone()]), observed.known);
        outcome == Outcome::NotYet
    };
    pools_of(observed).into_iter().filter(open).map(|(pool, _)| pool).collect()
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

fn secret_lost(observed: &Observed<'_>) -> bool {
    let spec = &observed.data.spec;
    let names = [&spec.meta_data, &spec.network_data].into_iter().flatten();
    names.filter_map(|reference| observed.secrets.get(&reference.name)).any(|state| *state != SecretState::Usable)
}

fn secret_state(observed: &Observed<'_>, name: &str) -> SecretState {
    observed.secrets.get(name).copied().unwrap_or(SecretState::Absent)
}

/// D-44 in its order; `Ok` when every Secret that the template asks for is there once the actions are done.
fn render_once(observed: &Observed<'_>, actions: &mut Vec<Action>) -> Result<(), Next> {
    let (data, wait) = (observed.data, |what| Next::Wait(what));
    let namespace = data.metadata.namespace.as_deref().unwrap_or_default();
    let Some(reference) = data.spec.template.as_ref().filter(|reference| !reference.name.is_empty()) else {
        intend(data.clone(), data, actions);
        return Err(Next::Done);
    };
    if data.status.as_ref().is_some_and(|status| status.ready == Some(true)) && !secret_lost(observed) {
        intend(data.clone(), data, actions);
        return Ok(());
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
        return Ok(());
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
    Ok(())
}

#[derive(Clone, Copy)]
enum Part {
    MetaData,
    NetworkData,
}

fn intend(mut intended: Metal3Data, data: &Metal3Data, actions: &mut Vec<Action>) {
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

/// What a Metal3Data that is being deleted does next. `live` says that `known` was read from the API server just now.
#[must_use]
pub fn depart(observed: &Observed<'_>, live: bool) -> Departure {
    let data = observed.data;
    if paused(observed) {
        return Departure::Wait(Waiting::Resume);
    }
    if claim_holds(observed) {
        return Departure::Wait(Waiting::ClaimGone);
    }
    if !data.metadata.finalizers.iter().flatten().any(|held| held == finalizer::DATA) {
        return Departure::Gone;
    }
    // A data that became ready has seen all its claims; before that the answer to a create may have been lost.
    let saw_all = data.status.as_ref().is_some_and(|status| status.ready == Some(true));
    if !live && !saw_all {
        return Departure::LookLive;
    }
    // The names help to find claims that lost their owner; a template that is gone or confused names none (HD-23).
    let pools = observed
        .template
        .map_or_else(Pools::new, |template| pools(&template.spec, &Objects::default()).unwrap_or_default());
    Departure::Leave(claims::release(data, &pools, observed.known))
}

/// Whether the claim that this data answers is still there. A later claim of the same name, made for the next machine of
/// that name, holds only what it was answered with.
fn claim_holds(observed: &Observed<'_>) -> bool {
    let (data, Some(claim)) = (&observed.data.metadata, observed.claim) else { return false };
    let answered = owner_of_kind(data, INFRA_GROUP, Metal3DataClaim::KIND);
    let same = answered.is_none_or(|owner| Some(&owner.uid) == claim.metadata.uid.as_ref());
    let rendered = claim.status.as_ref().and_then(|status| status.rendered_data.as_ref());
    same || rendered.is_some_and(|rendered| Some(&rendered.name) == data.name.as_ref())
}

fn owner_of_kind<'a>(meta: &'a ObjectMeta, group: &str, kind: &str) -> Option<&'a OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| is_kind(owner, group, kind))
}

fn is_kind(owner: &OwnerReference, group: &str, kind: &str) -> bool {
    owner.kind == kind && owner.api_version.split_once('/').is_some_and(|(of, _)| of == group)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim};
    use serde_json::{Value, json};

    use super::super::fixture::{self, *};
    use super::*;

    /// Everything that rendering needs; tests take parts away.
    struct World {
        data: Metal3Data,
        cluster: Option<Cluster>,
        template: Option<Metal3DataTemplate>,
        claim: Option<Metal3DataClaim>,
        metal3_machine: Option<Metal3Machine>,
        machine: Option<Machine>,
        host: Option<BareMetalHost>,
        known: Known,
        secrets: BTreeMap<String, SecretState>,
    }

    fn world(template: Value) -> World {
        World {
            data: data(),
            cluster: Some(object(CLUSTER, json!({}))),
            template: Some(fixture::template(template)),
            claim: Some(claim(CLAIM)),
            metal3_machine: Some(metal3_machine()),
            machine: Some(object(MACHINE, json!({"spec": {"clusterName": CLUSTER}}))),
            host: Some(object(HOST, json!({}))),
            known: Known::default(),
            secrets: BTreeMap::new(),
        }
    }

    fn both() -> Value {
        let ethernet = json!({"type": "phy", "id": "eth0", "mtu": 1500, "macAddress": {"string": "12:34:56:78:9A:BC"}});
        json!({
            "metaData": {"strings": [{"key": "String-1", "value": "String-1"}]},
            "networkData": {"links": {"ethernets": [ethernet]}},
        })
    }

    impl World {
        fn observed(&self) -> Observed<'_> {
            Observed {
                data: &self.data,
                cluster: self.cluster.as_ref(),
                template: self.template.as_ref(),
                claim: self.claim.as_ref(),
                metal3_machine: self.metal3_machine.as_ref(),
                machine: self.machine.as_ref(),
                host: self.host.as_ref(),
                known: &self.known,
                secrets: &self.secrets,
                by_host: false,
            }
        }

        fn decide(&self) -> Plan {
            decide(&self.observed())
        }

        fn outcome(&self) -> (Option<bool>, Option<String>, Next) {
            let plan = self.decide();
            (plan.status.ready, plan.status.error_message, plan.next)
        }

        fn ready(mut self) -> Self {
            self.data.status = Some(Metal3DataStatus { ready: Some(true), ..Metal3DataStatus::default() });
            self.data.metadata.finalizers = Some(vec![finalizer::DATA.to_owned()]);
            self.data.spec.meta_data = Some(SecretRef::new(NS, &secret("metadata")));
            self
        }
    }

    fn secret(suffix: &str) -> String {
        format!("{M3M}-{suffix}")
    }

    #[track_caller]
    fn waits(world: &World, waiting: Waiting) {
        assert_eq!(world.outcome(), (None, None, Next::Wait(waiting)));
    }

    #[track_caller]
    fn fails(world: &World, message: &str) {
        assert_eq!(world.outcome(), (None, Some(message.to_owned()), Next::Fail(message.to_owned())));
    }

    fn documents(plan: &Plan) -> Vec<(String, String)> {
        let secrets = plan.actions.iter().filter_map(|action| match action {
            Action::Store(secret) => Some(secret),
            Action::Intend(_) | Action::Address(_) => None,
        });
        let text = |secret: &Secret| String::from_utf8(secret.data.0.values().next().unwrap().0.clone()).unwrap();
        secrets.map(|secret| (secret.metadata.name.clone().unwrap(), text(secret))).collect()
    }

    #[test]
    fn td_3_without_a_template_nothing_happens() {
        let mut world = world(json!({}));
        world.data.spec = Default::default();
        let (error_message, ready) = (Some("x".to_owned()), Some(false));
        world.data.status = Some(Metal3DataStatus { error_message, ready, ..Metal3DataStatus::default() });
        assert_eq!(world.outcome(), (Some(false), None, Next::Done));
    }

    #[test]
    fn td_4_a_missing_template_is_awaited() {
        waits(&World { template: None, ..world(json!({})) }, Waiting::Template);
    }

    #[test]
    fn td_5_td_17_a_claim_without_owner() {
        let mut world = world(both());
        world.claim.as_mut().unwrap().metadata.owner_references = None;
        fails(&world, "metal3Machine not found in owner references");
    }

    #[test]
    fn td_6_td_18_a_missing_metal3_machine_is_awaited() {
        waits(&World { metal3_machine: None, ..world(both()) }, Waiting::Metal3Machine);
    }

    #[test]
    fn td_7_an_empty_template_needs_no_secret() {
        let plan = world(json!({})).decide();
        assert_eq!((plan.status.ready, documents(&plan), plan.next), (Some(true), Vec::new(), Next::Done));
    }

    #[test]
    fn td_8_td_20_a_machine_that_uses_another_template() {
        for template in [Value::Null, json!({"name": "abcd"}), json!({"name": TEMPLATE, "namespace": "defg"})] {
            let mut world = world(both());
            world.metal3_machine.as_mut().unwrap().spec.data_template = serde_json::from_value(template).unwrap();
            fails(&world, &format!("Metal3Machine {M3M} does not use Metal3DataTemplate {TEMPLATE}"));
        }
    }

    #[test]
    fn td_9_td_13_existing_secrets_are_taken_as_they_are() {
        let mut world = world(both());
        world.secrets.insert(secret("networkdata"), SecretState::Usable);
        let names: Vec<_> = documents(&world.decide()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [secret("metadata")]);
        world.secrets.insert(secret("metadata"), SecretState::Usable);
        let plan = world.decide();
        assert_eq!((plan.status.ready, documents(&plan)), (Some(true), Vec::new()));
    }

    #[test]
    fn td_10_both_secrets_after_the_intent() {
        let plan = world(both()).decide();
        let Some(Action::Intend(intended)) = plan.actions.first() else { panic!("{:?}", plan.actions) };
        assert_eq!(intended.metadata.finalizers.as_deref(), Some(&[finalizer::DATA.to_owned()][..]));
        assert_eq!(intended.spec.meta_data, Some(SecretRef::new(NS, &secret("metadata"))));
        assert_eq!(intended.spec.network_data, Some(SecretRef::new(NS, &secret("networkdata"))));
        let meta_data = format!("String-1: String-1\nproviderid: {NS}/{HOST}/{M3M}\n");
        let network_data = "links:\n- ethernet_mac_address: 12:34:56:78:9A:BC\n  id: eth0\n  mtu: 1500\n  type: phy\nnetworks: []\nservices: []\n";
        let expected = [(secret("metadata"), meta_data), (secret("networkdata"), network_data.to_owned())];
        assert_eq!(documents(&plan), expected);
        assert_eq!((plan.status.ready, plan.next), (Some(true), Next::Done));
    }

    #[test]
    fn d_50_the_form_of_a_secret() {
        let plan = world(json!({"metaData": {}})).decide();
        let Some(Action::Store(stored)) = plan.actions.last() else { panic!("{:?}", plan.actions) };
        assert_eq!(stored.type_.as_deref(), Some("infrastructure.cluster.x-k8s.io/secret"));
        assert_eq!(stored.data.0.keys().collect::<Vec<_>>(), ["metaData"]);
        assert_eq!(
            serde_json::to_value(&stored.metadata).unwrap(),
            json!({
                "name": secret("metadata"),
                "namespace": NS,
                "labels": {"cluster.x-k8s.io/cluster-name": CLUSTER},
                "ownerReferences": [{
                    "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "Metal3Data", "name": DATA,
                    "uid": format!("uid-{DATA}"), "controller": true,
                }],
            })
        );
    }

    #[test]
    fn td_11_td_12_machine_and_host_are_awaited() {
        let mut orphan = world(both());
        orphan.metal3_machine.as_mut().unwrap().metadata.owner_references = None;
        waits(&orphan, Waiting::Machine);
        waits(&World { machine: None, ..world(both()) }, Waiting::Machine);
        waits(&World { host: None, ..world(both()) }, Waiting::Host);
        let mut odd = world(both());
        odd.metal3_machine.as_mut().unwrap().metadata.annotations =
            Some(BTreeMap::from([(annotation::HOST.to_owned(), "a/b/c".to_owned())]));
        assert!(matches!(odd.decide().next, Next::Fail(_)));
    }

    #[test]
    fn td_14_td_15_td_16_the_claim() {
        for claim in [Value::Null, json!({}), json!({"namespace": NS})] {
            let mut world = world(both());
            world.data.spec.claim = serde_json::from_value(claim).unwrap();
            fails(&world, "Metal3DataClaim name not set");
        }
        waits(&World { claim: None, ..world(both()) }, Waiting::Claim);
    }

    #[test]
    fn td_35_td_39_without_cluster_or_while_paused_nothing_is_touched() {
        let mut unlabelled = world(both());
        unlabelled.data.metadata.labels = None;
        assert_eq!(
            unlabelled.decide(),
            Plan { actions: Vec::new(), status: Metal3DataStatus::default(), next: Next::Done }
        );
        let missing = World { cluster: None, ..world(both()) };
        assert_eq!(missing.decide().next, Next::Wait(Waiting::Cluster));
        let mut paused = world(both());
        paused.cluster.as_mut().unwrap().spec.paused = Some(true);
        assert_eq!((paused.decide().actions, paused.decide().next), (Vec::new(), Next::Wait(Waiting::Resume)));
    }

    fn told(world: &World, second: i64) -> (Metal3DataStatus, String) {
        let status = status(&world.observed(), &world.decide(), Timestamp::from_second(second).unwrap());
        let said = status.conditions.first().map(|c| format!("{} {}: {}", c.status, c.reason, c.message));
        (status, said.unwrap_or_default())
    }

    #[test]
    fn k_74_who_waits_names_what_it_waits_for() {
        let template =
            json!({"metaData": {"ipAddressesFromPool": [{"key": "a", "name": "p"}, {"key": "b", "name": "q"}]}});
        let mut other_cluster = world(both());
        (other_cluster.cluster, other_cluster.data.status) = (None, Some(Metal3DataStatus::default()));
        for (world, expected) in [
            (
                World { template: None, ..world(both()) },
                format!("WaitingForMetal3DataTemplate: waits for Metal3DataTemplate {}", fixture::TEMPLATE),
            ),
            (
                World { claim: None, ..world(both()) },
                format!("WaitingForMetal3DataClaim: waits for Metal3DataClaim {CLAIM}"),
            ),
            (
                World { metal3_machine: None, ..world(both()) },
                format!("WaitingForMetal3Machine: waits for Metal3Machine {M3M}"),
            ),
            (World { machine: None, ..world(both()) }, format!("WaitingForMachine: waits for Machine {MACHINE}")),
            (World { host: None, ..world(both()) }, format!("WaitingForBareMetalHost: waits for BareMetalHost {HOST}")),
            (world(template), "WaitingForIPAddresses: waits for an address of p, q".to_owned()),
            (other_cluster, format!("WaitingForCluster: waits for Cluster {CLUSTER}")),
        ] {
            assert_eq!(told(&world, 100).1, format!("False {expected}"));
        }
        assert_eq!(told(&world(both()), 100).1, "True Metal3DataSecretsReady: ");
    }

    #[test]
    fn a_wait_of_moments_is_not_told_and_a_paused_data_is_not_written() {
        let mut waiting = World { host: None, ..world(both()) };
        waiting.data.metadata.creation_timestamp = Some(capm3_api::k8s::Time(Timestamp::from_second(100).unwrap()));
        waiting.data.metadata.generation = Some(1);
        waiting.data.status = Some(Metal3DataStatus { observed_generation: Some(-1), ..Metal3DataStatus::default() });
        assert_eq!(told(&waiting, 104).0, waiting.data.status.clone().unwrap());
        assert_eq!(told(&waiting, 106).0.observed_generation, Some(1));
        waiting.cluster.as_mut().unwrap().spec.paused = Some(true);
        assert_eq!(told(&waiting, 106).0, waiting.data.status.clone().unwrap());
    }

    #[test]
    fn td_131_the_namespace_of_the_template_is_filled_in_in_memory_only() {
        let mut world = world(both());
        world.data.spec.template.as_mut().unwrap().namespace = None;
        let plan = world.decide();
        let Some(Action::Intend(intended)) = plan.actions.first() else { panic!("{:?}", plan.actions) };
        assert_eq!(intended.spec.template, world.data.spec.template);
        assert_eq!(plan.status.ready, Some(true));
    }

    #[test]
    fn hd_15_a_template_of_another_namespace_is_refused() {
        let mut world = world(both());
        world.data.spec.template.as_mut().unwrap().namespace = Some("other".to_owned());
        assert!(matches!(world.decide().next, Next::Fail(_)));
    }

    #[test]
    fn td_133_a_ready_data_stays_ready_and_quiet() {
        for world in [world(both()), World { template: None, ..world(both()) }, World { claim: None, ..world(both()) }]
        {
            let world = world.ready();
            let status = world.data.status.clone().unwrap();
            assert_eq!(world.decide(), Plan { actions: Vec::new(), status, next: Next::Done });
        }
    }

    #[test]
    fn hd_18_a_secret_that_is_known_to_be_lost_is_rendered_anew() {
        let mut world = world(json!({"metaData": {}})).ready();
        world.secrets.insert(secret("metadata"), SecretState::Absent);
        assert_eq!(documents(&world.decide()).len(), 1);
    }

    #[test]
    fn td_134_a_secret_of_an_earlier_data_is_awaited() {
        let controlled = |uid: &str| {
            let mut owner = infra_owner("Metal3Data", "m3d");
            owner["uid"] = uid.into();
            owner["controller"] = true.into();
            let secret: Secret = object("s", json!({"metadata": {"ownerReferences": [owner]}}));
            SecretState::of(Some(&secret.metadata), &data())
        };
        assert_eq!(controlled("earlier"), SecretState::OfAnother);
        assert_eq!(controlled(&format!("uid-{DATA}")), SecretState::Usable);
        assert_eq!(SecretState::of(Some(&object::<Secret>("s", json!({})).metadata), &data()), SecretState::Usable);
        assert_eq!(SecretState::of(None, &data()), SecretState::Absent);

        let mut world = world(both());
        world.secrets.insert(secret("metadata"), SecretState::OfAnother);
        waits(&world, Waiting::OldSecret);
        world.secrets.insert(secret("metadata"), SecretState::Absent);
        assert_eq!(world.decide().next, Next::Done);
    }

    fn with_pool() -> Value {
        json!({"metaData": {"ipAddressesFromPool": [{"key": "ip", "name": POOL}]}})
    }

    #[test]
    fn td_61_the_claim_follows_the_intent_and_is_awaited() {
        let plan = world(with_pool()).decide();
        assert!(matches!(&plan.actions[..], [Action::Intend(_), Action::Address(claims::Action::Claim(_))]));
        assert_eq!((plan.status, plan.next), (Metal3DataStatus::default(), Next::Wait(Waiting::Addresses)));
    }

    #[test]
    fn td_70_a_failed_claim_is_told_in_the_status() {
        let mut world = world(with_pool());
        let mut failed: IPClaim =
            object(&format!("{DATA}-{POOL}"), json!({"status": {"errorMessage": "Error happened"}}));
        failed.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
        world.known.claims = by_name(vec![failed], |claim| &claim.metadata);
        fails(&world, &format!("IP Allocation for {POOL} failed : Error happened"));
    }

    #[test]
    fn d_44_addresses_that_came_are_rendered() {
        let mut world = world(with_pool());
        let mut answered: IPClaim = object(&format!("{DATA}-{POOL}"), json!({"status": {"address": {"name": "a"}}}));
        answered.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
        world.known.claims = by_name(vec![answered], |claim| &claim.metadata);
        waits(&world, Waiting::Addresses);
        let address: IPAddress = object("a", json!({"spec": {"address": "10.0.0.9", "prefix": 24}}));
        world.known.addresses = by_name(vec![address], |address| &address.metadata);
        assert_eq!(documents(&world.decide())[0].1, format!("ip: 10.0.0.9\nproviderid: {NS}/{HOST}/{M3M}\n"));
    }

    #[test]
    fn d_44_an_error_in_the_network_data_leaves_the_metadata() {
        let mut template = both();
        template["networkData"]["links"]["ethernets"][0]["macAddress"] = json!({"string": "x"});
        let plan = world(template).decide();
        assert_eq!(documents(&plan).len(), 1);
        assert_eq!((plan.status.ready, plan.status.error_message), (None, Some("bad MAC address: x".to_owned())));
    }

    fn departing(template: Value) -> World {
        let mut world = World { claim: None, ..world(template).ready() };
        deleting(&mut world.data.metadata);
        world
    }

    #[test]
    fn td_36_td_138_a_departing_data_needs_neither_cluster_nor_template() {
        let world = World { cluster: None, template: None, ..departing(json!({})) };
        assert_eq!(depart(&world.observed(), false), Departure::Leave(Vec::new()));
    }

    #[test]
    fn td_132_the_claim_holds_its_data() {
        let mut world = departing(json!({}));
        world.claim = Some(claim(CLAIM));
        world.data.spec.claim.as_mut().unwrap().namespace = None;
        assert_eq!(depart(&world.observed(), false), Departure::Wait(Waiting::ClaimGone));
        // The next machine of the same name makes a claim of the same name, which is answered with other data.
        world.claim.as_mut().unwrap().metadata.uid = Some("later".to_owned());
        assert_eq!(depart(&world.observed(), false), Departure::Leave(Vec::new()));
    }

    #[test]
    fn td_39_a_paused_cluster_stops_a_departing_data() {
        let mut world = departing(json!({}));
        world.cluster.as_mut().unwrap().spec.paused = Some(true);
        assert_eq!(depart(&world.observed(), false), Departure::Wait(Waiting::Resume));
    }

    #[test]
    fn td_137_addresses_are_given_back_by_ownership() {
        let mut world = World { template: None, ..departing(json!({})) };
        let mut owned: IPClaim = object("from-an-annotation", json!({"metadata": {"finalizers": [finalizer::DATA]}}));
        owned.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
        world.known.claims = by_name(vec![owned.clone()], |claim| &claim.metadata);
        let release = Release::Metal3 { claim: Arc::new(owned), let_go: true, delete: true };
        assert_eq!(depart(&world.observed(), false), Departure::Leave(vec![release]));
    }

    /// A create whose answer was lost may have made a claim that no cache shows.
    #[test]
    fn a_data_that_was_never_ready_looks_live_before_it_leaves() {
        let mut world = departing(json!({}));
        world.data.status = None;
        assert_eq!(depart(&world.observed(), false), Departure::LookLive);
        assert_eq!(depart(&world.observed(), true), Departure::Leave(Vec::new()));
        world.data.metadata.finalizers = None;
        assert_eq!(depart(&world.observed(), false), Departure::Gone);
    }
}
