//! What flows have in common that passkeys, security keys and other factors take part
//! in: what is drawn for them, and the forms that offer them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use cardea_storage::{Secret, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Service,
    factor::{lookup, totp::Seed},
    flow::login::second_code::shown_as,
    identity::factors::Factors,
    model::json_of,
    schema::{Channel, IdentitySchema},
    session::CredentialKind,
    table::{CredentialRecord, FlowRecord, IdentityRecord, KnownKeyRecord, PublicKeyRecord, id_of},
    ui::{
        InputType, Text,
        forms::{self, ListedKey, LookupSecrets, Script},
    },
    webauthn::{self, Challenge, KnownKey, RelyingParty, UserVerification, options::User},
};

impl Service {
    /// What an authenticator is to sign; empty where public keys are not offered.
    pub(super) fn draw_challenge(&self) -> Bytes {
        match self.settings.relying_party {
            Some(_) => Bytes::copy_from_slice(&self.store.entropy().bytes::<32>()),
            None => Bytes::new(),
        }
    }

    /// What passkeys know somebody by: random, so that it tells nothing; of letters and
    /// digits, so that it can be shown as an identifier.
    pub(super) fn draw_user_handle(&self) -> Bytes {
        let random: [u8; 32] = self.store.entropy().bytes();
        URL_SAFE_NO_PAD.encode(random).into_bytes().into()
    }

    /// The parties of passkeys.
    pub(super) fn passkey_party(&self) -> Option<&RelyingParty> {
        self.settings.relying_party.as_ref().filter(|_| self.settings.passkeys)
    }

    /// The parties of security keys.
    pub(super) fn security_key_party(&self) -> Option<&RelyingParty> {
        self.settings.relying_party.as_ref().filter(|_| self.settings.security_keys)
    }

    /// The parties of security keys that log in alone.
    pub(super) fn passwordless_party(&self) -> Option<&RelyingParty> {
        self.security_key_party().filter(|_| self.settings.passwordless_keys)
    }

    /// Writes down by what the subject of a login may complete it.
    pub(super) fn offer_factors(&self, record: &mut FlowRecord, factors: &Factors) {
        let by_browser = !record.csrf_digest.is_empty();
        let is_offered = |kind: CredentialKind| match kind {
            CredentialKind::Totp => self.settings.totp.is_some(),
            CredentialKind::LookupSecret => self.settings.lookup_secrets,
            CredentialKind::Webauthn => by_browser && self.security_key_party().is_some(),
            CredentialKind::Passkey => by_browser && self.passkey_party().is_some(),
            _ => true,
        };
        let second = record.requested_aal == 2;
        let offered: Vec<CredentialKind> = if second {
            factors.second().filter(|kind| is_offered(*kind)).collect()
        } else {
            let first = |kind: &CredentialKind| {
                let may = match kind {
                    CredentialKind::Password | CredentialKind::Passkey | CredentialKind::Oidc => {
                        factors.has(*kind)
                    }
                    CredentialKind::Webauthn => {
                        self.settings.passwordless_keys && factors.security_keys(true).count() > 0
                    }
                    _ => false,
                };
                may && is_offered(*kind)
            };
            factors.kinds().filter(first).collect()
        };
        if !second && offered.contains(&CredentialKind::Webauthn) {
            record.passwordless_keys = factors.security_keys(true).map(known_record).collect();
        }
        if second && offered.contains(&CredentialKind::Webauthn) {
            record.known_keys = factors.security_keys(false).map(known_record).collect();
        }
        if !second && offered.contains(&CredentialKind::Passkey) {
            let passkeys = keys_of(factors.get(CredentialKind::Passkey));
            record.known_keys = passkeys.iter().map(known_record).collect();
        }
        record.offered = offered.into_iter().map(|kind| u32::from(kind.number())).collect();
    }

