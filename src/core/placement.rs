//! Which host a machine gets, and why the others do not fit.
//!
//! The caller hands in the hosts of the machine's namespace as it knows them; what comes back is a [`Placement`]. The
//! claim that follows is written under the `resourceVersion` of the host that was judged here, so a stale view costs
//! another round and never a second consumer.
//!
//! Rules: cluster-and-machine.md 5.6 (M-45 to M-50) with hazards H-5, H-9, H-10, H-51, H-52 and H-55 adopted.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use capm3_api::infra::v1beta2::Metal3MachineSpec;

use crate::planted::{Defect, sown};

/// What a machine asks of its host.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub machine: &'a str,
    pub cluster: &'a str,
    pub selector: &'a Selector,
    /// Preferred, not required: when no host of the domain is free, any free host will do.
    pub failure_domain: Option<&'a str>,
    /// Value of the node-reuse label that this machine answers to, for example `cp-prod`.
    pub reuse: Option<&'a str>,
}

/// The parts of a BareMetalHost that the choice looks at.
#[derive(Clone, Default)]
pub struct Host<'a> {
    pub name: &'a str,
    pub labels: Option<&'a BTreeMap<String, String>>,
    pub consumer: Option<Consumer<'a>>,
    pub state: &'a str,
    pub reuse: Option<&'a str>,
    pub failure_domain: Option<&'a str>,
    pub deleting: bool,
    pub paused: bool,
    pub unhealthy: bool,
    pub error: bool,
    pub detached: bool,
    /// Another machine has already written down that it is going for this host. A hint that saves a lost race, nothing more.
    pub sought: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer<'a> {
    Machine(&'a str),
    /// A host kept for the next machine of the same owner while no machine holds it.
    Cluster(&'a str),
    Foreign,
}

/// What to do about a host, decided once.
#[derive(Debug, PartialEq, Eq)]
pub enum Placement<'a> {
    /// A claim of ours already stands: an earlier pass wrote it and was interrupted before it could remember.
    Adopt(&'a str),
    Claim {
        host: &'a str,
        reused: bool,
    },
    /// Hosts are kept for this machine but none of them is ready yet.
    AwaitReuse(Vec<&'a str>),
    None(WhyNot<'a>),
}

/// Why one host was passed over. The order is the order in which users can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    LabelsDiffer,
    KeptForAnother,
    Claimed,
    Deleting,
    Error,
    Paused,
    Unhealthy,
    Detached,
    NotAvailable,
}

/// The answer to "why does this machine have no host?", ready to be shown.
#[derive(Debug, PartialEq, Eq)]
pub struct WhyNot<'a> {
    pub hosts: usize,
    pub excluded: BTreeMap<Reason, usize>,
    /// The host that failed the latest rule, and of its labels the fewest: the one that came closest.
    pub nearest: Option<Miss<'a>>,
    selector: String,
}

/// A host that does not fit, and what it is that it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss<'a> {
    pub host: &'a str,
    pub reason: Reason,
    /// The requirements of the selector that its labels do not meet.
    pub unmet: Vec<String>,
}

/// How one host stands to one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Mine,
    KeptForUs { ready: bool },
    Free,
    Out(Reason),
}

/// Chooses among `hosts`, which must be in name order. `pick` settles ties: any number, used modulo the candidates.
pub fn place<'a>(wanted: &Wanted<'_>, hosts: impl IntoIterator<Item = Host<'a>>, pick: usize) -> Placement<'a> {
    let mut free = Vec::new();
    let mut kept = Vec::new();
    let mut why = WhyNot { hosts: 0, excluded: BTreeMap::new(), nearest: None, selector: wanted.selector.to_string() };

    for host in hosts {
        why.hosts += 1;
        match judge(wanted, &host) {
            Verdict::Mine => return Placement::Adopt(host.name),
            Verdict::KeptForUs { ready } => kept.push((host, ready)),
            Verdict::Free => free.push(host),
            Verdict::Out(reason) => why.add(wanted.selector, &host, reason),
        }
    }

    if !kept.is_empty() {
        let ready: Vec<_> = kept.iter().filter(|(_, ready)| *ready).map(|(host, _)| host).collect();
        return match choose(wanted, &ready, pick) {
            Some(host) => Placement::Claim { host, reused: true },
            None => Placement::AwaitReuse(kept.iter().map(|(host, _)| host.name).collect()),
        };
    }
    match choose(wanted, &free.iter().collect::<Vec<_>>(), pick) {
        Some(host) => Placement::Claim { host, reused: false },
        None => Placement::None(why),
    }
}

/// Whether a choice among these is one among all: there is a free host with everything that is wished for. Those that are kept for
/// the machine are not looked for here; when there are any, the choice is among all.
pub fn suffices<'a>(wanted: &Wanted<'_>, hosts: impl IntoIterator<Item = Host<'a>>) -> bool {
    let at_home = |host: &Host<'_>| wanted.failure_domain.is_none() || host.failure_domain == wanted.failure_domain;
    hosts.into_iter().any(|host| judge(wanted, &host) == Verdict::Free && at_home(&host) && !host.sought)
}

