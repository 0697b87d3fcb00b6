//! Receipts and decisions: what a shard remembers of transactions.

use bytes::{Buf, Bytes};
use prost::Message;

use super::staging::Staging;
use crate::{
    clock::Timestamp,
    fault::Fault,
    row::{self, Revision, Stored},
    txn::{GRACE_MS, Outcome, RequestId},
};

/// A commit that participants have still to finish. It lives until all of them
/// acknowledged, whatever the time.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Decision {
    /// The revision of the decider's own part.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// The log time of the decision.
    #[prost(uint64, tag = "2")]
    pub time: u64,
    /// The transaction's `not_after`.
    #[prost(uint64, tag = "3")]
    pub not_after: u64,
    /// A key in each participant that has not acknowledged.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub outstanding: Vec<Bytes>,
}

pub(crate) fn decode_decision(bytes: impl Buf) -> Result<Decision, Fault> {
    Decision::decode(bytes).map_err(|error| Fault::caused("decision", error))
}

/// Keeps a decision, until nothing is outstanding.
pub(super) fn write_decision(
    staging: &mut Staging<'_>,
    id: RequestId,
    decision: &Decision,
) -> Result<(), Fault> {
    if decision.outstanding.is_empty() {
        staging.delete_decision(id);
        return Ok(());
    }
    staging.put_decision(id, decision)
}

/// The receipt of a transaction, while it lives.
pub(super) fn read_receipt(
    staging: &Staging<'_>,
    id: RequestId,
    now: Timestamp,
) -> Result<Option<Outcome>, Fault> {
    staging.receipt(id, now)?.map(|stored| Outcome::decode(&stored.value)).transpose()
}

/// The outcome in a receipt, if it is live at `now`.
pub(crate) fn decode_receipt(bytes: &Bytes, now: Timestamp) -> Result<Option<Outcome>, Fault> {
    let stored = Stored::decode(bytes)?;
    if stored.is_live(now) { Outcome::decode(&stored.value).map(Some) } else { Ok(None) }
}

/// Writes a receipt that lives until `not_after` and the grace have passed; one
/// that would not live is not written.
pub(super) fn write_receipt(
    staging: &mut Staging<'_>,
    id: RequestId,
    not_after: u64,
    now: Timestamp,
    revision: Revision,
    outcome: &Outcome,
) {
    if is_past_grace(not_after, now) {
        return;
    }
    let expires_at = Timestamp(not_after.saturating_add(GRACE_MS).saturating_add(1));
    let bytes = row::envelope(revision, expires_at, &outcome.to_answer());
    staging.put_receipt(id, expires_at, bytes);
}

/// Whether a transaction has lapsed here.
pub(crate) fn is_past(not_after: u64, now: Timestamp) -> bool {
    now.0 > not_after
}

/// Whether receipts of a transaction are gone here.
pub(crate) fn is_past_grace(not_after: u64, now: Timestamp) -> bool {
    now.0 > not_after.saturating_add(GRACE_MS)
}
