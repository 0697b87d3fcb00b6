//! ID tokens, forged in every way that is known, and providers that say strange things
//! of themselves.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::Timestamp;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{
    claims::{Expected, judge},
    jws::{Key, Token},
    *,
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn key(kid: &str) -> Key {
    let x = URL_SAFE_NO_PAD.encode(pair().public_key().as_ref());
    Key::read(&json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig"})).unwrap()
}

fn sign(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(pair().sign(message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

fn provider() -> Provider {
    Provider {
        id: "idp".to_owned(),
        label: "Idp".to_owned(),
        preset: preset::find("generic").unwrap(),
        issuer: "https://idp.example".to_owned(),
        client_id: "us".to_owned(),
        client_secret: ClientSecret::None,
        scope: vec!["openid".to_owned()],
        auth_url: None,
        token_url: None,
        userinfo_url: None,
        audiences: Vec::new(),
        fedcm_config_url: None,
        pkce: Pkce::Auto,
        claims_source: ClaimsSource::IdToken,
        requested_claims: None,
        mapper: mapping::default_program().unwrap(),
        mapper_url: None,
        organization: None,
        authoritative_domains: vec!["example.org".to_owned()],
        renews: false,
        aal2_acr: Vec::new(),
        aal2_amr: Vec::new(),
    }
}

fn claims() -> Value {
    json!({"iss": "https://idp.example", "sub": "ann", "aud": "us", "nonce": "n",
        "iat": 1_800_000_000, "exp": 1_800_000_300})
}

fn read(token: &str) -> Result<claims::Stranger, Untrusted> {
    let token = Token::read(token)?;
    let claims = token.verify(&[key("other"), key("k")])?;
    let expected = Expected { nonce: Some("n"), access_token: Some("access"), now: NOW };
    judge(&provider(), token.algorithm, claims, expected)
}

fn with(changes: Value) -> Result<claims::Stranger, Untrusted> {
    let mut said = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            said.as_object_mut().unwrap().remove(name);
        } else {
            said[name] = value.clone();
        }
    }
    read(&sign(&json!({"alg": "EdDSA", "kid": "k"}), &said))
}

#[test]
fn a_token_that_is_right_names_somebody() {
    let stranger = with(json!({"email": "a@b.c", "email_verified": "true"})).unwrap();
    assert_eq!(
        (stranger.issuer.as_str(), stranger.subject.as_str()),
        ("https://idp.example", "ann")
    );
    assert_eq!(stranger.verified_email(), Some("a@b.c"));
    assert!(with(json!({"aud": ["us"], "azp": "us"})).is_ok());
    assert!(with(json!({"exp": 1_799_999_950})).is_ok(), "clocks may be off by a minute");
    let unverified = with(json!({"email": "a@b.c"})).unwrap();
    assert_eq!(unverified.verified_email(), None);
}

/// The classes of advisories on ID tokens: confusion of algorithms, of audiences, of
/// issuers, replay.
#[test]
fn a_token_that_is_wrong_names_nobody() {
    for changes in [
        json!({"iss": "https://evil.example"}),
        json!({"iss": "https://idp.example/"}),
        json!({"iss": null}),
        json!({"aud": "them"}),
        json!({"aud": null}),
        json!({"aud": ["them"]}),
        json!({"aud": ["us", "them"]}),
        json!({"aud": ["us", "them"], "azp": "them"}),
        json!({"azp": "them"}),
        json!({"exp": 1_799_999_900}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"exp": -1}),
        json!({"iat": 1_800_000_100}),
        json!({"iat": null}),
        json!({"nbf": 1_800_000_100}),
        json!({"nonce": "other"}),
        json!({"nonce": null}),
        json!({"nonce": ""}),
        json!({"at_hash": "AAAA"}),
        json!({"sub": ""}),
        json!({"sub": null}),
        json!({"sub": 7}),
        json!({"sub": "x".repeat(256)}),
    ] {
        let outcome = with(changes.clone());
        assert!(matches!(outcome, Err(Untrusted::Token(_))), "{changes}: {outcome:?}");
    }
}

/// N8: no algorithm but those that are taken, no secret made of a public key, no other key.
#[test]
fn only_signatures_by_public_keys_of_the_provider_count() {
    let good = sign(&json!({"alg": "EdDSA", "kid": "k"}), &claims());
    assert!(read(&good).is_ok());
    assert!(read(&sign(&json!({"alg": "EdDSA"}), &claims())).is_ok(), "any key, if none is named");
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None", "kid": "k"}),
        json!({"alg": "HS256", "kid": "k"}),
        json!({"alg": "HS512", "kid": "k"}),
        json!({"alg": "RS256", "kid": "k"}),
        json!({"alg": "ES256", "kid": "k"}),
        json!({"alg": "EdDSA", "kid": "unknown"}),
        json!({"alg": "EdDSA", "kid": "k", "crit": ["x"]}),
        json!({"alg": ["EdDSA"]}),
        json!({}),
        json!([]),
    ] {
        let outcome = read(&sign(&header, &claims()));
        assert!(matches!(outcome, Err(Untrusted::Token(_))), "{header}: {outcome:?}");
    }
    // By the public key as if it were a secret: the classic confusion.
    let public = pair().public_key().as_ref().to_vec();
    let head = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": "k"}).to_string());
    let message = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims().to_string()));
    let mac = ring::hmac::sign(
        &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &public),
        message.as_bytes(),
    );
    let confused = format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()));
    assert!(read(&confused).is_err());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(json!({"sub": "eve"}).to_string());
    for forged in [
        format!("{head}.{other}.{signature}"),
        format!("{message}."),
        message.to_owned(),
        format!("{message}.{}", &signature[..signature.len() - 4]),
        format!("{good}.x"),
        format!(" {good}"),
        String::new(),
        "..".to_owned(),
        "x".repeat(jws::TOKEN_BYTES_MAX + 1),
    ] {
        assert!(read(&forged).is_err(), "{}", &forged[..forged.len().min(80)]);
    }
}