/// One host against the rules, in their order: the first that excludes it is the reason shown.
pub fn judge(wanted: &Wanted<'_>, host: &Host<'_>) -> Verdict {
    let selected = wanted.selector.matches(host.labels) || !sown(Defect::OwnHostBySelector);
    if host.consumer == Some(Consumer::Machine(wanted.machine)) && selected {
        return Verdict::Mine; // before every filter: labels or state may have changed since the claim (H-5)
    }
    let kept_for_us = host.reuse.is_some_and(|reuse| !reuse.is_empty()) && host.reuse == wanted.reuse;
    let held = match host.consumer {
        Some(Consumer::Machine(_)) if sown(Defect::ConsumerOverwritten) => false,
        None => false,
        // Kept for us (H-9), or no longer kept for anybody since somebody took the label off.
        Some(Consumer::Cluster(name)) => !((kept_for_us || host.reuse.is_none()) && name == wanted.cluster),
        Some(Consumer::Machine(_) | Consumer::Foreign) => true,
    };
    let available = matches!(host.state, "available" | "ready");

    let out = [
        (!wanted.selector.matches(host.labels), Reason::LabelsDiffer),
        (host.reuse.is_some() && !kept_for_us, Reason::KeptForAnother),
        (held, Reason::Claimed),
        (host.deleting && !sown(Defect::BrokenHostClaimed), Reason::Deleting),
        (host.error && !sown(Defect::BrokenHostClaimed), Reason::Error),
        (host.paused, Reason::Paused),
        (host.unhealthy, Reason::Unhealthy),
        (host.detached, Reason::Detached),
        (!available && !kept_for_us && !sown(Defect::AnyStateClaimed), Reason::NotAvailable),
    ];
    match out.into_iter().find(|(excluded, _)| *excluded) {
        Some((_, reason)) => Verdict::Out(reason),
        None if kept_for_us => Verdict::KeptForUs { ready: available },
        None => Verdict::Free,
    }
}

/// The failure domain is a wish (M-50): its hosts if there are any, otherwise all. A value that no label can have is
/// simply a domain without hosts (H-51). Among them, first those that no other machine is after.
fn choose<'a>(wanted: &Wanted<'_>, hosts: &[&Host<'a>], pick: usize) -> Option<&'a str> {
    let in_domain = narrow(hosts, |h| wanted.failure_domain.is_some() && h.failure_domain == wanted.failure_domain);
    let from = narrow(&in_domain, |h| !h.sought);
    (!from.is_empty()).then(|| from[pick % from.len()].name)
}

/// The hosts for which `wish` holds, or all of them when it holds for none.
fn narrow<'h, 'a>(hosts: &[&'h Host<'a>], wish: impl Fn(&Host<'a>) -> bool) -> Vec<&'h Host<'a>> {
    let granted: Vec<_> = hosts.iter().copied().filter(|h| wish(h)).collect();
    if granted.is_empty() { hosts.to_vec() } else { granted }
}

impl<'a> WhyNot<'a> {
    fn add(&mut self, selector: &Selector, host: &Host<'a>, reason: Reason) {
        *self.excluded.entry(reason).or_default() += 1;
        let unmet = || selector.unmet(host.labels);
        let is_nearer = self.nearest.as_ref().is_none_or(|miss| match reason.cmp(&miss.reason) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => unmet().count() < miss.unmet.len(),
        });
        if is_nearer {
            let unmet = unmet().map(ToString::to_string).collect();
            self.nearest = Some(Miss { host: host.name, reason, unmet });
        }
    }
}

/// Stable for a stable situation, because it is compared before it is written to a condition.
impl fmt::Display for WhyNot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Miss { host: nearest, reason, unmet }) = &self.nearest else {
            return f.write_str("no BareMetalHost in this namespace");
        };
        let lacks =
            if unmet.is_empty() { reason.to_string() } else { format!("it does not match {}", unmet.join(", ")) };
        let counts: Vec<_> = self
            .excluded
            .iter()
            .map(|(reason, n)| match reason {
                Reason::LabelsDiffer => format!("{n} {reason} ({})", self.selector),
                _ => format!("{n} {reason}"),
            })
            .collect();
        write!(f, "none of {} BareMetalHosts fits: {}; nearest is {nearest} ({lacks})", self.hosts, counts.join(", "))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LabelsDiffer => "without the required labels",
            Self::KeptForAnother => "kept for another owner's reuse",
            Self::Claimed => "claimed",
            Self::Deleting => "being deleted",
            Self::Error => "in error",
            Self::Paused => "paused",
            Self::Unhealthy => "marked unhealthy",
            Self::Detached => "detached",
            Self::NotAvailable => "not available yet",
        })
    }
}

