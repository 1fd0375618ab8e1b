//! One address from every pool: the claims a Metal3Data makes, what they brought, and giving them back.
//!
//! Metal3 pools take IPClaims, all others the IPAddressClaims of Cluster API. A claim has a deterministic name, so making it
//! twice makes it once. Only a claim that this Metal3Data owns, by uid, can deliver. Giving back goes by ownership first, so
//! that it needs neither the template nor the objects whose annotations named a pool.
//!
//! Rules: docs/spec/data-rendering.md D-58 to D-68 with hazards HD-22 to HD-25 and HD-27 to HD-29 adopted.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use capm3_api::foreign::{ContractRef, IPAddress as CapiAddress, IPAddressClaim, IPAddressClaimSpec};
use capm3_api::infra::v1beta2::Metal3Data;
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPClaimSpec};
use capm3_api::k8s::{ObjectMeta, ObjectReference};
use capm3_api::names::{condition, finalizer, label};
use capm3_api::owner_reference;

use super::pools::{PoolKind, Pools};
use super::render::{Address, Addresses};
use crate::planted::{Defect, sown};

/// A label value may not be longer; a claim is found by its owner all the same.
const LONGEST_LABEL: usize = 63;

/// The claims that may be this Metal3Data's, and the addresses they name, by object name.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub claims: BTreeMap<String, Arc<IPClaim>>,
    pub addresses: BTreeMap<String, Arc<IPAddress>>,
    pub capi_claims: BTreeMap<String, Arc<IPAddressClaim>>,
    pub capi_addresses: BTreeMap<String, Arc<CapiAddress>>,
}

/// Who asks for addresses, and for which host.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub data: &'a Metal3Data,
    pub host: &'a str,
    pub cluster: &'a str,
    /// Claims are named after the host, so that a pool can set addresses aside for it (D-61).
    pub by_host: bool,
}

/// What to do so that addresses come.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Claim(Box<IPClaim>),
    ClaimFromCapi(Box<IPAddressClaim>),
    /// A claim in our way belongs to a Metal3Data that is no more: let go of it, so that it can end.
    LetGo(Arc<IPClaim>),
    LetGoOfCapi(Arc<IPAddressClaim>),
}

/// How far the addresses are, the worst of all pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered(Addresses),
    NotYet,
    /// Published text of why an address cannot be had.
    Failed(String),
}

enum Standing {
    Delivered(Address),
    NotYet,
    Failed(String),
}

/// Name of the claim on `pool` that belongs to `holder`, a Metal3Data or a host.
#[must_use]
pub fn claim_name(holder: &str, pool: &str) -> String {
    format!("{holder}-{pool}")
}

/// Ensures a claim on every pool and collects what they brought.
#[must_use]
pub fn ensure(asking: &Asking<'_>, pools: &Pools, known: &Known) -> (Vec<Action>, Outcome) {
    let mut actions = Vec::new();
    let mut addresses = Addresses::new();
    let mut failure = None;
    for (pool, kind) in pools {
        let standing = if kind.is_metal3() {
            claim_metal3(asking, pool, known, &mut actions)
        } else {
            let pool = ContractRef { api_group: Some(kind.group.clone()), kind: kind.kind.clone(), name: pool.clone() };
            claim_capi(asking, pool, known, &mut actions)
        };
        match standing {
            Standing::Delivered(address) => {
                addresses.insert(pool.clone(), address);
            }
            Standing::NotYet => {}
            Standing::Failed(message) => {
                failure.get_or_insert_with(|| format!("IP Allocation for {pool} failed : {message}"));
            }
        }
    }
    let left_out = sown(Defect::RenderedWithoutNewClaim) && !actions.is_empty();
    let outcome = match failure {
        Some(message) => Outcome::Failed(message),
        None if left_out => Outcome::Delivered(addresses),
        None if addresses.len() == pools.len() => Outcome::Delivered(addresses),
        None => Outcome::NotYet,
    };
    (actions, outcome)
}

/// The claim that stands under a name of ours and is not ours: `a-1` on pool `b` and `a` on pool `1-b` ask under one name. Until it
/// goes, this pool has no address for us.
#[must_use]
pub fn in_the_way(asking: &Asking<'_>, pool: &str, kind: &PoolKind, known: &Known) -> Option<String> {
    let by_data = claim_name(name(&asking.data.metadata), pool);
    if !kind.is_metal3() {
        let claim = known.capi_claims.get(&by_data)?;
        return (!is_ours_capi(asking.data, claim, pool)).then(|| format!("{} {by_data}", IPAddressClaim::KIND));
    }
    let by_host = claim_name(asking.host, pool);
    let names = if asking.by_host { vec![by_data, by_host] } else { vec![by_data] };
    let (name, claim) = names.into_iter().find_map(|name| known.claims.get(&name).map(|claim| (name, claim)))?;
    (!is_ours(asking.data, claim, pool)).then(|| format!("{} {name}", IPClaim::KIND))
}

