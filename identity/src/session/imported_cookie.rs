//! Session cookies that Ory Kratos made, where its secrets are given: so that browsers stay
//! signed in when an application moves here.
//!
//! Kratos keeps its cookies as the Go library securecookie does. What they are worth is the
//! session token in them, and it is looked up as that of a session that was brought along;
//! how long a cookie lasts says the session, not the cookie. The steps:
//! 1. base64 of `<seconds>|<value>|<tag>`; the tag is HMAC-SHA256, under the secret, of
//!    `<cookie's name>|<seconds>|<value>`, and is checked before anything else is read;
//! 2. the value is base64 of an initial counter block and what AES-256-CTR made, under
//!    SHA-256 of the secret;
//! 3. that is a Go gob of a map from texts to texts: the token is `session_token`.
//!
//! Nothing here makes such a cookie: who is answered gets one of ours.

use std::sync::Arc;

use aes::{
    Aes256,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use cardea_storage::Secret;
use ring::hmac;
use sha2::Digest as _;

/// The longest cookie value that is looked at, in bytes: as in securecookie.
const COOKIE_BYTES_MAX: usize = 4096;
/// The length of a tag, and of a counter block, in bytes.
const TAG_BYTES: usize = 32;
const BLOCK_BYTES: usize = 16;
/// Most pairs of a map: Kratos writes three.
const PAIRS_MAX: u64 = 16;
/// What Go's gob calls a text, by name and by number.
const TEXT_NAME: &[u8] = b"string";
const TEXT_TYPE: i64 = 6;

/// Opens cookies of Kratos.
#[derive(Clone)]
pub struct ImportedCookies {
    /// Their name, which is part of what is signed.
    name: String,
    secrets: Arc<Vec<Secret<String>>>,
}

impl std::fmt::Debug for ImportedCookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportedCookies").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ImportedCookies {
    /// Of cookies of this name, by Kratos's `secrets.cookie`: any of them opens.
    pub fn new(name: String, secrets: Vec<Secret<String>>) -> Self {
        Self { name, secrets: Arc::new(secrets) }
    }

    /// The session token in a cookie; `None` if Kratos did not make it.
    pub fn open(&self, value: &str) -> Option<Secret<String>> {
        if value.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let whole = URL_SAFE.decode(value).ok()?;
        // A tag may hold any byte: it is told by its length.
        let (told, tag) = whole.split_at_checked(whole.len().checked_sub(TAG_BYTES + 1)?)?;
        let tag = tag.strip_prefix(b"|")?;
        let signed = [self.name.as_bytes(), b"|", told].concat();
        let made_by = |secret: &&Secret<String>| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
            hmac::verify(&key, &signed, tag).is_ok()
        };
        let secret = self.secrets.iter().find(made_by)?;
        let at = told.iter().position(|byte| *byte == b'|')?;
        let sealed = URL_SAFE.decode(&told[at + 1..]).ok()?;
        let (counter, mut plain) = sealed
            .split_first_chunk::<BLOCK_BYTES>()
            .map(|(counter, rest)| (*counter, rest.to_vec()))?;
        let key: [u8; 32] = sha2::Sha256::digest(secret.expose().as_bytes()).into();
        ctr::Ctr128BE::<Aes256>::new(&key.into(), &counter.into()).apply_keystream(&mut plain);
        let plain = Secret::new(plain);
        let token = Gob(plain.expose()).text_of_map(b"session_token")?;
        String::from_utf8(token.to_vec()).ok().map(Secret::new)
    }
}

/// What is left of a gob.
struct Gob<'a>(&'a [u8]);

