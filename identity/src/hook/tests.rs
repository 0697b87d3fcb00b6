//! What hooks bring about on each occasion, and what they must not.

mod saved;
mod told;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use cardea_storage::Secret;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    Action, Asked, CallFilter, Hook, HookFailed, Hooks, Moment, Response, RetryRejection, WebHook,
    call::default_body,
};
use crate::{
    Client, PageRequest, Settings,
    flow::{BeginLogin, BeginRejection, LoginRejection, Purpose, RegistrationRejection},
    jsonnet::{Limits, Program},
    outbound::{
        Outbound, Question, Reply, Unanswered, Verb,
        request::{Auth, Request},
    },
    outbox::{Round, Status},
    table::{hook_call::HookCalls, outbox::Outbox as _},
    testing::{PASSWORD, World, client, secret, settings, traits},
};

/// A server that keeps what it is asked, and answers as it is told, else by 200.
#[derive(Default)]
struct Receiver {
    asked: Mutex<Vec<Question>>,
    answers: Mutex<VecDeque<Result<Reply, Unanswered>>>,
}

impl Receiver {
    fn will(&self, status: u16, body: Value) {
        let body = body.to_string().into();
        self.answers.lock().push_back(Ok(Reply { status, body }));
    }

    fn will_not(&self, unanswered: Unanswered) {
        self.answers.lock().push_back(Err(unanswered));
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }

    fn body(&self, at: usize) -> Value {
        serde_json::from_slice(&self.asked.lock()[at].body).unwrap()
    }

    fn header(&self, at: usize, name: &str) -> Option<String> {
        let asked = self.asked.lock();
        let found = asked[at].headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.expose().clone())
    }
}

#[async_trait]
impl Outbound for Receiver {
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
        self.asked.lock().push(question);
        let told = self.answers.lock().pop_front();
        told.unwrap_or_else(|| Ok(Reply { status: 200, body: Default::default() }))
    }
}

fn web_hook(response: Response) -> WebHook {
    WebHook {
        id: "crm".to_owned(),
        request: Request {
            url: "https://hooks.example/crm".to_owned(),
            verb: Verb::Post,
            body: default_body().unwrap(),
            headers: Vec::new(),
            auth: Auth::None,
            within: Duration::from_secs(5),
        },
        signing: None,
        response,
        can_interrupt: false,
    }
}

fn with_request(response: Response, change: impl FnOnce(&mut Request)) -> WebHook {
    let mut made = web_hook(response);
    change(&mut made.request);
    made
}

fn hook(purpose: Purpose, moment: Moment, action: Action) -> Hook {
    Hook { purpose, moment, method: None, action }
}

fn world(purpose: Purpose, moment: Moment, called: WebHook) -> (World, Arc<Receiver>) {
    with(vec![hook(purpose, moment, Action::WebHook(Arc::new(called)))], settings())
}

fn with(hooks: Vec<Hook>, settings: Settings) -> (World, Arc<Receiver>) {
    let receiver = Arc::new(Receiver::default());
    let settings = Settings { hooks: Hooks::new(hooks), ..settings };
    (World::reaching(settings, receiver.clone()), receiver)
}

const PAGE: PageRequest = PageRequest { size: 10, token: None };

#[tokio::test]
async fn an_ignored_hook_is_called_after_the_commit_until_it_is_answered() {
    let (world, receiver) =
        world(Purpose::Registration, Moment::After, web_hook(Response::Ignored));
    let registered = world.register("ann@example.com").await;
    assert_eq!(receiver.asked(), 0, "nobody waits for it");
    receiver.will(500, json!("broken"));
    let round = world.service.make_calls().await.unwrap();
    assert_eq!(round, Round { postponed: 1, ..Round::default() });
    assert_eq!(world.service.make_calls().await.unwrap(), Round::default(), "not due yet");
    world.clock.advance(Duration::from_secs(6));
    let round = world.service.make_calls().await.unwrap();
    assert_eq!(round, Round { sent: 1, ..Round::default() });
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.service.make_calls().await.unwrap(), Round::default());
    assert_eq!(receiver.asked(), 2);
    assert_eq!(receiver.header(0, "webhook-id"), receiver.header(1, "webhook-id"));
    assert_ne!(receiver.header(0, "webhook-timestamp"), receiver.header(1, "webhook-timestamp"));
    let body = receiver.body(1);
    assert_eq!(body["identity"]["id"], registered.identity.id.to_string());
    assert_eq!(body["identity"]["traits"]["email"], "ann@example.com");
    assert_eq!(body["session"]["authenticator_assurance_level"], "aal1");
    assert_eq!(
        body["event"],
        json!({"flow": "registration", "when": "after", "method": "password"})
    );
    let filter = CallFilter::default();
    let listed = world.service.list_calls(world.scope, &filter, &PAGE).await.unwrap().items;
    assert_eq!((listed[0].status, listed[0].attempts), (Status::Sent, 2));
    assert_eq!(listed[0].identity, Some(registered.identity.id));
}

