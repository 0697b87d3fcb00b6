//! An authenticator in software, for tests: it makes keys and signs as a real one does,
//! and can be told to do wrong.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ciborium::Value;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

/// A key.
pub(crate) enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// An authenticator with one key, and what it says.
pub(crate) struct Soft {
    pub(crate) key: Key,
    pub(crate) id: Vec<u8>,
    pub(crate) origin: String,
    pub(crate) rp_id: String,
    pub(crate) flags: u8,
    pub(crate) counter: u32,
    pub(crate) handle: Option<Vec<u8>>,
    pub(crate) cross_origin: bool,
    pub(crate) kind: Option<&'static str>,
    pub(crate) challenge: Option<Vec<u8>>,
    pub(crate) behind: Vec<u8>,
}

/// Present and verified.
pub(crate) const VERIFIED: u8 = 0b101;
/// Present alone.
pub(crate) const PRESENT: u8 = 0b001;

impl Key {
    pub(crate) fn es256() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random);
        Self::Es256(key.unwrap())
    }

    pub(crate) fn ed_dsa() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::EdDsa(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    pub(crate) fn rs256() -> Self {
        Self::Rs256(RsaKeyPair::from_pkcs8(include_bytes!("testdata/rsa2048.der")).unwrap())
    }

    pub(crate) fn cose(&self) -> Vec<u8> {
        let integer = |n: i64| Value::Integer(n.into());
        let fields: Vec<(i64, Value)> = match self {
            Self::Es256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (point[1..33].to_vec(), point[33..].to_vec());
                vec![
                    (1, integer(2)),
                    (3, integer(-7)),
                    (-1, integer(1)),
                    (-2, Value::Bytes(x)),
                    (-3, Value::Bytes(y)),
                ]
            }
            Self::EdDsa(key) => vec![
                (1, integer(1)),
                (3, integer(-8)),
                (-1, integer(6)),
                (-2, Value::Bytes(key.public_key().as_ref().to_vec())),
            ],
            Self::Rs256(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                vec![
                    (1, integer(3)),
                    (3, integer(-257)),
                    (-1, Value::Bytes(public.n)),
                    (-2, Value::Bytes(public.e)),
                ]
            }
        };
        encoded(&Value::Map(fields.into_iter().map(|(label, v)| (integer(label), v)).collect()))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::EdDsa(key) => key.sign(message).as_ref().to_vec(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

impl Soft {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            id: b"a key's id".to_vec(),
            origin: "https://id.example.org".to_owned(),
            rp_id: "example.org".to_owned(),
            flags: VERIFIED,
            counter: 0,
            handle: None,
            cross_origin: false,
            kind: None,
            challenge: None,
            behind: Vec::new(),
        }
    }

    /// What a browser answers to options that ask for a new key.
    pub(crate) fn create(&mut self, options: &Json) -> String {
        let options = &options["publicKey"];
        let handle = options["user"]["id"].as_str().unwrap();
        self.handle = Some(URL_SAFE_NO_PAD.decode(handle).unwrap());
        let key = self.key.cose();
        let mut data = self.head(0b100_0000);
        data.extend_from_slice(&[7; 16]);
        data.extend_from_slice(&u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend_from_slice(&self.id);
        data.extend_from_slice(&key);
        data.extend_from_slice(&self.behind);
        let text = |text: &str| Value::Text(text.to_owned());
        let object = Value::Map(vec![
            (text("fmt"), text("none")),
            (text("attStmt"), Value::Map(Vec::new())),
            (text("authData"), Value::Bytes(data)),
        ]);
        let client_data = self.client_data("webauthn.create", options);
        json!({
            "id": URL_SAFE_NO_PAD.encode(&self.id),
            "rawId": URL_SAFE_NO_PAD.encode(&self.id),
            "type": "public-key",
            "response": {
                "attestationObject": URL_SAFE_NO_PAD.encode(encoded(&object)),
                "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
                "transports": ["internal", "hybrid", "no such thing"],
            },
        })
        .to_string()
    }

    /// What a browser answers to options that ask to use a key.
    pub(crate) fn get(&self, options: &Json) -> String {
        self.get_json(options).to_string()
    }

    pub(crate) fn get_json(&self, options: &Json) -> Json {
        let options = &options["publicKey"];
        let mut data = self.head(0);
        data.extend_from_slice(&self.behind);
        let client_data = self.client_data("webauthn.get", options);
        let mut signed = data.clone();
        signed.extend_from_slice(&Sha256::digest(&client_data));
        let signature = self.key.sign(&signed);
        json!({
            "id": URL_SAFE_NO_PAD.encode(&self.id),
            "rawId": URL_SAFE_NO_PAD.encode(&self.id),
            "type": "public-key",
            "response": {
                "authenticatorData": URL_SAFE_NO_PAD.encode(&data),
                "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
                "signature": URL_SAFE_NO_PAD.encode(signature),
                "userHandle": self.handle.as_ref().map(|h| URL_SAFE_NO_PAD.encode(h)),
            },
        })
    }

    fn head(&self, flags: u8) -> Vec<u8> {
        let mut data = Sha256::digest(self.rp_id.as_bytes()).to_vec();
        data.push(self.flags | flags);
        data.extend_from_slice(&self.counter.to_be_bytes());
        data
    }

    fn client_data(&self, kind: &str, options: &Json) -> Vec<u8> {
        let own = self.challenge.as_ref().map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let challenge = own.unwrap_or_else(|| options["challenge"].as_str().unwrap().to_owned());
        json!({
            "type": self.kind.unwrap_or(kind),
            "challenge": challenge,
            "origin": self.origin,
            "crossOrigin": self.cross_origin,
        })
        .to_string()
        .into_bytes()
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}
