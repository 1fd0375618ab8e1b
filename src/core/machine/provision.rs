//! What the host of a machine is to run, and the data it is to run it with.
//!
//! The image, user data, metadata and network data go to the host in one write, once the data is complete; what a host
//! already runs is never replaced. Rules: M-41, M-70 to M-82, D-24, D-25, H-15 to H-19, H-48.

use capm3_api::common::{NamespacedRef, SecretRef, owner_reference};
use capm3_api::foreign::{BareMetalHost, Machine};
use capm3_api::infra::v1beta2::{Metal3DataClaim, Metal3DataClaimSpec, Metal3MachineStatus};
use capm3_api::k8s::ObjectMeta;
use capm3_api::names::{PROVIDER_ID_SCHEME, annotation, finalizer, host_state, secret};
use serde_json::{Map, Value, json};

use super::ControlFlow::Continue;
use super::associate;
use super::{
    Action, Flow, JUST_CREATED, NO_EVENT, Next, Observed, Problem, Purpose, Question, Report, SAFETY_NET, act, ask,
    object, release, rendered_name, rest, rows,
};

/// `metal3://<namespace>/<host>/<metal3machine>`: the whole identity of a machine (M-88).
pub fn provider_id(namespace: &str, host: &str, machine: &str) -> String {
    format!("{PROVIDER_ID_SCHEME}{namespace}/{host}/{machine}")
}

pub(super) fn bootstrap_secret(owner: &Machine) -> Option<&str> {
    owner.spec.bootstrap.as_ref()?.data_secret_name.as_deref().filter(|name| !name.is_empty())
}

pub(super) fn has_bootstrap_config(owner: &Machine) -> bool {
    let config = owner.spec.bootstrap.as_ref().and_then(|bootstrap| bootstrap.config_ref.as_ref());
    config.is_some_and(|c| !(c.kind.is_empty() && c.name.is_empty() && c.api_group.as_deref().unwrap_or("").is_empty()))
}

/// Whether the machine could be deployed at all: judged before it takes a host from others.
pub(super) fn check(o: &Observed<'_>, owner: &Machine) -> Result<(), Problem> {
    check_references(o)?;
    match user_data(o, owner, None)? {
        Some(_) if !is_deployable(o) => Err(Problem::NothingToDeploy),
        _ => Ok(()),
    }
}

/// No reference leads out of the machine's namespace.
fn check_references(o: &Observed<'_>) -> Result<(), Problem> {
    references(o)?;
    let Some(template) = &o.machine.spec.data_template else { return Ok(()) };
    if template.name.is_empty() {
        return Err(Problem::TemplateUnnamed); // a claim on nothing is answered by nobody, and let go by nobody
    }
    own_namespace("dataTemplate", o, &template.name, template.namespace.as_deref())
}

fn is_deployable(o: &Observed<'_>) -> bool {
    o.machine.spec.image.as_ref().is_some_and(|image| !image.url.is_empty()) || method(o).is_some()
}

/// Metadata and network data that the user names (M-80 step 1).
fn references(o: &Observed<'_>) -> Result<(Option<SecretRef>, Option<SecretRef>), Problem> {
    let given = |field, reference: &Option<SecretRef>| {
        reference.as_ref().map(|reference| local(field, o, reference)).transpose()
    };
    Ok((given("metaData", &o.machine.spec.meta_data)?, given("networkData", &o.machine.spec.network_data)?))
}

/// M-41: what is remembered, else the Machine's bootstrap data, else the user's own. A host that runs already keeps what it
/// has been given (H-15).
fn user_data(o: &Observed<'_>, owner: &Machine, host: Option<&BareMetalHost>) -> Result<Option<SecretRef>, Problem> {
    if let Some(remembered) = o.machine.status.as_ref().and_then(|status| status.user_data.as_ref()) {
        return Ok(Some(remembered.clone()));
    }
    if let Some(given) = host.and_then(|host| host.spec.user_data.as_ref()) {
        return local("userData", o, given).map(Some);
    }
    let own = o.machine.spec.user_data.as_ref().map(|reference| local("userData", o, reference)).transpose()?;
    Ok(bootstrap_secret(owner).map(|name| SecretRef::new(o.namespace(), name)).or(own))
}

