//! What API objects are read as, and what is written.

use std::collections::BTreeMap;

use super::*;
use crate::ipam::pool::{Observed, Plan, decide};
use capm3_api::foreign::IPAddressClaimSpec;
use capm3_api::ipam::v1alpha1::{IPAddressCounts, IPClaimSpec, IPPoolSpec, Range as PoolRange};
use serde_json::json;

fn claim(namespace: &str, pool_namespace: &str) -> IPClaim {
    let pool = ObjectReference {
        name: Some("abc".into()),
        namespace: Some(pool_namespace.into()),
        ..ObjectReference::default()
    };
    IPClaim { spec: IPClaimSpec { pool }, ..IPClaim::named(namespace, "c") }
}

fn capi(group: &str, kind: &str) -> IPAddressClaim {
    let pool_ref = ContractRef { api_group: Some(group.into()), kind: kind.into(), name: "abc".into() };
    let spec = IPAddressClaimSpec { pool_ref: Some(pool_ref), ..IPAddressClaimSpec::default() };
    let mut claim = IPAddressClaim { spec, ..IPAddressClaim::named("x", "c") };
    claim.metadata.uid = Some("claim-uid".into());
    claim
}

fn new() -> NewAddress {
    let offer = Offer {
        ranges: vec![Range {
            interval: Interval::of(Bounds { start: Some("10.0.0.7"), end: None, subnet: None }).unwrap(),
            prefix: 24,
            gateway: Some("10.0.0.1".into()),
            dns_servers: vec!["10.0.0.2".into()],
        }],
        ..Offer::default()
    };
    let grant = crate::ipam::allocate::describe(&offer, "10.0.0.7".parse().unwrap()).unwrap();
    NewAddress { name: "p-10-0-0-7".into(), grant }
}

fn pool_meta() -> ObjectMeta {
    ObjectMeta { uid: Some("pool-uid".into()), ..IPPool::named("x", "abc").metadata }
}

#[test]
fn ti_50_ti_100_ti_131_claims_ask_pools_of_their_own_namespace() {
    assert_eq!(pool_of_claim(&claim("x", "")), Some("abc"));
    assert_eq!(pool_of_claim(&claim("x", "x")), Some("abc"));
    assert_eq!(pool_of_claim(&claim("x", "y")), None);
    assert_eq!(pool_of_claim(&IPClaim::named("x", "c")), None);
}

#[test]
fn ti_41_ti_101_ti_130_pools_of_other_providers_are_not_ours() {
    assert_eq!(pool_of_capi_claim(&capi("ipam.metal3.io", "IPPool")), Some("abc"));
    assert_eq!(pool_of_capi_claim(&capi("ipam.cluster.x-k8s.io", "IPPool")), None);
    assert_eq!(pool_of_capi_claim(&capi("ipam.metal3.io", "InClusterIPPool")), None);
}

#[test]
fn k_69_i_28_an_address_of_our_own_kind_has_its_claim_s_labels() {
    let mut claim = claim("x", "");
    claim.metadata.uid = Some("claim-uid".into());
    claim.metadata.labels = Some([("l".to_owned(), "v".to_owned())].into());
    assert_eq!(
        serde_json::to_value(new_address(&pool_meta(), &claim, &new())).unwrap(),
        json!({
            "apiVersion": "ipam.metal3.io/v1alpha1",
            "kind": "IPAddress",
            "metadata": {
                "name": "p-10-0-0-7",
                "namespace": "x",
                "labels": {"l": "v"},
                "finalizers": ["ipaddress.ipam.metal3.io"],
                "ownerReferences": [
                    {"apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPPool", "name": "abc", "uid": "pool-uid"},
                    {"apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPClaim", "name": "c", "uid": "claim-uid"},
                ],
            },
            "spec": {
                "address": "10.0.0.7",
                "claim": {"name": "c", "namespace": "x"},
                "dnsServers": ["10.0.0.2"],
                "gateway": "10.0.0.1",
                "pool": {"name": "abc", "namespace": "x"},
                "prefix": 24,
            },
        })
    );
}

