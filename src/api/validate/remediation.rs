//! Metal3Remediation and Metal3RemediationTemplate (W-31 to W-35).

use super::{Admission, Verdict, is_blank};
use crate::infra::v1beta2::{Metal3Remediation, Metal3RemediationTemplate, RemediationStrategy};
use crate::names::REMEDIATION_REBOOT;

const DEFAULT_TIMEOUT_SECONDS: i32 = 600;
const MIN_TIMEOUT_SECONDS: i32 = 100;
const MIN_RETRY_LIMIT: i32 = 1;

impl Admission for Metal3Remediation {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        if !old.is_some_and(|old| self.same_spec(old)) {
            judge_strategy("spec.strategy", self.spec.strategy.as_ref(), verdict);
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Admission for Metal3RemediationTemplate {
    /// A template without a strategy gets the only one there is (WH-1).
    fn default(&mut self) {
        let strategy = self.spec.template.spec.strategy.get_or_insert_default();
        if is_blank(strategy.type_.as_ref()) {
            strategy.type_ = Some(REMEDIATION_REBOOT.to_owned());
        }
        strategy.timeout_seconds = strategy.timeout_seconds.filter(|s| *s != 0).or(Some(DEFAULT_TIMEOUT_SECONDS));
        strategy.retry_limit = strategy.retry_limit.filter(|n| *n >= MIN_RETRY_LIMIT).or(Some(MIN_RETRY_LIMIT));
    }

    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        if !old.is_some_and(|old| self.same_spec(old)) {
            judge_strategy("spec.template.spec.strategy", self.spec.template.spec.strategy.as_ref(), verdict);
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

fn judge_strategy(path: &str, strategy: Option<&RemediationStrategy>, verdict: &mut Verdict) {
    let Some(strategy) = strategy else { return };
    if let Some(seconds) = strategy.timeout_seconds.filter(|s| *s != 0 && *s < MIN_TIMEOUT_SECONDS) {
        let wanted = format!("must be at least {MIN_TIMEOUT_SECONDS}");
        verdict.invalid(format!("{path}.timeoutSeconds"), seconds, wanted);
    }
    let wanted = format!("must be {REMEDIATION_REBOOT:?}, the only strategy there is");
    match strategy.type_.as_deref() {
        Some(REMEDIATION_REBOOT) => {}
        Some(other) => verdict.invalid(format!("{path}.type"), other, wanted),
        None => verdict.required(format!("{path}.type"), wanted),
    }
    // An absent limit is the schema's default by the time anyone acts on it.
    if let Some(limit) = strategy.retry_limit.filter(|n| *n < MIN_RETRY_LIMIT) {
        verdict.invalid(format!("{path}.retryLimit"), limit, format!("must be at least {MIN_RETRY_LIMIT}"));
    }
}
