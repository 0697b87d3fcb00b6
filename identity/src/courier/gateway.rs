//! Messages by HTTP: a gateway for text messages, or a mail service, is asked with a body
//! that a Jsonnet program makes of the message, as Kratos's HTTP channels do it.
//!
//! Every try bears the message's id as `Idempotency-Key`, by which a gateway can tell a
//! second sending from a second message. What became of it, its status says:
//!
//! | status | |
//! |---|---|
//! | 2xx | The gateway has it. |
//! | 400, 410, 413, 422 | It speaks of this message: there is no such number, or it is not wanted. The message is given up at once. |
//! | every other | It speaks of us or of the gateway: a wrong key or path, too much at once, a fault. The message is tried again, later and later. |
//!
//! A redirect is not followed; it is an answer as any other.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::{Carrier, Mail, Undelivered};
use crate::{
    jsonnet::{Failed, Program},
    outbound::{
        Outbound, Reply, Unanswered,
        request::{Request, program},
    },
};

/// What is sent where nothing else is said: all that there is but the template's own
/// data.
const DEFAULT_BODY: &str = "function(ctx) { [name]: ctx[name] for name in ['message_id', \
                            'message_type', 'template_type', 'recipient', 'subject', 'body', \
                            'html_body'] if std.objectHas(ctx, name) }";
/// The most of an answer that is kept of a failure, in characters.
const SAID_CHARS_MAX: usize = 120;
/// More digits than this in a row may be a code or a number.
const DIGITS_MAX: usize = 3;

/// A gateway.
pub struct Gateway {
    request: Request,
    outbound: Arc<dyn Outbound>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("url", &self.request.url).finish_non_exhaustive()
    }
}

/// The program that makes bodies where none is named.
///
/// # Errors
/// Never, as far as tests can tell.
pub fn default_body() -> Result<Program, Failed> {
    program(DEFAULT_BODY)
}

impl Gateway {
    /// A gateway that is reached by `outbound`.
    pub fn new(request: Request, outbound: Arc<dyn Outbound>) -> Self {
        Self { request, outbound }
    }
}

/// What a program is given (`ctx`): the members of Kratos's, and the message's id.
fn context(mail: &Mail) -> Value {
    let mut ctx = json!({
        "message_id": mail.id.to_string(),
        "message_type": mail.via.name(),
        "template_type": mail.template.name(),
        "template_data": template_data(&mail.model),
        "recipient": mail.recipient,
        "subject": mail.subject,
        "body": mail.text,
    });
    if !mail.html.is_empty() {
        ctx["html_body"] = mail.html.clone().into();
    }
    ctx
}

/// The fields of a template under the names that Kratos gives them in JSON.
fn template_data(model: &Map<String, Value>) -> Map<String, Value> {
    model.iter().map(|(name, value)| (snake_case(name), value.clone())).collect()
}

