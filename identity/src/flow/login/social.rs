//! Logging in by a provider: by going there, or with an ID token that an application
//! got by itself.

use super::{LoggedIn, LoginRejection, LoginSubmission, Sender};
use crate::{
    Service,
    flow::{
        ArrivalRejection, Arrived,
        social::{arrive::Guest, depart::Departure},
    },
    ui::Text,
};

impl Service {
    pub(super) async fn log_in_by_provider(
        &self,
        sender: Sender<'_>,
        submission: LoginSubmission,
    ) -> Result<LoggedIn, LoginRejection> {
        let Sender { scope, id, client } = sender;
        let (record, mut flow) = self.open_login(sender).await?;
        if record.requested_aal == 2 {
            return Err(LoginRejection::say(flow, Text::login_method_missing()));
        }
        let LoginSubmission { social, proof, .. } = submission;
        let Some(provider) = self.named_provider(&mut flow, &social) else {
            return Err(LoginRejection::Invalid(Box::new(flow)));
        };
        let Some(id_token) = &social.id_token else {
            return match self.depart(scope, &mut flow, (&record, provider), &social).await? {
                Departure::Away(url) => Err(LoginRejection::Away(url)),
                Departure::Stays => Err(LoginRejection::Invalid(Box::new(flow))),
            };
        };
        let source = self.source(scope, client);
        self.source_may_try(scope, &source).await?.map_err(LoginRejection::Throttled)?;
        let proof = proof.as_ref();
        let elsewhere = false;
        let guest = Guest { scope, id, record: &record, provider, client, proof, elsewhere };
        let nonce = social.id_token_nonce.as_deref();
        match self.take_token(&guest, flow, (id_token, nonce), social.traits.clone()).await {
            Ok(Arrived::LoggedIn(issued)) => Ok(LoggedIn { issued: *issued }),
            Ok(Arrived::Form(flow)) => Err(LoginRejection::Invalid(flow)),
            Ok(Arrived::Registered(registered)) => match registered.issued {
                Some(issued) => Ok(LoggedIn { issued }),
                // It has signed up, and signing up does not log in.
                None => {
                    let flow = self.show_flow(id, &record);
                    Err(LoginRejection::say(flow, Text::login_already_completed()))
                }
            },
            Ok(Arrived::Unverified(started)) => Err(LoginRejection::Unverified(started)),
            Ok(Arrived::Linked | Arrived::Tried) => Err(LoginRejection::IdentityMismatch),
            Err(ArrivalRejection::Disabled) => Err(LoginRejection::Disabled),
            Err(ArrivalRejection::Flow(rejection)) => Err(rejection.into()),
            Err(ArrivalRejection::Throttled(early)) => Err(LoginRejection::Throttled(early)),
            Err(ArrivalRejection::Hook(failed)) => Err(LoginRejection::Hook(failed)),
            Err(ArrivalRejection::Store(error)) => Err(error.into()),
            Err(_) => Err(LoginRejection::IdentityMismatch),
        }
    }
}
