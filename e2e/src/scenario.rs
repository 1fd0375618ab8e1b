//! What the bed's test asserts, scenario by scenario (docs/spec/e2e-scenarios.md names them). Each step needs the ones before it,
//! so the first failure ends the run and the steps not reached count as failed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::demo::{Phases, show, tell};
use crate::further::Further;
use crate::kube::{Seen, apply, dry_run, wait_for};
use crate::life::{ENDPOINT, Life, consumer, host, image};
use crate::managers::Manager;
use crate::site::*;
use crate::summary::Window;
use crate::view::condition;

const SHORT: Duration = Duration::from_secs(90);

/// The steps before the further scenarios and after them, in order. A step's name is its row.
const FIRST: [&str; 11] = [
    "K-117 clusterctl init installs our providers and they become Available",
    "the management node: logs and exec reach a manager, an unknown image is a pull error",
    "hosts are registered, inspected and available (E-0.8)",
    "K-158 both flavours pass a server-side dry run, in either API version",
    "E-1 a cluster with 1 control plane and 2 workers comes up",
    "a settled cluster costs no request (P4)",
    "E-11 scale up, the infrastructure manager killed while it provisions",
    "E-30 scale down, both managers killed while they delete",
    "bad input: no host fits, a host that fails, a refused image",
    "bad input: an empty pool",
    "bad input: a missing Secret",
];
const LAST: &str = "deletion leaves nothing and frees every host (E-0.10)";

/// Runs all steps; the last line says how many passed.
pub async fn run(bed: &Bed, all: bool) -> Result<()> {
    let further = if all { Further::ALL.to_vec() } else { Further::slice(commits(bed)) };
    let rows = FIRST.into_iter().chain(further.iter().map(|scenario| scenario.row())).chain([LAST]).collect();
    let mut run = Run { bed, phases: Phases::default(), rows, passed: 0 };
    run.phases.add("management cluster", bed.console.elapsed());
    let result = run.steps(&further).await;
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
        let result = show(self.bed, site, &mut self.phases, self.rows[self.passed], work).await?;
        self.passed += 1;
        Ok(result)
    }

    async fn steps(&mut self, further: &[Further]) -> Result<()> {
        let bed = self.bed;
        let life = Life::new(bed, "metal3");
        let site = life.site.clone();
        self.step(&site, installed(bed)).await?;
        self.step(&site, node_answers(bed)).await?;
        self.step(&site, life.rack(0..5)).await?;
        self.step(&site, dry_runs(&life)).await?;

        let from = bed.audit_mark();
        self.step(&site, async {
            life.create("test1", 1, 2).await?;
            life.running("test1", 3).await?;
            life.settled("test1", 3).await
        })
        .await?;
        let created = Window { from, to: bed.audit_mark(), machines: 3 };
        let idle = self.step(&site, quiet(&life)).await?;
        self.step(&site, scale_up_with_a_crash(&life)).await?;
        let from = bed.audit_mark();
        self.step(&site, scale_down_with_crashes(&life)).await?;
        let deleted = Window { from, to: bed.audit_mark(), machines: 2 };

        let bad = Bad { life: Life::new(bed, "bad-input") };
        let bad_site = bad.life.site.clone();
        self.step(&bad_site, bad.hosts()).await?;
        self.step(&bad_site, bad.empty_pool()).await?;
        self.step(&bad_site, bad.missing_secret()).await?;

        for scenario in further {
            self.step(&site, scenario.run(&life, "test1")).await?;
        }
        self.step(&site, async {
            life.delete("test1").await?;
            life.hosts_in("available", 5).await
        })
        .await?;
        let figures = bed.figures(created, Some(deleted), Some(idle))?;
        tell(bed, &figures, &self.phases);
        bed.write_summary(&figures, &self.phases)
    }
}

/// Admission and conversion answer for every object of both flavours; nothing is stored.
async fn dry_runs(life: &Life<'_>) -> Result<()> {
    for flavor in ["", "development"] {
        let rendered = life.generate("dry", flavor, 1, 1).await?;
        ensure!(
            rendered.contains("v1beta1") == flavor.is_empty(),
            "flavour {flavor:?} is not in the version it should be"
        );
        dry_run(&life.site.client, &rendered).await.with_context(|| format!("dry run of flavour {flavor:?}"))?;
    }
    Ok(())
}

/// The inventory names both providers, and every Deployment is Available.
async fn installed(bed: &Bed) -> Result<()> {
    bed.install().await?;
    let providers = everywhere(&bed.client, PROVIDER).await?;
    for wanted in ["infrastructure-metal3", "ipam-metal3"] {
        ensure!(providers.iter().any(|provider| name(provider) == wanted), "no Provider {wanted} in the inventory");
    }
    for deployment in everywhere(&bed.client, DEPLOYMENT).await? {
        let available = condition(&deployment, "Available");
        ensure!(available.is_some_and(|(status, _)| status == "True"), "{} is {available:?}", name(&deployment));
    }
    Ok(())
}

