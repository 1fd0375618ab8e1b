//! What an object says about itself, in both dialects of conditions.
//!
//! A pass collects what it found as [`Finding`]s, at most one per condition type, and [`write()`] turns the whole set into
//! `status.conditions` and `status.deprecated.v1beta1.conditions` at the end. So a condition never flips back and forth
//! inside one pass (H-43), a transition time moves only with what it dates, and equal situations read equal.
//!
//! Rules: cluster-and-machine.md S-6 to S-10, H-53.

use std::borrow::Cow;
use std::cmp::Reverse;

use capm3_api::common::V1Beta1Condition as LegacyCondition;
use capm3_api::k8s::{Condition, Time, Timestamp};

pub const READY: &str = "Ready";
pub const PAUSED: &str = "Paused";

/// Lengths that the schemas admit, in bytes to be on the safe side.
const MESSAGE_MAX: usize = 32_768;
const LEGACY_MESSAGE_MAX: usize = 10_240;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    True,
    False,
    Unknown,
}

/// How bad a false condition of the old dialect is. Declared from bad to harmless: the order of the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
    Info,
}

/// One row of the condition tables: a situation that has a name, and how each dialect spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub kind: &'static str,
    pub status: Status,
    pub reason: &'static str,
    pub legacy: Legacy,
}

/// The same situation in the old dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// Says nothing about it and leaves what is there.
    Silent,
    True(&'static str),
    False(&'static str, Severity, &'static str),
    /// The condition has nothing to report any more.
    Gone(&'static str),
}

/// A row that holds for an object now, with the words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub row: Row,
    pub message: String,
}

/// Findings of one pass. The later word about a condition type replaces the earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    said: Vec<Finding>,
    awaited: Option<Finding>,
}

/// A condition of the new dialect before it is dated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub status: Status,
    pub reason: &'static str,
    pub message: String,
}

impl Row {
    pub const fn yes(kind: &'static str, reason: &'static str, legacy: Legacy) -> Self {
        Self { kind, status: Status::True, reason, legacy }
    }

    pub const fn no(kind: &'static str, reason: &'static str, legacy: Legacy) -> Self {
        Self { kind, status: Status::False, reason, legacy }
    }
}

impl Findings {
    pub fn say(&mut self, row: Row, message: impl Into<String>) {
        self.said.retain(|finding| finding.row.kind != row.kind);
        self.said.push(Finding { row, message: message.into() });
    }

    /// What `Ready` still waits for when no condition says no.
    pub fn expect(&mut self, row: Row, message: impl Into<String>) {
        self.awaited = Some(Finding { row, message: message.into() });
    }

    /// What was waited for has come.
    pub fn arrived(&mut self) {
        self.awaited = None;
    }

    pub fn get(&self, kind: &str) -> Option<&Finding> {
        self.said.iter().find(|finding| finding.row.kind == kind)
    }

    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.said.iter()
    }
}

/// Where an object keeps its conditions, and how they add up to `Ready`.
pub struct Board<'a> {
    pub current: &'a mut Vec<Condition>,
    pub legacy: &'a mut Vec<LegacyCondition>,
    pub generation: Option<i64>,
    pub now: Timestamp,
}

