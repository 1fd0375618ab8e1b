//! The choice on plain values; the acceptance table on whole objects is among the tests of the machine's life.

use super::*;

static ANY: Selector = Selector(Vec::new());
const WORKER: Wanted<'_> = Wanted { machine: "m1", cluster: "prod", selector: &ANY, failure_domain: None, reuse: None };
const CONTROL_PLANE: Wanted<'_> = Wanted { reuse: Some("cp-test1"), ..WORKER };

fn host(name: &str) -> Host<'_> {
    Host { name, state: "available", ..Host::default() }
}

fn free() -> Host<'static> {
    Host { state: "ready", ..host("free") }
}

fn other() -> Host<'static> {
    claimed("other", "m2")
}

fn lbl(labels: &BTreeMap<String, String>) -> Host<'_> {
    Host { labels: Some(labels), ..host("lbl") }
}

fn cp() -> Host<'static> {
    Host { reuse: Some("cp-test1"), ..host("cp") }
}

fn fd() -> Host<'static> {
    Host { failure_domain: Some("my-fd-1"), ..host("fd") }
}

fn claimed<'a>(name: &'a str, by: &'a str) -> Host<'a> {
    Host { consumer: Some(Consumer::Machine(by)), ..host(name) }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn expression(key: &str, operator: &str, values: &[&str]) -> Result<Selector, SelectorError> {
    let values: Vec<_> = values.iter().map(|v| (*v).to_owned()).collect();
    Selector::new([], [(key, operator, values.as_slice())])
}

#[track_caller]
fn check(wanted: &Wanted<'_>, hosts: &[Host<'_>], expected: &Placement<'_>) {
    for pick in 0..4 {
        assert_eq!(place(wanted, hosts.iter().cloned(), pick), *expected);
    }
}

#[track_caller]
fn chosen(wanted: &Wanted<'_>, hosts: &[Host<'_>], host: &str) {
    check(wanted, hosts, &Placement::Claim { host, reused: host.starts_with("cp") });
}

#[track_caller]
fn none(wanted: &Wanted<'_>, hosts: &[Host<'_>]) {
    assert!(matches!(place(wanted, hosts.iter().cloned(), 0), Placement::None(_)));
}

#[test]
fn some_hosts_are_enough_to_choose_among_when_one_has_all_that_is_wished_for() {
    let at_home = Wanted { failure_domain: Some("my-fd-1"), ..WORKER };
    for (wanted, hosts, enough) in [
        (WORKER, vec![], false),
        (WORKER, vec![other()], false),
        (WORKER, vec![other(), free()], true),
        (WORKER, vec![Host { sought: true, ..free() }], false),
        (at_home, vec![free()], false),
        (at_home, vec![free(), fd()], true),
        (CONTROL_PLANE, vec![cp()], false),
    ] {
        assert_eq!(suffices(&wanted, hosts), enough);
    }
}

#[test]
fn a_h_1_and_11_a_kept_host_beats_a_free_one() {
    chosen(&CONTROL_PLANE, &[other(), free(), cp()], "cp");
    chosen(&CONTROL_PLANE, &[cp()], "cp");
}

#[test]
fn a_h_2_waits_for_the_kept_host_rather_than_taking_a_free_one() {
    let kept = Host { state: "", name: "cp-none", ..cp() };
    check(&CONTROL_PLANE, &[other(), free(), kept], &Placement::AwaitReuse(vec!["cp-none"]));
}

#[test]
fn a_h_3_takes_the_free_host_and_leaves_the_claimed_one() {
    chosen(&WORKER, &[other(), free()], "free");
}

#[test]
fn a_h_4_to_7_skips_hosts_in_error_unhealthy_or_paused() {
    let excluded = [
        Host { error: true, ..host("bad") },
        Host { unhealthy: true, ..host("unh") },
        Host { paused: true, ..host("pau") },
        Host { deleting: true, ..host("del") },
        Host { detached: true, ..host("det") },
    ];
    for bad in excluded {
        chosen(&WORKER, &[bad, other(), free()], "free");
    }
}

#[test]
fn a_h_8_an_own_claim_wins_even_when_the_host_no_longer_fits() {
    let mine = Host { unhealthy: true, state: "provisioning", ..claimed("mine", "m1") };
    check(&WORKER, &[other(), free(), mine], &Placement::Adopt("mine"));
}

#[test]
fn h_5_an_own_claim_wins_whatever_the_selector_says() {
    let selector = expression("rack", "exists", &[]).unwrap();
    check(&Wanted { selector: &selector, ..WORKER }, &[claimed("mine", "m1")], &Placement::Adopt("mine"));
}

#[test]
fn a_h_9_hosts_of_others_are_not_for_this_machine() {
    none(&Wanted { machine: "m3", ..WORKER }, &[other(), claimed("third", "m4")]);
}

