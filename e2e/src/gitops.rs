//! What GitOps tools make of our objects while the scenarios run: kstatus (Flux, kubectl-like waiters) and Argo CD's health.
//!
//! Nothing is sampled. [`Readers`] watches our kinds in each version, Cluster API's Cluster and Machine, and the hosts and
//! Secrets that tell whether an object has reached its purpose. All of them live in one etcd, so their resource versions are
//! one order of events: after a step the story is told again in that order, and each state that an object ever had is judged
//! beside the facts of its moment. What is *reached* follows from those facts, never from the conditions under test.
//!
//! Of each object of ours, in each version:
//! - as long as its purpose has never been reached, no tool takes it for done, and what it says names something it waits for;
//! - while it is being deleted both tools say so;
//! - in a settled namespace all of them are done ([`Readers::settled`]).
//!
//! And Argo CD's own scripts never call a Cluster or Machine degraded whose infrastructure only takes its time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use kube::api::{DynamicObject, ListParams, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::bed::Bed;
use crate::flavours::generate;
use crate::kube::{Seen, apply_one, documents, live, wait_for};
use crate::life::{BOUND, Life};
use crate::programs::Programs;
use crate::site::*;

/// Objects in one question to the tool.
const AT_ONCE: usize = 200;
/// How many violations are told.
const TOLD: usize = 8;

/// Where this project's scripts for Argo CD are.
pub const SCRIPTS: &str = "docs/argocd";

/// What one tool says of one object.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Said {
    pub status: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Verdict {
    pub kstatus: Said,
    /// None for a kind without a script.
    pub argo: Option<Said>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kstatus {} ({})", self.kstatus.status, self.kstatus.message)?;
        self.argo.iter().try_for_each(|argo| write!(f, ", Argo CD {} ({})", argo.status, argo.message))
    }
}

/// The Go program that runs both tools' own code (`e2e/tools/gitops`), for as long as this lives.
pub struct Judge {
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Judge {
    pub fn start(mut command: std::process::Command, scripts: &Path) -> Result<Judge> {
        command.arg(scripts).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child =
            tokio::process::Command::from(command).kill_on_drop(true).spawn().context("start the readers")?;
        let stdin = child.stdin.take().context("its standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("its standard output")?).lines();
        Ok(Judge { stdin, stdout, _child: child })
    }

    pub async fn verdicts(&mut self, objects: &[&Value]) -> Result<Vec<Verdict>> {
        let mut verdicts = Vec::new();
        for some in objects.chunks(AT_ONCE) {
            let mut line = serde_json::to_vec(some)?;
            line.push(b'\n');
            self.stdin.write_all(&line).await.context("ask the readers")?;
            let answer =
                self.stdout.next_line().await?.context("the readers have ended; what they said is on the console")?;
            verdicts.append(&mut serde_json::from_str(&answer)?);
        }
        ensure!(verdicts.len() == objects.len(), "{} verdicts on {} objects", verdicts.len(), objects.len());
        Ok(verdicts)
    }
}

/// What is watched for which reason.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Hosts and Secrets: never judged.
    Fact,
    /// Cluster API's: judged by Argo CD's own scripts.
    Theirs,
    Ours,
}

#[derive(Clone, Copy)]
struct Watched {
    kind: Kind,
    role: Role,
    /// In the version that the facts are read from.
    hub: bool,
}

/// In this order within one revision: the versions of an object share its revision, and its facts are read from the hub.
fn watched() -> Vec<Watched> {
    let hub = |role| move |kind: &Kind| Watched { kind: *kind, role, hub: true };
    let older = |role| move |kind: &Kind| Watched { kind: kind.older(), role, hub: false };
    let theirs = [CLUSTER, MACHINE];
    let infrastructure = || OURS.iter().filter(|kind| kind.is_infrastructure());
    [HOST, SECRET]
        .iter()
        .map(hub(Role::Fact))
        .chain(theirs.iter().map(hub(Role::Theirs)))
        .chain(OURS.iter().map(hub(Role::Ours)))
        .chain(theirs.iter().map(older(Role::Theirs)))
        .chain(infrastructure().map(older(Role::Ours)))
        .collect()
}

/// Namespace and name.
type Name = (String, String);

/// One state that an object had, or its end.
struct Event {
    revision: u64,
    /// Which of [`watched`].
    of: usize,
    name: Name,
    object: Option<Value>,
}

/// What the watches have delivered.
#[derive(Default)]
struct Story {
    untold: Vec<Event>,
    /// By watch: the last revision of each object that is there.
    known: Vec<BTreeMap<Name, u64>>,
    /// The last revision of anything.
    latest: u64,
    /// Up to here a watch of facts had a gap: nothing is judged early by what may have been missed.
    blind: u64,
}

impl Story {
    fn seen(&mut self, of: usize, object: &DynamicObject) -> Result<Name> {
        let (name, revision) = (name_of(&object.metadata), revision(object.metadata.resource_version.as_deref())?);
        self.latest = self.latest.max(revision);
        self.known[of].insert(name.clone(), revision);
        let mut object = object.clone();
        object.metadata.managed_fields = None;
        let mut object = serde_json::to_value(object)?;
        if let Some(secret) = object.as_object_mut().filter(|_| watched()[of].kind == SECRET) {
            secret.remove("data");
        }
        self.untold.push(Event { revision, of, name: name.clone(), object: Some(object) });
        Ok(name)
    }

