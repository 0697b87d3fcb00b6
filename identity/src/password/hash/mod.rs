//! The written form of password hashes: our own argon2id, and those that can be
//! brought from elsewhere, within bounds on what verifying them may cost. The forms
//! are those that Kratos takes.
//!
//! | form | example |
//! |---|---|
//! | argon2id, argon2i | `$argon2id$v=19$m=19456,t=2,p=1$salt$hash` |
//! | bcrypt | `$2a$`, `$2b$`, `$2y$` |
//! | PBKDF2 | `$pbkdf2-sha256$i=600000,l=32$salt$hash`, also `sha1`, `sha224`, `sha384`, `sha512` |
//! | scrypt | `$scrypt$ln=16384,r=8,p=1$salt$hash`; `ln` is N itself, as Kratos writes it |
//! | Firebase's scrypt | `$firescrypt$ln=14,r=8,p=1$salt$hash$separator$signer key`; here `ln` is its logarithm |
//! | salted SHA of directories | `{SSHA}`, `{SSHA256}`, `{SSHA512}`, then digest and salt |
//! | SHA | `$sha1$pf=format$salt$hash`, also `sha256`, `sha512`; the format has `{SALT}` and `{PASSWORD}` |
//! | MD5 | `$md5$hash`, `$md5$pf=format$salt$hash` |
//! | HMAC | `$hmac-sha256$hash$key`, also `md4`, `md5`, `sha1`, `sha224`, `sha384`, `sha512`; the hash is that of the code in hexadecimal digits |
//! | crypt(3) | `$md5-crypt$salt$hash`, `$sha256-crypt$rounds=5000$salt$hash`, `$sha512-crypt$…` |
//!
//! Salts, hashes, formats and keys are in base64, but for those of crypt(3).

mod crypt;
mod derived;
mod digested;
#[cfg(test)]
mod tests;

use std::fmt;

use argon2::Block;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use thiserror::Error;

pub use derived::Argon2Cost;

/// Salts and hashes are written without padding; some tools write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Kept in place of a hash that another server has; nothing that is imported reads so.
const ELSEWHERE: &str = "$elsewhere$";
/// The longest written form, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Why a hash is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HashRefused {
    /// The form is not one that can be verified.
    #[error(
        "the hash is of no known form; known are argon2id, argon2i, bcrypt, pbkdf2, scrypt, \
         firescrypt, SSHA, sha, md5, hmac, md5-crypt, sha256-crypt and sha512-crypt"
    )]
    UnknownForm,
    /// The form is known, but this is not well written.
    #[error("the {form} hash is malformed: {reason}")]
    Malformed {
        /// The form.
        form: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Verifying it would cost more than is allowed.
    #[error("the {form} hash costs too much to verify: {reason}")]
    TooCostly {
        /// The form.
        form: &'static str,
        /// The bound.
        reason: &'static str,
    },
}

/// A password hash that can be verified.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: String,
    scheme: Scheme,
}

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Derived(derived::Derived),
    Digested(digested::Digested),
    Crypt(crypt::Crypt),
    /// Another server has it.
    Elsewhere,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl PasswordHash {
    /// Reads a hash.
    ///
    /// # Errors
    /// If the form is unknown, malformed, or beyond the bounds on cost: bcrypt up to
    /// 15; argon2 up to 1 GiB, 10 passes, 16 lanes; scrypt up to N = 2^17, r = 8,
    /// p = 10; PBKDF2 up to 10,000,000 rounds (as Kratos bounds them); crypt(3) up to
    /// 1,000,000 rounds.
    pub fn parse(text: &str) -> Result<Self, HashRefused> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(HashRefused::UnknownForm);
        }
        let parts: Vec<&str> = text.split('$').collect();
        let scheme = match derived::Derived::parse(text, &parts)? {
            Some(derived) => Scheme::Derived(derived),
            None => match digested::Digested::parse(text, &parts)? {
                Some(digested) => Scheme::Digested(digested),
                None => match crypt::Crypt::parse(&parts)? {
                    Some(crypt) => Scheme::Crypt(crypt),
                    None => return Err(HashRefused::UnknownForm),
                },
            },
        };
        Ok(Self { text: text.to_owned(), scheme })
    }

    /// Hashes a password with argon2id.
    pub(super) fn make(
        password: &[u8],
        salt: &[u8],
        cost: Argon2Cost,
        scratch: &mut Vec<Block>,
    ) -> Option<Self> {
        let (text, derived) = derived::Derived::make(password, salt, cost, scratch)?;
        Some(Self { text, scheme: Scheme::Derived(derived) })
    }

    /// The written form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In place of the hash of a password that another server knows: nothing matches it.
    pub fn elsewhere() -> Self {
        Self { text: ELSEWHERE.to_owned(), scheme: Scheme::Elsewhere }
    }

    /// Whether another server is to be asked.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.scheme, Scheme::Elsewhere)
    }

    /// Reads what is kept, which may be that.
    pub(crate) fn kept(text: &str) -> Result<Self, HashRefused> {
        if text == ELSEWHERE { Ok(Self::elsewhere()) } else { Self::parse(text) }
    }

    /// Memory that verifying takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        match &self.scheme {
            Scheme::Derived(derived) => derived.memory_bytes(),
            Scheme::Digested(_) | Scheme::Crypt(_) | Scheme::Elsewhere => 8 * 1024,
        }
    }

    /// Whether it is argon2id, of whatever cost.
    pub fn is_argon2id(&self) -> bool {
        matches!(&self.scheme, Scheme::Derived(derived) if derived.is_argon2id())
    }

    /// Whether it is argon2id of exactly this cost. Anything else is replaced at
    /// the next login.
    pub fn is_current(&self, wanted: Argon2Cost) -> bool {
        matches!(&self.scheme, Scheme::Derived(derived) if derived.is_current(wanted))
    }

    /// Verifies a password, exactly as it was sent; compares in constant time.
    pub(super) fn verify(&self, password: &[u8], scratch: &mut Vec<Block>) -> bool {
        match &self.scheme {
            Scheme::Derived(derived) => derived.verify(password, scratch),
            Scheme::Digested(digested) => digested.verify(password),
            Scheme::Crypt(crypt) => crypt.verify(password),
            Scheme::Elsewhere => false,
        }
    }
}

/// Reads `a=1,b=2` with exactly these names in this order.
fn numbers<const N: usize>(text: &str, names: [&str; N]) -> Option<[u32; N]> {
    let mut values = [0; N];
    let mut parts = text.split(',');
    for (name, value) in names.iter().zip(&mut values) {
        let digits = parts.next()?.strip_prefix(name)?.strip_prefix('=')?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *value = digits.parse().ok()?;
    }
    parts.next().is_none().then_some(values)
}
