//! Where somebody is signed in, as a part of the settings; and ending that by a form,
//! which needs no script.

use axum::{extract::State, response::Response};
use cardea_identity::{
    PageRequest, Scope, SessionId,
    flow::Purpose,
    model::Session,
    session::{CheckRejection, ListSessionsRejection, Proof, RevokeRejection},
};
use cardea_storage::Consistency;
use http::HeaderMap;
use maud::{Markup, html};

use super::{device, words::Words};
use crate::{
    body::Sent,
    error::ApiError,
    kratos::{
        Kratos,
        browser::see_other,
        csrf::check_token,
        flow::{flow_id, text},
        manner::Manner,
        rejection::no_active_session,
        sessions::need_all_factors,
    },
    query::Query,
    request::{Caller, Claimed, is_uuid},
};

/// Sessions that the page lists beside the own one.
const LISTED_MAX: u32 = 50;

/// The own session and the others.
pub(super) struct Sessions {
    own: Session,
    others: Vec<Session>,
}

pub(super) async fn list(
    kratos: &Kratos,
    scope: Scope,
    proof: &Proof,
) -> Result<Sessions, ApiError> {
    let service = kratos.service();
    let own = service.check_session(scope, proof, Consistency::Strong).await;
    let own = own.map_err(|error: CheckRejection| ApiError::from(error))?;
    let page = PageRequest { size: LISTED_MAX, token: None };
    let others = service.list_my_sessions(scope, proof, &page, Consistency::Strong).await;
    let others = others.map_err(|error: ListSessionsRejection| ApiError::from(error))?.items;
    Ok(Sessions { own, others })
}

pub(super) fn html(words: Words, sessions: &Sessions, token: &str, flow: &str) -> Markup {
    let form = |session: &str, label: &str, about: &str| {
        html! {
            form method="post" action={ "/ui/sessions?flow=" (flow) } {
                input type="hidden" name="csrf_token" value=(token);
                input type="hidden" name="session" value=(session);
                button.quiet.small type="submit" {
                    (words.say(label)) @if !about.is_empty() { span.visually-hidden { " " (about) } }
                }
            }
        }
    };
    html! {
        ul.sessions {
            (item(words, &sessions.own, true, &html! {}))
            @for session in &sessions.others {
                @let end = form(&session.id.to_string(), "Sign out", &device::name(words, session));
                (item(words, session, false, &end))
            }
            @if sessions.others.len() > 1 {
                li { div.what { p { (words.say("All other devices")) } } (form("others", "Sign out all", "")) }
            }
        }
    }
}

fn item(words: Words, session: &Session, is_own: bool, end: &Markup) -> Markup {
    let since = cardea_identity::time::rfc3339(session.authenticated_at);
    let day = since.split('T').next().unwrap_or_default();
    html! {
        li {
            div.what {
                p {
                    (device::name(words, session))
                    @if is_own { span.tag { (words.say("This device")) } }
                }
                p.detail {
                    (device::address(session)) " · "
                    (words.fill("signed in {day}", "day", &html! { time datetime=(since) { (day) } }))
                }
            }
            (end)
        }
    }
}

/// Ends a session that the settings page lists, or all but the own one.
pub(in super::super) async fn end(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let done = end_one(&kratos, caller.scope, proof, (&query, &headers), &sent).await;
    kratos.answer(caller.scope, Manner::of_browser(&headers), done).await
}

async fn end_one(
    kratos: &Kratos,
    scope: Scope,
    proof: Option<Proof>,
    (query, headers): (&Query, &HeaderMap),
    sent: &Sent,
) -> Result<Response, ApiError> {
    let (mut body, _) = sent.json_or_form()?;
    let token = text(&mut body, "csrf_token")?;
    check_token(headers, kratos.csrf_cookie(), token.as_deref())?;
    let proof = proof.ok_or_else(no_active_session)?;
    need_all_factors(kratos, scope, &proof).await?;
    let session = text(&mut body, "session")?.unwrap_or_default();
    let service = kratos.service();
    let done = if session == "others" {
        service.revoke_my_other_sessions(scope, &proof).await.map(|_| ())
    } else {
        let id: Option<SessionId> = session.parse().ok().filter(|_| is_uuid(&session));
        let id = id.ok_or_else(ApiError::no_such_row)?;
        service.revoke_my_session(scope, &proof, id).await
    };
    match done {
        // Gone already is as good.
        Ok(()) | Err(RevokeRejection::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    let urls = &kratos.options().urls;
    match flow_id(query, "flow") {
        Some(flow) => see_other(&urls.page(Purpose::Settings, &flow.to_string())),
        None => see_other(&urls.settings),
    }
}
