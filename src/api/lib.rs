//! The kinds of this project, views of the kinds it reads, and everything about them that needs no I/O: names,
//! schemas, defaults, validation and conversion between versions.
//!
//! Rules: spec/api-types.md, with the schema hazards of spec/data-rendering.md and spec/ipam.md adopted.

pub mod common;
pub mod convert;
pub mod crds;
pub mod foreign;
pub mod infra;
pub mod ipam;
pub mod k8s;
mod kind;
pub mod names;
pub(crate) mod schema;
pub mod validate;

pub use common::{NamespacedRef, SecretRef, V1Beta1Condition, owner_reference};
pub use convert::{ConvertError, convert};
pub use schema::in_words;
