//! Somebody whom nobody is linked to yet.

use bytes::Bytes;
use cardea_storage::{Consistency, StoreError, Table as _};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Pending,
    arrive::{ArrivalRejection, Arrived, Guest},
    depart::{overlaid, say_untrusted},
};
use crate::{
    Service,
    flow::{
        Flow, Purpose, RegistrationRejection,
        registration::{Earned, Newcomer, Opened, Sender},
        sent_code::EMAIL,
    },
    identity::{ImportedAddress, draft::via_number},
    model::{FlowId, Scope},
    schema::{self, Channel, Extracted, normalize_identifier},
    session::{CredentialKind, issue::Factor},
    social::{claims::Stranger, exchange::Tokens, mapping},
    table::{
        AddressIndexKey, AddressIndexRecord, CredentialIdentifierKey, CredentialIdentifiers,
        FlowKey, FlowRecord, Flows, Identities, IdentityKey, RecoveryAddresses,
        VerifiableAddresses,
    },
    ui::{Text, forms},
};

impl Service {
    /// Signs up who came, links it to who it is, or asks for what is missing.
    pub(super) async fn take_in_newcomer(
        &self,
        guest: &Guest<'_>,
        mut flow: Flow,
        (stranger, tokens): (Stranger, Tokens),
        typed: Value,
    ) -> Result<Arrived, ArrivalRejection> {
        let mapped = match mapping::map(guest.provider, &stranger, Value::Null).await {
            Ok(mapped) => mapped,
            Err(untrusted) => {
                say_untrusted(&mut flow, guest.provider, &untrusted);
                return Ok(Arrived::Form(Box::new(flow)));
            }
        };
        let email = stranger.verified_email();
        let email = email.filter(|email| guest.provider.is_authoritative_for(email));
        let asserted = email.map(normalize_identifier);
        let pending = Pending::of(&guest.provider.id, &stranger, tokens, mapped);
        let pending = Pending { asserted_email: asserted, ..pending };
        self.sign_up(guest, flow, pending, typed).await
    }

    /// The same, of somebody who has been named; `typed` is what it says of itself.
    pub(in crate::flow) async fn sign_up(
        &self,
        guest: &Guest<'_>,
        flow: Flow,
        pending: Pending,
        typed: Value,
    ) -> Result<Arrived, ArrivalRejection> {
        let traits = overlaid(typed, &pending.traits);
        let schema = self.flow_schema(guest.record);
        let schema = schema.ok_or(crate::flow::FlowRejection::NotFound)?;
        let found = match schema.check(&traits) {
            Ok(found) => found,
            Err(violations) => {
                let mut flow = self.ask_for_more(guest, &pending).await?;
                forms::refill_traits(&mut flow.ui, &traits);
                forms::say_violations(&mut flow.ui, &violations);
                return Ok(Arrived::Form(Box::new(flow)));
            }
        };
        // From here on it learns who has an account.
        let source = self.source(guest.scope, guest.client);
        self.source_may_try(guest.scope, &source).await?.map_err(ArrivalRejection::Throttled)?;
        match self.holders_of(guest.scope, &found).await?.as_slice() {
            [] => {}
            [one] => return self.meet(guest, flow, *one, pending).await,
            _ => {
                self.source_failed(guest.scope, &source).await?;
                let mut flow = self.ask_for_more(guest, &pending).await?;
                forms::refill_traits(&mut flow.ui, &traits);
                flow.ui.messages.push(Text::duplicate_identifier());
                return Ok(Arrived::Form(Box::new(flow)));
            }
        }
        let sender = Sender { scope: guest.scope, id: guest.id, client: guest.client };
        let now = self.now();
        let addresses = pending.verified_emails.iter().map(|value| ImportedAddress {
            via: Channel::Email,
            value: value.clone(),
            verified_at: Some(now),
        });
        let newcomer = Newcomer {
            traits,
            found,
            source,
            addresses: addresses.collect(),
            metadata_public: pending.metadata_public.clone(),
            metadata_admin: pending.metadata_admin.clone(),
            ..Newcomer::default()
        };
        let upstream = &pending.upstream.clone();
        let factor = Factor::account(guest.provider, upstream);
        let earned = Earned { account: Some(pending), ..Earned::by(factor) };
        let opened = Opened { record: guest.record.clone(), schema, flow };
        match self.finish_registration(sender, opened, newcomer, earned).await {
            Ok(registered) => Ok(Arrived::Registered(Box::new(registered))),
            Err(RegistrationRejection::Invalid(flow)) => Ok(Arrived::Form(flow)),
            Err(RegistrationRejection::Flow(rejection)) => Err(rejection.into()),
            Err(RegistrationRejection::Throttled(early)) => Err(ArrivalRejection::Throttled(early)),
            Err(RegistrationRejection::Hook(failed)) => Err(failed.into()),
            Err(RegistrationRejection::Store(error)) => Err(error.into()),
            Err(_) => Err(ArrivalRejection::BadState),
        }
    }

