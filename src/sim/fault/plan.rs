//! Plans as data and as text: `infra request 7: lost reset; 10s: clock -1h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::world::Provider;

/// How a request fails without saying what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// 500
    Internal,
    /// 503
    Unavailable,
    /// The connection breaks.
    Reset,
    /// 504, half a minute later.
    Timeout,
}

/// What a request is refused with although nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// 403: a role was taken away for a moment.
    Forbidden,
    /// 410
    Gone,
    /// 422: somebody's webhook.
    Invalid,
    /// 403 by a ResourceQuota (F26).
    Quota,
}

/// How far a cache is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lag {
    /// An event arrives when as many newer ones are there, or half a minute later.
    Events(u32),
    Time(Duration),
    /// Until everything else has come to a standstill.
    Forever,
}

/// How two replicas come to lead at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overlap {
    /// A second one starts, and the first works on for half a minute.
    Both,
    /// The first stops in the middle of its request, which arrives when the second has worked for this long; then it works on.
    Resumed(Duration),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// F1: the process dies before the request leaves.
    CrashBefore,
    /// F2: the write happened, and the process dies before it hears of it.
    CrashLanded,
    /// F3: the process dies after the answer and before its next request.
    CrashAnswered,
    /// F4: somebody else really wrote the object in between.
    Conflict,
    /// F5: the request fails and was not carried out.
    Unapplied(Failure),
    /// F6: the request was carried out, and the answer is lost.
    LostReply(Failure),
    /// F7: 429 with Retry-After in seconds.
    Busy(u32),
    /// F7: every request of the manager for a while.
    Storm(Duration),
    /// F8: what the request is about really goes away, finalizers or not.
    Vanished,
    /// F8, F26
    Refused(Refused),
    /// F9
    Lags(Lag),
    /// F11: the watch ends.
    WatchClosed,
    /// F11: the watch ends with 410, and the kind is listed anew.
    WatchExpired,
    /// F11: no byte comes for a while.
    WatchHangs(Duration),
    /// F12: the event never comes; half a minute later the watch expires.
    EventLost,
    /// F12
    EventTwice,
    /// F12: the next event comes first.
    EventsSwapped,
    /// F13: of everything written in this time only the last state is seen.
    Burst(Duration),
    /// F14: what the request is about is deleted and made again under the same name, with another uid.
    Recreated,
    /// F15
    Overlaps(Overlap),
    /// F16: the process is told to stop, and another starts at once.
    Stopped,
    /// F17: the manager's clock jumps; seconds.
    Clock(i64),
    /// F18: the process stands still.
    Paused(Duration),
    /// F19: our webhooks do not answer.
    WebhookDown(Duration),
    /// F19: our webhooks take 9 s to answer.
    WebhookSlow(Duration),
    /// F20: the workload cluster's API server cannot be reached.
    WorkloadAway(Duration),
    /// F20: the kubeconfig's Secret is not there.
    KubeconfigGone(Duration),
    /// F21 to F23: an actor does what it is told by this name.
    Deed(String),
    /// The management cluster comes back from a backup that is this old.
    Restored(Duration),
    /// F29: events are refused.
    EventSink(Duration),
}

/// At which moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Around the n-th request of the manager, from 1; lists and watches are not counted.
    Request(Provider, u32),
    /// Around its n-th write that is accepted.
    Write(Provider, u32),
    /// At the n-th event of a kind (`plural.group`) on its way to the manager.
    Event(Provider, String, u32),
    /// So long after the beginning.
    At(Duration),
}

/// One fault and its moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planned {
    pub when: When,
    pub fault: Fault,
}

/// Everything that goes wrong in one run; nothing when it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plan(pub Vec<Planned>);

impl Plan {
    pub fn calm() -> Self {
        Self::default()
    }

    pub fn one(when: When, fault: Fault) -> Self {
        Self(vec![Planned { when, fault }])
    }
}