    fn gone(&mut self, of: usize, name: &Name, revision: u64) {
        self.latest = self.latest.max(revision);
        if self.known[of].remove(name).is_some() {
            self.untold.push(Event { revision, of, name: name.clone(), object: None });
        }
    }
}

fn name_of(meta: &kube::core::ObjectMeta) -> Name {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Resource versions are revisions of the bed's one etcd: numbers, and comparable between kinds.
fn revision(text: Option<&str>) -> Result<u64> {
    let text = text.context("no resourceVersion")?;
    text.parse().with_context(|| format!("resourceVersion {text:?}"))
}

type Shared = Arc<Mutex<Story>>;

fn lock(story: &Shared) -> std::sync::MutexGuard<'_, Story> {
    story.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows one kind for as long as the bed lives. A kind that is not served, or not converted, at times is waited for.
async fn follow(client: Client, story: Shared, of: usize, watched: Watched) -> Result<()> {
    let api = Api::<DynamicObject>::all_with(client, &resource(watched.kind));
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = None::<BTreeSet<Name>>;
    let mut lists = 0;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, kind = watched.kind.name(), "a watch of the GitOps readers failed");
                continue;
            }
        };
        let mut story = lock(&story);
        match event {
            watcher::Event::Init => listed = Some(BTreeSet::new()),
            watcher::Event::InitApply(object) => {
                let name = story.seen(of, &object)?;
                listed.get_or_insert_default().insert(name);
            }
            watcher::Event::InitDone => {
                let there = listed.take().unwrap_or_default();
                let latest = story.latest;
                let gone: Vec<_> = story.known[of].keys().filter(|name| !there.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| story.gone(of, name, latest));
                lists += 1;
                if lists > 1 && watched.hub {
                    story.blind = latest;
                }
            }
            watcher::Event::Apply(object) => _ = story.seen(of, &object)?,
            watcher::Event::Delete(object) => {
                let revision = revision(object.metadata.resource_version.as_deref())?;
                story.gone(of, &name_of(&object.metadata), revision);
            }
        }
    }
    bail!("the watch of {} ended", watched.kind.name())
}

/// Watches from its start on, and judges when asked.
pub struct Readers {
    client: Client,
    story: Shared,
    judge: tokio::sync::Mutex<Judge>,
    history: tokio::sync::Mutex<History>,
}

