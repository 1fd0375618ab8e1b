//! One address from every pool: the claims a Metal3Data makes, what they brought, and giving them back.
//!
//! Metal3 pools take IPClaims, all others the IPAddressClaims of Cluster API. A claim has a deterministic name, so making it
//! twice makes it once. Only a claim that this Metal3Data owns, by uid, can deliver. Giving back goes by ownership first, so
//! that it needs neither the template nor the objects whose annotations named a pool.
//!
//! Rules: docs/spec/data-rendering.md D-58 to D-68 with hazards HD-22 to HD-25 and HD-27 to HD-29 adopted.

use std::collections::BTreeMap;
use std::sync::Arc;

use capm3_api::foreign::{ContractRef, IPAddress as CapiAddress, IPAddressClaim, IPAddressClaimSpec};
use capm3_api::infra::v1beta2::Metal3Data;
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPClaimSpec};
use capm3_api::k8s::{ObjectMeta, ObjectReference};
use capm3_api::names::{condition, finalizer, label};
use capm3_api::owner_reference;

use super::pools::Pools;
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
    if !owns(asking.data, &claim.metadata) {
        if deleting && has_finalizer(&claim.metadata) {
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
    if !owns(asking.data, &claim.metadata) {
        if deleting && has_finalizer(&claim.metadata) {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::*;
    use super::super::pools::PoolKind;
    use super::*;

    fn metal3_pools() -> Pools {
        Pools::from([(POOL.to_owned(), PoolKind::metal3())])
    }

    fn capi_pools() -> Pools {
        let kind = PoolKind { group: "ipam.cluster.x-k8s.io".to_owned(), kind: "InClusterIPPool".to_owned() };
        Pools::from([(POOL.to_owned(), kind)])
    }

    fn run(by_host: bool, pools: &Pools, known: &Known) -> (Vec<Action>, Outcome) {
        ensure(&Asking { data: &data(), host: "host-0", cluster: CLUSTER, by_host }, pools, known)
    }

    fn ip_claim(name: &str, rest: Value) -> IPClaim {
        let mut claim: IPClaim = object(name, rest);
        if claim.metadata.owner_references.is_none() {
            claim.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
        }
        claim
    }

    fn named(claim: &str) -> String {
        format!("{claim}-{POOL}")
    }

    fn known(claims: Vec<IPClaim>) -> Known {
        let address: IPAddress = object(
            "abc-192.168.0.10",
            json!({"spec": {
                "address": "192.168.0.10", "prefix": 26, "gateway": "192.168.0.1", "dnsServers": ["8.8.8.8"],
            }}),
        );
        Known {
            claims: by_name(claims, |claim| &claim.metadata),
            addresses: by_name(vec![address], |address| &address.metadata),
            ..Known::default()
        }
    }

    fn answered() -> Value {
        json!({"address": {"name": "abc-192.168.0.10"}})
    }

    fn others() -> Value {
        json!({"ownerReferences": [{"apiVersion": "a/v1", "kind": "K", "name": "n", "uid": "other"}]})
    }

    fn delivered() -> Outcome {
        Outcome::Delivered(Addresses::from([(
            POOL.to_owned(),
            Address {
                address: "192.168.0.10".to_owned(),
                prefix: Some(26),
                gateway: "192.168.0.1".to_owned(),
                dns: vec!["8.8.8.8".to_owned()],
            },
        )]))
    }

    #[test]
    fn td_60_every_pool_is_claimed_in_one_pass() {
        let pools: Pools = (1..=10).map(|n| (format!("abcd-{n}"), PoolKind::metal3())).collect();
        let (actions, outcome) = run(false, &pools, &Known::default());
        assert_eq!((actions.len(), outcome), (10, Outcome::NotYet));
    }

    #[test]
    fn td_61_a_claim_is_named_after_the_data() {
        let (actions, outcome) = run(false, &metal3_pools(), &Known::default());
        let [Action::Claim(made)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(outcome, Outcome::NotYet);
        assert_eq!(
            serde_json::to_value(made).unwrap(),
            json!({
                "apiVersion": "ipam.metal3.io/v1alpha1",
                "kind": "IPClaim",
                "metadata": {
                    "name": named(DATA),
                    "namespace": NS,
                    "labels": {"cluster.x-k8s.io/cluster-name": CLUSTER},
                    "finalizers": ["metal3data.infrastructure.cluster.x-k8s.io", "ipclaim.ipam.metal3.io"],
                    "ownerReferences": [{
                        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "Metal3Data", "name": DATA,
                        "uid": format!("uid-{DATA}"), "controller": true,
                    }],
                },
                "spec": {"pool": {"name": POOL, "namespace": NS}},
            })
        );
    }

    #[test]
    fn k_69_claims_have_the_data_s_labels() {
        let mut data: Metal3Data = object(DATA, json!({}));
        data.metadata.labels = Some(BTreeMap::from([("rack".to_owned(), "12".to_owned())]));
        for block in [false, true] {
            assert_eq!(claim_metadata(&data, named(DATA), block).labels, data.metadata.labels);
        }
    }

    #[test]
    fn td_62_td_64_an_existing_claim_is_used() {
        for (by_host, name) in [(false, named(DATA)), (true, named(DATA)), (true, named("host-0"))] {
            let known = known(vec![ip_claim(&name, json!({"status": answered()}))]);
            assert_eq!(run(by_host, &metal3_pools(), &known), (Vec::new(), delivered()));
        }
    }

    /// With hazard HD-27: on the claim only, and only what fits a label.
    #[test]
    fn td_63_td_141_claims_named_after_the_host_carry_labels() {
        let pools = Pools::from([("a".to_owned(), PoolKind::metal3()), ("b".repeat(64), PoolKind::metal3())]);
        let (actions, _) = run(true, &pools, &Known::default());
        let labels: Vec<_> = actions
            .iter()
            .map(|action| match action {
                Action::Claim(claim) => (claim.metadata.name.clone().unwrap(), claim.metadata.labels.clone().unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(labels[0].0, "host-0-a");
        assert_eq!(labels[0].1[label::DATA_NAME], DATA);
        assert_eq!(labels[0].1[label::POOL_NAME], "a");
        assert_eq!(labels[1].1.len(), 1);
    }

    #[test]
    fn td_65_a_pool_of_cluster_api_gets_its_own_kind_of_claim() {
        let (actions, outcome) = run(true, &capi_pools(), &Known::default());
        let [Action::ClaimFromCapi(made)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(outcome, Outcome::NotYet);
        let made = serde_json::to_value(made).unwrap();
        assert_eq!(made["metadata"]["name"], named(DATA));
        assert_eq!(made["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], true);
        let pool = json!({"name": POOL, "kind": "InClusterIPPool", "apiGroup": "ipam.cluster.x-k8s.io"});
        assert_eq!(made["spec"], json!({"clusterName": CLUSTER, "poolRef": pool}));
    }

    #[test]
    fn td_66_td_69_td_71_not_yet() {
        for claim in [
            ip_claim(&named(DATA), json!({})),
            ip_claim(&named(DATA), json!({"metadata": others(), "status": answered()})),
            ip_claim(&named(DATA), json!({"status": {"address": {"name": "missing"}}})),
        ] {
            assert_eq!(run(false, &metal3_pools(), &known(vec![claim])), (Vec::new(), Outcome::NotYet));
        }
    }

    #[test]
    fn td_67_another_data_s_claim_that_is_ending_is_let_go() {
        let mut claim = ip_claim(&named(DATA), json!({"metadata": others(), "status": answered()}));
        deleting(&mut claim.metadata);
        assert_eq!(run(false, &metal3_pools(), &known(vec![claim.clone()])), (Vec::new(), Outcome::NotYet));
        claim.metadata.finalizers = Some(vec![finalizer::DATA.to_owned(), "other".to_owned()]);
        let expected = (vec![Action::LetGo(Arc::new(claim.clone()))], Outcome::NotYet);
        assert_eq!(run(false, &metal3_pools(), &known(vec![claim])), expected);
    }

    #[test]
    fn td_68_an_own_claim_delivers_while_it_is_being_deleted() {
        let mut claim = ip_claim(&named(DATA), json!({"status": answered()}));
        deleting(&mut claim.metadata);
        assert_eq!(run(false, &metal3_pools(), &known(vec![claim])), (Vec::new(), delivered()));
    }

    #[test]
    fn td_70_a_claim_that_failed_says_why() {
        let claim = ip_claim(&named(DATA), json!({"status": {"errorMessage": "Error happened"}}));
        let message = "IP Allocation for baremetal-testpoolname failed : Error happened".to_owned();
        assert_eq!(run(false, &metal3_pools(), &known(vec![claim])), (Vec::new(), Outcome::Failed(message)));
    }

    fn capi(rest: Value) -> Known {
        let mut claim: IPAddressClaim = object(&named(DATA), rest);
        if claim.metadata.owner_references.is_none() {
            claim.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
        }
        let address: CapiAddress =
            object("a", json!({"spec": {"address": "10.0.0.9", "prefix": 24, "gateway": "10.0.0.1"}}));
        Known {
            capi_claims: by_name(vec![claim], |claim| &claim.metadata),
            capi_addresses: by_name(vec![address], |address| &address.metadata),
            ..Known::default()
        }
    }

    #[test]
    fn td_72_td_143_claims_of_cluster_api_that_bring_nothing_yet() {
        for rest in [
            json!({}),
            json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}, "status": {"addressRef": {"name": "a"}}}),
            json!({"status": {"addressRef": {"name": "missing"}}}),
            json!({"metadata": others(), "status": {"addressRef": {"name": "a"}}}),
        ] {
            assert_eq!(run(false, &capi_pools(), &capi(rest)), (Vec::new(), Outcome::NotYet));
        }
        let (_, outcome) = run(false, &capi_pools(), &capi(json!({"status": {"addressRef": {"name": "a"}}})));
        let Outcome::Delivered(addresses) = outcome else { panic!("{outcome:?}") };
        assert_eq!((&*addresses[POOL].address, addresses[POOL].prefix), ("10.0.0.9", Some(24)));
    }

    #[test]
    fn td_142_an_exhausted_pool_of_cluster_api_is_told() {
        for (reason, expected) in [
            ("PoolExhausted", Outcome::Failed(format!("IP Allocation for {POOL} failed : m"))),
            ("AllocationFailed", Outcome::Failed(format!("IP Allocation for {POOL} failed : m"))),
            ("PoolNotReady", Outcome::NotYet),
        ] {
            let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": "m", "lastTransitionTime": "1970-01-01T00:00:00Z"});
            assert_eq!(run(false, &capi_pools(), &capi(json!({"status": {"conditions": [ready]}}))).1, expected);
        }
    }

    #[test]
    fn td_140_a_leftover_named_after_the_host_is_not_ours() {
        let leftover = ip_claim(&named("host-0"), json!({"metadata": others(), "status": answered()}));
        let (actions, outcome) = run(false, &metal3_pools(), &known(vec![leftover.clone()]));
        let [Action::Claim(made)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!((made.metadata.name.clone(), outcome), (Some(named(DATA)), Outcome::NotYet));
        assert_eq!(run(true, &metal3_pools(), &known(vec![leftover])), (Vec::new(), Outcome::NotYet));
    }

    #[test]
    fn td_139_a_claim_that_was_just_made_is_no_error() {
        assert_eq!(run(true, &metal3_pools(), &Known::default()).1, Outcome::NotYet);
    }

    fn released(pools: &Pools, known: &Known) -> Vec<(String, bool, bool)> {
        let parts = release(&data(), pools, known).into_iter().map(|release| match release {
            Release::Metal3 { claim, let_go, delete } => (claim.metadata.name.clone(), let_go, delete),
            Release::Capi { claim, let_go, delete } => (claim.metadata.name.clone(), let_go, delete),
        });
        parts.map(|(name, let_go, delete)| (name.unwrap(), let_go, delete)).collect()
    }

    fn held() -> Value {
        json!({"metadata": {"finalizers": ["metal3data.infrastructure.cluster.x-k8s.io", "other"]}})
    }

    #[test]
    fn td_74_td_137_what_the_data_owns_is_given_back() {
        assert_eq!(released(&metal3_pools(), &Known::default()), []);
        let claims = vec![ip_claim("any-name", held()), ip_claim(&named(DATA), json!({}))];
        let expected = [("any-name".to_owned(), true, true), (named(DATA), false, true)];
        assert_eq!(released(&Pools::new(), &known(claims)), expected);
    }

    #[test]
    fn td_74_by_name_without_an_owner() {
        let mut claim = ip_claim(&named(DATA), held());
        claim.metadata.owner_references = None;
        assert_eq!(released(&metal3_pools(), &known(vec![claim.clone()])), [(named(DATA), true, true)]);
        deleting(&mut claim.metadata);
        claim.metadata.finalizers = None;
        assert_eq!(released(&metal3_pools(), &known(vec![claim])), []);
    }

    #[test]
    fn td_77_labels_name_the_pool_too() {
        let labelled = |pool: &str| {
            let mut claim = ip_claim(&claim_name("host-0", pool), held());
            claim.metadata.owner_references = None;
            claim.metadata.labels = Some(BTreeMap::from([
                (label::DATA_NAME.to_owned(), DATA.to_owned()),
                (label::POOL_NAME.to_owned(), pool.to_owned()),
            ]));
            claim
        };
        let pools = Pools::from([("first-pool".to_owned(), PoolKind::metal3())]);
        let known = known(vec![labelled("first-pool"), labelled("second-pool")]);
        assert_eq!(released(&pools, &known), [("host-0-first-pool".to_owned(), true, true)]);
    }

    #[test]
    fn td_79_claims_of_cluster_api_go_too() {
        assert_eq!(released(&Pools::new(), &capi(held())), [(named(DATA), true, true)]);
    }

    #[test]
    fn td_72_only_a_claim_on_its_way_out_loses_the_finalizer_of_an_earlier_data() {
        let other = |deleting: bool, held: bool| {
            let mut metadata = others();
            let metadata_of = metadata.as_object_mut().unwrap();
            if deleting {
                metadata_of.insert("deletionTimestamp".to_owned(), json!("1970-01-01T00:00:00Z"));
            }
            metadata_of.insert("finalizers".to_owned(), if held { json!([finalizer::DATA]) } else { json!([]) });
            run(false, &capi_pools(), &capi(json!({"metadata": metadata}))).0.len()
        };
        assert_eq!((other(true, true), other(true, false), other(false, true)), (1, 0, 0));
    }

    #[test]
    fn td_142_only_ready_tells_of_a_failure() {
        let told = |kind: &str, status: &str| {
            let condition = json!({
                "type": kind, "status": status, "reason": "PoolExhausted", "message": "m",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            });
            run(false, &capi_pools(), &capi(json!({"status": {"conditions": [condition]}}))).1
        };
        assert!(matches!(told("Ready", "False"), Outcome::Failed(_)));
        for (kind, status) in [("Ready", "Unknown"), ("Other", "False")] {
            assert_eq!(told(kind, status), Outcome::NotYet, "{kind} {status}");
        }
    }
}
