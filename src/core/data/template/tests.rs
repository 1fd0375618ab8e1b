//! Passes over one template whose plans are carried out as the API server would.

use capm3_api::SecretRef;
use capm3_api::infra::v1beta2::IndexEntry;
use capm3_api::k8s::Time;
use capm3_api::names::INFRA_API_VERSION;
use serde_json::{Value, json};

use super::super::fixture::{self, M3M, NS, TEMPLATE, at, deleting, infra_owner, object};
use super::*;

/// The objects around one template; [`World::carry_out`] does what a plan says, as the API server would.
struct World {
    template: Option<Metal3DataTemplate>,
    claims: Vec<Claim>,
    datas: Vec<Arc<Metal3Data>>,
    now: i64,
    live: bool,
}

fn world() -> World {
    let status = json!({"lastUpdated": "1970-01-01T00:00:00Z"});
    let metadata = json!({"finalizers": [finalizer::DATA_TEMPLATE]});
    let template = object(TEMPLATE, json!({"metadata": metadata, "status": status}));
    World { template: Some(template), claims: Vec::new(), datas: Vec::new(), now: 100, live: false }
}

fn index_of(template: &str, index: i32) -> String {
    format!("{template}-{index}")
}

/// A Metal3Data of the template that answers `claim`.
fn data(index: i32, claim: &str) -> Metal3Data {
    object(
        &index_of(TEMPLATE, index),
        json!({
            "metadata": {"finalizers": [finalizer::DATA_CLAIM], "ownerReferences": [infra_owner("Metal3DataClaim", claim)]},
            "spec": {"index": index, "template": {"name": TEMPLATE}, "claim": {"name": claim}},
        }),
    )
}

fn claim(name: &str, change: impl FnOnce(&mut Metal3DataClaim)) -> Claim {
    let mut claim = fixture::claim(name);
    change(&mut claim);
    Claim { claim: Arc::new(claim), cluster: None, rendered: None }
}

fn gone(claim: &mut Metal3DataClaim) {
    deleting(&mut claim.metadata);
    claim.metadata.finalizers = Some(vec![finalizer::DATA_CLAIM.to_owned()]);
}

fn rendered(name: &str) -> Option<Metal3DataClaimStatus> {
    Some(answered_with(NamespacedRef::new(NS, name)))
}

impl World {
    fn with(mut self, claims: Vec<Claim>, datas: Vec<Metal3Data>) -> Self {
        self.claims = claims;
        self.datas = datas.into_iter().map(Arc::new).collect();
        self
    }

    fn decide(&self) -> Plan {
        decide(&Observed {
            namespace: NS,
            name: TEMPLATE,
            now: at(self.now),
            template: self.template.as_ref(),
            claims: &self.claims,
            datas: &self.datas,
            live: self.live,
            strays: &[],
        })
    }

    fn carry_out(&mut self, plan: &Plan) {
        for ClaimPlan { claim, steps } in &plan.claims {
            let of_plan = |seen: &&mut Claim| seen.claim.metadata.name == claim.metadata.name;
            for step in steps {
                let seen = self.claims.iter_mut().find(of_plan).unwrap();
                let changed = Arc::make_mut(&mut seen.claim);
                match step {
                    Step::Hold => {
                        changed.metadata.finalizers.get_or_insert_default().push(finalizer::DATA_CLAIM.to_owned());
                    }
                    Step::Create(data) => {
                        let mut data = Metal3Data::clone(data);
                        data.metadata.uid = data.metadata.name.clone();
                        self.datas.push(Arc::new(data));
                    }
                    Step::Status(status) => changed.status = Some(status.clone()),
                    Step::LetGo(_) => {}
                    Step::Delete(data) => self.datas.retain(|other| other != data),
                    Step::Free => {
                        changed
                            .metadata
                            .finalizers
                            .iter_mut()
                            .for_each(|all| all.retain(|f| f != finalizer::DATA_CLAIM));
                    }
                }
            }
        }
        self.claims.retain(|seen| {
            let meta = &seen.claim.metadata;
            meta.deletion_timestamp.is_none() || meta.finalizers.iter().flatten().next().is_some()
        });
        if let (Some(template), Some(status)) = (&mut self.template, &plan.status) {
            template.status = Some(status.clone());
        }
    }

