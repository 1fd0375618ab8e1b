//! The two providers in clusterctl's hands: what is installed, what a deletion leaves, what an upgrade changes, and what lies
//! untouched meanwhile (docs/spec/capi-contract.md 4).
//!
//! Hosts are the measure: whatever is done to the providers, no host and no object of a running cluster may change by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::coordination::v1;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::flavours::{describe, generate};
use crate::kube::{Seen, documents, lacking, live, wait_for};
use crate::life::{BOUND, Life, consumer, host};
use crate::loose::Loose;
use crate::releases::{self, INFRASTRUCTURE, IPAM, PROVIDERS, Provider, Upgrade, only_in_older};
use crate::site::*;
use crate::view::condition;

const BOTH: [&str; 4] = ["--infrastructure", "metal3", "--ipam", "metal3"];

/// The inventory names both providers once, every Deployment is Available, and what is stored is what was released. Installing
/// the same again does nothing, installing another version is refused.
pub async fn installed(bed: &Bed, upgrade: &Upgrade) -> Result<()> {
    let versions = PROVIDERS.map(|provider| (provider, upgrade.new.as_str()));
    inventory(bed, &versions).await?;
    as_released(bed, &[]).await?;
    releases::clusterctl(bed, &[&["init"][..], &BOTH].concat(), &[]).await?;
    let older = Upgrade::both(&upgrade.old);
    let said = upgrade.refused(bed, &words(&["init"], &older)).await?;
    let clear = said.contains("already an instance") && said.contains(INFRASTRUCTURE.label);
    ensure!(clear, "K-95: another version beside the first is refused with {said:?}");
    inventory(bed, &versions).await
}

fn words<'a>(command: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    command.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

/// Our providers are in the inventory in these versions, once each, and all Deployments are Available.
async fn inventory(bed: &Bed, expected: &[(Provider, &str)]) -> Result<()> {
    let all = everywhere(&bed.client, PROVIDER).await?;
    for (provider, version) in expected {
        let found: Vec<_> = all.iter().filter(|object| text(object, "/type") == provider.kind).collect();
        let [object] = found[..] else { bail!("K-95: {} providers of type {}", found.len(), provider.kind) };
        let facts = [name(object), text(object, "/providerName"), text(object, "/version")];
        ensure!(facts == [provider.label, "metal3", version], "K-95: the inventory has {facts:?}, not {version}");
    }
    wait_for("every Deployment Available", BOUND, async || {
        let mut waiting = Vec::new();
        for deployment in everywhere(&bed.client, DEPLOYMENT).await? {
            let available = condition(&deployment, "Available");
            if available.is_none_or(|(status, _)| status != "True") {
                waiting.push(format!("{} is {available:?}", name(&deployment)));
            }
        }
        Ok(if waiting.is_empty() { Seen::Done(()) } else { Seen::Not(waiting.join(", ")) })
    })
    .await
}

/// Every object of both components files is stored as clusterctl reads it from the release, with both labels, and belongs to
/// one provider. `more` goes to the command line: where the release lies elsewhere, or is installed elsewhere.
async fn as_released(bed: &Bed, more: &[&str]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for provider in PROVIDERS {
        let arguments = [&["generate", "provider", provider.flag, "metal3"][..], more].concat();
        for mut object in documents(&releases::clusterctl(bed, &arguments, &[]).await?)? {
            if object["kind"] == "Namespace" && name(&object) != provider.namespace {
                continue; // where both go, it carries the label of the last
            }
            let whole = format!("{} {}", text(&object, "/kind"), name(&object));
            let labels = &mut object["metadata"]["labels"];
            labels["cluster.x-k8s.io/provider"] = provider.label.into();
            labels["clusterctl.cluster.x-k8s.io"] = "".into();
            object.as_object_mut().map(|object| object.remove("status"));
            let stored =
                live(&bed.client, &object).await?.with_context(|| format!("K-108: {whole} is not installed"))?;
            if let Some(lack) = lacking(&object, &stored) {
                bail!("K-93: {whole} is not as released: {lack}");
            }
            ensure!(seen.insert(whole.clone()), "K-94: {whole} is in both components files");
        }
    }
    Ok(())
}

