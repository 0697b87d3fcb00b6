//! Sessions as tokens that others can read without asking us (`tokenize_as` of `toSession`).
//!
//! A template says who signs, for how long, and by what program claims are made of the
//! session. The steps, as in Ory Kratos:
//! 1. the claims are `jti`, `iss`, `sub`, `sid`, `iat`, `nbf` and `exp`;
//! 2. the program reads `std.extVar('claims')` and `std.extVar('session')` and gives
//!    `{claims: {…}}`, which is laid over them, `sub` excepted;
//! 3. they are signed by the template's key, which its header names (`kid`).
//!
//! Whoever has such a token is believed until it is over, whatever becomes of the session:
//! what revokes it is that it is short. It ends with the session at the latest, unless the
//! program says otherwise.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{
    Service,
    hook::context::{identity_json, session_json},
    jsonnet::{Failed, Program},
    model::Session,
};

/// The longest claims, in bytes of JSON: a token travels in headers.
const CLAIMS_BYTES_MAX: usize = 16 * 1024;

/// Who a token is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SubjectSource {
    /// The identity, by its id.
    #[default]
    Id,
    /// The identity, by what another system calls it.
    ExternalId,
}

/// A key that signs, whose public half others know.
pub trait SignsTokens: std::fmt::Debug + Send + Sync {
    /// What it is called.
    fn kid(&self) -> &str;

    /// How it signs, by JOSE's name.
    fn algorithm(&self) -> &'static str;

    /// The signature of a message; `None` if it cannot be made now.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>>;
}

/// How tokens are made of sessions.
#[derive(Debug, Clone)]
pub struct Template {
    /// How long a token is good.
    pub ttl: Duration,
    /// What signs it.
    pub key: Arc<dyn SignsTokens>,
    /// What claims are made by.
    pub mapper: Option<Program>,
    /// What `sub` is.
    pub subject: SubjectSource,
}

/// Templates, by their names.
#[derive(Debug, Clone, Default)]
pub struct Templates(Arc<BTreeMap<String, Template>>);

impl Templates {
    /// These.
    pub fn new(templates: BTreeMap<String, Template>) -> Self {
        Self(Arc::new(templates))
    }
}

/// Why no token is made. Kratos answers 400 to each.
#[derive(Debug, Error)]
pub enum TokenizeRejection {
    /// There is no such template.
    #[error("there is no template {0:?}")]
    Unknown(String),
    /// `sub` is to be the external id, and there is none.
    #[error("the identity has no external id")]
    NoExternalId,
    /// The program failed.
    #[error("the program did not make claims")]
    Program(#[from] Failed),
    /// The program gave something else than claims, or too many.
    #[error("the program gave no short object \"claims\"")]
    NoClaims,
    /// The key did not sign.
    #[error("the key did not sign")]
    NotSigned,
}

impl Service {
    /// A token of a session, by a template.
    ///
    /// # Errors
    /// See [`TokenizeRejection`].
    pub async fn tokenize(
        &self,
        session: &Session,
        template: &str,
    ) -> Result<String, TokenizeRejection> {
        let found = self.settings.tokenizers.0.get(template);
        let found = found.ok_or_else(|| TokenizeRejection::Unknown(template.to_owned()))?;
        let identity = session.identity.as_ref();
        let external_id = identity.and_then(|identity| identity.external_id.clone());
        let subject = match found.subject {
            SubjectSource::Id => session.identity_id.to_string(),
            SubjectSource::ExternalId => external_id.ok_or(TokenizeRejection::NoExternalId)?,
        };
        let now = self.now();
        let ends = now.after(found.ttl).min(session.expires_at);
        let seconds = |at: cardea_storage::Timestamp| at.as_millis() / 1000;
        let mut claims = Map::from_iter([
            ("jti".to_owned(), self.mint().to_string().into()),
            ("iss".to_owned(), self.settings.public_url.as_str().into()),
            ("sub".to_owned(), subject.as_str().into()),
            ("sid".to_owned(), session.id.to_string().into()),
            ("iat".to_owned(), seconds(now).into()),
            ("nbf".to_owned(), seconds(now).into()),
            ("exp".to_owned(), seconds(ends).into()),
        ]);
        if let Some(mapper) = &found.mapper {
            let mut shown = session_json(session);
            let public_url = &self.settings.public_url;
            shown["identity"] =
                identity.map_or(Value::Null, |identity| identity_json(identity, public_url));
            let variables = vec![
                ("claims".to_owned(), Value::Object(claims.clone())),
                ("session".to_owned(), shown),
            ];
            let mut given = mapper.run(variables, Value::Null).await?;
            let Value::Object(given) = given["claims"].take() else {
                return Err(TokenizeRejection::NoClaims);
            };
            claims.extend(given);
            claims.insert("sub".to_owned(), subject.into());
        }
        let claims = Value::Object(claims).to_string();
        if claims.len() > CLAIMS_BYTES_MAX {
            return Err(TokenizeRejection::NoClaims);
        }
        let header = json!({"alg": found.key.algorithm(), "kid": found.key.kid(), "typ": "JWT"});
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", part(&header.to_string()), part(&claims));
        let signature = found.key.sign(message.as_bytes()).ok_or(TokenizeRejection::NotSigned)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::{
        Settings,
        jsonnet::Limits,
        social::jws::{Key, Token},
        testing::{START, World, settings},
    };

    const MINUTE: Duration = Duration::from_secs(60);

    /// A key that needs no randomness.
    #[derive(Debug)]
    struct Seed([u8; 32]);

    impl Seed {
        fn pair(&self) -> Ed25519KeyPair {
            Ed25519KeyPair::from_seed_unchecked(&self.0).unwrap()
        }
    }

    impl SignsTokens for Seed {
        fn kid(&self) -> &str {
            "e"
        }

        fn algorithm(&self) -> &'static str {
            "EdDSA"
        }

        fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
            Some(self.pair().sign(message).as_ref().to_vec())
        }
    }

