//! Recovery and verification: `createNativeRecoveryFlow`, `createBrowserRecoveryFlow`,
//! `getRecoveryFlow`, `updateRecoveryFlow`, the same four of verifications,
//! `createRecoveryCodeForIdentity`, and `createRecoveryLinkForIdentity`.

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use cardea_identity::{
    Client, CsrfDigest, IdentityId,
    flow::{
        BeginCode, CodeOutcome, CodeRejection, CodeSubmission, Flow, NewRecovery, Purpose,
        RecoveryCodeRejection,
    },
    session::Proof,
    time::rfc3339,
};
use cardea_storage::Secret;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::json as value;

use super::{
    Kratos,
    browser::see_other,
    flow::{
        Browser, Opened, admit, asked, beginner, begun, open, refused, request_url, return_to,
        sender, show, shown, shown_with, text,
    },
    manner::Manner,
    rejection::{Refused, location_change_required, not_begun},
    wire::flow::{ContinueWith, ContinueWithFlow, RecoveryCodeBody},
};
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    query::Query,
    request::{Caller, Claimed, is_uuid},
};

macro_rules! handlers {
    ($module:ident, $purpose:expr, $doc:literal) => {
        #[doc = $doc]
        pub(super) mod $module {
            use super::*;

            pub(in super::super) async fn create_native(
                State(kratos): State<Kratos>,
                caller: Caller,
                Claimed(proof): Claimed,
                query: Query,
                uri: Uri,
                headers: HeaderMap,
            ) -> Result<Response, ApiError> {
                begin_native(&kratos, caller, $purpose, proof, (&query, &uri), &headers).await
            }

            pub(in super::super) async fn create_browser(
                State(kratos): State<Kratos>,
                caller: Caller,
                Claimed(proof): Claimed,
                query: Query,
                uri: Uri,
                headers: HeaderMap,
            ) -> Result<Response, ApiError> {
                begin_browser(&kratos, caller, $purpose, proof, (&query, &uri), &headers).await
            }

            pub(in super::super) async fn get(
                State(kratos): State<Kratos>,
                caller: Caller,
                query: Query,
                headers: HeaderMap,
            ) -> Result<Response, ApiError> {
                show(&kratos, caller, (&query, &headers), $purpose).await
            }

            pub(in super::super) async fn submit(
                State(kratos): State<Kratos>,
                caller: Caller,
                query: Query,
                uri: Uri,
                headers: HeaderMap,
                sent: Sent,
            ) -> Result<Response, ApiError> {
                if query.first("token").is_some() {
                    return follow(&kratos, &caller, $purpose, (&query, &uri), &headers).await;
                }
                let opened = open(&kratos, caller.scope, $purpose, &query, &headers).await;
                let (flow, manner) = match opened {
                    Ok(opened) => opened,
                    Err(answer) => return answer,
                };
                let done = take(&kratos, &caller, (flow, manner), &headers, &sent).await;
                kratos.answer(caller.scope, manner, done).await
            }

            pub(in super::super) async fn follow_link(
                State(kratos): State<Kratos>,
                caller: Caller,
                query: Query,
                uri: Uri,
                method: Method,
                headers: HeaderMap,
            ) -> Result<Response, ApiError> {
                // Programs that look at the links in mails ask so, and follow none.
                if method == Method::HEAD {
                    return Ok(StatusCode::NO_CONTENT.into_response());
                }
                follow(&kratos, &caller, $purpose, (&query, &uri), &headers).await
            }
        }
    };
}

handlers!(recovery, Purpose::Recovery, "Getting back in.");
handlers!(verification, Purpose::Verification, "Showing that an address is one's own.");

async fn begin_native(
    kratos: &Kratos,
    caller: Caller,
    purpose: Purpose,
    proof: Option<Proof>,
    (query, uri): (&Query, &Uri),
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let begin = BeginCode {
        request_url: request_url(kratos, uri),
        return_to: return_to(kratos, query)?,
        proof,
        browser: None,
        client: beginner(kratos, &caller.client, uri, headers),
    };
    let flow = kratos.service().begin_code(caller.scope, purpose, begin).await;
    let flow = flow.map_err(|rejection| not_begun(rejection, purpose))?;
    Ok(shown(kratos, StatusCode::OK, flow, None))
}

async fn begin_browser(
    kratos: &Kratos,
    caller: Caller,
    purpose: Purpose,
    proof: Option<Proof>,
    (query, uri): (&Query, &Uri),
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let browser = Browser::of(kratos, headers);
    let back = match return_to(kratos, query) {
        Ok(back) => back,
        Err(error) => return kratos.answer(caller.scope, browser.manner, Err(error)).await,
    };
    let begin = BeginCode {
        request_url: request_url(kratos, uri),
        return_to: back.clone(),
        proof,
        browser: Some(browser.secret.digest()),
        client: beginner(kratos, &caller.client, uri, headers),
    };
    let flow = kratos.service().begin_code(caller.scope, purpose, begin).await;
    begun(kratos, (caller.scope, purpose), browser, back.as_deref(), flow).await
}

