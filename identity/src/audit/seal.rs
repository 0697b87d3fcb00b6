//! Seals: what a lane's events of a stretch of time were, chained. A seal is made once no
//! transaction can add to its stretch any more, by whichever node comes first; one without
//! events is not made, and the next one covers its stretch too.

use std::time::Duration;

use bytes::Bytes;
use cardea_storage::{
    Consistency, KeyRange, Slot, StoreError, Table, Tenant, Timestamp, engine::Order,
    key::KeyWriter,
};
use prost::Message as _;

use super::is_link;
use crate::{
    Service,
    table::{
        audit::{
            AuditEventByTimeKey, AuditEventsByTime, AuditLinkRecord, AuditSealKey, AuditSealRecord,
            AuditSeals,
        },
        lane::lanes,
    },
};

/// The stretch that a seal ends with a multiple of.
pub const STRETCH: Duration = Duration::from_secs(3600);
/// How long after its end a stretch is left alone: far longer than a transaction that read
/// the time within it may take to commit, and than clocks may differ.
pub const SETTLED: Duration = Duration::from_secs(120);
/// Events that are read at once.
const AT_ONCE: u32 = 1000;

/// A seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The lane.
    pub lane: u16,
    /// Whose events.
    pub tenant: Tenant,
    /// From when.
    pub from: Timestamp,
    /// Until when, excluded.
    pub until: Timestamp,
    /// How many.
    pub events: u64,
    /// What it is chained by.
    pub link: Vec<u8>,
}

impl Service {
    /// Seals what can be sealed and is not yet, in all lanes and for all tenants.
    ///
    /// # Errors
    /// See [`StoreError`]; what was sealed before stays so.
    pub async fn seal_audit(&self) -> Result<Vec<Sealed>, StoreError> {
        let stretch = u64::try_from(STRETCH.as_millis()).unwrap_or(u64::MAX);
        let settled = u64::try_from(SETTLED.as_millis()).unwrap_or(u64::MAX);
        let until = self.now().as_millis().saturating_sub(settled) / stretch * stretch;
        let mut sealed = Vec::new();
        for lane in lanes() {
            for tenant in self.audited_tenants(lane).await? {
                sealed.extend(self.seal_lane(lane, tenant, until).await?);
            }
        }
        Ok(sealed)
    }

    /// The tenants that have events in a lane. Skips from one to the next.
    async fn audited_tenants(&self, lane: Slot) -> Result<Vec<Tenant>, StoreError> {
        let view = self.store.view(Consistency::Eventual);
        let mut tenants = Vec::new();
        let mut next = Some(Tenant(0));
        while let Some(tenant) = next {
            let first = KeyWriter::new(lane, AuditEventsByTime::TAG, tenant).range();
            let last = KeyWriter::new(lane, AuditEventsByTime::TAG, Tenant(u32::MAX)).range();
            let range = KeyRange { start: first.start, end: last.end };
            let (found, _) = view.peek_range::<AuditEventsByTime>(range, 1, Order::Forward).await?;
            let Some(found) = found.first() else { break };
            tenants.push(found.key.tenant);
            next = found.key.tenant.0.checked_add(1).map(Tenant);
        }
        Ok(tenants)
    }

    /// Seals a lane up to a time, if it has events that no seal covers.
    async fn seal_lane(
        &self,
        lane: Slot,
        tenant: Tenant,
        until: u64,
    ) -> Result<Option<Sealed>, StoreError> {
        let view = self.store.view(Consistency::Strong);
        let seals = AuditSeals::slot_range(lane, tenant);
        let (last, _) = view.peek_range::<AuditSeals>(seals, 1, Order::Forward).await?;
        let last = last.into_iter().next();
        let from = match &last {
            Some(last) => last.key.until,
            None => self.oldest_stretch(lane, tenant).await?,
        };
        if from >= until {
            return Ok(None);
        }
        let (events, root) = self.root(lane, tenant, (from, until)).await?;
        if events == 0 {
            return Ok(None);
        }
        let key = AuditSealKey { lane, tenant, until };
        let followed = last.as_ref().map_or(0, |last| last.key.until);
        let previous = last.map(|last| last.record.link).unwrap_or_default();
        let mut record = AuditSealRecord {
            from,
            events,
            root: root.to_vec().into(),
            previous,
            link: Bytes::new(),
        };
        record.link = Bytes::copy_from_slice(&self.keys.audit.digest(&linked(&key, &record)));
        let sealed = Sealed {
            lane: lane.number(),
            tenant,
            from: Timestamp(from),
            until: Timestamp(until),
            events,
            link: record.link.to_vec(),
        };
        let record = &record;
        let made = self
            .store
            .transact(|t| async move {
                // Another node may have been faster.
                let seals = AuditSeals::slot_range(lane, tenant);
                let (newest, _) = t.scan::<AuditSeals>(seals, 1, Order::Forward).await?;
                if newest.first().map_or(0, |newest| newest.key.until) != followed {
                    return Ok(false);
                }
                let kept = t.now().after(self.settings.audit_retention);
                t.put::<AuditSeals>(&key, record, Some(kept)).await?;
                Ok::<_, StoreError>(true)
            })
            .await?;
        Ok(made.value.then_some(sealed))
    }

