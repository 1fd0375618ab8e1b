//! One write, as the invariants look at it.

use std::sync::Arc;

use capm3_api::names::{CAPI_GROUP, CAPI_IPAM_GROUP, HOST_GROUP, INFRA_GROUP, IPAM_GROUP};
use jiff::Timestamp;
use serde_json::Value;

use super::view::text;
use crate::server::{Change, Fence, Verb};

/// In which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Realm {
    Management,
    Workload,
}

/// The kinds that some invariant is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Host,
    Machine,
    Metal3Cluster,
    Data,
    DataClaim,
    DataTemplate,
    MachineTemplate,
    Remediation,
    Pool,
    Claim,
    Address,
    CapiClaim,
    CapiAddress,
    Secret,
    Cluster,
    CapiMachine,
    MachineSet,
    /// Of the workload cluster.
    Node,
    Event,
    Other,
}

impl What {
    /// All but events and [`Self::Other`].
    pub(super) const REMEMBERED: [Self; 18] = [
        Self::Host,
        Self::Machine,
        Self::Metal3Cluster,
        Self::Data,
        Self::DataClaim,
        Self::DataTemplate,
        Self::MachineTemplate,
        Self::Remediation,
        Self::Pool,
        Self::Claim,
        Self::Address,
        Self::CapiClaim,
        Self::CapiAddress,
        Self::Secret,
        Self::Cluster,
        Self::CapiMachine,
        Self::MachineSet,
        Self::Node,
    ];

    /// As the server files it.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Host => "baremetalhosts.metal3.io",
            Self::Machine => "metal3machines.infrastructure.cluster.x-k8s.io",
            Self::Metal3Cluster => "metal3clusters.infrastructure.cluster.x-k8s.io",
            Self::Data => "metal3datas.infrastructure.cluster.x-k8s.io",
            Self::DataClaim => "metal3dataclaims.infrastructure.cluster.x-k8s.io",
            Self::DataTemplate => "metal3datatemplates.infrastructure.cluster.x-k8s.io",
            Self::MachineTemplate => "metal3machinetemplates.infrastructure.cluster.x-k8s.io",
            Self::Remediation => "metal3remediations.infrastructure.cluster.x-k8s.io",
            Self::Pool => "ippools.ipam.metal3.io",
            Self::Claim => "ipclaims.ipam.metal3.io",
            Self::Address => "ipaddresses.ipam.metal3.io",
            Self::CapiClaim => "ipaddressclaims.ipam.cluster.x-k8s.io",
            Self::CapiAddress => "ipaddresses.ipam.cluster.x-k8s.io",
            Self::Secret => "secrets",
            Self::Cluster => "clusters.cluster.x-k8s.io",
            Self::CapiMachine => "machines.cluster.x-k8s.io",
            Self::MachineSet => "machinesets.cluster.x-k8s.io",
            Self::Node => "nodes",
            Self::Event => "events",
            Self::Other => "",
        }
    }

    fn of(realm: Realm, group: &str, resource: &str) -> Self {
        match (realm, group, resource) {
            (Realm::Workload, "", "nodes") => Self::Node,
            (Realm::Workload, ..) => Self::Other,
            (_, HOST_GROUP, "baremetalhosts") => Self::Host,
            (_, INFRA_GROUP, "metal3machines") => Self::Machine,
            (_, INFRA_GROUP, "metal3clusters") => Self::Metal3Cluster,
            (_, INFRA_GROUP, "metal3datas") => Self::Data,
            (_, INFRA_GROUP, "metal3dataclaims") => Self::DataClaim,
            (_, INFRA_GROUP, "metal3datatemplates") => Self::DataTemplate,
            (_, INFRA_GROUP, "metal3machinetemplates") => Self::MachineTemplate,
            (_, INFRA_GROUP, "metal3remediations") => Self::Remediation,
            (_, IPAM_GROUP, "ippools") => Self::Pool,
            (_, IPAM_GROUP, "ipclaims") => Self::Claim,
            (_, IPAM_GROUP, "ipaddresses") => Self::Address,
            (_, CAPI_IPAM_GROUP, "ipaddressclaims") => Self::CapiClaim,
            (_, CAPI_IPAM_GROUP, "ipaddresses") => Self::CapiAddress,
            (_, "", "secrets") => Self::Secret,
            (_, "" | "events.k8s.io", "events") => Self::Event,
            (_, CAPI_GROUP, "clusters") => Self::Cluster,
            (_, CAPI_GROUP, "machines") => Self::CapiMachine,
            (_, CAPI_GROUP, "machinesets") => Self::MachineSet,
            _ => Self::Other,
        }
    }
}

/// Who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Infra,
    Ipam,
    /// A user, the host operator, Cluster API, the server's own controllers.
    Other,
}

impl Who {
    fn of(realm: Realm, user: &str, process: u32) -> Self {
        const INFRA: &str = "system:serviceaccount:capm3-system:capm3-manager";
        const IPAM: &str = "system:serviceaccount:metal3-ipam-system:ipam-manager";
        match (realm, user) {
            (Realm::Management, INFRA) => Self::Infra,
            (Realm::Management, IPAM) => Self::Ipam,
            // There a manager comes with a kubeconfig's rights: only its process tells it from a user.
            (Realm::Workload, _) if process != 0 => Self::Infra,
            _ => Self::Other,
        }
    }
}

/// One accepted write.
#[derive(Clone, Debug)]
pub(super) struct Seen<'a> {
    pub what: What,
    pub who: Who,
    /// Which of its replicas.
    pub process: u32,
    pub verb: Verb,
    pub fence: Fence,
    pub on_status: bool,
    /// `namespace/name`, or the name.
    pub path: String,
    /// The plural, for kinds without a name here.
    pub resource: &'a str,
    pub revision: u64,
    pub now: Timestamp,
    pub old: Option<&'a Arc<Value>>,
    pub new: Option<&'a Arc<Value>>,
}

impl<'a> Seen<'a> {
    pub(super) fn of(realm: Realm, now: Timestamp, change: &Change<'a>) -> Self {
        let call = change.call;
        Self {
            what: What::of(realm, &call.group, &call.resource),
            who: Who::of(realm, &call.user, call.process),
            process: call.process,
            verb: call.verb,
            fence: call.fence,
            on_status: call.subresource == "status",
            path: path(&call.namespace, &call.name),
            resource: &call.resource,
            revision: change.revision,
            now,
            old: change.old,
            new: change.new,
        }
    }

    /// The object as it was; null for one that is new.
    pub(super) fn before(&self) -> &'a Value {
        self.old.map_or(&Value::Null, |object| object)
    }

    /// The object as it is; null for one that is gone.
    pub(super) fn after(&self) -> &'a Value {
        self.new.map_or(&Value::Null, |object| object)
    }

    /// The object as it is, or was last.
    pub(super) fn object(&self) -> &'a Value {
        self.new.or(self.old).map_or(&Value::Null, |object| object)
    }

    pub(super) fn namespace(&self) -> &'a str {
        text(self.object(), &["metadata", "namespace"])
    }

    /// Where an object of this name in the same namespace is filed.
    pub(super) fn sibling(&self, name: &str) -> String {
        path(self.namespace(), name)
    }

    /// The finalizers that this write took away.
    pub(super) fn finalizers_taken(&self) -> impl Iterator<Item = &'a str> {
        let new = self.after();
        super::view::finalizers(self.before()).filter(move |name| !super::view::has_finalizer(new, name))
    }
}

/// Where an object is filed.
pub(super) fn path(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}
