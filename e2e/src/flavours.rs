//! Every flavour of the release folder, as a user meets it: which variables it wants, whether it is accepted, and what its
//! objects say while there is no host for them.
//!
//! The folder is read, so a flavour that is added is tested. A file of a class that no flavour brings along is tested alone.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::PatchParams;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::kube::{Seen, apply_one, documents, wait_for};
use crate::life::{BOUND, ENDPOINT, GATEWAY, NODES, PROVISIONING, image};
use crate::releases;
use crate::site::*;

/// How many are looked at together: each is a clusterctl and some objects, and there are few cores.
const TOGETHER: usize = 4;

/// What stands in templates where somebody else fills in an address.
const PLACEHOLDERS: [(&str, &str); 2] =
    [("CLUSTER_APIENDPOINT_HOST_HOLDER", ENDPOINT), ("CLUSTER_APIENDPOINT_PORT_HOLDER", "6443")];

/// What our flavours ask for, for machines of this site. `flavor` decides the shape of a network range.
pub fn variables(bed: &Bed, flavor: &str) -> BTreeMap<&'static str, String> {
    let url = image(&bed.tools.kubernetes);
    let sum = format!("{url}.sha256sum");
    let listed = matches!(flavor, "" | "development"); // whole YAML lists in these (K-152)
    let pods = if listed { r#"["10.244.0.0/16"]"# } else { "10.244.0.0/16" };
    [
        ("CLUSTER_APIENDPOINT_HOST", ENDPOINT),
        ("CLUSTER_APIENDPOINT_PORT", "6443"),
        ("IMAGE_URL", &url),
        ("IMAGE_CHECKSUM", &sum),
        ("IMAGE_CHECKSUM_TYPE", "sha256"),
        ("IMAGE_FORMAT", "raw"),
        ("IMAGE_RAW_URL", &url),
        ("IMAGE_RAW_CHECKSUM", &sum),
        ("PROVISIONING_POOL_START", PROVISIONING.0),
        ("PROVISIONING_POOL_END", PROVISIONING.1),
        ("NODE_POOL_START", NODES.0),
        ("NODE_POOL_END", NODES.1),
        ("NODE_POOL_GATEWAY", GATEWAY),
        ("IPAM_PROVISIONING_POOL_RANGE_START", PROVISIONING.0),
        ("IPAM_PROVISIONING_POOL_RANGE_END", PROVISIONING.1),
        ("IPAM_EXTERNALV4_POOL_RANGE_START", NODES.0),
        ("IPAM_EXTERNALV4_POOL_RANGE_END", NODES.1),
        ("EXTERNAL_SUBNET_V4_HOST", GATEWAY),
        ("PROVISIONING_NIC", "eth0"),
        ("EXTERNAL_NIC", "eth1"),
        (
            "SSH_PUB_KEY_CONTENT",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBedBedBedBedBedBedBedBedBedBedBedBedBedBedBed nobody",
        ),
        ("POD_CIDR", pods),
        ("CTLPLANE_KUBEADM_EXTRA_CONFIG", "    format: cloud-config"),
        ("WORKERS_KUBEADM_EXTRA_CONFIG", "      format: cloud-config"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// A cluster as `clusterctl generate cluster` renders it; `more` goes to its command line.
pub async fn generate(
    bed: &Bed,
    (cluster, namespace): (&str, &str),
    flavor: &str,
    (control_planes, workers): (usize, usize),
    more: &[&str],
) -> Result<String> {
    let values = variables(bed, flavor);
    let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let counts = [control_planes, workers].map(|count| count.to_string());
    let mut arguments = vec!["generate", "cluster", cluster, "--infrastructure=metal3", "--flavor", flavor];
    arguments.extend(["--target-namespace", namespace, "--kubernetes-version", &bed.tools.kubernetes]);
    arguments.extend(["--control-plane-machine-count", &counts[0], "--worker-machine-count", &counts[1]]);
    arguments.extend(more);
    let rendered = releases::clusterctl(bed, &arguments, &values).await?;
    Ok(PLACEHOLDERS.iter().fold(rendered, |text, (holder, value)| text.replace(holder, value)))
}

/// Of each flavour: the variables it wants are known, and admission and conversion answer for every object. Nothing is stored.
pub async fn accepted(bed: &Bed) -> Result<()> {
    let flavors = releases::flavors(&bed.paths)?;
    ensure!(flavors.iter().any(String::is_empty), "K-97: no default flavour among {flavors:?}");
    each(&flavors, async |flavor| {
        let listed = generate(bed, ("dry", "default"), flavor, (1, 1), &["--list-variables"]).await?;
        let known = variables(bed, flavor);
        let unknown: Vec<_> = required(&listed).filter(|name| !known.contains_key(name)).collect();
        ensure!(unknown.is_empty(), "K-115: wants {unknown:?}, which nobody has heard of");
        let rendered = generate(bed, ("dry", "default"), flavor, (1, 1), &[]).await?;
        ensure!(
            rendered.contains("infrastructure.cluster.x-k8s.io/v1beta1") == is_old(flavor),
            "K-158: not in the version it should be"
        );
        crate::kube::dry_run(&bed.client, &rendered).await
    })
    .await
}

/// The default flavour and those whose name says it are written in the older version of our kinds.
fn is_old(flavor: &str) -> bool {
    flavor.is_empty() || flavor.ends_with("v1beta1")
}

/// The names below "Required Variables:"; a blank line ends them.
fn required(listed: &str) -> impl Iterator<Item = &str> {
    let lines = listed.lines().skip_while(|line| !line.starts_with("Required")).skip(1);
    lines.map_while(|line| line.trim().strip_prefix("- "))
}

/// Each flavour in a namespace of its own and without a host: created in an order that `seed` decides, so that whatever refers to
/// something may come before it, it says what it waits for; deleted, nothing of it is left. Unless all are asked for, some that
/// every seed moves on.
pub async fn any_order(bed: &Bed, seed: u64, all: bool) -> Result<()> {
    let mut flavors = releases::flavors(&bed.paths)?;
    if !all {
        let first = (seed as usize * TOGETHER) % flavors.len();
        flavors.rotate_left(first);
        flavors.truncate(TOGETHER);
    }
    each(&flavors, async |flavor| {
        let name = if flavor.is_empty() { "default-flavour" } else { flavor };
        let site = Site { client: bed.client.clone(), namespace: format!("order-{name}") };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}});
        apply_one(&bed.client, namespace, &PatchParams::apply("bed")).await?;
        let rendered = generate(bed, (name, &site.namespace), flavor, (1, 1), &[]).await?;
        let mut objects: Vec<_> = documents(&rendered)?.collect();
        shuffle(&mut objects, seed);
        for object in objects {
            let created = apply_one(&bed.client, object, &PatchParams::apply("bed")).await;
            created.with_context(|| format!("K-158: in the order of seed {seed}"))?;
        }
        waits(&site, name).await?;
        described_while_waiting(bed, &site, name).await?;
        site.delete(CLUSTER, name).await?;
        wait_for(format_args!("cluster {name} gone"), BOUND, async || {
            let machines = site.list(METAL3_MACHINE).await?.len();
            Ok(match site.get(CLUSTER, name).await? {
                None => Seen::Done(()),
                Some(cluster) => Seen::Not(format!("{machines} Metal3Machines; {}", cluster["status"]["conditions"])),
            })
        })
        .await?;
        site.remove_namespace().await // it goes when the last finalizer in it has
    })
    .await
}

