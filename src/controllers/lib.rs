//! One folder per controller: what it watches, how it gathers what a decision needs, how it carries a plan out.
//!
//! Nothing is decided here. A controller that needs to choose asks `core`.

pub mod cluster;
pub mod data;
pub mod infra;
pub mod ipam;
pub mod label_sync;
mod look;
pub mod machine;
pub mod machine_template;
pub mod migration;
pub mod remediation;
