//! The manager as a process: what it says to flags, to signals, and to a real API server where there is one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use capm3_runtime::{ClientOptions, Key, Object, Preconditions, Reader, Writer, connect};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::config::Kubeconfig;
use serde::Serialize;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(120);
/// What managers without cert-manager are installed with, for the rights in it.
const COMPONENTS: [&str; 2] = [
    include_str!(concat!(
        "../../../clusterctl/infrastructure-metal3/v",
        env!("CARGO_PKG_VERSION"),
        "/infrastructure-components-self-signed.yaml"
    )),
    include_str!(concat!(
        "../../../clusterctl/ipam-metal3/v",
        env!("CARGO_PKG_VERSION"),
        "/ipam-components-self-signed.yaml"
    )),
];

fn manager(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capm3-manager"));
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn ends(arguments: &[&str]) -> (bool, String) {
    let Output { status, stderr, .. } = manager(arguments).output().unwrap();
    (status.success(), String::from_utf8(stderr).unwrap())
}

/// Every flag of P-1 as given, with its default where it has one. The start comes as far as the kubeconfig.
#[test]
fn ap_3_every_flag_is_accepted_and_an_unknown_one_ends_the_start_with_the_nearest_name() {
    let shared = [
        "--leader-elect=false",
        "--namespace=",
        "--watch-filter=",
        "--sync-period=10m0s",
        "--kube-api-qps=20",
        "--kube-api-burst=30",
        "--webhook-port=9443",
        "--webhook-cert-dir=/tmp/k8s-webhook-server/serving-certs/",
        "--health-addr=:9440",
        "--diagnostics-address=:8443",
        "--insecure-diagnostics=false",
        "--tls-min-version=VersionTLS12",
        "--v=0",
        "--vmodule=",
        "--logging-format=text",
        "--log-flush-frequency=5s",
        "--log-text-split-stream=false",
        "--log-text-info-buffer-size=0",
        "--log-json-split-stream=false",
        "--log-json-info-buffer-size=0",
        "--kubeconfig=/nowhere/kubeconfig",
    ];
    let infra = [
        "--leader-elect-lease-duration=15s",
        "--leader-elect-renew-deadline=10s",
        "--leader-elect-retry-period=2s",
        "--clustercache-client-qps=20",
        "--clustercache-client-burst=30",
        "--metal3machine-concurrency=10",
        "--metal3cluster-concurrency=10",
        "--metal3datatemplate-concurrency=10",
        "--metal3data-concurrency=10",
        "--metal3labelsync-concurrency=10",
        "--metal3machinetemplate-concurrency=10",
        "--metal3remediation-concurrency=10",
        "--enable-bmh-name-based-preallocation=false",
        "--tls-cipher-suites=",
        "--skip-crd-migration-phases=StorageVersionMigration",
        "--skip-crd-migration-phases=CleanupManagedFields",
    ];
    for own in [&infra[..], &["--ippool-concurrency=10", "--tls-cipher-suites="]] {
        let (well, said) = ends(&[&shared[..], own].concat());
        assert!(!well && said.contains("cannot read kubeconfig /nowhere/kubeconfig"), "{said}");
    }
    for (flag, nearest) in [
        ("--leader-elct", "--leader-elect"),
        ("--metal3machine-concurency=1", "--metal3machine-concurrency"),
        ("--diagnostic-address=:1", "--diagnostics-address"),
        ("--selfsigned", "--self-signed"),
        ("--ipool-concurrency=10", "--ippool-concurrency"),
    ] {
        let (well, said) = ends(&[flag]);
        assert!(!well && said.contains(&format!("'{nearest}")), "{flag}: {said}");
    }
    for (flag, word) in [
        ("--sync-period=10", "a duration such as"),
        ("--webhook-port=https", "invalid value 'https'"),
        ("--leader-elect=maybe", "invalid value 'maybe'"),
        ("--skip-crd-migration-phases=All", "StorageVersionMigration, CleanupManagedFields"),
        ("--tls-min-version=VersionTLS10", "not one of VersionTLS12, VersionTLS13"),
        ("--tls-cipher-suites=TLS_NULL", "cipher suite TLS_NULL is not supported"),
        ("--logging-format=xml", "invalid value 'xml'"),
    ] {
        let (well, said) = ends(&[flag, "--kubeconfig=/nowhere/kubeconfig"]);
        assert!(!well && said.contains(word), "P-2 {flag}: {said}");
    }
}

/// A process that does not outlive its test.
struct Running {
    child: Child,
    log: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (lines, log) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { child, log }
    }

    /// The first line of its log, from here on, with this in it.
    fn says(&self, words: &str) -> String {
        let (from, mut all) = (Instant::now(), String::new());
        while let Ok(line) = self.log.recv_timeout(SOON.saturating_sub(from.elapsed())) {
            if line.contains(words) {
                return line;
            }
            all.push_str(&line);
            all.push('\n');
        }
        panic!("{words:?} was not said:\n{all}")
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

const SILENT: [&str; 3] = ["--webhook-port=0", "--health-addr=0", "--diagnostics-address=0"];

/// A file that leads to `server` as the API server.
fn kubeconfig(server: &TcpListener, name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("capm3-kubeconfig-{name}-{}", std::process::id()));
    let server = format!("http://{}", server.local_addr().unwrap());
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a", "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": server}}],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

/// The environment variable leads to the API server, and every request says who asks.
#[test]
fn p_3_p_4_the_kubeconfig_of_the_environment_is_used_and_requests_carry_the_name() {
    for (controllers, name) in [("infra", "cluster-api-provider-metal3-manager/v"), ("ipam", "ip-address-manager/v")] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = kubeconfig(&server, controllers);
        let mut command = manager(&SILENT);
        command.arg(format!("--controllers={controllers}")).env("KUBECONFIG", &kubeconfig);
        let running = Running::start(command);
        let (stream, _) = server.accept().unwrap();
        let head: Vec<_> = BufReader::new(stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let agent = head.iter().find_map(|line| line.to_lowercase().strip_prefix("user-agent: ").map(str::to_owned));
        assert!(agent.is_some_and(|agent| agent.starts_with(name)), "{head:?}");
        drop(running);
        std::fs::remove_file(kubeconfig).unwrap();
    }
}

/// Also while nothing answers yet.
#[test]
fn p_11_a_signal_ends_it_well() {
    for signal in ["-TERM", "-INT"] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = kubeconfig(&server, signal);
        let mut command = manager(&SILENT);
        command.arg("--kubeconfig").arg(&kubeconfig);
        let mut running = Running::start(command);
        let _asked = server.accept().unwrap();
        running.signal(signal);
        assert!(running.child.wait().unwrap().success(), "{signal}");
        std::fs::remove_file(kubeconfig).unwrap();
    }
}

/// The server's end of `client` has been accepted, and all that was sent so far has been read from it.
fn is_read(client: &TcpStream) -> bool {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    let (here, there) = (port(client.peer_addr().unwrap()), port(client.local_addr().unwrap()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        fields[1].ends_with(&here)
            && fields[2].ends_with(&there)
            && fields[4].ends_with(":00000000")
            && fields[9] != "0"
    })
}

/// A request that never ends holds up the end that the first signal asks for. Both signals are there when the stopped process goes
/// on, so that nothing depends on how fast it is.
#[tokio::test]
async fn p_11_a_second_signal_ends_it_at_once() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = kubeconfig(&server, "second");
    let [metrics] = ports();
    let mut command = manager(&["--webhook-port=0", "--health-addr=0", "--insecure-diagnostics"]);
    command.arg(format!("--diagnostics-address={metrics}")).arg("--kubeconfig").arg(&kubeconfig);
    let mut running = Running::start(command);
    let _asked = server.accept().unwrap();
    let mut endless = until("diagnostics to be served", || TcpStream::connect(metrics).ok()).await;
    endless.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    until("the request to have begun", || is_read(&endless).then_some(())).await;
    let stat = format!("/proc/{}/stat", running.child.id());
    running.signal("-STOP");
    until("it to stand still", || std::fs::read_to_string(&stat).unwrap().contains(") T ").then_some(())).await;
    for signal in ["-TERM", "-INT", "-CONT"] {
        running.signal(signal);
    }
    running.says("a second signal");
    assert_eq!(running.child.wait().unwrap().code(), Some(1));
    std::fs::remove_file(kubeconfig).unwrap();
}

