//! What the bed's test asserts, scenario by scenario (docs/spec/e2e-scenarios.md names them). Each step needs the ones before it,
//! so the first failure ends the run and the steps not reached count as failed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::demo::{Phases, show, tell};
use crate::further::Further;
use crate::gitops::{self, Readers};
use crate::kube::{Seen, wait_for};
use crate::life::{BOUND, Life, consumer, host};
use crate::loose::Loose;
use crate::managers::Manager;
use crate::releases::Upgrade;
use crate::site::*;
use crate::summary::Window;
use crate::{bootstrap, documents, flavours, ipam, lifecycle, mixed};

/// The steps of every run, in order. A step's name is its row.
const CORE: [&str; 19] = [
    "K-117 clusterctl init installs our providers, once and as released; they become Available",
    "the management node: logs and exec reach a manager, an unknown image is a pull error",
    "cloud-init and netplan read every golden document as it is meant; kubeadm and Ignition, what is made of each template",
    "hosts are registered, inspected and available (E-0.8)",
    "K-116 clusterctl reads our releases",
    "K-158 each flavour and class passes a server-side dry run, in either API version",
    "E-1 a cluster with 1 control plane and 2 workers comes up",
    "a settled cluster costs no request (P4)",
    "GitOps tools that apply the same manifest again, in either version, change nothing",
    "K-119 clusterctl describe shows our objects",
    "E-11 scale up, the infrastructure manager killed while it provisions",
    "E-30 scale down, both managers killed while they delete",
    "bad input: no host fits, a host that fails, a refused image",
    "bad input: an empty pool",
    "bad input: a missing Secret",
    "E-33 each kind is written and read in both versions; applied again, nothing changes",
    "E-15 an address for a claim of either kind, without a cluster, and both go",
    "E-16 addresses set aside, requested, exhausted, of several ranges, listed, and of a pool that is deleted",
    "K-113 flavours are created in any order, say what they wait for, and leave nothing",
];
/// Beside a running cluster.
const UPGRADE: [&str; 4] = [
    "K-118 deleted providers leave objects and hosts; an older release takes them over",
    "E-36 ipam is upgraded alone",
    "K-121 clusterctl upgrades the rest: leases are handed over, nothing is touched",
    "K-126 after the upgrade the cluster goes on",
];
const LAST: &str = "K-149 deletion leaves nothing and frees every host";
/// Only when all is asked for.
const CLASS: &str = "K-48 a cluster of a ClusterClass comes up, keeps its templates, and goes";
/// When no cluster is left.
const ELSEWHERE: [&str; 3] = [
    "E-36 definitions and namespaces go with the providers once no object is left",
    "K-109 both providers work in another namespace",
    "K-112 both providers work with certificates that they sign themselves",
];

/// What a run does beyond the core: all of it, or a slice that every commit moves on.
struct Choice {
    upgrade: bool,
    further: Vec<Further>,
    /// What takes long: every flavour, and a cluster of a class.
    whole: bool,
    elsewhere: bool,
}

impl Choice {
    fn slice(commits: usize) -> Choice {
        let upgrade = commits.is_multiple_of(2);
        Choice { upgrade, further: Further::slice(commits), whole: false, elsewhere: !upgrade }
    }

    fn all() -> Choice {
        Choice { upgrade: true, further: Further::ALL.to_vec(), whole: true, elsewhere: true }
    }

    fn rows(&self) -> Vec<&'static str> {
        let mut rows = CORE.to_vec();
        rows.extend(UPGRADE.iter().filter(|_| self.upgrade));
        rows.extend(self.further.iter().map(|scenario| scenario.row()));
        rows.push(LAST);
        rows.extend(Some(CLASS).filter(|_| self.whole));
        rows.extend(ELSEWHERE.iter().filter(|_| self.elsewhere));
        rows
    }
}

