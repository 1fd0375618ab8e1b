//! The CRI calls that the kubelet and kubeadm make, translated to [`Runtime`]; those nobody makes answer "unimplemented".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tonic::{Request, Response, Status};

use crate::helper;
use crate::launch::{Launched, Streams};
use crate::runtime::{Container, LAST_WORDS, Phase, Runtime, Sandbox, nanoseconds};
use crate::streaming::{self, Streaming};
use crate::v1;

type Answer<T> = Result<Response<T>, Status>;

/// The kubelet refuses runtimes that answer with a version below this.
const RUNTIME_VERSION: &str = "2.1.0";
/// As much output of a probe as the common runtimes keep.
const EXEC_OUTPUT: u64 = 16 << 20;

#[derive(Clone)]
pub(crate) struct Service {
    pub runtime: Arc<Runtime>,
    pub streaming: Arc<Streaming>,
}

impl Service {
    /// Carries `work` through even when the caller gives up: half a sandbox would never be cleaned up.
    async fn through<T: Send + 'static, F: Future<Output = anyhow::Result<T>> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Runtime>) -> F,
    ) -> Result<T, Status> {
        let task = self.runtime.tasks.spawn(work(self.runtime.clone()));
        task.await.map_err(|error| failed(error.into()))?.map_err(failed)
    }
}

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// The kubelet shows the text in the pod's status: all of it, then.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: anyhow::Error) -> Status {
    Status::unknown(format!("{error:#}"))
}

fn image_name(spec: Option<v1::ImageSpec>) -> String {
    spec.map(|spec| spec.image).unwrap_or_default()
}

