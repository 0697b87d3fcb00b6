//! Everything that is held of an identity, for its right to know (GDPR, articles 15 and
//! 20): what it says of itself, what was said of it, how it logs in (never by which
//! secret), its sessions and devices, messages to it, and what happened.

use cardea_storage::{Consistency, StoreError, Timestamp};
use thiserror::Error;

use super::read::{CredentialDetail, ReadRejection};
use crate::{
    PageRequest, Service,
    audit::{Act, Actor, AuditEvent, AuditFilter, ListEventsRejection},
    courier::{MessageFilter, SentMessage},
    model::{Identity, IdentityId, Scope, Session},
    page::{PAGE_SIZE_MAX, PageRejection},
    session::ListSessionsRejection,
};

/// Pages of each list that an export holds at most.
const PAGES_MAX: usize = 100;

/// What is held of an identity.
#[derive(Debug, Clone)]
pub struct Export {
    /// When it was put together.
    pub at: Timestamp,
    /// The identity, with its credentials.
    pub identity: Identity,
    /// Its sessions, those that are over too.
    pub sessions: Vec<Session>,
    /// Messages to its addresses.
    pub messages: Vec<SentMessage>,
    /// What happened.
    pub events: Vec<AuditEvent>,
    /// Whether a list was longer than an export holds.
    pub is_cut: bool,
}

/// Why there is no export.
#[derive(Debug, Error)]
pub enum ExportRejection {
    /// There is none of that id.
    #[error("there is no such identity")]
    NotFound,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Puts together what is held of an identity, and leaves an event of it.
    ///
    /// # Errors
    /// See [`ExportRejection`].
    pub async fn export_identity(
        &self,
        scope: Scope,
        id: IdentityId,
        by: Actor<'_>,
    ) -> Result<Export, ExportRejection> {
        let strong = Consistency::Strong;
        let outline = CredentialDetail::Outline;
        let identity = self.identity(scope, id, outline, strong.clone()).await;
        let identity = identity.map_err(|rejection| match rejection {
            ReadRejection::NotFound => ExportRejection::NotFound,
            ReadRejection::Store(error) => error.into(),
        })?;
        self.store
            .transact(|t| async move {
                let details = serde_json::Value::Null;
                self.audit(&t, scope, id.0, (Act::IdentityExported, by), details).await
            })
            .await?;
        let mut export = Export {
            at: self.now(),
            identity,
            sessions: Vec::new(),
            messages: Vec::new(),
            events: Vec::new(),
            is_cut: false,
        };
        let mut page = PageRequest { size: PAGE_SIZE_MAX, token: None };
        for turn in 0.. {
            let found = self.list_identity_sessions(scope, id, None, &page, strong.clone()).await;
            let found = found.map_err(|rejection| match rejection {
                ListSessionsRejection::Store(error) => ExportRejection::Store(error),
                _ => ExportRejection::NotFound,
            })?;
            // The identity is told once.
            export
                .sessions
                .extend(found.items.into_iter().map(|s| Session { identity: None, ..s }));
            page.token = found.next;
            if page.token.is_none() || turn == PAGES_MAX {
                export.is_cut |= page.token.is_some();
                break;
            }
        }
        let filter = AuditFilter { identity: Some(id), act: None };
        let mut page = PageRequest { size: PAGE_SIZE_MAX, token: None };
        for turn in 0.. {
            let found = self.list_audit_events(scope, filter, &page, strong.clone()).await;
            let found = found.map_err(|rejection| match rejection {
                ListEventsRejection::Store(error) => ExportRejection::Store(error),
                ListEventsRejection::BadPageToken(_) => ExportRejection::NotFound,
            })?;
            export.events.extend(found.items);
            page.token = found.next;
            if page.token.is_none() || turn == PAGES_MAX {
                export.is_cut |= page.token.is_some();
                break;
            }
        }
        self.export_messages(scope, &mut export).await?;
        Ok(export)
    }

    async fn export_messages(
        &self,
        scope: Scope,
        export: &mut Export,
    ) -> Result<(), ExportRejection> {
        let verifiable = export.identity.verifiable_addresses.iter();
        let all = verifiable.chain(&export.identity.recovery_addresses);
        let mut addresses: Vec<String> = all.map(|address| address.value.clone()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            let filter = MessageFilter { status: None, recipient: Some(address) };
            let mut page = PageRequest { size: PAGE_SIZE_MAX, token: None };
            for turn in 0.. {
                let found = self.list_messages(scope, &filter, &page).await;
                let found = found.map_err(|rejection| match rejection {
                    PageRejection::Store(error) => ExportRejection::Store(error),
                    PageRejection::BadPageToken(_) => ExportRejection::NotFound,
                })?;
                export.messages.extend(found.items);
                page.token = found.next;
                if page.token.is_none() || turn == PAGES_MAX {
                    export.is_cut |= page.token.is_some();
                    break;
                }
            }
        }
        Ok(())
    }
}
