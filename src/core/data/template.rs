//! Answers of a data template to the claims on it: which claim gets which index, and what a claim leaves behind.
//!
//! The Metal3Data objects are the truth about indexes; the list in the template's status is for people. An index is taken
//! by creating `<template>-<index>`: who creates the object owns the index, and a name that exists means deciding again.
//! One claim that cannot be served stands in nobody's way. A claim's finalizer goes last, after the Metal3Data it was
//! answered with has been let go of and deleted.
//!
//! Rules: docs/spec/data-rendering.md D-27 to D-39 with hazards HD-5 to HD-12 adopted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::Cluster;
use capm3_api::infra::v1beta2::{
    IndexEntry, Metal3Data, Metal3DataClaim, Metal3DataClaimStatus, Metal3DataSpec, Metal3DataTemplate,
    Metal3DataTemplateStatus, Metal3Machine,
};
use capm3_api::k8s::{ObjectMeta, OwnerReference, Time, Timestamp};
use capm3_api::names::{INFRA_API_VERSION, annotation, finalizer};
use capm3_api::{NamespacedRef, owner_reference};

use super::life::metal3_machine_of;
use super::message;

/// The list of indexes is written at most this often, so that a burst of claims costs one write.
const LIST_INTERVAL: Duration = Duration::from_secs(2);

/// On a claim whose Metal3Data was refused.
pub const CREATE_FAILED: &str = "Failed to create associated Metal3Data object";
/// On a claim whose Metal3Data could not be deleted.
pub const DELETE_FAILED: &str = "Failed to delete associated Metal3Data object";

/// Everything the decision looks at.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub now: Timestamp,
    /// `None` when there are claims but no template.
    pub template: Option<&'a Metal3DataTemplate>,
    /// Every claim in the namespace that names the template.
    pub claims: &'a [Claim],
    /// Every Metal3Data in the namespace that names the template, or is named as if it did.
    pub datas: &'a [Arc<Metal3Data>],
    /// Whether `datas` was read from the API server just now.
    pub live: bool,
}

/// A claim with what belongs to it.
#[derive(Clone, Debug)]
pub struct Claim {
    pub claim: Arc<Metal3DataClaim>,
    pub cluster: Option<Arc<Cluster>>,
    /// The Metal3Data that `status.renderedData` names.
    pub rendered: Option<Arc<Metal3Data>>,
}

/// What to do, in this order. The steps of one claim end at the first that fails; the other claims go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub adopt: bool,
    pub claims: Vec<ClaimPlan>,
    /// Claims wait for a live list of the Metal3Data before they may go: carry out the rest, list, decide again.
    pub look_live: bool,
    pub status: Option<Metal3DataTemplateStatus>,
    /// Take the template's finalizer away, unless a claim failed.
    pub leave: bool,
    pub next: Next,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClaimPlan {
    pub claim: Arc<Metal3DataClaim>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Put our finalizer on the claim.
    Hold,
    /// If the name is taken, look live: it may be our own from a pass whose answer was lost.
    Create(Box<Metal3Data>),
    Status(Metal3DataClaimStatus),
    /// Take our finalizer off a Metal3Data.
    LetGo(Arc<Metal3Data>),
    Delete(Arc<Metal3Data>),
    /// Take our finalizer off the claim.
    Free,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Claims and Metal3Data wake the template.
    Done,
    /// Nothing more before this much time has passed.
    After(Duration),
    Wait(Waiting),
    /// Told on the claim; a change of the claim brings the template back.
    Fail(String),
}

/// What ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Resume,
    ClusterResume,
    DataGone,
}

