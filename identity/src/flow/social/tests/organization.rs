//! Organizations, whose people come through their own provider and by nothing else.

use cardea_storage::Consistency;
use uuid::Uuid;

use super::*;
use crate::{
    flow::{BeginCode, BeginRejection, CodeOutcome, CodeRejection, CodeSubmission, NewRecovery},
    hook::{Action, Hook, Hooks, Moment},
    identity::{CredentialDetail, Edit, IdentityChange, ImportedAddress, NewIdentity, NewPassword},
    schema::Channel,
    social::organization::{Organization, Organizations},
    ui::Group,
    webauthn::{
        RelyingParty,
        tests::soft::{Key, Soft},
    },
};

pub(super) const ACME: Uuid = Uuid::from_u128(0xac3e);
const RIVAL: Uuid = Uuid::from_u128(0x417a1);

pub(super) fn town() -> Town {
    Town::of(acme(None))
}

/// Where Acme has the provider `idp`, its rival another, and `other` is anybody's; with a
/// further hook.
pub(super) fn acme(more: Option<Hook>) -> Settings {
    let of = |id: &str, organization| Provider { organization, ..provider(id, MAPPER) };
    let providers = vec![of("idp", Some(ACME)), of("rival", Some(RIVAL)), of("other", None)];
    let acme = Organization {
        id: ACME,
        label: "Acme".to_owned(),
        domains: vec!["acme.example".to_owned()],
    };
    let hook = |purpose| Hook {
        purpose,
        moment: Moment::After,
        method: None,
        action: Action::BindToOrganization,
    };
    let party = RelyingParty {
        id: "example.org".to_owned(),
        name: "Example".to_owned(),
        origins: vec!["https://id.example.org".to_owned()],
    };
    Settings {
        relying_party: Some(party),
        passwordless_keys: true,
        providers: Providers::new(providers),
        organizations: Organizations::new(vec![acme]),
        hooks: Hooks::new(
            [Purpose::Login, Purpose::Registration].map(hook).into_iter().chain(more).collect(),
        ),
        recovery: true,
        ..settings()
    }
}

impl Town {
    async fn login_of(&self, organization: Option<Uuid>) -> Result<Flow, BeginRejection> {
        let begin = BeginLogin { browser: Some(BROWSER), organization, ..BeginLogin::default() };
        self.world.service.begin_login(self.world.scope, begin).await
    }

    /// A whole journey through Acme's provider.
    async fn come_to_acme(&self, claims: Value) -> Result<Arrived, ArrivalRejection> {
        self.idp.says(claims);
        let flow = self.login_of(Some(ACME)).await.unwrap();
        let url = self.leave(flow.id, "idp").await;
        self.arrive(Self::back(&url)).await.map(|arrival| arrival.arrived)
    }

    /// Somebody with a password, of an organization.
    pub(super) async fn member(&self, email: &str, organization: Option<Uuid>) -> Identity {
        let new = NewIdentity {
            traits: crate::testing::traits(email),
            password: Some(NewPassword::Clear(secret(PASSWORD))),
            addresses: vec![ImportedAddress {
                via: Channel::Email,
                value: email.to_owned(),
                verified_at: Some(START),
            }],
            organization,
            ..NewIdentity::default()
        };
        self.world.service.create_identity(self.world.scope, new).await.unwrap()
    }

    pub(super) async fn read(&self, id: crate::IdentityId) -> Identity {
        let (service, scope) = (&self.world.service, self.world.scope);
        let detail = CredentialDetail::WithAccounts;
        service.identity(scope, id, detail, Consistency::Strong).await.unwrap()
    }

    async fn organization(&self, id: crate::IdentityId) -> Option<Uuid> {
        self.read(id).await.organization
    }

    /// An administrator makes somebody a member, or takes that away.
    pub(super) async fn assign(&self, id: crate::IdentityId, organization: Option<Uuid>) {
        let identity = self.read(id).await;
        let change = IdentityChange {
            schema_id: identity.schema_id.clone(),
            traits: identity.traits.clone(),
            organization: Edit::Set(organization),
            ..IdentityChange::default()
        };
        self.world.service.update_identity(self.world.scope, id, change).await.unwrap();
    }
}

/// The options that a node of a form carries.
fn options(flow: &Flow, name: &str) -> Value {
    let node = flow.ui.find(name).unwrap_or_else(|| panic!("{name} is not there"));
    let crate::ui::Attributes::Input(input) = &node.attributes else { panic!("no input") };
    serde_json::from_str(input.value.as_ref().unwrap().as_str().unwrap()).unwrap()
}

