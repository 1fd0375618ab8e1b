//! Letting go of a host: wiped first, then given back or kept for the next machine of the same owner.
//!
//! Nothing is forgotten before it is undone. The order: the host loses image and data, the host operator wipes it, the data
//! claim goes (not earlier, so that no address is given out while the old system still runs, H-32), the BMC Secret loses the
//! cluster's name, the host loses its consumer, our finalizer goes. Deletion needs neither the Machine nor the Cluster to
//! exist (H-8, K-147). Rules: M-100 to M-110, H-6, H-14, H-15, H-20, H-41, H-47, H-50, H-57.

use capm3_api::foreign::BareMetalHost;
use capm3_api::infra::v1beta2::Metal3DataClaim;
use capm3_api::names::{CAPI_API_VERSION, CLEANING_DISABLED, annotation, finalizer, label, secret};
use serde_json::{Map, Value, json};

use super::ControlFlow::Continue;
use super::associate::{credentials_name, credentials_version};
use super::{
    Action, Credentials, Flow, Next, Observed, Owner, Purpose, Question, Report, SAFETY_NET, Step, Version, act, ask,
    object, pause, rest, reuse, rows,
};
use crate::host::{self, annotated, labelled};
use crate::planted::{Defect, sown};

pub(super) fn let_go(o: &Observed<'_>, r: &mut Report) -> Flow<Step> {
    // `clusterctl move` deletes what it has copied; the copy lives on (K-138).
    let annotations = o.machine.metadata.annotations.as_ref();
    let moved = annotations.is_some_and(|a| a.contains_key(annotation::DELETE_FOR_MOVE));
    if !o.has_finalizer() || (moved && o.cluster.is_none()) {
        return rest(Next::Done);
    }
    pause::stop_if_paused(o, r)?;
    r.say(rows::DELETING, "");

    // The annotated host is one of them when it is ours.
    let held = match o.host {
        Some(named) if sown(Defect::ReleaseUnlooked) => Some(named),
        _ if sown(Defect::HostByAnnotation) => o.own_host(),
        _ => o.held.first().copied(),
    };
    if let Some(host) = held {
        clear(o, r, host)?;
        wait_until_wiped(o, r, host)?;
        dismiss_claim(o)?;
        unlabel_credentials(o, host)?;
        return release(o, host);
    }
    let trusted = sown(Defect::CacheTrustedForDelete) || sown(Defect::HostByAnnotation);
    if !o.answers.hosts_are_live && !trusted && !sown(Defect::ReleaseUnlooked) {
        fence(o)?;
        return ask(Question::HostsLive); // H-6: the cache may not know yet what a claim wrote
    }
    dismiss_claim(o)?;
    let finalizers: Vec<_> =
        o.machine.metadata.finalizers.iter().flatten().filter(|f| *f != finalizer::MACHINE).collect();
    act(Action::Machine { purpose: Purpose::Forget, patch: json!({ "metadata": { "finalizers": finalizers } }) })
}

/// The machine went for a host and never got it: its claim may have been decided by another manager, and be on its way (9.4, step 4).
/// It depends on the version of the host that was looked at, so that version must not last longer than the machine.
fn fence(o: &Observed<'_>) -> Flow<()> {
    let Some(host) = o.host.filter(|host| host.spec.consumer_ref.is_none()) else { return Continue(()) };
    let uid = o.machine.metadata.uid.as_deref();
    if annotated(host, annotation::LET_GO_BY) == uid {
        return Continue(());
    }
    let annotations = json!({ annotation::LET_GO_BY: uid });
    act(o.host_patch(Purpose::Fence, host, json!({ "metadata": { "annotations": annotations } })))
}

/// M-103: what the machine put on the host comes off it, and the power follows.
fn clear(o: &Observed<'_>, r: &mut Report, host: &BareMetalHost) -> Flow<()> {
    let spec = &host.spec;
    let status = o.machine.status.as_ref();
    let deployed = spec.image.is_some() || spec.custom_deploy.is_some();
    // Rendered references are known by name when the status that remembered them was lost (H-14, H-15).
    let given = |on_host: &Option<capm3_api::SecretRef>, remembered: bool, suffix: &str| {
        on_host.as_ref().is_some_and(|reference| remembered || reference.name == format!("{}{suffix}", o.name()))
    };
    let gone = [
        ("image", spec.image.is_some()),
        ("customDeploy", spec.custom_deploy.is_some()),
        ("userData", spec.user_data.is_some() && (deployed || status.is_some_and(|s| s.user_data.is_some()))),
        ("metaData", given(&spec.meta_data, status.is_some_and(|s| s.meta_data.is_some()), secret::META_DATA_SUFFIX)),
        (
            "networkData",
            given(&spec.network_data, status.is_some_and(|s| s.network_data.is_some()), secret::NETWORK_DATA_SUFFIX),
        ),
    ];
    let mut patch: Map<_, _> =
        gone.into_iter().filter(|(_, gone)| *gone).map(|(field, _)| (field.to_owned(), Value::Null)).collect();
    let online = stays_on(o.fast_track, host);
    if spec.online != Some(online) {
        patch.insert("online".to_owned(), json!(online));
    }
    if patch.is_empty() {
        return Continue(());
    }
    r.say(rows::DELETING, progress(o, host)); // as it will be once this is done
    act(o.host_patch(Purpose::Clear, host, json!({ "spec": patch })))
}

/// Whether a host that is let go keeps running (M-103).
fn stays_on(fast_track: bool, host: &BareMetalHost) -> bool {
    let cleaned = host.spec.automated_cleaning_mode.as_deref() != Some(CLEANING_DISABLED);
    host.spec.disable_power_off == Some(true) || (fast_track && cleaned)
}

