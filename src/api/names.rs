//! Every name that other programs know us by: groups, finalizers, labels, annotations, condition types and reasons.
//!
//! They are a contract: a cluster that ran the Go providers carries them on its objects (cluster-and-machine 2 and 8,
//! data-rendering 0, ipam 0, api-types 6).

pub const INFRA_GROUP: &str = "infrastructure.cluster.x-k8s.io";
pub const IPAM_GROUP: &str = "ipam.metal3.io";
pub const HOST_GROUP: &str = "metal3.io";
pub const CAPI_GROUP: &str = "cluster.x-k8s.io";
pub const CAPI_BOOTSTRAP_GROUP: &str = "bootstrap.cluster.x-k8s.io";
pub const CAPI_CONTROL_PLANE_GROUP: &str = "controlplane.cluster.x-k8s.io";
pub const CAPI_IPAM_GROUP: &str = "ipam.cluster.x-k8s.io";

pub const INFRA_VERSION: &str = "v1beta2";
pub const INFRA_API_VERSION: &str = "infrastructure.cluster.x-k8s.io/v1beta2";
pub const INFRA_API_VERSION_V1BETA1: &str = "infrastructure.cluster.x-k8s.io/v1beta1";
pub const IPAM_API_VERSION: &str = "ipam.metal3.io/v1alpha1";
pub const HOST_API_VERSION: &str = "metal3.io/v1alpha1";
pub const CAPI_API_VERSION: &str = "cluster.x-k8s.io/v1beta2";
pub const CAPI_IPAM_API_VERSION: &str = "ipam.cluster.x-k8s.io/v1beta2";

pub mod finalizer {
    pub const CLUSTER: &str = "metal3cluster.infrastructure.cluster.x-k8s.io";
    /// On Metal3Machines, and on the Metal3DataClaims made for them.
    pub const MACHINE: &str = "metal3machine.infrastructure.cluster.x-k8s.io";
    /// On Metal3Data, and on every IPClaim and IPAddressClaim made for it.
    pub const DATA: &str = "metal3data.infrastructure.cluster.x-k8s.io";
    /// On Metal3DataClaims, and on the Metal3Data that answers them.
    pub const DATA_CLAIM: &str = "metal3dataclaim.infrastructure.cluster.x-k8s.io";
    pub const DATA_TEMPLATE: &str = "metal3datatemplate.infrastructure.cluster.x-k8s.io";
    pub const REMEDIATION: &str = "metal3remediation.infrastructure.cluster.x-k8s.io";
    pub const IP_POOL: &str = "ippool.ipam.metal3.io";
    pub const IP_CLAIM: &str = "ipclaim.ipam.metal3.io";
    pub const IP_ADDRESS: &str = "ipaddress.ipam.metal3.io";
    /// On the claims of Cluster API that our pools serve.
    pub const CAPI_IP_CLAIM: &str = "ipam.metal3.io/ipaddressclaim";
    /// On the addresses of Cluster API that our pools give out.
    pub const CAPI_IP_ADDRESS: &str = "ipam.metal3.io/ipaddress";
}

pub mod label {
    pub const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
    /// Presence, with any value, makes a Machine a control plane machine.
    pub const CONTROL_PLANE: &str = "cluster.x-k8s.io/control-plane";
    pub const CONTROL_PLANE_NAME: &str = "cluster.x-k8s.io/control-plane-name";
    pub const DEPLOYMENT_NAME: &str = "cluster.x-k8s.io/deployment-name";
    pub const WATCH_FILTER: &str = "cluster.x-k8s.io/watch-filter";
    pub const PROVIDER: &str = "cluster.x-k8s.io/provider";
    /// On a host: `cp-<control plane>` or `md-<MachineDeployment>` that it is kept for.
    pub const NODE_REUSE: &str = "infrastructure.cluster.x-k8s.io/node-reuse";
    /// On a host: the failure domain it stands in.
    pub const FAILURE_DOMAIN: &str = "infrastructure.cluster.x-k8s.io/failure-domain";
    pub const DATA_NAME: &str = "infrastructure.cluster.x-k8s.io/data-name";
    pub const POOL_NAME: &str = "infrastructure.cluster.x-k8s.io/pool-name";
    /// On a Node: the uid of its host.
    pub const HOST_UUID: &str = "metal3.io/uuid";
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    /// On a CRD: objects of the kind move with `clusterctl move` even without an owner.
    pub const MOVE: &str = "clusterctl.cluster.x-k8s.io/move";
}