async fn take(
    kratos: &Kratos,
    caller: &Caller,
    flow: (Flow, Manner),
    headers: &HeaderMap,
    sent: &Sent,
) -> Result<Response, ApiError> {
    let (mut body, _) = sent.json_or_form()?;
    let opened = admit(kratos, flow, headers, &mut body)?;
    let client = &sender(kratos, &caller.client, &opened.flow, headers, &body)?;
    let submission = CodeSubmission {
        method: text(&mut body, "method")?.unwrap_or_default(),
        email: text(&mut body, "email")?,
        code: text(&mut body, "code")?.map(Secret::new),
        token: None,
    };
    let what = (opened.flow.purpose, opened.flow.id);
    let done = kratos.service().submit_code(caller.scope, what, submission, client);
    match done.await {
        Ok(outcome) => outcome_of(kratos, caller, &opened, outcome),
        Err(rejection) => refused(kratos, caller.scope, &opened, Refused::from(rejection)).await,
    }
}

fn outcome_of(
    kratos: &Kratos,
    caller: &Caller,
    opened: &Opened,
    outcome: CodeOutcome,
) -> Result<Response, ApiError> {
    match outcome {
        CodeOutcome::Sent(flow) | CodeOutcome::Verified(flow) => answered(kratos, opened, *flow),
        CodeOutcome::Recovered { flow, issued, settings } => {
            let settings_id = settings.id.to_string();
            let page = kratos.options().urls.page(Purpose::Settings, &settings_id);
            let mut response = match opened.manner {
                Manner::Native => {
                    let steps = vec![
                        ContinueWith::SetOrySessionToken {
                            ory_session_token: issued.token.expose(),
                        },
                        ContinueWith::ShowSettingsUi {
                            flow: ContinueWithFlow { id: settings_id, url: None },
                        },
                    ];
                    return Ok(shown_with(kratos, StatusCode::OK, *flow, None, steps));
                }
                Manner::Script => location_change_required(&page).into_response(),
                Manner::Page => see_other(&page)?,
            };
            let expires_at = issued.session.expires_at;
            kratos.set_session(&mut response, caller.scope, &issued.token, expires_at);
            Ok(response)
        }
    }
}

fn answered(kratos: &Kratos, opened: &Opened, flow: Flow) -> Result<Response, ApiError> {
    if opened.manner == Manner::Page {
        return see_other(&kratos.options().urls.page(flow.purpose, &flow.id.to_string()));
    }
    Ok(shown(kratos, StatusCode::OK, flow, opened.secret.as_ref()))
}

pub(super) async fn create_code(
    State(kratos): State<Kratos>,
    caller: Caller,
    uri: Uri,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body: RecoveryCodeBody = sent.json()?;
    let is_native = body.flow_type.as_deref() == Some("api");
    let (id, new) = asked_recovery(&kratos, &uri, body)?;
    let new = NewRecovery { is_native, ..new };
    let made = kratos.service().create_recovery_code(caller.scope, id, new).await;
    let made = made.map_err(not_made)?;
    let link = kratos.options().urls.page(Purpose::Recovery, &made.flow.to_string());
    let body = value!({
        "recovery_link": link,
        "recovery_code": made.code.expose(),
        "expires_at": rfc3339(made.expires_at),
    });
    Ok(json(StatusCode::CREATED, &body))
}

pub(super) async fn create_link(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    uri: Uri,
    sent: Sent,
) -> Result<Response, ApiError> {
    let (id, new) = asked_recovery(&kratos, &uri, sent.json()?)?;
    let return_to = return_to(&kratos, &query)?.unwrap_or_default();
    let made =
        kratos.service().create_recovery_link(caller.scope, id, NewRecovery { return_to, ..new });
    let made = made.await.map_err(not_made)?;
    let link = kratos.service().link(Purpose::Recovery, made.flow, &made.code);
    let body = value!({"recovery_link": link, "expires_at": rfc3339(made.expires_at)});
    Ok(json(StatusCode::OK, &body))
}

/// Who is to be let in, and how.
fn asked_recovery(
    kratos: &Kratos,
    uri: &Uri,
    body: RecoveryCodeBody,
) -> Result<(IdentityId, NewRecovery), ApiError> {
    let id = body.identity_id.filter(|id| is_uuid(id)).and_then(|id| id.parse().ok());
    let id = id.ok_or_else(ApiError::no_such_row)?;
    let lifespan = body.expires_in.as_deref().map(go_duration).transpose()?;
    let request_url = request_url(kratos, uri);
    Ok((id, NewRecovery { lifespan, request_url, ..NewRecovery::default() }))
}