/// Writes the findings and both summaries. `parts` and `legacy_parts` are the types that `Ready` is made of, in order.
pub fn write(board: &mut Board<'_>, findings: &Findings, parts: &[&str], legacy_parts: &[&str]) {
    for Finding { row, message } in findings.iter() {
        set(board.current, row.kind, row.status, row.reason, message, board.generation, board.now);
        match row.legacy {
            Legacy::Silent => {}
            Legacy::Gone(kind) => board.legacy.retain(|c| c.type_ != kind),
            Legacy::True(kind) => set_legacy(board.legacy, kind, Status::True, None, "", "", board.now),
            Legacy::False(kind, severity, reason) => {
                set_legacy(board.legacy, kind, Status::False, Some(severity), reason, message, board.now);
            }
        }
    }
    let mut ready = summarize(board.current, parts);
    let awaited = findings.awaited.as_ref();
    if let Some(Finding { row, message }) = awaited.filter(|_| ready.status != Status::False) {
        ready = Summary { status: row.status, reason: row.reason, message: message.clone() };
    }
    set(board.current, READY, ready.status, ready.reason, &ready.message, board.generation, board.now);
    if let Some(best) = summarize_legacy(board.legacy, legacy_parts).cloned() {
        let open = awaited.filter(|_| Status::parse(&best.status) != Status::False);
        if let Some((Legacy::False(kind, severity, reason), message)) = open.map(|f| (f.row.legacy, &f.message)) {
            return set_legacy(board.legacy, kind, Status::False, Some(severity), reason, message, board.now);
        }
        let severity = best.severity.as_deref().and_then(Severity::parse);
        let reason = best.reason.unwrap_or_default();
        let message = best.message.unwrap_or_default();
        set_legacy(board.legacy, READY, Status::parse(&best.status), severity, &reason, &message, board.now);
    }
}

pub fn get<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    get(conditions, kind).is_some_and(|c| c.status == Status::True.as_str())
}

pub fn is_true_legacy(conditions: &[LegacyCondition], kind: &str) -> bool {
    conditions.iter().any(|c| c.type_ == kind && c.status == Status::True.as_str())
}

/// Sets one condition of the new dialect: dated anew only when its status changes (S-8).
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: Status,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let since = match get(conditions, kind) {
        Some(existing) if existing.status == status.as_str() => existing.last_transition_time.clone(),
        _ => Time(whole_second(now)),
    };
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: cut(message, MESSAGE_MAX).into_owned(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(existing) => *existing = condition,
        None => conditions.push(condition),
    }
    conditions.sort_by(|a, b| rank(&a.type_).cmp(&rank(&b.type_)).then_with(|| a.type_.cmp(&b.type_)));
}

/// Sets one condition of the old dialect: dated anew when anything about it changes (S-10).
fn set_legacy(
    conditions: &mut Vec<LegacyCondition>,
    kind: &str,
    status: Status,
    severity: Option<Severity>,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut condition = LegacyCondition {
        type_: kind.to_owned(),
        status: status.as_str().to_owned(),
        severity: severity.map(|s| s.as_str().to_owned()),
        reason: some(reason),
        message: some(&cut(message, LEGACY_MESSAGE_MAX)),
        last_transition_time: Some(Time(whole_second(now))),
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(existing) => {
            let since = std::mem::replace(&mut condition.last_transition_time, existing.last_transition_time.clone());
            if *existing != condition {
                condition.last_transition_time = since;
                *existing = condition;
            }
        }
        None => conditions.push(condition),
    }
    conditions.sort_by(|a, b| rank(&a.type_).cmp(&rank(&b.type_)).then_with(|| a.type_.cmp(&b.type_)));
}

/// `Ready` of the new dialect (S-9).
pub fn summarize(conditions: &[Condition], parts: &[&str]) -> Summary {
    let seen: Vec<_> = parts.iter().map(|kind| (*kind, get(conditions, kind))).collect();
    let status_of = |condition: Option<&Condition>| condition.map_or(Status::Unknown, |c| Status::parse(&c.status));
    let (status, reason) = if seen.iter().any(|(_, c)| status_of(*c) == Status::False) {
        (Status::False, "NotReady")
    } else if seen.iter().any(|(_, c)| status_of(*c) == Status::Unknown) {
        (Status::Unknown, "ReadyUnknown")
    } else {
        (Status::True, "Ready")
    };
    let lines: Vec<_> = seen
        .iter()
        .filter(|(_, c)| match status {
            Status::True => c.is_some_and(|c| !c.message.is_empty()),
            Status::False | Status::Unknown => status_of(*c) != Status::True,
        })
        .map(|(kind, c)| line(kind, *c))
        .collect();
    Summary { status, reason, message: lines.join("\n") }
}