    /// Somebody has the identifiers: it is linked at once where that is safe, else must
    /// log in first.
    async fn meet(
        &self,
        guest: &Guest<'_>,
        flow: Flow,
        holder: Uuid,
        pending: Pending,
    ) -> Result<Arrived, ArrivalRejection> {
        let key = IdentityKey { tenant: guest.scope.tenant, id: holder };
        let found = self.store.view(Consistency::Strong).peek::<Identities>(&key).await?;
        let verified = found.filter(|entry| !entry.record.inactive).is_some_and(|entry| {
            let mut addresses = entry.record.verifiable.iter();
            addresses.any(|address| {
                address.via == EMAIL
                    && address.verified_at != 0
                    && Some(&address.value) == pending.asserted_email.as_ref()
            })
        });
        let pending = Pending { identity: holder.to_string(), ..pending };
        if verified {
            let record = FlowRecord {
                social_pending: self.seal_pending(guest.id, &pending),
                ..guest.record.clone()
            };
            let guest = Guest { record: &record, ..*guest };
            return self.log_in_known(&guest, flow, holder, (&pending, true), None).await;
        }
        // Only from here on does it learn that somebody has them.
        let source = self.source(guest.scope, guest.client);
        self.source_failed(guest.scope, &source).await?;
        let pending = Pending { asserted_email: None, ..pending };
        let (id, record) = self.turn_flow(guest, Purpose::Login, &pending).await?;
        let mut flow = self.show_flow(id, &record);
        let text = Text::log_in_to_link(&pending.label, &guest.provider.label);
        flow.ui.messages.push(text);
        Ok(Arrived::Form(Box::new(flow)))
    }

    /// The form of a registration that waits for what is missing.
    async fn ask_for_more(&self, guest: &Guest<'_>, pending: &Pending) -> Result<Flow, StoreError> {
        let (id, record) = self.turn_flow(guest, Purpose::Registration, pending).await?;
        let mut flow = self.show_flow(id, &record);
        flow.active = Some("oidc".to_owned());
        Ok(flow)
    }

    /// Makes the flow one that goes on with somebody who has been named: a login that
    /// turns out to be a registration, or the other way round.
    ///
    /// Whoever began a native flow knows its id, and may have had somebody else follow its
    /// link: who came goes on in a flow of its own, whose id its browser alone is told.
    async fn turn_flow(
        &self,
        guest: &Guest<'_>,
        purpose: Purpose,
        pending: &Pending,
    ) -> Result<(FlowId, FlowRecord), StoreError> {
        let key = &FlowKey { tenant: guest.scope.tenant, id: guest.id.0 };
        let id = if guest.elsewhere { FlowId(self.mint_local()) } else { guest.id };
        let (turned, sealed) = (&FlowKey { id: id.0, ..*key }, &self.seal_pending(id, pending));
        let done = self
            .store
            .transact(|t| async move {
                let found = t.get::<Flows>(key).await?;
                let found = found.map_or_else(|| guest.record.clone(), |entry| entry.record);
                let mut record = FlowRecord {
                    purpose: purpose.number(),
                    social_pending: sealed.clone(),
                    form: Bytes::new(),
                    ..found
                };
                if guest.elsewhere {
                    record.exchange_init = Bytes::new();
                }
                t.put::<Flows>(turned, &record, Some(self.flow_kept_until(&record))).await?;
                Ok::<_, StoreError>(record)
            })
            .await?;
        Ok((id, done.value))
    }

    /// Who has the identifiers and addresses that traits give.
    pub(in crate::flow) async fn holders_of(
        &self,
        scope: Scope,
        found: &Extracted,
    ) -> Result<Vec<Uuid>, StoreError> {
        let tenant = scope.tenant;
        let kind = CredentialKind::Password.number();
        let identifiers = found.password_identifiers.iter();
        let identifiers = identifiers.flat_map(|text| self.identifier_digests(tenant, text));
        let identifiers = identifiers.map(|digest| {
            CredentialIdentifiers::key(&CredentialIdentifierKey { tenant, digest, kind })
        });
        let digests = |address: &schema::Address| {
            self.address_digests(tenant, via_number(address.via), &address.value)
        };
        let key = |digest| AddressIndexKey { tenant, digest };
        let verifiable = found.verifiable.iter().flat_map(digests);
        let verifiable = verifiable.map(|digest| VerifiableAddresses::key(&key(digest)));
        let recovery = found.recovery.iter().flat_map(digests);
        let recovery = recovery.map(|digest| RecoveryAddresses::key(&key(digest)));
        let keys: Vec<_> = identifiers.chain(verifiable).chain(recovery).collect();
        let rows = self.store.view(Consistency::Strong).rows(&keys, false).await?;
        let mut holders = Vec::new();
        for row in rows.into_iter().flatten() {
            // All three tables have the same records.
            let lead = <AddressIndexRecord as prost::Message>::decode(row.value.as_ref());
            holders.push(lead.unwrap_or_default().id());
        }
        holders.sort_unstable();
        holders.dedup();
        Ok(holders)
    }
}
