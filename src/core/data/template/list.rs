//! The list of indexes in the template's status: what it says, and when it is worth a write.
//!
//! It is for people. A burst of claims costs one write, and a list that is as it should be costs none.
//!
//! Rules: docs/spec/data-rendering.md D-30 and D-38 with hazard HD-9 adopted.

use std::sync::Arc;
use std::time::Duration;

use capm3_api::infra::v1beta2::{IndexEntry, Metal3Data, Metal3DataTemplate, Metal3DataTemplateStatus};
use capm3_api::k8s::{Time, Timestamp};

use super::{Observed, claim_name, is_of};
use crate::conditions::Summary;
use crate::ready::{self, Told};

/// The list of indexes is written at most this often, and not before nothing new has come for so long: a burst of claims costs
/// one write.
const LIST_INTERVAL: Duration = Duration::from_secs(2);

/// Who keeps on coming is listed after this time.
const LONGEST_BURST: Duration = Duration::from_secs(10);

/// What the status says, from the objects that are there (D-30).
pub(super) fn list(observed: &Observed<'_>) -> Vec<IndexEntry> {
    let of_template = |data: &&Arc<Metal3Data>| is_of(data, observed.name);
    let entry = |data: &Arc<Metal3Data>| {
        Some(IndexEntry { index: data.spec.index?, name: claim_name(data).filter(|name| !name.is_empty())?.to_owned() })
    };
    let mut entries: Vec<_> = observed.datas.iter().filter(of_template).filter_map(entry).collect();
    entries.sort_by(|a, b| a.index.cmp(&b.index).then_with(|| a.name.cmp(&b.name)));
    entries.dedup_by_key(|entry| entry.index); // the list is keyed by index
    entries
}

/// How long to hold the list back for those who may come right after the ones that have just come.
pub(super) fn settling(observed: &Observed<'_>, template: &Metal3DataTemplate) -> Option<Duration> {
    let listed = template.status.as_ref()?; // the first word about a template is for itself
    listed.last_updated.as_ref()?;
    let new = |data: &&Arc<Metal3Data>| {
        is_of(data, observed.name) && listed.indexes.iter().all(|entry| Some(entry.index) != data.spec.index)
    };
    let created = observed.datas.iter().filter(new).filter_map(|data| data.metadata.creation_timestamp.as_ref());
    // What comes from the future, by whoever's clock, is nothing to wait for.
    let age = |created: &Time| Duration::try_from(observed.now.duration_since(created.0)).unwrap_or(LONGEST_BURST);
    let ages: Vec<_> = created.map(age).collect();
    let (newest, oldest) = (ages.iter().min()?, ages.iter().max()?);
    LIST_INTERVAL.checked_sub(*newest).filter(|rest| !rest.is_zero() && *oldest < LONGEST_BURST)
}

/// The status to write, or how long to hold it back; neither when the list is as it should be (HD-9).
pub(super) fn list_status(
    template: &Metal3DataTemplate,
    indexes: Vec<IndexEntry>,
    now: Timestamp,
) -> (Option<Metal3DataTemplateStatus>, Option<Duration>) {
    let written = template.status.as_ref();
    let last_updated = written.and_then(|status| status.last_updated.as_ref()).map(|time| time.0);
    let told = |bare| ready::tell(&template.metadata, written, bare, &Summary::ready(), now);
    if let (Some(last), Some(written)) = (last_updated, written) {
        if written.indexes == indexes {
            let status = told(written.bare());
            return ((status != *written).then_some(status), None);
        }
        let age = Duration::try_from(now.duration_since(last)).unwrap_or(LIST_INTERVAL);
        if let Some(rest) = LIST_INTERVAL.checked_sub(age).filter(|rest| !rest.is_zero()) {
            return (None, Some(rest));
        }
    }
    let bare =
        Metal3DataTemplateStatus { indexes, last_updated: Some(Time(now)), ..Metal3DataTemplateStatus::default() };
    (Some(told(bare)), None)
}
