//! What addresses are given to whom: I2.

use super::memory::{Memory, place};
use super::seen::Seen;

/// An address of a pool is held by one object of either kind, for one claim.
pub(super) fn i2_one_holder(memory: &Memory, seen: &Seen<'_>) -> Option<String> {
    let place = place(seen.what, seen.new())?;
    let (what, other) = memory.holding(&place).find(|(what, path)| (*what, path) != (seen.what, &seen.path))?;
    Some(format!("{} of {} is held by {what:?} {other} and by {:?} {}", place.1, place.0, seen.what, seen.path))
}