#[test]
fn ti_148_an_address_of_cluster_apis_kind() {
    let mut without_prefix = new();
    without_prefix.grant.prefix = 0;
    let claim = capi("ipam.metal3.io", "IPPool");
    assert_eq!(
        serde_json::to_value(new_capi_address(&pool_meta(), &claim, &without_prefix)).unwrap(),
        json!({
            "apiVersion": "ipam.cluster.x-k8s.io/v1beta2",
            "kind": "IPAddress",
            "metadata": {
                "name": "p-10-0-0-7",
                "namespace": "x",
                "finalizers": ["ipam.metal3.io/ipaddress"],
                "ownerReferences": [
                    {"apiVersion": "ipam.metal3.io/v1alpha1", "kind": "IPPool", "name": "abc", "uid": "pool-uid",
                     "controller": false, "blockOwnerDeletion": true},
                    {"apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddressClaim", "name": "c",
                     "uid": "claim-uid", "controller": true, "blockOwnerDeletion": true},
                ],
            },
            "spec": {
                "address": "10.0.0.7",
                "claimRef": {"name": "c"},
                "gateway": "10.0.0.1",
                "poolRef": {"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": "abc"},
                "prefix": 0,
            },
        })
    );
}

#[test]
fn ti_56_hi_22_answers_are_read_back_as_written() {
    let now = Time(jiff::Timestamp::from_second(7).unwrap());
    for answer in [
        Answer::Address("p-10-0-0-7".into()),
        Answer::from(&Failure::Exhausted),
        Answer::from(&Failure::PoolDeleting),
        Answer::from(&Failure::NotAvailable),
    ] {
        let mut m3 = claim("x", "");
        m3.status = Some(claim_status(&m3, &answer, now.0));
        let address = m3.status.as_ref().unwrap().address.as_ref();
        assert!(address.is_none_or(|address| address.namespace.as_deref() == Some("x")));
        assert_eq!(Claim::from(&m3).answer.as_ref(), Some(&answer));
        let mut c = capi("ipam.metal3.io", "IPPool");
        c.status = Some(capi_claim_status(&c, &answer, &now));
        assert_eq!(capi_claim(&c, None).answer.as_ref(), Some(&answer));
        let conditions = &c.status.as_ref().unwrap().conditions;
        assert!(conditions.len() == 1 && !conditions[0].reason.is_empty());
        // Written again later it is the same.
        let later = Time(jiff::Timestamp::from_second(9).unwrap());
        assert_eq!(c.status, Some(capi_claim_status(&c, &answer, &later)));
    }
}

#[test]
fn hi_28_a_settled_pool_of_another_provider_is_not_written() {
    let now = jiff::Timestamp::from_second(7).unwrap();
    let mut pool = IPPool::named("x", "abc");
    pool.metadata.generation = Some(1);
    pool.status = Some(IPPoolStatus { last_updated: Some(Time(now)), ..IPPoolStatus::default() });
    assert_eq!(pool_status(&pool, None, Some(&Summary::ready()), now), None);
    assert_eq!(pool_status(&pool, None, None, now), None);
    let counts = Some(IPAddressCounts { free: 9, reserved: 0, total: 10, used: 1 });
    let indexes = [("c".to_owned(), "10.0.0.7".to_owned())].into();
    let reserves = Status { indexes, last_updated: Some(Time(now)), counts };
    pool.status = pool_status(&pool, Some(reserves), Some(&Summary::ready()), now);
    let written = pool.status.as_ref().unwrap();
    assert_eq!(written.observed_generation, Some(1));
    assert_eq!(
        (&written.ip_addresses, &written.last_updated),
        (&Some(IPAddressCounts { free: 9, reserved: 0, total: 10, used: 1 }), &Some(Time(now)))
    );
    assert_eq!(pool_status(&pool, None, Some(&Summary::ready()), now), None, "the same again is no write");
    pool.metadata.generation = Some(2);
    let told = pool_status(&pool, None, Some(&Summary::ready()), now).unwrap();
    assert_eq!((told.observed_generation, told.indexes.len()), (Some(2), 1));
}

