//! A machine gets its host: claimed once, found again after a crash, never taken from somebody else (M-30 to M-60, 9.4).

use super::*;

#[test]
fn a_i_11_the_whole_host_in_one_claim() {
    let mut world = World::new();
    world.m3m().spec.image = Some(Image {
        url: "http://192.0.2.1/i".to_owned(),
        checksum: Some("http://192.0.2.1/i.sum".to_owned()),
        checksum_type: Some("sha256".to_owned()),
        disk_format: Some("qcow2".to_owned()),
    });
    assert_eq!(world.pass(), DONE);
    let host = &world.hosts[0];
    assert_eq!(host.spec.consumer_ref, consumer("m1"));
    let image = host.spec.image.clone().unwrap();
    assert_eq!(
        (image.url.as_str(), image.checksum.as_deref(), image.checksum_type.as_deref(), image.format.as_deref()),
        ("http://192.0.2.1/i", Some("http://192.0.2.1/i.sum"), Some("sha256"), Some("qcow2"))
    );
    assert_eq!(host.spec.user_data, Some(SecretRef::new("ns", "m1-bootstrap")));
    assert_eq!(host.spec.online, Some(true));
    assert_eq!(host::labelled(host, label::CLUSTER_NAME), Some("prod"));
    assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), Some(""));
    assert_eq!(world.writes, ["Intend", "Claim { reused: false } host-0", "credentials prod", "status"]);
    let machine = world.machine.clone().unwrap();
    assert_eq!(machine.metadata.finalizers, Some(vec![finalizer::MACHINE.to_owned()]));
    assert_eq!(machine.metadata.annotations.unwrap()[annotation::HOST], "ns/host-0");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
    assert_eq!(world.legacy("AssociateBMH"), Some(("True".to_owned(), None)), "A-MF-3");
}

/// By 9.4 the annotation comes before the claim: when it cannot be stored, nothing was associated and nothing is said of it.
#[test]
fn a_mf_4_and_6_without_the_annotation_nothing_has_changed() {
    for (row, kept) in [("A-MF-4", false), ("A-MF-6", true)] {
        let mut world = World::new();
        if kept {
            let mut set = MachineSet::named("ns", "set");
            set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
            world.machine_set = Some(set);
            world.host().metadata.labels = Some([(label::NODE_REUSE.to_owned(), "md-test1".to_owned())].into());
        }
        let before = world.clone();
        assert_eq!(world.pass_until(0), End::Crash, "{row}");
        assert_eq!((world.machine, world.hosts), (before.machine, before.hosts), "{row}");
    }
}

#[test]
fn a_i_12_empty_members_of_the_image_are_not_sent() {
    let mut world = World::new();
    world.set_state(host_state::READY);
    let image = world.m3m().spec.image.as_mut().unwrap();
    (image.disk_format, image.checksum) = (Some(String::new()), Some(String::new()));
    let machine = world.machine.clone().unwrap();
    let mut status =
        Metal3MachineStatus { user_data: Some(SecretRef::new("ns", "u")), ..Metal3MachineStatus::default() };
    status.addresses.clear();
    let answers = Answers::default();
    let fields =
        crate::machine::provision::missing(&world.observed(&machine, &answers, false), &world.hosts[0], &status);
    assert_eq!(fields["image"], json!({ "url": "http://192.0.2.1/image.qcow2" }), "N-13");
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn n_6_the_finalizer_is_stored_before_the_host_is_touched() {
    let mut world = World::new();
    assert_eq!(world.pass_until(1), End::Crash);
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
    assert!(world.m3m().metadata.finalizers.iter().flatten().any(|f| f == finalizer::MACHINE));
}

#[test]
fn n_4_crash_after_the_claim_the_same_host_is_found_again() {
    let mut world = World::new();
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    assert_eq!(world.pass_until(2), End::Crash);
    world.m3m().metadata.annotations = None; // as if the intent had been lost
    world.m3m().spec.host_selector = Some(HostSelector {
        match_labels: [("nobody".to_owned(), "has-it".to_owned())].into(),
        ..HostSelector::default()
    });
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
    assert_eq!(world.hosts[1].spec.consumer_ref, None);
}

#[test]
fn n_5_a_host_that_only_the_host_itself_remembers_is_wiped_and_released() {
    let mut world = World::new();
    assert_eq!(world.pass_until(2), End::Crash);
    world.m3m().metadata.annotations = None;
    world.set_state(host_state::PROVISIONING);
    world.delete();
    world.pass(); // clears
    assert_eq!((&world.hosts[0].spec.consumer_ref, &world.hosts[0].spec.image), (&consumer("m1"), &None));
    assert!(world.machine.is_some());
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), End::Gone);
    assert_eq!((&world.hosts[0].spec.consumer_ref, &world.hosts[0].spec.image), (&None, &None));
}

