//! What the authenticator says (§ 6.1): for whom, who was there, its counter, and a key
//! that it made.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Refused, RelyingParty, UserVerification, cbor};

const HEAD_BYTES: usize = 37;
const AAGUID_BYTES: usize = 16;
/// The longest credential id (§ 5.1.3).
const ID_BYTES_MAX: usize = 1023;

const PRESENT: u8 = 1;
const VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;
const EXTENDED: u8 = 1 << 7;

/// What the authenticator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatorData {
    /// The digest of the domain that the key is bound to.
    pub rp_id_hash: [u8; 32],
    flags: u8,
    /// How often the key was used; 0 where that is not counted.
    pub counter: u32,
    /// The key that was made.
    pub attested: Option<Attested>,
}

/// A key that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The kind of authenticator; zero if it does not say.
    pub aaguid: [u8; AAGUID_BYTES],
    /// The id of the key.
    pub id: Vec<u8>,
    /// The public key, in COSE.
    pub public_key: Vec<u8>,
}

impl AuthenticatorData {
    /// Reads it; nothing may stand behind it.
    ///
    /// # Errors
    /// [`Refused::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let short = Refused::Malformed("authenticatorData is too short");
        let (head, mut rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(short)?;
        let mut data = Self {
            rp_id_hash: array(&head[..32]).ok_or(short)?,
            flags: head[32],
            counter: u32::from_be_bytes(array(&head[33..]).ok_or(short)?),
            attested: None,
        };
        if data.flags & ATTESTED != 0 {
            let (aaguid, tail) = rest.split_at_checked(AAGUID_BYTES).ok_or(short)?;
            let (length, tail) = tail.split_at_checked(2).ok_or(short)?;
            let length = usize::from(u16::from_be_bytes(array(length).ok_or(short)?));
            if length == 0 || length > ID_BYTES_MAX {
                return Err(Refused::Malformed("the length of the key's id"));
            }
            let (id, tail) = tail.split_at_checked(length).ok_or(short)?;
            let (_, behind) = cbor::split(tail)?;
            let key = &tail[..tail.len() - behind.len()];
            rest = behind;
            data.attested = Some(Attested {
                aaguid: array(aaguid).ok_or(short)?,
                id: id.to_vec(),
                public_key: key.to_vec(),
            });
        }
        if data.flags & EXTENDED != 0 {
            let (extensions, behind) = cbor::split(rest)?;
            cbor::Fields::of(extensions)?;
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(Refused::Malformed("something stands behind authenticatorData"));
        }
        Ok(data)
    }

    /// Whether it is for this party, with somebody there, verified where that is required.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn check(&self, party: &RelyingParty, wanted: UserVerification) -> Result<(), Refused> {
        let right: [u8; 32] = Sha256::digest(party.id.as_bytes()).into();
        if !bool::from(right.ct_eq(&self.rp_id_hash)) {
            return Err(Refused::RelyingParty);
        }
        if self.flags & PRESENT == 0 {
            return Err(Refused::UserPresence);
        }
        if wanted == UserVerification::Required && !self.is_user_verified() {
            return Err(Refused::UserVerification);
        }
        if self.is_backed_up() && !self.is_backup_eligible() {
            return Err(Refused::Backup);
        }
        Ok(())
    }

    /// Whether the authenticator made sure who uses it.
    pub const fn is_user_verified(&self) -> bool {
        self.flags & VERIFIED != 0
    }

    /// Whether the key may be on several devices.
    pub const fn is_backup_eligible(&self) -> bool {
        self.flags & BACKUP_ELIGIBLE != 0
    }

    /// Whether it is.
    pub const fn is_backed_up(&self) -> bool {
        self.flags & BACKED_UP != 0
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}
