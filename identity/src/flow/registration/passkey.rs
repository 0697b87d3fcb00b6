//! Signing up by a passkey alone: the identity has no password, and its identifiers are
//! its own all the same.

use serde_json::Value;

use super::{Earned, Newcomer, Registered, RegistrationRejection, RegistrationSubmission, Sender};
use crate::{
    Service,
    flow::{key::challenge_of, settings::kept_key},
    session::{CredentialKind, issue::Factor},
    table::CredentialRecord,
    ui::Text,
    webauthn::{self, UserVerification},
};

impl Service {
    pub(super) async fn register_by_passkey(
        &self,
        sender: Sender<'_>,
        submission: RegistrationSubmission,
    ) -> Result<Registered, RegistrationRejection> {
        let mut opened = self.open_registration(sender).await?;
        let challenge = challenge_of(&opened.record.challenge);
        let (Some(party), Some(challenge)) = (self.passkey_party(), challenge) else {
            let text = Text::registration_method_missing();
            return Err(RegistrationRejection::say(opened.flow, text));
        };
        opened.flow.active = Some(CredentialKind::Passkey.name().to_owned());
        let traits = match submission.traits {
            Value::Null => Value::Object(serde_json::Map::new()),
            traits => traits,
        };
        let Some(found) = Self::read_traits(&mut opened, &traits) else {
            return Err(RegistrationRejection::Invalid(Box::new(opened.flow)));
        };
        let source = self.registration_source(sender).await?;
        let answer = submission.passkey_register.unwrap_or_default();
        let key = webauthn::registration(&answer, &challenge, party, UserVerification::Required);
        let key = match key {
            Ok(key) => key,
            Err(refused) => {
                tracing::info!(%refused, "a passkey did not sign up");
                return Err(RegistrationRejection::say(opened.flow, Text::key_not_verified()));
            }
        };
        let mut credential = CredentialRecord {
            keys: vec![kept_key(key, "", self.now().as_millis())],
            user_handle: opened.record.user_handle.clone(),
            ..CredentialRecord::default()
        };
        self.file_handle(sender.scope, &mut credential);
        let credential = Some((CredentialKind::Passkey, credential));
        let earned = Earned { credential, ..Earned::by(Factor::PASSKEY) };
        let newcomer = Newcomer { traits, found, source, ..Newcomer::default() };
        self.finish_registration(sender, opened, newcomer, earned).await
    }
}
