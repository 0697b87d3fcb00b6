//! Rows, put into transactions.

use bytes::Bytes;
use cardea_storage::{
    Row,
    protocol::shards::ShardId,
    store::Draft,
    txn::{Effect, Op, Put},
};

/// Bytes of rows in one transaction, about.
const DRAFT_BYTES: usize = 256 << 10;
/// Rows in one transaction.
const DRAFT_ROWS: usize = 1_000;

/// Packs rows into transactions of one shard each.
#[derive(Default)]
pub(super) struct Packer {
    shard: Option<ShardId>,
    draft: Draft,
    bytes: usize,
}

impl Packer {
    /// Takes a row; gives back what was full before it.
    pub(super) fn put(&mut self, row: &Row, value: Bytes, shard: ShardId) -> Option<Draft> {
        let size = row.key.as_bytes().len() + value.len();
        let is_full = self.bytes + size > DRAFT_BYTES || self.draft.ops.len() >= DRAFT_ROWS;
        let full = if is_full || self.shard != Some(shard) { self.end() } else { None };
        self.shard = Some(shard);
        self.bytes += size;
        let put = Put {
            key: row.key.as_bytes().clone(),
            value,
            expires_at: row.expires_at.map_or(0, |at| at.0),
        };
        self.draft.ops.push(Op { effect: Some(Effect::Put(put)) });
        full
    }

    /// Gives back what is left.
    pub(super) fn end(&mut self) -> Option<Draft> {
        self.bytes = 0;
        let draft = std::mem::take(&mut self.draft);
        (!draft.ops.is_empty()).then_some(draft)
    }
}
