//! Sealing: authenticated encryption of what must be read again (page cursors,
//! cookies, stored secrets) and keyed digests of what must only be found again,
//! under keys that have ids and can be rotated while serving.
//!
//! A sealed value is: version `01`, key id (4 bytes, big-endian), nonce (24
//! bytes), XChaCha20-Poly1305 ciphertext with its tag. The purpose is
//! authenticated, so what was sealed for one purpose opens for no other.

use std::fmt;

use bytes::Bytes;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use thiserror::Error;

use crate::{clock::Entropy, secret::Secret};

const VERSION: u8 = 1;
const NONCE: usize = 24;
const HEADER: usize = 1 + 4 + NONCE;

/// Names a key of a [`Keyring`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

/// The keys of one use, the current one first. Everything new is made with the
/// current key; what older ones made is still read.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<(KeyId, Secret<[u8; 32]>)>,
}

/// The bytes were not sealed by this keyring for this purpose, or were altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not sealed by this cluster for this purpose, or altered")]
pub struct NotSealed;

impl Keyring {
    /// A ring with these keys, the current one first; `None` if there are none.
    pub fn new(keys: Vec<(KeyId, Secret<[u8; 32]>)>) -> Option<Self> {
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// A ring for another use, each of its keys derived from one of this ring's.
    pub fn derive(&self, context: &str) -> Self {
        let keys = self
            .keys
            .iter()
            .map(|(id, key)| (*id, Secret::new(blake3::derive_key(context, key.expose()))))
            .collect();
        Self { keys }
    }

    /// The id of the current key.
    pub fn current(&self) -> KeyId {
        self.keys[0].0
    }

    /// The ids of all keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().map(|(id, _)| *id)
    }

    fn key(&self, id: KeyId) -> Option<&Secret<[u8; 32]>> {
        self.keys.iter().find(|(known, _)| *known == id).map(|(_, key)| key)
    }

    /// Encrypts `plain` so that only the same purpose opens it.
    pub fn seal(&self, entropy: &dyn Entropy, purpose: &str, plain: &[u8]) -> Bytes {
        let (id, key) = &self.keys[0];
        let nonce: [u8; NONCE] = entropy.bytes();
        let mut sealed = Vec::with_capacity(HEADER + plain.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(&id.0.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        let cipher = XChaCha20Poly1305::new(key.expose().into());
        let payload = Payload { msg: plain, aad: purpose.as_bytes() };
        #[expect(clippy::expect_used, reason = "fails only beyond 256 GiB of plaintext")]
        let text = cipher.encrypt(&XNonce::from(nonce), payload).expect("plaintext is small");
        sealed.extend_from_slice(&text);
        sealed.into()
    }

    /// Decrypts what any key of this ring sealed for this purpose.
    ///
    /// # Errors
    /// [`NotSealed`], without saying why.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Secret<Vec<u8>>, NotSealed> {
        let (head, text) = sealed.split_first_chunk::<HEADER>().ok_or(NotSealed)?;
        if head[0] != VERSION {
            return Err(NotSealed);
        }
        let id = KeyId(u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
        let key = self.key(id).ok_or(NotSealed)?;
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&head[5..]);
        let cipher = XChaCha20Poly1305::new(key.expose().into());
        let payload = Payload { msg: text, aad: purpose.as_bytes() };
        cipher.decrypt(&XNonce::from(nonce), payload).map(Secret::new).map_err(|_| NotSealed)
    }

    /// The keyed digest of `value` under the current key.
    pub fn digest(&self, value: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(self.keys[0].1.expose(), value).as_bytes()
    }

    /// The keyed digests of `value` under each key, the current one first: where
    /// to look for what an older key may have filed.
    pub fn digests(&self, value: &[u8]) -> Vec<[u8; 32]> {
        self.keys
            .iter()
            .map(|(_, key)| *blake3::keyed_hash(key.expose(), value).as_bytes())
            .collect()
    }

    /// The keyed digest of `value` under the key with this id, if the ring has it.
    pub fn digest_with(&self, id: KeyId, value: &[u8]) -> Option<[u8; 32]> {
        self.key(id).map(|key| *blake3::keyed_hash(key.expose(), value).as_bytes())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SeededEntropy;

    fn ring(keys: &[(u32, u8)]) -> Keyring {
        let keys = keys.iter().map(|(id, byte)| (KeyId(*id), Secret::new([*byte; 32])));
        Keyring::new(keys.collect()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_alone() {
        let ring = ring(&[(1, 9)]);
        let sealed = ring.seal(&SeededEntropy::new(1), "cursor", b"plain");
        assert_eq!(ring.open("cursor", &sealed).unwrap().expose(), b"plain");
        assert!(ring.open("cookie", &sealed).is_err());
    }

    #[test]
    fn altered_cut_or_foreign_bytes_do_not_open() {
        let ring_1 = ring(&[(1, 9)]);
        let sealed = ring_1.seal(&SeededEntropy::new(1), "p", b"plain");
        for at in 0..sealed.len() {
            let mut altered = sealed.to_vec();
            altered[at] ^= 1;
            assert!(ring_1.open("p", &altered).is_err(), "byte {at}");
            assert!(ring_1.open("p", &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(ring(&[(1, 8)]).open("p", &sealed).is_err());
    }

    #[test]
    fn older_keys_still_open_and_find() {
        let (old, new) = (ring(&[(1, 9)]), ring(&[(2, 8), (1, 9)]));
        let sealed = old.seal(&SeededEntropy::new(1), "p", b"plain");
        assert_eq!(new.open("p", &sealed).unwrap().expose(), b"plain");
        assert_eq!(new.digests(b"v")[1], old.digest(b"v"));
        assert_ne!(new.digest(b"v"), old.digest(b"v"));
        assert_ne!(new.derive("a").digest(b"v"), new.derive("b").digest(b"v"));
    }

    #[test]
    fn a_keyring_prints_ids_alone() {
        assert_eq!(format!("{:?}", ring(&[(2, 8), (1, 9)])), "[KeyId(2), KeyId(1)]");
    }
}