/// Carries on the claims of one template.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Plan {
    if observed.template.is_some_and(|template| has_annotation(&template.metadata, annotation::PAUSED)) {
        return Plan { next: Next::Wait(Waiting::Resume), ..Plan::nothing() };
    }
    let deleting = observed.template.is_some_and(|template| template.metadata.deletion_timestamp.is_some());
    let mut pass = Pass { observed, taken: taken(observed), plan: Plan::nothing(), problem: None };
    for claim in in_order(observed.claims) {
        pass.claim(claim, deleting);
    }
    let Pass { mut plan, problem, .. } = pass;

    let Some(template) = observed.template else {
        plan.next = problem.unwrap_or(Next::Done);
        return plan;
    };
    let held = has_finalizer(&template.metadata, finalizer::DATA_TEMPLATE);
    plan.adopt = !deleting && !held;
    let (status, later) = list_status(template, list(observed), observed.now);
    plan.status = status;
    plan.next = match problem {
        Some(problem) => problem,
        None if deleting && observed.claims.iter().any(|claim| keeps_template(&claim.claim)) => Next::Done,
        None if deleting && !observed.datas.is_empty() => Next::Wait(Waiting::DataGone),
        None if deleting => {
            plan.leave = held && !plan.look_live;
            Next::Done
        }
        None => later.map_or(Next::Done, Next::After),
    };
    plan
}

impl Plan {
    fn nothing() -> Self {
        Self { adopt: false, claims: Vec::new(), look_live: false, status: None, leave: false, next: Next::Done }
    }
}

struct Pass<'a> {
    observed: &'a Observed<'a>,
    /// Indexes that no new claim may get.
    taken: BTreeSet<i32>,
    plan: Plan,
    problem: Option<Next>,
}

