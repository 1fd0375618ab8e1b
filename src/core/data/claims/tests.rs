use capm3_api::ipam::v1alpha1::IPPool;
use serde_json::{Value, json};

use super::super::fixture::*;
use super::super::pools::PoolKind;
use super::*;
use crate::ipam::allocate::describe;
use crate::ipam::objects::new_address;
use crate::ipam::pool::{NewAddress, Pool};

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
fn d_60_d_62_claims_have_the_data_s_labels() {
    let mut data: Metal3Data = object(DATA, json!({}));
    data.metadata.labels = Some(BTreeMap::from([("rack".to_owned(), "12".to_owned())]));
    for block in [false, true] {
        assert_eq!(claim_metadata(&data, named(DATA), block).labels, data.metadata.labels);
    }
}

#[test]
fn td_62_a_claim_named_after_the_data_is_used() {
    let known = known(vec![ip_claim(&named(DATA), json!({"status": answered()}))]);
    for by_host in [false, true] {
        assert_eq!(run(by_host, &metal3_pools(), &known), (Vec::new(), delivered()));
    }
}

#[test]
fn td_64_a_claim_named_after_the_host_is_used() {
    let known = known(vec![ip_claim(&named("host-0"), json!({"status": answered()}))]);
    assert_eq!(run(true, &metal3_pools(), &known), (Vec::new(), delivered()));
}

#[test]
fn td_63_a_claim_named_after_the_host_carries_labels() {
    let (actions, outcome) = run(true, &metal3_pools(), &Known::default());
    let [Action::Claim(made)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((made.metadata.name.clone(), outcome), (Some(named("host-0")), Outcome::NotYet));
    let expected = [(label::CLUSTER_NAME, CLUSTER), (label::DATA_NAME, DATA), (label::POOL_NAME, POOL)];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(made.metadata.labels, Some(BTreeMap::from(expected)));
}

/// Hazard HD-27: each claim has its own pool's labels, and only what fits a label.
#[test]
fn hd_27_the_labels_of_each_claim_are_its_own() {
    let pools = Pools::from([("a".to_owned(), PoolKind::metal3()), ("b".repeat(64), PoolKind::metal3())]);
    let (actions, _) = run(true, &pools, &Known::default());
    let of_pool = actions.iter().map(|action| match action {
        Action::Claim(claim) => claim.metadata.labels.as_ref().unwrap().get(label::POOL_NAME).cloned(),
        other => panic!("{other:?}"),
    });
    assert_eq!(of_pool.collect::<Vec<_>>(), [Some("a".to_owned()), None]);
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

#[track_caller]
fn check_not_yet(claim: IPClaim) {
    assert_eq!(run(false, &metal3_pools(), &known(vec![claim])), (Vec::new(), Outcome::NotYet));
}

#[test]
fn td_66_a_claim_that_has_no_address() {
    check_not_yet(ip_claim(&named(DATA), json!({})));
}

#[test]
fn td_69_a_claim_of_another_data() {
    check_not_yet(ip_claim(&named(DATA), json!({"metadata": others(), "status": answered()})));
}

#[test]
fn td_71_a_claim_whose_address_is_not_there() {
    check_not_yet(ip_claim(&named(DATA), json!({"status": {"address": {"name": "missing"}}})));
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
fn td_72_claims_of_cluster_api_that_bring_nothing_yet() {
    for rest in [
        json!({}),
        json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}, "status": {"addressRef": {"name": "a"}}}),
        json!({"status": {"addressRef": {"name": "missing"}}}),
    ] {
        assert_eq!(run(false, &capi_pools(), &capi(rest)), (Vec::new(), Outcome::NotYet));
    }
    let (_, outcome) = run(false, &capi_pools(), &capi(json!({"status": {"addressRef": {"name": "a"}}})));
    let Outcome::Delivered(addresses) = outcome else { panic!("{outcome:?}") };
    assert_eq!((&*addresses[POOL].address, addresses[POOL].prefix), ("10.0.0.9", Some(24)));
}

