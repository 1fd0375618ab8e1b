//! What a claim is answered with: the Metal3Data that already answers it, a new one with the lowest free index, or why there is none.
//!
//! Rules: docs/spec/data-rendering.md D-33 to D-35 with hazards HD-6, HD-7 and HD-11 adopted.

use std::collections::BTreeSet;
use std::sync::Arc;

use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataSpec, Metal3Machine};
use capm3_api::k8s::{ObjectMeta, OwnerReference};
use capm3_api::names::{INFRA_API_VERSION, finalizer, secret};
use capm3_api::{NamespacedRef, SecretRef, owner_reference};

use super::super::life::metal3_machine_of;
use super::super::message;
use super::{Next, Observed, Pass, Step, answered_with, has_finalizer, unanswered};
use crate::ready::Told;

impl Pass<'_> {
    /// Finalizer, then the object, then the name of it.
    pub(super) fn answer(&mut self, claim: &Arc<Metal3DataClaim>, template_deleting: bool) -> Vec<Step> {
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
}

/// An index is free only when no object carries it, in its spec or in its name.
pub(super) fn taken(observed: &Observed<'_>) -> BTreeSet<i32> {
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
