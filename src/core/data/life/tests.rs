//! One Metal3Data with everything that rendering needs; each case takes something away.

use std::sync::Arc;

use capm3_api::SecretRef;
use capm3_api::foreign::{IPAddress as CapiAddress, IPAddressClaim};
use capm3_api::ipam::v1alpha1::{IPAddress, IPClaim};
use capm3_api::k8s::{Time, Timestamp};
use capm3_api::names::finalizer;
use serde_json::{Value, json};

use super::super::claims::Release;
use super::super::fixture::{self, *};
use super::*;

/// Everything that rendering needs; tests take parts away.
struct World {
    data: Metal3Data,
    cluster: Option<Cluster>,
    template: Option<Metal3DataTemplate>,
    claim: Option<Metal3DataClaim>,
    metal3_machine: Option<Metal3Machine>,
    machine: Option<Machine>,
    host: Option<BareMetalHost>,
    known: Known,
    secrets: BTreeMap<String, SecretState>,
    by_host: bool,
}

fn world(template: Value) -> World {
    World {
        data: data(),
        cluster: Some(object(CLUSTER, json!({}))),
        template: Some(fixture::template(template)),
        claim: Some(claim(CLAIM)),
        metal3_machine: Some(metal3_machine()),
        machine: Some(object(MACHINE, json!({"spec": {"clusterName": CLUSTER}}))),
        host: Some(object(HOST, json!({}))),
        known: Known::default(),
        secrets: BTreeMap::new(),
        by_host: false,
    }
}

fn both() -> Value {
    let ethernet = json!({"type": "phy", "id": "eth0", "mtu": 1500, "macAddress": {"string": "12:34:56:78:9A:BC"}});
    json!({
        "metaData": {"strings": [{"key": "String-1", "value": "String-1"}]},
        "networkData": {"links": {"ethernets": [ethernet]}},
    })
}

impl World {
    fn observed(&self) -> Observed<'_> {
        Observed {
            data: &self.data,
            cluster: self.cluster.as_ref(),
            template: self.template.as_ref(),
            claim: self.claim.as_ref(),
            metal3_machine: self.metal3_machine.as_ref(),
            machine: self.machine.as_ref(),
            host: self.host.as_ref(),
            known: &self.known,
            secrets: &self.secrets,
            by_host: self.by_host,
        }
    }

    fn decide(&self) -> Plan {
        decide(&self.observed())
    }

    fn outcome(&self) -> (Option<bool>, Option<String>, Next) {
        let plan = self.decide();
        (plan.status.ready, plan.status.error_message, plan.next)
    }

    fn ready(mut self) -> Self {
        self.data.status = Some(Metal3DataStatus { ready: Some(true), ..Metal3DataStatus::default() });
        self.data.metadata.finalizers = Some(vec![finalizer::DATA.to_owned()]);
        self.data.spec.meta_data = Some(SecretRef::new(NS, &secret("metadata")));
        self
    }
}

fn secret(suffix: &str) -> String {
    format!("{M3M}-{suffix}")
}

#[track_caller]
fn waits(world: &World, waiting: Waiting) {
    assert_eq!(world.outcome(), (None, None, Next::Wait(waiting)));
}

#[track_caller]
fn fails(world: &World, message: &str) {
    assert_eq!(world.outcome(), (None, Some(message.to_owned()), Next::Fail(message.to_owned())));
}

fn documents(plan: &Plan) -> Vec<(String, String)> {
    let secrets = plan.actions.iter().filter_map(|action| match action {
        Action::Store(secret) => Some(secret),
        Action::Intend(_) | Action::Address(_) => None,
    });
    let text = |secret: &Secret| String::from_utf8(secret.data.0.values().next().unwrap().0.clone()).unwrap();
    secrets.map(|secret| (secret.metadata.name.clone().unwrap(), text(secret))).collect()
}

#[test]
fn td_3_without_a_template_nothing_happens() {
    let mut world = world(json!({}));
    world.data.spec = Default::default();
    let (error_message, ready) = (Some("x".to_owned()), Some(false));
    world.data.status = Some(Metal3DataStatus { error_message, ready, ..Metal3DataStatus::default() });
    assert_eq!(world.outcome(), (Some(false), None, Next::Done));
}

#[test]
fn td_4_a_missing_template_is_awaited() {
    waits(&World { template: None, ..world(json!({})) }, Waiting::Template);
}

fn ownerless() -> World {
    let mut world = world(both());
    world.claim.as_mut().unwrap().metadata.owner_references = None;
    world
}

#[test]
fn td_5_a_claim_without_owner_references() {
    fails(&ownerless(), "metal3Machine not found in owner references");
}