/// The other ways to read a release: variables, defaults and images described, the file as it is, and a file of one's own.
pub async fn generated(bed: &Bed) -> Result<()> {
    for provider in PROVIDERS {
        let generate = ["generate", "provider", provider.flag, "metal3"];
        let described = releases::clusterctl(bed, &[&generate[..], &["--describe"]].concat(), &[]).await?;
        let version = releases::version(&bed.paths)?;
        for wanted in [provider.namespace, &version, "capm3-manager", "DIAGNOSTICS_ADDRESS"] {
            ensure!(described.contains(wanted), "K-116: no {wanted} in\n{described}");
        }
        let raw = releases::clusterctl(bed, &[&generate[..], &["--raw"]].concat(), &[]).await?;
        let processed = releases::clusterctl(bed, &generate, &[]).await?;
        ensure!(raw.contains("DIAGNOSTICS_ADDRESS:="), "K-116: --raw has substituted the variables");
        ensure!(!processed.contains("${"), "K-106: a variable is left in the processed components");
    }
    for (given, expected) in [("true", "true"), ("'true'", "'true'")] {
        let variables = [("CAPM3_FAST_TRACK", given), ("CAPM3_DIAGNOSTICS_ADDRESS", ":9999")];
        let arguments = ["generate", "provider", INFRASTRUCTURE.flag, "metal3"];
        let rendered = releases::clusterctl(bed, &arguments, &variables).await?;
        let mut all = documents(&rendered)?;
        let map = all.find(|object| object["kind"] == "ConfigMap").context("K-107: no ConfigMap")?;
        ensure!(
            map["data"]["CAPM3_FAST_TRACK"] == expected,
            "K-107: fast track {given} is rendered as {}",
            map["data"]
        );
        ensure!(rendered.contains("--diagnostics-address=:9999"), "K-107: the address is not the one that was given");
    }
    Ok(())
}

/// A file in the overrides folder stands in for that of the release.
pub async fn overridden(bed: &Bed) -> Result<()> {
    let version = releases::version(&bed.paths)?;
    let there = |folder: PathBuf| folder.join(INFRASTRUCTURE.label).join(&version);
    let folder = there(bed.paths.config().join("cluster-api/overrides"));
    fs::create_dir_all(&folder)?;
    let file = "cluster-template.yaml";
    let template = fs::read_to_string(there(releases::released(&bed.paths)).join(file))?;
    fs::write(folder.join(file), template.replace("nodepool-0", "nodepool-overridden"))?;
    let rendered = generate(bed, ("over", "default"), "", (1, 1), &[]).await;
    fs::remove_dir_all(&folder)?;
    ensure!(rendered?.contains("nodepool-overridden"), "K-101: the override was not read");
    Ok(())
}

/// A running cluster, shown to its user.
pub async fn described(life: &Life<'_>, cluster: &str) -> Result<()> {
    let machines = life.site.list(METAL3_MACHINE).await?;
    wait_for(format_args!("K-119: describe of {cluster} with our objects Ready"), BOUND, async || {
        let tree = describe(life.bed, &life.site, cluster).await?;
        let there = |kind: &str, name: &str| format!("{kind} {}/{name}", life.site.namespace);
        let mut wanted: Vec<_> = machines.iter().map(|machine| there("Metal3Machine", name(machine))).collect();
        wanted.push(there("Metal3Cluster", cluster));
        let ready = |object: &String| says(&tree, object, ["Ready", "True"]);
        Ok(if wanted.iter().all(ready) { Seen::Done(()) } else { Seen::Not(tree) })
    })
    .await
}

/// Whether clusterctl's tree shows `object` with a condition of this name and status: its conditions are the lines below it.
fn says(tree: &str, object: &str, condition: [&str; 2]) -> bool {
    let below = tree.lines().skip_while(|line| !line.contains(object)).skip(1);
    let words = below.map(|line| line.split(|c: char| " │├└─".contains(c)).filter(|word| !word.is_empty()));
    let words = words.map(|mut words| [words.next().unwrap_or_default(), words.next().unwrap_or_default()]);
    words.take_while(|[_, status]| ["True", "False", "Unknown"].contains(status)).any(|found| found == condition)
}