    /// Passes until nothing is left to do; every pass is later than the one before.
    fn settle(&mut self) -> Plan {
        for _ in 0..10 {
            let plan = self.decide();
            if plan.claims.is_empty() && plan.status.is_none() {
                return plan;
            }
            self.carry_out(&plan);
            self.now += 10;
        }
        panic!("does not settle: {:?}", self.decide());
    }

    fn indexes(&self) -> Vec<(&str, i32)> {
        let status = self.template.as_ref().unwrap().status.as_ref().unwrap();
        status.indexes.iter().map(|entry| (entry.name.as_str(), entry.index)).collect()
    }

    fn answer_to(&self, claim: &str) -> Option<String> {
        let seen = self.claims.iter().find(|seen| seen.claim.metadata.name.as_deref() == Some(claim)).unwrap();
        Some(seen.claim.status.as_ref()?.rendered_data.as_ref()?.name.clone())
    }
}

fn steps_of(plan: &Plan) -> &[Step] {
    let [ClaimPlan { steps, .. }] = &plan.claims[..] else { panic!("{:?}", plan.claims) };
    steps
}

fn message_of(steps: &[Step]) -> &str {
    let status = steps.iter().find_map(|step| match step {
        Step::Status(status) => Some(status),
        Step::Hold | Step::Create(_) | Step::LetGo(_) | Step::Delete(_) | Step::Free => None,
    });
    status.unwrap().error_message.as_deref().unwrap()
}

#[test]
fn td_21_an_unused_template_gets_finalizer_and_time() {
    let mut world = world();
    world.template = Some(object(TEMPLATE, json!({})));
    let plan = world.decide();
    assert!(plan.adopt);
    let status = plan.status.unwrap();
    assert_eq!((status.indexes.len(), &status.last_updated), (0, &Some(Time(at(100)))));
    assert_eq!((status.conditions[0].type_.as_str(), status.conditions[0].status.as_str()), ("Ready", "True"));
}

#[test]
fn td_22_the_list_shows_this_template_s_data_only() {
    let other = |name: &str, template: Value, index: Value| {
        object(name, json!({"spec": {"index": index, "template": template, "claim": {"name": "other"}}}))
    };
    let mut world = world().with(
        vec![],
        vec![
            data(0, "C"),
            other("a", json!({"name": "bbc"}), json!(1)),
            other("b", json!({"name": ""}), json!(2)),
            other("c", json!({"namespace": "abc"}), json!(3)),
        ],
    );
    world.settle();
    assert_eq!(world.indexes(), [("C", 0)]);
}

/// The row's claims of one template; its odd one out is the Metal3Data whose name and index disagree.
#[test]
fn td_23_a_pass_recovers_and_releases() {
    let mut odd = data(40, "deleting-claim-missmatch-name");
    odd.metadata.name = Some("cdc-3".to_owned());
    let release = |name: &str, data: &Metal3Data| {
        let mut seen = claim(name, |claim| {
            gone(claim);
            claim.status = rendered(data.metadata.name.as_deref().unwrap());
        });
        seen.rendered = Some(Arc::new(data.clone()));
        seen
    };
    let last = data(3, "deleting-claim");
    let mut world = world().with(
        vec![
            claim("claim-without-status", |_| {}),
            claim("claim-with-status", |claim| claim.status = rendered(&index_of(TEMPLATE, 1))),
            release("deleting-claim", &last),
            release("deleting-claim-missmatch-name", &odd),
        ],
        vec![data(0, "claim-without-status"), data(1, "claim-with-status"), last, odd],
    );
    world.settle();
    assert_eq!(world.answer_to("claim-without-status"), Some(index_of(TEMPLATE, 0)));
    assert_eq!(world.indexes(), [("claim-without-status", 0), ("claim-with-status", 1)]);
    assert_eq!((world.datas.len(), world.claims.len()), (2, 2));
}

