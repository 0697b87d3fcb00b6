//! Connections to other nodes: a few HTTP/2 channels per node, each for a
//! purpose, shared by all groups, so that a snapshot or a large batch never
//! stands in front of a heartbeat.
//!
//! A channel connects when it is first used, or [warmed](Channels::warm), and again
//! whenever it has to, at the address that [`Peers`] gives at that moment. After failures it refuses
//! to connect for a while that doubles up to a bound, so that a dead node costs
//! little; a user of the channel sees such a refusal as unreachable.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{future::join_all, stream};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::{
    client::raft_client,
    connection::Connection,
    network::{self, Network, dial_tcp},
};
use crate::{ids::NodeId, peers::Peers, tls::ClientTls};

/// What a channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Streams of entries.
    Replication,
    /// Heartbeats, votes, read indexes: small, and never to wait behind others.
    Liveness,
    /// Snapshots.
    Snapshots,
    /// What the cluster layer says to its like on other nodes.
    Cluster,
}

/// Who leads needs these at once.
const KEPT_WARM: [Purpose; 2] = [Purpose::Replication, Purpose::Liveness];
/// A line on which somebody answered that lately is not warmed.
const WARM_FOR: Duration = Duration::from_secs(3);

/// Bounds of connecting and staying connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Milliseconds for TCP and TLS together.
    pub connect_ms_max: u64,
    /// Milliseconds without connecting after the first failure.
    pub backoff_ms_min: u64,
    /// Milliseconds that this grows to, doubling.
    pub backoff_ms_max: u64,
    /// Milliseconds between the pings of a connection.
    pub ping_interval_ms: u64,
    /// Milliseconds for the answer to a ping; the connection is dropped then.
    pub ping_ms_max: u64,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            connect_ms_max: 1_000,
            backoff_ms_min: 20,
            backoff_ms_max: 500,
            ping_interval_ms: 2_000,
            ping_ms_max: 2_000,
        }
    }
}

/// The channels of this node.
pub struct Channels {
    peers: Arc<dyn Peers>,
    tls: ClientTls,
    settings: ChannelSettings,
    network: Network,
    lines: Mutex<HashMap<(NodeId, Purpose), Arc<Line>>>,
    round_trips: Mutex<HashMap<NodeId, RoundTrip>>,
    started: Instant,
}

impl Channels {
    /// Knows how to connect, and connects to nobody yet.
    pub fn new(peers: Arc<dyn Peers>, tls: ClientTls, settings: ChannelSettings) -> Arc<Self> {
        Self::over(Network::Tcp, peers, tls, settings)
    }

