//! Keys that sign tokens for others to verify: private JSON Web Keys (RFC 7517, RFC 7518,
//! RFC 8037), each for the one algorithm that it names.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_identity::session::tokenize::SignsTokens;
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use serde_json::Value;
use thiserror::Error;

/// The shortest secret of HMAC, in bytes (RFC 7518 § 3.2: as long as the digest).
const SECRET_BYTES_MIN: usize = 32;

/// Why a key does not sign. Never carries its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadKey {
    /// It is no set with one key at least.
    #[error("it is no JSON Web Key Set with a key in it")]
    NoKey,
    /// It has no `kid`, by which others find it.
    #[error("the first key has no \"kid\"")]
    NoId,
    /// Its `alg` is missing, or not one that is known.
    #[error(
        "the first key names no \"alg\" of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, \
         EdDSA, HS256, HS384, HS512"
    )]
    NoAlgorithm,
    /// A part is missing, or the parts do not belong together.
    #[error("the first key is not a whole private key for its \"alg\"")]
    Malformed,
}

/// A key that signs.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    algorithm: &'static str,
    material: Arc<Material>,
}

enum Material {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Secret(hmac::Key),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, algorithm, .. } = self;
        f.debug_struct("SigningKey")
            .field("kid", kid)
            .field("algorithm", algorithm)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The first key of a set, as Kratos takes it.
    ///
    /// # Errors
    /// See [`BadKey`].
    pub fn read_set(text: &str) -> Result<Self, BadKey> {
        let set: Value = serde_json::from_str(text).map_err(|_| BadKey::NoKey)?;
        let key = set["keys"].as_array().and_then(|keys| keys.first()).ok_or(BadKey::NoKey)?;
        let kid = key["kid"].as_str().filter(|kid| !kid.is_empty()).ok_or(BadKey::NoId)?;
        let named = key["alg"].as_str().ok_or(BadKey::NoAlgorithm)?;
        let (algorithm, material) = Material::read(named, key)?;
        Ok(Self { kid: kid.to_owned(), algorithm, material: Arc::new(material) })
    }
}

impl SignsTokens for SigningKey {
    fn kid(&self) -> &str {
        &self.kid
    }

    fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// `None` if there is no randomness to be had.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self.material.as_ref() {
            Material::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Material::Ec(key) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
            Material::Ed25519(key) => Some(key.sign(message).as_ref().to_vec()),
            Material::Secret(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

impl Material {
    fn read(algorithm: &str, key: &Value) -> Result<(&'static str, Self), BadKey> {
        let of = |kty: &str, crv: Option<&str>| {
            let is = key["kty"] == kty && crv.is_none_or(|crv| key["crv"] == crv);
            if is { Ok(()) } else { Err(BadKey::Malformed) }
        };
        let bytes = |name: &str| {
            let text = key[name].as_str().ok_or(BadKey::Malformed)?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| BadKey::Malformed)
        };
        let rsa = |name: &'static str, encoding: &'static dyn RsaEncoding| {
            of("RSA", None)?;
            let parts = KeyPairComponents {
                public_key: PublicKeyComponents { n: bytes("n")?, e: bytes("e")? },
                d: bytes("d")?,
                p: bytes("p")?,
                q: bytes("q")?,
                dP: bytes("dp")?,
                dQ: bytes("dq")?,
                qInv: bytes("qi")?,
            };
            let pair = RsaKeyPair::from_components(&parts).map_err(|_| BadKey::Malformed)?;
            Ok((name, Self::Rsa(Box::new(pair), encoding)))
        };
        let ec = |name: &'static str, crv, how, length: usize| {
            of("EC", Some(crv))?;
            let (x, y, d) = (bytes("x")?, bytes("y")?, bytes("d")?);
            if [&x, &y, &d].iter().any(|part| part.len() != length) {
                return Err(BadKey::Malformed);
            }
            // Uncompressed.
            let point = [&[4][..], &x, &y].concat();
            let random = SystemRandom::new();
            EcdsaKeyPair::from_private_key_and_public_key(how, &d, &point, &random)
                .map(|pair| (name, Self::Ec(pair)))
                .map_err(|_| BadKey::Malformed)
        };
        let secret = |name: &'static str, how| {
            of("oct", None)?;
            let secret = bytes("k")?;
            match secret.len() >= SECRET_BYTES_MIN {
                true => Ok((name, Self::Secret(hmac::Key::new(how, &secret)))),
                false => Err(BadKey::Malformed),
            }
        };
        match algorithm {
            "RS256" => rsa("RS256", &RSA_PKCS1_SHA256),
            "RS384" => rsa("RS384", &RSA_PKCS1_SHA384),
            "RS512" => rsa("RS512", &RSA_PKCS1_SHA512),
            "PS256" => rsa("PS256", &RSA_PSS_SHA256),
            "PS384" => rsa("PS384", &RSA_PSS_SHA384),
            "PS512" => rsa("PS512", &RSA_PSS_SHA512),
            "ES256" => ec("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING, 32),
            "ES384" => ec("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING, 48),
            "EdDSA" => {
                of("OKP", Some("Ed25519"))?;
                Ed25519KeyPair::from_seed_and_public_key(&bytes("d")?, &bytes("x")?)
                    .map(|pair| ("EdDSA", Self::Ed25519(pair)))
                    .map_err(|_| BadKey::Malformed)
            }
            "HS256" => secret("HS256", hmac::HMAC_SHA256),
            "HS384" => secret("HS384", hmac::HMAC_SHA384),
            "HS512" => secret("HS512", hmac::HMAC_SHA512),
            _ => Err(BadKey::NoAlgorithm),
        }
    }
}

#[cfg(test)]
mod tests {
    use cardea_identity::social::jws::{Key, Token};
    use serde_json::json;

