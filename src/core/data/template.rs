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
use capm3_api::names::{INFRA_API_VERSION, annotation, finalizer, reason, secret};
use capm3_api::{NamespacedRef, SecretRef, owner_reference};

use super::life::metal3_machine_of;
use super::message;
use crate::conditions::Summary;
use crate::ready::{self, Told};

/// The list of indexes is written at most this often, and not before nothing new has come for so long: a burst of claims costs
/// one write.
const LIST_INTERVAL: Duration = Duration::from_secs(2);
/// Who keeps on coming is listed after this time.
const LONGEST_BURST: Duration = Duration::from_secs(10);

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

/// The templates, by name, that have to know about a Metal3Data: the one it is of and the one whose index its name takes.
#[must_use]
pub fn templates_of(data: &Metal3Data) -> BTreeSet<&str> {
    let named = data.spec.template.as_ref().map(|template| template.name.as_str());
    let in_name = data.metadata.name.as_deref().and_then(|name| name.rsplit_once('-'));
    let in_name = in_name.filter(|(_, index)| index.parse::<i32>().is_ok()).map(|(template, _)| template);
    named.into_iter().chain(in_name).filter(|name| !name.is_empty()).collect()
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
        Self { adopt: false, claims: Vec::new(), look_live: false, status: None, leave: false, next: Next::Done }
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

    /// Finalizer, then the object, then the name of it.
    fn answer(&mut self, claim: &Arc<Metal3DataClaim>, template_deleting: bool) -> Vec<Step> {
        let Observed { namespace, name, .. } = *self.observed;
        let mut steps = Vec::new();
        if self.observed.template.is_some() && !has_finalizer(&claim.metadata, finalizer::DATA_CLAIM) {
            steps.push(Step::Hold);
        }
        let answered = self.of_claim(claim).find(|data| data.metadata.deletion_timestamp.is_none());
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
                steps.push(Step::Status(answered_with(rendered)));
                return steps;
            } else {
                ("metal3Machine not found in owner references".to_owned(), true)
            };
            if fails {
                self.problem.get_or_insert(Next::Fail(problem.clone()));
            } else {
                steps.clear(); // nothing to hold the claim for
            }
            let status = unanswered(Some(message(&problem)));
            if claim.status.as_ref().map(Told::bare).as_ref() != Some(&status) {
                steps.push(Step::Status(status));
            }
            if !fails && has_finalizer(&claim.metadata, finalizer::DATA_CLAIM) {
                steps.push(Step::Free);
            }
            return steps;
        };
        let rendered = NamespacedRef::new(namespace, &rendered);
        steps.push(Step::Status(answered_with(rendered)));
        steps
    }

    fn new_data(&mut self, claim: &Metal3DataClaim, machine: &OwnerReference) -> Metal3Data {
        let Observed { namespace, name, .. } = *self.observed;
        let index = (self.lowest..=i32::MAX).find(|index| !self.taken.contains(index)).unwrap_or(i32::MAX);
        self.lowest = index.saturating_add(1);
        let renders = self.observed.template.map(|template| &template.spec);
        let secret = |suffix| SecretRef::new(namespace, &format!("{}{suffix}", machine.name));
        let meta_data = renders.and_then(|spec| spec.meta_data.as_ref()).map(|_| secret(secret::META_DATA_SUFFIX));
        let network_data = renders.and_then(|spec| spec.network_data.as_ref());
        let network_data = network_data.map(|_| secret(secret::NETWORK_DATA_SUFFIX));
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
                // With what rendering would put there first: its finalizer, and below the names of the Secrets.
                finalizers: Some(vec![finalizer::DATA_CLAIM.to_owned(), finalizer::DATA.to_owned()]),
                labels: claim.metadata.labels.clone(),
                owner_references: Some(owner_reference(claim, true, false).into_iter().chain([machine]).collect()),
                ..ObjectMeta::default()
            },
            spec: Metal3DataSpec {
                index: Some(index),
                template: Some(NamespacedRef::new(namespace, name)),
                claim: Some(NamespacedRef::new(namespace, claim_name)),
                meta_data,
                network_data,
            },
            status: None,
        }
    }

    /// Everything the claim was answered with, then the claim itself.
    fn release(&mut self, seen: &Claim) -> Vec<Step> {
        let claim = &seen.claim;
        let of_claim = self.of_claim(claim).filter(|data| may_release(data, claim));
        // What is named may by now be the answer to another claim that got the index after us.
        let named =
            seen.rendered.iter().filter(|data| claim_name(data).is_none_or(|name| name == claim_name_of(claim)));
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
            steps.push(Step::Status(unanswered(lost)));
        }
        steps.push(Step::Free);
        steps
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

