//! The written form of password hashes: our own argon2id, and those that can be
//! brought from elsewhere, within bounds on what verifying them may cost.
//!
//! | form | example |
//! |---|---|
//! | argon2id, argon2i | `$argon2id$v=19$m=19456,t=2,p=1$salt$hash` |
//! | bcrypt | `$2a$`, `$2b$`, `$2y$` |
//! | PBKDF2 | `$pbkdf2-sha256$i=600000,l=32$salt$hash`, also `sha512` |
//! | scrypt | `$scrypt$ln=16384,r=8,p=1$salt$hash`; `ln` is N itself, as Kratos writes it |

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Salts and hashes are written without padding; some tools write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a salt and of a hash that are accepted.
const SALT_BYTES: std::ops::RangeInclusive<usize> = 1..=128;
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 10..=128;

/// The cost of argon2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes. Computed one after another here.
    pub lanes: u32,
}

impl Default for Argon2Cost {
    /// OWASP's recommendation (Password Storage Cheat Sheet): 19 MiB, 2 passes, 1 lane.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

impl Argon2Cost {
    /// Memory, in bytes.
    pub const fn memory_bytes(self) -> usize {
        self.memory_kib as usize * 1024
    }

    /// The parameters; `None` if they are out of the bounds that are accepted.
    pub(super) fn params(self, output_bytes: usize) -> Option<Params> {
        let within = self.memory_kib <= 1024 * 1024
            && (1..=10).contains(&self.passes)
            && (1..=16).contains(&self.lanes);
        if !within {
            return None;
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(output_bytes)).ok()
    }
}

/// Why a hash is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HashRefused {
    /// The form is not one that can be verified.
    #[error(
        "the hash is of no known form; known are argon2id, argon2i, bcrypt, pbkdf2-sha256, pbkdf2-sha512 and scrypt"
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
    Argon2 {
        algorithm: Algorithm,
        version: Version,
        cost: Argon2Cost,
        salt: Vec<u8>,
        output: Vec<u8>,
    },
    Bcrypt,
    Pbkdf2 {
        sha: Sha,
        rounds: u32,
        salt: Vec<u8>,
        output: Vec<u8>,
    },
    Scrypt {
        log_n: u8,
        r: u32,
        p: u32,
        salt: Vec<u8>,
        output: Vec<u8>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sha {
    Sha256,
    Sha512,
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
    /// p = 10; PBKDF2 up to 10,000,000 rounds (as Kratos bounds them).
    pub fn parse(text: &str) -> Result<Self, HashRefused> {
        if text.len() > 1024 {
            return Err(HashRefused::UnknownForm);
        }
        let parts: Vec<&str> = text.split('$').collect();
        let scheme = match parts.as_slice() {
            ["", "argon2id", rest @ ..] => parse_argon2(Algorithm::Argon2id, rest)?,
            ["", "argon2i", rest @ ..] => parse_argon2(Algorithm::Argon2i, rest)?,
            ["", "2a" | "2b" | "2y", cost, rest] => parse_bcrypt(cost, rest)?,
            ["", "pbkdf2-sha256", rest @ ..] => parse_pbkdf2(Sha::Sha256, rest)?,
            ["", "pbkdf2-sha512", rest @ ..] => parse_pbkdf2(Sha::Sha512, rest)?,
            ["", "scrypt", rest @ ..] => parse_scrypt(rest)?,
            _ => return Err(HashRefused::UnknownForm),
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
        let mut output = vec![0; 32];
        argon2(Algorithm::Argon2id, Version::V0x13, cost, password, salt, &mut output, scratch)?;
        let Argon2Cost { memory_kib, passes, lanes } = cost;
        let text = format!(
            "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${}",
            BASE64.encode(salt),
            BASE64.encode(&output)
        );
        let scheme = Scheme::Argon2 {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            cost,
            salt: salt.to_vec(),
            output,
        };
        Some(Self { text, scheme })
    }

    /// The written form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Memory that verifying takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        match &self.scheme {
            Scheme::Argon2 { cost, .. } => cost.memory_bytes(),
            Scheme::Bcrypt | Scheme::Pbkdf2 { .. } => 8 * 1024,
            Scheme::Scrypt { log_n, r, p, .. } => {
                128 * *r as usize * ((1_usize << log_n) + *p as usize)
            }
        }
    }

    /// Whether it is argon2id, of whatever cost.
    pub fn is_argon2id(&self) -> bool {
        matches!(&self.scheme, Scheme::Argon2 { algorithm: Algorithm::Argon2id, .. })
    }

    /// Whether it is argon2id of exactly this cost. Anything else is replaced at
    /// the next login.
    pub fn is_current(&self, wanted: Argon2Cost) -> bool {
        matches!(
            &self.scheme,
            Scheme::Argon2 {
                algorithm: Algorithm::Argon2id,
                version: Version::V0x13,
                cost,
                output,
                ..
            } if *cost == wanted && output.len() == 32
        )
    }

    /// Verifies a password; compares in constant time.
    pub(super) fn verify(&self, password: &[u8], scratch: &mut Vec<Block>) -> bool {
        match &self.scheme {
            Scheme::Argon2 { algorithm, version, cost, salt, output } => {
                let mut made = vec![0; output.len()];
                argon2(*algorithm, *version, *cost, password, salt, &mut made, scratch).is_some()
                    && bool::from(made.ct_eq(output))
            }
            // Compares in constant time itself. Reads 72 bytes of the password, as
            // every bcrypt does.
            Scheme::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Scheme::Pbkdf2 { sha, rounds, salt, output } => {
                let mut made = vec![0; output.len()];
                match sha {
                    Sha::Sha256 => {
                        pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password, salt, *rounds, &mut made);
                    }
                    Sha::Sha512 => {
                        pbkdf2::pbkdf2_hmac::<sha2::Sha512>(password, salt, *rounds, &mut made);
                    }
                }
                made.ct_eq(output).into()
            }
            Scheme::Scrypt { log_n, r, p, salt, output } => {
                let Ok(params) = scrypt::Params::new(*log_n, *r, *p) else { return false };
                let mut made = vec![0; output.len()];
                scrypt::scrypt(password, salt, &params, &mut made).is_ok()
                    && bool::from(made.ct_eq(output))
            }
        }
    }
}

