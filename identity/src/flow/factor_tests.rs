//! Second factors and passkeys: each way in, and every rule that keeps others out.

mod addresses;
mod backup_codes;
mod events;
mod imported;
mod key;
mod key_alone;
mod password;

use std::time::Duration;

use cardea_storage::{Clock as _, Consistency};
use serde_json::Value;

use super::*;
use crate::{
    Settings,
    factor::totp::{Seed, step_at},
    model::{IdentityId, Session},
    session::{Aal, CredentialKind, Proof, RequiredAal},
    table::{FlowKey, Flows, id_of},
    testing::{BROWSER, PASSWORD, World, client, secret, settings, traits},
    ui::{Attributes, Text},
    webauthn::{
        RelyingParty,
        tests::soft::{Key, PRESENT, Soft},
    },
};

const HOUR: Duration = Duration::from_secs(3600);

fn world() -> World {
    world_of(settings())
}

fn world_of(settings: Settings) -> World {
    let party = RelyingParty {
        id: "example.org".to_owned(),
        name: "Example".to_owned(),
        origins: vec!["https://id.example.org".to_owned()],
    };
    World::with(Settings { relying_party: Some(party), notify_changes: true, ..settings })
}

fn ids(flow: &Flow) -> Vec<u32> {
    let fields = flow.ui.nodes.iter().flat_map(|node| &node.messages);
    flow.ui.messages.iter().chain(fields).map(|text| text.id).collect()
}

