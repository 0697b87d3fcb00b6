//! Apply: one command after another, deterministic, without a clock.
//!
//! The order, for what carries a transaction: the receipt, or the prepared
//! record or decision that speaks for it; then `not_after`, by this shard's own
//! log time; then whether its keys are owned here; then locks; then checks; then
//! ops. Each refusal leaves a receipt, so a late duplicate is refused too.

use bytes::Bytes;

use super::{
    decision::{
        self, Decision, is_past, is_past_grace, read_receipt, write_decision, write_receipt,
    },
    lock::{self, Prepared, PreparedRow},
    staging::Staging,
    state::State,
    transaction,
};
use crate::{
    clock::Timestamp,
    fault::Fault,
    key::slot_of,
    planted::{self, Bug},
    row::{Revision, Stored},
    txn::{
        Command, Outcome, RequestId, Txn,
        command::{Acknowledge, Action, Decide, Finish, Prepare, Settle},
    },
    version::VERSION_MAX,
};

/// A row that an entry changes, by its key: the new one, or none.
pub(super) type Changed = (Bytes, Option<Stored>);

/// Applies the commands of a batch.
pub(super) struct Applier<'a> {
    pub(super) staging: Staging<'a>,
    pub(super) state: State,
    /// What the entry being applied changed.
    pub(super) written: Vec<Changed>,
}

