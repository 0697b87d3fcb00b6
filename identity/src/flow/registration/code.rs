//! Signing up by a code that is sent to an address among the traits. The traits wait
//! in the flow, sealed, and must come again with the code; the identity then begins
//! with its address verified.
//!
//! Whether somebody has the address already is told only to who has shown that it is
//! theirs.

use serde_json::Value;

use super::{Earned, Newcomer, Registered, RegistrationRejection, RegistrationSubmission, Sender};
use crate::{
    Service,
    courier::Template,
    flow::{
        CodeRejection,
        sent_code::{Budget, Sending, Tried},
    },
    identity::ImportedAddress,
    model::FlowId,
    schema::Rule,
    session::{CredentialKind, issue::Factor},
    table::{FlowRecord, id_bytes, id_of},
    ui::{Text, forms},
};

/// The largest traits that wait for a code, in bytes of JSON.
const TRAITS_BYTES_MAX: usize = 64 * 1024;

impl Service {
    pub(super) async fn register_by_code(
        &self,
        sender: Sender<'_>,
        submission: RegistrationSubmission,
    ) -> Result<Registered, RegistrationRejection> {
        let Sender { scope, id, client } = sender;
        let mut opened = self.open_registration(sender).await?;
        if !self.settings.code_login {
            let text = Text::registration_method_missing();
            return Err(RegistrationRejection::say(opened.flow, text));
        }
        opened.flow.active = Some(CredentialKind::Code.name().to_owned());
        let waits = opened.record.state == 1;
        let again = submission.resend.as_deref().is_some_and(|value| !value.is_empty());
        let code = submission.code.as_ref().filter(|code| !code.expose().trim().is_empty());
        let code = code.filter(|_| waits && !again);
        let kept = self.waiting_traits(id, &opened.record);
        let traits = match (submission.traits, &kept) {
            // Another code needs not say for whom.
            (Value::Null, Some(kept)) => kept.clone(),
            (Value::Null, None) => Value::Object(serde_json::Map::new()),
            (traits, _) => traits,
        };
        forms::refill_traits(&mut opened.flow.ui, &traits);
        let found = match opened.schema.check(&traits) {
            Ok(found) => found,
            Err(violations) => {
                forms::say_violations(&mut opened.flow.ui, &violations);
                return Err(RegistrationRejection::Invalid(Box::new(opened.flow)));
            }
        };
        let Some(address) = found.code_addresses.first().cloned() else {
            return Err(RegistrationRejection::say(opened.flow, Text::identifier_missing()));
        };
        let source = self.registration_source(sender).await?;
        let Some(code) = code else {
            let traits = traits.to_string();
            if traits.len() > TRAITS_BYTES_MAX {
                return Err(RegistrationRejection::say(opened.flow, Text::traits_too_large()));
            }
            if !self.settings.message_limits.reaches(&address) {
                let rule = Rule::Phone { value: address.value };
                opened.flow.ui.messages.push(rule.text());
                return Err(RegistrationRejection::Invalid(Box::new(opened.flow)));
            }
            let counted = self.count_message(scope, client, &address).await?;
            counted.map_err(RegistrationRejection::Throttled)?;
            // Charged at the decoy, whether or not somebody has the address.
            let account = self.decoy(scope.tenant, &address.value);
            self.charge_code(scope, account, Budget::Sending).await.map_err(rejected)?;
            let sending = Sending {
                known: true,
                via: address.via,
                address: &address.value,
                template: Template::RegistrationCode,
                client,
            };
            let entropy = self.store.entropy().as_ref();
            let sealed = self.keys.seal.seal(entropy, &sealed_for(id), traits.as_bytes());
            let changed = FlowRecord {
                code_account: id_bytes(&account),
                code_traits: sealed,
                ..opened.record
            };
            let kept = self.write_code(scope, id, changed, &sending).await?;
            let mut flow = self.show_flow(id, &kept);
            flow.active = Some(CredentialKind::Code.name().to_owned());
            return Err(RegistrationRejection::say(flow, Text::registration_code_sent()));
        };
        if kept.as_ref() != Some(&traits) {
            return Err(RegistrationRejection::say(opened.flow, Text::traits_mismatch()));
        }
        let account = id_of(&opened.record.code_account);
        match self
            .try_code_of(scope, id, (account, Budget::Trying), code)
            .await
            .map_err(rejected)?
        {
            Tried::Right(record) => {
                // Read again since: it may have been sent for other traits meanwhile.
                let sent_for = self.waiting_traits(id, &record);
                if sent_for.as_ref() != Some(&traits) || record.address != address.value {
                    return Err(RegistrationRejection::say(opened.flow, Text::traits_mismatch()));
                }
                opened.record = *record;
                let verified_at = Some(self.now());
                let earned = Earned::by(Factor::code(address.via));
                let verified =
                    ImportedAddress { via: address.via, value: address.value, verified_at };
                let addresses = vec![verified];
                let newcomer = Newcomer { traits, found, source, addresses, ..Newcomer::default() };
                self.finish_registration(sender, opened, newcomer, earned).await
            }
            Tried::Wrong => {
                self.source_failed(scope, &source).await?;
                Err(RegistrationRejection::say(opened.flow, Text::registration_code_invalid()))
            }
            Tried::NoneLeft => {
                Err(RegistrationRejection::say(opened.flow, Text::codes_tried_too_often()))
            }
        }
    }

    /// The traits for which a code was sent.
    pub(crate) fn waiting_traits(&self, id: FlowId, record: &FlowRecord) -> Option<Value> {
        if record.code_traits.is_empty() {
            return None;
        }
        let plain = self.keys.seal.open(&sealed_for(id), &record.code_traits).ok()?;
        serde_json::from_slice(plain.expose()).ok()
    }
}

fn sealed_for(id: FlowId) -> String {
    format!("traits of flow {id}")
}

fn rejected(rejection: CodeRejection) -> RegistrationRejection {
    match rejection {
        CodeRejection::Throttled(too_early) => RegistrationRejection::Throttled(too_early),
        CodeRejection::Store(error) => RegistrationRejection::Store(error),
        CodeRejection::Flow(flow) => RegistrationRejection::Flow(flow),
        CodeRejection::Invalid(flow) => RegistrationRejection::Invalid(flow),
        CodeRejection::Hook(failed) => RegistrationRejection::Hook(failed),
        // Nobody is asked about here who could be disabled.
        CodeRejection::Disabled => {
            RegistrationRejection::Flow(crate::flow::FlowRejection::NotFound)
        }
    }
}
