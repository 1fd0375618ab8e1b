//! The decisions: what was observed goes in, what to do comes out.
//!
//! Nothing here waits, reads a clock, rolls dice or talks to a server, so that every rule can be tested with values
//! built by hand and every run can be repeated. The controllers gather the observations and carry out the plans.

pub mod cluster;
pub mod conditions;
pub mod data;
#[cfg(test)]
mod fuzz;
pub mod host;
pub mod ipam;
pub mod labels;
pub mod machine;
pub mod machine_template;
pub mod migration;
pub mod placement;
pub mod planted;
pub mod ready;
pub mod remediation;
pub mod yaml;
