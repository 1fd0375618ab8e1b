//! What Cluster API expects of an infrastructure machine, as far as it is decided here (capi-contract.md 1.4, 1.8, 1.9 and 6).

use super::*;

/// Provisioned, its Node found.
fn joined() -> World {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.join();
    world.writes.clear();
    world.asked.clear();
    world
}

/// As Cluster API writes it for an update in place.
fn update(world: &mut World) {
    world.annotate(annotation::UPDATE_IN_PROGRESS, "");
    let spec = &mut world.m3m().spec;
    spec.image = Some(Image { url: "http://192.0.2.1/new.qcow2".to_owned(), ..Image::default() });
    spec.data_template = Some(NamespacedRef::new("ns", "new"));
    spec.custom_deploy = Some(CustomDeploy { method: "new".to_owned() });
    spec.host_selector = Some(HostSelector {
        match_labels: [("nobody".to_owned(), "has-it".to_owned())].into(),
        ..HostSelector::default()
    });
    world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = Some("m1-new".to_owned());
}

#[test]
fn k_62_an_update_in_place_changes_nothing_on_the_host() {
    let mut world = joined();
    let hosts = world.hosts.clone();
    update(&mut world);
    assert_eq!(world.pass(), DONE);
    assert_eq!((&world.hosts, &world.claim, &world.writes[..]), (&hosts, &None, &[][..]));
    world.m3m().metadata.annotations.as_mut().unwrap().remove(annotation::UPDATE_IN_PROGRESS);
    assert_eq!(world.pass(), DONE);
    assert_eq!((&world.hosts, &world.claim, &world.writes[..]), (&hosts, &None, &[][..]), "nor afterwards");
    for kind in [ASSOCIATE, METADATA, DATA, "Ready"] {
        assert_eq!(world.condition(kind).unwrap().0, "True", "{kind}");
    }
}

#[test]
fn k_62_a_machine_with_data_keeps_what_it_was_given() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.set_state(host_state::PROVISIONED);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.join();
    let (hosts, claim) = (world.hosts.clone(), world.claim.clone());
    world.writes.clear();
    update(&mut world);
    assert_eq!(world.pass(), DONE);
    assert_eq!((&world.hosts, &world.claim, &world.writes[..]), (&hosts, &claim, &[][..]));
}

/// The same before Cluster API has found the Node, and before the host is deployed: whoever updates it is at work.
#[test]
fn k_62_a_machine_that_is_updated_is_not_deployed_meanwhile() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.writes.clear();
    update(&mut world);
    assert_eq!((world.pass(), &world.claim, &world.writes[..]), (DONE, &None, &[][..]));

    let mut world = World::with_template();
    world.pass();
    world.render();
    let claimed = world.hosts.clone();
    update(&mut world);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts, claimed);
    world.m3m().metadata.annotations.as_mut().unwrap().remove(annotation::UPDATE_IN_PROGRESS);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.image.as_ref().unwrap().url, "http://192.0.2.1/new.qcow2");
}

#[test]
fn k_37_and_k_166_a_provisioned_host_is_not_touched_by_what_is_changed_later() {
    let changes: [fn(&mut World); 5] = [
        |world| world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = Some("other".to_owned()),
        |world| world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None,
        |world| world.m3m().spec.image.as_mut().unwrap().url = "http://192.0.2.1/other".to_owned(),
        |world| world.m3m().spec.user_data = Some(SecretRef::named("other")),
        |world| {
            world.m3m().spec.host_selector = Some(HostSelector {
                match_labels: [("nobody".to_owned(), "has-it".to_owned())].into(),
                ..HostSelector::default()
            });
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut world = joined();
        let hosts = world.hosts.clone();
        world.secrets.clear(); // the data Secret may be gone as well, nobody looks
        change(&mut world);
        assert_eq!((world.pass(), &world.hosts, &world.writes[..]), (DONE, &hosts, &[][..]), "change {i}");
        assert_eq!(world.asked, [], "K-166: change {i}");
    }
}

/// The annotation is Cluster API's, and so is the spec: neither is in a write of ours, and the machine waits for nothing else.
#[test]
fn k_61_the_trigger_of_an_update_is_left_to_who_set_it() {
    let mut world = joined();
    for (key, name) in [(annotation::CLONED_FROM_NAME, "new"), (annotation::CLONED_FROM_GROUP_KIND, "x")] {
        world.annotate(key, name); // in the same write as spec and annotation
    }
    update(&mut world);
    let before = world.m3m().clone();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m(), &before);
    world.m3m().metadata.annotations.as_mut().unwrap().remove(annotation::UPDATE_IN_PROGRESS);
    let before = world.m3m().clone();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m(), &before);
}

