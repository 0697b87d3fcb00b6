//! Forms that were made to be slow: argon2, bcrypt, PBKDF2, scrypt.

use aes::{
    Aes256,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use super::{BASE64, HashRefused, numbers};

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

    /// Whether hashes of this cost are made and checked.
    pub fn is_within_bounds(self) -> bool {
        self.memory_kib <= 1024 * 1024
            && (1..=10).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
    }

    /// The parameters; `None` if they are out of the bounds that are accepted.
    fn params(self, output_bytes: usize) -> Option<Params> {
        if !self.is_within_bounds() {
            return None;
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(output_bytes)).ok()
    }
}

/// A hash with what is needed to make it again.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Derived {
    Argon2 {
        algorithm: Algorithm,
        version: Version,
        cost: Argon2Cost,
        salt: Vec<u8>,
        output: Vec<u8>,
    },
    Bcrypt(String),
    Pbkdf2 {
        sha: Sha,
        rounds: u32,
        salt: Vec<u8>,
        output: Vec<u8>,
    },
    Scrypt {
        cost: ScryptCost,
        salt: Vec<u8>,
        output: Vec<u8>,
    },
    /// What scrypt derives enciphers a key of the project's, and that is the hash.
    Firebase {
        cost: ScryptCost,
        /// The separator stands behind it.
        salt: Vec<u8>,
        signer_key: Vec<u8>,
        output: Vec<u8>,
    },
}

/// The cost of scrypt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ScryptCost {
    log_n: u8,
    r: u32,
    p: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sha {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Derived {
    /// `None` if the form is another.
    pub(super) fn parse(text: &str, parts: &[&str]) -> Result<Option<Self>, HashRefused> {
        Ok(Some(match parts {
            ["", "argon2id", rest @ ..] => parse_argon2(Algorithm::Argon2id, rest)?,
            ["", "argon2i", rest @ ..] => parse_argon2(Algorithm::Argon2i, rest)?,
            ["", "2a" | "2b" | "2y", cost, rest] => parse_bcrypt(text, cost, rest)?,
            ["", "pbkdf2-sha1", rest @ ..] => parse_pbkdf2(Sha::Sha1, rest)?,
            ["", "pbkdf2-sha224", rest @ ..] => parse_pbkdf2(Sha::Sha224, rest)?,
            ["", "pbkdf2-sha256", rest @ ..] => parse_pbkdf2(Sha::Sha256, rest)?,
            ["", "pbkdf2-sha384", rest @ ..] => parse_pbkdf2(Sha::Sha384, rest)?,
            ["", "pbkdf2-sha512", rest @ ..] => parse_pbkdf2(Sha::Sha512, rest)?,
            ["", "scrypt", rest @ ..] => parse_scrypt(rest)?,
            ["", "firescrypt", rest @ ..] => parse_firebase(rest)?,
            _ => return Ok(None),
        }))
    }

    /// Makes one with argon2id, and its written form.
    pub(super) fn make(
        password: &[u8],
        salt: &[u8],
        cost: Argon2Cost,
        scratch: &mut Vec<Block>,
    ) -> Option<(String, Self)> {
        let mut output = vec![0; 32];
        argon2(Algorithm::Argon2id, Version::V0x13, cost, password, salt, &mut output, scratch)?;
        let Argon2Cost { memory_kib, passes, lanes } = cost;
        let text = format!(
            "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${}",
            BASE64.encode(salt),
            BASE64.encode(&output)
        );
        let made = Self::Argon2 {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            cost,
            salt: salt.to_vec(),
            output,
        };
        Some((text, made))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Argon2 { cost, .. } => cost.memory_bytes(),
            Self::Bcrypt(_) | Self::Pbkdf2 { .. } => 8 * 1024,
            Self::Scrypt { cost, .. } | Self::Firebase { cost, .. } => cost.memory_bytes(),
        }
    }

    pub(super) fn is_argon2id(&self) -> bool {
        matches!(self, Self::Argon2 { algorithm: Algorithm::Argon2id, .. })
    }

    pub(super) fn is_current(&self, wanted: Argon2Cost) -> bool {
        matches!(
            self,
            Self::Argon2 {
                algorithm: Algorithm::Argon2id,
                version: Version::V0x13,
                cost,
                output,
                ..
            } if *cost == wanted && output.len() == 32
        )
    }

    pub(super) fn verify(&self, password: &[u8], scratch: &mut Vec<Block>) -> bool {
        match self {
            Self::Argon2 { algorithm, version, cost, salt, output } => {
                let mut made = vec![0; output.len()];
                argon2(*algorithm, *version, *cost, password, salt, &mut made, scratch).is_some()
                    && bool::from(made.ct_eq(output))
            }
            // Compares in constant time itself. Reads 72 bytes of the password, as
            // every bcrypt does.
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::Pbkdf2 { sha, rounds, salt, output } => {
                let mut made = vec![0; output.len()];
                sha.pbkdf2(password, salt, *rounds, &mut made);
                made.ct_eq(output).into()
            }
            Self::Scrypt { cost, salt, output } => {
                let mut made = vec![0; output.len()];
                cost.derive(password, salt, &mut made).is_some() && bool::from(made.ct_eq(output))
            }
            Self::Firebase { cost, salt, signer_key, output } => {
                let mut key = [0; 32];
                if cost.derive(password, salt, &mut key).is_none() {
                    return false;
                }
                let mut made = signer_key.clone();
                ctr::Ctr128BE::<Aes256>::new(&key.into(), &[0; 16].into())
                    .apply_keystream(&mut made);
                made.ct_eq(output).into()
            }
        }
    }
}

