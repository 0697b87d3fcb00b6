//! People to work with: identities made by the admin API, each with the same
//! password, already hashed, and logged in once.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    http::{Connection, Template},
    password,
};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple";

/// Requests that are under way at once while people are made.
const TOGETHER: usize = 8;
/// How long each is waited for: nothing is measured yet.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct Person {
    /// The identity's id.
    pub identity: String,
    /// The session's id.
    pub session: String,
    /// What the person shows.
    pub token: String,
    /// What the person types.
    pub email: String,
}

#[derive(Deserialize)]
struct WithId {
    id: String,
}

#[derive(Deserialize)]
struct LoggedIn {
    session_token: String,
    session: WithId,
}

/// The body that creates an identity with an e-mail address and a hashed password.
pub fn creation(email: &str, hash: &str) -> serde_json::Value {
    json!({
        "schema_id": "preset://email",
        "traits": {"email": email, "name": {"first": "Ada", "last": "Lovelace"}},
        "credentials": {"password": {"config": {"hashed_password": hash}}},
    })
}

/// Makes people, whose names begin with `prefix`.
///
/// # Errors
/// If one cannot be made or logged in.
pub async fn make(
    count: usize,
    prefix: &str,
    admin: &[SocketAddr],
    public: &[SocketAddr],
) -> anyhow::Result<Vec<Person>> {
    let hash = &password::hash(PASSWORD)?;
    let people = stream::iter(0..count).map(|number| async move {
        let node = number % admin.len();
        let email = format!("{prefix}-{number}@bench.example.org");
        let create = Template::new(Method::POST, "/admin/identities")?;
        let create = create.json(&creation(&email, hash));
        let identity: WithId = ask(admin[node], &create).await.context("an identity")?;
        log_in(identity.id, email, public[node]).await
    });
    people.buffered(TOGETHER).try_collect().await
}

async fn ask<T: DeserializeOwned>(node: SocketAddr, template: &Template) -> anyhow::Result<T> {
    Connection::new(node).patience(PATIENCE).ask(template).await?.json()
}

async fn log_in(identity: String, email: String, node: SocketAddr) -> anyhow::Result<Person> {
    let flow = Template::new(Method::GET, "/self-service/login/api")?;
    let flow: WithId = ask(node, &flow).await.context("a login flow")?;
    let submit = submission(&flow.id, &email)?;
    let done: LoggedIn = ask(node, &submit).await.context("a login")?;
    Ok(Person { identity, session: done.session.id, token: done.session_token, email })
}

/// The request that completes a login flow.
///
/// # Errors
/// If the flow's id is none.
pub fn submission(flow: &str, email: &str) -> anyhow::Result<Template> {
    let path = format!("/self-service/login?flow={flow}");
    let body = json!({"method": "password", "identifier": email, "password": PASSWORD});
    Ok(Template::new(Method::POST, &path)?.json(&body))
}
