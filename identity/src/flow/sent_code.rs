//! A code between its drawing and its coming back, for every flow that sends one: the
//! account is charged first, then the flow, and only then the code is looked at. The steps
//! are those of [`code`](super::code).

use cardea_storage::{Consistency, Secret, Slot, StoreError, Table};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{CodeRejection, Purpose};
use crate::{
    Service,
    courier::{Template, outbox::Letter},
    identity::draft::via_number,
    model::{Client, FlowId, Scope, session_epoch},
    schema::{Address, Channel, read_address},
    table::{
        AddressIndexKey, AddressIndexRecord, Attempts, AttemptsKey, FlowKey, FlowRecord, Flows,
        Identities, IdentityKey, RecoveryAddresses, VerifiableAddresses, id_of,
    },
};

/// Tries of a flow, over all codes that were sent for it.
pub(super) const TRIES_MAX: u32 = 5;
/// How an e-mail address is kept; see [`AddressRecord::via`](crate::table::AddressRecord).
pub(super) const EMAIL: u32 = 1;

/// A code on its way.
pub(super) struct Sending<'a> {
    /// Whether somebody has the address who may log in.
    pub(super) known: bool,
    pub(super) via: Channel,
    pub(super) address: &'a str,
    pub(super) template: Template,
    /// Who asks for it.
    pub(super) client: &'a Client,
}

/// How a try at a code ended.
pub(super) enum Tried {
    /// It is right; the flow as it is now.
    Right(Box<FlowRecord>),
    /// It is wrong, or over.
    Wrong,
    /// The flow takes no more.
    NoneLeft,
}

/// What is counted at an account.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    Sending,
    Trying,
    /// The same of second factors: no first factor clears them.
    SendingSecond,
    TryingSecond,
    /// Copies of all that is held.
    Copying,
}

/// Whom the code of a flow was sent to, or the decoy.
fn owner_of(record: &FlowRecord) -> Uuid {
    let sends_to_subject = [Purpose::Recovery, Purpose::Verification];
    match Purpose::from_number(record.purpose) {
        Some(purpose) if sends_to_subject.contains(&purpose) => id_of(&record.subject),
        _ => id_of(&record.code_account),
    }
}

