//! Credentials other than a password as another system kept them: accounts at providers,
//! the seed of time-based codes, backup codes, security keys and passkeys. They are read
//! from JSON as Kratos writes it (`identityWithCredentials`, and its own tables).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use cardea_storage::{Secret, StoreError, Timestamp, Transaction};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{credential::CredentialsRefused, draft::Taken, factors::Factors};
use crate::{
    Service,
    factor::{lookup, totp::Seed},
    model::Scope,
    session::CredentialKind,
    table::{
        CredentialRecord, LinkRecord, LookupCodeRecord, PasskeyHandleKey, PasskeyHandles,
        ProviderSubjectKey, ProviderSubjects, PublicKeyRecord,
    },
    time::parse_rfc3339,
    webauthn::cose::PublicKey,
};

/// Most of one kind.
const EACH_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;
/// Backup codes are sealed with a space between them.
const CODE_BYTES_MAX: usize = 64;
const HANDLE_BYTES_MAX: usize = 64;
const KINDS: [CredentialKind; 5] = [
    CredentialKind::Oidc,
    CredentialKind::Totp,
    CredentialKind::LookupSecret,
    CredentialKind::Webauthn,
    CredentialKind::Passkey,
];

/// What somebody logs in by beside a password.
#[derive(Debug, Clone, Default)]
pub struct OtherCredentials {
    accounts: Vec<Account>,
    totp: Option<Seed>,
    lookup: Vec<LookupCode>,
    security_keys: Vec<PublicKeyRecord>,
    passkeys: Vec<PublicKeyRecord>,
    user_handle: Vec<u8>,
}

/// An account at a provider, pinned to the issuer that the provider has here.
#[derive(Debug, Clone)]
struct Account {
    provider: String,
    issuer: String,
    subject: String,
}

#[derive(Debug, Clone)]
struct LookupCode {
    code: Secret<String>,
    used_at: Timestamp,
}

/// A kind of credential that is not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    /// The kind, as Ory names it.
    pub kind: String,
    /// Why.
    pub why: CredentialsRefused,
}

type Read<T> = Result<T, CredentialsRefused>;

const fn malformed<T>(what: &'static str) -> Read<T> {
    Err(CredentialsRefused::Malformed(what))
}

impl OtherCredentials {
    /// Whether a kind is read here.
    pub fn takes(kind: &str) -> bool {
        KINDS.iter().any(|known| known.name() == kind)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
            && self.totp.is_none()
            && self.lookup.is_empty()
            && self.security_keys.is_empty()
            && self.passkeys.is_empty()
    }

    fn read_kind(
        &mut self,
        service: &Service,
        kind: &str,
        config: &Map<String, Value>,
    ) -> Read<()> {
        let is = |wanted: CredentialKind| wanted.name() == kind;
        if is(CredentialKind::Oidc) {
            self.accounts = accounts(service, config)?;
        } else if is(CredentialKind::Totp) {
            self.totp = match config.get("totp_url").and_then(Value::as_str) {
                None | Some("") => return malformed("credentials.totp.config has no totp_url"),
                Some(url) => Some(Seed::from_url(url).map_err(CredentialsRefused::Malformed)?),
            };
        } else if is(CredentialKind::LookupSecret) {
            self.lookup = lookup_codes(config)?;
        } else if is(CredentialKind::Webauthn) {
            self.security_keys = public_keys(config)?;
        } else {
            let keys = public_keys(config)?;
            let handle = config.get("user_handle").map(bytes).transpose()?.unwrap_or_default();
            if !(1..=HANDLE_BYTES_MAX).contains(&handle.len()) {
                return malformed("the user handle of passkeys has 1 to 64 bytes");
            }
            (self.passkeys, self.user_handle) = (keys, handle);
        }
        Ok(())
    }
}

impl Service {
    /// Reads the members of `credentials` that are no password; those of kinds that are
    /// read nowhere are left to whoever reads the password.
    pub fn read_other_credentials(
        &self,
        credentials: &Map<String, Value>,
    ) -> (OtherCredentials, Vec<NotTaken>) {
        let mut found = OtherCredentials::default();
        let mut left = Vec::new();
        for (kind, credential) in
            credentials.iter().filter(|(kind, _)| OtherCredentials::takes(kind))
        {
            let done = match credential.get("config") {
                None | Some(Value::Null) => Ok(()),
                Some(Value::Object(config)) if config.is_empty() => Ok(()),
                Some(Value::Object(config)) => found.read_kind(self, kind, config),
                Some(_) => malformed("the config of a credential is not an object"),
            };
            if let Err(why) = done {
                left.push(NotTaken { kind: kind.clone(), why });
            }
        }
        (found, left)
    }