/// Runs all steps; the last line says how many passed.
pub async fn run(bed: &Bed, all: bool) -> Result<()> {
    let commits = commits(bed);
    let choice = if all { Choice::all() } else { Choice::slice(commits) };
    let mut run = Run { bed, phases: Phases::default(), rows: choice.rows(), passed: 0 };
    run.phases.add("management cluster", bed.console.elapsed());
    let result = Box::pin(run.steps(&choice, commits as u64)).await;
    if let (Err(error), Some(row)) = (&result, run.rows.get(run.passed)) {
        bed.console.step(format_args!("FAILED {row}: {error:#}"));
    }
    let failed = if result.is_ok() { 0 } else { (run.rows.len() - run.passed).max(1) };
    bed.console.line(format_args!("bed: {} passed, {failed} failed", run.passed));
    result
}

/// The number of commits, which chooses the slice; a checkout without history runs the first.
fn commits(bed: &Bed) -> usize {
    let git =
        std::process::Command::new("git").args(["rev-list", "--count", "HEAD"]).current_dir(&bed.paths.root).output();
    git.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok()).unwrap_or(0)
}

struct Run<'a> {
    bed: &'a Bed,
    phases: Phases,
    rows: Vec<&'static str>,
    passed: usize,
}

impl Run<'_> {
    async fn step<T>(&mut self, site: &Site, work: impl Future<Output = Result<T>>) -> Result<T> {
        let (bed, work) = (self.bed, Box::pin(work));
        let work = async {
            let done = work.await?;
            match bed.readers.get() {
                Some(readers) => readers.review().await.map(|()| done),
                None => Ok(done),
            }
        };
        let result = show(self.bed, site, &mut self.phases, self.rows[self.passed], work).await?;
        self.passed += 1;
        Ok(result)
    }

    async fn steps(&mut self, choice: &Choice, seed: u64) -> Result<()> {
        let bed = self.bed;
        let life = Life::new(bed, "metal3");
        let site = life.site.clone();
        let upgrade = Upgrade::make(&bed.paths)?;
        self.step(&site, async {
            bed.install().await?;
            lifecycle::installed(bed, &upgrade).await
        })
        .await?;
        let readers = Readers::start(bed)?;
        let readers = bed.readers.get_or_init(|| readers);
        self.step(&site, node_answers(bed)).await?;
        self.step(&site, async {
            documents::read(&bed.paths).await?;
            bootstrap::read(&bed.paths, &bed.tools).await
        })
        .await?;
        self.step(&site, life.rack(0..5)).await?;
        self.step(&site, async {
            lifecycle::generated(bed).await?;
            lifecycle::overridden(bed).await?;
            flavours::example(bed).await
        })
        .await?;
        self.step(&site, async {
            flavours::accepted(bed).await?;
            flavours::classes(bed).await
        })
        .await?;

        let from = bed.audit_mark();
        self.step(&site, async {
            life.create("test1", 1, 2).await?;
            life.running("test1", 3).await?;
            life.settled("test1", 3).await
        })
        .await?;
        let created = bed.since(from, 3)?;
        let idle = self.step(&site, quiet(&life)).await?;
        self.step(&site, gitops::applied_again(&life, readers, "test1", 2)).await?;
        self.step(&site, lifecycle::described(&life, "test1")).await?;
        self.step(&site, scale_up_with_a_crash(&life)).await?;
        let from = bed.audit_mark();
        self.step(&site, scale_down_with_crashes(&life)).await?;
        let deleted = Window { from, to: bed.audit_mark(), machines: 2 };

        let bad = Loose::new(bed, "bad-input").await?;
        self.step(bad.site(), no_host(&bad)).await?;
        self.step(bad.site(), empty_pool(&bad)).await?;
        self.step(bad.site(), missing_secret(&bad)).await?;
        self.step(&site, mixed::versions(bed)).await?;
        self.step(&site, ipam::basic(bed)).await?;
        self.step(&site, ipam::features(bed)).await?;
        self.step(&site, flavours::any_order(bed, seed, choice.whole)).await?;

        if choice.upgrade {
            self.step(&site, lifecycle::deleted_and_adopted(&life, &upgrade)).await?;
            self.step(&site, lifecycle::ipam_alone(&life, &upgrade)).await?;
            self.step(&site, lifecycle::upgraded(&life, &upgrade)).await?;
            self.step(&site, lifecycle::goes_on(&life, "test1")).await?;
        }
        for scenario in &choice.further {
            self.step(&site, scenario.run(&life, "test1")).await?;
        }
        self.step(&site, async {
            life.delete("test1").await?;
            for kind in [METAL3_DATA, METAL3_DATA_CLAIM] {
                let left = everywhere(&bed.client, kind).await?;
                ensure!(left.is_empty(), "K-149: {left:?}");
            }
            life.hosts_in("available", 5).await
        })
        .await?;
        let figures = bed.figures(created, Some(deleted), Some(idle))?;
        if choice.whole {
            self.step(&site, of_a_class(&life)).await?;
        }
        if choice.elsewhere {
            self.step(&site, lifecycle::uninstalled(bed)).await?;
            self.step(&site, lifecycle::elsewhere(bed)).await?;
            self.step(&site, lifecycle::self_signed(bed)).await?;
        }
        tell(bed, &figures, &self.phases);
        bed.write_summary(&figures, &self.phases)
    }
}