/// The wish comes from the Machine and is passed on as it is; there is no other place that would tell the domain a host has.
#[test]
fn k_28_and_39_the_failure_domain_is_the_machine_s_and_nothing_is_interruptible() {
    let mut world = World::new();
    world.owner().spec.failure_domain = Some("rack-1".to_owned());
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m().spec.failure_domain.as_deref(), Some("rack-1"));
    let status = serde_json::to_value(world.status()).unwrap();
    assert_eq!(status.get("failureDomain"), None);
    assert_eq!(status.get("interruptible"), None, "K-39");
}

/// Whatever waits, waits with a timer or for something whose event wakes the machine, which the tests of the routes show.
#[test]
fn k_146_every_wait_has_an_end() {
    let by_event: [fn(&mut World); 5] = [
        |world| world.m3m().metadata.owner_references = None, // its own event
        |world| world.cluster = None,                         // the Cluster's
        |world| world.cluster.as_mut().unwrap().status = None,
        |world| world.infrastructure = None,
        |world| world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None, // the Machine's
    ];
    for shape in by_event {
        let mut world = World::new();
        shape(&mut world);
        assert_eq!(world.pass(), DONE);
    }
    let timed: [fn(&mut World); 5] = [
        |world| world.hosts.clear(),
        |world| world.pause(true),
        |world| world.credentials = Credentials::Missing,
        |world| world.m3m().spec.data_template = Some(NamespacedRef::named("late")),
        |world| world.m3m().spec.meta_data = Some(SecretRef::named("late")),
    ];
    for shape in timed {
        let mut world = World::new();
        shape(&mut world);
        let End::Rest(Next::After(delay)) = world.pass() else { panic!("no timer") };
        assert!(delay <= SAFETY_NET, "{delay:?}");
    }
    for nodes in [Nodes::Connecting, Nodes::Unreachable("no".to_owned()), Nodes::Listed(Vec::new())] {
        let mut world = World::running();
        world.nodes = nodes;
        assert!(matches!(world.pass(), End::Rest(Next::After(delay)) if delay <= SAFETY_NET));
    }
    for state in [host_state::DEPROVISIONING, host_state::PROVISIONED] {
        assert_eq!(World::cleared(state).pass(), WAIT);
    }
}

#[test]
fn k_36_each_of_what_is_waited_for_before_a_host_is_taken() {
    let lacks: [fn(&mut World); 6] = [
        |world| world.m3m().metadata.owner_references = None,
        |world| world.cluster = None,
        |world| world.pause(true),
        |world| world.annotate(annotation::PAUSED, ""),
        |world| world.cluster.as_mut().unwrap().status = None,
        |world| world.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None,
    ];
    for (i, lack) in lacks.into_iter().enumerate() {
        let mut world = World::new();
        lack(&mut world);
        let hosts = world.hosts.clone();
        assert!(matches!(world.pass(), End::Rest(Next::Done | Next::After(_))), "{i}: no failure");
        assert_eq!((&world.hosts, &world.writes[..]), (&hosts, &["status".to_owned()][..]), "{i}");
    }
    assert!(!World::new().hosts.is_empty());
}

#[test]
fn k_24_to_26_the_identity_is_complete_before_the_machine_is_provisioned() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    for writes in 0..3 {
        let mut world = world.clone();
        world.pass_until(writes);
        let machine = world.machine.clone().unwrap();
        let provisioned = machine.status.and_then(|s| s.initialization).and_then(|i| i.provisioned) == Some(true);
        assert!(!provisioned || machine.spec.provider_id.is_some_and(|id| !id.is_empty()), "K-24 after {writes}");
    }
    assert_eq!(world.pass(), DONE);
    let Nodes::Listed(nodes) = &world.nodes else { panic!() };
    let id = world.machine.as_ref().unwrap().spec.provider_id.as_deref();
    assert_eq!((id, nodes[0].provider_id.as_deref()), (Some("metal3://ns/host-0/m1"), id), "K-25");
    assert_eq!(world.status().initialization.unwrap().provisioned, Some(true), "K-26");
    // The latch stays, whatever becomes of host and Node.
    world.nodes = Nodes::Listed(Vec::new());
    world.set_state(host_state::DEPROVISIONING);
    world.pass();
    assert_eq!(world.status().initialization.unwrap().provisioned, Some(true), "K-26");
}

