//! Setting a new password, which ends all other sessions.

use cardea_storage::{Consistency, Transaction};

use super::{Applied, Opened, Refusal, SettingsRejection, SettingsSubmission, Wanted};
use crate::{
    Service,
    model::{Scope, json_of},
    password::PasswordHash,
    schema::Violation,
    session::{CredentialKind, check::Found},
    table::{CredentialKey, Credentials},
    ui::forms,
};

impl Service {
    /// `None` if the form is told what is wrong.
    pub(super) async fn want_password(
        &self,
        opened: &mut Opened,
        submission: SettingsSubmission,
    ) -> Result<Option<Wanted>, SettingsRejection> {
        let Opened { scope, me, flow } = opened;
        if !self.is_privileged(me, self.now()) {
            return Err(SettingsRejection::RefreshRequired);
        }
        let password = submission.password.filter(|password| !password.expose().is_empty());
        let Some(password) = password else {
            forms::say_violations(&mut flow.ui, &[Violation::required("#", "password")]);
            return Ok(None);
        };
        let key = CredentialKey {
            tenant: scope.tenant,
            identity: me.identity_id,
            kind: CredentialKind::Password.number(),
        };
        let credential = self.store.view(Consistency::Strong).peek::<Credentials>(&key).await?;
        let identifiers = credential.map(|entry| entry.record.identifiers).unwrap_or_default();
        if let Err(violation) = self.settings.password_policy.check(password.expose(), &identifiers)
        {
            flow.ui.say("password", violation.text());
            return Ok(None);
        }
        let permit = self.passwords.admit()?;
        let entropy = self.store.entropy().as_ref();
        Ok(Some(Wanted::Password(self.passwords.hash(&permit, password, entropy).await?)))
    }

    pub(super) async fn apply_password(
        &self,
        t: &Transaction,
        scope: Scope,
        me: &Found,
        hash: &PasswordHash,
    ) -> Result<Applied, Refusal> {
        let traits = json_of(&me.identity.traits);
        self.replace_mine(t, scope, me, traits, Some(hash)).await
    }
}
