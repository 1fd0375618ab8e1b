//! Watches hosts and their Secrets and carries out what [`decide`] says.
//!
//! The events that wake a host are the real operator's: a new generation, other finalizers or annotations, and its Secrets; its own
//! status is not among them. Every write carries the resourceVersion that was decided on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::{Secret, SecretMeta};
use capm3_api::k8s::{ObjectMeta, OwnerReference};
use capm3_api::names::{FORMAT_LIVE_ISO, HOST_API_VERSION, HOST_GROUP};
use capm3_runtime::{
    Change, Clock, Controller, Dice, Hub, HubOptions, Key, Metrics, Next as Wake, Preconditions, Queue, ReadError,
    Reader, Reconcile, ReconcileError, Retry, Store, SystemClock, SystemDice, Tasks, WatchOptions, WriteError, Writer,
    key_of, merge_diff,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::decide::{Bench, Credentials, Next, Seen, Step, decide};
use super::drive::{Sources, config_drive};
use super::view::{FINALIZER, HARDWARE_DATA_FINALIZER, Host, SECRET_FINALIZER, SECRET_LABEL, SecretRef, Status};
use super::{HardwareProfile, Timings};
use crate::room::{Build, HostId, MachineRoom, Nic, RoomError};

const NAME: &str = "baremetalhost";
/// Index of hosts by `<namespace>/<secret>`.
const SECRET: &str = "secret";
/// Steps of one pass; a host that is not at rest by then goes on in the next one.
const MOST_STEPS: usize = 30;
/// Another writer was faster.
const CONFLICT_RETRY: Duration = Duration::from_millis(20);

/// What the operator is given besides a client and a machine room.
#[derive(Clone)]
pub struct Options {
    pub timings: Timings,
    /// Look after the hosts of one namespace only.
    pub namespace: Option<String>,
    /// Hosts worked on at a time.
    pub workers: usize,
    pub clock: Arc<dyn Clock>,
    /// Spreads the retries of broken watches.
    pub dice: Arc<dyn Dice>,
    /// What an inspection finds, by host and `spec.bootMACAddress`.
    pub hardware: Arc<Hardware>,
}

/// What stands under a host's name.
pub type Hardware = dyn Fn(&HostId, Option<&str>) -> HardwareProfile + Send + Sync;

impl Default for Options {
    fn default() -> Self {
        Self {
            timings: Timings::default(),
            namespace: None,
            workers: 8,
            clock: Arc::new(SystemClock),
            dice: Arc::new(SystemDice),
            hardware: Arc::new(HardwareProfile::plain),
        }
    }
}

/// The operator of all hosts of a management cluster.
pub struct Operator<R> {
    hosts: Store<Host>,
    hardware_data: Store<HardwareData>,
    reader: Reader,
    writer: Writer,
    room: Arc<R>,
    options: Options,
    /// By uid. A lock is held only to copy in and out.
    memory: Mutex<BTreeMap<String, Memory>>,
}

/// A [`Bench`] with the moment from which its time counts.
struct Memory {
    bench: Bench,
    since: Instant,
}

/// HardwareData: the result of an inspection, for those who read it there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct HardwareData {
    metadata: ObjectMeta,
    spec: HardwareDataSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct HardwareDataSpec {
    hardware: Option<Value>,
}

/// What a step can fail of; the worker logs it and tries again.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("cannot read what a host needs")]
    Read(#[source] ReadError),
    #[error("cannot write for a host")]
    Write(#[source] WriteError),
    /// Logged and tried again; the real operator shows it nowhere else.
    #[error("cannot make the config drive: {0}")]
    Source(String),
    #[error("the machine room failed")]
    Room(#[source] RoomError),
}

impl ReconcileError for OperatorError {
    fn category(&self) -> &'static str {
        match self {
            Self::Read(error) => error.category(),
            Self::Write(error) => error.category(),
            Self::Source(_) => "ConfigDrive",
            Self::Room(_) => "MachineRoom",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Write(WriteError::Conflict(_)) => Retry::After(CONFLICT_RETRY),
            Self::Read(_) | Self::Write(_) | Self::Source(_) | Self::Room(_) => Retry::Backoff,
        }
    }
}

impl<R: MachineRoom> Operator<R> {
    /// Starts watching and working; ends with `tasks`.
    pub async fn spawn(client: kube::Client, room: Arc<R>, options: Options, tasks: &Tasks) {
        let metrics = Metrics::new();
        let namespace = options.namespace.clone();
        let dice = options.dice.clone();
        let watching = HubOptions { namespace, metrics: metrics.clone(), dice, ..HubOptions::default() };
        let hub = Hub::new(client.clone(), watching);
        let hosts = hub.store::<Host>(WatchOptions::default());
        let hardware_data = hub.store::<HardwareData>(WatchOptions::default());
        let secrets = hub.store::<SecretMeta>(WatchOptions::default());
        hosts.index(SECRET, secrets_of);
        let queue = Queue::with_metrics(NAME, &metrics);
        hub.route(
            &hosts,
            &queue,
            |change: &Change<Host>| if concerns(change) { vec![change.key()] } else { Vec::new() },
        );
        let by_secret = hosts.clone();
        hub.route(&secrets, &queue, move |change: &Change<SecretMeta>| {
            by_secret.by_index(SECRET, &change.key().to_string()).into_iter().map(|host| key_of(&*host)).collect()
        });
        let workers = options.workers;
        let operator = Self {
            hosts,
            hardware_data,
            reader: Reader::new(client),
            writer: Writer::new(&hub),
            room,
            options,
            memory: Mutex::default(),
        };
        hub.start(tasks);
        hub.wait_synced().await;
        Controller::new(NAME, queue, operator, workers).spawn(&metrics, tasks);
    }

    async fn credentials(&self, host: &Host) -> Result<(Credentials, Option<Secret>), OperatorError> {
        let name = &host.spec.bmc.credentials_name;
        if name.is_empty() {
            return Ok((Credentials::Unnamed, None));
        }
        let secret = self.reader.get::<Secret>(&key_of(host).sibling(name)).await.map_err(OperatorError::Read)?;
        let Some(secret) = secret else { return Ok((Credentials::Missing { name: name.clone() }, None)) };
        let has = |key| secret.data.get(key).is_some_and(|value| !value.trim_ascii().is_empty());
        let credentials = match ["username", "password"].into_iter().find(|key| !has(key)) {
            Some(key) => Credentials::Incomplete { key },
            None => Credentials::Valid {
                name: name.clone(),
                version: secret.metadata.resource_version.clone().unwrap_or_default(),
                claimed: claimed(&secret.metadata, host, true) == secret.metadata,
            },
        };
        Ok((credentials, Some(secret)))
    }

    /// The bench of a host, as if it had been watched all along.
    async fn bench(&self, host: &Host) -> Bench {
        let mut memory = self.memory.lock().await;
        let known = memory.entry(host.id().uid).or_insert_with(|| Memory {
            bench: Bench { bare_metal_on: host.status.powered_on, ..Bench::default() },
            since: Instant::now(),
        });
        Bench { elapsed: known.since.elapsed(), ..known.bench.clone() }
    }

    async fn remember(&self, host: &Host, change: impl FnOnce(&mut Memory)) {
        if let Some(memory) = self.memory.lock().await.get_mut(&host.id().uid) {
            change(memory);
        }
    }

    async fn carry_out(&self, host: &Host, secret: Option<&Secret>, step: Step) -> Result<(), OperatorError> {
        match step {
            Step::AddFinalizer => {
                let mut wanted = host.clone();
                wanted.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
                self.patch(host, &wanted).await
            }
            Step::RemoveFinalizer => {
                let mut wanted = host.clone();
                wanted.metadata.finalizers.iter_mut().for_each(|all| all.retain(|one| one != FINALIZER));
                self.patch(host, &wanted).await
            }
            Step::RemoveAnnotation(name) => {
                // Nothing else of the host depends on it, so a write before it in the same plan does no harm.
                let patch = json!({"metadata": {"annotations": {name: null}}});
                let written = self.writer.patch::<Host>(&key_of(host), patch, &Preconditions::same(host)).await;
                written.map(drop).map_err(OperatorError::Write)
            }
            Step::SetArchitecture(architecture) => {
                let patch = json!({"spec": {"architecture": architecture}});
                let written = self.writer.patch::<Host>(&key_of(host), patch, &Preconditions::unchanged(host)).await;
                written.map(drop).map_err(OperatorError::Write)
            }
            Step::ClaimCredentials => match secret {
                Some(secret) => self.claim(secret, host, true).await,
                None => Ok(()),
            },
            Step::ReleaseCredentials => match secret {
                Some(secret) => self.release(secret).await,
                None => Ok(()),
            },
            Step::StoreHardware(hardware) => self.store_hardware(host, hardware).await,
            Step::ReleaseHardware => self.release_hardware(&key_of(host)).await,
            Step::Build => self.build(host).await,
            Step::Power(on) => self.power(host, on).await,
            Step::Wipe => {
                self.room.deprovision(&host.id()).await.map_err(OperatorError::Room)?;
                tracing::info!(host = %key_of(host), "wiped");
                self.remember(host, |memory| memory.bench = Bench::default()).await;
                Ok(())
            }
            Step::Status(status) => self.write_status(host, *status).await,
        }
    }

    async fn patch(&self, before: &Host, after: &Host) -> Result<(), OperatorError> {
        let Some(patch) = merge_diff(before, after).map_err(OperatorError::Write)? else { return Ok(()) };
        let written = self.writer.patch::<Host>(&key_of(before), patch, &Preconditions::unchanged(before)).await;
        written.map(drop).map_err(OperatorError::Write)
    }

    async fn write_status(&self, host: &Host, status: Status) -> Result<(), OperatorError> {
        let key = key_of(host);
        let (state, failed) = (status.provisioning.state.clone(), status.error_type.clone());
        // The first write has to name every field that the schema requires.
        let patch = if host.status.last_updated.is_none() {
            Some(json!({"status": status}))
        } else {
            merge_diff(host, &Host { status, ..host.clone() }).map_err(OperatorError::Write)?
        };
        if let Some(patch) = patch {
            let only_if = Preconditions::unchanged(host);
            self.writer.patch_status::<Host>(&key, patch, &only_if).await.map_err(OperatorError::Write)?;
        }
        let (moved, other_error) = (state != host.state(), failed != host.status.error_type);
        if moved {
            tracing::info!(host = %key, from = host.state(), to = state, "state");
        }
        if other_error && !failed.is_empty() {
            tracing::warn!(host = %key, error = failed, "host is in error");
        }
        self.remember(host, |memory| {
            memory.bench.power_failure = None;
            if moved || other_error {
                memory.since = Instant::now();
                memory.bench.built = None;
            }
        })
        .await;
        Ok(())
    }

    async fn build(&self, host: &Host) -> Result<(), OperatorError> {
        let image = host.spec.image.clone().unwrap_or_default();
        let live = image.format.as_deref() == Some(FORMAT_LIVE_ISO);
        let config_drive = if live {
            None
        } else {
            let sources = self.sources(host).await?;
            Some(config_drive(host, &sources).map_err(OperatorError::Source)?)
        };
        let build = Build { image, config_drive, nics: nics(host) };
        let built = self.room.provision(&host.id(), build).await.map_err(|refusal| refusal.message);
        tracing::info!(host = %key_of(host), image = host.image_url(), refused = built.as_ref().err(), "disk written");
        self.remember(host, |memory| {
            memory.bench.built = Some(built);
            memory.since = Instant::now();
        })
        .await;
        Ok(())
    }

    /// The texts of the Secrets that the host names, in its own namespace only.
    async fn sources(&self, host: &Host) -> Result<Sources, OperatorError> {
        let spec = &host.spec;
        let preprovisioning =
            spec.preprovisioning_network_data_name.clone().map(|name| SecretRef { name, namespace: None });
        let network = spec.network_data.clone().or(preprovisioning);
        let network_data = match self.source(host, network.as_ref(), "networkData").await {
            Err(OperatorError::Source(why)) if why.contains(NO_KEY) => None, // only for network data
            other => other?,
        };
        Ok(Sources {
            user_data: self.source(host, spec.user_data.as_ref(), "userData").await?,
            meta_data: self.source(host, spec.meta_data.as_ref(), "metaData").await?,
            network_data,
        })
    }

    async fn source(
        &self,
        host: &Host,
        named: Option<&SecretRef>,
        field: &str,
    ) -> Result<Option<Vec<u8>>, OperatorError> {
        let Some(named) = named else { return Ok(None) };
        let (id, own) = (host.id(), key_of(host));
        if named.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty() && *namespace != id.namespace) {
            let text = format!("{field} secret must be in same namespace as host {own}");
            return Err(OperatorError::Source(text));
        }
        let key = own.sibling(&named.name);
        let secret = self.reader.get::<Secret>(&key).await.map_err(OperatorError::Read)?;
        let Some(secret) = secret else {
            let (name, namespace) = (&key.name, &key.namespace);
            return Err(OperatorError::Source(format!(
                "failed to fetch secret {name} in namespace {namespace}: not found"
            )));
        };
        self.claim(&secret, host, false).await?;
        match secret.data.get(field).or_else(|| secret.data.get("value")) {
            Some(bytes) => Ok(Some(bytes.to_vec())),
            None => Err(OperatorError::Source(format!("Secret {} {NO_KEY} {field}", key.name))),
        }
    }

    async fn power(&self, host: &Host, on: bool) -> Result<(), OperatorError> {
        let id = host.id();
        let switched = self.room.power(&id, on).await;
        tracing::info!(host = %key_of(host), on, failed = switched.is_err(), "power");
        self.remember(host, |memory| match switched {
            Ok(()) => memory.bench.bare_metal_on = on,
            Err(error) => memory.bench.power_failure = Some(error.message),
        })
        .await;
        Ok(())
    }

    /// Label on every Secret that is read; owner and finalizer on those with credentials.
    async fn claim(&self, secret: &Secret, host: &Host, credentials: bool) -> Result<(), OperatorError> {
        let wanted = claimed(&secret.metadata, host, credentials);
        let of = |metadata: &ObjectMeta| SecretMeta { metadata: metadata.clone(), ..SecretMeta::default() };
        let Some(patch) = merge_diff(&of(&secret.metadata), &of(&wanted)).map_err(OperatorError::Write)? else {
            return Ok(());
        };
        let written = self.writer.patch::<SecretMeta>(&key_of(secret), patch, &Preconditions::unchanged(secret)).await;
        written.map(drop).map_err(OperatorError::Write)
    }

    async fn release(&self, secret: &Secret) -> Result<(), OperatorError> {
        let finalizers = secret.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|one| one == SECRET_FINALIZER) {
            return Ok(());
        }
        let left: Vec<_> = finalizers.into_iter().filter(|one| one != SECRET_FINALIZER).collect();
        let patch = json!({"metadata": {"finalizers": left}});
        let written = self.writer.patch::<SecretMeta>(&key_of(secret), patch, &Preconditions::unchanged(secret)).await;
        gone_is_fine(written.map(drop))
    }

    async fn store_hardware(&self, host: &Host, hardware: Value) -> Result<(), OperatorError> {
        let key = key_of(host);
        if self.hardware_data.get(&key).is_some() {
            self.release_hardware(&key).await?;
            gone_is_fine(self.writer.delete::<HardwareData>(&key, &Preconditions::none()).await)?;
        }
        let id = host.id();
        let metadata = ObjectMeta {
            name: Some(id.name),
            namespace: Some(id.namespace),
            finalizers: Some(vec![HARDWARE_DATA_FINALIZER.to_owned()]),
            owner_references: Some(vec![OwnerReference {
                controller: Some(true),
                block_owner_deletion: Some(true),
                ..owner(host)
            }]),
            ..ObjectMeta::default()
        };
        let object = HardwareData { metadata, spec: HardwareDataSpec { hardware: Some(hardware) } };
        match self.writer.create(&object).await {
            Ok(_) | Err(WriteError::AlreadyExists(_)) => Ok(()),
            Err(error) => Err(OperatorError::Write(error)),
        }
    }

    async fn release_hardware(&self, key: &Key) -> Result<(), OperatorError> {
        let Some(object) = self.hardware_data.get(key) else { return Ok(()) };
        let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        let left: Vec<_> = finalizers.into_iter().filter(|one| one != HARDWARE_DATA_FINALIZER).collect();
        let patch = json!({"metadata": {"finalizers": left}});
        let written = self.writer.patch::<HardwareData>(key, patch, &Preconditions::unchanged(&*object)).await;
        gone_is_fine(written.map(drop))
    }
}