impl Readers {
    /// To be started before the objects are made whose whole life is to be judged.
    pub fn start(bed: &Bed) -> Result<Readers> {
        let command = bed.programs.command(bed.tools.path("gitops-readers")?);
        let judge = Judge::start(command, &bed.paths.root.join(SCRIPTS))?;
        let story = Story { known: vec![BTreeMap::new(); watched().len()], ..Story::default() };
        let story = Arc::new(Mutex::new(story));
        follow_all(&bed.client, &bed.programs, &story);
        let history = History::default();
        Ok(Readers { client: bed.client.clone(), story, judge: judge.into(), history: history.into() })
    }

    /// Judges every state since the last call; an error tells what a tool got wrong.
    pub async fn review(&self) -> Result<()> {
        self.caught_up().await?;
        let (mut events, blind) = {
            let mut story = lock(&self.story);
            (std::mem::take(&mut story.untold), story.blind)
        };
        events.sort_by_key(|event| (event.revision, event.of));
        let watched = watched();
        let judged: Vec<_> =
            events.iter().filter(|e| watched[e.of].role != Role::Fact).filter_map(|e| e.object.as_ref()).collect();
        let mut verdicts = self.judge.lock().await.verdicts(&judged).await?.into_iter();
        let mut history = self.history.lock().await;
        history.blind = blind;
        // The same about the same object is told once, with its first state.
        let mut wrong = BTreeMap::<String, String>::new();
        for event in &events {
            let watched = watched[event.of];
            let verdict = (watched.role != Role::Fact && event.object.is_some()).then(|| verdicts.next()).flatten();
            if let Some(text) = history.tell(event, watched, verdict.as_ref()) {
                let what = text.split(": kstatus").next().unwrap_or_default().to_owned();
                wrong.entry(what).or_insert(text);
            }
        }
        let told: Vec<_> = wrong.values().take(TOLD).map(String::as_str).collect();
        ensure!(wrong.is_empty(), "GitOps tools misread {} states:\n{}", wrong.len(), told.join("\n"));
        Ok(())
    }

