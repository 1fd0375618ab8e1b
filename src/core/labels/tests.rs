use capm3_api::foreign::{ContractRef, MachineStatus, NameRef};
use capm3_api::names::INFRA_API_VERSION;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn prefixes(text: &str) -> Prefixes {
    Prefixes::parse(text).unwrap()
}

fn selected(text: &str, of: &[(&str, &str)]) -> Vec<String> {
    let of = labels(of);
    prefixes(text).select(Some(&of)).keys().map(|key| (*key).to_owned()).collect()
}

#[test]
fn al_1_what_is_under_the_prefix() {
    assert_eq!(selected("foo.metal3.io", &[("foo.metal3.io/bar", "blue")]), ["foo.metal3.io/bar"]);
}

#[test]
fn al_2_what_is_under_several() {
    let all = [("foo.metal3.io/a", "1"), ("foo.metal3.io/b", "2"), ("moo.myprefix/c", "3")];
    assert_eq!(selected("foo.metal3.io,moo.myprefix", &all), ["foo.metal3.io/a", "foo.metal3.io/b", "moo.myprefix/c"]);
}

#[test]
fn al_3_only_the_exact_prefix() {
    let all = [
        ("boo.metal3.io/a", "1"),
        ("foo.metal4.io/a", "1"),
        ("foo.metal3.io/a", "1"),
        ("sub.foo.metal3.io/a", "1"),
        ("foo.metal3.io", "no name"),
        ("foo.metal3.io/", "no name"),
        ("/a", "no prefix"),
        ("a", "neither"),
    ];
    assert_eq!(selected("foo.metal3.io", &all), ["foo.metal3.io/a"]);
}

#[test]
fn al_4_nothing_of_nothing() {
    assert!(selected("", &[("foo.metal3.io/a", "1")]).is_empty());
    assert!(selected("foo.metal3.io", &[]).is_empty());
    assert!(selected("", &[]).is_empty());
    assert!(prefixes("foo.metal3.io").select(None).is_empty());
}

#[test]
fn al_5_one_prefix() {
    assert_eq!(prefixes("foo.metal3.io").len(), 1);
}

#[test]
fn al_6_items_are_trimmed_and_empty_ones_left_out() {
    assert_eq!(prefixes("foo.metal3.io, moo.myprefix,,bar"), prefixes("bar,moo.myprefix,foo.metal3.io"));
    assert_eq!(prefixes("foo.metal3.io, moo.myprefix,,bar").len(), 3);
}

#[test]
fn al_7_an_empty_list_is_valid() {
    for text in ["", ",, ,,", "  "] {
        assert!(prefixes(text).is_empty(), "{text:?}");
    }
}

#[test]
fn al_8_one_bad_item_spoils_the_list() {
    let long = "a".repeat(254);
    for bad in ["foo.io, @bar.io", "Foo.io", "foo..io", "-foo.io", "foo-", "a/b", "foo.io,ä", &long] {
        assert!(matches!(Prefixes::parse(bad), Err(Problem::Prefix(_))), "{bad}");
    }
    assert!(Prefixes::parse(&"a".repeat(253)).is_ok() && Prefixes::parse("0-1.b").is_ok());
    let said = Prefixes::parse("foo.io, @bar.io").unwrap_err().to_string();
    assert!(said.contains("@bar.io") && said.contains("metal3.io/metal3-label-sync-prefixes"), "{said}");
}

fn difference(text: &str, host: &[(&str, &str)], node: &[(&str, &str)]) -> Option<Value> {
    prefixes(text).difference(Some(&labels(host)), Some(&labels(node)))
}

fn patch(changes: &Value) -> Option<Value> {
    Some(json!({ "metadata": { "labels": changes } }))
}

#[test]
fn al_9_what_is_equal_is_left() {
    let same = [("foo.metal3.io/a", "1")];
    assert_eq!(difference("foo.metal3.io", &same, &same), None);
    assert_eq!(difference("foo.metal3.io", &[], &[("other.io/x", "1")]), None);
}

#[test]
fn al_10_what_is_missing_is_added_and_the_rest_left() {
    let host = [("foo.metal3.io/a", "1"), ("foo.metal3.io/b", "2")];
    let node = [("some.metal4.io/blah", "x"), ("foo.metal3.io/b", "2")];
    assert_eq!(difference("foo.metal3.io", &host, &node), patch(&json!({ "foo.metal3.io/a": "1" })));
}

#[test]
fn al_11_another_value_is_replaced_and_what_is_too_much_removed() {
    let host = [("foo.metal3.io/a", "1")];
    let node = [("foo.metal3.io/a", "2"), ("foo.metal3.io/b", "2"), ("other.io/b", "2")];
    let expected = json!({ "foo.metal3.io/a": "1", "foo.metal3.io/b": null });
    assert_eq!(difference("foo.metal3.io", &host, &node), patch(&expected));
}

