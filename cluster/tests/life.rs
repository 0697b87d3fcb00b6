//! The life of a cluster: nodes come, drain, go and die, while it serves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod town;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cardea_cluster::{
    ClusterNode, DIRECTORY, InitPlan, Member, NodeId, OperationError,
    directory::records::{NodeState, ReplicaRole},
    life,
    placement::Rules,
};
use cardea_storage::{
    Space, Store,
    store::{Consistency, Draft},
};
use town::{Site, Town, address_of, key, put, read};

const MINUTE: Duration = Duration::from_secs(60);

/// Waits until it holds, for at most two minutes: replicas move one step a
/// second, and the machine of a test run has other things to do.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds().await {
        assert!(started.elapsed() < 2 * MINUTE, "{what}: did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn member(node: &ClusterNode) -> Arc<Member> {
    node.member().unwrap()
}

/// Shows the log of a failing test, where RUST_LOG asks for it.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let shown = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer();
    drop(shown.try_init());
}

async fn join(town: &mut Town, number: u64) -> NodeId {
    let site = Site::in_memory(number);
    let node = site.open().await.unwrap();
    let id = node.join(&[address_of(&town.nodes[0])]).await.unwrap();
    assert!(node.joined().await.is_some());
    eventually("the newcomer is live", async || {
        let view = town.nodes[0].directory().view();
        view.nodes.get(&id).is_some_and(|record| record.state() == NodeState::Live)
    })
    .await;
    town.sites.push(site);
    town.nodes.push(node);
    id
}

/// Whether the replicas on a node are those that the directory names, as it knows it.
fn runs_what_it_should(node: &ClusterNode) -> bool {
    let member = member(node);
    let view = node.directory().view();
    let should: Vec<_> = view.replicas_on(member.node()).collect();
    let mut runs: Vec<_> =
        member.replicas().iter().map(|replica| (replica.group(), replica.id())).collect();
    runs.sort();
    should == runs
}

/// Groups with a replica on a node that is to stay, by the directory's rows.
fn replicas_on(node: &ClusterNode, id: NodeId) -> usize {
    let view = node.directory().view();
    let stays = |role| matches!(role, ReplicaRole::Voter | ReplicaRole::Learner);
    view.shards
        .values()
        .filter(|shard| shard.replica_on(id).is_some_and(|replica| stays(replica.role())))
        .count()
}

/// Whether every shard has `voters` voters, all of them in their groups, and
/// nothing is under way.
fn is_settled(node: &ClusterNode, voters: usize, directory_voters: usize) -> bool {
    let view = node.directory().view();
    let status = node.status();
    view.shards.iter().all(|(group, shard)| {
        let wanted = if *group == DIRECTORY { directory_voters } else { voters };
        let leader = status.shards.iter().find(|s| s.group == group.0).and_then(|s| s.leader);
        let roles_fit = shard
            .replicas
            .iter()
            .all(|replica| *group == DIRECTORY || replica.role() == ReplicaRole::Voter);
        leader.is_some() && roles_fit && shard.voters().count() == wanted
    })
}

fn leads(node: &ClusterNode, id: NodeId) -> usize {
    node.status().shards.iter().filter(|shard| shard.leader == Some(id.0)).count()
}

/// Writes numbered rows until told to stop; every one that was acknowledged must
/// be there afterwards.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<u64>>,
}