impl Pass<'_> {
    fn claim(&mut self, seen: &Claim, template_deleting: bool) {
        let claim = &seen.claim;
        let steps = if claim.metadata.deletion_timestamp.is_some() {
            self.release(seen)
        } else if claim.status.as_ref().is_some_and(|status| status.rendered_data.is_some()) {
            return;
        } else if is_paused(seen) {
            self.problem.get_or_insert(Next::Wait(Waiting::ClusterResume));
            return;
        } else {
            self.answer(claim, template_deleting)
        };
        if !steps.is_empty() {
            self.plan.claims.push(ClaimPlan { claim: claim.clone(), steps });
        }
    }

    /// Finalizer, then the object, then the name of it.
    fn answer(&mut self, claim: &Arc<Metal3DataClaim>, template_deleting: bool) -> Vec<Step> {
        let Observed { namespace, name, .. } = *self.observed;
        let mut steps = Vec::new();
        if self.observed.template.is_some() && !has_finalizer(&claim.metadata, finalizer::DATA_CLAIM) {
            steps.push(Step::Hold);
        }
        let answered = self.observed.datas.iter().find(|data| {
            data.metadata.deletion_timestamp.is_none()
                && self.is_of(data)
                && claim_name(data) == claim.metadata.name.as_deref()
        });
        let rendered = if let Some(data) = answered {
            data.metadata.name.clone().unwrap_or_default()
        } else {
            let (problem, fails) = if self.observed.template.is_none() {
                (format!("Metal3DataTemplate {namespace}/{name} not found"), false)
            } else if template_deleting {
                (format!("Metal3DataTemplate {namespace}/{name} is being deleted"), false)
            } else if let Some(machine) = metal3_machine_of(claim) {
                let data = self.new_data(claim, machine);
                let rendered = data.metadata.name.clone().unwrap_or_default();
                steps.push(Step::Create(Box::new(data)));
                let rendered = NamespacedRef::new(namespace, &rendered);
                let status = Metal3DataClaimStatus { error_message: None, rendered_data: Some(rendered) };
                steps.push(Step::Status(status));
                return steps;
            } else {
                ("metal3Machine not found in owner references".to_owned(), true)
            };
            if fails {
                self.problem.get_or_insert(Next::Fail(problem.clone()));
            } else {
                steps.clear(); // nothing to hold the claim for
            }
            let status = Metal3DataClaimStatus { error_message: Some(message(&problem)), rendered_data: None };
            if claim.status.as_ref() != Some(&status) {
                steps.push(Step::Status(status));
            }
            return steps;
        };
        let rendered = NamespacedRef::new(namespace, &rendered);
        steps.push(Step::Status(Metal3DataClaimStatus { error_message: None, rendered_data: Some(rendered) }));
        steps
    }

    fn new_data(&mut self, claim: &Metal3DataClaim, machine: &OwnerReference) -> Metal3Data {
        let Observed { namespace, name, .. } = *self.observed;
        let index = (0..=i32::MAX).find(|index| !self.taken.contains(index)).unwrap_or(i32::MAX);
        self.taken.insert(index);
        let machine = OwnerReference {
            api_version: INFRA_API_VERSION.to_owned(),
            kind: Metal3Machine::KIND.to_owned(),
            name: machine.name.clone(),
            uid: machine.uid.clone(),
            ..OwnerReference::default()
        };
        let claim_name = claim.metadata.name.as_deref().unwrap_or_default();
        Metal3Data {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{index}")),
                namespace: Some(namespace.to_owned()),
                finalizers: Some(vec![finalizer::DATA_CLAIM.to_owned()]),
                labels: claim.metadata.labels.clone(),
                owner_references: Some(owner_reference(claim, true, false).into_iter().chain([machine]).collect()),
                ..ObjectMeta::default()
            },
            spec: Metal3DataSpec {
                index: Some(index),
                template: Some(NamespacedRef::new(namespace, name)),
                claim: Some(NamespacedRef::new(namespace, claim_name)),
                ..Metal3DataSpec::default()
            },
            status: None,
        }
    }

    /// Everything the claim was answered with, then the claim itself.
    fn release(&mut self, seen: &Claim) -> Vec<Step> {
        let claim = &seen.claim;
        let of_claim = self.observed.datas.iter().filter(|data| {
            self.is_of(data) && claim_name(data) == claim.metadata.name.as_deref() && may_release(data, claim)
        });
        // What is named may by now be the answer to another claim that got the index after us.
        let named = seen.rendered.iter().filter(|data| claim_name(data).is_none_or(|name| name == claim_name_of(claim)));
        // By name, so that an object found both ways is released once.
        let found: BTreeMap<_, _> = of_claim.chain(named).map(|data| (data.metadata.name.clone(), data)).collect();
        let held = has_finalizer(&claim.metadata, finalizer::DATA_CLAIM);
        if found.is_empty() && held && !self.observed.live {
            self.plan.look_live = true;
            return Vec::new();
        }
        let mut steps = Vec::new();
        for data in found.values() {
            if has_finalizer(&data.metadata, finalizer::DATA_CLAIM) {
                steps.push(Step::LetGo((*data).clone()));
            }
            if data.metadata.deletion_timestamp.is_none() {
                steps.push(Step::Delete((*data).clone()));
            }
        }
        if !held {
            return steps;
        }
        // A claim that ends with our finalizer needs no last words.
        let others = claim.metadata.finalizers.iter().flatten().any(|held| held != finalizer::DATA_CLAIM);
        if others {
            let lost = found.is_empty().then(|| not_found(self.observed.name, claim));
            steps.push(Step::Status(Metal3DataClaimStatus { error_message: lost, rendered_data: None }));
        }
        steps.push(Step::Free);
        steps
    }

    fn is_of(&self, data: &Metal3Data) -> bool {
        data.spec.template.as_ref().is_some_and(|template| template.name == self.observed.name)
    }
}

/// Whether an existing Metal3Data of the name we wanted to create is the one that answers `claim`.
#[must_use]
pub fn answers(data: &Metal3Data, claim: &Metal3DataClaim) -> bool {
    let uid = claim.metadata.uid.as_ref();
    data.metadata.deletion_timestamp.is_none()
        && claim_name(data) == claim.metadata.name.as_deref()
        && data.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid)
}

/// A live answer to another claim of the same name, seen by a cache that is ahead of the claims', is not ours to release.
fn may_release(data: &Metal3Data, claim: &Metal3DataClaim) -> bool {
    let mut owners = data.metadata.owner_references.iter().flatten().filter(|owner| owner.kind == Metal3DataClaim::KIND);
    data.metadata.deletion_timestamp.is_some()
        || owners.next().is_none_or(|owner| Some(&owner.uid) == claim.metadata.uid.as_ref())
}

