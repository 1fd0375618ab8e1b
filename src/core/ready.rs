//! `Ready`, and the generation it is about: all that tools see of an object which know nothing of its kind.
//!
//! kstatus, Flux and Argo CD ask two questions: does the status tell of the generation that is there, and is `Ready` true? What is
//! absent counts as a yes. Hence three rules:
//!
//! - The schema gives the status of a new object the generation -1: not looked at yet. No write of ours has to say so.
//! - Both ride on every write of a status and cause none but this one: a new generation that has been looked at.
//! - A status that another provider settled without either stays as it is. Readers take it for what it is, current, and a change
//!   of providers costs no write per object.
//!
//! Metal3Cluster and Metal3Machine have more conditions than this one; theirs are written by [`crate::conditions`].
//!
//! Rules: design.md 6, ipam.md HI-28, capi-contract.md K-16, K-74.

use capm3_api::infra::v1beta2::{Metal3DataClaimStatus, Metal3DataStatus, Metal3DataTemplateStatus};
use capm3_api::ipam::v1alpha1::{IPClaimStatus, IPPoolStatus};
use capm3_api::k8s::{Condition, ObjectMeta, Timestamp};
use capm3_api::names::reason;

use crate::conditions::{READY, Status, Summary, set};

/// A status whose only condition is `Ready`.
pub trait Told: Clone + Default + PartialEq {
    fn conditions(&mut self) -> &mut Vec<Condition>;
    fn observed_generation(&mut self) -> &mut Option<i64>;

    /// The status without what this module adds to it.
    #[must_use]
    fn bare(&self) -> Self {
        let mut bare = self.clone();
        bare.conditions().clear();
        *bare.observed_generation() = None;
        bare
    }
}

macro_rules! told {
    ($($status:ty),*) => {$(
        impl Told for $status {
            fn conditions(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }

            fn observed_generation(&mut self) -> &mut Option<i64> {
                &mut self.observed_generation
            }
        }
    )*};
}
told!(Metal3DataClaimStatus, Metal3DataStatus, Metal3DataTemplateStatus, IPClaimStatus, IPPoolStatus);

impl Summary {
    #[must_use]
    pub fn ready() -> Self {
        Self { status: Status::True, reason: reason::READY, message: String::new() }
    }

    pub fn not_ready(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: Status::False, reason, message: message.into() }
    }
}

/// The status to store: `bare` with `ready` and the generation that was looked at.
#[must_use]
pub fn tell<S: Told>(meta: &ObjectMeta, before: Option<&S>, bare: S, ready: &Summary, now: Timestamp) -> S {
    let mut stored = before.cloned().unwrap_or_default();
    let same = before.is_some() && stored.bare() == bare;
    let silent = stored.conditions().is_empty() && stored.observed_generation().is_none();
    let settled_by_another = silent && ready.status == Status::True;
    // An object that is being deleted is read as that and nothing else; its generation moved with the deletion.
    if same && (settled_by_another || meta.deletion_timestamp.is_some()) {
        return stored;
    }
    let mut told = bare;
    *told.conditions() = std::mem::take(stored.conditions());
    set(told.conditions(), READY, ready.status, ready.reason, &ready.message, meta.generation, now);
    *told.observed_generation() = meta.generation;
    told
}

/// Whether a status tells of another generation than the one that is there.
#[must_use]
pub fn is_stale(meta: &ObjectMeta, observed: Option<i64>) -> bool {
    observed.is_some() && observed != meta.generation && meta.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use capm3_api::k8s::Time;

    use super::*;

    fn meta(generation: i64) -> ObjectMeta {
        ObjectMeta { generation: Some(generation), ..ObjectMeta::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rendered(ready: bool) -> Metal3DataStatus {
        Metal3DataStatus { ready: Some(ready), ..Metal3DataStatus::default() }
    }

    fn waits() -> Summary {
        Summary::not_ready("WaitingForAddresses", "for p")
    }

    #[test]
    fn a_new_object_is_told_of() {
        let new = Metal3DataStatus { observed_generation: Some(-1), ..Metal3DataStatus::default() };
        let told = tell(&meta(1), Some(&new), Metal3DataStatus::default(), &waits(), at(5));
        assert_eq!((told.observed_generation, told.conditions[0].status.as_str()), (Some(1), "False"));
        assert_eq!(told.conditions[0].observed_generation, Some(1));
        let told = tell(&meta(1), Some(&told), rendered(true), &Summary::ready(), at(9));
        assert_eq!((told.conditions[0].status.as_str(), told.conditions[0].reason.as_str()), ("True", "Ready"));
        assert_eq!(told.conditions[0].last_transition_time, Time(at(9)));
    }

    #[test]
    fn the_same_again_is_the_same_and_a_new_generation_is_told() {
        let told = tell(&meta(1), None, rendered(true), &Summary::ready(), at(5));
        assert_eq!(tell(&meta(1), Some(&told), rendered(true), &Summary::ready(), at(9)), told);
        let next = tell(&meta(2), Some(&told), rendered(true), &Summary::ready(), at(9));
        assert_eq!((next.observed_generation, next.conditions[0].observed_generation), (Some(2), Some(2)));
        assert_eq!(next.conditions[0].last_transition_time, Time(at(5)));
    }

    #[test]
    fn what_another_provider_settled_is_left_and_what_it_left_open_is_told() {
        assert_eq!(tell(&meta(1), Some(&rendered(true)), rendered(true), &Summary::ready(), at(5)), rendered(true));
        let open = tell(&meta(1), Some(&rendered(false)), rendered(false), &waits(), at(5));
        assert_eq!(open.observed_generation, Some(1));
        let closed = tell(&meta(1), Some(&rendered(false)), rendered(true), &Summary::ready(), at(5));
        assert_eq!(closed.observed_generation, Some(1));
    }

    #[test]
    fn deletion_alone_is_no_reason_to_write() {
        let told = tell(&meta(1), None, rendered(true), &Summary::ready(), at(5));
        let leaving = ObjectMeta { deletion_timestamp: Some(Time(at(6))), ..meta(2) };
        assert_eq!(tell(&leaving, Some(&told), rendered(true), &waits(), at(9)), told);
        assert!(!is_stale(&leaving, told.observed_generation));
        assert!(is_stale(&meta(2), told.observed_generation));
        assert!(is_stale(&meta(1), Some(-1)) && !is_stale(&meta(1), None));
    }
}
