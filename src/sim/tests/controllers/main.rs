//! The controllers of clusters, machines and templates on the in-process API server: who wakes whom, what a failing request leaves
//! behind, and what of the acceptance table only a server can show. The test plays Cluster API, the host operator and the Nodes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test and say why")]

mod clusters;
mod contract;
mod machines;
mod site;
mod templates;
mod wakes;
mod whole;
mod writes;
