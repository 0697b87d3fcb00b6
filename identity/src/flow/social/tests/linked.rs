//! Accounts linked and unlinked.

use super::*;

#[tokio::test]
async fn account_is_linked_at_once_only_if_both_sides_verified_the_address() {
    let unverified = json!({"sub": "ann", "email": "ann@example.org"});
    let elsewhere = json!({"sub": "ann", "email": "ann@example.com", "email_verified": true});
    for (claims, email, verified, at_once) in [
        (ann(), "ann@example.org", true, true),
        (ann(), "ann@example.org", false, false),
        (unverified, "ann@example.org", true, false),
        (elsewhere, "ann@example.com", true, false),
    ] {
        let town = Town::new();
        let local = town.local(email, verified).await;
        let arrived = town.come(claims.clone()).await.unwrap();
        if at_once {
            assert_eq!(issued(arrived).session.identity_id, local.id);
            continue;
        }
        let flow = form(arrived);
        assert_eq!((flow.purpose, ids(&flow)), (Purpose::Login, vec![1_010_016]), "{claims}");
        // Coming again changes nothing.
        assert_eq!(ids(&form(town.come(claims.clone()).await.unwrap())), [1_010_016]);
        // Whoever logs in as somebody else links nothing.
        town.local("eve@example.net", true).await;
        let eve = town.world.submit_login(flow.id, "eve@example.net", PASSWORD, "192.0.2.1").await;
        match eve {
            Err(LoginRejection::Invalid(flow)) => {
                assert!(ids(&flow).contains(&4_010_009), "{:?}", flow.ui.messages);
            }
            other => panic!("{other:?}"),
        }
        let done = town.world.submit_login(flow.id, email, PASSWORD, "192.0.2.1").await.unwrap();
        assert_eq!(done.issued.session.identity_id, local.id);
        let linked = issued(town.come(claims).await.unwrap());
        assert_eq!(linked.session.identity_id, local.id);
    }
}

/// What others set up with an address that was never verified ends; the account that is to
/// be linked is not of that.
#[tokio::test]
async fn first_code_to_an_address_links_the_account_that_waits() {
    let providers = Providers::new(vec![provider("idp", MAPPER)]);
    let town = Town::of(Settings { providers, code_login: true, ..settings() });
    let local = town.local("ann@example.org", false).await;
    let claims = json!({"sub": "ann", "email": "ann@example.org"});
    let flow = form(town.come(claims.clone()).await.unwrap());
    assert_eq!(ids(&flow), [1_010_016]);
    let (service, scope) = (&town.world.service, town.world.scope);
    let submit = async |submission: LoginSubmission| {
        let submission = LoginSubmission { method: "code".to_owned(), ..submission };
        service.submit_login(scope, flow.id, submission, &client("192.0.2.1")).await
    };
    let identifier = Some("ann@example.org".to_owned());
    let sent = submit(LoginSubmission { identifier, ..LoginSubmission::default() }).await;
    assert!(matches!(sent, Err(LoginRejection::Invalid(_))), "{sent:?}");
    let listed = service.list_messages(scope, &Default::default(), &Default::default()).await;
    let mail = listed.unwrap().items.swap_remove(0).body;
    let mut words = mail.split_whitespace();
    let code = words.find(|word| word.len() == 6 && word.parse::<u32>().is_ok()).map(secret);
    submit(LoginSubmission { code, ..LoginSubmission::default() }).await.unwrap();
    let linked = issued(town.come(claims).await.unwrap());
    assert_eq!(linked.session.identity_id, local.id);
    // The password was somebody else's.
    assert!(town.world.log_in("ann@example.org", PASSWORD).await.is_err());
}

