//! Small shapes that several kinds share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::k8s::{ObjectMeta, OwnerReference, Resource, Time};

/// An object in our group by namespace and name; the namespace defaults to that of the referrer.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct NamespacedRef {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the object; the referrer's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub namespace: Option<String>,
}

/// A Secret by namespace and name; the namespace defaults to that of the referrer and may not be another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretRef {
    /// Name of the Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace of the Secret; the referrer's own when absent, and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A condition in the v1beta1 dialect, written next to the metav1 ones for older readers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct V1Beta1Condition {
    /// What the condition is about.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// `Error`, `Warning` or `Info`; only when the status is not True.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// When the status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, as one word that programs can rely on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

macro_rules! reference {
    ($($ty:ident),*) => {$(
        impl $ty {
            pub fn new(namespace: &str, name: &str) -> Self {
                Self { name: name.to_owned(), namespace: Some(namespace.to_owned()) }
            }

            pub fn named(name: &str) -> Self {
                Self { name: name.to_owned(), namespace: None }
            }

            /// The namespace meant when the referrer lives in `own`.
            pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
                self.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(own)
            }
        }
    )*};
}
reference!(NamespacedRef, SecretRef);

/// An owner reference to `owner` with the kind's constants; `None` while the owner has no name or uid.
pub fn owner_reference<K: Resource<DynamicType = ()>>(
    owner: &K,
    controller: bool,
    block: bool,
) -> Option<OwnerReference> {
    let ObjectMeta { name, uid, .. } = owner.meta();
    Some(OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name.clone()?,
        uid: uid.clone()?,
        controller: controller.then_some(true),
        block_owner_deletion: block.then_some(true),
    })
}
