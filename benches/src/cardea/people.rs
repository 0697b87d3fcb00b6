//! People to work with: identities made by the admin API, each with the same
//! password, already hashed, and logged in once.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, StatusCode};
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
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

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
        let mut again = Again::new();
        let (identity, email) = loop {
            // Another name: what could not be answered may have been done.
            let email = format!("{prefix}-{number}-{}@bench.example.org", again.count);
            let create = Template::new(Method::POST, "/admin/identities")?;
            let create = create.json(&creation(&email, hash));
            match ask(admin[node], &create).await.context("an identity")? {
                Some(WithId { id }) => break (id, email),
                None => again.pause().await?,
            }
        };
        let mut again = Again::new();
        loop {
            match log_in(&identity, &email, public[node]).await? {
                Some(person) => return Ok(person),
                None => again.pause().await?,
            }
        }
    });
    people.buffered(TOGETHER).try_collect().await
}

/// Tries that go on while a cluster cannot answer, as one that just elects may not.
struct Again {
    count: u32,
    until: Instant,
}

impl Again {
    fn new() -> Self {
        Self { count: 0, until: Instant::now() + PATIENCE }
    }

    async fn pause(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(Instant::now() < self.until, "unavailable for {PATIENCE:?}");
        self.count += 1;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// Nothing if the node cannot answer now.
async fn ask<T: DeserializeOwned>(
    node: SocketAddr,
    template: &Template,
) -> anyhow::Result<Option<T>> {
    let answer = Connection::new(node).patience(PATIENCE).ask(template).await?;
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        return Ok(None);
    }
    answer.json().map(Some)
}

async fn log_in(identity: &str, email: &str, node: SocketAddr) -> anyhow::Result<Option<Person>> {
    let flow = Template::new(Method::GET, "/self-service/login/api")?;
    let Some(WithId { id: flow }) = ask(node, &flow).await.context("a login flow")? else {
        return Ok(None);
    };
    let submit = submission(&flow, email)?;
    let done: Option<LoggedIn> = ask(node, &submit).await.context("a login")?;
    Ok(done.map(|done| Person {
        identity: identity.to_owned(),
        session: done.session.id,
        token: done.session_token,
        email: email.to_owned(),
    }))
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

/// The request that completes a registration flow.
///
/// # Errors
/// If the flow's id is none.
pub fn registration(flow: &str, email: &str) -> anyhow::Result<Template> {
    let path = format!("/self-service/registration?flow={flow}");
    let traits = json!({"email": email, "name": {"first": "Ada", "last": "Lovelace"}});
    let body = json!({"method": "password", "password": PASSWORD, "traits": traits});
    Ok(Template::new(Method::POST, &path)?.json(&body))
}
