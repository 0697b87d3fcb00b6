//! Setting a new password, which ends all other sessions.

use cardea_storage::Consistency;

use super::{Change, Changing, Opened, Refusal, SettingsRejection, SettingsSubmission, Wanted};
use crate::{
    Service,
    model::json_of,
    password::PasswordHash,
    schema::Violation,
    session::CredentialKind,
    table::{CredentialKey, Credentials, IdentityRecord},
    ui::forms,
};

impl Service {
    /// `None` if the form is told what is wrong.
    pub(super) async fn want_password(
        &self,
        opened: &mut Opened,
        submission: SettingsSubmission,
    ) -> Result<Option<Wanted>, SettingsRejection> {
        let Opened { scope, me, flow, .. } = opened;
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
        changing: &mut Changing<'_>,
        hash: &PasswordHash,
    ) -> Result<IdentityRecord, Refusal> {
        let traits = json_of(&changing.me.identity.traits);
        let (after, _) = self.replace_mine(changing, traits, Some(hash)).await?;
        changing.need_fresh()?;
        changing.ends_other_sessions = true;
        changing.news = Some(Change::Password);
        Ok(after)
    }
}