impl Load {
    fn start(store: Arc<dyn Store>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (stop.clone(), acknowledged.clone());
        let task = tokio::spawn(async move {
            let mut done = Vec::new();
            for number in 0_u64.. {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                let row = key(Space::Home, (number * 37 % 4_096) as u16, number);
                let draft = Draft {
                    ops: vec![put(&row, "kept").into()],
                    read_time: store.clock().now(),
                    ..Draft::default()
                };
                if store.commit(draft).await.is_ok() {
                    done.push(number);
                    counted.fetch_add(1, Ordering::AcqRel);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            done
        });
        Self { stop, acknowledged, task }
    }

    /// Ends it; everything acknowledged is read through `store`.
    async fn check(self, store: &Arc<dyn Store>) {
        let before = self.acknowledged.load(Ordering::Acquire);
        eventually("writes go on", async || {
            self.acknowledged.load(Ordering::Acquire) > before + 20
        })
        .await;
        self.stop.store(true, Ordering::Release);
        let done = self.task.await.unwrap();
        assert!(done.len() > 20);
        for number in done {
            let row = key(Space::Home, (number * 37 % 4_096) as u16, number);
            // It may be told to come back, but never that there is nothing.
            let mut seen = None;
            eventually("the row is read", async || {
                seen = read(store, &row, Consistency::Strong).await.ok();
                seen.is_some()
            })
            .await;
            assert_eq!(seen.flatten().as_deref(), Some("kept"), "write {number} was lost");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fourth_and_a_fifth_node_join_under_load_and_take_their_share() {
    log();
    let mut town = Town::in_memory().await;
    let load = Load::start(town.store(1));
    let fourth = join(&mut town, 4).await;
    let fifth = join(&mut town, 5).await;
    eventually("the directory has five voters and the newcomers have replicas", async || {
        is_settled(&town.nodes[0], 3, 5)
            && replicas_on(&town.nodes[0], fourth) >= 3
            && replicas_on(&town.nodes[0], fifth) >= 3
    })
    .await;
    eventually("the newcomers lead something", async || {
        leads(&town.nodes[0], fourth) + leads(&town.nodes[0], fifth) > 0
    })
    .await;
    // What is where is known everywhere, and replicas that left are gone.
    eventually("nobody runs what it should not", async || {
        town.nodes.iter().all(|node| runs_what_it_should(node))
    })
    .await;
    load.check(&town.store(4)).await;
    town.stop().await;
}

/// Who read a replica while it was moved to another node waited for it until his time was up,
/// and was told that there is no leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_a_replica_that_moves_away_are_answered_by_others() {
    log();
    let mut town = Town::in_memory().await;
    let slots = |space| (0..8).map(move |at| key(space, at * 512, u64::from(at)));
    let spaces = [Space::Home, Space::Index, Space::Graph];
    let rows: Vec<_> = spaces.into_iter().flat_map(slots).collect();
    for row in &rows {
        town::write(&town.store(0), vec![], vec![put(row, "kept")]).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|at| {
            let (store, rows, stop) = (town.store(at), rows.clone(), stop.clone());
            tokio::spawn(async move {
                let mut refused = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    for row in &rows {
                        match read(&store, row, Consistency::Strong).await {
                            Ok(seen) => assert_eq!(seen.as_deref(), Some("kept")),
                            Err(error) => refused.push(error),
                        }
                    }
                }
                refused
            })
        })
        .collect();
    let fourth = join(&mut town, 4).await;
    eventually("replicas move to the newcomer", async || {
        is_settled(&town.nodes[0], 3, 3)
            && replicas_on(&town.nodes[0], fourth) >= 3
            && town.nodes.iter().all(|node| runs_what_it_should(node))
    })
    .await;
    stop.store(true, Ordering::Release);
    for reader in readers {
        let refused = reader.await.unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_drained_node_leads_nothing_until_it_is_taken_back() {
    let town = Town::in_memory().await;
    let load = Load::start(town.store(0));
    let first = NodeId(1);
    let asked = member(&town.nodes[2]);
    life::drain(&asked, first, MINUTE).await.unwrap();
    for group in member(&town.nodes[0]).host().groups() {
        assert!(!member(&town.nodes[0]).host().status(group).unwrap().leads(), "{group}");
    }
    // Nothing may happen now: leads must not come back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(leads(&town.nodes[2], first), 0);
    load.check(&town.store(2)).await;
    life::resume(&asked, first).await.unwrap();
    eventually("it may lead again", async || !member(&town.nodes[0]).is_draining()).await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_would_be_missed_is_not_let_go_unless_forced() {
    let town = Town::in_memory().await;
    let asked = member(&town.nodes[0]);
    let refused = life::decommission(&asked, NodeId(3), false, MINUTE, |_| {}).await.unwrap_err();
    let OperationError::Conflict(reason) = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("add a node first"), "{reason}");
    let state = town.nodes[0].directory().view().nodes[&NodeId(3)].state();
    assert_eq!(state, NodeState::Live);
    let unknown = life::decommission(&asked, NodeId(9), false, MINUTE, |_| {}).await;
    assert!(matches!(unknown, Err(OperationError::NotFound(_))));
    // By force, two voters are left.
    life::decommission(&asked, NodeId(3), true, MINUTE, |_| {}).await.unwrap();
    eventually("every shard is led", async || is_settled(&town.nodes[0], 2, 2)).await;
    let row = key(Space::Home, 1, 1);
    town::write(&town.store(1), vec![], vec![put(&row, "v")]).await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_is_decommissioned_under_load_and_its_replicas_move() {
    log();
    let mut town = Town::in_memory().await;
    let load = Load::start(town.store(1));
    let fourth = join(&mut town, 4).await;
    let asked = member(&town.nodes[1]);
    let mut told = Vec::new();
    let gone = life::decommission(&asked, NodeId(1), false, MINUTE, |departing| {
        told.push(departing);
    });
    gone.await.unwrap();
    assert!(!told.is_empty());
    let view = town.nodes[1].directory().view();
    assert_eq!(view.nodes[&NodeId(1)].state(), NodeState::Decommissioned);
    assert_eq!(view.replicas_on(NodeId(1)).count(), 0);
    assert!(view.tombstones.iter().any(|tombstone| tombstone.node == NodeId(1)));
    // Leaders that moved last may be news to this node.
    eventually("every shard is led", async || is_settled(&town.nodes[1], 3, 3)).await;
    assert_eq!(replicas_on(&town.nodes[1], fourth), 7);
    town.nodes.remove(0).abandon().await;
    load.check(&town.store(2)).await;
    town.stop().await;
}

/// The node that leaves hears of that last of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_asked_to_let_itself_go_says_when_it_has_left() {
    log();
    let mut town = Town::in_memory().await;
    join(&mut town, 4).await;
    let (asked, own) = (member(&town.nodes[0]), NodeId(1));
    life::decommission(&asked, own, false, MINUTE, |_| {}).await.unwrap();
    let state = || town.nodes[1].directory().view().nodes[&own].state();
    eventually("it has left", async || state() == NodeState::Decommissioned).await;
    life::decommission(&asked, own, false, MINUTE, |_| {}).await.unwrap();
    town.stop().await;
}

/// A crash between the removal of a replica's log and that of its tablet left the tablet there
/// for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_crash_left_of_a_dropped_replica_goes_with_the_next_start() {
    log();
    let mut town = Town::in_memory().await;
    let fourth = join(&mut town, 4).await;
    let dropped = || {
        let view = town.nodes[3].directory().view();
        view.tombstones.iter().find(|dropped| dropped.node != fourth).copied()
    };
    eventually("a replica moves", async || dropped().is_some()).await;
    let dropped = dropped().unwrap();
    let at = usize::try_from(dropped.node.0).unwrap() - 1;
    let (disk, tablets) = (town.sites[at].disk.clone(), PathBuf::from("/data/tablets"));
    let tablet = format!("{}-{}", dropped.group, dropped.replica);
    let is_there = || disk.list(&tablets).unwrap().contains(&tablet);
    eventually("its tablet is removed", async || !is_there()).await;
    town.nodes[at].shutdown().await.unwrap();
    disk.create_directory(&tablets.join(&tablet).join("g0000000001")).unwrap();
    town.nodes[at] = town.sites[at].open().await.unwrap();
    eventually("what is left of it is removed", async || !is_there()).await;
    town.stop().await;
}

/// A node that is silent for a few seconds is replaced.
fn be_impatient(nodes: &[Arc<ClusterNode>]) {
    for node in nodes {
        let rules = Rules { dead_after_ms: 4_000, ..Rules::default() };
        member(node).set_placement_rules(rules);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dead_node_is_replaced_by_another() {
    log();
    let mut town = Town::in_memory().await;
    let fourth = join(&mut town, 4).await;
    be_impatient(&town.nodes);
    let load = Load::start(town.store(1));
    town.nodes.remove(0).abandon().await;
    let dead = NodeId(1);
    eventually("the dead node's replicas are elsewhere", async || {
        let view = town.nodes[0].directory().view();
        is_settled(&town.nodes[0], 3, 3)
            && view.shards.values().all(|shard| shard.voters().all(|voter| voter.on() != dead))
    })
    .await;
    assert_eq!(replicas_on(&town.nodes[0], fourth), 7);
    load.check(&town.store(2)).await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_was_replaced_comes_back_and_gets_replicas_anew() {
    log();
    let mut town = Town::in_memory().await;
    let fourth = join(&mut town, 4).await;
    eventually("it has replicas", async || replicas_on(&town.nodes[0], fourth) > 1).await;
    be_impatient(&town.nodes);
    town.nodes.remove(3).abandon().await;
    eventually("its replicas are elsewhere", async || {
        let view = town.nodes[0].directory().view();
        view.replicas_on(fourth).all(|(group, _)| group == DIRECTORY)
    })
    .await;
    town.nodes.push(town.sites[3].open().await.unwrap());
    be_impatient(&town.nodes[3..]);
    eventually("it hears of what there is", async || town.nodes[3].is_confirmed()).await;
    eventually("it gets replicas, and those that it had are gone", async || {
        replicas_on(&town.nodes[3], fourth) > 1 && runs_what_it_should(&town.nodes[3])
    })
    .await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_whose_driver_died_half_way_is_finished_by_the_next() {
    log();
    let mut town = Town::in_memory().await;
    let fourth = join(&mut town, 4).await;
    // The directory is led by the node that will die.
    town.nodes[1].move_leader(DIRECTORY, NodeId(1)).await.unwrap();
    town.nodes[1].set_node_state(NodeId(2), NodeState::Decommissioning).await.unwrap();
    eventually("replicas begin to move", async || replicas_on(&town.nodes[3], fourth) > 1).await;
    town.nodes.remove(0).abandon().await;
    eventually("the node has left although the driver died", async || {
        let view = town.nodes[2].directory().view();
        view.nodes[&NodeId(2)].state() == NodeState::Decommissioned
    })
    .await;
    let view = town.nodes[2].directory().view();
    assert_eq!(view.replicas_on(NodeId(2)).count(), 0);
    let row = key(Space::Index, 1, 1);
    town::write(&town.store(2), vec![], vec![put(&row, "v")]).await;
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_stops_soon_after_it_joined_starts_again() {
    log();
    let sites: Vec<Site> = (1..=3).map(Site::in_memory).collect();
    let first = sites[0].open().await.unwrap();
    first.init(InitPlan::small("test")).await.unwrap();
    let mut nodes = vec![first];
    for site in &sites[1..] {
        let mut node = site.open().await.unwrap();
        node.join(&[address_of(&nodes[0])]).await.unwrap();
        for again in 0..4 {
            // Whatever it has begun by now: announcing itself, its replicas, its first look.
            for _ in 0..again * 50 {
                tokio::task::yield_now().await;
            }
            match again % 2 {
                0 => node.shutdown().await.unwrap(),
                _ => node.abandon().await,
            }
            node = site.open().await.unwrap();
        }
        nodes.push(node);
    }
    let town = Town { sites, nodes };
    town.settled(3).await;
    town.stop().await;
}