fn is_ours(data: &Metal3Data, claim: &IPClaim, pool: &str) -> bool {
    owns(data, &claim.metadata) && claim.spec.pool.name.as_deref().is_none_or(|asked| asked == pool)
}

fn is_ours_capi(data: &Metal3Data, claim: &IPAddressClaim, pool: &str) -> bool {
    owns(data, &claim.metadata) && claim.spec.pool_ref.as_ref().is_none_or(|asked| asked.name == pool)
}

fn claim_metal3(asking: &Asking<'_>, pool: &str, known: &Known, actions: &mut Vec<Action>) -> Standing {
    let by_data = claim_name(name(&asking.data.metadata), pool);
    let by_host = claim_name(asking.host, pool);
    let found = known.claims.get(&by_data).or_else(|| {
        // Another machine's leftover on the same host is nobody's business while claims are named after the data.
        known.claims.get(&by_host).filter(|claim| asking.by_host || owns(asking.data, &claim.metadata))
    });
    let Some(claim) = found else {
        actions.push(Action::Claim(Box::new(ip_claim(asking, pool, if asking.by_host { by_host } else { by_data }))));
        return Standing::NotYet;
    };
    let deleting = claim.metadata.deletion_timestamp.is_some();
    if !is_ours(asking.data, claim, pool) {
        if deleting && has_finalizer(&claim.metadata) && !owns(asking.data, &claim.metadata) {
            actions.push(Action::LetGo(claim.clone()));
        }
        return Standing::NotYet;
    }
    let status = claim.status.as_ref();
    if let Some(message) = status.and_then(|status| status.error_message.as_deref()).filter(|text| !text.is_empty()) {
        return Standing::Failed(message.to_owned());
    }
    let named = status.and_then(|status| status.address.as_ref()?.name.as_ref());
    match named.and_then(|name| known.addresses.get(name)) {
        Some(address) => Standing::Delivered(Address {
            address: address.spec.address.clone(),
            prefix: Some(address.spec.prefix.unwrap_or_default()),
            gateway: address.spec.gateway.clone().unwrap_or_default(),
            dns: address.spec.dns_servers.clone(),
        }),
        None => Standing::NotYet,
    }
}

fn claim_capi(asking: &Asking<'_>, pool: ContractRef, known: &Known, actions: &mut Vec<Action>) -> Standing {
    let claim_name = claim_name(name(&asking.data.metadata), &pool.name);
    let Some(claim) = known.capi_claims.get(&claim_name) else {
        actions.push(Action::ClaimFromCapi(Box::new(ip_address_claim(asking, pool, claim_name))));
        return Standing::NotYet;
    };
    let deleting = claim.metadata.deletion_timestamp.is_some();
    if !is_ours_capi(asking.data, claim, &pool.name) {
        if deleting && has_finalizer(&claim.metadata) && !owns(asking.data, &claim.metadata) {
            actions.push(Action::LetGoOfCapi(claim.clone()));
        }
        return Standing::NotYet;
    }
    if deleting {
        return Standing::NotYet;
    }
    let status = claim.status.as_ref();
    let named = status.and_then(|status| status.address_ref.as_ref()).map(|address| &address.name);
    if let Some(address) = named.and_then(|name| known.capi_addresses.get(name)) {
        return Standing::Delivered(Address {
            address: address.spec.address.clone(),
            prefix: address.spec.prefix.map(i64::from),
            gateway: address.spec.gateway.clone().unwrap_or_default(),
            dns: Vec::new(),
        });
    }
    let refused = status.into_iter().flat_map(|status| &status.conditions).find(|c| {
        c.type_ == condition::READY
            && c.status == "False"
            && ["AllocationFailed", "PoolExhausted"].contains(&&*c.reason)
    });
    refused.map_or(Standing::NotYet, |condition| Standing::Failed(condition.message.clone()))
}

