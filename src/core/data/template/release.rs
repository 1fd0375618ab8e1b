//! What a claim leaves behind: the Metal3Data it was answered with goes first, its finalizer last.
//!
//! Rules: docs/spec/data-rendering.md D-36 and D-37 with hazards HD-10 and HD-12 adopted.

use std::collections::BTreeMap;

use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim};
use capm3_api::names::finalizer;

use super::super::message;
use super::{Claim, Pass, Step, claim_name, claim_name_of, has_finalizer, unanswered};

impl Pass<'_> {
    /// Everything the claim was answered with, then the claim itself.
    pub(super) fn release(&mut self, seen: &Claim) -> Vec<Step> {
        let claim = &seen.claim;
        // What is named may by now be the answer to another claim that got the index after us.
        let named =
            seen.rendered.iter().filter(|data| claim_name(data).is_none_or(|name| name == claim_name_of(claim)));
        // By name, so that an object found both ways is released once.
        let found = self.of_claim(claim).chain(named).filter(|data| may_release(data, claim));
        let found: BTreeMap<_, _> = found.map(|data| (data.metadata.name.clone(), data)).collect();
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

/// A live answer to another claim of the same name, seen by a cache that is ahead of the claims', is not ours to release.
fn may_release(data: &Metal3Data, claim: &Metal3DataClaim) -> bool {
    let mut owners =
        data.metadata.owner_references.iter().flatten().filter(|owner| owner.kind == Metal3DataClaim::KIND);
    data.metadata.deletion_timestamp.is_some()
        || owners.next().is_none_or(|owner| Some(&owner.uid) == claim.metadata.uid.as_ref())
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
