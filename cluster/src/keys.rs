//! The cluster's own keys: drawn when it is initialised, kept in the directory
//! sealed under the operator's master key, opened in memory on every node.
//!
//! Rotation adds a key in two steps. First it is *staged*: every node opens with
//! it what others made, and none makes anything with it. Once every node has it,
//! or has ceased to rely on what it held before, it becomes the current one; so no
//! node ever meets a token of a key that it has not seen. What older keys made is
//! still read. No backup holds the master key.

use std::collections::BTreeMap;

use bytes::Bytes;
use cardea_storage::{Entropy, KeyId, Keyring, Secret, Timestamp};

use crate::directory::{ClusterKeyKey, records::ClusterKeyRecord};

/// What a key of the cluster is for. Numbers are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum KeyPurpose {
    /// Authenticates tokens and masks their slots.
    Token = 1,
    /// Files what must only be found again.
    Index = 2,
    /// Seals what must be read again.
    Sealing = 3,
    /// Seals page cursors.
    Cursor = 4,
}

impl KeyPurpose {
    /// Every purpose.
    pub const ALL: [Self; 4] = [Self::Token, Self::Index, Self::Sealing, Self::Cursor];

    /// The name in commands and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Index => "index",
            Self::Sealing => "seal",
            Self::Cursor => "cursor",
        }
    }

    /// The purpose of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }

    const fn number(self) -> u8 {
        self as u8
    }
}

impl std::fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The cluster's keys, opened.
#[derive(Debug, Clone)]
pub struct Keyrings {
    /// Authenticates tokens and masks their slots.
    pub token: Keyring,
    /// Files what must only be found again.
    pub index: Keyring,
    /// Seals what must be read again.
    pub sealing: Keyring,
    /// Seals page cursors.
    pub cursor: Keyring,
}

/// Why the cluster's keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The directory has no key of this purpose (yet).
    #[error("the cluster has no {0} key")]
    Missing(KeyPurpose),
    /// The master keys of this node open none of them.
    #[error("the master key of this node does not open the cluster's {0} key {1}")]
    NotOpened(KeyPurpose, u32),
}

/// Draws a new key and seals it; not staged.
pub fn draw(
    master: &Keyring,
    entropy: &dyn Entropy,
    purpose: KeyPurpose,
    id: u32,
    now: Timestamp,
) -> (ClusterKeyKey, ClusterKeyRecord) {
    let key = Secret::new(entropy.bytes::<32>());
    let sealed = master.seal(entropy, &sealing_purpose(purpose, id), key.expose());
    let row = ClusterKeyKey { purpose: purpose.number(), id };
    (row, ClusterKeyRecord { sealed, created_at: now.0, staged: false })
}

impl Keyrings {
    /// Opens the keys of the directory.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(
        master: &Keyring,
        rows: &BTreeMap<ClusterKeyKey, ClusterKeyRecord>,
    ) -> Result<Self, KeyError> {
        Ok(Self {
            token: ring(master, rows, KeyPurpose::Token)?,
            index: ring(master, rows, KeyPurpose::Index)?,
            sealing: ring(master, rows, KeyPurpose::Sealing)?,
            cursor: ring(master, rows, KeyPurpose::Cursor)?,
        })
    }
}

/// The id that the next key of a purpose gets.
pub(crate) fn next_id(
    rows: &BTreeMap<ClusterKeyKey, ClusterKeyRecord>,
    purpose: KeyPurpose,
) -> u32 {
    let of = rows.keys().filter(|key| key.purpose == purpose.number());
    of.map(|key| key.id).max().map_or(1, |id| id + 1)
}

/// The newest key of a purpose that a rotation staged and did not finish.
pub(crate) fn staged(
    rows: &BTreeMap<ClusterKeyKey, ClusterKeyRecord>,
    purpose: KeyPurpose,
) -> Option<ClusterKeyKey> {
    let of = rows.iter().rev().find(|(key, row)| key.purpose == purpose.number() && row.staged);
    of.map(|(key, _)| *key)
}

fn ring(
    master: &Keyring,
    rows: &BTreeMap<ClusterKeyKey, ClusterKeyRecord>,
    purpose: KeyPurpose,
) -> Result<Keyring, KeyError> {
    // The largest id is the newest, and comes first; what is staged, last.
    let (mut keys, mut staged) = (Vec::new(), Vec::new());
    for (row, record) in rows.iter().rev().filter(|(row, _)| row.purpose == purpose.number()) {
        let key = (KeyId(row.id), opened(master, purpose, row.id, &record.sealed)?);
        if record.staged { staged.push(key) } else { keys.push(key) }
    }
    if keys.is_empty() {
        return Err(KeyError::Missing(purpose));
    }
    keys.append(&mut staged);
    Keyring::new(keys).ok_or(KeyError::Missing(purpose))
}

