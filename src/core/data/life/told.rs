//! What the status says: `Ready`, or by name what is waited for.
//!
//! A wait that has only begun is not written about, and a refusal does not take `Ready` from a machine that has its data.
//!
//! Rules: docs/spec/data-rendering.md D-41 and D-43 with hazard HD-17 adopted.

use std::fmt;
use std::time::Duration;

use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataStatus};
use capm3_api::k8s::{OwnerReference, Timestamp};
use capm3_api::names::reason;

use super::super::claims::{self, Asking, Outcome};
use super::super::message;
use super::super::pools::{PoolKind, Pools};
use super::{Next, Observed, Plan, Waiting, cluster_of, held, host_of, machine_of, metal3_machine_of, pools_of};
use crate::conditions::Summary;
use crate::ready::{self, Told};

/// For so long after its creation a Metal3Data waits in silence.
pub const JUST_CREATED: Duration = Duration::from_secs(5);

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "its Cluster",
            Self::Resume => "the end of the pause",
            Self::Template => "its Metal3DataTemplate",
            Self::Claim => "its Metal3DataClaim",
            Self::Metal3Machine => "its Metal3Machine",
            Self::Machine => "its Machine",
            Self::Host => "its host",
            Self::Addresses => "addresses",
            Self::OldSecret => "the end of an earlier Secret of its name",
            Self::ClaimGone => "the end of its Metal3DataClaim",
        })
    }
}

impl Waiting {
    fn reason(self) -> &'static str {
        match self {
            Self::Cluster => reason::WAITING_FOR_CLUSTER,
            Self::Resume => reason::PAUSED,
            Self::Template => reason::WAITING_FOR_DATA_TEMPLATE,
            Self::Claim => reason::WAITING_FOR_DATA_CLAIM,
            Self::Metal3Machine => reason::WAITING_FOR_METAL3_MACHINE,
            Self::Machine => reason::WAITING_FOR_MACHINE,
            Self::Host => reason::WAITING_FOR_HOST,
            Self::Addresses => reason::WAITING_FOR_ADDRESSES,
            Self::OldSecret => reason::WAITING_FOR_OLD_SECRET,
            Self::ClaimGone => reason::DELETING,
        }
    }
}

/// A wait that has only begun is not worth a write: what is waited for comes any moment.
#[must_use]
pub fn is_young(data: &Metal3Data, now: Timestamp) -> bool {
    let age = data.metadata.creation_timestamp.as_ref().map(|created| now.duration_since(created.0).unsigned_abs());
    age.is_some_and(|age| age < JUST_CREATED)
}

/// The status to store once the actions of a plan are done, with `Ready`.
#[must_use]
pub fn status(observed: &Observed<'_>, plan: &Plan, now: Timestamp) -> Metal3DataStatus {
    let data = observed.data;
    let bare = plan.status.bare();
    let untouched = held(observed).is_some_and(|held| held != Next::Wait(Waiting::Cluster));
    let not_yet = matches!(plan.next, Next::Wait(_))
        && is_young(data, now)
        && data.status.as_ref().is_none_or(|stored| stored.bare() == bare);
    if untouched || not_yet {
        return data.status.clone().unwrap_or_default();
    }
    let ready = match &plan.next {
        _ if bare.ready == Some(true) => Summary { reason: reason::SECRETS_READY, ..Summary::ready() },
        Next::Wait(waiting) => Summary::not_ready(waiting.reason(), waits_for(observed, *waiting)),
        Next::Fail(text) => Summary::not_ready(reason::RENDERING_FAILED, message(text)),
        Next::Done => {
            Summary::not_ready(reason::WAITING_FOR_DATA_TEMPLATE, "spec.template names no Metal3DataTemplate")
        }
    };
    ready::tell(&data.metadata, data.status.as_ref(), bare, &ready, now)
}

/// The status when the API server refused what was to be written.
#[must_use]
pub fn refused(data: &Metal3Data, refusal: &str, now: Timestamp) -> Metal3DataStatus {
    let text = message(refusal);
    let ready = data.status.as_ref().and_then(|status| status.ready);
    let summary = match ready {
        Some(true) => Summary { reason: reason::SECRETS_READY, ..Summary::ready() },
        Some(false) | None => Summary::not_ready(reason::RENDERING_FAILED, text.clone()),
    };
    let bare = Metal3DataStatus { error_message: Some(text), ready, ..Metal3DataStatus::default() };
    ready::tell(&data.metadata, data.status.as_ref(), bare, &summary, now)
}

/// What is waited for, by name.
fn waits_for(observed: &Observed<'_>, waiting: Waiting) -> String {
    let spec = &observed.data.spec;
    let owner = |owner: Option<&OwnerReference>| owner.map_or(String::new(), |owner| format!(" {}", owner.name));
    let claim = || spec.claim.as_ref().map_or("", |claim| claim.name.as_str());
    match waiting {
        Waiting::Template => {
            let template = spec.template.as_ref().map_or("", |template| template.name.as_str());
            format!("waits for Metal3DataTemplate {template}")
        }
        Waiting::Claim => format!("waits for Metal3DataClaim {}", claim()),
        Waiting::Metal3Machine => {
            format!("waits for Metal3Machine{}", owner(observed.claim.and_then(metal3_machine_of)))
        }
        Waiting::Machine => format!("waits for Machine{}", owner(observed.metal3_machine.and_then(machine_of))),
        Waiting::Host => match observed.metal3_machine.map(host_of) {
            Some(Ok(Some(host))) => format!("waits for BareMetalHost {host}"),
            Some(Ok(None) | Err(_)) | None => "waits for a BareMetalHost".to_owned(),
        },
        Waiting::Addresses => {
            let pools = unanswered(observed);
            format!("waits for an address of {}", pools.join(", "))
        }
        Waiting::Cluster => format!("waits for Cluster {}", cluster_of(observed.data).unwrap_or_default()),
        Waiting::Resume | Waiting::OldSecret | Waiting::ClaimGone => format!("waits for {waiting}"),
    }
}

/// The pools that have given no address yet, with what stands in the way.
fn unanswered(observed: &Observed<'_>) -> Vec<String> {
    let host = observed.host.and_then(|host| host.metadata.name.as_deref()).unwrap_or_default();
    let asking = Asking { data: observed.data, host, cluster: "", by_host: observed.by_host };
    let open = |pool: &(String, PoolKind)| {
        let (_, outcome) = claims::ensure(&asking, &Pools::from([pool.clone()]), observed.known);
        outcome == Outcome::NotYet
    };
    let described = |(pool, kind): (String, PoolKind)| match claims::in_the_way(&asking, &pool, &kind, observed.known) {
        Some(claim) => format!("{pool} ({claim} is another's)"),
        None => pool,
    };
    pools_of(observed).into_iter().filter(open).map(described).collect()
}
