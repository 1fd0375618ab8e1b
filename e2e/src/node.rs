//! The management node: the real kubelet over the bed's container runtime, whose containers are processes. Every pod has
//! an address of its own on the bridge. Which program stands for which image is [`images`]; an image that is not in it
//! is a pull error, as on a node without a registry.

use std::fs;

use anyhow::Result;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::kube::{Seen, wait_for};
use crate::life::BOUND;
use crate::management;
use crate::net::{BRIDGE, MANAGEMENT};
use crate::paths::Paths;
use crate::pki::Authority;
use crate::programs::Programs;
use crate::supervisor::RUN;
use crate::tools::Tools;

pub const NAME: &str = "management";

/// Addresses of the management cluster's pods: 198.51.100.20 to .99.
const PODS: (u32, u32) = (20, 99);

/// Starts runtime and kubelet and waits until the Node is Ready.
pub async fn start(
    paths: &Paths,
    tools: &Tools,
    programs: &Programs,
    authority: &Authority,
    client: &Client,
) -> Result<()> {
    let folder = paths.state.join("node");
    fs::create_dir_all(&folder)?;
    let socket = format!("{RUN}/cri.sock");

    let runtime = folder.join("runtime.json");
    fs::write(
        &runtime,
        serde_json::to_string_pretty(&json!({
            "socket": socket,
            "state_dir": format!("{RUN}/cri"),
            "network": {
                "mode": "bridge",
                "bridge": BRIDGE,
                "prefix": "198.51.100.0/24",
                "first": PODS.0,
                "last": PODS.1,
                "gateway": MANAGEMENT,
            },
            "images": images(tools)?,
        }))?,
    )?;
    let mut command = programs.command(tools.path("process-cri")?);
    command.arg(&runtime);
    programs.start("management-runtime", command)?;
    wait_for("the container runtime's socket", BOUND, async || {
        Ok(if fs::exists(&socket)? { Seen::Done(()) } else { Seen::Not("no socket".into()) })
    })
    .await?;

    authority.serving("kubelet", ("management-kubelet", None), &[MANAGEMENT.into()], &[NAME])?;
    let kubeconfig = paths.state.join("kubelet.kubeconfig");
    let user = format!("system:node:{NAME}");
    authority.kubeconfig(&kubeconfig, &management::server(), (&user, Some("system:nodes")))?;
    let pods = paths.log.join("pods");
    fs::create_dir_all(&pods)?;
    let config = folder.join("kubelet.json");
    fs::write(
        &config,
        serde_json::to_string_pretty(&json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": MANAGEMENT,
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": paths.pki().join("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": paths.pki().join("kubelet.crt"),
            "tlsPrivateKeyFile": paths.pki().join("kubelet.key"),
            "containerRuntimeEndpoint": format!("unix://{socket}"),
            "podLogsDir": pods,
            "volumePluginDir": folder.join("volume-plugins"),
            "healthzPort": 0,
            // The bed limits nothing and evicts nobody: it has no cgroups of its own.
            "failCgroupV1": false,
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
        }))?,
    )?;
    let mut command = programs.command(tools.path("kubelet")?);
    command.arg(format!("--config={}", config.display()));
    command.arg(format!("--kubeconfig={}", kubeconfig.display()));
    command.arg(format!("--root-dir={}", folder.join("kubelet").display()));
    command.arg(format!("--hostname-override={NAME}")).arg(format!("--node-ip={MANAGEMENT}"));
    programs.start("kubelet", command)?;

    let nodes = Api::<Node>::all(client.clone());
    wait_for("the management node to be Ready", BOUND, async || {
        let node = nodes.get(NAME).await?;
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        Ok(match conditions.iter().find(|condition| condition.type_ == "Ready") {
            Some(ready) if ready.status == "True" => Seen::Done(()),
            Some(ready) => Seen::Not(ready.message.clone().unwrap_or_default()),
            None => Seen::Not("no condition".into()),
        })
    })
    .await
}

/// Which program stands for which image of the management cluster.
fn images(tools: &Tools) -> Result<Value> {
    Ok(json!([
        {"match": "/pause:", "idle": true},
        {"match": "/cluster-api-controller:", "programs": {"/manager": tools.path("capi-core")?}},
        {"match": "/kubeadm-bootstrap-controller:", "programs": {"/manager": tools.path("capi-bootstrap")?}},
        {"match": "/kubeadm-control-plane-controller:", "programs": {"/manager": tools.path("capi-control-plane")?}},
        {"match": "capm3-manager:", "programs": {"/manager": tools.path("capm3-manager")?}, "entrypoint": ["/manager"]},
    ]))
}
