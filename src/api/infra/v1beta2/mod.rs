//! The stored version of the nine infrastructure kinds (api-types 4).

mod cluster;
mod data;
mod data_template;
mod machine;
mod remediation;

pub use cluster::*;
pub use data::*;
pub use data_template::*;
pub use machine::*;
pub use remediation::*;

use crate::kind::kind;
use crate::names::INFRA_GROUP;

kind! {
    /// The infrastructure of one workload cluster.
    Metal3Cluster, "metal3clusters", INFRA_GROUP, "v1beta2", spec: Metal3ClusterSpec, status: Metal3ClusterStatus
}
kind! {
    /// Template of the Metal3Clusters that a ClusterClass stamps out.
    Metal3ClusterTemplate, "metal3clustertemplates", INFRA_GROUP, "v1beta2", spec: Metal3ClusterTemplateSpec
}
kind! {
    /// One machine of a workload cluster, running on a claimed host.
    Metal3Machine, "metal3machines", INFRA_GROUP, "v1beta2", spec: Metal3MachineSpec, status: Metal3MachineStatus
}
kind! {
    /// Template of Metal3Machines.
    Metal3MachineTemplate, "metal3machinetemplates", INFRA_GROUP, "v1beta2", spec: Metal3MachineTemplateSpec, status: Metal3MachineTemplateStatus
}
kind! {
    /// Recipe for the metadata and network data of machines.
    Metal3DataTemplate, "metal3datatemplates", INFRA_GROUP, "v1beta2", spec: Metal3DataTemplateSpec, status: Metal3DataTemplateStatus
}
kind! {
    /// A machine's request for one rendering of a data template.
    Metal3DataClaim, "metal3dataclaims", INFRA_GROUP, "v1beta2", spec: Metal3DataClaimSpec, status: Metal3DataClaimStatus
}
kind! {
    /// One rendering of a data template.
    Metal3Data, "metal3datas", INFRA_GROUP, "v1beta2", spec: Metal3DataSpec, status: Metal3DataStatus
}
kind! {
    /// One attempt to bring a machine back to health.
    Metal3Remediation, "metal3remediations", INFRA_GROUP, "v1beta2", spec: Metal3RemediationSpec, status: Metal3RemediationStatus
}
kind! {
    /// Template of Metal3Remediations.
    Metal3RemediationTemplate, "metal3remediationtemplates", INFRA_GROUP, "v1beta2", spec: Metal3RemediationTemplateSpec, status: Metal3RemediationTemplateStatus
}