#[tokio::test]
async fn what_did_not_come_about_is_told_to_nobody() {
    let (world, receiver) =
        world(Purpose::Registration, Moment::After, web_hook(Response::Ignored));
    world.register("ann@example.com").await;
    let flow = world.begin_registration().await;
    world.submit_registration(flow.id, "ann@example.com").await.unwrap_err();
    assert_eq!(world.service.make_calls().await.unwrap().sent, 1);
    assert_eq!(receiver.asked(), 1);
}

#[tokio::test]
async fn calls_that_nobody_takes_are_given_up_visibly_and_can_be_tried_again() {
    let (world, receiver) =
        world(Purpose::Registration, Moment::After, web_hook(Response::Ignored));
    world.register("ann@example.com").await;
    for last in (1..=HookCalls::TRIES_MAX).map(|at| at == HookCalls::TRIES_MAX) {
        receiver.will_not(Unanswered::Forbidden);
        let round = world.service.make_calls().await.unwrap();
        assert_eq!((round.postponed, round.abandoned), (u32::from(!last), u32::from(last)));
        world.clock.advance(Duration::from_secs(1801));
    }
    assert_eq!(world.service.make_calls().await.unwrap(), Round::default());
    let filter = CallFilter { status: Some(Status::Abandoned), ..CallFilter::default() };
    let listed = world.service.list_calls(world.scope, &filter, &PAGE).await.unwrap().items;
    let call = &listed[0];
    assert_eq!(call.attempts, HookCalls::TRIES_MAX);
    assert!(call.last_error.as_ref().unwrap().contains("not to be reached"));
    world.service.retry_call(world.scope, call.id).await.unwrap();
    assert!(matches!(
        world.service.retry_call(world.scope, call.id).await,
        Err(RetryRejection::NotAbandoned)
    ));
    assert_eq!(world.service.make_calls().await.unwrap().sent, 1);
}

#[tokio::test]
async fn a_hook_that_interrupts_shows_why_and_leaves_nothing_behind() {
    let called = WebHook { can_interrupt: true, ..web_hook(Response::Awaited) };
    let (world, receiver) = world(Purpose::Registration, Moment::After, called);
    receiver.will(
        400,
        json!({"messages": [{"instance_ptr": "#/traits/email",
            "messages": [{"id": 77, "text": "not you", "type": "error"}]}]}),
    );
    let flow = world.begin_registration().await;
    let refused = world.submit_registration(flow.id, "ann@example.com").await.unwrap_err();
    let RegistrationRejection::Invalid(shown) = refused else { panic!("{refused:?}") };
    let text = &shown.ui.find("traits.email").unwrap().messages[0];
    assert_eq!((text.id, text.text.as_str()), (77, "not you"));
    assert!(world.log_in("ann@example.com", PASSWORD).await.is_err(), "nobody was signed up");
    // The flow is good for another try.
    world.submit_registration(flow.id, "ann@example.com").await.unwrap();
}

