//! Renders each Metal3Data into Secrets, and gives its addresses back when it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use capm3_api::foreign::{BareMetalHost, Cluster, IPAddressClaim, Machine, Secret, SecretMeta};
use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataStatus, Metal3DataTemplate, Metal3Machine};
use capm3_api::ipam::v1alpha1::IPClaim;
use capm3_api::k8s::ResourceExt;
use capm3_api::names::{finalizer, label};
use capm3_core::data::claims::{self, Known, Release, claim_name};
use capm3_core::data::life::{
    self, Action, Departure, Observed, Plan, SecretState, Waiting, host_of, machine_of, metal3_machine_of,
};
use capm3_runtime::{Clock, Key, ListOptions, Next, Object, ReadError, Reader, Reconcile, WriteError, Writer, key_of};

use super::{
    BY_LABEL, BY_OWNER, BY_OWNER_NAME, DataError, RACE, SAFETY_NET, Stores, UNREAD, UNWATCHED, cluster_label, delete,
    is_race, let_go, patch, patch_status,
};

pub(super) struct Datas {
    pub(super) stores: Stores,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) by_host: bool,
}

/// What the caches know around one Metal3Data.
struct Gathered {
    data: Arc<Metal3Data>,
    cluster: Option<Arc<Cluster>>,
    template: Option<Arc<Metal3DataTemplate>>,
    claim: Option<Arc<Metal3DataClaim>>,
    metal3_machine: Option<Arc<Metal3Machine>>,
    machine: Option<Arc<Machine>>,
    host: Option<Arc<BareMetalHost>>,
    known: Known,
    secrets: BTreeMap<String, SecretState>,
    by_host: bool,
}

/// How carrying out a plan ended.
enum Applied {
    All,
    /// A Secret of the name exists: look at it and decide again.
    SecretExists(String),
    Race,
}

impl Reconcile for Datas {
    type Error = DataError;

    async fn reconcile(&self, key: &Key) -> Result<Next, DataError> {
        self.let_go_of_left_behind(key).await?;
        let Some(data) = self.stores.datas.get(key) else { return Ok(Next::Done) };
        let mut gathered = self.gather(key, data);
        if gathered.data.metadata.deletion_timestamp.is_some() {
            return self.depart(key, gathered).await;
        }
        for name in life::owed_secrets(&gathered.observed()) {
            self.look_at(key, name, &mut gathered).await?;
        }
        // Each Secret can send us back once; the plan after that does not create it again.
        loop {
            let plan = life::decide(&gathered.observed());
            match self.apply(&mut gathered, &plan).await? {
                Applied::SecretExists(name) => {
                    let before = gathered.secrets.get(&name).copied();
                    if before == Some(self.look_at(key, name, &mut gathered).await?) {
                        return Ok(Next::After(RACE));
                    }
                }
                Applied::Race => return Ok(Next::After(RACE)),
                Applied::All => {
                    for pool in &plan.without_gateway {
                        tracing::warn!(data = %key, %pool, "the template asks for the gateway of a pool that has none");
                    }
                    return match plan.next {
                        life::Next::Done
                            if plan.status.ready == Some(true) && life::may_be_read(&gathered.observed()) =>
                        {
                            Ok(Next::After(UNREAD))
                        }
                        life::Next::Done => Ok(Next::Done),
                        life::Next::Wait(waiting) => {
                            tracing::debug!(%waiting, "data waits");
                            let young = life::is_young(&gathered.data, self.clock.now());
                            Ok(Next::After(match waiting {
                                _ if young => life::JUST_CREATED, // by then it is worth a word
                                Waiting::OldSecret => UNWATCHED,
                                _ => SAFETY_NET,
                            }))
                        }
                        life::Next::Fail(message) => Err(DataError::Refused(message)),
                    };
                }
            }
        }
    }
}

impl Datas {
    fn gather(&self, key: &Key, data: Arc<Metal3Data>) -> Gathered {
        let stores = &self.stores;
        let template =
            data.spec.template.as_ref().and_then(|template| stores.templates.get(&key.sibling(&template.name)));
        let claim = data.spec.claim.as_ref().and_then(|claim| stores.claims.get(&key.sibling(&claim.name)));
        let metal3_machine = claim.as_deref().and_then(metal3_machine_of);
        let metal3_machine = metal3_machine.and_then(|owner| stores.metal3_machines.get(&key.sibling(&owner.name)));
        let machine = metal3_machine.as_deref().and_then(machine_of);
        let machine = machine.and_then(|owner| stores.machines.get(&key.sibling(&owner.name)));
        let host = metal3_machine.as_deref().and_then(|machine| host_of(machine).ok().flatten());
        let host = host.and_then(|name| stores.hosts.get(&key.sibling(name)));
        let mut gathered = Gathered {
            cluster: cluster_label(&data.metadata).and_then(|cluster| stores.clusters.get(&cluster)),
            data,
            template,
            claim,
            metal3_machine,
            machine,
            host,
            known: Known::default(),
            secrets: BTreeMap::new(),
            by_host: self.by_host,
        };
        gathered.known = self.known(key, &gathered);
        gathered
    }

