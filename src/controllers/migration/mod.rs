//! Definitions: when one has changed, its objects are brought to the version that is stored.
//!
//! | watched | wakes |
//! |---|---|
//! | CustomResourceDefinition (metadata only) | itself, when its generation is not the one noted as done |
//!
//! The decisions are those of [`capm3_core::migration`]. Objects are listed live, in all namespaces whatever the manager is
//! restricted to (P-87), page by page and without their content; a few at a time are touched, so that the other controllers keep
//! their share of the API server. One that refuses is named and does not stop the rest.

mod visit;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::CustomResourceDefinition;
use capm3_api::k8s::ObjectMeta;
use capm3_api::names::{annotation, reason};
pub use capm3_core::migration::Phase;
use capm3_core::migration::{Ending, Handled, Plan, Tally, ending, is_settled, pause, plan};
use capm3_runtime::{
    Change, Clock, Controller, Key, Next, Preconditions, Queue, ReadError, Reader, Reconcile, ReconcileError, Recorder,
    Retry, Setup, Store, WatchOptions, WriteError, Writer, key_of,
};
use parking_lot::Mutex;
use serde::Deserialize;

use visit::Visited;

pub const NAME: &str = "crdmigrator";

const AFTER_A_RACE: Duration = Duration::from_millis(500);
/// A definition that was just made takes a moment until its kind is served.
const NOT_SERVED_YET: Duration = Duration::from_secs(10);
/// No event tells that a permission was given.
const NOT_ALLOWED: Duration = Duration::from_secs(3600);
/// A pass ends with its objects; it looks for the stop signal itself.
const TIME_LIMIT: Duration = Duration::from_secs(3600);

/// Declares the watch of the definitions with these names. With every phase skipped there is nothing to declare (P-80).
pub fn register(setup: &mut Setup, names: &[&'static str], skipped: &[Phase]) {
    let phases: BTreeSet<_> = Phase::ALL.into_iter().filter(|phase| !skipped.contains(phase)).collect();
    if phases.is_empty() {
        return;
    }
    let options = WatchOptions { everywhere: true, in_background: true, ..WatchOptions::default() };
    let seen: Store<Seen> = setup.hub.store(options);
    let queue = setup.queue(NAME);
    let names: BTreeSet<_> = names.iter().copied().collect();
    setup.hub.route(&seen, &queue, move |change: &Change<Seen>| {
        let named = change.new.iter().filter(|new| names.contains(new.metadata.name.as_deref().unwrap_or_default()));
        named.filter(|new| is_news(change.old.as_deref(), new)).map(|new| key_of(&**new)).collect()
    });
    let definitions = Definitions {
        seen,
        phases,
        queue: queue.clone(),
        reader: setup.reader.clone(),
        writer: setup.writer.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        memory: Mutex::default(),
    };
    setup.add(Controller::new(NAME, queue, definitions, 1).time_limit(TIME_LIMIT));
}

/// Settled definitions and resyncs are none (P-80).
fn is_news(old: Option<&Seen>, new: &Seen) -> bool {
    let looked_at = |seen: &Seen| {
        let meta = &seen.metadata;
        (meta.uid.clone(), meta.generation, meta.annotations.clone(), meta.deletion_timestamp.is_some())
    };
    !is_settled(&new.metadata) && old.is_none_or(|old| looked_at(old) != looked_at(new))
}

/// What is kept of a definition between its events.
#[derive(Clone, Debug, Deserialize)]
struct Seen {
    #[serde(deserialize_with = "trimmed")]
    metadata: ObjectMeta,
}

/// Some annotations hold a whole definition.
fn trimmed<'de, D: serde::Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let whole = ObjectMeta::deserialize(from)?;
    let mut annotations = whole.annotations.unwrap_or_default();
    annotations.retain(|name, _| name == annotation::MIGRATED_GENERATION);
    Ok(ObjectMeta {
        name: whole.name,
        uid: whole.uid,
        resource_version: whole.resource_version,
        generation: whole.generation,
        deletion_timestamp: whole.deletion_timestamp,
        annotations: Some(annotations),
        ..ObjectMeta::default()
    })
}