    /// As [`new`](Self::new), over a given network. Only TCP has TLS.
    pub fn over(
        network: Network,
        peers: Arc<dyn Peers>,
        tls: ClientTls,
        settings: ChannelSettings,
    ) -> Arc<Self> {
        Arc::new(Self {
            peers,
            tls,
            settings,
            network,
            lines: Mutex::default(),
            round_trips: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// The channel to `node` for a purpose. Cheap; ask again for each call, as
    /// a channel that fell silent is replaced.
    pub fn channel(&self, node: NodeId, purpose: Purpose) -> Channel {
        self.line(node, purpose).channel.clone()
    }

    /// Connects anew, at the current address, for all later calls to `node`.
    pub fn forget(&self, node: NodeId) {
        self.lines.lock().retain(|(of, _), _| *of != node);
    }

    /// Sees that the lines to `node` are connected by which a leader reaches its
    /// followers. Followers do not use them; who is elected would have to make its
    /// connections first, which takes three round trips before an entry is acknowledged
    /// where one would do. Returns when `node` has answered on each, or has not in time.
    pub async fn warm(&self, node: NodeId) {
        join_all(KEPT_WARM.map(|purpose| self.warm_line(node, purpose))).await;
    }

    async fn warm_line(&self, node: NodeId, purpose: Purpose) {
        let line = self.line(node, purpose);
        let was_answered = line.answered.load(Ordering::Relaxed);
        if was_answered && self.silence(&line) < WARM_FOR {
            return;
        }
        let limit = Duration::from_millis(self.settings.connect_ms_max);
        // A stream of nothing: whoever serves it answers, and does nothing.
        match timeout(limit, raft_client(&line).append(stream::empty())).await {
            Ok(Ok(_)) => self.heard(&line),
            Ok(Err(status)) => tracing::debug!(%node, ?purpose, %status, "a line stays cold"),
            Err(_) if was_answered => self.unheard(node, purpose, &line, limit),
            // It still tries to connect.
            Err(_) => {}
        }
    }

    /// The smoothed round-trip time to `node` of the heartbeats; `None` until
    /// one was answered.
    pub fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.round_trips.lock().get(&node).map(|trip| Duration::from_nanos(trip.smoothed_ns))
    }

    /// Calls `node` on a connection of its own, and says whether it is refused: its
    /// machine answers, and nobody listens there. Silence is no refusal.
    pub(super) async fn refuses(&self, node: NodeId) -> bool {
        let Some(address) = self.peers.address(node) else { return false };
        let called = async {
            match &self.network {
                Network::Tcp => network::refuses(&address).await,
                Network::Streams(dialer) => dialer
                    .dial(&address)
                    .await
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused),
            }
        };
        let limit = Duration::from_millis(self.settings.connect_ms_max);
        timeout(limit, called).await.unwrap_or(false)
    }

    pub(super) fn measured(&self, node: NodeId, round_trip: Duration) {
        let sample = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.round_trips
            .lock()
            .entry(node)
            .and_modify(|trip| trip.add(sample))
            .or_insert(RoundTrip { smoothed_ns: sample });
    }

    pub(super) fn line(&self, node: NodeId, purpose: Purpose) -> Arc<Line> {
        let mut lines = self.lines.lock();
        let line = lines.entry((node, purpose)).or_insert_with(|| {
            Arc::new(Line {
                channel: self.open(node),
                heard_ns: AtomicU64::new(self.elapsed_ns()),
                answered: AtomicBool::new(false),
            })
        });
        line.clone()
    }

    /// Somebody answered on this line.
    pub(super) fn heard(&self, line: &Line) {
        line.heard_ns.store(self.elapsed_ns(), Ordering::Relaxed);
        line.answered.store(true, Ordering::Relaxed);
    }

    /// A call on this line got no answer within `deadline`. If nobody else got
    /// one either, later calls take another connection.
    pub(super) fn unheard(
        &self,
        node: NodeId,
        purpose: Purpose,
        line: &Arc<Line>,
        deadline: Duration,
    ) {
        if self.silence(line) < deadline {
            return;
        }
        let mut lines = self.lines.lock();
        if lines.get(&(node, purpose)).is_some_and(|current| Arc::ptr_eq(current, line)) {
            lines.remove(&(node, purpose));
            tracing::info!(%node, ?purpose, "drops a connection that fell silent");
        }
    }

    /// How long nobody has answered on a line, or since when there is one.
    fn silence(&self, line: &Line) -> Duration {
        let heard_ns = line.heard_ns.load(Ordering::Relaxed);
        Duration::from_nanos(self.elapsed_ns().saturating_sub(heard_ns))
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn open(&self, node: NodeId) -> Channel {
        const STREAM_WINDOW: u32 = 4 << 20;
        const CONNECTION_WINDOW: u32 = 64 << 20;
        let settings = self.settings;
        let ms = Duration::from_millis;
        // The name is never resolved: the connector asks `Peers`.
        let endpoint = Endpoint::from_static("http://node")
            .connect_timeout(ms(settings.connect_ms_max))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(ms(settings.ping_interval_ms))
            .keep_alive_timeout(ms(settings.ping_ms_max))
            .keep_alive_while_idle(true);
        let connector = Arc::new(Connector {
            node,
            peers: self.peers.clone(),
            tls: self.tls.clone(),
            network: self.network.clone(),
            settings,
            failures: Mutex::new(Failures { count: 0, last: None }),
        });
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let connector = connector.clone();
            async move { connector.connect().await.map(TokioIo::new) }
        }))
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels")
            .field("tls", &self.tls)
            .field("open", &self.lines.lock().len())
            .finish_non_exhaustive()
    }
}

