//! An account at a provider is one factor: whoever has a second one is asked for it as
//! after any other.

use std::time::Duration;

use cardea_storage::{Clock as _, Consistency};

use super::*;
use crate::{
    factor::totp::{Seed, step_at},
    flow::BeginRejection,
    session::{Aal, RequiredAal},
    table::{FlowKey, Flows, id_of},
};

impl Town {
    fn code(&self, seed: &Seed) -> Secret<String> {
        secret(&seed.code(step_at(self.world.clock.now())))
    }

    /// Adds an authenticator app to whoever has a session.
    async fn add_app(&self, proof: &Proof) -> Seed {
        let (service, scope) = (&self.world.service, self.world.scope);
        let begin = BeginSettings {
            browser: Some(BROWSER),
            proof: Some(proof.clone()),
            ..BeginSettings::default()
        };
        let flow = service.begin_settings(scope, begin).await.unwrap();
        let key = FlowKey { tenant: scope.tenant, id: flow.id.0 };
        let view = service.store.view(Consistency::Strong);
        let record = view.peek::<Flows>(&key).await.unwrap().unwrap().record;
        let seed = service.open_seed(id_of(&record.subject), &record.totp_seed).unwrap();
        let submission = SettingsSubmission {
            method: "totp".to_owned(),
            totp_code: Some(self.code(&seed)),
            proof: Some(proof.clone()),
            ..SettingsSubmission::default()
        };
        service.submit_settings(scope, flow.id, submission).await.unwrap();
        seed
    }
}

#[tokio::test]
async fn who_comes_from_a_provider_is_asked_for_the_second_factor() {
    let town = Town::new();
    let (service, scope) = (&town.world.service, town.world.scope);
    let first = issued(town.come(ann()).await.unwrap());
    let seed = town.add_app(&Proof::Token(first.token.clone())).await;
    town.world.clock.advance(Duration::from_secs(60));
    let again = issued(town.come(json!({"sub": "ann"})).await.unwrap());
    let mine = Proof::Token(again.token.clone());
    let seen = service.check_session(scope, &mine, Consistency::Strong).await.unwrap();
    assert_eq!((seen.identity_id, seen.aal), (first.session.identity_id, Aal::Aal1));
    assert!(!seen.satisfies(RequiredAal::HighestAvailable), "the provider alone is not enough");
    let begin = BeginSettings {
        browser: Some(BROWSER),
        proof: Some(mine.clone()),
        ..BeginSettings::default()
    };
    let settings = service.begin_settings(scope, begin).await;
    assert!(matches!(settings, Err(BeginRejection::SecondFactorRequired)), "{settings:?}");

    let begin = BeginLogin {
        aal: Some(Aal::Aal2),
        browser: Some(BROWSER),
        proof: Some(mine.clone()),
        ..BeginLogin::default()
    };
    let flow = service.begin_login(scope, begin).await.unwrap();
    assert!(flow.ui.nodes.iter().all(|node| node.name() != "provider"), "that is the first");
    // Nor is it one for who asks for it all the same, as for any other first factor.
    let social = SocialSubmission { provider: Some("idp".to_owned()), ..Default::default() };
    let submission = LoginSubmission {
        method: "oidc".to_owned(),
        social,
        proof: Some(mine.clone()),
        ..LoginSubmission::default()
    };
    let sent = service.submit_login(scope, flow.id, submission, &client("192.0.2.1")).await;
    let Err(LoginRejection::Invalid(told)) = sent else { panic!("{sent:?}") };
    assert!(ids(&told).ends_with(&[4_010_002]), "{:?}", ids(&told));
    let submit = async |code: Secret<String>| {
        let submission = LoginSubmission {
            method: "totp".to_owned(),
            totp_code: Some(code),
            proof: Some(mine.clone()),
            ..LoginSubmission::default()
        };
        service.submit_login(scope, flow.id, submission, &client("192.0.2.1")).await
    };
    assert!(matches!(submit(secret("000000")).await, Err(LoginRejection::Invalid(_))));
    let stepped = submit(town.code(&seed)).await.unwrap().issued.session;
    assert_eq!((stepped.id, stepped.aal), (again.session.id, Aal::Aal2));
    let methods: Vec<_> = stepped.methods.iter().map(|method| method.method.name()).collect();
    assert_eq!(methods, ["oidc", "totp"]);
    assert!(
        service
            .check_session(scope, &mine, Consistency::Strong)
            .await
            .unwrap()
            .satisfies(RequiredAal::HighestAvailable)
    );
}
