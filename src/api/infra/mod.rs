//! `infrastructure.cluster.x-k8s.io`: v1beta2 is stored, v1beta1 is served for older readers.

pub mod v1beta1;
pub mod v1beta2;
