//! What the host is to run, and the data it boots with (M-70 to M-85).

use super::*;

#[test]
fn a_u_1_bootstrap_data_wins_over_the_users_own() {
    let mut world = World::new();
    world.m3m().spec.user_data = Some(SecretRef::named("mine"));
    world.pass();
    assert_eq!(world.status().user_data, Some(SecretRef::new("ns", "m1-bootstrap")));
    assert_eq!(world.m3m().spec.user_data, Some(SecretRef::named("mine")), "H-18");
}

#[test]
fn a_u_3_no_reference_leaves_the_namespace() {
    let foreign = Some(SecretRef::new("elsewhere", "s"));
    let cases: [fn(&mut Metal3Machine, Option<SecretRef>); 3] =
        [|m, s| m.spec.user_data = s, |m, s| m.spec.meta_data = s, |m, s| m.spec.network_data = s];
    for set in cases {
        let mut world = World::new();
        set(world.m3m(), foreign.clone());
        assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::ForeignNamespace { .. }))));
        assert_eq!(world.hosts[0].spec.consumer_ref, None);
        assert!(world.message(ASSOCIATE).contains("s in namespace elsewhere"), "A-MD-6");
    }
    // Also not one that an earlier pass, or somebody else, has left in the status.
    let remembered: [fn(&mut Metal3MachineStatus, Option<SecretRef>); 3] =
        [|status, s| status.user_data = s, |status, s| status.meta_data = s, |status, s| status.network_data = s];
    for set in remembered {
        let mut world = World::new();
        set(world.m3m().status.get_or_insert_default(), foreign.clone());
        assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::ForeignNamespace { .. }))), "A-HS-1");
        assert_eq!((&world.hosts[0].spec.consumer_ref, &world.hosts[0].spec.image), (&None, &None));
    }
    let mut world = World::new();
    world.m3m().spec.data_template = Some(NamespacedRef::new("elsewhere", "t"));
    assert!(matches!(world.pass(), End::Rest(Next::Failed(Problem::ForeignNamespace { .. }))));
}

