//! Every interleaving, up to a bound: what random runs may miss is walked through here step by step.
//!
//! A [`Protocol`] is a small world whose states can be compared: the objects as they are stored, each manager's own and perhaps old view
//! of each of them, and what a manager has in its head and on the wire. The decisions are those of `capm3_core`; only how a pass reads
//! and writes is told again, in the order of the controllers. The steps are as small as anything can come between: a view catches
//! up with one object, a pass goes on until its next request, the request arrives, is lost on its way, its answer arrives or is lost, a
//! manager crashes, somebody else writes.
//!
//! [`explore`] goes breadth first, so that the story of a violation is a shortest one, and asks of every state two things: nothing is
//! wrong, and the goal can still be reached without luck, by both managers together and by either alone.
//!
//! What makes the states few: versions count by their order alone (how often an object was written before is nobody's concern), and
//! the two managers are alike.

mod addresses;
mod explore;
mod hosts;
mod objects;

pub use addresses::{Addresses, Setting as AddressSetting};
pub use explore::{Bounds, Explored, Problem, Protocol, explore};
pub use hosts::{Hosts, Setting as HostSetting};

/// What is done wrong on purpose, so that it is known that the search would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The write that decides (a host's claim, a pool's reservation) carries no resourceVersion.
    Unconditional,
}

/// The two managers in a story.
const MANAGERS: [&str; 2] = ["A", "B"];
