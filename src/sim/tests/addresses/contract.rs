//! What Cluster API asks of a provider of addresses (docs/spec/capi-contract.md 2).

use super::*;

#[tokio::test(start_paused = true)]
async fn k_77_a_pool_carries_its_cluster_s_marks() {
    let site = Site::new(1).await;
    let mut body = pool("abc", &[("192.0.2.10", "192.0.2.20")]);
    body["spec"]["clusterName"] = "prod".into();
    site.create(POOL, body).await;
    site.create(IP_CLAIM, claim(IP_CLAIM, "c", "abc")).await;
    let waits = |pool: &Value| is_not_ready(pool, "WaitingForCluster", "waits for Cluster prod, which does not exist");
    site.until(POOL, "abc", "a word", waits).await;
    let spec = json!({"infrastructureRef": {"apiGroup": "i", "kind": "K", "name": "prod"}, "paused": true});
    let cluster = site.create(CLUSTER, json!({"metadata": {"name": "prod"}, "spec": spec})).await;
    let marked = |pool: &Value| {
        let (labels, owners) = (&pool["metadata"]["labels"], &pool["metadata"]["ownerReferences"]);
        let owner = json!([{
            "apiVersion": CLUSTER.api_version, "kind": "Cluster", "name": "prod",
            "uid": cluster["metadata"]["uid"], "controller": false,
        }]);
        *labels == json!({"cluster.x-k8s.io/cluster-name": "prod", "cluster.x-k8s.io/provider": "ipam-metal3"})
            && *owners == owner
    };
    site.until(POOL, "abc", "labels and owner", marked).await; // TI-93: while it is paused
    site.rest().await;
    assert_eq!(site.addresses(), BTreeSet::new());
    site.hand.patch(CLUSTER, "prod", json!({"spec": {"paused": false}})).await.unwrap();
    site.served(BOTH[0], "c").await;
    assert!(marked(&site.hand.get(POOL, "abc")));
    site.rest().await;
}

/// HI-20, and K-75's other half: an address does not go while its claim is there.
#[tokio::test(start_paused = true)]
async fn k_75_an_address_goes_with_its_claim_and_not_before() {
    for both in BOTH {
        let (kind, address_kind, _) = both;
        let site = Site::new(1).await;
        site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
        site.create(kind, claim(kind, "c", "abc")).await;
        let address = text(&site.served(both, "c").await, "/metadata/name");
        site.hand.delete(address_kind, &address).await.unwrap();
        site.rest().await;
        assert!(site.hand.get(address_kind, &address).is_object(), "its finalizer keeps it");
        let finalizers = site.hand.get(kind, "c")["metadata"]["finalizers"].clone();
        let held = [finalizers.as_array().unwrap().clone(), vec!["example.com/user".into()]].concat();
        site.hand.patch(kind, "c", json!({"metadata": {"finalizers": held}})).await.unwrap();
        site.hand.delete(kind, "c").await.unwrap();
        site.rest().await;
        assert!(site.hand.get(address_kind, &address).is_object(), "somebody uses it still");
        assert_eq!(site.hand.get(POOL, "abc")["status"]["indexes"], json!({"c": "192.0.2.10"}));

        let before = site.wrote.lock().len();
        site.hand.patch(kind, "c", json!({"metadata": {"finalizers": finalizers}})).await.unwrap();
        site.gone(kind, "c").await;
        assert!(site.hand.get(address_kind, &address).is_null());
        site.rest().await;
        let wrote = site.wrote.lock()[before..].to_vec();
        let at = |what: &dyn Fn(&Wrote) -> bool| wrote.iter().position(what).unwrap();
        let address_gone = at(&|w| w.resource == address_kind.plural && w.new.is_null());
        let claim_gone = at(&|w| w.resource == kind.plural && w.new.is_null());
        let listed = at(&|w| w.resource == POOL.plural && w.new["status"]["indexes"].is_null());
        assert!(address_gone < claim_gone && address_gone < listed, "{wrote:#?}");
        assert_eq!(site.addresses(), BTreeSet::new());
    }
}