/// Runs `look` for each of them, a few at a time; an error names the flavour.
async fn each(flavors: &[String], look: impl AsyncFn(&str) -> Result<()>) -> Result<()> {
    let look = &look;
    futures::stream::iter(flavors)
        .map(async |flavor| look(flavor).await.with_context(|| format!("flavour {flavor:?}")))
        .buffer_unordered(TOGETHER)
        .try_collect()
        .await
}

/// Waits until each Metal3Machine gives a reason, one of them that there is no host.
async fn waits(site: &Site, cluster: &str) -> Result<()> {
    wait_for(format_args!("the machines of {cluster} to say what they wait for"), BOUND, async || {
        let machines = site.list(METAL3_MACHINE).await?;
        let reasons: Vec<_> = machines.iter().map(waiting).collect();
        let hostless = reasons.iter().flatten().any(|reason| reason.contains("no BareMetalHost"));
        Ok(if hostless && reasons.iter().all(Option::is_some) {
            Seen::Done(())
        } else {
            Seen::Not(format!("{reasons:?}"))
        })
    })
    .await
}

/// Why it is not ready, in words.
fn waiting(machine: &Value) -> Option<String> {
    let ready = crate::view::condition(machine, "Ready");
    ready.filter(|(status, message)| *status != "True" && message.contains(' ')).map(|(_, message)| message.to_owned())
}

