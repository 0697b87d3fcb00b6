//! Providers that are tried: what is told of them, and that nothing else comes of it.

use super::*;
use crate::{
    PageRequest,
    audit::AuditFilter,
    flow::{DryRunDeparture, DryRunRejection, FlowRejection, FlowState},
    identity::ListFilter,
};

impl Town {
    async fn begin_dry_run(&self) -> Flow {
        let url = "http://127.0.0.1:4433/admin/test-login-flows".to_owned();
        self.world.service.begin_dry_run(self.world.scope, "idp", url).await.unwrap()
    }

    async fn depart_dry(
        &self,
        flow: FlowId,
        by: (CsrfDigest, Option<&str>),
        provider: &str,
    ) -> Result<DryRunDeparture, DryRunRejection> {
        let provider = Some(provider.to_owned());
        let social = SocialSubmission { provider, ..SocialSubmission::default() };
        self.world.service.depart_dry_run(self.world.scope, flow, by, &social).await
    }

    /// Begins to try the provider, and leaves for it.
    async fn leave_dry(&self) -> (Flow, String) {
        let flow = self.begin_dry_run().await;
        let bearer = bearer(&flow);
        let away = self.depart_dry(flow.id, (BROWSER, Some(&bearer)), "idp").await.unwrap();
        let DryRunDeparture::Away(url) = away else { panic!("{away:?}") };
        *self.idp.nonce.lock() = parameter(&url, "nonce");
        (flow, url)
    }

    async fn shown(&self, flow: FlowId) -> Flow {
        self.world.service.flow(self.world.scope, Purpose::Login, flow).await.unwrap()
    }

    /// What came of it, as its browser reads it.
    async fn told(&self, flow: FlowId) -> Value {
        let shown = self.shown(flow).await;
        assert!(shown.dry_run.as_ref().unwrap().is_captured());
        let (service, scope) = (&self.world.service, self.world.scope);
        let proof = service.dry_run_proof(scope, flow);
        service.dry_run_payload(scope, &shown, Some(proof.expose())).unwrap()
    }

    /// Tries a provider that says this; gives what came of it.
    async fn try_out(&self, claims: Value) -> Value {
        self.idp.says(claims);
        let (flow, url) = self.leave_dry().await;
        let arrival = self.arrive(Self::back(&url)).await.unwrap();
        assert!(matches!(arrival.arrived, Arrived::Tried), "{:?}", arrival.arrived);
        self.told(flow.id).await
    }

    /// That there is nobody, and nothing that somebody did.
    async fn is_empty(&self) {
        let (service, scope) = (&self.world.service, self.world.scope);
        let strong = cardea_storage::Consistency::Strong;
        let page = PageRequest::default();
        let all = service.list_identities(scope, ListFilter::default(), &page, strong).await;
        assert_eq!(all.unwrap().items, []);
        let strong = cardea_storage::Consistency::Strong;
        let happened = service.list_audit_events(scope, AuditFilter::default(), &page, strong);
        assert_eq!(happened.await.unwrap().items.len(), 0);
    }
}

