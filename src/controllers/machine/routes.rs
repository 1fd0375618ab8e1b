//! Who wakes a machine.

use std::sync::Arc;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine};
use capm3_api::infra::v1beta2::{Metal3Cluster, Metal3Machine};
use capm3_api::k8s::{OwnerReference, Resource};
use capm3_api::names::{INFRA_GROUP, label};
use capm3_core::host::{self, group_of};
use capm3_core::machine;
use capm3_core::machine::waiting::{Wish, found_none, offer};
use capm3_core::placement::{Consumer, Verdict, judge};
use capm3_core::planted::{Defect, sown};
use capm3_remote::{News, Workloads};
use capm3_runtime::{Change, Hub, Key, Queue, Store, key_of};

use super::Stores;
use super::gather::{owner, sought_host};

/// Machines by `<namespace>/<host>` of the host they name.
const BY_HOST: &str = "metal3machine.host";
/// Machines by `<namespace>/<cluster>`.
const BY_CLUSTER: &str = "metal3machine.cluster";
/// Machines that looked for a host and found none, by namespace.
const HOSTLESS: &str = "metal3machine.hostless";
/// Hosts that can be taken, by namespace; of those that are kept only their machines can take them.
pub(super) const FREE: &str = "metal3machine.free";
/// Hosts that are kept for machines of an owner, by `<namespace>/<value of the node-reuse label>`.
const KEPT: &str = "metal3machine.kept";
/// Hosts by `<namespace>/<machine>` of the machine that holds them.
const BY_HOLDER: &str = "metal3machine.holder";
/// Hosts by uid.
const BY_UID: &str = "metal3machine.uid";

pub(super) fn index(stores: &Stores) {
    stores.machines.index(BY_HOST, |machine| sought_host(machine).into_iter().collect());
    stores.machines.index(BY_CLUSTER, |machine| cluster_of(machine).map(|key| key.to_string()).into_iter().collect());
    stores.machines.index(HOSTLESS, |machine| {
        found_none(machine).then(|| machine.metadata.namespace.clone().unwrap_or_default()).into_iter().collect()
    });
    stores.hosts.index(FREE, |host| {
        is_free(host).then(|| host.metadata.namespace.clone().unwrap_or_default()).into_iter().collect()
    });
    stores.hosts.index(KEPT, |host| {
        let value = host::labelled(host, label::NODE_REUSE).filter(|value| !value.is_empty());
        value.map(|value| key_of(host).sibling(value).to_string()).into_iter().collect()
    });
    stores.hosts.index(BY_HOLDER, |host| holder(host).map(|key| key.to_string()).into_iter().collect());
    stores.hosts.index(BY_UID, |host| host.metadata.uid.clone().into_iter().collect());
}

pub(super) fn held_by(hosts: &Store<BareMetalHost>, machine: &Key) -> Vec<Arc<BareMetalHost>> {
    let mut held = hosts.by_index(BY_HOLDER, &machine.to_string());
    held.retain(|host| host.metadata.namespace.as_deref() == Some(&machine.namespace));
    held
}

/// The machines that have noted that they go for the host.
pub(super) fn go_for(machines: &Store<Metal3Machine>, host: &Key) -> impl Iterator<Item = Key> + use<> {
    machines.by_index(BY_HOST, &host.to_string()).into_iter().map(|machine| key_of(&*machine))
}

/// Whether there are hosts, ready or not, that are kept for whoever has this wish.
pub(super) fn are_kept_for(hosts: &Store<BareMetalHost>, namespace: &str, wish: &Wish) -> bool {
    let Some(value) = &wish.reuse else { return false };
    let kept = hosts.by_index(KEPT, &Key::new(namespace, value).to_string());
    kept.iter().any(|host| matches!(judge(&wish.wanted(), &host::candidate(host, false)), Verdict::KeptForUs { .. }))
}