/// The same reason where a user of clusterctl looks.
async fn described_while_waiting(bed: &Bed, site: &Site, cluster: &str) -> Result<()> {
    wait_for(format_args!("K-119: describe to say what {cluster} waits for"), BOUND, async || {
        let tree = describe(bed, site, cluster).await?;
        Ok(if tree.contains("no BareMetalHost") { Seen::Done(()) } else { Seen::Not(tree) })
    })
    .await
}

/// A cluster as clusterctl shows it, with every object and every condition.
pub async fn describe(bed: &Bed, site: &Site, cluster: &str) -> Result<String> {
    let arguments = ["describe", "cluster", cluster, "--namespace", &site.namespace];
    let all = ["--show-conditions=all", "--grouping=false", "--echo", "--show-templates", "--show-machinesets"];
    releases::clusterctl(bed, &[&arguments[..], &all].concat(), &[]).await
}

/// Fisher and Yates, with the numbers of splitmix64.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let other = (number ^ (number >> 31)) % (last as u64 + 1);
        items.swap(last, other as usize);
    }
}

/// The variables of the shipped example fill the default flavour (K-151, K-152).
pub async fn example(bed: &Bed) -> Result<()> {
    let folder =
        releases::released(&bed.paths).join(releases::INFRASTRUCTURE.label).join(releases::version(&bed.paths)?);
    let file = folder.join("example_variables.rc");
    let shell = ["-c", r#"set -a; . "$0"; exec env -0"#, &file.display().to_string()];
    let output = std::process::Command::new("sh").args(shell).env_clear().output().context("start sh")?;
    let text = String::from_utf8(output.stdout)?;
    let values: Vec<_> = text.split('\0').filter_map(|pair| pair.split_once('=')).collect();
    let arguments = ["generate", "cluster", "example", "--infrastructure=metal3", "--kubernetes-version", "v1.36.3"];
    let rendered = releases::clusterctl(bed, &arguments, &values).await.context("K-151")?;
    let cluster = documents(&rendered)?.find(|document| document["kind"] == "Cluster").context("no Cluster")?;
    let ranges = &cluster["spec"]["clusterNetwork"]["pods"]["cidrBlocks"];
    ensure!(ranges.is_array(), "K-151: the example's pod networks are {ranges}");
    crate::kube::dry_run(&bed.client, &rendered).await
}

/// The files of classes are accepted as they are, also without the cluster that brings them along.
pub async fn classes(bed: &Bed) -> Result<()> {
    let folder =
        releases::released(&bed.paths).join(releases::INFRASTRUCTURE.label).join(releases::version(&bed.paths)?);
    let values = variables(bed, "class");
    let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for file in releases::names(&folder)?.iter().filter(|file| file.starts_with("clusterclass-")) {
        let path = folder.join(file).display().to_string();
        let rendered = releases::clusterctl(bed, &["generate", "yaml", "--from", &path], &values).await?;
        if rendered.contains("${") {
            bail!("K-116: {file} still holds a variable");
        }
        crate::kube::dry_run(&bed.client, &rendered).await.with_context(|| file.clone())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_required_variables_are_those_before_the_blank_line() {
        let listed = "Required Variables:\n  - A_B\n  - C\n\nOptional Variables:\n  - D  (defaults to 1)\n\n";
        assert_eq!(required(listed).collect::<Vec<_>>(), ["A_B", "C"]);
        assert_eq!(required("\nOptional Variables:\n  - D  (defaults to 1)\n").count(), 0);
    }

    #[test]
    fn a_seed_is_an_order_of_the_same_things() {
        let order = |seed| {
            let mut items: Vec<_> = (0..9).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        let mut sorted = order(7);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..9).collect::<Vec<_>>());
    }
}