fn refused(result: Result<LoggedIn, LoginRejection>) -> Vec<u32> {
    match result {
        Err(LoginRejection::Invalid(flow)) => {
            ids(&flow).into_iter().filter(|id| *id != 1_010_004).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn unchanged(result: Result<Flow, SettingsRejection>) -> Vec<u32> {
    match result {
        Err(SettingsRejection::Invalid(flow)) => ids(&flow),
        other => panic!("{other:?}"),
    }
}

/// The options that a node of a form carries.
fn options(flow: &Flow, name: &str) -> Value {
    let node = flow.ui.find(name).unwrap_or_else(|| panic!("{name} is not there"));
    let Attributes::Input(input) = &node.attributes else { panic!("{name} is no input") };
    serde_json::from_str(input.value.as_ref().unwrap().as_str().unwrap()).unwrap()
}

impl World {
    /// Somebody with a session.
    async fn join(&self, email: &str) -> (Proof, IdentityId) {
        let registered = self.register(email).await;
        (Proof::Token(registered.issued.unwrap().token), registered.identity.id)
    }

    async fn session(&self, proof: &Proof) -> Session {
        self.service.check_session(self.scope, proof, Consistency::Strong).await.unwrap()
    }

    async fn seed_of(&self, flow: &Flow) -> Seed {
        let key = FlowKey { tenant: self.scope.tenant, id: flow.id.0 };
        let view = self.service.store.view(Consistency::Strong);
        let record = view.peek::<Flows>(&key).await.unwrap().unwrap().record;
        self.service.open_seed(id_of(&record.subject), &record.totp_seed).unwrap()
    }

    fn code(&self, seed: &Seed) -> String {
        seed.code(step_at(self.clock.now()))
    }

    async fn add_totp(&self, proof: &Proof) -> Seed {
        let flow = self.settings(proof).await.unwrap();
        let seed = self.seed_of(&flow).await;
        let submission = SettingsSubmission {
            method: "totp".to_owned(),
            totp_code: Some(secret(&self.code(&seed))),
            ..SettingsSubmission::default()
        };
        let done = self.change(&flow, proof, submission).await.unwrap();
        assert_eq!(done.state, FlowState::Success);
        self.clock.advance(Duration::from_secs(30));
        seed
    }

    /// New backup codes, kept.
    async fn add_codes(&self, proof: &Proof) -> Vec<String> {
        let flow = self.settings(proof).await.unwrap();
        let regenerate =
            SettingsSubmission { lookup_secret_regenerate: true, ..SettingsSubmission::default() };
        let shown = self.change(&flow, proof, regenerate).await.unwrap();
        let codes = shown_codes(&shown);
        let confirm =
            SettingsSubmission { lookup_secret_confirm: true, ..SettingsSubmission::default() };
        self.change(&flow, proof, confirm).await.unwrap();
        codes
    }

    /// A passkey or a security key, made.
    async fn add_key(&self, proof: &Proof, kind: CredentialKind, soft: &mut Soft) {
        let flow = self.settings(proof).await.unwrap();
        let submission = match kind {
            CredentialKind::Passkey => SettingsSubmission {
                passkey_settings_register: Some(
                    soft.create(&options(&flow, "passkey_create_data")),
                ),
                ..SettingsSubmission::default()
            },
            _ => SettingsSubmission {
                webauthn_register: Some(soft.create(&options(&flow, "webauthn_register_trigger"))),
                webauthn_register_displayname: Some("blue".to_owned()),
                ..SettingsSubmission::default()
            },
        };
        let done = self.change(&flow, proof, submission).await.unwrap();
        assert_eq!(done.state, FlowState::Success);
    }

    async fn step_up(&self, proof: Option<&Proof>) -> Result<Flow, BeginRejection> {
        let begin = BeginLogin {
            aal: Some(Aal::Aal2),
            proof: proof.cloned(),
            browser: Some(BROWSER),
            ..BeginLogin::default()
        };
        self.service.begin_login(self.scope, begin).await
    }

    async fn submit(
        &self,
        flow: &Flow,
        proof: Option<&Proof>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let submission = LoginSubmission { proof: proof.cloned(), ..submission };
        self.service.submit_login(self.scope, flow.id, submission, &client("192.0.2.1")).await
    }

    async fn totp(&self, proof: &Proof, code: &str) -> Result<LoggedIn, LoginRejection> {
        let flow = self.step_up(Some(proof)).await.unwrap();
        self.submit(&flow, Some(proof), by_totp(code)).await
    }

    async fn backup_code(&self, proof: &Proof, code: &str) -> Result<LoggedIn, LoginRejection> {
        let flow = self.step_up(Some(proof)).await.unwrap();
        let submission = LoginSubmission {
            method: "lookup_secret".to_owned(),
            lookup_secret: Some(secret(code)),
            ..LoginSubmission::default()
        };
        self.submit(&flow, Some(proof), submission).await
    }

    async fn begin_in_browser(&self) -> Flow {
        let begin = BeginLogin { browser: Some(BROWSER), ..BeginLogin::default() };
        self.service.begin_login(self.scope, begin).await.unwrap()
    }

    async fn passkey(&self, soft: &Soft) -> Result<LoggedIn, LoginRejection> {
        let flow = self.begin_in_browser().await;
        let answer = soft.get(&options(&flow, "passkey_challenge"));
        self.submit(&flow, None, by_passkey(answer)).await
    }
}

fn by_totp(code: &str) -> LoginSubmission {
    LoginSubmission {
        method: "totp".to_owned(),
        totp_code: Some(secret(code)),
        ..LoginSubmission::default()
    }
}

fn by_passkey(answer: String) -> LoginSubmission {
    LoginSubmission { passkey_login: Some(answer), ..LoginSubmission::default() }
}

fn shown_codes(flow: &Flow) -> Vec<String> {
    let node = flow.ui.find("lookup_secret_codes").unwrap();
    let Attributes::Text(text) = &node.attributes else { panic!("{node:?}") };
    text.text.text.split(", ").map(str::to_owned).collect()
}

#[tokio::test]
async fn totp_steps_the_same_session_up() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let seed = world.add_totp(&proof).await;
    assert_eq!(world.session(&proof).await.aal, Aal::Aal2, "adding it has shown it");

    let proof = world.proof("ann@example.org").await;
    let before = world.session(&proof).await;
    assert_eq!(before.aal, Aal::Aal1);
    assert!(!before.satisfies(RequiredAal::HighestAvailable));
    assert!(before.satisfies(RequiredAal::Aal1));
    let flow = world.step_up(Some(&proof)).await.unwrap();
    assert_eq!(flow.requested_aal, Aal::Aal2);
    assert_eq!(flow.ui.messages, [Text::second_factor_needed()]);
    let names: Vec<_> = flow.ui.nodes.iter().map(crate::ui::Node::name).collect();
    assert_eq!(names, ["csrf_token", "totp_code", "method"]);
    let done = world.submit(&flow, Some(&proof), by_totp(&world.code(&seed))).await.unwrap();
    let after = world.session(&proof).await;
    assert_eq!(done.issued.session, after);
    assert_eq!((after.id, after.aal), (before.id, Aal::Aal2));
    assert!(after.satisfies(RequiredAal::HighestAvailable));
    let methods: Vec<_> = after.methods.iter().map(|method| method.method).collect();
    assert_eq!(methods, [CredentialKind::Password, CredentialKind::Totp]);
    let again = world.step_up(Some(&proof)).await;
    assert!(matches!(again, Err(BeginRejection::AlreadyLoggedIn)), "{again:?}");
}

/// N11: nobody begins with the second.
#[tokio::test]
async fn second_factor_needs_a_first_one() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let none = world.step_up(None).await;
    assert!(matches!(none, Err(BeginRejection::SessionRequired)), "{none:?}");
    let none = world.step_up(Some(&proof)).await;
    assert!(matches!(none, Err(BeginRejection::NoSecondFactor)), "{none:?}");
    let seed = world.add_totp(&proof).await;
    let proof = world.proof("ann@example.org").await;
    let flow = world.step_up(Some(&proof)).await.unwrap();
    let code = world.code(&seed);
    let bare = world.submit(&flow, None, by_totp(&code)).await;
    assert!(matches!(bare, Err(LoginRejection::SessionRequired)), "{bare:?}");
    // Nor does an ordinary login take one, or a second step a password.
    let first = world.begin_in_browser().await;
    assert_eq!(refused(world.submit(&first, Some(&proof), by_totp(&code)).await), [4_010_002]);
    let password = LoginSubmission {
        method: "password".to_owned(),
        identifier: Some("ann@example.org".to_owned()),
        password: Some(secret(PASSWORD)),
        ..LoginSubmission::default()
    };
    assert_eq!(refused(world.submit(&flow, Some(&proof), password).await), [4_010_002]);
}

#[tokio::test]
async fn second_factor_of_another_identity_is_refused() {
    let world = world();
    let (ann, _) = world.join("ann@example.org").await;
    let (eve, _) = world.join("eve@example.org").await;
    world.add_totp(&ann).await;
    let seed = world.add_totp(&eve).await;
    let (ann, eve) = (world.proof("ann@example.org").await, world.proof("eve@example.org").await);
    let flow = world.step_up(Some(&ann)).await.unwrap();
    let code = world.code(&seed);
    let hers = world.submit(&flow, Some(&eve), by_totp(&code)).await;
    assert!(matches!(hers, Err(LoginRejection::IdentityMismatch)), "{hers:?}");
    assert_eq!(refused(world.submit(&flow, Some(&ann), by_totp(&code)).await), [4_000_008]);
    assert_eq!(world.session(&ann).await.aal, Aal::Aal1);
}

#[tokio::test]
async fn a_time_based_code_is_taken_once() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let flow = world.settings(&proof).await.unwrap();
    let seed = world.seed_of(&flow).await;
    let code = world.code(&seed);
    let submission = SettingsSubmission {
        method: "totp".to_owned(),
        totp_code: Some(secret(&code)),
        ..SettingsSubmission::default()
    };
    world.change(&flow, &proof, submission).await.unwrap();
    let one = world.proof("ann@example.org").await;
    assert_eq!(refused(world.totp(&one, &code).await), [4_000_008], "the code that proved it");
    world.clock.advance(Duration::from_secs(60));
    let code = world.code(&seed);
    world.totp(&one, &code).await.unwrap();
    let two = world.proof("ann@example.org").await;
    assert_eq!(refused(world.totp(&two, &code).await), [4_000_008]);
    // Nor a code of an earlier step, which would still be in time.
    let earlier = seed.code(step_at(world.clock.now()) - 1);
    assert_eq!(refused(world.totp(&two, &earlier).await), [4_000_008]);
    world.clock.advance(Duration::from_secs(30));
    // Two at once: one of them is taken.
    let three = world.proof("ann@example.org").await;
    let code = world.code(&seed);
    let (a, b) = futures::join!(world.totp(&two, &code), world.totp(&three, &code));
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "{a:?} {b:?}");
}

