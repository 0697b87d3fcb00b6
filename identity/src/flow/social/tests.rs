//! Whole journeys against a provider that is told what to say.

mod dry_run;
mod fedcm;
mod hooked;
mod linked;
mod member_addresses;
mod native;
mod organization;
mod renewed;
mod second;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::*;
use crate::{
    CsrfDigest, FlowId, Settings,
    flow::{
        BeginLogin, BeginRegistration, BeginSettings, Flow, LoginRejection, LoginSubmission,
        Purpose, RegistrationRejection, RegistrationSubmission, SettingsRejection,
        SettingsSubmission,
    },
    jsonnet::{Limits, Program},
    model::Identity,
    outbound::{Outbound, Question, Reply, Unanswered, Verb},
    session::Proof,
    social::{ClaimsSource, ClientSecret, Pkce, Provider, Providers, preset},
    testing::{BROWSER, PASSWORD, START, World, client, secret, settings},
};

const ISSUER: &str = "https://idp.example";
const MAPPER: &str = "local claims = std.extVar('claims'); { identity: {
    traits: { [if 'email' in claims then 'email']: claims.email,
              [if 'given_name' in claims then 'name']: { first: claims.given_name } },
    verified_addresses: if claims.email_verified then [{ via: 'email', value: claims.email }] else [],
} }";

/// A provider in this process.
struct Idp {
    said: Mutex<BTreeMap<String, Value>>,
    nonce: Mutex<String>,
    asked: Mutex<Vec<(String, String)>>,
    answers: Mutex<BTreeMap<String, Result<Reply, Unanswered>>>,
}

impl Idp {
    fn says(&self, claims: Value) {
        *self.said.lock() = claims.as_object().unwrap().clone().into_iter().collect();
    }

    fn id_token(&self) -> String {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let now = START.as_millis() / 1000;
        let mut claims = json!({"iss": ISSUER, "aud": "us", "iat": now, "exp": now + 300,
            "nonce": self.nonce.lock().clone()});
        for (name, value) in self.said.lock().iter() {
            claims[name] = value.clone();
        }
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(json!({"alg": "EdDSA", "kid": "k"})), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).as_ref());
        format!("{message}.{signature}")
    }
}

#[async_trait]
impl Outbound for Idp {
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
        let body = String::from_utf8_lossy(&question.body).into_owned();
        self.asked.lock().push((question.url.clone(), body));
        if let Some(answer) = self.answers.lock().get(&question.url) {
            return answer.clone();
        }
        let reply = |value: Value| Ok(Reply { status: 200, body: value.to_string().into() });
        match (question.verb, question.url.strip_prefix(ISSUER).unwrap_or_default()) {
            (Verb::Get, "/.well-known/openid-configuration") => reply(json!({
                "issuer": ISSUER,
                "authorization_endpoint": format!("{ISSUER}/auth"),
                "token_endpoint": format!("{ISSUER}/token"),
                "userinfo_endpoint": format!("{ISSUER}/me"),
                "jwks_uri": format!("{ISSUER}/jwks"),
                "code_challenge_methods_supported": ["S256"],
            })),
            (Verb::Get, "/jwks") => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
                let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
                reply(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k"}]}))
            }
            (Verb::Post, "/token") => reply(json!({
                "access_token": "access", "refresh_token": "refresh", "id_token": self.id_token(),
            })),
            _ => Ok(Reply { status: 404, body: "{}".into() }),
        }
    }
}

struct Town {
    world: World,
    idp: Arc<Idp>,
}

fn provider(id: &str, mapper: &str) -> Provider {
    Provider {
        id: id.to_owned(),
        label: "Idp".to_owned(),
        preset: preset::find("generic").unwrap(),
        issuer: ISSUER.to_owned(),
        client_id: "us".to_owned(),
        client_secret: ClientSecret::Text(secret("s3cret")),
        scope: vec!["openid".to_owned()],
        auth_url: None,
        token_url: None,
        userinfo_url: None,
        audiences: Vec::new(),
        fedcm_config_url: None,
        pkce: Pkce::Auto,
        claims_source: ClaimsSource::IdToken,
        requested_claims: None,
        mapper: Program::parse(mapper, Limits::default()).unwrap(),
        mapper_url: None,
        organization: None,
        authoritative_domains: vec!["example.org".to_owned()],
        renews: false,
        aal2_acr: Vec::new(),
        aal2_amr: Vec::new(),
    }
}

