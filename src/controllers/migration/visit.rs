//! The objects of one kind, one after the other.

use capm3_api::k8s::ObjectMeta;
use capm3_core::migration::{Plan, Tally, cleanup, rewrite};
use capm3_runtime::{Key, MetadataPatch, ReadError, WriteError, chain};
use futures::StreamExt;
use futures::future::ready;
use futures::stream;
use kube::core::ApiResource;

use super::{Definitions, Problem};

/// Requests under way at a time; the client carries many more for everybody.
const IN_FLIGHT: usize = 4;
/// A cleanup that met other writers this often leaves the object to the next pass.
const LOST_RACES: usize = 5;
/// Refusing objects that are named in the log; the rest is counted.
const NAMED: usize = 10;

/// How far the visits got.
pub(super) enum Visited {
    All {
        tally: Tally,
        /// What the first object that refused said.
        first: Option<String>,
    },
    NotServed,
    NotAllowed,
    /// The manager ends.
    Stopped,
}

/// What was done to one object: nothing was to be done, or it was done, or not.
#[derive(Default)]
struct Visit {
    rewritten: Option<bool>,
    cleaned: Option<bool>,
    refusal: Option<String>,
}

impl Definitions {
    pub(super) async fn visit_all(&self, definition: &Key, plan: &Plan) -> Result<Visited, Problem> {
        let resource = ApiResource {
            group: plan.group.clone(),
            version: plan.version.clone(),
            api_version: plan.api_version(),
            kind: plan.kind.clone(),
            plural: plan.plural.clone(),
        };
        let (mut tally, mut first, mut token) = (Tally::default(), None, None);
        loop {
            let (objects, next) = match self.reader.metadata_page(&resource, token).await {
                Ok(page) => page,
                Err(ReadError::NoSuchKind { .. }) => return Ok(Visited::NotServed),
                Err(ReadError::Forbidden { .. }) => return Ok(Visited::NotAllowed),
                Err(source) => return Err(Problem::Read { purpose: "cannot list the objects", source }),
            };
            let mut visits = stream::iter(objects)
                .take_while(|_| ready(!self.queue.is_closed()))
                .map(|object| self.visit(definition, plan, &resource, object))
                .buffer_unordered(IN_FLIGHT);
            while let Some(visit) = visits.next().await {
                tally.objects += 1;
                tally.rewritten += usize::from(visit.rewritten == Some(true));
                tally.not_rewritten += usize::from(visit.rewritten == Some(false));
                tally.cleaned += usize::from(visit.cleaned == Some(true));
                tally.not_cleaned += usize::from(visit.cleaned == Some(false));
                if let Some(refusal) = visit.refusal {
                    if tally.failed() <= NAMED {
                        tracing::warn!(definition = definition.name, error = refusal, "an object is not migrated");
                    }
                    first.get_or_insert(refusal);
                }
            }
            if self.queue.is_closed() {
                return Ok(Visited::Stopped);
            }
            token = next;
            if token.is_none() {
                return Ok(Visited::All { tally, first });
            }
        }
    }

    async fn visit(&self, definition: &Key, plan: &Plan, resource: &ApiResource, mut object: ObjectMeta) -> Visit {
        let name = |part: &Option<String>| part.clone().unwrap_or_default();
        let key = Key::new(name(&object.namespace), name(&object.name));
        let uid = name(&object.uid);
        let now = self.clock.now();
        let mut visit = Visit::default();
        let counts = || self.memory.lock().get_mut(definition).is_some_and(|memory| memory.handled.counts(&uid, now));
        if let Some(through) = plan.rewrite.filter(|_| !counts()) {
            let patch = MetadataPatch::Merge(rewrite(plan, &object));
            match self.writer.patch_metadata(resource, through.subresource(), &key, &patch).await {
                Ok(stored) => object = stored,
                Err(WriteError::NotFound(_) | WriteError::Conflict(_)) => {} // gone, or stored by another
                Err(error) => visit.refusal = Some(chain(&error)),
            }
            visit.rewritten = Some(visit.refusal.is_none());
            if visit.refusal.is_none()
                && let Some(memory) = self.memory.lock().get_mut(definition)
            {
                memory.handled.add(&uid, now);
            }
        }
        for _ in 0..LOST_RACES {
            let Some(patch) = cleanup(plan, &object, now) else { return visit };
            match self.writer.patch_metadata(resource, None, &key, &MetadataPatch::Json(patch)).await {
                Ok(_) | Err(WriteError::NotFound(_)) => {
                    visit.cleaned = Some(true);
                    return visit;
                }
                Err(WriteError::Conflict(_)) => match self.reader.metadata(resource, &key).await {
                    Ok(Some(fresh)) => object = fresh,
                    Ok(None) => return visit,
                    Err(error) => return Visit { cleaned: Some(false), refusal: Some(chain(&error)), ..visit },
                },
                Err(error) => return Visit { cleaned: Some(false), refusal: Some(chain(&error)), ..visit },
            }
        }
        let refusal = Some(format!("{} {key}: others keep changing it", plan.kind));
        Visit { cleaned: Some(false), refusal, ..visit }
    }
}
