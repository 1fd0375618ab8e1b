//! Storage-version migration: what a definition still asks of its stored objects.
//!
//! A definition whose versions changed leaves objects that are stored in an older one, and field managers recorded in versions that
//! nobody serves any more. Both are put right once per generation of the definition: a patch without content makes the API
//! server store an object anew, and stale records are dropped. An annotation on the definition names the generation that is
//! done, so that a settled definition costs nothing, also after a restart.
//!
//! Rules: P-80 to P-87, K-125. P-87 replaces parts of P-85: objects are touched through their status where that is a
//! subresource, because what admission would refuse today must not block a definition for ever; and `storedVersions` is left
//! alone unless every object of every namespace was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use capm3_api::foreign::{CustomResourceDefinition, DefinitionVersion};
use capm3_api::k8s::{FieldsV1, ManagedFieldsEntry, ObjectMeta, Time, Timestamp};
use capm3_api::names::annotation;
use serde_json::{Value, json};

/// An object that was handled is not handled again within this time (P-85).
const REMEMBERED: Duration = Duration::from_secs(3600);
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What can be skipped by flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    StorageVersionMigration,
    CleanupManagedFields,
}

impl Phase {
    pub const ALL: [Self; 2] = [Self::StorageVersionMigration, Self::CleanupManagedFields];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StorageVersionMigration => "StorageVersionMigration",
            Self::CleanupManagedFields => "CleanupManagedFields",
        })
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [one, other] = Self::ALL;
        let known = Self::ALL.into_iter().find(|phase| phase.to_string() == text);
        known.ok_or_else(|| format!("one of {one}, {other}"))
    }
}

/// What has to be done to the objects of one definition; nothing of it depends on the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub group: String,
    /// The one that is stored, or if that is not served, any that is.
    pub version: String,
    pub kind: String,
    pub plural: String,
    /// The objects have to be stored anew.
    pub rewrite: Option<Through>,
    /// The apiVersions that field managers may name; none leaves them alone.
    pub served: Option<BTreeSet<String>>,
}

/// Where the patch without content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    Object,
    Status,
}

impl Through {
    pub fn subresource(self) -> Option<&'static str> {
        match self {
            Self::Object => None,
            Self::Status => Some("status"),
        }
    }
}

impl Plan {
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    pub fn visits_objects(&self) -> bool {
        self.rewrite.is_some() || self.served.is_some()
    }
}

/// What came of the visits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub objects: usize,
    pub rewritten: usize,
    pub not_rewritten: usize,
    pub cleaned: usize,
    pub not_cleaned: usize,
}

impl Tally {
    pub fn failed(&self) -> usize {
        self.not_rewritten + self.not_cleaned
    }
}

/// The last two writes, on the definition itself; in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Patch of the status, valid only for the definition as it was read before the first visit.
    pub stored_versions: Option<Value>,
    /// Patch that notes the generation.
    pub mark: Option<Value>,
}

/// Whether this generation of the definition has been seen to (P-84), or need not be because it is going away.
pub fn is_settled(definition: &ObjectMeta) -> bool {
    let noted = definition.annotations.as_ref().and_then(|all| all.get(annotation::MIGRATED_GENERATION));
    let generation = definition.generation.unwrap_or_default().to_string();
    definition.deletion_timestamp.is_some() || noted == Some(&generation)
}

/// None: nothing can or need be done until the definition changes.
pub fn plan(definition: &CustomResourceDefinition, phases: &BTreeSet<Phase>) -> Option<Plan> {
    if is_settled(&definition.metadata) {
        return None;
    }
    let spec = &definition.spec;
    let stored = stored_version(definition)?;
    let reached = Some(stored).filter(|version| version.served).or_else(|| spec.versions.iter().find(|v| v.served))?;
    let is_clean = definition.status.as_ref().is_some_and(|s| s.stored_versions == [stored.name.as_str()]);
    let through = match &reached.subresources {
        Some(subresources) if subresources.status.is_some() => Through::Status,
        _ => Through::Object,
    };
    let served = || spec.versions.iter().filter(|v| v.served).map(|v| format!("{}/{}", spec.group, v.name)).collect();
    Some(Plan {
        group: spec.group.clone(),
        version: reached.name.clone(),
        kind: spec.names.kind.clone(),
        plural: spec.names.plural.clone(),
        rewrite: (phases.contains(&Phase::StorageVersionMigration) && !is_clean).then_some(through),
        served: phases.contains(&Phase::CleanupManagedFields).then(served),
    })
}