fn selected(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn named(wanted: &str, actual: &str) -> bool {
    wanted.is_empty() || wanted == actual
}

impl Sandbox {
    fn state(&self) -> v1::PodSandboxState {
        if self.ready { v1::PodSandboxState::SandboxReady } else { v1::PodSandboxState::SandboxNotready }
    }

    fn summary(&self, id: &str) -> v1::PodSandbox {
        v1::PodSandbox {
            id: id.to_owned(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            ..Default::default()
        }
    }

    fn status(&self, id: &str) -> v1::PodSandboxStatus {
        let security = self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let options = security.and_then(|security| security.namespace_options.clone());
        v1::PodSandboxStatus {
            id: id.to_owned(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created,
            network: Some(v1::PodSandboxNetworkStatus { ip: self.ip.clone(), additional_ips: Vec::new() }),
            linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            ..Default::default()
        }
    }
}

impl Container {
    fn state(&self) -> v1::ContainerState {
        match self.phase {
            Phase::Created => v1::ContainerState::ContainerCreated,
            Phase::Running { .. } => v1::ContainerState::ContainerRunning,
            Phase::Exited { .. } => v1::ContainerState::ContainerExited,
        }
    }

    fn summary(&self, id: &str) -> v1::Container {
        let image = image_name(self.config.image.clone());
        v1::Container {
            id: id.to_owned(),
            pod_sandbox_id: self.sandbox.clone(),
            metadata: self.config.metadata.clone(),
            image: self.config.image.clone(),
            image_ref: image.clone(),
            image_id: image,
            state: self.state().into(),
            created_at: self.created,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }

    fn status(&self, id: &str) -> v1::ContainerStatus {
        let image = image_name(self.config.image.clone());
        let mut status = v1::ContainerStatus {
            id: id.to_owned(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created,
            image: self.config.image.clone(),
            image_ref: image.clone(),
            image_id: image,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self.log_path.display().to_string(),
            ..Default::default()
        };
        match &self.phase {
            Phase::Created => {}
            Phase::Running { started, .. } => status.started_at = *started,
            Phase::Exited { started, finished, code, message } => {
                (status.started_at, status.finished_at, status.exit_code) = (*started, *finished, *code);
                status.reason = if *code == 0 { "Completed" } else { "Error" }.to_owned();
                status.message = message.clone();
            }
        }
        status
    }
}

/// A pipe that breaks has ended.
async fn output(pipe: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) {
    if let Some(pipe) = pipe {
        let _ = pipe.take(EXEC_OUTPUT).read_to_end(bytes).await;
    }
}

fn grace(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[tonic::async_trait]
impl v1::runtime_service_server::RuntimeService for Service {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        answer(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: self.runtime.config.runtime_name.clone(),
            runtime_version: RUNTIME_VERSION.to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let condition =
            |kind: &str| v1::RuntimeCondition { r#type: kind.to_owned(), status: true, ..Default::default() };
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        let config = serde_json::json!({"sandboxImage": self.runtime.config.sandbox_image}).to_string();
        let verbose = request.into_inner().verbose;
        answer(v1::StatusResponse {
            status: Some(v1::RuntimeStatus { conditions }),
            info: verbose.then(|| ("config".to_owned(), config)).into_iter().collect(),
            runtime_handlers: vec![v1::RuntimeHandler::default()],
            ..Default::default()
        })
    }

    async fn runtime_config(&self, _: Request<v1::RuntimeConfigRequest>) -> Answer<v1::RuntimeConfigResponse> {
        let cgroup_driver = v1::CgroupDriver::Cgroupfs.into();
        answer(v1::RuntimeConfigResponse { linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver }) })
    }

    async fn update_runtime_config(
        &self,
        _: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        answer(Default::default())
    }

    async fn run_pod_sandbox(&self, request: Request<v1::RunPodSandboxRequest>) -> Answer<v1::RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap_or_default();
        let pod_sandbox_id = self.through(|runtime| async move { runtime.run_sandbox(config).await }).await?;
        answer(v1::RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.through(|runtime| async move { runtime.stop_sandbox(&id).await }).await?;
        answer(Default::default())
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.through(|runtime| async move { runtime.remove_sandbox(&id).await }).await?;
        answer(Default::default())
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let state = self.runtime.state.lock();
        let sandbox = state.sandboxes.get(&id).ok_or_else(|| Status::not_found("no such sandbox"))?;
        answer(v1::PodSandboxStatusResponse { status: Some(sandbox.status(&id)), ..Default::default() })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = self.runtime.state.lock();
        let items = state.sandboxes.iter().filter(|(id, sandbox)| {
            named(&filter.id, id)
                && filter.state.is_none_or(|wanted| wanted.state() == sandbox.state())
                && selected(&filter.label_selector, &sandbox.config.labels)
        });
        answer(v1::ListPodSandboxResponse { items: items.map(|(id, sandbox)| sandbox.summary(id)).collect() })
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let container_id = self.runtime.create_container(request.into_inner()).map_err(failed)?;
        answer(v1::CreateContainerResponse { container_id })
    }

    async fn start_container(&self, request: Request<v1::StartContainerRequest>) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        self.through(|runtime| async move { runtime.start_container(&id).await }).await?;
        answer(Default::default())
    }

    async fn stop_container(&self, request: Request<v1::StopContainerRequest>) -> Answer<v1::StopContainerResponse> {
        let v1::StopContainerRequest { container_id, timeout } = request.into_inner();
        self.through(|runtime| async move { runtime.stop_container(&container_id, grace(timeout)).await }).await?;
        answer(Default::default())
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.through(|runtime| async move { runtime.remove_container(&id).await }).await?;
        answer(Default::default())
    }

    async fn list_containers(&self, request: Request<v1::ListContainersRequest>) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = self.runtime.state.lock();
        let containers = state.containers.iter().filter(|(id, container)| {
            named(&filter.id, id)
                && named(&filter.pod_sandbox_id, &container.sandbox)
                && filter.state.is_none_or(|wanted| wanted.state() == container.state())
                && selected(&filter.label_selector, &container.config.labels)
        });
        let containers = containers.map(|(id, container)| container.summary(id)).collect();
        answer(v1::ListContainersResponse { containers })
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let state = self.runtime.state.lock();
        let container = state.containers.get(&id).ok_or_else(|| Status::not_found("no such container"))?;
        answer(v1::ContainerStatusResponse { status: Some(container.status(&id)), ..Default::default() })
    }

    async fn update_container_resources(
        &self,
        _: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        answer(Default::default())
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        self.runtime.reopen_log(&request.into_inner().container_id).map_err(failed)?;
        answer(Default::default())
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        let v1::ExecSyncRequest { container_id, cmd, timeout } = request.into_inner();
        let launched = self.runtime.exec(&container_id, cmd, false, Streams::captured()).await;
        let Launched { mut child, .. } = launched.map_err(failed)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let done = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            let mut read = Box::pin(async { tokio::join!(output(out, &mut stdout), output(err, &mut stderr)) });
            let status = tokio::select! {
                status = child.wait() => {
                    let _ = tokio::time::timeout(LAST_WORDS, &mut read).await; // what was read until then counts
                    status
                }
                _ = &mut read => child.wait().await,
            };
            drop(read);
            anyhow::Ok((status?, stdout, stderr))
        };
        let limit = if timeout > 0 { grace(timeout) } else { Duration::MAX };
        let done = tokio::time::timeout(limit, done).await;
        let done = done.map_err(|_| Status::deadline_exceeded(format!("not done within {timeout} s")))?;
        let (status, stdout, stderr) = done.map_err(failed)?;
        answer(v1::ExecSyncResponse { stdout, stderr, exit_code: helper::code(status).into() })
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let request = request.into_inner();
        let exec = streaming::Exec {
            container: request.container_id,
            command: request.cmd,
            terminal: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        let url = self.streaming.announce(streaming::Request::Exec(exec)).map_err(failed)?;
        answer(v1::ExecResponse { url })
    }

    async fn port_forward(&self, request: Request<v1::PortForwardRequest>) -> Answer<v1::PortForwardResponse> {
        let sandbox = request.into_inner().pod_sandbox_id;
        let url = self.streaming.announce(streaming::Request::PortForward(sandbox)).map_err(failed)?;
        answer(v1::PortForwardResponse { url })
    }

    // No cgroups, no numbers: an empty list is true.
    async fn list_container_stats(
        &self,
        _: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        answer(Default::default())
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        answer(Default::default())
    }
}

#[tonic::async_trait]
impl v1::image_service_server::ImageService for Service {
    /// Every image of the table is on the node.
    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Answer<v1::ImageStatusResponse> {
        let name = image_name(request.into_inner().image);
        let table = self.runtime.images();
        let image = table.pull(&name).ok().map(|row| v1::Image {
            id: name.clone(),
            repo_tags: vec![name.clone()],
            size: 1,
            uid: Some(v1::Int64Value { value: row.user.into() }),
            spec: Some(v1::ImageSpec { image: name.clone(), ..Default::default() }),
            ..Default::default()
        });
        answer(v1::ImageStatusResponse { image, ..Default::default() })
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let image_ref = image_name(request.into_inner().image);
        match self.runtime.images().pull(&image_ref) {
            Ok(_) => answer(v1::PullImageResponse { image_ref }),
            Err(why) => Err(Status::not_found(why.message(&image_ref))),
        }
    }

    /// The table holds patterns, not names: there is nothing to list, and nothing for the kubelet to collect.
    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        answer(Default::default())
    }

    async fn remove_image(&self, _: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        answer(Default::default())
    }

    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        let usage = v1::FilesystemUsage {
            timestamp: nanoseconds(),
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: "/".to_owned() }),
            used_bytes: Some(v1::UInt64Value { value: 0 }),
            inodes_used: Some(v1::UInt64Value { value: 0 }),
        };
        answer(v1::ImageFsInfoResponse { image_filesystems: vec![usage.clone()], container_filesystems: vec![usage] })
    }
}