/// What must lie untouched while providers come and go: every host, every object of ours, each Machine's identity.
#[derive(PartialEq, Eq)]
struct Untouched(BTreeMap<String, Value>);

impl Untouched {
    async fn look(life: &Life<'_>) -> Result<Untouched> {
        let mut all = BTreeMap::new();
        for kind in OURS.into_iter().chain([HOST]) {
            for object in life.site.list(kind).await? {
                all.insert(format!("{} {}", text(&object, "/kind"), name(&object)), object);
            }
        }
        for machine in life.site.list(MACHINE).await? {
            let identity =
                json!([machine["metadata"]["uid"], machine["spec"]["providerID"], machine["status"]["nodeRef"]]);
            all.insert(format!("Machine {}", name(&machine)), identity);
        }
        Ok(Untouched(all))
    }

    /// Fails with the first thing that is not as it was.
    async fn still(&self, life: &Life<'_>) -> Result<()> {
        let now = Untouched::look(life).await?;
        for (what, before) in &self.0 {
            let after = now.0.get(what).with_context(|| format!("K-126: {what} is gone"))?;
            let changed = lacking(before, after).or_else(|| lacking(after, before));
            ensure!(changed.is_none(), "K-126: {what} was touched at {}", changed.unwrap_or_default());
        }
        let new: Vec<_> = now.0.keys().filter(|what| !self.0.contains_key(*what)).collect();
        ensure!(new.is_empty(), "K-126: {new:?} came out of nowhere");
        Ok(())
    }
}

/// Deleted, the providers leave definitions, objects and hosts; an older release that is installed then takes them over.
pub async fn deleted_and_adopted(life: &Life<'_>, upgrade: &Upgrade) -> Result<()> {
    let (bed, before) = (life.bed, Untouched::look(life).await?);
    releases::clusterctl(bed, &[&["delete"][..], &BOTH].concat(), &[]).await?;
    for provider in PROVIDERS {
        let there = Site { client: bed.client.clone(), namespace: provider.namespace.to_owned() };
        wait_for(format_args!("K-118: nothing of {} to run", provider.label), BOUND, async || {
            let pods = there.list(POD).await?.len();
            let deployments = there.list(DEPLOYMENT).await?.len();
            Ok(if pods + deployments == 0 { Seen::Done(()) } else { Seen::Not(format!("{pods} Pods")) })
        })
        .await?;
        ensure!(there.get(PROVIDER, provider.label).await?.is_none(), "K-118: {} is still listed", provider.label);
    }
    before.still(life).await.context("K-118: while no provider was there")?;

    let older = Upgrade::both(&upgrade.old);
    upgrade.clusterctl(bed, &words(&["init", "--wait-providers"], &older)).await?;
    inventory(bed, &PROVIDERS.map(|provider| (provider, upgrade.old.as_str()))).await?;
    adopted(life, &before).await
}

/// The managers have seen all there is and changed nothing.
async fn adopted(life: &Life<'_>, before: &Untouched) -> Result<()> {
    for provider in PROVIDERS {
        let there = Site { client: life.bed.client.clone(), namespace: provider.namespace.to_owned() };
        led(&there, provider).await?;
    }
    life.rests(Duration::from_secs(4)).await?;
    before.still(life).await
}

/// Some process leads.
async fn led(there: &Site, provider: Provider) -> Result<()> {
    wait_for(format_args!("K-144: a leader of {}", provider.label), BOUND, async || {
        let lease = there.get(LEASE, provider.lease).await?.context("no Lease")?;
        let pods = there.list(POD).await?;
        let holder = text(&lease, "/spec/holderIdentity");
        let alive = pods.iter().any(|pod| holder.starts_with(name(pod)));
        Ok(if alive { Seen::Done(()) } else { Seen::Not(format!("held by {holder:?}")) })
    })
    .await
}