    /// What a Secret is to this data now.
    async fn look_at(&self, key: &Key, name: String, gathered: &mut Gathered) -> Result<SecretState, DataError> {
        let found = self.reader.get::<SecretMeta>(&key.sibling(&name)).await.map_err(DataError::Read)?;
        let state = SecretState::of(found.as_ref().map(|secret| &secret.metadata), &gathered.data);
        gathered.secrets.insert(name, state);
        Ok(state)
    }

    /// The claims this data owns, those its pools may have under its name or the host's, and the addresses they name.
    fn known(&self, key: &Key, gathered: &Gathered) -> Known {
        let stores = &self.stores;
        let mut known = Known::default();
        if let Some(uid) = &gathered.data.metadata.uid {
            known.claims.extend(by_name(stores.ip_claims.by_index(BY_OWNER, uid)));
            known.capi_claims.extend(by_name(stores.capi_claims.by_index(BY_OWNER, uid)));
        }
        known.claims.extend(by_name(stores.ip_claims.by_index(BY_LABEL, &key.to_string())));
        let host = gathered.host.as_ref().map(|host| host.name_any());
        for pool in life::pools_of(&gathered.observed()).keys() {
            for holder in [Some(&key.name), host.as_ref()].into_iter().flatten() {
                known.claims.extend(by_name(stores.ip_claims.get(&key.sibling(claim_name(holder, pool)))));
            }
            known.capi_claims.extend(by_name(stores.capi_claims.get(&key.sibling(claim_name(&key.name, pool)))));
        }
        let addresses =
            known.claims.values().filter_map(|claim| claim.status.as_ref()?.address.as_ref()?.name.as_deref());
        known.addresses = addresses.flat_map(|name| by_name(stores.ip_addresses.get(&key.sibling(name)))).collect();
        let addresses = known.capi_claims.values().filter_map(|claim| claim.status.as_ref()?.address_ref.as_ref());
        let addresses = addresses.flat_map(|address| by_name(stores.capi_addresses.get(&key.sibling(&address.name))));
        known.capi_addresses = addresses.collect();
        known
    }

    /// The actions, then the status; the status is told also when an action is refused.
    async fn apply(&self, gathered: &mut Gathered, plan: &Plan) -> Result<Applied, DataError> {
        for action in &plan.actions {
            let result = match action {
                Action::Intend(intended) => {
                    let patched = patch(&self.writer, &*gathered.data, &**intended).await;
                    patched.map(|data| gathered.data = Arc::new(data))
                }
                Action::Address(action) => self.apply_to_claims(action).await,
                Action::Store(secret) => match self.writer.create::<Secret>(secret).await {
                    Err(WriteError::AlreadyExists(_)) => return Ok(Applied::SecretExists(secret.name_any())),
                    created => created.map(|_| tracing::info!(secret = %key_of(&**secret), "rendered")),
                },
            };
            match result {
                Ok(()) => {}
                Err(error) if is_race(&error) => return Ok(Applied::Race),
                Err(error) => {
                    if let Some(refused) = refusal(&error) {
                        let status = life::refused(&gathered.data, &refused, self.clock.now());
                        // The write that failed is the news; that its message is lost too would say nothing more.
                        let _ = self.tell(gathered, status).await;
                    }
                    return Err(DataError::Write(error));
                }
            }
        }
        let status = life::status(&gathered.observed(), plan, self.clock.now());
        match self.tell(gathered, status).await {
            Ok(()) => Ok(Applied::All),
            Err(error) if is_race(&error) => Ok(Applied::Race),
            Err(error) => Err(DataError::Write(error)),
        }
    }

    async fn tell(&self, gathered: &Gathered, status: Metal3DataStatus) -> Result<(), WriteError> {
        let before = &*gathered.data;
        let status = (before.status.is_some() || status != Metal3DataStatus::default()).then_some(status);
        let after = Metal3Data { status, ..before.clone() };
        patch_status(&self.writer, before, &after).await.map(drop)
    }

    /// A name that is taken counts as created: the next pass sees whose claim it is.
    async fn apply_to_claims(&self, action: &claims::Action) -> Result<(), WriteError> {
        let created = match action {
            claims::Action::Claim(claim) => self.writer.create(&**claim).await.map(drop),
            claims::Action::ClaimFromCapi(claim) => self.writer.create(&**claim).await.map(drop),
            claims::Action::LetGo(claim) => let_go(&self.writer, &**claim, finalizer::DATA).await,
            claims::Action::LetGoOfCapi(claim) => let_go(&self.writer, &**claim, finalizer::DATA).await,
        };
        match created {
            Err(WriteError::AlreadyExists(_)) => Ok(()),
            other => other,
        }
    }