#[test]
fn k_27_addresses_are_of_known_types_and_go_with_the_hardware() {
    let mut world = World::running();
    let known = ["Hostname", "ExternalIP", "InternalIP", "ExternalDNS", "InternalDNS"];
    let addresses = world.status().addresses;
    assert!(!addresses.is_empty());
    assert!(addresses.iter().all(|a| known.contains(&a.type_.as_str()) && (1..=256).contains(&a.address.len())));
    world.host().status.as_mut().unwrap().hardware.as_mut().unwrap().hostname = None;
    world.pass();
    assert!(world.status().addresses.iter().all(|a| a.type_ == "InternalIP"));
}

#[test]
fn k_34_what_cluster_api_wrote_is_in_no_patch_of_ours() {
    let mut world = World::with_template();
    let cloned = [(annotation::CLONED_FROM_NAME, "workers"), (annotation::CLONED_FROM_GROUP_KIND, "x")];
    cloned.iter().for_each(|(key, value)| world.annotate(key, value));
    let core = |world: &World| {
        let meta = &world.machine.as_ref().unwrap().metadata;
        let annotations = meta.annotations.clone().unwrap_or_default();
        let cloned = cloned.map(|(key, _)| annotations.get(key).cloned());
        (meta.owner_references.clone(), meta.labels.clone(), cloned)
    };
    let before = core(&world);
    let mut patches = Vec::new();
    let pass = |world: &mut World, patches: &mut Vec<Value>| {
        let keep = |action: &Action| {
            if let Action::Machine { patch, .. } = action {
                patches.push(patch.clone());
            }
            Fate::Lands
        };
        world.run(keep, |_| true)
    };
    pass(&mut world, &mut patches);
    world.render();
    pass(&mut world, &mut patches);
    world.set_state(host_state::PROVISIONED);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    pass(&mut world, &mut patches);
    assert_eq!(core(&world), before, "K-32: annotations among them");
    for patch in &patches {
        let text = patch.to_string();
        for core in ["ownerReferences", "cluster-name", "cloned-from", "resourceVersion"] {
            assert!(!text.contains(core), "{text}");
        }
    }
    assert_eq!(patches.len(), 2, "finalizer and host; identity: {patches:?}");
}

#[test]
fn k_56_nothing_is_done_while_paused_and_the_pause_is_said() {
    for by_cluster in [true, false] {
        for start in [World::new(), World::with_template(), joined(), World::leaving()] {
            let mut world = start.clone();
            if by_cluster {
                world.pause(true)
            } else {
                world.annotate(annotation::PAUSED, "any")
            }
            let (hosts, before) = (world.hosts.clone(), world.status());
            assert_eq!(world.pass(), WAIT);
            let after = world.status();
            assert_eq!((after.initialization, after.rendered_data), (before.initialization, before.rendered_data));
            assert_eq!(world.claim, start.claim);
            for (old, new) in hosts.iter().zip(&world.hosts) {
                assert_eq!(old.spec, new.spec, "but for the annotations that hold the host still");
            }
            let cause = if by_cluster {
                "Cluster spec.paused is set to true"
            } else {
                "Metal3Machine has the cluster.x-k8s.io/paused annotation"
            };
            world.says("Paused", "True", "Paused");
            assert_eq!(world.message("Paused"), cause, "K-57");
            let generation =
                world.status().conditions.iter().find(|c| c.type_ == "Paused").unwrap().observed_generation;
            assert_eq!(generation, Some(1), "K-57");
        }
    }
    let mut world = World::new();
    world.pass();
    world.says("Paused", "False", "NotPaused");
}

