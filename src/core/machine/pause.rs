//! Pausing the host with its cluster, and holding `clusterctl move` back until that is done.
//!
//! A move copies objects without their status, so the host's status travels in an annotation; the host operator must not
//! touch the host meanwhile. Each of the three writes is judged by what is on the host, so an interrupted sequence goes on
//! where it stopped. Rules: M-16 to M-23, H-21, H-23, H-54.

use capm3_api::foreign::BareMetalHost;
use capm3_api::names::{annotation, label};
use serde_json::json;

use super::ControlFlow::Continue;
use super::{Action, Flow, Next, Observed, Purpose, Question, Report, SAFETY_NET, act, ask, host_name, rest, rows};
use crate::host::{annotated, labelled};
use crate::planted::{Defect, sown};

/// Whether the pause of this host must carry a copy of its status that is not there yet.
pub fn wants_host_status(host: &BareMetalHost) -> bool {
    annotated(host, annotation::HOST_STATUS).is_none() && !host.state().is_empty()
}

/// Nothing but bookkeeping around the host happens while the cluster or the machine is paused.
pub(super) fn stop_if_paused(o: &Observed<'_>, r: &mut Report) -> Flow<()> {
    let cluster_paused =
        o.cluster.is_some_and(|cluster| cluster.spec.paused == Some(true)) && !sown(Defect::PauseIgnored);
    let machine_paused = o.machine.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(annotation::PAUSED));

    let leaving = o.machine.metadata.deletion_timestamp.is_some();
    if let Err(problem) = host_name(o.machine)
        && !leaving
    {
        let failed = if cluster_paused { rows::PAUSE_SET_FAILED } else { rows::PAUSE_REMOVE_FAILED };
        for row in failed {
            r.say(row, problem.to_string());
        }
        return rest(Next::After(SAFETY_NET)); // whoever mends the annotation wakes us (H-23)
    }
    if cluster_paused {
        if let Some(host) = o.own_host() {
            pause_host(o, host)?;
        }
    } else {
        r.say(rows::NOT_PAUSED, "");
        // One that leaves names its host no more if somebody took the annotation: the host could never be wiped.
        let held = o.held.first().copied().filter(|_| leaving);
        if let Some(host) = o.own_host().or(held).filter(|_| !machine_paused) {
            resume_host(o, host)?;
        }
    }
    if !cluster_paused && !machine_paused {
        return Continue(());
    }
    let causes = [
        (cluster_paused, "Cluster spec.paused is set to true"),
        (machine_paused, "Metal3Machine has the cluster.x-k8s.io/paused annotation"),
    ];
    let causes: Vec<_> = causes.into_iter().filter(|(applies, _)| *applies).map(|(_, cause)| cause).collect();
    r.say(rows::MACHINE_PAUSED, causes.join(", "));
    r.say(rows::PAUSED_TRUE, causes.join(", "));
    rest(Next::After(SAFETY_NET))
}

/// M-21: hold the move, pause with the status on record, let the move go; each its own write.
fn pause_host(o: &Observed<'_>, host: &BareMetalHost) -> Flow<()> {
    let blocked = annotated(host, annotation::BLOCK_MOVE).is_some();
    let paused = annotated(host, annotation::HOST_PAUSED).is_some();
    if paused && !wants_host_status(host) {
        return if blocked {
            act(annotate(o, host, Purpose::UnblockMove, &[(annotation::BLOCK_MOVE, None)]))
        } else {
            Continue(())
        };
    }
    if !paused && !blocked {
        return act(annotate(o, host, Purpose::HoldMove, &[(annotation::BLOCK_MOVE, Some(""))]));
    }
    let status = if wants_host_status(host) {
        let Some(status) = &o.answers.host_status else {
            return ask(Question::HostStatus { host: host.metadata.name.clone().unwrap_or_default() });
        };
        Some((annotation::HOST_STATUS, Some(status.as_str())))
    } else {
        None
    };
    // A pause of somebody else keeps its value (H-21).
    let pause = (!paused).then_some((annotation::HOST_PAUSED, Some(annotation::HOST_PAUSED_BY_US)));
    let changes: Vec<_> = pause.into_iter().chain(status).collect();
    act(annotate(o, host, Purpose::PauseHost, &changes))
}

/// M-20 and M-22: lift our pause, and hold every move until the next one.
fn resume_host(o: &Observed<'_>, host: &BareMetalHost) -> Flow<()> {
    let pause = annotated(host, annotation::HOST_PAUSED);
    let cluster = o.cluster.and_then(|cluster| cluster.metadata.name.as_deref());
    let ours = pause == Some(annotation::HOST_PAUSED_BY_US) && labelled(host, label::CLUSTER_NAME) == cluster;
    if ours {
        let changes = [(annotation::HOST_PAUSED, None), (annotation::BLOCK_MOVE, Some(""))];
        return act(annotate(o, host, Purpose::UnpauseHost, &changes));
    }
    let leaving = o.machine.metadata.deletion_timestamp.is_some();
    if pause.is_none() && annotated(host, annotation::BLOCK_MOVE).is_none() && !leaving && !o.answers.move_is_open {
        return act(annotate(o, host, Purpose::BlockMove, &[(annotation::BLOCK_MOVE, Some(""))]));
    }
    Continue(())
}

fn annotate(o: &Observed<'_>, host: &BareMetalHost, purpose: Purpose, changes: &[(&str, Option<&str>)]) -> Action {
    let annotations: serde_json::Map<_, _> =
        changes.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    o.host_patch(purpose, host, json!({ "metadata": { "annotations": annotations } }))
}
