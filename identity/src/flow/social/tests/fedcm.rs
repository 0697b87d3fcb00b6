//! Tokens that a browser got from a provider itself, and everything that is none.

use std::time::Duration;

use super::*;
use crate::{
    audit::AuditFilter,
    flow::{BeginRejection, FedcmRejection, FedcmSubmission, captcha::ProofOfWork},
};

const CONFIG: &str = "https://idp.example/fedcm.json";
const ELSEWHERE: CsrfDigest = CsrfDigest([8; 32]);

fn asked() -> Provider {
    Provider { fedcm_config_url: Some(CONFIG.to_owned()), ..provider("idp", MAPPER) }
}

fn town() -> Town {
    Town::with(vec![asked(), provider("other", MAPPER)])
}

impl Town {
    fn nonce(&self, browser: CsrfDigest) -> String {
        let providers = self.world.service.fedcm_providers(self.world.scope, browser);
        providers.into_iter().next().unwrap().nonce
    }

    /// A token of somebody of whom the provider says this.
    fn token(&self, nonce: &str, claims: Value) -> String {
        nonce.clone_into(&mut self.idp.nonce.lock());
        self.idp.says(claims);
        self.idp.id_token()
    }

    async fn submit(
        &self,
        token: &str,
        browser: CsrfDigest,
        nonce: Option<&str>,
    ) -> Result<Arrived, FedcmRejection> {
        let submission = FedcmSubmission {
            token: secret(token),
            nonce: nonce.map(str::to_owned),
            browser,
            proof: None,
            request_url: "http://127.0.0.1:4433/self-service/fed-cm/token".to_owned(),
            return_to: None,
        };
        let (service, guest) = (&self.world.service, client("192.0.2.1"));
        let done = service.submit_fedcm(self.world.scope, submission, &guest).await;
        done.map(|(_, arrived)| arrived)
    }

    /// Asks, gets a token and sends it.
    async fn sign_in(&self, claims: Value) -> Result<Arrived, FedcmRejection> {
        let nonce = self.nonce(BROWSER);
        let token = self.token(&nonce, claims);
        self.submit(&token, BROWSER, Some(&nonce)).await
    }
}

#[tokio::test]
async fn stranger_signs_up_by_the_browser_and_is_known_from_then_on() {
    let town = town();
    let first = issued(town.sign_in(ann()).await.unwrap());
    let identity = first.session.identity.unwrap();
    assert_eq!(identity.traits, json!({"email": "ann@example.org", "name": {"first": "Ann"}}));
    assert_eq!(first.session.methods[0].method.name(), "oidc");
    let again = issued(town.sign_in(ann()).await.unwrap());
    assert_eq!(again.session.identity_id, first.session.identity_id);
    // And by the provider's own page, which is the same account.
    let there = issued(town.come(ann()).await.unwrap());
    assert_eq!(there.session.identity_id, first.session.identity_id);
    // A nonce need not be sent beside the token that has it.
    let nonce = town.nonce(BROWSER);
    let token = town.token(&nonce, ann());
    issued(town.submit(&token, BROWSER, None).await.unwrap());
}

/// As by the provider's own page: hooks are asked, what happened is told of.
#[tokio::test]
async fn who_comes_by_the_browser_leaves_the_same_traces() {
    let providers = Providers::new(vec![asked()]);
    let town = Town::of(Settings { providers, hooks: hooked::everywhere(), ..settings() });
    town.hook_answers(200);
    let first = issued(town.sign_in(ann()).await.unwrap());
    assert_eq!(town.hooks_asked().len(), 2, "before the login, and after the registration");
    issued(town.sign_in(ann()).await.unwrap());
    assert_eq!(town.hooks_asked().len(), 4);
    let events = async || {
        let filter = AuditFilter { identity: Some(first.session.identity_id), act: None };
        let (page, strong) = (crate::PageRequest::default(), cardea_storage::Consistency::Strong);
        let service = &town.world.service;
        let told = service.list_audit_events(town.world.scope, filter, &page, strong).await;
        told.unwrap().items.into_iter().map(|event| event.kind).collect::<Vec<_>>()
    };
    let kinds = events().await;
    issued(town.come(ann()).await.unwrap());
    let more = events().await;
    assert_eq!(more[0], kinds[0], "a login is a login: {more:?}");
    assert_eq!(more.len(), kinds.len() + 1);
}

