//! The credentials of an identity together: what it may log in by, and whether it has a
//! second factor. Whoever writes a credential that is one keeps that known in the
//! identity's own record, which is all that checking a session reads.

use std::collections::BTreeMap;

use cardea_storage::{Entry, Slot, StoreError, Table as _, Transaction, engine::Order};
use uuid::Uuid;

use crate::{
    Service,
    model::Scope,
    session::CredentialKind,
    table::{CredentialKey, CredentialRecord, Credentials, PublicKeyRecord},
};

/// More kinds than there are.
const KINDS_MAX: u32 = 64;

/// The credentials of an identity.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Factors(BTreeMap<CredentialKind, CredentialRecord>);

impl Factors {
    /// Those among what was read; kinds that this version does not know are left out.
    pub(crate) fn of(found: &[Entry<Credentials>]) -> Self {
        let kind = |entry: &Entry<Credentials>| CredentialKind::from_number(entry.key.kind);
        let known = found.iter().filter_map(|entry| Some((kind(entry)?, entry.record.clone())));
        Self(known.collect())
    }

    pub(crate) fn get(&self, kind: CredentialKind) -> Option<&CredentialRecord> {
        self.0.get(&kind)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CredentialKind, &CredentialRecord)> {
        self.0.iter().map(|(kind, record)| (*kind, record))
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = CredentialKind> {
        self.0.keys().copied()
    }

    pub(crate) fn set(&mut self, kind: CredentialKind, record: CredentialRecord) {
        self.0.insert(kind, record);
    }

    pub(crate) fn remove(&mut self, kind: CredentialKind) -> Option<CredentialRecord> {
        self.0.remove(&kind)
    }

    /// Whether it can be logged in by that.
    pub(crate) fn has(&self, kind: CredentialKind) -> bool {
        let Some(record) = self.get(kind) else { return false };
        match kind {
            CredentialKind::Password => {
                !record.password_hash.is_empty() || !record.imported_hash.is_empty()
            }
            CredentialKind::Totp => !record.totp_seed.is_empty(),
            CredentialKind::LookupSecret => !record.lookup_codes.is_empty(),
            CredentialKind::Webauthn | CredentialKind::Passkey => !record.keys.is_empty(),
            CredentialKind::Code | CredentialKind::Oidc | CredentialKind::CodeRecovery => true,
        }
    }

    /// The second factors that there are.
    pub(crate) fn second(&self) -> impl Iterator<Item = CredentialKind> {
        let kinds = [CredentialKind::Totp, CredentialKind::LookupSecret, CredentialKind::Webauthn];
        let is_second = |kind: CredentialKind| match kind {
            CredentialKind::Webauthn => self.security_keys(false).next().is_some(),
            _ => self.has(kind),
        };
        kinds.into_iter().filter(move |kind| is_second(*kind))
    }

    /// The security keys that log in alone, or those that do not.
    pub(crate) fn security_keys(
        &self,
        passwordless: bool,
    ) -> impl Iterator<Item = &PublicKeyRecord> {
        let record = self.get(CredentialKind::Webauthn);
        let keys = record.map(|record| record.keys.as_slice()).unwrap_or_default();
        keys.iter().filter(move |key| key.passwordless == passwordless)
    }

    /// Whether there is a second factor.
    pub(crate) fn has_second(&self) -> bool {
        self.second().next().is_some()
    }

    /// How many ways there are to log in: each passkey is one, each security key that needs
    /// no password, and each account at another provider.
    pub(crate) fn ways_in(&self) -> usize {
        let passkeys = self.get(CredentialKind::Passkey).map_or(0, |record| record.keys.len());
        let linked = self.get(CredentialKind::Oidc).map_or(0, |record| record.identifiers.len());
        let others = [CredentialKind::Password, CredentialKind::Code];
        let alone = self.security_keys(true).count();
        passkeys + alone + linked + others.into_iter().filter(|kind| self.has(*kind)).count()
    }
}

impl Service {
    /// Reads the credentials of an identity. The read is not checked at commit: who
    /// writes one checks the identity's own row.
    pub(crate) async fn factors_of(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: Uuid,
    ) -> Result<Factors, StoreError> {
        let range = Credentials::range(Slot::of_id(&identity), scope.tenant, |key| {
            key.uuid(&identity);
        });
        let (found, _) = t.peek_range::<Credentials>(range, KINDS_MAX, Order::Forward).await?;
        Ok(Factors::of(&found))
    }

    /// Reads them so that the transaction conflicts with whatever changes one: of two ways
    /// in that are taken away at once, one stays.
    pub(crate) async fn checked_factors(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: Uuid,
    ) -> Result<Factors, StoreError> {
        let mut checked = Factors::default();
        for kind in self.factors_of(t, scope, identity).await?.kinds() {
            let key = CredentialKey { tenant: scope.tenant, identity, kind: kind.number() };
            if let Some(entry) = t.get::<Credentials>(&key).await? {
                checked.set(kind, entry.record);
            }
        }
        Ok(checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::LookupCodeRecord;

    #[test]
    fn credentials_without_a_secret_are_no_factors() {
        let mut factors = Factors::default();
        for kind in [
            CredentialKind::Password,
            CredentialKind::Totp,
            CredentialKind::LookupSecret,
            CredentialKind::Webauthn,
            CredentialKind::Passkey,
        ] {
            factors.set(kind, CredentialRecord::default());
            assert!(!factors.has(kind), "{kind:?}");
        }
        assert!(!factors.has_second());
        assert_eq!(factors.ways_in(), 0);
    }

    #[test]
    fn keys_that_log_in_alone_are_ways_in_and_no_second_factor() {
        let mut factors = Factors::default();
        let keys = vec![PublicKeyRecord::default(), PublicKeyRecord::default()];
        let record = CredentialRecord { keys, ..CredentialRecord::default() };
        factors.set(CredentialKind::Passkey, record.clone());
        assert_eq!((factors.ways_in(), factors.has_second()), (2, false));
        factors.set(CredentialKind::Webauthn, record);
        assert_eq!((factors.ways_in(), factors.has_second()), (2, true));
        let alone = PublicKeyRecord { passwordless: true, ..PublicKeyRecord::default() };
        let record = CredentialRecord { keys: vec![alone], ..CredentialRecord::default() };
        factors.set(CredentialKind::Webauthn, record);
        assert_eq!((factors.ways_in(), factors.has_second()), (3, false));
        factors.remove(CredentialKind::Webauthn);
        let lookup_codes = vec![LookupCodeRecord::default()];
        let record = CredentialRecord { lookup_codes, ..CredentialRecord::default() };
        factors.set(CredentialKind::LookupSecret, record);
        assert!(factors.has_second());
        let password_hash = "$argon2id$".to_owned();
        let record = CredentialRecord { password_hash, ..CredentialRecord::default() };
        factors.set(CredentialKind::Password, record);
        assert_eq!(factors.ways_in(), 3);
    }
}