#[test]
fn n_2_a_host_that_another_takes_first_is_left_to_it() {
    let mut world = World::new();
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    assert_eq!(world.pass_until(1), End::Crash); // it goes for host-0
    world.host().spec.consumer_ref = consumer("m2");
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m2"));
    assert_eq!(world.hosts[1].spec.consumer_ref, consumer("m1"));
    assert_eq!(world.m3m().metadata.annotations.as_ref().unwrap()[annotation::HOST], "ns/host-1");
}

#[test]
fn n_3_a_host_that_was_handed_to_somebody_else_is_not_written() {
    let mut world = World::running();
    world.host().spec.consumer_ref = consumer("m2");
    let before = world.hosts.clone();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.hosts, before);
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
    assert_eq!(world.message(ASSOCIATE), "BareMetalHost ns/host-0 belongs to Metal3Machine ns/m2");
}

#[test]
fn h_4_a_consumer_that_was_taken_away_is_set_again() {
    let mut world = World::running();
    world.host().spec.consumer_ref = None;
    world.pass();
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m1"));
}

#[test]
fn h_4_a_claim_that_was_refused_is_not_remembered_as_one() {
    let mut world = World::new();
    assert_eq!(world.pass_until(1), End::Crash); // the intent stands
    let machine = world.machine.clone().unwrap();
    let answers = Answers { machine_is_live: true, ..Answers::default() };
    let mut decision = decide(&world.observed(&machine, &answers, false));
    let Step::Do(action) = &decision.step else { panic!("{:?}", decision.step) };
    decision.report.write_failed(action, false, "the webhook is down");
    world.m3m().status = Some(decision.report.status(&machine, Timestamp::UNIX_EPOCH));
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");

    world.host().spec.consumer_ref = consumer("m2");
    world.hosts.push(host("host-1", host_state::AVAILABLE));
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m2"));
    assert_eq!(world.hosts[1].spec.consumer_ref, consumer("m1"));
}

#[test]
fn i_7_a_disk_is_decided_on_only_for_a_machine_that_is_known_to_live() {
    let mut claiming = World::new();
    assert_eq!(claiming.pass_until(1), End::Crash); // the intent stands, from an earlier pass
    let mut freed = World::running();
    freed.host().spec.consumer_ref = None;
    for world in [claiming, freed, World::leaving()] {
        let machine = world.machine.clone().unwrap();
        let step = |answers: &Answers| decide(&world.observed(&machine, answers, false)).step;
        assert_eq!(step(&Answers::default()), Step::Ask(Question::MachineLive));
        let answers = Answers { machine_is_live: true, ..Answers::default() };
        let expected = |purpose: &Purpose| matches!(purpose, Purpose::Claim { .. } | Purpose::Clear);
        assert!(matches!(step(&answers), Step::Do(Action::Host { purpose, .. }) if expected(&purpose)));
    }
}

