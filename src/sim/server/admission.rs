//! The webhooks of the stored configurations and definitions, called in the process.
//!
//! The configurations are read once and kept until one is written. A webhook is asked when a rule of it names the operation, the kind (in
//! this version or, unless it wants exact matches, in another) and its scope, and when its selectors take the namespace and the
//! object, as it was or as it is to be. Not carried out: `matchConditions`, reinvocation, side effects.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::kinds::{Class, Service, View};
use super::object::shape;
use super::selector::Selector;
use super::status::Refusal;
use super::store::Store;
use super::{Shared, World, meta};

pub(super) const GROUP: &str = "admissionregistration.k8s.io";

/// What answers a webhook's service. An error is a webhook that cannot be reached.
pub trait Hooks: Send + Sync + 'static {
    fn call<'a>(&'a self, service: &'a Service, review: Value) -> BoxFuture<'a, Result<Value, String>>;
}

/// No service is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn call<'a>(&'a self, service: &'a Service, _: Value) -> BoxFuture<'a, Result<Value, String>> {
        let why = format!("service {}/{} not found", service.namespace, service.name);
        Box::pin(std::future::ready(Err(why)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Mutating,
    Validating,
}

/// One webhook of a configuration.
#[derive(Debug)]
pub(super) struct Webhook {
    phase: Phase,
    name: String,
    service: Service,
    rules: Vec<Rule>,
    namespaces: Selector,
    objects: Selector,
    ignore_failure: bool,
    exact: bool,
}

#[derive(Debug)]
struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    operations: Vec<String>,
    scope: String,
}

fn names(list: &[String], value: &str) -> bool {
    list.iter().any(|one| one == value || one == "*")
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let list = |key: &str| -> Vec<String> {
            rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources"),
            operations: list("operations"),
            scope: rule["scope"].as_str().unwrap_or("*").to_owned(),
        }
    }

    fn names(&self, view: &View, subresource: &str, operation: &str) -> bool {
        let resource = |one: &String| match one.split_once('/') {
            Some((plural, below)) => {
                (plural == "*" || *plural == view.kind.plural)
                    && (below == "*" || below == subresource && !subresource.is_empty())
            }
            None => subresource.is_empty() && (one == "*" || *one == view.kind.plural),
        };
        let scope = if view.kind.namespaced { "Namespaced" } else { "Cluster" };
        names(&self.groups, &view.kind.group)
            && names(&self.versions, &view.version().name)
            && names(&self.operations, operation)
            && self.resources.iter().any(resource)
            && (self.scope == "*" || self.scope == scope)
    }
}

impl Webhook {
    fn read(phase: Phase, webhook: &Value) -> Option<Self> {
        let selector = |key: &str| Selector::of_labels(&webhook[key]);
        Some(Self {
            phase,
            name: webhook["name"].as_str().unwrap_or_default().to_owned(),
            service: Service::parse(&webhook["clientConfig"])?,
            rules: webhook["rules"].as_array().into_iter().flatten().map(Rule::read).collect(),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            ignore_failure: webhook["failurePolicy"] == "Ignore",
            exact: webhook["matchPolicy"] == "Exact",
        })
    }

    /// The version in which it wants to see the kind, if a rule names it.
    fn wants(&self, view: &View, subresource: &str, operation: &str) -> Option<View> {
        let named = |view: &View| self.rules.iter().any(|rule| rule.names(view, subresource, operation));
        if named(view) {
            return Some(view.clone());
        }
        let mut others = view.kind.versions.iter().filter(|version| version.served);
        if self.exact { None } else { others.find_map(|v| view.in_version(&v.name).filter(named)) }
    }
}

/// All webhooks, in the order in which they are asked.
pub(super) fn webhooks(store: &Store) -> Vec<Webhook> {
    let of = |(phase, table): (Phase, &str)| {
        let configurations = store.table(table).map(|(_, configuration)| configuration);
        let all = configurations.flat_map(|one| one["webhooks"].as_array().into_iter().flatten());
        all.filter_map(move |webhook| Webhook::read(phase, webhook)).collect::<Vec<_>>()
    };
    let tables = [
        (Phase::Mutating, "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
        (Phase::Validating, "validatingwebhookconfigurations.admissionregistration.k8s.io"),
    ];
    tables.into_iter().flat_map(of).collect()
}

impl World {
    fn webhooks(&mut self) -> Arc<Vec<Webhook>> {
        self.webhooks.get_or_insert_with(|| Arc::new(webhooks(&self.store))).clone()
    }
}

/// What a webhook is asked about.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub call: &'a Call,
    pub view: &'a View,
    /// Absent when it is about a delete.
    pub object: Option<&'a Value>,
    /// Absent when it is about a create.
    pub old: Option<&'a Value>,
    pub dry_run: bool,
}

