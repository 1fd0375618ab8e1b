//! The client of the management cluster: where its configuration comes from, and manners towards the API server.
//!
//! Requests in flight are bounded (a watch counts only until its first byte), a 429 is answered by waiting as long as the server
//! says, and every answer is counted. Longer retries belong to the queue, so kube's own are off.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Mutex, Semaphore};
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::metrics::Metrics;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);
const THROTTLED_TRIES: u32 = 3;

#[derive(Clone)]
pub struct ClientOptions {
    pub user_agent: String,
    pub in_flight: usize,
    pub metrics: Metrics,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { user_agent: user_agent("capm3"), in_flight: 64, metrics: Metrics::new() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot read kubeconfig {path}")]
    Read { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error("cannot use the kubeconfig")]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    #[error("neither a kubeconfig nor a service account is at hand")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    #[error("cannot build the client")]
    Client(#[source] Box<kube::Error>),
    #[error("user agent is not a header value")]
    UserAgent(#[source] header::InvalidHeaderValue),
}

/// `name/version (os/arch)`, as access logs expect it.
pub fn user_agent(name: &str) -> String {
    format!("{name}/v{} ({}/{})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH)
}

/// Connects to the cluster of the given kubeconfig, else of `KUBECONFIG`, of the pod's service account, of the home directory.
pub async fn connect(kubeconfig: Option<PathBuf>, options: &ClientOptions) -> Result<Client, ConnectError> {
    let from_files = |source| ConnectError::Kubeconfig(Box::new(source));
    let defaults = KubeConfigOptions::default();
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let config = if let Some(path) = kubeconfig {
        let kubeconfig =
            Kubeconfig::read_from(&path).map_err(|source| ConnectError::Read { path, source: Box::new(source) })?;
        Config::from_custom_kubeconfig(kubeconfig, &defaults).await.map_err(from_files)?
    } else if set("KUBECONFIG") {
        Config::from_kubeconfig(&defaults).await.map_err(from_files)?
    } else if set("KUBERNETES_SERVICE_HOST") {
        Config::incluster().map_err(|source| ConnectError::InCluster(Box::new(source)))?
    } else {
        Config::from_kubeconfig(&defaults).await.map_err(from_files)?
    };
    client_of(config, options)
}

/// A client with the manners of this module.
pub fn client_of(mut config: Config, options: &ClientOptions) -> Result<Client, ConnectError> {
    let agent = HeaderValue::from_str(&options.user_agent).map_err(ConnectError::UserAgent)?;
    config.headers.push((header::USER_AGENT, agent));
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let manners =
        Manners { permits: Arc::new(Semaphore::new(options.in_flight)), metrics: options.metrics.clone(), host };
    let builder = ClientBuilder::try_from(config).map_err(|source| ConnectError::Client(Box::new(source)))?;
    Ok(builder.with_layer(&manners).build())
}

#[derive(Clone)]
struct Manners {
    permits: Arc<Semaphore>,
    metrics: Metrics,
    host: String,
}

impl<S> Layer<S> for Manners {
    type Service = Polite<S>;

    fn layer(&self, inner: S) -> Polite<S> {
        Polite { inner: Arc::new(Mutex::new(inner)), manners: Arc::new(self.clone()) }
    }
}

/// The inner service is locked while a request is handed over, not while it is under way.
struct Polite<S> {
    inner: Arc<Mutex<S>>,
    manners: Arc<Manners>,
}

impl<S, B> Service<Request<Body>> for Polite<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inner, manners) = (self.inner.clone(), self.manners.clone());
        async move {
            let _permit = manners.permits.acquire().await?;
            let method = request.method().clone();
            let (mut again, mut request) = (copy(&request), request);
            for tries in 1.. {
                let answer = {
                    let mut inner = inner.lock().await;
                    inner.ready().await.map_err(Into::into)?.call(request)
                };
                let answer = answer.map_err(Into::into).await;
                manners.count(method.as_str(), answer.as_ref().map(Response::status).ok());
                let pause = answer.as_ref().ok().and_then(retry_after);
                match (pause, again.take()) {
                    (Some(pause), Some(copied)) if tries < THROTTLED_TRIES => {
                        tokio::time::sleep(pause).await;
                        again = copy(&copied);
                        request = copied;
                    }
                    _ => return answer,
                }
            }
            Err("throttled".into())
        }
        .boxed()
    }
}

impl Manners {
    fn count(&self, method: &str, status: Option<StatusCode>) {
        let code = status.map_or_else(|| "<error>".to_owned(), |status| status.as_u16().to_string());
        let help = "Number of HTTP requests, partitioned by status code, method, and host.";
        let labels = [("code", code.as_str()), ("host", self.host.as_str()), ("method", method)];
        self.metrics.counter("rest_client_requests_total", help, &labels).inc();
    }
}

/// How long a throttling server asks to wait; a request it turned away was not carried out and may be sent again.
fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    if answer.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copied = Request::new(request.body().try_clone()?);
    *copied.method_mut() = request.method().clone();
    *copied.uri_mut() = request.uri().clone();
    *copied.headers_mut() = request.headers().clone();
    *copied.extensions_mut() = request.extensions().clone();
    Some(copied)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tower::service_fn;

    use super::*;

    async fn play(codes: &'static [u16]) -> (u16, Duration, String) {
        let metrics = Metrics::new();
        let manners = Manners { permits: Arc::new(Semaphore::new(1)), metrics: metrics.clone(), host: "h".into() };
        let left = Arc::new(parking_lot::Mutex::new(codes.iter()));
        let service = service_fn(move |_: Request<Body>| {
            let code = *left.lock().next().unwrap();
            let answer = Response::builder().status(code).header(header::RETRY_AFTER, "2").body(Body::empty());
            async move { answer.map_err(BoxError::from) }
        });
        let start = Instant::now();
        let mut polite = manners.layer(service);
        let answer = polite.call(Request::new(Body::from(b"x".to_vec()))).await.unwrap();
        (answer.status().as_u16(), start.elapsed(), metrics.render())
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_request_waits_as_long_as_it_is_told() {
        let (code, took, page) = play(&[429, 200]).await;
        assert_eq!((code, took), (200, Duration::from_secs(2)));
        assert!(page.contains("rest_client_requests_total{code=\"429\",host=\"h\",method=\"GET\"} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_is_handed_on_in_the_end() {
        let (code, took, _) = play(&[429, 429, 429]).await;
        assert_eq!((code, took), (429, Duration::from_secs(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_else_is_retried_here() {
        assert_eq!(play(&[503]).await.0, 503);
        assert_eq!(play(&[500]).await.0, 500);
    }
}