#[test]
fn i_10_a_host_made_anew_under_a_provisioned_machine_is_not_deployed() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), DONE);
    world.join();
    let mut anew = host("host-0", host_state::INSPECTING);
    anew.metadata.uid = Some("uid-anew".to_owned());
    anew.spec.online = Some(false);
    world.hosts = vec![anew];
    for _ in 0..2 {
        assert_eq!(world.pass(), WAIT);
        let host = &world.hosts[0];
        assert_eq!((&host.spec.image, &host.spec.user_data, host.spec.online), (&None, &None, Some(true)));
        assert_eq!(host.spec.consumer_ref, consumer("m1"), "nobody else takes it either");
        world.says(METADATA, "False", "UpdateError");
        world.set_state(host_state::AVAILABLE);
    }
    world.delete();
    world.pass();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_data_template_without_a_name_is_refused_before_anything_is_claimed() {
    let mut world = World::new();
    world.m3m().spec.data_template = Some(NamespacedRef::default());
    assert_eq!(world.pass(), End::Rest(Next::Failed(Problem::TemplateUnnamed)));
    assert_eq!((world.writes.as_slice(), world.claim), (["status".to_owned()].as_slice(), None));
}

/// The user gave it an annotation, and what it names is not there.
#[test]
fn a_as_3_a_missing_host_and_none_to_use_is_waited_for() {
    let mut world = World::new();
    world.annotate(annotation::HOST, "ns/gone");
    world.hosts = vec![host("host-0", host_state::INSPECTING)];
    assert_eq!(world.pass(), WAIT);
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_as_4_no_host_is_a_condition_that_says_why() {
    let mut world = World::new();
    world.hosts.clear();
    assert_eq!(world.pass(), WAIT);
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
    assert_eq!(world.message(ASSOCIATE), "no BareMetalHost in this namespace");
    assert_eq!(
        world.message("Ready").lines().next(),
        Some("* AssociateBareMetalHost: no BareMetalHost in this namespace")
    );

    world.hosts.push(host("host-0", host_state::INSPECTING));
    world.pass();
    assert!(world.message(ASSOCIATE).contains("nearest is host-0 (not available yet)"));
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_mf_7_and_a_h_16_a_selector_that_cannot_be_is_an_error() {
    let mut world = World::new();
    let wrong = HostSelectorRequirement { key: "k".to_owned(), operator: "near".to_owned(), values: Vec::new() };
    world.m3m().spec.host_selector = Some(HostSelector { match_expressions: vec![wrong], ..HostSelector::default() });
    assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::Selector(_)))));
    world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
    assert_eq!(world.legacy("AssociateBMH").unwrap().1.as_deref(), Some("AssociateBMHFailed"));
}

/// For whom a host may be kept is known before one is chosen: the cache may be behind the MachineSet.
#[test]
fn a_machine_set_that_is_not_known_is_asked_for_before_a_host_is_taken() {
    let mut world = World::new();
    world.hosts.push(host("host-9", host_state::AVAILABLE));
    world.owner().metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineSet", "set")]);
    let asks = |question: &Question| *question == Question::MachineSet { name: "set".to_owned() };
    assert_eq!(world.pass_unanswered(asks), End::Refused);
    assert!(!world.writes.iter().any(|write| write.starts_with("Claim")), "{:?}", world.writes);
    world.pass();
    assert!(world.writes.iter().any(|write| write.starts_with("Claim")), "{:?}", world.writes);
}

#[test]
fn a_mf_5_a_kept_host_is_taken_and_remembered_as_such() {
    let mut world = World::new();
    let mut set = MachineSet::named("ns", "set");
    set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
    world.machine_set = Some(set);
    let mut kept = host("host-9", host_state::AVAILABLE);
    kept.metadata.labels = Some([(label::NODE_REUSE.to_owned(), "md-test1".to_owned())].into());
    kept.spec.consumer_ref = Some(ObjectReference {
        api_version: Some("cluster.x-k8s.io/v1beta1".to_owned()),
        kind: Some("Cluster".to_owned()),
        namespace: Some("ns".to_owned()),
        name: Some("prod".to_owned()),
        uid: Some("uid-prod".to_owned()),
        ..ObjectReference::default()
    });
    world.hosts.push(kept);
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostViaNodeReuseSuccess");
    assert_eq!(world.hosts[1].spec.consumer_ref, consumer("m1"));
    assert_eq!(host::labelled(&world.hosts[1], label::NODE_REUSE), None, "A-S-16");
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
    world.pass();
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostViaNodeReuseSuccess");
}

