//! What a provider says of itself (OpenID Connect Discovery 1.0), and its keys, kept in
//! memory for a while.
//!
//! Metadata counts for an hour. Keys are asked for again when a token names one that is
//! not known, at most every half a minute, so that nobody makes a node ask by inventing
//! names. What is kept is bounded: a document for each configured provider, and so many
//! keys of each. It is kept under what it was asked by: a document under provider and
//! issuer, keys under where they are, too, so that neither answers for another.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cardea_storage::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;

use super::{Provider, Untrusted, jws::Key};
use crate::outbound::{Outbound, Question};

/// How long metadata counts.
const METADATA_AGE_MAX: Duration = Duration::from_secs(3600);
/// How long keys count.
const KEYS_AGE_MAX: Duration = Duration::from_secs(3600);
/// How often an unknown key makes us ask again.
const KEYS_AGE_MIN: Duration = Duration::from_secs(30);
/// Most keys of a provider; others are ignored.
const KEYS_MAX: usize = 64;

/// Where a provider's endpoints are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// Who it is.
    pub issuer: String,
    /// Where browsers are sent.
    pub authorization_endpoint: String,
    /// Where codes are exchanged.
    pub token_endpoint: String,
    /// Where claims are.
    #[serde(default)]
    pub userinfo_endpoint: String,
    /// Where its keys are.
    #[serde(default)]
    pub jwks_uri: String,
    /// How codes can be bound.
    #[serde(default)]
    pub code_challenge_methods_supported: Vec<String>,
    /// How clients prove themselves.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Whether it says who it is when a browser comes back (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

#[derive(Debug, Clone)]
struct Kept<T> {
    value: Arc<T>,
    since: Timestamp,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    metadata: Option<Kept<Metadata>>,
    /// Where they were got, and what was there.
    keys: Option<(String, Kept<Vec<Key>>)>,
}

/// A provider's id, and its issuer.
type Whose = (String, String);

/// What providers said.
#[derive(Debug, Default)]
pub struct Cache(Mutex<BTreeMap<Whose, Entry>>);

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

impl Cache {
    /// Where a provider's endpoints are.
    ///
    /// # Errors
    /// See [`Untrusted`].
    pub async fn metadata(
        &self,
        outbound: &dyn Outbound,
        provider: &Provider,
        now: Timestamp,
    ) -> Result<Arc<Metadata>, Untrusted> {
        if !provider.is_openid() {
            return Ok(Arc::new(fixed(provider)));
        }
        let whose = whose(provider);
        let known = self.0.lock().get(&whose).and_then(|entry| entry.metadata.clone());
        if let Some(known) = known.filter(|known| now.since(known.since) < METADATA_AGE_MAX) {
            return Ok(known.value);
        }
        let tenant_free = provider.issuer.replace("{tenantid}", "common");
        let base = tenant_free.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let reply = outbound.ask(Question::get(&url)).await?;
        if !reply.is_success() {
            return Err(Untrusted::Refused { endpoint: "discovery", status: reply.status });
        }
        let found: Metadata = serde_json::from_slice(&reply.body)
            .map_err(|_| Untrusted::Metadata("it is not what OpenID Connect says"))?;
        // Discovery 1.0 § 4.3: exactly, or somebody speaks for another.
        if found.issuer != provider.issuer {
            return Err(Untrusted::Metadata("its issuer is not the one that was configured"));
        }
        let metadata = Arc::new(overridden(found, provider));
        let mut entries = self.0.lock();
        let entry = entries.entry(whose).or_default();
        entry.metadata = Some(Kept { value: metadata.clone(), since: now });
        Ok(metadata)
    }

    /// The keys of a provider, with one of that name if it has one.
    ///
    /// # Errors
    /// See [`Untrusted`].
    pub async fn keys(
        &self,
        outbound: &dyn Outbound,
        (provider, metadata): (&Provider, &Metadata),
        kid: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<Vec<Key>>, Untrusted> {
        let whose = whose(provider);
        let known = self.0.lock().get(&whose).and_then(|entry| entry.keys.clone());
        if let Some((_, known)) = known.filter(|(place, _)| *place == metadata.jwks_uri) {
            let age = now.since(known.since);
            let has_it = kid.is_none_or(|kid| known.value.iter().any(|key| key.is_called(kid)));
            if age < KEYS_AGE_MIN || (has_it && age < KEYS_AGE_MAX) {
                return Ok(known.value);
            }
        }
        if metadata.jwks_uri.is_empty() {
            return Err(Untrusted::Metadata("it names no keys"));
        }
        let reply = outbound.ask(Question::get(&metadata.jwks_uri)).await?;
        if !reply.is_success() {
            return Err(Untrusted::Refused { endpoint: "jwks_uri", status: reply.status });
        }
        let set: KeySet = serde_json::from_slice(&reply.body)
            .map_err(|_| Untrusted::Metadata("its keys are malformed"))?;
        let keys = set.keys.iter().filter_map(Key::read).take(KEYS_MAX).collect();
        let keys = Arc::new(keys);
        let mut entries = self.0.lock();
        let entry = entries.entry(whose).or_default();
        let kept = Kept { value: Arc::clone(&keys), since: now };
        entry.keys = Some((metadata.jwks_uri.clone(), kept));
        Ok(keys)
    }
}

fn whose(provider: &Provider) -> Whose {
    (provider.id.clone(), provider.issuer.clone())
}

/// What is known of a provider that says nothing of itself.
fn fixed(provider: &Provider) -> Metadata {
    let preset = provider.preset;
    let metadata = Metadata {
        issuer: provider.issuer.clone(),
        authorization_endpoint: preset.auth_url.to_owned(),
        token_endpoint: preset.token_url.to_owned(),
        userinfo_endpoint: preset.userinfo_url.to_owned(),
        token_endpoint_auth_methods_supported: vec!["client_secret_post".to_owned()],
        ..Metadata::default()
    };
    overridden(metadata, provider)
}

fn overridden(mut metadata: Metadata, provider: &Provider) -> Metadata {
    for (url, own) in [
        (&mut metadata.authorization_endpoint, &provider.auth_url),
        (&mut metadata.token_endpoint, &provider.token_url),
        (&mut metadata.userinfo_endpoint, &provider.userinfo_url),
    ] {
        if let Some(own) = own {
            url.clone_from(own);
        }
    }
    metadata
}
