//! Completing a login by a code that is sent to a number or an address, as a second
//! factor. It is off unless an operator switches it on: who takes a number over, or reads
//! the mail, has it.
//!
//! The addresses are the subject's own: those that its schema sends codes to, and that
//! were verified. A code never counts beside a first factor that came the same way: one by
//! mail not beside a code or a recovery by mail. So who has the mailbox alone has one
//! factor, and is asked for no second one that the mailbox would show again.
//!
//! Who has shown a first factor is not told the whole of an address, and names it by what
//! it is told.

use cardea_storage::Timestamp;

use super::{LoggedIn, LoginRejection, LoginSubmission, Sender, code::rejected};
use crate::{
    Service,
    courier::Template,
    flow::{
        Flow,
        sent_code::{Budget, Sending},
    },
    schema::{Address, Channel, normalize_identifier, normalize_phone},
    session::{AuthenticationMethod, CredentialKind, assurance::counts_beside, issue::Factor},
    table::{FlowRecord, IdentityRecord, id_of},
    ui::{Text, text::masked},
};

impl Service {
    /// Where codes may go that are a second factor beside what a session has shown.
    pub(crate) fn second_addresses(
        &self,
        identity: &IdentityRecord,
        shown: &[AuthenticationMethod],
    ) -> Vec<Address> {
        if !self.settings.code_second_factor {
            return Vec::new();
        }
        let Some(schema) = self.schema(&identity.schema_id) else { return Vec::new() };
        if !schema.sends_codes() {
            return Vec::new();
        }
        let counts = |address: &Address| {
            let second = Factor::second_code(address.via).completed(Timestamp::default());
            shown.iter().any(|first| counts_beside(first, &second))
        };
        let reached = |address: &Address| self.settings.message_limits.reaches(address);
        let verified = identity.verifiable.iter().filter(|known| known.verified_at != 0);
        let verified = verified.map(|known| Address {
            via: Channel::of_address(&known.value),
            value: known.value.clone(),
        });
        let may: Vec<Address> = verified.filter(|one| counts(one) && reached(one)).collect();
        // Each check of a session asks this: traits are read for those whom it can concern.
        if may.is_empty() {
            return Vec::new();
        }
        let traits = serde_json::from_slice(&identity.traits).unwrap_or_default();
        let mut all = schema.code_addresses(&traits);
        all.retain(|address| may.contains(address));
        all
    }

    pub(super) async fn second_by_code(
        &self,
        sender: Sender<'_>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let proof = submission.proof.as_ref();
        let (record, mut flow) = self.open_second(sender, proof).await?;
        if !self.settings.code_second_factor || record.second_addresses.is_empty() {
            return Err(LoginRejection::say(flow, Text::login_method_missing()));
        }
        flow.active = Some(CredentialKind::Code.name().to_owned());
        match submission.answer(&record) {
            Some(code) => {
                let factor = Factor::second_code(Channel::of_address(&record.address));
                let attempt = self.attempt_second(sender, &record, proof, factor).await?;
                self.try_code_of_login(attempt, flow, Budget::TryingSecond, code).await
            }
            None => self.send_second_code(sender, record, flow, &submission).await,
        }
    }

    async fn send_second_code(
        &self,
        sender: Sender<'_>,
        record: FlowRecord,
        flow: Flow,
        submission: &LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let Sender { scope, id, client } = sender;
        let named = [&submission.address, &submission.identifier];
        let named = named.into_iter().flatten().find(|text| !text.trim().is_empty());
        let Some(address) = chosen(&record, named.map(|text| text.trim())) else {
            return Err(LoginRejection::say(flow, Text::address_unknown()));
        };
        self.count_message(scope, client, &address).await?.map_err(LoginRejection::Throttled)?;
        let account = id_of(&record.subject);
        let known = self.charge_code(scope, account, Budget::SendingSecond).await;
        let sending = Sending {
            known: known.map_err(rejected)?,
            via: address.via,
            address: &address.value,
            template: Template::LoginCode,
            client,
        };
        Err(self.sent_login_code((scope, id), record, account, &sending).await)
    }
}

/// Which of its addresses a flow is to send a code to: the one that is named, whole or as
/// it is shown; the one of before; the only one.
fn chosen(record: &FlowRecord, named: Option<&str>) -> Option<Address> {
    let known = &record.second_addresses;
    let value = match named {
        Some(named) => {
            let plain = normalize_identifier(named);
            let number = normalize_phone(&plain).unwrap_or_default();
            let is_named = |value: &&String| {
                **value == plain || **value == number || shown_as(known, value) == named
            };
            known.iter().find(is_named)
        }
        None if known.contains(&record.address) => Some(&record.address),
        None => known.first().filter(|_| known.len() == 1),
    };
    value.map(|value| Address { via: Channel::of_address(value), value: value.clone() })
}

/// How an address among others is shown: masked, unless another looks the same then.
pub(in crate::flow) fn shown_as(all: &[String], value: &str) -> String {
    let shown = masked(value);
    let alike = all.iter().filter(|other| masked(other) == shown).count();
    if alike > 1 { value.to_owned() } else { shown }
}