#[test]
fn k_74_a_claim_tells_of_its_generation() {
    let now = jiff::Timestamp::from_second(7).unwrap();
    let mut claim = claim("x", "");
    claim.metadata.generation = Some(1);
    claim.status = Some(claim_status(&claim, &Answer::Address("p".into()), now));
    assert_eq!(Claim::from(&claim).answer, Some(Answer::Address("p".into())));
    claim.status.as_mut().unwrap().observed_generation = Some(-1); // as a manager that knows of none leaves it
    assert_eq!(Claim::from(&claim).answer, Some(Answer::Incomplete));
    claim.status = Some(claim_status(&claim, &Answer::from(&Failure::Exhausted), now));
    let ready = &claim.status.as_ref().unwrap().conditions[0];
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "PoolExhausted"));
}

#[test]
fn hi_23_an_address_without_its_condition_is_incomplete() {
    let mut c = capi("ipam.metal3.io", "IPPool");
    let address_ref = Some(NameRef { name: "a".into() });
    c.status = Some(IPAddressClaimStatus { address_ref, ..IPAddressClaimStatus::default() });
    assert_eq!(capi_claim(&c, None).answer, Some(Answer::Incomplete));
    let mut failed = capi_claim_status(&c, &Answer::from(&Failure::Exhausted), &Time(jiff::Timestamp::UNIX_EPOCH));
    failed.address_ref = c.status.unwrap().address_ref;
    c.status = Some(failed);
    assert_eq!(capi_claim(&c, None).answer, Some(Answer::Incomplete));
}

/// The worked example of the specification, up to the last claim.
#[test]
fn the_worked_example() {
    let text = |text: &str| Some(text.to_owned());
    let spec = IPPoolSpec {
        name_prefix: "prod-prov".into(),
        prefix: Some(24),
        gateway: text("172.22.0.1"),
        dns_servers: vec!["172.22.0.2".into()],
        pools: vec![
            PoolRange { start: text("172.22.0.100"), end: text("172.22.0.101"), ..PoolRange::default() },
            PoolRange {
                subnet: text("172.22.8.0/29"),
                prefix: Some(29),
                gateway: text("172.22.8.6"),
                dns_servers: vec!["172.22.8.6".into()],
                ..PoolRange::default()
            },
        ],
        pre_allocations: [("node-3-prov".to_owned(), "172.22.0.101".to_owned())].into(),
        ..IPPoolSpec::default()
    };
    let pool = Pool::from(&IPPool { spec, ..IPPool::named("metal3", "prov") });
    let asks = ["a-prov", "node-3-prov", "b-prov", "c", "d-prov"].into_iter().zip(0..).map(|(name, second)| {
        let kind = if name == "c" { Kind::ClusterApi } else { Kind::Metal3 };
        Claim {
            created: jiff::Timestamp::from_second(second).ok(),
            requested: (name == "c").then(|| "172.22.8.5".to_owned()),
            ..common(kind, &IPClaim::named("metal3", name).metadata)
        }
    });
    let plan = decide(&Observed { pool, claims: asks.collect(), ..Observed::default() });
    let made: Vec<_> = plan
        .served
        .iter()
        .filter_map(|serve| serve.create.as_ref())
        .map(|new| (new.name.as_str(), new.grant.prefix, new.grant.gateway.as_deref().unwrap()))
        .collect();
    assert_eq!(
        made,
        [
            ("prod-prov-172-22-0-100", 24, "172.22.0.1"),
            ("prod-prov-172-22-0-101", 24, "172.22.0.1"),
            ("prod-prov-172-22-8-1", 29, "172.22.8.6"),
            ("prod-prov-172-22-8-5", 29, "172.22.8.6"),
            ("prod-prov-172-22-8-2", 29, "172.22.8.6"),
        ]
    );
}

