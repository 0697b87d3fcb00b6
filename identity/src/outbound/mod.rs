//! Asking other servers: the one way out of this layer, for discovery documents, keys,
//! tokens, claims, webhooks and gateways of messages.
//!
//! Whoever implements [`Outbound`] guards it: URLs come from operators, but also from
//! documents that strangers serve, and nobody may make a node ask what only the node can
//! reach. It follows no redirects, and what comes back is bounded.

pub mod request;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cardea_storage::Secret;
use thiserror::Error;

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

impl Verb {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete]
            .into_iter()
            .find(|verb| verb.name() == name)
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// How.
    pub verb: Verb,
    /// A whole URL.
    pub url: String,
    /// Headers; values may be secrets.
    pub headers: Vec<(String, Secret<String>)>,
    /// The body; empty for none.
    pub body: Bytes,
    /// How long it may take, from the name's lookup to the last byte; `None`: as long as
    /// the implementation lets any.
    pub within: Option<Duration>,
}

impl Question {
    /// `GET` of a URL, for JSON.
    pub fn get(url: &str) -> Self {
        let headers = vec![("accept".to_owned(), Secret::new("application/json".to_owned()))];
        Self { verb: Verb::Get, url: url.to_owned(), headers, body: Bytes::new(), within: None }
    }

    /// `POST` of a body, for JSON.
    pub fn post(url: &str, content_type: &str, body: impl Into<Bytes>) -> Self {
        let question = Self { verb: Verb::Post, body: body.into(), ..Self::get(url) };
        question.with("content-type", content_type.to_owned())
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: String) -> Self {
        self.headers.push((name.to_owned(), Secret::new(value)));
        self
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body, whole.
    pub body: Bytes,
}

impl Reply {
    /// Whether the status says that it was done.
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unanswered {
    /// The URL is not one that is asked.
    #[error("the URL is not asked: {0}")]
    BadUrl(&'static str),
    /// Every address of the host is one that is not to be reached.
    #[error("the host is at an address that is not to be reached")]
    Forbidden,
    /// The host could not be found or reached, or broke off.
    #[error("the server could not be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the server did not answer in time")]
    TooLate,
    /// The answer is larger than is read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Nothing is asked at all, here.
    #[error("no way out is set up")]
    Closed,
}

/// Who asks other servers.
#[async_trait]
pub trait Outbound: Send + Sync {
    /// Asks once. Redirects are answers as any other.
    ///
    /// # Errors
    /// See [`Unanswered`].
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered>;
}

/// Asks nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWayOut;

#[async_trait]
impl Outbound for NoWayOut {
    async fn ask(&self, _: Question) -> Result<Reply, Unanswered> {
        Err(Unanswered::Closed)
    }
}