/// Anybody may ask for parameters.
#[tokio::test]
async fn what_a_browser_asks_with_is_kept_nowhere_and_is_of_it_alone() {
    let town = town();
    town.world.counted.take();
    let (service, scope) = (&town.world.service, town.world.scope);
    let told = service.fedcm_providers(scope, BROWSER);
    assert_eq!(town.world.counted.take(), [0; 4]);
    assert_eq!(told.len(), 1, "one of two is asked so");
    let told = &told[0];
    assert_eq!((told.client_id.as_str(), told.config_url.as_str()), ("us", CONFIG));
    assert_ne!(town.nonce(BROWSER), town.nonce(BROWSER));
}

/// Login CSRF: a token of one's own, planted in another's browser.
#[tokio::test]
async fn token_of_another_browser_lets_nobody_in() {
    let town = town();
    let nonce = town.nonce(ELSEWHERE);
    let token = town.token(&nonce, ann());
    for sent in [None, Some(nonce.as_str())] {
        let planted = town.submit(&token, BROWSER, sent).await;
        assert!(matches!(planted, Err(FedcmRejection::NotYours)), "{planted:?}");
    }
    assert_eq!(town.find("ann@example.org").await, []);
    issued(town.submit(&token, ELSEWHERE, None).await.unwrap());
}

#[tokio::test]
async fn token_is_good_once_whatever_came_of_it() {
    let town = town();
    let nonce = town.nonce(BROWSER);
    let token = town.token(&nonce, ann());
    issued(town.submit(&token, BROWSER, None).await.unwrap());
    // Another token of the same nonce is no new one.
    for token in [token, town.token(&nonce, json!({"sub": "bob", "given_name": "Bob"}))] {
        let again = town.submit(&token, BROWSER, None).await;
        assert!(matches!(again, Err(FedcmRejection::Over)), "{again:?}");
    }
    let nonce = town.nonce(BROWSER);
    let token = town.token(&nonce, json!({"sub": "eve", "given_name": "Eve"}));
    let asked = form(town.submit(&token, BROWSER, None).await.unwrap());
    assert_eq!(asked.purpose, Purpose::Registration, "an address is missing");
    let again = town.submit(&token, BROWSER, None).await;
    assert!(matches!(again, Err(FedcmRejection::Over)), "{again:?}");
    let nonce = town.nonce(BROWSER);
    let token = town.token(&nonce, ann());
    let at_once = [town.submit(&token, BROWSER, None), town.submit(&token, BROWSER, None)];
    let done = futures::future::join_all(at_once).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
}

#[tokio::test]
async fn nonce_that_is_over_is_told_to_be() {
    let town = town();
    let nonce = town.nonce(BROWSER);
    let token = town.token(&nonce, json!({"sub": "ann", "exp": 2_000_000_000}));
    town.world.clock.advance(Duration::from_secs(3599));
    form(town.submit(&token, BROWSER, None).await.unwrap());
    let nonce = town.nonce(BROWSER);
    town.world.clock.advance(Duration::from_secs(3600));
    let token = town.token(&nonce, json!({"sub": "ann", "exp": 2_000_000_000}));
    let late = town.submit(&token, BROWSER, None).await;
    assert!(matches!(late, Err(FedcmRejection::Over)), "{late:?}");
}

