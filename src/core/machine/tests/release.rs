//! Letting go: wiped first, then released or kept for the owner's next machine, and nothing of ours stays (M-100 to M-110).

use super::*;

#[test]
fn a_i_20_a_machine_without_a_host_goes_at_once() {
    let mut world = World::new();
    world.m3m().metadata.finalizers = Some(vec![finalizer::MACHINE.to_owned()]);
    world.delete();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts, World::new().hosts, "A-D-9");
}

#[test]
fn a_i_21_the_host_is_wiped_before_it_is_released() {
    let mut world = World::leaving();
    assert_eq!(world.pass(), WAIT, "A-MF-14");
    assert!(world.m3m().metadata.finalizers.iter().flatten().any(|f| f == finalizer::MACHINE), "A-MF-14");
    let host = &world.hosts[0];
    assert_eq!((&host.spec.image, &host.spec.user_data, host.spec.online), (&None, &None, Some(false)));
    assert_eq!(host.spec.consumer_ref, consumer("m1"));
    world.says(METADATA, "False", "Deleting"); // H-50
    assert_eq!(world.message(METADATA), "waiting for BareMetalHost ns/host-0 to be deprovisioned");
    assert_eq!(world.legacy("KubernetesNodeReady").unwrap().1.as_deref(), Some("Deleting"));
    assert_eq!(world.writes, ["Clear host-0", "status"]);
    world.writes.clear();
    world.set_state(host_state::DEPROVISIONING);
    assert_eq!(world.pass(), WAIT, "A-D-3");
    assert_eq!((&world.hosts[0].spec.consumer_ref, &world.writes[..]), (&consumer("m1"), &[][..]), "A-D-3");
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), End::Gone, "A-MF-11");
}

#[test]
fn a_d_1_whatever_its_state_a_host_with_an_image_is_wiped_first() {
    use host_state::*;
    for state in [NONE, UNMANAGED, REGISTERING, INSPECTING, READY, AVAILABLE, PROVISIONING, PROVISIONED, DEPROVISIONING]
    {
        let mut world = World::leaving();
        world.set_state(state);
        let mut first = None;
        world.run(
            |action| {
                first.get_or_insert_with(|| action.clone());
                Fate::Lands
            },
            |_| true,
        );
        let Some(Action::Host { purpose: Purpose::Clear, patch, .. }) = first else { panic!("{state}: {first:?}") };
        assert_eq!(patch["spec"]["online"], false, "{state}");
        assert_eq!((&patch["spec"]["image"], &patch["spec"]["consumerRef"]), (&Value::Null, &Value::Null), "{state}");
        assert_eq!(patch["spec"].as_object().unwrap().get("consumerRef"), None, "{state}: kept");
    }
}

#[test]
fn a_d_4_and_5_an_external_host_is_kept_while_it_is_on() {
    for (row, on, end) in [("A-D-4", true, WAIT), ("A-D-5", false, End::Gone)] {
        let mut world = World::cleared(host_state::EXTERNALLY_PROVISIONED);
        world.host().status.as_mut().unwrap().powered_on = Some(on);
        assert_eq!(world.pass(), end, "{row}");
        assert_eq!(world.hosts[0].spec.consumer_ref.is_some(), on, "{row}");
    }
}

#[test]
fn a_d_2_a_wiped_host_is_released() {
    let rows = [
        ("A-D-2", host_state::NONE),
        ("A-D-6", host_state::UNMANAGED),
        ("A-D-6", host_state::AVAILABLE),
        ("A-D-6", host_state::READY),
    ];
    for (row, state) in rows {
        let mut world = World::cleared(state);
        assert_eq!(world.pass(), End::Gone, "{row} {state:?}");
        let host = &world.hosts[0];
        assert_eq!(host.spec.consumer_ref, None);
        assert_eq!(host::labelled(host, label::CLUSTER_NAME), None);
        assert_eq!(world.host_annotation(annotation::BLOCK_MOVE), None, "N-14");
        assert_eq!(world.credentials, Credentials::Labelled(None));
        assert_eq!(world.writes, ["credentials", "Release { reserved: false } host-0", "Forget"]);
    }
}

