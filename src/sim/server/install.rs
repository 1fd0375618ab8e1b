//! What is installed in a cluster before anything happens: definitions, roles and webhooks, as generated.

use axum::Router;
use axum::body::Body;
use capm3_webhook::{Answers, Which};
use futures::future::BoxFuture;
use http::{Request, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::admission::Hooks;
use super::call::{Call, Fence, Query, User, Verb};
use super::kinds::Service;
use super::object::path;
use super::status::Refusal;
use super::{Server, meta};

const INFRASTRUCTURE: &str = include_str!(concat!(
    "../../../clusterctl/infrastructure-metal3/v",
    env!("CARGO_PKG_VERSION"),
    "/infrastructure-components.yaml"
));
const IPAM: &str =
    include_str!(concat!("../../../clusterctl/ipam-metal3/v", env!("CARGO_PKG_VERSION"), "/ipam-components.yaml"));
const HOSTS: &str = include_str!("../../../e2e/manifests/host-crds.yaml");

/// The objects of a YAML file.
pub fn manifests(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    serde_saphyr::from_multiple(text)
}

/// Everything both providers install: namespaces, definitions, roles and webhook configurations among them.
pub fn providers() -> Result<Vec<Value>, serde_saphyr::Error> {
    let mut all = manifests(INFRASTRUCTURE)?;
    all.extend(manifests(IPAM)?);
    Ok(all)
}

/// The definitions of the host operator's kinds.
pub fn hosts() -> Result<Vec<Value>, serde_saphyr::Error> {
    manifests(HOSTS)
}

/// Definitions of the Cluster API kinds that touch us, in one version and with open schemas.
pub fn cluster_api() -> Vec<Value> {
    let kinds = [
        ("cluster.x-k8s.io", "Cluster", "clusters"),
        ("cluster.x-k8s.io", "Machine", "machines"),
        ("cluster.x-k8s.io", "MachineDeployment", "machinedeployments"),
        ("cluster.x-k8s.io", "MachineSet", "machinesets"),
        ("controlplane.cluster.x-k8s.io", "KubeadmControlPlane", "kubeadmcontrolplanes"),
        ("bootstrap.cluster.x-k8s.io", "KubeadmConfig", "kubeadmconfigs"),
        ("ipam.cluster.x-k8s.io", "IPAddress", "ipaddresses"),
        ("ipam.cluster.x-k8s.io", "IPAddressClaim", "ipaddressclaims"),
    ];
    kinds.into_iter().map(|(group, kind, plural)| open_definition(group, kind, plural)).collect()
}

fn open_definition(group: &str, kind: &str, plural: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{
                "name": "v1beta2", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

/// Only the definitions among some objects.
pub fn definitions(objects: Vec<Value>) -> Vec<Value> {
    objects.into_iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect()
}

impl Server {
    /// Creates objects in their order, as an administrator. Kinds that are not served (Deployments, Certificates) are left out.
    pub async fn install(&self, objects: impl IntoIterator<Item = Value>) -> Result<(), Refusal> {
        for object in objects {
            let text = |key: &str| object[key].as_str().unwrap_or_default();
            let view = self.shared.world.lock().kinds.by_kind(text("apiVersion"), text("kind"));
            let Some(view) = view else { continue };
            let namespace = meta::namespace(&object).to_owned();
            let call = Call {
                number: self.shared.next_call(),
                user: User::admin().name,
                process: 0,
                verb: Verb::Create,
                group: view.kind.group.clone(),
                version: view.version().name.clone(),
                resource: view.kind.plural.clone(),
                subresource: String::new(),
                name: String::new(),
                namespace,
                fence: Fence::None,
            };
            let there = path(&call.namespace, meta::name(&object));
            if self.shared.world.lock().store.get(&view.kind.id, &there).is_none() {
                Box::pin(self.shared.create(&call, &view, &Query::default(), object)).await?;
            }
        }
        Ok(())
    }
}

/// Webhooks that are routers in this process, by the Service in front of them.
#[derive(Default)]
pub struct Routers {
    fronts: Vec<(String, String, Front)>,
}

enum Front {
    /// Anything that speaks HTTP.
    Router(Mutex<Router>),
    /// Ours, asked directly: the same answers without reviews on the wire.
    Ours(Answers),
}

impl Routers {
    pub fn with(self, namespace: &str, service: &str, router: Router) -> Self {
        self.add(namespace, service, Front::Router(Mutex::new(router)))
    }

    fn add(mut self, namespace: &str, service: &str, front: Front) -> Self {
        self.fronts.push((namespace.to_owned(), service.to_owned(), front));
        self
    }

    /// The webhooks of both providers behind the Services that their manifests name.
    pub fn of_providers() -> Self {
        let ours = |which| Front::Ours(Answers::of(which));
        Self::default().add("capm3-system", "capm3-webhook-service", ours(Which::Infra)).add(
            "metal3-ipam-system",
            "ipam-webhook-service",
            ours(Which::Ipam),
        )
    }
}

impl Hooks for Routers {
    fn call<'a>(&'a self, service: &'a Service, review: Value) -> BoxFuture<'a, Result<Value, String>> {
        Box::pin(async move {
            let found = self
                .fronts
                .iter()
                .find(|(namespace, name, _)| (namespace, name) == (&service.namespace, &service.name));
            let router = match found {
                None => return Err(format!("service {}/{} not found", service.namespace, service.name)),
                Some((_, _, Front::Ours(answers))) => {
                    return match answers.answer(&service.path, review) {
                        Some(Ok(review)) => Ok(review),
                        Some(Err(_)) => Err("the server responded with 400 Bad Request".to_owned()),
                        None => Err("the server responded with 404 Not Found".to_owned()),
                    };
                }
                Some((_, _, Front::Router(router))) => router,
            };
            let request = Request::post(service.path.as_str()).header(header::CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(review.to_string())).map_err(|error| error.to_string())?;
            let router = router.lock().clone();
            let Ok(answer) = router.oneshot(request).await;
            let code = answer.status();
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            if !code.is_success() {
                return Err(format!("the server responded with {code}"));
            }
            serde_json::from_slice(&body).map_err(|error| error.to_string())
        })
    }
}
