//! Answers the claims on each data template with Metal3Data, and lets go of what a claim leaves behind.

use std::sync::Arc;

use capm3_api::NamespacedRef;
use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataClaimStatus, Metal3DataTemplate};
use capm3_api::names::finalizer;
use capm3_core::data::template::{
    self, CREATE_FAILED, Claim, ClaimPlan, DELETE_FAILED, Observed, Plan, Step, answers, claim_status, is_stray,
    templates_of,
};
use capm3_core::planted::{Defect, sown};
use capm3_runtime::{Clock, Key, ListOptions, Next, Reader, Reconcile, WriteError, Writer, key_of};
use futures::StreamExt;

use super::{
    BY_TEMPLATE, DataError, OPEN_BY_TEMPLATE, RACE, SAFETY_NET, Stores, cluster_label, delete, is_race, let_go, patch,
    patch_status,
};

/// Claims worked on at a time in one pass.
const PARALLEL: usize = 8;

pub(super) struct Templates {
    pub(super) stores: Stores,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) clock: Arc<dyn Clock>,
}

struct Gathered {
    template: Option<Arc<Metal3DataTemplate>>,
    claims: Vec<Claim>,
    datas: Vec<Arc<Metal3Data>>,
}

/// How the steps of one claim ended.
enum Served {
    All,
    /// Someone was faster; what is true now is on its way through the watch.
    Race,
    Failed(DataError),
}

impl Reconcile for Templates {
    type Error = DataError;

    async fn reconcile(&self, key: &Key) -> Result<Next, DataError> {
        let mut next = self.pass(key, None).await?;
        if next.is_none() {
            let datas = self.datas_live(key).await?;
            next = self.pass(key, Some(datas)).await?;
        }
        Ok(next.unwrap_or(Next::After(RACE)))
    }
}

impl Templates {
    /// One pass over all claims; `None` when it needs to be done again with a live list of the Metal3Data.
    async fn pass(&self, key: &Key, live: Option<Vec<Arc<Metal3Data>>>) -> Result<Option<Next>, DataError> {
        let is_live = live.is_some();
        let gathered = self.gather(key, live);
        let strays = self.strays(key, &gathered.datas).await?;
        if gathered.template.is_none() && gathered.claims.is_empty() && strays.is_empty() {
            return Ok(Some(Next::Done));
        }
        let plan = template::decide(&Observed {
            namespace: &key.namespace,
            name: &key.name,
            now: self.clock.now(),
            template: gathered.template.as_deref(),
            claims: &gathered.claims,
            datas: &gathered.datas,
            live: is_live,
            strays: &strays,
        });
        let (look_live, next) = (plan.look_live, plan.next.clone());
        let raced = match self.apply(&gathered, plan).await {
            Ok(raced) => raced,
            Err(DataError::Write(error)) if is_race(&error) => true,
            Err(error) => return Err(error),
        };
        if look_live {
            return Ok(None);
        }
        match next {
            _ if raced => Ok(Some(Next::After(RACE))),
            template::Next::Done => Ok(Some(Next::Done)),
            template::Next::After(rest) => Ok(Some(Next::After(rest))),
            template::Next::Wait(waiting) => {
                tracing::debug!(?waiting, "template waits");
                Ok(Some(Next::After(SAFETY_NET)))
            }
            template::Next::Fail(message) => Err(DataError::Refused(message)),
        }
    }

