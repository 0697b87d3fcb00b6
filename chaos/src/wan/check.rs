//! Whether the network is what it says it is: datagrams between its places, timed
//! and counted. What harms a cluster must itself be beyond doubt.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::{net::UdpSocket, time::timeout};

use super::{Wan, namespace::Outpost, profile::Profile};

/// How long after the last datagram was sent one may still come.
const PATIENCE: Duration = Duration::from_millis(700);
/// Questions by which a distance is measured.
const QUESTIONS: u32 = 12;
/// By how much the shortest of them may be longer than the profile says, on a
/// machine that is busy.
const TOLERANCE: Duration = Duration::from_millis(5);
/// Where echoes stand.
const ECHO: u16 = 7;
/// Where datagrams are counted.
const SINK: u16 = 9;

/// A line of the check.
#[derive(Debug, Clone)]
pub struct Line {
    /// What was looked at.
    pub what: String,
    /// What was seen.
    pub seen: String,
    /// Whether it is as it should be.
    pub good: bool,
}

/// Looks at a network of one node a region.
pub async fn check(profile: Profile) -> anyhow::Result<Vec<Line>> {
    let regions: Vec<usize> = (0..profile.regions()).collect();
    let wan = Wan::build(profile, &regions, 1)?;
    let outposts: Vec<Outpost> =
        wan.nodes.iter().map(|node| node.namespace.runtime()).collect::<anyhow::Result<_>>()?;
    let mut lines = Vec::new();
    for (node, outpost) in wan.nodes.iter().zip(&outposts) {
        let address = node.address;
        on(outpost, async move {
            let socket = UdpSocket::bind((address, ECHO)).await?;
            tokio::spawn(echo(socket));
            Ok(())
        })
        .await?;
    }
    for (from, outpost) in outposts.iter().enumerate() {
        for to in from + 1..regions.len() {
            let wanted = profile.round_trip(from, to);
            let target = (wan.nodes[to].address, ECHO);
            let seen = on(outpost, round_trip(target)).await?;
            lines.push(Line {
                what: format!("round trip {} to {}, {wanted:?}", from + 1, to + 1),
                seen: seen.map_or("no answer".to_owned(), |seen| format!("{seen:.3?}")),
                good: seen.is_some_and(|seen| seen >= wanted && seen < wanted + TOLERANCE),
            });
        }
    }

    let there = wan.from_to(&[0], &[1]);
    let back = wan.from_to(&[1], &[0]);
    let flow = |from: usize, to: usize, count: u32| send(&wan, &outposts, from, to, count);
    let mut say = |what: &str, seen: String, good: bool| {
        lines.push(Line { what: what.to_owned(), seen, good });
    };

    wan.cut(&there);
    let (one, other) = (flow(0, 1, 50).await?, flow(1, 0, 50).await?);
    let met = wan.count(&there).cut;
    let seen = format!("{} of 50 there, {} of 50 back, {met} met the cut", one.len(), other.len());
    say("cut there, not back", seen, one.is_empty() && other.len() == 50 && met >= 50);

    wan.heal();
    wan.change(&there, |link| link.lost = 2000);
    let arrived = flow(0, 1, 1000).await?.len();
    say("2,000 of 10,000 lost", format!("{arrived} of 1000 arrive"), (730..870).contains(&arrived));

    wan.heal();
    wan.change(&there, |link| link.doubled = 2000);
    let arrived = flow(0, 1, 1000).await?.len();
    let good = (1130..1270).contains(&arrived);
    say("2,000 of 10,000 doubled", format!("{arrived} of 1000 arrive"), good);

    wan.heal();
    wan.change(&there, |link| {
        link.delay = link.delay.max(Duration::from_millis(5));
        link.overtaken = 1000;
    });
    let numbers = flow(0, 1, 1000).await?;
    let overtaken = numbers.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
    let seen = format!("{overtaken} of {} overtaken", numbers.len());
    say("1,000 of 10,000 come late", seen, numbers.len() == 1000 && overtaken > 20);

    wan.heal();
    wan.change(&there, |link| link.bytes_per_s = Some(1_000_000));
    let arrived = flow(0, 1, 1000).await?;
    let span = arrived.first().zip(arrived.last()).map(|(first, last)| last.1 - first.1);
    let bytes = arrived.len().saturating_sub(1) * (PAYLOAD + 42);
    let rate = bytes as f64 / span.unwrap_or_default().as_secs_f64().max(1e-9);
    say("1 MB/s", format!("{:.2} MB/s", rate / 1e6), (0.85e6..1.1e6).contains(&rate));

    wan.heal();
    wan.change(&there, |link| link.jitter = Duration::from_millis(20));
    let numbers = flow(0, 1, 300).await?;
    let in_order = numbers.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let seen = format!("{} of 300 arrive, in order: {in_order}", numbers.len());
    say("jitter of 20 ms", seen, in_order && numbers.len() == 300);

    wan.heal();
    let (one, other) = (flow(0, 1, 50).await?.len(), flow(1, 0, 50).await?.len());
    let lost = wan.count(&back).lost;
    let good = one == 50 && other == 50 && lost == 0;
    say("healed", format!("{one} of 50 there, {other} of 50 back"), good);
    Ok(lines)
}

/// Bytes of a datagram that is counted.
const PAYLOAD: usize = 1000;

async fn on<T: Send + 'static>(
    outpost: &Outpost,
    task: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    outpost.handle().context("the outpost is gone")?.spawn(task).await?
}

async fn echo(socket: UdpSocket) {
    let mut buffer = [0; 64];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        socket.send_to(&buffer[..length], from).await.ok();
    }
}

async fn round_trip(target: (std::net::Ipv4Addr, u16)) -> anyhow::Result<Option<Duration>> {
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(target).await?;
    let mut shortest: Option<Duration> = None;
    for number in 0..QUESTIONS {
        let sent = Instant::now();
        socket.send(&number.to_be_bytes()).await?;
        let mut buffer = [0; 64];
        if timeout(PATIENCE, socket.recv(&mut buffer)).await.is_ok() {
            let took = sent.elapsed();
            shortest = Some(shortest.map_or(took, |shortest| shortest.min(took)));
        }
    }
    Ok(shortest)
}

/// Sends numbered datagrams, and answers with those that arrived, as they did.
async fn send(
    wan: &Wan,
    outposts: &[Outpost],
    from: usize,
    to: usize,
    count: u32,
) -> anyhow::Result<Vec<(u32, Instant)>> {
    let target = (wan.nodes[to].address, SINK);
    let sink = on(&outposts[to], async move { Ok(UdpSocket::bind(target).await?) }).await?;
    let receiving = outposts[to].handle().context("the outpost is gone")?.spawn(async move {
        let mut arrived = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok(Ok(length)) = timeout(PATIENCE, sink.recv(&mut buffer)).await {
            let number = buffer[..length].first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            arrived.extend(number.map(|number| (number, Instant::now())));
        }
        arrived
    });
    on(&outposts[from], async move {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        for number in 0..count {
            let mut frame = [0; PAYLOAD];
            frame[..4].copy_from_slice(&number.to_be_bytes());
            socket.send_to(&frame, target).await?;
            // Ten a millisecond or so: faster than any limit here, slower than a
            // socket's buffer overflows.
            if number % 8 == 7 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    })
    .await?;
    let arrived = receiving.await?;
    ensure!(arrived.iter().all(|(number, _)| *number < count), "a datagram of somebody else");
    Ok(arrived)
}
