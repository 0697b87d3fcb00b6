//! What an ID token must say to be taken (OpenID Connect Core 1.0 § 3.1.3.7), and
//! claims as mappings see them.

use std::time::Duration;

use cardea_storage::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::{Provider, Untrusted, jws::Algorithm, preset::Shape};

/// How far the provider's clock may be off ours.
const LEEWAY: Duration = Duration::from_secs(60);
/// The longest subject, in bytes (OpenID Connect Core 1.0 § 8: 255 characters).
const SUBJECT_BYTES_MAX: usize = 255;

/// Most methods of `amr` that are kept, and the longest text of `acr` or `amr`, in bytes.
const AMR_MAX: usize = 10;
const AUTHENTICATION_BYTES_MAX: usize = 255;

/// How a provider authenticated somebody, by its ID token (OpenID Connect Core 1.0 § 2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// `acr`: which class of authentication it was.
    pub acr: Option<String>,
    /// `amr`: by what (RFC 8176).
    pub amr: Vec<String>,
}

impl Upstream {
    fn of(claims: &Map<String, Value>) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let bounded = |text: &String| (1..=AUTHENTICATION_BYTES_MAX).contains(&text.len());
        let amr = claims.get("amr").and_then(Value::as_array).into_iter().flatten();
        Self {
            acr: claims.get("acr").and_then(text).filter(bounded),
            amr: amr.filter_map(text).filter(bounded).take(AMR_MAX).collect(),
        }
    }
}

/// Somebody, as a provider knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stranger {
    /// How it was authenticated there; nothing where there is no ID token, for nothing
    /// else says it for this time alone.
    pub upstream: Upstream,
    /// Who says so.
    pub issuer: String,
    /// Whom it means; unique within the issuer.
    pub subject: String,
    /// What else it says.
    pub claims: Map<String, Value>,
}

impl Stranger {
    /// An address, if the provider asserts that it verified it.
    pub fn verified_email(&self) -> Option<&str> {
        let verified = self.claims.get("email_verified") == Some(&Value::Bool(true));
        self.claims.get("email").and_then(Value::as_str).filter(|_| verified)
    }
}

/// What a token was issued for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The nonce that it must bring back; `None` where the provider brings none.
    pub nonce: Option<&'a str>,
    /// The access token that came with it.
    pub access_token: Option<&'a str>,
    /// What time it is.
    pub now: Timestamp,
}

/// Judges what a verified ID token says.
///
/// # Errors
/// If it is of somebody else, for somebody else, over, or not the answer to what was
/// asked.
pub fn judge(
    provider: &Provider,
    algorithm: Algorithm,
    claims: Value,
    expected: Expected<'_>,
) -> Result<Stranger, Untrusted> {
    let wrong = |what: &'static str| Err(Untrusted::Token(what));
    let Value::Object(mut claims) = claims else { return wrong("it says nothing") };
    let issuer = addressed(provider, &claims)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let at = |name: &str| {
        let seconds = claims.get(name)?.as_f64().filter(|seconds| *seconds >= 0.0)?;
        Some(Timestamp((seconds * 1000.0) as u64))
    };
    let now = expected.now;
    match at("exp") {
        Some(expires_at) if now < expires_at.after(LEEWAY) => {}
        _ => return wrong("it is over"),
    }
    match at("iat") {
        Some(issued_at) if issued_at <= now.after(LEEWAY) => {}
        _ => return wrong("it was issued in the future"),
    }
    if at("nbf").is_some_and(|begins_at| begins_at > now.after(LEEWAY)) {
        return wrong("it does not count yet");
    }
    if let Some(nonce) = expected.nonce {
        let brought = text("nonce").unwrap_or_default();
        if !bool::from(brought.as_bytes().ct_eq(nonce.as_bytes())) {
            return wrong("it is the answer to another question");
        }
    }
    if let (Some(half), Some(token)) = (text("at_hash"), expected.access_token)
        && !bool::from(half.as_bytes().ct_eq(algorithm.half_digest(token).as_bytes()))
    {
        return wrong("it came with another access token");
    }
    let subject = subject(text("sub"))?;
    let upstream = Upstream::of(&claims);
    normalise(&mut claims);
    Ok(Stranger { upstream, issuer, subject, claims })
}

/// Whether claims are a provider's, and meant for us; gives their issuer.
///
/// # Errors
/// If they are not.
pub fn addressed(provider: &Provider, claims: &Map<String, Value>) -> Result<String, Untrusted> {
    let wrong = |what: &'static str| Err(Untrusted::Token(what));
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let issuer = text("iss").unwrap_or_default().to_owned();
    // Microsoft's tenants are issuers of one provider, each named in its tokens.
    let tenant = text("tid").filter(|tid| uuid::Uuid::parse_str(tid).is_ok());
    let wanted = match tenant {
        Some(tenant) => provider.issuer.replace("{tenantid}", tenant),
        None => provider.issuer.clone(),
    };
    if issuer != wanted {
        return wrong("it is another issuer's");
    }
    let ours = |audience: &str| {
        audience == provider.client_id || provider.audiences.iter().any(|other| other == audience)
    };
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.iter().any(|audience| ours(audience)) {
        return wrong("it is for another client");
    }
    match text("azp") {
        Some(party) if !ours(party) => return wrong("it was issued to another client"),
        None if audiences.len() > 1 && !audiences.iter().all(|a| ours(a)) => {
            return wrong("it is for several clients and says not to whom");
        }
        _ => {}
    }
    Ok(issuer)
}

/// Claims of a provider without ID tokens.
///
/// # Errors
/// If they name nobody.
pub fn shaped(provider: &Provider, userinfo: &Value, shape: &Shape) -> Result<Stranger, Untrusted> {
    let at = |pointer: &str| {
        let found = if pointer.is_empty() { None } else { userinfo.pointer(pointer) };
        found.filter(|value| !value.is_null()).cloned()
    };
    // Numbers are names too: GitHub's ids.
    let named = match at(shape.sub) {
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let subject = subject(named.as_deref())?;
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), provider.issuer.clone().into());
    claims.insert("sub".to_owned(), subject.clone().into());
    for (name, pointer) in [
        ("email", shape.email),
        ("email_verified", shape.email_verified),
        ("name", shape.name),
        ("preferred_username", shape.preferred_username),
        ("picture", shape.picture),
    ] {
        if let Some(value) = at(pointer) {
            claims.insert(name.to_owned(), value);
        }
    }
    normalise(&mut claims);
    claims.insert("raw_claims".to_owned(), userinfo.clone());
    Ok(Stranger { upstream: Upstream::default(), issuer: provider.issuer.clone(), subject, claims })
}

/// A subject that means somebody (Keycloak CVE-2026-82968: null is nobody).
pub(super) fn subject(named: Option<&str>) -> Result<String, Untrusted> {
    match named {
        Some(subject) if !subject.is_empty() && subject.len() <= SUBJECT_BYTES_MAX => {
            Ok(subject.to_owned())
        }
        _ => Err(Untrusted::Token("it names nobody")),
    }
}

/// Some providers write truth as text.
pub(super) fn normalise(claims: &mut Map<String, Value>) {
    let raw = Value::Object(claims.clone());
    let verified = match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(text)) => text == "true",
        _ => false,
    };
    claims.insert("email_verified".to_owned(), Value::Bool(verified));
    claims.insert("raw_claims".to_owned(), raw);
}