fn line(kind: &str, condition: Option<&Condition>) -> String {
    let text = match condition {
        None => "Condition not yet reported",
        Some(c) if c.message.is_empty() => &c.reason,
        Some(c) => &c.message,
    };
    if text.contains('\n') {
        let inner: Vec<_> = text.lines().map(|l| format!("  {l}")).collect();
        format!("* {kind}:\n{}", inner.join("\n"))
    } else {
        format!("* {kind}: {text}")
    }
}

/// The condition that decides `Ready` of the old dialect (S-10): of the worst group the one listed first.
fn summarize_legacy<'a>(conditions: &'a [LegacyCondition], parts: &[&str]) -> Option<&'a LegacyCondition> {
    let group = |c: &LegacyCondition| match Status::parse(&c.status) {
        Status::False => match c.severity.as_deref().and_then(Severity::parse) {
            Some(Severity::Error) => 4,
            Some(Severity::Warning) => 3,
            Some(Severity::Info) | None => 2,
        },
        Status::True => 1,
        Status::Unknown => 0,
    };
    let present = parts.iter().filter_map(|kind| conditions.iter().find(|c| c.type_ == *kind));
    present.min_by_key(|c| Reverse(group(c)))
}

fn rank(kind: &str) -> u8 {
    match kind {
        "Available" => 0,
        READY => 1,
        PAUSED => 3,
        _ => 2,
    }
}

