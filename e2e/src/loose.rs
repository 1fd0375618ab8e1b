//! Machines with bootstrap data of their own: nothing here joins a cluster.

use anyhow::{Context as _, Result};
use kube::api::PatchParams;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::kube::{Seen, apply_one, wait_for};
use crate::life::{BOUND, ENDPOINT, Life, consumer, image};
use crate::site::*;

pub struct Loose<'a> {
    pub life: Life<'a>,
}

impl<'a> Loose<'a> {
    /// In a namespace of their own, which is made.
    pub async fn new(bed: &'a Bed, namespace: &str) -> Result<Loose<'a>> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        apply_one(&bed.client, object, &PatchParams::apply("bed")).await?;
        Ok(Loose { life: Life::new(bed, namespace) })
    }

    pub fn site(&self) -> &Site {
        &self.life.site
    }

    /// A Cluster that never gets a control plane, and what the machines boot.
    pub async fn cluster(&self) -> Result<()> {
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

    /// A Machine and its Metal3Machine, whose spec has `spec` over a good image.
    pub async fn machine(&self, machine: &str, spec: Value) -> Result<()> {
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

    pub async fn remove(&self, machine: &str) -> Result<()> {
        self.site().delete(MACHINE, machine).await?;
        wait_for(format_args!("machine {machine} gone"), BOUND, async || {
            Ok(match self.site().get(METAL3_MACHINE, machine).await? {
                None => Seen::Done(()),
                Some(left) => Seen::Not(left["status"].to_string()),
            })
        })
        .await
    }

    /// Waits until some condition of the machine says all of `words`.
    pub async fn says(&self, machine: &str, words: &[&str]) -> Result<()> {
        wait_for(format_args!("{machine} to say {words:?}"), BOUND, async || {
            let found = self.site().get(METAL3_MACHINE, machine).await?.context("no such Metal3Machine")?;
            let conditions = found.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
            let messages: Vec<_> =
                conditions.iter().filter(|c| text(c, "/status") != "True").map(|c| text(c, "/message")).collect();
            let said = messages.iter().any(|message| words.iter().all(|word| message.contains(word)));
            Ok(if said { Seen::Done(()) } else { Seen::Not(format!("{messages:?}")) })
        })
        .await
    }

    pub async fn provisioned(&self, machine: &str) -> Result<()> {
        wait_for(format_args!("the host of {machine} provisioned"), BOUND, async || {
            let hosts = self.site().list(HOST).await?;
            let host = hosts.iter().find(|host| consumer(host).as_deref() == Some(machine));
            Ok(match host.map(|host| text(host, "/status/provisioning/state")) {
                Some("provisioned") => Seen::Done(()),
                other => Seen::Not(format!("host state {other:?}")),
            })
        })
        .await
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