/// The finalizer, then the address, then the status.
#[tokio::test(start_paused = true)]
async fn k_72_a_claim_is_served_in_this_order() {
    for both in BOTH {
        let (kind, address_kind, place) = both;
        let site = Site::new(1).await;
        site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
        let before = site.wrote.lock().len();
        site.create(kind, claim(kind, "c", "abc")).await;
        site.served(both, "c").await;
        site.rest().await;
        let wrote = site.wrote.lock()[before..].to_vec();
        let deeds: Vec<_> = wrote.iter().map(Wrote::deed).collect();
        let status = format!("patch {}/status", kind.plural);
        let expected = [
            "patch ippools/status".to_owned(),
            format!("patch {}", kind.plural),
            format!("create {}", address_kind.plural),
            status,
        ];
        assert_eq!(deeds, expected);
        let finalizer = if kind == IP_CLAIM { "ipclaim.ipam.metal3.io" } else { "ipam.metal3.io/ipaddressclaim" };
        assert_eq!(wrote[1].new["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(wrote[3].new.pointer(place), wrote[2].new.pointer("/metadata/name"));
    }
}

/// Wherever the manager dies, the next one goes on with the same address, and makes no other.
#[tokio::test(start_paused = true)]
async fn k_72_a_manager_that_dies_leaves_nothing_behind() {
    for both in BOTH {
        for deaths in 1..=6 {
            let site = Site::new(deaths).await;
            site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
            let process = site.world.processes()[0].clone();
            let left = Mutex::new(deaths);
            let died = Arc::new(Mutex::new(false));
            let dies = died.clone();
            site.world.server.observe(move |change| {
                if is_manager(change.call) && change.call.process == 1 && change.call.resource != EVENT.plural {
                    let mut left = left.lock();
                    *left = left.saturating_sub(1);
                    if *left == 0 && !std::mem::replace(&mut *dies.lock(), true) {
                        process.kill(); // the write is done, its answer never arrives
                    }
                }
            });
            site.create(both.0, claim(both.0, "c", "abc")).await;
            sleep(Duration::from_secs(5)).await;
            site.world.start(Provider::Ipam);
            let address = site.served(both, "c").await;
            assert_eq!(*died.lock(), deaths <= 4, "four writes serve a claim");
            site.rest().await;
            assert_eq!(site.addresses(), BTreeSet::from([text(&address, "/spec/address")]));
            let made = site.wrote.lock().iter().filter(|wrote| wrote.verb == Verb::Create).count();
            assert_eq!(made, 1, "after {deaths} writes");
            assert_eq!(site.hand.get(POOL, "abc")["status"]["indexes"], json!({"c": "192.0.2.10"}));
        }
    }
}

/// What Cluster API's own admission holds an address to.
#[tokio::test(start_paused = true)]
async fn k_73_addresses_are_what_the_contract_says() {
    let site = Site::new(1).await;
    let long = "2001:db8:1111:2222:3333:4444:5555:6666";
    let mut bare = pool("bare", &[("198.51.100.10", "198.51.100.20")]);
    bare["spec"].as_object_mut().unwrap().retain(|field, _| field == "namePrefix" || field == "pools");
    let mut v6 = pool("v6", &[(long, "2001:db8:1111:2222:3333:4444:5555:7777")]);
    v6["spec"]["prefix"] = 128.into();
    v6["spec"]["gateway"] = "2001:db8:1111::1".into();
    for (pool, expected) in [
        (
            pool("v4", &[("192.0.2.10", "192.0.2.20")]),
            json!({"address": "192.0.2.10", "prefix": 24, "gateway": "192.0.2.1"}),
        ),
        (bare, json!({"address": "198.51.100.10", "prefix": 0})),
        (v6, json!({"address": long, "prefix": 128, "gateway": "2001:db8:1111::1"})),
    ] {
        let name = text(&pool, "/metadata/name");
        site.create(POOL, pool).await;
        site.create(CAPI_IP_CLAIM, claim(CAPI_IP_CLAIM, &name, &name)).await;
        let address = site.served(BOTH[1], &name).await;
        let mut expected = expected;
        expected["claimRef"] = json!({"name": name});
        expected["poolRef"] = site.hand.get(CAPI_IP_CLAIM, &name)["spec"]["poolRef"].clone();
        assert_eq!(address["spec"], expected);
        assert!(text(&address, "/spec/address").len() <= 39);
    }
}

/// One claim, one address, also of a pool with both families and however often the pool is looked at.
#[tokio::test(start_paused = true)]
async fn k_76_a_claim_yields_one_address() {
    for both in BOTH {
        let site = Site::new(1).await;
        let mut body = pool("abc", &[("2001:db8::10", "2001:db8::20"), ("192.0.2.10", "192.0.2.20")]);
        body["spec"].as_object_mut().unwrap().retain(|field, _| field == "namePrefix" || field == "pools");
        site.create(POOL, body).await;
        site.create(both.0, claim(both.0, "c", "abc")).await;
        site.served(both, "c").await;
        for n in 0..5 {
            site.hand.patch(POOL, "abc", json!({"spec": {"dnsServers": [format!("192.0.2.{n}")]}})).await.unwrap();
            site.hand.patch(both.0, "c", json!({"metadata": {"labels": {"n": n.to_string()}}})).await.unwrap();
            site.world.start(Provider::Ipam);
            sleep(Duration::from_secs(30)).await;
        }
        site.rest().await;
        assert_eq!(site.addresses(), BTreeSet::from(["2001:db8::10".to_owned()]));
        assert_eq!(site.wrote.lock().iter().filter(|wrote| wrote.verb == Verb::Create).count(), 1);
    }
}

/// An address is never held by claims of both kinds, not for a moment.
#[tokio::test(start_paused = true)]
async fn k_80_an_address_is_one_claim_s_whichever_kind() {
    let site = Site::new(1).await;
    let twice = Arc::<Mutex<Vec<String>>>::default();
    let (held, found) = (Mutex::new(BTreeMap::<String, String>::new()), twice.clone());
    site.world.server.observe(move |change| {
        if change.call.resource != IP_ADDRESS.plural {
            return;
        }
        let of = |object: &Value| text(object, "/spec/address");
        let me = format!("{} {}", change.call.group, change.call.name);
        let mut held = held.lock();
        match change.new {
            Some(new) => {
                let holder = held.entry(of(new)).or_insert_with(|| me.clone());
                if *holder != me {
                    found.lock().push(format!("{} is of {holder} and of {me}", of(new)));
                }
            }
            None => {
                held.remove(&change.old.map(|old| of(old)).unwrap_or_default());
            }
        }
    });
    site.pool("abc", ("192.0.2.10", "192.0.2.13")).await;
    for name in ["a", "b"] {
        for (kind, _, _) in BOTH {
            site.create(kind, claim(kind, name, "abc")).await;
        }
    }
    for name in ["a", "b"] {
        for both in BOTH {
            site.served(both, name).await;
        }
    }
    // The pool is full; what one kind gives back the other gets.
    for (gives, gets) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        site.create(gets.0, claim(gets.0, "late", "abc")).await;
        let exhausted = |claim: &Value| is_not_ready(claim, "PoolExhausted", "Exhausted IP Pools");
        site.until(gets.0, "late", "no address is left", exhausted).await;
        let freed = text(&site.served(gives, "a").await, "/spec/address");
        site.hand.delete(gives.0, "a").await.unwrap();
        assert_eq!(text(&site.served(gets, "late").await, "/spec/address"), freed);
    }
    assert_eq!(site.addresses().len(), 4);
    assert_eq!(*twice.lock(), Vec::<String>::new());
    site.rest().await;
}
