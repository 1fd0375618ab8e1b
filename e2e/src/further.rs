//! Scenarios beyond the core run. Each starts from a running cluster with one control plane and one worker, and leaves one behind.
//!
//! The test runs a slice of them that changes with each commit, and all of them when asked to.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::killed;
use crate::kube::{Seen, wait_for};
use crate::life::{BOUND, Life, consumer, image};
use crate::site::*;
use crate::view::condition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Further {
    Pause,
    PowerOff,
    LostAnnotation,
    Rollout,
    ControlPlanes,
    Killed,
}

/// How many of them a run of the core scenarios includes.
const SLICE: usize = 2;

impl Further {
    pub const ALL: [Further; 6] = [
        Further::Pause,
        Further::PowerOff,
        Further::LostAnnotation,
        Further::Rollout,
        Further::ControlPlanes,
        Further::Killed,
    ];

    /// A slice that every commit moves on by one.
    pub fn slice(commits: usize) -> Vec<Further> {
        (0..SLICE).map(|n| Self::ALL[(commits + n) % Self::ALL.len()]).collect()
    }

    pub fn row(self) -> &'static str {
        match self {
            Further::Pause => {
                "A-P-4 a paused cluster pauses its hosts and keeps their status; unpaused, all is as before"
            }
            Further::PowerOff => "E-26 a worker held off by a reboot annotation comes back with its disk",
            Further::LostAnnotation => "N-4 a machine that lost its annotation finds its host again and takes no other",
            Further::Rollout => "E-6 workers roll out to another Kubernetes version",
            Further::ControlPlanes => "E-3 control planes scale from one to three and back",
            Further::Killed => "E-30 a machine comes and goes, both managers killed after each of their writes",
        }
    }

    pub async fn run(self, life: &Life<'_>, cluster: &str) -> Result<()> {
        match self {
            Further::Pause => pause(life, cluster).await,
            Further::PowerOff => power_off(life, cluster).await,
            Further::LostAnnotation => lost_annotation(life).await,
            Further::Rollout => rollout(life, cluster).await,
            Further::ControlPlanes => control_planes(life, cluster).await,
            Further::Killed => killed::every_write(life, cluster).await,
        }
    }
}

const PAUSED: &str = "baremetalhost.metal3.io/paused";
const STATUS: &str = "baremetalhost.metal3.io/status";
const BLOCK_MOVE: &str = "clusterctl.cluster.x-k8s.io/block-move";
const HOST_OF: &str = "metal3.io/BareMetalHost";

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"].get(key).and_then(Value::as_str)
}

async fn taken(life: &Life<'_>) -> Result<Vec<Value>> {
    Ok(life.site.list(HOST).await?.into_iter().filter(|host| consumer(host).is_some()).collect())
}

async fn pause(life: &Life<'_>, cluster: &str) -> Result<()> {
    let before = taken(life).await?;
    ensure!(before.iter().all(|host| annotation(host, BLOCK_MOVE).is_some()), "a claimed host without block-move");
    life.site.patch(CLUSTER, cluster, json!({"spec": {"paused": true}})).await?;
    wait_for("each host paused, with its status, free to move", BOUND, async || {
        for host in taken(life).await? {
            let status: Option<Value> = annotation(&host, STATUS).and_then(|text| serde_json::from_str(text).ok());
            let kept =
                status.is_some_and(|s| s.get("hardware").is_none() && s["provisioning"]["state"] == "provisioned");
            let free = annotation(&host, BLOCK_MOVE).is_none();
            if annotation(&host, PAUSED) != Some("metal3.io/capm3") || !kept || !free {
                return Ok(Seen::Not(format!("{}: {}", name(&host), host["metadata"]["annotations"])));
            }
        }
        Ok(Seen::Done(()))
    })
    .await?;
    wait_for("each machine to say that it is paused", BOUND, async || {
        for machine in life.site.list(METAL3_MACHINE).await? {
            let paused = condition(&machine, "Paused");
            if paused.is_none_or(|(status, _)| status != "True") {
                return Ok(Seen::Not(format!("{}: Paused is {paused:?}", name(&machine))));
            }
        }
        Ok(Seen::Done(()))
    })
    .await?;
    life.site.patch(CLUSTER, cluster, json!({"spec": {"paused": false}})).await?;
    wait_for("each host unpaused and held", BOUND, async || {
        for host in taken(life).await? {
            if annotation(&host, PAUSED).is_some() || annotation(&host, BLOCK_MOVE).is_none() {
                return Ok(Seen::Not(format!("{}: {}", name(&host), host["metadata"]["annotations"])));
            }
        }
        Ok(Seen::Done(()))
    })
    .await?;
    life.running(cluster, 2).await?;
    let spec = |hosts: &[Value]| hosts.iter().map(|host| host["spec"].clone()).collect::<Vec<_>>();
    ensure!(spec(&before) == spec(&taken(life).await?), "a pause changed the spec of a host");
    life.settled(cluster, 2).await
}