#[tokio::test]
async fn accounts_are_linked_and_unlinked_in_settings() {
    let town = Town::new();
    let (service, scope) = (&town.world.service, town.world.scope);
    let first = issued(town.come(ann()).await.unwrap());
    let proof = Proof::Token(first.token.clone());
    let begin = BeginSettings {
        browser: Some(BROWSER),
        proof: Some(proof.clone()),
        ..BeginSettings::default()
    };
    let flow = service.begin_settings(scope, begin).await.unwrap();
    let names =
        |flow: &Flow, name: &str| flow.ui.nodes.iter().filter(|node| node.name() == name).count();
    assert_eq!((names(&flow, "link"), names(&flow, "unlink")), (2, 1));
    let submit = async |link: Option<&str>, unlink: Option<&str>| {
        let submission = SettingsSubmission {
            method: "oidc".to_owned(),
            link: link.map(str::to_owned),
            unlink: unlink.map(str::to_owned),
            proof: Some(proof.clone()),
            ..SettingsSubmission::default()
        };
        service.submit_settings(scope, flow.id, submission).await
    };
    assert!(matches!(submit(None, Some("idp")).await, Err(SettingsRejection::Invalid(_))), "last");
    // A second account at the same provider.
    let Err(SettingsRejection::Away(url)) = submit(Some("idp"), None).await else { panic!() };
    *town.idp.nonce.lock() = parameter(&url, "nonce");
    town.idp.says(json!({"sub": "ann2", "email": "second@example.org"}));
    let without = Town::back(&url);
    let strangers = town.arrive(Brought { proof: None, ..without.clone() }).await;
    assert!(matches!(strangers, Err(ArrivalRejection::NoSession)), "{strangers:?}");
    let Err(SettingsRejection::Away(url)) = submit(Some("idp"), None).await else { panic!() };
    *town.idp.nonce.lock() = parameter(&url, "nonce");
    let brought = Brought { proof: Some(proof.clone()), ..Town::back(&url) };
    assert!(matches!(town.arrive(brought).await.unwrap().arrived, Arrived::Linked));
    let by_second = issued(town.come(json!({"sub": "ann2"})).await.unwrap());
    assert_eq!(by_second.session.identity_id, first.session.identity_id);
    // Which of both is meant must be said.
    assert!(matches!(submit(None, Some("idp")).await, Err(SettingsRejection::Invalid(_))));
    let flow = submit(None, Some("idp:ann")).await.unwrap();
    assert_eq!((names(&flow, "unlink"), flow.ui.messages[0].id), (1, 1_050_001));
    // What was unlinked is a stranger, and may be somebody else's.
    let unverified = json!({"sub": "ann", "email": "ann@example.org"});
    let form = form(town.come(unverified).await.unwrap());
    assert_eq!(ids(&form), [1_010_016], "the address is still hers");
    assert!(matches!(submit(None, Some("idp:ann2")).await, Err(SettingsRejection::Invalid(_))));
    town.world.clock.advance(std::time::Duration::from_secs(2 * 3600));
    let stale = submit(Some("idp"), None).await;
    assert!(
        matches!(stale, Err(SettingsRejection::RefreshRequired | SettingsRejection::Flow(_))),
        "{stale:?}"
    );
}

/// The trail outlives who is erased, and keeps the id alone.
#[tokio::test]
async fn trail_names_no_account_that_an_administrator_removes() {
    use crate::{
        audit::{Act, AuditFilter},
        session::CredentialKind,
    };
    let town = Town::new();
    let id = town.local("ann@example.org", true).await.id;
    for sub in ["ann", "ann2"] {
        let mut claims = ann();
        claims["sub"] = sub.into();
        assert_eq!(issued(town.come(claims).await.unwrap()).session.identity_id, id);
    }
    let (service, scope) = (&town.world.service, town.world.scope);
    for (kind, identifier) in
        [(CredentialKind::Password, "ann@example.org"), (CredentialKind::Oidc, "idp:ann")]
    {
        service.remove_credential(scope, id, kind, Some(identifier)).await.unwrap();
    }
    let filter = AuditFilter { identity: Some(id), act: Some(Act::CredentialRemoved) };
    let strong = cardea_storage::Consistency::Strong;
    let events = service.list_audit_events(scope, filter, &Default::default(), strong).await;
    let details: Vec<_> = events.unwrap().items.into_iter().map(|event| event.details).collect();
    assert_eq!(json!(details), json!([{"type": "oidc", "provider": "idp"}, {"type": "password"}]));
}

#[tokio::test]
async fn account_of_somebody_is_not_linked_to_another() {
    let town = Town::new();
    let (service, scope) = (&town.world.service, town.world.scope);
    issued(town.come(ann()).await.unwrap());
    let eve = json!({"sub": "eve", "email": "eve@example.org", "email_verified": true});
    let eve = issued(town.come(eve).await.unwrap());
    let proof = Proof::Token(eve.token.clone());
    let begin = BeginSettings {
        browser: Some(BROWSER),
        proof: Some(proof.clone()),
        ..BeginSettings::default()
    };
    let flow = service.begin_settings(scope, begin).await.unwrap();
    let submission = SettingsSubmission {
        method: "oidc".to_owned(),
        link: Some("idp".to_owned()),
        proof: Some(proof.clone()),
        ..SettingsSubmission::default()
    };
    let away = service.submit_settings(scope, flow.id, submission).await;
    let Err(SettingsRejection::Away(url)) = away else { panic!("{away:?}") };
    *town.idp.nonce.lock() = parameter(&url, "nonce");
    town.idp.says(ann());
    let brought = Brought { proof: Some(proof), ..Town::back(&url) };
    let flow = form(town.arrive(brought).await.unwrap().arrived);
    assert_eq!(ids(&flow), [4_000_027]);
}