    /// What the form of a login offers.
    pub(super) fn login_form(&self, record: &FlowRecord) -> forms::Login {
        let offers = |kind: CredentialKind| record.offered.contains(&u32::from(kind.number()));
        let challenge = challenge_of(&record.challenge);
        let known: Vec<KnownKey> = record.known_keys.iter().map(known_key).collect();
        let ask = |party: Option<&RelyingParty>, verification| {
            Some(webauthn::request(party?, &challenge?, verification, &known))
        };
        let mut form = forms::Login { refresh: record.refresh, ..forms::Login::default() };
        if record.requested_aal == 2 {
            form.second_factor = true;
            form.totp = offers(CredentialKind::Totp);
            form.lookup_secret = offers(CredentialKind::LookupSecret);
            let all = &record.second_addresses;
            let shown = |value: &String| (Channel::of_address(value), shown_as(all, value));
            form.second_codes = all.iter().map(shown).collect();
            if offers(CredentialKind::Webauthn) {
                form.webauthn = ask(self.security_key_party(), UserVerification::Discouraged);
            }
        } else {
            let anybody = record.subject.is_empty();
            form.identifier = true;
            form.identifier_label = self.flow_schema(record).and_then(|schema| {
                let field = schema.identifying_field()?;
                let title = field.title.as_ref().filter(|title| !title.is_empty())?;
                Some(Text::label_generated(title, &field.name))
            });
            form.password =
                anybody || record.offered.is_empty() || offers(CredentialKind::Password);
            form.code = self.settings.code_login;
            if anybody || offers(CredentialKind::Passkey) {
                form.passkey = ask(self.passkey_party(), UserVerification::Required);
            }
            let party = self.passwordless_party();
            match (party, &challenge, record.passwordless_keys.as_slice()) {
                (Some(_), Some(_), []) if anybody => form.security_key = true,
                (Some(party), Some(challenge), [_, ..]) => {
                    let known: Vec<KnownKey> =
                        record.passwordless_keys.iter().map(known_key).collect();
                    let wanted = UserVerification::Discouraged;
                    form.webauthn = Some(webauthn::request(party, challenge, wanted, &known));
                    if anybody {
                        // Who named itself has chosen this way.
                        (form.password, form.code, form.passkey) = (false, false, None);
                    }
                }
                _ => {}
            }
        }
        form.script =
            (form.passkey.is_some() || form.webauthn.is_some()).then(|| self.key_script());
        form
    }

    /// What the form of a registration offers, beside traits and password.
    pub(super) fn registration_form(
        &self,
        record: &FlowRecord,
        schema: &IdentitySchema,
    ) -> forms::Registration {
        let code = self.settings.code_login;
        let mut form = forms::Registration { code, ..forms::Registration::default() };
        let fields = schema.fields();
        let named = fields.iter().find(|field| field.kind == InputType::Email);
        let named = named.or_else(|| fields.iter().find(|field| field.required));
        if let (Some(party), Some(challenge), Some(field)) =
            (self.passkey_party(), challenge_of(&record.challenge), named)
        {
            let user = User { handle: &record.user_handle, name: "" };
            let options = webauthn::creation(party, &challenge, user, true, &[]);
            form.passkey = Some((options, field.name.clone()));
            form.script = Some(self.key_script());
        }
        if let (Some(party), Some(challenge), Some(field)) =
            (self.passwordless_party(), challenge_of(&record.challenge), named)
        {
            // What a key is shown by where there is no name yet.
            let shown = field.title.as_deref().unwrap_or(&field.name);
            let user = User { handle: &record.user_handle, name: shown };
            form.webauthn = Some(webauthn::creation(party, &challenge, user, false, &[]));
            form.script = Some(self.key_script());
        }
        form
    }

    /// What the form of settings offers, beside traits and password.
    pub(super) fn settings_form(
        &self,
        record: &FlowRecord,
        identity: &IdentityRecord,
        factors: &Factors,
    ) -> forms::Settings {
        let subject = id_of(&record.subject);
        let name = name_of(identity);
        let mut form = forms::Settings::default();
        if let Some(issuer) = &self.settings.totp {
            let seed = self.open_seed(subject, &record.totp_seed);
            form.totp = match seed {
                _ if factors.has(CredentialKind::Totp) => Some(forms::Totp::Linked),
                Some(seed) => Some(forms::Totp::Offered {
                    seed,
                    issuer: issuer.clone(),
                    account: name.clone(),
                }),
                None => None,
            };
        }
        if self.settings.lookup_secrets {
            form.lookup_secret = Some(self.lookup_form(subject, record, factors));
        }
        // As in Kratos, keys belong to browsers.
        let challenge = challenge_of(&record.challenge).filter(|_| !record.csrf_digest.is_empty());
        if let (Some(party), Some(challenge)) = (self.security_key_party(), challenge) {
            let keys = keys_of(factors.get(CredentialKind::Webauthn));
            let user = User { handle: subject.as_bytes(), name: &name };
            let known: Vec<KnownKey> = keys.iter().map(kept_key).collect();
            let options = webauthn::creation(party, &challenge, user, false, &known);
            let last = factors.ways_in() < 2;
            let listed = keys.iter().map(|key| (listed(key), !(key.passwordless && last)));
            form.webauthn = Some((listed.collect(), options));
        }
        if let (Some(party), Some(challenge)) = (self.passkey_party(), challenge) {
            let keys = keys_of(factors.get(CredentialKind::Passkey));
            let user = User { handle: &record.user_handle, name: &name };
            let known: Vec<KnownKey> = keys.iter().map(kept_key).collect();
            let options = webauthn::creation(party, &challenge, user, true, &known);
            let listed = keys.iter().map(listed).collect();
            form.passkey = Some((listed, factors.ways_in() > 1, options));
        }
        form.script =
            (form.passkey.is_some() || form.webauthn.is_some()).then(|| self.key_script());
        form
    }

