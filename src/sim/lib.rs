//! The parts of the world that surround the providers, played well enough that a provider cannot tell.

pub mod actors;
pub mod fault;
pub mod host;
pub mod invariant;
pub mod proof;
pub mod room;
pub mod scenario;
pub mod search;
pub mod server;
pub mod world;

/// What the [`host::Operator`] runs in.
pub use capm3_runtime::Tasks;
