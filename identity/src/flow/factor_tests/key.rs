//! Passkeys and security keys.

use super::*;

#[tokio::test]
async fn passkey_logs_in_alone_and_is_one_factor() {
    let world = world();
    let (proof, identity) = world.join("ann@example.org").await;
    let mut soft = Soft::new(Key::es256());
    world.add_key(&proof, CredentialKind::Passkey, &mut soft).await;
    assert!(!world.session(&proof).await.identity.unwrap().has_second_factor);
    let done = world.passkey(&soft).await.unwrap();
    let session = done.issued.session;
    assert_eq!((session.identity_id, session.aal), (identity, Aal::Aal1));
    assert_eq!(session.methods[0].method, CredentialKind::Passkey);
    assert!(session.satisfies(RequiredAal::HighestAvailable));
    let flow = world.settings(&Proof::Token(done.issued.token)).await.unwrap();
    let listed = flow.ui.find("passkey_remove").unwrap();
    assert_eq!(listed.meta.label.as_ref().unwrap().id, 1_050_020);
}

/// The mark in its owner's home refuses an answer that was taken, also where the flow lies
/// elsewhere and does not know it yet.
#[tokio::test]
async fn passkey_answer_of_a_key_that_does_not_count_is_taken_once() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let mut soft = Soft::new(Key::es256());
    world.add_key(&proof, CredentialKind::Passkey, &mut soft).await;
    for _ in 0..4 {
        soft.counter = 0;
        let flow = world.begin_in_browser().await;
        let answer = soft.get(&options(&flow, "passkey_challenge"));
        world.submit(&flow, None, by_passkey(answer.clone())).await.unwrap();
        assert_eq!(refused(world.submit(&flow, None, by_passkey(answer)).await), [4_010_007]);
    }
}

/// N33: of another origin or domain, of another flow, or a counter that went back.
#[tokio::test]
async fn passkey_answers_that_are_wrong_log_nobody_in() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let mut soft = Soft::new(Key::es256());
    soft.counter = 4;
    world.add_key(&proof, CredentialKind::Passkey, &mut soft).await;
    soft.counter = 5;
    // Made for another flow.
    let (one, two) = (world.begin_in_browser().await, world.begin_in_browser().await);
    let answer = soft.get(&options(&one, "passkey_challenge"));
    let stolen = world.submit(&two, None, by_passkey(answer.clone())).await;
    assert_eq!(refused(stolen), [4_000_043]);
    world.submit(&one, None, by_passkey(answer.clone())).await.unwrap();
    world.service.tell_finished_flows().await.unwrap();
    assert_eq!(refused(world.submit(&one, None, by_passkey(answer)).await), [4_010_007]);
    // The counter went back, nobody was verified, another page or domain.
    type Wrong = fn(&mut Soft);
    let wrong: [Wrong; 5] = [
        |soft| soft.counter = 5,
        |soft| soft.flags = PRESENT,
        |soft| soft.origin = "https://evil.example".to_owned(),
        |soft| soft.rp_id = "evil.example".to_owned(),
        |soft| soft.id = b"another".to_vec(),
    ];
    for wrong in wrong {
        soft.counter = 6;
        let kept = (soft.flags, soft.origin.clone(), soft.rp_id.clone(), soft.id.clone());
        wrong(&mut soft);
        assert_eq!(refused(world.passkey(&soft).await), [4_000_043]);
        (soft.flags, soft.origin, soft.rp_id, soft.id) = kept;
    }
    soft.handle = Some(b"nobody".to_vec());
    assert_eq!(refused(world.passkey(&soft).await), [4_000_015]);
    soft.handle = None;
    assert_eq!(refused(world.passkey(&soft).await), [4_000_015]);
    // A native client has no passkeys, as in Kratos.
    let native = world.begin_login().await;
    assert_eq!(
        refused(world.submit(&native, None, by_passkey("{}".to_owned())).await),
        [4_010_002]
    );
}

/// Others who guess the password cannot keep the owner of a passkey out.
#[tokio::test]
async fn passkey_is_never_slowed_down() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let mut soft = Soft::new(Key::ed_dsa());
    world.add_key(&proof, CredentialKind::Passkey, &mut soft).await;
    for _ in 0..6 {
        let flow = world.begin_login().await;
        let _ = world.submit_login(flow.id, "ann@example.org", "wrong", "192.0.2.1").await;
    }
    let flow = world.begin_login().await;
    let early = world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1").await;
    assert!(matches!(early, Err(LoginRejection::Throttled(_))), "{early:?}");
    world.passkey(&soft).await.unwrap();
}