fn parameter(url: &str, name: &str) -> String {
    let query = url.split_once('?').unwrap().1;
    let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

impl Town {
    fn new() -> Self {
        Self::with(vec![provider("idp", MAPPER), provider("other", MAPPER)])
    }

    fn with(providers: Vec<Provider>) -> Self {
        Self::of(Settings { providers: Providers::new(providers), ..settings() })
    }

    fn of(settings: Settings) -> Self {
        let idp = Arc::new(Idp {
            said: Mutex::default(),
            nonce: Mutex::default(),
            asked: Mutex::default(),
            answers: Mutex::default(),
        });
        let world = World::reaching(settings, idp.clone());
        Self { world, idp }
    }

    async fn login(&self) -> Flow {
        let begin = BeginLogin { browser: Some(BROWSER), ..BeginLogin::default() };
        self.world.service.begin_login(self.world.scope, begin).await.unwrap()
    }

    /// Goes to the provider; gives where the browser was sent.
    async fn leave(&self, flow: FlowId, provider: &str) -> String {
        let social =
            SocialSubmission { provider: Some(provider.to_owned()), ..SocialSubmission::default() };
        let submission =
            LoginSubmission { method: "oidc".to_owned(), social, ..LoginSubmission::default() };
        let (service, guest) = (&self.world.service, client("192.0.2.1"));
        match service.submit_login(self.world.scope, flow, submission, &guest).await {
            Err(LoginRejection::Away(url)) => {
                *self.idp.nonce.lock() = parameter(&url, "nonce");
                url
            }
            other => panic!("{other:?}"),
        }
    }

    fn back(url: &str) -> Brought {
        Brought {
            provider: Some("idp".to_owned()),
            state: parameter(url, "state"),
            code: "code".to_owned(),
            browser: Some(BROWSER),
            ..Brought::default()
        }
    }

    async fn arrive(&self, brought: Brought) -> Result<Arrival, ArrivalRejection> {
        self.world.service.arrive(self.world.scope, brought, &client("192.0.2.1")).await
    }

    /// A whole journey of somebody of whom the provider says this.
    async fn come(&self, claims: Value) -> Result<Arrived, ArrivalRejection> {
        self.idp.says(claims);
        let flow = self.login().await;
        let url = self.leave(flow.id, "idp").await;
        self.arrive(Self::back(&url)).await.map(|arrival| arrival.arrived)
    }

    async fn find(&self, email: &str) -> Vec<crate::IdentityId> {
        let filter = crate::identity::ListFilter {
            credentials_identifier: Some(email.to_owned()),
            ..Default::default()
        };
        let page = crate::PageRequest::default();
        let service = &self.world.service;
        let strong = cardea_storage::Consistency::Strong;
        let found = service.list_identities(self.world.scope, filter, &page, strong).await.unwrap();
        found.items.into_iter().map(|identity| identity.id).collect()
    }

    /// A local account, whose address is verified or not.
    async fn local(&self, email: &str, verified: bool) -> Identity {
        use crate::{
            identity::{ImportedAddress, NewIdentity, NewPassword},
            schema::Channel,
        };
        let new = NewIdentity {
            traits: crate::testing::traits(email),
            password: Some(NewPassword::Clear(secret(PASSWORD))),
            addresses: vec![ImportedAddress {
                via: Channel::Email,
                value: email.to_owned(),
                verified_at: verified.then_some(START),
            }],
            ..NewIdentity::default()
        };
        self.world.service.create_identity(self.world.scope, new).await.unwrap()
    }
}

fn issued(arrived: Arrived) -> Box<crate::model::Issued> {
    match arrived {
        Arrived::LoggedIn(issued) => issued,
        Arrived::Registered(registered) => Box::new(registered.issued.unwrap()),
        other => panic!("{other:?}"),
    }
}

fn form(arrived: Arrived) -> Flow {
    match arrived {
        Arrived::Form(flow) => *flow,
        other => panic!("{other:?}"),
    }
}

fn ids(flow: &Flow) -> Vec<u32> {
    flow.ui.messages.iter().map(|text| text.id).collect()
}

fn ann() -> Value {
    json!({"sub": "ann", "email": "ann@example.org", "email_verified": true, "given_name": "Ann"})
}

#[tokio::test]
async fn stranger_signs_up_and_is_known_from_then_on() {
    let town = Town::new();
    let first = issued(town.come(ann()).await.unwrap());
    let identity = first.session.identity.unwrap();
    assert_eq!(identity.traits, json!({"email": "ann@example.org", "name": {"first": "Ann"}}));
    assert_eq!(identity.verifiable_addresses[0].status(), "completed");
    assert_eq!(first.session.methods[0].method.name(), "oidc");
    let again = issued(town.come(ann()).await.unwrap());
    assert_eq!(again.session.identity_id, first.session.identity_id);
    // Under another address, too: the subject counts.
    let moved = json!({"sub": "ann", "email": "new@example.org", "email_verified": true});
    let moved = issued(town.come(moved).await.unwrap());
    assert_eq!(moved.session.identity_id, first.session.identity_id);
    let asked = town.idp.asked.lock().clone();
    let code = asked.iter().find(|(url, _)| url.ends_with("/token")).unwrap();
    assert!(code.1.contains("code_verifier=") && !code.1.contains("s3cret"), "{}", code.1);
    let discoveries = asked.iter().filter(|(url, _)| url.contains("well-known")).count();
    assert_eq!(discoveries, 1, "what a provider says of itself is kept");
    let detail = crate::identity::CredentialDetail::WithAccounts;
    let strong = cardea_storage::Consistency::Strong;
    let id = first.session.identity_id;
    let read = town.world.service.identity(town.world.scope, id, detail, strong).await.unwrap();
    let oidc = read.credentials.iter().find(|c| c.kind.name() == "oidc").unwrap();
    assert_eq!(oidc.identifiers, ["idp:ann"]);
    assert_eq!(oidc.accounts[0].refresh_token.expose(), "refresh");
}

/// Whose account was linked elsewhere logs in here; it is of its provider's issuer.
#[tokio::test]
async fn account_that_was_imported_logs_in_and_is_nobody_elses() {
    use crate::identity::{CreateRejection, NewIdentity};
    let town = Town::new();
    let config = json!({"providers": [{"provider": "idp", "subject": "ann"}]});
    let given = json!({"oidc": {"config": config}});
    let (others, left) = town.world.service.read_other_credentials(given.as_object().unwrap());
    assert_eq!(left, []);
    let new = |email: &str| NewIdentity {
        traits: crate::testing::traits(email),
        others: others.clone(),
        ..NewIdentity::default()
    };
    let create = |new| town.world.service.create_identity(town.world.scope, new);
    let created = create(new("ann@elsewhere.example")).await.unwrap();
    assert_eq!(created.credentials.last().unwrap().identifiers, ["idp:ann"]);
    let again = create(new("bob@elsewhere.example")).await;
    assert!(matches!(again, Err(CreateRejection::DuplicateIdentifier)), "{again:?}");
    let known = issued(town.come(ann()).await.unwrap());
    assert_eq!(known.session.identity_id, created.id);
}

/// Forged, replayed, of another browser, of another provider.
#[tokio::test]
async fn what_comes_back_wrongly_lets_nobody_in_and_spends_nothing() {
    let town = Town::new();
    town.idp.says(ann());
    let flow = town.login().await;
    let url = town.leave(flow.id, "idp").await;
    let good = Town::back(&url);
    let mut forged = URL_SAFE_NO_PAD.decode(&good.state).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    let other_browser = Some(CsrfDigest([8; 32]));
    for (brought, what) in [
        (Brought { state: URL_SAFE_NO_PAD.encode(&forged), ..good.clone() }, "forged"),
        (Brought { state: String::new(), ..good.clone() }, "none"),
        (Brought { state: flow.id.to_string(), ..good.clone() }, "the flow's id"),
        (Brought { browser: other_browser, ..good.clone() }, "another browser's"),
        (Brought { browser: None, ..good.clone() }, "no browser's"),
    ] {
        let outcome = town.arrive(brought).await;
        assert!(matches!(outcome, Err(ArrivalRejection::BadState)), "{what}: {outcome:?}");
    }
    let elsewhere = Brought { provider: Some("other".to_owned()), ..good.clone() };
    assert!(matches!(town.arrive(elsewhere).await, Err(ArrivalRejection::MixedUp)));
    assert!(town.idp.asked.lock().iter().all(|(url, _)| !url.ends_with("/token")));
    // None of that spent it; coming back does.
    issued(town.arrive(good.clone()).await.unwrap().arrived);
    assert!(matches!(town.arrive(good).await, Err(ArrivalRejection::BadState)));
}

/// RFC 9207: the answer of another issuer is not sent to this one.
#[tokio::test]
async fn another_issuers_answer_is_not_taken() {
    let town = Town::new();
    town.idp.says(ann());
    let flow = town.login().await;
    let url = town.leave(flow.id, "idp").await;
    let evil = Brought { issuer: Some("https://evil.example".to_owned()), ..Town::back(&url) };
    assert!(matches!(town.arrive(evil).await, Err(ArrivalRejection::MixedUp)));
    assert!(town.idp.asked.lock().iter().all(|(url, _)| !url.ends_with("/token")));
    let flow = town.login().await;
    let url = town.leave(flow.id, "idp").await;
    let named = Brought { issuer: Some(ISSUER.to_owned()), ..Town::back(&url) };
    issued(town.arrive(named).await.unwrap().arrived);
}

#[tokio::test]
async fn token_that_is_not_trusted_is_told_in_the_form_and_nobody_signs_up() {
    let town = Town::new();
    for wrong in [
        json!({"sub": "ann", "nonce": "other"}),
        json!({"sub": "ann", "aud": "them"}),
        json!({"sub": "ann", "iss": "https://evil.example"}),
        json!({"sub": "ann", "exp": 1}),
        json!({"sub": ""}),
    ] {
        let mut claims = ann();
        claims.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let flow = form(town.come(claims).await.unwrap());
        assert_eq!(ids(&flow), [4_000_001], "{wrong}");
    }
    for answer in [
        Err(Unanswered::TooLarge(9)),
        Err(Unanswered::Forbidden),
        Err(Unanswered::TooLate),
        Ok(Reply { status: 500, body: "".into() }),
        Ok(Reply { status: 302, body: "".into() }),
        Ok(Reply { status: 200, body: "{".into() }),
        Ok(Reply { status: 200, body: "{\"access_token\":\"\"}".into() }),
        Ok(Reply { status: 200, body: "{\"access_token\":\"a\",\"error\":\"bad\"}".into() }),
    ] {
        town.idp.answers.lock().insert(format!("{ISSUER}/token"), answer.clone());
        let flow = form(town.come(ann()).await.unwrap());
        assert_eq!(ids(&flow), [4_000_001], "{answer:?}");
    }
    assert_eq!(town.find("ann@example.org").await, []);
}

/// A provider chooses the words of its errors: they are cut, and no markup.
#[tokio::test]
async fn errors_of_a_provider_are_shown_without_what_could_be_markup() {
    let town = Town::new();
    let flow = town.login().await;
    let url = town.leave(flow.id, "idp").await;
    let brought = Brought {
        code: String::new(),
        error: "access_denied".to_owned(),
        error_description: format!("<script>alert(1)</script>\r\n{}", "x".repeat(5000)),
        ..Town::back(&url)
    };
    let flow = form(town.arrive(brought).await.unwrap().arrived);
    let text = &flow.ui.messages[0].text;
    assert!(text.contains("access_denied") && text.len() < 500, "{text}");
    assert!(!text.contains(['<', '>', '\n', '\r', '"']), "{text}");
}

#[tokio::test]
async fn what_is_missing_is_asked_for_and_the_providers_word_kept() {
    let town = Town::new();
    let flow = form(town.come(json!({"sub": "ann", "given_name": "Ann"})).await.unwrap());
    assert_eq!(flow.purpose, Purpose::Registration, "a login that turned out to be one");
    let shown = town.world.service.flow(town.world.scope, Purpose::Registration, flow.id).await;
    let shown = shown.unwrap();
    let names: Vec<_> = shown.ui.nodes.iter().map(|node| node.name().to_owned()).collect();
    assert!(names.contains(&"traits.email".to_owned()) && !names.contains(&"password".to_owned()));
    assert_eq!(shown.ui.find("traits.email").unwrap().messages.len(), 1);
    let submit = async |email: &str| {
        let social =
            SocialSubmission { provider: Some("idp".to_owned()), ..SocialSubmission::default() };
        let submission = RegistrationSubmission {
            method: "oidc".to_owned(),
            traits: json!({"email": email, "name": {"first": "Eve"}}),
            social,
            ..RegistrationSubmission::default()
        };
        let service = &town.world.service;
        service
            .submit_registration(town.world.scope, flow.id, submission, &client("192.0.2.1"))
            .await
    };
    assert!(matches!(submit("nonsense").await, Err(RegistrationRejection::Invalid(_))));
    let registered = submit("ann@example.org").await.unwrap();
    let identity = registered.identity;
    assert_eq!(identity.traits["name"]["first"], "Ann", "the provider's word counts");
    assert_eq!(identity.verifiable_addresses[0].verified_at, None, "nobody verified that");
    let again = issued(town.come(json!({"sub": "ann", "given_name": "Ann"})).await.unwrap());
    assert_eq!(again.session.identity_id, identity.id);
}

/// A provider id pins its issuer.
#[tokio::test]
async fn subject_of_another_issuer_is_somebody_else() {
    let town = Town::new();
    let service = &town.world.service;
    let digests =
        |issuer: &str| service.account_digests(town.world.scope.tenant, ("idp", issuer, "ann"));
    assert_ne!(digests(ISSUER), digests("https://evil.example"));
    assert_ne!(
        service.account_digests(town.world.scope.tenant, ("a", "bc", "d")),
        service.account_digests(town.world.scope.tenant, ("ab", "c", "d")),
    );
    issued(town.come(ann()).await.unwrap());
    let holder =
        |issuer: &'static str| service.holder_of_account(town.world.scope, ("idp", issuer, "ann"));
    assert!(holder(ISSUER).await.unwrap().is_some());
    assert!(holder("https://evil.example").await.unwrap().is_none());
    assert!(
        service
            .holder_of_account(town.world.scope, ("other", ISSUER, "ann"))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn mapping_that_fails_lets_nobody_in() {
    for mapper in [
        "local f(n) = f(n + 1); f(0)",
        "std.foldl(function(a, b) a + b, std.range(1, 100000000), 0)",
        "std.repeat('x', 1000000000)",
        "error 'no'",
        "42",
        "{ identity: { traits: 'x' } }",
        "{ identity: { traits: std.extVar('secrets') } }",
    ] {
        let town = Town::with(vec![provider("idp", mapper)]);
        let flow = form(town.come(ann()).await.unwrap());
        assert_eq!(ids(&flow), [4_000_001], "{mapper}");
        assert_eq!(town.find("ann@example.org").await, []);
    }
}

#[tokio::test]
async fn inactive_identity_is_not_let_in() {
    let town = Town::new();
    let first = issued(town.come(ann()).await.unwrap());
    let off = json!([{"op": "replace", "path": "/state", "value": "inactive"}]);
    let id = first.session.identity_id;
    town.world.service.patch_identity(town.world.scope, id, &off).await.unwrap();
    assert!(matches!(town.come(ann()).await, Err(ArrivalRejection::Disabled)));
}
