//! The page of a flow that tries a provider: its button, and then what came of it. What a
//! provider said is text like any other, and is escaped.

use axum::response::Response;
use cardea_identity::flow::{DryRun, Flow};
use http::StatusCode;
use maud::html;
use serde_json::Value;

use super::{
    flows::plain,
    form::notices,
    layout::{Width, brand, page},
    words::Words,
};
use crate::{
    kratos::{Kratos, csrf::CsrfSecret},
    request::Caller,
};

/// The page; the browser is given its secret if that is a new one.
pub(super) fn page_of(
    kratos: &Kratos,
    caller: &Caller,
    (flow, run): (&Flow, &DryRun),
    fresh: Option<&CsrfSecret>,
) -> Response {
    let words = Words::of(kratos, caller);
    let known = kratos.service().settings().providers.get(&run.provider);
    let label = known.map_or(&run.provider, |provider| &provider.label);
    let provider = html! { strong { (label) } };
    let failed = run.payload.as_ref().and_then(|told| told.get("error"));
    let (title, width) = match run.payload {
        Some(_) => ("What came of the test", Width::Wide),
        None => ("Try a sign-in", Width::Narrow),
    };
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say(title)) }
            @match &run.payload {
                Some(told) => {
                    @if let Some(failed) = failed {
                        div.notice.error role="alert" {
                            (words.fill("The test did not reach its end: {step}", "step", &html! {
                                code { (text(failed, "step")) } " (" (text(failed, "reason")) "): "
                                (text(failed, "message"))
                            }))
                        }
                    }
                    p.lead {
                        (words.fill(
                            "Nobody was signed in. This is what {provider} said, and what would \
                             have been made of it:",
                            "provider",
                            &provider,
                        ))
                    }
                    pre.told { (serde_json::to_string_pretty(told).unwrap_or_default()) }
                }
                None => {
                    p.lead {
                        (words.fill(
                            "This shows how {provider} answers. Nobody is signed in by it.",
                            "provider",
                            &provider,
                        ))
                    }
                    (notices(words, &flow.ui.messages))
                    (plain(words, flow).html())
                }
            }
        }
    };
    let mut response = page(kratos, StatusCode::OK, (words, title, width), content);
    if let Some(secret) = fresh {
        kratos.set_csrf(&mut response, secret);
    }
    response
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}
