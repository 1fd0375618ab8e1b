//! This project's two managers as the bed runs them: their processes, what they use, and how they die on demand.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::kube::{Seen, wait_for};
use crate::life::BOUND;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    Infrastructure,
    Ipam,
}

pub const ALL: [Manager; 2] = [Manager::Infrastructure, Manager::Ipam];

impl Manager {
    /// As the audit log names its ServiceAccount.
    pub fn user(self) -> &'static str {
        match self {
            Manager::Infrastructure => "system:serviceaccount:capm3-system:capm3-manager",
            Manager::Ipam => "system:serviceaccount:metal3-ipam-system:ipam-manager",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Manager::Infrastructure => "--controllers=infra",
            Manager::Ipam => "--controllers=ipam",
        }
    }

    /// The processes of this manager, found by what their command line says.
    pub fn pids(self) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(); // gone since: no command line
            let mut words = line.split(|byte| *byte == 0);
            if words.next() == Some(b"/manager") && words.any(|word| word == self.flag().as_bytes()) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Ends its processes as a crash would: no signal handler, no lease given back. One that is just starting is waited for.
    pub async fn kill(self) -> Result<()> {
        wait_for(format_args!("{self:?} to run"), BOUND, async || {
            let mut killed = 0;
            for pid in self.pids()? {
                killed += usize::from(kill_process(Pid::from_raw(pid).context("a process id")?, Signal::KILL).is_ok());
            }
            Ok(if killed > 0 { Seen::Done(()) } else { Seen::Not("no process".to_owned()) })
        })
        .await
    }

    /// Resident memory and CPU time of its running processes. What ran before a restart, or has ended since, is not in it.
    pub fn usage(self) -> Result<Usage> {
        let mut usage = Usage::default();
        for pid in self.pids()? {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let (status, stat) = (read("status"), read("stat"));
            let rss = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            let (Some(rss), Some(ticks)) = (rss, cpu_ticks(&stat)) else { continue };
            usage.rss_mib += rss / 1024.0;
            usage.cpu_seconds += ticks / rustix::param::clock_ticks_per_second() as f64;
        }
        Ok(usage)
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    pub rss_mib: f64,
    pub cpu_seconds: f64,
}

pub fn usage() -> Result<BTreeMap<Manager, Usage>> {
    ALL.into_iter().map(|manager| Ok((manager, manager.usage()?))).collect()
}

/// utime + stime. The program's name in front of them may hold spaces, hence the last parenthesis.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn cpu_time_is_read_behind_a_name_with_spaces() {
        let stat = "65 (man ager) S 64 64 0 0 -1 4194560 8253 0 1 0 42 11 0 0 20 0 8 0 256941 1421656064";
        assert_eq!(super::cpu_ticks(stat), Some(53.0));
    }
}
