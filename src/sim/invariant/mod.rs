//! What must hold, whatever happens: the invariants of the providers, checked after every write that a server accepts.
//!
//! A [`Watchtower`] sees every change of both clusters. Each invariant is a small function of what the tower remembers and of one
//! change; it says what is wrong, or nothing. The tower remembers by index and never looks through the whole world: a write costs
//! microseconds. What users, the host operator and Cluster API do is given: only what our two ServiceAccounts write is judged.
//!
//! Some invariants hold only once everything has come to rest; [`Watchtower::at_rest`] looks through the world for those.
//!
//! The table of all of them, and of what suspends them, is in `docs/proof.md`.

mod addresses;
mod hosts;
mod memory;
mod seen;

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::server::{Change, Server};
use crate::world::World;

use memory::Memory;
use seen::{Realm, Seen, What, Who};

use addresses::i2_one_holder;
use hosts::{i1_one_consumer, i8_one_host};

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the function that found it.
    pub invariant: &'static str,
    pub what: String,
    /// Of the write that broke it; where it was found at rest, the last one.
    pub revision: u64,
}

/// Something that was done on purpose from outside of all writes, and suspends what it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// The management cluster's server was restored from an older backup: what was remembered has not happened.
    Restored,
}

/// One invariant: what is wrong with this change, if anything.
type Check = fn(&Memory, &Seen<'_>) -> Option<String>;

macro_rules! checks {
    ($($check:ident),* $(,)?) => { &[$((stringify!($check), $check as Check)),*] };
}

/// What is asked about a write of ours to an object of this kind.
fn checks_of(what: What) -> &'static [(&'static str, Check)] {
    match what {
        What::Host => checks![i1_one_consumer, i8_one_host],
        What::Address | What::CapiAddress => checks![i2_one_holder],
        _ => &[],
    }
}

/// Sees every write.
pub struct Watchtower {
    management: Server,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    memory: Memory,
    violations: Vec<Violation>,
    checks: u64,
}

impl Watchtower {
    /// From now on every write in either cluster is looked at. To be built before anything runs.
    pub fn over(world: &World) -> Arc<Self> {
        let tower = Arc::new(Self { management: world.server.clone(), state: Mutex::default() });
        tower.state.lock().memory.recall(&world.server, &world.workload);
        for (realm, server) in [(Realm::Management, &world.server), (Realm::Workload, &world.workload)] {
            // The server keeps its observers: a tower that held them would never go.
            let watching = Arc::downgrade(&tower);
            server.observe(move |change| {
                if let Some(tower) = watching.upgrade() {
                    tower.state.lock().see(&Seen::of(realm, change));
                }
            });
        }
        tower
    }

    /// Everything that was wrong so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.state.lock().violations.clone()
    }

    /// How often an invariant was checked.
    pub fn checks(&self) -> u64 {
        self.state.lock().checks
    }

    /// Somebody did this on purpose.
    pub fn excuse(&self, excuse: &Excuse) {
        match excuse {
            Excuse::Restored => self.state.lock().memory.recall_management(&self.management),
        }
    }

    /// What is wrong with a world in which nothing happens any more.
    pub fn at_rest(&self, world: &World) -> Vec<Violation> {
        let _ = world;
        Vec::new()
    }
}

impl State {
    fn see(&mut self, seen: &Seen<'_>) {
        if seen.who != Who::Other {
            for (invariant, check) in checks_of(seen.what) {
                self.checks += 1;
                if let Some(what) = check(&self.memory, seen) {
                    self.violations.push(Violation { invariant, what, revision: seen.revision });
                }
            }
        }
        self.memory.learn(seen);
    }
}

/// What is at the end of a path of members; null when it is not there.
fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(object, |value, member| &value[*member])
}

/// The same as text, empty when it is none.
fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).as_str().unwrap_or_default()
}
