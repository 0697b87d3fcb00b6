//! `createNativeSettingsFlow`, `createBrowserSettingsFlow`, `getSettingsFlow`,
//! `updateSettingsFlow`.

use axum::{extract::State, response::Response};
use cardea_identity::{
    flow::{
        BeginRejection, BeginSettings, Flow, FlowState, Purpose, SettingsRejection,
        SettingsSubmission,
    },
    session::Proof,
};
use cardea_storage::Secret;
use http::{HeaderMap, StatusCode, Uri};

use super::{
    Kratos,
    browser::see_other,
    csrf::check_owner,
    flow::{
        Browser, Opened, admit, answer_text, beginner, begun, choice, flow_id, open, request_url,
        return_to, second_factor_required, second_step, sender, shown, shown_with, text,
        with_return,
    },
    manner::Manner,
    registration::type_traits,
    rejection::{no_active_session, not_begun, not_shown},
    social,
    wire::flow::{ContinueWith, ContinueWithVerification},
};
use crate::{
    body::{Encoding, Sent},
    error::ApiError,
    query::Query,
    request::{Caller, Claimed},
};

pub(super) async fn create_native(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let begin = BeginSettings {
        request_url: request_url(&kratos, &uri),
        proof,
        client: beginner(&kratos, &caller.client, &uri, &headers),
        ..BeginSettings::default()
    };
    match kratos.service().begin_settings(caller.scope, begin).await {
        Ok(flow) => Ok(shown(&kratos, StatusCode::OK, flow, None)),
        Err(BeginRejection::SessionRequired) => Err(no_active_session()),
        Err(BeginRejection::SecondFactorRequired) => Err(second_factor_required(&kratos, None)),
        Err(rejection) => Err(not_begun(rejection, Purpose::Settings)),
    }
}

/// Where password managers take people to (W3C, A Well-Known URL for Changing Passwords).
pub(super) async fn change_password(
    State(kratos): State<Kratos>,
    _caller: Caller,
) -> Result<Response, ApiError> {
    see_other(&kratos.options().urls.settings)
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
    let back = match return_to(&kratos, &query) {
        Ok(back) => back,
        Err(error) => return kratos.answer(caller.scope, browser.manner, Err(error)).await,
    };
    let begin = BeginSettings {
        request_url: request_url(&kratos, &uri),
        return_to: back.clone(),
        proof,
        browser: Some(browser.secret.digest()),
        client: beginner(&kratos, &caller.client, &uri, &headers),
    };
    match kratos.service().begin_settings(caller.scope, begin).await {
        Err(BeginRejection::SessionRequired) if browser.manner == Manner::Page => {
            let login = format!("{}/self-service/login/browser", kratos.public_url());
            see_other(&with_return(&login, &request_url(&kratos, &uri)))
        }
        Err(BeginRejection::SessionRequired) => Err(no_active_session()),
        Err(BeginRejection::SecondFactorRequired) => {
            let again = request_url(&kratos, &uri);
            if browser.manner == Manner::Page {
                return see_other(&second_step(&kratos, Some(&again)));
            }
            Err(second_factor_required(&kratos, Some(&again)))
        }
        flow => {
            let what = (caller.scope, Purpose::Settings);
            begun(&kratos, what, browser, back.as_deref(), flow).await
        }
    }
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = flow_id(&query, "id").ok_or_else(ApiError::no_such_row)?;
    let flow = kratos.service().settings_flow(caller.scope, id, proof.as_ref()).await;
    let flow = flow.map_err(|rejection| unseen(&kratos, rejection))?;
    let secret = match flow.browser {
        Some(digest) => Some(check_owner(&headers, kratos.csrf_cookie(), digest)?),
        None => None,
    };
    Ok(shown(&kratos, StatusCode::OK, flow, secret.as_ref()))
}

pub(super) async fn submit(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let opened = open(&kratos, caller.scope, Purpose::Settings, &query, &headers).await;
    let (flow, manner) = match opened {
        Ok(opened) => opened,
        Err(answer) => return answer,
    };
    let done = take(&kratos, &caller, proof, (flow, manner), &headers, &sent).await;
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
    let (mut body, encoding) = sent.json_or_form()?;
    let opened = admit(kratos, flow, headers, &mut body)?;
    let client = sender(kratos, &caller.client, &opened.flow, headers, &body)?;
    let mut traits = body.remove("traits").unwrap_or_default();
    if encoding == Encoding::Form {
        type_traits(kratos, &opened.flow.schema_id, &mut traits);
    }
    let submission = SettingsSubmission {
        method: social::method(&mut body, &["link", "unlink"])?,
        traits,
        password: text(&mut body, "password")?.map(Secret::new),
        link: text(&mut body, "link")?.filter(|text| !text.is_empty()),
        unlink: text(&mut body, "unlink")?.filter(|text| !text.is_empty()),
        social: social::submission(&mut body)?,
        totp_code: text(&mut body, "totp_code")?.map(Secret::new),
        totp_unlink: choice(&mut body, "totp_unlink")?,
        lookup_secret_reveal: choice(&mut body, "lookup_secret_reveal")?,
        lookup_secret_regenerate: choice(&mut body, "lookup_secret_regenerate")?,
        lookup_secret_confirm: choice(&mut body, "lookup_secret_confirm")?,
        lookup_secret_disable: choice(&mut body, "lookup_secret_disable")?,
        webauthn_register: answer_text(&mut body, "webauthn_register")?,
        webauthn_register_displayname: text(&mut body, "webauthn_register_displayname")?,
        webauthn_remove: answer_text(&mut body, "webauthn_remove")?,
        passkey_settings_register: answer_text(&mut body, "passkey_settings_register")?,
        passkey_remove: answer_text(&mut body, "passkey_remove")?,
        proof,
        client,
    };
    let id = opened.flow.id;
    match kratos.service().submit_settings(caller.scope, id, submission).await {
        Ok(flow) => answered(kratos, &opened, flow),
        Err(rejection) => refused(kratos, caller, &opened, rejection).await,
    }
}