    /// The records of credentials for an identity that has some already, perhaps: kinds
    /// that it has stay as they are, accounts are added. Each account and each user
    /// handle is read with a check that nobody else has it. Gives what is to be written.
    pub(crate) async fn other_records(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: Uuid,
        new: &OtherCredentials,
        has: &Factors,
    ) -> Result<Result<Factors, Taken>, StoreError> {
        let now = t.now().as_millis();
        let mut records = Factors::default();
        let fresh = || CredentialRecord { created_at: now, updated_at: now, ..Default::default() };
        let lacks = |kind| has.get(kind).is_none();
        if !new.accounts.is_empty() {
            let before = has.get(CredentialKind::Oidc).cloned().unwrap_or_else(fresh);
            let Ok(record) = self.with_accounts(t, scope, identity, before, &new.accounts).await?
            else {
                return Ok(Err(Taken));
            };
            records.set(CredentialKind::Oidc, record);
        }
        if let Some(seed) = new.totp.as_ref().filter(|_| lacks(CredentialKind::Totp)) {
            let totp_seed = self.seal_seed(identity, seed);
            records.set(CredentialKind::Totp, CredentialRecord { totp_seed, ..fresh() });
        }
        if !new.lookup.is_empty() && lacks(CredentialKind::LookupSecret) {
            let code = |code: &LookupCode| LookupCodeRecord {
                used_at: code.used_at.as_millis(),
                ..self.lookup_code(scope, identity, &code.code)
            };
            let codes: Vec<_> = new.lookup.iter().map(|code| code.code.clone()).collect();
            let record = CredentialRecord {
                lookup_codes: new.lookup.iter().map(code).collect(),
                lookup_sealed: self.seal_codes(identity, &codes),
                ..fresh()
            };
            records.set(CredentialKind::LookupSecret, record);
        }
        if !new.security_keys.is_empty() && lacks(CredentialKind::Webauthn) {
            let record = CredentialRecord { keys: new.security_keys.clone(), ..fresh() };
            records.set(CredentialKind::Webauthn, record);
        }
        if !new.passkeys.is_empty() && lacks(CredentialKind::Passkey) {
            let digests = self.handle_digests(scope.tenant, &new.user_handle).into_iter();
            let key = |digest| PasskeyHandleKey { tenant: scope.tenant, digest };
            let keys: Vec<_> = digests.map(key).collect();
            let holders = t.get_many::<PasskeyHandles>(&keys).await?;
            if holders.iter().flatten().any(|holder| holder.record.id() != identity) {
                return Ok(Err(Taken));
            }
            let mut record = CredentialRecord {
                keys: new.passkeys.clone(),
                user_handle: new.user_handle.clone().into(),
                ..fresh()
            };
            self.file_handle(scope, &mut record);
            records.set(CredentialKind::Passkey, record);
        }
        Ok(Ok(records))
    }

    async fn with_accounts(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: Uuid,
        mut record: CredentialRecord,
        accounts: &[Account],
    ) -> Result<Result<CredentialRecord, Taken>, StoreError> {
        for Account { provider, issuer, subject } in accounts {
            let digests = self.account_digests(scope.tenant, (provider, issuer, subject));
            let filed = digests.first().map(|digest| Bytes::copy_from_slice(digest));
            let key = |digest| ProviderSubjectKey { tenant: scope.tenant, digest };
            let keys: Vec<_> = digests.into_iter().map(key).collect();
            let holders = t.get_many::<ProviderSubjects>(&keys).await?;
            if holders.iter().flatten().any(|holder| holder.record.id() != identity) {
                return Ok(Err(Taken));
            }
            if record.links.iter().any(|link| link.is(provider, issuer, subject)) {
                continue;
            }
            let link = LinkRecord {
                provider: provider.clone(),
                issuer: issuer.clone(),
                subject: subject.clone(),
                digest: filed.unwrap_or_default(),
                linked_at: t.now().as_millis(),
                ..LinkRecord::default()
            };
            record.updated_at = t.now().as_millis();
            record.identifiers.push(link.identifier());
            record.links.push(link);
        }
        Ok(Ok(record))
    }
}

fn accounts(service: &Service, config: &Map<String, Value>) -> Read<Vec<Account>> {
    each(config, &["providers"], |entry| {
        let text = |name: &str| match entry.get(name).and_then(Value::as_str) {
            Some(text) if (1..=TEXT_BYTES_MAX).contains(&text.len()) => Ok(text.to_owned()),
            _ => malformed("an account needs a provider and a subject of 1 to 1,024 bytes"),
        };
        if entry.get("use_auto_link") == Some(&Value::Bool(true)) {
            return malformed(
                "use_auto_link is not supported: an account is linked by its subject",
            );
        }
        let (provider, subject) = (text("provider")?, text("subject")?);
        // An account is its issuer's word on somebody: whoever is not configured has none.
        match service.settings.providers.get(&provider) {
            Some(known) if known.issuer.contains('{') => {
                Err(CredentialsRefused::ManyIssuers(provider))
            }
            Some(known) => Ok(Account { provider, issuer: known.issuer.clone(), subject }),
            None => Err(CredentialsRefused::UnknownProvider(provider)),
        }
    })
}

