//! gRPC over HTTP/2, by hand on the HTTP library that the other client uses too:
//! many calls share a connection, and a call costs the generator as little as it can.

use std::{fmt, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;

/// How long an answer is awaited.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection; its clones share it.
#[derive(Clone)]
pub struct Channel {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

/// A call ended with a status of gRPC.
#[derive(Debug)]
pub struct Refused(pub u16);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gRPC status {}", self.0)
    }
}

impl std::error::Error for Refused {}

impl Channel {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens, or it is no HTTP/2.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // It ends with the connection; its error is the calls' error too.
        tokio::spawn(driver);
        Ok(Self { address, sender })
    }

    /// Who is connected to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls a method.
    ///
    /// # Errors
    /// If there is no answer, or it is a refusal.
    pub async fn unary<Q: Message, A: Message + Default>(
        &mut self,
        method: &'static str,
        question: &Q,
    ) -> anyhow::Result<A> {
        self.unary_within(PATIENCE, method, question).await
    }

    /// As [`unary`](Self::unary), with another patience than ten seconds.
    ///
    /// # Errors
    /// As there.
    pub async fn unary_within<Q: Message, A: Message + Default>(
        &mut self,
        patience: Duration,
        method: &'static str,
        question: &Q,
    ) -> anyhow::Result<A> {
        let mut answer = None;
        let call = self.send(method, frame(question)?, |message| answer = Some(message));
        tokio::time::timeout(patience, call).await??;
        Ok(A::decode(answer.context("an answer without a message")?)?)
    }

    /// Calls a method that answers with a stream; each message of it is shown as it
    /// comes.
    ///
    /// # Errors
    /// If the stream does not end well within a minute.
    pub async fn stream<Q: Message>(
        &mut self,
        method: &'static str,
        question: &Q,
        shown: impl FnMut(Bytes),
    ) -> anyhow::Result<()> {
        let call = self.send(method, frame(question)?, shown);
        tokio::time::timeout(Duration::from_secs(60), call).await?
    }

    async fn send(
        &mut self,
        method: &'static str,
        frame: Bytes,
        mut shown: impl FnMut(Bytes),
    ) -> anyhow::Result<()> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.address.to_string())
            .path_and_query(method)
            .build()?;
        let mut request = Request::new(Full::new(frame));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        accepted(response.headers())?;
        let (mut body, mut received) = (response.into_body(), BytesMut::new());
        while let Some(part) = body.frame().await {
            match part?.into_data() {
                Ok(data) => {
                    received.extend_from_slice(&data);
                    while let Some(message) = next_message(&mut received) {
                        shown(message);
                    }
                }
                Err(other) => {
                    if let Ok(trailers) = other.into_trailers() {
                        accepted(&trailers)?;
                    }
                }
            }
        }
        anyhow::ensure!(received.is_empty(), "an answer is cut short");
        Ok(())
    }
}

/// The next message of what was received, once it is whole.
fn next_message(received: &mut BytesMut) -> Option<Bytes> {
    let length = received.get(1..5)?.get_u32();
    let whole = 5 + usize::try_from(length).ok()?;
    (received.len() >= whole).then(|| received.split_to(whole).freeze().slice(5..))
}

/// A message as gRPC frames it: not compressed, its length, itself.
fn frame(message: &impl Message) -> anyhow::Result<Bytes> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length)?);
    message.encode(&mut frame)?;
    Ok(frame.freeze())
}

/// An error if the headers or trailers tell one.
fn accepted(headers: &http::HeaderMap) -> Result<(), Refused> {
    let status = headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok());
    match status {
        None | Some(0) => Ok(()),
        Some(status) => Err(Refused(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Text {
        #[prost(string, tag = "1")]
        text: String,
    }

    #[test]
    fn frame_is_a_flag_a_length_and_a_message() {
        let frame = frame(&Text { text: "k".to_owned() }).unwrap();
        assert_eq!(frame[..], [0, 0, 0, 0, 3, 0x0a, 1, b'k']);
    }

    #[test]
    fn messages_are_taken_apart_wherever_they_are_cut() {
        let all = [frame(&Text { text: "one".to_owned() }), frame(&Text::default())];
        let all: Vec<u8> = all.into_iter().flat_map(|frame| frame.unwrap()).collect();
        for cut in 0..all.len() {
            let mut received = BytesMut::new();
            let mut found = Vec::new();
            for part in [&all[..cut], &all[cut..]] {
                received.extend_from_slice(part);
                while let Some(message) = next_message(&mut received) {
                    found.push(Text::decode(message).unwrap().text);
                }
            }
            assert_eq!((found, received.len()), (vec!["one".to_owned(), String::new()], 0));
        }
    }
}