/// Addresses of this provider's kind: name, address, the pool it names if it names one, the claim.
fn m3_address(name: &str, address: &str, pool: Option<Option<&str>>, claim: &str) -> IPAddress {
    let mut object = IPAddress::named("myns", name);
    object.spec.address = address.into();
    object.spec.claim.name = Some(claim.into());
    object.spec.pool.name = pool.flatten().map(str::to_owned);
    object
}

/// The same of Cluster API's kind; a pool of ours, or none.
fn capi_address(name: &str, address: &str, pool: Option<(&str, &str)>, claim: &str) -> foreign::IPAddress {
    let mut object = foreign::IPAddress::named("myns", name);
    object.spec.address = address.into();
    object.spec.claim_ref = Some(NameRef { name: claim.into() });
    object.spec.pool_ref = pool.map(|(kind, name)| ContractRef {
        api_group: Some("ipam.metal3.io".into()),
        kind: kind.into(),
        name: name.into(),
    });
    object
}

fn m3_claim(name: &str, pool: &str) -> IPClaim {
    let pool = ObjectReference { name: Some(pool.into()), ..ObjectReference::default() };
    IPClaim { spec: IPClaimSpec { pool }, ..IPClaim::named("myns", name) }
}

fn capi_claim_of(name: &str, pool: &str) -> IPAddressClaim {
    let mut claim = IPAddressClaim::named("myns", name);
    claim.spec.pool_ref =
        Some(ContractRef { api_group: Some("ipam.metal3.io".into()), kind: "IPPool".into(), name: pool.into() });
    claim
}

/// Being deleted, with our finalizer.
fn leaving(mut meta: ObjectMeta, finalizer: &str) -> ObjectMeta {
    meta.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    meta.finalizers = Some(vec![finalizer.into()]);
    meta
}

/// The namespace as API objects, and what a pass over pool abc sees of it.
#[derive(Default)]
struct Namespace {
    deleting: bool,
    kept: Vec<(&'static str, &'static str)>,
    m3_claims: Vec<IPClaim>,
    capi_claims: Vec<IPAddressClaim>,
    m3: Vec<IPAddress>,
    capi: Vec<foreign::IPAddress>,
}

impl Namespace {
    fn pass(&self) -> (Observed, Plan) {
        let kept = self.kept.iter().map(|(claim, address)| ((*claim).to_owned(), (*address).to_owned()));
        let range = PoolRange { subnet: Some("192.168.0.0/16".into()), ..PoolRange::default() };
        let spec = IPPoolSpec {
            name_prefix: "abcpref".into(),
            pools: vec![range],
            pre_allocations: kept.collect(),
            ..IPPoolSpec::default()
        };
        let mut pool = IPPool { spec, ..IPPool::named("myns", "abc") };
        pool.metadata.finalizers = Some(vec!["ippool.ipam.metal3.io".into()]);
        if self.deleting {
            pool.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        }
        let m3_claims = self.m3_claims.iter().filter(|claim| pool_of_claim(claim) == Some("abc"));
        let capi_claims = self.capi_claims.iter().filter(|claim| pool_of_capi_claim(claim) == Some("abc"));
        let m3 = self.m3.iter().filter(|address| pool_of_address(address) == Some("abc"));
        let capi = self.capi.iter().filter(|address| pool_of_capi_address(address) == Some("abc"));
        let seen = Observed {
            pool: Pool::from(&pool),
            claims: m3_claims.map(Claim::from).chain(capi_claims.map(|claim| capi_claim(claim, None))).collect(),
            addresses: m3.map(AddressObject::from).chain(capi.map(AddressObject::from)).collect(),
            now: jiff::Timestamp::from_second(2_000).unwrap(),
            ..Observed::default()
        };
        let plan = decide(&seen);
        (seen, plan)
    }
}

fn indexes(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(claim, address)| ((*claim).to_owned(), (*address).to_owned())).collect()
}

