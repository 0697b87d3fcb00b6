//! Areas: the first byte of every key in a tablet's engine.
//!
//! | area | key behind it | value |
//! |------|---------------|-------|
//! | `00` meta | name | [`State`](super::state::State) |
//! | `01` receipt | request id | envelope with the outcome; expires |
//! | `02` lock | row key | [`LockRow`](super::lock::LockRow) |
//! | `03` prepared | request id | [`Prepared`](super::lock::Prepared) |
//! | `04` decision | request id | [`Decision`](super::decision::Decision) |
//! | `10` row | row key | envelope with the value; may expire |

use bytes::Bytes;

use crate::{row, txn::RequestId};

pub(crate) const META: u8 = 0x00;
pub(crate) const RECEIPT: u8 = 0x01;
pub(crate) const LOCK: u8 = 0x02;
pub(crate) const PREPARED: u8 = 0x03;
pub(crate) const DECISION: u8 = 0x04;
pub(crate) const ROW: u8 = 0x10;

/// The only key of the meta area.
pub(crate) const STATE_KEY: &[u8] = b"\x00state";

/// The engine key of `key` in an area.
pub(crate) fn key(area: u8, key: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(area);
    bytes.extend_from_slice(key);
    bytes.into()
}

/// The engine key of a transaction in an area.
pub(crate) fn txn_key(area: u8, id: RequestId) -> Bytes {
    key(area, &id.0)
}

/// The expiry of an engine pair, in milliseconds: for the compaction filter. Rows
/// and receipts have one; locks, prepared rows and decisions never do.
pub fn expiry(engine_key: &[u8], value: &[u8]) -> Option<u64> {
    match engine_key.first() {
        Some(&ROW | &RECEIPT) => row::expiry_of(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        row::{Revision, Stored},
    };

    #[test]
    fn only_rows_and_receipts_expire() {
        let stored =
            Stored { revision: Revision(1), expires_at: Some(Timestamp(9)), value: Bytes::new() }
                .encode();
        for (area, expected) in [
            (META, None),
            (RECEIPT, Some(9)),
            (LOCK, None),
            (PREPARED, None),
            (DECISION, None),
            (ROW, Some(9)),
        ] {
            assert_eq!(expiry(&[area, 1], &stored), expected, "area {area:02x}");
        }
        assert_eq!(expiry(&[], &stored), None);
    }
}
