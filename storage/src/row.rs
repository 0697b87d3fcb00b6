//! Rows: what a key holds, and the envelope in which engines keep it.
//!
//! The envelope of version 1 is: `01`, revision (8 bytes, big-endian), expiry in
//! milliseconds (8 bytes, big-endian, 0 for none), then the value.

use bytes::Bytes;
use prost::Message;

use crate::{clock::Timestamp, fault::Fault, key::Key};

const VERSION: u8 = 1;
const HEADER: usize = 17;

/// The position of a write in the order of its shard: the group's base plus the
/// index of its log entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A row as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// The revision that wrote it; `None` if it was read through a lock and is
    /// not yet in its place.
    pub revision: Option<Revision>,
    /// When it ceases to exist.
    pub expires_at: Option<Timestamp>,
}

/// A value with what the store knows of it, as kept in an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The revision that wrote it.
    pub revision: Revision,
    /// When it ceases to exist.
    pub expires_at: Option<Timestamp>,
    /// The value.
    pub value: Bytes,
}

impl Stored {
    /// The envelope's bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.encode_to(&mut bytes);
        bytes.into()
    }

    /// Adds the envelope's bytes to others.
    pub fn encode_to(&self, bytes: &mut Vec<u8>) {
        head(self.revision, self.expires_at, bytes);
        bytes.extend_from_slice(&self.value);
    }

    /// How many bytes the envelope has.
    pub fn encoded_len(&self) -> usize {
        HEADER + self.value.len()
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// A fault if it is too short or of an unknown version.
    pub fn decode(bytes: &Bytes) -> Result<Self, Fault> {
        let (head, _) = bytes
            .split_first_chunk::<HEADER>()
            .ok_or_else(|| Fault::new(format!("row of {} bytes has no envelope", bytes.len())))?;
        if head[0] != VERSION {
            return Err(Fault::new(format!(
                "row has envelope version {}, known is {VERSION}",
                head[0]
            )));
        }
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&head[at..at + 8]);
            u64::from_be_bytes(eight)
        };
        Ok(Self {
            revision: Revision(number(1)),
            expires_at: Some(number(9)).filter(|at| *at != 0).map(Timestamp),
            value: bytes.slice(HEADER..),
        })
    }

    /// Whether it exists at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

/// The envelope of a message, which is encoded into its place.
#[expect(clippy::expect_used, reason = "a vector has room")]
pub(crate) fn envelope(revision: Revision, expires_at: Timestamp, value: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER + value.encoded_len());
    head(revision, Some(expires_at), &mut bytes);
    value.encode(&mut bytes).expect("encode a value");
    bytes.into()
}

fn head(revision: Revision, expires_at: Option<Timestamp>, bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
    bytes.extend_from_slice(&revision.0.to_be_bytes());
    bytes.extend_from_slice(&expires_at.map_or(0, Timestamp::as_millis).to_be_bytes());
}

/// The expiry in an envelope, for compaction filters: `None` for none, and for
/// bytes of another form, which are kept.
pub fn expiry_of(value: &[u8]) -> Option<u64> {
    let (head, _) = value.split_first_chunk::<HEADER>()?;
    if head[0] != VERSION {
        return None;
    }
    let mut eight = [0; 8];
    eight.copy_from_slice(&head[9..17]);
    Some(u64::from_be_bytes(eight)).filter(|at| *at != 0)
}

/// Reads a counter's value; absent counts as zero.
pub fn counter(value: Option<&Bytes>) -> i64 {
    value.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, i64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_envelope_are_frozen() {
        let stored = Stored {
            revision: Revision(0x0102),
            expires_at: Some(Timestamp(0x0304)),
            value: Bytes::from_static(b"v"),
        };
        let bytes = stored.encode();
        assert_eq!(bytes.as_ref(), b"\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04v");
        assert_eq!(Stored::decode(&bytes).unwrap(), stored);
        assert_eq!(expiry_of(&bytes), Some(0x0304));
        let of_message = envelope(Revision(0x0102), Timestamp(0x0304), &"v".to_owned());
        let value = "v".to_owned().encode_to_vec().into();
        assert_eq!(of_message, Stored { value, ..stored }.encode());
    }

    #[test]
    fn foreign_bytes_are_faults_and_never_expire() {
        for bytes in [&b""[..], b"\x01", &[2; 30]] {
            assert!(Stored::decode(&Bytes::copy_from_slice(bytes)).is_err());
            assert_eq!(expiry_of(bytes), None);
        }
    }

    #[test]
    fn a_row_is_gone_at_its_expiry() {
        let stored =
            Stored { revision: Revision(1), expires_at: Some(Timestamp(10)), value: Bytes::new() };
        assert!(stored.is_live(Timestamp(9)));
        assert!(!stored.is_live(Timestamp(10)));
    }
}
