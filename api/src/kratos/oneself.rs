//! What somebody does itself with all that is held of it; ours.
//!
//! `GET /self-service/export` hands out a copy, `POST /self-service/erasure` erases, each
//! to a session whose holder was authenticated a short while ago. A browser's request
//! brings the anti-forgery token of any of its flows beside its cookie, and either says in
//! `confirm` the id of the identity that is to be erased. The pages are in
//! [`pages`](super::pages).

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use cardea_identity::{identity::OneselfRejection, session::Proof};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    Kratos, audit,
    browser::see_other,
    csrf::check_token,
    erasure,
    flow::{second_factor_required, second_step, text, with_return},
    manner::Manner,
    rejection::no_active_session,
    settings::refresh_required,
};
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    request::{Caller, Claimed, is_uuid},
};

/// Where the page is that asks whether everything is to be erased.
pub(super) const PAGE: &str = "/ui/erasure";
/// Where the page is that says that it was.
pub(super) const DONE: &str = "/ui/erased";

pub(super) async fn export(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let manner = manner(proof.as_ref(), &headers);
    let copied = kratos.service().export_self(caller.scope, proof.as_ref(), &caller.client).await;
    match copied {
        Ok(export) => {
            let mut response = json(StatusCode::OK, &audit::own_copy(&kratos, &export));
            let name = HeaderValue::from_static("attachment; filename=\"account.json\"");
            response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
            Ok(response)
        }
        // A browser stays where it was when it is given a file.
        Err(rejection) => {
            let back = kratos.options().urls.settings.clone();
            let refused = refused(&kratos, manner, rejection, &back);
            kratos.answer(caller.scope, manner, refused).await
        }
    }
}

pub(super) async fn erase(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let manner = manner(proof.as_ref(), &headers);
    let done = take(&kratos, &caller, (proof, manner), &headers, &sent).await;
    kratos.answer(caller.scope, manner, done).await
}

async fn take(
    kratos: &Kratos,
    caller: &Caller,
    (proof, manner): (Option<Proof>, Manner),
    headers: &HeaderMap,
    sent: &Sent,
) -> Result<Response, ApiError> {
    let (mut body, _) = sent.json_or_form()?;
    let token = text(&mut body, "csrf_token")?;
    if manner != Manner::Native {
        check_token(headers, kratos.csrf_cookie(), token.as_deref())?;
    }
    let confirmed = text(&mut body, "confirm")?.filter(|id| is_uuid(id));
    let confirmed = confirmed.and_then(|id| id.parse().ok());
    let (service, scope) = (kratos.service(), caller.scope);
    let page = format!("{}{PAGE}", kratos.public_url());
    let erasure = match service.erase_self(scope, proof.as_ref(), confirmed, &caller.client).await {
        Ok(erasure) => erasure,
        Err(OneselfRejection::NotConfirmed) if manner == Manner::Page => return see_other(&page),
        Err(rejection) => return refused(kratos, manner, rejection, &page),
    };
    let mut response = match manner {
        Manner::Page => see_other(&format!("{}{DONE}", kratos.public_url()))?,
        _ => json(StatusCode::ACCEPTED, &erasure::body(&erasure)).into_response(),
    };
    if manner != Manner::Native {
        kratos.clear_session(&mut response);
    }
    Ok(response)
}

/// How somebody is answered who shows a session.
fn manner(proof: Option<&Proof>, headers: &HeaderMap) -> Manner {
    match proof {
        Some(Proof::Token(_)) => Manner::Native,
        _ => Manner::of_browser(headers),
    }
}

/// Why nothing is handed out or erased: a browser is sent to do what is missing, and back.
pub(super) fn refused(
    kratos: &Kratos,
    manner: Manner,
    rejection: OneselfRejection,
    back: &str,
) -> Result<Response, ApiError> {
    let login = format!("{}/self-service/login/browser", kratos.public_url());
    match (rejection, manner) {
        (OneselfRejection::NoSession, Manner::Page) => see_other(&with_return(&login, back)),
        (OneselfRejection::NoSession, _) => Err(no_active_session()),
        (OneselfRejection::SecondFactorRequired, Manner::Page) => {
            see_other(&second_step(kratos, Some(back)))
        }
        (OneselfRejection::SecondFactorRequired, _) => Err(second_factor_required(kratos, None)),
        (OneselfRejection::RefreshRequired, manner) => {
            let again = with_return(&format!("{login}?refresh=true"), back);
            if manner == Manner::Page {
                return see_other(&again);
            }
            Err(refresh_required(&again))
        }
        (OneselfRejection::NotConfirmed, _) => Err(ApiError::bad_request(
            "The member \"confirm\" of the body must be the id of the identity that is to be \
             erased.",
        )),
        (OneselfRejection::NotOffered, _) => Err(ApiError::new(StatusCode::NOT_FOUND)
            .reason("This is not offered here. Ask whoever runs the service.")),
        (OneselfRejection::Throttled(early), _) => {
            Err(ApiError::too_many_requests(early.retry_after))
        }
        (OneselfRejection::Store(error), _) => Err(error.into()),
    }
}
