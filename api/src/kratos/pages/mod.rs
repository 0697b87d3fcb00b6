//! The pages that come with the API: log in, sign up, recover, verify, settings,
//! errors, and where somebody arrives. They show the same flows that any application's
//! own pages would, have no script but the one that passkeys and security keys need and one
//! by which a browser asks providers itself, and are replaced by naming other URLs.

mod device;
mod dry_run;
mod factors;
mod fedcm;
mod flows;
mod form;
mod layout;
mod oneself;
mod sessions;
pub mod theme;
mod words;

use axum::{Router, body::Body, extract::State, middleware, response::Response};
use cardea_identity::{language::Language, webauthn::script};
use cardea_storage::Consistency;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::html;

use self::{
    layout::{Width, brand, page},
    words::Words,
};
use super::{Kratos, browser::see_other, flow::second_step};
use crate::{
    answer,
    error::ApiError,
    query::Query,
    request::{Caller, Claimed, is_uuid, language_of},
};

pub use super::manner::asks_for_page;
pub(super) use fedcm::{SCRIPT as FEDCM_SCRIPT, script as fedcm_script};
pub(super) use flows::{login, recovery, registration, settings, verification};
pub(super) use oneself::{erased, erasure};
pub(super) use sessions::end as end_session;

pub(super) async fn style(State(kratos): State<Kratos>, _caller: Caller) -> Response {
    layout::stylesheet(&kratos.options().theme)
}

/// The script that passkeys and security keys need; pages of any origin may load it.
pub(super) async fn key_script(_caller: Caller) -> Response {
    scripted(script::TEXT)
}

fn scripted(text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) async fn error(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
) -> Result<Response, ApiError> {
    let id = query.first("id").filter(|id| is_uuid(id)).and_then(|id| id.parse().ok());
    let found = match id {
        Some(id) => kratos.service().flow_error(caller.scope, id).await?,
        None => None,
    };
    let told = |name: &str| {
        let error = found.as_ref().map(|found| &found.error)?;
        error[name].as_str().map(str::to_owned)
    };
    let words = Words::of(&kratos, &caller);
    let reason = told("reason").or_else(|| told("message"));
    let reason = reason.unwrap_or_else(|| "This error is not known any more.".to_owned());
    let name = told("id");
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say("Something went wrong")) }
            p.lead { (words.say(&reason)) }
            a.button href=(kratos.options().urls.default_return) { (words.say("Continue")) }
            @if let Some(id) = id {
                p.small-print {
                    @let reference = html! { @if let Some(name) = &name { (name) " · " } (id) };
                    (words.fill("Reference: {reference}", "reference", &reference))
                }
            }
        }
    };
    Ok(page(&kratos, StatusCode::OK, (words, "Error", Width::Narrow), content))
}

/// Shows a page to whoever asks for a place where nothing answers. It is for those who
/// [ask for pages](asks_for_page).
pub fn lost(kratos: Kratos) -> Router {
    let finish = middleware::from_fn(answer::finish);
    Router::new().fallback(nowhere).layer(finish).with_state(kratos)
}

async fn nowhere(State(kratos): State<Kratos>, headers: HeaderMap) -> Response {
    let words = Words::asked_for(&kratos, language_of(&headers));
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say("There is no page here")) }
            p.lead { (words.say("The address may be mistyped, or the page is gone.")) }
            a.button href=(kratos.options().urls.default_return) { (words.say("Continue")) }
        }
    };
    page(&kratos, StatusCode::NOT_FOUND, (words, "Not found", Width::Narrow), content)
}

/// A page that leads on to a provider by itself.
pub(super) fn onward(kratos: &Kratos, language: Option<Language>, url: &str) -> Response {
    let words = Words::asked_for(kratos, language);
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say("One moment")) }
            p.lead { (words.say("You are sent on to sign in there.")) }
            a.button href=(url) rel="noreferrer" { (words.say("Continue")) }
        }
    };
    page(kratos, StatusCode::OK, (words, "One moment", Width::Narrow), content)
}

/// Who names the host alone is sent where flows end by default: to be welcomed, or to the
/// operator's own application.
pub(super) async fn start(
    State(kratos): State<Kratos>,
    _caller: Caller,
) -> Result<Response, ApiError> {
    see_other(&kratos.options().urls.default_return)
}

pub(super) async fn welcome(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    _headers: HeaderMap,
) -> Result<Response, ApiError> {
    let service = kratos.service();
    let mut me = None;
    if let Some(proof) = &proof {
        let checked = service.check_session(caller.scope, proof, Consistency::Strong).await;
        match checked {
            Ok(session) if !session.satisfies(service.settings().session_required_aal) => {
                let place = &kratos.options().urls.default_return;
                return see_other(&second_step(&kratos, Some(place)));
            }
            Ok(session) => {
                let token = service.logout_token(caller.scope, proof).await?;
                me = Some((session, token));
            }
            Err(cardea_identity::session::CheckRejection::NoSession) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let words = Words::of(&kratos, &caller);
    let theme = &kratos.options().theme;
    let start = |purpose: &str| format!("/self-service/{purpose}/browser");
    let content = match me {
        Some((session, token)) => {
            let who = session.identity.as_ref().map(flows::who).unwrap_or_default();
            let logout = format!("/self-service/logout?token={}", token.expose());
            html! {
                (brand(theme))
                section.card {
                    h1 { (words.say("You are signed in")) }
                    p.lead { (words.fill("as {who}", "who", &html! { strong { (who) } })) }
                    a.button href=(start("settings")) { (words.say("Manage your account")) }
                    a.button.quiet href=(logout) { (words.say("Sign out")) }
                }
            }
        }
        None => html! {
            (brand(theme))
            section.card {
                h1 { (words.say("Welcome")) }
                p.lead { (words.say("Sign in to go on, or create an account.")) }
                a.button href=(start("login")) { (words.say("Sign in")) }
                a.button.quiet href=(start("registration")) { (words.say("Create an account")) }
            }
        },
    };
    Ok(page(&kratos, StatusCode::OK, (words, "Welcome", Width::Narrow), content))
}