impl Service {
    /// Keeps a new code's digest with the flow, and writes the message that brings it;
    /// gives the flow as it is then. What was tried before stays counted.
    pub(super) async fn write_code(
        &self,
        scope: Scope,
        id: FlowId,
        record: FlowRecord,
        sending: &Sending<'_>,
    ) -> Result<FlowRecord, StoreError> {
        let template = sending.template;
        let proof = self.draw_proof(template);
        let digests = self.code_digests(scope.tenant, id.0, proof.expose());
        // Nobody's code is one that nobody can know.
        let unknown: [u8; 32] = self.store.entropy().bytes();
        let digest = digests.first().filter(|_| sending.known).copied().unwrap_or(unknown);
        let changed = &FlowRecord {
            state: 1,
            address: sending.address.to_owned(),
            code_digest: digest.to_vec().into(),
            code_expires_at: self.now().after(self.proof_lifespan(template)).as_millis(),
            ..record
        };
        let letter = &Letter {
            id: self.draw_message(Slot::of_id(&id.0)),
            template,
            recipient: sending.address,
            via: sending.via,
            language: sending.client.language,
            model: &self.proof_model((template, id), sending.address, &proof, sending.client),
            decoy: !sending.known,
        };
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        self.store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(()) };
                let changed = FlowRecord {
                    code_tries: found.record.code_tries,
                    completed_at: found.record.completed_at,
                    // It may have become a browser's since it was read.
                    csrf_digest: found.record.csrf_digest,
                    unclaimed: found.record.unclaimed,
                    ..changed.clone()
                };
                t.put::<Flows>(key, &changed, Some(self.flow_kept_until(&changed))).await?;
                self.post(&t, scope, letter);
                Ok::<_, StoreError>(())
            })
            .await?;
        self.posted();
        Ok(changed.clone())
    }

    /// Tries a code: charges the account, then the flow, and only then looks at it.
    pub(super) async fn try_code_of(
        &self,
        scope: Scope,
        id: FlowId,
        (account, budget): (Uuid, Budget),
        code: &Secret<String>,
    ) -> Result<Tried, CodeRejection> {
        self.charge_code(scope, account, budget).await?;
        let Some(record) = self.charge_flow(scope, id).await? else { return Ok(Tried::NoneLeft) };
        // Another one was sent since the flow was opened: it is charged whose code it is.
        let owner = owner_of(&record);
        if owner != account {
            self.charge_code(scope, owner, budget).await?;
        }
        let typed: String = code.expose().chars().filter(|c| !c.is_whitespace()).collect();
        let digests = self.code_digests(scope.tenant, id.0, &typed);
        let is_right =
            digests.iter().any(|digest| bool::from(digest.ct_eq(record.code_digest.as_ref())));
        if !is_right || self.now().as_millis() >= record.code_expires_at {
            return Ok(Tried::Wrong);
        }
        Ok(Tried::Right(Box::new(record)))
    }

    /// What somebody typed as an address that messages go to.
    ///
    /// # Errors
    /// What it looks like, and is not, or does not go.
    pub(super) fn deliverable(&self, typed: &str) -> Result<Address, Channel> {
        let address = read_address(typed)?;
        if self.settings.message_limits.reaches(&address) { Ok(address) } else { Err(address.via) }
    }

    /// Whose address it is, or the decoy.
    pub(super) async fn holder(
        &self,
        scope: Scope,
        purpose: Purpose,
        address: &Address,
    ) -> Result<Uuid, StoreError> {
        let Address { via, value } = address;
        let keys: Vec<_> = self
            .address_digests(scope.tenant, via_number(*via), value)
            .into_iter()
            .map(|digest| AddressIndexKey { tenant: scope.tenant, digest })
            .map(|key| match purpose {
                Purpose::Recovery => RecoveryAddresses::key(&key),
                _ => VerifiableAddresses::key(&key),
            })
            .collect();
        let rows = self.store.view(Consistency::Strong).rows(&keys, false).await?;
        let found = rows.into_iter().flatten().next();
        let found = found.and_then(|row| {
            <AddressIndexRecord as prost::Message>::decode(row.value.as_ref()).ok()
        });
        Ok(found.map_or_else(|| self.decoy(scope.tenant, value), |record| record.id()))
    }

    /// Charges an account; says whether it is somebody's who may log in.
    pub(crate) async fn charge_code(
        &self,
        scope: Scope,
        account: Uuid,
        budget: Budget,
    ) -> Result<bool, CodeRejection> {
        let counter = &self.budget_key(scope, account, budget);
        let done = self
            .store
            .transact(|t| async move {
                let identity = IdentityKey { tenant: scope.tenant, id: account };
                let keys = [Identities::key(&identity), Attempts::key(counter)];
                let rows = t.rows(&keys, true).await?;
                let decoded = |row: &Option<cardea_storage::Row>| row.clone();
                let identity = match rows.first().and_then(decoded) {
                    Some(row) => Some(Identities::decode(&row).map_err(StoreError::from)?.record),
                    None => None,
                };
                let before = match rows.get(1).and_then(decoded) {
                    Some(row) => Some(Attempts::decode(&row).map_err(StoreError::from)?.record),
                    None => None,
                };
                let throttle = &self.settings.throttle;
                let charged =
                    throttle.charge(before.as_ref(), t.now()).map_err(CodeRejection::Throttled)?;
                let kept = throttle.kept_until(&charged, t.now());
                t.put::<Attempts>(counter, &charged, Some(kept)).await?;
                Ok::<_, CodeRejection>(session_epoch(identity.as_ref()).is_some())
            })
            .await?;
        Ok(done.value)
    }

    pub(super) fn budget_key(&self, scope: Scope, account: Uuid, budget: Budget) -> AttemptsKey {
        let name: &[u8] = match budget {
            Budget::Sending => b"codes sent",
            Budget::Trying => b"codes tried",
            Budget::SendingSecond => b"second codes sent",
            Budget::TryingSecond => b"second codes tried",
            Budget::Copying => b"copies taken",
        };
        AttemptsKey::own(scope.tenant, account, &self.source_digest(scope.tenant, name))
    }

    /// Charges a flow; gives it as it is then, or nothing if it has no tries left.
    async fn charge_flow(
        &self,
        scope: Scope,
        id: FlowId,
    ) -> Result<Option<FlowRecord>, StoreError> {
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        let done = self
            .store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(None) };
                let mut record = found.record;
                if record.code_tries >= TRIES_MAX {
                    return Ok(None);
                }
                record.code_tries += 1;
                record.unclaimed = false;
                t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await?;
                Ok::<_, StoreError>(Some(record))
            })
            .await?;
        Ok(done.value)
    }

    /// Six digits.
    pub(super) fn draw_code(&self) -> Secret<String> {
        Secret::new(format!("{:06}", self.store.entropy().below(1_000_000)))
    }

    /// The host of the public API, which is what codes are good for.
    pub(super) fn public_host(&self) -> &str {
        let url = self.settings.public_url.as_str();
        let place = url.split_once("://").map_or(url, |(_, place)| place);
        place.split(['/', ':']).next().unwrap_or_default()
    }

    pub(super) fn code_model(
        &self,
        template: Template,
        address: &str,
        code: &Secret<String>,
        client: &Client,
    ) -> serde_json::Value {
        let minutes = self.settings.code_lifespan.as_secs().div_ceil(60);
        json!({
            "TransientPayload": client.transient_payload,
            "To": address,
            template.proof_field(): code.expose(),
            "ExpiresInMinutes": minutes,
            "RequestURLDomain": self.public_host(),
        })
    }
}