    async fn depart(&self, key: &Key, mut gathered: Gathered) -> Result<Next, DataError> {
        let mut departure = life::depart(&gathered.observed(), false);
        if departure == Departure::LookLive {
            let live = self.known_live(key, &gathered.data).await.map_err(DataError::Read)?;
            // Those that lost the label by which they are listed are in the caches still.
            gathered.known.claims.extend(live.claims);
            gathered.known.capi_claims.extend(live.capi_claims);
            if let (None, Some(claim)) = (&gathered.claim, &gathered.data.spec.claim) {
                let claim = self.reader.get(&key.sibling(&claim.name)).await.map_err(DataError::Read)?;
                gathered.claim = claim.map(Arc::new);
            }
            departure = life::depart(&gathered.observed(), true);
        }
        let releases = match departure {
            Departure::Gone => return Ok(Next::Done),
            Departure::Wait(waiting) => {
                tracing::debug!(%waiting, "departing data waits");
                return Ok(Next::After(SAFETY_NET));
            }
            Departure::LookLive => return Ok(Next::After(RACE)),
            Departure::Leave(releases) => releases,
        };
        let left = async {
            for release in &releases {
                self.release(release).await?;
            }
            let_go(&self.writer, &*gathered.data, finalizer::DATA).await
        };
        match left.await {
            Ok(()) => {
                tracing::info!(claims = releases.len(), "addresses given back");
                Ok(Next::Done)
            }
            Err(error) if is_race(&error) => Ok(Next::After(RACE)),
            Err(error) => Err(DataError::Write(error)),
        }
    }

    async fn release(&self, release: &Release) -> Result<(), WriteError> {
        match release {
            Release::Metal3 { claim, let_go: held, delete: alive } => self.release_claim(&**claim, *held, *alive).await,
            Release::Capi { claim, let_go: held, delete: alive } => self.release_claim(&**claim, *held, *alive).await,
        }
    }

    async fn release_claim<K>(&self, claim: &K, held: bool, alive: bool) -> Result<(), WriteError>
    where
        K: Object + serde::Serialize,
    {
        if held {
            let_go(&self.writer, claim, finalizer::DATA).await?;
        }
        if alive { delete(&self.writer, claim).await } else { Ok(()) }
    }

    /// A request can outlive the Metal3Data it was sent for. What the caches say is looked up before it is believed.
    async fn let_go_of_left_behind(&self, key: &Key) -> Result<(), DataError> {
        let owner = key.to_string();
        let known = Known {
            claims: by_name(self.stores.ip_claims.by_index(BY_OWNER_NAME, &owner)).collect(),
            capi_claims: by_name(self.stores.capi_claims.by_index(BY_OWNER_NAME, &owner)).collect(),
            ..Known::default()
        };
        if claims::left_behind(self.stores.datas.get(key).as_deref(), &known).is_empty() {
            return Ok(());
        }
        let data: Option<Metal3Data> = self.reader.get(key).await.map_err(DataError::Read)?;
        for release in claims::left_behind(data.as_ref(), &known) {
            tracing::info!(data = %key, "an address claim was left behind");
            if let Err(error) = self.release(&release).await
                && !is_race(&error)
            {
                return Err(DataError::Write(error));
            }
        }
        Ok(())
    }

    /// All claims around the data, past the caches. A kind that is not served has no claims.
    async fn known_live(&self, key: &Key, data: &Metal3Data) -> Result<Known, ReadError> {
        let mut options = ListOptions::namespace(&key.namespace);
        if let Some(cluster) = cluster_label(&data.metadata) {
            options = options.labels(format!("{}={}", label::CLUSTER_NAME, cluster.name));
        }
        let claims = served(self.reader.list::<IPClaim>(&options).await)?;
        let capi_claims = served(self.reader.list::<IPAddressClaim>(&options).await)?;
        Ok(Known {
            claims: by_name(claims.into_iter().map(Arc::new)).collect(),
            capi_claims: by_name(capi_claims.into_iter().map(Arc::new)).collect(),
            ..Known::default()
        })
    }
}

impl Gathered {
    fn observed(&self) -> Observed<'_> {
        Observed {
            data: &self.data,
            cluster: self.cluster.as_deref(),
            template: self.template.as_deref(),
            claim: self.claim.as_deref(),
            metal3_machine: self.metal3_machine.as_deref(),
            machine: self.machine.as_deref(),
            host: self.host.as_deref(),
            known: &self.known,
            secrets: &self.secrets,
            by_host: self.by_host,
        }
    }
}

fn by_name<K: Object>(objects: impl IntoIterator<Item = Arc<K>>) -> impl Iterator<Item = (String, Arc<K>)> {
    objects.into_iter().map(|object| (object.name_any(), object))
}

fn served<K>(listed: Result<Vec<K>, ReadError>) -> Result<Vec<K>, ReadError> {
    match listed {
        Err(ReadError::NoSuchKind { .. }) => Ok(Vec::new()),
        other => other,
    }
}

/// What the API server said about content that it does not want, for the user to read.
fn refusal(error: &WriteError) -> Option<String> {
    match error {
        WriteError::Invalid(failure) | WriteError::Forbidden(failure) => {
            Some(format!("{} {}: {}", failure.kind, failure.key, failure.message))
        }
        WriteError::Conflict(_)
        | WriteError::NotFound(_)
        | WriteError::AlreadyExists(_)
        | WriteError::Unknown(_)
        | WriteError::Failed(_)
        | WriteError::Encode(_) => None,
    }
}