/// A live answer to another claim of the same name, seen by a cache that is ahead of the claims', is not ours to release.
fn may_release(data: &Metal3Data, claim: &Metal3DataClaim) -> bool {
    let mut owners =
        data.metadata.owner_references.iter().flatten().filter(|owner| owner.kind == Metal3DataClaim::KIND);
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
    let of_template = |data: &&Arc<Metal3Data>| is_of(data, observed.name);
    let entry = |data: &Arc<Metal3Data>| {
        Some(IndexEntry { index: data.spec.index?, name: claim_name(data).filter(|name| !name.is_empty())?.to_owned() })
    };
    let mut entries: Vec<_> = observed.datas.iter().filter(of_template).filter_map(entry).collect();
    entries.sort_by(|a, b| a.index.cmp(&b.index).then_with(|| a.name.cmp(&b.name)));
    entries.dedup_by_key(|entry| entry.index); // the list is keyed by index
    entries
}

/// How long to hold the list back for those who may come right after the ones that have just come.
fn settling(observed: &Observed<'_>, template: &Metal3DataTemplate) -> Option<Duration> {
    let listed = template.status.as_ref()?; // the first word about a template is for itself
    listed.last_updated.as_ref()?;
    let new = |data: &&Arc<Metal3Data>| {
        is_of(data, observed.name) && listed.indexes.iter().all(|entry| Some(entry.index) != data.spec.index)
    };
    let created = observed.datas.iter().filter(new).filter_map(|data| data.metadata.creation_timestamp.as_ref());
    let ages: Vec<_> =
        created.map(|created| Duration::try_from(observed.now.duration_since(created.0)).unwrap_or_default()).collect();
    let (newest, oldest) = (ages.iter().min()?, ages.iter().max()?);
    LIST_INTERVAL.checked_sub(*newest).filter(|rest| !rest.is_zero() && *oldest < LONGEST_BURST)
}