/// One channel, and when somebody last answered on it.
pub(super) struct Line {
    pub(super) channel: Channel,
    /// When it was made, before.
    heard_ns: AtomicU64,
    answered: AtomicBool,
}

/// Smoothed as TCP does (RFC 6298: a gain of an eighth).
struct RoundTrip {
    smoothed_ns: u64,
}

impl RoundTrip {
    fn add(&mut self, sample_ns: u64) {
        self.smoothed_ns = self.smoothed_ns - self.smoothed_ns / 8 + sample_ns / 8;
    }
}

struct Failures {
    count: u32,
    last: Option<Instant>,
}

struct Connector {
    node: NodeId,
    peers: Arc<dyn Peers>,
    tls: ClientTls,
    network: Network,
    settings: ChannelSettings,
    failures: Mutex<Failures>,
}

impl Connector {
    async fn connect(&self) -> io::Result<Connection> {
        self.may_try()?;
        // Counted before, since a connecting future may be dropped by a timeout.
        self.failed();
        let connection = self.try_connect().await.inspect_err(|error| {
            tracing::debug!(node = %self.node, %error, "cannot connect");
        })?;
        *self.failures.lock() = Failures { count: 0, last: None };
        Ok(connection)
    }

    fn may_try(&self) -> io::Result<()> {
        let failures = self.failures.lock();
        let Some(last) = failures.last else { return Ok(()) };
        let doubled = 1u64.checked_shl(failures.count.saturating_sub(1)).unwrap_or(u64::MAX);
        let pause_ms =
            self.settings.backoff_ms_min.saturating_mul(doubled).min(self.settings.backoff_ms_max);
        if last.elapsed() < Duration::from_millis(pause_ms) {
            return Err(io::Error::other(format!(
                "node {} could not be reached {} times; waits before it tries again",
                self.node, failures.count
            )));
        }
        Ok(())
    }

    fn failed(&self) {
        let mut failures = self.failures.lock();
        failures.count = failures.count.saturating_add(1);
        failures.last = Some(Instant::now());
    }

    async fn try_connect(&self) -> io::Result<Connection> {
        let address = self.peers.address(self.node).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no address of node {}", self.node))
        })?;
        if let Network::Streams(dialer) = &self.network {
            return dialer.dial(&address).await.map(Connection::Other);
        }
        match &self.tls {
            ClientTls::Mutual(config) => {
                let tcp = dial_tcp(&address, |_| true).await?;
                let host = host_of(&address);
                let name = ServerName::try_from(host.to_owned()).map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidInput, format!("bad host {host:?}"))
                })?;
                let stream = TlsConnector::from(config.clone()).connect(name, tcp).await?;
                Ok(Connection::Tls(Box::new(stream.into())))
            }
            ClientTls::LoopbackPlain => {
                dial_tcp(&address, |to| to.ip().is_loopback()).await.map(Connection::Plain)
            }
        }
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_addresses() {
        for (address, host) in [
            ("node-1.example:7070", "node-1.example"),
            ("10.0.0.1:7070", "10.0.0.1"),
            ("[::1]:7070", "::1"),
        ] {
            assert_eq!(host_of(address), host);
        }
    }

    #[test]
    fn round_trips_are_smoothed_by_an_eighth() {
        let mut trip = RoundTrip { smoothed_ns: 8_000 };
        trip.add(16_000);
        assert_eq!(trip.smoothed_ns, 9_000);
    }
}
