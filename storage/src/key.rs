//! Keys: slot, tag, tenant, and the rest in an encoding whose byte order is the
//! order of the values.
//!
//! | part   | bytes |
//! |--------|-------|
//! | slot   | 2, big-endian |
//! | tag    | 2, big-endian |
//! | tenant | 4, big-endian; 0 by default |
//! | rest   | numbers big-endian, signed ones with the sign bit turned, UUIDs as they are, strings escaped: `00` becomes `00 ff`, and `00 01` ends them |

use std::fmt;

use bytes::Bytes;
use uuid::Uuid;

use crate::{slot::Slot, tag::Tag};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 2048;

const HEADER: usize = 8;
const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const TERMINATOR: u8 = 0x01;

/// Whose data a key holds; it comes from the host name or the API key of a
/// request, never from its body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(pub u32);

/// The key of a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Takes encoded bytes back; `None` if they have no valid header or are too
    /// long.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        if bytes.len() < HEADER || bytes.len() > KEY_BYTES_MAX {
            return None;
        }
        Slot::from_bits(u16::from_be_bytes([bytes[0], bytes[1]]))?;
        Some(Self(bytes))
    }

    /// The slot it lies in.
    pub fn slot(&self) -> Slot {
        slot_of(&self.0).unwrap_or(Slot::DIRECTORY)
    }

    /// The table it belongs to.
    pub fn tag(&self) -> Tag {
        Tag(u16::from_be_bytes([self.0[2], self.0[3]]))
    }

    /// Whose it is.
    pub fn tenant(&self) -> Tenant {
        Tenant(u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]]))
    }

    /// All its bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Reads the part behind the header.
    pub fn reader(&self) -> KeyReader<'_> {
        KeyReader { rest: &self.0[HEADER..] }
    }

    /// The smallest key after this one.
    pub fn successor(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        bytes.into()
    }
}

/// The slot at the beginning of a key's bytes; `None` if there is none.
pub fn slot_of(key: &[u8]) -> Option<Slot> {
    let head = key.get(..2)?;
    Slot::from_bits(u16::from_be_bytes([head[0], head[1]]))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Key {
    /// Slot, table and tenant, then the rest in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.slot(), self.tag())?;
        if self.tenant() != Tenant::default() {
            write!(f, " tenant={}", self.tenant().0)?;
        }
        f.write_str(" ")?;
        self.0[HEADER..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Keys from `start` up to, not including, `end`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key that may be in the range.
    pub start: Bytes,
    /// The first key behind it.
    pub end: Bytes,
}

impl KeyRange {
    /// Everything that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(prefix), end: after_prefix(prefix) }
    }

    /// Whether a key lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && key < self.end.as_ref()
    }

    /// Its slot, if it lies within one.
    pub fn slot(&self) -> Option<Slot> {
        let slot = slot_of(&self.start)?;
        let last = slot.bits().checked_add(1)?.to_be_bytes();
        (self.start < self.end && self.end.as_ref() <= last.as_slice()).then_some(slot)
    }

    /// The tag of all its keys, if they lie in one slot and have one tag.
    pub fn tag(&self) -> Option<Tag> {
        let (kind, _) = self.start.split_first_chunk::<4>()?;
        let within = self.start < self.end && self.end <= after_prefix(kind);
        within.then(|| Tag(u16::from_be_bytes([kind[2], kind[3]])))
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}..{:02x?}", self.start.as_ref(), self.end.as_ref())
    }
}

/// The first bytes after everything that begins with `prefix`.
fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0xff; HEADER])
}

