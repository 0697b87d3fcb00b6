//! Setting a new password, which ends all other sessions. Beside a second factor it may be
//! shorter, if there still is one when it is written.

use cardea_storage::Consistency;

use super::{Change, Changing, Opened, Refusal, SettingsRejection, SettingsSubmission, Wanted};
use crate::{
    Service,
    identity::factors::Factors,
    model::json_of,
    password::{PasswordHash, Standing},
    schema::Violation,
    session::CredentialKind,
    table::{CredentialKey, Credentials, IdentityRecord},
    ui::forms,
};

/// A password that somebody wants.
pub(super) struct NewPassword {
    hash: PasswordHash,
    /// How long it is, in characters.
    length: usize,
}

fn standing(factors: &Factors) -> Standing {
    if factors.has_second() { Standing::BesideSecond } else { Standing::Alone }
}

impl Service {
    /// `None` if the form is told what is wrong.
    pub(super) async fn want_password(
        &self,
        opened: &mut Opened,
        submission: SettingsSubmission,
    ) -> Result<Option<Wanted>, SettingsRejection> {
        let Opened { scope, me, flow, factors, .. } = opened;
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
        let standing = standing(factors);
        let judged = self.judge_password(password.expose(), &identifiers, standing).await;
        if let Err(violation) = judged {
            flow.ui.say("password", violation.text());
            return Ok(None);
        }
        let permit = self.passwords.admit()?;
        let entropy = self.store.entropy().as_ref();
        let length = password.expose().chars().count();
        let hash = self.passwords.hash(&permit, password, entropy).await?;
        Ok(Some(Wanted::Password(NewPassword { hash, length })))
    }

    pub(super) async fn apply_password(
        &self,
        changing: &mut Changing<'_>,
        new: &NewPassword,
    ) -> Result<IdentityRecord, Refusal> {
        let policy = &self.settings.password_policy;
        policy
            .check_length(new.length, standing(&changing.factors))
            .map_err(|violation| Refusal::Told("password", violation.text()))?;
        let traits = json_of(&changing.me.identity.traits);
        let (after, _) = self.replace_mine(changing, traits, Some(&new.hash)).await?;
        changing.need_fresh()?;
        changing.ends_other_sessions = true;
        changing.news = Some(Change::Password);
        Ok(after)
    }
}
