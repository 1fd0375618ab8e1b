//! Metal3Cluster and Metal3ClusterTemplate (W-10 to W-13).

use super::{Admission, Verdict, is_blank};
use crate::infra::v1beta2::{Metal3Cluster, Metal3ClusterTemplate};
use crate::names::annotation;

const DEFAULT_PORT: i32 = 6443;
const HOST: &str = "must have a host: the name or address at which the workload cluster's API server is reached";

impl Admission for Metal3Cluster {
    fn default(&mut self) {
        let port = &mut self.spec.control_plane_endpoint.get_or_insert_default().port;
        *port = Some(port.filter(|port| *port != 0).unwrap_or(DEFAULT_PORT));
        self.spec.cloud_provider_enabled.get_or_insert(false);
    }

    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        let unchanged = old.is_some_and(|old| self.same_spec(old));
        if !unchanged && is_blank(self.spec.control_plane_endpoint.as_ref().and_then(|e| e.host.as_ref())) {
            verdict.required("spec.controlPlaneEndpoint", HOST);
        }
        let managed_elsewhere =
            |of: &Self| of.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotation::MANAGED_BY));
        if old.is_some_and(managed_elsewhere) && !managed_elsewhere(self) {
            let key = annotation::MANAGED_BY;
            verdict.warn(format!("metadata.annotations: without {key} this provider manages the cluster from now on")); // K-21
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

/// Only the new object is judged, so that a stored template which is wrong can be put right (WH-4).
impl Admission for Metal3ClusterTemplate {
    fn judge(&self, old: Option<&Self>, verdict: &mut Verdict) {
        if old.is_some_and(|old| self.same_spec(old)) {
            return;
        }
        let endpoint = self.spec.template.spec.control_plane_endpoint.clone().unwrap_or_default();
        let path = "spec.template.spec.controlPlaneEndpoint";
        if is_blank(endpoint.host.as_ref()) {
            verdict.required(format!("{path}.host"), HOST);
        }
        if endpoint.port.unwrap_or(0) == 0 {
            verdict.required(format!("{path}.port"), "must be the port of the API server, 1 to 65535");
        }
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}