fn not_made(rejection: RecoveryCodeRejection) -> ApiError {
    match rejection {
        RecoveryCodeRejection::NotFound => ApiError::no_such_row(),
        RecoveryCodeRejection::NotOffered => {
            ApiError::bad_request("Recovery is not allowed because it was disabled.")
        }
        RecoveryCodeRejection::Store(error) => error.into(),
    }
}

/// A link that is followed: the token in it is all that counts, whatever browser brings
/// it, and that browser has the flow from then on. Who brings a wrong one to a flow of
/// another browser gets a flow of its own, which says so.
async fn follow(
    kratos: &Kratos,
    caller: &Caller,
    purpose: Purpose,
    (query, uri): (&Query, &Uri),
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let (flow, manner) = match open(kratos, caller.scope, purpose, query, headers).await {
        Ok((flow, _)) => (flow, Manner::of_browser(headers)),
        Err(answer) => return answer,
    };
    let done = take_link(kratos, caller, (flow, manner), (query, uri), headers).await;
    kratos.answer(caller.scope, manner, done).await
}

async fn take_link(
    kratos: &Kratos,
    caller: &Caller,
    (flow, manner): (Flow, Manner),
    (query, uri): (&Query, &Uri),
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let token = query
        .first("token")
        .ok_or_else(|| ApiError::bad_request("The token query parameter is missing."))?;
    let Browser { secret, .. } = Browser::of(kratos, headers);
    let (scope, purpose, digest) = (caller.scope, flow.purpose, secret.digest());
    let submission = CodeSubmission::followed(token.to_owned(), digest);
    let what = (purpose, flow.id);
    // The token is nobody's to be told.
    let url = format!("{}{}?flow={}", kratos.public_url(), uri.path(), flow.id);
    let client = Client { asked: asked(kratos, ("GET", &url), headers), ..caller.client.clone() };
    let done = kratos.service().submit_code(scope, what, submission, &client).await;
    let language = caller.client.language;
    let mut opened =
        Opened { flow, manner, secret: Some(secret.clone()), from_own_page: false, language };
    let mut response = match done {
        Ok(outcome) => outcome_of(kratos, caller, &opened, outcome)?,
        Err(CodeRejection::Invalid(refusal)) => {
            let mine = refusal.browser == Some(digest);
            opened.flow = if mine {
                *refusal
            } else {
                begin_again(kratos, caller, purpose, (uri, headers), digest).await?
            };
            let refusal = Refused::Flow(Box::new(opened.flow.clone()));
            refused(kratos, scope, &opened, refusal).await?
        }
        Err(rejection) => refused(kratos, scope, &opened, Refused::from(rejection)).await?,
    };
    kratos.set_csrf(&mut response, &secret);
    Ok(response)
}

/// A flow for a browser that followed a link which is no good.
async fn begin_again(
    kratos: &Kratos,
    caller: &Caller,
    purpose: Purpose,
    (uri, headers): (&Uri, &HeaderMap),
    browser: CsrfDigest,
) -> Result<Flow, ApiError> {
    // The token is nobody's to keep.
    let request_url = format!("{}{}", kratos.public_url(), uri.path());
    let asked = asked(kratos, ("GET", &request_url), headers);
    let begin = BeginCode {
        request_url,
        browser: Some(browser),
        client: Client { asked, ..caller.client.clone() },
        ..BeginCode::default()
    };
    let flow = kratos.service().begin_after_link(caller.scope, purpose, begin).await;
    flow.map_err(|rejection| not_begun(rejection, purpose))
}

/// A duration as Go writes it, in whole hours, minutes and seconds.
fn go_duration(text: &str) -> Result<Duration, ApiError> {
    let refuse = || ApiError::bad_request("Unable to parse \"expires_in\" as a duration.");
    let (mut rest, mut seconds) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = match tail.bytes().next() {
            Some(b'h') => 3600,
            Some(b'm') => 60,
            Some(b's') => 1,
            _ => return Err(refuse()),
        };
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let more = number.checked_mul(unit).ok_or_else(refuse)?;
        seconds = seconds.checked_add(more).ok_or_else(refuse)?;
        rest = &tail[1..];
    }
    if seconds == 0 || seconds > 30 * 24 * 3600 {
        return Err(refuse());
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("1h", 3600), ("30m", 1800), ("1h30m10s", 5410), ("1h0m0s", 3600)] {
            assert_eq!(go_duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "1", "h", "-1h", "0s", "1.5h", "9999999h", "99999999999999999999s"] {
            assert!(go_duration(text).is_err(), "{text}");
        }
    }
}