impl<R: MachineRoom> Reconcile for Operator<R> {
    type Error = OperatorError;

    async fn reconcile(&self, key: &Key) -> Result<Wake, OperatorError> {
        for _ in 0..MOST_STEPS {
            let Some(host) = self.hosts.get(key) else {
                let known: Vec<_> = self.hosts.all().iter().map(|host| host.id().uid).collect();
                self.memory.lock().await.retain(|uid, _| known.contains(uid));
                return Ok(Wake::Done);
            };
            let (credentials, secret) = self.credentials(&host).await?;
            let hardware_data = self.hardware_data.get(key);
            let hardware = (self.options.hardware)(&host.id(), host.spec.boot_mac_address.as_deref()).details();
            let bench = self.bench(&host).await;
            let plan = decide(&Seen {
                host: &host,
                credentials: &credentials,
                hardware_data: hardware_data.as_ref().and_then(|data| data.spec.hardware.as_ref()),
                hardware_held: hardware_data.as_ref().is_some_and(|data| {
                    data.metadata.finalizers.iter().flatten().any(|one| one == HARDWARE_DATA_FINALIZER)
                }),
                hardware: &hardware,
                room: self.room.state(&host.id()).await,
                bench: &bench,
                timings: &self.options.timings,
                now: self.options.clock.now(),
            });
            for step in plan.steps {
                self.carry_out(&host, secret.as_ref(), step).await?;
            }
            match plan.next {
                Next::Again => {}
                Next::After(pause) => return Ok(Wake::After(pause)),
                Next::Event => return Ok(Wake::Done),
            }
        }
        Ok(Wake::After(CONFLICT_RETRY))
    }
}

