//! Runs scenarios under faults, and says what did not hold.
//!
//! One run: a scenario from its stage, a plan of faults and a seed. Every accepted write is checked on the way. Once the last fault is
//! over the goal must be there within [`CONVERGES`], and everything at rest soon after; then an hour passes in which nothing may be
//! written, and the goal must still be there. The same scenario, plan and seed give the same [`Report`], byte for byte.

mod run;

pub use run::{CONVERGES, Player, Report, Runtimes, run};
