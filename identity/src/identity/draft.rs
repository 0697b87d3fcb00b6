//! What creating and changing an identity have in common: traits are checked by
//! their schema, identifiers claimed in the index, addresses carried over.

use std::sync::Arc;

use bytes::Bytes;
use cardea_storage::{Consistency, StoreError, Table as _, Timestamp, Transaction};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    Service,
    model::Scope,
    schema::{self, Channel, IdentitySchema},
    session::CredentialKind,
    table::{
        AddressIndexKey, AddressIndexRecord, AddressRecord, CredentialIdentifierKey,
        CredentialIdentifiers, ExternalIdKey, ExternalIds, IdentityRecord, RecoveryAddresses,
        VerifiableAddresses, id_bytes,
    },
};

/// Somebody else has an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken;

impl Service {
    /// The schema of that name; the default one for an empty name.
    pub(crate) fn schema(&self, id: &str) -> Option<Arc<IdentitySchema>> {
        self.schemas().get(id).cloned()
    }

    /// The same, where it may have been put in force a moment ago.
    pub(crate) async fn newest_schema(
        &self,
        id: &str,
    ) -> Result<Option<Arc<IdentitySchema>>, StoreError> {
        if let Some(schema) = self.schema(id) {
            return Ok(Some(schema));
        }
        self.refresh_schemas(Consistency::Strong).await?;
        Ok(self.schema(id))
    }

    /// Reads who has these identifiers, with checks, so that of two that claim one
    /// at once exactly one commits. Gives the digests to file them under.
    ///
    /// Those filed under a digest that the identity's own record `holds`, read with a
    /// check, are its own: only a transaction that changes that record gives them up.
    /// They are not read, so that a change of other things stays where the identity lives.
    pub(crate) async fn claim(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: Uuid,
        kind: CredentialKind,
        identifiers: &[String],
        holds: &[Bytes],
    ) -> Result<Result<Vec<Bytes>, Taken>, StoreError> {
        let mut keys = Vec::new();
        let mut filed = Vec::new();
        for identifier in identifiers {
            let digests = self.identifier_digests(scope.tenant, identifier);
            let first = digests.first().map(|digest| Bytes::copy_from_slice(digest));
            let is_held = first.as_ref().is_some_and(|first| holds.contains(first));
            filed.extend(first);
            if is_held {
                continue;
            }
            keys.extend(digests.into_iter().map(|digest| CredentialIdentifierKey {
                tenant: scope.tenant,
                digest,
                kind: kind.number(),
            }));
        }
        let holders = t.get_many::<CredentialIdentifiers>(&keys).await?;
        let taken = holders.iter().flatten().any(|holder| holder.record.id() != identity);
        Ok(if taken { Err(Taken) } else { Ok(filed) })
    }

    /// Reads who has an external id, as [`claim`](Self::claim) does with identifiers.
    /// Gives the digest to file it under: nothing for an empty one.
    pub(crate) async fn claim_external(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: Uuid,
        external_id: &str,
        holds: &Bytes,
    ) -> Result<Result<Bytes, Taken>, StoreError> {
        if external_id.is_empty() {
            return Ok(Ok(Bytes::new()));
        }
        let digests = self.external_digests(scope.tenant, external_id);
        let filed = digests.first().map(|digest| Bytes::copy_from_slice(digest));
        if filed.as_ref() == Some(holds) {
            return Ok(Ok(holds.clone()));
        }
        let keys: Vec<_> = digests
            .into_iter()
            .map(|digest| ExternalIdKey { tenant: scope.tenant, digest })
            .collect();
        let holders = t.get_many::<ExternalIds>(&keys).await?;
        let taken = holders.iter().flatten().any(|holder| holder.record.id() != identity);
        Ok(if taken { Err(Taken) } else { Ok(filed.unwrap_or_default()) })
    }

    /// The addresses that traits give: one that was there before keeps its id and
    /// whether it was verified; a new one is not verified, whoever says so.
    pub(crate) fn carry_over(
        &self,
        scope: Scope,
        found: &[schema::Address],
        before: &[AddressRecord],
        now: Timestamp,
    ) -> Vec<AddressRecord> {
        found
            .iter()
            .map(|address| {
                let via = via_number(address.via);
                let known = before.iter().find(|b| b.via == via && b.value == address.value);
                let record = known.cloned().unwrap_or_else(|| AddressRecord {
                    id: id_bytes(&self.mint()),
                    via,
                    value: address.value.clone(),
                    created_at: now.as_millis(),
                    updated_at: now.as_millis(),
                    ..AddressRecord::default()
                });
                let digests = self.address_digests(scope.tenant, via, &record.value);
                let digest = digests.first().map(|digest| Bytes::copy_from_slice(digest));
                AddressRecord { digest: digest.unwrap_or_default(), ..record }
            })
            .collect()
    }

    /// Reads who has these addresses, with checks, but for those that `before`
    /// [holds](Self::claim) in the same role.
    pub(crate) async fn claim_addresses(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: Uuid,
        found: &schema::Extracted,
        before: Option<&IdentityRecord>,
    ) -> Result<Result<(), Taken>, StoreError> {
        let keys = |addresses: &[schema::Address], held: &[AddressRecord]| {
            let is_held = |digest: &[u8]| held.iter().any(|address| address.digest == digest);
            let mut keys = Vec::new();
            for address in addresses {
                let via = via_number(address.via);
                let digests = self.address_digests(scope.tenant, via, &address.value);
                if !digests.first().is_some_and(|first| is_held(first)) {
                    keys.extend(digests);
                }
            }
            keys.into_iter().map(|digest| AddressIndexKey { tenant: scope.tenant, digest })
        };
        let of = |role: fn(&IdentityRecord) -> &Vec<AddressRecord>| {
            before.map(role).map(Vec::as_slice).unwrap_or_default()
        };
        let rows: Vec<_> = keys(&found.verifiable, of(|record| &record.verifiable))
            .map(|key| VerifiableAddresses::key(&key))
            .chain(
                keys(&found.recovery, of(|record| &record.recovery))
                    .map(|key| RecoveryAddresses::key(&key)),
            )
            .collect();
        for row in t.rows(&rows, true).await?.into_iter().flatten() {
            // Both tables have the same records.
            let holder = AddressIndexRecord::decode(row.value.as_ref()).unwrap_or_default();
            if holder.id() != identity {
                return Ok(Err(Taken));
            }
        }
        Ok(Ok(()))
    }
}

/// The number of a channel on disk.
pub(crate) const fn via_number(via: Channel) -> u32 {
    match via {
        Channel::Email => 1,
        Channel::Sms => 2,
    }
}