#[test]
fn a_d_11_our_pause_goes_with_the_release() {
    let mut world = World::cleared(host_state::AVAILABLE);
    world.annotate_host(annotation::HOST_PAUSED, "metal3.io/capm3");
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), None);
}

#[test]
fn a_d_12_no_labels_no_trouble() {
    let mut world = World::cleared(host_state::AVAILABLE);
    world.host().metadata.labels = None;
    world.credentials = Credentials::Missing;
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
}

#[test]
fn a_d_8_a_host_of_somebody_else_is_left_alone() {
    let mut world = World::leaving();
    world.host().spec.consumer_ref = consumer("m2");
    let before = world.hosts.clone();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts, before);
}

#[test]
fn the_power_of_a_host_that_is_let_go() {
    // (row, fast track, cleaning mode, disable power off) -> online
    let cases = [
        ("A-D-13", false, Some("metadata"), false, false),
        ("A-D-13", false, Some("disabled"), false, false),
        ("A-D-14", true, Some("metadata"), false, true),
        ("A-D-14", true, None, false, true),
        ("A-D-15", true, Some("disabled"), false, false),
        ("A-D-16", false, Some("metadata"), true, true),
        ("A-D-16", false, Some("disabled"), true, true),
        ("A-D-16", false, None, true, true),
        ("A-D-16", true, Some("metadata"), true, true),
        ("A-D-16", true, Some("disabled"), true, true),
        ("A-D-16", true, None, true, true),
    ];
    for (row, fast_track, cleaning, stays, online) in cases {
        let mut world = World::leaving();
        world.fast_track = fast_track;
        world.host().spec.automated_cleaning_mode = cleaning.map(str::to_owned);
        world.host().spec.disable_power_off = Some(stays);
        assert_eq!(world.pass(), WAIT, "{row}");
        assert_eq!(world.hosts[0].spec.online, Some(online), "{row} {fast_track} {cleaning:?} {stays}");
        assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m1"), "{row}");
    }
}

#[test]
fn a_md_18_rendered_data_goes_after_the_wipe() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.set_state(host_state::PROVISIONED);
    world.delete();
    world.writes.clear();
    assert_eq!(world.pass(), WAIT);
    let host = &world.hosts[0];
    assert_eq!((&host.spec.meta_data, &host.spec.network_data), (&None, &None), "N-10");
    assert!(world.claim.is_some(), "addresses are kept while the old system runs"); // H-32
    world.set_state(host_state::AVAILABLE);
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.claim, None);
    let after = world.writes.iter().skip(2).map(String::as_str).collect::<Vec<_>>();
    assert_eq!(after, ["DropClaim", "DeleteClaim", "credentials", "Release { reserved: false } host-0", "Forget"]);
}

#[test]
fn n_11_a_machine_that_lost_its_status_still_takes_everything_off() {
    let mut world = World::with_template();
    world.pass();
    world.render();
    world.pass();
    world.set_state(host_state::PROVISIONED);
    world.m3m().status = None;
    world.delete();
    world.pass();
    let spec = &world.hosts[0].spec;
    assert_eq!((&spec.image, &spec.user_data, &spec.meta_data, &spec.network_data), (&None, &None, &None, &None));
}

#[test]
fn n_7_deletion_needs_neither_machine_nor_cluster() {
    let cases: [fn(&mut World); 4] = [
        |world| world.cluster = None,
        |world| world.infrastructure = None,
        |world| world.cluster.as_mut().unwrap().status = None,
        |world| (world.owner, world.cluster) = (None, None),
    ];
    for remove in cases {
        let mut world = World::leaving();
        remove(&mut world);
        assert_eq!(world.pass(), WAIT);
        world.set_state(host_state::AVAILABLE);
        assert_eq!(world.pass(), End::Gone);
        assert_eq!(world.hosts[0].spec.consumer_ref, None);
        assert_eq!(host::labelled(&world.hosts[0], label::CLUSTER_NAME), None);
        assert_eq!(world.credentials, Credentials::Labelled(None));
    }
}