/// IPAM goes first and alone; infrastructure does not notice.
pub async fn ipam_alone(life: &Life<'_>, upgrade: &Upgrade) -> Result<()> {
    let (bed, before) = (life.bed, Untouched::look(life).await?);
    let holder = holder(bed, INFRASTRUCTURE).await?;
    let version = format!("metal3:{}", upgrade.new);
    let arguments = ["upgrade", "apply", "--ipam", &version, "--wait-providers"];
    upgrade_watched(upgrade, bed, &arguments, IPAM).await?;
    inventory(bed, &[(INFRASTRUCTURE, &upgrade.old), (IPAM, &upgrade.new)]).await?;
    let now = self::holder(bed, INFRASTRUCTURE).await?;
    ensure!(now == holder, "E-36: infrastructure was led by {holder} and is led by {now}");
    adopted(life, &before).await
}

/// The rest follows: what clusterctl plans, it does, and nothing of the older release stays.
pub async fn upgraded(life: &Life<'_>, upgrade: &Upgrade) -> Result<()> {
    let (bed, before) = (life.bed, Untouched::look(life).await?);
    let plan = upgrade.clusterctl(bed, &["upgrade", "plan"]).await?;
    let line = plan.lines().find(|line| line.starts_with(INFRASTRUCTURE.label)).unwrap_or_default();
    ensure!(line.contains(&upgrade.old) && line.contains(&upgrade.new), "K-121: the plan is\n{plan}");
    let arguments = ["upgrade", "apply", "--contract", "v1beta2", "--wait-providers"];
    upgrade_watched(upgrade, bed, &arguments, INFRASTRUCTURE).await?;
    inventory(bed, &PROVIDERS.map(|provider| (provider, upgrade.new.as_str()))).await?;
    as_released(bed, &[]).await?;
    for provider in PROVIDERS {
        let there = Site { client: bed.client.clone(), namespace: provider.namespace.to_owned() };
        let old = only_in_older(provider);
        ensure!(there.get(CONFIG_MAP, &old).await?.is_none(), "K-121: {old} has survived the upgrade");
    }
    adopted(life, &before).await
}

/// Upgrades, and sees the provider's lease change hands.
async fn upgrade_watched(upgrade: &Upgrade, bed: &Bed, arguments: &[&str], provider: Provider) -> Result<()> {
    tokio::try_join!(Box::pin(upgrade.clusterctl(bed, arguments)), Box::pin(handed_over(bed, provider))).map(|_| ())
}

/// After the upgrade the cluster goes on: a worker comes and goes, and those that were there stay.
pub async fn goes_on(life: &Life<'_>, cluster: &str) -> Result<()> {
    let names = async || -> Result<BTreeSet<String>> {
        let machines = life.site.list(MACHINE).await?;
        Ok(machines.iter().map(|machine| text(machine, "/metadata/uid").to_owned()).collect())
    };
    let before = names().await?;
    life.scale(MACHINE_DEPLOYMENT, cluster, 2).await?;
    life.running(cluster, before.len() + 1).await?;
    ensure!(before.is_subset(&names().await?), "K-126: a machine was replaced");
    life.scale(MACHINE_DEPLOYMENT, cluster, 1).await?;
    life.running(cluster, before.len()).await?;
    life.settled(cluster, before.len()).await
}

fn leases(bed: &Bed, provider: Provider) -> Api<v1::Lease> {
    Api::namespaced(bed.client.clone(), provider.namespace)
}

