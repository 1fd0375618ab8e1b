//! What a BareMetalHost says, read the way the machine rules need it.
//!
//! Rules: cluster-and-machine.md M-45 (who holds a host), M-76 (addresses), M-105 (when a host has let go of a machine).

use std::collections::BTreeSet;

use capm3_api::foreign::BareMetalHost;
use capm3_api::infra::v1beta2::MachineAddress;
use capm3_api::k8s::ObjectReference;
use capm3_api::names::{CAPI_GROUP, INFRA_GROUP, annotation, host_state, label};

use crate::placement::{Consumer, Host};

const ADDRESSES_MAX: usize = 32;

/// The name and namespace of a machine, as a host's `consumerRef` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineName<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
}

/// The group of an `apiVersion`; none when it does not parse.
pub fn group_of(api_version: &str) -> Option<&str> {
    match api_version.split('/').collect::<Vec<_>>()[..] {
        [_] => Some(""),
        [group, _] => Some(group),
        _ => None,
    }
}

/// The Metal3Machine that holds the host (M-45): versions and uids do not matter, everything else does.
pub fn holder(host: &BareMetalHost) -> Option<MachineName<'_>> {
    machine_of(host.spec.consumer_ref.as_ref()?)
}

/// The Metal3Machine that a consumer is.
pub fn machine_of(consumer: &ObjectReference) -> Option<MachineName<'_>> {
    let is_machine = is_kind(consumer, INFRA_GROUP, "Metal3Machine");
    is_machine.then(|| MachineName {
        namespace: consumer.namespace.as_deref().unwrap_or_default(),
        name: consumer.name.as_deref().unwrap_or_default(),
    })
}

pub fn is_held_by(host: &BareMetalHost, machine: MachineName<'_>) -> bool {
    holder(host) == Some(machine)
}

/// Whether the consumer is a Cluster: the host is kept for one of its machines (M-107).
pub fn is_cluster(consumer: &ObjectReference) -> bool {
    is_kind(consumer, CAPI_GROUP, "Cluster")
}

fn is_kind(reference: &ObjectReference, group: &str, kind: &str) -> bool {
    reference.kind.as_deref() == Some(kind)
        && reference.api_version.as_deref().and_then(group_of).is_some_and(|g| g == group)
}

/// Whoever holds the host, for people.
pub fn consumer_text(host: &BareMetalHost) -> String {
    let Some(consumer) = &host.spec.consumer_ref else { return "nobody".to_owned() };
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{} {}/{}", part(&consumer.kind), part(&consumer.namespace), part(&consumer.name))
}

/// The host as the choice looks at it. `sought` says whether another machine goes for it.
pub fn candidate(host: &BareMetalHost, sought: bool) -> Host<'_> {
    let meta = &host.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let labelled = |key| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let consumer = host.spec.consumer_ref.as_ref().map(|consumer| {
        let name = consumer.name.as_deref().unwrap_or_default();
        let here = consumer.namespace.as_deref() == Some(namespace);
        match holder(host) {
            Some(machine) if here => Consumer::Machine(machine.name),
            None if here && is_cluster(consumer) => Consumer::Cluster(name),
            _ => Consumer::Foreign,
        }
    });
    Host {
        name: meta.name.as_deref().unwrap_or_default(),
        labels: meta.labels.as_ref(),
        consumer,
        state: host.state(),
        reuse: labelled(label::NODE_REUSE),
        failure_domain: labelled(label::FAILURE_DOMAIN),
        deleting: meta.deletion_timestamp.is_some(),
        paused: annotated(host, annotation::HOST_PAUSED).is_some(),
        unhealthy: annotated(host, annotation::UNHEALTHY).or(annotated(host, annotation::UNHEALTHY_OLD)).is_some(),
        error: error(host).is_some(),
        detached: annotated(host, annotation::HOST_DETACHED).is_some(),
        sought,
    }
}

pub fn annotated<'a>(host: &'a BareMetalHost, key: &str) -> Option<&'a str> {
    host.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

pub fn labelled<'a>(host: &'a BareMetalHost, key: &str) -> Option<&'a str> {
    host.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// What the host operator says is wrong with the host, type first when there is one.
