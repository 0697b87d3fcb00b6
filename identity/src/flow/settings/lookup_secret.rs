//! Making backup codes, keeping them once their owner has seen them, showing them again,
//! and doing away with them.

use bytes::Bytes;
use cardea_storage::Secret;

use super::{Change, Changing, Opened, Refusal, SettingsSubmission};
use crate::{
    Service,
    factor::lookup,
    session::{CredentialKind, issue::Factor},
    table::LookupCodeRecord,
    ui::Text,
};

/// What is asked for.
pub(super) enum Wanted {
    Reveal,
    /// These new codes, sealed, which are not kept yet.
    Regenerate(Bytes),
    Confirm,
    Disable,
}

const KIND: CredentialKind = CredentialKind::LookupSecret;

impl Service {
    /// `None` if the form is told what is wrong.
    pub(super) fn want_lookup_secret(
        &self,
        opened: &mut Opened,
        submission: &SettingsSubmission,
    ) -> Option<super::Wanted> {
        let Opened { me, flow, .. } = opened;
        let wanted = if !self.settings.lookup_secrets {
            None
        } else if submission.lookup_secret_confirm {
            Some(Wanted::Confirm)
        } else if submission.lookup_secret_reveal {
            Some(Wanted::Reveal)
        } else if submission.lookup_secret_disable {
            Some(Wanted::Disable)
        } else if submission.lookup_secret_regenerate {
            let codes = lookup::draw(self.store.entropy().as_ref());
            Some(Wanted::Regenerate(self.seal_codes(me.identity_id, &codes)))
        } else {
            None
        };
        if wanted.is_none() {
            flow.ui.messages.push(Text::settings_method_missing());
        }
        wanted.map(super::Wanted::LookupSecret)
    }

    pub(super) fn apply_lookup_secret(
        &self,
        changing: &mut Changing<'_>,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        changing.need_fresh()?;
        let had = changing.factors.has(KIND);
        let identity = changing.me.identity_id;
        match wanted {
            Wanted::Reveal | Wanted::Disable if !had => {
                return Err(Refusal::Told("", Text::no_lookup_secrets()));
            }
            Wanted::Reveal => {
                changing.record.lookup_revealed = true;
                changing.shows = true;
            }
            Wanted::Regenerate(sealed) => {
                changing.record.lookup_sealed = sealed.clone();
                changing.shows = true;
            }
            Wanted::Confirm => {
                let sealed = changing.record.lookup_sealed.clone();
                let codes: Vec<Secret<String>> =
                    if sealed.is_empty() { Vec::new() } else { self.open_codes(identity, &sealed) };
                if codes.len() != lookup::CODES {
                    let reason =
                        "You must (re-)generate recovery backup codes before you can save them.";
                    return Err(Refusal::Told("", Text::generic(reason)));
                }
                let mut record = changing.credential(KIND);
                record.lookup_codes = codes
                    .iter()
                    .map(|code| self.lookup_code(changing.scope, identity, code))
                    .collect();
                record.lookup_sealed = sealed;
                changing.keep(KIND, record);
                changing.record.lookup_sealed = Bytes::new();
                changing.record.lookup_revealed = false;
                changing.proven = Some(Factor::LOOKUP_SECRET);
                changing.ends_other_sessions = had && self.settings.factor_change_ends_sessions;
                changing.news = Some(Change::LookupSecretsMade);
            }
            Wanted::Disable => {
                changing.remove(KIND);
                changing.record.lookup_sealed = Bytes::new();
                changing.record.lookup_revealed = false;
                changing.ends_other_sessions = self.settings.factor_change_ends_sessions;
                changing.news = Some(Change::LookupSecretsRemoved);
            }
        }
        Ok(())
    }

    pub(crate) fn lookup_code(
        &self,
        scope: crate::Scope,
        identity: uuid::Uuid,
        code: &Secret<String>,
    ) -> LookupCodeRecord {
        let digests = self.lookup_digests(scope.tenant, identity, code.expose());
        let digest = digests.first().map(|digest| Bytes::copy_from_slice(digest));
        LookupCodeRecord { digest: digest.unwrap_or_default(), used_at: 0 }
    }
}