fn held_by(lease: &v1::Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

async fn holder(bed: &Bed, provider: Provider) -> Result<String> {
    Ok(held_by(&leases(bed, provider).get(provider.lease).await?).to_owned())
}

/// Watches the lease until another process holds it; the one before must have given it back (K-122: nobody waits for it to
/// run out).
async fn handed_over(bed: &Bed, provider: Provider) -> Result<()> {
    let leases = leases(bed, provider);
    let lease = leases.get(provider.lease).await?;
    let (before, version) = (held_by(&lease).to_owned(), lease.resource_version().unwrap_or_default());
    let watching = async {
        let only = WatchParams::default().fields(&format!("metadata.name={}", provider.lease));
        let mut changes = std::pin::pin!(leases.watch(&only, &version).await?);
        let mut released = false;
        while let Some(change) = changes.try_next().await? {
            let (WatchEvent::Added(lease) | WatchEvent::Modified(lease)) = change else { continue };
            match held_by(&lease) {
                "" => released = true,
                holder if holder != before => {
                    ensure!(released, "K-122: {holder} holds {}, which {before} had not given back", provider.lease);
                    return Ok(());
                }
                _ => {}
            }
        }
        bail!("the watch of {} ended", provider.lease)
    };
    tokio::time::timeout(BOUND, watching).await.with_context(|| format!("{} was not handed over", provider.lease))?
}

/// Definitions go only when no object is left, and then everything goes.
pub async fn uninstalled(bed: &Bed) -> Result<()> {
    let left = namespaces_of_ours(bed).await?;
    ensure!(!left.is_empty(), "there is no object of ours that could be in the way");
    let said = releases::refused(bed, &[&["delete", "--include-crd"][..], &BOTH].concat(), &[]).await?;
    ensure!(said.contains("existing objects"), "K-118: refused with {said:?}");
    let version = releases::version(&bed.paths)?;
    inventory(bed, &PROVIDERS.map(|provider| (provider, version.as_str()))).await.context("after a refusal")?;
    for namespace in left {
        Site { client: bed.client.clone(), namespace }.remove_namespace().await?;
    }
    uninstall(bed, PROVIDERS.map(|provider| provider.namespace)).await
}

/// Takes the providers away with their definitions, and the namespaces they are in with the last of them. One after the other:
/// clusterctl reads what there is to delete kind by kind, and fails over a kind that is just going.
async fn uninstall(bed: &Bed, [infrastructure, ipam]: [&str; 2]) -> Result<()> {
    for (provider, namespace, last) in [(INFRASTRUCTURE, infrastructure, infrastructure != ipam), (IPAM, ipam, true)] {
        let with = ["--include-crd", "--include-namespace"];
        let with = if last { &with[..] } else { &with[..1] };
        releases::clusterctl(bed, &[&["delete", provider.flag, "metal3"], with].concat(), &[]).await?;
        gone(bed, provider, last.then_some(namespace)).await?;
    }
    Ok(())
}

async fn namespaces_of_ours(bed: &Bed) -> Result<BTreeSet<String>> {
    let mut namespaces = BTreeSet::new();
    for kind in OURS {
        let objects = everywhere(&bed.client, kind).await?;
        namespaces.extend(objects.iter().map(|object| text(object, "/metadata/namespace").to_owned()));
    }
    Ok(namespaces)
}

/// Waits until neither a definition of the provider nor its namespace is left.
async fn gone(bed: &Bed, provider: Provider, namespace: Option<&str>) -> Result<()> {
    wait_for(format_args!("E-36: the definitions of {} gone", provider.label), BOUND, async || {
        let definitions = everywhere(&bed.client, DEFINITION).await?;
        let label = |object: &&Value| object["metadata"]["labels"]["cluster.x-k8s.io/provider"] == provider.label;
        let mut left: Vec<_> = definitions.iter().filter(label).map(name).collect();
        let all = everywhere(&bed.client, NAMESPACE).await?;
        left.extend(all.iter().map(name).filter(|name| Some(*name) == namespace));
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::Not(left.join(", ")) })
    })
    .await
}

const ELSEWHERE: &str = "elsewhere";

/// Both providers in a namespace that is not theirs: certificates, admission, conversion, leases and controllers follow.
pub async fn elsewhere(bed: &Bed) -> Result<()> {
    let target = ["--target-namespace", ELSEWHERE];
    releases::clusterctl(bed, &[&["init", "--wait-providers"][..], &BOTH, &target].concat(), &[]).await?;
    let version = releases::version(&bed.paths)?;
    inventory(bed, &PROVIDERS.map(|provider| (provider, version.as_str()))).await?;
    as_released(bed, &target).await?;
    let there = Site { client: bed.client.clone(), namespace: ELSEWHERE.to_owned() };
    for provider in PROVIDERS {
        ensure!(there.get(PROVIDER, provider.label).await?.is_some(), "K-109: {} is not listed there", provider.label);
        led(&there, provider).await.context("K-109")?;
    }
    works(bed, "elsewhere-machines").await.context("K-109")
}