#[test]
fn td_17_the_machine_of_a_claim_without_owner_references() {
    assert_eq!(metal3_machine_of(&ownerless().claim.unwrap()), None);
    fails(&ownerless(), "metal3Machine not found in owner references");
}

#[test]
fn td_6_a_missing_metal3_machine_is_awaited() {
    waits(&World { metal3_machine: None, ..world(both()) }, Waiting::Metal3Machine);
}

#[test]
fn td_18_the_metal3_machine_that_owns_the_claim_is_awaited_by_name() {
    let missing = World { metal3_machine: None, ..world(both()) };
    waits(&missing, Waiting::Metal3Machine);
    assert_eq!(told(&missing, 100).1, format!("False WaitingForMetal3Machine: waits for Metal3Machine {M3M}"));
}

/// Whose data it is does not depend on the template; only rendering compares the two.
#[test]
fn td_19_a_machine_is_found_without_a_template_to_compare() {
    let mut other = World { template: None, ..world(both()) };
    other.metal3_machine.as_mut().unwrap().spec.data_template = None;
    assert_eq!(metal3_machine_of(&claim(CLAIM)).map(|owner| owner.name.as_str()), Some(M3M));
    waits(&other, Waiting::Template);
}

/// Nothing is rendered for a machine that is not there or uses another template; without a template to compare, it is found.
#[test]
fn a_x_11_the_machine_of_a_template() {
    let uses = |template: Value| {
        let mut world = world(both());
        world.metal3_machine.as_mut().unwrap().spec.data_template = serde_json::from_value(template).unwrap();
        world
    };
    let missing = World { metal3_machine: None, ..world(both()) };
    let template_nil = World { template: None, ..world(both()) };
    for (world, awaited) in [(missing, Waiting::Metal3Machine), (template_nil, Waiting::Template)] {
        assert!(documents(&world.decide()).is_empty(), "{awaited:?}");
        waits(&world, awaited);
    }
    for other in [json!({"name": "other"}), json!({"name": TEMPLATE, "namespace": "other"})] {
        let plan = uses(other).decide();
        assert!(documents(&plan).is_empty());
        assert!(matches!(plan.next, Next::Fail(_)), "{:?}", plan.next);
    }
    for same in [json!({"name": TEMPLATE}), json!({"name": TEMPLATE, "namespace": NS})] {
        assert_eq!(documents(&uses(same).decide()).len(), 2);
    }
}

#[test]
fn td_7_an_empty_template_needs_no_secret() {
    let plan = world(json!({})).decide();
    assert_eq!((plan.status.ready, documents(&plan), plan.next), (Some(true), Vec::new(), Next::Done));
}

#[track_caller]
fn check_other_template(template: Value) {
    let mut world = world(both());
    world.metal3_machine.as_mut().unwrap().spec.data_template = serde_json::from_value(template).unwrap();
    fails(&world, &format!("Metal3Machine {M3M} does not use Metal3DataTemplate {TEMPLATE}"));
}

#[test]
fn td_8_a_machine_without_a_template() {
    check_other_template(Value::Null);
}

#[test]
fn td_20_a_machine_with_another_template() {
    for template in [Value::Null, json!({"name": "abcd"}), json!({"name": TEMPLATE, "namespace": "defg"})] {
        check_other_template(template);
    }
}

/// Nobody writes what is there: the plan stores nothing.
#[test]
fn td_9_existing_secrets_are_taken_as_they_are() {
    let mut world = world(both());
    world.secrets.insert(secret("networkdata"), SecretState::Usable);
    world.secrets.insert(secret("metadata"), SecretState::Usable);
    let plan = world.decide();
    assert!(matches!(plan.actions[..], [Action::Intend(_)]), "{plan:?}");
    assert_eq!((plan.status.ready, plan.next), (Some(true), Next::Done));
}

#[test]
fn td_13_only_the_secret_that_is_missing_is_made() {
    for (there, made) in [("networkdata", "metadata"), ("metadata", "networkdata")] {
        let mut world = world(both());
        world.secrets.insert(secret(there), SecretState::Usable);
        let names: Vec<_> = documents(&world.decide()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [secret(made)]);
    }
}

#[track_caller]
fn check_only_secret(template: Value, suffix: &str) {
    let plan = world(template).decide();
    let names: Vec<_> = documents(&plan).into_iter().map(|(name, _)| name).collect();
    assert_eq!((names, plan.status.ready), (vec![secret(suffix)], Some(true)));
    let Some(Action::Intend(intended)) = plan.actions.first() else { panic!("{:?}", plan.actions) };
    let named = [&intended.spec.meta_data, &intended.spec.network_data].map(Option::is_some);
    assert_eq!(named, [suffix == "metadata", suffix == "networkdata"]);
}

