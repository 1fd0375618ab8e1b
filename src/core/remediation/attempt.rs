//! One attempt: when it began, how long it may take, and whether there is another one after it.
//!
//! Rules: remediation, RH-8.

use std::time::Duration;

use capm3_api::infra::v1beta2::{Metal3Remediation, RemediationStrategy};
use capm3_api::k8s::Timestamp;
use capm3_api::names::REMEDIATION_REBOOT;

const TIMEOUT: Duration = Duration::from_secs(600);

fn strategy(remediation: &Metal3Remediation) -> Option<&RemediationStrategy> {
    remediation.spec.strategy.as_ref()
}

/// What is to be done; empty when nothing is.
pub fn kind(remediation: &Metal3Remediation) -> &str {
    strategy(remediation).and_then(|strategy| strategy.type_.as_deref()).unwrap_or_default()
}

pub(super) fn reboots(remediation: &Metal3Remediation) -> bool {
    kind(remediation) == REMEDIATION_REBOOT
}

/// How long an attempt may take.
pub fn timeout(remediation: &Metal3Remediation) -> Duration {
    let seconds = strategy(remediation).and_then(|strategy| strategy.timeout_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(TIMEOUT, Duration::from_secs)
}

fn elapsed(remediation: &Metal3Remediation, now: Timestamp) -> Option<Duration> {
    let began = remediation.status.as_ref()?.last_remediated.as_ref()?.0;
    Some(Duration::try_from(now.duration_since(began)).unwrap_or_default())
}

pub fn is_timed_out(remediation: &Metal3Remediation, now: Timestamp) -> bool {
    elapsed(remediation, now).is_some_and(|elapsed| elapsed > timeout(remediation))
}

/// Half of the time is over.
pub(super) fn is_half_over(remediation: &Metal3Remediation, now: Timestamp) -> bool {
    elapsed(remediation, now).is_some_and(|elapsed| elapsed * 2 > timeout(remediation))
}

/// Until the attempt has timed out; all of the time when none has begun, nothing when it is over.
pub fn remaining(remediation: &Metal3Remediation, now: Timestamp) -> Duration {
    let timeout = timeout(remediation);
    match elapsed(remediation, now) {
        None => timeout,
        Some(elapsed) if elapsed > timeout => Duration::ZERO,
        Some(elapsed) => timeout - elapsed + Duration::from_secs(1),
    }
}

pub fn retries(remediation: &Metal3Remediation) -> i32 {
    remediation.status.as_ref().and_then(|status| status.retry_count).unwrap_or_default()
}

fn limit(remediation: &Metal3Remediation) -> Option<i32> {
    strategy(remediation).map(|strategy| strategy.retry_limit.unwrap_or_default())
}

/// Whether there is a number of attempts to keep to.
pub fn limit_is_set(remediation: &Metal3Remediation) -> bool {
    limit(remediation).is_some_and(|limit| limit > 0)
}

/// Lowering the limit below what was tried already ends the trying (RH-8).
pub fn limit_is_reached(remediation: &Metal3Remediation) -> bool {
    limit(remediation).is_some_and(|limit| retries(remediation) >= limit)
}

pub(super) fn has_another(remediation: &Metal3Remediation) -> bool {
    limit_is_set(remediation) && !limit_is_reached(remediation)
}