/// The merge patch without content. An object that has changed since was stored anew by whoever changed it, hence its version.
pub fn rewrite(plan: &Plan, object: &ObjectMeta) -> Value {
    json!({
        "apiVersion": plan.api_version(),
        "kind": plan.kind,
        "metadata": {
            "name": object.name,
            "namespace": object.namespace,
            "resourceVersion": object.resource_version,
            "uid": object.uid,
        },
    })
}

/// The JSON patch that takes the records of unserved versions off an object, if it has any (P-86).
///
/// Without any record the API server would ascribe all fields to the next one who applies, so one that owns the name stays.
pub fn cleanup(plan: &Plan, object: &ObjectMeta, now: Timestamp) -> Option<Value> {
    let served = plan.served.as_ref()?;
    let is_served = |entry: &&ManagedFieldsEntry| entry.api_version.as_ref().is_some_and(|v| served.contains(v));
    let (mut kept, stale): (Vec<_>, Vec<_>) = object.managed_fields.iter().flatten().partition(is_served);
    let first = *stale.first()?;
    let seed = ManagedFieldsEntry {
        api_version: Some(plan.api_version()),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(json!({"f:metadata": {"f:name": {}}}))),
        manager: first.manager.clone(),
        operation: first.operation.clone(),
        subresource: None,
        time: Some(Time(now)),
    };
    if kept.is_empty() {
        kept.push(&seed);
    }
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": object.resource_version},
    ]))
}

/// What may be said of the definition after all its objects were visited.
pub fn ending(plan: &Plan, definition: &CustomResourceDefinition, tally: &Tally) -> Ending {
    let stored = stored_version(definition).map(|version| version.name.as_str());
    let clean = plan.rewrite.is_some() && tally.not_rewritten == 0;
    let generation = definition.metadata.generation.unwrap_or_default().to_string();
    Ending {
        stored_versions: clean.then(|| json!({"status": {"storedVersions": [stored]}})),
        mark: (tally.failed() == 0)
            .then(|| json!({"metadata": {"annotations": {annotation::MIGRATED_GENERATION: generation}}})),
    }
}

/// How long to wait after the n-th failure in a row: what refuses today mostly refuses for a while.
pub fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

/// The objects, by uid, that were stored anew for one generation of a definition.
#[derive(Clone, Debug, Default)]
pub struct Handled {
    generation: i64,
    objects: BTreeMap<String, Timestamp>,
}

impl Handled {
    /// Another generation may store in another version: what was handled before does not count.
    pub fn of_generation(&mut self, generation: i64) {
        if self.generation != generation {
            *self = Self { generation, objects: BTreeMap::new() };
        }
    }

    pub fn add(&mut self, uid: &str, now: Timestamp) {
        self.objects.insert(uid.to_owned(), now);
    }

    /// Looking at one that counts keeps it for another hour.
    pub fn counts(&mut self, uid: &str, now: Timestamp) -> bool {
        let Some(since) = self.objects.get_mut(uid) else { return false };
        let counts = now.duration_since(*since).unsigned_abs() < REMEMBERED;
        if counts {
            *since = now;
        }
        counts
    }
}

