//! What is seen on the way from what a provider sent back to the traits that are made of it,
//! where a provider is [tried](super::dry_run): each step as a login takes it, and nothing of
//! what a login does then.

use serde::Serialize;
use serde_json::{Map, Value};

use super::arrive::{Brought, add_name, plain, refused_there};
use crate::{
    Service,
    social::{
        Provider, Untrusted,
        authorize::{Journey, callback_url},
        exchange::{Step, Trace},
        mapping,
    },
    table::FlowRecord,
};

/// The largest of what came of it that is kept, in bytes of JSON.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// What is shown to nobody, wherever a provider or a program says it.
const TOKENS: [&str; 3] = ["access_token", "refresh_token", "id_token"];

/// What came of it (`loginFlowTestDebugPayload`).
#[derive(Debug, Default, Serialize)]
pub(super) struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token_claims: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    userinfo: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jsonnet_mapper_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jsonnet_input: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jsonnet_output: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schema_validation_errors: Vec<Broken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

impl Payload {
    /// Of a provider that says nothing of itself that could be used.
    pub(super) fn undiscovered(untrusted: &Untrusted) -> Self {
        let error = Some(Failure::of(named(Step::Discovery), untrusted));
        Self { error, ..Self::default() }
    }
}

/// What a schema refuses (`loginFlowTestSchemaValidationError`).
#[derive(Debug, Serialize)]
struct Broken {
    path: String,
    message: String,
}

/// The step that failed, and why (`loginFlowTestStepError`).
#[derive(Debug, Serialize)]
struct Failure {
    step: &'static str,
    reason: String,
    message: String,
}

impl Failure {
    fn new(step: &'static str, reason: &str, message: String) -> Self {
        Self { step, reason: reason.to_owned(), message }
    }

    fn of(step: &'static str, untrusted: &Untrusted) -> Self {
        let reason = match untrusted {
            Untrusted::Unanswered(_) => "unreachable",
            Untrusted::Refused { .. } => "refused",
            Untrusted::Metadata(_) => "metadata_invalid",
            Untrusted::Malformed(_) => "answer_malformed",
            Untrusted::Token(_) => "token_invalid",
            Untrusted::Mapping(_) => "mapper_failed",
            Untrusted::Mapped(_) => "mapper_output_invalid",
        };
        Self::new(step, reason, untrusted.to_string())
    }
}

const fn named(step: Step) -> &'static str {
    match step {
        Step::Discovery => "discovery",
        Step::TokenExchange => "token_exchange",
        Step::ClaimsDecode => "claims_decode",
        Step::Userinfo => "userinfo",
    }
}

impl Service {
    /// Goes the way from what was brought to traits, and tells what was seen on it.
    pub(super) async fn rehearse(
        &self,
        record: &FlowRecord,
        provider: &Provider,
        journey: &Journey,
        brought: &Brought,
    ) -> Payload {
        let jsonnet_mapper_url = provider.mapper_url.clone();
        let mut payload = Payload { jsonnet_mapper_url, ..Payload::default() };
        let failure = self.rehearsed(record, provider, (journey, brought), &mut payload).await;
        payload.error = failure;
        payload
    }

    async fn rehearsed(
        &self,
        record: &FlowRecord,
        provider: &Provider,
        (journey, brought): (&Journey, &Brought),
        payload: &mut Payload,
    ) -> Option<Failure> {
        let desk = self.desk(provider);
        let metadata = match desk.metadata().await {
            Ok(metadata) => metadata,
            Err(untrusted) => return Some(Failure::of(named(Step::Discovery), &untrusted)),
        };
        let says_so = metadata.authorization_response_iss_parameter_supported;
        let is_other = match &brought.issuer {
            Some(issuer) => *issuer != metadata.issuer,
            None => says_so,
        };
        if is_other {
            let message = "the answer does not name the provider's issuer".to_owned();
            return Some(Failure::new("authorize", "issuer_mismatch", message));
        }
        if !brought.error.is_empty() {
            let message = refused_there(provider, brought).text;
            return Some(Failure::new("authorize", &plain(&brought.error), message));
        }
        if brought.code.is_empty() {
            let message = "the provider sent the browser back without a code".to_owned();
            return Some(Failure::new("authorize", "code_missing", message));
        }
        let back = callback_url(&self.settings.public_url, &provider.id);
        let mut trace = Trace::default();
        let redeemed = desk.redeem(journey, &brought.code, &back, &mut trace).await;
        payload.id_token_claims = trace.id_token_claims;
        payload.userinfo = trace.userinfo;
        let mut stranger = match redeemed {
            Ok((stranger, _)) => stranger,
            Err(untrusted) => return Some(Failure::of(named(trace.step), &untrusted)),
        };
        add_name(&mut stranger, brought.user.as_deref());
        let variables = mapping::variables(provider, &stranger, Value::Null);
        payload.jsonnet_input = Some(variables.iter().cloned().collect());
        let given = match provider.mapper.run(variables, Value::Null).await {
            Ok(given) => given,
            Err(failed) => return Some(Failure::of("jsonnet", &failed.into())),
        };
        payload.jsonnet_output = given.as_object().cloned();
        let mapped = match mapping::read(given) {
            Ok(mapped) => mapped,
            Err(untrusted) => return Some(Failure::of("jsonnet", &untrusted)),
        };
        let schema = self.flow_schema(record)?;
        let violations = schema.check(&mapped.traits).err()?;
        payload.schema_validation_errors = violations
            .iter()
            .map(|violation| Broken {
                path: violation.pointer.trim_start_matches('#').to_owned(),
                message: violation.text().text,
            })
            .collect();
        let message = "the traits that were mapped are not what the schema asks for".to_owned();
        Some(Failure::new("schema_validate", "traits_invalid", message))
    }
}

/// What is kept: no token, and not more than there is room for.
pub(super) fn encoded(payload: Payload) -> Vec<u8> {
    let mut whole = serde_json::to_value(&payload).unwrap_or_default();
    without_tokens(&mut whole);
    let text = serde_json::to_vec(&whole).unwrap_or_default();
    if text.len() <= PAYLOAD_BYTES_MAX {
        return text;
    }
    let message = format!("what was said has more than {PAYLOAD_BYTES_MAX} bytes of JSON");
    let error = payload.error.or(Some(Failure::new("capture", "too_large", message)));
    let least = Payload { error, ..Payload::default() };
    serde_json::to_vec(&least).unwrap_or_default()
}

fn without_tokens(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !TOKENS.contains(&name.as_str()));
            members.values_mut().for_each(without_tokens);
        }
        Value::Array(items) => items.iter_mut().for_each(without_tokens),
        _ => {}
    }
}
