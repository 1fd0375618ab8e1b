//! Data templates: one controller answers claims with Metal3Data, the other renders each Metal3Data into Secrets.
//!
//! | change of | wakes the template | wakes the data |
//! |---|---|---|
//! | Metal3DataTemplate | itself | its data that wait |
//! | Metal3DataClaim | the one it names, unless it was answered | the data that answer it |
//! | Metal3Data (appears, is deleted, goes) | the one it is of | - |
//! | Metal3Data | - | itself, unless it became ready |
//! | IPClaim, IPAddressClaim | - | the owner, also one that is gone |
//! | IPAddress of either kind | - | the owner of its claim, while it waits |
//! | Metal3Machine, Machine, BareMetalHost | - | the data of the machine, while it waits |
//! | Cluster (appears, is paused or resumed) | those with claims of the cluster | those of the cluster |
//!
//! Secrets are not watched: their names are ours, so creating one tells whether it was there, and only then is it looked at. What a
//! host may still read is looked at once in a while, so that a lost one is made again (HD-18).
//! The kinds of both address managers may be missing and are watched from the moment they appear (HD-30).

mod datas;
mod templates;

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{self, BareMetalHost, Cluster, IPAddressClaim, Machine};
use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataTemplate, Metal3Machine};
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim};
use capm3_api::k8s::{ObjectMeta, OwnerReference};
use capm3_api::names::{INFRA_GROUP, label};
use capm3_core::data::life::metal3_machine_of;
use capm3_core::data::template::{is_told, templates_of};
use capm3_runtime::{
    Change, Controller, Key, Object, Preconditions, ReadError, ReconcileError, Retry, Setup, Store, WatchOptions,
    WriteError, Writer, key_of, merge_diff,
};
use serde::Serialize;

use datas::Datas;
use templates::Templates;

const TEMPLATES: &str = "metal3datatemplate";
const DATAS: &str = "metal3data";

/// Indexes, by `<namespace>/<name>` but for the owner's uid.
const BY_TEMPLATE: &str = "data: template";
const OPEN_BY_TEMPLATE: &str = "data: open claims of a template";
const BY_CLAIM: &str = "data: claim";
const BY_MACHINE: &str = "data: machine";
const BY_CLUSTER: &str = "data: cluster";
const BY_OWNER: &str = "data: owner";
const BY_OWNER_NAME: &str = "data: owner's name";
const BY_LABEL: &str = "data: label";

/// Where an event ends the wait, this is the net under it.
const SAFETY_NET: Duration = Duration::from_secs(300);
/// Nothing tells when a Secret is gone.
const UNWATCHED: Duration = Duration::from_secs(30);
/// So often are the Secrets of a machine looked at that is not provisioned yet: rarely, because hosts take their time.
const UNREAD: Duration = Duration::from_secs(600);
/// A race was lost to a change that the watch is about to show.
const RACE: Duration = Duration::from_secs(1);

/// Declares what both controllers watch and leaves them to be run.
pub fn register(setup: &mut Setup) {
    let stores = Stores::declare(setup);
    let filter = setup.options.watch_filter.clone();
    route_templates(setup, &stores, filter.as_deref());
    route_datas(setup, &stores, filter.as_deref());
}

#[derive(Clone)]
struct Stores {
    templates: Store<Metal3DataTemplate>,
    claims: Store<Metal3DataClaim>,
    datas: Store<Metal3Data>,
    metal3_machines: Store<Metal3Machine>,
    machines: Store<Machine>,
    hosts: Store<BareMetalHost>,
    clusters: Store<Cluster>,
    ip_claims: Store<IPClaim>,
    ip_addresses: Store<IPAddress>,
    capi_claims: Store<IPAddressClaim>,
    capi_addresses: Store<foreign::IPAddress>,
}

