//! The shortest case that still breaks the same invariant.

use std::time::Duration;

use super::case::Case;
use crate::fault::{Fault, Lag, Overlap, Planned, When};

/// Tries smaller cases as long as `breaks` says that they break it too.
pub fn shortest(mut case: Case, mut breaks: impl FnMut(&Case) -> bool) -> Case {
    loop {
        match smaller(&case).into_iter().find(|smaller| breaks(smaller)) {
            Some(smaller) => case = smaller,
            None => return case,
        }
    }
}

/// Every step down, the greatest first: a fault less, plain hardware, a shorter or an earlier fault.
fn smaller(case: &Case) -> Vec<Case> {
    let mut cases = Vec::new();
    for i in 0..case.plan.0.len() {
        let mut less = case.clone();
        less.plan.0.remove(i);
        cases.push(less);
    }
    if case.seed != 0 {
        cases.push(Case { seed: 0, ..case.clone() });
    }
    for (i, planned) in case.plan.0.iter().enumerate() {
        for other in [shorter(planned), earlier(planned)].into_iter().flatten() {
            let mut less = case.clone();
            less.plan.0[i] = other;
            cases.push(less);
        }
    }
    cases
}

fn shorter(planned: &Planned) -> Option<Planned> {
    let half = |time: Duration| (time > Duration::from_secs(1)).then(|| Duration::from_secs(time.as_secs() / 2));
    let fault = match &planned.fault {
        Fault::Storm(time) => half(*time).map(Fault::Storm),
        Fault::Lags(Lag::Time(time)) => half(*time).map(|time| Fault::Lags(Lag::Time(time))),
        Fault::WatchHangs(time) => half(*time).map(Fault::WatchHangs),
        Fault::Overlaps(Overlap::Resumed(time)) => half(*time).map(|time| Fault::Overlaps(Overlap::Resumed(time))),
        Fault::Paused(time) => half(*time).map(Fault::Paused),
        Fault::WebhookDown(time) => half(*time).map(Fault::WebhookDown),
        Fault::WebhookSlow(time) => half(*time).map(Fault::WebhookSlow),
        Fault::WorkloadAway(time) => half(*time).map(Fault::WorkloadAway),
        Fault::KubeconfigGone(time) => half(*time).map(Fault::KubeconfigGone),
        Fault::EventSink(time) => half(*time).map(Fault::EventSink),
        Fault::Busy(seconds) if *seconds > 1 => Some(Fault::Busy(seconds / 2)),
        _ => None,
    };
    Some(Planned { fault: fault?, ..planned.clone() })
}

fn earlier(planned: &Planned) -> Option<Planned> {
    let when = match &planned.when {
        When::Request(who, n) if *n > 1 => When::Request(*who, n - 1),
        When::Write(who, n) if *n > 1 => When::Write(*who, n - 1),
        When::Event(who, kind, n) if *n > 1 => When::Event(*who, kind.clone(), n - 1),
        _ => return None,
    };
    Some(Planned { when, ..planned.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes() {
        let case: Case =
            "claims | 7 | ipam request 9: crash before; infra request 3: conflict; 10s: paused 10m".parse().unwrap();
        let shortest = shortest(case, |case| {
            let needs = |wanted: &str| case.plan.to_string().contains(wanted);
            needs("conflict") && needs("paused")
        });
        assert_eq!(shortest.to_string(), "claims | 0 | infra request 1: conflict; 10s: paused 1s");
    }
}
