//! ConversionReview in, ConversionReview out (C-2): all objects in order, or a failure and none.

use std::collections::BTreeMap;

use capm3_api::convert::{ConvertError, convert};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::desk::Counted;

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
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    #[serde(default)]
    objects: Vec<Value>,
}

pub(crate) fn review(review: Value, counted: &Counted) -> Result<Value, String> {
    let Review { api_version, request } = serde_json::from_value(review).map_err(|error| error.to_string())?;
    let Request { uid, desired_api_version, objects } = request;
    let mut tally = Tally::default();
    let all = || -> Result<Vec<Value>, ConvertError> {
        let one = |object: Value| {
            let series = series(&object, &desired_api_version);
            let converted = convert(object, &desired_api_version);
            tally.add(series, &converted);
            converted
        };
        objects.into_iter().map(one).collect()
    };
    let outcome = counted.caught(all).and_then(|result| result.map_err(|error| error.to_string()));
    tally.count(counted);
    let response = match outcome {
        Ok(converted) => json!({"uid": uid, "convertedObjects": converted, "result": {"status": "Success"}}),
        Err(message) => {
            tracing::warn!(message, "conversion failed");
            json!({"uid": uid, "convertedObjects": [], "result": {"status": "Failure", "message": message}})
        }
    };
    Ok(json!({"apiVersion": api_version, "kind": "ConversionReview", "response": response}))
}

/// Kind, version it was in, version it was wanted in, outcome.
type Series = [String; 4];

/// Counted once per request and series. What is not ours has one series, so that strangers cannot make more.
#[derive(Default)]
struct Tally(BTreeMap<Series, u64>);

impl Tally {
    fn add(&mut self, object: Series, converted: &Result<Value, ConvertError>) {
        let series = if converted.is_ok() { object } else { ["other", "other", "other", "failure"].map(str::to_owned) };
        *self.0.entry(series).or_default() += 1;
    }

    fn count(&self, counted: &Counted) {
        for ([kind, from, to, result], n) in &self.0 {
            let help = "Objects that were converted between versions.";
            let labels = [("from", from.as_str()), ("kind", kind), ("result", result), ("to", to)];
            counted.metrics.counter("capm3_conversion_objects_total", help, &labels).add(*n);
        }
    }
}

fn series(object: &Value, to: &str) -> Series {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let version = |api_version: &str| api_version.rsplit('/').next().unwrap_or_default().to_owned();
    [text("kind").to_owned(), version(text("apiVersion")), version(to), "success".to_owned()]
}