impl Plan {
    /// How much later than otherwise everything may be well again once the faults are over. What fails is tried again after a pause
    /// that doubles: after an outage the next try comes no later than the outage lasted, and never later than the longest pause (I21).
    pub fn patience(&self) -> Duration {
        let longest = Duration::from_secs(300);
        let outages = self.0.iter().map(|planned| match &planned.fault {
            Fault::Storm(time)
            | Fault::Paused(time)
            | Fault::WebhookDown(time)
            | Fault::WebhookSlow(time)
            | Fault::WorkloadAway(time)
            | Fault::KubeconfigGone(time)
            | Fault::WatchHangs(time)
            | Fault::Lags(Lag::Time(time)) => *time,
            Fault::Lags(Lag::Events(_) | Lag::Forever) | Fault::EventLost => Duration::from_secs(60),
            // The client gives up after 15 s.
            Fault::Unapplied(Failure::Timeout)
            | Fault::LostReply(Failure::Timeout)
            | Fault::Overlaps(Overlap::Resumed(_)) => Duration::from_secs(30),
            Fault::Busy(seconds) => Duration::from_secs(u64::from(*seconds)),
            _ => Duration::ZERO,
        });
        let outages = outages.sum::<Duration>();
        // What the first try then meets may need another one.
        if outages < longest { outages } else { longest * 2 }
    }
}

impl Plan {
    /// Whether the world goes back to what it was: then what was asked for may be forgotten, and nobody asks again.
    pub fn forgets(&self) -> bool {
        self.0.iter().any(|planned| matches!(planned.fault, Fault::Restored(_)))
    }
}

/// A text that is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no plan of faults such as 'infra write 2: crash landed; 10s: webhook down 1m' (docs/proof.md lists them)"
)]
pub struct Unreadable(String);

impl Unreadable {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

const CALM: &str = "calm";

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(CALM);
        }
        for (i, planned) in self.0.iter().enumerate() {
            write!(f, "{}{planned}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text.trim() {
            "" | CALM => Ok(Self::calm()),
            text => Ok(Self(text.split(';').map(str::parse).collect::<Result<_, _>>()?)),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.when, self.fault)
    }
}

impl FromStr for Planned {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let unreadable = || Unreadable(text.trim().to_owned());
        let (when, fault) = text.split_once(": ").ok_or_else(unreadable)?;
        Ok(Self { when: when.parse()?, fault: fault.parse()? })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(who, n) => write!(f, "{} request {n}", name(*who)),
            Self::Write(who, n) => write!(f, "{} write {n}", name(*who)),
            Self::Event(who, kind, n) => write!(f, "{} {kind} event {n}", name(*who)),
            Self::At(after) => f.write_str(&span(*after)),
        }
    }
}

