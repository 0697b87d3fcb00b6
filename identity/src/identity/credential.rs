//! A password as administrators give it: in clear or already hashed. Other kinds of
//! credentials are read by [`other_credentials`](super::other_credentials), or refused by
//! name.

use std::sync::Arc;

use bytes::Bytes;
use cardea_storage::Secret;
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use super::other_credentials::OtherCredentials;
use crate::{
    Service,
    password::{HashRefused, Overloaded, PasswordHash},
    table::CredentialRecord,
};

/// A password for an identity.
#[derive(Debug, Clone)]
pub enum NewPassword {
    /// In clear; it is hashed here.
    Clear(Secret<String>),
    /// Hashed elsewhere.
    Hashed(Secret<String>),
    /// Known to the server of the password migration hook, and to nobody here.
    Elsewhere,
}

/// Why credentials are not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialsRefused {
    /// They are not what the API says.
    #[error("credentials are malformed: {0}")]
    Malformed(&'static str),
    /// A kind that cannot be imported.
    #[error("credentials of type {0:?} cannot be imported")]
    UnknownKind(String),
    /// An account at a provider that is not configured.
    #[error("there is no provider {0:?} here; it is to be configured first")]
    UnknownProvider(String),
    /// An account at a provider that speaks for many issuers.
    #[error(
        "provider {0:?} has an issuer for each of its tenants; its accounts are linked when they log in"
    )]
    ManyIssuers(String),
    /// The hash is not taken.
    #[error("hashed_password is not accepted: {0}")]
    Hash(#[from] HashRefused),
    /// The password is longer than any may be.
    #[error("the password is longer than {0} bytes")]
    PasswordTooLong(usize),
}

impl NewPassword {
    /// Reads the member `credentials` of a body that updates an identity
    /// (`identityWithCredentials`); `None` if it brings no password.
    ///
    /// # Errors
    /// If it brings something that is not taken, of which is everything else than a
    /// password. A hash is not looked at yet.
    pub fn from_json(credentials: &Value) -> Result<Option<Self>, CredentialsRefused> {
        Self::read(credentials, |_| false)
    }

    /// The same of a body that creates an identity; what
    /// [`read_other_credentials`](Service::read_other_credentials) takes is passed over.
    ///
    /// # Errors
    /// If it brings something that is not taken at all.
    pub fn among(credentials: &Value) -> Result<Option<Self>, CredentialsRefused> {
        Self::read(credentials, OtherCredentials::takes)
    }

    fn read(
        credentials: &Value,
        passes: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>, CredentialsRefused> {
        let malformed = CredentialsRefused::Malformed;
        let object = match credentials {
            Value::Null => return Ok(None),
            Value::Object(object) => object,
            _ => return Err(malformed("credentials is not an object")),
        };
        let given = |(_, value): &(&String, &Value)| !value.is_null();
        if let Some((kind, _)) =
            object.iter().filter(given).find(|(kind, _)| *kind != "password" && !passes(kind))
        {
            return Err(CredentialsRefused::UnknownKind(kind.clone()));
        }
        let config = match object.get("password") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(password)) => password.get("config").unwrap_or(&Value::Null),
            Some(_) => return Err(malformed("credentials.password is not an object")),
        };
        let config = match config {
            Value::Null => return Ok(None),
            Value::Object(config) => config,
            _ => return Err(malformed("credentials.password.config is not an object")),
        };
        let text = |name: &str| match config.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(Secret::new(text.clone()))),
            Some(_) => Err(malformed("a member of credentials.password.config is not a string")),
        };
        let elsewhere = match config.get("use_password_migration_hook") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(elsewhere)) => *elsewhere,
            Some(_) => return Err(malformed("use_password_migration_hook is not a boolean")),
        };
        match (text("password")?, text("hashed_password")?) {
            (None, None) if elsewhere => Ok(Some(Self::Elsewhere)),
            (_, _) if elsewhere => {
                Err(malformed("use_password_migration_hook excludes password and hashed_password"))
            }
            (Some(_), Some(_)) => Err(malformed("password and hashed_password exclude each other")),
            (Some(password), None) => Ok(Some(Self::Clear(password))),
            (None, Some(hash)) => Ok(Some(Self::Hashed(hash))),
            (None, None) => Ok(None),
        }
    }
}

