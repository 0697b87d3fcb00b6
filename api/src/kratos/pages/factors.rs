//! Second factors and keys on pages: the second step of a login, and the sections of
//! settings that add and remove them.

use axum::response::Response;
use cardea_identity::{
    flow::{Flow, FlowState},
    session::Proof,
    ui::{Attributes, Container, InputType, Node, node::Group},
};
use maud::{Markup, html};

use super::{
    flows::{plain, plain_form, sent_to},
    form::{Form, notices},
    layout::{Width, brand, flow_page},
    words::Words,
};
use crate::{error::ApiError, kratos::Kratos, request::Caller};

/// The page that asks for a second factor: each way has a form of its own.
pub(super) async fn second_step(
    kratos: &Kratos,
    caller: &Caller,
    proof: Option<&Proof>,
    flow: &Flow,
) -> Result<Response, ApiError> {
    let words = Words::of(kratos, caller);
    let offers = |group| flow.ui.nodes.iter().any(|node| node.group == group);
    let form = |group, prefix, submit, focus| Form {
        group: Some(group),
        prefix,
        submit: Some(submit),
        focus,
        ..plain(words, flow)
    };
    let logout = match proof {
        Some(proof) => kratos.service().logout_token(caller.scope, proof).await.ok(),
        None => None,
    };
    let logout = logout.map(|token| format!("/self-service/logout?token={}", token.expose()));
    // The flow says in its own words what title and lead do.
    let said = |id: u32| !matches!(id, 1_010_003 | 1_010_004 | 1_010_014);
    let said: Vec<_> = flow.ui.messages.iter().filter(|m| said(m.id)).cloned().collect();
    let (totp, keys) = (offers(Group::Totp), offers(Group::Webauthn));
    let sent = flow.state == FlowState::SentEmail;
    let codes = Form { submit: None, ..form(Group::Code, "code", "", sent) };
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say("Confirm that it is you")) }
            @if sent { (sent_to(words, flow)) } @else {
                p.lead {
                    @if totp { (words.say("Enter the code that your authenticator app shows.")) }
                    @else { (words.say("One more step, to keep your account safe.")) }
                }
            }
            (notices(words, &said))
            (complaint(words, &flow.ui))
            @if totp { (form(Group::Totp, "totp", "Continue", true).html()) }
            @if keys { (form(Group::Webauthn, "key", "Continue", false).html()) }
            @if offers(Group::Code) { (codes.html()) }
            @if offers(Group::LookupSecret) {
                details open[!totp && !keys && !offers(Group::Code)] {
                    summary { (words.say("Use a backup code")) }
                    (form(Group::LookupSecret, "lookup", "Use backup code", false).html())
                }
            }
        }
        @if let Some(logout) = logout {
            p.after { a href=(logout) { (words.say("Sign in as somebody else")) } }
        }
    };
    Ok(flow_page(kratos, (words, "Confirm that it is you", Width::Narrow), content, &flow.ui))
}

/// Where the script tells what went wrong.
pub(super) fn complaint(words: Words, ui: &Container) -> Markup {
    let scripted = ui.nodes.iter().any(|node| matches!(node.attributes, Attributes::Script(_)));
    html! {
        @if scripted {
            div.notice.error role="alert" hidden
                data-webauthn-error=(words.say("That did not work. Try again, or use another way.")) {}
        }
    }
}

/// The sections of settings.
pub(super) fn sections(words: Words, ui: &Container) -> Markup {
    let has = |name: &str| ui.find(name).is_some();
    let offers = |group| ui.nodes.iter().any(|node| node.group == group);
    let form = |group, prefix, submit| Form {
        group: Some(group),
        prefix,
        submit: Some(submit),
        focus: false,
        ..plain_form(words, ui)
    };
    html! {
        @if offers(Group::Passkey) {
            section.card aria-labelledby="passkeys" {
                h2 id="passkeys" { (words.say("Passkeys")) }
                p.lead { (words.say("Sign in with your fingerprint, face or screen lock, without a password.")) }
                (keys(words, ui, Group::Passkey, "passkey_remove"))
                (rest(words, ui, Group::Passkey, "passkey").html())
            }
        }
        @if offers(Group::Totp) {
            section.card aria-labelledby="totp" {
                h2 id="totp" { (words.say("Authenticator app")) }
                @if has("totp_unlink") {
                    p.lead { (words.say("When you sign in, you are asked for a code of your app.")) }
                } @else {
                    p.lead { (words.say("Scan the picture with an app, then enter the code that it shows.")) }
                }
                (form(Group::Totp, "totp", "Add app").html())
            }
        }
        @if offers(Group::LookupSecret) {
            section.card aria-labelledby="lookup" {
                h2 id="lookup" { (words.say("Backup codes")) }
                p.lead { (words.say("Each gets you in once, when you have neither your app nor your key.")) }
                (form(Group::LookupSecret, "lookup", "").html())
            }
        }
        @if offers(Group::Webauthn) && has("webauthn_register") {
            section.card aria-labelledby="webauthn" {
                h2 id="webauthn" { (words.say("Security keys")) }
                p.lead { (words.say("A key to plug in or to hold against when you sign in.")) }
                (keys(words, ui, Group::Webauthn, "webauthn_remove"))
                (rest(words, ui, Group::Webauthn, "webauthn").html())
            }
        }
    }
}

/// The keys that there are, each with a form that removes it.
fn keys(words: Words, ui: &Container, group: Group, name: &str) -> Markup {
    let removes = |node: &&Node| node.group == group && node.name() == name;
    let token = ui.find("csrf_token").and_then(|node| match &node.attributes {
        Attributes::Input(input) => input.value.as_ref()?.as_str(),
        _ => None,
    });
    let all: Vec<&Node> = ui.nodes.iter().filter(removes).collect();
    html! {
        @if !all.is_empty() {
            ul.sessions {
                @for node in all {
                    @if let Attributes::Input(input) = &node.attributes {
                        @let context = node.meta.label.as_ref().and_then(|l| l.context.as_ref());
                        @let told = |name: &str| context.and_then(|c| c.get(name)?.as_str());
                        @let name = told("display_name").filter(|name| *name != "unnamed");
                        @let since = told("added_at").unwrap_or_default();
                        @let day = since.split('T').next().unwrap_or_default();
                        li {
                            div.what {
                                p {
                                    @match (name, group) {
                                        (Some(name), _) => (name),
                                        (None, Group::Passkey) => (words.say("Passkey")),
                                        (None, _) => (words.say("Security key")),
                                    }
                                }
                                p.detail {
                                    (words.fill("added {day}", "day", &html! { time datetime=(since) { (day) } }))
                                }
                            }
                            form method="post" action=(ui.action) {
                                input type="hidden" name="csrf_token" value=[token];
                                button.quiet.small type="submit" name=(input.name)
                                    value=[input.value.as_ref().and_then(|v| v.as_str())]
                                    disabled[input.disabled] {
                                    (words.say("Remove")) span.visually-hidden { " " (since) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The form that adds one.
fn rest<'a>(words: Words, ui: &'a Container, group: Group, prefix: &'a str) -> Form<'a> {
    Form {
        group: Some(group),
        prefix,
        focus: false,
        skipped: Some(InputType::Submit),
        ..plain_form(words, ui)
    }
}
