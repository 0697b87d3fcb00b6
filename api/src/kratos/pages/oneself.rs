//! The section of the settings about all that is held of somebody, the page that asks
//! whether to erase it, and the one that says so afterwards.

use axum::{extract::State, response::Response};
use cardea_identity::Settings;
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};

use super::{
    flows::who,
    layout::{Width, brand, page},
    words::Words,
};
use crate::{
    error::ApiError,
    kratos::{Kratos, flow::Browser, manner::Manner, oneself},
    request::{Caller, Claimed},
};

/// The section of the settings.
pub(super) fn section(words: Words, settings: &Settings) -> Markup {
    html! {
        @if settings.self_export || settings.self_erasure {
            section.card aria-labelledby="data" {
                h2 id="data" { (words.say("Your data")) }
                p.lead { (words.say("A copy of all that is held of you, or the end of your account.")) }
                div.actions {
                    @if settings.self_export {
                        a.button.quiet href="/self-service/export" { (words.say("Download a copy")) }
                    }
                    @if settings.self_erasure {
                        a.button.quiet.danger href=(oneself::PAGE) { (words.say("Delete account")) }
                    }
                }
            }
        }
    }
}

/// Asks whether everything is to be erased.
pub(in super::super) async fn erasure(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let service = kratos.service();
    let me = match service.fresh_self(caller.scope, proof.as_ref()).await {
        Ok(me) => me,
        Err(rejection) => {
            let here = format!("{}{}", kratos.public_url(), oneself::PAGE);
            return oneself::refused(&kratos, Manner::Page, rejection, &here);
        }
    };
    let Browser { secret, .. } = Browser::of(&kratos, &headers);
    let token = secret.token(service.entropy());
    let words = Words::of(&kratos, &caller);
    let title = "Delete your account";
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say(title)) }
            p.lead {
                (words.fill(
                    "The account of {who} is deleted for good, with all that is held of it. Every session ends at once.",
                    "who",
                    &html! { strong { (who(&me)) } },
                ))
            }
            form method="post" action="/self-service/erasure" {
                input type="hidden" name="csrf_token" value=(token);
                div.field {
                    input type="checkbox" id="confirm" name="confirm" value=(me.id) required;
                    label for="confirm" { (words.say("Yes, delete everything")) }
                }
                button.danger type="submit" { (words.say("Delete account")) }
            }
        }
        p.after { a href=(kratos.options().urls.settings) { (words.say("Keep my account")) } }
    };
    let mut response = page(&kratos, StatusCode::OK, (words, title, Width::Narrow), content);
    kratos.set_csrf(&mut response, &secret);
    Ok(response)
}

/// Says that it was.
pub(in super::super) async fn erased(State(kratos): State<Kratos>, caller: Caller) -> Response {
    let words = Words::of(&kratos, &caller);
    let title = "Your account was deleted";
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say(title)) }
            p.lead { (words.say("You are signed out everywhere, and what was held of you is being erased.")) }
            a.button href=(kratos.options().urls.default_return) { (words.say("Continue")) }
        }
    };
    page(&kratos, StatusCode::OK, (words, title, Width::Narrow), content)
}