impl Applier<'_> {
    /// Applies a command as the entry at `revision`.
    ///
    /// # Errors
    /// A fault if the engine fails, or the command is newer than this code.
    pub(super) fn apply(&mut self, command: Command, revision: Revision) -> Result<Outcome, Fault> {
        must_know(&command)?;
        let action = command
            .action
            .ok_or_else(|| Fault::new("the log holds a command that this binary does not know"))?;
        match action {
            Action::Time(_) => self.state.now = self.state.now.max(command.stamp),
            _ => self.state.stamp(command.stamp),
        }
        match action {
            Action::Commit(txn) => {
                self.decide(&Decide { txn: Some(txn), participants: Vec::new() }, revision)
            }
            Action::Prepare(prepare) => self.prepare(prepare, revision),
            Action::Decide(decide) => self.decide(&decide, revision),
            Action::Settle(settle) => self.settle(&settle, revision),
            Action::Finish(finish) => self.finish(&finish, revision),
            Action::Acknowledge(acknowledge) => self.acknowledge(&acknowledge),
            Action::Time(_) => Ok(self.done(revision)),
            Action::Fence(fence) => {
                self.state.fence_until = fence.until;
                Ok(self.done(revision))
            }
            Action::Own(own) => {
                if self.state.ranges.is_empty() {
                    self.state.base = self.state.base.max(own.base);
                }
                self.state.ranges = own.ranges;
                let index = self.state.position.map_or(0, |position| position.index);
                Ok(self.done(Revision(self.state.base + index)))
            }
            Action::Raise(raise) => {
                self.state.version = self.state.version.max(raise.version);
                Ok(self.done(revision))
            }
            // The machine takes apart those that are no part of another.
            Action::Pack(_) => Ok(Outcome::Rejected),
        }
    }

    fn now(&self) -> Timestamp {
        if planted::is(Bug::ExpiryByWallClock) {
            return Timestamp(planted::wall_ms());
        }
        self.state.time()
    }

    fn receipt(&mut self, id: RequestId, not_after: u64, revision: Revision, outcome: &Outcome) {
        let now = self.now();
        let is_forgotten = match outcome {
            Outcome::Committed { .. } => planted::is(Bug::ReceiptForgotten),
            Outcome::Conflict { .. } | Outcome::Locked(_) => planted::is(Bug::RefusalForgotten),
            _ => false,
        };
        if is_forgotten {
            return;
        }
        write_receipt(&mut self.staging, id, not_after, now, revision, outcome);
    }

    fn done(&self, revision: Revision) -> Outcome {
        Outcome::Committed { revision, time: self.now() }
    }

    /// The decider's part, or the whole of a transaction of one shard.
    fn decide(&mut self, decide: &Decide, revision: Revision) -> Result<Outcome, Fault> {
        let Some((txn, id)) = identified(decide.txn.as_ref()) else {
            return Ok(Outcome::Rejected);
        };
        if let Some(outcome) = read_receipt(&self.staging, id, self.now())? {
            return Ok(outcome);
        }
        if let Some(decision) = self.staging.decision(id) {
            return Ok(Outcome::Committed {
                revision: Revision(decision.revision),
                time: Timestamp(decision.time),
            });
        }
        if let Some(lapsed) = self.lapsed(txn.not_after) {
            return Ok(lapsed);
        }
        if let Some(refusal) = self.refuse(txn)? {
            self.receipt(id, txn.not_after, revision, &refusal);
            return Ok(refusal);
        }
        let rows = transaction::resolve(&self.staging, txn, self.now())?;
        self.write(rows, revision);
        let outcome = self.done(revision);
        if planted::is(Bug::DecisionForgotten) && !decide.participants.is_empty() {
            return Ok(outcome);
        }
        self.receipt(id, txn.not_after, revision, &outcome);
        if !decide.participants.is_empty() {
            let decision = Decision {
                revision: revision.0,
                time: self.now().0,
                not_after: txn.not_after,
                outstanding: decide.participants.clone(),
            };
            write_decision(&mut self.staging, id, &decision)?;
        }
        Ok(outcome)
    }

    fn prepare(&mut self, prepare: Prepare, revision: Revision) -> Result<Outcome, Fault> {
        let Some((txn, id)) = identified(prepare.txn.as_ref()) else {
            return Ok(Outcome::Rejected);
        };
        if let Some(outcome) = read_receipt(&self.staging, id, self.now())?
            && !planted::is(Bug::LatePrepareExecuted)
        {
            return Ok(outcome);
        }
        if let Some(prepared) = self.staging.prepared(id) {
            return Ok(Outcome::Prepared { revision: Revision(prepared.revision) });
        }
        if let Some(lapsed) = self.lapsed(txn.not_after) {
            return Ok(lapsed);
        }
        let refusal = if !transaction::participates(txn) {
            Some(Outcome::Rejected)
        } else if self.now().0 < self.state.fence_until {
            Some(Outcome::Fenced { until: Timestamp(self.state.fence_until) })
        } else {
            self.refuse(txn)?
        };
        let outcome = match refusal {
            Some(refusal) => refusal,
            None => {
                let rows = transaction::resolve(&self.staging, txn, self.now())?;
                let prepared = Prepared {
                    decider: prepare.decider.clone(),
                    not_after: txn.not_after,
                    revision: revision.0,
                    checked: match planted::is(Bug::LocksOnWritesOnly) {
                        true => Vec::new(),
                        false => transaction::checked_only(txn),
                    },
                    rows: rows.into_iter().map(prepared_row).collect(),
                };
                lock::hold(&mut self.staging, id, &prepared)?;
                Outcome::Prepared { revision }
            }
        };
        self.receipt(id, txn.not_after, revision, &outcome);
        Ok(outcome)
    }

    /// Why a transaction cannot be applied or prepared now, if so.
    fn refuse(&self, txn: &Txn) -> Result<Option<Outcome>, Fault> {
        if !transaction::is_well_formed(txn) {
            return Ok(Some(Outcome::Rejected));
        }
        let owned = |key: &Bytes| slot_of(key).is_some_and(|slot| self.state.owns(slot));
        if !transaction::places(txn).all(owned) {
            return Ok(Some(Outcome::Moved));
        }
        if let Some(lock) = lock::incompatible(&self.staging, txn)? {
            return Ok(Some(Outcome::Locked(lock)));
        }
        let failed = transaction::first_failed_check(&self.staging, txn, self.now())?;
        Ok(failed.map(|check| Outcome::Conflict { check }))
    }

    fn lapsed(&self, not_after: u64) -> Option<Outcome> {
        if is_past_grace(not_after, self.now()) {
            Some(Outcome::Unknown)
        } else if is_past(not_after, self.now()) {
            Some(Outcome::Expired)
        } else {
            None
        }
    }

    /// Tells the fate of a transaction here at its decider, and brings an abort
    /// about if nobody can commit it any more, or who asks saw it refused.
    fn settle(&mut self, settle: &Settle, revision: Revision) -> Result<Outcome, Fault> {
        let Some(id) = RequestId::from_slice(&settle.request_id) else {
            return Ok(Outcome::Rejected);
        };
        match fate(&self.staging, id, settle.not_after, self.now())? {
            Outcome::Undecided if settle.refused || is_past(settle.not_after, self.now()) => {
                let outcome = Outcome::Aborted;
                self.receipt(id, settle.not_after, revision, &outcome);
                Ok(outcome)
            }
            fate => Ok(fate),
        }
    }

    fn finish(&mut self, finish: &Finish, revision: Revision) -> Result<Outcome, Fault> {
        let Some(id) = RequestId::from_slice(&finish.request_id) else {
            return Ok(Outcome::Rejected);
        };
        let now = self.now();
        if let Some(prepared) = self.staging.take_prepared(id) {
            lock::release(&mut self.staging, id, &prepared)?;
            let outcome = if finish.commit {
                let rows: Vec<Changed> = prepared
                    .rows
                    .iter()
                    .map(|row| (row.key.clone(), row.to_stored(revision)))
                    .collect();
                self.write(rows, revision);
                Outcome::Finished { revision: Some(revision) }
            } else {
                Outcome::Aborted
            };
            self.receipt(id, prepared.not_after, revision, &outcome);
            return Ok(outcome);
        }
        let receipt = read_receipt(&self.staging, id, now)?;
        if finish.commit {
            return Ok(match receipt {
                Some(finished @ Outcome::Finished { .. }) => finished,
                _ => Outcome::Finished { revision: None },
            });
        }
        if receipt.is_none() && !is_past(finish.not_after, now) {
            let outcome = Outcome::Aborted;
            self.receipt(id, finish.not_after, revision, &outcome);
        }
        Ok(Outcome::Aborted)
    }

    fn acknowledge(&mut self, acknowledge: &Acknowledge) -> Result<Outcome, Fault> {
        let Some(id) = RequestId::from_slice(&acknowledge.request_id) else {
            return Ok(Outcome::Rejected);
        };
        if let Some(mut decision) = self.staging.decision(id).cloned() {
            decision.outstanding.retain(|key| !acknowledge.participants.contains(key));
            write_decision(&mut self.staging, id, &decision)?;
        }
        Ok(Outcome::Acknowledged)
    }

    fn write(&mut self, mut rows: Vec<Changed>, revision: Revision) {
        for (key, row) in &mut rows {
            if let Some(row) = row {
                row.revision = revision;
            }
            self.staging.set_row(key, row.as_ref().map(Stored::encode));
        }
        if self.written.is_empty() {
            self.written = rows;
        } else {
            self.written.append(&mut rows);
        }
    }
}

