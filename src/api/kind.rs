//! What every kind shares: the object around a spec and a status.
//!
//! Reading is lenient: every field may be missing and unknown ones are ignored, because the API server hands partial
//! objects to the conversion endpoint and other writers know more fields than we do. Writing is strict: what is unset is
//! absent, because most schemas refuse `""`, `[]` and `{}`.

/// Declares a kind: the object itself, what kube needs to know about it, and serialization with `apiVersion` and `kind`.
///
/// Words that an API defines (modes, phases, operators) stay text in the types: a word we do not know must not make the
/// whole object unreadable. Rules that branch on them name what they know and say what they do not.
macro_rules! kind {
    ($(#[$doc:meta])* $kind:ident, $plural:literal, $group:expr, $version:literal $(, spec: $spec:ty)? $(, status: $status:ty)? $(; $field:ident as $wire:literal: $ty:ty)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
        #[serde(default)]
        pub struct $kind {
            pub metadata: $crate::k8s::ObjectMeta,
            $(pub spec: $spec,)?
            $(pub status: Option<$status>,)?
            $(#[serde(rename = $wire)] pub $field: $ty,)*
        }

        impl $kind {
            pub const KIND: &'static str = stringify!($kind);
            pub const GROUP: &'static str = $group;
            pub const VERSION: &'static str = $version;
            pub const PLURAL: &'static str = $plural;

            /// An object of this kind that is only a name.
            pub fn named(namespace: &str, name: &str) -> Self {
                Self { metadata: $crate::kind::metadata(namespace, name), ..Self::default() }
            }
        }

        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = kube::core::NamespaceResourceScope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                Self::KIND.into()
            }
            fn group((): &()) -> std::borrow::Cow<'_, str> {
                Self::GROUP.into()
            }
            fn version((): &()) -> std::borrow::Cow<'_, str> {
                Self::VERSION.into()
            }
            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                Self::PLURAL.into()
            }
            fn meta(&self) -> &$crate::k8s::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut $crate::k8s::ObjectMeta {
                &mut self.metadata
            }
        }

        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("apiVersion", &<Self as kube::Resource>::api_version(&()))?;
                map.serialize_entry("kind", Self::KIND)?;
                map.serialize_entry("metadata", &self.metadata)?;
                $(if self.spec != <$spec>::default() {
                    map.serialize_entry("spec", &self.spec)?;
                })?
                $(let status: &Option<$status> = &self.status;
                if let Some(status) = status {
                    map.serialize_entry("status", status)?;
                })?
                $(if self.$field != <$ty>::default() {
                    map.serialize_entry($wire, &self.$field)?;
                })*
                map.end()
            }
        }
    };
}
pub(crate) use kind;

use crate::k8s::ObjectMeta;

pub(crate) fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        ..ObjectMeta::default()
    }
}
