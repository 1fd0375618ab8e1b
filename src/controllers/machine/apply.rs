//! The writes of a machine's plan. Which, when and with what content has been decided; here it is only sent.

use capm3_api::foreign::{BareMetalHost, SecretMeta};
use capm3_api::infra::v1beta2::{Metal3DataClaim, Metal3Machine};
use capm3_api::names::{event, label};
use capm3_core::machine::{Action, Purpose, Version};
use capm3_core::planted::{Defect, sown};
use capm3_remote::Outcome;
use capm3_runtime::{Key, MetadataPatch, Preconditions, WriteError, key_of};
use kube::core::ApiResource;
use serde_json::json;

use super::Machines;
use super::gather::World;

impl Machines {
    pub(super) async fn apply(&self, world: &World, action: &Action) -> Result<(), WriteError> {
        match self.send(world, action).await {
            Err(WriteError::Unknown(_)) if sown(Defect::LostAnswerIsSuccess) => Ok(()),
            sent => sent,
        }
    }

    async fn send(&self, world: &World, action: &Action) -> Result<(), WriteError> {
        let key = &world.key;
        match action {
            Action::Machine { purpose: _, patch } => {
                let only_if = Preconditions::unchanged(&*world.machine);
                self.writer.patch::<Metal3Machine>(key, patch.clone(), &only_if).await.map(drop)
            }
            Action::Host { purpose, name, version, patch } => {
                let host = key.sibling(name);
                let blind = sown(Defect::ClaimUnconditional) && matches!(purpose, Purpose::Claim { .. });
                let only_if = if blind { Preconditions::none() } else { unchanged(version) };
                self.writer.patch::<BareMetalHost>(&host, patch.clone(), &only_if).await.map(drop)
            }
            Action::LabelCredentials { name, cluster, version } => {
                let patch = json!({ "metadata": { "labels": { label::CLUSTER_NAME: cluster } } });
                let only_if = Preconditions { uid: None, resource_version: Some(version.clone()) };
                self.writer.patch::<SecretMeta>(&key.sibling(name), patch, &only_if).await.map(drop)
            }
            Action::UnlabelCredentials { name, cluster, version } => {
                let label = format!("/metadata/labels/{}", label::CLUSTER_NAME.replace('/', "~1"));
                let patch = MetadataPatch::Json(json!([
                    { "op": "test", "path": "/metadata/resourceVersion", "value": version },
                    { "op": "test", "path": label, "value": cluster },
                    { "op": "remove", "path": label },
                ]));
                let secrets = ApiResource::erase::<SecretMeta>(&());
                match self.writer.patch_metadata(&secrets, None, &key.sibling(name), &patch).await {
                    // No such Secret: there is nothing to take away.
                    Ok(_) | Err(WriteError::NotFound(_)) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Action::CreateClaim(claim) => self.writer.create::<Metal3DataClaim>(claim).await.map(drop),
            Action::DropClaim { version, finalizers } => self.drop_claim(key, version, finalizers).await,
            Action::DeleteClaim { version } => {
                let only_if = Preconditions { uid: version.uid.clone(), resource_version: None };
                match self.writer.delete::<Metal3DataClaim>(key, &only_if).await {
                    Err(WriteError::NotFound(_)) => Ok(()), // without finalizers it went by itself
                    result => result,
                }
            }
            Action::NameNode { node, provider_id } => self.name_node(world, node, provider_id).await,
        }
    }

    pub(super) async fn drop_claim(
        &self,
        claim: &Key,
        version: &Version,
        finalizers: &[String],
    ) -> Result<(), WriteError> {
        let patch = json!({ "metadata": { "finalizers": finalizers } });
        self.writer.patch::<Metal3DataClaim>(claim, patch, &unchanged(version)).await.map(drop)
    }

    async fn name_node(&self, world: &World, name: &str, provider_id: &str) -> Result<(), WriteError> {
        let cluster = world.cluster.as_deref().map(key_of).unwrap_or_default();
        // A connection or a Node that has gone meanwhile is found out by the next look.
        let Outcome::Connected(workload) = self.workloads.connect(&cluster) else { return Ok(()) };
        let Some(node) = workload.node(name) else { return Ok(()) };
        workload.set_provider_id(&node, provider_id).await.map(drop)
    }
}

fn unchanged(version: &Version) -> Preconditions {
    Preconditions { resource_version: version.resource_version.clone(), uid: version.uid.clone() }
}

/// The write has met somebody else's, or nobody knows whether it happened: the object has to be looked at.
pub(super) fn is_race(error: &WriteError, action: &Action) -> bool {
    match error {
        WriteError::Conflict(_) | WriteError::NotFound(_) | WriteError::Unknown(_) => true,
        WriteError::AlreadyExists(_) => matches!(action, Action::CreateClaim(_)),
        // What it tests before it takes the label away: another version, or no such label.
        WriteError::Invalid(_) => matches!(action, Action::UnlabelCredentials { .. }),
        WriteError::Forbidden(_) | WriteError::Failed(_) | WriteError::Encode(_) => false,
    }
}

pub(super) fn purpose(action: &Action) -> &'static str {
    match action {
        Action::Machine { purpose, .. } | Action::Host { purpose, .. } => match purpose {
            Purpose::Intend => "cannot note which host the machine goes for",
            Purpose::Claim { .. } => "cannot claim the host",
            Purpose::Provision => "cannot give the host what it is to run",
            Purpose::BlockMove | Purpose::HoldMove => "cannot block moves of the host",
            Purpose::PauseHost => "cannot pause the host",
            Purpose::UnblockMove => "cannot let the host move",
            Purpose::UnpauseHost => "cannot lift the pause of the host",
            Purpose::Identify => "cannot set the machine's providerID",
            Purpose::Clear => "cannot clear the host",
            Purpose::Fence => "cannot keep a late claim off the host",
            Purpose::Release { .. } => "cannot release the host",
            Purpose::Forget => "cannot remove the finalizer",
        },
        Action::LabelCredentials { .. } => "cannot label the host's credentials Secret",
        Action::UnlabelCredentials { .. } => "cannot take the label off the host's credentials Secret",
        Action::CreateClaim(_) => "cannot create the data claim",
        Action::DropClaim { .. } => "cannot take the finalizer off the data claim",
        Action::DeleteClaim { .. } => "cannot delete the data claim",
        Action::NameNode { .. } => "cannot set the Node's providerID",
    }
}

/// What people get to see of a write that went well.
pub(super) fn event(world: &World, action: &Action) -> Option<(&'static str, String)> {
    let namespace = &world.key.namespace;
    match action {
        Action::Host { purpose, name, patch, .. } => {
            let host = format!("BareMetalHost {namespace}/{name}");
            match purpose {
                Purpose::Claim { reused: false } => Some((event::HOST_CLAIMED, format!("claimed {host}"))),
                Purpose::Claim { reused: true } => {
                    Some((event::HOST_CLAIMED, format!("claimed {host}, kept for reuse")))
                }
                Purpose::Provision => {
                    let deploys = ["image", "customDeploy"]
                        .iter()
                        .any(|field| patch.pointer(&format!("/spec/{field}")).is_some());
                    deploys.then(|| (event::HOST_PROVISIONING, format!("gave image and data to {host}")))
                }
                Purpose::Clear => Some((event::HOST_DEPROVISIONING, format!("took image and data off {host}"))),
                Purpose::Release { reserved: false } => Some((event::HOST_RELEASED, format!("released {host}"))),
                Purpose::Release { reserved: true } => Some((event::HOST_RELEASED, format!("keeps {host} for reuse"))),
                Purpose::PauseHost => Some((event::HOST_PAUSED, format!("paused {host}"))),
                Purpose::UnpauseHost => Some((event::HOST_RESUMED, format!("lifted the pause of {host}"))),
                Purpose::Intend
                | Purpose::BlockMove
                | Purpose::HoldMove
                | Purpose::UnblockMove
                | Purpose::Fence
                | Purpose::Identify
                | Purpose::Forget => None,
            }
        }
        Action::NameNode { node, provider_id } => {
            Some((event::NODE_FOUND, format!("Node {node} is this machine, {provider_id}")))
        }
        Action::Machine { .. }
        | Action::LabelCredentials { .. }
        | Action::UnlabelCredentials { .. }
        | Action::CreateClaim(_)
        | Action::DropClaim { .. }
        | Action::DeleteClaim { .. } => None,
    }
}