/// Transition times carry whole seconds, as the API server stores them.
pub fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The text in at most `max` bytes, cut between characters.
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = (0..=max.saturating_sub('…'.len_utf8())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    pub fn parse(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "Error",
            Self::Warning => "Warning",
            Self::Info => "Info",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Error, Self::Warning, Self::Info].into_iter().find(|s| s.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [&str; 2] = ["A", "B"];

    #[derive(Default)]
    struct Object {
        current: Vec<Condition>,
        legacy: Vec<LegacyCondition>,
    }

    impl Object {
        fn pass(&mut self, second: i64, findings: &[(Row, &str)]) {
            let mut said = Findings::default();
            for (row, message) in findings {
                said.say(*row, *message);
            }
            let mut board = Board {
                current: &mut self.current,
                legacy: &mut self.legacy,
                generation: Some(1),
                now: Timestamp::from_second(second).unwrap(),
            };
            write(&mut board, &said, &PARTS, &["LA", "LB"]);
        }

        fn ready(&self) -> (&str, &str, &str) {
            let c = get(&self.current, READY).unwrap();
            (&c.status, &c.reason, &c.message)
        }

        fn since(&self, kind: &str) -> i64 {
            get(&self.current, kind).unwrap().last_transition_time.0.as_second()
        }
    }

    const A_YES: Row = Row::yes("A", "Fine", Legacy::True("LA"));
    const A_NO: Row = Row::no("A", "Broken", Legacy::False("LA", Severity::Error, "LBroken"));
    const B_YES: Row = Row::yes("B", "Fine", Legacy::True("LB"));
    const B_NO: Row = Row::no("B", "Waiting", Legacy::False("LB", Severity::Info, "LWaiting"));

    #[test]
    fn s_9_a_missing_part_leaves_ready_unknown() {
        let mut object = Object::default();
        object.pass(1, &[(A_YES, "")]);
        assert_eq!(object.ready(), ("Unknown", "ReadyUnknown", "* B: Condition not yet reported"));
    }

    #[test]
    fn s_9_false_beats_unknown_and_all_problems_are_listed() {
        let mut object = Object::default();
        object.pass(1, &[(A_NO, "one\ntwo")]);
        assert_eq!(object.ready(), ("False", "NotReady", "* A:\n  one\n  two\n* B: Condition not yet reported"));
        object.pass(2, &[(A_NO, ""), (B_NO, "no data")]);
        assert_eq!(object.ready(), ("False", "NotReady", "* A: Broken\n* B: no data"));
    }

    #[test]
    fn s_9_ready_lists_only_messages() {
        let mut object = Object::default();
        object.pass(1, &[(A_YES, ""), (B_YES, "")]);
        assert_eq!(object.ready(), ("True", "Ready", ""));
        object.pass(1, &[(A_YES, "slowly")]);
        assert_eq!(object.ready(), ("True", "Ready", "* A: slowly"));
    }

    #[test]
    fn s_8_the_date_moves_with_the_status_only() {
        let mut object = Object::default();
        object.pass(1, &[(A_NO, "x")]);
        object.pass(2, &[(A_NO, "y")]);
        assert_eq!(object.since("A"), 1);
        object.pass(3, &[(A_YES, "")]);
        assert_eq!(object.since("A"), 3);
    }

    #[test]
    fn s_8_order_of_the_list() {
        let mut object = Object::default();
        let silent = |kind| Row::yes(kind, "Fine", Legacy::Silent);
        let said = [silent(PAUSED), B_YES, A_YES, silent("Zoned"), silent("Available")];
        object.pass(1, &said.map(|row| (row, "")));
        let order: Vec<_> = object.current.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(order, ["Available", "Ready", "A", "B", "Zoned", "Paused"]);
    }

    #[test]
    fn s_10_the_worst_group_decides_and_the_date_moves_with_any_change() {
        let mut object = Object::default();
        object.pass(1, &[(A_YES, ""), (B_NO, "no data")]);
        let ready = object.legacy[0].clone();
        assert_eq!(
            (ready.type_.as_str(), ready.status.as_str(), ready.severity.as_deref(), ready.reason.as_deref()),
            ("Ready", "False", Some("Info"), Some("LWaiting"))
        );
        object.pass(2, &[(A_NO, "broken"), (B_NO, "no data")]);
        assert_eq!(object.legacy[0].reason.as_deref(), Some("LBroken"));
        assert_eq!(object.legacy[0].last_transition_time.as_ref().unwrap().0.as_second(), 2);
        object.pass(3, &[(A_YES, ""), (B_YES, "")]);
        assert_eq!((object.legacy[0].status.as_str(), &object.legacy[0].reason), ("True", &None));
    }

    #[test]
    fn s_10_without_parts_there_is_no_summary() {
        let mut object = Object::default();
        object.pass(1, &[]);
        assert!(object.legacy.is_empty());
    }

    #[test]
    fn n_21_the_same_findings_later_change_nothing() {
        let mut object = Object::default();
        object.pass(1, &[(A_NO, "x"), (B_YES, "")]);
        let before = (object.current.clone(), object.legacy.clone());
        object.pass(100, &[(A_NO, "x"), (B_YES, "")]);
        assert_eq!((object.current, object.legacy), before);
    }

    #[test]
    fn h_53_long_messages_are_cut_between_characters() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöüß", 7), "äö…");
    }

    #[test]
    fn a_later_word_replaces_an_earlier_one() {
        let mut findings = Findings::default();
        findings.say(A_NO, "x");
        findings.say(A_YES, "");
        assert_eq!(findings.iter().count(), 1);
        assert_eq!(findings.get("A").map(|f| f.row), Some(A_YES));
    }

    #[test]
    fn a_condition_is_true_by_kind_and_status() {
        let condition = |kind: &str, status: &str| Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: String::new(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        let legacy = |kind: &str, status: &str| LegacyCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            ..LegacyCondition::default()
        };
        for (a, b, expected) in [("True", "False", true), ("False", "True", false), ("Unknown", "True", false)] {
            assert_eq!(is_true(&[condition("A", a), condition("B", b)], "A"), expected);
            assert_eq!(is_true_legacy(&[legacy("A", a), legacy("B", b)], "A"), expected);
        }
        assert!(!is_true(&[], "A") && !is_true_legacy(&[], "A"));
    }
}
