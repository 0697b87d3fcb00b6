//! Sending a browser to a provider.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::{Entropy, Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Pkce, Provider, Untrusted, metadata::Metadata};

/// Bytes of chance in a state.
const STATE_BYTES: usize = 32;
/// Parameters that somebody may pass on to the provider, and the longest value.
const PASSED_ON: [&str; 6] = ["login_hint", "hd", "prompt", "auth_type", "acr_values", "display"];
const PASSED_ON_BYTES_MAX: usize = 512;

/// What must come back: sealed in the flow until it does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Journey {
    /// The provider that the browser was sent to.
    pub provider: String,
    /// The issuer that it was pinned to then.
    pub issuer: String,
    /// What the ID token must bring back.
    pub nonce: String,
    /// What proves that the code is ours; empty without PKCE.
    pub verifier: String,
    /// What somebody said of itself before it left, in JSON.
    pub traits: serde_json::Value,
    /// What is passed along to webhooks.
    pub transient_payload: serde_json::Value,
}

/// A state: the flow, and chance. The flow keeps only its digest.
#[derive(Debug, Clone)]
pub struct State {
    /// The flow that it is of.
    pub flow: Uuid,
    secret: Secret<[u8; STATE_BYTES]>,
}

impl State {
    /// A new one.
    pub fn draw(entropy: &dyn Entropy, flow: Uuid) -> Self {
        Self { flow, secret: Secret::new(entropy.bytes()) }
    }

    /// Reads the parameter; `None` if it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (flow, secret) = bytes.split_at_checked(16)?;
        Some(Self {
            flow: Uuid::from_slice(flow).ok()?,
            secret: Secret::new(secret.try_into().ok()?),
        })
    }

    /// The parameter.
    pub fn text(&self) -> String {
        let mut bytes = self.flow.as_bytes().to_vec();
        bytes.extend_from_slice(self.secret.expose());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What the flow keeps of it.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("cardea social state v1");
        hasher.update(self.flow.as_bytes());
        hasher.update(self.secret.expose());
        *hasher.finalize().as_bytes()
    }

    /// Whether it is the one of that digest.
    pub fn is(&self, digest: &[u8]) -> bool {
        self.digest().ct_eq(digest).into()
    }
}

/// Where a browser comes back to.
pub fn callback_url(public_url: &str, provider: &str) -> String {
    format!("{public_url}/self-service/methods/oidc/callback/{provider}")
}

/// What is to come back from a provider, drawn anew.
pub fn draw(entropy: &dyn Entropy, provider: &Provider, metadata: &Metadata) -> Journey {
    let can = || match provider.preset.pkce {
        Some(can) => can,
        None => metadata.code_challenge_methods_supported.iter().any(|method| method == "S256"),
    };
    let binds = match provider.pkce {
        Pkce::Auto => can(),
        Pkce::Force => true,
        Pkce::Never => false,
    };
    let text = || {
        let bytes: [u8; 32] = entropy.bytes();
        URL_SAFE_NO_PAD.encode(bytes)
    };
    Journey {
        provider: provider.id.clone(),
        issuer: provider.issuer.clone(),
        nonce: text(),
        verifier: if binds { text() } else { String::new() },
        traits: serde_json::Value::Null,
        transient_payload: serde_json::Value::Null,
    }
}

/// The URL that a browser is sent to.
///
/// # Errors
/// If the provider's endpoint is no URL.
pub fn url(
    (provider, metadata): (&Provider, &Metadata),
    journey: &Journey,
    state: &State,
    redirect_uri: &str,
    upstream: &serde_json::Map<String, serde_json::Value>,
) -> Result<String, Untrusted> {
    let malformed = |_| Untrusted::Metadata("its authorization endpoint is no URL");
    let mut url = url::Url::parse(&metadata.authorization_endpoint).map_err(malformed)?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(Untrusted::Metadata("its authorization endpoint is no URL"));
    }
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &provider.client_id)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("scope", &provider.scope.join(" "))
        .append_pair("state", &state.text());
    if provider.is_openid() {
        query.append_pair("nonce", &journey.nonce);
    }
    if !journey.verifier.is_empty() {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(journey.verifier.as_bytes()));
        query.append_pair("code_challenge", &challenge);
        query.append_pair("code_challenge_method", "S256");
    }
    if provider.preset.form_post {
        query.append_pair("response_mode", "form_post");
    }
    if let Some(claims) = &provider.requested_claims {
        query.append_pair("claims", &claims.to_string());
    }
    for name in PASSED_ON {
        let value = upstream.get(name).and_then(|value| value.as_str());
        if let Some(value) = value.filter(|value| value.len() <= PASSED_ON_BYTES_MAX) {
            query.append_pair(name, value);
        }
    }
    drop(query);
    Ok(url.into())
}