#[test]
fn a_h_2_a_kept_host_that_is_not_ready_is_named() {
    let mut world = World::new();
    let mut set = MachineSet::named("ns", "set");
    set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
    world.machine_set = Some(set);
    let mut kept = host("host-9", host_state::DEPROVISIONING);
    kept.metadata.labels = Some([(label::NODE_REUSE.to_owned(), "md-test1".to_owned())].into());
    world.hosts.push(kept);
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(ASSOCIATE), "kept for reuse and not available yet: host-9");
}

#[test]
fn m_44_a_missing_bmc_secret_is_named_and_waited_for_with_the_host() {
    let mut world = World::new();
    world.credentials = Credentials::Missing;
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(ASSOCIATE), "Secret ns/host-0-bmc of BareMetalHost ns/host-0 does not exist");
    world.credentials = Credentials::Labelled(None);
    assert_eq!(world.pass(), DONE);
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn the_label_of_a_bmc_secret_depends_on_the_version_that_is_known_to_work() {
    let labelled = |used: &str| {
        let mut world = World::new();
        world.host().spec.consumer_ref = consumer("m1");
        world.host().status.get_or_insert_default().good_credentials = Some(capm3_api::foreign::UsedCredentials {
            credentials: Some(SecretRef::new("ns", used)),
            credentials_version: "12".to_owned(),
        });
        world.pass();
        world.versions
    };
    assert_eq!(labelled("host-0-bmc"), ["12"]);
    assert_eq!(labelled("host-0-bmc-of-before"), ["7"], "read, where the operator has not used it yet");
}

#[test]
fn a_as_1_and_2_an_annotated_host_of_ours_is_associated() {
    // Without anything to deploy, on a host that runs something.
    let mut world = World::new();
    world.m3m().spec = Default::default();
    world.annotate(annotation::HOST, "ns/host-0");
    world.host().spec.consumer_ref = consumer("m1");
    world.host().spec.image = Some(from(json!({ "url": "http://192.0.2.1/other" })));
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.image.as_ref().unwrap().url, "http://192.0.2.1/other");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");

    let mut world = World::new();
    world.annotate(annotation::HOST, "ns/host-0");
    world.host().spec.consumer_ref = consumer("m1");
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.credentials, Credentials::Labelled(Some("prod".to_owned())), "A-AS-2");
    world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
}

#[test]
fn a_as_5_a_claim_without_annotation_is_finished() {
    let mut world = World::new();
    world.host().spec.consumer_ref = consumer("m1");
    world.host().metadata.labels = Some([(label::NODE_REUSE.to_owned(), "md-x".to_owned())].into());
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.credentials, Credentials::Labelled(Some("prod".to_owned())));
    assert_eq!(host::labelled(&world.hosts[0], label::CLUSTER_NAME), Some("prod"));
    assert_eq!(host::labelled(&world.hosts[0], label::NODE_REUSE), None, "M-43");
    assert_eq!(world.m3m().metadata.annotations.as_ref().unwrap()[annotation::HOST], "ns/host-0");
}

/// What a host is given with its consumer, and that the reservation goes; a host that runs already is left as it is.
#[test]
fn a_s_16_the_consumer_is_the_machine_by_name_namespace_and_kind() {
    for runs in [false, true] {
        let mut world = World::new();
        let mut set = MachineSet::named("ns", "set");
        set.metadata.owner_references = Some(vec![reference(CAPI_GROUP, "MachineDeployment", "test1")]);
        world.machine_set = Some(set);
        world.host().metadata.labels = Some([(label::NODE_REUSE.to_owned(), "md-test1".to_owned())].into());
        world.host().spec.image = runs.then(|| from(json!({ "url": "http://192.0.2.1/other" })));
        assert_eq!(world.pass(), DONE);
        let host = &world.hosts[0];
        let consumer = host.spec.consumer_ref.clone().unwrap();
        let named = (consumer.name.as_deref(), consumer.namespace.as_deref(), consumer.kind.as_deref());
        assert_eq!(named, (Some("m1"), Some("ns"), Some("Metal3Machine")));
        assert_eq!(consumer.api_version.as_deref(), Some("infrastructure.cluster.x-k8s.io/v1beta2"));
        assert_eq!(host::labelled(host, label::NODE_REUSE), None);
        assert_eq!(host.spec.image.as_ref().unwrap().url == "http://192.0.2.1/other", runs);
    }
}

