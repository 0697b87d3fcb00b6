//! `createNativeRegistrationFlow`, `getRegistrationFlow`, `updateRegistrationFlow`.

use axum::{extract::State, response::Response};
use cardea_identity::{
    FlowId, Scope,
    flow::{BeginRegistration, Purpose, RegistrationSubmission},
};
use cardea_storage::Secret;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json as value};

use super::{
    Kratos,
    browser::refuse_browsers,
    login::{refuse_unsupported, refused, request_url, show, shown, submitted_flow, text},
    rejection::not_begun,
    wire::{
        flow::{ContinueWith, RegisteredBody},
        identity::{IdentityBody, Reader},
        session::{Expand, SessionBody},
    },
};
use crate::{
    answer::json,
    body::{Encoding, Sent},
    error::ApiError,
    query::Query,
    request::{Caller, Claimed},
};

pub(super) async fn create(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    refuse_unsupported(&query)?;
    let begin = BeginRegistration {
        request_url: request_url(&kratos, &uri),
        return_to: query.first("return_to").map(str::to_owned),
        schema_id: query.first("identity_schema").unwrap_or_default().to_owned(),
        proof,
    };
    let flow = kratos
        .service()
        .begin_registration(caller.scope, begin)
        .await
        .map_err(|rejection| not_begun(rejection, Purpose::Registration))?;
    Ok(shown(&kratos, StatusCode::OK, &flow))
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
) -> Result<Response, ApiError> {
    show(&kratos, caller, &query, Purpose::Registration).await
}

pub(super) async fn submit(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let id = submitted_flow(&query)?;
    refuse_browsers(&headers)?;
    let (mut body, encoding) = sent.json_or_form()?;
    let mut traits = body.remove("traits").unwrap_or_default();
    if encoding == Encoding::Form {
        type_traits(&kratos, caller.scope, id, &mut traits).await;
    }
    let submission = RegistrationSubmission {
        method: text(&mut body, "method")?.unwrap_or_default(),
        traits,
        password: text(&mut body, "password")?.map(Secret::new),
    };
    let done = kratos.service().submit_registration(caller.scope, id, submission, &caller.client);
    match done.await {
        Ok(registered) => {
            let public_url = kratos.public_url();
            let issued = registered.issued.as_ref();
            let token = issued.map(|issued| issued.token.expose().as_str());
            let body = RegisteredBody {
                session_token: token,
                session: issued.map(|issued| {
                    SessionBody::of(&issued.session, Expand::ALL, Reader::Holder, public_url)
                }),
                identity: IdentityBody::of(&registered.identity, Reader::Holder, public_url),
                continue_with: token
                    .map(|token| ContinueWith::SetOrySessionToken { ory_session_token: token })
                    .into_iter()
                    .collect(),
            };
            Ok(json(StatusCode::OK, &body))
        }
        Err(rejection) => refused(&kratos, rejection.into()),
    }
}

/// A form has texts only; the flow's schema says what they mean. If the flow cannot
/// be read, submitting it will say why.
async fn type_traits(kratos: &Kratos, scope: Scope, id: FlowId, traits: &mut Value) {
    let Ok(flow) = kratos.service().flow(scope, Purpose::Registration, id).await else { return };
    if let Some(schema) = kratos.service().schemas().get(&flow.schema_id) {
        type_value(traits, &schema.document()["properties"]["traits"]);
    }
}

/// What does not read as its type stays a text, for the schema to refuse.
fn type_value(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                type_value(member, &schema["properties"][name]);
            }
        }
        Value::String(text) => {
            let typed = match schema["type"].as_str() {
                Some("boolean") => match text.as_str() {
                    "true" | "on" => Some(Value::Bool(true)),
                    "false" | "" => Some(Value::Bool(false)),
                    _ => None,
                },
                Some("integer") => text.parse::<i64>().ok().map(Value::from),
                Some("number") => text.parse::<f64>().ok().map(|number| value!(number)),
                _ => None,
            };
            if let Some(typed) = typed {
                *value = typed;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_form_get_the_types_of_the_schema() {
        let schema = value!({"properties": {
            "email": {"type": "string"},
            "news": {"type": "boolean"},
            "age": {"type": "integer"},
            "more": {"type": "object", "properties": {"height": {"type": "number"}}},
        }});
        let mut traits = value!({"email": "1", "news": "on", "age": "42", "x": "7",
            "more": {"height": "1.5"}});
        type_value(&mut traits, &schema);
        assert_eq!(
            traits,
            value!({"email": "1", "news": true, "age": 42, "x": "7", "more": {"height": 1.5}})
        );
        let mut wrong = value!({"news": "maybe", "age": "4.2"});
        type_value(&mut wrong, &schema);
        assert_eq!(wrong, value!({"news": "maybe", "age": "4.2"}));
    }
}