#[tokio::test]
async fn a_hook_that_fails_refuses_and_leaves_nothing_behind() {
    let (world, receiver) =
        world(Purpose::Registration, Moment::After, web_hook(Response::Awaited));
    let flow = world.begin_registration().await;
    for (unanswered, told) in [
        (Unanswered::Forbidden, "not to be reached"),
        (Unanswered::TooLarge(9), "larger than 9"),
        (Unanswered::BadUrl("x"), "not asked"),
    ] {
        receiver.will_not(unanswered);
        let refused = world.submit_registration(flow.id, "ann@example.com").await.unwrap_err();
        let RegistrationRejection::Hook(HookFailed::Failed { hook, why }) = refused else {
            panic!("{refused:?}")
        };
        assert!(hook == "crm" && why.contains(told), "{why}");
    }
    receiver.will_not(Unanswered::TooLate);
    let refused = world.submit_registration(flow.id, "ann@example.com").await.unwrap_err();
    assert!(matches!(refused, RegistrationRejection::Hook(HookFailed::TooLate { .. })));
    for (status, body) in [(400, json!("no words")), (302, json!({})), (503, json!("broken"))] {
        receiver.will(status, body);
        let refused = world.submit_registration(flow.id, "ann@example.com").await.unwrap_err();
        assert!(matches!(refused, RegistrationRejection::Hook(HookFailed::Failed { .. })));
    }
    // It may not interrupt: words of its are not shown.
    let words = json!({"messages": [{"messages": [{"id": 1, "text": "x"}]}]});
    receiver.will(400, words);
    let refused = world.submit_registration(flow.id, "ann@example.com").await.unwrap_err();
    assert!(matches!(refused, RegistrationRejection::Hook(HookFailed::Failed { .. })));
    assert!(world.log_in("ann@example.com", PASSWORD).await.is_err());
    world.submit_registration(flow.id, "ann@example.com").await.unwrap();
}

#[tokio::test]
async fn a_server_at_fault_is_asked_again_within_the_time() {
    let (world, receiver) =
        world(Purpose::Registration, Moment::After, web_hook(Response::Awaited));
    receiver.will_not(Unanswered::Unreachable("gone".to_owned()));
    receiver.answers.lock().push_back(Ok(Reply { status: 502, body: Default::default() }));
    world.register("ann@example.com").await;
    assert_eq!(receiver.asked(), 3);
    assert_eq!(receiver.header(0, "webhook-id"), receiver.header(2, "webhook-id"));
}

#[tokio::test]
async fn an_answer_that_is_parsed_changes_who_signs_up() {
    let (world, receiver) = world(Purpose::Registration, Moment::After, web_hook(Response::Parsed));
    receiver.will(
        200,
        json!({"identity": {
            "traits": {"email": "ann@example.com", "name": {"first": "Anna"}},
            "metadata_public": {"plan": "free"}, "metadata_admin": {"score": 3},
            "external_id": "crm-7",
            "verifiable_addresses": [{"value": "ann@example.com", "via": "email", "verified": true}],
        }}),
    );
    let identity = world.register("ann@example.com").await.identity;
    assert_eq!(identity.traits["name"]["first"], "Anna");
    assert_eq!(identity.metadata_public, Some(json!({"plan": "free"})));
    assert_eq!(identity.external_id.as_deref(), Some("crm-7"));
    assert!(identity.verifiable_addresses[0].verified_at.is_some());
    // What does not fit the schema is refused whole.
    receiver.will(200, json!({"identity": {"traits": {"email": 7}}}));
    let flow = world.begin_registration().await;
    let refused = world.submit_registration(flow.id, "bob@example.com").await.unwrap_err();
    assert!(matches!(refused, RegistrationRejection::Hook(HookFailed::Failed { .. })));
    // Nobody is asked about somebody who cannot be signed up.
    let before = receiver.asked();
    let flow = world.begin_registration().await;
    world.submit_registration(flow.id, "ann@example.com").await.unwrap_err();
    assert_eq!(receiver.asked(), before);
}

#[tokio::test]
async fn a_program_may_say_that_there_is_nothing_to_send() {
    let source = "function(ctx) if ctx.identity.traits.email == 'ann@example.com' \
                  then error 'cancel' else {id: ctx.identity.id}";
    let body = Program::parse(source, Limits::default()).unwrap();
    let called = with_request(Response::Awaited, |request| request.body = body);
    let (world, receiver) = world(Purpose::Registration, Moment::After, called);
    world.register("ann@example.com").await;
    assert_eq!(receiver.asked(), 0);
    let bob = world.register("bob@example.com").await;
    assert_eq!(receiver.body(0), json!({"id": bob.identity.id.to_string()}));
}

