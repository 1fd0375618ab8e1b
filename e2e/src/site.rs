//! The objects of a site, read and written as JSON: hosts, clusters and what belongs to them.
//!
//! Scenarios look at objects as a user's tools would; typed views would hide a field that is wrong.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::kube::{Seen, wait_for};
use crate::life::BOUND;
use crate::view::World;

/// A kind as the API addresses it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
}

const fn kind(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural }
}

const INFRASTRUCTURE: &str = "infrastructure.cluster.x-k8s.io";
pub const CLUSTER: Kind = kind("cluster.x-k8s.io", "v1beta2", "Cluster", "clusters");
pub const CLUSTER_CLASS: Kind = kind("cluster.x-k8s.io", "v1beta2", "ClusterClass", "clusterclasses");
pub const MACHINE: Kind = kind("cluster.x-k8s.io", "v1beta2", "Machine", "machines");
pub const MACHINE_DEPLOYMENT: Kind = kind("cluster.x-k8s.io", "v1beta2", "MachineDeployment", "machinedeployments");
pub const CONTROL_PLANE: Kind =
    kind("controlplane.cluster.x-k8s.io", "v1beta2", "KubeadmControlPlane", "kubeadmcontrolplanes");
pub const METAL3_CLUSTER: Kind = kind(INFRASTRUCTURE, "v1beta2", "Metal3Cluster", "metal3clusters");
pub const METAL3_MACHINE: Kind = kind(INFRASTRUCTURE, "v1beta2", "Metal3Machine", "metal3machines");
pub const METAL3_MACHINE_TEMPLATE: Kind =
    kind(INFRASTRUCTURE, "v1beta2", "Metal3MachineTemplate", "metal3machinetemplates");
pub const METAL3_DATA: Kind = kind(INFRASTRUCTURE, "v1beta2", "Metal3Data", "metal3datas");
pub const METAL3_DATA_CLAIM: Kind = kind(INFRASTRUCTURE, "v1beta2", "Metal3DataClaim", "metal3dataclaims");
pub const METAL3_DATA_TEMPLATE: Kind = kind(INFRASTRUCTURE, "v1beta2", "Metal3DataTemplate", "metal3datatemplates");
pub const METAL3_CLUSTER_TEMPLATE: Kind =
    kind(INFRASTRUCTURE, "v1beta2", "Metal3ClusterTemplate", "metal3clustertemplates");
pub const METAL3_REMEDIATION: Kind = kind(INFRASTRUCTURE, "v1beta2", "Metal3Remediation", "metal3remediations");
pub const METAL3_REMEDIATION_TEMPLATE: Kind =
    kind(INFRASTRUCTURE, "v1beta2", "Metal3RemediationTemplate", "metal3remediationtemplates");
pub const IP_POOL: Kind = kind("ipam.metal3.io", "v1alpha1", "IPPool", "ippools");
pub const IP_CLAIM: Kind = kind("ipam.metal3.io", "v1alpha1", "IPClaim", "ipclaims");
pub const IP_ADDRESS: Kind = kind("ipam.metal3.io", "v1alpha1", "IPAddress", "ipaddresses");
pub const CAPI_IP_CLAIM: Kind = kind("ipam.cluster.x-k8s.io", "v1beta2", "IPAddressClaim", "ipaddressclaims");
pub const CAPI_IP_ADDRESS: Kind = kind("ipam.cluster.x-k8s.io", "v1beta2", "IPAddress", "ipaddresses");
pub const HOST: Kind = kind("metal3.io", "v1alpha1", "BareMetalHost", "baremetalhosts");
pub const SECRET: Kind = kind("", "v1", "Secret", "secrets");
pub const POD: Kind = kind("", "v1", "Pod", "pods");
pub const NODE: Kind = kind("", "v1", "Node", "nodes");
pub const LEASE: Kind = kind("coordination.k8s.io", "v1", "Lease", "leases");
pub const DEPLOYMENT: Kind = kind("apps", "v1", "Deployment", "deployments");
pub const PROVIDER: Kind = kind("clusterctl.cluster.x-k8s.io", "v1alpha3", "Provider", "providers");
pub const DEFINITION: Kind =
    kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
pub const NAMESPACE: Kind = kind("", "v1", "Namespace", "namespaces");
pub const CERTIFICATE: Kind = kind("cert-manager.io", "v1", "Certificate", "certificates");
pub const CONFIG_MAP: Kind = kind("", "v1", "ConfigMap", "configmaps");

