//! The flags of both Go managers, with their spelling and defaults (P-1, P-2; ipam.md "Flags").
//!
//! Booleans are `--x`, `--x=true` or `--x=false`; the last of a repeated flag counts; an unknown one ends the start with the
//! nearest known name. Some flags are accepted because manifests carry them and have nothing to steer here: their help says so.

use std::path::PathBuf;
use std::time::Duration;

use capm3_controllers::migration::Phase;
use clap::{ArgAction, Parser};

/// Runs Metal3 as a Cluster API provider: the infrastructure, the address manager, or both.
#[derive(Parser, Clone, Debug)]
#[command(name = "capm3-manager", version, args_override_self = true, max_term_width = 110)]
pub(crate) struct Flags {
    /// Which providers to run.
    #[arg(long, value_delimiter = ',', default_value = "infra,ipam", value_parser = provider)]
    pub(crate) controllers: Vec<Provider>,

    /// Only the holder of the lease runs controllers; webhooks run everywhere.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) leader_elect: bool,

    /// How long a lease is valid for others after its last renewal.
    #[arg(long, default_value = "15s", value_parser = duration)]
    pub(crate) leader_elect_lease_duration: Duration,

    /// The holder stops when it could not renew for so long.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) leader_elect_renew_deadline: Duration,

    /// Time between attempts to get or renew the lease.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) leader_elect_retry_period: Duration,

    /// Restricts all watches to one namespace.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,

    /// Value that the label cluster.x-k8s.io/watch-filter must have on an object.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) watch_filter: String,

    /// Every object is looked at again this often.
    #[arg(long, default_value = "10m0s", value_parser = duration)]
    pub(crate) sync_period: Duration,

    /// Accepted; requests in flight are bounded instead.
    #[arg(long, default_value = "20")]
    pub(crate) kube_api_qps: f32,

    /// Accepted; requests in flight are bounded instead.
    #[arg(long, default_value = "30")]
    pub(crate) kube_api_burst: u32,

    /// Accepted; requests in flight are bounded instead.
    #[arg(long, default_value = "20")]
    pub(crate) clustercache_client_qps: f32,

    /// Accepted; requests in flight are bounded instead.
    #[arg(long, default_value = "30")]
    pub(crate) clustercache_client_burst: u32,

    /// Port of admission and conversion; 0 switches them off.
    #[arg(long, default_value = "9443")]
    pub(crate) webhook_port: u16,

    /// Holds tls.crt and tls.key; read again when they change.
    #[arg(long, default_value = "/tmp/k8s-webhook-server/serving-certs/")]
    pub(crate) webhook_cert_dir: PathBuf,

    /// Do without cert-manager: sign the certificate here, keep it in a Secret and make the API server trust it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) self_signed: bool,

    /// Address of /healthz and /readyz.
    #[arg(long, default_value = ":9440")]
    pub(crate) health_addr: String,

    #[command(flatten)]
    pub(crate) concurrency: Concurrency,

    /// Derive the names of address claims from host and pool.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) enable_bmh_name_based_preallocation: bool,

    /// Address of /metrics.
    #[arg(long, default_value = ":8443")]
    pub(crate) diagnostics_address: String,

    /// Serve metrics over plain HTTP to everyone.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) insecure_diagnostics: bool,

    /// VersionTLS12 or VersionTLS13.
    #[arg(long, default_value = "VersionTLS12")]
    pub(crate) tls_min_version: String,

    /// IANA names of cipher suites for TLS 1.2.
    #[arg(long, value_delimiter = ',')]
    pub(crate) tls_cipher_suites: Vec<String>,

    /// What is left out when a definition changes: StorageVersionMigration or CleanupManagedFields; give it twice for both.
    #[arg(long, action = ArgAction::Append)]
    pub(crate) skip_crd_migration_phases: Vec<Phase>,

    /// Kubeconfig of the management cluster; else KUBECONFIG, the pod's service account, the home directory.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) kubeconfig: String,

    /// Verbosity: 0 says what changed, 4 what was decided, 5 everything.
    #[arg(long = "v", short = 'v', default_value = "0")]
    pub(crate) verbosity: u8,

    /// text or json.
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub(crate) logging_format: String,

    #[command(flatten)]
    pub(crate) ignored: Ignored,
}

