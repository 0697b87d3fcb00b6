//! The pages of flows. One that is not there, over, or another browser's begins anew.

use axum::{extract::State, response::Response};
use cardea_identity::{
    flow::{AddressProof, Flow, FlowState, Purpose, SettingsRejection},
    model::Identity,
    password::Standing,
    session::Aal,
    ui::{Attributes, Container, InputType, Node, node::Group},
};
use http::{HeaderMap, StatusCode, Uri};
use maud::{Markup, html};

use super::{
    dry_run, factors, fedcm,
    form::{Form, notices},
    layout::{Width, asking_page, brand, flow_page, page},
    oneself, sessions,
    words::Words,
};
use crate::{
    error::ApiError,
    kratos::{
        Kratos,
        browser::see_other,
        csrf::{CsrfSecret, check_owner},
        flow::{flow_id, owned, second_step, with_return},
    },
    query::Query,
    request::{Caller, Claimed},
};

pub(in super::super) async fn login(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let found = find(&kratos, &caller, Purpose::Login, (&query, &uri), &headers).await;
    let (flow, fresh) = match found {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    if let Some(run) = &flow.dry_run {
        return Ok(dry_run::page_of(&kratos, &caller, (&flow, run), fresh.as_ref()));
    }
    if flow.requested_aal == Aal::Aal2 {
        return factors::second_step(&kratos, &caller, proof.as_ref(), &flow).await;
    }
    let words = Words::of(&kratos, &caller);
    let back = flow.return_to.as_deref();
    let forgotten = start(Purpose::Recovery, back);
    let offers_recovery = kratos.service().settings().recovery;
    let identifier = identifier(&kratos, &flow.schema_id);
    let form = Form {
        identifier,
        submit: Some("Sign in"),
        forgotten: Some(forgotten.as_str()).filter(|_| offers_recovery),
        ..plain(words, &flow)
    };
    let sent = flow.state == FlowState::SentEmail;
    let (title, lead) = if sent {
        ("Check your messages", sent_to(words, &flow))
    } else if flow.refresh {
        let lead = words.say("Sign in again to go on.");
        ("Confirm that it is you", html! { p.lead { (lead) } })
    } else {
        ("Sign in", html! {})
    };
    let form = Form { submit: form.submit.filter(|_| !sent), ..form };
    // The flow says it in its own words, which are the title's.
    let said = |id: u32| id != 1_010_003 && !is_sent(id);
    let said: Vec<_> = flow.ui.messages.iter().filter(|m| said(m.id)).cloned().collect();
    let asked = fedcm::Asked::of(&kratos, &caller, &flow, &headers);
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say(title)) }
            (lead)
            (notices(words, &said))
            (factors::complaint(words, &flow.ui))
            (form.html())
            @if let Some(asked) = &asked { (asked.html()) }
        }
        @if !flow.refresh {
            p.after {
                (words.say("New here?")) " "
                a href=(start(Purpose::Registration, back)) { (words.say("Create an account")) }
            }
        }
    };
    let about = (words, title, Width::Narrow);
    Ok(asking_page(&kratos, about, content, &flow.ui, asked.as_ref()))
}

pub(in super::super) async fn registration(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let found = find(&kratos, &caller, Purpose::Registration, (&query, &uri), &headers).await;
    let flow = match found {
        Ok((flow, _)) => flow,
        Err(answer) => return answer,
    };
    let words = Words::of(&kratos, &caller);
    let sent = flow.state == FlowState::SentEmail;
    let title = if sent { "Check your messages" } else { "Create your account" };
    let lead = if sent {
        sent_to(words, &flow)
    } else {
        html! {}
    };
    // The page says it with the address.
    let said = |id: u32| !(sent && id == 1_040_005);
    let said: Vec<_> = flow.ui.messages.iter().filter(|m| said(m.id)).cloned().collect();
    let submit = Some("Create account").filter(|_| !sent);
    let length_min = Some(kratos.service().settings().password_policy.least(Standing::Alone));
    let form = Form { submit, length_min, ..plain(words, &flow) };
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say(title)) }
            (lead)
            (notices(words, &said))
            (factors::complaint(words, &flow.ui))
            (form.html())
        }
        p.after {
            (words.say("Have an account?")) " "
            a href=(start(Purpose::Login, flow.return_to.as_deref())) { (words.say("Sign in")) }
        }
    };
    Ok(flow_page(&kratos, (words, title, Width::Narrow), content, &flow.ui))
}

