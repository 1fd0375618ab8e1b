//! The management cluster: etcd, API server, controller manager, scheduler as programs on the bridge's own address.
//!
//! The API server listens on 443 of every address of the site, and the `kubernetes` Service's address is one of them: pods
//! reach it without a proxy. `--enable-aggregator-routing` makes it dial the pods behind a webhook Service itself.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::IpAddr;

use anyhow::Result;
use kube::Client;

use crate::kube::{Seen, client, wait_for};
use crate::life::BOUND;
use crate::net::{MANAGEMENT, SERVICE, SERVICE_RANGE};
use crate::paths::Paths;
use crate::pki::Authority;
use crate::programs::Programs;
use crate::tools::Tools;

/// Everything is recorded once, when it is answered: the measure of API cost and of RBAC.
const AUDIT_POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";

pub fn server() -> String {
    format!("https://{MANAGEMENT}:443")
}

/// Starts the control plane and waits until it serves.
pub async fn start(paths: &Paths, tools: &Tools, programs: &Programs, authority: &Authority) -> Result<Client> {
    let client = api_server(paths, tools, programs, authority).await?;
    let pki = |file: &str| paths.pki().join(file).into_os_string();
    start_one(
        programs,
        tools,
        "kube-controller-manager",
        &[
            ("kubeconfig", paths.state.join("controller-manager.kubeconfig").into()),
            ("service-account-private-key-file", pki("sa.key")),
            ("root-ca-file", pki("ca.crt")),
            ("leader-elect", "false".into()),
            ("use-service-account-credentials", "true".into()),
            ("flex-volume-plugin-dir", paths.state.join("volume-plugins").into()), // it makes the folder
        ],
    )?;
    start_one(
        programs,
        tools,
        "kube-scheduler",
        &[
            ("kubeconfig", paths.state.join("scheduler.kubeconfig").into()),
            ("authentication-skip-lookup", "true".into()),
            ("leader-elect", "false".into()),
        ],
    )?;
    Ok(client)
}

/// The part of it that stores and serves objects, and acts on none: nothing is scheduled, collected or finalized.
pub async fn api_server(paths: &Paths, tools: &Tools, programs: &Programs, authority: &Authority) -> Result<Client> {
    certificates(paths, authority)?;
    let audit = paths.state.join("audit-policy.yaml");
    fs::write(&audit, AUDIT_POLICY)?;

    start_one(
        programs,
        tools,
        "etcd",
        &[
            ("data-dir", paths.state.join("etcd").into()),
            ("listen-client-urls", "http://127.0.0.1:2379".into()),
            ("advertise-client-urls", "http://127.0.0.1:2379".into()),
            ("listen-peer-urls", "http://127.0.0.1:2380".into()),
            ("unsafe-no-fsync", "true".into()),
            ("quota-backend-bytes", "2147483648".into()),
            ("log-level", "warn".into()),
        ],
    )?;

    let mut flags = api_server_flags(paths);
    flags.extend([
        ("bind-address", "0.0.0.0".into()),
        ("secure-port", "443".into()),
        ("audit-policy-file", audit.into()),
        ("audit-log-path", paths.audit_log().into()),
        ("audit-log-maxsize", "1000".into()),
    ]);
    start_one(programs, tools, "kube-apiserver", &flags)?;
    let client = client(&paths.kubeconfig()).await?;
    wait_for("the API server to be ready", BOUND, async || {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        Ok(match client.request_text(request).await? {
            ready if ready == "ok" => Seen::Done(()),
            other => Seen::Not(other),
        })
    })
    .await?;
    Ok(client)
}

/// What every API server of the bed is started with; where it listens is left to say.
fn api_server_flags(paths: &Paths) -> Vec<(&'static str, OsString)> {
    let pki = |file: &str| paths.pki().join(file).into_os_string();
    vec![
        ("etcd-servers", "http://127.0.0.1:2379".into()),
        ("advertise-address", MANAGEMENT.to_string().into()),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
        ("client-ca-file", pki("ca.crt")),
        ("kubelet-certificate-authority", pki("ca.crt")),
        ("kubelet-client-certificate", pki("apiserver.crt")),
        ("kubelet-client-key", pki("apiserver.key")),
        ("kubelet-preferred-address-types", "InternalIP".into()),
        ("service-account-issuer", "https://kubernetes.default.svc".into()),
        ("service-account-key-file", pki("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
        ("service-cluster-ip-range", SERVICE_RANGE.into()),
        ("authorization-mode", "Node,RBAC".into()),
        ("allow-privileged", "true".into()),
        ("enable-aggregator-routing", "true".into()),
        ("enable-bootstrap-token-auth", "true".into()),
    ]
}

/// The command line of one more API server that shares etcd and certificates, for a test that starts it. What it adds are
/// `--bind-address=127.0.0.1`, `--secure-port` and, to begin with nothing, an `--etcd-prefix` of its own.
pub fn further_api_server(paths: &Paths, tools: &Tools) -> Result<Vec<OsString>> {
    let program = tools.path("kube-apiserver")?.as_os_str().to_owned();
    let flags = api_server_flags(paths).into_iter().map(|(flag, value)| argument(flag, &value));
    Ok(std::iter::once(program).chain(flags).collect())
}

fn argument(flag: &str, value: &OsStr) -> OsString {
    let mut argument = OsString::from(format!("--{flag}="));
    argument.push(value);
    argument
}

fn certificates(paths: &Paths, authority: &Authority) -> Result<()> {
    let addresses: Vec<IpAddr> = vec![MANAGEMENT.into(), SERVICE.into(), [127, 0, 0, 1].into()];
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    authority.serving("apiserver", ("kube-apiserver", Some("system:masters")), &addresses, &names)?;
    authority.service_account_key()?;
    let server = server();
    authority.kubeconfig(&paths.kubeconfig(), &server, ("admin", Some("system:masters")))?;
    for (file, user) in
        [("controller-manager", "system:kube-controller-manager"), ("scheduler", "system:kube-scheduler")]
    {
        authority.kubeconfig(&paths.state.join(format!("{file}.kubeconfig")), &server, (user, None))?;
    }
    Ok(())
}

fn start_one(programs: &Programs, tools: &Tools, name: &str, flags: &[(&str, OsString)]) -> Result<()> {
    let mut command = programs.command(tools.path(name)?);
    command.args(flags.iter().map(|(flag, value)| argument(flag, value)));
    programs.start(name, command)?;
    Ok(())
}
