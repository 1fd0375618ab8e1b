//! The servers of a manager: webhooks over TLS, health over plain HTTP, diagnostics over either.
//!
//! Whatever the other side does or leaves undone has a deadline, and connections have a number, so that strangers cost a
//! bounded amount of each; a stop lets requests finish. Metrics are shown over TLS to who may read them
//! (TokenReview, then SubjectAccessReview for the path), or in plain where the flag says so.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use crate::controller::chain;
use crate::metrics::{Gauge, Metrics};
use crate::tasks::Tasks;
use crate::tls::Certificate;
use crate::write::{WriteError, Writer};

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// What one server takes on, and how long it waits for the other side.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel until one ends.
    pub connections: usize,
    pub handshake: Duration,
    /// From the handshake to the first request's headers.
    pub first_request: Duration,
    /// From an answer to the next request's headers.
    pub next_request: Duration,
    /// From a request's headers to its answer; reading its body counts.
    pub answer: Duration,
    /// For the other side to take something of an answer.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(10),
            // Longer than the 90 seconds for which Go's clients keep an idle connection: they should be the ones to close it.
            next_request: Duration::from_secs(100),
            // The longest that an API server waits for a webhook.
            answer: Duration::from_secs(30),
            write: Duration::from_secs(30),
        }
    }
}

/// Listens where a Go program would: `:9440` is every address, of both families where there are two.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    if let Some(port) = address.strip_prefix(':') {
        let port: u16 = port.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not a port"))?;
        return match TcpListener::bind(("::", port)).await {
            Ok(listener) => Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
            Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
        };
    }
    TcpListener::bind(address).await
}

/// Serves over plain HTTP until the tasks stop.
pub fn spawn_http(listener: TcpListener, router: Router, limits: Limits, tasks: &Tasks) {
    spawn(listener, router, limits, tasks, |stream| async move { Some(stream) });
}

/// Serves over TLS with whatever certificate is loaded at the time of a connection; without one, connections are dropped.
pub fn spawn_tls(listener: TcpListener, router: Router, certificate: Certificate, limits: Limits, tasks: &Tasks) {
    spawn(listener, router, limits, tasks, move |stream| {
        let config = certificate.current();
        async move {
            let handshake = TlsAcceptor::from(config?).accept(stream);
            match timeout(limits.handshake, handshake).await {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "TLS handshake failed");
                    None
                }
                Err(_) => None,
            }
        }
    });
}

fn spawn<S, F>(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tasks: &Tasks,
    prepare: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Option<S>> + Send + 'static,
{
    let (stop, connections) = (tasks.stopping(), tasks.clone());
    let free = Arc::new(Semaphore::new(limits.connections));
    tasks.spawn("server", async move {
        loop {
            let next = async {
                let slot = free.clone().acquire_owned().await;
                listener.accept().await.map(|(stream, _)| (stream, slot))
            };
            let (stream, slot) = match stop.run_until_cancelled(next).await {
                None => return,
                Some(Ok(accepted)) => accepted,
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await; // out of file descriptors, most likely
                    continue;
                }
            };
            let (prepared, router, stop) = (prepare(stream), router.clone(), stop.clone());
            connections.spawn_finite(async move {
                let _slot = slot;
                if let Some(Some(stream)) = stop.run_until_cancelled(prepared).await {
                    converse(stream, router, limits, stop).await;
                }
            });
        }
    });
}

/// One connection, from its first request to its last.
async fn converse<S>(stream: S, router: Router, limits: Limits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write));
    let (router, asked) = (TowerToHyperService::new(router), AtomicBool::new(false));
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        let answer = router.call(request);
        async move {
            let late = || Ok((StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response());
            timeout(limits.answer, answer).await.unwrap_or_else(|_| late())
        }
    });
    let silence = async {
        tokio::time::sleep(limits.first_request).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.next_request);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(Box::pin(stream)), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = silence => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Named checks behind `/healthz` and `/readyz`, each alone under its name.
