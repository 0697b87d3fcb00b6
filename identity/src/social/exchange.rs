//! From a code to claims.
//!
//! 1. The code goes to the token endpoint, with the URL that it came back to and the
//!    verifier that binds it.
//! 2. A provider with ID tokens gives one; its signature is verified by the provider's
//!    keys, and what it says is judged.
//! 3. Where claims are at the userinfo endpoint, they are asked for with the access
//!    token; their subject must be the ID token's.
//!
//! How far that came is told in a [`Trace`].

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Cache, ClaimsSource, ClientSecret, Provider, Untrusted,
    authorize::Journey,
    claims::{Expected, Stranger, judge, normalise, shaped, subject},
    jws::{Algorithm, TOKEN_BYTES_MAX, Token},
    metadata::Metadata,
};
use crate::outbound::{Outbound, Question};

/// How long an assertion that we sign counts.
const ASSERTION_SECONDS: u64 = 300;

/// The tokens that a provider gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// For asking the provider.
    #[serde(default)]
    pub access_token: String,
    /// For another access token.
    #[serde(default)]
    pub refresh_token: String,
    /// Who it is.
    #[serde(default)]
    pub id_token: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(flatten)]
    tokens: Tokens,
    // GitHub answers errors with 200.
    error: Option<String>,
}

/// How far a code came on its way to claims, and what was read on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// What was being done last.
    pub step: Step,
    /// What the ID token says, once its signature was verified.
    pub id_token_claims: Option<Map<String, Value>>,
    /// What the userinfo endpoint says.
    pub userinfo: Option<Map<String, Value>>,
}

/// A step on the way from a code to claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Step {
    /// What the provider says of itself is read.
    #[default]
    Discovery,
    /// The code goes to the token endpoint.
    TokenExchange,
    /// The ID token is verified, or claims are made of what the userinfo endpoint says.
    ClaimsDecode,
    /// The userinfo endpoint is asked.
    Userinfo,
}

/// How a provider is asked.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// The way out.
    pub outbound: &'a dyn Outbound,
    /// What providers said before.
    pub cache: &'a Cache,
    /// The provider.
    pub provider: &'a Provider,
    /// What time it is.
    pub now: Timestamp,
}

