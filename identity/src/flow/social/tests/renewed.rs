//! What a provider says of somebody at each login: who it is by now, and how it was
//! authenticated there.

use super::*;
use crate::{
    flow::throttle::Throttle,
    model::Session,
    session::{Aal, RequiredAal},
    social::claims::Upstream,
};

/// With what else is said of somebody, which administrators see.
const GROUPS: &str = "local claims = std.extVar('claims'); local was = std.extVar('identity');
    { identity: {
    traits: { email: claims.email, [if 'given_name' in claims then 'name']:
        { first: claims.given_name } },
    metadata_admin: { groups: std.get(claims, 'groups', []), before: was != null },
    verified_addresses: if claims.email_verified then [{ via: 'email', value: claims.email }] else [],
} }";

fn renewing() -> Town {
    Town::with(vec![Provider { renews: true, ..provider("idp", GROUPS) }])
}

fn ann_with(more: Value) -> Value {
    let mut said = ann();
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

impl Town {
    async fn read_whole(&self, id: crate::IdentityId) -> Identity {
        let detail = crate::identity::CredentialDetail::Outline;
        let strong = cardea_storage::Consistency::Strong;
        self.world.service.identity(self.world.scope, id, detail, strong).await.unwrap()
    }
}

#[tokio::test]
async fn identity_becomes_what_its_provider_says_where_that_is_wanted() {
    let town = renewing();
    let id =
        issued(town.come(ann_with(json!({"groups": ["a"]}))).await.unwrap()).session.identity_id;
    let first = town.read_whole(id).await;
    assert_eq!(first.metadata_admin, Some(json!({"groups": ["a"], "before": false})));
    // What it says of itself beside that stays.
    let change = crate::identity::IdentityChange {
        traits: json!({"email": "ann@example.org", "name": {"first": "Ann", "last": "Other"}}),
        metadata_public: Some(json!({"plan": "free"})),
        metadata_admin: first.metadata_admin.clone(),
        ..Default::default()
    };
    town.world.service.update_identity(town.world.scope, id, change).await.unwrap();
    let moved = json!({"email": "anna@example.org", "given_name": "Anna", "groups": ["b"]});
    let session = issued(town.come(ann_with(moved)).await.unwrap()).session;
    assert_eq!(session.identity_id, id);
    let traits = json!({"email": "anna@example.org", "name": {"first": "Anna", "last": "Other"}});
    assert_eq!(session.identity.unwrap().traits, traits, "the session shows it at once");
    let read = town.read_whole(id).await;
    assert_eq!(read.traits, traits);
    assert_eq!(read.metadata_public, Some(json!({"plan": "free"})));
    assert_eq!(read.metadata_admin, Some(json!({"groups": ["b"], "before": true})));
    assert_eq!(read.verifiable_addresses[0].status(), "completed");
    assert_eq!(town.find("anna@example.org").await, [id]);
    assert_eq!(town.find("ann@example.org").await, []);
    // An address that the provider did not verify is not verified by that.
    let unverified = json!({"email": "a@example.org", "email_verified": false});
    issued(town.come(ann_with(unverified)).await.unwrap());
    assert_eq!(town.read_whole(id).await.verifiable_addresses[0].status(), "pending");
}

/// Whatever an administrator changes while somebody logs in is not undone by that.
#[tokio::test]
async fn what_changes_while_somebody_logs_in_is_mapped_with_it() {
    const KEEPING: &str = "local is = std.extVar('identity'); { identity: {
        traits: { email: std.extVar('claims').email },
        metadata_admin: { [if is != null then 'notes']: is.metadata_admin.notes, new: is == null } } }";
    let mut overtaken = 0;
    for reads in 0.. {
        let town = Town::with(vec![Provider { renews: true, ..provider("idp", KEEPING) }]);
        let noted = |notes: u32| crate::identity::IdentityChange {
            traits: json!({"email": "ann@example.org"}),
            metadata_admin: Some(json!({"notes": notes})),
            ..Default::default()
        };
        let id = issued(town.come(ann()).await.unwrap()).session.identity_id;
        let (service, scope) = (town.world.service.clone(), town.world.scope);
        service.update_identity(scope, id, noted(1)).await.unwrap();
        let later = noted(2);
        let change = async move {
            service.update_identity(scope, id, later).await.unwrap();
        };
        *town.world.counted.meanwhile.lock() = Some((reads, Box::pin(change)));
        let session = issued(town.come(ann()).await.unwrap()).session;
        if town.world.counted.meanwhile.lock().take().is_some() {
            // It was over before.
            break;
        }
        let notes = town.read_whole(id).await.metadata_admin.unwrap()["notes"].clone();
        assert_eq!(notes, 2, "before read {reads}");
        overtaken += usize::from(session.identity_id == id);
    }
    assert!(overtaken > 3, "{overtaken}");
}

