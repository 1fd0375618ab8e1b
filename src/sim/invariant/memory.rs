//! What the watchtower knows of the world: every object that an invariant may be about, and indexes over them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use capm3_api::names::{INFRA_GROUP, IPAM_GROUP};
use serde_json::Value;

use super::seen::{Seen, What, path};
use super::text;
use crate::server::Server;

/// An address of a pool.
pub(super) type Place = (String, IpAddr);

#[derive(Default)]
pub(super) struct Memory {
    objects: BTreeMap<What, BTreeMap<String, Arc<Value>>>,
    /// Hosts by the machine that their consumer names.
    held: BTreeMap<String, BTreeSet<String>>,
    /// Address objects of both kinds by what they hold.
    addresses: BTreeMap<Place, BTreeSet<(What, String)>>,
}

impl Memory {
    /// What both clusters hold now.
    pub(super) fn recall(&mut self, management: &Server, workload: &Server) {
        *self = Self::default();
        for (what, resource) in What::REMEMBERED {
            let server = if what == What::Node { workload } else { management };
            server.all(resource).iter().for_each(|object| self.put(what, object));
        }
    }

    /// What the management cluster holds now; of the other one everything is still true.
    pub(super) fn recall_management(&mut self, management: &Server) {
        let nodes = self.objects.remove(&What::Node).unwrap_or_default();
        *self = Self::default();
        self.objects.insert(What::Node, nodes);
        for (what, resource) in What::REMEMBERED.into_iter().filter(|(what, _)| *what != What::Node) {
            management.all(resource).iter().for_each(|object| self.put(what, object));
        }
    }

    pub(super) fn learn(&mut self, seen: &Seen<'_>) {
        if matches!(seen.what, What::Other | What::Event) {
            return;
        }
        if let Some(old) = self.objects.get_mut(&seen.what).and_then(|all| all.remove(&seen.path)) {
            self.index(seen.what, &seen.path, &old, false);
        }
        if let Some(new) = seen.new {
            self.put(seen.what, new);
        }
    }

    fn put(&mut self, what: What, object: &Arc<Value>) {
        let path = path(text(object, &["metadata", "namespace"]), text(object, &["metadata", "name"]));
        self.index(what, &path, object, true);
        self.objects.entry(what).or_default().insert(path, object.clone());
    }

    fn index(&mut self, what: What, path: &str, object: &Value, there: bool) {
        match what {
            What::Host => {
                if let Some(machine) = holder(object) {
                    file(&mut self.held, machine, path.to_owned(), there);
                }
            }
            What::Address | What::CapiAddress => {
                if let Some(place) = place(what, object) {
                    file(&mut self.addresses, place, (what, path.to_owned()), there);
                }
            }
            _ => {}
        }
    }

    pub(super) fn get(&self, what: What, path: &str) -> Option<&Arc<Value>> {
        self.objects.get(&what)?.get(path)
    }

    /// The hosts whose consumer is this machine.
    pub(super) fn held_by(&self, machine: &str) -> impl Iterator<Item = &String> {
        self.held.get(machine).into_iter().flatten()
    }

    /// The address objects that hold this address.
    pub(super) fn holding(&self, place: &Place) -> impl Iterator<Item = &(What, String)> {
        self.addresses.get(place).into_iter().flatten()
    }
}

fn file<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: K, value: V, there: bool) {
    if there {
        index.entry(key).or_default().insert(value);
    } else if let Some(values) = index.get_mut(&key) {
        values.remove(&value);
        if values.is_empty() {
            index.remove(&key);
        }
    }
}

/// The Metal3Machine that a host's consumer names, whatever the version.
pub(super) fn holder(host: &Value) -> Option<String> {
    let consumer = &host["spec"]["consumerRef"];
    let group = text(consumer, &["apiVersion"]).split('/').next();
    let ours = group == Some(INFRA_GROUP) && consumer["kind"] == "Metal3Machine";
    ours.then(|| path(text(consumer, &["namespace"]), text(consumer, &["name"])))
}

/// The pool and the address that an address object stands for.
pub(super) fn place(what: What, object: &Value) -> Option<Place> {
    let spec = &object["spec"];
    let pool = match what {
        What::Address => text(spec, &["pool", "name"]),
        _ if spec["poolRef"]["apiGroup"] == IPAM_GROUP && spec["poolRef"]["kind"] == "IPPool" => {
            text(spec, &["poolRef", "name"])
        }
        _ => "",
    };
    let address = text(spec, &["address"]).parse::<IpAddr>().ok()?.to_canonical();
    (!pool.is_empty()).then(|| (path(text(object, &["metadata", "namespace"]), pool), address))
}
