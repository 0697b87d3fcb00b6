//! The rules of the two ceremonies: registering a key (§ 7.1) and authenticating by one
//! (§ 7.2). Everything in them can be judged from what came and what is kept; that an
//! answer is taken once is for the caller to see to.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    Challenge, Refused, RelyingParty, UserVerification,
    authenticator_data::AuthenticatorData,
    cbor,
    client_data::{self, Ceremony},
    cose::PublicKey,
};

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How many transports of an authenticator are kept, and how long their names may be.
const TRANSPORTS_MAX: usize = 8;
const TRANSPORT_BYTES_MAX: usize = 32;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<R> {
    raw_id: String,
    #[serde(rename = "type")]
    kind: String,
    response: R,
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "attestationObject")]
    attestation_object: String,
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    #[serde(default)]
    transports: Vec<String>,
}

#[derive(Deserialize)]
struct Got {
    #[serde(rename = "authenticatorData")]
    authenticator_data: String,
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    signature: String,
    #[serde(rename = "userHandle")]
    user_handle: Option<String>,
}

/// A key that was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: Vec<u8>,
    /// The public key, in COSE.
    pub public_key: Vec<u8>,
    /// The kind of authenticator.
    pub aaguid: [u8; 16],
    /// How often it was used.
    pub counter: u32,
    /// How the authenticator is reached.
    pub transports: Vec<String>,
    /// Whether it may be on several devices.
    pub backup_eligible: bool,
    /// Whether it is.
    pub backed_up: bool,
    /// Whether the authenticator made sure who uses it.
    pub user_verified: bool,
}

/// What an answer says before it is known whose key it is of.
#[derive(Debug)]
pub struct Asserted {
    /// The key that it names.
    pub id: Vec<u8>,
    /// Whom the authenticator takes its user for.
    pub user_handle: Option<Vec<u8>>,
    authenticator_data: Vec<u8>,
    client_data: Vec<u8>,
    signature: Vec<u8>,
}

/// A key as it is kept.
#[derive(Debug, Clone, Copy)]
pub struct KeptKey<'a> {
    /// The public key, in COSE.
    pub public_key: &'a [u8],
    /// How often it was used.
    pub counter: u32,
    /// Whether it may be on several devices, if that is known.
    pub backup_eligible: Option<bool>,
}

/// What is to be kept of a key after its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// How often it was used.
    pub counter: u32,
    /// Whether it may be on several devices.
    pub backup_eligible: bool,
    /// Whether it is.
    pub backed_up: bool,
}

/// Registers the key in a browser's answer (`RegistrationResponseJSON`).
///
/// # Errors
/// See [`Refused`].
pub fn registration(
    answer: &str,
    challenge: &Challenge,
    party: &RelyingParty,
    wanted: UserVerification,
) -> Result<Registered, Refused> {
    let answer: Answer<Created> = read(answer)?;
    let client_data = decode(&answer.response.client_data)?;
    client_data::check(&client_data, Ceremony::Create, challenge, party)?;
    let object = decode(&answer.response.attestation_object)?;
    let (object, behind) = cbor::split(&object)?;
    if !behind.is_empty() {
        return Err(Refused::Malformed("something stands behind the attestation object"));
    }
    let object = cbor::Fields::of(object)?;
    let format = object.named("fmt").and_then(ciborium::Value::as_text);
    let statement = object.named("attStmt").ok_or(Refused::Malformed("attStmt is missing"))?;
    let statement = cbor::Fields::of(statement.clone())?;
    if format.is_none() || (format == Some("none") && !statement.is_empty()) {
        return Err(Refused::Malformed("the attestation statement"));
    }
    let data = object.named("authData").and_then(ciborium::Value::as_bytes);
    let data = AuthenticatorData::parse(data.ok_or(Refused::Malformed("authData is missing"))?)?;
    data.check(party, wanted)?;
    let (backup_eligible, backed_up) = (data.is_backup_eligible(), data.is_backed_up());
    let (user_verified, counter) = (data.is_user_verified(), data.counter);
    let key = data.attested.ok_or(Refused::Malformed("no key was made"))?;
    if decode(&answer.raw_id)? != key.id {
        return Err(Refused::Malformed("the key has two ids"));
    }
    PublicKey::parse(&key.public_key)?;
    let mut transports = answer.response.transports;
    transports.retain(|name| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=TRANSPORT_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
    });
    transports.truncate(TRANSPORTS_MAX);
    Ok(Registered {
        id: key.id,
        public_key: key.public_key,
        aaguid: key.aaguid,
        counter,
        transports,
        backup_eligible,
        backed_up,
        user_verified,
    })
}

/// Reads the answer of a browser that used a key (`AuthenticationResponseJSON`). Nothing
/// of it is verified yet.
///
/// # Errors
/// [`Refused::Malformed`].
pub fn assertion(answer: &str) -> Result<Asserted, Refused> {
    let answer: Answer<Got> = read(answer)?;
    let handle = answer.response.user_handle.filter(|handle| !handle.is_empty());
    Ok(Asserted {
        id: decode(&answer.raw_id)?,
        user_handle: handle.map(|handle| decode(&handle)).transpose()?,
        authenticator_data: decode(&answer.response.authenticator_data)?,
        client_data: decode(&answer.response.client_data)?,
        signature: decode(&answer.response.signature)?,
    })
}

impl Asserted {
    /// Whether the key that is kept under the id has signed this.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn verify(
        &self,
        key: KeptKey<'_>,
        challenge: &Challenge,
        party: &RelyingParty,
        wanted: UserVerification,
    ) -> Result<Used, Refused> {
        client_data::check(&self.client_data, Ceremony::Get, challenge, party)?;
        let data = AuthenticatorData::parse(&self.authenticator_data)?;
        data.check(party, wanted)?;
        if key.backup_eligible.is_some_and(|known| known != data.is_backup_eligible()) {
            return Err(Refused::Backup);
        }
        let mut signed = self.authenticator_data.clone();
        signed.extend_from_slice(&Sha256::digest(&self.client_data));
        PublicKey::parse(key.public_key)?.verify(&signed, &self.signature)?;
        if (data.counter != 0 || key.counter != 0) && data.counter <= key.counter {
            return Err(Refused::Counter);
        }
        let (backup_eligible, backed_up) = (data.is_backup_eligible(), data.is_backed_up());
        Ok(Used { counter: data.counter, backup_eligible, backed_up })
    }
}

fn read<R: for<'a> Deserialize<'a>>(answer: &str) -> Result<Answer<R>, Refused> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(Refused::Malformed("it is too long"));
    }
    let answer: Answer<R> =
        serde_json::from_str(answer).map_err(|_| Refused::Malformed("no JSON of an answer"))?;
    if answer.kind != "public-key" {
        return Err(Refused::Malformed("no public key"));
    }
    Ok(answer)
}

fn decode(text: &str) -> Result<Vec<u8>, Refused> {
    let text = text.trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Malformed("base64"))
}