/// Both providers from the files for managers that sign their own certificates: nobody else issues any, and nothing is missing.
pub async fn self_signed(bed: &Bed) -> Result<()> {
    uninstall(bed, [ELSEWHERE; 2]).await?;
    let config = releases::self_signed(&bed.paths).display().to_string();
    let config = ["--config", &config];
    releases::clusterctl(bed, &[&["init", "--wait-providers"][..], &BOTH, &config].concat(), &[]).await?;
    let version = releases::version(&bed.paths)?;
    inventory(bed, &PROVIDERS.map(|provider| (provider, version.as_str()))).await?;
    as_released(bed, &config).await?;
    for provider in PROVIDERS {
        let there = Site { client: bed.client.clone(), namespace: provider.namespace.to_owned() };
        let foreign = there.list(CERTIFICATE).await?;
        ensure!(foreign.is_empty(), "{} has a Certificate: {foreign:?}", provider.label);
        led(&there, provider).await?;
    }
    works(bed, "self-signed-machines").await
}

/// Admission refuses, conversion converts, a machine gets its host and gives it back.
async fn works(bed: &Bed, namespace: &str) -> Result<()> {
    let loose = Loose::new(bed, namespace).await?;
    let site = loose.site();
    answers(site).await?;
    loose.cluster().await?;
    for (kind, object) in host("spare", &json!({})) {
        site.create(kind, object).await?;
    }
    loose.life.hosts_in("available", 1).await?;
    loose.machine("moved", json!({})).await?;
    loose.provisioned("moved").await?;
    let hosts = site.list(HOST).await?;
    ensure!(hosts.iter().filter_map(consumer).eq(["moved".to_owned()]), "the host is not held by its machine");
    loose.remove("moved").await?;
    loose.life.hosts_in("available", 1).await?;
    site.remove_namespace().await
}

/// Admission says what is wrong with an object, in either version; conversion shows one in the other.
async fn answers(site: &Site) -> Result<()> {
    let nowhere = json!({"metadata": {"name": "nowhere"}, "spec": {"controlPlaneEndpoint": {"host": "", "port": 0}}});
    for kind in [METAL3_CLUSTER, METAL3_CLUSTER.older()] {
        match site.create(kind, nowhere.clone()).await {
            Ok(()) => bail!("a Metal3Cluster without a host was accepted"),
            Err(error) => ensure!(format!("{error:#}").contains("controlPlaneEndpoint"), "refused with {error:#}"),
        }
    }
    let image = json!({"url": "http://198.51.100.5/a", "checksum": "abc", "checksumType": "sha256", "format": "qcow2"});
    let template = json!({"metadata": {"name": "old"}, "spec": {"template": {"spec": {"image": image}}}});
    site.create(METAL3_MACHINE_TEMPLATE.older(), template).await?;
    let new = site.get(METAL3_MACHINE_TEMPLATE, "old").await?.context("the template is gone")?;
    let format = text(&new, "/spec/template/spec/image/diskFormat");
    ensure!(format == "qcow2", "converted to {}", new["spec"]);
    site.delete(METAL3_MACHINE_TEMPLATE, "old").await
}

#[cfg(test)]
mod tests {
    use super::says;

    #[test]
    fn conditions_are_the_lines_below_an_object() {
        let tree = "\
├─Metal3Cluster metal3/a                                  
│             ├─Ready              True   Ready    3m     
│             └─Paused             False  NotPaused  3m   
└─Machine metal3/b                 1   1               
              └─Available          True   Available  2m   ";
        assert!(says(tree, "Metal3Cluster metal3/a", ["Ready", "True"]));
        assert!(says(tree, "Metal3Cluster metal3/a", ["Paused", "False"]));
        assert!(!says(tree, "Metal3Cluster metal3/a", ["Available", "True"]));
        assert!(!says(tree, "Metal3Cluster metal3/c", ["Ready", "True"]));
    }
}
