//! Faults by chance: a seed says which scenario, how many faults, which and when.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::case::Case;
use crate::fault::deeds::{self, PAUSE};
use crate::fault::{Failure, Fault, Lag, Overlap, Plan, Planned, Recording, Refused, When};
use crate::scenario::Scenario;
use crate::world::Provider;

/// What chance chooses from.
pub struct Deck<'a> {
    pub scenarios: &'a [Box<dyn Scenario>],
    /// Of a calm run of each scenario.
    pub recordings: &'a BTreeMap<&'static str, Recording>,
}

impl Deck<'_> {
    pub fn deal(&self, seed: u64) -> Case {
        // Neighbouring seeds are to have nothing in common.
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let all = self.scenarios.iter().map(|scenario| scenario.weight()).sum::<u32>();
        let mut left = rng.u32(..all.max(1));
        let scenario = self.scenarios.iter().find(|scenario| {
            let taken = left < scenario.weight();
            left = left.saturating_sub(scenario.weight());
            taken
        });
        let Some(scenario) = scenario else { return Case::default() };
        let calm = Recording::default();
        let recording = self.recordings.get(scenario.name()).unwrap_or(&calm);
        let faults = [1, 1, 1, 1, 2, 2, 2, 3, 3, 4][rng.usize(..10)];
        let mut plan: Vec<Planned> = (0..faults).filter_map(|_| draw(&mut rng, scenario.as_ref(), recording)).collect();
        plan.dedup();
        if plan.iter().any(|planned| matches!(planned.fault, Fault::Restored(_))) {
            plan.retain(|planned| !outlives(&planned.fault));
        }
        // Who pauses a cluster means it: the deed would resume it.
        if scenario.name().contains("pause") {
            plan.retain(|planned| planned.fault != Fault::Deed(PAUSE.to_owned()));
        }
        Case { scenario: scenario.name().to_owned(), seed, plan: Plan(plan) }
    }
}

/// What a manager knows from before a restore, and still acts on after it: who restores a cluster ends that first.
fn outlives(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Paused(_)
            | Fault::Overlaps(_)
            | Fault::Lags(_)
            | Fault::WatchHangs(_)
            | Fault::EventLost
            | Fault::Burst(_)
            | Fault::Unapplied(Failure::Timeout)
            | Fault::LostReply(Failure::Timeout)
    )
}

fn draw(rng: &mut Rng, scenario: &dyn Scenario, recording: &Recording) -> Option<Planned> {
    let providers = scenario.providers();
    let provider = *providers.get(rng.usize(..providers.len().max(1)))?;
    Some(match rng.u32(..100) {
        0..60 => at_request(rng, provider, recording),
        60..80 => at_event(rng, provider, recording)?,
        _ => at_time(rng),
    })
}

fn at_request(rng: &mut Rng, provider: Provider, recording: &Recording) -> Planned {
    let requests = recording.requests.get(&provider).map_or(0, Vec::len);
    // A few more than a calm run sends, for what other faults make necessary.
    let n = rng.u32(1..=u32::try_from(requests).unwrap_or(u32::MAX).saturating_add(5));
    let failure = Failure::ALL[rng.usize(..Failure::ALL.len())];
    let fault = match rng.u32(..19) {
        0 | 1 => Fault::CrashBefore,
        2 | 3 => Fault::CrashLanded,
        4 => Fault::CrashAnswered,
        5 | 6 => Fault::Conflict,
        7 | 8 => Fault::Unapplied(failure),
        9 | 10 => Fault::LostReply(failure),
        11 => Fault::Busy(rng.u32(1..10)),
        12 => Fault::Storm(Duration::from_secs(rng.u64(1..60))),
        13 => Fault::Refused(Refused::ALL[rng.usize(..Refused::ALL.len())]),
        14 => Fault::Overlaps(Overlap::Both),
        15 => Fault::Overlaps(Overlap::Resumed(Duration::from_secs(rng.u64(1..30)))),
        16 => Fault::Stopped,
        17 => Fault::Clock([-3600, 3600, -1, 5][rng.usize(..4)]),
        _ => Fault::Paused(Duration::from_secs(rng.u64(1..600))),
    };
    Planned { when: When::Request(provider, n), fault }
}

fn at_event(rng: &mut Rng, provider: Provider, recording: &Recording) -> Option<Planned> {
    let kinds: Vec<_> = recording.events.iter().filter(|((who, _), _)| *who == provider).collect();
    let ((_, kind), events) = kinds.get(rng.usize(..kinds.len().max(1)))?;
    let n = rng.u32(1..=events.saturating_add(2));
    let seconds = Duration::from_secs(rng.u64(1..120));
    let fault = match rng.u32(..9) {
        0 => Fault::Lags(Lag::Events(rng.u32(1..6))),
        1 => Fault::Lags(Lag::Time(seconds)),
        2 => Fault::Lags(Lag::Forever),
        3 => Fault::WatchClosed,
        4 => Fault::WatchExpired,
        5 => Fault::WatchHangs(seconds),
        6 => Fault::EventLost,
        7 => Fault::EventTwice,
        _ if rng.bool() => Fault::EventsSwapped,
        _ => Fault::Burst(Duration::from_millis(rng.u64(1..5000))),
    };
    Some(Planned { when: When::Event(provider, kind.clone(), n), fault })
}

fn at_time(rng: &mut Rng) -> Planned {
    let (when, time) = (Duration::from_millis(rng.u64(..10_000)), Duration::from_secs(rng.u64(1..120)));
    let deed = rng.usize(..deeds::names().len());
    let fault = match rng.u32(..10) {
        0 => Fault::WebhookDown(time),
        1 => Fault::WebhookSlow(time),
        2 => Fault::WorkloadAway(time),
        3 => Fault::KubeconfigGone(time),
        4 => Fault::EventSink(time),
        5 => Fault::Clock([-3600, 3600][rng.usize(..2)]),
        6 => Fault::Paused(time),
        7 | 8 => Fault::Deed(deeds::names().nth(deed).unwrap_or_default().to_owned()),
        _ => Fault::Restored(Duration::from_millis(rng.u64(1..5000))),
    };
    Planned { when: When::At(when), fault }
}
