//! The load balancer that the site puts in front of a control plane: plain TCP, one per endpoint address.
//!
//! A backend is a machine that is on, whose API server answers `/readyz` with 200, and whose serving certificate names the endpoint: kubeadm
//! writes the endpoint into it, so the machines of one cluster never serve another's. The balancer listens before the first backend is there,
//! because kubeadm asks for the endpoint while it makes that backend. What is connected to a backend that goes down is cut off, as
//! clients of a dead machine would otherwise wait for their own time-outs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where kubeadm binds the API server, whatever the port of the endpoint.
const API_SERVER: u16 = 6443;
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// A backend that is up may be slow; one that is off is no candidate any more.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// One listening endpoint.
pub(crate) struct Balancer {
    endpoint: SocketAddr,
    listener: TcpListener,
    probe: TlsConnector,
    pool: Arc<Mutex<Pool>>,
}

impl Balancer {
    pub(crate) async fn bind(endpoint: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind(endpoint).await.with_context(|| format!("control-plane endpoint {endpoint}"))?;
        let provider = Arc::new(ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NamesEndpoint(provider)))
            .with_no_client_auth();
        Ok(Self { endpoint, listener, probe: TlsConnector::from(Arc::new(tls)), pool: Arc::default() })
    }

    /// Serves for ever; dropping the future closes everything.
    pub(crate) async fn serve(self, candidates: watch::Receiver<BTreeSet<IpAddr>>) {
        tokio::join!(self.accept(), self.watch(candidates));
    }

    async fn accept(&self) {
        let connections = TaskTracker::new();
        loop {
            match self.listener.accept().await {
                Ok((client, _)) => {
                    let pool = self.pool.clone();
                    connections.spawn(async move {
                        // A broken connection is between its two ends; the balancer has nothing to add.
                        let _ = relay(client, &pool).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(endpoint = %self.endpoint, %error, "accept");
                    tokio::time::sleep(PROBE_EVERY).await; // out of descriptors; they come back as connections end
                }
            }
        }
    }

    /// Keeps the pool as it should be: by probing, and at once when a machine is switched off.
    async fn watch(&self, mut candidates: watch::Receiver<BTreeSet<IpAddr>>) {
        let mut tick = interval(PROBE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    let asked = candidates.borrow_and_update().clone();
                    let ready = self.probe_all(&asked).await;
                    let ready = &ready & &*candidates.borrow(); // switched off while it was asked
                    self.set(&ready);
                }
                changed = candidates.changed() => {
                    if changed.is_err() {
                        return; // the room is closed
                    }
                    let on = candidates.borrow_and_update().clone();
                    let still = lock(&self.pool).addresses().intersection(&on).copied().collect();
                    self.set(&still);
                }
            }
        }
    }

    fn set(&self, up: &BTreeSet<IpAddr>) {
        if lock(&self.pool).set(up) {
            tracing::info!(endpoint = %self.endpoint, ?up, "control-plane backends");
        }
    }

    async fn probe_all(&self, candidates: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let mut probes = JoinSet::new();
        for &candidate in candidates {
            let (probe, endpoint) = (self.probe.clone(), self.endpoint.ip());
            probes.spawn(async move {
                let answer = timeout(PROBE_PATIENCE, ready(&probe, candidate, endpoint)).await;
                matches!(answer, Ok(Ok(true))).then_some(candidate)
            });
        }
        probes.join_all().await.into_iter().flatten().collect()
    }
}

async fn ready(probe: &TlsConnector, candidate: IpAddr, endpoint: IpAddr) -> io::Result<bool> {
    let tcp = TcpStream::connect((candidate, API_SERVER)).await?;
    let mut tls = probe.connect(ServerName::from(endpoint), tcp).await?;
    tls.write_all(b"GET /readyz HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n").await?;
    let mut status = String::new();
    BufReader::new(tls).read_line(&mut status).await?;
    Ok(status.split(' ').nth(1) == Some("200"))
}

async fn relay(mut client: TcpStream, pool: &Mutex<Pool>) -> io::Result<()> {
    let turn = lock(pool).turn();
    for (address, down) in turn {
        let Ok(Ok(mut backend)) = timeout(CONNECT_PATIENCE, TcpStream::connect((address, API_SERVER))).await else {
            continue;
        };
        client.set_nodelay(true)?;
        backend.set_nodelay(true)?;
        tokio::select! {
            done = tokio::io::copy_bidirectional(&mut client, &mut backend) => { done?; }
            () = down.cancelled() => client.set_zero_linger()?, // reset: whatever was asked got no answer
        }
        return Ok(());
    }
    client.set_zero_linger() // nobody is up: connection reset, and the client tries again
}

