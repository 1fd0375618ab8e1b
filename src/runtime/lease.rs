//! Who leads: one holder of a `coordination.k8s.io` Lease at a time.
//!
//! Every write carries the resourceVersion it was decided on, so of two candidates one gets a conflict. Expiry is judged by our
//! own monotonic clock: the holder stops once `renew_deadline` has passed since the start of its last successful renewal,
//! a candidate takes over once it has seen the same lease unchanged for the holder's whole `duration`. Clocks of machines are
//! never compared. Even so the lease only keeps two managers from working twice; what they write is safe by itself.
//!
//! Rules: P-5, K-144; proof F15, F16, I24.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::controller::chain;
use crate::metrics::{Gauge, Metrics};
use crate::object::Key;
use crate::read::Reader;
use crate::write::{WriteError, Writer};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    pub key: Key,
    /// Different in every process, also in a restarted one.
    pub identity: String,
    pub duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeaseError {
    #[error("the lease duration must be longer than the renew deadline, and that longer than the retry period")]
    Durations,
    #[error("the lease was lost")]
    Lost,
}

/// A candidate for a lease.
pub struct Candidate {
    reader: Reader,
    writer: Writer,
    options: LeaseOptions,
    clock: Arc<dyn Clock>,
    status: Gauge,
    /// The lease of another as last seen, and since when it looks like that.
    observed: Option<(Lease, Instant)>,
}

/// Why an attempt did not end in holding the lease.
enum NotYet {
    Held,
    Raced,
    Failed(String),
}

impl Candidate {
    pub fn new(
        client: Client,
        options: LeaseOptions,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, LeaseError> {
        if options.duration <= options.renew_deadline || options.renew_deadline <= options.retry_period {
            return Err(LeaseError::Durations);
        }
        let status = metrics.gauge(
            "leader_election_master_status",
            "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master.",
            &[("name", &options.key.name)],
        );
        let deadline = options.retry_period.max(Duration::from_secs(1));
        let (reader, writer) =
            (Reader::with_deadline(client.clone(), deadline), Writer::uncached(client).with_deadline(deadline));
        Ok(Self { reader, writer, options, clock, status, observed: None })
    }

    /// Waits until the lease is ours.
    pub async fn acquire(mut self) -> Leader {
        let mut said = false;
        loop {
            let started = Instant::now();
            match self.attempt().await {
                Ok(lease) => {
                    tracing::info!(lease = %self.options.key, identity = self.options.identity, "leading");
                    self.status.set(1.0);
                    return Leader { candidate: self, lease, renewed: started };
                }
                Err(NotYet::Held) if !said => {
                    said = true;
                    let holder = self.observed.as_ref().and_then(|(lease, _)| holder(lease)).unwrap_or_default();
                    tracing::info!(lease = %self.options.key, holder, "waiting for the lease");
                }
                Err(NotYet::Held | NotYet::Raced) => {}
                Err(NotYet::Failed(error)) => tracing::warn!(lease = %self.options.key, error, "cannot get the lease"),
            }
            sleep(self.options.retry_period).await;
        }
    }

    async fn attempt(&mut self) -> Result<Lease, NotYet> {
        let current =
            self.reader.get::<Lease>(&self.options.key).await.map_err(|error| NotYet::Failed(chain(&error)))?;
        let Some(current) = current else {
            let lease = self.claimed(None);
            return self.writer.create(&lease).await.map_err(not_yet);
        };
        if self.is_taken(&current) {
            return Err(NotYet::Held);
        }
        let lease = self.claimed(Some(&current));
        self.writer.replace(&lease).await.map_err(not_yet)
    }

    /// Whether someone holds the lease who may still believe in it.
    fn is_taken(&mut self, current: &Lease) -> bool {
        let Some(holder) = holder(current).filter(|holder| !holder.is_empty() && *holder != self.options.identity)
        else {
            return false;
        };
        let now = Instant::now();
        let since = match &self.observed {
            Some((seen, since)) if seen.metadata.resource_version == current.metadata.resource_version => *since,
            Some(_) | None => {
                self.observed = Some((current.clone(), now));
                now
            }
        };
        let theirs = current.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).and_then(|s| s.try_into().ok());
        let duration = theirs.map_or(self.options.duration, Duration::from_secs);
        let taken = now.duration_since(since) < duration;
        if !taken {
            tracing::info!(lease = %self.options.key, holder, "the lease has expired");
        }
        taken
    }

