//! Which host a machine gets, on hosts as they are stored: the acceptance table of the choice and of node reuse.

use super::*;

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Worker,
    ControlPlane,
}
use Role::{ControlPlane, Worker};

#[derive(Clone, Copy)]
enum Asks {
    Nothing,
    /// A selector without requirements.
    Anything,
    Label(&'static str, &'static str),
    /// `key1 <operator> (abc, value1, 123)`.
    Expression(&'static str),
}
use Asks::{Anything, Expression, Label, Nothing};

#[derive(Debug, PartialEq)]
enum Choice {
    Of(&'static str),
    /// Nothing is chosen, and what becomes free wakes the machine.
    Wait,
    Error,
}
use Choice::{Error, Of, Wait};

/// The hosts of the table, by the names that it gives them.
fn named(name: &str) -> BareMetalHost {
    let state = match name {
        "free" => host_state::READY,
        "cp-none" => host_state::NONE,
        _ => host_state::AVAILABLE,
    };
    let mut host = host(name, state);
    match name {
        "other" => host.spec.consumer_ref = consumer("m2"),
        "third" => host.spec.consumer_ref = consumer("m3"),
        "mine" => host.spec.consumer_ref = consumer("m1"),
        "far" => {
            host.spec.consumer_ref = consumer("m1");
            host.spec.consumer_ref.as_mut().unwrap().namespace = Some("elsewhere".to_owned());
        }
        "bad" => host.status.get_or_insert_default().error_message = Some("broken".to_owned()),
        _ => {}
    }
    let labels: &[(&str, &str)] = match name {
        "lbl" => &[("key1", "value1")],
        "fd" => &[(label::FAILURE_DOMAIN, "my-fd-1")],
        "cp" | "cp-none" => &[(label::NODE_REUSE, "cp-test1")],
        "cp-fd" => &[(label::NODE_REUSE, "cp-test1"), (label::FAILURE_DOMAIN, "my-fd-1")],
        _ => &[],
    };
    let annotations: &[(&str, &str)] = match name {
        "unh" => &[("capm3.metal3.io/unhealthy", "")],
        "unh-old" => &[("capi.metal3.io/unhealthy", "")],
        "pau" => &[("baremetalhost.metal3.io/paused", "")],
        _ => &[],
    };
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    host.metadata.labels = Some(map(labels));
    host.metadata.annotations = Some(map(annotations));
    host
}

fn machine(role: Role, asks: Asks, domain: Option<&str>, hosts: &[&str]) -> World {
    let mut world = World::new();
    world.hosts = hosts.iter().map(|name| named(name)).collect();
    world.owner().spec.failure_domain = domain.map(str::to_owned);
    if role == ControlPlane {
        owned_by_control_plane(&mut world, "test1");
    }
    let mut selector = HostSelector::default();
    match asks {
        Nothing | Anything => {}
        Label(key, value) => selector.match_labels = [(key.to_owned(), value.to_owned())].into(),
        Expression(operator) => {
            selector.match_expressions = vec![HostSelectorRequirement {
                key: "key1".to_owned(),
                operator: operator.to_owned(),
                values: ["abc", "value1", "123"].map(str::to_owned).into(),
            }];
        }
    }
    world.m3m().spec.host_selector = (!matches!(asks, Nothing)).then_some(selector);
    world
}

fn owned_by_control_plane(world: &mut World, name: &str) {
    let labels = world.owner().metadata.labels.get_or_insert_default();
    labels.insert(label::CONTROL_PLANE.to_owned(), String::new());
    world.owner().metadata.owner_references =
        Some(vec![reference(CAPI_CONTROL_PLANE_GROUP, "KubeadmControlPlane", name)]);
}

/// Whichever way ties fall.
#[track_caller]
fn check(row: &str, world: &World, expected: &Choice) {
    for pick in 0..4 {
        let mut world = World { pick, ..world.clone() };
        let before = world.hosts.clone();
        let end = world.pass();
        let names: Vec<_> = world.hosts.iter().filter_map(|host| host.metadata.name.clone()).collect();
        let ours = world.hosts.iter().filter(|host| host.spec.consumer_ref == consumer("m1"));
        let ours: Vec<_> = ours.filter_map(|host| host.metadata.name.as_deref()).collect();
        match expected {
            Of(host) => {
                assert_eq!((&end, ours.as_slice()), (&DONE, [*host].as_slice()), "{row} of {names:?}");
                let by_reuse = host.starts_with("cp");
                let reason = if by_reuse {
                    "AssociateBareMetalHostViaNodeReuseSuccess"
                } else {
                    "AssociateBareMetalHostSuccess"
                };
                world.says(ASSOCIATE, "True", reason);
                let others =
                    before.iter().zip(&world.hosts).filter(|(old, _)| old.metadata.name.as_deref() != Some(host));
                others.for_each(|(old, new)| assert_eq!(old, new, "{row}"));
            }
            Wait => {
                assert_eq!((end, world.hosts), (WAIT, before), "{row}");
            }
            Error => {
                assert!(matches!(end, End::Rest(Next::Failed(Problem::Selector(_)))), "{row}: {end:?}");
                assert_eq!(world.hosts, before, "{row}");
            }
        }
    }
}

#[test]
fn the_choice_among_the_hosts_of_the_table() {
    const FD: Option<&str> = Some("my-fd-1");
    type Case = (&'static str, Role, Asks, Option<&'static str>, &'static [&'static str], Choice);
    let rows: [Case; 20] = [
        ("A-H-1", ControlPlane, Nothing, None, &["other", "free", "cp"], Of("cp")),
        ("A-H-2", ControlPlane, Nothing, None, &["other", "free", "cp-none"], Wait),
        ("A-H-3", Worker, Nothing, None, &["other", "free"], Of("free")),
        ("A-H-4", Worker, Nothing, None, &["bad", "other", "free"], Of("free")),
        ("A-H-5", Worker, Nothing, None, &["unh", "other", "free"], Of("free")),
        ("A-H-6", Worker, Nothing, None, &["unh-old", "other", "free"], Of("free")),
        ("A-H-7", Worker, Nothing, None, &["pau", "other", "free"], Of("free")),
        ("A-H-8", Worker, Nothing, None, &["other", "free", "mine"], Of("mine")),
        ("A-H-9", Worker, Nothing, None, &["other", "third", "far"], Wait),
        ("A-H-10", Worker, Anything, None, &["lbl"], Of("lbl")),
        ("A-H-11", ControlPlane, Anything, None, &["cp"], Of("cp")),
        ("A-H-12", Worker, Label("key1", "value1"), None, &["lbl", "free"], Of("lbl")),
        ("A-H-13", Worker, Label("boguskey", "value"), None, &["free", "lbl"], Wait),
        ("A-H-14", Worker, Expression("in"), None, &["free", "lbl"], Of("lbl")),
        ("A-H-15", Worker, Expression("in"), None, &["free"], Wait),
        ("A-H-16", Worker, Expression("pancakes"), None, &["free", "lbl", "other"], Error),
        ("A-H-17", Worker, Nothing, FD, &["free", "lbl", "other", "fd"], Of("fd")),
        ("A-H-18", Worker, Nothing, FD, &["free", "other", "cp"], Of("free")),
        ("A-H-19", ControlPlane, Nothing, FD, &["free", "lbl", "fd", "cp-fd"], Of("cp-fd")),
        ("A-H-20", ControlPlane, Nothing, FD, &["free", "lbl", "fd", "cp"], Of("cp")),
    ];
    for (row, role, asks, domain, hosts, expected) in rows {
        check(row, &machine(role, asks, domain, hosts), &expected);
    }
}

/// A kept host with this label value; none: without labels, or without the label.
fn kept(value: Option<&str>) -> BareMetalHost {
    let mut kept = host("kept", host_state::AVAILABLE);
    kept.metadata.labels = value.map(|value| [(label::NODE_REUSE.to_owned(), value.to_owned())].into());
    kept
}

#[test]
fn who_a_kept_host_is_kept_for() {
    let taken = |world: &mut World| {
        world.pass();
        world.condition(ASSOCIATE).map(|(status, reason, _)| (status == "True").then_some(reason)).unwrap()
    };
    let (free, reused) = (
        Some("AssociateBareMetalHostSuccess".to_owned()),
        Some("AssociateBareMetalHostViaNodeReuseSuccess".to_owned()),
    );
    let control_plane: fn(&mut World) = |world| owned_by_control_plane(world, "test1");
    let ownerless: fn(&mut World) = |world| {
        owned_by_control_plane(world, "test1");
        world.owner().metadata.owner_references = None;
    };
    let worker: fn(&mut World) = |_| {};
    // A host without the label is kept for nobody: whoever comes may have it.
    let rows = [
        ("A-NR-1", worker, None, free.clone()),
        ("A-NR-1", control_plane, None, free),
        ("A-NR-2", control_plane, Some("cp-test1"), reused),
        ("A-NR-3", control_plane, Some(""), None),
        ("A-NR-3", control_plane, Some("cp-test2"), None),
        ("A-NR-4", ownerless, Some(""), None),
        ("A-NR-5", worker, Some("abc"), None),
        // The key alone keeps others away, whatever its value.
        ("A-NR-6", worker, Some(""), None),
    ];
    for (row, who, value, expected) in rows {
        let mut world = World::new();
        world.hosts = vec![kept(value)];
        who(&mut world);
        assert_eq!(taken(&mut world), expected, "{row} {value:?}");
    }
    let mut world = World::new(); // no host at all
    world.hosts.clear();
    assert_eq!((world.pass(), taken(&mut world)), (WAIT, None), "A-NR-1");
}

/// Of a MachineDeployment's machines each takes a host that is kept for it, also under another uid than it was kept by.
#[test]
fn h_9_a_host_kept_by_the_own_cluster_is_taken_over() {
    let mut world = World::new();
    let mut set = MachineSet::named("ns", "set");
    set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
    world.machine_set = Some(set);
    let reserved = |cluster: &str| {
        let mut host = kept(Some("md-test1"));
        host.spec.consumer_ref = Some(from(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "namespace": "ns", "name": cluster,
        })));
        host
    };
    world.hosts = vec![reserved("other")];
    assert_eq!(world.pass(), WAIT);
    world.hosts = vec![reserved("prod")];
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostViaNodeReuseSuccess");
}

/// A pass that ends between the claim and the condition, by a crash or because it lets the data come first, changes nothing about how
/// the machine got its host. That it goes for another one does.
#[test]
fn a_mf_5_how_a_machine_got_its_host_is_still_known_when_its_data_is_there() {
    let mut set = MachineSet::named("ns", "set");
    set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
    let world = World { machine_set: Some(set), hosts: vec![kept(Some("md-test1"))], ..World::with_template() };
    for crash in [1, 2, 3] {
        let mut world = world.clone();
        assert_eq!(world.pass_until(crash), End::Crash);
        world.pass();
        world.says(ASSOCIATE, "True", "AssociateBareMetalHostViaNodeReuseSuccess");
    }
    let mut world = world;
    world.pass_until(1);
    world.hosts = vec![host("other", host_state::AVAILABLE)];
    world.pass();
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn m_50_the_failure_domain_that_cannot_be_a_label_is_one_without_hosts() {
    let world = machine(Worker, Nothing, Some("not a label!"), &["free", "fd"]);
    let mut world = World { pick: 1, ..world };
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess"); // H-51
}
