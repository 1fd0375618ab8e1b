//! What the watchtower knows of the world: every object that an invariant may be about, indexes over them, and what was once true.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use capm3_api::names::{INFRA_GROUP, IPAM_GROUP};
use jiff::Timestamp;
use serde_json::Value;

use super::seen::{Seen, What, Who, path};
use super::view::{is_ours, owner, provider_id, text, uid};
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
    /// Metal3Data by template and index.
    indexes: BTreeMap<(String, i64), BTreeSet<String>>,
    /// What names a controller of ours as its owner, by the owner's uid.
    owned: BTreeMap<String, BTreeSet<(What, String)>>,
    /// Metal3Machines by providerID.
    provider_ids: BTreeMap<String, BTreeSet<String>>,

    /// Objects of which somebody else has taken our finalizer or the consumer: what they hold outside is not ours any more.
    abandoned: BTreeSet<(What, String)>,
    /// Objects of which somebody else has taken an owner: they are told by name.
    disowned: BTreeSet<(What, String)>,
    /// Images that a machine has asked for, by its uid.
    images: BTreeMap<String, Vec<Value>>,
    /// Names under which there once was a Secret.
    secrets: BTreeSet<String>,
    /// What a Secret was rendered from, and what came out, by its name and its owner's uid.
    rendered: BTreeMap<(String, String), (Vec<Value>, Value)>,
    /// What we have put on hosts and Secrets and nobody has taken off or changed since.
    marks: BTreeMap<(What, String), BTreeSet<String>>,
    /// Since when Clusters are paused.
    paused: BTreeMap<String, Timestamp>,
    /// How often we had a host switched off, by the uid of the remediation.
    cycles: BTreeMap<String, u32>,
    /// Our writes to an object since somebody else wrote anything.
    writes: BTreeMap<(What, String), u32>,
    last_writer: Option<(Who, u32)>,
}

impl Memory {
    /// What both clusters hold now.
    pub(super) fn recall(&mut self, management: &Server, workload: &Server) {
        *self = Self::default();
        self.take_in(What::Node, workload);
        self.take_in_all(management);
    }

    /// What the management cluster holds now; of the other one everything is still true.
    pub(super) fn recall_management(&mut self, management: &Server) {
        let nodes = self.objects.remove(&What::Node).unwrap_or_default();
        *self = Self::default();
        self.objects.insert(What::Node, nodes);
        self.take_in_all(management);
        // That they go for a host may be among what is forgotten.
        let machines = self.objects.get(&What::Machine).into_iter().flat_map(BTreeMap::keys);
        self.abandoned = machines.map(|machine| (What::Machine, machine.clone())).collect();
    }

    fn take_in_all(&mut self, management: &Server) {
        What::REMEMBERED.into_iter().filter(|what| *what != What::Node).for_each(|what| self.take_in(what, management));
    }

    fn take_in(&mut self, what: What, server: &Server) {
        for object in server.all(what.resource()) {
            let path = path(text(&object, &["metadata", "namespace"]), text(&object, &["metadata", "name"]));
            self.put(what, path, &object);
        }
    }

    pub(super) fn learn(&mut self, seen: &Seen<'_>) {
        self.count(seen);
        if matches!(seen.what, What::Other | What::Event) {
            return;
        }
        self.remember(seen);
        if let Some(old) = self.objects.get_mut(&seen.what).and_then(|all| all.remove(&seen.path)) {
            self.index(seen.what, &seen.path, &old, false);
        }
        if let Some(new) = seen.new {
            self.put(seen.what, seen.path.clone(), new);
        }
    }

    fn count(&mut self, seen: &Seen<'_>) {
        let writer = Some((seen.who, seen.process));
        if self.last_writer != writer {
            self.last_writer = writer;
            self.writes.clear();
        }
        if seen.who != Who::Other && !matches!(seen.what, What::Other | What::Event) {
            *self.writes.entry((seen.what, seen.path.clone())).or_default() += 1;
        }
    }

