//! What one runtime serves, from one JSON file. The image table in it is read afresh at every use, so that a new image
//! needs no restart; everything else is fixed at start.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde::Deserialize;

use crate::images::Table;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The CRI socket the kubelet dials.
    pub socket: PathBuf,
    /// Short-lived sockets and the mount point of container roots; nothing in it outlives the runtime.
    pub state_dir: PathBuf,
    #[serde(default = "runtime_name")]
    pub runtime_name: String,
    /// Named to kubeadm as the image of sandboxes.
    #[serde(default = "sandbox_image")]
    pub sandbox_image: String,
    pub network: Network,
    /// `PATH` of containers that see the machine's own root: where their programs are found by name.
    #[serde(default = "default_path")]
    pub path: String,
    /// Variables that replace the pod's. Without a service network, `KUBERNETES_SERVICE_HOST` has to be told here.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Loopback port of exec and port-forward; 0 takes any.
    #[serde(default)]
    pub streaming_port: u16,
    #[serde(default)]
    pub images: Table,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Network {
    /// Every pod is on the node's network: a simulated machine.
    Host { ip: IpAddr },
    /// Every pod has a network namespace and an address of its own: the management node.
    Bridge(Bridge),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bridge {
    pub bridge: String,
    pub prefix: Ipv4Net,
    /// Pods take the lowest free host number of `prefix` from `first` to `last`.
    pub first: u32,
    pub last: u32,
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
}

fn runtime_name() -> String {
    "process-cri".to_owned()
}

fn sandbox_image() -> String {
    "registry.k8s.io/pause:3.10.2".to_owned()
}

/// What images declare as `PATH` when they declare nothing.
pub(crate) fn default_path() -> String {
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
}

impl Config {
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parsing {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_network_modes_are_read() {
        let text = r#"{"socket":"/s","state_dir":"/d","images":[],"network":
            {"mode":"bridge","bridge":"br0","prefix":"198.51.100.0/24","first":20,"last":99,"gateway":null}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert!(matches!(config.network, Network::Bridge(b) if b.bridge == "br0" && b.first == 20));
        let text = r#"{"socket":"/s","state_dir":"/d","network":{"mode":"host","ip":"192.0.2.7"}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert!(matches!(config.network, Network::Host { ip } if ip.to_string() == "192.0.2.7"));
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let text = r#"{"socket":"/s","state_dir":"/d","networks":{},"network":{"mode":"host","ip":"192.0.2.7"}}"#;
        assert!(serde_json::from_str::<Config>(text).is_err());
    }
}
