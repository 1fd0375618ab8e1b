//! Late caches, foreign pools, orphans, and what a move brings.

use super::*;

#[tokio::test(start_paused = true)]
async fn ti_129_claims_of_both_kinds_while_the_cache_is_late() {
    let site = Site::new(1).await;
    site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
    let late = Late(&[POOL, IP_ADDRESS, CAPI_IP_ADDRESS], Duration::from_secs(20));
    site.world.server.set_seam(Arc::new(late));
    for (kind, _, _) in BOTH {
        site.create(kind, claim(kind, &format!("of-{}", kind.plural), "abc")).await;
    }
    for both in BOTH {
        site.served(both, &format!("of-{}", both.0.plural)).await;
    }
    assert_eq!(site.addresses().len(), 2);
    let lists = site.writes_of(POOL.plural, "abc");
    let first = lists.iter().find(|wrote| wrote.new["status"]["indexes"].is_object()).unwrap();
    assert_eq!(first.new["status"]["indexes"].as_object().unwrap().len(), 2, "{first:#?}");
    site.rest().await;
    assert_eq!(site.addresses().len(), 2);
}

/// K-70: whose pool is another provider's, or of another namespace, is not touched at all.
#[tokio::test(start_paused = true)]
async fn ti_130_claims_on_pools_of_others_are_not_touched() {
    let site = Site::new(1).await;
    site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
    for (name, group, kind) in [
        ("kind", POOL.group(), "InClusterIPPool"),
        ("group", "ipam.cluster.x-k8s.io", POOL.kind),
        ("both", "ipam.cluster.x-k8s.io", "InClusterIPPool"),
    ] {
        let mut body = claim(CAPI_IP_CLAIM, name, "abc");
        body["spec"]["poolRef"] = json!({"apiGroup": group, "kind": kind, "name": "abc"});
        site.create(CAPI_IP_CLAIM, body).await;
    }
    site.create(CAPI_IP_CLAIM, claim(CAPI_IP_CLAIM, "ours", "abc")).await;
    site.served(BOTH[1], "ours").await;
    site.rest().await;
    for name in ["kind", "group", "both"] {
        let claim = site.hand.get(CAPI_IP_CLAIM, name);
        assert!(claim["metadata"]["finalizers"].is_null() && claim["status"].is_null(), "{claim:#}");
        assert!(site.writes_of(CAPI_IP_CLAIM.plural, name).is_empty());
        site.hand.delete(CAPI_IP_CLAIM, name).await.unwrap();
        assert!(site.hand.get(CAPI_IP_CLAIM, name).is_null(), "nothing of ours holds it");
    }
    assert_eq!(site.addresses().len(), 1, "K-70");
}

#[tokio::test(start_paused = true)]
async fn ti_137_two_pools_of_one_prefix_and_one_range() {
    let site = Site::new(1).await;
    for name in ["abc", "abd"] {
        let mut body = pool(name, &[("192.0.2.10", "192.0.2.20")]);
        body["spec"]["namePrefix"] = "abcpref".into();
        site.create(POOL, body).await;
        site.create(IP_CLAIM, claim(IP_CLAIM, &format!("of-{name}"), name)).await;
    }
    for name in ["of-abc", "of-abd"] {
        site.served(BOTH[0], name).await;
    }
    assert_eq!(site.addresses(), ["192.0.2.10", "192.0.2.11"].map(String::from).into());
    site.rest().await;
}

/// The cache shows addresses, or nothing at all, long after the claim came and went.
#[tokio::test(start_paused = true)]
async fn ti_143_a_claim_that_goes_before_its_address_is_seen() {
    for kinds in [&[IP_ADDRESS, CAPI_IP_ADDRESS][..], &[IP_ADDRESS, CAPI_IP_ADDRESS, IP_CLAIM, CAPI_IP_CLAIM, POOL]] {
        for after in [0, 50, 100, 105, 110, 120, 150, 300] {
            let site = Site::new(after).await;
            site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
            site.world.server.set_seam(Arc::new(Late(kinds, Duration::from_millis(700))));
            for (kind, _, _) in BOTH {
                site.create(kind, claim(kind, "quick", "abc")).await;
            }
            sleep(Duration::from_millis(after)).await;
            for (kind, _, _) in BOTH {
                site.hand.delete(kind, "quick").await.unwrap();
            }
            for (kind, address, _) in BOTH {
                site.gone(kind, "quick").await;
                assert_eq!(site.all(address).len(), 0, "an address is left after {after} ms");
            }
            site.rest().await;
            assert!(site.addresses().is_empty(), "an address came later");
            assert!(site.hand.get(POOL, "abc")["status"]["indexes"].is_null());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ti_147_a_claim_that_came_without_its_status() {
    for both in BOTH {
        let site = Site::new(1).await;
        site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
        site.create(both.0, claim(both.0, "c", "abc")).await;
        let before = site.served(both, "c").await;
        site.world.processes()[0].kill();
        // What clusterctl move brings: objects without status.
        let path = if both.0 == IP_CLAIM { "address" } else { "addressRef" };
        site.hand.patch_status(both.0, "c", json!({path: null, "conditions": null})).await.unwrap();
        site.hand.patch_status(POOL, "abc", json!({"indexes": null, "lastUpdated": null})).await.unwrap();
        assert!(site.hand.get(POOL, "abc")["status"]["indexes"].is_null());
        site.world.start(Provider::Ipam);
        let after = site.served(both, "c").await;
        assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
        let claim = site.hand.get(both.0, "c");
        assert_eq!(ready(&claim).0, "True", "{claim:#}");
        site.until(POOL, "abc", "the list", |pool| pool["status"]["indexes"] == json!({"c": "192.0.2.10"})).await;
        site.rest().await;
    }
}

/// An address that was removed by force comes back as it was; one whose claim is gone goes.
#[tokio::test(start_paused = true)]
async fn hi_20_orphans_are_repaired() {
    for both in BOTH {
        let (kind, address_kind, _) = both;
        let site = Site::new(1).await;
        site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
        for name in ["a", "b"] {
            site.create(kind, claim(kind, name, "abc")).await;
            site.served(both, name).await;
        }
        let name = text(&site.served(both, "a").await, "/metadata/name");
        let loose = json!({"metadata": {"finalizers": null}});
        site.hand.patch(address_kind, &name, loose.clone()).await.unwrap();
        site.hand.delete(address_kind, &name).await.unwrap();
        site.create(kind, claim(kind, "new", "abc")).await;
        site.served(both, "new").await;
        let again = site.served(both, "a").await;
        assert_eq!((text(&again, "/spec/address"), site.addresses().len()), ("192.0.2.10".to_owned(), 3));

        site.hand.patch(kind, "b", loose).await.unwrap();
        site.hand.delete(kind, "b").await.unwrap();
        site.gone(kind, "b").await;
        site.rest().await;
        assert_eq!(site.addresses(), ["192.0.2.10", "192.0.2.12"].map(String::from).into());
        site.create(kind, claim(kind, "next", "abc")).await;
        assert_eq!(text(&site.served(both, "next").await, "/spec/address"), "192.0.2.11");
    }
}
