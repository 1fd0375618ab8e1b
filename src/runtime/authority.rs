//! Which certificate serves, which comes next and whom callers trust: what a manager decides that has no cert-manager.
//!
//! The Secret is the one truth. It holds the pair that serves, the authorities that callers trust (`ca.crt`) and, while one
//! pair is about to replace another, the next one. An authority signs one certificate and its key is thrown away, so trusting
//! it is trusting that certificate and nothing else; it stays in the bundle until the certificate has expired, whoever still
//! serves it. A change takes two steps: the next pair is laid beside the first while its authority goes into every bundle, and
//! takes the first one's place when all callers have had time to see that.
//!
//! A pair that somebody else put into the Secret is used like our own as long as callers would accept it. So a cluster leaves
//! cert-manager without a gap; and where cert-manager still renews the Secret, which it does earlier, nothing is written here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};

use crate::tls::Pair;

const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// A certificate counts from before its making: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3600);
/// A certificate is replaced when this part of its life is left; cert-manager's default is a third.
const LAST_PART: u32 = 4;
/// API servers watch the bundles; this is ample for the slowest.
const SETTLING: Duration = Duration::from_secs(600);
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
pub(crate) const BUNDLE: &str = "ca.crt";
pub(crate) const NEXT_CERTIFICATE: &str = "next-tls.crt";
pub(crate) const NEXT_KEY: &str = "next-tls.key";

/// The content of the Secret; absent parts are empty.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) serving: Option<Pair>,
    pub(crate) next: Option<Pair>,
    pub(crate) bundle: String,
}

/// What is known when it is decided what to do.
pub(crate) struct Observed<'a> {
    pub(crate) held: &'a Held,
    /// The DNS names under which callers find us.
    pub(crate) names: &'a [String],
    /// Since when every caller has been seen with the bundle of `held`, if all have it.
    pub(crate) trusted_since: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The pair of the Secret is good: callers get its bundle, and then it serves.
    pub(crate) serve: bool,
    pub(crate) change: Option<Change>,
    pub(crate) again: Duration,
}

/// A write of the Secret. Bundles are complete; what is signed is appended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing there is usable: a fresh pair serves.
    Issue { bundle: String },
    /// A fresh pair is laid beside the one that serves.
    Stage { bundle: String },
    /// The next pair serves.
    Promote,
    /// Expired authorities, and a next pair that nobody waits for, go.
    Tidy { bundle: String },
}

pub(crate) fn decide(observed: &Observed<'_>) -> Plan {
    let Observed { held, names, trusted_since, now } = *observed;
    let judge = |pair: &Option<Pair>| pair.as_ref().and_then(|pair| life(pair, &held.bundle, names, now));
    let Living { bundle, first_end } = living(&held.bundle, now);
    let (serving, next) = (judge(&held.serving), judge(&held.next));
    let then = |serve, change| Plan { serve, change: Some(change), again: LOOK_AGAIN };
    let rest = |until: Timestamp| Plan { serve: true, change: None, again: LOOK_AGAIN.min(left(now, until)) };
    match (serving, next) {
        (None, None) => then(false, Change::Issue { bundle }),
        (None, Some(_)) => then(false, Change::Promote),
        (Some(life), None) if life.is_last_part(now) => then(true, Change::Stage { bundle }),
        (Some(life), Some(_)) if life.is_last_part(now) => match trusted_since.map(|since| later(since, SETTLING)) {
            Some(settled) if settled <= now => then(true, Change::Promote),
            Some(settled) => rest(settled),
            None => rest(later(now, SETTLING)),
        },
        _ if bundle != held.bundle || held.next.is_some() => then(true, Change::Tidy { bundle }),
        (Some(life), _) => rest(life.last_part().min(first_end.unwrap_or(life.until))),
    }
}

/// From when until when a certificate is valid.
#[derive(Clone, Copy)]
struct Life {
    from: Timestamp,
    until: Timestamp,
}

impl Life {
    fn last_part(&self) -> Timestamp {
        later(self.from, left(self.from, self.until) / LAST_PART * (LAST_PART - 1))
    }

    fn is_last_part(&self, now: Timestamp) -> bool {
        now >= self.last_part()
    }
}