    fn gather(&self, key: &Key, live: Option<Vec<Arc<Metal3Data>>>) -> Gathered {
        let stores = &self.stores;
        let template = stores.templates.get(key);
        // A template that leaves has to know of every claim; otherwise the answered ones are of no interest.
        let leaves = template.as_ref().is_some_and(|template| template.metadata.deletion_timestamp.is_some());
        let index = if leaves { BY_TEMPLATE } else { OPEN_BY_TEMPLATE };
        let claims = stores.claims.by_index(index, &key.to_string()).into_iter().map(|claim| {
            let named = claim.status.as_ref().and_then(|status| status.rendered_data.as_ref());
            // Only a claim on its way out needs what it was answered with.
            let named = named.filter(|_| claim.metadata.deletion_timestamp.is_some());
            Claim {
                rendered: named.and_then(|named| stores.datas.get(&key.sibling(&named.name))),
                cluster: cluster_label(&claim.metadata).and_then(|cluster| stores.clusters.get(&cluster)),
                claim,
            }
        });
        Gathered {
            template,
            claims: claims.collect(),
            datas: live.unwrap_or_else(|| stores.datas.by_index(BY_TEMPLATE, &key.to_string())),
        }
    }

    /// The Metal3Data that nobody wants. What the caches say is looked up before it is believed.
    async fn strays(&self, key: &Key, datas: &[Arc<Metal3Data>]) -> Result<Vec<Arc<Metal3Data>>, DataError> {
        let mut strays = Vec::new();
        for data in datas {
            let of = |name: &Option<NamespacedRef>| name.as_ref().map(|named| key.sibling(&named.name));
            let Some(claim) = of(&data.spec.claim).filter(|_| of(&data.spec.template).as_ref() == Some(key)) else {
                continue;
            };
            let cluster = cluster_label(&data.metadata).and_then(|cluster| self.stores.clusters.get(&cluster));
            let paused = cluster.is_some_and(|cluster| cluster.spec.paused == Some(true));
            if paused || !is_stray(data, self.stores.claims.get(&claim).as_deref()) {
                continue;
            }
            let live: Option<Metal3DataClaim> = self.reader.get(&claim).await.map_err(DataError::Read)?;
            if is_stray(data, live.as_ref()) {
                strays.push(data.clone());
            }
        }
        Ok(strays)
    }

    async fn datas_live(&self, key: &Key) -> Result<Vec<Arc<Metal3Data>>, DataError> {
        let listed = self.reader.list::<Metal3Data>(&ListOptions::namespace(&key.namespace)).await;
        let listed = listed.map_err(DataError::Read)?.into_iter();
        Ok(listed.filter(|data| templates_of(data).contains(key.name.as_str())).map(Arc::new).collect())
    }

