//! Who wakes a machine.

use std::sync::Arc;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine};
use capm3_api::infra::v1beta2::{Metal3Cluster, Metal3Machine};
use capm3_api::k8s::{OwnerReference, Resource};
use capm3_api::names::{INFRA_GROUP, label};
use capm3_core::host::{self, group_of};
use capm3_core::machine::was_associated;
use capm3_core::placement::Consumer;
use capm3_core::planted::{Defect, sown};
use capm3_remote::{News, Workloads};
use capm3_runtime::{Change, Hub, Key, Queue, Store, key_of};

use super::Stores;
use super::gather::{owner, sought_host};

/// Machines by `<namespace>/<host>` of the host they name.
const BY_HOST: &str = "metal3machine.host";
/// Machines by `<namespace>/<cluster>`.
const BY_CLUSTER: &str = "metal3machine.cluster";
/// Machines that have no host, by namespace: one that names a host may have lost it to another.
const WITHOUT_HOST: &str = "metal3machine.without-host";
/// Hosts by `<namespace>/<machine>` of the machine that holds them.
const BY_HOLDER: &str = "metal3machine.holder";
/// Hosts by uid.
const BY_UID: &str = "metal3machine.uid";

pub(super) fn index(stores: &Stores) {
    stores.machines.index(BY_HOST, |machine| sought_host(machine).into_iter().collect());
    stores.machines.index(BY_CLUSTER, |machine| cluster_of(machine).map(|key| key.to_string()).into_iter().collect());
    stores.machines.index(WITHOUT_HOST, |machine| {
        waits(machine).then(|| machine.metadata.namespace.clone().unwrap_or_default()).into_iter().collect()
    });
    stores.hosts.index(BY_HOLDER, |host| holder(host).map(|key| key.to_string()).into_iter().collect());
    stores.hosts.index(BY_UID, |host| host.metadata.uid.clone().into_iter().collect());
}

pub(super) fn held_by(hosts: &Store<BareMetalHost>, machine: &Key) -> Vec<Arc<BareMetalHost>> {
    let mut held = hosts.by_index(BY_HOLDER, &machine.to_string());
    held.retain(|host| host.metadata.namespace.as_deref() == Some(&machine.namespace));
    held
}

pub(super) fn connect(hub: &Hub, stores: &Stores, workloads: &Workloads, queue: &Queue) {
    hub.route(&stores.machines, queue, |change| vec![change.key()]);
    hub.route(&stores.owners, queue, |change| {
        change.sides().filter_map(|machine| infrastructure_of(machine)).collect()
    });
    hub.route(&stores.claims, queue, |change| change.sides().flat_map(|claim| owning_machines(&**claim)).collect());
    hub.route(&stores.data, queue, |change| change.sides().flat_map(|data| owning_machines(&**data)).collect());

    let machines = stores.machines.clone();
    hub.route(&stores.clusters, queue, move |change| {
        if awaited(change, |cluster: &Cluster| {
            let status = cluster.status.clone().unwrap_or_default();
            let ready = (status.initialization, status.deprecated);
            (cluster.spec.clone(), ready, cluster.metadata.deletion_timestamp.clone())
        }) {
            keys(&machines.by_index(BY_CLUSTER, &change.key().to_string()))
        } else {
            Vec::new()
        }
    });
    let (machines, owners) = (stores.machines.clone(), stores.clusters.clone());
    hub.route(&stores.infrastructure, queue, move |change| {
        let cluster_of = |cluster: &Metal3Cluster| {
            let owner = owner(cluster.metadata.owner_references.as_deref(), "Cluster")?;
            Some(key_of(cluster).sibling(&owner.name))
        };
        if !awaited(change, |cluster: &Metal3Cluster| (cluster.spec.clone(), cluster_of(cluster))) {
            return Vec::new();
        }
        let clusters = change.sides().filter_map(|cluster| cluster_of(cluster));
        let clusters = clusters.filter(|cluster| owners.get(cluster).is_some());
        clusters.flat_map(|cluster| keys(&machines.by_index(BY_CLUSTER, &cluster.to_string()))).collect()
    });
    let machines = stores.machines.clone();
    hub.route(&stores.hosts, queue, move |change| {
        let key = change.key();
        let mut wake: Vec<_> = change.sides().filter_map(|host| holder(host)).collect();
        wake.extend(keys(&machines.by_index(BY_HOST, &key.to_string())));
        if became_free(change) && !sown(Defect::FreeHostWakesNobody) {
            wake.extend(keys(&machines.by_index(WITHOUT_HOST, &key.namespace)));
        }
        wake
    });

    let (machines, hosts) = (stores.machines.clone(), stores.hosts.clone());
    workloads.route(queue, move |cluster, news| {
        let uid = match news {
            News::Connected => None,
            News::Node(change) => {
                // One that goes may be the second of its host, which the other waits for.
                let Some(node) = change.object() else { return Vec::new() };
                node.metadata.labels.as_ref().and_then(|labels| labels.get(label::HOST_UUID)).cloned()
            }
        };
        let host = uid.and_then(|uid| hosts.by_index(BY_UID, &uid).into_iter().next());
        match host {
            Some(host) => holder(&host).into_iter().collect(),
            None => {
                let mut waiting = machines.by_index(BY_CLUSTER, &cluster.to_string());
                waiting.retain(|machine| !is_provisioned(machine));
                keys(&waiting)
            }
        }
    });
}

