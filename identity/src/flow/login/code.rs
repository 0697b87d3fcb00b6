//! Logging in by a code that is sent to an address: one that the identity's schema both
//! verifies and sends codes to. The account is found by the index of such addresses; one
//! that nobody has is answered, and costs, the same. The steps of sending and trying
//! are those of [`code`](crate::flow::code).
//!
//! A right code shows that the address is its owner's. If it was never shown before,
//! whatever others set up with it ends in the same transaction.

use cardea_storage::{Secret, Timestamp};
use uuid::Uuid;

use super::{Attempt, LoggedIn, LoginRejection, LoginSubmission, Sender, Settled};
use crate::{
    Service,
    courier::Template,
    flow::{
        CodeRejection, Flow, Purpose,
        sent_code::{Budget, Sending, Tried},
    },
    model::{FlowId, Scope},
    schema::{Address, Channel, Rule, Violation, is_email, normalize_identifier, normalize_phone},
    session::{CredentialKind, issue::Factor},
    table::{CredentialRecord, FlowRecord, IdentityRecord, id_bytes, id_of},
    ui::{Text, forms},
};

/// The longest address that is looked up, in bytes; longer ones nobody has.
const ADDRESS_BYTES_MAX: usize = 320;

impl Service {
    pub(super) async fn log_in_by_code(
        &self,
        sender: Sender<'_>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let (record, mut flow) = self.open_login(sender).await?;
        if record.requested_aal == 2 {
            return self.second_by_code(sender, submission).await;
        }
        if !self.settings.code_login {
            return Err(LoginRejection::say(flow, Text::login_method_missing()));
        }
        flow.active = Some(CredentialKind::Code.name().to_owned());
        match submission.answer(&record) {
            Some(code) => {
                let proof = submission.proof.as_ref();
                let attempt = self.code_attempt(sender, &record, proof);
                self.source_may_try(attempt.scope, &attempt.source)
                    .await?
                    .map_err(LoginRejection::Throttled)?;
                self.try_code_of_login(attempt, flow, Budget::Trying, code).await
            }
            None => self.send_login_code(sender, record, flow, &submission).await,
        }
    }