impl Sha {
    fn pbkdf2(self, password: &[u8], salt: &[u8], rounds: u32, made: &mut [u8]) {
        use pbkdf2::pbkdf2_hmac;
        match self {
            Self::Sha1 => pbkdf2_hmac::<sha1::Sha1>(password, salt, rounds, made),
            Self::Sha224 => pbkdf2_hmac::<sha2::Sha224>(password, salt, rounds, made),
            Self::Sha256 => pbkdf2_hmac::<sha2::Sha256>(password, salt, rounds, made),
            Self::Sha384 => pbkdf2_hmac::<sha2::Sha384>(password, salt, rounds, made),
            Self::Sha512 => pbkdf2_hmac::<sha2::Sha512>(password, salt, rounds, made),
        }
    }

    const fn form(self) -> &'static str {
        match self {
            Self::Sha1 => "pbkdf2-sha1",
            Self::Sha224 => "pbkdf2-sha224",
            Self::Sha256 => "pbkdf2-sha256",
            Self::Sha384 => "pbkdf2-sha384",
            Self::Sha512 => "pbkdf2-sha512",
        }
    }
}

impl ScryptCost {
    /// Within the bounds, and good together.
    fn checked(form: &'static str, n: u32, r: u32, p: u32) -> Result<Self, HashRefused> {
        let malformed = |reason| HashRefused::Malformed { form, reason };
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
        Ok(Self { log_n, r, p })
    }

    fn memory_bytes(self) -> usize {
        128 * self.r as usize * ((1_usize << self.log_n) + self.p as usize)
    }

    fn derive(self, password: &[u8], salt: &[u8], made: &mut [u8]) -> Option<()> {
        let params = scrypt::Params::new(self.log_n, self.r, self.p).ok()?;
        scrypt::scrypt(password, salt, &params, made).ok()
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

fn parse_argon2(algorithm: Algorithm, parts: &[&str]) -> Result<Derived, HashRefused> {
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
    Ok(Derived::Argon2 { algorithm, version, cost, salt, output })
}

fn parse_bcrypt(text: &str, cost: &str, rest: &str) -> Result<Derived, HashRefused> {
    let form = "bcrypt";
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    if cost.len() != 2 || rest.len() != 53 || !rest.bytes().all(alphabet) {
        return Err(malformed("it is not two digits of cost and 53 characters"));
    }
    match cost.parse::<u8>() {
        Ok(4..=15) => Ok(Derived::Bcrypt(text.to_owned())),
        Ok(16..) => Err(HashRefused::TooCostly { form, reason: "a cost of at most 15" }),
        _ => Err(malformed("the cost is no number from 4")),
    }
}

fn parse_pbkdf2(sha: Sha, parts: &[&str]) -> Result<Derived, HashRefused> {
    let form = sha.form();
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let [cost, salt, output] = parts else { return Err(malformed("it has not four parts")) };
    let [rounds, length] = numbers(cost, ["i", "l"]).ok_or(malformed("the cost is not i=…,l=…"))?;
    let (salt, output) = salt_and_output(form, salt, output)?;
    if usize::try_from(length) != Ok(output.len()) {
        return Err(malformed("the length is not that of the hash"));
    }
    match rounds {
        0 => Err(malformed("there are no rounds")),
        1..=10_000_000 => Ok(Derived::Pbkdf2 { sha, rounds, salt, output }),
        _ => Err(HashRefused::TooCostly { form, reason: "at most 10,000,000 rounds" }),
    }
}

fn parse_scrypt(parts: &[&str]) -> Result<Derived, HashRefused> {
    let form = "scrypt";
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let [cost, salt, output] = parts else { return Err(malformed("it has not four parts")) };
    let [n, r, p] =
        numbers(cost, ["ln", "r", "p"]).ok_or(malformed("the cost is not ln=…,r=…,p=…"))?;
    let (salt, output) = salt_and_output(form, salt, output)?;
    Ok(Derived::Scrypt { cost: ScryptCost::checked(form, n, r, p)?, salt, output })
}

fn parse_firebase(parts: &[&str]) -> Result<Derived, HashRefused> {
    let form = "firescrypt";
    let malformed = |reason| HashRefused::Malformed { form, reason };
    let [cost, salt, output, separator, signer_key] = parts else {
        return Err(malformed("it has not six parts"));
    };
    let [log_n, r, p] =
        numbers(cost, ["ln", "r", "p"]).ok_or(malformed("the cost is not ln=…,r=…,p=…"))?;
    // Beyond any bound where it does not fit.
    let n = 1_u32.checked_shl(log_n).unwrap_or(u32::MAX);
    let cost = ScryptCost::checked(form, n, r, p)?;
    let (mut salt, output) = salt_and_output(form, salt, output)?;
    let decode = |text: &str| {
        let bytes = BASE64.decode(text).map_err(|_| malformed("a part is not base64"))?;
        if bytes.len() > 128 {
            Err(malformed("a part is longer than 128 bytes"))
        } else {
            Ok(bytes)
        }
    };
    salt.extend(decode(separator)?);
    let signer_key = decode(signer_key)?;
    if signer_key.len() != output.len() {
        return Err(malformed("the signer key has not the length of the hash"));
    }
    Ok(Derived::Firebase { cost, salt, signer_key, output })
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