/// Parallel reconciles per controller.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Concurrency {
    #[arg(long, default_value = "10")]
    metal3machine_concurrency: usize,
    #[arg(long, default_value = "10")]
    metal3cluster_concurrency: usize,
    #[arg(long, default_value = "10")]
    metal3datatemplate_concurrency: usize,
    #[arg(long, default_value = "10")]
    metal3data_concurrency: usize,
    #[arg(long, default_value = "10")]
    metal3labelsync_concurrency: usize,
    #[arg(long, default_value = "10")]
    metal3machinetemplate_concurrency: usize,
    #[arg(long, default_value = "10")]
    metal3remediation_concurrency: usize,
    #[arg(long, default_value = "10")]
    ippool_concurrency: usize,
}

impl Concurrency {
    pub(crate) fn by_controller(&self) -> [(&'static str, usize); 8] {
        [
            ("metal3machine", self.metal3machine_concurrency),
            ("metal3cluster", self.metal3cluster_concurrency),
            ("metal3datatemplate", self.metal3datatemplate_concurrency),
            ("metal3data", self.metal3data_concurrency),
            ("metal3labelsync", self.metal3labelsync_concurrency),
            ("metal3machinetemplate", self.metal3machinetemplate_concurrency),
            ("metal3remediation", self.metal3remediation_concurrency),
            ("ippool", self.ippool_concurrency),
        ]
    }
}

/// Flags of Go's logging library that have nothing to steer here.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Ignored {
    #[arg(long, hide = true)]
    vmodule: Option<String>,
    #[arg(long, hide = true)]
    log_flush_frequency: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_text_split_stream: Option<bool>,
    #[arg(long, hide = true)]
    log_text_info_buffer_size: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_json_split_stream: Option<bool>,
    #[arg(long, hide = true)]
    log_json_info_buffer_size: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    Infra,
    Ipam,
}

impl Provider {
    /// The Go managers' lease names, so that a Go manager and this one never act at once (K-144).
    pub(crate) fn lease(self) -> &'static str {
        match self {
            Self::Infra => "controller-leader-election-capm3",
            Self::Ipam => "controller-leader-election-ipam-capm3",
        }
    }

    /// What the names of all its objects begin with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Infra => "capm3",
            Self::Ipam => "ipam",
        }
    }

    /// Value of clusterctl's label on all its objects.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Infra => "infrastructure-metal3",
            Self::Ipam => "ipam-metal3",
        }
    }

    pub(crate) fn user_agent(self) -> &'static str {
        match self {
            Self::Infra => "cluster-api-provider-metal3-manager",
            Self::Ipam => "ip-address-manager",
        }
    }
}

fn provider(text: &str) -> Result<Provider, String> {
    match text {
        "infra" => Ok(Provider::Infra),
        "ipam" => Ok(Provider::Ipam),
        _ => Err("one of infra, ipam".to_owned()),
    }
}

