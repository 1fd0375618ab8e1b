//! The decisions that are made once per machine, each in a world as large as docs/spec/proof.md 11 wants it.
//!
//! Every input is counted up, never drawn, so that two runs measure the same work.

#![allow(clippy::unwrap_used, reason = "a bench may fail")]

#[path = "../../api/benches/figures/mod.rs"]
mod figures;

use std::collections::BTreeMap;
use std::sync::Arc;

use capm3_api::foreign::{BareMetalHost, HostNic};
use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3DataTemplate, Metal3DataTemplateSpec};
use capm3_api::k8s::Timestamp;
use capm3_core::conditions::Summary;
use capm3_core::data::objects::{Host, Meta};
use capm3_core::data::render::{self, Address, Addresses, Facts};
use capm3_core::data::template;
use capm3_core::host::candidate;
use capm3_core::ipam::allocate::{Offer, Range, allocate};
use capm3_core::ipam::pool::{self, AddressObject, Answer, Claim};
use capm3_core::ipam::range::{self, Bounds, Interval, object_name};
use capm3_core::ipam::table::{ClaimKey, Kind, Table};
use capm3_core::placement::{Placement, Selector, Wanted, place};
use figures::{Bound, fastest, micros_each, per_second, title};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn main() {
    title("Placement");
    for hosts in [1_000, 10_000] {
        placement(hosts);
    }
    title("Data");
    rendering();
    for rendered in [0, 9_000] {
        indexes(rendered);
    }
    title("Addresses");
    allocations();
    requests();
    pool_pass();
}

fn object<K: DeserializeOwned>(of: Value) -> K {
    serde_json::from_value(of).unwrap()
}

/// Nine of ten hosts are taken, and the failure domain has a part of the rest. The bound is that of a burst of claims, of which
/// this is the part without the API server.
fn placement(count: usize) {
    let host = |n: usize| -> BareMetalHost {
        let consumer = json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "Metal3Machine",
            "namespace": "metal3", "name": format!("prod-md-0-{n:05}"),
        });
        let labels = json!({"rack": (n % 40).to_string(), "size": "large", "infrastructure.cluster.x-k8s.io/failure-domain": format!("row-{}", n % 3)});
        object(json!({
            "metadata": {"namespace": "metal3", "name": format!("node-{n:05}"), "labels": labels},
            "spec": {"consumerRef": (n % 10 != 7).then_some(consumer)},
            "status": {"provisioning": {"state": if n % 10 == 7 { "available" } else { "provisioned" }}, "operationalStatus": "OK"},
        }))
    };
    let hosts: Vec<_> = (0..count).map(host).collect();
    let large = BTreeMap::from([("size".to_owned(), "large".to_owned())]);
    let selector = Selector::new(&large, []).unwrap();
    let wanted = Wanted {
        machine: "prod-md-0-new",
        cluster: "prod",
        selector: &selector,
        failure_domain: Some("row-1"),
        reuse: None,
    };
    let decide = || place(&wanted, hosts.iter().map(|host| candidate(host, false)), 4711);
    assert!(matches!(decide(), Placement::Claim { reused: false, .. }));
    let name = format!("a host among {count}");
    per_second(&name, 1, fastest(|| (), |()| decide()), "decisions", Bound::AtLeast(100.0));
}

