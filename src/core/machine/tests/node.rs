//! The host is provisioned, the Node is found and named, and a settled machine is quiet (M-88 to M-95).

use super::*;

#[test]
fn a_i_15_a_host_that_is_provisioning_is_waited_for() {
    let mut world = World::running();
    world.set_state(host_state::PROVISIONING);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m().spec.provider_id, None);
}

#[test]
fn h_56_a_host_in_error_shows_on_the_machine_until_it_recovers() {
    let mut world = World::running();
    world.set_state(host_state::PROVISIONING);
    let status = world.host().status.get_or_insert_default();
    status.error_type = Some("provisioning error".to_owned());
    status.error_message = Some("image not found".to_owned());
    assert_eq!(world.pass(), DONE);
    world.says(METADATA, "False", "CreateError");
    assert_eq!(world.message(METADATA), "BareMetalHost ns/host-0: provisioning error: image not found");

    world.host().status.get_or_insert_default().error_message = None;
    world.pass();
    world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
}

#[test]
fn a_i_13_a_labelled_node_gets_its_identity_first() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["NameNode node-a", "Identify", "status"]);
    assert_eq!(world.m3m().spec.provider_id.as_deref(), Some(PROVIDER_ID), "A-I-19");
    assert_eq!(world.status().initialization.unwrap().provisioned, Some(true));
    assert_eq!(world.condition(METADATA).unwrap().0, "True", "A-MF-8");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
    world.says(DATA, "True", "SecretsSetExternally");
    world.says("Ready", "True", "Ready");
}

/// Its kubelet knows no providerID, and what it registered was deleted before Cluster API had found it.
#[test]
fn m_38_a_node_that_registers_anew_before_it_was_found_gets_its_name_again() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.writes.clear();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["NameNode node-a"]);
    assert_eq!(world.nodes, Nodes::Listed(vec![labelled_node(Some(PROVIDER_ID))]));

    world.writes.clear();
    let quiet = [
        Nodes::Listed(Vec::new()),
        Nodes::Listed(vec![labelled_node(Some("aws://x/y"))]),
        Nodes::Listed(vec![labelled_node(None), labelled_node(None)]),
        Nodes::Unreachable("Cluster ns/prod: no".to_owned()),
        Nodes::Connecting,
    ];
    for nodes in quiet {
        world.nodes = nodes;
        assert_eq!((world.pass(), &world.writes[..]), (DONE, &[][..]), "{:?}", world.nodes);
    }
    world.infrastructure.as_mut().unwrap().spec.cloud_provider_enabled = Some(true);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!((world.pass(), &world.writes[..]), (DONE, &[][..]), "the cloud provider's to name");
}

#[test]
fn a_s_2_an_identity_that_was_another_is_replaced() {
    for before in [None, Some(""), Some("metal3://ns/other/m1")] {
        let mut world = World::running();
        world.m3m().spec.provider_id = before.map(str::to_owned);
        world.nodes = Nodes::Listed(vec![labelled_node(None)]);
        assert_eq!(world.pass(), DONE);
        assert_eq!(world.m3m().spec.provider_id.as_deref(), Some(PROVIDER_ID), "{before:?}");
    }
}

#[test]
fn a_s_3_and_4_provisioned_is_an_identity_and_the_word_for_it() {
    let rows = [
        ("A-S-3", Some(PROVIDER_ID), Some(true), true),
        ("A-S-4", Some(PROVIDER_ID), None, false),
        ("A-S-4", Some(PROVIDER_ID), Some(false), false),
        ("A-S-4", Some(""), Some(true), false),
        ("A-S-4", None, Some(true), false),
        ("A-S-4", None, None, false),
    ];
    for (row, id, provisioned, settled) in rows {
        let mut world = World::running();
        world.join();
        world.m3m().spec.provider_id = id.map(str::to_owned);
        let initialization = provisioned.map(|p| from(json!({ "provisioned": p })));
        world.m3m().status.as_mut().unwrap().initialization = initialization;
        let machine = world.machine.clone().unwrap();
        assert_eq!(
            world.observed(&machine, &Answers::default(), false).is_settled(),
            settled,
            "{row} {id:?} {provisioned:?}"
        );
    }
}