/// Whether a host that becomes free may be the one the machine waits for.
fn waits(machine: &Metal3Machine) -> bool {
    let hostless = sought_host(machine).is_none() || !was_associated(machine);
    hostless && machine.metadata.deletion_timestamp.is_none()
}

fn keys(machines: &[Arc<Metal3Machine>]) -> Vec<Key> {
    machines.iter().map(|machine| key_of(&**machine)).collect()
}

fn cluster_of(machine: &Metal3Machine) -> Option<Key> {
    let name = machine.metadata.labels.as_ref()?.get(label::CLUSTER_NAME)?;
    Some(key_of(machine).sibling(name))
}

fn is_provisioned(machine: &Metal3Machine) -> bool {
    let status = machine.status.as_ref();
    status.and_then(|s| s.initialization.as_ref()).and_then(|i| i.provisioned) == Some(true)
}

/// The machine that a host names as its consumer, in the namespace it names.
fn holder(host: &BareMetalHost) -> Option<Key> {
    host::holder(host).map(|machine| Key::new(machine.namespace, machine.name))
}

fn infrastructure_of(machine: &Machine) -> Option<Key> {
    let reference = machine.spec.infrastructure_ref.as_ref()?;
    let group = reference.api_group.as_deref().unwrap_or(INFRA_GROUP);
    let ours = reference.kind == Metal3Machine::KIND && group == INFRA_GROUP && !reference.name.is_empty();
    ours.then(|| key_of(machine).sibling(&reference.name))
}

/// Every Metal3Machine among the owners, in any version (M-2).
fn owning_machines<K: Resource>(object: &K) -> Vec<Key> {
    let is_machine = |owner: &&OwnerReference| {
        owner.kind == Metal3Machine::KIND && group_of(&owner.api_version) == Some(INFRA_GROUP)
    };
    let owners = object.meta().owner_references.iter().flatten().filter(is_machine);
    owners.map(|owner| key_of(object).sibling(&owner.name)).collect()
}

/// Whether the part of an object that machines look at has changed, or it came or went.
pub(crate) fn awaited<K, P: PartialEq>(change: &Change<K>, part: impl Fn(&K) -> P) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new) || part(old) != part(new),
        _ => true,
    }
}

/// A host that nobody could take before and somebody can take now, or that shows other labels.
fn became_free(change: &Change<BareMetalHost>) -> bool {
    let Some(new) = change.new.as_deref().filter(|host| is_free(host)) else { return false };
    change.old.as_deref().is_none_or(|old| !is_free(old) || old.metadata.labels != new.metadata.labels)
}

fn is_free(host: &BareMetalHost) -> bool {
    let host = host::candidate(host, false);
    let held = matches!(host.consumer, Some(Consumer::Machine(_) | Consumer::Foreign));
    let available = matches!(host.state, "available" | "ready");
    available && !held && !host.deleting && !host.error && !host.paused && !host.unhealthy && !host.detached
}

