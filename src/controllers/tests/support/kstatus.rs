//! What kstatus concludes of an object that it knows nothing of, by its own rules: Flux and kpt wait by them, and Argo CD's are of
//! the same kind. What is absent counts as done.

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    InProgress,
    Current,
    Failed,
    Terminating,
}

pub(crate) fn verdict(object: &Value) -> Verdict {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return Verdict::Terminating;
    }
    let generation = |path| object.pointer(path).and_then(Value::as_i64);
    let observed = generation("/status/observedGeneration");
    if observed.is_some() && observed != generation("/metadata/generation") {
        return Verdict::InProgress;
    }
    let is = |kind: &str, status: &str| condition(object, kind).is_some_and(|found| found["status"] == status);
    match () {
        () if is("Reconciling", "True") => Verdict::InProgress,
        () if is("Stalled", "True") => Verdict::Failed,
        () if is("Ready", "False") || is("Ready", "Unknown") => Verdict::InProgress,
        () => Verdict::Current,
    }
}

/// Reason and words of `Ready`.
pub(crate) fn said(object: &Value) -> (&str, &str) {
    let ready = condition(object, "Ready");
    let text = |field: &str| ready.and_then(|ready| ready[field].as_str()).unwrap_or_default();
    (text("reason"), text("message"))
}

fn condition<'o>(object: &'o Value, kind: &str) -> Option<&'o Value> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().find(|found| found["type"] == kind)
}
