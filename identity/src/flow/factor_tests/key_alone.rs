//! Security keys that log in alone.

use serde_json::json;

use super::{
    imported::{create, kept_there},
    *,
};

fn passwordless() -> World {
    world_of(Settings { passwordless_keys: true, ..settings() })
}

fn by_key(answer: String) -> LoginSubmission {
    LoginSubmission { webauthn_login: Some(answer), ..LoginSubmission::default() }
}

fn by_name(identifier: &str) -> LoginSubmission {
    LoginSubmission {
        method: "webauthn".to_owned(),
        identifier: Some(identifier.to_owned()),
        ..LoginSubmission::default()
    }
}

impl World {
    /// The form that asks whoever has this identifier for a key.
    async fn asked_for_key(&self, identifier: &str) -> Flow {
        let flow = self.begin_in_browser().await;
        match self.submit(&flow, None, by_name(identifier)).await {
            Err(LoginRejection::Invalid(flow)) => *flow,
            other => panic!("{other:?}"),
        }
    }

    async fn by_key_alone(&self, email: &str, soft: &Soft) -> Result<LoggedIn, LoginRejection> {
        let flow = self.asked_for_key(email).await;
        let answer = soft.get(&options(&flow, "webauthn_login_trigger"));
        self.submit(&flow, None, by_key(answer)).await
    }

    async fn register_by_security_key(
        &self,
        email: &str,
        soft: &mut Soft,
    ) -> Result<Registered, RegistrationRejection> {
        let begin = BeginRegistration { browser: Some(BROWSER), ..BeginRegistration::default() };
        let flow = self.service.begin_registration(self.scope, begin).await.unwrap();
        let submission = RegistrationSubmission {
            traits: traits(email),
            webauthn_register: Some(soft.create(&options(&flow, "webauthn_register_trigger"))),
            webauthn_register_displayname: Some("blue".to_owned()),
            ..RegistrationSubmission::default()
        };
        let (service, guest) = (&self.service, client("192.0.2.1"));
        service.submit_registration(self.scope, flow.id, submission, &guest).await
    }
}

