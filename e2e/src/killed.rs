//! E-30, literally: both managers are killed after each of their writes, through a whole life of a machine.
//!
//! They run outside their Pods for it, behind a [`Gate`]: it passes requests on to the API server, and the first write that lands is
//! never answered: the manager is killed and started again with empty hands. So every pair of its writes has a crash between
//! them, and no manager ever learns that a write of its own went well. A write that finds there what it wants changes nothing and
//! kills nobody: a manager that remembers nothing may make it again before every step. The managers in the Pods go on serving
//! admission, of a namespace in which nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::bed::Bed;
use crate::kube::{Seen, wait_for};
use crate::life::{BOUND, Life, consumer, image};
use crate::managers::{self, Manager};
use crate::releases::{PROVIDERS, Provider};
use crate::site::*;

const MACHINE_NAME: &str = "killed";
/// Where the managers in the Pods look while others do their work.
const NOWHERE: &str = "--namespace=nowhere";

/// Between one manager and the API server.
struct Gate {
    client: Client,
    /// The next write that lands is the last thing the manager does.
    armed: AtomicBool,
    /// What writes have left behind: path and resource version.
    left: Mutex<BTreeSet<(String, String)>>,
    landed: mpsc::UnboundedSender<String>,
}

/// A manager that dies of every write.
struct Victim {
    manager: Manager,
    folder: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    program: PathBuf,
    gate: Arc<Gate>,
    landed: mpsc::UnboundedReceiver<String>,
}

pub async fn every_write(life: &Life<'_>, cluster: &str) -> Result<()> {
    let bed = life.bed;
    let mut before = Vec::new();
    for provider in PROVIDERS {
        before.push((provider, send_nowhere(bed, provider).await?));
    }
    let mut deaths = BTreeMap::new();
    let mut victims = Vec::new();
    for manager in managers::ALL {
        victims.push(Victim::new(bed, manager).await?);
    }
    let [infrastructure, ipam] = &mut victims[..] else { anyhow::bail!("two managers are two victims") };
    let lived = {
        let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
        let lived = tokio::select! {
            lived = Box::pin(one_life(life, cluster)) => lived,
            died = infrastructure.die_often(bed, &mut of_one) => died.context("the infrastructure manager"),
            died = ipam.die_often(bed, &mut of_other) => died.context("the ipam manager"),
        };
        deaths.insert(Manager::Infrastructure, of_one);
        deaths.insert(Manager::Ipam, of_other);
        lived
    };
    for (provider, deployment) in before {
        restore(bed, provider, &deployment).await?;
    }
    lived?;
    let died = |manager: Manager, write: &str| deaths[&manager].iter().any(|landed| landed.contains(write));
    let wanted = [
        (Manager::Infrastructure, "PATCH baremetalhosts"),
        (Manager::Infrastructure, "PATCH metal3machines"),
        (Manager::Infrastructure, "POST metal3dataclaims"),
        (Manager::Infrastructure, "POST metal3datas"),
        (Manager::Infrastructure, "POST secrets"),
        (Manager::Infrastructure, "POST ipclaims"),
        (Manager::Infrastructure, "DELETE metal3dataclaims"),
        (Manager::Ipam, "POST ipaddresses"),
        (Manager::Ipam, "PATCH ipclaims"),
        (Manager::Ipam, "DELETE ipaddresses"),
    ];
    for (manager, write) in wanted {
        ensure!(died(manager, write), "{manager:?} was never killed after {write}: {:?}", deaths[&manager]);
    }
    let numbers = deaths.values().map(|of| of.len().to_string()).collect::<Vec<_>>();
    bed.console.step(format_args!("killed after {} writes, nothing was lost", numbers.join(" and ")));
    Ok(())
}