#[test]
fn m_71_a_machine_without_an_image_takes_no_host() {
    let mut world = World::new();
    world.m3m().spec.image = None;
    assert_eq!(world.pass(), End::Rest(Next::Failed(Problem::NothingToDeploy)));
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_hs_3_a_deploy_step_takes_the_place_of_an_image() {
    let mut world = World::new();
    world.m3m().spec.image = None;
    world.m3m().spec.custom_deploy = Some(CustomDeploy { method: "install".to_owned() });
    world.pass();
    assert_eq!(world.hosts[0].spec.custom_deploy, Some(CustomDeploy { method: "install".to_owned() }));
    assert_eq!(world.hosts[0].spec.image, None);
}

#[test]
fn a_hs_4_and_5_what_a_host_runs_is_not_replaced() {
    for (row, image, deploy) in [("A-HS-4", Some("http://192.0.2.1/other"), None), ("A-HS-5", None, Some("other"))] {
        let mut world = World::new();
        world.m3m().spec.meta_data = Some(SecretRef::named("own"));
        world.m3m().spec.network_data = Some(SecretRef::named("net"));
        if deploy.is_some() {
            world.m3m().spec.image = None;
            world.m3m().spec.custom_deploy = Some(CustomDeploy { method: "install".to_owned() });
        }
        world.host().spec.image = image.map(|url| from(json!({ "url": url })));
        world.host().spec.custom_deploy = deploy.map(|method| CustomDeploy { method: method.to_owned() });
        world.host().spec.consumer_ref = consumer("m1");
        world.host().spec.online = Some(false);
        let before = world.hosts[0].spec.clone();
        world.pass();
        let spec = &world.hosts[0].spec;
        assert_eq!((&spec.image, &spec.custom_deploy), (&before.image, &before.custom_deploy), "{row}");
        assert_eq!((&spec.user_data, &spec.meta_data, &spec.network_data), (&None, &None, &None), "{row}");
        assert_eq!(spec.online, Some(true), "{row}");
    }
}

#[test]
fn a_hs_2_references_without_a_namespace_get_the_machines_own() {
    let mut world = World::new();
    world.m3m().spec.user_data = Some(SecretRef::named("own"));
    world.m3m().spec.meta_data = Some(SecretRef::named("own"));
    world.m3m().spec.network_data = Some(SecretRef::named("net"));
    world.host().spec.online = Some(false);
    assert_eq!(world.pass(), DONE);
    let spec = &world.hosts[0].spec;
    assert_eq!(spec.image.as_ref().unwrap().url, "http://192.0.2.1/image.qcow2");
    assert_eq!(spec.user_data, Some(SecretRef::new("ns", "m1-bootstrap"))); // of the Machine, which wins
    assert_eq!(spec.meta_data, Some(SecretRef::new("ns", "own")));
    assert_eq!(spec.network_data, Some(SecretRef::new("ns", "net")));
    assert_eq!(spec.online, Some(true));
    let status = world.status();
    assert_eq!((status.meta_data, status.network_data), (spec.meta_data.clone(), spec.network_data.clone()), "A-MD-2");
    assert_eq!(world.m3m().spec.meta_data, Some(SecretRef::named("own")), "H-18");
}

#[test]
fn a_hs_6_and_7_an_image_is_copied_as_it_is_named() {
    let text = |text: &str| Some(text.to_owned());
    let oci =
        Image { url: "oci://registry.example.com/image:1".to_owned(), disk_format: text("raw"), ..Image::default() };
    let summed = Image {
        url: "http://192.0.2.1/i".to_owned(),
        checksum: text("http://192.0.2.1/i.sum"),
        checksum_type: text("sha256"),
        ..Image::default()
    };
    let sums = json!({ "url": "http://192.0.2.1/i", "checksum": "http://192.0.2.1/i.sum", "checksumType": "sha256" });
    let rows = [
        ("A-HS-6", oci, json!({ "url": "oci://registry.example.com/image:1", "format": "raw" })),
        ("A-HS-7", summed, sums),
    ];
    for (row, image, expected) in rows {
        let mut world = World::new();
        world.m3m().spec.image = Some(image);
        world.pass();
        let sent = serde_json::to_value(world.hosts[0].spec.image.clone()).unwrap();
        assert_eq!(sent, expected, "{row}");
    }
}

#[test]
fn n_12_the_users_network_data_goes_with_the_image() {
    let mut world = World::new();
    world.m3m().spec.network_data = Some(SecretRef::named("net"));
    world.pass();
    assert_eq!(world.hosts[0].spec.network_data, Some(SecretRef::new("ns", "net")));
    assert_eq!(world.writes.iter().filter(|write| write.ends_with("host-0")).count(), 1);
    assert_eq!(world.status().network_data, Some(SecretRef::new("ns", "net")), "A-MD-2");
}

const LOOK_AGAIN: End = End::Rest(Next::After(NO_EVENT));

#[test]
fn m_35_a_missing_secret_is_named_before_a_host_is_claimed() {
    for field in ["spec.metaData", "spec.networkData"] {
        for mut world in [World::new(), World::with_template()] {
            let spec = &mut world.m3m().spec;
            let reference = if field == "spec.metaData" { &mut spec.meta_data } else { &mut spec.network_data };
            *reference = Some(SecretRef::named("later"));
            assert_eq!(world.pass(), LOOK_AGAIN);
            assert_eq!(world.writes, ["status"]);
            world.says(METADATA, "False", "AssociateMetal3MachineMetaDataFailed");
            assert_eq!(world.message(METADATA), format!("Secret ns/later ({field}) does not exist"));
            let legacy = Some(("False".to_owned(), Some("AssociateM3MetaDataFailed".to_owned())));
            assert_eq!(world.legacy("KubernetesNodeReady"), legacy);
            world.says(ASSOCIATE, "False", "AssociateBareMetalHostFailed");
            assert_eq!(world.pass(), LOOK_AGAIN);
            assert_eq!(world.writes, ["status"], "the same words are not written again");

            world.secrets.insert("later".to_owned());
            world.pass();
            world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
            world.says(ASSOCIATE, "True", "AssociateBareMetalHostSuccess");
            assert_eq!(world.legacy("KubernetesNodeReady"), None);
        }
    }
}

#[test]
fn m_35_a_secret_that_vanishes_before_the_data_is_rendered_keeps_the_image_back() {
    let mut world = World::with_template();
    world.m3m().spec.network_data = Some(SecretRef::named("net"));
    assert_eq!(world.pass(), WAIT);
    world.render();
    world.secrets.clear();
    assert_eq!(world.pass(), LOOK_AGAIN);
    assert_eq!(world.message(METADATA), "Secret ns/net (spec.networkData) does not exist");
    assert_eq!((&world.hosts[0].spec.image, &world.hosts[0].spec.network_data), (&None, &None));
    world.secrets.insert("net".to_owned());
    world.pass();
    assert_eq!(world.hosts[0].spec.network_data, Some(SecretRef::new("ns", "net")));
    world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
}

/// Bootstrap data is not looked for, nor what is rendered for this very machine, nor what a host has been given.
#[test]
fn a_u_2_only_secrets_that_the_user_names_are_looked_for() {
    let mut world = World::with_template();
    world.secrets.clear();
    world.m3m().spec.user_data = Some(SecretRef::named("mine"));
    world.m3m().spec.meta_data = Some(SecretRef::named("m1-metadata"));
    assert_eq!(world.pass(), WAIT);
    world.render();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.hosts[0].spec.user_data, Some(SecretRef::new("ns", "m1-bootstrap")));
    world.m3m().spec.network_data = Some(SecretRef::named("later"));
    assert_eq!(world.pass(), DONE);
}