impl kube::Resource for Seen {
    type DynamicType = ();
    type Scope = kube::core::ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        CustomResourceDefinition::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        CustomResourceDefinition::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        CustomResourceDefinition::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        CustomResourceDefinition::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn metadata_api() -> bool {
        true
    }
}

struct Definitions {
    seen: Store<Seen>,
    phases: BTreeSet<Phase>,
    queue: Queue,
    reader: Reader,
    writer: Writer,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    memory: Mutex<BTreeMap<Key, Memory>>,
}

/// Kept for a definition from its first pass to its last.
#[derive(Default)]
struct Memory {
    handled: Handled,
    failures: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("the objects of {definition} are not all brought to the stored version")]
struct Error {
    definition: String,
    again: Duration,
    source: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{purpose}")]
    Read { purpose: &'static str, source: ReadError },
    #[error("{purpose}")]
    Write { purpose: &'static str, source: WriteError },
    #[error("{failed} of {objects} objects refuse, such as {first}")]
    Refused { failed: usize, objects: usize, first: String },
}

impl ReconcileError for Error {
    fn category(&self) -> &'static str {
        match &self.source {
            Problem::Read { source, .. } => source.category(),
            Problem::Write { source, .. } => source.category(),
            Problem::Refused { .. } => "ObjectsRefuse",
        }
    }

    fn retry(&self) -> Retry {
        Retry::After(self.again)
    }
}

impl Reconcile for Definitions {
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        match self.pass(key).await {
            Ok(Next::Done) => {
                self.memory.lock().remove(key);
                Ok(Next::Done)
            }
            Ok(later) => Ok(later),
            Err(source) => {
                let failures = {
                    let mut memory = self.memory.lock();
                    let memory = memory.entry(key.clone()).or_default();
                    memory.failures = memory.failures.saturating_add(1);
                    memory.failures
                };
                Err(Error { definition: key.name.clone(), again: pause(failures), source })
            }
        }
    }
}

impl Definitions {
    async fn pass(&self, key: &Key) -> Result<Next, Problem> {
        if self.seen.get(key).is_none_or(|seen| is_settled(&seen.metadata)) {
            return Ok(Next::Done);
        }
        let read = |source| Problem::Read { purpose: "cannot read the definition", source };
        let definition: Option<CustomResourceDefinition> = self.reader.get(key).await.map_err(read)?;
        let planned = definition.and_then(|definition| Some((plan(&definition, &self.phases)?, definition)));
        let Some((plan, definition)) = planned else { return Ok(Next::Done) };
        if !plan.visits_objects() {
            return self.end(key, &definition, &plan, &Tally::default(), None).await;
        }
        let generation = definition.metadata.generation.unwrap_or_default();
        self.memory.lock().entry(key.clone()).or_default().handled.of_generation(generation);
        match self.visit_all(key, &plan).await? {
            Visited::All { tally, first } => self.end(key, &definition, &plan, &tally, first).await,
            Visited::NotServed => Ok(Next::After(NOT_SERVED_YET)),
            Visited::NotAllowed => {
                tracing::warn!(
                    definition = key.name,
                    "not allowed to list its objects in all namespaces: not migrated"
                );
                Ok(Next::After(NOT_ALLOWED))
            }
            Visited::Stopped => Ok(Next::After(AFTER_A_RACE)),
        }
    }