#[test]
fn k_138_what_is_moved_or_paused_is_not_undone() {
    let mut world = World::leaving();
    world.pause(true);
    assert_eq!(world.pass(), WAIT);
    assert!(world.hosts[0].spec.image.is_some());

    let mut world = World::leaving();
    world.cluster = None;
    world.annotate(annotation::DELETE_FOR_MOVE, "");
    assert_eq!(world.pass(), DONE);
    assert!(world.hosts[0].spec.image.is_some());
}

#[test]
fn a_host_that_cannot_be_wiped_says_so() {
    let mut world = World::cleared(host_state::DEPROVISIONING);
    world.host().status.get_or_insert_default().error_message = Some("disk is stuck".to_owned());
    assert_eq!(world.pass(), WAIT);
    assert_eq!(world.message(METADATA), "BareMetalHost ns/host-0 is not deprovisioned: disk is stuck");
}

#[test]
fn a_d_17_and_19_a_host_is_kept_for_its_owner() {
    for (row, control_plane, label_value) in [("A-D-17", false, "md-test1"), ("A-D-19", true, "cp-test1")] {
        let mut world = reusing(control_plane);
        assert_eq!(world.pass(), End::Gone, "{row}");
        let consumer = world.hosts[0].spec.consumer_ref.clone().unwrap();
        assert_eq!(
            (consumer.kind.as_deref(), consumer.api_version.as_deref(), consumer.name.as_deref()),
            (Some("Cluster"), Some("cluster.x-k8s.io/v1beta2"), Some("prod")),
            "M-107"
        );
        assert_eq!(host::labelled(&world.hosts[0], label::NODE_REUSE), Some(label_value));
    }
}

#[test]
fn m_107_no_flag_no_owner_no_cluster_no_reuse() {
    let cases: [fn(&mut World); 5] = [
        |world| world.node_reuse = Some(false),
        |world| world.node_reuse = None,
        |world| world.machine_set.as_mut().unwrap().metadata.owner_references = None,
        |world| world.cluster.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)),
        |world| world.cluster = None,
    ];
    for change in cases {
        let mut world = reusing(false);
        change(&mut world);
        assert_eq!(world.pass(), End::Gone);
        assert_eq!(world.hosts[0].spec.consumer_ref, None, "N-25 is one of them");
        assert_eq!(host::labelled(&world.hosts[0], label::NODE_REUSE), None);
    }
}

#[test]
fn a_mf_12_and_13_what_fails_on_the_way_out_shows_under_its_reason_and_holds_the_rest() {
    let mut leaving = World::with_template();
    leaving.pass();
    leaving.render();
    leaving.pass();
    leaving.set_state(host_state::PROVISIONED);
    leaving.delete();
    leaving.pass();
    leaving.set_state(host_state::AVAILABLE);
    leaving.writes.clear();

    let kept = |world: &World| {
        let finalizers = world.machine.as_ref().unwrap().metadata.finalizers.clone();
        finalizers == Some(vec![finalizer::MACHINE.to_owned()]) && world.hosts[0].spec.consumer_ref == consumer("m1")
    };
    let mut world = leaving.clone();
    assert_eq!(world.pass_refusing(|action| matches!(action, Action::DropClaim { .. })), End::Refused);
    world.says(METADATA, "False", "DisassociateM3MetaDataFailed");
    let legacy = Some(("False".to_owned(), Some("DisassociateM3MetaDataFailed".to_owned())));
    assert_eq!(
        (world.legacy("KubernetesNodeReady"), world.severity("KubernetesNodeReady").as_deref()),
        (legacy, Some("Warning"))
    );
    assert!(kept(&world));
    assert_eq!(world.writes, ["status"], "the release is not tried");

    let is_release = |action: &Action| matches!(action, Action::Host { purpose: Purpose::Release { .. }, .. });
    assert_eq!(leaving.pass_refusing(is_release), End::Refused, "A-MF-13");
    leaving.says(METADATA, "False", "DeletionFailed");
    let legacy = Some(("False".to_owned(), Some("DeletionFailed".to_owned())));
    assert_eq!(
        (leaving.legacy("KubernetesNodeReady"), leaving.severity("KubernetesNodeReady").as_deref()),
        (legacy, Some("Warning"))
    );
    assert!(kept(&leaving), "A-MF-13");
    assert_eq!(leaving.pass(), End::Gone);
}