#[tokio::test]
async fn last_way_to_log_in_is_not_removed() {
    let world = world();
    let mut soft = Soft::new(Key::es256());
    let issued = world.register_by_passkey("ann@example.org", &mut soft).await.unwrap().issued;
    let proof = Proof::Token(issued.unwrap().token);
    let flow = world.settings(&proof).await.unwrap();
    let node = flow.ui.find("passkey_remove").unwrap();
    let Attributes::Input(input) = &node.attributes else { panic!("{node:?}") };
    assert!(input.disabled);
    let id = input.value.as_ref().unwrap().as_str().unwrap().to_owned();
    let remove =
        || SettingsSubmission { passkey_remove: Some(id.clone()), ..SettingsSubmission::default() };
    assert_eq!(unchanged(world.change(&flow, &proof, remove()).await), [4_000_001]);
    let password = SettingsSubmission {
        method: "password".to_owned(),
        password: Some(secret(PASSWORD)),
        ..SettingsSubmission::default()
    };
    world.change(&flow, &proof, password).await.unwrap();
    world.change(&flow, &proof, remove()).await.unwrap();
    assert_eq!(refused(world.passkey(&soft).await), [4_000_015]);
    world.log_in("ann@example.org", PASSWORD).await.unwrap();
}

impl World {
    async fn register_by_passkey(
        &self,
        email: &str,
        soft: &mut Soft,
    ) -> Result<Registered, RegistrationRejection> {
        let begin = BeginRegistration { browser: Some(BROWSER), ..BeginRegistration::default() };
        let flow = self.service.begin_registration(self.scope, begin).await.unwrap();
        let data = options(&flow, "passkey_create_data");
        assert_eq!(data["displayNameFieldName"], "traits.email");
        let submission = RegistrationSubmission {
            traits: traits(email),
            passkey_register: Some(soft.create(&data["credentialOptions"])),
            ..RegistrationSubmission::default()
        };
        let client = client("192.0.2.1");
        self.service.submit_registration(self.scope, flow.id, submission, &client).await
    }
}

#[tokio::test]
async fn who_signs_up_by_passkey_has_no_password_and_keeps_its_identifier() {
    let world = world();
    let mut soft = Soft::new(Key::rs256());
    let registered = world.register_by_passkey("ann@example.org", &mut soft).await.unwrap();
    assert_eq!(registered.issued.unwrap().session.aal, Aal::Aal1);
    world.passkey(&soft).await.unwrap();
    let guess = world.log_in("ann@example.org", PASSWORD).await;
    assert_eq!(refused(guess), [4_000_006]);
    let mut other = Soft::new(Key::es256());
    let again = world.register_by_passkey("Ann@example.org", &mut other).await;
    let Err(RegistrationRejection::Invalid(flow)) = again else { panic!("{again:?}") };
    assert_eq!(ids(&flow), [4_000_007]);
    other.origin = "https://evil.example".to_owned();
    let wrong = world.register_by_passkey("eve@example.org", &mut other).await;
    let Err(RegistrationRejection::Invalid(flow)) = wrong else { panic!("{wrong:?}") };
    assert_eq!(ids(&flow), [4_000_043]);
}

#[tokio::test]
async fn security_key_is_a_second_factor() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let mut soft = Soft::new(Key::es256());
    soft.flags = PRESENT;
    world.add_key(&proof, CredentialKind::Webauthn, &mut soft).await;
    let proof = world.proof("ann@example.org").await;
    let flow = world.step_up(Some(&proof)).await.unwrap();
    let asked = options(&flow, "webauthn_login_trigger");
    assert_eq!(asked["publicKey"]["allowCredentials"].as_array().unwrap().len(), 1);
    let answer = |answer: String| LoginSubmission {
        webauthn_login: Some(answer),
        ..LoginSubmission::default()
    };
    let stranger = Soft { id: soft.id.clone(), flags: PRESENT, ..Soft::new(Key::es256()) };
    let forged = world.submit(&flow, Some(&proof), answer(stranger.get(&asked))).await;
    assert_eq!(refused(forged), [4_000_043]);
    world.submit(&flow, Some(&proof), answer(soft.get(&asked))).await.unwrap();
    let session = world.session(&proof).await;
    assert_eq!(session.aal, Aal::Aal2);
    assert_eq!(session.methods[1].method, CredentialKind::Webauthn);
    // It is no passkey: alone it logs nobody in.
    assert_eq!(refused(world.passkey(&soft).await), [4_000_015]);
    let flow = world.settings(&proof).await.unwrap();
    let node = flow.ui.find("webauthn_remove").unwrap();
    assert_eq!(node.meta.label.as_ref().unwrap().text, "Remove security key \"blue\"");
}

#[tokio::test]
async fn flows_draw_challenges_of_their_own() {
    let world = world();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let flow = world.begin_in_browser().await;
        let asked = options(&flow, "passkey_challenge");
        assert!(seen.insert(asked["publicKey"]["challenge"].to_string()));
        world.clock.advance(HOUR);
        let over = world.service.flow(world.scope, Purpose::Login, flow.id).await;
        let Err(FlowRejection::Expired { replacement: Some(next), .. }) = over else {
            panic!("{over:?}")
        };
        let asked = options(&next, "passkey_challenge");
        assert!(seen.insert(asked["publicKey"]["challenge"].to_string()));
    }
}