    /// What this write makes history.
    fn remember(&mut self, seen: &Seen<'_>) {
        let (old, new) = (seen.before(), seen.after());
        let key = || (seen.what, seen.path.clone());
        if seen.who == Who::Other {
            let finalizers = |object| super::view::finalizers(object).filter(|name| is_ours(name)).count();
            let owners = |object: &Value| object["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len);
            if owners(old) > owners(new) {
                self.disowned.insert(key());
            }
            let consumer = |object: &Value| object["spec"]["consumerRef"].clone();
            if finalizers(old) > finalizers(new) || seen.what == What::Host && consumer(old) != consumer(new) {
                self.abandoned.insert(key());
                if let Some(machine) = holder(old) {
                    self.abandoned.insert((What::Machine, machine));
                }
            }
        }
        if seen.what == What::Host && seen.who == Who::Infra {
            for uid in super::remediation::switched_off(seen) {
                *self.cycles.entry(uid.to_owned()).or_default() += 1;
            }
        }
        match seen.what {
            What::Host | What::Secret => self.mark(seen),
            What::Cluster if new["spec"]["paused"] == true => {
                self.paused.entry(seen.path.clone()).or_insert(seen.now);
            }
            What::Cluster => {
                self.paused.remove(&seen.path);
            }
            _ => {}
        }
        if seen.what == What::Secret
            && old.is_null()
            && let Some((name, uid)) = owner(new, "Metal3Data")
        {
            let sources = self.sources(&seen.sibling(name));
            self.rendered.insert((seen.path.clone(), uid.to_owned()), (sources, new["data"].clone()));
        }
    }

    fn mark(&mut self, seen: &Seen<'_>) {
        let (old, new) = (seen.before(), seen.after());
        if new.is_null() {
            self.marks.remove(&(seen.what, seen.path.clone()));
            return;
        }
        for (name, path) in marks(seen.what) {
            let (before, after) = (super::view::at(old, path), super::view::at(new, path));
            if before == after {
                continue;
            }
            let marks = self.marks.entry((seen.what, seen.path.clone())).or_default();
            // A Secret that we made goes with its owner.
            let others = seen.what == What::Host || seen.old.is_some();
            if seen.who == Who::Infra && others && !after.is_null() {
                marks.insert((*name).to_owned());
            } else {
                marks.remove(*name);
            }
        }
    }

    fn put(&mut self, what: What, path: String, object: &Arc<Value>) {
        self.index(what, &path, object, true);
        match what {
            What::Machine => {
                let images = self.images.entry(uid(object).to_owned()).or_default();
                let image = &object["spec"]["image"];
                if !images.contains(image) {
                    images.push(image.clone());
                }
            }
            What::Secret => {
                self.secrets.insert(path.clone());
            }
            _ => {}
        }
        self.objects.entry(what).or_default().insert(path, object.clone());
    }

    fn index(&mut self, what: What, path: &str, object: &Value, there: bool) {
        let named = || (what, path.to_owned());
        match what {
            What::Host => {
                if let Some(machine) = holder(object) {
                    file(&mut self.held, machine, path.to_owned(), there);
                }
            }
            What::Machine => {
                let id = provider_id(object);
                if !id.is_empty() {
                    file(&mut self.provider_ids, id.to_owned(), path.to_owned(), there);
                }
            }
            What::Data => {
                if let Some(index) = index_of(object) {
                    file(&mut self.indexes, index, path.to_owned(), there);
                }
                self.own(object, "Metal3DataClaim", named(), there);
            }
            What::Claim | What::CapiClaim | What::Secret => self.own(object, "Metal3Data", named(), there),
            What::DataClaim => self.own(object, "Metal3Machine", named(), there),
            What::Address | What::CapiAddress => {
                if let Some(place) = place(what, object) {
                    file(&mut self.addresses, place, named(), there);
                }
                let kind = if what == What::Address { "IPClaim" } else { "IPAddressClaim" };
                self.own(object, kind, named(), there);
            }
            _ => {}
        }
    }

    fn own(&mut self, object: &Value, kind: &str, named: (What, String), there: bool) {
        if let Some((_, uid)) = owner(object, kind) {
            file(&mut self.owned, uid.to_owned(), named, there);
        }
    }

    pub(super) fn get(&self, what: What, path: &str) -> Option<&Arc<Value>> {
        self.objects.get(&what)?.get(path)
    }

    /// The object of this name, if it is also the one of this uid.
    pub(super) fn same(&self, what: What, path: &str, uid: &str) -> Option<&Arc<Value>> {
        self.get(what, path).filter(|object| super::view::uid(object) == uid)
    }

    pub(super) fn all(&self, what: What) -> impl Iterator<Item = (&String, &Arc<Value>)> {
        self.objects.get(&what).into_iter().flatten()
    }

    /// The hosts whose consumer is this machine.
    pub(super) fn held_by(&self, machine: &str) -> impl Iterator<Item = &String> {
        self.held.get(machine).into_iter().flatten()
    }

    /// The address objects that hold this address.
    pub(super) fn holding(&self, place: &Place) -> impl Iterator<Item = &(What, String)> {
        self.addresses.get(place).into_iter().flatten()
    }

    /// The address objects of a pool.
    pub(super) fn addresses_of(&self, pool: &str) -> impl Iterator<Item = (&IpAddr, &(What, String))> {
        let first = (pool.to_owned(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let of_pool = self.addresses.range(first..).take_while(move |((of, _), _)| of == pool);
        of_pool.flat_map(|((_, address), objects)| objects.iter().map(move |object| (address, object)))
    }

    /// The Metal3Data that hold this index of this template.
    pub(super) fn at_index(&self, index: &(String, i64)) -> impl Iterator<Item = &String> {
        self.indexes.get(index).into_iter().flatten()
    }

    /// The Metal3Data of a template, by index.
    pub(super) fn datas_of(&self, template: &str) -> impl Iterator<Item = (i64, &String)> {
        let of_template =
            self.indexes.range((template.to_owned(), i64::MIN)..).take_while(move |((of, _), _)| of == template);
        of_template.flat_map(|((_, index), datas)| datas.iter().map(move |data| (*index, data)))
    }

    /// What belongs to the owner of this uid.
    pub(super) fn owned_by(&self, uid: &str) -> impl Iterator<Item = (What, &String, &Arc<Value>)> {
        let owned = self.owned.get(uid).into_iter().flatten();
        owned.filter_map(|(what, path)| Some((*what, path, self.get(*what, path)?)))
    }

    /// The machines with this providerID.
    pub(super) fn identified(&self, id: &str) -> impl Iterator<Item = &String> {
        self.provider_ids.get(id).into_iter().flatten()
    }

    pub(super) fn is_abandoned(&self, what: What, path: &str) -> bool {
        self.abandoned.contains(&(what, path.to_owned()))
    }

    pub(super) fn is_disowned(&self, what: What, path: &str) -> bool {
        self.disowned.contains(&(what, path.to_owned()))
    }

    pub(super) fn has_asked_for(&self, machine: &Value, image: &Value) -> bool {
        self.images.get(uid(machine)).is_some_and(|images| images.iter().any(|asked| asked["url"] == image["url"]))
    }

    pub(super) fn was_secret(&self, path: &str) -> bool {
        self.secrets.contains(path)
    }

    /// What was rendered before under this name for this owner, from the same sources.
    pub(super) fn rendered_before(&self, path: &str, (data, uid): (&str, &str)) -> Option<&Value> {
        let (sources, content) = self.rendered.get(&(path.to_owned(), uid.to_owned()))?;
        (*sources == self.sources(data)).then_some(content)
    }

    /// Everything that a Secret of this Metal3Data is rendered from.
    fn sources(&self, data: &str) -> Vec<Value> {
        let mut sources = Vec::new();
        let Some(data) = self.get(What::Data, data) else { return sources };
        let namespace = text(data, &["metadata", "namespace"]);
        let near = |what, name: &str| self.get(what, &super::seen::path(namespace, name));
        let described = |object: &Value| {
            let meta = &object["metadata"];
            Value::Array(["name", "labels", "annotations"].iter().map(|part| meta[*part].clone()).collect())
        };
        sources.push(data["spec"].clone());
        sources.extend(near(What::DataTemplate, text(data, &["spec", "template", "name"])).map(|t| t["spec"].clone()));
        let claim = near(What::DataClaim, text(data, &["spec", "claim", "name"]));
        let machine = claim.and_then(|claim| near(What::Machine, owner(claim, "Metal3Machine")?.0));
        sources.extend(machine.map(|machine| described(machine)));
        let capi = machine.and_then(|machine| near(What::CapiMachine, owner(machine, "Machine")?.0));
        sources.extend(capi.map(|capi| described(capi)));
        let annotated = machine.map_or("", |machine| super::view::annotation(machine, super::view::HOST_ANNOTATION));
        if let Some(host) = self.get(What::Host, annotated) {
            sources.extend([
                described(host),
                host["status"]["hardware"].clone(),
                host["spec"]["bootMACAddress"].clone(),
            ]);
        }
        let claims = self.owned_by(uid(data));
        let addresses = claims.flat_map(|(_, _, claim)| self.owned_by(uid(claim)));
        sources.extend(addresses.map(|(_, _, address)| address["spec"].clone()));
        sources
    }

    /// What we have left on a host or a Secret.
    pub(super) fn marks(&self) -> impl Iterator<Item = (What, &String, &BTreeSet<String>)> {
        self.marks.iter().map(|((what, path), marks)| (*what, path, marks)).filter(|(_, _, marks)| !marks.is_empty())
    }

    /// How often we had a host switched off for the remediation of this uid.
    pub(super) fn cycles_of(&self, remediation: &str) -> u32 {
        self.cycles.get(remediation).copied().unwrap_or_default()
    }

    pub(super) fn paused_since(&self, cluster: &str) -> Option<Timestamp> {
        self.paused.get(cluster).copied()
    }

    /// How often this object was written by us without anybody else having written anything.
    pub(super) fn writes_to(&self, what: What, path: &str) -> u32 {
        self.writes.get(&(what, path.to_owned())).copied().unwrap_or_default()
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

/// What we put on an object of others, and where.
fn marks(what: What) -> &'static [(&'static str, &'static [&'static str])] {
    use capm3_api::names::{annotation, label};
    const CLUSTER: (&str, &[&str]) = ("the cluster's label", &["metadata", "labels", label::CLUSTER_NAME]);
    match what {
        What::Host => &[
            CLUSTER,
            ("the block of moves", &["metadata", "annotations", annotation::BLOCK_MOVE]),
            ("our pause", &["metadata", "annotations", annotation::HOST_PAUSED]),
            ("image", &["spec", "image"]),
            ("customDeploy", &["spec", "customDeploy"]),
            ("userData", &["spec", "userData"]),
            ("metaData", &["spec", "metaData"]),
            ("networkData", &["spec", "networkData"]),
        ],
        What::Secret => &[CLUSTER],
        _ => &[],
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
    let address = text(object, &["spec", "address"]).parse::<IpAddr>().ok()?.to_canonical();
    let pool = pool_of(what, object);
    (!pool.is_empty()).then_some((pool, address))
}

/// The pool of ours that a claim or an address object names; empty for one that is not ours.
pub(super) fn pool_of(what: What, object: &Value) -> String {
    let spec = &object["spec"];
    let pool = match what {
        What::Address | What::Claim => text(spec, &["pool", "name"]),
        _ if spec["poolRef"]["apiGroup"] == IPAM_GROUP && spec["poolRef"]["kind"] == "IPPool" => {
            text(spec, &["poolRef", "name"])
        }
        _ => "",
    };
    if pool.is_empty() { String::new() } else { path(text(object, &["metadata", "namespace"]), pool) }
}

/// Template and index of a Metal3Data.
pub(super) fn index_of(data: &Value) -> Option<(String, i64)> {
    let template = text(data, &["spec", "template", "name"]);
    let index = data["spec"]["index"].as_i64()?;
    (!template.is_empty()).then(|| (path(text(data, &["metadata", "namespace"]), template), index))
}
