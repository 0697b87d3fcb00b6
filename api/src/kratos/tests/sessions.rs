//! Sessions: who is recognised, and what ends it.

use cardea_identity::session::ImportedCookies;

use super::*;

#[tokio::test]
async fn session_is_shown_as_kratos_shows_it() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let (token, session) = world.log_in("ann@example.org").await;
    let answer = world.whoami(&token).await.is(200);
    assert_eq!(answer.text("/id"), session);
    assert_eq!(answer.header("x-kratos-authenticated-identity-id"), id);
    assert_eq!(answer.header("cache-control"), "private, no-cache, no-store, must-revalidate");
    assert_eq!(
        answer.golden(),
        json!({
            "id": "<uuid>",
            "active": true,
            "expires_at": "<time>",
            "authenticated_at": "<time>",
            "authenticator_assurance_level": "aal1",
            "authentication_methods":
                [{"method": "password", "aal": "aal1", "completed_at": "<time>"}],
            "issued_at": "<time>",
            "identity": {
                "id": "<uuid>",
                "schema_id": "default",
                "schema_url": "http://127.0.0.1:4433/schemas/ZGVmYXVsdA",
                "state": "active",
                "state_changed_at": "<time>",
                "traits": {"email": "ann@example.org", "name": {"first": "Ann"}},
                "verifiable_addresses": [{"id": "<uuid>", "value": "ann@example.org",
                    "verified": false, "via": "email", "status": "pending",
                    "created_at": "<time>", "updated_at": "<time>"}],
                "recovery_addresses": [{"id": "<uuid>", "value": "ann@example.org",
                    "via": "email", "created_at": "<time>", "updated_at": "<time>"}],
                "metadata_public": null,
                "created_at": "<time>",
                "updated_at": "<time>",
                "organization_id": null,
            },
            "devices": [{"id": "<uuid>", "ip_address": "192.0.2.1", "user_agent": "test/1",
                "location": ""}],
        })
    );
}

#[tokio::test]
async fn every_way_to_show_a_session_is_understood() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (token, session) = world.log_in("ann@example.org").await;
    let entropy = SeededEntropy::new(9);
    let secret = Secret::new(token.clone());
    let cookies = &world.service.keys().cookies;
    let cookie = cookies.seal(&entropy, world.tenant, &secret, START);
    let cookie = cookie.expose();
    let ways = [
        ("x-session-token", token.clone()),
        ("cookie", format!("a=b; ory_kratos_session={cookie}")),
        ("x-session-cookie", cookie.clone()),
        ("authorization", format!("Bearer {token}")),
        ("authorization", format!("bearer {token}")),
    ];
    for (name, value) in ways {
        for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
            let ask = Ask::new(method, "/sessions/whoami").header(name, &value);
            assert_eq!(world.public(ask).await.is(200).text("/id"), session, "{name}");
        }
    }
    // The first that is there counts, and is not made good by another.
    let ask =
        Ask::get("/sessions/whoami").token("x").header("authorization", format!("Bearer {token}"));
    world.public(ask).await.is(401);
}

#[tokio::test]
async fn nobody_is_recognised_by_what_is_not_a_token() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    let reason = "No valid session credentials found in the request.";
    let expected = envelope(401, "Unauthorized", reason, UNAUTHORIZED);
    let mut bad = vec!["".to_owned(), "x".to_owned(), format!("{token}A"), format!("A{token}")];
    bad.push(token[..token.len() - 1].to_owned());
    bad.push(token.replace("ory_st_", "ory_lo_"));
    bad.push(token.replace("ory_st_", ""));
    let last = if token.ends_with('A') { 'B' } else { 'A' };
    bad.push(format!("{}{last}", &token[..token.len() - 1]));
    for token in bad {
        let answer = world.whoami(&token).await.is(401);
        assert_eq!(answer.body, expected, "{token}");
        assert_eq!(answer.header("ory-error-id"), "");
    }
    assert_eq!(world.public(Ask::get("/sessions/whoami")).await.is(401).body, expected);
    let cookie =
        Ask::get("/sessions/whoami").header("cookie", format!("ory_kratos_session={token}"));
    world.public(cookie).await.is(401);
}