impl FromStr for When {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let parsed = match text.split_whitespace().collect::<Vec<_>>().as_slice() {
            [who, "request", n] => provider(who).zip(n.parse().ok()).map(|(who, n)| Self::Request(who, n)),
            [who, "write", n] => provider(who).zip(n.parse().ok()).map(|(who, n)| Self::Write(who, n)),
            [who, kind, "event", n] => {
                provider(who).zip(n.parse().ok()).map(|(who, n)| Self::Event(who, (*kind).to_owned(), n))
            }
            [after] => read_span(after).map(Self::At),
            _ => None,
        };
        parsed.ok_or_else(|| Unreadable(text.trim().to_owned()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashBefore => f.write_str("crash before"),
            Self::CrashLanded => f.write_str("crash landed"),
            Self::CrashAnswered => f.write_str("crash answered"),
            Self::Conflict => f.write_str("conflict"),
            Self::Unapplied(failure) => write!(f, "fails {}", failure.name()),
            Self::LostReply(failure) => write!(f, "lost {}", failure.name()),
            Self::Busy(seconds) => write!(f, "busy {seconds}"),
            Self::Storm(time) => write!(f, "storm {}", span(*time)),
            Self::Vanished => f.write_str("vanished"),
            Self::Refused(why) => write!(f, "refused {}", why.name()),
            Self::Lags(Lag::Events(n)) => write!(f, "lags {n} events"),
            Self::Lags(Lag::Time(time)) => write!(f, "lags {}", span(*time)),
            Self::Lags(Lag::Forever) => f.write_str("lags forever"),
            Self::WatchClosed => f.write_str("watch closed"),
            Self::WatchExpired => f.write_str("watch expired"),
            Self::WatchHangs(time) => write!(f, "watch hangs {}", span(*time)),
            Self::EventLost => f.write_str("event lost"),
            Self::EventTwice => f.write_str("event twice"),
            Self::EventsSwapped => f.write_str("events swapped"),
            Self::Burst(time) => write!(f, "burst {}", span(*time)),
            Self::Recreated => f.write_str("recreated"),
            Self::Overlaps(Overlap::Both) => f.write_str("overlaps"),
            Self::Overlaps(Overlap::Resumed(time)) => write!(f, "overlaps resumed {}", span(*time)),
            Self::Stopped => f.write_str("stopped"),
            Self::Clock(seconds) => write!(f, "clock {seconds:+}"),
            Self::Paused(time) => write!(f, "paused {}", span(*time)),
            Self::WebhookDown(time) => write!(f, "webhook down {}", span(*time)),
            Self::WebhookSlow(time) => write!(f, "webhook slow {}", span(*time)),
            Self::WorkloadAway(time) => write!(f, "workload away {}", span(*time)),
            Self::KubeconfigGone(time) => write!(f, "kubeconfig gone {}", span(*time)),
            Self::Deed(name) => write!(f, "deed {name}"),
            Self::Restored(age) => write!(f, "restored {}", span(*age)),
            Self::EventSink(time) => write!(f, "event sink fails {}", span(*time)),
        }
    }
}

impl FromStr for Fault {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let parsed = match text.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["crash", "before"] => Some(Self::CrashBefore),
            ["crash", "landed"] => Some(Self::CrashLanded),
            ["crash", "answered"] => Some(Self::CrashAnswered),
            ["conflict"] => Some(Self::Conflict),
            ["fails", failure] => Failure::named(failure).map(Self::Unapplied),
            ["lost", failure] => Failure::named(failure).map(Self::LostReply),
            ["busy", seconds] => seconds.parse().ok().map(Self::Busy),
            ["storm", time] => read_span(time).map(Self::Storm),
            ["vanished"] => Some(Self::Vanished),
            ["refused", why] => Refused::named(why).map(Self::Refused),
            ["lags", "forever"] => Some(Self::Lags(Lag::Forever)),
            ["lags", n, "events"] => n.parse().ok().map(|n| Self::Lags(Lag::Events(n))),
            ["lags", time] => read_span(time).map(|time| Self::Lags(Lag::Time(time))),
            ["watch", "closed"] => Some(Self::WatchClosed),
            ["watch", "expired"] => Some(Self::WatchExpired),
            ["watch", "hangs", time] => read_span(time).map(Self::WatchHangs),
            ["event", "lost"] => Some(Self::EventLost),
            ["event", "twice"] => Some(Self::EventTwice),
            ["events", "swapped"] => Some(Self::EventsSwapped),
            ["burst", time] => read_span(time).map(Self::Burst),
            ["recreated"] => Some(Self::Recreated),
            ["overlaps"] => Some(Self::Overlaps(Overlap::Both)),
            ["overlaps", "resumed", time] => read_span(time).map(|time| Self::Overlaps(Overlap::Resumed(time))),
            ["stopped"] => Some(Self::Stopped),
            ["clock", seconds] => seconds.parse().ok().map(Self::Clock),
            ["paused", time] => read_span(time).map(Self::Paused),
            ["webhook", "down", time] => read_span(time).map(Self::WebhookDown),
            ["webhook", "slow", time] => read_span(time).map(Self::WebhookSlow),
            ["workload", "away", time] => read_span(time).map(Self::WorkloadAway),
            ["kubeconfig", "gone", time] => read_span(time).map(Self::KubeconfigGone),
            ["deed", name @ ..] if !name.is_empty() => Some(Self::Deed(name.join(" "))),
            ["restored", age] => read_span(age).map(Self::Restored),
            ["event", "sink", "fails", time] => read_span(time).map(Self::EventSink),
            _ => None,
        };
        parsed.ok_or_else(|| Unreadable(text.trim().to_owned()))
    }
}

