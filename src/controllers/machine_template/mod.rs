//! Metal3MachineTemplate: brings the machines that were cloned from a template up to its cleaning mode, and tells what a machine of
//! it would bring.
//!
//! A template wakes itself, and so do every machine that was cloned from it (T-1) and every host that its selector allows, when
//! that host brings something else than before (K-54).

use std::sync::Arc;
use std::time::Duration;

use capm3_api::foreign::BareMetalHost;
use capm3_api::infra::v1beta2::{Metal3Machine, Metal3MachineTemplate, Metal3MachineTemplateStatus};
use capm3_api::names::label;
use capm3_core::machine_template::{behind, matters, status, template_of};
use capm3_runtime::{
    Change, Controller, Key, Next, Preconditions, Reconcile, ReconcileError, Retry, Setup, Store, WatchOptions,
    WriteError, Writer, key_of, merge_diff,
};
use serde_json::json;

pub const NAME: &str = "metal3machinetemplate";

const AFTER_A_RACE: Duration = Duration::from_millis(500);
/// Machines by `<namespace>/<template>` they were cloned from.
const BY_TEMPLATE: &str = "metal3machinetemplate.machines";

pub(crate) fn register(setup: &mut Setup) {
    let templates: Store<Metal3MachineTemplate> = setup.hub.store(WatchOptions::default());
    let machines: Store<Metal3Machine> = setup.hub.store(WatchOptions::default());
    machines.index(BY_TEMPLATE, |machine| cloned_from(machine).map(|key| key.to_string()).into_iter().collect());
    let queue = setup.queue(NAME);
    setup.hub.route(&templates, &queue, |change| vec![change.key()]);
    setup.hub.route(&machines, &queue, |change: &Change<Metal3Machine>| {
        let (old, new) = (change.old.as_deref(), change.new.as_deref());
        let same = |part: fn(&Metal3Machine) -> Option<&str>| old.and_then(part) == new.and_then(part);
        let mode = |machine: &Metal3Machine| machine.spec.automated_cleaning_mode.clone();
        if old.map(mode) == new.map(mode) && same(template_of) {
            Vec::new()
        } else {
            new.and_then(cloned_from).into_iter().collect()
        }
    });
    let hosts: Store<BareMetalHost> = setup.hub.store(WatchOptions::default());
    let known = templates.clone();
    setup.hub.route(&hosts, &queue, move |change: &Change<BareMetalHost>| {
        let (old, new) = (change.old.as_deref(), change.new.as_deref());
        let templates = known.list(&change.key().namespace).into_iter();
        templates.filter(|template| matters(template, old, new)).map(|template| key_of(&*template)).collect()
    });
    let reconciler = Templates {
        templates,
        machines,
        hosts,
        writer: setup.writer.clone(),
        watch_filter: setup.options.watch_filter.clone(),
    };
    setup.add(Controller::new(NAME, queue, reconciler, setup.workers(NAME)));
}

fn cloned_from(machine: &Metal3Machine) -> Option<Key> {
    template_of(machine).map(|name| key_of(machine).sibling(name))
}

struct Templates {
    templates: Store<Metal3MachineTemplate>,
    machines: Store<Metal3Machine>,
    hosts: Store<BareMetalHost>,
    writer: Writer,
    watch_filter: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot set the cleaning mode of {failed} machines")]
    Cleaning {
        failed: usize,
        #[source]
        first: WriteError,
    },
    #[error("cannot tell what a machine of the template brings")]
    Status(#[source] WriteError),
}

impl ReconcileError for Error {
    fn category(&self) -> &'static str {
        let (Self::Cleaning { first: error, .. } | Self::Status(error)) = self;
        error.category()
    }

    fn retry(&self) -> Retry {
        let (Self::Cleaning { first: error, .. } | Self::Status(error)) = self;
        error.retry()
    }
}

impl Reconcile for Templates {
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(template) = self.templates.get(key).filter(|template| self.is_ours(template)) else {
            return Ok(Next::Done);
        };
        let machines = self.machines.by_index(BY_TEMPLATE, &key.to_string());
        let mut next = Next::Done;
        let mut failures = Vec::new();
        for (machine, patch) in behind(&template, machines.iter().map(Arc::as_ref)) {
            let only_if = Preconditions::same(machine);
            match self.writer.patch::<Metal3Machine>(&key_of(machine), patch, &only_if).await {
                Ok(_) | Err(WriteError::NotFound(_)) => {}
                Err(WriteError::Conflict(_)) => next = Next::After(AFTER_A_RACE),
                Err(error) => failures.push(error),
            }
        }
        let hosts = self.hosts.list(&key.namespace);
        let told = match status(&template, hosts.iter().map(Arc::as_ref)) {
            Some(status) => self.tell(&template, &status).await,
            None => Ok(Next::Done),
        };
        let failed = failures.len();
        match failures.into_iter().next() {
            None => told.map(|told| if told == Next::Done { next } else { told }),
            Some(first) => Err(Error::Cleaning { failed, first }),
        }
    }
}

impl Templates {
    async fn tell(
        &self,
        template: &Metal3MachineTemplate,
        status: &Metal3MachineTemplateStatus,
    ) -> Result<Next, Error> {
        let before = template.status.clone().unwrap_or_default();
        let Some(difference) = merge_diff(&before, status).map_err(Error::Status)? else { return Ok(Next::Done) };
        let (key, only_if) = (key_of(template), Preconditions::unchanged(template));
        let patch = json!({ "status": difference });
        match self.writer.patch_status::<Metal3MachineTemplate>(&key, patch, &only_if).await {
            Ok(_) | Err(WriteError::NotFound(_)) => Ok(Next::Done),
            Err(WriteError::Conflict(_)) => Ok(Next::After(AFTER_A_RACE)),
            Err(error) => Err(Error::Status(error)),
        }
    }

    fn is_ours(&self, template: &Metal3MachineTemplate) -> bool {
        let Some(filter) = &self.watch_filter else { return true };
        template.metadata.labels.as_ref().and_then(|labels| labels.get(label::WATCH_FILTER)) == Some(filter)
    }
}
