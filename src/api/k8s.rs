//! Plain Kubernetes types, so that crates which decide need no client library of their own.

pub use k8s_openapi::ByteString;
pub use k8s_openapi::api::core::v1::{LocalObjectReference, ObjectReference};
pub use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, FieldsV1, LabelSelector, LabelSelectorRequirement, ManagedFieldsEntry, ObjectMeta, OwnerReference, Time,
};
pub use k8s_openapi::jiff::Timestamp;
pub use kube::{Resource, ResourceExt};