impl Stores {
    fn declare(setup: &Setup) -> Self {
        let hub = &setup.hub;
        let stores = Self {
            templates: hub.store(WatchOptions::default()),
            claims: hub.store(WatchOptions::default()),
            datas: hub.store(WatchOptions::default()),
            metal3_machines: hub.store(WatchOptions::default()),
            machines: hub.store(WatchOptions::default()),
            hosts: hub.store(WatchOptions::default()),
            clusters: hub.store(WatchOptions::default()),
            ip_claims: hub.store(WatchOptions::optional()),
            ip_addresses: hub.store(WatchOptions::optional()),
            capi_claims: hub.store(WatchOptions::optional()),
            capi_addresses: hub.store(WatchOptions::optional()),
        };
        stores.claims.index(BY_TEMPLATE, |claim| template_of(claim).iter().map(Key::to_string).collect());
        stores.claims.index(OPEN_BY_TEMPLATE, |claim| {
            template_of(claim).filter(|_| is_open(claim)).iter().map(Key::to_string).collect()
        });
        stores.claims.index(BY_MACHINE, |claim| {
            metal3_machine_of(claim).map(|owner| key_of(claim).sibling(&owner.name).to_string()).into_iter().collect()
        });
        stores.claims.index(BY_CLUSTER, |claim| cluster_label(&claim.metadata).iter().map(Key::to_string).collect());
        stores.datas.index(BY_TEMPLATE, |data| {
            templates_of(data).into_iter().map(|name| key_of(data).sibling(name).to_string()).collect()
        });
        stores.datas.index(BY_CLAIM, |data| {
            let claim = data.spec.claim.as_ref();
            claim.map(|claim| key_of(data).sibling(&claim.name).to_string()).into_iter().collect()
        });
        stores.datas.index(BY_CLUSTER, |data| cluster_label(&data.metadata).iter().map(Key::to_string).collect());
        stores.ip_claims.index(BY_OWNER, |claim| data_owners(&claim.metadata).map(|owner| owner.uid.clone()).collect());
        stores
            .capi_claims
            .index(BY_OWNER, |claim| data_owners(&claim.metadata).map(|owner| owner.uid.clone()).collect());
        stores.ip_claims.index(BY_OWNER_NAME, |claim| owner_names(&claim.metadata));
        stores.capi_claims.index(BY_OWNER_NAME, |claim| owner_names(&claim.metadata));
        stores.ip_claims.index(BY_LABEL, |claim| {
            let data = claim.metadata.labels.as_ref().and_then(|labels| labels.get(label::DATA_NAME));
            data.map(|name| key_of(claim).sibling(name).to_string()).into_iter().collect()
        });
        stores
    }

    fn datas_of_claim(&self, claim: &Key) -> Vec<Arc<Metal3Data>> {
        self.datas.by_index(BY_CLAIM, &claim.to_string())
    }

    /// The data of a Metal3Machine that are not rendered yet.
    fn waiting_for_machine(&self, metal3_machine: &Key) -> Vec<Key> {
        let claims = self.claims.by_index(BY_MACHINE, &metal3_machine.to_string());
        claims.iter().flat_map(|claim| self.waiting(&self.datas_of_claim(&key_of(&**claim)))).collect()
    }

    fn waiting(&self, datas: &[Arc<Metal3Data>]) -> Vec<Key> {
        datas.iter().filter(|data| waits(data)).map(|data| key_of(&**data)).collect()
    }

    fn waiting_owners(&self, claim: Option<&ObjectMeta>) -> Vec<Key> {
        let owners = claim.map(owner_keys).unwrap_or_default();
        owners.into_iter().filter(|key| self.datas.get(key).is_some_and(|data| waits(&data))).collect()
    }
}

fn route_templates(setup: &mut Setup, stores: &Stores, filter: Option<&str>) {
    let queue = setup.queue(TEMPLATES);
    let hub = setup.hub.clone();
    let passes = watch_filter(filter);
    hub.route(&stores.templates, &queue, move |change| {
        change
            .object()
            .filter(|template| passes(&template.metadata))
            .map(|template| key_of(&**template))
            .into_iter()
            .collect()
    });
    let passes = watch_filter(filter);
    hub.route(&stores.claims, &queue, move |change| {
        let wakes = |claim: &&Arc<Metal3DataClaim>| passes(&claim.metadata) && (change.new.is_none() || is_open(claim));
        change.object().filter(wakes).and_then(|claim| template_of(claim)).into_iter().collect()
    });
    hub.route(&stores.datas, &queue, |change: &Change<Metal3Data>| {
        let Some(data) = change.object().filter(|_| index_changed(change)) else { return Vec::new() };
        templates_of(data).into_iter().map(|name| key_of(&**data).sibling(name)).collect()
    });
    let claims = stores.claims.clone();
    hub.route(&stores.clusters, &queue, move |change| {
        let of_cluster = || claims.by_index(BY_CLUSTER, &change.key().to_string());
        if pause_changed(change) {
            of_cluster().iter().filter_map(|claim| template_of(claim)).collect()
        } else {
            Vec::new()
        }
    });
    let templates = Templates {
        stores: stores.clone(),
        reader: setup.reader.clone(),
        writer: setup.writer.clone(),
        clock: setup.clock.clone(),
    };
    setup.add(Controller::new(TEMPLATES, queue, templates, setup.workers(TEMPLATES)));
}

