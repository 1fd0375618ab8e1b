//! What wakes a pool, what a pass asks for, and what is told of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn ti_90_a_pool_that_is_not_there_is_nothing_to_do() {
    let site = Site::new(1).await;
    site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
    site.hand.delete(POOL, "abc").await.unwrap();
    site.gone(POOL, "abc").await;
    let before = site.wrote.lock().len();
    site.rest().await;
    assert_eq!(site.wrote.lock().len(), before);
    let page = site.world.processes()[0].metrics().render();
    assert!(page.contains("controller_runtime_reconcile_errors_total{controller=\"ippool\"} 0"), "{page}");
}

/// I-43: told what they wait for, and served when it comes.
#[tokio::test(start_paused = true)]
async fn i_43_claims_wait_for_their_pool() {
    let site = Site::new(1).await;
    for (kind, _, _) in BOTH {
        site.create(kind, claim(kind, "c", "late")).await;
    }
    for (kind, _, _) in BOTH {
        let message = "waits for IPPool late, which does not exist";
        site.until(kind, "c", "what it waits for", |claim| is_not_ready(claim, "PoolNotReady", message)).await;
    }
    site.rest().await;
    site.create(POOL, pool("late", &[("192.0.2.10", "192.0.2.20")])).await;
    for both in BOTH {
        site.served(both, "c").await;
    }
    site.rest().await;
}

#[tokio::test(start_paused = true)]
async fn ti_98_a_pass_that_fails_is_an_error_and_is_tried_again() {
    for (verb, kind) in [(Verb::Create, IP_ADDRESS), (Verb::Patch, POOL), (Verb::Patch, IP_CLAIM)] {
        let site = Site::new(1).await;
        site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
        let errors = || {
            let page = site.world.processes()[0].metrics().render();
            let line = page.lines().find(|line| line.starts_with("controller_runtime_reconcile_errors_total{"));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap()
        };
        assert_eq!(errors(), 0);
        site.world.server.set_seam(Arc::new(FailsOnce(verb, kind, Mutex::new(false))));
        site.create(IP_CLAIM, claim(IP_CLAIM, "c", "abc")).await;
        site.served(BOTH[0], "c").await;
        assert_eq!(errors(), 1, "{verb:?} {}", kind.plural);
        site.rest().await;
    }
}

