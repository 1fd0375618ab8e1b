//! Carries a plan over a pool out, in the plan's order.
//!
//! Claims do not wait for each other and one that fails does not stop the rest (HI-7); the first problem is reported at the end.
//! Only the reservation stands between the two halves: without it no address is created.

use std::collections::BTreeSet;

use capm3_api::foreign::{self, IPAddressClaim};
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim, IPPool};
use capm3_api::k8s::{Resource, Time};
use capm3_api::names::finalizer;
use capm3_core::ipam::objects::{
    awaiting_pool, capi_awaiting_pool, capi_claim_status, claim_status, new_address, new_capi_address, pool_status,
};
use capm3_core::ipam::pool::{
    AddressObject, Answer, CREATE_FAILED, NewAddress, Plan, Reason, Release, Serve, without_pool,
};
use capm3_core::ipam::table::{ClaimKey, Kind};
use capm3_core::planted::{Defect, sown};
use capm3_runtime::{Key, Next, Object, Preconditions, WriteError, key_of, merge_diff};
use futures::StreamExt;
use serde::Serialize;
use serde_json::json;

use super::gather::{ClaimObject, Gathered};
use super::{PoolError, Pools};

/// Claims worked on at a time in one pass.
const PARALLEL: usize = 8;

impl Pools {
    pub(super) async fn apply(&self, gathered: &Gathered, plan: Plan) -> Result<(), PoolError> {
        let key = key_of(&*gathered.pool);
        let mut pool = IPPool::clone(&gathered.pool);
        if let Some(metadata) = &plan.metadata {
            let wanted = IPPool { metadata: metadata.clone(), ..pool.clone() };
            pool = self.patch(&pool, &wanted).await?.unwrap_or(wanted);
        }

        let mut problems = Vec::new();
        let orphans = plan.orphans.iter().map(|object| self.free(&key, object)).collect();
        problems.extend(all(orphans).await.into_iter().filter_map(Result::err));
        let failed = self.release_all(&key, &plan.releases, &mut problems).await;

        let reserves = plan.status_keeping(&failed);
        if let Some(status) = pool_status(&pool, reserves, plan.ready.as_ref(), gathered.observed.now) {
            let wanted = IPPool { status: Some(status), ..pool.clone() };
            pool = self.patch_status(&pool, &wanted).await?.unwrap_or(wanted);
        }

        let served = plan.served.iter().map(|serve| self.serve(gathered, serve)).collect();
        problems.extend(all(served).await.into_iter().filter_map(Result::err));

        if plan.finalize {
            let mut wanted = pool.clone();
            wanted.metadata.finalizers.iter_mut().for_each(|all| all.retain(|one| one != finalizer::IP_POOL));
            match self.patch(&pool, &wanted).await {
                Err(PoolError::Write(WriteError::NotFound(_))) => {}
                other => drop(other?),
            }
        }
        problems.into_iter().next().map_or(Ok(()), Err)
    }

    /// The pool does not exist: claims that are being deleted need not wait for it, and the others are told that they do.
    pub(super) async fn let_go(&self, pool: &Key) -> Result<Next, PoolError> {
        let (claims, objects) = self.claims_of(pool);
        let now = self.clock.now();
        let unserved = without_pool(&claims, &self.addresses_of(pool), now);
        let mut problems = Vec::new();
        if !unserved.orphans.is_empty() {
            if self.live::<IPPool>(pool).await?.is_some() {
                return Ok(Next::Done); // its event is on the way
            }
            for orphan in &unserved.orphans {
                if self.claim_uid_live(pool, &orphan.claim_key()).await?.is_none_or(|uid| !orphan.is_of(&uid)) {
                    problems.extend(self.free(pool, orphan).await.err());
                }
            }
        }
        self.release_all(pool, &unserved.releases, &mut problems).await;
        for claim in unserved.told.iter().filter_map(|key| objects.get(key)) {
            let told = match claim {
                ClaimObject::Metal3(claim) => {
                    let wanted = IPClaim { status: Some(awaiting_pool(claim, now)), ..IPClaim::clone(claim) };
                    self.patch_status(&**claim, &wanted).await.map(drop)
                }
                ClaimObject::ClusterApi(claim) => {
                    let status = Some(capi_awaiting_pool(claim, &Time(now)));
                    let wanted = IPAddressClaim { status, ..IPAddressClaim::clone(claim) };
                    self.patch_status(&**claim, &wanted).await.map(drop)
                }
            };
            problems.extend(told.err());
        }
        problems.into_iter().next().map_or(Ok(unserved.after.map_or(Next::Done, Next::After)), Err)
    }

