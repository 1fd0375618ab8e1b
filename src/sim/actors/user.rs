//! Somebody with too many rights (F21): edits and deletes what is not theirs, at moments of chance.
//!
//! What is lost for good by such a hand is not ours to answer for, so each kind of mischief is a function of its own, and a scenario
//! chooses which it can still tell the end of.

use std::sync::Arc;
use std::time::Duration;

use capm3_runtime::Dice;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{is_deleting, name, within};
use crate::world::kinds::{
    CAPI_IP_ADDRESS, CAPI_IP_CLAIM, DATA, DATA_CLAIM, DATA_TEMPLATE, HOST, IP_ADDRESS, IP_CLAIM, Kind, METAL3_CLUSTER,
    METAL3_MACHINE, POOL, SECRET,
};
use crate::world::{Deed, World};

/// Between two pranks, at most.
const PAUSE: Duration = Duration::from_secs(2);

/// Kinds that managers make for themselves.
const OURS: [Kind; 6] = [DATA_CLAIM, DATA, IP_CLAIM, IP_ADDRESS, CAPI_IP_CLAIM, CAPI_IP_ADDRESS];
/// Kinds that carry marks of ours.
const MARKED: [Kind; 11] = [
    DATA_CLAIM,
    DATA,
    IP_CLAIM,
    IP_ADDRESS,
    CAPI_IP_CLAIM,
    CAPI_IP_ADDRESS,
    DATA_TEMPLATE,
    HOST,
    METAL3_CLUSTER,
    METAL3_MACHINE,
    POOL,
];

/// What is done, so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// Deletes data, claims and addresses that are in use, without touching their finalizers.
    Deletes,
    /// Deletes what was rendered for a machine.
    DeletesSecrets,
    /// Takes labels and annotations away.
    StripsMarks,
    /// Takes owners away from what managers made.
    StripsOwners,
    /// Takes finalizers off what is not being deleted.
    StripsFinalizers,
}

pub async fn meddle(world: &World, mischief: &[Mischief], times: u32) {
    let (dice, hand) = (world.dice(), world.hand());
    for _ in 0..times {
        sleep(within(&*dice, PAUSE)).await;
        let Some(what) = pick(&*dice, mischief) else { return };
        let Some((kind, object)) = victim(world, &*dice, *what) else { continue };
        let deed = match what {
            Mischief::Deletes | Mischief::DeletesSecrets => Deed::Delete(json!({})),
            Mischief::StripsMarks => {
                let marks = |field: &str| object["metadata"][field].as_object().into_iter().flat_map(|map| map.keys());
                let marks: Vec<(&str, &String)> = ["labels", "annotations"]
                    .into_iter()
                    .flat_map(|field| marks(field).map(move |key| (field, key)))
                    .collect();
                let Some((field, key)) = pick(&*dice, &marks) else { continue };
                Deed::Patch(json!({"metadata": {*field: {*key: null}}}))
            }
            Mischief::StripsOwners => Deed::Patch(json!({"metadata": {"ownerReferences": null}})),
            Mischief::StripsFinalizers => {
                let version = &object["metadata"]["resourceVersion"];
                Deed::Patch(json!({"metadata": {"finalizers": null, "resourceVersion": version}}))
            }
        };
        // Somebody was faster, or admission says no: one prank less.
        let _ = hand.send(kind, name(&object), deed).await;
    }
}

fn victim(world: &World, dice: &dyn Dice, what: Mischief) -> Option<(Kind, Arc<Value>)> {
    let all = |kinds: &[Kind]| -> Vec<(Kind, Arc<Value>)> {
        kinds.iter().flat_map(|kind| world.server.all(&kind.filed()).into_iter().map(|one| (*kind, one))).collect()
    };
    let rendered = |secret: &Value| name(secret).ends_with("-metadata") || name(secret).ends_with("-networkdata");
    let victims: Vec<_> = match what {
        Mischief::Deletes | Mischief::StripsOwners => all(&OURS),
        Mischief::DeletesSecrets => all(&[SECRET]).into_iter().filter(|(_, secret)| rendered(secret)).collect(),
        Mischief::StripsMarks => all(&MARKED),
        Mischief::StripsFinalizers => all(&MARKED).into_iter().filter(|(_, one)| !is_deleting(one)).collect(),
    };
    pick(dice, &victims).cloned()
}

fn pick<'a, T>(dice: &dyn Dice, from: &'a [T]) -> Option<&'a T> {
    let many = u64::try_from(from.len()).ok().filter(|many| *many > 0)?;
    from.get(usize::try_from(dice.roll() % many).unwrap_or_default())
}
