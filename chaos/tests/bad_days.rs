//! Bad days of a cluster, on real processes.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    future::Future,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use cardea_chaos::{
    check::{identifier, session::Verdict},
    cluster::{Cluster, Plan},
    dice::fresh_seed,
    endpoint::{Endpoint, Reply, Side},
    kratos::{self, Held, LoggedIn, Registered, Whoami},
    process::find_binary,
    trouble,
    workload::{
        Run,
        contest::{self, Way},
    },
};
use serde_json::json;

const PASSWORD: &str = "a hinge on which doors turn";
const ACCEPTED: Whoami = Whoami::Verdict(Verdict::Accepted);
const REFUSED: Whoami = Whoami::Verdict(Verdict::Refused);

/// Nodes with slower ticks than those that ship: debug builds of several clusters
/// share a few cores here, and none of these tests is about the gap.
fn plan(nodes: usize) -> Plan {
    Plan::new(&find_binary().unwrap(), nodes).with_slow_ticks()
}

/// Waits until it is so, and fails if it does not become so.
async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {patience:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Registers somebody new, and logs in where they are already.
async fn somebody(node: &Endpoint, email: &str) -> Held {
    eventually("a registration", Duration::from_secs(60), || async {
        match kratos::register(node, email, PASSWORD).await {
            Registered::Won(held) => Some(held),
            // The attempt before was of unknown outcome.
            Registered::Taken => match kratos::log_in(node, email, PASSWORD).await {
                LoggedIn::Held(held) => Some(held),
                other => panic!("{other:?}"),
            },
            Registered::Odd(what) => panic!("{what}"),
            Registered::NotDone | Registered::Unknown => None,
        }
    })
    .await
}

async fn write(node: &Endpoint, identity: &str, version: u64) -> Reply {
    let value = json!({"version": version});
    let patch = json!([{"op": "add", "path": "/metadata_admin", "value": value}]);
    kratos::patch(node, identity, &patch).await
}

fn version(reply: &Reply) -> Option<u64> {
    reply.done()?["metadata_admin"]["version"].as_u64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_registrations_of_one_identifier_at_once_on_two_nodes_exactly_one_wins() {
    let cluster = Cluster::start(&plan(3)).await.unwrap();
    let run = Run::new(cluster.endpoints(), fresh_seed());
    let mut contested = 0;
    for round in 0..12 {
        let (first, second) = (round % 3, (round + 1 + round / 6) % 3);
        let way = if round % 2 == 0 { Way::Registration } else { Way::Creation };
        let mut contest = contest::hold(&run, &[(first, Way::Registration), (second, way)]).await;
        contest::ask_holders(&run, &mut contest, 50).await;
        assert_eq!(identifier::check(&contest), [], "{contest:?}");
        assert_eq!(contest.holders.len(), 3);
        let has = |wanted: fn(&identifier::Claimed) -> bool| {
            contest.claims.iter().any(|claim| wanted(&claim.claimed))
        };
        let won = has(|claimed| matches!(claimed, identifier::Claimed::Won(_)));
        contested += usize::from(won && has(|claimed| *claimed == identifier::Claimed::Taken));
    }
    assert!(contested >= 8, "only {contested} of 12 contests had a winner and a loser");
    assert_eq!(run.take_ledger().odd, Vec::<String>::new());
}

fn make_certificates(directory: &Path) {
    let cardea = |arguments: &[&str]| {
        let done =
            Command::new(find_binary().unwrap()).arg("cert").args(arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let path = directory.to_str().unwrap();
    cardea(&["authority", "--out", path]);
    cardea(&[
        "node",
        "--authority",
        path,
        "--name",
        "node-1",
        "--host",
        "127.0.0.1",
        "--out",
        path,
    ]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_and_a_token_of_another_cluster_are_refused() {
    let certificates = tempfile::tempdir().unwrap();
    let mut clusters = Vec::new();
    for name in ["a", "b"] {
        let directory = certificates.path().join(name);
        make_certificates(&directory);
        let plan = Plan { certificates: Some(directory), ..plan(1) };
        clusters.push(Cluster::start(&plan).await.unwrap());
    }
    let (mut b, mut a) = (clusters.pop().unwrap(), clusters.pop().unwrap());
    let (at_a, at_b) = (a.nodes[0].endpoint.clone(), b.nodes[0].endpoint.clone());

    let held = somebody(&at_b, "ada@example.org").await;
    assert_eq!(kratos::whoami(&at_b, &held.token).await, ACCEPTED);
    assert_eq!(kratos::whoami(&at_a, &held.token).await, REFUSED);
    let cut = &held.token[..held.token.len() - 1];
    assert_eq!(kratos::whoami(&at_b, cut).await, REFUSED);
    let last = if held.token.ends_with('A') { "B" } else { "A" };
    assert_eq!(kratos::whoami(&at_b, &format!("{cut}{last}")).await, REFUSED);

    // Somebody mounts the disk of b under a node of a.
    a.stop(0).await.unwrap();
    b.stop(0).await.unwrap();
    std::fs::rename(&a.nodes[0].data, a.directory().join("own")).unwrap();
    copy(&b.nodes[0].data, &a.nodes[0].data);
    a.launch(0).unwrap();
    let ended = a.process(0).unwrap().wait(Duration::from_secs(90)).await.unwrap();
    assert!(!ended.success());
    assert!(a.log(0).contains("belongs to cluster"), "{}", a.tails(10));
    a.kill(0).ok();

    // Nothing was harmed: with its own directory each serves on.
    b.launch(0).unwrap();
    b.settle(Duration::from_secs(90)).await.unwrap();
    assert_eq!(kratos::whoami(&at_b, &held.token).await, ACCEPTED);
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_with_one_id_are_refused() {
    let plan = plan(3);
    let mut cluster = Cluster::start(&plan).await.unwrap();
    let held = somebody(&cluster.nodes[0].endpoint, "ada@example.org").await;
    // A machine is cloned: disk and all.
    cluster.stop(2).await.unwrap();
    let twin = cluster.add_node(&plan).unwrap();
    std::fs::remove_dir_all(&cluster.nodes[twin].data).unwrap();
    copy(&cluster.nodes[2].data, &cluster.nodes[twin].data);
    cluster.launch(2).unwrap();
    cluster.settle(Duration::from_secs(90)).await.unwrap();
    cluster.launch(twin).unwrap();
    let ended = cluster.process(twin).unwrap().wait(Duration::from_secs(90)).await.unwrap();
    assert!(!ended.success());
    assert!(cluster.log(twin).contains("runs already"), "{}", cluster.tails(10));
    cluster.nodes.pop();
    cluster.settle(Duration::from_secs(90)).await.unwrap();
    for node in cluster.endpoints() {
        assert_eq!(kratos::whoami(&node, &held.token).await, ACCEPTED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_an_hour_off_neither_leads_nor_stamps_and_says_so() {
    // Half an hour: were the wrong clock believed anywhere, sessions would end.
    let plan = plan(3).with("sessions", "lifespan = \"30m\"");
    let mut cluster = Cluster::start(&plan).await.unwrap();
    let nodes = cluster.endpoints();
    let held = somebody(&nodes[0], "ada@example.org").await;
    cluster.stop(2).await.unwrap();
    trouble::skew_clock(&mut cluster, 2, 3600).unwrap();
    cluster.launch(2).unwrap();
    cluster.settle(Duration::from_secs(90)).await.unwrap();

    let skewed = {
        let status = cluster.status(0).await.unwrap();
        let positions = cluster.positions(&status);
        *positions.iter().find(|(_, at)| **at == 2).unwrap().0
    };
    let offset = eventually("the offset in the status", Duration::from_secs(60), || async {
        let status = cluster.status(0).await.ok()?;
        status.nodes.iter().find(|node| node.id == skewed)?.clock_offset_ms
    })
    .await;
    assert!((3_590_000..=3_610_000).contains(&offset), "{offset} ms");

    // It is asked to lead, and others die: it does not.
    let groups: Vec<u64> =
        cluster.status(0).await.unwrap().shards.iter().map(|shard| shard.group).collect();
    for group in &groups {
        let path = format!("/cluster/shards/{group}/leader");
        nodes[0].send("POST", &path, &json!({"to_node": skewed})).await;
    }
    cluster.kill(1).unwrap();
    let until = Instant::now() + Duration::from_secs(6);
    let mut version_now = 0;
    while Instant::now() < until {
        version_now += 1;
        if write(&nodes[2], &held.identity, version_now).await.done().is_some() {
            // Who acknowledged has led at that time.
            let leaders = cluster.leaders(0).await.unwrap();
            let (group, _) = cluster.home_of(&held.identity, 0).await.unwrap();
            assert_ne!(leaders.get(&group), Some(&2), "the skewed node leads group {group}");
        }
        assert_ne!(
            kratos::whoami(&nodes[2], &held.token).await,
            REFUSED,
            "its clock ended a session"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.launch(1).unwrap();
    cluster.settle(Duration::from_secs(90)).await.unwrap();
    let leaders = cluster.leaders(0).await.unwrap();
    assert!(leaders.values().all(|leader| *leader != 2), "the skewed node leads: {leaders:?}");

    // What is written through it bears the others' time, and all accept it.
    let fresh = eventually("a login", Duration::from_secs(60), || async {
        match kratos::log_in(&nodes[2], "ada@example.org", PASSWORD).await {
            LoggedIn::Held(held) => Some(held),
            LoggedIn::NotNow => None,
            other => panic!("{other:?}"),
        }
    })
    .await;
    let now = Command::new("date").args(["-u", "+%s"]).output().unwrap();
    let now: i64 = String::from_utf8(now.stdout).unwrap().trim().parse().unwrap();
    let issued = Command::new("date").args(["-u", "+%s", "-d", &fresh.issued_at]).output().unwrap();
    let issued: i64 = String::from_utf8(issued.stdout).unwrap().trim().parse().unwrap();
    assert!((now - issued).abs() < 30, "issued at {}, now it is {now}", fresh.issued_at);
    for node in &nodes {
        for token in [&held.token, &fresh.token] {
            assert_eq!(kratos::whoami(node, token).await, ACCEPTED, "node {}", node.node + 1);
        }
    }
    let log = cluster.log(2);
    let is_loud = |line: &&str| {
        line.contains("clock") && (line.contains("\"ERROR\"") || line.contains("\"WARN\""))
    };
    assert!(log.lines().any(|line| is_loud(&line)), "it does not say so: {}", cluster.tails(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_refuses_even_the_reads_that_it_could_make_alone() {
    let mut cluster = Cluster::start(&plan(3)).await.unwrap();
    let nodes = cluster.endpoints();
    let held = somebody(&nodes[0], "ada@example.org").await;
    let path = "/admin/identities?consistency=eventual";
    assert!(nodes[2].get(Side::Admin, path).await.done().is_some());
    cluster.kill(0).unwrap();
    cluster.kill(1).unwrap();
    let refusal = eventually("a refusal", Duration::from_secs(60), || async {
        let reply = nodes[2].get(Side::Admin, path).await;
        reply.done().is_none().then_some(reply)
    })
    .await;
    let Reply::Answered(answer) = &refusal else { panic!("{refusal:?}") };
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.retry_after, "{answer:?}");
    let reason = answer.body["error"]["reason"].as_str().unwrap();
    assert!(reason.contains("quorum of the directory"), "{reason}");
    assert_eq!(kratos::whoami(&nodes[2], &held.token).await, Whoami::NotNow);
    // Operators are answered nevertheless.
    assert!(cluster.status(2).await.is_ok());
    cluster.launch(0).unwrap();
    cluster.launch(1).unwrap();
    cluster.settle(Duration::from_secs(90)).await.unwrap();
    assert_eq!(kratos::whoami(&nodes[2], &held.token).await, ACCEPTED);
}

/// When whoever asks there takes a node to hang. How long it really takes, which a busy
/// machine changes, the row `cut-off` measures against what `docs/operating.md` says.
const HANGS_AFTER: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_a_node_that_is_cut_off_is_refused_within_a_bound() {
    let mut cluster = Cluster::start(&plan(3)).await.unwrap();
    let node = cluster.endpoints()[2].patient(HANGS_AFTER);
    let held = somebody(&node, "ada@example.org").await;
    // Connections stay open and nothing answers: as beyond a cut.
    for other in [0, 1] {
        cluster.process(other).unwrap().pause().unwrap();
    }
    for round in 0..2_u64 {
        let (email, none) = (format!("new-{round}@example.org"), json!({}));
        let (writing, creating, reading) = tokio::join!(
            write(&node, &held.identity, round),
            kratos::create_identity(&node, &email, &none),
            kratos::read_identity(&node, &held.identity),
        );
        for reply in [writing, creating, reading] {
            let Reply::Answered(answer) = &reply else { panic!("{reply:?}") };
            assert_eq!(answer.status, 503, "{answer:?}");
            let is_unknown = answer.body["error"]["id"] == "outcome_unknown";
            assert_eq!(answer.retry_after, !is_unknown, "{answer:?}");
            let told = answer.body["error"]["id"] == "cluster_unavailable" || is_unknown;
            assert!(told, "{answer:?}");
        }
        assert_eq!(kratos::whoami(&node, &held.token).await, Whoami::NotNow);
    }
    for other in [0, 1] {
        cluster.process(other).unwrap().resume().unwrap();
    }
    cluster.settle(Duration::from_secs(90)).await.unwrap();
    assert_eq!(kratos::whoami(&node, &held.token).await, ACCEPTED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_with_a_new_key_is_accepted_everywhere_at_once() {
    let cluster = Cluster::start(&plan(3)).await.unwrap();
    let nodes = cluster.endpoints();
    let identity = somebody(&nodes[0], "ada@example.org").await.identity;
    let rotating = {
        let node = nodes[1].clone();
        tokio::spawn(async move {
            for purpose in ["token", "seal", "index", "token"] {
                let path = format!("/cluster/keys/{purpose}/rotate");
                let patient = node.patient(Duration::from_secs(30));
                let reply = patient.send("POST", &path, &json!({})).await;
                assert!(reply.done().is_some(), "{reply:?}");
            }
        })
    };
    // One whole round of logins at every node, each shown to every node, comes after all.
    let mut accepted = 0;
    while accepted < nodes.len() * nodes.len() {
        accepted = 0;
        let is_last = rotating.is_finished();
        for (maker, node) in nodes.iter().enumerate() {
            let fresh = match kratos::log_in(node, "ada@example.org", PASSWORD).await {
                LoggedIn::Held(fresh) => fresh,
                LoggedIn::NotNow => continue,
                other => panic!("at node {}: {other:?}", maker + 1),
            };
            assert_eq!(fresh.identity, identity);
            for other in &nodes {
                let seen = kratos::whoami(other, &fresh.token).await;
                let at = (maker + 1, other.node + 1);
                assert!(
                    matches!(seen, ACCEPTED | Whoami::NotNow),
                    "made, shown at {at:?}: {seen:?}"
                );
                accepted += usize::from(is_last && seen == ACCEPTED);
            }
        }
    }
    rotating.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_refuse_writes_and_go_on_reading_until_there_is_room() {
    let plan = plan(3).with("disk", "reserve = \"64MiB\"");
    let mut cluster = Cluster::prepare(&plan).unwrap();
    for index in 0..3 {
        trouble::give_small_disk(&mut cluster, index, 256);
    }
    cluster.begin().await.unwrap();
    let nodes = cluster.endpoints();
    let held = somebody(&nodes[0], "ada@example.org").await;
    assert!(write(&nodes[0], &held.identity, 1).await.done().is_some());

    for index in 0..3 {
        trouble::fill_disk(&mut cluster, index, 24 << 20).unwrap();
    }
    let mut written = 1;
    let refusal = eventually("a refusal", Duration::from_secs(60), || {
        written += 1;
        let (node, identity, version) = (nodes[1].clone(), held.identity.clone(), written);
        async move {
            let reply = write(&node, &identity, version).await;
            reply.done().is_none().then_some(reply)
        }
    })
    .await;
    // A refusal that says when to come back: it was not done.
    let Reply::Answered(answer) = &refusal else { panic!("{refusal:?}") };
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.retry_after, "{answer:?}");
    let registered = kratos::register(&nodes[2], "bob@example.org", PASSWORD).await;
    assert_eq!(registered, Registered::NotDone);
    for node in &nodes {
        assert_eq!(kratos::whoami(node, &held.token).await, ACCEPTED, "node {}", node.node + 1);
        let read = kratos::read_identity(node, &held.identity).await;
        assert_eq!(version(&read), Some(written - 1), "node {}: {read:?}", node.node + 1);
    }
    for index in 0..3 {
        // Each looks for itself, now and then.
        let what = format!("a word of node {} about its disk", index + 1);
        eventually(&what, Duration::from_secs(60), || {
            let told = cluster.log(index).contains("disk is full");
            async move { told.then_some(()) }
        })
        .await;
    }
    cluster.expect_alive().unwrap();

    // Room again: nothing has to be restarted.
    for index in 0..3 {
        trouble::free_disk(&mut cluster, index).unwrap();
    }
    eventually("a write", Duration::from_secs(60), || async {
        write(&nodes[1], &held.identity, 100).await.done().map(|_| ())
    })
    .await;
    somebody(&nodes[2], "bob@example.org").await;
    for node in &nodes {
        assert_eq!(version(&kratos::read_identity(node, &held.identity).await), Some(100));
        assert_eq!(node.get(Side::Admin, "/health/ready").await.status(), 200);
    }
    cluster.expect_alive().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_is_replaced_and_serves_no_stale_session_when_it_wakes() {
    let mut cluster = Cluster::start(&plan(3)).await.unwrap();
    let nodes = cluster.endpoints();
    for round in 0..3 {
        let held = somebody(&nodes[round], &format!("ada{round}@example.org")).await;
        let (group, leader) = cluster.home_of(&held.identity, 0).await.unwrap();
        let awake: Vec<&Endpoint> = nodes.iter().filter(|node| node.node != leader).collect();
        assert_eq!(kratos::whoami(&nodes[leader], &held.token).await, ACCEPTED);
        cluster.process(leader).unwrap().pause().unwrap();
        let paused = Instant::now();
        eventually("a write without the paused leader", Duration::from_secs(60), || async {
            write(&awake[0].patient(Duration::from_secs(2)), &held.identity, 1)
                .await
                .done()
                .map(|_| ())
        })
        .await;
        println!(
            "round {round}: written without the leader of {group} after {:?}",
            paused.elapsed()
        );
        let new_leader = cluster.home_of(&held.identity, awake[0].node).await.unwrap().1;
        assert_ne!(new_leader, leader);
        eventually("the revocation", Duration::from_secs(60), || async {
            let reply = kratos::disable_session(awake[1], &held.session).await;
            // 404: an attempt of unknown outcome had done it.
            (reply.done().is_some() || reply.status() == 404).then_some(())
        })
        .await;
        // These wait in the sockets of the sleeper, and are the first that it meets.
        // All of them began after the revocation was acknowledged.
        let sleeper = nodes[leader].clone();
        let asked: Vec<_> = (0..16)
            .map(|_| {
                let (sleeper, token) = (sleeper.clone(), held.token.clone());
                tokio::spawn(async move { kratos::whoami(&sleeper, &token).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(asked.iter().all(|question| !question.is_finished()), "it is not paused");
        cluster.process(leader).unwrap().resume().unwrap();
        for question in asked {
            assert_ne!(question.await.unwrap(), ACCEPTED, "a stale session was accepted");
        }
        eventually("a refusal", Duration::from_secs(60), || async {
            match kratos::whoami(&sleeper, &held.token).await {
                REFUSED => Some(()),
                Whoami::NotNow => None,
                other => panic!("{other:?}"),
            }
        })
        .await;
        cluster.settle(Duration::from_secs(90)).await.unwrap();
    }
}