/// Argon2 in memory that is kept between calls; `None` if a parameter is refused.
fn argon2(
    algorithm: Algorithm,
    version: Version,
    cost: Argon2Cost,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
    scratch: &mut Vec<Block>,
) -> Option<()> {
    let params = cost.params(output.len())?;
    let blocks = params.block_count();
    if scratch.len() < blocks {
        scratch.resize(blocks, Block::default());
    }
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(password, salt, output, scratch.get_mut(..blocks)?)
        .ok()
}

fn parse_argon2(algorithm: Algorithm, parts: &[&str]) -> Result<Scheme, HashRefused> {
    let form = if algorithm == Algorithm::Argon2id { "argon2id" } else { "argon2i" };
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let [version, cost, salt, output] = parts else {
        return Err(malformed("it has not five parts"));
    };
    let version = match *version {
        "v=19" => Version::V0x13,
        "v=16" => Version::V0x10,
        _ => return Err(malformed("the version is neither 16 nor 19")),
    };
    let [memory_kib, passes, lanes] =
        numbers(cost, ["m", "t", "p"]).ok_or(malformed("the cost is not m=…,t=…,p=…"))?;
    let cost = Argon2Cost { memory_kib, passes, lanes };
    let (salt, output) = salt_and_output(form, salt, output)?;
    if salt.len() < 8 {
        return Err(malformed("the salt is shorter than 8 bytes"));
    }
    if cost.params(output.len()).is_none() {
        return Err(HashRefused::TooCostly {
            form,
            reason: "at most 1 GiB, 10 passes and 16 lanes",
        });
    }
    Ok(Scheme::Argon2 { algorithm, version, cost, salt, output })
}