#[test]
fn td_93_without_meta_data_there_is_no_such_document() {
    check_only_secret(json!({"networkData": {}}), "networkdata");
}

#[test]
fn tn_1_without_network_data_there_is_no_such_document() {
    check_only_secret(json!({"metaData": {}}), "metadata");
}

#[test]
fn td_10_both_secrets_after_the_intent() {
    let plan = world(both()).decide();
    let Some(Action::Intend(intended)) = plan.actions.first() else { panic!("{:?}", plan.actions) };
    assert_eq!(intended.metadata.finalizers.as_deref(), Some(&[finalizer::DATA.to_owned()][..]));
    assert_eq!(intended.spec.meta_data, Some(SecretRef::new(NS, &secret("metadata"))));
    assert_eq!(intended.spec.network_data, Some(SecretRef::new(NS, &secret("networkdata"))));
    let meta_data = format!("String-1: String-1\nproviderid: {NS}/{HOST}/{M3M}\n");
    let network_data = "links:\n- ethernet_mac_address: 12:34:56:78:9A:BC\n  id: eth0\n  mtu: 1500\n  type: phy\nnetworks: []\nservices: []\n";
    let expected = [(secret("metadata"), meta_data), (secret("networkdata"), network_data.to_owned())];
    assert_eq!(documents(&plan), expected);
    assert_eq!((plan.status.ready, plan.next), (Some(true), Next::Done));
}

#[test]
fn d_50_a_secret_carries_its_cluster() {
    let plan = world(json!({"metaData": {}})).decide();
    let Some(Action::Store(stored)) = plan.actions.last() else { panic!("{:?}", plan.actions) };
    assert_eq!(stored.type_.as_deref(), Some("infrastructure.cluster.x-k8s.io/secret"));
    assert_eq!(stored.data.0.keys().collect::<Vec<_>>(), ["metaData"]);
    assert_eq!(
        serde_json::to_value(&stored.metadata).unwrap(),
        json!({
            "name": secret("metadata"),
            "namespace": NS,
            "labels": {"cluster.x-k8s.io/cluster-name": CLUSTER},
            "ownerReferences": [{
                "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "Metal3Data", "name": DATA,
                "uid": format!("uid-{DATA}"), "controller": true,
            }],
        })
    );
}

#[test]
fn td_11_the_machine_is_awaited() {
    let mut orphan = world(both());
    orphan.metal3_machine.as_mut().unwrap().metadata.owner_references = None;
    waits(&orphan, Waiting::Machine);
    waits(&World { machine: None, ..world(both()) }, Waiting::Machine);
}

fn annotated_with_host(value: Option<&str>) -> World {
    let mut world = world(both());
    let annotations = value.map(|value| BTreeMap::from([(annotation::HOST.to_owned(), value.to_owned())]));
    world.metal3_machine.as_mut().unwrap().metadata.annotations = annotations;
    world
}

#[test]
fn td_12_the_host_annotation_is_awaited() {
    // The caches have no host either: it is looked up by the annotation.
    waits(&World { host: None, ..annotated_with_host(None) }, Waiting::Host);
}

#[test]
fn d_44_a_host_that_is_missing_is_awaited_and_an_odd_annotation_is_an_error() {
    waits(&World { host: None, ..world(both()) }, Waiting::Host);
    assert!(matches!(annotated_with_host(Some("a/b/c")).decide().next, Next::Fail(_)));
    for empty in ["", "/", "metal3/"] {
        let world = World { host: None, ..annotated_with_host(Some(empty)) };
        assert_eq!(told(&world, 100).1, "False WaitingForBareMetalHost: waits for a BareMetalHost");
    }
}

#[track_caller]
fn check_no_claim(claim: Value) {
    let mut world = world(both());
    world.data.spec.claim = serde_json::from_value(claim).unwrap();
    fails(&world, "Metal3DataClaim name not set");
}

#[test]
fn td_14_data_without_a_claim() {
    check_no_claim(Value::Null);
}

#[test]
fn td_15_data_whose_claim_has_no_name() {
    check_no_claim(json!({}));
    check_no_claim(json!({"namespace": NS}));
}

#[test]
fn td_16_a_missing_claim_is_awaited() {
    waits(&World { claim: None, ..world(both()) }, Waiting::Claim);
}

