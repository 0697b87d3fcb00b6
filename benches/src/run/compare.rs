//! The same questions to etcd: same counts of clients, same routes, same window.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::cluster::{KILL_PATIENCE, KILL_WRITERS, Part, PeerTls, Question, Run};
use crate::{
    cardea::{self, files::make_certificates},
    etcd::{
        self, Etcd,
        client::{Client, put, range},
    },
    gap::{self, Gaps},
    grpc::Channel,
    report::{Kind, System, note},
};

/// Clients that share a connection: etcd is fastest with few connections, and its
/// own benchmark shares them too.
const CLIENTS_PER_CONNECTION: usize = 32;

/// Measures etcd, if it is installed.
///
/// # Errors
/// If it is installed and does not come up.
pub async fn theirs(run: &mut Run<'_>, scratch: &Path) -> anyhow::Result<()> {
    let Some(program) = etcd::program() else {
        note("etcd is not installed; `apt-get install etcd-server` puts it beside");
        run.report.terms.push("etcd was not installed.".to_owned());
        return Ok(());
    };
    let certs = scratch.join("etcd-certs");
    let tls = if run.args.peer_tls == PeerTls::Both {
        std::fs::create_dir_all(&certs)?;
        make_certificates(&cardea::program(run.args.cardea.clone())?, &certs).await?;
        Some(certs.as_path())
    } else {
        None
    };
    note(&format!("three members of {}", program.display()));
    let mut etcd = Etcd::start(&program, &scratch.join("etcd"), tls).await?;
    run.servers = etcd.processes();
    if run.args.runs(Part::Writes) {
        writes(run, &etcd).await?;
    }
    if run.args.runs(Part::Reads) {
        reads(run, &etcd).await?;
    }
    if run.args.runs(Part::Kills) {
        run.report.etcd_gaps = kills(run, &mut etcd).await?;
    }
    Ok(())
}

/// Whom clients of a route ask.
async fn route(etcd: &Etcd, route: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let (all, leader) = (etcd.addresses(), etcd.leader().await?);
    Ok(match route {
        "leader" => vec![all[leader]],
        "follower" => {
            all.into_iter().enumerate().filter(|(n, _)| *n != leader).map(|(_, a)| a).collect()
        }
        _ => all,
    })
}

/// Clients dealt over addresses, some sharing each connection.
async fn clients(
    count: usize,
    to: &[SocketAddr],
    ask: impl Fn(usize) -> etcd::client::Question,
) -> anyhow::Result<Vec<Client>> {
    let each = count.div_ceil(to.len()).div_ceil(CLIENTS_PER_CONNECTION);
    let mut channels = Vec::new();
    for number in 0..each * to.len() {
        channels.push(Channel::connect(to[number % to.len()]).await?);
    }
    let client =
        |number: usize| Client::sharing(channels[number % channels.len()].clone(), ask(number));
    Ok((0..count).map(client).collect())
}

async fn writes(run: &mut Run<'_>, etcd: &Etcd) -> anyhow::Result<()> {
    let bytes = run.args.value_bytes;
    let most = run.args.clients.iter().max().copied().unwrap_or(1);
    let mut half = 0.0;
    for name in ["spread", "leader"] {
        let to = route(etcd, name).await?;
        let question =
            Question { system: System::Etcd, kind: Kind::Write, route: name, consistency: "" };
        for count in run.args.clients.clone() {
            let exchanges = clients(count, &to, |number| put(number, bytes)).await?;
            let rate = run.closed(question, exchanges).await;
            if name == "spread" && count <= 64 {
                half = rate / 2.0;
            }
        }
    }
    let to = route(etcd, "spread").await?;
    let question =
        Question { system: System::Etcd, kind: Kind::Write, route: "spread", consistency: "" };
    let exchanges = clients(most.max(64), &to, |number| put(number, bytes)).await?;
    run.open(question, exchanges, half).await;
    Ok(())
}

async fn reads(run: &mut Run<'_>, etcd: &Etcd) -> anyhow::Result<()> {
    let most = run.args.read_clients.iter().max().copied().unwrap_or(1).max(64);
    let mut writer = Channel::connect(etcd.addresses()[0]).await?;
    for number in 0..most {
        let etcd::client::Question::Put(put) = put(number, run.args.value_bytes) else { continue };
        let _: etcd::wire::Nothing = writer.unary(etcd::wire::PUT, &put).await?;
    }
    let cases = [
        ("leader", "linearizable"),
        ("follower", "linearizable"),
        ("spread", "linearizable"),
        ("spread", "serializable"),
    ];
    for (name, consistency) in cases {
        let to = route(etcd, name).await?;
        let question =
            Question { system: System::Etcd, kind: Kind::Read, route: name, consistency };
        let ask = |number| range(number, consistency == "linearizable");
        let mut rate = 0.0;
        for count in run.args.read_clients.clone() {
            rate = run.closed(question, clients(count, &to, ask).await?).await;
        }
        if name == "follower" {
            run.open(question, clients(most, &to, ask).await?, rate / 2.0).await;
        }
    }
    Ok(())
}

async fn kills(run: &Run<'_>, etcd: &mut Etcd) -> anyhow::Result<Option<Gaps>> {
    let mut gaps = Vec::new();
    for number in 0..run.args.kills {
        let to = route(etcd, "follower").await?;
        let writers = (0..KILL_WRITERS).map(|writer| {
            let question = put(writer, run.args.value_bytes);
            Client::alone(to[writer % to.len()], question).patience(KILL_PATIENCE)
        });
        let leader = etcd.leader().await?;
        let victim = &mut etcd.members()[leader].server;
        let gap = gap::measure(writers.collect(), || victim.kill_now()).await?;
        note(&format!(
            "kill {} of {}: {} led, {:.0} ms without a write",
            number + 1,
            run.args.kills,
            victim.name,
            gap.gap_ms
        ));
        gaps.push(gap);
        victim.ended(Duration::from_secs(10)).await?;
        victim.start()?;
        etcd.await_well(Duration::from_secs(60)).await?;
    }
    Ok(Gaps::of(gaps))
}