    /// Returns the claims whose release failed.
    async fn release_all(&self, pool: &Key, releases: &[Release], problems: &mut Vec<PoolError>) -> BTreeSet<ClaimKey> {
        let results = all(releases.iter().map(|release| self.release(pool, release)).collect()).await;
        let mut failed = BTreeSet::new();
        for (release, result) in releases.iter().zip(results) {
            if let Err(problem) = result {
                problems.push(problem);
                failed.insert(release.claim.clone());
            }
        }
        failed
    }

    /// I-30: the address objects, then the claim's finalizer.
    async fn release(&self, pool: &Key, release: &Release) -> Result<(), PoolError> {
        for object in &release.addresses {
            self.free(pool, object).await?;
        }
        let key = pool.sibling(&release.claim.name);
        let only_if =
            Preconditions { uid: Some(release.uid.clone()), resource_version: release.resource_version.clone() };
        let patch = json!({"metadata": {"finalizers": null}});
        let answer = match release.claim.kind {
            Kind::Metal3 => self.writer.patch::<IPClaim>(&key, patch, &only_if).await.map(drop),
            Kind::ClusterApi => self.writer.patch::<IPAddressClaim>(&key, patch, &only_if).await.map(drop),
        };
        tracing::info!(claim = %key, kind = ?release.claim.kind, "released");
        gone_is_fine(answer)
    }

    /// Takes our finalizer off an address object and deletes it.
    async fn free(&self, pool: &Key, object: &AddressObject) -> Result<(), PoolError> {
        match object.kind {
            Kind::Metal3 => self.free_kind::<IPAddress>(pool, object).await,
            Kind::ClusterApi => self.free_kind::<foreign::IPAddress>(pool, object).await,
        }
    }

    async fn free_kind<K: Object>(&self, pool: &Key, object: &AddressObject) -> Result<(), PoolError> {
        let key = pool.sibling(&object.name);
        let uid = Some(object.uid.clone());
        if let Some(others) = object.without_our_finalizer() {
            let only_if = Preconditions { uid: uid.clone(), resource_version: object.resource_version.clone() };
            let patch = json!({"metadata": {"finalizers": others}});
            gone_is_fine(self.writer.patch::<K>(&key, patch, &only_if).await.map(drop))?;
        }
        gone_is_fine(self.writer.delete::<K>(&key, &Preconditions { uid, resource_version: None }).await)
    }

    async fn serve(&self, gathered: &Gathered, serve: &Serve) -> Result<(), PoolError> {
        match gathered.claims.get(&serve.claim) {
            Some(ClaimObject::Metal3(claim)) => self.serve_claim(gathered, claim, serve).await,
            Some(ClaimObject::ClusterApi(claim)) => self.serve_capi_claim(gathered, claim, serve).await,
            None => Ok(()), // decided on what was gathered, so it is there
        }
    }

    async fn serve_claim(&self, gathered: &Gathered, claim: &IPClaim, serve: &Serve) -> Result<(), PoolError> {
        let held = self.add_finalizer(claim, serve).await?;
        let claim = held.as_ref().unwrap_or(claim);
        let created = match &serve.create {
            Some(new) => self.create(&new_address(&gathered.pool.metadata, claim, new), new, serve).await,
            None => Ok(()),
        };
        let Some(answer) = answer(serve, &created) else { return created };
        let wanted = IPClaim { status: Some(claim_status(claim, &answer, gathered.observed.now)), ..claim.clone() };
        self.patch_status(claim, &wanted).await?;
        self.tell(gathered, claim, &answer);
        created
    }

    async fn serve_capi_claim(
        &self,
        gathered: &Gathered,
        claim: &IPAddressClaim,
        serve: &Serve,
    ) -> Result<(), PoolError> {
        let held = self.add_finalizer(claim, serve).await?;
        let claim = held.as_ref().unwrap_or(claim);
        let created = match &serve.create {
            Some(new) => self.create(&new_capi_address(&gathered.pool.metadata, claim, new), new, serve).await,
            None => Ok(()),
        };
        let Some(answer) = answer(serve, &created) else { return created };
        let now = Time(gathered.observed.now);
        let wanted = IPAddressClaim { status: Some(capi_claim_status(claim, &answer, &now)), ..claim.clone() };
        self.patch_status(claim, &wanted).await?;
        self.tell(gathered, claim, &answer);
        created
    }

