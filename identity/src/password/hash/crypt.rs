//! The forms of crypt(3): many rounds of MD5 or SHA-2, in the alphabet of crypt
//! (`./0-9A-Za-z`). Sources: Poul-Henning Kamp's `md5crypt`, Ulrich Drepper's "Unix
//! crypt using SHA-256 and SHA-512".

use md5::{Digest as _, Md5};
use sha_crypt::Params;
use subtle::ConstantTimeEq as _;

use super::HashRefused;

/// Most rounds that are verified: passlib's defaults are 535,000 and 656,000.
const ROUNDS_MAX: u32 = 1_000_000;
/// The longest password, in bytes: libxcrypt's `CRYPT_MAX_PASSPHRASE_SIZE`, so no crypt(3)
/// has made a hash of a longer one. What these forms cost grows with the square of it.
const PASSWORD_BYTES_MAX: usize = 512;
/// Rounds that are meant where none are named.
const ROUNDS_DEFAULT: u32 = 5000;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// In which order bytes are written, by threes; the last ones by fewer.
const MD5_ORDER: [u8; 16] = [0, 6, 12, 1, 7, 13, 2, 8, 14, 3, 9, 15, 4, 10, 5, 11];
const SHA256_ORDER: [u8; 32] = [
    0, 10, 20, 21, 1, 11, 12, 22, 2, 3, 13, 23, 24, 4, 14, 15, 25, 5, 6, 16, 26, 27, 7, 17, 18, 28,
    8, 9, 19, 29, 31, 30,
];
const SHA512_ORDER: [u8; 64] = [
    0, 21, 42, 22, 43, 1, 44, 2, 23, 3, 24, 45, 25, 46, 4, 47, 5, 26, 6, 27, 48, 28, 49, 7, 50, 8,
    29, 9, 30, 51, 31, 52, 10, 53, 11, 32, 12, 33, 54, 34, 55, 13, 56, 14, 35, 15, 36, 57, 37, 58,
    16, 59, 17, 38, 18, 39, 60, 40, 61, 19, 62, 20, 41, 63,
];

/// A hash of crypt(3).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Crypt {
    kind: Kind,
    salt: Vec<u8>,
    /// As it is written.
    output: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Md5,
    Sha256(u32),
    Sha512(u32),
}

impl Crypt {
    /// `None` if the form is another.
    pub(super) fn parse(parts: &[&str]) -> Result<Option<Self>, HashRefused> {
        let (form, salt_max, length) = match parts {
            ["", "md5-crypt", ..] => ("md5-crypt", 8, 22),
            ["", "sha256-crypt", ..] => ("sha256-crypt", 16, 43),
            ["", "sha512-crypt", ..] => ("sha512-crypt", 16, 86),
            _ => return Ok(None),
        };
        let malformed = |reason| HashRefused::Malformed { form, reason };
        let (rounds, salt, output) = match &parts[2..] {
            [salt, output] => (ROUNDS_DEFAULT, salt, output),
            [cost, salt, output] if form != "md5-crypt" => {
                let digits = cost.strip_prefix("rounds=").unwrap_or_default();
                let is_number =
                    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let rounds = digits.parse::<u64>().ok().filter(|_| is_number);
                let rounds = rounds.ok_or(malformed("the cost is not rounds=…"))?;
                // Fewer are raised, as every crypt(3) does.
                (u32::try_from(rounds).unwrap_or(u32::MAX).max(Params::ROUNDS_MIN), salt, output)
            }
            _ => return Err(malformed("it has not the parts that it should")),
        };
        if rounds > ROUNDS_MAX {
            return Err(HashRefused::TooCostly { form, reason: "at most 1,000,000 rounds" });
        }
        if output.len() != length || !output.bytes().all(|byte| ALPHABET.contains(&byte)) {
            return Err(malformed("the hash has not the length or the alphabet of crypt"));
        }
        if salt.len() > 128 {
            return Err(malformed("the salt is longer than 128 bytes"));
        }
        let salt = salt.as_bytes()[..salt.len().min(salt_max)].to_vec();
        let kind = match form {
            "md5-crypt" => Kind::Md5,
            "sha256-crypt" => Kind::Sha256(rounds),
            _ => Kind::Sha512(rounds),
        };
        Ok(Some(Self { kind, salt, output: output.as_bytes().to_vec() }))
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let params = |rounds| Params::new(rounds).unwrap_or(Params::RECOMMENDED);
        let made = match self.kind {
            Kind::Md5 => written(&md5_crypt(password, &self.salt), &MD5_ORDER),
            Kind::Sha256(rounds) => {
                let made = sha_crypt::sha256_crypt(password, &self.salt, params(rounds));
                written(&made, &SHA256_ORDER)
            }
            Kind::Sha512(rounds) => {
                let made = sha_crypt::sha512_crypt(password, &self.salt, params(rounds));
                written(&made, &SHA512_ORDER)
            }
        };
        made.ct_eq(&self.output).into()
    }
}

/// Six bits a character, the lowest first.
fn written(bytes: &[u8], order: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in order.chunks(3) {
        let mut bits =
            group.iter().fold(0_u32, |bits, at| bits << 8 | u32::from(bytes[usize::from(*at)]));
        for _ in 0..=group.len() {
            text.push(ALPHABET[(bits & 63) as usize]);
            bits >>= 6;
        }
    }
    text
}

fn md5_crypt(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let digest = |parts: &[&[u8]]| -> [u8; 16] {
        let mut md5 = Md5::new();
        parts.iter().for_each(|part| md5.update(part));
        md5.finalize().into()
    };
    let inner = digest(&[password, salt, password]);
    let mut md5 = Md5::new();
    md5.update(password);
    md5.update(b"$1$");
    md5.update(salt);
    let mut left = password.len();
    while left > 0 {
        md5.update(&inner[..left.min(16)]);
        left -= left.min(16);
    }
    let mut bits = password.len();
    while bits > 0 {
        md5.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    let mut made: [u8; 16] = md5.finalize().into();
    for round in 0..1000 {
        let nothing: &[u8] = &[];
        let (first, last) =
            if round % 2 == 1 { (password, &made[..]) } else { (&made[..], password) };
        let salted = if round % 3 == 0 { nothing } else { salt };
        let again = if round % 7 == 0 { nothing } else { password };
        made = digest(&[first, salted, again, last]);
    }
    made
}

#[cfg(test)]
mod crypt_tests {
    use super::*;

    /// What these forms cost grows with the square of the password, which whoever logs in
    /// chooses: a mebibyte of it would keep a thread busy for an hour.
    #[test]
    fn passwords_longer_than_any_crypt_takes_match_nothing() {
        let params = Params::new(Params::ROUNDS_MIN).unwrap();
        for (length, taken) in [(PASSWORD_BYTES_MAX, true), (PASSWORD_BYTES_MAX + 1, false)] {
            let password = vec![b'x'; length];
            let sha256 = sha_crypt::sha256_crypt(&password, b"salt", params);
            let sha512 = sha_crypt::sha512_crypt(&password, b"salt", params);
            for (kind, output) in [
                (Kind::Md5, written(&md5_crypt(&password, b"salt"), &MD5_ORDER)),
                (Kind::Sha256(Params::ROUNDS_MIN), written(&sha256, &SHA256_ORDER)),
                (Kind::Sha512(Params::ROUNDS_MIN), written(&sha512, &SHA512_ORDER)),
            ] {
                let crypt = Crypt { kind, salt: b"salt".to_vec(), output };
                assert_eq!(crypt.verify(&password), taken, "{length}");
            }
        }
    }
}