impl Desk<'_> {
    /// Where the provider's endpoints are.
    ///
    /// # Errors
    /// See [`Untrusted`].
    pub async fn metadata(&self) -> Result<std::sync::Arc<Metadata>, Untrusted> {
        self.cache.metadata(self.outbound, self.provider, self.now).await
    }

    /// Who somebody is that brought a code.
    ///
    /// # Errors
    /// See [`Untrusted`].
    pub async fn redeem(
        &self,
        journey: &Journey,
        code: &str,
        redirect_uri: &str,
        trace: &mut Trace,
    ) -> Result<(Stranger, Tokens), Untrusted> {
        let metadata = self.metadata().await?;
        trace.step = Step::TokenExchange;
        let mut form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", redirect_uri.to_owned()),
        ];
        if !journey.verifier.is_empty() {
            form.push(("code_verifier", journey.verifier.clone()));
        }
        let tokens = self.tokens(&metadata, form).await?;
        if !self.provider.is_openid() {
            trace.step = Step::Userinfo;
            let userinfo = self.userinfo(&metadata, &tokens).await?;
            trace.userinfo = userinfo.as_object().cloned();
            trace.step = Step::ClaimsDecode;
            let stranger = shaped(self.provider, &userinfo, &self.provider.preset.shape)?;
            return Ok((stranger, tokens));
        }
        let expected = Expected {
            nonce: Some(journey.nonce.as_str()).filter(|_| self.provider.preset.nonce),
            access_token: Some(&tokens.access_token),
            now: self.now,
        };
        trace.step = Step::ClaimsDecode;
        let (algorithm, claims) = self.verified(&metadata, &tokens.id_token).await?;
        trace.id_token_claims = claims.as_object().cloned();
        let mut stranger = judge(self.provider, algorithm, claims, expected)?;
        if self.provider.claims_source == ClaimsSource::Userinfo {
            trace.step = Step::Userinfo;
            let Value::Object(more) = self.userinfo(&metadata, &tokens).await? else {
                return Err(Untrusted::Malformed("its userinfo is no object"));
            };
            trace.userinfo = Some(more.clone());
            // OpenID Connect Core 1.0 § 5.3.2.
            if subject(more.get("sub").and_then(Value::as_str))? != stranger.subject {
                return Err(Untrusted::Token("its userinfo is somebody else's"));
            }
            stranger.claims.extend(more);
            stranger.claims.remove("raw_claims");
            normalise(&mut stranger.claims);
        }
        Ok((stranger, tokens))
    }

    /// Who an ID token means.
    ///
    /// # Errors
    /// See [`Untrusted`].
    pub async fn read(
        &self,
        metadata: &Metadata,
        id_token: &str,
        expected: Expected<'_>,
    ) -> Result<Stranger, Untrusted> {
        let (algorithm, claims) = self.verified(metadata, id_token).await?;
        judge(self.provider, algorithm, claims, expected)
    }

    /// What an ID token says that the provider signed.
    async fn verified(
        &self,
        metadata: &Metadata,
        id_token: &str,
    ) -> Result<(Algorithm, Value), Untrusted> {
        let token = Token::read(id_token)?;
        let place = (self.provider, metadata);
        let keys = self.cache.keys(self.outbound, place, token.kid.as_deref(), self.now).await?;
        let claims = token.verify(&keys)?;
        Ok((token.algorithm, claims))
    }

    async fn tokens(
        &self,
        metadata: &Metadata,
        mut form: Vec<(&'static str, String)>,
    ) -> Result<Tokens, Untrusted> {
        let provider = self.provider;
        let methods = &metadata.token_endpoint_auth_methods_supported;
        // OpenID Connect Discovery 1.0 § 3: basic is meant where nothing is said.
        let basic =
            methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic");
        let mut authorization = None;
        match &provider.client_secret {
            ClientSecret::None => form.push(("client_id", provider.client_id.clone())),
            ClientSecret::Text(secret) if basic => {
                authorization = Some(basic_authorization(&provider.client_id, secret));
            }
            ClientSecret::Text(secret) => {
                form.push(("client_id", provider.client_id.clone()));
                form.push(("client_secret", secret.expose().clone()));
            }
            ClientSecret::Signed { .. } => {
                form.push(("client_id", provider.client_id.clone()));
                form.push(("client_secret", self.assertion()?));
            }
        }
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let content_type = "application/x-www-form-urlencoded";
        let mut question = Question::post(&metadata.token_endpoint, content_type, body);
        if let Some(value) = authorization {
            question.headers.push(("authorization".to_owned(), value));
        }
        let reply = self.outbound.ask(question).await?;
        if !reply.is_success() {
            return Err(Untrusted::Refused { endpoint: "token endpoint", status: reply.status });
        }
        let answer: Answer = serde_json::from_slice(&reply.body)
            .map_err(|_| Untrusted::Malformed("its tokens are malformed"))?;
        let Tokens { access_token, refresh_token, id_token } = &answer.tokens;
        let longest = access_token.len().max(refresh_token.len()).max(id_token.len());
        if answer.error.is_some() || access_token.is_empty() || longest > TOKEN_BYTES_MAX {
            return Err(Untrusted::Malformed("it gave no tokens"));
        }
        Ok(answer.tokens)
    }

    /// A token that proves us, as Apple wants it: issuer is the team, subject our id.
    fn assertion(&self) -> Result<String, Untrusted> {
        let ClientSecret::Signed { team_id, key_id, key } = &self.provider.client_secret else {
            return Err(Untrusted::Metadata("it has no key to sign with"));
        };
        let now = self.now.as_millis() / 1000;
        let header = json!({"alg": "ES256", "kid": key_id, "typ": "JWT"});
        let claims = json!({
            "iss": team_id,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "aud": self.provider.issuer,
            "sub": self.provider.client_id,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = key.sign(message.as_bytes());
        let signature = signature.ok_or(Untrusted::Metadata("its key does not sign"))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    async fn userinfo(&self, metadata: &Metadata, tokens: &Tokens) -> Result<Value, Untrusted> {
        let mut userinfo = self.fetch(&metadata.userinfo_endpoint, tokens).await?;
        if self.provider.preset.name == "github" {
            let emails = format!("{}/emails", metadata.userinfo_endpoint);
            let emails = self.fetch(&emails, tokens).await.unwrap_or_default();
            add_verified_email(&mut userinfo, &emails);
        }
        Ok(userinfo)
    }

    async fn fetch(&self, url: &str, tokens: &Tokens) -> Result<Value, Untrusted> {
        if url.is_empty() {
            return Err(Untrusted::Metadata("it names no userinfo endpoint"));
        }
        let authorization = format!("Bearer {}", tokens.access_token);
        let question = Question::get(url).with("authorization", authorization);
        let reply = self.outbound.ask(question).await?;
        if !reply.is_success() {
            return Err(Untrusted::Refused { endpoint: "userinfo", status: reply.status });
        }
        serde_json::from_slice(&reply.body)
            .map_err(|_| Untrusted::Malformed("its userinfo is malformed"))
    }
}

/// RFC 6749 § 2.3.1: both are encoded as in forms first.
fn basic_authorization(client_id: &str, secret: &Secret<String>) -> Secret<String> {
    let encode =
        |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = Secret::new(format!("{}:{}", encode(client_id), encode(secret.expose())));
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair.expose());
    Secret::new(format!("Basic {encoded}"))
}

/// GitHub tells addresses, and whether they are verified, apart from the profile.
fn add_verified_email(userinfo: &mut Value, emails: &Value) {
    let all = emails.as_array().map(Vec::as_slice).unwrap_or_default();
    let verified = |email: &&Value| email["verified"] == true;
    let primary = all.iter().filter(verified).find(|email| email["primary"] == true);
    let chosen = primary.or_else(|| all.iter().find(verified));
    if let (Some(members), Some(chosen)) = (userinfo.as_object_mut(), chosen) {
        members.insert("verified_email".to_owned(), chosen["email"].clone());
        members.insert("email_verified".to_owned(), Value::Bool(true));
    }
}