#[test]
fn m_71_cleaning_mode_and_power_are_kept_up() {
    let mut world = World::running();
    world.m3m().spec.automated_cleaning_mode = Some("disabled".to_owned());
    world.host().spec.online = Some(false);
    world.pass();
    assert_eq!(world.hosts[0].spec.automated_cleaning_mode.as_deref(), Some("disabled"));
    assert_eq!(world.hosts[0].spec.online, Some(true));
}

#[test]
fn a_as_6_with_a_template_the_claim_comes_before_the_image() {
    let mut world = World::with_template();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.hosts[0].spec.image, None);
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m1"));
    assert_eq!(host::labelled(&world.hosts[0], label::CLUSTER_NAME), Some("prod"));
    assert_eq!(world.credentials, Credentials::Labelled(Some("prod".to_owned())));
    let claim = world.claim.clone().unwrap();
    let named = (claim.metadata.namespace.as_deref(), claim.metadata.name.as_deref());
    assert_eq!(named, (Some("ns"), Some("m1")), "A-MD-4");
    let finalizers = [finalizer::MACHINE, finalizer::DATA_CLAIM].map(str::to_owned);
    assert_eq!(claim.metadata.finalizers, Some(finalizers.into()));
    assert_eq!(claim.spec.template, Some(NamespacedRef::new("ns", "template")));
    let owners = claim.metadata.owner_references.unwrap();
    assert_eq!((owners.len(), owners[0].controller, owners[0].block_owner_deletion), (1, Some(true), None));
    world.says(DATA, "False", "WaitingForMetal3Data");
    assert_eq!(world.m3m().spec.data_template, Some(NamespacedRef::new("ns", "template")), "M-80 step 3");
}

#[test]
fn k_69_a_claim_has_its_machine_s_labels() {
    let mut world = World::with_template();
    let labels = [("rack", "12"), (label::CLUSTER_NAME, "prod")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    world.machine.as_mut().unwrap().metadata.labels = Some(labels.clone().into());
    world.pass();
    assert_eq!(world.claim.unwrap().metadata.labels, Some(labels.into()));
}

#[test]
fn a_as_7_rendered_data_and_image_go_in_one_write() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.writes.clear();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["Provision host-0", "status"]);
    let host = &world.hosts[0];
    assert!(host.spec.image.is_some());
    assert_eq!(host.spec.meta_data, Some(SecretRef::new("ns", "m1-metadata")));
    assert_eq!(host.spec.network_data, Some(SecretRef::new("ns", "m1-networkdata")));
    assert_eq!(host::labelled(host, label::CLUSTER_NAME), Some("prod"));
    assert_eq!(world.credentials, Credentials::Labelled(Some("prod".to_owned())));
    world.says(DATA, "True", "Metal3DataSecretsReady");
    let status = world.status();
    assert_eq!(status.meta_data, Some(SecretRef::new("ns", "m1-metadata")), "A-MD-14");
    assert_eq!(status.network_data, Some(SecretRef::new("ns", "m1-networkdata")), "A-MD-14");
    world.set_state(host_state::PROVISIONED);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    world.pass();
    world.says(DATA, "True", "Metal3DataSecretsReady");
}

