//! The session of a native client whose user came by a browser
//! (`exchangeSessionToken`): for the code that the client got when it began the flow,
//! and the one that the browser brought back to it. Neither alone is worth anything.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use cardea_storage::{Consistency, Secret, StoreError};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use uuid::Uuid;

use super::arrive::{Arrived, Guest};
use crate::{
    Service,
    model::{FlowId, Scope, Session},
    session::{CheckRejection, Proof},
    table::{FlowKey, FlowRecord, Flows},
};

const SECRET_BYTES: usize = 32;

/// A code for a native client, in the URL that its browser comes back by.
pub type ReturnCode = Secret<String>;

/// Why there is no session for two codes.
#[derive(Debug, Error)]
pub enum ExchangeRejection {
    /// They are of no flow, it is not completed yet, or they were exchanged before.
    #[error("no session for these codes")]
    NotFound,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// A code for a client that begins a flow, with what the flow keeps of it.
    pub(in crate::flow) fn draw_exchange(&self, flow: Uuid) -> (Secret<String>, Bytes) {
        let secret: [u8; SECRET_BYTES] = self.store.entropy().bytes();
        let code = URL_SAFE_NO_PAD.encode([flow.as_bytes().as_slice(), &secret].concat());
        let digest = digest(&code);
        (Secret::new(code), digest)
    }

    /// Keeps the session for a native client; gives the code that its browser brings.
    pub(super) async fn hand_over(
        &self,
        guest: &Guest<'_>,
        arrived: &Arrived,
    ) -> Result<Option<ReturnCode>, StoreError> {
        let issued = match arrived {
            Arrived::LoggedIn(issued) => Some(issued.as_ref()),
            Arrived::Registered(registered) => registered.issued.as_ref(),
            Arrived::Linked | Arrived::Form(_) | Arrived::Unverified(_) | Arrived::Tried => None,
        };
        let Some(issued) = issued.filter(|_| !guest.record.exchange_init.is_empty()) else {
            return Ok(None);
        };
        let entropy = self.store.entropy().as_ref();
        let secret: [u8; SECRET_BYTES] = entropy.bytes();
        let code = URL_SAFE_NO_PAD.encode(secret);
        let returned = &digest(&code);
        let token = issued.token.expose().as_bytes();
        let sealed = &self.keys.seal.seal(entropy, &session_of(guest.id), token);
        let key = &FlowKey { tenant: guest.scope.tenant, id: guest.id.0 };
        self.store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(()) };
                let record = FlowRecord {
                    exchange_return: returned.clone(),
                    exchange_token: sealed.clone(),
                    ..found.record
                };
                t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await
            })
            .await?;
        Ok(Some(Secret::new(code)))
    }

    /// The session for two codes, once.
    ///
    /// # Errors
    /// See [`ExchangeRejection`].
    pub async fn exchange_session(
        &self,
        scope: Scope,
        init_code: &str,
        return_to_code: &str,
    ) -> Result<(Secret<String>, Session), ExchangeRejection> {
        let decoded = URL_SAFE_NO_PAD.decode(init_code).unwrap_or_default();
        let flow = decoded.get(..16).and_then(|bytes| Uuid::from_slice(bytes).ok());
        let flow = flow.filter(|_| decoded.len() == 16 + SECRET_BYTES);
        let flow = FlowId(flow.ok_or(ExchangeRejection::NotFound)?);
        let (init, returned) = (&digest(init_code), &digest(return_to_code));
        let key = &FlowKey { tenant: scope.tenant, id: flow.0 };
        let done = self
            .store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(Bytes::new()) };
                let record = found.record;
                let both =
                    record.exchange_init.ct_eq(init) & record.exchange_return.ct_eq(returned);
                if !bool::from(both) || record.exchange_token.is_empty() {
                    return Ok(Bytes::new());
                }
                let sealed = record.exchange_token.clone();
                let record = FlowRecord { exchange_token: Bytes::new(), ..record };
                t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await?;
                Ok::<_, StoreError>(sealed)
            })
            .await?;
        let opened = self.keys.seal.open(&session_of(flow), &done.value);
        let opened = opened.map_err(|_| ExchangeRejection::NotFound)?;
        let token = String::from_utf8(opened.expose().clone());
        let token = Secret::new(token.map_err(|_| ExchangeRejection::NotFound)?);
        let proof = Proof::Token(token.clone());
        match self.check_session(scope, &proof, Consistency::Strong).await {
            Ok(session) => Ok((token, session)),
            Err(CheckRejection::NoSession) => Err(ExchangeRejection::NotFound),
            Err(CheckRejection::Store(error)) => Err(error.into()),
        }
    }
}

/// What is kept of a code. It has enough random bits for a plain digest.
fn digest(code: &str) -> Bytes {
    Bytes::copy_from_slice(&blake3::derive_key("cardea session exchange v1", code.as_bytes()))
}

fn session_of(flow: FlowId) -> String {
    format!("session of flow {flow} for exchange")
}