/// Value of [`label::PROVIDER`] on what the infrastructure provider installs.
pub const INFRA_PROVIDER: &str = "infrastructure-metal3";
/// Value of [`label::PROVIDER`] on what the address manager installs, and on pools.
pub const IPAM_PROVIDER: &str = "ipam-metal3";

pub mod annotation {
    /// On a Metal3Machine: `<namespace>/<name>` of its host.
    pub const HOST: &str = "metal3.io/BareMetalHost";
    /// On a Metal3Machine that goes for a host which was kept for it: the value it was kept under. Ours alone.
    pub const NODE_REUSE: &str = super::label::NODE_REUSE;
    /// On a host: presence pauses the host operator.
    pub const HOST_PAUSED: &str = "baremetalhost.metal3.io/paused";
    /// Value of [`HOST_PAUSED`] when the pause is ours to lift.
    pub const HOST_PAUSED_BY_US: &str = "metal3.io/capm3";
    /// On a host: its status as JSON, from which the host operator rebuilds it after a move.
    pub const HOST_STATUS: &str = "baremetalhost.metal3.io/status";
    pub const HOST_DETACHED: &str = "baremetalhost.metal3.io/detached";
    /// On a host: it must not be chosen.
    pub const UNHEALTHY: &str = "capm3.metal3.io/unhealthy";
    /// Older spelling of [`UNHEALTHY`], same effect.
    pub const UNHEALTHY_OLD: &str = "capi.metal3.io/unhealthy";
    /// On a host that nobody holds: the uid of the machine that went for it and was deleted instead. Claims take it away.
    pub const LET_GO_BY: &str = "infrastructure.cluster.x-k8s.io/let-go-by";
    /// Presence blocks `clusterctl move`.
    pub const BLOCK_MOVE: &str = "clusterctl.cluster.x-k8s.io/block-move";
    /// On what `clusterctl move` has copied and is about to delete: the copy lives on.
    pub const DELETE_FOR_MOVE: &str = "clusterctl.cluster.x-k8s.io/delete-for-move";
    /// On a CRD whose plural Cluster API would compute differently.
    pub const SKIP_CRD_NAME_CHECK: &str = "clusterctl.cluster.x-k8s.io/skip-crd-name-preflight-check";
    pub const INJECT_CA_FROM: &str = "cert-manager.io/inject-ca-from";
    /// On a CRD: the generation for which all its objects were brought to the stored version.
    pub const MIGRATED_GENERATION: &str = "crd-migration.cluster.x-k8s.io/observed-generation";
    pub const PAUSED: &str = "cluster.x-k8s.io/paused";
    pub const MANAGED_BY: &str = "cluster.x-k8s.io/managed-by";
    /// On what the topology controller sends without meaning it to be stored.
    pub const TOPOLOGY_DRY_RUN: &str = "topology.cluster.x-k8s.io/dry-run";
    /// On a machine whose spec was changed for an update in place: whoever carries that out is at work.
    pub const UPDATE_IN_PROGRESS: &str = "in-place-updates.internal.cluster.x-k8s.io/update-in-progress";
    pub const CLONED_FROM_NAME: &str = "cluster.x-k8s.io/cloned-from-name";
    pub const CLONED_FROM_GROUP_KIND: &str = "cluster.x-k8s.io/cloned-from-groupkind";
    /// Value of [`CLONED_FROM_GROUP_KIND`] on machines that come from our templates.
    pub const CLONED_FROM_MACHINE_TEMPLATE: &str = "Metal3MachineTemplate.infrastructure.cluster.x-k8s.io";
    /// What the older version cannot express, as JSON.
    pub const CONVERSION_DATA: &str = "cluster.x-k8s.io/conversion-data";
    /// On an address claim of either kind: the address it asks for.
    pub const REQUESTED_ADDRESS: &str = "ipAddress";
    /// On a Metal3DataTemplate, with the value `true`: `dnsServersFromPool` renders the name servers of its pools. Ours alone.
    pub const RENDER_DNS_SERVERS: &str = "capm3.metal3.io/render-dns-servers";
    pub const LABEL_SYNC_PREFIXES: &str = "metal3.io/metal3-label-sync-prefixes";
    pub const NODE_ANNOTATIONS_BACKUP: &str = "remediation.metal3.io/node-annotations-backup";
    pub const NODE_LABELS_BACKUP: &str = "remediation.metal3.io/node-labels-backup";
    /// Value of [`UNHEALTHY`] on the host of a machine that was given up.
    pub const UNHEALTHY_NODE: &str = "capm3/UnhealthyNode";
    /// On a Pod: the kubelet runs it from a file, and nobody can evict it.
    pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";
    /// On a host, followed by the uid of the Metal3Remediation: presence keeps it off.
    pub const REBOOT_PREFIX: &str = "reboot.metal3.io/metal3-remediation-";
}