/// What a kubelet and its runtime owe whoever looks at a Pod.
async fn node_answers(bed: &Bed) -> Result<()> {
    const MANAGER: [&str; 3] = ["--namespace", "capm3-system", "deployment/capm3-controller-manager"];
    wait_for("the manager's log through the kubelet", BOUND, async || {
        let logs = kubectl(bed, &[&["logs"][..], &MANAGER].concat()).await?;
        Ok(if logs.contains("starting workers") { Seen::Done(()) } else { Seen::Not(logs) })
    })
    .await?;
    let help = kubectl(bed, &[&["exec"][..], &MANAGER, &["--", "/manager", "--help"]].concat()).await?;
    ensure!(help.contains("--leader-elect"), "exec of /manager --help answered {help:?}");

    let site = Site { client: bed.client.clone(), namespace: "default".to_owned() };
    let container = json!({"name": "nobody", "image": "registry.local/nobody/knows:1"});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0});
    site.create(POD, json!({"metadata": {"name": "nobody"}, "spec": spec})).await?;
    wait_for("a pull error", BOUND, async || {
        let pod = site.get(POD, "nobody").await?.context("no such Pod")?;
        let waiting = pod.pointer("/status/containerStatuses/0/state/waiting").cloned().unwrap_or_default();
        let said = waiting["message"].as_str().is_some_and(|message| message.contains("is not known to this node"));
        Ok(if said { Seen::Done(()) } else { Seen::Not(waiting.to_string()) })
    })
    .await?;
    site.delete(POD, "nobody").await
}