pub(super) fn connect(hub: &Hub, stores: &Stores, workloads: &Workloads, queue: &Queue, watch_filter: Option<String>) {
    let waiting = Waiting { stores: stores.clone(), watch_filter };
    let offers = waiting.clone();
    hub.route(&stores.machines, queue, move |change| {
        let mut wake = vec![change.key()];
        wake.extend(offers.left_by(change));
        wake
    });
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
        let freed = change.new.as_ref().filter(|_| became_free(change) && !sown(Defect::FreeHostWakesNobody));
        wake.extend(freed.into_iter().flat_map(|host| waiting.offer(host)));
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

/// The machines that wait for a host, and what each of them could take.
#[derive(Clone)]
struct Waiting {
    stores: Stores,
    watch_filter: Option<String>,
}

impl Waiting {
    /// The machines to wake for a host that can be taken.
    fn offer(&self, host: &BareMetalHost) -> Vec<Key> {
        let Key { namespace, .. } = key_of(host);
        let candidate = host::candidate(host, false);
        let is_kept = |wish: &Wish| are_kept_for(&self.stores.hosts, &namespace, wish);
        let could_take = |wish: &Wish| wish.could_take(&candidate, false) && wish.could_take(&candidate, is_kept(wish));
        let waiting = self.stores.machines.by_index(HOSTLESS, &namespace);
        let mut wishes: Vec<_> = waiting.iter().filter_map(|machine| self.wish(machine)).collect();
        wishes.retain(could_take);
        let [first, ..] = &wishes[..] else { return Vec::new() };
        let like_it = self.stores.hosts.some_by_index(FREE, &namespace, 0, wishes.len());
        let like_it = like_it.iter().filter(|host| first.could_take(&host::candidate(host, false), false)).count();
        offer(&candidate, &wishes, like_it).into_iter().map(|name| Key::new(&*namespace, name)).collect()
    }

    /// A machine that no longer waits may have been woken for more hosts than the one it goes for, if it goes for any: one of the
    /// others is offered to the next, who passes the rest on.
    fn left_by(&self, change: &Change<Metal3Machine>) -> Vec<Key> {
        let Some(old) = change.old.as_ref().filter(|old| found_none(old)) else { return Vec::new() };
        let Key { namespace, .. } = key_of(&**old);
        let others_wait = self.stores.machines.count(HOSTLESS, &namespace) > 0;
        if !others_wait || change.new.as_ref().is_some_and(|new| found_none(new)) {
            return Vec::new();
        }
        let Some(wish) = self.wish(old) else { return Vec::new() };
        let taken = change.new.as_ref().and_then(|new| sought_host(new));
        let free = self.stores.hosts.by_index(FREE, &namespace);
        let left = free.iter().filter(|host| {
            taken.as_ref() != Some(&key_of(&***host).to_string())
                && wish.could_take(&host::candidate(host, false), false)
        });
        left.map(|host| self.offer(host)).find(|woken| !woken.is_empty()).unwrap_or_default()
    }

    /// What the machine asks of a host; none when it is not ours to look after, or goes for a host that it can still get.
    fn wish(&self, machine: &Metal3Machine) -> Option<Wish> {
        let key = key_of(machine);
        let filter = |filter: &String| {
            machine.metadata.labels.as_ref().and_then(|labels| labels.get(label::WATCH_FILTER)) == Some(filter)
        };
        let named = machine::host_name(machine).ok().flatten();
        let host = named.and_then(|name| self.stores.hosts.get(&key.sibling(name)));
        let has_one = host.is_some_and(|host| is_free(&host) || holder(&host).is_some_and(|holder| holder == key));
        if has_one || !self.watch_filter.as_ref().is_none_or(filter) {
            return None;
        }
        let owner = owner(machine.metadata.owner_references.as_deref(), "Machine")?;
        let owner = self.stores.owners.get(&key.sibling(&owner.name))?;
        let set = machine::machine_set(&owner).and_then(|set| self.stores.sets.get(&key.sibling(&set.name)));
        Wish::of(machine, &owner, set.as_deref()).ok()
    }
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

pub(super) fn is_free(host: &BareMetalHost) -> bool {
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
