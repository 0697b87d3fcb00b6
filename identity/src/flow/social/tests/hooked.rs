//! What follows when an account at a provider is linked or unlinked in settings: hooks,
//! events, mail, and the end of other sessions.

use std::time::Duration;

use super::*;
use crate::{
    audit::AuditFilter,
    hook::{Action, Hook, Hooks, Moment, Response, WebHook, call::default_body},
    outbound::request::{Auth, Request},
    page::PageRequest,
};

const HOOK: &str = "https://hooks.example/links";

/// A hook behind what is done by an account elsewhere, which is waited for.
pub(super) fn awaited(purpose: Purpose) -> Hook {
    let hook = WebHook {
        id: "links".to_owned(),
        request: Request {
            url: HOOK.to_owned(),
            verb: Verb::Post,
            body: default_body().unwrap(),
            headers: Vec::new(),
            auth: Auth::None,
            within: Duration::from_secs(5),
        },
        signing: None,
        response: Response::Awaited,
        can_interrupt: false,
    };
    let (moment, method) = (Moment::After, Some("oidc".to_owned()));
    Hook { purpose, moment, method, action: Action::WebHook(Arc::new(hook)) }
}

/// Hooks before logins, and after whatever is done by an account elsewhere.
pub(super) fn everywhere() -> Hooks {
    let before = Hook { moment: Moment::Before, method: None, ..awaited(Purpose::Login) };
    Hooks::new(vec![before, awaited(Purpose::Login), awaited(Purpose::Registration)])
}

fn town() -> Town {
    let hook = awaited(Purpose::Settings);
    let providers = Providers::new(vec![provider("idp", MAPPER), provider("other", MAPPER)]);
    let hooks = Hooks::new(vec![hook]);
    Town::of(Settings { providers, hooks, notify_changes: true, ..settings() })
}

impl Town {
    pub(super) fn hook_answers(&self, status: u16) {
        let reply = Reply { status, body: "{}".into() };
        self.idp.answers.lock().insert(HOOK.to_owned(), Ok(reply));
    }

    pub(super) fn hooks_asked(&self) -> Vec<String> {
        let asked = self.idp.asked.lock();
        asked.iter().filter(|(url, _)| url == HOOK).map(|(_, body)| body.clone()).collect()
    }

    async fn change(
        &self,
        proof: &Proof,
        link: Option<&str>,
        unlink: Option<&str>,
    ) -> Result<Flow, SettingsRejection> {
        let begin = BeginSettings {
            browser: Some(BROWSER),
            proof: Some(proof.clone()),
            ..BeginSettings::default()
        };
        let flow = self.world.service.begin_settings(self.world.scope, begin).await.unwrap();
        let submission = SettingsSubmission {
            method: "oidc".to_owned(),
            link: link.map(str::to_owned),
            unlink: unlink.map(str::to_owned),
            proof: Some(proof.clone()),
            ..SettingsSubmission::default()
        };
        self.world.service.submit_settings(self.world.scope, flow.id, submission).await
    }

    /// Links the account that the provider names.
    async fn link(&self, proof: &Proof, claims: Value) -> Result<Arrived, ArrivalRejection> {
        let away = self.change(proof, Some("idp"), None).await;
        let Err(SettingsRejection::Away(url)) = away else { panic!("{away:?}") };
        *self.idp.nonce.lock() = parameter(&url, "nonce");
        self.idp.says(claims);
        let brought = Brought { proof: Some(proof.clone()), ..Town::back(&url) };
        self.arrive(brought).await.map(|arrival| arrival.arrived)
    }

    async fn kinds(&self) -> Vec<String> {
        let page = PageRequest::default();
        let (scope, filter) = (self.world.scope, AuditFilter::default());
        let strong = cardea_storage::Consistency::Strong;
        let found = self.world.service.list_audit_events(scope, filter, &page, strong).await;
        found.unwrap().items.into_iter().map(|event| event.kind).collect()
    }