/// Go's durations: `1h2m3.5s`, `10m0s`, `250ms`, `0`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration such as 10m0s, 15s or 250ms".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let seconds = match &after[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        rest = &after[unit..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(flags: &[&str]) -> Result<Flags, String> {
        let arguments = std::iter::once("capm3-manager").chain(flags.iter().copied());
        Flags::try_parse_from(arguments).map_err(|error| error.to_string())
    }

    /// Every flag of P-1, of ipam.md and of the component-base switches, with its default.
    #[test]
    fn ap_3_every_flag_is_known_with_its_default() {
        let command = Flags::command();
        let known = |name: &str| command.get_arguments().find(|a| a.get_long() == Some(name)).cloned();
        let ten = |name: &'static str| (name, "10");
        for (name, default) in [
            ("leader-elect", "false"),
            ("self-signed", "false"),
            ("leader-elect-lease-duration", "15s"),
            ("leader-elect-renew-deadline", "10s"),
            ("leader-elect-retry-period", "2s"),
            ("namespace", ""),
            ("watch-filter", ""),
            ("sync-period", "10m0s"),
            ("kube-api-qps", "20"),
            ("kube-api-burst", "30"),
            ("clustercache-client-qps", "20"),
            ("clustercache-client-burst", "30"),
            ("webhook-port", "9443"),
            ("webhook-cert-dir", "/tmp/k8s-webhook-server/serving-certs/"),
            ("health-addr", ":9440"),
            ten("metal3machine-concurrency"),
            ten("metal3cluster-concurrency"),
            ten("metal3datatemplate-concurrency"),
            ten("metal3data-concurrency"),
            ten("metal3labelsync-concurrency"),
            ten("metal3machinetemplate-concurrency"),
            ten("metal3remediation-concurrency"),
            ten("ippool-concurrency"),
            ("enable-bmh-name-based-preallocation", "false"),
            ("diagnostics-address", ":8443"),
            ("insecure-diagnostics", "false"),
            ("tls-min-version", "VersionTLS12"),
            ("kubeconfig", ""),
            ("v", "0"),
            ("logging-format", "text"),
        ] {
            let argument = known(name).unwrap_or_else(|| panic!("--{name} is not known"));
            assert_eq!(argument.get_default_values(), [default], "--{name}");
        }
        for name in [
            "tls-cipher-suites",
            "skip-crd-migration-phases",
            "vmodule",
            "log-flush-frequency",
            "log-text-split-stream",
            "log-text-info-buffer-size",
            "log-json-split-stream",
            "log-json-info-buffer-size",
        ] {
            assert!(known(name).is_some(), "--{name} is not known");
        }
    }

    #[test]
    fn p_2_booleans_as_go_spells_them() {
        assert!(parse(&["--leader-elect"]).unwrap().leader_elect);
        assert!(parse(&["--leader-elect=true"]).unwrap().leader_elect);
        assert!(!parse(&["--leader-elect=false"]).unwrap().leader_elect);
        assert!(!parse(&["--leader-elect", "--leader-elect=false"]).unwrap().leader_elect);
        assert!(parse(&["--leader-elect=maybe"]).is_err());
    }

    #[test]
    fn p_2_values_with_and_without_equals() {
        assert_eq!(parse(&["--namespace", "a"]).unwrap().namespace, "a");
        assert_eq!(parse(&["--namespace=a"]).unwrap().namespace, "a");
        assert_eq!(parse(&["-v", "4"]).unwrap().verbosity, 4);
        assert_eq!(parse(&["-v=4"]).unwrap().verbosity, 4);
        assert_eq!(parse(&["--v=4"]).unwrap().verbosity, 4);
        assert_eq!(parse(&["--sync-period=1m30s"]).unwrap().sync_period.as_secs(), 90);
        assert_eq!(parse(&["--controllers=ipam"]).unwrap().controllers, [Provider::Ipam]);
    }

    #[test]
    fn ap_8_phases_are_skipped_by_name_and_anything_else_ends_the_start() {
        let skipped = |flags: &[&str]| parse(flags).map(|flags| flags.skip_crd_migration_phases);
        let (migration, cleanup) =
            ("--skip-crd-migration-phases=StorageVersionMigration", "--skip-crd-migration-phases=CleanupManagedFields");
        assert_eq!(skipped(&[]), Ok(vec![]));
        assert_eq!(skipped(&[cleanup]), Ok(vec![Phase::CleanupManagedFields]));
        assert_eq!(
            skipped(&[migration, cleanup]),
            Ok(vec![Phase::StorageVersionMigration, Phase::CleanupManagedFields])
        );
        for wrong in ["All", "", "StorageVersionMigration,CleanupManagedFields"] {
            let said = skipped(&[&format!("--skip-crd-migration-phases={wrong}")]).unwrap_err();
            assert!(said.contains("--skip-crd-migration-phases"), "{said}");
        }
        assert!(
            skipped(&["--skip-crd-migration-phases", "All"])
                .unwrap_err()
                .contains("one of StorageVersionMigration, CleanupManagedFields")
        );
    }

    #[test]
    fn p_2_unknown_flags_and_values_are_refused_with_the_nearest_name() {
        assert!(parse(&["--leader-elct"]).unwrap_err().contains("--leader-elect"));
        assert!(parse(&["--skip-crd-migration-phases=All"]).is_err());
        assert!(parse(&["--webhook-port=https"]).is_err());
        assert!(parse(&["--sync-period=10"]).unwrap_err().contains("a duration such as"));
    }

    #[test]
    fn durations_read_as_go_writes_them() {
        for (text, millis) in [("10m0s", 600_000), ("1.5s", 1500), ("1h0m1s", 3_601_000), ("250ms", 250), ("0", 0)] {
            assert_eq!(duration(text).map(|d| d.as_millis()), Ok(millis), "{text}");
        }
        for text in ["", "s", "1", "1x", "-1s", "1s2"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
