//! What clients do that is measured.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    check::session::Verdict,
    endpoint::{Call, Endpoint, Side},
    kratos::{self, Held, LoggedIn, Registered, Whoami},
    workload::{Run, permission::LANGUAGE},
};

const PASSWORD: &str = "a hinge on which doors turn";

/// Something that people or applications do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A flow is begun and completed with a new person's password.
    Registration,
    /// A flow is begun and completed with a password.
    Login,
    /// `GET /sessions/whoami`, linearizable.
    SessionStrong,
    /// The same, as of at most a minute ago.
    SessionBounded,
    /// The same, as of a write that its client knows of.
    SessionSnaptoken,
    /// The holder of a session ends it.
    Revocation,
    /// A tuple is put.
    TupleWrite,
    /// A permission by what the node has.
    CheckLocal,
    /// A permission, linearizable.
    CheckLatest,
}

impl Operation {
    /// All of them; what comes later uses what came before.
    pub const ALL: [Self; 9] = [
        Self::Registration,
        Self::Login,
        Self::SessionStrong,
        Self::SessionBounded,
        Self::SessionSnaptoken,
        Self::Revocation,
        Self::TupleWrite,
        Self::CheckLocal,
        Self::CheckLatest,
    ];

    /// Whether it takes a password's hash and many trips, and is done less often.
    pub fn is_costly(self) -> bool {
        matches!(self, Self::Registration | Self::Login | Self::Revocation)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Registration => "registration",
            Operation::Login => "login",
            Operation::SessionStrong => "session, strong",
            Operation::SessionBounded => "session, bounded",
            Operation::SessionSnaptoken => "session, snaptoken",
            Operation::Revocation => "revocation",
            Operation::TupleWrite => "tuple write",
            Operation::CheckLocal => "permission, local",
            Operation::CheckLatest => "permission, latest",
        })
    }
}

/// Says what permissions mean, before any client comes.
pub async fn prepare(operator: &Endpoint) -> anyhow::Result<()> {
    let files = json!({"files": [{"name": "gates.ts", "text": LANGUAGE}], "force": true});
    let reply = operator.send("PUT", "/admin/opl", &files).await;
    ensure!(reply.done().is_some(), "no permission language: {reply:?}");
    Ok(())
}

/// Somebody in a region, with what they have made so far.
#[derive(Debug, Clone)]
pub struct Client {
    run: Arc<Run>,
    node: Endpoint,
    email: Option<String>,
    /// Sessions that may be ended; the first is kept.
    sessions: Vec<Held>,
    snaptoken: Option<String>,
    /// Tuples written, in all scenes: one that is there already is another operation.
    written: Arc<AtomicUsize>,
}

impl Client {
    /// Somebody who asks a node.
    pub fn new(run: Arc<Run>, node: Endpoint) -> Self {
        Self {
            run,
            node,
            email: None,
            sessions: Vec::new(),
            snaptoken: None,
            written: Arc::default(),
        }
    }

    /// Does it once and says how long that took; `None` if it was not done.
    pub async fn perform(&mut self, operation: Operation) -> Option<Duration> {
        match operation {
            Operation::Registration => {
                let email = self.run.fresh_email("resident");
                let began = Instant::now();
                let registered = kratos::register(&self.node, &email, PASSWORD).await;
                let took = began.elapsed();
                let Registered::Won(held) = registered else { return None };
                self.email = Some(email);
                self.sessions.push(held);
                Some(took)
            }
            Operation::Login => {
                let email = self.email.as_ref()?;
                let began = Instant::now();
                let logged_in = kratos::log_in(&self.node, email, PASSWORD).await;
                let took = began.elapsed();
                let LoggedIn::Held(held) = logged_in else { return None };
                self.sessions.push(held);
                Some(took)
            }
            Operation::SessionStrong => self.whoami(None).await,
            Operation::SessionBounded => self.whoami(Some("bounded=60000".to_owned())).await,
            Operation::SessionSnaptoken => {
                if self.snaptoken.is_none() {
                    self.snaptoken = self.write_to_person().await;
                }
                let token = self.snaptoken.clone()?;
                self.whoami(Some(format!("at_least={token}"))).await
            }
            Operation::Revocation => {
                if self.sessions.len() < 2 {
                    return None;
                }
                let held = self.sessions.pop()?;
                let began = Instant::now();
                let reply = kratos::log_out(&self.node, &held.token).await;
                let took = began.elapsed();
                reply.done().map(|_| took)
            }
            Operation::TupleWrite => {
                let member = 1 + self.written.fetch_add(1, Ordering::Relaxed);
                let object = self.name();
                let tuple = json!({"namespace": "Group", "object": object,
                    "relation": "members", "subject_id": format!("member-{member}")});
                let began = Instant::now();
                let reply = self.node.send("PUT", "/admin/relation-tuples", &tuple).await;
                let took = began.elapsed();
                reply.done().map(|_| took)
            }
            Operation::CheckLocal => self.check(Some("eventual")).await,
            Operation::CheckLatest => self.check(None).await,
        }
    }

    /// A group of this client's own.
    fn name(&self) -> String {
        format!("residents-{}", self.node.node)
    }

    async fn whoami(&self, consistency: Option<String>) -> Option<Duration> {
        let held = self.sessions.first()?;
        let mut node = self.node.clone();
        node.consistency = consistency.map(Into::into);
        let began = Instant::now();
        let said = kratos::whoami(&node, &held.token).await;
        let took = began.elapsed();
        (said == Whoami::Verdict(Verdict::Accepted)).then_some(took)
    }

    /// A write to this client's identity, for its snaptoken.
    async fn write_to_person(&self) -> Option<String> {
        let held = self.sessions.first()?;
        let patch = json!([{"op": "add", "path": "/metadata_admin", "value": {"seen": true}}]);
        let path = format!("/admin/identities/{}", held.identity);
        let call = Call {
            side: Side::Admin,
            method: "PATCH",
            path: &path,
            body: Some(&patch),
            token: None,
        };
        self.node.told(call).await.1
    }

    async fn check(&self, consistency: Option<&'static str>) -> Option<Duration> {
        let mut node = self.node.clone();
        node.consistency = consistency.map(Into::into);
        let path = format!(
            "/relation-tuples/check/openapi?namespace=Group&object={}&relation=members\
             &subject_id=member-1",
            self.name()
        );
        let began = Instant::now();
        let reply = node.send("GET", &path, &Value::Null).await;
        let took = began.elapsed();
        (reply.done()?["allowed"] == true).then_some(took)
    }
}