#[test]
fn td_143_a_claim_of_cluster_api_of_another_data() {
    let of_another = json!({"metadata": others(), "status": {"addressRef": {"name": "a"}}});
    assert_eq!(run(false, &capi_pools(), &capi(of_another)), (Vec::new(), Outcome::NotYet));
}

/// Pools of others tell no name servers, and nobody is asked: all that was looked at is the claim and its address.
#[test]
fn td_92_a_pool_of_another_group_has_no_name_servers() {
    let kind = PoolKind { group: "other.io".to_owned(), kind: "OtherPool".to_owned() };
    let pools = Pools::from([(POOL.to_owned(), kind)]);
    let (actions, outcome) = run(false, &pools, &capi(json!({"status": {"addressRef": {"name": "a"}}})));
    let Outcome::Delivered(addresses) = outcome else { panic!("{outcome:?}") };
    assert_eq!((actions, addresses[POOL].dns.clone()), (Vec::new(), Vec::<String>::new()));
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
fn td_74_a_claim_of_the_name_is_given_back() {
    assert_eq!(released(&metal3_pools(), &Known::default()), []);
    assert_eq!(released(&metal3_pools(), &known(vec![ip_claim(&named(DATA), held())])), [(named(DATA), true, true)]);
}

#[test]
fn td_137_what_the_data_owns_is_given_back_whatever_its_name() {
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
    let kind = || PoolKind { group: "ipam.cluster.x-k8s.io".to_owned(), kind: "InClusterIPPool".to_owned() };
    let pools = ["v4", "v6"].map(|pool| (pool.to_owned(), kind()));
    let claim = |pool: &str| object::<IPAddressClaim>(&claim_name(DATA, pool), held());
    let known = Known { capi_claims: by_name(vec![claim("v4"), claim("v6")], |c| &c.metadata), ..Known::default() };
    let expected = ["v4", "v6"].map(|pool| (claim_name(DATA, pool), true, true));
    assert_eq!(released(&Pools::from(pools), &known), expected, "by name, without an owner");
    assert_eq!(released(&Pools::new(), &capi(held())), [(named(DATA), true, true)], "by owner, without a name");
}

/// The name servers that come with `address` of a pool with these ranges; `None` when the pool does not have the address.
fn name_servers(of_pool: &Value, ranges: &Value, address: &str) -> Option<Vec<String>> {
    let spec = json!({"namePrefix": "abc", "prefix": 24, "dnsServers": of_pool, "pools": ranges});
    let pool = Pool::from(&object::<IPPool>(POOL, json!({"spec": spec})));
    let grant = describe(&pool.offer, address.parse().unwrap())?;
    let mut claim = ip_claim(&named(DATA), json!({"status": answered()}));
    claim.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
    let given = new_address(&pool.metadata, &claim, &NewAddress { name: "abc-192.168.0.10".to_owned(), grant });
    let mut known = known(vec![claim]);
    known.addresses = by_name(vec![given], |address| &address.metadata);
    let Outcome::Delivered(mut addresses) = run(false, &metal3_pools(), &known).1 else { panic!("{known:?}") };
    Some(addresses.remove(POOL)?.dns)
}

/// The pools of D-67 answer the claims of their own kind (D-58), so its rows are asserted where they hold: of the range that an
/// address is given out from, on its way through the address object. Where the row has an Error there is no such address.
#[test]
fn d_67_name_servers_are_those_of_the_range() {
    let range = |first: &str, last: &str| json!([{"start": first, "end": last}]);
    let (own, whole) = (json!(["1.1.1.1", "1.0.0.1"]), json!({"subnet": "192.168.0.0/24"}));
    let bounded = |more: Value| {
        let mut range = json!({"start": "192.168.0.10", "end": "192.168.0.100", "subnet": "192.168.0.0/24"});
        range.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([range])
    };
    let two = json!([
        {"subnet": "10.0.0.0/24", "dnsServers": ["1.1.1.1"]}, {"subnet": "192.168.1.0/24", "dnsServers": ["9.9.9.9"]},
    ]);
    let ipv6 = json!([{"subnet": "fd00::/64", "dnsServers": ["fd00::53"]}]);
    let ours = &["8.8.8.8"][..];
    let cases = [
        ("TD-80", json!([whole]), "192.168.0.50", Some(ours)),
        ("TD-81", bounded(json!({"dnsServers": own})), "192.168.0.50", Some(&["1.1.1.1", "1.0.0.1"][..])),
        ("TD-82", range("10.0.0.10", "10.0.0.100"), "192.168.0.50", None),
        ("TD-83", two, "192.168.1.50", Some(&["9.9.9.9"])),
        ("TD-84", ipv6, "fd00::10", Some(&["fd00::53"])),
        ("TD-85", bounded(json!({})), "192.168.0.200", None),
        ("TD-86", range("192.168.0.10", "192.168.0.100"), "192.168.0.10", Some(ours)),
        ("TD-86", range("192.168.0.10", "192.168.0.100"), "192.168.0.100", Some(ours)),
        ("TD-87", json!([{"start": "x", "dnsServers": own}, whole]), "192.168.0.50", Some(ours)),
        ("TD-87", json!([{"start": "192.168.0.10", "end": "x", "dnsServers": own}, whole]), "192.168.0.50", Some(ours)),
        ("TD-87", json!([{"subnet": "x", "dnsServers": own}, whole]), "192.168.0.50", Some(ours)),
        ("TD-88", json!([{"start": "192.168.0.10"}]), "192.168.0.50", Some(ours)),
        ("TD-88", json!([{"end": "192.168.0.100"}]), "192.168.0.50", None), // refused, and of no use: HI-15
    ];
    for (row, ranges, address, expected) in cases {
        let expected = expected.map(|servers| servers.iter().map(|&server| server.to_owned()).collect());
        assert_eq!(name_servers(&json!(ours), &ranges, address), expected, "{row}");
    }
    let none = name_servers(&json!([]), &json!([whole]), "192.168.0.50");
    assert_eq!(none, Some(Vec::new()), "{}", "TD-90: no name server anywhere");
}

/// A Metal3Data without which a claim must not stay, and which is away.
#[test]
fn what_a_data_left_behind_is_let_go_once_it_is_being_deleted() {
    let claim = |uid: &str, deleting: bool, held: bool| {
        let mut owner = infra_owner("Metal3Data", DATA);
        owner["uid"] = uid.into();
        let finalizers = if held { json!([finalizer::DATA, "other"]) } else { json!(["other"]) };
        let mut metadata = json!({"ownerReferences": [owner], "finalizers": finalizers});
        if deleting {
            metadata["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        }
        json!({ "metadata": metadata })
    };
    let left = |data: Option<&Metal3Data>, claim: &Value| {
        let known = Known {
            claims: by_name(vec![object::<IPClaim>("a", claim.clone())], |claim| &claim.metadata),
            capi_claims: by_name(vec![object::<IPAddressClaim>("a", claim.clone())], |claim| &claim.metadata),
            ..Known::default()
        };
        left_behind(data, &known).len()
    };
    let (data, uid) = (data(), format!("uid-{DATA}"));
    assert_eq!(left(None, &claim("earlier", true, true)), 2);
    assert_eq!(left(Some(&data), &claim("earlier", true, true)), 2, "another of its name took its place");
    assert_eq!(left(Some(&data), &claim(&uid, true, true)), 0, "in use");
    assert_eq!(left(None, &claim("earlier", false, true)), 0, "nobody wants it gone yet");
    assert_eq!(left(None, &claim("earlier", true, false)), 0, "let go already");
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
