//! Admission and conversion over HTTP: reads a review, asks the pure functions of `capm3-api`, writes the answer.
//!
//! Whatever comes in gets an answer the API server understands: a body that is no review 400, an object that does not read
//! 400 inside the review, a panic 500 (W-4). What is read and not yet answered is bounded for one request and for all
//! together, because anybody who reaches the port may send. Rules: remediation-webhooks-packaging 3.1, ipam 2, api-types 7.

mod admission;
mod conversion;
mod desk;
mod patch;

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

use crate::desk::{Clerk, Desk};

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
    let mut routes = Routes { router: Router::new(), desk };
    routes.add("/convert", MAX_CONVERSION, conversion::review);
    if which != Which::Ipam {
        routes.mutating::<Metal3Cluster>();
        routes.validating::<Metal3Cluster>();
        routes.validating::<Metal3ClusterTemplate>();
        routes.validating::<Metal3Machine>();
        routes.validating::<Metal3MachineTemplate>();
        routes.validating::<Metal3DataTemplate>();
        routes.validating::<Metal3DataClaim>();
        routes.validating::<Metal3Data>();
        routes.validating::<Metal3Remediation>();
        routes.mutating::<Metal3RemediationTemplate>();
        routes.validating::<Metal3RemediationTemplate>();
    }
    if which != Which::Infra {
        routes.mutating::<IPPool>();
        routes.validating::<IPPool>();
        routes.mutating::<IPClaim>();
        routes.validating::<IPClaim>();
        routes.mutating::<IPAddress>();
        routes.validating::<IPAddress>();
    }
    routes.router
}

struct Routes {
    router: Router,
    desk: Desk,
}

impl Routes {
    fn validating<K: admission::Kind>(&mut self) {
        self.add(&path::<K>("validate"), MAX_ADMISSION, admission::validate::<K>);
    }

    fn mutating<K: admission::Kind>(&mut self) {
        self.add(&path::<K>("mutate"), MAX_ADMISSION, admission::mutate::<K>);
    }

    fn add(&mut self, path: &str, longest: usize, clerk: Clerk) {
        let desk = self.desk.clone();
        let handler = move |body: Body| async move { desk.answer(body, longest, clerk).await };
        self.router = std::mem::take(&mut self.router).route(path, post(handler));
    }
}

fn path<K: Admission>(verb: &str) -> String {
    let (group, version, kind) = (K::group(&()), K::version(&()), K::kind(&()));
    format!("/{verb}-{}-{version}-{}", group.replace('.', "-"), kind.to_lowercase())
}
