//! Metal3Remediation and Metal3RemediationTemplate (C-70 to C-75). A timeout is text in one version, seconds in the other.

use serde_json::{Value, json};

use super::Object;
use super::cluster::template_spec;
use super::json::{drop_each_empty, drop_empty, object};

pub(super) fn up(remediation: &mut Object, _: Option<&Value>) {
    if let Some(spec) = object(remediation, "spec") {
        strategy_up(spec);
    }
    if let Some(status) = object(remediation, "status") {
        drop_each_empty(status, &["phase", "retryCount"]);
    }
}

pub(super) fn down(remediation: &mut Object) {
    if let Some(spec) = object(remediation, "spec") {
        strategy_down(spec);
    }
}

pub(super) fn template_up(template: &mut Object, _: Option<&Value>) {
    if let Some(spec) = template_spec(template) {
        strategy_up(spec);
    }
    if let Some(status) = object(template, "status") {
        if let Some(status) = object(status, "status") {
            drop_each_empty(status, &["phase", "retryCount"]);
        }
        drop_empty(status, "status");
    }
}

pub(super) fn template_down(template: &mut Object) {
    if let Some(spec) = template_spec(template) {
        strategy_down(spec);
    }
    // v1beta1 demands the inner status wherever there is an outer one.
    if let Some(status) = object(template, "status") {
        status.entry("status").or_insert_with(|| json!({}));
    }
}

fn strategy_up(spec: &mut Object) {
    let Some(strategy) = object(spec, "strategy") else { return };
    drop_each_empty(strategy, &["type", "retryLimit"]);
    if let Some(timeout) = strategy.remove("timeout") {
        let seconds = timeout.as_str().and_then(seconds).unwrap_or_default();
        strategy.insert("timeoutSeconds".into(), seconds.into());
        drop_empty(strategy, "timeoutSeconds");
    }
}

fn strategy_down(spec: &mut Object) {
    let Some(strategy) = object(spec, "strategy") else { return };
    if let Some(seconds) = strategy.remove("timeoutSeconds").as_ref().and_then(Value::as_i64)
        && seconds != 0
    {
        strategy.insert("timeout".into(), text(seconds).into());
    }
}

/// Whole seconds of a duration in Go's notation (`1h30m`, `1.5s`, `-90s`), toward zero; `None` when it is not one.
fn seconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() || nanos == 0 {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let (unit, nanos_per_unit) = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("μs", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000_i128),
        ]
        .into_iter()
        .filter(|(unit, _)| tail.starts_with(unit))
        .max_by_key(|(unit, _)| unit.len())?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
        nanos = nanos.saturating_add(whole * nanos_per_unit);
        let mut place = nanos_per_unit;
        for digit in fraction.chars().filter_map(|c| c.to_digit(10)) {
            place /= 10;
            nanos = nanos.saturating_add(i128::from(digit) * place);
        }
        rest = &tail[unit.len()..];
        if rest.is_empty() {
            break;
        }
    }
    let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX).min(i32::MAX.into());
    Some(if negative { -seconds } else { seconds })
}

/// Seconds in Go's notation: `1m40s`, `10m0s`, `1h0m0s`.
fn text(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let all = seconds.unsigned_abs();
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, s) => format!("{sign}{s}s"),
        (0, m, s) => format!("{sign}{m}m{s}s"),
        (h, m, s) => format!("{sign}{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_27_durations_become_whole_seconds_and_back() {
        for (duration, expected) in [
            ("90s", Some(90)),
            ("1m40s", Some(100)),
            ("500ms", Some(0)),
            ("1.9s", Some(1)),
            ("600h", Some(2_160_000)),
            ("600000h", Some(2_147_483_647)),
            ("1h30m", Some(5400)),
            ("-90s", Some(-90)),
            (".5m", Some(30)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1x", None),
            ("1.2.3s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(seconds(duration), expected, "{duration}");
        }
        for (whole, expected) in [(600, "10m0s"), (3600, "1h0m0s"), (100, "1m40s"), (59, "59s"), (-100, "-1m40s")] {
            assert_eq!(text(whole), expected);
            assert_eq!(seconds(expected), Some(whole));
        }
    }
}