/// The worked example of docs/spec/data-rendering.md 15, which the tests compare byte for byte.
fn rendering() {
    let spec = include_str!("../../../docs/spec/data-rendering.md");
    let example = spec.split("## 15. Worked example").nth(1).unwrap();
    let example = example.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let template: Metal3DataTemplateSpec = serde_saphyr::from_str(example).unwrap();
    let (meta_data, network_data) = (template.meta_data.unwrap(), template.network_data.unwrap());

    let labels = BTreeMap::from([("rack".to_owned(), "12".to_owned())]);
    let meta = |name, labels| Meta { namespace: "metal3", name, labels, annotations: None };
    let nic = |(name, mac): (&str, &str)| HostNic { name: name.to_owned(), mac: mac.to_owned(), ..HostNic::default() };
    let nics = [("eth0", "00:11:22:33:44:55"), ("eth1", "DE:F0:12:34:56:78")].map(nic);
    let address = |address: &str, prefix, gateway: &str, dns: &str| Address {
        address: address.to_owned(),
        prefix: Some(prefix),
        gateway: gateway.to_owned(),
        dns: vec![dns.to_owned()],
    };
    let addresses = Addresses::from([
        ("prov".to_owned(), address("172.22.0.104", 24, "172.22.0.1", "172.22.0.2")),
        ("ext6".to_owned(), address("2001:db8:0:1::68", 64, "2001:db8:0:1::1", "2001:4860:4860::8888")),
    ]);
    let facts = Facts {
        namespace: "metal3",
        index: 4,
        machine: meta("prod-md-0-x7k2p", None),
        metal3_machine: meta("prod-md-0-x7k2p", None),
        host: Host { meta: meta("node-3", Some(&labels)), boot_mac: "aa:bb:cc:dd:ee:01", nics: Some(&nics) },
        addresses: &addresses,
        dns_servers: false,
    };
    let both =
        || (render::meta_data(&meta_data, &facts).unwrap(), render::network_data(&network_data, &facts).unwrap());
    let time = fastest(|| (), |()| (0..100).map(|_| both()).collect::<Vec<_>>());
    per_second("metaData and networkData of the worked example", 200, time, "documents", Bound::None);
}

/// 1 000 machines ask a template at once; with `rendered` before them it has 10 000, as many as P17 wants.
fn indexes(rendered: usize) {
    const CLAIMS: usize = 1_000;
    let name = |n: usize| format!("prod-md-0-{n:05}");
    let owner = |kind: &str, n| json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": kind, "name": name(n), "uid": format!("uid-{n}")});
    let template: Metal3DataTemplate = object(json!({
        "metadata": {"namespace": "metal3", "name": "prod-workers", "finalizers": ["metal3datatemplate.infrastructure.cluster.x-k8s.io"]},
        "spec": {"metaData": {"strings": [{"key": "role", "value": "worker"}]}},
    }));
    let data = |n: usize| -> Arc<Metal3Data> {
        object::<Metal3Data>(json!({
            "metadata": {"namespace": "metal3", "name": format!("prod-workers-{n}"), "ownerReferences": [owner("Metal3DataClaim", n)]},
            "spec": {"index": n, "template": {"name": "prod-workers"}, "claim": {"name": name(n)}},
        }))
        .into()
    };
    let claim = |n: usize| {
        let claim: Metal3DataClaim = object(json!({
            "metadata": {"namespace": "metal3", "name": name(n), "uid": format!("uid-{n}"), "ownerReferences": [owner("Metal3Machine", n)]},
            "spec": {"template": {"name": "prod-workers"}},
        }));
        template::Claim { claim: claim.into(), cluster: None, rendered: None }
    };
    let datas: Vec<_> = (0..rendered).map(data).collect();
    let claims: Vec<_> = (rendered..rendered + CLAIMS).map(claim).collect();
    let observed = template::Observed {
        namespace: "metal3",
        name: "prod-workers",
        now: Timestamp::from_second(1_000_000).unwrap(),
        template: Some(&template),
        claims: &claims,
        datas: &datas,
        live: false,
        strays: &[],
    };
    let creates = |plan: &template::Plan| {
        let steps = plan.claims.iter().flat_map(|claim| &claim.steps);
        steps.filter(|step| matches!(step, template::Step::Create(_))).count()
    };
    assert_eq!(creates(&template::decide(&observed)), CLAIMS);
    let time = fastest(|| (), |()| template::decide(&observed));
    micros_each(
        &format!("an index for each of 1000 claims, {rendered} before them"),
        CLAIMS,
        time,
        "claim",
        Bound::None,
    );
}

/// How many addresses are in use before, and how many are asked for.
const USED: u32 = 60_000;
const ASKED: u32 = 1_000;
const PREFIX: &str = "prov";

fn offer(subnet: &str) -> Offer {
    let interval = Interval::of(Bounds { subnet: Some(subnet), ..Bounds::default() }).unwrap();
    let range =
        Range { interval, prefix: 16, gateway: Some("10.0.0.1".to_owned()), dns_servers: vec!["10.0.0.2".to_owned()] };
    Offer { ranges: vec![range], ..Offer::default() }
}

/// The n-th used address of a range: all over it, with gaps between, which is what years of use leave.
fn used(offer: &Offer, n: u32) -> range::Address {
    offer.ranges[0].interval.nth(u128::from(n * 617 % 65_521) + 1).unwrap()
}

