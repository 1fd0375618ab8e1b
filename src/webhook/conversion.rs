//! ConversionReview in, ConversionReview out (C-2): all objects in order, or a failure and none.

use capm3_api::convert::{ConvertError, convert};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::caught;

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

pub(crate) fn review(review: Value) -> Result<Value, String> {
    let Review { api_version, request } = serde_json::from_value(review).map_err(|error| error.to_string())?;
    let Request { uid, desired_api_version, objects } = request;
    let all = || -> Result<Vec<Value>, ConvertError> {
        objects.into_iter().map(|object| convert(object, &desired_api_version)).collect()
    };
    let response = match caught(all).and_then(|result| result.map_err(|error| error.to_string())) {
        Ok(converted) => json!({"uid": uid, "convertedObjects": converted, "result": {"status": "Success"}}),
        Err(message) => {
            tracing::warn!(message, "conversion failed");
            json!({"uid": uid, "convertedObjects": [], "result": {"status": "Failure", "message": message}})
        }
    };
    Ok(json!({"apiVersion": api_version, "kind": "ConversionReview", "response": response}))
}