/// All kinds that this project defines.
pub const OURS: [Kind; 12] = [
    METAL3_CLUSTER,
    METAL3_CLUSTER_TEMPLATE,
    METAL3_MACHINE,
    METAL3_MACHINE_TEMPLATE,
    METAL3_DATA,
    METAL3_DATA_CLAIM,
    METAL3_DATA_TEMPLATE,
    METAL3_REMEDIATION,
    METAL3_REMEDIATION_TEMPLATE,
    IP_POOL,
    IP_CLAIM,
    IP_ADDRESS,
];

impl Kind {
    pub fn is_infrastructure(self) -> bool {
        self.group == INFRASTRUCTURE
    }

    /// The same kind in the version before.
    pub const fn older(self) -> Kind {
        Kind { version: "v1beta1", ..self }
    }

    pub const fn name(self) -> &'static str {
        self.kind
    }
}

/// One namespace of one cluster.
#[derive(Clone)]
pub struct Site {
    pub client: Client,
    pub namespace: String,
}

impl Site {
    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind))
    }

    pub async fn list(&self, kind: Kind) -> Result<Vec<Value>> {
        list(&self.api(kind), kind).await
    }

    pub async fn get(&self, kind: Kind, name: &str) -> Result<Option<Value>> {
        let found = self.api(kind).get_opt(name).await.with_context(|| format!("get {} {name}", kind.kind))?;
        found.map(|object| serde_json::to_value(object).context("an object as JSON")).transpose()
    }

    /// The object with its kind and this namespace.
    pub fn whole(&self, kind: Kind, object: Value) -> Value {
        let mut object = with_kind(kind, object);
        object["metadata"]["namespace"] = self.namespace.clone().into();
        object
    }

    pub async fn create(&self, kind: Kind, object: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(self.whole(kind, object))?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let created = self.api(kind).create(&PostParams::default(), &object).await;
        created.map(|_| ()).with_context(|| format!("create {} {name}", kind.kind))
    }

    pub async fn patch(&self, kind: Kind, name: &str, patch: Value) -> Result<()> {
        let patched = self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(|_| ()).with_context(|| format!("patch {} {name}", kind.kind))
    }

    /// Deletes it; fine when it is gone already.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        match self.api(kind).delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted.map(|_| ()).with_context(|| format!("delete {} {name}", kind.kind)),
        }
    }

    /// Deletes the namespace and waits until it is gone, and with it the last finalizer of all that is in it.
    pub async fn remove_namespace(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let name = &self.namespace;
        match namespaces.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            deleted => _ = deleted.with_context(|| format!("delete namespace {name}"))?,
        }
        wait_for(format_args!("namespace {name} gone"), BOUND, async || {
            Ok(match namespaces.get_opt(name).await? {
                None => Seen::Done(()),
                Some(left) => Seen::Not(serde_json::to_string(&left.status)?),
            })
        })
        .await
    }

    /// What the live tree shows. A kind that is not installed yet counts as empty.
    pub async fn world(&self) -> World {
        let list = async |kind| self.list(kind).await.unwrap_or_default();
        World {
            clusters: list(CLUSTER).await,
            control_planes: list(CONTROL_PLANE).await,
            deployments: list(MACHINE_DEPLOYMENT).await,
            machines: list(MACHINE).await,
            metal3_machines: list(METAL3_MACHINE).await,
            hosts: list(HOST).await,
            addresses: list(IP_ADDRESS).await,
            datas: list(METAL3_DATA).await,
        }
    }
}

/// Objects of a kind in all namespaces, or those of a cluster-scoped kind.
pub async fn everywhere(client: &Client, kind: Kind) -> Result<Vec<Value>> {
    list(&Api::all_with(client.clone(), &resource(kind)), kind).await
}

async fn list(api: &Api<DynamicObject>, kind: Kind) -> Result<Vec<Value>> {
    let found = api.list(&ListParams::default()).await.with_context(|| format!("list {}", kind.plural))?;
    found.items.into_iter().map(|object| serde_json::to_value(object).context("an object as JSON")).collect()
}

pub fn resource(kind: Kind) -> ApiResource {
    let api_version =
        if kind.group.is_empty() { kind.version.to_owned() } else { format!("{}/{}", kind.group, kind.version) };
    ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version,
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    }
}

fn with_kind(kind: Kind, mut object: Value) -> Value {
    let resource = resource(kind);
    object["apiVersion"] = resource.api_version.into();
    object["kind"] = json!(kind.kind);
    object
}

pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}