    fn lookup_form(&self, subject: Uuid, record: &FlowRecord, factors: &Factors) -> LookupSecrets {
        if !record.lookup_sealed.is_empty() {
            let codes = self.open_codes(subject, &record.lookup_sealed);
            let shown = codes.into_iter().map(|code| (Some(code.expose().clone()), Timestamp(0)));
            return LookupSecrets::Proposed(shown.collect());
        }
        let kept = factors.get(CredentialKind::LookupSecret);
        let Some(kept) = kept.filter(|record| !record.lookup_codes.is_empty()) else {
            return LookupSecrets::None;
        };
        if !record.lookup_revealed {
            return LookupSecrets::Kept;
        }
        let codes = self.open_codes(subject, &kept.lookup_sealed);
        let all = kept.lookup_codes.iter().zip(codes);
        LookupSecrets::Revealed(
            all.map(|(code, text)| match code.used_at {
                0 => (Some(text.expose().clone()), Timestamp(0)),
                at => (None, Timestamp(at)),
            })
            .collect(),
        )
    }

    pub(super) fn key_script(&self) -> Script {
        Script {
            url: format!("{}{}", self.settings.public_url, webauthn::script::PATH),
            integrity: webauthn::script::integrity().to_owned(),
        }
    }

    /// A seed of time-based codes, as it is kept.
    pub(crate) fn seal_seed(&self, identity: Uuid, seed: &Seed) -> Bytes {
        let entropy = self.store.entropy().as_ref();
        self.keys.seal.seal(entropy, &seed_of(identity), seed.bytes())
    }

    /// A seed that was kept; `None` if there is none.
    pub(super) fn open_seed(&self, identity: Uuid, sealed: &[u8]) -> Option<Seed> {
        if sealed.is_empty() {
            return None;
        }
        match self.keys.seal.open(&seed_of(identity), sealed) {
            Ok(plain) => Seed::from_bytes(plain.expose()),
            Err(_) => {
                tracing::error!(%identity, "a seed of time-based codes does not open; its key is gone");
                None
            }
        }
    }

    /// Backup codes, as they are kept for their owner to see.
    pub(crate) fn seal_codes(&self, identity: Uuid, codes: &[Secret<String>]) -> Bytes {
        let entropy = self.store.entropy().as_ref();
        let plain = lookup::joined(codes);
        self.keys.seal.seal(entropy, &codes_of(identity), plain.expose().as_bytes())
    }

    /// Backup codes that were kept; none if there are none.
    pub(super) fn open_codes(&self, identity: Uuid, sealed: &[u8]) -> Vec<Secret<String>> {
        let Ok(plain) = self.keys.seal.open(&codes_of(identity), sealed) else {
            tracing::error!(%identity, "backup codes do not open; their key is gone");
            return Vec::new();
        };
        lookup::split(std::str::from_utf8(plain.expose()).unwrap_or_default())
    }
}

fn seed_of(identity: Uuid) -> String {
    format!("seed of time-based codes of {identity}")
}

fn codes_of(identity: Uuid) -> String {
    format!("backup codes of {identity}")
}

/// The challenge of a flow, if it has one.
pub(super) fn challenge_of(bytes: &[u8]) -> Option<Challenge> {
    bytes.try_into().ok().map(Challenge)
}

/// The keys of a credential.
pub(super) fn keys_of(record: Option<&CredentialRecord>) -> &[PublicKeyRecord] {
    record.map_or(&[], |record| &record.keys)
}

pub(super) fn known_record(key: &PublicKeyRecord) -> KnownKeyRecord {
    KnownKeyRecord { id: key.id.clone(), transports: key.transports.clone() }
}

fn known_key(record: &KnownKeyRecord) -> KnownKey {
    KnownKey { id: record.id.to_vec(), transports: record.transports.clone() }
}

fn kept_key(record: &PublicKeyRecord) -> KnownKey {
    KnownKey { id: record.id.to_vec(), transports: record.transports.clone() }
}

fn listed(record: &PublicKeyRecord) -> ListedKey {
    ListedKey {
        id: record.id.to_vec(),
        name: record.name.clone(),
        added_at: Timestamp(record.created_at),
    }
}

/// What an authenticator shows of somebody: an address, else a name, else the schema.
fn name_of(identity: &IdentityRecord) -> String {
    let addresses = identity.verifiable.iter().chain(&identity.recovery);
    let address = addresses.map(|address| address.value.clone()).next();
    let traits: Value = json_of(&identity.traits);
    let named = ["email", "username", "phone", "name"];
    let named = named.iter().find_map(|name| traits[name].as_str().map(str::to_owned));
    address.or(named).unwrap_or_else(|| identity.schema_id.clone())
}