/// A worker without a bootstrap provider comes, runs and goes; what must hold at any moment is looked at all the time.
async fn one_life(life: &Life<'_>, cluster: &str) -> Result<()> {
    let before = life.site.world().await;
    let labels = json!({"cluster.x-k8s.io/cluster-name": cluster});
    let metadata = json!({"name": MACHINE_NAME, "labels": labels});
    let boot = json!({"metadata": {"name": MACHINE_NAME}, "stringData": {"value": "#cloud-config\n{}\n", "format": "cloud-config"}});
    life.site.create(SECRET, boot).await?;
    let url = image("v1.36.3");
    let image =
        json!({"url": url, "checksum": format!("{url}.sha256sum"), "checksumType": "sha256", "diskFormat": "raw"});
    let spec = json!({"image": image, "dataTemplate": {"name": format!("{cluster}-workers-template")}});
    life.site.create(METAL3_MACHINE, json!({"metadata": metadata, "spec": spec})).await?;
    let reference =
        json!({"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "Metal3Machine", "name": MACHINE_NAME});
    let spec =
        json!({"clusterName": cluster, "bootstrap": {"dataSecretName": MACHINE_NAME}, "infrastructureRef": reference});
    life.site.create(MACHINE, json!({"metadata": metadata, "spec": spec})).await?;

    wait_for("the machine to be provisioned by managers that are killed", BOUND, async || {
        let world = match life.consistent().await {
            Ok(world) => world,
            Err(broken) => return Ok(Seen::Done(Err(broken))),
        };
        let host = world.hosts.iter().find(|host| consumer(host).as_deref() == Some(MACHINE_NAME));
        let state = host.map(|host| text(host, "/status/provisioning/state"));
        let machine = world.metal3_machines.iter().find(|machine| name(machine) == MACHINE_NAME);
        let machine = machine.context("the Metal3Machine is gone")?;
        let provisioned = machine.pointer("/status/initialization/provisioned") == Some(&Value::Bool(true));
        let done = state == Some("provisioned") && provisioned && machine["spec"]["providerID"].is_string();
        Ok(if done { Seen::Done(Ok(())) } else { Seen::Not(format!("host {state:?}, {}", machine["status"])) })
    })
    .await??;

    life.site.delete(MACHINE, MACHINE_NAME).await?;
    wait_for("the machine to be gone, and all that was made for it", BOUND, async || {
        let world = match life.consistent().await {
            Ok(world) => world,
            Err(broken) => return Ok(Seen::Done(Err(broken))),
        };
        let names = |all: &[Value]| all.iter().map(|object| name(object).to_owned()).collect::<Vec<_>>();
        let left = [
            (names(&world.metal3_machines), names(&before.metal3_machines)),
            (names(&world.datas), names(&before.datas)),
            (names(&world.addresses), names(&before.addresses)),
        ];
        let claims = life.site.list(METAL3_DATA_CLAIM).await?.len() + life.site.list(IP_CLAIM).await?.len();
        let expected = before.metal3_machines.len() + before.addresses.len();
        let secrets = life.site.list(SECRET).await?;
        let secrets = names(&secrets).into_iter().filter(|secret| secret.starts_with("killed-")).collect::<Vec<_>>();
        let free = world.hosts.iter().filter(|host| consumer(host).is_none());
        let free = free.filter(|host| text(host, "/status/provisioning/state") == "available").count();
        let all_free = free == before.hosts.len() - before.metal3_machines.len();
        let gone = left.iter().all(|(now, then)| now == then) && claims == expected && secrets.is_empty() && all_free;
        Ok(if gone {
            Seen::Done(Ok(()))
        } else {
            Seen::Not(format!("{left:?}, {claims} claims of {expected}, Secrets {secrets:?}, {free} free hosts"))
        })
    })
    .await??;
    life.site.delete(SECRET, MACHINE_NAME).await
}

impl Victim {
    /// Opens its gate and gives it a kubeconfig that leads there.
    async fn new(bed: &Bed, manager: Manager) -> Result<Self> {
        let (landed, landings) = mpsc::unbounded_channel();
        let gate =
            Arc::new(Gate { client: bed.client.clone(), armed: AtomicBool::new(true), left: Mutex::default(), landed });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(pass).with_state(gate.clone());
        bed.programs.task("gate before a manager", async move { Ok(axum::serve(listener, router).await?) });

        let folder = bed.paths.state.join(format!("killed-{manager:?}").to_lowercase());
        fs::create_dir_all(&folder)?;
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(folder.join("tls.crt"), signed.cert.pem())?;
        fs::write(folder.join("tls.key"), signed.signing_key.serialize_pem())?;
        let kubeconfig = folder.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "gate",
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "manager"}}],
            "clusters": [{"name": "gate", "cluster": {"server": server}}],
            "users": [{"name": "manager", "user": {"as": manager.user()}}],
        });
        fs::write(&kubeconfig, config.to_string())?;
        let log = bed.paths.log.join(format!("killed-{manager:?}.log").to_lowercase());
        let program = bed.tools.path("capm3-manager")?.to_owned();
        Ok(Self { manager, folder, kubeconfig, log, program, gate, landed: landings })
    }

    fn start(&self, bed: &Bed) -> Result<Child> {
        let controllers = match self.manager {
            Manager::Infrastructure => "--controllers=infra",
            Manager::Ipam => "--controllers=ipam",
        };
        let output = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::from(bed.programs.command(&self.program));
        command
            .args([controllers, "--leader-elect=false", "--webhook-port=0"])
            .args(["--health-addr=127.0.0.1:0", "--diagnostics-address=127.0.0.1:0"])
            .arg(format!("--kubeconfig={}", self.kubeconfig.display()))
            .arg(format!("--webhook-cert-dir={}", self.folder.display()))
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("start {}", self.program.display()))
    }

    /// Starts it again after each write that landed; comes back only when it ends for another reason.
    async fn die_often(&mut self, bed: &Bed, deaths: &mut Vec<String>) -> Result<()> {
        loop {
            self.gate.armed.store(true, Ordering::SeqCst);
            let mut process = self.start(bed)?;
            let landed = tokio::select! {
                landed = self.landed.recv() => landed.context("the gate is closed")?,
                ended = process.wait() => anyhow::bail!("it ended by itself: {}; its log is {}", ended?, self.log.display()),
            };
            process.kill().await?;
            deaths.push(landed);
        }
    }
}

