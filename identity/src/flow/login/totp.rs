//! Completing a login by a time-based code, as a second factor. A step of which a code
//! was taken is spent: it and all before it are taken no more, whoever asks at once.

use cardea_storage::Timestamp;

use super::{LoggedIn, LoginRejection, LoginSubmission, Sender, Settled};
use crate::{
    Service,
    schema::Violation,
    session::{CredentialKind, issue::Factor},
    table::CredentialRecord,
    ui::{Text, forms},
};

impl Service {
    pub(super) async fn log_in_by_totp(
        &self,
        sender: Sender<'_>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let proof = submission.proof.as_ref();
        let (record, mut flow) = self.open_second(sender, proof).await?;
        flow.active = Some(CredentialKind::Totp.name().to_owned());
        let code = submission.totp_code.filter(|code| !code.expose().trim().is_empty());
        let Some(code) = code else {
            forms::say_violations(&mut flow.ui, &[Violation::required("#", "totp_code")]);
            return Err(LoginRejection::Invalid(Box::new(flow)));
        };
        let attempt = self.attempt_second(sender, &record, proof, Factor::TOTP).await?;
        let account = attempt.account;
        let charged = self.charge_login(&attempt).await?;
        let credential = charged.credential.filter(|record| !record.totp_seed.is_empty());
        let Some(credential) = credential.filter(|_| self.settings.totp.is_some()) else {
            return Err(LoginRejection::say(flow, Text::no_totp()));
        };
        let seed = self.open_seed(account, &credential.totp_seed);
        let step = seed.and_then(|seed| seed.step_of(code.expose(), charged.at));
        let Some(step) = step.filter(|step| *step > credential.totp_step) else {
            self.login_failed(&attempt).await?;
            return Err(LoginRejection::say(flow, Text::totp_wrong()));
        };
        let settle = |now: Option<&CredentialRecord>, _: Timestamp| match now {
            Some(now) if now.totp_seed == credential.totp_seed && step > now.totp_step => {
                Settled::Becomes(Box::new(CredentialRecord { totp_step: step, ..now.clone() }))
            }
            _ => Settled::Changed,
        };
        self.finish_login(&attempt, flow, &settle).await
    }
}