/// The labels that a host must carry, parsed once. Without requirements every host matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

/// A requirement that can never be evaluated. Nothing is chosen while one is there (M-46).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("hostSelector: key {0:?} is not a label key")]
    Key(String),
    #[error("hostSelector: {value:?} for key {key:?} is not a label value")]
    Value { key: String, value: String },
    #[error("hostSelector: operator {operator:?} for key {key:?} is unknown")]
    Operator { key: String, operator: String },
    #[error("hostSelector: operator {operator:?} for key {key:?} does not take {given} values")]
    Count { key: String, operator: String, given: usize },
    #[error("hostSelector: operator {operator:?} for key {key:?} compares whole numbers, not {value:?}")]
    Number { key: String, operator: String, value: String },
}

impl Selector {
    /// The hosts that a machine, or a machine of a template, may be put on.
    pub fn of(spec: &Metal3MachineSpec) -> Result<Self, SelectorError> {
        let Some(selector) = &spec.host_selector else { return Ok(Self::default()) };
        let expressions =
            selector.match_expressions.iter().map(|e| (e.key.as_str(), e.operator.as_str(), e.values.as_slice()));
        Self::new(&selector.match_labels, expressions)
    }

    /// `labels` are the pairs of `matchLabels`; `expressions` the key, operator and values of `matchExpressions`.
    pub fn new<'a>(
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
        expressions: impl IntoIterator<Item = (&'a str, &'a str, &'a [String])>,
    ) -> Result<Self, SelectorError> {
        let equal = labels.into_iter().map(|(key, value)| requirement(key, "=", std::slice::from_ref(value)));
        let others = expressions.into_iter().map(|(key, operator, values)| requirement(key, operator, values));
        equal.chain(others).collect::<Result<_, _>>().map(Self)
    }

    /// How many requirements it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.unmet(labels).next().is_none()
    }

    fn unmet<'s>(&'s self, labels: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = &'s Requirement> {
        self.0.iter().filter(move |requirement| !requirement.test.holds(labels.and_then(|l| l.get(&requirement.key))))
    }
}

fn requirement(key: &str, operator: &str, values: &[String]) -> Result<Requirement, SelectorError> {
    if !is_label_key(key) {
        return Err(SelectorError::Key(key.to_owned()));
    }
    if let Some(value) = values.iter().find(|value| !is_label_value(value)) {
        return Err(SelectorError::Value { key: key.to_owned(), value: value.clone() });
    }
    let number = |value: &String| {
        value.parse().map_err(|_| SelectorError::Number {
            key: key.to_owned(),
            operator: operator.to_owned(),
            value: value.clone(),
        })
    };
    let test = match (operator.to_lowercase().as_str(), values) {
        ("in", [_, ..]) | ("=" | "==", [_]) => Test::In(values.to_vec()),
        ("notin", [_, ..]) | ("!=", [_]) => Test::NotIn(values.to_vec()),
        ("exists", []) => Test::Exists,
        ("!" | "doesnotexist", []) => Test::Absent, // H-52
        ("gt", [value]) => Test::Above(number(value)?),
        ("lt", [value]) => Test::Below(number(value)?),
        ("in" | "=" | "==" | "notin" | "!=" | "exists" | "!" | "doesnotexist" | "gt" | "lt", _) => {
            return Err(SelectorError::Count {
                key: key.to_owned(),
                operator: operator.to_owned(),
                given: values.len(),
            });
        }
        _ => return Err(SelectorError::Operator { key: key.to_owned(), operator: operator.to_owned() }),
    };
    Ok(Requirement { key: key.to_owned(), test })
}

impl Test {
    fn holds(&self, value: Option<&String>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|v| values.contains(v)),
            Self::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::Above(bound) => number().is_some_and(|n| n > *bound),
            Self::Below(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            Test::In(values) => write!(f, "{key} in ({})", values.join(",")),
            Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
            Test::Exists => write!(f, "{key}"),
            Test::Absent => write!(f, "!{key}"),
            Test::Above(bound) => write!(f, "{key}>{bound}"),
            Test::Below(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

/// An optional DNS prefix and a name, as the API server wants label keys.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let domain = |prefix: &str| {
        prefix.len() <= 253
            && prefix.split('.').all(|part| {
                is_word(part) && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    };
    prefix.is_none_or(domain) && is_word(name) && name.len() <= 63
}

fn is_label_value(value: &str) -> bool {
    value.is_empty() || (is_word(value) && value.len() <= 63)
}

/// Letters and digits at both ends; between them also `-`, `_` and `.`.
fn is_word(word: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    word.bytes().all(inner) && edge(word.as_bytes().first()) && edge(word.as_bytes().last())
}

#[cfg(test)]
mod tests;