/// Refuses what is newer than this code.
pub(super) fn must_know(command: &Command) -> Result<(), Fault> {
    if command.version <= VERSION_MAX {
        return Ok(());
    }
    Err(Fault::new(format!(
        "the log holds a command of cluster version {}, this binary knows {VERSION_MAX}",
        command.version
    )))
}

/// What the decider knows of a transaction: `Committed`, `Aborted`, `Unknown`
/// once nothing can be known any more, else `Undecided`.
pub(super) fn fate(
    staging: &Staging<'_>,
    id: RequestId,
    not_after: u64,
    now: Timestamp,
) -> Result<Outcome, Fault> {
    let receipt = read_receipt(staging, id, now)?;
    Ok(judge(staging.decision(id), receipt, not_after, now))
}

/// See [`fate`].
pub(super) fn judge(
    decision: Option<&Decision>,
    receipt: Option<Outcome>,
    not_after: u64,
    now: Timestamp,
) -> Outcome {
    if let Some(decision) = decision {
        return Outcome::Committed {
            revision: Revision(decision.revision),
            time: Timestamp(decision.time),
        };
    }
    match receipt {
        Some(committed @ Outcome::Committed { .. }) => committed,
        Some(_) => Outcome::Aborted,
        None if decision::is_past_grace(not_after, now) => Outcome::Unknown,
        None => Outcome::Undecided,
    }
}

fn identified(txn: Option<&Txn>) -> Option<(&Txn, RequestId)> {
    let txn = txn?;
    let id = RequestId::from_slice(&txn.request_id)?;
    (txn.not_after != 0).then_some((txn, id))
}

fn prepared_row((key, row): Changed) -> PreparedRow {
    PreparedRow {
        key,
        expires_at: row.as_ref().and_then(|row| row.expires_at).map_or(0, |at| at.0),
        value: row.map(|row| row.value),
    }
}