/// The form says so, and may be gone on with by other ways.
#[tokio::test]
async fn token_that_is_not_for_here_is_told_in_the_form_and_nobody_signs_up() {
    let town = town();
    let nonce = town.nonce(BROWSER);
    for wrong in [
        json!({"aud": "them"}),
        json!({"aud": ["us", "them"]}),
        json!({"azp": "them"}),
        json!({"iss": "https://evil.example"}),
        json!({"exp": 1}),
        json!({"iat": 2_000_000_000}),
        json!({"nonce": "x"}),
        json!({"nonce": ""}),
        json!({"nonce": null}),
        json!({"sub": ""}),
    ] {
        let mut claims = ann();
        claims.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let token = town.token(&nonce, claims);
        let flow = form(town.submit(&token, BROWSER, None).await.unwrap());
        assert_eq!((ids(&flow), flow.purpose), (vec![4_000_001], Purpose::Login), "{wrong}");
        let kept = town.world.service.flow(town.world.scope, Purpose::Login, flow.id).await;
        assert_eq!(ids(&kept.unwrap()), [4_000_001], "{wrong}");
    }
    let good = town.token(&nonce, ann());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let now = START.as_millis() / 1000;
    let eve = json!({"iss": ISSUER, "aud": "us", "iat": now, "exp": now + 300, "sub": "eve",
        "nonce": nonce});
    let forged = URL_SAFE_NO_PAD.encode(eve.to_string());
    for forged in [
        format!("{head}.{forged}.{signature}"),
        format!("{}.{forged}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#)),
        format!("{message}."),
        "x".to_owned(),
    ] {
        let flow = form(town.submit(&forged, BROWSER, None).await.unwrap());
        assert_eq!(ids(&flow), [4_000_001], "{forged}");
    }
    let flow = form(town.submit("", BROWSER, None).await.unwrap());
    assert_eq!(ids(&flow), [4_000_002], "there is none");
    let flow = form(town.submit(&good, BROWSER, Some("another")).await.unwrap());
    assert_eq!(ids(&flow), [4_000_001]);
    assert_eq!(town.find("ann@example.org").await, []);
    // None of that spent the nonce.
    issued(town.submit(&good, BROWSER, Some(&nonce)).await.unwrap());
}

/// A nonce is drawn for one provider.
#[tokio::test]
async fn nonce_of_another_provider_is_none() {
    let twin =
        Provider { id: "twin".to_owned(), issuer: "https://twin.example".to_owned(), ..asked() };
    let town = Town::with(vec![asked(), twin]);
    let told = town.world.service.fedcm_providers(town.world.scope, BROWSER);
    let token = town.token(&told[1].nonce, ann());
    let mixed = town.submit(&token, BROWSER, None).await;
    assert!(matches!(mixed, Err(FedcmRejection::NotYours)), "{mixed:?}");
}

#[tokio::test]
async fn provider_that_browsers_do_not_ask_is_not_taken_at_its_word() {
    let idp = provider("idp", MAPPER);
    let organization = Some(uuid::Uuid::from_u128(7));
    for provider in [idp, Provider { organization, ..asked() }] {
        let town = Town::with(vec![provider]);
        assert_eq!(town.world.service.fedcm_providers(town.world.scope, BROWSER), []);
        let token = town.token("x", ann());
        let flow = form(town.submit(&token, BROWSER, None).await.unwrap());
        assert_eq!(flow.ui.messages[0].text, "There is no such sign-in provider.");
    }
    // Nor is work that an operator wants done got round.
    for purpose in [Purpose::Login, Purpose::Registration] {
        let proof_of_work = ProofOfWork { flows: vec![purpose], bits: 8 };
        let providers = Providers::new(vec![asked()]);
        let town = Town::of(Settings { providers, proof_of_work, ..settings() });
        assert_eq!(town.world.service.fedcm_providers(town.world.scope, BROWSER), []);
    }
}

/// As whoever comes back from the provider's page.
#[tokio::test]
async fn account_that_somebody_has_is_linked_by_who_logs_in_to_it() {
    let town = town();
    let mine = town.local("ann@example.com", true).await;
    let claims = json!({"sub": "ann", "email": "ann@example.com", "email_verified": true});
    let flow = form(town.sign_in(claims.clone()).await.unwrap());
    assert_eq!((flow.purpose, ids(&flow)), (Purpose::Login, vec![1_010_016]));
    let submission = LoginSubmission {
        method: "password".to_owned(),
        identifier: Some("ann@example.com".to_owned()),
        password: Some(secret(PASSWORD)),
        ..LoginSubmission::default()
    };
    let (service, scope) = (&town.world.service, town.world.scope);
    let guest = client("192.0.2.1");
    service.submit_login(scope, flow.id, submission, &guest).await.unwrap();
    let linked = issued(town.sign_in(claims).await.unwrap());
    assert_eq!(linked.session.identity_id, mine.id);
    let off = json!([{"op": "replace", "path": "/state", "value": "inactive"}]);
    service.patch_identity(scope, mine.id, &off).await.unwrap();
    let nonce = town.nonce(BROWSER);
    let token = town.token(&nonce, json!({"sub": "ann"}));
    let refused = town.submit(&token, BROWSER, None).await;
    let disabled = matches!(refused, Err(FedcmRejection::Arrival(ArrivalRejection::Disabled)));
    assert!(disabled, "{refused:?}");
}

#[tokio::test]
async fn who_is_logged_in_already_is_told_so() {
    let town = town();
    let first = issued(town.sign_in(ann()).await.unwrap());
    let nonce = town.nonce(BROWSER);
    let submission = FedcmSubmission {
        token: secret(&town.token(&nonce, ann())),
        nonce: None,
        browser: BROWSER,
        proof: Some(Proof::Token(first.token)),
        request_url: String::new(),
        return_to: None,
    };
    let (service, guest) = (&town.world.service, client("192.0.2.1"));
    let done = service.submit_fedcm(town.world.scope, submission, &guest).await;
    let told = matches!(done, Err(FedcmRejection::Begin(BeginRejection::AlreadyLoggedIn)));
    assert!(told, "{done:?}");
}