/// A first factor's success does not reset a second factor's failures, and each attempt
/// is charged before the code is looked at.
#[tokio::test]
async fn guessing_second_factors_is_slowed_down_whatever_the_first_does() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let seed = world.add_totp(&proof).await;
    let mut proof = world.proof("ann@example.org").await;
    for _ in 0..5 {
        assert_eq!(refused(world.totp(&proof, "000000").await), [4_000_008]);
        proof = world.proof("ann@example.org").await;
    }
    let code = world.code(&seed);
    for by_code in [true, false] {
        let result = if by_code {
            world.totp(&proof, &code).await
        } else {
            world.backup_code(&proof, "aaaaaaaa").await
        };
        let Err(LoginRejection::Throttled(early)) = result else { panic!("{result:?}") };
        assert_eq!(early.retry_after, Duration::from_secs(1));
    }
    world.log_in("ann@example.org", PASSWORD).await.unwrap();
    world.clock.advance(Duration::from_secs(30));
    world.totp(&proof, &world.code(&seed)).await.unwrap();
}

#[tokio::test]
async fn stale_session_changes_no_factor() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let mut soft = Soft::new(Key::es256());
    world.add_totp(&proof).await;
    world.add_codes(&proof).await;
    let flow = world.settings(&proof).await.unwrap();
    let made = soft.create(&options(&flow, "passkey_create_data"));
    let key = soft.create(&options(&flow, "webauthn_register_trigger"));
    world.clock.advance(Duration::from_secs(59 * 60));
    let flow_two = world.settings(&proof).await.unwrap();
    world.clock.advance(Duration::from_secs(61));
    let _ = flow;
    let none = SettingsSubmission::default;
    for submission in [
        SettingsSubmission { totp_unlink: true, ..none() },
        SettingsSubmission { lookup_secret_reveal: true, ..none() },
        SettingsSubmission { lookup_secret_regenerate: true, ..none() },
        SettingsSubmission { lookup_secret_disable: true, ..none() },
        SettingsSubmission { webauthn_remove: Some("00".to_owned()), ..none() },
    ] {
        let result = world.change(&flow_two, &proof, submission).await;
        assert!(matches!(result, Err(SettingsRejection::RefreshRequired)), "{result:?}");
    }
    // Answers to another flow's challenge are none here.
    for submission in [
        SettingsSubmission { passkey_settings_register: Some(made), ..none() },
        SettingsSubmission { webauthn_register: Some(key), ..none() },
    ] {
        let ids = unchanged(world.change(&flow_two, &proof, submission).await);
        assert_eq!(ids, [4_000_043]);
    }
    let fresh = soft.create(&options(&flow_two, "passkey_create_data"));
    let submission = SettingsSubmission { passkey_settings_register: Some(fresh), ..none() };
    let result = world.change(&flow_two, &proof, submission).await;
    assert!(matches!(result, Err(SettingsRejection::RefreshRequired)), "{result:?}");
}

