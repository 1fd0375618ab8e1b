//! AdmissionReview in, AdmissionReview out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capm3_api::validate::{self, Admission, Verdict};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::desk::Counted;
use crate::patch;

/// What a kind needs to pass through here.
pub(crate) trait Kind: Admission + DeserializeOwned + Serialize {}
impl<K: Admission + DeserializeOwned + Serialize> Kind for K {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    operation: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

/// Why a request is refused, as a `Status`.
struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Refusal {
    fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// All errors of one object together, each with its path.
    fn invalid<K: Kind>(name: &str, verdict: &Verdict) -> Self {
        let (kind, group) = (K::kind(&()), K::group(&()));
        let said: Vec<_> = verdict.errors.iter().map(ToString::to_string).collect();
        let all = if let [one] = said.as_slice() { one.clone() } else { format!("[{}]", said.join(", ")) };
        let cause = |error: &validate::FieldError| json!({"reason": error.kind.reason(), "message": error.to_string(), "field": error.path});
        let causes: Vec<_> = verdict.errors.iter().map(cause).collect();
        Self {
            code: 422,
            reason: "Invalid",
            message: format!("{kind}.{group} {name:?} is invalid: {all}"),
            details: json!({"group": group, "kind": kind, "name": name, "causes": causes}),
        }
    }
}

#[derive(Default)]
struct Answer {
    patch: Vec<Value>,
    warnings: Vec<String>,
}

pub(crate) fn validate<K: Kind>(review: Value, counted: &Counted) -> Result<Value, String> {
    respond(review, counted, |request| {
        let (object, old): (K, Option<K>) = match request.operation.as_str() {
            "CREATE" => (read(&request.object)?, None),
            "UPDATE" if request.old_object.is_null() => {
                return Err(Refusal::plain(400, "BadRequest", "an update without the old object"));
            }
            "UPDATE" => (read(&request.object)?, Some(read(&request.old_object)?)),
            _ => return Ok(Answer::default()), // leaving is never refused (W-3)
        };
        let verdict = match &old {
            None => validate::validate_create(&object),
            Some(old) => validate::validate_update(old, &object, request.dry_run == Some(true)),
        };
        if !verdict.errors.is_empty() {
            let name = object.meta().name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&request.name);
            return Err(Refusal::invalid::<K>(name, &verdict));
        }
        Ok(Answer { warnings: verdict.warnings, ..Answer::default() })
    })
}

pub(crate) fn mutate<K: Kind>(review: Value, counted: &Counted) -> Result<Value, String> {
    respond(review, counted, |request| {
        if !matches!(request.operation.as_str(), "CREATE" | "UPDATE") {
            return Ok(Answer::default());
        }
        let mut object: K = read(&request.object)?;
        let before = write(&object)?;
        object.default();
        let after = write(&object)?;
        Ok(Answer { patch: patch::additions(&request.object, &before, &after), ..Answer::default() })
    })
}

fn read<K: Kind>(object: &Value) -> Result<K, Refusal> {
    validate::read(object.clone()).map_err(|error| Refusal::plain(400, "BadRequest", format!("cannot read: {error}")))
}

fn write<K: Kind>(object: &K) -> Result<Value, Refusal> {
    serde_json::to_value(object).map_err(|error| Refusal::plain(500, "InternalError", error.to_string()))
}

/// The review with the response that `judge` comes to; a panic in it is an answer too.
fn respond(
    review: Value,
    counted: &Counted,
    judge: impl FnOnce(&Request) -> Result<Answer, Refusal>,
) -> Result<Value, String> {
    let Review { api_version, request } = serde_json::from_value(review).map_err(|error| error.to_string())?;
    let outcome =
        counted.caught(|| judge(&request)).unwrap_or_else(|panic| Err(Refusal::plain(500, "InternalError", panic)));
    let mut response = json!({"uid": request.uid, "allowed": outcome.is_ok()});
    match outcome {
        Ok(Answer { patch, warnings }) => {
            if !patch.is_empty() {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = STANDARD.encode(Value::from(patch).to_string()).into();
            }
            if !warnings.is_empty() {
                response["warnings"] = warnings.into();
            }
            response["status"] = json!({"code": 200});
        }
        Err(Refusal { code, reason, message, details }) => {
            tracing::debug!(code, message, "refused");
            response["status"] = json!({"status": "Failure", "code": code, "reason": reason, "message": message});
            if !details.is_null() {
                response["status"]["details"] = details;
            }
        }
    }
    Ok(json!({"apiVersion": api_version, "kind": "AdmissionReview", "response": response}))
}

#[cfg(test)]
mod tests {
    use capm3_runtime::Metrics;

    use super::*;

    #[test]
    fn w_4_a_panic_becomes_500() {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u", "operation": "CREATE"}});
        let reply = respond(review, &Counted::new(&Metrics::new()), |_| panic!("went wrong")).unwrap();
        assert_eq!((&reply["response"]["uid"], &reply["response"]["allowed"]), (&json!("u"), &json!(false)));
        assert_eq!(reply["response"]["status"]["code"], 500);
        assert_eq!(reply["response"]["status"]["message"], "panic: went wrong");
    }
}