    /// A refusal is an event on the claim when it is first given; that a pool is empty is one on the pool, whoever asks.
    fn tell<K: Object>(&self, gathered: &Gathered, claim: &K, answer: &Answer) {
        let Answer::Failed { reason, message } = answer else { return };
        self.recorder.warning(claim, reason.as_str(), message.clone());
        if *reason == Reason::PoolExhausted {
            self.recorder.warning(&*gathered.pool, reason.as_str(), "no address is left for the claims that wait");
        }
    }

    /// The claim as it is then, when it was written.
    async fn add_finalizer<K>(&self, claim: &K, serve: &Serve) -> Result<Option<K>, PoolError>
    where
        K: Object + Resource<DynamicType = ()>,
    {
        let Some(finalizers) = &serve.finalizers else { return Ok(None) };
        let patch = json!({"metadata": {"finalizers": finalizers}});
        let written = self.writer.patch::<K>(&key_of(claim), patch, &Preconditions::unchanged(claim)).await;
        written.map(Some).map_err(PoolError::Write)
    }

    /// A name that exists is fine when it is this claim's: an earlier pass was cut off, or its answer was lost.
    async fn create<K>(&self, object: &K, new: &NewAddress, serve: &Serve) -> Result<(), PoolError>
    where
        K: Object + Serialize,
        for<'a> AddressObject: From<&'a K>,
    {
        let key = key_of(object);
        match self.writer.create(object).await {
            Ok(_) => {
                tracing::info!(claim = serve.claim.name, kind = ?serve.claim.kind, address = %new.grant.address, "allocated");
                Ok(())
            }
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(WriteError::AlreadyExists(_)) => {
                let wanted = AddressObject::from(object);
                let found = self.live::<K>(&key).await?.as_ref().map(AddressObject::from);
                match found {
                    Some(found) if found.claim == wanted.claim && found.claim_uid == wanted.claim_uid => Ok(()),
                    Some(_) | None => Err(PoolError::NameTaken { name: key, claim: serve.claim.name.clone() }),
                }
            }
            Err(error) => Err(PoolError::Write(error)),
        }
    }

    async fn patch<K: Object + Serialize>(&self, before: &K, after: &K) -> Result<Option<K>, PoolError> {
        let Some(patch) = merge_diff(before, after).map_err(PoolError::Write)? else { return Ok(None) };
        let written = self.writer.patch(&key_of(before), patch, &Preconditions::unchanged(before)).await;
        written.map(Some).map_err(PoolError::Write)
    }

    /// The pool's status is the lock; a claim that was answered meanwhile, by another manager, is not answered anew.
    async fn patch_status<K: Object + Serialize>(&self, before: &K, after: &K) -> Result<Option<K>, PoolError> {
        let Some(patch) = merge_diff(before, after).map_err(PoolError::Write)? else { return Ok(None) };
        let blind = K::kind(&()) == IPPool::KIND && sown(Defect::ReservationUnconditional);
        let only_if = if blind { Preconditions::same(before) } else { Preconditions::unchanged(before) };
        match self.writer.patch_status(&key_of(before), patch, &only_if).await {
            Ok(object) => Ok(Some(object)),
            Err(error) => Err(PoolError::Write(error)),
        }
    }
}

/// The results in the order of the work, a few pieces of which are under way at a time.
async fn all<F: Future>(work: Vec<F>) -> Vec<F::Output> {
    futures::stream::iter(work).buffered(PARALLEL).collect().await
}

/// What is written to the claim: the plan's answer, or that its address object could not be created (I-42).
fn answer(serve: &Serve, created: &Result<(), PoolError>) -> Option<Answer> {
    match created {
        Ok(()) => serve.answer.clone(),
        Err(PoolError::Write(WriteError::Invalid(_) | WriteError::Forbidden(_))) => {
            Some(Answer::Failed { reason: Reason::AllocationFailed, message: CREATE_FAILED.to_owned() })
        }
        Err(_) => None, // tried again before anybody reads a message
    }
}

/// What was to be removed is not there, or is another object of that name by now.
fn gone_is_fine(answer: Result<(), WriteError>) -> Result<(), PoolError> {
    match answer {
        Ok(()) | Err(WriteError::NotFound(_)) => Ok(()),
        Err(error) => Err(PoolError::Write(error)),
    }
}