/// A missing Cluster as hazard HD-13 has it: awaited.
#[test]
fn td_35_without_cluster_nothing_is_touched() {
    let mut unlabelled = world(both());
    unlabelled.data.metadata.labels = None;
    let plan = unlabelled.decide();
    assert_eq!((plan.actions, plan.status, plan.next), (Vec::new(), Metal3DataStatus::default(), Next::Done));
    let plan = World { cluster: None, ..world(both()) }.decide();
    assert_eq!((plan.actions, plan.next), (Vec::new(), Next::Wait(Waiting::Cluster)));
}

#[test]
fn td_39_while_paused_nothing_is_touched() {
    let mut paused = world(both());
    paused.cluster.as_mut().unwrap().spec.paused = Some(true);
    assert_eq!((paused.decide().actions, paused.decide().next), (Vec::new(), Next::Wait(Waiting::Resume)));
}

fn told(world: &World, second: i64) -> (Metal3DataStatus, String) {
    let status = status(&world.observed(), &world.decide(), Timestamp::from_second(second).unwrap());
    let said = status.conditions.first().map(|c| format!("{} {}: {}", c.status, c.reason, c.message));
    (status, said.unwrap_or_default())
}

#[test]
fn who_waits_names_what_it_waits_for() {
    let template = json!({"metaData": {"ipAddressesFromPool": [{"key": "a", "name": "p"}, {"key": "b", "name": "q"}]}});
    let mut other_cluster = world(both());
    (other_cluster.cluster, other_cluster.data.status) = (None, Some(Metal3DataStatus::default()));
    for (world, expected) in [
        (
            World { template: None, ..world(both()) },
            format!("WaitingForMetal3DataTemplate: waits for Metal3DataTemplate {}", fixture::TEMPLATE),
        ),
        (
            World { claim: None, ..world(both()) },
            format!("WaitingForMetal3DataClaim: waits for Metal3DataClaim {CLAIM}"),
        ),
        (
            World { metal3_machine: None, ..world(both()) },
            format!("WaitingForMetal3Machine: waits for Metal3Machine {M3M}"),
        ),
        (World { machine: None, ..world(both()) }, format!("WaitingForMachine: waits for Machine {MACHINE}")),
        (World { host: None, ..world(both()) }, format!("WaitingForBareMetalHost: waits for BareMetalHost {HOST}")),
        (world(template), "WaitingForIPAddresses: waits for an address of p, q".to_owned()),
        (other_cluster, format!("WaitingForCluster: waits for Cluster {CLUSTER}")),
    ] {
        assert_eq!(told(&world, 100).1, format!("False {expected}"));
    }
    assert_eq!(told(&world(both()), 100).1, "True Metal3DataSecretsReady: ");
}

#[test]
fn a_wait_of_moments_is_not_told_and_a_paused_data_is_not_written() {
    let mut waiting = World { host: None, ..world(both()) };
    waiting.data.metadata.creation_timestamp = Some(Time(Timestamp::from_second(100).unwrap()));
    waiting.data.metadata.generation = Some(1);
    waiting.data.status = Some(Metal3DataStatus { observed_generation: Some(-1), ..Metal3DataStatus::default() });
    assert_eq!(told(&waiting, 104).0, waiting.data.status.clone().unwrap());
    assert_eq!(told(&waiting, 105).0.observed_generation, Some(1));
    waiting.cluster.as_mut().unwrap().spec.paused = Some(true);
    assert_eq!(told(&waiting, 106).0, waiting.data.status.clone().unwrap());
}

#[test]
fn td_131_the_namespace_of_the_template_is_filled_in_in_memory_only() {
    let mut world = world(both());
    world.data.spec.template.as_mut().unwrap().namespace = None;
    let plan = world.decide();
    let Some(Action::Intend(intended)) = plan.actions.first() else { panic!("{:?}", plan.actions) };
    assert_eq!(intended.spec.template, world.data.spec.template);
    assert_eq!(plan.status.ready, Some(true));
}

#[test]
fn hd_15_a_template_of_another_namespace_is_refused() {
    let mut world = world(both());
    world.data.spec.template.as_mut().unwrap().namespace = Some("other".to_owned());
    assert!(matches!(world.decide().next, Next::Fail(_)));
}

#[test]
fn td_133_a_ready_data_stays_ready_and_quiet() {
    for world in [world(both()), World { template: None, ..world(both()) }, World { claim: None, ..world(both()) }] {
        let world = world.ready();
        let status = world.data.status.clone().unwrap();
        let plan = world.decide();
        assert_eq!((plan.actions, plan.status, plan.next), (Vec::new(), status, Next::Done));
    }
}

#[test]
fn hd_18_a_secret_that_is_known_to_be_lost_is_rendered_anew() {
    let mut world = world(json!({"metaData": {}})).ready();
    world.secrets.insert(secret("metadata"), SecretState::Absent);
    assert_eq!(documents(&world.decide()).len(), 1);
}