impl Question<'_> {
    fn operation(&self) -> &'static str {
        match (self.object, self.old) {
            (Some(_), None) => "CREATE",
            (Some(_), Some(_)) => "UPDATE",
            (None, _) => "DELETE",
        }
    }

    fn either(&self) -> impl Iterator<Item = &Value> {
        self.object.into_iter().chain(self.old)
    }
}

/// One webhook that wants to be asked, and in which version.
struct Wanted {
    all: Arc<Vec<Webhook>>,
    at: usize,
    view: View,
}

impl Shared {
    fn wanted(&self, phase: Phase, question: &Question<'_>) -> Vec<Wanted> {
        let Question { call, view, .. } = question;
        let operation = question.operation();
        let mut world = self.world.lock();
        let all = world.webhooks();
        let mut wanted = Vec::new();
        for (at, webhook) in all.iter().enumerate().filter(|(_, webhook)| webhook.phase == phase) {
            let Some(view) = webhook.wants(view, &call.subresource, operation) else { continue };
            if takes_namespace(&world.store, &webhook.namespaces, question)
                && question.either().any(|object| webhook.objects.matches(object))
            {
                wanted.push(Wanted { all: all.clone(), at, view });
            }
        }
        wanted
    }

    /// Lets the mutating webhooks change the object, which then has its form again; returns their warnings.
    pub(super) async fn mutate(
        &self,
        call: &Call,
        view: &View,
        object: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        let question = Question { call, view, object: Some(object), old, dry_run };
        for wanted in self.wanted(Phase::Mutating, &question) {
            let question = Question { call, view, object: Some(object), old, dry_run };
            let Some(answer) = self.ask(&wanted, &question).await? else { continue };
            warnings.extend(answer.warnings);
            let Some(patch) = answer.patch else { continue };
            let mut seen = self.convert_one(object.clone(), view, &wanted.view).await?;
            json_patch::patch(&mut seen, &patch).map_err(|error| Refusal::internal(&error.to_string()))?;
            *object = self.convert_one(seen, &wanted.view, view).await?;
            shape(view, object).map_err(|why| Refusal::internal(&why))?;
        }
        Ok(warnings)
    }