    /// The beginning of the stretch of a lane's oldest event; the end of time if it has
    /// none.
    async fn oldest_stretch(&self, lane: Slot, tenant: Tenant) -> Result<u64, StoreError> {
        let view = self.store.view(Consistency::Strong);
        let range = AuditEventsByTime::slot_range(lane, tenant);
        let (oldest, _) = view.peek_range::<AuditEventsByTime>(range, 1, Order::Reverse).await?;
        let stretch = u64::try_from(STRETCH.as_millis()).unwrap_or(u64::MAX);
        Ok(oldest.first().map_or(u64::MAX, |oldest| oldest.key.at / stretch * stretch))
    }

    /// How many events a lane has of a stretch, and the digest of their places and links,
    /// the latest first.
    async fn root(
        &self,
        lane: Slot,
        tenant: Tenant,
        (from, until): (u64, u64),
    ) -> Result<(u64, [u8; 32]), StoreError> {
        let view = self.store.view(Consistency::Strong);
        let at = |at: u64| {
            AuditEventsByTime::range(lane, tenant, |key| {
                key.u64_descending(at);
            })
        };
        // Times descend: the latest one before the end comes first.
        let mut range = KeyRange { start: at(until.saturating_sub(1)).start, end: at(from).end };
        let mut digest = blake3::Hasher::new();
        let mut events = 0;
        loop {
            let rows = view.scan_rows(range.clone(), AT_ONCE, Order::Forward, false).await?;
            for row in &rows.rows {
                let entry = AuditEventsByTime::decode(row)?;
                let AuditEventByTimeKey { at, identity, sequence, .. } = entry.key;
                let AuditLinkRecord { link } = entry.record;
                digest.update(&at.to_be_bytes());
                digest.update(identity.as_bytes());
                digest.update(&sequence.to_be_bytes());
                digest.update(&link);
                events += 1;
            }
            match rows.rows.last().filter(|_| rows.more) {
                Some(last) => range.start = last.key.successor(),
                None => return Ok((events, *digest.finalize().as_bytes())),
            }
        }
    }

    /// The seals of a lane that do not hold, the latest first, and how many hold. A seal
    /// whose events have begun to expire is only checked as a link.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn verify_seals(
        &self,
        lane: Slot,
        tenant: Tenant,
    ) -> Result<(Vec<Timestamp>, u64), StoreError> {
        let view = self.store.view(Consistency::Strong);
        let range = AuditSeals::slot_range(lane, tenant);
        let (seals, _) = view.peek_range::<AuditSeals>(range, 10_000, Order::Forward).await?;
        let retained = self.now().as_millis().saturating_sub(
            u64::try_from(self.settings.audit_retention.as_millis()).unwrap_or(u64::MAX),
        );
        let (mut broken, mut holding) = (Vec::new(), 0);
        for (at, seal) in seals.iter().enumerate() {
            let record = &seal.record;
            let mut holds = is_link(&self.keys.audit, &linked(&seal.key, record), &record.link);
            if let Some(before) = seals.get(at + 1) {
                holds &= record.previous == before.record.link && record.from == before.key.until;
            }
            if record.from > retained {
                let (events, root) = self.root(lane, tenant, (record.from, seal.key.until)).await?;
                holds &= events == record.events && root.as_slice() == record.root;
            }
            if holds { holding += 1 } else { broken.push(Timestamp(seal.key.until)) }
        }
        Ok((broken, holding))
    }
}

fn linked(key: &AuditSealKey, record: &AuditSealRecord) -> Vec<u8> {
    let mut bytes = b"seal".to_vec();
    bytes.extend_from_slice(&key.lane.bits().to_be_bytes());
    bytes.extend_from_slice(&key.tenant.0.to_be_bytes());
    bytes.extend_from_slice(&key.until.to_be_bytes());
    let bare = AuditSealRecord { link: Bytes::new(), ..record.clone() };
    bytes.extend_from_slice(&bare.encode_to_vec());
    bytes
}
