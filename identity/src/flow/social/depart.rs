//! Sending a browser to a provider.

use cardea_storage::StoreError;
use serde_json::Value;

use super::SocialSubmission;
use crate::{
    Service,
    flow::Flow,
    model::{FlowId, Scope},
    social::{
        Provider, Untrusted,
        authorize::{self, Journey, State, callback_url},
        exchange::Desk,
    },
    table::{FlowKey, FlowRecord, Flows},
    ui::Text,
};

/// The largest traits and payload that a journey keeps, in bytes of JSON.
const LUGGAGE_BYTES_MAX: usize = 32 * 1024;

/// Where a submission that names a provider leads.
pub(in crate::flow) enum Departure {
    /// To the provider.
    Away(String),
    /// Nowhere: the form says why.
    Stays,
}

impl Service {
    /// Whether there is any provider.
    pub(in crate::flow) fn offers_social(&self) -> bool {
        self.settings.providers.iter().next().is_some()
    }

    /// How a provider is asked.
    pub(in crate::flow) fn desk<'a>(&'a self, provider: &'a Provider) -> Desk<'a> {
        Desk { outbound: self.outbound.as_ref(), cache: &self.said, provider, now: self.now() }
    }

    /// The provider that a submission names; `None` if the form is told that there is
    /// none of that id.
    pub(in crate::flow) fn named_provider(
        &self,
        flow: &mut Flow,
        submission: &SocialSubmission,
    ) -> Option<&Provider> {
        flow.active = Some("oidc".to_owned());
        let id = submission.provider.as_deref().unwrap_or_default();
        let provider = self.settings.providers.get(id);
        let provider = provider.filter(|found| found.organization == flow.organization);
        if provider.is_none() {
            flow.ui.messages.push(match id {
                "" => Text::property_missing("provider"),
                _ => Text::generic("There is no such sign-in provider."),
            });
        }
        provider
    }

    /// Sends somebody to a provider: the flow keeps what must come back.
    pub(in crate::flow) async fn depart(
        &self,
        scope: Scope,
        flow: &mut Flow,
        (record, provider): (&FlowRecord, &Provider),
        submission: &SocialSubmission,
    ) -> Result<Departure, StoreError> {
        if flow.browser.is_none() && record.exchange_init.is_empty() {
            // Whoever came back could be anybody.
            flow.ui.messages.push(Text::generic(
                "A native client begins this flow with return_session_token_exchange_code=true, or \
                 sends an id_token.",
            ));
            return Ok(Departure::Stays);
        }
        let luggage =
            submission.traits.to_string().len() + submission.transient_payload.to_string().len();
        if luggage > LUGGAGE_BYTES_MAX {
            flow.ui.messages.push(Text::generic("What was sent is larger than is kept."));
            return Ok(Departure::Stays);
        }
        let metadata = match self.desk(provider).metadata().await {
            Ok(metadata) => metadata,
            Err(untrusted) => {
                say_untrusted(flow, provider, &untrusted);
                return Ok(Departure::Stays);
            }
        };
        let entropy = self.store.entropy().as_ref();
        let state = State::draw(entropy, flow.id.0);
        let journey = Journey {
            traits: submission.traits.clone(),
            transient_payload: submission.transient_payload.clone(),
            ..authorize::draw(entropy, provider, &metadata)
        };
        let back = callback_url(&self.settings.public_url, &provider.id);
        let place = (provider, metadata.as_ref());
        let url =
            match authorize::url(place, &journey, &state, &back, &submission.upstream_parameters) {
                Ok(url) => url,
                Err(untrusted) => {
                    say_untrusted(flow, provider, &untrusted);
                    return Ok(Departure::Stays);
                }
            };
        let sealed = serde_json::to_vec(&journey).unwrap_or_default();
        let sealed = &self.keys.seal.seal(entropy, &journey_of(flow.id), &sealed);
        let digest = &state.digest();
        let key = &FlowKey { tenant: scope.tenant, id: flow.id.0 };
        self.store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(()) };
                let record = FlowRecord {
                    social_state: digest.to_vec().into(),
                    social_journey: sealed.clone(),
                    ..found.record
                };
                t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await?;
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(Departure::Away(url))
    }
}

/// What a journey is sealed for.
pub(super) fn journey_of(flow: FlowId) -> String {
    format!("social journey of flow {flow}")
}

/// Tells a form that a provider's word was not taken.
pub(super) fn say_untrusted(flow: &mut Flow, provider: &Provider, untrusted: &Untrusted) {
    flow.ui.messages.push(not_trusted(flow.id, provider, untrusted));
}

/// That a provider's word was not taken; the log says why.
pub(super) fn not_trusted(flow: FlowId, provider: &Provider, untrusted: &Untrusted) -> Text {
    let id = &provider.id;
    tracing::warn!(provider = id, %flow, error = %untrusted, "a provider was not trusted");
    let (why, what) = match untrusted {
        Untrusted::Unanswered(_) => ("could not be reached", "unreachable"),
        Untrusted::Refused { .. } => ("refused", "refused_by"),
        Untrusted::Mapping(_) | Untrusted::Mapped(_) => ("told what could not be used", "unusable"),
        Untrusted::Metadata(_) | Untrusted::Malformed(_) | Untrusted::Token(_) => {
            ("answered in a way that is not trusted", "untrusted")
        }
    };
    let label = &provider.label;
    let reason = format!("Signing in with {label} did not work: {label} {why}. Please try again.");
    Text::generic_about(&reason, what, label.as_str())
}

/// Traits that somebody typed, under those that a provider gave.
pub(super) fn overlaid(typed: Value, given: &Value) -> Value {
    match (typed, given) {
        (Value::Object(mut typed), Value::Object(given)) => {
            for (name, value) in given {
                let below = typed.remove(name).unwrap_or_default();
                typed.insert(name.clone(), overlaid(below, value));
            }
            Value::Object(typed)
        }
        (_, given) => given.clone(),
    }
}