#[test]
fn a_h_10_and_12_the_selector_narrows_the_choice() {
    let carried = labels(&[("key1", "value1")]);
    chosen(&WORKER, &[lbl(&carried)], "lbl");
    let selector = Selector::new(&carried, []).unwrap();
    chosen(&Wanted { selector: &selector, ..WORKER }, &[lbl(&carried), free()], "lbl");
}

#[test]
fn a_h_13_no_host_carries_the_label() {
    let carried = labels(&[("key1", "value1")]);
    let selector = Selector::new(&labels(&[("boguskey", "value")]), []).unwrap();
    let hosts = [free(), lbl(&carried)];
    let Placement::None(why) = place(&Wanted { selector: &selector, ..WORKER }, hosts, 0) else {
        panic!("a host was chosen")
    };
    assert_eq!(
        why.to_string(),
        "none of 2 BareMetalHosts fits: 2 without the required labels (boguskey=value); \
         nearest is free (it does not match boguskey=value)"
    );
}

#[test]
fn a_h_14_and_15_a_set_of_values() {
    let carried = labels(&[("key1", "value1")]);
    let selector = expression("key1", "in", &["abc", "value1", "123"]).unwrap();
    let wanted = Wanted { selector: &selector, ..WORKER };
    chosen(&wanted, &[free(), lbl(&carried)], "lbl");
    none(&wanted, &[free()]);
}

#[test]
fn a_h_16_an_unknown_operator_is_an_error() {
    let error = expression("key1", "pancakes", &["abc"]).unwrap_err();
    assert_eq!(error.to_string(), "hostSelector: operator \"pancakes\" for key \"key1\" is unknown");
}

#[test]
fn a_h_17_prefers_the_failure_domain() {
    let carried = labels(&[("key1", "value1")]);
    let wanted = Wanted { failure_domain: Some("my-fd-1"), ..WORKER };
    chosen(&wanted, &[free(), lbl(&carried), other(), fd()], "fd");
}

#[test]
fn a_h_18_an_empty_failure_domain_falls_back_to_any_free_host() {
    let wanted = Wanted { failure_domain: Some("my-fd-1"), ..WORKER };
    chosen(&wanted, &[free(), other(), cp()], "free");
    chosen(&Wanted { failure_domain: Some("not a label!"), ..WORKER }, &[free()], "free");
}

#[test]
fn a_h_19_and_20_reuse_beats_the_failure_domain() {
    let wanted = Wanted { failure_domain: Some("my-fd-1"), ..CONTROL_PLANE };
    let cp_fd = Host { name: "cp-fd", failure_domain: Some("my-fd-1"), ..cp() };
    chosen(&wanted, &[free(), fd(), cp(), cp_fd], "cp-fd");
    chosen(&wanted, &[free(), fd(), cp()], "cp");
}

#[test]
fn a_nr_3_and_4_an_empty_or_other_reuse_label_never_matches() {
    for reuse in ["", "cp-other"] {
        let kept = Host { reuse: Some(reuse), ..host("kept") };
        none(&CONTROL_PLANE, std::slice::from_ref(&kept));
        none(&Wanted { reuse: Some(""), ..WORKER }, &[Host { reuse: Some(""), ..kept }]);
    }
}

#[test]
fn n_8_a_reuse_label_does_not_open_a_host_that_a_machine_holds() {
    none(&CONTROL_PLANE, &[Host { consumer: Some(Consumer::Machine("m2")), ..cp() }]);
    let own_cluster = Host { consumer: Some(Consumer::Cluster("prod")), ..cp() };
    chosen(&CONTROL_PLANE, &[own_cluster], "cp");
}

/// Who takes the label off (e2e-scenarios E-23, steps 14 and 18) ends what the host was kept for; the Cluster that is still written
/// there says whose machines may have it.
#[test]
fn a_host_of_the_cluster_without_the_label_is_free_for_its_machines() {
    let unlabelled = Host { consumer: Some(Consumer::Cluster("prod")), reuse: None, ..host("unlabelled") };
    chosen(&CONTROL_PLANE, std::slice::from_ref(&unlabelled), "unlabelled");
    chosen(&WORKER, std::slice::from_ref(&unlabelled), "unlabelled");
    none(&Wanted { cluster: "other", ..WORKER }, std::slice::from_ref(&unlabelled));
    none(&WORKER, &[Host { state: "deprovisioning", ..unlabelled }]);
}

#[test]
fn n_9_of_several_kept_hosts_an_available_one_is_taken_at_once() {
    chosen(&CONTROL_PLANE, &[Host { name: "cp-0", state: "deprovisioning", ..cp() }, cp()], "cp");
}