fn left(now: Timestamp, until: Timestamp) -> Duration {
    now.duration_until(until).try_into().unwrap_or(Duration::ZERO)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The life of a pair that a caller who trusts `bundle` accepts now under every name; else nothing.
fn life(pair: &Pair, bundle: &str, names: &[String], now: Timestamp) -> Option<Life> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = pair.chain().ok()?;
    CertifiedKey::from_der(chain.clone(), pair.key().ok()?, &provider).ok()?;
    let (first, others) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(blocks(bundle).filter_map(der));
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().ok()?));
    let accepted = |name: &String| {
        let name = ServerName::try_from(name.as_str()).ok()?;
        verifier.verify_server_cert(first, others, &name, &[], at).ok()
    };
    names.iter().all(|name| accepted(name).is_some()).then_some(())?;
    validity(first)
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Life> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let time = |t: x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).ok();
    let validity = certificate.validity();
    Some(Life { from: time(validity.not_before)?, until: time(validity.not_after)? })
}

/// A bundle without what has expired or is no certificate, and when the next of its certificates expires.
struct Living {
    bundle: String,
    first_end: Option<Timestamp>,
}

fn living(bundle: &str, now: Timestamp) -> Living {
    let end = |block: &str| validity(&der(block)?).map(|life| life.until);
    let alive = |block| end(block).is_some_and(|end| end > now);
    if blocks(bundle).all(alive) && blocks(bundle).next().is_some() {
        // As it is, to the byte: it may be somebody else's.
        return Living { bundle: bundle.to_owned(), first_end: blocks(bundle).filter_map(end).min() };
    }
    let kept: Vec<_> = blocks(bundle).filter(|block| alive(block)).collect();
    let first_end = kept.iter().filter_map(|block| end(block)).min();
    Living { bundle: kept.iter().map(|block| format!("{block}\n")).collect(), first_end }
}

/// The certificates of a bundle, each with its armour.
fn blocks(bundle: &str) -> impl Iterator<Item = &str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    bundle.split_inclusive(END).filter_map(|part| Some(part[part.find(BEGIN)?..].trim()))
}

fn der(block: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(block.as_bytes()).ok()
}

/// A pair and the authority that signed it.
pub(crate) struct Issued {
    pub(crate) pair: Pair,
    pub(crate) authority: String,
}

/// Signs a certificate for these names with an authority that is made for it and forgotten.
pub(crate) fn issue(names: &[String], now: Timestamp) -> Result<Issued, rcgen::Error> {
    let day = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Timestamp| day + Duration::from_secs(time.as_second().try_into().unwrap_or_default());
    let params = |name: &str, names: Vec<String>| -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) =
            (at(now.checked_sub(BACKDATED).unwrap_or(now)), at(later(now, LIFETIME)));
        Ok(params)
    };
    let mut authority = params(&format!("capm3 webhook authority {}", now.as_second()), Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let signer = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&signer)?;
    let mut certificate = params("capm3 webhooks", names.to_vec())?;
    certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    certificate.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = certificate.signed_by(&key, &Issuer::new(authority, signer))?;
    let pair = Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() };
    Ok(Issued { pair, authority: authority_certificate.pem() })
}

/// The `data` of the Secret that carries out a change, as a merge patch; `fresh` is what [`Change::signs`] asked for.
pub(crate) fn data(held: &Held, change: &Change, fresh: Option<&Issued>) -> Value {
    let bytes = |bytes: &[u8]| json!(ByteString(bytes.to_vec()));
    let mut data = serde_json::Map::new();
    let mut lay = |pair: &Pair, certificate: &str, key: &str| {
        data.insert(certificate.to_owned(), bytes(&pair.certificate));
        data.insert(key.to_owned(), bytes(&pair.key));
    };
    match (change, fresh) {
        (Change::Issue { .. }, Some(fresh)) => lay(&fresh.pair, CERTIFICATE, KEY),
        (Change::Stage { .. }, Some(fresh)) => lay(&fresh.pair, NEXT_CERTIFICATE, NEXT_KEY),
        (Change::Promote, _) => held.next.iter().for_each(|next| lay(next, CERTIFICATE, KEY)),
        (Change::Issue { .. } | Change::Stage { .. } | Change::Tidy { .. }, _) => {}
    }
    if let Change::Issue { bundle } | Change::Stage { bundle } | Change::Tidy { bundle } = change {
        let gap = if bundle.is_empty() || bundle.ends_with('\n') { "" } else { "\n" };
        let authority = fresh.map(|fresh| format!("{gap}{}", fresh.authority)).unwrap_or_default();
        data.insert(BUNDLE.to_owned(), bytes(format!("{bundle}{authority}").as_bytes()));
    }
    if !matches!(change, Change::Stage { .. }) && held.next.is_some() {
        data.insert(NEXT_CERTIFICATE.to_owned(), Value::Null);
        data.insert(NEXT_KEY.to_owned(), Value::Null);
    }
    data.into()
}

