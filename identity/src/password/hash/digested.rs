//! Forms that take a digest of the password once. They are weak, and so kept sealed
//! until a login replaces them.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use subtle::ConstantTimeEq as _;

use super::{BASE64, HashRefused};

/// A digest, and what is digested beside the password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Digested {
    sha: Algorithm,
    mix: Mix,
    output: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Md4,
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, PartialEq, Eq)]
enum Mix {
    /// Nothing.
    Plain,
    /// The salt behind it.
    Behind(Vec<u8>),
    /// A text with places for both.
    Format { format: String, salt: Vec<u8> },
    /// The key of a message authentication code, written in hexadecimal digits.
    Key(Vec<u8>),
}

impl Digested {
    /// `None` if the form is another.
    pub(super) fn parse(text: &str, parts: &[&str]) -> Result<Option<Self>, HashRefused> {
        if let Some(rest) = text.strip_prefix('{') {
            let (sha, form, encoded) = match rest.split_once('}') {
                Some(("SSHA", encoded)) => (Algorithm::Sha1, "SSHA", encoded),
                Some(("SSHA256", encoded)) => (Algorithm::Sha256, "SSHA256", encoded),
                Some(("SSHA512", encoded)) => (Algorithm::Sha512, "SSHA512", encoded),
                _ => return Ok(None),
            };
            let mut output = decode(form, encoded)?;
            if output.len() <= sha.bytes() {
                let reason = "there is no salt behind the digest";
                return Err(HashRefused::Malformed { form, reason });
            }
            let salt = output.split_off(sha.bytes());
            return Ok(Some(Self { sha, mix: Mix::Behind(salt), output }));
        }
        let ["", name, rest @ ..] = parts else { return Ok(None) };
        let (sha, form) = match *name {
            "sha1" => (Algorithm::Sha1, "sha1"),
            "sha256" => (Algorithm::Sha256, "sha256"),
            "sha512" => (Algorithm::Sha512, "sha512"),
            "md5" => (Algorithm::Md5, "md5"),
            "hmac-md4" => (Algorithm::Md4, "hmac-md4"),
            "hmac-md5" => (Algorithm::Md5, "hmac-md5"),
            "hmac-sha1" => (Algorithm::Sha1, "hmac-sha1"),
            "hmac-sha224" => (Algorithm::Sha224, "hmac-sha224"),
            "hmac-sha256" => (Algorithm::Sha256, "hmac-sha256"),
            "hmac-sha384" => (Algorithm::Sha384, "hmac-sha384"),
            "hmac-sha512" => (Algorithm::Sha512, "hmac-sha512"),
            _ => return Ok(None),
        };
        let malformed = |reason| HashRefused::Malformed { form, reason };
        let (mix, output) = match rest {
            [hash, key] if form.starts_with("hmac") => {
                let digits = decode(form, hash)?;
                let bytes =
                    from_hex(&digits).ok_or(malformed("the hash is no hexadecimal number"))?;
                (Mix::Key(decode(form, key)?), bytes)
            }
            [hash] if form == "md5" => (Mix::Plain, decode(form, hash)?),
            [format, salt, hash] if !form.starts_with("hmac") => {
                let format = format.strip_prefix("pf=").ok_or(malformed("there is no pf=…"))?;
                let format = String::from_utf8(decode(form, format)?)
                    .map_err(|_| malformed("the format is not UTF-8"))?;
                if !format.contains("{PASSWORD}") {
                    return Err(malformed("the format has no place for the password"));
                }
                (Mix::Format { format, salt: decode(form, salt)? }, decode(form, hash)?)
            }
            _ => return Err(malformed("it has not the parts that it should")),
        };
        if output.len() != sha.bytes() {
            return Err(malformed("the hash has not the length that it should"));
        }
        Ok(Some(Self { sha, mix, output }))
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let made = match &self.mix {
            Mix::Plain => self.sha.digest(&[password]),
            Mix::Behind(salt) => self.sha.digest(&[password, salt]),
            Mix::Format { format, salt } => self.sha.digest(&[&fill(format, salt, password)]),
            Mix::Key(key) => self.sha.code(key, password),
        };
        made.ct_eq(&self.output).into()
    }
}

impl Algorithm {
    const fn bytes(self) -> usize {
        match self {
            Self::Md4 | Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn of<D: md5::Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            parts.iter().for_each(|part| digest.update(part));
            digest.finalize().to_vec()
        }
        match self {
            Self::Md4 => of::<md4::Md4>(parts),
            Self::Md5 => of::<Md5>(parts),
            Self::Sha1 => of::<sha1::Sha1>(parts),
            Self::Sha224 => of::<sha2::Sha224>(parts),
            Self::Sha256 => of::<sha2::Sha256>(parts),
            Self::Sha384 => of::<sha2::Sha384>(parts),
            Self::Sha512 => of::<sha2::Sha512>(parts),
        }
    }

    fn code(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        macro_rules! of {
            ($digest:ty) => {
                // A key of any length is taken.
                Hmac::<$digest>::new_from_slice(key).map(|mut code| {
                    code.update(message);
                    code.finalize().into_bytes().to_vec()
                })
            };
        }
        let made = match self {
            Self::Md4 => of!(md4::Md4),
            Self::Md5 => of!(Md5),
            Self::Sha1 => of!(sha1::Sha1),
            Self::Sha224 => of!(sha2::Sha224),
            Self::Sha256 => of!(sha2::Sha256),
            Self::Sha384 => of!(sha2::Sha384),
            Self::Sha512 => of!(sha2::Sha512),
        };
        made.unwrap_or_default()
    }
}

fn decode(form: &'static str, text: &str) -> Result<Vec<u8>, HashRefused> {
    let malformed = HashRefused::Malformed { form, reason: "a part is not base64" };
    BASE64.decode(text).map_err(|_| malformed)
}

/// Fills both places wherever they stand, in one pass: what is put in is not looked at
/// again.
fn fill(format: &str, salt: &[u8], password: &[u8]) -> Vec<u8> {
    let (mut filled, mut rest) = (Vec::new(), format);
    while let Some(at) = rest.find('{') {
        filled.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        rest = if let Some(rest) = rest.strip_prefix("{SALT}") {
            filled.extend_from_slice(salt);
            rest
        } else if let Some(rest) = rest.strip_prefix("{PASSWORD}") {
            filled.extend_from_slice(password);
            rest
        } else {
            filled.push(b'{');
            &rest[1..]
        };
    }
    filled.extend_from_slice(rest.as_bytes());
    filled
}

/// The bytes that lower-case hexadecimal digits say.
fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = digits.chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}