#[tokio::test]
async fn session_ends_when_it_expires() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (token, session) = world.log_in("ann@example.org").await;
    world.advance(24 * 3600 - 1);
    world.whoami(&token).await.is(200);
    world.advance(1);
    world.whoami(&token).await.is(401);
    let uri = format!("/admin/sessions/{session}");
    let listed = world.admin(Ask::get(uri)).await.is(200);
    assert_eq!(listed.body["active"], false);
}

#[tokio::test]
async fn logged_out_session_is_refused() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    let log_out = |token: &str| {
        let body = json!({"session_token": token});
        world.public(Ask::delete("/self-service/logout/api").json(&body))
    };
    let answer = log_out(&token).await.is(204);
    assert_eq!(answer.body, Value::Null);
    assert!(!answer.header("x-cardea-snaptoken").is_empty());
    world.whoami(&token).await.is(401);
    log_out(&token).await.is(204);
    let unknown = log_out("ory_st_unknown").await.is(403);
    let reason = "The provided Ory Session Token could not be found, is invalid, or otherwise \
                  malformed.";
    let message = "The requested action was forbidden";
    assert_eq!(unknown.body, envelope(403, "Forbidden", reason, message));
    log_out("").await.is(403);
    let no_token = Ask::delete("/self-service/logout/api").json(&json!({}));
    world.public(no_token).await.is(403);
    let empty = world.public(Ask::delete("/self-service/logout/api")).await.is(400);
    assert!(empty.text("/error/reason").contains("Content-Length"));
}

#[tokio::test]
async fn own_sessions_are_listed_and_ended() {
    let world = World::new();
    world.create("ann@example.org").await;
    world.create("bob@example.org").await;
    let (mine, my_id) = world.log_in("ann@example.org").await;
    let (second, second_id) = world.log_in("ann@example.org").await;
    let (third, third_id) = world.log_in("ann@example.org").await;
    let (bob, bob_id) = world.log_in("bob@example.org").await;

    let listed = world.public(Ask::get("/sessions").token(&mine)).await.is(200);
    let mut ids: Vec<_> =
        listed.body.as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let mut others = [second_id.as_str(), third_id.as_str()];
    others.sort_unstable();
    assert_eq!(ids, others, "the current one is not among them");
    assert!(listed.header("link").contains("rel=\"first\""));
    let legacy = world.public(Ask::get("/sessions?page=1&per_page=1").token(&mine)).await.is(200);
    assert_eq!(legacy.header("x-total-count"), "2");
    assert_eq!(legacy.body.as_array().unwrap().len(), 1);

    let end =
        |token: &str, id: &str| world.public(Ask::delete(format!("/sessions/{id}")).token(token));
    end(&mine, &second_id).await.is(204);
    world.whoami(&second).await.is(401);
    let current = end(&mine, &my_id).await.is(400);
    assert_eq!(current.text("/error/message"), "cannot revoke current session");
    // Somebody else's is as if it were not there, and stays.
    let foreign = end(&mine, &bob_id).await.is(404);
    let absent = end(&mine, "6ba7b810-9dad-41d1-80b4-00c04fd430c8").await.is(404);
    assert_eq!(foreign.body, absent.body);
    world.whoami(&bob).await.is(200);

    let others = world.public(Ask::delete("/sessions").token(&mine)).await.is(200);
    assert_eq!(others.body, json!({"count": 1}));
    world.whoami(&third).await.is(401);
    world.whoami(&mine).await.is(200);
    let again = world.public(Ask::delete("/sessions").token(&mine)).await.is(200);
    assert_eq!(again.body, json!({"count": 0}));

    let expected = envelope(401, "Unauthorized", "No valid session cookie found.", UNAUTHORIZED);
    for ask in [
        Ask::get("/sessions"),
        Ask::delete("/sessions"),
        Ask::delete(format!("/sessions/{bob_id}")),
        Ask::delete("/sessions/no-uuid"),
        Ask::delete("/sessions/no-uuid").token(&second),
        Ask::delete(format!("/sessions/{bob_id}")).token(&second),
    ] {
        assert_eq!(world.public(ask).await.is(401).body, expected);
    }
    world.public(Ask::delete("/sessions/no-uuid").token(&mine)).await.is(400);
}

