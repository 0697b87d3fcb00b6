//! One call of a web hook: the body that its program makes, how we prove ourselves, and
//! the signature.
//!
//! Signatures are those of Standard Webhooks: `webhook-id` names the call, the same for
//! all its tries; `webhook-timestamp` is when this try was made, in seconds of Unix time;
//! `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over id, timestamp and body,
//! joined by points. A receiver checks it over the bytes as they came, refuses timestamps
//! that are minutes off, and keeps the ids that it has seen.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cardea_storage::{Secret, Timestamp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use thiserror::Error;
use uuid::Uuid;

use super::WebHook;
use crate::{
    Service,
    jsonnet::{Failed, Program},
    outbound::{
        Question, Reply, Unanswered,
        request::{Body, Unmade, program},
    },
};

/// Tries of one blocking call, all within its time.
const TRIES_MAX: u32 = 3;
/// The wait after the first failed try of a blocking call; it doubles.
const WAIT_FIRST: Duration = Duration::from_millis(100);
/// What is sent where nothing else is said.
const DEFAULT_BODY: &str = "function(ctx) { [name]: ctx[name] for name in ['event', 'flow', \
                            'identity', 'session', 'transient_payload'] if std.objectHas(ctx, \
                            name) }";

/// Why a call was not answered well.
#[derive(Debug, Clone, Error)]
pub enum CallFailed {
    /// There is no body.
    #[error(transparent)]
    Unmade(#[from] Unmade),
    /// Nobody answered.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// The program that makes bodies where none is named: event, flow, identity, session and
/// transient payload.
///
/// # Errors
/// Never, as far as tests can tell.
pub fn default_body() -> Result<Program, Failed> {
    program(DEFAULT_BODY)
}

impl WebHook {
    /// The question of one try.
    pub(super) fn question(&self, id: Uuid, body: &Body, now: Timestamp) -> Question {
        let question = self.request.question(body);
        let seconds = (now.as_millis() / 1000).to_string();
        let signature = self.signing.as_ref().map(|key| sign(key, id, &seconds, &question.body));
        let question = question
            .with("webhook-id", id.to_string())
            .with("webhook-timestamp", seconds)
            .with("ory-webhook-trigger-id", id.to_string());
        match signature {
            Some(signature) => question.with("webhook-signature", signature),
            None => question,
        }
    }
}

/// The signature of a try.
fn sign(key: &Secret<Vec<u8>>, id: Uuid, seconds: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose()) else { return String::new() };
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

impl Service {
    /// Asks once.
    pub(super) async fn try_call(
        &self,
        hook: &WebHook,
        id: Uuid,
        body: &Body,
    ) -> Result<Reply, Unanswered> {
        self.outbound.ask(hook.question(id, body, self.now())).await
    }

    /// Asks, and again within the hook's time where nobody answered or the server was at
    /// fault; `None` if there is nothing to send.
    pub(super) async fn call(
        &self,
        hook: &WebHook,
        id: Uuid,
        ctx: Value,
    ) -> Result<Option<Reply>, CallFailed> {
        let Some(body) = hook.request.body(ctx).await? else { return Ok(None) };
        let tries = async {
            let mut wait = WAIT_FIRST;
            for last in (1..=TRIES_MAX).map(|number| number == TRIES_MAX) {
                match self.try_call(hook, id, &body).await {
                    // It says why: that is an answer.
                    Ok(reply) if reply.status < 500 || last || !reply.body.is_empty() => {
                        return Ok(reply);
                    }
                    Err(
                        refused @ (Unanswered::BadUrl(_)
                        | Unanswered::Forbidden
                        | Unanswered::TooLarge(_)
                        | Unanswered::TooLate
                        | Unanswered::Closed),
                    ) => return Err(refused),
                    Err(unanswered) if last => return Err(unanswered),
                    Ok(_) | Err(_) => {}
                }
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            Err(Unanswered::TooLate)
        };
        let done = tokio::time::timeout(hook.request.within, tries).await;
        Ok(Some(done.unwrap_or(Err(Unanswered::TooLate))?))
    }
}

#[cfg(test)]
mod call_tests {
    use super::*;

    /// What is signed, and in which form, as Standard Webhooks says.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = Uuid::from_u128(0x11);
        let body = br#"{"test": 2432232314}"#;
        let signed = sign(&Secret::new(key.clone()), id, "1614265330", body);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(b"00000000-0000-0000-0000-000000000011.1614265330.");
        mac.update(body);
        let encoded = signed.strip_prefix("v1,").unwrap();
        assert!(mac.verify_slice(&STANDARD.decode(encoded).unwrap()).is_ok());
        let other = sign(&Secret::new(key), id, "1614265331", body);
        assert_ne!(signed, other, "the time is part of what is signed");
    }

    #[test]
    fn the_included_program_is_one() {
        default_body().unwrap();
    }
}
