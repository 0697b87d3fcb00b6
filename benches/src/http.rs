//! HTTP/1.1 over one kept connection: cheap, because the generator shares its cores
//! with the servers. No pool, no redirects; a broken connection is made anew by the
//! next request.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::load::Outcome;

/// How long an answer is awaited if nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// There was no answer.
#[derive(Debug)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

fn broken(cause: impl fmt::Display) -> Broken {
    Broken(cause.to_string())
}

/// An answer with its body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Seconds after which to try again, if it says so.
    pub retry_after: Option<u64>,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body read as JSON.
    ///
    /// # Errors
    /// If the status tells no success, or the body is something else.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        anyhow::ensure!(
            self.status.is_success(),
            "{}: {}",
            self.status,
            String::from_utf8_lossy(&self.body[..self.body.len().min(500)])
        );
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// A request that is sent again and again.
#[derive(Debug, Clone)]
pub struct Template(Request<Full<Bytes>>);

impl Template {
    /// A request without a body.
    pub fn new(method: Method, path: &str) -> anyhow::Result<Self> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse::<Uri>()?;
        Ok(Self(request))
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: &str) -> anyhow::Result<Self> {
        self.0.headers_mut().insert(name, HeaderValue::from_str(value)?);
        Ok(self)
    }

    /// With a body as it is.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.0.body_mut() = Full::new(body.into());
        self
    }

    /// With a body of JSON.
    pub fn json(mut self, body: &Value) -> Self {
        *self.0.body_mut() = Full::new(Bytes::from(body.to_string()));
        self.0
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }
}

/// A connection to one server.
pub struct Connection {
    address: SocketAddr,
    host: Option<HeaderValue>,
    sender: Option<SendRequest<Full<Bytes>>>,
    patience: Duration,
}

impl Connection {
    /// A connection that is made when it is needed.
    pub fn new(address: SocketAddr) -> Self {
        let host = HeaderValue::from_str(&address.to_string()).ok();
        Self { address, host, sender: None, patience: PATIENCE }
    }

    /// With another patience.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If there was none in time; whether the request took effect is not known then.
    pub async fn ask(&mut self, template: &Template) -> Result<Answer, Broken> {
        self.in_time(template, true).await
    }

    /// Sends a request and throws the answer's body away: what a client of a load
    /// costs least with.
    pub async fn call(&mut self, template: &Template) -> Outcome {
        match self.in_time(template, false).await {
            Ok(answer) if answer.status.is_success() => Outcome::Done,
            Ok(answer) => Outcome::Refused(answer.status.as_u16()),
            Err(_) => Outcome::Broken,
        }
    }

    async fn in_time(&mut self, template: &Template, keeps: bool) -> Result<Answer, Broken> {
        let patience = self.patience;
        let result = match tokio::time::timeout(patience, self.send(template, keeps)).await {
            Ok(result) => result,
            Err(_) => Err(Broken(format!("no answer within {patience:?}"))),
        };
        if result.is_err() {
            self.sender = None;
        }
        result
    }

    async fn send(&mut self, template: &Template, keeps: bool) -> Result<Answer, Broken> {
        let mut request = template.0.clone();
        if let Some(host) = &self.host {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        let sender = self.connected().await?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = response.into_body();
        let body = if keeps {
            body.collect().await.map_err(broken)?.to_bytes()
        } else {
            while let Some(frame) = body.frame().await {
                frame.map_err(broken)?;
            }
            Bytes::new()
        };
        Ok(Answer { status, retry_after, body })
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Broken> {
        // A connection that the server closed while idle is told by readiness.
        let mut kept = self.sender.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await.map_err(broken)?;
                stream.set_nodelay(true).map_err(broken)?;
                let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
                // It ends with the connection; its error is the request's error too.
                tokio::spawn(driver);
                sender
            }
        };
        Ok(self.sender.insert(sender))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A server for tests: answers by a function, on a port of its own.

    use std::{convert::Infallible, net::SocketAddr, sync::Arc};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::{body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    /// Serves until the test ends.
    pub(crate) async fn serve<F, A>(answer: F) -> SocketAddr
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Full<Bytes>>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = answer.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        Ok::<_, Infallible>(answer(Request::from_parts(head, body)).await)
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        address
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http::Response;

    use super::*;
    use crate::{
        load::{Exchange, open},
        schedule::Schedule,
    };

    #[tokio::test]
    async fn a_template_is_sent_as_often_as_wanted_over_one_connection() {
        let address = testing::serve(|request| async move {
            assert_eq!(request.headers()["x-who"], "me");
            assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
            let host = request.headers()[header::HOST].to_str().unwrap().to_owned();
            let body = serde_json::json!({"host": host, "path": request.uri().path()});
            Response::new(Full::new(Bytes::from(body.to_string())))
        })
        .await;
        let template =
            Template::new(Method::POST, "/a?b=c").unwrap().header("x-who", "me").unwrap();
        let template = template.json(&serde_json::json!({"x": 1}));
        let mut connection = Connection::new(address);
        for _ in 0..3 {
            let body: Value = connection.ask(&template).await.unwrap().json().unwrap();
            assert_eq!(body, serde_json::json!({"host": address.to_string(), "path": "/a"}));
            assert_eq!(connection.call(&template).await, Outcome::Done);
        }
    }

    #[tokio::test]
    async fn refusals_and_silence_are_told_apart() {
        let address = testing::serve(|request| async move {
            if request.uri().path() == "/late" {
                // Longer than any caller waits.
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            response
        })
        .await;
        let mut connection = Connection::new(address).patience(Duration::from_millis(100));
        let (refused, late) = (
            Template::new(Method::GET, "/").unwrap(),
            Template::new(Method::GET, "/late").unwrap(),
        );
        assert_eq!(connection.call(&refused).await, Outcome::Refused(429));
        assert_eq!(connection.call(&late).await, Outcome::Broken);
        let answer = connection.ask(&refused).await.unwrap();
        assert_eq!(answer.retry_after, Some(2));
        assert!(answer.json::<Value>().is_err());
        let mut nobody = Connection::new(([127, 0, 0, 1], 1).into());
        assert_eq!(nobody.call(&refused).await, Outcome::Broken);
    }

    struct Client(Connection, Template);

    impl Exchange for Client {
        async fn call(&mut self) -> Outcome {
            self.0.call(&self.1).await
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_stalls_shows_in_the_tail_of_an_open_loop() {
        let calls = Arc::new(AtomicUsize::new(0));
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        let address = testing::serve(move |_| {
            let (calls, turn) = (calls.clone(), turn.clone());
            async move {
                let _turn = turn.lock().await;
                if calls.fetch_add(1, Ordering::Relaxed) == 50 {
                    // The stall that the percentiles must show.
                    tokio::time::sleep(Duration::from_millis(600)).await;
                }
                Response::new(Full::default())
            }
        })
        .await;
        let template = Template::new(Method::GET, "/").unwrap();
        let clients = (0..4).map(|_| Client(Connection::new(address), template.clone())).collect();
        let schedule = Schedule::even(100.0, Duration::from_secs(3));
        let sample = open::run(clients, schedule, Duration::ZERO, &[]).await;
        // 60 of 300 were due during the stall: a tenth waited 300 ms and more.
        assert_eq!((sample.latency.count, sample.failed()), (300, 0));
        assert!(sample.latency.p99_ms > 500.0, "{sample:?}");
        assert!(sample.latency.p90_ms > 200.0, "{sample:?}");
    }
}