/// `ExpiresInMinutes` is `expires_in_minutes`, `RequestURLDomain` is
/// `request_url_domain`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let chars: Vec<char> = name.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        let begins = before.is_some_and(|before| {
            before.is_lowercase() || chars.get(at + 1).is_some_and(|next| next.is_lowercase())
        });
        if c.is_uppercase() && begins {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[async_trait]
impl Carrier for Gateway {
    async fn carry(&self, mail: &Mail) -> Result<(), Undelivered> {
        let body = match self.request.body(context(mail)).await {
            Ok(Some(body)) => body,
            // The program says that this one is not to be sent.
            Ok(None) => return Ok(()),
            Err(unmade) => return Err(Undelivered::Failed(unmade.to_string())),
        };
        let question = self.request.question(&body).with("idempotency-key", mail.id.to_string());
        match self.outbound.ask(question).await {
            Ok(reply) if reply.is_success() => Ok(()),
            Ok(reply) => {
                let why = format!("it answered with status {}{}", reply.status, said(&reply));
                Err(match reply.status {
                    400 | 410 | 413 | 422 => Undelivered::Refused(why),
                    _ => Undelivered::Failed(why),
                })
            }
            Err(unanswered @ (Unanswered::Unreachable(_) | Unanswered::TooLate)) => {
                Err(Undelivered::Unreachable(unanswered.to_string()))
            }
            Err(unanswered) => Err(Undelivered::Failed(unanswered.to_string())),
        }
    }
}

/// What a gateway says of a failure, without what may be a code or an address: it may
/// quote what it was sent, and this goes to logs.
fn said(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    let mut out = String::new();
    for word in text.split_whitespace() {
        let is_address = word.contains('@');
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let shown = if is_address || digits > DIGITS_MAX { "…" } else { word };
        out = if out.is_empty() { shown.to_owned() } else { format!("{out} {shown}") };
        if out.chars().count() > SAID_CHARS_MAX {
            break;
        }
    }
    let out: String = out.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
    if out.is_empty() { out } else { format!(": {out}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cardea_storage::Secret;
    use parking_lot::Mutex;
    use uuid::Uuid;

    use super::*;
    use crate::{
        courier::Template,
        outbound::{Question, Verb, request::Auth},
        schema::Channel,
    };

    struct Server(Mutex<Vec<Question>>, Result<Reply, Unanswered>);

    #[async_trait]
    impl Outbound for Server {
        async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
            self.0.lock().push(question);
            self.1.clone()
        }
    }

    fn request(body: Program) -> Request {
        Request {
            url: "https://sms.example/send".to_owned(),
            verb: Verb::Post,
            body,
            headers: Vec::new(),
            auth: Auth::Header { name: "x-key".to_owned(), value: Secret::new("k".to_owned()) },
            within: Duration::from_secs(5),
        }
    }

    fn mail() -> Mail {
        Mail {
            id: Uuid::from_u128(9),
            via: Channel::Sms,
            template: Template::LoginCode,
            recipient: "+4930901820".to_owned(),
            subject: String::new(),
            text: "Your code: 123456".to_owned(),
            html: String::new(),
            model: json!({"To": "+4930901820", "LoginCode": "123456", "ExpiresInMinutes": 60,
                "RequestURLDomain": "id.example"})
            .as_object()
            .cloned()
            .unwrap(),
        }
    }

    async fn carried(
        body: Program,
        answer: Result<Reply, Unanswered>,
    ) -> (Result<(), Undelivered>, Vec<Question>) {
        let server = Arc::new(Server(Mutex::default(), answer));
        let done = Gateway::new(request(body), server.clone()).carry(&mail()).await;
        let asked = server.0.lock().clone();
        (done, asked)
    }

    fn answer(status: u16, body: &str) -> Result<Reply, Unanswered> {
        Ok(Reply { status, body: body.to_owned().into() })
    }

    #[tokio::test]
    async fn a_message_is_posted_with_a_key_that_stays() {
        let (done, asked) = carried(default_body().unwrap(), answer(202, "")).await;
        done.unwrap();
        let header = |name: &str| {
            let found = asked[0].headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.expose().clone())
        };
        assert_eq!(header("idempotency-key"), Some(Uuid::from_u128(9).to_string()));
        assert_eq!(header("x-key").as_deref(), Some("k"));
        let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
        assert_eq!(
            body,
            json!({"message_id": Uuid::from_u128(9).to_string(), "message_type": "sms",
                "template_type": "login_code_valid", "recipient": "+4930901820", "subject": "",
                "body": "Your code: 123456"})
        );
    }

    #[tokio::test]
    async fn programs_written_for_kratos_make_the_body() {
        let source = "function(ctx) {From: '+1', To: ctx.recipient, Body: ctx.body, Data: \
                      [ctx.template_data.to, ctx.template_data.login_code, \
                      ctx.template_data.expires_in_minutes, \
                      ctx.template_data.request_url_domain]}";
        let (done, asked) = carried(program(source).unwrap(), answer(200, "")).await;
        done.unwrap();
        let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
        assert_eq!(body["Data"], json!(["+4930901820", "123456", 60, "id.example"]));
        let source = "function(ctx) error 'cancel'";
        let (done, asked) = carried(program(source).unwrap(), answer(500, "")).await;
        assert_eq!((done, asked.len()), (Ok(()), 0));
    }

    #[tokio::test]
    async fn statuses_say_whether_it_is_tried_again() {
        for status in [400, 410, 413, 422] {
            let (done, _) = carried(default_body().unwrap(), answer(status, "")).await;
            assert!(matches!(done, Err(Undelivered::Refused(_))), "{status}");
        }
        for status in [302, 401, 402, 403, 404, 408, 409, 429, 500, 503] {
            let (done, _) = carried(default_body().unwrap(), answer(status, "")).await;
            assert!(matches!(done, Err(Undelivered::Failed(_))), "{status}");
        }
        let nobody = Err(Unanswered::Unreachable("refused".to_owned()));
        let (done, _) = carried(default_body().unwrap(), nobody).await;
        assert!(matches!(done, Err(Undelivered::Unreachable(_))));
        // An address that is not to be reached is no reason to forget the message.
        let (done, _) = carried(default_body().unwrap(), Err(Unanswered::Forbidden)).await;
        assert!(matches!(done, Err(Undelivered::Failed(_))));
    }

    #[tokio::test]
    async fn what_a_gateway_quotes_of_a_message_is_not_kept() {
        let says = "{\"error\": \"cannot send 123456 to +4930901820 or ann@example.org\"}";
        let (done, _) = carried(default_body().unwrap(), answer(400, says)).await;
        let why = done.unwrap_err().to_string();
        assert!(why.contains("status 400") && why.contains("cannot send"), "{why}");
        for secret in ["123456", "901820", "ann@"] {
            assert!(!why.contains(secret), "{why}");
        }
        let (done, _) = carried(default_body().unwrap(), answer(400, &"x ".repeat(9000))).await;
        assert!(done.unwrap_err().to_string().len() < 200);
    }
}
