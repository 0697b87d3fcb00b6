//! Adding a passkey, and removing one, unless it is the last way to log in. All passkeys
//! of an identity know their owner by the same handle.

use bytes::Bytes;

use super::{Change, Changing, Opened, Refusal, SettingsSubmission, webauthn};
use crate::{
    Service,
    session::{CredentialKind, issue::Factor},
    ui::Text,
    webauthn::UserVerification,
};

pub(super) use webauthn::Wanted;

const KIND: CredentialKind = CredentialKind::Passkey;

impl Service {
    /// `None` if the form is told what is wrong.
    pub(super) fn want_passkey(
        &self,
        opened: &mut Opened,
        submission: SettingsSubmission,
    ) -> Option<super::Wanted> {
        let party = self.passkey_party();
        let asked = (submission.passkey_settings_register, submission.passkey_remove);
        let wanted = self.want_key(opened, party, asked, UserVerification::Required, "")?;
        Some(super::Wanted::Passkey(wanted))
    }

    pub(super) fn apply_passkey(
        &self,
        changing: &mut Changing<'_>,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        if matches!(wanted, Wanted::Remove(_)) && changing.factors.ways_in() < 2 {
            return Err(Refusal::Told("", Text::would_lock_out()));
        }
        self.apply_key(changing, KIND, wanted)?;
        match wanted {
            Wanted::Add(..) => {
                let mut record = changing.credential(KIND);
                if record.user_handle.is_empty() {
                    record.user_handle = changing.record.user_handle.clone();
                }
                self.file_handle(changing.scope, &mut record);
                changing.keep(KIND, record);
                changing.proven = Some(Factor::PASSKEY);
                changing.news = Some(Change::PasskeyAdded);
            }
            Wanted::Remove(_) => changing.news = Some(Change::PasskeyRemoved),
        }
        Ok(())
    }

    /// Files a credential of passkeys under what they know their owner by.
    pub(crate) fn file_handle(
        &self,
        scope: crate::Scope,
        record: &mut crate::table::CredentialRecord,
    ) {
        let digests = self.handle_digests(scope.tenant, &record.user_handle);
        let digest = digests.first().map(|digest| Bytes::copy_from_slice(digest));
        record.user_handle_digest = digest.unwrap_or_default();
        record.identifiers = vec![String::from_utf8_lossy(&record.user_handle).into_owned()];
    }
}
