//! Time-based one-time codes (RFC 6238): HMAC-SHA-1, six digits, steps of 30 seconds,
//! which is what authenticator apps take for granted. A code is good in its step and in
//! the one before and after, for clocks that are off; which step it was is told, so that
//! the step can be spent.

use cardea_storage::{Entropy, Secret, Timestamp};
use ring::hmac;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use url::Url;

/// A step in milliseconds.
const STEP_MS: u64 = 30_000;
const DIGITS: usize = 6;
/// 160 bits, as RFC 4226 § 4 recommends.
const SEED_BYTES: usize = 20;
/// Others draw 80 bits, and no HMAC has use for more than 512.
const SEED_BYTES_KEPT: std::ops::RangeInclusive<usize> = 10..=64;
/// The alphabet of RFC 4648 § 6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What an authenticator app and the server share.
#[derive(Debug, Clone)]
pub struct Seed(Secret<Vec<u8>>);

impl Seed {
    /// A new one.
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let bytes: [u8; SEED_BYTES] = entropy.bytes();
        Self(Secret::new(bytes.to_vec()))
    }

    /// Reads one that was kept; `None` if these are no bytes of a seed.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        SEED_BYTES_KEPT.contains(&bytes.len()).then(|| Self(Secret::new(bytes.to_vec())))
    }

    /// Reads the one in a URL as [`url`](Self::url) makes it, or another system.
    ///
    /// # Errors
    /// What is not understood: other algorithms, digits or periods than ours.
    pub fn from_url(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "totp_url is no URL")?;
        if url.scheme() != "otpauth" || url.host_str() != Some("totp") {
            return Err("totp_url does not begin with otpauth://totp/");
        }
        let mut seed = None;
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "algorithm" if !value.eq_ignore_ascii_case("SHA1") => {
                    return Err("time-based codes of another algorithm than SHA1 are not taken");
                }
                "digits" if value != "6" => {
                    return Err("time-based codes of another length than 6 digits are not taken");
                }
                "period" if value != "30" => {
                    return Err("time-based codes of another period than 30 s are not taken");
                }
                "secret" => seed = from_base32(&value).and_then(|bytes| Self::from_bytes(&bytes)),
                _ => {}
            }
        }
        seed.ok_or("totp_url has no secret of 10 to 64 bytes in base 32")
    }

    /// What is kept, sealed.
    pub fn bytes(&self) -> &[u8] {
        self.0.expose()
    }

    /// The seed as people type it.
    pub fn text(&self) -> Secret<String> {
        Secret::new(base32(self.0.expose()))
    }

    /// The URL that an app reads from a picture, by the format that Google
    /// Authenticator set.
    pub fn url(&self, issuer: &str, account: &str) -> Secret<String> {
        Secret::new(format!(
            "otpauth://totp/{issuer}:{account}?algorithm=SHA1&digits={DIGITS}&issuer={issuer}\
             &period={}&secret={}",
            STEP_MS / 1000,
            base32(self.0.expose()),
            issuer = escaped(issuer),
            account = escaped(account),
        ))
    }

    /// The code of a step.
    pub fn code(&self, step: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.expose());
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let digest = tag.as_ref();
        let at = usize::from(digest[digest.len() - 1] & 0x0f);
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&digest[at..at + 4]);
        let number = u32::from_be_bytes(bytes) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }

    /// The step that a code is of, if it is good now. Each of the steps is compared, in
    /// constant time.
    pub fn step_of(&self, code: &str, now: Timestamp) -> Option<u64> {
        let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        if code.len() != DIGITS || !code.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let current = step_at(now);
        let mut found = 0;
        for step in [current.saturating_sub(1), current, current + 1] {
            let is_right = self.code(step).as_bytes().ct_eq(code.as_bytes());
            found = u64::conditional_select(&found, &step, is_right);
        }
        (found != 0).then_some(found)
    }
}

/// The step of a time; never 0 in our days.
pub fn step_at(now: Timestamp) -> u64 {
    now.as_millis() / STEP_MS
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(BASE32[(held >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(BASE32[(held << (5 - bits)) as usize & 31]));
    }
    text
}

/// Reads base 32 in capitals or not, padded or not.
fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut held, mut bits) = (0_u32, 0);
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    for letter in text.trim_end_matches('=').bytes() {
        let letter = letter.to_ascii_uppercase();
        let value = BASE32.iter().position(|known| *known == letter)?;
        held = (held << 5) | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

/// Percent-encoded as a part of a URL's path and as a value of its query.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Seed {
        Seed::from_bytes(b"12345678901234567890").unwrap()
    }

    #[test]
    fn seeds_of_others_are_read_from_their_urls() {
        let ours = seed();
        let read = Seed::from_url(ours.url("Cardea & Co", "ann@example.org").expose()).unwrap();
        assert_eq!(read.bytes(), ours.bytes());
        let bare =
            Seed::from_url("otpauth://totp/x?secret=gezdgnbvgy3tqojqgezdgnbvgy3tqojq").unwrap();
        assert_eq!(bare.code(1), ours.code(1));
        let short = Seed::from_url("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ").unwrap();
        assert_eq!(short.bytes(), b"1234567890");
        for refused in [
            "",
            "https://totp/x?secret=GEZDGNBVGY3TQOJQ",
            "otpauth://hotp/x?secret=GEZDGNBVGY3TQOJQ",
            "otpauth://totp/x",
            "otpauth://totp/x?secret=ABC",
            "otpauth://totp/x?secret=GEZDGNBVGY3TQOJ1",
            "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&algorithm=SHA256",
            "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&digits=8",
            "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&period=60",
        ] {
            assert!(Seed::from_url(refused).is_err(), "{refused}");
        }
    }

    /// RFC 6238, appendix B, by the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let now = Timestamp(seconds * 1000);
            assert_eq!(seed().code(step_at(now)), code, "{seconds}");
            assert_eq!(seed().step_of(code, now), Some(seconds / 30));
        }
    }

    #[test]
    fn code_is_good_a_step_early_or_late_and_no_longer() {
        let now = Timestamp(1_234_567_890_000);
        let step = step_at(now);
        for (of, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let code = seed().code(step.checked_add_signed(of).unwrap());
            assert_eq!(seed().step_of(&code, now).is_some(), good, "{of}");
        }
        let code = seed().code(step);
        assert!(seed().step_of(&format!("{} {}", &code[..3], &code[3..]), now).is_some());
        for wrong in ["", "12345", "1234567", "abcdef", "000000"] {
            assert_eq!(seed().step_of(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn seeds_are_told_in_base32_and_in_a_url() {
        assert_eq!(seed().text().expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(base32(b"f"), "MY");
        assert_eq!(base32(b"foob"), "MZXW6YQ");
        assert_eq!(
            seed().url("My App", "ann@example.org").expose(),
            "otpauth://totp/My%20App:ann%40example.org?algorithm=SHA1&digits=6\
             &issuer=My%20App&period=30&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        );
        assert!(Seed::from_bytes(b"short").is_none());
    }
}
