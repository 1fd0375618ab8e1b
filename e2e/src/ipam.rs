//! Addresses without clusters, machines and hosts (docs/spec/e2e-scenarios.md E-15 and E-16): pools name no Cluster, claims are a user's.

use anyhow::{Context as _, Result, ensure};
use kube::api::PatchParams;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::kube::{Seen, apply_one, lacking, wait_for};
use crate::life::BOUND;
use crate::site::*;

/// One kind of claim: the address object that it gets, and where its status names that.
#[derive(Clone, Copy)]
struct Way {
    claim: Kind,
    address: Kind,
    named_at: &'static str,
}

const METAL3: Way = Way { claim: IP_CLAIM, address: IP_ADDRESS, named_at: "/status/address/name" };
const CLUSTER_API: Way = Way { claim: CAPI_IP_CLAIM, address: CAPI_IP_ADDRESS, named_at: "/status/addressRef/name" };

/// A claim of either kind is answered, and gone with its address.
pub async fn basic(bed: &Bed) -> Result<()> {
    for (way, namespace) in [(METAL3, "ipam-basic"), (CLUSTER_API, "ipam-basic-capi")] {
        let desk = Desk::new(bed, namespace).await?;
        let range = json!({
            "pools": [{"start": "192.168.1.10", "end": "192.168.1.100"}], "prefix": 24, "gateway": "192.168.1.1",
            "dnsServers": ["8.8.8.8", "8.8.4.4"], "namePrefix": "test-ip",
        });
        desk.pool("pool", range).await?;
        desk.claim(way, "claim", "pool", None).await?;
        let address = desk.answer(way, "claim").await?;
        let spec = if way.claim == IP_CLAIM {
            json!({"address": "192.168.1.10", "prefix": 24, "gateway": "192.168.1.1", "dnsServers": ["8.8.8.8", "8.8.4.4"],
                "pool": {"name": "pool"}, "claim": {"name": "claim"}})
        } else {
            json!({"address": "192.168.1.10", "prefix": 24, "gateway": "192.168.1.1", "claimRef": {"name": "claim"},
                "poolRef": {"name": "pool", "kind": "IPPool", "apiGroup": "ipam.metal3.io"}})
        };
        desk.has(&address, &spec)?;
        desk.site.delete(way.claim, "claim").await?;
        desk.gone(way.claim, "claim").await?;
        desk.gone(way.address, name(&address)).await?;
        desk.site.delete(IP_POOL, "pool").await?;
        desk.gone(IP_POOL, "pool").await?;
        desk.site.remove_namespace().await?;
    }
    Ok(())
}

pub async fn features(bed: &Bed) -> Result<()> {
    let desk = Desk::new(bed, "ipam-features").await?;
    desk.set_aside_and_requested().await.context("E-16.1, 2")?;
    desk.exhausted().await.context("E-16.3")?;
    desk.ranges().await.context("E-16.4, 5")?;
    desk.status().await.context("E-16.6, 7")?;
    desk.deleted_in_use().await.context("E-16.8")?;
    desk.site.remove_namespace().await
}

/// Where claims are made and answered.
struct Desk {
    site: Site,
}

