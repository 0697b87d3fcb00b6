//! A stream that may not stand still: a client that asks and never reads would otherwise
//! hold its connection, and the answer, for ever; and so would one that connects and says
//! nothing, or no more than the first letters of HTTP/2's preface. Until those tell which
//! HTTP is spoken, nothing else counts how long a request's head takes.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// What every connection of HTTP/2 begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails with `TimedOut` once a write has made no progress for a while, or if
/// it is not known in time which HTTP the client speaks.
pub struct StallGuard<S> {
    stream: S,
    longest: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    beginning: Option<Beginning>,
}

/// A client that has said nothing yet by which its HTTP is known.
struct Beginning {
    /// Bytes of the preface that were read.
    seen: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> StallGuard<S> {
    /// Guards `stream`, on which a client is to begin to speak within `begins_within`.
    pub fn new(stream: S, longest: Duration, begins_within: Duration) -> Self {
        let until = Box::pin(tokio::time::sleep(begins_within));
        Self { stream, longest, waiting: None, beginning: Some(Beginning { seen: 0, until }) }
    }

    /// Takes note of what a client begins with: once that is no part of the preface, or all
    /// of it, whoever reads counts the time.
    fn begins_with(&mut self, read: &[u8]) {
        let Some(beginning) = &mut self.beginning else { return };
        let rest = &PREFACE[beginning.seen..];
        // Nothing is the end of the stream.
        if read.is_empty() || read.len() >= rest.len() || !rest.starts_with(read) {
            self.beginning = None;
        } else {
            beginning.seen += read.len();
        }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let longest = self.longest;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + longest)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if poll.is_ready() {
            self.begins_with(&buffer.filled()[before..]);
            return poll;
        }
        let Some(beginning) = &mut self.beginning else { return Poll::Pending };
        ready!(beginning.until.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client asks for nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, poll)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_client_that_never_reads_is_let_go() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let hour = Duration::from_secs(3600);
        let mut guarded = StallGuard::new(ours, Duration::from_millis(20), hour);
        let error = guarded.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_is_let_go_only_until_it_has_begun_to_ask() {
        let (hour, short) = (Duration::from_secs(3600), Duration::from_millis(20));
        for (first, has_begun) in [
            ("GET / HTTP/1.0".as_bytes(), true),
            (&PREFACE[..], true),
            (b"".as_slice(), false),
            (b"PRI *".as_slice(), false),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut guarded = StallGuard::new(ours, hour, short);
            theirs.write_all(first).await.unwrap();
            let mut read = vec![0; first.len()];
            guarded.read_exact(&mut read).await.unwrap();
            if has_begun {
                let more = tokio::time::timeout(short * 5, guarded.read_u8()).await;
                assert!(more.is_err(), "{more:?}");
            } else {
                let error = guarded.read_u8().await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            }
        }
    }
}
