//! `createNativeRegistrationFlow`, `createBrowserRegistrationFlow`,
//! `getRegistrationFlow`, `updateRegistrationFlow`.

use axum::{extract::State, response::Response};
use cardea_identity::{
    Client,
    flow::{
        BeginRegistration, Flow, LoggedIn, Purpose, Registered, RegistrationRejection,
        RegistrationSubmission,
    },
    session::Proof,
};
use cardea_storage::Secret;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json as value};

use super::{
    Kratos,
    browser::see_other,
    csrf::CsrfSecret,
    flow::{
        Browser, Opened, admit, answer_text, beginner, begun, open, organization, place_after,
        refused, request_url, return_to, sender, show, shown, text, wants_exchange,
    },
    login,
    manner::Manner,
    rejection::not_begun,
    social,
    wire::{
        flow::{ContinueWith, ContinueWithVerification, RegisteredBody},
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

pub(super) async fn create_native(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let begin = wanted(&kratos, proof, &query, &uri)?;
    let client = beginner(&kratos, &caller.client, &uri, &headers);
    let begin = BeginRegistration { client, ..begin };
    let flow = kratos.service().begin_registration(caller.scope, begin).await;
    let flow = flow.map_err(|rejection| not_begun(rejection, Purpose::Registration))?;
    Ok(shown(&kratos, StatusCode::OK, flow, None))
}

pub(super) async fn create_browser(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let browser = Browser::of(&kratos, &headers);
    let begin = match wanted(&kratos, proof, &query, &uri) {
        Ok(begin) => BeginRegistration {
            browser: Some(browser.secret.digest()),
            client: beginner(&kratos, &caller.client, &uri, &headers),
            ..begin
        },
        Err(error) => return kratos.answer(caller.scope, browser.manner, Err(error)).await,
    };
    let back = begin.return_to.clone();
    let flow = kratos.service().begin_registration(caller.scope, begin).await;
    begun(&kratos, (caller.scope, Purpose::Registration), browser, back.as_deref(), flow).await
}

fn wanted(
    kratos: &Kratos,
    proof: Option<Proof>,
    query: &Query,
    uri: &Uri,
) -> Result<BeginRegistration, ApiError> {
    Ok(BeginRegistration {
        request_url: request_url(kratos, uri),
        return_to: return_to(kratos, query)?,
        schema_id: query.first("identity_schema").unwrap_or_default().to_owned(),
        proof,
        browser: None,
        exchange: wants_exchange(query),
        organization: organization(query)?,
        client: Client::default(),
    })
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    show(&kratos, caller, (&query, &headers), Purpose::Registration).await
}

pub(super) async fn submit(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let opened = open(&kratos, caller.scope, Purpose::Registration, &query, &headers).await;
    let (flow, manner) = match opened {
        Ok(opened) => opened,
        Err(answer) => return answer,
    };
    let done = take(&kratos, &caller, (flow, manner), &headers, &sent).await;
    kratos.answer(caller.scope, manner, done).await
}

async fn take(
    kratos: &Kratos,
    caller: &Caller,
    flow: (Flow, Manner),
    headers: &HeaderMap,
    sent: &Sent,
) -> Result<Response, ApiError> {
    let (mut body, encoding) = sent.json_or_form()?;
    let opened = admit(kratos, flow, headers, &mut body)?;
    let client = &sender(kratos, &caller.client, &opened.flow, headers, &body)?;
    let mut traits = body.remove("traits").unwrap_or_default();
    if encoding == Encoding::Form {
        type_traits(kratos, &opened.flow.schema_id, &mut traits);
    }
    let submission = RegistrationSubmission {
        method: social::method(&mut body, &["provider"])?,
        traits,
        password: text(&mut body, "password")?.map(Secret::new),
        social: social::submission(&mut body)?,
        code: text(&mut body, "code")?.map(Secret::new),
        resend: text(&mut body, "resend")?,
        passkey_register: answer_text(&mut body, "passkey_register")?,
        webauthn_register: answer_text(&mut body, "webauthn_register")?,
        webauthn_register_displayname: text(&mut body, "webauthn_register_displayname")?,
    };
    let id = opened.flow.id;
    let done = kratos.service().submit_registration(caller.scope, id, submission, client);
    match done.await {
        Ok(registered) => answered(kratos, caller, &opened, &registered),
        Err(RegistrationRejection::LoggedIn(issued)) => {
            login::answered(kratos, caller, &opened, &LoggedIn { issued: *issued })
        }
        Err(rejection) => refused(kratos, caller.scope, &opened, rejection.into()).await,
    }
}

pub(super) fn answered(
    kratos: &Kratos,
    caller: &Caller,
    opened: &Opened,
    registered: &Registered,
) -> Result<Response, ApiError> {
    let public_url = kratos.public_url();
    let place = match &registered.verification {
        // The code is on its way; the verification leads on to where this would.
        Some(started) if opened.manner == Manner::Page => {
            kratos.options().urls.page(Purpose::Verification, &started.flow.to_string())
        }
        _ => place_after(kratos, opened.flow.return_to.as_deref()),
    };
    let issued = registered.issued.as_ref();
    let is_native = opened.manner == Manner::Native;
    let token = issued.filter(|_| is_native).map(|issued| issued.token.expose().as_str());
    let mut response = if opened.manner == Manner::Page {
        see_other(&place)?
    } else {
        let keep =
            token.map(|ory_session_token| ContinueWith::SetOrySessionToken { ory_session_token });
        let verify = registered.verification.as_ref().map(|started| {
            let id = started.flow.to_string();
            let url = kratos.options().urls.page(Purpose::Verification, &id);
            ContinueWith::ShowVerificationUi {
                flow: ContinueWithVerification {
                    id,
                    verifiable_address: &started.address,
                    url: (!is_native).then_some(url),
                },
            }
        });
        let go =
            (!is_native).then_some(ContinueWith::RedirectBrowserTo { redirect_browser_to: &place });
        let body = RegisteredBody {
            session_token: token,
            session: issued.map(|issued| {
                SessionBody::of(&issued.session, Expand::ALL, Reader::Holder, public_url)
            }),
            identity: IdentityBody::of(&registered.identity, Reader::Holder, public_url),
            continue_with: keep.into_iter().chain(verify).chain(go).collect(),
        };
        json(StatusCode::OK, &body)
    };
    if let Some(issued) = issued.filter(|_| !is_native) {
        let expires_at = issued.session.expires_at;
        kratos.set_session(&mut response, caller.scope, &issued.token, expires_at);
        // The verification that began with it is of the secret that this browser has.
        if registered.verification.is_none() {
            kratos.set_csrf(&mut response, &CsrfSecret::draw(kratos.service().entropy()));
        }
    }
    Ok(response)
}

/// A form has texts only; the flow's schema says what they mean.
pub(super) fn type_traits(kratos: &Kratos, schema: &str, traits: &mut Value) {
    if let Some(schema) = kratos.service().schemas().get(schema) {
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