#[test]
fn a_s_20_the_addresses_are_those_of_the_host_now() {
    let mut world = World::running();
    let shown = |world: &World| world.status().addresses.iter().map(|a| a.address.clone()).collect::<Vec<_>>();
    assert_eq!(shown(&world), ["192.0.2.7", "worker-0", "worker-0"]);
    world.pass();
    assert_eq!(world.writes, [""; 0], "unchanged");
    let hardware = world.host().status.as_mut().unwrap().hardware.as_mut().unwrap();
    hardware.nics[0].ip = Some("192.0.2.8".to_owned());
    world.pass();
    assert_eq!(shown(&world), ["192.0.2.8", "worker-0", "worker-0"], "changed");
    world.host().status.as_mut().unwrap().hardware = None;
    world.pass();
    assert_eq!(shown(&world), [""; 0], "empty");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

/// By which way ever a machine without a data template comes to run, its data is the user's affair (H-31).
#[test]
fn n_16_every_way_to_run_says_so_of_the_data() {
    let cloud: fn(&mut World) = |world| {
        world.infrastructure.as_mut().unwrap().spec.cloud_provider_enabled = Some(true);
        world.nodes = Nodes::Listed(vec![node("node-a", &[], Some(PROVIDER_ID))]);
    };
    let by_id: fn(&mut World) = |world| {
        world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
        world.nodes = Nodes::Listed(vec![node("node-a", &[], Some(PROVIDER_ID))]);
    };
    let by_hostname: fn(&mut World) = |world| {
        world.owner().spec.bootstrap.as_mut().unwrap().config_ref = None;
        world.nodes = Nodes::Listed(vec![node("node-a", &[(label::HOSTNAME, "worker-0")], None)]);
    };
    for way in [cloud, by_id, by_hostname] {
        let mut world = World::running();
        way(&mut world);
        assert_eq!(world.pass(), DONE);
        world.says(DATA, "True", "SecretsSetExternally");
        world.says("Ready", "True", "Ready");
    }
}

#[test]
fn n_18_the_machine_is_named_after_its_node() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass_until(1), End::Crash);
    assert_eq!(world.writes, ["NameNode node-a"]);
    assert_eq!(world.m3m().spec.provider_id, None);
}

#[test]
fn a_i_14_a_node_that_carries_the_identity_is_the_one() {
    let mut world = World::running();
    world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
    world.nodes = Nodes::Listed(vec![node("node-a", &[], Some(PROVIDER_ID)), node("node-b", &[], None)]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m().spec.provider_id.as_deref(), Some(PROVIDER_ID));
    for kind in [ASSOCIATE, METADATA, DATA, "Ready"] {
        assert_eq!(world.condition(kind).unwrap().0, "True", "{kind}");
    }
}

#[test]
fn a_i_18_no_node_yet_is_waited_for_with_words() {
    let mut world = World::running();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.m3m().spec.provider_id, None);
    let node = "a Node with the label metal3.io/uuid=uid-host-0";
    let expected = format!("waiting for BareMetalHost ns/host-0 to be provisioned and for {node}");
    assert_eq!(world.message("Ready"), expected);
    assert_eq!(world.writes, [""; 0], "it was said when the host was claimed");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_mf_10_a_workload_cluster_out_of_reach_is_asked_again() {
    let mut world = World::running();
    world.nodes = Nodes::Unreachable("Cluster ns/prod: no".to_owned());
    let associated = |world: &mut World, second| {
        let conditions = &mut world.m3m().status.as_mut().unwrap().conditions;
        conditions.iter_mut().for_each(|c| c.last_transition_time = Time(Timestamp::from_second(second).unwrap()));
    };
    associated(&mut world, 3590);
    assert_eq!(world.pass(), End::Rest(Next::After(NO_EVENT)));
    assert_eq!(world.writes, [""; 0], "it may be the machine that brings the cluster up");
    associated(&mut world, 3300);
    assert_eq!(world.pass(), End::Rest(Next::After(NO_EVENT)));
    world.says(METADATA, "False", "CreateError");
    world.nodes = Nodes::Connecting;
    let before = world.status().conditions.len();
    assert_eq!(world.pass(), End::Rest(Next::After(NO_EVENT)));
    assert_eq!(world.status().conditions.len(), before);
}

#[test]
fn m_92_and_h_38_nodes_that_do_not_add_up_are_named() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None), Node { name: "node-b".to_owned(), ..labelled_node(None) }]);
    assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::SharedHostLabel { .. }))));
    assert_eq!(world.message(METADATA), "Nodes node-a, node-b share the label metal3.io/uuid=uid-host-0");

    world.nodes = Nodes::Listed(vec![labelled_node(Some("metal3://uid-host-0"))]);
    assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::OtherProviderId { .. }))));
    assert!(world.message(METADATA).contains("metal3://uid-host-0"));
}

#[test]
fn m_91_a_cloud_provider_names_the_node() {
    let mut world = World::running();
    world.infrastructure.as_mut().unwrap().spec.cloud_provider_enabled = Some(true);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), WAIT);
    world.nodes = Nodes::Listed(vec![node("node-a", &[], Some(PROVIDER_ID))]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.m3m().spec.provider_id.as_deref(), Some(PROVIDER_ID));
    world.says(DATA, "True", "SecretsSetExternally");
    assert!(!world.writes.iter().any(|write| write.starts_with("NameNode")));
}

