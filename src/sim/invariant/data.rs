//! Indexes and rendered Secrets: I3, I14.

use super::memory::{Memory, index_of};
use super::seen::{Seen, What};
use super::view::{is_leaving, owner, text};

/// An index of a template belongs to one Metal3Data.
pub(super) fn i3_one_index(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let index = index_of(seen.after())?;
    let other = memory.at_index(&index).find(|data| **data != seen.path)?;
    Some(format!("index {} of {} belongs to {other} and to {}", index.1, index.0, seen.path))
}

/// A claim has one Metal3Data that counts. No create can be tied to the claim's version, so two managers may each make one: then
/// only one may become ready, the one that the claim does not name may not, and at rest there is one (`i3_one_data_left`).
pub(super) fn i3_one_data(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let ready = |data: &serde_json::Value| data["status"]["ready"] == true;
    if ready(seen.before()) || !ready(seen.after()) {
        return None;
    }
    let (name, uid) = owner(seen.after(), "Metal3DataClaim")?;
    let claim = memory.same(What::DataClaim, &seen.sibling(name), uid)?;
    let named = text(claim, &["status", "renderedData", "name"]);
    if !named.is_empty() && seen.sibling(named) != seen.path {
        return Some(format!("{name} has {named}, and {} became ready for it", seen.path));
    }
    let mut others = memory
        .owned_by(uid)
        .filter(|(what, path, data)| *what == What::Data && **path != seen.path && ready(data) && !is_leaving(data));
    others.next().map(|(_, other, _)| format!("{name} has {other}, and {} became ready as well", seen.path))
}

/// A Secret is rendered once, by whoever owns it, and the same sources give the same content. Nobody's Secret is changed or deleted.
pub(super) fn i14_rendered_once(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (seen.before(), seen.after());
    let path = &seen.path;
    if seen.new.is_none() {
        return Some(format!("{path} was deleted"));
    }
    if seen.old.is_some() {
        let changed = ["data", "type", "immutable"].into_iter().find(|part| old[*part] != new[*part])?;
        return Some(format!("{changed} of {path} was changed"));
    }
    let Some((name, uid)) = owner(new, "Metal3Data") else {
        return Some(format!("{path} was made for no Metal3Data"));
    };
    let data = seen.sibling(name);
    let before = memory.rendered_before(path, (&data, uid))?;
    let (was, is) = (text(before, &[]), text(&new["data"], &[]));
    (*before != new["data"]).then(|| format!("{path} was rendered otherwise from the same sources: {was}, now {is}"))
}