#[test]
fn k_29_a_machine_is_ready_when_it_runs_and_not_before() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    assert_eq!(world.pass(), DONE);
    world.says("Ready", "False", "NotReady");
    assert!(world.message("Ready").contains("BareMetalHost ns/host-0"), "{}", world.message("Ready"));
    assert_eq!(world.legacy("Ready"), Some(("False".to_owned(), Some("WaitingForBareMetalHost".to_owned()))));

    world.set_state(host_state::PROVISIONED);
    world.nodes = Nodes::Connecting;
    world.writes.clear();
    world.pass();
    assert_eq!(world.writes, [""; 0], "the same words, so no write");

    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), DONE);
    world.says("Ready", "True", "Ready");
    assert_eq!(world.message("Ready"), "");
    assert_eq!(world.legacy("Ready"), Some(("True".to_owned(), None)));
}

#[test]
fn k_29_without_a_template_the_host_is_named_too() {
    let mut world = World::new();
    assert_eq!(world.pass(), DONE);
    world.says("Ready", "False", "NotReady");
    assert!(world.message("Ready").contains("BareMetalHost ns/host-0"), "{}", world.message("Ready"));
}

#[test]
fn a_md_10_each_thing_that_is_missing_is_named() {
    let mut world = World::with_template();
    world.pass();
    assert_eq!(world.message(DATA), "Metal3DataClaim ns/m1 has no Metal3Data yet");
    for status in [json!({}), json!({ "renderedData": {} }), json!({ "renderedData": { "name": "" } })] {
        world.claim.as_mut().unwrap().status = Some(from(status));
        assert_eq!(world.pass(), WAIT, "A-MD-9");
        assert_eq!(world.message(DATA), "Metal3DataClaim ns/m1 has no Metal3Data yet");
        assert_eq!(world.status().rendered_data, None, "A-MD-9");
    }

    world.claim.as_mut().unwrap().status = Some(from(json!({ "errorMessage": "template not found" })));
    world.pass();
    assert_eq!(world.message(DATA), "Metal3DataClaim ns/m1: template not found");

    world.render();
    let mut data = world.data.take();
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(DATA), "Metal3Data ns/template-0 does not exist");
    assert_eq!(world.status().rendered_data, Some(NamespacedRef::new("ns", "template-0")));
    let claim = world.claim.take(); // what the status remembers needs no claim
    assert_eq!((world.pass(), &world.claim), (WAIT, &None), "A-MD-11");
    assert_eq!(world.message(DATA), "Metal3Data ns/template-0 does not exist", "A-MD-11");
    world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
    assert!(!world.writes[4..].contains(&"CreateClaim".to_owned()), "A-MD-3");
    world.claim = claim;

    data.as_mut().unwrap().status = Some(from(json!({ "errorMessage": "IPPool ns/pool is exhausted" })));
    world.data = data;
    assert_eq!(world.pass(), WAIT);
    world.says(DATA, "False", "WaitingForMetal3Data");
    assert_eq!(world.message(DATA), "Metal3Data ns/template-0: IPPool ns/pool is exhausted");
    assert_eq!(world.message("Ready"), "* Metal3DataReady: Metal3Data ns/template-0: IPPool ns/pool is exhausted");
    world.data.as_mut().unwrap().status = None;
    assert_eq!(world.pass(), WAIT, "A-MD-12");
    world.says(DATA, "False", "WaitingForMetal3Data");

    let data = world.data.as_mut().unwrap();
    data.status = Some(from(json!({ "ready": true })));
    (data.spec.meta_data, data.spec.network_data) = (None, None);
    assert_eq!(world.pass(), DONE);
    world.says(DATA, "True", "Metal3DataSecretsReady");
    assert_eq!((world.status().meta_data, world.status().network_data), (None, None), "A-MD-13");
}