#[test]
fn keys_that_are_not_for_signatures_are_none() {
    let x = URL_SAFE_NO_PAD.encode([1; 32]);
    for unusable in [
        json!({"kty": "oct", "k": x}),
        json!({"kty": "OKP", "crv": "X25519", "x": x}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "HS256"}),
        json!({"kty": "EC", "crv": "P-256", "x": x}),
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": "AA"}),
        json!({"kty": "RSA", "n": "AQAB"}),
        json!({}),
    ] {
        assert!(Key::read(&unusable).is_none(), "{unusable}");
    }
}

/// oauth2-proxy CVE-2026-40574: more than one `@`.
#[test]
fn a_provider_speaks_for_its_domains_only() {
    let provider = provider();
    assert!(provider.is_authoritative_for("ann@example.org"));
    assert!(provider.is_authoritative_for("ann@EXAMPLE.org"));
    for email in [
        "ann@example.com",
        "ann@sub.example.org",
        "ann@evil.example@example.org",
        "ann@example.org@evil.example",
        "@example.org",
        "example.org",
        "ann@notexample.org",
    ] {
        assert!(!provider.is_authoritative_for(email), "{email}");
    }
}

/// A provider's server for every host: each has a key of its own, named alike.
struct Hosts;

#[async_trait::async_trait]
impl crate::outbound::Outbound for Hosts {
    async fn ask(
        &self,
        question: crate::outbound::Question,
    ) -> Result<crate::outbound::Reply, crate::outbound::Unanswered> {
        let (issuer, path) = question.url.split_at(question.url.find(".example").unwrap() + 8);
        let body = match path {
            "/.well-known/openid-configuration" => json!({"issuer": issuer,
                "authorization_endpoint": format!("{issuer}/auth"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/jwks")}),
            _ => {
                let x = URL_SAFE_NO_PAD.encode(blake3::hash(question.url.as_bytes()).as_bytes());
                json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k"}]})
            }
        };
        Ok(crate::outbound::Reply { status: 200, body: body.to_string().into() })
    }
}

/// N18: neither another provider's, nor those of an issuer that it had before, nor those
/// that were where its keys were before.
#[tokio::test]
async fn keys_that_are_kept_of_a_provider_vouch_for_no_other() {
    let cache = Cache::default();
    let of = |id: &str, issuer: &str| Provider {
        id: id.to_owned(),
        issuer: issuer.to_owned(),
        ..provider()
    };
    let (a, b) = (of("a", "https://a.example"), of("b", "https://b.example"));
    let moved = of("a", "https://c.example");
    let mut seen = Vec::new();
    for _ in 0..2 {
        for provider in [&a, &b, &moved] {
            let metadata = cache.metadata(&Hosts, provider, NOW).await.unwrap();
            assert_eq!(metadata.issuer, provider.issuer);
            let elsewhere = metadata::Metadata {
                jwks_uri: format!("{}/other", provider.issuer),
                ..metadata::Metadata::clone(&metadata)
            };
            for metadata in [&*metadata, &elsewhere] {
                let keys = cache.keys(&Hosts, (provider, metadata), Some("k"), NOW).await.unwrap();
                seen.push(format!("{:?}", keys[0]));
            }
        }
    }
    let once: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!((once.len(), &seen[..6]), (6, &seen[6..]));
}
