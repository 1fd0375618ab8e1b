//! The infrastructure provider: which controllers it consists of.

use capm3_api::crds::INFRA_CRDS;
use capm3_remote::Workloads;
use capm3_runtime::{Setup, user_agent};

use crate::migration::Phase;
use crate::{cluster, data, label_sync, machine, machine_template, migration, remediation};

/// Registers every controller of the infrastructure provider.
pub fn register(setup: &mut Setup) {
    let agent = user_agent("capm3-manager");
    let workloads =
        Workloads::new(setup.reader.clone(), agent, setup.dice.clone(), setup.metrics.clone(), setup.tasks.clone());
    register_with(setup, &workloads);
}

/// As [`register`], with connections to workload clusters that are made elsewhere.
pub fn register_with(setup: &mut Setup, workloads: &Workloads) {
    cluster::register(setup, workloads);
    machine::register(setup, workloads);
    machine_template::register(setup);
    data::register(setup);
    label_sync::register(setup, workloads);
    remediation::register(setup, workloads);
}

/// Registers the migration of the objects of all nine kinds, by the literal names of their definitions (P-83).
pub fn register_migration(setup: &mut Setup, skipped: &[Phase]) {
    migration::register(setup, &INFRA_CRDS, skipped);
}