fn key(n: u32) -> ClaimKey {
    ClaimKey::new(Kind::Metal3, format!("prod-workers-{n:05}-prov"))
}

fn table(offer: &Offer) -> Table {
    let mut table = Table::new(PREFIX);
    (0..USED).for_each(|n| table.take(used(offer, n), &key(n)));
    table
}

fn take_each(offer: &Offer, mut table: Table, asked: impl Fn(u32) -> Option<String>) -> Table {
    for n in USED..USED + ASKED {
        let grant = allocate(offer, &mut table, &key(n), asked(n).as_deref(), u64::from(n)).unwrap();
        table.take(grant.address, &key(n));
    }
    assert_eq!(table.len(), (USED + ASKED) as usize);
    table
}

fn allocations() {
    for (strategy, random) in [("lowest", false), ("random", true)] {
        let offer = Offer { random, ..offer("10.0.0.0/16") };
        let time = fastest(|| table(&offer), |table| take_each(&offer, table, |_| None));
        let name = format!("one address of a /16 with {USED} used, {strategy}");
        micros_each(&name, ASKED as usize, time, "address", Bound::AtMost(20.0));
    }
}

fn requests() {
    let offer = offer("2001:db8::/64");
    let deep = |n: u32| Some(format!("2001:db8::ffff:ffff:{:x}:{:x}", n >> 16, n & 0xffff));
    let time = fastest(|| table(&offer), |table| take_each(&offer, table, deep));
    let name = format!("a requested address deep in a /64 with {USED} used");
    micros_each(&name, ASKED as usize, time, "address", Bound::AtMost(1000.0));
}

/// All that one pass of a pool's controller decides: what has to be read live, then the plan.
fn pool_pass() {
    let offer = offer("10.0.0.0/16");
    let claim = |n: u32, answer: Option<Answer>| Claim {
        key: key(n),
        uid: format!("uid-{n}"),
        resource_version: Some(n.to_string()),
        created: Timestamp::from_second(n.into()).ok(),
        deleting: false,
        finalizers: answer.iter().map(|_| Kind::Metal3.claim_finalizer().to_owned()).collect(),
        paused: false,
        cluster: None,
        requested: None,
        answer,
    };
    let address = |n: u32| AddressObject {
        deleting: false,
        kind: Kind::Metal3,
        name: object_name(PREFIX, used(&offer, n)),
        uid: format!("uid-address-{n}"),
        resource_version: Some(n.to_string()),
        finalizers: vec![Kind::Metal3.address_finalizer().to_owned()],
        address: used(&offer, n).to_string(),
        claim: key(n).name,
        claim_uid: Some(format!("uid-{n}")),
    };
    let addresses: Vec<_> = (0..USED).map(address).collect();
    let served = addresses.iter().zip(0..).map(|(object, n)| claim(n, Some(Answer::Address(object.name.clone()))));
    let claims = served.chain((USED..USED + ASKED).map(|n| claim(n, None))).collect();
    let indexes = addresses.iter().map(|object| (object.claim.clone(), object.address.clone())).collect();
    let mut seen = pool::Observed {
        pool: pool::Pool { name_prefix: PREFIX.to_owned(), offer, indexes, ..pool::Pool::default() },
        claims,
        addresses,
        ..pool::Observed::default()
    };
    seen.pool.metadata.finalizers = pool::decide(&seen).metadata.and_then(|metadata| metadata.finalizers);
    let pass = || (pool::needs(&seen), pool::decide(&seen));
    let (needs, plan) = pass();
    assert_eq!(needs, pool::Needs::default());
    assert_eq!(plan.served.iter().filter(|serve| serve.create.is_some()).count(), ASKED as usize);
    let time = fastest(|| (), |()| pass());
    micros_each(
        &format!("a whole pass that serves {ASKED} claims, {USED} served before"),
        ASKED as usize,
        time,
        "address",
        Bound::AtMost(20.0),
    );
    seen.claims.truncate(USED as usize);
    seen.pool.last_updated = pool::decide(&seen).status.and_then(|status| status.last_updated);
    assert_eq!(pool::decide(&seen), pool::Plan { ready: Some(Summary::ready()), ..pool::Plan::default() });
    let time = fastest(|| (), |()| (pool::needs(&seen), pool::decide(&seen)));
    micros_each(&format!("a whole pass that has nothing to do, {USED} served before"), 1, time, "pass", Bound::None);
}