    fn code_attempt<'a>(
        &self,
        sender: Sender<'a>,
        record: &'a FlowRecord,
        proof: Option<&'a crate::session::Proof>,
    ) -> Attempt<'a> {
        let Sender { scope, id, client } = sender;
        Attempt {
            scope,
            flow: (id, record),
            client,
            account: id_of(&record.code_account),
            source: self.source(scope, client),
            proof,
            factor: Factor::code(Channel::of_address(&record.address)),
            renewal: None,
        }
    }

    /// Sends a code, if somebody has the address; the form asks for it either way.
    async fn send_login_code(
        &self,
        sender: Sender<'_>,
        record: FlowRecord,
        mut flow: Flow,
        submission: &LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let Sender { scope, id, client } = sender;
        let typed = submission.identifier.as_deref().map(str::trim).unwrap_or_default();
        // Another code for the same address needs not say which.
        let typed = if typed.is_empty() { record.address.as_str() } else { typed };
        if typed.is_empty() {
            forms::say_violations(&mut flow.ui, &[Violation::required("#", "identifier")]);
            return Err(LoginRejection::Invalid(Box::new(flow)));
        }
        flow.ui.fill("identifier", typed.into());
        let source = self.source(scope, client);
        self.source_may_try(scope, &source).await?.map_err(LoginRejection::Throttled)?;
        let address = address_of(typed);
        if !self.settings.message_limits.reaches(&address) {
            let rule = Rule::Phone { value: typed.to_owned() };
            flow.ui.say("identifier", rule.text());
            return Err(LoginRejection::Invalid(Box::new(flow)));
        }
        self.count_message(scope, client, &address).await?.map_err(LoginRejection::Throttled)?;
        let account = self.holder(scope, Purpose::Login, &address).await?;
        let may = self.charge_code(scope, account, Budget::Sending).await.map_err(rejected)?;
        let is_theirs = record.subject.is_empty() || id_of(&record.subject) == account;
        let sending = Sending {
            known: may && is_theirs,
            via: address.via,
            address: &address.value,
            template: Template::LoginCode,
            client,
        };
        Err(self.sent_login_code((scope, id), record, account, &sending).await)
    }

    /// Sends a code to an account's address; what the flow says then.
    pub(super) async fn sent_login_code(
        &self,
        (scope, id): (Scope, FlowId),
        record: FlowRecord,
        account: Uuid,
        sending: &Sending<'_>,
    ) -> LoginRejection {
        let changed = FlowRecord { code_account: id_bytes(&account), ..record };
        let kept = match self.write_code(scope, id, changed, sending).await {
            Ok(kept) => kept,
            Err(error) => return error.into(),
        };
        let mut flow = self.show_flow(id, &kept);
        flow.active = Some(CredentialKind::Code.name().to_owned());
        LoginRejection::say(flow, Text::login_code_sent())
    }

    /// Tries a code, of a first factor or a second, by what is left of its budget.
    pub(super) async fn try_code_of_login(
        &self,
        attempt: Attempt<'_>,
        flow: Flow,
        budget: Budget,
        code: &Secret<String>,
    ) -> Result<LoggedIn, LoginRejection> {
        let Attempt { scope, flow: (id, _), account, .. } = attempt;
        match self.try_code_of(scope, id, (account, budget), code).await.map_err(rejected)? {
            Tried::Right(record) => {
                let attempt = Attempt { flow: (id, &record), ..attempt };
                // There is no credential: the identity's own addresses decide.
                let settle = |_: Option<&CredentialRecord>, _: Timestamp| Settled::Kept;
                self.finish_login(&attempt, flow, &settle).await
            }
            Tried::Wrong => {
                self.login_failed(&attempt).await?;
                Err(LoginRejection::say(flow, Text::login_code_invalid()))
            }
            Tried::NoneLeft => Err(LoginRejection::say(flow, Text::codes_tried_too_often())),
        }
    }

    /// Whether the schema of an identity sends codes to an address that it has.
    pub(super) fn holds_code_address(&self, identity: &IdentityRecord, address: &str) -> bool {
        let Some(schema) = self.schema(&identity.schema_id) else { return false };
        let traits = serde_json::from_slice(&identity.traits).unwrap_or_default();
        schema
            .check(&traits)
            .is_ok_and(|found| found.code_addresses.iter().any(|known| known.value == address))
    }
}

impl LoginSubmission {
    /// The code that answers one that was sent; `None` if one is to be sent.
    pub(super) fn answer(&self, record: &FlowRecord) -> Option<&Secret<String>> {
        let again = self.resend.as_deref().is_some_and(|value| !value.is_empty());
        let code = self.code.as_ref().filter(|code| !code.expose().trim().is_empty());
        code.filter(|_| record.state == 1 && !again)
    }
}

/// What somebody typed, as an address. What is none is nobody's.
fn address_of(typed: &str) -> Address {
    let plain = normalize_identifier(typed);
    if plain.len() > ADDRESS_BYTES_MAX {
        let value = format!("\0too long: {}", blake3::hash(plain.as_bytes()));
        return Address { via: Channel::Email, value };
    }
    match normalize_phone(&plain).filter(|_| !is_email(&plain)) {
        Some(value) => Address { via: Channel::Sms, value },
        None => Address { via: Channel::Email, value: plain },
    }
}

pub(super) fn rejected(rejection: CodeRejection) -> LoginRejection {
    match rejection {
        CodeRejection::Throttled(too_early) => LoginRejection::Throttled(too_early),
        CodeRejection::Store(error) => LoginRejection::Store(error),
        CodeRejection::Flow(flow) => LoginRejection::Flow(flow),
        CodeRejection::Invalid(flow) => LoginRejection::Invalid(flow),
        CodeRejection::Disabled => LoginRejection::Disabled,
        CodeRejection::Hook(failed) => LoginRejection::Hook(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_an_email_address_or_a_number() {
        for (typed, wanted) in [
            ("Ann@Example.org", (Channel::Email, "ann@example.org")),
            ("+49 (30) 901820", (Channel::Sms, "+4930901820")),
            ("ann", (Channel::Email, "ann")),
        ] {
            let wanted = Address { via: wanted.0, value: wanted.1.to_owned() };
            assert_eq!(address_of(typed), wanted, "{typed}");
        }
        assert!(address_of(&"a".repeat(400)).value.len() < 100);
    }
}
