//! Scenarios as text: what is there, what is done, what is expected, in a file that anyone can write (docs/simulate.md).
//!
//! A [`Script`] is YAML. Its steps and expectations are sentences ([`Step`], [`Condition`]); what cannot be read is named with its line and
//! with what would be accepted. [`play`] sets the scene, lets it come to rest, starts the managers and tells the story from there: what
//! changed, when in virtual time, by whose hand. The same script, seed and plan give the same story, byte for byte.

mod play;
mod sentence;
mod tell;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::fault::Plan;

pub use play::{Told, play};
pub use sentence::{Condition, Step};

/// A scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Script {
    /// What the story is about, in a sentence.
    pub about: String,
    #[serde(default)]
    pub seed: u64,
    /// What goes wrong, in the words of a plan of faults.
    #[serde(default, deserialize_with = "plan")]
    pub faults: Plan,
    /// How many of each manager run at once.
    #[serde(default)]
    pub managers: Managers,
    #[serde(default)]
    pub hosts: Vec<Hosts>,
    #[serde(default)]
    pub pools: Vec<Addresses>,
    /// Data templates: each machine of one gets an address of each of these pools.
    #[serde(default)]
    pub data_templates: BTreeMap<String, Vec<String>>,
    /// Any other objects, as manifests; the namespace is put in.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// Machines that a user makes one by one when the story begins.
    #[serde(default)]
    pub machines: Vec<Machines>,
    /// A control plane and a MachineDeployment that are made when the story begins.
    #[serde(default)]
    pub control_plane: Option<Replicas>,
    #[serde(default)]
    pub workers: Option<Replicas>,
    #[serde(default)]
    pub steps: Vec<Step>,
    #[serde(default)]
    pub expect: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Managers {
    pub infra: u8,
    pub ipam: u8,
}

impl Default for Managers {
    fn default() -> Self {
        Self { infra: 1, ipam: 1 }
    }
}

/// Hosts of one make. With a count, the name is followed by a number.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    pub name: String,
    #[serde(default)]
    pub count: Option<u32>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A pool of one range.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    pub name: String,
    pub first: String,
    pub last: String,
    #[serde(default)]
    pub gateway: Option<String>,
}

/// Machines of one make. With a count, the name is followed by a number.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machines {
    pub name: String,
    #[serde(default)]
    pub count: Option<u32>,
    /// A data template.
    #[serde(default)]
    pub data: Option<String>,
    /// Labels that the host must have.
    #[serde(default)]
    pub on: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    pub replicas: u32,
    /// A data template.
    #[serde(default)]
    pub data: Option<String>,
}

/// A file that is no script, with its line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Script {
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        let script: Self = serde_saphyr::from_str(text).map_err(|error| {
            let whole = error.to_string(); // the first line says it all; what follows shows the place
            let said = whole.lines().next().unwrap_or_default();
            let said = said.strip_prefix("error: ").unwrap_or(said);
            let place = said.strip_prefix("line ").and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
            match place.and_then(|line| text.lines().nth(line.checked_sub(1)?)).map(str::trim) {
                Some(line) => Unreadable(format!("{said}, in {line:?} (docs/simulate.md has the grammar)")),
                None => Unreadable(said.to_owned()),
            }
        })?;
        script.check()?;
        Ok(script)
    }

    /// What refers to something refers to something that is there.
    fn check(&self) -> Result<(), Unreadable> {
        let pools: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
        for (template, of) in &self.data_templates {
            if let Some(pool) = of.iter().find(|pool| !pools.contains(&pool.as_str())) {
                return Err(Unreadable(format!("dataTemplates.{template} names pool {pool}; there are {pools:?}")));
            }
        }
        let data = self.machines.iter().map(|machines| &machines.data);
        let sets = [&self.control_plane, &self.workers].into_iter().flatten().map(|set| &set.data);
        for name in data.chain(sets).flatten() {
            if !self.data_templates.contains_key(name) {
                let known: Vec<&String> = self.data_templates.keys().collect();
                return Err(Unreadable(format!("a machine names data template {name}; there are {known:?}")));
            }
        }
        Ok(())
    }

    /// So many times as many hosts, machines and replicas.
    pub fn scaled(mut self, times: u32) -> Self {
        let grow = |count: &mut Option<u32>| *count = Some(count.unwrap_or(1).saturating_mul(times));
        if times != 1 {
            self.hosts.iter_mut().for_each(|hosts| grow(&mut hosts.count));
            self.machines.iter_mut().for_each(|machines| grow(&mut machines.count));
            let sets = [&mut self.control_plane, &mut self.workers];
            sets.into_iter().flatten().for_each(|set| set.replicas = set.replicas.saturating_mul(times));
        }
        self
    }
}

/// `name`, or `name-0` and so on.
fn named(name: &str, count: Option<u32>) -> Vec<String> {
    match count {
        None => vec![name.to_owned()],
        Some(count) => (0..count).map(|n| format!("{name}-{n}")).collect(),
    }
}

fn plan<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Plan, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Script::read(text).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line_and_what_would_do() {
        let wrong = error("about: x\nhosts:\n  - {name: host, number: 3}\n");
        assert!(wrong.contains("number") && wrong.contains("count") && wrong.contains('3'), "{wrong}");
        let wrong = error("about: x\nsteps:\n  - wait 5s\n  - explode host-0\n");
        assert!(
            wrong.contains("explode host-0") && wrong.contains("delete KIND NAME") && wrong.contains("line 4"),
            "{wrong}"
        );
        for (before, line) in [("", "hosts: 2"), ("steps:\n", "- at 10s: kill infra")] {
            let wrong = error(&format!("about: x\n{before}{line}\n"));
            assert!(wrong.contains("line ") && wrong.contains(line), "{wrong}");
        }
        let wrong = error("about: x\nexpect:\n  - machine m1 flies\n");
        assert!(
            wrong.contains("machine m1 flies") && wrong.contains("machine NAME runs") && wrong.contains("line 3"),
            "{wrong}"
        );
        let wrong = error("about: x\nfaults: 'infra write 3: explode'\n");
        assert!(wrong.contains("explode"), "{wrong}");
        let wrong = error("about: x\nmachines: [{name: m1, data: none}]\n");
        assert!(wrong.contains("data template none"), "{wrong}");
        assert!(error("hosts: []\n").contains("about"));
    }
}
