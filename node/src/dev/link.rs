//! Simulated links between the nodes: a TCP proxy in the supervisor for each
//! pair, that delays what passes and can be cut.
//!
//! A link is one direction between two nodes. A connection from A to B carries
//! requests on the link A→B and answers on B→A, so a one-way cut is one too. A
//! cut link holds what is sent, as a network that drops packets does; once
//! healed it delivers.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::Instant,
};

/// Chunks of at most 64 KiB that may be on their way in one direction.
const CHUNKS_MAX: usize = 256;
const CHUNK_BYTES: usize = 64 << 10;

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// How long everything takes, in milliseconds.
    pub delay_ms: u64,
    /// Whether nothing passes.
    pub cut: bool,
}

/// All links, by the nodes (0 to 2) they lead from and to.
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<BTreeMap<(usize, usize), watch::Sender<LinkState>>>);

impl Links {
    /// The six links between three nodes.
    pub fn new(delay: impl Fn(usize, usize) -> Duration) -> Self {
        let pairs = (0..3)
            .flat_map(|from| (0..3).map(move |to| (from, to)))
            .filter(|(from, to)| from != to);
        Self(Arc::new(
            pairs
                .map(|(from, to)| {
                    let delay_ms = u64::try_from(delay(from, to).as_millis()).unwrap_or(u64::MAX);
                    ((from, to), watch::Sender::new(LinkState { delay_ms, cut: false }))
                })
                .collect(),
        ))
    }

    /// Cuts or heals one direction; `false`: there is no such link.
    pub fn set_cut(&self, from: usize, to: usize, cut: bool) -> bool {
        let link = self.0.get(&(from, to));
        link.inspect(|link| link.send_modify(|state| state.cut = cut)).is_some()
    }

    /// Every link as it is.
    pub fn states(&self) -> Vec<((usize, usize), LinkState)> {
        self.0.iter().map(|(pair, link)| (*pair, *link.borrow())).collect()
    }

    fn watch(&self, from: usize, to: usize) -> Option<watch::Receiver<LinkState>> {
        self.0.get(&(from, to)).map(watch::Sender::subscribe)
    }

    /// Stands in for node `to` towards node `from`: what connects to
    /// `listener` reaches `target` over the two links. Ends with an I/O error
    /// of the listener only.
    pub async fn stand_in(
        self,
        listener: TcpListener,
        (from, to): (usize, usize),
        target: SocketAddr,
    ) -> io::Result<()> {
        loop {
            let (near, _) = listener.accept().await?;
            let (Some(there), Some(back)) = (self.watch(from, to), self.watch(to, from)) else {
                return Ok(());
            };
            tokio::spawn(async move {
                // A connection's end needs no word: both nodes notice.
                pass(near, target, there, back).await.ok();
            });
        }
    }
}

async fn pass(
    near: TcpStream,
    target: SocketAddr,
    mut there: watch::Receiver<LinkState>,
    back: watch::Receiver<LinkState>,
) -> io::Result<()> {
    near.set_nodelay(true)?;
    open(&mut there).await;
    let far = TcpStream::connect(target).await?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // One direction's end is the connection's: nodes do not half-close.
    tokio::select! {
        ended = flow(near_read, far_write, there) => ended,
        ended = flow(far_read, near_write, back) => ended,
    }
}

/// Moves bytes from `from` to `to`, each chunk when its time has come.
async fn flow(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut link: watch::Receiver<LinkState>,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let reads = link.clone();
    let reader = async {
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
        while from.read_buf(&mut buffer).await? > 0 {
            let delay = Duration::from_millis(reads.borrow().delay_ms);
            if sender.send((Instant::now() + delay, buffer.split().freeze())).await.is_err() {
                break;
            }
            buffer.reserve(CHUNK_BYTES);
        }
        drop(sender);
        io::Result::Ok(())
    };
    let writer = async {
        while let Some((due, chunk)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            open(&mut link).await;
            to.write_all(&chunk).await?;
        }
        io::Result::Ok(())
    };
    tokio::try_join!(reader, writer).map(|_| ())
}

/// Waits until the link is not cut.
async fn open(link: &mut watch::Receiver<LinkState>) {
    // The links outlive every connection; were they gone, nothing is cut.
    link.wait_for(|state| !state.cut).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        address
    }

    async fn through(links: &Links) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(links.clone().stand_in(listener, (0, 1), echo().await));
        TcpStream::connect(address).await.unwrap()
    }

    async fn round_trip(stream: &mut TcpStream) {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    }

    #[tokio::test]
    async fn both_directions_are_delayed() {
        let links = Links::new(|_, _| Duration::from_millis(30));
        let mut stream = through(&links).await;
        let started = Instant::now();
        round_trip(&mut stream).await;
        assert!(started.elapsed() >= Duration::from_millis(60), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_cut_link_holds_and_a_healed_one_delivers() {
        let links = Links::new(|_, _| Duration::ZERO);
        let mut stream = through(&links).await;
        round_trip(&mut stream).await;
        for (from, to) in [(0, 1), (1, 0)] {
            assert!(links.set_cut(from, to, true));
            stream.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            let waited =
                tokio::time::timeout(Duration::from_millis(80), stream.read_exact(&mut answer))
                    .await;
            assert!(waited.is_err(), "{from} {to}");
            links.set_cut(from, to, false);
            stream.read_exact(&mut answer).await.unwrap();
        }
        assert!(!links.set_cut(0, 0, true));
    }
}
