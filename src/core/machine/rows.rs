//! The condition tables of a Metal3Machine (K-2, K-3): every situation it can report, in both dialects.

use capm3_api::names::condition::{ASSOCIATE_HOST, ASSOCIATE_METADATA, DATA_READY};
use capm3_api::names::{reason, v1beta1};

use crate::conditions::{Legacy, PAUSED, READY, Row, Severity, Status};

/// What `Ready` is made of (S-9, S-10).
pub const PARTS: [&str; 3] = [ASSOCIATE_HOST, ASSOCIATE_METADATA, DATA_READY];
pub const LEGACY_PARTS: [&str; 3] = [v1beta1::ASSOCIATE_HOST, v1beta1::DATA_READY, v1beta1::NODE_READY];

const fn waiting(reason: &'static str, legacy: &'static str) -> Row {
    Row::no(ASSOCIATE_HOST, reason, Legacy::False(v1beta1::ASSOCIATE_HOST, Severity::Info, legacy))
}

const fn metadata(reason: &'static str, severity: Severity, legacy: &'static str) -> Row {
    Row::no(ASSOCIATE_METADATA, reason, Legacy::False(v1beta1::NODE_READY, severity, legacy))
}

pub const WAITING_FOR_OWNER: Row = waiting(reason::WAITING_FOR_OWNER, v1beta1::WAITING_FOR_OWNER);
pub const WAITING_FOR_INFRASTRUCTURE: Row =
    waiting(reason::WAITING_FOR_CLUSTER_INFRASTRUCTURE, v1beta1::WAITING_FOR_CLUSTER_INFRASTRUCTURE);
pub const WAITING_FOR_CLUSTER: Row = Row { legacy: Legacy::Silent, ..WAITING_FOR_INFRASTRUCTURE };
pub const WAITING_FOR_METAL3_CLUSTER: Row =
    waiting(reason::WAITING_FOR_METAL3_CLUSTER, v1beta1::WAITING_FOR_METAL3_CLUSTER);
pub const WAITING_FOR_BOOTSTRAP: Row = waiting(reason::WAITING_FOR_BOOTSTRAP_DATA, v1beta1::WAITING_FOR_BOOTSTRAP);

pub const MACHINE_PAUSED: Row = waiting(reason::PAUSED, v1beta1::MACHINE_PAUSED);
pub const PAUSED_TRUE: Row = Row::yes(PAUSED, reason::PAUSED, Legacy::Silent);
pub const NOT_PAUSED: Row = Row::no(PAUSED, reason::NOT_PAUSED, Legacy::Silent);

/// A failure around the host's pause annotation shows in two conditions (M-17).
pub const PAUSE_SET_FAILED: [Row; 2] = [
    waiting(reason::PAUSE_ANNOTATION_SET_FAILED, v1beta1::PAUSE_ANNOTATION_SET_FAILED),
    Row::no(PAUSED, reason::PAUSE_ANNOTATION_SET_FAILED, Legacy::Silent),
];
pub const PAUSE_REMOVE_FAILED: [Row; 2] = [
    waiting(reason::PAUSE_ANNOTATION_REMOVE_FAILED, v1beta1::PAUSE_ANNOTATION_REMOVE_FAILED),
    Row::no(PAUSED, reason::PAUSE_ANNOTATION_REMOVE_FAILED, Legacy::Silent),
];

pub const ASSOCIATED: Row = Row::yes(ASSOCIATE_HOST, reason::ASSOCIATED, Legacy::True(v1beta1::ASSOCIATE_HOST));
pub const ASSOCIATED_BY_REUSE: Row = Row { reason: reason::ASSOCIATED_BY_REUSE, ..ASSOCIATED };
pub const ASSOCIATE_FAILED: Row = Row::no(
    ASSOCIATE_HOST,
    reason::ASSOCIATE_FAILED,
    Legacy::False(v1beta1::ASSOCIATE_HOST, Severity::Error, v1beta1::ASSOCIATE_FAILED),
);

/// The old dialect has no condition that says so; what it said about a failure is over (H-30).
pub const METADATA_ASSOCIATED: Row =
    Row::yes(ASSOCIATE_METADATA, reason::METADATA_ASSOCIATED, Legacy::Gone(v1beta1::NODE_READY));
pub const METADATA_FAILED: Row =
    metadata(reason::METADATA_ASSOCIATE_FAILED, Severity::Warning, v1beta1::METADATA_ASSOCIATE_FAILED);
pub const CREATE_FAILED: Row = Row { status: Status::False, reason: reason::CREATE_ERROR, ..METADATA_ASSOCIATED };
pub const UPDATE_FAILED: Row = Row { reason: reason::UPDATE_ERROR, ..CREATE_FAILED };
pub const DELETING: Row = metadata(reason::DELETING, Severity::Info, v1beta1::DELETING);
pub const DISASSOCIATE_FAILED: Row =
    metadata(reason::METADATA_DISASSOCIATE_FAILED, Severity::Warning, v1beta1::METADATA_DISASSOCIATE_FAILED);
pub const DELETION_FAILED: Row = metadata(reason::DELETION_FAILED, Severity::Warning, v1beta1::DELETION_FAILED);

pub const WAITING_FOR_DATA: Row = Row::no(
    DATA_READY,
    reason::WAITING_FOR_DATA,
    Legacy::False(v1beta1::DATA_READY, Severity::Info, v1beta1::WAITING_FOR_DATA),
);
pub const SECRETS_READY: Row = Row::yes(DATA_READY, reason::SECRETS_READY, Legacy::True(v1beta1::DATA_READY));
pub const SECRETS_SET_EXTERNALLY: Row =
    Row::yes(DATA_READY, reason::SECRETS_SET_EXTERNALLY, Legacy::True(v1beta1::DATA_READY));

/// Every condition holds, and the machine does not run yet: `Ready` says what the host and its Node are waited for (K-29).
pub const WAITING_TO_RUN: Row =
    Row::no(READY, reason::NOT_READY, Legacy::False(READY, Severity::Info, reason::WAITING_FOR_HOST));
