//! Passes over a small pool whose plans are played into it, whole and cut off anywhere.

mod claims;
mod fuzz;
mod pools;
mod table;

use super::pass::{MANY, TOO_MANY};
use super::*;
use crate::ipam::allocate::Range;
use crate::ipam::range::{Address, Bounds, Interval, object_name};

/// A small world that a plan can be played into.
struct World(Observed);

fn at(text: &str) -> String {
    if text.starts_with('.') { format!("192.168.0{text}") } else { text.to_owned() }
}

fn pool(ranges: &[(&str, &str)]) -> World {
    let ranges = ranges.iter().map(|(start, end)| {
        let (start, end) = (at(start), at(end));
        let bounds = Bounds { start: Some(&start), end: Some(&end), subnet: None };
        Range { interval: Interval::of(bounds).unwrap(), prefix: 24, gateway: None, dns_servers: Vec::new() }
    });
    let metadata = ObjectMeta {
        name: Some("abc".into()),
        namespace: Some("myns".into()),
        creation_timestamp: Some(Time(Timestamp::from_second(1000).unwrap())),
        finalizers: Some(vec![finalizer::IP_POOL.into()]),
        ..ObjectMeta::default()
    };
    let last_updated = Some(Time(Timestamp::from_second(1000).unwrap()));
    let offer = Offer { ranges: ranges.collect(), ..Offer::default() };
    let pool = Pool { metadata, name_prefix: "abcpref".into(), offer, last_updated, ..Pool::default() };
    World(Observed { pool, now: Timestamp::from_second(2000).unwrap(), ..Observed::default() })
}

fn claim(kind: Kind, name: &str) -> Claim {
    Claim {
        key: ClaimKey::new(kind, name),
        uid: format!("{kind:?}-{name}"),
        resource_version: None,
        created: None,
        deleting: false,
        finalizers: Vec::new(),
        paused: false,
        cluster: None,
        requested: None,
        answer: None,
    }
}

fn m3(name: &str) -> Claim {
    claim(Kind::Metal3, name)
}

fn capi(name: &str) -> Claim {
    claim(Kind::ClusterApi, name)
}

fn asking(claim: Claim, address: &str) -> Claim {
    Claim { requested: Some(at(address)), ..claim }
}

fn failed(claim: Claim, failure: &Failure) -> Claim {
    let ours = claim.key.kind.claim_finalizer().to_owned();
    Claim { answer: Some(Answer::from(failure)), finalizers: vec![ours], ..claim }
}

/// Being deleted, with our finalizer and perhaps others.
fn leaving(claim: Claim, others: &[&str]) -> Claim {
    let ours = claim.key.kind.claim_finalizer().to_owned();
    let finalizers = [ours].into_iter().chain(others.iter().map(|other| (*other).to_owned())).collect();
    Claim { deleting: true, finalizers, ..claim }
}

impl World {
    fn with(mut self, claim: Claim) -> Self {
        self.0.claims.push(claim);
        self
    }

    /// The claim with an address object, as an earlier pass left them.
    fn holding(mut self, claim: Claim, address: &str) -> Self {
        let object = object(&claim, address);
        self.0.pool.indexes.insert(claim.key.name.clone(), at(address));
        let mut finalizers = claim.finalizers.clone();
        let ours = claim.key.kind.claim_finalizer().to_owned();
        if !finalizers.contains(&ours) {
            finalizers.push(ours);
        }
        self.0.claims.push(Claim { answer: Some(Answer::Address(object.name.clone())), finalizers, ..claim });
        self.0.addresses.push(object);
        self
    }

    fn kept(mut self, claim: &str, address: &str) -> Self {
        self.0.pool.offer.pre_allocations.insert(claim.into(), Some(at(address).parse().unwrap()));
        self
    }

    fn deleting(mut self) -> Self {
        self.0.pool.metadata.deletion_timestamp = Some(Time(self.0.now));
        self
    }

    fn decide(&self) -> Plan {
        decide(&self.0)
    }