async fn kubectl(bed: &Bed, arguments: &[&str]) -> Result<String> {
    let mut command = tokio::process::Command::from(bed.programs.command(bed.tools.path("kubectl")?));
    command.arg("--kubeconfig").arg(bed.paths.kubeconfig()).args(arguments).stdin(std::process::Stdio::null());
    let output = command.output().await.context("start kubectl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Once all has come to rest, neither manager sends anything but its lease for half a minute. Rest is half a minute in which nothing
/// changes of what they look at: on a slow machine others may still be busy, and are answered.
async fn quiet(life: &Life<'_>) -> Result<Window> {
    life.rests(Duration::from_secs(10)).await?;
    let idle = wait_for("half a minute in which nothing changes", BOUND, async || {
        let (before, from) = (state(life).await?, life.bed.audit_mark());
        tokio::time::sleep(Duration::from_secs(30)).await; // what is waited for is that nothing happens
        let (to, after) = (life.bed.audit_mark(), state(life).await?);
        let changed: Vec<_> = after.difference(&before).chain(before.difference(&after)).collect();
        let machines = after.iter().filter(|(kind, ..)| *kind == METAL3_MACHINE.name()).count();
        Ok(if changed.is_empty() {
            Seen::Done(Window { from, to, machines })
        } else {
            Seen::Not(format!("{changed:?}"))
        })
    })
    .await?;
    let requests = life.bed.requests(idle.from, idle.to)?;
    ensure!(requests.is_empty(), "requests at rest: {requests:?}");
    Ok(idle)
}

/// Kind, name and resource version of all that the managers look at.
async fn state(life: &Life<'_>) -> Result<BTreeSet<(&'static str, String, String)>> {
    let mut state = BTreeSet::new();
    for kind in OURS.into_iter().chain([CLUSTER, MACHINE, HOST]) {
        let objects = life.site.list(kind).await?;
        let version = |object: &Value| text(object, "/metadata/resourceVersion").to_owned();
        state.extend(objects.iter().map(|object| (kind.name(), name(object).to_owned(), version(object))));
    }
    Ok(state)
}

async fn scale_up_with_a_crash(life: &Life<'_>) -> Result<()> {
    life.scale(MACHINE_DEPLOYMENT, "test1", 3).await?;
    // The claim stays, while the state in between may have passed before a slow machine looks.
    wait_for("a fourth host claimed", BOUND, async || {
        let claimed = life.site.list(HOST).await?.iter().filter_map(consumer).count();
        Ok(if claimed == 4 { Seen::Done(()) } else { Seen::Not(format!("{claimed} claimed")) })
    })
    .await?;
    Manager::Infrastructure.kill().await?;
    life.running("test1", 4).await?;
    life.settled("test1", 4).await
}

async fn scale_down_with_crashes(life: &Life<'_>) -> Result<()> {
    life.scale(MACHINE_DEPLOYMENT, "test1", 1).await?;
    wait_for("a Metal3Machine being deleted", BOUND, async || {
        let machines = life.site.list(METAL3_MACHINE).await?;
        let deleting = machines.iter().any(|m| m.pointer("/metadata/deletionTimestamp").is_some());
        Ok(if deleting || machines.len() < 4 {
            Seen::Done(())
        } else {
            Seen::Not(format!("{} machines, none deleting", machines.len()))
        })
    })
    .await?;
    Manager::Infrastructure.kill().await?;
    Manager::Ipam.kill().await?;
    life.running("test1", 2).await?;
    life.hosts_in("available", 3).await?;
    wait_for("two machines' addresses and nothing more", BOUND, async || {
        let world = match life.consistent().await {
            Ok(world) => world,
            Err(broken) => return Ok(Seen::Done(Err(broken))),
        };
        Ok(if world.addresses.len() == 4 && world.datas.len() == 2 {
            Seen::Done(Ok(()))
        } else {
            Seen::Not(format!("{} addresses, {} Metal3Data", world.addresses.len(), world.datas.len()))
        })
    })
    .await??;
    life.settled("test1", 2).await
}

/// One control plane and one worker of the class that the topology flavour brings along; no template is rotated meanwhile.
async fn of_a_class(life: &Life<'_>) -> Result<()> {
    life.create_as("topology", "classy", 1, 1).await?;
    life.running("classy", 2).await?;
    life.settled("classy", 2).await?;
    let templates = life.site.list(METAL3_MACHINE_TEMPLATE).await?;
    let made = templates.iter().filter(|template| name(template).starts_with("classy")).count();
    ensure!(made == 2, "K-48: {made} templates were made of two of the class");
    life.delete("classy").await?;
    life.hosts_in("available", 5).await
}

/// Machines that cannot have the host they ask for.
async fn no_host(loose: &Loose<'_>) -> Result<()> {
    loose.cluster().await?;
    for (kind, object) in host("bad-0", &json!({})) {
        loose.site().create(kind, object).await?;
    }
    loose.life.hosts_in("available", 1).await?;

    loose.machine("picky", json!({"hostSelector": {"matchLabels": {"rack": "gold"}}})).await?;
    loose.says("picky", &["none of 1 BareMetalHosts fits", "labels", "bad-0"]).await?;
    loose.site().patch(HOST, "bad-0", json!({"metadata": {"labels": {"rack": "gold"}}})).await?;
    loose.provisioned("picky").await?;
    loose.remove("picky").await?;
    loose.life.hosts_in("available", 1).await?;

    let fail = |how: Value| json!({"metadata": {"annotations": {capm3_sim::host::FAIL: how}}});
    loose.site().patch(HOST, "bad-0", fail(json!("provisioning"))).await?;
    loose.machine("unlucky", json!({})).await?;
    loose.says("unlucky", &["bad-0", "provisioning"]).await?;
    loose.site().patch(HOST, "bad-0", fail(Value::Null)).await?;
    loose.provisioned("unlucky").await?;
    loose.remove("unlucky").await?;
    loose.life.hosts_in("available", 1).await?;

    let refused =
        json!({"url": "ftp:/no-such-place", "checksum": "0000", "checksumType": "sha256", "diskFormat": "raw"});
    loose.machine("refused", json!({"image": refused})).await?;
    loose.says("refused", &["bad-0", "ftp:/no-such-place"]).await?;
    loose.remove("refused").await?;
    loose.life.hosts_in("available", 1).await
}

async fn empty_pool(loose: &Loose<'_>) -> Result<()> {
    let pool = json!({"metadata": {"name": "dry"}, "spec": {"namePrefix": "dry", "prefix": 24, "pools": []}});
    loose.site().create(IP_POOL, pool).await?;
    let addresses = json!({"ipAddressesFromPool": [{"key": "ip", "name": "dry"}]});
    let template = json!({"metadata": {"name": "thirsty"}, "spec": {"metaData": addresses}});
    loose.site().create(METAL3_DATA_TEMPLATE, template).await?;
    loose.machine("thirsty", json!({"dataTemplate": {"name": "thirsty"}})).await?;
    loose.says("thirsty", &["dry", "Exhausted IP Pools"]).await?;
    let range = json!([{"start": "192.0.2.200", "end": "192.0.2.200"}]);
    loose.site().patch(IP_POOL, "dry", json!({"spec": {"pools": range}})).await?;
    loose.provisioned("thirsty").await?;
    loose.remove("thirsty").await?;
    loose.life.hosts_in("available", 1).await?;
    wait_for("the address to be free again", BOUND, async || {
        let left = loose.site().list(IP_ADDRESS).await?;
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::Not(format!("{} addresses", left.len())) })
    })
    .await
}

async fn missing_secret(loose: &Loose<'_>) -> Result<()> {
    loose.machine("secretless", json!({"networkData": {"name": "no-such-secret"}})).await?;
    loose.says("secretless", &["no-such-secret"]).await?;
    let network = json!({"metadata": {"name": "no-such-secret"}, "stringData": {"networkData": "links: []\nnetworks: []\nservices: []\n"}});
    loose.site().create(SECRET, network).await?;
    loose.provisioned("secretless").await?;
    loose.remove("secretless").await?;
    loose.life.hosts_in("available", 1).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_commits_do_all_that_one_run_does() {
        let all = Choice::all().rows();
        let two: Vec<_> = [7, 8].into_iter().flat_map(|commits| Choice::slice(commits).rows()).collect();
        let further: Vec<_> = Further::ALL.iter().map(|scenario| scenario.row()).collect();
        assert!(all.iter().all(|row| two.contains(row) || further.contains(row) || *row == CLASS));
        assert!(Choice::slice(7).rows().len() < all.len());
    }
}
