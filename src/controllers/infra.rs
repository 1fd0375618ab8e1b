//! The infrastructure provider: which controllers it consists of.

use capm3_remote::Workloads;
use capm3_runtime::{Setup, user_agent};

use crate::{cluster, data, machine, machine_template};

/// Registers every controller of the infrastructure provider.
pub fn register(setup: &mut Setup) {
    let agent = user_agent("capm3-manager");
    let workloads =
        Workloads::new(setup.reader.clone(), agent, setup.dice.clone(), setup.metrics.clone(), setup.tasks.clone());
    cluster::register(setup, &workloads);
    machine::register(setup, &workloads);
    machine_template::register(setup);
    data::register(setup);
}