impl Desk {
    async fn new(bed: &Bed, namespace: &str) -> Result<Self> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        apply_one(&bed.client, object, &PatchParams::apply("bed")).await?;
        Ok(Self { site: Site { client: bed.client.clone(), namespace: namespace.to_owned() } })
    }

    async fn pool(&self, name: &str, spec: Value) -> Result<()> {
        self.site.create(IP_POOL, json!({"metadata": {"name": name}, "spec": spec})).await
    }

    async fn claim(&self, way: Way, name: &str, pool: &str, requested: Option<&str>) -> Result<()> {
        let spec = if way.claim == IP_CLAIM {
            json!({"pool": {"name": pool}})
        } else {
            json!({"poolRef": {"apiGroup": "ipam.metal3.io", "kind": "IPPool", "name": pool}})
        };
        let mut metadata = json!({"name": name});
        if let Some(address) = requested {
            metadata["annotations"] = json!({"ipAddress": address});
        }
        self.site.create(way.claim, json!({"metadata": metadata, "spec": spec})).await
    }

    /// The address object that a claim is answered with.
    async fn answer(&self, way: Way, claim: &str) -> Result<Value> {
        wait_for(format_args!("an address for {claim}"), BOUND, async || {
            let found = self.site.get(way.claim, claim).await?.context("it is gone")?;
            let address = match text(&found, way.named_at) {
                "" => None,
                named => self.site.get(way.address, named).await?,
            };
            Ok(address.map_or_else(|| Seen::Not(found["status"].to_string()), Seen::Done))
        })
        .await
    }

    /// Claims, and the text of the address that comes.
    async fn served(&self, way: Way, claim: &str, pool: &str, requested: Option<&str>) -> Result<String> {
        self.claim(way, claim, pool, requested).await?;
        Ok(text(&self.answer(way, claim).await?, "/spec/address").to_owned())
    }

    fn has(&self, address: &Value, spec: &Value) -> Result<()> {
        let lack = lacking(spec, &address["spec"]);
        ensure!(lack.is_none(), "{}: spec{}", name(address), lack.unwrap_or_default());
        Ok(())
    }

    async fn until(&self, kind: Kind, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        wait_for(format_args!("{name}: {what}"), BOUND, async || {
            let found = self.site.get(kind, name).await?.context("it is gone")?;
            Ok(if wanted(&found) { Seen::Done(()) } else { Seen::Not(found["status"].to_string()) })
        })
        .await
    }

    async fn gone(&self, kind: Kind, name: &str) -> Result<()> {
        wait_for(format_args!("the end of {} {name}", kind.name()), BOUND, async || {
            let found = self.site.get(kind, name).await?;
            Ok(found.map_or(Seen::Done(()), |left| Seen::Not(left["metadata"].to_string())))
        })
        .await
    }

    /// What the pool keeps for a claim, and what a claim asks for by its annotation.
    async fn set_aside_and_requested(&self) -> Result<()> {
        let range = json!([{"start": "192.168.2.10", "end": "192.168.2.20"}]);
        let kept = json!({"first": "192.168.2.15", "second": "192.168.2.12"});
        self.pool("kept", json!({"pools": range, "prefix": 24, "namePrefix": "kept", "preAllocations": kept})).await?;
        for (way, claim, requested, expected) in [
            (METAL3, "first", None, "192.168.2.15"),
            (CLUSTER_API, "second", None, "192.168.2.12"),
            (METAL3, "asks", Some("192.168.2.18"), "192.168.2.18"),
            (CLUSTER_API, "asks-too", Some("192.168.2.19"), "192.168.2.19"),
        ] {
            let given = self.served(way, claim, "kept", requested).await?;
            ensure!(given == expected, "{claim} got {given}, not {expected}");
        }
        Ok(())
    }

    async fn exhausted(&self) -> Result<()> {
        let range = json!([{"start": "192.168.3.10", "end": "192.168.3.11"}]);
        self.pool("small", json!({"pools": range, "prefix": 24, "namePrefix": "small"})).await?;
        for claim in ["one", "two"] {
            self.served(METAL3, claim, "small", None).await?;
        }
        self.claim(METAL3, "three", "small", None).await?;
        let told = |claim: &Value| text(claim, "/status/errorMessage").to_lowercase().contains("exhausted");
        self.until(IP_CLAIM, "three", "that nothing is left", told).await?;
        let full = |pool: &Value| condition(pool).is_some_and(|ready| ready["reason"] == "PoolExhausted");
        self.until(IP_POOL, "small", "that it is exhausted", full).await?;
        for claim in ["three", "one"] {
            self.site.delete(IP_CLAIM, claim).await?;
            self.gone(IP_CLAIM, claim).await?;
        }
        let given = self.served(METAL3, "four", "small", None).await?;
        ensure!(given == "192.168.3.10", "the address that came free is {given}");
        Ok(())
    }

    /// The second range follows the first; what a range says goes before what the pool says.
    async fn ranges(&self) -> Result<()> {
        let pools = json!([
            {"start": "192.168.4.10", "end": "192.168.4.10"},
            {"start": "192.168.5.10", "end": "192.168.5.20", "prefix": 16, "gateway": "192.168.5.1", "dnsServers": ["1.1.1.1"]},
        ]);
        let spec = json!({"pools": pools, "prefix": 24, "gateway": "192.168.4.1", "dnsServers": ["8.8.8.8"], "namePrefix": "ranges"});
        self.pool("ranges", spec).await?;
        let inherits =
            json!({"address": "192.168.4.10", "prefix": 24, "gateway": "192.168.4.1", "dnsServers": ["8.8.8.8"]});
        let own = json!({"address": "192.168.5.10", "prefix": 16, "gateway": "192.168.5.1", "dnsServers": ["1.1.1.1"]});
        for (claim, spec) in [("inherits", inherits), ("own", own)] {
            self.claim(METAL3, claim, "ranges", None).await?;
            self.has(&self.answer(METAL3, claim).await?, &spec)?;
        }
        Ok(())
    }

    /// Claims of both kinds share a pool and its list.
    async fn status(&self) -> Result<()> {
        let range = json!([{"start": "192.168.6.10", "end": "192.168.6.20"}]);
        self.pool("shared", json!({"pools": range, "prefix": 24, "namePrefix": "shared"})).await?;
        let metal3 = self.served(METAL3, "metal3", "shared", None).await?;
        let capi = self.served(CLUSTER_API, "capi", "shared", None).await?;
        ensure!(metal3 != capi, "both have {metal3}");
        let listed = |expected: Value| {
            move |pool: &Value| pool["status"]["indexes"] == expected && !text(pool, "/status/lastUpdated").is_empty()
        };
        self.until(IP_POOL, "shared", "both are listed", listed(json!({"metal3": metal3, "capi": capi}))).await?;
        self.site.delete(CAPI_IP_CLAIM, "capi").await?;
        self.gone(CAPI_IP_CLAIM, "capi").await?;
        self.until(IP_POOL, "shared", "one is listed", listed(json!({"metal3": metal3}))).await
    }

    async fn deleted_in_use(&self) -> Result<()> {
        self.site.delete(IP_POOL, "shared").await?;
        let leaves = |pool: &Value| !text(pool, "/metadata/deletionTimestamp").is_empty();
        self.until(IP_POOL, "shared", "it is held", leaves).await?;
        self.answer(METAL3, "metal3").await?;
        self.site.delete(IP_CLAIM, "metal3").await?;
        self.gone(IP_CLAIM, "metal3").await?;
        self.gone(IP_POOL, "shared").await
    }
}

/// `Ready`.
fn condition(object: &Value) -> Option<&Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == "Ready")
}