#[test]
fn al_12_without_prefixes_the_node_is_left() {
    assert_eq!(difference("", &[("foo.metal3.io/a", "1")], &[("foo.metal3.io/b", "1")]), None);
}

fn machine(name: &str) -> Machine {
    let mut machine = Machine::named("ns", name);
    machine.spec.cluster_name = "prod".to_owned();
    machine.spec.infrastructure_ref = Some(ContractRef {
        api_group: Some(INFRA_GROUP.to_owned()),
        kind: "Metal3Machine".to_owned(),
        name: format!("{name}-3"),
    });
    machine
}

fn metal3_machine(host: &str) -> Arc<Metal3Machine> {
    let mut machine = Metal3Machine::named("ns", "m-3");
    machine.metadata.annotations = Some(labels(&[(annotation::HOST, host)]));
    Arc::new(machine)
}

#[test]
fn al_13_the_hosts_of_a_cluster() {
    let machines = [machine("m"), machine("broken")];
    let metal3 = |name: &str| (name == "m-3").then(|| metal3_machine("ns/h"));
    assert_eq!(hosts_of(&machines, metal3), ["h"]);
    let mut none = machine("m");
    none.spec.infrastructure_ref = None;
    assert!(hosts_of([&none], metal3).is_empty());
    assert!(hosts_of(&machines[..1], |_| Some(metal3_machine("a/b/c"))).is_empty());
}

#[test]
fn al_14_another_namespace_in_the_annotation_does_not_count() {
    assert_eq!(hosts_of([&machine("m")], |_| Some(metal3_machine("elsewhere/h"))), ["h"]);
}

/// Everything between a host and its Node.
struct Chain {
    host: Option<BareMetalHost>,
    metal3_machine: Option<Metal3Machine>,
    owner: Option<&'static str>,
    machine: Option<Machine>,
    cluster: Option<Cluster>,
    metal3_cluster: Option<Metal3Cluster>,
    node: Option<Fact>,
}

impl Chain {
    fn new() -> Self {
        let mut host = BareMetalHost::named("ns", "h");
        host.metadata.labels = Some(labels(&[("foo.metal3.io/bar", "blue"), ("rack", "7")]));
        host.spec.consumer_ref = Some(ObjectReference {
            api_version: Some(INFRA_API_VERSION.to_owned()),
            kind: Some("Metal3Machine".to_owned()),
            namespace: Some("ns".to_owned()),
            name: Some("m-3".to_owned()),
            ..ObjectReference::default()
        });
        let mut machine = machine("m");
        let node_ref = Some(NameRef { name: "n".to_owned() });
        machine.status = Some(MachineStatus { node_ref, ..MachineStatus::default() });
        let mut metal3_cluster = Metal3Cluster::named("ns", "prod");
        metal3_cluster.metadata.annotations = Some(labels(&[(annotation::LABEL_SYNC_PREFIXES, "foo.metal3.io")]));
        Self {
            host: Some(host),
            metal3_machine: Some(Metal3Machine::clone(&metal3_machine("ns/h"))),
            owner: Some("m"),
            machine: Some(machine),
            cluster: Some(Cluster::named("ns", "prod")),
            metal3_cluster: Some(metal3_cluster),
            node: Some(Fact::There(Arc::new(Node::named("", "n")))),
        }
    }

    fn decide(&self) -> Step {
        decide(&Observed {
            host: self.host.as_ref(),
            metal3_machine: self.metal3_machine.as_ref(),
            owner: self.owner,
            machine: self.machine.as_ref(),
            cluster: self.cluster.as_ref(),
            metal3_cluster: self.metal3_cluster.as_ref(),
            node: self.node.as_ref(),
        })
    }

    fn consumer(&mut self) -> &mut ObjectReference {
        self.host.as_mut().unwrap().spec.consumer_ref.as_mut().unwrap()
    }

    fn without(change: impl FnOnce(&mut Self)) -> Step {
        let mut chain = Self::new();
        change(&mut chain);
        chain.decide()
    }
}

const DONE: Step = Step::Rest(Next::Done);
const WAITS: Step = Step::Rest(Next::After(SAFETY_NET));

#[test]
fn al_20_no_host() {
    assert_eq!(Chain::without(|chain| chain.host = None), DONE);
}

#[test]
fn al_21_a_paused_host_waits() {
    for key in [annotation::HOST_PAUSED, annotation::PAUSED] {
        let step =
            Chain::without(|chain| chain.host.as_mut().unwrap().metadata.annotations = Some(labels(&[(key, "x")])));
        assert_eq!(step, WAITS);
    }
}