fn fetch(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
}

/// Ports that were free a moment ago.
fn ports<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

struct Replica {
    running: Running,
    health: SocketAddr,
    metrics: SocketAddr,
}

impl Replica {
    /// A manager in a namespace of its own, looking at no other, without cert-manager.
    fn start(ns: &str) -> Self {
        let kubeconfig = std::fs::read_to_string(std::env::var("CAPM3_TEST_KUBECONFIG").unwrap()).unwrap();
        let own = std::env::temp_dir().join(format!("capm3-{ns}"));
        let mut kubeconfig = serde_json::to_value(Kubeconfig::from_yaml(&kubeconfig).unwrap()).unwrap();
        kubeconfig["contexts"][0]["context"]["namespace"] = ns.into();
        kubeconfig["users"][0]["user"]["as"] = ns.into();
        std::fs::write(&own, kubeconfig.to_string()).unwrap();
        let [webhook, health, metrics] = ports();
        let mut command = manager(&["--self-signed", "--leader-elect", "--insecure-diagnostics"]);
        command.args(["--skip-crd-migration-phases=StorageVersionMigration"]);
        command.args(["--skip-crd-migration-phases=CleanupManagedFields"]);
        command.arg(format!("--namespace={ns}")).arg(format!("--kubeconfig={}", own.display()));
        command.arg(format!("--webhook-port={}", webhook.port())).arg(format!("--health-addr={health}"));
        command.arg(format!("--diagnostics-address={metrics}"));
        Self { running: Running::start(command), health, metrics }
    }