/// Where a verified address is required, it is one of what somebody has become.
#[tokio::test]
async fn nobody_gets_in_by_an_address_that_its_provider_took_away() {
    let require = crate::hook::Hook {
        purpose: Purpose::Login,
        moment: crate::hook::Moment::After,
        method: None,
        action: crate::hook::Action::RequireVerifiedAddress,
    };
    let unverified = json!({"email": "anna@example.org", "email_verified": false});
    for verification in [true, false] {
        let providers = vec![Provider { renews: true, ..provider("idp", GROUPS) }];
        let town = Town::of(Settings {
            providers: Providers::new(providers),
            hooks: crate::hook::Hooks::new(vec![require.clone()]),
            verification,
            ..settings()
        });
        let id = issued(town.come(ann()).await.unwrap()).session.identity_id;
        issued(town.come(ann()).await.unwrap());
        match town.come(ann_with(unverified.clone())).await.unwrap() {
            Arrived::Unverified(started) if verification => {
                assert_eq!(started.address, "anna@example.org");
            }
            Arrived::Form(flow) if !verification => assert_eq!(ids(&flow), [4_000_010]),
            other => panic!("{other:?}"),
        }
        let read = town.read_whole(id).await;
        assert_eq!(read.traits["email"], "anna@example.org");
        assert_eq!(read.verifiable_addresses[0].status(), "pending");
        // A verified one that its provider gives it back is enough.
        issued(town.come(ann()).await.unwrap());
    }
}

/// Not as if it were somebody else's account, where no provider renews it either.
#[tokio::test]
async fn who_comes_by_a_provider_without_a_verified_address_is_led_to_verify_one() {
    let require = crate::hook::Hook {
        purpose: Purpose::Login,
        moment: crate::hook::Moment::After,
        method: Some("oidc".to_owned()),
        action: crate::hook::Action::RequireVerifiedAddress,
    };
    let town = Town::of(Settings {
        providers: Providers::new(vec![provider("idp", GROUPS)]),
        hooks: crate::hook::Hooks::new(vec![require]),
        verification: true,
        ..settings()
    });
    let unverified = || ann_with(json!({"email_verified": false}));
    town.come(unverified()).await.unwrap();
    let led = town.come(unverified()).await.unwrap();
    let Arrived::Unverified(started) = led else { panic!("{led:?}") };
    assert_eq!(started.address, "ann@example.org");
}

#[tokio::test]
async fn identity_stays_as_it_is_where_nothing_else_is_wanted() {
    let town = Town::with(vec![provider("idp", GROUPS)]);
    let id = issued(town.come(ann()).await.unwrap()).session.identity_id;
    let first = town.read_whole(id).await;
    let moved = json!({"email": "anna@example.org", "groups": ["b"]});
    issued(town.come(ann_with(moved)).await.unwrap());
    assert_eq!(town.read_whole(id).await, first);
}

#[tokio::test]
async fn nobody_is_let_in_as_what_it_cannot_become() {
    let town = renewing();
    town.local("bob@example.org", true).await;
    let id = issued(town.come(ann()).await.unwrap()).session.identity_id;
    let before = town.read_whole(id).await;
    let taken = form(town.come(ann_with(json!({"email": "bob@example.org"}))).await.unwrap());
    assert_eq!(ids(&taken), [4_000_007]);
    let none = form(town.come(ann_with(json!({"email": "no address"}))).await.unwrap());
    assert_eq!(ids(&none), [4_000_001]);
    assert_eq!(none.ui.messages[0].text, "What Idp says of you now cannot be taken over.");
    assert_eq!(town.read_whole(id).await, before);
    assert_eq!(town.find("bob@example.org").await.len(), 1);
    issued(town.come(ann()).await.unwrap());
}

/// A town whose provider's word for two factors is taken.
fn vouching() -> Town {
    let text = |text: &str| vec![text.to_owned()];
    let idp =
        Provider { aal2_acr: text("urn:two"), aal2_amr: text("mfa"), ..provider("idp", MAPPER) };
    Town::with(vec![idp, provider("other", MAPPER)])
}

async fn shown(town: &Town, more: Value) -> Session {
    issued(town.come(ann_with(more)).await.unwrap()).session
}

/// N11: what stands for two factors is what an operator listed, in an ID token.
#[tokio::test]
async fn providers_word_for_two_factors_is_taken_only_as_it_was_listed() {
    let town = vouching();
    for (said, aal) in [
        (json!({}), Aal::Aal1),
        (json!({"acr": "urn:two"}), Aal::Aal2),
        (json!({"acr": "urn:two ", "amr": ["pwd"]}), Aal::Aal1),
        (json!({"acr": "mfa", "amr": ["urn:two"]}), Aal::Aal1),
        (json!({"acr": ["urn:two"], "amr": "mfa"}), Aal::Aal1),
        (json!({"amr": ["pwd", "mfa"]}), Aal::Aal2),
        (json!({"amr": [["mfa"]]}), Aal::Aal1),
    ] {
        let session = shown(&town, said.clone()).await;
        assert_eq!((session.aal, session.methods[0].aal), (aal, aal), "{said}");
        let met = RequiredAal::HighestAvailable.is_met(session.aal, true);
        assert_eq!(met, aal == Aal::Aal2);
    }
    let said = json!({"acr": "urn:two", "amr": ["pwd", "mfa"]});
    let session = shown(&town, said).await;
    let kept =
        Upstream { acr: Some("urn:two".to_owned()), amr: vec!["pwd".to_owned(), "mfa".to_owned()] };
    assert_eq!(session.methods[0].upstream, kept);
    // Who lists nothing takes no word for it, and shows it all the same.
    let town = Town::new();
    let session = shown(&town, json!({"acr": "urn:two", "amr": ["mfa"]})).await;
    assert_eq!(
        (session.aal, session.methods[0].upstream.acr.as_deref()),
        (Aal::Aal1, Some("urn:two"))
    );
}

