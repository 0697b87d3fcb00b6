//! `createNativeLoginFlow`, `getLoginFlow`, `updateLoginFlow`.

use axum::{extract::State, response::Response};
use cardea_identity::{
    FlowId,
    flow::{BeginLogin, Flow, LoginSubmission, Purpose},
    session::Aal,
};
use cardea_storage::Secret;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value};

use super::{
    Kratos,
    browser::refuse_browsers,
    rejection::{Refused, not_begun, not_shown},
    wire::{
        flow::{FlowBody, LoggedInBody},
        identity::Reader,
        session::{Expand, SessionBody},
    },
};
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    query::Query,
    request::{Caller, Claimed, is_uuid},
};

pub(super) async fn create(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    refuse_unsupported(&query)?;
    let aal = match query.first("aal") {
        None => None,
        Some(name) => Some(Aal::parse(name).filter(|aal| *aal != Aal::Aal0).ok_or_else(|| {
            ApiError::bad_request(
                "Unable to parse AuthenticationMethod Assurance Level (AAL): it is neither \
                     aal1 nor aal2",
            )
        })?),
    };
    let begin = BeginLogin {
        request_url: request_url(&kratos, &uri),
        return_to: query.first("return_to").map(str::to_owned),
        refresh: query.flag("refresh").unwrap_or_default().unwrap_or_default(),
        aal,
        proof,
    };
    let flow = kratos
        .service()
        .begin_login(caller.scope, begin)
        .await
        .map_err(|rejection| not_begun(rejection, Purpose::Login))?;
    Ok(shown(&kratos, StatusCode::OK, &flow))
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
) -> Result<Response, ApiError> {
    show(&kratos, caller, &query, Purpose::Login).await
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
    let (mut body, _) = sent.json_or_form()?;
    // The name that the field had in older versions.
    let legacy = text(&mut body, "password_identifier")?;
    let submission = LoginSubmission {
        method: text(&mut body, "method")?.unwrap_or_default(),
        identifier: text(&mut body, "identifier")?.filter(|text| !text.is_empty()).or(legacy),
        password: text(&mut body, "password")?.map(Secret::new),
    };
    match kratos.service().submit_login(caller.scope, id, submission, &caller.client).await {
        Ok(logged_in) => {
            let session = &logged_in.issued.session;
            let body = LoggedInBody {
                session_token: logged_in.issued.token.expose(),
                session: SessionBody::of(session, Expand::ALL, Reader::Holder, kratos.public_url()),
            };
            Ok(json(StatusCode::OK, &body))
        }
        Err(rejection) => refused(&kratos, rejection.into()),
    }
}

/// A flow of either purpose by its id in the query.
pub(super) async fn show(
    kratos: &Kratos,
    caller: Caller,
    query: &Query,
    purpose: Purpose,
) -> Result<Response, ApiError> {
    let id = flow_id(query, "id").ok_or_else(ApiError::no_such_row)?;
    let flow = kratos
        .service()
        .flow(caller.scope, purpose, id)
        .await
        .map_err(|rejection| not_shown(rejection, purpose, kratos.public_url()))?;
    Ok(shown(kratos, StatusCode::OK, &flow))
}

pub(super) fn submitted_flow(query: &Query) -> Result<FlowId, ApiError> {
    flow_id(query, "flow")
        .ok_or_else(|| ApiError::bad_request("The flow query parameter is missing or malformed."))
}

fn flow_id(query: &Query, name: &str) -> Option<FlowId> {
    query.first(name).filter(|text| is_uuid(text))?.parse().ok()
}

pub(super) fn shown(kratos: &Kratos, status: StatusCode, flow: &Flow) -> Response {
    json(status, &FlowBody::of(flow, &kratos.service().schemas().default_id().0))
}

pub(super) fn refused(kratos: &Kratos, refused: Refused) -> Result<Response, ApiError> {
    match refused {
        Refused::Flow(flow) => Ok(shown(kratos, StatusCode::BAD_REQUEST, &flow)),
        Refused::Error(error) => Err(error),
    }
}

/// The URL that began a flow, as clients reach it.
pub(super) fn request_url(kratos: &Kratos, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    format!("{}{path}", kratos.public_url())
}

/// Refuses parameters that would make another flow of it.
pub(super) fn refuse_unsupported(query: &Query) -> Result<(), ApiError> {
    if query.flag("return_session_token_exchange_code").unwrap_or_default() == Some(true) {
        return Err(ApiError::bad_request("Session token exchange codes are not supported."));
    }
    if query.first("organization").is_some() {
        return Err(ApiError::bad_request("Organizations are not supported."));
    }
    Ok(())
}

/// Takes a text out of a body; null is as good as absent.
pub(super) fn text(body: &mut Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    match body.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => {
            Err(ApiError::bad_request(format!("The member \"{name}\" of the body is no string.")))
        }
    }
}
