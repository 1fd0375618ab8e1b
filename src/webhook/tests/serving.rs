//! The webhook server as strangers meet it, over real TLS: each gets an answer or a closed connection, and the next good
//! request is served.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use capm3_runtime::{Certificate, Limits, Metrics, Tasks, TlsPolicy, listen, observed, spawn_tls};
use capm3_webhook::{Which, measured_router};
use futures::FutureExt;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SOON: Duration = Duration::from_secs(120);
/// What the server waits for in these tests: long enough for what is good to be done within it on a slow machine.
const MOMENT: Duration = Duration::from_secs(5);
const PATH: &str = "/validate-infrastructure-cluster-x-k8s-io-v1beta2-metal3data";

struct Server {
    address: SocketAddr,
    client: TlsConnector,
    metrics: Metrics,
    tasks: Tasks,
    directory: PathBuf,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("capm3-serving-{}-{nth}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(directory.join("tls.key"), signed.signing_key.serialize_pem()).unwrap();
        std::fs::write(directory.join("tls.crt"), signed.cert.pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(signed.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));

        let (metrics, tasks) = (Metrics::new(), Tasks::new());
        let policy = TlsPolicy::new("VersionTLS12", &[]).unwrap();
        let certificate = Certificate::of_directory(directory.clone(), policy, &metrics, &tasks);
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = observed(measured_router(Which::Both, &metrics), metrics.clone());
        let loaded = async {
            while !certificate.is_loaded() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, loaded).await.unwrap();
        spawn_tls(listener, router, certificate, limits, &tasks);
        Self { address, client, metrics, tasks, directory }
    }

    async fn over(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.client.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.over(stream).await.unwrap()
    }

    /// Sends these bytes and reads until the server closes: the status code, or None when it said nothing.
    async fn say(&self, bytes: &[u8]) -> Option<u16> {
        let mut stream = self.connect().await;
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let mut answer = Vec::new();
        // An answer may come, and the connection go, before all is sent.
        let talk = async { tokio::join!(to.write_all(bytes), from.read_to_end(&mut answer)) };
        let _ = timeout(SOON, talk).await.expect("neither an answer nor a closed connection");
        status(&answer)
    }

    /// A good request is served: what everything here ends with.
    async fn is_well(&self) {
        assert_eq!(self.say(&post(PATH, &good().to_string())).await, Some(200));
    }

    /// Nothing is left of what went before.
    async fn end(self) {
        self.tasks.stop();
        assert!(self.tasks.drained(SOON).await, "connections are left");
        assert_eq!(self.tasks.failure(), None);
        let page = self.metrics.render();
        let mut in_flight = page.lines().filter(|l| l.starts_with("controller_runtime_webhook_requests_in_flight"));
        assert!(in_flight.all(|line| line.ends_with(" 0")), "{page}");
        assert!(!page.contains("controller_runtime_webhook_panics_total 1"), "{page}");
        std::fs::remove_dir_all(self.directory).unwrap();
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.get(..12)?).ok()?;
    line.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

fn good() -> Value {
    let data = json!({"metadata": {"name": "t-0", "namespace": "n"}, "spec": {"index": 0, "template": {"name": "t"}}});
    let request = json!({"uid": "u", "operation": "CREATE", "object": data});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

fn head(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
}

fn post(path: &str, body: &str) -> Vec<u8> {
    format!("{}{body}", head(path, body.len())).into_bytes()
}

fn patient() -> Limits {
    Limits { handshake: SOON, first_request: SOON, next_request: SOON, answer: SOON, write: SOON, ..Limits::default() }
}

fn hasty() -> Limits {
    Limits {
        handshake: MOMENT,
        first_request: MOMENT,
        next_request: MOMENT,
        answer: MOMENT,
        write: MOMENT,
        ..patient()
    }
}

#[tokio::test]
async fn garbage_is_answered_with_400_or_a_closed_connection() {
    let server = Server::start(patient()).await;
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", &[0xff; 70_000], b"\0"] {
        let mut plain = TcpStream::connect(server.address).await.unwrap();
        let _ = plain.write_all(bytes).await; // it may be closed before it has all
        let _ = plain.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(SOON, plain.read_to_end(&mut answer)).await.expect("not closed");
        assert_eq!(status(&answer), None, "no HTTP without TLS");
        server.is_well().await;
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000));
    for bytes in ["\r\n\r\n\0\0\0\0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST\r\n\r\n", &long, &many] {
        let said = server.say(bytes.as_bytes()).await;
        assert!(said.is_none_or(|code| (400..500).contains(&code)), "{said:?}");
        server.is_well().await;
    }
    let chunked = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert!(server.say(chunked.as_bytes()).await.is_none_or(|code| code == 400));
    for (path, body, code) in
        [(PATH, "\u{0}", 400), (PATH, "{\"request\":7}", 400), ("/convert", "[]", 400), ("/no", "{}", 404)]
    {
        assert_eq!(server.say(&post(path, body)).await, Some(code), "{path} {body}");
    }
    let get = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(server.say(get.as_bytes()).await, Some(405));
    server.is_well().await;
    server.end().await;
}