#[test]
fn k_162_the_ways_to_a_node_in_their_order() {
    let pass = |nodes: Vec<Node>, shape: fn(&mut World)| {
        let mut world = World::running();
        shape(&mut world);
        world.nodes = Nodes::Listed(nodes);
        let end = world.pass();
        let id = world.m3m().spec.provider_id.clone();
        let provisioned = world.status().initialization.and_then(|i| i.provisioned) == Some(true);
        (end, id.is_some(), provisioned, world.writes.iter().any(|w| w.starts_with("NameNode")))
    };
    let plain: fn(&mut World) = |_| {};
    let known: fn(&mut World) = |world| {
        world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
        world.host().metadata.uid = Some("another-after-a-move".to_owned());
    };
    let cloud: fn(&mut World) = |world| world.infrastructure.as_mut().unwrap().spec.cloud_provider_enabled = Some(true);
    let alone: fn(&mut World) = |world| world.owner().spec.bootstrap.as_mut().unwrap().config_ref = None;
    let with_id = || node("node-a", &[], Some(PROVIDER_ID));
    // Its identity is known and one Node carries it.
    assert_eq!(pass(vec![with_id()], known), (DONE, true, true, false));
    // A cloud provider gives it, nobody else.
    assert_eq!(pass(vec![labelled_node(None)], cloud), (WAIT, false, false, false));
    assert_eq!(pass(vec![with_id()], cloud), (DONE, true, true, false));
    // By label: none, one without, one with this and one with another identity, two.
    assert_eq!(pass(vec![], plain), (WAIT, false, false, false));
    assert_eq!(pass(vec![labelled_node(None)], plain), (DONE, true, true, true));
    assert_eq!(pass(vec![labelled_node(Some(PROVIDER_ID))], plain), (DONE, true, true, false));
    let failed =
        |outcome: (End, bool, bool, bool)| matches!(outcome, (End::Rest(Next::Failed(_)), false, false, false));
    assert!(failed(pass(vec![labelled_node(Some("metal3://else"))], plain)), "K-172: no silent adoption");
    assert!(failed(pass(vec![labelled_node(None), Node { name: "b".to_owned(), ..labelled_node(None) }], plain)));
    // Without a bootstrap provider at once; the Node is found by its host name, when there is exactly one.
    let by_name = |name: &str| node(name, &[(label::HOSTNAME, "worker-0")], None);
    assert_eq!(pass(vec![], alone), (WAIT, true, true, false));
    assert_eq!(pass(vec![by_name("a")], alone), (DONE, true, true, true));
    assert_eq!(pass(vec![by_name("a"), by_name("b")], alone), (WAIT, true, true, false));
    // Two of one host, or one identity twice.
    let twice = vec![with_id(), Node { name: "node-b".to_owned(), ..with_id() }];
    assert!(failed(pass(twice, plain)));
    let of_host = vec![with_id(), node("node-b", &[], Some("metal3://ns/host-0/other"))];
    assert!(failed(pass(of_host, plain)));
}

#[test]
fn k_172_what_the_node_is_named_is_what_the_machine_says_of_itself() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    let mut given = Vec::new();
    world.run(
        |action| {
            match action {
                Action::NameNode { provider_id, .. } => given.push(provider_id.clone()),
                Action::Machine { purpose: Purpose::Identify, patch } => {
                    given.push(patch["spec"]["providerID"].as_str().unwrap().to_owned());
                }
                _ => {}
            }
            Fate::Lands
        },
        |_| true,
    );
    assert_eq!(given, [PROVIDER_ID, PROVIDER_ID]);
}

#[test]
fn k_194_a_machine_goes_without_its_cluster_and_leaves_its_node() {
    let mut world = joined();
    world.nodes = Nodes::Unreachable("Cluster ns/prod: no".to_owned());
    world.delete();
    world.pass();
    assert!(world.hosts[0].spec.consumer_ref.is_some(), "K-38: the finalizer stays as long as the host");
    assert!(world.machine.is_some(), "K-38");
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), End::Gone);
    assert!(!world.asked.contains(&Question::Nodes));
    assert!(!world.writes.iter().any(|write| write.starts_with("NameNode")));
}

#[test]
fn k_148_and_k_150_deletion_waits_for_no_infrastructure_but_for_the_pause() {
    let mut world = World::leaving();
    world.infrastructure = None;
    world.cluster.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    world.pause(true);
    let spec = world.hosts[0].spec.clone();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.hosts[0].spec, spec, "K-150");
    assert!(world.m3m().metadata.finalizers.iter().flatten().any(|f| f == finalizer::MACHINE), "K-150");
    world.pause(false);
    world.pass();
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), End::Gone);
}

#[test]
fn k_165_the_host_reads_the_bootstrap_secret_itself() {
    let mut world = World::new();
    world.m3m().spec.user_data = Some(SecretRef::named("own"));
    world.secrets.clear();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.user_data, Some(SecretRef::new("ns", "m1-bootstrap")));
    assert!(!world.asked.iter().any(|question| matches!(question, Question::Secret { .. })), "nor is it copied");
    let mut waiting = World::new();
    waiting.owner().spec.bootstrap.as_mut().unwrap().data_secret_name = None;
    waiting.pass();
    waiting.says(ASSOCIATE, "False", "WaitingForBootstrapData");
    let mut foreign = World::new();
    foreign.m3m().spec.user_data = Some(SecretRef::new("elsewhere", "own"));
    assert!(matches!(foreign.pass(), End::Rest(Next::Failed(Problem::ForeignNamespace { .. }))));
}
