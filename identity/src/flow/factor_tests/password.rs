//! New passwords: what they stand beside, and what servers know of them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::{
    identity::NewPassword,
    outbound::{Outbound, Question, Reply, Unanswered},
    password::{Breaches, Policy},
};

const TOO_SHORT: u32 = 4_000_032;
const BREACHED: u32 = 4_000_034;
const NOT_JUDGED: u32 = 4_000_005;
/// Eleven characters.
const SHORT: &str = "hinge + bar";

fn to(password: &str) -> SettingsSubmission {
    SettingsSubmission {
        method: "password".to_owned(),
        password: Some(secret(password)),
        ..SettingsSubmission::default()
    }
}

#[tokio::test]
async fn shorter_password_is_taken_beside_a_second_factor_alone() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let flow = world.settings(&proof).await.unwrap();
    assert!(unchanged(world.change(&flow, &proof, to(SHORT)).await).contains(&TOO_SHORT));
    world.add_totp(&proof).await;
    let flow = world.settings(&proof).await.unwrap();
    assert_eq!(world.change(&flow, &proof, to(SHORT)).await.unwrap().state, FlowState::Success);
    let told = unchanged(world.change(&flow, &proof, to("7 chars")).await);
    assert!(told.contains(&TOO_SHORT), "{told:?}");
    // Without the factor it stays good, and no other as short is taken.
    let remove = SettingsSubmission { totp_unlink: true, ..SettingsSubmission::default() };
    world.change(&flow, &proof, remove).await.unwrap();
    assert!(world.log_in("ann@example.org", SHORT).await.is_ok());
    let told = unchanged(world.change(&flow, &proof, to("hinge + door")).await);
    assert!(told.contains(&TOO_SHORT), "{told:?}");
}

#[tokio::test]
async fn short_password_that_somebody_has_already_logs_in() {
    let world = World::new();
    let old = Some(NewPassword::Clear(secret("s3cret")));
    world.create("ann@example.org", old).await.unwrap();
    assert!(world.log_in("ann@example.org", "s3cret").await.is_ok());
}

#[tokio::test]
async fn signing_up_takes_no_password_that_is_short() {
    let policy = Policy { length_min: PASSWORD.len() + 1, ..Policy::default() };
    let world = World::with(Settings { password_policy: policy, ..settings() });
    let flow = world.begin_registration().await;
    let Err(RegistrationRejection::Invalid(flow)) =
        world.submit_registration(flow.id, "ann@example.org").await
    else {
        panic!("somebody signed up")
    };
    assert!(ids(&flow).contains(&TOO_SHORT));
}

/// Knows one password, or is not there.
struct Server(Mutex<Option<String>>);

#[async_trait]
impl Outbound for Server {
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
        let known = self.0.lock().clone().ok_or(Unanswered::TooLate)?;
        assert!(question.url.starts_with("https://pwned.example.org/range/"), "{}", question.url);
        Ok(Reply { status: 200, body: Bytes::from(known) })
    }
}

#[tokio::test]
async fn breached_passwords_are_refused_in_every_flow() {
    let server = Arc::new(Server(Mutex::default()));
    let breaches = Breaches {
        url: "https://pwned.example.org".to_owned(),
        errors_ignored: false,
        ..Breaches::default()
    };
    let settings = Settings { breaches: Some(breaches), ..settings() };
    let world = World::reaching(settings, server.clone());
    // Nobody answers, and that is not ignored.
    let flow = world.begin_registration().await;
    let signed_up = world.submit_registration(flow.id, "ann@example.org").await;
    let Err(RegistrationRejection::Invalid(refused)) = signed_up else { panic!("signed up") };
    assert!(ids(&refused).contains(&NOT_JUDGED));
    *server.0.lock() = Some(format!("{}:7\r\n", rest_of_sha1(PASSWORD)));
    let signed_up = world.submit_registration(flow.id, "ann@example.org").await;
    let Err(RegistrationRejection::Invalid(refused)) = signed_up else { panic!("signed up") };
    assert!(ids(&refused).contains(&BREACHED));
    *server.0.lock() = Some(format!("{}:0\r\n", rest_of_sha1(PASSWORD)));
    let registered = world.submit_registration(flow.id, "ann@example.org").await.unwrap();
    let proof = Proof::Token(registered.issued.unwrap().token);
    *server.0.lock() = Some(format!("{}:7\r\n", rest_of_sha1("another long password")));
    let flow = world.settings(&proof).await.unwrap();
    let told = unchanged(world.change(&flow, &proof, to("another long password")).await);
    assert!(told.contains(&BREACHED), "{told:?}");
    // Logging in asks nobody.
    *server.0.lock() = None;
    assert!(world.log_in("ann@example.org", PASSWORD).await.is_ok());
}

/// What follows the first five of the 40 digits.
fn rest_of_sha1(password: &str) -> String {
    use sha1::Digest as _;
    let digits = sha1::Sha1::digest(password.as_bytes());
    let digits: String = digits.iter().map(|byte| format!("{byte:02X}")).collect();
    digits[5..].to_owned()
}

