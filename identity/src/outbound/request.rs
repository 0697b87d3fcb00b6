//! A request as an operator configures it: where it goes, how we prove ourselves there,
//! and the Jsonnet program that makes its body. Web hooks and gateways of messages are
//! asked this way.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cardea_storage::Secret;
use form_urlencoded::Serializer;
use serde_json::Value;
use thiserror::Error;

use super::{Question, Verb};
use crate::jsonnet::{Failed, Limits, Program};

/// The largest body that is sent, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";

/// How a caller proves itself.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// By user and password (RFC 7617).
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret<String>,
    },
    /// By a header.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret<String>,
    },
    /// By a cookie.
    Cookie {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret<String>,
    },
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where it goes.
    pub url: String,
    /// How it is asked; without a body by `GET`.
    pub verb: Verb,
    /// What makes the body.
    pub body: Program,
    /// Headers beside those that are always sent.
    pub headers: Vec<(String, String)>,
    /// How we prove ourselves.
    pub auth: Auth,
    /// How long all of it may take, further tries included.
    pub within: Duration,
}

/// Why there is no body.
#[derive(Debug, Clone, Error)]
pub enum Unmade {
    /// Its program makes none.
    #[error("its body: {0}")]
    Body(#[from] Failed),
    /// What its program makes is no form.
    #[error("its body is to be a form, and is no object")]
    NoForm,
    /// What its program makes is larger than is sent.
    #[error("its body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
}

/// What a program made.
#[derive(Debug, Clone)]
pub struct Body {
    content_type: String,
    bytes: Vec<u8>,
}

/// Reads a program that makes bodies.
///
/// # Errors
/// If it is no Jsonnet, or too long.
pub fn program(source: &str) -> Result<Program, Failed> {
    Program::parse(source, Limits { output_bytes_max: BODY_BYTES_MAX, ..Limits::default() })
}

impl Request {
    /// The body of what `ctx` says; `None` if the program says that there is nothing to
    /// send (`error "cancel"`).
    ///
    /// # Errors
    /// See [`Unmade`].
    pub async fn body(&self, ctx: Value) -> Result<Option<Body>, Unmade> {
        let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("content-type");
        let content_type = self.headers.iter().find(named).map(|(_, value)| value.clone());
        let content_type = content_type.unwrap_or_else(|| "application/json".to_owned());
        let made = match self.body.run(Vec::new(), ctx).await {
            Ok(made) => made,
            Err(Failed::Raised(why)) if why.trim() == "cancel" => return Ok(None),
            Err(failed) => return Err(failed.into()),
        };
        let bytes = match (&made, content_type.starts_with(FORM)) {
            (_, false) => made.to_string().into_bytes(),
            (Value::Object(members), true) => {
                let mut form = Serializer::new(String::new());
                for (name, value) in members {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    form.append_pair(name, &text);
                }
                form.finish().into_bytes()
            }
            (_, true) => return Err(Unmade::NoForm),
        };
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Unmade::TooLarge);
        }
        Ok(Some(Body { content_type, bytes }))
    }

    /// The question of one try.
    pub fn question(&self, body: &Body) -> Question {
        let mut question = Question::get(&self.url);
        question.verb = self.verb;
        question.within = Some(self.within);
        if self.verb != Verb::Get {
            question = question.with("content-type", body.content_type.clone());
            question.body = body.bytes.clone().into();
        }
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("content-type") {
                question = question.with(name, value.clone());
            }
        }
        match &self.auth {
            Auth::None => question,
            Auth::Basic { user, password } => {
                let pair = Secret::new(format!("{user}:{}", password.expose()));
                let encoded = STANDARD.encode(pair.expose());
                question.with("authorization", format!("Basic {encoded}"))
            }
            Auth::Header { name, value } => question.with(name, value.expose().clone()),
            Auth::Cookie { name, value } => {
                question.with("cookie", format!("{name}={}", value.expose()))
            }
        }
    }
}