fn route_datas(setup: &mut Setup, stores: &Stores, filter: Option<&str>) {
    let queue = setup.queue(DATAS);
    let hub = setup.hub.clone();
    let passes = watch_filter(filter);
    hub.route(&stores.datas, &queue, move |change| {
        let wakes = |data: &&Arc<Metal3Data>| passes(&data.metadata) && (waits(data) || !only_status_changed(change));
        change.new.iter().filter(wakes).map(|data| key_of(&**data)).collect()
    });
    hub.route(&stores.ip_claims, &queue, |change: &Change<IPClaim>| {
        change.object().map(|claim| owner_keys(&claim.metadata)).unwrap_or_default()
    });
    hub.route(&stores.capi_claims, &queue, |change: &Change<IPAddressClaim>| {
        change.object().map(|claim| owner_keys(&claim.metadata)).unwrap_or_default()
    });
    let known = stores.clone();
    hub.route(&stores.ip_addresses, &queue, move |change: &Change<IPAddress>| {
        let claim = change.new.as_ref().and_then(|address| address.spec.claim.name.as_deref());
        let claim = claim.and_then(|name| known.ip_claims.get(&change.key().sibling(name)));
        known.waiting_owners(claim.as_ref().map(|claim| &claim.metadata))
    });
    let known = stores.clone();
    hub.route(&stores.capi_addresses, &queue, move |change: &Change<foreign::IPAddress>| {
        let claim = change.new.as_ref().and_then(|address| address.spec.claim_ref.as_ref());
        let claim = claim.and_then(|claim| known.capi_claims.get(&change.key().sibling(&claim.name)));
        known.waiting_owners(claim.as_ref().map(|claim| &claim.metadata))
    });
    let known = stores.clone();
    hub.route(&stores.claims, &queue, move |change: &Change<Metal3DataClaim>| {
        let datas = known.datas_of_claim(&change.key());
        // A claim that is gone lets its data go; one that is there may be what a data waits for.
        if change.new.is_none() { datas.iter().map(|data| key_of(&**data)).collect() } else { known.waiting(&datas) }
    });
    let known = stores.clone();
    hub.route(&stores.metal3_machines, &queue, move |change: &Change<Metal3Machine>| {
        known.waiting_for_machine(&change.key())
    });
    let known = stores.clone();
    hub.route(&stores.machines, &queue, move |change: &Change<Machine>| {
        let machine = change.new.as_ref().and_then(|machine| machine.spec.infrastructure_ref.as_ref());
        let machine = machine.filter(|reference| reference.kind == Metal3Machine::KIND);
        machine.map(|reference| known.waiting_for_machine(&change.key().sibling(&reference.name))).unwrap_or_default()
    });
    let known = stores.clone();
    hub.route(&stores.hosts, &queue, move |change: &Change<BareMetalHost>| {
        let consumer = change.new.as_ref().and_then(|host| host.spec.consumer_ref.as_ref());
        let machine = consumer.filter(|consumer| consumer.kind.as_deref() == Some(Metal3Machine::KIND));
        let machine = machine.and_then(|consumer| consumer.name.as_deref());
        machine.map(|name| known.waiting_for_machine(&change.key().sibling(name))).unwrap_or_default()
    });
    let known = stores.clone();
    hub.route(&stores.templates, &queue, move |change: &Change<Metal3DataTemplate>| {
        known.waiting(&known.datas.by_index(BY_TEMPLATE, &change.key().to_string()))
    });
    let known = stores.clone();
    hub.route(&stores.clusters, &queue, move |change: &Change<Cluster>| {
        let of_cluster = || known.datas.by_index(BY_CLUSTER, &change.key().to_string());
        if pause_changed(change) { of_cluster().iter().map(|data| key_of(&**data)).collect() } else { Vec::new() }
    });
    let datas = Datas {
        stores: stores.clone(),
        reader: setup.reader.clone(),
        writer: setup.writer.clone(),
        clock: setup.clock.clone(),
        by_host: setup.options.name_based_preallocation,
    };
    setup.add(Controller::new(DATAS, queue, datas, setup.workers(DATAS)));
}

/// The template that a claim names, in the claim's own namespace and no other (D-27).
fn template_of(claim: &Metal3DataClaim) -> Option<Key> {
    let key = key_of(claim);
    let template = claim.spec.template.as_ref().filter(|template| !template.name.is_empty())?;
    (template.namespace_or(&key.namespace) == key.namespace).then(|| key.sibling(&template.name))
}

fn cluster_label(meta: &ObjectMeta) -> Option<Key> {
    let name = meta.labels.as_ref()?.get(label::CLUSTER_NAME)?;
    Some(Key::new(meta.namespace.as_deref().unwrap_or_default(), name))
}