/// Hazard HD-18 without the right to list or watch Secrets: they are looked at while a host may read them, and not after.
#[test]
fn hd_18_secrets_are_owed_until_the_machine_is_provisioned() {
    let mut world = world(both()).ready();
    world.data.spec.meta_data = Some(SecretRef::new(NS, &secret("metadata")));
    world.data.spec.network_data = Some(SecretRef::new(NS, "of-the-user"));
    assert_eq!(owed_secrets(&world.observed()), [secret("metadata"), "of-the-user".to_owned()]);
    let status = |provisioned| serde_json::from_value(json!({"initialization": {"provisioned": provisioned}})).unwrap();
    world.metal3_machine.as_mut().unwrap().status = status(false);
    assert!(may_be_read(&world.observed()));
    world.metal3_machine.as_mut().unwrap().status = status(true);
    assert!(!may_be_read(&world.observed()) && owed_secrets(&world.observed()).is_empty());
    world.metal3_machine = None;
    assert!(owed_secrets(&world.observed()).is_empty(), "nobody could render it anew");

    let mut waiting = self::world(both());
    waiting.data.spec.meta_data = Some(SecretRef::new(NS, &secret("metadata")));
    assert!(owed_secrets(&waiting.observed()).is_empty(), "storing it tells whether it is there");
    let mut paused = waiting.ready();
    paused.cluster.as_mut().unwrap().spec.paused = Some(true);
    assert!(owed_secrets(&paused.observed()).is_empty());
}

#[test]
fn td_134_a_secret_of_an_earlier_data_is_awaited() {
    let controlled = |uid: &str| {
        let mut owner = infra_owner("Metal3Data", "m3d");
        owner["uid"] = uid.into();
        owner["controller"] = true.into();
        let secret: Secret = object("s", json!({"metadata": {"ownerReferences": [owner]}}));
        SecretState::of(Some(&secret.metadata), &data())
    };
    assert_eq!(controlled("earlier"), SecretState::OfAnother);
    assert_eq!(controlled(&format!("uid-{DATA}")), SecretState::Usable);
    assert_eq!(SecretState::of(Some(&object::<Secret>("s", json!({})).metadata), &data()), SecretState::Usable);
    assert_eq!(SecretState::of(None, &data()), SecretState::Absent);

    let mut world = world(both());
    world.secrets.insert(secret("metadata"), SecretState::OfAnother);
    waits(&world, Waiting::OldSecret);
    world.secrets.insert(secret("metadata"), SecretState::Absent);
    assert_eq!(world.decide().next, Next::Done);
}

/// Two data ask under one name, and who came later would wait for ever: it says for whom.
#[test]
fn a_claim_under_our_name_that_is_another_s_is_named() {
    let metal3 = json!({"ipAddressesFromPool": [{"key": "a", "name": POOL}]});
    let others =
        json!({"ipAddressesFromPool": [{"key": "a", "name": POOL, "apiGroup": "other.io", "kind": "OtherPool"}]});
    let name = format!("{DATA}-{POOL}");
    let mut world = world(json!({"metaData": metal3}));
    world.known.claims = by_name(vec![object::<IPClaim>(&name, json!({}))], |claim| &claim.metadata);
    let expected = |kind: &str| {
        format!("False WaitingForIPAddresses: waits for an address of {POOL} ({kind} {name} is another's)")
    };
    assert_eq!(told(&world, 100).1, expected("IPClaim"));
    world.template = Some(fixture::template(json!({"metaData": others})));
    assert_eq!(told(&world, 100).1, format!("False WaitingForIPAddresses: waits for an address of {POOL}"));
    world.known.capi_claims = by_name(vec![object::<IPAddressClaim>(&name, json!({}))], |claim| &claim.metadata);
    assert_eq!(told(&world, 100).1, expected("IPAddressClaim"));

    // Ours, but made for another pool: host and data of one name, and pools that differ by an index.
    let mut ours: IPClaim =
        object(&name, json!({"spec": {"pool": {"name": "other"}}, "status": {"address": {"name": "a"}}}));
    ours.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
    let mut world = self::world(json!({"metaData": metal3}));
    world.known.claims = by_name(vec![ours], |claim| &claim.metadata);
    world.known.addresses =
        by_name(vec![object::<IPAddress>("a", json!({"spec": {"address": "192.0.2.1"}}))], |address| &address.metadata);
    assert_eq!(world.decide().next, Next::Wait(Waiting::Addresses));
    assert_eq!(told(&world, 100).1, expected("IPClaim"));
}

