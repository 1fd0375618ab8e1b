//! What goes wrong, when: the faults F1 to F30 of docs/spec/proof.md, as text that a person can read, change and play again.
//!
//! A [`Plan`] names faults and the moments at which they strike: before the 7th request of a manager, after its 3rd write, at the 2nd
//! event of a kind, 10 s after the beginning. An [`Injector`] sits at the [`Seam`](crate::server::Seam) of both servers, counts, and lets
//! happen what the plan says. It records as well: what a calm run asked and watched is where plans come from.
//!
//! A killed manager starts again after [`DOWN`] with empty caches. What is down comes back by itself; [`Injector::calm`] ends all of it.

pub mod deeds;

mod injector;
mod plan;
mod tamper;

pub use injector::{Asked, DOWN, Injector, Recording};
pub use plan::{Failure, Fault, Lag, Overlap, Plan, Planned, Refused, Unreadable, When};