fn data_owners(meta: &ObjectMeta) -> impl Iterator<Item = &OwnerReference> {
    let ours = |owner: &&OwnerReference| {
        owner.kind == Metal3Data::KIND
            && owner.api_version.split_once('/').is_some_and(|(group, _)| group == INFRA_GROUP)
    };
    meta.owner_references.iter().flatten().filter(ours)
}

fn owner_keys(claim: &ObjectMeta) -> Vec<Key> {
    let namespace = claim.namespace.as_deref().unwrap_or_default();
    data_owners(claim).map(|owner| Key::new(namespace, &owner.name)).collect()
}

fn owner_names(claim: &ObjectMeta) -> Vec<String> {
    owner_keys(claim).iter().map(Key::to_string).collect()
}

/// Neither rendered nor on its way out.
fn waits(data: &Metal3Data) -> bool {
    let ready = data.status.as_ref().is_some_and(|status| status.ready == Some(true));
    !ready && data.metadata.deletion_timestamp.is_none()
}

/// Waits for an answer or for the end of it: there is something to do for its template.
fn is_open(claim: &Metal3DataClaim) -> bool {
    let answered = claim.status.as_ref().is_some_and(|status| status.rendered_data.is_some());
    !answered || !is_told(claim) || claim.metadata.deletion_timestamp.is_some()
}

/// An index was taken, is about to be free, or is free.
fn index_changed(change: &Change<Metal3Data>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let (was, is) = (&old.metadata, &new.metadata);
    old.spec.claim != new.spec.claim || (&was.uid, &was.deletion_timestamp) != (&is.uid, &is.deletion_timestamp)
}

fn only_status_changed(change: &Change<Metal3Data>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return false };
    let (was, is) = (&old.metadata, &new.metadata);
    old.status != new.status
        && old.spec == new.spec
        && (&was.uid, &was.finalizers, &was.deletion_timestamp, &was.labels, &was.annotations, &was.owner_references)
            == (&is.uid, &is.finalizers, &is.deletion_timestamp, &is.labels, &is.annotations, &is.owner_references)
}

fn pause_changed(change: &Change<Cluster>) -> bool {
    let paused =
        |cluster: &Option<Arc<Cluster>>| cluster.as_ref().map(|cluster| cluster.spec.paused.unwrap_or_default());
    paused(&change.old) != paused(&change.new)
}

fn watch_filter(filter: Option<&str>) -> impl Fn(&ObjectMeta) -> bool + Send + Sync + 'static {
    let wanted = filter.filter(|filter| !filter.is_empty()).map(str::to_owned);
    move |meta| {
        let carried = meta.labels.as_ref().and_then(|labels| labels.get(label::WATCH_FILTER));
        wanted.is_none() || carried == wanted.as_ref()
    }
}

/// Sends the difference under the condition that the object is still the one that was read; the object as it is now.
async fn patch<K>(writer: &Writer, before: &K, after: &K) -> Result<K, WriteError>
where
    K: Object + Serialize,
{
    match merge_diff(before, after)? {
        Some(difference) => writer.patch(&key_of(before), difference, &Preconditions::unchanged(before)).await,
        None => Ok(before.clone()),
    }
}

/// As [`patch`], of the status.
async fn patch_status<K>(writer: &Writer, before: &K, after: &K) -> Result<K, WriteError>
where
    K: Object + Serialize,
{
    match merge_diff(before, after)? {
        Some(difference) => writer.patch_status(&key_of(before), difference, &Preconditions::unchanged(before)).await,
        None => Ok(before.clone()),
    }
}