#[test]
fn a_i_16_without_a_bootstrap_provider_the_host_name_finds_the_node() {
    let mut world = World::running();
    world.owner().spec.bootstrap.as_mut().unwrap().config_ref = None;
    assert_eq!(world.pass(), WAIT, "A-I-17");
    assert_eq!(world.status().initialization.unwrap().provisioned, Some(true), "provisioned at once");
    assert_eq!(world.message(METADATA), "waiting for a Node named worker-0");
    world.says(DATA, "True", "SecretsSetExternally");

    world.nodes = Nodes::Listed(vec![node("n", &[(label::HOSTNAME, "worker-0")], None)]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.nodes, Nodes::Listed(vec![node("n", &[(label::HOSTNAME, "worker-0")], Some(PROVIDER_ID))]));
    world.says("Ready", "True", "Ready");

    world.writes.clear();
    assert_eq!((world.pass(), &world.writes[..]), (DONE, &[][..]), "the Node is named");
    let other = Some("aws://x/y");
    world.nodes = Nodes::Listed(vec![node("n", &[(label::HOSTNAME, "worker-0")], other)]);
    let End::Rest(Next::Failed(problem)) = world.pass() else { panic!("no failure") };
    assert_eq!(problem.category(), "OtherProviderID");
    assert_eq!(world.nodes, Nodes::Listed(vec![node("n", &[(label::HOSTNAME, "worker-0")], other)]));
    world.says(METADATA, "False", "UpdateError");

    world.nodes = Nodes::Listed(Vec::new());
    world.host().status.as_mut().unwrap().hardware = None;
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(METADATA), "the host has no host name to find its Node by");
}

#[test]
fn m_94_any_part_of_a_bootstrap_reference_makes_a_bootstrap_provider() {
    let of = |kind: &str, name: &str, group: Option<&str>| ContractRef {
        kind: kind.to_owned(),
        name: name.to_owned(),
        api_group: group.map(str::to_owned),
    };
    for (config, at_once) in
        [(of("", "", None), true), (of("", "", Some("")), true), (of("K", "", None), false), (of("", "n", None), false)]
    {
        let mut world = World::running();
        world.owner().spec.bootstrap.as_mut().unwrap().config_ref = Some(config);
        world.pass();
        assert_eq!(world.status().initialization.is_some(), at_once);
    }
}

#[test]
fn a_mf_1_and_n_21_a_settled_machine_is_quiet() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.asked.clear();
    world.writes.clear();
    assert_eq!((world.pass(), &world.writes[..]), (DONE, &[][..]), "Cluster API has not seen the Node yet");
    world.asked.clear();
    world.join();
    for config in [world.owner().spec.bootstrap.as_mut().unwrap().config_ref.clone(), None] {
        world.owner().spec.bootstrap.as_mut().unwrap().config_ref = config;
        assert_eq!(world.pass(), DONE);
    }
    assert_eq!(world.writes, [""; 0]);
    assert_eq!(world.asked, []);
    for kind in [ASSOCIATE, METADATA, DATA, "Ready"] {
        assert_eq!(world.condition(kind).unwrap().0, "True", "{kind}");
    }
}

#[test]
fn m_23_after_a_move_the_machine_is_recognised_without_its_status() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.set_state(host_state::PROVISIONED);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.join();
    let before = world.status();
    world.m3m().status = None;
    world.host().metadata.uid = Some("new-uid".to_owned());
    world.writes.clear();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["status"], "the label is there already");
    let after = world.status();
    assert_eq!(
        (after.user_data, after.meta_data, after.rendered_data, after.initialization),
        (before.user_data, before.meta_data, before.rendered_data, before.initialization)
    );
}

#[test]
fn h_25_old_failure_fields_are_cleared() {
    let mut world = World::new();
    world.m3m().status =
        Some(from(json!({ "deprecated": { "v1beta1": { "failureReason": "CreateError", "failureMessage": "x" } } })));
    world.pass();
    let legacy = world.status().deprecated.and_then(|d| d.v1beta1).unwrap();
    assert_eq!((legacy.failure_reason, legacy.failure_message), (None, None));
}

#[test]
fn k_29_an_identity_alone_is_not_running() {
    let mut world = World::running();
    world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
    world.set_state(host_state::PROVISIONING);
    assert_eq!(world.pass(), DONE);
    world.says("Ready", "False", "NotReady");
    assert!(world.message("Ready").starts_with("waiting for BareMetalHost ns/host-0 to be provisioned"));
}