pub(in super::super) async fn recovery(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let lead = match kratos.service().settings().recovery_proof {
        AddressProof::Code => "Enter the address of your account, and we send you a code.",
        AddressProof::Link => "Enter the address of your account, and we send you a link.",
    };
    let about = ("Recover your account", lead);
    code(&kratos, &caller, Purpose::Recovery, (&query, &uri), &headers, about).await
}

pub(in super::super) async fn verification(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let lead = match kratos.service().settings().verification_proof {
        AddressProof::Code => "Enter your address, and we send you a code.",
        AddressProof::Link => "Enter your address, and we send you a link.",
    };
    let about = ("Verify your email", lead);
    code(&kratos, &caller, Purpose::Verification, (&query, &uri), &headers, about).await
}

async fn code(
    kratos: &Kratos,
    caller: &Caller,
    purpose: Purpose,
    asked: (&Query, &Uri),
    headers: &HeaderMap,
    (title, lead): (&str, &str),
) -> Result<Response, ApiError> {
    let (flow, fresh) = match find(kratos, caller, purpose, asked, headers).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let words = Words::of(kratos, caller);
    let (title, lead) = match flow.state {
        FlowState::ChooseMethod => {
            let numbers = purpose == Purpose::Verification && takes_numbers(&flow);
            let title = if numbers { "Verify your address" } else { title };
            (title, html! { p.lead { (words.say(lead)) } })
        }
        FlowState::SentEmail if address_of(&flow).is_some_and(|to| !to.contains('@')) => {
            ("Check your messages", sent_to(words, &flow))
        }
        FlowState::SentEmail => ("Check your email", sent_to(words, &flow)),
        _ => ("All done", html! {}),
    };
    let said: Vec<_> = flow.ui.messages.iter().filter(|m| !is_sent(m.id)).cloned().collect();
    let again = flow.state == FlowState::SentEmail && is_by_link(&flow);
    let form =
        Form { submit: again.then_some("Send another link"), focus: !again, ..plain(words, &flow) };
    let content = html! {
        (brand(&kratos.options().theme))
        section.card {
            h1 { (words.say(title)) }
            (lead)
            (notices(words, &said))
            (form.html())
        }
        @if purpose == Purpose::Recovery {
            p.after {
                a href=(start(Purpose::Login, flow.return_to.as_deref())) { (words.say("Back to sign in")) }
            }
        } @else if flow.state == FlowState::SentEmail {
            p.after {
                a href=(kratos.options().urls.default_return) { (words.say("Not now")) }
            }
        }
    };
    let mut response = page(kratos, StatusCode::OK, (words, title, Width::Narrow), content);
    if let Some(secret) = fresh {
        kratos.set_csrf(&mut response, &secret);
    }
    Ok(response)
}

/// That a code or a link was sent, which the page's own title says.
fn is_sent(id: u32) -> bool {
    matches!(id, 1_010_014 | 1_060_002 | 1_060_003 | 1_060_004 | 1_080_001 | 1_080_003 | 1_080_004)
}

/// Whether a link completes the flow.
fn is_by_link(flow: &Flow) -> bool {
    flow.ui.nodes.iter().any(|node| node.group == Group::Link)
}

/// The address that a message was sent to, as the form has it.
fn address_of(flow: &Flow) -> Option<&str> {
    fn value(node: &Node) -> Option<&str> {
        match &node.attributes {
            Attributes::Input(input) => input.value.as_ref()?.as_str().filter(|v| !v.is_empty()),
            _ => None,
        }
    }
    let named = flow.ui.find("email").or_else(|| flow.ui.find("identifier")).and_then(value);
    // Who signs up said it among the traits.
    let traits = flow.ui.nodes.iter().filter(|node| node.name().starts_with("traits."));
    let is_address = |value: &&str| value.contains('@') || value.starts_with('+');
    named.or_else(|| traits.filter_map(value).find(is_address))
}

