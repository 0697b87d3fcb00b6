//! The supervisor: prepares, starts three nodes, makes a cluster of them once,
//! says when it is ready, and drains all on Ctrl-C.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use cardea_storage::Entropy;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    child::{ChildPlan, Happening, condense, supervise},
    control,
    link::Links,
    lock,
    plan::{Delays, DevNode, PORT, prepare},
};
use crate::{
    cli::{
        exit::Failure,
        output::{Tone, write_out},
    },
    entropy::SystemEntropy,
    operator::{
        client::OperatorClient,
        wire::{ClusterStatus, Initialized},
    },
};

/// Where `cardea status` asks if it is not told.
const OPERATORS_DEFAULT_PORT: u16 = PORT + 1;

/// How often it is looked whether all replicas vote, ten times a second.
const VOTERS_LOOKS_MAX: usize = 200;

/// How often the first node may refuse to make a cluster, ten times a second.
const REFUSALS_MAX: u32 = 100;

/// How a development cluster is run.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// Where everything is kept.
    pub root: PathBuf,
    /// The first node's public port.
    pub port: u16,
    /// Simulated delays; with them, links can be cut.
    pub delays: Option<Delays>,
    /// Start nodes again that die.
    pub restarts: bool,
    /// Show all of the nodes' lines.
    pub verbose: bool,
    /// Show colours.
    pub colour: bool,
}

/// Runs the cluster until it is told to stop.
pub async fn run(options: DevOptions) -> anyhow::Result<()> {
    std::fs::create_dir_all(&options.root)
        .with_context(|| format!("cannot make {}", options.root.display()))?;
    let root = options.root.canonicalize()?;
    let _lock = lock::acquire(&root)?;
    let nodes = DevNode::all(&root, options.port);
    ports_are_free(nodes.iter().flat_map(DevNode::ports))?;
    let entropy: &dyn Entropy = &SystemEntropy;
    prepare(&root, &nodes, entropy.bytes(), options.delays.is_some())?;

    let stop = CancellationToken::new();
    let mut background = JoinSet::new();
    if let Some(delays) = options.delays {
        simulate_links(&root, &nodes, delays, &mut background).await?;
    }
    let (sender, mut happenings) = mpsc::channel(1024);
    let mut children = JoinSet::new();
    let program = std::env::current_exe().context("this program cannot be found")?;
    // Nodes that are new join one after the other, so that their ids are their names'.
    let all_have_run = nodes.iter().all(DevNode::has_run);
    let (admit, admitted) = watch::channel(if all_have_run { nodes.len() + 1 } else { 1 });
    for node in &nodes {
        let plan = child_plan(node, &program, options.restarts);
        // The last run's lines are kept beside.
        std::fs::rename(&plan.log, node.directory.join("log.before")).ok();
        let (sender, stop, mut admitted) = (sender.clone(), stop.clone(), admitted.clone());
        let place = if node.has_run() { 0 } else { node.index };
        children.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // Where nobody waits for the cluster any more, all start.
                _ = admitted.wait_for(|admitted| *admitted > place) => {}
            }
            supervise(plan, sender, stop).await
        });
    }
    drop((sender, admitted));
    let announced = nodes.clone();
    let (colour, delays) = (options.colour, options.delays);
    background.spawn(async move {
        if let Err(error) = make_ready(&announced, admit).await {
            say(&format!("{} {error:#}\n", Tone::Bad.paint("✗", colour)));
        } else {
            say(&banner(&announced, delays, colour));
        }
        Ok(())
    });

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            happening = happenings.recv() => match happening {
                Some(happening) => show(&happening, &options),
                None => break,
            },
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
        }
    }
    while let Some(ended) = children.join_next().await {
        ended??;
    }
    background.shutdown().await;
    std::fs::remove_file(control::socket(&root)).ok();
    Ok(())
}

/// Whoever listens on a node's port would be taken for it: another cluster would be said to
/// be ready, and asked to become one.
fn ports_are_free(ports: impl Iterator<Item = u16>) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    for port in ports {
        match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                taken.push(port.to_string());
            }
            Err(error) => anyhow::bail!("nothing can listen on port {port}: {error}"),
        }
    }
    anyhow::ensure!(
        taken.is_empty(),
        "something listens already on {}: another cluster on this machine is stopped by `cardea dev \
         stop --data` with its directory, and `cardea dev --port` takes other ports",
        taken.join(", ")
    );
    Ok(())
}

fn child_plan(node: &DevNode, program: &Path, restarts: bool) -> ChildPlan {
    let config = node.config_file().display().to_string();
    ChildPlan {
        name: node.region.to_owned(),
        program: program.to_owned(),
        arguments: vec![
            "start".to_owned(),
            "--stop-with-stdin".to_owned(),
            "--config".to_owned(),
            config,
        ],
        log: node.directory.join("log"),
        pid_file: node.directory.join("pid"),
        restarts,
        restart_after: Duration::from_millis(500),
        stop_within: Duration::from_secs(30),
    }
}

async fn simulate_links(
    root: &Path,
    nodes: &[DevNode; 3],
    delays: Delays,
    background: &mut JoinSet<std::io::Result<()>>,
) -> anyhow::Result<()> {
    let links = Links::new(|from, to| delays.between(from, to));
    for from in nodes {
        for to in nodes.iter().filter(|to| to.index != from.index) {
            let port = from.link_port(to);
            let listener = TcpListener::bind(("127.0.0.1", port))
                .await
                .with_context(|| format!("the port {port} is taken"))?;
            let target = ([127, 0, 0, 1], to.cluster).into();
            background.spawn(links.clone().stand_in(listener, (from.index, to.index), target));
        }
    }
    let socket = control::socket(root);
    // A socket file of a supervisor that died; the lock says it is gone.
    std::fs::remove_file(&socket).ok();
    let listener = UnixListener::bind(&socket).with_context(|| {
        format!(
            "cannot listen on {}: where its path is too long, name another --data",
            socket.display()
        )
    })?;
    background.spawn(control::serve(listener, links));
    Ok(())
}

