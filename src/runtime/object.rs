//! Names of objects, and what a type must be able to do to be watched, read and written.

use std::fmt;

use serde::de::DeserializeOwned;

/// Namespace and name; the namespace of a cluster-scoped object is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// A name in the same namespace: where every reference inside a namespace leads.
    pub fn sibling(&self, name: impl Into<String>) -> Self {
        Self { namespace: self.namespace.clone(), name: name.into() }
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A kind known at compile time, whole or as a trimmed view of the fields that are kept.
pub trait Object:
    kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static
{
}

impl<T> Object for T where
    T: kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static
{
}

/// The key of an object; parts that are missing are empty.
pub fn key_of<K: kube::Resource>(object: &K) -> Key {
    let meta = object.meta();
    Key { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}

/// Group, version, kind and plural of a kind, however it is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
}

impl Kind {
    pub(crate) fn of<K: Object>() -> Self {
        Self {
            group: K::group(&()).into_owned(),
            version: K::version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
        }
    }

    pub(crate) fn dynamic(resource: &kube::core::ApiResource) -> Self {
        Self {
            group: resource.group.clone(),
            version: resource.version.clone(),
            kind: resource.kind.clone(),
            plural: resource.plural.clone(),
        }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The same kind in another version shows the same objects.
    pub(crate) fn same_objects(&self, other: &Self) -> bool {
        self.group == other.group && self.kind == other.kind
    }

    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let scope = namespace.map(|n| format!("namespaces/{n}/")).unwrap_or_default();
        format!("{root}/{}/{scope}{}", self.api_version(), self.plural)
    }
}

/// `IPPool.ipam.metal3.io/v1beta2`, for people and for metric labels: a closed set.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.api_version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_group() {
        let node = Kind::of::<k8s_openapi::api::core::v1::Node>();
        assert_eq!(node.path(None), "/api/v1/nodes");
        let lease = Kind::of::<k8s_openapi::api::coordination::v1::Lease>();
        assert_eq!(lease.path(Some("kube-system")), "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases");
        assert_eq!(lease.to_string(), "Lease.coordination.k8s.io/v1");
    }

    #[test]
    fn keys_read_as_kubectl_prints_them() {
        assert_eq!(Key::new("a", "b").to_string(), "a/b");
        assert_eq!(Key::new("", "b").to_string(), "b");
    }
}
