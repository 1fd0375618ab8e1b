//! Giving a machine up: its owner is asked to replace it, in words that Cluster API of today and of yesterday reads.
//!
//! MachineSets and control planes replace a Machine when `HealthCheckSucceeded` and `OwnerRemediated` are both False in
//! `status.conditions`; only releases before 1.11 read the old dialect. An owner that is at it already writes reasons of its own
//! there, which stay.
//!
//! Rules: remediation, RH-12; capi-contract K-88.

use capm3_api::common::V1Beta1Condition;
use capm3_api::foreign::{Machine, MachineStatus};
use capm3_api::k8s::{Condition, Time, Timestamp};
use capm3_api::names::condition::OWNER_REMEDIATED;
use capm3_api::names::{reason, v1beta1};

use crate::conditions::{Status, get, whole_second};

const MESSAGE: &str = "Waiting for remediation";

/// The status of a Machine that is given up; none when it says so already.
pub fn handed_over(machine: &Machine, now: Timestamp) -> Option<MachineStatus> {
    let before = machine.status.clone().unwrap_or_default();
    let mut after = before.clone();
    say(&mut after.conditions, machine.metadata.generation, now);
    let deprecated = after.deprecated.get_or_insert_default();
    say_legacy(&mut deprecated.v1beta1.get_or_insert_default().conditions, now);
    (after != before).then_some(after)
}

/// The list keeps its order, which is its owner's.
fn say(conditions: &mut Vec<Condition>, generation: Option<i64>, now: Timestamp) {
    let no = Status::False.as_str();
    if get(conditions, OWNER_REMEDIATED).is_some_and(|known| known.status == no) {
        return;
    }
    let condition = Condition {
        type_: OWNER_REMEDIATED.to_owned(),
        status: no.to_owned(),
        reason: reason::WAITING_FOR_REMEDIATION.to_owned(),
        message: MESSAGE.to_owned(),
        observed_generation: generation,
        last_transition_time: Time(whole_second(now)),
    };
    put(conditions, condition, |known| &known.type_);
}

fn say_legacy(conditions: &mut Vec<V1Beta1Condition>, now: Timestamp) {
    let no = Status::False.as_str();
    if conditions.iter().any(|known| known.type_ == OWNER_REMEDIATED && known.status == no) {
        return;
    }
    let condition = V1Beta1Condition {
        type_: OWNER_REMEDIATED.to_owned(),
        status: no.to_owned(),
        severity: Some(v1beta1::WARNING.to_owned()),
        reason: Some(reason::WAITING_FOR_REMEDIATION.to_owned()),
        message: None,
        last_transition_time: Some(Time(whole_second(now))),
    };
    put(conditions, condition, |known| &known.type_);
}

fn put<C>(conditions: &mut Vec<C>, condition: C, kind: impl Fn(&C) -> &str) {
    match conditions.iter().position(|known| kind(known) == kind(&condition)) {
        Some(place) => conditions[place] = condition,
        None => conditions.push(condition),
    }
}
