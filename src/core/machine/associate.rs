//! From no host to a claimed one.
//!
//! Intent first, then the claim, both conditional (cluster-and-machine.md 9.4). The machine writes down which host it goes
//! for; two managers that choose for one machine meet there. Then the host is claimed; two machines that chose one host
//! meet there. What a crash leaves is an unclaimed host, or a claimed one that the annotation or the host's consumer finds.

use capm3_api::foreign::{BareMetalHost, Cluster, Machine};
use capm3_api::k8s::Condition;
use capm3_api::names::{INFRA_API_VERSION, annotation, finalizer, label};
use serde_json::{Value, json};

use super::ControlFlow::Continue;
use super::waiting::Wish;
use super::{
    Action, Candidates, Credentials, Flow, JUST_CREATED, Next, Observed, Purpose, Question, Report, SAFETY_NET, act,
    ask, host_name, object, provision, rest, reuse, rows,
};
use crate::conditions;
use crate::host::{annotated, candidate, consumer_text, labelled};
use crate::placement::{self, Placement, Verdict, Wanted};
use crate::planted::{Defect, sown};

/// M-32, with H-17 and H-33: only the name of the Secret makes bootstrap data.
pub(super) fn wait_for_bootstrap(o: &Observed<'_>, r: &mut Report, owner: &Machine) -> Flow<()> {
    if provision::bootstrap_secret(owner).is_some() {
        return Continue(());
    }
    if o.is_young(&o.machine.metadata) {
        r.say_nothing(o);
        return rest(Next::After(JUST_CREATED));
    }
    let machine = owner.metadata.name.as_deref().unwrap_or_default();
    r.say(rows::WAITING_FOR_BOOTSTRAP, format!("waiting for the bootstrap data of Machine {machine}"));
    rest(Next::Done)
}

/// The host of this machine, claimed and remembered; or the step that leads there.
pub(super) fn host<'a>(
    o: &Observed<'a>,
    r: &mut Report,
    owner: &Machine,
    cluster: &Cluster,
) -> Flow<&'a BareMetalHost> {
    let host = claimed(o, r, owner, cluster)?;
    if let Some(patch) = own_changes(o, owner, Some(host)) {
        return act(Action::Machine { purpose: Purpose::Intend, patch });
    }
    if associated(o).is_none() {
        mark(o, owner, host)?;
    }
    Continue(host)
}

/// A host that names this machine carries the cluster's name and is kept for nobody, whoever wrote the claim (M-40, M-43).
fn mark(o: &Observed<'_>, owner: &Machine, host: &BareMetalHost) -> Flow<()> {
    let is_named = labelled(host, label::CLUSTER_NAME) == Some(owner.spec.cluster_name.as_str());
    if is_named && labelled(host, label::NODE_REUSE).is_none() {
        return Continue(());
    }
    let labels = json!({ label::CLUSTER_NAME: owner.spec.cluster_name, label::NODE_REUSE: null });
    act(o.host_patch(Purpose::Claim { reused: false }, host, json!({ "metadata": { "labels": labels } })))
}

/// The claim is complete, and the machine says so.
pub(super) fn complete(o: &Observed<'_>, r: &mut Report, owner: &Machine, host: &BareMetalHost) -> Flow<()> {
    // Labelled before the condition says so: an associated machine needs no second look.
    let associated = associated(o);
    if associated.is_none() {
        label_credentials(o, r, owner, host)?;
    }
    // The claim has taken the label off the host, and may be long ago: data is waited for in between.
    let reused = || o.answers.reused || o.annotation(annotation::NODE_REUSE).is_some();
    let by_reuse = associated.map_or_else(reused, |c| c.reason == rows::ASSOCIATED_BY_REUSE.reason);
    r.say(if by_reuse { rows::ASSOCIATED_BY_REUSE } else { rows::ASSOCIATED }, "");
    r.status.addresses = crate::host::addresses(host);
    Continue(())
}

/// The stored condition that an earlier pass came this far.
pub(super) fn associated<'a>(o: &Observed<'a>) -> Option<&'a Condition> {
    let status = o.machine.status.as_ref()?;
    conditions::get(&status.conditions, rows::ASSOCIATED.kind).filter(|c| c.status == "True")
}

