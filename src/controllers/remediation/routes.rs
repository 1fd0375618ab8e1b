//! Who wakes a remediation.

use std::sync::Arc;

use capm3_api::foreign::{BareMetalHost, Cluster, Machine};
use capm3_api::infra::v1beta2::{Metal3Machine, Metal3Remediation};
use capm3_core::machine::host_name;
use capm3_core::remediation::{cluster_name, is_over, kept_off_by, owner as owner_of};
use capm3_remote::{News, Workloads};
use capm3_runtime::{Change, Hub, Key, Queue, Store, key_of};

use super::{Lost, Stores};
use crate::machine::{awaited, owner};

/// Remediations by `<namespace>/<machine>`.
const BY_MACHINE: &str = "metal3remediation.machine";
/// Remediations by uid.
const BY_UID: &str = "metal3remediation.uid";
/// Hosts by the uid of the remediation that keeps them off.
const KEPT_OFF: &str = "metal3remediation.kept-off";
/// Metal3Machines by `<namespace>/<host>`.
const BY_HOST: &str = "metal3remediation.host";

pub(super) fn index(stores: &Stores) {
    stores.remediations.index(BY_MACHINE, |remediation| {
        let machine = owner_of(remediation).ok().map(|name| key_of(remediation).sibling(name));
        machine.iter().map(Key::to_string).collect()
    });
    stores.remediations.index(BY_UID, |remediation| remediation.metadata.uid.clone().into_iter().collect());
    stores.hosts.index(KEPT_OFF, |host| kept_off_by(host).map(str::to_owned).collect());
    stores.metal3_machines.index(BY_HOST, |machine| {
        let host = host_name(machine).ok().flatten().map(|name| key_of(machine).sibling(name));
        host.iter().map(Key::to_string).collect()
    });
}

/// The hosts of a namespace that the remediation of this uid keeps off.
pub(super) fn kept_off(hosts: &Store<BareMetalHost>, namespace: &str, uid: &str) -> Vec<Arc<BareMetalHost>> {
    let mut kept = hosts.by_index(KEPT_OFF, uid);
    kept.retain(|host| host.metadata.namespace.as_deref() == Some(namespace));
    kept
}

pub(super) fn is_known(remediations: &Store<Metal3Remediation>, uid: &str) -> bool {
    !remediations.by_index(BY_UID, uid).is_empty()
}

pub(super) fn connect(hub: &Hub, stores: &Stores, workloads: &Workloads, queue: &Queue) {
    let hosts = stores.hosts.clone();
    hub.route(&stores.remediations, queue, move |change: &Change<Metal3Remediation>| {
        let mut keys = vec![change.key()];
        let gone = change.old.as_ref().filter(|_| change.new.is_none());
        if let Some(uid) = gone.and_then(|gone| gone.metadata.uid.as_deref()) {
            let left = kept_off(&hosts, &keys[0].namespace, uid);
            keys.extend(left.iter().map(|host| Lost::new(host, uid).key()));
        }
        keys
    });
    let known = stores.clone();
    hub.route(&stores.machines, queue, move |change: &Change<Machine>| known.of_machine(&change.key()));
    let known = stores.clone();
    hub.route(&stores.metal3_machines, queue, move |change: &Change<Metal3Machine>| {
        let part = |machine: &Metal3Machine| host_name(machine).ok().flatten().map(str::to_owned);
        let Some(machine) = change.object().filter(|_| awaited(change, part)) else { return Vec::new() };
        known.of_metal3_machine(machine)
    });
    let known = stores.clone();
    hub.route(&stores.hosts, queue, move |change: &Change<BareMetalHost>| {
        let key = change.key();
        let machines = known.metal3_machines.by_index(BY_HOST, &key.to_string());
        let mut keys: Vec<_> = machines.iter().flat_map(|machine| known.of_metal3_machine(machine)).collect();
        for host in change.new.iter() {
            for uid in kept_off_by(host) {
                let keepers = known.remediations.by_index(BY_UID, uid);
                keys.extend(keepers.iter().map(|remediation| key_of(&**remediation)));
                if keepers.is_empty() {
                    keys.push(Lost::new(host, uid).key());
                }
            }
        }
        keys
    });
    let known = stores.clone();
    hub.route(&stores.clusters, queue, move |change: &Change<Cluster>| {
        if !awaited(change, |cluster: &Cluster| (cluster.spec.paused, cluster.spec.infrastructure_ref.clone())) {
            return Vec::new();
        }
        known.of_cluster(&change.key(), |_| true)
    });
    let known = stores.clone();
    workloads.route(queue, move |cluster, news| match news {
        News::Connected => known.of_cluster(cluster, |_| true),
        News::Node(change) => {
            let node = change.key().name;
            known.of_cluster(cluster, |machine| {
                machine
                    .status
                    .as_ref()
                    .and_then(|status| status.node_ref.as_ref())
                    .is_some_and(|named| named.name == node)
            })
        }
    });
}

impl Stores {
    fn of_machine(&self, machine: &Key) -> Vec<Key> {
        let found = self.remediations.by_index(BY_MACHINE, &machine.to_string());
        found.iter().map(|remediation| key_of(&**remediation)).collect()
    }

    fn of_metal3_machine(&self, machine: &Metal3Machine) -> Vec<Key> {
        let owner = owner(machine.metadata.owner_references.as_deref(), Machine::KIND);
        owner.map(|owner| self.of_machine(&key_of(machine).sibling(&owner.name))).unwrap_or_default()
    }

    /// Those that are not over, of machines of the cluster that are as wanted. There are few: only what is not well has one.
    fn of_cluster(&self, cluster: &Key, wanted: impl Fn(&Machine) -> bool) -> Vec<Key> {
        let all = self.remediations.list(&cluster.namespace);
        let is_meant = |remediation: &&Arc<Metal3Remediation>| {
            let machine = owner_of(remediation).ok().and_then(|name| self.machines.get(&cluster.sibling(name)));
            let machine = machine.as_deref();
            !is_over(remediation)
                && cluster_name(remediation, machine) == Some(&cluster.name)
                && machine.is_none_or(&wanted)
        };
        all.iter().filter(is_meant).map(|remediation| key_of(&**remediation)).collect()
    }
}
