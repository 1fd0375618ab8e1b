//! One case: which scenario, what goes wrong, which seed. As text it is a line that can be pasted.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::fault::{Plan, Unreadable};
use crate::host::Timings;
use crate::world::Settings;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    pub scenario: String,
    pub seed: u64,
    pub plan: Plan,
}

impl Case {
    /// The seed also says how quick the hardware is. That of seed 0 is neither quick nor slow.
    pub fn settings(&self, keep_trace: bool) -> Settings {
        let timings = match self.seed % 4 {
            0 | 1 => Timings::default(),
            2 => Timings::instant(),
            _ => slow(),
        };
        Settings { seed: self.seed, keep_trace, timings, ..Settings::default() }
    }
}

/// Hardware that takes ten times as long.
fn slow() -> Timings {
    let Timings { registering, inspecting, preparing, provisioning, deprovisioning, cleaning, deleting, .. } =
        Timings::default();
    let long = |time: Duration| time * 10;
    Timings {
        registering: long(registering),
        inspecting: long(inspecting),
        preparing: long(preparing),
        provisioning: long(provisioning),
        deprovisioning: long(deprovisioning),
        cleaning: long(cleaning),
        deleting: long(deleting),
        ..Timings::default()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {} | {}", self.scenario, self.seed, self.plan)
    }
}

impl FromStr for Case {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let unreadable = || Unreadable::of(text);
        let mut parts = text.splitn(3, '|').map(str::trim);
        let (Some(scenario), Some(seed), Some(plan)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(unreadable());
        };
        Ok(Self { scenario: scenario.to_owned(), seed: seed.parse().map_err(|_| unreadable())?, plan: plan.parse()? })
    }
}