/// Whether the form of an address takes numbers.
fn takes_numbers(flow: &Flow) -> bool {
    flow.ui.find("email").is_some_and(|node| match &node.attributes {
        Attributes::Input(input) => matches!(input.kind, InputType::Tel | InputType::Text),
        _ => false,
    })
}

pub(super) fn sent_to(words: Words, flow: &Flow) -> Markup {
    let address = address_of(flow);
    // A second factor goes to an address that is known.
    let is_first = flow.requested_aal != Aal::Aal2;
    let asked_for = is_first && flow.ui.messages.iter().any(|text| is_sent(text.id));
    let shown = |address: &str| html! { strong { (address) } };
    let by_link = is_by_link(flow);
    html! {
        p.lead {
            @match (address, asked_for) {
                (Some(address), true) if by_link => (words.fill(
                    "If {address} belongs to an account, a link is on its way there.",
                    "address",
                    &shown(address),
                )),
                (Some(address), false) if by_link => (words.fill(
                    "Follow the link that was sent to {address}.",
                    "address",
                    &shown(address),
                )),
                (Some(address), true) => (words.fill(
                    "If {address} belongs to an account, a code of six digits is on its way there.",
                    "address",
                    &shown(address),
                )),
                (Some(address), false) => (words.fill(
                    "Enter the code of six digits that was sent to {address}.",
                    "address",
                    &shown(address),
                )),
                (None, _) => (words.say("Enter the code of six digits that you were given.")),
            }
        }
    }
}

pub(in super::super) async fn settings(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let again = || see_other(&begin(&kratos, Purpose::Settings, &uri));
    let Some(id) = flow_id(&query, "flow") else { return again() };
    let found = kratos.service().settings_flow(caller.scope, id, proof.as_ref()).await;
    let (mut flow, proof) = match (found, proof) {
        (Ok(flow), Some(proof)) => (flow, proof),
        (Err(SettingsRejection::Store(error)), _) => return Err(error.into()),
        (Err(SettingsRejection::SecondFactorRequired), _) => {
            let here = kratos.options().urls.page(Purpose::Settings, &id.to_string());
            return see_other(&second_step(&kratos, Some(&here)));
        }
        _ => return again(),
    };
    let owner = flow.browser.map(|flow| check_owner(&headers, kratos.csrf_cookie(), flow));
    let Some(Ok(secret)) = owner else { return again() };
    let token = secret.token(kratos.service().entropy());
    flow.ui.fill("csrf_token", token.as_str().into());
    let sessions = sessions::list(&kratos, caller.scope, &proof).await?;
    let logout = kratos.service().logout_token(caller.scope, &proof).await?;
    let logout = format!("/self-service/logout?token={}", logout.expose());
    let words = Words::of(&kratos, &caller);
    let holder = flow.identity.as_ref().map(who).unwrap_or_default();
    let has_second = flow.identity.as_ref().is_some_and(|identity| identity.has_second_factor);
    let standing = if has_second { Standing::BesideSecond } else { Standing::Alone };
    let length_min = Some(kratos.service().settings().password_policy.least(standing));
    let form = |group, prefix, submit| Form {
        group: Some(group),
        length_min,
        holder: Some(holder.as_str()).filter(|_| group == Group::Password),
        prefix,
        submit: Some(submit),
        focus: false,
        ..plain(words, &flow)
    };
    let content = html! {
        div.top {
            (brand(&kratos.options().theme))
            nav aria-label=(words.say("Account")) { a href=(logout) { (words.say("Sign out")) } }
        }
        h1 { (words.say("Settings")) }
        p.lead {
            (words.fill("Signed in as {who}", "who", &html! { strong { (holder) } }))
        }
        (notices(words, &flow.ui.messages))
        (factors::complaint(words, &flow.ui))
        section.card aria-labelledby="profile" {
            h2 id="profile" { (words.say("Profile")) }
            (form(Group::Profile, "profile", "Save changes").html())
        }
        section.card aria-labelledby="password" {
            h2 id="password" { (words.say("Password")) }
            p.lead { (words.say("A new password signs you out everywhere else.")) }
            (form(Group::Password, "password", "Change password").html())
        }
        @if flow.ui.nodes.iter().any(|node| node.group == Group::Oidc) {
            section.card aria-labelledby="accounts" {
                h2 id="accounts" { (words.say("Linked accounts")) }
                p.lead { (words.say("Other accounts that you can sign in with.")) }
                (form(Group::Oidc, "accounts", "").html())
            }
        }
        (factors::sections(words, &flow.ui))
        section.card aria-labelledby="sessions" {
            h2 id="sessions" { (words.say("Where you are signed in")) }
            (sessions::html(words, &sessions, &token, &flow.id.to_string()))
        }
        (oneself::section(words, kratos.service().settings()))
    };
    Ok(flow_page(&kratos, (words, "Settings", Width::Wide), content, &flow.ui))
}

