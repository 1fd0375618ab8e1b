//! TLS for our servers: the certificate of a directory, read again when its content changes, one that [`crate::SelfSigned`]
//! keeps, or one that lives as long as the process.
//!
//! A mounted Secret changes by swapping a symlink, which file watches miss; so the content is read every few seconds and
//! compared. A pair that does not load is reported and the one before stays in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::crypto::CryptoProvider;
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::controller::chain;
use crate::metrics::{Counter, Metrics};
use crate::tasks::Tasks;

const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Until the first pair is there, waiting for it is what start-up does.
const LOOK_AGAIN_EMPTY: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS version {0} is not one of VersionTLS12, VersionTLS13")]
    Version(String),
    #[error("cipher suite {name} is not supported; supported are {known}")]
    Cipher { name: String, known: String },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no usable PEM")]
    Pem { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("certificate and key do not fit together or the settings")]
    Pair(#[source] rustls::Error),
    #[error("cannot sign a certificate")]
    Sign(#[source] rcgen::Error),
}

/// What `--tls-min-version` and `--tls-cipher-suites` say.
#[derive(Clone)]
pub struct TlsPolicy {
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: Arc<CryptoProvider>,
}

impl TlsPolicy {
    /// Go's names of versions and IANA's of cipher suites; an empty list of suites leaves the choice to us. As in Go, suites
    /// are chosen for TLS 1.2 only.
    pub fn new(min_version: &str, suites: &[String]) -> Result<Self, TlsError> {
        let versions = match min_version {
            "VersionTLS12" => vec![&rustls::version::TLS13, &rustls::version::TLS12],
            "VersionTLS13" => vec![&rustls::version::TLS13],
            other => return Err(TlsError::Version(other.to_owned())),
        };
        let mut provider = rustls::crypto::ring::default_provider();
        let suites: Vec<_> = suites.iter().filter(|suite| !suite.is_empty()).collect(); // `--tls-cipher-suites=`
        if !suites.is_empty() {
            let name = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            let known: Vec<_> = provider.cipher_suites.iter().map(name).collect();
            if let Some(&unknown) = suites.iter().find(|suite| !known.contains(suite)) {
                return Err(TlsError::Cipher { name: unknown.clone(), known: known.join(", ") });
            }
            provider.cipher_suites.retain(|suite| suite.tls13().is_some() || suites.contains(&&name(suite)));
        }
        Ok(Self { versions, provider: Arc::new(provider) })
    }

    fn config(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_protocol_versions(&self.versions).map_err(TlsError::Pair)?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The certificate in use, if one has been loaded; clones share it.
#[derive(Clone, Default)]
pub struct Certificate(Arc<RwLock<Option<Arc<ServerConfig>>>>);

impl Certificate {
    /// One for this process alone, for a server whose clients do not verify.
    pub fn self_signed(policy: &TlsPolicy, names: Vec<String>) -> Result<Self, TlsError> {
        let signed = rcgen::generate_simple_self_signed(names).map_err(TlsError::Sign)?;
        let key = PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
        let config = policy.config(vec![signed.cert.der().clone()], key.into())?;
        Ok(Self(Arc::new(RwLock::new(Some(Arc::new(config))))))
    }

    /// `tls.crt` and `tls.key` of a directory, kept up to date by a task.
    pub fn of_directory(directory: PathBuf, policy: TlsPolicy, metrics: &Metrics, tasks: &Tasks) -> Self {
        let certificate = Self::default();
        let Reads { reads, errors } = Reads::of(metrics);
        let (shown, stop) = (certificate.clone(), tasks.stopping());
        let task = async move {
            let (mut last, mut last_error) = (None, String::new());
            loop {
                reads.inc();
                match read_pair(&directory).await {
                    Ok(pair) if last.as_ref() == Some(&pair) => {}
                    Ok(pair) => match shown.load(&directory, &policy, &pair) {
                        Ok(again) => {
                            tracing::info!(directory = %directory.display(), again, "serving certificate loaded");
                            (last, last_error) = (Some(pair), String::new());
                        }
                        Err(error) => complain(&error, &errors, &mut last_error),
                    },
                    Err(error) => complain(&error, &errors, &mut last_error),
                }
                tokio::time::sleep(if last.is_some() { LOOK_AGAIN } else { LOOK_AGAIN_EMPTY }).await;
            }
        };
        tasks.spawn("certificate", async move {
            stop.run_until_cancelled(task).await;
        });
        certificate
    }

    /// Serves this pair from the next connection on; says whether it replaced another. `origin` is for messages.
    pub(crate) fn load(&self, origin: &Path, policy: &TlsPolicy, pair: &Pair) -> Result<bool, TlsError> {
        let broken = |name: &str| {
            let path = origin.join(name);
            move |source| TlsError::Pem { path, source }
        };
        let chain = pair.chain().map_err(broken("tls.crt"))?;
        let config = policy.config(chain, pair.key().map_err(broken("tls.key"))?)?;
        Ok(self.0.write().replace(Arc::new(config)).is_some())
    }

    pub fn is_loaded(&self) -> bool {
        self.0.read().is_some()
    }

    pub(crate) fn current(&self) -> Option<Arc<ServerConfig>> {
        self.0.read().clone()
    }
}

/// Once per kind of trouble, not every few seconds.
fn complain(error: &TlsError, errors: &Counter, last: &mut String) {
    errors.inc();
    let words = chain(error);
    if words != *last {
        tracing::warn!(error = words, "serving certificate not loaded");
        *last = words;
    }
}

/// How often a certificate was read, under the names of controller-runtime's watcher.
pub(crate) struct Reads {
    pub(crate) reads: Counter,
    pub(crate) errors: Counter,
}

impl Reads {
    pub(crate) fn of(metrics: &Metrics) -> Self {
        let count = |name, help| metrics.counter(name, help, &[]);
        Self {
            reads: count("certwatcher_read_certificate_total", "Total number of certificate reads"),
            errors: count("certwatcher_read_certificate_errors_total", "Total number of certificate read errors"),
        }
    }
}

/// A certificate chain and its key in PEM. Does not print, because of the key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Pair {
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
        CertificateDer::pem_slice_iter(&self.certificate).collect()
    }

    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, rustls_pki_types::pem::Error> {
        PrivateKeyDer::from_pem_slice(&self.key)
    }
}

async fn read_pair(directory: &Path) -> Result<Pair, TlsError> {
    let read = async |name: &str| {
        let path = directory.join(name);
        tokio::fs::read(&path).await.map_err(|source| TlsError::Read { path, source })
    };
    Ok(Pair { certificate: read("tls.crt").await?, key: read("tls.key").await? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_1_old_versions_and_unknown_suites_are_refused_by_name() {
        assert!(matches!(TlsPolicy::new("VersionTLS10", &[]), Err(TlsError::Version(_))));
        let refused = TlsPolicy::new("VersionTLS12", &["TLS_RSA_WITH_RC4_128_SHA".to_owned()]).err().unwrap();
        assert!(refused.to_string().starts_with("cipher suite TLS_RSA_WITH_RC4_128_SHA is not supported"));
        assert!(TlsPolicy::new("VersionTLS12", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()]).is_ok());
        assert!(TlsPolicy::new("VersionTLS13", &["TLS_AES_128_GCM_SHA256".to_owned()]).is_ok());
    }
}
