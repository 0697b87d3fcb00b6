//! Public keys in COSE (RFC 9052, RFC 9053), and the signatures that they verify.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

use super::{Refused, cbor};

/// An algorithm, by its number in COSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, of 2048 bits or more.
    Rs256,
}

impl Algorithm {
    /// All of them, the one asked for first standing first.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The number.
    pub const fn number(self) -> i64 {
        match self {
            Self::Es256 => -7,
            Self::EdDsa => -8,
            Self::Rs256 => -257,
        }
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// A point of P-256, uncompressed.
    Es256([u8; 65]),
    /// A point of Curve25519.
    EdDsa([u8; 32]),
    /// Modulus and exponent.
    Rs256(Vec<u8>, Vec<u8>),
}

impl PublicKey {
    /// Reads a key; nothing may stand behind it.
    ///
    /// # Errors
    /// [`Refused::Algorithm`] if the key is of none that is asked for,
    /// [`Refused::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        const KIND: i64 = 1;
        const ALGORITHM: i64 = 3;
        let malformed = Refused::Malformed("the public key");
        let (value, behind) = cbor::split(bytes)?;
        if !behind.is_empty() {
            return Err(malformed);
        }
        let fields = cbor::Fields::of(value)?;
        let algorithm = fields.integer(ALGORITHM).ok_or(malformed)?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|known| known.number() == algorithm)
            .ok_or(Refused::Algorithm)?;
        let kind = fields.integer(KIND).ok_or(malformed)?;
        let curve = fields.integer(-1);
        let part = |label: i64| fields.bytes(label).ok_or(malformed);
        match (algorithm, kind, curve) {
            (Algorithm::Es256, 2, Some(1)) => {
                let (x, y) = (part(-2)?, part(-3)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(malformed);
                }
                let mut point = [4; 65];
                point[1..33].copy_from_slice(x);
                point[33..].copy_from_slice(y);
                Ok(Self::Es256(point))
            }
            (Algorithm::EdDsa, 1, Some(6)) => {
                Ok(Self::EdDsa(part(-2)?.try_into().map_err(|_| malformed)?))
            }
            (Algorithm::Rs256, 3, None) => {
                let (modulus, exponent) = (part(-1)?, part(-2)?);
                if !(256..=1024).contains(&modulus.len()) || exponent.len() > 8 {
                    return Err(malformed);
                }
                Ok(Self::Rs256(modulus.to_vec(), exponent.to_vec()))
            }
            _ => Err(malformed),
        }
    }

    /// Whether the key signed that.
    ///
    /// # Errors
    /// [`Refused::Signature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let verified = match self {
            Self::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            Self::EdDsa(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
            Self::Rs256(n, e) => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
        };
        verified.map_err(|_| Refused::Signature)
    }
}