/// Where a row writes words for addresses, these are addresses: what is no address is held by nobody (HI-10).
const REAL: [&str; 5] = ["192.168.0.1", "192.168.0.2", "192.168.0.3", "192.168.0.4", "192.168.0.5"];

/// The counts tell the size of the table, and a claim without wishes what is taken of it.
#[test]
fn ti_37_the_table_of_a_pool_s_own_kind() {
    let [abcd1, abcd2, abcd3, abcd4, bcde] = REAL;
    let namespace = Namespace {
        kept: vec![("bcd", bcde)],
        m3_claims: vec![m3_claim("abc", "abc"), m3_claim("new", "abc")],
        m3: vec![
            m3_address("abcd1", abcd1, Some(Some("abc")), "abc"),
            m3_address("abcd2", abcd2, Some(Some("bbc")), "abc"),
            m3_address("abcd3", abcd3, None, "abc"),
            m3_address("abcd4", abcd4, Some(None), "abc"),
        ],
        ..Namespace::default()
    };
    let (seen, plan) = namespace.pass();
    let status = plan.status.unwrap();
    assert_eq!(status.indexes, indexes(&[("abc", abcd1), ("new", abcd2)]));
    assert_eq!(status.last_updated, Some(Time(seen.now)));
    let counts = status.counts.unwrap();
    assert_eq!((counts.used, counts.reserved), (2, 1), "the two claims, and what is kept for nobody yet");
    assert_eq!(plan.served.iter().filter(|serve| serve.create.is_some()).count(), 1);
}

#[test]
fn ti_38_the_table_of_cluster_apis_kind() {
    let [cabcd1, cabcd2, cabcd3, cabcd4, cbcde] = REAL;
    let namespace = Namespace {
        kept: vec![("cbcd", cbcde)],
        capi_claims: vec![capi_claim_of("abc", "abc")],
        capi: vec![
            capi_address("cabcd1", cabcd1, Some(("IPPool", "abc")), "abc"),
            capi_address("cabcd2", cabcd2, Some(("IPPool", "bbc")), "abc"),
            capi_address("cabcd3", cabcd3, Some(("InClusterIPPool", "abc")), "abc"),
            capi_address("cabcd4", cabcd4, None, "abc"),
        ],
        ..Namespace::default()
    };
    let (seen, plan) = namespace.pass();
    let status = plan.status.unwrap();
    assert_eq!(status.indexes, indexes(&[("abc", cabcd1)]));
    assert_eq!(status.last_updated, Some(Time(seen.now)));
    let counts = status.counts.unwrap();
    assert_eq!((counts.used, counts.reserved), (1, 1));
}

#[test]
fn ti_39_what_others_hold_does_not_keep_a_pool() {
    let [one, two, ..] = REAL;
    let namespace = Namespace {
        deleting: true,
        kept: vec![("bcd", REAL[4])],
        m3: vec![m3_address("abcd2", one, Some(Some("bbc")), "abc")],
        capi: vec![capi_address("cabcd3", two, Some(("InClusterIPPool", "abc")), "abc")],
        ..Namespace::default()
    };
    let (mut seen, plan) = namespace.pass();
    let status = plan.status.unwrap();
    assert_eq!((status.indexes, status.counts.unwrap().used), (indexes(&[]), 0));
    seen.confirmed.empty = true;
    assert!(decide(&seen).finalize, "what is kept counts as little");
}

/// The claims of a row: two that live, one of another pool, one that leaves.
fn m3_claims() -> Vec<IPClaim> {
    let leaves = m3_claim("abcf", "abc");
    let leaves = IPClaim { metadata: leaving(leaves.metadata, "ipclaim.ipam.metal3.io"), ..leaves };
    vec![m3_claim("abc", "abc"), m3_claim("abce", "abc"), m3_claim("abcd", "abcd"), leaves]
}

fn m3_addresses() -> Vec<IPAddress> {
    let of = |name, address, claim| m3_address(name, address, Some(Some("abc")), claim);
    vec![of("a", "192.168.1.11", "abc"), of("b", "192.168.1.12", "abce"), of("c", "192.168.1.13", "abcf")]
}