/// What a kubelet and its runtime owe whoever looks at a Pod.
async fn node_answers(bed: &Bed) -> Result<()> {
    const MANAGER: [&str; 3] = ["--namespace", "capm3-system", "deployment/capm3-controller-manager"];
    wait_for("the manager's log through the kubelet", SHORT, async || {
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
    wait_for("a pull error", SHORT, async || {
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

/// Once all has come to rest, neither manager sends anything but its lease for half a minute.
async fn quiet(life: &Life<'_>) -> Result<Window> {
    const SETTLING: Duration = Duration::from_secs(10);
    let rest = Duration::from_secs(30);
    wait_for("the managers to come to rest", SHORT, async || {
        let from = life.bed.audit_mark();
        tokio::time::sleep(SETTLING).await; // what is waited for is that nothing happens
        let requests = life.bed.requests(from, life.bed.audit_mark())?;
        Ok(if requests.is_empty() { Seen::Done(()) } else { Seen::Not(format!("{requests:?}")) })
    })
    .await?;
    let from = life.bed.audit_mark();
    let before = life.site.list(METAL3_MACHINE).await?;
    tokio::time::sleep(rest).await; // what is waited for is that nothing happens
    let idle = Window { from, to: life.bed.audit_mark(), machines: before.len() };
    let requests = life.bed.requests(idle.from, idle.to)?;
    let after = life.site.list(METAL3_MACHINE).await?;
    ensure!(before == after, "a Metal3Machine changed at rest");
    ensure!(requests.is_empty(), "requests at rest: {requests:?}");
    Ok(idle)
}

async fn scale_up_with_a_crash(life: &Life<'_>) -> Result<()> {
    life.scale(MACHINE_DEPLOYMENT, "test1", 3).await?;
    wait_for("a host being provisioned", SHORT, async || {
        let hosts = life.site.list(HOST).await?;
        let busy = hosts.iter().any(|host| text(host, "/status/provisioning/state") == "provisioning");
        Ok(if busy { Seen::Done(()) } else { Seen::Not("none".to_owned()) })
    })
    .await?;
    Manager::Infrastructure.kill()?;
    life.running("test1", 4).await?;
    life.settled("test1", 4).await
}

async fn scale_down_with_crashes(life: &Life<'_>) -> Result<()> {
    life.scale(MACHINE_DEPLOYMENT, "test1", 1).await?;
    wait_for("a Metal3Machine being deleted", SHORT, async || {
        let machines = life.site.list(METAL3_MACHINE).await?;
        let deleting = machines.iter().any(|m| m.pointer("/metadata/deletionTimestamp").is_some());
        Ok(if deleting { Seen::Done(()) } else { Seen::Not(format!("{} machines, none deleting", machines.len())) })
    })
    .await?;
    Manager::Infrastructure.kill()?;
    Manager::Ipam.kill()?;
    life.running("test1", 2).await?;
    life.hosts_in("available", 3).await?;
    wait_for("two machines' addresses and nothing more", SHORT, async || {
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

/// Machines with bootstrap data of their own, in a namespace of their own: nothing here joins a cluster.
struct Bad<'a> {
    life: Life<'a>,
}

impl Bad<'_> {
    fn site(&self) -> &Site {
        &self.life.site
    }

    async fn cluster(&self) -> Result<()> {
        let endpoint = json!({"host": ENDPOINT, "port": 7443});
        self.site()
            .create(METAL3_CLUSTER, json!({"metadata": {"name": "bad"}, "spec": {"controlPlaneEndpoint": endpoint}}))
            .await?;
        let reference = json!({"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "Metal3Cluster", "name": "bad"});
        self.site()
            .create(CLUSTER, json!({"metadata": {"name": "bad"}, "spec": {"infrastructureRef": reference}}))
            .await?;
        let boot = json!({"metadata": {"name": "boot"}, "stringData": {"value": "#cloud-config\n{}\n", "format": "cloud-config"}});
        self.site().create(SECRET, boot).await
    }

    async fn machine(&self, machine: &str, spec: Value) -> Result<()> {
        let labels = json!({"cluster.x-k8s.io/cluster-name": "bad"});
        let metadata = json!({"name": machine, "labels": labels});
        let mut wanted = json!({"image": good_image()});
        merge(&mut wanted, spec);
        self.site().create(METAL3_MACHINE, json!({"metadata": metadata, "spec": wanted})).await?;
        let reference =
            json!({"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "Metal3Machine", "name": machine});
        let spec =
            json!({"clusterName": "bad", "bootstrap": {"dataSecretName": "boot"}, "infrastructureRef": reference});
        self.site().create(MACHINE, json!({"metadata": metadata, "spec": spec})).await
    }

    async fn remove(&self, machine: &str) -> Result<()> {
        self.site().delete(MACHINE, machine).await?;
        wait_for(format_args!("machine {machine} gone"), SHORT, async || {
            Ok(match self.site().get(METAL3_MACHINE, machine).await? {
                None => Seen::Done(()),
                Some(left) => Seen::Not(left["status"].to_string()),
            })
        })
        .await
    }

    /// Waits until some condition of the machine says all of `words`.
    async fn says(&self, machine: &str, words: &[&str]) -> Result<()> {
        wait_for(format_args!("{machine} to say {words:?}"), SHORT, async || {
            let found = self.site().get(METAL3_MACHINE, machine).await?.context("no such Metal3Machine")?;
            let conditions = found.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
            let messages: Vec<_> =
                conditions.iter().filter(|c| text(c, "/status") != "True").map(|c| text(c, "/message")).collect();
            let said = messages.iter().any(|message| words.iter().all(|word| message.contains(word)));
            Ok(if said { Seen::Done(()) } else { Seen::Not(format!("{messages:?}")) })
        })
        .await
    }

    async fn provisioned(&self, machine: &str) -> Result<()> {
        wait_for(format_args!("the host of {machine} provisioned"), SHORT, async || {
            let hosts = self.site().list(HOST).await?;
            let host = hosts.iter().find(|host| consumer(host).as_deref() == Some(machine));
            Ok(match host.map(|host| text(host, "/status/provisioning/state")) {
                Some("provisioned") => Seen::Done(()),
                other => Seen::Not(format!("host state {other:?}")),
            })
        })
        .await
    }

    async fn hosts(&self) -> Result<()> {
        apply(&self.site().client, "apiVersion: v1\nkind: Namespace\nmetadata: {name: bad-input}\n").await?;
        self.cluster().await?;
        for (kind, object) in host("bad-0", &json!({})) {
            self.site().create(kind, object).await?;
        }
        self.life.hosts_in("available", 1).await?;

        self.machine("picky", json!({"hostSelector": {"matchLabels": {"rack": "gold"}}})).await?;
        self.says("picky", &["none of 1 BareMetalHosts fits", "labels", "bad-0"]).await?;
        self.site().patch(HOST, "bad-0", json!({"metadata": {"labels": {"rack": "gold"}}})).await?;
        self.provisioned("picky").await?;
        self.remove("picky").await?;
        self.life.hosts_in("available", 1).await?;

        let fail = |how: Value| json!({"metadata": {"annotations": {capm3_sim::host::FAIL: how}}});
        self.site().patch(HOST, "bad-0", fail(json!("provisioning"))).await?;
        self.machine("unlucky", json!({})).await?;
        self.says("unlucky", &["bad-0", "provisioning"]).await?;
        self.site().patch(HOST, "bad-0", fail(Value::Null)).await?;
        self.provisioned("unlucky").await?;
        self.remove("unlucky").await?;
        self.life.hosts_in("available", 1).await?;

        let refused =
            json!({"url": "ftp:/no-such-place", "checksum": "0000", "checksumType": "sha256", "diskFormat": "raw"});
        self.machine("refused", json!({"image": refused})).await?;
        self.says("refused", &["bad-0", "ftp:/no-such-place"]).await?;
        self.remove("refused").await?;
        self.life.hosts_in("available", 1).await
    }

    async fn empty_pool(&self) -> Result<()> {
        let pool = json!({"metadata": {"name": "dry"}, "spec": {"namePrefix": "dry", "prefix": 24, "pools": []}});
        self.site().create(IP_POOL, pool).await?;
        let addresses = json!({"ipAddressesFromPool": [{"key": "ip", "name": "dry"}]});
        let template = json!({"metadata": {"name": "thirsty"}, "spec": {"metaData": addresses}});
        self.site().create(METAL3_DATA_TEMPLATE, template).await?;
        self.machine("thirsty", json!({"dataTemplate": {"name": "thirsty"}})).await?;
        self.says("thirsty", &["dry", "Exhausted IP Pools"]).await?;
        let range = json!([{"start": "192.0.2.200", "end": "192.0.2.200"}]);
        self.site().patch(IP_POOL, "dry", json!({"spec": {"pools": range}})).await?;
        self.provisioned("thirsty").await?;
        self.remove("thirsty").await?;
        self.life.hosts_in("available", 1).await?;
        wait_for("the address to be free again", SHORT, async || {
            let left = self.site().list(IP_ADDRESS).await?;
            Ok(if left.is_empty() { Seen::Done(()) } else { Seen::Not(format!("{} addresses", left.len())) })
        })
        .await
    }

    async fn missing_secret(&self) -> Result<()> {
        self.machine("secretless", json!({"networkData": {"name": "no-such-secret"}})).await?;
        self.says("secretless", &["no-such-secret"]).await?;
        let network = json!({"metadata": {"name": "no-such-secret"}, "stringData": {"networkData": "links: []\nnetworks: []\nservices: []\n"}});
        self.site().create(SECRET, network).await?;
        self.provisioned("secretless").await?;
        self.remove("secretless").await?;
        self.life.hosts_in("available", 1).await
    }
}

fn good_image() -> Value {
    let url = image("v1.36.3");
    json!({"url": url, "checksum": format!("{url}.sha256sum"), "checksumType": "sha256", "diskFormat": "raw"})
}

/// Puts the fields of `with` over those of `into`.
fn merge(into: &mut Value, with: Value) {
    if let (Some(into), Value::Object(with)) = (into.as_object_mut(), with) {
        into.extend(with);
    }
}
