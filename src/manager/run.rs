//! From flags to a running manager, and back to nothing.
//!
//! Order of the start (P-11): client, servers, stores and controllers, watches; then per provider: caches synced, lease held,
//! workers. Webhooks, health and diagnostics answer from the beginning, on every replica; kinds that are not installed yet are
//! waited for (P-12, K-96). The end: no more keys, running reconciles finish, the lease is released, servers drain; all within
//! eight seconds (PH-3).

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use capm3_api::crds::INFRA_CRDS;
use capm3_api::names::label;
use capm3_runtime::{
    Candidate, Certificate, ClientOptions, Clock, Controller, Dice, Health, Hub, HubOptions, Key, LeaseError,
    LeaseOptions, Limits, Metrics, Options, Parts, Recorder, SelfSigned, Setup, SystemClock, SystemDice, Tasks,
    TlsPolicy, check_tls, connect, diagnostics, listen, observed, spawn_http, spawn_tls, user_agent,
};
use capm3_webhook::Which;
use futures::FutureExt;
use kube::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::flags::{Flags, Provider};

const WORKERS_GRACE: Duration = Duration::from_secs(5);
const RELEASE_GRACE: Duration = Duration::from_millis(1500);
const SERVERS_GRACE: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs until `signalled` or until something ends that should not.
pub(crate) async fn run(flags: Flags, signalled: CancellationToken) -> Result<()> {
    let metrics = Metrics::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dice: Arc<dyn Dice> = Arc::new(SystemDice);
    let providers = providers(&flags)?;
    let options = ClientOptions {
        user_agent: user_agent(providers[0].user_agent()),
        metrics: metrics.clone(),
        ..ClientOptions::default()
    };
    let kubeconfig = Some(&flags.kubeconfig).filter(|path| !path.is_empty()).map(PathBuf::from);
    let policy = TlsPolicy::new(&flags.tls_min_version, &flags.tls_cipher_suites)?;
    let client = connect(kubeconfig, &options).await.context("cannot connect to the management cluster")?;

    let base = Tasks::new();
    start_servers(&flags, &client, &metrics, &policy, &base).await?;

    let hub = Hub::new(
        client.clone(),
        HubOptions {
            namespace: non_empty(&flags.namespace),
            metrics: metrics.clone(),
            dice: dice.clone(),
            ..HubOptions::default()
        },
    );
    let identity = identity(&*dice);
    let mut elections = Vec::new();
    for provider in &providers {
        let recorder =
            Recorder::spawn(client.clone(), provider.user_agent(), identity.clone(), clock.clone(), &metrics, &base);
        let parts = Parts {
            hub: hub.clone(),
            recorder,
            clock: clock.clone(),
            dice: dice.clone(),
            metrics: metrics.clone(),
            tasks: base.clone(),
        };
        let mut setup = Setup::new(parts, controller_options(&flags));
        register(*provider, &flags, &mut setup);
        let candidate = if flags.leader_elect {
            let key = Key::new(client.default_namespace(), provider.lease());
            let options = LeaseOptions {
                key,
                identity: identity.clone(),
                duration: flags.leader_elect_lease_duration,
                renew_deadline: flags.leader_elect_renew_deadline,
                retry_period: flags.leader_elect_retry_period,
            };
            Some(Candidate::new(client.clone(), options, clock.clone(), &metrics)?)
        } else {
            None
        };
        elections.push((candidate, setup.into_controllers()));
    }
    hub.start(&base);
    if !flags.sync_period.is_zero() {
        hub.spawn_resync(flags.sync_period, &base);
    }
    say_what_is_missing(&hub, &base);

    // One term per provider; the first that ends, or the signal, ends them all.
    let stop = CancellationToken::new();
    let mut terms = JoinSet::new();
    for (candidate, controllers) in elections {
        let term = Term { hub: hub.clone(), metrics: metrics.clone(), stop: stop.clone() };
        terms.spawn(term.serve(candidate, controllers));
    }
    let failed = base.stopping();
    let mut outcome = Ok(());
    tokio::select! {
        () = signalled.cancelled() => tracing::info!("stopping"),
        () = failed.cancelled() => {}
        Some(ended) = terms.join_next() => outcome = flatten(ended),
    }
    stop.cancel();
    while let Some(ended) = terms.join_next().await {
        outcome = outcome.and(flatten(ended));
    }
    base.stop();
    base.drained(SERVERS_GRACE).await;
    match base.failure() {
        Some(failure) => bail!(failure),
        None => outcome,
    }
}

fn flatten(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.map_err(|_| anyhow!("a controller task panicked"))?
}

