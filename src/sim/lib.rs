//! The parts of the world that surround the providers, played well enough that a provider cannot tell.

pub mod room;