#[test]
fn a_md_5_a_claim_that_is_there_is_not_made_again() {
    let owned: fn(&mut Metal3DataClaim) = |claim| {
        claim.metadata.owner_references =
            Some(vec![reference("infrastructure.cluster.x-k8s.io", "Metal3Machine", "m1")]);
    };
    let ready: fn(&mut Metal3DataClaim) =
        |claim| claim.status = Some(from(json!({ "renderedData": { "name": "template-0", "namespace": "ns" } })));
    let unrelated: fn(&mut Metal3DataClaim) = |_| {};
    for shape in [owned, ready, unrelated] {
        let mut world = World::with_template();
        let mut claim = Metal3DataClaim::named("ns", "m1");
        shape(&mut claim);
        world.claim = Some(claim.clone());
        assert_eq!(world.pass(), WAIT); // its data is not there yet
        assert_eq!(world.claim, Some(claim));
        assert!(!world.writes.contains(&"CreateClaim".to_owned()));
        world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
    }
}

/// A claim that is missing is made, so that the question what it says does not arise.
#[test]
fn a_md_8_without_a_claim_nothing_is_said_of_the_data() {
    let mut world = World::with_template();
    assert_eq!(world.pass_refusing(|action| matches!(action, Action::CreateClaim(_))), End::Refused);
    assert_eq!(world.condition(DATA), None);
}

#[test]
fn a_mf_9_a_claim_that_cannot_be_made_shows_in_both_dialects() {
    let mut world = World::with_template();
    assert_eq!(world.pass_refusing(|action| matches!(action, Action::CreateClaim(_))), End::Refused);
    world.says(METADATA, "False", "AssociateMetal3MachineMetaDataFailed");
    let legacy = Some(("False".to_owned(), Some("AssociateM3MetaDataFailed".to_owned())));
    assert_eq!(
        (world.legacy("KubernetesNodeReady"), world.severity("KubernetesNodeReady").as_deref()),
        (legacy, Some("Warning"))
    );
}

/// H-30: one failure does not mark a machine for life.
#[test]
fn n_17_what_went_wrong_with_the_data_is_over_when_it_is() {
    let mut world = World::with_template();
    world.pass_refusing(|action| matches!(action, Action::CreateClaim(_)));
    assert_eq!(world.legacy("Ready").unwrap().0, "False");
    world.pass();
    world.render();
    world.pass();
    world.set_state(host_state::PROVISIONED);
    world.nodes = Nodes::Listed(vec![labelled_node(None)]);
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.legacy("Ready"), Some(("True".to_owned(), None)));
}

#[test]
fn a_up_1_and_2_a_host_is_kept_up_and_a_lost_claim_waited_for() {
    let mut world = World::running();
    world.set_state(host_state::PROVISIONING);
    world.host().spec.online = Some(false);
    assert_eq!(world.pass(), DONE, "A-UP-1");
    assert_eq!(world.hosts[0].spec.online, Some(true), "A-UP-1");

    let mut world = World::with_template();
    world.pass();
    world.claim = None;
    assert_eq!(world.pass(), WAIT, "A-UP-2");
    assert_eq!(world.hosts[0].spec.image, None, "A-UP-2");
}

#[test]
fn a_claim_that_is_about_to_be_answered_is_not_worth_a_write() {
    let mut world = World::with_template();
    assert_eq!(world.pass_until(3), End::Crash); // intent, claim of the host, claim of the data
    world.claim.as_mut().unwrap().metadata.creation_timestamp = Some(Time(Timestamp::from_second(3598).unwrap()));
    world.writes.clear();
    assert_eq!(world.pass(), End::Rest(Next::After(JUST_CREATED)));
    assert_eq!(world.writes, [""; 0]);

    let mut failing = world.clone();
    failing.claim.as_mut().unwrap().status = Some(from(json!({ "errorMessage": "template not found" })));
    assert_eq!(failing.pass(), WAIT);
    assert_eq!(failing.message(DATA), "Metal3DataClaim ns/m1: template not found");

    world.render();
    assert_eq!(world.pass(), DONE);
    assert_eq!(world.writes, ["credentials prod", "Provision host-0", "status"]);
}

