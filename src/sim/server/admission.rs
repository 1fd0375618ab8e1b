//! The webhooks of the stored configurations and definitions, called in the process.

use futures::future::BoxFuture;
use serde_json::{Value, json};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::call::{Call, Verb};
use super::kinds::{Class, Service, View};
use super::object::shape;
use super::status::Refusal;
use super::{Shared, meta};

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

/// One webhook that wants to be asked.
struct Wanted {
    name: String,
    service: Service,
    /// The version its rule names.
    version: String,
    ignore_failure: bool,
}

impl Shared {
    /// The webhooks of one phase whose rules name this operation on this kind, in the order of the configurations' names.
    fn wanted(&self, phase: &str, view: &View, operation: &str) -> Vec<Wanted> {
        let world = self.world.lock();
        let table = format!("{phase}webhookconfigurations.admissionregistration.k8s.io");
        let mut wanted = Vec::new();
        for (_, configuration) in world.store.table(&table) {
            for webhook in configuration["webhooks"].as_array().into_iter().flatten() {
                let names = |rule: &Value, list: &str, value: &str| {
                    let mut items = rule[list].as_array().into_iter().flatten();
                    items.any(|item| item == value || item == "*")
                };
                let applies = |rule: &&Value| {
                    names(rule, "apiGroups", &view.kind.group)
                        && names(rule, "resources", &view.kind.plural)
                        && names(rule, "operations", operation)
                };
                let Some(rule) = webhook["rules"].as_array().into_iter().flatten().find(applies) else { continue };
                let exact = names(rule, "apiVersions", &view.version().name);
                if !exact && webhook["matchPolicy"] == "Exact" {
                    continue;
                }
                let version = if exact { None } else { rule["apiVersions"][0].as_str() };
                let Some(service) = Service::parse(&webhook["clientConfig"]) else { continue };
                wanted.push(Wanted {
                    name: webhook["name"].as_str().unwrap_or_default().to_owned(),
                    service,
                    version: version.unwrap_or(&view.version().name).to_owned(),
                    ignore_failure: webhook["failurePolicy"] == "Ignore",
                });
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
    ) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        for wanted in self.asked(call, "mutating", view, old) {
            let Some(answer) = self.ask(&wanted, call, view, object, old).await? else { continue };
            warnings.extend(answer.warnings);
            let Some(patch) = answer.patch else { continue };
            let hook_view = view.in_version(&wanted.version).unwrap_or_else(|| view.clone());
            let mut seen = self.convert_one(object.clone(), view, &hook_view).await?;
            json_patch::patch(&mut seen, &patch).map_err(|error| Refusal::internal(&error.to_string()))?;
            *object = self.convert_one(seen, &hook_view, view).await?;
            shape(view, object).map_err(|why| Refusal::internal(&why))?;
        }
        Ok(warnings)
    }

    /// Asks the validating webhooks; returns their warnings.
    pub(super) async fn validate(
        &self,
        call: &Call,
        view: &View,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        for wanted in self.asked(call, "validating", view, old) {
            if let Some(answer) = self.ask(&wanted, call, view, object, old).await? {
                warnings.extend(answer.warnings);
            }
        }
        Ok(warnings)
    }

    /// Rules of ours name no subresource.
    fn asked(&self, call: &Call, phase: &str, view: &View, old: Option<&Value>) -> Vec<Wanted> {
        if !call.subresource.is_empty() || call.verb == Verb::Delete {
            return Vec::new();
        }
        self.wanted(phase, view, if old.is_none() { "CREATE" } else { "UPDATE" })
    }

    /// `None` when the webhook cannot be reached and that is to be ignored.
    async fn ask(
        &self,
        wanted: &Wanted,
        call: &Call,
        view: &View,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Option<Answer>, Refusal> {
        let hook_view = view.in_version(&wanted.version).unwrap_or_else(|| view.clone());
        let object = self.convert_one(object.clone(), view, &hook_view).await?;
        let old = match old {
            Some(old) => self.convert_one(old.clone(), view, &hook_view).await?,
            None => Value::Null,
        };
        let kind = json!({"group": view.kind.group, "version": hook_view.version().name, "kind": view.kind.kind});
        let resource =
            json!({"group": view.kind.group, "version": hook_view.version().name, "resource": view.kind.plural});
        let review = json!({
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": format!("request-{}", call.number),
                "kind": kind,
                "resource": resource,
                "requestKind": kind,
                "requestResource": resource,
                "name": meta::name(&object),
                "namespace": meta::namespace(&object),
                "operation": if old.is_null() { "CREATE" } else { "UPDATE" },
                "userInfo": {"username": call.user},
                "object": object,
                "oldObject": old,
                "dryRun": false,
            },
        });
        match self.hooks.call(&wanted.service, review).await {
            Ok(review) => answer(&wanted.name, &review).map(Some),
            Err(_) if wanted.ignore_failure => Ok(None),
            Err(error) => {
                let name = &wanted.name;
                Err(Refusal::internal(&format!("failed calling webhook {name:?}: failed to call webhook: {error}")))
            }
        }
    }

    pub(super) async fn ask_conversion(
        &self,
        objects: &[Value],
        from: &View,
        to: &View,
    ) -> Result<Vec<Value>, Refusal> {
        let version = to.api_version();
        let Class::Custom { convert: Some(service) } = &to.kind.class else {
            let mut objects = objects.to_vec();
            objects.iter_mut().for_each(|object| object["apiVersion"] = version.clone().into());
            return Ok(objects);
        };
        let failed = |why: &str| {
            let (from, kind) = (from.api_version(), &from.kind.kind);
            Refusal::internal(&format!("conversion webhook for {from}, Kind={kind} failed: {why}"))
        };
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": "conversion", "desiredAPIVersion": version, "objects": objects},
        });
        let mut review = self.hooks.call(service, review).await.map_err(|error| failed(&error))?;
        let response = &mut review["response"];
        if response["result"]["status"] != "Success" {
            return Err(failed(response["result"]["message"].as_str().unwrap_or("no reason given")));
        }
        match response["convertedObjects"].take() {
            Value::Array(converted) if converted.len() == objects.len() => Ok(converted),
            _ => Err(failed("webhook returned another number of objects")),
        }
    }
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
