//! What a person's application and an operator say to a node, in Ory Kratos's
//! API, with the answers sorted into what may be concluded from them.

use serde_json::{Value, json};

use crate::{
    check::session::Verdict,
    endpoint::{Call, Endpoint, Reply, Side},
    history::Fate,
};

/// Kratos's message "an account with the same identifier exists already".
const EXISTS_ALREADY: u64 = 4_000_007;
/// Kratos's message "the credentials are invalid".
const WRONG_CREDENTIALS: u64 = 4_000_006;

/// A session as its holder has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub session: String,
    /// Its token.
    pub token: String,
    /// Whose it is.
    pub identity: String,
    /// When the node says it was issued (RFC 3339).
    pub issued_at: String,
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// It was acknowledged.
    Won(Held),
    /// Somebody has the identifier.
    Taken,
    /// Not now; nothing happened.
    NotDone,
    /// Nobody said.
    Unknown,
    /// An answer that the API does not have for this.
    Odd(String),
}

/// What became of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoggedIn {
    /// It was acknowledged.
    Held(Held),
    /// Nobody with this identifier and password.
    WrongCredentials,
    /// The identity is inactive.
    Disabled,
    /// No answer, or not now.
    NotNow,
    /// An answer that the API does not have for this.
    Odd(String),
}

/// What a node said of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whoami {
    /// Accepted or refused.
    Verdict(Verdict),
    /// No answer, or not now.
    NotNow,
    /// An answer that the API does not have for this.
    Odd(String),
}

/// Registers by the native flow.
pub async fn register(node: &Endpoint, email: &str, password: &str) -> Registered {
    let flow = match begin(node, "registration").await {
        Ok(flow) => flow,
        Err(reply) if reply.is_odd() => return Registered::Odd(format!("{reply:?}")),
        // A flow is no registration, whatever became of it.
        Err(_) => return Registered::NotDone,
    };
    let traits = json!({"email": email, "name": {"first": "Chaos", "last": "Monkey"}});
    let body = json!({"method": "password", "password": password, "traits": traits});
    let reply = submit(node, "registration", &flow, &body).await;
    match reply.status() {
        200 => match reply.done().and_then(held) {
            Some(held) => Registered::Won(held),
            None => Registered::Odd(format!("{reply:?}")),
        },
        400 if has_message(&reply, EXISTS_ALREADY) => Registered::Taken,
        _ if reply.is_odd() => Registered::Odd(format!("{reply:?}")),
        _ => match reply.fate() {
            Fate::NotDone => Registered::NotDone,
            _ => Registered::Unknown,
        },
    }
}

/// Logs in by the native flow.
pub async fn log_in(node: &Endpoint, email: &str, password: &str) -> LoggedIn {
    let flow = match begin(node, "login").await {
        Ok(flow) => flow,
        Err(reply) if reply.is_odd() => return LoggedIn::Odd(format!("{reply:?}")),
        Err(_) => return LoggedIn::NotNow,
    };
    let body = json!({"method": "password", "identifier": email, "password": password});
    let reply = submit(node, "login", &flow, &body).await;
    match reply.status() {
        200 => match reply.done().and_then(held) {
            Some(held) => LoggedIn::Held(held),
            None => LoggedIn::Odd(format!("{reply:?}")),
        },
        400 if has_message(&reply, WRONG_CREDENTIALS) => LoggedIn::WrongCredentials,
        401 => LoggedIn::Disabled,
        _ if reply.is_odd() => LoggedIn::Odd(format!("{reply:?}")),
        _ => LoggedIn::NotNow,
    }
}

/// Asks a node who holds a token; strongly, as is the default.
pub async fn whoami(node: &Endpoint, token: &str) -> Whoami {
    let reply = node
        .call(Call {
            side: Side::Public,
            method: "GET",
            path: "/sessions/whoami",
            body: None,
            token: Some(token),
        })
        .await;
    match reply.status() {
        200 => Whoami::Verdict(Verdict::Accepted),
        401 => Whoami::Verdict(Verdict::Refused),
        _ if reply.is_odd() => Whoami::Odd(format!("{reply:?}")),
        _ => Whoami::NotNow,
    }
}

/// The holder logs out.
pub async fn log_out(node: &Endpoint, token: &str) -> Reply {
    let body = json!({"session_token": token});
    node.call(Call {
        side: Side::Public,
        method: "DELETE",
        path: "/self-service/logout/api",
        body: Some(&body),
        token: None,
    })
    .await
}