#[tokio::test]
async fn a_program_without_end_is_an_error_that_names_its_bound() {
    let source = "function(ctx) local f(n) = f(n + 1); f(0)";
    let body = Program::parse(source, Limits::default()).unwrap();
    let called = with_request(Response::Awaited, |request| request.body = body);
    let (world, receiver) = world(Purpose::Registration, Moment::After, called);
    let flow = world.begin_registration().await;
    let refused = world.submit_registration(flow.id, "ann@example.com").await.unwrap_err();
    assert!(matches!(refused, RegistrationRejection::Hook(HookFailed::Failed { .. })));
    assert_eq!(receiver.asked(), 0);
}

#[tokio::test]
async fn calls_prove_themselves_and_are_signed() {
    for (auth, name, value) in [
        (
            Auth::Basic { user: "u".to_owned(), password: secret("p") },
            "authorization",
            "Basic dTpw",
        ),
        (Auth::Header { name: "x-key".to_owned(), value: secret("k") }, "x-key", "k"),
        (Auth::Cookie { name: "key".to_owned(), value: secret("k") }, "cookie", "key=k"),
    ] {
        let called = WebHook {
            signing: Some(Secret::new(b"0123456789abcdef01234567".to_vec())),
            ..with_request(Response::Awaited, |request| {
                request.auth = auth;
                request.headers = vec![("x-own".to_owned(), "1".to_owned())];
            })
        };
        let (world, receiver) = world(Purpose::Registration, Moment::After, called);
        world.register("ann@example.com").await;
        assert_eq!(receiver.header(0, name).as_deref(), Some(value));
        assert_eq!(receiver.header(0, "x-own").as_deref(), Some("1"));
        assert!(receiver.header(0, "webhook-signature").unwrap().starts_with("v1,"));
    }
}

#[tokio::test]
async fn a_hook_before_a_flow_may_keep_it_from_beginning() {
    let called = WebHook { can_interrupt: true, ..web_hook(Response::Awaited) };
    let (world, receiver) = world(Purpose::Login, Moment::Before, called);
    world.begin_login().await;
    receiver.will(403, json!({"messages": [{"messages": [{"id": 1, "text": "closed"}]}]}));
    let refused = world.service.begin_login(world.scope, BeginLogin::default()).await;
    assert!(matches!(refused, Err(BeginRejection::Hook(HookFailed::Interrupted(_)))));
    assert!(receiver.body(0).get("identity").is_none());
}

#[tokio::test]
async fn signing_up_logs_in_after_the_methods_whose_hooks_say_so() {
    let session = |method: &str| Hook {
        method: Some(method.to_owned()),
        ..hook(Purpose::Registration, Moment::After, Action::Session)
    };
    let (world, _) = with(vec![session("passkey")], settings());
    assert!(world.register("ann@example.com").await.issued.is_none());
    let (world, _) = with(vec![session("password")], settings());
    assert!(world.register("ann@example.com").await.issued.is_some());
    let without = Settings { session_after_registration: false, ..settings() };
    let (world, _) = with(Vec::new(), without);
    assert!(world.register("ann@example.com").await.issued.is_none());
}

#[tokio::test]
async fn logging_in_may_end_all_other_sessions() {
    let revokes = hook(Purpose::Login, Moment::After, Action::RevokeActiveSessions);
    let (world, _) = with(vec![revokes], settings());
    world.register("ann@example.com").await;
    let first = world.proof("ann@example.com").await;
    let second = world.proof("ann@example.com").await;
    assert!(!world.recognised(&first).await && world.recognised(&second).await);
}

#[tokio::test]
async fn nobody_logs_in_without_a_verified_address_where_one_is_required() {
    let required = hook(Purpose::Login, Moment::After, Action::RequireVerifiedAddress);
    let (world, _) = with(vec![required.clone()], settings());
    world.register("ann@example.com").await;
    let refused = world.log_in("ann@example.com", PASSWORD).await.unwrap_err();
    let LoginRejection::Invalid(flow) = refused else { panic!("{refused:?}") };
    assert_eq!(flow.ui.messages[0].id, 4_000_010);
    let verifies = Settings { verification: true, ..settings() };
    let (world, _) = with(vec![required], verifies);
    world.register("ann@example.com").await;
    let refused = world.log_in("ann@example.com", PASSWORD).await.unwrap_err();
    let LoginRejection::Unverified(started) = refused else { panic!("{refused:?}") };
    assert_eq!(started.address, "ann@example.com");
    // Who does not know the password learns nothing of it.
    let refused = world.log_in("ann@example.com", "wrong").await.unwrap_err();
    assert!(matches!(refused, LoginRejection::Invalid(_)));
}