    async fn mails(&self) -> usize {
        let (scope, page) = (self.world.scope, PageRequest::default());
        let found = self.world.service.list_messages(scope, &Default::default(), &page).await;
        found.unwrap().items.len()
    }
}

#[tokio::test]
async fn linking_and_unlinking_are_told_to_hooks_events_and_the_owner() {
    let town = town();
    town.hook_answers(200);
    town.world.register("ann@example.org").await;
    let proof = town.world.proof("ann@example.org").await;
    let other = town.world.proof("ann@example.org").await;
    let mails = town.mails().await;
    let arrived = town.link(&proof, json!({"sub": "ann"})).await.unwrap();
    assert!(matches!(arrived, Arrived::Linked), "{arrived:?}");
    assert_eq!((town.hooks_asked().len(), town.mails().await), (1, mails + 1));
    assert!(town.hooks_asked()[0].contains("ann@example.org"));
    assert_eq!(town.kinds().await.iter().filter(|kind| *kind == "account.linked").count(), 1);
    assert!(town.world.recognised(&other).await, "another way in ends nothing");
    town.change(&proof, None, Some("idp")).await.unwrap();
    assert_eq!((town.hooks_asked().len(), town.mails().await), (2, mails + 2));
    assert_eq!(town.kinds().await.iter().filter(|kind| *kind == "account.unlinked").count(), 1);
    let left = (town.world.recognised(&proof).await, town.world.recognised(&other).await);
    assert_eq!(left, (true, false), "a way in that was taken away ends other sessions");
}

#[tokio::test]
async fn nothing_is_linked_or_unlinked_that_a_hook_refuses() {
    let town = town();
    town.world.register("ann@example.org").await;
    let proof = town.world.proof("ann@example.org").await;
    town.hook_answers(500);
    let refused = town.link(&proof, json!({"sub": "ann"})).await;
    assert!(matches!(refused, Err(ArrivalRejection::Hook(_))), "{refused:?}");
    town.hook_answers(200);
    town.link(&proof, json!({"sub": "ann"})).await.unwrap();
    town.hook_answers(500);
    let refused = town.change(&proof, None, Some("idp")).await;
    assert!(matches!(refused, Err(SettingsRejection::Hook(_))), "{refused:?}");
    let kinds = town.kinds().await;
    assert!(kinds.contains(&"account.linked".to_owned()), "{kinds:?}");
    assert!(!kinds.contains(&"account.unlinked".to_owned()), "{kinds:?}");
}

/// Whenever somebody becomes one who may get in, a hook that may stop it is asked.
#[tokio::test]
async fn nobody_gets_in_whom_no_hook_was_asked_about() {
    use crate::{identity::IdentityChange, model::IdentityState};
    let mut stopped = 0;
    for reads in 0.. {
        let town = Town::of(Settings {
            providers: Providers::new(vec![provider("idp", MAPPER)]),
            hooks: Hooks::new(vec![awaited(Purpose::Login)]),
            ..settings()
        });
        let id = issued(town.come(ann()).await.unwrap()).session.identity_id;
        let (service, scope) = (town.world.service.clone(), town.world.scope);
        let becomes = |state| {
            let traits = crate::testing::traits("ann@example.org");
            IdentityChange { traits, state: Some(state), ..IdentityChange::default() }
        };
        service.update_identity(scope, id, becomes(IdentityState::Inactive)).await.unwrap();
        let active = becomes(IdentityState::Active);
        let change = async move {
            service.update_identity(scope, id, active).await.unwrap();
        };
        town.hook_answers(403);
        *town.world.counted.meanwhile.lock() = Some((reads, Box::pin(change)));
        match town.come(ann()).await {
            Err(ArrivalRejection::Hook(_) | ArrivalRejection::Disabled) => {}
            Ok(Arrived::Form(flow)) => assert_eq!(ids(&flow), [4_000_006]),
            other => panic!("before read {reads}: {other:?}"),
        }
        if town.world.counted.meanwhile.lock().take().is_some() {
            break;
        }
        stopped += town.hooks_asked().len();
    }
    assert!(stopped > 0);
}