    /// Asks the validating webhooks; returns their warnings.
    pub(super) async fn validate(&self, question: &Question<'_>) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        for wanted in self.wanted(Phase::Validating, question) {
            if let Some(answer) = self.ask(&wanted, question).await? {
                warnings.extend(answer.warnings);
            }
        }
        Ok(warnings)
    }

    /// Asks both kinds about a delete, which none of them can change.
    pub(super) async fn may_delete(&self, question: &Question<'_>) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        for phase in [Phase::Mutating, Phase::Validating] {
            for wanted in self.wanted(phase, question) {
                if let Some(answer) = self.ask(&wanted, question).await? {
                    warnings.extend(answer.warnings);
                }
            }
        }
        Ok(warnings)
    }

    /// Whether any webhook is to be asked about deletes of this kind.
    pub(super) fn guards_deletes(&self, view: &View) -> bool {
        self.world.lock().webhooks().iter().any(|webhook| webhook.wants(view, "", "DELETE").is_some())
    }

    /// `None` when the webhook cannot be reached and that is to be ignored.
    async fn ask(&self, wanted: &Wanted, question: &Question<'_>) -> Result<Option<Answer>, Refusal> {
        let Question { call, view, dry_run, .. } = *question;
        let webhook = &wanted.all[wanted.at];
        let hook_view = &wanted.view;
        let mut parts = [Value::Null, Value::Null];
        for (part, object) in parts.iter_mut().zip([question.object, question.old]) {
            if let Some(object) = object {
                *part = self.convert_one(object.clone(), view, hook_view).await?;
            }
        }
        let [object, old] = parts;
        let group_version = |version: &View| (view.kind.group.clone(), version.version().name.clone());
        let kind = |version: &View| {
            let (group, version) = group_version(version);
            json!({"group": group, "version": version, "kind": view.kind.kind})
        };
        let resource = |version: &View| {
            let (group, version) = group_version(version);
            json!({"group": group, "version": version, "resource": view.kind.plural})
        };
        let named = question.either().next().unwrap_or(&Value::Null);
        let mut request = Map::new();
        let mut put = |key: &str, value: Value| _ = request.insert(key.to_owned(), value);
        put("uid", format!("request-{}", call.number).into());
        put("kind", kind(hook_view));
        put("resource", resource(hook_view));
        put("requestKind", kind(view));
        put("requestResource", resource(view));
        if !call.subresource.is_empty() {
            put("subResource", call.subresource.clone().into());
            put("requestSubResource", call.subresource.clone().into());
        }
        put("name", meta::name(named).into());
        put("namespace", meta::namespace(named).into());
        put("operation", question.operation().into());
        put("userInfo", json!({"username": call.user}));
        put("object", object);
        put("oldObject", old);
        put("dryRun", dry_run.into());
        let mut review = Map::new();
        review.insert("kind".to_owned(), "AdmissionReview".into());
        review.insert("apiVersion".to_owned(), "admission.k8s.io/v1".into());
        review.insert("request".to_owned(), request.into());
        match self.hooks.call(&webhook.service, review.into()).await {
            Ok(review) => answer(&webhook.name, &review).map(Some),
            Err(_) if webhook.ignore_failure => Ok(None),
            Err(error) => {
                let name = &webhook.name;
                Err(Refusal::internal(&format!("failed calling webhook {name:?}: failed to call webhook: {error}")))
            }
        }
    }

    pub(super) async fn ask_conversion(
        &self,
        mut objects: Vec<Value>,
        from: &View,
        to: &View,
    ) -> Result<Vec<Value>, Refusal> {
        let version = to.api_version();
        let Class::Custom { convert: Some(service) } = &to.kind.class else {
            objects.iter_mut().for_each(|object| object["apiVersion"] = version.clone().into());
            return Ok(objects);
        };
        let failed = |why: &str| {
            let (from, kind) = (from.api_version(), &from.kind.kind);
            Refusal::internal(&format!("conversion webhook for {from}, Kind={kind} failed: {why}"))
        };
        let many = objects.len();
        let mut review = json!({
            "kind": "ConversionReview",
            "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": "conversion", "desiredAPIVersion": version},
        });
        review["request"]["objects"] = objects.into();
        let mut review = self.hooks.call(service, review).await.map_err(|error| failed(&error))?;
        let response = &mut review["response"];
        if response["result"]["status"] != "Success" {
            return Err(failed(response["result"]["message"].as_str().unwrap_or("no reason given")));
        }
        match response["convertedObjects"].take() {
            Value::Array(converted) if converted.len() == many => Ok(converted),
            _ => Err(failed("webhook returned another number of objects")),
        }
    }
}

/// Whether the selector takes the namespace of what is asked about; what is in none is taken, and a Namespace is in itself.
fn takes_namespace(store: &Store, selector: &Selector, question: &Question<'_>) -> bool {
    let Question { call, view, .. } = question;
    if selector.is_empty() {
        return true;
    }
    if &*view.kind.id == "namespaces" {
        return question.either().next().is_some_and(|namespace| selector.matches(namespace));
    }
    if !view.kind.namespaced {
        return true;
    }
    store.get("namespaces", &call.namespace).is_some_and(|namespace| selector.matches(namespace))
}

struct Answer {
    patch: Option<json_patch::Patch>,
    warnings: Vec<String>,
}

fn answer(name: &str, review: &Value) -> Result<Answer, Refusal> {
    let response = &review["response"];
    if response["allowed"] != true {
        return Err(denial(name, &response["status"]));
    }
    let broken = |why: &str| Refusal::internal(&format!("failed calling webhook {name:?}: {why}"));
    let patch = match response["patch"].as_str() {
        Some(text) => {
            let bytes = STANDARD.decode(text).map_err(|error| broken(&error.to_string()))?;
            Some(serde_json::from_slice(&bytes).map_err(|error| broken(&error.to_string()))?)
        }
        None => None,
    };
    let warnings = response["warnings"].as_array().into_iter().flatten();
    Ok(Answer { patch, warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect() })
}

/// The webhook's refusal, with its name before it.
fn denial(name: &str, status: &Value) -> Refusal {
    let denied = format!("admission webhook {name:?} denied the request");
    let text = |key: &str| status[key].as_str().filter(|text| !text.is_empty());
    let why = text("message").or_else(|| text("reason"));
    let message = match why {
        Some(why) => format!("{denied}: {why}"),
        None => format!("{denied} without explanation"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default().max(400);
    Refusal::new(code, text("reason").unwrap_or_default(), message).with_details(status["details"].clone())
}
