//! Adding a security key, and removing one. The challenge is the flow's, and is used
//! once; the next key gets another.

use bytes::Bytes;

use super::{Change, Changing, Opened, Refusal, SettingsSubmission};
use crate::{
    Service,
    flow::key::challenge_of,
    session::{CredentialKind, issue::Factor},
    table::PublicKeyRecord,
    ui::Text,
    webauthn::{self, Registered, RelyingParty, UserVerification},
};

/// The most keys of a kind that an identity may have.
pub(super) const KEYS_MAX: usize = 32;
/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// What is asked for.
pub(super) enum Wanted {
    /// A key that answered this challenge.
    Add(Box<PublicKeyRecord>, Bytes),
    /// The key of this id.
    Remove(Vec<u8>),
}

const KIND: CredentialKind = CredentialKind::Webauthn;

impl Service {
    /// `None` if the form is told what is wrong.
    pub(super) fn want_webauthn(
        &self,
        opened: &mut Opened,
        submission: SettingsSubmission,
    ) -> Option<super::Wanted> {
        let party = self.security_key_party();
        let name = submission.webauthn_register_displayname.unwrap_or_default();
        let asked = (submission.webauthn_register, submission.webauthn_remove);
        let mut wanted =
            self.want_key(opened, party, asked, UserVerification::Discouraged, name.trim())?;
        if let Wanted::Add(key, _) = &mut wanted {
            key.passwordless = self.settings.passwordless_keys;
        }
        Some(super::Wanted::Webauthn(wanted))
    }

    /// What is asked for of a kind of keys; `None` if the form is told what is wrong.
    pub(super) fn want_key(
        &self,
        opened: &mut Opened,
        party: Option<&RelyingParty>,
        (register, remove): (Option<String>, Option<String>),
        verification: UserVerification,
        name: &str,
    ) -> Option<Wanted> {
        let Opened { record, flow, .. } = opened;
        let challenge = challenge_of(&record.challenge).filter(|_| flow.browser.is_some());
        let (Some(party), Some(challenge)) = (party, challenge) else {
            flow.ui.messages.push(Text::settings_method_missing());
            return None;
        };
        if let Some(id) = remove {
            return Some(Wanted::Remove(unhex(&id).unwrap_or_default()));
        }
        let Some(answer) = register else {
            flow.ui.messages.push(Text::settings_method_missing());
            return None;
        };
        if let Some(text) = refused_name(name) {
            flow.ui.say("webauthn_register_displayname", text);
            return None;
        }
        match webauthn::registration(&answer, &challenge, party, verification) {
            Ok(key) => {
                let key = kept(key, name, self.now().as_millis());
                Some(Wanted::Add(Box::new(key), record.challenge.clone()))
            }
            Err(refused) => {
                tracing::info!(%refused, "a key was not added");
                flow.ui.messages.push(Text::key_not_verified());
                None
            }
        }
    }

    pub(super) fn apply_webauthn(
        &self,
        changing: &mut Changing<'_>,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        if let Wanted::Remove(id) = wanted {
            let mut alone = changing.factors.security_keys(true);
            if alone.any(|key| key.id == *id) && changing.factors.ways_in() < 2 {
                return Err(Refusal::Told("", Text::would_lock_out()));
            }
        }
        self.apply_key(changing, KIND, wanted)?;
        match wanted {
            Wanted::Add(key, _) => {
                changing.proven = Some(match key.passwordless {
                    true => Factor::PASSWORDLESS_KEY,
                    false => Factor::SECURITY_KEY,
                });
                changing.news = Some(Change::SecurityKeyAdded);
            }
            Wanted::Remove(_) => changing.news = Some(Change::SecurityKeyRemoved),
        }
        Ok(())
    }

    /// Adds a key to a credential of a kind, or removes one.
    pub(super) fn apply_key(
        &self,
        changing: &mut Changing<'_>,
        kind: CredentialKind,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        changing.need_fresh()?;
        let mut record = changing.credential(kind);
        match wanted {
            Wanted::Add(key, challenge) => {
                let known = record.keys.iter().any(|known| known.id == key.id);
                if changing.record.challenge != *challenge || known {
                    return Err(Refusal::Told("", Text::key_not_verified()));
                }
                if record.keys.len() >= KEYS_MAX {
                    let reason = format!("There may be at most {KEYS_MAX} keys.");
                    return Err(Refusal::Told(
                        "",
                        Text::generic_about(&reason, "keys_max", KEYS_MAX),
                    ));
                }
                record.keys.push(key.as_ref().clone());
                changing.record.challenge = self.draw_challenge();
                changing.keep(kind, record);
            }
            Wanted::Remove(id) => {
                let before = record.keys.len();
                record.keys.retain(|key| key.id != *id);
                if record.keys.len() == before {
                    return Err(Refusal::Told("", Text::no_security_key()));
                }
                changing.ends_other_sessions = self.settings.factor_change_ends_sessions;
                if record.keys.is_empty() {
                    changing.remove(kind);
                } else {
                    changing.keep(kind, record);
                }
            }
        }
        Ok(())
    }
}

/// What is said of a name of a key that is too long.
pub(in crate::flow) fn refused_name(name: &str) -> Option<Text> {
    let reason = format!("The name of a key may have at most {NAME_BYTES_MAX} bytes.");
    let text = || Text::generic_about(&reason, "name_bytes_max", NAME_BYTES_MAX);
    (name.len() > NAME_BYTES_MAX).then(text)
}

/// A key as it is kept.
pub(in crate::flow) fn kept(key: Registered, name: &str, now: u64) -> PublicKeyRecord {
    PublicKeyRecord {
        id: key.id.into(),
        public_key: key.public_key.into(),
        counter: key.counter,
        name: name.to_owned(),
        created_at: now,
        used_at: 0,
        aaguid: Bytes::copy_from_slice(&key.aaguid),
        transports: key.transports,
        backup_eligible: key.backup_eligible,
        backed_up: key.backed_up,
        backup_unknown: false,
        passwordless: false,
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
    let digits = digits?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_read_in_hexadecimal_digits() {
        assert_eq!(super::unhex("00fF10"), Some(vec![0, 255, 16]));
        assert_eq!(super::unhex(""), Some(Vec::new()));
        for text in ["0", "zz", "é0"] {
            assert_eq!(super::unhex(text), None, "{text}");
        }
    }
}
