//! Defects on purpose, so that it is known that the proof would find them.
//!
//! Each is a mistake that controllers of this kind are known to have made (docs/spec/proof.md section 4), or one that the rules of
//! this project forbid. [`sown`] is asked where the mistake could be made. It is always false unless the feature `planted` is on,
//! which only the simulator's own runs turn on, and unless the one defect of this thread is [`sow`]n.

/// One way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// U1: a host is claimed without the resourceVersion that was looked at.
    ClaimUnconditional,
    /// U2: the machine's own host is looked for among those that its selector matches.
    OwnHostBySelector,
    /// U3: the addresses of the two kinds of claims are counted apart.
    KindsCountedApart,
    /// U4: what an address is reserved for is remembered by name, whichever kind the claim is of.
    ReservationByName,
    /// U5: a machine that goes looks for its host by its annotation alone.
    HostByAnnotation,
    /// U6: a data claim that is not cached counts as gone.
    UncachedClaimIsGone,
    /// U7: addresses are given back for the pools that the template names now.
    ReleaseByTemplate,
    /// U8: that a data claim's status was not stored is nobody's concern.
    ClaimStatusForgotten,
    /// U9: an address claim that is not cached yet is left out of what is rendered.
    RenderedWithoutNewClaim,
    /// U10: a pool of any kind and group counts as ours by its name.
    AnyPoolIsOurs,
    /// U11: a claim that cannot be served ends the pass.
    OneClaimStopsAll,
    /// U13: an address whose name another pool's object has is chosen over and over.
    TakenNameChosen,
    /// U14: an address claim is taken by its name, whoever owned it.
    OldClaimReused,
    /// U19: a host that has a consumer is claimed as well.
    ConsumerOverwritten,
    /// U20: the state of a host's deletion and its errors are not looked at.
    BrokenHostClaimed,
    /// A host is claimed before it is available.
    AnyStateClaimed,
    /// The finalizer is stored after the claim.
    FinalizerAfterClaim,
    /// The host is claimed before the machine says that it goes for it.
    ClaimBeforeIntent,
    /// What the annotation names is wiped, whoever holds it.
    ReleaseUnlooked,
    /// The finalizer goes on the word of the cache that no host is held.
    CacheTrustedForDelete,
    /// The host is let go before it is wiped.
    ReleaseBeforeWiped,
    /// A write whose answer was lost counts as done.
    LostAnswerIsSuccess,
    /// A machine that is gone, or another of its name, is not looked for before a disk is decided.
    MachineNotLookedAt,
    /// A provisioned machine is none any more when its Node is not there.
    ProvisionedFollowsNode,
    /// The pause of a cluster is not heeded.
    PauseIgnored,
    /// A host that becomes free wakes nobody.
    FreeHostWakesNobody,
    /// The pool's status, which reserves, is written without a condition.
    ReservationUnconditional,
    /// The gateway is given out.
    GatewayGivenOut,
    /// An address is free again as soon as its claim is being deleted.
    FreeWhileHeld,
    /// An address goes on the word of the cache that its claim is gone.
    OrphanUnconfirmed,
    /// Data that goes gives back the address claims that are cached.
    CachedClaimsReleased,
    /// A status is written each time it is looked at.
    StatusAlwaysStamped,
    /// U15: labels are synced from a host whose consumer is a machine by its kind or by its group, not by both.
    AnyConsumerSynced,
    /// A label that the host has lost stays on the Node.
    LostLabelStays,
    /// A Node is tainted or deleted while its host is on.
    NodeFencedWhileOn,
    /// A Node is deleted before what it carried is stored.
    NodeDeletedWithoutBackup,
    /// Attempts are not counted.
    RetriesUncounted,
    /// A remediation goes while it keeps its host off.
    HostLeftOff,
}

impl Defect {
    pub const ALL: [Self; 38] = [
        Self::ClaimUnconditional,
        Self::OwnHostBySelector,
        Self::KindsCountedApart,
        Self::ReservationByName,
        Self::HostByAnnotation,
        Self::UncachedClaimIsGone,
        Self::ReleaseByTemplate,
        Self::ClaimStatusForgotten,
        Self::RenderedWithoutNewClaim,
        Self::AnyPoolIsOurs,
        Self::OneClaimStopsAll,
        Self::TakenNameChosen,
        Self::OldClaimReused,
        Self::ConsumerOverwritten,
        Self::BrokenHostClaimed,
        Self::AnyStateClaimed,
        Self::FinalizerAfterClaim,
        Self::ClaimBeforeIntent,
        Self::ReleaseUnlooked,
        Self::CacheTrustedForDelete,
        Self::ReleaseBeforeWiped,
        Self::LostAnswerIsSuccess,
        Self::MachineNotLookedAt,
        Self::ProvisionedFollowsNode,
        Self::PauseIgnored,
        Self::FreeHostWakesNobody,
        Self::ReservationUnconditional,
        Self::GatewayGivenOut,
        Self::FreeWhileHeld,
        Self::OrphanUnconfirmed,
        Self::CachedClaimsReleased,
        Self::StatusAlwaysStamped,
        Self::AnyConsumerSynced,
        Self::LostLabelStays,
        Self::NodeFencedWhileOn,
        Self::NodeDeletedWithoutBackup,
        Self::RetriesUncounted,
        Self::HostLeftOff,
    ];
}

/// Whether this defect is to show in this thread now.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn sown(_: Defect) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use on::{sow, sown};

#[cfg(feature = "planted")]
mod on {
    use std::cell::Cell;

    use super::Defect;

    thread_local! {
        static SOWN: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// From now on this thread's controllers have this defect, and no other.
    pub fn sow(defect: Option<Defect>) {
        SOWN.set(defect);
    }

    #[must_use]
    pub fn sown(defect: Defect) -> bool {
        SOWN.get() == Some(defect)
    }
}