fn wait_until_wiped(o: &Observed<'_>, r: &mut Report, host: &BareMetalHost) -> Flow<()> {
    if !host::is_letting_go(host) || sown(Defect::ReleaseBeforeWiped) {
        return Continue(());
    }
    r.say(rows::DELETING, progress(o, host)); // H-50: waiting is no failure
    rest(Next::After(SAFETY_NET))
}

fn progress(o: &Observed<'_>, host: &BareMetalHost) -> String {
    match host::error(host) {
        Some(error) => format!("BareMetalHost {} is not deprovisioned: {error}", o.at(host)),
        None => format!("waiting for BareMetalHost {} to be deprovisioned", o.at(host)),
    }
}

/// M-85: the claim loses our finalizer and goes.
fn dismiss_claim(o: &Observed<'_>) -> Flow<()> {
    let Some(claim) = o.claim else {
        let expected = o.machine.spec.data_template.is_some()
            || o.machine.status.as_ref().is_some_and(|s| s.rendered_data.is_some());
        return if expected && !o.answers.claim_is_live && !sown(Defect::UncachedClaimIsGone) {
            ask(Question::ClaimLive)
        } else {
            Continue(())
        };
    };
    let meta = &claim.metadata;
    let foreign =
        meta.owner_references.iter().flatten().any(|owner| owner.kind == "Metal3Machine" && owner.name != o.name());
    if foreign {
        return Continue(()); // H-48
    }
    if let Some(drop) = drop_claim(claim) {
        return act(drop);
    }
    if meta.deletion_timestamp.is_none() {
        return act(Action::DeleteClaim { version: Version::of(meta) });
    }
    Continue(())
}

/// Our finalizer off a claim that has it.
fn drop_claim(claim: &Metal3DataClaim) -> Option<Action> {
    let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
    let others = finalizers.iter().filter(|f| *f != finalizer::MACHINE).cloned().collect::<Vec<_>>();
    (others.len() < finalizers.len())
        .then(|| Action::DropClaim { version: Version::of(&claim.metadata), finalizers: others })
}

/// What a claim needs that is held for no machine: it was made by a request that arrived after the machine's end, or somebody took
/// the finalizer off the machine. The collector has marked it, and nobody else takes our finalizer off it. While a host runs that
/// such a machine had, its addresses are in use, and who took the machine away by force has to say when they are not (H-32).
#[must_use]
pub fn forsaken(claim: &Metal3DataClaim) -> Option<Action> {
    drop_claim(claim).filter(|_| claim.metadata.deletion_timestamp.is_some())
}

/// M-102: only the label that a machine of this cluster put there.
fn unlabel_credentials(o: &Observed<'_>, host: &BareMetalHost) -> Flow<()> {
    let (Some(name), Some(cluster)) = (credentials_name(host), cluster_name(o)) else { return Continue(()) };
    let ours = match &o.answers.credentials {
        None => true, // unread: the write itself looks
        Some(Credentials::Labelled(label)) => label.as_deref() == Some(cluster),
        Some(Credentials::Missing) => false,
    };
    if !ours {
        return Continue(());
    }
    let version = credentials_version(o, host, name)?;
    act(Action::UnlabelCredentials { name: name.to_owned(), cluster: cluster.to_owned(), version })
}

/// The cluster whose name host and Secret carry: as the Machine says, else as our own label does.
fn cluster_name<'a>(o: &Observed<'a>) -> Option<&'a str> {
    match o.owner {
        Owner::Machine(machine) if !machine.spec.cluster_name.is_empty() => Some(&machine.spec.cluster_name),
        _ => o.machine.metadata.labels.as_ref()?.get(label::CLUSTER_NAME).map(String::as_str),
    }
}

/// M-106, M-107: the host is free again, or kept.
fn release(o: &Observed<'_>, host: &BareMetalHost) -> Flow<Step> {
    let kept = match (o.owner, o.cluster) {
        (Owner::Machine(owner), Some(cluster)) if cluster.metadata.deletion_timestamp.is_none() => {
            reuse::wanted(o, owner)?.map(|value| (value, cluster))
        }
        _ => None,
    };
    let reserved = kept.is_some();
    let (consumer, reuse_label) = match kept {
        None => (Value::Null, None),
        Some((value, cluster)) => {
            let consumer = json!({
                "apiVersion": CAPI_API_VERSION,
                "kind": "Cluster",
                "namespace": o.namespace(),
                "name": cluster.metadata.name,
                "uid": null,
                "resourceVersion": null,
                "fieldPath": null,
            });
            (consumer, Some(json!(value)))
        }
    };
    let drop = |there: bool| there.then_some(Value::Null);
    let labelled_by_us = labelled(host, label::CLUSTER_NAME).is_some_and(|name| Some(name) == cluster_name(o));
    let paused_by_us = annotated(host, annotation::HOST_PAUSED) == Some(annotation::HOST_PAUSED_BY_US);
    let labels = object([(label::CLUSTER_NAME, drop(labelled_by_us)), (label::NODE_REUSE, reuse_label)]);
    let annotations = object([
        (annotation::HOST_PAUSED, drop(paused_by_us)),
        (annotation::BLOCK_MOVE, drop(annotated(host, annotation::BLOCK_MOVE).is_some())), // H-20
    ]);
    let some = |map: Map<String, Value>| (!map.is_empty()).then_some(Value::Object(map));
    let metadata = object([("labels", some(labels)), ("annotations", some(annotations))]);
    let patch = object([("metadata", some(metadata)), ("spec", Some(json!({ "consumerRef": consumer })))]);
    act(o.host_patch(Purpose::Release { reserved }, host, Value::Object(patch)))
}
