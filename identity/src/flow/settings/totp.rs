//! Adding an authenticator app, which a code of it proves, and removing it. The seed is
//! the flow's until then; the code that proves it is spent as any other.

use bytes::Bytes;

use super::{Change, Changing, Opened, Refusal, SettingsSubmission};
use crate::{
    Service,
    factor::totp::Seed,
    schema::Violation,
    session::{CredentialKind, issue::Factor},
    ui::{Text, forms},
};

/// What is asked for.
pub(super) enum Wanted {
    /// The app that shares the seed which is kept like this; the step of its code.
    Add(Bytes, u64),
    Remove,
}

const KIND: CredentialKind = CredentialKind::Totp;

impl Service {
    /// `None` if the form is told what is wrong.
    pub(super) fn want_totp(
        &self,
        opened: &mut Opened,
        submission: SettingsSubmission,
    ) -> Option<super::Wanted> {
        let Opened { me, record, flow, .. } = opened;
        if self.settings.totp.is_none() {
            flow.ui.messages.push(Text::settings_method_missing());
            return None;
        }
        if submission.totp_unlink {
            return Some(super::Wanted::Totp(Wanted::Remove));
        }
        let code = submission.totp_code.filter(|code| !code.expose().trim().is_empty());
        let Some(code) = code else {
            forms::say_violations(&mut flow.ui, &[Violation::required("#", "totp_code")]);
            return None;
        };
        let sealed = record.totp_seed.clone();
        let seed: Option<Seed> = self.open_seed(me.identity_id, &sealed);
        match seed.and_then(|seed| seed.step_of(code.expose(), self.now())) {
            Some(step) => Some(super::Wanted::Totp(Wanted::Add(sealed, step))),
            None => {
                flow.ui.say("totp_code", Text::totp_wrong());
                None
            }
        }
    }

    pub(super) fn apply_totp(
        &self,
        changing: &mut Changing<'_>,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        changing.need_fresh()?;
        let had = changing.factors.has(KIND);
        match wanted {
            Wanted::Add(seed, step) => {
                // Another submission was faster, or there is an app already.
                if had || changing.record.totp_seed != *seed {
                    return Err(Refusal::Told("", Text::totp_wrong()));
                }
                let mut record = changing.credential(KIND);
                record.totp_seed = seed.clone();
                record.totp_step = *step;
                changing.keep(KIND, record);
                changing.proven = Some(Factor::TOTP);
                changing.news = Some(Change::TotpAdded);
            }
            Wanted::Remove if had => {
                changing.remove(KIND);
                changing.ends_other_sessions = self.settings.factor_change_ends_sessions;
                changing.news = Some(Change::TotpRemoved);
            }
            Wanted::Remove => return Err(Refusal::Told("", Text::no_totp())),
        }
        // The next app gets another seed.
        let next = Seed::draw(self.store.entropy().as_ref());
        changing.record.totp_seed = self.seal_seed(changing.me.identity_id, &next);
        Ok(())
    }
}