/// Builds a key, or the beginning of one.
#[derive(Debug, Clone)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// Begins with slot, tag and tenant.
    pub fn new(slot: Slot, tag: Tag, tenant: Tenant) -> Self {
        let mut bytes = Vec::with_capacity(96);
        bytes.extend_from_slice(&slot.bits().to_be_bytes());
        bytes.extend_from_slice(&tag.0.to_be_bytes());
        bytes.extend_from_slice(&tenant.0.to_be_bytes());
        Self(bytes)
    }

    /// A byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Eight bytes, big-endian, with the sign bit turned.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.u64(value.cast_unsigned() ^ (1 << 63))
    }

    /// Eight bytes that order the later before the earlier.
    pub fn u64_descending(&mut self, value: u64) -> &mut Self {
        self.u64(!value)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: &Uuid) -> &mut Self {
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    /// A number of bytes fixed by the table, as they are.
    pub fn fixed<const N: usize>(&mut self, value: &[u8; N]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// A string of any length, escaped and ended.
    pub fn str(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// Bytes of any length, escaped and ended.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.open_bytes(value);
        self.0.extend_from_slice(&[ESCAPE, TERMINATOR]);
        self
    }

    /// The beginning of a string, escaped and not ended: for the prefix of a
    /// range.
    pub fn open_bytes(&mut self, value: &[u8]) -> &mut Self {
        let mut rest = value;
        while let Some(at) = escape_in(rest) {
            self.0.extend_from_slice(&rest[..=at]);
            self.0.push(ESCAPED_ZERO);
            rest = &rest[at + 1..];
        }
        self.0.extend_from_slice(rest);
        self
    }

    /// The finished key.
    pub fn finish(self) -> Key {
        Key(self.0.into())
    }

    /// The range of all keys that begin like this.
    pub fn range(self) -> KeyRange {
        KeyRange::prefix(&self.0)
    }
}

/// Reads the rest of a key; each step gives `None` where the bytes are not what
/// the writer of the same step makes.
#[derive(Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl KeyReader<'_> {
    /// What [`KeyWriter::fixed`] wrote.
    pub fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    /// What [`KeyWriter::u8`] wrote.
    pub fn u8(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    /// What [`KeyWriter::u32`] wrote.
    pub fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// What [`KeyWriter::u64`] wrote.
    pub fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// What [`KeyWriter::i64`] wrote.
    pub fn i64(&mut self) -> Option<i64> {
        self.u64().map(|value| (value ^ (1 << 63)).cast_signed())
    }

    /// What [`KeyWriter::u64_descending`] wrote.
    pub fn u64_descending(&mut self) -> Option<u64> {
        self.u64().map(|value| !value)
    }

    /// What [`KeyWriter::uuid`] wrote.
    pub fn uuid(&mut self) -> Option<Uuid> {
        self.fixed().map(Uuid::from_bytes)
    }

    /// What [`KeyWriter::bytes`] wrote.
    pub fn bytes(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        loop {
            let (plain, rest) = self.rest.split_at(escape_in(self.rest)?);
            value.extend_from_slice(plain);
            self.rest = &rest[1..];
            match self.u8()? {
                ESCAPED_ZERO => value.push(ESCAPE),
                TERMINATOR => return Some(value),
                _ => return None,
            }
        }
    }

    /// Passes over what [`KeyWriter::bytes`] or [`KeyWriter::str`] wrote.
    pub fn skip(&mut self) -> Option<()> {
        loop {
            self.rest = &self.rest[escape_in(self.rest)? + 1..];
            match self.u8()? {
                ESCAPED_ZERO => {}
                TERMINATOR => return Some(()),
                _ => return None,
            }
        }
    }

    /// What [`KeyWriter::str`] wrote.
    pub fn str(&mut self) -> Option<String> {
        self.bytes().and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// `Some` if nothing is left.
    pub fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

fn escape_in(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == ESCAPE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::slot::Space;

    fn writer() -> KeyWriter {
        KeyWriter::new(Slot::new(Space::Home, 0xabc), Tag(0x0102), Tenant(7))
    }

    #[test]
    fn bytes_of_a_key_are_frozen() {
        let mut key = writer();
        key.u8(1).u32(2).u64(3).i64(-1).str("a\0b").uuid(&Uuid::from_u128(5));
        let hex: String = key.finish().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "0abc010200000007\
             01\
             00000002\
             0000000000000003\
             7fffffffffffffff\
             6100ff620001\
             00000000000000000000000000000005"
        );
    }

    #[test]
    fn header_is_read_back() {
        let key = writer().finish();
        assert_eq!(key.slot(), Slot::new(Space::Home, 0xabc));
        assert_eq!(key.tag(), Tag(0x0102));
        assert_eq!(key.tenant(), Tenant(7));
        assert_eq!(Key::from_bytes(key.as_bytes().clone()), Some(key));
        assert_eq!(Key::from_bytes(Bytes::from_static(b"\x0a")), None);
        assert_eq!(Key::from_bytes(Bytes::from_static(&[0x40; 8])), None);
    }

    #[test]
    fn range_within_a_slot_knows_it() {
        assert_eq!(writer().range().slot(), Some(Slot::new(Space::Home, 0xabc)));
        let two = KeyRange { start: Bytes::from_static(&[0, 1]), end: Bytes::from_static(&[0, 3]) };
        assert_eq!(two.slot(), None);
    }

    proptest! {
        #[test]
        fn key_order_is_value_order(
            a in (any::<Vec<u8>>(), any::<i64>(), any::<u64>()),
            b in (any::<Vec<u8>>(), any::<i64>(), any::<u64>()),
        ) {
            let encode = |(s, i, u): &(Vec<u8>, i64, u64)| {
                let mut key = writer();
                key.bytes(s).i64(*i).u64_descending(*u);
                key.finish()
            };
            let order = |(s, i, u): &(Vec<u8>, i64, u64)| (s.clone(), *i, std::cmp::Reverse(*u));
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), order(&a).cmp(&order(&b)));
        }

        #[test]
        fn what_is_written_is_read_back(s in any::<String>(), i in any::<i64>(), u in any::<u64>()) {
            let mut key = writer();
            key.str(&s).i64(i).u64(u);
            let key = key.finish();
            let mut reader = key.reader();
            prop_assert_eq!(reader.str(), Some(s));
            let mut passing = key.reader();
            prop_assert_eq!(passing.skip(), Some(()));
            prop_assert_eq!(passing.i64(), reader.i64());
            prop_assert_eq!(passing.u64(), Some(u));
            let mut reader = key.reader();
            reader.skip();
            prop_assert_eq!(reader.i64(), Some(i));
            prop_assert_eq!(reader.u64(), Some(u));
            prop_assert_eq!(reader.end(), Some(()));
        }

        #[test]
        fn prefix_range_holds_what_begins_so(prefix in any::<Vec<u8>>(), tail in any::<Vec<u8>>()) {
            let mut key = prefix.clone();
            key.extend(tail);
            let range = KeyRange::prefix(&prefix);
            prop_assume!(prefix.iter().any(|b| *b < 0xff));
            prop_assert!(range.contains(&key));
            prop_assert!(!range.contains(&range.end));
        }
    }
}