#[test]
fn a_d_20_a_control_plane_that_cannot_be_read_keeps_the_host() {
    let mut world = reusing(true);
    assert_eq!(world.pass_unanswered(|question| matches!(question, Question::ControlPlane { .. })), End::Refused);
    world.says(METADATA, "False", "DeletionFailed");
    assert_eq!(world.hosts[0].spec.consumer_ref, consumer("m1"));
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(host::labelled(&world.hosts[0], label::NODE_REUSE), Some("cp-test1"));
}

/// Whatever Machine it is said to be of: the Secret is not among what a release reads or writes.
#[test]
fn a_d_7_the_bootstrap_data_is_none_of_a_release_s_business() {
    let mut world = World::cleared(host_state::AVAILABLE);
    world.owner().metadata.namespace = Some("elsewhere".to_owned());
    world.asked.clear();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.hosts[0].spec.consumer_ref, None);
    assert_eq!(world.writes, ["credentials", "Release { reserved: false } host-0", "Forget"]);
    assert!(!format!("{:?}", world.asked).contains("m1-bootstrap"), "{:?}", world.asked);
}

/// Between intent and claim; another manager may have sent the claim and not be heard of since.
#[test]
fn a_machine_that_never_got_its_host_leaves_it_in_another_version() {
    let mut world = World::new();
    assert_eq!(world.pass_until(1), End::Crash);
    world.delete();
    world.writes.clear();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.writes, ["Fence host-0", "Forget"]);
    assert_eq!(world.host_annotation(annotation::LET_GO_BY), Some("uid-m1"));
    assert_eq!((&world.hosts[0].spec.consumer_ref, world.hosts[0].spec.online), (&None, Some(true)));

    // Another manager that has heard of this and not yet of the deletion.
    let mut behind = World { hosts: world.hosts.clone(), ..World::new() };
    behind.annotate(annotation::HOST, "ns/host-0");
    behind.m3m().metadata.finalizers = Some(vec![finalizer::MACHINE.to_owned()]);
    assert_eq!((behind.pass(), &behind.hosts[0].spec.consumer_ref), (DONE, &None));

    let mut next = World { hosts: world.hosts, ..World::new() };
    next.m3m().metadata.uid = Some("uid-of-the-next".to_owned());
    assert_eq!(next.pass(), DONE);
    assert_eq!(next.host_annotation(annotation::LET_GO_BY), None, "a claim takes it away");

    let mut others = World::new(); // somebody else's host has another version already
    others.pass_until(1);
    others.host().spec.consumer_ref = consumer("m2");
    others.delete();
    others.writes.clear();
    assert_eq!(others.pass(), End::Gone);
    assert_eq!(others.writes, ["Forget"]);
}

#[test]
fn a_md_17_a_claim_that_is_not_there_holds_nothing_up() {
    let mut world = World::with_template();
    world.pass();
    world.claim = None;
    world.delete();
    world.pass();
    assert_eq!(world.pass(), End::Gone);
}

