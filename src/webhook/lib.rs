//! Admission and conversion over HTTP: reads a review, asks the pure functions of `capm3-api`, writes the answer.
//!
//! Whatever comes in gets an answer the API server understands: a body that is no review 400, an object that does not read
//! 400 inside the review, a panic 500 (W-4). Rules: remediation-webhooks-packaging 3.1, ipam 2, api-types 7.

mod admission;
mod conversion;
mod patch;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use capm3_api::infra::v1beta2::{
    Metal3Cluster, Metal3ClusterTemplate, Metal3Data, Metal3DataClaim, Metal3DataTemplate, Metal3Machine,
    Metal3MachineTemplate, Metal3Remediation, Metal3RemediationTemplate,
};
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_api::validate::Admission;
use serde_json::Value;

/// A list of many objects is converted in one request.
const MAX_BODY: usize = 256 << 20;

/// Whose webhooks to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Infra,
    Ipam,
    Both,
}

/// Every path of the webhook configurations and of the CustomResourceDefinitions.
pub fn router(which: Which) -> Router {
    let mut router = Router::new().route("/convert", post(|body: Bytes| answer(body, conversion::review)));
    if which != Which::Ipam {
        router = mutating::<Metal3Cluster>(validating::<Metal3Cluster>(router));
        router = validating::<Metal3ClusterTemplate>(router);
        router = validating::<Metal3Machine>(router);
        router = validating::<Metal3MachineTemplate>(router);
        router = validating::<Metal3DataTemplate>(router);
        router = validating::<Metal3DataClaim>(router);
        router = validating::<Metal3Data>(router);
        router = validating::<Metal3Remediation>(router);
        router = mutating::<Metal3RemediationTemplate>(validating::<Metal3RemediationTemplate>(router));
    }
    if which != Which::Infra {
        router = mutating::<IPPool>(validating::<IPPool>(router));
        router = mutating::<IPClaim>(validating::<IPClaim>(router));
        router = mutating::<IPAddress>(validating::<IPAddress>(router));
    }
    router.layer(DefaultBodyLimit::max(MAX_BODY))
}

fn validating<K: admission::Kind>(router: Router) -> Router {
    router.route(&path::<K>("validate"), post(|body: Bytes| answer(body, admission::validate::<K>)))
}

fn mutating<K: admission::Kind>(router: Router) -> Router {
    router.route(&path::<K>("mutate"), post(|body: Bytes| answer(body, admission::mutate::<K>)))
}

fn path<K: Admission>(verb: &str) -> String {
    let (group, version, kind) = (K::group(&()), K::version(&()), K::kind(&()));
    format!("/{verb}-{}-{version}-{}", group.replace('.', "-"), kind.to_lowercase())
}

/// Parses, asks, answers. `review` gets the whole review and returns it with a response, or says what is no review in it.
async fn answer(body: Bytes, review: fn(Value) -> Result<Value, String>) -> Response {
    let parsed = serde_json::from_slice(&body).map_err(|error| error.to_string());
    drop(body);
    match parsed.and_then(|value| guarded(|| review(value))) {
        Ok(review) => ([(header::CONTENT_TYPE, "application/json")], review.to_string()).into_response(),
        Err(why) => {
            tracing::warn!(error = %why, "a request was no review");
            (StatusCode::BAD_REQUEST, format!("not a review: {why}\n")).into_response()
        }
    }
}

/// Runs `f`; a panic in it becomes the error, so that the caller can still answer.
fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(|panic| {
        let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        tracing::error!(panic = said, "a webhook panicked");
        format!("panic: {said}")
    })
}

fn guarded(f: impl FnOnce() -> Result<Value, String>) -> Result<Value, String> {
    caught(f).and_then(|result| result)
}
