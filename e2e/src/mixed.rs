//! Every kind in both versions, under running controllers (docs/spec/e2e-scenarios.md E-33): what a user of one version writes,
//! a user of the other reads, and whoever applies the same manifest again changes nothing.

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::PatchParams;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::kube::{Seen, apply_one, lacking, wait_for};
use crate::life::{BOUND, ENDPOINT};
use crate::loose::Loose;
use crate::site::*;

/// How often in a row an apply must find nothing to do before it counts as settled.
const CALM: usize = 4;

/// One kind: a v1beta1 spec, what of it is called otherwise in v1beta2, a change made there, and how v1beta1 shows that.
struct Case {
    kind: Kind,
    old: Value,
    seen_as: (&'static str, Value),
    patch: Value,
    back_as: (&'static str, Value),
}

/// What any object can be told.
fn label() -> (Value, (&'static str, Value)) {
    (json!({"metadata": {"labels": {"edited": "yes"}}}), ("/metadata/labels/edited", "yes".into()))
}

fn cases() -> Vec<Case> {
    let case =
        |kind, old, seen_as: (&'static str, Value), (patch, back_as)| Case { kind, old, seen_as, patch, back_as };
    let image = json!({"url": "http://198.51.100.5/a", "checksum": "abc", "checksumType": "sha256", "format": "qcow2"});
    let machine =
        json!({"image": image, "dataTemplate": {"name": "mixed"}, "hostSelector": {"matchLabels": {"a": "b"}}});
    let rack = json!({"rack-1": {"controlPlane": true}});
    let cluster = json!({
        "controlPlaneEndpoint": {"host": ENDPOINT, "port": 6443},
        "noCloudProvider": true,
        "failureDomains": rack,
    });
    let racks = json!([{"name": "rack-1", "controlPlane": true}, {"name": "rack-2", "controlPlane": true}]);
    let pool = json!({"key": "ip", "name": "mixed", "apiGroup": "ipam.metal3.io", "kind": "IPPool"});
    let strategy = json!({"type": "Reboot", "timeout": "5m0s"});
    vec![
        case(
            METAL3_CLUSTER,
            cluster.clone(),
            ("/spec/failureDomains/0/name", "rack-1".into()),
            (json!({"spec": {"failureDomains": racks}}), ("/spec/failureDomains/rack-2/controlPlane", true.into())),
        ),
        case(
            METAL3_CLUSTER_TEMPLATE,
            json!({"template": {"spec": cluster}}),
            ("/spec/template/spec/cloudProviderEnabled", false.into()),
            (
                json!({"spec": {"template": {"spec": {"failureDomains": racks}}}}),
                ("/spec/template/spec/failureDomains/rack-2/controlPlane", true.into()),
            ),
        ),
        case(
            METAL3_MACHINE,
            machine.clone(),
            ("/spec/image/diskFormat", "qcow2".into()),
            (
                json!({"spec": {"automatedCleaningMode": "disabled"}}),
                ("/spec/automatedCleaningMode", "disabled".into()),
            ),
        ),
        case(
            METAL3_MACHINE_TEMPLATE,
            json!({"template": {"spec": machine}}),
            ("/spec/template/spec/image/diskFormat", "qcow2".into()),
            (json!({"spec": {"nodeReuse": true}}), ("/spec/nodeReuse", true.into())),
        ),
        case(
            METAL3_DATA_TEMPLATE,
            json!({"metaData": {"ipAddressesFromIPPool": [pool], "strings": [{"key": "a", "value": "b"}]}}),
            ("/spec/metaData/ipAddressesFromPool/0/name", "mixed".into()),
            label(),
        ),
        case(
            METAL3_DATA_CLAIM,
            json!({"template": {"name": "mixed"}}),
            ("/spec/template/name", "mixed".into()),
            label(),
        ),
        case(
            METAL3_DATA,
            json!({"index": 7, "claim": {"name": "other"}, "template": {"name": "other"}}),
            ("/spec/index", 7.into()),
            label(),
        ),
        case(
            METAL3_REMEDIATION,
            json!({"strategy": strategy}),
            ("/spec/strategy/timeoutSeconds", 300.into()),
            (json!({"spec": {"strategy": {"retryLimit": 3}}}), ("/spec/strategy/retryLimit", 3.into())),
        ),
        case(
            METAL3_REMEDIATION_TEMPLATE,
            json!({"template": {"spec": {"strategy": strategy}}}),
            ("/spec/template/spec/strategy/timeoutSeconds", 300.into()),
            (
                json!({"spec": {"template": {"spec": {"strategy": {"retryLimit": 3}}}}}),
                ("/spec/template/spec/strategy/retryLimit", 3.into()),
            ),
        ),
    ]
}

pub async fn versions(bed: &Bed) -> Result<()> {
    let loose = Loose::new(bed, "mixed").await?;
    let site = loose.site();
    for case in cases() {
        case.there_and_back(site).await.with_context(|| format!("E-33: {}", case.kind.name()))?;
    }
    let ranges = json!([{"start": "192.0.2.210", "end": "192.0.2.219"}]);
    let pool = json!({"pools": ranges, "prefix": 24, "namePrefix": "mixed"});
    let pool = site.whole(IP_POOL, json!({"metadata": {"name": "mixed"}, "spec": pool}));
    let claim = site.whole(IP_CLAIM, json!({"metadata": {"name": "mixed"}, "spec": {"pool": {"name": "mixed"}}}));
    settled(site, &[pool, claim]).await?;
    wait_for("an address for the claim", BOUND, async || {
        let found = site.list(IP_ADDRESS).await?;
        Ok(if found.len() == 1 { Seen::Done(()) } else { Seen::Not(format!("{} addresses", found.len())) })
    })
    .await?;
    let address = site.list(IP_ADDRESS).await?.remove(0);
    let again = json!({"metadata": {"name": name(&address)}, "spec": address["spec"]});
    settled(site, &[site.whole(IP_ADDRESS, again)]).await?;
    site.remove_namespace().await
}

impl Case {
    /// Admission asks of a Metal3Data that its name says where it comes from.
    fn name(&self) -> &'static str {
        if self.kind == METAL3_DATA { "other-7" } else { "mixed" }
    }

    async fn there_and_back(&self, site: &Site) -> Result<()> {
        let name = self.name();
        let old = site.whole(self.kind.older(), json!({"metadata": {"name": name}, "spec": self.old}));
        settled(site, std::slice::from_ref(&old)).await?;
        let new = site.get(self.kind, name).await?.context("it is gone")?;
        let (at, expected) = &self.seen_as;
        ensure!(new.pointer(at) == Some(expected), "v1beta2 shows {at} as {:?}", new.pointer(at));
        site.patch(self.kind, name, self.patch.clone()).await?;
        let back = site.get(self.kind.older(), name).await?.context("it is gone")?;
        let (at, expected) = &self.back_as;
        ensure!(back.pointer(at) == Some(expected), "v1beta1 shows {at} as {:?}", back.pointer(at));
        if let Some(lack) = lacking(&self.old, &back["spec"]) {
            bail!("the way there and back has lost {lack}");
        }
        let same = site.whole(self.kind, json!({"metadata": {"name": name}, "spec": new["spec"]}));
        settled(site, &[same]).await?;
        settled(site, &[old]).await
    }
}

/// Applies the manifests until applying them again changes nothing any more, neither by itself nor because a controller
/// answers. Each is a manager of its own.
async fn settled(site: &Site, manifests: &[Value]) -> Result<()> {
    let mut last = Vec::new();
    let mut calm = 0;
    wait_for("an apply that changes nothing", BOUND, async || {
        let mut now = Vec::new();
        for manifest in manifests {
            let manager = PatchParams::apply(&format!("user-of-{}", text(manifest, "/apiVersion"))).force();
            now.push(apply_one(&site.client, manifest.clone(), &manager).await?.metadata.resource_version);
        }
        calm = if now == last { calm + 1 } else { 0 };
        let seen = format!("resourceVersions {last:?}, then {now:?}");
        last = now;
        Ok(if calm == CALM { Seen::Done(()) } else { Seen::Not(seen) })
    })
    .await
}