#[test]
fn n_24_every_free_host_gets_its_turn() {
    let names = ["a", "b", "c"];
    for (pick, name) in names.iter().enumerate() {
        let placement = place(&WORKER, names.map(host), pick + 3);
        assert_eq!(placement, Placement::Claim { host: name, reused: false });
    }
}

#[test]
fn hosts_that_another_machine_goes_for_come_last() {
    let sought = Host { sought: true, ..host("a") };
    chosen(&WORKER, &[sought.clone(), host("b")], "b");
    chosen(&WORKER, &[sought], "a");
}

#[test]
fn says_why_with_counts_and_the_nearest_miss() {
    let hosts = [claimed("a", "m2"), Host { paused: true, ..host("b") }, claimed("c", "m3")];
    let Placement::None(why) = place(&WORKER, hosts, 0) else { panic!("a host was chosen") };
    assert_eq!(why.to_string(), "none of 3 BareMetalHosts fits: 2 claimed, 1 paused; nearest is b (paused)");
}

#[test]
fn of_hosts_without_the_labels_the_nearest_lacks_the_fewest() {
    let carried = [labels(&[]), labels(&[("rack", "7")]), labels(&[("disk", "ssd"), ("rack", "8")])];
    let named =
        ["a", "b", "c"].into_iter().zip(&carried).map(|(name, labels)| Host { labels: Some(labels), ..host(name) });
    let selector = Selector::new(&labels(&[("rack", "7"), ("disk", "ssd")]), [("tier", "exists", &[][..])]).unwrap();
    let Placement::None(why) = place(&Wanted { selector: &selector, ..WORKER }, named, 0) else { panic!("chosen") };
    let nearest = Miss { host: "b", reason: Reason::LabelsDiffer, unmet: vec!["disk=ssd".into(), "tier".into()] };
    assert_eq!(why.nearest, Some(nearest));
    assert!(why.to_string().ends_with("nearest is b (it does not match disk=ssd, tier)"), "{why}");
}

/// M-46: which operators there are and how many values each takes.
#[test]
fn m_46_operators() {
    let rack = labels(&[("rack", "7")]);
    type Case = (&'static str, &'static [&'static str], Option<(bool, bool)>);
    let cases: [Case; 18] = [
        // operator, values, (host with rack=7 matches, host without matches)
        ("=", &["7"], Some((true, false))),
        ("==", &["8"], Some((false, false))),
        ("!=", &["7"], Some((false, true))),
        ("NotIn", &["1", "2"], Some((true, true))),
        ("Exists", &[], Some((true, false))),
        ("!", &[], Some((false, true))),
        ("DoesNotExist", &[], Some((false, true))),
        ("gt", &["6"], Some((true, false))),
        ("gt", &["7"], Some((false, false))),
        ("Lt", &["7"], Some((false, false))),
        ("lt", &["8"], Some((true, false))),
        ("in", &[], None),
        ("=", &["1", "2"], None),
        ("exists", &["7"], None),
        ("!", &["7"], None),
        ("gt", &["x"], None),
        ("gt", &[], None),
        ("in", &["not a value!"], None),
    ];
    for (operator, values, expected) in cases {
        let selector = expression("rack", operator, values).ok();
        let actual = selector.map(|s| (s.matches(Some(&rack)), s.matches(None)));
        assert_eq!(actual, expected, "{operator} {values:?}");
    }
    assert!(matches!(expression("rack", "in", &[]), Err(SelectorError::Count { given: 0, .. })));
    assert!(matches!(expression("rack", "near", &["7"]), Err(SelectorError::Operator { .. })));
    let long = |n: usize| "x".repeat(n);
    for (key, admitted) in [
        ("example.com/rack".to_owned(), true),
        ("my-site.example.com/Rack_1.a".to_owned(), true),
        ("not/a/key".to_owned(), false),
        ("Example.com/rack".to_owned(), false),
        ("a_b.com/rack".to_owned(), false),
        ("-a.com/rack".to_owned(), false),
        ("example..com/rack".to_owned(), false),
        ("/rack".to_owned(), false),
        (format!("{}/rack", long(253)), true),
        (format!("{}/rack", long(254)), false),
        (long(63), true),
        (long(64), false),
    ] {
        assert_eq!(expression(&key, "exists", &[]).is_ok(), admitted, "{key}");
    }
}

/// A host that anyone else holds is never chosen, whatever else is true of it.
#[test]
fn never_takes_a_held_host() {
    for consumer in [Consumer::Machine("m2"), Consumer::Foreign, Consumer::Cluster("other")] {
        for reuse in [None, Some("cp-prod")] {
            let held = Host { consumer: Some(consumer), reuse, ..host("held") };
            none(&Wanted { reuse: Some("cp-prod"), ..WORKER }, &[held]);
        }
    }
}
