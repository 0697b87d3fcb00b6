//! Signing up by a provider: by going there, with an ID token that an application got by
//! itself, or with what is still missing, once a provider has named somebody.

use serde_json::{Map, Value};

use super::{Opened, Registered, RegistrationRejection, RegistrationSubmission, Sender};
use crate::{
    Service,
    flow::{
        ArrivalRejection, Arrived,
        social::{arrive::Guest, depart::Departure},
    },
};

impl Service {
    pub(super) async fn register_by_provider(
        &self,
        sender: Sender<'_>,
        submission: RegistrationSubmission,
    ) -> Result<Registered, RegistrationRejection> {
        let Sender { scope, id, client } = sender;
        let Opened { record, mut flow, .. } = self.open_registration(sender).await?;
        let RegistrationSubmission { social, traits, .. } = submission;
        let typed = if traits.is_null() { Value::Object(Map::new()) } else { traits };
        let social = super::SocialSubmission { traits: typed.clone(), ..social };
        let Some(provider) = self.named_provider(&mut flow, &social) else {
            return Err(RegistrationRejection::Invalid(Box::new(flow)));
        };
        let (proof, elsewhere) = (None, false);
        let guest = Guest { scope, id, record: &record, provider, client, proof, elsewhere };
        let waits = self.pending(id, &record).filter(|pending| pending.provider == provider.id);
        let arrived = match (&social.id_token, waits) {
            (None, Some(pending)) => self.sign_up(&guest, flow, pending, typed).await,
            (Some(id_token), _) => {
                let source = self.source(scope, client);
                let may = self.source_may_try(scope, &source).await?;
                may.map_err(RegistrationRejection::Throttled)?;
                let nonce = social.id_token_nonce.as_deref();
                self.take_token(&guest, flow, (id_token, nonce), typed).await
            }
            (None, None) => {
                return match self.depart(scope, &mut flow, (&record, provider), &social).await? {
                    Departure::Away(url) => Err(RegistrationRejection::Away(url)),
                    Departure::Stays => Err(RegistrationRejection::Invalid(Box::new(flow))),
                };
            }
        };
        match arrived {
            Ok(Arrived::Registered(registered)) => Ok(*registered),
            Ok(Arrived::LoggedIn(issued)) => Err(RegistrationRejection::LoggedIn(issued)),
            Ok(Arrived::Form(flow)) => Err(RegistrationRejection::Invalid(flow)),
            Ok(Arrived::Unverified(started)) => Err(RegistrationRejection::Unverified(started)),
            Err(ArrivalRejection::Flow(rejection)) => Err(rejection.into()),
            Err(ArrivalRejection::Throttled(early)) => Err(RegistrationRejection::Throttled(early)),
            Err(ArrivalRejection::Hook(failed)) => Err(RegistrationRejection::Hook(failed)),
            Err(ArrivalRejection::Store(error)) => Err(error.into()),
            Ok(Arrived::Linked | Arrived::Tried) | Err(_) => Err(RegistrationRejection::Disabled),
        }
    }
}