    /// The lease as ours, on top of what is there.
    fn claimed(&self, current: Option<&Lease>) -> Lease {
        let now = Some(MicroTime(self.clock.now()));
        let before = current.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let still_ours = before.holder_identity.as_deref() == Some(&self.options.identity);
        let spec = LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.options.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if still_ours { before.acquire_time.clone() } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(
                before.lease_transitions.unwrap_or_default() + i32::from(current.is_some() && !still_ours),
            ),
            ..before
        };
        let fresh = || ObjectMeta {
            name: Some(self.options.key.name.clone()),
            namespace: Some(self.options.key.namespace.clone()),
            ..ObjectMeta::default()
        };
        Lease { metadata: current.map_or_else(fresh, |lease| lease.metadata.clone()), spec: Some(spec) }
    }
}

/// Holds the lease; dropping it without [`Leader::release`] leaves it to expire.
pub struct Leader {
    candidate: Candidate,
    lease: Lease,
    renewed: Instant,
}

impl Leader {
    /// Renews until told to stop, then gives the lease up; an error when it was lost before that.
    pub async fn hold(mut self, stop: CancellationToken) -> Result<Self, LeaseError> {
        let period = self.candidate.options.retry_period;
        loop {
            if stop.run_until_cancelled(sleep(period)).await.is_none() {
                return Ok(self);
            }
            let give_up = self.renewed + self.candidate.options.renew_deadline;
            match timeout_at(give_up, self.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(LeaseError::Durations | LeaseError::Lost)) | Err(_) => {
                    self.candidate.status.set(0.0);
                    return Err(LeaseError::Lost);
                }
            }
        }
    }

    /// Tries until one renewal succeeds; lost when the lease names another.
    async fn renew(&mut self) -> Result<(), LeaseError> {
        loop {
            let started = Instant::now();
            match self.candidate.writer.replace(&self.candidate.claimed(Some(&self.lease))).await {
                Ok(lease) => {
                    (self.lease, self.renewed) = (lease, started);
                    return Ok(());
                }
                // Someone wrote it, perhaps this process with a reply that got lost: look before judging.
                Err(WriteError::Conflict(_) | WriteError::Unknown(_) | WriteError::NotFound(_)) => {
                    match self.candidate.reader.get::<Lease>(&self.candidate.options.key).await {
                        Ok(Some(lease)) if holder(&lease) == Some(&self.candidate.options.identity) => {
                            self.lease = lease
                        }
                        Ok(_) => return Err(LeaseError::Lost),
                        Err(error) => self.complain(&error),
                    }
                }
                Err(error) => self.complain(&error),
            }
            sleep(self.candidate.options.retry_period / 4).await;
        }
    }

    fn complain(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(lease = %self.candidate.options.key, error = chain(error), "cannot renew the lease");
    }

    /// Lets the next candidate in at once. Only after the last write of this process.
    pub async fn release(self) {
        let mut lease = self.lease;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(self.candidate.clock.now()));
        self.candidate.status.set(0.0);
        match self.candidate.writer.replace(&lease).await {
            Ok(_) => tracing::info!(lease = %self.candidate.options.key, "released the lease"),
            Err(error) => {
                tracing::warn!(lease = %self.candidate.options.key, error = chain(&error), "lease not released")
            }
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn not_yet(error: WriteError) -> NotYet {
    match error {
        WriteError::Conflict(_) | WriteError::AlreadyExists(_) => NotYet::Raced,
        other => NotYet::Failed(chain(&other)),
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::Value;
    use tower::service_fn;

    use super::*;
    use crate::clock::FixedClock;

    /// An API server with one lease: it keeps resourceVersions and refuses stale writes.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<Shelf>>);

    #[derive(Default)]
    struct Shelf {
        lease: Option<Value>,
        version: u64,
        down: bool,
    }

    impl Server {
        fn client(&self) -> Client {
            let server = self.clone();
            let service = service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move {
                    let method = request.method().clone();
                    let body = request.into_body().collect_bytes().await?;
                    let (code, answer) = server.answer(method.as_str(), serde_json::from_slice(&body).ok());
                    let answer = serde_json::to_vec(&answer)?;
                    Ok::<_, tower::BoxError>(Response::builder().status(code).body(Body::from(answer))?)
                }
            });
            Client::new(service, "default")
        }

        fn answer(&self, method: &str, body: Option<Value>) -> (u16, Value) {
            let mut shelf = self.0.lock();
            let status = |code: u16, reason: &str| {
                let status = serde_json::json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code,
                    "message": reason, "details": {"name": "lease"}});
                (code, status)
            };
            if shelf.down {
                return status(503, "ServiceUnavailable");
            }
            let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
            match (method, shelf.lease.clone(), body) {
                ("GET", Some(lease), _) => (200, lease),
                ("GET", None, _) => status(404, "NotFound"),
                ("POST", Some(_), _) => status(409, "AlreadyExists"),
                ("PUT", Some(lease), Some(body)) if version(&lease) != version(&body) => status(409, "Conflict"),
                (_, _, Some(mut body)) => {
                    shelf.version += 1;
                    body["metadata"]["resourceVersion"] = shelf.version.to_string().into();
                    shelf.lease = Some(body.clone());
                    (200, body)
                }
                (_, _, None) => status(400, "BadRequest"),
            }
        }

        fn holder(&self) -> String {
            let shelf = self.0.lock();
            shelf.lease.as_ref().map(|l| l["spec"]["holderIdentity"].as_str().unwrap().to_owned()).unwrap_or_default()
        }

        fn candidate(&self, identity: &str) -> Candidate {
            let options = LeaseOptions {
                key: Key::new("ns", "lease"),
                identity: identity.into(),
                duration: Duration::from_secs(15),
                renew_deadline: Duration::from_secs(10),
                retry_period: Duration::from_secs(2),
            };
            let clock = Arc::new(FixedClock::at(jiff::Timestamp::UNIX_EPOCH));
            Candidate::new(self.client(), options, clock, &Metrics::new()).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn k_144_the_second_waits_until_the_first_lets_go() {
        let server = Server::default();
        let first = server.candidate("a").acquire().await;
        assert_eq!(server.holder(), "a");
        let stop = CancellationToken::new();
        let hold = first.hold(stop.clone());
        let second = server.candidate("b").acquire();
        let start = Instant::now();
        let script = async {
            sleep(Duration::from_secs(60)).await;
            assert_eq!(server.holder(), "a", "renewals keep it");
            stop.cancel();
        };
        let (held, second, ()) = tokio::join!(
            async {
                hold.await.ok().unwrap().release().await;
            },
            second,
            script
        );
        let () = held;
        drop(second);
        assert_eq!(server.holder(), "b");
        assert!(start.elapsed() < Duration::from_secs(65), "no expiry to wait for after a release");
    }

    #[tokio::test(start_paused = true)]
    async fn f_16_a_killed_holder_is_followed_after_its_lease_has_expired() {
        let server = Server::default();
        drop(server.candidate("a").acquire().await);
        let start = Instant::now();
        let _second = server.candidate("b").acquire().await;
        assert!((15..=18).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn f_16_a_holder_stops_before_others_may_start_when_the_server_is_down() {
        let server = Server::default();
        let leader = server.candidate("a").acquire().await;
        let start = Instant::now();
        server.0.lock().down = true;
        let lost = leader.hold(CancellationToken::new()).await.err();
        assert_eq!(lost, Some(LeaseError::Lost));
        assert!(start.elapsed() <= Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn f_15_a_holder_that_finds_another_name_stops_at_its_next_renewal() {
        let server = Server::default();
        let leader = server.candidate("a").acquire().await;
        {
            let mut shelf = server.0.lock();
            shelf.version = 99;
            let lease = shelf.lease.as_mut().unwrap();
            lease["spec"]["holderIdentity"] = "b".into();
            lease["metadata"]["resourceVersion"] = "99".into();
        }
        assert_eq!(leader.hold(CancellationToken::new()).await.err(), Some(LeaseError::Lost));
        assert_eq!(server.holder(), "b", "the lost lease is not written again");
    }

    #[test]
    fn durations_that_cannot_work_are_refused() {
        let server = Server::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let mut options = server.candidate("a").options;
        options.renew_deadline = options.duration;
        let clock = Arc::new(FixedClock::at(jiff::Timestamp::UNIX_EPOCH));
        let refused = Candidate::new(server.client(), options, clock, &Metrics::new()).err();
        assert_eq!(refused, Some(LeaseError::Durations));
    }
}