/// What a hook is told of the session to come is what it will be.
#[tokio::test]
async fn hooks_are_told_how_a_provider_authenticated_somebody() {
    let idp = Provider { aal2_amr: vec!["mfa".to_owned()], ..provider("idp", MAPPER) };
    let town = Town::of(Settings {
        providers: Providers::new(vec![idp]),
        hooks: crate::hook::Hooks::new(vec![hooked::awaited(Purpose::Login)]),
        ..settings()
    });
    town.hook_answers(200);
    shown(&town, json!({})).await;
    let session = shown(&town, json!({"amr": ["mfa"]})).await;
    assert_eq!(session.aal, Aal::Aal2);
    let asked = town.hooks_asked();
    let told: Value = serde_json::from_str(asked.last().unwrap()).unwrap();
    let told = &told["session"];
    assert_eq!(told["authenticator_assurance_level"], json!("aal2"), "{told}");
    assert_eq!(told["authentication_methods"][0]["upstream_amr"], json!(["mfa"]));
}

/// Whoever took over the account elsewhere does not go unnoticed.
#[tokio::test]
async fn both_addresses_are_told_that_a_provider_changed_it() {
    let providers = vec![Provider { renews: true, ..provider("idp", GROUPS) }];
    let town = Town::of(Settings {
        providers: Providers::new(providers),
        notify_changes: true,
        ..settings()
    });
    let (scope, page) = (town.world.scope, crate::PageRequest::default());
    let recipients = async || -> Vec<String> {
        let found = town.world.service.list_messages(scope, &Default::default(), &page).await;
        found.unwrap().items.into_iter().map(|message| message.recipient).collect()
    };
    issued(town.come(ann()).await.unwrap());
    issued(town.come(ann_with(json!({"groups": ["a"]}))).await.unwrap());
    assert_eq!(recipients().await, [] as [&str; 0], "the address is the same");
    issued(town.come(ann_with(json!({"email": "anna@example.org"}))).await.unwrap());
    let mut told = recipients().await;
    told.sort();
    assert_eq!(told, ["ann@example.org", "anna@example.org"]);
}

/// Whoever chooses what its provider says learns of no more accounts than it may guess at.
#[tokio::test]
async fn taken_addresses_that_a_provider_gives_count_as_guesses() {
    let throttle = Throttle { source_failures_max: 2, ..Throttle::default() };
    let providers = vec![Provider { renews: true, ..provider("idp", GROUPS) }];
    let town = Town::of(Settings { providers: Providers::new(providers), throttle, ..settings() });
    town.local("bob@example.org", true).await;
    issued(town.come(ann()).await.unwrap());
    for _ in 0..2 {
        let taken = form(town.come(ann_with(json!({"email": "bob@example.org"}))).await.unwrap());
        assert_eq!(ids(&taken), [4_000_007]);
    }
    let next = town.come(ann_with(json!({"email": "eve@example.org"}))).await;
    assert!(matches!(next, Err(ArrivalRejection::Throttled(_))), "{next:?}");
}

/// The same of what somebody types whom its provider gives no address.
#[tokio::test]
async fn taken_addresses_that_are_typed_beside_a_providers_word_count_as_guesses() {
    let throttle = Throttle { source_failures_max: 2, ..Throttle::default() };
    let providers = Providers::new(vec![provider("idp", MAPPER)]);
    let town = Town::of(Settings { providers, throttle, ..settings() });
    town.local("bob@example.org", true).await;
    let submit = async |flow: FlowId| {
        let submission = RegistrationSubmission {
            method: "oidc".to_owned(),
            traits: json!({"email": "bob@example.org"}),
            social: SocialSubmission { provider: Some("idp".to_owned()), ..Default::default() },
            ..RegistrationSubmission::default()
        };
        let (service, scope) = (&town.world.service, town.world.scope);
        service.submit_registration(scope, flow, submission, &client("192.0.2.1")).await
    };
    for number in 0..3 {
        let nameless = json!({"sub": format!("eve {number}")});
        let flow = form(town.come(nameless).await.unwrap());
        match submit(flow.id).await {
            Err(RegistrationRejection::Invalid(flow)) if number < 2 => {
                assert_eq!(flow.purpose, Purpose::Login, "{:?}", ids(&flow));
            }
            Err(RegistrationRejection::Throttled(_)) if number == 2 => {}
            other => panic!("{number}: {other:?}"),
        }
    }
}