/// One provider's controllers, from the first synced cache to the last write.
struct Term {
    hub: Hub,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Term {
    /// Caches first, then the lease: a standby is warm, and one that cannot work does not keep others from it.
    async fn serve(self, candidate: Option<Candidate>, controllers: Vec<Controller>) -> Result<()> {
        if self.stop.run_until_cancelled(self.hub.wait_synced()).await.is_none() {
            return Ok(());
        }
        let Some(candidate) = candidate else {
            return self.work(controllers, std::future::pending()).await.map(drop);
        };
        let Some(leader) = self.stop.run_until_cancelled(candidate.acquire()).await else { return Ok(()) };
        let idle = CancellationToken::new();
        let mut held = std::pin::pin!(leader.hold(idle.clone()));
        if self.work(controllers, held.as_mut().map(|held| held.err())).await? == Rest::Busy {
            tracing::warn!("reconciles did not end in time; the lease is left to expire");
            return Ok(());
        }
        idle.cancel();
        let release = async {
            held.await?.release().await;
            Ok(())
        };
        timeout(RELEASE_GRACE, release).await.unwrap_or(Ok(()))
    }

    /// Runs the workers until the stop signal, or until the lease is lost: then nothing is waited for.
    async fn work(&self, controllers: Vec<Controller>, lost: impl Future<Output = Option<LeaseError>>) -> Result<Rest> {
        let tasks = Tasks::new();
        for controller in controllers {
            tracing::info!(controller = controller.name(), "starting workers");
            controller.spawn(&self.metrics, &tasks);
        }
        let failed = tasks.stopping();
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = failed.cancelled() => {}
            lost = lost => return Err(lost.map_or_else(|| anyhow!("the lease ended"), Into::into)),
        }
        tasks.stop();
        let rest = if tasks.drained(WORKERS_GRACE).await { Rest::Idle } else { Rest::Busy };
        tasks.failure().map_or(Ok(rest), |failure| bail!(failure))
    }
}

#[derive(PartialEq, Eq)]
enum Rest {
    Idle,
    /// A reconcile is still running and may still write.
    Busy,
}

fn providers(flags: &Flags) -> Result<Vec<Provider>> {
    let all = [Provider::Infra, Provider::Ipam];
    let chosen: Vec<_> = all.into_iter().filter(|provider| flags.controllers.contains(provider)).collect();
    if chosen.is_empty() { bail!("--controllers names none") } else { Ok(chosen) }
}

fn register(provider: Provider, flags: &Flags, setup: &mut Setup) {
    match provider {
        Provider::Infra => {
            capm3_controllers::infra::register(setup);
            capm3_controllers::infra::register_migration(setup, &flags.skip_crd_migration_phases);
        }
        Provider::Ipam => capm3_controllers::ipam::register(setup),
    }
}

fn controller_options(flags: &Flags) -> Options {
    Options {
        watch_filter: non_empty(&flags.watch_filter),
        fast_track: std::env::var("CAPM3_FAST_TRACK").is_ok_and(|value| fast_track(&value)),
        name_based_preallocation: flags.enable_bmh_name_based_preallocation,
        workers: flags.concurrency.by_controller().into_iter().collect(),
    }
}

/// Manifests of the Go provider quote the value inside the substitution, so that quotes arrive here (PH-5).
fn fast_track(value: &str) -> bool {
    value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value) == "true"
}

/// Webhooks, health and diagnostics.
async fn start_servers(
    flags: &Flags,
    client: &Client,
    metrics: &Metrics,
    policy: &TlsPolicy,
    tasks: &Tasks,
) -> Result<()> {
    let mut health = Health::new();
    if flags.webhook_port != 0 {
        let address = format!(":{}", flags.webhook_port);
        let listener = listen(&address).await.with_context(|| format!("cannot listen on {address} for webhooks"))?;
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()));
        let certificate = if flags.self_signed {
            let keeper = self_signed(flags, client.default_namespace())?;
            keeper.spawn(client, policy.clone(), Arc::new(SystemClock), metrics, tasks)
        } else {
            Certificate::of_directory(flags.webhook_cert_dir.clone(), policy.clone(), metrics, tasks)
        };
        let router = observed(capm3_webhook::measured_router(webhooks(flags), metrics), metrics.clone());
        spawn_tls(listener, router, certificate, Limits::default(), tasks);
        health = health.check("webhook", move || check_tls(own));
    }
    if serves(&flags.health_addr) {
        let address = &flags.health_addr;
        let listener = listen(address).await.with_context(|| format!("cannot listen on {address} for health"))?;
        spawn_http(listener, health.router(), Limits::default(), tasks);
    }
    if serves(&flags.diagnostics_address) {
        let address = &flags.diagnostics_address;
        let listener = listen(address).await.with_context(|| format!("cannot listen on {address} for diagnostics"))?;
        if flags.insecure_diagnostics {
            spawn_http(listener, diagnostics(metrics.clone(), None), Limits::default(), tasks);
        } else {
            let certificate = Certificate::self_signed(policy, vec!["localhost".to_owned()])?;
            let router = diagnostics(metrics.clone(), Some(client.clone()));
            spawn_tls(listener, router, certificate, Limits::default(), tasks);
        }
    }
    Ok(())
}