/// Two pools of one name in two namespaces, and claims in one of them.
#[tokio::test(start_paused = true)]
async fn i_18_a_claim_wakes_the_pool_of_its_own_namespace() {
    for (row, both) in [("TI-100", BOTH[0]), ("TI-101", BOTH[1])] {
        let site = Site::new(1).await;
        site.create(NAMESPACE, json!({"metadata": {"name": "y"}})).await;
        let other = Hand::new(site.world.server.clone(), User::admin(), "y");
        other.create(POOL, pool("abc", &[("192.0.2.10", "192.0.2.20")])).await.unwrap();
        site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
        site.rest().await;
        let before = site.wrote.lock().len();
        let mut body = claim(both.0, "c", "abc");
        if both.0 == IP_CLAIM {
            body["spec"]["pool"]["namespace"] = "".into();
        }
        site.create(both.0, body).await;
        site.served(both, "c").await;
        site.rest().await;
        let elsewhere: Vec<_> =
            site.wrote.lock()[before..].iter().filter(|w| !w.path.starts_with("site/")).cloned().collect();
        assert!(elsewhere.is_empty(), "{row}: {elsewhere:#?}");
        assert!(other.get(POOL, "abc")["status"]["indexes"].is_null(), "{row}");
        assert_eq!(site.hand.get(POOL, "abc")["status"]["indexes"], json!({"c": "192.0.2.10"}), "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn ti_102_two_hundred_claims_under_two_managers() {
    let site = Site::new(1).await;
    site.world.start(Provider::Ipam);
    let mut wide = pool("abc", &[]);
    wide["spec"]["pools"] = json!([{"subnet": "192.0.2.0/24"}]);
    site.create(POOL, wide).await;
    for n in 0..100 {
        for (kind, _, _) in BOTH {
            site.create(kind, claim(kind, &format!("c{n}"), "abc")).await;
        }
    }
    for n in 0..100 {
        for both in BOTH {
            site.served(both, &format!("c{n}")).await;
        }
    }
    assert_eq!(site.addresses().len(), 200);
    site.rest().await;
    assert_eq!(site.hand.get(POOL, "abc")["status"]["indexes"].as_object().unwrap().len(), 200);
    let made: Vec<_> = site.wrote.lock().iter().filter(|w| w.verb == Verb::Create).map(|w| w.path.clone()).collect();
    assert_eq!(made.len(), 200, "no address is made to be taken back");
}

/// That nothing is left stands where people look: on the pool, on the claims, in the log of events.
#[tokio::test(start_paused = true)]
async fn hi_28_exhaustion_is_told() {
    let site = Site::new(1).await;
    let mut body = pool("abc", &[("192.0.2.1", "192.0.2.3")]);
    body["spec"]["preAllocations"] = json!({"later": "192.0.2.3"});
    site.create(POOL, body).await;
    for (kind, _, _) in BOTH {
        for name in ["a", "b"] {
            site.create(kind, claim(kind, name, "abc")).await;
        }
    }
    let full = |pool: &Value| is_not_ready(pool, "PoolExhausted", "no address is left for 3 claims");
    let told = site.until(POOL, "abc", "it is exhausted", full).await;
    assert_eq!(told["status"]["ipAddresses"], json!({"free": 0, "reserved": 2, "total": 3, "used": 1}));
    site.rest().await;
    let waiting = BOTH.iter().flat_map(|(kind, _, _)| site.all(*kind)).filter(|claim| ready(claim).0 == "False");
    let waiting: Vec<_> = waiting.collect();
    assert_eq!(waiting.len(), 3);
    assert!(waiting.iter().all(|claim| is_not_ready(claim, "PoolExhausted", "Exhausted IP Pools")));
    let events = site.all(EVENT);
    let on = |kind: &str| {
        let of = |event: &&Arc<Value>| event.pointer("/involvedObject/kind").is_some_and(|found| found == kind);
        events.iter().filter(of).filter(|event| event["reason"] == "PoolExhausted").count()
    };
    assert_eq!(on(POOL.kind), 1, "{events:#?}");
    assert_eq!(on(IP_CLAIM.kind) + on(CAPI_IP_CLAIM.kind), 3);

    // The pool grows, and all is well (HI-6).
    let wider = json!({"spec": {"pools": [{"start": "192.0.2.1", "end": "192.0.2.9"}]}});
    site.hand.patch(POOL, "abc", wider).await.unwrap();
    for both in BOTH {
        for name in ["a", "b"] {
            site.served(both, name).await;
        }
    }
    let counts = json!({"free": 3, "reserved": 2, "total": 9, "used": 4});
    let well = |pool: &Value| ready(pool).0 == "True" && pool["status"]["ipAddresses"] == counts;
    site.until(POOL, "abc", "it is well", well).await;
    let errors = site.all(IP_CLAIM).iter().filter(|claim| !claim["status"]["errorMessage"].is_null()).count();
    assert_eq!(errors, 0);
    site.rest().await;
}

/// I-47: a finalizer, an address and a status for each claim; the list of the pool for many at a time; nothing else.
#[tokio::test(start_paused = true)]
async fn i_47_claims_cost_three_requests_each() {
    for claims in [50, 100] {
        let site = Site::new(1).await;
        let mut wide = pool("abc", &[]);
        wide["spec"]["pools"] = json!([{"subnet": "10.0.0.0/16"}]);
        site.create(POOL, wide).await;
        site.until(POOL, "abc", "it is looked after", |pool| pool["status"]["lastUpdated"].is_string()).await;
        let before = site.requests().len();
        for n in 0..claims {
            for (kind, _, _) in BOTH {
                site.create(kind, claim(kind, &format!("c{n}"), "abc")).await;
            }
        }
        for n in 0..claims {
            for both in BOTH {
                site.served(both, &format!("c{n}")).await;
            }
        }
        site.rest().await;
        let requests = site.requests()[before..].to_vec();
        let (of_pool, others): (Vec<_>, Vec<_>) = requests.into_iter().partition(|line| line.contains(" ippools"));
        assert_eq!(others.len(), 3 * 2 * claims, "{others:#?}");
        assert!(of_pool.len() <= 4, "those of one moment share a write: {of_pool:#?}");
    }
}

/// HI-29: the list of a large pool is patched where it changes.
#[tokio::test(start_paused = true)]
async fn hi_29_the_list_is_patched_by_entry() {
    use capm3_api::ipam::v1alpha1::IPPool;
    let site = Site::new(1).await;
    site.pool("abc", ("192.0.2.10", "192.0.2.20")).await;
    for name in ["a", "b"] {
        site.create(IP_CLAIM, claim(IP_CLAIM, name, "abc")).await;
        site.served(BOTH[0], name).await;
    }
    site.rest().await;
    let before = site.wrote.lock().len();
    site.hand.delete(IP_CLAIM, "a").await.unwrap();
    site.gone(IP_CLAIM, "a").await;
    site.rest().await;
    let wrote = site.wrote.lock()[before..].iter().find(|wrote| wrote.resource == POOL.plural).cloned().unwrap();
    let parsed = |value: &Value| serde_json::from_value::<IPPool>(value.clone()).unwrap();
    let patch = capm3_runtime::merge_diff(&parsed(&wrote.old), &parsed(&wrote.new)).unwrap().unwrap();
    assert_eq!(patch["status"]["indexes"], json!({"a": null}), "{patch:#}");
}