async fn power_off(life: &Life<'_>, cluster: &str) -> Result<()> {
    let worker = worker(life).await?;
    let host = taken(life).await?.into_iter().find(|host| consumer(host).as_deref() == Some(&worker));
    let host = host.map(|host| name(&host).to_owned()).context("the worker has no host")?;
    let held = |value: Value| json!({"metadata": {"annotations": {"reboot.metal3.io/test": value}}});
    let powered = async |on: bool| {
        wait_for(format_args!("{host} powered {}", if on { "on" } else { "off" }), BOUND, async || {
            let found = life.site.get(HOST, &host).await?.context("the host is gone")?;
            let now = found["status"]["poweredOn"].as_bool();
            Ok(if now == Some(on) { Seen::Done(()) } else { Seen::Not(format!("poweredOn {now:?}")) })
        })
        .await
    };
    let workload = Site { client: life.workload(cluster).await?, namespace: "kube-node-lease".to_owned() };
    let renewed = async || -> Result<String> {
        let lease = workload.get(LEASE, &worker).await?.context("the Node has no Lease")?;
        Ok(text(&lease, "/spec/renewTime").to_owned())
    };
    wait_for("the worker's first report", BOUND, async || Ok(Seen::Done(renewed().await?))).await?;
    life.site.patch(HOST, &host, held(json!(""))).await?;
    powered(false).await?;
    let last = renewed().await?;
    life.site.patch(HOST, &host, held(Value::Null)).await?;
    powered(true).await?;
    wait_for("the same kubelet to report again", BOUND, async || {
        let now = renewed().await?;
        Ok(if now > last { Seen::Done(()) } else { Seen::Not(format!("last report at {now}")) })
    })
    .await?;
    life.running(cluster, 2).await?;
    life.settled(cluster, 2).await
}

async fn lost_annotation(life: &Life<'_>) -> Result<()> {
    let worker = worker(life).await?;
    let before = life.site.get(METAL3_MACHINE, &worker).await?.context("the worker is gone")?;
    let host = annotation(&before, HOST_OF).context("the worker names no host")?.to_owned();
    life.site.patch(METAL3_MACHINE, &worker, json!({"metadata": {"annotations": {HOST_OF: null}}})).await?;
    wait_for(format_args!("{worker} to name {host} again"), BOUND, async || {
        let found = life.site.get(METAL3_MACHINE, &worker).await?.context("the worker is gone")?;
        Ok(match annotation(&found, HOST_OF) {
            Some(named) if named == host => Seen::Done(()),
            other => Seen::Not(format!("{other:?}")),
        })
    })
    .await?;
    life.consistent().await.map(|_| ())
}

async fn rollout(life: &Life<'_>, cluster: &str) -> Result<()> {
    let version = life.bed.tools.machine_versions().nth(1).context("the bed has one Kubernetes version")?.to_owned();
    let template =
        life.site.get(METAL3_MACHINE_TEMPLATE, &format!("{cluster}-workers")).await?.context("no template")?;
    let mut spec = template["spec"].clone();
    spec["template"]["spec"]["image"]["url"] = image(&version).into();
    let rolled = format!("{cluster}-workers-rolled");
    life.site.create(METAL3_MACHINE_TEMPLATE, json!({"metadata": {"name": rolled}, "spec": spec})).await?;
    let wanted = json!({"version": version, "infrastructureRef": {"name": rolled}});
    life.site.patch(MACHINE_DEPLOYMENT, cluster, json!({"spec": {"template": {"spec": wanted}}})).await?;
    wait_for(format_args!("a worker Node with kubelet {version}"), BOUND, async || {
        let machines = life.site.list(MACHINE).await?;
        let kubelets: Vec<_> = machines.iter().map(|m| text(m, "/status/nodeInfo/kubeletVersion")).collect();
        let done = machines.len() == 2 && kubelets.contains(&version.as_str());
        Ok(if done {
            Seen::Done(())
        } else {
            Seen::Not(format!("{} machines with kubelets {kubelets:?}", machines.len()))
        })
    })
    .await?;
    life.running(cluster, 2).await?;
    life.hosts_in("available", 3).await?;
    life.settled(cluster, 2).await
}

async fn control_planes(life: &Life<'_>, cluster: &str) -> Result<()> {
    life.scale(CONTROL_PLANE, cluster, 3).await?;
    life.running(cluster, 4).await?;
    life.settled(cluster, 4).await?;
    life.scale(CONTROL_PLANE, cluster, 1).await?;
    life.running(cluster, 2).await?;
    life.hosts_in("available", 3).await?;
    life.settled(cluster, 2).await
}

/// The one Metal3Machine that is no control plane.
async fn worker(life: &Life<'_>) -> Result<String> {
    let machines = life.site.list(METAL3_MACHINE).await?;
    let worker = machines.iter().find(|m| m["metadata"]["labels"].get("cluster.x-k8s.io/control-plane").is_none());
    worker.map(|machine| name(machine).to_owned()).context("no worker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_reached_by_some_commit() {
        for scenario in Further::ALL {
            assert!((0..Further::ALL.len()).any(|commits| Further::slice(commits).contains(&scenario)), "{scenario:?}");
        }
        assert_ne!(Further::slice(7), Further::slice(8));
    }
}