fn with_pool() -> Value {
    json!({"metaData": {"ipAddressesFromPool": [{"key": "ip", "name": POOL}]}})
}

#[test]
fn td_61_the_claim_follows_the_intent_and_is_awaited() {
    let plan = world(with_pool()).decide();
    assert!(matches!(&plan.actions[..], [Action::Intend(_), Action::Address(claims::Action::Claim(_))]));
    assert_eq!((plan.status, plan.next), (Metal3DataStatus::default(), Next::Wait(Waiting::Addresses)));
}

/// Hazard HD-27: what tells the claims apart is on the claims.
#[test]
fn td_141_two_pools_by_host_leave_the_labels_of_the_data_alone() {
    let template = json!({"metaData": {"ipAddressesFromPool": [{"key": "a", "name": "p"}, {"key": "b", "name": "q"}]}});
    let world = World { by_host: true, ..world(template) };
    let plan = world.decide();
    let [Action::Intend(intended), Action::Address(first), Action::Address(second)] = &plan.actions[..] else {
        panic!("{plan:?}")
    };
    assert_eq!(intended.metadata.labels, world.data.metadata.labels);
    for (claimed, pool) in [(first, "p"), (second, "q")] {
        let claims::Action::Claim(claim) = claimed else { panic!("{claimed:?}") };
        let labels = claim.metadata.labels.as_ref().unwrap();
        assert_eq!((&labels[label::DATA_NAME], &labels[label::POOL_NAME]), (&DATA.to_owned(), &pool.to_owned()));
    }
}

/// Claimed (TD-135 of the pools), and rendered.
#[test]
fn td_135_a_metadata_item_of_a_pool_of_cluster_api() {
    let item = json!({"key": "ip", "name": POOL, "kind": "InClusterIPPool", "apiGroup": "ipam.cluster.x-k8s.io"});
    let mut world = world(json!({"metaData": {"ipAddressesFromPool": [item]}}));
    let plan = world.decide();
    let [Action::Intend(_), Action::Address(claims::Action::ClaimFromCapi(made))] = &plan.actions[..] else {
        panic!("{plan:?}")
    };
    let mut answered: IPAddressClaim = IPAddressClaim::clone(made);
    answered.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
    answered.status = serde_json::from_value(json!({"addressRef": {"name": "a"}})).unwrap();
    world.known.capi_claims = by_name(vec![answered], |claim| &claim.metadata);
    let address: CapiAddress = object("a", json!({"spec": {"address": "10.0.0.9", "prefix": 24}}));
    world.known.capi_addresses = by_name(vec![address], |address| &address.metadata);
    assert_eq!(documents(&world.decide())[0].1, format!("ip: 10.0.0.9\nproviderid: {NS}/{HOST}/{M3M}\n"));
}

fn delivered(gateway: &Value, dns: &Value) -> World {
    let mut world = world(json!({"metaData": {
        "gatewaysFromPool": [{"key": "gateway", "name": POOL}], "dnsServersFromPool": [{"key": "dns", "name": POOL}],
    }}));
    let mut answered: IPClaim = object(&format!("{DATA}-{POOL}"), json!({"status": {"address": {"name": "a"}}}));
    answered.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
    world.known.claims = by_name(vec![answered], |claim| &claim.metadata);
    let spec = json!({"address": "10.0.0.9", "prefix": 24, "gateway": gateway, "dnsServers": dns});
    world.known.addresses =
        by_name(vec![object::<IPAddress>("a", json!({ "spec": spec }))], |address| &address.metadata);
    world
}

#[test]
fn hd_34_a_gateway_that_is_missing_is_told_once() {
    let mut world = delivered(&Value::Null, &json!([]));
    let plan = world.decide();
    assert_eq!(plan.without_gateway.iter().collect::<Vec<_>>(), [POOL]);
    assert!(documents(&plan)[0].1.contains("gateway: \"\"\n"), "and its key is there all the same");
    world = world.ready();
    assert_eq!(world.decide().without_gateway.len(), 0);
    assert_eq!(delivered(&json!("10.0.0.1"), &json!([])).decide().without_gateway.len(), 0);
}

#[test]
fn hd_19_a_template_asks_for_name_servers_by_annotation() {
    let rendered = |value: Option<&str>| {
        let mut world = delivered(&json!("10.0.0.1"), &json!(["8.8.8.8", "8.8.4.4"]));
        let annotations = value.map(|value| [(annotation::RENDER_DNS_SERVERS.to_owned(), value.to_owned())].into());
        world.template.as_mut().unwrap().metadata.annotations = annotations;
        documents(&world.decide())[0].1.lines().find(|line| line.starts_with("dns")).map(str::to_owned)
    };
    assert_eq!(rendered(Some("true")).as_deref(), Some("dns: 8.8.8.8,8.8.4.4"));
    assert_eq!([rendered(None), rendered(Some("")), rendered(Some("false"))], [None, None, None]);
}

