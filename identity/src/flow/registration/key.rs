//! Signing up by a passkey or a security key alone: the identity has no password, and its
//! identifiers are its own all the same.

use serde_json::Value;

use super::{Earned, Newcomer, Registered, RegistrationRejection, RegistrationSubmission, Sender};
use crate::{
    Service,
    flow::{
        key::challenge_of,
        settings::{kept_key, refused_name},
    },
    session::{CredentialKind, issue::Factor},
    table::{CredentialRecord, PublicKeyRecord},
    ui::Text,
    webauthn::{self, UserVerification},
};

impl Service {
    pub(super) async fn register_by_key(
        &self,
        sender: Sender<'_>,
        submission: RegistrationSubmission,
        factor: Factor<'_>,
    ) -> Result<Registered, RegistrationRejection> {
        let mut opened = self.open_registration(sender).await?;
        let challenge = challenge_of(&opened.record.challenge);
        let is_passkey = factor.kind == CredentialKind::Passkey;
        let (party, wanted) = match is_passkey {
            true => (self.passkey_party(), UserVerification::Required),
            false => (self.passwordless_party(), UserVerification::Discouraged),
        };
        let (Some(party), Some(challenge)) = (party, challenge) else {
            let text = Text::registration_method_missing();
            return Err(RegistrationRejection::say(opened.flow, text));
        };
        opened.flow.active = Some(factor.kind.name().to_owned());
        let traits = match submission.traits {
            Value::Null => Value::Object(serde_json::Map::new()),
            traits => traits,
        };
        let Some(found) = Self::read_traits(&mut opened, &traits) else {
            return Err(RegistrationRejection::Invalid(Box::new(opened.flow)));
        };
        let source = self.registration_source(sender).await?;
        let name = submission.webauthn_register_displayname.unwrap_or_default();
        let name = name.trim();
        if let Some(text) = refused_name(name) {
            opened.flow.ui.say("webauthn_register_displayname", text);
            return Err(RegistrationRejection::Invalid(Box::new(opened.flow)));
        }
        let (answer, name) = match is_passkey {
            true => (submission.passkey_register, ""),
            false => (submission.webauthn_register, name),
        };
        let key = webauthn::registration(&answer.unwrap_or_default(), &challenge, party, wanted);
        let key = match key {
            Ok(key) => key,
            Err(refused) => {
                tracing::info!(%refused, "a key did not sign up");
                return Err(RegistrationRejection::say(opened.flow, Text::key_not_verified()));
            }
        };
        let key = kept_key(key, name, self.now().as_millis());
        let key = PublicKeyRecord { passwordless: !is_passkey, ..key };
        let mut credential = CredentialRecord { keys: vec![key], ..CredentialRecord::default() };
        if is_passkey {
            credential.user_handle = opened.record.user_handle.clone();
            self.file_handle(sender.scope, &mut credential);
        }
        let credential = Some((factor.kind, credential));
        let earned = Earned { credential, ..Earned::by(factor) };
        let newcomer = Newcomer { traits, found, source, ..Newcomer::default() };
        self.finish_registration(sender, opened, newcomer, earned).await
    }
}
