//! The frame of every page: what is sent around its content, and the rules by which a
//! browser takes it.

use axum::{body::Body, response::Response};
use cardea_identity::ui::{Attributes, Container, node::ScriptAttributes};
use http::{HeaderName, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{fedcm::Asked, theme::Theme, words::Words};
use crate::kratos::Kratos;

const CSP: HeaderName = HeaderName::from_static("content-security-policy");
const STYLE: &str = include_str!("style.css");
/// A hinge: the included mark, in the colour of the text.
const MARK: &str = "<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\" fill=\"none\" \
    stroke=\"currentColor\" stroke-width=\"2\" stroke-linecap=\"round\" stroke-linejoin=\"round\">\
    <path d=\"M12 3v18\"/><path d=\"M12 5H6.5A1.5 1.5 0 0 0 5 6.5v11A1.5 1.5 0 0 0 6.5 19H12\"/>\
    <path d=\"M12 7l5.6 1.7a1 1 0 0 1 .7 1v4.6a1 1 0 0 1-.7 1L12 17\"/></svg>";

/// A script that a page loads.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// Where it is.
    pub(super) src: String,
    /// Its digest.
    pub(super) integrity: String,
}

/// How wide a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// One form.
    Narrow,
    /// Several things one below the other.
    Wide,
}

/// A whole page, without a script.
pub(super) fn page(
    kratos: &Kratos,
    status: StatusCode,
    about: (Words, &str, Width),
    content: Markup,
) -> Response {
    framed(kratos, status, about, content, &[], &[])
}

/// A page of a flow, with the script that its form names, if it names one.
pub(super) fn flow_page(
    kratos: &Kratos,
    about: (Words, &str, Width),
    content: Markup,
    ui: &Container,
) -> Response {
    asking_page(kratos, about, content, ui, None)
}

/// The same, where the browser may ask providers itself.
pub(super) fn asking_page(
    kratos: &Kratos,
    about: (Words, &str, Width),
    content: Markup,
    ui: &Container,
    asked: Option<&Asked>,
) -> Response {
    let named = ui.nodes.iter().find_map(|node| match &node.attributes {
        Attributes::Script(ScriptAttributes { src, integrity, .. }) => {
            Some(Loaded { src: src.clone(), integrity: integrity.clone() })
        }
        _ => None,
    });
    let scripts: Vec<_> =
        named.into_iter().chain(asked.map(|asked| asked.script(kratos))).collect();
    let connects = asked.map(Asked::origins).unwrap_or_default();
    framed(kratos, StatusCode::OK, about, content, &scripts, &connects)
}

fn framed(
    kratos: &Kratos,
    status: StatusCode,
    (words, title, width): (Words, &str, Width),
    content: Markup,
    scripts: &[Loaded],
    connects: &[String],
) -> Response {
    let theme = &kratos.options().theme;
    let text = html! {
        (DOCTYPE)
        html lang=(words.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { (words.say(title)) " · " (theme.name) }
                link rel="stylesheet" href="/ui/style.css";
            }
            body class=[(width == Width::Narrow).then_some("centred")] {
                main class=[(width == Width::Wide).then_some("wide")] { (content) }
                @for script in scripts {
                    script src=(script.src) integrity=(script.integrity) defer
                        crossorigin="anonymous" referrerpolicy="no-referrer" {}
                }
            }
        }
    };
    let mut response = Response::new(Body::from(text.into_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::from_str(&policy(kratos, scripts, connects)) {
        headers.insert(CSP, policy);
    }
    // A form tells its own origin where it came from, and nobody else anything.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// No script but those that are named, which connect to nobody but whom they are to ask;
/// forms go to this origin and end where flows may lead.
fn policy(kratos: &Kratos, scripts: &[Loaded], connects: &[String]) -> String {
    let urls = &kratos.options().urls;
    let mut forms = urls.origins();
    forms.insert(0, "'self'".to_owned());
    let logo = kratos.options().theme.logo_url.as_deref().unwrap_or_default();
    let directive = |name: &str, all: Vec<&str>| match all.is_empty() {
        true => String::new(),
        false => format!("{name} {}; ", all.join(" ")),
    };
    let script = directive("script-src", scripts.iter().map(|one| one.src.as_str()).collect());
    let connect = directive("connect-src", connects.iter().map(String::as_str).collect());
    format!(
        "default-src 'none'; {script}{connect}style-src 'self'; img-src 'self' data: {logo}; \
         form-action {}; base-uri 'none'; frame-ancestors 'none'",
        forms.join(" ")
    )
}

/// The name and mark above a page.
pub(super) fn brand(theme: &Theme) -> Markup {
    html! {
        div.brand {
            @match &theme.logo_url {
                Some(url) => img src=(url) alt=(theme.name);
                None => { (PreEscaped(MARK)) span { (theme.name) } }
            }
        }
    }
}

/// The stylesheet: the theme's colours, the pages' own rules, and the theme's.
pub(super) fn stylesheet(theme: &Theme) -> Response {
    let Theme { accent, css, .. } = theme;
    let (light, dark) = (accent.css(), accent.lightened().css());
    let (on_light, on_dark) = (accent.text(), accent.lightened().text());
    let text = format!(
        ":root{{--accent:{light};--on-accent:{on_light};--focus:{light}}}\
         @media(prefers-color-scheme:dark){{:root{{--accent:{dark};--on-accent:{on_dark};\
         --focus:{dark}}}}}\n{STYLE}\n{css}"
    );
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    response
}