impl Failure {
    pub const ALL: [Self; 4] = [Self::Internal, Self::Unavailable, Self::Reset, Self::Timeout];

    fn name(self) -> &'static str {
        match self {
            Self::Internal => "500",
            Self::Unavailable => "503",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| failure.name() == name)
    }
}

impl Refused {
    pub const ALL: [Self; 4] = [Self::Forbidden, Self::Gone, Self::Invalid, Self::Quota];

    fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "403",
            Self::Gone => "410",
            Self::Invalid => "422",
            Self::Quota => "quota",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.name() == name)
    }
}

/// A manager's name in plans and stories.
pub(crate) fn name(provider: Provider) -> &'static str {
    match provider {
        Provider::Infra => "infra",
        Provider::Ipam => "ipam",
    }
}

fn provider(name: &str) -> Option<Provider> {
    match name {
        "infra" => Some(Provider::Infra),
        "ipam" => Some(Provider::Ipam),
        _ => None,
    }
}

/// In the largest unit that says it in whole numbers.
pub(crate) fn span(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    match units.into_iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((unit, length)) => format!("{}{unit}", millis / length),
        None => format!("{millis}ms"),
    }
}

fn read_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: &str = "infra request 7: crash before; infra write 3: crash landed; ipam write 1: crash answered; \
        infra write 2: conflict; infra request 1: fails 500; infra request 1: fails 503; ipam request 1: fails reset; \
        infra request 1: fails timeout; infra write 1: lost 500; infra write 1: lost 503; infra write 1: lost reset; \
        infra write 1: lost timeout; infra request 2: busy 5; infra request 2: storm 30s; infra request 2: vanished; \
        infra request 2: refused 403; infra request 2: refused 410; infra request 2: refused 422; infra request 2: refused quota; \
        infra baremetalhosts.metal3.io event 1: lags 5 events; infra secrets event 2: lags 1500ms; \
        infra baremetalhosts.metal3.io event 1: lags forever; \
        infra baremetalhosts.metal3.io event 3: watch closed; infra baremetalhosts.metal3.io event 3: watch expired; \
        infra baremetalhosts.metal3.io event 3: watch hangs 10m; infra baremetalhosts.metal3.io event 3: event lost; \
        infra baremetalhosts.metal3.io event 3: event twice; infra baremetalhosts.metal3.io event 3: events swapped; \
        infra baremetalhosts.metal3.io event 3: burst 2s; infra request 4: recreated; infra request 4: overlaps; \
        infra request 4: overlaps resumed 10s; infra request 5: stopped; infra request 5: clock -3600; ipam request 5: clock +3600; \
        infra request 5: paused 10m; 10s: webhook down 1m; 10s: webhook slow 1m; 10s: workload away 1h; 10s: kubeconfig gone 30s; \
        0ms: deed strip a finalizer; 10s: restored 5s; 1500ms: event sink fails 1m";

    #[test]
    fn a_plan_is_text_and_text_a_plan() {
        let plan: Plan = EVERY.parse().unwrap();
        assert_eq!(plan.to_string(), EVERY);
        assert_eq!(Plan::calm().to_string().parse(), Ok(Plan::calm()));
    }

    #[test]
    fn what_is_no_plan_is_named() {
        for text in [
            "infra request 7",
            "nobody request 7: conflict",
            "infra write x: conflict",
            "5: conflict",
            "5s: gone fishing",
        ] {
            let error = text.parse::<Plan>().unwrap_err();
            assert!(text.contains(&error.0), "{error}");
        }
    }
}