/// Fills in the references that the status carries.
pub(super) fn remember_references(
    o: &Observed<'_>,
    r: &mut Report,
    owner: &Machine,
    host: &BareMetalHost,
) -> Result<(), Problem> {
    let (meta_data, network_data) = references(o)?;
    r.status.meta_data = meta_data.or(r.status.meta_data.take());
    r.status.network_data = network_data.or(r.status.network_data.take());
    r.status.user_data = user_data(o, owner, is_deployed(host).then_some(host))?;
    if is_to_deploy(o, host) {
        let status = &r.status;
        for (field, reference) in
            [("userData", &status.user_data), ("metaData", &status.meta_data), ("networkData", &status.network_data)]
        {
            reference.as_ref().map(|reference| local(field, o, reference)).transpose()?;
        }
    }
    Ok(())
}

fn local(field: &'static str, o: &Observed<'_>, reference: &SecretRef) -> Result<SecretRef, Problem> {
    own_namespace(field, o, &reference.name, reference.namespace.as_deref())?;
    Ok(SecretRef::new(o.namespace(), &reference.name))
}

fn own_namespace(field: &'static str, o: &Observed<'_>, name: &str, namespace: Option<&str>) -> Result<(), Problem> {
    match namespace.filter(|n| !n.is_empty() && *n != o.namespace()) {
        None => Ok(()),
        Some(namespace) => {
            Err(Problem::ForeignNamespace { field, name: name.to_owned(), namespace: namespace.to_owned() })
        }
    }
}

/// The claim for rendered data exists (M-80, D-24).
pub(super) fn data_claim(o: &Observed<'_>, r: &mut Report) -> Flow<()> {
    if let Err(problem) = check_references(o) {
        return r.fail(rows::METADATA_FAILED, problem);
    }
    let template = o.machine.spec.data_template.as_ref().filter(|_| r.status.rendered_data.is_none());
    if let Some(template) = template.filter(|_| !comes_too_late(o)) {
        match o.claim {
            None => return act(Action::CreateClaim(Box::new(claim(o, template)))),
            Some(claim) if !is_for(claim, o) => {
                let runs = o.held.iter().any(|host| is_deployed(host)); // with the addresses of that claim, for all we know (H-32)
                if let Some(drop) = release::forsaken(claim).filter(|_| !runs && !is_owned(claim, o)) {
                    return act(drop);
                }
                let message = format!("Metal3DataClaim {} belongs to an earlier machine of this name", o.claim_name());
                r.alarm(rows::METADATA_FAILED, message);
                return rest(Next::After(SAFETY_NET));
            }
            Some(_) => {}
        }
    }
    r.say(rows::METADATA_ASSOCIATED, "");
    Continue(())
}

/// A data template that was named when there was nothing left to boot with it: a machine that runs, or is being updated in place,
/// gets no claim for one (K-62).
fn comes_too_late(o: &Observed<'_>) -> bool {
    o.claim.is_none() && (has_run(o) || is_updated_in_place(o))
}

