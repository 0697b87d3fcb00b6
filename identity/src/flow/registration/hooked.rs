//! Asking hooks about who is to be signed up, and what they make of it.

use cardea_storage::{StoreError, Timestamp};
use uuid::Uuid;

use super::{Newcomer, Opened, Sender};
use crate::{
    Service,
    flow::Purpose,
    hook::{Action, Edits, HookFailed, Moment, Occasion, context::coming_session},
    identity::{
        ImportedAddress,
        create::{EXTERNAL_ID_BYTES_MAX, metadata_bytes},
    },
    model::{Address, Client, FlowId, Identity, IdentityId},
    schema,
    session::issue::Factor,
    table::FlowRecord,
};

/// The one whose answers do not fit together.
const HOOKS: &str = "registration";

/// Why nobody is to be signed up.
pub(super) enum Consulted {
    /// Somebody has the identifiers already.
    Taken,
    /// A hook refused.
    Refused(HookFailed),
    /// The store could not answer.
    Store(StoreError),
}

impl From<StoreError> for Consulted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<HookFailed> for Consulted {
    fn from(failed: HookFailed) -> Self {
        Self::Refused(failed)
    }
}

impl Service {
    /// Whether signing up by a method logs in.
    pub(super) fn signing_up_logs_in(&self, method: &str) -> bool {
        let hooks = &self.settings.hooks;
        if hooks.names(Purpose::Registration, Action::is_session) {
            return hooks.runs(Purpose::Registration, method, Action::is_session);
        }
        self.settings.session_after_registration
    }

    pub(super) fn signed_up<'a>(
        &self,
        client: &'a Client,
        flow: (FlowId, &'a FlowRecord),
        factor: Factor<'_>,
    ) -> Occasion<'a> {
        Occasion {
            moment: Moment::After,
            purpose: Purpose::Registration,
            method: factor.kind.name(),
            flow,
            client,
        }
    }

    /// Asks hooks about a newcomer; gives it as they want it.
    pub(super) async fn consult(
        &self,
        Sender { scope, id, client }: Sender<'_>,
        opened: &Opened,
        (subject, factor): (Uuid, Factor<'_>),
        newcomer: Newcomer,
    ) -> Result<Newcomer, Consulted> {
        let occasion = self.signed_up(client, (id, &opened.record), factor);
        if !self.asks_hooks(&occasion) {
            return Ok(newcomer);
        }
        // Nobody is asked about somebody who cannot be signed up anyway.
        if !self.holders_of(scope, &newcomer.found).await?.is_empty() {
            return Err(Consulted::Taken);
        }
        let now = self.now();
        let candidate = candidate(subject, opened, &newcomer, now);
        let session =
            self.signing_up_logs_in(factor.kind.name()).then(|| coming_session(factor, now));
        let edits = self.ask_hooks(&occasion, Some(candidate), session).await?;
        Ok(changed(opened, newcomer, edits, now)?)
    }
}

/// Who is to be signed up, as it will be.
fn candidate(subject: Uuid, opened: &Opened, newcomer: &Newcomer, now: Timestamp) -> Identity {
    let addresses = |found: &[schema::Address]| -> Vec<Address> {
        let address = |one: &schema::Address| {
            let mut known = newcomer.addresses.iter();
            let known = known.find(|known| known.via == one.via && known.value == one.value);
            Address {
                id: Uuid::nil(),
                via: one.via,
                value: one.value.clone(),
                verified_at: known.and_then(|known| known.verified_at),
                sent: false,
                created_at: now,
                updated_at: now,
            }
        };
        found.iter().map(address).collect()
    };
    Identity {
        id: IdentityId(subject),
        schema_id: opened.schema.id().0.clone(),
        traits: newcomer.traits.clone(),
        state: newcomer.state,
        state_changed_at: now,
        metadata_public: newcomer.metadata_public.clone(),
        metadata_admin: newcomer.metadata_admin.clone(),
        verifiable_addresses: addresses(&newcomer.found.verifiable),
        recovery_addresses: addresses(&newcomer.found.recovery),
        created_at: now,
        updated_at: now,
        external_id: newcomer.external_id.clone(),
        organization: None,
        credentials: Vec::new(),
        has_second_factor: false,
    }
}

fn changed(
    opened: &Opened,
    mut newcomer: Newcomer,
    edits: Edits,
    now: Timestamp,
) -> Result<Newcomer, HookFailed> {
    let failed = |why: String| HookFailed::Failed { hook: HOOKS.to_owned(), why };
    if let Some(traits) = edits.traits {
        newcomer.found = opened.schema.check(&traits).map_err(|violations| {
            let told = violations.iter().map(|v| format!("{}: {}", v.pointer, v.text().text));
            failed(format!("its traits do not fit: {}", told.collect::<Vec<_>>().join(", ")))
        })?;
        newcomer.traits = traits;
    }
    for metadata in [&edits.metadata_public, &edits.metadata_admin] {
        metadata_bytes(metadata.as_ref())
            .ok_or_else(|| failed("its metadata is too large".to_owned()))?;
    }
    if edits.external_id.as_ref().is_some_and(|id| id.len() > EXTERNAL_ID_BYTES_MAX) {
        return Err(failed("its external id is too long".to_owned()));
    }
    newcomer.metadata_public = edits.metadata_public.or(newcomer.metadata_public);
    newcomer.metadata_admin = edits.metadata_admin.or(newcomer.metadata_admin);
    newcomer.external_id = edits.external_id.or(newcomer.external_id);
    newcomer.state = edits.state.unwrap_or(newcomer.state);
    newcomer.addresses.extend(edits.verified.into_iter().map(|(via, value)| ImportedAddress {
        via,
        value,
        verified_at: Some(now),
    }));
    Ok(newcomer)
}