pub fn error(host: &BareMetalHost) -> Option<String> {
    let status = host.status.as_ref()?;
    let message = status.error_message.as_deref().filter(|m| !m.is_empty())?;
    Some(match status.error_type.as_deref().filter(|t| !t.is_empty()) {
        Some(kind) => format!("{kind}: {message}"),
        None => message.to_owned(),
    })
}

/// Whether a machine whose host was asked to let go must still wait for it (M-105).
pub fn is_letting_go(host: &BareMetalHost) -> bool {
    let powered_on = host.status.as_ref().and_then(|s| s.powered_on) == Some(true);
    match host.state() {
        // Right after a move the state is not restored yet: the annotation still carries it (H-57).
        host_state::NONE => annotated(host, annotation::HOST_STATUS).is_some(),
        host_state::REGISTERING
        | host_state::MATCH_PROFILE
        | host_state::INSPECTING
        | host_state::READY
        | host_state::AVAILABLE
        | host_state::UNMANAGED => false,
        // It never powers off when it was left on deliberately (H-41).
        host_state::EXTERNALLY_PROVISIONED => powered_on && host.spec.online != Some(true),
        _ => true,
    }
}

/// The addresses of the host's hardware, as the machine reports them (M-76). What does not fit gives way to the names (H-42).
pub fn addresses(host: &BareMetalHost) -> Vec<MachineAddress> {
    let Some(hardware) = host.status.as_ref().and_then(|s| s.hardware.as_ref()) else { return Vec::new() };
    let address = |type_: &str, address: &str| MachineAddress { type_: type_.to_owned(), address: address.to_owned() };
    let hostname = hardware.hostname.as_deref().filter(|name| !name.is_empty());
    let names: Vec<_> = ["Hostname", "InternalDNS"].iter().filter_map(|t| Some(address(t, hostname?))).collect();

    let mut seen = BTreeSet::new();
    let ips = hardware.nics.iter().filter_map(|nic| nic.ip.as_deref()).filter(|ip| !ip.is_empty());
    ips.filter(|ip| seen.insert(*ip))
        .take(ADDRESSES_MAX - names.len())
        .map(|ip| address("InternalIP", ip))
        .chain(names.iter().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use capm3_api::foreign::{BareMetalHostStatus, HostHardware, HostNic, HostProvisioning};

    use super::*;

    fn held(api_version: &str, kind: &str, namespace: &str, name: &str) -> BareMetalHost {
        let mut host = BareMetalHost::named("ns", "host");
        host.spec.consumer_ref = Some(ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        });
        host
    }

    fn in_state(state: &str) -> BareMetalHost {
        let mut host = BareMetalHost::named("ns", "host");
        let provisioning = Some(HostProvisioning { state: state.to_owned(), ..HostProvisioning::default() });
        host.status = Some(BareMetalHostStatus { provisioning, ..BareMetalHostStatus::default() });
        host
    }

    fn with_nics(ips: &[&str], hostname: Option<&str>) -> BareMetalHost {
        let mut host = in_state("available");
        let nics = ips.iter().map(|ip| HostNic { ip: Some((*ip).to_owned()), ..HostNic::default() }).collect();
        host.status.get_or_insert_default().hardware =
            Some(HostHardware { hostname: hostname.map(str::to_owned), nics, ..HostHardware::default() });
        host
    }

    fn shown(host: &BareMetalHost) -> Vec<String> {
        addresses(host).iter().map(|a| format!("{} {}", a.type_, a.address)).collect()
    }

    #[test]
    fn m_45_group_kind_namespace_and_name_decide() {
        let machine = MachineName { namespace: "ns", name: "m1" };
        assert!(is_held_by(&held("infrastructure.cluster.x-k8s.io/v1alpha9", "Metal3Machine", "ns", "m1"), machine));
        for other in [
            held("infrastructure.cluster.x-k8s.io/v1beta2", "Metal3Machine", "ns", "m2"),
            held("infrastructure.cluster.x-k8s.io/v1beta2", "Metal3Machine", "elsewhere", "m1"),
            held("infrastructure.cluster.x-k8s.io/v1beta2", "Other", "ns", "m1"),
            held("other.io/v1beta2", "Metal3Machine", "ns", "m1"),
            held("infrastructure.cluster.x-k8s.io/v1beta2/more", "Metal3Machine", "ns", "m1"),
            BareMetalHost::named("ns", "host"),
        ] {
            assert!(!is_held_by(&other, machine));
        }
    }

    #[test]
    fn a_h_9_a_consumer_in_another_namespace_or_of_another_kind_is_foreign() {
        let consumer = |host: &BareMetalHost| candidate(host, false).consumer.map(|c| format!("{c:?}"));
        let cluster = held("cluster.x-k8s.io/v1beta1", "Cluster", "ns", "prod");
        assert_eq!(consumer(&cluster).as_deref(), Some("Cluster(\"prod\")"));
        let claim = held("metal3.io/v1alpha1", "HostClaim", "ns", "x");
        assert_eq!(consumer(&claim).as_deref(), Some("Foreign"));
        let far = held("infrastructure.cluster.x-k8s.io/v1beta2", "Metal3Machine", "far", "m1");
        assert_eq!(consumer(&far).as_deref(), Some("Foreign"));
    }

    #[test]
    fn a_s_17_to_19_addresses() {
        assert_eq!(shown(&with_nics(&["192.0.2.1"], None)), ["InternalIP 192.0.2.1"]);
        let two = shown(&with_nics(&["192.0.2.1", "", "192.0.2.2"], None));
        assert_eq!(two, ["InternalIP 192.0.2.1", "InternalIP 192.0.2.2"]);
        assert_eq!(shown(&with_nics(&[], Some("web"))), ["Hostname web", "InternalDNS web"], "A-S-18");
        assert_eq!(shown(&with_nics(&[], Some(""))), [""; 0], "A-S-19");
        assert_eq!(shown(&in_state("available")), [""; 0], "A-S-19");
    }

    #[test]
    fn n_23_at_most_32_addresses_with_the_names_among_them() {
        let ips: Vec<_> = (0..40).map(|i| format!("192.0.2.{i}")).collect();
        let ips: Vec<_> = ips.iter().map(String::as_str).collect();
        let shown = shown(&with_nics(&ips, Some("web")));
        assert_eq!(shown.len(), 32);
        assert_eq!(shown[30..], ["Hostname web", "InternalDNS web"]);
        assert_eq!(super::addresses(&with_nics(&["192.0.2.1", "192.0.2.1"], None)).len(), 1);
    }

    #[test]
    fn m_105_states_that_hold_a_machine_back() {
        let states = [
            ("", false),
            ("unmanaged", false),
            ("registering", false),
            ("match profile", false),
            ("inspecting", false),
            ("ready", false),
            ("available", false),
            ("preparing", true),
            ("provisioning", true),
            ("provisioned", true),
            ("deprovisioning", true),
            ("powering off before delete", true),
            ("deleting", true),
            ("something new", true),
            ("externally provisioned", false),
        ];
        for (state, waits) in states {
            assert_eq!(is_letting_go(&in_state(state)), waits, "{state}");
        }
    }

    #[test]
    fn a_d_4_and_5_an_external_host_is_waited_for_while_it_is_on() {
        let mut host = in_state("externally provisioned");
        host.status.get_or_insert_default().powered_on = Some(true);
        host.spec.online = Some(false);
        assert!(is_letting_go(&host));
        host.spec.online = Some(true); // H-41
        assert!(!is_letting_go(&host));
    }

    #[test]
    fn h_57_a_state_that_is_not_restored_yet_is_waited_for() {
        let mut host = in_state("");
        host.metadata.annotations = Some([(annotation::HOST_STATUS.to_owned(), "{}".to_owned())].into());
        assert!(is_letting_go(&host));
    }

    #[test]
    fn m_45_only_a_machine_of_the_own_namespace_is_a_claim() {
        let seen = |namespace: &str| {
            let host = held("infrastructure.cluster.x-k8s.io/v1beta1", "Metal3Machine", namespace, "m1");
            candidate(&host, false).consumer.map(|consumer| consumer == Consumer::Machine("m1"))
        };
        assert_eq!((seen("ns"), seen("other")), (Some(true), Some(false)));
    }

    #[test]
    fn an_api_version_without_a_group_is_of_the_core() {
        assert_eq!((group_of("v1"), group_of("g/v1"), group_of("g/v1/x")), (Some(""), Some("g"), None));
    }
}