#[test]
fn al_22_other_consumers() {
    assert_eq!(Chain::without(|chain| chain.host.as_mut().unwrap().spec.consumer_ref = None), DONE);
    for (kind, api_version) in [
        ("HostClaim", "metal3.io/v1alpha1"),
        ("Metal3Machine", "metal3.io/v1alpha1"),
        ("Metal3Cluster", INFRA_API_VERSION),
    ] {
        let step = Chain::without(|chain| {
            chain.consumer().kind = Some(kind.to_owned());
            chain.consumer().api_version = Some(api_version.to_owned());
        });
        assert_eq!(step, DONE, "{kind} {api_version}");
    }
    let step = Chain::without(|chain| chain.consumer().api_version = Some(format!("{INFRA_GROUP}/v1alpha9")));
    assert!(matches!(step, Step::Label(_)), "whatever the version");
}

#[test]
fn al_23_no_metal3_machine_yet() {
    assert_eq!(Chain::without(|chain| chain.metal3_machine = None), WAITS);
}

#[test]
fn al_24_an_owner_that_does_not_exist() {
    let step = Chain::without(|chain| chain.machine = None);
    assert_eq!(step, Step::Rest(Next::Failed(Problem::MachineMissing("m".to_owned()))));
    let step = Chain::without(|chain| (chain.owner, chain.machine) = (None, None));
    assert_eq!(step, WAITS, "without an owner it is waited for (L-9)");
}

#[test]
fn al_25_no_node_yet() {
    assert_eq!(Chain::without(|chain| chain.machine.as_mut().unwrap().status = None), WAITS);
}

#[test]
fn al_26_a_cluster_that_does_not_exist() {
    let step = Chain::without(|chain| chain.cluster = None);
    assert_eq!(step, Step::Rest(Next::Failed(Problem::ClusterMissing("prod".to_owned()))));
    let step = Chain::without(|chain| chain.metal3_cluster = None);
    assert_eq!(step, Step::Rest(Next::Failed(Problem::Metal3ClusterMissing("prod".to_owned()))));
}

#[test]
fn al_27_a_paused_cluster_waits() {
    assert_eq!(Chain::without(|chain| chain.cluster.as_mut().unwrap().spec.paused = Some(true)), WAITS);
    let step = Chain::without(|chain| {
        let annotations = chain.metal3_cluster.as_mut().unwrap().metadata.annotations.as_mut().unwrap();
        annotations.insert(annotation::PAUSED.to_owned(), String::new());
    });
    assert_eq!(step, WAITS);
}

#[test]
fn al_28_a_cluster_that_asks_for_nothing() {
    for annotations in
        [None, Some(labels(&[("other", "foo.metal3.io")])), Some(labels(&[(annotation::LABEL_SYNC_PREFIXES, " ,")]))]
    {
        let mut chain = Chain::new();
        chain.metal3_cluster.as_mut().unwrap().metadata.annotations = annotations;
        chain.node = None;
        assert_eq!(chain.decide(), DONE, "nobody is even connected to");
    }
}

#[test]
fn al_29_the_node_gets_the_label() {
    let mut chain = Chain::new();
    let patch = json!({ "metadata": { "labels": { "foo.metal3.io/bar": "blue" } } });
    assert_eq!(chain.decide(), Step::Label(patch));
    let mut node = Node::named("", "n");
    node.metadata.labels = Some(labels(&[("foo.metal3.io/bar", "blue")]));
    chain.node = Some(Fact::There(Arc::new(node)));
    assert_eq!(chain.decide(), WAITS, "until one of both changes");
    chain.node = None;
    assert_eq!(chain.decide(), Step::Ask);
    chain.node = Some(Fact::Unreachable("away".to_owned()));
    assert_eq!(chain.decide(), Step::Rest(Next::After(UNREACHABLE)));
    chain.node = Some(Fact::Absent);
    assert_eq!(chain.decide(), WAITS);
}

#[test]
fn al_30_another_namespace_is_not_looked_into_and_nothing_new_not_written() {
    let step = Chain::without(|chain| chain.consumer().namespace = Some("elsewhere".to_owned()));
    assert!(matches!(step, Step::Rest(Next::Failed(Problem::ConsumerElsewhere(_)))), "LH-1");
    let mut chain = Chain::new();
    chain.consumer().namespace = None;
    assert!(matches!(chain.decide(), Step::Label(_)));
    chain.host.as_mut().unwrap().metadata.labels = None;
    assert_eq!(chain.decide(), WAITS, "LH-3");
}

#[test]
fn l_2_a_bad_list_is_said() {
    let step = Chain::without(|chain| {
        let annotations = Some(labels(&[(annotation::LABEL_SYNC_PREFIXES, "foo.metal3.io,@")]));
        chain.metal3_cluster.as_mut().unwrap().metadata.annotations = annotations;
    });
    assert_eq!(step, Step::Rest(Next::Failed(Problem::Prefix("@".to_owned()))));
}