#[test]
fn a_s_11_to_13_what_the_annotation_names_and_that_it_is_put_right() {
    for before in [Some("ns/host-0"), Some("ns/other"), None] {
        let mut world = World::running();
        world.m3m().metadata.annotations = before.map(|host| [(annotation::HOST.to_owned(), host.to_owned())].into());
        world.pass();
        let after = world.m3m().metadata.annotations.clone().unwrap();
        assert_eq!(after[annotation::HOST], "ns/host-0", "A-S-11 {before:?}");
    }
    let mut world = World::running();
    world.m3m().metadata.annotations = Some(BTreeMap::new());
    world.pass();
    assert_eq!(world.m3m().metadata.annotations.clone().unwrap()[annotation::HOST], "ns/host-0");

    let found = |value: Option<&str>| {
        let mut world = World::new();
        world.m3m().metadata.annotations = value.map(|host| [(annotation::HOST.to_owned(), host.to_owned())].into());
        let machine = world.machine.clone().unwrap();
        let answers = Answers::default();
        let host = world.observed(&machine, &answers, false).host.and_then(|host| host.metadata.name.clone());
        (host_name(&machine).is_ok(), host)
    };
    let rows = [
        ("A-S-12", Some("ns/host-0"), Some("host-0")),
        ("A-S-12", Some("host-0"), Some("host-0")),
        ("A-S-13", Some("ns/missing"), None),
        ("A-S-13", None, None),
        ("A-S-14", Some("elsewhere/host-0"), Some("host-0")),
    ];
    for (row, annotation, host) in rows {
        assert_eq!(found(annotation), (true, host.map(str::to_owned)), "{row} {annotation:?}");
    }
}

#[test]
fn a_s_1_the_finalizer_comes_and_goes_among_others() {
    for others in [&[] as &[&str], &["someone.example.com/else"]] {
        let others: Vec<_> = others.iter().map(|f| (*f).to_owned()).collect();
        let mut world = World::new();
        world.m3m().metadata.finalizers = Some(others.clone());
        world.pass();
        let ours = finalizer::MACHINE.to_owned();
        let with_ours: Vec<_> = others.iter().cloned().chain([ours]).collect();
        assert_eq!(world.m3m().metadata.finalizers, Some(with_ours));
        world.delete();
        world.pass();
        world.set_state(host_state::AVAILABLE);
        let end = world.pass();
        assert_eq!(end == End::Gone, others.is_empty());
        let left = world.machine.and_then(|machine| machine.metadata.finalizers).unwrap_or_default();
        assert_eq!(left, others);
    }
}

#[test]
fn a_s_14_the_annotation_always_names_the_machines_own_namespace() {
    let mut world = World::running();
    world.annotate(annotation::HOST, "elsewhere/host-0");
    world.pass();
    assert_eq!(world.m3m().metadata.annotations.as_ref().unwrap()[annotation::HOST], "ns/host-0");
}

#[test]
fn m_12_the_failure_domain_follows_the_machine() {
    let mut world = World::new();
    world.owner().spec.failure_domain = Some("rack-1".to_owned());
    world.pass();
    assert_eq!(world.m3m().spec.failure_domain.as_deref(), Some("rack-1"));
    world.owner().spec.failure_domain = None;
    world.pass();
    assert_eq!(world.m3m().spec.failure_domain, None);
}