    /// Whether a race was lost somewhere; the first failure, after everything else was done.
    async fn apply(&self, gathered: &Gathered, plan: Plan) -> Result<bool, DataError> {
        let mut template = gathered.template.clone();
        if let (Some(before), true) = (&template, plan.adopt) {
            let mut after = Metal3DataTemplate::clone(before);
            after.metadata.finalizers.get_or_insert_default().push(finalizer::DATA_TEMPLATE.to_owned());
            template = Some(Arc::new(patch(&self.writer, &**before, &after).await.map_err(DataError::Write)?));
        }

        let served = futures::stream::iter(plan.claims).map(|claim| self.serve(claim)).buffered(PARALLEL);
        let served: Vec<_> = served.collect().await;
        let raced = served.iter().any(|served| matches!(served, Served::Race));
        let failure = served.into_iter().find_map(|served| match served {
            Served::Failed(error) => Some(error),
            Served::All | Served::Race => None,
        });

        for stray in &plan.strays {
            tracing::info!(data = %key_of(&**stray), "nobody wants it");
            let_go(&self.writer, &**stray, finalizer::DATA_CLAIM).await.map_err(DataError::Write)?;
            if stray.metadata.deletion_timestamp.is_none() {
                delete(&self.writer, &**stray).await.map_err(DataError::Write)?;
            }
        }

        if let (Some(before), Some(status)) = (&template, plan.status) {
            let after = Metal3DataTemplate { status: Some(status), ..Metal3DataTemplate::clone(before) };
            template = Some(Arc::new(patch_status(&self.writer, &**before, &after).await.map_err(DataError::Write)?));
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if let (Some(template), true, false) = (template, plan.leave, raced) {
            let_go(&self.writer, &*template, finalizer::DATA_TEMPLATE).await.map_err(DataError::Write)?;
        }
        Ok(raced)
    }

    async fn serve(&self, plan: ClaimPlan) -> Served {
        let mut claim = plan.claim;
        for step in plan.steps {
            let done = match &step {
                Step::Hold => {
                    let mut after = Metal3DataClaim::clone(&claim);
                    after.metadata.finalizers.get_or_insert_default().push(finalizer::DATA_CLAIM.to_owned());
                    patch(&self.writer, &*claim, &after).await.map(|patched| claim = Arc::new(patched))
                }
                Step::Create(data) => match self.create(&claim, data).await {
                    Ok(true) => Ok(()),
                    Ok(false) => return Served::Race,
                    Err(DataError::Write(error)) => Err(error),
                    Err(error) => return Served::Failed(error),
                },
                Step::Status(status) => {
                    let status = claim_status(&claim, status.clone(), self.clock.now());
                    let after = Metal3DataClaim { status: Some(status), ..Metal3DataClaim::clone(&claim) };
                    let stored = patch_status(&self.writer, &*claim, &after).await;
                    if stored.is_err() && sown(Defect::ClaimStatusForgotten) {
                        return Served::All;
                    }
                    stored.map(|patched| claim = Arc::new(patched))
                }
                Step::LetGo(data) => let_go(&self.writer, &**data, finalizer::DATA_CLAIM).await,
                Step::Delete(data) => delete(&self.writer, &**data).await,
                Step::Free => let_go(&self.writer, &*claim, finalizer::DATA_CLAIM).await,
            };
            match done {
                Ok(()) => {}
                Err(error) if is_race(&error) => return Served::Race,
                Err(error) => {
                    self.tell(&claim, &step).await;
                    return Served::Failed(DataError::Write(error));
                }
            }
        }
        Served::All
    }

    /// Whether the Metal3Data is there and answers this claim, now or from a pass whose answer was lost.
    async fn create(&self, claim: &Metal3DataClaim, data: &Metal3Data) -> Result<bool, DataError> {
        match self.writer.create(data).await {
            Ok(_) => {
                tracing::info!(claim = %key_of(claim), data = %key_of(data), "index given");
                Ok(true)
            }
            // Looked at also when the answer is lost: the next pass might give the claim another index.
            Err(error @ (WriteError::AlreadyExists(_) | WriteError::Unknown(_))) => {
                let found = self.reader.get::<Metal3Data>(&key_of(data)).await.map_err(DataError::Read)?;
                match error {
                    _ if found.is_some_and(|found| answers(&found, claim)) => Ok(true),
                    WriteError::AlreadyExists(_) => Ok(false),
                    unknown => Err(DataError::Write(unknown)),
                }
            }
            Err(error) => Err(DataError::Write(error)),
        }
    }

    /// Says on the claim which step failed; the failure itself goes to the log.
    async fn tell(&self, claim: &Arc<Metal3DataClaim>, step: &Step) {
        let text = match step {
            Step::Create(_) => CREATE_FAILED,
            Step::LetGo(_) | Step::Delete(_) => DELETE_FAILED,
            Step::Hold | Step::Status(_) | Step::Free => return,
        };
        let rendered_data = claim.status.as_ref().and_then(|status| status.rendered_data.clone());
        let error_message = Some(text.to_owned());
        let bare = Metal3DataClaimStatus { error_message, rendered_data, ..Metal3DataClaimStatus::default() };
        let status = claim_status(claim, bare, self.clock.now());
        let after = Metal3DataClaim { status: Some(status), ..Metal3DataClaim::clone(claim) };
        if let Err(error) = patch_status(&self.writer, &**claim, &after).await {
            tracing::debug!(%error, "the message did not reach the claim");
        }
    }
}
