//! Completing a login by a security key, as a second factor. A signature cannot be
//! guessed, so nothing slows this down: whoever is kept waiting elsewhere gets in here.
//! The challenge is the flow's own, and a flow is completed once.

use cardea_storage::{Consistency, Timestamp};

use super::{Attempt, LoggedIn, LoginRejection, LoginSubmission, Sender, Settled};
use crate::{
    Service,
    flow::{Flow, key::challenge_of},
    session::{CredentialKind, issue::Factor},
    table::{CredentialRecord, Credentials, PublicKeyRecord},
    ui::Text,
    webauthn::{
        self, Asserted, RelyingParty, UserVerification,
        ceremony::{KeptKey, Used},
    },
};

impl Service {
    pub(super) async fn log_in_by_webauthn(
        &self,
        sender: Sender<'_>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let proof = submission.proof.as_ref();
        let (record, mut flow) = self.open_second(sender, proof).await?;
        flow.active = Some(CredentialKind::Webauthn.name().to_owned());
        let attempt = self.attempt_second(sender, &record, proof, Factor::SECURITY_KEY).await?;
        let credential = self.keys_for(&attempt).await?;
        let party = self.security_key_party();
        let (Some(party), Some(credential)) = (party, credential) else {
            return Err(LoginRejection::say(flow, Text::no_security_key()));
        };
        let answer = submission.webauthn_login.unwrap_or_default();
        let asserted = webauthn::assertion(&answer);
        self.finish_by_key(
            &attempt,
            flow,
            (party, UserVerification::Discouraged),
            &credential,
            asserted,
        )
        .await
    }

    /// The credential whose keys an attempt may be signed by.
    pub(super) async fn keys_for(
        &self,
        attempt: &Attempt<'_>,
    ) -> Result<Option<CredentialRecord>, LoginRejection> {
        let view = self.store.view(Consistency::Strong);
        let found = view.peek::<Credentials>(&attempt.credential_key()).await?;
        Ok(found.map(|entry| entry.record).filter(|record| !record.keys.is_empty()))
    }

    /// Verifies what an authenticator has signed, and completes the login with it.
    pub(super) async fn finish_by_key(
        &self,
        attempt: &Attempt<'_>,
        flow: Flow,
        (party, wanted): (&RelyingParty, UserVerification),
        credential: &CredentialRecord,
        asserted: Result<Asserted, webauthn::Refused>,
    ) -> Result<LoggedIn, LoginRejection> {
        let verified = asserted.and_then(|asserted| {
            let challenge = challenge_of(&attempt.flow.1.challenge);
            let challenge = challenge.ok_or(webauthn::Refused::Challenge)?;
            let key = credential.keys.iter().find(|key| key.id == asserted.id);
            let key = key.ok_or(webauthn::Refused::UnknownKey)?;
            Ok((key, asserted.verify(kept(key), &challenge, party, wanted)?))
        });
        let (key, used) = match verified {
            Ok(verified) => verified,
            Err(refused) => {
                tracing::info!(account = %attempt.account, %refused, "a key did not log in");
                self.login_failed(attempt).await?;
                return Err(LoginRejection::say(flow, Text::key_not_verified()));
            }
        };
        let settle = |now: Option<&CredentialRecord>, at: Timestamp| {
            let mut record = now.cloned().unwrap_or_default();
            let same = record.keys.iter_mut().find(|now| now.id == key.id);
            match same.filter(|now| now.public_key == key.public_key && is_later(now, used)) {
                Some(key) => {
                    key.counter = used.counter;
                    key.backup_eligible = used.backup_eligible;
                    key.backup_unknown = false;
                    key.backed_up = used.backed_up;
                    key.used_at = at.as_millis();
                    Settled::Becomes(Box::new(record))
                }
                None => Settled::Changed,
            }
        };
        self.finish_login(attempt, flow, &settle).await
    }
}

fn kept(key: &PublicKeyRecord) -> KeptKey<'_> {
    KeptKey {
        public_key: &key.public_key,
        counter: key.counter,
        backup_eligible: (!key.backup_unknown).then_some(key.backup_eligible),
    }
}

/// Whether the counter has still not come that far.
fn is_later(now: &PublicKeyRecord, used: Used) -> bool {
    (now.counter == 0 && used.counter == 0) || used.counter > now.counter
}
