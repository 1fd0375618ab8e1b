//! Who waits for a host, and whom a host that becomes free is offered to.
//!
//! A machine that waits for anything else looks at hosts by itself once that has come. Of those that looked and found none, a host
//! wakes as many as there are hosts for them, best first: the others would only find it taken. One that stops waiting without
//! having taken what it was woken for leaves it to the next. Rules: H-35, with M-45 to M-50 deciding who fits.

use std::cmp::Reverse;

use capm3_api::foreign::{Machine, MachineSet};
use capm3_api::infra::v1beta2::Metal3Machine;
use capm3_api::k8s::Timestamp;
use capm3_api::names::label;

use super::{host_name, reuse, rows, was_associated};
use crate::conditions::{self, PAUSED, Row};
use crate::placement::{Host, Selector, SelectorError, Verdict, Wanted, judge};

/// What a machine asks of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub machine: String,
    pub cluster: String,
    pub selector: Selector,
    pub failure_domain: Option<String>,
    /// Value of the node-reuse label that it answers to.
    pub reuse: Option<String>,
    pub since: Option<Timestamp>,
}

impl Wish {
    pub fn of(machine: &Metal3Machine, owner: &Machine, set: Option<&MachineSet>) -> Result<Self, SelectorError> {
        let meta = &machine.metadata;
        let cluster = owner.metadata.labels.as_ref().and_then(|labels| labels.get(label::CLUSTER_NAME));
        Ok(Self {
            machine: meta.name.clone().unwrap_or_default(),
            cluster: cluster.cloned().unwrap_or_default(),
            selector: Selector::of(&machine.spec)?,
            failure_domain: owner.spec.failure_domain.clone().filter(|domain| !domain.is_empty()),
            reuse: reuse::value(owner, set),
            since: meta.creation_timestamp.as_ref().map(|created| created.0),
        })
    }

    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            machine: &self.machine,
            cluster: &self.cluster,
            selector: &self.selector,
            failure_domain: self.failure_domain.as_deref(),
            reuse: self.reuse.as_deref(),
        }
    }

    /// Whether the host could be taken now. A machine for which other hosts are kept takes one of those, and waits for it.
    pub fn could_take(&self, host: &Host<'_>, others_are_kept: bool) -> bool {
        match judge(&self.wanted(), host) {
            Verdict::KeptForUs { ready } => ready,
            Verdict::Free => !others_are_kept,
            Verdict::Mine | Verdict::Out(_) => false,
        }
    }

    /// Less is better: hosts are kept for some, lie where others want to be, are what the choosy rarely get; then age decides.
    fn rank(&self, host: &Host<'_>) -> (bool, u8, Reverse<usize>, Option<Timestamp>, &str) {
        let kept = host.reuse.is_some() && host.reuse == self.reuse.as_deref();
        let domain = match self.failure_domain.as_deref() {
            Some(domain) if host.failure_domain == Some(domain) => 0,
            None => 1,
            Some(_) => 2,
        };
        (!kept, domain, Reverse(self.selector.len()), self.since, &self.machine)
    }
}

/// Whether the last thing that the machine found out is that there is no host for it.
pub fn found_none(machine: &Metal3Machine) -> bool {
    let conditions = machine.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let says =
        |row: Row| conditions::get(conditions, row.kind).is_some_and(|c| c.status == "False" && c.reason == row.reason);
    let hostless = match host_name(machine) {
        Ok(None) => true,
        Ok(Some(_)) => !was_associated(machine), // what it goes for may be another's by now
        Err(_) => false,
    };
    let is_somebody = machine.spec.provider_id.as_deref().is_some_and(|id| !id.is_empty());
    machine.metadata.deletion_timestamp.is_none()
        && hostless
        && !is_somebody
        && says(rows::ASSOCIATE_FAILED)
        && !says(rows::METADATA_FAILED)
        && !conditions::is_true(conditions, PAUSED)
}