#[tokio::test]
async fn administrators_list_end_and_extend_sessions() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let (first, first_id) = world.log_in("ann@example.org").await;
    let (second, _) = world.log_in("ann@example.org").await;
    let sessions = format!("/admin/identities/{id}/sessions");
    let count = |answer: Answer| answer.body.as_array().unwrap().len();
    assert_eq!(count(world.admin(Ask::get(&sessions)).await.is(200)), 2);

    let session = format!("/admin/sessions/{first_id}");
    let plain = world.admin(Ask::get(&session)).await.is(200);
    assert_eq!((&plain.body["identity"], &plain.body["devices"]), (&Value::Null, &Value::Null));
    let uri = format!("{session}?expand=identity&expand=Devices");
    let whole = world.admin(Ask::get(uri)).await.is(200);
    assert_eq!(whole.text("/identity/id"), id);
    assert_eq!(whole.body["devices"].as_array().unwrap().len(), 1);
    world.admin(Ask::get(format!("{session}?expand=all"))).await.is(400);

    world.advance(3600);
    let extended = world.admin(Ask::new(Method::PATCH, format!("{session}/extend"))).await.is(200);
    assert_eq!(extended.text("/expires_at"), "2027-01-16T09:00:00Z");

    world.admin(Ask::delete(&session)).await.is(204);
    world.whoami(&first).await.is(401);
    world.admin(Ask::delete(&session)).await.is(204);
    world.admin(Ask::new(Method::PATCH, format!("{session}/extend"))).await.is(404);
    let active = |flag: &str| world.admin(Ask::get(format!("{sessions}?active={flag}")));
    assert_eq!(count(active("true").await.is(200)), 1);
    assert_eq!(count(active("false").await.is(200)), 1);
    let bad = active("maybe").await.is(400);
    assert_eq!(bad.text("/error/message"), "could not parse parameter active");

    let answer = world.admin(Ask::delete(&sessions)).await.is(204);
    assert!(!answer.header("x-cardea-snaptoken").is_empty());
    world.whoami(&second).await.is(401);
}

#[tokio::test]
async fn consistency_is_asked_for_and_snaptokens_lead_to_writes() {
    let world = World::new();
    let created =
        world.admin(Ask::post("/admin/identities", &new_identity("ann@example.org"))).await;
    let snaptoken = created.header("x-cardea-snaptoken").to_owned();
    let uri = format!("/admin/identities/{}", created.text("/id"));
    let read = |wanted: String| world.admin(Ask::get(&uri).header("x-cardea-consistency", wanted));
    for wanted in ["strong", "eventual", "bounded=100", &format!("at_least={snaptoken}")] {
        read(wanted.to_owned()).await.is(200);
    }
    for bad in ["", "weak", "bounded=x", "at_least=AAAA"] {
        read(bad.to_owned()).await.is(400);
    }
    world.admin(Ask::get(format!("{uri}?consistency=eventual"))).await.is(200);
    world.admin(Ask::get(format!("{uri}?consistency=now"))).await.is(400);
    assert_eq!(read("strong".to_owned()).await.header("x-cardea-snaptoken"), "");
}

