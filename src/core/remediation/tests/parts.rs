//! The parts by themselves: the target, the attempt, the texts, the taint, the words of the hand-over.

use capm3_api::common::V1Beta1Condition;
use capm3_api::foreign::{
    DeprecatedStatus, DeprecatedV1Beta1, PodSpec, PodStatus, Toleration, VolumeAttachment, VolumeAttachmentSpec,
};
use capm3_api::k8s::Condition;

use super::*;

fn problem(world: &World) -> Problem {
    match world.decide(&Answers::default()) {
        Step::Rest(Next::Failed(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ar_2_an_owner_that_does_not_exist() {
    let mut world = World::new(Mode::Taint);
    world.machine = None;
    assert!(problem(&world).to_string().contains("metal3Remediation's owner Machine could not be retrieved"));
    // R-4: what does not parse is an error, wherever it stands before the Machine.
    let owners = world.remediation.metadata.owner_references.as_mut().unwrap();
    owners.splice(0..0, owned_by("a/b/c", "Thing", "t"));
    assert!(problem(&world).to_string().contains("metal3Remediation's owner Machine could not be retrieved"));
}

#[test]
fn ar_3_an_owner_of_another_kind() {
    for owners in [owned_by(CAPI_API_VERSION, "Cluster", "m"), owned_by("other.io/v1", "Machine", "m"), Vec::new()] {
        let mut world = World::new(Mode::Taint);
        world.remediation.metadata.owner_references = Some(owners);
        assert!(problem(&world).to_string().contains("metal3Remediation's owner Machine not set"));
    }
    let mut world = World::new(Mode::Taint);
    world.remediation.metadata.owner_references = Some(owned_by("cluster.x-k8s.io/v1alpha9", "Machine", "m"));
    assert!(matches!(world.decide(&Answers::default()), Step::Do(_)), "any version");
}

#[test]
fn ar_4_a_machine_without_its_metal3_machine() {
    let mut world = World::new(Mode::Taint);
    world.metal3_machine = None;
    assert!(problem(&world).to_string().contains("metal3machine not found"));
    world.machine.as_mut().unwrap().spec.infrastructure_ref = None;
    assert!(problem(&world).to_string().contains("metal3machine not found"));
}

#[test]
fn ar_5_a_host_that_cannot_be_found() {
    let mut world = World::new(Mode::Taint);
    world.host = None;
    assert_eq!(problem(&world), Problem::HostMissing("h".to_owned()));
    assert!(world.writes.is_empty());
}

#[test]
fn ar_33_online_is_as_the_host_says() {
    for (online, fails) in [(Some(true), false), (Some(false), true), (None, true)] {
        let mut world = World::new(Mode::Taint);
        world.host.as_mut().unwrap().spec.online = online;
        let failed = matches!(
            world.decide(&Answers::default()),
            Step::Do(Action::Status { purpose: Purpose::Fail(Failure::SwitchedOff), .. })
        );
        assert_eq!(failed, fails);
    }
}

#[test]
fn ar_34_the_annotation_names_the_host() {
    let found = |annotation: Option<&str>| {
        let mut world = World::new(Mode::Taint);
        world.metal3_machine = Some(metal3_machine(annotation));
        matches!(world.decide(&Answers::default()), Step::Do(_))
    };
    assert!(found(Some("ns/h")) && found(Some("h")));
    for wrong in [Some("ns/other"), Some("a/b/h"), Some(""), None] {
        assert!(!found(wrong), "{wrong:?}");
    }
    let mut world = World::new(Mode::Taint);
    world.metal3_machine.as_mut().unwrap().metadata.annotations = Some(marks(&[("other", "ns/h")]));
    assert_eq!(problem(&world), Problem::NoHost("m3".to_owned()));
}

#[test]
fn ar_35_the_namespace_in_the_annotation_does_not_count() {
    let mut world = World::new(Mode::Taint);
    world.metal3_machine = Some(metal3_machine(Some("elsewhere/h")));
    assert!(matches!(world.decide(&Answers::default()), Step::Do(_)));
}

/// By the time its host is looked for, only its own namespace is looked into; one that another holds is not ours either.
#[test]
fn ar_36_a_host_of_another_is_not_touched() {
    let mut world = World::new(Mode::Taint);
    world.host.as_mut().unwrap().spec.consumer_ref.as_mut().unwrap().namespace = Some("elsewhere".to_owned());
    assert!(matches!(problem(&world), Problem::HostOfAnother { .. }));
    world.host.as_mut().unwrap().spec.consumer_ref.as_mut().unwrap().namespace = Some("ns".to_owned());
    world.host.as_mut().unwrap().spec.consumer_ref.as_mut().unwrap().name = Some("m4".to_owned());
    assert!(matches!(problem(&world), Problem::HostOfAnother { .. }));
    world.host.as_mut().unwrap().spec.consumer_ref = None;
    assert!(matches!(problem(&world), Problem::HostOfAnother { .. }));
}

#[test]
fn ar_37_the_unhealthy_mark_needs_its_host() {
    for (annotation, marked) in [(Some("ns/h"), true), (None, false), (Some("ns/other"), false)] {
        let mut world = World::in_phase("Waiting", Mode::Taint, 601);
        world.metal3_machine = Some(metal3_machine(annotation));
        world.strategy().retry_limit = None;
        world.node = None;
        let next = world.pass();
        assert_eq!(world.writes.contains(&"MarkUnhealthy".to_owned()), marked);
        assert_eq!(matches!(next, Next::Failed(_)), !marked);
    }
}

#[test]
fn ar_38_kinds_of_strategy() {
    let mut remediation = remediation();
    assert_eq!(kind(&remediation), "Reboot");
    remediation.spec.strategy.as_mut().unwrap().type_ = Some(String::new());
    assert_eq!(kind(&remediation), "");
    remediation.spec.strategy = None;
    assert_eq!(kind(&remediation), "");
}

fn begun(seconds: Option<i64>) -> Metal3Remediation {
    let mut remediation = remediation();
    let began = seconds.map(|seconds| Time(Timestamp::from_second(START - seconds).unwrap()));
    remediation.status = Some(Metal3RemediationStatus { last_remediated: began, ..Metal3RemediationStatus::default() });
    remediation
}

#[test]
fn ar_40_the_time_of_an_attempt() {
    let now = Timestamp::from_second(START).unwrap();
    let table =
        [(Some(700), true, 0), (None, false, 600), (Some(0), false, 601), (Some(600), false, 1), (Some(601), true, 0)];
    for (began, is_over, left) in table {
        let remediation = begun(began);
        assert_eq!(is_timed_out(&remediation, now), is_over, "{began:?}");
        assert_eq!(remaining(&remediation, now), Duration::from_secs(left), "{began:?}");
    }
    assert!(!is_timed_out(&begun(Some(-3600)), now), "a clock that went back");
}

#[test]
fn ar_41_the_timeout() {
    let mut remediation = remediation();
    for (seconds, expected) in [(None, 600), (Some(0), 600), (Some(300), 300), (Some(-5), 600)] {
        remediation.spec.strategy.as_mut().unwrap().timeout_seconds = seconds;
        assert_eq!(timeout(&remediation), Duration::from_secs(expected));
    }
    remediation.spec.strategy = None;
    assert_eq!(timeout(&remediation), Duration::from_secs(600));
}

#[test]
fn ar_31_a_limit_that_is_set() {
    let mut remediation = remediation();
    for (limit, set) in [(Some(1), true), (Some(0), false), (Some(-1), false), (None, false)] {
        remediation.spec.strategy.as_mut().unwrap().retry_limit = limit;
        assert_eq!(limit_is_set(&remediation), set, "{limit:?}");
    }
    remediation.spec.strategy = None;
    assert!(!limit_is_set(&remediation) && !limit_is_reached(&remediation));
}

#[test]
fn ar_32_a_limit_that_is_reached() {
    for (limit, count, reached) in [(1, 1, true), (1, 0, false), (0, 0, true), (1, 2, true)] {
        let mut remediation = begun(None);
        remediation.spec.strategy.as_mut().unwrap().retry_limit = Some(limit);
        remediation.status.as_mut().unwrap().retry_count = Some(count);
        assert_eq!(limit_is_reached(&remediation), reached, "{limit} {count}");
    }
}

#[test]
fn ar_39_whether_an_attempt_has_begun() {
    let now = Timestamp::from_second(START).unwrap();
    assert_eq!(remaining(&begun(None), now), timeout(&begun(None)));
    assert_ne!(remaining(&begun(Some(10)), now), timeout(&begun(Some(10))));
}

#[test]
fn ar_42_and_43_the_phase_is_set_and_attempts_are_counted() {
    for (before, count, expected) in [("Waiting", None, Some(1)), ("Waiting", Some(2), Some(3)), ("", None, None)] {
        let mut world = World::in_phase(before, Mode::Taint, 601);
        world.strategy().retry_limit = Some(5);
        world.remediation.status.as_mut().unwrap().retry_count = count;
        world.node = None;
        let answers = Answers { node: Some(Fact::Absent), ..Answers::default() };
        let Step::Do(Action::Status { status, .. }) = world.decide(&answers) else { panic!("no phase") };
        assert_eq!((status.phase.as_deref(), status.retry_count), (Some("Running"), expected));
    }
}

/// "AR-42" and "AR-43" together with "AR-44": the annotation comes and goes under the remediation's uid.
#[test]
fn ar_44_the_annotation_that_keeps_a_host_off() {
    let mut world = World::in_phase("Running", Mode::Taint, 0);
    world.pass();
    let annotations = world.host.as_ref().unwrap().metadata.annotations.clone().unwrap();
    let (key, value) = annotations.first_key_value().unwrap();
    assert_eq!(key, "reboot.metal3.io/metal3-remediation-123");
    let value: Value = serde_json::from_str(value).unwrap();
    assert_eq!(value, json!({ "mode": "hard", "force": false }));
    world.remediation.status.as_mut().unwrap().phase = Some("Waiting".to_owned());
    world.pass();
    assert!(!world.is_kept_off());
}

#[test]
fn ar_30_the_finalizer_among_others() {
    for others in [vec![], vec!["other".to_owned()]] {
        let mut world = World::in_phase("Running", Mode::Taint, 0);
        world.remediation.metadata.finalizers = Some(others.clone());
        world.pass();
        let with: Vec<_> = others.iter().cloned().chain([finalizer::REMEDIATION.to_owned()]).collect();
        assert_eq!(world.remediation.metadata.finalizers, Some(with));
        world.host = Some(host());
        world.delete();
        world.pass();
        assert_eq!(world.remediation.metadata.finalizers, Some(others));
    }
}

#[test]
fn ar_27_maps_become_text() {
    assert_eq!(encode(None), "");
    assert_eq!(encode(Some(&marks(&[]))), "{}");
    assert_eq!(encode(Some(&marks(&[("foo", "1"), ("bar", "2"), ("baz", "3")]))), r#"{"bar":"2","baz":"3","foo":"1"}"#);
    // As Go writes them.
    let odd = marks(&[("a", "<b> & \u{2028}\u{2029}"), ("quote", "\"\\\n\t\u{1}")]);
    let text = r#"{"a":"\u003cb\u003e \u0026 \u2028\u2029","quote":"\"\\\n\t\u0001"}"#;
    assert_eq!(encode(Some(&odd)), text);
    assert_eq!(decode(text).unwrap(), odd);
}

#[test]
fn ar_28_text_becomes_maps() {
    let map = decode(r#"{"bar":"2","baz":"3","foo":"1"}"#).unwrap();
    assert_eq!(map, marks(&[("foo", "1"), ("bar", "2"), ("baz", "3")]));
    assert!(decode(r#"{"bar":"2","baz","foo":"1"}"#).is_err());
    assert!(decode("").unwrap().is_empty());
    // R-55: what does not read is left out, the other map is given back all the same.
    let backup = Backup { annotations: "{".to_owned(), labels: r#"{"a":"1"}"#.to_owned() };
    let patch = backup.restore(&Node::named("", "n")).unwrap();
    assert_eq!(patch, json!({ "metadata": { "labels": { "a": "1" } } }));
    assert_eq!(Backup::default().restore(&node()), None, "R-56");
}

#[test]
fn ar_45_a_backup_is_stored_read_and_taken_away() {
    let mut remediation = remediation();
    let wanted = Backup { annotations: "foo".to_owned(), labels: "bar".to_owned() };
    assert_ne!(Backup::stored(&remediation), wanted);
    remediation = patched(&remediation, &json!({ "metadata": { "annotations": wanted.patch() } }));
    assert_eq!(Backup::stored(&remediation), wanted);
    let gone = json!({ "metadata": { "annotations": backup::dropped(&remediation) } });
    remediation = patched(&remediation, &gone);
    assert_eq!((Backup::stored(&remediation), backup::dropped(&remediation)), (Backup::default(), None));
    // R-55: a Node with neither map needs no pass for it.
    let mut world = World::kept_off("Running", Mode::Delete, 0);
    world.node = Some(Node::named("", "n"));
    world.pass();
    assert_eq!(world.writes[0], "DeleteNode");
}

fn pod(leaves: bool, phase: &str, tolerations: Vec<Toleration>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            deletion_timestamp: leaves.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        },
        spec: PodSpec { tolerations },
        status: Some(PodStatus { phase: Some(phase.to_owned()) }),
    }
}

fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Toleration { key: text(key), operator: text(operator), value: text(value), effect: text(effect) }
}

#[test]
fn ar_47_a_pod_that_is_leaving_is_waited_for() {
    let everything = vec![toleration("", "Exists", "", "")];
    for tolerations in [vec![], everything] {
        assert!(!Left::on("n", &[pod(true, "Running", tolerations)], &[]).is_drained());
    }
    assert!(Left::on("n", &[], &[]).is_drained());
}

#[test]
fn ar_48_an_attached_volume_is_waited_for() {
    let attached = |node: &str| VolumeAttachment {
        spec: VolumeAttachmentSpec { node_name: node.to_owned() },
        ..VolumeAttachment::default()
    };
    let tolerant = pod(false, "Running", vec![toleration("", "Exists", "", "")]);
    assert!(!Left::on("n", std::slice::from_ref(&tolerant), &[attached("n")]).is_drained());
    assert!(Left::on("n", &[tolerant], &[attached("other")]).is_drained());
}

/// AR-79
#[test]
fn rh_10_pods_that_the_taint_evicts_are_waited_for() {
    let key = "node.kubernetes.io/out-of-service";
    let stays = [
        toleration("", "Exists", "", ""),
        toleration("", "Exists", "", "NoExecute"),
        toleration(key, "Exists", "", ""),
        toleration(key, "", "nodeshutdown", "NoExecute"),
        toleration(key, "Equal", "nodeshutdown", ""),
    ];
    for toleration in stays {
        assert!(Left::on("n", &[pod(false, "Running", vec![toleration.clone()])], &[]).is_drained(), "{toleration:?}");
    }
    let goes = [
        toleration("", "Exists", "", "NoSchedule"),
        toleration(key, "", "other", ""),
        toleration("node.kubernetes.io/unreachable", "Exists", "", "NoExecute"),
        toleration(key, "Sometimes", "nodeshutdown", ""),
    ];
    for toleration in goes {
        assert!(!Left::on("n", &[pod(false, "Running", vec![toleration.clone()])], &[]).is_drained(), "{toleration:?}");
    }
    assert!(!Left::on("n", &[pod(false, "Running", vec![])], &[]).is_drained());
    for ended in ["Succeeded", "Failed"] {
        assert!(Left::on("n", &[pod(false, ended, vec![])], &[]).is_drained());
    }
    let mut mirror = pod(false, "Running", vec![]);
    mirror.metadata.annotations = Some(marks(&[("kubernetes.io/config.mirror", "x")]));
    assert!(Left::on("n", &[mirror], &[]).is_drained());
    assert_eq!(
        Left { leaving: 1, running: 2, volumes: 3 }.to_string(),
        "1 pods are leaving, 2 still run, 3 volumes are attached"
    );
}

/// AR-78
#[test]
fn rh_9_the_version_decides_the_mode() {
    let table = [
        ("1", "28", Some(Mode::Taint)),
        ("1", "31+", Some(Mode::Taint)),
        ("1", "27", Some(Mode::Delete)),
        ("1", "27+", Some(Mode::Delete)),
        ("2", "0", Some(Mode::Taint)),
        ("0", "99", Some(Mode::Delete)),
        ("", "28", None),
        ("1", "+", None),
    ];
    for (major, minor, mode) in table {
        assert_eq!(Mode::of_version(major, minor), mode, "{major}.{minor}");
    }
}

#[test]
fn r_57_other_taints_stay_and_every_one_of_ours_goes() {
    let ours = |value: &str| json!({ "key": out_key(), "value": value, "effect": "NoExecute" });
    let same_key = json!({ "key": out_key(), "effect": "NoSchedule" });
    let mut node: Node = patched(&node(), &json!({ "spec": { "taints": [ours("a"), same_key, ours("b")] } }));
    assert!(is_tainted(&node));
    node = patched(&node, &untaint(&node).unwrap());
    assert_eq!(serde_json::to_value(&node.spec.taints).unwrap(), json!([same_key]));
    assert_eq!((is_tainted(&node), untaint(&node)), (false, None));
}

fn out_key() -> &'static str {
    capm3_api::names::out_of_service::KEY
}

fn condition(kind: &str, status: &str, reason: &str) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

/// AR-81
#[test]
fn rh_12_the_hand_over_is_written_in_both_dialects() {
    let now = Timestamp::from_second(START).unwrap();
    let mut machine = machine();
    let others =
        [condition("Ready", "False", "x"), condition("OwnerRemediated", "True", "y"), condition("Zoned", "True", "z")];
    let legacy =
        V1Beta1Condition { type_: "Ready".to_owned(), status: "True".to_owned(), ..V1Beta1Condition::default() };
    let status = machine.status.as_mut().unwrap();
    status.conditions = others.to_vec();
    status.deprecated =
        Some(DeprecatedStatus { v1beta1: Some(DeprecatedV1Beta1 { conditions: vec![legacy.clone()] }) });
    let after = handed_over(&machine, now).unwrap();
    let kinds: Vec<_> =
        after.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect();
    assert_eq!(
        kinds,
        [("Ready", "False", "x"), ("OwnerRemediated", "False", "WaitingForRemediation"), ("Zoned", "True", "z")],
        "in the order in which they were"
    );
    assert_eq!(after.conditions[1].last_transition_time, Time(now));
    assert!(!after.conditions[1].message.is_empty());
    let said = after.deprecated.clone().unwrap().v1beta1.unwrap().conditions;
    assert_eq!(said[0], legacy);
    assert_eq!((said[1].type_.as_str(), said[1].status.as_str()), ("OwnerRemediated", "False"));
    assert_eq!(
        (said[1].severity.as_deref(), said[1].reason.as_deref()),
        (Some("Warning"), Some("WaitingForRemediation"))
    );
    assert_eq!(said[1].message, None);

    // Said once, it is said; and the date stays.
    machine.status = Some(after);
    assert_eq!(handed_over(&machine, Timestamp::from_second(START + 60).unwrap()), None);
    // The owner has begun: its own reason stays.
    let status = machine.status.as_mut().unwrap();
    status.conditions = vec![condition("OwnerRemediated", "False", "RemediationInProgress")];
    status.deprecated = None;
    let after = handed_over(&machine, now).unwrap();
    assert_eq!(after.conditions[0].reason, "RemediationInProgress");
    assert!(after.deprecated.is_some());
}