/// Why a password could not be made ready.
#[derive(Debug, Error)]
pub(crate) enum PrepareRejection {
    #[error(transparent)]
    Refused(#[from] CredentialsRefused),
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

impl Service {
    /// Hashes a password, or checks a hash.
    pub(crate) async fn prepare_password(
        &self,
        password: NewPassword,
    ) -> Result<PasswordHash, PrepareRejection> {
        match password {
            NewPassword::Clear(password) => {
                let most = self.settings.password_policy.length_bytes_max;
                if password.expose().len() > most {
                    return Err(CredentialsRefused::PasswordTooLong(most).into());
                }
                let permit = self.passwords.admit()?;
                Ok(self.passwords.hash(&permit, password, self.store.entropy().as_ref()).await?)
            }
            NewPassword::Elsewhere => Ok(PasswordHash::elsewhere()),
            NewPassword::Hashed(text) => {
                let hash = PasswordHash::parse(text.expose()).map_err(CredentialsRefused::from)?;
                if hash.memory_bytes() > self.settings.pool.memory_bytes_max {
                    let refused = HashRefused::TooCostly {
                        form: "imported",
                        reason: "no more memory than this cluster gives to hashing",
                    };
                    return Err(CredentialsRefused::from(refused).into());
                }
                Ok(hash)
            }
        }
    }

    /// Puts a hash into a credential: argon2id as it is; weaker forms sealed, until
    /// the next login replaces them.
    pub(crate) fn store_hash(
        &self,
        identity: Uuid,
        hash: &PasswordHash,
        record: &mut CredentialRecord,
    ) {
        if hash.is_argon2id() {
            record.password_hash = hash.as_str().to_owned();
            record.imported_hash = Bytes::new();
        } else {
            let entropy = self.store.entropy().as_ref();
            let plain = hash.as_str().as_bytes();
            record.imported_hash = self.keys.seal.seal(entropy, &sealed_for(identity), plain);
            record.password_hash.clear();
        }
    }

    /// The hash that a credential is checked by, if it has one.
    pub(crate) fn read_hash(
        &self,
        identity: Uuid,
        record: &CredentialRecord,
    ) -> Option<Arc<PasswordHash>> {
        if !record.password_hash.is_empty() {
            return PasswordHash::parse(&record.password_hash).ok().map(Arc::new);
        }
        if record.imported_hash.is_empty() {
            return None;
        }
        let opened = self.keys.seal.open(&sealed_for(identity), &record.imported_hash);
        let Ok(plain) = opened else {
            tracing::error!(%identity, "an imported password hash does not open; its key is gone");
            return None;
        };
        let text = std::str::from_utf8(plain.expose()).ok()?;
        PasswordHash::kept(text).ok().map(Arc::new)
    }
}

fn sealed_for(identity: Uuid) -> String {
    format!("imported password hash of {identity}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_read_or_refused_by_name() {
        let clear = NewPassword::from_json(&json!({"password": {"config": {"password": "x"}}}));
        assert!(matches!(clear, Ok(Some(NewPassword::Clear(_)))));
        let hashed =
            NewPassword::from_json(&json!({"password": {"config": {"hashed_password": "x"}}}));
        assert!(matches!(hashed, Ok(Some(NewPassword::Hashed(_)))));
        for none in [
            json!(null),
            json!({}),
            json!({"oidc": null}),
            json!({"password": {}}),
            json!({"password": {"config": {"password": ""}}}),
        ] {
            assert!(matches!(NewPassword::from_json(&none), Ok(None)), "{none}");
        }
        let elsewhere = json!({"password": {"config": {"use_password_migration_hook": true}}});
        assert!(matches!(NewPassword::from_json(&elsewhere), Ok(Some(NewPassword::Elsewhere))));
        let refused = |value: Value| NewPassword::from_json(&value).unwrap_err().to_string();
        assert_eq!(
            refused(json!({"oidc": {"config": {}}})),
            "credentials of type \"oidc\" cannot be imported"
        );
        for malformed in [
            json!([]),
            json!({"password": "x"}),
            json!({"password": {"config": 1}}),
            json!({"password": {"config": {"password": 1}}}),
            json!({"password": {"config": {"password": "a", "hashed_password": "b"}}}),
            json!({"password": {"config": {"use_password_migration_hook": 1}}}),
            json!({"password": {"config": {"use_password_migration_hook": true, "password": "x"}}}),
        ] {
            assert!(
                refused(malformed.clone()).starts_with("credentials are malformed"),
                "{malformed}"
            );
        }
    }
}