/// Takes a finalizer away; an object that is gone has lost it already.
async fn let_go<K>(writer: &Writer, object: &K, finalizer: &str) -> Result<(), WriteError>
where
    K: Object + Serialize,
{
    let mut after = object.clone();
    let meta = after.meta_mut();
    meta.finalizers.iter_mut().for_each(|held| held.retain(|name| name != finalizer));
    meta.finalizers = meta.finalizers.take().filter(|held| !held.is_empty());
    match patch(writer, object, &after).await {
        Ok(_) | Err(WriteError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes this very object; one that is gone, or has made way for another of its name, is deleted already.
async fn delete<K: Object>(writer: &Writer, object: &K) -> Result<(), WriteError> {
    match writer.delete::<K>(&key_of(object), &Preconditions::same(object)).await {
        Ok(()) | Err(WriteError::NotFound(_) | WriteError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A race was lost, or the object is going: the watch brings the key back with what is true now.
fn is_race(error: &WriteError) -> bool {
    matches!(error, WriteError::Conflict(_) | WriteError::NotFound(_)) || error.is_namespace_terminating()
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
enum DataError {
    #[error("data pass could not read what it needs")]
    Read(#[source] ReadError),
    #[error("data pass could not write")]
    Write(#[source] WriteError),
    /// Told in a status: nothing is left to try before something changes.
    #[error("{0}")]
    Refused(String),
}

impl ReconcileError for DataError {
    fn category(&self) -> &'static str {
        match self {
            Self::Read(error) => error.category(),
            Self::Write(error) => error.category(),
            Self::Refused(_) => "Refused",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Read(error) => error.retry(),
            Self::Write(error) => error.retry(),
            Self::Refused(_) => Retry::After(SAFETY_NET),
        }
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases are JSON literals")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn meta(rest: Value) -> Value {
        let mut meta = json!({"name": "x", "namespace": "ns", "uid": "u"});
        for (key, value) in rest.as_object().unwrap() {
            meta[key] = value.clone();
        }
        meta
    }

    fn claim(template: Value) -> Metal3DataClaim {
        serde_json::from_value(json!({"metadata": meta(json!({})), "spec": {"template": template}})).unwrap()
    }

    #[test]
    fn td_44_a_claim_wakes_the_template_of_its_namespace() {
        let wakes = Some(Key::new("ns", "abc"));
        assert_eq!(template_of(&claim(json!({"name": "abc", "namespace": "ns"}))), wakes);
        assert_eq!(template_of(&claim(json!({"name": "abc"}))), wakes);
    }

    #[test]
    fn td_45_a_claim_of_another_namespace_or_of_no_template_wakes_none() {
        assert_eq!(template_of(&claim(json!({"name": "abc", "namespace": "other"}))), None);
        assert_eq!(template_of(&claim(json!({"name": ""}))), None);
        assert_eq!(template_of(&claim(Value::Null)), None);
    }

    #[test]
    fn td_46_which_data_an_address_claim_wakes() {
        let owner = |group: &str, kind: &str, name: &str| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "name": name, "uid": name});
        let owners = json!({"ownerReferences": [
            owner("foo.bar", "Metal3Data", "a"), owner(INFRA_GROUP, "Foo", "b"), owner(INFRA_GROUP, "Metal3Data", "c"),
        ]});
        let claim: ObjectMeta = serde_json::from_value(meta(owners)).unwrap();
        assert_eq!(owner_keys(&claim), [Key::new("ns", "c")]);
    }

    fn data(rest: Value, status: Value) -> Option<Arc<Metal3Data>> {
        Some(Arc::new(serde_json::from_value(json!({"metadata": meta(rest), "status": status})).unwrap()))
    }

    #[test]
    fn a_data_is_not_woken_by_becoming_ready() {
        let waiting = data(json!({"resourceVersion": "1"}), Value::Null);
        let ready = data(json!({"resourceVersion": "2"}), json!({"ready": true}));
        let leaving = data(json!({"deletionTimestamp": "1970-01-01T00:00:00Z"}), json!({"ready": true}));
        let change = |old: &Option<Arc<Metal3Data>>, new: &Option<Arc<Metal3Data>>| Change {
            old: old.clone(),
            new: new.clone(),
        };
        assert!(only_status_changed(&change(&waiting, &ready)) && !waits(ready.as_ref().unwrap()));
        assert!(!only_status_changed(&change(&waiting, &waiting)), "a resync is not a change of the status");
        assert!(!only_status_changed(&change(&None, &ready)) && !only_status_changed(&change(&ready, &leaving)));
        assert!(!index_changed(&change(&waiting, &ready)));
        assert!(index_changed(&change(&None, &ready)) && index_changed(&change(&ready, &leaving)));
    }

    #[test]
    fn an_answered_claim_is_of_no_interest_until_it_goes() {
        let mut answered = claim(json!({"name": "abc"}));
        assert!(is_open(&answered));
        answered.status = serde_json::from_value(json!({"renderedData": {"name": "abc-0"}})).unwrap();
        assert!(!is_open(&answered));
        answered.metadata.deletion_timestamp = serde_json::from_value(json!("1970-01-01T00:00:00Z")).unwrap();
        assert!(is_open(&answered));
    }

    #[test]
    fn a_watch_filter_asks_for_its_value() {
        let labelled =
            |value: &str| serde_json::from_value(meta(json!({"labels": {label::WATCH_FILTER: value}}))).unwrap();
        assert!(watch_filter(None)(&labelled("a")) && watch_filter(Some(""))(&labelled("a")));
        assert!(watch_filter(Some("a"))(&labelled("a")) && !watch_filter(Some("a"))(&labelled("b")));
    }
}