/// The ids of the keys that a form asks for.
fn asked(flow: &Flow) -> Vec<String> {
    let options = options(flow, "webauthn_login_trigger");
    let keys = options["publicKey"]["allowCredentials"].as_array().unwrap();
    keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn security_key_signs_up_and_logs_in_alone_and_is_one_factor() {
    let world = passwordless();
    let mut soft = Soft::new(Key::es256());
    let issued = world.register_by_security_key("ann@example.org", &mut soft).await.unwrap();
    let session = issued.issued.unwrap().session;
    assert_eq!((session.aal, session.methods[0].method), (Aal::Aal1, CredentialKind::Webauthn));
    soft.handle = None;
    soft.flags = PRESENT;
    let done = world.by_key_alone("ann@example.org", &soft).await.unwrap();
    assert_eq!(done.issued.session.identity_id, session.identity_id);
    assert_eq!(done.issued.session.aal, Aal::Aal1);
    assert!(done.issued.session.satisfies(RequiredAal::HighestAvailable));
    assert!(!done.issued.session.identity.unwrap().has_second_factor);
    // It is the last way in, and no second factor.
    let proof = Proof::Token(done.issued.token);
    let flow = world.settings(&proof).await.unwrap();
    let Attributes::Input(remove) = &flow.ui.find("webauthn_remove").unwrap().attributes else {
        panic!("no input")
    };
    assert!(remove.disabled);
    let remove = SettingsSubmission {
        webauthn_remove: Some(remove.value.as_ref().unwrap().as_str().unwrap().to_owned()),
        ..SettingsSubmission::default()
    };
    assert_eq!(unchanged(world.change(&flow, &proof, remove).await), [4_000_001]);
    let stepped = world.step_up(Some(&proof)).await;
    assert!(matches!(stepped, Err(BeginRejection::NoSecondFactor)), "{stepped:?}");
}

/// Who looks closely may tell who has one; nobody looks at everybody.
#[tokio::test]
async fn asking_for_keys_counts_at_its_source() {
    let throttle = crate::flow::throttle::Throttle { source_failures_max: 2, ..Default::default() };
    let world = world_of(Settings { passwordless_keys: true, throttle, ..settings() });
    world.asked_for_key("ann@example.org").await;
    world.asked_for_key("bob@example.org").await;
    let flow = world.begin_in_browser().await;
    let early = world.submit(&flow, None, by_name("eve@example.org")).await;
    assert!(matches!(early, Err(LoginRejection::Throttled(_))), "{early:?}");
}

#[tokio::test]
async fn form_asks_for_a_key_whether_or_not_somebody_has_one() {
    let world = passwordless();
    let mut soft = Soft::new(Key::es256());
    world.register_by_security_key("ann@example.org", &mut soft).await.unwrap();
    world.register("bob@example.org").await;
    let first = world.begin_in_browser().await;
    let offered = first
        .ui
        .nodes
        .iter()
        .find(|node| node.group == crate::ui::node::Group::Webauthn && node.name() == "method");
    assert_eq!(offered.unwrap().meta.label.as_ref().unwrap().id, 1_010_008);
    let mut shapes = Vec::new();
    for email in ["ann@example.org", "bob@example.org", "nobody@example.org"] {
        let flow = world.asked_for_key(email).await;
        assert_eq!(ids(&flow), [1_010_012], "{email}");
        assert_eq!(asked(&flow).len(), 1, "{email}");
        assert_eq!(asked(&flow), asked(&world.asked_for_key(email).await), "{email}");
        let names: Vec<_> = flow.ui.nodes.iter().map(|n| (n.group, n.name().to_owned())).collect();
        shapes.push(names);
        assert!(flow.ui.find("password").is_none() && flow.ui.find("passkey_login").is_none());
    }
    assert!(shapes.windows(2).all(|two| two[0] == two[1]), "{shapes:?}");
    // Whoever has another's key is told the same of all of them.
    for email in ["bob@example.org", "nobody@example.org"] {
        assert_eq!(refused(world.by_key_alone(email, &soft).await), [4_000_043], "{email}");
    }
    let other = Soft::new(Key::es256());
    assert_eq!(refused(world.by_key_alone("ann@example.org", &other).await), [4_000_043]);
    let flow = world.begin_in_browser().await;
    assert_eq!(refused(world.submit(&flow, None, by_name(" ")).await), [4_000_002]);
    // A native client has no keys, as in Kratos.
    let native = world.begin_login().await;
    let told = refused(world.submit(&native, None, by_name("ann@example.org")).await);
    assert_eq!(told, [4_010_002]);
}

/// A key that stands beside a password is no way in, and one that logs in alone is no second
/// factor: as they were elsewhere, so they are here.
#[tokio::test]
async fn second_factor_does_not_log_in_alone_nor_the_other_way_round() {
    let world = passwordless();
    for (email, alone) in [("ann@example.org", true), ("bob@example.org", false)] {
        let mut soft = Soft::new(Key::es256());
        soft.counter = 4;
        let mut key = kept_there(&soft, serde_json::Value::Null);
        key["is_passwordless"] = json!(alone);
        let given = json!({"webauthn": {"config": {"credentials": [key]}}});
        let created = create(&world, email, given).await.unwrap();
        assert_eq!(created.has_second_factor, !alone, "{email}");
        match world.by_key_alone(email, &soft).await {
            Ok(done) if alone => assert_eq!(done.issued.session.identity_id, created.id),
            outcome => {
                assert!(!alone, "{outcome:?}");
                assert_eq!(refused(outcome), [4_000_043]);
            }
        }
    }
}

/// What is written of a flow on its way, as a replica that lags has it, gives nobody back the
/// tries that were made meanwhile.
#[tokio::test]
async fn asking_for_a_key_gives_back_no_tries_of_a_code() {
    let world = world_of(Settings { passwordless_keys: true, code_login: true, ..settings() });
    world.register("ann@example.org").await;
    let flow = world.begin_in_browser().await;
    let told = async |submission| {
        world.clock.advance(Duration::from_secs(60));
        match world.submit(&flow, None, submission).await {
            Err(LoginRejection::Invalid(flow)) => ids(&flow),
            other => panic!("{other:?}"),
        }
    };
    let by_code = |code: Option<&str>| LoginSubmission {
        method: "code".to_owned(),
        identifier: Some("ann@example.org".to_owned()),
        code: code.map(secret),
        ..LoginSubmission::default()
    };
    assert_eq!(told(by_code(None)).await, [1_010_014]);
    *world.counted.behind.lock() = Some(Vec::new());
    for _ in 0..5 {
        assert_eq!(told(by_code(Some("nonsense"))).await, [4_010_008]);
    }
    assert_eq!(told(by_name("ann@example.org")).await, [1_010_012]);
    *world.counted.behind.lock() = None;
    assert_eq!(told(by_code(Some("nonsense"))).await, [4_000_001], "tried too often");
}