fn claim_name_of(claim: &Metal3DataClaim) -> &str {
    claim.metadata.name.as_deref().unwrap_or_default()
}

fn not_found(template: &str, claim: &Metal3DataClaim) -> String {
    let rendered = claim.status.as_ref().and_then(|status| status.rendered_data.as_ref());
    let by_name = match rendered {
        Some(rendered) => format!("renderedData names {}, which does not exist", rendered.name),
        None => "renderedData names none".to_owned(),
    };
    let name = claim_name_of(claim);
    message(&format!("index of the claim was not found: no Metal3Data of {template} answers {name}, and {by_name}"))
}

/// By age, then name, so that indexes are handed out in the order of asking.
fn in_order(claims: &[Claim]) -> Vec<&Claim> {
    let mut claims: Vec<_> = claims.iter().collect();
    claims.sort_by_cached_key(|seen| {
        let meta = &seen.claim.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.name.clone())
    });
    claims
}

/// A claim that carries the annotation is paused only together with a Cluster that exists (D-31).
fn is_paused(seen: &Claim) -> bool {
    let annotated = has_annotation(&seen.claim.metadata, annotation::PAUSED);
    seen.cluster.as_ref().is_some_and(|cluster| annotated || cluster.spec.paused == Some(true))
}

fn keeps_template(claim: &Metal3DataClaim) -> bool {
    claim.metadata.deletion_timestamp.is_none() || has_finalizer(&claim.metadata, finalizer::DATA_CLAIM)
}

/// An index is free only when no object carries it, in its spec or in its name.
fn taken(observed: &Observed<'_>) -> BTreeSet<i32> {
    let in_name = |data: &Arc<Metal3Data>| -> Option<i32> {
        let (template, index) = data.metadata.name.as_deref()?.rsplit_once('-')?;
        (template == observed.name).then(|| index.parse().ok())?
    };
    let in_spec = |data: &Arc<Metal3Data>| {
        let template = data.spec.template.as_ref().filter(|template| template.name == observed.name);
        template.and(data.spec.index)
    };
    observed.datas.iter().flat_map(|data| [in_name(data), in_spec(data)]).flatten().collect()
}

/// What the status says, from the objects that are there (D-30).
fn list(observed: &Observed<'_>) -> Vec<IndexEntry> {
    let of_template =
        |data: &&Arc<Metal3Data>| data.spec.template.as_ref().is_some_and(|template| template.name == observed.name);
    let entry = |data: &Arc<Metal3Data>| {
        Some(IndexEntry { index: data.spec.index?, name: claim_name(data).filter(|name| !name.is_empty())?.to_owned() })
    };
    let mut entries: Vec<_> = observed.datas.iter().filter(of_template).filter_map(entry).collect();
    entries.sort_by(|a, b| a.index.cmp(&b.index).then_with(|| a.name.cmp(&b.name)));
    entries.dedup_by_key(|entry| entry.index); // the list is keyed by index
    entries
}

/// The status to write, or how long to hold it back; neither when the list is as it should be (HD-9).
fn list_status(
    template: &Metal3DataTemplate,
    indexes: Vec<IndexEntry>,
    now: Timestamp,
) -> (Option<Metal3DataTemplateStatus>, Option<Duration>) {
    let written = template.status.as_ref();
    let last_updated = written.and_then(|status| status.last_updated.as_ref()).map(|time| time.0);
    if let Some(last) = last_updated {
        if written.is_some_and(|status| status.indexes == indexes) {
            return (None, None);
        }
        let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        if let Some(rest) = LIST_INTERVAL.checked_sub(age).filter(|rest| !rest.is_zero()) {
            return (None, Some(rest));
        }
    }
    (Some(Metal3DataTemplateStatus { indexes, last_updated: Some(Time(now)) }), None)
}

fn claim_name(data: &Metal3Data) -> Option<&str> {
    data.spec.claim.as_ref().map(|claim| claim.name.as_str())
}

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|held| held == name)
}

fn has_annotation(meta: &ObjectMeta, name: &str) -> bool {
    meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(name))
}