fn lookup_codes(config: &Map<String, Value>) -> Read<Vec<LookupCode>> {
    // The API and Kratos's own tables have different names for them.
    each(config, &["codes", "recovery_codes"], |entry| {
        let code = entry.get("code").and_then(Value::as_str).map(lookup::normalized);
        let Some(code) = code.filter(|code| (8..=CODE_BYTES_MAX).contains(&code.len())) else {
            return malformed("a backup code has 8 to 64 letters and digits");
        };
        Ok(LookupCode { code: Secret::new(code), used_at: time(entry.get("used_at"))? })
    })
}

fn public_keys(config: &Map<String, Value>) -> Read<Vec<PublicKeyRecord>> {
    each(config, &["credentials"], |entry| {
        let of = |name: &str| entry.get(name).unwrap_or(&Value::Null);
        let public_key = bytes(of("public_key"))?;
        if PublicKey::parse(&public_key).is_err() {
            return malformed("a public key is no COSE key of ES256, EdDSA or RS256");
        }
        let id = bytes(of("id"))?;
        if !(1..=TEXT_BYTES_MAX - 1).contains(&id.len()) {
            return malformed("the id of a key has 1 to 1,023 bytes");
        }
        let authenticator = of("authenticator");
        let counter = authenticator["sign_count"].as_u64().unwrap_or(0);
        let Ok(counter) = u32::try_from(counter) else {
            return malformed("the sign_count of a key is larger than 32 bits");
        };
        let flags = of("flags");
        let flag = |name: &str| flags[name].as_bool().unwrap_or(false);
        let transports = of("transport").as_array().map(Vec::as_slice).unwrap_or_default();
        let transports = transports.iter().filter_map(Value::as_str).filter(|t| t.len() <= 32);
        let name = of("display_name").as_str().unwrap_or_default();
        Ok(PublicKeyRecord {
            id: id.into(),
            public_key: public_key.into(),
            counter,
            name: name.chars().take(64).collect(),
            created_at: time(Some(of("added_at")))?.as_millis(),
            used_at: 0,
            aaguid: match &authenticator["aaguid"] {
                Value::Null => Bytes::new(),
                given => bytes(given)?.into(),
            },
            transports: transports.take(8).map(str::to_owned).collect(),
            backup_eligible: flag("backup_eligible"),
            backed_up: flag("backup_state"),
            // Kratos kept none at first.
            backup_unknown: flags.get("backup_eligible").is_none(),
            // Of passkeys it says nothing: they always are.
            passwordless: of("is_passwordless") == &Value::Bool(true),
        })
    })
}

/// Reads each object of an array that goes by one of these names.
fn each<T>(
    config: &Map<String, Value>,
    names: &[&str],
    read: impl Fn(&Map<String, Value>) -> Read<T>,
) -> Read<Vec<T>> {
    let Some(Value::Array(entries)) = names.iter().find_map(|name| config.get(*name)) else {
        return malformed("the config of a credential lacks its list");
    };
    if entries.len() > EACH_MAX {
        return malformed("an identity has at most 64 credentials of a kind");
    }
    let object = |entry: &Value| match entry {
        Value::Object(entry) => read(entry),
        _ => malformed("what a credential lists is not an object"),
    };
    entries.iter().map(object).collect()
}

/// Bytes as Go writes them, in base64, or as the specification has them, as numbers.
fn bytes(value: &Value) -> Read<Vec<u8>> {
    let read = match value {
        Value::String(text) => STANDARD.decode(text).ok(),
        Value::Array(numbers) => numbers
            .iter()
            .map(|number| number.as_u64().and_then(|number| u8::try_from(number).ok()))
            .collect(),
        _ => None,
    };
    read.ok_or(CredentialsRefused::Malformed("bytes are neither base64 nor an array of numbers"))
}

/// A time; 0 for none, which databases write as null or as the year 1.
fn time(value: Option<&Value>) -> Read<Timestamp> {
    match value {
        None | Some(Value::Null) => Ok(Timestamp(0)),
        Some(Value::String(text)) if text.is_empty() || text.starts_with("0001-") => {
            Ok(Timestamp(0))
        }
        Some(Value::String(text)) => {
            parse_rfc3339(text).ok_or(CredentialsRefused::Malformed("a time is not of RFC 3339"))
        }
        Some(_) => malformed("a time is not a string"),
    }
}