#[cfg(test)]
mod tests {
    use capm3_api::foreign::{BareMetalHostStatus, ContractRef, HostProvisioning};
    use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim};
    use capm3_api::k8s::ObjectReference;
    use capm3_api::names::annotation;

    use super::*;

    fn owned_by(owners: &[(&str, &str, &str)]) -> Vec<OwnerReference> {
        let reference = |(api_version, kind, name): &(&str, &str, &str)| OwnerReference {
            api_version: (*api_version).to_owned(),
            kind: (*kind).to_owned(),
            name: (*name).to_owned(),
            ..OwnerReference::default()
        };
        owners.iter().map(reference).collect()
    }

    fn host(state: &str, consumer: Option<&str>) -> Arc<BareMetalHost> {
        let mut host = BareMetalHost::named("ns", "h");
        let provisioning = Some(HostProvisioning { state: state.to_owned(), ..HostProvisioning::default() });
        host.status = Some(BareMetalHostStatus { provisioning, ..BareMetalHostStatus::default() });
        host.spec.consumer_ref = consumer.map(|name| ObjectReference {
            api_version: Some("infrastructure.cluster.x-k8s.io/v1beta1".to_owned()),
            kind: Some("Metal3Machine".to_owned()),
            namespace: Some("ns".to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        });
        Arc::new(host)
    }

    #[test]
    fn a_mp_4_and_5_a_host_wakes_its_consumer() {
        assert_eq!(holder(&host("available", Some("m1"))), Some(Key::new("ns", "m1")));
        assert_eq!(holder(&host("available", None)), None);
    }

    #[test]
    fn a_mp_6_and_7_a_claim_wakes_the_machine_that_owns_it() {
        let mut claim = Metal3DataClaim::named("ns", "c");
        assert!(owning_machines(&claim).is_empty());
        for wrong in [(INFRA_GROUP, "Other"), ("other.io", "Metal3Machine")] {
            claim.metadata.owner_references = Some(owned_by(&[(&format!("{}/v1", wrong.0), wrong.1, "m1")]));
            assert!(owning_machines(&claim).is_empty());
        }
        let unknown = format!("{INFRA_GROUP}/v1unknown9");
        claim.metadata.owner_references = Some(owned_by(&[(&unknown, "Metal3Machine", "m1")]));
        assert_eq!(owning_machines(&claim), [Key::new("ns", "m1")], "A-MP-7");
    }

    #[test]
    fn a_mp_10_and_11_data_wakes_only_our_machine() {
        let mut data = Metal3Data::named("ns", "d");
        assert!(owning_machines(&data).is_empty());
        data.metadata.owner_references = Some(owned_by(&[
            (&format!("{INFRA_GROUP}/v1beta2"), "Metal3Machine", "m1"),
            (&format!("{INFRA_GROUP}/v1beta2"), "Metal3DataClaim", "m1"),
            ("foo.bar/v1", "Metal3Machine", "m2"),
        ]));
        assert_eq!(owning_machines(&data), [Key::new("ns", "m1")], "A-MP-11");
    }

    #[test]
    fn m_2_a_machine_wakes_the_object_it_names() {
        let mut machine = Machine::named("ns", "m");
        assert_eq!(infrastructure_of(&machine), None);
        let reference = |kind: &str| {
            let (api_group, kind) = (Some(INFRA_GROUP.to_owned()), kind.to_owned());
            Some(ContractRef { api_group, kind, name: "m1".to_owned() })
        };
        machine.spec.infrastructure_ref = reference("Metal3Machine");
        assert_eq!(infrastructure_of(&machine), Some(Key::new("ns", "m1")));
        machine.spec.infrastructure_ref = reference("Other");
        assert_eq!(infrastructure_of(&machine), None);
    }

    #[test]
    fn h_35_a_machine_that_lost_its_host_to_another_waits_for_the_next() {
        let mut machine = Metal3Machine::named("ns", "m1");
        assert!(waits(&machine));
        machine.metadata.annotations = Some([(annotation::HOST.to_owned(), "ns/h".to_owned())].into());
        assert!(waits(&machine), "a host that is only gone for may be another's");
        machine.spec.provider_id = Some("metal3://ns/h/m1".to_owned());
        assert!(!waits(&machine));
        machine.metadata.annotations = None;
        assert!(waits(&machine));
    }

    #[test]
    fn h_35_only_a_host_that_becomes_free_wakes_the_waiting() {
        let change = |old: &Arc<BareMetalHost>, new: &Arc<BareMetalHost>| Change {
            old: Some(old.clone()),
            new: Some(new.clone()),
        };
        let (free, busy, wiping) =
            (host("available", None), host("available", Some("m1")), host("deprovisioning", None));
        assert!(became_free(&Change { old: None, new: Some(free.clone()) }));
        assert!(became_free(&change(&busy, &free)));
        assert!(became_free(&change(&wiping, &free)));
        assert!(!became_free(&change(&free, &free)));
        assert!(!became_free(&change(&free, &busy)));
        assert!(!became_free(&Change { old: Some(free.clone()), new: None }));
        let mut labelled = (*free).clone();
        labelled.metadata.labels = Some([("rack".to_owned(), "7".to_owned())].into());
        assert!(became_free(&change(&free, &Arc::new(labelled))));
    }
}