/// One request on its way. A write that landed while the gate is armed is never answered.
async fn pass(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (what, path) = (wrote(&parts.method, parts.uri.path()), parts.uri.path().to_owned());
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let answer = match gate.client.send(request).await {
        Ok(answer) => answer,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let Some(what) = what.filter(|_| answer.status().is_success()) else {
        return answer.map(Body::new).into_response();
    };
    let (parts, body) = answer.into_parts();
    let Ok(body) = axum::body::to_bytes(Body::new(body), usize::MAX).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let object: Value = serde_json::from_slice(&body).unwrap_or_default(); // no object: it counts
    let left = (path, text(&object, "/metadata/resourceVersion").to_owned());
    let is_news = left.1.is_empty() || gate.left.lock().unwrap_or_else(PoisonError::into_inner).insert(left);
    if is_news && gate.armed.swap(false, Ordering::SeqCst) {
        _ = gate.landed.send(what); // nobody listens: the scenario is over
        std::future::pending::<()>().await;
    }
    Response::from_parts(parts, Body::from(body))
}

/// `PATCH metal3machines/status`, for a write that counts: neither an Event nor a review of somebody's rights.
fn wrote(method: &Method, path: &str) -> Option<String> {
    if *method == Method::GET {
        return None;
    }
    let mut words = path.split('/').skip_while(|word| *word != "namespaces").skip(2);
    let kind = words.next()?;
    let subresource = words.nth(1).map(|word| format!("/{word}")).unwrap_or_default();
    (!["events", "leases"].contains(&kind)).then(|| format!("{method} {kind}{subresource}"))
}

/// Lets the manager in its Pod look at a namespace in which nothing is. Returns its containers as they were.
async fn send_nowhere(bed: &Bed, provider: Provider) -> Result<Value> {
    let deployment = deployment_of(bed, provider).await?;
    let containers = deployment["spec"]["template"]["spec"]["containers"].clone();
    let mut elsewhere = containers.clone();
    let arguments = elsewhere[0]["args"].as_array_mut().context("a container without arguments")?;
    arguments.push(NOWHERE.into());
    replace(bed, provider, name(&deployment), &elsewhere).await?;
    Ok(containers)
}

async fn restore(bed: &Bed, provider: Provider, containers: &Value) -> Result<()> {
    let deployment = deployment_of(bed, provider).await?;
    replace(bed, provider, name(&deployment), containers).await
}

async fn deployment_of(bed: &Bed, provider: Provider) -> Result<Value> {
    let all = there(bed, provider).list(DEPLOYMENT).await?;
    all.into_iter().next().with_context(|| format!("{} has no Deployment", provider.label))
}

fn there(bed: &Bed, provider: Provider) -> Site {
    Site { client: bed.client.clone(), namespace: provider.namespace.to_owned() }
}

/// Rolls the containers out, and waits until nothing runs but them.
async fn replace(bed: &Bed, provider: Provider, deployment: &str, containers: &Value) -> Result<()> {
    let site = there(bed, provider);
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    site.patch(DEPLOYMENT, deployment, patch).await?;
    wait_for(format_args!("{deployment} rolled out"), BOUND, async || {
        let found = site.get(DEPLOYMENT, deployment).await?.context("the Deployment is gone")?;
        let status = &found["status"];
        let seen = status["observedGeneration"] == found["metadata"]["generation"];
        let wanted = &found["spec"]["replicas"];
        let only = ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|count| status[count] == *wanted);
        let pods = site.list(POD).await?.len();
        let done = seen && only && json!(pods) == *wanted;
        Ok(if done { Seen::Done(()) } else { Seen::Not(format!("{pods} Pods, {status}")) })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_told_by_its_kind() {
        let machine = "/apis/infrastructure.cluster.x-k8s.io/v1beta2/namespaces/metal3/metal3machines/m1";
        assert_eq!(wrote(&Method::PATCH, machine).unwrap(), "PATCH metal3machines");
        assert_eq!(wrote(&Method::PATCH, &format!("{machine}/status")).unwrap(), "PATCH metal3machines/status");
        assert_eq!(wrote(&Method::POST, "/api/v1/namespaces/metal3/secrets").unwrap(), "POST secrets");
        assert_eq!(wrote(&Method::GET, machine), None);
        for path in ["/api/v1/namespaces/metal3/events", "/apis/authorization.k8s.io/v1/subjectaccessreviews"] {
            assert_eq!(wrote(&Method::POST, path), None);
        }
    }
}