#[test]
fn h_6_the_finalizer_goes_after_a_live_look_for_hosts() {
    let mut world = World::new();
    world.m3m().metadata.finalizers = Some(vec![finalizer::MACHINE.to_owned()]);
    world.delete();
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.asked, [Question::HostsLive]);
}

#[test]
fn m_85_a_data_claim_that_may_exist_is_looked_for_live() {
    let template: fn(&mut World) = |world| world.m3m().spec.data_template = Some(NamespacedRef::named("template"));
    let rendered: fn(&mut World) = |world| {
        let data = Some(NamespacedRef::new("ns", "template-0"));
        world.m3m().status.get_or_insert_default().rendered_data = data;
    };
    for (trace, asked) in [(template, true), (rendered, true), (|_| {}, false)] {
        let mut world = World::cleared(host_state::AVAILABLE);
        trace(&mut world);
        world.asked.clear();
        assert_eq!(world.pass(), End::Gone);
        assert_eq!(world.asked.contains(&Question::ClaimLive), asked);
    }
}

#[test]
fn h_48_the_claim_of_another_machine_is_left_alone() {
    let mut world = World::cleared(host_state::AVAILABLE);
    let mut claim = Metal3DataClaim::named("ns", "m1");
    claim.metadata.finalizers = Some(vec![finalizer::MACHINE.to_owned()]);
    claim.metadata.owner_references = Some(vec![reference("g", "Metal3Machine", "m2")]);
    world.claim = Some(claim.clone());
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(world.claim, Some(claim));
}

#[test]
fn m_102_the_cluster_is_known_by_the_machine_or_by_our_own_label() {
    let lost: [fn(&mut World); 2] =
        [|world| world.owner().spec.cluster_name.clear(), |world| world.m3m().metadata.labels = None];
    for lose in lost {
        let mut world = World::cleared(host_state::AVAILABLE);
        lose(&mut world);
        assert_eq!(world.pass(), End::Gone);
        assert_eq!(host::labelled(&world.hosts[0], label::CLUSTER_NAME), None);
        assert_eq!(world.credentials, Credentials::Labelled(None));
    }
}

#[test]
fn m_106_what_others_put_on_the_host_stays() {
    let mut world = World::cleared(host_state::AVAILABLE);
    world.host().metadata.labels = Some([(label::CLUSTER_NAME.to_owned(), "other".to_owned())].into());
    world.annotate_host(annotation::HOST_PAUSED, "");
    assert_eq!(world.pass(), End::Gone);
    assert_eq!(host::labelled(&world.hosts[0], label::CLUSTER_NAME), Some("other"));
    assert_eq!(world.host_annotation(annotation::HOST_PAUSED), Some(""));
}

/// Somebody took the finalizer off, and a machine of the same name has the host and the claim by now.
#[test]
fn i_1_host_and_claim_are_let_go_only_for_a_machine_that_is_known_to_be_there() {
    let released = World::cleared(host_state::AVAILABLE);
    let mut dismissed = World::cleared(host_state::AVAILABLE);
    dismissed.m3m().spec.data_template = Some(NamespacedRef::new("ns", "template"));
    dismissed.claim = Some(from(json!({
        "metadata": {"name": "m1", "namespace": "ns", "finalizers": [finalizer::MACHINE]},
        "spec": {"template": {"name": "template"}},
    })));
    let mut deleted = World::cleared(host_state::AVAILABLE);
    deleted.claim = dismissed.claim.clone();
    deleted.claim.as_mut().unwrap().metadata.finalizers = None;
    for world in [released, dismissed, deleted] {
        let machine = world.machine.clone().unwrap();
        let step = |machine_is_live| {
            let answers = Answers { machine_is_live, credentials: Some(Credentials::Missing), ..Answers::default() };
            decide(&world.observed(&machine, &answers, false)).step
        };
        assert_eq!(step(false), Step::Ask(Question::MachineLive));
        assert!(matches!(step(true), Step::Do(_)));
    }
}
