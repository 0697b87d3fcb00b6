//! What the tables of outboxes have in common: rows that wait to be sent, an index of
//! those that wait by when they are due, and one of all by time of creation. A row lies
//! in the [lane](super::lane) of what brought it about.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Slot, Table, TableKey, Tag, Tenant,
    key::{KeyRange, KeyReader, KeyWriter},
};
use prost::Message as Prost;
use uuid::Uuid;

use crate::outbox::tally::{Tallies, Tally};

/// A table of what is to be sent. Its rows have [`index_rows`] as theirs.
pub trait Outbox: Table<Key = PostKey, Record: Posted> {
    /// The tag of its index of what waits.
    const DUE: Tag;
    /// The tag of its index by creation.
    const BY_CREATION: Tag;
    /// What its bodies are sealed for, beside the id. Rows on disk depend on it.
    const NAME: &'static str;
    /// Whether what was given up keeps its body, so that it can be tried again by hand.
    const ABANDONED_KEEPS_BODY: bool;
    /// How often a row is tried.
    const TRIES_MAX: u32;

    /// Where it is counted what became of its rows.
    fn tally(all: &Tallies) -> &Tally;
}

/// A record of an outbox.
pub trait Posted {
    /// What it has in common with all others.
    fn standing(&self) -> Standing;

    /// Replaces that.
    fn stand(&mut self, standing: Standing);

    /// Keeps the status of an answer; 0 for none.
    fn answered(&mut self, _status: u32) {}
}

/// How a row of an outbox stands; all times in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// [`QUEUED`], [`SENT`] or [`ABANDONED`].
    pub status: u32,
    /// What is to be sent, or what it is made of, sealed; empty once it was erased.
    pub body: Bytes,
    /// When it was written.
    pub created_at: u64,
    /// When it was changed last.
    pub updated_at: u64,
    /// How often sending it was begun.
    pub tries: u32,
    /// When it is due, or due again if whoever is sending it does not come back.
    pub due_at: u64,
    /// Drawn by whoever is sending it; empty if nobody is.
    pub claim: Bytes,
    /// Why it was not sent the last time.
    pub last_error: String,
}

/// See [`Standing::status`]: it waits, or is being sent.
pub const QUEUED: u32 = 1;
/// See [`Standing::status`]: it was taken.
pub const SENT: u32 = 2;
/// See [`Standing::status`]: it was given up.
pub const ABANDONED: u32 = 3;

key_of_id! {
    /// The key of a row. Its id lies in a lane.
    PostKey {
        /// The row.
        id
    }
}

/// The index rows of a row.
pub fn index_rows<T: Outbox>(key: &PostKey, record: &T::Record) -> Vec<IndexRow> {
    let (PostKey { tenant, id }, standing) = (*key, record.standing());
    let due = DueKey { tenant, due_at: standing.due_at, id };
    let due = IndexRow { key: Due::<T>::key(&due), value: Bytes::new() };
    let listed = ByCreationKey { tenant, created_at: standing.created_at, id };
    let listed = IndexRow { key: ByCreation::<T>::key(&listed), value: Bytes::new() };
    let waits = standing.status == QUEUED;
    [listed].into_iter().chain(waits.then_some(due)).collect()
}

/// Nothing: the key of an index row says it all.
#[derive(Clone, Copy, PartialEq, Eq, Prost)]
pub struct Mark {}

/// `…_due/<due_at>/<id>`: what waits.
pub struct Due<T>(PhantomData<fn() -> T>);

/// The key of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueKey {
    /// Whose.
    pub tenant: Tenant,
    /// When it is due; milliseconds.
    pub due_at: u64,
    /// The row.
    pub id: Uuid,
}

impl<T: Outbox> Due<T> {
    /// What waits in a lane, of all tenants.
    pub fn lane(lane: Slot) -> KeyRange {
        let mut prefix = lane.bits().to_be_bytes().to_vec();
        prefix.extend_from_slice(&T::DUE.0.to_be_bytes());
        KeyRange::prefix(&prefix)
    }
}

impl<T> fmt::Debug for Due<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Due")
    }
}

impl TableKey for DueKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.id)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64(self.due_at).uuid(&self.id);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, due_at: rest.u64()?, id: rest.uuid()? })
    }
}

impl<T: Outbox> Table for Due<T> {
    const TAG: Tag = T::DUE;
    type Key = DueKey;
    type Record = Mark;
}

/// `…_by_creation/<created_at>/<id>`: the newest first.
pub struct ByCreation<T>(PhantomData<fn() -> T>);

/// The key of a row in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByCreationKey {
    /// Whose.
    pub tenant: Tenant,
    /// When it was written; milliseconds.
    pub created_at: u64,
    /// The row.
    pub id: Uuid,
}

impl<T> fmt::Debug for ByCreation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByCreation")
    }
}

impl TableKey for ByCreationKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.id)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64_descending(self.created_at).uuid(&self.id);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, created_at: rest.u64_descending()?, id: rest.uuid()? })
    }
}

impl<T: Outbox> Table for ByCreation<T> {
    const TAG: Tag = T::BY_CREATION;
    type Key = ByCreationKey;
    type Record = Mark;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{hook_call::HookCalls, message::Messages};

    fn what_waits_is_due<T: Outbox>(frozen: [&str; 3]) {
        let key = PostKey { tenant: Tenant(3), id: Uuid::from_u128(7) };
        let mut record = T::Record::default();
        record.stand(Standing { status: QUEUED, due_at: 5, created_at: 2, ..Standing::default() });
        let hex = |key: &cardea_storage::Key| -> String {
            key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let rows = T::index_rows(&key, &record);
        let mut keys = vec![hex(&T::key(&key))];
        keys.extend(rows.iter().map(|row| hex(&row.key)));
        assert_eq!(keys, frozen);
        for over in [SENT, ABANDONED] {
            let standing = Standing { status: over, ..record.standing() };
            record.stand(standing);
            assert_eq!(T::index_rows(&key, &record).len(), 1);
        }
    }

    /// Each outbox had tables of its own before; their rows are read.
    #[test]
    fn keys_are_frozen_and_what_waits_is_found_by_when_it_is_due() {
        const TAIL: &str = "00000000000000000000000000000007";
        what_waits_is_due::<Messages>([
            &format!("0fc6030b00000003{TAIL}"),
            &format!("0fc6030d00000003fffffffffffffffd{TAIL}"),
            &format!("0fc6030c000000030000000000000005{TAIL}"),
        ]);
        what_waits_is_due::<HookCalls>([
            &format!("0fc6032000000003{TAIL}"),
            &format!("0fc6032200000003fffffffffffffffd{TAIL}"),
            &format!("0fc60321000000030000000000000005{TAIL}"),
        ]);
    }
}