pub mod secret {
    /// Type of the Secrets that are rendered.
    pub const TYPE: &str = "infrastructure.cluster.x-k8s.io/secret";
    pub const META_DATA_KEY: &str = "metaData";
    pub const NETWORK_DATA_KEY: &str = "networkData";
    pub const META_DATA_SUFFIX: &str = "-metadata";
    pub const NETWORK_DATA_SUFFIX: &str = "-networkdata";
    /// Key of the bootstrap data in a Machine's bootstrap Secret, and of user data and kubeconfigs.
    pub const VALUE_KEY: &str = "value";
    pub const KUBECONFIG_SUFFIX: &str = "-kubeconfig";
}

pub const PROVIDER_ID_SCHEME: &str = "metal3://";
pub const CLEANING_DISABLED: &str = "disabled";
pub const CLEANING_METADATA: &str = "metadata";
pub const FORMAT_LIVE_ISO: &str = "live-iso";
pub const STRATEGY_SEQUENTIAL: &str = "sequential";
pub const STRATEGY_RANDOM: &str = "random";
pub const REMEDIATION_REBOOT: &str = "Reboot";

/// `status.provisioning.state` of a BareMetalHost.
pub mod host_state {
    pub const NONE: &str = "";
    pub const UNMANAGED: &str = "unmanaged";
    pub const REGISTERING: &str = "registering";
    pub const MATCH_PROFILE: &str = "match profile";
    pub const INSPECTING: &str = "inspecting";
    pub const PREPARING: &str = "preparing";
    /// Old name of [`AVAILABLE`].
    pub const READY: &str = "ready";
    pub const AVAILABLE: &str = "available";
    pub const PROVISIONING: &str = "provisioning";
    pub const PROVISIONED: &str = "provisioned";
    pub const EXTERNALLY_PROVISIONED: &str = "externally provisioned";
    pub const DEPROVISIONING: &str = "deprovisioning";
    pub const POWERING_OFF_BEFORE_DELETE: &str = "powering off before delete";
    pub const DELETING: &str = "deleting";
}

/// What tells the pods of a Node that it is off, and lets go of its volumes.
pub mod out_of_service {
    pub const KEY: &str = "node.kubernetes.io/out-of-service";
    pub const VALUE: &str = "nodeshutdown";
    pub const EFFECT: &str = "NoExecute";
}

/// `status.phase` of a Metal3Remediation.
pub mod remediation_phase {
    pub const RUNNING: &str = "Running";
    pub const WAITING: &str = "Waiting";
    pub const DELETING_MACHINE: &str = "Deleting machine";
    pub const FAILED: &str = "Failed";
}