    fn template(mapper: Option<&str>) -> Template {
        let parse = |source| Program::parse(source, Limits::default()).unwrap();
        Template {
            ttl: MINUTE,
            key: Arc::new(Seed([7; 32])),
            mapper: mapper.map(parse),
            subject: SubjectSource::Id,
        }
    }

    /// A world with these templates, and somebody's session there.
    async fn world(templates: Vec<(&str, Template)>) -> (World, Session) {
        let named = templates.into_iter().map(|(name, template)| (name.to_owned(), template));
        let tokenizers = Templates::new(named.collect());
        let world = World::with(Settings { tokenizers, ..settings() });
        let issued = world.register("ann@example.org").await.issued.unwrap();
        (world, issued.session)
    }

    fn claims(token: &str) -> Value {
        let x = URL_SAFE_NO_PAD.encode(Seed([7; 32]).pair().public_key().as_ref());
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "e", "alg": "EdDSA"});
        Token::read(token).unwrap().verify(&[Key::read(&key).unwrap()]).unwrap()
    }

    #[tokio::test]
    async fn token_says_whose_session_it_is_and_ends_with_its_template() {
        let (world, session) = world(vec![("app", template(None))]).await;
        let token = world.service.tokenize(&session, "app").await.unwrap();
        assert_eq!(Token::read(&token).unwrap().kid.as_deref(), Some("e"));
        let claims = claims(&token);
        let start = START.as_millis() / 1000;
        assert_eq!(claims["sub"], session.identity_id.to_string());
        assert_eq!(claims["sid"], session.id.to_string());
        assert_eq!(claims["iss"], world.service.settings().public_url.as_str());
        let times = ["iat", "nbf", "exp"].map(|name| claims[name].as_u64().unwrap());
        assert_eq!(times, [start, start, start + 60]);
        let again = super::tests::claims(&world.service.tokenize(&session, "app").await.unwrap());
        assert_ne!(again["jti"], claims["jti"]);
        let none = world.service.tokenize(&session, "other").await;
        assert!(matches!(none, Err(TokenizeRejection::Unknown(_))), "{none:?}");
    }

    #[tokio::test]
    async fn token_ends_with_its_session_at_the_latest() {
        let long = Template { ttl: MINUTE * 60 * 24 * 365, ..template(None) };
        let (world, session) = world(vec![("app", long)]).await;
        let token = world.service.tokenize(&session, "app").await.unwrap();
        assert_eq!(claims(&token)["exp"], session.expires_at.as_millis() / 1000);
    }

    #[tokio::test]
    async fn program_adds_claims_and_changes_all_but_whose_they_are() {
        let program = "local s = std.extVar('session');
            { claims: { email: s.identity.traits.email, aal: s.authenticator_assurance_level,
                        aud: ['api'], iss: 'https://other.example', sub: 'eve',
                        secret: std.get(s.identity, 'metadata_admin') } }";
        let (world, session) = world(vec![("app", template(Some(program)))]).await;
        let claims = claims(&world.service.tokenize(&session, "app").await.unwrap());
        assert_eq!(claims["email"], "ann@example.org");
        assert_eq!((&claims["aal"], &claims["aud"]), (&json!("aal1"), &json!(["api"])));
        assert_eq!(claims["iss"], "https://other.example");
        assert_eq!(claims["sub"], session.identity_id.to_string());
        assert_eq!(claims["secret"], Value::Null);
    }

    #[tokio::test]
    async fn program_that_fails_or_gives_no_claims_makes_no_token() {
        let programs = [
            ("none", "{}"),
            ("text", "{ claims: 'x' }"),
            ("fails", "error 'no'"),
            ("endless", "local f(x) = f(x); f(1)"),
            ("large", "{ claims: { x: std.repeat('x', 20000) } }"),
        ];
        let templates = programs.map(|(name, program)| (name, template(Some(program))));
        let (world, session) = world(templates.into()).await;
        for (name, _) in programs {
            let made = world.service.tokenize(&session, name).await;
            assert!(
                matches!(made, Err(TokenizeRejection::NoClaims | TokenizeRejection::Program(_))),
                "{name}: {made:?}"
            );
        }
    }

    #[tokio::test]
    async fn external_id_is_the_subject_where_there_is_one() {
        let external = Template { subject: SubjectSource::ExternalId, ..template(None) };
        let (world, mut session) = world(vec![("app", external)]).await;
        let made = world.service.tokenize(&session, "app").await;
        assert!(matches!(made, Err(TokenizeRejection::NoExternalId)), "{made:?}");
        let identity = session.identity.as_mut().unwrap();
        identity.external_id = Some("crm-1".to_owned());
        assert_eq!(claims(&world.service.tokenize(&session, "app").await.unwrap())["sub"], "crm-1");
    }
}