fn claim(o: &Observed<'_>, template: &NamespacedRef) -> Metal3DataClaim {
    Metal3DataClaim {
        metadata: ObjectMeta {
            name: Some(o.name().to_owned()),
            namespace: Some(o.namespace().to_owned()),
            // Also the one of who answers: it saves the write that would put it there.
            finalizers: Some(vec![finalizer::MACHINE.to_owned(), finalizer::DATA_CLAIM.to_owned()]),
            labels: o.machine.metadata.labels.clone(),
            owner_references: owner_reference(o.machine, true, false).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Metal3DataClaimSpec { template: Some(NamespacedRef::new(o.namespace(), &template.name)) },
        ..Metal3DataClaim::default()
    }
}

fn is_owned(claim: &Metal3DataClaim, o: &Observed<'_>) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let uid = o.machine.metadata.uid.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.kind == "Metal3Machine" && (owner.uid == uid || owner.name != o.name()))
}

/// A claim that goes away, or that another Metal3Machine owns, answers somebody else's question (H-48).
fn is_for(claim: &Metal3DataClaim, o: &Observed<'_>) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let mut machines = owners.iter().filter(|owner| owner.kind == "Metal3Machine").peekable();
    let unowned = machines.peek().is_none();
    let uid = o.machine.metadata.uid.as_deref().unwrap_or_default();
    claim.metadata.deletion_timestamp.is_none() && (unowned || machines.any(|owner| owner.uid == uid))
}

/// A claim that was made just now is answered within the second or two; a machine that said so meanwhile would only be
/// written twice more.
pub(super) fn let_render(o: &Observed<'_>, r: &mut Report) -> Flow<()> {
    let Some(claim) = o.claim.filter(|claim| o.is_young(&claim.metadata) && associate::associated(o).is_none()) else {
        return Continue(());
    };
    let ready = o.data.and_then(|data| data.status.as_ref()).and_then(|s| s.ready) == Some(true);
    let claim_error = claim.status.as_ref().and_then(|s| s.error_message.as_deref());
    let data_error = o.data.and_then(|data| data.status.as_ref()).and_then(|s| s.error_message.as_deref());
    if ready || claim_error.or(data_error).is_some_and(|error| !error.is_empty()) {
        return Continue(());
    }
    r.say_nothing(o);
    rest(Next::After(JUST_CREATED))
}

/// The rendered data is ready, or none was asked for (M-82, D-25).
pub(super) fn wait_for_data(o: &Observed<'_>, r: &mut Report) -> Flow<()> {
    let is_asked_for = o.machine.spec.data_template.is_some() && !comes_too_late(o);
    if !is_asked_for && r.status.rendered_data.is_none() {
        if o.is_provisioned() {
            r.say(rows::SECRETS_SET_EXTERNALLY, ""); // H-31
        }
        return Continue(());
    }
    let Some(name) = rendered_name(o.machine, o.claim) else {
        let error = o.claim.and_then(|claim| claim.status.as_ref()).and_then(|s| s.error_message.as_deref());
        let what = match error.filter(|e| !e.is_empty()) {
            Some(error) => {
                r.trouble = true;
                format!("Metal3DataClaim {}: {error}", o.claim_name())
            }
            None => format!("Metal3DataClaim {} has no Metal3Data yet", o.claim_name()),
        };
        return wait(o, r, what);
    };
    r.status.rendered_data.get_or_insert_with(|| NamespacedRef::new(o.namespace(), name));

    let Some(data) = o.data else {
        return wait(o, r, format!("Metal3Data {}/{name} does not exist", o.namespace()));
    };
    let status = data.status.as_ref();
    if status.and_then(|s| s.ready) != Some(true) {
        let error = status.and_then(|s| s.error_message.as_deref()).filter(|e| !e.is_empty());
        return match error {
            Some(error) => {
                r.trouble = true;
                wait(o, r, format!("Metal3Data {}/{name}: {error}", o.namespace()))
            }
            None => wait(o, r, format!("Metal3Data {}/{name} is not rendered yet", o.namespace())),
        };
    }
    let rendered = |reference: &Option<SecretRef>| {
        let name = reference.as_ref().map(|reference| reference.name.as_str()).filter(|name| !name.is_empty());
        name.map(|name| SecretRef::new(o.namespace(), name))
    };
    r.status.meta_data = r.status.meta_data.take().or_else(|| rendered(&data.spec.meta_data));
    r.status.network_data = r.status.network_data.take().or_else(|| rendered(&data.spec.network_data));
    r.say(rows::SECRETS_READY, "");
    Continue(())
}

/// A settled machine has been given its data: that it cannot be read just now changes nothing.
fn wait(o: &Observed<'_>, r: &mut Report, message: String) -> Flow<()> {
    if o.is_settled() {
        return Continue(());
    }
    r.say(rows::WAITING_FOR_DATA, message);
    rest(Next::After(SAFETY_NET))
}

/// The Secrets that the user names exist before a host is given their names: the host operator would only wait for them in
/// silence. Those of bootstrap providers (A-U-2) and those that are rendered for this machine are not looked at.
pub(super) fn user_secrets(o: &Observed<'_>, r: &mut Report, owner: &Machine, host: &BareMetalHost) -> Flow<()> {
    if !is_to_deploy(o, host) {
        return Continue(());
    }
    let spec = &o.machine.spec;
    let named = |reference: &Option<SecretRef>| {
        reference.as_ref().map(|reference| reference.name.clone()).filter(|name| !name.is_empty())
    };
    let given = |reference: &Option<SecretRef>, suffix: &str| {
        let rendered = spec.data_template.is_some().then(|| format!("{}{suffix}", o.name()));
        named(reference).filter(|name| Some(name) != rendered.as_ref())
    };
    let used = user_data(o, owner, None).ok().flatten().map(|reference| reference.name);
    let own = named(&spec.user_data).filter(|name| Some(name) == used.as_ref());
    let secrets = [
        ("metaData", given(&spec.meta_data, secret::META_DATA_SUFFIX)),
        ("networkData", given(&spec.network_data, secret::NETWORK_DATA_SUFFIX)),
        ("userData", own.filter(|name| bootstrap_secret(owner) != Some(name))),
    ];
    for (field, name) in secrets.into_iter().filter_map(|(field, name)| Some((field, name?))) {
        match o.answers.secrets.get(&name) {
            None => return ask(Question::Secret { name }),
            Some(true) => {}
            Some(false) => {
                r.alarm(
                    rows::METADATA_FAILED,
                    format!("Secret {}/{name} (spec.{field}) does not exist", o.namespace()),
                );
                return rest(Next::After(NO_EVENT));
            }
        }
    }
    Continue(())
}

/// Everything the host is to run is on it, or goes there in one write (M-70, M-71).
pub(super) fn host_spec(o: &Observed<'_>, r: &mut Report, owner: &Machine, host: &BareMetalHost) -> Flow<()> {
    user_secrets(o, r, owner, host)?;
    if let Err(problem) = remember_references(o, r, owner, host) {
        return r.fail(rows::CREATE_FAILED, problem);
    }
    let deployed = is_deployed(host) || host.state() == host_state::PROVISIONED;
    if !deployed && r.status.user_data.is_some() && !is_deployable(o) {
        return r.fail(rows::CREATE_FAILED, Problem::NothingToDeploy);
    }
    let spec = missing(o, host, &r.status);
    if !spec.is_empty() {
        return act(o.host_patch(Purpose::Provision, host, json!({ "spec": spec })));
    }
    if !has_run(o) || is_deployed(host) || host.state() == host_state::PROVISIONED {
        return Continue(());
    }
    let message = format!("BareMetalHost {} has lost its image; a machine that ran is not deployed anew", o.at(host));
    r.alarm(rows::UPDATE_FAILED, message);
    rest(Next::After(SAFETY_NET))
}

/// A host without an image is given one, unless the machine has been provisioned: whatever took the image away, be it that the
/// host was made anew, what its disk holds may still be wanted (I10).
fn is_to_deploy(o: &Observed<'_>, host: &BareMetalHost) -> bool {
    !is_deployed(host) && !has_run(o) && !is_updated_in_place(o)
}

fn has_run(o: &Observed<'_>) -> bool {
    o.is_provisioned() || o.provider_id().is_some()
}

/// Cluster API has put a new spec on the machine and somebody else brings the host up to it (K-61).
fn is_updated_in_place(o: &Observed<'_>) -> bool {
    o.machine.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(annotation::UPDATE_IN_PROGRESS))
}