fn opened(
    master: &Keyring,
    purpose: KeyPurpose,
    id: u32,
    sealed: &Bytes,
) -> Result<Secret<[u8; 32]>, KeyError> {
    let plain = master
        .open(&sealing_purpose(purpose, id), sealed)
        .map_err(|_| KeyError::NotOpened(purpose, id))?;
    let bytes = plain.expose().as_slice().try_into();
    bytes.map(Secret::new).map_err(|_| KeyError::NotOpened(purpose, id))
}

fn sealing_purpose(purpose: KeyPurpose, id: u32) -> String {
    format!("cardea cluster key {} {id}", purpose.name())
}

#[cfg(test)]
mod tests {
    use cardea_storage::SeededEntropy;

    use super::*;

    fn master(byte: u8) -> Keyring {
        Keyring::new(vec![(KeyId(1), Secret::new([byte; 32]))]).unwrap()
    }

    fn drawn(ids: &[u32]) -> BTreeMap<ClusterKeyKey, ClusterKeyRecord> {
        let entropy = SeededEntropy::new(1);
        let of = |purpose| {
            let entropy = &entropy;
            ids.iter().map(move |id| draw(&master(7), entropy, purpose, *id, Timestamp(1)))
        };
        KeyPurpose::ALL.into_iter().flat_map(of).collect()
    }

    #[test]
    fn the_newest_key_is_the_current_one_and_older_ones_still_open() {
        let first = Keyrings::open(&master(7), &drawn(&[1])).unwrap();
        let sealed = first.sealing.seal(&SeededEntropy::new(2), "p", b"plain");
        let rows = drawn(&[1, 2]);
        let both = Keyrings::open(&master(7), &rows).unwrap();
        assert_eq!(both.sealing.current(), KeyId(2));
        assert_eq!(both.sealing.ids().collect::<Vec<_>>(), [KeyId(2), KeyId(1)]);
        assert_eq!(next_id(&rows, KeyPurpose::Token), 3);
        assert!(both.token.open("p", &sealed).is_err());
    }

    #[test]
    fn a_staged_key_opens_and_makes_nothing() {
        let mut rows = drawn(&[1, 2]);
        for (key, record) in &mut rows {
            record.staged = key.id == 2;
        }
        let rings = Keyrings::open(&master(7), &rows).unwrap();
        assert_eq!(rings.token.current(), KeyId(1));
        assert_eq!(rings.token.ids().collect::<Vec<_>>(), [KeyId(1), KeyId(2)]);
        let of_others = Keyrings::open(&master(7), &drawn(&[1, 2])).unwrap();
        let sealed = of_others.sealing.seal(&SeededEntropy::new(2), "p", b"plain");
        assert!(rings.sealing.open("p", &sealed).is_ok());
        assert_eq!(staged(&rows, KeyPurpose::Token), Some(ClusterKeyKey { purpose: 1, id: 2 }));
        assert_eq!(staged(&drawn(&[1, 2]), KeyPurpose::Token), None);
        // A staged key alone is no ring: nothing could be made with it.
        rows.retain(|key, _| key.id == 2);
        assert_eq!(
            Keyrings::open(&master(7), &rows).unwrap_err(),
            KeyError::Missing(KeyPurpose::Token)
        );
    }

    #[test]
    fn another_master_key_opens_nothing() {
        let refused = Keyrings::open(&master(8), &drawn(&[1])).unwrap_err();
        assert_eq!(refused, KeyError::NotOpened(KeyPurpose::Token, 1));
        let missing = Keyrings::open(&master(7), &BTreeMap::new()).unwrap_err();
        assert_eq!(missing, KeyError::Missing(KeyPurpose::Token));
    }

    #[test]
    fn a_key_opens_for_its_own_purpose_and_id_alone() {
        let mut rows = drawn(&[1]);
        let token = rows[&ClusterKeyKey { purpose: 1, id: 1 }].clone();
        rows.insert(ClusterKeyKey { purpose: 2, id: 1 }, token);
        let refused = Keyrings::open(&master(7), &rows).unwrap_err();
        assert_eq!(refused, KeyError::NotOpened(KeyPurpose::Index, 1));
    }
}
