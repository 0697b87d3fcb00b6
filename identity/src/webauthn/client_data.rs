//! What the browser says: which ceremony, which challenge, which origin (§ 5.8.1). The
//! bytes as they came are what the authenticator signed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::{Challenge, Refused, RelyingParty};

/// Which ceremony an answer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceremony {
    /// A key is made.
    Create,
    /// A key is used.
    Get,
}

impl Ceremony {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "webauthn.create",
            Self::Get => "webauthn.get",
        }
    }
}

#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
    #[serde(rename = "topOrigin")]
    top_origin: Option<String>,
}

/// Checks what the browser says.
///
/// # Errors
/// See [`Refused`].
pub fn check(
    bytes: &[u8],
    ceremony: Ceremony,
    challenge: &Challenge,
    party: &RelyingParty,
) -> Result<(), Refused> {
    let data: ClientData =
        serde_json::from_slice(bytes).map_err(|_| Refused::Malformed("clientDataJSON"))?;
    if data.kind != ceremony.name() {
        return Err(Refused::Type);
    }
    let answered = URL_SAFE_NO_PAD.decode(data.challenge).map_err(|_| Refused::Challenge)?;
    if !bool::from(answered.ct_eq(&challenge.0)) {
        return Err(Refused::Challenge);
    }
    let listed = party.origins.contains(&data.origin);
    if !listed || data.cross_origin || data.top_origin.is_some() {
        return Err(Refused::Origin);
    }
    Ok(())
}