fn bearer(flow: &Flow) -> String {
    match &flow.ui.find("csrf_token").unwrap().attributes {
        crate::ui::Attributes::Input(input) => {
            input.value.as_ref().unwrap().as_str().unwrap().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn provider_that_is_tried_is_told_of_and_lets_nobody_in() {
    let town = Town::new();
    let flow = town.begin_dry_run().await;
    let names: Vec<_> = flow.ui.nodes.iter().map(|node| node.name().to_owned()).collect();
    assert_eq!(names, ["csrf_token", "provider"], "one provider of two");
    let told = town.try_out(ann()).await;
    assert_eq!(told["id_token_claims"]["sub"], "ann");
    assert_eq!(told["jsonnet_input"]["claims"]["email"], "ann@example.org");
    assert_eq!(told["jsonnet_input"]["identity"], Value::Null);
    let traits = json!({"email": "ann@example.org", "name": {"first": "Ann"}});
    assert_eq!(told["jsonnet_output"]["identity"]["traits"], traits);
    for absent in ["error", "schema_validation_errors", "userinfo", "jsonnet_stderr"] {
        assert_eq!(told.get(absent), None, "{absent}");
    }
    let text = told.to_string();
    assert!(!text.contains("refresh") && !text.contains("eyJ"), "no token: {text}");
    town.is_empty().await;
}

#[tokio::test]
async fn no_hook_is_asked_about_a_provider_that_is_tried() {
    let providers = Providers::new(vec![provider("idp", MAPPER)]);
    let town = Town::of(Settings { providers, hooks: hooked::everywhere(), ..settings() });
    town.hook_answers(200);
    assert_eq!(town.try_out(ann()).await.get("error"), None);
    assert_eq!(town.hooks_asked(), [""; 0]);
    issued(town.come(ann()).await.unwrap());
    assert_eq!(town.hooks_asked().len(), 2, "before, and after");
}

#[tokio::test]
async fn step_that_fails_is_named_with_its_reason() {
    let town = Town::new();
    let (step, reason) = ("/error/step", "/error/reason");
    let is = |told: &Value, what: &str, why: &str| {
        assert_eq!(told.pointer(step), Some(&json!(what)), "{told}");
        assert_eq!(told.pointer(reason), Some(&json!(why)), "{told}");
        assert!(told["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    };
    // What the provider signed is shown even if it is not for us.
    let told = town.try_out(json!({"sub": "ann", "aud": "them"})).await;
    is(&told, "claims_decode", "token_invalid");
    assert_eq!(told["id_token_claims"]["aud"], "them");
    assert_eq!(told.get("jsonnet_input"), None);
    let told = town.try_out(json!({"sub": "ann", "given_name": "Ann"})).await;
    is(&told, "schema_validate", "traits_invalid");
    assert_eq!(told["schema_validation_errors"][0]["path"], "/traits/email", "{told}");
    for (answer, what, why) in [
        (Ok(Reply { status: 500, body: "".into() }), "token_exchange", "refused"),
        (Err(Unanswered::TooLate), "token_exchange", "unreachable"),
        (Ok(Reply { status: 200, body: "{".into() }), "token_exchange", "answer_malformed"),
    ] {
        town.idp.answers.lock().insert(format!("{ISSUER}/token"), answer);
        is(&town.try_out(ann()).await, what, why);
    }
    town.idp.answers.lock().clear();
    let (flow, url) = town.leave_dry().await;
    let denied = Brought {
        code: String::new(),
        error: "access_denied".to_owned(),
        error_description: "<script>no</script>".to_owned(),
        ..Town::back(&url)
    };
    town.arrive(denied).await.unwrap();
    let told = town.told(flow.id).await;
    is(&told, "authorize", "access_denied");
    assert!(!told.to_string().contains('<'), "{told}");
    for (mapper, why) in
        [("error 'no such claim'", "mapper_failed"), ("42", "mapper_output_invalid")]
    {
        let town = Town::with(vec![provider("idp", mapper)]);
        let told = town.try_out(ann()).await;
        is(&told, "jsonnet", why);
        assert_eq!(told["jsonnet_input"]["claims"]["sub"], "ann");
        town.is_empty().await;
    }
    town.is_empty().await;
}

/// A provider that cannot be asked at all is found out before anybody leaves.
#[tokio::test]
async fn provider_that_does_not_answer_is_told_of_at_once() {
    let town = Town::new();
    let discovery = format!("{ISSUER}/.well-known/openid-configuration");
    town.idp.answers.lock().insert(discovery, Err(Unanswered::Forbidden));
    let flow = town.begin_dry_run().await;
    let by = (BROWSER, Some(&*bearer(&flow)));
    let tried = town.depart_dry(flow.id, by, "idp").await.unwrap();
    assert!(matches!(tried, DryRunDeparture::Tried(_)), "{tried:?}");
    assert_eq!(town.told(flow.id).await["error"]["step"], "discovery");
}

/// Tokens that a provider puts into its claims are shown to nobody.
#[tokio::test]
async fn tokens_among_claims_are_left_out() {
    let town = Town::new();
    let mut claims = ann();
    claims["identities"] = json!([{"access_token": "hunter2", "provider": "x"}]);
    let told = town.try_out(claims).await;
    assert_eq!(told["id_token_claims"]["identities"], json!([{"provider": "x"}]));
    assert!(!told.to_string().contains("hunter2"), "{told}");
}

/// Of another browser, again, by another way.
#[tokio::test]
async fn nothing_but_its_own_return_is_captured_and_that_once() {
    let town = Town::new();
    town.idp.says(ann());
    let (service, scope) = (&town.world.service, town.world.scope);
    let (flow, url) = town.leave_dry().await;
    let other = Some(CsrfDigest([8; 32]));
    for browser in [other, None] {
        let elsewhere = town.arrive(Brought { browser, ..Town::back(&url) }).await;
        assert!(matches!(elsewhere, Err(ArrivalRejection::BadState)), "{elsewhere:?}");
    }
    assert!(!town.shown(flow.id).await.dry_run.unwrap().is_captured());
    town.arrive(Town::back(&url)).await.unwrap();
    let again = town.arrive(Town::back(&url)).await;
    assert!(matches!(again, Err(ArrivalRejection::BadState)), "{again:?}");
    let shown = town.shown(flow.id).await;
    assert_eq!(shown.state, FlowState::PassedChallenge);
    // Nor is it gone through once more.
    let by = (BROWSER, Some(&*bearer(&flow)));
    let more = town.depart_dry(flow.id, by, "idp").await.unwrap();
    assert!(matches!(more, DryRunDeparture::Stays(_)), "{more:?}");
    let theirs = service.dry_run_proof(scope, FlowId(uuid::Uuid::from_u128(7)));
    for proof in [None, Some(""), Some("x"), Some(theirs.expose().as_str())] {
        let outcome = service.dry_run_payload(scope, &shown, proof);
        assert!(matches!(outcome, Err(DryRunRejection::NotYours)), "{proof:?}: {outcome:?}");
        let outcome = service.delete_dry_run(scope, flow.id, proof).await;
        assert!(matches!(outcome, Err(DryRunRejection::NotYours)), "{proof:?}: {outcome:?}");
    }
    let proof = service.dry_run_proof(scope, flow.id);
    service.delete_dry_run(scope, flow.id, Some(proof.expose())).await.unwrap();
    let gone = service.delete_dry_run(scope, flow.id, Some(proof.expose())).await;
    assert!(matches!(gone, Err(DryRunRejection::Flow(FlowRejection::NotFound))), "{gone:?}");
    town.is_empty().await;
}

/// Neither is a login made of it, nor is it made of a login.
#[tokio::test]
async fn flow_that_tries_a_provider_is_no_login_and_no_login_is_one() {
    let town = Town::new();
    let (service, scope, guest) = (&town.world.service, town.world.scope, client("192.0.2.1"));
    town.local("ann@example.org", true).await;
    let flow = town.begin_dry_run().await;
    let social =
        SocialSubmission { provider: Some("idp".to_owned()), ..SocialSubmission::default() };
    for (method, social) in [("oidc", social.clone()), ("password", SocialSubmission::default())] {
        let submission = LoginSubmission {
            method: method.to_owned(),
            identifier: Some("ann@example.org".to_owned()),
            password: Some(secret(PASSWORD)),
            social,
            ..LoginSubmission::default()
        };
        let done = service.submit_login(scope, flow.id, submission, &guest).await;
        let not_there = matches!(done, Err(LoginRejection::Flow(FlowRejection::NotFound)));
        assert!(not_there, "{method}: {done:?}");
    }
    let submission = RegistrationSubmission {
        method: "oidc".to_owned(),
        social,
        ..RegistrationSubmission::default()
    };
    let done = service.submit_registration(scope, flow.id, submission, &guest).await;
    assert!(matches!(done, Err(RegistrationRejection::Flow(FlowRejection::NotFound))), "{done:?}");
    for purpose in Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Login) {
        let other = service.flow(scope, purpose, flow.id).await;
        assert!(matches!(other, Err(FlowRejection::NotFound)), "{purpose:?}: {other:?}");
    }
    let login = town.login().await;
    assert_eq!(login.dry_run, None);
    let by = (BROWSER, None);
    let mixed = town.depart_dry(login.id, by, "idp").await;
    assert!(matches!(mixed, Err(DryRunRejection::Flow(FlowRejection::NotFound))), "{mixed:?}");
    let proof = service.dry_run_proof(scope, login.id);
    let kept = service.delete_dry_run(scope, login.id, Some(proof.expose())).await;
    assert!(matches!(kept, Err(DryRunRejection::Flow(FlowRejection::NotFound))), "{kept:?}");
    assert_eq!(town.shown(login.id).await.id, login.id);
}

#[tokio::test]
async fn provider_is_tried_by_whom_it_was_told_to_alone() {
    let town = Town::new();
    let (service, scope) = (&town.world.service, town.world.scope);
    let unknown = service.begin_dry_run(scope, "nobody", String::new()).await;
    assert!(matches!(unknown, Err(DryRunRejection::UnknownProvider)), "{unknown:?}");
    let (flow, other) = (town.begin_dry_run().await, town.begin_dry_run().await);
    let theirs = bearer(&other);
    for bearer in [None, Some(""), Some(theirs.as_str())] {
        let refused = town.depart_dry(flow.id, (BROWSER, bearer), "idp").await;
        assert!(matches!(refused, Err(DryRunRejection::NotYours)), "{bearer:?}: {refused:?}");
    }
    let mine = bearer(&flow);
    let elsewhere = town.depart_dry(flow.id, (BROWSER, Some(&mine)), "other").await.unwrap();
    assert!(matches!(elsewhere, DryRunDeparture::Stays(_)), "{elsewhere:?}");
    // From then on it is that browser's, which the form was shown to.
    let away = town.depart_dry(flow.id, (BROWSER, None), "idp").await.unwrap();
    assert!(matches!(away, DryRunDeparture::Away(_)), "{away:?}");
    town.world.clock.advance(std::time::Duration::from_secs(3600));
    let late = town.depart_dry(flow.id, (BROWSER, Some(&mine)), "idp").await;
    assert!(matches!(late, Err(DryRunRejection::Flow(FlowRejection::Expired { .. }))), "{late:?}");
    service.delete_dry_run(scope, flow.id, None).await.unwrap();
}
