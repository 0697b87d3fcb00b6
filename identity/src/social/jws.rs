//! Signatures of ID tokens (RFC 7515, RFC 7518, RFC 8037): public keys only, and only
//! the algorithms listed here. `none` and the symmetric ones are not among them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, SHA384, SHA512, digest},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
        RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use serde_json::{Map, Value};

use super::Untrusted;

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// An algorithm that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    const ALL: [(&'static str, Self); 7] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// The left half of a text's digest, as `at_hash` has it (OpenID Connect Core 1.0
    /// § 3.1.3.6).
    pub fn half_digest(self, text: &str) -> String {
        let algorithm = match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => &SHA256,
            Self::Rs384 | Self::Es384 => &SHA384,
            Self::Rs512 | Self::EdDsa => &SHA512,
        };
        let whole = digest(algorithm, text.as_bytes());
        let half = &whole.as_ref()[..whole.as_ref().len() / 2];
        URL_SAFE_NO_PAD.encode(half)
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    kid: String,
    /// The only algorithm that it is for; `None`: any of its kind.
    only_for: Option<Algorithm>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    /// Reads a key of a set (RFC 7517); `None` if it is no public key for signatures of
    /// a kind that is taken.
    pub fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key[name].as_str();
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if !matches!(text("use"), None | Some("sig")) {
            return None;
        }
        let only_for = match text("alg") {
            None => None,
            Some(name) => Some(Algorithm::parse(name)?),
        };
        let point = |length: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            let fits = x.len() == length && y.len() == length;
            // Uncompressed.
            fits.then(|| [&[4][..], &x, &y].concat())
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::Rsa { n: bytes("n")?, e: bytes("e")? },
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
            _ => return None,
        };
        Some(Self { kid: text("kid").unwrap_or_default().to_owned(), only_for, material })
    }

    /// Whether tokens call it so.
    pub fn is_called(&self, kid: &str) -> bool {
        self.kid == kid
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if self.only_for.is_some_and(|only| only != algorithm) {
            return false;
        }
        let plain = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key).verify(message, signature).is_ok()
        };
        let rsa = |how: &'static RsaParameters, n: &[u8], e: &[u8]| {
            RsaPublicKeyComponents { n, e }.verify(how, message, signature).is_ok()
        };
        match (algorithm, &self.material) {
            (Algorithm::Rs256, Material::Rsa { n, e }) => rsa(&RSA_PKCS1_2048_8192_SHA256, n, e),
            (Algorithm::Rs384, Material::Rsa { n, e }) => rsa(&RSA_PKCS1_2048_8192_SHA384, n, e),
            (Algorithm::Rs512, Material::Rsa { n, e }) => rsa(&RSA_PKCS1_2048_8192_SHA512, n, e),
            (Algorithm::Ps256, Material::Rsa { n, e }) => rsa(&RSA_PSS_2048_8192_SHA256, n, e),
            (Algorithm::Es256, Material::P256(key)) => plain(&ECDSA_P256_SHA256_FIXED, key),
            (Algorithm::Es384, Material::P384(key)) => plain(&ECDSA_P384_SHA384_FIXED, key),
            (Algorithm::EdDsa, Material::Ed25519(key)) => plain(&ED25519, key),
            _ => false,
        }
    }
}

/// A token taken apart, not verified yet.
#[derive(Debug)]
pub struct Token<'a> {
    /// How it says that it is signed.
    pub algorithm: Algorithm,
    /// By which key.
    pub kid: Option<String>,
    message: &'a [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// If it is no signed token, or signed in a way that is not taken.
    pub fn read(text: &'a str) -> Result<Self, Untrusted> {
        let malformed = || Untrusted::Token("it is malformed");
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Untrusted::Token("it is too long"));
        }
        let (message, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = message.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| malformed())?;
        let algorithm = header["alg"].as_str().and_then(Algorithm::parse);
        let algorithm =
            algorithm.ok_or(Untrusted::Token("it is signed in a way that is not taken"))?;
        // RFC 7515 § 4.1.11: what must be understood and is not.
        if header.get("crit").is_some() {
            return Err(Untrusted::Token("it has critical extensions"));
        }
        Ok(Self {
            algorithm,
            kid: header["kid"].as_str().map(str::to_owned),
            message: message.as_bytes(),
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    /// What it claims to say, of which nothing is to be believed before it is verified.
    pub fn unverified(&self) -> Option<Map<String, Value>> {
        serde_json::from_slice(&self.payload).ok()
    }

    /// What it says, if one of these keys signed it.
    ///
    /// # Errors
    /// If none did, or it says nothing.
    pub fn verify(&self, keys: &[Key]) -> Result<Value, Untrusted> {
        let fits = |key: &&Key| self.kid.as_ref().is_none_or(|kid| key.is_called(kid));
        let signed = |key: &Key| key.verifies(self.algorithm, self.message, &self.signature);
        if !keys.iter().filter(fits).any(signed) {
            tracing::debug!(algorithm = self.algorithm.name(), "no key verifies an ID token");
            return Err(Untrusted::Token("its signature is of no key of the provider"));
        }
        match serde_json::from_slice(&self.payload) {
            Ok(claims @ Value::Object(_)) => Ok(claims),
            _ => Err(Untrusted::Token("it says nothing")),
        }
    }
}