/// Makes a cluster of the nodes if they are none yet, and waits until every
/// one of them is ready.
async fn make_ready(nodes: &[DevNode; 3], admit: watch::Sender<usize>) -> Result<(), Failure> {
    let client = |node: &DevNode| OperatorClient::of_this_machine(node.admin);
    let pause = || tokio::time::sleep(Duration::from_millis(100));
    let first = client(&nodes[0])?;
    let mut refused = 0;
    loop {
        let status: Result<ClusterStatus, Failure> = first.get("/cluster/status").await;
        match status {
            Ok(status) if status.cluster_id.is_some() => {
                admit.send_modify(|admitted| *admitted = (*admitted).max(status.nodes.len() + 1));
                if *admit.borrow() > nodes.len() {
                    break;
                }
            }
            Ok(_) => {
                let (nothing, patience) = (serde_json::json!({}), Duration::from_secs(30));
                let made: Result<Initialized, Failure> =
                    first.post("/cluster/init", &nothing, patience).await;
                // One whose data was taken away joins those that have theirs.
                refused += u32::from(made.is_err());
                if let (Err(Failure::Failed(error)), true) = (made, refused > REFUSALS_MAX) {
                    return Err(error.context("the cluster could not be made").into());
                }
            }
            Err(Failure::Unavailable(_)) => {}
            Err(failure) => return Err(failure),
        }
        pause().await;
    }
    for node in nodes {
        let client = client(node)?;
        while client.get::<serde_json::Value>("/health/ready").await.is_err() {
            pause().await;
        }
    }
    // From then on a node may be killed. A cluster that was taken apart is not waited for.
    for _ in 0..VOTERS_LOOKS_MAX {
        let status: Result<ClusterStatus, Failure> = first.get("/cluster/status").await;
        let votes = |status: &ClusterStatus| {
            let mut replicas = status.shards.iter().flat_map(|shard| &shard.replicas);
            replicas.all(|replica| replica.voter)
        };
        if status.is_ok_and(|status| votes(&status)) {
            break;
        }
        pause().await;
    }
    Ok(())
}

fn show(happening: &Happening, options: &DevOptions) {
    let name = |name: &str| Tone::Faint.paint(&format!("{name:>10} │"), options.colour);
    let line = match happening {
        Happening::Line(node, line) => match condense(line, options.verbose) {
            Some(line) => format!("{} {line}\n", name(node)),
            None => return,
        },
        Happening::Started(node, pid) => format!("{} started (process {pid})\n", name(node)),
        Happening::Died(node, how) => {
            let text = Tone::Bad.paint(&format!("died: {how}"), options.colour);
            format!("{} {text}\n", name(node))
        }
        Happening::Stopped(node) => format!("{} drained and stopped\n", name(node)),
    };
    say(&line);
}

/// Standard output may be closed in the background; the nodes go on.
fn say(text: &str) {
    write_out(text).ok();
}

fn banner(nodes: &[DevNode; 3], delays: Option<Delays>, colour: bool) -> String {
    let mut text = format!(
        "\n  {}\n\n",
        Tone::Good.paint("Cardea is ready: three nodes, one cluster.", colour)
    );
    for node in nodes {
        let region = Tone::Strong.paint(&format!("{:<11}", node.region), colour);
        text.push_str(&format!(
            "    {region} public http://localhost:{}   admin http://127.0.0.1:{}   Keto {}, {}, {}\n",
            node.public, node.admin, node.keto[0], node.keto[1], node.keto[2]
        ));
    }
    if let Some(delays) = delays {
        text.push_str(&format!("\n    Delays, each way: {delays}\n"));
    }
    let [first, ..] = nodes;
    let status = match first.admin {
        OPERATORS_DEFAULT_PORT => "cardea status".to_owned(),
        port => format!("cardea status --admin-url http://127.0.0.1:{port}"),
    };
    let messages = format!("http://127.0.0.1:{}/admin/courier/messages", first.admin);
    let pages = format!("http://localhost:{}", first.public);
    let wide = status.len().max(pages.len()).max(messages.len());
    for (what, about) in [
        (pages.as_str(), "sign up and in"),
        (messages.as_str(), "the mail that nobody is sent"),
        (status.as_str(), "the cluster at a glance"),
        ("Ctrl-C", "stops it; the data stays"),
    ] {
        text.push_str(&format!("\n    {what:wide$}   {about}"));
    }
    text.push_str("\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cluster_on_the_ports_is_told_and_not_taken_for_this_one() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let told = ports_are_free([port].into_iter()).unwrap_err().to_string();
        assert!(told.contains(&port.to_string()) && told.contains("cardea dev stop"), "{told}");
        assert!(told.contains("--port"), "{told}");
        drop(held);
        // Whatever else runs on the machine may take a port in the moment that it is free.
        let is_let_go = || {
            let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = held.local_addr().unwrap().port();
            drop(held);
            ports_are_free([port].into_iter()).is_ok()
        };
        assert!((0..20).any(|_| is_let_go()));
    }
}