/// 9.4, steps 1 to 6.
fn claimed<'a>(o: &Observed<'a>, r: &mut Report, owner: &Machine, cluster: &Cluster) -> Flow<&'a BareMetalHost> {
    if let Some(host) = o.own_host() {
        return Continue(host);
    }
    if let Some(host) = o.held.first()
        && !sown(Defect::OwnHostBySelector)
    {
        return intend(o, owner, host); // before any selector (H-5)
    }
    let named = match host_name(o.machine) {
        Ok(named) => named,
        Err(problem) => return r.fail(rows::ASSOCIATE_FAILED, problem),
    };
    let wish = match Wish::of(o.machine, owner, o.machine_set) {
        Ok(wish) => wish,
        Err(error) => return r.fail(rows::ASSOCIATE_FAILED, error.into()),
    };
    let reuse = reuse::told(o, owner)?;
    let cluster = cluster.metadata.name.as_deref().unwrap_or_default();
    let wanted = Wanted { cluster, reuse: reuse.as_deref(), ..wish.wanted() };
    match (named, o.host) {
        (Some(_), Some(host)) => {
            let sought = candidate(host, false);
            let verdict = placement::judge(&wanted, &sought);
            let reused = matches!(verdict, Verdict::KeptForUs { ready: true });
            let claimable = reused || verdict == Verdict::Free;
            let ours_before = host.spec.consumer_ref.is_none() && o.was_associated();
            if claimable || ours_before {
                return claim(o, r, owner, host, reused);
            }
            if o.was_associated() {
                let message = format!("BareMetalHost {} belongs to {}", o.at(host), consumer_text(host));
                r.alarm(rows::ASSOCIATE_FAILED, message);
                return rest(Next::After(SAFETY_NET)); // H-4: nothing is written to somebody else's host
            }
        }
        (Some(name), None) if o.was_associated() => {
            r.alarm(rows::ASSOCIATE_FAILED, format!("BareMetalHost {}/{name} is gone", o.namespace()));
            return rest(Next::After(SAFETY_NET));
        }
        (_, None) | (None, Some(_)) => {}
    }
    // Its Node runs somewhere, or did: no other host can become what that identity names (I10).
    if let (None, Some(id)) = (named, o.provider_id()) {
        r.alarm(rows::ASSOCIATE_FAILED, format!("no BareMetalHost names this machine any more; it was {id}"));
        return rest(Next::After(SAFETY_NET));
    }
    choose(o, r, owner, &wanted)
}

fn choose<T>(o: &Observed<'_>, r: &mut Report, owner: &Machine, wanted: &Wanted<'_>) -> Flow<T> {
    // A machine that could not be deployed takes no host from those that can.
    if let Err(problem) = provision::check(o, owner) {
        return r.fail(rows::ASSOCIATE_FAILED, problem);
    }
    let Some(Candidates { hosts, sought }) = &o.candidates else { return ask(Question::Candidates) };
    let name = |host: &BareMetalHost| host.metadata.name.clone().unwrap_or_default();
    let judged = hosts.iter().map(|host| candidate(host, sought.contains(&name(host))));
    let message = match placement::place(wanted, judged, o.pick) {
        Placement::Adopt(chosen) | Placement::Claim { host: chosen, .. } => {
            match hosts.iter().find(|host| name(host) == chosen) {
                Some(host) => {
                    secrets_before_claim(o, r, owner, host)?;
                    if sown(Defect::ClaimBeforeIntent) {
                        return claim(o, r, owner, host, false);
                    }
                    return intend(o, owner, host);
                }
                None => format!("BareMetalHost {}/{chosen} is gone", o.namespace()),
            }
        }
        Placement::AwaitReuse(kept) => format!("kept for reuse and not available yet: {}", kept.join(", ")),
        Placement::None(why) => why.to_string(),
    };
    r.alarm(rows::ASSOCIATE_FAILED, message);
    rest(Next::After(SAFETY_NET)) // a host that becomes free wakes us (H-35)
}

fn intend<T>(o: &Observed<'_>, owner: &Machine, host: &BareMetalHost) -> Flow<T> {
    let patch = own_changes(o, owner, Some(host)).unwrap_or_else(|| json!({}));
    act(Action::Machine { purpose: Purpose::Intend, patch })
}

/// What our own object lacks: finalizer, host, and what its Machine decides about it (M-12, M-30, M-80 step 3).
fn own_changes(o: &Observed<'_>, owner: &Machine, host: Option<&BareMetalHost>) -> Option<Value> {
    let meta = &o.machine.metadata;
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    let late = sown(Defect::FinalizerAfterClaim) && o.own_host().is_none();
    let finalizers = (!o.has_finalizer() && !late).then(|| {
        finalizers.push(finalizer::MACHINE.to_owned());
        json!(finalizers)
    });
    let chosen = host.filter(|host| o.annotation(annotation::HOST) != Some(o.at(host).as_str()));
    let annotations = chosen.map(|host| {
        let value = reuse::value(owner, o.machine_set);
        let kept = labelled(host, label::NODE_REUSE).filter(|kept| value.as_deref() == Some(kept));
        let stale = o.annotation(annotation::NODE_REUSE).is_some().then_some(Value::Null);
        let kept = kept.map(|kept| json!(kept)).or(stale);
        Value::Object(object([(annotation::HOST, Some(o.at(host).into())), (annotation::NODE_REUSE, kept)]))
    });

    let domain = owner.spec.failure_domain.as_deref().filter(|domain| !domain.is_empty());
    let moved = (o.machine.spec.failure_domain.as_deref() != domain).then(|| json!(domain));
    let template = o.machine.spec.data_template.as_ref();
    let template = template.filter(|t| t.namespace.as_deref().unwrap_or_default().is_empty());
    let template = template.map(|_| json!({ "namespace": o.namespace() }));

    let metadata = object([("finalizers", finalizers), ("annotations", annotations)]);
    let spec = object([("failureDomain", moved), ("dataTemplate", template)]);
    let some = |map: serde_json::Map<String, Value>| (!map.is_empty()).then_some(Value::Object(map));
    some(object([("metadata", some(metadata)), ("spec", some(spec))]))
}

