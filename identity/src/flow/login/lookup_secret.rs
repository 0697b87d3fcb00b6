//! Completing a login by a backup code, as a second factor. Each is good once.

use cardea_storage::Timestamp;
use subtle::ConstantTimeEq as _;

use super::{Attempt, LoggedIn, LoginRejection, LoginSubmission, Sender, Settled};
use crate::{
    Service,
    factor::lookup,
    schema::Violation,
    session::{CredentialKind, issue::Factor},
    table::CredentialRecord,
    ui::{Text, forms},
};

impl Service {
    pub(super) async fn log_in_by_lookup_secret(
        &self,
        sender: Sender<'_>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let proof = submission.proof.as_ref();
        let (record, mut flow) = self.open_second(sender, proof).await?;
        flow.active = Some(CredentialKind::LookupSecret.name().to_owned());
        let code = submission.lookup_secret.filter(|code| !code.expose().trim().is_empty());
        let Some(code) = code else {
            forms::say_violations(&mut flow.ui, &[Violation::required("#", "lookup_secret")]);
            return Err(LoginRejection::Invalid(Box::new(flow)));
        };
        let attempt = self.attempt_second(sender, &record, proof, Factor::LOOKUP_SECRET).await?;
        let Attempt { scope, account, .. } = attempt;
        let credential = self.charge_login(&attempt).await?.credential;
        let credential = credential.filter(|record| !record.lookup_codes.is_empty());
        let Some(credential) = credential.filter(|_| self.settings.lookup_secrets) else {
            return Err(LoginRejection::say(flow, Text::no_lookup_secrets()));
        };
        let digests =
            self.lookup_digests(scope.tenant, account, &lookup::normalized(code.expose()));
        // All are compared, so that time does not tell which it is.
        let mut found = None;
        for (at, kept) in credential.lookup_codes.iter().enumerate() {
            let right = digests.iter().any(|digest| bool::from(digest.ct_eq(kept.digest.as_ref())));
            found = if right { Some(at) } else { found };
        }
        let kept = found.and_then(|at| credential.lookup_codes.get(at));
        let Some(kept) = kept.filter(|kept| kept.used_at == 0) else {
            self.login_failed(&attempt).await?;
            let used = kept.is_some();
            let text =
                if used { Text::lookup_secret_already_used() } else { Text::lookup_secret_wrong() };
            return Err(LoginRejection::say(flow, text));
        };
        let settle = |now: Option<&CredentialRecord>, at: Timestamp| {
            let mut record = now.cloned().unwrap_or_default();
            let same = record.lookup_codes.iter_mut().find(|code| code.digest == kept.digest);
            match same.filter(|code| code.used_at == 0) {
                Some(code) => {
                    code.used_at = at.as_millis();
                    Settled::Becomes(Box::new(record))
                }
                None => Settled::Changed,
            }
        };
        self.finish_login(&attempt, flow, &settle).await
    }
}