    fn leads(&self) -> Option<bool> {
        let (_, page) = fetch(self.metrics, "/metrics")?;
        let line = page.lines().find(|line| {
            line.starts_with("leader_election_master_status{name=\"controller-leader-election-capm3\"}")
        })?;
        Some(line.ends_with(" 1"))
    }
}

/// The rules of all roles of a kind in the shipped files.
fn shipped(kind: &str) -> Vec<Value> {
    let documents = COMPONENTS.iter().flat_map(|file| file.split("\n---\n"));
    let roles = documents.filter(|document| document.contains(&format!("\nkind: {kind}\n")));
    roles.flat_map(|role| serde_saphyr::from_str::<Value>(role).unwrap()["rules"].as_array().unwrap().clone()).collect()
}

/// Gives the user `ns` what the shipped files give the managers, in that namespace.
async fn grant(writer: &Writer, ns: &str) {
    async fn make<K: Object + Serialize>(writer: &Writer, object: Value) {
        writer.create::<K>(&serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let group = "rbac.authorization.k8s.io";
    let subjects = json!([{"apiGroup": group, "kind": "User", "name": ns}]);
    let (everywhere, here) = (json!({"name": ns}), json!({"name": ns, "namespace": ns}));
    let refers = |kind: &str| json!({"apiGroup": group, "kind": kind, "name": ns});
    make::<ClusterRole>(writer, json!({"metadata": everywhere, "rules": shipped("ClusterRole")})).await;
    make::<Role>(writer, json!({"metadata": here, "rules": shipped("Role")})).await;
    let binding = json!({"metadata": everywhere, "roleRef": refers("ClusterRole"), "subjects": subjects});
    make::<ClusterRoleBinding>(writer, binding).await;
    let binding = json!({"metadata": here, "roleRef": refers("Role"), "subjects": subjects});
    make::<RoleBinding>(writer, binding).await;
}

/// A configuration of the managers' name that is about nothing: one webhook for a namespace that holds no such objects.
async fn configuration(writer: &Writer, ns: &str) -> Key {
    let key = Key::new("", "capm3-validating-webhook-configuration");
    let _ = writer.delete::<ValidatingWebhookConfiguration>(&key, &Preconditions::none()).await;
    let webhook = json!({
        "name": "nothing.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"service": {"namespace": ns, "name": "capm3-webhook-service"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["podtemplates"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
    });
    let configuration = json!({"metadata": {"name": key.name}, "webhooks": [webhook]});
    let configuration = serde_json::from_value::<ValidatingWebhookConfiguration>(configuration).unwrap();
    writer.create(&configuration).await.unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks a real API server: make test"]
async fn p_5_p_6_p_8_two_managers_without_cert_manager_are_ready_one_leads_and_the_other_takes_over() {
    let kubeconfig = std::env::var("CAPM3_TEST_KUBECONFIG").unwrap();
    let client = connect(Some(kubeconfig.into()), &ClientOptions::default()).await.unwrap();
    let (reader, writer) = (Reader::new(client.clone()), Writer::uncached(client));
    let ns = format!("manager-{}", std::process::id());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(ns.clone());
    writer.create(&namespace).await.unwrap();
    grant(&writer, &ns).await;
    let configuration = configuration(&writer, &ns).await;

    let mut first = Replica::start(&ns);
    let ready = |replica: &Replica| (fetch(replica.health, "/readyz")?.0 == 200).then_some(());
    until("the first to be ready", || ready(&first)).await;
    until("the first to lead", || first.leads().filter(|leads| *leads)).await;
    let second = Replica::start(&ns);
    until("the second to be ready", || ready(&second)).await;
    assert_eq!(second.leads(), Some(false));
    assert_eq!(fetch(second.health, "/healthz/webhook").unwrap().0, 200);
    let secret = Key::new(&ns, "capm3-webhook-service-cert");
    let data = reader.get::<Secret>(&secret).await.unwrap().unwrap().data.unwrap();
    assert!(data.contains_key("tls.crt"));
    let injected = reader.get::<ValidatingWebhookConfiguration>(&configuration).await.unwrap().unwrap();
    assert_eq!(injected.webhooks.unwrap()[0].client_config.ca_bundle.as_ref(), Some(&data["ca.crt"]));

    let (_, page) = fetch(first.metrics, "/metrics").unwrap();
    for family in [
        "controller_runtime_reconcile_total{controller=\"metal3machine\"",
        "controller_runtime_reconcile_errors_total{controller=\"ippool\"",
        "controller_runtime_reconcile_time_seconds_bucket{controller=\"metal3data\"",
        "controller_runtime_active_workers{controller=\"metal3cluster\"",
        "controller_runtime_max_concurrent_reconciles{controller=\"metal3cluster\"} 10",
        "controller_runtime_webhook_panics_total 0",
        "workqueue_depth{",
        "workqueue_adds_total{",
        "workqueue_retries_total{",
        "workqueue_queue_duration_seconds_count{",
        "workqueue_work_duration_seconds_count{",
        "rest_client_requests_total{code=\"200\"",
        "certwatcher_read_certificate_total 1",
        "certwatcher_read_certificate_errors_total 0",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
    ] {
        assert!(page.contains(family), "{family}\n{page}");
    }

    first.running.signal("-TERM");
    assert!(first.running.child.wait().unwrap().success());
    until("the second to lead", || second.leads().filter(|leads| *leads)).await;
    let lease = reader.get::<Lease>(&Key::new(&ns, "controller-leader-election-capm3")).await.unwrap().unwrap();
    assert_ne!(lease.spec.unwrap().holder_identity.unwrap_or_default(), "");
    second.running.says("starting workers");
    drop(second);
    writer.delete::<ValidatingWebhookConfiguration>(&configuration, &Preconditions::none()).await.unwrap();
    writer.delete::<Namespace>(&Key::new("", &ns), &Preconditions::none()).await.unwrap();
}
