//! Runs scenarios under faults, and says what did not hold.
//!
//! One run: a scenario from its stage, a plan of faults and a seed. Every accepted write is checked on the way. Once the last fault is
//! over the goal must be there within [`CONVERGES`], and everything at rest soon after; then an hour passes in which nothing may be
//! written, and the goal must still be there. The same scenario, plan and seed give the same [`Report`], byte for byte.
//!
//! Two runners make the cases: [`exhaustive`] strikes once at every moment of a scenario, [`Deck`] deals several faults by seed. A [`Team`]
//! runs them on all cores; what breaks something is [shrunk](shortest) and told with the line that plays it again.

pub mod exhaustive;

mod case;
#[cfg(feature = "planted")]
mod planted;
mod random;
mod run;
mod shrink;
mod team;

pub use case::Case;
#[cfg(feature = "planted")]
pub use planted::{Hunt, hunt};
pub use random::Deck;
pub use run::{CONVERGES, Player, Report, Runtimes, run};
pub use shrink::shortest;
pub use team::{Failure, Share, Tally, Team, play, shrink};
