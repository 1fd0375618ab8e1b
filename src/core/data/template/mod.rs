//! Answers of a data template to the claims on it: which claim gets which index, and what a claim leaves behind.
//!
//! The Metal3Data objects are the truth about indexes; the list in the template's status is for people. An index is taken
//! by creating `<template>-<index>`: who creates the object owns the index, and a name that exists means deciding again.
//! One claim that cannot be served stands in nobody's way. A claim's finalizer goes last, after the Metal3Data it was
//! answered with has been let go of and deleted.
//!
//! Rules: docs/spec/data-rendering.md D-27 to D-39 with hazards HD-5 to HD-12 adopted.

mod answer;
mod list;
mod release;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use capm3_api::NamespacedRef;
use capm3_api::foreign::Cluster;
use capm3_api::infra::v1beta2::{
    Metal3Data, Metal3DataClaim, Metal3DataClaimStatus, Metal3DataTemplate, Metal3DataTemplateStatus,
};
use capm3_api::k8s::{ObjectMeta, OwnerReference, Timestamp};
use capm3_api::names::{annotation, finalizer, reason};

use self::answer::taken;
use self::list::{list, list_status, settling};
use crate::conditions::Summary;
use crate::ready;

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
    /// The claims in the namespace that name the template: those that are not answered or being deleted, and all of them
    /// when the template is being deleted.
    pub claims: &'a [Claim],
    /// Every Metal3Data in the namespace that names the template, or is named as if it did.
    pub datas: &'a [Arc<Metal3Data>],
    /// Whether `datas` was read from the API server just now.
    pub live: bool,
    /// Those of `datas` that nobody wants, by a live look at the claim of each: see [`is_stray`].
    pub strays: &'a [Arc<Metal3Data>],
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
    /// Let go of these and delete them.
    pub strays: Vec<Arc<Metal3Data>>,
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

/// The templates, by name, that have to know about a Metal3Data: the one it is of and the one whose index its name takes.
#[must_use]
pub fn templates_of(data: &Metal3Data) -> BTreeSet<&str> {
    let named = data.spec.template.as_ref().map(|template| template.name.as_str());
    let in_name = data.metadata.name.as_deref().and_then(|name| name.rsplit_once('-'));
    let in_name = in_name.filter(|(_, index)| index.parse::<i32>().is_ok()).map(|(template, _)| template);
    named.into_iter().chain(in_name).filter(|name| !name.is_empty()).collect()
}

/// Whether a Metal3Data is held or there for nobody: the claim that it was made for is gone, or was answered with another. A create
/// cannot be tied to the claim's version, so of two managers, or of one that was stopped in the middle of a request, each may make
/// one; the claim's status, under its version, says which counts.
#[must_use]
pub fn is_stray(data: &Metal3Data, claim: Option<&Metal3DataClaim>) -> bool {
    let leaving = data.metadata.deletion_timestamp.is_some();
    let kept = has_finalizer(&data.metadata, finalizer::DATA_CLAIM) || !leaving;
    if !kept || has_annotation(&data.metadata, annotation::PAUSED) {
        return false;
    }
    let Some(made_for) = claim_owner(data) else {
        // Moved, or restored: its owners may be on their way, unless it leaves as well.
        return leaving && claim.is_none();
    };
    let Some(claim) = claim else { return true };
    let rendered = claim.status.as_ref().and_then(|status| status.rendered_data.as_ref());
    match rendered {
        Some(rendered) => Some(&rendered.name) != data.metadata.name.as_ref(),
        None => Some(&made_for.uid) != claim.metadata.uid.as_ref(),
    }
}

fn claim_owner(data: &Metal3Data) -> Option<&OwnerReference> {
    data.metadata.owner_references.iter().flatten().find(|owner| owner.kind == Metal3DataClaim::KIND)
}

/// Carries on the claims of one template.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Plan {
    if observed.template.is_some_and(|template| has_annotation(&template.metadata, annotation::PAUSED)) {
        return Plan { next: Next::Wait(Waiting::Resume), ..Plan::nothing() };
    }
    let deleting = observed.template.is_some_and(|template| template.metadata.deletion_timestamp.is_some());
    let mut pass = Pass::new(observed);
    for claim in in_order(observed.claims) {
        pass.claim(claim, deleting);
    }
    let Pass { mut plan, problem, .. } = pass;
    plan.strays = observed.strays.to_vec();

    let Some(template) = observed.template else {
        plan.next = problem.unwrap_or(Next::Done);
        return plan;
    };
    let held = has_finalizer(&template.metadata, finalizer::DATA_TEMPLATE);
    plan.adopt = !deleting && !held;
    let (status, later) = match settling(observed, template) {
        Some(rest) => (None, Some(rest)),
        None => list_status(template, list(observed), observed.now),
    };
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
        let (claims, strays) = (Vec::new(), Vec::new());
        Self { adopt: false, claims, strays, look_live: false, status: None, leave: false, next: Next::Done }
    }
}