const NO_KEY: &str = "does not contain key";

/// What wakes a host: a new generation, or other finalizers or annotations. Its status does not.
fn concerns(change: &Change<Host>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let of = |host: &Host| {
        let meta = &host.metadata;
        (meta.generation, meta.finalizers.clone(), meta.annotations.clone(), meta.deletion_timestamp.clone())
    };
    of(old) != of(new)
}

fn secrets_of(host: &Host) -> Vec<String> {
    let spec = &host.spec;
    let named = [&spec.user_data, &spec.meta_data, &spec.network_data].into_iter().flatten().map(|secret| &secret.name);
    let named = named.chain(spec.preprovisioning_network_data_name.iter()).chain([&spec.bmc.credentials_name]);
    let named = named.filter(|name| !name.is_empty());
    named.map(|name| key_of(host).sibling(name).to_string()).collect()
}

fn claimed(metadata: &ObjectMeta, host: &Host, credentials: bool) -> ObjectMeta {
    let mut wanted = metadata.clone();
    let (label, value) = SECRET_LABEL;
    wanted.labels.get_or_insert_default().entry(label.to_owned()).or_insert_with(|| value.to_owned());
    if credentials {
        let owners = wanted.owner_references.get_or_insert_default();
        if !owners.iter().any(|owner| owner.uid == host.id().uid) {
            owners.push(owner(host));
        }
        let finalizers = wanted.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|one| one == SECRET_FINALIZER) {
            finalizers.push(SECRET_FINALIZER.to_owned());
        }
    }
    wanted
}

fn owner(host: &Host) -> OwnerReference {
    let id = host.id();
    OwnerReference {
        api_version: HOST_API_VERSION.to_owned(),
        kind: "BareMetalHost".to_owned(),
        name: id.name,
        uid: id.uid,
        ..OwnerReference::default()
    }
}

fn nics(host: &Host) -> Vec<Nic> {
    let nics = host.status.hardware.as_ref().and_then(|hardware| hardware.get("nics")).cloned().unwrap_or_default();
    serde_json::from_value(nics).unwrap_or_default()
}

fn gone_is_fine(answer: Result<(), WriteError>) -> Result<(), OperatorError> {
    match answer {
        Ok(()) | Err(WriteError::NotFound(_)) => Ok(()),
        Err(error) => Err(OperatorError::Write(error)),
    }
}

impl kube::Resource for HardwareData {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "HardwareData".into()
    }
    fn group((): &()) -> std::borrow::Cow<'_, str> {
        HOST_GROUP.into()
    }
    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1alpha1".into()
    }
    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "hardwaredata".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