    async fn end(
        &self,
        key: &Key,
        definition: &CustomResourceDefinition,
        plan: &Plan,
        tally: &Tally,
        first: Option<String>,
    ) -> Result<Next, Problem> {
        let Ending { stored_versions, mark } = ending(plan, definition, tally);
        if let Some(patch) = stored_versions {
            let only_if = Preconditions::unchanged(definition);
            match self.writer.patch_status::<CustomResourceDefinition>(key, patch, &only_if).await {
                Ok(_) => {
                    let message = format!("all {} objects are stored in {}", tally.objects, plan.version);
                    self.recorder.normal(definition, reason::STORAGE_MIGRATED, message);
                }
                Err(WriteError::Conflict(_)) => return Ok(Next::After(AFTER_A_RACE)),
                Err(WriteError::NotFound(_)) => return Ok(Next::Done),
                Err(source) => return Err(Problem::Write { purpose: "cannot set the stored versions", source }),
            }
        }
        if tally.rewritten + tally.cleaned > 0 {
            let Tally { objects, rewritten, cleaned, .. } = *tally;
            tracing::info!(
                definition = key.name,
                version = plan.version,
                objects,
                rewritten,
                cleaned,
                "migrated objects"
            );
        }
        if let Some(patch) = mark {
            match self.writer.patch::<CustomResourceDefinition>(key, patch, &Preconditions::same(definition)).await {
                Ok(_) | Err(WriteError::NotFound(_) | WriteError::Conflict(_)) => {}
                Err(source) => return Err(Problem::Write { purpose: "cannot note the generation", source }),
            }
        }
        let Some(first) = first else { return Ok(Next::Done) };
        let problem = Problem::Refused { failed: tally.failed(), objects: tally.objects, first };
        self.recorder.warning(definition, reason::STORAGE_MIGRATION_FAILED, problem.to_string());
        Err(problem)
    }
}

#[cfg(test)]
mod tests {
    use capm3_runtime::{Hub, HubOptions, Metrics, Options, Parts, SystemClock, SystemDice, Tasks};
    use kube::Client;
    use kube::client::Body;

    use super::*;

    fn seen(generation: i64, noted: Option<&str>) -> Seen {
        let annotations = noted.map(|noted| [(annotation::MIGRATED_GENERATION.to_owned(), noted.to_owned())].into());
        Seen { metadata: ObjectMeta { generation: Some(generation), annotations, ..ObjectMeta::default() } }
    }

    #[test]
    fn p_80_settled_definitions_and_resyncs_wake_nobody() {
        assert!(is_news(None, &seen(1, None)));
        assert!(is_news(Some(&seen(1, Some("1"))), &seen(2, Some("1"))));
        assert!(is_news(Some(&seen(2, Some("2"))), &seen(2, None)), "somebody took the note away");
        assert!(!is_news(None, &seen(2, Some("2"))));
        assert!(!is_news(Some(&seen(1, None)), &seen(1, None)), "a resync, or a change of status alone");
    }

    #[test]
    fn of_a_definition_only_what_is_looked_at_is_kept() {
        let seen: Seen = serde_json::from_value(serde_json::json!({"metadata": {
            "name": "lamps", "labels": {"a": "b"}, "managedFields": [{"manager": "m"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", annotation::MIGRATED_GENERATION: "7"},
        }}))
        .unwrap();
        let annotations = seen.metadata.annotations.unwrap();
        assert_eq!(annotations.into_values().collect::<Vec<_>>(), ["7"]);
        assert_eq!((seen.metadata.labels, seen.metadata.managed_fields), (None, None));
    }

    #[tokio::test]
    async fn ap_8_with_both_phases_skipped_there_is_no_controller() {
        let nobody = tower::service_fn(|_: http::Request<Body>| async {
            Err::<http::Response<Body>, _>(std::io::Error::other("registering asks nothing"))
        });
        let hub = Hub::new(Client::new(nobody, "default"), HubOptions::default());
        let clock = Arc::new(SystemClock);
        for (skipped, expected) in [
            (&[] as &[Phase], &[NAME] as &[&str]),
            (&[Phase::CleanupManagedFields], &[NAME]),
            (&[Phase::StorageVersionMigration, Phase::CleanupManagedFields], &[]),
        ] {
            let parts = Parts {
                hub: hub.clone(),
                recorder: Recorder::void(clock.clone()),
                clock: clock.clone(),
                dice: Arc::new(SystemDice),
                metrics: Metrics::new(),
                tasks: Tasks::new(),
            };
            let mut setup = Setup::new(parts, Options::default());
            register(&mut setup, &["lamps.example.com"], skipped);
            let names: Vec<_> = setup.into_controllers().iter().map(Controller::name).collect();
            assert_eq!(names, expected, "{skipped:?}");
        }
    }
}