#[test]
fn td_70_a_failed_claim_is_told_in_the_status() {
    let mut world = world(with_pool());
    let mut failed: IPClaim = object(&format!("{DATA}-{POOL}"), json!({"status": {"errorMessage": "Error happened"}}));
    failed.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
    world.known.claims = by_name(vec![failed], |claim| &claim.metadata);
    fails(&world, &format!("IP Allocation for {POOL} failed : Error happened"));
}

#[test]
fn d_44_addresses_that_came_are_rendered() {
    let mut world = world(with_pool());
    let mut answered: IPClaim = object(&format!("{DATA}-{POOL}"), json!({"status": {"address": {"name": "a"}}}));
    answered.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
    world.known.claims = by_name(vec![answered], |claim| &claim.metadata);
    waits(&world, Waiting::Addresses);
    let address: IPAddress = object("a", json!({"spec": {"address": "10.0.0.9", "prefix": 24}}));
    world.known.addresses = by_name(vec![address], |address| &address.metadata);
    assert_eq!(documents(&world.decide())[0].1, format!("ip: 10.0.0.9\nproviderid: {NS}/{HOST}/{M3M}\n"));
}

#[test]
fn d_44_an_error_in_the_network_data_leaves_the_metadata() {
    let mut template = both();
    template["networkData"]["links"]["ethernets"][0]["macAddress"] = json!({"string": "x"});
    let plan = world(template).decide();
    assert_eq!(documents(&plan).len(), 1);
    assert_eq!((plan.status.ready, plan.status.error_message), (None, Some("bad MAC address: x".to_owned())));
}

fn departing(template: Value) -> World {
    let mut world = World { claim: None, ..world(template).ready() };
    deleting(&mut world.data.metadata);
    world
}

/// With what it owns in the way of addresses.
fn with_address(mut world: World) -> (World, Departure) {
    let mut owned: IPClaim = object("any", json!({"metadata": {"finalizers": [finalizer::DATA]}}));
    owned.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
    world.known.claims = by_name(vec![owned.clone()], |claim| &claim.metadata);
    (world, Departure::Leave(vec![Release::Metal3 { claim: Arc::new(owned), let_go: true, delete: true }]))
}

#[test]
fn td_36_a_departing_data_needs_no_cluster() {
    let (world, leaves) = with_address(World { cluster: None, ..departing(json!({})) });
    assert_eq!(depart(&world.observed(), false), leaves);
}

#[test]
fn td_138_a_departing_data_needs_no_template() {
    let (world, leaves) = with_address(World { template: None, ..departing(json!({})) });
    assert_eq!(depart(&world.observed(), false), leaves);
    let confused = json!({"metaData": {"ipAddressesFromPool": [
        {"key": "a", "name": "foo"}, {"key": "b", "name": "foo", "kind": "InClusterIPPool"},
    ]}});
    let (world, leaves) = with_address(departing(confused));
    assert_eq!(depart(&world.observed(), false), leaves, "nor one that makes sense");
}

/// It was deleted by a user, and the cache of claims lags behind: the machine may be running on these addresses.
#[test]
fn d_47_a_claim_that_is_not_cached_is_looked_for() {
    let mut world = departing(json!({}));
    world.data.metadata.finalizers = Some(vec![finalizer::DATA_CLAIM.to_owned(), finalizer::DATA.to_owned()]);
    assert_eq!(depart(&world.observed(), false), Departure::LookLive);
    assert_eq!(depart(&world.observed(), true), Departure::Leave(Vec::new()), "it is gone");
    world.claim = Some(claim(CLAIM));
    for live in [false, true] {
        assert_eq!(depart(&world.observed(), live), Departure::Wait(Waiting::ClaimGone));
    }
    world.claim = None;
    world.data.metadata.finalizers = Some(vec![finalizer::DATA.to_owned()]);
    assert_eq!(depart(&world.observed(), false), Departure::Leave(Vec::new()), "who let go has seen it");
}

#[test]
fn td_132_the_claim_holds_its_data() {
    let mut world = departing(json!({}));
    world.claim = Some(claim(CLAIM));
    world.data.spec.claim.as_mut().unwrap().namespace = None;
    assert_eq!(depart(&world.observed(), false), Departure::Wait(Waiting::ClaimGone));
    // The next machine of the same name makes a claim of the same name, which is answered with other data.
    world.claim.as_mut().unwrap().metadata.uid = Some("later".to_owned());
    assert_eq!(depart(&world.observed(), false), Departure::Leave(Vec::new()));
}