fn stored_version(definition: &CustomResourceDefinition) -> Option<&DefinitionVersion> {
    definition.spec.versions.iter().find(|version| version.storage)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn both() -> BTreeSet<Phase> {
        Phase::ALL.into()
    }

    /// Lamps in two versions, of which the second is stored.
    fn lamps(stored_versions: &[&str]) -> CustomResourceDefinition {
        let definition = json!({
            "metadata": {"name": "lamps.example.com", "generation": 3, "resourceVersion": "9"},
            "spec": {
                "group": "example.com",
                "names": {"kind": "Lamp", "plural": "lamps"},
                "versions": [
                    {"name": "v1beta1", "served": true, "storage": false, "subresources": {"status": {}}},
                    {"name": "v1beta2", "served": true, "storage": true, "subresources": {"status": {}}},
                ],
            },
            "status": {"storedVersions": stored_versions},
        });
        serde_json::from_value(definition).unwrap()
    }

    fn planned(definition: &CustomResourceDefinition) -> Plan {
        plan(definition, &both()).unwrap()
    }

    fn object(managers: &[(&str, &str)]) -> ObjectMeta {
        let entry = |(manager, api_version): &(&str, &str)| ManagedFieldsEntry {
            api_version: Some((*api_version).to_owned()),
            fields_type: Some("FieldsV1".to_owned()),
            fields_v1: Some(FieldsV1(json!({"f:spec": {"f:watts": {}}}))),
            manager: Some((*manager).to_owned()),
            operation: Some("Apply".to_owned()),
            ..ManagedFieldsEntry::default()
        };
        ObjectMeta {
            name: Some("hall".to_owned()),
            namespace: Some("ns".to_owned()),
            uid: Some("u1".to_owned()),
            resource_version: Some("7".to_owned()),
            managed_fields: Some(managers.iter().map(entry).collect()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn ap_8_phases_have_names_and_nothing_else_does() {
        for phase in Phase::ALL {
            assert_eq!(phase.to_string().parse(), Ok(phase));
        }
        for wrong in ["All", "", "storageversionmigration"] {
            assert_eq!(
                wrong.parse::<Phase>().unwrap_err(),
                "one of StorageVersionMigration, CleanupManagedFields",
                "{wrong}"
            );
        }
    }

    #[test]
    fn ap_8_a_skipped_phase_is_not_planned() {
        let old = lamps(&["v1beta1", "v1beta2"]);
        let only = |phase| plan(&old, &[phase].into()).unwrap();
        let (migration, cleanup) = (only(Phase::StorageVersionMigration), only(Phase::CleanupManagedFields));
        assert_eq!((migration.rewrite, migration.served), (Some(Through::Status), None));
        assert_eq!((cleanup.rewrite, cleanup.served.map(|served| served.len())), (None, Some(2)));
        assert_eq!(ending(&only(Phase::CleanupManagedFields), &old, &Tally::default()).stored_versions, None);
    }

    #[test]
    fn k_126_a_settled_definition_asks_for_nothing() {
        let mut done = lamps(&["v1beta1", "v1beta2"]);
        let mark = ending(&planned(&done), &done, &Tally::default()).mark.unwrap();
        let noted = mark["metadata"]["annotations"]["crd-migration.cluster.x-k8s.io/observed-generation"].clone();
        done.metadata.annotations = Some([(annotation::MIGRATED_GENERATION.to_owned(), "3".to_owned())].into());
        assert_eq!((noted, plan(&done, &both())), (json!("3"), None));
        done.metadata.generation = Some(4);
        assert!(plan(&done, &both()).is_some());
    }

    #[test]
    fn ap_9_objects_are_rewritten_when_more_than_the_stored_version_is_listed() {
        for (stored_versions, expected) in [
            (&["v1beta1", "v1beta2"] as &[_], Some(Through::Status)),
            (&["v1beta1"], Some(Through::Status)),
            (&[], Some(Through::Status)),
            (&["v1beta2"], None),
        ] {
            assert_eq!(planned(&lamps(stored_versions)).rewrite, expected, "{stored_versions:?}");
        }
        let old = lamps(&["v1beta1", "v1beta2"]);
        let plan = planned(&old);
        assert_eq!(
            rewrite(&plan, &object(&[])),
            json!({
                "apiVersion": "example.com/v1beta2", "kind": "Lamp",
                "metadata": {"name": "hall", "namespace": "ns", "resourceVersion": "7", "uid": "u1"},
            })
        );
        let ending = ending(&plan, &old, &Tally { objects: 2, rewritten: 2, ..Tally::default() });
        assert_eq!(ending.stored_versions, Some(json!({"status": {"storedVersions": ["v1beta2"]}})));
        assert!(ending.mark.is_some());
    }

    #[test]
    fn ap_9_a_clean_definition_only_loses_stale_records() {
        let clean = lamps(&["v1beta2"]);
        let plan = planned(&clean);
        assert!(plan.visits_objects());
        let ending = ending(&plan, &clean, &Tally::default());
        assert_eq!((ending.stored_versions, ending.mark.is_some()), (None, true));
    }

    #[test]
    fn p_87_objects_without_a_status_subresource_are_touched_themselves() {
        let mut old = lamps(&["v1beta1", "v1beta2"]);
        old.spec.versions[1].subresources = None;
        assert_eq!(planned(&old).rewrite, Some(Through::Object));
        old.spec.versions[1].subresources = Some(serde_json::from_value(json!({})).unwrap());
        assert_eq!(planned(&old).rewrite, Some(Through::Object));
        assert_eq!((Through::Object.subresource(), Through::Status.subresource()), (None, Some("status")));
    }

    #[test]
    fn an_unserved_stored_version_is_reached_through_one_that_is_served() {
        let mut old = lamps(&["v1beta1", "v1beta2"]);
        old.spec.versions[1].served = false;
        let plan = planned(&old);
        assert_eq!(plan.version, "v1beta1");
        let ending = ending(&plan, &old, &Tally::default());
        assert_eq!(ending.stored_versions, Some(json!({"status": {"storedVersions": ["v1beta2"]}})));
        old.spec.versions[0].served = false;
        assert_eq!(super::plan(&old, &both()), None);
    }

    #[test]
    fn ap_10_one_object_that_refuses_keeps_the_stored_versions_and_the_mark() {
        let old = lamps(&["v1beta1", "v1beta2"]);
        let refused = Tally { objects: 3, rewritten: 2, not_rewritten: 1, ..Tally::default() };
        assert_eq!(ending(&planned(&old), &old, &refused), Ending::default());
        let stale = Tally { objects: 3, rewritten: 3, not_cleaned: 1, ..Tally::default() };
        let ending = ending(&planned(&old), &old, &stale);
        assert_eq!((ending.stored_versions.is_some(), ending.mark), (true, None));
    }

    #[test]
    fn ap_10_what_was_handled_counts_for_an_hour_of_the_same_generation() {
        let after = |minutes: i64| NOW + jiff::SignedDuration::from_mins(minutes);
        let mut handled = Handled::default();
        handled.of_generation(3);
        handled.add("u1", NOW);
        assert!(!handled.counts("u2", NOW));
        assert!(handled.counts("u1", after(59)), "which counts for another hour");
        assert!(handled.counts("u1", after(118)));
        assert!(!handled.counts("u1", after(178)));
        handled.of_generation(3);
        handled.add("u1", NOW);
        handled.of_generation(4);
        assert!(!handled.counts("u1", NOW));
    }

    #[test]
    fn ap_10_failures_are_tried_again_ever_more_rarely() {
        let seconds: Vec<_> = [1, 2, 3, 6, 7, 100].iter().map(|n| pause(*n).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 320, 600, 600]);
    }

    #[test]
    fn ap_11_the_last_record_leaves_a_seed() {
        let plan = planned(&lamps(&["v1beta2"]));
        let patch =
            cleanup(&plan, &object(&[("kubectl", "example.com/v1alpha5"), ("other", "example.com/v1alpha4")]), NOW);
        assert_eq!(
            patch.unwrap(),
            json!([
                {"op": "replace", "path": "/metadata/managedFields", "value": [{
                    "apiVersion": "example.com/v1beta2", "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:metadata": {"f:name": {}}},
                    "manager": "kubectl", "operation": "Apply", "time": "1970-01-01T00:00:00Z",
                }]},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
            ])
        );
    }

    #[test]
    fn ap_11_records_of_served_versions_stay_as_they_are() {
        let plan = planned(&lamps(&["v1beta2"]));
        let mixed = object(&[("old", "example.com/v1alpha5"), ("kubectl", "example.com/v1beta1")]);
        let patch = cleanup(&plan, &mixed, NOW).unwrap();
        assert_eq!(patch[0]["value"], json!([mixed.managed_fields.as_ref().unwrap()[1]]));
        let fresh = object(&[("kubectl", "example.com/v1beta1"), ("capm3", "example.com/v1beta2")]);
        assert_eq!(cleanup(&plan, &fresh, NOW), None);
        assert_eq!(cleanup(&plan, &object(&[]), NOW), None);
        assert_eq!(cleanup(&Plan { served: None, ..plan }, &mixed, NOW), None);
    }

    #[test]
    fn what_cleanup_leaves_needs_no_cleanup() {
        let plan = planned(&lamps(&["v1beta2"]));
        for managers in [&[("a", "example.com/v0")] as &[_], &[("a", "example.com/v0"), ("b", "example.com/v1beta1")]] {
            let mut cleaned = object(managers);
            let patch = cleanup(&plan, &cleaned, NOW).unwrap();
            cleaned.managed_fields = serde_json::from_value(patch[0]["value"].clone()).unwrap();
            assert_eq!(cleanup(&plan, &cleaned, NOW), None);
        }
    }
}