/// Knows who has which password, as another system did.
struct Former(Mutex<Vec<Question>>, Mutex<Option<Result<Reply, Unanswered>>>);

#[async_trait]
impl Outbound for Former {
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
        let asked: Value = serde_json::from_slice(&question.body).unwrap();
        self.0.lock().push(question);
        if let Some(answer) = self.1.lock().clone() {
            return answer;
        }
        let known =
            asked == serde_json::json!({"identifier": "ann@example.org", "password": "old"});
        let (status, body) =
            if known { (200, "{\"status\": \"password_match\"}") } else { (403, "{}") };
        Ok(Reply { status, body: body.into() })
    }
}

fn migrating() -> (World, Arc<Former>) {
    use crate::outbound::request::{Auth, Request, program};
    let request = Request {
        url: "https://old.example.org/login".to_owned(),
        verb: crate::outbound::Verb::Post,
        body: program("function(ctx) {identifier: ctx.identifier, password: ctx.password}")
            .unwrap(),
        headers: Vec::new(),
        auth: Auth::None,
        within: Duration::from_secs(5),
    };
    let former = Arc::new(Former(Mutex::default(), Mutex::default()));
    let settings = Settings { password_migration: Some(request), ..settings() };
    (World::reaching(settings, former.clone()), former)
}

#[tokio::test]
async fn password_that_another_server_knows_is_asked_for_once() {
    let (world, former) = migrating();
    world.create("ann@example.org", Some(NewPassword::Elsewhere)).await.unwrap();
    world.register("bob@example.org").await;
    assert_eq!(refused(world.log_in("ann@example.org", "wrong").await), [4_000_006]);
    assert_eq!(former.0.lock().len(), 1);
    world.log_in("ann@example.org", "old").await.unwrap();
    assert_eq!(former.0.lock().len(), 2);
    // From now on it is known here.
    world.log_in("ann@example.org", "old").await.unwrap();
    world.log_in("bob@example.org", PASSWORD).await.unwrap();
    assert!(world.log_in("nobody@example.org", "old").await.is_err());
    assert_eq!(former.0.lock().len(), 2, "nobody else is asked about");
}

#[tokio::test]
async fn nobody_is_let_in_without_that_servers_word() {
    let (world, former) = migrating();
    world.create("ann@example.org", Some(NewPassword::Elsewhere)).await.unwrap();
    let reply =
        |status, body: &str| Ok(Reply { status, body: Bytes::copy_from_slice(body.as_bytes()) });
    for answer in [reply(200, "{}"), reply(200, "yes"), reply(403, "")] {
        *former.1.lock() = Some(answer);
        assert_eq!(refused(world.log_in("ann@example.org", "old").await), [4_000_006]);
    }
    world.clock.advance(HOUR);
    for answer in [reply(500, ""), reply(302, ""), Err(Unanswered::TooLate)] {
        *former.1.lock() = Some(answer);
        let done = world.log_in("ann@example.org", "old").await;
        assert!(matches!(done, Err(LoginRejection::Hook(_))), "{done:?}");
        world.clock.advance(HOUR);
    }
    // Without a hook it is a password that nothing matches.
    let world = World::new();
    world.create("ann@example.org", Some(NewPassword::Elsewhere)).await.unwrap();
    assert_eq!(refused(world.log_in("ann@example.org", "$elsewhere$").await), [4_000_006]);
    let hashed = Some(NewPassword::Hashed(secret("$elsewhere$")));
    assert!(world.create("eve@example.org", hashed).await.is_err(), "it is no hash to import");
}

/// Somebody who is brought from elsewhere, whose password stays there.
#[tokio::test]
async fn password_of_somebody_brought_is_asked_for_where_it_stayed() {
    use crate::identity::{ForeignIdentity, ForeignPassword, OtherCredentials};
    let (world, former) = migrating();
    let then = Timestamp(1_600_000_000_000);
    let foreign = ForeignIdentity {
        id: IdentityId(uuid::Uuid::from_u128(0x1234_5678_0000_1000_8000_0000_0000_0001)),
        schema_id: "default".to_owned(),
        traits: traits("ann@example.org"),
        state: crate::model::IdentityState::Active,
        state_changed_at: then,
        metadata_public: None,
        metadata_admin: None,
        organization: None,
        external_id: None,
        verifiable: Vec::new(),
        recovery: Vec::new(),
        password: Some(ForeignPassword { hash: None, created_at: then, updated_at: then }),
        others: OtherCredentials::default(),
        sessions: Vec::new(),
        created_at: then,
        updated_at: then,
        digest: [1; 32],
    };
    let done = world.service.bring_identity(world.scope, &foreign, false).await.unwrap();
    assert_eq!(done.password_left, None);
    assert_eq!(refused(world.log_in("ann@example.org", "wrong").await), [4_000_006]);
    world.log_in("ann@example.org", "old").await.unwrap();
    world.log_in("ann@example.org", "old").await.unwrap();
    assert_eq!(former.0.lock().len(), 2, "from then on it is known here");
}