impl<'a> Gob<'a> {
    /// A value of the one map that this is: messages that describe types, and one that holds
    /// the map.
    fn text_of_map(mut self, wanted: &[u8]) -> Option<&'a [u8]> {
        loop {
            let mut message = Gob(self.counted()?);
            if message.signed()? < 0 {
                continue;
            }
            // What is no struct stands behind a zero.
            if message.unsigned()? != 0 {
                return None;
            }
            let pairs = message.unsigned().filter(|pairs| *pairs <= PAIRS_MAX)?;
            let mut found = None;
            for _ in 0..pairs {
                let (key, value) = (message.text()?, message.text()?);
                if key == wanted {
                    found = Some(value);
                }
            }
            return found.filter(|_| message.0.is_empty() && self.0.is_empty());
        }
    }

    /// A text in an interface: the name of its type, the type's number, and its length with
    /// the zero before it.
    fn text(&mut self) -> Option<&'a [u8]> {
        if self.counted()? != TEXT_NAME || self.signed()? != TEXT_TYPE {
            return None;
        }
        let mut value = Gob(self.counted()?);
        if value.unsigned()? != 0 {
            return None;
        }
        value.counted().filter(|_| value.0.is_empty())
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        let (counted, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(counted)
    }

    /// Below 128 a byte; else the complement of how many bytes follow, big-endian.
    fn unsigned(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        if *first < 128 {
            return Some(u64::from(*first));
        }
        let length = usize::from(first.wrapping_neg());
        let (bytes, rest) = self.0.split_at_checked(length).filter(|_| length <= 8)?;
        self.0 = rest;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The lowest bit says that the others are the complement.
    fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        let magnitude = i64::try_from(number >> 1).ok()?;
        Some(if number & 1 == 1 { !magnitude } else { magnitude })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const NAME: &str = "ory_kratos_session";
    pub(crate) const SECRET: &str = "PLEASE-CHANGE-ME-I-AM-VERY-INSECURE";
    pub(crate) const TOKEN: &str = "ory_st_MDr3ZPR0b8nZxCvWkLtVYqWfHs2yB9aE";
    /// Made by gorilla/sessions 1.2.1 with the keys that Kratos gives it, under `SECRET`.
    pub(crate) const COOKIE: &str = concat!(
        "MTc5NTk2ODc2MHxfVWhBRzJaNDNndFY3TWZwaUs5NFRkcXVkNEVnX25iY0ZiS1IyLTdVcWo4MDNwbkE0NXFJX0dQ",
        "c2JQdWJEX1pPclVCbmFUVmdQN2o4U3UtcTZWUlI0SEUwcWp0MW5KNDFWZTJaZHY2UlZfSGFEdGNleGdFQkZvRWxF",
        "NzQxby1zZ250eG5CWUNobno1ZHF5UGtqVFRjLWhuVFFHaWIzMmQ1Umkydl9WclF1U19BQm9qQTc4ZXBmVUllTzN3",
        "OU5hSlAzOEs5Sl9yS2lYLWZ0d0QxcEpWYzY0enNVNU02dzd1aTd6RmR6THp1cFFvbkxwb0xoVjd5YWdpSVktT3Bu",
        "N1RCZFM4cWowazBtNkRFYXQ1cVE4WU589XoZ3Es2RoKmFr37qI1xSpwUwqWPPuwHgqm5gxgN7Kg=",
    );
    /// The same under `FORMER`, as old versions wrote it: the token alone.
    const FORMER: &str = "the former one";
    const FORMER_COOKIE: &str = concat!(
        "MTc5NTk2ODc2MHwyb1lGc1FtM2JpekpRbVczWWRWZVFTN1ljNXdsazV0WmZhU2N0LTRhclBfeTNHSk4wTDhEX0JQ",
        "OEFVNVBmNmkzUEpkTlUtSl9ONjkwRzBWN0g3VEZtMS1vem9nV1JMWUlpLXNSdG5HU0hOaHpqZjRuRHJPS1hCWklp",
        "SzVGNXN3Smkwd3lqNHVMajZKTC0zSmIyQT09fHTZVsz-UjSBNg5I_CKUEs36RxUcym-ZU7hagv53jXUc",
    );

    fn cookies(name: &str, secrets: &[&str]) -> ImportedCookies {
        let secrets = secrets.iter().map(|secret| Secret::new((*secret).to_owned()));
        ImportedCookies::new(name.to_owned(), secrets.collect())
    }

    fn opened(cookies: &ImportedCookies, value: &str) -> Option<String> {
        cookies.open(value).map(|token| token.expose().clone())
    }

    #[test]
    fn cookies_of_all_its_secrets_hold_their_token() {
        let known = cookies(NAME, &[SECRET, FORMER]);
        assert_eq!(opened(&known, COOKIE).as_deref(), Some(TOKEN));
        assert_eq!(opened(&known, FORMER_COOKIE).as_deref(), Some(TOKEN));
        assert_eq!(opened(&cookies(NAME, &[FORMER]), COOKIE), None);
        assert_eq!(opened(&cookies(NAME, &[]), COOKIE), None);
        assert!(!format!("{known:?}").contains(SECRET));
    }

    #[test]
    fn cookie_of_another_name_or_altered_anywhere_is_none() {
        assert_eq!(opened(&cookies("ory_kratos_sessio", &[SECRET]), COOKIE), None);
        let known = cookies(NAME, &[SECRET, FORMER]);
        let whole = URL_SAFE.decode(COOKIE).unwrap();
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            assert_eq!(opened(&known, &URL_SAFE.encode(&altered)), None, "{at}");
            assert_eq!(opened(&known, &URL_SAFE.encode(&whole[..at])), None, "{at}");
        }
        assert_eq!(opened(&known, &"A".repeat(COOKIE_BYTES_MAX + 4)), None);
    }

    /// Whoever has the secret still writes nothing that is read past its end.
    #[test]
    fn gob_that_is_cut_or_counts_wrongly_is_none() {
        let text = |text: &[u8]| {
            let length = u8::try_from(text.len()).unwrap();
            [b"\x06string\x0c", &[length + 2, 0, length][..], text].concat()
        };
        let message = |body: &[u8]| [&[u8::try_from(body.len()).unwrap()][..], body].concat();
        let pair = [text(b"session_token"), text(b"t")].concat();
        let map = |count: u8| message(&[&[0xff, 0x80, 0, count][..], &pair].concat());
        let kind = b"\x0d\x7f\x04\x01\x02\xff\x80\x00\x01\x10\x01\x10\x00\x00";
        let whole = [&kind[..], &map(1)].concat();
        let read = |gob: &[u8]| Gob(gob).text_of_map(b"session_token").map(<[u8]>::to_vec);
        assert_eq!(read(&whole).as_deref(), Some(&b"t"[..]));
        for at in 0..whole.len() {
            assert_eq!(read(&whole[..at]), None, "{at}");
        }
        for wrong in
            [map(0), map(2), map(200), b"\xf7\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()]
        {
            assert_eq!(read(&[&kind[..], &wrong].concat()), None, "{wrong:?}");
        }
    }
}