#[test]
fn td_39_a_paused_cluster_stops_a_departing_data() {
    let mut world = departing(json!({}));
    world.cluster.as_mut().unwrap().spec.paused = Some(true);
    assert_eq!(depart(&world.observed(), false), Departure::Wait(Waiting::Resume));
}

#[test]
fn td_137_addresses_are_given_back_by_ownership() {
    let mut world = World { template: None, ..departing(json!({})) };
    let mut owned: IPClaim = object("from-an-annotation", json!({"metadata": {"finalizers": [finalizer::DATA]}}));
    owned.metadata.owner_references = owned_by(&format!("uid-{DATA}"));
    world.known.claims = by_name(vec![owned.clone()], |claim| &claim.metadata);
    let release = Release::Metal3 { claim: Arc::new(owned), let_go: true, delete: true };
    assert_eq!(depart(&world.observed(), false), Departure::Leave(vec![release]));
}

/// A create whose answer was lost may have made a claim that no cache shows.
#[test]
fn a_data_that_was_never_ready_looks_live_before_it_leaves() {
    let mut world = departing(json!({}));
    world.data.status = None;
    assert_eq!(depart(&world.observed(), false), Departure::LookLive);
    assert_eq!(depart(&world.observed(), true), Departure::Leave(Vec::new()));
    world.data.metadata.finalizers = None;
    assert_eq!(depart(&world.observed(), false), Departure::Gone);
}

#[test]
fn hd_17_a_ready_data_whose_template_cannot_be_read_stays_ready() {
    let mut shaken = World { template: None, ..world(json!({"metaData": {}})) }.ready();
    shaken.data.spec.template.as_mut().unwrap().namespace = Some("other".to_owned());
    assert_eq!(shaken.decide().status.ready, Some(true));
    let mut lost = World { template: None, ..world(json!({"metaData": {}})) }.ready();
    lost.secrets.insert(secret("metadata"), SecretState::Absent);
    let plan = lost.decide();
    assert_eq!((plan.status.ready, plan.next), (Some(false), Next::Wait(Waiting::Template)));
}

#[test]
fn owners_are_known_by_group_and_kind() {
    let of = |group: &str, kind: &str| {
        let mut claim = claim(CLAIM);
        let owner = claim.metadata.owner_references.as_mut().unwrap().first_mut().unwrap();
        owner.api_version = format!("{group}/v1beta2");
        owner.kind = kind.to_owned();
        metal3_machine_of(&claim).is_some()
    };
    let ours = "infrastructure.cluster.x-k8s.io";
    assert!(of(ours, "Metal3Machine"));
    assert!(!of(ours, "Metal3Cluster") && !of("example.com", "Metal3Machine"));
}

/// What was rendered for the claim that is here holds the data, whoever it was made for.
#[test]
fn td_132_a_later_claim_that_names_the_data_holds_it_too() {
    let mut world = departing(json!({}));
    let mut later = claim(CLAIM);
    later.metadata.uid = Some("later".to_owned());
    later.status = serde_json::from_value(json!({"renderedData": {"name": DATA}})).unwrap();
    world.claim = Some(later);
    assert_eq!(depart(&world.observed(), false), Departure::Wait(Waiting::ClaimGone));
}

#[test]
fn a_refusal_is_told_and_takes_ready_from_nobody() {
    let now = Timestamp::from_second(100).unwrap();
    let told = |data: &Metal3Data| {
        let status = refused(data, "too long", now);
        let condition = status.conditions[0].clone();
        (
            status.error_message.unwrap(),
            status.ready,
            format!("{} {}", condition.status, condition.reason),
            condition.message,
        )
    };
    let text = || "too long".to_owned();
    assert_eq!(told(&world(both()).data), (text(), None, "False RenderingFailed".to_owned(), text()));
    assert_eq!(
        told(&world(both()).ready().data),
        (text(), Some(true), "True Metal3DataSecretsReady".to_owned(), String::new())
    );
}

#[test]
fn d_44_a_secret_that_is_named_keeps_its_name() {
    for (given, expected) in [("given", "given".to_owned()), ("", secret("metadata"))] {
        let mut world = world(json!({"metaData": {}}));
        world.data.spec.meta_data = Some(SecretRef::new(NS, given));
        let plan = world.decide();
        assert_eq!(documents(&plan)[0].0, expected);
        let Some(Action::Intend(intended)) = plan.actions.first() else { panic!("{:?}", plan.actions) };
        assert_eq!(intended.spec.meta_data, Some(SecretRef::new(NS, &expected)));
    }
}