fn answered(kratos: &Kratos, opened: &Opened, flow: Flow) -> Result<Response, ApiError> {
    let urls = &kratos.options().urls;
    let verify = flow.verification.clone();
    let verify =
        verify.map(|begun| (urls.page(Purpose::Verification, &begun.flow.to_string()), begun));
    if opened.manner != Manner::Page {
        let steps = verify.iter().map(|(url, begun)| ContinueWith::ShowVerificationUi {
            flow: ContinueWithVerification {
                id: begun.flow.to_string(),
                verifiable_address: &begun.address,
                url: (opened.manner != Manner::Native).then(|| url.clone()),
            },
        });
        let secret = opened.secret.as_ref();
        return Ok(shown_with(kratos, StatusCode::OK, flow, secret, steps.collect()));
    }
    if let Some((url, _)) = verify {
        return see_other(&url);
    }
    let page = urls.page(Purpose::Settings, &flow.id.to_string());
    // What was only shown is on the page.
    let done = flow.state == FlowState::Success;
    let place = flow.return_to.as_deref().filter(|_| done).and_then(|url| urls.allow(url).ok());
    see_other(&place.unwrap_or(page))
}

async fn refused(
    kratos: &Kratos,
    caller: &Caller,
    opened: &Opened,
    rejection: SettingsRejection,
) -> Result<Response, ApiError> {
    let urls = &kratos.options().urls;
    let page = urls.page(Purpose::Settings, &opened.flow.id.to_string());
    let login = format!("{}/self-service/login/browser", kratos.public_url());
    match (rejection, opened.manner) {
        (SettingsRejection::RefreshRequired, manner) => {
            let again = with_return(&format!("{login}?refresh=true"), &page);
            if manner == Manner::Page {
                return see_other(&again);
            }
            Err(refresh_required(&again))
        }
        (SettingsRejection::Away(url), manner) => {
            social::depart(kratos, manner, (opened.from_own_page, opened.language), &url)
        }
        (SettingsRejection::SecondFactorRequired, Manner::Page) => {
            see_other(&second_step(kratos, Some(&page)))
        }
        (SettingsRejection::NoSession, Manner::Page) => see_other(&with_return(&login, &page)),
        (SettingsRejection::Invalid(_), Manner::Page) => see_other(&page),
        (SettingsRejection::Invalid(flow), _) => {
            Ok(shown(kratos, StatusCode::BAD_REQUEST, *flow, opened.secret.as_ref()))
        }
        (SettingsRejection::Overloaded(error), _) => {
            let refused = super::rejection::overloaded(error).into();
            super::flow::refused(kratos, caller.scope, opened, refused).await
        }
        (rejection, _) => Err(unseen(kratos, rejection)),
    }
}

/// Where somebody must prove itself again first.
pub(super) fn refresh_required(again: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN)
        .id("session_refresh_required")
        .reason(
            "The login session is too old and thus not allowed to update these fields. Please \
             re-authenticate.",
        )
        .detail("redirect_browser_to", again)
        .beside("redirect_browser_to", again)
}

/// Why settings are not shown, or what was sent to them is not looked at.
pub(super) fn unseen(kratos: &Kratos, rejection: SettingsRejection) -> ApiError {
    match rejection {
        SettingsRejection::Flow(rejection) => {
            not_shown(rejection, Purpose::Settings, kratos.public_url())
        }
        SettingsRejection::NoSession => no_active_session(),
        SettingsRejection::SecondFactorRequired => second_factor_required(kratos, None),
        SettingsRejection::IdentityMismatch => ApiError::new(StatusCode::FORBIDDEN)
            .id("security_identity_mismatch")
            .reason("The request was made for another identity and has been blocked."),
        SettingsRejection::Overloaded(error) => super::rejection::overloaded(error),
        SettingsRejection::Hook(failed) => super::rejection::hook_failed(failed),
        SettingsRejection::Store(error) => error.into(),
        // Answered before, each in its own way.
        SettingsRejection::RefreshRequired
        | SettingsRejection::Away(_)
        | SettingsRejection::Invalid(_) => ApiError::internal(),
    }
}