/// Types of the metav1 conditions.
pub mod condition {
    pub const READY: &str = "Ready";
    pub const PAUSED: &str = "Paused";
    pub const INFRASTRUCTURE_READY: &str = "BaremetalInfrastructureReady";
    pub const ASSOCIATE_HOST: &str = "AssociateBareMetalHost";
    pub const ASSOCIATE_METADATA: &str = "AssociateMetal3MachineMetaData";
    pub const DATA_READY: &str = "Metal3DataReady";
    /// On a Machine, in both dialects: whether its owner has replaced it; False asks for that (K-88).
    pub const OWNER_REMEDIATED: &str = "OwnerRemediated";
}

/// Reasons of the metav1 conditions.
pub mod reason {
    pub const READY: &str = "Ready";
    pub const NOT_READY: &str = "NotReady";
    pub const READY_UNKNOWN: &str = "ReadyUnknown";
    pub const NOT_YET_REPORTED: &str = "NotYetReported";
    pub const PAUSED: &str = "Paused";
    pub const NOT_PAUSED: &str = "NotPaused";
    pub const DELETING: &str = "Deleting";
    pub const DELETION_FAILED: &str = "DeletionFailed";

    pub const CONTROL_PLANE_ENDPOINT_FAILED: &str = "ControlPlaneEndpointFailed";
    pub const FAILED_TO_GET_OWNER_CLUSTER: &str = "FailedToGetOwnerCluster";

    pub const ASSOCIATED: &str = "AssociateBareMetalHostSuccess";
    pub const ASSOCIATED_BY_REUSE: &str = "AssociateBareMetalHostViaNodeReuseSuccess";
    pub const ASSOCIATE_FAILED: &str = "AssociateBareMetalHostFailed";
    pub const WAITING_FOR_OWNER: &str = "WaitingForMetal3MachineOwnerRef";
    pub const WAITING_FOR_CLUSTER_INFRASTRUCTURE: &str = "WaitingForClusterInfrastructureReady";
    pub const WAITING_FOR_METAL3_CLUSTER: &str = "WaitingforMetal3Cluster";
    pub const WAITING_FOR_BOOTSTRAP_DATA: &str = "WaitingForBootstrapData";
    pub const PAUSE_ANNOTATION_SET_FAILED: &str = "BareMetalHostPauseAnnotationSetFailed";
    pub const PAUSE_ANNOTATION_REMOVE_FAILED: &str = "BareMetalHostPauseAnnotationRemoveFailed";

    pub const METADATA_ASSOCIATED: &str = "AssociateMetal3MachineMetaDataSuccess";
    pub const METADATA_ASSOCIATE_FAILED: &str = "AssociateMetal3MachineMetaDataFailed";
    pub const METADATA_DISASSOCIATE_FAILED: &str = "DisassociateM3MetaDataFailed";

    pub const SECRETS_READY: &str = "Metal3DataSecretsReady";
    pub const SECRETS_SET_EXTERNALLY: &str = "SecretsSetExternally";
    pub const WAITING_FOR_DATA: &str = "WaitingForMetal3Data";

    pub const RENDERING_FAILED: &str = "RenderingFailed";
    pub const WAITING_FOR_ADDRESSES: &str = "WaitingForIPAddresses";
    pub const WAITING_FOR_CLUSTER: &str = "WaitingForCluster";
    pub const WAITING_FOR_DATA_CLAIM: &str = "WaitingForMetal3DataClaim";
    pub const WAITING_FOR_DATA_TEMPLATE: &str = "WaitingForMetal3DataTemplate";
    pub const WAITING_FOR_HOST: &str = "WaitingForBareMetalHost";
    pub const WAITING_FOR_MACHINE: &str = "WaitingForMachine";
    pub const WAITING_FOR_METAL3_MACHINE: &str = "WaitingForMetal3Machine";
    pub const WAITING_FOR_OLD_SECRET: &str = "WaitingForOldSecret";