/// 9.4, step 4: consumer, label and block-move; without a data template also all that the host is to run.
fn claim<T>(o: &Observed<'_>, r: &mut Report, owner: &Machine, host: &BareMetalHost, reused: bool) -> Flow<T> {
    if o.machine.metadata.uid.as_deref().is_some_and(|uid| annotated(host, annotation::LET_GO_BY) == Some(uid)) {
        return rest(Next::Done); // the machine is on its way out, and the news of that on its way here
    }
    if let Err(problem) = provision::check(o, owner) {
        return r.fail(rows::ASSOCIATE_FAILED, problem);
    }
    secrets_before_claim(o, r, owner, host)?;
    if let Some(patch) = own_changes(o, owner, Some(host))
        && !sown(Defect::ClaimBeforeIntent)
    {
        return act(Action::Machine { purpose: Purpose::Intend, patch });
    }
    let consumer = json!({
        "apiVersion": INFRA_API_VERSION,
        "kind": "Metal3Machine",
        "namespace": o.namespace(),
        "name": o.name(),
        "uid": null,
        "resourceVersion": null,
        "fieldPath": null,
    });
    let mut spec = object([("consumerRef", Some(consumer))]);
    if o.machine.spec.data_template.is_none() {
        // Remembered when the claim stands: a claim that is refused has handed nothing over.
        let mut handed = r.clone();
        match provision::remember_references(o, &mut handed, owner, host) {
            Ok(()) => spec.append(&mut provision::missing(o, host, &handed.status)),
            Err(problem) => return r.fail(rows::ASSOCIATE_FAILED, problem),
        }
    }
    let patch = json!({
        "metadata": {
            "labels": { label::CLUSTER_NAME: owner.spec.cluster_name, label::NODE_REUSE: null },
            "annotations": { annotation::BLOCK_MOVE: "", annotation::LET_GO_BY: null },
        },
        "spec": spec,
    });
    act(o.host_patch(Purpose::Claim { reused }, host, patch))
}

/// A machine whose Secrets are missing takes no host from those that can be deployed.
fn secrets_before_claim(o: &Observed<'_>, r: &mut Report, owner: &Machine, host: &BareMetalHost) -> Flow<()> {
    let found = provision::user_secrets(o, r, owner, host);
    if r.findings.get(rows::METADATA_FAILED.kind).is_some() {
        r.say(rows::ASSOCIATE_FAILED, "no BareMetalHost is claimed while a Secret is missing");
    }
    found
}

/// M-44: the BMC Secret carries the cluster's name while a machine of it holds the host.
fn label_credentials(o: &Observed<'_>, r: &mut Report, owner: &Machine, host: &BareMetalHost) -> Flow<()> {
    let Some(name) = credentials_name(host) else { return Continue(()) };
    match &o.answers.credentials {
        Some(Credentials::Labelled(cluster)) if cluster.as_deref() == Some(&owner.spec.cluster_name) => Continue(()),
        Some(Credentials::Missing) => {
            let message = format!("Secret {}/{name} of BareMetalHost {} does not exist", o.namespace(), o.at(host));
            r.alarm(rows::ASSOCIATE_FAILED, message);
            rest(Next::After(SAFETY_NET)) // the host operator misses it too: that it has it back, it says in the host's status
        }
        // Unread: a label that is there already makes the write one of nothing.
        None | Some(Credentials::Labelled(_)) => {
            let version = credentials_version(o, host, name)?;
            act(Action::LabelCredentials { name: name.to_owned(), cluster: owner.spec.cluster_name.clone(), version })
        }
    }
}

/// What the write is conditional on. A machine's host may be another's by the time a request arrives, and its Secret is
/// labelled anew then: the label must not come or go behind that. The host operator notes which version it uses, so the Secret
/// itself is read only when that is out of date.
pub(super) fn credentials_version(o: &Observed<'_>, host: &BareMetalHost, name: &str) -> Flow<String> {
    let used = host.status.as_ref().and_then(|status| status.good_credentials.as_ref());
    let used = used.filter(|used| used.credentials.as_ref().map(|secret| secret.name.as_str()) == Some(name));
    let known = o.answers.credentials_version.as_ref().or(used.map(|used| &used.credentials_version));
    match known.filter(|version| !version.is_empty()) {
        Some(version) => Continue(version.clone()),
        None => ask(Question::Credentials { name: name.to_owned() }),
    }
}

pub(super) fn credentials_name(host: &BareMetalHost) -> Option<&str> {
    host.spec.bmc.as_ref()?.credentials_name.as_deref().filter(|name| !name.is_empty())
}

impl Observed<'_> {
    fn annotation(&self, key: &str) -> Option<&str> {
        self.machine.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// `<namespace>/<name>` of a host, as annotation and messages name it.
    pub(super) fn at(&self, host: &BareMetalHost) -> String {
        format!("{}/{}", self.namespace(), host.metadata.name.as_deref().unwrap_or_default())
    }
}