/// Whenever somebody becomes active who shows a code, a hook that may stop it is asked.
#[tokio::test]
async fn nobody_recovers_whom_no_hook_was_asked_about() {
    use crate::{
        flow::{CodeRejection, CodeSubmission, NewRecovery},
        identity::IdentityChange,
        model::IdentityState,
    };
    let mut stopped = 0;
    for reads in 0.. {
        let stops = web_hook(Response::Awaited);
        let stops = hook(Purpose::Recovery, Moment::After, Action::WebHook(Arc::new(stops)));
        let (world, receiver) = with(vec![stops], Settings { recovery: true, ..settings() });
        let id = world.register("ann@example.com").await.identity.id;
        let (service, scope) = (world.service.clone(), world.scope);
        let given = service.create_recovery_code(scope, id, NewRecovery::default()).await.unwrap();
        let becomes = |state| {
            let traits = traits("ann@example.com");
            IdentityChange { traits, state: Some(state), ..IdentityChange::default() }
        };
        service.update_identity(scope, id, becomes(IdentityState::Inactive)).await.unwrap();
        let (active, changing) = (becomes(IdentityState::Active), service.clone());
        let change = async move {
            changing.update_identity(scope, id, active).await.unwrap();
        };
        receiver.will(403, json!({}));
        *world.counted.meanwhile.lock() = Some((reads, Box::pin(change)));
        let submission = CodeSubmission { code: Some(given.code), ..CodeSubmission::default() };
        let (what, who) = ((Purpose::Recovery, given.flow), client("192.0.2.1"));
        let refused = service.submit_code(scope, what, submission, &who).await;
        let refused = refused.map(drop).unwrap_err();
        let is_stopped = matches!(refused, CodeRejection::Hook(_) | CodeRejection::Disabled);
        assert!(is_stopped, "before read {reads}: {refused:?}");
        if world.counted.meanwhile.lock().take().is_some() {
            break;
        }
        stopped += receiver.asked();
    }
    assert!(stopped > 0);
}

/// Dead letters are nobody's to read: a number tells of them.
#[tokio::test]
async fn what_waits_is_sent_or_is_given_up_is_counted() {
    let (world, receiver) =
        world(Purpose::Registration, Moment::After, web_hook(Response::Ignored));
    let numbers = async || {
        world.service.count_waiting().await.unwrap();
        let [_, calls] = world.service.outbox_usage();
        assert_eq!(calls.outbox, "web_hook");
        ([calls.waiting, calls.sent, calls.postponed, calls.abandoned], calls.overdue.as_secs())
    };
    assert_eq!(numbers().await, ([0, 0, 0, 0], 0));
    world.register("ann@example.com").await;
    world.clock.advance(Duration::from_secs(7));
    assert_eq!(numbers().await, ([1, 0, 0, 0], 7));
    world.service.make_calls().await.unwrap();
    assert_eq!(numbers().await, ([0, 1, 0, 0], 0));
    world.register("bea@example.com").await;
    for tries in 1..=HookCalls::TRIES_MAX {
        receiver.will(500, json!({"error": "no"}));
        world.service.make_calls().await.unwrap();
        let is_last = tries == HookCalls::TRIES_MAX;
        let (numbers, _) = numbers().await;
        let postponed = u64::from(tries) - u64::from(is_last);
        assert_eq!(numbers, [u64::from(!is_last), 1, postponed, u64::from(is_last)]);
        world.clock.advance(Duration::from_secs(1800));
    }
    // Other keys are no other outbox.
    let [_, calls] = world.service.rekeyed(crate::testing::keys(2)).outbox_usage();
    assert_eq!((calls.sent, calls.abandoned), (1, 1));
}