#[test]
fn td_24_clusters_share_the_indexes_of_a_template() {
    let mut world = world().with(
        vec![claim("cluster-a-claim-1", |_| {})],
        vec![data(0, "cluster-a-claim-0"), data(1, "cluster-b-claim-0")],
    );
    world.settle();
    assert_eq!(world.answer_to("cluster-a-claim-1"), Some(index_of(TEMPLATE, 2)));
    assert_eq!(world.indexes().iter().map(|(_, index)| *index).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn td_25_a_claim_of_a_paused_cluster_waits() {
    let pausing = |annotated: bool, cluster: Option<bool>| {
        let mut seen = claim("c", |claim| {
            let mark = annotated.then(|| BTreeMap::from([(annotation::PAUSED.to_owned(), String::new())]));
            claim.metadata.annotations = mark;
        });
        seen.cluster = cluster.map(|paused| Arc::new(object("c", json!({"spec": {"paused": paused}}))));
        world().with(vec![seen], vec![]).decide()
    };
    for plan in [pausing(false, Some(true)), pausing(true, Some(false))] {
        assert_eq!((plan.claims, plan.next), (Vec::new(), Next::Wait(Waiting::ClusterResume)));
    }
    for plan in [pausing(true, None), pausing(false, Some(false))] {
        assert_eq!(plan.claims.len(), 1);
    }
}

#[test]
fn td_26_an_answer_that_was_forgotten_is_found_again() {
    let plan = world().with(vec![claim("C", |_| {})], vec![data(0, "C")]).decide();
    assert_eq!(steps_of(&plan), [Step::Hold, Step::Status(rendered(&index_of(TEMPLATE, 0)).unwrap())]);
}

#[test]
fn td_27_the_first_index_and_who_owns_it() {
    let plan = world().with(vec![claim("C", |_| {})], vec![]).decide();
    let [Step::Hold, Step::Create(made), Step::Status(status)] = steps_of(&plan) else { panic!("{plan:?}") };
    assert_eq!(Some(status.clone()), rendered(&index_of(TEMPLATE, 0)));
    assert_eq!(
        serde_json::to_value(made).unwrap(),
        json!({
            "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2",
            "kind": "Metal3Data",
            "metadata": {
                "name": index_of(TEMPLATE, 0),
                "namespace": NS,
                "finalizers": [
                    "metal3dataclaim.infrastructure.cluster.x-k8s.io", "metal3data.infrastructure.cluster.x-k8s.io",
                ],
                "labels": {"cluster.x-k8s.io/cluster-name": fixture::CLUSTER},
                "ownerReferences": [
                    {"apiVersion": INFRA_API_VERSION, "kind": "Metal3DataClaim", "name": "C", "uid": "uid-C", "controller": true},
                    {"apiVersion": INFRA_API_VERSION, "kind": "Metal3Machine", "name": M3M, "uid": format!("uid-{M3M}")},
                ],
            },
            "spec": {
                "index": 0,
                "template": {"name": TEMPLATE, "namespace": NS},
                "claim": {"name": "C", "namespace": NS},
            },
        })
    );
}

#[test]
fn d_35_data_has_its_claim_s_labels() {
    let labels = BTreeMap::from([("rack".to_owned(), "12".to_owned())]);
    let plan = world().with(vec![claim("C", |claim| claim.metadata.labels = Some(labels.clone()))], vec![]).decide();
    let Step::Create(made) = &steps_of(&plan)[1] else { panic!("{plan:?}") };
    assert_eq!(made.metadata.labels, Some(labels));
}

/// A claim is made with our finalizer on it; where nobody is there to answer it must be able to go by itself.
#[test]
fn a_claim_on_a_template_that_does_not_exist_is_not_held() {
    let made_with = [finalizer::MACHINE, finalizer::DATA_CLAIM].map(str::to_owned);
    let held = claim("C", |claim| claim.metadata.finalizers = Some(made_with.into()));
    let mut world = world().with(vec![held], vec![]);
    world.template = None;
    let plan = world.decide();
    assert!(matches!(steps_of(&plan)[..], [Step::Status(_), Step::Free]), "{plan:?}");
}

#[test]
fn an_answer_names_its_secrets_so_that_rendering_need_not_write_them_first() {
    let names = |template: Value| {
        let mut world = world().with(vec![claim("C", |_| {})], vec![]);
        world.template.as_mut().unwrap().spec = serde_json::from_value(template).unwrap();
        let plan = world.decide();
        let Step::Create(made) = &steps_of(&plan)[1] else { panic!("{plan:?}") };
        let name = |reference: &Option<SecretRef>| reference.as_ref().map(|reference| reference.name.clone());
        (name(&made.spec.meta_data), name(&made.spec.network_data))
    };
    let secret = |suffix: &str| Some(format!("{M3M}-{suffix}"));
    assert_eq!(names(json!({"metaData": {}, "networkData": {}})), (secret("metadata"), secret("networkdata")));
    assert_eq!(names(json!({"networkData": {}})), (None, secret("networkdata")));
    assert_eq!(names(json!({})), (None, None));
}

/// What a new claim gets, and the list that follows.
fn given(taken: &[i32]) -> (Option<String>, Vec<(String, i32)>) {
    let datas = taken.iter().map(|index| data(*index, &format!("other-{index}"))).collect();
    let mut world = world().with(vec![claim("C", |_| {})], datas);
    world.settle();
    let listed = world.indexes().into_iter().map(|(name, index)| (name.to_owned(), index)).collect();
    (world.answer_to("C"), listed)
}

#[test]
fn td_28_the_index_after_the_first() {
    let listed = [("other-0", 0), ("C", 1)].map(|(name, index)| (name.to_owned(), index));
    assert_eq!(given(&[0]), (Some(index_of(TEMPLATE, 1)), listed.to_vec()));
}

#[test]
fn td_29_the_lowest_free_index_is_taken() {
    let listed = [("other-0", 0), ("C", 1), ("other-2", 2), ("other-3", 3)];
    let listed = listed.map(|(name, index)| (name.to_owned(), index));
    assert_eq!(given(&[0, 2, 3]), (Some(index_of(TEMPLATE, 1)), listed.to_vec()));
    assert_eq!(given(&[1]).0, Some(index_of(TEMPLATE, 0)));
}

/// Hazard HD-6.
#[test]
fn td_126_data_without_an_index_is_not_listed_and_takes_none() {
    let spec = json!({"template": {"name": TEMPLATE}, "claim": {"name": "other"}});
    let odd = object("by-hand", json!({ "spec": spec }));
    let mut world = world().with(vec![claim("C", |_| {})], vec![odd]);
    world.settle();
    assert_eq!(world.indexes(), [("C", 0)]);
}

/// Made by hand, of no template: its name is taken all the same. A name that no cache shows is a race that `apply` loses.
#[test]
fn td_30_a_name_that_is_taken_is_not_tried() {
    let by_hand = object(&index_of(TEMPLATE, 0), json!({}));
    let plan = world().with(vec![claim("C", |_| {})], vec![by_hand]).decide();
    assert!(matches!(&steps_of(&plan)[1], Step::Create(data) if data.spec.index == Some(1)));
}

#[test]
fn td_30_only_the_own_answer_counts_as_created() {
    let mine = fixture::claim("C");
    assert!(answers(&data(0, "C"), &mine));
    assert!(!answers(&data(0, "D"), &mine));
    let mut earlier = data(0, "C");
    earlier.metadata.owner_references = fixture::owned_by("earlier");
    assert!(!answers(&earlier, &mine));
}

/// A claim on its way out that the machine's finalizer still shows.
fn held_by_machine(name: &str, status: Option<Metal3DataClaimStatus>) -> Claim {
    claim(name, |claim| {
        gone(claim);
        claim.metadata.finalizers.as_mut().unwrap().push(finalizer::MACHINE.to_owned());
        claim.status = status;
    })
}

#[track_caller]
fn check_goes_without_answer(world: &mut World) {
    let plan = world.decide();
    assert!(plan.look_live && plan.claims.is_empty(), "not before a live look");
    world.live = true;
    let plan = world.decide();
    assert_eq!(plan.next, Next::Done);
    assert!(message_of(steps_of(&plan)).starts_with("index of the claim was not found"));
    assert_eq!(steps_of(&plan).last(), Some(&Step::Free));
    let status = steps_of(&plan).iter().find_map(|step| match step {
        Step::Status(status) => Some(status.rendered_data.clone()),
        Step::Hold | Step::Create(_) | Step::LetGo(_) | Step::Delete(_) | Step::Free => None,
    });
    assert_eq!(status, Some(None));
    world.settle();
    assert_eq!(world.claims[0].claim.metadata.finalizers.as_deref(), Some(&[finalizer::MACHINE.to_owned()][..]));
}

#[test]
fn td_31_a_claim_that_was_never_answered_goes() {
    let mut world = world().with(vec![held_by_machine("TestRef", None)], vec![data(1, "bcd")]);
    check_goes_without_answer(&mut world);
    assert_eq!(world.indexes(), [("bcd", 1)]);
}

/// The list is made of the objects that are there (D-30), so an entry without one is gone with the next write.
#[test]
fn td_32_a_claim_whose_answer_is_missing_goes() {
    let mut world = world().with(vec![held_by_machine("TestRef", rendered(&index_of(TEMPLATE, 0)))], vec![]);
    let status = world.template.as_mut().unwrap().status.as_mut().unwrap();
    status.indexes = vec![IndexEntry { index: 0, name: "TestRef".to_owned() }];
    check_goes_without_answer(&mut world);
    assert_eq!(world.indexes(), []);
}

#[test]
fn td_33_the_answer_is_let_go_and_deleted_before_the_claim_is_free() {
    let answer = Arc::new(data(0, "TestRef"));
    let plan = world().with(vec![claim("TestRef", gone)], vec![data(0, "TestRef")]).decide();
    assert_eq!(steps_of(&plan), [Step::LetGo(answer.clone()), Step::Delete(answer), Step::Free]);
}

#[test]
fn td_34_an_answer_known_by_name_only_is_deleted() {
    let mut seen = claim("TestRef", |claim| {
        gone(claim);
        claim.status = rendered("error-42");
    });
    let named: Metal3Data = object("error-42", json!({}));
    seen.rendered = Some(Arc::new(named.clone()));
    let plan = world().with(vec![seen.clone()], vec![]).decide();
    assert_eq!(steps_of(&plan), [Step::Delete(Arc::new(named)), Step::Free]);
    // By now it answers another claim, which got the index after us.
    seen.rendered = Some(Arc::new(data(0, "another")));
    let mut world = world().with(vec![seen], vec![]);
    world.live = true;
    assert_eq!(steps_of(&world.decide()), [Step::Free]);
}

#[test]
fn what_is_named_and_answers_the_next_claim_of_the_name_is_kept() {
    // The cache of claims is behind that of the data: machine, claim and data were made again under their names.
    let mut claim = claim("C", |claim| {
        gone(claim);
        claim.status = rendered("abc-0");
    });
    let mut next = data(0, "C");
    next.metadata.owner_references.iter_mut().flatten().for_each(|owner| owner.uid = "of-the-next".to_owned());
    claim.rendered = Some(Arc::new(next));
    let mut world = world().with(vec![claim], vec![]);
    world.live = true;
    assert_eq!(steps_of(&world.decide()), [Step::Free]);
}

#[test]
fn td_40_a_paused_template_does_nothing() {
    let mut world = world().with(vec![claim("C", |_| {})], vec![]);
    world.template = Some(object(TEMPLATE, json!({"metadata": {"annotations": {annotation::PAUSED: ""}}})));
    assert_eq!(world.decide(), Plan { next: Next::Wait(Waiting::Resume), ..Plan::nothing() });
}

fn departing() -> World {
    let mut world = world();
    deleting(&mut world.template.as_mut().unwrap().metadata);
    world
}

#[test]
fn td_41_a_template_that_nobody_uses_leaves() {
    assert!(departing().decide().leave);
}

#[test]
fn td_42_a_template_with_claims_stays_and_is_woken_by_them() {
    let plan = departing().with(vec![claim("C", |claim| claim.status = rendered("x"))], vec![]).decide();
    assert_eq!((plan.leave, plan.next), (false, Next::Done));
}

#[test]
fn td_43_a_template_with_data_stays_and_waits() {
    let plan = departing().with(vec![], vec![data(0, "C")]).decide();
    assert_eq!((plan.leave, plan.next), (false, Next::Wait(Waiting::DataGone)));
}

#[test]
fn td_124_one_bad_claim_is_told_and_the_others_are_served() {
    let older = claim("older", |claim| {
        claim.metadata.creation_timestamp = Some(Time(at(1)));
        claim.metadata.owner_references = None;
    });
    let newer = claim("newer", |claim| claim.metadata.creation_timestamp = Some(Time(at(2))));
    let mut world = world().with(vec![newer, older], vec![]);
    let plan = world.decide();
    let problem = "metal3Machine not found in owner references";
    assert_eq!(plan.next, Next::Fail(problem.to_owned()));
    assert_eq!(message_of(&plan.claims[0].steps), problem);
    world.settle();
    assert_eq!((world.answer_to("newer"), world.answer_to("older")), (Some(index_of(TEMPLATE, 0)), None));
}

#[test]
fn hd_7_indexes_are_given_in_the_order_of_asking() {
    let asked =
        |name: &str, second: i64| claim(name, |claim| claim.metadata.creation_timestamp = Some(Time(at(second))));
    let mut world = world().with(vec![asked("b", 2), asked("c", 1), asked("a", 2)], vec![]);
    world.settle();
    assert_eq!(world.indexes(), [("c", 0), ("a", 1), ("b", 2)]);
}

#[test]
fn td_127_a_pass_over_a_settled_template_writes_nothing() {
    let mut world = world().with(vec![claim("C", |_| {})], vec![]);
    let plan = world.settle();
    assert_eq!(plan, Plan::nothing());
}

#[test]
fn hd_9_the_list_of_a_burst_is_written_once() {
    let mut world = world().with(vec![], vec![data(0, "C")]);
    world.template.as_mut().unwrap().status.as_mut().unwrap().last_updated = Some(Time(at(99)));
    let plan = world.decide();
    assert_eq!((plan.status, plan.next), (None, Next::After(Duration::from_secs(1))));
    world.now = 101;
    assert!(world.decide().status.is_some());
    world.now = 50;
    assert!(world.decide().status.is_some(), "a clock that was set back is not waited for");
}

#[test]
fn hd_9_who_comes_right_after_another_is_listed_with_it() {
    let born = |index: i32, second: i64| {
        let mut data = data(index, &format!("C{index}"));
        data.metadata.creation_timestamp = Some(Time(at(second)));
        data
    };
    let world = |second: i64, all: Vec<Metal3Data>| World { now: second, ..world().with(vec![], all) }.decide();
    let plan = world(101, vec![born(0, 100)]);
    assert_eq!((plan.status, plan.next), (None, Next::After(Duration::from_secs(1))));
    assert_eq!(world(102, vec![born(0, 100), born(1, 101)]).status, None);
    assert_eq!(world(103, vec![born(0, 100), born(1, 101)]).status.unwrap().indexes.len(), 2);
    let endless = (0..11).map(|n| born(n, 100 + i64::from(n))).collect();
    assert_eq!(world(110, endless).status.unwrap().indexes.len(), 11);
}

#[test]
fn claims_and_templates_tell_of_their_generation() {
    let stale = claim("C", |claim| {
        claim.metadata.generation = Some(1);
        claim.status = rendered("t-0");
        claim.status.as_mut().unwrap().observed_generation = Some(-1); // as a manager that knows of none leaves it
    });
    let plan = world().with(vec![stale.clone()], vec![]).decide();
    assert_eq!(
        steps_of(&plan),
        [Step::Status(answered_with(NamespacedRef::new(NS, "t-0")))],
        "and nothing is made anew"
    );
    let status = claim_status(&stale.claim, answered_with(NamespacedRef::new(NS, "t-0")), at(100));
    assert_eq!((status.observed_generation, status.conditions[0].status.as_str()), (Some(1), "True"));
    let status = claim_status(&stale.claim, unanswered(Some("x not found".to_owned())), at(100));
    assert_eq!(
        (status.conditions[0].reason.as_str(), status.conditions[0].message.as_str()),
        ("WaitingForMetal3Data", "x not found")
    );

    let mut world = world();
    assert_eq!(world.decide().status, None, "what another provider settled is left alone");
    let template = world.template.as_mut().unwrap();
    template.metadata.generation = Some(2);
    template.status.as_mut().unwrap().observed_generation = Some(1);
    let told = world.decide().status.unwrap();
    assert_eq!((told.observed_generation, told.last_updated), (Some(2), Some(Time(at(0)))));
}

#[test]
fn td_129_a_template_that_leaves_gives_out_nothing() {
    let plan = departing().with(vec![claim("C", |_| {})], vec![]).decide();
    assert_eq!(message_of(steps_of(&plan)), format!("Metal3DataTemplate {NS}/{TEMPLATE} is being deleted"));
    assert_eq!(steps_of(&plan).len(), 1);
}

#[test]
fn a_missing_template_is_told_on_its_claims_and_holds_none_back() {
    let mut world = world().with(vec![claim("C", |_| {}), claim("D", gone)], vec![data(0, "D")]);
    world.template = None;
    let plan = world.decide();
    assert_eq!(message_of(&plan.claims[0].steps), format!("Metal3DataTemplate {NS}/{TEMPLATE} not found"));
    world.settle();
    assert_eq!((world.claims.len(), world.datas.len()), (1, 0));
}

#[test]
fn td_130_an_index_is_free_when_its_object_is_gone() {
    let mut old = data(0, "old");
    deleting(&mut old.metadata);
    let plan = world().with(vec![claim("new", |_| {}), claim("old", gone)], vec![old]).decide();
    let made = plan.claims.iter().flat_map(|claim| &claim.steps).find_map(|step| match step {
        Step::Create(data) => data.spec.index,
        Step::Hold | Step::Status(_) | Step::LetGo(_) | Step::Delete(_) | Step::Free => None,
    });
    assert_eq!(made, Some(1));
}

/// A claim whose name was used before: what the earlier one was answered with is on its way out, and stays on it.
#[test]
fn a_later_claim_of_the_same_name_gets_an_answer_of_its_own() {
    let mut earlier = data(0, "C");
    deleting(&mut earlier.metadata);
    let mut world = world().with(vec![claim("C", |_| {})], vec![earlier]);
    world.settle();
    assert_eq!(world.answer_to("C"), Some(index_of(TEMPLATE, 1)));
}

#[test]
fn d_27_a_template_hears_of_what_is_its_own_or_takes_its_index() {
    let of = |name: &str, template: Value| {
        let data: Metal3Data = object(name, json!({"spec": {"template": template}}));
        templates_of(&data).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("a-0", json!({"name": "a"})), ["a"]);
    assert_eq!(of("a-b-1", json!({"name": "c"})), ["a-b", "c"]);
    assert_eq!(of("a-b", json!({"name": ""})), [""; 0]);
}

#[test]
fn td_42_a_claim_keeps_the_template_until_it_is_let_go() {
    let mut leaving = departing().with(vec![claim("C", gone)], vec![]);
    leaving.live = true;
    let plan = leaving.decide();
    assert_eq!((plan.leave, plan.next), (false, Next::Done));
    let others = claim("C", |claim| {
        gone(claim);
        claim.metadata.finalizers = Some(vec![finalizer::MACHINE.to_owned()]);
    });
    assert!(departing().with(vec![others], vec![]).decide().leave, "what others hold it for is not the template's");
}

#[test]
fn td_30_an_answer_on_its_way_out_is_none() {
    let mut leaving = data(0, "C");
    deleting(&mut leaving.metadata);
    assert!(!answers(&leaving, &fixture::claim("C")));
}

/// The cache of Metal3Data is ahead of that of claims: the answer is for the next claim of the name.
#[test]
fn d_36_what_answers_a_later_claim_of_the_name_is_not_released() {
    let mut later = data(0, "C");
    later.metadata.owner_references = fixture::owned_by("later").map(|mut owners| {
        owners.iter_mut().for_each(|owner| owner.kind = Metal3DataClaim::KIND.to_owned());
        owners
    });
    let mut world = world().with(vec![claim("C", gone)], vec![later.clone()]);
    world.live = true;
    assert_eq!(steps_of(&world.decide()), [Step::Free]);
    deleting(&mut later.metadata);
    let mut world = world.with(vec![claim("C", gone)], vec![later.clone()]);
    world.live = true;
    assert!(steps_of(&world.decide()).contains(&Step::LetGo(Arc::new(later))));
}

#[test]
fn td_130_an_index_in_the_spec_of_another_template_s_data_is_free() {
    let other = object("other-0", json!({"spec": {"index": 0, "template": {"name": "other"}}}));
    let plan = world().with(vec![claim("C", |_| {})], vec![other]).decide();
    assert!(matches!(&steps_of(&plan)[1], Step::Create(data) if data.spec.index == Some(0)));
}

#[test]
fn i_3_of_two_data_for_one_claim_the_one_counts_that_the_claim_names() {
    let answered = |name: &str| claim("C", |claim| claim.status = rendered(name)).claim;
    let (first, second) = (data(0, "C"), data(1, "C"));
    let stray = |data: &Metal3Data, claim: Option<&Metal3DataClaim>| is_stray(data, claim);
    let named = answered(&index_of(TEMPLATE, 1));
    assert!(stray(&first, Some(&named)) && !stray(&second, Some(&named)));
    let open = claim("C", |_| {}).claim;
    assert!(!stray(&first, Some(&open)) && !stray(&second, Some(&open)), "nobody knows yet");
}

#[test]
fn i_4_data_whose_claim_is_gone_is_held_by_nobody() {
    let mut late = data(0, "C");
    assert!(is_stray(&late, None));
    let another = claim("C", |claim| claim.metadata.uid = Some("another".to_owned())).claim;
    assert!(is_stray(&late, Some(&another)), "a later claim of that name");
    let moved = claim("C", |claim| {
        claim.metadata.uid = Some("another".to_owned());
        claim.status = rendered(&index_of(TEMPLATE, 0));
    });
    assert!(!is_stray(&late, Some(&moved.claim)), "it was answered with it");
    deleting(&mut late.metadata);
    assert!(is_stray(&late, None), "held by the claim's finalizer");
    late.metadata.finalizers = Some(vec![finalizer::DATA.to_owned()]);
    assert!(!is_stray(&late, None), "on its way");
    let mut paused = data(0, "C");
    paused.metadata.annotations = Some([(annotation::PAUSED.to_owned(), String::new())].into());
    let mut orphan = data(0, "C");
    orphan.metadata.owner_references = None;
    assert!(!is_stray(&paused, None) && !is_stray(&orphan, None));
    // The collector takes an owner that is gone out of the list while another one is there.
    deleting(&mut orphan.metadata);
    assert!(is_stray(&orphan, None), "held by the finalizer of a claim that is not even named any more");
    assert!(!is_stray(&orphan, Some(&claim("C", |_| {}).claim)));
}
