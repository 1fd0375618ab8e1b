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
mod data;
mod finalizers;
mod hosts;
mod machines;
mod manners;
mod memory;
mod remediation;
mod rest;
mod seen;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use capm3_runtime::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::server::{Change, Server};
use crate::world::World;

use memory::Memory;
use rest::RestCheck;
use seen::{Realm, Seen, What, Who};

use addresses::{i2_one_holder, i2_own_address, i15_reservable, i15_reserved_first};
use data::{i3_one_data, i3_one_index, i14_rendered_once};
use finalizers::i11_undone_first;
use hosts::{i1_one_consumer, i7_exact_consumer, i8_one_host, i9_claimable, i10_durable_first};
use machines::{i12_one_provider_id, i13_never_back};
use manners::{
    i5_no_secret_content, i17_paused_is_quiet, i18_only_our_own, i18_other_kinds, i19_own_namespace, i20_fenced,
    i22_no_busy_loop, i22_no_idle_write, i30_told,
};
use remediation::{i27_counted, i27_fenced, i27_node_as_it_was, i27_own_host};
use rest::{i3_one_data_left, i4_nothing_left, i4_nothing_stuck, i13_conditions_tell_facts, i16_counted};

pub use manners::MARKER;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the function that found it.
    pub invariant: &'static str,
    pub what: String,
    /// Of the write that broke it; where it was found at rest, the last one.
    pub revision: u64,
}

/// One invariant: what is wrong with this change, if anything.
type Check = fn(&Memory, &Seen<'_>) -> Option<String>;

macro_rules! checks {
    ($($check:ident),* $(,)?) => { &[$((stringify!($check), $check as Check)),*] };
}

/// What is asked about every write of ours to an object that is remembered.
const ALWAYS: &[(&str, Check)] =
    checks![i17_paused_is_quiet, i18_only_our_own, i19_own_namespace, i20_fenced, i22_no_idle_write, i22_no_busy_loop];

/// Whether something was written before another: after a restore from a backup managers act on what they knew until they have listed
/// every kind anew, and what they build on may be gone.
const AFTER_ANOTHER: [&str; 7] = [
    "i2_own_address",
    "i9_claimable",
    "i10_durable_first",
    "i11_undone_first",
    "i12_one_provider_id",
    "i15_reserved_first",
    "i18_only_our_own",
];
/// How long that may take, in seconds.
const LISTED_ANEW: i64 = 60;

/// What is asked about a write of ours to an object of this kind.
fn checks_of(what: What) -> &'static [(&'static str, Check)] {
    match what {
        What::Host => checks![
            i1_one_consumer,
            i5_no_secret_content,
            i7_exact_consumer,
            i8_one_host,
            i9_claimable,
            i10_durable_first,
            i27_own_host,
            i27_counted
        ],
        What::Machine => checks![i5_no_secret_content, i11_undone_first, i12_one_provider_id, i13_never_back],
        What::Data => {
            checks![i3_one_index, i3_one_data, i5_no_secret_content, i11_undone_first, i13_never_back]
        }
        What::Metal3Cluster | What::DataClaim | What::DataTemplate | What::MachineTemplate | What::Remediation => {
            checks![i5_no_secret_content, i11_undone_first, i13_never_back]
        }
        What::Pool => checks![i5_no_secret_content, i11_undone_first, i13_never_back, i15_reservable],
        What::Claim | What::CapiClaim => checks![i2_own_address, i5_no_secret_content, i11_undone_first],
        What::Address | What::CapiAddress => {
            checks![i2_one_holder, i5_no_secret_content, i11_undone_first, i15_reserved_first]
        }
        What::Secret => checks![i14_rendered_once],
        What::Node => {
            checks![i5_no_secret_content, i12_one_provider_id, i27_fenced, i27_node_as_it_was]
        }
        What::Event => checks![i5_no_secret_content, i30_told],
        What::Cluster | What::CapiMachine | What::MachineSet => checks![i5_no_secret_content],
        What::Other => checks![i5_no_secret_content, i18_other_kinds],
    }
}

const AT_REST: &[(&str, RestCheck)] = &[
    ("i3_one_data_left", i3_one_data_left),
    ("i4_nothing_left", i4_nothing_left),
    ("i4_nothing_stuck", i4_nothing_stuck),
    ("i13_conditions_tell_facts", i13_conditions_tell_facts),
    ("i16_counted", i16_counted),
];

/// Sees every write.
pub struct Watchtower {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    memory: Memory,
    violations: Vec<Violation>,
    checks: u64,
    /// Until when [`AFTER_ANOTHER`] is not asked.
    forgiven: Option<Timestamp>,
}

impl Watchtower {
    /// From now on every write in either cluster is looked at. To be built before anything runs.
    pub fn over(world: &World) -> Arc<Self> {
        let tower = Arc::new(Self { clock: world.clock.clone(), state: Mutex::default() });
        tower.state.lock().memory.recall(&world.server, &world.workload);
        for (realm, server) in [(Realm::Management, &world.server), (Realm::Workload, &world.workload)] {
            // The server keeps its observers, and the injector at its seam keeps the tower: neither may keep the server in turn.
            let watching = Arc::downgrade(&tower);
            server.observe(move |change| {
                if let Some(tower) = watching.upgrade() {
                    tower.see(realm, change);
                }
            });
        }
        tower
    }

    fn see(&self, realm: Realm, change: &Change<'_>) {
        let seen = Seen::of(realm, self.clock.now(), change);
        self.state.lock().see(&seen);
    }

    /// Everything that was wrong so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.state.lock().violations.clone()
    }

    /// How often an invariant was checked.
    pub fn checks(&self) -> u64 {
        self.state.lock().checks
    }

    /// The management cluster came back from a backup on purpose: what is remembered of it is what it says now.
    pub fn excuse_restored(&self, management: &Server) {
        let mut state = self.state.lock();
        state.memory.recall_management(management);
        state.forgiven = Timestamp::from_second(self.clock.now().as_second() + LISTED_ANEW).ok();
    }

    /// What is wrong with a world in which nothing happens any more.
    pub fn at_rest(&self, world: &World) -> Vec<Violation> {
        self.state.lock().at_rest(world.server.revision())
    }
}

impl State {
    fn see(&mut self, seen: &Seen<'_>) {
        if seen.who != Who::Other {
            let always = if matches!(seen.what, What::Event | What::Other) { &[] } else { ALWAYS };
            for (invariant, check) in checks_of(seen.what).iter().chain(always) {
                if self.forgiven.is_some_and(|until| seen.now < until) && AFTER_ANOTHER.contains(invariant) {
                    continue;
                }
                self.checks += 1;
                if let Some(what) = check(&self.memory, seen) {
                    self.violations.push(Violation { invariant, what, revision: seen.revision });
                }
            }
        }
        self.memory.learn(seen);
    }

    fn at_rest(&mut self, revision: u64) -> Vec<Violation> {
        let mut found = Vec::new();
        for (invariant, check) in AT_REST {
            self.checks += 1;
            found.extend(check(&self.memory).into_iter().map(|what| Violation { invariant, what, revision }));
        }
        found
    }
}
