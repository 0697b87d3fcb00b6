//! Completing a login by a security key: as a second factor, or alone, where keys are said
//! to need no password. A signature cannot be guessed, so nothing slows this down: whoever
//! is kept waiting elsewhere gets in here. The challenge is the flow's own, and a flow is
//! completed once.
//!
//! A key that logs in alone does not say whose it is. So its owner names itself first, and
//! the form then asks for one of its keys. For an identifier that nobody has, or whose owner
//! has no such key, it asks for one that was never made, the same each time. Ids of keys are
//! of many lengths, and some people have several, so who looks closely may tell all the same
//! that an account has one: an operator who minds that leaves keys a second factor. So asking
//! counts at its source like guessing, whoever is named.

use cardea_storage::{Consistency, Timestamp};

use super::{
    Attempt, LoggedIn, LoginRejection, LoginSubmission, Sender, Settled, password::looked_up,
};
use crate::{
    Service,
    flow::{
        Flow,
        key::{challenge_of, known_record},
    },
    schema::Violation,
    session::{Aal, CredentialKind, issue::Factor},
    table::{
        CredentialRecord, Credentials, FlowRecord, KnownKeyRecord, PublicKeyRecord, id_bytes, id_of,
    },
    ui::{Text, forms},
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
        let (record, flow) = self.open_login(sender).await?;
        if record.requested_aal != 2 {
            return self.log_in_by_key_alone(sender, (record, flow), submission).await;
        }
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

    async fn log_in_by_key_alone(
        &self,
        sender: Sender<'_>,
        (record, mut flow): (FlowRecord, Flow),
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let Sender { scope, id, client } = sender;
        let party = self.passwordless_party().filter(|_| !record.challenge.is_empty());
        let Some(party) = party else {
            return Err(LoginRejection::say(flow, Text::login_method_missing()));
        };
        flow.active = Some(CredentialKind::Webauthn.name().to_owned());
        let source = self.source(scope, client);
        self.source_may_try(scope, &source).await?.map_err(LoginRejection::Throttled)?;
        let answer = submission.webauthn_login.unwrap_or_default();
        if answer.is_empty() || record.passwordless_keys.is_empty() {
            let identifier = submission.identifier.unwrap_or_default();
            return self.ask_for_key(sender, (record, flow), &identifier).await;
        }
        let subject = [&record.subject, &record.code_account].into_iter().find(|id| !id.is_empty());
        let attempt = Attempt {
            scope,
            flow: (id, &record),
            client,
            account: subject.map(|id| id_of(id)).unwrap_or_default(),
            source,
            proof: submission.proof.as_ref(),
            factor: Factor::PASSWORDLESS_KEY,
            renewal: None,
        };
        let credential = self.keys_for(&attempt).await?.unwrap_or_default();
        let asked = (party, UserVerification::Discouraged);
        self.finish_by_key(&attempt, flow, asked, &credential, webauthn::assertion(&answer)).await
    }

    /// Asks whoever names itself for one of its keys.
    async fn ask_for_key(
        &self,
        Sender { scope, id, client }: Sender<'_>,
        (record, mut flow): (FlowRecord, Flow),
        typed: &str,
    ) -> Result<LoggedIn, LoginRejection> {
        if typed.trim().is_empty() {
            forms::say_violations(&mut flow.ui, &[Violation::required("#", "identifier")]);
            return Err(LoginRejection::Invalid(Box::new(flow)));
        }
        self.source_failed(scope, &self.source(scope, client)).await?;
        let identifier = looked_up(typed);
        let account = self.account(scope, &identifier).await?;
        let view = self.store.view(Consistency::Strong);
        let factors = self.factors_of(&view, scope, account).await?;
        let mut keys: Vec<KnownKeyRecord> = factors.security_keys(true).map(known_record).collect();
        // Drawn either way, so that both take the same time.
        let nobodys = format!("security key of {}", self.decoy(scope.tenant, &identifier));
        let nobodys = self.source_digest(scope.tenant, nobodys.as_bytes());
        if keys.is_empty() {
            keys.push(KnownKeyRecord { id: nobodys.to_vec().into(), transports: Vec::new() });
        }
        let turned =
            &FlowRecord { passwordless_keys: keys, code_account: id_bytes(&account), ..record };
        self.rewrite_flow(scope, id, turned).await?;
        let mut flow = self.show_flow(id, turned);
        flow.active = Some(CredentialKind::Webauthn.name().to_owned());
        flow.ui.fill("identifier", typed.into());
        Err(LoginRejection::say(flow, Text::prepare_security_key()))
    }

    /// The credential whose keys an attempt may be signed by.
    pub(super) async fn keys_for(
        &self,
        attempt: &Attempt<'_>,
    ) -> Result<Option<CredentialRecord>, LoginRejection> {
        let view = self.store.view(Consistency::Strong);
        let found = view.peek::<Credentials>(&attempt.credential_key()).await?;
        let mut record = match found {
            Some(entry) => entry.record,
            None => return Ok(None),
        };
        // A key of a first factor is no second one, and the other way round.
        if attempt.factor.kind == CredentialKind::Webauthn {
            record.keys.retain(|key| key.passwordless == (attempt.factor.aal == Aal::Aal1));
        }
        Ok(Some(record).filter(|record| !record.keys.is_empty()))
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
            let is_same = |now: &&mut PublicKeyRecord| {
                now.public_key == key.public_key
                    && now.passwordless == key.passwordless
                    && is_later(now, used)
            };
            match same.filter(is_same) {
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