#[tokio::test]
async fn settings_need_the_second_factor_of_those_who_have_one() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let flow = world.settings(&proof).await.unwrap();
    let seed = world.add_totp(&proof).await;
    let proof = world.proof("ann@example.org").await;
    let begun = world.settings(&proof).await;
    assert!(matches!(begun, Err(BeginRejection::SecondFactorRequired)), "{begun:?}");
    let read = world.service.settings_flow(world.scope, flow.id, Some(&proof)).await;
    assert!(matches!(read, Err(SettingsRejection::SecondFactorRequired)), "{read:?}");
    let unlink = SettingsSubmission { totp_unlink: true, ..SettingsSubmission::default() };
    let changed = world.change(&flow, &proof, unlink).await;
    assert!(matches!(changed, Err(SettingsRejection::SecondFactorRequired)), "{changed:?}");
    world.totp(&proof, &world.code(&seed)).await.unwrap();
    world.settings(&proof).await.unwrap();
}

#[tokio::test]
async fn removing_a_factor_ends_other_sessions_and_is_told() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    world.add_totp(&proof).await;
    let other = world.proof("ann@example.org").await;
    let flow = world.settings(&proof).await.unwrap();
    let messages = async || {
        let filter = crate::courier::MessageFilter::default();
        let page = crate::PageRequest::default();
        let listed = world.service.list_messages(world.scope, &filter, &page).await;
        let items = listed.unwrap().items;
        items.into_iter().filter(|message| message.template == "stub").count()
    };
    assert_eq!(messages().await, 1);
    let unlink = || SettingsSubmission { totp_unlink: true, ..SettingsSubmission::default() };
    let done = world.change(&flow, &proof, unlink()).await.unwrap();
    assert!(done.ui.find("totp_qr").is_some(), "another app may be added at once");
    assert_eq!(messages().await, 2);
    assert!(world.recognised(&proof).await);
    assert!(!world.recognised(&other).await);
    assert!(!world.session(&proof).await.identity.unwrap().has_second_factor);
    let ids = unchanged(world.change(&flow, &proof, unlink()).await);
    assert_eq!(ids, [4_000_011]);
}