/// Names as in the components files. With both providers in one process there is one certificate, kept in the first one's Secret.
fn self_signed(flags: &Flags, namespace: &str) -> Result<SelfSigned> {
    let providers = providers(flags)?;
    let name = |provider: &Provider, suffix: &str| format!("{}-{suffix}", provider.prefix());
    let configurations =
        |provider| ["mutating", "validating"].map(|phase| name(provider, &format!("{phase}-webhook-configuration")));
    let infra = providers.contains(&Provider::Infra);
    Ok(SelfSigned {
        secret: Key::new(namespace, name(&providers[0], "webhook-service-cert")),
        labels: [(label::PROVIDER.to_owned(), providers[0].label().to_owned())].into(),
        services: providers.iter().map(|provider| Key::new(namespace, name(provider, "webhook-service"))).collect(),
        // IPAM's kinds have one version: nothing of theirs is ever converted.
        definitions: INFRA_CRDS.iter().filter(|_| infra).map(|&name| name.to_owned()).collect(),
        configurations: providers.iter().flat_map(configurations).collect(),
    })
}

fn webhooks(flags: &Flags) -> Which {
    match (flags.controllers.contains(&Provider::Infra), flags.controllers.contains(&Provider::Ipam)) {
        (true, true) => Which::Both,
        (false, true) => Which::Ipam,
        (_, false) => Which::Infra,
    }
}

/// As in the Go managers, `0` switches a server off.
fn serves(address: &str) -> bool {
    !address.is_empty() && address != "0"
}

/// Which kinds the start waits for, or which have gone since, whenever that changes.
fn say_what_is_missing(hub: &Hub, tasks: &Tasks) {
    let (hub, stop) = (hub.clone(), tasks.stopping());
    tasks.spawn_finite(async move {
        let (start, mut said) = (Instant::now(), Vec::new());
        while stop.run_until_cancelled(tokio::time::sleep(SAY_AGAIN)).await.is_some() {
            // What is not served is said at once; a first list may take its time.
            let waiting = if start.elapsed() < PATIENCE { hub.missing() } else { hub.waiting_for() };
            if waiting == said {
                continue;
            }
            if waiting.is_empty() {
                tracing::info!("every kind is served");
            } else {
                tracing::info!(kinds = waiting.join(", "), "controllers wait for kinds");
            }
            said = waiting;
        }
    });
}

/// Host name and chance: a restarted process is another candidate.
fn identity(dice: &dyn Dice) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), dice.roll())
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Each step of the end is bounded, and all of them fit into the 10 s that the manifests give a Pod.
    #[test]
    fn ph_3_the_end_takes_eight_seconds_at_most() {
        assert!(WORKERS_GRACE + RELEASE_GRACE + SERVERS_GRACE <= Duration::from_secs(8));
    }

    #[test]
    fn p_3_fast_track_is_the_word_true_quoted_or_not() {
        for (value, expected) in
            [("true", true), ("'true'", true), ("", false), ("false", false), ("'true", false), ("1", false)]
        {
            assert_eq!(fast_track(value), expected, "{value}");
        }
    }

    #[test]
    fn p_32_the_names_of_a_self_signed_manager_are_those_of_the_manifests() {
        let about = |controllers: &str| {
            let flags = Flags::try_parse_from(["capm3-manager", controllers]).unwrap();
            self_signed(&flags, "there").unwrap()
        };
        let infra = about("--controllers=infra");
        assert_eq!(infra.secret, Key::new("there", "capm3-webhook-service-cert"));
        assert_eq!(infra.services, [Key::new("there", "capm3-webhook-service")]);
        let configurations = ["capm3-mutating-webhook-configuration", "capm3-validating-webhook-configuration"];
        assert_eq!(infra.configurations, configurations);
        assert_eq!(infra.definitions.len(), 9);
        let ipam = about("--controllers=ipam");
        assert_eq!(ipam.secret, Key::new("there", "ipam-webhook-service-cert"));
        assert!(ipam.definitions.is_empty());
        let both = about("--controllers=ipam,infra");
        assert_eq!((both.secret, both.services.len(), both.configurations.len()), (infra.secret, 2, 4));
    }
}
