//! Native clients, who exchange codes.

use super::*;

#[tokio::test]
async fn native_client_gets_its_session_for_both_codes_once() {
    let town = Town::new();
    let (service, scope) = (&town.world.service, town.world.scope);
    town.idp.says(ann());
    let begin = BeginRegistration { exchange: true, ..BeginRegistration::default() };
    let flow = service.begin_registration(scope, begin).await.unwrap();
    let init = flow.exchange_code.clone().unwrap();
    let social =
        SocialSubmission { provider: Some("idp".to_owned()), ..SocialSubmission::default() };
    let submission = RegistrationSubmission {
        method: "oidc".to_owned(),
        social,
        ..RegistrationSubmission::default()
    };
    let done = service.submit_registration(scope, flow.id, submission, &client("192.0.2.1")).await;
    let Err(RegistrationRejection::Away(url)) = done else { panic!("{done:?}") };
    *town.idp.nonce.lock() = parameter(&url, "nonce");
    let early = service.exchange_session(scope, init.expose(), "x").await;
    assert!(matches!(early, Err(ExchangeRejection::NotFound)));
    let arrival = town.arrive(Brought { browser: None, ..Town::back(&url) }).await.unwrap();
    let code = arrival.return_code.unwrap();
    for (a, b) in [
        (init.expose().as_str(), "x"),
        ("x", code.expose().as_str()),
        (code.expose().as_str(), init.expose().as_str()),
        ("", ""),
    ] {
        let wrong = service.exchange_session(scope, a, b).await;
        assert!(matches!(wrong, Err(ExchangeRejection::NotFound)), "{a} {b}");
    }
    let (token, session) =
        service.exchange_session(scope, init.expose(), code.expose()).await.unwrap();
    assert!(session.active && town.world.recognised(&Proof::Token(token)).await);
    let again = service.exchange_session(scope, init.expose(), code.expose()).await;
    assert!(matches!(again, Err(ExchangeRejection::NotFound)));
}

/// Without a code to exchange, whoever completed the journey would get the session.
#[tokio::test]
async fn native_client_without_a_code_is_not_sent_away() {
    let town = Town::new();
    let flow = town.world.begin_login().await;
    let social =
        SocialSubmission { provider: Some("idp".to_owned()), ..SocialSubmission::default() };
    let submission =
        LoginSubmission { method: "oidc".to_owned(), social, ..LoginSubmission::default() };
    let service = &town.world.service;
    let done = service.submit_login(town.world.scope, flow.id, submission, &client("::1")).await;
    assert!(matches!(done, Err(LoginRejection::Invalid(_))), "{done:?}");
}

/// Whoever sends others its link gets nobody's account, and nothing that their provider says.
#[tokio::test]
async fn who_came_by_a_native_flow_is_not_signed_up_by_who_began_it() {
    let town = Town::new();
    let (service, scope) = (&town.world.service, town.world.scope);
    let begin = BeginRegistration { exchange: true, ..BeginRegistration::default() };
    let flow = service.begin_registration(scope, begin).await.unwrap();
    let submit = async |id: FlowId| {
        let social =
            SocialSubmission { provider: Some("idp".to_owned()), ..SocialSubmission::default() };
        let submission = RegistrationSubmission {
            method: "oidc".to_owned(),
            traits: json!({"email": "eve@example.org"}),
            social,
            ..RegistrationSubmission::default()
        };
        service.submit_registration(scope, id, submission, &client("192.0.2.1")).await
    };
    let Err(RegistrationRejection::Away(url)) = submit(flow.id).await else { panic!() };
    *town.idp.nonce.lock() = parameter(&url, "nonce");
    town.idp.says(json!({"sub": "ann", "given_name": "Ann"}));
    let arrival = town.arrive(Brought { browser: None, ..Town::back(&url) }).await.unwrap();
    let asked = form(arrival.arrived);
    assert_ne!(asked.id, flow.id);
    let theirs = submit(flow.id).await;
    assert!(matches!(theirs, Err(RegistrationRejection::Away(_))), "{theirs:?}");
    assert_eq!(town.find("eve@example.org").await, []);
    // Who came is told the id of the other.
    let registered = submit(asked.id).await.unwrap();
    assert_eq!(registered.identity.traits["name"]["first"], "Ann");
}