fn parse_bcrypt(cost: &str, rest: &str) -> Result<Scheme, HashRefused> {
    let form = "bcrypt";
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    if cost.len() != 2 || rest.len() != 53 || !rest.bytes().all(alphabet) {
        return Err(malformed("it is not two digits of cost and 53 characters"));
    }
    match cost.parse::<u8>() {
        Ok(4..=15) => Ok(Scheme::Bcrypt),
        Ok(16..) => Err(HashRefused::TooCostly { form, reason: "a cost of at most 15" }),
        _ => Err(malformed("the cost is no number from 4")),
    }
}

fn parse_pbkdf2(sha: Sha, parts: &[&str]) -> Result<Scheme, HashRefused> {
    let form = match sha {
        Sha::Sha256 => "pbkdf2-sha256",
        Sha::Sha512 => "pbkdf2-sha512",
    };
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let [cost, salt, output] = parts else { return Err(malformed("it has not four parts")) };
    let [rounds, length] = numbers(cost, ["i", "l"]).ok_or(malformed("the cost is not i=…,l=…"))?;
    let (salt, output) = salt_and_output(form, salt, output)?;
    if usize::try_from(length) != Ok(output.len()) {
        return Err(malformed("the length is not that of the hash"));
    }
    match rounds {
        0 => Err(malformed("there are no rounds")),
        1..=10_000_000 => Ok(Scheme::Pbkdf2 { sha, rounds, salt, output }),
        _ => Err(HashRefused::TooCostly { form, reason: "at most 10,000,000 rounds" }),
    }
}

fn parse_scrypt(parts: &[&str]) -> Result<Scheme, HashRefused> {
    let form = "scrypt";
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let [cost, salt, output] = parts else { return Err(malformed("it has not four parts")) };
    let [n, r, p] =
        numbers(cost, ["ln", "r", "p"]).ok_or(malformed("the cost is not ln=…,r=…,p=…"))?;
    let (salt, output) = salt_and_output(form, salt, output)?;
    if n > 1 << 17 || r > 8 || p > 10 {
        return Err(HashRefused::TooCostly { form, reason: "at most N = 2^17, r = 8, p = 10" });
    }
    if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
        return Err(malformed("N is no power of two, or r or p is zero"));
    }
    let log_n = u8::try_from(n.trailing_zeros()).unwrap_or(17);
    if scrypt::Params::new(log_n, r, p).is_err() {
        return Err(malformed("the parameters do not fit together"));
    }
    Ok(Scheme::Scrypt { log_n, r, p, salt, output })
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