    /// Waits until all that is stored now has been delivered.
    async fn caught_up(&self) -> Result<()> {
        for (of, watched) in watched().into_iter().enumerate() {
            let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource(watched.kind));
            wait_for(format_args!("the watch of {}", watched.kind.name()), BOUND, async || {
                let list = match api.list_metadata(&ListParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Seen::Done(())), // not served
                    list => list?,
                };
                let now = revision(list.metadata.resource_version.as_deref())?;
                let there: BTreeMap<_, _> = list
                    .items
                    .iter()
                    .map(|object| {
                        Ok((name_of(&object.metadata), revision(object.metadata.resource_version.as_deref())?))
                    })
                    .collect::<Result<_>>()?;
                let story = lock(&self.story);
                let known = &story.known[of];
                let behind = there.iter().find(|(name, revision)| known.get(*name).is_none_or(|seen| seen < revision));
                let kept = known.iter().find(|(name, seen)| **seen <= now && !there.contains_key(*name));
                Ok(match behind.or(kept) {
                    None => Seen::Done(()),
                    Some(((namespace, name), revision)) => Seen::Not(format!("{namespace}/{name} at {revision}")),
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until both tools take every object of the namespace for done; what stays in progress in a settled namespace is stuck.
    pub async fn settled(&self, namespace: &str) -> Result<()> {
        let site = Site { client: self.client.clone(), namespace: namespace.to_owned() };
        wait_for(format_args!("kstatus and Argo CD to take all of {namespace} for done"), BOUND, async || {
            let mut objects = Vec::new();
            for watched in watched().into_iter().filter(|watched| watched.role != Role::Fact) {
                objects.append(&mut site.list(watched.kind).await?);
            }
            let verdicts = self.judge.lock().await.verdicts(&objects.iter().collect::<Vec<_>>()).await?;
            let open: Vec<_> = objects
                .iter()
                .zip(&verdicts)
                .filter(|(_, verdict)| !is_done(verdict))
                .map(|(object, verdict)| format!("{}: {verdict}", title(object)))
                .collect();
            Ok(if open.is_empty() { Seen::Done(()) } else { Seen::Not(open.join("\n  ")) })
        })
        .await
    }
}

fn follow_all(client: &Client, programs: &Programs, story: &Shared) {
    for (of, watched) in watched().into_iter().enumerate() {
        programs.task("watch for the GitOps readers", follow(client.clone(), story.clone(), of, watched));
    }
}

fn is_done(verdict: &Verdict) -> bool {
    verdict.kstatus.status == "Current" && verdict.argo.as_ref().is_none_or(|argo| argo.status == "Healthy")
}

fn title(object: &Value) -> String {
    format!("{} {}/{}", text(object, "/kind"), text(object, "/metadata/namespace"), name(object))
        + &format!(" ({})", text(object, "/apiVersion"))
}

/// The world at one revision, and what has been reached in it.
#[derive(Default)]
struct History {
    /// By kind and name, in the hub version.
    world: BTreeMap<(&'static str, Name), Value>,
    /// Uids of objects whose purpose has been reached once: what is lost later was not told too early.
    reached: BTreeSet<String>,
    blind: u64,
}

impl History {
    /// The world moves on by one event; what a tool says wrong about it is returned.
    fn tell(&mut self, event: &Event, watched: Watched, verdict: Option<&Verdict>) -> Option<String> {
        let key = (watched.kind.name(), event.name.clone());
        let Some(object) = &event.object else {
            if watched.hub {
                self.world.remove(&key);
            }
            return None;
        };
        if watched.hub {
            self.world.insert(key.clone(), object.clone());
        }
        let verdict = verdict?;
        // What both versions mean is read from the one; without it nothing is known of the moment.
        let hub = self.world.get(&key).filter(|hub| same_revision(hub, object))?;
        let missing = match watched.role {
            Role::Fact => return None,
            _ if !object["metadata"]["deletionTimestamp"].is_null() => {
                let known = verdict.kstatus.status == "Terminating"
                    && verdict.argo.as_ref().is_none_or(|argo| argo.status == "Progressing");
                return (!known).then(|| format!("- {} is being deleted: {verdict}", title(object)));
            }
            Role::Theirs => {
                let degraded = verdict.argo.as_ref().is_some_and(|argo| argo.status == "Degraded");
                return (degraded && blames_us(hub) && !self.has_failed(hub))
                    .then(|| format!("- {} has not failed: {verdict}; status {}", title(object), object["status"]));
            }
            Role::Ours => self.missing(hub),
        };
        let uid = text(object, "/metadata/uid").to_owned();
        if missing.is_empty() {
            self.reached.insert(uid);
            return None;
        }
        if self.reached.contains(&uid) || event.revision <= self.blind {
            return None;
        }
        let why = missing.join(", ");
        let early = verdict.kstatus.status == "Current" || verdict.argo.as_ref().is_some_and(|a| a.status == "Healthy");
        if early {
            return Some(format!(
                "- {} is taken for done, but {why}: {verdict}; status {}",
                title(object),
                object["status"]
            ));
        }
        let silent = |said: &Said| said.status == "InProgress" && !self.names_what_it_waits_for(hub, &said.message);
        silent(&verdict.kstatus)
            .then(|| format!("- {} does not say what it waits for, while {why}: {verdict}", title(object)))
    }

    fn get(&self, kind: Kind, of: &Value, name: &str) -> Option<&Value> {
        self.world.get(&(kind.name(), (text(of, "/metadata/namespace").to_owned(), name.to_owned())))
    }

    fn all(&self, kind: Kind, of: &Value) -> impl Iterator<Item = &Value> {
        let namespace = text(of, "/metadata/namespace").to_owned();
        self.world.iter().filter(move |((k, (n, _)), _)| *k == kind.name() && *n == namespace).map(|(_, object)| object)
    }

    /// The host that names this machine as its consumer.
    fn host_of(&self, machine: &Value) -> Option<&Value> {
        let ours = |host: &&Value| {
            text(host, "/spec/consumerRef/kind") == "Metal3Machine"
                && text(host, "/spec/consumerRef/name") == name(machine)
        };
        self.all(HOST, machine).find(ours)
    }

    /// What an object of ours still lacks to have reached its purpose.
    fn missing(&self, object: &Value) -> Vec<String> {
        let exists = |kind: Kind, path: &str| self.get(kind, object, text(object, path));
        let mut missing = Vec::new();
        let mut need = |there: bool, what: &str| {
            if !there {
                missing.push(what.to_owned());
            }
        };
        match text(object, "/kind") {
            "Metal3Cluster" => {
                need(!text(object, "/spec/controlPlaneEndpoint/host").is_empty(), "it has no endpoint");
                need(
                    owner(object, "Cluster").is_some_and(|c| self.get(CLUSTER, object, c).is_some()),
                    "it has no Cluster",
                );
                need(
                    object.pointer("/status/initialization/provisioned") == Some(&Value::Bool(true)),
                    "it is not provisioned",
                );
            }
            "Metal3Machine" => {
                let host = self.host_of(object).map(|host| text(host, "/status/provisioning/state"));
                need(host == Some("provisioned"), &format!("its host is {}", host.unwrap_or("not chosen")));
                need(!text(object, "/spec/providerID").is_empty(), "it has no providerID");
                need(
                    object.pointer("/status/initialization/provisioned") == Some(&Value::Bool(true)),
                    "it is not provisioned",
                );
            }
            "Metal3Data" => {
                let template = exists(METAL3_DATA_TEMPLATE, "/spec/template/name");
                for part in ["metaData", "networkData"] {
                    let asked = template.is_none_or(|template| template["spec"].get(part).is_some());
                    let secret = exists(SECRET, &format!("/spec/{part}/name"));
                    need(!asked || secret.is_some(), &format!("there is no Secret with its {part}"));
                }
            }
            "Metal3DataClaim" => {
                let data = exists(METAL3_DATA, "/status/renderedData/name");
                let answers = data.is_some_and(|data| text(data, "/spec/claim/name") == name(object));
                need(answers, "no Metal3Data answers it");
            }
            "IPClaim" => {
                let address = exists(IP_ADDRESS, "/status/address/name");
                let answers = address.is_some_and(|address| text(address, "/spec/claim/name") == name(object));
                need(answers, "no IPAddress answers it");
            }
            "Metal3DataTemplate" | "IPPool" => {
                let held = object["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
                need(held, "nobody has taken care of it");
            }
            _ => {} // templates and addresses are what they are; remediations are not judged yet
        }
        missing
    }

    /// Whether a message names something that the object may be waiting for. What is wrong with a claim is said in many words.
    fn names_what_it_waits_for(&self, object: &Value, message: &str) -> bool {
        let unseen = message.contains("latest observed generation");
        let mut words = match text(object, "/kind") {
            "Metal3Cluster" => vec!["Cluster", "controlPlaneEndpoint"],
            "Metal3Machine" => {
                vec![
                    "BareMetalHost",
                    "Bootstrap",
                    "Cluster",
                    "Infrastructure",
                    "Machine",
                    "Metal3Data",
                    "Node",
                    "Secret",
                ]
            }
            "Metal3Data" => vec!["BareMetalHost", "Cluster", "IP", "Machine", "Metal3", "Secret", "address"],
            _ => return !message.is_empty(),
        };
        words.extend(self.host_of(object).map(name));
        unseen || words.iter().any(|word| message.contains(word))
    }

    /// Whether Cluster API itself, or our object behind it, says that it has failed.
    fn has_failed(&self, theirs: &Value) -> bool {
        let ours = match text(theirs, "/kind") {
            "Cluster" => METAL3_CLUSTER,
            _ => METAL3_MACHINE,
        };
        let infrastructure = self.get(ours, theirs, text(theirs, "/spec/infrastructureRef/name"));
        let legacy = |object: &Value| object.pointer("/status/deprecated/v1beta1").cloned().unwrap_or_default();
        [Some(theirs), infrastructure].into_iter().flatten().map(legacy).any(|status| {
            let errors =
                status["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["severity"] == "Error"));
            errors || !status["failureMessage"].is_null() || !status["failureReason"].is_null()
        })
    }
}

/// A control plane that only scales is a warning, which Argo CD takes for degraded; that is not about the infrastructure.
fn blames_us(theirs: &Value) -> bool {
    let conditions = theirs.pointer("/status/deprecated/v1beta1/conditions").and_then(Value::as_array);
    let provisioned = |c: &Value| c["type"] == "InfrastructureReady" && c["status"] == "True";
    !conditions.is_some_and(|all| all.iter().any(provisioned))
}

fn same_revision(a: &Value, b: &Value) -> bool {
    text(a, "/metadata/resourceVersion") == text(b, "/metadata/resourceVersion")
}

fn owner<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["kind"] == kind)?.get("name")?.as_str()
}

/// The field managers of two GitOps tools.
const MANAGERS: [&str; 2] = ["argocd-controller", "kustomize-controller"];

/// What a cluster was made from, and all objects of ours in its namespace as manifests of either version, applied by two tools:
/// no spec changes, and the second time nothing is written. The tools then still take everything for done.
pub async fn applied_again(life: &Life<'_>, readers: &Readers, cluster: &str, workers: usize) -> Result<()> {
    let site = &life.site;
    let whole = (cluster, site.namespace.as_str());
    let rendered = generate(life.bed, whole, "development", (1, workers), &[]).await?;
    let mut all: Vec<_> = documents(&rendered)?.collect();
    for watched in watched().into_iter().filter(|watched| watched.role == Role::Ours) {
        all.append(&mut manifests(site, watched.kind).await?);
    }
    for document in all {
        for manager in MANAGERS {
            let applied = twice(&site.client, &document, manager).await;
            applied.with_context(|| format!("{} applied by {manager}", title(&document)))?;
        }
    }
    readers.settled(&site.namespace).await
}

async fn twice(client: &Client, document: &Value, manager: &str) -> Result<()> {
    let how = PatchParams::apply(manager).force();
    let before = live(client, document).await?.and_then(|object| object["metadata"]["generation"].as_i64());
    let first = apply_one(client, document.clone(), &how).await?.metadata.generation;
    ensure!(before.is_none() || before == first, "the generation went from {before:?} to {first:?}");
    // Controllers may write beside us; what is waited for is one apply that writes nothing.
    wait_for("an apply that changes nothing", BOUND, async || {
        let before = live(client, document).await?.context("it is gone")?;
        let after = serde_json::to_value(apply_one(client, document.clone(), &how).await?)?;
        Ok(if same_revision(&before, &after) {
            Seen::Done(())
        } else {
            Seen::Not(format!("before {before}\nafter {after}"))
        })
    })
    .await
}

/// The objects of a kind as a user keeps them: without what the cluster adds.
async fn manifests(site: &Site, kind: Kind) -> Result<Vec<Value>> {
    let manifest = |object: &Value| {
        json!({
            "apiVersion": object["apiVersion"],
            "kind": object["kind"],
            "metadata": {"namespace": site.namespace, "name": name(object)},
            "spec": object["spec"],
        })
    };
    Ok(site.list(kind).await?.iter().map(manifest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kstatus: &str, message: &str, argo: &str) -> Verdict {
        let said = |status: &str| Said { status: status.to_owned(), message: message.to_owned() };
        Verdict { kstatus: said(kstatus), argo: Some(said(argo)) }
    }

    /// A world in which a machine has a host in this state.
    fn world(state: &str) -> History {
        let mut history = History::default();
        let host = json!({
            "kind": "BareMetalHost", "metadata": {"namespace": "ns", "name": "h", "resourceVersion": "1"},
            "spec": {"consumerRef": {"kind": "Metal3Machine", "name": "m"}},
            "status": {"provisioning": {"state": state}},
        });
        let event = Event { revision: 1, of: 0, name: ("ns".into(), "h".into()), object: Some(host) };
        assert_eq!(history.tell(&event, Watched { kind: HOST, role: Role::Fact, hub: true }, None), None);
        history
    }

    fn machine(with: &Value) -> Value {
        let mut machine = json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "Metal3Machine",
            "metadata": {"namespace": "ns", "name": "m", "uid": "u", "resourceVersion": "2"},
        });
        machine.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        machine
    }

    fn provisioned() -> Value {
        machine(
            &json!({"spec": {"providerID": "metal3://ns/h/m"}, "status": {"initialization": {"provisioned": true}}}),
        )
    }

    fn tell(history: &mut History, object: Value, verdict: &Verdict) -> Option<String> {
        let event = Event { revision: 2, of: 0, name: ("ns".into(), "m".into()), object: Some(object) };
        history.tell(&event, Watched { kind: METAL3_MACHINE, role: Role::Ours, hub: true }, Some(verdict))
    }

    #[test]
    fn done_before_the_host_is_provisioned_is_too_early() {
        let current = said("Current", "", "Progressing");
        let wrong = tell(&mut world("provisioning"), provisioned(), &current).unwrap();
        assert!(wrong.contains("is taken for done, but its host is provisioning"), "{wrong}");
        let healthy = said("InProgress", "BareMetalHost h", "Healthy");
        assert!(tell(&mut world("provisioned"), machine(&json!({})), &healthy).is_some());
        assert_eq!(tell(&mut world("provisioned"), provisioned(), &said("Current", "", "Healthy")), None);
    }

    #[test]
    fn what_was_reached_once_is_not_too_early_later() {
        let mut history = world("provisioned");
        let current = said("Current", "", "Healthy");
        assert_eq!(tell(&mut history, provisioned(), &current), None);
        assert_eq!(tell(&mut history, machine(&json!({})), &current), None);
    }

    #[test]
    fn who_waits_says_for_what() {
        let mute = said("InProgress", "", "Progressing");
        assert!(tell(&mut world("provisioning"), machine(&json!({})), &mute).unwrap().contains("does not say"));
        let plain = said("InProgress", "waiting for h", "Progressing");
        assert_eq!(tell(&mut world("provisioning"), machine(&json!({})), &plain), None);
    }

    #[test]
    fn who_is_deleted_terminates() {
        let deleted = || {
            machine(&json!({"metadata": {
                "namespace": "ns", "name": "m", "uid": "u", "resourceVersion": "2", "deletionTimestamp": "2026-01-01T00:00:00Z",
            }}))
        };
        assert!(tell(&mut world(""), deleted(), &said("Current", "", "Healthy")).is_some());
        assert_eq!(tell(&mut world(""), deleted(), &said("Terminating", "", "Progressing")), None);
    }

    #[test]
    fn a_machine_that_takes_its_time_has_not_failed() {
        let watched = Watched { kind: MACHINE, role: Role::Theirs, hub: true };
        let object = json!({"kind": "Machine", "metadata": {"namespace": "ns", "name": "m", "resourceVersion": "2"}});
        let event = |object| Event { revision: 2, of: 0, name: ("ns".into(), "m".into()), object: Some(object) };
        let degraded = said("InProgress", "", "Degraded");
        assert!(world("").tell(&event(object.clone()), watched, Some(&degraded)).is_some());
        let mut failed = object;
        failed["status"] = json!({"deprecated": {"v1beta1": {"failureMessage": "broken"}}});
        assert_eq!(world("").tell(&event(failed), watched, Some(&degraded)), None);
    }

    /// An entry of `docs/argocd/examples.yaml`.
    #[derive(Deserialize)]
    struct Example {
        case: String,
        kstatus: String,
        argo: String,
        #[serde(default)]
        says: String,
        object: Value,
    }

    const EXAMPLES: &str = include_str!("../../docs/argocd/examples.yaml");

    #[tokio::test]
    #[ignore = "runs the Go program that `bed tools` builds"]
    async fn both_tools_read_the_examples_as_written() {
        let paths = crate::paths::Paths::find().unwrap();
        let tools = crate::tools::Tools::locate(&paths).unwrap();
        let program = std::process::Command::new(tools.path("gitops-readers").unwrap());
        let mut judge = Judge::start(program, &paths.root.join(SCRIPTS)).unwrap();
        let examples: Vec<Example> = serde_saphyr::from_str(EXAMPLES).unwrap();
        let objects: Vec<_> = examples.iter().map(|example| &example.object).collect();
        let verdicts = judge.verdicts(&objects).await.unwrap();
        for (example, verdict) in examples.iter().zip(verdicts) {
            let argo = verdict.argo.clone().unwrap();
            let as_written = verdict.kstatus.status == example.kstatus
                && argo.status == example.argo
                && argo.message.contains(&example.says);
            assert!(as_written, "{}: {verdict}", example.case);
        }
    }

    #[test]
    fn each_kind_is_shown_in_each_situation() {
        let examples: Vec<Example> = serde_saphyr::from_str(EXAMPLES).unwrap();
        for kind in OURS {
            let shown = || examples.iter().filter(|example| example.object["kind"] == kind.name());
            let acts = !kind.name().ends_with("Template") && kind != IP_ADDRESS;
            let healthy = if kind == METAL3_REMEDIATION { &[][..] } else { &["Healthy"] };
            for status in healthy.iter().chain(if acts { &["Progressing", "Degraded"][..] } else { &[] }) {
                assert!(shown().any(|example| example.argo == *status), "no {} is {status}", kind.name());
            }
            assert!(!acts || shown().any(|example| example.kstatus == "Terminating"), "no {} is deleted", kind.name());
        }
    }

    /// An example with a field that its kind does not have would show nothing.
    #[test]
    fn the_examples_have_no_field_that_the_published_schemas_lack() {
        let examples: Vec<Example> = serde_saphyr::from_str(EXAMPLES).unwrap();
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        for Example { case, object, .. } in
            examples.iter().filter(|e| OURS.iter().any(|k| e.object["kind"] == k.name()))
        {
            let (group, version) = text(object, "/apiVersion").split_once('/').unwrap();
            let plural =
                OURS.iter().find(|kind| object["kind"] == kind.name()).map(|kind| resource(*kind).plural).unwrap();
            let file = std::fs::read_to_string(crds.join(format!("{plural}.{group}.yaml"))).unwrap();
            let crd = documents(&file).unwrap().next().unwrap();
            let versions = crd["spec"]["versions"].as_array().unwrap();
            let served = versions.iter().find(|served| served["name"] == version).unwrap();
            for part in ["spec", "status"] {
                let schema = &served["schema"]["openAPIV3Schema"]["properties"][part];
                assert_eq!(unknown(&object[part], schema), None, "{case}: {part}");
            }
        }
    }

    /// The first field that a schema does not describe.
    fn unknown(value: &Value, schema: &Value) -> Option<String> {
        match value {
            Value::Object(fields) => fields.iter().find_map(|(key, value)| match schema["properties"].get(key) {
                Some(schema) => Some(format!("{key}.{}", unknown(value, schema)?)),
                None => schema.get("additionalProperties").is_none().then(|| key.clone()),
            }),
            Value::Array(items) => items.iter().find_map(|item| unknown(item, &schema["items"])),
            _ => None,
        }
    }

    #[test]
    fn a_control_plane_that_scales_is_not_about_us() {
        let of = |status: &str| json!([{"type": "InfrastructureReady", "status": status}]);
        let cluster =
            |status| json!({"kind": "Cluster", "status": {"deprecated": {"v1beta1": {"conditions": of(status)}}}});
        assert!(!blames_us(&cluster("True")));
        assert!(blames_us(&cluster("False")) && blames_us(&json!({"kind": "Machine"})));
    }

    #[test]
    fn versions_of_an_object_are_judged_after_their_facts() {
        let all = watched();
        let first_older = all.iter().position(|watched| !watched.hub).unwrap();
        assert!(all[first_older..].iter().all(|watched| !watched.hub && watched.role != Role::Fact));
        assert_eq!(all.len(), 2 + 2 + 12 + 2 + 9);
    }
}