impl Change {
    /// The change needs a pair that is signed for it.
    pub(crate) fn signs(&self) -> bool {
        matches!(self, Self::Issue { .. } | Self::Stage { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn names() -> Vec<String> {
        ["svc.ns.svc.cluster.local", "svc.ns.svc"].map(str::to_owned).to_vec()
    }

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn look(held: &Held, trusted_since: Option<Timestamp>, now: Timestamp) -> Plan {
        decide(&Observed { held, names: &names(), trusted_since, now })
    }

    /// The Secret after a change, as the API server would merge it.
    fn carry_out(held: &Held, change: &Change, now: Timestamp) -> Held {
        let fresh = change.signs().then(|| issue(&names(), now).unwrap());
        let mut parts = serde_json::Map::new();
        for (pair, certificate, key) in [(&held.serving, CERTIFICATE, KEY), (&held.next, NEXT_CERTIFICATE, NEXT_KEY)] {
            if let Some(pair) = pair {
                parts.insert(certificate.into(), json!(ByteString(pair.certificate.clone())));
                parts.insert(key.into(), json!(ByteString(pair.key.clone())));
            }
        }
        parts.insert(BUNDLE.into(), json!(ByteString(held.bundle.clone().into_bytes())));
        for (name, value) in data(held, change, fresh.as_ref()).as_object().unwrap() {
            match value {
                Value::Null => parts.remove(name),
                value => parts.insert(name.clone(), value.clone()),
            };
        }
        let part = |name: &str| serde_json::from_value::<ByteString>(parts.get(name)?.clone()).ok().map(|b| b.0);
        let pair = |c, k| Some(Pair { certificate: part(c)?, key: part(k)? });
        let bundle = String::from_utf8(part(BUNDLE).unwrap()).unwrap();
        Held { serving: pair(CERTIFICATE, KEY), next: pair(NEXT_CERTIFICATE, NEXT_KEY), bundle }
    }

    fn fresh(now: Timestamp) -> Held {
        let held = Held::default();
        let plan = look(&held, None, now);
        assert_eq!(plan.change, Some(Change::Issue { bundle: String::new() }));
        assert!(!plan.serve);
        carry_out(&held, &plan.change.unwrap(), now)
    }

    fn accepted(pair: &Pair, bundle: &str, now: Timestamp) -> bool {
        life(pair, bundle, &names(), now).is_some()
    }

    fn authorities(held: &Held) -> usize {
        blocks(&held.bundle).count()
    }

    #[test]
    fn an_empty_secret_gets_a_certificate_that_callers_accept_under_every_name() {
        let held = fresh(start());
        let pair = held.serving.as_ref().unwrap();
        assert!(accepted(pair, &held.bundle, start()));
        assert!(life(pair, &held.bundle, &["other.ns.svc".to_owned()], start()).is_none());
        assert!(life(pair, &fresh(start()).bundle, &names(), start()).is_none(), "another authority does not do");
        let plan = look(&held, None, start());
        assert_eq!((plan.serve, plan.change, plan.again), (true, None, LOOK_AGAIN));
    }

    /// A year, looked at every four hours. Callers act on the bundle of [`SETTLING`] ago, replicas serve the pair of then or of now.
    #[test]
    fn at_no_time_does_a_caller_meet_a_certificate_it_does_not_trust() {
        let mut held = fresh(start());
        let (mut since, mut now) = (start(), start());
        let (mut issued, mut promoted, mut most) = (1, 0, 0);
        while now < later(start(), 365 * DAY) {
            now = later(now, DAY / 6);
            let before = (held.serving.clone().unwrap(), held.bundle.clone());
            let plan = look(&held, Some(since), now);
            assert!(plan.serve, "{now}");
            if let Some(change) = &plan.change {
                held = carry_out(&held, change, now);
                issued += usize::from(change.signs());
                promoted += usize::from(*change == Change::Promote);
            }
            since = if held.bundle == before.1 { since } else { now };
            let serving = held.serving.as_ref().unwrap();
            assert!(accepted(serving, &before.1, now), "{now}: new certificate, old bundle");
            assert!(accepted(&before.0, &held.bundle, now), "{now}: old certificate, new bundle");
            most = most.max(authorities(&held));
        }
        assert_eq!((issued, promoted, most), (6, 5, 2));
    }

    #[test]
    fn the_next_certificate_waits_until_all_callers_have_known_its_authority_for_a_while() {
        let held = fresh(start());
        let now = later(start(), 68 * DAY);
        let plan = look(&held, Some(start()), now);
        assert_eq!(plan.change, Some(Change::Stage { bundle: held.bundle.clone() }));
        let held = carry_out(&held, &plan.change.unwrap(), now);
        assert_eq!(authorities(&held), 2);
        assert_eq!(look(&held, None, now), Plan { serve: true, change: None, again: SETTLING });
        let almost = later(now, SETTLING - Duration::from_secs(1));
        assert_eq!(look(&held, Some(now), almost), Plan { serve: true, change: None, again: Duration::from_secs(1) });
        let plan = look(&held, Some(now), later(now, SETTLING));
        assert_eq!(plan.change, Some(Change::Promote));
        let after = carry_out(&held, &plan.change.unwrap(), now);
        assert!(after.serving == held.next && after.next.is_none() && after.bundle == held.bundle);
        // The old authority goes when nothing that it signed is valid any more.
        let expired = later(start(), LIFETIME);
        let plan = look(&after, Some(now), expired);
        assert!(matches!(&plan.change, Some(Change::Tidy { bundle }) if blocks(bundle).count() == 1));
        assert_eq!(authorities(&carry_out(&after, &plan.change.unwrap(), expired)), 1);
        assert_eq!(look(&after, Some(now), later(start(), LIFETIME - DAY)).change, None);
    }

    #[test]
    fn what_callers_refuse_is_replaced_at_once() {
        let good = || fresh(start());
        let other = fresh(start());
        let now = start();
        let broken: [(&str, Held); 5] = [
            (
                "key of another",
                Held {
                    serving: Some(Pair { key: other.serving.clone().unwrap().key, ..good().serving.unwrap() }),
                    ..good()
                },
            ),
            ("no PEM", Held { serving: Some(Pair { certificate: b"x".to_vec(), key: b"y".to_vec() }), ..good() }),
            ("no bundle", Held { bundle: String::new(), ..good() }),
            ("other bundle", Held { bundle: other.bundle, ..good() }),
            (
                "garbage bundle",
                Held { bundle: "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----".into(), ..good() },
            ),
        ];
        for (what, held) in broken {
            let plan = look(&held, Some(now), now);
            assert!(!plan.serve && matches!(plan.change, Some(Change::Issue { .. })), "{what}: {plan:?}");
            let held = carry_out(&held, &plan.change.unwrap(), now);
            assert!(look(&held, None, now) == Plan { serve: true, change: None, again: LOOK_AGAIN }, "{what}");
        }
        let expired = later(start(), LIFETIME + DAY);
        let plan = look(&good(), Some(start()), expired);
        assert_eq!((plan.serve, plan.change), (false, Some(Change::Issue { bundle: String::new() })));
    }

    #[test]
    fn an_expired_certificate_gives_way_to_the_next_without_a_wait() {
        let now = later(start(), 68 * DAY);
        let held = fresh(start());
        let held = carry_out(&held, &look(&held, None, now).change.unwrap(), now);
        let late = later(start(), LIFETIME + DAY);
        assert_eq!(look(&held, None, late), Plan { serve: false, change: Some(Change::Promote), again: LOOK_AGAIN });
        let held = carry_out(&held, &Change::Promote, late);
        assert!(look(&held, None, late).serve);
    }

    /// As cert-manager's self-signed issuer leaves it: the certificate is its own authority. It renews when a third is left.
    #[test]
    fn a_pair_of_somebody_else_serves_until_it_is_nearly_over() {
        let mut params = CertificateParams::new(names()).unwrap();
        let day = rcgen::date_time_ymd(2026, 1, 1);
        (params.not_before, params.not_after) = (day, day + LIFETIME);
        let key = KeyPair::generate().unwrap();
        let bundle = params.self_signed(&key).unwrap().pem().replace('\n', "\r\n");
        let pair = Pair { certificate: bundle.clone().into_bytes(), key: key.serialize_pem().into_bytes() };
        let held = Held { serving: Some(pair), next: None, bundle: bundle.clone() };
        assert_eq!(look(&held, None, start()), Plan { serve: true, change: None, again: LOOK_AGAIN });
        assert_eq!(look(&held, None, later(start(), 61 * DAY)).change, None);
        let plan = look(&held, None, later(start(), 68 * DAY));
        assert_eq!((plan.serve, &plan.change), (true, &Some(Change::Stage { bundle })));
        let next = carry_out(&held, &plan.change.unwrap(), later(start(), 68 * DAY));
        assert!(next.serving == held.serving && authorities(&next) == 2);
    }

    #[test]
    fn a_next_pair_that_nobody_waits_for_goes() {
        let held = fresh(start());
        let mut held = carry_out(&held, &Change::Stage { bundle: held.bundle.clone() }, start());
        let plan = look(&held, Some(start()), start());
        assert_eq!(plan.change, Some(Change::Tidy { bundle: held.bundle.clone() }));
        held = carry_out(&held, &plan.change.unwrap(), start());
        assert!(held.next.is_none());
        assert_eq!(look(&held, Some(start()), start()).change, None);
    }
}
