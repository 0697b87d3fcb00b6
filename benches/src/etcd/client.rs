//! gRPC over HTTP/2, by hand on the HTTP library that the other client uses too:
//! many calls share a connection, as etcd's own clients do, and a call costs the
//! generator as little as it can.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;

use super::wire::{Found, Nothing, PUT, Put, RANGE, Range};
use crate::load::{Exchange, Outcome};

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
struct Refused(u16);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "etcd answered with gRPC status {}", self.0)
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

    async fn unary_within<Q: Message, A: Message + Default>(
        &mut self,
        patience: Duration,
        method: &'static str,
        question: &Q,
    ) -> anyhow::Result<A> {
        let call = self.send(method, frame(question)?);
        tokio::time::timeout(patience, call).await?
    }

    async fn send<A: Message + Default>(
        &mut self,
        method: &'static str,
        frame: Bytes,
    ) -> anyhow::Result<A> {
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
        let body = response.into_body().collect().await?;
        if let Some(trailers) = body.trailers() {
            accepted(trailers)?;
        }
        let bytes = body.to_bytes();
        let message = bytes.get(5..).context("an answer of etcd is cut short")?;
        Ok(A::decode(message)?)
    }
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

/// What a client of the load asks.
#[derive(Debug, Clone)]
pub enum Question {
    /// Put the value under the key.
    Put(Put),
    /// Read the key; it must be there.
    Range(Range),
}

/// A client of the load.
pub struct Client {
    address: SocketAddr,
    channel: Option<Channel>,
    question: Question,
    patience: Duration,
}

impl Client {
    /// A client of a member that shares a connection.
    pub fn sharing(channel: Channel, question: Question) -> Self {
        Self { address: channel.address, channel: Some(channel), question, patience: PATIENCE }
    }

    /// A client of a member with a connection of its own, made when it is needed.
    pub fn alone(address: SocketAddr, question: Question) -> Self {
        Self { address, channel: None, question, patience: PATIENCE }
    }

    /// With another patience.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        let patience = self.patience;
        let channel = match &mut self.channel {
            Some(channel) => channel,
            none => {
                let connect = Channel::connect(self.address);
                none.insert(tokio::time::timeout(patience, connect).await??)
            }
        };
        match &self.question {
            Question::Put(put) => {
                channel.unary_within::<_, Nothing>(patience, PUT, put).await?;
            }
            Question::Range(range) => {
                let found: Found = channel.unary_within(patience, RANGE, range).await?;
                anyhow::ensure!(found.count == 1, "the key is not there");
            }
        }
        Ok(())
    }
}

impl Exchange for Client {
    async fn call(&mut self) -> Outcome {
        match self.ask().await {
            Ok(()) => Outcome::Done,
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) => Outcome::Refused(refused.0),
                None => {
                    self.channel = None;
                    Outcome::Broken
                }
            },
        }
    }
}

/// The question of the `number`th client: its own key of 8 bytes, and for a put a
/// value of `bytes` bytes.
pub fn put(number: usize, bytes: usize) -> Question {
    Question::Put(Put { key: key(number), value: Bytes::from(vec![b'v'; bytes]) })
}

/// See [`put`].
pub fn range(number: usize, linearizable: bool) -> Question {
    Question::Range(Range { key: key(number), serializable: !linearizable })
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("k{number:07}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::{Etcd, program};

    #[test]
    fn a_frame_is_a_flag_a_length_and_a_message() {
        let frame = frame(&Range { key: Bytes::from_static(b"k"), serializable: false }).unwrap();
        assert_eq!(frame[..], [0, 0, 0, 0, 3, 0x0a, 1, b'k']);
        assert_eq!(key(3).len(), 8);
    }

    #[tokio::test]
    async fn what_was_put_is_read_from_every_member() {
        // Where etcd is not installed there is nothing to compare with.
        let Some(program) = program() else { return };
        let dir = tempfile::tempdir().unwrap();
        let mut etcd = Etcd::start(&program, dir.path(), None).await.unwrap();
        let addresses = etcd.addresses();
        let mut writer = Client::alone(addresses[0], put(1, 256));
        assert_eq!(writer.call().await, Outcome::Done);
        for address in addresses {
            let channel = Channel::connect(address).await.unwrap();
            let mut reader = Client::sharing(channel.clone(), range(1, true));
            assert_eq!(reader.call().await, Outcome::Done);
            let mut nothing = Client::sharing(channel, range(2, true));
            assert_eq!(nothing.call().await, Outcome::Broken);
        }
        let leader = etcd.leader().await.unwrap();
        etcd.members()[leader].server.kill().await.unwrap();
        etcd.members()[leader].server.start().unwrap();
        etcd.await_well(Duration::from_secs(30)).await.unwrap();
    }
}