/// The flow in the query, if it is this browser's; else an answer that begins one.
async fn find(
    kratos: &Kratos,
    caller: &Caller,
    purpose: Purpose,
    (query, uri): (&Query, &Uri),
    headers: &HeaderMap,
) -> Result<(Flow, Option<CsrfSecret>), Result<Response, ApiError>> {
    let anew = begin(kratos, purpose, uri);
    let Some(id) = flow_id(query, "flow") else { return Err(see_other(&anew)) };
    match owned(kratos, caller.scope, purpose, id, headers).await {
        Ok((mut flow, Some(secret), is_new)) => {
            let token = secret.token(kratos.service().entropy());
            flow.ui.fill("csrf_token", token.into());
            Ok((flow, Some(secret).filter(|_| is_new)))
        }
        // What came of a provider that was tried: there is nothing more to send.
        Ok((flow, None, _)) if flow.dry_run.is_some() => Ok((flow, None)),
        // A native client's: no browser can complete it.
        Ok((_, None, _)) => Err(see_other(&anew)),
        Err(error) if error.status().is_server_error() => Err(Err(error)),
        Err(_) => Err(see_other(&anew)),
    }
}

/// Where a flow begins, with what the page was asked, but for the flow.
fn begin(kratos: &Kratos, purpose: Purpose, uri: &Uri) -> String {
    let query = Query::parse(uri.query().unwrap_or_default());
    let rest = query.without(&["flow"]).finish();
    let mark = if rest.is_empty() { "" } else { "?" };
    format!("{}/self-service/{}/browser{mark}{rest}", kratos.public_url(), purpose.name())
}

/// Where another flow begins that ends where this one would.
fn start(purpose: Purpose, return_to: Option<&str>) -> String {
    let url = format!("/self-service/{}/browser", purpose.name());
    return_to.map_or_else(|| url.clone(), |back| with_return(&url, back))
}

pub(super) fn plain(words: Words, flow: &Flow) -> Form<'_> {
    plain_form(words, &flow.ui)
}

pub(super) fn plain_form(words: Words, ui: &Container) -> Form<'_> {
    Form {
        words,
        ui,
        group: None,
        identifier: "",
        submit: None,
        forgotten: None,
        holder: None,
        length_min: None,
        focus: true,
        prefix: "field",
        skipped: None,
    }
}

/// What people call what they sign in with.
fn identifier(kratos: &Kratos, schema: &str) -> &'static str {
    let schemas = kratos.service().schemas();
    let fields = schemas.get(schema).map(|schema| schema.fields().to_vec()).unwrap_or_default();
    match fields.iter().find(|f| matches!(f.kind, InputType::Email | InputType::Tel)) {
        Some(field) if field.kind == InputType::Email => "Email",
        Some(_) => "Phone number",
        None => "Username",
    }
}

/// How to call somebody: by an address, else by the id.
pub(super) fn who(identity: &Identity) -> String {
    let addresses = identity.verifiable_addresses.iter().chain(&identity.recovery_addresses);
    let address = addresses.map(|address| address.value.clone()).next();
    let named = ["email", "username", "phone"]
        .iter()
        .find_map(|name| identity.traits[name].as_str().map(str::to_owned));
    address.or(named).unwrap_or_else(|| identity.id.to_string())
}