/// The status to write, or how long to hold it back; neither when the list is as it should be (HD-9).
fn list_status(
    template: &Metal3DataTemplate,
    indexes: Vec<IndexEntry>,
    now: Timestamp,
) -> (Option<Metal3DataTemplateStatus>, Option<Duration>) {
    let written = template.status.as_ref();
    let last_updated = written.and_then(|status| status.last_updated.as_ref()).map(|time| time.0);
    let told = |bare| ready::tell(&template.metadata, written, bare, &Summary::ready(), now);
    if let (Some(last), Some(written)) = (last_updated, written) {
        if written.indexes == indexes {
            let status = told(written.bare());
            return ((status != *written).then_some(status), None);
        }
        let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        if let Some(rest) = LIST_INTERVAL.checked_sub(age).filter(|rest| !rest.is_zero()) {
            return (None, Some(rest));
        }
    }
    let bare =
        Metal3DataTemplateStatus { indexes, last_updated: Some(Time(now)), ..Metal3DataTemplateStatus::default() };
    (Some(told(bare)), None)
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::{self, M3M, NS, TEMPLATE, at, deleting, infra_owner, object};
    use super::*;

    /// The objects around one template; [`World::carry_out`] does what a plan says, as the API server would.
    struct World {
        template: Option<Metal3DataTemplate>,
        claims: Vec<Claim>,
        datas: Vec<Arc<Metal3Data>>,
        now: i64,
        live: bool,
    }

    fn world() -> World {
        let status = json!({"lastUpdated": "1970-01-01T00:00:00Z"});
        let metadata = json!({"finalizers": [finalizer::DATA_TEMPLATE]});
        let template = object(TEMPLATE, json!({"metadata": metadata, "status": status}));
        World { template: Some(template), claims: Vec::new(), datas: Vec::new(), now: 100, live: false }
    }

    fn index_of(template: &str, index: i32) -> String {
        format!("{template}-{index}")
    }

    /// A Metal3Data of the template that answers `claim`.
    fn data(index: i32, claim: &str) -> Metal3Data {
        object(
            &index_of(TEMPLATE, index),
            json!({
                "metadata": {"finalizers": [finalizer::DATA_CLAIM], "ownerReferences": [infra_owner("Metal3DataClaim", claim)]},
                "spec": {"index": index, "template": {"name": TEMPLATE}, "claim": {"name": claim}},
            }),
        )
    }

    fn claim(name: &str, change: impl FnOnce(&mut Metal3DataClaim)) -> Claim {
        let mut claim = fixture::claim(name);
        change(&mut claim);
        Claim { claim: Arc::new(claim), cluster: None, rendered: None }
    }

    fn gone(claim: &mut Metal3DataClaim) {
        deleting(&mut claim.metadata);
        claim.metadata.finalizers = Some(vec![finalizer::DATA_CLAIM.to_owned()]);
    }

    fn rendered(name: &str) -> Option<Metal3DataClaimStatus> {
        Some(answered_with(NamespacedRef::new(NS, name)))
    }

    impl World {
        fn with(mut self, claims: Vec<Claim>, datas: Vec<Metal3Data>) -> Self {
            self.claims = claims;
            self.datas = datas.into_iter().map(Arc::new).collect();
            self
        }

        fn decide(&self) -> Plan {
            decide(&Observed {
                namespace: NS,
                name: TEMPLATE,
                now: at(self.now),
                template: self.template.as_ref(),
                claims: &self.claims,
                datas: &self.datas,
                live: self.live,
            })
        }

        fn carry_out(&mut self, plan: &Plan) {
            for ClaimPlan { claim, steps } in &plan.claims {
                let of_plan = |seen: &&mut Claim| seen.claim.metadata.name == claim.metadata.name;
                for step in steps {
                    let seen = self.claims.iter_mut().find(of_plan).unwrap();
                    let changed = Arc::make_mut(&mut seen.claim);
                    match step {
                        Step::Hold => {
                            changed.metadata.finalizers.get_or_insert_default().push(finalizer::DATA_CLAIM.to_owned());
                        }
                        Step::Create(data) => {
                            let mut data = Metal3Data::clone(data);
                            data.metadata.uid = data.metadata.name.clone();
                            self.datas.push(Arc::new(data));
                        }
                        Step::Status(status) => changed.status = Some(status.clone()),
                        Step::LetGo(_) => {}
                        Step::Delete(data) => self.datas.retain(|other| other != data),
                        Step::Free => {
                            changed
                                .metadata
                                .finalizers
                                .iter_mut()
                                .for_each(|all| all.retain(|f| f != finalizer::DATA_CLAIM));
                        }
                    }
                }
            }
            self.claims.retain(|seen| {
                let meta = &seen.claim.metadata;
                meta.deletion_timestamp.is_none() || meta.finalizers.iter().flatten().next().is_some()
            });
            if let (Some(template), Some(status)) = (&mut self.template, &plan.status) {
                template.status = Some(status.clone());
            }
        }

        /// Passes until nothing is left to do; every pass is later than the one before.
        fn settle(&mut self) -> Plan {
            for _ in 0..10 {
                let plan = self.decide();
                if plan.claims.is_empty() && plan.status.is_none() {
                    return plan;
                }
                self.carry_out(&plan);
                self.now += 10;
            }
            panic!("does not settle: {:?}", self.decide());
        }

        fn indexes(&self) -> Vec<(&str, i32)> {
            let status = self.template.as_ref().unwrap().status.as_ref().unwrap();
            status.indexes.iter().map(|entry| (entry.name.as_str(), entry.index)).collect()
        }

        fn answer_to(&self, claim: &str) -> Option<String> {
            let seen = self.claims.iter().find(|seen| seen.claim.metadata.name.as_deref() == Some(claim)).unwrap();
            Some(seen.claim.status.as_ref()?.rendered_data.as_ref()?.name.clone())
        }
    }

    fn steps_of(plan: &Plan) -> &[Step] {
        let [ClaimPlan { steps, .. }] = &plan.claims[..] else { panic!("{:?}", plan.claims) };
        steps
    }

    fn message_of(steps: &[Step]) -> &str {
        let status = steps.iter().find_map(|step| match step {
            Step::Status(status) => Some(status),
            Step::Hold | Step::Create(_) | Step::LetGo(_) | Step::Delete(_) | Step::Free => None,
        });
        status.unwrap().error_message.as_deref().unwrap()
    }

    #[test]
    fn td_21_an_unused_template_gets_finalizer_and_time() {
        let mut world = world();
        world.template = Some(object(TEMPLATE, json!({})));
        let plan = world.decide();
        assert!(plan.adopt);
        let status = plan.status.unwrap();
        assert_eq!((status.indexes.len(), &status.last_updated), (0, &Some(Time(at(100)))));
        assert_eq!((status.conditions[0].type_.as_str(), status.conditions[0].status.as_str()), ("Ready", "True"));
    }

    #[test]
    fn td_22_td_126_the_list_shows_this_template_s_data_only() {
        let other = |name: &str, template: Value, index: Value| {
            object(name, json!({"spec": {"index": index, "template": template, "claim": {"name": "other"}}}))
        };
        let mut world = world().with(
            vec![],
            vec![
                data(0, "C"),
                other("a", json!({"name": "bbc"}), json!(1)),
                other("b", json!({"name": ""}), json!(2)),
                other("c", json!({"namespace": "abc"}), json!(3)),
                other("d", json!({"name": TEMPLATE}), Value::Null),
            ],
        );
        world.settle();
        assert_eq!(world.indexes(), [("C", 0)]);
    }

    /// The row's claims of one template; its odd one out is the Metal3Data whose name and index disagree.
    #[test]
    fn td_23_a_pass_recovers_and_releases() {
        let mut odd = data(40, "deleting-claim-missmatch-name");
        odd.metadata.name = Some("cdc-3".to_owned());
        let release = |name: &str, data: &Metal3Data| {
            let mut seen = claim(name, |claim| {
                gone(claim);
                claim.status = rendered(data.metadata.name.as_deref().unwrap());
            });
            seen.rendered = Some(Arc::new(data.clone()));
            seen
        };
        let last = data(3, "deleting-claim");
        let mut world = world().with(
            vec![
                claim("claim-without-status", |_| {}),
                claim("claim-with-status", |claim| claim.status = rendered(&index_of(TEMPLATE, 1))),
                release("deleting-claim", &last),
                release("deleting-claim-missmatch-name", &odd),
            ],
            vec![data(0, "claim-without-status"), data(1, "claim-with-status"), last, odd],
        );
        world.settle();
        assert_eq!(world.answer_to("claim-without-status"), Some(index_of(TEMPLATE, 0)));
        assert_eq!(world.indexes(), [("claim-without-status", 0), ("claim-with-status", 1)]);
        assert_eq!((world.datas.len(), world.claims.len()), (2, 2));
    }

    #[test]
    fn td_24_clusters_share_the_indexes_of_a_template() {
        let mut world = world().with(
            vec![claim("cluster-a-claim-1", |_| {})],
            vec![data(0, "cluster-a-claim-0"), data(1, "cluster-b-claim-0")],
        );
        world.settle();
        assert_eq!(world.answer_to("cluster-a-claim-1"), Some(index_of(TEMPLATE, 2)));
        assert_eq!(world.indexes().iter().map(|(_, index)| *index).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn td_25_a_claim_of_a_paused_cluster_waits() {
        let pausing = |annotated: bool, cluster: Option<bool>| {
            let mut seen = claim("c", |claim| {
                let mark = annotated.then(|| BTreeMap::from([(annotation::PAUSED.to_owned(), String::new())]));
                claim.metadata.annotations = mark;
            });
            seen.cluster = cluster.map(|paused| Arc::new(object("c", json!({"spec": {"paused": paused}}))));
            world().with(vec![seen], vec![]).decide()
        };
        for plan in [pausing(false, Some(true)), pausing(true, Some(false))] {
            assert_eq!((plan.claims, plan.next), (Vec::new(), Next::Wait(Waiting::ClusterResume)));
        }
        for plan in [pausing(true, None), pausing(false, Some(false))] {
            assert_eq!(plan.claims.len(), 1);
        }
    }

    #[test]
    fn td_26_an_answer_that_was_forgotten_is_found_again() {
        let plan = world().with(vec![claim("C", |_| {})], vec![data(0, "C")]).decide();
        assert_eq!(steps_of(&plan), [Step::Hold, Step::Status(rendered(&index_of(TEMPLATE, 0)).unwrap())]);
    }

    #[test]
    fn td_27_the_first_index_and_who_owns_it() {
        let plan = world().with(vec![claim("C", |_| {})], vec![]).decide();
        let [Step::Hold, Step::Create(made), Step::Status(status)] = steps_of(&plan) else { panic!("{plan:?}") };
        assert_eq!(Some(status.clone()), rendered(&index_of(TEMPLATE, 0)));
        assert_eq!(
            serde_json::to_value(made).unwrap(),
            json!({
                "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2",
                "kind": "Metal3Data",
                "metadata": {
                    "name": index_of(TEMPLATE, 0),
                    "namespace": NS,
                    "finalizers": [
                        "metal3dataclaim.infrastructure.cluster.x-k8s.io", "metal3data.infrastructure.cluster.x-k8s.io",
                    ],
                    "labels": {"cluster.x-k8s.io/cluster-name": fixture::CLUSTER},
                    "ownerReferences": [
                        {"apiVersion": INFRA_API_VERSION, "kind": "Metal3DataClaim", "name": "C", "uid": "uid-C", "controller": true},
                        {"apiVersion": INFRA_API_VERSION, "kind": "Metal3Machine", "name": M3M, "uid": format!("uid-{M3M}")},
                    ],
                },
                "spec": {
                    "index": 0,
                    "template": {"name": TEMPLATE, "namespace": NS},
                    "claim": {"name": "C", "namespace": NS},
                },
            })
        );
    }

    /// A claim is made with our finalizer on it; where nobody is there to answer it must be able to go by itself.
    #[test]
    fn a_claim_on_a_template_that_does_not_exist_is_not_held() {
        let made_with = [finalizer::MACHINE, finalizer::DATA_CLAIM].map(str::to_owned);
        let held = claim("C", |claim| claim.metadata.finalizers = Some(made_with.into()));
        let mut world = world().with(vec![held], vec![]);
        world.template = None;
        let plan = world.decide();
        assert!(matches!(steps_of(&plan)[..], [Step::Status(_), Step::Free]), "{plan:?}");
    }

    #[test]
    fn an_answer_names_its_secrets_so_that_rendering_need_not_write_them_first() {
        let names = |template: Value| {
            let mut world = world().with(vec![claim("C", |_| {})], vec![]);
            world.template.as_mut().unwrap().spec = serde_json::from_value(template).unwrap();
            let plan = world.decide();
            let Step::Create(made) = &steps_of(&plan)[1] else { panic!("{plan:?}") };
            let name = |reference: &Option<SecretRef>| reference.as_ref().map(|reference| reference.name.clone());
            (name(&made.spec.meta_data), name(&made.spec.network_data))
        };
        let secret = |suffix: &str| Some(format!("{M3M}-{suffix}"));
        assert_eq!(names(json!({"metaData": {}, "networkData": {}})), (secret("metadata"), secret("networkdata")));
        assert_eq!(names(json!({"networkData": {}})), (None, secret("networkdata")));
        assert_eq!(names(json!({})), (None, None));
    }

    #[test]
    fn td_28_td_29_the_lowest_free_index_is_taken() {
        for (taken, expected) in [(vec![0], 1), (vec![0, 2, 3], 1), (vec![1], 0)] {
            let datas = taken.iter().map(|index| data(*index, &format!("other-{index}"))).collect();
            let mut world = world().with(vec![claim("C", |_| {})], datas);
            world.settle();
            assert_eq!(world.answer_to("C"), Some(index_of(TEMPLATE, expected)));
            assert!(world.indexes().is_sorted_by_key(|(_, index)| *index));
        }
    }

    /// Made by hand, of no template: its name is taken all the same. A name that no cache shows is a race that `apply` loses.
    #[test]
    fn td_30_a_name_that_is_taken_is_not_tried() {
        let by_hand = object(&index_of(TEMPLATE, 0), json!({}));
        let plan = world().with(vec![claim("C", |_| {})], vec![by_hand]).decide();
        assert!(matches!(&steps_of(&plan)[1], Step::Create(data) if data.spec.index == Some(1)));
    }

    #[test]
    fn td_30_only_the_own_answer_counts_as_created() {
        let mine = fixture::claim("C");
        assert!(answers(&data(0, "C"), &mine));
        assert!(!answers(&data(0, "D"), &mine));
        let mut earlier = data(0, "C");
        earlier.metadata.owner_references = fixture::owned_by("earlier");
        assert!(!answers(&earlier, &mine));
    }

    #[test]
    fn td_31_td_32_a_claim_that_was_never_answered_goes_after_a_live_look() {
        let held_by_machine = claim("TestRef", |claim| {
            gone(claim);
            claim.metadata.finalizers.as_mut().unwrap().push(finalizer::MACHINE.to_owned());
        });
        let mut world = world().with(vec![held_by_machine], vec![data(1, "bcd")]);
        let plan = world.decide();
        assert!(plan.look_live && plan.claims.is_empty());
        world.live = true;
        let plan = world.decide();
        assert!(message_of(steps_of(&plan)).starts_with("index of the claim was not found"));
        assert_eq!(steps_of(&plan).last(), Some(&Step::Free));
        world.settle();
        assert_eq!(world.indexes(), [("bcd", 1)]);
    }

    #[test]
    fn td_33_the_answer_is_let_go_and_deleted_before_the_claim_is_free() {
        let answer = Arc::new(data(0, "TestRef"));
        let plan = world().with(vec![claim("TestRef", gone)], vec![data(0, "TestRef")]).decide();
        assert_eq!(steps_of(&plan), [Step::LetGo(answer.clone()), Step::Delete(answer), Step::Free]);
    }

    #[test]
    fn td_34_an_answer_known_by_name_only_is_deleted() {
        let mut seen = claim("TestRef", |claim| {
            gone(claim);
            claim.status = rendered("error-42");
        });
        let named: Metal3Data = object("error-42", json!({}));
        seen.rendered = Some(Arc::new(named.clone()));
        let plan = world().with(vec![seen.clone()], vec![]).decide();
        assert_eq!(steps_of(&plan), [Step::Delete(Arc::new(named)), Step::Free]);
        // By now it answers another claim, which got the index after us.
        seen.rendered = Some(Arc::new(data(0, "another")));
        let mut world = world().with(vec![seen], vec![]);
        world.live = true;
        assert_eq!(steps_of(&world.decide()), [Step::Free]);
    }

    #[test]
    fn td_40_a_paused_template_does_nothing() {
        let mut world = world().with(vec![claim("C", |_| {})], vec![]);
        world.template = Some(object(TEMPLATE, json!({"metadata": {"annotations": {annotation::PAUSED: ""}}})));
        assert_eq!(world.decide(), Plan { next: Next::Wait(Waiting::Resume), ..Plan::nothing() });
    }

    fn departing() -> World {
        let mut world = world();
        deleting(&mut world.template.as_mut().unwrap().metadata);
        world
    }

    #[test]
    fn td_41_td_42_td_43_a_template_leaves_last() {
        assert!(departing().decide().leave);
        let plan = departing().with(vec![claim("C", |claim| claim.status = rendered("x"))], vec![]).decide();
        assert_eq!((plan.leave, plan.next), (false, Next::Done));
        let plan = departing().with(vec![], vec![data(0, "C")]).decide();
        assert_eq!((plan.leave, plan.next), (false, Next::Wait(Waiting::DataGone)));
    }

    #[test]
    fn td_124_one_bad_claim_is_told_and_the_others_are_served() {
        let older = claim("older", |claim| {
            claim.metadata.creation_timestamp = Some(Time(at(1)));
            claim.metadata.owner_references = None;
        });
        let newer = claim("newer", |claim| claim.metadata.creation_timestamp = Some(Time(at(2))));
        let mut world = world().with(vec![newer, older], vec![]);
        let plan = world.decide();
        let problem = "metal3Machine not found in owner references";
        assert_eq!(plan.next, Next::Fail(problem.to_owned()));
        assert_eq!(message_of(&plan.claims[0].steps), problem);
        world.settle();
        assert_eq!((world.answer_to("newer"), world.answer_to("older")), (Some(index_of(TEMPLATE, 0)), None));
    }

    #[test]
    fn hd_7_indexes_are_given_in_the_order_of_asking() {
        let asked =
            |name: &str, second: i64| claim(name, |claim| claim.metadata.creation_timestamp = Some(Time(at(second))));
        let mut world = world().with(vec![asked("b", 2), asked("c", 1), asked("a", 2)], vec![]);
        world.settle();
        assert_eq!(world.indexes(), [("c", 0), ("a", 1), ("b", 2)]);
    }

    /// TD-125 has no template in its claim: such a claim is never gathered.
    #[test]
    fn td_127_a_pass_over_a_settled_template_writes_nothing() {
        let mut world = world().with(vec![claim("C", |_| {})], vec![]);
        let plan = world.settle();
        assert_eq!(plan, Plan::nothing());
    }

    #[test]
    fn hd_9_the_list_of_a_burst_is_written_once() {
        let mut world = world().with(vec![], vec![data(0, "C")]);
        world.template.as_mut().unwrap().status.as_mut().unwrap().last_updated = Some(Time(at(99)));
        let plan = world.decide();
        assert_eq!((plan.status, plan.next), (None, Next::After(Duration::from_secs(1))));
        world.now = 101;
        assert!(world.decide().status.is_some());
    }

    #[test]
    fn hd_9_who_comes_right_after_another_is_listed_with_it() {
        let born = |index: i32, second: i64| {
            let mut data = data(index, &format!("C{index}"));
            data.metadata.creation_timestamp = Some(Time(at(second)));
            data
        };
        let world = |second: i64, all: Vec<Metal3Data>| World { now: second, ..world().with(vec![], all) }.decide();
        let plan = world(101, vec![born(0, 100)]);
        assert_eq!((plan.status, plan.next), (None, Next::After(Duration::from_secs(1))));
        assert_eq!(world(102, vec![born(0, 100), born(1, 101)]).status, None);
        assert_eq!(world(103, vec![born(0, 100), born(1, 101)]).status.unwrap().indexes.len(), 2);
        let endless = (0..11).map(|n| born(n, 100 + i64::from(n))).collect();
        assert_eq!(world(110, endless).status.unwrap().indexes.len(), 11);
    }

    #[test]
    fn k_74_claims_and_templates_tell_of_their_generation() {
        let stale = claim("C", |claim| {
            claim.metadata.generation = Some(1);
            claim.status = rendered("t-0");
            claim.status.as_mut().unwrap().observed_generation = Some(-1); // as a manager that knows of none leaves it
        });
        let plan = world().with(vec![stale.clone()], vec![]).decide();
        assert_eq!(
            steps_of(&plan),
            [Step::Status(answered_with(NamespacedRef::new(NS, "t-0")))],
            "and nothing is made anew"
        );
        let status = claim_status(&stale.claim, answered_with(NamespacedRef::new(NS, "t-0")), at(100));
        assert_eq!((status.observed_generation, status.conditions[0].status.as_str()), (Some(1), "True"));
        let status = claim_status(&stale.claim, unanswered(Some("x not found".to_owned())), at(100));
        assert_eq!(
            (status.conditions[0].reason.as_str(), status.conditions[0].message.as_str()),
            ("WaitingForMetal3Data", "x not found")
        );

        let mut world = world();
        assert_eq!(world.decide().status, None, "what another provider settled is left alone");
        let template = world.template.as_mut().unwrap();
        template.metadata.generation = Some(2);
        template.status.as_mut().unwrap().observed_generation = Some(1);
        let told = world.decide().status.unwrap();
        assert_eq!((told.observed_generation, told.last_updated), (Some(2), Some(Time(at(0)))));
    }

    #[test]
    fn td_129_a_template_that_leaves_gives_out_nothing() {
        let plan = departing().with(vec![claim("C", |_| {})], vec![]).decide();
        assert_eq!(message_of(steps_of(&plan)), format!("Metal3DataTemplate {NS}/{TEMPLATE} is being deleted"));
        assert_eq!(steps_of(&plan).len(), 1);
    }

    #[test]
    fn a_missing_template_is_told_on_its_claims_and_holds_none_back() {
        let mut world = world().with(vec![claim("C", |_| {}), claim("D", gone)], vec![data(0, "D")]);
        world.template = None;
        let plan = world.decide();
        assert_eq!(message_of(&plan.claims[0].steps), format!("Metal3DataTemplate {NS}/{TEMPLATE} not found"));
        world.settle();
        assert_eq!((world.claims.len(), world.datas.len()), (1, 0));
    }

    #[test]
    fn td_130_an_index_is_free_when_its_object_is_gone() {
        let mut old = data(0, "old");
        deleting(&mut old.metadata);
        let plan = world().with(vec![claim("new", |_| {}), claim("old", gone)], vec![old]).decide();
        let made = plan.claims.iter().flat_map(|claim| &claim.steps).find_map(|step| match step {
            Step::Create(data) => data.spec.index,
            Step::Hold | Step::Status(_) | Step::LetGo(_) | Step::Delete(_) | Step::Free => None,
        });
        assert_eq!(made, Some(1));
    }

    /// A claim whose name was used before: what the earlier one was answered with is on its way out, and stays on it.
    #[test]
    fn a_later_claim_of_the_same_name_gets_an_answer_of_its_own() {
        let mut earlier = data(0, "C");
        deleting(&mut earlier.metadata);
        let mut world = world().with(vec![claim("C", |_| {})], vec![earlier]);
        world.settle();
        assert_eq!(world.answer_to("C"), Some(index_of(TEMPLATE, 1)));
    }
}