/// The provider id, the handed over user data and the condition are each enough to know that there was a host.
#[test]
fn h_4_a_machine_that_had_a_host_takes_no_other() {
    let traces: [fn(&mut World); 3] = [
        |world| {
            world.m3m().status = None;
            world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
        },
        |world| world.m3m().status.as_mut().unwrap().conditions.clear(),
        |world| world.m3m().status.as_mut().unwrap().user_data = None,
    ];
    for trace in traces {
        let mut running = World::running();
        running.hosts.push(host("host-1", host_state::AVAILABLE));
        trace(&mut running);

        let mut taken = running.clone();
        taken.host().spec.consumer_ref = consumer("m2");
        assert_eq!(taken.pass(), WAIT);
        assert_eq!(taken.message(ASSOCIATE), "BareMetalHost ns/host-0 belongs to Metal3Machine ns/m2");
        assert_eq!(taken.writes, ["status"]);

        let mut gone = running;
        gone.hosts.remove(0);
        assert_eq!(gone.pass(), WAIT);
        assert_eq!(gone.message(ASSOCIATE), "BareMetalHost ns/host-0 is gone");
        assert_eq!(gone.writes, ["status"]);
    }
}

#[test]
fn m_31_a_machine_that_never_had_a_host_is_not_bound_to_the_one_that_is_gone() {
    let mut world = World::new();
    world.annotate(annotation::HOST, "ns/gone");
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m1"));
}

#[test]
fn a_provisioned_machine_without_annotation_takes_no_other_host() {
    let mut world = World::running();
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.hosts = vec![host("host-1", host_state::AVAILABLE)];
    world.m3m().metadata.annotations = None;
    world.writes.clear();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(ASSOCIATE), format!("no BareMetalHost names this machine any more; it was {PROVIDER_ID}"));
    assert_eq!(world.writes, ["status"]);
}

/// Its providerID is all that is left of it, as after a move that lost the annotation: its Node may still run on that host.
#[test]
fn i_10_a_machine_with_an_identity_takes_no_other_host() {
    let mut world = World::new();
    world.m3m().spec.provider_id = Some(PROVIDER_ID.to_owned());
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(ASSOCIATE), format!("no BareMetalHost names this machine any more; it was {PROVIDER_ID}"));
    assert_eq!((world.writes.as_slice(), &world.hosts[0].spec.consumer_ref), (["status".to_owned()].as_slice(), &None));
}

#[test]
fn h_5_the_own_host_is_found_before_any_selector_is_read() {
    let mut world = World::running();
    world.m3m().metadata.annotations = None;
    world.m3m().spec.host_selector = Some(HostSelector {
        match_expressions: vec![HostSelectorRequirement { key: "not a key".to_owned(), ..Default::default() }],
        ..HostSelector::default()
    });
    world.asked.clear();
    assert_eq!(world.pass(), WAIT); // its Node is waited for
    assert_eq!(host_name(world.m3m()).unwrap(), Some("host-0"));
    assert!(!world.asked.contains(&Question::Candidates));
}

#[test]
fn m_30_an_annotation_that_the_user_wrote_does_not_replace_the_intent() {
    let mut world = World::new();
    world.annotate(annotation::HOST, "ns/host-0");
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes[..2], ["Intend", "Claim { reused: false } host-0"]);
}

#[test]
fn m_50_a_host_of_the_failure_domain_is_preferred() {
    let mut world = World::new();
    let mut far = host("host-1", host_state::AVAILABLE);
    far.metadata.labels = Some([(label::FAILURE_DOMAIN.to_owned(), "rack-1".to_owned())].into());
    world.hosts.push(far);
    world.owner().spec.failure_domain = Some("rack-1".to_owned());
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[1].spec.consumer_ref, consumer("m1"));
}

#[test]
fn i_7_what_decides_no_disk_asks_for_no_second_look() {
    let mut world = World::running();
    world.asked.clear();
    world.pause(true);
    world.pass();
    assert!(!world.writes.is_empty());
    assert!(!world.asked.contains(&Question::MachineLive), "{:?}", world.asked);
}
