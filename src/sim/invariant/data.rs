//! Indexes and rendered Secrets: I3, I14.

use super::memory::{Memory, index_of};
use super::seen::{Seen, What};
use super::view::{is_leaving, owner, text};

/// An index of a template belongs to one Metal3Data.
pub(super) fn i3_one_index(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let index = index_of(seen.new())?;
    let other = memory.at_index(&index).find(|data| **data != seen.path)?;
    Some(format!("index {} of {} belongs to {other} and to {}", index.1, index.0, seen.path))
}

/// A claim has one Metal3Data at most.
pub(super) fn i3_one_data(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    if seen.old.is_some() {
        return None;
    }
    let (claim, uid) = owner(seen.new(), "Metal3DataClaim")?;
    let mut others = memory.owned_by(uid).filter(|(what, _, data)| *what == What::Data && !is_leaving(data));
    others.next().map(|(_, other, _)| format!("{claim} has {other} and got {} as well", seen.path))
}

/// A Secret is rendered once, by whoever owns it, and the same sources give the same content. Nobody's Secret is changed or deleted.
pub(super) fn i14_rendered_once(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let (old, new) = (seen.old(), seen.new());
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