/// An operator ends a session.
pub async fn disable_session(node: &Endpoint, session: &str) -> Reply {
    node.send("DELETE", &format!("/admin/sessions/{session}"), &Value::Null).await
}

/// An operator ends all sessions of an identity.
pub async fn end_all_sessions(node: &Endpoint, identity: &str) -> Reply {
    node.send("DELETE", &format!("/admin/identities/{identity}/sessions"), &Value::Null).await
}

/// An operator makes an identity inactive, or active again.
pub async fn set_active(node: &Endpoint, identity: &str, active: bool) -> Reply {
    let state = if active { "active" } else { "inactive" };
    patch(node, identity, &json!([{"op": "replace", "path": "/state", "value": state}])).await
}

/// An operator deletes an identity.
pub async fn delete_identity(node: &Endpoint, identity: &str) -> Reply {
    node.send("DELETE", &format!("/admin/identities/{identity}"), &Value::Null).await
}

/// An operator makes an identity without credentials.
pub async fn create_identity(node: &Endpoint, email: &str, metadata: &Value) -> Reply {
    let body = json!({
        "schema_id": "",
        "traits": {"email": email},
        "metadata_public": metadata,
        "metadata_admin": {},
    });
    node.send("POST", "/admin/identities", &body).await
}

/// An operator reads an identity; strongly, as is the default.
pub async fn read_identity(node: &Endpoint, identity: &str) -> Reply {
    node.get(Side::Admin, &format!("/admin/identities/{identity}")).await
}

/// An operator patches an identity.
pub async fn patch(node: &Endpoint, identity: &str, patch: &Value) -> Reply {
    node.send("PATCH", &format!("/admin/identities/{identity}"), patch).await
}

/// Who has an identifier, strongly asked; `None`: no answer.
pub async fn holders(node: &Endpoint, email: &str) -> Option<Vec<String>> {
    let path = format!("/admin/identities?credentials_identifier={}", email.replace('@', "%40"));
    let reply = node.get(Side::Admin, &path).await;
    let items = reply.done()?.as_array()?;
    items.iter().map(|item| item["id"].as_str().map(str::to_owned)).collect()
}

async fn begin(node: &Endpoint, purpose: &str) -> Result<String, Reply> {
    let reply = node.get(Side::Public, &format!("/self-service/{purpose}/api")).await;
    match reply.done().and_then(|body| body["id"].as_str()) {
        Some(id) => Ok(id.to_owned()),
        None => Err(reply),
    }
}

async fn submit(node: &Endpoint, purpose: &str, flow: &str, body: &Value) -> Reply {
    let path = format!("/self-service/{purpose}?flow={flow}");
    let call =
        Call { side: Side::Public, method: "POST", path: &path, body: Some(body), token: None };
    node.call(call).await
}

fn held(body: &Value) -> Option<Held> {
    let session = &body["session"];
    let identity = session["identity"]["id"].as_str().or(body["identity"]["id"].as_str())?;
    Some(Held {
        session: session["id"].as_str()?.to_owned(),
        token: body["session_token"].as_str()?.to_owned(),
        identity: identity.to_owned(),
        issued_at: session["issued_at"].as_str().unwrap_or_default().to_owned(),
    })
}

fn has_message(reply: &Reply, id: u64) -> bool {
    let Some(answer) = reply.with_status(400) else { return false };
    let ui = &answer.body["ui"];
    let own = ui["messages"].as_array().into_iter().flatten();
    let of_nodes = ui["nodes"].as_array().into_iter().flatten();
    let of_nodes = of_nodes.filter_map(|node| node["messages"].as_array()).flatten();
    own.chain(of_nodes).any(|message| message["id"] == id)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::endpoint::Answer;

    #[test]
    fn messages_are_found_on_the_form_and_on_its_fields() {
        let reply = |body| {
            Reply::Answered(Answer { status: StatusCode::BAD_REQUEST, body, retry_after: false })
        };
        let on_form = json!({"ui": {"messages": [{"id": 4_000_007}], "nodes": []}});
        let on_field = json!({"ui": {"nodes": [{"messages": [{"id": 4_000_007}]}]}});
        assert!(has_message(&reply(on_form), EXISTS_ALREADY));
        assert!(has_message(&reply(on_field), EXISTS_ALREADY));
        assert!(!has_message(&reply(json!({"ui": {"messages": []}})), EXISTS_ALREADY));
        assert!(!has_message(&reply(json!({})), EXISTS_ALREADY));
    }
}