fn is_deployed(host: &BareMetalHost) -> bool {
    host.spec.image.is_some() || host.spec.custom_deploy.is_some()
}

/// The fields of a host's spec that differ from what this machine wants there.
pub(super) fn missing(o: &Observed<'_>, host: &BareMetalHost, status: &Metal3MachineStatus) -> Map<String, Value> {
    let spec = &o.machine.spec;
    let mut fields = Map::new();
    if let Some(user_data) = status.user_data.as_ref().filter(|_| is_to_deploy(o, host) && is_deployable(o)) {
        let text = |value: &Option<String>| value.as_deref().filter(|v| !v.is_empty()).map(|v| json!(v));
        let image = spec.image.as_ref().filter(|image| !image.url.is_empty()).map(|image| {
            // Empty members are left out: the host's schema refuses them (H-19).
            Value::Object(object([
                ("url", Some(json!(image.url))),
                ("checksum", text(&image.checksum)),
                ("checksumType", text(&image.checksum_type)),
                ("format", text(&image.disk_format)),
            ]))
        });
        let reference = |reference: &SecretRef| json!({ "name": reference.name, "namespace": o.namespace() });
        fields = object([
            ("image", image),
            ("customDeploy", method(o).map(|method| json!({ "method": method }))),
            ("userData", Some(reference(user_data))),
            ("metaData", status.meta_data.as_ref().map(reference)),
            ("networkData", status.network_data.as_ref().map(reference)),
        ]);
    }
    let cleaning = spec.automated_cleaning_mode.as_deref().filter(|mode| !mode.is_empty());
    if let Some(mode) = cleaning.filter(|mode| host.spec.automated_cleaning_mode.as_deref() != Some(mode)) {
        fields.insert("automatedCleaningMode".to_owned(), json!(mode));
    }
    if host.spec.online != Some(true) {
        fields.insert("online".to_owned(), json!(true));
    }
    fields
}

fn method<'a>(o: &Observed<'a>) -> Option<&'a str> {
    o.machine.spec.custom_deploy.as_ref().map(|deploy| deploy.method.as_str()).filter(|method| !method.is_empty())
}

impl Observed<'_> {
    fn claim_name(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }
}
