//! Where other servers have a part: an account at a provider, exchanged by a native client,
//! and a web hook behind a link that is followed.

use cardea_identity::{
    flow::{AddressProof, Purpose},
    hook::{Action, Hook, Hooks, Moment, Response, WebHook},
    jsonnet::{Limits, Program},
    outbound::{
        Outbound, Question, Reply, Unanswered, Verb,
        request::{Auth, Request as Asking},
    },
    social::{ClaimsSource, ClientSecret, Pkce, Provider, Providers, mapping, preset},
};

use super::{
    browser::{Browser, action, csrf},
    factors::seed_in,
    links::link_to,
    *,
};

const HOOK: &str = "https://hooks.example/recovered";
const HTML: &str = "text/html";

/// All other servers in one: the provider knows Ann, the hook lets everything be.
#[derive(Default)]
struct Others(Mutex<Vec<Question>>);

#[async_trait]
impl Outbound for Others {
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
        let said = if question.url.contains("/oauth2/token") {
            json!({"access_token": "access"})
        } else {
            json!({"id": "ann", "email": "ann@example.org", "verified": true})
        };
        self.0.lock().push(question);
        Ok(Reply { status: 200, body: said.to_string().into() })
    }
}

pub(super) fn provider() -> Provider {
    let preset = preset::find("discord").unwrap();
    Provider {
        id: "discord".to_owned(),
        label: "Discord".to_owned(),
        preset,
        issuer: preset.issuer.to_owned(),
        client_id: "us".to_owned(),
        client_secret: ClientSecret::Text(Secret::new("s3cret".to_owned())),
        scope: vec!["identify".to_owned()],
        auth_url: None,
        token_url: None,
        userinfo_url: None,
        audiences: Vec::new(),
        fedcm_config_url: None,
        pkce: Pkce::Auto,
        claims_source: ClaimsSource::Userinfo,
        requested_claims: None,
        mapper: mapping::default_program().unwrap(),
        mapper_url: None,
        organization: None,
        renews: false,
        aal2_acr: Vec::new(),
        aal2_amr: Vec::new(),
        authoritative_domains: Vec::new(),
    }
}

pub(super) fn cheap() -> Settings {
    let argon2 = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
    Settings { argon2, ..Settings::default() }
}

impl World {
    /// What a native client gets for its codes once its user came by the provider.
    async fn exchanged(&self) -> Answer {
        let begin = "/self-service/login/api?return_session_token_exchange_code=true";
        let flow = self.public(Ask::get(begin)).await.is(200);
        let init = flow.text("/session_token_exchange_code");
        let leaves = json!({"method": "oidc", "provider": "discord"});
        let away = self.public(Ask::post(action(&flow), &leaves)).await.is(422);
        let place = away.text("/redirect_browser_to");
        let told = format!("please redirect the browser to: {place}");
        assert!(away.text("/error/reason").ends_with(&told), "{:#}", away.body);
        let state = place.split_once("state=").unwrap().1.split('&').next().unwrap();
        let back = format!("/self-service/methods/oidc/callback/discord?code=c&state={state}");
        let back = self.public(Ask::get(back)).await.is(303);
        let code = back.header("location").split_once("code=").unwrap().1;
        let codes = format!("init_code={init}&return_to_code={code}");
        self.public(Ask::get(format!("/sessions/token-exchange?{codes}"))).await.is(200)
    }
}

/// As who logs in by password is: see `factors`.
#[tokio::test]
async fn codes_are_exchanged_for_nobodys_traits_before_the_second_factor() {
    let providers = Providers::new(vec![provider()]);
    let world = World::reaching(Settings { providers, ..cheap() }, Arc::new(Others::default()));
    let first = world.exchanged().await;
    assert_eq!(first.text("/session/identity/traits/email"), "ann@example.org");
    let token = first.text("/session_token");
    let flow = world.public(Ask::get("/self-service/settings/api").token(token)).await.is(200);
    let code = world.code(&seed_in(&flow));
    let body = json!({"method": "totp", "totp_code": code});
    world.public(Ask::post(action(&flow), &body).token(token)).await.is(200);
    let second = world.exchanged().await;
    assert_eq!(second.text("/session/authenticator_assurance_level"), "aal1");
    assert_eq!(second.body["session"]["identity"], Value::Null);
    world.whoami(second.text("/session_token")).await.is(403);
}

#[tokio::test]
async fn hooks_behind_a_link_are_told_of_its_request_and_not_of_its_token() {
    let program = "function(ctx) { method: ctx.request_method, url: ctx.request_url }";
    let hook = WebHook {
        id: "recovered".to_owned(),
        request: Asking {
            url: HOOK.to_owned(),
            verb: Verb::Post,
            body: Program::parse(program, Limits::default()).unwrap(),
            headers: Vec::new(),
            auth: Auth::None,
            within: Duration::from_secs(5),
        },
        signing: None,
        response: Response::Awaited,
        can_interrupt: false,
    };
    let hook = Hook {
        purpose: Purpose::Recovery,
        moment: Moment::After,
        method: None,
        action: Action::WebHook(Arc::new(hook)),
    };
    let settings = Settings {
        recovery: true,
        recovery_proof: AddressProof::Link,
        hooks: Hooks::new(vec![hook]),
        ..cheap()
    };
    let others = Arc::new(Others::default());
    let world = World::reaching(settings, others.clone());
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let flow = browser.begin("recovery", "").await;
    let body = json!({"method": "link", "email": "ann@example.org", "csrf_token": csrf(&flow)});
    browser.post_json(&action(&flow), &body).await.is(200);
    let link = link_to(&world, "ann@example.org").await;
    browser.get(&link, HTML).await.is(303);
    let asked = others.0.lock();
    assert_eq!(asked.len(), 1);
    let told: Value = serde_json::from_slice(&asked[0].body).unwrap();
    let url = format!("http://127.0.0.1:4433/self-service/recovery?flow={}", flow.text("/id"));
    assert_eq!(told, json!({"method": "GET", "url": url}));
}