fn new_password() -> SettingsSubmission {
    SettingsSubmission {
        method: "password".to_owned(),
        password: Some(secret("another long password")),
        ..SettingsSubmission::default()
    }
}

fn linking(provider: &str) -> SettingsSubmission {
    SettingsSubmission {
        method: "oidc".to_owned(),
        link: Some(provider.to_owned()),
        ..SettingsSubmission::default()
    }
}

/// That the organization manages it.
fn is_managed(outcome: Result<Flow, SettingsRejection>) -> bool {
    let Err(SettingsRejection::Invalid(flow)) = outcome else { panic!("{outcome:?}") };
    ids(&flow) == [1_050_023]
}

/// The providers that a form offers, and whether it offers anything else.
fn offered(flow: &Flow) -> (Vec<String>, bool) {
    let mut providers = Vec::new();
    let mut others = false;
    for node in &flow.ui.nodes {
        match (&node.attributes, node.name()) {
            (crate::ui::Attributes::Input(input), "provider") => {
                providers.push(input.value.as_ref().unwrap().as_str().unwrap().to_owned());
            }
            (_, "csrf_token") => {}
            _ => others = true,
        }
    }
    (providers, others)
}

fn refused(outcome: Result<crate::flow::LoggedIn, LoginRejection>) -> Flow {
    match outcome {
        Err(LoginRejection::Invalid(flow)) => *flow,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn flow_of_an_organization_offers_its_provider_alone_and_no_other_flow_does() {
    let town = town();
    let plain = town.login_of(None).await.unwrap();
    assert_eq!((offered(&plain), plain.organization), ((vec!["other".to_owned()], true), None));
    let of_acme = town.login_of(Some(ACME)).await.unwrap();
    assert_eq!(offered(&of_acme), (vec!["idp".to_owned()], false));
    assert_eq!(of_acme.organization, Some(ACME));
    let nobody = town.login_of(Some(Uuid::from_u128(1))).await;
    assert!(matches!(nobody, Err(BeginRejection::UnknownOrganization(_))), "{nobody:?}");
    let social = |id: &str| SocialSubmission {
        provider: Some(id.to_owned()),
        ..SocialSubmission::default()
    };
    for (flow, provider) in [(&plain, "idp"), (&of_acme, "rival"), (&of_acme, "other")] {
        let submission = LoginSubmission {
            method: "oidc".to_owned(),
            social: social(provider),
            ..LoginSubmission::default()
        };
        let (service, guest) = (&town.world.service, client("192.0.2.1"));
        let outcome = service.submit_login(town.world.scope, flow.id, submission, &guest).await;
        assert_eq!(ids(&refused(outcome)), [4_000_001], "{provider}");
    }
}

#[tokio::test]
async fn who_comes_through_its_provider_belongs_to_the_organization() {
    let town = town();
    let stranger = json!({"sub": "zoe", "email": "zoe@acme.example", "email_verified": true});
    let first = issued(town.come_to_acme(stranger.clone()).await.unwrap());
    assert_eq!(town.organization(first.session.identity_id).await, Some(ACME));
    let again = issued(town.come_to_acme(stranger).await.unwrap());
    assert_eq!(again.session.identity_id, first.session.identity_id);
    // Somebody who was there before, and is linked at once.
    let local = town.member("ann@example.org", None).await;
    let linked = issued(town.come_to_acme(ann()).await.unwrap());
    assert_eq!(linked.session.identity_id, local.id);
    assert_eq!(town.organization(local.id).await, Some(ACME));
}

#[tokio::test]
async fn who_belongs_to_another_organization_stays_there() {
    let town = town();
    let local = town.member("ann@example.org", Some(RIVAL)).await;
    let arrived = town.come_to_acme(ann()).await.unwrap();
    let flow = form(arrived);
    assert_eq!(flow.organization, Some(RIVAL));
    assert_eq!(town.organization(local.id).await, Some(RIVAL));
}

#[tokio::test]
async fn member_is_led_to_the_provider_and_only_once_the_password_was_right() {
    let town = town();
    town.member("ann@acme.example", Some(ACME)).await;
    let wrong = refused(town.world.log_in("ann@acme.example", "not this one either").await);
    assert_eq!((ids(&wrong), wrong.organization), (vec![4_000_006], None));
    let right = refused(town.world.log_in("ann@acme.example", PASSWORD).await);
    assert_eq!((ids(&right), right.organization), (vec![4_000_001], Some(ACME)));
    assert_eq!(offered(&right), (vec!["idp".to_owned()], false));
    // The flow stays the organization's, whatever is sent to it.
    let again = town.world.submit_login(right.id, "ann@acme.example", PASSWORD, "192.0.2.1").await;
    assert_eq!(refused(again).organization, Some(ACME));
    // Who belongs to none logs in as before, and so do those of one without a provider.
    town.member("bob@example.org", None).await;
    town.world.log_in("bob@example.org", PASSWORD).await.unwrap();
    town.member("cyd@example.org", Some(Uuid::from_u128(5))).await;
    town.world.log_in("cyd@example.org", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn address_of_its_domain_signs_up_through_the_provider_alone() {
    let town = town();
    let flow = town.world.begin_registration().await;
    let refused = town.world.submit_registration(flow.id, "eve@ACME.example").await;
    let Err(RegistrationRejection::Invalid(flow)) = refused else { panic!("{refused:?}") };
    assert_eq!((flow.organization, offered(&flow)), (Some(ACME), (vec!["idp".to_owned()], false)));
    assert!(town.find("eve@acme.example").await.is_empty());
    let again = town.world.submit_registration(flow.id, "bob@example.org").await;
    assert!(matches!(again, Err(RegistrationRejection::Invalid(_))), "{again:?}");
    town.world.register("bob@example.org").await;
}

/// Who has the mailbox, and is no longer let in by the organization.
#[tokio::test]
async fn member_does_not_recover_by_mail_but_by_an_administrators_code() {
    let town = town();
    let (service, scope, guest) = (&town.world.service, town.world.scope, client("192.0.2.1"));
    let member = town.member("ann@acme.example", Some(ACME)).await;
    let purpose = Purpose::Recovery;
    let flow = service.begin_code(scope, purpose, BeginCode::default()).await.unwrap();
    let send = CodeSubmission {
        method: "code".to_owned(),
        email: Some("ann@acme.example".to_owned()),
        ..CodeSubmission::default()
    };
    service.submit_code(scope, (purpose, flow.id), send, &guest).await.unwrap();
    let page = crate::PageRequest::default();
    let sent = service.list_messages(scope, &Default::default(), &page).await.unwrap();
    let body = &sent.items[0].body;
    let digits = body.as_bytes().windows(6).position(|w| w.iter().all(u8::is_ascii_digit)).unwrap();
    let code = |code: &str| CodeSubmission {
        method: "code".to_owned(),
        code: Some(secret(code)),
        ..CodeSubmission::default()
    };
    let mailed = code(&body[digits..digits + 6]);
    let refused = service.submit_code(scope, (purpose, flow.id), mailed, &guest).await;
    let Err(CodeRejection::Invalid(flow)) = refused else { panic!("{refused:?}") };
    assert_eq!(ids(&flow), [4_000_001]);
    let given = service.create_recovery_code(scope, member.id, NewRecovery::default()).await;
    let given = given.unwrap();
    let handed = code(given.code.expose());
    let done = service.submit_code(scope, (purpose, given.flow), handed, &guest).await;
    assert!(matches!(done, Ok(CodeOutcome::Recovered { .. })), "{done:?}");
}

#[tokio::test]
async fn member_does_not_unlink_what_the_organization_linked() {
    let town = town();
    let first = issued(town.come_to_acme(ann()).await.unwrap());
    let proof = Proof::Token(first.token.clone());
    let flow = town.world.settings(&proof).await.unwrap();
    assert!(flow.ui.nodes.iter().all(|node| node.name() != "unlink"));
    let unlink = SettingsSubmission {
        method: "oidc".to_owned(),
        unlink: Some("idp".to_owned()),
        ..SettingsSubmission::default()
    };
    assert!(is_managed(town.world.change(&flow, &proof, unlink).await));
}

#[tokio::test]
async fn sessions_and_credentials_say_whose_provider_it_was() {
    let town = town();
    let first = issued(town.come_to_acme(ann()).await.unwrap());
    let method = &first.session.methods[0];
    assert_eq!((method.provider.as_deref(), method.organization), (Some("idp"), Some(ACME)));
    let member = town.read(first.session.identity_id).await;
    let account = member.credentials.iter().flat_map(|held| &held.accounts).next().unwrap();
    assert_eq!((account.provider.as_str(), account.organization), ("idp", Some(ACME)));
    // What is anybody's provider is no organization's.
    let other = Town::new();
    let first = issued(other.come(ann()).await.unwrap());
    let method = &first.session.methods[0];
    assert_eq!((method.provider.as_deref(), method.organization), (Some("idp"), None));
    let stranger = other.read(first.session.identity_id).await;
    let account = stranger.credentials.iter().flat_map(|held| &held.accounts).next().unwrap();
    assert_eq!(account.organization, None);
}

/// Somebody with a flow that was opened before the organization had it.
#[tokio::test]
async fn settings_of_a_member_take_no_way_round_the_provider() {
    let town = town();
    let local = town.member("ann@example.org", None).await;
    let first = town.world.log_in("ann@example.org", PASSWORD).await.unwrap().issued;
    let proof = Proof::Token(first.token);
    let flow = town.world.settings(&proof).await.unwrap();
    let mut soft = Soft::new(Key::es256());
    let passkey = SettingsSubmission {
        passkey_settings_register: Some(soft.create(&options(&flow, "passkey_create_data"))),
        ..SettingsSubmission::default()
    };
    let key = SettingsSubmission {
        webauthn_register: Some(soft.create(&options(&flow, "webauthn_register_trigger"))),
        webauthn_register_displayname: Some("blue".to_owned()),
        ..SettingsSubmission::default()
    };
    assert!(flow.ui.find("password").is_some() && flow.ui.find("link").is_some());
    town.assign(local.id, Some(ACME)).await;
    for way in [new_password(), passkey, key, linking("other"), linking("idp")] {
        let told = format!("{way:?}");
        assert!(is_managed(town.world.change(&flow, &proof, way).await), "{told}");
    }
    let offered = town.world.settings(&proof).await.unwrap();
    assert_eq!(ids(&offered), [1_050_023]);
    let offered = offered.ui;
    let ways = [Group::Password, Group::Passkey, Group::Webauthn, Group::Oidc];
    let left: Vec<_> = offered.nodes.iter().filter(|node| ways.contains(&node.group)).collect();
    assert!(left.is_empty(), "{left:?}");
    // What it says of itself stays its own to change.
    let profile = SettingsSubmission {
        method: "profile".to_owned(),
        traits: crate::testing::traits("ann@example.org"),
        ..SettingsSubmission::default()
    };
    town.world.change(&flow, &proof, profile).await.unwrap();
    // None of it was kept, nor did the old password cease to be one.
    town.assign(local.id, None).await;
    let other = town.world.log_in("ann@example.org", "another long password").await;
    assert_eq!(ids(&refused(other)), [4_000_006]);
    town.world.log_in("ann@example.org", PASSWORD).await.unwrap();
    let flow = town.world.settings(&proof).await.unwrap();
    town.world.change(&flow, &proof, new_password()).await.unwrap();
}

/// It left for a provider before the organization had it, and comes back a member.
#[tokio::test]
async fn account_that_a_member_brings_back_is_not_linked() {
    let town = town();
    let local = town.member("ann@example.org", None).await;
    let first = town.world.log_in("ann@example.org", PASSWORD).await.unwrap().issued;
    let proof = Proof::Token(first.token);
    for member in [true, false] {
        town.assign(local.id, None).await;
        let flow = town.world.settings(&proof).await.unwrap();
        let away = town.world.change(&flow, &proof, linking("other")).await;
        let Err(SettingsRejection::Away(url)) = away else { panic!("{away:?}") };
        *town.idp.nonce.lock() = parameter(&url, "nonce");
        town.idp.says(json!({"sub": "elsewhere"}));
        town.assign(local.id, member.then_some(ACME)).await;
        let back = Brought {
            provider: Some("other".to_owned()),
            proof: Some(proof.clone()),
            ..Town::back(&url)
        };
        let arrived = town.arrive(back).await.unwrap().arrived;
        assert_eq!(matches!(arrived, Arrived::Form(_)), member, "{arrived:?}");
        let linked =
            town.read(local.id).await.credentials.iter().any(|held| !held.accounts.is_empty());
        assert_eq!(linked, !member);
    }
}

/// As in Kratos: nobody links an organization's provider in settings.
#[tokio::test]
async fn provider_of_an_organization_is_not_linked_in_settings() {
    let town = town();
    town.member("bob@example.org", None).await;
    let first = town.world.log_in("bob@example.org", PASSWORD).await.unwrap().issued;
    let proof = Proof::Token(first.token);
    let flow = town.world.settings(&proof).await.unwrap();
    let links = flow.ui.nodes.iter().filter(|node| node.name() == "link");
    assert_eq!(links.count(), 1);
    let refused = town.world.change(&flow, &proof, linking("idp")).await;
    let Err(SettingsRejection::Invalid(flow)) = refused else { panic!("{refused:?}") };
    assert_eq!(ids(&flow), [4_000_001]);
}