fn salt_and_output(
    form: &'static str,
    salt: &str,
    output: &str,
) -> Result<(Vec<u8>, Vec<u8>), HashRefused> {
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let salt = BASE64.decode(salt).map_err(|_| malformed("the salt is not base64"))?;
    let output = BASE64.decode(output).map_err(|_| malformed("the hash is not base64"))?;
    if !SALT_BYTES.contains(&salt.len()) {
        return Err(malformed("the salt is empty or longer than 128 bytes"));
    }
    if !OUTPUT_BYTES.contains(&output.len()) {
        return Err(malformed("the hash is shorter than 10 or longer than 128 bytes"));
    }
    Ok((salt, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };

    #[test]
    fn hash_that_was_made_is_read_and_verifies() {
        let made = PasswordHash::make(b"secret", &[7; 16], CHEAP, &mut Vec::new()).unwrap();
        let read = PasswordHash::parse(made.as_str()).unwrap();
        assert!(read == made && read.is_current(CHEAP));
        assert!(read.verify(b"secret", &mut Vec::new()));
        for wrong in [&b"Secret"[..], b"secret ", b""] {
            assert!(!read.verify(wrong, &mut Vec::new()));
        }
        assert!(!read.is_current(Argon2Cost { passes: 2, ..CHEAP }));
    }

    #[test]
    fn scratch_of_another_size_changes_no_hash() {
        let hash = |scratch: &mut Vec<Block>| {
            PasswordHash::make(b"secret", &[7; 16], CHEAP, scratch).unwrap().text
        };
        let mut used = vec![Block::default(); 10];
        assert_eq!(hash(&mut used), hash(&mut Vec::new()));
        used.resize(1000, Block::default());
        assert_eq!(hash(&mut used), hash(&mut Vec::new()));
        // What an earlier password left behind does not matter.
        assert_eq!(hash(&mut used), hash(&mut Vec::new()));
    }

    /// Made with other implementations: the argon2 command of its reference
    /// sources, Debian's libcrypt, and Python's hashlib.
    #[test]
    fn hashes_made_elsewhere_verify() {
        let table = [
            (
                "password",
                "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            ),
            (
                "password",
                "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
            ),
            (
                "password",
                "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
            ),
            ("password", "$2b$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu"),
            ("password", "$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu"),
            (
                "password",
                "$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHQ$E196ZhRPzw+wA84EjzHwJO1cv/MFJdO6C/sxmUeTYqY",
            ),
            (
                "password",
                "$pbkdf2-sha512$i=1000,l=64$c2FsdHNhbHQ=$Q6v4xwJ8a9nWPp2BeEoAYYhHSo2xRmPWART17vTpSxt2q6iNp7BOozW557qqa95eNjUO4gKs0CyvJbYGGku1tA==",
            ),
            (
                "password",
                "$scrypt$ln=1024,r=8,p=1$c2FsdHNhbHQ$AOLXEESCcPmf2DxU3D47ZJxp5ZTcHC0S2Mb2eFXc4tI",
            ),
        ];
        for (password, text) in table {
            let hash = PasswordHash::parse(text).unwrap();
            assert!(hash.verify(password.as_bytes(), &mut Vec::new()), "{text}");
            assert!(!hash.verify(b"other", &mut Vec::new()), "{text}");
            assert!(!hash.is_current(Argon2Cost::default()), "{text}");
        }
    }

    #[test]
    fn forms_beyond_the_bounds_are_refused() {
        let costly = [
            "$argon2id$v=19$m=1048577,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=64,t=11,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2i$v=19$m=256,t=1,p=17$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$2b$16$wJq5l1n1Xo1Ykz8a0vKJ8uOe6CqBzRkYw7sWk5xQ0YyT0ZgGm0G3K",
            "$pbkdf2-sha256$i=10000001,l=32$c2FsdHNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$scrypt$ln=262144,r=8,p=1$c2FsdHNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ];
        for text in costly {
            let refused = PasswordHash::parse(text);
            assert!(matches!(refused, Err(HashRefused::TooCostly { .. })), "{text}: {refused:?}");
        }
    }

    #[test]
    fn malformed_hashes_are_refused() {
        let unknown =
            ["", "plain", "$md5$x", "{SSHA}abc", "$2x$10$abc", "$argon2d$v=19$m=1,t=1,p=1$a$b"];
        for text in unknown {
            assert_eq!(PasswordHash::parse(text), Err(HashRefused::UnknownForm), "{text}");
        }
        let malformed = [
            "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ",
            "$argon2id$v=18$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
            "$argon2id$v=19$t=1,m=64,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
            "$argon2id$v=19$m=64,t=1,p=1,x=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
            "$argon2id$v=19$m=+64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
            "$argon2id$v=19$m=64,t=1,p=1$c29t$CTFhFdXPJO1aFaMaO6Mm5Q",
            "$argon2id$v=19$m=64,t=1,p=1$!!$CTFhFdXPJO1aFaMaO6Mm5Q",
            "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AA",
            "$2b$10$short",
            "$2b$03$wJq5l1n1Xo1Ykz8a0vKJ8uOe6CqBzRkYw7sWk5xQ0YyT0ZgGm0G3K",
            "$pbkdf2-sha256$i=0,l=32$c2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$pbkdf2-sha256$i=1,l=31$c2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$scrypt$ln=1000,r=8,p=1$c2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ];
        for text in malformed {
            let refused = PasswordHash::parse(text);
            assert!(matches!(refused, Err(HashRefused::Malformed { .. })), "{text}: {refused:?}");
        }
    }

    #[test]
    fn debug_output_shows_no_hash() {
        let made = PasswordHash::make(b"secret", &[7; 16], CHEAP, &mut Vec::new()).unwrap();
        assert_eq!(format!("{made:?}"), "PasswordHash(…)");
    }
}