#[tokio::test]
async fn what_is_huge_is_refused_before_it_is_held() {
    let server = Server::start(patient()).await;
    let body = vec![b' '; 17 << 20];
    let said = server.say(&[head(PATH, body.len()).as_bytes(), &body].concat()).await;
    assert!(said.is_none_or(|code| code == 413), "{said:?}");
    server.is_well().await;

    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    let endless = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(20));
    let said = server.say(endless.as_bytes()).await;
    assert!(said.is_none_or(|code| code == 413), "{said:?}");
    server.is_well().await;
    // A conversion of many objects is longer than that, and fine.
    let note = "x".repeat(20_000);
    let object = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "Metal3Data", "metadata": {"annotations": {"note": note}}});
    let objects = vec![object; 1000];
    let request =
        json!({"uid": "u", "desiredAPIVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "objects": objects});
    let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request});
    let review = review.to_string();
    assert!(review.len() > 17 << 20);
    assert_eq!(server.say(&post("/convert", &review)).await, Some(200));
    let page = server.metrics.render();
    let counted =
        r#"capm3_conversion_objects_total{from="v1beta1",kind="Metal3Data",result="success",to="v1beta2"} 1000"#;
    assert!(page.contains(counted), "{page}");
    server.end().await;
}

#[tokio::test]
async fn what_is_deeply_nested_is_no_review() {
    let server = Server::start(patient()).await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [127, 128, 10_000, 1_000_000] {
            let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(server.say(&post(PATH, &nest)).await, Some(400), "{depth}");
            assert_eq!(server.say(&post("/convert", &nest)).await, Some(400), "{depth}");
            let mut review = good().to_string();
            review.insert_str(review.len() - 1, &format!(",\"more\":{nest}"));
            let expected = if depth == 10_000 || depth == 1_000_000 || depth == 128 { 400 } else { 200 };
            let said = server.say(&post(PATH, &review)).await.unwrap();
            assert!(said == expected || depth == 127 && said == 400, "{depth}: {said}");
        }
    }
    server.is_well().await;
    server.end().await;
}

#[tokio::test]
async fn who_is_slow_is_not_waited_for() {
    let server = Server::start(hasty()).await;
    // Nothing at all, before and after the handshake.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut quiet = server.connect().await;
    for closed in [silent.read_u8().boxed_local(), quiet.read_u8().boxed_local()] {
        assert!(timeout(SOON, closed).await.expect("not closed").is_err());
    }
    server.is_well().await;

    // A byte now and then, of headers and of a body.
    let request = post(PATH, &good().to_string());
    let in_head = request.len() / 20;
    for (at_once, code) in [(in_head, None), (request.len() - 50, Some(408))] {
        let mut stream = server.connect().await;
        stream.write_all(&request[..at_once]).await.unwrap();
        let (mut from, mut to) = tokio::io::split(stream);
        let mut answer = Vec::new();
        let dribble = async {
            for byte in &request[at_once..] {
                sleep(MOMENT / 10).await;
                if to.write_all(&[*byte]).await.is_err() || to.flush().await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = dribble => {}
            read = timeout(SOON, from.read_to_end(&mut answer)) => drop(read.expect("not closed")),
        }
        assert_eq!(status(&answer), code);
        server.is_well().await;
    }

    // A length that is promised and not sent.
    assert_eq!(server.say(head("/convert", 100 << 20).as_bytes()).await, Some(408));
    server.is_well().await;
    let late = format!("controller_runtime_webhook_requests_total{{code=\"408\",webhook=\"{PATH}\"}} 1");
    assert!(server.metrics.render().contains(&late), "{}", server.metrics.render());
    server.end().await;
}

/// The server ends, although somebody has asked for 20 MB and takes none of it.
#[tokio::test]
async fn who_does_not_take_the_answer_loses_the_connection() {
    let server = Server::start(Limits { write: MOMENT, ..patient() }).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = server.over(socket.connect(server.address).await.unwrap()).await.unwrap();
    let note = "x".repeat(200_000);
    let object = json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "Metal3Data", "metadata": {"annotations": {"note": note}}});
    let request = json!({"uid": "u", "desiredAPIVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "objects": vec![object; 100]});
    let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "request": request}).to_string();
    timeout(SOON, stream.write_all(&post("/convert", &review))).await.unwrap().unwrap();
    let converted = async {
        while !server.metrics.render().contains("capm3_conversion_objects_total") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, converted).await.expect("not converted");
    server.is_well().await;
    server.end().await;
    drop(stream);
}

#[tokio::test]
async fn connections_have_a_number_and_the_next_one_waits() {
    let server = Server::start(Limits { connections: 3, ..patient() }).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(server.connect().await);
    }
    let mut fourth = Box::pin(server.is_well());
    assert!(timeout(MOMENT, &mut fourth).await.is_err(), "served beyond the limit");
    drop(idle.pop());
    timeout(SOON, fourth).await.expect("not served when there was room");
    drop(idle);
    server.end().await;
}