#[test]
fn d_25_the_users_own_secret_wins_over_a_rendered_one() {
    let mut world = World::with_template();
    world.m3m().spec.meta_data = Some(SecretRef::named("own"));
    world.pass();
    world.render();
    world.pass();
    assert_eq!(world.hosts[0].spec.meta_data, Some(SecretRef::new("ns", "own")));
    assert_eq!(world.hosts[0].spec.network_data, Some(SecretRef::new("ns", "m1-networkdata")));
}

#[test]
fn a_md_1_without_a_template_nothing_is_claimed() {
    let mut world = World::new();
    world.pass();
    assert_eq!(world.claim, None);
    assert_eq!(world.condition(DATA), None, "A-MD-7");
}

#[test]
fn h_48_the_claim_of_an_earlier_machine_is_waited_out() {
    let mut world = World::with_template();
    let mut claim = Metal3DataClaim::named("ns", "m1");
    claim.metadata.owner_references =
        Some(vec![OwnerReference { uid: "another".to_owned(), ..reference("g", "Metal3Machine", "m1") }]);
    world.claim = Some(claim);
    assert_eq!(world.pass(), WAIT);
    world.says(METADATA, "False", "AssociateMetal3MachineMetaDataFailed");
    assert_eq!(world.legacy("KubernetesNodeReady").unwrap().1.as_deref(), Some("AssociateM3MetaDataFailed"));

    world.claim = None;
    world.pass();
    world.says(METADATA, "True", "AssociateMetal3MachineMetaDataSuccess");
    assert_eq!(world.legacy("KubernetesNodeReady"), None);
}

/// Somebody took the finalizer off the earlier machine: the collector has marked its claim, and nobody else will let it go.
#[test]
fn h_48_the_claim_that_an_earlier_machine_left_behind_is_let_go_of() {
    let left = |uid: &str| {
        let mut claim = Metal3DataClaim::named("ns", "m1");
        claim.metadata.owner_references =
            Some(vec![OwnerReference { uid: uid.to_owned(), ..reference("g", "Metal3Machine", "m1") }]);
        claim.metadata.finalizers = Some(vec![finalizer::MACHINE.to_owned()]);
        claim.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(3600).unwrap()));
        claim
    };
    let step = |claim: Metal3DataClaim, machine_is_live| {
        let mut world = World::with_template();
        world.claim = Some(claim);
        assert_eq!(world.pass(), WAIT);
        world.claim = Some(left("another"));
        let machine = world.machine.clone().unwrap();
        let answers = Answers { machine_is_live, ..Answers::default() };
        decide(&world.observed(&machine, &answers, false)).step
    };
    let mut marked = left("another");
    marked.metadata.deletion_timestamp = None; // claimed and associated first
    assert_eq!(step(marked.clone(), false), Step::Ask(Question::MachineLive));
    assert!(matches!(step(marked, true), Step::Do(Action::DropClaim { finalizers, .. }) if finalizers.is_empty()));

    let mut adopted = World::with_template();
    adopted.claim = Some(left("another"));
    adopted.host().spec.consumer_ref = consumer("m1");
    adopted.host().spec.image = Some(from(json!({"url": "http://site/image"})));
    adopted.pass();
    assert!(
        !adopted.writes.contains(&"DropClaim".to_owned()),
        "the host that it takes over runs with the addresses of that claim"
    );

    let mut ours = World::with_template();
    let uid = ours.m3m().metadata.uid.clone().unwrap_or_default();
    ours.claim = Some(left(&uid));
    assert_eq!(ours.pass(), WAIT);
    assert!(!ours.writes.contains(&"DropClaim".to_owned()), "it is in use");
}

#[test]
fn m_71_an_image_that_is_taken_out_of_the_spec_matters_only_while_it_is_needed() {
    let nothing = End::Rest(Next::Failed(Problem::NothingToDeploy));
    for (state, on_host, end) in [
        (host_state::PROVISIONING, true, DONE),
        (host_state::PROVISIONED, true, WAIT), // its Node is waited for
        (host_state::AVAILABLE, false, nothing),
    ] {
        let mut world = World::running();
        world.set_state(state);
        world.m3m().spec.image = None;
        if !on_host {
            world.host().spec.image = None;
        }
        assert_eq!(world.pass(), end, "{state}");
    }
}