/// Asserts whom a plan releases, with the one address that goes along, and what the pool holds after it.
#[track_caller]
fn releases(plan: &Plan, gone: &[(&str, &str)], left: &[(&str, &str)]) {
    let released: BTreeMap<_, _> =
        plan.releases.iter().map(|release| (release.claim.name.as_str(), &release.addresses[..])).collect();
    for (claim, address) in gone {
        let [object] = released[claim] else { panic!("{:?}", released[claim]) };
        assert_eq!((object.claim.as_str(), object.address.as_str()), (*claim, *address));
    }
    assert_eq!((plan.releases.len(), plan.orphans.len()), (gone.len(), 0));
    let status = plan.status.as_ref().unwrap();
    assert_eq!(status.indexes, indexes(left));
    assert_eq!(status.counts.as_ref().unwrap().used, i64::try_from(left.len()).unwrap());
}

#[test]
fn ti_43_a_claim_of_our_own_kind_goes_and_its_address_with_it() {
    let (_, plan) = Namespace { m3_claims: m3_claims(), m3: m3_addresses(), ..Namespace::default() }.pass();
    releases(&plan, &[("abcf", "192.168.1.13")], &[("abc", "192.168.1.11"), ("abce", "192.168.1.12")]);
}

#[test]
fn ti_44_a_claim_of_cluster_apis_kind_goes_and_its_address_with_it() {
    let leaves = capi_claim_of("abcf", "abc");
    let leaves = IPAddressClaim { metadata: leaving(leaves.metadata, "ipam.metal3.io/ipaddressclaim"), ..leaves };
    let of = |name, address, claim| capi_address(name, address, Some(("IPPool", "abc")), claim);
    let namespace = Namespace {
        capi_claims: vec![
            capi_claim_of("abc", "abc"),
            capi_claim_of("abce", "abc"),
            capi_claim_of("abcd", "abcd"),
            leaves,
        ],
        capi: vec![of("a", "192.168.1.11", "abc"), of("b", "192.168.1.12", "abce"), of("c", "192.168.1.13", "abcf")],
        ..Namespace::default()
    };
    let (_, plan) = namespace.pass();
    releases(&plan, &[("abcf", "192.168.1.13")], &[("abc", "192.168.1.11"), ("abce", "192.168.1.12")]);
}

#[test]
fn ti_45_claims_of_both_kinds_go() {
    let leaves = capi_claim_of("cabcf", "abc");
    let leaves = IPAddressClaim { metadata: leaving(leaves.metadata, "ipam.metal3.io/ipaddressclaim"), ..leaves };
    let others = [capi_claim_of("cabcd", "abcd"), capi_claim_of("cabcg", "bbc")];
    let of = |name, address, claim| capi_address(name, address, Some(("IPPool", "abc")), claim);
    let namespace = Namespace {
        m3_claims: m3_claims(),
        m3: m3_addresses(),
        capi_claims: [vec![capi_claim_of("cabce", "abc"), leaves], others.to_vec()].concat(),
        capi: vec![of("d", "192.168.1.15", "cabce"), of("e", "192.168.1.16", "cabcf")],
        ..Namespace::default()
    };
    let (_, plan) = namespace.pass();
    let left = [("abc", "192.168.1.11"), ("abce", "192.168.1.12"), ("cabce", "192.168.1.15")];
    releases(&plan, &[("abcf", "192.168.1.13"), ("cabcf", "192.168.1.16")], &left);
}