#[derive(Clone, Default)]
pub struct Health {
    live: BTreeMap<&'static str, Check>,
    ready: BTreeMap<&'static str, Check>,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// A check that counts for both questions.
    pub fn check<F>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || check().boxed());
        self.live.insert(name, check.clone());
        self.ready.insert(name, check);
        self
    }

    pub fn router(self) -> Router {
        let page = |path: &'static str, checks: BTreeMap<&'static str, Check>| {
            let checks = Arc::new(checks);
            Router::new()
                .route(path, get(all).with_state(checks.clone()))
                .route(&format!("{path}/{{name}}"), get(one).with_state(checks))
        };
        page("/healthz", self.live).merge(page("/readyz", self.ready))
    }
}

async fn all(State(checks): State<Arc<BTreeMap<&'static str, Check>>>) -> Response {
    let mut lines = String::new();
    let mut failed = false;
    for (name, check) in checks.iter() {
        match check().await {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: {why}\n"));
            }
        }
    }
    if failed { (StatusCode::INTERNAL_SERVER_ERROR, lines).into_response() } else { "ok".into_response() }
}

async fn one(State(checks): State<Arc<BTreeMap<&'static str, Check>>>, Path(name): Path<String>) -> Response {
    match checks.get(name.as_str()) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(check) => match check().await {
            Ok(()) => "ok".into_response(),
            Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
        },
    }
}

/// The check of P-6: a TLS connection to our own server, whoever signed its certificate.
pub async fn check_tls(address: SocketAddr) -> Result<(), String> {
    let connected = timeout(CHECK_DEADLINE, tls(address)).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    connected.map(drop)
}

async fn tls(address: SocketAddr) -> Result<TlsStream<TcpStream>, String> {
    let words = |error: &(dyn std::error::Error + 'static)| chain(error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| words(&error))?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate)).with_no_client_auth();
    let stream = TcpStream::connect(address).await.map_err(|error| words(&error))?;
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| words(&error))
}

/// The question is whether a handshake succeeds, not with whom; nothing is sent over the connection.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// `/metrics` for who may see it: everyone (plain HTTP), or bearers of a token that the API server lets read the path (P-7).
pub fn diagnostics(metrics: Metrics, guard: Option<Client>) -> Router {
    let page = Router::new().route("/metrics", get(show).with_state(metrics));
    match guard {
        None => page,
        Some(client) => page.layer(middleware::from_fn_with_state(Writer::uncached(client), authorize)),
    }
}

