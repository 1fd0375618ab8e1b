//! Admission and conversion over HTTP: reads a review, asks the pure functions of `capm3-api`, writes the answer.
//!
//! Whatever comes in gets an answer the API server understands: a body that is no review 400, an object that does not read
//! 400 inside the review, a panic 500 (W-4). What is read and not yet answered is bounded for one request and for all
//! together, because anybody who reaches the port may send. Rules: remediation-webhooks-packaging 3.1, ipam 2, api-types 7.

mod admission;
mod conversion;
mod desk;
mod patch;

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use capm3_api::infra::v1beta2::{
    Metal3Cluster, Metal3ClusterTemplate, Metal3Data, Metal3DataClaim, Metal3DataTemplate, Metal3Machine,
    Metal3MachineTemplate, Metal3Remediation, Metal3RemediationTemplate,
};
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_api::validate::Admission;
use capm3_runtime::Metrics;

use serde_json::Value;

use crate::desk::{Clerk, Counted, Desk};

/// Two objects of the size that an API server takes, several times over.
const MAX_ADMISSION: usize = 16 << 20;
/// A list of many objects is converted in one request.
const MAX_CONVERSION: usize = 128 << 20;

/// Whose webhooks to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Infra,
    Ipam,
    Both,
}

/// Every path of the webhook configurations and of the CustomResourceDefinitions.
pub fn router(which: Which) -> Router {
    measured_router(which, &Metrics::new())
}

/// The same, and counts what is converted and what panics.
pub fn measured_router(which: Which, metrics: &Metrics) -> Router {
    let desk = Desk::new(metrics);
    let mut router = Router::new();
    for (path, Served { longest, clerk }) in served(which) {
        let desk = desk.clone();
        let handler = move |body: Body| async move { desk.answer(body, longest, clerk).await };
        router = router.route(&path, post(handler));
    }
    router
}

/// The same answers without HTTP around them, for who is in the same process.
pub struct Answers {
    served: BTreeMap<String, Served>,
    counted: Counted,
}

impl Answers {
    pub fn of(which: Which) -> Self {
        Self { served: served(which), counted: Counted::new(&Metrics::new()) }
    }

    /// The answer to a review sent to this path; `None` when nothing is served there, an error when it is no review.
    pub fn answer(&self, path: &str, review: Value) -> Option<Result<Value, String>> {
        let clerk = self.served.get(path)?.clerk;
        Some(self.counted.caught(|| clerk(review, &self.counted)).flatten())
    }
}

struct Served {
    longest: usize,
    clerk: Clerk,
}

/// Who answers where.
fn served(which: Which) -> BTreeMap<String, Served> {
    let mut all = All(BTreeMap::new());
    all.add("/convert".to_owned(), MAX_CONVERSION, conversion::review);
    if which != Which::Ipam {
        all.mutating::<Metal3Cluster>();
        all.validating::<Metal3Cluster>();
        all.validating::<Metal3ClusterTemplate>();
        all.validating::<Metal3Machine>();
        all.validating::<Metal3MachineTemplate>();
        all.validating::<Metal3DataTemplate>();
        all.validating::<Metal3DataClaim>();
        all.validating::<Metal3Data>();
        all.validating::<Metal3Remediation>();
        all.mutating::<Metal3RemediationTemplate>();
        all.validating::<Metal3RemediationTemplate>();
    }
    if which != Which::Infra {
        all.mutating::<IPPool>();
        all.validating::<IPPool>();
        all.mutating::<IPClaim>();
        all.validating::<IPClaim>();
        all.mutating::<IPAddress>();
        all.validating::<IPAddress>();
    }
    all.0
}

struct All(BTreeMap<String, Served>);

impl All {
    fn validating<K: admission::Kind>(&mut self) {
        self.add(path::<K>("validate"), MAX_ADMISSION, admission::validate::<K>);
    }

    fn mutating<K: admission::Kind>(&mut self) {
        self.add(path::<K>("mutate"), MAX_ADMISSION, admission::mutate::<K>);
    }

    fn add(&mut self, path: String, longest: usize, clerk: Clerk) {
        self.0.insert(path, Served { longest, clerk });
    }
}

fn path<K: Admission>(verb: &str) -> String {
    let (group, version, kind) = (K::group(&()), K::version(&()), K::kind(&()));
    format!("/{verb}-{}-{version}-{}", group.replace('.', "-"), kind.to_lowercase())
}