#[test]
fn addresses_belong_to_pools_as_claims_do() {
    let reference = |namespace: &str| ObjectReference {
        name: Some("abc".into()),
        namespace: Some(namespace.into()),
        ..ObjectReference::default()
    };
    let mut address = IPAddress::named("x", "a");
    address.spec.pool = reference("x");
    assert_eq!(pool_of_address(&address), Some("abc"));
    address.spec.pool = reference("y");
    assert_eq!(pool_of_address(&address), None);
    let mut address = foreign::IPAddress::named("x", "a");
    address.spec.pool_ref = capi("ipam.metal3.io", "IPPool").spec.pool_ref;
    assert_eq!(pool_of_capi_address(&address), Some("abc"));
    address.spec.pool_ref = capi("ipam.example.com", "IPPool").spec.pool_ref;
    assert_eq!(pool_of_capi_address(&address), None);
}

#[test]
fn k_71_the_cluster_of_a_claim_is_named_or_labelled() {
    let mut claim = capi("ipam.metal3.io", "IPPool");
    assert_eq!(cluster_of_claim(&claim), None);
    claim.metadata.labels = Some([(label::CLUSTER_NAME.to_owned(), "labelled".to_owned())].into());
    assert_eq!(cluster_of_claim(&claim), Some("labelled"));
    claim.spec.cluster_name = Some("named".into());
    assert_eq!(cluster_of_claim(&claim), Some("named"));
    claim.spec.cluster_name = Some(String::new());
    assert_eq!(cluster_of_claim(&claim), None);
    let missing = Some(Cluster::Missing);
    assert_eq!(capi_claim(&claim, missing.clone()).cluster, missing);
}

#[test]
fn a_pool_names_a_cluster_or_none() {
    let named = |name: &str| {
        let spec = IPPoolSpec { cluster_name: Some(name.into()), ..IPPoolSpec::default() };
        Pool::from(&IPPool { spec, ..IPPool::named("x", "abc") }).cluster_name
    };
    assert_eq!((named("prod"), named("")), (Some("prod".to_owned()), None));
}

#[test]
fn the_claim_of_an_address_is_the_owner_of_its_kind_and_name() {
    let owner = |kind: &str, name: &str, uid: &str| OwnerReference {
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    };
    let mut address = IPAddress::named("x", "a");
    address.spec.claim.name = Some("c".into());
    let others = vec![owner("IPPool", "c", "pool"), owner("IPClaim", "d", "d"), owner("IPAddressClaim", "c", "capi")];
    address.metadata.owner_references = Some([others.clone(), vec![owner("IPClaim", "c", "m3")]].concat());
    assert_eq!(AddressObject::from(&address).claim_uid.as_deref(), Some("m3"));
    address.metadata.owner_references = Some(others);
    assert_eq!(AddressObject::from(&address).claim_uid, None);
}

#[test]
fn k_74_who_waits_for_a_pool_is_told_its_name() {
    let now = Time(jiff::Timestamp::from_second(7).unwrap());
    let message = "waits for IPPool abc, which does not exist";
    let m3 = awaiting_pool(&claim("x", ""), now.0);
    assert_eq!((m3.conditions[0].reason.as_str(), m3.conditions[0].message.as_str()), ("PoolNotReady", message));
    assert_eq!(m3.error_message, None);
    let capi = capi_awaiting_pool(&capi("ipam.metal3.io", "IPPool"), &now);
    assert_eq!((capi.conditions[0].reason.as_str(), capi.conditions[0].message.as_str()), ("PoolNotReady", message));
}

#[test]
fn i_42_the_date_of_ready_is_its_own() {
    let at = |second| Time(jiff::Timestamp::from_second(second).unwrap());
    let mut claim = capi("ipam.metal3.io", "IPPool");
    claim.status = Some(capi_claim_status(&claim, &Answer::from(&Failure::Exhausted), &at(1)));
    let conditions = &mut claim.status.as_mut().unwrap().conditions;
    conditions.insert(0, Condition { type_: "Other".into(), last_transition_time: at(0), ..conditions[0].clone() });
    let date = |answer: &Answer| capi_claim_status(&claim, answer, &at(9)).conditions[0].last_transition_time.clone();
    assert_eq!(date(&Answer::from(&Failure::NotAvailable)), at(1), "still False");
    assert_eq!(date(&Answer::Address("a".into())), at(9));
}
