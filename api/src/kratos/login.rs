//! `createNativeLoginFlow`, `createBrowserLoginFlow`, `getLoginFlow`,
//! `updateLoginFlow`.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use cardea_identity::{
    Client,
    flow::{BeginLogin, Flow, LoggedIn, LoginSubmission, Purpose, SocialSubmission},
    session::{Aal, Proof},
};
use cardea_storage::Secret;
use http::{HeaderMap, StatusCode, Uri};

use super::{
    Kratos,
    browser::see_other,
    csrf::CsrfSecret,
    dry_run,
    flow::{
        Browser, Opened, admit, answer_text, beginner, begun, open, organization, place_after,
        refused, request_url, return_to, second_step, sender, show, shown, text, wants_exchange,
    },
    manner::Manner,
    rejection::{location_change_required, not_begun},
    social,
    wire::{
        flow::{ContinueWith, LoggedInBody},
        identity::Reader,
        session::{Expand, SessionBody},
    },
};
use crate::{
    answer::json,
    body::Sent,
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
    let begin = BeginLogin { client, ..begin };
    let flow = kratos.service().begin_login(caller.scope, begin).await;
    let flow = flow.map_err(|rejection| not_begun(rejection, Purpose::Login))?;
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
        Ok(begin) => BeginLogin {
            browser: Some(browser.secret.digest()),
            client: beginner(&kratos, &caller.client, &uri, &headers),
            ..begin
        },
        Err(error) => return kratos.answer(caller.scope, browser.manner, Err(error)).await,
    };
    let back = begin.return_to.clone();
    let flow = kratos.service().begin_login(caller.scope, begin).await;
    begun(&kratos, (caller.scope, Purpose::Login), browser, back.as_deref(), flow).await
}

fn wanted(
    kratos: &Kratos,
    proof: Option<Proof>,
    query: &Query,
    uri: &Uri,
) -> Result<BeginLogin, ApiError> {
    let aal = match query.first("aal") {
        None => None,
        Some(name) => Some(Aal::parse(name).filter(|aal| *aal != Aal::Aal0).ok_or_else(|| {
            ApiError::bad_request(
                "Unable to parse AuthenticationMethod Assurance Level (AAL): it is neither \
                     aal1 nor aal2",
            )
        })?),
    };
    Ok(BeginLogin {
        request_url: request_url(kratos, uri),
        return_to: return_to(kratos, query)?,
        refresh: query.flag("refresh").unwrap_or_default().unwrap_or_default(),
        aal,
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
    show(&kratos, caller, (&query, &headers), Purpose::Login).await
}

pub(super) async fn submit(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let opened = open(&kratos, caller.scope, Purpose::Login, &query, &headers).await;
    let (flow, manner) = match opened {
        Ok(opened) => opened,
        Err(answer) => return answer,
    };
    let done = if flow.dry_run.is_some() {
        dry_run::submit(&kratos, &caller, (flow, manner), &headers, &sent).await
    } else {
        take(&kratos, &caller, proof, (flow, manner), &headers, &sent).await
    };
    kratos.answer(caller.scope, manner, done).await
}

async fn take(
    kratos: &Kratos,
    caller: &Caller,
    proof: Option<Proof>,
    flow: (Flow, Manner),
    headers: &HeaderMap,
    sent: &Sent,
) -> Result<Response, ApiError> {
    let (mut body, _) = sent.json_or_form()?;
    let opened = admit(kratos, flow, headers, &mut body)?;
    let client = &sender(kratos, &caller.client, &opened.flow, headers, &body)?;
    // The name that the field had in older versions.
    let legacy = text(&mut body, "password_identifier")?;
    let submission = LoginSubmission {
        method: social::method(&mut body, &["provider"])?,
        identifier: text(&mut body, "identifier")?.filter(|text| !text.is_empty()).or(legacy),
        password: text(&mut body, "password")?.map(Secret::new),
        code: text(&mut body, "code")?.map(Secret::new),
        resend: text(&mut body, "resend")?,
        address: text(&mut body, "address")?.filter(|text| !text.is_empty()),
        totp_code: text(&mut body, "totp_code")?.map(Secret::new),
        lookup_secret: text(&mut body, "lookup_secret")?.map(Secret::new),
        webauthn_login: answer_text(&mut body, "webauthn_login")?,
        passkey_login: answer_text(&mut body, "passkey_login")?,
        proof,
        social: SocialSubmission {
            traits: body.remove("traits").unwrap_or_default(),
            ..social::submission(&mut body)?
        },
    };
    let done = kratos.service().submit_login(caller.scope, opened.flow.id, submission, client);
    match done.await {
        Ok(logged_in) => answered(kratos, caller, &opened, &logged_in),
        Err(rejection) => refused(kratos, caller.scope, &opened, rejection.into()).await,
    }
}

pub(super) fn answered(
    kratos: &Kratos,
    caller: &Caller,
    opened: &Opened,
    logged_in: &LoggedIn,
) -> Result<Response, ApiError> {
    let issued = &logged_in.issued;
    let enough = issued.session.satisfies(kratos.service().settings().session_required_aal);
    let place = place_after(kratos, opened.flow.return_to.as_deref());
    // Who knows the password alone learns nothing else of whose it is.
    let expand = Expand { identity: enough, devices: true };
    let body = |native: bool| LoggedInBody {
        session_token: native.then(|| issued.token.expose().as_str()),
        session: SessionBody::of(&issued.session, expand, Reader::Holder, kratos.public_url()),
        continue_with: (!native)
            .then(|| vec![ContinueWith::RedirectBrowserTo { redirect_browser_to: &place }]),
    };
    let step = || second_step(kratos, opened.flow.return_to.as_deref());
    let mut response = match opened.manner {
        Manner::Native => return Ok(json(StatusCode::OK, &body(true))),
        Manner::Script if !enough => location_change_required(&step()).into_response(),
        Manner::Script => json(StatusCode::OK, &body(false)),
        Manner::Page if !enough => see_other(&step())?,
        Manner::Page => see_other(&place)?,
    };
    let expires_at = issued.session.expires_at;
    kratos.set_session(&mut response, caller.scope, &issued.token, expires_at);
    if !opened.flow.refresh && opened.flow.requested_aal == Aal::Aal1 {
        // What a stranger may have planted before is worth nothing any more.
        kratos.set_csrf(&mut response, &CsrfSecret::draw(kratos.service().entropy()));
    }
    Ok(response)
}