/// The machines for the host, best first. Each is woken for one of the hosts it could take, hence as many as there are of those.
pub fn offer<'w>(host: &Host<'_>, wishes: &'w [Wish], hosts: usize) -> Vec<&'w str> {
    let mut ranked: Vec<_> = wishes.iter().map(|wish| wish.rank(host)).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(hosts.max(1)).map(|(.., machine)| machine).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use capm3_api::common::SecretRef;
    use capm3_api::infra::v1beta2::Metal3MachineStatus;
    use capm3_api::k8s::{Condition, Time};
    use capm3_api::names::annotation;

    use super::*;
    use crate::placement::Consumer;

    fn wish(machine: &str) -> Wish {
        Wish { machine: machine.to_owned(), cluster: "prod".to_owned(), ..Wish::default() }
    }

    fn at(second: i64, wish: Wish) -> Wish {
        Wish { since: Timestamp::new(second, 0).ok(), ..wish }
    }

    fn in_domain(domain: &str, wish: Wish) -> Wish {
        Wish { failure_domain: Some(domain.to_owned()), ..wish }
    }

    #[test]
    fn a_host_is_offered_best_first() {
        let large = BTreeMap::from([("size".to_owned(), "large".to_owned())]);
        let choosy = Wish { selector: Selector::new(&large, []).unwrap(), ..wish("choosy") };
        let reuses = Wish { reuse: Some("md-a".to_owned()), ..at(9, wish("reuses")) };
        let wishes = [
            at(2, wish("younger")),
            at(1, wish("older")),
            at(1, wish("older-too")),
            at(9, in_domain("rack-1", wish("at-home"))),
            at(0, in_domain("rack-2", wish("abroad"))),
            at(9, choosy),
            reuses,
        ];
        let host = Host { name: "h", state: "available", failure_domain: Some("rack-1"), ..Host::default() };
        let order = ["at-home", "choosy", "older", "older-too", "younger", "reuses", "abroad"];
        assert_eq!(offer(&host, &wishes, 9), order);
        assert_eq!(offer(&host, &wishes, 2), order[..2]);
        assert_eq!(offer(&host, &wishes, 0), order[..1], "the one that became free may not be counted yet");
        let kept = Host { reuse: Some("md-a"), ..host };
        assert_eq!(offer(&kept, &wishes, 1), ["reuses"]);
        assert!(offer(&kept, &[], 1).is_empty());
    }

    #[test]
    fn a_host_is_offered_to_who_could_take_it() {
        let large = BTreeMap::from([("size".to_owned(), "large".to_owned())]);
        let choosy = Wish { selector: Selector::new(&large, []).unwrap(), ..wish("choosy") };
        let reuses = Wish { reuse: Some("md-a".to_owned()), ..wish("reuses") };
        let free = Host { name: "h", state: "available", ..Host::default() };
        let fits = Host { labels: Some(&large), ..free.clone() };
        let kept = Host { reuse: Some("md-a"), consumer: Some(Consumer::Cluster("prod")), ..free.clone() };
        let wiping = Host { state: "deprovisioning", ..kept.clone() };
        for (who, host, others_are_kept, expected) in [
            (&choosy, &free, false, false),
            (&choosy, &fits, false, true),
            (&reuses, &kept, true, true),
            (&reuses, &kept, false, true),
            (&reuses, &wiping, true, false),
            (&reuses, &free, true, false),
            (&reuses, &free, false, true),
            (&choosy, &kept, false, false),
        ] {
            assert_eq!(
                who.could_take(host, others_are_kept),
                expected,
                "{} {} {:?}",
                who.machine,
                host.state,
                host.reuse
            );
        }
    }

    #[test]
    fn only_who_looked_and_found_none_waits_for_a_host() {
        let condition = |row: Row, status: &str| Condition {
            type_: row.kind.to_owned(),
            reason: row.reason.to_owned(),
            status: status.to_owned(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        let saying = |conditions: Vec<Condition>| Metal3Machine {
            status: Some(Metal3MachineStatus { conditions, ..Metal3MachineStatus::default() }),
            ..Metal3Machine::named("ns", "m")
        };
        let none = || condition(rows::ASSOCIATE_FAILED, "False");
        assert!(found_none(&saying(vec![none()])));
        assert!(!found_none(&saying(Vec::new())));
        assert!(!found_none(&saying(vec![condition(rows::WAITING_FOR_BOOTSTRAP, "False")])));
        assert!(!found_none(&saying(vec![none(), condition(rows::METADATA_FAILED, "False")])));
        assert!(!found_none(&saying(vec![none(), condition(rows::PAUSED_TRUE, "True")])));
        assert!(found_none(&saying(vec![none(), condition(rows::NOT_PAUSED, "False")])));
        let mut lost = saying(vec![none()]);
        lost.spec.provider_id = Some("metal3://ns/h/m".to_owned());
        assert!(!found_none(&lost), "another host is nothing to it");
        let annotated = |host: &str| {
            let mut machine = saying(vec![none()]);
            machine.metadata.annotations = Some([(annotation::HOST.to_owned(), host.to_owned())].into());
            machine
        };
        assert!(found_none(&annotated("ns/h")), "what it went for may be another's");
        assert!(!found_none(&annotated("a/b/c")), "that has to be put right first");
        let mut held = annotated("ns/h");
        held.status.as_mut().unwrap().user_data = Some(SecretRef::named("m"));
        assert!(!found_none(&held), "H-4");
        held.metadata.annotations = None;
        assert!(found_none(&held));
        let mut leaving = saying(vec![none()]);
        leaving.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(!found_none(&leaving));
    }
}
