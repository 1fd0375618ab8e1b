//! Every single fault at every moment of a scenario: the plans of docs/spec/proof.md section 3.
//!
//! A calm run says what each manager asks and hears. Then per write three crashes, per request eight ways to fail and two ways for
//! replicas to overlap, and per watched kind three lags and five faults of the watch.

use std::time::Duration;

use crate::fault::{Failure, Fault, Lag, Overlap, Plan, Recording, Refused, When};
use crate::server::Verb;

const MINUTE: Duration = Duration::from_secs(60);

/// The plans for what was recorded, in the order of the record.
pub fn plans(recording: &Recording) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (&provider, requests) in &recording.requests {
        let mut write = 0;
        for (n, asked) in (1..).zip(requests) {
            let mut at_request = |fault| plans.push(Plan::one(When::Request(provider, n), fault));
            at_request(Fault::Unapplied(Failure::Internal));
            at_request(Fault::Unapplied(Failure::Unavailable));
            at_request(Fault::Unapplied(Failure::Reset));
            at_request(Fault::Unapplied(Failure::Timeout));
            at_request(Fault::LostReply(Failure::Reset));
            at_request(Fault::Busy(3));
            at_request(Fault::Refused(Refused::Forbidden));
            at_request(Fault::Refused(Refused::Invalid));
            at_request(Fault::Overlaps(Overlap::Both));
            at_request(Fault::Overlaps(Overlap::Resumed(Duration::from_secs(10))));
            if matches!(asked.verb, Verb::Update | Verb::Patch | Verb::Delete) {
                at_request(Fault::Conflict);
            }
            if asked.wrote {
                write += 1;
                let crashes = [Fault::CrashBefore, Fault::CrashLanded, Fault::CrashAnswered];
                plans.extend(crashes.map(|fault| Plan::one(When::Write(provider, write), fault)));
            }
        }
    }
    for ((provider, kind), &events) in &recording.events {
        let faults = [
            Fault::Lags(Lag::Events(1)),
            Fault::Lags(Lag::Events(5)),
            Fault::Lags(Lag::Forever),
            Fault::WatchClosed,
            Fault::WatchExpired,
            Fault::WatchHangs(MINUTE),
            Fault::EventLost,
            Fault::EventTwice,
            Fault::EventsSwapped,
            Fault::Burst(Duration::from_secs(2)),
        ];
        // The first event, and one in the middle of things.
        let mut moments = vec![1, events.div_ceil(2)];
        moments.dedup();
        for n in moments {
            let when = When::Event(*provider, kind.clone(), n);
            plans.extend(faults.iter().map(|fault| Plan::one(when.clone(), fault.clone())));
        }
    }
    plans
}