    /// Carries out the first `steps` writes of the plan, as the controller would, and forgets about the rest.
    fn play(&mut self, plan: &Plan, steps: usize) {
        type Write = Box<dyn FnOnce(&mut Observed)>;
        let mut writes: Vec<Write> = Vec::new();
        if let Some(metadata) = plan.metadata.clone() {
            writes.push(Box::new(|seen| seen.pool.metadata = metadata));
        }
        for gone in plan.orphans.iter().chain(plan.releases.iter().flat_map(|release| &release.addresses)).cloned() {
            writes.push(Box::new(move |seen| seen.addresses.retain(|object| *object != gone)));
        }
        for release in plan.releases.clone() {
            writes.push(Box::new(move |seen| seen.claims.retain(|claim| claim.key != release.claim)));
        }
        if let Some(status) = plan.status.clone() {
            writes.push(Box::new(|seen| {
                seen.pool.indexes = status.indexes;
                seen.pool.last_updated = status.last_updated;
                seen.pool.counts = status.counts;
            }));
        }
        for serve in plan.served.clone() {
            let key = serve.claim.clone();
            if let Some(finalizers) = serve.finalizers {
                let key = key.clone();
                writes.push(Box::new(move |seen| of(seen, &key).finalizers = finalizers));
            }
            if let Some(new) = serve.create {
                let key = key.clone();
                writes.push(Box::new(move |seen| {
                    let object = object(of(seen, &key), &new.grant.address.to_string());
                    assert_eq!(object.name, new.name);
                    assert!(!seen.addresses.iter().any(|o| (o.kind, &o.name) == (object.kind, &object.name)));
                    seen.addresses.push(object);
                }));
            }
            if let Some(answer) = serve.answer {
                writes.push(Box::new(move |seen| of(seen, &key).answer = Some(answer)));
            }
        }
        writes.into_iter().take(steps).for_each(|write| write(&mut self.0));
    }

    /// Answers what the decision needs from the world as it is, which is what a live read does.
    fn confirm(&mut self) {
        let needs = needs(&self.0);
        let uid = |key: &ClaimKey| self.0.claims.iter().find(|claim| claim.key == *key).map(|claim| claim.uid.clone());
        let claims = needs.claims.iter().map(|key| (key.clone(), uid(key))).collect();
        self.0.confirmed = Confirmed { claims, empty: needs.emptiness };
    }

    /// Passes until nothing changes; every address is held once.
    #[track_caller]
    fn settle(mut self) -> Self {
        for _ in 0..10 {
            self.confirm();
            let plan = self.decide();
            self.play(&plan, usize::MAX);
            let addresses: BTreeSet<_> = self.0.addresses.iter().map(|object| object.address.clone()).collect();
            assert_eq!(addresses.len(), self.0.addresses.len(), "an address is held twice");
            if (Plan { after: None, finalize: false, ready: None, ..plan }) == Plan::default() {
                return self;
            }
        }
        panic!("does not settle: {:?}", self.decide());
    }

    #[track_caller]
    fn has(self, expected: &[(&str, &str)]) -> Self {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(claim, address)| ((*claim).to_owned(), at(address))).collect();
        assert_eq!(self.0.pool.indexes, expected);
        assert_eq!(self.0.addresses.len(), expected.len());
        self
    }

    fn answer(&self, kind: Kind, name: &str) -> Option<&Answer> {
        self.0.claims.iter().find(|claim| claim.key == ClaimKey::new(kind, name))?.answer.as_ref()
    }

    #[track_caller]
    fn says(self, kind: Kind, name: &str, failure: &Failure) -> Self {
        assert_eq!(self.answer(kind, name), Some(&Answer::from(failure)));
        self
    }
}

fn of<'a>(seen: &'a mut Observed, key: &ClaimKey) -> &'a mut Claim {
    seen.claims.iter_mut().find(|claim| claim.key == *key).unwrap()
}

fn object(claim: &Claim, address: &str) -> AddressObject {
    let address = at(address);
    AddressObject {
        deleting: false,
        kind: claim.key.kind,
        name: object_name("abcpref", address.parse().unwrap()),
        uid: format!("uid-{address}"),
        resource_version: None,
        finalizers: vec![claim.key.kind.address_finalizer().to_owned()],
        address,
        claim: claim.key.name.clone(),
        claim_uid: Some(claim.uid.clone()),
    }
}

fn ten() -> World {
    pool(&[(".11", ".20")])
}

fn none_reserved(free: i64, total: i64, used: i64) -> IPAddressCounts {
    IPAddressCounts { free, reserved: 0, total, used }
}

/// Nothing to do, and the pool is ready.
fn settled() -> Plan {
    Plan { ready: Some(Summary::ready()), ..Plan::default() }
}

const DATA: &str = finalizer::DATA;
