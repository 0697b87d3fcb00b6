//! What a submission changes, method by method, before it is written.

use std::collections::BTreeSet;

use cardea_storage::Transaction;

use super::{Refusal, news::Change};
use crate::{
    identity::factors::Factors,
    model::Scope,
    session::{CredentialKind, check::Found, issue::Factor},
    table::{CredentialRecord, FlowRecord},
};

/// What is being changed, within a transaction. Methods change what is here; it is
/// written once they are done.
pub(super) struct Changing<'a> {
    pub(super) t: &'a Transaction,
    pub(super) scope: Scope,
    pub(super) me: Found,
    pub(super) privileged: bool,
    /// The flow as it is now: what was drawn in it is used once.
    pub(super) record: FlowRecord,
    pub(super) factors: Factors,
    /// The kinds of credentials that were changed.
    pub(super) touched: BTreeSet<CredentialKind>,
    /// What was shown on the way, which counts for the session.
    pub(super) proven: Option<Factor<'static>>,
    pub(super) ends_other_sessions: bool,
    pub(super) news: Option<Change>,
    /// Whether the form only shows something.
    pub(super) shows: bool,
}

impl Changing<'_> {
    /// The credential of a kind, to be changed; a new one if there is none.
    pub(super) fn credential(&mut self, kind: CredentialKind) -> CredentialRecord {
        let now = self.t.now().as_millis();
        let found = self.factors.get(kind).cloned();
        let mut record = found
            .unwrap_or_else(|| CredentialRecord { created_at: now, ..CredentialRecord::default() });
        record.updated_at = now;
        record
    }

    pub(super) fn keep(&mut self, kind: CredentialKind, record: CredentialRecord) {
        self.factors.set(kind, record);
        self.touched.insert(kind);
    }

    pub(super) fn remove(&mut self, kind: CredentialKind) {
        self.factors.remove(kind);
        self.touched.insert(kind);
    }

    /// Refuses a session whose holder was authenticated too long ago.
    pub(super) fn need_fresh(&self) -> Result<(), Refusal> {
        if self.privileged { Ok(()) } else { Err(Refusal::RefreshRequired) }
    }
}