async fn show(State(metrics): State<Metrics>) -> Response {
    process_series(&metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

async fn authorize(State(writer): State<Writer>, request: Request, next: Next) -> Response {
    let verb = request.method().as_str().to_lowercase();
    let (token, path) = (bearer(request.headers()), request.uri().path().to_owned());
    let Some(token) = token else { return StatusCode::UNAUTHORIZED.into_response() };
    match may(&writer, token, &verb, &path).await {
        Ok(Access::Granted) => next.run(request).await,
        Ok(Access::Unknown) => StatusCode::UNAUTHORIZED.into_response(),
        Ok(Access::Denied) => StatusCode::FORBIDDEN.into_response(),
        Err(error) => {
            tracing::warn!(error = chain(&error), "cannot review a request for diagnostics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
}

enum Access {
    Granted,
    Denied,
    Unknown,
}

async fn may(writer: &Writer, token: String, verb: &str, path: &str) -> Result<Access, WriteError> {
    let spec = TokenReviewSpec { token, audiences: None };
    let review = writer.create(&TokenReview { spec, ..TokenReview::default() }).await?;
    let status = review.status.unwrap_or_default();
    let (Some(true), Some(user)) = (status.authenticated, status.user) else { return Ok(Access::Unknown) };
    let spec = SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        non_resource_attributes: Some(NonResourceAttributes {
            path: Some(path.to_owned()),
            verb: Some(verb.to_owned()),
        }),
        resource_attributes: None,
    };
    let review = writer.create(&SubjectAccessReview { spec, ..SubjectAccessReview::default() }).await?;
    let allowed = review.status.is_some_and(|status| status.allowed);
    Ok(if allowed { Access::Granted } else { Access::Denied })
}

/// Counts and times the requests of a webhook server by path, under controller-runtime's names.
pub fn observed(router: Router, metrics: Metrics) -> Router {
    if !router.has_routes() {
        return router; // axum refuses a layer over nothing
    }
    router.route_layer(middleware::from_fn_with_state(metrics, observe))
}

async fn observe(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let mut asked = Asked::new(metrics, request.uri().path().to_owned());
    let response = next.run(request).await;
    asked.code = response.status();
    response
}

/// Counts when it goes, so that a request which is given up on is counted too.
struct Asked {
    metrics: Metrics,
    path: String,
    in_flight: Gauge,
    start: Instant,
    code: StatusCode,
}

impl Asked {
    fn new(metrics: Metrics, path: String) -> Self {
        let help = "Current number of admission requests being served.";
        let in_flight = metrics.gauge("controller_runtime_webhook_requests_in_flight", help, &[("webhook", &path)]);
        in_flight.add(1.0);
        Self { metrics, path, in_flight, start: Instant::now(), code: StatusCode::REQUEST_TIMEOUT }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.in_flight.add(-1.0);
        let webhook = ("webhook", self.path.as_str());
        let help = "Histogram of the latency of processing admission requests.";
        let took = self.metrics.histogram("controller_runtime_webhook_latency_seconds", help, SECONDS, &[webhook]);
        took.observe(self.start.elapsed());
        let help = "Total number of admission requests by HTTP status code.";
        let labels = [("code", self.code.as_str()), webhook];
        self.metrics.counter("controller_runtime_webhook_requests_total", help, &labels).inc();
    }
}

/// What the kernel says about this process, when it says it.
fn process_series(metrics: &Metrics) {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let (status, limits) = (file("status"), file("limits"));
    let kib = |field: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
        line?.trim().parse::<f64>().ok()
    };
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let open = std::fs::read_dir("/proc/self/fd").map(|open| open.count() as f64);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", kib("VmRSS:").map(|kib| kib * 1024.0)),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", kib("VmSize:").map(|kib| kib * 1024.0)),
        ("process_open_fds", "Number of open file descriptors.", open.ok()),
        ("process_max_fds", "Maximum number of open file descriptors.", most.and_then(|most| most.parse().ok())),
    ] {
        if let Some(value) = value {
            metrics.gauge(name, help, &[]).set(value);
        }
    }
    // utime and stime, in hundredths of a second, counted behind the name of the program.
    let stat = file("stat");
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: Option<f64> = fields.get(11..13).and_then(|t| t.iter().map(|t| t.parse::<f64>().ok()).sum());
    if let Some(ticks) = ticks {
        let help = "Total user and system CPU time spent in seconds.";
        metrics.reading("process_cpu_seconds_total", help).set(ticks / 100.0);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::client::legacy::Client as HttpClient;
    use hyper_util::rt::TokioExecutor;
    use rustls_pki_types::pem::PemObject;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::tls::TlsPolicy;

    /// Nothing that is waited for takes so long, however slow the machine.
    const SOON: Duration = Duration::from_secs(120);

    async fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
        let client = HttpClient::builder(TokioExecutor::new()).build_http::<Empty<axum::body::Bytes>>();
        let answer = client.get(format!("http://{address}{path}").parse().unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn p_6_each_check_answers_alone_and_all_together() {
        let tasks = Tasks::new();
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health::new()
            .check("lamp", || async { Ok(()) })
            .check("webhook", || async { Err("no certificate".to_owned()) });
        spawn_http(listener, health.router(), Limits::default(), &tasks);
        assert_eq!(fetch(address, "/readyz/lamp").await, (200, "ok".into()));
        assert_eq!(fetch(address, "/healthz/webhook").await, (500, "no certificate".into()));
        assert_eq!(fetch(address, "/readyz").await, (500, "[+]lamp ok\n[-]webhook failed: no certificate\n".into()));
        assert_eq!(fetch(address, "/readyz/other").await.0, 404);
        tasks.stop();
        assert!(tasks.drained(SOON).await);
    }

    /// A request over TLS, whoever answers; the status code and the body.
    async fn ask(address: SocketAddr, path: &str, token: Option<&str>) -> (u16, String) {
        let mut stream = tls(address).await.unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        (answer[9..12].parse().unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// An API server that knows two tokens and lets the holder of one of them get `/metrics`.
    fn reviewer() -> Client {
        let review = async |request: http::Request<kube::client::Body>| {
            let asked = request.into_body().collect_bytes().await.unwrap();
            let mut review: serde_json::Value = serde_json::from_slice(&asked).unwrap();
            let spec = review["spec"].clone();
            review["status"] = match review["kind"].as_str().unwrap() {
                "TokenReview" => match spec["token"].as_str().unwrap() {
                    "known" | "stranger" => {
                        json!({"authenticated": true, "user": {"username": spec["token"], "groups": ["g"]}})
                    }
                    _ => json!({"authenticated": false}),
                },
                _ => {
                    let (path, verb) = (&spec["nonResourceAttributes"]["path"], &spec["nonResourceAttributes"]["verb"]);
                    let known = spec["user"] == "known" && spec["groups"] == json!(["g"]);
                    json!({"allowed": known && verb == "get" && (path == "/metrics" || path == "/debug/pprof/")})
                }
            };
            let answer = http::Response::builder().status(201);
            Ok::<_, tower::BoxError>(answer.body(kube::client::Body::from(review.to_string().into_bytes())).unwrap())
        };
        Client::new(tower::service_fn(review), "default")
    }

    #[tokio::test]
    async fn ap_6_metrics_are_for_who_may_get_them_unless_a_flag_says_for_everyone() {
        let tasks = Tasks::new();
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let policy = TlsPolicy::new("VersionTLS12", &[]).unwrap();
        let certificate = Certificate::self_signed(&policy, vec!["localhost".to_owned()]).unwrap();
        let page = diagnostics(Metrics::new(), Some(reviewer()));
        spawn_tls(listener, page, certificate, Limits::default(), &tasks);
        for (token, code) in [(None, 401), (Some("forged"), 401), (Some("stranger"), 403), (Some("known"), 200)] {
            let (said, page) = ask(address, "/metrics", token).await;
            assert_eq!((said, page.contains("process_resident_memory_bytes")), (code, code == 200), "{token:?}");
        }
        assert_eq!(ask(address, "/debug/pprof/", Some("known")).await.0, 404, "P-7: nothing but metrics");

        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_http(listener, diagnostics(Metrics::new(), None), Limits::default(), &tasks);
        let (code, page) = fetch(address, "/metrics").await;
        assert_eq!(code, 200);
        for family in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
            assert!(page.contains(&format!("\n{family} ")), "{family}: {page}");
        }
        assert!(page.contains("# TYPE process_cpu_seconds_total counter"), "{page}");
        tasks.stop();
        assert!(tasks.drained(SOON).await);
    }

    #[tokio::test]
    async fn p_8_webhook_requests_are_counted_under_the_names_of_dashboards() {
        let metrics = Metrics::new();
        let router = Router::new().route("/a", get(async || "ok")).route("/slow", get(std::future::pending::<()>));
        let router = observed(router, metrics.clone());
        let tasks = Tasks::new();
        let serve = async |answer| {
            let listener = listen("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            spawn_http(listener, router.clone(), Limits { answer, ..Limits::default() }, &tasks);
            address
        };
        let (address, hasty) = (serve(SOON).await, serve(Duration::from_millis(50)).await);
        assert_eq!(fetch(address, "/a").await.0, 200);
        assert_eq!(fetch(hasty, "/slow").await.0, 408);
        assert_eq!(fetch(address, "/unknown").await.0, 404);
        let page = metrics.render();
        for line in [
            "controller_runtime_webhook_requests_total{code=\"200\",webhook=\"/a\"} 1",
            "controller_runtime_webhook_requests_total{code=\"408\",webhook=\"/slow\"} 1",
            "controller_runtime_webhook_requests_in_flight{webhook=\"/a\"} 0",
            "controller_runtime_webhook_requests_in_flight{webhook=\"/slow\"} 0",
            "controller_runtime_webhook_latency_seconds_bucket{webhook=\"/a\",le=\"+Inf\"} 1",
            "controller_runtime_webhook_latency_seconds_count{webhook=\"/slow\"} 1",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
        assert!(!page.contains("/unknown"), "strangers make no series: {page}");
        tasks.stop();
        assert!(tasks.drained(SOON).await);
    }

    fn write_pair(directory: &std::path::Path) -> (String, String) {
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (key, certificate) = (signed.signing_key.serialize_pem(), signed.cert.pem());
        std::fs::write(directory.join("tls.key"), &key).unwrap();
        std::fs::write(directory.join("tls.crt"), &certificate).unwrap();
        (key, certificate)
    }

    /// Waits, with a bound, for what `look` sees to be so.
    async fn seen<T: PartialEq + std::fmt::Debug>(expected: &T, mut look: impl AsyncFnMut() -> T) {
        let mut last = look().await;
        let wait = async {
            while last != *expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
                last = look().await;
            }
        };
        if timeout(SOON, wait).await.is_err() {
            panic!("expected {expected:?}, last {last:?}");
        }
    }

    async fn served(address: SocketAddr) -> Vec<u8> {
        tls(address).await.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// A TLS server with the certificate of a directory, and health that asks it.
    struct Watched {
        directory: std::path::PathBuf,
        address: SocketAddr,
        health: SocketAddr,
        metrics: Metrics,
        tasks: Tasks,
    }

    impl Watched {
        async fn start(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("capm3-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let (tasks, metrics) = (Tasks::new(), Metrics::new());
            let policy = TlsPolicy::new("VersionTLS12", &[]).unwrap();
            let certificate = Certificate::of_directory(directory.clone(), policy, &metrics, &tasks);
            let listener = listen("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            spawn_tls(listener, Router::new(), certificate, Limits::default(), &tasks);
            let listener = listen("127.0.0.1:0").await.unwrap();
            let health = listener.local_addr().unwrap();
            let checks = Health::new().check("webhook", move || check_tls(address));
            spawn_http(listener, checks.router(), Limits::default(), &tasks);
            Self { directory, address, health, metrics, tasks }
        }

        async fn end(self) {
            self.tasks.stop();
            assert!(self.tasks.drained(SOON).await);
            std::fs::remove_dir_all(self.directory).unwrap();
        }
    }

    #[tokio::test]
    async fn ap_5_health_follows_the_certificate() {
        let server = Watched::start("health").await;
        let pages = ["/healthz", "/readyz", "/healthz/webhook", "/readyz/webhook"];
        for page in pages {
            assert_eq!(fetch(server.health, page).await.0, 500, "{page}");
        }
        write_pair(&server.directory);
        seen(&200, async || fetch(server.health, "/readyz").await.0).await;
        for page in pages {
            seen(&200, async || fetch(server.health, page).await.0).await;
        }
        server.end().await;
    }

    #[tokio::test]
    async fn ap_7_a_new_pair_serves_without_a_restart_and_half_of_one_does_not() {
        let server = Watched::start("pair").await;
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
        let (_, first) = write_pair(&server.directory);
        seen(&200, async || fetch(server.health, "/readyz").await.0).await;
        assert_eq!(served(server.address).await, der(&first));

        // A key without its certificate is half of the next pair: the old one serves, and the trouble is counted.
        let errors = || server.metrics.counter("certwatcher_read_certificate_errors_total", "", &[]).get();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for half in [other.as_str(), "", &other[..100]] {
            let before = errors();
            std::fs::write(server.directory.join("tls.key"), half).unwrap();
            seen(&true, async || errors() > before).await;
            assert_eq!(served(server.address).await, der(&first));
            seen(&200, async || fetch(server.health, "/readyz").await.0).await;
        }
        let (_, second) = write_pair(&server.directory);
        seen(&der(&second), async || served(server.address).await).await;
        assert!(server.metrics.counter("certwatcher_read_certificate_total", "", &[]).get() > errors());
        server.end().await;
    }
}