    use super::*;

    /// One key of each kind, drawn for these tests, by algorithm.
    const KEYS: &str = include_str!("signing_keys.test.json");

    /// A private key, and the set with it alone.
    fn key(algorithm: &str) -> (Value, String) {
        let keys: Value = serde_json::from_str(KEYS).unwrap();
        let key = keys[algorithm].clone();
        let set = json!({"keys": [key]}).to_string();
        (key, set)
    }

    #[test]
    fn what_is_signed_is_verified_by_the_public_key() {
        for algorithm in ["RS256", "ES256", "ES384", "EdDSA"] {
            let (public, set) = key(algorithm);
            let signing = SigningKey::read_set(&set).unwrap();
            let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let header = json!({"alg": signing.algorithm(), "kid": signing.kid()});
            let message = format!("{}.{}", part(header), part(json!({"sub": "ann"})));
            let signature = URL_SAFE_NO_PAD.encode(signing.sign(message.as_bytes()).unwrap());
            let token = format!("{message}.{signature}");
            let read = Token::read(&token).unwrap();
            let claims = read.verify(&[Key::read(&public).unwrap()]).unwrap();
            assert_eq!(claims["sub"], "ann", "{algorithm}");
            let shown = format!("{signing:?}");
            assert!(!shown.contains(public["d"].as_str().unwrap()), "{shown}");
        }
    }

    #[test]
    fn key_without_a_name_an_algorithm_or_all_its_parts_is_refused() {
        assert_eq!(SigningKey::read_set("{}").unwrap_err(), BadKey::NoKey);
        assert_eq!(SigningKey::read_set("key").unwrap_err(), BadKey::NoKey);
        let changed = |algorithm: &str, name: &str, value: Value| {
            let (mut key, _) = key(algorithm);
            key[name] = value;
            SigningKey::read_set(&json!({"keys": [key]}).to_string()).map(|_| ()).unwrap_err()
        };
        assert_eq!(changed("ES256", "kid", json!("")), BadKey::NoId);
        for algorithm in ["none", "HS1", ""] {
            assert_eq!(changed("ES256", "alg", json!(algorithm)), BadKey::NoAlgorithm);
        }
        assert_eq!(changed("ES256", "alg", Value::Null), BadKey::NoAlgorithm);
        // A public key; parts of another; a key for another algorithm than it says.
        for algorithm in ["RS256", "ES256", "ES384", "EdDSA"] {
            assert_eq!(changed(algorithm, "d", Value::Null), BadKey::Malformed, "{algorithm}");
            assert_eq!(changed(algorithm, "kty", json!("oct")), BadKey::Malformed, "{algorithm}");
        }
        assert_eq!(changed("ES256", "x", key("ES256").0["y"].clone()), BadKey::Malformed);
        assert_eq!(changed("EdDSA", "x", key("EdDSA").0["d"].clone()), BadKey::Malformed);
        assert_eq!(changed("ES256", "alg", json!("ES384")), BadKey::Malformed);
        assert_eq!(changed("ES256", "alg", json!("HS256")), BadKey::Malformed);
    }

    #[test]
    fn shared_secret_is_as_long_as_its_digest_asks() {
        let set = |length: usize| {
            let secret = URL_SAFE_NO_PAD.encode(vec![7; length]);
            let key = json!({"kid": "s", "kty": "oct", "alg": "HS256", "k": secret});
            SigningKey::read_set(&json!({"keys": [key]}).to_string())
        };
        assert_eq!(set(31).map(|_| ()).unwrap_err(), BadKey::Malformed);
        let key = set(32).unwrap();
        let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), b"m");
        assert_eq!(key.sign(b"m").unwrap(), signed.as_ref());
    }
}
