//! What clients of the load ask.
//!
//! The write is `PATCH /admin/sessions/{id}/extend`: the simplest that ends in one
//! committed transaction on one shard. It reads a session and its identity, checks
//! both, and writes the session with its index rows. The read is
//! `GET /sessions/whoami`. A login is a flow made and submitted.

use std::{net::SocketAddr, time::Duration};

use http::Method;
use serde::Deserialize;

use super::people::{Person, registration, submission};
use crate::{
    http::{Connection, Template},
    load::{Exchange, Outcome},
};

/// One request, again and again, over one connection.
pub struct Repeated {
    connection: Connection,
    template: Template,
}

impl Repeated {
    /// With another patience.
    pub fn patience(self, patience: Duration) -> Self {
        Self { connection: self.connection.patience(patience), ..self }
    }
}

impl Exchange for Repeated {
    async fn call(&mut self) -> Outcome {
        self.connection.call(&self.template).await
    }
}

/// A client that extends one person's session.
///
/// # Errors
/// If the person's ids are none.
pub fn extend(person: &Person, admin: SocketAddr) -> anyhow::Result<Repeated> {
    let path = format!("/admin/sessions/{}/extend", person.session);
    Ok(Repeated {
        connection: Connection::new(admin),
        template: Template::new(Method::PATCH, &path)?,
    })
}

/// A client that checks one person's session at a consistency.
///
/// # Errors
/// If the person's token is none.
pub fn whoami(person: &Person, public: SocketAddr, consistency: &str) -> anyhow::Result<Repeated> {
    let template = Template::new(Method::GET, "/sessions/whoami")?
        .header("x-session-token", &person.token)?
        .header("x-cardea-consistency", consistency)?;
    Ok(Repeated { connection: Connection::new(public), template })
}

/// A client that logs one person in, again and again.
pub struct Login {
    connection: Connection,
    flow: Template,
    email: String,
}

/// See [`Login`].
///
/// # Errors
/// Never, as it stands.
pub fn login(person: &Person, public: SocketAddr) -> anyhow::Result<Login> {
    let flow = Template::new(Method::GET, "/self-service/login/api")?;
    Ok(Login { connection: Connection::new(public), flow, email: person.email.clone() })
}

/// A client that begins registrations, and completes none.
///
/// # Errors
/// Never, as it stands.
pub fn begin_registration(public: SocketAddr) -> anyhow::Result<Repeated> {
    let template = Template::new(Method::GET, "/self-service/registration/api")?;
    Ok(Repeated { connection: Connection::new(public), template })
}

/// A client that signs people up, each by a flow made and submitted.
pub struct Newcomer {
    connection: Connection,
    flow: Template,
}

/// See [`Newcomer`].
///
/// # Errors
/// Never, as it stands.
pub fn newcomer(public: SocketAddr) -> anyhow::Result<Newcomer> {
    let flow = Template::new(Method::GET, "/self-service/registration/api")?;
    Ok(Newcomer { connection: Connection::new(public), flow })
}

impl Newcomer {
    /// Signs somebody up.
    pub async fn sign_up(&mut self, email: &str) -> Outcome {
        let submit = |flow: &str| registration(flow, email);
        begin_and_submit(&mut self.connection, &self.flow, submit).await
    }
}

/// Makes a flow, and submits it.
async fn begin_and_submit(
    connection: &mut Connection,
    begin: &Template,
    submit: impl FnOnce(&str) -> anyhow::Result<Template>,
) -> Outcome {
    let flow = match connection.ask(begin).await {
        Ok(answer) if !answer.status.is_success() => {
            return Outcome::Refused(answer.status.as_u16());
        }
        Ok(answer) => answer.json::<Flow>().ok(),
        Err(_) => None,
    };
    match flow.and_then(|flow| submit(&flow.id).ok()) {
        Some(submit) => connection.call(&submit).await,
        None => Outcome::Broken,
    }
}

#[derive(Deserialize)]
struct Flow {
    id: String,
}

impl Exchange for Login {
    async fn call(&mut self) -> Outcome {
        let submit = |flow: &str| submission(flow, &self.email);
        begin_and_submit(&mut self.connection, &self.flow, submit).await
    }
}