struct Pass<'a> {
    observed: &'a Observed<'a>,
    /// The template's Metal3Data by the name of the claim they answer.
    by_claim: BTreeMap<&'a str, Vec<&'a Arc<Metal3Data>>>,
    /// Indexes that no new claim may get.
    taken: BTreeSet<i32>,
    /// Below it no index is free.
    lowest: i32,
    plan: Plan,
    problem: Option<Next>,
}

impl<'a> Pass<'a> {
    fn new(observed: &'a Observed<'a>) -> Self {
        let mut by_claim = BTreeMap::<_, Vec<_>>::new();
        for data in observed.datas.iter().filter(|data| is_of(data, observed.name)) {
            by_claim.entry(claim_name(data).unwrap_or_default()).or_default().push(data);
        }
        Self { observed, by_claim, taken: taken(observed), lowest: 0, plan: Plan::nothing(), problem: None }
    }

    fn of_claim(&self, claim: &Metal3DataClaim) -> impl Iterator<Item = &'a Arc<Metal3Data>> {
        self.by_claim.get(claim_name_of(claim)).into_iter().flatten().copied()
    }

    fn claim(&mut self, seen: &Claim, template_deleting: bool) {
        let claim = &seen.claim;
        let steps = if claim.metadata.deletion_timestamp.is_some() {
            self.release(seen)
        } else if let Some(rendered) = claim.status.as_ref().and_then(|status| status.rendered_data.clone()) {
            // Answered for good; only who reads generations may still have to be told.
            if is_told(claim) { Vec::new() } else { vec![Step::Status(answered_with(rendered))] }
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
}

fn answered_with(rendered: NamespacedRef) -> Metal3DataClaimStatus {
    Metal3DataClaimStatus { rendered_data: Some(rendered), ..Metal3DataClaimStatus::default() }
}

fn unanswered(error_message: Option<String>) -> Metal3DataClaimStatus {
    Metal3DataClaimStatus { error_message, ..Metal3DataClaimStatus::default() }
}

/// Whether the claim's status is about the claim as it is now.
#[must_use]
pub fn is_told(claim: &Metal3DataClaim) -> bool {
    let observed = claim.status.as_ref().and_then(|status| status.observed_generation);
    !ready::is_stale(&claim.metadata, observed)
}

/// `bare` with what it means for who knows nothing of claims: ready is who has a Metal3Data.
#[must_use]
pub fn claim_status(claim: &Metal3DataClaim, bare: Metal3DataClaimStatus, now: Timestamp) -> Metal3DataClaimStatus {
    let ready = match (&bare.rendered_data, &bare.error_message) {
        (Some(_), _) => Summary::ready(),
        (None, error) => Summary::not_ready(reason::WAITING_FOR_DATA, error.clone().unwrap_or_default()),
    };
    ready::tell(&claim.metadata, claim.status.as_ref(), bare, &ready, now)
}

fn is_of(data: &Metal3Data, template: &str) -> bool {
    data.spec.template.as_ref().is_some_and(|named| named.name == template)
}

/// Whether an existing Metal3Data of the name we wanted to create is the one that answers `claim`.
#[must_use]
pub fn answers(data: &Metal3Data, claim: &Metal3DataClaim) -> bool {
    let uid = claim.metadata.uid.as_ref();
    data.metadata.deletion_timestamp.is_none()
        && claim_name(data) == claim.metadata.name.as_deref()
        && data.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid)
}

fn claim_name_of(claim: &Metal3DataClaim) -> &str {
    claim.metadata.name.as_deref().unwrap_or_default()
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

fn claim_name(data: &Metal3Data) -> Option<&str> {
    data.spec.claim.as_ref().map(|claim| claim.name.as_str())
}

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|held| held == name)
}

fn has_annotation(meta: &ObjectMeta, name: &str) -> bool {
    meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(name))
}
