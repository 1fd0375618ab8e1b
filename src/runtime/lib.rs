//! What every controller stands on: one watch per kind, a work queue, preconditioned writes, a lease, events, metrics and the
//! servers a manager shows to the world.
//!
//! Nothing here knows a kind of ours. The contract is written down in `ARCHITECTURE.md`, "The runtime contract"; the rules it
//! keeps are those of the house: no global state, no panic that ends a worker, no write without a reason, and no clock or die
//! but the ones handed in.

mod authority;
mod client;
mod clock;
mod controller;
mod events;
mod hub;
mod lease;
mod metrics;
mod object;
mod queue;
mod read;
mod self_signed;
mod serve;
mod setup;
mod store;
mod tasks;
mod tls;
mod write;

pub use client::{ClientOptions, ConnectError, client_of, connect, user_agent};
pub use clock::{Clock, Dice, FixedClock, SeededDice, SystemClock, SystemDice};
pub use controller::{Controller, Next, Reconcile, ReconcileError, Retry, chain};
pub use events::{EventKind, Recorder};
pub use hub::{Hub, HubOptions, Trouble, WatchOptions};
pub use lease::{Candidate, Leader, LeaseError, LeaseOptions};
pub use metrics::{Counter, Gauge, Histogram, Metrics};
pub use object::{Key, Object, key_of};
pub use queue::Queue;
pub use read::{ListOptions, ReadError, Reader, ServerVersion};
pub use self_signed::SelfSigned;
pub use serve::{Health, Limits, check_tls, diagnostics, listen, observed, spawn_http, spawn_tls};
pub use setup::{Options, Parts, Setup};
pub use store::{Change, Store};
pub use tasks::Tasks;
pub use tls::{Certificate, TlsError, TlsPolicy};
pub use write::{Failure, MetadataPatch, Preconditions, WriteError, Writer, merge_diff, merge_diff_json};