    /// Tokens of terminal errors; some conditions use them as reasons too.
    pub const INVALID_CONFIGURATION: &str = "InvalidConfiguration";
    pub const CREATE_ERROR: &str = "CreateError";
    pub const UPDATE_ERROR: &str = "UpdateError";
    pub const DELETE_ERROR: &str = "DeleteError";

    /// Of a Machine whose owner is to replace it.
    pub const WAITING_FOR_REMEDIATION: &str = "WaitingForRemediation";

    /// Of events about a CRD.
    pub const STORAGE_MIGRATED: &str = "StorageVersionMigrated";
    pub const STORAGE_MIGRATION_FAILED: &str = "StorageVersionMigrationFailed";

    pub const ALLOCATION_FAILED: &str = "AllocationFailed";
    pub const POOL_EXHAUSTED: &str = "PoolExhausted";
    pub const POOL_NOT_READY: &str = "PoolNotReady";
}

/// Reasons of the events that mark what a machine has come to. What is refused or does not go on is an event under the reason of the
/// condition that says so.
pub mod event {
    pub const HOST_CLAIMED: &str = "HostClaimed";
    pub const HOST_PROVISIONING: &str = "HostProvisioning";
    pub const HOST_DEPROVISIONING: &str = "HostDeprovisioning";
    pub const HOST_RELEASED: &str = "HostReleased";
    pub const HOST_PAUSED: &str = "HostPaused";
    pub const HOST_RESUMED: &str = "HostResumed";
    pub const NODE_FOUND: &str = "NodeFound";
    pub const PROVISIONED: &str = "Provisioned";
}

/// Types, reasons and severities of the conditions in the v1beta1 dialect; the spelling is theirs.
pub mod v1beta1 {
    pub const READY: &str = "Ready";
    pub const INFRASTRUCTURE_READY: &str = "BaremetalInfrastructureReady";
    pub const ASSOCIATE_HOST: &str = "AssociateBMH";
    pub const NODE_READY: &str = "KubernetesNodeReady";
    pub const DATA_READY: &str = "Metal3DataReady";

    pub const ERROR: &str = "Error";
    pub const WARNING: &str = "Warning";
    pub const INFO: &str = "Info";

    pub const CONTROL_PLANE_ENDPOINT_FAILED: &str = "ControlPlaneEndpointFailed";
    pub const INTERNAL_FAILURE: &str = "InternalFailureOccured";
    pub const WAITING_FOR_CLUSTER_INFRASTRUCTURE: &str = "WaitingForClusterInfrastructure";
    pub const WAITING_FOR_BOOTSTRAP: &str = "WaitingForBootstrapReady";
    pub const ASSOCIATE_FAILED: &str = "AssociateBMHFailed";
    pub const WAITING_FOR_OWNER: &str = "WaitingForM3MachineOwnerRef";
    pub const MACHINE_PAUSED: &str = "Metal3MachinePaused";
    pub const WAITING_FOR_METAL3_CLUSTER: &str = "WaitingforMetal3Cluster";
    pub const PAUSE_ANNOTATION_REMOVE_FAILED: &str = "PauseAnnotationRemoveFailed";
    pub const PAUSE_ANNOTATION_SET_FAILED: &str = "PauseAnnotationSetFailedReason";
    pub const MISSING_HOST: &str = "MissingBMH";
    pub const SETTING_PROVIDER_ID_FAILED: &str = "SettingProviderIDOnNodeFailed";
    pub const WAITING_FOR_DATA: &str = "WaitingForMetal3Data";
    pub const METADATA_ASSOCIATE_FAILED: &str = "AssociateM3MetaDataFailed";
    pub const METADATA_DISASSOCIATE_FAILED: &str = "DisassociateM3MetaDataFailed";
    pub const DELETING: &str = "Deleting";
    pub const DELETION_FAILED: &str = "DeletionFailed";
}
