//! How clients reach a node, and what they may conclude from what comes back.
//!
//! A request that got no answer is of unknown outcome, unless not even a
//! connection was made. Of the refusals, those of the server's side count as
//! "not done" only where the node says so: 503 and 429 with `Retry-After`.

use std::{borrow::Cow, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::Value;

use crate::history::Fate;

/// The listener that a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What applications call.
    Public,
    /// All routes.
    Admin,
}

/// An answer that was read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; null if it is no JSON.
    pub body: Value,
    /// Whether it names a time to try again.
    pub retry_after: bool,
}

impl Answer {
    /// What became of the write that this answers.
    pub fn fate(&self) -> Fate {
        let is_unknown = self.body["error"]["id"] == "outcome_unknown";
        match self.status.as_u16() {
            200..=299 => Fate::Done,
            429 | 503 if self.retry_after && !is_unknown => Fate::NotDone,
            408 | 500.. => Fate::Unknown,
            _ => Fate::NotDone,
        }
    }

    /// Whether the node said that it cannot answer now.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.status.as_u16(), 408 | 429 | 502 | 503 | 504)
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// An answer.
    Answered(Answer),
    /// The request was never sent.
    NotSent(String),
    /// The connection broke or the time was up: the request may have been done.
    Silence(String),
}

impl Reply {
    /// What became of the write that was sent.
    pub fn fate(&self) -> Fate {
        match self {
            Reply::Answered(answer) => answer.fate(),
            Reply::NotSent(_) => Fate::NotDone,
            Reply::Silence(_) => Fate::Unknown,
        }
    }

    /// The answer, if its status is this.
    pub fn with_status(&self, status: u16) -> Option<&Answer> {
        match self {
            Reply::Answered(answer) if answer.status == status => Some(answer),
            _ => None,
        }
    }

    /// The body, if the answer says that it was done.
    pub fn done(&self) -> Option<&Value> {
        match self {
            Reply::Answered(answer) if answer.status.is_success() => Some(&answer.body),
            _ => None,
        }
    }

    /// The status; 0 without an answer.
    pub fn status(&self) -> u16 {
        match self {
            Reply::Answered(answer) => answer.status.as_u16(),
            _ => 0,
        }
    }

    /// Whether it is neither an answer to what was asked nor a plain "not now".
    pub fn is_odd(&self) -> bool {
        match self {
            Reply::Answered(answer) => !answer.status.is_success() && !answer.is_unavailable(),
            _ => false,
        }
    }
}

/// A request of a client.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The listener.
    pub side: Side,
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// A JSON body.
    pub body: Option<&'a Value>,
    /// A session token.
    pub token: Option<&'a str>,
}

/// A node as its clients know it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Which node, from 0.
    pub node: usize,
    /// Its public listener.
    pub public: SocketAddr,
    /// Its admin listener.
    pub admin: SocketAddr,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// The consistency that its clients ask for; none asks for the default, which
    /// is strong. Anything less is for a checker that must find it out.
    pub consistency: Option<Cow<'static, str>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Endpoint {
    /// An endpoint with connections of its own.
    pub fn new(node: usize, public: SocketAddr, admin: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(5))
            // A request that is sent twice is not one operation any more.
            .retry_canceled_requests(false)
            .build(connector);
        Self { node, public, admin, patience: Duration::from_secs(10), consistency: None, client }
    }

    /// The same node for clients that wait this long.
    pub fn patient(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Sends a request and waits for what comes back.
    pub async fn call(&self, call: Call<'_>) -> Reply {
        self.told(call).await.0
    }

    /// The same, with the snaptoken that the answer tells.
    pub async fn told(&self, call: Call<'_>) -> (Reply, Option<String>) {
        let mut token = None;
        match tokio::time::timeout(self.patience, self.exchange(call, &mut token)).await {
            Ok(reply) => (reply, token),
            Err(_) => (Reply::Silence(format!("no answer within {:?}", self.patience)), None),
        }
    }

    /// GET on a listener.
    pub async fn get(&self, side: Side, path: &str) -> Reply {
        self.call(Call { side, method: "GET", path, body: None, token: None }).await
    }

    /// A request on the admin listener; null is no body.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = Some(body).filter(|body| !body.is_null());
        self.call(Call { side: Side::Admin, method, path, body, token: None }).await
    }

    async fn exchange(&self, call: Call<'_>, token: &mut Option<String>) -> Reply {
        let address = match call.side {
            Side::Public => self.public,
            Side::Admin => self.admin,
        };
        let mut request = Request::builder()
            .method(call.method.parse().unwrap_or(Method::GET))
            .uri(format!("http://{address}{}", call.path))
            .header(header::ACCEPT, "application/json");
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(consistency) = &self.consistency {
            request = request.header("X-Cardea-Consistency", consistency.as_ref());
        }
        if let Some(token) = call.token {
            request = request.header("X-Session-Token", token);
        }
        let bytes = call.body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = match request.body(Full::new(bytes)) {
            Ok(request) => request,
            Err(error) => return Reply::NotSent(error.to_string()),
        };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Reply::NotSent(error.to_string()),
            Err(error) => return Reply::Silence(error.to_string()),
        };
        let status = response.status();
        let retry_after = response.headers().contains_key(header::RETRY_AFTER);
        let told = response.headers().get("x-cardea-snaptoken").and_then(|t| t.to_str().ok());
        *token = told.map(str::to_owned);
        match response.into_body().collect().await {
            Ok(body) => {
                let body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
                Reply::Answered(Answer { status, body, retry_after })
            }
            Err(error) => Reply::Silence(format!("{status}, then {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn only_what_a_node_promises_counts_as_not_done() {
        let answer = |status: u16, retry_after, body| Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body,
            retry_after,
        };
        let unknown = json!({"error": {"id": "outcome_unknown"}});
        let cases = [
            (answer(200, false, Value::Null), Fate::Done),
            (answer(204, false, Value::Null), Fate::Done),
            (answer(400, false, Value::Null), Fate::NotDone),
            (answer(409, false, Value::Null), Fate::NotDone),
            (answer(429, true, Value::Null), Fate::NotDone),
            (answer(503, true, Value::Null), Fate::NotDone),
            (answer(503, false, Value::Null), Fate::Unknown),
            (answer(503, true, unknown), Fate::Unknown),
            (answer(500, false, Value::Null), Fate::Unknown),
            (answer(504, false, Value::Null), Fate::Unknown),
            (answer(408, false, Value::Null), Fate::Unknown),
        ];
        for (answer, fate) in cases {
            assert_eq!(answer.fate(), fate, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_request_without_an_answer_is_unknown_and_without_a_connection_not_done() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = first.read(&mut head).await.unwrap();
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            let _ = second.read(&mut head).await.unwrap();
            second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\"").await.unwrap();
            drop(second);
            let (_third, _) = listener.accept().await.unwrap();
            std::future::pending::<()>().await;
        });
        let endpoint = Endpoint::new(0, address, address);
        assert_eq!(endpoint.get(Side::Admin, "/").await.fate(), Fate::Unknown);
        assert_eq!(endpoint.get(Side::Admin, "/").await.fate(), Fate::Unknown);
        let hurried = endpoint.patient(Duration::from_millis(50));
        assert_eq!(hurried.get(Side::Admin, "/").await.fate(), Fate::Unknown);
        server.abort();
        let _ = server.await;
        assert_eq!(endpoint.get(Side::Admin, "/").await.fate(), Fate::NotDone);
    }
}