/// The backends that are up, and whose turn it is.
#[derive(Default)]
struct Pool {
    up: BTreeMap<IpAddr, CancellationToken>,
    turn: usize,
}

impl Pool {
    /// Makes exactly these the backends; connections of those that go are cancelled. Says whether that was a change.
    fn set(&mut self, wanted: &BTreeSet<IpAddr>) -> bool {
        let before = self.addresses();
        for down in before.difference(wanted) {
            if let Some(connections) = self.up.remove(down) {
                connections.cancel();
            }
        }
        for &new in wanted.difference(&before) {
            self.up.insert(new, CancellationToken::new());
        }
        before != *wanted
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.up.keys().copied().collect()
    }

    /// All backends in the order to try them for the next connection, each with the token that ends it.
    fn turn(&mut self) -> Vec<(IpAddr, CancellationToken)> {
        let mut order: Vec<_> = self.up.iter().map(|(address, down)| (*address, down.clone())).collect();
        if !order.is_empty() {
            let first = self.turn % order.len();
            order.rotate_left(first);
            self.turn = self.turn.wrapping_add(1);
        }
        order
    }
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trusts no authority, as a load balancer knows none, but insists that the certificate is for the endpoint.
#[derive(Debug)]
struct NamesEndpoint(Arc<CryptoProvider>);

impl ServerCertVerifier for NamesEndpoint {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        endpoint: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, endpoint)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(last: &[u8]) -> BTreeSet<IpAddr> {
        last.iter().map(|&n| IpAddr::from([192, 0, 2, n])).collect()
    }

    fn order(pool: &mut Pool) -> Vec<IpAddr> {
        pool.turn().into_iter().map(|(address, _)| address).collect()
    }

    #[test]
    fn connections_go_around_and_every_other_backend_is_the_fallback() {
        let mut pool = Pool::default();
        assert!(order(&mut pool).is_empty());
        assert!(pool.set(&set(&[1, 2, 3])));
        let ip = |n| IpAddr::from([192, 0, 2, n]);
        assert_eq!(order(&mut pool), [ip(1), ip(2), ip(3)]);
        assert_eq!(order(&mut pool), [ip(2), ip(3), ip(1)]);
        assert_eq!(order(&mut pool), [ip(3), ip(1), ip(2)]);
        assert_eq!(order(&mut pool), [ip(1), ip(2), ip(3)]);
    }

    #[test]
    fn a_backend_that_goes_down_takes_its_connections_along_and_no_others() {
        let mut pool = Pool::default();
        pool.set(&set(&[1, 2]));
        let before = pool.turn();
        assert!(!pool.set(&set(&[1, 2])));
        assert!(pool.set(&set(&[2])));
        assert_eq!(before.iter().map(|(_, down)| down.is_cancelled()).collect::<Vec<_>>(), [true, false]);
        assert!(pool.set(&set(&[1, 2])));
        assert!(pool.turn().iter().all(|(_, down)| !down.is_cancelled()), "up again is a new life");
    }

    fn certificate_for(name: &str) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_for_another_clusters_endpoint_does_not_pass() {
        let verifier = NamesEndpoint(Arc::new(ring::default_provider()));
        let endpoint = ServerName::from(IpAddr::from([198, 51, 100, 100]));
        let verify = |name: &str| {
            verifier.verify_server_cert(
                &certificate_for(name),
                &[],
                &endpoint,
                &[],
                UnixTime::since_unix_epoch(Duration::ZERO),
            )
        };
        assert!(verify("198.51.100.100").is_ok());
        assert!(verify("198.51.100.101").is_err());
    }

    /// Before any backend is there a client is accepted and reset, not left hanging and not refused.
    #[tokio::test]
    async fn without_a_backend_connections_are_reset() {
        let balancer = Balancer::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = balancer.listener.local_addr().unwrap();
        let (_keep, candidates) = watch::channel(BTreeSet::new());
        let mut serving = JoinSet::new();
        serving.spawn(balancer.serve(candidates));
        let mut client = TcpStream::connect(address).await.unwrap();
        let read = tokio::io::AsyncReadExt::read(&mut client, &mut [0; 1]).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
