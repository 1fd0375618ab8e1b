//! `machine-try`: boots machines alone, without a management cluster, from config drives that lie in a folder.
//!
//! ```text
//! machine-try FOLDER PROGRAMS [ENDPOINT]      FOLDER/<host>/{meta_data.json,user_data,network_data.json,nics.json,image}
//! ```
//! `nics.json` is the list of cards as `status.hardware.nics` of a host has it, `image` the URL of the image. PROGRAMS is a folder with the
//! Kubernetes programs. It runs as pid 1 of its own namespaces with a bridge and no uplink. Every line on standard input is an order: `on HOST`, `off HOST`,
//! `build HOST` (reads the folder and writes a fresh disk), `wipe HOST`, `state HOST`. The end of the input is the end of everything.

#[path = "../../machine/mod.rs"]
#[allow(dead_code, reason = "this program uses a part of what the bed uses")]
mod machine;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use capm3_sim::room::{Build, ConfigDrive, HostId, Image, MachineRoom, Nic};
use tokio::process::Command;

use machine::room::{Programs, Room, Site};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--inside", layer, folder, programs, ref rest @ ..] => {
            inside(Path::new(layer), Path::new(folder), Path::new(programs), rest.first().copied()).await?;
            Ok(ExitCode::SUCCESS)
        }
        [_, _] | [_, _, _] => outside(&args).await,
        _ => bail!("usage: machine-try FOLDER PROGRAMS [ENDPOINT]"),
    }
}

async fn outside(args: &[String]) -> Result<ExitCode> {
    let home = std::env::var("HOME").context("HOME")?;
    let cache =
        std::env::var("CAPM3_BED_CACHE").map_or_else(|_| Path::new(&home).join(".cache/capm3-bed"), PathBuf::from);
    let layer = match machine::layer::ensure(&cache).await {
        Ok(layer) => layer,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "without cloud-init");
            PathBuf::from("none")
        }
    };
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL", "--mount-proc", "--"])
        .arg(std::env::current_exe()?)
        .arg("--inside")
        .arg(layer)
        .args(args)
        .status()
        .await?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn inside(layer: &Path, folder: &Path, programs: &Path, endpoint: Option<&str>) -> Result<()> {
    for line in [
        "link set lo up",
        "link add br0 type bridge",
        "addr add 198.51.100.1/24 dev br0",
        "addr add 192.0.2.1/24 dev br0",
        "link set br0 up",
    ] {
        let done = Command::new("ip").args(line.split(' ')).status().await?;
        anyhow::ensure!(done.success(), "ip {line}");
    }
    tokio::fs::write("/proc/sys/net/ipv4/ip_forward", "1").await?;
    let folder = tokio::fs::canonicalize(folder).await?;
    let room = Room::new(Site {
        layer: (layer != Path::new("none")).then(|| layer.to_owned()),
        machines: folder.join("machines"),
        bridge: "br0".into(),
        programs: find_programs(programs)?,
    });
    if let Some(endpoint) = endpoint {
        room.balance(endpoint.parse::<SocketAddr>().context("ENDPOINT is ADDRESS:PORT")?).await?;
    }
    let (give, mut orders) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|order| give.blocking_send(order))
    });
    while let Some(order) = orders.recv().await {
        let started = Instant::now();
        match obey(&room, &folder, &order).await {
            Ok(state) => tracing::info!(%order, state, seconds = started.elapsed().as_secs_f32(), "done"),
            Err(error) => tracing::error!(%order, error = format!("{error:#}"), "failed"),
        }
    }
    Ok(()) // and the end of pid 1 is the end of its machines
}

async fn obey(room: &Room, folder: &Path, order: &str) -> Result<String> {
    let (verb, name) = order.split_once(' ').context("VERB HOST")?;
    let host = HostId { namespace: "try".into(), name: name.into(), uid: format!("uid-{name}") };
    match verb {
        "build" => room.provision(&host, read(&folder.join(name))?).await?,
        "on" => room.power(&host, true).await?,
        "off" => room.power(&host, false).await?,
        "wipe" => room.deprovision(&host).await?,
        "state" => {}
        _ => bail!("unknown order {verb}"),
    }
    Ok(format!("{:?}", room.state(&host).await))
}

fn read(host: &Path) -> Result<Build> {
    let text =
        |name: &str| std::fs::read_to_string(host.join(name)).with_context(|| format!("{}/{name}", host.display()));
    let nics: Vec<Nic> = serde_json::from_str(&text("nics.json")?)?;
    let drive = ConfigDrive {
        user_data: std::fs::read(host.join("user_data")).ok(),
        meta_data_json: text("meta_data.json")?,
        network_data_json: text("network_data.json").ok(),
    };
    let image = Image { url: text("image")?.trim().to_owned(), ..Image::default() };
    Ok(Build { image, config_drive: Some(drive), nics })
}

fn find_programs(folder: &Path) -> Result<Programs> {
    let ours = std::env::current_exe()?;
    let ours = ours.parent().context("folder of this program")?;
    let at = |names: &[&str]| -> BTreeMap<String, PathBuf> {
        names.iter().map(|name| ((*name).to_owned(), folder.join(name))).collect()
    };
    Ok(Programs {
        init: ours.join("machine-init"),
        cri: std::env::var("PROCESS_CRI").map_or_else(|_| ours.join("process-cri"), PathBuf::from),
        common: at(&["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]),
        versions: BTreeMap::from([("v1.36.3".to_owned(), at(&["kubelet", "kubeadm"]))]),
    })
}