/// Made by the Go library that Kratos makes its cookies with: a browser's session that was
/// brought along goes on, and gets a cookie of ours.
#[tokio::test]
async fn session_of_kratos_goes_on_by_its_token_and_by_its_cookie() {
    const ANN: &str = "0a1b2c3d-0000-4000-8000-000000000001";
    const TOKEN: &str = "ory_st_MDr3ZPR0b8nZxCvWkLtVYqWfHs2yB9aE";
    const SECRET: &str = "PLEASE-CHANGE-ME-I-AM-VERY-INSECURE";
    const COOKIE: &str = concat!(
        "MTc5NTk2ODc2MHxfVWhBRzJaNDNndFY3TWZwaUs5NFRkcXVkNEVnX25iY0ZiS1IyLTdVcWo4MDNwbkE0NXFJX0dQ",
        "c2JQdWJEX1pPclVCbmFUVmdQN2o4U3UtcTZWUlI0SEUwcWp0MW5KNDFWZTJaZHY2UlZfSGFEdGNleGdFQkZvRWxF",
        "NzQxby1zZ250eG5CWUNobno1ZHF5UGtqVFRjLWhuVFFHaWIzMmQ1Umkydl9WclF1U19BQm9qQTc4ZXBmVUllTzN3",
        "OU5hSlAzOEs5Sl9yS2lYLWZ0d0QxcEpWYzY0enNVNU02dzd1aTd6RmR6THp1cFFvbkxwb0xoVjd5YWdpSVktT3Bu",
        "N1RCZFM4cWowazBtNkRFYXQ1cVE4WU589XoZ3Es2RoKmFr37qI1xSpwUwqWPPuwHgqm5gxgN7Kg=",
    );
    let foreign = json!({
        "id": ANN,
        "traits": {"email": "ann@example.org"},
        "sessions": [{
            "id": "a4b3c2d1-0000-4000-8000-000000000001",
            "token": TOKEN,
            "authentication_methods": [{"method": "oidc", "aal": "aal1", "provider": "google",
                "organization": "", "completed_at": "2023-02-03T04:05:06Z"}],
            "issued_at": "2023-02-03T04:05:06Z",
            "authenticated_at": "2023-02-03T04:05:06Z",
            "expires_at": "2100-01-01T00:00:00Z",
        }],
    });
    let world = |imported_tokens: bool, secret: Option<&str>| {
        let argon2 = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let secrets = secret.map(|secret| vec![Secret::new(secret.to_owned())]);
        let imported_cookies =
            secrets.map(|secrets| ImportedCookies::new("ory_kratos_session".to_owned(), secrets));
        World::with(Settings { argon2, imported_tokens, imported_cookies, ..Settings::default() })
    };
    let import = |world: World| {
        let body = json!({"identities": [foreign.clone()]});
        async move {
            let ask = Ask::new(Method::PUT, "/admin/import/identities").json(&body);
            world.admin(ask).await.is(200);
            world
        }
    };
    let by = |cookie: &str| {
        let cookie = format!("ory_kratos_session={cookie}");
        Ask::get("/sessions/whoami").header("cookie", cookie)
    };
    let moved = import(world(true, Some(SECRET))).await;
    let token = moved.whoami(TOKEN).await.is(200);
    assert_eq!(token.text("/identity/id"), ANN);
    let method = json!([{"method": "oidc", "aal": "aal1", "provider": "google",
        "completed_at": "2023-02-03T04:05:06Z"}]);
    assert_eq!(token.body["authentication_methods"], method);
    let cookie = moved.public(by(COOKIE)).await.is(200);
    assert_eq!(cookie.text("/id"), token.text("/id"));
    let ours = cookie.header("set-cookie").split([';', '=']).nth(1).unwrap().to_owned();
    assert_ne!(ours, COOKIE);
    let again = moved.public(by(&ours)).await.is(200);
    assert_eq!((again.text("/id"), again.header("set-cookie")), (token.text("/id"), ""));
    let altered = COOKIE.replacen("MTc5", "MTc4", 1);
    moved.public(by(&altered)).await.is(401);
    // It ends by whichever of them it is asked to.
    let logout = Ask::get("/self-service/logout/browser")
        .header("cookie", format!("ory_kratos_session={COOKIE}"));
    let logout = moved.public(logout).await.is(200);
    let url = format!("/self-service/logout?token={}", logout.text("/logout_token"));
    moved.public(Ask::get(url).header("accept", "application/json")).await.is(204);
    for cookie in [COOKIE, &ours] {
        moved.public(by(cookie)).await.is(401);
    }
    moved.whoami(TOKEN).await.is(401);

    // Cookies need their secret, and both need that they are wanted.
    for (tokens, secret) in [(true, None), (true, Some("another secret")), (false, Some(SECRET))] {
        let elsewhere = import(world(tokens, secret)).await;
        elsewhere.public(by(COOKIE)).await.is(401);
        assert_eq!(elsewhere.whoami(TOKEN).await.status == 200, tokens);
    }
}