fn ip_claim(asking: &Asking<'_>, pool: &str, name: String) -> IPClaim {
    let mut metadata = claim_metadata(asking.data, name, false);
    // Also the one of who answers: it saves the write that would put it there.
    metadata.finalizers.get_or_insert_default().push(finalizer::IP_CLAIM.to_owned());
    let data = self::name(&asking.data.metadata);
    if asking.by_host && data.len() <= LONGEST_LABEL && pool.len() <= LONGEST_LABEL {
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(label::DATA_NAME.to_owned(), data.to_owned());
        labels.insert(label::POOL_NAME.to_owned(), pool.to_owned());
    }
    let namespace = asking.data.metadata.namespace.clone();
    let pool = ObjectReference { name: Some(pool.to_owned()), namespace, ..ObjectReference::default() };
    IPClaim { metadata, spec: IPClaimSpec { pool }, status: None }
}

fn ip_address_claim(asking: &Asking<'_>, pool: ContractRef, name: String) -> IPAddressClaim {
    let cluster_name = (!asking.cluster.is_empty()).then(|| asking.cluster.to_owned());
    let spec = IPAddressClaimSpec { cluster_name, pool_ref: Some(pool) };
    IPAddressClaim { metadata: claim_metadata(asking.data, name, true), spec, status: None }
}

fn claim_metadata(data: &Metal3Data, name: String, block: bool) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: data.metadata.namespace.clone(),
        labels: data.metadata.labels.clone(),
        finalizers: Some(vec![finalizer::DATA.to_owned()]),
        owner_references: owner_reference(data, true, block).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// One claim to give back; either part may have been done by an earlier pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Release {
    Metal3 { claim: Arc<IPClaim>, let_go: bool, delete: bool },
    Capi { claim: Arc<IPAddressClaim>, let_go: bool, delete: bool },
}

/// All claims of this Metal3Data among those known: by owner, by the labels of host-named claims, and by name.
#[must_use]
pub fn release(data: &Metal3Data, pools: &Pools, known: &Known) -> Vec<Release> {
    let data_name = name(&data.metadata);
    let by_name = |claim: &ObjectMeta, metal3: bool| {
        pools.iter().any(|(pool, kind)| kind.is_metal3() == metal3 && claim_name(data_name, pool) == name(claim))
    };
    let by_label = |claim: &ObjectMeta| {
        let label = |key| claim.labels.as_ref().and_then(|labels| labels.get(key));
        label(label::DATA_NAME).is_some_and(|name| name == data_name)
            && label(label::POOL_NAME).and_then(|pool| pools.get(pool)).is_some_and(super::pools::PoolKind::is_metal3)
    };
    let todo = |claim: &ObjectMeta| (has_finalizer(claim), claim.deletion_timestamp.is_none());

    let metal3 = known.claims.values().filter_map(|claim| {
        let meta = &claim.metadata;
        let owned = owns(data, meta) && !sown(Defect::ReleaseByTemplate);
        let ours = owned || by_label(meta) || by_name(meta, true);
        let (let_go, delete) = todo(meta);
        (ours && (let_go || delete)).then(|| Release::Metal3 { claim: claim.clone(), let_go, delete })
    });
    let capi = known.capi_claims.values().filter_map(|claim| {
        let meta = &claim.metadata;
        let owned = owns(data, meta) && !sown(Defect::ReleaseByTemplate);
        let ours = owned || by_name(meta, false);
        let (let_go, delete) = todo(meta);
        (ours && (let_go || delete)).then(|| Release::Capi { claim: claim.clone(), let_go, delete })
    });
    metal3.chain(capi).collect()
}

/// Claims on their way out that only a Metal3Data holds which is no more: they were made by a request that outlived it. `data` is the
/// one that has its name now, `known` the claims that name such an owner.
#[must_use]
pub fn left_behind(data: Option<&Metal3Data>, known: &Known) -> Vec<Release> {
    let left = |claim: &ObjectMeta| {
        let owned = data.is_some_and(|data| owns(data, claim));
        claim.deletion_timestamp.is_some() && has_finalizer(claim) && !owned
    };
    let metal3 = known.claims.values().filter(|claim| left(&claim.metadata));
    let metal3 = metal3.map(|claim| Release::Metal3 { claim: claim.clone(), let_go: true, delete: false });
    let capi = known.capi_claims.values().filter(|claim| left(&claim.metadata));
    metal3.chain(capi.map(|claim| Release::Capi { claim: claim.clone(), let_go: true, delete: false })).collect()
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn owns(data: &Metal3Data, claim: &ObjectMeta) -> bool {
    let uid = data.metadata.uid.as_deref();
    sown(Defect::OldClaimReused)
        || uid.is_some() && claim.owner_references.iter().flatten().any(|owner| Some(owner.uid.as_str()) == uid)
}

fn has_finalizer(claim: &ObjectMeta) -> bool {
    claim.finalizers.iter().flatten().any(|held| held == finalizer::DATA)
}