#[tokio::test]
async fn session_is_tokenized_as_a_template_says() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use cardea_identity::session::tokenize::{SignsTokens, SubjectSource, Template, Templates};

    #[derive(Debug)]
    struct Signer;

    impl SignsTokens for Signer {
        fn kid(&self) -> &str {
            "app-1"
        }

        fn algorithm(&self) -> &'static str {
            "HS256"
        }

        fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
            Some(message.iter().rev().take(32).copied().collect())
        }
    }

    let template = |subject| Template {
        ttl: Duration::from_secs(60),
        key: Arc::new(Signer),
        mapper: None,
        subject,
    };
    let templates = [("app", SubjectSource::Id), ("crm", SubjectSource::ExternalId)];
    let templates = templates.map(|(name, subject)| (name.to_owned(), template(subject)));
    let settings = Settings {
        argon2: Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 },
        tokenizers: Templates::new(templates.into()),
        ..Settings::default()
    };
    let mut options = Options::new("http://127.0.0.1:4433");
    options.session_cache = Duration::from_secs(30);
    let world = World::made(settings, options);
    let id = world.create("ann@example.org").await;
    let (token, session) = world.log_in("ann@example.org").await;
    let ask = |query: &str| Ask::get(format!("/sessions/whoami{query}")).token(&token);
    let made = world.public(ask("?tokenize_as=app")).await.is(200);
    let payload = made.text("/tokenized").split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    assert_eq!((claims["sub"].as_str(), claims["sid"].as_str()), (Some(&*id), Some(&*session)));
    // The session is told as ever; what the token is good for says the token.
    assert_eq!((made.text("/id"), made.header("ory-session-cache-for")), (&*session, ""));
    for query in ["", "?tokenize_as="] {
        let plain = world.public(ask(query)).await.is(200);
        assert!(plain.body.get("tokenized").is_none());
        assert_eq!(plain.header("ory-session-cache-for"), "30");
    }
    for (query, reason) in [
        ("?tokenize_as=nothing", "Unable to find tokenizer template \"nothing\"."),
        (
            "?tokenize_as=crm",
            "The session's identity does not have an external ID set, but it is \
                              required for the subject claim.",
        ),
    ] {
        let refused = world.public(ask(query)).await.is(400);
        assert_eq!(refused.text("/error/reason"), reason);
    }
    world.public(Ask::get("/sessions/whoami?tokenize_as=app")).await.is(401);

    // How stale it may be is not for those to choose whose session it is, and a token is of
    // what is now.
    let is_stale = async |ask: Ask| {
        world.store.stale.store(0, Ordering::SeqCst);
        world.public(ask).await.is(200);
        world.store.stale.load(Ordering::SeqCst) > 0
    };
    let eventual = |query| ask(query).header("x-cardea-consistency", "eventual");
    assert!(is_stale(eventual("")).await);
    assert!(!is_stale(ask("?consistency=eventual")).await);
    assert!(!is_stale(eventual("?tokenize_as=app")).await);
}
